// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of object detection.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, SymSource, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::control::loop_of;
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("MaxRoiPool", 1, 2, 2, max_roi_pool), op("NonMaxSuppression", 10, 2, 5, non_max_suppression)];

/// The largest elements of the parts of regions `rois: [R,5]` (image, left, top, right, bottom) of `[N,C,H,W]`, `[R,C,rows,columns]`; a part
/// without elements gives 0. Corners are rounded to the nearest position, halves away from 0.
fn max_roi_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let (x, rois) = (cx.input(0)?, cx.input(1)?);
    cx.want_rank(x, 4..=4)?;
    cx.want_rank(rois, 2..=2)?;
    let &[rows, columns] = cx.ints("pooled_shape")?.unwrap_or_default().as_slice() else {
        return Err(Fault::attr("`pooled_shape` does not have two numbers"));
    };
    if !(1..=1 << 16).contains(&rows) || !(1..=1 << 16).contains(&columns) {
        return Err(Fault::attr(format!("`pooled_shape` is [{rows}, {columns}], expected positive numbers")));
    }
    let scale = cx.float("spatial_scale", 1.0)?;
    let dtype = cx.dtype(x);
    let work = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let rois = cx.cast(rois, work)?;
    let (d, count) = (cx.dims(x), cx.dim(rois, 0)?);
    let column = |cx: &mut Cx<'_, '_>, i: i64| -> Res<ValueId> {
        let v = cx.slice_axis(rois, 1, i.into(), 1.into(), 1)?;
        cx.reshape(v, vec![count.clone(), 1.into(), 1.into()])
    };
    // Which of `size` elements lie in each of `parts` parts between two corners: bool [R,parts,size].
    let inside = |cx: &mut Cx<'_, '_>, low: i64, high: i64, parts: i64, size: &SymExpr| -> Res<ValueId> {
        let corner = |cx: &mut Cx<'_, '_>, i: i64| -> Res<ValueId> {
            let v = column(cx, i)?;
            let v = cx.bin_c(Mul, v, scale)?;
            let (size, sign) = (cx.un(UnaryOp::Abs, v)?, cx.un(UnaryOp::Sign, v)?);
            let near = cx.bin_c(Add, size, 0.5)?;
            let near = cx.un(UnaryOp::Floor, near)?;
            cx.bin(Mul, sign, near)
        };
        let (low, high) = (corner(cx, low)?, corner(cx, high)?);
        let span = cx.bin(Sub, high, low)?;
        let span = cx.bin_c(Add, span, 1.0)?;
        let span = cx.bin_c(Max, span, 1.0)?;
        let part = cx.bin_c(Div, span, parts as f64)?;
        let i = cx.iota(work, 1, vec![1.into(), parts.into(), 1.into()])?;
        let next = cx.bin_c(Add, i, 1.0)?;
        let (from, to) = (cx.bin(Mul, i, part)?, cx.bin(Mul, next, part)?);
        let (from, to) = (cx.un(UnaryOp::Floor, from)?, cx.un(UnaryOp::Ceil, to)?);
        let (from, to) = (cx.bin(Add, from, low)?, cx.bin(Add, to, low)?);
        let at = cx.iota(work, 2, vec![1.into(), 1.into(), size.clone()])?;
        let (after, before) = (cx.bin(Ge, at, from)?, cx.bin(Lt, at, to)?);
        cx.bin(And, after, before)
    };
    let across = inside(cx, 1, 3, columns, &d[3])?;
    let down = inside(cx, 2, 4, rows, &d[2])?;
    let image = column(cx, 0)?;
    let image = cx.cast(image, DType::I64)?;
    let image = cx.reshape(image, vec![count.clone()])?;
    let own = cx.gather(x, image, 0)?;
    // Columns of the parts first, then their rows.
    let none = cx.scalar(dtype, f64::NEG_INFINITY)?;
    let own = cx.unsqueeze(own, &[3])?;
    let mask = cx.reshape(across, vec![count.clone(), 1.into(), 1.into(), columns.into(), d[3].clone()])?;
    let y = cx.select(mask, own, none)?;
    let y = cx.reduce(ReduceOp::Max, y, &[4], false)?;
    let y = cx.unsqueeze(y, &[2])?;
    let mask = cx.reshape(down, vec![count, 1.into(), rows.into(), d[2].clone(), 1.into()])?;
    let y = cx.select(mask, y, none)?;
    let y = cx.reduce(ReduceOp::Max, y, &[3], false)?;
    let (empty, zero) = (cx.bin_c(Eq, y, f64::NEG_INFINITY)?, cx.scalar(dtype, 0.0)?);
    one(cx.select(empty, zero, y)?)
}

