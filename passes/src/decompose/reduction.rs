// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reductions of whole tensors in two stages, so that many tasks share the first.
//!
//! Before: `reduce(x: [A,B,C]) {axes=[0,1,2]}`; after: `reduce(reduce(x) {axes=[2]}) {axes=[0,1]}`, with as many of the last dims in the
//! first stage as make a row of some thousand elements. A tensor whose rows are longer is cut into even parts first. Where the cut lies
//! follows from the dims alone, so a sum has one order for any number of threads.

use portwright_ir::graph::{Graph, NodeId, Op, Patch, ReduceOp};
use portwright_ir::sym::product;

use crate::rules::{Edit, RuleLog, Tap, sweep};
use crate::spec::Math;

const NAME: &str = "reduction-stages";

/// Elements that are not worth two stages.
const FEW: i64 = 1 << 14;
/// Shortest and longest rows of the first stage.
const ROW: (i64, i64) = (128, 8192);

/// Rewrites all reductions of whole tensors that are large or may be, those of regions included.
pub fn reductions(graph: &mut Graph, math: Math, log: &mut RuleLog) {
    // Exact sums keep what they carry from element to element.
    if math == Math::Exact {
        return;
    }
    sweep(graph, NAME, log, &rewrite);
}

fn rewrite(g: &Graph, n: NodeId) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Reduce { op, axes, .. }, &[x], &[result]) = (&node.op, node.operands.as_slice(), node.results.as_slice()) else { return None };
    if matches!(op, ReduceOp::Any | ReduceOp::All) {
        return None;
    }
    let dims = &g.ty(x).dims;
    // All that is not reduced is one element.
    if dims.iter().enumerate().any(|(i, d)| !axes.contains(&(i as u32)) && !d.is(1)) {
        return None;
    }
    let all = product(dims);
    if all.as_const().is_some_and(|n| n < FEW) {
        return None;
    }
    // As many of the last dims as make a row.
    let (mut row, mut at) = (1i64, dims.len());
    while let Some(d) = at.checked_sub(1).and_then(|i| dims.get(i)?.as_const())
        && row.saturating_mul(d) <= ROW.1
    {
        (row, at) = (row * d, at - 1);
    }
    let mut e = Edit::new(g, NAME, &[n]);
    let (mut rows, mut inner) = (Tap::Old(x), (at as u32..dims.len() as u32).collect::<Vec<_>>());
    if row < ROW.0 {
        let n = all.as_const()?;
        let row = (ROW.0..=ROW.1).rev().find(|r| n % r == 0)?;
        rows = e.reshape(x, vec![(n / row).into(), row.into()])?;
        (at, inner) = (1, vec![1]);
    }
    if product(e.ty(rows).dims.get(..at)?).as_const().is_some_and(|n| n < 2) {
        return None;
    }
    let parts = e.add(Op::Reduce { op: *op, axes: inner, keep: false }, &[rows])?;
    let outer = (0..e.rank(parts) as u32).collect();
    let whole = e.add(Op::Reduce { op: *op, axes: outer, keep: false }, &[parts])?;
    let whole = e.reshape(whole, g.ty(result).dims.clone())?;
    e.finish(result, whole)
}
