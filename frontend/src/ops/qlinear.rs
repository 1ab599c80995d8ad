// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantized forms of ordinary operators (`com.microsoft`): brought to real numbers, computed, and quantized again.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};
use portwright_ir::sym::product;

use super::fused::channels_last;
use super::quant::{dequantize_of, quantize_of};
use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("QGemm", 1, 6, 9, gemm),
    op("QLinearAdd", 1, 7, 8, add),
    op("QLinearAveragePool", 1, 4, 5, average_pool),
    op("QLinearConcat", 1, 5, MANY, concat),
    op("QLinearConv", 1, 8, 9, conv),
    op("QLinearGlobalAveragePool", 1, 4, 5, global_average_pool),
    op("QLinearLeakyRelu", 1, 4, 5, leaky_relu),
    op("QLinearMul", 1, 7, 8, mul),
    op("QLinearReduceMean", 1, 4, 5, reduce_mean),
    op("QLinearSigmoid", 1, 4, 5, sigmoid),
    op("QLinearSoftmax", 1, 5, 5, softmax),
    op("QLinearWhere", 1, 9, 9, choose),
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
/// Before opset 13 all dims from the axis on are one.
fn softmax(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let axis = cx.axis(x, -1)?;
    let y = if cx.need_int("opset")? < 13 {
        let d = cx.dims(x);
        let rows = cx.reshape(x, vec![product(&d[..axis]), product(&d[axis..])])?;
        let y = cx.add(Op::Softmax { axis: 1 }, &[rows])?;
        cx.reshape(y, d)?
    } else {
        cx.add(Op::Softmax { axis: axis as u32 }, &[x])?
    };
    quantized(cx, y, 3, 0)
}
fn global_average_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let rank = cx.want_rank(x, 3..=usize::MAX)? as u32;
    let first = if cx.flag("channels_last", false)? { 1 } else { 2 };
    let axes: Vec<u32> = (first..first + rank - 2).collect();
    let y = cx.reduce(ReduceOp::Mean, x, &axes, true)?;
    quantized(cx, y, 3, 0)
}
fn average_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let count_pad = cx.flag("count_include_pad", false)?;
    let y = channels_last(cx, x, cx.flag("channels_last", false)?, |cx, x| super::pool::pool(cx, ReduceOp::Mean, x, count_pad))?;
    quantized(cx, y, 3, 0)
}
fn reduce_mean(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = real(cx, 0)?;
    let rank = cx.rank(x);
    let axes = match cx.ints("axes")?.filter(|a| !a.is_empty()) {
        Some(a) => cx.axes_of(&a, rank)?,
        None => (0..rank as u32).collect(),
    };
    let y = cx.reduce(ReduceOp::Mean, x, &axes, cx.flag("keepdims", true)?)?;
    quantized(cx, y, 3, 0)
}
/// `X` where the condition holds, else `Y`, each with a scale of its own.
fn choose(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (cond, x, y) = (cx.input(0)?, real(cx, 1)?, real(cx, 4)?);
    let z = cx.select(cond, x, y)?;
    quantized(cx, z, 7, 1)
}
/// As ONNX has it, and with channels last.
fn conv(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let last = cx.flag("channels_last", false)?;
    one(channels_last(cx, x, last, super::quant::qlinear_conv_of)?)
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
