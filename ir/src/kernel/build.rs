// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builder of kernels: typed handles and closures; loads, shuffles and products can only become statements.
//!
//! The builder never fails: a wrong operand makes a wrong kernel, and [`Kb::finish`] reports all faults of it.

use smallvec::SmallVec;

use super::ex::Node;
use super::{
    Access, AtomicOp, Block, BufId, Buffer, Class, Code, Cond, ElemFn, Ex, Expr, ExprId, FnId, Id, Kernel, KernelId, Launch, Layout,
    LoopKind, Mode, Module, Op, Order, Param, Place, Rhs, ShuffleKind, Space, Stmt, StmtId, Sym, Ty, Var, VarId, VarKind, VoteKind, print,
    typing,
};
use crate::dtype::DType;
use crate::entity::PrimaryMap;
use crate::sym::SymExpr;

/// Declaration of a buffer for [`Kb::param`], [`Kb::shared`], [`Kb::local`] and [`Kb::acc`].
#[derive(Clone, Debug)]
pub struct BufDecl {
    dtype: DType,
    dims: Vec<SymExpr>,
    strides: Option<Vec<SymExpr>>,
    mode: Mode,
    align: u32,
    layout: Layout,
}

impl BufDecl {
    /// Memory that is read and written.
    pub fn rw(dtype: DType, dims: impl IntoIterator<Item = SymExpr>) -> Self {
        let align = dtype.bytes().unwrap_or(1).min(16);
        BufDecl { dtype, dims: dims.into_iter().collect(), strides: None, mode: Mode::Rw, align, layout: Layout::Plain }
    }
    /// Memory that is only read.
    pub fn ro(dtype: DType, dims: impl IntoIterator<Item = SymExpr>) -> Self {
        BufDecl { mode: Mode::Ro, ..Self::rw(dtype, dims) }
    }
    /// Memory that is only written.
    pub fn wo(dtype: DType, dims: impl IntoIterator<Item = SymExpr>) -> Self {
        BufDecl { mode: Mode::Wo, ..Self::rw(dtype, dims) }
    }
    /// Alignment of the first element in bytes; by default that of one element.
    pub fn align(mut self, bytes: u32) -> Self {
        self.align = bytes;
        self
    }
    /// Strides in elements, one per dim; by default row-major.
    pub fn strides(mut self, strides: impl IntoIterator<Item = SymExpr>) -> Self {
        self.strides = Some(strides.into_iter().collect());
        self
    }
    /// Permutation or padding of rows.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
    fn buffer(self, name: String, space: Space) -> Buffer {
        let strides = self.strides.unwrap_or_else(|| Buffer::row_major(&self.dims, self.layout));
        let BufDecl { dtype, dims, mode, align, layout, .. } = self;
        let mode = if space == Space::Global { mode } else { Mode::Rw };
        Buffer { name, dtype, dims, strides, space, mode, align, layout, alias: None }
    }
}

/// Handle of a buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Buf {
    /// The buffer.
    pub id: BufId,
    /// Element type.
    pub dtype: DType,
}

/// A block of memory with the condition under which its elements are touched; see [`at!`](crate::at).
#[derive(Clone, Debug)]
pub struct Mem {
    buf: Buf,
    idx: Vec<(Ex, u32)>,
    cond: MemCond,
    other: Option<Ex>,
}

#[derive(Clone, Debug)]
enum MemCond {
    Always,
    When(Ex),
    Mask(Ex),
    Valid(Vec<Ex>),
}

impl Mem {
    /// A block: first index and length per dim.
    pub fn new(buf: Buf, idx: Vec<(Ex, u32)>) -> Mem {
        Mem { buf, idx, cond: MemCond::Always, other: None }
    }
    /// All elements, or none.
    pub fn when(mut self, c: impl Into<Ex>) -> Mem {
        self.cond = MemCond::When(c.into());
        self
    }
    /// Elements whose mask element holds.
    pub fn mask(mut self, c: impl Into<Ex>) -> Mem {
        self.cond = MemCond::Mask(c.into());
        self
    }
    /// Leading elements, one extent per dim that is longer than 1.
    pub fn valid(mut self, extents: impl IntoIterator<Item = Ex>) -> Mem {
        self.cond = MemCond::Valid(extents.into_iter().collect());
        self
    }
    /// Value of the elements that are switched off; poison otherwise.
    pub fn or(mut self, v: impl Into<Ex>) -> Mem {
        self.other = Some(v.into());
        self
    }
}

