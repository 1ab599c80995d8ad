// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Choices that are known, and reductions over nothing.

use portwright_ir::graph::{Graph, NodeId, Op, Patch, ReduceOp, UnaryOp};

use crate::rules::consts::splat;
use crate::rules::edit::unary_of;
use crate::rules::{Edit, Rule, RuleCx};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "known-choice",
        doc: "select(true, x, y) -> broadcast(x); select(c, x, x) -> broadcast(x); select(not(c), x, y) -> select(c, y, x)",
        roots: &["select"],
        apply: known_choice,
    },
    Rule {
        name: "reduce-nothing",
        doc: "reduce{axes=[]}(x) -> x; reduce over dims of 1 -> reshape(x), for sum, mean, prod, max and min",
        roots: &["reduce"],
        apply: reduce_nothing,
    },
];

fn known_choice(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let &[cond, x, y] = g.node(n).operands.as_slice() else { return None };
    let mut e = Edit::new(g, "known-choice", &[n]);
    let new = if let Some(c) = splat(g, cond) {
        e.broadcast(if c.bits & 1 != 0 { x } else { y }, g.ty(g.result(n)).dims.clone())?
    } else if x == y {
        e.broadcast(x, g.ty(g.result(n)).dims.clone())?
    } else {
        let c = unary_of(g, cond, UnaryOp::Not)?;
        e.select(c, y, x)?
    };
    e.finish(g.result(n), new)
}

fn reduce_nothing(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Reduce { op, axes, .. } = &node.op else { return None };
    let &x = node.operands.first()?;
    let ty = g.ty(x);
    let same = matches!(op, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min)
        || ty.dtype == portwright_ir::dtype::DType::Bool;
    if !same || !axes.iter().all(|&a| ty.dims.get(a as usize).is_some_and(|d| d.is(1))) {
        return None;
    }
    let mut e = Edit::new(g, "reduce-nothing", &[n]);
    let new = e.reshape(x, g.ty(g.result(n)).dims.clone())?;
    e.finish(g.result(n), new)
}
