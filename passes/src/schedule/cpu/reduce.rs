// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reductions with what comes before, between and after them.
//!
//! *Rows*: all reductions run over the same trailing dims; each row is finished by one task in as many sweeps as reductions depend on
//! each other, plus one for what is stored. A value that is costly and needed by a later sweep is kept in a row of scratch.
//! *Columns*: one reduction over other dims, a vector of results at a time.

use std::collections::{HashMap, HashSet};

use portwright_ir::dtype::DType;
use portwright_ir::graph::{ArgOp, BinaryOp, Node, Op, ReduceOp, UnaryOp, ValueId};
use portwright_ir::kernel::{BufDecl, Ex, HOp, Kb, Module, Reg, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::super::rows::{acc_dtype, bind_reduced, divide, levels, reduce_op, reduced_coords, rows_shape};
use super::elementwise::{combine, identity, is_slow};
use super::eval::{Eval, Guard, Stop};
use super::{Begun, Built, Cx, TASK_ELEMS, finish, flies, flies_whole, name_coords, share, vector_loop, wide_loop};

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let nodes: Vec<&Node> = cx.region.order().into_iter().map(|n| cx.region.node(n)).collect();
    let reductions: Vec<&Node> = nodes.iter().copied().filter(|n| matches!(n.op, Op::Reduce { .. })).collect();
    match (rows_shape(cx.region, &reductions), nodes.iter().any(|n| matches!(n.op, Op::ArgReduce { .. }))) {
        (Some(inner), false) => rows(cx, module, width, &reductions, inner),
        _ => columns(cx, module, width),
    }
}

/// Vectors of a row that are in flight at once, as one wide vector: the time of one operation is hidden by those beside it.
const FLIGHT: u32 = 4;

/// How many vectors of these values are in flight at once: as many as leave registers for what else they need.
fn in_flight(cx: &Cx<'_>, mut values: impl Iterator<Item = ValueId>) -> u32 {
    if values.all(|v| ops_of(cx, v, 4).is_some()) { FLIGHT } else { (cx.spec.vec_regs / 8).clamp(1, FLIGHT) }
}

/// Number of ops that compute a value of a row, from what is loaded or reduced; none if it is above `most` or one of them is slow.
fn ops_of(cx: &Cx<'_>, v: ValueId, most: usize) -> Option<usize> {
    let mut work = vec![v];
    let mut ops = 0;
    while let Some(v) = work.pop() {
        let Some(n) = cx.region.producer(v) else { continue };
        match &n.op {
            op if is_slow(op) => return None,
            Op::Reduce { .. } => continue,
            op if op.is_source() => continue,
            _ => {}
        }
        ops += 1;
        if ops > most {
            return None;
        }
        work.extend(&n.operands);
    }
    Some(ops)
}

/// Whether recomputing a value costs more than keeping it.
fn costly(cx: &Cx<'_>, v: ValueId) -> bool {
    ops_of(cx, v, 12).is_none()
}

/// Whether a maximum does nothing but shift exponentials on whose sum every output depends. A NaN reaches the whole row through that sum
/// and the sign of a zero goes nowhere, so the maximum itself may pass both over, which is a third of the instructions.
fn shifts_exponentials(cx: &Cx<'_>, n: &Node) -> bool {
    let (Op::Reduce { op: ReduceOp::Max, .. }, x, top) = (&n.op, n.operands[0], n.results[0]) else { return false };
    if !cx.region.ty(x).dtype.is_float() || cx.region.is_output(top) {
        return false;
    }
    let (mut shifted, mut raised, mut poisoned) = (HashSet::new(), HashSet::new(), HashSet::new());
    for n in cx.region.order().into_iter().map(|n| cx.region.node(n)) {
        let Some(&r) = n.results.first() else { continue };
        match &n.op {
            Op::Binary(BinaryOp::Sub) if n.operands[..] == [x, top] => shifted.insert(r),
            _ if n.operands.contains(&top) => return false,
            Op::Unary(UnaryOp::Exp) if shifted.contains(&n.operands[0]) => raised.insert(r),
            Op::Reduce { op: ReduceOp::Sum, .. } if raised.contains(&n.operands[0]) => poisoned.insert(r),
            // What a NaN goes through; a choice or a comparison need not hand it on.
            Op::Unary(UnaryOp::Recip | UnaryOp::Log)
            | Op::Binary(BinaryOp::Mul | BinaryOp::Div | BinaryOp::Sub | BinaryOp::Add)
            | Op::Cast { .. }
                if n.operands.iter().any(|o| poisoned.contains(o)) =>
            {
                poisoned.insert(r)
            }
            _ => false,
        };
    }
    cx.region.outputs().iter().all(|o| poisoned.contains(&o.value))
}

