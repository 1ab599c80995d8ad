// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Integers and bits.

use super::{Kernel, k};
use crate::ptx::instr::{Class, FULL, Instr, LANES, Lane, Regs, Width};
use crate::ptx::ty::Ty::{self, *};

/// One closure for the six integer types: `a` and `b` have the type.
macro_rules! ints {
    ($t:expr; |$a:ident| $e:expr) => {
        Some(match $t {
            U16 | B16 => k!(u32; u32; |x: u32| { let $a = x as u16; u32::from(($e) as u16) }),
            S16 => k!(u32; u32; |x: u32| { let $a = x as i16; u32::from(($e) as u16) }),
            U32 | B32 => k!(u32; u32; |$a: u32| ($e) as u32),
            S32 => k!(i32; i32; |$a: i32| ($e) as i32),
            U64 | B64 => k!(u64; u64; |$a: u64| ($e) as u64),
            S64 => k!(i64; i64; |$a: i64| ($e) as i64),
            _ => return None,
        })
    };
    ($t:expr; |$a:ident, $b:ident| $e:expr) => {
        Some(match $t {
            U16 | B16 => k!(u32; u32, u32; |x: u32, y: u32| { let ($a, $b) = (x as u16, y as u16); u32::from(($e) as u16) }),
            S16 => k!(u32; u32, u32; |x: u32, y: u32| { let ($a, $b) = (x as i16, y as i16); u32::from(($e) as u16) }),
            U32 | B32 => k!(u32; u32, u32; |$a: u32, $b: u32| $e),
            S32 => k!(i32; i32, i32; |$a: i32, $b: i32| $e),
            U64 | B64 => k!(u64; u64, u64; |$a: u64, $b: u64| $e),
            S64 => k!(i64; i64, i64; |$a: i64, $b: i64| $e),
            _ => return None,
        })
    };
}

/// The upper half of a product, or the product with twice the bits.
macro_rules! product {
    ($t:ty, $w:ty, $a:expr, $b:expr) => {
        <$w>::from($a as $t).wrapping_mul(<$w>::from($b as $t))
    };
}

