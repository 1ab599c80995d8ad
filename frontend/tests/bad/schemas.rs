// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nodes that the specification forbids are refused with what it allows.

use super::build::*;
use onnx_protobuf::{AttributeProto, ModelProto, NodeProto};

fn at(version: i64, n: NodeProto, inputs: &[(&str, i32)]) -> ModelProto {
    let inputs = inputs.iter().map(|(name, ty)| value(name, *ty, &[D::V(2), D::V(3)])).collect();
    let mut m = model(graph(vec![n], inputs, vec![value("y", 0, &[])]));
    m.opset_import = vec![opset("", version)];
    m
}

fn attribute(version: i64, op: &str, a: AttributeProto) -> ModelProto {
    at(version, with(node(op, &["x"], &["y"]), a), &[("x", 1)])
}

#[test]
fn attributes_that_a_version_does_not_have() {
    imported(&attribute(11, "ReduceMean", int("keepdims", 1)));
    expect(
        &attribute(18, "ReduceMean", int("axis", 1)),
        "E0107 main/ReduceMean_0 ReduceMean (ai.onnx 18): attribute `axis` is unknown to ReduceMean of version 18; it has keepdims, noop_with_empty_axes",
    );
    expect(
        &attribute(13, "Relu", int("alpha", 1)),
        "E0107 main/Relu_0 Relu (ai.onnx 13): attribute `alpha` is unknown to Relu of version 13; it has none",
    );
    // What became an input is no attribute any more.
    expect(
        &attribute(13, "Squeeze", ints_attr("axes", &[0])),
        "E0107 main/Squeeze_0 Squeeze (ai.onnx 13): attribute `axes` is unknown to Squeeze of version 13; it has none",
    );
}

#[test]
fn attributes_of_another_kind() {
    expect(
        &attribute(13, "LeakyRelu", text("alpha", "much")),
        "E0107 main/LeakyRelu_0 LeakyRelu (ai.onnx 13): attribute `alpha` is text, expected a number",
    );
    expect(&attribute(13, "Cast", text("to", "FLOAT")), "E0107 main/Cast_0 Cast (ai.onnx 13): attribute `to` is text, expected an integer");
    expect(
        &attribute(13, "Transpose", int("perm", 0)),
        "E0107 main/Transpose_0 Transpose (ai.onnx 13): transpose(f32[2,3]): perm is [0], expected a permutation of 0..2",
    );
}

#[test]
fn attributes_that_are_missing() {
    expect(&at(13, node("Cast", &["x"], &["y"]), &[("x", 1)]), "E0107 main/Cast_0 Cast (ai.onnx 13): attribute `to` is missing");
    expect(&at(13, node("Concat", &["x"], &["y"]), &[("x", 1)]), "E0107 main/Concat_0 Concat (ai.onnx 13): attribute `axis` is missing");
}

#[test]
fn dtypes_that_a_version_does_not_list() {
    let relu = |version, ty| at(version, node("Relu", &["x"], &["y"]), &[("x", ty)]);
    imported(&relu(14, 6));
    expect(&relu(13, 6), "E0203 main/Relu_0 Relu (ai.onnx 13): input 0 (`X`) is i32; version 13 takes f32, f16, f64, bf16");
    expect(
        &at(13, node("Gather", &["x", "i"], &["y"]), &[("x", 1), ("i", 1)]),
        "E0203 main/Gather_0 Gather (ai.onnx 13): input 1 (`indices`) is f32; version 13 takes i32, i64",
    );
}

#[test]
fn dtypes_that_differ_where_they_are_one() {
    expect(
        &at(13, node("Add", &["a", "b"], &["y"]), &[("a", 1), ("b", 11)]),
        "E0203 main/Add_0 Add (ai.onnx 13): input 1 (`B`) is f64 and input 0 (`A`) is f32; they have one dtype",
    );
    expect(
        &at(13, with(node("Concat", &["a", "a", "b"], &["y"]), int("axis", 0)), &[("a", 1), ("b", 7)]),
        "E0203 main/Concat_0 Concat (ai.onnx 13): input 2 (`inputs`) is i64 and input 0 (`inputs`) is f32; they have one dtype",
    );
    // A shift and what it shifts, a power and its base: the versions differ.
    imported(&at(12, node("Pow", &["a", "b"], &["y"]), &[("a", 1), ("b", 7)]));
    expect(
        &at(7, node("Pow", &["a", "b"], &["y"]), &[("a", 1), ("b", 7)]),
        "E0203 main/Pow_0 Pow (ai.onnx 7): input 1 (`Y`) is i64; version 7 takes f32, f16, f64",
    );
}
