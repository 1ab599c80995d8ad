// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention on matrix instructions (FlashAttention-2, Dao 2023): scores and weights never leave registers.
//!
//! A group has some rows of one key head, as many as a fragment has for each of its warps. Rows are the queries of all query heads that share
//! the key head, one head after the other. The group walks blocks of keys, whose tiles of keys and values lie in shared memory; where whole
//! aligned vectors of both can be copied they come by asynchronous copies, one block ahead. A warp multiplies its queries with the keys, brings
//! its sums to the new maxima, and multiplies the weights with the values: an accumulator of scores, in two parts of fewer bits, is the left
//! operand of the next product as it lies, which [`plan`] asks of the fragment. Depths are filled up with zeros to whole fragments. Values too
//! wide for the registers of a warp are shared by several warps.

use portwright_ir::dtype::DType;
use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{
    AtomId, BlockOrder, Buf, BufDecl, Digit, Ex, Kb, Layout, Level, Mem, Operand, QueueId, Reg, ShuffleKind, Ty, UnOp, Via,
};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::attention::{Form, Range};
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, elems, name_coords, vector, vector_of, warp, warp_lane};

mod plan;

use plan::digits;
pub(super) use plan::{Plan, plan};

/// A tile of keys, values or queries in shared memory, `[slot, row, column]`.
struct Tile {
    v: ValueId,
    buf: Buf,
    /// Columns that there are, and neighbors that move at once.
    columns: SymExpr,
    /// Whether those are all.
    whole: bool,
    width: i64,
    /// Whether they can be copied as they lie.
    direct: bool,
    places: Vec<Place>,
}

/// A vector of a tile.
struct Place {
    row: Ex,
    /// Number of the vector in its row.
    vector: Ex,
    /// Whether the tile has such a row, where lanes are more than vectors.
    there: Option<Ex>,
}

/// A row of this lane, of those that its registers have.
struct Row {
    head: SymExpr,
    query: SymExpr,
    /// Its number among all rows of the key head.
    number: SymExpr,
}

struct Flash<'c, 'a> {
    cx: &'c Cx<'a>,
    f: Form,
    p: Plan,
    atom: AtomId,
    /// Row and column in an accumulator of each of a lane's registers, beside what the lane adds.
    held: Vec<[i64; 2]>,
    /// Different rows among them.
    steps: Vec<i64>,
    /// Column that the lane adds.
    column: Ex,
    /// First column of the values of this warp.
    slice: Ex,
    /// Numbers of lanes by whose exclusive or those that share a row are reached.
    partners: Vec<i64>,
    batch: SymExpr,
    head: SymExpr,
    total: SymExpr,
    range: Range,
    offset: Option<Ex>,
    rows: Vec<Row>,
    outputs: Vec<Buf>,
}

/// What rows carry from block to block.
struct State {
    /// Largest score and this lane's sum of weights, by row of the lane.
    top: Reg,
    sum: Reg,
    /// Sums of weighted values.
    out: Reg,
}

/// The coordinate along `dim` that a lane adds by its digits.
pub(super) fn lane_part(k: &mut Kb<'_>, lanes: &[Digit], dim: u8) -> Ex {
    let (at, mut below, mut sum) = (warp_lane(k), 1i64, None);
    for d in lanes {
        let extent = i64::from(d.extent).max(1);
        if d.dim == dim {
            let part = &at / below % extent * i64::from(d.stride);
            sum = Some(match sum {
                Some(s) => s + part,
                None => part,
            });
        }
        below *= extent;
    }
    k.let_("part", sum.unwrap_or_else(|| Ex::int(0).typed(&Ty::Scalar(k.index()))))
}

