// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reductions with what comes before, between and after them.
//!
//! *Rows*: some lanes of a warp, a warp, or a group finish a row in as many sweeps as reductions depend on each other, plus one for what is
//! stored. Partial results meet by shuffles, and across warps through shared memory. A row of a known, moderate length is written out: what a
//! sweep has loaded or computed stays in registers for the next one, so memory is read once.
//! *Columns*: where results are neighbors in memory, a lane has one; the warps of a group share a long reduction.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{ArgOp, Node, Op, ReduceOp, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem, Module, Reg, ShuffleKind, Ty};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::super::rows::{acc_dtype, bind_reduced, divide, levels, reduce_op, reduced_coords, rows_shape};
use super::elementwise::{combine, identity};
use super::{
    Begun, Built, Cx, Eval, Guard, Stop, done, each, each_lane, elems, name_coords, shuffle, store_outputs, vector, warp, warp_lane,
};
use crate::spec::SimtSpec;

/// Vectors of a row that a lane may hold in registers.
const HELD: i64 = 16;

/// Elements of a row up to which one warp has it.
const WARP_ROW: i64 = 2048;

/// Elements that one lane reduces alone.
const ALONE: i64 = 64;

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let nodes: Vec<&Node> = cx.region.order().into_iter().map(|n| cx.region.node(n)).collect();
    let reductions: Vec<&Node> = nodes.iter().copied().filter(|n| matches!(n.op, Op::Reduce { .. })).collect();
    let arg = nodes.iter().any(|n| matches!(n.op, Op::ArgReduce { .. }));
    match (rows_shape(cx.region, &reductions), arg) {
        (Some(inner), false) => rows(cx, module, &reductions, inner),
        _ => any(cx, module),
    }
}

/// Which lanes work on a row.
pub(super) struct Team {
    /// Lanes of a row: a power of two of at most a warp, or all of the group.
    lanes: u32,
    /// Lanes of the group.
    group: u32,
    /// Lanes among which values are shuffled.
    warp: u32,
    /// Lanes of a warp.
    whole: u32,
}

