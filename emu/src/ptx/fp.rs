// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Floating-point formats and roundings: every conversion and every operation here is exactly rounded, with one rounding.
//!
//! Results are formed in f64 with **round to odd** ([`add_odd`] and the rest), which keeps enough of what was cut off that a second
//! rounding into any format of at most 51 bits of significand gives what one rounding of the exact value would.

/// A rounding mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rnd {
    /// To nearest, ties to even (`rn`).
    Near,
    /// To nearest, ties away from zero (`rna`).
    Away,
    /// Toward zero (`rz`).
    Zero,
    /// Toward minus infinity (`rm`).
    Down,
    /// Toward plus infinity (`rp`).
    Up,
}

/// A binary format of at most 16 bits, or tf32 before its shift.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fmt {
    /// Bits of the exponent.
    pub e: u32,
    /// Bits of the significand without the hidden one.
    pub m: u32,
    /// Code of the largest finite value.
    pub max: u32,
    /// Code of infinity, where there is one.
    pub inf: Option<u32>,
    /// Code of NaN, where there is one; without one NaN becomes the largest value, as `cvt` says.
    pub nan: Option<u32>,
}

/// IEEE half precision.
pub const F16: Fmt = Fmt { e: 5, m: 10, max: 0x7bff, inf: Some(0x7c00), nan: Some(0x7fff) };
/// bfloat16.
pub const BF16: Fmt = Fmt { e: 8, m: 7, max: 0x7f7f, inf: Some(0x7f80), nan: Some(0x7fff) };
/// The upper 19 bits of f32.
pub const TF32: Fmt = Fmt { e: 8, m: 10, max: 0x3fbff, inf: Some(0x3fc00), nan: Some(0x3ffff) };
/// FP8 of OCP with 3 bits of significand, finite.
pub const E4M3: Fmt = Fmt { e: 4, m: 3, max: 0x7e, inf: None, nan: Some(0x7f) };
/// FP8 of OCP with 2 bits of significand.
pub const E5M2: Fmt = Fmt { e: 5, m: 2, max: 0x7b, inf: Some(0x7c), nan: Some(0x7f) };
/// FP4.
pub const E2M1: Fmt = Fmt { e: 2, m: 1, max: 7, inf: None, nan: None };
/// FP6 with 3 bits of significand.
pub const E2M3: Fmt = Fmt { e: 2, m: 3, max: 0x1f, inf: None, nan: None };
/// FP6 with 2 bits of significand.
pub const E3M2: Fmt = Fmt { e: 3, m: 2, max: 0x1f, inf: None, nan: None };

impl Fmt {
    fn sign(self) -> u32 {
        1 << (self.e + self.m)
    }

    /// The code nearest to a value; `sat` gives the largest finite value instead of infinity.
    pub fn encode(self, v: f64, rnd: Rnd, sat: bool) -> u32 {
        if v.is_nan() {
            return self.nan.unwrap_or(self.max);
        }
        let negative = v.is_sign_negative();
        let sign = if negative { self.sign() } else { 0 };
        let over = |nearest: bool| match self.inf {
            _ if sat => self.max,
            Some(inf) if nearest || (rnd == Rnd::Up && !negative) || (rnd == Rnd::Down && negative) => inf,
            None if nearest => self.nan.unwrap_or(self.max),
            _ => self.max,
        };
        if v.is_infinite() {
            return sign | over(true);
        }
        if v == 0.0 {
            return sign;
        }
        let bits = v.to_bits();
        let (mut e, mut m) = ((bits >> 52 & 0x7ff) as i32 - 1023, bits & ((1 << 52) - 1));
        if e == -1023 {
            let up = m.leading_zeros() - 11;
            m <<= up;
            e = -1022 - up as i32;
        } else {
            m |= 1 << 52;
        }
        let least = 2 - (1 << (self.e - 1));
        let shift = 52 - self.m as i32 + (least - e).max(0);
        let (q, rest, half) = if shift > 54 { (0, 1, 2) } else { (m >> shift, m & ((1 << shift) - 1), 1u64 << (shift - 1)) };
        let up = match rnd {
            Rnd::Near => rest > half || (rest == half && q & 1 == 1),
            Rnd::Away => rest >= half,
            Rnd::Zero => false,
            Rnd::Down => rest != 0 && negative,
            Rnd::Up => rest != 0 && !negative,
        };
        let code = ((e - least).max(0) as u64) * (1 << self.m) + q + u64::from(up);
        sign | if code > u64::from(self.max) { over(matches!(rnd, Rnd::Near | Rnd::Away)) } else { code as u32 }
    }

