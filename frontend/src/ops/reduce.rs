// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reductions, softmax and its kin, prefix sums, the largest elements.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::ArgOp;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};
use portwright_ir::sym::product;

use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("ArgMax", 1, 1, 1, arg_max),
    op("ArgMin", 1, 1, 1, arg_min),
    op("CumProd", 26, 2, 2, cum_prod),
    op("CumSum", 11, 2, 2, cum_sum),
    op("Hardmax", 1, 1, 1, hardmax),
    op("LogSoftmax", 1, 1, 1, log_softmax),
    op("ReduceL1", 1, 1, 2, reduce_l1),
    op("ReduceL2", 1, 1, 2, reduce_l2),
    op("ReduceLogSum", 1, 1, 2, reduce_log_sum),
    op("ReduceLogSumExp", 1, 1, 2, reduce_log_sum_exp),
    op("ReduceMax", 1, 1, 2, reduce_max),
    op("ReduceMean", 1, 1, 2, reduce_mean),
    op("ReduceMin", 1, 1, 2, reduce_min),
    op("ReduceProd", 1, 1, 2, reduce_prod),
    op("ReduceSum", 1, 1, 2, reduce_sum),
    op("ReduceSumSquare", 1, 1, 2, reduce_sum_square),
    op("Softmax", 1, 1, 1, softmax),
    op("TopK", 1, 1, 2, top_k),
];

/// Axes of a reduction: an attribute before opset 18 (13 for sums), then an input; none means all, or none at all when
/// `noop_with_empty_axes` says so.
fn reduction(cx: &mut Cx<'_, '_>) -> Res<(ValueId, Vec<u32>, bool)> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let axes = match cx.opt(1)? {
        Some(a) => cx.const_ints(a, "the axes")?,
        None => cx.ints("axes")?.unwrap_or_default(),
    };
    let axes = match axes.as_slice() {
        [] if cx.flag("noop_with_empty_axes", false)? => Vec::new(),
        [] => (0..rank as u32).collect(),
        list => cx.axes_of(list, rank)?,
    };
    Ok((x, axes, cx.flag("keepdims", true)?))
}

fn plain(cx: &mut Cx<'_, '_>, op: ReduceOp) -> Res<Vec<Slot>> {
    let (x, axes, keep) = reduction(cx)?;
    one(cx.reduce(op, x, &axes, keep)?)
}

fn reduce_sum(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    plain(cx, ReduceOp::Sum)
}
fn reduce_mean(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    plain(cx, ReduceOp::Mean)
}
fn reduce_prod(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    plain(cx, ReduceOp::Prod)
}
fn reduce_max(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    plain(cx, if cx.dtype(x) == DType::Bool { ReduceOp::Any } else { ReduceOp::Max })
}
fn reduce_min(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    plain(cx, if cx.dtype(x) == DType::Bool { ReduceOp::All } else { ReduceOp::Min })
}
fn reduce_l1(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, axes, keep) = reduction(cx)?;
    one(cx.wide(x, |cx, x| {
        let a = cx.un(UnaryOp::Abs, x)?;
        cx.reduce(ReduceOp::Sum, a, &axes, keep)
    })?)
}
fn sum_square(cx: &mut Cx<'_, '_>, x: ValueId, axes: &[u32], keep: bool) -> Res<ValueId> {
    let s = cx.bin(BinaryOp::Mul, x, x)?;
    cx.reduce(ReduceOp::Sum, s, axes, keep)
}
fn reduce_sum_square(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, axes, keep) = reduction(cx)?;
    one(cx.wide(x, |cx, x| sum_square(cx, x, &axes, keep))?)
}

/// Functions with roots and logarithms are computed in real numbers, whatever the dtype.
fn in_reals(cx: &mut Cx<'_, '_>, x: ValueId, f: impl FnOnce(&mut Cx<'_, '_>, ValueId) -> Res<ValueId>) -> Res<ValueId> {
    let dtype = cx.dtype(x);
    if dtype.is_float() {
        return cx.wide(x, |cx, x| f(cx, x));
    }
    let x = cx.cast(x, DType::F64)?;
    let y = f(cx, x)?;
    cx.cast(y, dtype)
}