impl Team {
    /// For rows of so many elements, `width` of them a lane at a time.
    pub(super) fn of(cx: &Cx<'_>, count: &SymExpr, most: i64, width: u32) -> Team {
        let (warp, group) = (cx.spec.reach(), cx.spec.group(None));
        let vectors = |n: i64| ((n + i64::from(width) - 1) / i64::from(width)).max(1);
        let lanes = match count.as_const() {
            Some(n) if n <= WARP_ROW => u32::try_from(vectors(n)).unwrap_or(warp).next_power_of_two().min(warp),
            None if most <= WARP_ROW => warp,
            Some(_) | None => group,
        };
        Team { lanes, group, warp, whole: cx.spec.lanes }
    }
    /// The lanes that a shuffle reaches have a row.
    pub(super) fn near_lanes(cx: &Cx<'_>) -> Team {
        let reach = cx.spec.reach();
        Team { lanes: reach, group: cx.spec.group(None), warp: reach, whole: cx.spec.lanes }
    }
    /// Lanes of the group.
    pub(super) fn group(&self) -> u32 {
        self.group
    }
    /// All lanes of a group.
    pub(super) fn whole(spec: &SimtSpec, group: u32) -> Team {
        Team { lanes: group, group, warp: spec.reach(), whole: spec.lanes }
    }
    /// Number of the lane among those that a shuffle reaches, and their number in the group.
    fn near(&self, k: &Kb<'_>) -> (Ex, Ex) {
        if self.warp == self.whole {
            return (warp_lane(k), warp(k));
        }
        (k.lane() % i64::from(self.warp), k.lane() / i64::from(self.warp))
    }
    /// Rows of a group.
    fn rows(&self) -> i64 {
        i64::from((self.group / self.lanes).max(1))
    }
    /// Number of the lane in its row.
    pub(super) fn lane(&self, k: &mut Kb<'_>) -> Ex {
        let p = if self.lanes >= self.group { k.lane() } else { k.lane() % i64::from(self.lanes) };
        k.let_("p", p)
    }
    /// Runs `body` for the row of each lane; the body gets the row and whether its results may be stored.
    pub(super) fn each_row<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        rows: &SymExpr,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr, Option<Ex>) -> Result<(), Stop>,
    ) -> Result<SymExpr, Stop> {
        k.group(self.group, self.whole);
        let per = self.rows();
        if per == 1 {
            let row = k.gx();
            let row = eval.ix.bind("r", row, rows.clone());
            body(k, eval, &row, None)?;
            return Ok(rows.clone());
        }
        let within = if self.lanes == self.whole { warp(k) } else { k.lane() / i64::from(self.lanes) };
        let row = k.let_("r", k.gx() * per + within);
        let whole = rows.divisible_by(per, &|_| 1);
        let mut stop = Ok(());
        if whole {
            let row = eval.ix.bind("r", row, rows.clone());
            stop = body(k, eval, &row, None);
        } else if self.lanes == self.whole {
            // The same for a whole warp.
            let inside = row.lt(k.dim(rows));
            k.if_(inside, |k| {
                eval.open();
                let row = eval.ix.bind("r", row, rows.clone());
                stop = body(k, eval, &row, None);
                eval.close();
            });
        } else {
            // Lanes without a row help with the last one, since a warp shuffles as a whole.
            let inside = k.let_("own", row.lt(k.dim(rows)));
            let row = k.let_("r", row.min(k.dim(rows) - 1));
            let row = eval.ix.bind("r", row, rows.clone());
            stop = body(k, eval, &row, Some(inside));
        }
        stop?;
        Ok(rows.ceil_div(&per.into()))
    }
    /// As `each_row`, `many` rows one after the other for each team; only for warps. What does not depend on the row is there before.
    pub(super) fn each_of_rows<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        rows: &SymExpr,
        many: i64,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr, Option<Ex>) -> Result<(), Stop>,
    ) -> Result<SymExpr, Stop> {
        if many <= 1 || self.lanes != self.whole {
            return self.each_row(k, eval, rows, body);
        }
        k.group(self.group, self.whole);
        let per = self.rows();
        let (first, hi) = (k.let_("r0", k.gx() * (per * many) + warp(k)), k.dim(rows));
        let end = k.let_("end", (&first + per * many).min(hi));
        let mut stop = Ok(());
        k.for_("r", first, end, per, |k, r| {
            eval.open();
            let row = eval.ix.bind("r", r, rows.clone());
            stop = body(k, eval, &row, None);
            eval.close();
        });
        stop?;
        Ok(rows.ceil_div(&(per * many).into()))
    }
    /// Partial results of a row's lanes as one, the same in all of them; `shared` is used by this meeting alone.
    pub(super) fn meet(&self, k: &mut Kb<'_>, parts: &[Ex], shared: &[Buf], fold: &Fold) -> Vec<Ex> {
        let own = self.send(k, parts, shared, fold);
        self.barrier(k);
        self.receive(k, own, shared, fold)
    }
    /// Whether the lanes of a row are in several warps.
    pub(super) fn meets_in_memory(&self) -> bool {
        self.lanes > self.warp && self.group > self.warp
    }
    /// The first part of a meeting: results of the warp, which its first lane leaves in shared memory.
    pub(super) fn send(&self, k: &mut Kb<'_>, parts: &[Ex], shared: &[Buf], fold: &Fold) -> Vec<Ex> {
        let mut x: Vec<Ex> = parts.to_vec();
        let width = self.lanes.min(self.warp);
        let mut by = width / 2;
        while by > 0 {
            let y: Vec<Ex> = x.iter().map(|v| shuffle(k, ShuffleKind::Xor, v, i64::from(by), width)).collect();
            x = fold.two(k, &x, &y).into_iter().map(|e| k.let_("m", e)).collect();
            by /= 2;
        }
        if self.meets_in_memory() {
            let (near, w) = self.near(k);
            let first = near.equals(0);
            k.if_(first, |k| {
                for (v, buf) in x.iter().zip(shared) {
                    k.store(Mem::new(*buf, vec![(w.clone(), 1)]), v.clone());
                }
            });
        }
        x
    }
    /// Between both parts of any number of meetings.
    pub(super) fn barrier(&self, k: &mut Kb<'_>) {
        if self.meets_in_memory() {
            k.barrier(Level::Group);
        }
    }
    /// The second part: results of all warps, in their order.
    pub(super) fn receive(&self, k: &mut Kb<'_>, own: Vec<Ex>, shared: &[Buf], fold: &Fold) -> Vec<Ex> {
        if !self.meets_in_memory() {
            return own;
        }
        let mut out: Vec<Ex> = Vec::new();
        for i in 0..i64::from(self.group / self.warp) {
            let y: Vec<Ex> = shared.iter().map(|buf| k.load("part", Mem::new(*buf, vec![(i.into(), 1)]))).collect();
            out = if i == 0 { y } else { fold.two(k, &out, &y).into_iter().map(|e| k.let_("m", e)).collect() };
        }
        out
    }
    /// Memory in which warps meet, for values of these dtypes.
    pub(super) fn shared(&self, k: &mut Kb<'_>, dtypes: &[DType]) -> Vec<Buf> {
        if !self.meets_in_memory() {
            return Vec::new();
        }
        let warps = i64::from(self.group / self.warp);
        dtypes.iter().map(|&d| k.shared("red", BufDecl::rw(d, [warps.into()]))).collect()
    }
}

