// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantization, and products and convolutions of quantized numbers.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, Scalar, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::conv::{add_bias, conv_of};
use super::matmul::matmul_spec;
use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("ConvInteger", 10, 2, 4, conv_integer),
    op("DequantizeLinear", 10, 2, 3, dequantize),
    op("DynamicQuantizeLinear", 11, 1, 1, dynamic_quantize),
    op("MatMulInteger", 10, 2, 4, matmul_integer),
    op("QLinearConv", 10, 8, 9, qlinear_conv),
    op("QLinearMatMul", 10, 8, 8, qlinear_matmul),
    op("QuantizeLinear", 10, 2, 3, quantize),
];

/// Axis and block of scales: one scale in all, one an index of `axis`, or one a block of `block_size` along it.
fn blocks(cx: &mut Cx<'_, '_>, x: ValueId, scale: ValueId) -> Res<(Option<u32>, u32)> {
    let block = cx.int("block_size", 0)?;
    let rank = cx.rank(scale);
    let single = cx.ty(scale).dims.iter().all(|d| d.is(1));
    if rank == 0 || (rank == 1 && single && cx.rank(x) != 1 && block == 0) {
        return Ok((None, 1));
    }
    let axis = cx.axis_of(cx.int("axis", 1)?, cx.rank(x));
    // With one scale in all the axis says nothing.
    if single && axis.is_err() {
        return Ok((None, 1));
    }
    let axis = axis?;
    if block < 0 || block > i64::from(u32::MAX) {
        return Err(Fault::attr(format!("`block_size` is {block}, expected 0 or more")));
    }
    if block == 0 && rank != 1 {
        return Err(Fault::shape(format!("the scales are {}, expected one or a list", cx.ty(scale))));
    }
    Ok((Some(axis as u32), block.max(1) as u32))
}

/// Gives a single scale or zero point rank 0.
fn single(cx: &mut Cx<'_, '_>, v: ValueId, axis: Option<u32>) -> Res<ValueId> {
    if axis.is_none() { cx.as_scalar(v) } else { Ok(v) }
}

/// The dtype is the zero point's, or `output_dtype` (opset 21), or u8.
pub fn quantize(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.opt(2)?);
    let to = match zero {
        Some(z) => cx.dtype(z),
        None => cx.dtype_attr("output_dtype")?.unwrap_or(DType::U8),
    };
    let saturate = cx.flag("saturate", true)?;
    // The division is done in the scale's dtype unless `precision` (opset 23) names another.
    let work = cx.dtype_attr("precision")?.unwrap_or(if cx.dtype(x).is_float() { cx.dtype(x) } else { cx.dtype(scale) });
    let (axis, block) = blocks(cx, x, scale)?;
    let x = cx.cast(x, work)?;
    let scale = cx.cast(scale, work)?;
    one(quantize_of(cx, x, scale, zero, to, axis, block, saturate)?)
}

/// `round(x / scale) + zero` as `to`.
#[allow(clippy::too_many_arguments)]
pub fn quantize_of(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
    axis: Option<u32>,
    block: u32,
    saturate: bool,
) -> Res<ValueId> {
    let mut operands = vec![x, single(cx, scale, axis)?];
    if let Some(z) = zero {
        operands.push(single(cx, z, axis)?);
    }
    cx.add(Op::Quantize { to, axis, block, saturate }, &operands)
}

/// The result has the scale's dtype, or `output_dtype` (opset 23).
pub fn dequantize(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.opt(2)?);
    let to = cx.dtype_attr("output_dtype")?.unwrap_or(cx.dtype(scale));
    let (axis, block) = blocks(cx, x, scale)?;
    one(dequantize_of(cx, x, scale, zero, to, axis, block)?)
}

