// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads, stores, atomics and addresses.

use super::{Dec, R};
use crate::ptx::alu::k;
use crate::ptx::ast::{Operand, Stmt};
use crate::ptx::instr::{Atom, AtomOp, Class, Mem, Op, Order, SINK, Width};
use crate::ptx::ty::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, Space, Ty, WINDOW};

/// The memory order that suffixes name.
pub(super) fn order(sfx: &[&str], default: Order) -> Order {
    for s in sfx {
        match *s {
            "weak" => return Order::Weak,
            "relaxed" | "volatile" | "mmio" => return Order::Relaxed,
            "acquire" => return Order::Acquire,
            "release" => return Order::Release,
            "acq_rel" => return Order::AcqRel,
            _ => {}
        }
    }
    default
}

/// Elements of a vector access.
fn vector(sfx: &[&str]) -> u8 {
    sfx.iter()
        .find_map(|s| match *s {
            "v2" => Some(2),
            "v4" => Some(4),
            "v8" => Some(8),
            _ => None,
        })
        .unwrap_or(1)
}

fn class(space: Space, store: bool) -> Class {
    match (space, store) {
        (Space::Global | Space::Generic, false) => Class::LoadGlobal,
        (Space::Global | Space::Generic, true) => Class::StoreGlobal,
        (Space::Shared | Space::Cluster, false) => Class::LoadShared,
        (Space::Shared | Space::Cluster, true) => Class::StoreShared,
        (_, false) => Class::LoadOther,
        (_, true) => Class::StoreOther,
    }
}

