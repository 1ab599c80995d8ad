// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products with what is dequantized by blocks, for machines of lanes: kernels read the narrow numbers and widen them on their way into
//! fragments.
//!
//! Before: `contract{"mk,nk->mn"}(x, dequantize{axis=1, block=128}(q, s))`, or with scales of two-dimensional blocks
//! `contract(x, reshape(mul(reshape{N/a,a,K/b,b}(cast(q)), s)))`; after: `contract_blocks{block}(x, q, s)`, where `s` has one number a row of `q`
//! and block of it. Where `x` is floats of 8 bits with scales by the same blocks, and fragments multiply those:
//! `contract_scaled{block}(x.q, q, x.s, s)`.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ValueId};

use crate::canonical::contract::labels;
use crate::legalize;
use crate::rules::consts::is_static;
use crate::rules::{Edit, RuleLog, Tap, sweep};
use crate::spec::{Math, SimtSpec};

const NAME: &str = "products-in-blocks";

/// Rewrites all products of fragments that it can, those of regions included.
pub(super) fn in_blocks(graph: &mut Graph, spec: &SimtSpec, math: Math, log: &mut RuleLog) {
    sweep(graph, NAME, log, &|g, n| rewrite(g, n, spec, math));
}

/// Narrow numbers, `[N, K]` or `[K, N]`, and what they are multiplied with.
struct Narrow {
    q: ValueId,
    scale: Tap,
    zero: Option<ValueId>,
    block: i64,
}

fn rewrite(g: &Graph, n: NodeId, spec: &SimtSpec, math: Math) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec: text, acc: DType::F32, out }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let dtype = g.ty(x).dtype;
    if *out != dtype || g.ty(w).dtype != dtype || !spec.fragments.iter().any(|f| f.dtypes == [dtype, dtype, DType::F32]) {
        return None;
    }
    let [a, b, result] = labels(text)?;
    let (&k, lead) = a.split_last()?;
    let (&last, same) = result.split_last()?;
    let at = b.iter().position(|&c| c == k)?;
    if b.len() != 2 || same != lead || result.contains(&k) || b.get(1 - at) != Some(&last) {
        return None;
    }
    let mut e = Edit::new(g, NAME, &[n]);
    let narrow = dequantized(g, w, at).or_else(|| by_two_dims(&mut e, g, w, at))?;
    let stored = g.ty(narrow.q).dtype;
    let fits = if stored.is_float() { stored.bits() == 8 } else { stored.is_int() && stored.bits() <= 4 };
    // Numbers that would have to be turned at run time, or out of bytes that they share, stay as they are.
    if !fits || (at == 0 && (!is_static(g, narrow.q) || stored.is_packed())) {
        return None;
    }
    let by_rows = |e: &mut Edit<'_>, v: Tap| if at == 0 { e.transpose(v, vec![1, 0]) } else { Some(v) };
    let q = by_rows(&mut e, narrow.q.into())?;
    let scale = by_rows(&mut e, narrow.scale)?;
    // Matrix units may add products of such floats with fewer bits than f32 has.
    let fast = math == Math::Fast;
    let left = rows_of(g, x, narrow.block)
        .filter(|&(rows, _)| at == 1 && legalize::in_fragments(spec, g, &[rows, narrow.q], narrow.block, fast).is_some());
    if let (Some((rows, own)), None) = (left, narrow.zero) {
        let op = Op::ContractScaled { block: narrow.block, out: dtype, narrow: fast };
        let y = e.add(op, &[rows.into(), q, own.into(), scale])?;
        return e.finish(g.result(n), y);
    }
    let mut operands = vec![x.into(), q, scale];
    if let Some(z) = narrow.zero {
        operands.push(by_rows(&mut e, z.into())?);
    }
    let op = Op::ContractBlocks { block: narrow.block, narrow: false, zero: 0, groups: false };
    let y = e.add(op, &operands)?;
    e.finish(g.result(n), y)
}

/// One number a block along the summed dim, `along`.
fn dequantized(g: &Graph, w: ValueId, along: usize) -> Option<Narrow> {
    let source = g.producer(w)?;
    let (Op::Dequantize { axis, block, .. }, &[q, scale, ref zero @ ..]) = (&source.op, source.operands.as_slice()) else { return None };
    let blocked = *axis == Some(along as u32) && *block > 1 && g.ty(q).rank() == 2 && g.ty(scale).rank() == 2;
    blocked.then(|| Narrow { q, scale: scale.into(), zero: zero.first().copied(), block: i64::from(*block) })
}

/// The floats of 8 bits and their scales that rows are made of, one a block along the last dim.
fn rows_of(g: &Graph, x: ValueId, along: i64) -> Option<(ValueId, ValueId)> {
    let source = g.producer(x)?;
    let (Op::Dequantize { axis: Some(axis), block, .. }, &[q, scale]) = (&source.op, source.operands.as_slice()) else { return None };
    let ty = g.ty(q);
    let last = *axis as usize + 1 == ty.rank() && i64::from(*block) == along;
    let whole = ty.dims.last()?.divisible_by(along, &|_| 1);
    (last && whole && ty.dtype.is_float() && ty.dtype.bits() == 8).then_some((q, scale))
}

/// What a value is made of by conversions and reshapes alone.
fn source(g: &Graph, mut v: ValueId) -> ValueId {
    while let Some(node) = g.producer(v) {
        match (&node.op, node.operands.as_slice()) {
            (Op::Cast { .. } | Op::Reshape { .. }, &[x]) => v = x,
            _ => break,
        }
    }
    v
}

/// One number a block of both dims, multiplied as exporters write it: each dim apart into blocks and what is in them.
fn by_two_dims(e: &mut Edit<'_>, g: &Graph, w: ValueId, along: usize) -> Option<Narrow> {
    let mut v = w;
    while let Some((Op::Cast { .. } | Op::Reshape { .. }, &[x])) = g.producer(v).map(|n| (&n.op, n.operands.as_slice())) {
        v = x;
    }
    let (Op::Binary(BinaryOp::Mul), &[l, r]) = g.producer(v).map(|n| (&n.op, n.operands.as_slice()))? else { return None };
    let float8 = |v: ValueId| g.ty(v).dtype.is_float() && g.ty(v).dtype.bits() == 8;
    let (wide, scale) = if float8(source(g, l)) { (l, r) } else { (r, l) };
    let q = source(g, wide);
    let scale = match g.producer(scale).map(|n| (&n.op, n.operands.as_slice())) {
        Some((Op::Broadcast { .. }, &[x])) => x,
        _ => scale,
    };
    let (apart, of, to) = (g.ty(v).static_dims()?, g.ty(scale).static_dims()?, g.ty(w).static_dims()?);
    // [A, a, B, b]: scales are the same along a and b.
    let (&[blocks, rows, across, columns], &[n, m]) = (apart.as_slice(), to.as_slice()) else { return None };
    if !float8(q) || g.ty(q).static_dims()? != to || of != [blocks, 1, across, 1] || [blocks * rows, across * columns] != [n, m] {
        return None;
    }
    let dims = |list: &[i64]| list.iter().map(|&d| d.into()).collect::<Dims>();
    // One a block along the summed dim, for every element of the other one.
    let scale = e.reshape(scale, dims(&[blocks, 1, across, 1]))?;
    let (spread, shape, block) = match along {
        1 => ([blocks, rows, across, 1], [n, across], columns),
        _ => ([blocks, 1, across, columns], [blocks, m], rows),
    };
    let scale = e.broadcast(scale, dims(&spread))?;
    let scale = e.reshape(scale, dims(&shape))?;
    Some(Narrow { q, scale, zero: None, block })
}
