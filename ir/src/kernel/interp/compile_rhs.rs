// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flat code of right sides.

use std::collections::HashMap;

use super::Run;
use super::code::{AtomicAt, Block, CondAt, GuardOp, Ins, MemOp, MmaOp, Slot};
use super::compile::Compiler;
use super::compile_expr::{Cx, malformed};
use crate::dtype::DType;
use crate::kernel::{Cond, ExprId, Rhs, Ty, VarId, VoteKind};

impl<'a> Compiler<'a> {
    /// Slot of a right side's value.
    pub(super) fn rhs(&mut self, r: &'a Rhs, ty: &Ty) -> Run<(Slot, u32)> {
        match r {
            Rhs::Expr(e) => self.expr(*e, &Cx::Kernel),
            Rhs::Load { from, cond, other } => {
                let n = from.elems();
                let at = self.access(from)?;
                self.load(at, cond, other, n, false)
            }
            Rhs::Gather { from, cond, other } => {
                let mut at = self.access(from)?;
                let lanes = |c: &Self, e: &ExprId| c.k.exprs[*e].ty.lanes().map_or(1, u32::from);
                let n = from.idx.iter().map(|e| lanes(self, e)).max().unwrap_or(1);
                for (ix, e) in at.idx.iter_mut().zip(&from.idx) {
                    if lanes(self, e) != n {
                        ix.slot = self.broadcast(ix.slot, n);
                    }
                }
                self.load(at, cond, other, n, true)
            }
            Rhs::FragLoad { from, order, via } => {
                let n = self.slots_of(ty)?;
                let mut op = self.frag_op(from, ty, *order, *via, 0)?;
                op.regs = self.alloc(n);
                let o = op.regs;
                self.emit(Ins::FragLoad(op));
                Ok((o, n))
            }
            Rhs::Mma { atom, a, b, c } => {
                for p in [a, b, c] {
                    self.acc_use(p.var, false);
                }
                let ((a_, na), (b_, nb), (c_, n)) = (self.place(a)?, self.place(b)?, self.place(c)?);
                for (s, n) in [(a_, na), (b_, nb), (c_, n)] {
                    self.no_poison(s, n, "a product");
                }
                let shape = self.m.atoms[*atom].shape.map(u32::from);
                let tile = |v: VarId| match &self.k.vars[v].ty {
                    Ty::Tile { dims, .. } if dims.len() == 2 => Some([dims[0], dims[1]]),
                    _ => None,
                };
                let dims = match (tile(a.var), tile(b.var), tile(c.var)) {
                    (Some([m, k]), Some([k2, n2]), Some(c)) if k == k2 && c == [m, n2] => [m, n2, k],
                    (None, None, None) => shape,
                    _ => return malformed("a product of tiles that do not fit"),
                };
                let o = self.alloc(n);
                self.emit(Ins::Mma(Box::new(MmaOp { atom: *atom, a: a_, b: b_, c: c_, o, dims })));
                Ok((o, n))
            }
            Rhs::Shuffle { kind, v, by, width } => {
                let (v, n) = self.expr(*v, &Cx::Kernel)?;
                let (by, _) = self.expr(*by, &Cx::Kernel)?;
                self.no_poison(by, 1, "a shuffle");
                let o = self.alloc(n);
                let poison = self.tainted(v);
                if poison {
                    self.taint(o);
                }
                self.emit(Ins::Exchange { kind: *kind, width: u32::from(*width), v, by, n, o, poison });
                Ok((o, n))
            }
            Rhs::Vote(kind, e) => {
                let (v, _) = self.expr(*e, &Cx::Kernel)?;
                self.no_poison(v, 1, "a vote");
                let o = self.alloc(1);
                let wide = *kind == VoteKind::Ballot && ty.elem() == Some(DType::U64);
                self.emit(Ins::Vote { kind: *kind, v, wide, o });
                Ok((o, 1))
            }
            Rhs::Atomic { op, at, v, order, cond } => {
                let d = self.k.bufs[at.buf].dtype;
                let at = self.access(at)?;
                let (v, _) = self.expr(*v, &Cx::Kernel)?;
                self.no_poison(v, 1, "an atomic");
                let cond = self.cond(cond, 1)?;
                let o = self.alloc(1);
                if !matches!(cond, CondAt::Always) {
                    self.taint(o);
                }
                self.emit(Ins::Atomic(Box::new(AtomicAt { at, op: *op, order: *order, d, v, cond, o })));
                Ok((o, 1))
            }
            Rhs::Guard { v, lo, hi, code, at } => {
                let d = ty.elem().unwrap_or(DType::I64);
                let mut s = [0; 3];
                for (s, e) in s.iter_mut().zip([v, lo, hi]) {
                    *s = self.expr(*e, &Cx::Kernel)?.0;
                    self.no_poison(*s, 1, "a guard");
                }
                let at = self.ix(*at)?;
                let o = self.alloc(1);
                self.emit(Ins::Guard(Box::new(GuardOp { d, v: s[0], lo: s[1], hi: s[2], at, code: *code, o })));
                Ok((o, 1))
            }
            Rhs::Fill(e) => {
                let n = self.slots_of(ty)?;
                let (s, _) = self.expr(*e, &Cx::Kernel)?;
                Ok((self.broadcast(s, n), n))
            }
            Rhs::Map { vars, dims, body } => {
                let (s, n) = self.mapped(vars, dims, *body)?;
                Ok((s, n))
            }
            Rhs::Reduce { op, vars, dims, body } => {
                let (s, n) = self.mapped(vars, dims, *body)?;
                self.no_poison(s, n, "a reduction");
                let inner = dims.last().copied().unwrap_or(1);
                let outer = n / inner.max(1);
                let d = ty.elem().unwrap_or(DType::F32);
                let o = self.alloc(outer);
                self.emit(Ins::Reduce { op: *op, d, outer, inner, scan: false, a: s, o });
                Ok((o, outer))
            }
            Rhs::Scan { op, vars, dims, body } => {
                let (s, n) = self.mapped(vars, dims, *body)?;
                self.no_poison(s, n, "a scan");
                let inner = dims.last().copied().unwrap_or(1);
                let d = ty.elem().unwrap_or(DType::F32);
                let o = self.alloc(n);
                self.emit(Ins::Reduce { op: *op, d, outer: n / inner.max(1), inner, scan: true, a: s, o });
                Ok((o, n))
            }
            Rhs::Move(p) => {
                let (s, n) = self.place(p)?;
                Ok((s, n))
            }
            Rhs::Transpose(p) => {
                let (s, n) = self.place(p)?;
                let Ty::Tile { dims, .. } = &self.k.vars[p.var].ty else { return malformed("transpose of no tile") };
                if dims.len() != 2 {
                    return malformed("transpose of a tile that has not two dims");
                }
                self.no_poison(s, n, "a transposition");
                let o = self.alloc(n);
                self.emit(Ins::Transpose { rows: dims[0], cols: dims[1], a: s, o });
                Ok((o, n))
            }
        }
    }
    fn load(&mut self, at: Block, cond: &Cond, other: &Option<ExprId>, n: u32, indexed: bool) -> Run<(Slot, u32)> {
        let cond = self.cond(cond, n)?;
        let other = self.other(other)?;
        let val = self.alloc(n);
        let undef = !matches!(cond, CondAt::Always) && other.is_none();
        if undef {
            self.taint(val);
        }
        self.emit(Ins::Load(Box::new(MemOp { at, cond, other, n, val, indexed })));
        Ok((val, n))
    }
    fn mapped(&mut self, vars: &[VarId], dims: &[u32], body: ExprId) -> Run<(Slot, u32)> {
        let n: u32 = dims.iter().product();
        if n > 1 << 20 {
            return malformed("a map of too many elements");
        }
        let mut slots = HashMap::new();
        let mut inner = n;
        for (v, d) in vars.iter().zip(dims) {
            inner /= d.max(&1);
            let mut values = Vec::new();
            for e in 0..n {
                let i = u64::from(e / inner.max(1) % d.max(&1));
                values.extend(std::iter::repeat_n(i, self.lanes as usize));
            }
            slots.insert(*v, self.lane_constants(values));
        }
        self.expr(body, &Cx::Map { vars: slots, n })
    }
}
