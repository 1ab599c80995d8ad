// SPDX-License-Identifier: Apache-2.0 OR MIT
//! f32 and f64.
//!
//! `add`, `sub`, `mul`, `fma`, `div`, `rcp` and `sqrt` with a rounding are exactly rounded. What PTX calls approximate is computed in f64
//! and rounded to nearest, so it is within the bounds that PTX states (2 ulp for `ex2`, `rcp`, `sqrt`, `rsqrt`, `div`, 2^-22 absolute for
//! `lg2` near 1, 2^-20.9 for `sin` and `cos` within [-pi, pi], 2^-11 relative for `tanh`), and nearer than the hardware.

use super::{Kernel, k};
use crate::ptx::fp::{self, Rnd, ftz, to_f32};
use crate::ptx::instr::{Class, Width};
use crate::ptx::ty::Ty::{self, F32, F32x2, F64};

const FTZ: u64 = 1;
const SAT: u64 = 2;
const NAN: u64 = 4;
const XORSIGN: u64 = 8;

/// The rounding that suffixes name, with its code in bits 4.. of the flags.
fn rounding(sfx: &[&str]) -> Rnd {
    sfx.iter().find_map(|s| mode(s)).unwrap_or(Rnd::Near)
}

fn mode(s: &str) -> Option<Rnd> {
    Some(match s {
        "rn" => Rnd::Near,
        "rz" => Rnd::Zero,
        "rm" => Rnd::Down,
        "rp" => Rnd::Up,
        _ => return None,
    })
}

fn code(rnd: Rnd) -> u64 {
    match rnd {
        Rnd::Near | Rnd::Away => 0,
        Rnd::Zero => 1 << 4,
        Rnd::Down => 2 << 4,
        Rnd::Up => 3 << 4,
    }
}

#[inline(always)]
fn rnd(n: u64) -> Rnd {
    [Rnd::Near, Rnd::Zero, Rnd::Down, Rnd::Up][(n >> 4 & 3) as usize]
}

/// The one NaN that the hardware makes.
#[inline(always)]
pub fn canon(v: f32) -> f32 {
    if v.is_nan() { f32::from_bits(0x7fff_ffff) } else { v }
}

#[inline(always)]
fn input(n: u64, v: f32) -> f32 {
    if n & FTZ != 0 { ftz(v) } else { v }
}

#[inline(always)]
fn output(n: u64, v: f32) -> f32 {
    let v = if n & FTZ != 0 { ftz(v) } else { v };
    if n & SAT != 0 { saturate(v) } else { canon(v) }
}

/// To [0, 1]; NaN to 0.
pub fn saturate(v: f32) -> f32 {
    if v > 0.0 { v.min(1.0) } else { 0.0 }
}

/// The loop for an instruction on f32 or f64.
pub fn find(name: &str, sfx: &[&str], ty: Ty) -> Option<Kernel> {
    let has = |s: &str| sfx.contains(&s);
    let mut n = code(rounding(sfx));
    for (s, bit) in [("ftz", FTZ), ("sat", SAT), ("NaN", NAN), ("xorsign", XORSIGN)] {
        if has(s) {
            n |= bit;
        }
    }
    Some(match ty {
        F32 => single(name, sfx, n)?.class(match name {
            "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => Class::Sfu,
            "mov" | "copysign" => Class::Move,
            _ => Class::Fp32,
        }),
        F32x2 => pairs(name, n)?.class(Class::Fp32),
        F64 => double(name, sfx, n)?.class(if name == "mov" { Class::Move } else { Class::Fp64 }),
        _ => return None,
    })
}