/// Builds the kernel.
pub(super) fn build<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, f: Form, p: Plan) -> Result<Built, Stop> {
    let def = p.fragment.atom();
    let Some((lanes, _)) = digits(&def, Operand::C) else { return Stop::no("a fragment in no registers") };
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let atom = k.module().add_atom(def.clone());
    k.group(cx.spec.lanes * p.warps as u32, cx.spec.lanes);
    let total = &f.shared * &f.queries;
    let fm = i64::from(p.fragment.shape[0]);
    let counted = [f.batch.clone(), f.heads.clone(), f.count(), total.ceil_div(&p.rows().into())];
    let groups = elems(&counted);
    let g = eval.ix.bind("g", k.gx(), groups.clone());
    let at = name_coords(k, eval, &g, &counted);
    let [batch, head, part, tile] = at.as_slice() else { return Stop::no("attention without a batch and heads") };
    let first = eval.ix.emit(k, &(tile.clone() * p.rows()));
    let first = k.let_("m0", first);
    let range = f.range(k, eval, part);
    let offset = f.position(k, eval)?;

    let regs = def.regs(Operand::C).unwrap_or(0);
    let held: Vec<[i64; 2]> = (0..regs).map(|r| def.coord(Operand::C, 0, r).map(i64::from)).collect();
    let mut steps: Vec<i64> = held.iter().map(|h| h[0]).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut partners = Vec::new();
    let mut below = 1;
    for d in lanes {
        let powers = (0..d.extent.trailing_zeros()).map(|i| below << i);
        partners.extend(powers.filter(|_| d.dim == 1));
        below *= i64::from(d.extent);
    }
    if lanes.iter().any(|d| !d.extent.is_power_of_two()) || partners.iter().any(|x| *x >= i64::from(cx.spec.reach())) {
        return Stop::no("a row whose lanes do not reach each other");
    }
    let (row, column) = (lane_part(k, lanes, 0), lane_part(k, lanes, 1));
    let team = if p.slices == 1 { warp(k) } else { warp(k) / p.slices };
    let own = k.let_("own", &first + team * fm + row);
    let slice = if p.slices == 1 { Ex::from(0) } else { k.let_("slice", warp(k) % p.slices * p.columns()) };
    let rows = steps
        .iter()
        .map(|step| {
            let m = k.let_("m", &own + *step);
            let number = eval.ix.bind("m", m.clone(), total.clone());
            // A row beyond the last one is the last one again, and is not stored.
            let safe = if total.divisible_by(p.rows(), &|_| 1) { m } else { k.let_("m", m.min(k.dim(&total) - 1)) };
            let safe = eval.ix.bind("m", safe, total.clone());
            let c = name_coords(k, eval, &safe, &[f.shared.clone(), f.queries.clone()]);
            Row { head: head.clone() * f.shared.clone() + c[0].clone(), query: c[1].clone(), number }
        })
        .collect();
    let (batch, head) = (batch.clone(), head.clone());
    Flash { cx, f, p, atom, held, steps, column, slice, partners, batch, head, total, range, offset, rows, outputs }
        .run(k, eval, &first)?;
    Ok(done(b, groups))
}

