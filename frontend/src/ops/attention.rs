// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention and rotary position embedding.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, PadMode, ReduceOp, Scalar, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("Attention", 23, 3, 7, attention), op("RotaryEmbedding", 23, 3, 4, rotary)];

/// What an attention computes besides its operands.
pub struct Heads {
    /// Factor of the products of queries and keys.
    pub scale: Option<f64>,
    /// Whether query `i` sees keys up to its own position only.
    pub causal: bool,
    /// Bound of the products; 0 is none.
    pub softcap: f64,
    /// Dtype of the softmax, where it is asked for.
    pub precision: Option<DType>,
}

/// `[B, S, H*D]` as `[B, H, S, D]`.
pub fn split_heads(cx: &mut Cx<'_, '_>, x: ValueId, heads: i64) -> Res<ValueId> {
    if heads < 1 {
        return Err(Fault::attr(format!("the number of heads is {heads}, expected 1 or more")));
    }
    cx.want_rank(x, 3..=3)?;
    let d = cx.dims(x);
    let h = SymExpr::from(heads);
    let y = cx.reshape(x, vec![d[0].clone(), d[1].clone(), h.clone(), d[2].div(&h)])?;
    cx.transpose(y, &[0, 2, 1, 3])
}

/// `[B, H, S, D]` as `[B, S, H*D]`.
pub fn join_heads(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
    let d = cx.dims(x);
    let y = cx.transpose(x, &[0, 2, 1, 3])?;
    cx.reshape(y, vec![d[0].clone(), d[2].clone(), &d[1] * &d[3]])
}

/// Softmax of masked products times values; the key of a mask of fewer keys than there are is hidden.
///
/// Opset 24 adds `nonpad_kv_seqlen`: keys from that position on are padding.
fn attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (mask, past_k, past_v, nonpad) = (cx.opt(3)?, cx.opt(4)?, cx.opt(5)?, cx.opt(6)?);
    let flat = cx.want_rank(q, 3..=4)? == 3;
    let (q, k, v) = if flat {
        let (hq, hk) = (cx.need_int("q_num_heads")?, cx.need_int("kv_num_heads")?);
        (split_heads(cx, q, hq)?, split_heads(cx, k, hk)?, split_heads(cx, v, hk)?)
    } else {
        (q, k, v)
    };
    for v in [q, k, v].into_iter().chain(past_k).chain(past_v) {
        cx.want_rank(v, 4..=4)?;
    }
    let past = match past_k {
        Some(p) => Some(cx.dim(p, 2)?),
        None => None,
    };
    let present_k = match past_k {
        Some(p) => cx.concat(&[p, k], 2)?,
        None => k,
    };
    let present_v = match past_v {
        Some(p) => cx.concat(&[p, v], 2)?,
        None => v,
    };
    let heads = Heads {
        scale: cx.float_opt("scale")?,
        causal: cx.flag("is_causal", false)?,
        softcap: cx.float("softcap", 0.0)?,
        precision: cx.dtype_attr("softmax_precision")?,
    };
    let keys = cx.dim(present_k, 2)?;
    let mut mask = match mask {
        Some(m) => Some(pad_mask(cx, m, &keys)?),
        None => None,
    };
    if let Some(n) = nonpad {
        let hidden = nonpad_mask(cx, n, &keys)?;
        mask = Some(both(cx, mask, hidden)?);
    }
    let (left, right) = (cx.int("left_window_size", -1)?, cx.int("right_window_size", -1)?);
    let mut heads = heads;
    if left >= 0 || right >= 0 || (heads.causal && nonpad.is_some()) {
        // Where the queries stand among the keys differs by batch element or is bounded on both sides: written as a mask.
        let right = if heads.causal { 0 } else { right };
        let keep = window_mask(cx, q, past.clone(), nonpad, &keys, left, right)?;
        mask = Some(both(cx, mask, keep)?);
        heads.causal = false;
    }
    let offset = match past {
        Some(p) if heads.causal => Some(cx.dim_value(p)?),
        _ => None,
    };
    let mode = cx.wants(3).then(|| cx.int("qk_matmul_output_mode", 0)).transpose()?;
    let (y, products) = attend(cx, [q, present_k, present_v], mask, offset, &heads, mode)?;
    let y = if flat { join_heads(cx, y)? } else { y };
    let mut out = vec![Slot::Value(y), Slot::Value(present_k), Slot::Value(present_v)];
    out.extend(products.map(Slot::Value));
    Ok(out)
}

/// Lengthens the last dim of a mask to the number of keys; what is added hides its key.
fn pad_mask(cx: &mut Cx<'_, '_>, mask: ValueId, keys: &SymExpr) -> Res<ValueId> {
    let rank = cx.want_rank(mask, 1..=4)?;
    let lack = keys - &cx.dim(mask, rank - 1)?;
    // A mask of one column broadcasts unless there are certainly more keys than columns in another sense; ONNX pads it as well.
    if cx.g().bounds(&lack).0 <= 0 {
        return Ok(mask);
    }
    let mut high = vec![SymExpr::from(0); rank];
    high[rank - 1] = lack;
    let dtype = cx.dtype(mask);
    let value = if dtype == DType::Bool { cx.scalar(dtype, 0.0)? } else { cx.scalar(dtype, f64::NEG_INFINITY)? };
    cx.add(Op::Pad { mode: PadMode::Constant, low: vec![0.into(); rank], high, interior: vec![0; rank] }, &[mask, value])
}

