// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Comparisons, selections and logic of predicates.
//!
//! `setp` writes a mask of lanes: `d` the predicate, low half of `imm` the second one, `c` the predicate that it is combined with, `e` how.

use super::{Kernel, k};
use crate::ptx::fp::{bhalf, ftz, half};
use crate::ptx::instr::{Class, Instr, LANES, Lane, Regs, Width};
use crate::ptx::ty::Ty::{self, *};

/// How a comparison is combined with a predicate, in `e`; bit 2: the predicate is negated.
pub const AND: u32 = 1;
/// See [`AND`].
pub const OR: u32 = 2;
/// See [`AND`].
pub const XOR: u32 = 3;

/// A comparison of all lanes.
#[inline(always)]
pub fn compare<T: Lane>(r: &mut Regs, i: &Instr, m: u32, f: impl Fn(T, T) -> bool) {
    let (a, b) = (r.get::<T>(i.a), r.get::<T>(i.b));
    let mut o = 0u32;
    for l in 0..LANES {
        o |= u32::from(f(a[l], b[l])) << l;
    }
    store(r, i, m, o, !o);
}

/// The result and its complement, combined with a predicate, into the predicates that want them.
fn store(r: &mut Regs, i: &Instr, m: u32, t: u32, f: u32) {
    let combine = |r: &Regs, v: u32| {
        if i.e & 3 == 0 {
            return v;
        }
        let p = r.preds[i.c as usize];
        let p = if i.e & 4 != 0 { !p } else { p };
        match i.e & 3 {
            AND => v & p,
            OR => v | p,
            _ => v ^ p,
        }
    };
    let (x, y) = (combine(r, t), combine(r, f));
    r.set_pred(i.d, x, m);
    r.set_pred(i.imm as u32, y, m);
}

macro_rules! cmp {
    ($t:ty, $conv:expr, $f:expr) => {{
        const S: &[Width] = &[<$t as Lane>::WIDTH, <$t as Lane>::WIDTH];
        Kernel {
            f: |r, i, m| {
                compare::<$t>(r, i, m, |x, y| {
                    let c = $conv;
                    let f = $f;
                    f(c(x), c(y))
                })
            },
            d: Width::Pred,
            s: S,
            ty: B64,
            imm: 0,
            last: false,
            class: Class::Int,
        }
    }};
}

macro_rules! ordered {
    ($op:expr, $t:ty, $conv:expr) => {
        match $op {
            "eq" => cmp!($t, $conv, |x, y| x == y),
            "ne" => cmp!($t, $conv, |x, y| x != y),
            "lt" | "lo" => cmp!($t, $conv, |x, y| x < y),
            "le" | "ls" => cmp!($t, $conv, |x, y| x <= y),
            "gt" | "hi" => cmp!($t, $conv, |x, y| x > y),
            "ge" | "hs" => cmp!($t, $conv, |x, y| x >= y),
            _ => return None,
        }
    };
}

macro_rules! floats {
    ($op:expr, $t:ty, $conv:expr) => {
        match $op {
            "eq" => cmp!($t, $conv, |x, y| x == y),
            // Ordered: false where an operand is NaN.
            "ne" => cmp!($t, $conv, |x, y| x < y || x > y),
            "lt" => cmp!($t, $conv, |x, y| x < y),
            "le" => cmp!($t, $conv, |x, y| x <= y),
            "gt" => cmp!($t, $conv, |x, y| x > y),
            "ge" => cmp!($t, $conv, |x, y| x >= y),
            "equ" => cmp!($t, $conv, |x, y| !(x < y || x > y)),
            "neu" => cmp!($t, $conv, |x, y| x != y),
            "ltu" => cmp!($t, $conv, |x, y| !(x >= y)),
            "leu" => cmp!($t, $conv, |x, y| !(x > y)),
            "gtu" => cmp!($t, $conv, |x, y| !(x <= y)),
            "geu" => cmp!($t, $conv, |x, y| !(x < y)),
            "num" => cmp!($t, $conv, |x, y| x == x && y == y),
            "nan" => cmp!($t, $conv, |x, y| x != x || y != y),
            _ => return None,
        }
    };
}

