// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `com.microsoft` that exporters and quantizers write.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, ValueId};

use super::activation::swish_of;
use super::attention::rotary_of;
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
    op("Gelu", 1, 1, 1, gelu),
    op("MatMulIntegerToFloat", 1, 4, 7, matmul_integer_to_float),
    op("MRotaryEmbedding", 1, 4, 4, rotary_of_three),
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

/// Heads of `[B,S,H*D]`: those of the attribute, or as many as the tables of angles are wide.
fn rotary_heads(cx: &Cx<'_, '_>, x: ValueId, table: ValueId) -> Res<i64> {
    // No kernel of ONNX Runtime looks at its value, so that it says nothing certain.
    let scale = cx.float("scale", 1.0)?;
    if scale != 1.0 {
        return Err(Fault::form(format!("`scale` is {scale}; 1 is taken")));
    }
    cx.want_rank(table, 2..=2)?;
    let heads = cx.int("num_heads", 0)?;
    if heads != 0 || cx.rank(x) != 3 {
        return Ok(heads);
    }
    match (cx.dim(table, 1)?.as_const(), cx.dim(x, 2)?.as_const()) {
        (Some(h), Some(w)) if h > 0 => Ok(w / (2 * h)),
        _ => Err(Fault::attr("attribute `num_heads` is missing")),
    }
}

/// Positions are an offset for all, or one a token. Batches that are packed differ in their positions alone.
fn rotary(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, ids) = (cx.input(0)?, cx.input(1)?);
    let tables = [cx.input(2)?, cx.input(3)?];
    let (interleaved, dims) = (cx.flag("interleaved", false)?, cx.int("rotary_embedding_dim", 0)?);
    let heads = rotary_heads(cx, x, tables[0])?;
    let ids = if cx.rank(ids) == 1 {
        let steps = if cx.rank(x) == 3 { cx.dim(x, 1)? } else { cx.dim(x, 2)? };
        let start = cx.as_scalar(ids)?;
        let at = cx.iota(cx.dtype(start), 1, vec![1.into(), steps])?;
        cx.bin(BinaryOp::Add, at, start)?
    } else {
        ids
    };
    one(rotary_of(cx, x, tables, Some(ids), interleaved, dims, heads)?)
}

/// Angles of a token from three positions, `[3,B,S]`: `mrope_section` says how many columns of the tables follow each of them, one section
/// behind the other or in turn.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.MRotaryEmbedding`, version 1.
fn rotary_of_three(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, ids) = (cx.input(0)?, cx.input(1)?);
    let tables = [cx.input(2)?, cx.input(3)?];
    cx.want_rank(ids, 3..=3)?;
    let heads = rotary_heads(cx, x, tables[0])?;
    let Some(half) = cx.dim(tables[0], 1)?.as_const() else { return Err(Fault::form("the table of angles has no fixed width")) };
    let sections = cx.ints("mrope_section")?.unwrap_or_default();
    let &[_, h, w] = sections.as_slice() else {
        return Err(Fault::attr(format!("`mrope_section` is {sections:?}, expected three numbers")));
    };
    if sections.iter().any(|s| *s < 0) || sections.iter().sum::<i64>() != half {
        return Err(Fault::attr(format!("`mrope_section` is {sections:?}, expected three numbers from 0 on with the sum {half}")));
    }
    let stream: Box<dyn Fn(i64) -> usize> = match cx.int("mrope_layout", 0)? {
        0 => Box::new(move |c| usize::from(c >= half - w - h) + usize::from(c >= half - w)),
        1 => Box::new(move |c| match c % 3 {
            1 if c < 3 * h => 1,
            2 if c < 3 * w => 2,
            _ => 0,
        }),
        other => return Err(Fault::attr(format!("`mrope_layout` is {other}, expected 0 or 1"))),
    };
    let mut angles = Vec::new();
    for table in tables {
        let all = cx.gather(table, ids, 0)?;
        let parts = cx.split(all, 0, &[1.into(), 1.into(), 1.into()])?;
        let dims = cx.dims(parts[0])[1..].to_vec();
        let parts = parts.into_iter().map(|p| cx.reshape(p, dims.clone())).collect::<Res<Vec<_>>>()?;
        let mut y = parts[0];
        for (i, &part) in parts.iter().enumerate().skip(1) {
            let own: Vec<f64> = (0..half).map(|c| f64::from(u8::from(stream(c) == i))).collect();
            let own = cx.numbers(DType::Bool, &[half], &own)?;
            y = cx.select(own, part, y)?;
        }
        angles.push(y);
    }
    let (interleaved, dims) = (cx.flag("interleaved", false)?, cx.int("rotary_embedding_dim", 0)?);
    one(rotary_of(cx, x, [angles[0], angles[1]], None, interleaved, dims, heads)?)
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

/// As [`dynamic_lstm`] with sequence lengths, peepholes, clipping or other activations: weights are brought back to real numbers, and neither
/// inputs nor states are rounded.
fn dynamic_lstm_of_floats(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    for (weight, scale) in [(1, 8), (2, 10)] {
        let (q, s, z) = (cx.input(weight)?, cx.input(scale)?, cx.input(scale + 1)?);
        cx.want_rank(q, 3..=3)?;
        let d = cx.dims(q);
        let spread = |cx: &mut Cx<'_, '_>, v: ValueId| {
            let last = if cx.rank(v) == 1 { 1.into() } else { d[2].clone() };
            let v = cx.cast(v, DType::F32)?;
            cx.reshape(v, vec![d[0].clone(), 1.into(), last])
        };
        let (s, z, q) = (spread(cx, s)?, spread(cx, z)?, cx.cast(q, DType::F32)?);
        let w = cx.bin(BinaryOp::Sub, q, z)?;
        let w = cx.bin(BinaryOp::Mul, w, s)?;
        cx.slots[weight] = Slot::Value(cx.transpose(w, &[0, 2, 1])?);
    }
    cx.slots.truncate(8);
    super::recurrent::lstm(cx)
}

/// An LSTM with 8-bit weights `[D, I, 4H]`, one scale a direction (or one a column). Its inputs are rounded to 8 bits, all steps by one
/// scale, and so is the state of each row at each step, so that all products are of bytes.
fn dynamic_lstm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let usual = ["Sigmoid", "Tanh", "Tanh"];
    let named = cx.texts("activations")?.unwrap_or_default();
    let same = named.iter().zip(usual.iter().cycle()).all(|(a, b)| a.eq_ignore_ascii_case(b));
    let clips = cx.float_opt("clip")?.is_some_and(|c| c > 0.0);
    if !same || clips || cx.flag("input_forget", false)? || cx.opt(4)?.is_some() || cx.opt(7)?.is_some() {
        return dynamic_lstm_of_floats(cx);
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
