// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products with few rows, or few columns: the other operand is read once, at the rate of memory.
//!
//! Where that operand runs along the summed dims, lanes share the sum of one of its rows with all of the few, and meet by shuffles. Where it runs
//! along its own dims, lanes have neighbors of it, the warps of a group share the sum, and meet in shared memory in the order of warps.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{ReduceOp, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem, Reg, ShuffleKind};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::gemm::{Dims, extents, finish, operand, step, total};
use super::problem::{At, OperandAt, Problem};
use super::reduce::{Fold, Sweep, Team};
use super::runs::{Made, Run};
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, elems, name_coords, near, near_lane, shuffle, vector, vector_of};

/// Rows (or columns) that are few.
const FEW: i64 = 8;

/// Summed coordinates below which a lane sums alone.
const SHORT: i64 = 64;

/// Bytes of memory that lanes side by side read at once, where an operand runs along its own dims.
const LINE: i64 = 128;

/// Neighbors of packed integers that a lane reads at once, at most.
const RUN: i64 = 16;

/// Bytes of the few operand that a group may keep in shared memory.
const KEPT: i64 = 32 << 10;

/// Sums of a lane there, at most.
const SUMS: i64 = 32;

/// Rows times summed coordinates that a lane has in registers there, at most.
const STEPS: i64 = 16;

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

/// How many runs of `together` neighbors along the last dim there are, by dims.
fn runs_of(sizes: &[SymExpr], together: i64) -> Vec<SymExpr> {
    let mut runs = sizes.to_vec();
    if let Some(last) = runs.last_mut() {
        *last = last.div(&together.into());
    }
    runs
}

/// Neighbor `u` of the run at `run`.
fn neighbor(dims: &[(char, SymExpr)], run: &[SymExpr], together: i64, u: i64) -> At {
    let mut coords = run.to_vec();
    if let Some(last) = coords.last_mut() {
        *last = last.clone() * together + u;
    }
    At::default().with(dims, &coords)
}

/// Which operand is few, and how the other one is read.
pub(super) struct Form {
    /// Whether it is the left one that is few.
    left: bool,
    rows: i64,
    /// Whether the other one runs along the summed dims.
    along_depth: bool,
    width: i64,
    /// Neighbors of packed integers that a lane reads at once.
    run: Option<i64>,
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
            return Some(Form { left, rows, along_depth: true, width: w, run: None });
        }
        w /= 2;
    }
    if let Some(made) = many.made {
        let run = made.run.as_ref().and_then(|r| r.widest(cx, eval, RUN));
        return Some(Form { left, rows, along_depth: true, width: 1, run });
    }
    many.runs(cx, eval, p, many.dims, 1).then_some(Form { left, rows, along_depth: false, width: 1, run: None })
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
    match (f.run, many.made.and_then(|m| m.run.as_ref())) {
        (Some(n), Some(run)) if p.batch.is_empty() => packed(cx, b, p, (&few, &many), f, (run, n)),
        _ if f.along_depth => sums(cx, b, p, (&few, &many), f),
        _ => columns(cx, b, p, (&few, &many), f),
    }
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
    let counted = runs_of(&sizes, together);
    let groups = team.each_row(k, eval, &elems(&counted), &mut |k, eval, row, own| {
        let coords = name_coords(k, eval, row, &counted);
        let at_of = |u: i64| neighbor(&dims, &coords, together, u);
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
        store_sums(cx, k, eval, p, (few, f), (&team, &fold, &place), &accs, own, &at_of, &outputs)
    })?;
    Ok(done(b, groups))
}

