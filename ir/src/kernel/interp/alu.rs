// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arithmetic on elements as bits. f32 and i32/i64 have their own loops; other dtypes go through `numerics`.

use crate::dtype::{DType, Kind};
use crate::kernel::{BinOp, CmpOp, HOp, RedOp, UnOp};
use crate::numerics::{self, decode_f64, encode_f64, int_from_bits, int_to_bits};

/// The number that the low half of a register holds as bf16.
pub(super) fn bf16_as_f32(b: u64) -> f32 {
    f32::from_bits((b as u32 & 0xffff) << 16)
}

fn f32_of(b: u64) -> f32 {
    f32::from_bits(b as u32)
}
fn bits_of(v: f32) -> u64 {
    u64::from(v.to_bits())
}
/// Sign-extended value of an i32 or i64 element.
pub(super) fn as_i64(bits: u64, wide: bool) -> i64 {
    if wide { bits as i64 } else { i64::from(bits as u32 as i32) }
}

fn un_f64(op: UnOp, x: f64) -> f64 {
    match op {
        UnOp::Neg => -x,
        UnOp::Not => x,
        UnOp::Abs => x.abs(),
        UnOp::Exp => libm::exp(x),
        UnOp::Exp2 => libm::exp2(x),
        UnOp::Expm1 => libm::expm1(x),
        UnOp::Log => libm::log(x),
        UnOp::Log2 => libm::log2(x),
        UnOp::Log1p => libm::log1p(x),
        UnOp::Sin => libm::sin(x),
        UnOp::Cos => libm::cos(x),
        UnOp::Tan => libm::tan(x),
        UnOp::Asin => libm::asin(x),
        UnOp::Acos => libm::acos(x),
        UnOp::Atan => libm::atan(x),
        UnOp::Sinh => libm::sinh(x),
        UnOp::Cosh => libm::cosh(x),
        UnOp::Tanh => libm::tanh(x),
        UnOp::Asinh => libm::asinh(x),
        // Below 1 there is none; the library computes on.
        UnOp::Acosh if x < 1.0 => f64::NAN,
        UnOp::Acosh => libm::acosh(x),
        UnOp::Atanh => libm::atanh(x),
        UnOp::Erf => libm::erf(x),
        UnOp::Sqrt => x.sqrt(),
        UnOp::Rsqrt => 1.0 / x.sqrt(),
        UnOp::Rcp => 1.0 / x,
        UnOp::Floor => x.floor(),
        UnOp::Ceil => x.ceil(),
        UnOp::Rint => x.round_ties_even(),
        UnOp::Trunc => x.trunc(),
    }
}
fn un_f32(op: UnOp, x: f32) -> f32 {
    match op {
        UnOp::Neg => -x,
        UnOp::Abs => x.abs(),
        UnOp::Sqrt => x.sqrt(),
        UnOp::Rcp => 1.0 / x,
        UnOp::Floor => x.floor(),
        UnOp::Ceil => x.ceil(),
        UnOp::Rint => x.round_ties_even(),
        UnOp::Trunc => x.trunc(),
        // The f64 value rounded once.
        _ => un_f64(op, f64::from(x)) as f32,
    }
}

/// One operand; none if an integer leaves its type.
pub(super) fn un_one(op: UnOp, d: DType, a: u64) -> Option<u64> {
    match d {
        DType::F32 => return Some(bits_of(un_f32(op, f32_of(a)))),
        DType::F64 => return Some(un_f64(op, f64::from_bits(a)).to_bits()),
        _ => {}
    }
    if d.is_float() {
        return Some(encode_f64(d, f64::from(un_f32(op, decode_f64(d, a) as f32)), false));
    }
    if op == UnOp::Not {
        return Some(if d == DType::Bool { a & 1 ^ 1 } else { !a & numerics::mask(d) });
    }
    let v = int_from_bits(d, a);
    in_range(d, if op == UnOp::Neg { -v } else { v.abs() })
}

fn in_range(d: DType, v: i128) -> Option<u64> {
    let (lo, hi) = d.int_range()?;
    (lo <= v && v <= hi).then(|| int_to_bits(d, v))
}

