// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Layer norm, RMS norm and softmax.

use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ReduceOp, Scalar, UnaryOp, ValueId};

use super::{axis_reduce_of, quotient_of, row_reduce_of, used_once};
use crate::rules::consts::{is_static, splat_f64};
use crate::rules::edit::{binary_of, unary_of};
use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "raise-norm",
        doc: "d = x - mean(x); d / sqrt(mean(d * d) + eps) -> layer_norm(x); x / sqrt(mean(x * x) + eps) -> rms_norm(x)",
        roots: &["div", "mul"],
        apply: norm,
    },
    Rule {
        name: "norm-scale",
        doc: "mul(layer_norm(x), s) -> layer_norm(x, s); add(layer_norm(x, s), b) -> layer_norm(x, s, b); mul(rms_norm(x), s) -> rms_norm(x, s); \
              s and b computed from weights, with the dims of the norm",
        roots: &["mul", "add"],
        apply: scale,
    },
    Rule { name: "raise-softmax", doc: "e = exp(x - max(x)); e / sum(e) -> softmax(x)", roots: &["div", "mul"], apply: softmax },
    Rule { name: "raise-log-softmax", doc: "d = x - max(x); d - log(sum(exp(d))) -> log_softmax(x)", roots: &["sub"], apply: log_softmax },
];

/// `x` and `y` of `x / sqrt(y)`.
fn over_root(g: &Graph, v: ValueId) -> Option<(ValueId, ValueId)> {
    if let Some((x, root)) = quotient_of(g, v) {
        return Some((x, unary_of(g, root, UnaryOp::Sqrt)?));
    }
    // x * pow(y, -0.5)
    let (a, b) = binary_of(g, v, BinaryOp::Mul)?;
    [(a, b), (b, a)].into_iter().find_map(|(x, p)| {
        let (y, c) = binary_of(g, p, BinaryOp::Pow)?;
        (splat_f64(g, c) == Some(-0.5)).then_some((x, y))
    })
}

/// `x` of `x * x`, also written as a power.
fn square_of(g: &Graph, v: ValueId) -> Option<ValueId> {
    let (a, b) = binary_of(g, v, BinaryOp::Mul)?;
    (a == b).then_some(a)
}

fn norm(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let y = g.result(n);
    let (x, moved) = over_root(g, y)?;
    let (variance, eps) = binary_of(g, moved, BinaryOp::Add)?;
    let eps = splat_f64(g, eps).filter(|e| *e >= 0.0 && e.is_finite())?;
    let (square, axis) = row_reduce_of(g, variance, ReduceOp::Mean)?;
    if square_of(g, square)? != x || g.ty(x) != g.ty(y) || !g.ty(x).dtype.is_float() {
        return None;
    }
    let eps = Scalar::from_f64(portwright_ir::dtype::DType::F32, eps);
    let mut e = Edit::new(g, "raise-norm", &[n]);
    let centered = binary_of(g, x, BinaryOp::Sub)
        .filter(|&(source, mean)| row_reduce_of(g, mean, ReduceOp::Mean) == Some((source, axis)) && g.ty(source) == g.ty(y));
    let new = match centered {
        Some((source, _)) => e.add(Op::LayerNorm { axis, eps }, &[source.into()])?,
        None => e.add(Op::RmsNorm { axis, eps }, &[x.into()])?,
    };
    e.finish(y, new)
}

/// Dims of `s` as an operand of a norm over dims `axis..` of `x`: those that broadcast are left out; `None` if `s` differs along others.
fn norm_dims(x: &Dims, s: &Dims, axis: u32) -> Option<Dims> {
    let inner = x.len().checked_sub(axis as usize)?;
    let lead = s.len().saturating_sub(inner);
    if s.len() > x.len() || !s[..lead].iter().all(|d| d.is(1)) {
        return None;
    }
    Some(s[lead..].to_vec())
}

fn scale(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &[a, b] = node.operands.as_slice() else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(normed, s)| {
        let inner = g.producer(normed)?;
        let (op, taken) = (&node.op, inner.operands.len());
        let axis = match (&inner.op, op) {
            (Op::LayerNorm { axis, .. } | Op::RmsNorm { axis, .. }, Op::Binary(BinaryOp::Mul)) if taken == 1 => *axis,
            (Op::LayerNorm { axis, .. }, Op::Binary(BinaryOp::Add)) if taken == 2 => *axis,
            _ => return None,
        };
        if !used_once(g, normed) || !is_static(g, s) || g.ty(normed) != g.ty(g.result(n)) {
            return None;
        }
        let dims = norm_dims(&g.ty(normed).dims, &g.ty(s).dims, axis)?;
        let mut e = Edit::new(g, "norm-scale", &[g.producer_id(normed)?, n]);
        let s = e.reshape(s, dims)?;
        let mut operands: Vec<Tap> = inner.operands.iter().map(|&v| v.into()).collect();
        operands.push(s);
        let new = e.add(inner.op.clone(), &operands)?;
        e.finish(g.result(n), new)
    })
}

fn softmax(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let y = g.result(n);
    let (p, sum) = quotient_of(g, y)?;
    let (summed, axis) = axis_reduce_of(g, sum, ReduceOp::Sum)?;
    let (x, top) = binary_of(g, unary_of(g, p, UnaryOp::Exp)?, BinaryOp::Sub)?;
    if summed != p || axis_reduce_of(g, top, ReduceOp::Max)? != (x, axis) {
        return None;
    }
    let mut e = Edit::new(g, "raise-softmax", &[n]);
    let new = e.add(Op::Softmax { axis }, &[x.into()])?;
    e.finish(y, new)
}

fn log_softmax(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let y = g.result(n);
    let (d, log) = binary_of(g, y, BinaryOp::Sub)?;
    let (p, axis) = axis_reduce_of(g, unary_of(g, log, UnaryOp::Log)?, ReduceOp::Sum)?;
    let (x, top) = binary_of(g, d, BinaryOp::Sub)?;
    if unary_of(g, p, UnaryOp::Exp)? != d || axis_reduce_of(g, top, ReduceOp::Max)? != (x, axis) {
        return None;
    }
    let mut e = Edit::new(g, "raise-log-softmax", &[n]);
    let new = e.add(Op::LogSoftmax { axis }, &[x.into()])?;
    e.finish(y, new)
}
