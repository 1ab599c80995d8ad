// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Floating-point encodings: exact decoding, and encoding with one rounding.

use crate::dtype::{DType, FloatFormat, NanCode};

use super::convert::int_from_bits;

/// The exact value of an element as f64.
///
/// Integers beyond 2^53 are rounded to nearest even, `bool` is 0 or 1, `c64` gives its real part. A NaN keeps its sign,
/// not its payload.
pub fn decode_f64(dtype: DType, bits: u64) -> f64 {
    match dtype {
        DType::F64 => f64::from_bits(bits),
        DType::F32 | DType::C64 => f64::from(f32::from_bits(bits as u32)),
        DType::F16 => half::f16::from_bits(bits as u16).to_f64(),
        DType::BF16 => half::bf16::from_bits(bits as u16).to_f64(),
        DType::C128 | DType::Str | DType::List => 0.0,
        _ => match dtype.float_format() {
            Some(f) => decode_format(f, bits),
            None => int_from_bits(dtype, bits) as f64,
        },
    }
}

/// Encodes a number as `dtype`, rounding once to nearest even; integers are truncated and saturate, NaN becomes 0.
///
/// With `saturate`, what lies beyond the largest finite number (infinities too) becomes that number; else it becomes an
/// infinity, or NaN where there is none. Formats with neither always saturate. NaN becomes the canonical quiet NaN with
/// its sign, and the code of negative zero where there is no NaN. `f8e8m0` rounds ties up, as ml_dtypes does; what is
/// not above zero becomes NaN, or with `saturate` the smallest scale.
pub fn encode_f64(dtype: DType, v: f64, saturate: bool) -> u64 {
    match dtype {
        DType::F64 => encode_wide(v, saturate, f64::MAX, quiet(v)).to_bits(),
        DType::F32 | DType::C64 => {
            let r = v as f32;
            let r = if v.is_nan() { f32::NAN.copysign(if v.is_sign_negative() { -1.0 } else { 1.0 }) } else { r };
            let r = if saturate && r.is_infinite() { f32::MAX.copysign(r) } else { r };
            u64::from(r.to_bits())
        }
        DType::C128 | DType::Str | DType::List => 0,
        _ => match dtype.float_format() {
            Some(f) => encode_float(dtype, f, v, saturate),
            None => super::convert::float_to_int(dtype, v),
        },
    }
}

fn quiet(v: f64) -> f64 {
    if v.is_nan() { f64::NAN.copysign(if v.is_sign_negative() { -1.0 } else { 1.0 }) } else { v }
}

fn encode_wide(v: f64, saturate: bool, max: f64, quieted: f64) -> f64 {
    if saturate && v.is_infinite() { max.copysign(v) } else { quieted }
}

/// Smallest exponent of a normal number.
fn emin(f: FloatFormat) -> i32 {
    1 - f.bias
}

fn sign_bit(f: FloatFormat) -> u64 {
    if f.signed { 1 << (f.exponent_bits + f.mantissa_bits) } else { 0 }
}

/// Code of the largest finite number.
fn max_code(f: FloatFormat) -> u64 {
    let all = (1u64 << (f.exponent_bits + f.mantissa_bits)) - 1;
    match f.nan {
        NanCode::Ieee => all - (1 << f.mantissa_bits),
        NanCode::AllOnes => all - 1,
        NanCode::NegativeZero | NanCode::None => all,
    }
}

fn nan_code(f: FloatFormat) -> u64 {
    let all = (1u64 << (f.exponent_bits + f.mantissa_bits)) - 1;
    match f.nan {
        NanCode::Ieee => all & !((1 << f.mantissa_bits) - 1) | 1 << (f.mantissa_bits - 1),
        NanCode::AllOnes => all,
        NanCode::NegativeZero | NanCode::None => sign_bit(f),
    }
}

fn is_nan_code(f: FloatFormat, bits: u64) -> bool {
    let body = bits & (sign_bit(f).max(1 << (f.exponent_bits + f.mantissa_bits)) - 1);
    match f.nan {
        NanCode::Ieee => body > max_code(f) + 1,
        NanCode::AllOnes => body > max_code(f),
        NanCode::NegativeZero => bits == sign_bit(f),
        NanCode::None => false,
    }
}

fn decode_format(f: FloatFormat, bits: u64) -> f64 {
    let body_bits = f.exponent_bits + f.mantissa_bits;
    let bits = bits & ((1 << (body_bits + u32::from(f.signed))) - 1);
    let negative = bits & sign_bit(f) != 0;
    let sign = if negative { -1.0 } else { 1.0 };
    if is_nan_code(f, bits) {
        return if f.nan == NanCode::NegativeZero { f64::NAN } else { f64::NAN.copysign(sign) };
    }
    let body = bits & ((1 << body_bits) - 1);
    if f.infinity && body == max_code(f) + 1 {
        return sign * f64::INFINITY;
    }
    let exponent = (body >> f.mantissa_bits) as i32;
    let mantissa = body & ((1 << f.mantissa_bits) - 1);
    // A format without significand bits has no zero and no subnormal numbers.
    let (mantissa, exponent) = match exponent {
        0 if f.mantissa_bits > 0 => (mantissa, emin(f)),
        e => (mantissa | 1 << f.mantissa_bits, e - f.bias),
    };
    sign * mantissa as f64 * exp2i(exponent - f.mantissa_bits as i32)
}

