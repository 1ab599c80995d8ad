// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products on matrix instructions.
//!
//! A group of four warps computes a tile, each warp a quarter of it in fragments. Tiles of both operands lie in shared memory as they lie in
//! global memory, rows permuted so that fragments are loaded without bank conflicts. Where whole aligned vectors of an operand can be copied,
//! they come by asynchronous copies, two steps ahead; anything else (taps of a convolution, computed operands, odd extents) comes through
//! registers, one step ahead. Edges are zeros in shared memory and conditions of stores.

use portwright_ir::dtype::DType;
use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{AtomId, BlockOrder, Buf, BufDecl, Ex, Kb, Layout, Level, Mem, Operand, Place2, QueueId, Reg, Ty, Via};
use portwright_ir::sym::{SymExpr, product};

use super::super::index::{LANE, lane};
use super::flash::lane_part;
use super::gemm::{self, Dims, extents, total};
use super::problem::{At, OperandAt, Problem};
use super::runs::Made;
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, name_coords, vector, vector_of, warp};
use crate::spec::Fragment;

/// Warps of a group, along rows and along columns.
const WARPS: i64 = 2;

/// Neighbors of a computed operand that a lane puts together.
const RUN: i64 = 8;

/// Steps that asynchronous copies are ahead.
const AHEAD: i64 = 2;

/// Which fragment computes a problem, in tiles of which extents.
#[derive(Copy, Clone)]
pub(super) struct Form {
    fragment: Fragment,
    rows: i64,
    cols: i64,
    depth: i64,
}

/// The form of a problem; `None` if the machine has no fragment for it, or tiles would be mostly empty. A right operand that is `made` is
/// rounded to the dtype of the left one.
pub(super) fn form(cx: &Cx<'_>, eval: &Eval<'_>, p: &Problem<'_>, made: Option<&Made<'_>>) -> Option<Form> {
    let left = eval.dtype(p.lhs);
    let dtypes = [left, if made.is_some() { left } else { eval.dtype(p.rhs) }, p.acc];
    let fits = |f: &&Fragment| f.dtypes == dtypes && u32::from(f.lanes) == cx.spec.lanes;
    let fragment = *cx.spec.fragments.iter().find(fits)?;
    // Of packed integers, what neighbors in a row read is a whole sector.
    let runs = made.and_then(|m| m.run.as_ref()).is_some_and(|r| r.fits(cx, eval, RUN));
    let depth = runs.then(|| (4 * i64::from(fragment.shape[2])).max(2 * RUN));
    form_of(cx, p, fragment, depth)
}

/// The form in which a fragment computes a problem, in steps of so many summed coordinates where that is not for it to say.
pub(super) fn form_of(cx: &Cx<'_>, p: &Problem<'_>, fragment: Fragment, depth: Option<i64>) -> Option<Form> {
    let dtypes = fragment.dtypes;
    if cx.spec.lanes * (WARPS * WARPS) as u32 > cx.spec.max_group {
        return None;
    }
    let [fm, fn_, fk] = fragment.shape.map(i64::from);
    let (m, n) = (total(&p.m).as_const(), total(&p.n).as_const());
    if m.is_some_and(|m| m < fm) || n.is_some_and(|n| n < fn_) {
        return None;
    }
    let (m, n) = (m.unwrap_or(256), n.unwrap_or(256));
    let tiles = |size: i64| ((m + size - 1) / size).saturating_mul((n + size - 1) / size);
    let size = match () {
        () if m >= 128 && n >= 128 && tiles(128) >= i64::from(cx.spec.busy) => 128,
        () if m > 32 && n > 32 => 64,
        () => 32,
    };
    let depth = depth.unwrap_or((2 * fk).max(32));
    let bytes = i64::from(dtypes[0].bits().max(dtypes[1].bits())) / 8;
    let fits = |size: i64| (AHEAD + 1) * 2 * size * depth * bytes <= i64::from(cx.spec.shared_bytes);
    let size = [128, 64, 32].into_iter().find(|&s| s <= size && fits(s))?;
    ((size / WARPS) % fm == 0 && (size / WARPS) % fn_ == 0).then_some(Form { fragment, rows: size, cols: size, depth })
}

