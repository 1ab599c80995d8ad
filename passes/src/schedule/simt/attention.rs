// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention as one kernel: scores never leave a group.
//!
//! A group has a few rows of one key head. Rows are the queries of all query heads that share the key head, one head after the other, so keys and
//! values are read once for all of them. The group walks blocks of keys, as many as it has lanes: a lane forms the scores of its key with all
//! rows, the rows' running maxima meet across the group, weights go to shared memory, and then a lane sums weighted values of one column.
//! Sums are brought to the new maximum block by block and divided at the end. What a causal mask hides from all rows is left out.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ReduceOp, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem, Module, Reg, UnOp};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::reduce::{Fold, Team};
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, each_lane, elems, flash, name_coords, store_outputs, vector};

/// Rows of a group, at most.
const ROWS: i64 = 16;

/// Lanes of a group.
const LANES: i64 = 128;

/// Columns of values of a lane, at most.
const COLUMNS: i64 = 16;

/// What is computed.
pub(super) struct Form {
    pub(super) q: ValueId,
    pub(super) k: ValueId,
    pub(super) v: ValueId,
    mask: Option<ValueId>,
    pub(super) root: ValueId,
    /// Where parts of the keys are attended to by themselves: how many keys each has, and the logarithms of their sums.
    pub(super) parts: Option<(i64, ValueId)>,
    /// Batch elements and key heads.
    pub(super) batch: SymExpr,
    pub(super) heads: SymExpr,
    /// Query heads that share a key head.
    pub(super) shared: SymExpr,
    pub(super) queries: SymExpr,
    pub(super) keys: SymExpr,
    pub(super) depth: SymExpr,
    /// Depth of the values.
    pub(super) width: SymExpr,
    pub(super) scale: f64,
    softcap: f64,
    pub(super) acc: DType,
    /// Whether later keys are hidden, and the value that says where query 0 is among the keys.
    causal: bool,
    offset: Option<ValueId>,
}

