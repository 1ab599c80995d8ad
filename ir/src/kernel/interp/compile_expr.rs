// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flat code of expressions. Functions are inlined; `map` bodies are compiled for all elements of the tile at once.

use std::collections::HashMap;

use smallvec::{SmallVec, smallvec};

use super::code::{CONST, Ins, Ix, Slot, TileAt};
use super::compile::Compiler;
use super::{FaultKind, Run, Stop, alu};
use crate::dtype::DType;
use crate::kernel::{ElemFn, Expr, ExprId, HOp, Id, Lit, Op, Ty, VarId};
use crate::numerics;

/// What an expression is compiled in.
pub(super) enum Cx<'a> {
    /// Statements of the kernel.
    Kernel,
    /// The body of a function at `n` elements.
    Fn { def: &'a ElemFn, vars: HashMap<VarId, Slot>, n: u32 },
    /// The body of a `map` over `n` elements; index variables have one value per element.
    Map { vars: HashMap<VarId, Slot>, n: u32 },
}

pub(super) fn malformed<T>(message: impl Into<String>) -> Run<T> {
    Err(Stop::new(FaultKind::Malformed, message))
}

/// Number of elements of a value of that type.
pub(super) fn elems(t: &Ty) -> u32 {
    match t {
        Ty::Scalar(_) | Ty::Frag(..) => 1,
        Ty::Vec(_, n) => u32::from(*n),
        Ty::Tile { dims, .. } => dims.iter().product(),
    }
}

/// Bits of a literal of that dtype.
pub(super) fn lit_bits(l: Lit, d: DType) -> u64 {
    match l {
        Lit::Int(v) => numerics::int_to_bits(d, v),
        Lit::Float(b) if d == DType::F64 => b,
        Lit::Float(b) => numerics::encode_f64(d, f64::from_bits(b), false),
    }
}

impl<'a> Compiler<'a> {
    fn elem_of(e: &Expr) -> Run<DType> {
        e.ty.elem().map_or_else(|| malformed("an expression without elements"), Ok)
    }

    /// Slot of an expression, and its number of elements.
    pub(super) fn expr(&mut self, id: ExprId, cx: &Cx<'a>) -> Run<(Slot, u32)> {
        let (e, lifted): (&'a Expr, Option<u32>) = match cx {
            Cx::Kernel => (&self.k.exprs[id], None),
            Cx::Map { n, .. } => (&self.k.exprs[id], Some(*n)),
            Cx::Fn { def, n, .. } => (&def.exprs[id], Some(*n)),
        };
        let n = lifted.unwrap_or_else(|| elems(&e.ty));
        match &e.op {
            Op::Lit(l) => {
                let d = Self::elem_of(e)?;
                Ok((self.constant(lit_bits(*l, d), n), n))
            }
            Op::Dim(s) => {
                let d = Self::elem_of(e)?;
                let v = s.eval(&|name| self.syms.get(name).copied());
                let Some(v) = v else { return malformed(format!("{s:?} has no value")) };
                let (lo, hi) = d.int_range().unwrap_or((0, 0));
                if i128::from(v) < lo || i128::from(v) > hi {
                    return Err(Stop::new(FaultKind::Wrap, format!("{s:?} is {v}, which is no {d}")));
                }
                Ok((self.constant(numerics::int_to_bits(d, v.into()), n), n))
            }
            Op::Id(i) => {
                let d = Self::elem_of(e)?;
                let s = self.position(*i, d);
                Ok((self.broadcast(s, n), n))
            }
            Op::Var(v) => self.variable(*v, &e.args, n, cx),
            Op::At(v) => {
                let Ty::Tile { dims, .. } = &self.k.vars[*v].ty else { return malformed("an element of no tile") };
                let tile = self.slot_of(*v)?;
                let mut idx: SmallVec<[Ix; 2]> = SmallVec::new();
                for a in &e.args {
                    let (slot, _) = self.expr(*a, cx)?;
                    idx.push(Ix { slot, wide: self.k.exprs[*a].ty.elem() == Some(DType::I64) });
                }
                let o = self.alloc(n);
                let poison = self.tainted(tile);
                self.emit(Ins::TileAt(Box::new(TileAt { tile, dims: dims.clone(), idx, n, o, poison })));
                if poison {
                    self.taint(o);
                }
                Ok((o, n))
            }
            Op::Call(f) => self.inline(*f, e, n, cx),
            _ => self.operation(e, n, cx),
        }
    }

