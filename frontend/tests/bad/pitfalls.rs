// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the standard is easily read wrong: small models, run in the Graph interpreter, each against numbers worked out by hand.

use onnx_protobuf::{AttributeProto, ModelProto, NodeProto, TensorProto};
use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::{self, Options, Tensor};

use super::build::*;

const F32: i32 = 1;
const I64: i32 = 7;

fn f(name: &str, dims: &[i64], v: &[f32]) -> TensorProto {
    tensor(name, F32, dims, v.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A model of some opset over constants alone, so that every operand is known.
fn made(version: i64, nodes: Vec<NodeProto>, constants: Vec<TensorProto>, inputs: &[(&str, i32, &[i64])]) -> ModelProto {
    let fixed = |dims: &[i64]| dims.iter().map(|&d| D::V(d)).collect::<Vec<_>>();
    let inputs = inputs.iter().map(|(name, elem, dims)| value(name, *elem, &fixed(dims))).collect();
    let mut m = model(graph(nodes, inputs, vec![value("y", 0, &[])]));
    m.opset_import = vec![opset("", version)];
    m.graph.as_mut().expect("a graph").initializer = constants;
    m
}

/// The first output for an input `x` of these numbers: dtype, dims, elements.
#[track_caller]
fn run(version: i64, nodes: Vec<NodeProto>, constants: Vec<TensorProto>, dims: &[i64], x: &[f32]) -> (DType, Vec<usize>, Vec<f64>) {
    let g = imported(&made(version, nodes, constants, &[("x", F32, dims)])).graph;
    let x = Tensor::from_f32(dims.iter().map(|&d| d as usize).collect(), x);
    let out = interp::run(&g, &[x], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    (out[0].dtype, out[0].dims.clone(), out[0].to_f64())
}

/// Dims and elements of what one node of an opset makes of `x`.
#[track_caller]
fn gives(version: i64, n: NodeProto, constants: Vec<TensorProto>, dims: &[i64], x: &[f32], want: (&[usize], &[f64])) {
    let what = format!("{} of opset {version}", n.op_type);
    let (_, found, elems) = run(version, vec![n], constants, dims, x);
    assert_eq!(found, want.0, "dims of {what}");
    let same = |a: &f64, b: &f64| a == b || (a - b).abs() <= 1e-6 * b.abs().max(1.0) || (a.is_nan() && b.is_nan());
    assert!(elems.len() == want.1.len() && elems.iter().zip(want.1).all(|(a, b)| same(a, b)), "{what}: {elems:?}, expected {:?}", want.1);
}

fn floats(name: &str, v: &[f32]) -> AttributeProto {
    let mut a = int(name, 0);
    a.type_ = protobuf::EnumOrUnknown::new(onnx_protobuf::attribute_proto::AttributeType::FLOATS);
    a.floats = v.to_vec();
    a
}
fn one(op: &str) -> NodeProto {
    node(op, &["x"], &["y"])
}

#[test]
fn softmax_before_13_runs_over_all_dims_from_its_axis() {
    let x = [0.0; 8];
    // Before 13: the default axis is 1, and what lies behind it is one row.
    gives(11, one("Softmax"), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &[0.25; 8]));
    gives(13, one("Softmax"), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &[0.5; 8]));
    gives(11, with(one("Softmax"), int("axis", 0)), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &[0.125; 8]));
    gives(11, one("LogSoftmax"), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &[0.25f64.ln(); 8]));
    gives(13, one("LogSoftmax"), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &[0.5f64.ln(); 8]));
    let first = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    gives(11, one("Hardmax"), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &first));
    gives(13, one("Hardmax"), vec![], &[2, 2, 2], &x, (&[2, 2, 2], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]));
}

