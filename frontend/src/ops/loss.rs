// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Losses and the optimizers of the training preview.

use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] =
    &[op("NegativeLogLikelihoodLoss", 12, 2, 3, negative_log_likelihood), op("SoftmaxCrossEntropyLoss", 12, 2, 3, cross_entropy)];

/// Operators of `ai.onnx.preview.training`.
pub const TRAINING: &[Entry] = &[op("Adagrad", 1, 3, MANY, adagrad), op("Adam", 1, 3, MANY, adam), op("Momentum", 1, 3, MANY, momentum)];

fn negative_log_likelihood(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(likelihood(cx, x)?)
}

/// Output 1 is the logarithm of the softmax.
fn cross_entropy(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let p = cx.add(Op::LogSoftmax { axis: 1 }, &[x])?;
    let loss = likelihood(cx, p)?;
    many([loss, p])
}

/// `-p[n, t, ..] * w[t]`, summed, averaged by weight or left as it is; targets of `ignore_index` weigh nothing.
fn likelihood(cx: &mut Cx<'_, '_>, p: ValueId) -> Res<ValueId> {
    let (t, weight) = (cx.input(1)?, cx.opt(2)?);
    let ignore = cx.int_opt("ignore_index")?;
    let path = cx.path.clone();
    let rows: Vec<_> = cx.dims(p).iter().enumerate().filter(|(d, _)| *d != 1).map(|(_, d)| d.clone()).collect();
    for (row, target) in rows.iter().zip(&cx.dims(t)) {
        cx.g_mut().assume_equal(row, target, &path);
    }
    let dtype = cx.dtype(p);
    let mut class = t;
    let mut ignored = None;
    if let Some(i) = ignore {
        let i = cx.scalar(cx.dtype(t), i as f64)?;
        let hit = cx.bin(BinaryOp::Eq, t, i)?;
        // The ignored class may be no class at all.
        let first = cx.scalar(cx.dtype(t), 0.0)?;
        class = cx.select(hit, first, t)?;
        ignored = Some(hit);
    }
    let index = cx.unsqueeze(class, &[1])?;
    let picked = cx.add(Op::GatherElements { axis: 1 }, &[p, index])?;
    let dims = cx.dims(t);
    let picked = cx.reshape(picked, dims.clone())?;
    let mut loss = cx.un(UnaryOp::Neg, picked)?;
    let mut w = match weight {
        Some(w) => Some(cx.gather(w, class, 0)?),
        None => None,
    };
    if let Some(hit) = ignored {
        let (zero, unit) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, 1.0)?);
        let given = w.unwrap_or(unit);
        w = Some(cx.select(hit, zero, given)?);
        loss = cx.select(hit, zero, loss)?;
    }
    if let Some(w) = w {
        loss = cx.bin(BinaryOp::Mul, loss, w)?;
    }
    let axes: Vec<u32> = (0..dims.len() as u32).collect();
    match (cx.text("reduction", "mean")?, w) {
        ("none", _) => Ok(loss),
        ("sum", _) => cx.reduce(ReduceOp::Sum, loss, &axes, false),
        ("mean", None) => cx.reduce(ReduceOp::Mean, loss, &axes, false),
        ("mean", Some(w)) => {
            let (sum, total) = (cx.reduce(ReduceOp::Sum, loss, &axes, false)?, cx.reduce(ReduceOp::Sum, w, &axes, false)?);
            cx.bin(BinaryOp::Div, sum, total)
        }
        (other, _) => Err(Fault::attr(format!("`reduction` is {other:?}, expected none, sum or mean"))),
    }
}

/// Rate, step count, and the tensors in groups of `per` lists of equal length.
fn groups(cx: &Cx<'_, '_>, per: usize) -> Res<(ValueId, ValueId, Vec<Vec<ValueId>>)> {
    let all = cx.all_inputs()?;
    let rest = &all[2..];
    if rest.len() % per != 0 {
        return Err(Fault::shape(format!("{} tensors do not come in {per} lists of equal length", rest.len())));
    }
    let n = rest.len() / per;
    Ok((all[0], all[1], (0..n).map(|i| (0..per).map(|k| rest[k * n + i]).collect()).collect()))
}

/// `gradient + norm_coefficient * x`
fn regularized(cx: &mut Cx<'_, '_>, x: ValueId, gradient: ValueId) -> Res<ValueId> {
    let norm = cx.float("norm_coefficient", 0.0)?;
    let pull = cx.bin_c(BinaryOp::Mul, x, norm)?;
    cx.bin(BinaryOp::Add, pull, gradient)
}

/// Lists one after the other, as the outputs are.
fn by_list(rows: Vec<Vec<ValueId>>) -> Res<Vec<Slot>> {
    let per = rows.first().map_or(0, Vec::len);
    many((0..per).flat_map(|k| rows.iter().map(move |r| r[k]).collect::<Vec<_>>()))
}