    fn variable(&mut self, v: VarId, args: &[ExprId], n: u32, cx: &Cx<'a>) -> Run<(Slot, u32)> {
        match cx {
            Cx::Fn { vars, .. } => match vars.get(&v) {
                Some(s) => Ok((*s, n)),
                None => malformed("a function uses a value before it is defined"),
            },
            Cx::Map { vars, .. } if vars.contains_key(&v) => Ok((vars[&v], n)),
            _ => {
                let var = &self.k.vars[v];
                let base = self.slot_of(v)?;
                let each = self.slots_of(&var.ty)?;
                let at = if args.is_empty() { 0 } else { self.array_index(v, args)? };
                let s = base + at * each;
                Ok((if matches!(cx, Cx::Map { .. }) { self.broadcast(s, n) } else { s }, n))
            }
        }
    }
    /// Position of a register in its array; indices are constants by now.
    pub(super) fn array_index(&mut self, v: VarId, args: &[ExprId]) -> Run<u32> {
        let arr = self.k.vars[v].arr.clone();
        if args.len() != arr.len() {
            return malformed(format!("`{}` has {} dims", self.k.vars[v].name, arr.len()));
        }
        let mut at = 0u32;
        for (a, dim) in args.iter().zip(arr) {
            let Some(i) = self.const_expr(*a)? else {
                return malformed(format!("an index of `{}` is not constant after unrolling", self.k.vars[v].name));
            };
            if i < 0 || i >= i64::from(dim) {
                return Err(Stop::new(FaultKind::Bounds, format!("index {i} of `{}`, which has {dim}", self.k.vars[v].name)));
            }
            at = at * dim + i as u32;
        }
        Ok(at)
    }
    /// The value of an integer expression, if it is constant.
    pub(super) fn const_expr(&mut self, e: ExprId) -> Run<Option<i64>> {
        let d = self.k.exprs[e].ty.elem().unwrap_or(DType::I64);
        let (s, _) = self.expr(e, &Cx::Kernel)?;
        Ok(self.const_of(s).map(|b| numerics::int_from_bits(d, b) as i64))
    }

    fn inline(&mut self, f: crate::kernel::FnId, e: &'a Expr, n: u32, cx: &Cx<'a>) -> Run<(Slot, u32)> {
        let Some(def) = self.m.fns.get(f) else { return malformed("a call of no function") };
        if self.inline_depth > 32 {
            return malformed("functions nested too deeply");
        }
        let mut vars = HashMap::new();
        for (p, a) in def.params.iter().zip(&e.args) {
            let (s, _) = self.expr(*a, cx)?;
            vars.insert(*p, s);
        }
        self.inline_depth += 1;
        let mut inner = Cx::Fn { def, vars, n };
        for (v, x) in &def.lets {
            let (s, _) = self.expr(*x, &inner)?;
            if let Cx::Fn { vars, .. } = &mut inner {
                vars.insert(*v, s);
            }
        }
        let r = self.expr(def.result, &inner);
        self.inline_depth -= 1;
        r
    }

