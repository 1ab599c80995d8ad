// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scopes, types and operands of statements.

use std::collections::BTreeSet;

use super::{Verifier, home_slot};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{
    Access, BarRef, Block, Class, Cond, ExprId, Layout, LoopKind, Op, Operand, Param, Place, Place2, Rhs, Space, Stmt, StmtId, Ty, VarId,
    VarKind, Via, VoteKind, print,
};

const I32: Ty = Ty::Scalar(DType::I32);
const MAX_DEPTH: u32 = 64;

/// Names that are seen at a point, and which of them have a value.
#[derive(Clone)]
pub(super) struct Scope {
    pub seen: Vec<bool>,
    pub assigned: Vec<bool>,
    names: BTreeSet<String>,
    /// Bytes of live tiles by home.
    tiles: [u64; 4],
}

impl Verifier<'_> {
    pub(super) fn statements(&mut self) {
        let k = self.k;
        let n = k.vars.len();
        let mut s = Scope { seen: vec![false; n], assigned: vec![false; n], names: BTreeSet::new(), tiles: [0; 4] };
        s.names.extend(k.bufs.values().map(|b| b.name.clone()));
        s.names.extend(k.syms.iter().map(|x| x.name.clone()));
        s.names.extend(k.queues.values().map(|q| q.name.clone()));
        s.names.extend(k.bars.values().map(|q| q.name.clone()));
        for v in k.abi_scalars() {
            s.seen[v.index()] = true;
            s.assigned[v.index()] = true;
            s.names.insert(k.vars[v].name.clone());
        }
        let mut expanded = 0u64;
        self.block(&k.body, &mut s, 1, &mut expanded);
        self.at = None;
        let max = self.limits.statements;
        self.need(expanded <= max, || format!("{expanded} statements after unrolling, at most {max} are meant"));
        self.roles();
    }

    fn roles(&mut self) {
        let k = self.k;
        let first = k.body.iter().position(|s| matches!(k.stmts[*s], Stmt::Role { .. }));
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut names = BTreeSet::new();
        for s in first.map_or(&[][..], |f| &k.body[f..]) {
            self.at = Some(*s);
            let Stmt::Role { name, warps, .. } = &k.stmts[*s] else {
                self.fault("roles end the body; nothing may follow them");
                continue;
            };
            self.need(names.insert(name.clone()), || format!("two roles are called `{name}`"));
            let all = k.launch.group / k.launch.warp.max(1);
            match warps {
                None => self.need(k.class == Class::TileCore, || "a role on simt names its warps".into()),
                Some((a, b)) => {
                    self.need(k.class == Class::Simt && a < b && *b <= all, || format!("warps {a}..{b} of {all}"));
                    let clash = taken.iter().any(|(x, y)| a < y && x < b);
                    self.need(!clash, || "a warp has two roles".into());
                    taken.push((*a, *b));
                }
            }
        }
        self.at = None;
    }

    fn enter(&mut self, v: VarId, s: &mut Scope, kinds: &[VarKind]) {
        let var = &self.k.vars[v];
        self.need(kinds.contains(&var.kind), || format!("`{}` is a {:?} variable here", var.name, var.kind));
        self.need(print::plain_name(&var.name), || format!("`{}` is no legal name", var.name));
        self.need(!s.seen[v.index()], || format!("`{}` is defined twice", var.name));
        self.need(s.names.insert(var.name.clone()), || format!("`{}` hides another name", var.name));
        s.seen[v.index()] = true;
    }

    fn block(&mut self, b: &Block, s: &mut Scope, times: u64, expanded: &mut u64) {
        if self.depth >= MAX_DEPTH {
            self.fault("blocks nested too deeply");
            return;
        }
        self.depth += 1;
        let (seen, names, tiles) = (s.seen.clone(), s.names.clone(), s.tiles);
        for id in b {
            *expanded = expanded.saturating_add(times);
            self.statement(*id, s, times, expanded);
        }
        (s.seen, s.names, s.tiles) = (seen, names, tiles);
        self.depth -= 1;
    }

    #[allow(clippy::too_many_lines)]
    fn statement(&mut self, id: StmtId, s: &mut Scope, times: u64, expanded: &mut u64) {
        self.at = Some(id);
        let k = self.k;
        match &k.stmts[id] {
            Stmt::Def { var, init } => {
                let v = &k.vars[*var];
                if let Some(r) = init {
                    self.rhs(r, &v.ty, s);
                }
                self.enter(*var, s, &[VarKind::Let, VarKind::Var]);
                let is_let = v.kind == VarKind::Let;
                self.need(init.is_some() || !is_let, || format!("`{}` is a `let` without a value", v.name));
                self.need(!is_let || v.arr.is_empty(), || format!("`{}` is an array that cannot be assigned", v.name));
                self.ty(&v.ty);
                s.assigned[var.index()] = init.is_some();
                if let Ty::Tile { dtype, dims, home } = &v.ty {
                    let n: u64 = dims.iter().map(|d| u64::from(*d)).product();
                    let h = home_slot(*home);
                    s.tiles[h] += dtype.bytes_for(n).unwrap_or(0);
                    let (have, room) = (s.tiles[h], self.limits.home_bytes[h]);
                    self.need(have <= room, || format!("{have} bytes of tiles in {}, there are {room}", home.name()));
                }
            }
            Stmt::Set { place, val } => {
                let v = &k.vars[place.var];
                self.need(v.kind == VarKind::Var, || format!("`{}` cannot be assigned", v.name));
                let ty = match &v.ty {
                    Ty::Tile { dtype, dims, home } if !place.len.is_empty() => {
                        self.need(place.idx.len() == dims.len(), || format!("`{}` has {} dims", v.name, dims.len()));
                        self.need(s.assigned[place.var.index()], || format!("a slice of `{}`, which has no value yet", v.name));
                        place.idx.iter().for_each(|e| self.index(*e, &s.seen));
                        Ty::Tile { dtype: *dtype, dims: place.len.clone(), home: *home }
                    }
                    t => {
                        self.place(place, s);
                        t.clone()
                    }
                };
                self.rhs(val, &ty, s);
                s.assigned[place.var.index()] = true;
            }
            Stmt::Store { to, val, cond } => {
                self.access(to, s, false, cond != &Cond::Always);
                let d = k.bufs[to.buf].dtype;
                let got = k.exprs[*val].ty.clone();
                self.expr(*val, None, &s.seen);
                self.read(*val, s);
                self.block_type(to, d, &got);
                self.cond(cond, to, to.elems(), s);
            }
            Stmt::Scatter { to, val, cond } => {
                let n = self.indexed(to, s, false);
                let want = Ty::of(k.bufs[to.buf].dtype, n);
                self.expr(*val, Some(&want), &s.seen);
                self.read(*val, s);
                self.cond(cond, to, n, s);
            }
            Stmt::FragStore { to, val, order, via } => {
                self.access(to, s, false, false);
                self.place_read(val, s);
                self.frag_move(&k.vars[val.var].ty, to, *order, *via);
            }
            Stmt::Alloc(b) => self.need(k.bufs[*b].space != Space::Global, || "`alloc` of global memory".into()),
            Stmt::For { var, lo, hi, step, kind, body } => {
                let ty = k.vars[*var].ty.clone();
                self.need(matches!(ty, Ty::Scalar(DType::I32 | DType::I64)), || format!("a counter of type {}", ty.show()));
                for e in [lo, hi, step] {
                    self.expr(*e, Some(&ty), &s.seen);
                    self.read(*e, s);
                }
                if let Some((a, b)) = self.range(*step) {
                    self.need(a > 0 || b > 0, || "a step that is not positive".into());
                }
                let before = s.assigned.clone();
                let (seen, names) = (s.seen.clone(), s.names.clone());
                self.enter(*var, s, &[if *kind == LoopKind::Seq { VarKind::Loop } else { VarKind::Unrolled }]);
                s.assigned[var.index()] = true;
                let count = match kind {
                    LoopKind::Seq => None,
                    LoopKind::List(v) => Some(v.len() as u64),
                    LoopKind::Unroll => {
                        let constant = [lo, hi, step].iter().all(|e| self.unroll_constant(**e));
                        self.need(constant, || "the bounds of an unrolled loop are not constant".into());
                        let r = [lo, hi, step].map(|e| self.range(*e).unwrap_or((0, 1)));
                        let n = (r[1].1 - r[0].0).max(0) / r[2].0.max(1);
                        Some(u64::try_from(n).unwrap_or(u64::MAX))
                    }
                };
                self.block(body, s, times.saturating_mul(count.unwrap_or(1).max(1)), expanded);
                (s.seen, s.names) = (seen, names);
                // A body that may not run assigns nothing.
                if count.is_none_or(|c| c == 0) {
                    s.assigned = before;
                }
            }
            Stmt::If { cond, then, els } => {
                self.expr(*cond, Some(&Ty::BOOL), &s.seen);
                self.read(*cond, s);
                let before = s.assigned.clone();
                self.block(then, s, times, expanded);
                let mut other = Scope { assigned: before, ..s.clone() };
                self.block(els, &mut other, times, expanded);
                s.assigned.iter_mut().zip(other.assigned).for_each(|(a, b)| *a &= b);
            }
            Stmt::Role { body, .. } => {
                self.need(self.depth == 1, || "a role stands in the body of the kernel".into());
                let before = s.assigned.clone();
                self.block(body, s, times, expanded);
                s.assigned = before;
            }
            Stmt::Each { frag, val, coords, body } => {
                self.place_read(frag, s);
                let v = &k.vars[*val];
                let mut copies = 1;
                match k.vars[frag.var].ty {
                    Ty::Frag(a, o) if matches!(self.m.atoms[a].operand(o), Place2::PerLane { .. }) => {
                        let atom = &self.m.atoms[a];
                        let n = u32::from(v.ty.lanes().unwrap_or(0));
                        let ok = v.ty.elem() == Some(atom.dtype(o)) && (n == 1 || n == atom.each_width());
                        self.need(ok, || {
                            format!("`{}` holds {} of {} neighbors, not {}", atom.name, atom.dtype(o), atom.each_width(), v.ty.show())
                        });
                        copies = u64::from(atom.regs(o).unwrap_or(1) / n.max(1));
                    }
                    _ => self.fault("`each` goes over a fragment whose elements lanes hold"),
                }
                let (seen, names) = (s.seen.clone(), s.names.clone());
                for v in [val, &coords[0], &coords[1]] {
                    self.enter(*v, s, &[VarKind::Bound]);
                    s.assigned[v.index()] = true;
                }
                let before = s.assigned.clone();
                self.block(body, s, times.saturating_mul(copies.max(1)), expanded);
                (s.seen, s.names, s.assigned) = (seen, names, before);
            }
            Stmt::CopyAsync { dst, src, cond, other, .. } => {
                self.need(k.class != Class::Cpu, || "an asynchronous copy on cpu".into());
                self.access(dst, s, false, cond != &Cond::Always && other.is_none());
                self.access(src, s, true, cond != &Cond::Always);
                let long = |a: &Access| a.len.iter().copied().filter(|n| *n > 1).collect::<Vec<_>>();
                let (d, x) = (&k.bufs[dst.buf], &k.bufs[src.buf]);
                self.need(long(dst) == long(src) && d.dtype == x.dtype, || "a copy between blocks that differ".into());
                self.need(!matches!(cond, Cond::Mask(_)), || "a copy takes `valid` or `when`, no mask".into());
                self.cond(cond, src, src.elems(), s);
                if let Some(o) = other {
                    self.expr(*o, Some(&Ty::Scalar(x.dtype)), &s.seen);
                }
            }
            Stmt::Commit(_) | Stmt::Wait(..) => self.need(k.class != Class::Cpu, || "a queue on cpu".into()),
            Stmt::CopyBulk { dst, src, bar } => {
                self.access(dst, s, false, false);
                self.access(src, s, true, true);
                self.bar(bar, s);
                let map = k.params.iter().find_map(|p| match p {
                    Param::TensorMap { buf, box_, swizzle } if *buf == src.buf => Some((box_, *swizzle)),
                    _ => None,
                });
                let Some((box_, swizzle)) = map else {
                    return self.fault("the source of a bulk copy is a tensor map");
                };
                let long = |v: &[u32]| v.iter().copied().filter(|n| *n > 1).collect::<Vec<_>>();
                self.need(src.len[..] == box_[..] && long(&dst.len) == long(&src.len), || "a bulk copy that is not the map's box".into());
                let b = &k.bufs[dst.buf];
                let fits = b.space == Space::Shared
                    && (b.layout == Layout::Hw(swizzle) || (swizzle.row_bytes() == 0 && b.layout == Layout::Plain));
                self.need(fits, || "the destination of a bulk copy is shared memory in the map's layout".into());
            }
            Stmt::BarInit(b, e) | Stmt::BarExpect(b, e) | Stmt::BarWait(b, e) => {
                self.bar(b, s);
                self.expr(*e, Some(&I32), &s.seen);
                self.read(*e, s);
            }
            Stmt::BarArrive(b) => self.bar(b, s),
            Stmt::MmaAsync { atom, acc, a, b } => {
                self.place_read(acc, s);
                self.access(a, s, true, false);
                self.access(b, s, true, false);
                let at = &self.m.atoms[*atom];
                self.need(k.vars[acc.var].ty == Ty::Frag(*atom, Operand::C), || format!("the accumulator is no fragment of `{}`", at.name));
                self.need(k.vars[acc.var].arr.is_empty(), || "an asynchronous accumulator is no array".into());
                for (x, o, dims) in [(a, Operand::A, [0, 2]), (b, Operand::B, [1, 2])] {
                    let buf = &k.bufs[x.buf];
                    let long: Vec<u32> = x.len.iter().copied().filter(|n| *n > 1).collect();
                    let want = dims.map(|d| u32::from(at.shape[d]));
                    self.need(long == want, || format!("operand {} is {long:?}, the atom's is {want:?}", o.name()));
                    let ok = buf.dtype == at.dtype(o)
                        && buf.space == Space::Shared
                        && matches!(at.operand(o), Place2::Desc { swizzle } if buf.layout == Layout::Hw(*swizzle));
                    self.need(ok, || format!("`{}` is not in the memory and layout that `{}` reads", buf.name, at.name));
                }
            }
            Stmt::Barrier(_) | Stmt::Fence(_) | Stmt::MmaFence | Stmt::MmaCommit | Stmt::MmaWait(_) => {}
            Stmt::Prefetch(a) => self.access(a, s, true, true),
            Stmt::Assume(e) => {
                self.expr(*e, Some(&Ty::BOOL), &s.seen);
                self.read(*e, s);
            }
        }
    }

    fn ty(&mut self, t: &Ty) {
        let class = self.k.class;
        match t {
            Ty::Scalar(_) => {}
            Ty::Vec(_, n) => self.need(*n > 1 && *n <= 1024, || format!("a vector of {n} elements")),
            Ty::Frag(a, o) => {
                let at = &self.m.atoms[*a];
                let ok = match at.operand(*o) {
                    Place2::PerLane { .. } => class == Class::Simt,
                    Place2::TileReg { .. } => class == Class::Cpu,
                    Place2::Desc { .. } | Place2::Tile => false,
                };
                self.need(ok, || format!("no fragment of operand {} of `{}` on {class}", o.name(), at.name));
                let warp = self.k.launch.warp.max(1);
                let lanes = u32::from(at.lanes.max(1));
                self.need(class != Class::Simt || lanes.is_multiple_of(warp), || {
                    format!("`{}` takes {lanes} lanes, a warp has {warp}", at.name)
                });
            }
            Ty::Tile { dims, .. } => {
                self.need(class == Class::TileCore, || format!("a tile on {class}"));
                self.need(!dims.is_empty() && dims.iter().all(|d| *d > 0), || "a tile without elements".into());
            }
        }
    }
    /// Variables that an expression reads have a value.
    fn read(&mut self, e: ExprId, s: &Scope) {
        let mut work = vec![e];
        while let Some(e) = work.pop() {
            let x = &self.k.exprs[e];
            work.extend(&x.args);
            if let Op::Var(v) | Op::At(v) = x.op {
                self.need(s.assigned[v.index()], || format!("`{}` is read before it is assigned", self.k.vars[v].name));
            }
        }
    }
    fn place(&mut self, p: &Place, s: &Scope) {
        let v = &self.k.vars[p.var];
        self.need(s.seen[p.var.index()], || format!("`{}` is not in scope", v.name));
        let fits = p.idx.len() == v.arr.len() && p.len.is_empty();
        self.need(fits, || format!("`{}` is an array of {} dims", v.name, v.arr.len()));
        p.idx.iter().for_each(|e| self.index(*e, &s.seen));
        self.register_index(p.var, &p.idx);
    }
    fn place_read(&mut self, p: &Place, s: &Scope) {
        self.place(p, s);
        self.need(s.assigned[p.var.index()], || format!("`{}` is read before it is assigned", self.k.vars[p.var].name));
    }
    fn bar(&mut self, b: &BarRef, s: &Scope) {
        let n = self.k.bars[b.bar].dims.len();
        self.need(b.idx.len() == n, || format!("`{}` has {n} dims", self.k.bars[b.bar].name));
        self.need(self.k.class != Class::Cpu, || "a signal on cpu".into());
        for e in &b.idx {
            self.index(*e, &s.seen);
            self.read(*e, s);
        }
    }
    /// A block: rank, direction, and whether it is provably outside.
    fn access(&mut self, a: &Access, s: &Scope, read: bool, cut: bool) {
        let b = &self.k.bufs[a.buf];
        let rank = b.dims.len();
        self.need(a.idx.len() == rank && a.len.len() == rank, || format!("`{}` has {rank} dims, {} are given", b.name, a.idx.len()));
        self.need(if read { b.mode.reads() } else { b.mode.writes() }, || {
            format!("`{}` is {}, this {} it", b.name, b.mode.name(), if read { "reads" } else { "writes" })
        });
        for ((e, n), d) in a.idx.iter().zip(&a.len).zip(&b.dims) {
            self.index(*e, &s.seen);
            self.read(*e, s);
            let dim = self.sym_range(d).1;
            if let (Some((lo, hi)), false) = (self.range(*e), cut) {
                let outside = hi < 0 || lo + i128::from(*n) > i128::from(dim);
                self.need(!outside, || format!("elements {lo}..{} of a dim of `{}` that has at most {dim}", lo + i128::from(*n), b.name));
            }
        }
    }
    /// A gather or scatter: its number of elements.
    fn indexed(&mut self, a: &Access, s: &Scope, read: bool) -> u32 {
        let b = &self.k.bufs[a.buf];
        self.need(a.idx.len() == b.dims.len(), || format!("`{}` has {} dims", b.name, b.dims.len()));
        self.need(a.len.iter().all(|n| *n == 1), || "a gather names single elements".into());
        self.need(if read { b.mode.reads() } else { b.mode.writes() }, || format!("`{}` is {}", b.name, b.mode.name()));
        let lanes = |e: &ExprId| self.k.exprs[*e].ty.lanes().map_or(1, u32::from);
        let n = a.idx.iter().map(lanes).max().unwrap_or(1);
        for e in &a.idx {
            let t = self.k.exprs[*e].ty.clone();
            let ok = matches!(t.elem(), Some(DType::I32 | DType::I64)) && t.lanes().is_some_and(|l| l == 1 || u32::from(l) == n);
            self.need(ok, || format!("an index of type {} among {n} elements", t.show()));
            self.expr(*e, None, &s.seen);
            self.read(*e, s);
        }
        n
    }
    fn block_type(&mut self, a: &Access, d: DType, got: &Ty) {
        let ok = match got {
            Ty::Tile { dtype, dims, .. } => {
                let long = |v: &[u32]| v.iter().copied().filter(|n| *n > 1).collect::<Vec<_>>();
                *dtype == d && long(dims) == long(&a.len)
            }
            t => *t == Ty::of(d, a.elems()) && a.len.iter().filter(|n| **n > 1).count() <= 1,
        };
        self.need(ok, || format!("a block of {:?} elements of {d} as {}", a.len, got.show()));
        // A vector lies in neighbors; anything else is a gather.
        if let (Ty::Vec(..), Some(i)) = (got, a.len.iter().position(|n| *n > 1)) {
            let b = &self.k.bufs[a.buf];
            self.need(b.strides.get(i).is_some_and(|s| s.is(1)), || format!("a vector along a strided dim of `{}`; use a gather", b.name));
        }
    }
    fn cond(&mut self, c: &Cond, a: &Access, n: u32, s: &Scope) {
        match c {
            Cond::Always => {}
            Cond::When(e) => {
                self.expr(*e, Some(&Ty::BOOL), &s.seen);
                self.read(*e, s);
            }
            Cond::Mask(e) => {
                self.expr(*e, Some(&Ty::of(DType::Bool, n)), &s.seen);
                self.read(*e, s);
            }
            Cond::Valid(v) => {
                let long = a.len.iter().filter(|n| **n > 1).count();
                self.need(v.len() == long, || format!("{} extents for {long} dims", v.len()));
                for e in v {
                    self.index(*e, &s.seen);
                    self.read(*e, s);
                }
            }
        }
    }
    fn frag_move(&mut self, t: &Ty, a: &Access, order: [u8; 2], via: Via) {
        let Ty::Frag(atom, o) = t else { return self.fault("a fragment moves here, this is none") };
        let at = &self.m.atoms[*atom];
        let tile = matches!(at.operand(*o), Place2::TileReg { .. });
        let long: Vec<u32> = a.len.iter().copied().filter(|n| *n > 1).collect();
        let ext = at.extents(*o);
        let want = match at.operand(*o) {
            Place2::TileReg { pack, .. } => {
                let p = u32::from((*pack).max(1));
                [ext[0] / p, ext[1] * p]
            }
            _ => order.map(|i| ext[usize::from(i.min(1))]),
        };
        self.need(tile || order[0] != order[1], || "both dims of the block are one dim of the fragment".into());
        self.need(long == want, || format!("a block of {long:?} where `{}` has {want:?}", at.name));
        self.need(self.k.bufs[a.buf].dtype == at.dtype(*o), || {
            format!("elements of {} where `{}` has {}", self.k.bufs[a.buf].dtype, at.name, at.dtype(*o))
        });
        self.need(tile == (via == Via::Tile), || format!("operand {} of `{}` does not move via {}", o.name(), at.name, via.name()));
    }

    fn rhs(&mut self, r: &Rhs, ty: &Ty, s: &Scope) {
        let k = self.k;
        let pure = |me: &mut Self, e: ExprId, t: &Ty| {
            me.expr(e, Some(t), &s.seen);
            me.read(e, s);
        };
        match r {
            Rhs::Expr(e) => pure(self, *e, ty),
            Rhs::Load { from, cond, other } => {
                self.access(from, s, true, *cond != Cond::Always);
                self.cond(cond, from, from.elems(), s);
                let d = k.bufs[from.buf].dtype;
                self.block_type(from, d, ty);
                if let Some(o) = other {
                    self.expr(*o, Some(&Ty::Scalar(d)), &s.seen);
                    self.read(*o, s);
                }
            }
            Rhs::Gather { from, cond, other } => {
                let n = self.indexed(from, s, true);
                let d = k.bufs[from.buf].dtype;
                self.need(*ty == Ty::of(d, n), || format!("a gather of {n} elements of {d} as {}", ty.show()));
                self.cond(cond, from, n, s);
                if let Some(o) = other {
                    self.expr(*o, Some(&Ty::Scalar(d)), &s.seen);
                    self.read(*o, s);
                }
            }
            Rhs::FragLoad { from, order, via } => {
                self.access(from, s, true, false);
                self.frag_move(ty, from, *order, *via);
            }
            Rhs::Mma { atom, a, b, c } => {
                let at = &self.m.atoms[*atom];
                for (p, o) in [(a, Operand::A), (b, Operand::B), (c, Operand::C)] {
                    self.place_read(p, s);
                    let got = &k.vars[p.var].ty;
                    let ok = match got {
                        Ty::Frag(x, y) => (*x, *y) == (*atom, o),
                        Ty::Tile { dtype, dims, .. } => {
                            let [r, c] = o.dims().map(|d| u32::from(at.shape[d].max(1)));
                            *dtype == at.dtype(o)
                                && matches!(at.operand(o), Place2::Tile)
                                && dims.len() == 2
                                && dims[0] % r == 0
                                && dims[1] % c == 0
                        }
                        _ => false,
                    };
                    self.need(ok, || format!("operand {} of `{}` is {}", o.name(), at.name, got.show()));
                }
                self.need(*ty == k.vars[c.var].ty, || "the result of a product has the accumulator's type".into());
            }
            Rhs::Shuffle { v, by, width, .. } => {
                self.need(self.is_simt(), || "a shuffle outside simt".into());
                pure(self, *v, ty);
                pure(self, *by, &I32);
                let ok = width.is_power_of_two() && u32::from(*width) <= k.launch.warp;
                self.need(ok, || format!("a shuffle among {width} lanes of warps of {}", k.launch.warp));
            }
            Rhs::Vote(kind, e) => {
                self.need(self.is_simt(), || "a vote outside simt".into());
                pure(self, *e, &Ty::BOOL);
                let ok = match kind {
                    VoteKind::Ballot => matches!(ty, Ty::Scalar(DType::U32 | DType::U64)),
                    _ => *ty == Ty::BOOL,
                };
                self.need(ok, || format!("a vote as {}", ty.show()));
            }
            Rhs::Atomic { at, v, cond, .. } => {
                self.access(at, s, true, *cond != Cond::Always);
                let d = Ty::Scalar(k.bufs[at.buf].dtype);
                self.need(at.elems() == 1 && *ty == d, || "an atomic is of one element".into());
                self.need(k.bufs[at.buf].mode.writes(), || format!("`{}` is not written", k.bufs[at.buf].name));
                pure(self, *v, &d);
                self.cond(cond, at, 1, s);
            }
            Rhs::Guard { v, lo, hi, at, .. } => {
                self.need(matches!(ty, Ty::Scalar(DType::I32 | DType::I64)), || format!("a guard of {}", ty.show()));
                let status = k.params.iter().any(|p| matches!(p, Param::Status(_)));
                self.need(status, || "a guard in a kernel without a status parameter".into());
                for e in [v, lo, hi] {
                    self.expr(*e, Some(ty), &s.seen);
                    self.read(*e, s);
                }
                self.index(*at, &s.seen);
                self.read(*at, s);
            }
            Rhs::Fill(e) => {
                let d = match ty {
                    Ty::Frag(a, o) => Some(self.m.atoms[*a].dtype(*o)),
                    Ty::Tile { dtype, .. } => Some(*dtype),
                    _ => None,
                };
                match d {
                    Some(d) => pure(self, *e, &Ty::Scalar(d)),
                    None => self.fault(format!("`fill` of {}", ty.show())),
                }
            }
            Rhs::Map { vars, dims, body } => self.over(vars, dims, dims, *body, ty, s),
            Rhs::Scan { vars, dims, body, .. } => self.over(vars, dims, dims, *body, ty, s),
            Rhs::Reduce { vars, dims, body, .. } => self.over(vars, dims, &dims[..dims.len().saturating_sub(1)], *body, ty, s),
            Rhs::Move(p) | Rhs::Transpose(p) => {
                self.place_read(p, s);
                let flip = matches!(r, Rhs::Transpose(_));
                // What a lane holds of a fragment is a vector of as many elements.
                let held = |frag: &Ty, v: &Ty| match frag {
                    Ty::Frag(a, o) => self.m.atoms.get(*a).is_some_and(|a| {
                        let regs = matches!(a.operand(*o), Place2::PerLane { .. }).then(|| a.regs(*o)).flatten();
                        regs.is_some_and(|n| *v == Ty::of(a.dtype(*o), n))
                    }),
                    _ => false,
                };
                let ok = match (&k.vars[p.var].ty, ty) {
                    (a, b) if !flip && (held(a, b) || held(b, a)) => true,
                    (Ty::Tile { dtype: a, dims: x, .. }, Ty::Tile { dtype: b, dims: y, .. }) => {
                        let want: Vec<u32> = if flip { x.iter().rev().copied().collect() } else { x.to_vec() };
                        a == b && want == y.to_vec()
                    }
                    _ => false,
                };
                self.need(ok, || "a move between values that differ".into());
            }
        }
    }
    fn over(&mut self, vars: &[VarId], dims: &[u32], result: &[u32], body: ExprId, ty: &Ty, s: &Scope) {
        let mut inner = s.clone();
        for v in vars {
            self.enter(*v, &mut inner, &[VarKind::Bound]);
            inner.assigned[v.index()] = true;
        }
        let ok = matches!(ty, Ty::Tile { dims: d, .. } if d[..] == *result) && vars.len() == dims.len();
        self.need(ok, || format!("indices over {result:?} for {}", ty.show()));
        let want = ty.elem().map(Ty::Scalar);
        self.expr(body, want.as_ref(), &inner.seen);
        self.read(body, &inner);
    }
}
