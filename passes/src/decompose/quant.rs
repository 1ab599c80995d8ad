// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantization as arithmetic.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, NodeId, Op, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::parts;
use crate::rules::{Edit, Tap};

/// A scale or zero point with dims that broadcast against `dims`: one number, one a channel, or one a block along `axis`.
fn spread(e: &mut Edit<'_>, p: Tap, dims: &Dims, axis: Option<u32>, block: u32) -> Option<Tap> {
    let p_dims = e.ty(p).dims.clone();
    let Some(axis) = axis.map(|a| a as usize) else { return Some(p) };
    if p_dims.iter().all(|d| d.is(1)) {
        return e.reshape(p, vec![1.into(); dims.len()]);
    }
    if p_dims.len() == 1 && block <= 1 {
        let mut wide: Dims = vec![1.into(); dims.len()];
        *wide.get_mut(axis)? = p_dims.first()?.clone();
        return e.reshape(p, wide);
    }
    // One a block: each is repeated `block` times along the axis, and the last block may be short.
    let (count, size) = (p_dims.get(axis)?.clone(), SymExpr::from(i64::from(block.max(1))));
    let mut split = p_dims.clone();
    split.insert(axis + 1, 1.into());
    let mut repeated = split.clone();
    repeated[axis + 1] = size.clone();
    let mut joined = p_dims;
    joined[axis] = &count * &size;
    let p = e.reshape(p, split)?;
    let p = e.broadcast(p, repeated)?;
    let p = e.reshape(p, joined)?;
    e.slice_axis(p, axis, 0.into(), dims.get(axis)?.clone())
}

pub(super) fn quantize(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Quantize { to, axis, block, saturate }, &[x, scale, ref zero @ ..]) = parts(e, n) else { return None };
    let dims = e.ty(x).dims.clone();
    let real = real(&[e.ty(x).dtype, e.ty(scale).dtype]);
    let scale = e.cast(scale, real)?;
    let scale = spread(e, scale, &dims, *axis, *block)?;
    let x = e.cast(x, real)?;
    let mut y = e.binary(BinaryOp::Div, x, scale)?;
    if to.is_float() {
        if let Some(&z) = zero.first() {
            let z = offset(e, z, real, &dims, *axis, *block)?;
            y = e.binary(BinaryOp::Add, y, z)?;
        }
        return e.add(Op::Cast { to: *to, saturate: *saturate }, &[y]);
    }
    y = e.unary(UnaryOp::Round, y)?;
    if let Some(&z) = zero.first() {
        let z = offset(e, z, real, &dims, *axis, *block)?;
        y = e.binary(BinaryOp::Add, y, z)?;
    }
    let (low, high) = to.int_range()?;
    let y = e.with_scalar(BinaryOp::Max, y, low as f64)?;
    let y = e.with_scalar(BinaryOp::Min, y, high as f64)?;
    e.cast(y, *to)
}

/// The dtype in which scales are applied: f64 where one of these is, else f32.
fn real(dtypes: &[DType]) -> DType {
    if dtypes.contains(&DType::F64) { DType::F64 } else { DType::F32 }
}

fn offset(e: &mut Edit<'_>, z: ValueId, real: DType, dims: &Dims, axis: Option<u32>, block: u32) -> Option<Tap> {
    let z = e.cast(z, real)?;
    spread(e, z, dims, axis, block)
}

pub(super) fn dequantize(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Dequantize { to, axis, block }, &[q, scale, ref zero @ ..]) = parts(e, n) else { return None };
    let dims = e.ty(q).dims.clone();
    let integer = e.ty(q).dtype.is_int();
    let real = real(&[*to, e.ty(scale).dtype]);
    let mut x = Tap::Old(q);
    if let Some(&z) = zero.first() {
        if integer && e.ty(q).dtype.bits() <= 16 {
            // The difference is exact in i32.
            x = e.cast(x, DType::I32)?;
            let z = e.cast(z, DType::I32)?;
            let z = spread(e, z, &dims, *axis, *block)?;
            x = e.binary(BinaryOp::Sub, x, z)?;
        } else if integer {
            let z = spread(e, z.into(), &dims, *axis, *block)?;
            x = e.binary(BinaryOp::Sub, x, z)?;
        } else {
            x = e.cast(x, real)?;
            let z = offset(e, z, real, &dims, *axis, *block)?;
            x = e.binary(BinaryOp::Sub, x, z)?;
        }
    }
    let x = e.cast(x, real)?;
    let scale = e.cast(scale, real)?;
    let scale = spread(e, scale, &dims, *axis, *block)?;
    let y = e.binary(BinaryOp::Mul, x, scale)?;
    e.cast(y, *to)
}

/// Both operands as real numbers, and a plain contraction.
pub(super) fn contract_scaled(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::ContractScaled { block, out, .. }, &[a, b, sa, sb]) = parts(e, n) else { return None };
    let (out, block) = (*out, u32::try_from(*block).ok()?);
    let mut wide = |v: ValueId, scale: ValueId| {
        let dims = e.ty(v).dims.clone();
        let axis = u32::try_from(dims.len().checked_sub(1)?).ok()?;
        let (x, scale) = (e.cast(v, DType::F32)?, e.cast(scale, DType::F32)?);
        let scale = spread(e, scale, &dims, Some(axis), block)?;
        e.binary(BinaryOp::Mul, x, scale)
    };
    let (x, w) = (wide(a, sa)?, wide(b, sb)?);
    let lead: String = ('a'..='z').filter(|c| !"kn".contains(*c)).take(e.rank(a).checked_sub(1)?).collect();
    (lead.len() + 1 == e.rank(a)).then_some(())?;
    e.contract(&format!("{lead}k,nk->{lead}n"), x, w, DType::F32, out)
}

/// The integers as real numbers, and a plain contraction.
pub(super) fn contract_blocks(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::ContractBlocks { block, zero: middle, groups, .. }, &[x, q, scale, ref zero @ ..]) = parts(e, n) else { return None };
    let (zero, starts) = match (groups, zero.split_last()) {
        (false, _) => (zero, None),
        (true, Some((&starts, zero))) => (zero, Some(starts)),
        (true, None) => return None,
    };
    let (middle, block) = (*middle, u32::try_from(*block).ok()?);
    let (dims, dtype) = (e.ty(q).dims.clone(), e.ty(x).dtype);
    // Columns are the second last dim of the integers, after that of the groups.
    let axis = if starts.is_some() { 2 } else { 1 };
    let acc = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let mut w = e.cast(q, acc)?;
    if let Some(&z) = zero.first() {
        let z = e.cast(z, acc)?;
        let z = if block > 1 { spread(e, z, &dims, Some(axis), block)? } else { z };
        w = e.binary(BinaryOp::Sub, w, z)?;
    } else if middle != 0 {
        w = e.with_scalar(BinaryOp::Sub, w, middle as f64)?;
    }
    let scale = e.cast(scale, acc)?;
    let scale = if block > 1 { spread(e, scale, &dims, Some(axis), block)? } else { scale };
    let w = e.binary(BinaryOp::Mul, w, scale)?;
    let w = e.cast(w, dtype)?;
    if let Some(starts) = starts {
        let w = e.transpose(w, vec![0, 2, 1])?;
        return e.add(Op::ContractGroups { acc, out: dtype }, &[x.into(), w, starts.into()]);
    }
    let lead: String = ('a'..='z').filter(|c| !"kn".contains(*c)).take(e.rank(x).checked_sub(1)?).collect();
    (lead.len() + 1 == e.rank(x)).then_some(())?;
    e.contract(&format!("{lead}k,nk->{lead}n"), x, w, acc, dtype)
}
