// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Conversions between dtypes.

use crate::dtype::{DType, Kind};

use super::float::{decode_f64, encode_f64, round_to_format};
use super::mask;

/// The integer that an element of an integer dtype or `bool` is; 0 for other dtypes.
pub fn int_from_bits(dtype: DType, bits: u64) -> i128 {
    match dtype.kind() {
        Kind::Signed => {
            let unused = 64 - dtype.bits();
            i128::from(((bits << unused) as i64) >> unused)
        }
        Kind::Unsigned => i128::from(bits & mask(dtype)),
        Kind::Bool => i128::from(bits & 1),
        _ => 0,
    }
}

/// The element that an integer wraps to; for `bool` whether it is not 0.
pub fn int_to_bits(dtype: DType, v: i128) -> u64 {
    match dtype.kind() {
        Kind::Bool => u64::from(v != 0),
        _ => v as u64 & mask(dtype),
    }
}

/// Truncates toward zero and saturates; NaN gives 0; for `bool` whether it is not zero (NaN is not).
pub(super) fn float_to_int(dtype: DType, v: f64) -> u64 {
    if dtype == DType::Bool {
        return u64::from(v != 0.0);
    }
    match dtype.int_range() {
        Some((lo, hi)) => int_to_bits(dtype, (v as i128).clamp(lo, hi)),
        None => 0,
    }
}

/// Converts an element.
///
/// Float to float and integer to float round once to nearest even, overflow as [`encode_f64`] says; `saturate` is heeded
/// for floats of 8 bits and fewer only. Float to integer truncates toward zero and saturates, NaN gives 0. Integer to
/// integer wraps. To `bool`: whether it is not zero. Complex to real takes the real part. A dtype to itself keeps the
/// bits, a NaN's payload too.
pub fn cast(bits: u64, from: DType, to: DType, saturate: bool) -> u64 {
    if from == to {
        return bits;
    }
    let saturate = saturate && to.bits() <= 8;
    match (from.kind(), to.kind()) {
        (Kind::Float | Kind::Complex, Kind::Bool) => float_to_int(to, decode_f64(from, bits)),
        (Kind::Float | Kind::Complex, Kind::Signed | Kind::Unsigned) => float_to_int(to, decode_f64(from, bits)),
        (Kind::Float | Kind::Complex, _) => encode_f64(to, decode_f64(from, bits), saturate),
        (_, Kind::Float | Kind::Complex) => int_to_float(to, int_from_bits(from, bits), saturate),
        _ => int_to_bits(to, int_from_bits(from, bits)),
    }
}

fn int_to_float(to: DType, v: i128, saturate: bool) -> u64 {
    match (to, to.float_format()) {
        (DType::F64, _) => (v as f64).to_bits(),
        (DType::F32 | DType::C64, _) => u64::from((v as f32).to_bits()),
        (DType::F8E8M0, _) => encode_f64(to, v as f64, saturate),
        (_, Some(f)) => round_to_format(f, v < 0, v.unsigned_abs(), 0, saturate),
        _ => 0,
    }
}

/// Converts `n` packed or whole-byte elements; as [`cast`] does, one by one. `None` if `src` is too short or a dtype has no scalar form.
pub fn cast_slice(src: &[u8], n: usize, from: DType, to: DType, saturate: bool) -> Option<Vec<u8>> {
    let scalar = |d: DType| !d.is_handle() && d != DType::C128;
    let need = usize::try_from(from.bytes_for(n as u64)?).ok()?;
    let src = src.get(..need)?;
    if from == to {
        return Some(src.to_vec());
    }
    if !scalar(from) || !scalar(to) {
        return None;
    }
    // Eight- and sixteen-bit sources have few values; the table costs less than the conversions of a tensor.
    if from.bits() == 8 && n > 256 {
        let table: Vec<u64> = (0..256).map(|b| cast(b, from, to, saturate)).collect();
        return super::packed::collect(to, src.iter().map(|&b| table[usize::from(b)]));
    }
    if let (DType::F32, Some(4 | 8)) = (from, to.bytes()) {
        // The common source, without a dispatch per read.
        let read = src.chunks_exact(4).map(|c| u64::from(u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
        return super::packed::collect(to, read.map(|b| cast(b, from, to, saturate)));
    }
    super::packed::collect(to, (0..n).map(|i| cast(super::packed::get(src, from, i), from, to, saturate)))
}
