// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Regions of reductions, as every machine class sees them: which reduce rows, in which order, in which dtype.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Node, Op, ReduceOp, ValueId};
use portwright_ir::kernel::{Ex, Kb};
use portwright_ir::sym::SymExpr;

use super::collapse;
use super::elementwise::like;
use super::eval::Eval;

/// Number of trailing dims that every reduction reduces, if they are alike.
pub(crate) fn rows_shape(region: &Graph, reductions: &[&Node]) -> Option<usize> {
    let mut shape: Option<(usize, Vec<SymExpr>)> = None;
    for n in reductions {
        let Op::Reduce { axes, .. } = &n.op else { return None };
        let ty = region.ty(n.operands[0]);
        let inner = axes.len();
        if !axes.iter().enumerate().all(|(i, &a)| a as usize == ty.rank() - inner + i) {
            return None;
        }
        match &shape {
            None => shape = Some((inner, ty.dims.clone())),
            Some((i, d)) if *i == inner && *d == ty.dims => {}
            Some(_) => return None,
        }
    }
    let (inner, dims) = shape?;
    // Everything else must be rows of that shape or results of reductions.
    let outer = &dims[..dims.len() - inner];
    region
        .outputs()
        .iter()
        .all(|o| {
            let d = &region.ty(o.value).dims;
            *d == dims
                || d[..] == *outer
                || (d.len() == dims.len() && d[..outer.len()] == *outer && d[outer.len()..].iter().all(|x| x.is(1)))
        })
        .then_some(inner)
}

/// How many reductions a value depends on, one after the other.
pub(crate) fn levels(nodes: &[&Node]) -> HashMap<ValueId, usize> {
    let mut level: HashMap<ValueId, usize> = HashMap::new();
    for n in nodes {
        let below = n.operands.iter().filter_map(|o| level.get(o)).copied().max().unwrap_or(0);
        let own = below + usize::from(matches!(n.op, Op::Reduce { .. }));
        n.results.iter().for_each(|&r| {
            level.insert(r, own);
        });
    }
    level
}

/// `sum / count` for a mean.
pub(crate) fn divide(k: &Kb<'_>, op: ReduceOp, d: DType, sum: Ex, count: &SymExpr) -> Ex {
    if !collapse::divides(op) {
        return sum;
    }
    let n = k.dim(count);
    if d.is_float() { sum / n.cast(d) } else { n.equals(0).select(like(&sum, 0.0), sum.tdiv(n.max(1).cast(d))) }
}

/// Dtype in which a reduction is formed: the mean of integers is that of their sum in 64 bits.
pub(crate) fn acc_dtype(op: ReduceOp, d: DType) -> DType {
    if collapse::divides(op) && d.is_int() && d != DType::U64 { DType::I64 } else { d }
}

/// What a reduction does.
pub(crate) fn reduce_op(n: &Node) -> ReduceOp {
    match n.op {
        Op::Reduce { op, .. } => op,
        _ => ReduceOp::Sum,
    }
}

/// Coordinates of a reduced value: the row's, then zeros for the dims of 1 that it kept.
pub(crate) fn reduced_coords(eval: &Eval<'_>, v: ValueId, lead: &[SymExpr]) -> Vec<SymExpr> {
    let rank = eval.graph.ty(v).rank();
    let mut coords = lead[..lead.len().min(rank)].to_vec();
    coords.resize(rank, 0.into());
    // A leading dim of 1 has one coordinate only, however the row was counted.
    for (c, d) in coords.iter_mut().zip(&eval.graph.ty(v).dims) {
        if d.is(1) {
            *c = 0.into();
        }
    }
    coords
}

/// Says what a reduced value is.
pub(crate) fn bind_reduced(eval: &mut Eval<'_>, v: ValueId, lead: &[SymExpr], s: &Ex) {
    let coords = reduced_coords(eval, v, lead);
    eval.bind(v, &coords, &Vec::new(), s.clone());
}