/// Names a block of memory: `at!(x; i, j => 16)` is element `i` of the first dim and 16 elements from `j` of the second.
#[macro_export]
macro_rules! at {
    ($buf:expr; $($i:expr $(=> $n:expr)?),* $(,)?) => {
        $crate::kernel::Mem::new($buf, vec![$(($crate::kernel::Ex::from($i), $crate::at!(@len $($n)?))),*])
    };
    (@len) => { 1u32 };
    (@len $n:expr) => { $n };
}

/// A right side with its type, made by a `v_*` method.
#[derive(Clone, Debug)]
pub struct Value {
    /// The right side.
    pub rhs: Rhs,
    /// Its type.
    pub ty: Ty,
}

/// Handle of a `var`, or of one element of an array of registers.
#[derive(Clone, Debug)]
pub struct Reg {
    var: VarId,
    ty: Ty,
    idx: Vec<Ex>,
}

impl Reg {
    /// The variable.
    pub fn var(&self) -> VarId {
        self.var
    }
    /// One element of the array; indices are constant after unrolling.
    pub fn at(&self, idx: impl IntoIterator<Item = Ex>) -> Reg {
        Reg { idx: idx.into_iter().collect(), ..self.clone() }
    }
    /// Its value.
    pub fn get(&self) -> Ex {
        let idx = self.idx.iter().map(|i| i.typed(&Ty::Scalar(DType::I64))).collect();
        Ex::node(Op::Var(self.var), idx, Some(self.ty.clone()))
    }
}

/// Builds one kernel.
pub struct Kb<'m> {
    module: &'m mut Module,
    k: Kernel,
    index: DType,
    blocks: Vec<Block>,
    scopes: Vec<Vec<String>>,
}

fn lower(exprs: &mut PrimaryMap<ExprId, Expr>, e: &Ex, index: DType) -> ExprId {
    let Node { op, args, ty } = &*e.0;
    let Some(ty) = ty else {
        let d = if matches!(op, Op::Lit(super::Lit::Float(_))) { DType::F32 } else { index };
        return lower(exprs, &e.typed(&Ty::Scalar(d)), index);
    };
    let args = args.iter().map(|a| lower(exprs, a, index)).collect();
    exprs.push(Expr { op: op.clone(), args, ty: ty.clone() })
}

impl<'m> Kb<'m> {
    /// Begins a kernel of that name and class.
    pub fn new(module: &'m mut Module, name: &str, class: Class) -> Self {
        let k = Kernel::new(print::legal_name(name), class);
        Kb { module, k, index: class.index(), blocks: vec![Vec::new()], scopes: vec![Vec::new()] }
    }
    /// The module that the kernel goes into.
    pub fn module(&mut self) -> &mut Module {
        self.module
    }
    /// Width of an index that nothing else determines.
    pub fn index(&self) -> DType {
        self.index
    }
    /// Gives indices that nothing else determines another width, i32 or i64, from here on; that of the class otherwise.
    pub fn set_index(&mut self, width: DType) {
        self.index = width;
    }
    /// Adds the path of a node that the kernel computes.
    pub fn origin(&mut self, path: impl Into<String>) {
        self.k.origin.push(path.into());
    }

    fn fresh(&mut self, name: &str, scope: usize) -> String {
        let base = print::legal_name(name);
        let taken = |n: &str| {
            self.scopes.iter().flatten().any(|s| s == n)
                || self.k.sym(n).is_some()
                || self.module.fn_named(n).is_some()
                || print::reserved(n)
        };
        let mut out = base.clone();
        let mut i = 2;
        while taken(&out) {
            out = format!("{base}_{i}");
            i += 1;
        }
        if let Some(s) = self.scopes.get_mut(scope) {
            s.push(out.clone());
        }
        out
    }
    fn ex(&mut self, e: &Ex) -> ExprId {
        lower(&mut self.k.exprs, e, self.index)
    }
    fn ex_as(&mut self, e: &Ex, ty: &Ty) -> ExprId {
        self.ex(&e.typed(ty))
    }
    /// Appends a statement to the open block.
    pub fn push(&mut self, s: Stmt) -> StmtId {
        let id = self.k.stmts.push(s);
        if let Some(b) = self.blocks.last_mut() {
            b.push(id);
        }
        id
    }
    /// Adds an expression to the kernel; for statements made by hand.
    pub fn expr(&mut self, e: impl Into<Ex>) -> ExprId {
        self.ex(&e.into())
    }
    fn block(&mut self, f: impl FnOnce(&mut Self)) -> Block {
        self.blocks.push(Vec::new());
        self.scopes.push(Vec::new());
        f(self);
        self.scopes.pop();
        self.blocks.pop().unwrap_or_default()
    }

