// SPDX-License-Identifier: Apache-2.0 OR MIT
//! f16, bf16 and their pairs.
//!
//! Sums, products and quotients of halves are formed in f32, whose 24 bits are at least twice 11 plus two, so that rounding twice gives
//! what rounding once would; `fma` is formed in f64 rounded to odd.

use super::float::{greatest, least};
use super::{Kernel, k};
use crate::ptx::fp::{self, Rnd, bhalf, fma_odd, half, to_bhalf, to_half};
use crate::ptx::instr::Class;
use crate::ptx::ty::Ty::{self, BF16, BF16x2, F16, F16x2};

const FTZ: u64 = 1;
const SAT: u64 = 2;
const NAN: u64 = 4;
const XORSIGN: u64 = 8;
const RELU: u64 = 16;

#[inline(always)]
fn get<const B: bool>(v: u32) -> f32 {
    if B { bhalf(v) } else { half(v & 0xffff) }
}

#[inline(always)]
fn put<const B: bool>(n: u64, v: f32) -> u32 {
    let v = if n & SAT != 0 { super::float::saturate(v) } else { v };
    let v = if n & RELU != 0 && v <= 0.0 { 0.0 } else { v };
    let h = if B { to_bhalf(v) } else { to_half(v) };
    // A subnormal half becomes zero.
    if n & FTZ != 0 && h & (if B { 0x7f80 } else { 0x7c00 }) == 0 { h & 0x8000 } else { h }
}

#[inline(always)]
fn input<const B: bool>(n: u64, v: u32) -> f32 {
    if n & FTZ != 0 && v & (if B { 0x7f80 } else { 0x7c00 }) == 0 { get::<B>(v & 0x8000) } else { get::<B>(v) }
}

/// A fused product and sum, exactly rounded.
#[inline(always)]
pub fn fma<const B: bool>(n: u64, a: u32, b: u32, c: u32) -> u32 {
    let v = fma_odd(input::<B>(n, a).into(), input::<B>(n, b).into(), input::<B>(n, c).into());
    let fmt = if B { fp::BF16 } else { fp::F16 };
    let v = if n & SAT != 0 { if v > 0.0 { v.min(1.0) } else { 0.0 } } else { v };
    let v = if n & RELU != 0 && v <= 0.0 { 0.0 } else { v };
    let h = fmt.encode(v, Rnd::Near, false);
    if n & FTZ != 0 && h & (if B { 0x7f80 } else { 0x7c00 }) == 0 { h & 0x8000 } else { h }
}

/// A closure on one element, for the type's one or two.
macro_rules! each {
    ($ty:expr; |$n:ident, $x:ident| $e:ident) => {
        match $ty {
            F16 => k!(imm; u32; u32; |$n, $x: u32| $e::<false>($n, $x & 0xffff)),
            BF16 => k!(imm; u32; u32; |$n, $x: u32| $e::<true>($n, $x & 0xffff)),
            F16x2 => k!(imm; u32; u32; |$n, $x: u32| $e::<false>($n, $x & 0xffff) | $e::<false>($n, $x >> 16) << 16),
            BF16x2 => k!(imm; u32; u32; |$n, $x: u32| $e::<true>($n, $x & 0xffff) | $e::<true>($n, $x >> 16) << 16),
            _ => return None,
        }
    };
    ($ty:expr; |$n:ident, $x:ident, $y:ident| $e:ident) => {
        match $ty {
            F16 => k!(imm; u32; u32, u32; |$n, $x: u32, $y: u32| $e::<false>($n, $x & 0xffff, $y & 0xffff)),
            BF16 => k!(imm; u32; u32, u32; |$n, $x: u32, $y: u32| $e::<true>($n, $x & 0xffff, $y & 0xffff)),
            F16x2 => k!(imm; u32; u32, u32; |$n, $x: u32, $y: u32| {
                $e::<false>($n, $x & 0xffff, $y & 0xffff) | $e::<false>($n, $x >> 16, $y >> 16) << 16
            }),
            BF16x2 => k!(imm; u32; u32, u32; |$n, $x: u32, $y: u32| {
                $e::<true>($n, $x & 0xffff, $y & 0xffff) | $e::<true>($n, $x >> 16, $y >> 16) << 16
            }),
            _ => return None,
        }
    };
    ($ty:expr; |$n:ident, $x:ident, $y:ident, $z:ident| $e:ident) => {
        match $ty {
            F16 => k!(imm; u32; u32, u32, u32; |$n, $x: u32, $y: u32, $z: u32| $e::<false>($n, $x & 0xffff, $y & 0xffff, $z & 0xffff)),
            BF16 => k!(imm; u32; u32, u32, u32; |$n, $x: u32, $y: u32, $z: u32| $e::<true>($n, $x & 0xffff, $y & 0xffff, $z & 0xffff)),
            F16x2 => k!(imm; u32; u32, u32, u32; |$n, $x: u32, $y: u32, $z: u32| {
                $e::<false>($n, $x & 0xffff, $y & 0xffff, $z & 0xffff) | $e::<false>($n, $x >> 16, $y >> 16, $z >> 16) << 16
            }),
            BF16x2 => k!(imm; u32; u32, u32, u32; |$n, $x: u32, $y: u32, $z: u32| {
                $e::<true>($n, $x & 0xffff, $y & 0xffff, $z & 0xffff) | $e::<true>($n, $x >> 16, $y >> 16, $z >> 16) << 16
            }),
            _ => return None,
        }
    };
}

