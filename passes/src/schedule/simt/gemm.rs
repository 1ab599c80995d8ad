// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products: a group computes a tile of rows x columns from tiles of both operands in shared memory, a lane a block of the tile in
//! registers. The next tiles are on their way in registers while the present ones are multiplied. Summed dims run in order, so each result has
//! one order of additions. Where there are few rows or columns, a lane sums one result alone.

use portwright_ir::dtype::DType;
use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Layout, Level, Mem, Reg};
use portwright_ir::sym::{SymExpr, product};

use super::super::index::lane;
use super::problem::{At, OperandAt, Problem};
use super::runs::Made;
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, each, each_lane, fragments, name_coords, skinny, store_outputs, vector};

/// Labels with their extents.
pub(super) type Dims = [(char, SymExpr)];

pub(super) fn total(dims: &Dims) -> SymExpr {
    product(dims.iter().map(|d| &d.1))
}

pub(super) fn extents(dims: &Dims) -> Vec<SymExpr> {
    dims.iter().map(|d| d.1.clone()).collect()
}

/// Extents of tiles.
#[derive(Copy, Clone, Debug)]
pub(super) struct Tile {
    /// Rows and columns of a group.
    pub(super) rows: i64,
    pub(super) cols: i64,
    /// Summed coordinates of a step.
    pub(super) depth: i64,
    /// Rows and columns of a lane.
    pub(super) own: [i64; 2],
}

impl Tile {
    /// For a product of so many rows and columns; `None` where tiles would be mostly empty.
    fn of(rows: Option<i64>, cols: Option<i64>, groups: u32) -> Option<Tile> {
        let few = |n: Option<i64>| n.is_some_and(|n| n < 8);
        if few(rows) || few(cols) {
            return None;
        }
        let (m, n) = (rows.unwrap_or(256), cols.unwrap_or(256));
        let tiles = |size: i64| ((m + size - 1) / size).saturating_mul((n + size - 1) / size);
        let busy = i64::from(groups);
        Some(if m >= 128 && n >= 128 && tiles(128) >= busy {
            Tile { rows: 128, cols: 128, depth: 8, own: [8, 8] }
        } else if m > 32 && n > 32 {
            Tile { rows: 64, cols: 64, depth: 16, own: [4, 4] }
        } else {
            Tile { rows: 32, cols: 32, depth: 16, own: [2, 2] }
        })
    }
    /// Lanes of a group.
    fn lanes(&self) -> i64 {
        self.rows / self.own[0] * (self.cols / self.own[1])
    }
}

/// Builds the kernel of a problem.
pub(super) fn build<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: &Problem<'_>, made: Option<&Made<'_>>) -> Result<Built, Stop> {
    if let Some(form) = fragments::form(cx, &b.eval, p, made) {
        return fragments::build(cx, b, p, form, made, None);
    }
    if let Some(form) = skinny::form(cx, &mut b.eval, p, made) {
        return skinny::build(cx, b, p, made, &form);
    }
    let (m, n) = (total(&p.m), total(&p.n));
    match Tile::of(m.as_const(), n.as_const(), cx.spec.busy) {
        Some(tile) if tile.lanes() % i64::from(cx.spec.lanes) == 0 => Tiled { cx, p, tile, made }.build(b),
        _ => alone(cx, b, p, made),
    }
}

/// One step of a sum.
pub(super) fn step(acc: DType, a: &Ex, b: &Ex, c: &Ex) -> Ex {
    if acc.is_float() { a.fma(b, c) } else { c.add_w(a.mul_w(b)) }
}

/// An operand's element in the dtype of sums; one that does not exist is 0.
pub(super) fn operand(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    p: &Problem<'_>,
    (v, element, made): (ValueId, &OperandAt<'_>, Option<&Made<'_>>),
    at: &At,
    edge: &Guard,
) -> Result<Ex, Stop> {
    let width = eval.width;
    let zero = || Ex::lit(DType::I32, 0.0).cast(p.acc).splat(width);
    if let Some(made) = made {
        let x = (made.one)(k, eval, at, edge)?;
        return Ok(match eval.mask(k, edge)? {
            Some(inside) => inside.select(x, zero()),
            None => x,
        });
    }
    let (coords, mut guard) = element(eval, at);
    guard.extend(edge.iter().cloned());
    let x = eval.value(k, v, &coords, &guard)?;
    let x = eval.widen(&x);
    let loaded = eval.resolve(v, &coords).is_some();
    let x = if eval.dtype(v) == p.acc { x } else { x.cast(p.acc) };
    Ok(match eval.mask(k, &guard)? {
        Some(inside) if !loaded => inside.select(&x, zero()),
        _ => x,
    })
}

