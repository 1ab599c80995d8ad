// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `no-masked-memory`: vectors of which some elements are switched off, on a machine whose loads and stores take whole vectors.
//!
//! A mask of leading elements becomes pieces of a power of two each, every one there or not as a whole: seven elements of eight are
//! four, two and one, which come together in memory of the lane. That is `log2` branches for a row's end instead of one for every
//! element. A number of elements that is known leaves no branch.
//!
//! Before:
//! ```kir
//! let in_: mask4 = mask.lt(c, n)
//! let v: f32x4 = load x[c:4] mask in_ else 0.0
//! ```
//! After:
//! ```kir
//! local tail_f32_4: f32[4] align 16
//! let in_: mask4 = mask.lt(c, n)
//! let have: i64 = clamp(n - c, 0, 4)
//! var v: f32x4 = splat(0.0)
//! let full: bool = have >= 4
//! if full { v = load x[c:4] when full else 0.0 } else {
//!   store tail_f32_4[0:4] = splat(0.0)
//!   if have & 2 != 0 {
//!     let off: i64 = 0
//!     let p: f32x2 = load x[c + off:2]
//!     store tail_f32_4[off:2] = p
//!   }
//!   if have & 1 != 0 {
//!     let off_2: i64 = have & 2
//!     let p_2: f32 = load x[c + off_2]
//!     store tail_f32_4[off_2] = p_2
//!   }
//!   let some: f32x4 = load tail_f32_4[0:4]
//!   v = some
//! }
//! ```
//!
//! Any other mask, and elements that do not lie side by side, keep their masks behind a test whether all elements are on, which they
//! are in the inside of a picture or a table; what is left of the masks is a branch for every element.

use std::collections::{HashMap, HashSet};

use portwright_ir::dtype::DType;
use portwright_ir::entity::PrimaryMap;
use portwright_ir::kernel::{
    Access, BinOp, Block, BufId, Buffer, Class, CmpOp, Cond, Expr, ExprId, HOp, Kernel, Layout, Lit, Mode, Module, Op, Place, Rhs, Space,
    Stmt, StmtId, Ty, Var, VarId, VarKind,
};

use super::KernelCaps;

/// The rule.
pub(super) fn run(module: &mut Module, caps: &KernelCaps) -> bool {
    let taken: HashSet<String> = module.fns.values().map(|f| f.name.clone()).collect();
    let mut changed = false;
    for k in module.kernels.values_mut().filter(|k| k.class == Class::Cpu) {
        let concerned = k.stmts.values().any(|s| access(s).is_some_and(|(a, c, n)| lacks(k, caps, a, c, n)));
        if concerned {
            let body = std::mem::take(&mut k.body);
            let mut r = Rewrite::new(k, caps, &taken);
            let body = r.block(&body);
            let (stmts, now) = (r.stmts, r.changed);
            changed |= now;
            (k.body, k.stmts) = (body, stmts);
        }
    }
    changed
}

/// The memory that a statement accesses, its condition, and whether its elements have addresses of their own.
fn access(s: &Stmt) -> Option<(&Access, &Cond, bool)> {
    match s {
        Stmt::Def { init: Some(Rhs::Load { from, cond, .. }), .. } | Stmt::Set { val: Rhs::Load { from, cond, .. }, .. } => {
            Some((from, cond, false))
        }
        Stmt::Def { init: Some(Rhs::Gather { from, cond, .. }), .. } | Stmt::Set { val: Rhs::Gather { from, cond, .. }, .. } => {
            Some((from, cond, true))
        }
        Stmt::Store { to, cond, .. } => Some((to, cond, false)),
        Stmt::Scatter { to, cond, .. } => Some((to, cond, true)),
        _ => None,
    }
}

/// Number of elements of an access.
fn lanes(k: &Kernel, a: &Access, apart: bool) -> u32 {
    if apart { a.idx.iter().filter_map(|i| k.exprs[*i].ty.lanes()).max().map_or(1, u32::from) } else { a.elems() }
}

/// Whether an access has a mask that the machine does not have.
fn lacks(k: &Kernel, caps: &KernelCaps, a: &Access, cond: &Cond, apart: bool) -> bool {
    let d = k.bufs[a.buf].dtype;
    let masked = matches!(cond, Cond::Mask(_)) || matches!(cond, Cond::Valid(v) if v.len() == 1);
    let n = lanes(k, a, apart);
    masked && n > 1 && n.is_power_of_two() && !d.is_packed() && !caps.masked_bits.contains(&d.bits().max(8))
}