/// One reduction: what lanes carry, and how two of them become one.
#[derive(Copy, Clone)]
pub(super) enum Fold {
    /// Of numbers, in this dtype.
    Number(ReduceOp, DType),
    /// The place of the largest or smallest; it carries the number and its place, -1 before there is one.
    Place { op: ArgOp, last: bool, dtype: DType, index: DType },
}

impl Fold {
    fn of(node: &Node, dtype: DType, index: DType) -> Fold {
        match node.op {
            Op::ArgReduce { op, last, .. } => Fold::Place { op, last, dtype, index },
            _ => Fold::Number(reduce_op(node), acc_dtype(reduce_op(node), dtype)),
        }
    }
    /// Dtypes of what is carried.
    pub(super) fn dtypes(&self) -> Vec<DType> {
        match *self {
            Fold::Number(_, d) => vec![d],
            Fold::Place { dtype, index, .. } => vec![dtype, index],
        }
    }
    /// What is carried before the first element.
    fn start(&self) -> Vec<Ex> {
        match *self {
            Fold::Number(op, d) => vec![identity(op, d).typed(&Ty::Scalar(d))],
            Fold::Place { dtype, index, .. } => {
                vec![Ex::lit(DType::I32, 0.0).cast(dtype), Ex::from(-1).typed(&Ty::Scalar(index))]
            }
        }
    }
    /// One element at a position.
    fn item(&self, k: &mut Kb<'_>, v: &Ex, at: Ex) -> Vec<Ex> {
        match self {
            Fold::Number(_, d) if v.ty().and_then(Ty::elem) == Some(*d) => vec![v.clone()],
            Fold::Number(_, d) => vec![v.cast(*d)],
            Fold::Place { .. } => vec![k.let_("v", v), at],
        }
    }
    /// Two of them as one.
    fn two(&self, k: &mut Kb<'_>, a: &[Ex], b: &[Ex]) -> Vec<Ex> {
        match (self, a, b) {
            (Fold::Number(op, d), [a], [b]) => vec![combine(*op, *d, a, b)],
            (Fold::Place { op, last, dtype, .. }, [a, ai], [b, bi]) => {
                let nan = |e: &Ex| if dtype.is_float() { e.differs(e) } else { Ex::from(false) };
                // NaN is the extreme of both.
                let beats = match op {
                    ArgOp::Max => b.gt(a),
                    ArgOp::Min => b.lt(a),
                } | (nan(b) & !nan(a));
                let ties = b.equals(a) | (nan(a) & nan(b));
                let nearer = if *last { bi.gt(ai) } else { bi.lt(ai) };
                let take = k.let_("take", bi.ge(0) & (ai.lt(0) | beats | (ties & nearer)));
                vec![take.select(b, a), take.select(bi, ai)]
            }
            _ => a.to_vec(),
        }
    }
    /// The result, of dtype `to`.
    fn finish(&self, k: &mut Kb<'_>, parts: &[Ex], count: &SymExpr, to: DType) -> Ex {
        match (self, parts) {
            (Fold::Number(op, d), [x]) => {
                let x = divide(k, *op, *d, x.clone(), count);
                let x = if *d == to { x } else { x.cast(to) };
                k.let_(op.name(), x)
            }
            (_, [_, at]) => k.let_("arg", at.cast(to)),
            _ => Ex::int(0),
        }
    }
    /// Assignable variables that carry it, `width` neighbors at a time.
    pub(super) fn vars(&self, k: &mut Kb<'_>, width: u32) -> Vec<Reg> {
        self.start().into_iter().map(|e| k.var("acc", e.splat(width))).collect()
    }
    /// Adds one to variables.
    fn add(&self, k: &mut Kb<'_>, vars: &[Reg], item: &[Ex]) {
        let old: Vec<Ex> = vars.iter().map(Reg::get).collect();
        let new = self.two(k, &old, item);
        vars.iter().zip(new).for_each(|(v, e)| k.set(v, e));
    }
    /// What variables carry, as one element.
    pub(super) fn narrow(&self, k: &mut Kb<'_>, vars: &[Reg], width: u32) -> Vec<Ex> {
        if width == 1 {
            return vars.iter().map(Reg::get).collect();
        }
        let mut parts: Vec<Vec<Ex>> = (0..i64::from(width)).map(|i| vars.iter().map(|v| v.get().extract(i)).collect()).collect();
        while parts.len() > 1 {
            let half = parts.len() / 2;
            let upper = parts.split_off(half);
            parts = parts.iter().zip(&upper).map(|(a, b)| self.two(k, a, b).into_iter().map(|e| k.let_("h", e)).collect()).collect();
        }
        parts.pop().unwrap_or_default()
    }
}

