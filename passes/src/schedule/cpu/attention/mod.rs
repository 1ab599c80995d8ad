// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention as one kernel: scores never leave the cache.
//!
//! A task is a block of query rows of one key head. Rows are the queries of all query heads that share the key head, one head after the
//! other, so that few queries of many heads fill a register tile as well. The task walks blocks of keys: it packs the block (keys so that
//! vectors run along them), and for each register tile of rows forms scores, masks them, turns them into weights against the running
//! maximum of the row, and adds the weighted values to the row's sums, which are divided by the sum of the weights at the end. What a
//! causal mask hides from all rows of a tile is left out. Where a key head meets few rows, nothing is packed (`few.rs`).
//!
//! All extents follow from the machine and the sizes of the problem: rows and vectors of a tile from the registers, keys of a block from
//! the caches.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Mem, Module};
use portwright_ir::sym::SymExpr;

use super::eval::{Eval, Guard, Stop};
use super::index::lane;
use super::{Begun, Built, Cx, finish, name_coords, vector_loop};
use crate::spec::CpuSpec;

mod few;
mod pack;
mod weights;

/// Products that one task should form: some ten microseconds of a core.
const TASK_PRODUCTS: i64 = 1 << 21;

/// Register tiles of rows of a task, at most: a task packs all keys that it sees once.
const TILES: i64 = 16;

/// Tasks that work should be cut into if there is enough of it.
const TASKS: i64 = 8;

/// What is computed.
struct Form {
    q: ValueId,
    /// Ranges of keys, one after the other.
    parts: Vec<Part>,
    mask: Option<ValueId>,
    root: ValueId,
    /// Key heads.
    heads: SymExpr,
    /// Query heads that share a key head.
    shared: SymExpr,
    queries: SymExpr,
    keys: SymExpr,
    depth: SymExpr,
    /// Depth of the values.
    width: SymExpr,
    causal: bool,
    /// Position of query 0 among the keys.
    offset: Option<ValueId>,
    scale: f64,
    softcap: f64,
    acc: DType,
}

/// Keys that lie together, with their values.
struct Part {
    /// Keys before it.
    start: SymExpr,
    len: SymExpr,
    k: ValueId,
    v: ValueId,
}

/// Extents of tiles and blocks.
struct Sizes {
    /// Rows of a register tile.
    tile: i64,
    /// Rows of a task.
    rows: i64,
    /// Vectors of keys in a tile.
    nv: u32,
    /// Vectors of values in a tile.
    vv: u32,
    /// Keys of a block.
    keys: i64,
    /// Whether one block has all keys, so that nothing is carried from block to block.
    at_once: bool,
}

/// Memory of a task.
struct Scratch {
    /// Queries times the scale, `[rows, depth]`.
    q: Buf,
    /// Keys of a block, `[tiles of keys, depth, keys of a tile]`.
    k: Buf,
    /// Values of a block, `[tiles of values, keys, values of a tile]`.
    v: Buf,
    /// Scores, then weights, of a tile of rows, `[rows, keys]`.
    s: Buf,
    /// Sums of weighted values, `[rows, width]`.
    o: Buf,
    /// Largest score of each row.
    top: Buf,
    /// Sum of the weights of each row.
    sum: Buf,
    /// What scores of a tile of rows are raised against.
    base: Buf,
    /// What earlier sums of a tile of rows are worth against that.
    fade: Buf,
}

/// Everything that the loops share.
struct Attend<'c, 'a> {
    cx: &'c Cx<'a>,
    form: Form,
    sizes: Sizes,
    scratch: Scratch,
    outputs: Vec<Buf>,
    /// Lanes of a vector.
    w: u32,
    /// Batch element and key head of the task.
    batch: SymExpr,
    head: SymExpr,
    /// First row of the task.
    m0: Ex,
    /// Rows of the task.
    rows: Ex,
    /// All rows of a key head.
    total: SymExpr,
    /// Position of query 0 among the keys, if that matters.
    offset: Option<Ex>,
}