/// The loop for an instruction on integers or bits.
pub fn find(name: &str, sfx: &[&str], ty: Ty) -> Option<Kernel> {
    let has = |s: &str| sfx.contains(&s);
    if matches!(ty, U16x2 | S16x2) {
        return packed(name, ty, has("relu"));
    }
    match name {
        "add" | "sub" if has("cc") => carry(name, ty, false),
        "addc" | "subc" => carry(if name == "addc" { "add" } else { "sub" }, ty, true),
        "mad" if has("cc") => carry_mad(ty, has("hi"), false),
        "madc" => carry_mad(ty, has("hi"), true),
        "add" if has("sat") => Some(k!(i32; i32, i32; |a: i32, b: i32| a.saturating_add(b))),
        "sub" if has("sat") => Some(k!(i32; i32, i32; |a: i32, b: i32| a.saturating_sub(b))),
        "add" => ints!(ty; |a, b| a.wrapping_add(b)),
        "sub" => ints!(ty; |a, b| a.wrapping_sub(b)),
        "min" if has("relu") => Some(k!(i32; i32, i32; |a: i32, b: i32| a.min(b).max(0))),
        "max" if has("relu") => Some(k!(i32; i32, i32; |a: i32, b: i32| a.max(b).max(0))),
        "min" => ints!(ty; |a, b| a.min(b)),
        "max" => ints!(ty; |a, b| a.max(b)),
        "and" => ints!(ty; |a, b| a & b),
        "or" => ints!(ty; |a, b| a | b),
        "xor" => ints!(ty; |a, b| a ^ b),
        "not" => ints!(ty; |a| !a),
        "cnot" => ints!(ty; |a| u8::from(a == 0)),
        "neg" => ints!(ty; |a| (!a).wrapping_add(1)),
        "abs" => match ty {
            S16 => Some(k!(u32; u32; |x: u32| u32::from((x as i16).wrapping_abs() as u16))),
            S32 => Some(k!(i32; i32; |a: i32| a.wrapping_abs())),
            S64 => Some(k!(i64; i64; |a: i64| a.wrapping_abs())),
            _ => None,
        },
        "mul" => mul(sfx, ty),
        "mad" => mad(sfx, ty),
        "mul24" => match (ty, has("hi")) {
            (U32, false) => Some(k!(u32; u32, u32; |a: u32, b: u32| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff))),
            (S32, false) => Some(k!(i32; i32, i32; |a: i32, b: i32| (a << 8 >> 8).wrapping_mul(b << 8 >> 8))),
            (U32, true) => Some(k!(u32; u32, u32; |a: u32, b: u32| (u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff) >> 16) as u32)),
            (S32, true) => Some(k!(i32; i32, i32; |a: i32, b: i32| (i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8) >> 16) as i32)),
            _ => None,
        },
        "mad24" if !has("hi") => match ty {
            U32 => Some(k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c))),
            S32 => Some(k!(i32; i32, i32, i32; |a: i32, b: i32, c: i32| (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c))),
            _ => None,
        },
        // What division by zero gives is not specified; the hardware's all ones and dividend are taken.
        "div" => match ty {
            S16 => Some(
                k!(u32; u32, u32; |a: u32, b: u32| if b as u16 == 0 { 0xffff } else { u32::from((a as i16).wrapping_div(b as i16) as u16) }),
            ),
            S32 => Some(k!(i32; i32, i32; |a: i32, b: i32| if b == 0 { -1 } else { a.wrapping_div(b) })),
            S64 => Some(k!(i64; i64, i64; |a: i64, b: i64| if b == 0 { -1 } else { a.wrapping_div(b) })),
            _ => ints!(ty; |a, b| if b == 0 { !b } else { a / b }),
        },
        "rem" => match ty {
            S16 => Some(
                k!(u32; u32, u32; |a: u32, b: u32| if b as u16 == 0 { a } else { u32::from((a as i16).wrapping_rem(b as i16) as u16) }),
            ),
            S32 => Some(k!(i32; i32, i32; |a: i32, b: i32| if b == 0 { a } else { a.wrapping_rem(b) })),
            S64 => Some(k!(i64; i64, i64; |a: i64, b: i64| if b == 0 { a } else { a.wrapping_rem(b) })),
            _ => ints!(ty; |a, b| if b == 0 { a } else { a % b }),
        },
        "sad" => Some(match ty {
            U16 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| u32::from((a as u16).abs_diff(b as u16).wrapping_add(c as u16))),
            S16 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| u32::from((a as i16).abs_diff(b as i16).wrapping_add(c as u16))),
            U32 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| a.abs_diff(b).wrapping_add(c)),
            S32 => k!(u32; i32, i32, u32; |a: i32, b: i32, c: u32| a.abs_diff(b).wrapping_add(c)),
            U64 => k!(u64; u64, u64, u64; |a: u64, b: u64, c: u64| a.abs_diff(b).wrapping_add(c)),
            S64 => k!(u64; i64, i64, u64; |a: i64, b: i64, c: u64| a.abs_diff(b).wrapping_add(c)),
            _ => return None,
        }),
        "shl" => Some(match ty {
            B16 => k!(u32; u32, u32; |a: u32, b: u32| if b > 15 { 0 } else { (a << b) & 0xffff }),
            B32 => k!(u32; u32, u32; |a: u32, b: u32| if b > 31 { 0 } else { a << b }),
            B64 => k!(u64; u64, u32; |a: u64, b: u32| if b > 63 { 0 } else { a << b }),
            _ => return None,
        }),
        "shr" => Some(match ty {
            B16 | U16 => k!(u32; u32, u32; |a: u32, b: u32| if b > 15 { 0 } else { (a & 0xffff) >> b }),
            S16 => k!(u32; u32, u32; |a: u32, b: u32| u32::from((a as i16 >> b.min(15)) as u16)),
            B32 | U32 => k!(u32; u32, u32; |a: u32, b: u32| if b > 31 { 0 } else { a >> b }),
            S32 => k!(i32; i32, u32; |a: i32, b: u32| a >> b.min(31)),
            B64 | U64 => k!(u64; u64, u32; |a: u64, b: u32| if b > 63 { 0 } else { a >> b }),
            S64 => k!(i64; i64, u32; |a: i64, b: u32| a >> b.min(63)),
            _ => return None,
        }),
        "shf" => Some(match (has("l"), has("wrap")) {
            (true, true) => k!(u32; u32, u32, u32; |a, b, c| ((pair(a, b) << (c & 31)) >> 32) as u32),
            (true, false) => k!(u32; u32, u32, u32; |a, b, c: u32| ((pair(a, b) << c.min(32)) >> 32) as u32),
            (false, true) => k!(u32; u32, u32, u32; |a, b, c| (pair(a, b) >> (c & 31)) as u32),
            (false, false) => k!(u32; u32, u32, u32; |a, b, c: u32| (pair(a, b) >> c.min(32)) as u32),
        }),
        "popc" => Some(if ty == B64 { k!(u32; u64; |a: u64| a.count_ones()) } else { k!(u32; u32; |a: u32| a.count_ones()) }),
        "clz" => Some(if ty == B64 { k!(u32; u64; |a: u64| a.leading_zeros()) } else { k!(u32; u32; |a: u32| a.leading_zeros()) }),
        "brev" => Some(if ty == B64 { k!(u64; u64; |a: u64| a.reverse_bits()) } else { k!(u32; u32; |a: u32| a.reverse_bits()) }),
        "bfind" => {
            let s = u64::from(has("shiftamt"));
            Some(
                match ty {
                    U32 => k!(imm; u32; u32; |s, a: u32| bfind(s, u64::from(a), 32)),
                    S32 => k!(imm; u32; i32; |s, a: i32| bfind(s, u64::from((if a < 0 { !a } else { a }) as u32), 32)),
                    U64 => k!(imm; u32; u64; |s, a: u64| bfind(s, a, 64)),
                    S64 => k!(imm; u32; i64; |s, a: i64| bfind(s, (if a < 0 { !a } else { a }) as u64, 64)),
                    _ => return None,
                }
                .imm(s),
            )
        }
        "bfe" => Some(match ty {
            U32 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| bfe(u64::from(a), b, c, 32, false) as u32),
            S32 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| bfe(a as i32 as i64 as u64, b, c, 32, true) as u32),
            U64 => k!(u64; u64, u32, u32; |a: u64, b: u32, c: u32| bfe(a, b, c, 64, false)),
            S64 => k!(u64; u64, u32, u32; |a: u64, b: u32, c: u32| bfe(a, b, c, 64, true)),
            _ => return None,
        }),
        "bfi" => Some(match ty {
            B32 => k!(u32; u32, u32, u32, u32; |a: u32, b: u32, c: u32, e: u32| bfi(u64::from(a), u64::from(b), c, e, 32) as u32),
            B64 => k!(u64; u64, u64, u32, u32; |a: u64, b: u64, c: u32, e: u32| bfi(a, b, c, e, 64)),
            _ => return None,
        }),
        "bmsk" => Some(if has("wrap") {
            k!(u32; u32, u32; |a: u32, b: u32| mask(b & 31) << (a & 31))
        } else {
            k!(u32; u32, u32; |a: u32, b: u32| if a > 31 { 0 } else { mask(b) << a })
        }),
        "szext" => {
            let wrap = u64::from(has("wrap"));
            Some(
                match ty {
                    U32 => k!(imm; u32; u32, u32; |w, a: u32, b: u32| a & mask(if w == 1 { b & 31 } else { b })),
                    S32 => k!(imm; u32; u32, u32; |w, a: u32, b: u32| szext(a, if w == 1 { b & 31 } else { b })),
                    _ => return None,
                }
                .imm(wrap),
            )
        }
        "fns" => Some(k!(u32; u32, u32, i32; fns)),
        "prmt" => Some(match sfx.iter().find(|s| Ty::parse(s).is_none()).copied() {
            None => k!(u32; u32, u32, u32; prmt),
            Some("f4e") => k!(u32; u32, u32, u32; |a, b, c: u32| prmt(a, b, [0x3210, 0x4321, 0x5432, 0x6543][(c & 3) as usize])),
            Some("b4e") => k!(u32; u32, u32, u32; |a, b, c: u32| prmt(a, b, [0x5670, 0x6701, 0x7012, 0x0123][(c & 3) as usize])),
            Some("rc8") => k!(u32; u32, u32, u32; |a, b, c: u32| prmt(a, b, [0x0000, 0x1111, 0x2222, 0x3333][(c & 3) as usize])),
            Some("ecl") => k!(u32; u32, u32, u32; |a, b, c: u32| prmt(a, b, [0x3210, 0x3211, 0x3222, 0x3333][(c & 3) as usize])),
            Some("ecr") => k!(u32; u32, u32, u32; |a, b, c: u32| prmt(a, b, [0x0000, 0x1110, 0x2210, 0x3210][(c & 3) as usize])),
            Some("rc16") => k!(u32; u32, u32, u32; |a, b, c: u32| prmt(a, b, [0x1010, 0x3232, 0x1010, 0x3232][(c & 3) as usize])),
            _ => return None,
        }),
        "lop3" => Some(Kernel { last: true, ..k!(imm; u32; u32, u32, u32; |t, a, b, c| lop3(t, a, b, c)) }),
        "dp4a" => {
            let t: Vec<Ty> = sfx.iter().filter_map(|s| Ty::parse(s)).collect();
            Some(match (*t.first()?, *t.get(1)?) {
                (S32, S32) => k!(u32; u32, u32, u32; |a, b, c| dp4a::<true, true>(a, b, c)),
                (S32, U32) => k!(u32; u32, u32, u32; |a, b, c| dp4a::<true, false>(a, b, c)),
                (U32, S32) => k!(u32; u32, u32, u32; |a, b, c| dp4a::<false, true>(a, b, c)),
                (U32, U32) => k!(u32; u32, u32, u32; |a, b, c| dp4a::<false, false>(a, b, c)),
                _ => return None,
            })
        }
        "dp2a" => {
            let t: Vec<Ty> = sfx.iter().filter_map(|s| Ty::parse(s)).collect();
            let code = u64::from(*t.first()? == S32) | u64::from(*t.get(1)? == S32) << 1 | u64::from(has("hi")) << 2;
            Some(k!(imm; u32; u32, u32, u32; dp2a).imm(code))
        }
        "slct" => None,
        "mov" => Some(
            match Width::of(ty) {
                Width::W32 => k!(u32; u32; |a: u32| a),
                Width::W64 => k!(u64; u64; |a: u64| a),
                _ => return None,
            }
            .class(Class::Move),
        ),
        _ => None,
    }
}