/// How a row is swept: by vectors of `width` neighbors, which the lanes of its team take in turn.
pub(super) struct Sweep {
    /// Vectors of the row.
    vectors: SymExpr,
    /// Dims of the row.
    dims: Vec<SymExpr>,
    width: i64,
    lanes: i64,
    /// Number of this lane among those of the row.
    p: Ex,
    /// The vectors of this lane, where they are written out, with their guards.
    held: Option<Vec<(SymExpr, Guard)>>,
}

impl Sweep {
    pub(super) fn new(k: &mut Kb<'_>, eval: &mut Eval<'_>, dims: &[SymExpr], width: u32, team: &Team, p: Ex) -> Sweep {
        Sweep::held(k, eval, dims, width, team, p, HELD)
    }
    /// Written out where that takes at most so many vectors.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn held(k: &mut Kb<'_>, eval: &mut Eval<'_>, dims: &[SymExpr], width: u32, team: &Team, p: Ex, most: i64) -> Sweep {
        let (width, lanes) = (i64::from(width), i64::from(team.lanes));
        let count = elems(dims);
        let vectors = if width == 1 { count } else { count.div(&width.into()) };
        let steps = vectors.as_const().map(|n| (n + lanes - 1) / lanes).filter(|s| *s <= most);
        let held = steps.map(|steps| {
            let mut one = |s: i64| {
                let e = if s == 0 { p.clone() } else { k.let_("e", &p + s * lanes) };
                let at = eval.ix.bind("e", e, vectors.clone());
                let whole = vectors.as_const().is_some_and(|n| (s + 1) * lanes <= n);
                let guard = if whole { Guard::new() } else { vec![(at.clone(), vectors.clone())] };
                (at, guard)
            };
            (0..steps).map(&mut one).collect()
        });
        Sweep { vectors, dims: dims.to_vec(), width, lanes, p, held }
    }
    /// Coordinates in the row of a vector's elements.
    fn coords(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, vector: &SymExpr) -> Vec<SymExpr> {
        let mut counted = self.dims.clone();
        if let Some(last) = counted.last_mut().filter(|_| self.width > 1) {
            *last = last.div(&self.width.into());
        }
        let mut coords = name_coords(k, eval, vector, &counted);
        if let Some(last) = coords.last_mut().filter(|_| self.width > 1) {
            *last = last.clone() * self.width + lane();
        }
        coords
    }
    /// Visits this lane's part of the row. The body gets the number of the vector, its coordinates in the row and their guard.
    pub(super) fn run<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr, &[SymExpr], &Guard) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if let Some(held) = &self.held {
            for (at, guard) in held {
                let coords = self.coords(k, eval, at);
                body(k, eval, at, &coords, guard)?;
            }
            return Ok(());
        }
        let mut stop = Ok(());
        let hi = k.dim(&self.vectors);
        k.for_("e", &self.p, hi, self.lanes, |k, e| {
            eval.open();
            let at = eval.ix.bind("e", e, self.vectors.clone());
            let coords = self.coords(k, eval, &at);
            stop = body(k, eval, &at, &coords, &Guard::new());
            eval.close();
        });
        stop
    }
}

