// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `ai.onnx.ml`: scalers and linear models, on numbers.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::ArgOp;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("ArrayFeatureExtractor", 1, 2, 2, array_feature_extractor),
    op("Binarizer", 1, 1, 1, binarizer),
    op("LinearClassifier", 1, 1, 1, linear_classifier),
    op("LinearRegressor", 1, 1, 1, linear_regressor),
    op("Normalizer", 1, 1, 1, normalizer),
    op("Scaler", 1, 1, 1, scaler),
];

/// A list of numbers as f32; empty where it is not given.
pub fn floats(cx: &Cx<'_, '_>, name: &str) -> Res<Vec<f32>> {
    Ok(cx.floats(name)?.unwrap_or_default().into_iter().map(|v| v as f32).collect())
}

/// Columns by index along the last dim.
fn array_feature_extractor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i) = (cx.input(0)?, cx.input(1)?);
    let n = cx.ty(i).elems();
    let i = cx.reshape(i, vec![n.clone()])?;
    let rank = cx.want_rank(x, 1..=usize::MAX)?;
    let y = cx.gather(x, i, rank - 1)?;
    one(if rank == 1 { cx.reshape(y, vec![1.into(), n])? } else { y })
}

fn binarizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let above = cx.bin_c(BinaryOp::Gt, x, cx.float("threshold", 0.0)?)?;
    one(cx.cast(above, cx.dtype(x))?)
}

/// `(x - offset) * scale`, by column or for all.
fn scaler(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let mut y = cx.cast(x, DType::F32)?;
    for (name, op) in [("offset", BinaryOp::Sub), ("scale", BinaryOp::Mul)] {
        let v = floats(cx, name)?;
        if !v.is_empty() {
            let v = cx.table_f32(&[v.len() as i64], &v)?;
            y = cx.bin(op, y, v)?;
        }
    }
    one(y)
}

/// Rows divided by their largest magnitude, sum of magnitudes or length; rows of zeros stay.
fn normalizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let x = cx.cast(x, DType::F32)?;
    let axis = (cx.want_rank(x, 1..=2)? - 1) as u32;
    let a = cx.un(UnaryOp::Abs, x)?;
    let norm = match cx.text("norm", "MAX")? {
        "MAX" => cx.reduce(ReduceOp::Max, x, &[axis], true)?,
        "L1" => cx.reduce(ReduceOp::Sum, a, &[axis], true)?,
        "L2" => {
            let s = cx.bin(BinaryOp::Mul, x, x)?;
            let s = cx.reduce(ReduceOp::Sum, s, &[axis], true)?;
            cx.un(UnaryOp::Sqrt, s)?
        }
        other => return Err(Fault::attr(format!("`norm` is {other:?}, expected MAX, L1 or L2"))),
    };
    let zero = cx.bin_c(BinaryOp::Eq, norm, 0.0)?;
    let unit = cx.scalar(DType::F32, 1.0)?;
    let norm = cx.select(zero, unit, norm)?;
    one(cx.bin(BinaryOp::Div, x, norm)?)
}

/// Scores `[N, classes]` after a transform of the attribute's kind.
pub fn post_transform(cx: &mut Cx<'_, '_>, y: ValueId) -> Res<ValueId> {
    let kind = cx.text("post_transform", "NONE")?;
    transformed(cx, y, kind)
}

/// Scores `[N, classes]` after the transform of that name.
pub fn transformed(cx: &mut Cx<'_, '_>, y: ValueId, kind: &str) -> Res<ValueId> {
    match kind {
        "NONE" => Ok(y),
        "LOGISTIC" => cx.un(UnaryOp::Sigmoid, y),
        "SOFTMAX" => cx.add(Op::Softmax { axis: 1 }, &[y]),
        "SOFTMAX_ZERO" => softmax_zero(cx, y),
        "PROBIT" => probit(cx, y),
        other => {
            let m = format!("`post_transform` is {other:?}, expected NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT");
            Err(Fault::attr(m))
        }
    }
}

/// A softmax that keeps zeros (what is within 1e-7 of one) near zero: they are multiplied by `exp(-max)`. A row without a sum is all 0.5.
fn softmax_zero(cx: &mut Cx<'_, '_>, y: ValueId) -> Res<ValueId> {
    use BinaryOp::*;
    let max = cx.reduce(ReduceOp::Max, y, &[1], true)?;
    let (above, size, back) = (cx.bin(Sub, y, max)?, cx.un(UnaryOp::Abs, y)?, cx.un(UnaryOp::Neg, max)?);
    let (e, factor) = (cx.un(UnaryOp::Exp, above)?, cx.un(UnaryOp::Exp, back)?);
    let (some, small) = (cx.bin_c(Gt, size, 1e-7)?, cx.bin(Mul, y, factor)?);
    let e = cx.select(some, e, small)?;
    let sum = cx.reduce(ReduceOp::Sum, e, &[1], true)?;
    let (none, half, share) = (cx.bin_c(Eq, sum, 0.0)?, cx.scalar(cx.dtype(y), 0.5)?, cx.bin(Div, e, sum)?);
    cx.select(none, half, share)
}