/// Query head and query of a row.
struct Row {
    head: SymExpr,
    query: SymExpr,
}

/// A block of keys.
struct Keys<'p> {
    part: &'p Part,
    /// First key, within the part.
    first: Ex,
    /// How many.
    len: Ex,
    /// Whether every block is whole tiles of keys.
    whole: bool,
}

/// How sums of products are formed.
#[derive(Copy, Clone)]
struct Sum {
    /// Onto what memory holds already.
    add: bool,
    /// What has the factor 0 is left out, even if it is not finite.
    careful: bool,
}

/// Why operands of these dtypes have no schedule here; `None` if they have one.
pub(crate) fn refuses(dtypes: impl IntoIterator<Item = DType>) -> Option<&'static str> {
    let taken = |d: DType| matches!(d, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    (!dtypes.into_iter().all(taken)).then_some("attention in other than f16, bf16, f32 and f64")
}

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Attention { .. }))?;
    let mut b = cx.begin(module, width);
    let form = form(&b.eval, node)?;
    let w = if width == 1 { 1 } else { cx.spec.lanes(form.acc) };
    b.eval.set_width(w);
    let Begun { k, eval, outputs } = &mut b;
    let q_dims = eval.dims(form.q);
    let total = &form.shared * &form.queries;
    let groups = &q_dims[0] * &form.heads;
    let sizes = sizes(cx.spec, &form, w, &total, &groups);
    let grid = [total.ceil_div(&sizes.rows.into()), 1.into(), groups.clone()];
    let few = few::rows_of(eval, &form, &total);
    let scratch = scratch(k, &form, &sizes, w, few.is_some_and(|n| total.is(n)));

    let z = eval.ix.bind("z", k.gz(), groups);
    let coords = name_coords(k, eval, &z, &[q_dims[0].clone(), form.heads.clone()]);
    let [batch, head] = coords.as_slice() else { return Stop::no("attention without a batch and heads") };
    let (batch, head) = (batch.clone(), head.clone());
    let m0 = k.let_("m0", k.gx() * sizes.rows);
    let rows = k.let_("rows", (k.dim(&total) - &m0).min(sizes.rows));
    let offset = match (form.causal, form.offset) {
        (false, _) => None,
        (true, None) => Some(Ex::lit(DType::I64, 0.0)),
        (true, Some(v)) => {
            let at = vec![SymExpr::from(0); eval.graph.ty(v).rank()];
            let x = eval.value(k, v, &at, &Guard::new())?.cast(DType::I64);
            // No tensor has that many keys, and sums with positions stay far within an index.
            Some(k.let_("offset", x.clamp(-(1i64 << 40), 1i64 << 40)))
        }
    };
    let depth = form.depth.as_const().unwrap_or(64) + form.width.as_const().unwrap_or(64);
    let rows_of_task = total.as_const().unwrap_or(sizes.rows).min(sizes.rows);
    let products = rows_of_task.saturating_mul(form.keys.as_const().unwrap_or(512)).saturating_mul(depth);
    let outputs = outputs.clone();
    let a = Attend { cx, form, sizes, scratch, outputs, w, batch, head, m0, rows, total, offset };
    match few {
        Some(n) if a.total.is(n) => a.task(k, eval, Some(n))?,
        None => a.task(k, eval, None)?,
        Some(n) => {
            let total = k.dim(&a.total);
            for (cond, few) in [(total.equals(n), Some(n)), (total.differs(n), None)] {
                let mut stop = Ok(());
                k.if_(cond, |k| {
                    eval.open();
                    stop = a.task(k, eval, few);
                    eval.close();
                });
                stop?;
            }
        }
    }
    Ok(finish(b, grid, (products / 20).clamp(1, i64::from(u32::MAX)) as u32))
}