/// Sums over packed integers: a lane reads many neighbors at once, and the few operand lies in shared memory, where all rows of a group find it.
fn packed<'a>(
    cx: &Cx<'a>,
    mut b: Begun<'a, '_>,
    p: &Problem<'_>,
    (few, many): (&Side<'_>, &Side<'_>),
    f: &Form,
    (run, n): (&Run, i64),
) -> Result<Built, Stop> {
    let dims = results(p, many);
    let (sizes, count) = (extents(&dims), total(&p.k));
    let outputs = b.outputs.clone();
    let fold = Fold::Number(ReduceOp::Sum, p.acc);
    let Begun { k, eval, .. } = &mut b;
    let all = elems(&sizes);
    let last = sizes.last().cloned().unwrap_or_else(|| 1.into());
    let enough = |n: i64| all.as_const().is_some_and(|a| a / n >= i64::from(cx.spec.busy)) && vector::divides(cx, eval, &last, n);
    let together = [8, 4, 2].into_iter().find(|n| n * f.rows <= 16 && enough(*n)).unwrap_or(1);
    // Where there are rows for all warps, no row needs more than one.
    let most = eval.ix.bounds(&count).1;
    let team = if enough(together) { Team::near_lanes(cx) } else { Team::of(cx, &count, most, n as u32) };
    let place = team.lane(k);
    let dtype = eval.dtype(few.v);
    let mut w = i64::from(cx.spec.vector(dtype)).min(n);
    while w > 1 && !few.runs(cx, eval, p, &p.k, w) {
        w /= 2;
    }
    let bytes = i64::from(dtype.bits().div_ceil(8));
    let kept = count.as_const().filter(|c| c * f.rows * bytes <= KEPT.min(i64::from(cx.spec.shared_bytes) / 2)).map(|_| {
        let decl = BufDecl::rw(dtype, [f.rows.into(), count.clone()]).align(cx.spec.vec_bytes);
        k.shared("few", decl)
    });
    let depth = |base: SymExpr| vec![base];
    if let Some(kept) = kept {
        let per = count.div(&w.into());
        let (hi, group) = (k.dim(&(&per * &f.rows.into())), i64::from(team.group()));
        let mut stop = Ok(());
        k.for_("t", k.lane(), hi, group, |k, t| {
            eval.open();
            stop = (|| {
                let t = eval.ix.bind("t", t, &per * &f.rows.into());
                let at = name_coords(k, eval, &t, &[f.rows.into(), per.clone()]);
                let [r, v] = at.as_slice() else { return Stop::no("rows without an extent") };
                let rows = name_coords(k, eval, r, &extents(few.dims));
                let base = v.clone() * w;
                let along = if w > 1 { base.clone() + lane() } else { base.clone() };
                eval.set_width(w as u32);
                let (coords, guard) = (few.at)(eval, &At::default().with(few.dims, &rows).with(&p.k, &depth(along)));
                let x = eval.value(k, few.v, &coords, &guard)?;
                let x = eval.widen(&x);
                eval.set_width(1);
                let to = Mem::new(kept, vec![(eval.ix.emit(k, r), 1), (eval.ix.emit(k, &base), w as u32)]);
                k.store(to, x);
                Ok(())
            })();
            eval.close();
        });
        stop?;
        k.barrier(Level::Group);
    }
    let counted = runs_of(&sizes, together);
    let groups = team.each_row(k, eval, &elems(&counted), &mut |k, eval, row, own| {
        let coords = name_coords(k, eval, row, &counted);
        let at_of = |u: i64| neighbor(&dims, &coords, together, u);
        let accs: Vec<Vec<Reg>> = (0..f.rows * together).map(|_| fold.vars(k, 1)).collect();
        let sweep = Sweep::held(k, eval, &[count.div(&n.into())], 1, &team, place.clone(), 1);
        sweep.run(k, eval, &mut |k, eval, v, _, guard| {
            let mut ys = Vec::new();
            for r in 0..f.rows {
                let mut row = Vec::new();
                for c in 0..n / w {
                    let base = v.clone() * n + c * w;
                    let y = match kept {
                        Some(kept) => {
                            let mem = Mem::new(kept, vec![(r.into(), 1), (eval.ix.emit(k, &base), w as u32)]);
                            let mem = match eval.mask(k, guard)? {
                                Some(inside) => mem.when(inside).or(Ex::float(0.0)),
                                None => mem,
                            };
                            let y = k.load("y", mem);
                            if dtype == p.acc { y } else { y.cast(p.acc) }
                        }
                        None => {
                            eval.set_width(w as u32);
                            let along = if w > 1 { base + lane() } else { base };
                            let y = few.load(k, eval, p, &few_at(eval, few, &at_of(0).with(&p.k, &depth(along)), r), guard)?;
                            eval.set_width(1);
                            y
                        }
                    };
                    let y = k.let_("y", y);
                    row.extend((0..w).map(|i| if w == 1 { y.clone() } else { y.extract(i) }));
                }
                ys.push(row);
            }
            for u in 0..together {
                let at = at_of(u);
                let rows: Vec<SymExpr> = many.dims.iter().map(|d| at.get(d.0)).collect();
                let [row] = rows.as_slice() else { return Stop::no("packed integers of several dims of rows") };
                let values = run.load(k, eval, (row, v), n, p.acc, guard)?;
                let list: Vec<Ex> = values.list.iter().map(|x| k.let_("x", x)).collect();
                for (r, y) in ys.iter().enumerate() {
                    let Some(acc) = accs.get(u as usize * f.rows as usize + r).and_then(|a| a.first()) else { continue };
                    // The scale is one for all of them: one product with it, and no rounding in between.
                    let sum = k.var("part", Ex::lit(DType::I32, 0.0).cast(p.acc));
                    for (x, y) in list.iter().zip(y) {
                        k.set(&sum, step(p.acc, y, x, &sum.get()));
                    }
                    k.set(acc, step(p.acc, &sum.get(), &values.scale, &acc.get()));
                }
            }
            Ok(())
        })?;
        store_sums(cx, k, eval, p, (few, f), (&team, &fold, &place), &accs, own, &at_of, &outputs)
    })?;
    Ok(done(b, groups))
}