/// One operand's tile.
struct Side<'s> {
    v: ValueId,
    at: &'s OperandAt<'s>,
    /// How its elements are computed, where it is no value.
    made: Option<&'s Made<'s>>,
    dtype: DType,
    dims: &'s Dims,
    size: i64,
    operand: Operand,
    /// Whether memory runs along the summed dims.
    along_depth: bool,
    /// Neighbors that move at once.
    width: i64,
    /// Whether they can be copied as they lie.
    direct: bool,
    /// `[slot, size, depth]` or `[slot, depth, size]`.
    shared: Shared,
    /// The next tile's vectors of this lane, where they come through registers.
    next: Option<Reg>,
    places: Vec<Place>,
}

/// Memory of a tile.
enum Shared {
    /// Not made yet: its declaration, for so many slots and elements of that dtype.
    Declared(Box<dyn Fn(i64, DType) -> BufDecl>),
    Made(Buf),
}

/// A vector of a tile.
struct Place {
    /// Own coordinate (of its first element in vectors if memory runs along it) and the coordinates that it stands for.
    own: SymExpr,
    coords: Vec<SymExpr>,
    /// The summed coordinate within a step, in vectors if memory runs along it.
    depth: Ex,
    /// Where it lies in the tile: row, and first element in the row.
    row: Ex,
    column: Ex,
}

struct Tiled<'t, 'a, 'p> {
    cx: &'t Cx<'a>,
    p: &'t Problem<'p>,
    form: Form,
    atom: AtomId,
    /// How the right operand is computed.
    made: Option<&'t Made<'t>>,
    scales: Option<&'t Scales>,
}

/// Scales of rows and of columns, `[.., blocks]`, by which sums of `block` products are multiplied. Steps divide a block, and blocks the sum.
pub(super) struct Scales {
    pub(super) values: [ValueId; 2],
    pub(super) block: i64,
}

/// Sums of all blocks so far, and where this lane's elements of an accumulator are.
struct Total {
    sums: Reg,
    /// Row and column of each register, beside what the lane adds.
    held: Vec<[i64; 2]>,
    lane: [Ex; 2],
    first: [Ex; 2],
}

/// Builds the kernel.
pub(super) fn build<'a>(
    cx: &Cx<'a>,
    mut b: Begun<'a, '_>,
    p: &Problem<'_>,
    form: Form,
    made: Option<&Made<'_>>,
    scales: Option<&Scales>,
) -> Result<Built, Stop> {
    let atom = b.k.module().add_atom(form.fragment.atom());
    Tiled { cx, p, form, atom, made, scales }.build(b)
}