    /// Declares a symbol with its range and divisor; a second declaration narrows nothing and is ignored.
    pub fn sym(&mut self, name: &str, lo: i64, hi: i64, div: i64) -> SymExpr {
        if self.k.sym(name).is_none() {
            self.k.syms.push(Sym { name: name.into(), lo, hi, div });
        }
        SymExpr::sym(name)
    }
    fn buf(&mut self, name: &str, decl: BufDecl, space: Space) -> Buf {
        let name = self.claim_global(name);
        let dtype = decl.dtype;
        Buf { id: self.k.bufs.push(decl.buffer(name, space)), dtype }
    }
    /// Adds a parameter in global memory.
    pub fn param(&mut self, name: &str, decl: BufDecl) -> Buf {
        let b = self.buf(name, decl, Space::Global);
        self.k.params.push(Param::Buf(b.id));
        b
    }
    /// Adds a scalar parameter.
    pub fn scalar(&mut self, name: &str, dtype: DType) -> Ex {
        let ty = Ty::Scalar(dtype);
        let v = self.new_var(name, ty.clone(), &[], VarKind::Param);
        self.k.params.push(Param::Scalar(v));
        Ex::node(Op::Var(v), vec![], Some(ty))
    }
    /// Adds the status word that guards report to.
    pub fn status(&mut self, name: &str) {
        let name = self.claim_global(name);
        self.k.params.push(Param::Status(name));
    }
    /// Declares memory of the group.
    pub fn shared(&mut self, name: &str, decl: BufDecl) -> Buf {
        self.buf(name, decl, Space::Shared)
    }
    /// Declares memory of the lane.
    pub fn local(&mut self, name: &str, decl: BufDecl) -> Buf {
        self.buf(name, decl, Space::Local)
    }
    /// Declares accumulator memory.
    pub fn acc(&mut self, name: &str, decl: BufDecl) -> Buf {
        self.buf(name, decl, Space::Acc)
    }
    /// Sets the number of groups; the group stays one lane unless [`Kb::group`] says more.
    pub fn launch(&mut self, grid: [SymExpr; 3]) {
        self.k.launch = Launch { grid, ..self.k.launch.clone() };
    }
    /// Says that z counts steps, each of which begins when the one before has ended.
    pub fn steps(&mut self) {
        self.k.launch.steps = true;
    }
    /// Sets the lanes of a group and of a warp.
    pub fn group(&mut self, lanes: u32, warp: u32) {
        self.k.launch.group = lanes;
        self.k.launch.warp = warp;
    }

    /// A position of this lane, as an index.
    pub fn id(&self, id: Id) -> Ex {
        Ex::node(Op::Id(id), vec![], Some(Ty::Scalar(self.index())))
    }
    /// Number of the group in x.
    pub fn gx(&self) -> Ex {
        self.id(Id::Group(0))
    }
    /// Number of the group in y.
    pub fn gy(&self) -> Ex {
        self.id(Id::Group(1))
    }
    /// Number of the group in z.
    pub fn gz(&self) -> Ex {
        self.id(Id::Group(2))
    }
    /// Number of the lane in its group.
    pub fn lane(&self) -> Ex {
        self.id(Id::Lane)
    }
    /// A launch-uniform value as an index.
    pub fn dim(&self, e: &SymExpr) -> Ex {
        self.dim_as(e, self.index())
    }
    /// A launch-uniform value of that integer type.
    pub fn dim_as(&self, e: &SymExpr, d: DType) -> Ex {
        match e.as_const() {
            Some(c) => Ex::lit(d, 0.0).with_int(i128::from(c)),
            None => Ex::node(Op::Dim(e.clone()), vec![], Some(Ty::Scalar(d))),
        }
    }
    /// A call of an elementwise function, lifted to the operands' number of elements.
    pub fn call(&self, f: FnId, args: &[Ex]) -> Ex {
        call_ex(&self.module.fns, f, args)
    }