/// Operands and extents of the node.
fn form(eval: &Eval<'_>, node: &Node) -> Result<Form, Stop> {
    let (Op::Attention { scale, causal, has_mask, has_offset, softcap }, &[q, k, v, ref rest @ ..]) = (&node.op, node.operands.as_slice())
    else {
        return Stop::no("no attention");
    };
    let (q_dims, k_dims, v_dims) = (eval.dims(q), eval.dims(k), eval.dims(v));
    let ([_, hq, queries, depth], [_, hk, keys, _], Some(width)) = (q_dims.as_slice(), k_dims.as_slice(), v_dims.last()) else {
        return Stop::no("attention of other than four dims");
    };
    let mut rest = rest.iter().copied();
    let mask = if *has_mask { rest.next() } else { None };
    let offset = if *has_offset { rest.next() } else { None };
    let acc = if eval.dtype(q) == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(Form {
        q,
        parts: parts(eval, k, v),
        mask,
        root: node.results[0],
        heads: hk.clone(),
        shared: if hq == hk { 1.into() } else { hq.div(hk) },
        queries: queries.clone(),
        keys: keys.clone(),
        depth: depth.clone(),
        width: width.clone(),
        causal: *causal,
        offset,
        scale: scale.to_f64(),
        softcap: softcap.to_f64(),
        acc,
    })
}

/// Keys and values by the ranges that lie apart: those of a cache, then the new ones.
fn parts(eval: &Eval<'_>, k: ValueId, v: ValueId) -> Vec<Part> {
    let of = |v: ValueId| match eval.graph.producer(v) {
        Some(Node { op: Op::Concat { axis: 2 }, operands, .. }) => operands.clone(),
        _ => vec![v],
    };
    let (mut ks, mut vs) = (of(k), of(v));
    let length = |v: ValueId| eval.dims(v)[2].clone();
    if ks.len() != vs.len() || ks.len() > 3 || ks.iter().zip(&vs).any(|(k, v)| length(*k) != length(*v)) {
        (ks, vs) = (vec![k], vec![v]);
    }
    let mut start = SymExpr::from(0);
    let mut out = Vec::new();
    for (&k, &v) in ks.iter().zip(&vs) {
        let len = length(k);
        out.push(Part { start: start.clone(), len: len.clone(), k, v });
        start = start + len;
    }
    out
}

/// `n` of anything as equal blocks of at most `most`, each a multiple of `unit`.
fn even(n: i64, most: i64, unit: i64) -> i64 {
    let blocks = ((n + most - 1) / most.max(1)).max(1);
    (((n + blocks - 1) / blocks + unit - 1) / unit * unit).max(unit)
}

