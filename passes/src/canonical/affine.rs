// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scales and biases after a convolution or contraction with weights move into the weights: batch norm costs nothing.
//!
//! These rules change rounding, by a few units in the last place of the result: `sum(x * w) * s` becomes `sum(x * (w * s))`, with the
//! product `w * s` rounded once when weights are packed. They hold for f32 and f64 only and are off for exact math.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, Node, NodeId, Op, Patch, ValueId};

use super::contract::labels;
use crate::rules::consts::is_static;
use crate::rules::edit::only_user;
use crate::rules::{Edit, Rule, RuleCx, Tap};
use crate::spec::Math;

/// Rules that move what is computed from weights together.
pub const RULES: &[Rule] = &[
    Rule {
        name: "fold-scale-into-weights",
        doc: "mul(conv(x, w), s) -> conv(x, mul(w, s)) when w and s are computed from weights and s differs along channels only; also div, contract",
        roots: &["mul", "div"],
        apply: fold_scale,
    },
    Rule {
        name: "scale-through-bias",
        doc: "mul(add(conv(x, w), b), s) -> add(mul(conv(x, w), s), mul(b, s)), all of b, s, w computed from weights; also sub and div",
        roots: &["mul", "div"],
        apply: scale_through_bias,
    },
    Rule {
        name: "join-biases",
        doc: "add(add(conv(x, w), b), c) -> add(conv(x, w), add(b, c)), b and c computed from weights; also sub",
        roots: &["add", "sub"],
        apply: join_biases,
    },
];

/// All rules of this module.
pub fn rules() -> Vec<&'static Rule> {
    RULES.iter().collect()
}

/// The convolution or contraction that makes `v` with weights, used nowhere else.
fn linear(g: &Graph, v: ValueId) -> Option<(NodeId, &Node)> {
    let n = g.producer_id(v)?;
    let node = g.node(n);
    let &[_, w] = node.operands.as_slice() else { return None };
    let fits = matches!(node.op, Op::Conv { .. } | Op::Contract { .. }) && matches!(g.ty(v).dtype, DType::F32 | DType::F64);
    (fits && g.ty(w).dtype == g.ty(v).dtype && is_static(g, w) && only_user(g, v).is_some()).then_some((n, node))
}

/// Dims that make the scale `s` of a result of `node` broadcast against its weights; `None` if `s` differs along other dims.
fn scale_dims(g: &Graph, node: &Node, s: ValueId) -> Option<Dims> {
    let (&result, &[_, w]) = (node.results.first()?, node.operands.as_slice()) else { return None };
    let (rank, s_dims) = (g.ty(result).rank(), &g.ty(s).dims);
    let lead = rank.checked_sub(s_dims.len())?;
    let w_rank = g.ty(w).rank();
    let mut out: Dims = vec![1.into(); w_rank];
    let place: Vec<Option<usize>> = match &node.op {
        Op::Conv { .. } => (0..rank).map(|i| (i == 1).then_some(0)).collect(),
        Op::Contract { spec, .. } => {
            let [a, b, o] = labels(spec)?;
            o.iter().map(|c| if a.contains(c) { None } else { b.iter().position(|x| x == c) }).collect()
        }
        _ => return None,
    };
    let mut last = None;
    for (i, d) in s_dims.iter().enumerate().filter(|(_, d)| !d.is(1)) {
        let at = (*place.get(lead + i)?)?;
        // A reshape of the scale keeps the order of its dims.
        if last.is_some_and(|l| l > at) || g.ty(w).dims.get(at) != Some(d) {
            return None;
        }
        (last, out[at]) = (Some(at), d.clone());
    }
    Some(out)
}

fn scale(node: &Node) -> Option<(BinaryOp, ValueId, ValueId)> {
    match (&node.op, node.operands.as_slice()) {
        (Op::Binary(op @ (BinaryOp::Mul | BinaryOp::Div)), &[y, s]) => Some((*op, y, s)),
        _ => None,
    }
}

fn fold_scale(g: &Graph, n: NodeId, cx: &RuleCx<'_>) -> Option<Patch> {
    let (op, y, s) = scale(g.node(n))?;
    let (m, core) = linear(g, y)?;
    if cx.math == Math::Exact || !is_static(g, s) {
        return None;
    }
    let dims = scale_dims(g, core, s)?;
    let &[x, w] = core.operands.as_slice() else { return None };
    let mut e = Edit::new(g, "fold-scale-into-weights", &[m, n]);
    let s = e.reshape(s, dims)?;
    let w = e.binary(op, w, s)?;
    let new = e.add(core.op.clone(), &[x.into(), w])?;
    e.finish(g.result(n), new)
}

/// `(op, core, bias)` of `v = core op bias` with a static bias.
fn biased(g: &Graph, v: ValueId) -> Option<(BinaryOp, ValueId, ValueId)> {
    let node = g.producer(v)?;
    let (Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub)), &[y, b]) = (&node.op, node.operands.as_slice()) else { return None };
    linear(g, y)?;
    (is_static(g, b) && g.ty(y).dims == g.ty(v).dims && only_user(g, v).is_some()).then_some((*op, y, b))
}

fn scale_through_bias(g: &Graph, n: NodeId, cx: &RuleCx<'_>) -> Option<Patch> {
    let (op, y, s) = scale(g.node(n))?;
    let (shift, core, b) = biased(g, y)?;
    let (_, core_node) = linear(g, core)?;
    if cx.math == Math::Exact || !is_static(g, s) {
        return None;
    }
    scale_dims(g, core_node, s)?;
    let mut e = Edit::new(g, "scale-through-bias", &[g.producer_id(y)?, n]);
    let scaled = e.binary(op, core, s)?;
    let moved = e.binary(op, b, s)?;
    let new = e.binary(shift, scaled, moved)?;
    e.finish(g.result(n), new)
}

fn join_biases(g: &Graph, n: NodeId, cx: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Binary(outer), &[y, c]) = (&node.op, node.operands.as_slice()) else { return None };
    let (inner, core, b) = biased(g, y)?;
    if cx.math == Math::Exact || !is_static(g, c) {
        return None;
    }
    let mut e = Edit::new(g, "join-biases", &[g.producer_id(y)?, n]);
    let (b, c) = (Tap::Old(b), Tap::Old(c));
    let new = match (inner, outer) {
        (BinaryOp::Add, BinaryOp::Add) => (BinaryOp::Add, e.binary(BinaryOp::Add, b, c)?),
        (BinaryOp::Add, _) => (BinaryOp::Add, e.binary(BinaryOp::Sub, b, c)?),
        (_, BinaryOp::Add) => (BinaryOp::Add, e.binary(BinaryOp::Sub, c, b)?),
        _ => (BinaryOp::Sub, e.binary(BinaryOp::Add, b, c)?),
    };
    let new = e.binary(new.0, core, new.1)?;
    e.finish(g.result(n), new)
}