    fn new_var(&mut self, name: &str, ty: Ty, arr: &[u32], kind: VarKind) -> VarId {
        let name = self.claim(name);
        self.k.vars.push(Var { name, ty, arr: SmallVec::from_slice(arr), kind })
    }
    /// Names a pure value, which is then computed once.
    pub fn let_(&mut self, name: &str, e: impl Into<Ex>) -> Ex {
        let v = self.v_expr(e);
        self.let_value(name, v)
    }
    /// Names the value of any right side.
    pub fn let_value(&mut self, name: &str, v: Value) -> Ex {
        let var = self.new_var(name, v.ty.clone(), &[], VarKind::Let);
        self.push(Stmt::Def { var, init: Some(v.rhs) });
        Ex::node(Op::Var(var), vec![], Some(v.ty))
    }
    /// Defines an assignable variable.
    pub fn var(&mut self, name: &str, e: impl Into<Ex>) -> Reg {
        let v = self.v_expr(e);
        self.var_value(name, &[], v)
    }
    /// Defines an array of registers; every element gets the value.
    pub fn var_array(&mut self, name: &str, arr: &[u32], e: impl Into<Ex>) -> Reg {
        let v = self.v_expr(e);
        self.var_value(name, arr, v)
    }
    /// Defines an assignable variable or array with the value of any right side.
    pub fn var_value(&mut self, name: &str, arr: &[u32], v: Value) -> Reg {
        let var = self.new_var(name, v.ty.clone(), arr, VarKind::Var);
        self.push(Stmt::Def { var, init: Some(v.rhs) });
        Reg { var, ty: v.ty, idx: vec![] }
    }
    /// Defines an assignable variable or array without a value.
    pub fn var_uninit(&mut self, name: &str, arr: &[u32], ty: Ty) -> Reg {
        let var = self.new_var(name, ty.clone(), arr, VarKind::Var);
        self.push(Stmt::Def { var, init: None });
        Reg { var, ty, idx: vec![] }
    }
    /// Assigns a pure value.
    pub fn set(&mut self, r: &Reg, e: impl Into<Ex>) {
        let e = e.into().typed(&r.ty);
        let v = self.v_expr(e);
        self.set_value(r, v);
    }
    /// Assigns the value of any right side.
    pub fn set_value(&mut self, r: &Reg, v: Value) {
        let place = self.place(r);
        self.push(Stmt::Set { place, val: v.rhs });
    }
    /// The place of a variable or register.
    pub fn place(&mut self, r: &Reg) -> Place {
        let idx = r.idx.iter().map(|i| lower(&mut self.k.exprs, i, DType::I64)).collect();
        Place { var: r.var, idx, len: SmallVec::new() }
    }

    /// Lowers a block of memory.
    pub fn access(&mut self, m: &Mem) -> Access {
        let idx = m.idx.iter().map(|(i, _)| lower(&mut self.k.exprs, i, self.index)).collect();
        Access { buf: m.buf.id, idx, len: m.idx.iter().map(|i| i.1).collect() }
    }
    fn cond(&mut self, m: &Mem, n: u32) -> Cond {
        match &m.cond {
            MemCond::Always => Cond::Always,
            MemCond::When(c) => Cond::When(self.ex(c)),
            MemCond::Mask(c) => Cond::Mask(self.ex_as(c, &Ty::of(DType::Bool, n))),
            MemCond::Valid(v) => Cond::Valid(v.iter().map(|e| lower(&mut self.k.exprs, e, self.index)).collect()),
        }
    }
    fn other(&mut self, m: &Mem) -> Option<ExprId> {
        m.other.as_ref().map(|o| lower(&mut self.k.exprs, &o.typed(&Ty::Scalar(m.buf.dtype)), self.index))
    }

