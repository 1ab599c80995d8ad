// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Convolutions with channels last: vectors run along output channels, rows of the register tile are output positions.
//!
//! A task computes a box of positions times a run of output channels of one group of one batch element. Input positions are broadcast
//! against vectors of filters, which lie in panels in the order in which they are read: the inner loop is multiply-adds and loads from
//! constant distances. Where the tensor is padded, planar, or so wide that rows of a tile would meet in one cache set, the task first
//! copies its box of the input into scratch, with zeros around it; else the input is read as it lies. Tiles divide the positions of a
//! row as evenly as they can; where a row is short, a tile takes several rows. Taps are summed before channels, each in order, so a
//! result has one order of additions. Where neighbors lie side by side in the filters, a dot product takes them at once: channels, or
//! columns of the kernel where the input is planar.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Node, Op, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Mem, Module, Reg, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::boxes::{Corner, InputBox};
use super::eval::{Eval, Guard, Stop};
use super::index::lane;
use super::{Begun, Built, Cx, finish, flatten, name_coords};
use crate::spec::DotForm;

/// Products that one task should form: some fifty microseconds of a core.
const TASK_PRODUCTS: i64 = 1 << 23;

/// Tasks of a kernel below which channels are cut as well as positions.
const FEW_TASKS: i64 = 8;
/// Products that such a cut should form at least: some two microseconds of a core.
const CUT_PRODUCTS: i64 = 1 << 18;
/// Products for which an element of the input may be copied.
const COPY_PRODUCTS: i64 = 512;

/// Channels of a group up to which the loop over them is written out.
const FEW_CHANNELS: i64 = 4;

/// Ops of an epilogue beyond which results go through scratch, row by row.
const LONG_EPILOGUE: usize = 8;

/// Tiles along a dim whose size is not known that a task takes at most; more where it is the only dim.
const DYNAMIC_TILES: i64 = 4;
const DYNAMIC_ONLY: i64 = 64;

/// The convolution of a region, if its channels are last.
pub(crate) fn node_of(region: &Graph) -> Option<&Node> {
    region.order().into_iter().map(|n| region.node(n)).find(|n| matches!(n.op, Op::ConvLast { .. }))
}

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    match node_of(cx.region).and_then(|node| flatten::flatten(cx.region, node)) {
        Some(region) => {
            let cx = Cx { spec: cx.spec, region: &region, known: cx.known, origin: cx.origin, name: cx.name.clone() };
            build_region(&cx, module, width)
        }
        None => build_region(cx, module, width),
    }
}

/// Everything that the loops share. Lists are over spatial dims.
struct Conv<'c, 'a> {
    cx: &'c Cx<'a>,
    w: ValueId,
    root: ValueId,
    outputs: Vec<Buf>,
    acc: DType,
    out: DType,
    positions: Vec<SymExpr>,
    /// What a task reads, with kernel, steps and channels.
    input: InputBox,
    /// Output channels of a group.
    filters: i64,
    /// Filters of a panel, and whether every element of a vector of them exists.
    panel: i64,
    panels: i64,
    filled: bool,
    /// How neighbors that lie side by side are multiplied.
    dot: Option<DotForm>,
    /// Positions of a tile.
    tile: Vec<i64>,
    /// Vectors of a tile.
    nv: i64,
    scratch: Option<Buf>,
    results: Option<Buf>,
}

/// Where a task or a tile is.
#[derive(Clone)]
struct At {
    task: Corner,
    /// First position of the tile within the task, and in the tensor.
    local: Vec<SymExpr>,
    global: Vec<SymExpr>,
}

/// Positions of a tile along a row of `len`, at most `most`: few tiles, then few left over.
pub(super) fn tile_of(len: i64, most: i64) -> i64 {
    let cost = |t: i64| (len / t) * (t + 2) + if len % t > 0 { len % t + 2 } else { 0 };
    (1..=most.min(len.max(1))).rev().min_by_key(|&t| (cost(t), if len % t > 0 { t - len % t } else { 0 })).unwrap_or(1)
}

