// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builder methods for what lanes and agents share: fragments, tiles, queues, signals, roles.

use smallvec::SmallVec;

use super::{
    AtomId, Bar, BarId, BarRef, Buf, BufDecl, Ex, Fence, Home, Kb, Level, Limits, LoopKind, Mem, Mode, Operand, Param, Place, Queue,
    QueueId, RedOp, Reg, Rhs, Space, Stmt, Swizzle, Ty, Value, Var, VarId, VarKind, Via,
};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{Fault, KernelId};

/// Dims of the block of memory that a fragment moves to or from, in the order of the block.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BlockOrder {
    /// As the operand is: `(m, k)`, `(k, n)`, `(m, n)`.
    AsIs,
    /// Exchanged: `(k, m)`, `(n, k)`, `(n, m)`.
    Swapped,
}

impl BlockOrder {
    fn code(self) -> [u8; 2] {
        match self {
            BlockOrder::AsIs => [0, 1],
            BlockOrder::Swapped => [1, 0],
        }
    }
}

/// Handle of a signal: the array and the index in it.
#[derive(Clone, Debug)]
pub struct Signal {
    bar: BarId,
    idx: Vec<Ex>,
}

impl Signal {
    /// One signal of the array.
    pub fn at(&self, i: impl Into<Ex>) -> Signal {
        Signal { idx: vec![i.into()], ..self.clone() }
    }
}

