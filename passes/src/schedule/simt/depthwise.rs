// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Depthwise convolutions with channels first: each input is read once.
//!
//! A group has the planes of some channels, or a strip of one where planes are large. What its results meet lies in shared memory as it lies in
//! global memory, so that lanes copy lines and no bank is asked twice; a lane computes neighbors along the last dim from whole vectors of that
//! memory, and what is outside the plane is zero in its registers. Taps are added in their order.

use std::collections::BTreeMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::gemm::step;
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, elems, name_coords, store_outputs, vector, vector_of};

/// Taps of a filter, at most; they are written out.
const TAPS: i64 = 128;

/// Bytes of shared memory that leave room for several groups beside each other.
const SHARED: i64 = 32 << 10;

/// Columns of a tile where rows are longer, or of unknown length.
const COLUMNS: i64 = 128;

/// Rows of a tile where nothing is known of them.
const ROWS: i64 = 32;

/// Vectors of results of a group, about.
const VECTORS: i64 = 512;

/// How a convolution is cut.
pub(super) struct Form {
    /// Taps, strides, dilations and padding of rows and columns.
    taps: [i64; 2],
    strides: [i64; 2],
    dilations: [i64; 2],
    low: [i64; 2],
    /// Channels, rows and columns of results of a group.
    channels: i64,
    tile: [i64; 2],
    /// Neighbors that move and are computed at once.
    width: i64,
    /// Rows that results of a group meet, and elements of each in shared memory.
    rows: i64,
    pitch: i64,
    /// Elements before that of the first result at which vectors of a window begin.
    lead: i64,
    /// Whether rows and columns in shared memory are all that there are.
    whole: [bool; 2],
}

/// The form of a depthwise convolution over one or two dims; `None` if it is another one, or its window is not known.
pub(super) fn form(cx: &Cx<'_>, eval: &mut Eval<'_>, node: &Node) -> Option<Form> {
    let (Op::Conv { strides, dilations, pads, groups }, &[x, weights], &[root]) =
        (&node.op, node.operands.as_slice(), node.results.as_slice())
    else {
        return None;
    };
    let (from, filters, to) = (eval.dims(x), eval.dims(weights), eval.dims(root));
    let spatial = strides.len();
    let depthwise = filters.first()?.is(*groups) && filters.get(1)?.is(1) && from.get(1)?.is(*groups);
    if !depthwise || !(1..=2).contains(&spatial) || from.len() != spatial + 2 || eval.dtype(x).is_packed() {
        return None;
    }
    // One dim is rows of one.
    let two = |list: Vec<i64>, one: i64| if list.len() == 1 { [one, list[0]] } else { [list[0], list[1]] };
    let consts = |list: &[SymExpr]| list.iter().map(SymExpr::as_const).collect::<Option<Vec<i64>>>();
    let taps = two(consts(filters.get(2..)?)?, 1);
    let low = two(consts(pads.get(..spatial)?)?, 0);
    let (strides, dilations) = (two(strides.clone(), 1), two(dilations.clone(), 1));
    if taps.iter().any(|t| !(1..=TAPS).contains(t)) || taps[0] * taps[1] > TAPS || low.iter().any(|l| !(0..=TAPS).contains(l)) {
        return None;
    }
    let reach = |i: usize| dilations[i].checked_mul(taps[i] - 1).filter(|r| *r <= 1 << 10);
    let reach = [reach(0)?, reach(1)?];
    if strides.iter().any(|s| !(1..=16).contains(s)) {
        return None;
    }
    let last = |dims: &[SymExpr]| dims.last().cloned().unwrap_or_else(|| 1.into());
    let (width_in, width_out) = (last(&from), last(&to));
    let results: Vec<ValueId> = cx.region.outputs().iter().map(|o| o.value).collect();
    let at = |eval: &mut Eval<'_>, dims: &[SymExpr], w: i64| {
        let mut at: Vec<SymExpr> = dims.iter().map(|d| eval.ix.bind("p", 0.into(), d.clone())).collect();
        if let Some(c) = at.last_mut() {
            *c = eval.ix.bind("p", 0.into(), last(dims).div(&w.into())) * w + lane();
        }
        at
    };
    let mut width = i64::from(cx.spec.vector(eval.dtype(x)));
    while width > 1 {
        let whole = vector::divides(cx, eval, &width_in, width) && vector::divides(cx, eval, &width_out, width);
        eval.set_width(width as u32);
        let read = at(eval, &from, width);
        let loads = whole && vector::loads(cx, eval, x, &read, width);
        eval.set_width(1);
        let stores = loads
            && results.iter().all(|&v| i64::from(cx.spec.vector(eval.dtype(v))) >= width)
            && vector::fits(cx, eval, &results, Some(root), width, &mut |eval, w| at(eval, &to, w));
        if stores {
            break;
        }
        width /= 2;
    }
    let up = |n: i64, by: i64| (n + by - 1) / by * by;
    let lead = up(low[1], width);
    // Whole rows where they are known and not long.
    let line = width_in.as_const().zip(width_out.as_const()).filter(|(i, o)| *i.max(o) <= 2 * COLUMNS && *i.min(o) > 0);
    let (columns, pitch) = match line {
        Some((from, to)) => (to, from),
        None => (COLUMNS, up(lead - low[1] + (COLUMNS - 1) * strides[1] + reach[1] + 1, width)),
    };
    let bytes = i64::from(eval.dtype(x).bits().max(8)) / 8;
    let most = SHARED.min(i64::from(cx.spec.shared_bytes) / 2);
    let heights = match spatial {
        1 => Some((1, 1)),
        _ => from.get(2)?.as_const().zip(to.get(2)?.as_const()).filter(|(i, o)| *i.min(o) > 0),
    };
    let fits = |channels: i64, rows: i64| channels.saturating_mul(rows).saturating_mul(pitch * bytes) <= most;
    let (rows, met, all) = match heights.filter(|h| fits(1, h.0)) {
        Some((from, to)) => (to, from, true),
        None => {
            let met = |rows: i64| (rows - 1) * strides[0] + reach[0] + 1;
            let tallest = heights.map_or(ROWS, |h| h.1).clamp(1, 1 << 12);
            let mut rows = (1..=tallest).rev().find(|&r| fits(1, met(r)))?;
            if let Some((_, height)) = heights.filter(|h| h.1 > rows) {
                // Strips of about the same height, of whole pairs of rows, which end where sectors do.
                let strips = (height + rows - 1) / rows;
                let even = (height + strips - 1) / strips;
                rows = if even % 2 == 1 && even < rows { even + 1 } else { even };
            }
            (rows, met(rows), false)
        }
    };
    let mut channels = 1;
    let strips = heights.map_or(1, |h| (h.1 + rows - 1) / rows);
    let count = eval.ix.bounds(&from[0]).0.max(1).saturating_mul(*groups).saturating_mul(strips);
    while groups % (channels * 2) == 0
        && channels * 2 * rows * columns / width <= VECTORS
        && fits(channels * 2, met)
        && count / (channels * 2) >= i64::from(cx.spec.busy / 8)
    {
        channels *= 2;
    }
    let whole = [all, line.is_some()];
    Some(Form { taps, strides, dilations, low, channels, tile: [rows, columns], width, rows: met, pitch, lead, whole })
}

