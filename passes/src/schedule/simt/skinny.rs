// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products with few rows, or few columns: the other operand is read once, at the rate of memory.
//!
//! Where that operand runs along the summed dims, lanes share the sum of one of its rows with all of the few, and meet by shuffles. Where it runs
//! along its own dims, lanes have neighbors of it, the warps of a group share the sum, and meet in shared memory in the order of warps.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{ReduceOp, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem, Reg};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::gemm::{Dims, Made, extents, finish, operand, step, total};
use super::problem::{At, OperandAt, Problem};
use super::reduce::{Fold, Sweep, Team};
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, elems, name_coords, vector, warp, warp_lane};

/// Rows (or columns) that are few.
const FEW: i64 = 8;

/// Summed coordinates below which a lane sums alone.
const SHORT: i64 = 64;

/// One operand.
#[derive(Copy, Clone)]
struct Side<'s> {
    v: ValueId,
    at: &'s OperandAt<'s>,
    made: Option<&'s Made<'s>>,
    dims: &'s Dims,
}

impl Side<'_> {
    fn load(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, p: &Problem<'_>, at: &At, guard: &Guard) -> Result<Ex, Stop> {
        operand(k, eval, p, (self.v, self.at, self.made), at, guard)
    }
    /// Whether vectors of `w` along the last of `along` are whole in memory.
    fn runs(&self, cx: &Cx<'_>, eval: &mut Eval<'_>, p: &Problem<'_>, along: &Dims, w: i64) -> bool {
        let Some(last) = along.last() else { return false };
        if self.made.is_some() || !vector::divides(cx, eval, &last.1, w) {
            return false;
        }
        let before = eval.width;
        eval.set_width(w.max(2) as u32);
        let mut c = At::default();
        for d in p.batch.iter().chain(&p.m).chain(&p.n).chain(&p.k) {
            let x = eval.ix.bind("p", 0.into(), d.1.clone());
            c = c.with(std::slice::from_ref(d), &[if d.0 == last.0 { x * w + lane() } else { x }]);
        }
        let (coords, guard) = (self.at)(eval, &c);
        let ok = guard.is_empty() && if w > 1 { vector::loads(cx, eval, self.v, &coords, w) } else { eval.is_contiguous(self.v, &coords) };
        eval.set_width(before);
        ok
    }
}

/// Which operand is few, and how the other one is read.
pub(super) struct Form {
    /// Whether it is the left one that is few.
    left: bool,
    rows: i64,
    /// Whether the other one runs along the summed dims.
    along_depth: bool,
    width: i64,
}

/// The form of a problem; `None` if neither operand is few, or sums are short.
pub(super) fn form(cx: &Cx<'_>, eval: &mut Eval<'_>, p: &Problem<'_>, made: Option<&Made<'_>>) -> Option<Form> {
    let few = |d: &Dims| total(d).as_const().filter(|n| (1..=FEW).contains(n));
    let (left, rows) = few(&p.m).map(|n| (true, n)).or(few(&p.n).map(|n| (false, n)))?;
    if total(&p.k).as_const().is_some_and(|n| n < SHORT) {
        return None;
    }
    let (few, many) = sides(p, left, made);
    let widest = i64::from([few.v, many.v].iter().map(|&v| cx.spec.vector(eval.dtype(v))).min().unwrap_or(1)).min(4);
    let mut w = widest;
    while w >= 1 {
        if many.runs(cx, eval, p, &p.k, w) && (w == 1 || few.runs(cx, eval, p, &p.k, w)) {
            return Some(Form { left, rows, along_depth: true, width: w });
        }
        w /= 2;
    }
    if many.made.is_some() {
        return Some(Form { left, rows, along_depth: true, width: 1 });
    }
    many.runs(cx, eval, p, many.dims, 1).then_some(Form { left, rows, along_depth: false, width: 1 })
}

/// The few operand and the other one.
fn sides<'s>(p: &'s Problem<'_>, left: bool, made: Option<&'s Made<'s>>) -> (Side<'s>, Side<'s>) {
    let lhs = Side { v: p.lhs, at: &p.lhs_at, made: None, dims: &p.m };
    let rhs = Side { v: p.rhs, at: &p.rhs_at, made, dims: &p.n };
    if left { (lhs, rhs) } else { (rhs, lhs) }
}