fn hop(op: ReduceOp) -> HOp {
    match op {
        ReduceOp::Sum | ReduceOp::Mean => HOp::Sum,
        ReduceOp::Prod => HOp::Prod,
        ReduceOp::Max => HOp::Max,
        ReduceOp::Min => HOp::Min,
        ReduceOp::Any => HOp::Or,
        ReduceOp::All => HOp::And,
    }
}

/// Sum of a vector of integers may wrap, which `hsum` must not: it is folded lane by lane.
fn across(k: &mut Kb<'_>, op: ReduceOp, d: DType, x: &Ex, width: u32) -> Ex {
    let wraps = d.is_int() && matches!(op, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Prod);
    if width == 1 {
        return x.clone();
    }
    if !wraps {
        return x.hred(hop(op));
    }
    let x = k.let_("v", x);
    (1..width).fold(x.extract(0), |acc, i| combine(op, d, &acc, &x.extract(i)))
}

/// The larger of two numbers, neither of them NaN.
fn larger(a: &Ex, b: &Ex) -> Ex {
    b.gt(a).select(b, a)
}

/// Folds the halves of a vector of `n` elements onto each other until there are `to`.
fn halves(k: &mut Kb<'_>, x: &Ex, (mut n, to): (u32, u32), fold: &dyn Fn(&Ex, &Ex) -> Ex) -> Ex {
    let mut x = x.clone();
    while n > to {
        let v = k.let_("v", x);
        n /= 2;
        let mut half = |name: &str, from: u32| match n {
            1 => k.let_(name, v.extract(i64::from(from))),
            _ => k.let_(name, v.shufflev(&(from as u16..(from + n) as u16).collect::<Vec<_>>())),
        };
        let (low, high) = (half("low", 0), half("high", n));
        x = fold(&low, &high);
    }
    x
}

/// Row-shaped values that a sweep computes at some cost and a later sweep needs again, with the sweep.
fn kept_rows(cx: &Cx<'_>, reductions: &[&Node], inner: usize) -> Vec<(ValueId, usize)> {
    let nodes: Vec<&Node> = cx.region.order().into_iter().map(|n| cx.region.node(n)).collect();
    let level = levels(&nodes);
    let mut kept: HashMap<ValueId, usize> = HashMap::new();
    for n in reductions {
        let v = n.operands[0];
        let here = level[&n.results[0]] - 1;
        let later = nodes.iter().any(|u| {
            u.operands.contains(&v) && !std::ptr::eq(*u, *n) && (level[&u.results[0]] > here || matches!(u.op, Op::Reduce { .. }))
        });
        if inner == 1 && (later || cx.region.is_output(v)) && costly(cx, v) {
            kept.entry(v).or_insert(here);
        }
    }
    let mut kept: Vec<(ValueId, usize)> = kept.into_iter().collect();
    kept.sort();
    kept
}