/// An element of a reduction's operand as what lanes carry; those that the guard switches off change nothing.
fn guarded_item(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    fold: &Fold,
    x: ValueId,
    coords: &[SymExpr],
    at: Ex,
    guard: &Guard,
) -> Result<Vec<Ex>, Stop> {
    let v = eval.value(k, x, coords, guard)?;
    let v = eval.widen(&v);
    let item = fold.item(k, &v, at);
    let width = eval.width;
    Ok(match eval.mask(k, guard)? {
        Some(m) => item.into_iter().zip(fold.start()).map(|(e, none)| m.select(e, none.splat(width))).collect(),
        None => item,
    })
}

fn rows(cx: &Cx<'_>, module: &mut Module, reductions: &[&Node], inner: usize) -> Result<Built, Stop> {
    let mut b = cx.begin(module, 1);
    let dims = b.eval.dims(reductions[0].operands[0]);
    let (outer, row) = dims.split_at(dims.len() - inner);
    let (outer, row) = (outer.to_vec(), row.to_vec());
    let (count, rows) = (elems(&row), elems(&outer));
    let nodes: Vec<&Node> = cx.region.order().into_iter().map(|n| cx.region.node(n)).collect();
    let level = levels(&nodes);
    let top = reductions.iter().map(|n| level[&n.results[0]]).max().unwrap_or(1);
    let outputs = b.outputs.clone();
    let is_full = |eval: &Eval<'_>, v: ValueId| eval.graph.ty(v).rank() == dims.len() && eval.dims(v) == dims;
    let full: Vec<usize> = (0..outputs.len()).filter(|&i| is_full(&b.eval, cx.region.outputs()[i].value)).collect();

    // A reduced value is one for all lanes of a vector, so what vectors are made of is what reductions read and what is stored in rows.
    let mut swept: Vec<ValueId> = reductions.iter().map(|n| n.operands[0]).collect();
    swept.extend(full.iter().map(|&i| cx.region.outputs()[i].value));
    let width = vector::widest(cx, &mut b.eval, &swept, None, &mut |eval, w| {
        let mut coords: Vec<SymExpr> = dims.iter().map(|d| eval.ix.bind("q", 0.into(), d.clone())).collect();
        let whole = row.last().is_some_and(|l| vector::divides(cx, eval, l, w));
        if let Some(c) = coords.last_mut() {
            *c = if whole { c.clone() * w } else { c.clone() } + lane();
        }
        coords
    });
    let most = b.eval.ix.bounds(&count).1;
    let team = Team::of(cx, &count, most, width);
    b.eval.set_width(width);
    let Begun { k, eval, .. } = &mut b;
    let p = team.lane(k);
    let sweep = Sweep::new(k, eval, &row, width, &team, p.clone());
    let many = match &sweep.held {
        Some(held) => invariants(cx, k, eval, &sweep, held.len() as i64, (&outer, &row), &team)?,
        None => 1,
    };
    let groups = team.each_of_rows(k, eval, &rows, many, &mut |k, eval, at, own| {
        let lead = name_coords(k, eval, at, &outer);
        let of_row = |c: &[SymExpr]| lead.iter().chain(c).cloned().collect::<Vec<_>>();
        for l in 0..top {
            let now: Vec<(&Node, Fold)> = (reductions.iter().filter(|n| level[&n.results[0]] == l + 1))
                .map(|n| (*n, Fold::of(n, eval.dtype(n.operands[0]), k.index())))
                .collect();
            let vars: Vec<Vec<Reg>> = now.iter().map(|(_, f)| f.vars(k, width)).collect();
            sweep.run(k, eval, &mut |k, eval, _, c, guard| {
                for ((n, fold), vars) in now.iter().zip(&vars) {
                    let item = guarded_item(k, eval, fold, n.operands[0], &of_row(c), 0.into(), guard)?;
                    fold.add(k, vars, &item);
                }
                Ok(())
            })?;
            let mut results = Vec::new();
            for ((n, fold), vars) in now.iter().zip(&vars) {
                let shared = team.shared(k, &fold.dtypes());
                let parts = fold.narrow(k, vars, width);
                let met = team.meet(k, &parts, &shared, fold);
                results.push((n.results[0], fold.finish(k, &met, &count, eval.dtype(n.results[0]))));
            }
            results.iter().for_each(|(v, s)| bind_reduced(eval, *v, &lead, s));
        }
        let reduced: Vec<usize> = (0..outputs.len()).filter(|i| !full.contains(i)).collect();
        if !reduced.is_empty() {
            let first = p.equals(0);
            let c = own.clone().map_or(first.clone(), |own| own & first);
            let mut stop = Ok(());
            k.if_(c, |k| {
                eval.open();
                stop = reduced.iter().try_for_each(|&i| {
                    let v = cx.region.outputs()[i].value;
                    let coords = reduced_coords(eval, v, &lead);
                    let x = eval.value(k, v, &coords, &Guard::new())?;
                    eval.store(k, outputs[i], &coords, &Guard::new(), &x)
                });
                eval.close();
            });
            stop?;
        }
        if full.is_empty() {
            return Ok(());
        }
        let mut store = |k: &mut Kb<'_>| {
            sweep.run(k, eval, &mut |k, eval, _, c, guard| {
                full.iter().try_for_each(|&i| {
                    let x = eval.value(k, cx.region.outputs()[i].value, &of_row(c), guard)?;
                    eval.store(k, outputs[i], &of_row(c), guard, &x)
                })
            })
        };
        match own {
            None => store(k),
            Some(own) => {
                let mut stop = Ok(());
                k.if_(own, |k| stop = store(k));
                stop
            }
        }
    })?;
    Ok(done(b, groups))
}

