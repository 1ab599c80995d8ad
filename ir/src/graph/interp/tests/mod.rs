// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ops against numbers from numpy and the ONNX reference.

mod compose;
mod control;
mod core;
mod text;

use super::*;
use crate::dtype::DType;
use crate::graph::op::*;
use crate::graph::types::*;

/// `n` numbers that are exact in every float: 0.5, -0.25, ..
fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + 3) % 11) as f32 * 0.25 - 1.0).collect()
}
fn f(dims: &[usize]) -> Tensor {
    Tensor::from_f32(dims.to_vec(), &ramp(dims.iter().product()))
}
fn t(dims: &[usize], v: &[f32]) -> Tensor {
    assert_eq!(dims.iter().product::<usize>(), v.len());
    Tensor::from_f32(dims.to_vec(), v)
}
fn ints(dims: &[usize], v: &[i64]) -> Tensor {
    Tensor::from_i64(dims.to_vec(), v)
}
fn dims(d: &[i64]) -> Dims {
    d.iter().map(|&d| d.into()).collect()
}

/// A graph of one node whose operands are inputs of fixed dims.
fn one_node(op: Op, inputs: &[Tensor], regions: Vec<Graph>) -> Graph {
    let mut g = Graph::new("main");
    let vs: Vec<ValueId> = inputs.iter().enumerate().map(|(i, t)| g.add_input(format!("x{i}"), type_of(t))).collect();
    if let Op::NonZero { count: name } | Op::Loop { trips: name, .. } = &op {
        g.add_symbol(Symbol { name: name.clone(), lo: 0, hi: 1 << 20, div: 1, source: SymSource::Result });
    }
    let n = g.add_with_regions(op, &vs, regions, Origin::path("main/node")).unwrap_or_else(|f| panic!("{}", f.message));
    for (i, v) in g.node(n).results.clone().into_iter().enumerate() {
        g.add_output(format!("y{i}"), v);
    }
    g
}
fn type_of(t: &Tensor) -> TensorType {
    TensorType::fixed(t.dtype, &t.dims.iter().map(|&d| d as i64).collect::<Vec<_>>())
}
fn all(op: Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
    run(&one_node(op, inputs, vec![]), inputs, &Options::default())
}
fn eval(op: Op, inputs: &[Tensor]) -> Tensor {
    all(op, inputs).unwrap_or_else(|e| panic!("{e}")).remove(0)
}
#[track_caller]
fn close(got: &Tensor, dims: &[usize], want: &[f64]) {
    assert_eq!(got.dims, dims);
    for (i, (g, w)) in got.to_f64().iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 2e-6 * w.abs().max(1.0) || g.is_nan() && w.is_nan(), "element {i}: {g}, expected {w}\n{got:?}");
    }
    assert_eq!(got.len(), want.len());
}
#[track_caller]
fn exact(got: &Tensor, want: &Tensor) {
    assert_eq!(got, want);
}

/// `f` times a factor.
fn fs(dims: &[usize], factor: f32) -> Tensor {
    t(dims, &ramp(dims.iter().product()).iter().map(|v| v * factor).collect::<Vec<_>>())
}
fn scalar(v: f32) -> Scalar {
    Scalar::f32(v)
}