fn sizes(spec: &CpuSpec, form: &Form, w: u32, total: &SymExpr, groups: &SymExpr) -> Sizes {
    let lanes = i64::from(w);
    let vectors = |n: &SymExpr| if n.as_const().is_some_and(|n| n <= lanes) { 1 } else { 2 };
    let (nv, vv) = (vectors(&form.keys), vectors(&form.width));
    let most = i64::from((spec.vec_regs.saturating_sub(2 + nv.max(vv)) / nv.max(vv)).clamp(1, 14));
    let bytes = i64::from(form.acc.bytes().unwrap_or(4));
    // Rows of an unknown number are often a multiple of 8. One query of some heads that share their keys leaves no row of a tile empty.
    let tile = match (total.as_const(), form.shared.as_const()) {
        (Some(n), _) => even(n, most, 1),
        (None, Some(s)) if s > 1 && s <= most => most / s * s,
        _ => most.min(8),
    };
    let block = lanes * i64::from(nv);
    let (depth, width) = (form.depth.as_const().unwrap_or(64), form.width.as_const().unwrap_or(64));
    // Scores of a tile of rows fill half of the first cache, packed keys and values half of the second.
    let fits = |cache: u32, row: i64| i64::from(cache) / 2 / bytes / row.max(1);
    let most = fits(spec.l1_bytes, tile).min(fits(spec.l2_bytes, depth + width)) / block * block;
    let most = most.clamp(block, 1024);
    let longest = form.parts.iter().map(|p| p.len.as_const()).reduce(|a, b| Some(a?.max(b?))).flatten();
    let keys = longest.map_or(most, |n| even(n.max(1), most, block));
    let at_once = form.parts.len() == 1 && longest.is_some_and(|n| (1..=keys).contains(&n)) && !form.causal;
    // Rows of a task: enough products, few enough rows that there are tasks for many cores, many enough to pay for packing.
    let per_row = form.keys.as_const().unwrap_or(512).max(1).saturating_mul(depth + width);
    let worth = (TASK_PRODUCTS / per_row.max(1) / tile + 1).max(TILES / 2);
    let tiles = match (total.as_const(), groups.as_const()) {
        (Some(n), Some(g)) => (n.saturating_mul(g) / TASKS / tile).clamp(worth.min(TILES / 4), worth.max(TILES)),
        _ => worth,
    }
    .clamp(1, TILES);
    let rows = total.as_const().map_or(tiles * tile, |n| even(n, tiles * tile, tile));
    Sizes { tile, rows, nv, vv, keys, at_once }
}

fn scratch(k: &mut Kb<'_>, form: &Form, sizes: &Sizes, w: u32, few: bool) -> Scratch {
    let lanes = i64::from(w);
    let (block, values) = (lanes * i64::from(sizes.nv), lanes * i64::from(sizes.vv));
    let rows = if few { form.shared.clone() * form.queries.clone() } else { sizes.rows.into() };
    let tile = if few { rows.clone() } else { sizes.tile.max(few::MOST).into() };
    let mut local = |name: &str, dims: Vec<SymExpr>| k.local(name, BufDecl::rw(form.acc, dims).align(64));
    let depth = form.depth.round_up(lanes);
    let panels = form.width.ceil_div(&values.into());
    let packed = |dims: Vec<SymExpr>| if few { vec![1.into()] } else { dims };
    Scratch {
        q: local("qs", vec![rows.clone(), depth.clone()]),
        k: local("ks", packed(vec![(sizes.keys / block).into(), depth, block.into()])),
        v: local("vs", packed(vec![panels.clone(), sizes.keys.into(), values.into()])),
        // Rows of scores do not begin at the same line of a cache.
        s: local("s", vec![tile.clone(), (sizes.keys + 16).into()]),
        o: local("o", vec![rows.clone(), panels * values]),
        top: local("top", vec![rows.clone()]),
        sum: local("sum", vec![rows]),
        base: local("base", vec![tile.clone()]),
        fade: local("fade", vec![tile]),
    }
}

impl Attend<'_, '_> {
    /// One task, of that many rows if they are few.
    fn task(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, few: Option<i64>) -> Result<(), Stop> {
        let tile = few.unwrap_or(self.sizes.tile);
        let padded = k.let_("padded", ((&self.rows + (tile - 1)) / tile) * tile);
        self.queries(k, eval, &padded)?;
        let limit = self.task_limit(k, few);
        for part in &self.form.parts {
            let len = k.dim(&part.len);
            let end = match &limit {
                None => len,
                Some(limit) => k.let_("end", (limit - k.dim(&part.start)).max(0).min(len)),
            };
            let whole = part.len.divisible_by(self.sizes.keys, &|_| 1) && !self.form.causal;
            let mut stop = Ok(());
            k.for_("kb", 0, &end, self.sizes.keys, |k, first| {
                eval.open();
                let len = match whole {
                    true => Ex::lit(DType::I64, self.sizes.keys as f64),
                    false => k.let_("n", (&end - &first).min(self.sizes.keys)),
                };
                let keys = Keys { part, first, len, whole };
                stop = match few {
                    Some(n) => self.few_block(k, eval, &keys, n),
                    None => self.block(k, eval, &keys, &padded),
                };
                eval.close();
            });
            stop?;
        }
        self.results(k, eval)
    }

