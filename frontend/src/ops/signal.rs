// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Windows and Fourier transforms, which are products with matrices of cosines and sines.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("BlackmanWindow", 17, 1, 1, blackman),
    op("DFT", 17, 1, 3, dft),
    op("HammingWindow", 17, 1, 1, hamming),
    op("HannWindow", 17, 1, 1, hann),
    op("MelWeightMatrix", 17, 5, 5, mel_weight_matrix),
    op("STFT", 17, 2, 4, stft),
];

/// Sum of `a[k] * cos(2 pi k i / n)`.
fn window(cx: &mut Cx<'_, '_>, a: &[f64]) -> Res<Vec<Slot>> {
    let size = cx.input(0)?;
    let size = cx.as_scalar(size)?;
    let n = cx.expr(size, "size")?;
    let dtype = cx.dtype_attr("output_datatype")?.unwrap_or(DType::F32);
    let work = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let whole = if cx.flag("periodic", true)? { n.clone() } else { n.clone() - 1 };
    let i = cx.iota(work, 0, vec![n])?;
    let whole = cx.number_of(whole, work)?;
    let i = cx.bin_c(BinaryOp::Mul, i, std::f64::consts::TAU)?;
    let angle = cx.bin(BinaryOp::Div, i, whole)?;
    let dims = cx.dims(angle);
    let mut sum = cx.fill(work, a.first().copied().unwrap_or(0.0), dims)?;
    for (k, &a) in a.iter().enumerate().skip(1) {
        let c = cx.bin_c(BinaryOp::Mul, angle, k as f64)?;
        let c = cx.un(UnaryOp::Cos, c)?;
        let c = cx.bin_c(BinaryOp::Mul, c, a)?;
        sum = cx.bin(BinaryOp::Add, sum, c)?;
    }
    one(cx.cast(sum, dtype)?)
}
fn hann(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    window(cx, &[0.5, -0.5])
}
fn hamming(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    window(cx, &[25.0 / 46.0, -21.0 / 46.0])
}
fn blackman(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    window(cx, &[0.42, -0.5, 0.08])
}

/// Cosines and sines of `2 pi k i / n` for `i` of `rows` and `k` of `columns`. The product is reduced modulo `n` as an integer, so that
/// large angles lose nothing.
fn circle(cx: &mut Cx<'_, '_>, n: &SymExpr, rows: SymExpr, columns: SymExpr, dtype: DType) -> Res<(ValueId, ValueId)> {
    let dims = vec![rows, columns];
    let (i, k) = (cx.iota(DType::I64, 0, dims.clone())?, cx.iota(DType::I64, 1, dims)?);
    let p = cx.bin(BinaryOp::Mul, i, k)?;
    let whole = cx.number_of(n.clone(), DType::I64)?;
    let p = cx.bin(BinaryOp::Mod, p, whole)?;
    let (p, whole) = (cx.cast(p, DType::F64)?, cx.cast(whole, DType::F64)?);
    let p = cx.bin_c(BinaryOp::Mul, p, std::f64::consts::TAU)?;
    let angle = cx.bin(BinaryOp::Div, p, whole)?;
    let (c, s) = (cx.un(UnaryOp::Cos, angle)?, cx.un(UnaryOp::Sin, angle)?);
    Ok((cx.cast(c, dtype)?, cx.cast(s, dtype)?))
}

