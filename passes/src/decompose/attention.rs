// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention and rotary embedding.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, NodeId, Op, ReduceOp, UnaryOp};
use portwright_ir::sym::SymExpr;

use super::{narrowed, parts, widened};
use crate::rules::{Edit, Tap};

pub(super) fn attention(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Attention { scale, causal, has_mask, has_offset, softcap }, &[q, k, v, ref rest @ ..]) = parts(e, n) else { return None };
    let (q_dims, k_dims) = (e.ty(q).dims.clone(), e.ty(k).dims.clone());
    let ([b, hq, queries, depth], [_, hk, keys, _]) = (q_dims.as_slice(), k_dims.as_slice()) else { return None };
    let acc = if e.ty(q).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    // Query heads that share a key head stand along a dim of their own, from here to the result.
    let repeated = hq != hk;
    let repeat = hq.div(hk);
    let (q, specs) = if repeated {
        let grouped = vec![b.clone(), hk.clone(), repeat.clone(), queries.clone(), depth.clone()];
        (e.reshape(q, grouped)?, ["bhrqd,bhkd->bhrqk", "bhrqk,bhkd->bhrqd"])
    } else {
        (q.into(), ["bhqd,bhkd->bhqk", "bhqk,bhkd->bhqd"])
    };
    let scores = e.contract(specs[0], q, k, acc, acc)?;
    let mut s = e.with_scalar(BinaryOp::Mul, scores, scale.to_f64())?;
    if softcap.to_f64() != 0.0 {
        let small = e.with_scalar(BinaryOp::Div, s, softcap.to_f64())?;
        let bent = e.unary(UnaryOp::Tanh, small)?;
        s = e.with_scalar(BinaryOp::Mul, bent, softcap.to_f64())?;
    }
    let nothing = e.scalar(acc, f64::NEG_INFINITY)?;
    let mut extra = rest.iter();
    if *has_mask {
        let mut mask = Tap::Old(*extra.next()?);
        if repeated {
            mask = grouped_mask(e, mask, hk, &repeat)?;
        }
        s = if e.ty(mask).dtype == DType::Bool {
            e.select(mask, s, nothing)?
        } else {
            let mask = e.cast(mask, acc)?;
            e.binary(BinaryOp::Add, s, mask)?
        };
    }
    if *causal {
        let mut row = e.iota(DType::I64, 0, vec![queries.clone(), 1.into()])?;
        if *has_offset {
            let &offset = extra.next()?;
            row = e.binary(BinaryOp::Add, row, offset)?;
        }
        let column = e.iota(DType::I64, 1, vec![1.into(), keys.clone()])?;
        let seen = e.binary(BinaryOp::Le, column, row)?;
        s = e.select(seen, s, nothing)?;
    }
    // A row with nothing to see has maximum -inf and sum 0; both are replaced so that its probabilities are 0.
    let masked = *has_mask || *causal;
    let axis = vec![if repeated { 4 } else { 3 }];
    let mut top = e.reduce(ReduceOp::Max, s, axis.clone())?;
    if masked {
        let empty = e.binary(BinaryOp::Eq, top, nothing)?;
        let zero = e.scalar(acc, 0.0)?;
        top = e.select(empty, zero, top)?;
    }
    let d = e.binary(BinaryOp::Sub, s, top)?;
    let p = e.unary(UnaryOp::Exp, d)?;
    let mut sum = e.reduce(ReduceOp::Sum, p, axis)?;
    if masked {
        let zero = e.scalar(acc, 0.0)?;
        let one = e.scalar(acc, 1.0)?;
        let empty = e.binary(BinaryOp::Eq, sum, zero)?;
        sum = e.select(empty, one, sum)?;
    }
    let p = e.binary(BinaryOp::Div, p, sum)?;
    let v = e.cast(v, acc)?;
    let mut y = e.contract(specs[1], p, v, acc, acc)?;
    if repeated {
        let last = e.ty(y).dims.last()?.clone();
        y = e.reshape(y, vec![b.clone(), hq.clone(), queries.clone(), last])?;
    }
    narrowed(e, n, y)
}

/// A mask over query heads as one over key heads and the query heads that share each.
fn grouped_mask(e: &mut Edit<'_>, mask: Tap, heads: &SymExpr, repeat: &SymExpr) -> Option<Tap> {
    let mut dims = e.ty(mask).dims.clone();
    if let Some(h) = dims.len().checked_sub(3) {
        let one = dims.get(h)?.is(1);
        *dims.get_mut(h)? = if one { 1.into() } else { heads.clone() };
        dims.insert(h + 1, if one { 1.into() } else { repeat.clone() });
    }
    e.reshape(mask, dims)
}

pub(super) fn rotary(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Rotary { rotary_dims, interleaved }, &[x, cos, sin]) = parts(e, n) else { return None };
    let dims = e.ty(x).dims.clone();
    let [b, h, s, d] = dims.as_slice() else { return None };
    let half = rotary_dims.div(&2.into());
    let one: SymExpr = 1.into();
    let wide = widened(e, x)?;
    let turning = e.slice_axis(wide, 3, 0.into(), rotary_dims.clone())?;
    // The pairs lie along a dim of 2: innermost when interleaved, else before the index of the pair.
    let (paired, axis): (Dims, usize) =
        if *interleaved { (vec![b.clone(), h.clone(), s.clone(), half.clone(), 2.into()], 4) } else { (dims.clone(), 3) };
    let angle = |e: &mut Edit<'_>, t: portwright_ir::graph::ValueId| {
        let mut dims = e.ty(t).dims.clone();
        dims.insert(1, one.clone());
        if *interleaved {
            dims.push(one.clone());
        }
        let t = widened(e, t)?;
        e.reshape(t, dims)
    };
    let (cos, sin) = (angle(e, cos)?, angle(e, sin)?);
    let (first, second) = if *interleaved {
        let pairs = e.reshape(turning, paired)?;
        (e.slice_axis(pairs, axis, 0.into(), one.clone())?, e.slice_axis(pairs, axis, one.clone(), one.clone())?)
    } else {
        (e.slice_axis(turning, axis, 0.into(), half.clone())?, e.slice_axis(turning, axis, half.clone(), half.clone())?)
    };
    let part = |e: &mut Edit<'_>, a: Tap, b: Tap, op: BinaryOp| {
        let left = e.binary(BinaryOp::Mul, first, a)?;
        let right = e.binary(BinaryOp::Mul, second, b)?;
        e.binary(op, left, right)
    };
    let low = part(e, cos, sin, BinaryOp::Sub)?;
    let high = part(e, sin, cos, BinaryOp::Add)?;
    let mut y = e.concat(&[low, high], axis)?;
    if *interleaved {
        y = e.reshape(y, vec![b.clone(), h.clone(), s.clone(), rotary_dims.clone()])?;
    }
    y = narrowed(e, n, y)?;
    if d != rotary_dims {
        let rest = e.slice_axis(x, 3, rotary_dims.clone(), d - rotary_dims)?;
        y = e.concat(&[y, rest], 3)?;
    }
    Some(y)
}