    /// How many keys the rows of the task see together; `None` for all.
    fn task_limit(&self, k: &mut Kb<'_>, few: Option<i64>) -> Option<Ex> {
        let offset = self.offset.as_ref()?;
        let last = match few {
            Some(_) => k.dim(&self.form.queries) - 1,
            None => self.last_query(k, &self.m0, &(&self.m0 + &self.rows - 1)),
        };
        Some(k.let_("limit", last + offset + 1))
    }
    /// The last query that rows `from` to `to` have among them.
    fn last_query(&self, k: &mut Kb<'_>, from: &Ex, to: &Ex) -> Ex {
        let queries = k.dim(&self.form.queries);
        if self.form.shared.is(1) {
            return to.clone();
        }
        let same = (from / &queries).equals(to / &queries);
        same.select(to % &queries, &queries - 1)
    }

    /// Query head and query of row `i` of the task; rows behind the last repeat it.
    fn row(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, i: &Ex) -> Row {
        let row = k.let_("row", (&self.m0 + i).min(k.dim(&self.total) - 1));
        let row = eval.ix.bind("row", row, self.total.clone());
        let coords = name_coords(k, eval, &row, &[self.form.shared.clone(), self.form.queries.clone()]);
        let (within, query) = (coords[0].clone(), coords[1].clone());
        let head = if self.form.shared.is(1) { self.head.clone() } else { &self.head * &self.form.shared + within };
        Row { head, query }
    }

    /// Packs the queries times the scale, and clears what rows add up.
    fn queries(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, padded: &Ex) -> Result<(), Stop> {
        let mut stop = Ok(());
        k.for_("i", 0, padded, 1, |k, i| {
            eval.open();
            stop = (|| {
                let at = self.row(k, eval, &i);
                let row = eval.ix.bind("i", i.clone(), self.sizes.rows.into());
                let (d, scale) = (self.form.acc, self.form.scale);
                let hi = k.dim(&self.form.depth);
                vector_loop(k, eval, "d", (0.into(), hi), &self.form.depth, &mut |k, eval, c, guard| {
                    let coords = [self.batch.clone(), at.head.clone(), at.query.clone(), c.clone()];
                    let x = eval.value(k, self.form.q, &coords, guard)?;
                    let x = eval.widen(&x).cast(d) * Ex::lit(d, scale).splat(self.w);
                    eval.store(k, self.scratch.q, &[row.clone(), c.clone()], &Guard::new(), &x)
                })?;
                if self.sizes.at_once {
                    return Ok(());
                }
                k.store(Mem::new(self.scratch.top, vec![(i.clone(), 1)]), Ex::lit(d, f64::NEG_INFINITY));
                k.store(Mem::new(self.scratch.sum, vec![(i.clone(), 1)]), Ex::lit(d, 0.0));
                self.each_sum(k, &i, &mut |_, _| Ex::lit(d, 0.0).splat(self.w));
                Ok(())
            })();
            eval.close();
        });
        stop
    }

