// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that look strange and are right.

use std::time::Instant;

use super::build::*;
use onnx_protobuf::attribute_proto::AttributeType;
use portwright_ir::graph::Op;

#[test]
fn a_chain_of_60_000_nodes() {
    let name = |i: usize| if i == 0 { "x".to_string() } else { format!("v{i}") };
    let n = 60_000;
    let mut nodes: Vec<_> =
        (0..n).map(|i| node("Neg", &[&name(i)], &[if i + 1 == n { "y".into() } else { name(i + 1) }.as_str()])).collect();
    let start = Instant::now();
    assert_eq!(imported(&simple(nodes.clone())).graph.len(), n);
    // Out of order is right too.
    nodes.reverse();
    assert_eq!(imported(&simple(nodes)).graph.len(), n);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn unknown_dims_are_symbols() {
    let dims = [D::P("N"), D::V(-1), D::Unset, D::P("?"), D::P("a b+1"), D::P("N")];
    let i = imported(&model(graph(vec![node("Relu", &["x"], &["y"])], vec![value("x", 1, &dims)], vec![value("y", 1, &[])])));
    assert_eq!(i.graph.ty(i.graph.inputs()[0]).to_string(), "f32[N,unk_1,unk_2,unk_3,a_b_plus_1,N]");
}

#[test]
fn an_input_with_an_initializer_is_a_constant() {
    let mut m = simple(vec![node("Add", &["x", "w"], &["y"])]);
    let g = m.graph.as_mut().expect("a graph");
    g.input.push(value("w", 1, &[D::V(4)]));
    g.initializer.push(tensor("w", 1, &[4], vec![0; 16]));
    assert_eq!(imported(&m).graph.inputs().len(), 1);
}

#[test]
fn functions_are_inlined_with_their_paths() {
    let leaky = with(node("LeakyRelu", &["a"], &["b"]), reference("alpha", "slope", AttributeType::FLOAT));
    let mut inner = named("inner", node("Leaky", &["p"], &["q"]));
    inner.domain = "f".into();
    inner.attribute.push(reference("slope", "s", AttributeType::FLOAT));
    let mut outer = named("outer", node("Outer", &["x"], &["y"]));
    outer.domain = "f".into();
    let mut half = onnx_protobuf::AttributeProto { name: "s".into(), f: 0.5, ..Default::default() };
    half.type_ = protobuf::EnumOrUnknown::new(AttributeType::FLOAT);
    outer.attribute.push(half);
    let mut m = simple(vec![outer]);
    m.opset_import.push(opset("f", 1));
    m.functions.push(function("f", "Leaky", &["a"], &["b"], vec![leaky]));
    m.functions.push(function("f", "Outer", &["p"], &["q"], vec![inner]));
    let g = imported(&m).graph;
    let paths: Vec<&str> = g.order().into_iter().map(|n| g.node(n).origin.first()).filter(|p| !p.is_empty()).collect();
    assert!(paths.iter().all(|p| *p == "main/outer/inner/LeakyRelu_0"), "{paths:?}");
    let factor = g.order().into_iter().find_map(|n| match &g.node(n).op {
        Op::Const { value } => value.elem(0).map(|s| s.to_f64()),
        _ => None,
    });
    assert_eq!(factor, Some(0.5));
}

#[test]
fn captures_are_explicit_and_shadowing_is_lexical() {
    // `h` inside the else branch is the branch's own; `w` is captured by both.
    let then = graph(vec![node("Add", &["h", "w"], &["t"])], vec![], vec![value("t", 1, &[])]);
    let other = graph(vec![node("Neg", &["x"], &["g"]), node("Add", &["g", "w"], &["e"])], vec![], vec![value("e", 1, &[])]);
    let choice = with(with(node("If", &["c"], &["y"]), graph_attr("then_branch", then)), graph_attr("else_branch", other));
    let mut m = simple(vec![node("Relu", &["x"], &["h"]), choice]);
    let g = m.graph.as_mut().expect("a graph");
    g.input.push(value("c", 9, &[]));
    g.initializer.push(tensor("w", 1, &[4], vec![0; 16]));
    let g = imported(&m).graph;
    let n = g.order().into_iter().map(|n| g.node(n)).find(|n| matches!(n.op, Op::If {})).expect("an if");
    let names: Vec<_> = n.operands.iter().map(|&v| g.value(v).name.clone().unwrap_or_default().to_string()).collect();
    assert_eq!(names, ["c", "h", "w", "x"]);
    assert_eq!(n.regions.iter().map(|r| r.inputs().len()).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(
        n.regions[1].order().into_iter().filter_map(|m| n.regions[1].node(m).origin.paths.first().cloned()).next().as_deref(),
        Some("main/If_1.else/Neg_0")
    );
}

#[test]
fn empty_optional_inputs() {
    let mut m = simple(vec![node("Clip", &["x", "", "hi"], &["y"])]);
    m.graph.as_mut().expect("a graph").initializer.push(tensor("hi", 1, &[], 6f32.to_le_bytes().to_vec()));
    imported(&m);
}

#[test]
fn subgraphs_as_deep_as_the_limit() {
    let mut inner = graph(vec![node("Relu", &["x"], &["o"])], vec![], vec![value("o", 1, &[])]);
    for _ in 0..40 {
        let other = graph(vec![node("Neg", &["x"], &["o"])], vec![], vec![value("o", 1, &[])]);
        let choice = with(with(node("If", &["c"], &["o"]), graph_attr("then_branch", inner)), graph_attr("else_branch", other));
        inner = graph(vec![choice], vec![], vec![value("o", 1, &[])]);
    }
    let mut m = simple(vec![]);
    let g = m.graph.as_mut().expect("a graph");
    g.input.push(value("c", 9, &[]));
    g.node = inner.node;
    g.output = vec![value("o", 1, &[])];
    imported(&m);
}

#[test]
fn dtypes_and_fields_younger_than_the_schema() {
    use portwright_ir::dtype::DType;
    for (number, dtype, bytes) in [
        (23, DType::F4E2M1, 1),
        (24, DType::F8E8M0, 2),
        (25, DType::U2, 1),
        (26, DType::I2, 1),
        (27, DType::F6E2M3, 2),
        (28, DType::F6E3M2, 2),
    ] {
        let mut m = model(graph(vec![with(node("Cast", &["w"], &["y"]), int("to", 1))], vec![], vec![value("y", 1, &[])]));
        m.ir_version = 14;
        m.opset_import = vec![opset("", 28)];
        m.graph.as_mut().expect("a graph").initializer.push(tensor("w", number, &[2], vec![1; bytes]));
        // Multi-device configuration of the model (field 26): kept out of the way.
        m.special_fields.mut_unknown_fields().add_length_delimited(26, vec![10, 1, b'a']);
        let g = imported(&m).graph;
        assert_eq!(g.order().first().map(|&n| g.ty(g.result(n)).dtype), Some(dtype));
    }
}
