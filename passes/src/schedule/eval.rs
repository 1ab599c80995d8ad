// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One element, or one vector of elements, of any value of a region at given coordinates.
//!
//! Movement ops rewrite coordinates, elementwise ops become expressions, inputs become loads. What a schedule has computed itself (an
//! accumulator, a reduced row) it binds to coordinates, and evaluation stops there. A value whose coordinates do not involve the lane
//! is a scalar; it is splat where it meets a vector.

use std::collections::{HashMap, HashSet};

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Literal, Node, Op, Scalar, ValueId};
use portwright_ir::kernel::{Buf, Ex, Kb, Mem, Ty};
use portwright_ir::numerics;
use portwright_ir::sym::SymExpr;

use super::elementwise;
use super::index::{Indices, LANE, row_of};
use super::lifted;
use super::{SymMap, Unschedulable};
use crate::ranges::Range;
use portwright_ir::entity::SecondaryMap;

/// Why an element cannot be computed this way.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// Not at this vector width; one element at a time it can.
    NeedScalar,
    /// Not at all.
    No(Unschedulable),
}

impl Stop {
    /// Not at all, because.
    pub(crate) fn no<T>(reason: impl Into<String>) -> Result<T, Stop> {
        Err(Stop::No(Unschedulable::new(reason)))
    }
}

/// Conditions `0 <= e < end`, all of which must hold for the element to be touched.
pub(crate) type Guard = Vec<(SymExpr, SymExpr)>;

type Key = (ValueId, Vec<SymExpr>, Guard);

/// A guard in the kernel.
pub(super) enum CondEx {
    Always,
    When(Ex),
    Mask(Ex),
}

/// How the elements of a vector lie in memory.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Reach {
    /// One element for all lanes.
    One,
    /// Neighbors along the innermost dim.
    Block,
    /// Anywhere.
    Scattered,
}

/// Values computed in one block of the kernel.
#[derive(Default)]
struct Scope {
    values: HashMap<Key, Ex>,
    masks: HashMap<Guard, Ex>,
    /// Rows of tables of that many rows, by the index.
    rows: HashMap<(Key, SymExpr), SymExpr>,
}

/// Evaluates values of a region inside a kernel that is being built.
pub(crate) struct Eval<'a> {
    /// The region.
    pub(crate) graph: &'a Graph,
    /// Loop variables.
    pub(crate) ix: Indices,
    /// Names of symbols in the kernel.
    pub(crate) syms: SymMap,
    /// Lanes of a vector.
    pub(crate) width: u32,
    /// Between which numbers integers lie.
    pub(crate) ranges: SecondaryMap<ValueId, Option<Range>>,
    /// Exponentials of which only ratios are wanted.
    pub(crate) lifted: HashSet<ValueId>,
    bufs: HashMap<ValueId, Buf>,
    /// Values kept in local memory, indexed by the trailing coordinates.
    rows: HashMap<ValueId, (Buf, usize)>,
    scopes: Vec<Scope>,
    uses: HashMap<ValueId, u32>,
}