/// Transform of the last dim of `re + i im` (`im` absent for real signals) of length `n` into `bins` numbers.
fn transform(cx: &mut Cx<'_, '_>, re: ValueId, im: Option<ValueId>, n: &SymExpr, bins: SymExpr, inverse: bool) -> Res<(ValueId, ValueId)> {
    let rank = cx.rank(re);
    let dtype = cx.dtype(re);
    let (c, s) = circle(cx, n, n.clone(), bins, dtype)?;
    let labels: String = ('a'..='z').filter(|l| !"xy".contains(*l)).take(rank.saturating_sub(1)).collect();
    if labels.len() + 1 != rank {
        return Err(Fault::shape(format!("rank {rank} is more than a transform takes")));
    }
    let spec = format!("{labels}x,xy->{labels}y");
    // Forward: (re + i im)(c - i s); backward: (re + i im)(c + i s) / n.
    let (mut out_re, mut out_im) = (cx.contract(&spec, re, c)?, cx.contract(&spec, re, s)?);
    if !inverse {
        out_im = cx.un(UnaryOp::Neg, out_im)?;
    }
    if let Some(im) = im {
        let (ic, is) = (cx.contract(&spec, im, c)?, cx.contract(&spec, im, s)?);
        out_re = cx.bin(if inverse { BinaryOp::Sub } else { BinaryOp::Add }, out_re, is)?;
        out_im = cx.bin(BinaryOp::Add, out_im, ic)?;
    }
    if inverse {
        let whole = cx.number_of(n.clone(), dtype)?;
        out_re = cx.bin(BinaryOp::Div, out_re, whole)?;
        out_im = cx.bin(BinaryOp::Div, out_im, whole)?;
    }
    Ok((out_re, out_im))
}

/// Cuts or pads dim `axis` to `n` elements.
fn fit(cx: &mut Cx<'_, '_>, x: ValueId, axis: usize, n: &SymExpr) -> Res<ValueId> {
    let d = cx.dim(x, axis)?;
    let len = cx.min(&d, n);
    let x = cx.slice_axis(x, axis, 0.into(), len.clone(), 1)?;
    let mut high = vec![SymExpr::from(0); cx.rank(x)];
    let interior = vec![0; high.len()];
    high[axis] = n - &len;
    let low = vec![SymExpr::from(0); interior.len()];
    cx.pad(x, low, high, interior, 0.0)
}

/// Real and imaginary parts lie in the last dim. The axis is an attribute in opset 17, then an input.
fn dft(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let axis = match cx.opt(2)? {
        Some(a) => cx.const_number(a, "the axis")? as i64,
        None => cx.int("axis", if cx.version < 20 { 1 } else { -2 })?,
    };
    let axis = cx.axis_of(axis, rank)?;
    let (inverse, onesided) = (cx.flag("inverse", false)?, cx.flag("onesided", false)?);
    let n = match cx.opt(1)? {
        Some(n) => {
            let n = cx.as_scalar(n)?;
            cx.expr(n, "length")?
        }
        // The inverse of a one-sided transform has as many numbers as the whole one had.
        None if inverse && onesided => (cx.dim(x, axis)? - 1) * 2,
        None => cx.dim(x, axis)?,
    };
    let parts = cx.dim(x, rank - 1)?;
    if axis + 1 == rank || !(parts.is(1) || parts.is(2)) {
        return Err(Fault::shape(format!("the input is {}, expected real and imaginary parts in its last dim", cx.ty(x))));
    }
    if inverse && onesided {
        return one(inverse_real(cx, x, axis, &n)?);
    }
    let x = fit(cx, x, axis, &n)?;
    let (re, im) = split_parts(cx, x, axis)?;
    let bins = if onesided { n.div(&2.into()) + 1 } else { n.clone() };
    let (re, im) = transform(cx, re, im, &n, bins, inverse)?;
    one(join_parts(cx, re, im, axis)?)
}

/// Real and imaginary parts with the transformed dim last.
fn split_parts(cx: &mut Cx<'_, '_>, x: ValueId, axis: usize) -> Res<(ValueId, Option<ValueId>)> {
    let rank = cx.rank(x);
    let complex = cx.dim(x, rank - 1)?.is(2);
    let mut perm: Vec<usize> = (0..rank - 1).filter(|a| *a != axis).collect();
    perm.push(axis);
    let part = |cx: &mut Cx<'_, '_>, i: i64| -> Res<ValueId> {
        let p = cx.slice_axis(x, rank - 1, i.into(), 1.into(), 1)?;
        let mut dims = cx.dims(p);
        dims.pop();
        let p = cx.reshape(p, dims)?;
        cx.transpose(p, &perm)
    };
    let re = part(cx, 0)?;
    Ok((re, if complex { Some(part(cx, 1)?) } else { None }))
}