/// `sqrt(2) * erf^-1(2 y - 1)` by Winitzki's approximation, as ONNX Runtime has it.
fn probit(cx: &mut Cx<'_, '_>, y: ValueId) -> Res<ValueId> {
    use BinaryOp::*;
    let twice = cx.bin_c(Mul, y, 2.0)?;
    let x = cx.bin_c(Sub, twice, 1.0)?;
    let unit = cx.scalar(cx.dtype(y), 1.0)?;
    let (below, above) = (cx.bin(Sub, unit, x)?, cx.bin(Add, unit, x)?);
    let inner = cx.bin(Mul, below, above)?;
    let log = cx.un(UnaryOp::Log, inner)?;
    let half = cx.bin_c(Mul, log, 0.5)?;
    let v = cx.bin_c(Add, half, 2.0 / (std::f64::consts::PI * 0.147))?;
    let v2 = cx.bin_c(Mul, log, 1.0 / 0.147)?;
    let square = cx.bin(Mul, v, v)?;
    let under = cx.bin(Sub, square, v2)?;
    let root = cx.un(UnaryOp::Sqrt, under)?;
    let v3 = cx.bin(Sub, root, v)?;
    let size = cx.un(UnaryOp::Sqrt, v3)?;
    let sign = cx.un(UnaryOp::Sign, x)?;
    let r = cx.bin(Mul, sign, size)?;
    let r = cx.bin_c(Mul, r, std::f64::consts::SQRT_2)?;
    // At 0 and 1 the approximation has no number; ONNX Runtime gives 0.
    let (edge, zero) = (cx.bin_c(Eq, inner, 0.0)?, cx.scalar(cx.dtype(y), 0.0)?);
    cx.select(edge, zero, r)
}

/// `[N, F]` as f32.
pub fn rows(cx: &mut Cx<'_, '_>) -> Res<ValueId> {
    let x = cx.input(0)?;
    let x = cx.cast(x, DType::F32)?;
    if cx.want_rank(x, 1..=2)? == 1 { cx.unsqueeze(x, &[0]) } else { Ok(x) }
}

/// `x * W' + b` with `W` `[targets, F]`.
fn linear(cx: &mut Cx<'_, '_>, targets: i64) -> Res<ValueId> {
    let x = rows(cx)?;
    let (w, b) = (floats(cx, "coefficients")?, floats(cx, "intercepts")?);
    if targets < 1 || w.len() as i64 % targets != 0 {
        return Err(Fault::attr(format!("{} coefficients for {targets} targets", w.len())));
    }
    let w = cx.table_f32(&[targets, w.len() as i64 / targets], &w)?;
    let y = cx.contract("nf,tf->nt", x, w)?;
    if b.is_empty() {
        return Ok(y);
    }
    let b = cx.table_f32(&[b.len() as i64], &b)?;
    cx.bin(BinaryOp::Add, y, b)
}

fn linear_regressor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let y = linear(cx, cx.int("targets", 1)?)?;
    one(post_transform(cx, y)?)
}

/// Labels of classes.
pub enum Labels<'m> {
    Ints(Vec<i64>),
    Texts(Vec<&'m str>),
}

impl Labels<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Labels::Ints(l) => l.len(),
            Labels::Texts(l) => l.len(),
        }
    }
    /// As a constant tensor.
    pub fn table(&self, cx: &mut Cx<'_, '_>) -> Res<ValueId> {
        let n = [self.len() as i64];
        match self {
            Labels::Ints(l) => cx.table_i64(&n, l),
            Labels::Texts(l) => cx.table_texts(&n, l),
        }
    }
}

/// Labels of that name, or the attribute `classlabels_strings`.
pub fn labels<'m>(cx: &Cx<'_, 'm>, name: &str) -> Res<Labels<'m>> {
    if let Some(l) = cx.ints(name)?.filter(|l| !l.is_empty()) {
        return Ok(Labels::Ints(l));
    }
    match cx.texts("classlabels_strings")? {
        Some(l) if !l.is_empty() => Ok(Labels::Texts(l)),
        _ => Err(Fault::attr(format!("neither `{name}` nor `classlabels_strings` is given"))),
    }
}

/// Scores `[N,2]` and index of the class of one score `[N,1]`: the second class is where it is positive.
fn of_two(cx: &mut Cx<'_, '_>, s: ValueId) -> Res<(ValueId, ValueId)> {
    let above = cx.bin_c(BinaryOp::Gt, s, 0.0)?;
    let at = cx.cast(above, DType::I64)?;
    let batch = cx.dim(at, 0)?;
    let at = cx.reshape(at, vec![batch])?;
    // As in ONNX Runtime: a softmax of one score leaves it as it is.
    let (first, second) = match cx.text("post_transform", "NONE")? {
        "LOGISTIC" => {
            let back = cx.un(UnaryOp::Neg, s)?;
            (cx.un(UnaryOp::Sigmoid, back)?, cx.un(UnaryOp::Sigmoid, s)?)
        }
        "NONE" | "SOFTMAX" | "SOFTMAX_ZERO" => {
            let unit = cx.scalar(DType::F32, 1.0)?;
            (cx.bin(BinaryOp::Sub, unit, s)?, s)
        }
        other => return Err(Fault::form(format!("`post_transform` is {other:?} for one score of two classes"))),
    };
    Ok((cx.concat(&[first, second], 1)?, at))
}

fn linear_classifier(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let labels = labels(cx, "classlabels_ints")?;
    let n = labels.len() as i64;
    if n == 2 && cx.floats("intercepts")?.is_some_and(|b| b.len() == 1) {
        let s = linear(cx, 1)?;
        let (scores, at) = of_two(cx, s)?;
        let table = labels.table(cx)?;
        return many([cx.gather(table, at, 0)?, scores]);
    }
    let y = linear(cx, n)?;
    let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: false, last: false }, &[y])?;
    let table = labels.table(cx)?;
    let label = cx.gather(table, at, 0)?;
    let scores = post_transform(cx, y)?;
    many([label, scores])
}