/// The smaller or larger of two floats; NaN if either is; -0 is below +0.
fn extreme(a: f64, b: f64, larger: bool) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_negative() == larger { b } else { a }
    } else if (a > b) == larger {
        a
    } else {
        b
    }
}
fn bin_f64(op: BinOp, a: f64, b: f64) -> f64 {
    match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a * b,
        BinOp::Div => a / b,
        BinOp::TRem => a % b,
        BinOp::Min => extreme(a, b, false),
        BinOp::Max => extreme(a, b, true),
        BinOp::MinNum | BinOp::MaxNum if a.is_nan() => b,
        BinOp::MinNum | BinOp::MaxNum if b.is_nan() => a,
        BinOp::MinNum => extreme(a, b, false),
        BinOp::MaxNum => extreme(a, b, true),
        BinOp::Pow => libm::pow(a, b),
        BinOp::Atan2 => libm::atan2(a, b),
        _ => f64::NAN,
    }
}
fn bin_f32(op: BinOp, a: f32, b: f32) -> f32 {
    match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a * b,
        BinOp::Div => a / b,
        _ => bin_f64(op, f64::from(a), f64::from(b)) as f32,
    }
}
fn bin_int(op: BinOp, d: DType, x: u64, y: u64) -> Option<u64> {
    match op {
        BinOp::And => return Some(x & y),
        BinOp::Or => return Some(x | y),
        BinOp::Xor => return Some(x ^ y),
        _ => {}
    }
    let (a, b) = (int_from_bits(d, x), int_from_bits(d, y));
    let v = match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a.checked_mul(b)?,
        BinOp::AddW => return Some(int_to_bits(d, a + b)),
        BinOp::SubW => return Some(int_to_bits(d, a - b)),
        BinOp::MulW => return Some(int_to_bits(d, a.wrapping_mul(b))),
        BinOp::Div | BinOp::Rem if a < 0 || b <= 0 => return None,
        BinOp::Div => a / b,
        BinOp::Rem => a % b,
        BinOp::TDiv => return Some(int_to_bits(d, a.checked_div(b)?)),
        BinOp::TRem => a.checked_rem(b)?,
        BinOp::Shl | BinOp::Shr if b < 0 || b >= i128::from(d.bits()) => return None,
        BinOp::Shl => return Some(int_to_bits(d, a << b)),
        BinOp::Shr => a >> b,
        BinOp::Min | BinOp::MinNum => a.min(b),
        BinOp::Max | BinOp::MaxNum => a.max(b),
        BinOp::And | BinOp::Or | BinOp::Xor | BinOp::Pow | BinOp::Atan2 => return None,
    };
    in_range(d, v)
}

/// Two operands; none if an integer is outside the operation's domain or its type.
pub(super) fn bin_one(op: BinOp, d: DType, a: u64, b: u64) -> Option<u64> {
    match d {
        DType::F32 => Some(bits_of(bin_f32(op, f32_of(a), f32_of(b)))),
        DType::F64 => Some(bin_f64(op, f64::from_bits(a), f64::from_bits(b)).to_bits()),
        _ if d.is_float() => Some(encode_f64(d, f64::from(bin_f32(op, decode_f64(d, a) as f32, decode_f64(d, b) as f32)), false)),
        _ => bin_int(op, d, a, b),
    }
}

/// A comparison.
pub(super) fn cmp_one(op: CmpOp, d: DType, a: u64, b: u64) -> bool {
    let o = match d.kind() {
        Kind::Float => decode_f64(d, a).partial_cmp(&decode_f64(d, b)),
        _ => Some(int_from_bits(d, a).cmp(&int_from_bits(d, b))),
    };
    use std::cmp::Ordering::{Equal, Greater, Less};
    match op {
        CmpOp::Eq => o == Some(Equal),
        CmpOp::Ne => o != Some(Equal),
        CmpOp::Lt => o == Some(Less),
        CmpOp::Le => matches!(o, Some(Less | Equal)),
        CmpOp::Gt => o == Some(Greater),
        CmpOp::Ge => matches!(o, Some(Greater | Equal)),
    }
}

/// A conversion.
pub(super) fn cast_one(from: DType, to: DType, sat: bool, a: u64) -> u64 {
    if sat
        && !from.is_float()
        && to != DType::Bool
        && let Some((lo, hi)) = to.int_range()
    {
        return int_to_bits(to, int_from_bits(from, a).clamp(lo, hi));
    }
    if sat && to.is_float() {
        // Nearest finite value, at every width.
        let v = numerics::cast(a, from, to, true);
        let x = decode_f64(to, v);
        if x.is_infinite() {
            // The code below infinity.
            return v - 1;
        }
        return v;
    }
    numerics::cast(a, from, to, sat)
}

