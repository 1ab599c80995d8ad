// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scalars as text that reads back to the same bits.

use crate::dtype::{DType, Kind};
use crate::graph::types::Scalar;

use super::convert::{int_from_bits, int_to_bits};
use super::float::{decode_f64, encode_f64};

/// Writes a scalar: integers in decimal, `true` or `false`, floats as the shortest decimal that reads back to the same bits,
/// `inf`, `-inf`, `nan`, `-nan`, a NaN with another payload as `nan(0x..)` with all its bits, `c64` as `re:im`.
pub fn print_scalar(s: Scalar) -> String {
    match s.dtype.kind() {
        Kind::Bool => (if s.bits & 1 == 1 { "true" } else { "false" }).to_owned(),
        Kind::Signed | Kind::Unsigned => int_from_bits(s.dtype, s.bits).to_string(),
        Kind::Float => print_float(s.dtype, s.bits),
        Kind::Complex => format!("{}:{}", print_float(DType::F32, s.bits & 0xffff_ffff), print_float(DType::F32, s.bits >> 32)),
        Kind::Handle => s.bits.to_string(),
    }
}

fn print_float(dtype: DType, bits: u64) -> String {
    let v = decode_f64(dtype, bits);
    if v.is_nan() {
        return match v.is_sign_negative() {
            _ if encode_f64(dtype, v, false) != bits => format!("nan({bits:#x})"),
            true => "-nan".to_owned(),
            false => "nan".to_owned(),
        };
    }
    match dtype {
        DType::F64 => return short(v),
        DType::F32 => {
            // `{:?}` of an f32 is its shortest decimal.
            return format!("{:?}", v as f32);
        }
        _ if v.is_infinite() => return short(v),
        _ => {}
    }
    // The widest of the remaining formats has 11 significant bits (8 for bf16's range): five digits always do.
    let digits = (0..9).map(|p| format!("{v:.p$e}")).find_map(|t| t.parse::<f64>().ok().filter(|&t| encode_f64(dtype, t, false) == bits));
    short(digits.unwrap_or(v))
}

fn short(v: f64) -> String {
    format!("{v:?}")
}

/// Reads what [`print_scalar`] writes, and any decimal; integers in hexadecimal too (`0x..`, the number, not the bits).
/// `None` if the text is no number of that dtype or an integer out of its range.
pub fn parse_scalar(dtype: DType, text: &str) -> Option<Scalar> {
    let bits = match dtype.kind() {
        Kind::Bool => match text {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return None,
        },
        Kind::Signed | Kind::Unsigned => {
            let v = match text.strip_prefix("0x") {
                Some(h) => i128::from_str_radix(h, 16).ok()?,
                None => text.parse::<i128>().ok()?,
            };
            let (lo, hi) = dtype.int_range()?;
            (lo..=hi).contains(&v).then(|| int_to_bits(dtype, v))?
        }
        Kind::Float => parse_float(dtype, text)?,
        Kind::Complex if dtype == DType::C64 => {
            let (re, im) = text.split_once(':')?;
            parse_float(DType::F32, re)? | parse_float(DType::F32, im)? << 32
        }
        Kind::Handle => text.parse::<u64>().ok()?,
        Kind::Complex => return None,
    };
    Some(Scalar { dtype, bits })
}

fn parse_float(dtype: DType, text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("nan(0x") {
        let bits = u64::from_str_radix(hex.strip_suffix(')')?, 16).ok()?;
        return (bits & !super::mask(dtype) == 0 && super::is_nan(dtype, bits)).then_some(bits);
    }
    // Rust also takes `infinity`, and `NaN` in any case: only one spelling is ours.
    let body = text.strip_prefix('-').unwrap_or(text);
    let v = match body {
        "nan" => f64::NAN.copysign(if text.len() == body.len() { 1.0 } else { -1.0 }),
        _ if body != "inf" && !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        // A decimal goes to f32 in one rounding; a narrower format would see f64's rounding only beyond 17 digits.
        _ if dtype == DType::F32 => f64::from(text.parse::<f32>().ok()?),
        _ => text.parse::<f64>().ok()?,
    };
    Some(encode_f64(dtype, v, false))
}
