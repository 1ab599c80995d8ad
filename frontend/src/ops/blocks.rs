// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Weights of few bits with a scale a block (`com.microsoft`): products with them, and rows of them.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Literal, Op, ValueId};
use portwright_ir::sym::SymExpr;
use portwright_ir::weight::Weight;

use super::quant::dequantize_of;
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("GatherBlockQuantized", 1, 3, 4, gather_block_quantized),
    op("MatMulBnb4", 1, 3, 3, matmul_bnb4),
    op("MatMulNBits", 1, 3, 6, matmul_nbits),
];

/// The attribute `bits` where integers of 2, 4 and 8 bits are packed in bytes.
pub fn bits_of(cx: &Cx<'_, '_>, name: &str, default: i64) -> Res<i64> {
    match cx.int(name, default)? {
        b @ (2 | 4 | 8) => Ok(b),
        other => Err(Fault::attr(format!("`{name}` is {other}, expected 2, 4 or 8"))),
    }
}

/// A block size that the documentation allows: a power of two from 16 on.
pub fn block_of(block: i64) -> Res<i64> {
    if (16..=1 << 24).contains(&block) && block & (block - 1) == 0 {
        return Ok(block);
    }
    Err(Fault::attr(format!("`block_size` is {block}, expected a power of two from 16 on")))
}

/// A zero point in the middle of integers of `bits` bits, as ONNX Runtime has it where none is given.
pub fn middle(bits: i64) -> f64 {
    f64::from(1u32 << (bits - 1))
}

/// Integers under a byte that lie packed in bytes along the last dim, low bits first, as `[.., bytes * 8 / bits]`.
///
/// Constants are read as what they are; other values are unpacked by arithmetic and stay bytes.
pub fn unpack(cx: &mut Cx<'_, '_>, x: ValueId, bits: i64) -> Res<ValueId> {
    if bits == 8 {
        return Ok(x);
    }
    let per = 8 / bits;
    let packed = if bits == 4 { DType::U4 } else { DType::U2 };
    let ty = cx.ty(x).clone();
    if let Some(mut dims) = ty.static_dims().filter(|d| !d.is_empty()) {
        if let Some(last) = dims.last_mut() {
            *last = last.saturating_mul(per);
        }
        if let Some(l) = cx.g().as_literal(x) {
            let value = Literal { dtype: packed, dims, bytes: l.bytes.clone() };
            return cx.add(Op::Const { value }, &[]);
        }
        if let Some(w) = cx.g().as_weight(x) {
            let w = cx.g().weight(w);
            let name = format!("{}.{packed}", w.name);
            let unpacked = Weight::new(name, packed, dims, w.source.clone());
            let weight = cx.g_mut().add_weight(unpacked);
            return cx.add(Op::Weight { weight }, &[]);
        }
    }
    let rank = ty.rank();
    let mut parts = Vec::new();
    let wide = cx.unsqueeze(x, &[rank])?;
    for i in 0..per {
        let by = cx.scalar(DType::U8, (i * bits) as f64)?;
        let v = cx.bin(BinaryOp::Shr, wide, by)?;
        let low = cx.scalar(DType::U8, ((1 << bits) - 1) as f64)?;
        parts.push(cx.bin(BinaryOp::And, v, low)?);
    }
    let y = cx.concat(&parts, rank)?;
    let mut dims = ty.dims;
    if let Some(last) = dims.last_mut() {
        *last = last.clone() * per;
    }
    cx.reshape(y, dims)
}

