// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scalar arithmetic.
//!
//! f32 and f64 are computed in their own precision, narrower floats in f32 and then rounded to their format. For sum,
//! difference, product, quotient and square root f64 has more than twice the digits of f32, and f32 of f16, so that
//! computing wide and rounding gives the correctly rounded result; for the other functions the f64 value of `libm` is
//! rounded once, which is within half an ulp of f32 for all but a few arguments and the same on every machine.

use std::cmp::Ordering;

use crate::dtype::{DType, Kind};
use crate::graph::op::{BinaryOp, UnaryOp};

use super::convert::{int_from_bits, int_to_bits};
use super::float::{decode_f64, encode_f64};

/// Applies a function of one operand; predicates give 0 or 1 as `bool`, others an element of `dtype`.
///
/// Integers: `neg` and `abs` wrap, `floor`, `ceil`, `round`, `trunc` keep the number, `recip` is the truncating quotient
/// 1/x, other functions are computed in f64 and converted back. `not` of a float inverts its bits. `c64` has `neg`,
/// `recip` and the predicates (true if either part is); other functions of `c64` act on both parts.
pub fn unary(op: UnaryOp, dtype: DType, x: u64) -> u64 {
    match dtype {
        DType::F32 if !op.is_predicate() && op != UnaryOp::Not => u64::from(unary_f32(op, f32::from_bits(x as u32)).to_bits()),
        DType::F64 if !op.is_predicate() && op != UnaryOp::Not => unary_f64(op, f64::from_bits(x)).to_bits(),
        _ => match dtype.kind() {
            Kind::Float => unary_float(op, dtype, x),
            Kind::Signed | Kind::Unsigned | Kind::Bool => unary_int(op, dtype, x),
            Kind::Complex => unary_complex(op, dtype, x),
            Kind::Handle => 0,
        },
    }
}

fn unary_float(op: UnaryOp, dtype: DType, x: u64) -> u64 {
    let v = decode_f64(dtype, x);
    match op {
        UnaryOp::IsNan => u64::from(v.is_nan()),
        UnaryOp::IsInf => u64::from(v.is_infinite()),
        UnaryOp::Not => !x & super::mask(dtype),
        _ => encode_f64(dtype, f64::from(unary_f32(op, v as f32)), false),
    }
}

fn unary_int(op: UnaryOp, dtype: DType, x: u64) -> u64 {
    use UnaryOp::*;
    let v = int_from_bits(dtype, x);
    match op {
        IsNan | IsInf => 0,
        Not if dtype == DType::Bool => x & 1 ^ 1,
        Not => !x & super::mask(dtype),
        Neg => int_to_bits(dtype, -v),
        Abs => int_to_bits(dtype, v.abs()),
        Sign => int_to_bits(dtype, v.signum()),
        Floor | Ceil | Round | Trunc => x,
        Recip => int_to_bits(dtype, 1i128.checked_div(v).unwrap_or(0)),
        Sqrt | Exp | Log | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Tanh | Asinh | Acosh | Atanh | Erf | Sigmoid | Softplus => {
            super::convert::float_to_int(dtype, unary_f64(op, v as f64))
        }
    }
}

fn unary_complex(op: UnaryOp, dtype: DType, x: u64) -> u64 {
    let (re, im) = parts(x);
    match op {
        _ if dtype != DType::C64 => 0,
        UnaryOp::IsNan => u64::from(re.is_nan() || im.is_nan()),
        UnaryOp::IsInf => u64::from(re.is_infinite() || im.is_infinite()),
        UnaryOp::Not => !x,
        UnaryOp::Recip => complex_div((1.0, 0.0), (f64::from(re), f64::from(im))),
        _ => join(unary_f32(op, re), unary_f32(op, im)),
    }
}

/// A function of an f32; of the predicates 0 or 1, of `not` the operand.
pub fn unary_f32(op: UnaryOp, x: f32) -> f32 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Trunc => x.trunc(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Recip => 1.0 / x,
        _ => unary_f64(op, f64::from(x)) as f32,
    }
}