impl Kb<'_> {
    fn ty_of(&self, r: &Reg) -> Ty {
        r.get().ty().cloned().unwrap_or(Ty::BOOL)
    }

    /// Adds a parameter of bulk copies: a box over global memory.
    pub fn tensor_map(&mut self, name: &str, decl: BufDecl, box_: &[u32], swizzle: Swizzle) -> Buf {
        let b = self.param(name, decl);
        let k = self.kernel_mut();
        k.bufs[b.id].mode = Mode::Rw;
        if let Some(p) = k.params.last_mut() {
            *p = Param::TensorMap { buf: b.id, box_: SmallVec::from_slice(box_), swizzle };
        }
        b
    }
    /// Declares a queue of asynchronous copies.
    pub fn queue(&mut self, name: &str) -> QueueId {
        let name = self.claim_global(name);
        self.kernel_mut().queues.push(Queue { name })
    }
    /// Declares a signal, or an array of them.
    pub fn signal(&mut self, name: &str, dims: &[u32]) -> Signal {
        let name = self.claim_global(name);
        let bar = self.kernel_mut().bars.push(Bar { name, dims: SmallVec::from_slice(dims) });
        Signal { bar, idx: vec![] }
    }
    fn bar_ref(&mut self, s: &Signal) -> BarRef {
        let idx = s.idx.iter().map(|i| self.expr(i)).collect();
        BarRef { bar: s.bar, idx }
    }
    fn count(&mut self, v: impl Into<Ex>) -> super::ExprId {
        self.expr(v.into().typed(&Ty::Scalar(DType::I32)))
    }
    /// Sets the arrivals that end a phase.
    pub fn bar_init(&mut self, s: &Signal, count: impl Into<Ex>) {
        let (b, e) = (self.bar_ref(s), self.count(count));
        self.push(Stmt::BarInit(b, e));
    }
    /// Arrives, and expects that many bytes of bulk copies in this phase.
    pub fn bar_expect(&mut self, s: &Signal, bytes: impl Into<Ex>) {
        let (b, e) = (self.bar_ref(s), self.count(bytes));
        self.push(Stmt::BarExpect(b, e));
    }
    /// Arrives.
    pub fn bar_arrive(&mut self, s: &Signal) {
        let b = self.bar_ref(s);
        self.push(Stmt::BarArrive(b));
    }
    /// Waits for the end of the phase of that parity.
    pub fn bar_wait(&mut self, s: &Signal, parity: impl Into<Ex>) {
        let (b, e) = (self.bar_ref(s), self.count(parity));
        self.push(Stmt::BarWait(b, e));
    }
    /// All lanes of the level arrive before any goes on.
    pub fn barrier(&mut self, level: Level) {
        self.push(Stmt::Barrier(level));
    }
    /// Orders between plain accesses and engines.
    pub fn fence(&mut self, f: Fence) {
        self.push(Stmt::Fence(f));
    }
    /// Copies a block asynchronously; the condition and the fill value are those of `src`.
    pub fn copy_async(&mut self, q: QueueId, dst: &Mem, src: &Mem) {
        let dst = self.access(dst);
        let (src, cond, other) = self.lowered(src);
        self.push(Stmt::CopyAsync { q, dst, src, cond, other });
    }
    /// Closes a group of copies.
    pub fn commit(&mut self, q: QueueId) {
        self.push(Stmt::Commit(q));
    }
    /// Waits until at most that many closed groups are in flight.
    pub fn wait(&mut self, q: QueueId, n: u8) {
        self.push(Stmt::Wait(q, n));
    }
    /// Copies a box by the copy engine and signals its bytes.
    pub fn copy_bulk(&mut self, dst: &Mem, src: &Mem, s: &Signal) {
        let (dst, src, bar) = (self.access(dst), self.access(src), self.bar_ref(s));
        self.push(Stmt::CopyBulk { dst, src, bar });
    }
    /// A stream of its own for those warps (on tile_core: of each core).
    pub fn role(&mut self, name: &str, warps: Option<(u32, u32)>, regs: Option<u16>, f: impl FnOnce(&mut Self)) {
        let name = self.claim(name);
        let body = self.scoped(f);
        self.push(Stmt::Role { name, warps, regs, body });
    }

    /// An array of fragments of an operand, all elements equal.
    pub fn frags(&mut self, name: &str, atom: AtomId, operand: Operand, arr: &[u32], fill: impl Into<Ex>) -> Reg {
        let d = self.module().atoms.get(atom).map_or(DType::F32, |a| a.dtype(operand));
        let e = self.expr(fill.into().typed(&Ty::Scalar(d)));
        self.var_value(name, arr, Value { rhs: Rhs::Fill(e), ty: Ty::Frag(atom, operand) })
    }
    /// A fragment from a block of memory.
    pub fn v_frag(&mut self, from: &Mem, atom: AtomId, operand: Operand, order: BlockOrder, via: Via) -> Value {
        let from = self.access(from);
        Value { rhs: Rhs::FragLoad { from, order: order.code(), via }, ty: Ty::Frag(atom, operand) }
    }
    /// A fragment to a block of memory.
    pub fn store_frag(&mut self, to: &Mem, val: &Reg, order: BlockOrder, via: Via) {
        let (to, val) = (self.access(to), self.place(val));
        self.push(Stmt::FragStore { to, val, order: order.code(), via });
    }
    /// What a lane holds of a fragment, as a vector in the order of the atom's registers.
    pub fn v_held(&mut self, frag: &Reg) -> Value {
        let (place, ty) = (self.place(frag), self.ty_of(frag));
        let Ty::Frag(a, o) = ty else { return Value { rhs: Rhs::Move(place), ty } };
        let held = self.module().atoms.get(a).map(|a| Ty::of(a.dtype(o), a.regs(o).unwrap_or(1)));
        Value { rhs: Rhs::Move(place), ty: held.unwrap_or(ty) }
    }
    /// A fragment by what each lane holds of it.
    pub fn v_frag_of(&mut self, held: &Reg, atom: AtomId, operand: Operand) -> Value {
        Value { rhs: Rhs::Move(self.place(held)), ty: Ty::Frag(atom, operand) }
    }
    /// `c = a * b + c` of fragments or tiles.
    pub fn mma(&mut self, atom: AtomId, a: &Reg, b: &Reg, c: &Reg) {
        let ty = self.ty_of(c);
        let (pa, pb, pc) = (self.place(a), self.place(b), self.place(c));
        self.set_value(c, Value { rhs: Rhs::Mma { atom, a: pa, b: pb, c: pc }, ty });
    }
    /// Starts `acc += a * b` of a matrix unit that reads memory.
    pub fn mma_async(&mut self, atom: AtomId, acc: &Reg, a: &Mem, b: &Mem) {
        let (acc, a, b) = (self.place(acc), self.access(a), self.access(b));
        self.push(Stmt::MmaAsync { atom, acc, a, b });
    }
    /// Goes over the registers of an accumulator fragment, `width` neighboring columns at a time, with their row and column in the atom.
    pub fn each(&mut self, frag: &Reg, width: u32, f: impl FnOnce(&mut Self, Ex, [Ex; 2])) {
        let Ty::Frag(atom, o) = self.ty_of(frag) else { return };
        let d = self.module().atoms.get(atom).map_or(DType::F32, |a| a.dtype(o));
        let (ty, index) = (Ty::of(d, width), Ty::Scalar(self.index()));
        let place = self.place(frag);
        let mut ids: Option<(VarId, [VarId; 2])> = None;
        let body = self.scoped(|k| {
            let (v, r, c) = (k.bound("v", ty.clone()), k.bound("dm", index.clone()), k.bound("dn", index.clone()));
            ids = Some((v.0, [r.0, c.0]));
            f(k, v.1, [r.1, c.1]);
        });
        if let Some((val, coords)) = ids {
            self.push(Stmt::Each { frag: place, val, coords, body });
        }
    }
    fn bound(&mut self, name: &str, ty: Ty) -> (VarId, Ex) {
        let name = self.claim(name);
        let v = self.kernel_mut().vars.push(Var { name, ty: ty.clone(), arr: SmallVec::new(), kind: VarKind::Bound });
        (v, Ex::var(v, ty))
    }

    /// Type of a tile.
    pub fn tile(dtype: DType, dims: &[u32], home: Home) -> Ty {
        Ty::Tile { dtype, dims: SmallVec::from_slice(dims), home }
    }
    /// A tile from a block of memory.
    pub fn v_tile(&mut self, from: &Mem, ty: Ty) -> Value {
        let (from, cond, other) = self.lowered(from);
        Value { rhs: Rhs::Load { from, cond, other }, ty }
    }
    /// Every element equal.
    pub fn v_fill(&mut self, e: impl Into<Ex>, ty: Ty) -> Value {
        let d = match &ty {
            Ty::Frag(a, o) => self.module().atoms.get(*a).map(|a| a.dtype(*o)),
            t => t.elem(),
        };
        let e = self.expr(e.into().typed(&Ty::Scalar(d.unwrap_or(DType::F32))));
        Value { rhs: Rhs::Fill(e), ty }
    }
    /// A tile by an expression over its indices.
    pub fn v_map(&mut self, ty: Ty, f: impl FnOnce(&mut Self, &[Ex]) -> Ex) -> Value {
        let dims = tile_dims(&ty);
        let (vars, body) = self.indices(&dims, &ty, f);
        Value { rhs: Rhs::Map { vars: SmallVec::from_vec(vars), dims: SmallVec::from_vec(dims), body }, ty }
    }
    /// A tile by a reduction along one more index of that extent.
    pub fn v_reduce(&mut self, op: RedOp, ty: Ty, extent: u32, f: impl FnOnce(&mut Self, &[Ex]) -> Ex) -> Value {
        let mut dims = tile_dims(&ty);
        dims.push(extent);
        let (vars, body) = self.indices(&dims, &ty, f);
        Value { rhs: Rhs::Reduce { op, vars: SmallVec::from_vec(vars), dims: SmallVec::from_vec(dims), body }, ty }
    }
    fn indices(&mut self, dims: &[u32], ty: &Ty, f: impl FnOnce(&mut Self, &[Ex]) -> Ex) -> (Vec<VarId>, super::ExprId) {
        let index = Ty::Scalar(self.index());
        let names = ["i", "j", "l", "p"];
        let mut out = None;
        let _ = self.scoped(|k| {
            let bound: Vec<(VarId, Ex)> = (0..dims.len()).map(|d| k.bound(names[d.min(3)], index.clone())).collect();
            let handles: Vec<Ex> = bound.iter().map(|b| b.1.clone()).collect();
            let e = f(k, &handles).typed(&Ty::Scalar(ty.elem().unwrap_or(DType::F32)));
            out = Some((bound.into_iter().map(|b| b.0).collect(), k.expr(e)));
        });
        out.unwrap_or_else(|| (Vec::new(), super::ExprId::new(0)))
    }
    /// Writes a tile.
    pub fn store_tile(&mut self, to: &Mem, val: &Reg) {
        let (to, cond, _) = self.lowered(to);
        let val = self.expr(val.get());
        self.push(Stmt::Store { to, val, cond });
    }
    /// Assigns a slice of a tile from memory.
    pub fn set_slice(&mut self, tile: &Reg, idx: &[(Ex, u32)], from: &Mem) {
        let (from, cond, other) = self.lowered(from);
        let e = idx.iter().map(|i| self.expr(&i.0)).collect();
        let place = Place { var: tile.var(), idx: e, len: idx.iter().map(|i| i.1).collect() };
        self.push(Stmt::Set { place, val: Rhs::Load { from, cond, other } });
    }
    /// The bytes of an aliased buffer belong to this one from now on.
    pub fn alloc(&mut self, b: Buf) {
        self.push(Stmt::Alloc(b.id));
    }
    /// Lets a buffer begin at a byte of an earlier one.
    pub fn alias(&mut self, b: Buf, base: Buf, byte: u32) {
        let k = self.kernel_mut();
        if k.bufs[b.id].space != Space::Global {
            k.bufs[b.id].alias = Some((base.id, byte));
        }
    }
    /// Repeats for constant values in steps, as copies of the body.
    pub fn unroll_step(&mut self, name: &str, lo: i64, hi: i64, step: i64, f: impl FnOnce(&mut Self, Ex)) {
        self.repeat(name, lo.into(), hi.into(), step.into(), LoopKind::Unroll, f);
    }

    /// Ends the kernel, verifies it and puts it into the module.
    ///
    /// # Errors
    /// All faults; the module is unchanged then.
    pub fn finish_verified(self, limits: &Limits) -> Result<KernelId, Vec<Fault>> {
        let (module, k) = self.into_parts();
        super::verify_kernel(module, &k, limits)?;
        Ok(module.add_kernel(k))
    }
}

fn tile_dims(t: &Ty) -> Vec<u32> {
    match t {
        Ty::Tile { dims, .. } => dims.to_vec(),
        _ => vec![],
    }
}