/// The sums of a row's lanes meet, and the first of them stores the results.
#[allow(clippy::too_many_arguments)]
fn store_sums(
    cx: &Cx<'_>,
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    p: &Problem<'_>,
    (few, f): (&Side<'_>, &Form),
    (team, fold, place): (&Team, &Fold, &Ex),
    accs: &[Vec<Reg>],
    own: Option<Ex>,
    at_of: &dyn Fn(i64) -> At,
    outputs: &[Buf],
) -> Result<(), Stop> {
    let mut whole = Vec::new();
    for acc in accs {
        let shared = team.shared(k, &fold.dtypes());
        let parts = fold.narrow(k, acc, f.width as u32);
        whole.push(team.meet(k, &parts, &shared, fold));
    }
    let first = place.equals(0);
    let mut stop = Ok(());
    k.if_(own.map_or(first.clone(), |own| own & first), |k| {
        eval.open();
        stop = whole.iter().enumerate().try_for_each(|(i, sum)| {
            let at = few_at(eval, few, &at_of(i as i64 / f.rows), i as i64 % f.rows);
            let sum = sum.first().cloned().unwrap_or(Ex::float(0.0));
            finish(cx, outputs, k, eval, p, &at, sum, &Guard::new())
        });
        eval.close();
    });
    stop
}

/// How lanes lie over columns that run along memory: neighbors have a line of it, the others share the sum.
struct Columns {
    /// Neighbors of a lane.
    width: i64,
    /// Lanes side by side.
    across: i64,
    /// Summed coordinates that a lane takes one after the other.
    depth: i64,
}

impl Columns {
    fn of(cx: &Cx<'_>, eval: &mut Eval<'_>, p: &Problem<'_>, (few, many): (&Side<'_>, &Side<'_>), rows: i64) -> Columns {
        let dtype = eval.dtype(many.v);
        let mut width = i64::from(cx.spec.vector(dtype));
        while width > 1 && (width * rows > SUMS || !many.runs(cx, eval, p, many.dims, width)) {
            width /= 2;
        }
        let bytes = i64::from(dtype.bits().div_ceil(8));
        let across = (LINE / (width * bytes)).clamp(1, i64::from(cx.spec.reach()));
        // The few are read as vectors where they run along the sum.
        let mut depth = i64::from(cx.spec.vector(eval.dtype(few.v))).min((STEPS / rows).max(1));
        while depth > 1 && !few.runs(cx, eval, p, &p.k, depth) {
            depth /= 2;
        }
        Columns { width, across, depth }
    }
}

fn columns<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: &Problem<'_>, (few, many): (&Side<'_>, &Side<'_>), f: &Form) -> Result<Built, Stop> {
    let dims = results(p, many);
    let form = Columns::of(cx, &mut b.eval, p, (few, many), f.rows);
    let (w, depth) = (form.width, form.depth);
    let mut sizes = extents(&dims);
    if let Some(last) = sizes.last_mut().filter(|_| w > 1) {
        *last = last.div(&w.into());
    }
    let all = elems(&sizes);
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let (reach, group) = (i64::from(cx.spec.reach()), i64::from(cx.spec.group(None)));
    k.group(group as u32, cx.spec.lanes);
    let place = near_lane(cx.spec, k);
    let (x, part) = match form.across == reach {
        true => (place, near(cx.spec, k)),
        false => (k.let_("x", place % form.across), k.let_("part", k.lane() / form.across)),
    };
    let parts = group / form.across;
    let i = k.let_("i", k.gx() * form.across + &x);
    // Lanes without a result read what the last one reads.
    let at = k.let_("i", i.min(k.dim(&all) - 1));
    let at = eval.ix.bind("i", at, all.clone());
    let coords = name_coords(k, eval, &at, &sizes);
    // Results of neighbors, one at a time and all at once.
    let neighbor = |o: SymExpr| {
        let mut c = coords.clone();
        if let Some(last) = c.last_mut().filter(|_| w > 1) {
            *last = last.clone() * w + o;
        }
        At::default().with(&dims, &c)
    };
    let together = if w > 1 { neighbor(lane()) } else { neighbor(0.into()) };
    let zero = Ex::lit(DType::I32, 0.0).cast(p.acc);
    let sums = k.var_array("c", &[f.rows as u32, w as u32], zero);
    let mut steps = extents(&p.k);
    if let Some(last) = steps.last_mut().filter(|_| depth > 1) {
        *last = last.div(&depth.into());
    }
    let vectors = elems(&steps);
    let hi = k.dim(&vectors);
    let mut stop = Ok(());
    k.for_("e", part, hi, parts, |k, e| {
        eval.open();
        stop = (|| {
            let e = eval.ix.bind("e", e, vectors.clone());
            let ks = name_coords(k, eval, &e, &steps);
            let along = |o: SymExpr| {
                let mut ks = ks.clone();
                if let Some(last) = ks.last_mut().filter(|_| depth > 1) {
                    *last = last.clone() * depth + o;
                }
                ks
            };
            eval.set_width(depth as u32);
            let mut ys = Vec::new();
            for r in 0..f.rows {
                let at = few_at(eval, few, &neighbor(0.into()).with(&p.k, &if depth > 1 { along(lane()) } else { along(0.into()) }), r);
                let y = few.load(k, eval, p, &at, &Guard::new())?;
                ys.push(k.let_("y", y));
            }
            eval.set_width(w as u32);
            let mut xs = Vec::new();
            for d in 0..depth {
                let (coords, guard) = (many.at)(eval, &together.with(&p.k, &along(d.into())));
                let x = eval.value(k, many.v, &coords, &guard)?;
                let x = eval.widen(&x);
                let loaded = eval.resolve(many.v, &coords).is_some();
                let x = match eval.mask(k, &guard)? {
                    Some(inside) if !loaded => inside.select(x, Ex::lit(DType::I32, 0.0).cast(eval.dtype(many.v)).splat(w as u32)),
                    _ => x,
                };
                xs.push(k.let_("x", x));
            }
            for (d, x) in xs.iter().enumerate() {
                for j in 0..w {
                    let x = if w == 1 { x.clone() } else { x.extract(j) };
                    let x = if eval.dtype(many.v) == p.acc { x } else { x.cast(p.acc) };
                    let x = k.let_("w", x);
                    for (r, y) in ys.iter().enumerate() {
                        let y = if depth == 1 { y.clone() } else { y.extract(d as i64) };
                        let (l, right) = if f.left { (&y, &x) } else { (&x, &y) };
                        let sum = sums.at([(r as i64).into(), j.into()]);
                        k.set(&sum, step(p.acc, l, right, &sum.get()));
                    }
                }
            }
            Ok(())
        })();
        eval.set_width(1);
        eval.close();
    });
    stop?;
    let add = |a: &Ex, b: &Ex| if p.acc.is_float() { a + b } else { a.add_w(b) };
    let mut whole: Vec<Vec<Ex>> = Vec::new();
    for r in 0..f.rows {
        whole.push((0..w).map(|j| sums.at([r.into(), j.into()]).get()).collect());
    }
    // Parts of a sum within reach meet by shuffles, the others in shared memory.
    let mut by = reach / 2;
    while by >= form.across {
        for x in whole.iter_mut().flatten() {
            let y = shuffle(k, ShuffleKind::Xor, x, by, reach as u32);
            *x = k.let_("m", add(x, &y));
        }
        by /= 2;
    }
    // The rest meet in shared memory, in their order, and then a lane has one result.
    let (teams, tile) = (group / reach, form.across * w);
    let shared = k.shared("parts", BufDecl::rw(p.acc, [teams, f.rows, tile].map(SymExpr::from)).align(cx.spec.vec_bytes));
    let (team, chunk) = (near(cx.spec, k), w.min(i64::from(cx.spec.vector(p.acc))));
    let send = |k: &mut Kb<'_>| {
        for (r, row) in whole.iter().enumerate() {
            for (c, part) in row.chunks(chunk as usize).enumerate() {
                let column = &x * w + c as i64 * chunk;
                k.store(Mem::new(shared, vec![(team.clone(), 1), ((r as i64).into(), 1), (column, part.len() as u32)]), vector_of(part));
            }
        }
    };
    if form.across == reach {
        send(k);
    } else {
        let first = near_lane(cx.spec, k).lt(form.across);
        k.if_(first, send);
    }
    k.barrier(Level::Group);
    let mut stop = Ok(());
    k.for_("t", k.lane(), f.rows * tile, group, |k, t| {
        eval.open();
        let (r, c) = (k.let_("r", &t / tile), k.let_("c", t % tile));
        let i = k.let_("i", k.gx() * form.across + &c / w);
        let inside = i.lt(k.dim(&all));
        k.if_(inside, |k| {
            eval.open();
            stop = (|| {
                let mut sum = None;
                for team in 0..teams {
                    let part = k.load("part", Mem::new(shared, vec![(team.into(), 1), (r.clone(), 1), (c.clone(), 1)]));
                    sum = Some(match sum {
                        Some(s) => add(&s, &part),
                        None => part,
                    });
                }
                let i = eval.ix.bind("i", i.clone(), all.clone());
                let mut own = name_coords(k, eval, &i, &sizes);
                if let Some(last) = own.last_mut().filter(|_| w > 1) {
                    let o = k.let_("o", &c % w);
                    *last = last.clone() * w + eval.ix.bind("o", o, w.into());
                }
                let r = eval.ix.bind("r", r.clone(), f.rows.into());
                let rows = name_coords(k, eval, &r, &extents(few.dims));
                let at = At::default().with(&dims, &own).with(few.dims, &rows);
                finish(cx, &outputs, k, eval, p, &at, sum.unwrap_or(Ex::float(0.0)), &Guard::new())
            })();
            eval.close();
        });
        eval.close();
    });
    stop?;
    Ok(done(b, all.ceil_div(&form.across.into())))
}