/// A function of an f64; of the predicates 0 or 1, of `not` the operand.
pub fn unary_f64(op: UnaryOp, x: f64) -> f64 {
    use UnaryOp::*;
    match op {
        Neg => -x,
        Abs => x.abs(),
        Not => x,
        Sign => {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Trunc => x.trunc(),
        Sqrt => x.sqrt(),
        Recip => 1.0 / x,
        Exp => libm::exp(x),
        Log => libm::log(x),
        Sin => libm::sin(x),
        Cos => libm::cos(x),
        Tan => libm::tan(x),
        Asin => libm::asin(x),
        Acos => libm::acos(x),
        Atan => libm::atan(x),
        Sinh => libm::sinh(x),
        Cosh => libm::cosh(x),
        Tanh => libm::tanh(x),
        Asinh => libm::asinh(x),
        // Below 1 there is none; the library computes on.
        Acosh if x < 1.0 => f64::NAN,
        Acosh => libm::acosh(x),
        Atanh => libm::atanh(x),
        Erf => libm::erf(x),
        Sigmoid => {
            // e^-|x| cannot overflow.
            let e = libm::exp(-x.abs());
            if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
        }
        Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())) + if x.is_nan() { x } else { 0.0 },
        IsNan => f64::from(u8::from(x.is_nan())),
        IsInf => f64::from(u8::from(x.is_infinite())),
    }
}

/// Applies a function of two operands of one dtype; comparisons give 0 or 1 as `bool`, others an element of `dtype`.
///
/// Bitwise functions of floats act on their encodings, shifts give 0. `bool` is arithmetic modulo "not zero": `add` and
/// `max` are or, `mul` and `min` are and, `sub` is exclusive or. `c64` has sum, difference, product, quotient, `eq` and
/// `ne`; its other functions act on both parts, and its order is by real part.
pub fn binary(op: BinaryOp, dtype: DType, a: u64, b: u64) -> u64 {
    use BinaryOp::*;
    match op {
        Eq | Ne | Lt | Le | Gt | Ge => return u64::from(compare(op, dtype, a, b)),
        And => return a & b,
        Or => return a | b,
        Xor => return a ^ b,
        _ => {}
    }
    match dtype {
        DType::F32 => u64::from(binary_f32(op, f32::from_bits(a as u32), f32::from_bits(b as u32)).to_bits()),
        DType::F64 => binary_f64(op, f64::from_bits(a), f64::from_bits(b)).to_bits(),
        _ => match dtype.kind() {
            Kind::Float => {
                let r = binary_f32(op, decode_f64(dtype, a) as f32, decode_f64(dtype, b) as f32);
                encode_f64(dtype, f64::from(r), false)
            }
            Kind::Signed | Kind::Unsigned | Kind::Bool => binary_int(op, dtype, a, b),
            Kind::Complex => binary_complex(op, dtype, a, b),
            Kind::Handle => 0,
        },
    }
}

fn compare(op: BinaryOp, dtype: DType, a: u64, b: u64) -> bool {
    let order = match dtype.kind() {
        Kind::Float => decode_f64(dtype, a).partial_cmp(&decode_f64(dtype, b)),
        Kind::Complex => {
            let (x, y) = (parts(a), parts(b));
            match op {
                BinaryOp::Eq | BinaryOp::Ne => (x == y).then_some(Ordering::Equal),
                _ => x.0.partial_cmp(&y.0),
            }
        }
        _ => Some(int_from_bits(dtype, a).cmp(&int_from_bits(dtype, b))),
    };
    ordered(op, order)
}

/// Whether a comparison holds for two operands in that order; `None` is unordered (NaN).
pub(crate) fn ordered(op: BinaryOp, order: Option<Ordering>) -> bool {
    match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Ne => order != Some(Ordering::Equal),
        BinaryOp::Lt => order == Some(Ordering::Less),
        BinaryOp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => order == Some(Ordering::Greater),
        BinaryOp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => false,
    }
}

/// A function of two f32; comparisons give 0 or 1, bitwise functions and shifts 0.
pub fn binary_f32(op: BinaryOp, a: f32, b: f32) -> f32 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        _ => binary_f64(op, f64::from(a), f64::from(b)) as f32,
    }
}