/// The loop for a comparison with those suffixes; of packed halves, for the lower ones.
#[allow(clippy::neg_cmp_op_on_partial_ord, clippy::eq_op)]
pub fn setp(sfx: &[&str], ty: Ty) -> Option<Kernel> {
    let op = *sfx.first()?;
    let flush = sfx.contains(&"ftz");
    let kernel = match ty {
        B16 | U16 => ordered!(op, u32, |x: u32| x as u16),
        S16 => ordered!(op, u32, |x: u32| x as i16),
        B32 | U32 => ordered!(op, u32, |x: u32| x),
        S32 => ordered!(op, i32, |x: i32| x),
        B64 | U64 => ordered!(op, u64, |x: u64| x),
        S64 => ordered!(op, i64, |x: i64| x),
        F32 if flush => floats!(op, f32, |x: f32| ftz(x)),
        F32 => floats!(op, f32, |x: f32| x),
        F64 => floats!(op, f64, |x: f64| x),
        F16 | F16x2 => floats!(op, u32, |x: u32| half(x)),
        BF16 | BF16x2 => floats!(op, u32, |x: u32| bhalf(x)),
        _ => return None,
    };
    let class = match ty {
        F32 => Class::Fp32,
        F64 => Class::Fp64,
        F16 | BF16 | F16x2 | BF16x2 => Class::Half,
        _ => Class::Int,
    };
    Some(kernel.ty(ty).class(class))
}

/// Logic of predicates; masks of the lanes.
pub fn logic(name: &str) -> Option<Kernel> {
    macro_rules! p {
        ($s:expr, $f:expr) => {
            Some(Kernel {
                f: |r, i, m| {
                    let f: fn(u32, u32) -> u32 = $f;
                    let v = f(r.preds[i.a as usize], r.preds[i.b as usize]);
                    r.set_pred(i.d, v, m);
                },
                d: Width::Pred,
                s: $s,
                ty: Pred,
                imm: 0,
                last: false,
                class: Class::Int,
            })
        };
    }
    const ONE: &[Width] = &[Width::Pred];
    const TWO: &[Width] = &[Width::Pred, Width::Pred];
    match name {
        "and" => p!(TWO, |a, b| a & b),
        "or" => p!(TWO, |a, b| a | b),
        "xor" => p!(TWO, |a, b| a ^ b),
        "not" => p!(ONE, |a, _| !a),
        "mov" => p!(ONE, |a, _| a),
        _ => None,
    }
}

/// `selp`: by the predicate `c`.
pub fn selp(width: Width) -> Option<Kernel> {
    fn run<T: Lane>(r: &mut Regs, i: &Instr, m: u32) {
        let (a, b, p) = (r.get::<T>(i.a), r.get::<T>(i.b), r.preds[i.c as usize]);
        let mut o = [T::default(); LANES];
        for l in 0..LANES {
            o[l] = if p >> l & 1 != 0 { a[l] } else { b[l] };
        }
        r.put(i.d, &o, m);
    }
    const NARROW: &[Width] = &[Width::W32, Width::W32, Width::Pred];
    const WIDE: &[Width] = &[Width::W64, Width::W64, Width::Pred];
    let (f, s): (super::AluFn, _) = match width {
        Width::W32 => (run::<u32>, NARROW),
        Width::W64 => (run::<u64>, WIDE),
        _ => return None,
    };
    Some(Kernel { f, d: width, s, ty: B64, imm: 0, last: false, class: Class::Move })
}

/// `slct`: by the sign of `c`.
pub fn slct(d: Ty, c: Ty) -> Option<Kernel> {
    Some(
        match (Width::of(d), c) {
            (Width::W32, S32) => k!(u32; u32, u32, i32; |a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
            (Width::W64, S32) => k!(u64; u64, u64, i32; |a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
            (Width::W32, F32) => k!(u32; u32, u32, f32; |a: u32, b: u32, c: f32| if c >= 0.0 { a } else { b }),
            (Width::W64, F32) => k!(u64; u64, u64, f32; |a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b }),
            _ => return None,
        }
        .class(Class::Move),
    )
}
