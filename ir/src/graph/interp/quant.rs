// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Quantization. Quotients and products are computed in f32, or in f64 where the real numbers are f64.

use super::tensor::{Scales, Tensor};
use super::walk::split;
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::types::Quant;
use crate::numerics;

/// For each element of `x` the position of its scale.
fn scale_index(x: &Tensor, scale: &Tensor, axis: Option<u32>, block: u32) -> Result<impl Fn(usize) -> usize + use<>, Fault> {
    let bad =
        || Fault::new(Code::SHAPE_MISMATCH, format!("scales {:?} do not fit {:?} (axis {axis:?}, block {block})", scale.dims, x.dims));
    let one = axis.is_none();
    let axis = axis.unwrap_or(0) as usize;
    let (outer, n, inner) = if one { (1, 1, 1) } else { split(&x.dims, axis)? };
    let block = block.max(1) as usize;
    let blocks = n.div_ceil(block);
    // One scale a slice of the axis, or one scale a block of each line along it.
    let per_slice = !one && block == 1 && scale.rank() == 1 && scale.len() == n;
    let fits = if one { scale.len() == 1 } else { per_slice || scale.len() == outer * blocks * inner };
    if !fits {
        return Err(bad());
    }
    Ok(move |i: usize| {
        let a = i / inner.max(1) % n.max(1);
        match (one, per_slice) {
            (true, _) => 0,
            (_, true) => a,
            _ => (i / (inner * n) * blocks + a / block) * inner + i % inner,
        }
    })
}

fn zero_points(scale: &Tensor, zero_point: Option<&Tensor>, dtype: DType) -> Result<(), Fault> {
    match zero_point {
        Some(z) if z.dtype != dtype || z.len() != scale.len() => {
            let m = format!("zero points {}{:?}, expected {} of {dtype}", z.dtype, z.dims, scale.len());
            Err(Fault::new(Code::SHAPE_MISMATCH, m))
        }
        _ => Ok(()),
    }
}

/// Attributes of a quantization.
pub(super) struct Blocks {
    pub axis: Option<u32>,
    pub block: u32,
}

pub(super) fn quantize(x: &Tensor, scale: &Tensor, zero_point: Option<&Tensor>, to: DType, b: Blocks, saturate: bool) -> Run {
    zero_points(scale, zero_point, to)?;
    let index = scale_index(x, scale, b.axis, b.block)?;
    let wide = x.dtype == DType::F64 || scale.dtype == DType::F64;
    let (values, scales) = (x.to_f64(), scale.to_f64());
    let one = |(i, &v): (usize, &f64)| {
        let at = index(i);
        let q = if wide { v / scales[at] } else { f64::from(v as f32 / scales[at] as f32) };
        match to.int_range() {
            Some((lo, hi)) => {
                let zero = zero_point.map_or(0, |z| numerics::int_from_bits(to, z.bits(at)));
                // NaN converts to 0, as in every conversion to an integer.
                let r = (q.round_ties_even() as i128).saturating_add(zero);
                numerics::int_to_bits(to, r.clamp(lo, hi))
            }
            None => {
                let zero = zero_point.map_or(0.0, |z| numerics::decode_f64(to, z.bits(at)));
                numerics::encode_f64(to, q + zero, saturate && to.bits() <= 8)
            }
        }
    };
    Ok(Tensor::from_bits(to, x.dims.clone(), values.iter().enumerate().map(one)))
}

pub(super) fn dequantize(q: &Tensor, scale: &Tensor, zero_point: Option<&Tensor>, to: DType, b: Blocks) -> Run {
    zero_points(scale, zero_point, q.dtype)?;
    let index = scale_index(q, scale, b.axis, b.block)?;
    let scales = scale.to_f64();
    let wide = to == DType::F64 || scale.dtype == DType::F64;
    let one = |i: usize| {
        let at = index(i);
        let difference = match q.dtype.int_range() {
            Some(_) => {
                let zero = zero_point.map_or(0, |z| numerics::int_from_bits(q.dtype, z.bits(at)));
                (numerics::int_from_bits(q.dtype, q.bits(i)) - zero) as f64
            }
            None => {
                let zero = zero_point.map_or(0.0, |z| numerics::decode_f64(q.dtype, z.bits(at)));
                numerics::decode_f64(q.dtype, q.bits(i)) - zero
            }
        };
        let real = if wide { difference * scales[at] } else { f64::from(difference as f32 * scales[at] as f32) };
        numerics::encode_f64(to, real, false)
    };
    Ok(Tensor::from_bits(to, q.dims.clone(), (0..q.len()).map(one)))
}

pub(super) fn quantized(q: &Tensor, scale: &Tensor, zero_point: Option<&Tensor>, quant: &Quant) -> Run {
    zero_points(scale, zero_point, q.dtype)?;
    let _fits = scale_index(q, scale, quant.axis, quant.block_elems)?;
    Ok(q.with_scales(Scales { quant: quant.clone(), scale: scale.clone(), zero_point: zero_point.cloned() }))
}

/// The numbers that a value stands for: itself, unless it carries scales.
pub(super) fn expressed(t: &Tensor) -> Run {
    match &t.quant {
        None => Ok(t.clone()),
        Some(s) => {
            let blocks = Blocks { axis: s.quant.axis, block: s.quant.block_elems };
            dequantize(t, &s.scale, s.zero_point.as_ref(), s.quant.expressed, blocks)
        }
    }
}
