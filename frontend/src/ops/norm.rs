// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Normalization.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Op, ReduceOp, Scalar, UnaryOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("BatchNormalization", 1, 5, 5, batch_norm),
    op("GroupNormalization", 18, 3, 3, group_norm),
    op("InstanceNormalization", 1, 3, 3, instance_norm),
    op("LRN", 1, 1, 1, lrn),
    op("LayerNormalization", 17, 2, 3, layer_norm),
    op("LpNormalization", 1, 1, 1, lp_norm),
    op("MeanVarianceNormalization", 9, 1, 1, mean_variance),
    op("RMSNormalization", 23, 2, 2, rms_norm),
];

/// In inference a batch norm is `x * s + t` with `s = scale / sqrt(var + eps)` and `t = bias - mean * s`, which are arithmetic on weights.
fn batch_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.want_rank(x, 1..=usize::MAX)?;
    if cx.version < 9 && cx.int("spatial", 1)? != 1 {
        return Err(Fault::form("`spatial` is 0: statistics for every position are not taken"));
    }
    let training =
        if cx.version >= 14 { cx.flag("training_mode", false)? } else { cx.version < 7 && !cx.flag("is_test", false)? && cx.wants(1) };
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    let (scale, bias) = (cx.input(1)?, cx.input(2)?);
    let (mean, var) = (cx.input(3)?, cx.input(4)?);
    if training {
        return batch_norm_training(cx, x, [scale, bias, mean, var], eps);
    }
    if cx.wants(1) {
        return Err(Fault::form("its running statistics are asked for, which only training computes"));
    }
    // Statistics may have a wider dtype than the data.
    let dtype = cx.dtype(x);
    let work = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (scale, bias, mean, var) = (cx.cast(scale, work)?, cx.cast(bias, work)?, cx.cast(mean, work)?, cx.cast(var, work)?);
    let d = cx.bin_c(BinaryOp::Add, var, eps)?;
    let d = cx.un(UnaryOp::Sqrt, d)?;
    let s = cx.bin(BinaryOp::Div, scale, d)?;
    let m = cx.bin(BinaryOp::Mul, mean, s)?;
    let t = cx.bin(BinaryOp::Sub, bias, m)?;
    one(cx.wide(x, |cx, x| {
        let (s, t) = (per_channel(cx, s, rank)?, per_channel(cx, t, rank)?);
        let y = cx.bin(BinaryOp::Mul, x, s)?;
        cx.bin(BinaryOp::Add, y, t)
    })?)
}

/// Statistics of the batch itself, and the running ones moved towards them.
fn batch_norm_training(cx: &mut Cx<'_, '_>, x: ValueId, [scale, bias, mean, var]: [ValueId; 4], eps: f64) -> Res<Vec<Slot>> {
    let rank = cx.rank(x);
    let momentum = cx.float("momentum", 0.9f32.into())?;
    let axes: Vec<u32> = (0..rank as u32).filter(|a| *a != 1).collect();
    let (m, v) = moments(cx, x, &axes)?;
    let y = scaled(cx, x, m, v, eps)?;
    let (s, b) = (per_channel(cx, scale, rank)?, per_channel(cx, bias, rank)?);
    let y = cx.bin(BinaryOp::Mul, y, s)?;
    let y = cx.bin(BinaryOp::Add, y, b)?;
    let mut out = vec![y];
    for (old, new) in [(mean, m), (var, v)] {
        let dims = cx.dims(old);
        let new = cx.reshape(new, dims)?;
        let new = cx.cast(new, cx.dtype(old))?;
        let (a, b) = (cx.bin_c(BinaryOp::Mul, old, momentum)?, cx.bin_c(BinaryOp::Mul, new, 1.0 - momentum)?);
        out.push(cx.bin(BinaryOp::Add, a, b)?);
    }
    many(out)
}

/// Makes `[C]` meet the channels of `[N,C,spatial..]`.
pub fn per_channel(cx: &mut Cx<'_, '_>, v: ValueId, rank: usize) -> Res<ValueId> {
    let mut dims = vec![cx.ty(v).elems()];
    dims.extend((2..rank).map(|_| SymExpr::from(1)));
    cx.reshape(v, dims)
}

/// Mean and variance over axes, dims kept.
fn moments(cx: &mut Cx<'_, '_>, x: ValueId, axes: &[u32]) -> Res<(ValueId, ValueId)> {
    let m = cx.reduce(ReduceOp::Mean, x, axes, true)?;
    let d = cx.bin(BinaryOp::Sub, x, m)?;
    let d = cx.bin(BinaryOp::Mul, d, d)?;
    Ok((m, cx.reduce(ReduceOp::Mean, d, axes, true)?))
}