/// 2^e for -1022 <= e <= 1023.
fn exp2i(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

fn encode_float(dtype: DType, f: FloatFormat, v: f64, saturate: bool) -> u64 {
    if dtype == DType::F8E8M0 {
        return encode_scale(v, saturate);
    }
    let sign = if v.is_sign_negative() { sign_bit(f) } else { 0 };
    if v.is_nan() {
        return if f.nan == NanCode::NegativeZero { nan_code(f) } else { nan_code(f) | sign };
    }
    if v.is_infinite() {
        return overflow(f, sign, saturate || (!f.infinity && f.nan == NanCode::None));
    }
    let b = v.abs().to_bits();
    let (m, e) = match b >> 52 {
        0 => (b, -1074),
        e => (b & ((1 << 52) - 1) | 1 << 52, e as i32 - 1075),
    };
    round_to_format(f, sign != 0, u128::from(m), e, saturate)
}

/// Encodes `m * 2^e`, rounding once to nearest even. `m` must leave 64 bits of headroom or need no left shift.
pub(super) fn round_to_format(f: FloatFormat, negative: bool, m: u128, e: i32, saturate: bool) -> u64 {
    let sign = if negative { sign_bit(f) } else { 0 };
    if m == 0 {
        return if f.nan == NanCode::NegativeZero { 0 } else { sign };
    }
    let top = 127 - m.leading_zeros() as i32 + e;
    let lowest_quantum = emin(f) - f.mantissa_bits as i32;
    let quantum = (top - f.mantissa_bits as i32).max(lowest_quantum);
    let rounded = match quantum - e {
        s if s <= 0 => m << s.unsigned_abs(),
        s if s > 127 => 0,
        s => {
            let (kept, lost, half) = (m >> s, m & ((1 << s) - 1), 1u128 << (s - 1));
            kept + u128::from(lost > half || lost == half && kept & 1 == 1)
        }
    };
    // The hidden bit carries into the exponent field, so subnormal numbers and a carry out of rounding need no case.
    let code = (((quantum - lowest_quantum) as u64) << f.mantissa_bits) + rounded as u64;
    if code > max_code(f) {
        return overflow(f, sign, saturate);
    }
    if code == 0 && f.nan == NanCode::NegativeZero { 0 } else { code | sign }
}

fn overflow(f: FloatFormat, sign: u64, saturate: bool) -> u64 {
    if saturate || (!f.infinity && f.nan == NanCode::None) {
        max_code(f) | sign
    } else if f.infinity {
        (max_code(f) + 1) | sign
    } else if f.nan == NanCode::NegativeZero {
        nan_code(f)
    } else {
        nan_code(f) | sign
    }
}

/// Encodes a power-of-two scale.
fn encode_scale(v: f64, saturate: bool) -> u64 {
    const NAN: u64 = 0xff;
    if v.is_nan() {
        return NAN;
    }
    if v <= 0.0 {
        return if saturate { 0 } else { NAN };
    }
    let b = v.to_bits();
    // Half up: adding half of the significand's range carries into the exponent exactly when it is reached.
    let exponent = (((b + (1 << 51)) >> 52) as i64) - 1023;
    match exponent + 127 {
        c if v.is_infinite() || c > 254 => {
            if saturate {
                254
            } else {
                NAN
            }
        }
        c => c.max(0) as u64,
    }
}

/// Whether an element is NaN (of `c64`: whether either part is).
pub fn is_nan(dtype: DType, bits: u64) -> bool {
    match dtype {
        DType::C64 => f32::from_bits(bits as u32).is_nan() || f32::from_bits((bits >> 32) as u32).is_nan(),
        d => d.is_float() && decode_f64(d, bits).is_nan(),
    }
}

/// Bits of the smallest number: minus infinity where there is one, else the lowest finite number or integer.
pub fn lowest(dtype: DType) -> u64 {
    match (dtype.float_format(), dtype.int_range()) {
        (Some(f), _) if !f.signed => 0,
        (Some(f), _) if f.infinity => encode_f64(dtype, f64::NEG_INFINITY, false),
        (Some(f), _) => max_code(f) | sign_bit(f),
        (None, Some((lo, _))) => lo as u64 & super::mask(dtype),
        _ => 0,
    }
}

/// Bits of the largest number: infinity where there is one, else the highest finite number or integer.
pub fn highest(dtype: DType) -> u64 {
    match (dtype.float_format(), dtype.int_range()) {
        (Some(f), _) if f.infinity => encode_f64(dtype, f64::INFINITY, false),
        (Some(f), _) => max_code(f),
        (None, Some((_, hi))) => hi as u64 & super::mask(dtype),
        _ => 0,
    }
}