/// Coordinates of row `r` of the few.
fn few_at(eval: &Eval<'_>, few: &Side<'_>, at: &At, r: i64) -> At {
    let coords = eval.ix.delinearize(&r.into(), &extents(few.dims));
    at.with(few.dims, &coords)
}

/// Builds the kernel.
pub(super) fn build<'a>(cx: &Cx<'a>, b: Begun<'a, '_>, p: &Problem<'_>, made: Option<&Made<'_>>, f: &Form) -> Result<Built, Stop> {
    let (few, many) = sides(p, f.left, made);
    if f.along_depth { sums(cx, b, p, (&few, &many), f) } else { columns(cx, b, p, (&few, &many), f) }
}

/// Batch elements and the dims of the other operand: what there is a sum for, of each of the few.
fn results<'d>(p: &'d Problem<'_>, many: &Side<'d>) -> Vec<(char, SymExpr)> {
    p.batch.iter().chain(many.dims).cloned().collect()
}

fn sums<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: &Problem<'_>, (few, many): (&Side<'_>, &Side<'_>), f: &Form) -> Result<Built, Stop> {
    let dims = results(p, many);
    let (sizes, count) = (extents(&dims), total(&p.k));
    let outputs = b.outputs.clone();
    let fold = Fold::Number(ReduceOp::Sum, p.acc);
    let Begun { k, eval, .. } = &mut b;
    let most = eval.ix.bounds(&count).1;
    let team = Team::of(cx, &count, most, f.width as u32);
    let place = team.lane(k);
    // Some neighbors at once, so that the few are read once for all of them, where enough warps are left.
    let all = elems(&sizes);
    let last = sizes.last().cloned().unwrap_or_else(|| 1.into());
    let enough = |n: i64| all.as_const().is_some_and(|a| a / n >= i64::from(cx.spec.busy)) && vector::divides(cx, eval, &last, n);
    let together = [16, 8, 4, 2].into_iter().find(|n| n * f.rows <= 16 && enough(*n)).unwrap_or(1);
    let mut counted = sizes.clone();
    if let Some(last) = counted.last_mut() {
        *last = last.div(&together.into());
    }
    let groups = team.each_row(k, eval, &elems(&counted), &mut |k, eval, row, own| {
        let mut coords = name_coords(k, eval, row, &counted);
        if let Some(last) = coords.last_mut() {
            *last = last.clone() * together;
        }
        let at_of = |u: i64| {
            let mut c = coords.clone();
            if let Some(last) = c.last_mut() {
                *last = last.clone() + u;
            }
            At::default().with(&dims, &c)
        };
        eval.set_width(f.width as u32);
        let sweep = Sweep::held(k, eval, &extents(&p.k), f.width as u32, &team, place.clone(), 8);
        let accs: Vec<Vec<Reg>> = (0..f.rows * together).map(|_| fold.vars(k, f.width as u32)).collect();
        sweep.run(k, eval, &mut |k, eval, _, ks, guard| {
            let mut xs = Vec::new();
            for u in 0..together {
                let x = many.load(k, eval, p, &at_of(u).with(&p.k, ks), guard)?;
                xs.push(k.let_("x", x));
            }
            for r in 0..f.rows {
                let at = few_at(eval, few, &at_of(0).with(&p.k, ks), r);
                let y = few.load(k, eval, p, &at, guard)?;
                let y = if together > 1 { k.let_("y", y) } else { y };
                for (u, x) in xs.iter().enumerate() {
                    let Some(acc) = accs.get(u * f.rows as usize + r as usize).and_then(|a| a.first()) else { continue };
                    let (l, r) = if f.left { (&y, x) } else { (x, &y) };
                    k.set(acc, step(p.acc, l, r, &acc.get()));
                }
            }
            Ok(())
        })?;
        eval.set_width(1);
        let mut whole = Vec::new();
        for acc in &accs {
            let shared = team.shared(k, &fold.dtypes());
            let parts = fold.narrow(k, acc, f.width as u32);
            whole.push(team.meet(k, &parts, &shared, &fold));
        }
        let first = place.equals(0);
        let mut stop = Ok(());
        k.if_(own.map_or(first.clone(), |own| own & first), |k| {
            eval.open();
            stop = whole.iter().enumerate().try_for_each(|(i, sum)| {
                let at = few_at(eval, few, &at_of(i as i64 / f.rows), i as i64 % f.rows);
                let sum = sum.first().cloned().unwrap_or(Ex::float(0.0));
                finish(cx, &outputs, k, eval, p, &at, sum, &Guard::new())
            });
            eval.close();
        });
        stop
    })?;
    Ok(done(b, groups))
}

