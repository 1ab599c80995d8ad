// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `com.microsoft` that exporters and quantizers write.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::activation::swish_of;
use super::attention::rotary_of;
use super::matmul::matmul_spec;
use super::norm::{layer_norm_of, rms_norm_of};
use super::quant::{dynamic_quantize_of, integer_product};
use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("BiasGelu", 1, 2, 2, bias_gelu),
    op("DequantizeLinear", 1, 2, 3, super::quant::dequantize),
    op("DynamicQuantizeLSTM", 1, 12, 12, dynamic_lstm),
    op("DynamicQuantizeMatMul", 1, 3, 5, dynamic_matmul),
    op("FastGelu", 1, 1, 2, fast_gelu),
    op("FusedGemm", 1, 2, 3, fused_gemm),
    op("FusedMatMul", 1, 2, 2, fused_matmul),
    op("Gelu", 1, 1, 1, gelu),
    op("MatMulIntegerToFloat", 1, 4, 7, matmul_integer_to_float),
    op("QuantizeLinear", 1, 2, 3, super::quant::quantize),
    op("QuickGelu", 1, 1, 1, quick_gelu),
    op("RotaryEmbedding", 1, 4, 4, rotary),
    op("SimplifiedLayerNormalization", 1, 2, 2, simplified_layer_norm),
    op("SkipLayerNormalization", 1, 3, 5, skip_layer_norm),
    op("SkipSimplifiedLayerNormalization", 1, 3, 4, skip_simplified_layer_norm),
];

fn gelu_of(cx: &mut Cx<'_, '_>, x: ValueId, tanh: bool) -> Res<ValueId> {
    cx.add(Op::Gelu { tanh }, &[x])
}
fn gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(gelu_of(cx, x, false)?)
}
fn bias_gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, b) = (cx.input(0)?, cx.input(1)?);
    let x = cx.bin(BinaryOp::Add, x, b)?;
    one(gelu_of(cx, x, false)?)
}
fn fast_gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let mut x = cx.input(0)?;
    if let Some(b) = cx.opt(1)? {
        x = cx.bin(BinaryOp::Add, x, b)?;
    }
    one(gelu_of(cx, x, true)?)
}
fn quick_gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let alpha = cx.float("alpha", 1.702f32.into())?;
    let x = cx.input(0)?;
    one(swish_of(cx, x, alpha)?)
}

/// `alpha * A' * B'`; `transBatchA` and `transBatchB` are not written by exporters.
fn fused_matmul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if cx.flag("transBatchA", false)? || cx.flag("transBatchB", false)? {
        return Err(Fault::form("transposed batches are not taken"));
    }
    let spec = matmul_spec(cx.rank(a), cx.rank(b), cx.flag("transA", false)?, cx.flag("transB", false)?)?;
    let y = cx.contract(&spec, a, b)?;
    let alpha = cx.float("alpha", 1.0)?;
    one(if alpha == 1.0 { y } else { cx.bin_c(BinaryOp::Mul, y, alpha)? })
}

fn fused_gemm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let y = super::matmul::gemm_of(cx)?;
    let op = match cx.text("activation", "")? {
        "" => return one(y),
        "Relu" => return one(cx.bin_c(BinaryOp::Max, y, 0.0)?),
        "Tanh" => UnaryOp::Tanh,
        "Sigmoid" => UnaryOp::Sigmoid,
        other => return Err(Fault::form(format!("the activation {other:?} is not taken"))),
    };
    one(cx.un(op, y)?)
}

// ---- norms ----

fn simplified_layer_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(x, -1)?;
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    one(rms_norm_of(cx, x, scale, axis, eps)?)
}

