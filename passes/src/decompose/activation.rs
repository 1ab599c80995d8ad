// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Activations.

use portwright_ir::graph::{BinaryOp, NodeId, Op, UnaryOp};

use super::{narrowed, parts, widened};
use crate::rules::{Edit, Tap};

pub(super) fn gelu(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Gelu { tanh }, &[x]) = parts(e, n) else { return None };
    let x = widened(e, x)?;
    let inner = if *tanh {
        let square = e.binary(BinaryOp::Mul, x, x)?;
        let cube = e.binary(BinaryOp::Mul, square, x)?;
        let small = e.with_scalar(BinaryOp::Mul, cube, 0.044715)?;
        let sum = e.binary(BinaryOp::Add, x, small)?;
        let scaled = e.with_scalar(BinaryOp::Mul, sum, (2.0 / std::f64::consts::PI).sqrt())?;
        e.unary(UnaryOp::Tanh, scaled)?
    } else {
        let scaled = e.with_scalar(BinaryOp::Mul, x, std::f64::consts::FRAC_1_SQRT_2)?;
        e.unary(UnaryOp::Erf, scaled)?
    };
    let gate = e.with_scalar(BinaryOp::Add, inner, 1.0)?;
    let half = e.with_scalar(BinaryOp::Mul, x, 0.5)?;
    let y = e.binary(BinaryOp::Mul, half, gate)?;
    narrowed(e, n, y)
}

pub(super) fn silu(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let &[x] = parts(e, n).1 else { return None };
    let x = widened(e, x)?;
    let gate = e.unary(UnaryOp::Sigmoid, x)?;
    let y = e.binary(BinaryOp::Mul, x, gate)?;
    narrowed(e, n, y)
}

pub(super) fn hard_swish(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let &[x] = parts(e, n).1 else { return None };
    let x = widened(e, x)?;
    let scaled = e.with_scalar(BinaryOp::Mul, x, 1.0 / 6.0)?;
    let moved = e.with_scalar(BinaryOp::Add, scaled, 0.5)?;
    let low = e.with_scalar(BinaryOp::Max, moved, 0.0)?;
    let gate = e.with_scalar(BinaryOp::Min, low, 1.0)?;
    let y = e.binary(BinaryOp::Mul, x, gate)?;
    narrowed(e, n, y)
}