#[test]
fn axes_moved_from_attribute_to_input() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let axes = || ints("axes", &[1]);
    let by_attr = |op: &str| with(with(one(op), ints_attr("axes", &[1])), int("keepdims", 0));
    let by_input = |op: &str| with(node(op, &["x", "axes"], &["y"]), int("keepdims", 0));
    gives(11, by_attr("ReduceSum"), vec![], &[2, 2], &x, (&[2], &[3.0, 7.0]));
    gives(13, by_input("ReduceSum"), vec![axes()], &[2, 2], &x, (&[2], &[3.0, 7.0]));
    for op in ["ReduceMean", "ReduceMax", "ReduceL1", "ReduceLogSum"] {
        let want: &[f64] = match op {
            "ReduceMean" => &[1.5, 3.5],
            "ReduceMax" => &[2.0, 4.0],
            "ReduceL1" => &[3.0, 7.0],
            _ => &[1.0986122886681098, 1.9459101490553132],
        };
        gives(17, by_attr(op), vec![], &[2, 2], &x, (&[2], want));
        gives(18, by_input(op), vec![axes()], &[2, 2], &x, (&[2], want));
    }
    gives(12, with(one("Squeeze"), ints_attr("axes", &[-2])), vec![], &[2, 1, 2], &x, (&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    gives(13, node("Squeeze", &["x", "axes"], &["y"]), vec![axes()], &[2, 1, 2], &x, (&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    gives(12, with(one("Unsqueeze"), ints_attr("axes", &[0, -1])), vec![], &[4], &x, (&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0]));
    gives(13, node("Unsqueeze", &["x", "axes"], &["y"]), vec![axes()], &[4], &x, (&[4, 1], &[1.0, 2.0, 3.0, 4.0]));
    // No axes: all of them, unless the operator is told to do nothing then.
    gives(18, with(one("ReduceSum"), int("keepdims", 0)), vec![], &[2, 2], &x, (&[], &[10.0]));
    gives(18, with(one("ReduceSum"), int("noop_with_empty_axes", 1)), vec![], &[2, 2], &x, (&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    gives(18, with(node("ReduceSum", &["x", "axes"], &["y"]), int("keepdims", 0)), vec![ints("axes", &[])], &[2, 2], &x, (&[], &[10.0]));
}

#[test]
fn attributes_that_became_inputs() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let slice = with(with(one("Slice"), ints_attr("starts", &[1])), ints_attr("ends", &[i64::MAX]));
    gives(9, slice, vec![], &[4], &x, (&[3], &[2.0, 3.0, 4.0]));
    let back = vec![ints("s", &[-1]), ints("e", &[i64::MIN]), ints("a", &[0]), ints("d", &[-2])];
    gives(13, node("Slice", &["x", "s", "e", "a", "d"], &["y"]), back, &[4], &x, (&[2], &[4.0, 2.0]));
    gives(
        10,
        with(with(one("Pad"), ints_attr("pads", &[1, 0])), float("value", 9.0)),
        vec![],
        &[4],
        &x,
        (&[5], &[9.0, 1.0, 2.0, 3.0, 4.0]),
    );
    let pads = vec![ints("p", &[1, -1]), f("v", &[], &[9.0])];
    gives(13, node("Pad", &["x", "p", "v"], &["y"]), pads, &[4], &x, (&[4], &[9.0, 1.0, 2.0, 3.0]));
    gives(6 + 1, with(with(one("Clip"), float("min", 2.0)), float("max", 3.0)), vec![], &[4], &x, (&[4], &[2.0, 2.0, 3.0, 3.0]));
    gives(13, node("Clip", &["x", "", "hi"], &["y"]), vec![f("hi", &[], &[2.0])], &[4], &x, (&[4], &[1.0, 2.0, 2.0, 2.0]));
    let split = |n: NodeProto| NodeProto { output: vec!["a".into(), "y".into()], ..n };
    gives(11, split(with(one("Split"), ints_attr("split", &[1, 3]))), vec![], &[4], &x, (&[3], &[2.0, 3.0, 4.0]));
    gives(13, split(node("Split", &["x", "n"], &[])), vec![ints("n", &[1, 3])], &[4], &x, (&[3], &[2.0, 3.0, 4.0]));
    // 18: parts of 2, the last one short.
    gives(18, split(with(one("Split"), int("num_outputs", 2))), vec![], &[3], &x[..3], (&[1], &[3.0]));
    gives(9, with(one("TopK"), int("k", 2)), vec![], &[4], &x, (&[2], &[4.0, 3.0]));
    gives(11, with(node("TopK", &["x", "k"], &["y"]), int("largest", 0)), vec![ints("k", &[2])], &[4], &x, (&[2], &[1.0, 2.0]));
    gives(
        7,
        with(with(one("Upsample"), floats("scales", &[1.0, 2.0])), text("mode", "nearest")),
        vec![],
        &[1, 2],
        &x[..2],
        (&[1, 4], &[1.0, 1.0, 2.0, 2.0]),
    );
    gives(9, node("Upsample", &["x", "s"], &["y"]), vec![f("s", &[2], &[1.0, 2.0])], &[1, 2], &x[..2], (&[1, 4], &[1.0, 1.0, 2.0, 2.0]));
    gives(7, with(one("Dropout"), float("ratio", 0.5)), vec![], &[4], &x, (&[4], &[1.0, 2.0, 3.0, 4.0]));
    gives(13, node("Dropout", &["x", "r"], &["y"]), vec![f("r", &[], &[0.5])], &[4], &x, (&[4], &[1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn clip_whose_bounds_cross_gives_the_upper_one() {
    let bounds = || vec![f("lo", &[], &[3.0]), f("hi", &[], &[1.0])];
    gives(13, node("Clip", &["x", "lo", "hi"], &["y"]), bounds(), &[3], &[0.0, 2.0, 5.0], (&[3], &[1.0, 1.0, 1.0]));
    gives(13, node("Clip", &["x", "lo", "hi"], &["y"]), bounds(), &[1], &[f32::NAN], (&[1], &[f64::NAN]));
}

#[test]
fn dims_of_zero() {
    let none: &[f32] = &[];
    let reduce = |op: &str| with(with(one(op), ints_attr("axes", &[1])), int("keepdims", 0));
    gives(11, reduce("ReduceSum"), vec![], &[2, 0], none, (&[2], &[0.0, 0.0]));
    gives(11, reduce("ReduceProd"), vec![], &[2, 0], none, (&[2], &[1.0, 1.0]));
    gives(11, reduce("ReduceMax"), vec![], &[2, 0], none, (&[2], &[f64::NEG_INFINITY; 2]));
    gives(11, reduce("ReduceMin"), vec![], &[2, 0], none, (&[2], &[f64::INFINITY; 2]));
    gives(13, node("MatMul", &["x", "w"], &["y"]), vec![f("w", &[0, 2], &[])], &[2, 0], none, (&[2, 2], &[0.0; 4]));
    gives(
        13,
        with(node("Concat", &["x", "w"], &["y"]), int("axis", 0)),
        vec![f("w", &[1, 2], &[1.0, 2.0])],
        &[0, 2],
        none,
        (&[1, 2], &[1.0, 2.0]),
    );
    gives(13, node("Add", &["x", "w"], &["y"]), vec![f("w", &[1], &[1.0])], &[0, 2], none, (&[0, 2], &[]));
    gives(13, with(one("Transpose"), ints_attr("perm", &[1, 0])), vec![], &[0, 2], none, (&[2, 0], &[]));
    gives(13, one("Softmax"), vec![], &[2, 0], none, (&[2, 0], &[]));
    gives(13, node("Expand", &["x", "s"], &["y"]), vec![ints("s", &[3, 0, 1])], &[1, 2], &[1.0, 2.0], (&[3, 0, 2], &[]));
    gives(13, node("Gather", &["x", "i"], &["y"]), vec![tensor("i", I64, &[0], vec![])], &[2, 2], &[0.0; 4], (&[0, 2], &[]));
    gives(13, one("NonZero"), vec![], &[0], none, (&[1, 0], &[]));
}

#[test]
fn zeros_and_minus_one_of_reshape() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let same = (&[2usize, 2][..], &[1.0, 2.0, 3.0, 4.0][..]);
    let reshape = || node("Reshape", &["x", "s"], &["y"]);
    gives(13, reshape(), vec![ints("s", &[0, -1])], &[2, 2], &x, same);
    gives(14, with(reshape(), int("allowzero", 1)), vec![ints("s", &[0, 3])], &[2, 0], &[], (&[0, 3], &[]));
    gives(14, reshape(), vec![ints("s", &[0, 0, 1])], &[2, 0], &[], (&[2, 0, 1], &[]));
    // What -1 would stand for cannot be told.
    let bad = made(14, vec![with(reshape(), int("allowzero", 1))], vec![ints("s", &[0, -1])], &[("x", F32, &[2, 0])]);
    let (_, found) = reports(&bytes(&bad), None, &Default::default());
    assert!(found.starts_with("E0"), "{found}");
    gives(13, with(one("Flatten"), int("axis", 0)), vec![], &[2, 2], &x, (&[1, 4], &[1.0, 2.0, 3.0, 4.0]));
    gives(13, with(one("Flatten"), int("axis", -1)), vec![], &[2, 2], &x, same);
}

#[test]
fn a_scalar_is_no_list_of_one() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let index = |dims: &[i64]| tensor("i", I64, dims, 1i64.to_le_bytes().to_vec());
    gives(13, node("Gather", &["x", "i"], &["y"]), vec![index(&[])], &[2, 2], &x, (&[2], &[3.0, 4.0]));
    gives(13, node("Gather", &["x", "i"], &["y"]), vec![index(&[1])], &[2, 2], &x, (&[1, 2], &[3.0, 4.0]));
    let constant = |a: AttributeProto| vec![with(node("Constant", &[], &["c"]), a), node("Mul", &["c", "c"], &["y"])];
    assert_eq!(run(13, constant(int("value_int", 3)), vec![], &[1], &[0.0]), (DType::I64, vec![], vec![9.0]));
    assert_eq!(run(13, constant(ints_attr("value_ints", &[3])), vec![], &[1], &[0.0]), (DType::I64, vec![1], vec![9.0]));
    assert_eq!(run(13, constant(float("value_float", 3.0)), vec![], &[1], &[0.0]), (DType::F32, vec![], vec![9.0]));
    gives(13, with(one("ArgMax"), int("keepdims", 0)), vec![], &[4], &x, (&[], &[3.0]));
    gives(13, node("MatMul", &["x", "w"], &["y"]), vec![f("w", &[2], &[1.0, 1.0])], &[2], &x[..2], (&[], &[3.0]));
    gives(15, one("Shape"), vec![], &[], &[1.0], (&[0], &[]));
    gives(15, one("Size"), vec![], &[2, 2], &x, (&[], &[4.0]));
}

#[test]
fn rounding_and_saturation() {
    let x = [0.5, 1.5, 2.5, -0.5, -1.5, 300.0, -300.0];
    gives(13, one("Round"), vec![], &[7], &x, (&[7], &[0.0, 2.0, 2.0, 0.0, -2.0, 300.0, -300.0]));
    let scale = || vec![f("s", &[], &[1.0]), tensor("z", 3, &[], vec![0])];
    gives(13, node("QuantizeLinear", &["x", "s", "z"], &["y"]), scale(), &[7], &x, (&[7], &[0.0, 2.0, 2.0, 0.0, -2.0, 127.0, -128.0]));
    let unsigned = vec![f("s", &[], &[1.0])];
    gives(13, node("QuantizeLinear", &["x", "s"], &["y"]), unsigned, &[7], &x, (&[7], &[0.0, 2.0, 2.0, 0.0, 0.0, 255.0, 0.0]));
    // Truncation towards zero.
    let to_int = |x: &[f32], want: &[f64]| gives(13, with(one("Cast"), int("to", 6)), vec![], &[x.len() as i64], x, (&[x.len()], want));
    to_int(&[1.9, -1.9, 0.5], &[1.0, -1.0, 0.0]);
    // E4M3FN has no infinity: 448 where it saturates, NaN where it does not.
    let f8 = |saturate| {
        vec![
            with(with(node("Cast", &["x"], &["q"]), int("to", 17)), int("saturate", saturate)),
            with(node("Cast", &["q"], &["y"]), int("to", 1)),
        ]
    };
    assert_eq!(run(19, f8(1), vec![], &[2], &[1e6, -1e6]).2, [448.0, -448.0]);
    assert!(run(19, f8(0), vec![], &[2], &[1e6, -1e6]).2.iter().all(|v| v.is_nan()));
}

#[test]
fn pooling_at_the_edge() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0];
    let pool = |op: &str, more: &[(&str, i64)]| {
        let n = with(with(one(op), ints_attr("kernel_shape", &[2])), ints_attr("strides", &[2]));
        more.iter().fold(n, |n, (name, v)| with(n, int(name, *v)))
    };
    gives(11, pool("MaxPool", &[]), vec![], &[1, 1, 5], &x, (&[1, 1, 2], &[2.0, 4.0]));
    gives(11, pool("MaxPool", &[("ceil_mode", 1)]), vec![], &[1, 1, 5], &x, (&[1, 1, 3], &[2.0, 4.0, 5.0]));
    // What lies beyond the padded tensor is never counted.
    gives(19, pool("AveragePool", &[("ceil_mode", 1)]), vec![], &[1, 1, 5], &x, (&[1, 1, 3], &[1.5, 3.5, 5.0]));
    gives(19, pool("AveragePool", &[("ceil_mode", 1), ("count_include_pad", 1)]), vec![], &[1, 1, 5], &x, (&[1, 1, 3], &[1.5, 3.5, 5.0]));
    let padded =
        |include| with(with(pool("AveragePool", &[("count_include_pad", include)]), ints_attr("pads", &[1, 0])), int("ceil_mode", 0));
    gives(11, padded(0), vec![], &[1, 1, 5], &x, (&[1, 1, 3], &[1.0, 2.5, 4.5]));
    gives(11, padded(1), vec![], &[1, 1, 5], &x, (&[1, 1, 3], &[0.5, 2.5, 4.5]));
}

#[test]
fn training_outputs() {
    let stats = || vec![f("s", &[1], &[2.0]), f("b", &[1], &[1.0]), f("m", &[1], &[3.0]), f("v", &[1], &[4.0])];
    let norm = |outputs: &[&str]| node("BatchNormalization", &["x", "s", "b", "m", "v"], outputs);
    let inference = (&[2usize, 1][..], &[1.0, 3.0][..]);
    gives(9, with(norm(&["y"]), float("epsilon", 0.0)), stats(), &[2, 1], &[3.0, 5.0], inference);
    gives(14, with(norm(&["y"]), float("epsilon", 0.0)), stats(), &[2, 1], &[3.0, 5.0], inference);
    // Training: normalized by the batch's own mean 4 and variance 1; the running mean keeps nine tenths.
    let training = || with(with(norm(&["y", "rm", "rv"]), float("epsilon", 0.0)), int("training_mode", 1));
    gives(14, training(), stats(), &[2, 1], &[3.0, 5.0], (&[2, 1], &[-1.0, 3.0]));
    let running = NodeProto { output: vec!["n".into(), "y".into(), "rv".into()], ..training() };
    gives(14, running, stats(), &[2, 1], &[3.0, 5.0], (&[1], &[3.1]));
    // A mask is all true where nothing is dropped.
    let mask = NodeProto { output: vec!["n".into(), "y".into()], ..node("Dropout", &["x"], &[]) };
    assert_eq!(run(12, vec![mask.clone()], vec![], &[2], &[1.0, 2.0]), (DType::Bool, vec![2], vec![1.0, 1.0]));
    assert_eq!(run(7, vec![mask], vec![], &[2], &[1.0, 2.0]).1, [2]);
}

#[test]
fn defaults_that_are_easily_mistaken() {
    let x = [1.0, 2.0, 3.0, 4.0];
    gives(13, one("LeakyRelu"), vec![], &[1], &[-1.0], (&[1], &[-0.01]));
    gives(13, one("Elu"), vec![], &[1], &[-1.0], (&[1], &[(-1.0f64).exp() - 1.0]));
    gives(13, one("HardSigmoid"), vec![], &[1], &[1.0], (&[1], &[0.7]));
    gives(13, with(one("ArgMax"), int("select_last_index", 1)), vec![], &[1, 2], &[5.0, 5.0], (&[1, 2], &[0.0, 0.0]));
    gives(13, one("Flatten"), vec![], &[2, 1, 2], &x, (&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    gives(13, one("LpNormalization"), vec![], &[1, 2], &[3.0, 4.0], (&[1, 2], &[0.6, 0.8]));
    gives(13, node("CumSum", &["x", "a"], &["y"]), vec![tensor("a", 6, &[], vec![0; 4])], &[4], &x, (&[4], &[1.0, 3.0, 6.0, 10.0]));
    gives(13, with(node("Mod", &["x", "w"], &["y"]), int("fmod", 1)), vec![f("w", &[1], &[3.0])], &[1], &[-4.0], (&[1], &[-1.0]));
    gives(13, one("Transpose"), vec![], &[1, 2, 2], &x, (&[2, 2, 1], &[1.0, 3.0, 2.0, 4.0]));
    // Gemm: no C from 11 on, alpha and beta of 1.
    gives(
        11,
        with(node("Gemm", &["x", "w"], &["y"]), int("transB", 1)),
        vec![f("w", &[1, 2], &[1.0, 1.0])],
        &[2, 2],
        &x,
        (&[2, 1], &[3.0, 7.0]),
    );
    // Powers of another dtype from 12 on; the result has the base's.
    gives(12, node("Pow", &["x", "e"], &["y"]), vec![ints("e", &[2])], &[2], &[3.0, -2.0], (&[2], &[9.0, 4.0]));
}

#[test]
fn resize_places_and_modes_by_version() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let roi = || f("r", &[0], &[]);
    let scales = |s: &[f32]| f("s", &[s.len() as i64], s);
    let resize = |attrs: &[(&str, &str)]| attrs.iter().fold(node("Resize", &["x", "r", "s"], &["y"]), |n, (k, v)| with(n, text(k, v)));
    let to = (&[1usize, 1, 8][..], &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0][..]);
    // Opset 10 has no regions and begins at the corner.
    gives(10, node("Resize", &["x", "s"], &["y"]), vec![scales(&[1.0, 1.0, 2.0])], &[1, 1, 4], &x, to);
    let by = || vec![roi(), scales(&[1.0, 1.0, 2.0])];
    let asymmetric = [("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")];
    gives(11, resize(&asymmetric), by(), &[1, 1, 4], &x, to);
    // The default is half a pixel, and of two that are as near the lower one.
    gives(11, resize(&[]), by(), &[1, 1, 4], &x, to);
    gives(
        11,
        resize(&[("coordinate_transformation_mode", "align_corners"), ("mode", "linear")]),
        vec![roi(), scales(&[1.0, 1.0, 1.75])],
        &[1, 1, 4],
        &x,
        (&[1, 1, 7], &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]),
    );
    gives(11, resize(&[("mode", "linear")]), by(), &[1, 1, 4], &x, (&[1, 1, 8], &[1.0, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.0]));
    // A reduction by linear interpolation skips elements, with antialias each result is a mean of all that it covers, the border repeated.
    let half = || vec![roi(), scales(&[1.0, 1.0, 0.5])];
    gives(18, resize(&[("mode", "linear")]), half(), &[1, 1, 4], &x, (&[1, 1, 2], &[1.5, 3.5]));
    let smooth = with(resize(&[("mode", "linear")]), int("antialias", 1));
    gives(18, smooth, half(), &[1, 1, 4], &x, (&[1, 1, 2], &[1.625, 3.375]));
}

#[test]
fn upsample_takes_its_scales_from_either_place() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let to = (&[1usize, 1, 2, 4][..], &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0][..]);
    gives(7, with(one("Upsample"), floats("scales", &[1.0, 1.0, 1.0, 2.0])), vec![], &[1, 1, 2, 2], &x, to);
    gives(9, node("Upsample", &["x", "s"], &["y"]), vec![f("s", &[4], &[1.0, 1.0, 1.0, 2.0])], &[1, 1, 2, 2], &x, to);
    let linear = with(node("Upsample", &["x", "s"], &["y"]), text("mode", "linear"));
    gives(9, linear, vec![f("s", &[3], &[1.0, 1.0, 2.0])], &[1, 1, 4], &x, (&[1, 1, 8], &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]));
}