/// How many leading elements are on.
#[derive(Copy, Clone)]
enum Have {
    Exactly(i64),
    Named(VarId),
}

struct Rewrite<'k> {
    k: &'k mut Kernel,
    caps: &'k KernelCaps,
    names: HashSet<String>,
    /// Values of variables that are set once.
    lets: HashMap<VarId, ExprId>,
    /// Counts of the masks that have a name, per mask.
    counts: HashMap<VarId, Have>,
    /// Masks of accesses that the machine lacks.
    wanted: HashSet<VarId>,
    /// The statements that are left, with the new ones.
    stmts: PrimaryMap<StmtId, Stmt>,
    /// Masks whose test failed where this block stands.
    tests: Vec<ExprId>,
    /// Memory of the lane for one vector, by dtype and elements.
    tails: HashMap<(DType, u32), BufId>,
    /// Last number behind each name.
    numbers: HashMap<String, u32>,
    out: Block,
    changed: bool,
}

impl<'k> Rewrite<'k> {
    fn new(k: &'k mut Kernel, caps: &'k KernelCaps, taken: &HashSet<String>) -> Self {
        let mut names = taken.clone();
        names.extend(k.vars.values().map(|v| v.name.clone()));
        names.extend(k.bufs.values().map(|b| b.name.clone()));
        names.extend(k.syms.iter().map(|s| s.name.to_string()));
        let mut lets = HashMap::new();
        let mut wanted = HashSet::new();
        for s in k.stmts.values() {
            if let Stmt::Def { var, init: Some(Rhs::Expr(e)) } = s
                && k.vars[*var].kind == VarKind::Let
            {
                lets.insert(*var, *e);
            }
            if let Some((a, cond @ Cond::Mask(m), apart)) = access(s)
                && let Op::Var(v) = k.exprs[*m].op
                && lacks(k, caps, a, cond, apart)
            {
                wanted.insert(v);
            }
        }
        Rewrite {
            k,
            caps,
            names,
            lets,
            counts: HashMap::new(),
            wanted,
            stmts: PrimaryMap::new(),
            tests: Vec::new(),
            tails: HashMap::new(),
            numbers: HashMap::new(),
            out: Vec::new(),
            changed: false,
        }
    }

    fn block(&mut self, old: &Block) -> Block {
        let outer = std::mem::take(&mut self.out);
        for &id in old {
            self.stmt(id);
        }
        std::mem::replace(&mut self.out, outer)
    }
    /// A block of what `f` pushes.
    fn scoped(&mut self, f: impl FnOnce(&mut Self)) -> Block {
        let outer = std::mem::take(&mut self.out);
        f(self);
        std::mem::replace(&mut self.out, outer)
    }
    fn push(&mut self, s: Stmt) {
        let id = self.stmts.push(s);
        self.out.push(id);
    }

    fn stmt(&mut self, id: StmtId) {
        let mut s = self.k.stmts[id].clone();
        match &mut s {
            Stmt::For { body, .. } | Stmt::Role { body, .. } | Stmt::Each { body, .. } => *body = self.block(body),
            Stmt::If { cond, then, els } => {
                *then = self.block(then);
                let mask = self.tested_mask(*cond);
                self.tests.extend(mask);
                *els = self.block(els);
                self.tests.truncate(self.tests.len() - usize::from(mask.is_some()));
            }
            _ => {
                let lacking = access(&s).is_some_and(|(a, c, apart)| lacks(self.k, self.caps, a, c, apart));
                if lacking && self.replace(&s) {
                    self.changed = true;
                    return;
                }
            }
        }
        let mask = match &s {
            Stmt::Def { var, init: Some(Rhs::Expr(e)) } if self.wanted.contains(var) => Some((*var, *e)),
            _ => None,
        };
        self.push(s);
        // The count of a mask stands behind it, where everything that uses the mask finds it.
        if let Some((var, e)) = mask
            && let Some(have) = self.count(e)
        {
            self.counts.insert(var, have);
        }
    }