/// What a group works on.
struct Group<'n> {
    x: ValueId,
    weights: ValueId,
    root: ValueId,
    acc: DType,
    n: &'n SymExpr,
    /// Number of its first channel.
    channel: SymExpr,
    /// Number of its tile along rows and along columns.
    tile: [SymExpr; 2],
    /// Elements `[channel, row, column]`, and weights `[channel, tap]`.
    met: Buf,
    filters: Buf,
    lanes: i64,
}

/// Builds the kernel.
pub(super) fn build<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, node: &Node, f: &Form) -> Result<Built, Stop> {
    let (&[x, weights], &[root]) = (node.operands.as_slice(), node.results.as_slice()) else { return Stop::no("no convolution") };
    let outputs = b.outputs.clone();
    let Begun { k, eval, .. } = &mut b;
    let (from, to) = (eval.dims(x), eval.dims(root));
    let lanes = cx.spec.group(Some(f.channels * f.tile[0] * f.tile[1] / f.width));
    k.group(lanes, cx.spec.lanes);
    let acc = match eval.dtype(x) {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        d => d,
    };
    let rows = if to.len() == 3 { 1.into() } else { to[2].clone() };
    let columns = to.last().cloned().unwrap_or_else(|| 1.into());
    let counted = [from[0].clone(), from[1].div(&f.channels.into()), rows.ceil_div(&f.tile[0].into()), columns.ceil_div(&f.tile[1].into())];
    let groups = elems(&counted);
    let g = eval.ix.bind("g", k.gx(), groups.clone());
    let at = name_coords(k, eval, &g, &counted);
    let [n, block, ty, tx] = at.as_slice() else { return Stop::no("a convolution without planes") };
    let decl = |d: DType, dims: &[i64]| BufDecl::rw(d, dims.iter().map(|&n| SymExpr::from(n))).align(cx.spec.vec_bytes);
    let met = k.shared("xs", decl(eval.dtype(x), &[f.channels, f.rows, f.pitch]));
    let filters = k.shared("ws", decl(acc, &[f.channels, f.taps[0] * f.taps[1]]));
    let channel = block.clone() * f.channels;
    let group = Group { x, weights, root, acc, n, channel, tile: [ty.clone(), tx.clone()], met, filters, lanes: i64::from(lanes) };
    group.fill(k, eval, f)?;
    k.barrier(Level::Group);
    group.results(cx, &outputs, k, eval, f)?;
    Ok(done(b, groups))
}

