// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fused parts of encoders as ONNX Runtime's optimizer writes them (`com.microsoft`).

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, ReduceOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::attention::{Heads, attend, join_heads, split_heads};
use super::matmul::matmul_spec;
use super::norm::layer_norm_of;
use super::{Entry, op};
use crate::cx::{Cx, Res};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("Attention", 1, 2, 7, attention),
    op("EmbedLayerNormalization", 1, 7, 9, embed_layer_norm),
    op("MultiHeadAttention", 1, 1, 10, multi_head_attention),
];

/// What is added to products of hidden keys: `[B,T]` keeps where it is not 0, `[B]` are lengths, `[B,S,T]` keeps pairs.
fn padding(cx: &mut Cx<'_, '_>, mask: ValueId, keys: &SymExpr, batch: &SymExpr, dtype: DType) -> Res<ValueId> {
    let d = cx.dims(mask);
    let keep = match d.len() {
        2 => {
            let m = cx.reshape(mask, vec![d[0].clone(), 1.into(), 1.into(), d[1].clone()])?;
            cx.bin_c(BinaryOp::Ne, m, 0.0)?
        }
        3 => {
            let m = cx.reshape(mask, vec![d[0].clone(), 1.into(), d[1].clone(), d[2].clone()])?;
            cx.bin_c(BinaryOp::Ne, m, 0.0)?
        }
        1 if d[0] == *batch => {
            let n = cx.cast(mask, DType::I64)?;
            let n = cx.reshape(n, vec![d[0].clone(), 1.into(), 1.into(), 1.into()])?;
            let j = cx.iota(DType::I64, 3, vec![1.into(), 1.into(), 1.into(), keys.clone()])?;
            cx.bin(BinaryOp::Lt, j, n)?
        }
        _ => return Err(Fault::form(format!("a mask of {} is not taken; [B,T], [B,S,T] and lengths [B] are", cx.ty(mask)))),
    };
    let (zero, hidden) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, cx.float("mask_filter_value", -10000.0)?)?);
    cx.select(keep, zero, hidden)
}