    /// Puts something else in the place of a masked access; `false` if it stays.
    fn replace(&mut self, s: &Stmt) -> bool {
        let Some((a, cond, apart)) = access(s) else { return false };
        let (a, cond) = (a.clone(), cond.clone());
        let n = lanes(self.k, &a, apart);
        let buf = &self.k.bufs[a.buf];
        let long: Vec<usize> = (0..a.len.len()).filter(|d| a.len[*d] > 1).collect();
        let side_by_side = !apart && long.len() == 1 && long.first().and_then(|d| buf.strides.get(*d)).is_some_and(|s| s.is(1));
        // Truth values are bytes in memory and single bits in registers: pieces of them are not worth their conversions.
        let whole_bytes = buf.dtype != DType::Bool;
        let have = match &cond {
            Cond::Mask(m) => match self.k.exprs[*m].op {
                Op::Var(v) => self.counts.get(&v).copied(),
                _ => self.count(*m),
            },
            Cond::Valid(v) => v.first().and_then(|e| {
                let e = self.copy(*e);
                self.clamped(e, n)
            }),
            _ => None,
        };
        match (have, cond) {
            (Some(have), _) if side_by_side && whole_bytes => self.pieces(s, &a, long[0], n, have),
            (_, Cond::Mask(m)) => self.tested(s, m),
            _ => false,
        }
    }

    /// The access without its mask where all elements are on, and as it was elsewhere.
    fn tested(&mut self, s: &Stmt, mask: ExprId) -> bool {
        if self.tests.iter().any(|t| self.same(*t, mask)) {
            return false;
        }
        let all = self.copy(mask);
        let all = self.node(Op::Hred(HOp::And), &[all], Ty::BOOL);
        let all = self.let_("full", all);
        // The condition is said again at the access: without it, what lies outside of its buffer for certain is a fault, even
        // where it is never reached.
        let unmasked = |r: &mut Self, v: &Rhs| match v {
            Rhs::Load { from, other, .. } => {
                let (from, other) = (r.copy_access(from), r.off_value(from, *other));
                Rhs::Load { from, cond: Cond::When(r.var(all)), other: Some(r.copy(other)) }
            }
            Rhs::Gather { from, other, .. } => {
                let (from, other) = (r.copy_access(from), r.off_value(from, *other));
                Rhs::Gather { from, cond: Cond::When(r.var(all)), other: Some(r.copy(other)) }
            }
            other => other.clone(),
        };
        let (then, els) = match s {
            Stmt::Def { var, init: Some(rhs @ (Rhs::Load { from, other, .. } | Rhs::Gather { from, other, .. })) }
                if self.k.vars[*var].arr.is_empty() =>
            {
                let place = self.open_var(*var, from, *other);
                (Stmt::Set { place: place.clone(), val: unmasked(self, rhs) }, Stmt::Set { place, val: rhs.clone() })
            }
            Stmt::Set { place, val } => {
                let mut again = place.clone();
                again.idx.iter_mut().for_each(|i| *i = self.copy(*i));
                (Stmt::Set { place: again, val: unmasked(self, val) }, s.clone())
            }
            Stmt::Store { to, val, cond } => {
                let v = self.let_("all", *val);
                let (to2, a, b, c) = (self.copy_access(to), self.var(v), self.var(v), self.var(all));
                (Stmt::Store { to: to2, val: a, cond: Cond::When(c) }, Stmt::Store { to: to.clone(), val: b, cond: cond.clone() })
            }
            Stmt::Scatter { to, val, cond } => {
                let v = self.let_("all", *val);
                let (to2, a, b, c) = (self.copy_access(to), self.var(v), self.var(v), self.var(all));
                (Stmt::Scatter { to: to2, val: a, cond: Cond::When(c) }, Stmt::Scatter { to: to.clone(), val: b, cond: cond.clone() })
            }
            _ => return false,
        };
        let then = self.scoped(|r| r.push(then));
        let els = self.scoped(|r| r.push(els));
        let cond = self.var(all);
        self.push(Stmt::If { cond, then, els });
        true
    }