/// Puts the transformed dim back and the parts into a last dim.
fn join_parts(cx: &mut Cx<'_, '_>, re: ValueId, im: ValueId, axis: usize) -> Res<ValueId> {
    let rank = cx.rank(re);
    let mut perm: Vec<usize> = (0..rank - 1).collect();
    perm.insert(axis, rank - 1);
    let mut parts = Vec::new();
    for p in [re, im] {
        let p = cx.transpose(p, &perm)?;
        parts.push(cx.unsqueeze(p, &[rank])?);
    }
    cx.concat(&parts, rank)
}

/// Inverse of a one-sided transform: bins beyond the half are the conjugates of those before it, so each inner bin counts twice.
fn inverse_real(cx: &mut Cx<'_, '_>, x: ValueId, axis: usize, n: &SymExpr) -> Res<ValueId> {
    let half = n.div(&2.into()) + 1;
    let x = fit(cx, x, axis, &half)?;
    let (re, im) = split_parts(cx, x, axis)?;
    let dtype = cx.dtype(re);
    let rank = cx.rank(re);
    let k = cx.iota(DType::I64, 0, vec![half.clone()])?;
    let last = cx.number_of(n.clone(), DType::I64)?;
    let twice = cx.bin_c(BinaryOp::Mul, k, 2.0)?;
    let (first, middle) = (cx.bin_c(BinaryOp::Eq, k, 0.0)?, cx.bin(BinaryOp::Eq, twice, last)?);
    let single = cx.bin(BinaryOp::Or, first, middle)?;
    let (unit, two) = (cx.scalar(dtype, 1.0)?, cx.scalar(dtype, 2.0)?);
    let weight = cx.select(single, unit, two)?;
    let re = cx.bin(BinaryOp::Mul, re, weight)?;
    let (c, s) = circle(cx, n, half, n.clone(), dtype)?;
    let labels: String = ('a'..='w').take(rank - 1).collect();
    let spec = format!("{labels}x,xy->{labels}y");
    let mut y = cx.contract(&spec, re, c)?;
    if let Some(im) = im {
        let im = cx.bin(BinaryOp::Mul, im, weight)?;
        let i = cx.contract(&spec, im, s)?;
        y = cx.bin(BinaryOp::Sub, y, i)?;
    }
    let whole = cx.number_of(n.clone(), dtype)?;
    let y = cx.bin(BinaryOp::Div, y, whole)?;
    let mut perm: Vec<usize> = (0..rank - 1).collect();
    perm.insert(axis, rank - 1);
    let y = cx.transpose(y, &perm)?;
    cx.unsqueeze(y, &[rank])
}

/// Frames of the signal, times the window, transformed: `[B, frames, bins, 2]`.
fn stft(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (signal, step) = (cx.input(0)?, cx.input(1)?);
    let (window, length) = (cx.opt(2)?, cx.opt(3)?);
    let onesided = cx.flag("onesided", true)?;
    let step = {
        let s = cx.as_scalar(step)?;
        cx.expr(s, "step")?
    };
    let n = match (window, length) {
        (_, Some(l)) => {
            let l = cx.as_scalar(l)?;
            cx.expr(l, "length")?
        }
        (Some(w), None) => cx.dim(w, 0)?,
        (None, None) => return Err(Fault::attr("neither a window nor a frame length is given")),
    };
    let signal = match cx.rank(signal) {
        2 => cx.unsqueeze(signal, &[2])?,
        _ => signal,
    };
    cx.want_rank(signal, 3..=3)?;
    let frames = (cx.dim(signal, 1)? - n.clone()).div(&step) + 1;
    // Positions of frame f: f * step + i.
    let plane = vec![frames, n.clone()];
    let (f, i) = (cx.iota(DType::I64, 0, plane.clone())?, cx.iota(DType::I64, 1, plane)?);
    let step = cx.number_of(step, DType::I64)?;
    let at = cx.bin(BinaryOp::Mul, f, step)?;
    let at = cx.bin(BinaryOp::Add, at, i)?;
    let cut = cx.gather(signal, at, 1)?;
    let (mut re, mut im) = split_parts(cx, cut, 2)?;
    if let Some(w) = window {
        let w = fit(cx, w, 0, &n)?;
        re = cx.bin(BinaryOp::Mul, re, w)?;
        im = match im {
            Some(im) => Some(cx.bin(BinaryOp::Mul, im, w)?),
            None => None,
        };
    }
    let bins = if onesided { n.div(&2.into()) + 1 } else { n.clone() };
    let (re, im) = transform(cx, re, im, &n, bins, false)?;
    one(join_parts(cx, re, im, 2)?)
}

