// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ops that are a kernel of their own: running sums, the largest elements, scattered updates.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ReduceOp, ScatterOp};
use portwright_ir::kernel::{BufDecl, Ex, Kb, Module, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::elementwise::{combine, identity};
use super::eval::{Eval, Guard, Stop};
use super::index::row_of;
use super::{Begun, Built, Cx, TASK_ELEMS, finish, groups, name_coords};

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    if width > 1 {
        return Err(Stop::NeedScalar);
    }
    let root = cx.root(|op| !op.is_source() && !op.is_elementwise() && !op.is_movement())?;
    match &root.op {
        Op::Scan { .. } => scan(cx, module, root),
        Op::TopK { .. } => top_k(cx, module, root),
        Op::ScatterElements { .. } | Op::ScatterNd { .. } => scatter(cx, module, root),
        Op::NonZero { .. } => non_zero(cx, module, root),
        Op::GroupRows { .. } => groups::sort(cx, module, root),
        op => Stop::no(format!("`{}` as a kernel of its own", op.mnemonic())),
    }
}

/// One task a few lines along `axis`; the body gets the line's coordinates, with 0 along the axis.
fn lines<'a>(
    b: &mut Begun<'a, '_>,
    dims: &[SymExpr],
    axis: usize,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr]) -> Result<(), Stop>,
) -> Result<[SymExpr; 3], Stop> {
    let Begun { k, eval, .. } = b;
    let others: Vec<SymExpr> = dims.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| d.clone()).collect();
    let count = product(&others);
    let run = match dims[axis].as_const() {
        Some(n) => SymExpr::from((TASK_ELEMS / n.max(1)).max(1)),
        None => 1.into(),
    };
    let l0 = k.let_("l0", k.gx() * k.dim(&run));
    let l1 = (&l0 + k.dim(&run)).min(k.dim(&count));
    let mut stop = Ok(());
    k.for_("l", l0, l1, 1, |k, l| {
        eval.open();
        let l = eval.ix.bind("l", l, count.clone());
        let mut coords = name_coords(k, eval, &l, &others);
        coords.insert(axis, 0.into());
        stop = body(k, eval, &coords);
        eval.close();
    });
    stop?;
    Ok([count.ceil_div(&run), 1.into(), 1.into()])
}