fn single(name: &str, sfx: &[&str], n: u64) -> Option<Kernel> {
    let has = |s: &str| sfx.contains(&s);
    let plain = n == 0;
    let kernel = match name {
        "mov" => k!(f32; f32; |a: f32| a),
        "add" if plain => k!(f32; f32, f32; |a: f32, b: f32| canon(a + b)),
        "sub" if plain => k!(f32; f32, f32; |a: f32, b: f32| canon(a - b)),
        "mul" if plain => k!(f32; f32, f32; |a: f32, b: f32| canon(a * b)),
        "fma" | "mad" if plain => k!(f32; f32, f32, f32; |a: f32, b: f32, c: f32| canon(a.mul_add(b, c))),
        "add" => k!(imm; f32; f32, f32; |n, a, b| output(n, add(n, input(n, a), input(n, b)))),
        "sub" => k!(imm; f32; f32, f32; |n, a, b: f32| output(n, add(n, input(n, a), -input(n, b)))),
        "mul" => k!(imm; f32; f32, f32; |n, a, b| output(n, to_f32(f64::from(input(n, a)) * f64::from(input(n, b)), rnd(n)))),
        "fma" | "mad" => k!(imm; f32; f32, f32, f32; |n, a, b, c| output(n, fma(n, input(n, a), input(n, b), input(n, c)))),
        "div" => k!(imm; f32; f32, f32; |n, a, b| {
            let (a, b) = (input(n, a), input(n, b));
            output(n, if n >> 4 & 3 == 0 { a / b } else { to_f32(fp::div_odd(a.into(), b.into()), rnd(n)) })
        }),
        "rcp" => k!(imm; f32; f32; |n, a| {
            let a = input(n, a);
            output(n, if n >> 4 & 3 == 0 { 1.0 / a } else { to_f32(fp::div_odd(1.0, a.into()), rnd(n)) })
        }),
        "sqrt" => k!(imm; f32; f32; |n, a| {
            let a = input(n, a);
            output(n, if n >> 4 & 3 == 0 { a.sqrt() } else { to_f32(fp::sqrt_odd(a.into()), rnd(n)) })
        }),
        "rsqrt" => k!(imm; f32; f32; |n, a| output(n, (1.0 / f64::from(input(n, a)).sqrt()) as f32)),
        "sin" => k!(imm; f32; f32; |n, a| output(n, f64::from(input(n, a)).sin() as f32)),
        "cos" => k!(imm; f32; f32; |n, a| output(n, f64::from(input(n, a)).cos() as f32)),
        "lg2" => k!(imm; f32; f32; |n, a| output(n, f64::from(input(n, a)).log2() as f32)),
        "ex2" => k!(imm; f32; f32; |n, a| output(n, f64::from(input(n, a)).exp2() as f32)),
        "tanh" => k!(imm; f32; f32; |n, a| output(n, f64::from(input(n, a)).tanh() as f32)),
        "neg" => k!(imm; f32; f32; |n, a: f32| input(n, -a)),
        "abs" => k!(imm; f32; f32; |n, a: f32| input(n, a.abs())),
        "min" if sfx.iter().any(|s| *s == "three") => return None,
        "min" => k!(imm; f32; f32, f32; |n, a, b| least(n, a, b)),
        "max" => k!(imm; f32; f32, f32; |n, a, b| greatest(n, a, b)),
        "copysign" => k!(f32; f32, f32; |a: f32, b: f32| b.copysign(a)),
        "testp" => return testp(sfx, F32),
        _ => return None,
    };
    // The sign of `sub`'s second operand is turned before it is rounded, so both modes are those of `add`.
    let _ = has;
    Some(kernel.imm(n))
}

fn add(n: u64, a: f32, b: f32) -> f32 {
    if n >> 4 & 3 == 0 {
        return a + b;
    }
    let v = fp::add_odd(a.into(), b.into());
    if v == 0.0 && rnd(n) == Rnd::Down && a != 0.0 { -0.0 } else { to_f32(v, rnd(n)) }
}

fn fma(n: u64, a: f32, b: f32, c: f32) -> f32 {
    if n >> 4 & 3 == 0 {
        return a.mul_add(b, c);
    }
    to_f32(fp::add_odd(f64::from(a) * f64::from(b), c.into()), rnd(n))
}

/// The smaller one; -0 is smaller than +0, and NaN loses unless the flags say that it wins.
#[inline(always)]
pub fn least(n: u64, a: f32, b: f32) -> f32 {
    extreme(n, a, b, |x, y| x < y || (x == y && x.is_sign_negative()))
}

/// The greater one.
#[inline(always)]
pub fn greatest(n: u64, a: f32, b: f32) -> f32 {
    extreme(n, a, b, |x, y| x > y || (x == y && y.is_sign_negative()))
}

#[inline(always)]
fn extreme(n: u64, a: f32, b: f32, first: impl Fn(f32, f32) -> bool) -> f32 {
    let (a, b) = (input(n, a), input(n, b));
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    let (a, b) = if n & XORSIGN != 0 { (a.abs(), b.abs()) } else { (a, b) };
    let v = if a.is_nan() || b.is_nan() {
        if n & NAN != 0 || (a.is_nan() && b.is_nan()) {
            return f32::from_bits(0x7fff_ffff);
        }
        if a.is_nan() { b } else { a }
    } else if first(a, b) {
        a
    } else {
        b
    };
    if n & XORSIGN != 0 { f32::from_bits(v.to_bits() | sign) } else { v }
}

