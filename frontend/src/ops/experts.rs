// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mixtures of experts (`com.microsoft`): each token meets the few experts that a router chooses for it.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::blocks::{bits_of, block_of, middle, unpack};
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("MoE", 1, 5, 8, moe), op("QMoE", 1, 7, 21, quantized)];

/// Weights of one layer of all experts, `[E, N, K]` or what stands for them.
struct Layer {
    /// Numbers, or integers and 8-bit floats that have scales.
    weight: ValueId,
    /// Scales with their blocks.
    scales: Option<Scales>,
    /// `[E, N]`
    bias: Option<ValueId>,
}

/// What brings the weights of a [`Layer`] back to real numbers.
struct Scales {
    /// Scales `[E, N, blocks]`, `[E, row blocks, blocks]` or `[E, 1, 1]`.
    scale: ValueId,
    /// Zero points `[E, N, blocks]`; `None` is 0.
    zero: Option<ValueId>,
    /// Elements along `K` that share a scale.
    block: i64,
    /// Rows that share a scale.
    rows: i64,
}

/// Rows `[R, K]` times the weights of the expert that each belongs to (`group: int[R]`), `[R, N]`. Only the chosen experts are read.
fn product_of(cx: &mut Cx<'_, '_>, x: ValueId, layer: &Layer, group: ValueId) -> Res<ValueId> {
    let dtype = cx.dtype(x);
    let mut w = cx.gather(layer.weight, group, 0)?;
    if let Some(s) = &layer.scales {
        w = real(cx, w, s, group, dtype)?;
    }
    let y = cx.contract("rk,rnk->rn", x, w)?;
    match layer.bias {
        Some(b) => {
            let b = cx.gather(b, group, 0)?;
            cx.bin(BinaryOp::Add, y, b)
        }
        None => Ok(y),
    }
}

/// Chosen weights as numbers of `dtype`.
fn real(cx: &mut Cx<'_, '_>, w: ValueId, s: &Scales, group: ValueId, dtype: DType) -> Res<ValueId> {
    let scale = cx.gather(s.scale, group, 0)?;
    let zero = match s.zero {
        Some(z) => Some(cx.gather(z, group, 0)?),
        None => None,
    };
    if s.rows == 1 && !cx.dim(scale, 1)?.is(1) {
        return super::quant::dequantize_of(cx, w, scale, zero, dtype, Some(2), s.block as u32);
    }
    // Squares of weights share a scale.
    let (d, mut scale) = (cx.dims(w), scale);
    for (axis, block) in [(1, s.rows), (2, s.block)] {
        if !cx.dim(scale, axis)?.is(1) {
            let i = cx.iota(DType::I64, 0, vec![d[axis].clone()])?;
            let i = cx.bin_c(BinaryOp::Div, i, block as f64)?;
            scale = cx.gather(scale, i, axis)?;
        }
    }
    let (w, scale) = (cx.cast(w, DType::F32)?, cx.cast(scale, DType::F32)?);
    let w = cx.bin(BinaryOp::Mul, w, scale)?;
    cx.cast(w, dtype)
}

/// Tokens `[T, K]`, experts `int[T, k]` of each and how much of each it takes, `f32[T, k]`.
struct Routes {
    tokens: ValueId,
    chosen: ValueId,
    shares: ValueId,
}

/// The `k` most probable experts of each token; their probabilities, or what `weights` has for them, are the shares.
fn route(cx: &mut Cx<'_, '_>, weights: Option<ValueId>) -> Res<Routes> {
    let (x, router) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.want_rank(x, 2..=3)?;
    cx.want_rank(router, 2..=2)?;
    let d = cx.dims(x);
    let tokens = cx.reshape(x, vec![product(&d[..rank - 1]), d[rank - 1].clone()])?;
    let k = cx.int("k", 1)?;
    let experts = cx.dim(router, 1)?;
    if k < 1 || experts.as_const().is_some_and(|e| k > e) {
        return Err(Fault::attr(format!("`k` is {k}, expected 1 to the {experts} experts")));
    }
    if cx.flag("use_sparse_mixer", false)? {
        return Err(Fault::form("`use_sparse_mixer` is 1; routing by the largest probabilities is taken"));
    }
    let router = cx.cast(router, DType::F32)?;
    let scores = if weights.is_none() { cx.add(Op::Softmax { axis: 1 }, &[router])? } else { router };
    let top = cx.add_all(Op::TopK { axis: 1, k: k.into(), largest: true }, &[scores])?;
    let mut shares = match weights {
        Some(w) => {
            cx.want_rank(w, 2..=2)?;
            let w = cx.cast(w, DType::F32)?;
            cx.add(Op::GatherElements { axis: 1 }, &[w, top[1]])?
        }
        None => top[0],
    };
    if cx.flag("normalize_routing_weights", false)? {
        let sum = cx.reduce(ReduceOp::Sum, shares, &[1], true)?;
        shares = cx.bin(BinaryOp::Div, shares, sum)?;
    }
    Ok(Routes { tokens, chosen: top[1], shares })
}