/// A lane sums one result.
fn alone<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: &Problem<'_>, made: Option<&Made<'_>>) -> Result<Built, Stop> {
    let dims: Vec<(char, SymExpr)> = p.batch.iter().chain(&p.m).chain(&p.n).cloned().collect();
    let sizes = extents(&dims);
    let outputs = b.outputs.clone();
    let results = total(&dims);
    let groups = each_lane(cx, &mut b, &results, &mut |k, eval, i| {
        let coords = name_coords(k, eval, i, &sizes);
        let at = At::default().with(&dims, &coords);
        let c = k.var("c", Ex::lit(DType::I32, 0.0).cast(p.acc));
        each(k, eval, &extents(&p.k), &mut Vec::new(), &mut |k, eval, ks| {
            let at = at.with(&p.k, ks);
            let x = operand(k, eval, p, (p.lhs, &p.lhs_at, None), &at, &Guard::new())?;
            let y = operand(k, eval, p, (p.rhs, &p.rhs_at, made), &at, &Guard::new())?;
            k.set(&c, step(p.acc, &x, &y, &c.get()));
            Ok(())
        })?;
        finish(cx, &outputs, k, eval, p, &at, c.get(), &Guard::new())
    })?;
    Ok(done(b, groups))
}

/// The result at these coordinates, through the epilogue.
#[allow(clippy::too_many_arguments)]
pub(super) fn finish(
    cx: &Cx<'_>,
    outputs: &[Buf],
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    p: &Problem<'_>,
    at: &At,
    c: Ex,
    edge: &Guard,
) -> Result<(), Stop> {
    let root = (p.root_at)(eval, at);
    let c = if p.acc == p.out { c } else { c.cast(p.out) };
    let c = k.let_("s", c);
    eval.bind(p.root, &root, edge, c);
    let dims = eval.dims(p.root);
    store_outputs(cx, outputs, k, eval, &dims, &root, edge)
}

/// One operand's tile.
struct Side<'s> {
    v: ValueId,
    at: &'s OperandAt<'s>,
    made: Option<&'s Made<'s>>,
    /// The dims of its own.
    dims: &'s Dims,
    /// Their extent in a tile.
    size: i64,
    /// Whether neighbors in memory are summed coordinates.
    depth_first: bool,
    /// Tiles in shared memory, `[slot, depth, size]`.
    shared: Buf,
    /// The next tile's elements of this lane.
    next: Reg,
    /// Coordinates of those elements: of their own dims, where these stay, and within a step.
    places: Vec<Place>,
}

struct Place {
    /// Own coordinate, in the tile and in the tensor.
    within: Ex,
    own: SymExpr,
    coords: Vec<SymExpr>,
    /// Summed coordinate within a step.
    depth: Ex,
}

/// A product in tiles.
struct Tiled<'t, 'a, 'p> {
    cx: &'t Cx<'a>,
    p: &'t Problem<'p>,
    tile: Tile,
    /// How the right operand is computed.
    made: Option<&'t Made<'t>>,
}