    /// The access in pieces that are there as a whole or not at all.
    fn pieces(&mut self, s: &Stmt, a: &Access, dim: usize, n: u32, have: Have) -> bool {
        match s {
            Stmt::Def { var, init: Some(Rhs::Load { other, .. }) } if self.k.vars[*var].arr.is_empty() => {
                let other = self.off_value(a, *other);
                if let Have::Exactly(_) = have {
                    let v = self.loaded(a, dim, n, have, At::Plus(0), other);
                    self.push(Stmt::Def { var: *var, init: Some(Rhs::Expr(v)) });
                    return true;
                }
                let place = self.open_var(*var, a, Some(other));
                self.load_either(a, dim, n, have, place, other);
            }
            Stmt::Set { place, val: Rhs::Load { other, .. } } => {
                let other = self.off_value(a, *other);
                if let Have::Exactly(_) = have {
                    let v = self.loaded(a, dim, n, have, At::Plus(0), other);
                    self.push(Stmt::Set { place: place.clone(), val: Rhs::Expr(v) });
                    return true;
                }
                self.load_either(a, dim, n, have, place.clone(), other);
            }
            Stmt::Store { val, .. } => {
                let v = self.let_("all", *val);
                let Have::Named(count) = have else {
                    self.stored(a, dim, n, have, At::Plus(0), v);
                    return true;
                };
                let full = self.at_least(count, n);
                let full = self.let_("full", full);
                let (to, val, when) = (self.copy_access(a), self.var(v), self.var(full));
                let then = self.scoped(|r| r.push(Stmt::Store { to, val, cond: Cond::When(when) }));
                let els = self.scoped(|r| r.stored(a, dim, n, have, At::Plus(0), v));
                let cond = self.var(full);
                self.push(Stmt::If { cond, then, els });
            }
            _ => return false,
        }
        true
    }
    fn load_either(&mut self, a: &Access, dim: usize, n: u32, have: Have, place: Place, other: ExprId) {
        let Have::Named(count) = have else { return };
        let mut again = place.clone();
        again.idx.iter_mut().for_each(|i| *i = self.copy(*i));
        let full = self.at_least(count, n);
        let full = self.let_("full", full);
        let from = self.copy_access(a);
        let whole = Rhs::Load { from, cond: Cond::When(self.var(full)), other: Some(self.copy(other)) };
        let then = self.scoped(|r| r.push(Stmt::Set { place: again, val: whole }));
        let els = self.scoped(|r| {
            let v = r.loaded(a, dim, n, have, At::Plus(0), other);
            r.push(Stmt::Set { place, val: Rhs::Expr(v) });
        });
        let cond = self.var(full);
        self.push(Stmt::If { cond, then, els });
    }

    /// `n` elements from `at` on of which the leading ones are on, as an expression for one place.
    fn loaded(&mut self, a: &Access, dim: usize, n: u32, have: Have, at: At, other: ExprId) -> ExprId {
        let d = self.k.bufs[a.buf].dtype;
        let half = n / 2;
        let piece = |r: &mut Self, len: u32, when: Option<ExprId>| {
            let from = r.part(a, dim, at, len);
            let other = when.map(|_| r.copy(other));
            let cond = when.map_or(Cond::Always, Cond::When);
            let v = r.new_var(if len == 1 { "one" } else { "low" }, Ty::of(d, len));
            r.push(Stmt::Def { var: v, init: Some(Rhs::Load { from, cond, other }) });
            v
        };
        let none = |r: &mut Self, len: u32| {
            let o = r.copy(other);
            if len == 1 { o } else { r.node(Op::Splat, &[o], Ty::of(d, len)) }
        };
        match have {
            Have::Exactly(0) => none(self, n),
            Have::Exactly(c) if c >= i64::from(n) => {
                let v = piece(self, n, None);
                self.var(v)
            }
            Have::Exactly(c) if c >= i64::from(half) => {
                let low = piece(self, half, None);
                let high = self.loaded(a, dim, half, Have::Exactly(c - i64::from(half)), at.plus(half), other);
                let low = self.var(low);
                self.node(Op::Concat, &[low, high], Ty::of(d, n))
            }
            Have::Exactly(_) => {
                let low = self.loaded(a, dim, half, have, at, other);
                let high = none(self, half);
                self.node(Op::Concat, &[low, high], Ty::of(d, n))
            }
            Have::Named(count) => {
                // Elements come together in memory of the lane: registers have no place that is known only here.
                let tail = self.tail(d, n);
                let (all, zero) = (none(self, n), self.int(0));
                self.push(Stmt::Store { to: row(tail, zero, n), val: all, cond: Cond::Always });
                self.each_piece(count, n, &mut |r, at, len| {
                    let from = r.part(a, dim, At::Var(at), len);
                    let v = r.new_var("p", Ty::of(d, len));
                    r.push(Stmt::Def { var: v, init: Some(Rhs::Load { from, cond: Cond::Always, other: None }) });
                    let (at, val) = (r.var(at), r.var(v));
                    r.push(Stmt::Store { to: row(tail, at, len), val, cond: Cond::Always });
                });
                let v = self.new_var("some", Ty::of(d, n));
                let zero = self.int(0);
                self.push(Stmt::Def { var: v, init: Some(Rhs::Load { from: row(tail, zero, n), cond: Cond::Always, other: None }) });
                self.var(v)
            }
        }
    }