fn testp(sfx: &[&str], ty: Ty) -> Option<Kernel> {
    use super::cmp::compare;
    macro_rules! t {
        ($t:ident, $f:expr) => {{
            const S: &[Width] = &[<$t as crate::ptx::instr::Lane>::WIDTH];
            Kernel {
                f: |r, i, m| {
                    let i = crate::ptx::instr::Instr { b: i.a, imm: u64::from(u32::MAX), e: 0, ..*i };
                    compare::<$t>(r, &i, m, |x, _| {
                        let f: fn($t) -> bool = $f;
                        f(x)
                    })
                },
                d: Width::Pred,
                s: S,
                ty: Ty::B64,
                imm: 0,
                last: false,
                class: Class::Int,
            }
        }};
    }
    macro_rules! all {
        ($t:ident) => {
            match *sfx.first()? {
                "finite" => t!($t, |v| v.is_finite()),
                "infinite" => t!($t, |v| v.is_infinite()),
                "number" => t!($t, |v| !v.is_nan()),
                "notanumber" => t!($t, |v| v.is_nan()),
                "normal" => t!($t, |v| v.is_normal()),
                "subnormal" => t!($t, |v| v.is_subnormal()),
                _ => return None,
            }
        };
    }
    Some(if ty == F64 { all!(f64) } else { all!(f32) })
}

fn pairs(name: &str, n: u64) -> Option<Kernel> {
    fn both(a: u64, b: u64, c: u64, f: impl Fn(f32, f32, f32) -> f32) -> u64 {
        let g = |s: u32| {
            u64::from(f(f32::from_bits((a >> s) as u32), f32::from_bits((b >> s) as u32), f32::from_bits((c >> s) as u32)).to_bits())
        };
        g(0) | g(32) << 32
    }
    Some(
        match name {
            "add" => k!(imm; u64; u64, u64; |n, a, b| both(a, b, 0, |x, y, _| output(n, add(n, input(n, x), input(n, y))))),
            "sub" => k!(imm; u64; u64, u64; |n, a, b| both(a, b, 0, |x, y, _| output(n, add(n, input(n, x), -input(n, y))))),
            "mul" => k!(imm; u64; u64, u64; |n, a, b| both(a, b, 0, |x, y, _| {
                output(n, to_f32(f64::from(input(n, x)) * f64::from(input(n, y)), rnd(n)))
            })),
            "fma" => {
                k!(imm; u64; u64, u64, u64; |n, a, b, c| both(a, b, c, |x, y, z| output(n, fma(n, input(n, x), input(n, y), input(n, z)))))
            }
            _ => return None,
        }
        .imm(n),
    )
}

fn double(name: &str, sfx: &[&str], n: u64) -> Option<Kernel> {
    fn canon(v: f64) -> f64 {
        if v.is_nan() { f64::from_bits(0xfff8_0000_0000_0000) } else { v }
    }
    let kernel = match name {
        "mov" => k!(f64; f64; |a: f64| a),
        "add" => k!(imm; f64; f64, f64; |n, a, b| canon(fp::add64(a, b, rnd(n)))),
        "sub" => k!(imm; f64; f64, f64; |n, a, b: f64| canon(fp::add64(a, -b, rnd(n)))),
        "mul" => k!(imm; f64; f64, f64; |n, a, b| canon(fp::mul64(a, b, rnd(n)))),
        "fma" | "mad" => k!(imm; f64; f64, f64, f64; |n, a, b, c| canon(fp::fma64(a, b, c, rnd(n)))),
        "div" => k!(imm; f64; f64, f64; |n, a, b| canon(fp::div64(a, b, rnd(n)))),
        // The approximate form gives 20 bits and flushes subnormals; the emulator's is exact but for the lower word, which is zero.
        "rcp" if sfx.contains(&"approx") => k!(f64; f64; |a: f64| upper(1.0 / flush(a))),
        "rsqrt" => k!(f64; f64; |a: f64| upper(1.0 / flush(a).sqrt())),
        "rcp" => k!(imm; f64; f64; |n, a| canon(fp::div64(1.0, a, rnd(n)))),
        "sqrt" => k!(imm; f64; f64; |n, a| canon(fp::sqrt64(a, rnd(n)))),
        "neg" => k!(f64; f64; |a: f64| -a),
        "abs" => k!(f64; f64; |a: f64| a.abs()),
        "min" => k!(f64; f64, f64; |a: f64, b: f64| if a < b || b.is_nan() || (a == b && a.is_sign_negative()) { a } else { b }),
        "max" => k!(f64; f64, f64; |a: f64, b: f64| if a > b || b.is_nan() || (a == b && b.is_sign_negative()) { a } else { b }),
        "copysign" => k!(f64; f64, f64; |a: f64, b: f64| b.copysign(a)),
        "testp" => return testp(sfx, F64),
        _ => return None,
    };
    Some(kernel.imm(n))
}

fn flush(v: f64) -> f64 {
    if v.is_subnormal() { 0f64.copysign(v) } else { v }
}

fn upper(v: f64) -> f64 {
    f64::from_bits(v.to_bits() & 0xffff_ffff_0000_0000)
}
