// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators that carry a state from call to call: causal convolution and linear attention.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::attention::{join_heads, split_heads};
use super::control::loop_of;
use super::conv::{add_bias, filter_dims};
use super::{Entry, op};
use crate::cx::{Cx, Res, many};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("CausalConvWithState", 27, 2, 4, causal_conv), op("LinearAttention", 27, 3, 6, linear_attention)];

/// A depthwise convolution over the past `k - 1` inputs and the new ones; the last `k - 1` are the new state.
fn causal_conv(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (bias, past) = (cx.opt(2)?, cx.opt(3)?);
    cx.want_rank(x, 3..=3)?;
    cx.want_rank(w, 3..=3)?;
    let kernel = filter_dims(cx, w)?;
    let back = SymExpr::from(kernel[0] - 1);
    let padded = match past {
        Some(p) => cx.concat(&[p, x], 2)?,
        None => {
            let low = vec![0.into(), 0.into(), back.clone()];
            cx.pad(x, low, vec![0.into(); 3], vec![0; 3], 0.0)?
        }
    };
    let Some(groups) = cx.dim(x, 1)?.as_const() else {
        return Err(Fault::form("the number of channels must be known when the model is compiled"));
    };
    let conv = Op::Conv { strides: vec![1], dilations: vec![1], pads: vec![0.into(), 0.into()], groups };
    let mut y = cx.add(conv, &[padded, w])?;
    if let Some(b) = bias {
        y = add_bias(cx, y, b)?;
    }
    match cx.text("activation", "none")? {
        "none" => {}
        "silu" | "swish" => y = cx.add(Op::Silu {}, &[y])?,
        other => return Err(Fault::attr(format!("`activation` is {other:?}, expected none, silu or swish"))),
    }
    let start = cx.dim(padded, 2)? - back.clone();
    let state = cx.slice_axis(padded, 2, start, back, 1)?;
    many([y, state])
}

/// A state `[B,Hk,Dk,Dv]` that fades (`gated`), is corrected (`delta`), takes `k v'` and is read by `q`, step by step.
fn linear_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (past, decay, beta) = (cx.opt(3)?, cx.opt(4)?, cx.opt(5)?);
    let (hq, hk) = (cx.need_int("q_num_heads")?, cx.need_int("kv_num_heads")?);
    let (gated, delta) = match cx.text("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Fault::attr(format!("`update_rule` is {other:?}, expected linear, gated, delta or gated_delta"))),
    };
    if hq < 1 || hk < 1 || hq % hk != 0 || gated != decay.is_some() || delta != beta.is_some() {
        return Err(Fault::attr("heads, `update_rule`, decay and beta do not fit together"));
    }
    let dtype = cx.dtype(q);
    let steps_first = |cx: &mut Cx<'_, '_>, x: ValueId, heads: i64| -> Res<ValueId> {
        let x = cx.cast(x, DType::F32)?;
        let x = split_heads(cx, x, heads)?;
        cx.transpose(x, &[2, 0, 1, 3])
    };
    let (qs, ks, vs) = (steps_first(cx, q, hq)?, steps_first(cx, k, hk)?, steps_first(cx, v, hk)?);
    let d = cx.dims(ks);
    let (steps, batch, dk) = (d[0].clone(), d[1].clone(), d[3].clone());
    let dv = cx.dim(vs, 3)?;
    let scale = match cx.float("scale", 0.0)? {
        0.0 => match dk.as_const() {
            Some(d) => 1.0 / (d as f64).sqrt(),
            None => return Err(Fault::form("the head size must be known when the model is compiled")),
        },
        s => s,
    };
    let mut outside = vec![qs, ks, vs];
    if let Some(g) = decay {
        // One a head, or one a key dim.
        let g = steps_first(cx, g, hk)?;
        let g = cx.un(UnaryOp::Exp, g)?;
        outside.push(cx.unsqueeze(g, &[4])?);
    }
    if let Some(b) = beta {
        let heads = if cx.dim(b, 2)?.is(1) { 1 } else { hk };
        outside.push(steps_first(cx, b, heads)?);
    }
    let state_dims: Vec<SymExpr> = vec![batch.clone(), hk.into(), dk.clone(), dv.clone()];
    let (state, state_dtype) = match past {
        Some(p) => (cx.cast(p, DType::F32)?, cx.dtype(p)),
        None => (cx.fill(DType::F32, 0.0, state_dims)?, dtype),
    };
    let out = loop_of(cx, &steps, &[state], &outside, |cx, i, s, o| {
        let at = o.iter().map(|&x| cx.gather(x, i, 0)).collect::<Res<Vec<_>>>()?;
        let (q, k, mut v, mut s) = (at[0], at[1], at[2], s[0]);
        if gated {
            s = cx.bin(BinaryOp::Mul, s, at[3])?;
        }
        if delta {
            let seen = cx.contract("bhdm,bhd->bhm", s, k)?;
            let rest = cx.bin(BinaryOp::Sub, v, seen)?;
            v = cx.bin(BinaryOp::Mul, at[at.len() - 1], rest)?;
        }
        let write = cx.contract("bhd,bhm->bhdm", k, v)?;
        let s = cx.bin(BinaryOp::Add, s, write)?;
        // Query heads that share a key head read the same state.
        let grouped = cx.reshape(q, vec![batch.clone(), hk.into(), (hq / hk).into(), dk.clone()])?;
        let y = cx.contract("bhgd,bhdm->bhgm", grouped, s)?;
        let y = cx.reshape(y, vec![batch.clone(), hq.into(), dv.clone()])?;
        Ok((vec![s], vec![cx.bin_c(BinaryOp::Mul, y, scale)?]))
    })?;
    let y = cx.transpose(out[1], &[1, 2, 0, 3])?;
    let y = join_heads(cx, y)?;
    let (y, state) = (cx.cast(y, dtype)?, cx.cast(out[0], state_dtype)?);
    many([y, state])
}