/// `(x - mean) / sqrt(var + eps)`
fn scaled(cx: &mut Cx<'_, '_>, x: ValueId, mean: ValueId, var: ValueId, eps: f64) -> Res<ValueId> {
    let d = cx.bin_c(BinaryOp::Add, var, eps)?;
    let d = cx.un(UnaryOp::Sqrt, d)?;
    let y = cx.bin(BinaryOp::Sub, x, mean)?;
    cx.bin(BinaryOp::Div, y, d)
}

/// Splits channels into groups and normalizes each; scale and bias are applied by the caller.
pub fn grouped(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    groups: SymExpr,
    eps: f64,
    after: impl FnOnce(&mut Cx<'_, '_>, ValueId, &Dims) -> Res<ValueId>,
) -> Res<ValueId> {
    let dims = cx.dims(x);
    let Some((n, c)) = dims.first().zip(dims.get(1)) else {
        return Err(Fault::shape(format!("the input is {}, expected [N,C,..]", cx.ty(x))));
    };
    let rest = &c.div(&groups) * &product(&dims[2..]);
    let flat = vec![n.clone(), groups, rest];
    let y = cx.reshape(x, flat)?;
    let y = cx.add(Op::LayerNorm { axis: 2, eps: Scalar::from_f64(DType::F32, eps) }, &[y])?;
    after(cx, y, &dims)
}

fn instance_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let c = cx.dim(x, 1)?;
    one(grouped(cx, x, c, eps, |cx, y, dims| {
        let y = cx.reshape(y, dims.clone())?;
        let (s, b) = (per_channel(cx, scale, rank)?, per_channel(cx, bias, rank)?);
        let y = cx.bin(BinaryOp::Mul, y, s)?;
        cx.bin(BinaryOp::Add, y, b)
    })?)
}

/// Scale and bias are per group in opset 18 and per channel since opset 21.
fn group_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let groups = cx.need_int("num_groups")?;
    if groups < 1 || cx.dim(x, 1)?.as_const().is_some_and(|c| c % groups != 0) {
        return Err(Fault::attr(format!("`num_groups` is {groups}, which does not divide the channels of {}", cx.ty(x))));
    }
    let per_group = cx.version < 21;
    one(grouped(cx, x, groups.into(), eps, |cx, y, dims| {
        if per_group {
            let (s, b) = (per_channel(cx, scale, 3)?, per_channel(cx, bias, 3)?);
            let y = cx.bin(BinaryOp::Mul, y, s)?;
            let y = cx.bin(BinaryOp::Add, y, b)?;
            return cx.reshape(y, dims.clone());
        }
        let y = cx.reshape(y, dims.clone())?;
        let (s, b) = (per_channel(cx, scale, rank)?, per_channel(cx, bias, rank)?);
        let y = cx.bin(BinaryOp::Mul, y, s)?;
        cx.bin(BinaryOp::Add, y, b)
    })?)
}

/// Whether the composite norm takes a scale or bias: it must fit within the normalized dims.
fn fits(cx: &Cx<'_, '_>, v: Option<ValueId>, rank: usize, axis: usize) -> bool {
    v.is_none_or(|v| cx.rank(v) <= rank - axis)
}

fn layer_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let (scale, bias) = (cx.opt(1)?, cx.opt(2)?);
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    let axis = cx.axis(x, -1)?;
    let y = layer_norm_of(cx, x, scale, bias, axis, eps)?;
    if !cx.wants(1) && !cx.wants(2) {
        return one(y);
    }
    let axes: Vec<u32> = (axis as u32..cx.rank(x) as u32).collect();
    let work = cx.cast(x, if cx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 })?;
    let (mean, var) = moments(cx, work, &axes)?;
    let d = cx.bin_c(BinaryOp::Add, var, eps)?;
    let d = cx.un(UnaryOp::Sqrt, d)?;
    let inv = cx.un(UnaryOp::Recip, d)?;
    many([y, mean, inv])
}

