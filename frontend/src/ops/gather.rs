// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gathers, scatters and indices that depend on data.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, HostOp, Op, ReduceOp, ScatterOp, SymSource, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::control::loop_of;
use super::{Entry, op};
use crate::cx::{Cx, HostCall, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("Compress", 9, 2, 2, compress),
    op("Gather", 1, 2, 2, gather),
    op("GatherElements", 11, 2, 2, gather_elements),
    op("GatherND", 11, 2, 2, gather_nd),
    op("NonZero", 9, 1, 1, non_zero),
    op("OneHot", 9, 3, 3, one_hot),
    op("ReverseSequence", 10, 2, 2, reverse_sequence),
    op("Scatter", 9, 3, 3, scatter_elements),
    op("ScatterElements", 11, 3, 3, scatter_elements),
    op("ScatterND", 11, 3, 3, scatter_nd),
    op("TensorScatter", 24, 2, 3, tensor_scatter),
    op("Unique", 11, 1, 1, unique),
];

fn gather(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(x, 0)?;
    one(cx.gather(x, i, axis)?)
}

fn gather_elements(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(x, 0)? as u32;
    one(cx.add(Op::GatherElements { axis }, &[x, i])?)
}

pub fn gather_nd(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i) = (cx.input(0)?, cx.input(1)?);
    let batch = cx.int("batch_dims", 0)?;
    let batch = u32::try_from(batch).map_err(|_| Fault::attr(format!("`batch_dims` is {batch}, expected 0 or more")))?;
    one(cx.add(Op::GatherNd { batch }, &[x, i])?)
}

/// The reduction came with opset 16, `min` and `max` with opset 18.
fn reduction(cx: &Cx<'_, '_>) -> Res<ScatterOp> {
    Ok(match cx.text("reduction", "none")? {
        "none" => ScatterOp::Set,
        "add" => ScatterOp::Add,
        "mul" => ScatterOp::Mul,
        "min" => ScatterOp::Min,
        "max" => ScatterOp::Max,
        other => return Err(Fault::attr(format!("`reduction` is {other:?}, expected none, add, mul, min or max"))),
    })
}

fn scatter_elements(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i, u) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (axis, op) = (cx.axis(x, 0)? as u32, reduction(cx)?);
    one(cx.add(Op::ScatterElements { axis, op }, &[x, i, u])?)
}

fn scatter_nd(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i, u) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let op = reduction(cx)?;
    one(cx.add(Op::ScatterNd { op }, &[x, i, u])?)
}

/// Indices of non-zero elements, as many as the data has.
fn non_zero_of(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
    let count = cx.fresh("count", SymSource::Result);
    let count = count.as_sym().cloned().ok_or_else(|| Fault::form("the number of non-zero elements cannot be given"))?;
    cx.add(Op::NonZero { count }, &[x])
}

fn non_zero(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    // A scalar counts as one element of rank 1, as in numpy before 2.1; ONNX gives it no rows.
    one(non_zero_of(cx, x)?)
}

fn compress(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (mut x, condition) = (cx.input(0)?, cx.input(1)?);
    cx.want_rank(condition, 1..=1)?;
    let axis = match cx.int_opt("axis")? {
        Some(a) => cx.axis_of(a, cx.rank(x))?,
        None => {
            let n = product(&cx.dims(x));
            x = cx.reshape(x, vec![n])?;
            0
        }
    };
    let hits = non_zero_of(cx, condition)?;
    let count = cx.dim(hits, 1)?;
    let hits = cx.reshape(hits, vec![count])?;
    one(cx.gather(x, hits, axis)?)
}

/// Indices count from the end when negative; those outside of the depth give a row of the off value.
fn one_hot(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (i, depth, values) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let rank = cx.rank(i) + 1;
    let axis = cx.axis_of(cx.int("axis", -1)?, rank)?;
    let depth = {
        let d = if cx.dtype(depth).is_int() { depth } else { cx.cast(depth, DType::I64)? };
        let d = cx.as_scalar(d)?;
        cx.expr(d, "depth")?
    };
    let i = cx.cast(i, DType::I64)?;
    let n = cx.dim_value(depth.clone())?;
    let wrapped = cx.bin(BinaryOp::Add, i, n)?;
    let negative = cx.bin_c(BinaryOp::Lt, i, 0.0)?;
    let i = cx.select(negative, wrapped, i)?;
    let i = cx.unsqueeze(i, &[axis])?;
    let mut dims = cx.dims(i);
    dims[axis] = depth;
    let at = cx.iota(DType::I64, axis, dims)?;
    let hit = cx.bin(BinaryOp::Eq, at, i)?;
    let pick = |cx: &mut Cx<'_, '_>, k: i64| {
        let v = cx.slice_axis(values, 0, k.into(), 1.into(), 1)?;
        cx.as_scalar(v)
    };
    let (off, on) = (pick(cx, 0)?, pick(cx, 1)?);
    one(cx.select(hit, on, off)?)
}

