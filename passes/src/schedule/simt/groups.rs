// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows in groups, each of which meets a right operand of its own.
//!
//! A group of lanes has one right operand and some of its columns, a vector of neighbors a lane. Its warps share the sum and meet in shared
//! memory, in the order of warps. So a right operand that has no rows costs lanes that look and end, and what has some is read once for every
//! few of them.
//!
//! Rows are sorted by counting: a lane has a group, counts the rows of those before it, then gives places to its own, in their order.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op};
use portwright_ir::kernel::{BufDecl, Code, Ex, Kb, Level, Mem, Module, Reg, Ty};
use portwright_ir::sym::SymExpr;

use super::super::grouped;
use super::super::index::lane;
use super::gemm::{finish, operand, step, total};
use super::problem::At;
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, each_lane, name_coords, vector, warp, warp_lane};

/// Rows that are multiplied at once.
const ROWS: i64 = 4;

/// Builds the kernel of `contract_groups`.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::ContractGroups { .. }))?;
    let mut b = cx.begin(module, 1);
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let p = grouped::problem(eval, node)?;
    let (Some(starts), Some(count)) = (p.starts, total(&p.batch).as_const()) else { return Stop::no("rows without groups") };
    let (rows, columns, depth) = (total(&p.m), total(&p.n), total(&p.k));
    if count == 0 || rows.is(0) || columns.is(0) {
        return Ok(done(b, 0.into()));
    }
    let (lanes, group) = (i64::from(cx.spec.lanes), cx.spec.group(None));
    let warps = i64::from(group) / lanes;
    let acc_bytes = i64::from(p.acc.bits().div_ceil(8));
    // Neighbors of a lane: what one load takes, as far as columns and shared memory go.
    let mut w = i64::from(cx.spec.vector(eval.dtype(p.rhs)).min(cx.spec.vector(p.acc)));
    while w > 1 && (warps * ROWS * lanes * w * acc_bytes * 2 > i64::from(cx.spec.shared_bytes) || !loads(cx, eval, &p, w)) {
        w /= 2;
    }
    let tile = lanes * w;
    let across = columns.ceil_div(&tile.into());
    let groups = &SymExpr::from(count) * &across;
    k.group(group, cx.spec.lanes);
    let g = eval.ix.bind("g", k.gx(), groups.clone());
    let at = name_coords(k, eval, &g, &[count.into(), across]);
    let [e, part] = at.as_slice() else { return Stop::no("a product without columns") };
    let (from, to) = grouped::rows(k, eval, starts, e, count, &rows)?;
    let part = eval.ix.emit(k, part);
    let first = k.let_("n0", part * tile);
    let at = At::default().with(&p.batch, std::slice::from_ref(e));
    let parts = k.shared("parts", BufDecl::rw(p.acc, [warps, ROWS, tile].map(SymExpr::from)).align(cx.spec.vec_bytes));
    let vectors = columns.div(&w.into());
    let mut stop = Ok(());
    k.for_("m0", from, to.clone(), ROWS, |k, m0| {
        eval.open();
        stop = (|| {
            // Rows beyond the last one of the group are it once more.
            let own: Vec<SymExpr> = (0..ROWS)
                .map(|r| {
                    let row = k.let_("m", (&m0 + r).min(&to - 1));
                    eval.ix.bind("m", row, rows.clone())
                })
                .collect();
            let v = k.let_("v", &first / w + warp_lane(k));
            let v = eval.ix.bind("v", v, vectors.clone());
            let edge: Guard = if columns.divisible_by(tile, &|_| 1) { Guard::new() } else { vec![(v.clone(), vectors.clone())] };
            let n = if w == 1 { v } else { v * w + lane() };
            let at = at.with(&p.n, &[n]);
            let zero = Ex::lit(DType::I32, 0.0).cast(p.acc).splat(w as u32);
            let sums: Vec<Reg> = own.iter().map(|_| k.var("c", zero.clone())).collect();
            eval.set_width(w as u32);
            let (start, end) = (warp(k), k.dim(&depth));
            let mut stop = Ok(());
            k.for_("k", start, end, warps, |k, i| {
                eval.open();
                stop = (|| {
                    let i = eval.ix.bind("k", i, depth.clone());
                    let at = at.with(&p.k, &[i]);
                    let y = operand(k, eval, &p, (p.rhs, &p.rhs_at, None), &at, &edge)?;
                    let y = k.let_("y", y);
                    for (row, sum) in own.iter().zip(&sums) {
                        let at = at.with(&p.m, std::slice::from_ref(row));
                        let x = operand(k, eval, &p, (p.lhs, &p.lhs_at, None), &at, &Guard::new())?;
                        k.set(sum, step(p.acc, &x, &y, &sum.get()));
                    }
                    Ok(())
                })();
                eval.close();
            });
            eval.set_width(1);
            stop?;
            for (r, sum) in sums.iter().enumerate() {
                let to = Mem::new(parts, vec![(warp(k), 1), ((r as i64).into(), 1), (warp_lane(k) * w, w as u32)]);
                k.store(to, sum.get());
            }
            k.barrier(Level::Group);
            let results = ROWS * tile;
            let mut stop = Ok(());
            k.for_("t", k.lane(), results, i64::from(group), |k, t| {
                eval.open();
                let (r, c) = (k.let_("r", &t / tile), k.let_("c", t % tile));
                let (row, column) = (k.let_("m", &m0 + &r), k.let_("n", &first + &c));
                let inside = row.lt(&to) & column.lt(k.dim(&columns));
                k.if_(inside, |k| {
                    eval.open();
                    stop = (|| {
                        let part =
                            |k: &mut Kb<'_>, i: i64| k.load("part", Mem::new(parts, vec![(i.into(), 1), (r.clone(), 1), (c.clone(), 1)]));
                        let mut sum = part(k, 0);
                        for i in 1..warps {
                            let x = part(k, i);
                            sum = if p.acc.is_float() { sum + x } else { sum.add_w(x) };
                        }
                        let at = At::default()
                            .with(&p.batch, std::slice::from_ref(e))
                            .with(&p.m, &[eval.ix.bind("m", row.clone(), rows.clone())])
                            .with(&p.n, &[eval.ix.bind("n", column.clone(), columns.clone())]);
                        finish(cx, &outputs, k, eval, &p, &at, sum, &Guard::new())
                    })();
                    eval.close();
                });
                eval.close();
            });
            stop?;
            // What the next rows write is read by now.
            k.barrier(Level::Group);
            Ok(())
        })();
        eval.close();
    });
    stop?;
    Ok(done(b, groups))
}

