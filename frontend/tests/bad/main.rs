// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that are wrong, files that are strange but right, and bytes that are neither.

mod attributes;
mod build;
mod damaged;
mod external;
mod pitfalls;
mod random;
mod schemas;
mod strange;
mod vendor;
mod versions;

use build::*;
use portwright_frontend::{DimOverride, ImportOptions};

#[test]
fn no_model_at_all() {
    for (bytes, expected) in [
        (&b""[..], "E0101: the file is empty\n"),
        (&b"\x00\x01\x02\x03"[..], "E0101"),
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0"[..], "E0101: the file is a Git LFS pointer, not the model\n"),
    ] {
        let (_, found) = reports(bytes, None, &ImportOptions::default());
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn truncated() {
    let all = bytes(&simple(vec![node("Relu", &["x"], &["y"])]));
    let (_, found) = reports(&all[..all.len() - 3], None, &ImportOptions::default());
    assert!(found.starts_with("E0101: the bytes are not an ONNX model, or the file is truncated"), "{found}");
}

#[test]
fn versions() {
    let mut m = simple(vec![node("Relu", &["x"], &["y"])]);
    m.ir_version = 15;
    m.opset_import = vec![opset("", 29)];
    expect(
        &m,
        "E0102: IR version 15 is outside 3..=14
         help: convert the model: onnx.version_converter, or export it again
         E0102: opset 29 of ai.onnx is outside 7..=28
         help: export the model with an opset of at most 28",
    );
    m.ir_version = 8;
    m.opset_import.clear();
    expect(
        &m,
        "E0102 main/Relu_0 Relu (ai.onnx): the model imports no version of the operator set ai.onnx that this operator is from
         help: add an opset_import for the domain ai.onnx",
    );
}

#[test]
fn cycle() {
    let nodes = vec![
        node("Add", &["x", "c"], &["a"]),
        named("/layer/mul", node("Mul", &["a", "x"], &["b"])),
        node("Relu", &["b"], &["c"]),
        node("Neg", &["c"], &["y"]),
    ];
    expect(&simple(nodes), "E0105 main/Add_0: 3 nodes need each other\nnote: main/Add_0 -> main/layer/mul -> main/Relu_2");
}

#[test]
fn names_that_are_not_there_or_twice() {
    let nodes = vec![
        node("Add", &["x", "nowhere"], &["a"]),
        node("Relu", &["x"], &["a"]),
        node("Relu", &["x"], &["x"]),
        node("Mul", &["a", "lost"], &["y"]),
    ];
    expect(
        &simple(nodes),
        "E0103 main/Relu_1 Relu (ai.onnx): `a` is defined twice, by `main/Add_0` and by this node
         E0103 main/Relu_2 Relu (ai.onnx): `x` is defined twice, by an input or initializer and by this node
         E0104 main/Add_0 Add (ai.onnx): `nowhere` is used but defined nowhere
         E0104 main/Mul_3 Mul (ai.onnx): `lost` is used but defined nowhere",
    );
    let mut m = simple(vec![node("Relu", &["x"], &["z"])]);
    expect(&m, "E0104: output `y` is defined nowhere");
    m.graph.as_mut().expect("a graph").input.push(value("x", 1, &[]));
    m.graph.as_mut().expect("a graph").output.clear();
    expect(&m, "E0103: `x` is defined twice; the second time by an input");
}

#[test]
fn all_unknown_operators_are_listed() {
    let then = graph(vec![node("Foo", &["x"], &["t"])], vec![], vec![value("t", 1, &[])]);
    let other = graph(vec![named("deep", node("Bar", &["x"], &["e"]))], vec![], vec![value("e", 1, &[])]);
    let mut vendor = node("Magic", &["x"], &["m"]);
    vendor.domain = "com.example".into();
    let choice = with(with(node("If", &["c"], &["y"]), graph_attr("then_branch", then)), graph_attr("else_branch", other));
    let mut m = simple(vec![vendor, node("Baz", &["m"], &["c"]), choice]);
    m.opset_import.push(opset("com.example", 1));
    expect(
        &m,
        "E0106 main/Magic_0 Magic (com.example 1): operator `Magic` of `com.example` is not known
         help: ship it as a model-local function: a model may carry the definition of its own operators
         E0106 main/Baz_1 Baz (ai.onnx 20): operator `Baz` of `ai.onnx` is not known
         E0106 main/If_2.then/Foo_0 Foo (ai.onnx 20): operator `Foo` of `ai.onnx` is not known
         E0106 main/If_2.else/deep Bar (ai.onnx 20): operator `Bar` of `ai.onnx` is not known",
    );
}

#[test]
fn attributes_and_arity() {
    let nodes = vec![
        node("Concat", &["x", "x"], &["a"]),
        with(node("Concat", &["x", "x"], &["b"]), int("axis", 7)),
        with(node("Softmax", &["x"], &["c"]), text("axis", "last")),
        node("Relu", &["x", "x"], &["d"]),
        node("Add", &["x", ""], &["e"]),
        node("Split", &["x"], &["f", "g", "h"]),
        with(node("Softmax", &["x"], &["y"]), int("axis", -1)),
    ];
    expect(
        &simple(nodes),
        "E0107 main/Concat_0 Concat (ai.onnx 20): attribute `axis` is missing
         E0107 main/Concat_1 Concat (ai.onnx 20): axis 7 is outside of rank 2
         E0107 main/Softmax_2 Softmax (ai.onnx 20): attribute `axis` is text, expected an integer
         E0108 main/Relu_3 Relu (ai.onnx 20): 2 inputs, expected 1
         E0108 main/Add_4 Add (ai.onnx 20): input 1 is missing",
    );
}

#[test]
fn dims_out_of_range() {
    let relu = vec![node("Relu", &["x"], &["y"])];
    let run = |dims: &[D], expected: &str| expect(&model(graph(relu.clone(), vec![value("x", 1, dims)], vec![])), expected);
    run(&[D::V(1 << 62), D::V(4)], "E0201: input `x`: dim 0 is 4611686018427387904; expected 0 to 2^47, or -1 for an unknown one");
    run(&[D::V(4), D::V(-2)], "E0201: input `x`: dim 1 is -2; expected 0 to 2^47, or -1 for an unknown one");
    run(&[D::V(1 << 40), D::V(1 << 40)], "E0204: input `x`: f32[1099511627776,1099511627776] has more bytes than 64 bits can count");
}

#[test]
fn sizes_that_overflow_inside_the_graph() {
    let mut m = simple(vec![node("Expand", &["x", "s"], &["y"])]);
    m.graph.as_mut().expect("a graph").initializer.push(ints("s", &[1 << 40, 1 << 40, 1, 4]));
    let (_, found) = reports(&bytes(&m), None, &ImportOptions::default());
    assert!(found.starts_with("E0204 main/Expand_0 Expand (ai.onnx 20):") || found.starts_with("E0201 main/Expand_0"), "{found}");
}

#[test]
fn tensors_that_do_not_fit() {
    let mut m = simple(vec![node("Add", &["x", "w"], &["y"])]);
    for (t, expected) in [
        (tensor("w", 1, &[4], vec![0; 12]), "E0109: tensor `w`: 12 bytes of data; f32 [4] needs 16"),
        (tensor("w", 99, &[4], vec![0; 16]), "E0109: tensor `w`: its dtype has the number 99, which is not one of ONNX"),
        (tensor("w", 1, &[-4], vec![0; 16]), "E0201: tensor `w` has a dim of -4; constants have dims of 0 and more"),
        (
            tensor("w", 1, &[1 << 62, 1 << 62], vec![]),
            "E0204: tensor `w` of dims [4611686018427387904, 4611686018427387904] has more bytes than 64 bits can count",
        ),
    ] {
        m.graph.as_mut().expect("a graph").initializer = vec![t];
        expect(&m, expected);
    }
}

#[test]
fn recursion_in_functions() {
    let call = |name: &str| {
        let mut n = node(name, &["a"], &["b"]);
        n.domain = "f".into();
        n
    };
    let mut m = simple(vec![]);
    m.opset_import.push(opset("f", 1));
    m.functions.push(function("f", "Even", &["a"], &["b"], vec![call("Odd")]));
    m.functions.push(function("f", "Odd", &["a"], &["b"], vec![call("Even")]));
    let mut first = node("Even", &["x"], &["y"]);
    first.domain = "f".into();
    m.graph.as_mut().expect("a graph").node.push(first);
    expect(&m, "E0111 main/Even_0/Odd_0/Even_0 Even (f 1): function `Even` calls itself: Even -> Odd -> Even");
}

#[test]
fn subgraphs_nested_too_deeply() {
    let mut m = simple(vec![]);
    m.graph.as_mut().expect("a graph").input.push(value("c", 9, &[]));
    let mut inner = graph(vec![node("Relu", &["x"], &["o"])], vec![], vec![value("o", 1, &[])]);
    let nest = |g| {
        let choice = with(with(node("If", &["c"], &["o"]), graph_attr("then_branch", g)), graph_attr("else_branch", GraphShort::new()));
        graph(vec![choice], vec![], vec![value("o", 1, &[])])
    };
    for _ in 0..200 {
        inner = nest(inner);
    }
    m.graph.as_mut().expect("a graph").node = inner.node;
    expect(&m, "E0111: messages are nested too deeply; at most 48 subgraphs may lie in each other");
}

/// A branch of one node.
struct GraphShort;
impl GraphShort {
    #[allow(clippy::new_ret_no_self)]
    fn new() -> onnx_protobuf::GraphProto {
        graph(vec![node("Neg", &["x"], &["o"])], vec![], vec![value("o", 1, &[])])
    }
}

#[test]
fn overrides_of_dims() {
    let m = bytes(&simple(vec![node("Relu", &["x"], &["y"])]));
    let run = |name: &str, o| reports(&m, None, &ImportOptions { dims: vec![(name.into(), o)], ..Default::default() });
    let (i, _) = run("N", DimOverride::Value(3));
    assert_eq!(i.map(|i| i.graph.ty(i.graph.inputs()[0]).to_string()).as_deref(), Some("f32[3,4]"));
    let (i, _) = run("N", DimOverride::Range(2, 9));
    assert_eq!(i.and_then(|i| i.graph.symbol("N").map(|s| (s.lo, s.hi))), Some((2, 9)));
    let (_, found) = run("M", DimOverride::Value(3));
    assert_eq!(found, "E0205: no input has a dim named `M`\n  note: its symbols are N\n");
    assert_eq!(DimOverride::parse("N=1..64"), Some(("N".into(), DimOverride::Range(1, 64))));
    assert_eq!(DimOverride::parse("past + new=7"), Some(("past + new".into(), DimOverride::Value(7))));
    assert_eq!(DimOverride::parse("N=4..1"), None);
}