    /// Writes the leading ones of `n` elements from `at` on.
    fn stored(&mut self, a: &Access, dim: usize, n: u32, have: Have, at: At, value: VarId) {
        let d = self.k.bufs[a.buf].dtype;
        let half = n / 2;
        let write = |r: &mut Self, len: u32, val: ExprId, cond: Cond| {
            let to = r.part(a, dim, at, len);
            r.push(Stmt::Store { to, val, cond });
        };
        let side = |r: &mut Self, high: bool| {
            let v = r.var(value);
            let first = if high { half as u16 } else { 0 };
            if half == 1 {
                let i = r.lit(i128::from(first), DType::I32);
                return r.node(Op::Extract, &[v, i], Ty::Scalar(d));
            }
            r.node(Op::Shufflev((first..first + half as u16).collect()), &[v], Ty::of(d, half))
        };
        match have {
            Have::Exactly(c) if c <= 0 => {}
            Have::Exactly(c) if c >= i64::from(n) => {
                let v = self.var(value);
                write(self, n, v, Cond::Always);
            }
            Have::Exactly(c) => {
                let over = c - i64::from(half);
                let (high, next) = if over >= 0 {
                    let low = side(self, false);
                    write(self, half, low, Cond::Always);
                    (true, at.plus(half))
                } else {
                    (false, at)
                };
                if over != 0 {
                    let rest = side(self, high);
                    let rest = self.let_("rest", rest);
                    self.stored(a, dim, half, Have::Exactly(if high { over } else { c }), next, rest);
                }
            }
            Have::Named(count) => {
                let tail = self.tail(d, n);
                let (v, zero) = (self.var(value), self.int(0));
                self.push(Stmt::Store { to: row(tail, zero, n), val: v, cond: Cond::Always });
                self.each_piece(count, n, &mut |r, at, len| {
                    let v = r.new_var("p", Ty::of(d, len));
                    let from = row(tail, r.var(at), len);
                    r.push(Stmt::Def { var: v, init: Some(Rhs::Load { from, cond: Cond::Always, other: None }) });
                    let (to, val) = (r.part(a, dim, At::Var(at), len), r.var(v));
                    r.push(Stmt::Store { to, val, cond: Cond::Always });
                });
            }
        }
    }

    /// For each power of two below `n` that `count`, which is below `n`, is made of: what `f` writes for that many elements, which begin
    /// behind those of the larger ones.
    fn each_piece(&mut self, count: VarId, n: u32, f: &mut dyn FnMut(&mut Self, VarId, u32)) {
        let mut len = n / 2;
        while len > 0 {
            let bits = |r: &mut Self, mask: u32| {
                let (c, mask) = (r.var(count), r.int(i64::from(mask)));
                r.node(Op::Bin(BinOp::And), &[c, mask], Ty::Scalar(DType::I64))
            };
            let (bit, none) = (bits(self, len), self.int(0));
            let cond = self.node(Op::Cmp(CmpOp::Ne), &[bit, none], Ty::BOOL);
            let then = self.scoped(|r| {
                let above = (n - 1) & !(2 * len - 1);
                let at = if above == 0 { r.int(0) } else { bits(r, above) };
                let at = r.let_("off", at);
                f(r, at, len);
            });
            self.push(Stmt::If { cond, then, els: Vec::new() });
            len /= 2;
        }
    }
    /// Memory of the lane for one vector.
    fn tail(&mut self, d: DType, n: u32) -> BufId {
        if let Some(b) = self.tails.get(&(d, n)) {
            return *b;
        }
        let mut name = format!("tail_{d}_{n}");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        let size = d.bytes().unwrap_or(1) * n;
        let b = self.k.bufs.push(Buffer {
            name,
            dtype: d,
            dims: vec![i64::from(n).into()],
            strides: vec![1.into()],
            space: Space::Local,
            mode: Mode::Rw,
            align: size.clamp(1, 64),
            layout: Layout::Plain,
            alias: None,
        });
        self.tails.insert((d, n), b);
        b
    }
    fn at_expr(&mut self, at: At) -> ExprId {
        match at {
            At::Plus(n) => self.int(n),
            At::Var(v) => self.var(v),
        }
    }
    /// `len` elements of an access from `at` on.
    fn part(&mut self, a: &Access, dim: usize, at: At, len: u32) -> Access {
        let mut out = self.copy_access(a);
        if let Some(l) = out.len.get_mut(dim) {
            *l = len;
        }
        if !matches!(at, At::Plus(0))
            && let Some(&first) = out.idx.get(dim)
        {
            let ty = self.k.exprs[first].ty.clone();
            let mut off = self.at_expr(at);
            if ty != Ty::Scalar(DType::I64) {
                off = self.node(Op::Cast, &[off], ty.clone());
            }
            out.idx[dim] = self.node(Op::Bin(BinOp::Add), &[first, off], ty);
        }
        out
    }