impl<'a> Tiled<'_, 'a, '_> {
    fn build(&self, mut b: Begun<'a, '_>) -> Result<Built, Stop> {
        let (p, t) = (self.p, self.tile);
        let (m, n, depth, batch) = (total(&p.m), total(&p.n), total(&p.k), total(&p.batch));
        let group = t.lanes();
        let outputs = b.outputs.clone();
        let Begun { k, eval, .. } = &mut b;
        k.group(group as u32, self.cx.spec.lanes);
        let (across, down) = (n.ceil_div(&t.cols.into()), m.ceil_div(&t.rows.into()));
        let groups = &(&batch * &down) * &across;
        let g = eval.ix.bind("g", k.gx(), groups.clone());
        let at = name_coords(k, eval, &g, &[batch, down, across]);
        let [z, tm, tn] = at.as_slice() else { return Stop::no("a product without a tile") };
        let batch_coords = name_coords(k, eval, z, &extents(&p.batch));
        let at = At::default().with(&p.batch, &batch_coords);
        let (tm, tn) = (eval.ix.emit(k, tm), eval.ix.emit(k, tn));
        let (m0, n0) = (k.let_("m0", tm * t.rows), k.let_("n0", tn * t.cols));
        let across = t.cols / t.own[1];
        let (tx, ty) = (k.let_("tx", k.lane() % across), k.let_("ty", k.lane() / across));

        let lhs = self.side(k, eval, (p.lhs, &p.lhs_at, None), &p.m, t.rows, &m0, "a");
        let rhs = self.side(k, eval, (p.rhs, &p.rhs_at, self.made), &p.n, t.cols, &n0, "b");
        let sides = [&lhs, &rhs];
        let width = self.chunk();
        let zero = Ex::lit(DType::I32, 0.0).cast(p.acc).splat(width);
        let c = k.var_array("c", &[t.own[0] as u32, (t.own[1] / i64::from(width)) as u32], zero);

        let steps = depth.ceil_div(&t.depth.into());
        let only = steps.is(1);
        for s in sides {
            self.load(k, eval, s, &at, &0.into(), &depth)?;
            self.publish(k, s, 0.into());
        }
        k.barrier(Level::Group);
        let mut stop = Ok(());
        if only {
            self.multiply(k, sides, 0.into(), (&tx, &ty), &c);
        } else {
            let hi = k.dim(&steps);
            k.for_("it", 0, hi.clone(), 1, |k, it| {
                eval.open();
                let more = k.let_("more", (&it + 1).lt(&hi));
                let next = k.let_("next", &it + 1);
                k.if_(&more, |k| {
                    eval.open();
                    let it = eval.ix.bind("it", next.clone(), steps.clone());
                    stop = sides.iter().try_for_each(|s| self.load(k, eval, s, &at, &it, &depth));
                    eval.close();
                });
                let slot = k.let_("slot", it % 2);
                self.multiply(k, sides, slot, (&tx, &ty), &c);
                k.if_(&more, |k| {
                    let slot = k.let_("slot", next % 2);
                    sides.iter().for_each(|s| self.publish(k, s, slot.clone()));
                });
                k.barrier(Level::Group);
                eval.close();
            });
        }
        stop?;
        self.epilogue(k, eval, &outputs, &at, (&m0, &n0), (&tx, &ty), &c)?;
        Ok(done(b, groups))
    }
    /// Neighbors that a lane multiplies at once.
    fn chunk(&self) -> u32 {
        let most = self.cx.spec.vector(self.p.acc);
        most.min(self.tile.own[0].min(self.tile.own[1]) as u32)
    }
    #[allow(clippy::too_many_arguments)]
    fn side<'s>(
        &'s self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        (v, at, made): (ValueId, &'s OperandAt<'s>, Option<&'s Made<'s>>),
        dims: &'s Dims,
        size: i64,
        first: &Ex,
        name: &str,
    ) -> Side<'s> {
        let (p, depth, group) = (self.p, self.tile.depth, self.tile.lanes());
        // Along which dim memory runs.
        let along = |eval: &mut Eval<'_>, dims: &Dims| {
            let Some(last) = dims.last() else { return false };
            let mut c = At::default();
            for d in p.batch.iter().chain(&p.m).chain(&p.n).chain(&p.k) {
                let x = if d.0 == last.0 { lane() } else { eval.ix.bind("p", 0.into(), d.1.clone()) };
                c = c.with(std::slice::from_ref(d), &[x]);
            }
            eval.set_width(2);
            let (coords, _) = at(eval, &c);
            let ok = eval.is_contiguous(v, &coords);
            eval.set_width(1);
            ok
        };
        let depth_first = made.is_none() && along(eval, &p.k) && !along(eval, dims);
        let shared = k.shared(
            &format!("{name}s"),
            BufDecl::rw(p.acc, [2.into(), depth.into(), size.into()]).align(self.cx.spec.vec_bytes).layout(Layout::Pad(self.chunk())),
        );
        let each = (size * depth / group).max(1);
        let next = k.var_array(&format!("{name}n"), &[each as u32], Ex::lit(DType::I32, 0.0).cast(p.acc));
        let l = k.lane();
        let places = (0..each)
            .map(|u| {
                let (within, depth) = if depth_first {
                    (k.let_("r", &l / depth + u * (group / depth)), k.let_("kk", &l % depth))
                } else {
                    // A group may be longer than a row of the tile, or shorter.
                    let e = k.let_("e", &l + u * group);
                    (k.let_("r", &e % size), k.let_("kk", e / size))
                };
                let all = total(dims);
                let own = k.let_("o", first + &within);
                let own = eval.ix.bind("o", own, all);
                let coords = name_coords(k, eval, &own, &extents(dims));
                Place { within, own, coords, depth }
            })
            .collect();
        Side { v, at, made, dims, size, depth_first, shared, next, places }
    }
    /// Brings a lane's elements of the tiles of a step into registers.
    fn load(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, s: &Side<'_>, at: &At, it: &SymExpr, depth: &SymExpr) -> Result<(), Stop> {
        let p = self.p;
        let mut first: Option<(SymExpr, Vec<SymExpr>)> = None;
        for (u, place) in s.places.iter().enumerate() {
            let known = if s.depth_first { first.clone() } else { None };
            let (kk, ks) = match known {
                Some(x) => x,
                None => {
                    let it = eval.ix.emit(k, it);
                    let kk = k.let_("kk", it * self.tile.depth + &place.depth);
                    let kk = eval.ix.bind("kk", kk, depth.clone());
                    let ks = name_coords(k, eval, &kk, &extents(&p.k));
                    first = Some((kk.clone(), ks.clone()));
                    (kk, ks)
                }
            };
            let mut edge = Guard::new();
            let all = total(s.dims);
            if !all.divisible_by(s.size, &|_| 1) {
                edge.push((place.own.clone(), all));
            }
            if !depth.divisible_by(self.tile.depth, &|_| 1) {
                edge.push((kk, depth.clone()));
            }
            let at = at.with(s.dims, &place.coords).with(&p.k, &ks);
            let x = operand(k, eval, p, (s.v, s.at, s.made), &at, &edge)?;
            k.set(&s.next.at([Ex::from(u as i64)]), x);
        }
        Ok(())
    }
    /// Puts them into shared memory.
    fn publish(&self, k: &mut Kb<'_>, s: &Side<'_>, slot: Ex) {
        for (u, place) in s.places.iter().enumerate() {
            let to = Mem::new(s.shared, vec![(slot.clone(), 1), (place.depth.clone(), 1), (place.within.clone(), 1)]);
            k.store(to, s.next.at([Ex::from(u as i64)]).get());
        }
    }
    /// First row (or column) of this lane's chunk `q`.
    fn start(&self, t: &Ex, q: i64, axis: usize) -> Ex {
        let (w, size) = (i64::from(self.chunk()), [self.tile.rows, self.tile.cols][axis]);
        t * w + q * (size * w / self.tile.own[axis])
    }
    fn multiply(&self, k: &mut Kb<'_>, [lhs, rhs]: [&Side<'_>; 2], slot: Ex, (tx, ty): (&Ex, &Ex), c: &Reg) {
        let (acc, w) = (self.p.acc, self.chunk());
        let [rows, cols] = self.tile.own.map(|n| n / i64::from(w));
        k.unroll("kk", 0, self.tile.depth, |k, kk| {
            let chunk = |k: &mut Kb<'_>, name: &str, s: &Side<'_>, t: &Ex, q: i64, axis: usize| {
                k.load(name, Mem::new(s.shared, vec![(slot.clone(), 1), (kk.clone(), 1), (self.start(t, q, axis), w)]))
            };
            let b: Vec<Ex> = (0..cols).map(|q| chunk(k, "b", rhs, tx, q, 1)).collect();
            for q in 0..rows {
                let a = chunk(k, "a", lhs, ty, q, 0);
                for i in 0..i64::from(w) {
                    let x = if w == 1 { a.clone() } else { a.extract(i).splat(w) };
                    let x = k.let_("x", x);
                    for (j, y) in b.iter().enumerate() {
                        let c = c.at([(q * i64::from(w) + i).into(), (j as i64).into()]);
                        k.set(&c, step(acc, &x, y, &c.get()));
                    }
                }
            }
        });
    }
    #[allow(clippy::too_many_arguments)]
    fn epilogue(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        outputs: &[Buf],
        at: &At,
        (m0, n0): (&Ex, &Ex),
        (tx, ty): (&Ex, &Ex),
        c: &Reg,
    ) -> Result<(), Stop> {
        let (p, w) = (self.p, i64::from(self.chunk()));
        let (m, n) = (total(&p.m), total(&p.n));
        let values: Vec<ValueId> = self.cx.region.outputs().iter().map(|o| o.value).collect();
        let together = w > 1 && in_chunks(self.cx, eval, p, &values, w);
        let [rows, cols] = self.tile.own.map(|n| n / w);
        let n_dims = extents(&p.n);
        let mut counted = n_dims.clone();
        if let Some(last) = counted.last_mut().filter(|_| together) {
            *last = last.div(&w.into());
        }
        for q in 0..rows {
            for i in 0..w {
                eval.open();
                let row = k.let_("m", m0 + self.start(ty, q, 0) + i);
                let row = eval.ix.bind("m", row, m.clone());
                let mut edge = Guard::new();
                if !m.divisible_by(self.tile.rows, &|_| 1) {
                    edge.push((row.clone(), m.clone()));
                }
                let coords = name_coords(k, eval, &row, &extents(&p.m));
                let at = at.with(&p.m, &coords);
                for j in 0..cols {
                    let value = c.at([(q * w + i).into(), j.into()]).get();
                    let first = k.let_("n", n0 + self.start(tx, j, 1));
                    if together {
                        eval.set_width(w as u32);
                        let total = product(&counted);
                        let v = k.let_("nv", first / w);
                        let v = eval.ix.bind("n", v, total.clone());
                        let mut edge = edge.clone();
                        if !n.divisible_by(self.tile.cols, &|_| 1) {
                            edge.push((v.clone(), total));
                        }
                        let mut coords = name_coords(k, eval, &v, &counted);
                        if let Some(last) = coords.last_mut() {
                            *last = last.clone() * w + lane();
                        }
                        finish(self.cx, outputs, k, eval, p, &at.with(&p.n, &coords), value, &edge)?;
                        eval.set_width(1);
                        continue;
                    }
                    for o in 0..w {
                        let col = if w == 1 { first.clone() } else { k.let_("n", &first + o) };
                        let col = eval.ix.bind("n", col, n.clone());
                        let mut edge = edge.clone();
                        if !n.divisible_by(self.tile.cols, &|_| 1) {
                            edge.push((col.clone(), n.clone()));
                        }
                        let coords = name_coords(k, eval, &col, &n_dims);
                        let value = if w == 1 { value.clone() } else { value.extract(o) };
                        finish(self.cx, outputs, k, eval, p, &at.with(&p.n, &coords), value, &edge)?;
                    }
                }
                eval.close();
            }
        }
        Ok(())
    }
}

/// Whether results are stored in whole aligned vectors of `w` columns.
pub(super) fn in_chunks(cx: &Cx<'_>, eval: &mut Eval<'_>, p: &Problem<'_>, values: &[ValueId], w: i64) -> bool {
    let Some(last) = p.n.last().map(|d| d.1.clone()) else { return false };
    if !vector::divides(cx, eval, &last, w) || values.iter().any(|&v| i64::from(cx.spec.vector(eval.dtype(v))) < w) {
        return false;
    }
    vector::fits(cx, eval, values, Some(p.root), w, &mut |eval, w| {
        let mut at = At::default();
        for d in p.batch.iter().chain(&p.m).chain(&p.n) {
            let is_last = p.n.last().is_some_and(|l| l.0 == d.0);
            let x = eval.ix.bind("p", 0.into(), if is_last { d.1.div(&w.into()) } else { d.1.clone() });
            at = at.with(std::slice::from_ref(d), &[if is_last { x * w + lane() } else { x }]);
        }
        (p.root_at)(eval, &at)
    })
}