impl<'a> Eval<'a> {
    /// Starts evaluation of a region.
    pub(crate) fn new(graph: &'a Graph, syms: SymMap, width: u32) -> Self {
        let mut uses = HashMap::new();
        for n in graph.node_ids() {
            for &v in &graph.node(n).operands {
                *uses.entry(v).or_default() += 1;
            }
        }
        for o in graph.outputs() {
            *uses.entry(o.value).or_default() += 1;
        }
        let scopes = vec![Scope::default()];
        let mut ix = Indices::default();
        ix.width = width;
        let (ranges, lifted, bufs, rows) = (SecondaryMap::default(), HashSet::new(), HashMap::new(), HashMap::new());
        Eval { graph, ix, syms, width, ranges, lifted, bufs, rows, scopes, uses }
    }
    /// Dims of a value in the kernel's symbols.
    pub(crate) fn dims(&self, v: ValueId) -> Vec<SymExpr> {
        self.graph.ty(v).dims.iter().map(|d| self.syms.to_kernel(d)).collect()
    }
    /// Dtype of a value.
    pub(crate) fn dtype(&self, v: ValueId) -> DType {
        self.graph.ty(v).dtype
    }
    /// Says which buffer a value is loaded from.
    pub(crate) fn bind_buf(&mut self, v: ValueId, buf: Buf) {
        self.bufs.insert(v, buf);
    }
    /// Whether a value is loaded from memory.
    pub(crate) fn is_loaded(&self, v: ValueId) -> bool {
        self.bufs.contains_key(&v) || self.rows.contains_key(&v)
    }
    /// Says that a value is kept in local memory, indexed by its last `rank` coordinates.
    pub(crate) fn bind_row(&mut self, v: ValueId, buf: Buf, rank: usize) {
        self.rows.insert(v, (buf, rank));
    }
    /// Forgets all rows.
    pub(crate) fn forget_rows(&mut self) {
        self.rows.clear();
    }
    /// The guard as a mask of the open width (a scalar at width 1); `None` if it always holds.
    pub(crate) fn mask(&mut self, k: &mut Kb<'_>, guard: &Guard) -> Result<Option<Ex>, Stop> {
        Ok(match self.cond(k, guard)? {
            CondEx::Always => None,
            CondEx::When(c) => Some(self.widen(&c)),
            CondEx::Mask(m) => Some(m),
        })
    }
    /// Says what a value is at these coordinates, in the open block.
    pub(crate) fn bind(&mut self, v: ValueId, coords: &[SymExpr], guard: &Guard, ex: Ex) {
        self.top().values.insert((v, coords.to_vec(), relevant(guard, coords)), ex);
    }
    /// Changes the number of lanes; values that were computed at another number must not be met again.
    pub(crate) fn set_width(&mut self, width: u32) {
        self.width = width;
        self.ix.width = width;
    }
    /// Opens a block: what is computed in it is forgotten at its end.
    pub(crate) fn open(&mut self) {
        self.scopes.push(Scope::default());
    }
    /// Closes a block.
    pub(crate) fn close(&mut self) {
        self.scopes.pop();
    }
    fn top(&mut self) -> &mut Scope {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }
    /// `guard` with `0 <= e < end` added, unless that always holds.
    pub(crate) fn guarded(&self, guard: &Guard, e: &SymExpr, end: &SymExpr) -> Guard {
        let mut g = guard.clone();
        let pair = (e.clone(), end.clone());
        if !self.ix.in_range(e, end) && !g.contains(&pair) {
            g.push(pair);
        }
        g
    }

    /// A scalar as a vector of the open width; a vector as it is.
    pub(crate) fn widen(&self, e: &Ex) -> Ex {
        match e.ty() {
            Some(Ty::Vec(..)) => e.clone(),
            _ => e.splat(self.width),
        }
    }
    /// A vector of indices `base + step * lane`.
    pub(crate) fn lanes(&self, k: &Kb<'_>, base: &SymExpr, step: i64) -> Ex {
        let b = self.ix.emit(k, base);
        match (self.width, step) {
            (1, _) => b,
            (w, 1) => b.iota(w),
            (w, s) => b.splat(w) + Ex::int(0).typed(&Ty::Scalar(k.index())).iota(w) * s,
        }
    }

    /// The guard as an expression: none, a scalar, or a mask of the open width.
    pub(super) fn cond(&mut self, k: &mut Kb<'_>, guard: &Guard) -> Result<CondEx, Stop> {
        if guard.is_empty() {
            return Ok(CondEx::Always);
        }
        if let Some(found) = self.scopes.iter().rev().find_map(|s| s.masks.get(guard)) {
            return Ok(if matches!(found.ty(), Some(Ty::Vec(..))) { CondEx::Mask(found.clone()) } else { CondEx::When(found.clone()) });
        }
        let (mut scalar, mut mask): (Option<Ex>, Option<Ex>) = (None, None);
        for (e, end) in guard {
            let Some((base, step)) = Indices::linear(e) else { return Err(Stop::NeedScalar) };
            let end_ex = self.ix.emit(k, end);
            if step == 0 || self.width == 1 {
                let x = self.ix.emit(k, &base);
                let below = x.lt(&end_ex);
                let c = if self.ix.bounds(&base).0 >= 0 { below } else { x.ge(0) & below };
                scalar = Some(scalar.map_or(c.clone(), |s| s & c));
            } else {
                let c = if step == 1 && self.ix.bounds(&base).0 >= 0 {
                    self.ix.emit(k, &base).mask_lt(&end_ex, self.width)
                } else {
                    let x = k.let_("at", self.lanes(k, &base, step));
                    x.ge(0) & x.lt(end_ex.splat(self.width))
                };
                mask = Some(mask.map_or(c.clone(), |m| m & c));
            }
        }
        let ex = match (scalar, mask) {
            (Some(s), Some(m)) => m & s.splat(self.width),
            (Some(s), None) => s,
            (None, Some(m)) => m,
            (None, None) => return Ok(CondEx::Always),
        };
        let named = k.let_("in", ex);
        self.top().masks.insert(guard.clone(), named.clone());
        Ok(if matches!(named.ty(), Some(Ty::Vec(..))) { CondEx::Mask(named) } else { CondEx::When(named) })
    }