/// `x * W'` with `W` `[N, K]` in blocks of `block_size` integers of `bits` bits along `K`, each with a scale and perhaps a zero point.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.MatMulNBits`, version 1. Its `accuracy_level` says how far `x` may be rounded: 4 allows 8-bit integers
/// with a scale a block, 0 and 1 keep its precision; between them lie 16-bit floats, which no kernel rounds to.
fn matmul_nbits(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, b, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (zero, group, bias) = (cx.opt(3)?, cx.opt(4)?, cx.opt(5)?);
    let (k, n) = (cx.need_int("K")?, cx.need_int("N")?);
    let (bits, block) = (bits_of(cx, "bits", 4)?, block_of(cx.need_int("block_size")?)?);
    for (name, v) in [("K", k), ("N", n)] {
        if !(1..=1 << 40).contains(&v) {
            return Err(Fault::attr(format!("`{name}` is {v}, expected 1 or more")));
        }
    }
    if cx.int("weight_prepacked", 0)? != 0 {
        let f = Fault::form("`weight_prepacked` is set: weights in the layout of a CUDA kernel are not taken");
        return Err(f.help("export the model with weights as the quantizer writes them"));
    }
    let level = cx.int("accuracy_level", 0)?;
    if !(0..=4).contains(&level) {
        return Err(Fault::attr(format!("`accuracy_level` is {level}, expected 0 to 4")));
    }
    let narrow = level == 4;
    let blocks = (k + block - 1) / block;
    let q = unpack(cx, b, bits)?;
    let q = cx.reshape(q, vec![n.into(), (blocks * block).into()])?;
    let q = cx.slice_axis(q, 1, 0.into(), k.into(), 1)?;
    let scales = cx.reshape(scales, vec![n.into(), blocks.into()])?;
    let zero = match zero {
        Some(z) if cx.dtype(z) == DType::U8 => {
            // Each row is padded to whole bytes.
            let per = 8 / bits;
            let z = cx.reshape(z, vec![n.into(), ((blocks + per - 1) / per).into()])?;
            let z = unpack(cx, z, bits)?;
            Some(cx.slice_axis(z, 1, 0.into(), blocks.into(), 1)?)
        }
        Some(z) => Some(cx.reshape(z, vec![n.into(), blocks.into()])?),
        None => None,
    };
    let group = match group {
        Some(g) => Some(cx.slice_axis(g, 0, 0.into(), k.into(), 1)?),
        None => None,
    };
    let known = match group {
        Some(g) => cx.elements(g).and_then(|e| e.iter().map(SymExpr::as_const).collect::<Option<Vec<_>>>()),
        None => None,
    };
    let in_order = known.as_ref().is_some_and(|g| g.iter().zip(0..).all(|(g, i)| *g == i / block));
    let mut y = match group.filter(|_| !in_order) {
        None => {
            let operands: Vec<ValueId> = [x, q, scales].into_iter().chain(zero).collect();
            let zero = if zero.is_none() { middle(bits) as i64 } else { 0 };
            cx.add(Op::ContractBlocks { block, narrow, zero, groups: false }, &operands)?
        }
        Some(g) => {
            // Each column says whose scale it has.
            let work = cx.dtype(scales);
            let mut w = cx.cast(q, work)?;
            w = match zero {
                Some(z) => {
                    let z = cx.cast(z, work)?;
                    let z = cx.gather(z, g, 1)?;
                    cx.bin(BinaryOp::Sub, w, z)?
                }
                None => cx.bin_c(BinaryOp::Sub, w, middle(bits))?,
            };
            let s = cx.gather(scales, g, 1)?;
            let w = cx.bin(BinaryOp::Mul, w, s)?;
            let spec = super::matmul::matmul_spec(cx.rank(x), 2, false, true)?;
            cx.contract(&spec, x, w)?
        }
    };
    if let Some(b) = bias {
        y = cx.bin(BinaryOp::Add, y, b)?;
    }
    one(y)
}

/// Numbers of four bits that stand for parts of a block's largest magnitude, as bitsandbytes has them.
const FP4: [f32; 16] = [
    0.0,
    0.005_208_333_5,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -0.005_208_333_5,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];
