// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Barriers, fences and what lanes of a warp do together.

use super::{Dec, R};
use crate::ptx::ast::{Operand, Stmt};
use crate::ptx::instr::{BarKind, Class, FULL, Op, Redux, SINK, Shfl, Vote, Width};
use crate::ptx::ty::Ty;

impl<'a> Dec<'a, '_> {
    pub(super) fn sync(&mut self, s: &Stmt<'a>) -> R<bool> {
        let sfx = &s.suffixes[..];
        let has = |x: &str| sfx.contains(&x);
        let ty = sfx.iter().rev().find_map(|x| Ty::parse(x)).unwrap_or(Ty::B32);
        let all = u64::from(FULL);
        match s.name {
            "bar" | "barrier" if has("warp") => {
                self.count(s, 1..=1)?;
                let b = self.src(&s.operands[0], Width::W32, Ty::U32)?;
                self.emit(Op::WarpSync, Class::Barrier).b = b;
            }
            "barrier" if has("cluster") => {
                if has("arrive") {
                    self.emit(Op::ClusterArrive { release: !has("relaxed") }, Class::Barrier);
                } else {
                    self.emit(Op::ClusterWait { acquire: true }, Class::Barrier);
                }
            }
            "bar" | "barrier" => {
                let aligned = s.name == "bar" || has("aligned");
                let kind = match (has("sync"), has("arrive"), has("popc"), has("and"), has("or")) {
                    (true, ..) => BarKind::Sync,
                    (_, true, ..) => BarKind::Arrive,
                    (_, _, true, ..) => BarKind::Popc,
                    (_, _, _, true, _) => BarKind::And,
                    (_, _, _, _, true) => BarKind::Or,
                    _ => return self.err("no such barrier"),
                };
                let reduces = !matches!(kind, BarKind::Sync | BarKind::Arrive);
                let (mut d, mut c, mut negated) = (SINK, SINK, false);
                let mut rest = &s.operands[..];
                if reduces {
                    self.count(s, 3..=4)?;
                    let Operand::Name(name, None) = s.operands[0] else { return self.err("a register expected") };
                    d = if kind == BarKind::Popc { self.dst(&s.operands[0], Width::W32)? } else { self.dst_pred(name)? };
                    (c, negated) = self.pred(&s.operands[s.operands.len() - 1])?;
                    rest = &s.operands[1..s.operands.len() - 1];
                }
                let Some(first) = rest.first() else { return self.err("a barrier expected") };
                let a = self.src(first, Width::W32, Ty::U32)?;
                let b = match rest.get(1) {
                    Some(o) => self.src(o, Width::W32, Ty::U32)?,
                    None if kind == BarKind::Arrive => return self.err("a number of threads expected"),
                    None => SINK,
                };
                let i = self.emit(Op::Bar { kind, aligned }, Class::Barrier);
                (i.d, i.a, i.b, i.c, i.imm) = (d, a, b, c, u64::from(negated));
            }
            "fence" | "membar" => {
                let op = if has("proxy") { Op::ProxyFence } else { Op::Fence };
                self.emit(op, Class::Other);
            }
            "shfl" => {
                let kind = match (has("up"), has("down"), has("bfly"), has("idx")) {
                    (true, ..) => Shfl::Up,
                    (_, true, ..) => Shfl::Down,
                    (_, _, true, _) => Shfl::Bfly,
                    (.., true) => Shfl::Idx,
                    _ => return self.err("no such shuffle"),
                };
                self.count(s, 4..=5)?;
                let (d, p) = match s.operands[0] {
                    Operand::Pair(d, p) => (self.dst(&Operand::Name(d, None), Width::W32)?, self.dst_pred(p)?),
                    _ => (self.dst(&s.operands[0], Width::W32)?, SINK),
                };
                let mut rows = [0; 4];
                for (row, o) in rows.iter_mut().zip(&s.operands[1..]) {
                    *row = self.src(o, Width::W32, Ty::B32)?;
                }
                let mask = if s.operands.len() == 5 { rows[3] } else { self.constant(all, Width::W32)? };
                let i = self.emit(Op::Shfl { kind, mask }, Class::Warp);
                (i.d, i.a, i.b, i.c, i.imm) = (d, rows[0], rows[1], rows[2], u64::from(p));
            }
            "vote" => {
                let kind = match (has("all"), has("any"), has("uni"), has("ballot")) {
                    (true, ..) => Vote::All,
                    (_, true, ..) => Vote::Any,
                    (_, _, true, _) => Vote::Uni,
                    (.., true) => Vote::Ballot,
                    _ => return self.err("no such vote"),
                };
                self.count(s, 2..=3)?;
                let d = match (kind, &s.operands[0]) {
                    (Vote::Ballot, o) => self.dst(o, Width::W32)?,
                    (_, Operand::Name(p, None)) => self.dst_pred(p)?,
                    _ => return self.err("a predicate expected"),
                };
                let (a, negated) = self.pred(&s.operands[1])?;
                let b = match s.operands.get(2) {
                    Some(o) => self.src(o, Width::W32, Ty::B32)?,
                    None => self.constant(all, Width::W32)?,
                };
                let i = self.emit(Op::Vote { kind, wide: false, negated }, Class::Warp);
                (i.d, i.a, i.b) = (d, a, b);
            }
            "match" => {
                self.count(s, 3..=3)?;
                let kind = if has("all") { Vote::MatchAll } else { Vote::MatchAny };
                let (d, p) = match s.operands[0] {
                    Operand::Pair(d, p) => (self.dst(&Operand::Name(d, None), Width::W32)?, self.dst_pred(p)?),
                    _ => (self.dst(&s.operands[0], Width::W32)?, SINK),
                };
                let a = self.src(&s.operands[1], Width::of(ty), ty)?;
                let b = self.src(&s.operands[2], Width::W32, Ty::B32)?;
                let i = self.emit(Op::Vote { kind, wide: Width::of(ty) == Width::W64, negated: false }, Class::Warp);
                (i.d, i.a, i.b, i.imm) = (d, a, b, u64::from(p));
            }
            "elect" => {
                self.count(s, 2..=2)?;
                let (d, p) = match s.operands[0] {
                    Operand::Pair("_", p) => (SINK, self.dst_pred(p)?),
                    Operand::Pair(d, p) => (self.dst(&Operand::Name(d, None), Width::W32)?, self.dst_pred(p)?),
                    _ => return self.err("a register and a predicate expected"),
                };
                let b = self.src(&s.operands[1], Width::W32, Ty::B32)?;
                let i = self.emit(Op::Vote { kind: Vote::Elect, wide: false, negated: false }, Class::Warp);
                (i.d, i.b, i.imm) = (d, b, u64::from(p));
            }
            "redux" => {
                self.count(s, 3..=3)?;
                let op = match sfx.iter().find(|x| matches!(**x, "add" | "min" | "max" | "and" | "or" | "xor")) {
                    Some(&"add") => Redux::Add,
                    Some(&"min") => Redux::Min,
                    Some(&"max") => Redux::Max,
                    Some(&"and") => Redux::And,
                    Some(&"or") => Redux::Or,
                    Some(_) => Redux::Xor,
                    None => return self.err("no such reduction"),
                };
                let d = self.dst(&s.operands[0], Width::W32)?;
                let a = self.src(&s.operands[1], Width::W32, ty)?;
                let b = self.src(&s.operands[2], Width::W32, Ty::B32)?;
                let i = self.emit(Op::Redux { op, ty, nan: has("NaN"), abs: has("abs") }, Class::Warp);
                (i.d, i.a, i.b) = (d, a, b);
            }
            "activemask" => {
                self.count(s, 1..=1)?;
                let d = self.dst(&s.operands[0], Width::W32)?;
                self.emit(Op::ActiveMask, Class::Warp).d = d;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