#[test]
fn log_softmax_and_hardmax_before_13_run_over_all_dims_from_their_axis() {
    let x = [0.0, 0.0, 0.0, 1.0];
    let log = |e: f64| -> [f64; 4] {
        let sum = 3.0 + e;
        [-sum.ln(), -sum.ln(), -sum.ln(), 1.0 - sum.ln()]
    };
    gives(11, one("LogSoftmax"), vec![], &[1, 2, 2], &x, (&[1, 2, 2], &log(1f64.exp())));
    let two = -(2.0f64.ln());
    let last = (1.0 + 1f64.exp()).ln();
    gives(13, one("LogSoftmax"), vec![], &[1, 2, 2], &x, (&[1, 2, 2], &[two, two, -last, 1.0 - last]));
    gives(11, one("Hardmax"), vec![], &[1, 2, 2], &x, (&[1, 2, 2], &[0.0, 0.0, 0.0, 1.0]));
    gives(13, one("Hardmax"), vec![], &[1, 2, 2], &x, (&[1, 2, 2], &[1.0, 0.0, 0.0, 1.0]));
}

#[test]
fn casts_of_numbers_that_do_not_fit() {
    let cast = |to: i64| with(one("Cast"), int("to", to));
    // Saturating, with 0 for what is no number; narrower integers keep the low bits of integers.
    gives(13, cast(3), vec![], &[4], &[300.0, -300.0, f32::NAN, 1.9], (&[4], &[127.0, -128.0, 0.0, 1.0]));
    gives(13, cast(2), vec![], &[3], &[-1.0, 256.0, 255.9], (&[3], &[0.0, 255.0, 255.0]));
    let wrapped = vec![with(one("Cast"), int("to", 6)), with(node("Cast", &["i"], &["y"]), int("to", 3))];
    let wrapped = vec![NodeProto { output: vec!["i".into()], ..wrapped[0].clone() }, wrapped[1].clone()];
    assert_eq!(run(13, wrapped, vec![], &[2], &[300.0, -129.0]).2, [44.0, 127.0]);
    gives(13, cast(9), vec![], &[3], &[0.0, -0.5, f32::NAN], (&[3], &[0.0, 1.0, 1.0]));
}

