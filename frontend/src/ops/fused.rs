// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products, convolutions and norms with what an optimizer put into them (`com.microsoft`).

use portwright_ir::graph::{BinaryOp, Op, ValueId};
use portwright_ir::sym::SymExpr;

use super::conv::{add_bias, conv_of};
use super::matmul::{gemm_of, matmul_spec};
use super::norm::{grouped, per_channel};
use super::{Entry, cell, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("BiasAdd", 1, 3, 3, bias_add),
    op("BiasSoftmax", 1, 2, 2, bias_softmax),
    op("BiasSplitGelu", 1, 2, 2, bias_split_gelu),
    op("FusedConv", 1, 2, 4, fused_conv),
    op("FusedGemm", 1, 2, 3, fused_gemm),
    op("FusedMatMul", 1, 2, 2, fused_matmul),
    op("FusedMatMulActivation", 1, 2, 2, fused_matmul),
    op("GemmFastGelu", 1, 2, 3, gemm_fast_gelu),
    op("GroupNorm", 1, 3, 3, group_norm),
    op("NhwcConv", 1, 2, 3, conv_channels_last),
    op("SkipGroupNorm", 1, 4, 5, skip_group_norm),
    op("TransposeMatMul", 1, 2, 2, fused_matmul),
];

/// Brings `[N,spatial..,C]` into `[N,C,spatial..]` for `f` and its result back, where `last` says so.
pub fn channels_last(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    last: bool,
    f: impl FnOnce(&mut Cx<'_, '_>, ValueId) -> Res<ValueId>,
) -> Res<ValueId> {
    if !last {
        return f(cx, x);
    }
    let rank = cx.want_rank(x, 3..=usize::MAX)?;
    let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let x = cx.transpose(x, &first)?;
    let y = f(cx, x)?;
    let back: Vec<usize> = [0].into_iter().chain(2..cx.rank(y)).chain([1]).collect();
    cx.transpose(y, &back)
}

/// An operand whose dim 0 goes before its last one if `batch` says so.
fn batch_turned(cx: &mut Cx<'_, '_>, x: ValueId, batch: &str) -> Res<ValueId> {
    let rank = cx.rank(x);
    if !cx.flag(batch, false)? || rank < 3 {
        return Ok(x);
    }
    let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
    cx.transpose(x, &perm)
}

/// `activation(alpha * A' * B')`
fn fused_matmul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (a, b) = (batch_turned(cx, a, "transBatchA")?, batch_turned(cx, b, "transBatchB")?);
    // One vector has nothing to transpose.
    let turned = |cx: &Cx<'_, '_>, v: ValueId, name: &str| -> Res<bool> { Ok(cx.rank(v) > 1 && cx.flag(name, false)?) };
    let spec = matmul_spec(cx.rank(a), cx.rank(b), turned(cx, a, "transA")?, turned(cx, b, "transB")?)?;
    let y = cx.contract(&spec, a, b)?;
    let alpha = cx.float("alpha", 1.0)?;
    let y = if alpha == 1.0 { y } else { cx.bin_c(BinaryOp::Mul, y, alpha)? };
    one(match cx.text("activation", "")? {
        "" => y,
        "Softmax" => {
            let axis = cx.axis_of(cx.int("activation_axis", -1)?, cx.rank(y))?;
            cx.add(Op::Softmax { axis: axis as u32 }, &[y])?
        }
        name => activated(cx, name, y)?,
    })
}

fn fused_gemm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let y = gemm_of(cx)?;
    let name = cx.text("activation", "")?;
    one(if name.is_empty() { y } else { activated(cx, name, y)? })
}

/// The activation of that name with the attributes `activation_alpha` and `activation_beta`.
fn activated(cx: &mut Cx<'_, '_>, name: &str, y: ValueId) -> Res<ValueId> {
    let (alpha, beta) = (cx.float_opt("activation_alpha")?, cx.float_opt("activation_beta")?);
    cell::activation_of(cx, name, alpha, beta, y)
}

/// `FastGelu(X W + bias)`
fn gemm_fast_gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let spec = matmul_spec(cx.rank(x), cx.rank(w), false, false)?;
    let mut y = cx.contract(&spec, x, w)?;
    if let Some(b) = cx.opt(2)? {
        y = cx.bin(BinaryOp::Add, y, b)?;
    }
    one(cx.add(Op::Gelu { tanh: true }, &[y])?)
}

fn bias_add(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, bias, skip) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let y = cx.bin(BinaryOp::Add, x, bias)?;
    one(cx.bin(BinaryOp::Add, y, skip)?)
}

/// The left half times the gelu of the right one.
fn bias_split_gelu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    let last = cx.want_rank(x, 1..=usize::MAX)? - 1;
    let x = cx.bin(BinaryOp::Add, x, bias)?;
    let half = cx.dim(x, last)?.div(&2.into());
    let parts = cx.split(x, last, &[half.clone(), half])?;
    let g = cx.add(Op::Gelu { tanh: false }, &[parts[1]])?;
    one(cx.bin(BinaryOp::Mul, parts[0], g)?)
}

