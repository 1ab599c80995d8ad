// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random numbers. They come from a counter-based generator, so that a model gives the same numbers on every machine; without a seed of
//! its own a node takes one from its path.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Op, Scalar, UnaryOp, ValueId};

use super::{Entry, op};
use crate::cx::{Cx, Res, exprs_of, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("Bernoulli", 15, 1, 1, bernoulli),
    op("Multinomial", 7, 1, 1, multinomial),
    op("RandomNormal", 1, 0, 0, normal),
    op("RandomNormalLike", 1, 1, 1, normal),
    op("RandomUniform", 1, 0, 0, uniform),
    op("RandomUniformLike", 1, 1, 1, uniform),
];

/// Seed of a node: that of its attribute, or its path's.
pub fn seed(cx: &Cx<'_, '_>) -> Res<u64> {
    Ok(match cx.float_opt("seed")? {
        Some(s) => s.to_bits(),
        // FNV-1a of the path.
        None => cx.path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)),
    })
}

/// Dims and dtype: of the attributes, or of the input for the `Like` forms.
fn form(cx: &mut Cx<'_, '_>) -> Res<(DType, Dims)> {
    let like = cx.opt(0)?;
    let dims = match like {
        Some(x) => cx.dims(x),
        None => exprs_of(&cx.ints("shape")?.ok_or_else(|| Fault::attr("attribute `shape` is missing"))?),
    };
    if dims.iter().any(|d| d.as_const().is_some_and(|d| d < 0)) {
        return Err(Fault::attr("`shape` has a negative dim"));
    }
    let own = like.map(|x| cx.dtype(x)).filter(|d| d.is_float());
    let dtype = cx.dtype_attr("dtype")?.or(own).unwrap_or(DType::F32);
    if !dtype.is_float() {
        return Err(Fault::attr(format!("`dtype` is {dtype}, expected a floating-point dtype")));
    }
    Ok((dtype, dims))
}

/// Uniform numbers in `low..high`.
pub fn draw(cx: &mut Cx<'_, '_>, dtype: DType, low: f64, high: f64, seed: u64, dims: Dims) -> Res<ValueId> {
    let f = |v| Scalar::from_f64(dtype, v);
    cx.add(Op::RandomUniform { dtype, low: f(low), high: f(high), seed, dims }, &[])
}

fn uniform(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (dtype, dims) = form(cx)?;
    let (low, high, seed) = (cx.float("low", 0.0)?, cx.float("high", 1.0)?, seed(cx)?);
    one(draw(cx, dtype, low, high, seed, dims)?)
}

/// Box-Muller: `sqrt(-2 ln u) * cos(2 pi v)` of two uniform numbers.
fn normal(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (dtype, dims) = form(cx)?;
    let (mean, scale, seed) = (cx.float("mean", 0.0)?, cx.float("scale", 1.0)?, seed(cx)?);
    let work = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    // 1 - u is never 0.
    let u = draw(cx, work, 0.0, 1.0, seed, dims.clone())?;
    let unit = cx.scalar(work, 1.0)?;
    let u = cx.bin(BinaryOp::Sub, unit, u)?;
    let v = draw(cx, work, 0.0, std::f64::consts::TAU, seed ^ 0x9e37_79b9_7f4a_7c15, dims)?;
    let r = cx.un(UnaryOp::Log, u)?;
    let r = cx.bin_c(BinaryOp::Mul, r, -2.0)?;
    let r = cx.un(UnaryOp::Sqrt, r)?;
    let c = cx.un(UnaryOp::Cos, v)?;
    let y = cx.bin(BinaryOp::Mul, r, c)?;
    let y = cx.bin_c(BinaryOp::Mul, y, scale)?;
    let y = cx.bin_c(BinaryOp::Add, y, mean)?;
    one(cx.cast(y, dtype)?)
}

fn bernoulli(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let p = cx.input(0)?;
    let (dtype, dims, seed) = (cx.dtype(p), cx.dims(p), seed(cx)?);
    let to = cx.dtype_attr("dtype")?.unwrap_or(dtype);
    // A narrow number may round up to 1, and is too coarse for small probabilities.
    let work = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let p = cx.cast(p, work)?;
    let u = draw(cx, work, 0.0, 1.0, seed, dims)?;
    let hit = cx.bin(BinaryOp::Lt, u, p)?;
    one(cx.cast(hit, to)?)
}

/// The first class whose summed probability exceeds a uniform number.
fn multinomial(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    cx.want_rank(x, 2..=2)?;
    let (n, seed) = (cx.int("sample_size", 1)?, seed(cx)?);
    if !(0..=1 << 32).contains(&n) {
        return Err(Fault::attr(format!("`sample_size` is {n}")));
    }
    let to = cx.dtype_attr("dtype")?.unwrap_or(DType::I32);
    let x = cx.cast(x, DType::F32)?;
    let p = cx.add(Op::Softmax { axis: 1 }, &[x])?;
    let sums = cx.add(Op::Scan { op: portwright_ir::graph::ReduceOp::Sum, axis: 1, exclusive: false, reverse: false }, &[p])?;
    let (batch, classes) = (cx.dim(x, 0)?, cx.dim(x, 1)?);
    let u = draw(cx, DType::F32, 0.0, 1.0, seed, vec![batch, n.into(), 1.into()])?;
    let sums = cx.unsqueeze(sums, &[1])?;
    let below = cx.bin(BinaryOp::Le, sums, u)?;
    let below = cx.cast(below, DType::I64)?;
    let count = cx.reduce(portwright_ir::graph::ReduceOp::Sum, below, &[2], false)?;
    // Sums that end short of 1 by rounding must not point beyond the last class.
    let last = cx.number_of(classes - 1, DType::I64)?;
    let class = cx.bin(BinaryOp::Min, count, last)?;
    one(cx.cast(class, to)?)
}