/// Rows that a warp has one after the other, where that saves reading what all rows have in common (scales, biases): those values are loaded
/// here, into registers. As many bytes are on their way as before if there are `held` vectors of a row for each row that is given up.
fn invariants(
    cx: &Cx<'_>,
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    sweep: &Sweep,
    held: i64,
    (outer, row): (&[SymExpr], &[SymExpr]),
    team: &Team,
) -> Result<i64, Stop> {
    let common: Vec<ValueId> =
        cx.region.inputs().iter().copied().filter(|&v| eval.is_loaded(v) && eval.dims(v) == row && !eval.dtype(v).is_packed()).collect();
    let bits = |v: ValueId| i64::from(eval.dtype(v).bits()) * i64::from(eval.width);
    let registers = common.iter().map(|&v| bits(v)).sum::<i64>() * held / 32;
    let rows = elems(outer).as_const().unwrap_or(0);
    // Warps that have enough on their way together.
    let warps = i64::from(cx.spec.busy) * i64::from(team.group / team.whole) / held.max(1);
    let mut many = 1;
    while many < 16 && rows >= warps * many * 2 {
        many *= 2;
    }
    if common.is_empty() || row.len() != 1 || many == 1 || team.lanes != team.whole || registers > i64::from(cx.spec.registers) / 4 {
        return Ok(1);
    }
    sweep.run(k, eval, &mut |k, eval, _, c, guard| {
        common.iter().try_for_each(|&v| {
            let fits = vector::loads(cx, eval, v, c, i64::from(eval.width)) || eval.width == 1;
            if fits { eval.value(k, v, c, guard).map(|_| ()) } else { Ok(()) }
        })
    })?;
    Ok(many)
}