/// A kept value that can lie in the output until the last sweep overwrites it: memory that has to be fetched for writing anyway is fetched
/// while something is computed. It must be the only output of that shape, whose elements are then written after all else was read.
fn home(cx: &Cx<'_>, reductions: &[&Node], inner: usize) -> Option<(ValueId, usize)> {
    let dims = &cx.region.ty(reductions.first()?.operands[0]).dims;
    let mut full = (0..cx.region.outputs().len()).filter(|&i| cx.region.ty(cx.region.outputs()[i].value).dims == *dims);
    let (output, None) = (full.next()?, full.next()) else { return None };
    let dtype = cx.region.ty(cx.region.outputs()[output].value).dtype;
    let fits = |v: ValueId| cx.region.ty(v).dtype == dtype && !dtype.is_packed();
    kept_rows(cx, reductions, inner).into_iter().map(|(v, _)| v).find(|&v| fits(v)).map(|v| (v, output))
}

fn rows(cx: &Cx<'_>, module: &mut Module, width: u32, reductions: &[&Node], inner: usize) -> Result<Built, Stop> {
    let home = home(cx, reductions, inner);
    let mut b = cx.begin_reading(module, width, home.map(|(_, output)| output));
    let Begun { k, eval, outputs } = &mut b;
    eval.lifted = super::lifted::of_region(cx.region);
    let dims = eval.dims(reductions[0].operands[0]);
    let (outer, row) = dims.split_at(dims.len() - inner);
    let (lead_dims, last) = row.split_at(inner - 1);
    let last = last[0].clone();
    if last.is(1) && width > 1 {
        return Err(Stop::NeedScalar);
    }
    let count = product(row);
    let rows = product(outer);
    let nodes: Vec<&Node> = cx.region.order().into_iter().map(|n| cx.region.node(n)).collect();
    let level = levels(&nodes);
    let top = reductions.iter().map(|n| level[&n.results[0]]).max().unwrap_or(1);

    let row_elems = count.round_up(i64::from(width));
    let kept = kept_rows(cx, reductions, inner);
    let rows_kept: Vec<_> = kept
        .iter()
        .map(|&(v, at)| match home {
            Some((own, output)) if own == v => (v, at, outputs[output], dims.len()),
            _ => (v, at, k.local("row", BufDecl::rw(eval.dtype(v), [row_elems.clone()]).align(64)), 1),
        })
        .collect();

    let run = match count.as_const() {
        Some(n) => share(&rows, (TASK_ELEMS / n.max(1)).clamp(1, TASK_ELEMS)),
        None => SymExpr::from(TASK_ELEMS).div(&count.maximum(&1.into())).maximum(&1.into()),
    };
    let grid = [rows.ceil_div(&run), 1.into(), 1.into()];
    let r0 = k.let_("r0", k.gx() * k.dim(&run));
    let r1 = (&r0 + k.dim(&run)).min(k.dim(&rows));
    let mut stop = Ok(());
    k.for_("r", r0, r1, 1, |k, r| {
        eval.open();
        let at = eval.ix.bind("r", r, rows.clone());
        let lead = name_coords(k, eval, &at, outer);
        stop = (|| {
            let mut done: Vec<(ValueId, Ex)> = Vec::new();
            for l in 0..top {
                let now: Vec<&Node> = reductions.iter().copied().filter(|n| level[&n.results[0]] == l + 1).collect();
                let keep: Vec<_> = rows_kept.iter().filter(|r| r.1 == l).map(|&(v, _, buf, rank)| (v, (buf, rank))).collect();
                let flight = in_flight(cx, now.iter().map(|n| n.operands[0]));
                let wide = if flies(&last, flight, width) { flight * width } else { width };
                let accs: Vec<Vec<Reg>> = now
                    .iter()
                    .map(|n| {
                        let d = acc_dtype(reduce_op(n), eval.dtype(n.operands[0]));
                        let zero = identity(reduce_op(n), d).typed(&Ty::Scalar(d));
                        let rest = wide > width && !flies_whole(&last, flight, width);
                        let widths = [wide].into_iter().chain(rest.then_some(width));
                        widths.map(|w| k.var("acc", zero.splat(w))).collect()
                    })
                    .collect();
                sweep(k, eval, lead_dims, (&last, flight), &lead, &mut |k, eval, coords, guard| {
                    for (n, acc) in now.iter().zip(&accs) {
                        let acc = if eval.width == wide { acc.first() } else { acc.last() };
                        let Some(acc) = acc else { continue };
                        let (v, op) = (n.operands[0], reduce_op(n));
                        let x = eval.value(k, v, coords, guard)?;
                        let x = eval.widen(&x);
                        if let Some((_, (row, rank))) = keep.iter().find(|(kv, _)| *kv == v) {
                            eval.store(k, *row, &coords[coords.len() - rank..], guard, &x)?;
                        }
                        let d = acc_dtype(op, eval.dtype(v));
                        let x = if d == eval.dtype(v) { x } else { x.cast(d) };
                        let x = match eval.mask(k, guard)? {
                            Some(m) => m.select(x, identity(op, d).typed(&Ty::Scalar(d)).splat(eval.width)),
                            None => x,
                        };
                        let old = acc.get();
                        let new = if shifts_exponentials(cx, n) { larger(&old, &x) } else { combine(op, d, &old, &x) };
                        k.set(acc, new);
                    }
                    Ok(())
                })?;
                for (n, acc) in now.iter().zip(&accs) {
                    let (from, op) = (eval.dtype(n.operands[0]), reduce_op(n));
                    let d = acc_dtype(op, from);
                    let passes_nan = shifts_exponentials(cx, n);
                    let fold = |a: &Ex, b: &Ex| if passes_nan { larger(a, b) } else { combine(op, d, a, b) };
                    let mut parts = acc.iter().map(Reg::get);
                    let first = parts.next().unwrap_or_else(|| identity(op, d));
                    let first = halves(k, &first, (wide, width), &fold);
                    let s = parts.fold(first, |a, b| fold(&a, &b));
                    let s = if passes_nan { halves(k, &s, (width, 1), &fold) } else { across(k, op, d, &s, width) };
                    let s = divide(k, op, d, s, &count);
                    let s = if d == from { s } else { s.cast(from) };
                    let s = k.let_(op.name(), s);
                    done.push((n.results[0], s));
                }
                for (v, s) in &done {
                    bind_reduced(eval, *v, &lead, s);
                }
                for (v, (row, rank)) in keep {
                    eval.bind_row(v, row, rank);
                }
            }
            let (full, reduced): (Vec<usize>, Vec<usize>) = (0..outputs.len()).partition(|&i| {
                cx.region.ty(cx.region.outputs()[i].value).dims.len() == dims.len() && eval.dims(cx.region.outputs()[i].value) == dims
            });
            for i in reduced {
                let v = cx.region.outputs()[i].value;
                let coords = reduced_coords(eval, v, &lead);
                let x = eval.value(k, v, &coords, &Vec::new())?;
                eval.store(k, outputs[i], &coords, &Vec::new(), &x)?;
            }
            if !full.is_empty() {
                let flight = in_flight(cx, full.iter().map(|&i| cx.region.outputs()[i].value));
                sweep(k, eval, lead_dims, (&last, flight), &lead, &mut |k, eval, coords, guard| {
                    for &i in &full {
                        let x = eval.value(k, cx.region.outputs()[i].value, coords, guard)?;
                        eval.store(k, outputs[i], coords, guard, &x)?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })();
        eval.forget_rows();
        eval.close();
    });
    stop?;
    let cost = (TASK_ELEMS / 4) as u32 * (1 + cx.region.len() as u32 / 4);
    Ok(finish(b, grid, cost))
}

/// One pass over a row: loops over its leading dims, vectors along its last, `flight` of them as one as far as that goes.
fn sweep<'a>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'a>,
    lead_dims: &[SymExpr],
    (last, flight): (&SymExpr, u32),
    lead: &[SymExpr],
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr], &Guard) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let Some((d, rest)) = lead_dims.split_first() else {
        let coords = |c: &SymExpr| lead.iter().cloned().chain([c.clone()]).collect::<Vec<_>>();
        let hi = k.dim(last);
        return wide_loop(k, eval, flight, (Ex::int(0), hi), last, &mut |k, eval, c, guard| body(k, eval, &coords(c), guard));
    };
    let mut stop = Ok(());
    let hi = k.dim(d);
    k.for_("j", 0, hi, 1, |k, j| {
        eval.open();
        let at = eval.ix.bind("j", j, d.clone());
        let mut lead = lead.to_vec();
        lead.push(at);
        stop = sweep(k, eval, rest, (last, flight), &lead, body);
        eval.close();
    });
    stop
}

/// One reduction over any dims: loops over results, the innermost kept dim in vectors, and inside over the reduced dims.
fn columns(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let root = cx.root(|op| matches!(op, Op::Reduce { .. } | Op::ArgReduce { .. }))?;
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let x = root.operands[0];
    let from = eval.dims(x);
    let (axes, keep) = match &root.op {
        Op::Reduce { axes, keep, .. } => (axes.clone(), *keep),
        Op::ArgReduce { axis, keep, .. } => (vec![*axis], *keep),
        _ => return Stop::no("no reduction"),
    };
    let reduced: Vec<SymExpr> = axes.iter().map(|&a| from[a as usize].clone()).collect();
    let dims = eval.dims(root.results[0]);
    let Some((last, outer)) = dims.split_last().map(|(l, o)| (l.clone(), o.to_vec())).or(Some((1.into(), Vec::new()))) else {
        return Stop::no("no result");
    };
    if width > 1 && (last.is(1) || matches!(root.op, Op::ArgReduce { .. })) {
        return Err(Stop::NeedScalar);
    }
    let rows = product(&outer);
    let count = product(&reduced);
    let per_row = &last * &count;
    let run = match per_row.as_const() {
        Some(n) => share(&rows, (TASK_ELEMS / n.max(1)).max(1)),
        None => SymExpr::from(TASK_ELEMS).div(&per_row.maximum(&1.into())).maximum(&1.into()),
    };
    let cols = SymExpr::from(256);
    let grid = [last.ceil_div(&cols), rows.ceil_div(&run), 1.into()];
    let c0 = k.let_("c0", k.gx() * 256);
    let c1 = k.let_("c1", (&c0 + 256).min(k.dim(&last)));
    let r0 = k.let_("r0", k.gy() * k.dim(&run));
    let r1 = (&r0 + k.dim(&run)).min(k.dim(&rows));
    let mut stop = Ok(());
    k.for_("r", r0, r1, 1, |k, r| {
        eval.open();
        let at = eval.ix.bind("r", r, rows.clone());
        let lead = name_coords(k, eval, &at, &outer);
        stop = vector_loop(k, eval, "c", (c0.clone(), c1.clone()), &last, &mut |k, eval, c, guard| {
            let mut coords = lead.clone();
            if !dims.is_empty() {
                coords.push(c.clone());
            }
            // Coordinates of the operand: the result's, with the reduced dims to be filled in.
            let mut inner = Vec::with_capacity(from.len());
            let mut it = coords.iter();
            for i in 0..from.len() {
                let is_reduced = axes.contains(&(i as u32));
                let own = if is_reduced && !keep { None } else { it.next().cloned() };
                inner.push(if is_reduced { 0.into() } else { own.unwrap_or_else(|| 0.into()) });
            }
            let value = match &root.op {
                Op::ArgReduce { op, last, .. } => arg_reduce(k, eval, x, axes[0] as usize, *op, *last, &inner, guard)?,
                _ => {
                    let (op, from) = (reduce_op(root), eval.dtype(x));
                    let d = acc_dtype(op, from);
                    let acc = k.var("acc", identity(op, d).typed(&Ty::Scalar(d)).splat(width));
                    over(k, eval, &axes, &reduced, &mut inner, &mut |k, eval, at| {
                        let v = eval.value(k, x, at, guard)?;
                        let v = eval.widen(&v);
                        let v = if d == from { v } else { v.cast(d) };
                        k.set(&acc, combine(op, d, &acc.get(), &v));
                        Ok(())
                    })?;
                    let s = acc.get();
                    let s = if super::collapse::divides(op) && d.is_float() {
                        let n = k.dim(&count).cast(d);
                        s / n.splat(width)
                    } else if super::collapse::divides(op) {
                        let n = k.dim(&count);
                        s.tdiv(n.max(1).cast(d).splat(width))
                    } else {
                        s
                    };
                    let s = if d == from { s } else { s.cast(from) };
                    k.let_(op.name(), s)
                }
            };
            eval.bind(root.results[0], &coords, guard, value);
            for (o, buf) in cx.region.outputs().iter().zip(outputs.iter()) {
                let at = if eval.dims(o.value) == dims { coords.clone() } else { eval.reshape(&coords, &dims, &eval.dims(o.value)) };
                let v = eval.value(k, o.value, &at, guard)?;
                eval.store(k, *buf, &at, guard, &v)?;
            }
            Ok(())
        });
        eval.close();
    });
    stop?;
    Ok(finish(b, grid, TASK_ELEMS as u32))
}

/// Loops over `axes`, filling in their coordinates.
fn over<'a>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'a>,
    axes: &[u32],
    dims: &[SymExpr],
    coords: &mut Vec<SymExpr>,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let (Some((&a, rest)), Some((d, rest_dims))) = (axes.split_first(), dims.split_first()) else {
        return body(k, eval, coords);
    };
    let mut stop = Ok(());
    let hi = k.dim(d);
    k.for_("j", 0, hi, 1, |k, j| {
        eval.open();
        coords[a as usize] = eval.ix.bind("j", j, d.clone());
        stop = over(k, eval, rest, rest_dims, coords, body);
        eval.close();
    });
    stop
}

