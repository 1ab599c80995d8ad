// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ops along one dim: running sums, the largest elements; and what is found in order.
//!
//! A group has a line. It walks it in runs of one element a lane: a running sum goes through each warp by shuffles and from warp to warp through
//! shared memory, and the last one is carried to the next run.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ReduceOp};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem, Module, Reg, ShuffleKind, Ty};
use portwright_ir::sym::SymExpr;

use super::elementwise::{combine, identity};
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, elems, groups, name_coords, near, near_lane, scatter, shuffle, store_outputs};
use crate::spec::SimtSpec;

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let root = cx.root(|op| !op.is_source() && !op.is_elementwise() && !op.is_movement())?;
    match &root.op {
        Op::Scan { .. } => scan(cx, module, root),
        Op::TopK { .. } => top_k(cx, module, root),
        Op::ScatterElements { .. } | Op::ScatterNd { .. } => scatter::build(cx, module, root),
        Op::NonZero { .. } => non_zero(cx, module, root),
        Op::GroupRows { .. } => groups::sort(cx, module, root),
        op => Stop::no(format!("`{}` as a kernel of its own", op.mnemonic())),
    }
}

/// Running results over the lanes of a group, one run after the other.
struct Running {
    op: ReduceOp,
    dtype: DType,
    /// Number of the lane among those that a shuffle reaches, and their number in the group.
    near: (Ex, Ex),
    lanes: i64,
    warps: i64,
    /// Results of the warps of a run, in two slots so that one barrier a run is enough.
    parts: Buf,
    /// Result of all runs before.
    carry: Reg,
}

impl Running {
    fn new(k: &mut Kb<'_>, op: ReduceOp, dtype: DType, group: u32, spec: &SimtSpec) -> Running {
        let (lanes, warps) = (i64::from(spec.reach()), i64::from(group / spec.reach()));
        let near = (near_lane(spec, k), near(spec, k));
        let parts = k.shared("parts", BufDecl::rw(dtype, [2.into(), warps.into()]));
        let carry = k.var("carry", identity(op, dtype).typed(&Ty::Scalar(dtype)));
        Running { op, dtype, near, lanes, warps, parts, carry }
    }
    /// The results before and with the element `v` of this lane in run number `run`, which all lanes of the group take.
    fn step(&self, k: &mut Kb<'_>, run: &Ex, v: Ex) -> (Ex, Ex) {
        let (op, d) = (self.op, self.dtype);
        let (lane, w) = self.near.clone();
        let none = identity(op, d).typed(&Ty::Scalar(d));
        let mut x = k.let_("v", v);
        let mut by = 1;
        while by < self.lanes {
            let t = shuffle(k, ShuffleKind::Up, &x, by, self.lanes as u32);
            x = k.let_("v", lane.ge(by).select(combine(op, d, &t, &x), &x));
            by *= 2;
        }
        let before = shuffle(k, ShuffleKind::Up, &x, 1, self.lanes as u32);
        let before = k.let_("before", lane.equals(0).select(&none, before));
        let slot = k.let_("slot", run % 2);
        k.if_(lane.equals(self.lanes - 1), |k| {
            k.store(Mem::new(self.parts, vec![(slot.clone(), 1), (w.clone(), 1)]), x.clone());
        });
        k.barrier(Level::Group);
        let base = k.var("base", self.carry.get());
        let mut total = k.let_("total", self.carry.get());
        for i in 0..self.warps {
            let part = k.load("part", Mem::new(self.parts, vec![(slot.clone(), 1), (i.into(), 1)]));
            let earlier = w.gt(i);
            k.set(&base, earlier.select(combine(op, d, &base.get(), &part), base.get()));
            total = k.let_("total", combine(op, d, &total, &part));
        }
        k.set(&self.carry, total);
        let (upto, with) = (combine(op, d, &base.get(), &before), combine(op, d, &base.get(), &x));
        (k.let_("before", upto), k.let_("after", with))
    }
}

/// Begins a kernel in which group `gx` has the line at the coordinates that it gives, with 0 along `axis`.
fn line(k: &mut Kb<'_>, eval: &mut Eval<'_>, dims: &[SymExpr], axis: usize) -> (Vec<SymExpr>, SymExpr) {
    let others: Vec<SymExpr> = dims.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| d.clone()).collect();
    let lines = elems(&others);
    let l = eval.ix.bind("l", k.gx(), lines.clone());
    let mut coords = name_coords(k, eval, &l, &others);
    coords.insert(axis.min(coords.len()), 0.into());
    (coords, lines)
}