/// `(q - zero) * scale` as `to`.
pub fn dequantize_of(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
    axis: Option<u32>,
    block: u32,
) -> Res<ValueId> {
    let mut operands = vec![x, single(cx, scale, axis)?];
    if let Some(z) = zero {
        operands.push(single(cx, z, axis)?);
    }
    cx.add(Op::Dequantize { to, axis, block }, &operands)
}

/// Scale and zero point from the data: its range with 0 in it, over 0..255.
fn dynamic_quantize(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let (q, scale, zero) = dynamic_quantize_of(cx, x)?;
    many([q, scale, zero])
}

/// Quantized data, scale and zero point.
pub fn dynamic_quantize_of(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<(ValueId, ValueId, ValueId)> {
    let axes: Vec<u32> = (0..cx.rank(x) as u32).collect();
    let (lo, hi) = (cx.reduce(ReduceOp::Min, x, &axes, false)?, cx.reduce(ReduceOp::Max, x, &axes, false)?);
    let (lo, hi) = (cx.bin_c(BinaryOp::Min, lo, 0.0)?, cx.bin_c(BinaryOp::Max, hi, 0.0)?);
    let span = cx.bin(BinaryOp::Sub, hi, lo)?;
    let scale = cx.bin_c(BinaryOp::Div, span, 255.0)?;
    // All zeros have no range; any scale but 0 represents them.
    let none = cx.bin_c(BinaryOp::Eq, span, 0.0)?;
    let unit = cx.scalar(cx.dtype(x), 1.0)?;
    let scale = cx.select(none, unit, scale)?;
    let zero = cx.bin(BinaryOp::Div, lo, scale)?;
    let zero = cx.un(UnaryOp::Neg, zero)?;
    let zero = cx.un(UnaryOp::Round, zero)?;
    let zero = cx.bin_c(BinaryOp::Max, zero, 0.0)?;
    let zero = cx.bin_c(BinaryOp::Min, zero, 255.0)?;
    let zero = cx.cast(zero, DType::U8)?;
    let q = quantize_of(cx, x, scale, Some(zero), DType::U8, None, 1, true)?;
    Ok((q, scale, zero))
}

/// `q - zero` as i32. The zero point is one number, or one a row (`rows`) or column of a stack of matrices.
fn centered(cx: &mut Cx<'_, '_>, q: ValueId, zero: Option<ValueId>, rows: bool) -> Res<ValueId> {
    let w = cx.cast(q, DType::I32)?;
    let Some(zero) = zero else { return Ok(w) };
    let z = cx.cast(zero, DType::I32)?;
    let z = match cx.rank(z) {
        _ if cx.ty(z).dims.iter().all(|d| d.is(1)) => cx.as_scalar(z)?,
        1 if rows && cx.rank(q) > 1 => {
            let n = cx.dim(z, 0)?;
            cx.reshape(z, vec![n, 1.into()])?
        }
        _ => z,
    };
    cx.bin(BinaryOp::Sub, w, z)
}

/// Exact products of centered integers.
pub fn integer_product(cx: &mut Cx<'_, '_>, a: ValueId, b: ValueId, za: Option<ValueId>, zb: Option<ValueId>) -> Res<ValueId> {
    let spec = matmul_spec(cx.rank(a), cx.rank(b), false, false)?;
    // Equal dtypes without zero points are multiplied as they are, which machines do fastest.
    if za.is_none() && zb.is_none() && cx.dtype(a) == cx.dtype(b) {
        return cx.add(Op::Contract { spec: spec.as_str().into(), acc: DType::I32, out: DType::I32 }, &[a, b]);
    }
    let (a, b) = (centered(cx, a, za, true)?, centered(cx, b, zb, false)?);
    cx.contract(&spec, a, b)
}

fn matmul_integer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (za, zb) = (cx.opt(2)?, cx.opt(3)?);
    one(integer_product(cx, a, b, za, zb)?)
}

