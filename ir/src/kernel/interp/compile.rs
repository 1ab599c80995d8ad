// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flat code of statements.

use std::collections::{BTreeMap, HashMap, HashSet};

use smallvec::SmallVec;

use super::code::{BarAt, Block, BufShape, CONST, CondAt, CopyOp, FragOp, Ins, Ix, MemOp, Program, RoleCode, SliceOp, Slot};
use super::compile_expr::{Cx, elems, malformed};
use super::{Args, FaultKind, Run, Stop};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{
    Access, BarRef, Cond, ExprId, Kernel, LoopKind, Module, Place, Place2, Rhs, Space, Stmt, StmtId, Ty, VarId, VarKind, Via,
};
use crate::numerics;
use crate::sym::SymExpr;

/// Registers and instructions beyond which a kernel is not run.
const MAX_SLOTS: u32 = 1 << 24;
const MAX_CODE: usize = 4_000_000;

pub(super) struct Compiler<'a> {
    pub m: &'a Module,
    pub k: &'a Kernel,
    pub syms: &'a BTreeMap<String, i64>,
    pub lanes: u32,
    pub grid: [i64; 3],
    pub group_slots: [Slot; 3],
    pub inline_depth: u32,
    code: Vec<Ins>,
    stmt: Vec<StmtId>,
    at: StmtId,
    consts: Vec<u64>,
    const_at: HashMap<(u64, u32), Slot>,
    lane_const_at: HashMap<Vec<u64>, Slot>,
    const_value: HashMap<Slot, u64>,
    bump: u32,
    high: u32,
    vars: Vec<Option<Slot>>,
    taints: Vec<bool>,
    mutable: Vec<bool>,
    seeded: bool,
    has_poison: bool,
    accs: HashSet<VarId>,
    roles: Vec<RoleCode>,
}

/// Compiles a kernel for the symbols of a launch.
pub(super) fn compile(m: &Module, k: &Kernel, args: &Args) -> Run<Program> {
    for s in &k.syms {
        match args.syms.get(&s.name) {
            Some(v) if (s.lo..=s.hi).contains(v) && v % s.div.max(1) == 0 => {}
            Some(v) => return Err(Stop::new(FaultKind::Arguments, format!("symbol {} is {v}, outside its range", s.name))),
            None => return Err(Stop::new(FaultKind::Arguments, format!("symbol {} has no value", s.name))),
        }
    }
    let eval = |e: &SymExpr| {
        let v = e.eval(&|n| args.syms.get(n).copied());
        v.ok_or_else(|| Stop::new(FaultKind::Arguments, format!("{e:?} has no value")))
    };
    let mut grid = [0; 3];
    for (g, e) in grid.iter_mut().zip(&k.launch.grid) {
        *g = eval(e)?.max(0);
    }
    let mut bufs = Vec::new();
    for b in k.bufs.values() {
        let dims = b.dims.iter().map(eval).collect::<Run<SmallVec<[i64; 6]>>>()?;
        let strides = b.strides.iter().map(eval).collect::<Run<SmallVec<[i64; 6]>>>()?;
        let empty = dims.iter().any(|d| *d <= 0);
        let last = dims.iter().zip(&strides).try_fold(0i64, |a, (d, s)| a.checked_add((d - 1).checked_mul(*s)?));
        let bytes = last.filter(|l| *l >= 0 && strides.iter().all(|s| *s >= 0)).and_then(|l| b.dtype.bytes_for(l as u64 + 1));
        let bytes = if empty { Some(0) } else { bytes };
        let Some(bytes) = bytes else { return malformed(format!("buffer `{}` has no size", b.name)) };
        if b.space != Space::Global && bytes.saturating_mul(u64::from(k.launch.group)) > 1 << 33 {
            return malformed(format!("buffer `{}` takes {bytes} bytes", b.name));
        }
        bufs.push(BufShape { dtype: b.dtype, dims, strides, bytes });
    }
    let lanes = k.launch.group.max(1);
    let mut c = Compiler {
        m,
        k,
        syms: &args.syms,
        lanes,
        grid,
        group_slots: [0, 1, 2],
        inline_depth: 0,
        code: Vec::new(),
        stmt: Vec::new(),
        at: StmtId::new(0),
        consts: Vec::new(),
        const_at: HashMap::new(),
        lane_const_at: HashMap::new(),
        const_value: HashMap::new(),
        bump: 3,
        high: 3,
        vars: vec![None; k.vars.len()],
        taints: Vec::new(),
        mutable: Vec::new(),
        seeded: k.stmts.values().any(seeds),
        has_poison: false,
        accs: k.stmts.values().filter_map(|s| if let Stmt::MmaAsync { acc, .. } = s { Some(acc.var) } else { None }).collect(),
        roles: Vec::new(),
    };
    for (v, bits) in k.abi_scalars().zip(args.scalars.iter()) {
        let s = c.constant(*bits, 1);
        c.vars[v.index()] = Some(s);
    }
    let with_stmt = |c: &Compiler<'_>, mut s: Stop| {
        s.stmt.get_or_insert(c.at);
        s
    };
    if let Err(s) = c.body() {
        return Err(with_stmt(&c, s));
    }
    Ok(Program {
        code: c.code,
        stmt: c.stmt,
        consts: c.consts,
        slots: c.high,
        group_slots: c.group_slots,
        has_poison: c.has_poison,
        roles: c.roles,
        grid,
        lanes,
        bufs,
    })
}