/// Boxes are taken from the highest score down; each one taken hides those that overlap it too much.
///
/// Per batch and class, boxes are sorted once; a loop over them keeps a mask of those that are hidden. What is left is found by
/// `non_zero`, which lists batch, class and rank in the order that ONNX wants.
fn non_max_suppression(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let (boxes, scores) = (cx.input(0)?, cx.input(1)?);
    let (most, overlap, least) = (cx.opt(2)?, cx.opt(3)?, cx.opt(4)?);
    cx.want_rank(boxes, 3..=3)?;
    cx.want_rank(scores, 3..=3)?;
    let d = cx.dims(scores);
    let (b, c, n) = (d[0].clone(), d[1].clone(), d[2].clone());
    let sorted = cx.add_all(Op::TopK { axis: 2, k: n.clone(), largest: true }, &[scores])?;
    let (scores, order) = (sorted[0], sorted[1]);
    // Corners of each box: [4][B,1,N], low before high.
    let side = |cx: &mut Cx<'_, '_>, i: i64| -> Res<ValueId> {
        let s = cx.slice_axis(boxes, 2, i.into(), 1.into(), 1)?;
        cx.reshape(s, vec![b.clone(), 1.into(), n.clone()])
    };
    let s = [side(cx, 0)?, side(cx, 1)?, side(cx, 2)?, side(cx, 3)?];
    let corners = if cx.flag("center_point_box", false)? {
        let ends = |cx: &mut Cx<'_, '_>, at: ValueId, size: ValueId| -> Res<[ValueId; 2]> {
            let half = cx.bin_c(Div, size, 2.0)?;
            Ok([cx.bin(Sub, at, half)?, cx.bin(Add, at, half)?])
        };
        [ends(cx, s[0], s[2])?, ends(cx, s[1], s[3])?]
    } else {
        let ends = |cx: &mut Cx<'_, '_>, p: ValueId, q: ValueId| -> Res<[ValueId; 2]> { Ok([cx.bin(Min, p, q)?, cx.bin(Max, p, q)?]) };
        [ends(cx, s[0], s[2])?, ends(cx, s[1], s[3])?]
    };
    // Sorted as the scores are: [B,C,N].
    let all = vec![b.clone(), c.clone(), n.clone()];
    let mut outside = Vec::new();
    for v in corners.into_iter().flatten() {
        let v = cx.broadcast(v, all.clone())?;
        outside.push(cx.add(Op::GatherElements { axis: 2 }, &[v, order])?);
    }
    let area = |cx: &mut Cx<'_, '_>, o: &[ValueId]| -> Res<ValueId> {
        let (h, w) = (cx.bin(Sub, o[1], o[0])?, cx.bin(Sub, o[3], o[2])?);
        cx.bin(Mul, h, w)
    };
    outside.push(area(cx, &outside.clone())?);
    let scalar = |cx: &mut Cx<'_, '_>, v: Option<ValueId>, default: f64, dtype: DType| match v {
        Some(v) => {
            let v = cx.as_scalar(v)?;
            cx.cast(v, dtype)
        }
        None => cx.scalar(dtype, default),
    };
    let real = cx.dtype(scores);
    let limit = scalar(cx, most, 0.0, DType::I64)?;
    let threshold = scalar(cx, overlap, 0.0, real)?;
    let fit = match least {
        Some(_) => {
            let t = scalar(cx, least, 0.0, real)?;
            cx.bin(Gt, scores, t)?
        }
        None => cx.fill(DType::Bool, 1.0, all.clone())?,
    };
    outside.extend([limit, threshold]);
    // States: boxes that may still be taken, boxes that were.
    let none = cx.fill(DType::Bool, 0.0, all.clone())?;
    let out = loop_of(cx, &n, &[fit, none], &outside, |cx, i, s, o| {
        let (open, taken) = (s[0], s[1]);
        let pick = |cx: &mut Cx<'_, '_>, v: ValueId| -> Res<ValueId> {
            let v = cx.gather(v, i, 2)?;
            cx.unsqueeze(v, &[2])
        };
        let numbers = cx.cast(taken, DType::I64)?;
        let count = cx.reduce(ReduceOp::Sum, numbers, &[2], true)?;
        let room = cx.bin(Lt, count, o[5])?;
        let free = pick(cx, open)?;
        let take = cx.bin(And, free, room)?;
        let at = cx.iota(DType::I64, 2, all.clone())?;
        let here = cx.bin(Eq, at, i)?;
        let now = cx.bin(And, here, take)?;
        let taken = cx.bin(Or, taken, now)?;
        // Overlap of this box with each: intersection over union.
        let shared = |cx: &mut Cx<'_, '_>, low: usize| -> Res<ValueId> {
            let (l, h) = (pick(cx, o[low])?, pick(cx, o[low + 1])?);
            let (l, h) = (cx.bin(Max, o[low], l)?, cx.bin(Min, o[low + 1], h)?);
            let d = cx.bin(Sub, h, l)?;
            cx.bin_c(Max, d, 0.0)
        };
        let (h, w) = (shared(cx, 0)?, shared(cx, 2)?);
        let inter = cx.bin(Mul, h, w)?;
        let own = pick(cx, o[4])?;
        let union = cx.bin(Add, o[4], own)?;
        let union = cx.bin(Sub, union, inter)?;
        let ratio = cx.bin(Div, inter, union)?;
        let hidden = cx.bin(Gt, ratio, o[6])?;
        let hidden = cx.bin(And, hidden, take)?;
        let shown = cx.un(portwright_ir::graph::UnaryOp::Not, hidden)?;
        Ok((vec![cx.bin(And, open, shown)?, taken], Vec::new()))
    })?;
    let count = cx.fresh("count", SymSource::Result);
    let name = count.as_sym().cloned().ok_or_else(|| Fault::form("the number of boxes cannot be given"))?;
    let found = cx.add(Op::NonZero { count: name }, &[out[1]])?;
    let found = cx.transpose(found, &[1, 0])?;
    let rank = cx.add(Op::GatherNd { batch: 0 }, &[order, found])?;
    let rank = cx.unsqueeze(rank, &[1])?;
    let place = cx.slice_axis(found, 1, 0.into(), 2.into(), 1)?;
    one(cx.concat(&[place, rank], 1)?)
}
