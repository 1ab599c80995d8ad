// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fused parts of encoders as ONNX Runtime's optimizer writes them (`com.microsoft`).

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, ReduceOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::attention::{Heads, attend, both, join_heads, split_heads};
use super::cache::{View, lengthened, positions, written};
use super::contrib::to_real;
use super::matmul::matmul_spec;
use super::norm::layer_norm_of;
use super::quant::integer_product;
use super::{Entry, op};
use crate::cx::{Cx, Res};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("Attention", 1, 2, 7, attention),
    op("DecoderMaskedMultiHeadAttention", 1, 1, 11, decoder_masked),
    op("EmbedLayerNormalization", 1, 7, 9, embed_layer_norm),
    op("MultiHeadAttention", 1, 1, 10, multi_head_attention),
    op("QAttention", 1, 5, 9, quantized_attention),
];

/// What is added to products of hidden keys: `[B,T]` and `[B,S,T]` keep where they are not 0, `[B,1,M,M]` has a row for each place; `[B]` are
/// numbers of keys, `[2B]` these and then the first keys, `[3B+2]` these and what says where batch elements begin.
fn padding(cx: &mut Cx<'_, '_>, mask: ValueId, [batch, steps, keys]: [&SymExpr; 3], dtype: DType) -> Res<ValueId> {
    let d = cx.dims(mask);
    let ones = |i: usize| -> Vec<SymExpr> { (0..4).map(|a| if a == i { keys.clone() } else { 1.into() }).collect() };
    let keep = match d.len() {
        2 | 3 => {
            let short = lengthened(cx, mask, d.len() - 1, keys, 0.0)?;
            let middle = if d.len() == 2 { 1.into() } else { d[1].clone() };
            let m = cx.reshape(short, vec![d[0].clone(), 1.into(), middle, keys.clone()])?;
            cx.bin_c(BinaryOp::Ne, m, 0.0)?
        }
        4 => {
            let m = cx.slice_axis(mask, 2, keys - steps, steps.clone(), 1)?;
            let m = cx.slice_axis(m, 3, 0.into(), keys.clone(), 1)?;
            cx.bin_c(BinaryOp::Ne, m, 0.0)?
        }
        1 => {
            let all = cx.cast(mask, DType::I64)?;
            let (twice, more) = (batch * &2.into(), batch * &3.into() + 2);
            let ranges = d[0] == twice && d[0] != *batch;
            if d[0] != *batch && !ranges && d[0] != more {
                return Err(Fault::form(format!(
                    "a mask of {} is not taken for a batch of {batch}; [B], [2B] and [3B+2] are",
                    cx.ty(mask)
                )));
            }
            let part = |cx: &mut Cx<'_, '_>, from: SymExpr| {
                let v = cx.slice_axis(all, 0, from, batch.clone(), 1)?;
                cx.reshape(v, vec![batch.clone(), 1.into(), 1.into(), 1.into()])
            };
            let end = part(cx, 0.into())?;
            let j = cx.iota(DType::I64, 3, ones(3))?;
            let before = cx.bin(BinaryOp::Lt, j, end)?;
            if ranges {
                let start = part(cx, batch.clone())?;
                let behind = cx.bin(BinaryOp::Ge, j, start)?;
                cx.bin(BinaryOp::And, before, behind)?
            } else {
                before
            }
        }
        _ => return Err(Fault::form(format!("a mask of {} is not taken", cx.ty(mask)))),
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

/// An attention between projections and result.
struct Core {
    /// Queries, keys and values, heads apart.
    heads: [ValueId; 3],
    /// Mask of padding, as [`padding`] takes it.
    mask: Option<ValueId>,
    /// What is added to products.
    bias: Option<ValueId>,
    /// Keys and values of before.
    past: Option<[ValueId; 2]>,
    /// How many of them there are, where they lie at the beginning of a longer buffer.
    filled: Option<ValueId>,
}

impl Core {
    /// Result with its heads joined, keys and values with those of before, and the products if they are asked for.
    fn run(self, cx: &mut Cx<'_, '_>, products: bool) -> Res<(ValueId, [ValueId; 2], Option<ValueId>)> {
        let causal = cx.flag("unidirectional", false)?;
        let [q, mut k, mut v] = self.heads;
        let (batch, steps, dtype) = (cx.dim(q, 0)?, cx.dim(q, 2)?, cx.dtype(q));
        let (mut keep, mut offset) = (None, None);
        match (self.past, self.filled) {
            (Some([pk, pv]), Some(filled)) => {
                let start = positions(cx, filled)?;
                let keys = cx.dim(pk, 2)?;
                (k, v) = (written(cx, pk, k, start, &keys)?, written(cx, pv, v, start, &keys)?);
                (keep, offset) = View { start: Some(start), causal, window: None }.masks(cx, &steps, &keys)?;
            }
            (Some([pk, pv]), None) => {
                if causal {
                    let past = cx.dim(pk, 2)?;
                    offset = Some(cx.dim_value(past)?);
                }
                (k, v) = (cx.concat(&[pk, k], 2)?, cx.concat(&[pv, v], 2)?);
            }
            (None, Some(_)) => return Err(Fault::new(Code::BAD_ARITY, "a length of past keys is given, but no past keys")),
            (None, None) => {}
        }
        let keys = cx.dim(k, 2)?;
        let hidden = match self.mask {
            Some(m) => Some(padding(cx, m, [&batch, &steps, &keys], dtype)?),
            None => None,
        };
        let bias = match self.bias {
            Some(b) => {
                cx.want_rank(b, 4..=4)?;
                Some(lengthened(cx, b, 3, &keys, 0.0)?)
            }
            None => None,
        };
        let mut mask = sum(cx, hidden, bias)?;
        if let Some(keep) = keep {
            mask = Some(both(cx, mask, keep)?);
        }
        let scale = cx.float_opt("scale")?.filter(|s| *s != 0.0);
        let heads = Heads { scale, causal, softcap: 0.0, precision: None };
        let (y, products) = attend(cx, [q, k, v], mask, offset, &heads, products.then_some(3))?;
        Ok((join_heads(cx, y)?, [k, v], products))
    }
}

/// Two inputs that come together, of rank 4.
fn pair(cx: &Cx<'_, '_>, at: usize) -> Res<Option<[ValueId; 2]>> {
    match (cx.opt(at)?, cx.opt(at + 1)?) {
        (Some(k), Some(v)) => {
            cx.want_rank(k, 4..=4)?;
            cx.want_rank(v, 4..=4)?;
            Ok(Some([k, v]))
        }
        (None, None) => Ok(None),
        _ => Err(Fault::new(Code::BAD_ARITY, format!("inputs {at} and {} come together", at + 1))),
    }
}

/// `[B,S,heads,parts,D]` as that many of `[B,S,heads*D]`.
fn unpacked(cx: &mut Cx<'_, '_>, x: ValueId, parts: i64) -> Res<Vec<ValueId>> {
    let d = cx.dims(x);
    if d.len() != 5 || !d[3].is(parts) {
        return Err(Fault::shape(format!("an input is {}, expected [batch,length,heads,{parts},head size]", cx.ty(x))));
    }
    let split = cx.split(x, 3, &vec![1.into(); parts as usize])?;
    split.into_iter().map(|v| cx.reshape(v, vec![d[0].clone(), d[1].clone(), &d[2] * &d[4]])).collect()
}

/// Adds the parts of a bias `[hidden + hidden + v_hidden]` to queries, keys and values whose heads are joined, and takes the heads apart. What
/// comes with its heads apart is projected with its bias already.
fn with_bias(cx: &mut Cx<'_, '_>, mut parts: [ValueId; 3], bias: Option<ValueId>, heads: i64) -> Res<[ValueId; 3]> {
    let mut at = SymExpr::from(0);
    for p in &mut parts {
        let joined = cx.want_rank(*p, 3..=4)? == 3;
        if let Some(b) = bias {
            let width = if joined { cx.dim(*p, 2)? } else { cx.dim(*p, 1)? * cx.dim(*p, 3)? };
            let own = cx.slice_axis(b, 0, at.clone(), width.clone(), 1)?;
            at = &at + &width;
            if joined {
                *p = cx.bin(BinaryOp::Add, *p, own)?;
            }
        }
        if joined {
            *p = split_heads(cx, *p, heads)?;
        }
    }
    Ok(parts)
}

/// A cache from which beams are chosen is part of a search, not of an attention.
fn no_beams(cx: &Cx<'_, '_>, input: usize) -> Res<()> {
    match cx.opt(input)? {
        Some(_) => {
            let f = Fault::form("`cache_indirection` is given: a cache shared by the beams of a search is not taken");
            Err(f.help("export the decoder by itself and search outside of it"))
        }
        None => Ok(()),
    }
}

fn results(y: ValueId, [k, v]: [ValueId; 2], products: Option<ValueId>) -> Vec<Slot> {
    [y, k, v].into_iter().chain(products).map(Slot::Value).collect()
}

/// Queries, keys and values are projected already; keys and values may come with their heads apart, as from another model's cache.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.MultiHeadAttention`, version 1.
fn multi_head_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let q = cx.input(0)?;
    let n = cx.need_int("num_heads")?;
    no_beams(cx, 9)?;
    let parts = match (cx.opt(1)?, cx.opt(2)?) {
        (Some(k), Some(v)) => [q, k, v],
        (Some(kv), None) => {
            let kv = unpacked(cx, kv, 2)?;
            [q, kv[0], kv[1]]
        }
        (None, None) => {
            let all = unpacked(cx, q, 3)?;
            [all[0], all[1], all[2]]
        }
        (None, Some(_)) => return Err(Fault::new(Code::BAD_ARITY, "values are given without keys")),
    };
    let bias = cx.opt(3)?;
    let heads = with_bias(cx, parts, bias, n)?;
    let core = Core { heads, mask: cx.opt(4)?, bias: cx.opt(5)?, past: pair(cx, 6)?, filled: cx.opt(8)? };
    let (y, kv, products) = core.run(cx, cx.wants(3))?;
    Ok(results(y, kv, products))
}

/// As [`multi_head_attention`] for one query a batch element. Keys and values with their heads apart are those of another model, to which
/// nothing is added.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.DecoderMaskedMultiHeadAttention`, version 1.
fn decoder_masked(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let q = cx.input(0)?;
    let n = cx.need_int("num_heads")?;
    cx.want_rank(q, 3..=3)?;
    if !portwright_ir::graph::infer::may_be_equal(cx.g(), &cx.dim(q, 1)?, &1.into()) {
        return Err(Fault::shape(format!("queries are {}, expected one a batch element", cx.ty(q))));
    }
    no_beams(cx, 9)?;
    let parts = match (cx.opt(1)?, cx.opt(2)?) {
        (Some(k), Some(v)) => [q, k, v],
        (None, None) => {
            let third = cx.dim(q, 2)?.div(&3.into());
            let all = cx.split(q, 2, &[third.clone(), third.clone(), third])?;
            [all[0], all[1], all[2]]
        }
        _ => return Err(Fault::new(Code::BAD_ARITY, "keys are given without values, or values without keys")),
    };
    let bias = cx.opt(10)?;
    let heads = with_bias(cx, parts, bias, n)?;
    let shared = cx.flag("past_present_share_buffer", false)?;
    let core = Core { heads, mask: cx.opt(3)?, bias: cx.opt(4)?, past: pair(cx, 5)?, filled: cx.opt(7)?.filter(|_| shared) };
    let (y, kv, products) = core.run(cx, cx.wants(3))?;
    Ok(results(y, kv, products))
}

/// What [`attention`] and [`quantized_attention`] do with a projection `[B,S,hidden + hidden + v_hidden]`; past and present are one tensor
/// `[2,B,H,T,D]`.
fn projected(
    cx: &mut Cx<'_, '_>,
    all: ValueId,
    mask: Option<ValueId>,
    past: Option<ValueId>,
    bias: Option<ValueId>,
    filled: Option<ValueId>,
) -> Res<Vec<Slot>> {
    if cx.flag("do_rotary", false)? {
        return Err(
            Fault::form("`do_rotary` is 1: angles without a table are not taken").help("export with RotaryEmbedding before the attention")
        );
    }
    let n = cx.need_int("num_heads")?;
    let third = cx.dim(all, 2)?.div(&3.into());
    let widths: Vec<SymExpr> = match cx.ints("qkv_hidden_sizes")?.filter(|l| !l.is_empty()) {
        Some(l) if l.len() == 3 => l.into_iter().map(SymExpr::from).collect(),
        Some(l) => return Err(Fault::attr(format!("`qkv_hidden_sizes` is {l:?}, expected three"))),
        None => vec![third; 3],
    };
    let parts = cx.split(all, 2, &widths)?;
    let heads = [split_heads(cx, parts[0], n)?, split_heads(cx, parts[1], n)?, split_heads(cx, parts[2], n)?];
    let past = match past {
        Some(p) => {
            cx.want_rank(p, 5..=5)?;
            let dims = cx.dims(p)[1..].to_vec();
            let mut half = |i: i64| {
                let old = cx.slice_axis(p, 0, i.into(), 1.into(), 1)?;
                cx.reshape(old, dims.clone())
            };
            Some([half(0)?, half(1)?])
        }
        None => None,
    };
    let (y, [k, v], _) = Core { heads, mask, bias, past, filled }.run(cx, false)?;
    let mut out = vec![Slot::Value(y)];
    if cx.wants(1) {
        let (k, v) = (cx.unsqueeze(k, &[0])?, cx.unsqueeze(v, &[0])?);
        out.push(Slot::Value(cx.concat(&[k, v], 0)?));
    }
    Ok(out)
}

/// Projects one input to queries, keys and values first.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.Attention`, version 1.
fn attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    cx.want_rank(x, 3..=3)?;
    cx.want_rank(w, 2..=2)?;
    let spec = matmul_spec(3, 2, false, false)?;
    let mut all = cx.contract(&spec, x, w)?;
    if let Some(b) = cx.opt(2)? {
        all = cx.bin(BinaryOp::Add, all, b)?;
    }
    let (mask, past, bias) = (cx.opt(3)?, cx.opt(4)?, cx.opt(5)?);
    let filled = if cx.flag("past_present_share_buffer", false)? { Some(cx.input(6)?) } else { None };
    projected(cx, all, mask, past, bias, filled)
}

/// As [`attention`], with a projection of integers.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.QAttention`, version 1.
fn quantized_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (sx, sw) = (cx.input(3)?, cx.input(4)?);
    let (mask, zx, zw, past) = (cx.opt(5)?, cx.opt(6)?, cx.opt(7)?, cx.opt(8)?);
    cx.want_rank(x, 3..=3)?;
    cx.want_rank(w, 2..=2)?;
    if cx.flag("past_present_share_buffer", false)? {
        return Err(Fault::form("`past_present_share_buffer` is 1, but no input says how many keys there are"));
    }
    let sum = integer_product(cx, x, w, zx, zw)?;
    let sx = cx.as_scalar(sx)?;
    let all = to_real(cx, sum, sx, sw, Some(bias))?;
    projected(cx, all, mask, past, None, None)
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