fn scan(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let Op::Scan { op, axis, exclusive, reverse } = &root.op else { return Stop::no("no scan") };
    let mut b = cx.begin(module, 1);
    let (x, axis) = (root.operands[0], *axis as usize);
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let (dims, d) = (eval.dims(x), eval.dtype(x));
    let n = dims[axis].clone();
    let group = cx.spec.group(n.as_const());
    k.group(group, cx.spec.lanes);
    let (coords, lines) = line(k, eval, &dims, axis);
    let running = Running::new(k, *op, d, group, cx.spec);
    let (hi, group) = (k.dim(&n), i64::from(group));
    let runs = k.dim(&n.ceil_div(&group.into()));
    let mut stop = Ok(());
    k.for_("run", 0, runs, 1, |k, run| {
        eval.open();
        stop = (|| {
            let e = k.let_("e", &run * group + k.lane());
            let inside = k.let_("inside", e.lt(&hi));
            let i = if *reverse { k.let_("i", &hi - 1 - &e) } else { e.clone() };
            let mut at = coords.clone();
            at[axis] = eval.ix.bind("i", i, n.clone());
            // Walked from either end, what is beyond the other one is not there.
            let guard = vec![(eval.ix.bind("e", e, n.clone()), n.clone())];
            let v = eval.value(k, x, &at, &guard)?;
            let v = inside.select(v, identity(*op, d).typed(&Ty::Scalar(d)));
            let (before, after) = running.step(k, &run, v);
            eval.bind(root.results[0], &at, &guard, if *exclusive { before } else { after });
            store_outputs(cx, &outputs, k, eval, &dims, &at, &guard)
        })();
        eval.close();
    });
    stop?;
    Ok(done(b, lines))
}

/// `k` rounds, each finding what comes next after the last one in order of (value, index).
fn top_k(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let Op::TopK { axis, k: count, largest } = &root.op else { return Stop::no("no top_k") };
    let mut b = cx.begin(module, 1);
    let (x, axis) = (root.operands[0], *axis as usize);
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let (dims, d) = (eval.dims(x), eval.dtype(x));
    let (n, count) = (dims[axis].clone(), eval.syms.to_kernel(count));
    let results = eval.dims(root.results[0]);
    let group = cx.spec.group(n.as_const());
    k.group(group, cx.spec.lanes);
    let (coords, lines) = line(k, eval, &dims, axis);
    let order = Order { largest: *largest, dtype: d };
    let (reach, warps) = (cx.spec.reach(), i64::from(group / cx.spec.reach()));
    let index = k.index();
    let shared = (warps > 1).then(|| {
        let decl = |d: DType| BufDecl::rw(d, [2.into(), warps.into()]);
        (k.shared("bestv", decl(d)), k.shared("besti", decl(index)))
    });
    let zero = Ex::lit(DType::I32, 0.0).cast(d);
    let none = || Ex::from(-1).typed(&Ty::Scalar(index));
    let last = [k.var("lastv", zero.clone()), k.var("lasti", none())];
    let (hi, rounds) = (k.dim(&n), k.dim(&count));
    let mut stop = Ok(());
    k.for_("j", 0, rounds, 1, |k, j| {
        eval.open();
        stop = (|| {
            let best = [k.var("bv", zero.clone()), k.var("bi", none())];
            let mut inner = Ok(());
            let first = k.lane();
            k.for_("i", first, &hi, i64::from(group), |k, i| {
                eval.open();
                inner = (|| {
                    let mut at = coords.clone();
                    at[axis] = eval.ix.bind("i", i.clone(), n.clone());
                    let v = eval.value(k, x, &at, &Guard::new())?;
                    let v = k.let_("v", v);
                    let fresh = last[1].get().lt(0) | order.before(&last[0].get(), &last[1].get(), &v, &i);
                    let better = best[1].get().lt(0) | order.before(&v, &i, &best[0].get(), &best[1].get());
                    let take = k.let_("take", fresh & better);
                    k.set(&best[0], take.select(&v, best[0].get()));
                    k.set(&best[1], take.select(&i, best[1].get()));
                    Ok(())
                })();
                eval.close();
            });
            inner?;
            let mut by = i64::from(reach) / 2;
            while by > 0 {
                let v = shuffle(k, ShuffleKind::Xor, &best[0].get(), by, reach);
                let i = shuffle(k, ShuffleKind::Xor, &best[1].get(), by, reach);
                order.better(k, &best, &v, &i);
                by /= 2;
            }
            if let Some((values, places)) = shared {
                let slot = k.let_("slot", &j % 2);
                let w = near(cx.spec, k);
                k.if_(near_lane(cx.spec, k).equals(0), |k| {
                    for (buf, x) in [(values, &best[0]), (places, &best[1])] {
                        k.store(Mem::new(buf, vec![(slot.clone(), 1), (w.clone(), 1)]), x.get());
                    }
                });
                k.barrier(Level::Group);
                for w in 0..warps {
                    let v = k.load("v", Mem::new(values, vec![(slot.clone(), 1), (w.into(), 1)]));
                    let i = k.load("i", Mem::new(places, vec![(slot.clone(), 1), (w.into(), 1)]));
                    order.better(k, &best, &v, &i);
                }
            }
            k.set(&last[0], best[0].get());
            k.set(&last[1], best[1].get());
            let mut inner = Ok(());
            k.if_(k.lane().equals(0), |k| {
                eval.open();
                let mut at = coords.clone();
                at[axis] = eval.ix.bind("j", j.clone(), count.clone());
                let (v, i) = (k.let_("v", last[0].get()), k.let_("i", last[1].get().max(0).cast(DType::I64)));
                eval.bind(root.results[0], &at, &Guard::new(), v);
                eval.bind(root.results[1], &at, &Guard::new(), i);
                inner = store_outputs(cx, &outputs, k, eval, &results, &at, &Guard::new());
                eval.close();
            });
            inner
        })();
        eval.close();
    });
    stop?;
    Ok(done(b, lines))
}