fn mul(sfx: &[&str], ty: Ty) -> Option<Kernel> {
    if sfx.contains(&"wide") {
        return Some(match ty {
            U16 => k!(u32; u32, u32; |a: u32, b: u32| product!(u16, u32, a, b)),
            S16 => k!(i32; u32, u32; |a: u32, b: u32| product!(i16, i32, a, b)),
            U32 => k!(u64; u32, u32; |a: u32, b: u32| product!(u32, u64, a, b)),
            S32 => k!(i64; i32, i32; |a: i32, b: i32| product!(i32, i64, a, b)),
            _ => return None,
        });
    }
    if sfx.contains(&"hi") {
        return Some(match ty {
            U16 => k!(u32; u32, u32; |a: u32, b: u32| product!(u16, u32, a, b) >> 16),
            S16 => k!(u32; u32, u32; |a: u32, b: u32| (product!(i16, i32, a, b) as u32) >> 16),
            U32 => k!(u32; u32, u32; |a: u32, b: u32| (product!(u32, u64, a, b) >> 32) as u32),
            S32 => k!(i32; i32, i32; |a: i32, b: i32| (product!(i32, i64, a, b) >> 32) as i32),
            U64 => k!(u64; u64, u64; |a: u64, b: u64| (product!(u64, u128, a, b) >> 64) as u64),
            S64 => k!(i64; i64, i64; |a: i64, b: i64| (product!(i64, i128, a, b) >> 64) as i64),
            _ => return None,
        });
    }
    ints!(ty; |a, b| a.wrapping_mul(b))
}