    /// A value at coordinates: a scalar if they do not involve the lane, else a vector of the open width.
    pub(crate) fn value(&mut self, k: &mut Kb<'_>, v: ValueId, coords: &[SymExpr], guard: &Guard) -> Result<Ex, Stop> {
        let guard = relevant(guard, coords);
        let key = (v, coords.to_vec(), guard.clone());
        if let Some(found) = self.scopes.iter().rev().find_map(|s| s.values.get(&key)) {
            return Ok(found.clone());
        }
        // What is known without a condition is so under any.
        if !guard.is_empty() {
            let free = (v, coords.to_vec(), Guard::new());
            if let Some(found) = self.scopes.iter().rev().find_map(|s| s.values.get(&free)) {
                return Ok(found.clone());
            }
        }
        let (ex, is_load) = if let Some(&(buf, rank)) = self.rows.get(&v) {
            (self.load(k, "row", buf, &coords[coords.len() - rank..], &guard)?, true)
        } else if let Some(&buf) = self.bufs.get(&v) {
            let name = self.graph.value(v).name.clone().unwrap_or_else(|| "x".into());
            let dtype = self.dtype(v);
            let ex = if dtype.is_packed() {
                self.load_packed(k, dtype, &self.dims(v), buf, coords, &guard)?
            } else if let Some(ex) = self.load_every_other(k, &name, v, buf, coords, &guard)? {
                ex
            } else {
                self.load(k, &name, buf, coords, &guard)?
            };
            (ex, true)
        } else {
            let Some(n) = self.graph.producer_id(v) else { return Stop::no("an input without a buffer") };
            let node: &'a Node = self.graph.node(n);
            (self.node(k, node, v, coords, &guard)?, false)
        };
        // What is used again is named, so that it is computed once; loads are named already.
        let shared = self.uses.get(&v).copied().unwrap_or(0) > 1;
        let trivial = self.graph.producer(v).is_some_and(|n| n.op.is_source() || n.op.is_movement());
        let ex = if shared && !is_load && !trivial { k.let_("t", ex) } else { ex };
        self.top().values.insert(key, ex.clone());
        Ok(ex)
    }

    /// Where elements lie: one block along the innermost dim, or indices of their own.
    fn place(&mut self, k: &mut Kb<'_>, buf: Buf, coords: &[SymExpr], guard: &Guard, other: Option<Ex>) -> Result<(Mem, Reach), Stop> {
        let parts: Vec<(SymExpr, i64)> = coords.iter().map(|c| Indices::linear(c).ok_or(Stop::NeedScalar)).collect::<Result<_, _>>()?;
        let cond = self.cond(k, guard)?;
        let last = parts.len().saturating_sub(1);
        let reach = if self.width == 1 || parts.iter().all(|p| p.1 == 0) {
            Reach::One
        } else if parts.iter().enumerate().all(|(i, p)| p.1 == i64::from(i == last)) {
            Reach::Block
        } else {
            Reach::Scattered
        };
        let index = |(i, (base, step)): (usize, &(SymExpr, i64))| match reach {
            Reach::Scattered if *step != 0 => (self.lanes(k, base, *step), 1),
            Reach::Block if i == last => (self.ix.emit(k, base), self.width),
            _ => (self.ix.emit(k, base), 1),
        };
        let mem = Mem::new(buf, parts.iter().enumerate().map(index).collect());
        let mem = match cond {
            CondEx::Always => return Ok((mem, reach)),
            CondEx::When(c) => mem.when(c),
            CondEx::Mask(m) => mem.mask(m),
        };
        Ok((if let Some(o) = other { mem.or(o) } else { mem }, reach))
    }

    /// Where a block along the innermost dim, or one element, lies, with what its elements are where the guard switches them off.
    pub(crate) fn block(&mut self, k: &mut Kb<'_>, buf: Buf, coords: &[SymExpr], guard: &Guard, other: Ex) -> Result<Mem, Stop> {
        match self.place(k, buf, coords, guard, Some(other))? {
            (mem, Reach::One | Reach::Block) => Ok(mem),
            _ => Stop::no("elements that do not lie together"),
        }
    }