impl Group<'_> {
    /// Gives the pieces of work of these extents to the lanes, one after the other.
    fn each<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        extents: &[i64],
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let extents: Vec<SymExpr> = extents.iter().map(|&n| n.into()).collect();
        let total = elems(&extents);
        let (first, hi) = (k.lane(), k.dim(&total));
        let mut stop = Ok(());
        k.for_("e", first, hi, self.lanes, |k, e| {
            eval.open();
            let e = eval.ix.bind("e", e, total.clone());
            let at = name_coords(k, eval, &e, &extents);
            stop = body(k, eval, &at);
            eval.close();
        });
        stop
    }
    /// Coordinates of a tensor of these dims at a row and a column.
    fn at(&self, rank: usize, channel: &SymExpr, row: SymExpr, column: SymExpr) -> Vec<SymExpr> {
        let mut at = vec![self.n.clone(), self.channel.clone() + channel.clone()];
        if rank == 4 {
            at.push(row);
        }
        at.push(column);
        at
    }
    /// Where shared memory begins: a row, and a vector of it.
    fn origin(&self, f: &Form) -> [SymExpr; 2] {
        let row = self.tile[0].clone() * (f.tile[0] * f.strides[0]) - f.low[0];
        let vector = self.tile[1].clone() * (f.tile[1] / f.width * f.strides[1]) - f.lead / f.width;
        [if f.whole[0] { 0.into() } else { row }, if f.whole[1] { 0.into() } else { vector }]
    }
    /// Whether there is such a row, and such a vector in rows.
    fn inside(&self, eval: &Eval<'_>, dims: &[SymExpr], w: i64, row: Option<&SymExpr>, vector: Option<&SymExpr>) -> Guard {
        let mut guard = Guard::new();
        if let (Some(row), [_, _, height, _]) = (row, dims) {
            guard = eval.guarded(&guard, row, height);
        }
        if let (Some(vector), Some(width)) = (vector, dims.last()) {
            guard = eval.guarded(&guard, vector, &width.div(&w.into()));
        }
        guard
    }
    /// Brings what results meet, and their filters, into shared memory.
    fn fill(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, f: &Form) -> Result<(), Stop> {
        let (dims, w, d) = (eval.dims(self.x), f.width, eval.dtype(self.x));
        let zero = |w: i64| Ex::lit(DType::I32, 0.0).cast(d).splat(w as u32);
        let origin = self.origin(f);
        self.each(k, eval, &[f.channels, f.rows, f.pitch / w], &mut |k, eval, at| {
            let [c, row, column] = at else { return Stop::no("a vector without a place") };
            let to = [c, row].map(|x| (eval.ix.emit(k, x), 1));
            let to: Vec<_> = to.into_iter().chain([(eval.ix.emit(k, &(column.clone() * w)), w as u32)]).collect();
            let (y, vector) = (origin[0].clone() + row.clone(), origin[1].clone() + column.clone());
            let guard = self.inside(eval, &dims, w, Some(&y), Some(&vector));
            let first = if w > 1 { vector * w + lane() } else { vector };
            let coords = self.at(dims.len(), c, y, first);
            eval.set_width(w as u32);
            let v = (|| {
                let v = eval.value(k, self.x, &coords, &guard)?;
                let v = eval.widen(&v);
                let loaded = eval.resolve(self.x, &coords).is_some();
                Ok(match eval.mask(k, &guard)? {
                    Some(inside) if !loaded => inside.select(v, zero(w)),
                    _ => v,
                })
            })();
            eval.set_width(1);
            k.store(Mem::new(self.met, to), v?);
            Ok(())
        })?;
        let rank = dims.len();
        self.each(k, eval, &[f.channels, f.taps[0] * f.taps[1]], &mut |k, eval, at| {
            let [c, tap] = at else { return Stop::no("a weight without a place") };
            let (row, column) = eval.ix.div_mod(tap, &f.taps[1].into());
            let mut coords = vec![self.channel.clone() + c.clone(), 0.into()];
            if rank == 4 {
                coords.push(row);
            }
            coords.push(column);
            let v = eval.value(k, self.weights, &coords, &Guard::new())?;
            let v = if eval.dtype(self.weights) == self.acc { v } else { v.cast(self.acc) };
            let to = vec![(eval.ix.emit(k, c), 1), (eval.ix.emit(k, tap), 1)];
            k.store(Mem::new(self.filters, to), v);
            Ok(())
        })
    }
    /// Computes and stores the results.
    fn results(&self, cx: &Cx<'_>, outputs: &[Buf], k: &mut Kb<'_>, eval: &mut Eval<'_>, f: &Form) -> Result<(), Stop> {
        let (from, dims, w, acc) = (eval.dims(self.x), eval.dims(self.root), f.width, self.acc);
        let origin = self.origin(f);
        self.each(k, eval, &[f.channels, f.tile[0], f.tile[1] / w], &mut |k, eval, at| {
            let [c, row, vector] = at else { return Stop::no("a result without a place") };
            let y = self.tile[0].clone() * f.tile[0] + row.clone();
            let x = self.tile[1].clone() * (f.tile[1] / w) + vector.clone();
            let guard = self.inside(eval, &dims, w, Some(&y), Some(&x));
            let channel = eval.ix.emit(k, c);
            let sums = k.var_array("c", &[w as u32], Ex::lit(DType::I32, 0.0).cast(acc));
            // Vectors of a row that the window meets, by their number from the first one: where they are, and whether they are there; in parts
            // of planes what is not there lies in shared memory as zero.
            let o = |j: i64, q: i64| f.lead - f.low[1] + j * f.strides[1] + q * f.dilations[1];
            let mut columns: BTreeMap<i64, (Ex, Option<Ex>)> = BTreeMap::new();
            for i in (0..f.taps[1]).flat_map(|q| (0..w).map(move |j| (j, q))).map(|(j, q)| o(j, q) / w) {
                if columns.contains_key(&i) {
                    continue;
                }
                let at = x.clone() * f.strides[1] + (i - f.lead / w);
                let there = if f.whole[1] { self.inside(eval, &from, w, None, Some(&at)) } else { Guard::new() };
                let there = eval.mask(k, &there)?.map(|m| k.let_("there", m));
                let place = eval.ix.emit(k, &((at - origin[1].clone()) * w));
                let place = if there.is_some() { place.clamp(0, f.pitch - w) } else { place };
                columns.insert(i, (k.let_("column", place), there));
            }
            for p in 0..f.taps[0] {
                let met = y.clone() * f.strides[0] + (p * f.dilations[0] - f.low[0]);
                let there = if f.whole[0] { self.inside(eval, &from, w, Some(&met), None) } else { Guard::new() };
                let there = eval.mask(k, &there)?.map(|m| k.let_("there", m));
                let met = eval.ix.emit(k, &(met - origin[0].clone()));
                let met = k.let_("met", if there.is_some() { met.clamp(0, f.rows - 1) } else { met });
                let mut vectors: BTreeMap<i64, Ex> = BTreeMap::new();
                let mut elements: BTreeMap<i64, Ex> = BTreeMap::new();
                for q in 0..f.taps[1] {
                    let of = vec![(channel.clone(), 1), (Ex::from(p * f.taps[1] + q), 1)];
                    let weight = k.load("w", Mem::new(self.filters, of));
                    for (j, o) in (0..w).map(|j| (j, o(j, q))) {
                        if let (false, Some((column, beside))) = (vectors.contains_key(&(o / w)), columns.get(&(o / w))) {
                            let from = Mem::new(self.met, vec![(channel.clone(), 1), (met.clone(), 1), (column.clone(), w as u32)]);
                            let both = match (&there, beside) {
                                (Some(a), Some(b)) => Some(a & b),
                                (a, b) => a.clone().or_else(|| b.clone()),
                            };
                            // All lanes load, those outside what is nearest to them: a warp stays together.
                            let v = k.load("x", from);
                            let none = Ex::lit(DType::I32, 0.0).cast(eval.dtype(self.x)).splat(w as u32);
                            vectors.insert(o / w, both.map_or_else(|| v.clone(), |both| k.let_("x", both.select(&v, none))));
                        }
                        let x = match (elements.get(&o), vectors.get(&(o / w))) {
                            (Some(x), _) => x.clone(),
                            (None, Some(v)) => {
                                let x = if w == 1 { v.clone() } else { v.extract(o % w) };
                                let x = k.let_("x", if eval.dtype(self.x) == acc { x } else { x.cast(acc) });
                                elements.insert(o, x.clone());
                                x
                            }
                            (None, None) => return Stop::no("a tap without a vector"),
                        };
                        let sum = sums.at([j.into()]);
                        k.set(&sum, step(acc, &x, &weight, &sum.get()));
                    }
                }
            }
            let out = eval.dtype(self.root);
            let all: Vec<Ex> = (0..w).map(|j| sums.at([j.into()]).get()).map(|s| if acc == out { s } else { s.cast(out) }).collect();
            let first = if w > 1 { x * w + lane() } else { x };
            let coords = self.at(dims.len(), c, y, first);
            eval.set_width(w as u32);
            eval.bind(self.root, &coords, &guard, k.let_("s", vector_of(&all)));
            let stored = store_outputs(cx, outputs, k, eval, &dims, &coords, &guard);
            eval.set_width(1);
            stored
        })
    }
}