impl Form {
    /// How many parts there are.
    pub(super) fn count(&self) -> SymExpr {
        self.parts.map_or(1.into(), |(part, _)| self.keys.ceil_div(&part.into()))
    }
    /// The keys of a part: its first one, and the first one behind it.
    pub(super) fn range(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, part: &SymExpr) -> Range {
        let keys = k.dim(&self.keys);
        let Some((size, _)) = self.parts else { return Range { part: part.clone(), from: Ex::from(0), to: keys } };
        let from = eval.ix.emit(k, &(part.clone() * size));
        let from = k.let_("from", from);
        let to = k.let_("to", (&from + size).min(keys));
        Range { part: part.clone(), from, to }
    }
    /// Coordinates of a result of a batch element, query head, query and column.
    pub(super) fn at(&self, range: &Range, coords: &[SymExpr; 4]) -> Vec<SymExpr> {
        let mut at = coords.to_vec();
        if self.parts.is_some() {
            at.insert(2, range.part.clone());
        }
        at
    }
    /// Coordinates of the logarithm of a row.
    pub(super) fn log_at(&self, range: &Range, batch: &SymExpr, head: &SymExpr, query: &SymExpr) -> [SymExpr; 4] {
        [batch.clone(), head.clone(), range.part.clone(), query.clone()]
    }
    /// Whether that output is one of weighted values.
    pub(super) fn stores(&self, output: ValueId) -> bool {
        self.parts.is_none_or(|(_, log)| output != log)
    }
    /// Stores outputs but for logarithms.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn store(
        &self,
        cx: &Cx<'_>,
        outputs: &[Buf],
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        dims: &[SymExpr],
        coords: &[SymExpr],
        guard: &Guard,
    ) -> Result<(), Stop> {
        if self.parts.is_none() {
            return store_outputs(cx, outputs, k, eval, dims, coords, guard);
        }
        for (o, buf) in cx.region.outputs().iter().zip(outputs).filter(|(o, _)| self.stores(o.value)) {
            let v = eval.value(k, o.value, coords, guard)?;
            eval.store(k, *buf, coords, guard, &v)?;
        }
        Ok(())
    }
    /// Stores the logarithm of a row's sum of exponentials, of which `top` is the largest exponent and `total` the sum beside it.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn store_log(
        &self,
        cx: &Cx<'_>,
        outputs: &[Buf],
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        coords: &[SymExpr; 4],
        guard: &Guard,
        (top, total): (&Ex, &Ex),
    ) -> Result<(), Stop> {
        let Some((_, log)) = self.parts else { return Ok(()) };
        let lowest = Ex::lit(self.acc, if self.acc == DType::F64 { f64::MIN } else { f64::from(f32::MIN) });
        let v = k.let_("log", top.equals(f64::NEG_INFINITY).select(lowest, top + total.un(UnOp::Log)));
        for (_, buf) in cx.region.outputs().iter().zip(outputs).filter(|(o, _)| o.value == log) {
            eval.store(k, *buf, coords, guard, &v)?;
        }
        Ok(())
    }
    /// Position of query 0 among the keys, if that matters.
    pub(super) fn position(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>) -> Result<Option<Ex>, Stop> {
        Ok(match (self.causal, self.offset) {
            (false, _) => None,
            (true, None) => Some(Ex::lit(DType::I64, 0.0)),
            (true, Some(v)) => {
                let at = vec![SymExpr::from(0); eval.graph.ty(v).rank()];
                let x = eval.value(k, v, &at, &Guard::new())?.cast(DType::I64);
                // No tensor has that many keys, and sums with positions stay far within an index.
                Some(k.let_("offset", x.clamp(-(1i64 << 40), 1i64 << 40)))
            }
        })
    }
    /// A scaled score as softmax gets it: capped, masked, and minus infinity where later keys are hidden. `at` is batch element, query head,
    /// query and key; `there` says whether there is such a key.
    pub(super) fn score(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        x: Ex,
        at: &[SymExpr; 4],
        offset: Option<&Ex>,
        there: &Guard,
    ) -> Result<Ex, Stop> {
        let lowest = || Ex::lit(self.acc, f64::NEG_INFINITY);
        let mut x = x;
        if self.softcap != 0.0 {
            let cap = Ex::lit(self.acc, self.softcap);
            x = (x / &cap).un(UnOp::Tanh) * cap;
        }
        if let Some(mask) = self.mask {
            let dims = eval.dims(mask);
            let coords: Vec<SymExpr> =
                dims.iter().zip(&at[4 - dims.len().min(4)..]).map(|(d, c)| if d.is(1) { 0.into() } else { c.clone() }).collect();
            let m = eval.value(k, mask, &coords, there)?;
            x = if eval.dtype(mask) == DType::Bool { m.select(x, lowest()) } else { x + m.cast(self.acc) };
        }
        if let Some(offset) = offset {
            let [query, key] = [&at[2], &at[3]].map(|c| eval.ix.emit(k, c).cast(DType::I64));
            x = key.le(query + offset).select(x, lowest());
        }
        Ok(x)
    }
}

/// The keys that a group attends to.
pub(super) struct Range {
    part: SymExpr,
    pub(super) from: Ex,
    pub(super) to: Ex,
}

/// Extents and memory of a group.
struct Attend<'c, 'a> {
    cx: &'c Cx<'a>,
    f: Form,
    outputs: Vec<Buf>,
    rows: i64,
    group: i64,
    /// Columns of values of a lane, and lanes that share them.
    columns: i64,
    slices: i64,
    /// Queries times the scale, `[rows, depth]`.
    q: Buf,
    /// Weights of a block, `[rows, keys of a block]`.
    p: Buf,
    batch: SymExpr,
    head: SymExpr,
    range: Range,
    /// Position of query 0 among the keys, if that matters.
    offset: Option<Ex>,
    /// Coordinates of each row: query head and query.
    at: Vec<Row>,
}

/// A row of the group.
struct Row {
    head: SymExpr,
    query: SymExpr,
    /// Its number among all rows of the key head, and how many those are.
    number: (SymExpr, SymExpr),
}