/// Row `t` of a sequence of length `n` is taken from `t < n ? n - 1 - t : t`.
fn reverse_sequence(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, lens) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let time = cx.axis_of(cx.int("time_axis", 0)?, rank)?;
    let batch = cx.axis_of(cx.int("batch_axis", 1)?, rank)?;
    if time == batch {
        return Err(Fault::attr("`time_axis` and `batch_axis` are the same"));
    }
    let dims = cx.dims(x);
    let mut along = vec![SymExpr::from(1); rank];
    along[batch] = dims[batch].clone();
    let lens = cx.cast(lens, DType::I64)?;
    let n = cx.reshape(lens, along)?;
    let t = cx.iota(DType::I64, time, dims.clone())?;
    let back = cx.bin(BinaryOp::Sub, n, t)?;
    let back = cx.bin_c(BinaryOp::Sub, back, 1.0)?;
    let inside = cx.bin(BinaryOp::Lt, t, n)?;
    let from = cx.select(inside, back, t)?;
    one(cx.add(Op::GatherElements { axis: time as u32 }, &[x, from])?)
}

/// Writes `update` into a cache along `axis`, in each batch from its own position; `circular` wraps around the end.
fn tensor_scatter(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (past, update, write) = (cx.input(0)?, cx.input(1)?, cx.opt(2)?);
    let rank = cx.want_rank(past, 2..=usize::MAX)?;
    let axis = cx.axis_of(cx.int("axis", -2)?, rank)?;
    let circular = match cx.text("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Fault::attr(format!("`mode` is {other:?}, expected linear or circular"))),
    };
    if axis == 0 {
        return Err(Fault::attr("`axis` is the batch"));
    }
    let dims = cx.dims(update);
    let mut at = cx.iota(DType::I64, axis, dims)?;
    if let Some(w) = write {
        let mut along = vec![SymExpr::from(1); rank];
        along[0] = cx.dim(past, 0)?;
        let w = cx.cast(w, DType::I64)?;
        let w = cx.reshape(w, along)?;
        at = cx.bin(BinaryOp::Add, at, w)?;
    }
    if circular {
        let size = cx.dim(past, axis)?;
        let n = cx.dim_value(size)?;
        at = cx.bin(BinaryOp::Mod, at, n)?;
    }
    one(cx.add(Op::ScatterElements { axis: axis as u32, op: ScatterOp::Set }, &[past, at, update])?)
}

/// Elements (or slices along an axis) that differ, sorted or in order of appearance, with where each comes first, where each input went, and how often it comes.
fn unique(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axis = match cx.int_opt("axis")? {
        Some(a) => Some(cx.axis_of(a, cx.rank(x))?),
        None => None,
    };
    many(unique_of(cx, x, axis, cx.flag("sorted", true)?)?)
}