    /// Elements of a buffer at coordinates; those that the guard switches off are 0.
    pub(crate) fn load(&mut self, k: &mut Kb<'_>, name: &str, buf: Buf, coords: &[SymExpr], guard: &Guard) -> Result<Ex, Stop> {
        let zero = if buf.dtype.is_float() { Ex::float(0.0) } else { Ex::int(0) };
        let (mem, reach) = self.place(k, buf, coords, guard, Some(zero))?;
        Ok(if reach == Reach::Scattered { k.gather(name, mem) } else { k.load(name, mem) })
    }

    /// Every other element along the innermost dim: two vectors as they lie, and one shuffle. `None` for other coordinates.
    fn load_every_other(
        &mut self,
        k: &mut Kb<'_>,
        name: &str,
        v: ValueId,
        buf: Buf,
        coords: &[SymExpr],
        guard: &Guard,
    ) -> Result<Option<Ex>, Stop> {
        let (Some((last, lead)), w) = (coords.split_last(), i64::from(self.width)) else { return Ok(None) };
        let has_lane = |e: &SymExpr| Indices::linear(e).is_none_or(|(_, step)| step != 0);
        let (Some((base, 2)), false) = (Indices::linear(last), w == 1 || lead.iter().any(has_lane)) else { return Ok(None) };
        let end = self.dims(v).last().cloned().unwrap_or_else(|| 1.into());
        // What lies between is read as well: as far as the tensor goes, if not every lane is in it.
        let (lanes, scalars): (Guard, Guard) = guard.iter().cloned().partition(|(e, _)| has_lane(e));
        let mut halves = Vec::with_capacity(2);
        for from in [base.clone(), base + (w - 1)] {
            let at = from + SymExpr::sym(LANE);
            let inside = if lanes.is_empty() { scalars.clone() } else { self.guarded(&scalars, &at, &end) };
            let coords: Vec<SymExpr> = lead.iter().cloned().chain([at]).collect();
            halves.push(self.load(k, name, buf, &coords, &inside)?);
        }
        let list: Vec<u16> = (0..w).map(|i| if 2 * i < w { 2 * i } else { 2 * i + 1 } as u16).collect();
        let x = k.let_(name, halves[0].shufflev2(&halves[1], &list));
        if lanes.iter().all(|(e, to)| e == last && *to == end) {
            return Ok(Some(x));
        }
        let zero = if buf.dtype.is_float() { Ex::float(0.0) } else { Ex::int(0) }.typed(&Ty::Scalar(buf.dtype)).splat(self.width);
        Ok(Some(match self.cond(k, &lanes)? {
            CondEx::Always | CondEx::When(_) => x,
            CondEx::Mask(m) => k.let_(name, m.select(x, zero)),
        }))
    }

    /// An element of a dtype that shares bytes, as an 8-bit integer or f32; the buffer holds bytes.
    fn load_packed(
        &mut self,
        k: &mut Kb<'_>,
        dtype: DType,
        dims: &[SymExpr],
        buf: Buf,
        coords: &[SymExpr],
        guard: &Guard,
    ) -> Result<Ex, Stop> {
        if self.width > 1 {
            return Err(Stop::NeedScalar);
        }
        if !dtype.is_int() && dtype != DType::F4E2M1 {
            return Stop::no(format!("elements of {dtype} inside a kernel"));
        }
        let bits = i64::from(dtype.bits());
        let per_byte = SymExpr::from(8 / bits);
        let linear = coords.iter().zip(dims).fold(SymExpr::from(0), |l, (c, d)| &(&l * d) + c);
        let (byte, place) = self.ix.div_mod(&linear, &per_byte);
        let x = self.load(k, "byte", buf, &[byte], guard)?.cast(DType::I32);
        let shift = (self.ix.emit(k, &place) * bits).cast(DType::I32);
        let low = (x >> shift) & ((1i64 << bits) - 1);
        if dtype == DType::F4E2M1 {
            // Magnitudes by code: 0, 0.5, 1, 1.5, 2, 3, 4, 6. It is computed on as f32, to which every cast of it goes first.
            let code = k.let_("code", low);
            let size = k.let_("size", (code.clone() & 7).cast(DType::F32));
            let upper = size.lt(7.0).select(&size - 2.0, Ex::float(6.0));
            let size = k.let_("size", size.lt(5.0).select(&size * 0.5, upper));
            return Ok(k.let_("q", code.lt(8).select(&size, -&size)));
        }
        if dtype.is_signed_int() {
            let sign = 1i64 << (bits - 1);
            return Ok(k.let_("q", ((low ^ sign) - sign).cast(DType::I8)));
        }
        Ok(k.let_("q", low.cast(DType::U8)))
    }