/// Whether vectors of `w` columns of the right operand are whole in memory.
fn loads(cx: &Cx<'_>, eval: &mut Eval<'_>, p: &super::problem::Problem<'_>, w: i64) -> bool {
    if !vector::divides(cx, eval, &total(&p.n), w) {
        return false;
    }
    eval.set_width(w as u32);
    let mut at = At::default();
    for d in p.batch.iter().chain(&p.n).chain(&p.k) {
        let x = eval.ix.bind("p", 0.into(), d.1.clone());
        let runs = p.n.last().is_some_and(|l| l.0 == d.0);
        at = at.with(std::slice::from_ref(d), &[if runs { x * w + lane() } else { x }]);
    }
    let (coords, guard) = (p.rhs_at)(eval, &at);
    let ok = guard.is_empty() && vector::loads(cx, eval, p.rhs, &coords, w);
    eval.set_width(1);
    ok
}

/// Builds the kernel of `group_rows`.
pub(super) fn sort(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let (&Op::GroupRows { groups }, &[x]) = (&root.op, root.operands.as_slice()) else { return Stop::no("no rows in groups") };
    let mut b = cx.begin(module, 1);
    let rows = b.eval.dims(x).pop().unwrap_or_else(|| 1.into());
    let [order, places, starts] = grouped::results(cx.region, root, &b.outputs)?;
    let always = Guard::new();
    // The number of row `r`.
    let number = |k: &mut Kb<'_>, eval: &mut Eval<'_>, r: &SymExpr| -> Result<Ex, Stop> {
        let v = eval.value(k, x, std::slice::from_ref(r), &Guard::new())?;
        let (v, at) = (k.let_("v", v.cast(DType::I64)), eval.ix.emit(k, r));
        let v = k.guard("gc", &v, 0, groups, Code::Index, &at);
        Ok(k.let_("gr", v.cast(k.index())))
    };
    let lanes = each_lane(cx, &mut b, &groups.into(), &mut |k, eval, e| {
        let index = k.index();
        let own = eval.ix.emit(k, e);
        let before = k.var("before", Ex::int(0).typed(&Ty::Scalar(index)));
        let each =
            |k: &mut Kb<'_>, eval: &mut Eval<'_>, body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &SymExpr, &Ex) -> Result<(), Stop>| {
                let mut stop = Ok(());
                let hi = k.dim(&rows);
                k.for_("r", 0, hi, 1, |k, r| {
                    eval.open();
                    stop = (|| {
                        let r = eval.ix.bind("r", r, rows.clone());
                        let n = number(k, eval, &r)?;
                        body(k, eval, &r, &n)
                    })();
                    eval.close();
                });
                stop
            };
        each(k, eval, &mut |k, _, _, n| {
            let one = Ex::int(1).typed(&Ty::Scalar(k.index()));
            let zero = Ex::int(0).typed(&Ty::Scalar(k.index()));
            k.set(&before, before.get() + n.lt(&own).select(one, zero));
            Ok(())
        })?;
        let begin = k.let_("begin", before.get());
        if let Some(starts) = starts {
            eval.store(k, starts, std::slice::from_ref(e), &always, &begin.cast(DType::I64))?;
        }
        if order.is_none() && places.is_none() {
            return Ok(());
        }
        let next = k.var("next", begin);
        each(k, eval, &mut |k, eval, r, n| {
            let mut stop = Ok(());
            k.if_(n.equals(&own), |k| {
                eval.open();
                stop = (|| {
                    let place = k.let_("place", next.get());
                    if let Some(places) = places {
                        eval.store(k, places, std::slice::from_ref(r), &always, &place.cast(DType::I64))?;
                    }
                    if let Some(order) = order {
                        let at = eval.ix.bind("at", place.clone(), rows.clone());
                        let row = eval.ix.emit(k, r);
                        eval.store(k, order, &[at], &always, &row.cast(DType::I64))?;
                    }
                    k.set(&next, place + 1);
                    Ok(())
                })();
                eval.close();
            });
            stop
        })
    })?;
    Ok(done(b, lanes))
}
