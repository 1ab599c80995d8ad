// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attributes that say what no operator knows are refused by name.

use super::build::*;
use onnx_protobuf::{GraphProto, NodeProto};

/// A model of one node; inputs are `name, dtype, dims`.
fn one(n: NodeProto, inputs: &[(&str, i32, &[i64])]) -> GraphProto {
    let inputs = inputs.iter().map(|(name, ty, dims)| value(name, *ty, &dims.iter().map(|d| D::V(*d)).collect::<Vec<_>>()));
    graph(vec![n], inputs.collect(), vec![value("y", 1, &[])])
}

const IMAGE: (&str, i32, &[i64]) = ("x", 1, &[1, 2, 5, 5]);

#[test]
fn regions() {
    let inputs = [IMAGE, ("r", 1, &[3, 4]), ("b", 7, &[3])];
    let roi = |a| model(one(with(node("RoiAlign", &["x", "r", "b"], &["y"]), a), &inputs));
    expect(&roi(text("mode", "min")), "E0107 main/RoiAlign_0 RoiAlign (ai.onnx 20): `mode` is \"min\", expected avg or max");
    expect(
        &roi(text("coordinate_transformation_mode", "corner")),
        "E0107 main/RoiAlign_0 RoiAlign (ai.onnx 20): `coordinate_transformation_mode` is \"corner\", expected half_pixel or output_half_pixel",
    );
    expect(
        &roi(int("sampling_ratio", -1)),
        "E0107 main/RoiAlign_0 RoiAlign (ai.onnx 20): a result of 1 x 1 with -1 samples cannot be made",
    );
}

#[test]
fn deformed_convolutions() {
    let inputs = [IMAGE, ("w", 1, &[1, 2, 2, 2]), ("o", 1, &[1, 8, 4, 4])];
    let conv = |a| model(one(with(node("DeformConv", &["x", "w", "o"], &["y"]), a), &inputs));
    imported(&conv(int("group", 1)));
    expect(&conv(int("group", 3)), "E0107 main/DeformConv_0 DeformConv (ai.onnx 20): `group` is 3, which does not divide 2 channels");
    expect(
        &conv(int("offset_group", 2)),
        "E0202 main/DeformConv_0 DeformConv (ai.onnx 20): the dims of the offsets are [1, 8, 4, 4], expected [1, 16, 4, 4]",
    );
}

#[test]
fn resized_regions() {
    let inputs = [IMAGE, ("r", 1, &[8]), ("s", 7, &[4])];
    let resize = |a| {
        let n = with(node("Resize", &["x", "r", "", "s"], &["y"]), text("coordinate_transformation_mode", "tf_crop_and_resize"));
        model(one(with(n, a), &inputs))
    };
    imported(&resize(text("mode", "linear")));
    expect(
        &resize(text("mode", "lanczos")),
        "E0107 main/Resize_0 Resize (ai.onnx 20): `mode` is \"lanczos\", expected nearest, linear, cubic",
    );
    expect(&resize(int("antialias", 1)), "E0113 main/Resize_0 Resize (ai.onnx 20): `antialias` is not computed for `tf_crop_and_resize`");
}

#[test]
fn classical_models() {
    let inputs = [("x", 1, &[2, 3][..])];
    let ml = |op: &str, a| {
        let mut n = with(node(op, &["x"], &["y"]), a);
        n.domain = "ai.onnx.ml".into();
        let mut m = model(one(n, &inputs));
        m.opset_import.push(opset("ai.onnx.ml", 5));
        m
    };
    expect(
        &ml("SVMRegressor", text("kernel_type", "RBF")),
        "E0107 main/SVMRegressor_0 SVMRegressor (ai.onnx.ml 5): attribute `rho` is missing",
    );
    expect(
        &ml("TreeEnsemble", int("n_targets", 1)),
        "E0107 main/TreeEnsemble_0 TreeEnsemble (ai.onnx.ml 5): attribute `leaf_targetids` is missing",
    );
    expect(
        &model(one(with(node("TfIdfVectorizer", &["x"], &["y"]), text("mode", "TF")), &inputs)),
        "E0107 main/TfIdfVectorizer_0 TfIdfVectorizer (ai.onnx 20): attribute `max_gram_length` is missing",
    );
}

#[test]
fn attention_subgraphs_keep_dims() {
    let heads: (&str, i32, &[i64]) = ("x", 1, &[1, 2, 4, 8]);
    let flex = |g| {
        let mut n = with(node("FlexAttention", &["x", "x", "x"], &["y"]), graph_attr("score_mod", g));
        n.domain = "ai.onnx.preview".into();
        let mut m = model(one(n, &[heads]));
        m.opset_import.push(opset("ai.onnx.preview", 1));
        m
    };
    let body = |op: &str| graph(vec![node(op, &["s"], &["t"])], vec![value("s", 1, &[])], vec![value("t", 1, &[])]);
    imported(&flex(body("Tanh")));
    expect(
        &flex(body("Shape")),
        "E0202 main/FlexAttention_0 FlexAttention (ai.onnx.preview 1): `score_mod` makes i64[4] of f32[1,2,4,4]; it must keep dtype and dims",
    );
}