#[allow(clippy::too_many_arguments)]
fn arg_reduce(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    x: ValueId,
    axis: usize,
    op: ArgOp,
    last: bool,
    inner: &[SymExpr],
    guard: &Guard,
) -> Result<Ex, Stop> {
    let d = eval.dtype(x);
    let n = eval.dims(x)[axis].clone();
    let first = eval.value(k, x, inner, guard)?;
    let best = k.var("best", first);
    let at = k.var("at", Ex::int(0).typed(&Ty::Scalar(DType::I64)));
    let mut coords = inner.to_vec();
    let mut stop = Ok(());
    let hi = k.dim(&n);
    k.for_("j", 1, hi, 1, |k, j| {
        eval.open();
        coords[axis] = eval.ix.bind("j", j.clone(), n.clone());
        stop = (|| {
            let v = eval.value(k, x, &coords, guard)?;
            let v = k.let_("v", v);
            let b = best.get();
            let better = match (op, last) {
                (ArgOp::Max, false) => v.gt(&b),
                (ArgOp::Max, true) => v.ge(&b),
                (ArgOp::Min, false) => v.lt(&b),
                (ArgOp::Min, true) => v.le(&b),
            };
            // NaN is the extreme of both; among equals, which NaN are, the first stays or the last wins.
            let better = match (d.is_float(), last) {
                (true, false) => (better | v.differs(&v)) & b.equals(&b),
                (true, true) => (better & b.equals(&b)) | v.differs(&v),
                (false, _) => better,
            };
            let better = k.let_("better", better);
            k.set(&best, better.select(&v, &b));
            k.set(&at, better.select(&j, at.get()));
            Ok(())
        })();
        eval.close();
    });
    stop?;
    Ok(k.let_("arg", at.get()))
}
