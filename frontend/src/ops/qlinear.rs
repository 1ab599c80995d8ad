// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantized forms of ordinary operators (`com.microsoft`): brought to real numbers, computed, and quantized again.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::conv::{add_bias, conv_of};
use super::quant::{dequantize_of, quantize_of};
use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("FusedConv", 1, 2, 4, fused_conv),
    op("QGemm", 1, 6, 9, gemm),
    op("QLinearAdd", 1, 7, 8, add),
    op("QLinearAveragePool", 1, 4, 5, average_pool),
    op("QLinearConcat", 1, 5, MANY, concat),
    op("QLinearGlobalAveragePool", 1, 4, 5, global_average_pool),
    op("QLinearLeakyRelu", 1, 4, 5, leaky_relu),
    op("QLinearMul", 1, 7, 8, mul),
    op("QLinearSigmoid", 1, 4, 5, sigmoid),
    op("QLinearSoftmax", 1, 5, 5, softmax),
];

/// Real numbers of the quantized input `i`, whose scale and zero point follow it.
fn real(cx: &mut Cx<'_, '_>, i: usize) -> Res<ValueId> {
    let (x, s, z) = (cx.input(i)?, cx.input(i + 1)?, cx.opt(i + 2)?);
    let to = cx.dtype(s);
    dequantize_of(cx, x, s, z, to, None, 1)
}

/// Quantizes by inputs `i` (scale) and `i + 1` (zero point), to the dtype of `like` where there is no zero point.
fn quantized(cx: &mut Cx<'_, '_>, y: ValueId, i: usize, like: usize) -> Res<Vec<Slot>> {
    let (s, z) = (cx.input(i)?, cx.opt(i + 1)?);
    let to = match z {
        Some(z) => cx.dtype(z),
        None => cx.dtype(cx.input(like)?),
    };
    one(quantize_of(cx, y, s, z, to, None, 1, true)?)
}

fn binary(cx: &mut Cx<'_, '_>, op: BinaryOp) -> Res<Vec<Slot>> {
    let (a, b) = (real(cx, 0)?, real(cx, 3)?);
    let y = cx.bin(op, a, b)?;
    quantized(cx, y, 6, 0)
}
fn add(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    binary(cx, BinaryOp::Add)
}
fn mul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    binary(cx, BinaryOp::Mul)
}
fn sigmoid(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let y = cx.un(UnaryOp::Sigmoid, x)?;
    quantized(cx, y, 3, 0)
}
fn leaky_relu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let alpha = cx.float("alpha", 0.01f32.into())?;
    let (scaled, below) = (cx.bin_c(BinaryOp::Mul, x, alpha)?, cx.bin_c(BinaryOp::Lt, x, 0.0)?);
    let y = cx.select(below, scaled, x)?;
    quantized(cx, y, 3, 0)
}
fn softmax(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let axis = cx.axis(x, -1)?;
    if cx.int("opset", 13)? < 13 && axis + 1 != cx.rank(x) {
        return Err(Fault::form("the form of opset 12 over several dims is not taken"));
    }
    let y = cx.add(Op::Softmax { axis: axis as u32 }, &[x])?;
    quantized(cx, y, 3, 0)
}
fn planes_first(cx: &Cx<'_, '_>) -> Res<()> {
    if cx.flag("channels_last", false)? { Err(Fault::form("`channels_last` is set; channels before planes are taken")) } else { Ok(()) }
}
fn global_average_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    planes_first(cx)?;
    let x = real(cx, 0)?;
    let axes: Vec<u32> = (2..cx.want_rank(x, 2..=usize::MAX)? as u32).collect();
    let y = cx.reduce(ReduceOp::Mean, x, &axes, true)?;
    quantized(cx, y, 3, 0)
}
fn average_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    planes_first(cx)?;
    let x = real(cx, 0)?;
    let count_pad = cx.flag("count_include_pad", false)?;
    let y = super::pool::pool(cx, ReduceOp::Mean, x, count_pad)?;
    quantized(cx, y, 3, 0)
}

/// Scale and zero point of the result come first, then three inputs a part.
fn concat(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let n = cx.slots.len();
    if n % 3 != 2 {
        return Err(Fault::shape(format!("{n} inputs, expected two and three a part")));
    }
    let parts = (2..n).step_by(3).map(|i| real(cx, i)).collect::<Res<Vec<_>>>()?;
    let axis = cx.axis_of(cx.need_int("axis")?, cx.rank(parts[0]))?;
    let y = cx.concat(&parts, axis)?;
    quantized(cx, y, 0, 2)
}

/// `(A' - za) (B' - zb) + C` in integers, times `alpha` and both scales; quantized if there is a scale for that.
fn gemm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, sa, za) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (b, sb, zb) = (cx.input(3)?, cx.input(4)?, cx.input(5)?);
    let bias = cx.opt(6)?;
    cx.want_rank(a, 2..=2)?;
    cx.want_rank(b, 2..=2)?;
    let a = if cx.flag("transA", false)? { cx.transpose(a, &[1, 0])? } else { a };
    let b = if cx.flag("transB", false)? { cx.transpose(b, &[1, 0])? } else { b };
    let mut sum = super::quant::integer_product(cx, a, b, Some(za), Some(zb))?;
    if let Some(c) = bias {
        sum = cx.bin(BinaryOp::Add, sum, c)?;
    }
    let y = cx.cast(sum, DType::F32)?;
    let sa = cx.as_scalar(sa)?;
    let s = cx.bin(BinaryOp::Mul, sa, sb)?;
    let alpha = cx.float("alpha", 1.0)?;
    let s = if alpha == 1.0 { s } else { cx.bin_c(BinaryOp::Mul, s, alpha)? };
    let y = cx.bin(BinaryOp::Mul, y, s)?;
    if cx.opt(7)?.is_some() { quantized(cx, y, 7, 0) } else { one(y) }
}

/// A convolution, perhaps a tensor added to it, and an activation.
fn fused_conv(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (bias, more) = (cx.opt(2)?, cx.opt(3)?);
    let mut y = conv_of(cx, x, w)?;
    if let Some(b) = bias {
        y = add_bias(cx, y, b)?;
    }
    if let Some(z) = more {
        y = cx.bin(BinaryOp::Add, y, z)?;
    }
    let p = cx.floats("activation_params")?.unwrap_or_default();
    let param = |i: usize| p.get(i).copied().ok_or_else(|| Fault::attr("`activation_params` are missing"));
    one(match cx.text("activation", "")? {
        "" => y,
        "Relu" => cx.bin_c(BinaryOp::Max, y, 0.0)?,
        "Tanh" => cx.un(UnaryOp::Tanh, y)?,
        "Sigmoid" => cx.un(UnaryOp::Sigmoid, y)?,
        "LeakyRelu" => {
            let (scaled, below) = (cx.bin_c(BinaryOp::Mul, y, param(0)?)?, cx.bin_c(BinaryOp::Lt, y, 0.0)?);
            cx.select(below, scaled, y)?
        }
        "Clip" => {
            let y = cx.bin_c(BinaryOp::Max, y, param(0)?)?;
            cx.bin_c(BinaryOp::Min, y, param(1)?)?
        }
        "HardSigmoid" => {
            let y = cx.bin_c(BinaryOp::Mul, y, param(0)?)?;
            let y = cx.bin_c(BinaryOp::Add, y, param(1)?)?;
            let y = cx.bin_c(BinaryOp::Max, y, 0.0)?;
            cx.bin_c(BinaryOp::Min, y, 1.0)?
        }
        other => return Err(Fault::form(format!("the activation {other:?} is not taken"))),
    })
}