    /// How many leading elements a mask switches on, if that is what it does: a constant, or a new variable.
    fn count(&mut self, mask: ExprId) -> Option<Have> {
        let n = self.k.exprs[mask].ty.lanes()?;
        let e = self.prefix(mask, u32::from(n), 0)?;
        self.named_count(e)
    }
    fn clamped(&mut self, e: ExprId, n: u32) -> Option<Have> {
        let e = self.clamp(e, n);
        self.named_count(e)
    }
    fn named_count(&mut self, e: ExprId) -> Option<Have> {
        match self.k.exprs[e].op {
            Op::Lit(Lit::Int(v)) => Some(Have::Exactly(i64::try_from(v).ok()?)),
            _ => Some(Have::Named(self.let_("have", e))),
        }
    }
    /// `clamp(e, 0, n)` as an i64.
    fn clamp(&mut self, e: ExprId, n: u32) -> ExprId {
        if let Op::Lit(Lit::Int(v)) = self.k.exprs[e].op {
            return self.int(v.clamp(0, i128::from(n)) as i64);
        }
        let ty = self.k.exprs[e].ty.clone();
        let d = ty.elem().unwrap_or(DType::I64);
        let (lo, hi) = (self.lit(0, d), self.lit(i128::from(n), d));
        let e = self.node(Op::Clamp, &[e, lo, hi], ty);
        if d == DType::I64 { e } else { self.node(Op::Cast, &[e], Ty::Scalar(DType::I64)) }
    }
    /// The number of leading elements that a mask switches on, from 0 to `n`.
    fn prefix(&mut self, mask: ExprId, n: u32, depth: u32) -> Option<ExprId> {
        let Expr { op, args, .. } = self.k.exprs[mask].clone();
        match op {
            Op::MaskLt => {
                let (base, end) = (*args.first()?, *args.get(1)?);
                if let (Op::Lit(Lit::Int(a)), Op::Lit(Lit::Int(b))) = (&self.k.exprs[base].op, &self.k.exprs[end].op) {
                    let v = (b - a).clamp(0, i128::from(n));
                    return Some(self.int(v as i64));
                }
                let ty = self.k.exprs[end].ty.clone();
                let (base, end) = (self.copy(base), self.copy(end));
                let left = self.node(Op::Bin(BinOp::Sub), &[end, base], ty);
                Some(self.clamp(left, n))
            }
            Op::Bin(BinOp::And) => {
                let (a, b) = (self.prefix(*args.first()?, n, depth)?, self.prefix(*args.get(1)?, n, depth)?);
                Some(self.node(Op::Bin(BinOp::Min), &[a, b], Ty::Scalar(DType::I64)))
            }
            Op::Splat => {
                let (c, all, none) = (self.copy(*args.first()?), self.int(i64::from(n)), self.int(0));
                Some(self.node(Op::Select, &[c, all, none], Ty::Scalar(DType::I64)))
            }
            // What is said elsewhere must still be so here.
            Op::Var(v) if depth < 8 => {
                let e = *self.lets.get(&v)?;
                if self.settled(e) { self.prefix(e, n, depth + 1) } else { None }
            }
            _ => None,
        }
    }
    /// Whether an expression has the same value wherever its variables are in scope.
    fn settled(&self, e: ExprId) -> bool {
        let x = &self.k.exprs[e];
        let own = match x.op {
            Op::Var(v) => self.k.vars[v].kind != VarKind::Var,
            Op::At(_) => false,
            _ => true,
        };
        own && x.args.iter().all(|a| self.settled(*a))
    }
    /// The mask of which a condition says that all its elements are on.
    fn tested_mask(&self, cond: ExprId) -> Option<ExprId> {
        let test = match self.k.exprs[cond].op {
            Op::Var(v) => &self.k.exprs[*self.lets.get(&v)?],
            _ => &self.k.exprs[cond],
        };
        test.args.first().copied().filter(|_| test.op == Op::Hred(HOp::And))
    }
    fn same(&self, a: ExprId, b: ExprId) -> bool {
        let (x, y) = (&self.k.exprs[a], &self.k.exprs[b]);
        x.op == y.op && x.ty == y.ty && x.args.len() == y.args.len() && x.args.iter().zip(&y.args).all(|(a, b)| self.same(*a, *b))
    }

