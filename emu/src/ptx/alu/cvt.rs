// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Conversions.

use super::{Kernel, k};
use crate::ptx::fp::{self, Fmt, Rnd, bhalf, half, to_bhalf, to_f32, to_half};
use crate::ptx::instr::{Class, Width};
use crate::ptx::ty::Ty::{self, *};

/// A conversion, packed into the number of an instruction.
#[derive(Clone, Copy)]
struct Spec {
    d: Ty,
    s: Ty,
    rnd: Rnd,
    /// Rounds to an integer in floating point.
    integral: bool,
    ftz: bool,
    sat: bool,
    satfinite: bool,
    relu: bool,
}

/// Types in the order of their numbers in [`Spec::pack`].
#[rustfmt::skip]
const TYPES: [Ty; 25] = [B8, B16, B32, B64, U8, U16, U32, U64, S8, S16, S32, S64, F16, BF16, TF32, F32, F64, E4M3, E5M2, E2M1, E2M3, E3M2, UE8M0, F16x2, BF16x2];

impl Spec {
    fn pack(self) -> Option<u64> {
        let t = |t| TYPES.iter().position(|x| *x == t).map(|x| x as u64);
        let r = match self.rnd {
            Rnd::Near => 0,
            Rnd::Away => 1,
            Rnd::Zero => 2,
            Rnd::Down => 3,
            Rnd::Up => 4,
        };
        let bits = [self.integral, self.ftz, self.sat, self.satfinite, self.relu];
        let flags = bits.iter().enumerate().fold(0, |n, (i, b)| n | u64::from(*b) << i);
        Some(t(self.d)? | t(self.s)? << 8 | r << 16 | flags << 24)
    }

    fn unpack(n: u64) -> Spec {
        let flag = |i: u32| n >> (24 + i) & 1 == 1;
        Spec {
            d: TYPES[(n & 31) as usize % 25],
            s: TYPES[(n >> 8 & 31) as usize % 25],
            rnd: [Rnd::Near, Rnd::Away, Rnd::Zero, Rnd::Down, Rnd::Up][(n >> 16 & 7) as usize % 5],
            integral: flag(0),
            ftz: flag(1),
            sat: flag(2),
            satfinite: flag(3),
            relu: flag(4),
        }
    }
}

fn fmt(t: Ty) -> Option<Fmt> {
    Some(match t {
        F16 => fp::F16,
        BF16 => fp::BF16,
        TF32 => fp::TF32,
        E4M3 => fp::E4M3,
        E5M2 => fp::E5M2,
        E2M1 => fp::E2M1,
        E2M3 => fp::E2M3,
        E3M2 => fp::E3M2,
        _ => return None,
    })
}

/// The value of a number of any floating-point type.
pub fn value(t: Ty, bits: u64) -> f64 {
    match t {
        F64 => f64::from_bits(bits),
        F32 => f32::from_bits(bits as u32).into(),
        TF32 => f32::from_bits(bits as u32 & 0xffff_e000).into(),
        F16 => half(bits as u32 & 0xffff).into(),
        BF16 => bhalf(bits as u32).into(),
        UE8M0 => match bits & 0xff {
            0xff => f64::NAN,
            e => fp::exp2i(e as i32 - 127),
        },
        _ => fmt(t).map_or(f64::NAN, |f| f.decode(bits as u32)),
    }
}

fn integral(v: f64, rnd: Rnd) -> f64 {
    match rnd {
        Rnd::Near | Rnd::Away => v.round_ties_even(),
        Rnd::Zero => v.trunc(),
        Rnd::Down => v.floor(),
        Rnd::Up => v.ceil(),
    }
}

fn put(s: Spec, v: f64) -> u64 {
    let v = if s.sat { if v > 0.0 { v.min(1.0) } else { 0.0 } } else { v };
    let v = if s.relu && v <= 0.0 { 0.0 } else { v };
    match s.d {
        F64 => v.to_bits(),
        F32 if v.is_nan() => 0x7fff_ffff,
        F32 => {
            let f = to_f32(v, s.rnd);
            u64::from(if s.ftz { fp::ftz(f) } else { f }.to_bits())
        }
        TF32 => u64::from(fp::TF32.encode(v, s.rnd, s.satfinite)) << 13,
        // Powers of two, rounded toward zero or up; never negative.
        UE8M0 => {
            if v.is_nan() {
                return 0xff;
            }
            let a = v.abs();
            if a == 0.0 {
                return 0;
            }
            let e = (a.to_bits() >> 52) as i32 - 1023;
            let up = s.rnd == Rnd::Up && a.to_bits() & ((1 << 52) - 1) != 0;
            (e + i32::from(up) + 127).clamp(0, 254) as u64
        }
        d => fmt(d).map_or(0, |f| f.encode(v, s.rnd, s.satfinite || f.inf.is_none()).into()),
    }
}