/// As [`FP4`], the quantiles of a normal distribution.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// `x * W'` with `W` `[N, K]` of four bits each, the first of a byte highest, that name entries of a table; `absmax` multiplies each
/// `block_size` of them, counted over all rows.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.MatMulBnb4`, version 1.
fn matmul_bnb4(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, b, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (k, n) = (cx.need_int("K")?, cx.need_int("N")?);
    let block = block_of(cx.need_int("block_size")?)?;
    let Some(total) = k.checked_mul(n).filter(|t| k > 0 && n > 0 && *t < 1 << 40) else {
        return Err(Fault::attr(format!("`K` is {k} and `N` {n}, expected positive numbers")));
    };
    let table = match cx.need_int("quant_type")? {
        0 => &FP4,
        1 => &NF4,
        other => return Err(Fault::attr(format!("`quant_type` is {other}, expected 0 (FP4) or 1 (NF4)"))),
    };
    if !cx.flag("transB", true)? {
        return Err(Fault::form("`transB` is 0: the form of a backward pass is not taken"));
    }
    let dtype = cx.dtype(x);
    let bytes = cx.ty(b).elems();
    let b = cx.reshape(b, vec![bytes.clone()])?;
    let (four, low) = (cx.scalar(DType::U8, 4.0)?, cx.scalar(DType::U8, 15.0)?);
    let (first, second) = (cx.bin(BinaryOp::Shr, b, four)?, cx.bin(BinaryOp::And, b, low)?);
    let (first, second) = (cx.unsqueeze(first, &[1])?, cx.unsqueeze(second, &[1])?);
    let codes = cx.concat(&[first, second], 1)?;
    let codes = cx.reshape(codes, vec![bytes * 2])?;
    let codes = cx.slice_axis(codes, 0, 0.into(), total.into(), 1)?;
    let codes = cx.cast(codes, DType::I32)?;
    let table = cx.table_f32(&[16], table)?;
    let parts = cx.gather(table, codes, 0)?;
    let scales = cx.cast(scales, DType::F32)?;
    let scales = repeated(cx, scales, 0, block, &total.into())?;
    let w = cx.bin(BinaryOp::Mul, parts, scales)?;
    let w = cx.cast(w, dtype)?;
    let w = cx.reshape(w, vec![n.into(), k.into()])?;
    let spec = super::matmul::matmul_spec(cx.rank(x), 2, false, true)?;
    one(cx.contract(&spec, x, w)?)
}