/// `G * sigmoid(alpha * G) * (L + beta)` with `G = min(g, limit)` and `L = clamp(l, -limit, limit)`.
fn swiglu(cx: &mut Cx<'_, '_>, g: ValueId, l: ValueId) -> Res<ValueId> {
    let (mut g, mut l) = (g, l);
    if let Some(limit) = cx.float_opt("swiglu_limit")? {
        g = cx.bin_c(BinaryOp::Min, g, limit)?;
        l = cx.bin_c(BinaryOp::Min, l, limit)?;
        l = cx.bin_c(BinaryOp::Max, l, -limit)?;
    }
    let (alpha, beta) = (cx.float("activation_alpha", 1.0)?, cx.float("activation_beta", 0.0)?);
    let g = super::activation::swish_of(cx, g, alpha)?;
    let l = if beta == 0.0 { l } else { cx.bin_c(BinaryOp::Add, l, beta)? };
    cx.bin(BinaryOp::Mul, g, l)
}

/// What experts make of the tokens that they get, added up by the shares, in the dims of input 0.
fn mixture(cx: &mut Cx<'_, '_>, r: Routes, first: Layer, second: Layer, third: Option<Layer>) -> Res<Vec<Slot>> {
    let (dims, dtype) = (cx.dims(cx.input(0)?), cx.dtype(r.tokens));
    let c = cx.dims(r.chosen);
    let (count, k) = (c[0].clone(), c[1].clone());
    let rows = &count * &k;
    let group = cx.reshape(r.chosen, vec![rows.clone()])?;
    // A row for each token and expert.
    let width = cx.dim(r.tokens, 1)?;
    let x = cx.unsqueeze(r.tokens, &[1])?;
    let x = cx.broadcast(x, vec![count.clone(), k.clone(), width.clone()])?;
    let x = cx.reshape(x, vec![rows.clone(), width])?;
    let h = product_of(cx, x, &first, group)?;
    let gate = match &third {
        Some(l) => Some(product_of(cx, x, l, group)?),
        None => None,
    };
    let fusion = cx.int("swiglu_fusion", 0)?;
    let h = match (cx.text("activation_type", "relu")?, gate) {
        ("swiglu", Some(l)) if fusion == 0 => swiglu(cx, h, l)?,
        ("swiglu", None) if fusion == 1 || fusion == 2 => {
            let n = cx.dim(h, 1)?;
            let half = n.div(&2.into());
            let (g, l) = if fusion == 2 {
                let parts = cx.split(h, 1, &[half.clone(), half])?;
                (parts[0], parts[1])
            } else {
                (cx.slice_axis(h, 1, 0.into(), half.clone(), 2)?, cx.slice_axis(h, 1, 1.into(), half, 2)?)
            };
            swiglu(cx, g, l)?
        }
        ("swiglu", gate) => {
            let m = format!(
                "`swiglu_fusion` is {fusion} {} FC3; expected 0 with it, 1 or 2 without",
                if gate.is_some() { "with" } else { "without" }
            );
            return Err(Fault::attr(m));
        }
        (kind, gate) => {
            let h = match kind {
                "identity" => h,
                "relu" => cx.bin_c(BinaryOp::Max, h, 0.0)?,
                "gelu" => cx.add(Op::Gelu { tanh: true }, &[h])?,
                "silu" => cx.add(Op::Silu {}, &[h])?,
                other => return Err(Fault::attr(format!("`activation_type` is {other:?}, expected relu, gelu, silu, swiglu or identity"))),
            };
            match gate {
                Some(g) => cx.bin(BinaryOp::Mul, h, g)?,
                None => h,
            }
        }
    };
    let y = product_of(cx, h, &second, group)?;
    let n = cx.dim(y, 1)?;
    let y = cx.cast(y, DType::F32)?;
    let y = cx.reshape(y, vec![count, k, n])?;
    let y = cx.contract("tkn,tk->tn", y, r.shares)?;
    let y = cx.cast(y, dtype)?;
    one(cx.reshape(y, dims)?)
}

/// A layer whose weights are numbers, from input `i` and its bias behind it.
fn plain(cx: &mut Cx<'_, '_>, i: usize) -> Res<Layer> {
    let weight = cx.input(i)?;
    cx.want_rank(weight, 3..=3)?;
    Ok(Layer { weight, scales: None, bias: cx.opt(i + 1)? })
}

/// # Source
/// ONNX Runtime contrib op `com.microsoft.MoE`, version 1.
fn moe(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let routes = route(cx, None)?;
    let (first, second) = (plain(cx, 2)?, plain(cx, 4)?);
    let third = if cx.opt(6)?.is_some() { Some(plain(cx, 6)?) } else { None };
    mixture(cx, routes, first, second, third)
}