/// One reduction over any dims.
fn any(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let root = cx.root(|op| matches!(op, Op::Reduce { .. } | Op::ArgReduce { .. }))?;
    let mut b = cx.begin(module, 1);
    let (x, result) = (root.operands[0], root.results[0]);
    let from = b.eval.dims(x);
    let (axes, keep) = match &root.op {
        Op::Reduce { axes, keep, .. } => (axes.clone(), *keep),
        Op::ArgReduce { axis, keep, .. } => (vec![*axis], *keep),
        _ => return Stop::no("no reduction"),
    };
    let reduced: Vec<SymExpr> = axes.iter().filter_map(|&a| from.get(a as usize).cloned()).collect();
    let dims = b.eval.dims(result);
    let (count, results) = (elems(&reduced), elems(&dims));
    let fold = Fold::of(root, b.eval.dtype(x), b.k.index());
    let outputs = b.outputs.clone();
    // Coordinates of the operand from those of the result and of what is reduced.
    let place = |coords: &[SymExpr], inner: &[SymExpr]| -> Vec<SymExpr> {
        let (mut kept, mut inner) = (coords.iter(), inner.iter());
        let mut take = |i: usize| {
            if axes.contains(&(i as u32)) {
                if keep {
                    kept.next();
                }
                return inner.next().cloned();
            }
            kept.next().cloned()
        };
        (0..from.len()).map(|i| take(i).unwrap_or_else(|| 0.into())).collect()
    };
    let to = b.eval.dtype(result);
    let finish = |k: &mut Kb<'_>, eval: &mut Eval<'_>, coords: &[SymExpr], parts: &[Ex]| {
        let value = fold.finish(k, parts, &count, to);
        eval.bind(result, coords, &Guard::new(), value);
        store_outputs(cx, &outputs, k, eval, &dims, coords, &Guard::new())
    };
    let along_lanes = (0..from.len()).rev().find(|&i| !from[i].is(1)).is_none_or(|i| !axes.contains(&(i as u32)));
    if count.as_const().is_some_and(|n| n <= if along_lanes { ALONE } else { 4 }) {
        let groups = each_lane(cx, &mut b, &results, &mut |k, eval, i| {
            let coords = name_coords(k, eval, i, &dims);
            let vars = fold.vars(k, 1);
            each(k, eval, &reduced, &mut Vec::new(), &mut |k, eval, inner| {
                let linear = inner.iter().zip(&reduced).fold(SymExpr::from(0), |l, (c, d)| &(&l * d) + c);
                let at = eval.ix.emit(k, &linear);
                let item = guarded_item(k, eval, &fold, x, &place(&coords, inner), at, &Guard::new())?;
                fold.add(k, &vars, &item);
                Ok(())
            })?;
            let parts = fold.narrow(k, &vars, 1);
            finish(k, eval, &coords, &parts)
        })?;
        return Ok(done(b, groups));
    }
    if along_lanes {
        return columns(cx, b, &fold, x, (&dims, &reduced), &place, &finish);
    }
    let most = b.eval.ix.bounds(&count).1;
    let team = Team::of(cx, &count, most, 1);
    let Begun { k, eval, .. } = &mut b;
    let p = team.lane(k);
    let groups = team.each_row(k, eval, &results, &mut |k, eval, at, own| {
        let coords = name_coords(k, eval, at, &dims);
        let sweep = Sweep::new(k, eval, &reduced, 1, &team, p.clone());
        let vars = fold.vars(k, 1);
        sweep.run(k, eval, &mut |k, eval, e, inner, guard| {
            let at = eval.ix.emit(k, e);
            let item = guarded_item(k, eval, &fold, x, &place(&coords, inner), at, guard)?;
            fold.add(k, &vars, &item);
            Ok(())
        })?;
        let shared = team.shared(k, &fold.dtypes());
        let parts = fold.narrow(k, &vars, 1);
        let parts = team.meet(k, &parts, &shared, &fold);
        let first = p.equals(0);
        let mut stop = Ok(());
        k.if_(own.map_or(first.clone(), |own| own & first), |k| {
            eval.open();
            stop = finish(k, eval, &coords, &parts);
            eval.close();
        });
        stop
    })?;
    Ok(done(b, groups))
}