/// What differs, where it comes first, where each input went and how often each comes.
pub fn unique_of(cx: &mut Cx<'_, '_>, x: ValueId, axis: Option<usize>, sorted: bool) -> Res<[ValueId; 4]> {
    if cx.dtype(x) == DType::Str {
        let rank = cx.host1(HostCall::new(HostOp::StringRank, &[x], DType::I64, cx.dims(x)))?;
        let [_, at, inverse, counts] = unique_of(cx, rank, axis, sorted)?;
        let flat = if axis.is_none() { cx.reshape(x, vec![cx.ty(x).elems()])? } else { x };
        return Ok([cx.gather(flat, at, axis.unwrap_or(0))?, at, inverse, counts]);
    }
    // What is compared: elements, or slices along an axis as rows of a matrix.
    let (items, order) = match axis {
        Some(a) if cx.rank(x) > 1 => {
            let front: Vec<usize> = [a].into_iter().chain((0..cx.rank(x)).filter(|i| *i != a)).collect();
            let moved = cx.transpose(x, &front)?;
            let rest = product(&cx.dims(moved)[1..]);
            let rows = cx.reshape(moved, vec![cx.dim(x, a)?, rest])?;
            (rows, row_order(cx, rows)?)
        }
        _ => {
            let flat = cx.reshape(x, vec![cx.ty(x).elems()])?;
            // Equal elements keep their order, so that the first of each run is the one that comes first.
            let k = cx.dim(flat, 0)?;
            (flat, cx.add_all(Op::TopK { axis: 0, k, largest: false }, &[flat])?[1])
        }
    };
    let n = cx.dim(items, 0)?;
    let values = cx.gather(items, order, 0)?;
    let before = cx.slice_axis(values, 0, 0.into(), n.clone() - 1, 1)?;
    let after = cx.slice_axis(values, 0, 1.into(), n.clone() - 1, 1)?;
    let mut changes = cx.bin(BinaryOp::Ne, before, after)?;
    if cx.rank(items) == 2 {
        changes = cx.reduce(ReduceOp::Any, changes, &[1], false)?;
    }
    let yes = cx.fill(DType::Bool, 1.0, vec![1.into()])?;
    let first = cx.concat(&[yes, changes], 0)?;
    let starts = non_zero_of(cx, first)?;
    let count = cx.dim(starts, 1)?;
    let starts = cx.reshape(starts, vec![count.clone()])?;
    let mut at = cx.gather(order, starts, 0)?;
    // Number of the run that each sorted item lies in, brought back to the places of the input.
    let runs = cx.cast(first, DType::I64)?;
    let runs = cx.add(Op::Scan { op: ReduceOp::Sum, axis: 0, exclusive: false, reverse: false }, &[runs])?;
    let mut runs = cx.bin_c(BinaryOp::Sub, runs, 1.0)?;
    if !sorted {
        // By first appearance: runs are renumbered by where they begin.
        let by = cx.add_all(Op::TopK { axis: 0, k: count.clone(), largest: false }, &[at])?;
        let (placed, rank) = (by[0], by[1]);
        at = placed;
        let ids = cx.iota(DType::I64, 0, vec![count.clone()])?;
        let none = cx.fill(DType::I64, 0.0, vec![count.clone()])?;
        let renamed = cx.add(Op::ScatterElements { axis: 0, op: ScatterOp::Set }, &[none, rank, ids])?;
        runs = cx.gather(renamed, runs, 0)?;
    }
    let y = match axis {
        Some(a) => cx.gather(x, at, a)?,
        None => cx.gather(items, at, 0)?,
    };
    let zeros = cx.fill(DType::I64, 0.0, vec![n.clone()])?;
    let inverse = cx.add(Op::ScatterElements { axis: 0, op: ScatterOp::Set }, &[zeros, order, runs])?;
    let (none, ones) = (cx.fill(DType::I64, 0.0, vec![count])?, cx.fill(DType::I64, 1.0, vec![n])?);
    let counts = cx.add(Op::ScatterElements { axis: 0, op: ScatterOp::Add }, &[none, runs, ones])?;
    Ok([y, at, inverse, counts])
}

/// Order of the rows of a matrix by their first element that differs; equal rows keep their order. Columns are sorted from the last to the
/// first, each without disturbing what those after it made of the rows that it does not tell apart.
fn row_order(cx: &mut Cx<'_, '_>, rows: ValueId) -> Res<ValueId> {
    let (n, m) = (cx.dim(rows, 0)?, cx.dim(rows, 1)?);
    let start = cx.iota(DType::I64, 0, vec![n.clone()])?;
    let last = m.clone() - 1;
    let out = loop_of(cx, &m, &[start], &[rows], |cx, i, states, xs| {
        let last = cx.dim_value(last)?;
        let column = cx.bin(BinaryOp::Sub, last, i)?;
        let column = cx.gather(xs[0], column, 1)?;
        let column = cx.gather(column, states[0], 0)?;
        let by = cx.add_all(Op::TopK { axis: 0, k: n, largest: false }, &[column])?;
        Ok((vec![cx.gather(states[0], by[1], 0)?], Vec::new()))
    })?;
    Ok(out[0])
}