fn scan(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let Op::Scan { op, axis, exclusive, reverse } = &root.op else { return Stop::no("no scan") };
    let mut b = cx.begin(module, 1);
    let (x, axis) = (root.operands[0], *axis as usize);
    let (dims, d) = (b.eval.dims(x), b.eval.dtype(x));
    let n = dims[axis].clone();
    let outputs = b.outputs.clone();
    let grid = lines(&mut b, &dims, axis, &mut |k, eval, line| {
        let acc = k.var("acc", identity(*op, d).typed(&Ty::Scalar(d)));
        let hi = k.dim(&n);
        let mut stop = Ok(());
        k.for_("i", 0, &hi, 1, |k, i| {
            eval.open();
            stop = (|| {
                let i = if *reverse { k.let_("i", &hi - 1 - i) } else { i };
                let mut at = line.to_vec();
                at[axis] = eval.ix.bind("i", i, n.clone());
                let v = eval.value(k, x, &at, &Guard::new())?;
                let before = k.let_("before", acc.get());
                let after = combine(*op, d, &before, &v);
                let after = k.let_("after", after);
                k.set(&acc, &after);
                eval.bind(root.results[0], &at, &Guard::new(), if *exclusive { before } else { after });
                for (o, buf) in cx.region.outputs().iter().zip(&outputs) {
                    let v = eval.value(k, o.value, &at, &Guard::new())?;
                    eval.store(k, *buf, &at, &Guard::new(), &v)?;
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    })?;
    Ok(finish(b, grid, TASK_ELEMS as u32))
}

/// `k` rounds, each finding what comes next after the last one in order of (value, index).
fn top_k(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let Op::TopK { axis, k: count, largest } = &root.op else { return Stop::no("no top_k") };
    let mut b = cx.begin(module, 1);
    let (x, axis) = (root.operands[0], *axis as usize);
    let (dims, d) = (b.eval.dims(x), b.eval.dtype(x));
    let (n, count) = (dims[axis].clone(), b.eval.syms.to_kernel(count));
    let outputs = b.outputs.clone();
    let index = |v: i64| Ex::from(v).typed(&Ty::Scalar(DType::I64));
    let row = b.k.local("row", BufDecl::rw(d, [n.clone()]));
    let grid = lines(&mut b, &dims, axis, &mut |k, eval, line| {
        let hi = k.dim(&n);
        let mut stop = Ok(());
        k.for_("i", 0, &hi, 1, |k, i| {
            eval.open();
            stop = (|| {
                let mut at = line.to_vec();
                at[axis] = eval.ix.bind("i", i, n.clone());
                let v = eval.value(k, x, &at, &Guard::new())?;
                eval.store(k, row, &at[axis..=axis], &Guard::new(), &v)
            })();
            eval.close();
        });
        stop?;
        let last_v = k.var("lastv", Ex::int(0).typed(&Ty::Scalar(DType::I64)).cast(d));
        let last_i = k.var("lasti", index(-1));
        let rounds = k.dim(&count);
        let mut stop = Ok(());
        k.for_("j", 0, rounds, 1, |k, j| {
            eval.open();
            stop = (|| {
                let best_v = k.var("bestv", last_v.get());
                let best_i = k.var("besti", index(-1));
                let mut inner = Ok(());
                k.for_("i", 0, &hi, 1, |k, i| {
                    eval.open();
                    inner = (|| {
                        let at = eval.ix.bind("i", i.clone(), n.clone());
                        let v = eval.load(k, "v", row, &[at], &Guard::new())?;
                        // `before(a, b)`: a comes before b; NaN comes first among the largest and last among the smallest.
                        let before = |a: &Ex, ai: &Ex, b: &Ex, bi: &Ex| {
                            let nan = |e: &Ex| if d.is_float() { e.differs(e) } else { Ex::from(false) };
                            let beats = if *largest { a.gt(b) | (nan(a) & !nan(b)) } else { a.lt(b) | (nan(b) & !nan(a)) };
                            let ties = if d.is_float() { a.equals(b) | (nan(a) & nan(b)) } else { a.equals(b) };
                            beats | (ties & ai.lt(bi))
                        };
                        let first = last_i.get().lt(0);
                        let fresh = k.let_("fresh", first | before(&last_v.get(), &last_i.get(), &v, &i));
                        let none = best_i.get().lt(0);
                        let better = k.let_("better", fresh & (none | before(&v, &i, &best_v.get(), &best_i.get())));
                        k.set(&best_v, better.select(&v, best_v.get()));
                        k.set(&best_i, better.select(&i, best_i.get()));
                        Ok(())
                    })();
                    eval.close();
                });
                inner?;
                k.set(&last_v, best_v.get());
                k.set(&last_i, best_i.get());
                let mut at = line.to_vec();
                at[axis] = eval.ix.bind("j", j, count.clone());
                let (v, i) = (k.let_("v", best_v.get()), k.let_("i", best_i.get().max(0)));
                eval.bind(root.results[0], &at, &Guard::new(), v);
                eval.bind(root.results[1], &at, &Guard::new(), i);
                for (o, buf) in cx.region.outputs().iter().zip(&outputs) {
                    let v = eval.value(k, o.value, &at, &Guard::new())?;
                    eval.store(k, *buf, &at, &Guard::new(), &v)?;
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    })?;
    Ok(finish(b, grid, TASK_ELEMS as u32 * 4))
}

/// A copy, then the updates in order, by one task: updates may meet the same element.
fn scatter(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let mut b = cx.begin(module, 1);
    let Begun { k, eval, outputs } = &mut b;
    let (x, indices, updates) = (root.operands[0], root.operands[1], root.operands[2]);
    let [out] = outputs[..] else { return Stop::no("a scatter with an epilogue") };
    if cx.region.outputs()[0].value != root.results[0] {
        return Stop::no("a scatter with an epilogue");
    }
    let (dims, index_dims, update_dims) = (eval.dims(x), eval.dims(indices), eval.dims(updates));
    let d = eval.dtype(x);
    each(k, eval, &dims, &mut |k, eval, at| {
        let v = eval.value(k, x, at, &Guard::new())?;
        eval.store(k, out, at, &Guard::new(), &v)
    })?;
    let op = match &root.op {
        Op::ScatterElements { op, .. } | Op::ScatterNd { op } => *op,
        _ => ScatterOp::Set,
    };
    each(k, eval, &update_dims, &mut |k, eval, at| {
        let mut to = at.to_vec();
        let row = |k: &mut Kb<'_>, eval: &mut Eval<'_>, index_at: &[SymExpr], end: &SymExpr| -> Result<SymExpr, Stop> {
            let i = eval.value(k, indices, index_at, &Guard::new())?;
            let n = k.dim(end);
            let position = index_at.iter().zip(&index_dims).fold(SymExpr::from(0), |l, (c, d)| &(&l * d) + c);
            let position = eval.ix.emit(k, &position);
            let row = row_of(k, &i, n, &position);
            Ok(eval.ix.bind("g", row, end.clone()))
        };
        match &root.op {
            Op::ScatterElements { axis, .. } => {
                let a = *axis as usize;
                to[a] = row(k, eval, at, &dims[a])?;
            }
            _ => {
                let lead = index_dims.len() - 1;
                let Some(depth) = index_dims[lead].as_const() else { return Stop::no("scatter_nd with a dynamic index length") };
                let mut place = Vec::new();
                for j in 0..depth {
                    let mut index_at = at[..lead].to_vec();
                    index_at.push(j.into());
                    place.push(row(k, eval, &index_at, &dims[j as usize])?);
                }
                place.extend_from_slice(&at[lead..]);
                to = place;
            }
        }
        let u = eval.value(k, updates, at, &Guard::new())?;
        let v = if op == ScatterOp::Set {
            u
        } else {
            let old = eval.load(k, "old", out, &to, &Guard::new())?;
            let op = match op {
                ScatterOp::Mul => ReduceOp::Prod,
                ScatterOp::Min => ReduceOp::Min,
                ScatterOp::Max => ReduceOp::Max,
                _ => ReduceOp::Sum,
            };
            combine(op, d, &old, &u)
        };
        eval.store(k, out, &to, &Guard::new(), &v)
    })?;
    Ok(finish(b, [1.into(), 1.into(), 1.into()], TASK_ELEMS as u32))
}

/// Writes the coordinates of what is not zero, in order; how many there are is known before.
fn non_zero(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let mut b = cx.begin(module, 1);
    let Begun { k, eval, outputs } = &mut b;
    let x = root.operands[0];
    let (dims, d) = (eval.dims(x), eval.dtype(x));
    let total = eval.dims(root.results[0]).pop().unwrap_or_else(|| 1.into());
    let Some(out) = outputs.first().copied() else { return Stop::no("a region without outputs") };
    if cx.region.outputs().iter().any(|o| o.value != root.results[0]) {
        return Stop::no("work behind `non_zero` in its kernel");
    }
    let found = k.var("found", Ex::int(0).typed(&Ty::Scalar(DType::I64)));
    each(k, eval, &dims, &mut |k, eval, at| {
        let v = eval.value(k, x, at, &Guard::new())?;
        let is = if d == DType::Bool { v } else { v.differs(Ex::lit(d, 0.0)) };
        let mut stop = Ok(());
        k.if_(is, |k| {
            eval.open();
            let place = k.let_("place", found.get());
            let place = eval.ix.bind("place", place, total.clone());
            for (i, c) in at.iter().enumerate() {
                let c = eval.ix.emit(k, c);
                stop = eval.store(k, out, &[(i as i64).into(), place.clone()], &Guard::new(), &c);
            }
            k.set(&found, found.get() + 1);
            eval.close();
        });
        stop
    })?;
    Ok(finish(b, [1.into(), 1.into(), 1.into()], TASK_ELEMS as u32))
}

/// Loops over all elements of `dims`.
fn each<'a>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'a>,
    dims: &[SymExpr],
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    fn go<'a>(
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        dims: &[SymExpr],
        at: &mut Vec<SymExpr>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if at.len() == dims.len() {
            let at = at.clone();
            return body(k, eval, &at);
        }
        let d = dims[at.len()].clone();
        let mut stop = Ok(());
        let hi = k.dim(&d);
        k.for_("e", 0, hi, 1, |k, e| {
            eval.open();
            let e = eval.ix.bind("e", e, d.clone());
            at.push(e);
            stop = go(k, eval, dims, at, body);
            at.pop();
            eval.close();
        });
        stop
    }
    go(k, eval, dims, &mut Vec::new(), body)
}