    /// Stores a value at coordinates. A float of four bits is computed on as f32, which is exact.
    pub(crate) fn store(&mut self, k: &mut Kb<'_>, buf: Buf, coords: &[SymExpr], guard: &Guard, ex: &Ex) -> Result<(), Stop> {
        let ex = if buf.dtype == DType::F4E2M1 { &ex.cast(buf.dtype) } else { ex };
        let (mem, reach) = self.place(k, buf, coords, guard, None)?;
        match reach {
            Reach::One => k.store(mem, ex.clone()),
            Reach::Block => k.store(mem, self.widen(ex)),
            Reach::Scattered => k.scatter(mem, self.widen(ex)),
        }
        Ok(())
    }

    fn node(&mut self, k: &mut Kb<'_>, node: &'a Node, v: ValueId, coords: &[SymExpr], guard: &Guard) -> Result<Ex, Stop> {
        let dtype = self.dtype(v);
        match &node.op {
            Op::Const { value } => self.literal(k, value, coords),
            Op::Fill { value, .. } => Ok(scalar_ex(*value)),
            Op::Iota { axis, .. } => {
                let c = &coords[*axis as usize];
                let (base, step) = Indices::linear(c).ok_or(Stop::NeedScalar)?;
                let at = if step == 0 { self.ix.emit(k, &base) } else { self.lanes(k, &base, step) };
                Ok(at.cast(dtype))
            }
            Op::DimTensor { values, .. } => {
                let list: Vec<Ex> = values.iter().map(|e| k.dim_as(&self.syms.to_kernel(e), DType::I64).cast(dtype)).collect();
                self.pick(k, &list, coords)
            }
            Op::Reshape { .. } => {
                let (from, to) = (self.dims(v), self.dims(node.operands[0]));
                let inner = self.reshape(coords, &from, &to);
                self.value(k, node.operands[0], &inner, guard)
            }
            Op::Transpose { perm } => {
                let mut inner = vec![SymExpr::from(0); perm.len()];
                for (i, &p) in perm.iter().enumerate() {
                    inner[p as usize] = coords[i].clone();
                }
                self.value(k, node.operands[0], &inner, guard)
            }
            Op::Broadcast { .. } => {
                let inner = self.broadcast(node.operands[0], v, coords);
                self.value(k, node.operands[0], &inner, guard)
            }
            Op::Slice { starts, steps, .. } => {
                let inner: Vec<SymExpr> =
                    (coords.iter().zip(starts).zip(steps)).map(|((c, s), &step)| self.syms.to_kernel(s) + c.clone() * step).collect();
                self.value(k, node.operands[0], &inner, guard)
            }
            Op::Pad { mode, low, interior, .. } => self.pad(k, node, *mode, low, interior, coords, guard),
            Op::Concat { axis } => self.concat(k, node, *axis as usize, coords, guard),
            Op::Gather { axis } => {
                let axis = *axis as usize;
                let (x, i) = (node.operands[0], node.operands[1]);
                let index_rank = self.graph.ty(i).rank();
                let others = self.graph.ty(x).dims.iter().enumerate().filter(|(j, _)| *j != axis).map(|(_, d)| d);
                let at = &coords[axis..axis + index_rank];
                let asked = self.where_there_are(guard, at, others);
                let row = self.index(k, i, (x, axis), at, &asked)?;
                let mut inner = coords[..axis].to_vec();
                inner.push(row);
                inner.extend_from_slice(&coords[axis + index_rank..]);
                self.value(k, x, &inner, guard)
            }
            Op::GatherElements { axis } => {
                let (x, i) = (node.operands[0], node.operands[1]);
                let mut inner = coords.to_vec();
                inner[*axis as usize] = self.index(k, i, (x, *axis as usize), coords, guard)?;
                self.value(k, x, &inner, guard)
            }
            Op::GatherNd { batch } => {
                let (x, i) = (node.operands[0], node.operands[1]);
                let index_dims = self.dims(i);
                let lead = index_dims.len() - 1;
                let Some(count) = index_dims[lead].as_const() else { return Stop::no("gather_nd with a dynamic index length") };
                let mut inner = coords[..*batch as usize].to_vec();
                let behind = self.graph.ty(x).dims.iter().skip(*batch as usize + usize::try_from(count).unwrap_or(usize::MAX));
                let asked = self.where_there_are(guard, &coords[..lead], behind);
                for j in 0..count {
                    let mut at = coords[..lead].to_vec();
                    at.push(j.into());
                    let row = self.index(k, i, (x, *batch as usize + j as usize), &at, &asked)?;
                    inner.push(row);
                }
                inner.extend_from_slice(&coords[lead..]);
                self.value(k, x, &inner, guard)
            }
            op if op.is_elementwise() => {
                let mut args = Vec::with_capacity(node.operands.len());
                for &o in &node.operands {
                    let inner = self.broadcast(o, v, coords);
                    args.push(self.value(k, o, &inner, guard)?);
                }
                if args.iter().any(|a| matches!(a.ty(), Some(Ty::Vec(..)))) {
                    args = args.iter().map(|a| self.widen(a)).collect();
                }
                if let (true, [x]) = (self.lifted.contains(&v), &args[..]) {
                    return Ok(lifted::exponential(k, x));
                }
                let from = self.dtype(node.operands[node.operands.len() - 1]);
                elementwise::emit(k, op, from, dtype, &args)
            }
            Op::RandomUniform { low, high, seed, .. } => {
                let mut position = SymExpr::from(0);
                for (c, d) in coords.iter().zip(self.dims(v)) {
                    position = &(&position * &d) + c;
                }
                let (base, step) = Indices::linear(&position).ok_or(Stop::NeedScalar)?;
                let at = if step == 0 { self.ix.emit(k, &base) } else { self.lanes(k, &base, step) };
                Ok(super::random::uniform(k, &at, (*low, *high), *seed))
            }
            op => Stop::no(format!("`{}` inside this kind of kernel", op.mnemonic())),
        }
    }

