// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous copies and mbarriers.

use super::{Dec, R};
use crate::ptx::ast::{Operand, Stmt};
use crate::ptx::asynch::{Bulk, MbarKind, MbarOp, Spot};
use crate::ptx::instr::{AtomOp, Class, Op, SINK, Width};
use crate::ptx::ty::{Space, Ty};

impl<'a> Dec<'a, '_> {
    pub(super) fn asynch(&mut self, s: &Stmt<'a>) -> R<bool> {
        let sfx = &s.suffixes[..];
        let has = |x: &str| sfx.contains(&x);
        match s.name {
            "cp" if has("bulk") => self.bulk(s)?,
            "cp" if has("async") => self.cp_async(s)?,
            "mbarrier" => self.mbarrier(s)?,
            "st" if has("async") => self.st_async(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn number(&mut self, s: &Stmt<'a>, i: usize) -> R<u32> {
        match s.operands.get(i) {
            Some(Operand::Int(n)) if *n < 1 << 31 => Ok(*n as u32),
            _ => self.err("a number expected"),
        }
    }

    fn cp_async(&mut self, s: &Stmt<'a>) -> R<()> {
        let sfx = &s.suffixes[..];
        let has = |x: &str| sfx.contains(&x);
        if has("mbarrier") {
            self.count(s, 1..=1)?;
            let (a, base, offset, _) = self.addr(&s.operands[0])?;
            let i = self.emit(Op::CpMbar { noinc: has("noinc") }, Class::Barrier);
            let shared = sfx.iter().any(|x| matches!(Space::parse(x), Some(Space::Shared | Space::Cluster)));
            (i.a, i.imm, i.b, i.c) = (a, offset as u64, u32::from(base == Width::W64), u32::from(shared));
            return Ok(());
        }
        if has("commit_group") {
            self.emit(Op::CpCommit, Class::CpAsync);
            return Ok(());
        }
        if has("wait_group") {
            let n = self.number(s, 0)?;
            self.emit(Op::CpWait(n), Class::CpAsync);
            return Ok(());
        }
        if has("wait_all") {
            self.emit(Op::CpCommit, Class::CpAsync);
            self.emit(Op::CpWait(0), Class::CpAsync);
            return Ok(());
        }
        self.count(s, 3..=5)?;
        let (a, dst, to, _) = self.addr(&s.operands[0])?;
        let (b, src, from, _) = self.addr(&s.operands[1])?;
        let bytes = self.number(s, 2)?;
        if !matches!(bytes, 4 | 8 | 16) {
            return self.err(format!("{bytes} bytes"));
        }
        let policy = sfx.iter().any(|x| x.ends_with("cache_hint"));
        let c = match (s.operands.len() - usize::from(policy), &s.operands[3..]) {
            (4, [o, ..]) => match self.pred(o) {
                // A predicate that is true ignores the source.
                Ok((p, negated)) if !matches!(o, Operand::Int(_)) => {
                    let (zero, all) = (self.constant(0, Width::W32)?, self.constant(bytes.into(), Width::W32)?);
                    let row = self.rows(Width::W32)?;
                    let Some(select) = crate::ptx::alu::cmp::selp(Width::W32) else { return self.err("no such instruction") };
                    let (x, y) = if negated { (all, zero) } else { (zero, all) };
                    let i = self.helper(Op::Alu(select.f));
                    (i.d, i.a, i.b, i.c) = (row, x, y, p);
                    row
                }
                _ => self.src(o, Width::W32, Ty::U32)?,
            },
            _ => SINK,
        };
        let i = self.emit(Op::CpAsync { bytes: bytes as u8, dst, src }, Class::CpAsync);
        (i.a, i.b, i.c, i.imm) = (a, b, c, u64::from(to as u32) | u64::from(from as u32) << 32);
        Ok(())
    }

    fn mbarrier(&mut self, s: &Stmt<'a>) -> R<()> {
        let sfx = &s.suffixes[..];
        let has = |x: &str| sfx.contains(&x);
        let space = sfx.iter().find_map(|x| Space::parse(x)).unwrap_or(Space::Generic);
        let row = |me: &mut Self, o: Option<&Operand<'a>>| match o {
            Some(o) => me.src(o, Width::W32, Ty::U32),
            None => Ok(SINK),
        };
        let (mut d, mut b, mut c) = (SINK, SINK, SINK);
        let kind = match sfx.first().copied() {
            Some("init") => {
                self.count(s, 2..=2)?;
                b = row(self, s.operands.get(1))?;
                MbarKind::Init
            }
            Some("inval") => {
                self.count(s, 1..=1)?;
                MbarKind::Inval
            }
            Some(name @ ("arrive" | "arrive_drop")) => {
                // The state is left out where the mbarrier is another group's.
                let first = usize::from(!matches!(s.operands.first(), Some(Operand::Addr(..))));
                self.count(s, first + 1..=first + 2)?;
                if first == 1 && !matches!(s.operands[0], Operand::Name("_", None)) {
                    d = self.dst(&s.operands[0], Width::W64)?;
                }
                let expect = has("expect_tx");
                let extra = row(self, s.operands.get(first + 1))?;
                if expect {
                    c = extra
                } else {
                    b = extra
                }
                let kind = MbarKind::Arrive { drop: name == "arrive_drop", expect };
                return self.mbar(s, first, kind, space, [d, b, c]);
            }
            Some(name @ ("expect_tx" | "complete_tx")) => {
                self.count(s, 2..=2)?;
                c = row(self, s.operands.get(1))?;
                if name == "expect_tx" { MbarKind::Expect } else { MbarKind::Complete }
            }
            Some(name @ ("test_wait" | "try_wait")) => {
                self.count(s, 3..=4)?;
                let Operand::Name(p, None) = s.operands[0] else { return self.err("a predicate expected") };
                d = self.dst_pred(p)?;
                let parity = has("parity");
                c = if parity { self.src(&s.operands[2], Width::W32, Ty::U32)? } else { self.src(&s.operands[2], Width::W64, Ty::B64)? };
                return self.mbar(s, 1, MbarKind::Test { parity, waits: name == "try_wait" }, space, [d, b, c]);
            }
            Some("pending_count") => {
                self.count(s, 2..=2)?;
                let d = self.dst(&s.operands[0], Width::W32)?;
                let a = self.src(&s.operands[1], Width::W64, Ty::B64)?;
                let op = MbarOp { kind: MbarKind::Pending, space, base: Width::W64 };
                let i = self.emit(Op::Mbar(op), Class::Barrier);
                (i.d, i.a) = (d, a);
                return Ok(());
            }
            _ => return self.err("no such instruction"),
        };
        self.mbar(s, 0, kind, space, [d, b, c])
    }

    fn mbar(&mut self, s: &Stmt<'a>, at: usize, kind: MbarKind, space: Space, [d, b, c]: [u32; 3]) -> R<()> {
        let (a, base, offset, _) = self.addr(&s.operands[at])?;
        let i = self.emit(Op::Mbar(MbarOp { kind, space, base }), Class::Barrier);
        (i.d, i.a, i.b, i.c, i.imm) = (d, a, b, c, offset as u64);
        Ok(())
    }

    fn spot(&mut self, o: &Operand<'a>, space: Space) -> R<(Spot, Vec<u32>)> {
        let (row, width, offset, rest) = self.addr(o)?;
        let mut coords = Vec::new();
        for r in rest {
            let list = match r {
                Operand::Vector(list) => &list[..],
                o => std::slice::from_ref(o),
            };
            for x in list {
                coords.push(self.src(x, Width::W32, Ty::S32)?);
            }
        }
        Ok((Spot { row, width, offset, space }, coords))
    }

    fn bulk(&mut self, s: &Stmt<'a>) -> R<()> {
        let sfx = &s.suffixes[..];
        let has = |x: &str| sfx.contains(&x);
        if has("commit_group") {
            self.emit(Op::BulkCommit, Class::CpAsync);
            return Ok(());
        }
        if has("wait_group") {
            let pending = self.number(s, 0)?;
            self.emit(Op::BulkWait { pending, read: has("read") }, Class::CpAsync);
            return Ok(());
        }
        if has("prefetch") {
            self.emit(Op::Nop, Class::Other);
            return Ok(());
        }
        if sfx.iter().any(|x| x.starts_with("im2col")) {
            return self.err("copies by im2col are not known here");
        }
        let spaces: Vec<Space> = sfx.iter().filter_map(|x| Space::parse(x)).collect();
        let (to, from) = match spaces[..] {
            [to, from] => (to, from),
            _ => return self.err("two state spaces expected"),
        };
        let tensor = has("tensor");
        let reduce = if has("reduce") {
            let op = match sfx.iter().find(|x| matches!(**x, "add" | "min" | "max" | "inc" | "dec" | "and" | "or" | "xor")) {
                Some(&"add") => AtomOp::Add,
                Some(&"min") => AtomOp::Min,
                Some(&"max") => AtomOp::Max,
                Some(&"inc") => AtomOp::Inc,
                Some(&"dec") => AtomOp::Dec,
                Some(&"and") => AtomOp::And,
                Some(&"or") => AtomOp::Or,
                Some(_) => AtomOp::Xor,
                None => return self.err("an operation expected"),
            };
            // The type of a tensor's elements is in its map.
            Some((op, sfx.iter().rev().find_map(|x| Ty::parse(x)).unwrap_or(Ty::B8)))
        } else {
            None
        };
        self.count(s, 2..=6)?;
        let (dst, a) = self.spot(&s.operands[0], to)?;
        let (src, b) = self.spot(&s.operands[1], from)?;
        let coords = if a.is_empty() { b } else { a };
        if tensor == coords.is_empty() {
            return self.err("coordinates of a tensor expected");
        }
        let mut rest = s.operands[2..].iter();
        let size = if tensor {
            SINK
        } else {
            let Some(o) = rest.next() else { return self.err("a size expected") };
            self.src(o, Width::W32, Ty::U32)?
        };
        let mbar = if sfx.iter().any(|x| x.starts_with("mbarrier")) {
            let Some(o) = rest.next() else { return self.err("an mbarrier expected") };
            Some(self.spot(o, Space::Cluster)?.0)
        } else {
            None
        };
        let multicast = if sfx.iter().any(|x| x.starts_with("multicast")) {
            let Some(o) = rest.next() else { return self.err("a mask of groups expected") };
            Some(self.src(o, Width::W32, Ty::U16)?)
        } else {
            None
        };
        self.code.bulks.push(Bulk { dst, src, size, mbar, multicast, coords, reduce, value: None });
        let at = self.code.bulks.len() as u32 - 1;
        self.emit(Op::Bulk(at), Class::CpAsync);
        Ok(())
    }

    fn st_async(&mut self, s: &Stmt<'a>) -> R<()> {
        self.count(s, 3..=3)?;
        let Some(ty) = s.suffixes.iter().rev().find_map(|x| Ty::parse(x)) else { return self.err("a type expected") };
        let width = Width::of(ty);
        let (dst, _) = self.spot(&s.operands[0], Space::Cluster)?;
        let list = match &s.operands[1] {
            Operand::Vector(list) => list.clone(),
            o => vec![o.clone()],
        };
        let rows = list.iter().map(|o| self.src(o, width, ty)).collect::<R<Vec<u32>>>()?;
        let mbar = Some(self.spot(&s.operands[2], Space::Cluster)?.0);
        let value = Some((ty.bytes() as u8, width, rows));
        self.code.bulks.push(Bulk { dst, src: dst, size: SINK, mbar, multicast: None, coords: Vec::new(), reduce: None, value });
        let at = self.code.bulks.len() as u32 - 1;
        self.emit(Op::Bulk(at), Class::StoreShared);
        Ok(())
    }
}