fn mad(sfx: &[&str], ty: Ty) -> Option<Kernel> {
    if sfx.contains(&"wide") {
        return Some(match ty {
            U16 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| product!(u16, u32, a, b).wrapping_add(c)),
            S16 => k!(i32; u32, u32, i32; |a: u32, b: u32, c: i32| product!(i16, i32, a, b).wrapping_add(c)),
            U32 => k!(u64; u32, u32, u64; |a: u32, b: u32, c: u64| product!(u32, u64, a, b).wrapping_add(c)),
            S32 => k!(i64; i32, i32, i64; |a: i32, b: i32, c: i64| product!(i32, i64, a, b).wrapping_add(c)),
            _ => return None,
        });
    }
    if sfx.contains(&"hi") {
        return Some(match (ty, sfx.contains(&"sat")) {
            (S32, true) => k!(i32; i32, i32, i32; |a: i32, b: i32, c: i32| ((product!(i32, i64, a, b) >> 32) as i32).saturating_add(c)),
            (U32, _) => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| ((product!(u32, u64, a, b) >> 32) as u32).wrapping_add(c)),
            (S32, _) => k!(i32; i32, i32, i32; |a: i32, b: i32, c: i32| ((product!(i32, i64, a, b) >> 32) as i32).wrapping_add(c)),
            (U64, _) => k!(u64; u64, u64, u64; |a: u64, b: u64, c: u64| ((product!(u64, u128, a, b) >> 64) as u64).wrapping_add(c)),
            (S64, _) => k!(i64; i64, i64, i64; |a: i64, b: i64, c: i64| ((product!(i64, i128, a, b) >> 64) as i64).wrapping_add(c)),
            (U16, _) => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| (product!(u16, u32, a, b) >> 16).wrapping_add(c) & 0xffff),
            (S16, _) => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| ((product!(i16, i32, a, b) as u32) >> 16).wrapping_add(c) & 0xffff),
            _ => return None,
        });
    }
    Some(match ty {
        U16 | S16 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c) & 0xffff),
        U32 | S32 => k!(u32; u32, u32, u32; |a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c)),
        U64 | S64 => k!(u64; u64, u64, u64; |a: u64, b: u64, c: u64| a.wrapping_mul(b).wrapping_add(c)),
        _ => return None,
    })
}

