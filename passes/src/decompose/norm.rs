// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Softmax and norms.

use portwright_ir::graph::{BinaryOp, NodeId, Op, ReduceOp, UnaryOp};

use super::{narrowed, parts, widened};
use crate::rules::{Edit, Tap};

/// `(e, sum(e))` with `e = exp(x - max(x))` along `axis`.
fn exponentials(e: &mut Edit<'_>, x: Tap, axis: u32) -> Option<(Tap, Tap, Tap)> {
    let top = e.reduce(ReduceOp::Max, x, vec![axis])?;
    let d = e.binary(BinaryOp::Sub, x, top)?;
    let p = e.unary(UnaryOp::Exp, d)?;
    let sum = e.reduce(ReduceOp::Sum, p, vec![axis])?;
    Some((d, p, sum))
}

/// The sum of a row is inverted once: a product for each element instead of a quotient, and one rounding more.
pub(super) fn softmax(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Softmax { axis }, &[x]) = parts(e, n) else { return None };
    let x = widened(e, x)?;
    let (_, p, sum) = exponentials(e, x, *axis)?;
    let inverse = e.unary(UnaryOp::Recip, sum)?;
    let y = e.binary(BinaryOp::Mul, p, inverse)?;
    narrowed(e, n, y)
}

pub(super) fn exact_softmax(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Softmax { axis }, &[x]) = parts(e, n) else { return None };
    let x = widened(e, x)?;
    let (_, p, sum) = exponentials(e, x, *axis)?;
    let y = e.binary(BinaryOp::Div, p, sum)?;
    narrowed(e, n, y)
}

pub(super) fn log_softmax(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::LogSoftmax { axis }, &[x]) = parts(e, n) else { return None };
    let x = widened(e, x)?;
    let (d, _, sum) = exponentials(e, x, *axis)?;
    let log = e.unary(UnaryOp::Log, sum)?;
    let y = e.binary(BinaryOp::Sub, d, log)?;
    narrowed(e, n, y)
}

/// `x / sqrt(mean(x * x) + eps)` over dims `axis..`.
fn normalized(e: &mut Edit<'_>, x: Tap, axis: u32, eps: f64) -> Option<Tap> {
    let axes: Vec<u32> = (axis..e.rank(x) as u32).collect();
    let square = e.binary(BinaryOp::Mul, x, x)?;
    let mean = e.reduce(ReduceOp::Mean, square, axes)?;
    let moved = e.with_scalar(BinaryOp::Add, mean, eps)?;
    let root = e.unary(UnaryOp::Sqrt, moved)?;
    let inverse = e.unary(UnaryOp::Recip, root)?;
    e.binary(BinaryOp::Mul, x, inverse)
}

fn scaled(e: &mut Edit<'_>, n: NodeId, mut y: Tap, op: BinaryOp, operand: usize) -> Option<Tap> {
    if let Some(&s) = parts(e, n).1.get(operand) {
        let s = widened(e, s)?;
        y = e.binary(op, y, s)?;
    }
    Some(y)
}

pub(super) fn layer_norm(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::LayerNorm { axis, eps }, &[x, ..]) = parts(e, n) else { return None };
    let x = widened(e, x)?;
    let axes: Vec<u32> = (*axis..e.rank(x) as u32).collect();
    let mean = e.reduce(ReduceOp::Mean, x, axes)?;
    let centered = e.binary(BinaryOp::Sub, x, mean)?;
    let y = normalized(e, centered, *axis, eps.to_f64())?;
    let y = scaled(e, n, y, BinaryOp::Mul, 1)?;
    let y = scaled(e, n, y, BinaryOp::Add, 2)?;
    narrowed(e, n, y)
}

pub(super) fn rms_norm(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::RmsNorm { axis, eps }, &[x, ..]) = parts(e, n) else { return None };
    let x = widened(e, x)?;
    let y = normalized(e, x, *axis, eps.to_f64())?;
    let y = scaled(e, n, y, BinaryOp::Mul, 1)?;
    narrowed(e, n, y)
}