fn columns<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: &Problem<'_>, (few, many): (&Side<'_>, &Side<'_>), f: &Form) -> Result<Built, Stop> {
    let dims = results(p, many);
    let (sizes, count) = (extents(&dims), total(&p.k));
    let all = elems(&sizes);
    let outputs = b.outputs.clone();
    let (lanes, group) = (i64::from(cx.spec.lanes), cx.spec.group(None));
    let warps = i64::from(group) / lanes;
    let Begun { k, eval, .. } = &mut b;
    k.group(group, cx.spec.lanes);
    let i = k.let_("i", k.gx() * lanes + warp_lane(k));
    let own = k.let_("own", i.lt(k.dim(&all)));
    // Lanes without a result read what the last one reads.
    let at = k.let_("i", i.min(k.dim(&all) - 1));
    let at = eval.ix.bind("i", at, all.clone());
    let coords = name_coords(k, eval, &at, &sizes);
    let at = At::default().with(&dims, &coords);
    let zero = Ex::lit(DType::I32, 0.0).cast(p.acc);
    let acc = k.var_array("c", &[f.rows as u32], zero);
    let (first, hi) = (warp(k), k.dim(&count));
    let mut stop = Ok(());
    k.for_("e", first, hi, warps, |k, e| {
        eval.open();
        stop = (|| {
            let e = eval.ix.bind("e", e, count.clone());
            let ks = name_coords(k, eval, &e, &extents(&p.k));
            let at = at.with(&p.k, &ks);
            let x = many.load(k, eval, p, &at, &Guard::new())?;
            let x = k.let_("x", x);
            for r in 0..f.rows {
                let at = few_at(eval, few, &at, r);
                let y = few.load(k, eval, p, &at, &Guard::new())?;
                let acc = acc.at([Ex::from(r)]);
                let (l, r) = if f.left { (&y, &x) } else { (&x, &y) };
                k.set(&acc, step(p.acc, l, r, &acc.get()));
            }
            Ok(())
        })();
        eval.close();
    });
    stop?;
    let shared: Option<Buf> = (warps > 1).then(|| k.shared("parts", BufDecl::rw(p.acc, [warps, f.rows, lanes].map(SymExpr::from))));
    let part = |k: &Kb<'_>, shared: Buf, w: Ex, r: i64| Mem::new(shared, vec![(w, 1), (r.into(), 1), (warp_lane(k), 1)]);
    let mut mine = own;
    if let Some(shared) = shared {
        for r in 0..f.rows {
            let to = part(k, shared, warp(k), r);
            k.store(to, acc.at([Ex::from(r)]).get());
        }
        k.barrier(Level::Group);
        mine = mine & warp(k).equals(0);
    }
    let mut stop = Ok(());
    k.if_(mine, |k| {
        eval.open();
        for r in 0..f.rows {
            let mut sum = acc.at([Ex::from(r)]).get();
            if let Some(shared) = shared {
                for w in 1..warps {
                    let from = part(k, shared, w.into(), r);
                    let x = k.load("part", from);
                    sum = if p.acc.is_float() { sum + x } else { sum.add_w(x) };
                }
            }
            let at = few_at(eval, few, &at, r);
            stop = finish(cx, &outputs, k, eval, p, &at, sum, &Guard::new());
            if stop.is_err() {
                break;
            }
        }
        eval.close();
    });
    stop?;
    Ok(done(b, all.ceil_div(&lanes.into())))
}