    /// A pure value.
    pub fn v_expr(&mut self, e: impl Into<Ex>) -> Value {
        let id = self.ex(&e.into());
        Value { ty: self.k.exprs[id].ty.clone(), rhs: Rhs::Expr(id) }
    }
    /// Elements of memory: a scalar or a vector.
    pub fn v_load(&mut self, m: Mem) -> Value {
        let from = self.access(&m);
        let n = from.elems();
        let (cond, other) = (self.cond(&m, n), self.other(&m));
        Value { rhs: Rhs::Load { from, cond, other }, ty: Ty::of(m.buf.dtype, n) }
    }
    /// One element per element of the index vectors.
    pub fn v_gather(&mut self, m: Mem) -> Value {
        let n = m.idx.iter().filter_map(|(i, _)| i.ty().and_then(Ty::lanes)).max().unwrap_or(1).into();
        let from = self.access(&m);
        let (cond, other) = (self.cond(&m, n), self.other(&m));
        Value { rhs: Rhs::Gather { from, cond, other }, ty: Ty::of(m.buf.dtype, n) }
    }
    /// Loads a scalar or a vector and names it.
    pub fn load(&mut self, name: &str, m: Mem) -> Ex {
        let v = self.v_load(m);
        self.let_value(name, v)
    }
    /// Gathers a vector and names it.
    pub fn gather(&mut self, name: &str, m: Mem) -> Ex {
        let v = self.v_gather(m);
        self.let_value(name, v)
    }
    /// Stores a scalar or a vector.
    pub fn store(&mut self, m: Mem, e: impl Into<Ex>) {
        let to = self.access(&m);
        let n = to.elems();
        let cond = self.cond(&m, n);
        let val = self.ex_as(&e.into(), &Ty::of(m.buf.dtype, n));
        self.push(Stmt::Store { to, val, cond });
    }
    /// Stores one element per element of the index vectors, in their order.
    pub fn scatter(&mut self, m: Mem, e: impl Into<Ex>) {
        let n = m.idx.iter().filter_map(|(i, _)| i.ty().and_then(Ty::lanes)).max().unwrap_or(1).into();
        let to = self.access(&m);
        let cond = self.cond(&m, n);
        let val = self.ex_as(&e.into(), &Ty::of(m.buf.dtype, n));
        self.push(Stmt::Scatter { to, val, cond });
    }
    /// Value of another lane, named.
    pub fn shuffle(&mut self, name: &str, kind: ShuffleKind, v: &Ex, by: impl Into<Ex>, width: u16) -> Ex {
        let (v, by) = (self.ex(v), self.ex_as(&by.into(), &Ty::Scalar(DType::I32)));
        let ty = self.k.exprs[v].ty.clone();
        self.let_value(name, Value { rhs: Rhs::Shuffle { kind, v, by, width }, ty })
    }
    /// Vote of the warp, named; a ballot is u64.
    pub fn vote(&mut self, name: &str, kind: VoteKind, v: &Ex) -> Ex {
        let v = self.ex(v);
        let ty = Ty::Scalar(if kind == VoteKind::Ballot { DType::U64 } else { DType::Bool });
        self.let_value(name, Value { rhs: Rhs::Vote(kind, v), ty })
    }
    /// Read-modify-write of one element; the old value, named.
    pub fn atomic(&mut self, name: &str, op: AtomicOp, m: Mem, v: impl Into<Ex>, order: Order) -> Ex {
        let ty = Ty::Scalar(m.buf.dtype);
        let at = self.access(&m);
        let cond = self.cond(&m, 1);
        let v = self.ex_as(&v.into(), &ty);
        self.let_value(name, Value { rhs: Rhs::Atomic { op, at, v, order, cond }, ty })
    }
    /// `v` clamped to `lo..hi`, named; a value outside is reported with `code` and `at`.
    pub fn guard(&mut self, name: &str, v: &Ex, lo: impl Into<Ex>, hi: impl Into<Ex>, code: Code, at: &Ex) -> Ex {
        let v = self.ex(v);
        let ty = self.k.exprs[v].ty.clone();
        let (lo, hi, at) = (self.ex_as(&lo.into(), &ty), self.ex_as(&hi.into(), &ty), self.ex(at));
        self.let_value(name, Value { rhs: Rhs::Guard { v, lo, hi, code, at }, ty })
    }
    /// A condition that holds.
    pub fn assume(&mut self, e: &Ex) {
        let e = self.ex(e);
        self.push(Stmt::Assume(e));
    }