    /// Whether neighbors along the lane are neighbors in memory wherever this value is loaded from.
    pub(crate) fn is_contiguous(&self, v: ValueId, coords: &[SymExpr]) -> bool {
        if self.bufs.contains_key(&v) {
            let last = coords.len().saturating_sub(1);
            return coords.iter().enumerate().all(|(i, c)| match Indices::linear(c) {
                Some((_, step)) => step == 0 || (step == 1 && i == last),
                None => false,
            });
        }
        if let Some((x, inner)) = self.moved(v, coords) {
            return self.is_contiguous(x, &inner);
        }
        let Some(node) = self.graph.producer(v) else { return false };
        match &node.op {
            Op::Broadcast { .. } => self.is_contiguous(node.operands[0], &self.broadcast(node.operands[0], v, coords)),
            op if op.is_source() => true,
            op if op.is_elementwise() => node.operands.iter().all(|&o| self.is_contiguous(o, &self.broadcast(o, v, coords))),
            _ => false,
        }
    }
    /// Where an element of a value that is only moved lies; `None` for what is computed.
    pub(crate) fn resolve(&self, v: ValueId, coords: &[SymExpr]) -> Option<(Buf, Vec<SymExpr>)> {
        if let Some(&buf) = self.bufs.get(&v) {
            return Some((buf, coords.to_vec()));
        }
        let (x, inner) = self.moved(v, coords)?;
        self.resolve(x, &inner)
    }
    /// What a value that only moves another one's elements takes at coordinates.
    pub(crate) fn moved(&self, v: ValueId, coords: &[SymExpr]) -> Option<(ValueId, Vec<SymExpr>)> {
        let node = self.graph.producer(v)?;
        let x = *node.operands.first()?;
        let inner = match &node.op {
            Op::Reshape { .. } => self.reshape(coords, &self.dims(v), &self.dims(x)),
            Op::Transpose { perm } => {
                let mut inner = vec![SymExpr::from(0); perm.len()];
                for (i, &p) in perm.iter().enumerate() {
                    inner[p as usize] = coords[i].clone();
                }
                inner
            }
            Op::Slice { starts, steps, .. } => {
                coords.iter().zip(starts).zip(steps).map(|((c, s), &step)| self.syms.to_kernel(s) + c.clone() * step).collect()
            }
            _ => return None,
        };
        Some((x, inner))
    }
    /// Whether the elements lie inside memory wherever this value is loaded from, also those beyond the dims of the value itself.
    pub(crate) fn reaches(&self, v: ValueId, coords: &[SymExpr]) -> bool {
        if self.bufs.contains_key(&v) {
            return coords.iter().zip(self.dims(v)).all(|(c, d)| self.ix.in_range(c, &d));
        }
        self.moved(v, coords).is_some_and(|(x, inner)| self.reaches(x, &inner))
    }
    /// Coordinates in every value that follows `root` without loss, given those of `root`, with the conditions under which they exist.
    pub(crate) fn forward(&self, root: ValueId, coords: &[SymExpr], guard: &Guard) -> HashMap<ValueId, (Vec<SymExpr>, Guard)> {
        let mut at: HashMap<ValueId, (Vec<SymExpr>, Guard)> = HashMap::new();
        at.insert(root, (coords.to_vec(), guard.clone()));
        for n in self.graph.order() {
            let node = self.graph.node(n);
            let Some(&result) = node.results.first() else { continue };
            if at.contains_key(&result) {
                continue;
            }
            let known = node.operands.iter().find_map(|o| at.get(o).map(|a| (*o, a.clone())));
            let Some((o, (c, g))) = known else { continue };
            let (from, to) = (self.dims(o), self.dims(result));
            let next = match &node.op {
                Op::Reshape { .. } => Some((self.reshape(&c, &from, &to), g)),
                Op::Transpose { perm } => Some((perm.iter().map(|&p| c[p as usize].clone()).collect(), g)),
                Op::Slice { starts, steps, .. } if steps.iter().all(|&s| s == 1) => {
                    let mut guard = g;
                    let mut out = Vec::with_capacity(c.len());
                    for ((c, s), d) in c.iter().zip(starts).zip(&to) {
                        let shifted = c - &self.syms.to_kernel(s);
                        guard = self.guarded(&guard, &shifted, d);
                        out.push(shifted);
                    }
                    Some((out, guard))
                }
                op if op.is_elementwise() && from == to => Some((c, g)),
                op if op.is_elementwise()
                    && from.len() < to.len()
                    && to.ends_with(&from)
                    && to[..to.len() - from.len()].iter().all(|d| d.is(1)) =>
                {
                    let mut out = vec![SymExpr::from(0); to.len() - from.len()];
                    out.extend(c);
                    Some((out, g))
                }
                _ => None,
            };
            if let Some(next) = next {
                at.insert(result, next);
            }
        }
        at
    }