/// Centered operands of a convolution: the input's zero point is one number, the filter's may be one a filter.
fn conv_centered(cx: &mut Cx<'_, '_>, x: ValueId, w: ValueId, zx: Option<ValueId>, zw: Option<ValueId>) -> Res<ValueId> {
    let x = centered(cx, x, zx, false)?;
    let zw = match zw {
        Some(z) if cx.rank(z) == 1 && !cx.dim(z, 0)?.is(1) => {
            let mut dims = vec![cx.dim(z, 0)?];
            dims.extend((1..cx.rank(w)).map(|_| SymExpr::from(1)));
            Some(cx.reshape(z, dims)?)
        }
        z => z,
    };
    let w = centered(cx, w, zw, false)?;
    conv_of(cx, x, w)
}

fn conv_integer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (zx, zw) = (cx.opt(2)?, cx.opt(3)?);
    one(conv_centered(cx, x, w, zx, zw)?)
}

/// Scales an exact integer result by `a * b / y` and quantizes it.
fn requantize(cx: &mut Cx<'_, '_>, sum: ValueId, a: ValueId, b: ValueId, y: ValueId, zero: ValueId) -> Res<ValueId> {
    let work = if cx.dtype(a) == DType::F64 { DType::F64 } else { DType::F32 };
    let (a, b, y) = (cx.cast(a, work)?, cx.cast(b, work)?, cx.cast(y, work)?);
    let factor = cx.bin(BinaryOp::Mul, a, b)?;
    let factor = cx.bin(BinaryOp::Div, factor, y)?;
    let real = cx.cast(sum, work)?;
    let real = cx.bin(BinaryOp::Mul, real, factor)?;
    let one = cx.scalar_bits(Scalar::one(work))?;
    let to = cx.dtype(zero);
    quantize_of(cx, real, one, Some(zero), to, None, 1, true)
}

/// Scales of rows get a last dim, so that they meet rows.
fn row_scale(cx: &mut Cx<'_, '_>, s: ValueId) -> Res<ValueId> {
    if cx.ty(s).dims.iter().all(|d| d.is(1)) {
        return cx.as_scalar(s);
    }
    if cx.rank(s) == 1 {
        let n = cx.dim(s, 0)?;
        return cx.reshape(s, vec![n, 1.into()]);
    }
    Ok(s)
}

fn qlinear_matmul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let i = cx.all_inputs()?;
    let &[a, sa, za, b, sb, zb, sy, zy] = i.as_slice() else {
        return Err(Fault::shape("8 inputs are expected"));
    };
    let sum = integer_product(cx, a, b, Some(za), Some(zb))?;
    let sa = row_scale(cx, sa)?;
    let sb = if cx.ty(sb).dims.iter().all(|d| d.is(1)) { cx.as_scalar(sb)? } else { sb };
    let sy = cx.as_scalar(sy)?;
    one(requantize(cx, sum, sa, sb, sy, zy)?)
}

fn qlinear_conv(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(qlinear_conv_of(cx, x)?)
}

/// The convolution of `x` that the node's other inputs and its attributes say.
pub fn qlinear_conv_of(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
    let (sx, zx) = (cx.input(1)?, cx.input(2)?);
    let (w, sw, zw) = (cx.input(3)?, cx.input(4)?, cx.input(5)?);
    let (sy, zy, bias) = (cx.input(6)?, cx.input(7)?, cx.opt(8)?);
    let mut sum = conv_centered(cx, x, w, Some(zx), Some(zw))?;
    if let Some(b) = bias {
        sum = add_bias(cx, sum, b)?;
    }
    let (sx, sy) = (cx.as_scalar(sx)?, cx.as_scalar(sy)?);
    let sw = if cx.ty(sw).dims.iter().all(|d| d.is(1)) {
        cx.as_scalar(sw)?
    } else {
        let mut dims = vec![cx.ty(sw).elems()];
        dims.extend((2..cx.rank(x)).map(|_| SymExpr::from(1)));
        cx.reshape(sw, dims)?
    };
    requantize(cx, sum, sx, sw, sy, zy)
}