    pub(super) fn repeat(&mut self, name: &str, lo: Ex, hi: Ex, step: Ex, kind: LoopKind, f: impl FnOnce(&mut Self, Ex)) {
        let ty = lo.ty().or(hi.ty()).or(step.ty()).cloned().unwrap_or(Ty::Scalar(self.index()));
        let (lo, hi, step) = (self.ex_as(&lo, &ty), self.ex_as(&hi, &ty), self.ex_as(&step, &ty));
        let vk = if kind == LoopKind::Seq { VarKind::Loop } else { VarKind::Unrolled };
        let mut slot = None;
        let body = self.block(|k| {
            let var = k.new_var(name, ty.clone(), &[], vk);
            slot = Some(var);
            f(k, Ex::node(Op::Var(var), vec![], Some(ty.clone())));
        });
        if let Some(var) = slot {
            self.push(Stmt::For { var, lo, hi, step, kind, body });
        }
    }
    /// Repeats at run time for `lo, lo + step, ..` below `hi`.
    pub fn for_(&mut self, name: &str, lo: impl Into<Ex>, hi: impl Into<Ex>, step: impl Into<Ex>, f: impl FnOnce(&mut Self, Ex)) {
        self.repeat(name, lo.into(), hi.into(), step.into(), LoopKind::Seq, f);
    }
    /// Copies of the body for `lo..hi`; the counter is constant in each.
    pub fn unroll(&mut self, name: &str, lo: i64, hi: i64, f: impl FnOnce(&mut Self, Ex)) {
        self.repeat(name, lo.into(), hi.into(), 1.into(), LoopKind::Unroll, f);
    }
    /// Copies of the body, one per value.
    pub fn unroll_list(&mut self, name: &str, values: &[i64], f: impl FnOnce(&mut Self, Ex)) {
        self.repeat(name, 0.into(), 0.into(), 1.into(), LoopKind::List(values.to_vec()), f);
    }
    /// The block where the condition holds.
    pub fn if_(&mut self, c: impl Into<Ex>, f: impl FnOnce(&mut Self)) {
        self.if_else(c, f, |_| {});
    }
    /// One block or the other.
    pub fn if_else(&mut self, c: impl Into<Ex>, f: impl FnOnce(&mut Self), g: impl FnOnce(&mut Self)) {
        let cond = self.ex_as(&c.into(), &Ty::BOOL);
        let then = self.block(f);
        let els = self.block(g);
        self.push(Stmt::If { cond, then, els });
    }

    /// The kernel as built so far, unverified.
    pub fn into_kernel(mut self) -> Kernel {
        self.k.body = self.blocks.pop().unwrap_or_default();
        self.k
    }
    /// Ends the kernel, unverified, and puts it into the module; a name that is taken gets a number.
    pub fn finish(self) -> KernelId {
        let (module, k) = self.into_parts();
        module.add_kernel(k)
    }
}

/// For the parts of the builder in other files.
impl<'m> Kb<'m> {
    pub(super) fn into_parts(mut self) -> (&'m mut Module, Kernel) {
        self.k.body = self.blocks.pop().unwrap_or_default();
        (self.module, self.k)
    }
    pub(super) fn kernel_mut(&mut self) -> &mut Kernel {
        &mut self.k
    }
    /// A name that is free in the open scope, entered into it.
    pub(super) fn claim(&mut self, name: &str) -> String {
        self.fresh(name, self.scopes.len().saturating_sub(1))
    }
    /// A name that is free in the open scope, entered into the whole kernel.
    pub(super) fn claim_global(&mut self, name: &str) -> String {
        self.fresh(name, 0)
    }
    pub(super) fn scoped(&mut self, f: impl FnOnce(&mut Self)) -> Block {
        self.block(f)
    }
    pub(super) fn lowered(&mut self, m: &Mem) -> (Access, Cond, Option<ExprId>) {
        let a = self.access(m);
        let n = a.elems();
        (a, self.cond(m, n), self.other(m))
    }
}

impl Module {
    /// Adds a kernel; a name that is taken gets a number.
    pub fn add_kernel(&mut self, mut k: Kernel) -> KernelId {
        let base = k.name.clone();
        let mut i = 2;
        while self.kernel_named(&k.name).is_some() {
            k.name = format!("{base}_{i}");
            i += 1;
        }
        self.kernels.push(k)
    }
}

