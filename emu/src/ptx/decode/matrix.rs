// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix fragments.

use super::{Dec, R};
use crate::ptx::ast::{Operand, Stmt};
use crate::ptx::instr::{Class, Op, Width};
use crate::ptx::matrix::{MatrixLoad, Mma, Source, Wgmma};
use crate::ptx::ty::{Space, Ty};

/// Numbers of a shape, `m16n8k16`.
fn shape(s: &str) -> Option<[usize; 3]> {
    let (m, rest) = s.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
}

impl<'a> Dec<'a, '_> {
    /// Registers of a list in braces.
    fn list(&mut self, o: &Operand<'a>, width: Width, write: bool) -> R<Vec<u32>> {
        let Some(parts) = self.elements(o) else {
            return Ok(vec![if write { self.dst(o, width)? } else { self.src(o, width, Ty::B64)? }]);
        };
        let parts = parts.into_owned();
        parts.iter().map(|p| if write { self.dst(p, width) } else { self.src(p, width, Ty::B64) }).collect()
    }

    pub(super) fn matrix(&mut self, s: &Stmt<'a>) -> R<bool> {
        match s.name {
            "ldmatrix" | "stmatrix" => self.fragment(s)?,
            "mma" => self.mma(s)?,
            "wgmma" => self.wgmma(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn fragment(&mut self, s: &Stmt<'a>) -> R<()> {
        self.count(s, 2..=2)?;
        let sfx = &s.suffixes[..];
        let store = s.name == "stmatrix";
        let n = match sfx.iter().find(|x| matches!(**x, "x1" | "x2" | "x4")) {
            Some(&"x1") => 1,
            Some(&"x2") => 2,
            Some(_) => 4,
            None => return self.err("a number of matrices expected"),
        };
        if !sfx.contains(&"m8n8") || !sfx.contains(&"b16") {
            return self.err("only matrices of 8 by 8 elements of 16 bits are known here");
        }
        let (at, data) = if store { (0, 1) } else { (1, 0) };
        let rows = self.list(&s.operands[data], Width::W32, !store)?;
        if rows.len() != n {
            return self.err(format!("{} registers where {n} belong", rows.len()));
        }
        let (a, base, offset, _) = self.addr(&s.operands[at])?;
        let generic = !sfx.iter().any(|x| Space::parse(x).is_some());
        let d = self.pool(&rows);
        let load = MatrixLoad { n: n as u8, trans: sfx.contains(&"trans"), store, base, generic };
        let class = if store { Class::StoreShared } else { Class::Ldmatrix };
        let i = self.emit(Op::Matrix(load), class);
        (i.d, i.a, i.imm) = (d, a, offset as u64);
        Ok(())
    }

    fn mma(&mut self, s: &Stmt<'a>) -> R<()> {
        let sfx = &s.suffixes[..];
        if sfx.iter().any(|x| x.starts_with("sp") || x.starts_with("kind")) {
            return self.err("sparse and scaled products are not known here");
        }
        self.count(s, 4..=4)?;
        let Some([m, n, k]) = sfx.iter().find_map(|x| shape(x)) else { return self.err("a shape expected") };
        let types: Vec<Ty> = sfx.iter().filter_map(|x| Ty::parse(x)).collect();
        let [d, a, b, c] = types[..] else { return self.err("four types expected") };
        let bits = a.bits() as usize;
        let narrow = matches!(a, Ty::E4M3 | Ty::E5M2) && matches!(b, Ty::E4M3 | Ty::E5M2);
        let ints =
            matches!(a, Ty::S8 | Ty::U8) && matches!(b, Ty::S8 | Ty::U8) || matches!(a, Ty::S4 | Ty::U4) && matches!(b, Ty::S4 | Ty::U4);
        let known = match (m, n) {
            (16, 8) => match a {
                Ty::F16 | Ty::BF16 => a == b && matches!(k, 8 | 16),
                Ty::TF32 => a == b && matches!(k, 4 | 8),
                Ty::F64 => a == b && matches!(k, 4 | 8 | 16),
                Ty::B1 => a == b && matches!(k, 128 | 256),
                _ if narrow => matches!(k, 16 | 32),
                _ if ints => k * bits == 128 || k * bits == 256,
                _ => false,
            },
            (8, 8) => match a {
                Ty::F64 => a == b && k == 4,
                Ty::B1 => a == b && k == 128,
                _ if ints => k * bits == 128,
                _ => false,
            },
            _ => false,
        };
        let accumulates = match a {
            Ty::F16 => matches!((c, d), (Ty::F16, Ty::F16) | (Ty::F32, Ty::F32) | (Ty::F16, Ty::F32) | (Ty::F32, Ty::F16)),
            Ty::BF16 | Ty::TF32 => (c, d) == (Ty::F32, Ty::F32),
            Ty::F64 => (c, d) == (Ty::F64, Ty::F64),
            _ if narrow => matches!((c, d), (Ty::F32, Ty::F32) | (Ty::F16, Ty::F16)),
            _ => (c, d) == (Ty::S32, Ty::S32),
        };
        if !known || !accumulates {
            return self.err("no such shape for these types");
        }
        let reg = bits.max(32);
        let per = reg / bits;
        let halves = |t: Ty| if t == Ty::F16 { 2 } else { 1 };
        let want = [m * n / 32 / halves(d), m * k / 32 / per, k * n / 32 / per, m * n / 32 / halves(c)];
        let mut pool = Vec::new();
        for (i, t) in [d, a, b, c].into_iter().enumerate() {
            let width = if t == Ty::F64 { Width::W64 } else { Width::W32 };
            let rows = self.list(&s.operands[i], width, i == 0)?;
            if rows.len() != want[i] {
                return self.err(format!("{} registers where {} belong", rows.len(), want[i]));
            }
            pool.extend(rows);
        }
        let pool = self.pool(&pool);
        let and = sfx.contains(&"and");
        self.code.mmas.push(Mma { m, n, k, a, b, c, d, sat: sfx.contains(&"satfinite"), and, pool, counts: want });
        let at = self.code.mmas.len() as u32 - 1;
        self.emit(Op::Mma(at), Class::Mma);
        Ok(())
    }

    fn wgmma(&mut self, s: &Stmt<'a>) -> R<()> {
        let sfx = &s.suffixes[..];
        match sfx.first() {
            Some(&"fence") => {
                self.emit(Op::WgmmaFence, Class::Barrier);
            }
            Some(&"commit_group") => {
                self.emit(Op::WgmmaCommit, Class::Barrier);
            }
            Some(&"wait_group") => {
                let Some(Operand::Int(n)) = s.operands.first() else { return self.err("a number expected") };
                let n = *n as u32;
                self.emit(Op::WgmmaWait(n), Class::Barrier);
            }
            Some(&"mma_async") => {
                if sfx.contains(&"sp") {
                    return self.err("sparse products are not known here");
                }
                let Some([m, n, k]) = sfx.iter().find_map(|x| shape(x)) else { return self.err("a shape expected") };
                let types: Vec<Ty> = sfx.iter().filter_map(|x| Ty::parse(x)).collect();
                let [d, a, b] = types[..] else { return self.err("three types expected") };
                let fits = match a {
                    Ty::F16 => matches!(d, Ty::F16 | Ty::F32) && a == b,
                    Ty::BF16 | Ty::TF32 => d == Ty::F32 && a == b,
                    Ty::E4M3 | Ty::E5M2 => matches!(d, Ty::F16 | Ty::F32) && matches!(b, Ty::E4M3 | Ty::E5M2),
                    Ty::S8 | Ty::U8 => d == Ty::S32 && matches!(b, Ty::S8 | Ty::U8),
                    _ => false,
                };
                if m != 64 || n % 8 != 0 || n == 0 || n > 256 || !fits || k * a.bits() as usize != 256 {
                    return self.err("no such shape for these types");
                }
                self.count(s, 4..=8)?;
                let rows = self.list(&s.operands[0], Width::W32, true)?;
                let count = n / if d == Ty::F16 { 4 } else { 2 };
                if rows.len() != count {
                    return self.err(format!("{} registers where {count} belong", rows.len()));
                }
                let source = match &s.operands[1] {
                    o @ Operand::Vector(list) => {
                        if list.len() != 4 {
                            return self.err("four registers of A expected");
                        }
                        let rows = self.list(o, Width::W32, false)?;
                        Source::Regs(self.pool(&rows))
                    }
                    o => Source::Shared(self.src(o, Width::W64, Ty::B64)?),
                };
                let desc = self.src(&s.operands[2], Width::W64, Ty::B64)?;
                let scale = self.pred(&s.operands[3])?;
                let mut rest = s.operands[4..].iter().map(|o| match o {
                    Operand::Int(v) => Ok(*v as i64),
                    _ => Err(()),
                });
                let mut number = |default: i64| rest.next().unwrap_or(Ok(default));
                let (Ok(sa), Ok(sb), Ok(first), Ok(second)) = (number(1), number(1), number(0), number(0)) else {
                    return self.err("numbers expected behind the scale");
                };
                // With A in registers the only transposition is that of B.
                let trans = if matches!(source, Source::Regs(_)) { [false, first != 0] } else { [first != 0, second != 0] };
                if trans != [false; 2] && a.bits() != 16 {
                    return self.err("only elements of 16 bits are transposed");
                }
                let pool = self.pool(&rows);
                let negate = [sa == -1, sb == -1];
                let sat = sfx.contains(&"satfinite");
                self.code.wgmmas.push(Wgmma { n, k, a, b, d, source, desc, scale, negate, trans, sat, pool, count });
                let at = self.code.wgmmas.len() as u32 - 1;
                self.emit(Op::Wgmma(at), Class::Mma);
            }
            _ => return self.err("no such instruction"),
        }
        Ok(())
    }
}