/// Sum of two optional additive masks.
fn sum(cx: &mut Cx<'_, '_>, a: Option<ValueId>, b: Option<ValueId>) -> Res<Option<ValueId>> {
    match (a, b) {
        (Some(a), Some(b)) => cx.bin(BinaryOp::Add, a, b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}

fn heads(cx: &Cx<'_, '_>) -> Res<Heads> {
    let scale = cx.float_opt("scale")?.filter(|s| *s != 0.0);
    Ok(Heads { scale, causal: cx.flag("unidirectional", false)?, softcap: 0.0, precision: None })
}

/// Queries, keys and values are projected already; keys and values may come with their heads apart, as from another model's cache.
fn multi_head_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let q = cx.input(0)?;
    let n = cx.need_int("num_heads")?;
    let (Some(k), Some(v)) = (cx.opt(1)?, cx.opt(2)?) else {
        return Err(Fault::form("queries, keys and values packed into one input are not taken"));
    };
    let (bias, mask, more) = (cx.opt(3)?, cx.opt(4)?, cx.opt(5)?);
    let (past_k, past_v) = (cx.opt(6)?, cx.opt(7)?);
    if cx.opt(8)?.is_some() || cx.opt(9)?.is_some() {
        return Err(Fault::form("a shared buffer for past and present is not taken"));
    }
    let mut parts = [q, k, v];
    if let Some(b) = bias {
        let mut at = SymExpr::from(0);
        for p in &mut parts {
            let rank = cx.rank(*p);
            let width = if rank == 3 { cx.dim(*p, 2)? } else { cx.dim(*p, 1)? * cx.dim(*p, rank - 1)? };
            let own = cx.slice_axis(b, 0, at.clone(), width.clone(), 1)?;
            at = &at + &width;
            if rank == 3 {
                *p = cx.bin(BinaryOp::Add, *p, own)?;
            }
        }
    }
    let mut split = Vec::new();
    for p in parts {
        split.push(if cx.want_rank(p, 3..=4)? == 4 { p } else { split_heads(cx, p, n)? });
    }
    let (q, k, v) = (split[0], split[1], split[2]);
    let past = match past_k {
        Some(p) => {
            cx.want_rank(p, 4..=4)?;
            Some(cx.dim(p, 2)?)
        }
        None => None,
    };
    let k = match past_k {
        Some(p) => cx.concat(&[p, k], 2)?,
        None => k,
    };
    let v = match past_v {
        Some(p) => cx.concat(&[p, v], 2)?,
        None => v,
    };
    let y = masked(cx, [q, k, v], mask, more, past)?;
    let y = join_heads(cx, y)?;
    Ok(vec![Slot::Value(y), Slot::Value(k), Slot::Value(v)])
}

/// Attention under a mask of padding and what is added to scores beside it; `past` is how many keys were there before.
fn masked(
    cx: &mut Cx<'_, '_>,
    [q, k, v]: [ValueId; 3],
    mask: Option<ValueId>,
    more: Option<ValueId>,
    past: Option<SymExpr>,
) -> Res<ValueId> {
    let (batch, keys, dtype) = (cx.dim(q, 0)?, cx.dim(k, 2)?, cx.dtype(q));
    let hidden = match mask {
        Some(m) => Some(padding(cx, m, &keys, &batch, dtype)?),
        None => None,
    };
    let mask = sum(cx, hidden, more)?;
    let heads = heads(cx)?;
    let offset = match past {
        Some(p) if heads.causal => Some(cx.dim_value(p)?),
        _ => None,
    };
    Ok(attend(cx, [q, k, v], mask, offset, &heads, None)?.0)
}

/// Projects one input to queries, keys and values first; past and present are one tensor `[2,B,H,T,D]`.
fn attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (bias, mask, past, more) = (cx.opt(2)?, cx.opt(3)?, cx.opt(4)?, cx.opt(5)?);
    let n = cx.need_int("num_heads")?;
    if cx.flag("do_rotary", false)? || cx.flag("past_present_share_buffer", false)? {
        return Err(Fault::form("`do_rotary` and shared buffers are not taken"));
    }
    cx.want_rank(x, 3..=3)?;
    cx.want_rank(w, 2..=2)?;
    let spec = matmul_spec(3, 2, false, false)?;
    let mut all = cx.contract(&spec, x, w)?;
    if let Some(b) = bias {
        all = cx.bin(BinaryOp::Add, all, b)?;
    }
    let third = cx.dim(w, 1)?.div(&3.into());
    let widths: Vec<SymExpr> = match cx.ints("qkv_hidden_sizes")?.filter(|l| !l.is_empty()) {
        Some(l) if l.len() == 3 => l.into_iter().map(SymExpr::from).collect(),
        Some(l) => return Err(Fault::attr(format!("`qkv_hidden_sizes` is {l:?}, expected three"))),
        None => vec![third; 3],
    };
    let parts = cx.split(all, 2, &widths)?;
    let (q, mut k, mut v) = (split_heads(cx, parts[0], n)?, split_heads(cx, parts[1], n)?, split_heads(cx, parts[2], n)?);
    let mut before = None;
    if let Some(p) = past {
        cx.want_rank(p, 5..=5)?;
        before = Some(cx.dim(p, 3)?);
        let dims = cx.dims(p)[1..].to_vec();
        for (i, s) in [(0i64, &mut k), (1, &mut v)] {
            let old = cx.slice_axis(p, 0, i.into(), 1.into(), 1)?;
            let old = cx.reshape(old, dims.clone())?;
            *s = cx.concat(&[old, *s], 2)?;
        }
    }
    let y = masked(cx, [q, k, v], mask, more, before)?;
    let mut out = vec![Slot::Value(join_heads(cx, y)?)];
    if cx.wants(1) {
        let (k, v) = (cx.unsqueeze(k, &[0])?, cx.unsqueeze(v, &[0])?);
        out.push(Slot::Value(cx.concat(&[k, v], 0)?));
    }
    Ok(out)
}

/// Sum of word, position and segment embeddings, normalized; output 1 is the number of words of each batch, output 2 the sum.
fn embed_layer_norm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (ids, segments) = (cx.input(0)?, cx.opt(1)?);
    let (words, positions, kinds) = (cx.input(2)?, cx.input(3)?, cx.opt(4)?);
    let (gamma, beta) = (cx.input(5)?, cx.input(6)?);
    let (mask, places) = (cx.opt(7)?, cx.opt(8)?);
    cx.want_rank(ids, 2..=2)?;
    let (batch, steps) = (cx.dim(ids, 0)?, cx.dim(ids, 1)?);
    let mut x = cx.gather(words, ids, 0)?;
    let place = match places {
        Some(p) => cx.gather(positions, p, 0)?,
        None => cx.slice_axis(positions, 0, 0.into(), steps, 1)?,
    };
    x = cx.bin(BinaryOp::Add, x, place)?;
    if let (Some(s), Some(table)) = (segments, kinds) {
        let kind = cx.gather(table, s, 0)?;
        x = cx.bin(BinaryOp::Add, x, kind)?;
    }
    let eps = cx.float("epsilon", 1e-12f32.into())?;
    let y = layer_norm_of(cx, x, Some(gamma), Some(beta), 2, eps)?;
    let count = match mask {
        Some(m) => {
            let c = cx.reduce(ReduceOp::Sum, m, &[1], false)?;
            cx.cast(c, DType::I32)?
        }
        None => cx.fill(DType::I32, 0.0, vec![batch])?,
    };
    Ok(vec![Slot::Value(y), Slot::Value(count), Slot::Value(x)])
}