fn build_region(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let Some(node) = node_of(cx.region) else { return Stop::no("no convolution") };
    let (Op::ConvLast { channels, strides, dilations, pads, groups, planar, depth: side, .. }, &[x, w]) =
        (&node.op, node.operands.as_slice())
    else {
        return Stop::no("no convolution");
    };
    let root = node.results[0];
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let (x_dims, w_dims, out_dims) = (eval.dims(x), eval.dims(w), eval.dims(root));
    let s = strides.len();
    let known: Option<Vec<i64>> = w_dims.iter().map(SymExpr::as_const).collect();
    let (Some(mut w_dims), true) = (known, (1..=3).contains(&s)) else {
        return Stop::no("a convolution of that rank, or with filters of a size that is not known");
    };
    let acc = match eval.dtype(x) {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        d => d,
    };
    w_dims[s + usize::from(!planar)] *= side;
    w_dims[s + 2] /= side;
    let dot = cx.spec.dot(eval.dtype(x), eval.dtype(w), acc).filter(|f| i64::from(f.depth) == *side && *side > 1);
    let per_group = channels / groups;
    let wide = i64::from(width);
    if width > 1 && per_group == 1 {
        return Err(Stop::NeedScalar);
    }
    let vectors = (per_group + wide - 1) / wide;
    let nv = if vectors == 3 { 3 } else { vectors.min(2) };
    let rows = ((i64::from(cx.spec.vec_regs) - 2 - nv) / nv).clamp(1, 28 / nv);
    let input: Vec<SymExpr> = if *planar { x_dims[2..].to_vec() } else { x_dims[1..=s].to_vec() };
    let positions = out_dims[1..=s].to_vec();
    let kernel = w_dims[1..=s].to_vec();
    let depth = w_dims[s + 1];
    let low: Vec<SymExpr> = pads[..s].iter().map(|p| eval.syms.to_kernel(p)).collect();
    let padded = !pads.iter().all(|p| p.is(0));

    // Tiles and tasks.
    let sizes: Vec<Option<i64>> = positions.iter().map(SymExpr::as_const).collect();
    let mut tile = vec![1; s];
    tile[s - 1] = sizes[s - 1].map_or(rows, |n| tile_of(n, rows));
    if let (true, Some(len)) = (s > 1, sizes[s - 1])
        && len <= tile[s - 1]
        && let Some(n) = sizes[s.saturating_sub(2)]
    {
        tile[s - 2] = tile_of(n, (rows / tile[s - 1]).max(1));
    }
    let taps: i64 = kernel.iter().product();
    let products = |positions: i64| positions.saturating_mul(taps * depth).saturating_mul(per_group);
    let element = i64::from(eval.dtype(x).bits().div_ceil(8));
    let room = (i64::from(cx.spec.l2_bytes) / 4 / element).max(1);
    let extent = |len: i64, i: usize| (len - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1;
    let copied = |y: i64, x: i64| {
        let rows = if s > 1 { extent(y, s - 2) } else { 1 };
        let planes = if s > 2 { extent(1, 0) } else { 1 };
        rows * planes * extent(x, s - 1) * depth
    };
    let mut block = vec![1; s];
    let whole = sizes[s - 1].map_or(tile[s - 1] * if s > 1 { DYNAMIC_TILES } else { DYNAMIC_ONLY }, |n| n.max(1));
    let along = |i: usize, from: i64, most: i64, fits: &dyn Fn(i64) -> bool| {
        let mut n = from;
        while n < most && fits(n + tile[i]) {
            n += tile[i];
        }
        n
    };
    // As much of a row as fits, then rows until a task is worth its start.
    block[s - 1] = along(s - 1, tile[s - 1], whole, &|n| copied(1, n) <= room && (s > 1 || products(n) <= TASK_PRODUCTS));
    if s > 1 {
        let most = sizes[s - 2].unwrap_or(DYNAMIC_TILES * 2).max(1);
        let fits = |n: i64| copied(n, block[s - 1]) <= room && products(n * block[s - 1]) <= TASK_PRODUCTS;
        block[s - 2] = along(s - 2, tile[s - 2], most, &fits);
    }
    let counts: Vec<SymExpr> = positions.iter().zip(&block).map(|(d, &b)| d.ceil_div(&b.into())).collect();
    let boxes = product(&counts);
    let all = &(&boxes * &out_dims[0]) * &SymExpr::from(*groups);
    let blocks = (vectors + nv - 1) / nv;
    let of_task = products(block.iter().product()).max(1);
    let pitch = depth * element;
    let copies = *planar || padded || pitch % 4096 == 0;
    // Each cut is worth its start and, where it copies its input, the copy.
    let worth = if copies { taps.saturating_mul(per_group) / COPY_PRODUCTS } else { i64::MAX };
    let cuts = match all.as_const() {
        Some(n) if n < FEW_TASKS => (FEW_TASKS / n.max(1)).min(of_task / CUT_PRODUCTS).min(worth),
        _ => 1,
    };
    let cuts = cuts.clamp(1, blocks);
    let run = (blocks + cuts - 1) / cuts;

    let filled = w_dims[0] > 1 && w_dims[s + 2] % wide == 0;
    if *side > 1
        && (dot.is_none() || !(filled || (w_dims[s + 2] == per_group && per_group % wide == 0)) || (*planar && dilations[s - 1] > 1))
    {
        return Stop::no("neighbors side by side that no instruction multiplies");
    }
    let scratch = copies.then(|| {
        let mut dims: Vec<SymExpr> = (0..s).map(|i| extent(block[i], i).into()).collect();
        if *planar {
            dims.insert(0, depth.into());
        } else {
            // A tile's rows begin in different cache sets.
            dims.push((if pitch % 1024 == 0 { depth + wide } else { depth }).into());
        }
        k.local("box", BufDecl::rw(eval.dtype(x), dims).align(64))
    });
    let epilogue = cx.region.node_ids().filter(|&n| cx.region.node(n).op.is_elementwise()).count();
    let results = (epilogue > LONG_EPILOGUE).then(|| {
        let dims = [tile[..s].iter().product::<i64>().into(), (nv * wide).into()];
        k.local("results", BufDecl::rw(acc, dims).align(64))
    });
    let c = Conv {
        cx,
        w,
        root,
        outputs: outputs.clone(),
        acc,
        out: eval.dtype(root),
        positions: positions.clone(),
        input: InputBox {
            x,
            input,
            block: block.clone(),
            kernel,
            strides: strides.clone(),
            dilations: dilations.clone(),
            low,
            planar: *planar,
            channels: depth,
        },
        filters: per_group,
        panel: w_dims[s + 2],
        panels: w_dims[0],
        filled,
        dot,
        tile,
        nv,
        scratch,
        results,
    };

    let gx = k.gx();
    let task = eval.ix.bind("task", gx, boxes.clone());
    let which = name_coords(k, eval, &task, &counts);
    let gz = k.gz();
    let z = eval.ix.bind("z", gz, &out_dims[0] * &SymExpr::from(*groups));
    let ng = name_coords(k, eval, &z, &[out_dims[0].clone(), (*groups).into()]);
    let (mut origin, mut ends) = (Vec::new(), Vec::new());
    for i in 0..s {
        let first = eval.ix.emit(k, &(which[i].clone() * block[i]));
        let first = k.let_("at", first);
        let len = (k.dim(&positions[i]) - &first).min(block[i]);
        ends.push(if block[i] == 1 || sizes[i] == Some(block[i]) { Ex::from(block[i]) } else { k.let_("len", len) });
        origin.push(if counts[i].is(1) { 0.into() } else { eval.ix.bind("at", first, positions[i].clone()) });
    }
    let zeros = vec![SymExpr::from(0); s];
    let at = At { task: Corner { n: ng[0].clone(), g: ng[1].clone(), origin }, local: zeros.clone(), global: zeros };
    if let Some(scratch) = scratch {
        c.input.fill(k, eval, scratch, &at.task)?;
    }
    let p0 = k.let_("p0", k.gy() * run);
    let p1 = k.let_("p1", (&p0 + run).min(blocks));
    c.panels(k, eval, &at, &ends, (p0, p1), vectors)?;

    // Some 25 products a nanosecond.
    let cost = (of_task / cuts / if dot.is_some() { 50 } else { 25 }).clamp(1, i64::from(u32::MAX)) as u32;
    let grid = [boxes, ((blocks + run - 1) / run).into(), &out_dims[0] * &SymExpr::from(*groups)];
    Ok(finish(b, grid, cost))
}

impl<'a> Conv<'_, 'a> {
    fn spatial(&self) -> usize {
        self.positions.len()
    }

    /// All blocks of filters of the task: whole ones, then the one at the edge.
    fn panels(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, at: &At, ends: &[Ex], (p0, p1): (Ex, Ex), vectors: i64) -> Result<(), Stop> {
        let w = i64::from(eval.width);
        let nr = self.nv * w;
        let whole = self.filters / nr;
        let mut stop = Ok(());
        if whole > 0 {
            let hi = if self.filters % nr == 0 { p1.clone() } else { k.let_("pw", p1.min(whole)) };
            k.for_("p", &p0, hi, 1, |k, p| {
                eval.open();
                let p = eval.ix.bind("p", p, whole.into());
                let of: Vec<(SymExpr, Guard)> = (0..self.nv).map(|j| (p.clone() * nr + j * w + self.lane(w), Guard::new())).collect();
                stop = self.rows(k, eval, at, ends, &of);
                eval.close();
            });
        }
        stop?;
        if self.filters % nr == 0 {
            return Ok(());
        }
        let of: Vec<(SymExpr, Guard)> = (whole * self.nv..vectors)
            .map(|j| {
                let o = SymExpr::from(j * w) + self.lane(w);
                let guard = eval.guarded(&Guard::new(), &o, &self.filters.into());
                (o, guard)
            })
            .collect();
        let mut stop = Ok(());
        k.if_(p1.gt(whole), |k| {
            eval.open();
            stop = self.rows(k, eval, at, ends, &of);
            eval.close();
        });
        stop
    }

    fn lane(&self, width: i64) -> SymExpr {
        if width == 1 { 0.into() } else { lane() }
    }

    /// All tiles of the task, by spatial dim.
    fn rows(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, at: &At, ends: &[Ex], of: &[(SymExpr, Guard)]) -> Result<(), Stop> {
        self.steps(k, eval, 0, at, ends, &mut Vec::new(), of)
    }

    #[allow(clippy::too_many_arguments)]
    fn steps(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        i: usize,
        at: &At,
        ends: &[Ex],
        size: &mut Vec<i64>,
        of: &[(SymExpr, Guard)],
    ) -> Result<(), Stop> {
        if i == self.spatial() {
            return self.tile(k, eval, at, size, of);
        }
        let (block, tile, total) = (self.input.block[i], self.tile[i], self.positions[i].as_const());
        let hi = &ends[i];
        // Tiles of one size, then what is left over: known, or in smaller and smaller steps.
        let rest: Vec<i64> = match total {
            Some(n) => Some(n % tile).into_iter().filter(|&r| r > 0).collect(),
            None => [4, 1].into_iter().filter(|&t| t < tile).collect(),
        };
        let mut from = Ex::from(0);
        for (j, t) in std::iter::once(tile).chain(rest.iter().copied()).enumerate() {
            let known = total.filter(|&n| n <= block);
            let to = match known {
                Some(n) if j == 0 => Ex::from(n / tile * tile),
                Some(n) => Ex::from(n),
                None if t == 1 => hi.clone(),
                None => k.let_("to", &from + ((hi - &from) / t) * t),
            };
            let mut stop = Ok(());
            let mut body = |k: &mut Kb<'_>, eval: &mut Eval<'a>, v: Ex| {
                let local = match known {
                    Some(n) if n / tile * tile == tile && j == 0 => 0.into(),
                    Some(n) if j > 0 => (n / tile * tile).into(),
                    _ => eval.ix.bind("v", v, (block - t + 1).into()),
                };
                let sum = at.task.origin[i].clone() + local.clone();
                let global = if sum.as_const().is_some() || sum.as_sym().is_some() {
                    sum
                } else {
                    let ex = eval.ix.emit(k, &sum);
                    let named = k.let_("u", ex);
                    eval.ix.bind("u", named, self.positions[i].clone() - (t - 1))
                };
                let mut at = at.clone();
                at.local[i] = local;
                at.global[i] = global;
                size.push(t);
                let stop = self.steps(k, eval, i + 1, &at, ends, size, of);
                size.pop();
                stop
            };
            let once = known.is_some_and(|n| j > 0 || n / tile == 1);
            if once {
                eval.open();
                stop = body(k, eval, from.clone());
                eval.close();
            } else if known.is_none_or(|n| n >= tile) {
                k.for_("v", &from, &to, t, |k, v| {
                    eval.open();
                    stop = body(k, eval, v);
                    eval.close();
                });
            }
            stop?;
            from = to;
        }
        Ok(())
    }

    /// One tile: sums in registers, then the epilogue.
    fn tile(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, at: &At, size: &[i64], of: &[(SymExpr, Guard)]) -> Result<(), Stop> {
        let w = eval.width;
        let zero = if self.acc.is_float() { Ex::float(0.0) } else { Ex::int(0) };
        let zero = zero.typed(&Ty::Scalar(self.acc)).splat(w);
        let dims: Vec<u32> = size.iter().map(|&t| t as u32).chain([of.len() as u32]).collect();
        let c = k.var_array("c", &dims, zero);
        self.sum(k, eval, at, size, of, &c, &mut Vec::new())?;
        let Some(results) = self.results else {
            return self.each(k, eval, size, &mut Vec::new(), &mut |k, eval, i, shift| {
                for (j, (o, guard)) in of.iter().enumerate() {
                    let x = c.at(i.iter().cloned().chain([Ex::from(j)])).get();
                    self.epilogue(k, eval, at, shift, o, guard, x)?;
                }
                Ok(())
            });
        };
        // Rows of the tile in a loop: a long epilogue is written once.
        let wide = i64::from(w);
        self.each(k, eval, size, &mut Vec::new(), &mut |k, eval, i, shift| {
            let row = shift.iter().zip(size).fold(SymExpr::from(0), |r, (s, &t)| r * t + s.clone());
            for j in 0..of.len() {
                let x = c.at(i.iter().cloned().chain([Ex::from(j)])).get();
                let row = eval.ix.emit(k, &row);
                k.store(Mem::new(results, vec![(row, 1), (Ex::from(j as i64 * wide), w)]), x);
            }
            Ok(())
        })?;
        let rows: i64 = size.iter().product();
        let mut stop = Ok(());
        k.for_("i", 0, rows, 1, |k, i| {
            eval.open();
            stop = (|| {
                let row = eval.ix.bind("i", i.clone(), rows.into());
                let dims: Vec<SymExpr> = size.iter().map(|&t| t.into()).collect();
                let shift = name_coords(k, eval, &row, &dims);
                for (j, (o, guard)) in of.iter().enumerate() {
                    let x = k.load("c", Mem::new(results, vec![(i.clone(), 1), (Ex::from(j as i64 * wide), w)]));
                    self.epilogue(k, eval, at, &shift, o, guard, x)?;
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    }

    /// Sums over taps, then channels.
    #[allow(clippy::too_many_arguments)]
    fn sum(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        at: &At,
        size: &[i64],
        of: &[(SymExpr, Guard)],
        c: &Reg,
        taps: &mut Vec<SymExpr>,
    ) -> Result<(), Stop> {
        let s = self.spatial();
        let i = taps.len();
        if i == s + 1 {
            return self.multiply(k, eval, at, size, of, c, taps);
        }
        let n = if i == s { self.input.channels } else { self.input.kernel[i] };
        let n = if i == s - usize::from(self.input.planar) { n / self.side() } else { n };
        if n == 1 || (i == s && n <= FEW_CHANNELS) {
            return (0..n).try_for_each(|t| {
                taps.push(t.into());
                let stop = self.sum(k, eval, at, size, of, c, taps);
                taps.pop();
                stop
            });
        }
        let mut stop = Ok(());
        k.for_(if i == s { "c" } else { "t" }, 0, n, 1, |k, t| {
            eval.open();
            taps.push(eval.ix.bind("t", t, n.into()));
            stop = self.sum(k, eval, at, size, of, c, taps);
            taps.pop();
            eval.close();
        });
        stop
    }

    /// One step of the sum: a vector of filters per column, an element of the input per row.
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        at: &At,
        size: &[i64],
        of: &[(SymExpr, Guard)],
        c: &Reg,
        taps: &[SymExpr],
    ) -> Result<(), Stop> {
        let (w, s, side) = (eval.width, self.spatial(), self.side());
        let mut columns = Vec::with_capacity(of.len());
        for (o, guard) in of {
            let filter = at.task.g.clone() * self.filters + o.clone();
            if let Some(form) = self.dot {
                let (panel, first) = eval.ix.div_mod(&(filter - self.lane(w.into())), &self.panel.into());
                let coords: Vec<SymExpr> = std::iter::once(panel).chain(taps.iter().cloned()).chain([first * side + lane()]).collect();
                eval.set_width(w * form.depth);
                let b = eval.value(k, self.w, &coords, &Guard::new());
                eval.set_width(w);
                columns.push(b?);
                continue;
            }
            let (panel, lane) = if self.panels == 1 { (0.into(), filter) } else { eval.ix.div_mod(&filter, &self.panel.into()) };
            let coords: Vec<SymExpr> = std::iter::once(panel).chain(taps.iter().cloned()).chain([lane]).collect();
            let none = Guard::new();
            let b = eval.value(k, self.w, &coords, if self.filled { &none } else { guard })?;
            let b = eval.widen(&b).cast(self.acc);
            columns.push(if eval.dtype(self.w) == self.acc { b } else { k.let_("b", b) });
        }
        // Neighbors of the input are read together.
        let mut taps = taps.to_vec();
        if let Some(form) = self.dot {
            let beside = &mut taps[s - usize::from(self.input.planar)];
            *beside = beside.clone() * side + lane();
            eval.set_width(form.depth);
        }
        let stop = self.each(k, eval, size, &mut Vec::new(), &mut |k, eval, i, shift| {
            let place = |d: usize, base: &SymExpr| {
                (base.clone() + shift[d].clone()) * self.input.strides[d] + taps[d].clone() * self.input.dilations[d]
            };
            let a = match self.scratch {
                Some(scratch) => {
                    let mut coords: Vec<SymExpr> = (0..s).map(|d| place(d, &at.local[d])).collect();
                    if self.input.planar {
                        coords.insert(0, taps[s].clone())
                    } else {
                        coords.push(taps[s].clone())
                    }
                    eval.load(k, "a", scratch, &coords, &Guard::new())?
                }
                None => {
                    let mut coords = vec![at.task.n.clone()];
                    coords.extend((0..s).map(|d| place(d, &at.global[d])));
                    coords.push(at.task.g.clone() * self.input.channels + taps[s].clone());
                    eval.value(k, self.input.x, &coords, &Guard::new())?
                }
            };
            if let Some(form) = self.dot {
                let a = k.let_("a", a.bitcast(self.acc).splat(w));
                let a = k.let_("a", a.bitcast(form.a));
                for (j, b) in columns.iter().enumerate() {
                    let reg = c.at(i.iter().cloned().chain([Ex::from(j)]));
                    let new = if form.depth == 2 { reg.get().dot2(&a, b) } else { reg.get().dot4(&a, b) };
                    k.set(&reg, new);
                }
                return Ok(());
            }
            let a = a.cast(self.acc);
            let a = if w > 1 { k.let_("a", a.splat(w)) } else { a };
            for (j, b) in columns.iter().enumerate() {
                let reg = c.at(i.iter().cloned().chain([Ex::from(j)]));
                let old = reg.get();
                let new = if self.acc.is_float() { a.fma(b, old) } else { old.add_w(a.mul_w(b)) };
                k.set(&reg, new);
            }
            Ok(())
        });
        eval.set_width(w);
        stop
    }

    /// Neighbors that lie side by side.
    fn side(&self) -> i64 {
        self.dot.map_or(1, |f| f.depth.into())
    }

    /// Writes the body out for every position of a tile, with its place as register indices and as coordinates.
    fn each(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        size: &[i64],
        at: &mut Vec<(Ex, SymExpr)>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[Ex], &[SymExpr]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Some(&t) = size.get(at.len()) else {
            let (i, shift): (Vec<Ex>, Vec<SymExpr>) = at.iter().cloned().unzip();
            return body(k, eval, &i, &shift);
        };
        if t == 1 {
            at.push((Ex::from(0), 0.into()));
            let stop = self.each(k, eval, size, at, body);
            at.pop();
            return stop;
        }
        let mut stop = Ok(());
        k.unroll("i", 0, t, |k, i| {
            eval.open();
            let place = eval.ix.bind("i", i.clone(), t.into());
            at.push((i, place));
            stop = self.each(k, eval, size, at, body);
            at.pop();
            eval.close();
        });
        stop
    }

    /// What follows the convolution, on one vector of results.
    #[allow(clippy::too_many_arguments)]
    fn epilogue(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        at: &At,
        shift: &[SymExpr],
        o: &SymExpr,
        guard: &Guard,
        x: Ex,
    ) -> Result<(), Stop> {
        let mut coords = vec![at.task.n.clone()];
        coords.extend(at.global.iter().zip(shift).map(|(g, s)| g + s));
        let channel = at.task.g.clone() * self.filters + o.clone();
        coords.push(channel.clone());
        let base = at.task.g.clone() * self.filters;
        let guard: Guard = guard.iter().map(|(e, end)| (e.clone() + base.clone(), end.clone() + base.clone())).collect();
        store(self.cx, &self.outputs, k, eval, self.root, &coords, &guard, x.cast(self.out))
    }
}

/// Stores what follows `root`, which is `x` at these coordinates.
#[allow(clippy::too_many_arguments)]
pub(super) fn store(
    cx: &Cx<'_>,
    outputs: &[Buf],
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    root: ValueId,
    coords: &[SymExpr],
    guard: &Guard,
    x: Ex,
) -> Result<(), Stop> {
    let x = k.let_("s", x);
    eval.bind(root, coords, guard, x.clone());
    let follow = eval.forward(root, coords, guard);
    for (o, buf) in cx.region.outputs().iter().zip(outputs) {
        let Some((at, guard)) = follow.get(&o.value) else {
            return Stop::no("an output of a convolution that is not one result an element");
        };
        eval.bind(root, coords, guard, x.clone());
        let v = eval.value(k, o.value, at, guard)?;
        eval.store(k, *buf, at, guard, &v)?;
    }
    Ok(())
}