fn pair(a: u32, b: u32) -> u64 {
    u64::from(b) << 32 | u64::from(a)
}

/// `n` ones; all for 32 and more.
fn mask(n: u32) -> u32 {
    if n > 31 { FULL } else { (1 << n) - 1 }
}

fn szext(a: u32, n: u32) -> u32 {
    match n {
        0 => 0,
        32.. => a,
        _ => ((a << (32 - n)) as i32 >> (32 - n)) as u32,
    }
}

fn bfind(shift: u64, a: u64, bits: u32) -> u32 {
    if a == 0 {
        return FULL;
    }
    let top = 63 - a.leading_zeros();
    if shift == 1 { bits - 1 - top } else { top }
}

/// `a` is sign-extended where it is signed.
fn bfe(a: u64, b: u32, c: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (b & 0xff, c & 0xff);
    if len == 0 {
        return 0;
    }
    let top = (pos + len - 1).min(bits - 1);
    let sign = if signed && a >> top & 1 == 1 { u64::MAX } else { 0 };
    if pos >= bits {
        return sign;
    }
    let keep = (top - pos + 1).min(64);
    let low = if keep == 64 { u64::MAX } else { (1 << keep) - 1 };
    (a >> pos) & low | sign & !low
}

fn bfi(a: u64, b: u64, c: u32, e: u32, bits: u32) -> u64 {
    let (pos, len) = (c & 0xff, (e & 0xff).min(bits));
    if pos >= bits || len == 0 {
        return b;
    }
    let low = if len == 64 { u64::MAX } else { (1 << len) - 1 };
    b & !(low << pos) | (a & low) << pos
}