fn reduce_l2(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, axes, keep) = reduction(cx)?;
    one(in_reals(cx, x, |cx, x| {
        let s = sum_square(cx, x, &axes, keep)?;
        cx.un(UnaryOp::Sqrt, s)
    })?)
}
fn reduce_log_sum(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, axes, keep) = reduction(cx)?;
    one(in_reals(cx, x, |cx, x| {
        let s = cx.reduce(ReduceOp::Sum, x, &axes, keep)?;
        cx.un(UnaryOp::Log, s)
    })?)
}

/// Shifted by the largest element, so that large inputs do not overflow; an infinite one is left to the exponential.
fn reduce_log_sum_exp(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, axes, keep) = reduction(cx)?;
    one(in_reals(cx, x, |cx, x| {
        let m = cx.reduce(ReduceOp::Max, x, &axes, true)?;
        let inf = cx.un(UnaryOp::IsInf, m)?;
        let zero = cx.scalar(cx.dtype(x), 0.0)?;
        let m = cx.select(inf, zero, m)?;
        let e = cx.bin(BinaryOp::Sub, x, m)?;
        let e = cx.un(UnaryOp::Exp, e)?;
        let s = cx.reduce(ReduceOp::Sum, e, &axes, keep)?;
        let l = cx.un(UnaryOp::Log, s)?;
        let dims = cx.dims(l);
        let m = cx.reshape(m, dims)?;
        cx.bin(BinaryOp::Add, l, m)
    })?)
}

fn arg(cx: &mut Cx<'_, '_>, op: ArgOp) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axis = cx.axis(x, 0)? as u32;
    let (keep, last) = (cx.flag("keepdims", true)?, cx.flag("select_last_index", false)?);
    one(cx.add(Op::ArgReduce { op, axis, keep, last }, &[x])?)
}
fn arg_max(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    arg(cx, ArgOp::Max)
}
fn arg_min(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    arg(cx, ArgOp::Min)
}

/// Before opset 13 the operator works on the matrix that the input becomes when dims `axis..` are joined.
fn along(cx: &mut Cx<'_, '_>, f: impl FnOnce(&mut Cx<'_, '_>, ValueId, usize) -> Res<ValueId>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    if cx.version >= 13 {
        let axis = cx.axis(x, -1)?;
        return one(f(cx, x, axis)?);
    }
    let axis = cx.axis(x, 1)?;
    if axis + 1 == rank {
        return one(f(cx, x, axis)?);
    }
    let dims = cx.dims(x);
    let (outer, inner) = dims.split_at(axis);
    let m = cx.reshape(x, vec![product(outer), product(inner)])?;
    let y = f(cx, m, 1)?;
    one(cx.reshape(y, dims)?)
}

fn softmax(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    along(cx, |cx, x, axis| cx.add(Op::Softmax { axis: axis as u32 }, &[x]))
}
fn log_softmax(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    along(cx, |cx, x, axis| cx.add(Op::LogSoftmax { axis: axis as u32 }, &[x]))
}
fn hardmax(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    along(cx, |cx, x, axis| {
        let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: axis as u32, keep: true, last: false }, &[x])?;
        let dims = cx.dims(x);
        let index = cx.iota(DType::I64, axis, dims)?;
        let hit = cx.bin(BinaryOp::Eq, index, at)?;
        cx.cast(hit, cx.dtype(x))
    })
}

fn cumulative(cx: &mut Cx<'_, '_>, op: ReduceOp) -> Res<Vec<Slot>> {
    let (x, axis) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.const_number(axis, "the axis")? as i64;
    let axis = cx.axis_of(axis, cx.rank(x))? as u32;
    let (exclusive, reverse) = (cx.flag("exclusive", false)?, cx.flag("reverse", false)?);
    one(cx.add(Op::Scan { op, axis, exclusive, reverse }, &[x])?)
}
fn cum_sum(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    cumulative(cx, ReduceOp::Sum)
}
fn cum_prod(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    cumulative(cx, ReduceOp::Prod)
}

/// `k` is an attribute before opset 10. An order is given even where `sorted` does not ask for one.
fn top_k(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axis = cx.axis(x, -1)?;
    let k = match cx.opt(1)? {
        Some(k) => cx.expr(k, "k")?,
        None => cx.need_int("k")?.into(),
    };
    if k.as_const().is_some_and(|k| k < 0) {
        return Err(Fault::attr(format!("k is {k}, expected 0 or more")));
    }
    let largest = cx.flag("largest", true)?;
    many(cx.add_all(Op::TopK { axis: axis as u32, k, largest }, &[x])?)
}