/// `a * b + c` of f32, rounded once: the sum in f64 rounded to odd, then to f32.
pub(super) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    let p = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let s = p + c;
    let t = s - p;
    let err = (p - (s - t)) + (c - t);
    let bits = s.to_bits();
    let fix = err != 0.0 && bits & 1 == 0 && s.is_finite();
    let away = (err > 0.0) == (s > 0.0);
    let fixed = if away { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if fix { fixed } else { bits }) as f32
}
fn fma_one(d: DType, a: u64, b: u64, c: u64) -> u64 {
    match d {
        DType::F32 => bits_of(fma_f32(f32_of(a), f32_of(b), f32_of(c))),
        DType::F64 => f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits(),
        // A product of narrow floats is exact in f32, and the sum is exact enough in f64 to round once.
        _ => encode_f64(d, decode_f64(d, a) * decode_f64(d, b) + decode_f64(d, c), false),
    }
}

fn zip(a: &[u64], b: &[u64], o: &mut [u64], f: impl Fn(u64, u64) -> u64) {
    for ((o, a), b) in o.iter_mut().zip(a).zip(b) {
        *o = f(*a, *b);
    }
}
/// Elementwise with a check; the first element that fails.
fn try_zip(a: &[u64], b: &[u64], o: &mut [u64], f: impl Fn(u64, u64) -> Option<u64>) -> Option<usize> {
    let mut bad = None;
    for (i, ((o, a), b)) in o.iter_mut().zip(a).zip(b).enumerate() {
        match f(*a, *b) {
            Some(v) => *o = v,
            None => {
                *o = 0;
                bad = bad.or(Some(i));
            }
        }
    }
    bad
}

/// One operand, elementwise; the first element that leaves its type.
pub(super) fn un(op: UnOp, d: DType, a: &[u64], o: &mut [u64]) -> Option<usize> {
    if d == DType::F32 {
        for (o, a) in o.iter_mut().zip(a) {
            *o = bits_of(un_f32(op, f32_of(*a)));
        }
        return None;
    }
    try_zip(a, a, o, |a, _| un_one(op, d, a))
}

/// Two operands, elementwise; the first element outside its domain or type.
pub(super) fn bin(op: BinOp, d: DType, a: &[u64], b: &[u64], o: &mut [u64]) -> Option<usize> {
    match (d, op) {
        (DType::F32, BinOp::Add) => zip(a, b, o, |a, b| bits_of(f32_of(a) + f32_of(b))),
        (DType::F32, BinOp::Sub) => zip(a, b, o, |a, b| bits_of(f32_of(a) - f32_of(b))),
        (DType::F32, BinOp::Mul) => zip(a, b, o, |a, b| bits_of(f32_of(a) * f32_of(b))),
        (DType::F32, BinOp::Div) => zip(a, b, o, |a, b| bits_of(f32_of(a) / f32_of(b))),
        (DType::F32, _) => zip(a, b, o, |a, b| bits_of(bin_f32(op, f32_of(a), f32_of(b)))),
        (DType::I64, BinOp::Add) => return try_zip(a, b, o, |a, b| (a as i64).checked_add(b as i64).map(|v| v as u64)),
        (DType::I64, BinOp::Sub) => return try_zip(a, b, o, |a, b| (a as i64).checked_sub(b as i64).map(|v| v as u64)),
        (DType::I64, BinOp::Mul) => return try_zip(a, b, o, |a, b| (a as i64).checked_mul(b as i64).map(|v| v as u64)),
        (DType::I64, BinOp::Min) => zip(a, b, o, |a, b| (a as i64).min(b as i64) as u64),
        (DType::I64, BinOp::Max) => zip(a, b, o, |a, b| (a as i64).max(b as i64) as u64),
        (DType::I64, BinOp::Div) => {
            return try_zip(a, b, o, |a, b| ((a as i64) >= 0 && (b as i64) > 0).then(|| a / b));
        }
        (DType::I64, BinOp::Rem) => {
            return try_zip(a, b, o, |a, b| ((a as i64) >= 0 && (b as i64) > 0).then(|| a % b));
        }
        (DType::I32, BinOp::Add) => {
            return try_zip(a, b, o, |a, b| (a as i32).checked_add(b as i32).map(|v| u64::from(v as u32)));
        }
        (DType::I32, BinOp::Mul) => {
            return try_zip(a, b, o, |a, b| (a as i32).checked_mul(b as i32).map(|v| u64::from(v as u32)));
        }
        (DType::Bool, BinOp::And) => zip(a, b, o, |a, b| a & b),
        _ => return try_zip(a, b, o, |a, b| bin_one(op, d, a, b)),
    }
    None
}