    fn operation(&mut self, e: &'a Expr, n: u32, cx: &Cx<'a>) -> Run<(Slot, u32)> {
        let d = Self::elem_of(e)?;
        let mut s: SmallVec<[Slot; 3]> = SmallVec::new();
        let mut counts: SmallVec<[u32; 3]> = SmallVec::new();
        for a in &e.args {
            let (x, c) = self.expr(*a, cx)?;
            s.push(x);
            counts.push(c);
        }
        let arg_ty = |i: usize| -> Run<DType> {
            let exprs = if let Cx::Fn { def, .. } = cx { &def.exprs } else { &self.k.exprs };
            Self::elem_of(&exprs[e.args[i]])
        };
        let dst = |c: &mut Self| c.alloc(n);
        let lifted = !matches!(cx, Cx::Kernel);
        match &e.op {
            Op::Un(op) => {
                if let Some(v) = self.fold(&s, |b| alu::un_one(*op, d, b[0])) {
                    return Ok((self.constant(v, n), n));
                }
                let o = dst(self);
                self.pure(Ins::Un { op: *op, d, n, a: s[0], o }, o, n, &s, &counts)
            }
            Op::Bin(op) => {
                if let Some(v) = self.fold(&s, |b| alu::bin_one(*op, d, b[0], b[1])) {
                    return Ok((self.constant(v, n), n));
                }
                let o = dst(self);
                self.pure(Ins::Bin { op: *op, d, n, a: s[0], b: s[1], o }, o, n, &s, &counts)
            }
            Op::Cmp(op) => {
                let d = arg_ty(0)?;
                if let Some(v) = self.fold(&s, |b| Some(u64::from(alu::cmp_one(*op, d, b[0], b[1])))) {
                    return Ok((self.constant(v, n), n));
                }
                let o = dst(self);
                self.pure(Ins::Cmp { op: *op, d, n, a: s[0], b: s[1], o }, o, n, &s, &counts)
            }
            Op::Select => {
                let scalar = counts[0] == 1 && n > 1;
                if let (Some(c), true) = (self.const_of(s[0]), counts[0] == 1 || lifted) {
                    return Ok((if c & 1 != 0 { s[1] } else { s[2] }, n));
                }
                let o = dst(self);
                self.emit(Ins::Select { n, scalar, c: s[0], a: s[1], b: s[2], o });
                if s.iter().any(|x| self.tainted(*x)) {
                    self.emit(Ins::PoisonSelect { n, scalar, c: s[0], a: s[1], b: s[2], o });
                    self.taint(o);
                }
                Ok((o, n))
            }
            Op::Clamp => {
                let t = self.alloc(n);
                let two = &s[..2].to_vec();
                self.pure(Ins::Bin { op: crate::kernel::BinOp::Max, d, n, a: s[0], b: s[1], o: t }, t, n, two, &counts[..2])?;
                let o = dst(self);
                let pair: SmallVec<[Slot; 3]> = smallvec![t, s[2]];
                self.pure(Ins::Bin { op: crate::kernel::BinOp::Min, d, n, a: t, b: s[2], o }, o, n, &pair, &[n, counts[2]])
            }
            Op::Fma => {
                let o = dst(self);
                self.pure(Ins::Fma { d, n, a: s[0], b: s[1], c: s[2], o }, o, n, &s, &counts)
            }
            Op::Cast | Op::CastSat => {
                let from = arg_ty(0)?;
                let sat = e.op == Op::CastSat;
                if let Some(v) = self.fold(&s, |b| Some(alu::cast_one(from, d, sat, b[0]))) {
                    return Ok((self.constant(v, n), n));
                }
                let o = dst(self);
                self.pure(Ins::Cast { from, to: d, sat, n, a: s[0], o }, o, n, &s, &counts)
            }
            // Elements are kept as their bits.
            Op::Bitcast if counts[0] == n => Ok((s[0], n)),
            Op::Bitcast => {
                let (from, to) = (arg_ty(0)?.bits(), d.bits());
                let o = dst(self);
                self.pure(Ins::Regroup { from, to, n, a: s[0], o }, o, n, &s, &counts)
            }
            Op::Splat => Ok((self.broadcast(s[0], n), n)),
            Op::Iota => {
                let o = dst(self);
                self.pure(Ins::Iota { d, n, a: s[0], o }, o, n, &s, &counts)
            }
            Op::MaskLt => {
                let d = arg_ty(0)?;
                let o = dst(self);
                self.pure(Ins::MaskLt { d, n, a: s[0], b: s[1], o }, o, n, &s, &counts)
            }
            Op::Extract | Op::Insert => {
                let Some(i) = self.const_of(s[1]) else { return malformed("the position of an element is not constant after unrolling") };
                let i = numerics::int_from_bits(arg_ty(1)?, i);
                if i < 0 || i >= i128::from(counts[0]) {
                    return Err(Stop::new(FaultKind::Bounds, format!("element {i} of {}", counts[0])));
                }
                let i = i as u32;
                if e.op == Op::Extract {
                    return Ok((self.element(s[0], counts[0], i), 1));
                }
                let o = dst(self);
                self.copy(s[0], o, n);
                self.copy(s[2], o + i, 1);
                Ok((o, n))
            }
            Op::Concat => {
                let o = dst(self);
                self.copy(s[0], o, counts[0]);
                self.copy(s[1], o + counts[0], counts[1]);
                Ok((o, n))
            }
            Op::Shufflev(list) => {
                let o = dst(self);
                let b = *s.get(1).unwrap_or(&s[0]);
                let ins = Ins::Shuffle { list: list.iter().copied().collect(), n: counts[0], a: s[0], b, o };
                if s.iter().any(|x| self.tainted(*x)) {
                    return malformed("a permutation of elements that may be undefined");
                }
                self.emit(ins);
                Ok((o, n))
            }
            Op::Hred(op) => {
                self.no_poison(s[0], counts[0], "a reduction");
                let o = dst(self);
                let d = if matches!(op, HOp::And | HOp::Or) { arg_ty(0)? } else { d };
                self.emit(Ins::Hred { op: *op, d, n: counts[0], a: s[0], o });
                Ok((o, 1))
            }
            Op::Dot2 => {
                for (x, c) in s.iter().zip(&counts) {
                    self.no_poison(*x, *c, "a product");
                }
                let o = dst(self);
                self.emit(Ins::Dot2 { n, acc: s[0], a: s[1], b: s[2], o });
                Ok((o, n))
            }
            Op::Dot4 => {
                for (x, c) in s.iter().zip(&counts) {
                    self.no_poison(*x, *c, "a product");
                }
                let signed = [arg_ty(1)? == DType::I8, arg_ty(2)? == DType::I8];
                let o = dst(self);
                self.emit(Ins::Dot4 { n, acc: s[0], a: s[1], b: s[2], signed, o });
                Ok((o, n))
            }
            Op::Lit(_) | Op::Dim(_) | Op::Id(_) | Op::Var(_) | Op::At(_) | Op::Call(_) => malformed("not an operation"),
        }
    }