    /// The value of a code.
    pub fn decode(self, code: u32) -> f64 {
        let a = code & (self.sign() - 1);
        let v = if Some(a) == self.inf {
            f64::INFINITY
        } else if a > self.max {
            f64::NAN
        } else {
            let (e, m) = ((a >> self.m) as i32, f64::from(a & ((1 << self.m) - 1)));
            let least = 2 - (1 << (self.e - 1));
            let one = f64::from(1u32 << self.m);
            if e == 0 { m / one * exp2i(least) } else { (1.0 + m / one) * exp2i(e - 1 + least) }
        };
        if code & self.sign() != 0 { -v } else { v }
    }
}

/// Two to an integer between -1022 and 1023.
pub fn exp2i(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// The value of a half.
#[inline(always)]
pub fn half(h: u32) -> f32 {
    let a = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 | (h & 0x3ff) << 13 } else { a.to_bits() };
    f32::from_bits(special | (h & 0x8000) << 16)
}

/// The value of a bfloat16.
#[inline(always)]
pub fn bhalf(h: u32) -> f32 {
    f32::from_bits(h << 16)
}

/// An f32 to the nearest bfloat16.
#[inline(always)]
pub fn to_bhalf(v: f32) -> u32 {
    let b = v.to_bits();
    if v.is_nan() { 0x7fff } else { (b + 0x7fff + (b >> 16 & 1)) >> 16 }
}