/// In which order elements are picked: NaN comes first among the largest and last among the smallest; the earlier of equal ones is first.
#[derive(Copy, Clone)]
struct Order {
    largest: bool,
    dtype: DType,
}

impl Order {
    /// Whether the element `a` at `ai` comes before `b` at `bi`.
    fn before(&self, a: &Ex, ai: &Ex, b: &Ex, bi: &Ex) -> Ex {
        let float = self.dtype.is_float();
        let nan = |e: &Ex| if float { e.differs(e) } else { Ex::from(false) };
        let beats = if self.largest { a.gt(b) | (nan(a) & !nan(b)) } else { a.lt(b) | (nan(b) & !nan(a)) };
        let ties = if float { a.equals(b) | (nan(a) & nan(b)) } else { a.equals(b) };
        beats | (ties & ai.lt(bi))
    }
    /// Keeps the better one; an index below 0 is none.
    fn better(&self, k: &mut Kb<'_>, best: &[Reg; 2], v: &Ex, i: &Ex) {
        let (bv, bi) = (best[0].get(), best[1].get());
        let take = k.let_("take", i.ge(0) & (bi.lt(0) | self.before(v, i, &bv, &bi)));
        k.set(&best[0], take.select(v, &bv));
        k.set(&best[1], take.select(i, &bi));
    }
}

/// Writes the coordinates of what is not zero, in order; how many there are is known before.
fn non_zero(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    if cx.region.outputs().iter().any(|o| o.value != root.results[0]) {
        return Stop::no("work behind `non_zero` in its kernel");
    }
    let mut b = cx.begin(module, 1);
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let x = root.operands[0];
    let (dims, d) = (eval.dims(x), eval.dtype(x));
    let found = eval.dims(root.results[0]).pop().unwrap_or_else(|| 1.into());
    let n = elems(&dims);
    let group = cx.spec.group(n.as_const());
    k.group(group, cx.spec.lanes);
    let index = k.index();
    let running = Running::new(k, ReduceOp::Sum, index, group, cx.spec);
    let (hi, group) = (k.dim(&n), i64::from(group));
    let runs = k.dim(&n.ceil_div(&group.into()));
    let mut stop = Ok(());
    k.for_("run", 0, runs, 1, |k, run| {
        eval.open();
        stop = (|| {
            let e = k.let_("e", &run * group + k.lane());
            let inside = k.let_("inside", e.lt(&hi));
            let e = eval.ix.bind("e", e, n.clone());
            let at = name_coords(k, eval, &e, &dims);
            let guard = vec![(e, n.clone())];
            let v = eval.value(k, x, &at, &guard)?;
            let is = if d == DType::Bool { v } else { v.differs(Ex::lit(DType::I32, 0.0).cast(d)) };
            let is = k.let_("is", inside & is);
            let one = is.select(Ex::from(1).typed(&Ty::Scalar(index)), Ex::from(0).typed(&Ty::Scalar(index)));
            let (place, _) = running.step(k, &run, one);
            let mut inner = Ok(());
            k.if_(is, |k| {
                eval.open();
                let place = eval.ix.bind("place", place.clone(), found.clone());
                for (i, c) in at.iter().enumerate() {
                    let c = eval.ix.emit(k, c).cast(DType::I64);
                    inner = outputs.iter().try_for_each(|o| eval.store(k, *o, &[(i as i64).into(), place.clone()], &Guard::new(), &c));
                }
                eval.close();
            });
            inner
        })();
        eval.close();
    });
    stop?;
    Ok(done(b, 1.into()))
}