    /// Emits an elementwise instruction, and its poison where a source may have any.
    fn pure(&mut self, ins: Ins, o: Slot, n: u32, s: &[Slot], counts: &[u32]) -> Run<(Slot, u32)> {
        self.emit(ins);
        if s.iter().any(|x| self.tainted(*x)) {
            let from = s.iter().copied().zip(counts.iter().copied()).filter(|(x, _)| self.tainted(*x)).collect();
            self.emit(Ins::Poison { n, o, from });
            self.taint(o);
        }
        Ok((o, n))
    }
    /// Value of an operation whose operands are all constant; none if it would be a fault, which then happens at run time.
    fn fold(&self, s: &[Slot], f: impl FnOnce(&[u64]) -> Option<u64>) -> Option<u64> {
        let bits: Option<SmallVec<[u64; 3]>> = s.iter().map(|x| self.const_of(*x)).collect();
        f(&bits?)
    }

    /// A slot whose elements all equal one scalar.
    pub(super) fn broadcast(&mut self, s: Slot, n: u32) -> Slot {
        if n == 1 {
            return s;
        }
        if let Some(v) = self.const_of(s) {
            return self.constant(v, n);
        }
        let o = self.alloc(n);
        self.emit(Ins::Splat { n, a: s, o });
        if self.tainted(s) {
            self.emit(Ins::Poison { n, o, from: smallvec![(s, 1)] });
            self.taint(o);
        }
        o
    }
    /// One element of a vector.
    fn element(&mut self, s: Slot, n: u32, i: u32) -> Slot {
        match self.const_of(s) {
            Some(v) => self.constant(v, 1),
            None => {
                if self.tainted(s) && n > 1 {
                    self.taint(s + i);
                }
                s + i
            }
        }
    }
    fn copy(&mut self, a: Slot, o: Slot, n: u32) {
        self.emit(Ins::Copy { n, a, o });
        if self.tainted(a) {
            self.emit(Ins::Poison { n, o, from: smallvec![(a, n)] });
            self.taint(o);
        }
    }
    pub(super) fn no_poison(&mut self, a: Slot, n: u32, what: &'static str) {
        if self.tainted(a) {
            self.emit(Ins::NoPoison { n, a, what });
        }
    }

    fn position(&mut self, i: Id, d: DType) -> Slot {
        let (group, warp) = (self.lanes, self.k.launch.warp.max(1));
        let per_lane = |c: &mut Self, f: &dyn Fn(u32) -> u32| {
            let values: Vec<u64> = (0..group).map(|l| u64::from(f(l))).collect();
            c.lane_constants(values)
        };
        match i {
            Id::Group(a) => {
                let s = self.group_slots[usize::from(a).min(2)];
                if d == DType::I64 {
                    return s;
                }
                let o = self.alloc(1);
                self.emit(Ins::Cast { from: DType::I64, to: d, sat: false, n: 1, a: s, o });
                o
            }
            Id::Grid(a) => {
                let v = self.grid[usize::from(a).min(2)];
                self.constant(numerics::int_to_bits(d, v.into()), 1)
            }
            Id::Lane if group == 1 => self.constant(0, 1),
            Id::Lane => per_lane(self, &|l| l),
            Id::Warp => per_lane(self, &|l| l / warp),
            Id::WarpLane => per_lane(self, &|l| l % warp),
        }
    }
    pub(super) fn is_const(s: Slot) -> bool {
        s & CONST != 0
    }
}