impl Ex {
    pub(super) fn var(v: VarId, ty: Ty) -> Ex {
        Ex::node(Op::Var(v), vec![], Some(ty))
    }
    fn with_int(&self, v: i128) -> Ex {
        Ex::node(Op::Lit(super::Lit::Int(v)), vec![], self.0.ty.clone())
    }
}

fn call_ex(fns: &PrimaryMap<FnId, ElemFn>, f: FnId, args: &[Ex]) -> Ex {
    let Some(def) = fns.get(f) else { return Ex::node(Op::Call(f), args.to_vec(), Some(Ty::Scalar(DType::F32))) };
    let shape = args.iter().find_map(|a| a.ty().cloned());
    let args: Vec<Ex> =
        def.param_dtypes().zip(args).map(|(d, a)| a.typed(&shape.as_ref().map_or(Ty::Scalar(d), |s| s.with_elem(d)))).collect();
    let tys: Vec<Ty> = args.iter().filter_map(|a| a.ty().cloned()).collect();
    let ty = typing::call_type(def.param_dtypes(), def.ret, &tys).unwrap_or(Ty::Scalar(def.ret));
    Ex::node(Op::Call(f), args, Some(ty))
}

/// Builds one elementwise function.
pub struct Fb<'m> {
    fns: &'m PrimaryMap<FnId, ElemFn>,
    vars: PrimaryMap<VarId, Var>,
    exprs: PrimaryMap<ExprId, Expr>,
    lets: Vec<(VarId, ExprId)>,
}

impl Fb<'_> {
    /// Names a temporary.
    pub fn let_(&mut self, name: &str, e: impl Into<Ex>) -> Ex {
        let id = lower(&mut self.exprs, &e.into(), DType::I64);
        let ty = self.exprs[id].ty.clone();
        let var = self.vars.push(Var { name: self.free(name), ty: ty.clone(), arr: SmallVec::new(), kind: VarKind::Let });
        self.lets.push((var, id));
        Ex::node(Op::Var(var), vec![], Some(ty))
    }
    /// A call of a function that the module has already.
    pub fn call(&self, f: FnId, args: &[Ex]) -> Ex {
        call_ex(self.fns, f, args)
    }
    fn free(&self, name: &str) -> String {
        let base = print::legal_name(name);
        let taken = |n: &str| self.vars.values().any(|v| v.name == n) || self.fns.values().any(|f| f.name == n) || print::reserved(n);
        let mut out = base.clone();
        let mut i = 2;
        while taken(&out) {
            out = format!("{base}_{i}");
            i += 1;
        }
        out
    }
}

impl Module {
    /// Defines an elementwise function, or finds the equal one of that name; another one of that name gets a number.
    pub fn define_fn(&mut self, name: &str, params: &[(&str, DType)], ret: DType, f: impl FnOnce(&mut Fb<'_>, &[Ex]) -> Ex) -> FnId {
        let mut b = Fb { fns: &self.fns, vars: PrimaryMap::new(), exprs: PrimaryMap::new(), lets: Vec::new() };
        let mut ids = Vec::new();
        let mut handles = Vec::new();
        for (n, d) in params {
            let name = b.free(n);
            let id = b.vars.push(Var { name, ty: Ty::Scalar(*d), arr: SmallVec::new(), kind: VarKind::Param });
            ids.push(id);
            handles.push(Ex::node(Op::Var(id), vec![], Some(Ty::Scalar(*d))));
        }
        let value = f(&mut b, &handles).typed(&Ty::Scalar(ret));
        let result = lower(&mut b.exprs, &value, DType::I64);
        let Fb { vars, exprs, lets, .. } = b;
        let mut def = ElemFn { name: print::legal_name(name), params: ids, ret, vars, exprs, lets, result };
        let base = def.name.clone();
        let mut i = 2;
        loop {
            let found = self.fn_named(&def.name).map(|id| (id, &self.fns[id]));
            match found {
                Some((id, g)) if print::same_fn(&self.fns, g, &def) => return id,
                Some(_) => {
                    def.name = format!("{base}_{i}");
                    i += 1;
                }
                None if print::reserved(&def.name) => {
                    def.name = format!("{base}_{i}");
                    i += 1;
                }
                None => return self.fns.push(def),
            }
        }
    }
}