/// A function of two f64; comparisons give 0 or 1, bitwise functions and shifts 0.
pub fn binary_f64(op: BinaryOp, a: f64, b: f64) -> f64 {
    use BinaryOp::*;
    match op {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Rem => a % b,
        Mod => match a % b {
            r if r == 0.0 => r.copysign(b),
            r if (r < 0.0) != (b < 0.0) => r + b,
            r => r,
        },
        Pow => libm::pow(a, b),
        Min if a.is_nan() || b.is_nan() => f64::NAN,
        Max if a.is_nan() || b.is_nan() => f64::NAN,
        // -0 is below +0, so that the result does not depend on the order of the operands.
        Min if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        Max if a == b => {
            if a.is_sign_negative() {
                b
            } else {
                a
            }
        }
        Min => a.min(b),
        Max => a.max(b),
        Eq | Ne | Lt | Le | Gt | Ge => f64::from(u8::from(ordered(op, a.partial_cmp(&b)))),
        And | Or | Xor | Shl | Shr => 0.0,
    }
}

fn binary_int(op: BinaryOp, dtype: DType, x: u64, y: u64) -> u64 {
    use BinaryOp::*;
    let (a, b) = (int_from_bits(dtype, x), int_from_bits(dtype, y));
    // An amount that is negative as a signed number is over-wide, as it is unsigned.
    let shift = (y & super::mask(dtype)).min(127) as u32;
    let wide = shift >= dtype.bits();
    let v = match op {
        Add => a + b,
        Sub => a - b,
        // Both fit in 64 bits, so the product fits in 128 unless both are unsigned and near the top: the low bits are right all the same.
        Mul => a.wrapping_mul(b),
        Div => a.checked_div(b).unwrap_or(0),
        Rem => a.checked_rem(b).unwrap_or(0),
        Mod => match a.checked_rem(b).unwrap_or(0) {
            r if r != 0 && (r < 0) != (b < 0) => r + b,
            r => r,
        },
        Pow => int_pow(a, b),
        Min => a.min(b),
        Max => a.max(b),
        Shl => {
            if wide {
                0
            } else {
                a << shift
            }
        }
        Shr => {
            if wide {
                if a < 0 { -1 } else { 0 }
            } else {
                a >> shift
            }
        }
        And | Or | Xor | Eq | Ne | Lt | Le | Gt | Ge => 0,
    };
    int_to_bits(dtype, v)
}

/// Power that wraps; a negative exponent gives the truncated quotient 1 / a^-b (of 0: 0).
fn int_pow(a: i128, b: i128) -> i128 {
    match (a, b) {
        (_, b) if b >= 0 => {
            let (mut base, mut e, mut r) = (a, b, 1i128);
            while e > 0 {
                if e & 1 == 1 {
                    r = r.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                e >>= 1;
            }
            r
        }
        (1, _) => 1,
        (-1, b) => {
            if b % 2 == 0 {
                1
            } else {
                -1
            }
        }
        _ => 0,
    }
}

fn parts(x: u64) -> (f32, f32) {
    (f32::from_bits(x as u32), f32::from_bits((x >> 32) as u32))
}
fn join(re: f32, im: f32) -> u64 {
    u64::from(re.to_bits()) | u64::from(im.to_bits()) << 32
}

fn binary_complex(op: BinaryOp, dtype: DType, x: u64, y: u64) -> u64 {
    let wide = |x| {
        let (re, im) = parts(x);
        (f64::from(re), f64::from(im))
    };
    let (a, b) = (wide(x), wide(y));
    match op {
        _ if dtype != DType::C64 => 0,
        BinaryOp::Mul => join((a.0 * b.0 - a.1 * b.1) as f32, (a.0 * b.1 + a.1 * b.0) as f32),
        BinaryOp::Div => complex_div(a, b),
        _ => join(binary_f64(op, a.0, b.0) as f32, binary_f64(op, a.1, b.1) as f32),
    }
}

fn complex_div(a: (f64, f64), b: (f64, f64)) -> u64 {
    let d = b.0 * b.0 + b.1 * b.1;
    join(((a.0 * b.0 + a.1 * b.1) / d) as f32, ((a.1 * b.0 - a.0 * b.1) / d) as f32)
}