/// Layer norm over dims `axis..` with optional scale and bias.
pub fn layer_norm_of(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    scale: Option<ValueId>,
    bias: Option<ValueId>,
    axis: usize,
    eps: f64,
) -> Res<ValueId> {
    let rank = cx.rank(x);
    let op = Op::LayerNorm { axis: axis as u32, eps: Scalar::from_f64(DType::F32, eps) };
    if scale.is_none() && bias.is_none() {
        return cx.add(op, &[x]);
    }
    if let Some(s) = scale
        && fits(cx, scale, rank, axis)
        && fits(cx, bias, rank, axis)
    {
        let operands: Vec<ValueId> = [x, s].into_iter().chain(bias).collect();
        return cx.add(op, &operands);
    }
    let mut y = cx.add(op, &[x])?;
    for (v, op) in [(scale, BinaryOp::Mul), (bias, BinaryOp::Add)] {
        if let Some(v) = v {
            y = cx.bin(op, y, v)?;
        }
    }
    Ok(y)
}

fn rms_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    let axis = cx.axis(x, -1)?;
    one(rms_norm_of(cx, x, scale, axis, eps)?)
}

/// RMS norm over dims `axis..`.
pub fn rms_norm_of(cx: &mut Cx<'_, '_>, x: ValueId, scale: ValueId, axis: usize, eps: f64) -> Res<ValueId> {
    let op = Op::RmsNorm { axis: axis as u32, eps: Scalar::from_f64(DType::F32, eps) };
    if fits(cx, Some(scale), cx.rank(x), axis) {
        return cx.add(op, &[x, scale]);
    }
    let y = cx.add(op, &[x])?;
    cx.bin(BinaryOp::Mul, y, scale)
}

/// `x / (bias + alpha / size * sum over nearby channels of x^2) ^ beta`
fn lrn(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let size = cx.need_int("size")?;
    if !(1..=1 << 16).contains(&size) {
        return Err(Fault::attr(format!("`size` is {size}")));
    }
    let (alpha, beta) = (cx.float("alpha", 1e-4f32.into())?, cx.float("beta", 0.75)?);
    let bias = cx.float("bias", 1.0)?;
    one(cx.wide(x, |cx, x| {
        let square = cx.bin(BinaryOp::Mul, x, x)?;
        let dims = cx.dims(x);
        // Channels as the spatial dim of a window: [N, 1, C, rest].
        let as_plane = vec![dims[0].clone(), 1.into(), dims[1].clone(), product(&dims[2..rank])];
        let square = cx.reshape(square, as_plane)?;
        let (before, after) = ((size - 1) / 2, size / 2);
        let op = Op::Pool {
            op: ReduceOp::Sum,
            kernel: vec![size, 1],
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads: [before, 0, after, 0].map(SymExpr::from).to_vec(),
            count_pad: false,
            dims: vec![dims[1].clone(), product(&dims[2..rank])],
            channels_last: false,
        };
        let sum = cx.add(op, &[square])?;
        let sum = cx.reshape(sum, dims)?;
        let d = cx.bin_c(BinaryOp::Mul, sum, alpha / size as f64)?;
        let d = cx.bin_c(BinaryOp::Add, d, bias)?;
        let d = cx.bin_c(BinaryOp::Pow, d, beta)?;
        cx.bin(BinaryOp::Div, x, d)
    })?)
}

/// A row of zeros stays zeros.
fn lp_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axis = cx.axis(x, -1)? as u32;
    let p = cx.int("p", 2)?;
    one(cx.wide(x, |cx, x| {
        let norm = match p {
            1 => {
                let a = cx.un(UnaryOp::Abs, x)?;
                cx.reduce(ReduceOp::Sum, a, &[axis], true)?
            }
            2 => {
                let s = cx.bin(BinaryOp::Mul, x, x)?;
                let s = cx.reduce(ReduceOp::Sum, s, &[axis], true)?;
                cx.un(UnaryOp::Sqrt, s)?
            }
            _ => return Err(Fault::attr(format!("`p` is {p}, expected 1 or 2"))),
        };
        let zero = cx.bin_c(BinaryOp::Eq, norm, 0.0)?;
        let unit = cx.scalar(cx.dtype(x), 1.0)?;
        let norm = cx.select(zero, unit, norm)?;
        cx.bin(BinaryOp::Div, x, norm)
    })?)
}

fn mean_variance(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axes = cx.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = cx.axes_of(&axes, cx.rank(x))?;
    one(cx.wide(x, |cx, x| {
        let (m, v) = moments(cx, x, &axes)?;
        let d = cx.un(UnaryOp::Sqrt, v)?;
        let d = cx.bin_c(BinaryOp::Add, d, 1e-9)?;
        let y = cx.bin(BinaryOp::Sub, x, m)?;
        cx.bin(BinaryOp::Div, y, d)
    })?)
}