/// Rows of a table of which a block shares a scale, brought back to real numbers; an index outside of the table gives zeros.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.GatherBlockQuantized`, version 1.
fn gather_block_quantized(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (mut data, ids, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let mut zero = cx.opt(3)?;
    let dtype = cx.dtype(data);
    let rank = cx.want_rank(data, 1..=usize::MAX)?;
    cx.want_rank(scales, rank..=rank)?;
    let (along, by) = (cx.axis_of(cx.int("gather_axis", 0)?, rank)?, cx.axis_of(cx.int("quantize_axis", 1)?, rank)?);
    let block = match cx.int("block_size", 128)? {
        0 if dtype.is_float() => None,
        b => Some(block_of(b)?),
    };
    if dtype.is_float() && zero.is_some() {
        return Err(Fault::new(Code::BAD_ARITY, format!("zero points are given for data of {dtype}, which has none")));
    }
    if dtype == DType::U8 {
        let bits = bits_of(cx, "bits", 4)?;
        if along != 0 || (bits < 8 && by == 0) {
            return Err(Fault::attr(format!(
                "`gather_axis` is {along} and `quantize_axis` {by}; of u8, rows (0) are taken, and blocks of packed integers lie across them"
            )));
        }
        data = unpack(cx, data, bits)?;
        zero = match zero {
            Some(z) => {
                let z = unpack(cx, z, bits)?;
                let last = cx.dim(scales, rank - 1)?;
                Some(cx.slice_axis(z, rank - 1, 0.into(), last, 1)?)
            }
            None => {
                let dims = cx.dims(scales);
                Some(cx.fill(cx.dtype(data), middle(bits), dims)?)
            }
        };
    }
    let (size, width) = (cx.dim(data, along)?, cx.dim(data, by)?);
    if size.is(0) {
        // All indices are outside, and there is no row 0.
        let (mut dims, to) = (cx.dims(data), cx.dtype(scales));
        dims.splice(along..=along, cx.dims(ids));
        return one(cx.fill(to, 0.0, dims)?);
    }
    // Indices that are outside read row 0, and what they read is replaced.
    let count = cx.number_of(size, cx.dtype(ids))?;
    let least = cx.un(portwright_ir::graph::UnaryOp::Neg, count)?;
    let (low, high) = (cx.bin(BinaryOp::Ge, ids, least)?, cx.bin(BinaryOp::Lt, ids, count)?);
    let inside = cx.bin(BinaryOp::And, low, high)?;
    let first = cx.scalar(cx.dtype(ids), 0.0)?;
    let at = cx.select(inside, ids, first)?;
    let q = cx.gather(data, at, along)?;
    let block = match block {
        Some(b) => b,
        None => width.as_const().ok_or_else(|| Fault::form("`block_size` is 0 and the quantized dim is not known"))?,
    };
    let to = cx.dtype(scales);
    let pick = |cx: &mut Cx<'_, '_>, v: ValueId| -> Res<ValueId> {
        if cx.dim(v, along)?.is(1) && !cx.dim(data, along)?.is(1) && along != by {
            // One row for all.
            let mut dims = cx.dims(v);
            dims.remove(along);
            let ones = vec![SymExpr::from(1); cx.rank(at)];
            let dims: Vec<SymExpr> = dims[..along].iter().cloned().chain(ones).chain(dims[along..].iter().cloned()).collect();
            return cx.reshape(v, dims);
        }
        if along != by {
            return cx.gather(v, at, along);
        }
        // The block of an element that is counted from the end is that of its place.
        let wrapped = cx.bin(BinaryOp::Add, at, count)?;
        let negative = cx.bin_c(BinaryOp::Lt, at, 0.0)?;
        let place = cx.select(negative, wrapped, at)?;
        let place = cx.bin_c(BinaryOp::Div, place, block as f64)?;
        cx.gather(v, place, along)
    };
    let s = pick(cx, scales)?;
    let z = match zero {
        Some(z) => Some(pick(cx, z)?),
        None => None,
    };
    let across = if by > along { by + cx.rank(at) - 1 } else { by };
    let even = |cx: &Cx<'_, '_>, v: ValueId| cx.dims(v).iter().zip(&cx.dims(q)).enumerate().all(|(i, (a, b))| i == across || a == b);
    let y = if along != by && even(cx, s) {
        dequantize_of(cx, q, s, z, to, Some(across as u32), block as u32)?
    } else {
        let q = cx.cast(q, DType::F32)?;
        let q = match z {
            Some(z) => {
                let z = cx.cast(z, DType::F32)?;
                cx.bin(BinaryOp::Sub, q, z)?
            }
            None => q,
        };
        let s = if along == by { s } else { repeated(cx, s, across, block, &width)? };
        let s = cx.cast(s, DType::F32)?;
        let y = cx.bin(BinaryOp::Mul, q, s)?;
        cx.cast(y, to)?
    };
    let mut dims = vec![SymExpr::from(1); along];
    dims.extend(cx.dims(at));
    dims.extend((along + 1..rank).map(|_| SymExpr::from(1)));
    let inside = cx.reshape(inside, dims)?;
    let zero = cx.scalar(to, 0.0)?;
    one(cx.select(inside, y, zero)?)
}

/// Each element of an axis `block` times, up to `size` of them.
fn repeated(cx: &mut Cx<'_, '_>, x: ValueId, axis: usize, block: i64, size: &SymExpr) -> Res<ValueId> {
    if cx.dim(x, axis)?.is(1) {
        return Ok(x);
    }
    let i = cx.iota(DType::I64, 0, vec![size.clone()])?;
    let i = cx.bin_c(BinaryOp::Div, i, block as f64)?;
    cx.gather(x, i, axis)
}