    /// Coordinates of an operand that broadcasts to a result.
    pub(crate) fn broadcast(&self, operand: ValueId, result: ValueId, coords: &[SymExpr]) -> Vec<SymExpr> {
        let (from, to) = (&self.graph.ty(operand).dims, &self.graph.ty(result).dims);
        let skip = to.len().saturating_sub(from.len());
        let tail = to[skip..].iter().zip(&coords[skip.min(coords.len())..]);
        from.iter().zip(tail).map(|(d, (t, c))| if d.is(1) && !t.is(1) { 0.into() } else { c.clone() }).collect()
    }

    /// Coordinates in `to` of the element at `coords` in `from`, both row-major over the same elements.
    pub(crate) fn reshape(&self, coords: &[SymExpr], from: &[SymExpr], to: &[SymExpr]) -> Vec<SymExpr> {
        // Runs of equal dims (but for ones) at either end map one to one; only the middle is linearized.
        let f: Vec<usize> = (0..from.len()).filter(|&i| !from[i].is(1)).collect();
        let t: Vec<usize> = (0..to.len()).filter(|&i| !to[i].is(1)).collect();
        let mut out = vec![SymExpr::from(0); to.len()];
        let mut head = 0;
        while head < f.len() && head < t.len() && from[f[head]] == to[t[head]] {
            out[t[head]] = coords[f[head]].clone();
            head += 1;
        }
        let mut tail = 0;
        while tail < f.len() - head && tail < t.len() - head && from[f[f.len() - 1 - tail]] == to[t[t.len() - 1 - tail]] {
            out[t[t.len() - 1 - tail]] = coords[f[f.len() - 1 - tail]].clone();
            tail += 1;
        }
        let (f, t) = (&f[head..f.len() - tail], &t[head..t.len() - tail]);
        let linear = f.iter().fold(SymExpr::from(0), |l, &i| &(&l * &from[i]) + &coords[i]);
        let dims: Vec<SymExpr> = t.iter().map(|&i| to[i].clone()).collect();
        for (&i, c) in t.iter().zip(self.ix.delinearize(&linear, &dims)) {
            out[i] = c;
        }
        out
    }