/// An f32 to the nearest half.
#[inline(always)]
pub fn to_half(v: f32) -> u32 {
    let b = v.to_bits();
    let (sign, a) = (b >> 16 & 0x8000, b & 0x7fff_ffff);
    if a > 0x7f80_0000 {
        return 0x7fff;
    }
    if a >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if a < 0x3880_0000 {
        // Adding 0.5 leaves the bits of a subnormal half, rounded to even, at the end of the significand.
        return sign | (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    }
    sign | ((a - 0x3800_0000 + 0xfff + (a >> 13 & 1)) >> 13)
}

/// An exact sum as what rounding to nearest gives and what that left out.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// A rounded value and the sign of what rounding left out, to the value rounded to odd.
fn odd(s: f64, err: f64) -> f64 {
    if err == 0.0 || !s.is_finite() || s.to_bits() & 1 == 1 {
        return s;
    }
    // The neighbor on the side of the exact value has an odd significand.
    step(s, err > 0.0)
}

/// The next value up or down.
pub fn step(s: f64, up: bool) -> f64 {
    if s == 0.0 {
        return if up { f64::from_bits(1) } else { -f64::from_bits(1) };
    }
    f64::from_bits(if up == (s > 0.0) { s.to_bits() + 1 } else { s.to_bits() - 1 })
}

/// A sum rounded to odd.
pub fn add_odd(a: f64, b: f64) -> f64 {
    let (s, e) = two_sum(a, b);
    odd(s, if e.is_nan() { 0.0 } else { e })
}

/// What rounding `a * b + c` to nearest leaves out; its sign is right.
fn fma_rest(a: f64, b: f64, c: f64, r: f64) -> f64 {
    if !r.is_finite() {
        return 0.0;
    }
    let p = a * b;
    let e = a.mul_add(b, -p);
    let (s, t) = two_sum(p, c);
    let rest = (s - r) + t + e;
    if rest.is_nan() { 0.0 } else { rest }
}

/// `a * b + c` rounded to odd.
pub fn fma_odd(a: f64, b: f64, c: f64) -> f64 {
    let r = a.mul_add(b, c);
    odd(r, fma_rest(a, b, c, r))
}

/// A quotient rounded to odd.
pub fn div_odd(a: f64, b: f64) -> f64 {
    let q = a / b;
    if !q.is_finite() || q == 0.0 || b.is_infinite() {
        return q;
    }
    let rest = (-q).mul_add(b, a);
    odd(q, if b < 0.0 { -rest } else { rest })
}

/// A square root rounded to odd.
pub fn sqrt_odd(a: f64) -> f64 {
    let s = a.sqrt();
    if !s.is_finite() || s == 0.0 { s } else { odd(s, (-s).mul_add(s, a)) }
}

/// A value rounded to odd (or exact) to f32.
pub fn to_f32(v: f64, rnd: Rnd) -> f32 {
    let r = v as f32;
    let back = f64::from(r);
    let (up, down) = (back > v, back < v);
    match rnd {
        Rnd::Near | Rnd::Away => r,
        _ if !up && !down || v.is_infinite() => r,
        Rnd::Down => {
            if up {
                next32(r, false)
            } else {
                r
            }
        }
        Rnd::Up => {
            if down {
                next32(r, true)
            } else {
                r
            }
        }
        Rnd::Zero => match v > 0.0 {
            true if up => next32(r, false),
            false if down => next32(r, true),
            _ => r,
        },
    }
}

fn next32(s: f32, up: bool) -> f32 {
    if s == 0.0 {
        return if up { f32::from_bits(1) } else { -f32::from_bits(1) };
    }
    f32::from_bits(if up == (s > 0.0) { s.to_bits() + 1 } else { s.to_bits() - 1 })
}

/// A result rounded to nearest, moved as another rounding wants it; `rest` has the sign of what is missing.
fn direct(r: f64, rest: f64, rnd: Rnd) -> f64 {
    match rnd {
        _ if rest == 0.0 || r.is_nan() => r,
        Rnd::Down if rest < 0.0 => step(r, false),
        Rnd::Up if rest > 0.0 => step(r, true),
        Rnd::Zero if r > 0.0 && rest < 0.0 => step(r, false),
        Rnd::Zero if r < 0.0 && rest > 0.0 => step(r, true),
        _ => r,
    }
}

/// A sum of doubles.
pub fn add64(a: f64, b: f64, rnd: Rnd) -> f64 {
    let (s, e) = two_sum(a, b);
    // An exact zero is negative where it is rounded down.
    if s == 0.0 && e == 0.0 && rnd == Rnd::Down && a != 0.0 {
        return -0.0;
    }
    direct(s, if e.is_nan() { 0.0 } else { e }, rnd)
}

/// A product of doubles.
pub fn mul64(a: f64, b: f64, rnd: Rnd) -> f64 {
    let p = a * b;
    direct(p, if p.is_finite() { a.mul_add(b, -p) } else { 0.0 }, rnd)
}

/// A fused product and sum of doubles.
pub fn fma64(a: f64, b: f64, c: f64, rnd: Rnd) -> f64 {
    let r = a.mul_add(b, c);
    if rnd == Rnd::Near { r } else { direct(r, fma_rest(a, b, c, r), rnd) }
}

/// A quotient of doubles.
pub fn div64(a: f64, b: f64, rnd: Rnd) -> f64 {
    let q = a / b;
    if rnd == Rnd::Near || !q.is_finite() || q == 0.0 || b.is_infinite() {
        return q;
    }
    let rest = (-q).mul_add(b, a);
    direct(q, if b < 0.0 { -rest } else { rest }, rnd)
}

/// A square root of a double.
pub fn sqrt64(a: f64, rnd: Rnd) -> f64 {
    let s = a.sqrt();
    if rnd == Rnd::Near || !s.is_finite() || s == 0.0 { s } else { direct(s, (-s).mul_add(s, a), rnd) }
}

/// A subnormal f32 to a zero of its sign.
#[inline(always)]
pub fn ftz(v: f32) -> f32 {
    if v.to_bits() & 0x7f80_0000 == 0 { f32::from_bits(v.to_bits() & 0x8000_0000) } else { v }
}