/// Adds the skip and perhaps a bias; output 3 is the sum.
fn skip_sum(cx: &mut Cx<'_, '_>, bias: usize) -> Res<(ValueId, usize)> {
    if cx.wants(1) || cx.wants(2) {
        return Err(Fault::form("mean and deviation are asked for; only the result and the sum are computed"));
    }
    let (x, skip) = (cx.input(0)?, cx.input(1)?);
    let mut sum = cx.bin(BinaryOp::Add, x, skip)?;
    if let Some(b) = cx.opt(bias)? {
        sum = cx.bin(BinaryOp::Add, sum, b)?;
    }
    let axis = cx.rank(sum).checked_sub(1).ok_or_else(|| Fault::shape("the input is a scalar"))?;
    Ok((sum, axis))
}
fn with_sum(y: ValueId, sum: ValueId) -> Vec<Slot> {
    vec![Slot::Value(y), Slot::Absent, Slot::Absent, Slot::Value(sum)]
}
fn skip_layer_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (sum, axis) = skip_sum(cx, 4)?;
    let (scale, bias) = (cx.input(2)?, cx.opt(3)?);
    let eps = cx.float("epsilon", 1e-12f32.into())?;
    let y = layer_norm_of(cx, sum, Some(scale), bias, axis, eps)?;
    Ok(with_sum(y, sum))
}
fn skip_simplified_layer_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (sum, axis) = skip_sum(cx, 3)?;
    let scale = cx.input(2)?;
    let eps = cx.float("epsilon", 1e-12f32.into())?;
    let y = rms_norm_of(cx, sum, scale, axis, eps)?;
    Ok(with_sum(y, sum))
}

// ---- attention ----

/// Positions are an offset for all, or one a token.
fn rotary(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, ids) = (cx.input(0)?, cx.input(1)?);
    let tables = [cx.input(2)?, cx.input(3)?];
    let (interleaved, dims) = (cx.flag("interleaved", false)?, cx.int("rotary_embedding_dim", 0)?);
    let mut heads = cx.int("num_heads", 0)?;
    if heads == 0 && cx.rank(x) == 3 {
        // Without a number of heads the tables tell the head size.
        let half = cx.dim(tables[0], 1)?.as_const();
        let width = cx.dim(x, 2)?.as_const();
        heads = match (half, width) {
            (Some(h), Some(w)) if h > 0 => w / (2 * h),
            _ => return Err(Fault::attr("attribute `num_heads` is missing")),
        };
    }
    let ids = if cx.ty(ids).elems().is(1) {
        let steps = if cx.rank(x) == 3 { cx.dim(x, 1)? } else { cx.dim(x, 2)? };
        let start = cx.as_scalar(ids)?;
        let at = cx.iota(cx.dtype(start), 1, vec![1.into(), steps])?;
        cx.bin(BinaryOp::Add, at, start)?
    } else {
        ids
    };
    one(rotary_of(cx, x, tables, Some(ids), interleaved, dims, heads)?)
}

// ---- quantized products ----

/// Scales an exact integer product back to real numbers and adds a bias.
pub fn to_real(cx: &mut Cx<'_, '_>, sum: ValueId, sa: ValueId, sb: ValueId, bias: Option<ValueId>) -> Res<ValueId> {
    let real = cx.cast(sum, cx.dtype(sa))?;
    let s = cx.bin(BinaryOp::Mul, sa, sb)?;
    let mut y = cx.bin(BinaryOp::Mul, real, s)?;
    if let Some(b) = bias {
        y = cx.bin(BinaryOp::Add, y, b)?;
    }
    Ok(y)
}

fn dynamic_matmul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, b, sb) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (zb, bias) = (cx.opt(3)?, cx.opt(4)?);
    let (q, s, z) = dynamic_quantize_of(cx, x)?;
    let sum = integer_product(cx, q, b, Some(z), zb)?;
    one(to_real(cx, sum, s, sb, bias)?)
}

fn matmul_integer_to_float(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (sa, sb) = (cx.input(2)?, cx.input(3)?);
    let (za, zb, bias) = (cx.opt(4)?, cx.opt(5)?, cx.opt(6)?);
    let sum = integer_product(cx, a, b, za, zb)?;
    one(to_real(cx, sum, sa, sb, bias)?)
}

