// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scattered updates: every element has one lane, which copies it and then takes the updates that meet it, in their order.
//!
//! So results do not depend on timing and nothing is atomic, however often an element is updated. Lanes of other coordinates than the indexed
//! ones walk the same indices, and a row that is met belongs to one of the lanes that share them.

use portwright_ir::graph::{Node, Op, ReduceOp, ScatterOp};
use portwright_ir::kernel::{Ex, Kb, Module};
use portwright_ir::sym::SymExpr;

use super::super::index::row_of;
use super::elementwise::combine;
use super::{Built, Cx, Eval, Guard, Stop, done, each, each_lane, elems, name_coords};

/// Lanes that share the rows of one line of indices.
const SHARES: i64 = 64;

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let (op, elements) = match &root.op {
        Op::ScatterElements { op, axis } => (*op, Some(*axis as usize)),
        Op::ScatterNd { op } => (*op, None),
        _ => return Stop::no("no scatter"),
    };
    let mut b = cx.begin(module, 1);
    let (x, indices, updates) = (root.operands[0], root.operands[1], root.operands[2]);
    let [out] = b.outputs[..] else { return Stop::no("a scatter with an epilogue") };
    if cx.region.outputs()[0].value != root.results[0] {
        return Stop::no("a scatter with an epilogue");
    }
    let (dims, index_dims, update_dims) = (b.eval.dims(x), b.eval.dims(indices), b.eval.dims(updates));
    let d = b.eval.dtype(x);
    // Dims of `x` that indices name, and the others, by which lanes are told apart.
    let named: Vec<usize> = match elements {
        Some(axis) => vec![axis],
        None => {
            let depth = index_dims.last().and_then(SymExpr::as_const);
            let Some(depth) = depth.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= dims.len()) else {
                return Stop::no("scatter_nd with a dynamic index length");
            };
            (0..depth).collect()
        }
    };
    let others: Vec<usize> = (0..dims.len()).filter(|i| !named.contains(i)).collect();
    let named_dims: Vec<SymExpr> = named.iter().map(|&i| dims[i].clone()).collect();
    let rows = elems(&named_dims);
    let shares = rows.as_const().map_or(SHARES, |n| n.clamp(1, SHARES));
    let mut counted: Vec<SymExpr> = vec![shares.into()];
    counted.extend(others.iter().map(|&i| dims[i].clone()));
    let total = elems(&counted);
    let groups = each_lane(cx, &mut b, &total, &mut |k, eval, i| {
        let at = name_coords(k, eval, i, &counted);
        let share = eval.ix.emit(k, &at[0]);
        let share = k.let_("share", share);
        // Coordinates in `x` of a row, given by the coordinates that indices name.
        let place = |row: &[SymExpr]| -> Vec<SymExpr> {
            let mut coords = vec![SymExpr::from(0); dims.len()];
            named.iter().zip(row).for_each(|(&i, c)| coords[i] = c.clone());
            others.iter().zip(&at[1..]).for_each(|(&i, c)| coords[i] = c.clone());
            coords
        };
        let hi = k.dim(&rows);
        let mut stop = Ok(());
        k.for_("row", &share, hi, shares, |k, row| {
            eval.open();
            stop = (|| {
                let row = eval.ix.bind("row", row, rows.clone());
                let coords = place(&name_coords(k, eval, &row, &named_dims));
                let v = eval.value(k, x, &coords, &Guard::new())?;
                eval.store(k, out, &coords, &Guard::new(), &v)
            })();
            eval.close();
        });
        stop?;
        // Updates that can meet this lane's elements, in their order.
        let walked: Vec<SymExpr> = match elements {
            Some(axis) => vec![update_dims[axis].clone()],
            None => index_dims[..index_dims.len() - 1].to_vec(),
        };
        let mut inside = Guard::new();
        if elements.is_some() {
            // Of the other dims there may be fewer updates than elements.
            for (&i, c) in others.iter().zip(&at[1..]) {
                inside = eval.guarded(&inside, c, &update_dims[i]);
            }
        }
        let walk = |k: &mut Kb<'_>, eval: &mut Eval<'_>| {
            each(k, eval, &walked, &mut Vec::new(), &mut |k, eval, w| {
                let row = |k: &mut Kb<'_>, eval: &mut Eval<'_>, index_at: &[SymExpr], end: &SymExpr| -> Result<Ex, Stop> {
                    let i = eval.value(k, indices, index_at, &Guard::new())?;
                    let position = index_at.iter().zip(&index_dims).fold(SymExpr::from(0), |l, (c, d)| &(&l * d) + c);
                    let position = eval.ix.emit(k, &position);
                    let n = k.dim_as(end, portwright_ir::dtype::DType::I64);
                    Ok(row_of(k, &i, n, &position))
                };
                let mut met = Vec::new();
                let update_at = match elements {
                    Some(axis) => {
                        let mut at = place(&[0.into()]);
                        at[axis] = w[0].clone();
                        met.push(row(k, eval, &at, &dims[axis])?);
                        at
                    }
                    None => {
                        for (j, end) in named_dims.iter().enumerate() {
                            let mut at = w.to_vec();
                            at.push((j as i64).into());
                            met.push(row(k, eval, &at, end)?);
                        }
                        w.iter().chain(&at[1..]).cloned().collect()
                    }
                };
                let coords: Vec<SymExpr> = met.iter().zip(&named_dims).map(|(e, d)| eval.ix.bind("g", e.clone(), d.clone())).collect();
                let linear = coords.iter().zip(&named_dims).fold(SymExpr::from(0), |l, (c, d)| &(&l * d) + c);
                let linear = eval.ix.emit(k, &linear);
                let own = (linear % shares).equals(&share);
                let mut stop = Ok(());
                k.if_(own, |k| {
                    eval.open();
                    stop = (|| {
                        let to = place(&coords);
                        let u = eval.value(k, updates, &update_at, &Guard::new())?;
                        let v = match op {
                            ScatterOp::Set => u,
                            op => {
                                let old = eval.load(k, "old", out, &to, &Guard::new())?;
                                combine(reduction(op), d, &old, &u)
                            }
                        };
                        eval.store(k, out, &to, &Guard::new(), &v)
                    })();
                    eval.close();
                });
                stop
            })
        };
        match eval.mask(k, &inside)? {
            None => walk(k, eval),
            Some(c) => {
                let mut stop = Ok(());
                k.if_(c, |k| {
                    eval.open();
                    stop = walk(k, eval);
                    eval.close();
                });
                stop
            }
        }
    })?;
    Ok(done(b, groups))
}

fn reduction(op: ScatterOp) -> ReduceOp {
    match op {
        ScatterOp::Mul => ReduceOp::Prod,
        ScatterOp::Min => ReduceOp::Min,
        ScatterOp::Max => ReduceOp::Max,
        _ => ReduceOp::Sum,
    }
}