/// Layer `n` (1 to 3) of quantized weights.
fn packed_layer(cx: &mut Cx<'_, '_>, n: usize, float: bool) -> Res<Layer> {
    let at = 3 * n - 1;
    let (weight, scale, bias) = (cx.input(at)?, cx.opt(at + 1)?, cx.opt(at + 2)?);
    let zero = cx.opt(10 + n)?;
    cx.want_rank(weight, 3..=3)?;
    let block = cx.int("block_size", 0)?;
    if float {
        return float_layer(cx, n, block);
    }
    let all = bits_of(cx, "expert_weight_bits", 4)?;
    let name = ["fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits"][n - 1];
    let bits = bits_of(cx, name, all)?;
    let Some(scale) = scale else { return Err(Fault::new(Code::BAD_ARITY, format!("input {} (scales) is missing", at + 1))) };
    let q = unpack(cx, weight, bits)?;
    let d = cx.dims(q);
    let whole = || d[2].as_const().ok_or_else(|| Fault::form("the width of the weights must be known when the model is compiled"));
    let (block, blocks) = match block {
        b if b <= 0 => (whole()?, SymExpr::from(1)),
        b => (block_of(b)?, d[2].div(&b.into())),
    };
    let wanted = vec![d[0].clone(), d[1].clone(), blocks.clone()];
    if cx.ty(scale).elems() != product(&wanted) {
        return Err(Fault::shape(format!("scales of {} for weights of {} in blocks of {block}", cx.ty(scale), cx.ty(q))));
    }
    let scale = cx.reshape(scale, wanted.clone())?;
    let zero = match zero {
        Some(z) => {
            // Packed along the last dim, which is that of the rows where a row has one scale.
            let last = cx.rank(z).checked_sub(1).ok_or_else(|| Fault::shape("zero points are a scalar"))?;
            let z = unpack(cx, z, bits)?;
            let size = if last == 1 { d[1].clone() } else { blocks };
            let z = cx.slice_axis(z, last, 0.into(), size, 1)?;
            cx.reshape(z, wanted)?
        }
        None => cx.fill(cx.dtype(q), middle(bits), wanted)?,
    };
    Ok(Layer { weight: q, scales: Some(Scales { scale, zero: Some(zero), block, rows: 1 }), bias })
}

/// Layer `n` of 8-bit floats, with a scale a square of weights or an expert.
fn float_layer(cx: &mut Cx<'_, '_>, n: usize, block: i64) -> Res<Layer> {
    let at = 3 * n - 1;
    let (weight, scale, bias) = (cx.input(at)?, cx.opt(at + 1)?, cx.opt(at + 2)?);
    if cx.dtype(weight) != DType::F8E4M3FN {
        return Err(Fault::new(Code::DTYPE_MISMATCH, format!("input {at} is {}, expected f8e4m3fn", cx.dtype(weight))));
    }
    let (scale, block) = if block > 0 {
        let s = scale.ok_or_else(|| Fault::new(Code::BAD_ARITY, format!("input {} (scales) is missing", at + 1)))?;
        cx.want_rank(s, 3..=3)?;
        (s, block)
    } else {
        if n == 3 {
            return Err(Fault::form("FC3 of fp8 without blocks has no scale"));
        }
        let s = cx.input(14 + n)?;
        let e = cx.ty(s).elems();
        (cx.reshape(s, vec![e, 1.into(), 1.into()])?, 1)
    };
    Ok(Layer { weight, scales: Some(Scales { scale, zero: None, block, rows: block }), bias })
}

/// Experts whose weights are integers of 2, 4 or 8 bits, or 8-bit floats.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.QMoE`, version 1; weights as its CPU kernel reads them, `[E, N, K * bits / 8]`.
fn quantized(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let float = match cx.text("quant_type", "int")? {
        "int" => false,
        "fp8" => true,
        other => return Err(Fault::form(format!("`quant_type` is {other:?}; int and fp8 are taken"))),
    };
    if cx.int("weights_prepacked", -1)? == 1 {
        let f = Fault::form("`weights_prepacked` is 1: weights in the layout of a CUDA kernel are not taken");
        return Err(f.help("export the model with weights as the quantizer writes them"));
    }
    if (17..21).any(|i| cx.opt(i).is_ok_and(|v| v.is_some())) {
        return Err(Fault::form("scales of activations are given; weights alone are quantized here"));
    }
    let weights = cx.opt(14)?;
    let routes = route(cx, weights)?;
    let (first, second) = (packed_layer(cx, 1, float)?, packed_layer(cx, 2, float)?);
    let third = if cx.opt(8)?.is_some() { Some(packed_layer(cx, 3, float)?) } else { None };
    mixture(cx, routes, first, second, third)
}