/// The n-th set bit from a base.
fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    let (mut at, mut left) = ((base & 31) as i32, offset.unsigned_abs());
    if offset == 0 {
        return if mask >> at & 1 == 1 { at as u32 } else { FULL };
    }
    while (0..32).contains(&at) {
        if mask >> at & 1 == 1 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += offset.signum();
    }
    FULL
}

fn prmt(a: u32, b: u32, c: u32) -> u32 {
    let bytes = pair(a, b);
    let mut o = 0;
    for i in 0..4 {
        let s = c >> (4 * i);
        let v = (bytes >> (8 * (s & 7))) as u8;
        let v = if s & 8 != 0 { ((v as i8) >> 7) as u8 } else { v };
        o |= u32::from(v) << (8 * i);
    }
    o
}

#[inline(always)]
fn lop3(t: u64, a: u32, b: u32, c: u32) -> u32 {
    let mut o = 0;
    for bit in 0..8u32 {
        let on = 0u32.wrapping_sub((t >> bit & 1) as u32);
        let x = if bit & 4 != 0 { a } else { !a };
        let y = if bit & 2 != 0 { b } else { !b };
        let z = if bit & 1 != 0 { c } else { !c };
        o |= on & x & y & z;
    }
    o
}

fn dp4a<const A: bool, const B: bool>(a: u32, b: u32, c: u32) -> u32 {
    let mut o = c;
    for i in 0..4 {
        let (x, y) = ((a >> (8 * i)) as u8, (b >> (8 * i)) as u8);
        let x = if A { i32::from(x as i8) } else { i32::from(x) };
        let y = if B { i32::from(y as i8) } else { i32::from(y) };
        o = o.wrapping_add((x * y) as u32);
    }
    o
}

fn dp2a(code: u64, a: u32, b: u32, c: u32) -> u32 {
    let b = if code & 4 != 0 { b >> 16 } else { b };
    let mut o = c;
    for i in 0..2 {
        let (x, y) = ((a >> (16 * i)) as u16, (b >> (8 * i)) as u8);
        let x = if code & 1 != 0 { i32::from(x as i16) } else { i32::from(x) };
        let y = if code & 2 != 0 { i32::from(y as i8) } else { i32::from(y) };
        o = o.wrapping_add((x * y) as u32);
    }
    o
}

fn packed(name: &str, ty: Ty, relu: bool) -> Option<Kernel> {
    macro_rules! two {
        (|$a:ident, $b:ident| $e:expr) => {
            Some(if ty == U16x2 {
                k!(u32; u32, u32; |x: u32, y: u32| { let f = |$a: u16, $b: u16| $e; u32::from(f(x as u16, y as u16)) | u32::from(f((x >> 16) as u16, (y >> 16) as u16)) << 16 })
            } else {
                k!(u32; u32, u32; |x: u32, y: u32| { let f = |$a: i16, $b: i16| ($e) as u16; u32::from(f(x as i16, y as i16)) | u32::from(f((x >> 16) as i16, (y >> 16) as i16)) << 16 })
            })
        };
    }
    match name {
        "add" => two!(|a, b| a.wrapping_add(b)),
        "min" if relu => two!(|a, b| a.min(b).max(0)),
        "max" if relu => two!(|a, b| a.max(b).max(0)),
        "min" => two!(|a, b| a.min(b)),
        "max" => two!(|a, b| a.max(b)),
        _ => None,
    }
}