/// Whether a statement can make elements that are not defined.
fn seeds(s: &Stmt) -> bool {
    let rhs = match s {
        Stmt::Def { init: Some(r), .. } | Stmt::Set { val: r, .. } => r,
        _ => return false,
    };
    match rhs {
        Rhs::Load { cond, other, .. } | Rhs::Gather { cond, other, .. } => *cond != Cond::Always && other.is_none(),
        Rhs::Atomic { cond, .. } => *cond != Cond::Always,
        _ => false,
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn emit(&mut self, i: Ins) {
        self.code.push(i);
        self.stmt.push(self.at);
    }
    pub(super) fn alloc(&mut self, n: u32) -> Slot {
        let s = self.bump;
        self.bump = self.bump.saturating_add(n);
        self.high = self.high.max(self.bump);
        s
    }
    /// A constant in `n` elements of every lane.
    pub(super) fn constant(&mut self, bits: u64, n: u32) -> Slot {
        if let Some(s) = self.const_at.get(&(bits, n)) {
            return *s;
        }
        let s = CONST | (self.consts.len() / self.lanes as usize) as u32;
        self.consts.extend(std::iter::repeat_n(bits, n as usize * self.lanes as usize));
        self.const_at.insert((bits, n), s);
        self.const_value.insert(s, bits);
        s
    }
    /// A constant with a value for each lane.
    pub(super) fn lane_constants(&mut self, values: Vec<u64>) -> Slot {
        if let Some(s) = self.lane_const_at.get(&values) {
            return *s;
        }
        let s = CONST | (self.consts.len() / self.lanes as usize) as u32;
        self.consts.extend_from_slice(&values);
        self.lane_const_at.insert(values, s);
        s
    }
    pub(super) fn const_of(&self, s: Slot) -> Option<u64> {
        self.const_value.get(&s).copied()
    }
    pub(super) fn tainted(&self, s: Slot) -> bool {
        self.taints.get(s as usize).copied().unwrap_or(false)
    }
    pub(super) fn taint(&mut self, s: Slot) {
        self.mark(s, 1, true, false);
    }
    fn mark(&mut self, s: Slot, n: u32, taint: bool, mutable: bool) {
        let end = (s + n) as usize;
        if self.taints.len() < end {
            self.taints.resize(end, false);
        }
        if self.mutable.len() < end {
            self.mutable.resize(end, false);
        }
        for i in s as usize..end {
            self.taints[i] |= taint;
            self.mutable[i] |= mutable;
        }
        self.has_poison |= taint;
    }
    fn release(&mut self, mark: u32) {
        self.bump = mark;
        self.taints.truncate(mark as usize);
        self.mutable.truncate(mark as usize);
    }
    pub(super) fn slot_of(&self, v: VarId) -> Run<Slot> {
        match self.vars.get(v.index()).copied().flatten() {
            Some(s) => Ok(s),
            None => malformed(format!("`{}` is used before it is defined", self.k.vars[v].name)),
        }
    }
    pub(super) fn slots_of(&self, t: &Ty) -> Run<u32> {
        let n = match t {
            Ty::Frag(a, o) => match self.m.atoms.get(*a).and_then(|a| a.regs(*o)) {
                Some(n) => n,
                None => return malformed("a fragment that no lane holds"),
            },
            t => elems(t),
        };
        if n > MAX_SLOTS { malformed("a value of too many elements") } else { Ok(n) }
    }

    fn body(&mut self) -> Run<()> {
        let k = self.k;
        let roles = k.body.iter().position(|s| matches!(k.stmts[*s], Stmt::Role { .. })).unwrap_or(k.body.len());
        let (before, after) = k.body.split_at(roles);
        for s in before {
            self.stmt(*s)?;
        }
        if after.is_empty() {
            self.emit(Ins::End);
            return Ok(());
        }
        self.emit(Ins::Roles);
        for s in after {
            self.at = *s;
            let Stmt::Role { name, warps, body, .. } = &k.stmts[*s] else {
                return malformed("a statement behind the roles");
            };
            let warp = k.launch.warp.max(1);
            let (a, b) = warps.map_or((0, self.lanes), |(a, b)| (a.saturating_mul(warp), b.saturating_mul(warp)));
            if a >= b || b > self.lanes {
                return malformed("a role of no lanes");
            }
            let start = self.code.len() as u32;
            self.roles.push(RoleCode { name: name.clone(), start, lanes: (a, b - a) });
            // Streams run interleaved, so their registers lie apart.
            self.bump = self.high;
            for s in body {
                self.stmt(*s)?;
            }
            self.emit(Ins::End);
        }
        Ok(())
    }

    fn block(&mut self, b: &'a [StmtId]) -> Run<()> {
        let mark = self.bump;
        for s in b {
            self.stmt(*s)?;
        }
        self.release(mark);
        Ok(())
    }

    pub(super) fn ix(&mut self, e: ExprId) -> Run<Ix> {
        let (slot, n) = self.expr(e, &Cx::Kernel)?;
        self.no_poison(slot, n, "an address");
        let wide = match self.k.exprs[e].ty.elem() {
            Some(DType::I64) => true,
            Some(DType::I32) => false,
            _ => return malformed("an index is i32 or i64"),
        };
        Ok(Ix { slot, wide })
    }
    pub(super) fn access(&mut self, a: &Access) -> Run<Block> {
        if self.k.bufs[a.buf].dims.len() != a.idx.len() {
            return malformed(format!("buffer `{}` has {} dims", self.k.bufs[a.buf].name, self.k.bufs[a.buf].dims.len()));
        }
        let idx = a.idx.iter().map(|e| self.ix(*e)).collect::<Run<_>>()?;
        Ok(Block { buf: a.buf, idx, len: a.len.clone() })
    }
    pub(super) fn cond(&mut self, c: &Cond, n: u32) -> Run<CondAt> {
        Ok(match c {
            Cond::Always => CondAt::Always,
            Cond::When(e) => {
                let (s, _) = self.expr(*e, &Cx::Kernel)?;
                self.no_poison(s, 1, "a condition");
                CondAt::When(s)
            }
            Cond::Mask(e) => {
                let (s, c) = self.expr(*e, &Cx::Kernel)?;
                self.no_poison(s, c, "a mask");
                CondAt::Mask(self.broadcast(s, if c == 1 { n } else { 1 }))
            }
            Cond::Valid(v) => CondAt::Valid(v.iter().map(|e| self.ix(*e)).collect::<Run<_>>()?),
        })
    }
    pub(super) fn other(&mut self, o: &Option<ExprId>) -> Run<Option<Slot>> {
        Ok(match o {
            Some(e) => {
                let (s, _) = self.expr(*e, &Cx::Kernel)?;
                self.no_poison(s, 1, "a fill value");
                Some(s)
            }
            None => None,
        })
    }
    fn bar(&mut self, b: &BarRef) -> Run<Box<BarAt>> {
        let dims = self.k.bars[b.bar].dims.clone();
        if dims.len() != b.idx.len() {
            return malformed("a signal is named with other indices than it was declared with");
        }
        let idx = b.idx.iter().map(|e| self.ix(*e)).collect::<Run<_>>()?;
        Ok(Box::new(BarAt { bar: b.bar.index() as u32, dims, idx }))
    }
    pub(super) fn place(&mut self, p: &Place) -> Run<(Slot, u32)> {
        let var = &self.k.vars[p.var];
        let each = self.slots_of(&var.ty)?;
        let base = self.slot_of(p.var)?;
        let at = if var.arr.is_empty() { 0 } else { self.array_index(p.var, &p.idx)? };
        Ok((base + at * each, each))
    }
    /// The lanes read or write an accumulator that a matrix unit may be writing.
    pub(super) fn acc_use(&mut self, v: VarId, write: bool) {
        if self.accs.contains(&v) {
            self.emit(Ins::AccUse { var: v, write });
        }
    }
    /// A value in memory of its own: not that of a variable that may change.
    fn own(&mut self, s: Slot, n: u32) -> Slot {
        if Self::is_const(s) || !self.mutable.get(s as usize).copied().unwrap_or(false) {
            return s;
        }
        let o = self.alloc(n);
        self.emit(Ins::Copy { n, a: s, o });
        if self.tainted(s) {
            self.emit(Ins::Poison { n, o, from: smallvec::smallvec![(s, n)] });
            self.taint(o);
        }
        o
    }

    pub(super) fn frag_op(&mut self, at: &Access, ty: &Ty, order: [u8; 2], via: Via, regs: Slot) -> Run<Box<FragOp>> {
        let Ty::Frag(atom, operand) = *ty else { return malformed("no fragment") };
        let tile = matches!(self.m.atoms[atom].operand(operand), Place2::TileReg { .. });
        if tile != (via == Via::Tile) {
            return malformed(format!("a fragment of `{}` does not move via {}", self.m.atoms[atom].name, via.name()));
        }
        Ok(Box::new(FragOp { at: self.access(at)?, atom, operand, order, regs, tile }))
    }

    fn stmt(&mut self, id: StmtId) -> Run<()> {
        self.at = id;
        if self.code.len() > MAX_CODE || self.bump > MAX_SLOTS {
            return malformed("a kernel of too many statements after unrolling");
        }
        let k = self.k;
        match &k.stmts[id] {
            Stmt::Def { var, init } => self.def(*var, init.as_ref()),
            Stmt::Set { place, val } => self.set(place, val),
            Stmt::Store { to, val, cond } => {
                let n = to.elems();
                let at = self.access(to)?;
                self.store(at, *val, cond, n, false)
            }
            Stmt::Scatter { to, val, cond } => {
                let mut at = self.access(to)?;
                let n = to.idx.iter().map(|e| k.exprs[*e].ty.lanes().map_or(1, u32::from)).max().unwrap_or(1);
                for (ix, e) in at.idx.iter_mut().zip(&to.idx) {
                    if k.exprs[*e].ty.lanes().map_or(1, u32::from) != n {
                        ix.slot = self.broadcast(ix.slot, n);
                    }
                }
                self.store(at, *val, cond, n, true)
            }
            Stmt::FragStore { to, val, order, via } => {
                self.acc_use(val.var, false);
                let mark = self.bump;
                let (regs, n) = self.place(val)?;
                self.no_poison(regs, n, "a store");
                let op = self.frag_op(to, &k.vars[val.var].ty, *order, *via, regs)?;
                self.emit(Ins::FragStore(op));
                self.release(mark);
                Ok(())
            }
            Stmt::Alloc(b) => {
                self.emit(Ins::Alloc(*b));
                Ok(())
            }
            Stmt::For { var, lo, hi, step, kind, body } => self.loop_(*var, [*lo, *hi, *step], kind, body),
            Stmt::If { cond, then, els } => {
                let mark = self.bump;
                let (c, _) = self.expr(*cond, &Cx::Kernel)?;
                self.no_poison(c, 1, "a condition");
                // A condition that is known chooses now, which is what makes unrolled code short.
                if let Some(v) = self.const_of(c) {
                    self.release(mark);
                    return self.block(if v & 1 != 0 { then } else { els });
                }
                let head = self.code.len();
                self.emit(Ins::If { cond: c, els: 0 });
                self.block(then)?;
                self.at = id;
                let end = self.code.len() as u32;
                if !els.is_empty() {
                    self.emit(Ins::Else { end: 0 });
                    self.block(els)?;
                    self.at = id;
                    let last = self.code.len() as u32;
                    if let Some(Ins::Else { end }) = self.code.get_mut(end as usize) {
                        *end = last;
                    }
                }
                if let Some(Ins::If { els, .. }) = self.code.get_mut(head) {
                    *els = end;
                }

                self.emit(Ins::EndIf);
                self.release(mark);
                Ok(())
            }
            Stmt::Role { .. } => malformed("a role inside a block"),
            Stmt::Each { frag, val, coords, body } => self.each(frag, *val, *coords, body),
            Stmt::CopyAsync { q, dst, src, cond, other } => {
                let mark = self.bump;
                let (dst, n) = (self.access(dst)?, src.elems());
                let src = self.access(src)?;
                let lens = |b: &Block| b.len.iter().copied().filter(|l| *l > 1).collect::<Vec<_>>();
                if lens(&dst) != lens(&src) || k.bufs[dst.buf].dtype != k.bufs[src.buf].dtype {
                    return malformed("a copy between blocks that differ");
                }
                let cond = self.cond(cond, n)?;
                let other = self.other(other)?;
                self.emit(Ins::CopyAsync(Box::new(CopyOp { queue: q.index() as u32, dst, src, cond, other })));
                self.release(mark);
                Ok(())
            }
            Stmt::Commit(q) => {
                self.emit(Ins::Commit(q.index() as u32));
                Ok(())
            }
            Stmt::Wait(q, n) => {
                self.emit(Ins::Wait(q.index() as u32, u32::from(*n)));
                Ok(())
            }
            Stmt::CopyBulk { dst, src, bar } => {
                let mark = self.bump;
                let (dst, src, bar) = (Box::new(self.access(dst)?), Box::new(self.access(src)?), self.bar(bar)?);
                self.emit(Ins::CopyBulk { dst, src, bar });
                self.release(mark);
                Ok(())
            }
            Stmt::BarInit(b, e) => self.signal(b, Some(*e), Ins::BarInit),
            Stmt::BarExpect(b, e) => self.signal(b, Some(*e), Ins::BarExpect),
            Stmt::BarWait(b, e) => self.signal(b, Some(*e), Ins::BarWait),
            Stmt::BarArrive(b) => self.signal(b, None, |b, _| Ins::BarArrive(b)),
            Stmt::Barrier(l) => {
                self.emit(Ins::Barrier(*l));
                Ok(())
            }
            Stmt::Fence(f) => {
                self.emit(if *f == crate::kernel::Fence::Init { Ins::FenceInit } else { Ins::FenceProxy });
                Ok(())
            }
            Stmt::MmaAsync { atom, acc, a, b } => {
                let mark = self.bump;
                let (s, _) = self.place(acc)?;
                let (a, b) = (Box::new(self.access(a)?), Box::new(self.access(b)?));
                self.emit(Ins::MmaAsync { atom: *atom, acc: s, var: acc.var, a, b });
                self.release(mark);
                Ok(())
            }
            Stmt::MmaFence => {
                self.emit(Ins::MmaFence);
                Ok(())
            }
            Stmt::MmaCommit => {
                self.emit(Ins::MmaCommit);
                Ok(())
            }
            Stmt::MmaWait(n) => {
                self.emit(Ins::MmaWait(u32::from(*n)));
                Ok(())
            }
            Stmt::Prefetch(_) => Ok(()),
            Stmt::Assume(e) => {
                let mark = self.bump;
                let (s, _) = self.expr(*e, &Cx::Kernel)?;
                self.no_poison(s, 1, "an assumption");
                self.emit(Ins::Assume(s));
                self.release(mark);
                Ok(())
            }
        }
    }

    fn signal(&mut self, b: &BarRef, e: Option<ExprId>, f: impl FnOnce(Box<BarAt>, Slot) -> Ins) -> Run<()> {
        let mark = self.bump;
        let bar = self.bar(b)?;
        let s = match e {
            Some(e) => {
                let (s, _) = self.expr(e, &Cx::Kernel)?;
                self.no_poison(s, 1, "a signal");
                s
            }
            None => 0,
        };
        self.emit(f(bar, s));
        self.release(mark);
        Ok(())
    }

    fn store(&mut self, at: Block, val: ExprId, cond: &Cond, n: u32, indexed: bool) -> Run<()> {
        let mark = self.bump;
        let (val, c) = self.expr(val, &Cx::Kernel)?;
        if c != n {
            return malformed(format!("a store of {c} elements to {n}"));
        }
        let cond = self.cond(cond, n)?;
        // Elements that are switched off may be undefined; the others are checked by the store.
        if matches!(cond, CondAt::Always) {
            self.no_poison(val, n, "a store");
        }
        self.emit(Ins::Store(Box::new(MemOp { at, cond, other: None, n, val, indexed })));
        self.release(mark);
        Ok(())
    }

    fn def(&mut self, v: VarId, init: Option<&'a Rhs>) -> Run<()> {
        let var = &self.k.vars[v];
        let each = self.slots_of(&var.ty)?;
        if var.kind == VarKind::Let && var.arr.is_empty() {
            let Some(r) = init else { return malformed("a `let` without a value") };
            let (s, n) = self.rhs(r, &var.ty)?;
            if n != each {
                return malformed(format!("`{}` has {each} elements, its value {n}", var.name));
            }
            let s = self.own(s, n);
            self.vars[v.index()] = Some(s);
            return Ok(());
        }
        let count: u32 = var.arr.iter().product();
        if u64::from(count) * u64::from(each) > u64::from(MAX_SLOTS) {
            return malformed("an array of too many registers");
        }
        let total = count * each;
        let s = self.alloc(total);
        self.vars[v.index()] = Some(s);
        let mark = self.bump;
        let mut tainted = self.seeded;
        match init {
            None => {
                tainted = true;
                self.emit(Ins::PoisonSet { n: total, a: None, o: s });
            }
            Some(r) => {
                let (x, n) = self.rhs(r, &var.ty)?;
                if n != each {
                    return malformed(format!("`{}` has {each} elements, its value {n}", var.name));
                }
                let from_taint = self.tainted(x);
                tainted |= from_taint;
                for i in 0..count {
                    self.emit(Ins::Copy { n: each, a: x, o: s + i * each });
                    if tainted {
                        self.emit(Ins::PoisonSet { n: each, a: Some(if from_taint { x } else { CONST }), o: s + i * each });
                    }
                }
            }
        }
        self.release(mark);
        self.mark(s, total, tainted, true);
        self.acc_use(v, true);
        Ok(())
    }

    fn set(&mut self, p: &Place, val: &'a Rhs) -> Run<()> {
        let mark = self.bump;
        let var = &self.k.vars[p.var];
        self.acc_use(p.var, true);
        if let Ty::Tile { dims, .. } = &var.ty
            && !p.len.is_empty()
        {
            let tile = self.slot_of(p.var)?;
            let idx = p.idx.iter().map(|e| self.ix(*e)).collect::<Run<_>>()?;
            let (x, n) = self.rhs(val, &Ty::Tile { dtype: DType::F32, dims: p.len.clone(), home: crate::kernel::Home::Vec })?;
            if n != p.len.iter().product::<u32>() || p.len.len() != dims.len() {
                return malformed("a slice that does not fit its value");
            }
            self.no_poison(x, n, "a slice of a tile");
            self.emit(Ins::Slice(Box::new(SliceOp { tile, dims: dims.clone(), idx, len: p.len.clone(), val: x })));
            self.release(mark);
            return Ok(());
        }
        let (o, each) = self.place(p)?;
        let (x, n) = self.rhs(val, &var.ty)?;
        if n != each {
            return malformed(format!("`{}` has {each} elements, its value {n}", var.name));
        }
        self.emit(Ins::Set { n, a: x, o });
        if self.tainted(o) {
            let from = if self.tainted(x) { x } else { CONST };
            self.emit(Ins::PoisonSet { n, a: Some(from), o });
        } else if self.tainted(x) {
            return malformed("a value that may be undefined in a variable that may not");
        }
        self.release(mark);
        Ok(())
    }

    fn loop_(&mut self, var: VarId, [lo, hi, step]: [ExprId; 3], kind: &'a LoopKind, body: &'a [StmtId]) -> Run<()> {
        let id = self.at;
        let mark = self.bump;
        let Some(d) = self.k.vars[var].ty.elem().filter(|d| matches!(d, DType::I32 | DType::I64)) else {
            return malformed("a counter is i32 or i64");
        };
        let values: Vec<i64> = match kind {
            LoopKind::List(v) => v.clone(),
            LoopKind::Unroll => {
                let (Some(a), Some(b), Some(s)) = (self.const_expr(lo)?, self.const_expr(hi)?, self.const_expr(step)?) else {
                    return malformed("the bounds of an unrolled loop are not constant");
                };
                if s <= 0 || (b - a) / s > 65536 {
                    return malformed("an unrolled loop of too many steps");
                }
                (a..b).step_by(s as usize).collect()
            }
            LoopKind::Seq => {
                let mut s = [0; 3];
                for (s, e) in s.iter_mut().zip([lo, hi, step]) {
                    let (x, _) = self.expr(e, &Cx::Kernel)?;
                    self.no_poison(x, 1, "a bound");
                    *s = self.own(x, 1);
                }
                let v = self.alloc(1);
                self.vars[var.index()] = Some(v);
                let head = self.code.len();
                self.emit(Ins::ForInit { d, var: v, lo: s[0], hi: s[1], step: s[2], exit: 0 });
                self.block(body)?;
                self.at = id;
                self.emit(Ins::ForNext { d, var: v, hi: s[1], step: s[2], body: head as u32 + 1 });
                let end = self.code.len() as u32;
                if let Some(Ins::ForInit { exit, .. }) = self.code.get_mut(head) {
                    *exit = end;
                }
                self.release(mark);
                return Ok(());
            }
        };
        for v in values {
            let c = self.constant(numerics::int_to_bits(d, v.into()), 1);
            self.vars[var.index()] = Some(c);
            self.block(body)?;
            self.at = id;
        }
        self.release(mark);
        Ok(())
    }

    fn each(&mut self, frag: &Place, val: VarId, coords: [VarId; 2], body: &'a [StmtId]) -> Run<()> {
        let id = self.at;
        self.acc_use(frag.var, false);
        let mark = self.bump;
        let Ty::Frag(atom, o) = self.k.vars[frag.var].ty else { return malformed("`each` of no fragment") };
        let (regs, n) = self.place(frag)?;
        self.no_poison(regs, n, "`each`");
        let a = &self.m.atoms[atom];
        let width = elems(&self.k.vars[val].ty);
        if width == 0
            || !n.is_multiple_of(width)
            || (width > 1 && width != a.each_width())
            || !matches!(a.operand(o), Place2::PerLane { .. })
        {
            return malformed(format!("`each` of {width} registers of `{}`", a.name));
        }
        let lanes = u32::from(a.lanes.max(1));
        for r in (0..n).step_by(width as usize) {
            let s = self.alloc(width);
            self.emit(Ins::Copy { n: width, a: regs + r, o: s });
            self.vars[val.index()] = Some(s);
            for (i, c) in coords.iter().enumerate() {
                let d = self.k.vars[*c].ty.elem().unwrap_or(DType::I32);
                let at = |l: u32| numerics::int_to_bits(d, i128::from(a.coord(o, l % lanes, r)[i]));
                let values = (0..self.lanes).map(at).collect();
                self.vars[c.index()] = Some(self.lane_constants(values));
            }
            self.block(body)?;
            self.at = id;
            self.release(mark);
        }
        Ok(())
    }
}