impl<'a> Dec<'a, '_> {
    /// Rows of an operand's elements; all of one width.
    fn data(&mut self, o: &Operand<'a>, n: u8, ty: Ty, store: bool) -> R<(Vec<u32>, Width)> {
        let list = match self.elements(o) {
            Some(list) => list.into_owned(),
            None => vec![o.clone()],
        };
        if list.len() != n as usize {
            return self.err(format!("{} elements where {n} belong", list.len()));
        }
        let mut width = None;
        let mut rows = Vec::new();
        for x in &list {
            let natural = Width::of(ty);
            let (row, w) = match x {
                Operand::Name("_", None) if !store => (SINK, None),
                // An element of a vector that only this load names is as `_`: compilers widen loads over what they do not need.
                Operand::Name(name, None) if !store && n > 1 && self.uses.get(name) == Some(&1) => (SINK, Some(self.any(x)?.1)),
                Operand::Name(..) => match self.any(x) {
                    Ok((row, w)) => (row, Some(w)),
                    Err(_) if store => (self.src(x, natural, ty)?, Some(natural)),
                    Err(e) => return Err(e),
                },
                _ if store => (self.src(x, natural, ty)?, Some(natural)),
                _ => return self.err("a register expected"),
            };
            if let Some(w) = w {
                if width.is_some_and(|have| have != w) {
                    return self.err("elements of different widths");
                }
                width = Some(w);
            }
            rows.push(row);
        }
        let width = width.unwrap_or(Width::of(ty));
        let need = Width::of(ty).rows();
        if width.rows() < need {
            return self.err("a register that is too narrow");
        }
        if ty == Ty::B128 {
            // Two numbers of 64 bits each.
            return Ok((rows.iter().flat_map(|r| if *r == SINK { [SINK; 2] } else { [*r, r + 2] }).collect(), Width::W64));
        }
        Ok((rows, width))
    }

    pub(super) fn memory(&mut self, s: &Stmt<'a>) -> R<bool> {
        let sfx = &s.suffixes[..];
        let space = sfx.iter().find_map(|x| Space::parse(x)).unwrap_or(Space::Generic);
        let ty = sfx.iter().rev().find_map(|x| Ty::parse(x));
        match (s.name, ty) {
            ("ld" | "ldu" | "st", Some(ty)) if !sfx.contains(&"async") && !sfx.contains(&"bulk") => {
                self.count(s, 2..=3)?;
                let store = s.name == "st";
                let (at, data) = if store { (0, 1) } else { (1, 0) };
                let n = vector(sfx);
                let (rows, width) = self.data(&s.operands[data], n, ty, store)?;
                let (a, base, offset, rest) = self.addr(&s.operands[at])?;
                if !rest.is_empty() {
                    return self.err("an address of one part expected");
                }
                let bytes = if ty == Ty::B128 { 8 } else { ty.bytes() as u8 };
                let n = rows.len() as u8;
                let order = order(sfx, Order::Weak);
                let mem = Mem { space, bytes, n, signed: ty.signed() && !store, width, base, order };
                let d = self.pool(&rows);
                let i = self.emit(if store { Op::St(mem) } else { Op::Ld(mem) }, class(space, store));
                (i.d, i.a, i.imm) = (d, a, offset as u64);
                Ok(true)
            }
            ("atom" | "red", Some(ty)) if !sfx.contains(&"async") => self.atomic(s, space, ty).map(|()| true),
            ("cvta", Some(ty)) => {
                self.count(s, 2..=2)?;
                let width = Width::of(ty);
                let d = self.dst(&s.operands[0], width)?;
                let a = self.src(&s.operands[1], width, ty)?;
                let to = sfx.contains(&"to");
                let window = match space {
                    Space::Shared | Space::Cluster => SHARED_WINDOW,
                    Space::Local => LOCAL_WINDOW,
                    Space::Param => PARAM_WINDOW,
                    _ => 0,
                };
                if width != Width::W64 {
                    return self.err("addresses have 64 bits");
                }
                let kernel = if to {
                    k!(imm; u64; u64; |n: u64, a: u64| a.wrapping_sub(n))
                } else {
                    k!(imm; u64; u64; |n: u64, a: u64| a.wrapping_add(n))
                };
                let i = self.emit(Op::Alu(kernel.f), Class::Int);
                (i.d, i.a, i.imm) = (d, a, window);
                Ok(true)
            }
            ("isspacep", _) => {
                self.count(s, 2..=2)?;
                let Operand::Name(p, None) = s.operands[0] else { return self.err("a predicate expected") };
                let d = self.dst_pred(p)?;
                let a = self.src(&s.operands[1], Width::W64, Ty::U64)?;
                let which = match space {
                    Space::Shared | Space::Cluster => 1,
                    Space::Local => 2,
                    Space::Param => 3,
                    _ => 0,
                };
                let row = self.rows(Width::W64)?;
                let i = self.helper(Op::Alu(k!(u64; u64; |a: u64| { let w = a / WINDOW; if w > 3 { 0 } else { w } }).f));
                (i.d, i.a) = (row, a);
                let other = self.constant(which, Width::W64)?;
                let Some(equal) = crate::ptx::alu::cmp::setp(&["eq"], Ty::U64) else { return self.err("no such instruction") };
                let i = self.emit(Op::Alu(equal.f), Class::Int);
                (i.d, i.a, i.b, i.imm) = (d, row, other, u64::from(SINK));
                Ok(true)
            }
            ("mapa", Some(ty)) => {
                self.count(s, 3..=3)?;
                let generic = space == Space::Generic;
                let width = Width::of(ty);
                let d = self.dst(&s.operands[0], width)?;
                let a = self.src(&s.operands[1], width, ty)?;
                let b = self.src(&s.operands[2], Width::W32, Ty::U32)?;
                let i = self.emit(Op::Mapa { generic }, Class::Int);
                (i.d, i.a, i.b, i.imm) = (d, a, b, u64::from(width == Width::W64));
                Ok(true)
            }
            ("getctarank", Some(ty)) => {
                self.count(s, 2..=2)?;
                let width = Width::of(ty);
                let d = self.dst(&s.operands[0], Width::W32)?;
                let a = self.src(&s.operands[1], width, ty)?;
                let i = self.emit(Op::GetRank { generic: space == Space::Generic }, Class::Int);
                (i.d, i.a, i.imm) = (d, a, u64::from(width == Width::W64));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn atomic(&mut self, s: &Stmt<'a>, space: Space, ty: Ty) -> R<()> {
        let sfx = &s.suffixes[..];
        let fetch = s.name == "atom";
        let op = sfx.iter().find_map(|x| {
            Some(match *x {
                "add" => AtomOp::Add,
                "min" => AtomOp::Min,
                "max" => AtomOp::Max,
                "and" => AtomOp::And,
                "or" => AtomOp::Or,
                "xor" => AtomOp::Xor,
                "exch" => AtomOp::Exch,
                "cas" => AtomOp::Cas,
                "inc" => AtomOp::Inc,
                "dec" => AtomOp::Dec,
                _ => return None,
            })
        });
        let Some(op) = op else { return self.err("an operation expected") };
        if ty.bits() > 64 || ty.bits() < 16 {
            return self.err("atomics of that type are not known here");
        }
        let n = vector(sfx);
        let first = usize::from(fetch);
        let sources = if op == AtomOp::Cas { 2 } else { 1 };
        self.count(s, first + 1 + sources..=first + 2 + sources)?;
        let mut rows = Vec::new();
        let mut width = Width::of(ty);
        if fetch {
            let (r, w) = self.data(&s.operands[0], n, ty, false)?;
            rows.extend(r);
            width = w;
        } else {
            rows.extend(std::iter::repeat_n(SINK, n as usize));
        }
        let (a, base, offset, _) = self.addr(&s.operands[first])?;
        for o in &s.operands[first + 1..first + 1 + sources] {
            let (r, w) = self.data(o, n, ty, true)?;
            if w != width {
                return self.err("operands of different widths");
            }
            rows.extend(r);
        }
        let mem = Mem { space, bytes: ty.bytes() as u8, n, signed: false, width, base, order: order(sfx, Order::Relaxed) };
        let d = self.pool(&rows);
        self.code.atoms.push(Atom { op, ty, mem, fetch });
        let at = self.code.atoms.len() as u32 - 1;
        let i = self.emit(Op::Atom(at), Class::Atomic);
        (i.d, i.a, i.imm) = (d, a, offset as u64);
        Ok(())
    }
}