/// What a row carries from block to block.
struct State {
    /// Largest score.
    top: Reg,
    /// Sum of this lane's weights.
    sum: Reg,
    /// Sums of weighted values, `[rows, columns]`.
    out: Reg,
}

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Attention { .. } | Op::AttentionParts { .. } | Op::MergeParts { .. }))?;
    let parts = match (&node.op, node.results.get(1)) {
        (Op::MergeParts { .. }, _) => return merge(cx, module, node),
        (Op::AttentionParts { part, .. }, Some(&log)) => Some((*part, log)),
        _ => None,
    };
    let (
        Op::Attention { scale, causal, has_mask, has_offset, softcap }
        | Op::AttentionParts { scale, causal, has_mask, has_offset, softcap, .. },
        &[q, key, value, ref rest @ ..],
    ) = (&node.op, node.operands.as_slice())
    else {
        return Stop::no("no attention");
    };
    if parts.is_some_and(|(part, _)| part % LANES != 0) {
        return Stop::no("parts that are no whole blocks of keys");
    }
    let mut b = cx.begin(module, 1);
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let (q_dims, k_dims, v_dims) = (eval.dims(q), eval.dims(key), eval.dims(value));
    let ([batch, hq, queries, depth], [_, hk, keys, _], Some(width)) = (q_dims.as_slice(), k_dims.as_slice(), v_dims.last()) else {
        return Stop::no("attention of other than four dims");
    };
    let mut rest = rest.iter().copied();
    let mask = if *has_mask { rest.next() } else { None };
    let offset = if *has_offset { rest.next() } else { None };
    let f = Form {
        q,
        k: key,
        v: value,
        mask,
        root: node.results[0],
        parts,
        batch: batch.clone(),
        heads: hk.clone(),
        shared: if hq == hk { 1.into() } else { hq.div(hk) },
        queries: queries.clone(),
        keys: keys.clone(),
        depth: depth.clone(),
        width: width.clone(),
        scale: scale.to_f64(),
        softcap: softcap.to_f64(),
        acc: if eval.dtype(q) == DType::F64 { DType::F64 } else { DType::F32 },
        causal: *causal,
        offset,
    };
    if let Some(plan) = flash::plan(cx, eval, &f) {
        return flash::build(cx, b, f, plan);
    }
    let total = &f.shared * &f.queries;
    let (depth, width) = (eval.ix.bounds(&f.depth).1, eval.ix.bounds(&f.width).1);
    let wanted = f.keys.as_const().unwrap_or(LANES).max(width).min(LANES);
    let group = i64::from(cx.spec.group(Some(wanted)));
    let (columns, slices) = match width {
        w if w <= group => (1, group / u64::try_from(w.max(1)).unwrap_or(1).next_power_of_two() as i64),
        w => ((w.min(1 << 30) + group - 1) / group, 1),
    };
    let bytes = i64::from(f.acc.bytes().unwrap_or(4));
    let room = |rows: i64| {
        depth.saturating_mul(rows).saturating_add(2 * group * rows).saturating_mul(bytes) <= i64::from(cx.spec.shared_bytes) - 1024
    };
    let most = total.as_const().map_or(ROWS / 2, |n| n.clamp(1, ROWS));
    let Some(rows) = (1..=most).rev().find(|&r| room(r)).filter(|_| columns <= COLUMNS) else {
        return Stop::no("attention whose heads do not fit shared memory");
    };
    k.group(group as u32, cx.spec.lanes);
    let decl = |dims: [i64; 2]| BufDecl::rw(f.acc, dims.map(SymExpr::from)).align(cx.spec.vec_bytes);
    let (qs, p) = (k.shared("qs", decl([rows, depth.max(1)])), k.shared("p", decl([rows, group])));

    let blocks = total.ceil_div(&rows.into());
    let counted = [f.batch.clone(), f.heads.clone(), f.count(), blocks];
    let groups = elems(&counted);
    let g = eval.ix.bind("g", k.gx(), groups.clone());
    let at = name_coords(k, eval, &g, &counted);
    let [batch, head, part, block] = at.as_slice() else { return Stop::no("attention without a batch and heads") };
    let first = eval.ix.emit(k, &(block.clone() * rows));
    let first = k.let_("m0", first);
    let range = f.range(k, eval, part);
    let offset = f.position(k, eval)?;
    let rows_at = (0..rows)
        .map(|r| {
            let m = k.let_("m", &first + r);
            // A row beyond the last one is the last one again, and is not stored.
            let m = eval.ix.bind("m", m, total.clone());
            let safe = if total.divisible_by(rows, &|_| 1) {
                m.clone()
            } else {
                let m = eval.ix.emit(k, &m);
                let safe = k.let_("m", m.min(k.dim(&total) - 1));
                eval.ix.bind("m", safe, total.clone())
            };
            let c = name_coords(k, eval, &safe, &[f.shared.clone(), f.queries.clone()]);
            let head = head.clone() * f.shared.clone() + c[0].clone();
            Row { head, query: c[1].clone(), number: (m, total.clone()) }
        })
        .collect();
    let a = Attend {
        cx,
        f,
        outputs,
        rows,
        group,
        columns,
        slices,
        q: qs,
        p,
        batch: batch.clone(),
        head: head.clone(),
        range,
        offset,
        at: rows_at,
    };
    a.run(k, eval)?;
    Ok(done(b, groups))
}