/// Keeps key `j` of batch `b` where `j < n[b]`, as bool `[B,1,1,keys]`.
fn nonpad_mask(cx: &mut Cx<'_, '_>, n: ValueId, keys: &SymExpr) -> Res<ValueId> {
    let b = cx.dim(n, 0)?;
    let n = cx.cast(n, DType::I64)?;
    let n = cx.reshape(n, vec![b, 1.into(), 1.into(), 1.into()])?;
    let j = cx.iota(DType::I64, 3, vec![1.into(), 1.into(), 1.into(), keys.clone()])?;
    cx.bin(BinaryOp::Lt, j, n)
}

/// Keeps key `j` for query `i` where `p - left <= j <= p + right`, as bool `[B|1,1,queries,keys]`; a negative bound is none.
///
/// `p`, where the query stands among the keys, is `i` behind the past keys; with `nonpad` the last query stands at the last key that
/// is no padding.
fn window_mask(
    cx: &mut Cx<'_, '_>,
    q: ValueId,
    past: Option<SymExpr>,
    nonpad: Option<ValueId>,
    keys: &SymExpr,
    left: i64,
    right: i64,
) -> Res<ValueId> {
    let queries = cx.dim(q, 2)?;
    let i = cx.iota(DType::I64, 2, vec![1.into(), 1.into(), queries.clone(), 1.into()])?;
    let position = match (nonpad, past) {
        (Some(n), _) => {
            let b = cx.dim(n, 0)?;
            let n = cx.cast(n, DType::I64)?;
            let n = cx.reshape(n, vec![b, 1.into(), 1.into(), 1.into()])?;
            let count = cx.dim_value(queries)?;
            let first = cx.bin(BinaryOp::Sub, n, count)?;
            cx.bin(BinaryOp::Add, i, first)?
        }
        (None, Some(p)) => {
            let p = cx.dim_value(p)?;
            cx.bin(BinaryOp::Add, i, p)?
        }
        (None, None) => i,
    };
    let j = cx.iota(DType::I64, 3, vec![1.into(), 1.into(), 1.into(), keys.clone()])?;
    let mut keep = None;
    for (bound, op, sign) in [(left, BinaryOp::Ge, -1.0), (right, BinaryOp::Le, 1.0)] {
        if bound >= 0 {
            let distance = cx.scalar(DType::I64, sign * bound as f64)?;
            let edge = cx.bin(BinaryOp::Add, position, distance)?;
            let side = cx.bin(op, j, edge)?;
            keep = Some(match keep {
                None => side,
                Some(k) => cx.bin(BinaryOp::And, k, side)?,
            });
        }
    }
    keep.ok_or_else(|| Fault::form("a window without bounds"))
}

/// A mask that hides what either hides; `keep` is bool.
pub fn both(cx: &mut Cx<'_, '_>, mask: Option<ValueId>, keep: ValueId) -> Res<ValueId> {
    match mask {
        None => Ok(keep),
        Some(m) if cx.dtype(m) == DType::Bool => cx.bin(BinaryOp::And, m, keep),
        Some(m) => {
            let hidden = cx.scalar(cx.dtype(m), f64::NEG_INFINITY)?;
            cx.select(keep, m, hidden)
        }
    }
}

/// The attention composite, or its parts when the products themselves are wanted (`mode` as in ONNX: 0 products, 1 after the softcap,
/// 2 after the mask, 3 after the softmax).
pub fn attend(
    cx: &mut Cx<'_, '_>,
    [q, k, v]: [ValueId; 3],
    mask: Option<ValueId>,
    offset: Option<ValueId>,
    heads: &Heads,
    mode: Option<i64>,
) -> Res<(ValueId, Option<ValueId>)> {
    let size = cx.dim(q, 3)?;
    let scale = match (heads.scale, size.as_const()) {
        (Some(s), _) => s,
        (None, Some(d)) => 1.0 / (d as f64).sqrt(),
        (None, None) => return Err(Fault::form(format!("the head size is {size}; it must be known when the model is compiled"))),
    };
    if let Some(mode) = mode {
        return attend_in_parts(cx, [q, k, v], mask, offset, heads, scale, mode);
    }
    let mut operands = vec![q, k, v];
    if let Some(m) = mask {
        let m = if cx.dtype(m) == DType::Bool { m } else { cx.cast(m, cx.dtype(q))? };
        operands.push(m);
    }
    operands.extend(offset);
    let f = |v: f64| Scalar::from_f64(DType::F32, v);
    let op = Op::Attention {
        scale: f(scale),
        causal: heads.causal,
        has_mask: mask.is_some(),
        has_offset: offset.is_some(),
        softcap: f(heads.softcap),
    };
    Ok((cx.add(op, &operands)?, None))
}

