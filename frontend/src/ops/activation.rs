// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Activation functions. Those of several steps are computed in f32 at least and rounded once.

use portwright_ir::graph::{BinaryOp, Op, UnaryOp, ValueId};

use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("Celu", 12, 1, 1, celu),
    op("Elu", 1, 1, 1, elu),
    op("Gelu", 20, 1, 1, gelu),
    op("HardSigmoid", 1, 1, 1, hard_sigmoid),
    op("HardSwish", 14, 1, 1, hard_swish),
    op("LeakyRelu", 1, 1, 1, leaky_relu),
    op("Mish", 18, 1, 1, mish),
    op("PRelu", 1, 2, 2, prelu),
    op("Relu", 1, 1, 1, relu),
    op("Selu", 1, 1, 1, selu),
    op("Shrink", 9, 1, 1, shrink),
    op("Softsign", 1, 1, 1, softsign),
    op("SwiGLU", 28, 2, 2, swiglu),
    op("Swish", 24, 1, 1, swish),
    op("ThresholdedRelu", 1, 1, 1, thresholded_relu),
];

fn relu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(cx.bin_c(BinaryOp::Max, x, 0.0)?)
}

/// `x < 0 ? negative : x`
fn below_zero(cx: &mut Cx<'_, '_>, x: ValueId, negative: ValueId) -> Res<ValueId> {
    let below = cx.bin_c(BinaryOp::Lt, x, 0.0)?;
    cx.select(below, negative, x)
}

fn leaky_relu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let alpha = cx.float("alpha", 0.01f32.into())?;
    let scaled = cx.bin_c(BinaryOp::Mul, x, alpha)?;
    one(below_zero(cx, x, scaled)?)
}

/// Before opset 7 a slope of one dim is per channel; then it broadcasts to the input as any operand.
fn prelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, mut slope) = (cx.input(0)?, cx.input(1)?);
    if cx.version < 7 && cx.rank(slope) == 1 && cx.rank(x) > 2 {
        let mut dims = cx.dims(slope);
        dims.extend((2..cx.rank(x)).map(|_| 1.into()));
        slope = cx.reshape(slope, dims)?;
    }
    let scaled = cx.bin(BinaryOp::Mul, x, slope)?;
    one(below_zero(cx, x, scaled)?)
}

fn elu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let alpha = cx.float("alpha", 1.0)?;
    let x = cx.input(0)?;
    one(cx.wide(x, |cx, x| {
        let e = cx.un(UnaryOp::Exp, x)?;
        let e = cx.bin_c(BinaryOp::Sub, e, 1.0)?;
        let e = cx.bin_c(BinaryOp::Mul, e, alpha)?;
        below_zero(cx, x, e)
    })?)
}

fn celu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let alpha = cx.float("alpha", 1.0)?;
    let x = cx.input(0)?;
    one(cx.wide(x, |cx, x| {
        let e = cx.bin_c(BinaryOp::Div, x, alpha)?;
        let e = cx.un(UnaryOp::Exp, e)?;
        let e = cx.bin_c(BinaryOp::Sub, e, 1.0)?;
        let e = cx.bin_c(BinaryOp::Mul, e, alpha)?;
        let negative = cx.bin_c(BinaryOp::Min, e, 0.0)?;
        let positive = cx.bin_c(BinaryOp::Max, x, 0.0)?;
        cx.bin(BinaryOp::Add, positive, negative)
    })?)
}

fn selu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    // Defaults as the operator's definition rounds them: six digits before opset 6, then the nearest f32.
    let old = cx.version < 6;
    let alpha = cx.float("alpha", if old { 1.6732 } else { 1.673_263_2_f32.into() })?;
    let gamma = cx.float("gamma", if old { 1.0507 } else { 1.050_701_f32.into() })?;
    let x = cx.input(0)?;
    one(cx.wide(x, |cx, x| {
        let e = cx.un(UnaryOp::Exp, x)?;
        let e = cx.bin_c(BinaryOp::Mul, e, alpha)?;
        let e = cx.bin_c(BinaryOp::Sub, e, alpha)?;
        let positive = cx.bin_c(BinaryOp::Gt, x, 0.0)?;
        let y = cx.select(positive, x, e)?;
        cx.bin_c(BinaryOp::Mul, y, gamma)
    })?)
}

fn thresholded_relu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let alpha = cx.float("alpha", 1.0)?;
    let x = cx.input(0)?;
    let above = cx.bin_c(BinaryOp::Gt, x, alpha)?;
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    one(cx.select(above, x, zero)?)
}

fn hard_sigmoid(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (alpha, beta) = (cx.float("alpha", 0.2f32.into())?, cx.float("beta", 0.5)?);
    let x = cx.input(0)?;
    one(cx.wide(x, |cx, x| {
        let y = cx.bin_c(BinaryOp::Mul, x, alpha)?;
        let y = cx.bin_c(BinaryOp::Add, y, beta)?;
        let y = cx.bin_c(BinaryOp::Max, y, 0.0)?;
        cx.bin_c(BinaryOp::Min, y, 1.0)
    })?)
}

fn hard_swish(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(cx.add(Op::HardSwish {}, &[x])?)
}

fn mish(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(cx.wide(x, |cx, x| {
        let s = cx.un(UnaryOp::Softplus, x)?;
        let t = cx.un(UnaryOp::Tanh, s)?;
        cx.bin(BinaryOp::Mul, x, t)
    })?)
}

fn gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let tanh = match cx.text("approximate", "none")? {
        "none" => false,
        "tanh" => true,
        other => return Err(Fault::attr(format!("`approximate` is {other:?}, expected none or tanh"))),
    };
    one(cx.add(Op::Gelu { tanh }, &[x])?)
}

fn swish(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let alpha = cx.float("alpha", 1.0)?;
    let x = cx.input(0)?;
    one(swish_of(cx, x, alpha)?)
}

/// `swish(a) * b`
fn swiglu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let alpha = cx.float("alpha", 1.0)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let gate = swish_of(cx, a, alpha)?;
    one(cx.bin(BinaryOp::Mul, gate, b)?)
}

/// `x * sigmoid(alpha * x)`
pub fn swish_of(cx: &mut Cx<'_, '_>, x: ValueId, alpha: f64) -> Res<ValueId> {
    if alpha == 1.0 {
        return cx.add(Op::Silu {}, &[x]);
    }
    cx.wide(x, |cx, x| {
        let s = cx.bin_c(BinaryOp::Mul, x, alpha)?;
        let s = cx.un(UnaryOp::Sigmoid, s)?;
        cx.bin(BinaryOp::Mul, x, s)
    })
}

fn softsign(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(cx.wide(x, |cx, x| {
        let d = cx.un(UnaryOp::Abs, x)?;
        let d = cx.bin_c(BinaryOp::Add, d, 1.0)?;
        cx.bin(BinaryOp::Div, x, d)
    })?)
}

fn shrink(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (bias, lambd) = (cx.float("bias", 0.0)?, cx.float("lambd", 0.5)?);
    let x = cx.input(0)?;
    let (below, above) = (cx.bin_c(BinaryOp::Lt, x, -lambd)?, cx.bin_c(BinaryOp::Gt, x, lambd)?);
    let (plus, minus) = (cx.bin_c(BinaryOp::Add, x, bias)?, cx.bin_c(BinaryOp::Sub, x, bias)?);
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    let y = cx.select(above, minus, zero)?;
    one(cx.select(below, plus, y)?)
}
