// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arithmetic: from an instruction's name and suffixes to a loop over lanes.

use super::instr::{AluFn, Class, Instr, LANES, Lane, Regs, Width};
use super::ty::Ty;

pub mod cmp;
pub mod cvt;
pub mod float;
pub mod half;
pub mod int;

/// A loop over lanes and what its operands are.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The loop.
    pub f: AluFn,
    /// Width of the destination; `Pred` for comparisons.
    pub d: Width,
    /// Widths of the sources, at most four.
    pub s: &'static [Width],
    /// Type that immediate operands are read as.
    pub ty: Ty,
    /// A number for the loop, where the instruction's last operand does not give one.
    pub imm: u64,
    /// Whether the operand behind the sources is a number for the loop.
    pub last: bool,
    /// What it counts as.
    pub class: Class,
}

impl Kernel {
    /// With that number for the loop.
    pub fn imm(self, imm: u64) -> Kernel {
        Kernel { imm, ..self }
    }

    /// With immediates of that type.
    pub fn ty(self, ty: Ty) -> Kernel {
        Kernel { ty, ..self }
    }

    /// Counted as that.
    pub fn class(self, class: Class) -> Kernel {
        Kernel { class, ..self }
    }
}

/// One source.
#[inline(always)]
pub fn un<D: Lane, A: Lane>(r: &mut Regs, i: &Instr, m: u32, f: impl Fn(A) -> D) {
    let a = r.get::<A>(i.a);
    let mut o = [D::default(); LANES];
    for l in 0..LANES {
        o[l] = f(a[l]);
    }
    r.put(i.d, &o, m);
}

/// Two sources.
#[inline(always)]
pub fn bin<D: Lane, A: Lane, B: Lane>(r: &mut Regs, i: &Instr, m: u32, f: impl Fn(A, B) -> D) {
    let (a, b) = (r.get::<A>(i.a), r.get::<B>(i.b));
    let mut o = [D::default(); LANES];
    for l in 0..LANES {
        o[l] = f(a[l], b[l]);
    }
    r.put(i.d, &o, m);
}

/// Three sources.
#[inline(always)]
pub fn tri<D: Lane, A: Lane, B: Lane, C: Lane>(r: &mut Regs, i: &Instr, m: u32, f: impl Fn(A, B, C) -> D) {
    let (a, b, c) = (r.get::<A>(i.a), r.get::<B>(i.b), r.get::<C>(i.c));
    let mut o = [D::default(); LANES];
    for l in 0..LANES {
        o[l] = f(a[l], b[l], c[l]);
    }
    r.put(i.d, &o, m);
}

/// Four sources.
#[inline(always)]
pub fn quad<D: Lane, A: Lane, B: Lane, C: Lane, E: Lane>(r: &mut Regs, i: &Instr, m: u32, f: impl Fn(A, B, C, E) -> D) {
    let (a, b, c, e) = (r.get::<A>(i.a), r.get::<B>(i.b), r.get::<C>(i.c), r.get::<E>(i.e));
    let mut o = [D::default(); LANES];
    for l in 0..LANES {
        o[l] = f(a[l], b[l], c[l], e[l]);
    }
    r.put(i.d, &o, m);
}

/// `k!(destination; sources; closure)`, with `imm;` before it for a closure that takes the instruction's number first.
macro_rules! k {
    (imm; $d:ty; $a:ty; $f:expr) => {
        k!(@ $d, |r, i, m| { let n = i.imm; crate::ptx::alu::un::<$d, $a>(r, i, m, |x| ($f)(n, x)) }, $a)
    };
    (imm; $d:ty; $a:ty, $b:ty; $f:expr) => {
        k!(@ $d, |r, i, m| { let n = i.imm; crate::ptx::alu::bin::<$d, $a, $b>(r, i, m, |x, y| ($f)(n, x, y)) }, $a, $b)
    };
    (imm; $d:ty; $a:ty, $b:ty, $c:ty; $f:expr) => {
        k!(@ $d, |r, i, m| { let n = i.imm; crate::ptx::alu::tri::<$d, $a, $b, $c>(r, i, m, |x, y, z| ($f)(n, x, y, z)) }, $a, $b, $c)
    };
    ($d:ty; $a:ty; $f:expr) => { k!(@ $d, |r, i, m| crate::ptx::alu::un::<$d, $a>(r, i, m, $f), $a) };
    ($d:ty; $a:ty, $b:ty; $f:expr) => { k!(@ $d, |r, i, m| crate::ptx::alu::bin::<$d, $a, $b>(r, i, m, $f), $a, $b) };
    ($d:ty; $a:ty, $b:ty, $c:ty; $f:expr) => { k!(@ $d, |r, i, m| crate::ptx::alu::tri::<$d, $a, $b, $c>(r, i, m, $f), $a, $b, $c) };
    ($d:ty; $a:ty, $b:ty, $c:ty, $e:ty; $f:expr) => {
        k!(@ $d, |r, i, m| crate::ptx::alu::quad::<$d, $a, $b, $c, $e>(r, i, m, $f), $a, $b, $c, $e)
    };
    (@ $d:ty, $f:expr, $($s:ty),*) => {{
        use crate::ptx::instr::{Class, Lane, Width};
        const S: &[Width] = &[$(<$s as Lane>::WIDTH),*];
        crate::ptx::alu::Kernel { f: $f, d: <$d as Lane>::WIDTH, s: S, ty: crate::ptx::ty::Ty::B64, imm: 0, last: false, class: Class::Int }
    }};
}
pub(crate) use k;

/// The loop for an instruction, or None where there is no such instruction of arithmetic.
pub fn find(name: &str, sfx: &[&str]) -> Option<Kernel> {
    let ty = sfx.iter().rev().find_map(|s| Ty::parse(s))?;
    let kernel = match name {
        "cvt" => cvt::cvt(sfx),
        _ => match ty {
            Ty::F16 | Ty::BF16 | Ty::F16x2 | Ty::BF16x2 => half::find(name, sfx, ty),
            Ty::F32 | Ty::F64 | Ty::F32x2 => float::find(name, sfx, ty),
            Ty::Pred => cmp::logic(name),
            _ => int::find(name, sfx, ty),
        },
    }?;
    Some(if kernel.ty == Ty::B64 { kernel.ty(ty) } else { kernel })
}