impl<'a> Tiled<'_, 'a, '_> {
    fn lanes(&self) -> i64 {
        i64::from(self.cx.spec.lanes) * WARPS * WARPS
    }
    fn build(&self, mut b: Begun<'a, '_>) -> Result<Built, Stop> {
        let (p, f) = (self.p, self.form);
        let (m, n, depth, batch) = (total(&p.m), total(&p.n), total(&p.k), total(&p.batch));
        let outputs = b.outputs.clone();
        let Begun { k, eval, .. } = &mut b;
        k.group(self.lanes() as u32, self.cx.spec.lanes);
        let (across, down) = (n.ceil_div(&f.cols.into()), m.ceil_div(&f.rows.into()));
        let groups = &(&batch * &down) * &across;
        let g = eval.ix.bind("g", k.gx(), groups.clone());
        let at = name_coords(k, eval, &g, &[batch, down, across]);
        let [z, tm, tn] = at.as_slice() else { return Stop::no("a product without a tile") };
        let batch_coords = name_coords(k, eval, z, &extents(&p.batch));
        let at = At::default().with(&p.batch, &batch_coords);
        let steps = depth.ceil_div(&f.depth.into());

        let mut lhs = self.side(k, eval, p.lhs, (&p.lhs_at, &p.m), f.rows, (tm, Operand::A));
        let mut rhs = self.side(k, eval, p.rhs, (&p.rhs_at, &p.n), f.cols, (tn, Operand::B));
        let queue = (lhs.direct && rhs.direct && self.cx.spec.queue.is_some_and(|q| i64::from(q.pending) > AHEAD)).then(|| k.queue("q"));
        let slots = if queue.is_some() { AHEAD + 1 } else { 2 };
        lhs.declare(k, slots, queue.is_none());
        rhs.declare(k, slots, queue.is_none());
        let sides = [&lhs, &rhs];

        let emit = |eval: &Eval<'_>, k: &Kb<'_>, t: &SymExpr, size: i64| eval.ix.emit(k, t) * size;
        let (m0, n0) = (emit(eval, k, tm, f.rows), emit(eval, k, tn, f.cols));
        let wm = k.let_("wm", warp(k) / WARPS * (f.rows / WARPS));
        let wn = k.let_("wn", warp(k) % WARPS * (f.cols / WARPS));
        let (m0, n0) = (k.let_("m0", m0 + &wm), k.let_("n0", n0 + &wn));
        let [fm, fn_, _] = f.fragment.shape.map(i64::from);
        let (rows, cols) = (f.rows / WARPS / fm, f.cols / WARPS / fn_);
        let zero = if p.acc.is_float() { Ex::float(0.0) } else { Ex::int(0) };
        let c = k.frags("c", self.atom, Operand::C, &[rows as u32, cols as u32], zero.clone());
        let total = match self.scales {
            None => None,
            Some(_) => {
                let sums = k.frags("total", self.atom, Operand::C, &[rows as u32, cols as u32], zero);
                let def = f.fragment.atom();
                let Place2::PerLane { lane: digits, .. } = def.operand(Operand::C) else { return Stop::no("a fragment in no registers") };
                let held = (0..def.regs(Operand::C).unwrap_or(0)).map(|r| def.coord(Operand::C, 0, r).map(i64::from)).collect();
                let lane = [0, 1].map(|dim| lane_part(k, digits, dim));
                Some(Total { sums, held, lane, first: [m0.clone(), n0.clone()] })
            }
        };
        let sums = (&c, total.as_ref());

        let hi = k.let_("steps", k.dim(&steps));
        match queue {
            Some(q) => self.copied(k, eval, sides, &at, (&steps, &hi, &depth), q, (&wm, &wn), sums)?,
            None => self.carried(k, eval, sides, &at, (&steps, &hi, &depth), (&wm, &wn), sums)?,
        }
        let c = total.as_ref().map_or(&c, |t| &t.sums);
        self.epilogue(k, eval, &outputs, &at, (&m0, &n0), c)?;
        Ok(done(b, groups))
    }
    /// Steps whose tiles come by asynchronous copies: one text of the copies, one barrier a step.
    #[allow(clippy::too_many_arguments)]
    fn copied(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        sides: [&Side<'_>; 2],
        at: &At,
        (steps, hi, depth): (&SymExpr, &Ex, &SymExpr),
        q: QueueId,
        warps: (&Ex, &Ex),
        (c, total): (&Reg, Option<&Total>),
    ) -> Result<(), Stop> {
        let mut stop = Ok(());
        let slots = AHEAD + 1;
        k.for_("it", 0, hi + AHEAD, 1, |k, it| {
            eval.open();
            let ready = k.let_("ready", it.ge(AHEAD));
            // The tile of step `it - AHEAD` has landed for all lanes, and the slot before it is no longer read.
            k.if_(&ready, |k| {
                k.wait(q, (AHEAD - 1) as u8);
                k.barrier(Level::Group);
            });
            k.if_(it.lt(hi), |k| {
                eval.open();
                let slot = k.let_("slot", &it % slots);
                let step = eval.ix.bind("it", it.clone(), steps.clone());
                stop = sides.iter().try_for_each(|s| {
                    s.visit(self, k, eval, at, &step, depth, &mut |k, eval, _, place, coords, guard| {
                        let Some((buf, from)) = eval.resolve(s.v, coords) else { return Stop::no("a copy of what is computed") };
                        let zero = if buf.dtype.is_float() { Ex::float(0.0) } else { Ex::int(0) };
                        let src = eval.block(k, buf, &from, guard, zero)?;
                        if let Some(to) = s.place(place, &slot) {
                            k.copy_async(q, &to, &src);
                        }
                        Ok(())
                    })
                });
                eval.close();
            });
            // Every step closes a group of copies, an empty one at the end, so that all but the last are always waited for.
            k.commit(q);
            k.if_(&ready, |k| {
                let slot = k.let_("slot", (&it - AHEAD) % slots);
                self.multiply(k, sides, &slot, warps, c);
                let then = self.promote(k, eval, at, &(&it - AHEAD), depth, c, total);
                stop = std::mem::replace(&mut stop, Ok(())).and(then);
            });
            eval.close();
        });
        stop
    }
    /// Steps whose tiles come through registers.
    #[allow(clippy::too_many_arguments)]
    fn carried(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        sides: [&Side<'_>; 2],
        at: &At,
        (steps, hi, depth): (&SymExpr, &Ex, &SymExpr),
        warps: (&Ex, &Ex),
        (c, total): (&Reg, Option<&Total>),
    ) -> Result<(), Stop> {
        sides.iter().try_for_each(|s| s.load(self, k, eval, at, &0.into(), depth))?;
        sides.iter().for_each(|s| s.publish(k, &0.into()));
        k.barrier(Level::Group);
        let mut stop = Ok(());
        k.for_("it", 0, hi, 1, |k, it| {
            eval.open();
            let next = k.let_("next", &it + 1);
            let more = k.let_("more", next.lt(hi));
            k.if_(&more, |k| {
                eval.open();
                let it = eval.ix.bind("it", next.clone(), steps.clone());
                stop = sides.iter().try_for_each(|s| s.load(self, k, eval, at, &it, depth));
                eval.close();
            });
            let slot = k.let_("slot", &it % 2);
            self.multiply(k, sides, &slot, warps, c);
            let then = self.promote(k, eval, at, &it, depth, c, total);
            stop = std::mem::replace(&mut stop, Ok(())).and(then);
            k.if_(&more, |k| {
                let slot = k.let_("slot", next % 2);
                sides.iter().for_each(|s| s.publish(k, &slot));
            });
            k.barrier(Level::Group);
            eval.close();
        });
        stop
    }
    /// At the end of a block, adds its sums by their scales to those of all, and begins anew.
    #[allow(clippy::too_many_arguments)]
    fn promote(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        it: &Ex,
        depth: &SymExpr,
        c: &Reg,
        total: Option<&Total>,
    ) -> Result<(), Stop> {
        let (Some(scales), Some(total)) = (self.scales, total) else { return Ok(()) };
        let (f, p) = (self.form, self.p);
        let [fm, fn_, _] = f.fragment.shape.map(i64::from);
        let counts = [f.rows / WARPS / fm, f.cols / WARPS / fn_];
        let per = scales.block / f.depth;
        let step = k.let_("step", it);
        let ends = k.let_("ends", (&step % per).equals(per - 1));
        let mut stop = Ok(());
        k.if_(ends, |k| {
            eval.open();
            stop = (|| {
                let block = k.let_("block", &step / per);
                let block = eval.ix.bind("block", block, depth.div(&scales.block.into()));
                // The scale of each of this lane's rows and columns; those beyond the last one are the last one's.
                let mut own: [Vec<(i64, Ex)>; 2] = [Vec::new(), Vec::new()];
                for (axis, list) in own.iter_mut().enumerate() {
                    let (dims, extent) = ([&p.m, &p.n][axis], [fm, fn_][axis]);
                    let all = gemm::total(dims);
                    let mut within: Vec<i64> = total.held.iter().map(|h| h[axis]).collect();
                    within.sort_unstable();
                    within.dedup();
                    for i in 0..counts[axis] {
                        for w in &within {
                            let x = k.let_("x", &total.first[axis] + &total.lane[axis] + (i * extent + w));
                            let x = if all.divisible_by([f.rows, f.cols][axis], &|_| 1) { x } else { k.let_("x", x.min(k.dim(&all) - 1)) };
                            let x = eval.ix.bind("x", x, all.clone());
                            let coords = name_coords(k, eval, &x, &extents(dims));
                            let mut place: Vec<SymExpr> = dims.iter().map(|d| at.with(dims, &coords).get(d.0)).collect();
                            place.push(block.clone());
                            let s = eval.value(k, scales.values[axis], &place, &Guard::new())?;
                            let s = if eval.dtype(scales.values[axis]) == DType::F32 { s } else { s.cast(DType::F32) };
                            list.push((i * extent + w, k.let_("scale", s)));
                        }
                    }
                }
                let [rows, columns] = &own;
                let of = |list: &[(i64, Ex)], x: i64| list.iter().find(|s| s.0 == x).map_or(Ex::float(1.0), |s| s.1.clone());
                for i in 0..counts[0] {
                    for j in 0..counts[1] {
                        let place = [Ex::from(i), Ex::from(j)];
                        let (part, sum) = (c.at(place.clone()), total.sums.at(place));
                        let (v, t) = (k.v_held(&part), k.v_held(&sum));
                        let (v, t) = (k.let_value("v", v), k.let_value("t", t));
                        let factors: Vec<Ex> = total
                            .held
                            .iter()
                            .map(|[m, n]| of(rows, i * fm + m) * of(columns, j * fn_ + n))
                            .map(|x| k.let_("s", x))
                            .collect();
                        let new = k.var("t", v.fma(vector_of(&factors), t));
                        let back = k.v_frag_of(&new, self.atom, Operand::C);
                        k.set_value(&sum, back);
                        let none = k.var("v", Ex::lit(DType::F32, 0.0).splat(total.held.len() as u32));
                        let back = k.v_frag_of(&none, self.atom, Operand::C);
                        k.set_value(&part, back);
                    }
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    }
    /// Where and how an operand's tile comes and lies.
    fn side<'s>(
        &'s self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        v: ValueId,
        (at, dims): (&'s OperandAt<'s>, &'s Dims),
        size: i64,
        (tile, operand): (&SymExpr, Operand),
    ) -> Side<'s> {
        let (p, depth, group) = (self.p, self.form.depth, self.lanes());
        let made = self.made.filter(|_| operand == Operand::B);
        let dtype = self.form.fragment.dtypes[usize::from(operand == Operand::B)];
        // What is stored narrower becomes the fragment's dtype on its way.
        let widened = made.is_none() && dtype != eval.dtype(v);
        // The widest vectors along a list of dims; 1 means element by element.
        let widest = |eval: &mut Eval<'_>, along: &Dims| -> Option<(i64, bool)> {
            let last = along.last()?;
            let mut w = i64::from(self.cx.spec.vector(if widened { dtype } else { eval.dtype(v) })).min(size * depth / group);
            while w >= 1 {
                eval.set_width(w.max(2) as u32);
                let mut c = At::default();
                for d in p.batch.iter().chain(&p.m).chain(&p.n).chain(&p.k) {
                    let runs = d.0 == last.0;
                    let x = eval.ix.bind("p", 0.into(), if runs { d.1.div(&w.into()) } else { d.1.clone() });
                    c = c.with(std::slice::from_ref(d), &[if runs { x * w + lane() } else { x }]);
                }
                let (coords, guard) = at(eval, &c);
                let still = guard.iter().all(|(e, _)| !has_lane(e));
                let whole = vector::divides(self.cx, eval, &last.1, w);
                let ok = still && whole && vector::loads(self.cx, eval, v, &coords, w);
                let direct = ok && eval.resolve(v, &coords).is_some();
                let near = w > 1 || eval.is_contiguous(v, &coords);
                eval.set_width(1);
                if w > 1 && ok {
                    return Some((w, direct));
                }
                if w == 1 {
                    return near.then_some((1, false));
                }
                w /= 2;
            }
            None
        };
        let (by_depth, by_own) = if made.is_some() { (None, None) } else { (widest(eval, &p.k), widest(eval, dims)) };
        let (along_depth, (width, direct)) = match (by_depth, by_own) {
            // What is computed one by one is put together along the summed dims.
            _ if made.is_some() => (true, (i64::from(self.cx.spec.vector(dtype)).min(size * depth / group).max(1), false)),
            (Some(d), Some(o)) if o.0 > d.0 => (false, o),
            (Some(d), _) => (true, d),
            (None, Some(o)) => (false, o),
            (None, None) => (false, (1, false)),
        };
        let bytes = width as u32 * dtype.bits() / 8;
        let direct = direct && !widened && self.cx.spec.queue.is_some_and(|q| q.bytes.contains(&bytes));
        let (row_len, rows) = if along_depth { (depth, size) } else { (size, depth) };
        let unit = i64::from(128 / dtype.bits().max(8));
        let layout = match row_len / unit {
            n if n >= 8 => Layout::Xor { unit: unit as u32, shift: 0, mask: 7 },
            4 => Layout::Xor { unit: unit as u32, shift: 1, mask: 3 },
            2 => Layout::Xor { unit: unit as u32, shift: 2, mask: 1 },
            _ => Layout::Plain,
        };
        let decl = move |slots: i64, d: DType| BufDecl::rw(d, [slots, rows, row_len].map(SymExpr::from)).align(128).layout(layout);
        // How many slots there are is known when both sides are.
        let shared = Shared::Declared(Box::new(decl));
        let first = eval.ix.emit(k, tile);
        let own_dims = vectors(dims, if along_depth { 1 } else { width });
        let own_total = product(&own_dims);
        let places = (0..size * depth / width / group)
            .map(|u| {
                let per_row = row_len / width;
                let e = k.let_("e", k.lane() + u * group);
                let (row, column) = (k.let_("row", &e / per_row), k.let_("col", e % per_row));
                let (own, depth) = if along_depth { (&row, &column) } else { (&column, &row) };
                let own = k.let_("own", &first * (if along_depth { size } else { size / width }) + own);
                let own = eval.ix.bind("own", own, own_total.clone());
                let mut coords = name_coords(k, eval, &own, &own_dims);
                if let Some(last) = coords.last_mut().filter(|_| !along_depth && width > 1) {
                    *last = last.clone() * width + lane();
                }
                Place { own, coords, depth: depth.clone(), row: row.clone(), column: column * width }
            })
            .collect();
        Side { v, at, made, dtype, dims, size, operand, along_depth, width, direct, shared, next: None, places }
    }
    fn multiply(&self, k: &mut Kb<'_>, [lhs, rhs]: [&Side<'_>; 2], slot: &Ex, (wm, wn): (&Ex, &Ex), c: &Reg) {
        let [fm, fn_, fk] = self.form.fragment.shape.map(i64::from);
        let (rows, cols) = (self.form.rows / WARPS / fm, self.form.cols / WARPS / fn_);
        k.unroll("kk", 0, self.form.depth / fk, |k, kk| {
            let a = k.var_uninit("a", &[rows as u32], Ty::Frag(self.atom, Operand::A));
            let b = k.var_uninit("b", &[cols as u32], Ty::Frag(self.atom, Operand::B));
            for (s, reg, first, own, count) in [(lhs, &a, wm, fm, rows), (rhs, &b, wn, fn_, cols)] {
                k.unroll("i", 0, count, |k, i| {
                    let own = (first + &i * own, own as u32);
                    let depth = (&kk * fk, fk as u32);
                    let block = if s.along_depth { [own, depth] } else { [depth, own] };
                    let Some(mem) = s.block(slot, block) else { return };
                    // Operand a is (m, k), operand b is (k, n).
                    let as_is = s.along_depth == (s.operand == Operand::A);
                    let order = if as_is { BlockOrder::AsIs } else { BlockOrder::Swapped };
                    let value = k.v_frag(&mem, self.atom, s.operand, order, self.via(s));
                    k.set_value(&reg.at([i]), value);
                });
            }
            k.unroll("i", 0, rows, |k, i| {
                k.unroll("j", 0, cols, |k, j| {
                    k.mma(self.atom, &a.at([i.clone()]), &b.at([j.clone()]), &c.at([i.clone(), j]));
                });
            });
        });
    }
    /// How fragments come from shared memory. The matrix load takes rows of 16 bytes along the summed dim, or turns rows of 16-bit elements.
    fn via(&self, s: &Side<'_>) -> Via {
        match (self.cx.spec.ldmatrix, self.form.fragment.dtypes[0].bits(), s.along_depth) {
            (true, 8 | 16, true) => Via::Ldmatrix,
            (true, 16, false) => Via::LdmatrixTrans,
            _ => Via::Lane,
        }
    }
    fn epilogue(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, outputs: &[Buf], at: &At, (m0, n0): (&Ex, &Ex), c: &Reg) -> Result<(), Stop> {
        let (p, [fm, fn_, _]) = (self.p, self.form.fragment.shape.map(i64::from));
        let (rows, cols) = (self.form.rows / WARPS / fm, self.form.cols / WARPS / fn_);
        let (m, n) = (total(&p.m), total(&p.n));
        let neighbors = k.module().atoms.get(self.atom).map_or(1, |a| a.each_width());
        let values: Vec<ValueId> = self.cx.region.outputs().iter().map(|o| o.value).collect();
        let w = if neighbors > 1 && gemm::in_chunks(self.cx, eval, p, &values, i64::from(neighbors)) { neighbors } else { 1 };
        let counted = vectors(&p.n, i64::from(w));
        let mut stop = Ok(());
        k.unroll("i", 0, rows, |k, i| {
            k.unroll("j", 0, cols, |k, j| {
                k.each(&c.at([i.clone(), j.clone()]), w, |k, v, [dm, dn]| {
                    eval.open();
                    eval.set_width(w);
                    stop = (|| {
                        let row = k.let_("m", m0 + &i * fm + dm);
                        let col = k.let_("n", (n0 + &j * fn_ + dn) / i64::from(w));
                        let (row, col) = (eval.ix.bind("m", row, m.clone()), eval.ix.bind("n", col, product(&counted)));
                        let mut edge = Guard::new();
                        if !m.divisible_by(self.form.rows, &|_| 1) {
                            edge.push((row.clone(), m.clone()));
                        }
                        if !n.divisible_by(self.form.cols, &|_| 1) {
                            edge.push((col.clone(), product(&counted)));
                        }
                        let ms = name_coords(k, eval, &row, &extents(&p.m));
                        let mut ns = name_coords(k, eval, &col, &counted);
                        if let Some(last) = ns.last_mut().filter(|_| w > 1) {
                            *last = last.clone() * i64::from(w) + lane();
                        }
                        let at = at.with(&p.m, &ms).with(&p.n, &ns);
                        gemm::finish(self.cx, outputs, k, eval, p, &at, v, &edge)
                    })();
                    eval.set_width(1);
                    eval.close();
                });
            });
        });
        stop
    }
}

/// What a visit of a tile does with a vector: its number, its place, its coordinates and their guard.
type Visit<'v> = dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, usize, &Place, &[SymExpr], &Guard) -> Result<(), Stop> + 'v;

impl Side<'_> {
    /// Gives the tile its slots, and registers where it comes through them.
    fn declare(&mut self, k: &mut Kb<'_>, slots: i64, registers: bool) {
        let d = self.dtype;
        if let Shared::Declared(decl) = &self.shared {
            self.shared = Shared::Made(k.shared(&format!("{}s", self.operand.name()), decl(slots, d)));
        }
        if registers {
            let zero = Ex::lit(DType::I32, 0.0).cast(d).splat(self.width as u32);
            self.next = Some(k.var_array(&format!("{}n", self.operand.name()), &[self.places.len() as u32], zero));
        }
    }
    /// A block of a slot.
    fn block(&self, slot: &Ex, block: [(Ex, u32); 2]) -> Option<Mem> {
        let Shared::Made(buf) = &self.shared else { return None };
        Some(Mem::new(*buf, [(slot.clone(), 1)].into_iter().chain(block).collect()))
    }
    /// Where a vector lies in a slot.
    fn place(&self, p: &Place, slot: &Ex) -> Option<Mem> {
        self.block(slot, [(p.row.clone(), 1), (p.column.clone(), self.width as u32)])
    }
    /// Visits this lane's vectors of the tile of a step.
    #[allow(clippy::too_many_arguments)]
    fn visit(
        &self,
        t: &Tiled<'_, '_, '_>,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        it: &SymExpr,
        depth: &SymExpr,
        body: &mut Visit<'_>,
    ) -> Result<(), Stop> {
        let (p, w) = (t.p, self.width);
        let by_depth = if self.along_depth { w } else { 1 };
        let k_dims = vectors(&p.k, by_depth);
        let k_total = product(&k_dims);
        eval.set_width(w as u32);
        for (u, place) in self.places.iter().enumerate() {
            let first = eval.ix.emit(k, it);
            let kk = k.let_("kk", first * (t.form.depth / by_depth) + &place.depth);
            let kk = eval.ix.bind("kk", kk, k_total.clone());
            let mut ks = name_coords(k, eval, &kk, &k_dims);
            if let Some(last) = ks.last_mut().filter(|_| by_depth > 1) {
                *last = last.clone() * w + lane();
            }
            let own_total = product(&vectors(self.dims, if self.along_depth { 1 } else { w }));
            let (coords, mut guard) = (self.at)(eval, &at.with(self.dims, &place.coords).with(&p.k, &ks));
            if !total(self.dims).divisible_by(self.size, &|_| 1) {
                guard.push((place.own.clone(), own_total));
            }
            if !depth.divisible_by(t.form.depth, &|_| 1) {
                guard.push((kk, k_total.clone()));
            }
            body(k, eval, u, place, &coords, &guard)?;
        }
        eval.set_width(1);
        Ok(())
    }
    /// Brings this lane's vectors of a step into registers.
    fn load(&self, t: &Tiled<'_, '_, '_>, k: &mut Kb<'_>, eval: &mut Eval<'_>, at: &At, it: &SymExpr, depth: &SymExpr) -> Result<(), Stop> {
        let Some(next) = &self.next else { return Stop::no("a tile without registers") };
        if let Some(made) = self.made {
            return self.compute(t, k, eval, at, it, depth, (made, next));
        }
        self.visit(t, k, eval, at, it, depth, &mut |k, eval, u, _, coords, guard| {
            let x = eval.value(k, self.v, coords, guard)?;
            let x = eval.widen(&x);
            let loaded = eval.resolve(self.v, coords).is_some();
            let x = match eval.mask(k, guard)? {
                Some(inside) if !loaded => inside.select(x, Ex::lit(DType::I32, 0.0).cast(eval.dtype(self.v)).splat(self.width as u32)),
                _ => x,
            };
            let x = if eval.dtype(self.v) == self.dtype { x } else { x.cast(self.dtype) };
            k.set(&next.at([Ex::from(u as i64)]), x);
            Ok(())
        })
    }
    /// Computes them, by runs where they lie so.
    #[allow(clippy::too_many_arguments)]
    fn compute(
        &self,
        t: &Tiled<'_, '_, '_>,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        it: &SymExpr,
        depth: &SymExpr,
        (made, next): (&Made<'_>, &Reg),
    ) -> Result<(), Stop> {
        let (p, own) = (t.p, total(self.dims));
        let run = made.run.as_ref().filter(|r| r.fits(t.cx, eval, self.width));
        for (u, place) in self.places.iter().enumerate() {
            if let (Some(run), [row]) = (run, place.coords.as_slice()) {
                let vectors = depth.div(&self.width.into());
                let v = k.let_("kv", eval.ix.emit(k, it) * (t.form.depth / self.width) + &place.column / self.width);
                let v = eval.ix.bind("kv", v, vectors.clone());
                let mut guard = Guard::new();
                if !own.divisible_by(self.size, &|_| 1) {
                    guard.push((place.own.clone(), own.clone()));
                }
                if !depth.divisible_by(t.form.depth, &|_| 1) {
                    guard.push((v.clone(), vectors));
                }
                let values = run.load(k, eval, (row, &v), self.width, p.acc, &guard)?;
                let list: Vec<Ex> = values.list.iter().map(|x| k.let_("w", (x * &values.scale).cast(self.dtype))).collect();
                k.set(&next.at([Ex::from(u as i64)]), vector_of(&list));
                continue;
            }
            let first = eval.ix.emit(k, it) * t.form.depth + &place.column;
            let first = k.let_("kk", first);
            let mut list = Vec::new();
            for i in 0..self.width {
                let kk = if i == 0 { first.clone() } else { k.let_("kk", &first + i) };
                let kk = eval.ix.bind("kk", kk, depth.clone());
                let ks = name_coords(k, eval, &kk, &extents(&p.k));
                let mut guard = Guard::new();
                if !own.divisible_by(self.size, &|_| 1) {
                    guard.push((place.own.clone(), own.clone()));
                }
                if !depth.divisible_by(t.form.depth, &|_| 1) {
                    guard.push((kk, depth.clone()));
                }
                let x = (made.one)(k, eval, &at.with(self.dims, &place.coords).with(&p.k, &ks), &guard)?.cast(self.dtype);
                let x = match eval.mask(k, &guard)? {
                    Some(inside) => inside.select(x, Ex::lit(DType::F32, 0.0).cast(self.dtype)),
                    None => x,
                };
                list.push(k.let_("w", x));
            }
            k.set(&next.at([Ex::from(u as i64)]), vector_of(&list));
        }
        Ok(())
    }
    /// Puts them into a slot.
    fn publish(&self, k: &mut Kb<'_>, slot: &Ex) {
        let Some(next) = &self.next else { return };
        for (u, place) in self.places.iter().enumerate() {
            if let Some(to) = self.place(place, slot) {
                k.store(to, next.at([Ex::from(u as i64)]).get());
            }
        }
    }
}

/// Extents with the last one counted in vectors of `w`.
fn vectors(dims: &Dims, w: i64) -> Vec<SymExpr> {
    let mut out = extents(dims);
    if let Some(last) = out.last_mut().filter(|_| w > 1) {
        *last = last.div(&w.into());
    }
    out
}

fn has_lane(e: &SymExpr) -> bool {
    let mut set = std::collections::BTreeSet::new();
    e.collect_symbols(&mut set);
    set.iter().any(|s| &**s == LANE)
}
