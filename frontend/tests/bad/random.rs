// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random operators: what docs/NUMERICS.md says of them, in the Graph interpreter.

use super::build::*;
use onnx_protobuf::{AttributeProto, NodeProto};
use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::{self, Options, Tensor};

const N: usize = 200;

fn all(n: NodeProto, attrs: &[AttributeProto]) -> NodeProto {
    attrs.iter().fold(n, |n, a| with(n, a.clone()))
}

/// What one node makes of `x: [N, 5]`, each row the same.
fn made(n: NodeProto, row: [f32; 5]) -> Tensor {
    let mut m = model(graph(vec![n], vec![value("x", 1, &[D::V(N as i64), D::V(5)])], vec![value("y", 0, &[])]));
    m.opset_import = vec![opset("", 22)];
    let g = imported(&m).graph;
    let x = Tensor::from_f32(vec![N, 5], &row.repeat(N));
    let mut out = interp::run(&g, &[x], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    out.remove(0)
}

fn moments(t: &Tensor) -> (f64, f64) {
    let v = t.to_f64();
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    (mean, (v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / v.len() as f64).sqrt())
}

#[test]
fn uniform_numbers_fill_their_range() {
    let bounds = [float("low", -1.0), float("high", 3.0)];
    for n in [
        with(node("RandomUniform", &[], &["y"]), ints_attr("shape", &[1000])),
        node("RandomUniformLike", &["x"], &["y"]),
        with(node("RandomUniformLike", &["x"], &["y"]), int("dtype", 10)),
        with(node("RandomUniformLike", &["x"], &["y"]), int("dtype", 11)),
    ] {
        let t = made(all(n, &bounds), [0.0; 5]);
        assert_eq!(t.len(), 1000);
        let (mean, deviation) = moments(&t);
        assert!((mean - 1.0).abs() < 0.1 && (deviation - 4.0 / 12f64.sqrt()).abs() < 0.05, "{mean} {deviation}");
        assert!(t.to_f64().iter().all(|v| (-1.0..=3.0).contains(v)));
    }
}

#[test]
fn normal_numbers_have_their_moments() {
    let form = [float("mean", 2.0), float("scale", 0.5)];
    for (n, dtype) in [
        (with(node("RandomNormal", &[], &["y"]), ints_attr("shape", &[10, 100])), DType::F32),
        (node("RandomNormalLike", &["x"], &["y"]), DType::F32),
        (with(node("RandomNormalLike", &["x"], &["y"]), int("dtype", 10)), DType::F16),
        (with(node("RandomNormalLike", &["x"], &["y"]), int("dtype", 11)), DType::F64),
    ] {
        let t = made(all(n, &form), [0.0; 5]);
        let (mean, deviation) = moments(&t);
        assert_eq!((t.dtype, t.len()), (dtype, 1000));
        assert!((mean - 2.0).abs() < 0.05 && (deviation - 0.5).abs() < 0.04, "{mean} {deviation}");
        // Beyond two deviations lie 4.6 of a hundred.
        let far = t.to_f64().iter().filter(|v| (**v - 2.0).abs() > 1.0).count();
        assert!((25..70).contains(&far), "{far}");
    }
}

#[test]
fn chances_are_met() {
    let p = [0.0, 1.0, 0.5, 0.25, 0.01];
    for dtype in [1, 9, 10, 6] {
        let t = made(with(node("Bernoulli", &["x"], &["y"]), int("dtype", dtype)), p);
        for (c, p) in p.iter().enumerate() {
            let hits = t.to_f64().iter().skip(c).step_by(5).sum::<f64>() / N as f64;
            assert!((hits - f64::from(*p)).abs() < 0.11 && (*p > 0.0 || hits == 0.0) && (*p < 1.0 || hits == 1.0), "{hits} for {p}");
        }
    }
    let classes = [0.1f32, 0.2, 0.3, 0.15, 0.25];
    let logs = classes.map(f32::ln);
    let t = made(all(node("Multinomial", &["x"], &["y"]), &[int("sample_size", 50), int("dtype", 7)]), logs);
    assert_eq!((t.dtype, t.dims.clone()), (DType::I64, vec![N, 50]));
    for (c, p) in classes.iter().enumerate() {
        let share = t.to_f64().iter().filter(|v| **v == c as f64).count() as f64 / t.len() as f64;
        assert!((share - f64::from(*p)).abs() < 0.02, "{share} for {p}");
    }
}

#[test]
fn seeds_decide() {
    let draw = |name: &str, seed: Option<f32>| {
        let n = named(name, with(node("RandomNormal", &[], &["y"]), ints_attr("shape", &[64])));
        made(seed.into_iter().fold(n, |n, s| with(n, float("seed", s))), [0.0; 5]).to_f64()
    };
    assert_eq!(draw("a", Some(7.0)), draw("b", Some(7.0)));
    assert_ne!(draw("a", Some(7.0)), draw("a", Some(8.0)));
    assert_eq!(draw("a", None), draw("a", None));
    assert_ne!(draw("a", None), draw("b", None));
}