/// One conversion.
fn one(s: Spec, bits: u64) -> u64 {
    if s.s.float() {
        let mut v = value(s.s, bits);
        if s.ftz && s.s == F32 {
            v = fp::ftz(v as f32).into();
        }
        if s.d.float() {
            return put(s, if s.integral { integral(v, s.rnd) } else { v });
        }
        let v = integral(v, s.rnd);
        let n = s.d.bits();
        return if v.is_nan() {
            // What the hardware gives: the most negative 64-bit number as such, zero for narrower ones.
            if n == 64 { 1 << 63 } else { 0 }
        } else if s.d.signed() {
            let top = (1i128 << (n - 1)) - 1;
            (v as i128).clamp(-top - 1, top) as u64
        } else {
            (v as i128).clamp(0, (1 << n) - 1) as u64
        };
    }
    let n = s.s.bits();
    let v: i128 = if s.s.signed() { (((bits << (64 - n)) as i64) >> (64 - n)).into() } else { (bits & (u64::MAX >> (64 - n))).into() };
    if s.d.float() {
        return match s.d {
            F64 => {
                let r = v as f64;
                let back = r as i128;
                let up = |x: bool| fp::step(r, x).to_bits();
                match s.rnd {
                    Rnd::Down if back > v => up(false),
                    Rnd::Up if back < v => up(true),
                    Rnd::Zero if back.abs() > v.abs() => up(v < 0),
                    _ => r.to_bits(),
                }
            }
            // A 64-bit integer is cut to a double rounded to odd first.
            _ => {
                let r = v as f64;
                let back = r as i128;
                let odd = if back == v || r.to_bits() & 1 == 1 { r } else { fp::step(r, back < v) };
                put(s, odd)
            }
        };
    }
    let m = s.d.bits();
    if !s.sat {
        let cut = (v as u64) << (64 - m);
        return if s.d.signed() { (cut as i64 >> (64 - m)) as u64 } else { cut >> (64 - m) };
    }
    if s.d.signed() {
        let top = (1i128 << (m - 1)) - 1;
        v.clamp(-top - 1, top) as u64
    } else {
        v.clamp(0, (1 << m) - 1) as u64
    }
}

/// The parts of a packed type: element, elements, bits between them.
fn parts(t: Ty) -> Option<(Ty, u32)> {
    Some(match t {
        F16x2 => (F16, 16),
        BF16x2 => (BF16, 16),
        E4M3x2 => (E4M3, 8),
        E5M2x2 => (E5M2, 8),
        E2M1x2 => (E2M1, 4),
        E2M3x2 => (E2M3, 8),
        E3M2x2 => (E3M2, 8),
        UE8M0x2 => (UE8M0, 8),
        _ => return None,
    })
}