/// An LSTM with 8-bit weights `[D, I, 4H]`, one scale a direction (or one a column). Its inputs are rounded to 8 bits, all steps by one
/// scale, and so is the state of each row at each step, so that all products are of bytes.
fn dynamic_lstm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    if cx.opt(4)?.is_some() || cx.opt(7)?.is_some() {
        return Err(Fault::form("sequence lengths and peephole weights are not taken"));
    }
    let direction = match cx.text("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => return Err(Fault::attr(format!("`direction` is {other:?}"))),
    };
    let dtype = cx.dtype(x);
    let (w, r) = (cx.input(1)?, cx.input(2)?);
    cx.want_rank(x, 3..=3)?;
    cx.want_rank(w, 3..=3)?;
    cx.want_rank(r, 3..=3)?;
    let (d, input, hidden) = (cx.dim(w, 0)?, cx.dim(w, 1)?, cx.dim(r, 1)?);
    let (steps, batch) = (cx.dim(x, 0)?, cx.dim(x, 1)?);
    let (rows, columns) = (hidden.clone() * 4, &d * &hidden * 4);
    // One number a direction, or one a column, for each column.
    let spread = |cx: &mut Cx<'_, '_>, i: usize| -> Res<ValueId> {
        let v = cx.input(i)?;
        let v = match cx.rank(v) {
            1 => cx.unsqueeze(v, &[1])?,
            _ => v,
        };
        cx.broadcast(v, vec![d.clone(), rows.clone()])
    };
    let flat = |cx: &mut Cx<'_, '_>, v: ValueId| cx.reshape(v, vec![columns.clone()]);

    // What inputs and biases give the gates: one product for all steps.
    let two = cx.reshape(x, vec![&steps * &batch, input.clone()])?;
    let (q, unit, zero) = dynamic_quantize_of(cx, two)?;
    let turned = cx.transpose(w, &[1, 0, 2])?;
    let turned = cx.reshape(turned, vec![input, columns.clone()])?;
    let (scales, zeros) = (spread(cx, 8)?, spread(cx, 9)?);
    let (scales, zeros) = (flat(cx, scales)?, flat(cx, zeros)?);
    let sum = integer_product(cx, q, turned, Some(zero), Some(zeros))?;
    let bias = match cx.opt(3)? {
        Some(b) => {
            let parts = cx.split(b, 1, &[rows.clone(), rows.clone()])?;
            let sum = cx.bin(BinaryOp::Add, parts[0], parts[1])?;
            Some(flat(cx, sum)?)
        }
        None => None,
    };
    let given = to_real(cx, sum, unit, scales, bias)?;
    let given = cx.reshape(given, vec![steps, batch.clone(), d.clone(), 4.into(), hidden.clone()])?;

    // Recurrent weights as signed bytes; a zero point follows its weights.
    let (scales, zeros) = (spread(cx, 10)?, spread(cx, 11)?);
    let mut zeros = cx.cast(zeros, DType::I32)?;
    let mut wide = cx.cast(r, DType::I32)?;
    let mut bytes = r;
    if cx.dtype(r) != DType::I8 {
        wide = cx.bin_c(BinaryOp::Sub, wide, 128.0)?;
        zeros = cx.bin_c(BinaryOp::Sub, zeros, 128.0)?;
        bytes = cx.cast(wide, DType::I8)?;
    }
    let sums = cx.reduce(ReduceOp::Sum, wide, &[1], false)?;
    let gates = vec![d.clone(), 4.into(), hidden.clone()];
    let bytes = cx.reshape(bytes, vec![d.clone(), 1.into(), hidden.clone(), 4.into(), hidden.clone()])?;
    let (scales, zeros) = (cx.reshape(scales, gates.clone())?, cx.reshape(zeros, gates.clone())?);
    let sums = cx.reshape(sums, gates)?;
    let state = vec![d, batch, hidden];
    let mut states = Vec::new();
    for i in [5, 6] {
        states.push(match cx.opt(i)? {
            Some(v) => v,
            None => cx.fill(dtype, 0.0, state.clone())?,
        });
    }
    many(cx.add_all(Op::LstmByteSteps { direction, group: 1 }, &[given, bytes, states[0], states[1], scales, zeros, sums])?)
}