/// Writes a result from its parts.
type Finish<'f> = dyn Fn(&mut Kb<'_>, &mut Eval<'_>, &[SymExpr], &[Ex]) -> Result<(), Stop> + 'f;

/// A lane of each warp has a result; the warps of a group share what is reduced, and meet in shared memory in the order of warps.
fn columns(
    cx: &Cx<'_>,
    mut b: Begun<'_, '_>,
    fold: &Fold,
    x: ValueId,
    (dims, reduced): (&[SymExpr], &[SymExpr]),
    place: &dyn Fn(&[SymExpr], &[SymExpr]) -> Vec<SymExpr>,
    finish: &Finish<'_>,
) -> Result<Built, Stop> {
    let (lanes, group) = (i64::from(cx.spec.lanes), cx.spec.group(None));
    let warps = i64::from(group) / lanes;
    let (count, results) = (elems(reduced), elems(dims));
    let Begun { k, eval, .. } = &mut b;
    k.group(group, cx.spec.lanes);
    let i = k.let_("i", k.gx() * lanes + warp_lane(k));
    let own = k.let_("own", i.lt(k.dim(&results)));
    // Lanes without a result read what the last one reads.
    let at = k.let_("i", i.min(k.dim(&results) - 1));
    let at = eval.ix.bind("i", at, results.clone());
    let coords = name_coords(k, eval, &at, dims);
    let vars = fold.vars(k, 1);
    let (first, hi) = (warp(k), k.dim(&count));
    let mut stop = Ok(());
    k.for_("e", first, hi, warps, |k, e| {
        eval.open();
        stop = (|| {
            let position = e.clone();
            let e = eval.ix.bind("e", e, count.clone());
            let inner = name_coords(k, eval, &e, reduced);
            let item = guarded_item(k, eval, fold, x, &place(&coords, &inner), position, &Guard::new())?;
            fold.add(k, &vars, &item);
            Ok(())
        })();
        eval.close();
    });
    stop?;
    let parts = fold.narrow(k, &vars, 1);
    let mut whole = parts.clone();
    if warps > 1 {
        let shared: Vec<Buf> = fold.dtypes().into_iter().map(|d| k.shared("red", BufDecl::rw(d, [warps.into(), lanes.into()]))).collect();
        for (v, buf) in parts.iter().zip(&shared) {
            let (w, l) = (warp(k), warp_lane(k));
            k.store(Mem::new(*buf, vec![(w, 1), (l, 1)]), v.clone());
        }
        k.barrier(Level::Group);
        let own = own & warp(k).equals(0);
        let mut stop = Ok(());
        k.if_(own, |k| {
            eval.open();
            for w in 0..warps {
                let l = warp_lane(k);
                let part: Vec<Ex> = shared.iter().map(|buf| k.load("part", Mem::new(*buf, vec![(w.into(), 1), (l.clone(), 1)]))).collect();
                whole = if w == 0 { part } else { fold.two(k, &whole, &part).into_iter().map(|e| k.let_("m", e)).collect() };
            }
            stop = finish(k, eval, &coords, &whole);
            eval.close();
        });
        stop?;
    } else {
        let mut stop = Ok(());
        k.if_(own, |k| {
            eval.open();
            stop = finish(k, eval, &coords, &whole);
            eval.close();
        });
        stop?;
    }
    Ok(done(b, results.ceil_div(&lanes.into())))
}