/// Sums with carries: `imm` bit 0: subtract, bit 1: takes the carry in, bit 2: leaves one.
fn carries<T: Lane + Into<u64>>(r: &mut Regs, i: &Instr, m: u32, cut: impl Fn(u64) -> T, bits: u32) {
    let (a, b, old) = (*r.get::<T>(i.a), *r.get::<T>(i.b), r.carry);
    let (mut o, mut out) = ([T::default(); LANES], 0);
    for l in 0..LANES {
        let (x, y) = (u128::from(a[l].into()), u128::from(b[l].into()));
        let c = u128::from(i.imm >> 1 & 1) * u128::from(old >> l & 1);
        let v = if i.imm & 1 == 1 { x.wrapping_sub(y).wrapping_sub(c) } else { x + y + c };
        o[l] = cut(v as u64);
        out |= ((v >> bits & 1) as u32) << l;
    }
    r.put(i.d, &o, m);
    if i.imm & 4 != 0 {
        r.carry = r.carry & !m | out & m;
    }
}

fn carry(name: &str, ty: Ty, takes: bool) -> Option<Kernel> {
    // A chain's last member has no `.cc`; leaving its carry changes nothing that may be read.
    let code = u64::from(name == "sub") | u64::from(takes) << 1 | 4;
    let mut kernel = match Width::of(ty) {
        Width::W32 => k!(u32; u32, u32; |a: u32, _b: u32| a),
        Width::W64 => k!(u64; u64, u64; |a: u64, _b: u64| a),
        _ => return None,
    };
    kernel.f = match kernel.d {
        Width::W32 => |r, i, m| carries::<u32>(r, i, m, |v| v as u32, 32),
        _ => |r, i, m| carries::<u64>(r, i, m, |v| v, 64),
    };
    Some(kernel.imm(code))
}

fn carry_mad(ty: Ty, hi: bool, takes: bool) -> Option<Kernel> {
    fn run<T: Lane + Into<u64>>(r: &mut Regs, i: &Instr, m: u32, cut: impl Fn(u64) -> T, bits: u32) {
        let (a, b, c, old) = (*r.get::<T>(i.a), *r.get::<T>(i.b), *r.get::<T>(i.c), r.carry);
        let (mut o, mut out) = ([T::default(); LANES], 0);
        for l in 0..LANES {
            let p = if i.imm & 4 != 0 {
                // Signed factors, sign-extended before the product.
                let s = 64 - bits;
                let (x, y): (u64, u64) = (a[l].into(), b[l].into());
                (i128::from((x << s) as i64 >> s) * i128::from((y << s) as i64 >> s)) as u128
            } else {
                u128::from(a[l].into()) * u128::from(b[l].into())
            };
            let low = if bits == 64 { u128::from(u64::MAX) } else { (1 << bits) - 1 };
            let p = if i.imm & 1 == 1 { p >> bits } else { p } & low;
            let v = p + u128::from(c[l].into()) + u128::from(i.imm >> 1 & 1) * u128::from(old >> l & 1);
            o[l] = cut(v as u64);
            out |= ((v >> bits & 1) as u32) << l;
        }
        r.put(i.d, &o, m);
        r.carry = r.carry & !m | out & m;
    }
    let code = u64::from(hi) | u64::from(takes) << 1 | u64::from(ty.signed()) << 2;
    let mut kernel = match Width::of(ty) {
        Width::W32 => k!(u32; u32, u32, u32; |a: u32, _b: u32, _c: u32| a),
        Width::W64 => k!(u64; u64, u64, u64; |a: u64, _b: u64, _c: u64| a),
        _ => return None,
    };
    kernel.f = match kernel.d {
        Width::W32 => |r, i, m| run::<u32>(r, i, m, |v| v as u32, 32),
        _ => |r, i, m| run::<u64>(r, i, m, |v| v, 64),
    };
    Some(kernel.imm(code))
}