impl Attend<'_, '_> {
    fn zero(&self) -> Ex {
        Ex::lit(self.f.acc, 0.0)
    }
    fn lowest(&self) -> Ex {
        Ex::lit(self.f.acc, f64::NEG_INFINITY)
    }
    fn run(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>) -> Result<(), Stop> {
        let (rows, group, d) = (self.rows, self.group, self.f.acc);
        self.queries(k, eval)?;
        let team = Team::whole(self.cx.spec, group as u32);
        let max = Fold::Number(ReduceOp::Max, d);
        let meeting: Vec<Vec<Buf>> = (0..rows).map(|_| team.shared(k, &[d])).collect();
        let ending: Vec<Vec<Buf>> = (0..rows).map(|_| team.shared(k, &[d])).collect();
        let parts = (self.slices > 1).then(|| k.shared("parts", BufDecl::rw(d, [rows, group].map(SymExpr::from))));
        let s = State {
            top: k.var_array("top", &[rows as u32], self.lowest()),
            sum: k.var_array("sum", &[rows as u32], self.zero()),
            out: k.var_array("o", &[rows as u32, self.columns as u32], self.zero()),
        };
        let end = self.last_key(k, eval);
        let width = k.let_("lanes", k.lane() / self.slices);
        let slice = k.let_("slice", k.lane() % self.slices);
        // Queries are there before scores are formed.
        k.barrier(Level::Group);
        let mut stop = Ok(());
        k.for_("first", &self.range.from, &end, group, |k, first| {
            eval.open();
            stop = (|| {
                let j = k.let_("j", &first + k.lane());
                let scores = self.scores(k, eval, &j)?;
                let mut tops = Vec::new();
                for (r, meet) in meeting.iter().enumerate() {
                    let x = scores.at([Ex::from(r as i64)]).get();
                    // All partial maxima are on their way before the one barrier that brings them together.
                    tops.push(team.send(k, &[x], meet, &max));
                }
                team.barrier(k);
                let mut fades = Vec::new();
                for (r, (meet, own)) in meeting.iter().zip(tops).enumerate() {
                    let at = |x: &Reg| x.at([Ex::from(r as i64)]);
                    let all = team.receive(k, own, meet, &max);
                    let old = k.let_("old", at(&s.top).get());
                    let top = k.let_("top", all.first().map_or(old.clone(), |x| old.max(x)));
                    // Nothing seen yet: all scores are minus infinity, and their weights 0.
                    let base = k.let_("base", top.equals(f64::NEG_INFINITY).select(self.zero(), &top));
                    let fade = k.let_("fade", (old - &base).un(UnOp::Exp));
                    let weight = k.let_("w", (at(&scores).get() - &base).un(UnOp::Exp));
                    k.set(&at(&s.top), top);
                    k.set(&at(&s.sum), at(&s.sum).get().fma(&fade, &weight));
                    k.store(Mem::new(self.p, vec![(Ex::from(r as i64), 1), (k.lane(), 1)]), weight);
                    fades.push(fade);
                }
                k.barrier(Level::Group);
                for (r, fade) in fades.iter().enumerate() {
                    for u in 0..self.columns {
                        let o = s.out.at([Ex::from(r as i64), Ex::from(u)]);
                        k.set(&o, o.get() * fade);
                    }
                }
                let len = k.let_("len", (&end - &first).min(group));
                self.values(k, eval, &s, &first, &len, (&width, &slice))?;
                // Where maxima meet without a barrier, weights are overwritten only when all lanes have read them.
                if !team.meets_in_memory() && !self.f.keys.as_const().is_some_and(|n| n <= group) {
                    k.barrier(Level::Group);
                }
                Ok(())
            })();
            eval.close();
        });
        stop?;
        self.results(k, eval, &s, &team, &ending, parts, (&width, &slice))
    }
    /// Puts the queries of the rows into shared memory.
    fn queries(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>) -> Result<(), Stop> {
        let (f, mut stop) = (&self.f, Ok(()));
        let (first, hi) = (k.lane(), k.dim(&f.depth));
        k.for_("d", first, hi, self.group, |k, d| {
            eval.open();
            let c = eval.ix.bind("d", d.clone(), f.depth.clone());
            stop = self.at.iter().enumerate().try_for_each(|(r, row)| {
                let at = [self.batch.clone(), row.head.clone(), row.query.clone(), c.clone()];
                let x = eval.value(k, f.q, &at, &Guard::new())?;
                let x = if eval.dtype(f.q) == f.acc { x } else { x.cast(f.acc) };
                k.store(Mem::new(self.q, vec![(Ex::from(r as i64), 1), (d.clone(), 1)]), x * Ex::lit(f.acc, f.scale));
                Ok(())
            });
            eval.close();
        });
        stop
    }
    /// The first key that no row sees, or the number of keys.
    fn last_key(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>) -> Ex {
        let Some(offset) = &self.offset else { return self.range.to.clone() };
        let mut last: Option<Ex> = None;
        for row in &self.at {
            let q = eval.ix.emit(k, &row.query);
            last = Some(match last {
                None => q,
                Some(l) => k.let_("last", l.max(q)),
            });
        }
        let last = last.unwrap_or(Ex::from(0)).cast(DType::I64);
        let n = k.dim_as(&self.f.keys, DType::I64);
        k.let_("end", (last + offset + 1).clamp(0, n).cast(k.index()).min(&self.range.to))
    }
    /// Scores of the key of this lane with all rows; minus infinity where it is hidden, or beyond the last one.
    fn scores(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, j: &Ex) -> Result<Reg, Stop> {
        let f = &self.f;
        let s = k.var_array("s", &[self.rows as u32], self.zero());
        let key = eval.ix.bind("j", j.clone(), f.keys.clone());
        let there: Guard = vec![(key.clone(), f.keys.clone())];
        let (mut stop, hi) = (Ok(()), k.dim(&f.depth));
        k.for_("d", 0, hi, 1, |k, d| {
            eval.open();
            stop = (|| {
                let c = eval.ix.bind("d", d.clone(), f.depth.clone());
                let x = eval.value(k, f.k, &[self.batch.clone(), self.head.clone(), key.clone(), c], &there)?;
                let x = k.let_("k", if eval.dtype(f.k) == f.acc { x } else { x.cast(f.acc) });
                k.unroll("r", 0, self.rows, |k, r| {
                    let q = k.load("q", Mem::new(self.q, vec![(r.clone(), 1), (d.clone(), 1)]));
                    let s = s.at([r]);
                    k.set(&s, q.fma(&x, s.get()));
                });
                Ok(())
            })();
            eval.close();
        });
        stop?;
        let inside = eval.mask(k, &there)?;
        for (r, row) in self.at.iter().enumerate() {
            let place = s.at([Ex::from(r as i64)]);
            let at = [self.batch.clone(), row.head.clone(), row.query.clone(), key.clone()];
            let mut x = f.score(k, eval, place.get(), &at, self.offset.as_ref(), &there)?;
            if let Some(inside) = &inside {
                x = inside.select(x, self.lowest());
            }
            k.set(&place, x);
        }
        Ok(s)
    }
    /// Coordinates of this lane's column `u` of the values, and the condition under which it has it.
    fn column(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, lane: &Ex, u: i64) -> (SymExpr, Guard) {
        let c = if u == 0 { lane.clone() } else { k.let_("c", lane + u * self.group) };
        let c = eval.ix.bind("c", c, self.f.width.clone());
        let lanes = self.group / self.slices;
        let whole = self.f.width.as_const().is_some_and(|w| (u + 1) * lanes <= w);
        (c.clone(), if whole { Guard::new() } else { vec![(c, self.f.width.clone())] })
    }
    /// Adds the weighted values of a block.
    fn values(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, s: &State, first: &Ex, len: &Ex, (lane, slice): (&Ex, &Ex)) -> Result<(), Stop> {
        let f = &self.f;
        let mut stop = Ok(());
        k.for_("i", slice, len, self.slices, |k, i| {
            eval.open();
            stop = (|| {
                let j = k.let_("j", first + &i);
                let j = eval.ix.bind("j", j, f.keys.clone());
                for u in 0..self.columns {
                    let (c, guard) = self.column(k, eval, lane, u);
                    let x = eval.value(k, f.v, &[self.batch.clone(), self.head.clone(), j.clone(), c], &guard)?;
                    let x = k.let_("v", if eval.dtype(f.v) == f.acc { x } else { x.cast(f.acc) });
                    k.unroll("r", 0, self.rows, |k, r| {
                        let w = k.load("w", Mem::new(self.p, vec![(r.clone(), 1), (i.clone(), 1)]));
                        let o = s.out.at([r, Ex::from(u)]);
                        // A hidden key has weight 0, and its value does not matter even if it is not finite.
                        k.set(&o, w.equals(0.0).select(o.get(), w.fma(&x, o.get())));
                    });
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    }
    /// Brings the sums of all lanes together, divides and stores.
    #[allow(clippy::too_many_arguments)]
    fn results(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        s: &State,
        team: &Team,
        ending: &[Vec<Buf>],
        parts: Option<Buf>,
        (lane, slice): (&Ex, &Ex),
    ) -> Result<(), Stop> {
        let (f, sum) = (&self.f, Fold::Number(ReduceOp::Sum, self.f.acc));
        let mut sums = Vec::new();
        for (r, end) in ending.iter().enumerate() {
            sums.push(team.send(k, &[s.sum.at([Ex::from(r as i64)]).get()], end, &sum));
            if let Some(parts) = parts {
                let o = s.out.at([Ex::from(r as i64), 0.into()]).get();
                k.store(Mem::new(parts, vec![(Ex::from(r as i64), 1), (k.lane(), 1)]), o);
            }
        }
        if parts.is_some() && !team.meets_in_memory() {
            k.barrier(Level::Group);
        }
        team.barrier(k);
        let dims = eval.dims(f.root);
        for (r, ((end, own), row)) in ending.iter().zip(sums).zip(&self.at).enumerate() {
            eval.open();
            let total = team.receive(k, own, end, &sum);
            let top = s.top.at([Ex::from(r as i64)]).get();
            let none = k.let_("none", top.equals(f64::NEG_INFINITY));
            let total = total.first().map_or(Ex::lit(f.acc, 1.0), |t| none.select(Ex::lit(f.acc, 1.0), t));
            let total = k.let_("total", total);
            for u in 0..self.columns {
                let (c, mut guard) = self.column(k, eval, lane, u);
                if !row.number.1.divisible_by(self.rows, &|_| 1) {
                    guard.push(row.number.clone());
                }
                let mut o = s.out.at([Ex::from(r as i64), Ex::from(u)]).get();
                if let Some(parts) = parts {
                    // One lane of each column adds what the others have, in their order.
                    let sum = k.var("all", self.zero());
                    for i in 0..self.slices {
                        let from = Mem::new(parts, vec![(Ex::from(r as i64), 1), (lane * self.slices + i, 1)]);
                        let x = k.load("part", from);
                        k.set(&sum, sum.get() + x);
                    }
                    let own = k.let_("own", slice.clone());
                    let own = eval.ix.bind("own", own, self.slices.into());
                    guard.push((own, 1.into()));
                    o = sum.get();
                }
                let o = k.let_("o", o / &total);
                let o = if eval.dtype(f.root) == f.acc { o } else { o.cast(eval.dtype(f.root)) };
                let coords = f.at(&self.range, &[self.batch.clone(), row.head.clone(), row.query.clone(), c]);
                eval.bind(f.root, &coords, &guard, k.let_("y", o));
                f.store(self.cx, &self.outputs, k, eval, &dims, &coords, &guard)?;
            }
            if f.parts.is_some() {
                let mut stop = Ok(());
                k.if_(k.lane().equals(0), |k| {
                    eval.open();
                    let guard = if row.number.1.divisible_by(self.rows, &|_| 1) { Guard::new() } else { vec![row.number.clone()] };
                    let at = f.log_at(&self.range, &self.batch, &row.head, &row.query);
                    stop = f.store_log(self.cx, &self.outputs, k, eval, &at, &guard, (&top, &total));
                    eval.close();
                });
                stop?;
            }
            eval.close();
        }
        Ok(())
    }
}

/// Parts as one: a lane has neighbors of one row, and walks its parts twice, for the largest logarithm and for the weighted sum.
fn merge(cx: &Cx<'_>, module: &mut Module, node: &Node) -> Result<Built, Stop> {
    let (&[y, log], &[root]) = (node.operands.as_slice(), node.results.as_slice()) else { return Stop::no("no parts") };
    let mut b = cx.begin(module, 1);
    let outputs = b.outputs.clone();
    let (dims, from, acc) = (b.eval.dims(root), b.eval.dims(y), b.eval.dtype(y));
    let ([.., last], Some(parts)) = (dims.as_slice(), from.get(2).cloned()) else { return Stop::no("parts without columns") };
    let at_vector = |eval: &mut Eval<'_>, dims: &[SymExpr], w: i64| {
        let mut at: Vec<SymExpr> = dims.iter().map(|d| eval.ix.bind("p", 0.into(), d.clone())).collect();
        if let Some(c) = at.last_mut() {
            *c = eval.ix.bind("p", 0.into(), last.div(&w.into())) * w + lane();
        }
        at
    };
    let results: Vec<ValueId> = cx.region.outputs().iter().map(|o| o.value).collect();
    let widest = i64::from(cx.spec.vector(acc));
    let mut w = i64::from(vector::widest(cx, &mut b.eval, &results, Some(root), &mut |eval, w| at_vector(eval, &dims, w))).min(widest);
    while w > 1 {
        b.eval.set_width(w as u32);
        let at = at_vector(&mut b.eval, &from, w);
        let whole = vector::divides(cx, &b.eval, last, w) && vector::loads(cx, &b.eval, y, &at, w);
        b.eval.set_width(1);
        if whole {
            break;
        }
        w /= 2;
    }
    let w = w.max(1);
    let mut counted = dims.clone();
    if let Some(c) = counted.last_mut() {
        *c = c.div(&w.into());
    }
    let groups = each_lane(cx, &mut b, &elems(&counted), &mut |k, eval, i| {
        let mut coords = name_coords(k, eval, i, &counted);
        if let Some(c) = coords.last_mut().filter(|_| w > 1) {
            *c = c.clone() * w + lane();
        }
        let [b, h, s, c] = coords.as_slice() else { return Stop::no("parts without columns") };
        let number = |x: f64| Ex::lit(acc, x);
        let (top, sum) = (k.var("top", number(f64::NEG_INFINITY)), k.var("sum", number(0.0)));
        let all = k.var("y", number(0.0).splat(w as u32));
        let hi = k.dim(&parts);
        let walk =
            |k: &mut Kb<'_>, eval: &mut Eval<'_>, body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &SymExpr, Ex) -> Result<(), Stop>| {
                let mut stop = Ok(());
                k.for_("p", 0, &hi, 1, |k, p| {
                    eval.open();
                    let p = eval.ix.bind("p", p, parts.clone());
                    let of = [b, h, &p, s].map(SymExpr::clone);
                    stop = eval.value(k, log, &of, &Guard::new()).and_then(|x| {
                        let x = k.let_("log", x);
                        body(k, eval, &p, x)
                    });
                    eval.close();
                });
                stop
            };
        walk(k, eval, &mut |k, _, _, x| {
            // NaN stays.
            k.set(&top, top.get().max(x));
            Ok(())
        })?;
        walk(k, eval, &mut |k, eval, p, x| {
            let weight = k.let_("w", (x - top.get()).un(UnOp::Exp));
            k.set(&sum, sum.get() + &weight);
            eval.set_width(w as u32);
            let of = [b, h, p, s, c].map(SymExpr::clone);
            let part = eval.value(k, y, &of, &Guard::new()).map(|part| {
                let part = k.let_("part", part);
                let more = part.fma(weight.splat(w as u32), all.get());
                k.set(&all, weight.equals(0.0).select(all.get(), more));
            });
            eval.set_width(1);
            part
        })?;
        eval.set_width(w as u32);
        let stored = (|| {
            // Without keys there are no parts.
            let total = if parts.as_const().is_some() { sum.get() } else { sum.get().equals(0.0).select(number(1.0), sum.get()) };
            let v = k.let_("v", all.get() / total.splat(w as u32));
            let out = eval.dtype(root);
            let v = if out == acc { v } else { v.cast(out) };
            eval.bind(root, &coords, &Guard::new(), k.let_("v", v));
            store_outputs(cx, &outputs, k, eval, &dims, &coords, &Guard::new())
        })();
        eval.set_width(1);
        stored
    })?;
    Ok(done(b, groups))
}