pub(super) fn cmp(op: CmpOp, d: DType, a: &[u64], b: &[u64], o: &mut [u64]) {
    match (d, op) {
        (DType::I64, CmpOp::Lt) => zip(a, b, o, |a, b| u64::from((a as i64) < (b as i64))),
        (DType::I32, CmpOp::Lt) => zip(a, b, o, |a, b| u64::from((a as i32) < (b as i32))),
        (DType::F32, CmpOp::Gt) => zip(a, b, o, |a, b| u64::from(f32_of(a) > f32_of(b))),
        (DType::F32, CmpOp::Lt) => zip(a, b, o, |a, b| u64::from(f32_of(a) < f32_of(b))),
        _ => zip(a, b, o, |a, b| u64::from(cmp_one(op, d, a, b))),
    }
}

pub(super) fn fma(d: DType, a: &[u64], b: &[u64], c: &[u64], o: &mut [u64]) {
    let it = o.iter_mut().zip(a).zip(b).zip(c);
    match d {
        DType::F32 => it.for_each(|(((o, a), b), c)| *o = bits_of(fma_f32(f32_of(*a), f32_of(*b), f32_of(*c)))),
        _ => it.for_each(|(((o, a), b), c)| *o = fma_one(d, *a, *b, *c)),
    }
}

pub(super) fn cast(from: DType, to: DType, sat: bool, a: &[u64], o: &mut [u64]) {
    let it = o.iter_mut().zip(a);
    match (from, to) {
        (DType::I64, DType::I32) if !sat => it.for_each(|(o, a)| *o = u64::from(*a as u32)),
        (DType::I32, DType::I64) => it.for_each(|(o, a)| *o = i64::from(*a as u32 as i32) as u64),
        (DType::I32, DType::F32) => it.for_each(|(o, a)| *o = bits_of(*a as u32 as i32 as f32)),
        (DType::BF16, DType::F32) => it.for_each(|(o, a)| *o = *a << 16 & 0xFFFF_FFFF),
        _ => it.for_each(|(o, a)| *o = cast_one(from, to, sat, *a)),
    }
}

fn hop(op: HOp, d: DType, a: u64, b: u64) -> Option<u64> {
    let bin = match op {
        HOp::Sum => BinOp::Add,
        HOp::Prod => BinOp::Mul,
        HOp::Max => BinOp::Max,
        HOp::Min => BinOp::Min,
        HOp::And => BinOp::And,
        HOp::Or => BinOp::Or,
    };
    bin_one(bin, d, a, b)
}
/// The halving tree over the elements of one lane.
pub(super) fn hred(op: HOp, d: DType, v: &mut [u64]) -> Option<u64> {
    let mut n = v.len();
    while n > 1 {
        let half = n / 2;
        for i in 0..half {
            v[i] = hop(op, d, v[i], v[i + half])?;
        }
        n = half;
    }
    v.first().copied()
}
/// One step of a reduction along a tile's axis.
pub(super) fn red(op: RedOp, d: DType, a: u64, b: u64) -> Option<u64> {
    let bin = match op {
        RedOp::Sum => BinOp::Add,
        RedOp::Prod => BinOp::Mul,
        RedOp::Max => BinOp::Max,
        RedOp::Min => BinOp::Min,
    };
    bin_one(bin, d, a, b)
}
/// An element of a matrix operand as f32.
pub(super) fn to_f32(d: DType, b: u64) -> f32 {
    match d {
        DType::F32 => f32_of(b),
        DType::BF16 => f32::from_bits((b as u32) << 16),
        _ if d.is_float() => decode_f64(d, b) as f32,
        _ => int_from_bits(d, b) as f32,
    }
}
/// One step of a matrix product: `c + a * b` in the accumulator's dtype.
pub(super) fn mac(dc: DType, da: DType, db: DType, c: u64, a: u64, b: u64) -> u64 {
    match dc {
        DType::F32 => bits_of(fma_f32(to_f32(da, a), to_f32(db, b), f32_of(c))),
        DType::I32 => int_to_bits(dc, int_from_bits(dc, c) + int_from_bits(da, a) * int_from_bits(db, b)),
        _ => fma_one(dc, cast_one(da, dc, false, a), cast_one(db, dc, false, b), c),
    }
}