/// The loop for `cvt`.
pub fn cvt(sfx: &[&str]) -> Option<Kernel> {
    let types: Vec<Ty> = sfx.iter().filter_map(|s| Ty::parse(s)).collect();
    let (mut d, mut s) = (*types.first()?, *types.get(1)?);
    let has = |x: &str| sfx.contains(&x);
    let (rnd, int) = sfx
        .iter()
        .find_map(|x| {
            Some(match *x {
                "rn" => (Rnd::Near, false),
                "rna" => (Rnd::Away, false),
                "rz" => (Rnd::Zero, false),
                "rm" => (Rnd::Down, false),
                "rp" => (Rnd::Up, false),
                "rni" => (Rnd::Near, true),
                "rzi" => (Rnd::Zero, true),
                "rmi" => (Rnd::Down, true),
                "rpi" => (Rnd::Up, true),
                _ => return None,
            })
        })
        .unwrap_or((Rnd::Near, false));
    if has("pack") || has("rs") {
        return None;
    }
    let spec = |d, s| Spec { d, s, rnd, integral: int, ftz: has("ftz"), sat: has("sat"), satfinite: has("satfinite"), relu: has("relu") };
    let packed = |d, s| spec(d, s).pack();
    match (parts(d), parts(s)) {
        // Two numbers into a pair; the first goes up.
        (Some((e, shift)), None) => {
            let n = packed(e, s)? | u64::from(shift) << 32;
            return Some(
                k!(imm; u32; u32, u32; |n: u64, a: u32, b: u32| {
                    let s = Spec::unpack(n);
                    ((one(s, a.into()) as u32) << (n >> 32 & 31)) | one(s, b.into()) as u32
                })
                .imm(n)
                .ty(s)
                .class(Class::Convert),
            );
        }
        (Some((e, to)), Some((f, from))) => {
            let n = packed(e, f)? | u64::from(to) << 32 | u64::from(from) << 40;
            return Some(
                k!(imm; u32; u32; |n: u64, a: u32| {
                    let (s, from) = (Spec::unpack(n), n >> 40 & 31);
                    let low = (1u32 << from) - 1;
                    ((one(s, (a >> from & low).into()) as u32) << (n >> 32 & 31)) | one(s, (a & low).into()) as u32
                })
                .imm(n)
                .ty(s)
                .class(Class::Convert),
            );
        }
        (None, Some(_)) => return None,
        (None, None) => {}
    }
    let plain = !has("ftz") && !has("sat") && !has("satfinite") && !has("relu");
    d = if let B8 | B16 | B32 | B64 = d { unsigned(d) } else { d };
    s = if let B8 | B16 | B32 | B64 = s { unsigned(s) } else { s };
    let fast = match (d, s) {
        _ if !plain => None,
        (U32 | S32, U64 | S64) => Some(k!(u32; u64; |a: u64| a as u32)),
        (U64 | S64, U32) => Some(k!(u64; u32; |a: u32| a.into())),
        (U64 | S64, S32) => Some(k!(i64; i32; |a: i32| a.into())),
        (U64 | S64, U64 | S64) => Some(k!(u64; u64; |a: u64| a)),
        (U32 | S32, U32 | S32) => Some(k!(u32; u32; |a: u32| a)),
        (U32 | S32 | U16 | S16, U16) => Some(k!(u32; u32; |a: u32| a & 0xffff)),
        (U32 | S32, S16) => Some(k!(i32; i32; |a: i32| i32::from(a as i16))),
        (U16 | S16, U32 | S32) => Some(k!(u32; u32; |a: u32| a & 0xffff)),
        (U32 | S32 | U16, U8) => Some(k!(u32; u32; |a: u32| a & 0xff)),
        (U32 | S32, S8) => Some(k!(i32; i32; |a: i32| i32::from(a as i8))),
        (F32, S32) if rnd == Rnd::Near => Some(k!(f32; i32; |a: i32| a as f32)),
        (F32, U32) if rnd == Rnd::Near => Some(k!(f32; u32; |a: u32| a as f32)),
        (S32, F32) if rnd == Rnd::Zero => Some(k!(i32; f32; |a: f32| a as i32)),
        (F64, F32) if !int => Some(k!(f64; f32; |a: f32| a.into())),
        (F32, F64) if rnd == Rnd::Near && !int => Some(k!(f32; f64; |a: f64| super::float::canon(a as f32))),
        (F32, F16) if !int => Some(k!(f32; u32; |a: u32| super::float::canon(half(a & 0xffff)))),
        (F32, BF16) if !int => Some(k!(f32; u32; |a: u32| super::float::canon(bhalf(a)))),
        (F16, F32) if rnd == Rnd::Near && !int => Some(k!(u32; f32; to_half)),
        (BF16, F32) if rnd == Rnd::Near && !int => Some(k!(u32; f32; to_bhalf)),
        (F32, F32) if int => match rnd {
            Rnd::Down => Some(k!(f32; f32; |a: f32| super::float::canon(a.floor()))),
            Rnd::Zero => Some(k!(f32; f32; |a: f32| super::float::canon(a.trunc()))),
            _ => None,
        },
        _ => None,
    };
    if let Some(kernel) = fast {
        return Some(kernel.ty(s).class(Class::Convert));
    }
    let n = packed(d, s)?;
    let kernel = match (Width::of(d), Width::of(s)) {
        (Width::W32, Width::W32) => k!(imm; u32; u32; |n, a: u32| one(Spec::unpack(n), a.into()) as u32),
        (Width::W32, Width::W64) => k!(imm; u32; u64; |n, a: u64| one(Spec::unpack(n), a) as u32),
        (Width::W64, Width::W32) => k!(imm; u64; u32; |n, a: u32| one(Spec::unpack(n), a.into())),
        (Width::W64, Width::W64) => k!(imm; u64; u64; |n, a: u64| one(Spec::unpack(n), a)),
        _ => return None,
    };
    Some(kernel.imm(n).ty(s).class(Class::Convert))
}

fn unsigned(t: Ty) -> Ty {
    match t {
        B8 => U8,
        B16 => U16,
        B32 => U32,
        _ => U64,
    }
}

/// `cvt.pack.sat`: two numbers, saturated, below what `c` has been shifted by.
pub fn pack(d: Ty, s: Ty, third: bool) -> Option<Kernel> {
    if !matches!(s, S32) {
        return None;
    }
    let n = u64::from(d.bits()) | u64::from(d.signed()) << 8;
    fn clamp(n: u64, v: i32) -> u32 {
        let (bits, signed) = (n & 0xff, n >> 8 & 1 == 1);
        let (low, top) = if signed { (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
        (i64::from(v).clamp(low, top) as u32) & ((1u64 << bits) - 1) as u32
    }
    Some(
        match third {
            false => k!(imm; u32; i32, i32; |n: u64, a, b| clamp(n, a) << (n & 31) | clamp(n, b)),
            true => k!(imm; u32; i32, i32, u32; |n: u64, a, b, c: u32| {
                let bits = (n & 31) as u32;
                c << (2 * bits & 31) | clamp(n, a) << bits | clamp(n, b)
            }),
        }
        .imm(n)
        .ty(s)
        .class(Class::Convert),
    )
}
