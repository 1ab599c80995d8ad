// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules of `docs/NUMERICS.md`, row by row, and exhaustive checks of the small formats.

use super::*;
use crate::graph::types::Scalar;

fn scalar_dtypes() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|d| !matches!(d, DType::C128 | DType::Str))
}

#[test]
fn f16_agrees_with_half_for_every_code() {
    for b in 0..=u16::MAX {
        let (want, got) = (half::f16::from_bits(b).to_f64(), decode_f64(DType::F16, b.into()));
        assert!(want == got || want.is_nan() && got.is_nan());
        if !want.is_nan() {
            assert_eq!(encode_f64(DType::F16, want, false), u64::from(b));
        }
        // Halfway to the next code and a hair to both sides.
        let next = half::f16::from_bits(b.wrapping_add(1)).to_f64();
        if want.is_finite() && next.is_finite() && b & 0x7fff != 0x7fff {
            // (`half::f16::from_f64` drops the low bits of its operand near zero: f32 has none to drop.)
            let mid = ((want + next) / 2.0) as f32;
            for v in [mid, mid.next_up(), mid.next_down()] {
                assert_eq!(encode_f64(DType::F16, v.into(), false), u64::from(half::f16::from_f32(v).to_bits()), "{v}");
            }
        }
    }
}

#[test]
fn every_code_of_narrow_floats_round_trips() {
    for d in scalar_dtypes().filter(|d| d.is_float() && d.bits() <= 16) {
        for b in 0..1u64 << d.bits() {
            let v = decode_f64(d, b);
            let back = encode_f64(d, v, false);
            let unused = matches!(d, DType::F6E2M3 | DType::F6E3M2) && b > 0x3f;
            assert!(back == b || v.is_nan() && is_nan(d, back) || unused, "{d} {b:#x} {v} {back:#x}");
        }
    }
}

#[test]
fn printed_scalars_read_back() {
    for d in scalar_dtypes() {
        let all: Vec<u64> = if d.bits() <= 16 && !matches!(d, DType::Bool) {
            (0..1u64 << d.bits()).filter(|b| !matches!(d, DType::F6E2M3 | DType::F6E3M2) || *b < 64).collect()
        } else {
            (0..4096u64)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3 & mask(d))
                .map(|b| if d == DType::Bool { b & 1 } else { b })
                .collect()
        };
        for bits in all {
            let s = Scalar { dtype: d, bits };
            let t = print_scalar(s);
            assert_eq!(parse_scalar(d, &t), Some(s), "{d} {t}");
        }
    }
}
