// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moves, conversions, comparisons and calls: what has operands of its own kind.

use super::{Dec, FRAME_PARAMS, R, Sym};
use crate::ptx::alu::{self, Kernel, cmp, k};
use crate::ptx::ast::{Operand, Stmt};
use crate::ptx::instr::{Call, Class, Op, SINK, Width};
use crate::ptx::ty::Ty;

impl<'a> Dec<'a, '_> {
    /// Conversions may read and write registers wider than their types.
    pub(super) fn cvt(&mut self, s: &Stmt<'a>, kernel: Kernel) -> R<()> {
        self.count(s, 2..=3)?;
        let mut s = s.clone();
        if let (Operand::Name(_, None), [Width::W32]) = (&s.operands[1], kernel.s)
            && let Ok((row, Width::W64)) = self.any(&s.operands[1])
        {
            let low = self.rows(Width::W32)?;
            let i = self.helper(Op::Alu(k!(u32; u64; |a: u64| a as u32).f));
            (i.d, i.a) = (low, row);
            return self.cvt_from(&s, kernel, low);
        }
        if kernel.d == Width::W32
            && let Ok((wide, Width::W64)) = self.any(&s.operands[0])
        {
            let low = self.rows(Width::W32)?;
            let from = self.src(&s.operands[1], kernel.s[0], kernel.ty)?;
            let i = self.emit(Op::Alu(kernel.f), kernel.class);
            (i.d, i.a, i.imm) = (low, from, kernel.imm);
            let signed = s.suffixes.iter().find_map(|t| Ty::parse(t)).is_some_and(Ty::signed);
            let f = if signed { k!(i64; i32; |a: i32| i64::from(a)).f } else { k!(u64; u32; |a: u32| u64::from(a)).f };
            let i = self.emit(Op::Alu(f), Class::Move);
            (i.d, i.a) = (wide, low);
            return Ok(());
        }
        // A scale operand of `cvt` from packed formats does not occur without its suffix.
        s.operands.truncate(1 + kernel.s.len());
        self.alu(&s, kernel)
    }

    pub(super) fn cvt_from(&mut self, s: &Stmt<'a>, kernel: Kernel, from: u32) -> R<()> {
        let d = self.dst(&s.operands[0], kernel.d)?;
        let i = self.emit(Op::Alu(kernel.f), kernel.class);
        (i.d, i.a, i.imm) = (d, from, kernel.imm);
        Ok(())
    }

    pub(super) fn setp(&mut self, s: &Stmt<'a>, ty: Option<Ty>) -> R<()> {
        self.count(s, 3..=4)?;
        let sfx = &s.suffixes[..];
        let Some((ty, kernel)) = ty.and_then(|t| Some((t, cmp::setp(sfx, t)?))) else { return self.err("no such comparison") };
        let (d, second) = match s.operands[0] {
            Operand::Name(d, None) => (self.dst_pred(d)?, SINK),
            Operand::Pair(d, q) => (self.dst_pred(d)?, self.dst_pred(q)?),
            _ => return self.err("a predicate expected"),
        };
        let (mut c, mut e) = (0, 0);
        for (name, code) in [("and", cmp::AND), ("or", cmp::OR), ("xor", cmp::XOR)] {
            if sfx.contains(&name) {
                let Some(o) = s.operands.get(3) else { return self.err("a predicate to combine with is missing") };
                let (p, negated) = self.pred(o)?;
                (c, e) = (p, code | u32::from(negated) << 2);
            }
        }
        let a = self.src(&s.operands[1], kernel.s[0], ty)?;
        let b = self.src(&s.operands[2], kernel.s[0], ty)?;
        let packed = matches!(ty, Ty::F16x2 | Ty::BF16x2);
        let i = self.emit(Op::Alu(kernel.f), kernel.class);
        (i.d, i.a, i.b, i.c, i.e, i.imm) = (d, a, b, c, e, u64::from(if packed { SINK } else { second }));
        if packed && second != SINK {
            let mut upper = [0; 2];
            for (u, from) in upper.iter_mut().zip([a, b]) {
                *u = self.rows(Width::W32)?;
                let i = self.helper(Op::Alu(k!(u32; u32; |a: u32| a >> 16).f));
                (i.d, i.a) = (*u, from);
            }
            let i = self.emit(Op::Alu(kernel.f), kernel.class);
            (i.d, i.a, i.b, i.c, i.e, i.imm) = (second, upper[0], upper[1], c, e, u64::from(SINK));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, s: &Stmt<'a>) -> R<()> {
        self.count(s, 3..=3)?;
        let t: Vec<Ty> = s.suffixes.iter().filter_map(|t| Ty::parse(t)).collect();
        let [d, from] = t[..] else { return self.err("two types expected") };
        let packed = matches!(from, Ty::F16x2 | Ty::BF16x2);
        let Some(kernel) = cmp::setp(&s.suffixes, from) else { return self.err("no such comparison") };
        let a = self.src(&s.operands[1], kernel.s[0], from)?;
        let b = self.src(&s.operands[2], kernel.s[0], from)?;
        let one = match d {
            Ty::F32 => u64::from(1f32.to_bits()),
            Ty::F16 | Ty::F16x2 => 0x3c00,
            Ty::BF16 | Ty::BF16x2 => 0x3f80,
            _ if packed => 0xffff,
            Ty::B16 | Ty::U16 | Ty::S16 => 0xffff,
            _ => u64::from(u32::MAX),
        };
        let (one, zero) = (self.constant(one, Width::W32)?, self.constant(0, Width::W32)?);
        let row = self.dst(&s.operands[0], Width::W32)?;
        let Some(select) = cmp::selp(Width::W32) else { return self.err("no such instruction") };
        let part = |me: &mut Self, a: u32, b: u32| -> R<u32> {
            let (p, out) = (me.new_pred(), me.rows(Width::W32)?);
            let i = me.emit(Op::Alu(kernel.f), kernel.class);
            (i.d, i.a, i.b, i.imm) = (p, a, b, u64::from(SINK));
            let i = me.emit(Op::Alu(select.f), Class::Move);
            (i.d, i.a, i.b, i.c) = (out, one, zero, p);
            Ok(out)
        };
        let low = part(self, a, b)?;
        if !packed {
            let i = self.emit(Op::Alu(k!(u32; u32; |a: u32| a).f), Class::Move);
            (i.d, i.a) = (row, low);
            return Ok(());
        }
        let mut upper = [0; 2];
        for (u, from) in upper.iter_mut().zip([a, b]) {
            *u = self.rows(Width::W32)?;
            let i = self.helper(Op::Alu(k!(u32; u32; |a: u32| a >> 16).f));
            (i.d, i.a) = (*u, from);
        }
        let high = part(self, upper[0], upper[1])?;
        let i = self.emit(Op::Alu(k!(u32; u32, u32; |a: u32, b: u32| a | b << 16).f), Class::Move);
        (i.d, i.a, i.b) = (row, low, high);
        Ok(())
    }

    /// Elements of a vector operand: names between braces, or a vector register.
    pub(super) fn elements<'o>(&self, o: &'o Operand<'a>) -> Option<std::borrow::Cow<'o, [Operand<'a>]>> {
        match o {
            Operand::Vector(list) => Some(list.into()),
            Operand::Name(name, None) => match self.lookup(name) {
                Some(Sym::Vector(list, _)) if list.first() == Some(&SINK) => {
                    Some((0..list.len() - 1).map(|i| Operand::Name(name, ["x", "y", "z", "w"].get(i).copied())).collect())
                }
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn mov(&mut self, s: &Stmt<'a>, ty: Option<Ty>) -> R<()> {
        self.count(s, 2..=2)?;
        let Some(ty) = ty else { return self.err("a type expected") };
        let (d, a) = (&s.operands[0], &s.operands[1]);
        if let Some(parts) = self.elements(d) {
            let n = parts.len() as u32;
            if n == 0 || ty.bits() % n != 0 {
                return self.err("a vector of another size expected");
            }
            let bits = ty.bits() / n;
            let from = self.src(a, Width::of(ty), ty)?;
            for (i, p) in parts.iter().enumerate() {
                if matches!(p, Operand::Name("_", None)) {
                    continue;
                }
                let shift = u64::from(bits) * i as u64;
                let (kernel, row, from) = match (Width::of(ty), bits) {
                    (Width::W32, _) => (k!(imm; u32; u32; |n: u64, a: u32| a >> (n & 31) & 0xffff), self.dst(p, Width::W32)?, from),
                    (Width::W64, 16) => {
                        (k!(imm; u32; u64; |n: u64, a: u64| (a >> (n & 63)) as u32 & 0xffff), self.dst(p, Width::W32)?, from)
                    }
                    (Width::W64, _) => (k!(imm; u32; u64; |n: u64, a: u64| (a >> (n & 63)) as u32), self.dst(p, Width::W32)?, from),
                    (Width::W128, 64) => (k!(imm; u64; u64; |_n: u64, a: u64| a), self.dst(p, Width::W64)?, from + 2 * i as u32),
                    _ => return self.err("no such instruction"),
                };
                let mask_bytes = bits == 8;
                let i = self.emit(Op::Alu(kernel.f), Class::Move);
                (i.d, i.a, i.imm) = (row, from, shift);
                if mask_bytes {
                    let i = self.emit(Op::Alu(k!(u32; u32; |a: u32| a & 0xff).f), Class::Move);
                    (i.d, i.a) = (row, row);
                }
            }
            return Ok(());
        }
        if let Some(parts) = self.elements(a) {
            let n = parts.len() as u32;
            if n == 0 || ty.bits() % n != 0 {
                return self.err("a vector of another size expected");
            }
            let bits = ty.bits() / n;
            let row = self.dst(d, Width::of(ty))?;
            let mut list = Vec::new();
            for p in parts.iter() {
                list.push(self.src(p, if bits == 64 { Width::W64 } else { Width::W32 }, Ty::B64)?);
            }
            for (i, p) in list.into_iter().enumerate() {
                let n = u64::from(bits) * i as u64 | u64::from(bits) << 8;
                let (kernel, row, from) = match (Width::of(ty), bits, i) {
                    (Width::W32, _, 0) => (k!(imm; u32; u32; |n: u64, a: u32| a & ((1u32 << (n >> 8 & 31)) - 1)), row, row),
                    (Width::W32, _, _) => {
                        (k!(imm; u32; u32, u32; |n: u64, a: u32, o: u32| (a & ((1u32 << (n >> 8 & 31)) - 1)) << (n & 31) | o), row, row)
                    }
                    (Width::W64, _, 0) => (k!(imm; u64; u32; |n: u64, a: u32| u64::from(a) & ((1u64 << (n >> 8 & 63)) - 1)), row, row),
                    (Width::W64, _, _) => (
                        k!(imm; u64; u32, u64; |n: u64, a: u32, o: u64| (u64::from(a) & ((1u64 << (n >> 8 & 63)) - 1)) << (n & 63) | o),
                        row,
                        row,
                    ),
                    (Width::W128, 64, i) => (k!(imm; u64; u64; |_n: u64, a: u64| a), row + 2 * i as u32, row),
                    _ => return self.err("no such instruction"),
                };
                let i = self.emit(Op::Alu(kernel.f), Class::Move);
                (i.d, i.a, i.b, i.imm) = (row, p, from, n);
            }
            return Ok(());
        }
        if ty == Ty::B128 {
            let (d, a) = (self.dst(d, Width::W128)?, self.src(a, Width::W128, ty)?);
            for half in [0, 2] {
                let i = self.emit(Op::Alu(k!(u64; u64; |a: u64| a).f), Class::Move);
                (i.d, i.a) = (d + half, a + half);
            }
            return Ok(());
        }
        match alu::find("mov", &s.suffixes) {
            Some(kernel) => self.alu(s, kernel),
            None => self.err("no such instruction"),
        }
    }

    pub(super) fn call(&mut self, s: &Stmt<'a>) -> R<()> {
        let mut ops = s.operands.iter().peekable();
        // `call (result), name, (arguments), prototype`; a list before the name holds results.
        let results = ops.next_if(|o| matches!(o, Operand::List(_)));
        let callee = ops.next();
        let args = ops.next_if(|o| matches!(o, Operand::List(_)));
        let places = |o: Option<&Operand<'a>>| -> R<Vec<(u32, u32)>> {
            let Some(Operand::List(list)) = o else { return Ok(Vec::new()) };
            let mut out = Vec::new();
            for x in list {
                match x {
                    Operand::Name(name, None) => match self.lookup(name) {
                        Some(Sym::Param(at, size)) if at >= FRAME_PARAMS => out.push(((at - FRAME_PARAMS) as u32, size)),
                        _ => return self.err(format!("{name} is no parameter of this frame")),
                    },
                    _ => return self.err("a parameter expected"),
                }
            }
            Ok(out)
        };
        let (returns, args) = (places(results)?, places(args)?);
        let Some(Operand::Name(name, None)) = callee else { return self.err("a function expected") };
        let (func, indirect) = match self.lookup(name) {
            Some(Sym::Func(f)) => {
                self.code.uses.push(f);
                (f, SINK)
            }
            Some(Sym::Reg(row, Width::W64)) => (SINK, row),
            _ => match *name {
                "__assertfail" => {
                    self.emit(Op::Syscall(0), Class::Branch);
                    return Ok(());
                }
                "vprintf" => {
                    let at = returns.first().map_or(SINK, |r| r.0);
                    let places: Vec<u32> = args.iter().map(|a| a.0).collect();
                    if places.len() != 2 {
                        return self.err("a format and arguments expected");
                    }
                    let list = self.pool(&places);
                    let i = self.emit(Op::Syscall(1), Class::Other);
                    (i.d, i.a) = (at, list);
                    return Ok(());
                }
                _ => return self.err(format!("function {name} is not known")),
            },
        };
        self.code.calls.push(Call { func, indirect, args, returns });
        let at = self.code.calls.len() as u32 - 1;
        self.emit(Op::Call(at), Class::Branch);
        Ok(())
    }
}