#[inline(always)]
fn add<const B: bool>(n: u64, a: u32, b: u32) -> u32 {
    put::<B>(n, input::<B>(n, a) + input::<B>(n, b))
}

#[inline(always)]
fn sub<const B: bool>(n: u64, a: u32, b: u32) -> u32 {
    put::<B>(n, input::<B>(n, a) - input::<B>(n, b))
}

#[inline(always)]
fn mul<const B: bool>(n: u64, a: u32, b: u32) -> u32 {
    put::<B>(n, input::<B>(n, a) * input::<B>(n, b))
}

fn min<const B: bool>(n: u64, a: u32, b: u32) -> u32 {
    put::<B>(n & FTZ, least(n & (NAN | XORSIGN), input::<B>(n, a), input::<B>(n, b)))
}

fn max<const B: bool>(n: u64, a: u32, b: u32) -> u32 {
    put::<B>(n & FTZ, greatest(n & (NAN | XORSIGN), input::<B>(n, a), input::<B>(n, b)))
}

fn neg<const B: bool>(_: u64, a: u32) -> u32 {
    a ^ 0x8000
}

fn abs<const B: bool>(_: u64, a: u32) -> u32 {
    a & 0x7fff
}

fn ex2<const B: bool>(n: u64, a: u32) -> u32 {
    put::<B>(n, f64::from(input::<B>(n, a)).exp2() as f32)
}

fn tanh<const B: bool>(n: u64, a: u32) -> u32 {
    put::<B>(n, f64::from(input::<B>(n, a)).tanh() as f32)
}

/// The loop for an instruction on halves.
pub fn find(name: &str, sfx: &[&str], ty: Ty) -> Option<Kernel> {
    let mut n = 0;
    for (s, bit) in [("ftz", FTZ), ("sat", SAT), ("NaN", NAN), ("xorsign", XORSIGN), ("relu", RELU)] {
        if sfx.contains(&s) {
            n |= bit;
        }
    }
    let kernel = match name {
        "add" => each!(ty; |n, a, b| add),
        "sub" => each!(ty; |n, a, b| sub),
        "mul" => each!(ty; |n, a, b| mul),
        "fma" => each!(ty; |n, a, b, c| fma),
        "min" => each!(ty; |n, a, b| min),
        "max" => each!(ty; |n, a, b| max),
        "neg" => each!(ty; |n, a| neg),
        "abs" => each!(ty; |n, a| abs),
        "ex2" => each!(ty; |n, a| ex2),
        "tanh" => each!(ty; |n, a| tanh),
        "mov" => k!(u32; u32; |a: u32| a),
        _ => return None,
    };
    let class = match name {
        "ex2" | "tanh" => Class::Sfu,
        "mov" => Class::Move,
        _ => Class::Half,
    };
    Some(kernel.imm(n).class(class))
}
