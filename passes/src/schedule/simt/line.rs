// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ops along one dim: running sums, the largest elements; and what is found in order.
//!
//! A group has a line. It walks it in runs of one element a lane: a running sum goes through each warp by shuffles and from warp to warp through
//! shared memory, and the last one is carried to the next run.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ReduceOp, ValueId};
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

/// `k` rounds: each lane has the best of its elements that are left, the best of all is taken, and the lane that had it looks for its next one.
/// A row of a known, moderate length stays in registers, so memory is read once; of others a round reads again what one lane has.
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
    let row = Row::new(k, eval, x, &coords, axis, &n, i64::from(group))?;
    let zero = Ex::lit(DType::I32, 0.0).cast(d);
    let none = || Ex::from(-1).typed(&Ty::Scalar(index));
    let own = [k.var("ownv", zero), k.var("owni", none())];
    let rounds = k.dim(&count);
    row.each(k, eval, &mut |k, v, i| order.better(k, &own, v, i))?;
    let mut stop = Ok(());
    k.for_("j", 0, rounds, 1, |k, j| {
        eval.open();
        stop = (|| {
            let best = [k.var("bv", own[0].get()), k.var("bi", own[1].get())];
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
            let (last, place) = (k.let_("lastv", best[0].get()), k.let_("lasti", best[1].get()));
            let mut inner = Ok(());
            k.if_(k.lane().equals(0), |k| {
                eval.open();
                let mut at = coords.clone();
                at[axis] = eval.ix.bind("j", j.clone(), count.clone());
                let i = k.let_("i", place.max(0).cast(DType::I64));
                eval.bind(root.results[0], &at, &Guard::new(), last.clone());
                eval.bind(root.results[1], &at, &Guard::new(), i);
                inner = store_outputs(cx, &outputs, k, eval, &results, &at, &Guard::new());
                eval.close();
            });
            inner?;
            let mut inner = Ok(());
            k.if_(own[1].get().equals(&place), |k| {
                k.set(&own[1], none());
                inner = row.each(k, eval, &mut |k, v, i| {
                    let left = order.before(&last, &place, v, i);
                    let i = k.let_("i", left.select(i, none()));
                    order.better(k, &own, v, &i);
                });
            });
            inner
        })();
        eval.close();
    });
    stop?;
    Ok(done(b, lines))
}

/// Words of a row that a lane may hold in registers.
const HELD: i64 = 32;

/// The elements of a line that a lane has: every so many-th.
struct Row<'c> {
    x: ValueId,
    coords: &'c [SymExpr],
    axis: usize,
    n: &'c SymExpr,
    group: i64,
    /// All of them, where they are few.
    held: Option<(Reg, i64)>,
}

impl<'c> Row<'c> {
    /// Loads what is held.
    fn new(
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        x: ValueId,
        coords: &'c [SymExpr],
        axis: usize,
        n: &'c SymExpr,
        group: i64,
    ) -> Result<Row<'c>, Stop> {
        let d = eval.dtype(x);
        let words = i64::from(d.bits().div_ceil(32)).max(1);
        let each = n.as_const().map(|n| (n + group - 1) / group).filter(|each| each * words <= HELD);
        let mut row = Row { x, coords, axis, n, group, held: None };
        if let Some(each) = each {
            let all = k.var_array("x", &[each as u32], Ex::lit(DType::I32, 0.0).cast(d));
            for u in 0..each {
                let e = k.let_("e", k.lane() + u * group);
                let v = row.load(k, eval, &e, (u + 1) * group)?;
                k.set(&all.at([Ex::from(u)]), v);
            }
            row.held = Some((all, each));
        }
        Ok(row)
    }
    /// The element at `e`, of which there are up to `upto`; anything where there is none.
    fn load(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, e: &Ex, upto: i64) -> Result<Ex, Stop> {
        let at = eval.ix.bind("e", e.clone(), self.n.clone());
        let whole = self.n.as_const().is_some_and(|n| upto <= n);
        let guard = if whole { Guard::new() } else { vec![(at.clone(), self.n.clone())] };
        let mut coords = self.coords.to_vec();
        coords[self.axis] = at;
        let v = eval.value(k, self.x, &coords, &guard)?;
        Ok(k.let_("v", v))
    }
    /// Visits each element with its place, which is below 0 where there is none.
    fn each(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, body: &mut dyn FnMut(&mut Kb<'_>, &Ex, &Ex)) -> Result<(), Stop> {
        let hi = k.dim(self.n);
        if let Some((all, each)) = &self.held {
            k.unroll("u", 0, *each, |k, u| {
                let v = k.let_("v", all.at([u.clone()]).get());
                let i = k.let_("i", k.lane() + u * self.group);
                let i = match self.n.divisible_by(self.group, &|_| 1) {
                    true => i,
                    false => k.let_("i", i.lt(&hi).select(&i, Ex::from(-1).typed(&Ty::Scalar(k.index())))),
                };
                body(k, &v, &i);
            });
            return Ok(());
        }
        let mut stop = Ok(());
        k.for_("i", k.lane(), hi, self.group, |k, i| {
            eval.open();
            stop = self.load(k, eval, &i, 0).map(|v| body(k, &v, &i));
            eval.close();
        });
        stop
    }
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