impl Flash<'_, '_> {
    fn lowest(&self) -> Ex {
        Ex::lit(DType::F32, f64::NEG_INFINITY)
    }
    fn zero(&self) -> Ex {
        Ex::lit(DType::F32, 0.0)
    }
    fn shape(&self) -> [i64; 3] {
        self.p.fragment.shape.map(i64::from)
    }
    fn lanes(&self) -> i64 {
        i64::from(self.cx.spec.lanes) * self.p.warps
    }
    /// Declares a tile of `slots` times `rows` rows, of which `extent` of `padded` columns are there.
    #[allow(clippy::too_many_arguments)]
    fn tile(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        name: &str,
        v: ValueId,
        slots: i64,
        rows: i64,
        extent: &SymExpr,
        padded: i64,
    ) -> Tile {
        let d = eval.dtype(v);
        let dims = eval.dims(v);
        let fits = |eval: &mut Eval<'_>, w: i64| {
            eval.set_width(w as u32);
            let mut at: Vec<SymExpr> = dims.iter().map(|d| eval.ix.bind("p", 0.into(), d.clone())).collect();
            if let Some(last) = at.last_mut() {
                *last = eval.ix.bind("p", 0.into(), extent.div(&w.into())) * w + lane();
            }
            let whole = vector::divides(self.cx, eval, extent, w) && padded % w == 0;
            let ok = whole && vector::loads(self.cx, eval, v, &at, w);
            let direct = ok && eval.resolve(v, &at).is_some();
            eval.set_width(1);
            (ok, direct)
        };
        let mut w = i64::from(self.cx.spec.vector(d));
        let mut direct = false;
        while w > 1 {
            let (ok, d) = fits(eval, w);
            if ok {
                direct = d;
                break;
            }
            w /= 2;
        }
        let bytes = w as u32 * d.bits() / 8;
        let direct = direct && self.cx.spec.queue.is_some_and(|q| q.bytes.contains(&bytes));
        let unit = i64::from(128 / d.bits().max(8));
        // Rows begin in other banks, so that a column of vectors lies in all of them.
        let layout = match padded / unit {
            n if padded % unit != 0 || n % 2 == 1 => Layout::Plain,
            n if n % 8 == 0 => Layout::Xor { unit: unit as u32, shift: 0, mask: 7 },
            _ => Layout::Pad(unit as u32),
        };
        let buf = k.shared(name, BufDecl::rw(d, [slots, rows, padded].map(SymExpr::from)).align(128).layout(layout));
        let (per_row, lanes) = (padded / w, self.lanes());
        let places = (0..(rows * per_row + lanes - 1) / lanes)
            .map(|u| {
                let e = k.let_("e", k.lane() + u * lanes);
                let (row, vector) = (k.let_("row", &e / per_row), k.let_("col", &e % per_row));
                let there = ((u + 1) * lanes > rows * per_row).then(|| k.let_("there", e.lt(rows * per_row)));
                Place { row, vector, there }
            })
            .collect();
        Tile { v, buf, columns: extent.clone(), whole: extent.is(padded), width: w, direct, places }
    }
    /// Column of the values that the lane adds.
    fn stored(&self) -> Ex {
        if self.p.slices == 1 { self.column.clone() } else { &self.slice + &self.column }
    }
    /// Brings the rows of a tile that begin with those at `at(row)`, which are there under its guard, into a slot.
    fn fill(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        t: &Tile,
        slot: &Ex,
        q: Option<QueueId>,
        at: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &Ex) -> (Vec<SymExpr>, Guard),
    ) -> Result<(), Stop> {
        let w = t.width;
        for p in &t.places {
            let mut stop = Ok(());
            let mut body = |k: &mut Kb<'_>| {
                eval.open();
                let (mut coords, mut guard) = at(k, eval, &p.row);
                let counted = t.columns.div(&w.into());
                let c = eval.ix.bind("c", p.vector.clone(), counted.clone());
                if !t.whole {
                    guard.push((c.clone(), counted));
                }
                coords.push(if w > 1 { c * w + lane() } else { c });
                let to = Mem::new(t.buf, vec![(slot.clone(), 1), (p.row.clone(), 1), (&p.vector * w, w as u32)]);
                eval.set_width(w as u32);
                stop = self.bring(k, eval, t, (&coords, &guard), to, q);
                eval.set_width(1);
                eval.close();
            };
            match &p.there {
                Some(there) => k.if_(there, body),
                None => body(k),
            }
            stop?;
        }
        Ok(())
    }
    /// One vector of it.
    fn bring(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        t: &Tile,
        (coords, guard): (&[SymExpr], &Guard),
        to: Mem,
        q: Option<QueueId>,
    ) -> Result<(), Stop> {
        if let Some(q) = q {
            let Some((buf, from)) = eval.resolve(t.v, coords) else { return Stop::no("a copy of what is computed") };
            let src = eval.block(k, buf, &from, guard, Ex::float(0.0))?;
            k.copy_async(q, &to, &src);
            return Ok(());
        }
        let loaded = eval.resolve(t.v, coords).is_some();
        let x = eval.value(k, t.v, coords, guard)?;
        let x = eval.widen(&x);
        let x = match eval.mask(k, guard)? {
            Some(inside) if !loaded => inside.select(x, Ex::lit(DType::F32, 0.0).cast(eval.dtype(t.v)).splat(t.width as u32)),
            _ => x,
        };
        k.store(to, x);
        Ok(())
    }
    fn run(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, first: &Ex) -> Result<(), Stop> {
        let (f, p) = (&self.f, &self.p);
        let [_, fn_, fk] = self.shape();
        let q = self.tile(k, eval, "qs", f.q, 1, p.rows(), &f.depth, p.depth);
        let [keys, values] = [("ks", f.k, &f.depth, p.depth), ("vs", f.v, &f.width, p.width)]
            .map(|(name, v, extent, padded)| self.tile(k, eval, name, v, 2, p.block, extent, padded));
        let queue = (keys.direct && values.direct).then(|| k.queue("q"));
        self.fill(k, eval, &q, &Ex::from(0), None, &mut |k, eval, row| {
            // A row beyond the last one is the last one again.
            let m = k.let_("m", (first + row).min(k.dim(&self.total) - 1));
            let m = eval.ix.bind("m", m, self.total.clone());
            let c = name_coords(k, eval, &m, &[f.shared.clone(), f.queries.clone()]);
            (vec![self.batch.clone(), self.head.clone() * f.shared.clone() + c[0].clone(), c[1].clone()], Guard::new())
        })?;
        let kept = p.keep.then(|| {
            k.barrier(Level::Group);
            let a = k.var_uninit("q", &[(p.depth / fk) as u32], Ty::Frag(self.atom, Operand::A));
            k.unroll("kk", 0, p.depth / fk, |k, kk| {
                let v = self.query(k, &q, &kk);
                k.set_value(&a.at([kk]), v);
            });
            a
        });
        let rows = [self.steps.len() as u32];
        let s = State {
            top: k.var_array("top", &rows, self.lowest()),
            sum: k.var_array("sum", &rows, self.zero()),
            out: k.frags("o", self.atom, Operand::C, &[(p.columns() / fn_) as u32], Ex::float(0.0)),
        };
        let end = self.last_key(k, eval, first);
        // All keys of a part may be hidden.
        let keys_left = if f.parts.is_some() { (end - &self.range.from).max(0) } else { end };
        let blocks = k.let_("blocks", (keys_left + (p.block - 1)) / p.block);
        let mut stop = Ok(());
        let load = |k: &mut Kb<'_>, eval: &mut Eval<'_>, it: &Ex, slot: &Ex| -> Result<(), Stop> {
            let base = k.let_("first", self.first(it));
            for t in [&keys, &values] {
                self.fill(k, eval, t, slot, queue, &mut |k, eval, row| {
                    let j = k.let_("j", &base + row);
                    let j = eval.ix.bind("j", j, f.keys.clone());
                    let whole = f.keys.divisible_by(p.block, &|_| 1);
                    let guard = if whole { Guard::new() } else { vec![(j.clone(), f.keys.clone())] };
                    (vec![self.batch.clone(), self.head.clone(), j], guard)
                })?;
            }
            Ok(())
        };
        match queue {
            Some(queue) => k.for_("it", 0, &blocks + 1, 1, |k, it| {
                eval.open();
                let ready = k.let_("ready", it.ge(1));
                // The block before has landed for all lanes, and the slot of the one before that is no longer read.
                k.if_(&ready, |k| {
                    k.wait(queue, 0);
                    k.barrier(Level::Group);
                });
                k.if_(it.lt(&blocks), |k| {
                    eval.open();
                    let slot = k.let_("slot", &it % 2);
                    stop = load(k, eval, &it, &slot);
                    k.commit(queue);
                    eval.close();
                });
                k.if_(&ready, |k| {
                    let (last, slot) = (k.let_("last", &it - 1), k.let_("slot", (&it - 1) % 2));
                    let then = self.block(k, eval, &s, (&q, kept.as_ref()), (&keys, &values), (&last, &slot));
                    stop = std::mem::replace(&mut stop, Ok(())).and(then);
                });
                eval.close();
            }),
            None => k.for_("it", 0, &blocks, 1, |k, it| {
                eval.open();
                let slot = k.let_("slot", &it % 2);
                stop = load(k, eval, &it, &slot);
                // Slots alternate: what this one held was read before the barrier of the block between.
                k.barrier(Level::Group);
                let then = self.block(k, eval, &s, (&q, kept.as_ref()), (&keys, &values), (&it, &slot));
                stop = std::mem::replace(&mut stop, Ok(())).and(then);
                eval.close();
            }),
        }
        stop?;
        self.results(k, eval, &s)
    }
    /// A fragment of this warp's queries.
    fn query(&self, k: &mut Kb<'_>, q: &Tile, kk: &Ex) -> portwright_ir::kernel::Value {
        let [fm, _, fk] = self.shape();
        let team = if self.p.slices == 1 { warp(k) } else { warp(k) / self.p.slices };
        let from = Mem::new(q.buf, vec![(Ex::from(0), 1), (team * fm, fm as u32), (kk * fk, fk as u32)]);
        k.v_frag(&from, self.atom, Operand::A, BlockOrder::AsIs, self.via(false))
    }
    fn via(&self, turned: bool) -> Via {
        match (self.cx.spec.ldmatrix && self.p.fragment.dtypes[0].bits() == 16, turned) {
            (false, _) => Via::Lane,
            (true, false) => Via::Ldmatrix,
            (true, true) => Via::LdmatrixTrans,
        }
    }
    /// The first key of a block.
    fn first(&self, it: &Ex) -> Ex {
        let first = it * self.p.block;
        if self.f.parts.is_some() { &self.range.from + first } else { first }
    }
    /// The first key that no row of the group sees, or the number of keys.
    fn last_key(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, first: &Ex) -> Ex {
        let f = &self.f;
        let Some(offset) = &self.offset else { return self.range.to.clone() };
        let m = k.let_("m", (first + (self.p.rows() - 1)).min(k.dim(&self.total) - 1));
        let (a, z) = (eval.ix.bind("m", first.clone(), self.total.clone()), eval.ix.bind("m", m, self.total.clone()));
        let dims = [f.shared.clone(), f.queries.clone()];
        let (a, z) = (name_coords(k, eval, &a, &dims), name_coords(k, eval, &z, &dims));
        // Rows of several query heads have the last query among them.
        let [h0, h1, last] = [&a[0], &z[0], &z[1]].map(|c| eval.ix.emit(k, c));
        let queries = k.dim(&f.queries);
        let last = k.let_("last", h0.equals(h1).select(last, queries - 1)).cast(DType::I64);
        let n = k.dim_as(&f.keys, DType::I64);
        k.let_("end", (last + offset + 1).clamp(0, n).cast(k.index()).min(&self.range.to))
    }
    /// One block of keys.
    #[allow(clippy::too_many_arguments)]
    fn block(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        s: &State,
        (q, kept): (&Tile, Option<&Reg>),
        (keys, values): (&Tile, &Tile),
        (it, slot): (&Ex, &Ex),
    ) -> Result<(), Stop> {
        let (f, p, rows) = (&self.f, &self.p, self.steps.len());
        let [_, fn_, fk] = self.shape();
        let (across, regs) = (p.block / fn_, self.held.len());
        let scores = k.frags("s", self.atom, Operand::C, &[across as u32], Ex::float(0.0));
        k.unroll("kk", 0, p.depth / fk, |k, kk| {
            let a = match kept {
                Some(a) => a.at([kk.clone()]),
                None => {
                    let v = self.query(k, q, &kk);
                    k.var_value("a", &[], v)
                }
            };
            k.unroll("n", 0, across, |k, n| {
                let from = Mem::new(keys.buf, vec![(slot.clone(), 1), (&n * fn_, fn_ as u32), (&kk * fk, fk as u32)]);
                let b = k.v_frag(&from, self.atom, Operand::B, BlockOrder::Swapped, self.via(false));
                let b = k.var_value("b", &[], b);
                k.mma(self.atom, &a, &b, &scores.at([n]));
            });
        });
        let at = |r: &Reg, i: usize| r.at([Ex::from(i as i64)]);
        let old: Vec<Ex> = (0..rows).map(|g| k.let_("old", at(&s.top, g).get())).collect();
        let x = k.var_array("x", &[across as u32, regs as u32], self.zero());
        let base = k.let_("first", self.first(it) + &self.column);
        let mut stop = Ok(());
        k.unroll("n", 0, across, |k, n| {
            eval.open();
            let v = k.v_held(&scores.at([n.clone()]));
            let v = k.let_value("v", v);
            for (r, [dm, dn]) in self.held.iter().enumerate() {
                stop = std::mem::replace(&mut stop, Ok(())).and_then(|()| {
                    let g = self.group_of(*dm);
                    let Some(row) = self.rows.get(g) else { return Stop::no("a register in no row") };
                    let j = k.let_("j", &base + &n * fn_ + *dn);
                    let key = eval.ix.bind("j", j, f.keys.clone());
                    let whole = f.keys.divisible_by(p.block, &|_| 1);
                    let there = if whole { Guard::new() } else { vec![(key.clone(), f.keys.clone())] };
                    let score = v.extract(r as i64) * Ex::lit(DType::F32, f.scale);
                    let coords = [self.batch.clone(), row.head.clone(), row.query.clone(), key];
                    let mut y = f.score(k, eval, score, &coords, self.offset.as_ref(), &there)?;
                    if let Some(inside) = eval.mask(k, &there)? {
                        y = inside.select(y, self.lowest());
                    }
                    let y = k.let_("y", y);
                    k.set(&x.at([n.clone(), Ex::from(r as i64)]), &y);
                    k.set(&at(&s.top, g), at(&s.top, g).get().max(y));
                    Ok(())
                });
            }
            eval.close();
        });
        stop?;
        let mut bases = Vec::new();
        let mut fades = Vec::new();
        for (g, old) in old.into_iter().enumerate() {
            let top = self.shared(k, &at(&s.top, g), |a, b| a.max(b));
            k.set(&at(&s.top, g), &top);
            // Nothing seen yet: all scores are minus infinity, and their weights 0.
            let base = k.let_("base", top.equals(f64::NEG_INFINITY).select(self.zero(), &top));
            let fade = k.let_("fade", (old - &base).un(UnOp::Exp));
            k.set(&at(&s.sum, g), at(&s.sum, g).get() * &fade);
            bases.push(base);
            fades.push(fade);
        }
        k.unroll("n", 0, across, |k, n| {
            for (r, [dm, _]) in self.held.iter().enumerate() {
                let g = self.group_of(*dm);
                let place = x.at([n.clone(), Ex::from(r as i64)]);
                let w = k.let_("w", (place.get() - &bases[g]).un(UnOp::Exp));
                k.set(&place, &w);
                k.set(&at(&s.sum, g), at(&s.sum, g).get() + w);
            }
        });
        let fade = self.spread(k, &fades);
        self.scaled(k, s, &|o| o * &fade);
        let d = eval.dtype(f.v);
        k.unroll("kk", 0, p.block / fk, |k, kk| {
            let parts = fk / fn_;
            // A weight is the sum of two numbers of the operands' dtype, so that nothing is rounded below f32 before the result is.
            let mut weights: Vec<Ex> = Vec::new();
            for h in 0..parts {
                let own: Vec<Ex> = (0..regs).map(|r| x.at([&kk * parts + h, Ex::from(r as i64)]).get()).collect();
                let own = k.let_("p", vector_of(&own));
                let high = k.let_("high", own.cast(d));
                let low = k.let_("low", (own - high.cast(DType::F32)).cast(d));
                weights = match weights.as_slice() {
                    [a, b] => vec![k.let_("high", a.concat(&high)), k.let_("low", b.concat(&low))],
                    _ => vec![high, low],
                };
            }
            let halves: Vec<Reg> = weights
                .into_iter()
                .map(|w| {
                    let w = k.var("p", w);
                    let a = k.v_frag_of(&w, self.atom, Operand::A);
                    k.var_value("a", &[], a)
                })
                .collect();
            k.unroll("n", 0, p.columns() / fn_, |k, n| {
                let column = if p.slices == 1 { &n * fn_ } else { &self.slice + &n * fn_ };
                let from = Mem::new(values.buf, vec![(slot.clone(), 1), (&kk * fk, fk as u32), (column, fn_ as u32)]);
                let b = k.v_frag(&from, self.atom, Operand::B, BlockOrder::AsIs, self.via(true));
                let b = k.var_value("b", &[], b);
                for a in &halves {
                    k.mma(self.atom, a, &b, &s.out.at([n.clone()]));
                }
            });
        });
        Ok(())
    }
    /// Which of the lane's rows that is.
    fn group_of(&self, step: i64) -> usize {
        self.steps.iter().position(|s| *s == step).unwrap_or(0)
    }
    /// What all lanes that share a row have together.
    fn shared(&self, k: &mut Kb<'_>, own: &Reg, with: impl Fn(Ex, Ex) -> Ex) -> Ex {
        let mut all = k.let_("all", own.get());
        for by in &self.partners {
            let t = k.shuffle("t", ShuffleKind::Xor, &all, *by, self.cx.spec.reach().min(u32::from(u16::MAX)) as u16);
            all = k.let_("all", with(all, t));
        }
        all
    }
    /// A vector with each register's row's number.
    fn spread(&self, k: &mut Kb<'_>, of: &[Ex]) -> Ex {
        let list: Vec<Ex> = self.held.iter().map(|h| of[self.group_of(h[0]).min(of.len() - 1)].clone()).collect();
        k.let_("spread", vector_of(&list))
    }
    /// Changes all sums.
    fn scaled(&self, k: &mut Kb<'_>, s: &State, f: &dyn Fn(Ex) -> Ex) {
        k.unroll("n", 0, self.p.columns() / self.shape()[1], |k, n| {
            let o = s.out.at([n]);
            let v = k.v_held(&o);
            let v = k.let_value("v", v);
            let v = k.var("v", f(v));
            let back = k.v_frag_of(&v, self.atom, Operand::C);
            k.set_value(&o, back);
        });
    }
    /// Divides by the sums of weights and stores.
    fn results(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, s: &State) -> Result<(), Stop> {
        let (f, fn_) = (&self.f, self.shape()[1]);
        let mut totals = Vec::new();
        for g in 0..self.steps.len() {
            let at = |r: &Reg| r.at([Ex::from(g as i64)]);
            let sum = self.shared(k, &at(&s.sum), |a, b| a + b);
            let none = at(&s.top).get().equals(f64::NEG_INFINITY);
            totals.push(k.let_("total", none.select(Ex::lit(DType::F32, 1.0), sum)));
        }
        let total = self.spread(k, &totals);
        let w = self.neighbors(eval);
        let dims = eval.dims(f.root);
        // Zero, or NaN where a sum of this lane is not finite.
        let odd = k.var("odd", self.zero());
        let counted = f.width.div(&w.into());
        let out = eval.dtype(f.root);
        let mut stop = Ok(());
        k.unroll("n", 0, self.p.columns() / fn_, |k, n| {
            let v = k.v_held(&s.out.at([n.clone()]));
            let v = k.let_value("v", v);
            for r in 0..self.held.len() {
                k.set(&odd, v.extract(r as i64).fma(&self.zero(), odd.get()));
            }
            let v = k.let_("v", v / &total);
            let v = if out == DType::F32 { v } else { k.let_("v", v.cast(out)) };
            for r in (0..self.held.len()).step_by(w as usize) {
                let (Some([dm, dn]), true) = (self.held.get(r), stop.is_ok()) else { return };
                let Some(row) = self.rows.get(self.group_of(*dm)) else { return };
                eval.open();
                eval.set_width(w as u32);
                stop = (|| {
                    let c = k.let_("c", (self.stored() + &n * fn_ + *dn) / w);
                    let c = eval.ix.bind("c", c, counted.clone());
                    let mut guard = Guard::new();
                    if !self.total.divisible_by(self.p.rows(), &|_| 1) {
                        guard.push((row.number.clone(), self.total.clone()));
                    }
                    if !f.width.is(self.p.width) {
                        guard.push((c.clone(), counted.clone()));
                    }
                    let list: Vec<u16> = (r..r + w as usize).map(|i| i as u16).collect();
                    let y = if w == 1 { v.extract(r as i64) } else { v.shufflev(&list) };
                    let column = if w == 1 { c } else { c * w + lane() };
                    let coords = f.at(&self.range, &[self.batch.clone(), row.head.clone(), row.query.clone(), column]);
                    eval.bind(f.root, &coords, &guard, k.let_("y", y));
                    f.store(self.cx, &self.outputs, k, eval, &dims, &coords, &guard)
                })();
                eval.set_width(1);
                eval.close();
            }
        });
        stop?;
        self.logarithms(k, eval, s, &totals)?;
        let totals: Vec<(Ex, Ex)> = totals.into_iter().zip((0..self.steps.len()).map(|g| s.top.at([Ex::from(g as i64)]).get())).collect();
        let mut stop = Ok(());
        k.if_(odd.get().differs(0.0), |k| {
            eval.open();
            stop = self.carefully(k, eval, &totals);
            eval.close();
        });
        stop
    }
    /// Of parts, the logarithms of the sums of weights, each stored by the lane that has the first column.
    fn logarithms(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, s: &State, totals: &[Ex]) -> Result<(), Stop> {
        if self.f.parts.is_none() {
            return Ok(());
        }
        let mut stop = Ok(());
        k.if_(self.stored().equals(0), |k| {
            eval.open();
            stop = self.rows.iter().zip(totals).enumerate().try_for_each(|(g, (row, total))| {
                let mut guard = Guard::new();
                if !self.total.divisible_by(self.p.rows(), &|_| 1) {
                    guard.push((row.number.clone(), self.total.clone()));
                }
                let top = s.top.at([Ex::from(g as i64)]).get();
                let at = self.f.log_at(&self.range, &self.batch, &row.head, &row.query);
                self.f.store_log(self.cx, &self.outputs, k, eval, &at, &guard, (&top, total))
            });
            eval.close();
        });
        stop
    }
    /// Results of this lane once more, one by one, where any is not finite: a product with a value of a hidden key counts for nothing, even if
    /// that is not finite. `totals` has the divisor and the largest score of each of the lane's rows.
    fn carefully(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, totals: &[(Ex, Ex)]) -> Result<(), Stop> {
        let (f, fn_) = (&self.f, self.shape()[1]);
        let (dims, out) = (eval.dims(f.root), eval.dtype(f.root));
        let wide = |eval: &Eval<'_>, x: Ex, v: ValueId| if eval.dtype(v) == DType::F32 { x } else { x.cast(DType::F32) };
        let mut stop = Ok(());
        k.for_("n", 0, self.p.columns() / fn_, 1, |k, n| {
            for [dm, dn] in &self.held {
                let g = self.group_of(*dm);
                let (Some(row), Some((total, top)), true) = (self.rows.get(g), totals.get(g), stop.is_ok()) else { return };
                eval.open();
                stop = (|| {
                    let c = k.let_("c", self.stored() + &n * fn_ + *dn);
                    // What is beyond the last column is the last one again, and is not stored.
                    let safe = if f.width.is(self.p.width) { c.clone() } else { k.let_("c", c.min(k.dim(&f.width) - 1)) };
                    let (c, safe) = (eval.ix.bind("c", c, f.width.clone()), eval.ix.bind("c", safe, f.width.clone()));
                    let at = |head: &SymExpr, row: &SymExpr, column: &SymExpr| [&self.batch, head, row, column].map(SymExpr::clone);
                    let base = k.let_("base", top.equals(f64::NEG_INFINITY).select(self.zero(), top));
                    let sum = k.var("o", self.zero());
                    let mut stop = Ok(());
                    k.for_("j", &self.range.from, &self.range.to, 1, |k, j| {
                        eval.open();
                        stop = (|| {
                            let j = eval.ix.bind("j", j, f.keys.clone());
                            let score = k.var("s", self.zero());
                            let (mut stop, hi) = (Ok(()), k.dim(&f.depth));
                            k.for_("d", 0, hi, 1, |k, d| {
                                eval.open();
                                stop = (|| {
                                    let d = eval.ix.bind("d", d, f.depth.clone());
                                    let x = eval.value(k, f.q, &at(&row.head, &row.query, &d), &Guard::new())?;
                                    let y = eval.value(k, f.k, &at(&self.head, &j, &d), &Guard::new())?;
                                    let (x, y) = (wide(eval, x, f.q), wide(eval, y, f.k));
                                    k.set(&score, x.fma(y, score.get()));
                                    Ok(())
                                })();
                                eval.close();
                            });
                            stop?;
                            let scaled = score.get() * Ex::lit(DType::F32, f.scale);
                            let y = f.score(k, eval, scaled, &at(&row.head, &row.query, &j), self.offset.as_ref(), &Guard::new())?;
                            let w = k.let_("w", (y - &base).un(UnOp::Exp));
                            let x = eval.value(k, f.v, &at(&self.head, &j, &safe), &Guard::new())?;
                            let x = wide(eval, x, f.v);
                            k.set(&sum, w.equals(0.0).select(sum.get(), w.fma(x, sum.get())));
                            Ok(())
                        })();
                        eval.close();
                    });
                    stop?;
                    let mut guard = Guard::new();
                    if !self.total.divisible_by(self.p.rows(), &|_| 1) {
                        guard.push((row.number.clone(), self.total.clone()));
                    }
                    if !f.width.is(self.p.width) {
                        guard.push((c.clone(), f.width.clone()));
                    }
                    let y = sum.get() / total;
                    let y = if out == DType::F32 { y } else { y.cast(out) };
                    let coords = f.at(&self.range, &at(&row.head, &row.query, &c));
                    eval.bind(f.root, &coords, &guard, k.let_("y", y));
                    f.store(self.cx, &self.outputs, k, eval, &dims, &coords, &guard)
                })();
                eval.close();
            }
        });
        stop
    }
    /// Neighboring columns of a lane that are stored at once.
    fn neighbors(&self, eval: &mut Eval<'_>) -> i64 {
        let run = self.held.windows(2).take_while(|p| p[1] == [p[0][0], p[0][1] + 1]).count() as i64 + 1;
        let w = 1 << run.ilog2();
        let values: Vec<ValueId> = self.cx.region.outputs().iter().map(|o| o.value).filter(|&v| self.f.stores(v)).collect();
        let whole = self.held.len() as i64 % w == 0 && vector::divides(self.cx, eval, &self.f.width, w);
        let wide = values.iter().all(|&v| i64::from(self.cx.spec.vector(eval.dtype(v))) >= w);
        let dims = eval.dims(self.f.root);
        let fits = w > 1
            && whole
            && wide
            && vector::fits(self.cx, eval, &values, Some(self.f.root), w, &mut |eval, w| {
                let last = dims.len().saturating_sub(1);
                let bound = |(i, d): (usize, &SymExpr)| match i == last {
                    true => eval.ix.bind("p", 0.into(), d.div(&w.into())) * w + lane(),
                    false => eval.ix.bind("p", 0.into(), d.clone()),
                };
                dims.iter().enumerate().map(bound).collect()
            });
        if fits { w } else { 1 }
    }
}