    /// Value of the elements that are switched off.
    fn off_value(&mut self, a: &Access, other: Option<ExprId>) -> ExprId {
        let d = self.k.bufs[a.buf].dtype;
        match other {
            Some(o) => o,
            None if d.is_float() => self.node(Op::Lit(Lit::float(0.0)), &[], Ty::Scalar(d)),
            None => self.lit(0, d),
        }
    }
    /// Makes a `let` a variable that is assigned below; what it holds until then is never seen.
    fn open_var(&mut self, var: VarId, a: &Access, other: Option<ExprId>) -> Place {
        self.k.vars[var].kind = VarKind::Var;
        let first = self.off_value(a, other);
        let (first, ty) = (self.copy(first), self.k.vars[var].ty.clone());
        let first = self.node(Op::Splat, &[first], ty);
        self.push(Stmt::Def { var, init: Some(Rhs::Expr(first)) });
        Place { var, idx: Default::default(), len: Default::default() }
    }
    fn new_var(&mut self, name: &str, ty: Ty) -> VarId {
        let mut free = name.to_string();
        let mut i = self.numbers.get(name).copied().unwrap_or(1);
        while !self.names.insert(free.clone()) {
            i += 1;
            free = format!("{name}_{i}");
        }
        self.numbers.insert(name.into(), i);
        self.k.vars.push(Var { name: free, ty, arr: Default::default(), kind: VarKind::Let })
    }
    fn let_(&mut self, name: &str, e: ExprId) -> VarId {
        let ty = self.k.exprs[e].ty.clone();
        let v = self.new_var(name, ty);
        self.push(Stmt::Def { var: v, init: Some(Rhs::Expr(e)) });
        v
    }
    fn node(&mut self, op: Op, args: &[ExprId], ty: Ty) -> ExprId {
        self.k.exprs.push(Expr { op, args: args.iter().copied().collect(), ty })
    }
    fn lit(&mut self, v: i128, d: DType) -> ExprId {
        self.node(Op::Lit(Lit::Int(v)), &[], Ty::Scalar(d))
    }
    fn int(&mut self, v: i64) -> ExprId {
        self.lit(v.into(), DType::I64)
    }
    fn var(&mut self, v: VarId) -> ExprId {
        let ty = self.k.vars[v].ty.clone();
        self.node(Op::Var(v), &[], ty)
    }
    fn at_least(&mut self, count: VarId, n: u32) -> ExprId {
        let (c, n) = (self.var(count), self.int(n.into()));
        self.node(Op::Cmp(CmpOp::Ge), &[c, n], Ty::BOOL)
    }
    /// A tree of its own: every node has one parent.
    fn copy(&mut self, e: ExprId) -> ExprId {
        let mut x = self.k.exprs[e].clone();
        x.args.iter_mut().for_each(|a| *a = self.copy(*a));
        self.k.exprs.push(x)
    }
    fn copy_access(&mut self, a: &Access) -> Access {
        let mut a = a.clone();
        a.idx.iter_mut().for_each(|i| *i = self.copy(*i));
        a
    }
}

/// Elements of a vector's memory.
fn row(buf: BufId, at: ExprId, len: u32) -> Access {
    Access { buf, idx: [at].into_iter().collect(), len: [len].into_iter().collect() }
}

/// Where a piece begins, from the first element of its access.
#[derive(Copy, Clone)]
enum At {
    Plus(i64),
    Var(VarId),
}

impl At {
    /// Behind that many elements; only where the place is a constant.
    fn plus(self, n: u32) -> At {
        match self {
            At::Plus(a) => At::Plus(a + i64::from(n)),
            At::Var(_) => self,
        }
    }
}