#[test]
fn empty_lists_of_axes() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let none = || vec![tensor("a", I64, &[0], vec![])];
    let sum = |noop: i64| with(with(node("ReduceSum", &["x", "a"], &["y"]), int("keepdims", 0)), int("noop_with_empty_axes", noop));
    gives(13, sum(0), none(), &[2, 2], &x, (&[], &[10.0]));
    gives(13, sum(1), none(), &[2, 2], &x, (&[2, 2], &x.map(f64::from)));
}

#[test]
fn batches_of_none() {
    let none: &[f32] = &[];
    let w = |name: &str, dims: &[i64]| f(name, dims, &vec![1.0; dims.iter().product::<i64>() as usize]);
    let gives_none =
        |n: NodeProto, constants: Vec<TensorProto>, dims: &[i64], want: &[usize]| gives(17, n, constants, dims, none, (want, &[]));
    gives_none(node("Conv", &["x", "w"], &["y"]), vec![w("w", &[4, 2, 3, 3])], &[0, 2, 5, 5], &[0, 4, 3, 3]);
    gives_none(node("ConvTranspose", &["x", "w"], &["y"]), vec![w("w", &[2, 4, 3, 3])], &[0, 2, 5, 5], &[0, 4, 7, 7]);
    gives_none(node("Gemm", &["x", "w"], &["y"]), vec![w("w", &[3, 4])], &[0, 3], &[0, 4]);
    gives_none(node("MatMul", &["x", "w"], &["y"]), vec![w("w", &[3, 4])], &[0, 2, 3], &[0, 2, 4]);
    gives_none(node("LayerNormalization", &["x", "w"], &["y"]), vec![w("w", &[4])], &[0, 3, 4], &[0, 3, 4]);
    let stats = vec![w("a", &[2]), w("b", &[2]), w("c", &[2]), w("d", &[2])];
    gives_none(node("BatchNormalization", &["x", "a", "b", "c", "d"], &["y"]), stats, &[0, 2, 3], &[0, 2, 3]);
    gives_none(with(one("MaxPool"), ints_attr("kernel_shape", &[2, 2])), vec![], &[0, 2, 5, 5], &[0, 2, 4, 4]);
    gives_none(one("GlobalAveragePool"), vec![], &[0, 2, 5, 5], &[0, 2, 1, 1]);
    gives_none(with(one("ArgMax"), int("keepdims", 0)), vec![], &[3, 0], &[0]);
    gives_none(with(one("ReduceMax"), ints_attr("axes", &[1])), vec![], &[0, 3], &[0, 1]);
    gives_none(with(one("LogSoftmax"), int("axis", 0)), vec![], &[3, 0], &[3, 0]);
    gives_none(node("TopK", &["x", "k"], &["y", "i"]), vec![ints("k", &[2])], &[0, 3], &[0, 2]);
    gives_none(node("Slice", &["x", "a", "b"], &["y"]), vec![ints("a", &[1]), ints("b", &[1])], &[0, 3], &[0, 3]);
    gives_none(node("Tile", &["x", "r"], &["y"]), vec![ints("r", &[2, 3])], &[0, 3], &[0, 9]);
    gives_none(node("Where", &["c", "x", "x"], &["y"]), vec![tensor("c", 9, &[1, 3], vec![1, 0, 1])], &[0, 3], &[0, 3]);
    gives_none(node("CumSum", &["x", "a"], &["y"]), vec![tensor("a", 6, &[], vec![0; 4])], &[0, 3], &[0, 3]);
    gives_none(with(node("Einsum", &["x", "w"], &["y"]), text("equation", "ij,jk->ik")), vec![w("w", &[3, 4])], &[0, 3], &[0, 4]);
    gives_none(node("GatherElements", &["x", "i"], &["y"]), vec![tensor("i", I64, &[0, 3], vec![])], &[0, 3], &[0, 3]);
    // Nothing padded is all padding, a tile of none is none.
    gives(13, node("Pad", &["x", "p"], &["y"]), vec![ints("p", &[1, 0, 1, 0])], &[0, 2], none, (&[2, 2], &[0.0; 4]));
    gives(13, node("Tile", &["x", "r"], &["y"]), vec![ints("r", &[0])], &[2], &[1.0, 2.0], (&[0], &[]));
    gives(13, node("TopK", &["x", "k"], &["y", "i"]), vec![ints("k", &[0])], &[2], &[1.0, 2.0], (&[0], &[]));
}