/// A softmax over all dims from the axis on; the bias lacks the dims before the axis, or those between its own first ones and the axis.
fn bias_softmax(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(x, 1)?;
    // Both forms of broadcasting are numpy's: a bias has dims of 1 where it is repeated, or lacks leading ones.
    cx.need_int("is_inner_broadcast")?;
    let y = cx.bin(BinaryOp::Add, x, bias)?;
    if axis + 1 == cx.rank(y) {
        return one(cx.add(Op::Softmax { axis: axis as u32 }, &[y])?);
    }
    let d = cx.dims(y);
    let rows = cx.reshape(y, vec![portwright_ir::sym::product(&d[..axis]), portwright_ir::sym::product(&d[axis..])])?;
    let y = cx.add(Op::Softmax { axis: 1 }, &[rows])?;
    one(cx.reshape(y, d)?)
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
    one(match cx.text("activation", "")? {
        "" => y,
        "Clip" => {
            let &[low, high] = p.as_slice() else {
                return Err(Fault::attr(format!("`activation_params` of Clip are {p:?}, expected the bounds")));
            };
            let y = cx.bin_c(BinaryOp::Max, y, low)?;
            cx.bin_c(BinaryOp::Min, y, high)?
        }
        "HardSwish" => cx.add(Op::HardSwish {}, &[y])?,
        name => cell::activation_of(cx, name, p.first().copied(), p.get(1).copied(), y)?,
    })
}

/// A convolution with channels last. Filters are `[O,C/group,kernel..]` by the documentation and `[O,kernel..,C/group]` as ONNX Runtime's
/// tools write them: their dims tell.
fn conv_channels_last(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.want_rank(x, 3..=usize::MAX)?;
    cx.want_rank(w, rank..=rank)?;
    let depth = cx.dim(x, rank - 1)?.div(&cx.int("group", 1)?.into());
    let d = cx.dims(w);
    let kernel = cx.ints("kernel_shape")?;
    let fits = |at: usize, spatial: &[SymExpr]| {
        let same = |k: &Vec<i64>| k.len() == spatial.len() && k.iter().zip(spatial).all(|(k, s)| s.is(*k));
        d[at] == depth && kernel.as_ref().is_none_or(same)
    };
    let w = match (fits(1, &d[2..]), fits(rank - 1, &d[1..rank - 1])) {
        (true, false) => w,
        (false, true) => {
            let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            cx.transpose(w, &first)?
        }
        (false, false) => return Err(Fault::shape(format!("filters of {} for {depth} channels a group", cx.ty(w)))),
        (true, true) => {
            let m = format!("filters of {} may have their channels first or last, and nothing says which", cx.ty(w));
            return Err(Fault::form(m).help("export the model with Conv instead of NhwcConv"));
        }
    };
    let bias = cx.opt(2)?;
    one(channels_last(cx, x, true, |cx, x| {
        let y = conv_of(cx, x, w)?;
        match bias {
            Some(b) => add_bias(cx, y, b),
            None => Ok(y),
        }
    })?)
}

/// Normalizes groups of channels, with a scale and a bias a channel, and perhaps a silu.
fn group_norm_of(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
    let (gamma, beta) = (cx.input(1)?, cx.input(2)?);
    let eps = cx.float("epsilon", 1e-5f32.into())?;
    let groups = cx.need_int("groups")?;
    let silu = match cx.need_int("activation")? {
        0 => false,
        1 => true,
        other => return Err(Fault::attr(format!("`activation` is {other}, expected 0 or 1"))),
    };
    let last = cx.flag("channels_last", true)?;
    channels_last(cx, x, last, |cx, x| {
        let rank = cx.rank(x);
        if groups < 1 || cx.dim(x, 1)?.as_const().is_some_and(|c| c % groups != 0) {
            return Err(Fault::attr(format!("`groups` is {groups}, which does not divide the channels of {}", cx.ty(x))));
        }
        let dtype = cx.dtype(x);
        let y = grouped(cx, x, groups.into(), eps, |cx, y, dims| {
            let y = cx.reshape(y, dims.clone())?;
            let (s, b) = (per_channel(cx, gamma, rank)?, per_channel(cx, beta, rank)?);
            let work = cx.dtype(s);
            let y = cx.cast(y, work)?;
            let y = cx.bin(BinaryOp::Mul, y, s)?;
            let y = cx.bin(BinaryOp::Add, y, b)?;
            cx.cast(y, dtype)
        })?;
        if silu { cx.add(Op::Silu {}, &[y]) } else { Ok(y) }
    })
}

/// # Source
/// ONNX Runtime contrib op `com.microsoft.GroupNorm`, version 1.
fn group_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(group_norm_of(cx, x)?)
}

/// The norm of `X + skip + bias`; output 1 is that sum. A skip `[N,C]` is the same at every position.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.SkipGroupNorm`, version 1.
fn skip_group_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, mut skip) = (cx.input(0)?, cx.input(3)?);
    let rank = cx.want_rank(x, 3..=usize::MAX)?;
    let last = cx.flag("channels_last", true)?;
    if cx.rank(skip) == 2 {
        let d = cx.dims(skip);
        let ones = vec![SymExpr::from(1); rank - 2];
        let dims = if last { [&d[..1], &ones, &d[1..]].concat() } else { [&d[..], &ones].concat() };
        skip = cx.reshape(skip, dims)?;
    }
    let mut sum = cx.bin(BinaryOp::Add, x, skip)?;
    if let Some(b) = cx.opt(4)? {
        let b = if last { b } else { per_channel(cx, b, rank)? };
        sum = cx.bin(BinaryOp::Add, sum, b)?;
    }
    let y = group_norm_of(cx, sum)?;
    many([y, sum])
}
