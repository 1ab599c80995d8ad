// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes, truncations and mutations of a real small model: each ends with a graph or with a diagnostic, in bounded time.

use super::build::*;
use onnx_protobuf::ModelProto;
use portwright_frontend::{ImportOptions, import_bytes, tensor_from_pb};
use portwright_ir::diag::Diags;

/// A model with most kinds of fields: weights, shapes, attributes, subgraphs, a function.
fn rich() -> ModelProto {
    let then = graph(vec![node("Relu", &["h"], &["t"])], vec![], vec![value("t", 1, &[])]);
    let other = graph(vec![node("Neg", &["h"], &["e"])], vec![], vec![value("e", 1, &[])]);
    let body = graph(
        vec![node("Identity", &["go"], &["on"]), node("Add", &["s", "h"], &["s1"])],
        vec![value("i", 7, &[]), value("go", 9, &[]), value("s", 1, &[])],
        vec![value("on", 9, &[]), value("s1", 1, &[])],
    );
    let mut call = node("Twice", &["y0"], &["y1"]);
    call.domain = "f".into();
    let mut m = simple(vec![
        node("MatMul", &["x", "w"], &["a"]),
        node("Shape", &["a"], &["d"]),
        with(node("Gather", &["d", "zero"], &["n"]), int("axis", 0)),
        with(node("Concat", &["n", "four"], &["to"]), int("axis", 0)),
        node("Reshape", &["a", "to"], &["r"]),
        with(node("Softmax", &["r"], &["h"]), int("axis", -1)),
        with(with(node("If", &["c"], &["y0"]), graph_attr("then_branch", then)), graph_attr("else_branch", other)),
        call,
        with(node("Loop", &["trip", "", "y1"], &["y"]), graph_attr("body", body)),
    ]);
    m.opset_import.push(opset("f", 1));
    m.functions.push(function("f", "Twice", &["p"], &["q"], vec![node("Add", &["p", "p"], &["q"])]));
    let g = m.graph.as_mut().expect("a graph");
    g.input.push(value("c", 9, &[]));
    g.input.push(value("trip", 7, &[]));
    g.initializer.push(tensor("w", 1, &[4, 4], vec![0x3f; 64]));
    g.initializer.push(ints("zero", &[0]));
    g.initializer.push(ints("four", &[4]));
    m
}

/// Imports and checks that a failure is always reported.
fn survive(bytes: &[u8]) {
    let mut diags = Diags::new();
    let r = import_bytes(bytes, None, &ImportOptions::default(), &mut diags);
    assert_eq!(r.is_err(), diags.has_errors());
}

/// SplitMix64.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn the_rich_model_is_right() {
    let i = imported(&rich());
    assert_eq!(i.graph.ty(i.graph.outputs()[0].value).to_string(), "f32[N,4]");
}

#[test]
fn random_bytes() {
    let mut r = Random(1);
    for n in 0..2000u64 {
        let len = (n % 97) as usize;
        let bytes: Vec<u8> = (0..len).map(|_| r.next() as u8).collect();
        survive(&bytes);
        let _ = tensor_from_pb(&bytes, None);
    }
}

#[test]
fn truncations() {
    let all = bytes(&rich());
    (0..all.len()).for_each(|n| survive(&all[..n]));
}

#[test]
fn mutations_of_single_bytes() {
    let all = bytes(&rich());
    let mut r = Random(2);
    for i in 0..all.len() {
        for change in [0x00, 0x01, 0x7f, 0x80, 0xff, r.next() as u8, r.next() as u8] {
            let mut b = all.clone();
            b[i] = if change == 0x01 { b[i].wrapping_add(1) } else { change };
            survive(&b);
        }
    }
}

#[test]
fn mutations_of_several_bytes() {
    let all = bytes(&rich());
    let mut r = Random(3);
    for _ in 0..4000 {
        let mut b = all.clone();
        for _ in 0..1 + r.next() % 6 {
            let i = (r.next() % b.len() as u64) as usize;
            b[i] = r.next() as u8;
        }
        survive(&b);
    }
}