fn attend_in_parts(
    cx: &mut Cx<'_, '_>,
    [q, k, v]: [ValueId; 3],
    mask: Option<ValueId>,
    offset: Option<ValueId>,
    heads: &Heads,
    scale: f64,
    mode: i64,
) -> Res<(ValueId, Option<ValueId>)> {
    let dtype = cx.dtype(q);
    let work = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (q, k, v) = (cx.cast(q, work)?, cx.cast(k, work)?, cx.cast(v, work)?);
    let (k, v) = (repeat_heads(cx, k, q)?, repeat_heads(cx, v, q)?);
    let mut s = cx.contract("bhqd,bhkd->bhqk", q, k)?;
    s = cx.bin_c(BinaryOp::Mul, s, scale)?;
    let products = s;
    if heads.softcap > 0.0 {
        s = cx.bin_c(BinaryOp::Div, s, heads.softcap)?;
        s = cx.un(UnaryOp::Tanh, s)?;
        s = cx.bin_c(BinaryOp::Mul, s, heads.softcap)?;
    }
    let capped = s;
    let hidden = cx.scalar(work, f64::NEG_INFINITY)?;
    if let Some(m) = mask {
        s = if cx.dtype(m) == DType::Bool {
            cx.select(m, s, hidden)?
        } else {
            let m = cx.cast(m, work)?;
            cx.bin(BinaryOp::Add, s, m)?
        };
    }
    if heads.causal {
        let d = cx.dims(s);
        let plane = vec![d[2].clone(), d[3].clone()];
        let (mut rows, columns) = (cx.iota(DType::I64, 0, plane.clone())?, cx.iota(DType::I64, 1, plane)?);
        if let Some(o) = offset {
            rows = cx.bin(BinaryOp::Add, rows, o)?;
        }
        let keep = cx.bin(BinaryOp::Le, columns, rows)?;
        s = cx.select(keep, s, hidden)?;
    }
    let masked = s;
    let p = match heads.precision {
        Some(d) if d != work => {
            let s = cx.cast(s, d)?;
            let p = cx.add(Op::Softmax { axis: 3 }, &[s])?;
            cx.cast(p, work)?
        }
        _ => cx.add(Op::Softmax { axis: 3 }, &[s])?,
    };
    // A query that sees no key has no weights instead of none that is a number.
    let p = if mask.is_some() || heads.causal {
        let top = cx.add(Op::Reduce { op: ReduceOp::Max, axes: vec![3], keep: true }, &[s])?;
        let (blind, none) = (cx.bin(BinaryOp::Eq, top, hidden)?, cx.scalar(work, 0.0)?);
        cx.select(blind, none, p)?
    } else {
        p
    };
    let y = cx.contract("bhqk,bhkd->bhqd", p, v)?;
    let chosen = match mode {
        0 => products,
        1 => capped,
        2 => masked,
        3 => p,
        _ => return Err(Fault::attr(format!("`qk_matmul_output_mode` is {mode}, expected 0 to 3"))),
    };
    Ok((cx.cast(y, dtype)?, Some(cx.cast(chosen, dtype)?)))
}

/// Repeats each key head for the query heads that share it.
pub fn repeat_heads(cx: &mut Cx<'_, '_>, k: ValueId, q: ValueId) -> Res<ValueId> {
    let (d, hq) = (cx.dims(k), cx.dim(q, 1)?);
    if d[1] == hq {
        return Ok(k);
    }
    let times = hq.div(&d[1]);
    let y = cx.reshape(k, vec![d[0].clone(), d[1].clone(), 1.into(), d[2].clone(), d[3].clone()])?;
    let y = cx.broadcast(y, vec![d[0].clone(), d[1].clone(), times, d[2].clone(), d[3].clone()])?;
    cx.reshape(y, vec![d[0].clone(), hq, d[2].clone(), d[3].clone()])
}

/// Rotates pairs of each head by the angles of its position, which come from a table by `position_ids` or are given for each position.
fn rotary(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, cos, sin) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let ids = cx.opt(3)?;
    let (interleaved, dims) = (cx.flag("interleaved", false)?, cx.int("rotary_embedding_dim", 0)?);
    let heads = cx.int("num_heads", 0)?;
    one(rotary_of(cx, x, [cos, sin], ids, interleaved, dims, heads)?)
}

/// Rotary embedding of `[B,S,H*D]` or `[B,H,S,D]`; `dims` 0 rotates whole heads.
pub fn rotary_of(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    tables: [ValueId; 2],
    ids: Option<ValueId>,
    interleaved: bool,
    dims: i64,
    heads: i64,
) -> Res<ValueId> {
    let flat = cx.want_rank(x, 3..=4)? == 3;
    let y = if flat { split_heads(cx, x, heads)? } else { x };
    let [cos, sin] = match ids {
        Some(ids) => [cx.gather(tables[0], ids, 0)?, cx.gather(tables[1], ids, 0)?],
        None => tables,
    };
    let rotary_dims = if dims == 0 { cx.dim(y, 3)? } else { dims.into() };
    let y = cx.add(Op::Rotary { rotary_dims, interleaved }, &[y, cos, sin])?;
    if flat { join_heads(cx, y) } else { Ok(y) }
}