/// Triangles that sum the bins of a spectrum by the mel scale: `[dft_length / 2 + 1, num_mel_bins]`.
fn mel_weight_matrix(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let dtype = cx.dtype_attr("output_datatype")?.unwrap_or(DType::F32);
    let mut scalars = Vec::new();
    for i in 0..5 {
        let v = cx.input(i)?;
        scalars.push(cx.as_scalar(v)?);
    }
    let (bins, length) = (cx.expr(scalars[0], "bins")?, cx.expr(scalars[1], "length")?);
    let mut numbers = Vec::new();
    for v in &scalars[2..] {
        numbers.push(cx.cast(*v, DType::F64)?);
    }
    let rate = numbers[0];
    let mel = |cx: &mut Cx<'_, '_>, hertz: ValueId| -> Res<ValueId> {
        let x = cx.bin_c(Div, hertz, 700.0)?;
        let x = cx.bin_c(Add, x, 1.0)?;
        let x = cx.un(UnaryOp::Log, x)?;
        cx.bin_c(Mul, x, 2595.0 / std::f64::consts::LN_10)
    };
    let (low, high) = (mel(cx, numbers[1])?, mel(cx, numbers[2])?);
    let points = bins.clone() + 2;
    let steps = cx.number_of(points.clone(), DType::F64)?;
    let step = cx.bin(Sub, high, low)?;
    let step = cx.bin(Div, step, steps)?;
    // Corners of the triangles, as bins of the spectrum.
    let at = cx.iota(DType::F64, 0, vec![points])?;
    let at = cx.bin(Mul, at, step)?;
    let at = cx.bin(Add, at, low)?;
    let at = cx.bin_c(Mul, at, std::f64::consts::LN_10 / 2595.0)?;
    let at = cx.un(UnaryOp::Exp, at)?;
    let at = cx.bin_c(Sub, at, 1.0)?;
    let at = cx.bin_c(Mul, at, 700.0)?;
    let whole = cx.number_of(length.clone() + 1, DType::F64)?;
    let at = cx.bin(Mul, at, whole)?;
    let part = cx.bin(Mod, at, rate)?;
    let at = cx.bin(Sub, at, part)?;
    let at = cx.bin(Div, at, rate)?;
    let at = cx.un(UnaryOp::Round, at)?;
    let mut corners = Vec::new();
    for i in 0..3 {
        corners.push(cx.slice_axis(at, 0, i.into(), bins.clone(), 1)?);
    }
    let (left, center, right) = (corners[0], corners[1], corners[2]);
    let j = cx.iota(DType::F64, 0, vec![length.div(&2.into()) + 1, 1.into()])?;
    let (zero, unit) = (cx.scalar(DType::F64, 0.0)?, cx.scalar(DType::F64, 1.0)?);
    let slope = |cx: &mut Cx<'_, '_>, from: ValueId, to: ValueId, j: ValueId| -> Res<ValueId> {
        let (above, run) = (cx.bin(Sub, j, from)?, cx.bin(Sub, to, from)?);
        cx.bin(Div, above, run)
    };
    let between = |cx: &mut Cx<'_, '_>, from: ValueId, to: ValueId| -> Res<ValueId> {
        let (above, below) = (cx.bin(Ge, j, from)?, cx.bin(Lt, j, to)?);
        cx.bin(And, above, below)
    };
    let rise = slope(cx, left, center, j)?;
    let rising = between(cx, left, center)?;
    let y = cx.select(rising, rise, zero)?;
    let top = cx.bin(Eq, j, center)?;
    let y = cx.select(top, unit, y)?;
    let fall = slope(cx, right, center, j)?;
    let falling = between(cx, center, right)?;
    let y = cx.select(falling, fall, y)?;
    one(cx.cast(y, dtype)?)
}