    /// What an index is looked up under. Where conditions on lanes do not matter for it, as no lane moves it, none of them may hold: then not of a
    /// table that has no elements, by one of these other dims.
    fn where_there_are<'d>(&self, guard: &Guard, at: &[SymExpr], dims: impl Iterator<Item = &'d SymExpr>) -> Guard {
        if relevant(guard, at).len() == guard.len() {
            return guard.clone();
        }
        let may_be_empty = dims.filter(|d| self.graph.bounds(d).0 < 1);
        may_be_empty.fold(guard.clone(), |g, d| self.guarded(&g, &0.into(), &self.syms.to_kernel(d)))
    }

    /// An index from data, the element `at` of `indices`: checked against its table, wrapped if negative, and named as a coordinate; once
    /// for all tables of that many rows.
    fn index(
        &mut self,
        k: &mut Kb<'_>,
        indices: ValueId,
        (table, axis): (ValueId, usize),
        at: &[SymExpr],
        guard: &Guard,
    ) -> Result<SymExpr, Stop> {
        // A table without rows has none to look up, which the plan checks; of elements that a guard leaves out the row is 0 all the same.
        let rows = &self.graph.ty(table).dims[axis];
        let may_be_empty = self.graph.bounds(rows).0 < 1;
        let end = &if may_be_empty { self.syms.to_kernel(rows).maximum(&1.into()) } else { self.syms.to_kernel(rows) };
        let index = self.value(k, indices, at, guard)?;
        if matches!(index.ty(), Some(Ty::Vec(..))) {
            return Err(Stop::NeedScalar);
        }
        let key = ((indices, at.to_vec(), relevant(guard, at)), end.clone());
        if let Some(found) = self.scopes.iter().rev().find_map(|s| s.rows.get(&key)) {
            return Ok(found.clone());
        }
        let mut position = SymExpr::from(0);
        for (c, d) in at.iter().zip(&self.dims(indices)) {
            // Where one index is for all lanes it is reported at the first of them.
            let (c, _) = Indices::linear(c).ok_or(Stop::NeedScalar)?;
            position = &(&position * d) + &c;
        }
        let position = self.ix.emit(k, &position);
        let row = match (self.ranges[indices], end.as_const()) {
            (Some((lo, hi)), Some(end)) if lo >= 0 && hi < end => k.let_("ic", index.cast(k.index())),
            _ => {
                let n = k.dim_as(end, DType::I64);
                row_of(k, &index, n, &position)
            }
        };
        let row = self.ix.bind("g", row, end.clone());
        self.top().rows.insert(key, row.clone());
        Ok(row)
    }

    /// One of a few values by the last coordinate.
    fn pick(&mut self, k: &mut Kb<'_>, list: &[Ex], coords: &[SymExpr]) -> Result<Ex, Stop> {
        let (Some(c), Some(first)) = (coords.last(), list.first()) else {
            return list.first().cloned().ok_or(Stop::No(Unschedulable::new("an element of an empty constant")));
        };
        if let Some(e) = c.as_const().and_then(|i| list.get(usize::try_from(i).ok()?)) {
            return Ok(e.clone());
        }
        if list.len() > 64 {
            return Stop::no("a constant of more than 64 elements inside a kernel");
        }
        let (base, step) = Indices::linear(c).ok_or(Stop::NeedScalar)?;
        let vector = step != 0 && self.width > 1;
        let at = if vector { self.lanes(k, &base, step) } else { self.ix.emit(k, &base) };
        let at = k.let_("at", at);
        let mut out = if vector { first.splat(self.width) } else { first.clone() };
        for (i, e) in list.iter().enumerate().skip(1) {
            let e = if vector { e.splat(self.width) } else { e.clone() };
            out = at.equals(i as i64).select(e, out);
        }
        Ok(out)
    }

    fn literal(&mut self, k: &mut Kb<'_>, lit: &Literal, coords: &[SymExpr]) -> Result<Ex, Stop> {
        if let Some(s) = lit.splat() {
            return Ok(scalar_ex(s));
        }
        let list: Vec<Ex> = lit.elems().map(scalar_ex).collect();
        let linear = lit.dims.iter().zip(coords).fold(SymExpr::from(0), |l, (&d, c)| &(&l * &SymExpr::from(d)) + c);
        self.pick(k, &list, &[linear])
    }
}

/// The conditions that matter for coordinates: without the lane in them the element is touched whatever the lane.
fn relevant(guard: &Guard, coords: &[SymExpr]) -> Guard {
    let has_lane = |e: &SymExpr| {
        let mut set = std::collections::BTreeSet::new();
        e.collect_symbols(&mut set);
        set.iter().any(|s| &**s == LANE)
    };
    if coords.iter().any(has_lane) {
        return guard.clone();
    }
    guard.iter().filter(|(e, _)| !has_lane(e)).cloned().collect()
}

/// A number as a literal of its dtype.
pub(crate) fn scalar_ex(s: Scalar) -> Ex {
    if s.dtype.is_float() {
        Ex::lit(s.dtype, s.to_f64())
    } else {
        Ex::int(numerics::int_from_bits(s.dtype, s.bits)).typed(&Ty::Scalar(s.dtype))
    }
}