    /// Replaces the sums of row `i`, a vector at a time, by what `f` says of them.
    fn each_sum(&self, k: &mut Kb<'_>, i: &Ex, f: &mut dyn FnMut(&mut Kb<'_>, Mem) -> Ex) {
        let w = i64::from(self.w);
        let values = w * i64::from(self.sizes.vv);
        k.for_("c", 0, k.dim(&self.form.width.round_up(values)), w, |k, c| {
            let at = Mem::new(self.scratch.o, vec![(i.clone(), 1), (c, self.w)]);
            let x = f(k, at.clone());
            k.store(at, x);
        });
    }

    /// A block of keys against all rows of the task, a tile of rows at a time.
    fn block(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, padded: &Ex) -> Result<(), Stop> {
        self.pack_keys(k, eval, keys)?;
        if !self.values_as_they_lie(eval, keys.part.v) {
            self.pack_values(k, eval, keys)?;
        }
        let finite = if self.hides() { Some(self.values_are_finite(k, eval, keys)?) } else { None };
        let tile = self.sizes.tile;
        let mut stop = Ok(());
        k.for_("i0", 0, padded, tile, |k, i0| {
            eval.open();
            let Some(offset) = &self.offset else {
                stop = self.rows_of_block(k, eval, keys, &i0, &keys.len, finite.as_ref());
                eval.close();
                return;
            };
            let from = k.let_("from", &self.m0 + &i0);
            let to = k.let_("to", (&from + (tile - 1)).min(k.dim(&self.total) - 1));
            let last = self.last_query(k, &from, &to);
            let seen = last + offset + 1 - k.dim(&keys.part.start) - &keys.first;
            let seen = k.let_("seen", seen.min(&keys.len));
            k.if_(seen.gt(0), |k| {
                eval.open();
                stop = self.rows_of_block(k, eval, keys, &i0, &seen, finite.as_ref());
                eval.close();
            });
            eval.close();
        });
        stop
    }

    /// A tile of rows from row `i0` on against the first `hi` keys of a block. Where values are not all finite, those that have no weight
    /// are left out.
    fn rows_of_block(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        keys: &Keys<'_>,
        i0: &Ex,
        hi: &Ex,
        finite: Option<&Ex>,
    ) -> Result<(), Stop> {
        let Sizes { tile, nv, .. } = self.sizes;
        let block = i64::from(self.w * nv);
        let Scratch { q, k: ks, s, .. } = self.scratch;
        let panels = k.let_("panels", (hi + (block - 1)) / block);
        let depth = k.dim(&self.form.depth);
        let mut stop = Ok(());
        k.for_("p", 0, panels, 1, |k, p| {
            let to = (Ex::from(0), &p * block);
            let mut keys = |k: &mut Kb<'_>, at: &Ex| Ok(self.panel(k, ks, &p, at, nv));
            stop = self.products(k, (q, i0.clone()), (&depth, &mut keys), nv, (s, to), Sum { add: false, careful: false });
        });
        stop?;
        self.weigh(k, eval, keys, i0, tile, hi)?;
        let Some(finite) = finite else { return self.mix_tile(k, eval, keys, i0, hi, false) };
        for (cond, careful) in [(finite.clone(), false), (!finite.clone(), true)] {
            let mut stop = Ok(());
            k.if_(cond, |k| {
                eval.open();
                stop = self.mix_tile(k, eval, keys, i0, hi, careful);
                eval.close();
            });
            stop?;
        }
        Ok(())
    }

    /// Adds the weighted values of a block to the sums of a tile of rows.
    fn mix_tile(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, i0: &Ex, hi: &Ex, careful: bool) -> Result<(), Stop> {
        let vv = self.sizes.vv;
        let values = i64::from(self.w * vv);
        let Scratch { s, o, .. } = self.scratch;
        let panels = self.form.width.ceil_div(&values.into());
        let mut stop = Ok(());
        k.for_("p", 0, k.dim(&panels), 1, |k, p| {
            eval.open();
            let to = (i0.clone(), &p * values);
            let p = eval.ix.bind("p", p, panels.clone());
            let mut of_key = |k: &mut Kb<'_>, at: &Ex| self.values_of_key(k, eval, keys, &p, at);
            let sum = Sum { add: !self.sizes.at_once, careful };
            stop = self.products(k, (s, Ex::from(0)), (hi, &mut of_key), vv, (o, to), sum);
            eval.close();
        });
        stop
    }

    /// The vectors of panel `p` of the values of key `at` of a block: packed, or as they lie.
    fn values_of_key(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, p: &SymExpr, at: &Ex) -> Result<Vec<Ex>, Stop> {
        let vv = self.sizes.vv;
        if !self.values_as_they_lie(eval, keys.part.v) {
            let p = eval.ix.emit(k, p);
            return Ok(self.panel(k, self.scratch.v, &p, at, vv));
        }
        eval.open();
        let key = k.let_("key", &keys.first + at);
        let key = eval.ix.bind("key", key, keys.part.len.clone());
        let start = p.clone() * i64::from(self.w * vv);
        let vector = |j: u32| [self.batch.clone(), self.head.clone(), key.clone(), start.clone() + i64::from(j * self.w) + lane()];
        let x = (0..vv).map(|j| eval.value(k, keys.part.v, &vector(j), &Guard::new())).collect();
        eval.close();
        x
    }

    /// Whether a mask may hide keys, whose values then have no influence whatever they are.
    fn hides(&self) -> bool {
        self.form.mask.is_some() || self.form.causal
    }

    /// Whether all values of a block are finite numbers: 0 times each of them is 0.
    fn values_are_finite(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>) -> Result<Ex, Stop> {
        const SIDE_BY_SIDE: i64 = 4;
        let (w, d, vv) = (self.w, self.form.acc, self.sizes.vv);
        let zero = Ex::lit(d, 0.0).splat(w);
        let c = k.var_array("z", &[SIDE_BY_SIDE as u32, vv], zero.clone());
        let panels = self.form.width.ceil_div(&i64::from(w * vv).into());
        let mut stop = Ok(());
        k.for_("p", 0, k.dim(&panels), 1, |k, p| {
            eval.open();
            let p = eval.ix.bind("p", p, panels.clone());
            k.for_("k", 0, &keys.len, SIDE_BY_SIDE, |k, first| {
                stop = (0..SIDE_BY_SIDE).try_for_each(|i| {
                    // Keys behind the last repeat it.
                    let at = k.let_("at", (&first + i).min(&keys.len - 1));
                    for (j, x) in self.values_of_key(k, eval, keys, &p, &at)?.iter().enumerate() {
                        let reg = c.at([Ex::from(i), Ex::from(j)]);
                        let next = x.fma(&zero, reg.get());
                        k.set(&reg, next);
                    }
                    Ok(())
                });
            });
            eval.close();
        });
        stop?;
        let all = (0..SIDE_BY_SIDE).flat_map(|i| (0..vv).map(move |j| (i, j))).map(|(i, j)| c.at([Ex::from(i), Ex::from(j)]).get());
        let sum = all.reduce(|a, b| a + b).unwrap_or(zero).hsum();
        Ok(k.let_("finite", sum.equals(0.0)))
    }

    /// Sums of products of a tile of rows of `a` with vectors that `b` gives, over `count` summed coordinates, to memory.
    fn products(
        &self,
        k: &mut Kb<'_>,
        (a, first): (Buf, Ex),
        (count, b): (&Ex, &mut dyn FnMut(&mut Kb<'_>, &Ex) -> Result<Vec<Ex>, Stop>),
        nv: u32,
        (to, (row, column)): (Buf, (Ex, Ex)),
        sum: Sum,
    ) -> Result<(), Stop> {
        let (w, tile, d) = (self.w, self.sizes.tile, self.form.acc);
        let c = k.var_array("c", &[tile as u32, nv], Ex::lit(d, 0.0).splat(w));
        let place = |i: &Ex, j: u32| Mem::new(to, vec![(&row + i, 1), (&column + i64::from(j * w), w)]);
        if sum.add {
            k.unroll("i", 0, tile, |k, i| {
                for j in 0..nv {
                    let old = k.load("o", place(&i, j));
                    k.set(&c.at([i.clone(), Ex::from(j)]), old);
                }
            });
        }
        let mut stop = Ok(());
        k.for_("k", 0, count, 1, |k, kk| {
            let x = match b(k, &kk) {
                Ok(x) => x,
                Err(e) => {
                    stop = Err(e);
                    return;
                }
            };
            k.unroll("i", 0, tile, |k, i| {
                let y = k.load("a", Mem::new(a, vec![(&first + &i, 1), (kk.clone(), 1)]));
                let y = if w > 1 { k.let_("a", y.splat(w)) } else { y };
                for (j, x) in x.iter().enumerate() {
                    let x = if sum.careful { weighted(&y, x, w) } else { x.clone() };
                    let reg = c.at([i.clone(), Ex::from(j)]);
                    let next = y.fma(x, reg.get());
                    k.set(&reg, next);
                }
            });
        });
        k.unroll("i", 0, tile, |k, i| {
            for j in 0..nv {
                k.store(place(&i, j), c.at([i.clone(), Ex::from(j)]).get());
            }
        });
        stop
    }

    /// The vectors of a panel at a summed coordinate.
    fn panel(&self, k: &mut Kb<'_>, buf: Buf, panel: &Ex, at: &Ex, nv: u32) -> Vec<Ex> {
        let place = |j: u32| Mem::new(buf, vec![(panel.clone(), 1), (at.clone(), 1), (Ex::from(j * self.w), self.w)]);
        (0..nv).map(|j| k.load("b", place(j))).collect()
    }

    /// Divides the sums of every row and hands them on.
    fn results(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>) -> Result<(), Stop> {
        let mut stop = Ok(());
        let d = self.form.acc;
        k.for_("i", 0, &self.rows, 1, |k, i| {
            eval.open();
            stop = {
                let at = self.row(k, eval, &i);
                let row = eval.ix.bind("i", i.clone(), self.sizes.rows.into());
                let sum = k.load("sum", Mem::new(self.scratch.sum, vec![(i.clone(), 1)]));
                // A row with nothing to see has no weight.
                let none = k.let_("none", sum.equals(0.0));
                let part = k.let_("part", Ex::lit(d, 1.0) / sum);
                let hi = k.dim(&self.form.width);
                vector_loop(k, eval, "c", (0.into(), hi), &self.form.width, &mut |k, eval, c, guard| {
                    let o = eval.load(k, "o", self.scratch.o, &[row.clone(), c.clone()], &Guard::new())?;
                    let y = none.splat(self.w).select(Ex::lit(d, 0.0).splat(self.w), o * part.splat(self.w));
                    let coords = [self.batch.clone(), at.head.clone(), at.query.clone(), c.clone()];
                    self.hand_on(k, eval, &coords, guard, y)
                })
            };
            eval.close();
        });
        stop
    }

    /// What follows attention, on one vector of results.
    fn hand_on(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, coords: &[SymExpr], guard: &Guard, y: Ex) -> Result<(), Stop> {
        let root = self.form.root;
        let y = k.let_("y", y.cast(eval.dtype(root)));
        let follow = eval.forward(root, coords, guard);
        for (o, buf) in self.cx.region.outputs().iter().zip(&self.outputs) {
            let Some((at, guard)) = follow.get(&o.value) else {
                return Stop::no("an output of attention that is not one result an element");
            };
            eval.bind(root, coords, guard, y.clone());
            let v = eval.value(k, o.value, at, guard)?;
            eval.store(k, *buf, at, guard, &v)?;
        }
        Ok(())
    }
}

/// Values that have a weight; 0 for those that have none.
fn weighted(weight: &Ex, x: &Ex, w: u32) -> Ex {
    let zero = match x.ty() {
        Some(ty) => Ex::float(0.0).typed(ty),
        None => Ex::float(0.0).splat(w),
    };
    weight.equals(zero.clone()).select(zero, x)
}

/// Elements along the lane from `e` on; one element where vectors have one lane.
fn along(e: SymExpr, w: u32) -> SymExpr {
    if w == 1 { e } else { e + lane() }
}