fn adagrad(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (rate, t, list) = groups(cx, 3)?;
    let (decay, eps) = (cx.float("decay_factor", 0.0)?, cx.float("epsilon", 1e-6f32.into())?);
    let t = cx.cast(t, cx.dtype(rate))?;
    let slow = cx.bin_c(BinaryOp::Mul, t, decay)?;
    let slow = cx.bin_c(BinaryOp::Add, slow, 1.0)?;
    let rate = cx.bin(BinaryOp::Div, rate, slow)?;
    let rate = cx.as_scalar(rate)?;
    let mut rows = Vec::new();
    for g in list {
        let (x, h) = (g[0], g[2]);
        let gradient = regularized(cx, x, g[1])?;
        let square = cx.bin(BinaryOp::Mul, gradient, gradient)?;
        let h = cx.bin(BinaryOp::Add, h, square)?;
        let d = cx.un(UnaryOp::Sqrt, h)?;
        let d = cx.bin_c(BinaryOp::Add, d, eps)?;
        let step = cx.bin(BinaryOp::Mul, rate, gradient)?;
        let step = cx.bin(BinaryOp::Div, step, d)?;
        rows.push(vec![cx.bin(BinaryOp::Sub, x, step)?, h]);
    }
    by_list(rows)
}

fn momentum(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (rate, t, list) = groups(cx, 3)?;
    let (alpha, beta) = (cx.float("alpha", 0.0)?, cx.float("beta", 0.0)?);
    let nesterov = match cx.text("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Fault::attr(format!("`mode` is {other:?}, expected standard or nesterov"))),
    };
    let rate = cx.as_scalar(rate)?;
    // The first step takes the gradient whole.
    let t = cx.as_scalar(t)?;
    let later = cx.bin_c(BinaryOp::Gt, t, 0.0)?;
    let (b, unit) = (cx.scalar(cx.dtype(rate), beta)?, cx.scalar(cx.dtype(rate), 1.0)?);
    let share = cx.select(later, b, unit)?;
    let mut rows = Vec::new();
    for g in list {
        let (x, v) = (g[0], g[2]);
        let gradient = regularized(cx, x, g[1])?;
        let (old, new) = (cx.bin_c(BinaryOp::Mul, v, alpha)?, cx.bin(BinaryOp::Mul, gradient, share)?);
        let v = cx.bin(BinaryOp::Add, old, new)?;
        let direction = if nesterov {
            let ahead = cx.bin_c(BinaryOp::Mul, v, alpha)?;
            cx.bin(BinaryOp::Add, gradient, ahead)?
        } else {
            v
        };
        let step = cx.bin(BinaryOp::Mul, rate, direction)?;
        rows.push(vec![cx.bin(BinaryOp::Sub, x, step)?, v]);
    }
    by_list(rows)
}

fn adam(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (rate, t, list) = groups(cx, 4)?;
    let (alpha, beta) = (cx.float("alpha", 0.9f32.into())?, cx.float("beta", 0.999f32.into())?);
    let (eps, after) = (cx.float("epsilon", 1e-6f32.into())?, cx.float("norm_coefficient_post", 0.0)?);
    let dtype = cx.dtype(rate);
    let rate = cx.as_scalar(rate)?;
    let t = cx.as_scalar(t)?;
    let later = cx.bin_c(BinaryOp::Gt, t, 0.0)?;
    // The rate is corrected for moments that began at zero: rate * sqrt(1 - beta^t) / (1 - alpha^t).
    let t = cx.cast(t, dtype)?;
    let left = |cx: &mut Cx<'_, '_>, base: f64| -> Res<ValueId> {
        let base = cx.scalar(dtype, base)?;
        let p = cx.bin(BinaryOp::Pow, base, t)?;
        let unit = cx.scalar(dtype, 1.0)?;
        cx.bin(BinaryOp::Sub, unit, p)
    };
    let (second, first) = (left(cx, beta)?, left(cx, alpha)?);
    let second = cx.un(UnaryOp::Sqrt, second)?;
    let corrected = cx.bin(BinaryOp::Mul, rate, second)?;
    let corrected = cx.bin(BinaryOp::Div, corrected, first)?;
    let rate = cx.select(later, corrected, rate)?;
    let mut rows = Vec::new();
    for g in list {
        let (x, v, h) = (g[0], g[2], g[3]);
        let gradient = regularized(cx, x, g[1])?;
        let mix = |cx: &mut Cx<'_, '_>, old: ValueId, new: ValueId, keep: f64| -> Res<ValueId> {
            let (a, b) = (cx.bin_c(BinaryOp::Mul, old, keep)?, cx.bin_c(BinaryOp::Mul, new, 1.0 - keep)?);
            cx.bin(BinaryOp::Add, a, b)
        };
        let square = cx.bin(BinaryOp::Mul, gradient, gradient)?;
        let (v, h) = (mix(cx, v, gradient, alpha)?, mix(cx, h, square, beta)?);
        let d = cx.un(UnaryOp::Sqrt, h)?;
        let d = cx.bin_c(BinaryOp::Add, d, eps)?;
        let step = cx.bin(BinaryOp::Mul, rate, v)?;
        let step = cx.bin(BinaryOp::Div, step, d)?;
        let x = cx.bin(BinaryOp::Sub, x, step)?;
        let x = if after == 0.0 { x } else { cx.bin_c(BinaryOp::Mul, x, 1.0 - after)? };
        rows.push(vec![x, v, h]);
    }
    by_list(rows)
}
