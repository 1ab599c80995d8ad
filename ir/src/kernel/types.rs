// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a kernel is made of: symbols, parameters, buffers, variables, the launch.

use std::fmt;

use smallvec::SmallVec;

use super::{Atom, ElemFn, Expr, Stmt};
use crate::dtype::DType;
use crate::entity::{EntityId, PrimaryMap};
use crate::sym::SymExpr;

crate::entity_ids! {
    /// A kernel of a module.
    KernelId "k",
    /// An elementwise function of a module.
    FnId "fn",
    /// A matrix atom of a module.
    AtomId "atom",
    /// A buffer of a kernel: parameter, shared, local or accumulator memory.
    BufId "b",
    /// A variable of a kernel or a function.
    VarId "v",
    /// A node of an expression tree.
    ExprId "e",
    /// A statement.
    StmtId "s",
    /// A queue of asynchronous copies.
    QueueId "q",
    /// A phased signal, or an array of them.
    BarId "bar",
}

/// Kernels with the elementwise functions and matrix atoms that they use.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Kernels in order of definition.
    pub kernels: PrimaryMap<KernelId, Kernel>,
    /// Elementwise functions; a function calls only functions before it.
    pub fns: PrimaryMap<FnId, ElemFn>,
    /// Matrix atoms.
    pub atoms: PrimaryMap<AtomId, Atom>,
}

impl Module {
    /// Makes an empty module.
    pub fn new() -> Self {
        Self::default()
    }
    /// The kernel of that name.
    pub fn kernel_named(&self, name: &str) -> Option<KernelId> {
        self.kernels.iter().find(|(_, k)| k.name == name).map(|(id, _)| id)
    }
    /// The function of that name.
    pub fn fn_named(&self, name: &str) -> Option<FnId> {
        self.fns.iter().find(|(_, f)| f.name == name).map(|(id, _)| id)
    }
    /// The atom of that name.
    pub fn atom_named(&self, name: &str) -> Option<AtomId> {
        self.atoms.iter().find(|(_, a)| a.name == name).map(|(id, _)| id)
    }
    /// Adds an atom, or finds the equal one that is there.
    pub fn add_atom(&mut self, atom: Atom) -> AtomId {
        let found = self.atoms.iter().find(|(_, a)| **a == atom).map(|(id, _)| id);
        found.unwrap_or_else(|| self.atoms.push(atom))
    }
}

/// Machine class that a kernel is written for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A group is one task of the thread pool with one lane.
    Cpu,
    /// A group is a block of lanes in warps.
    Simt,
    /// A lane is a core with software-managed memory, copy queues and cube and vector units.
    TileCore,
}

impl Class {
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Class::Cpu => "cpu",
            Class::Simt => "simt",
            Class::TileCore => "tile_core",
        }
    }
    /// Width of an index that nothing else determines.
    pub fn index(self) -> DType {
        if self == Class::Cpu { DType::I64 } else { DType::I32 }
    }
}

/// A structured program that runs once per lane of every group of its launch.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Name, unique in the module.
    pub name: String,
    /// Machine class.
    pub class: Class,
    /// Symbols with their ranges: integers that are equal for the whole launch.
    pub syms: Vec<Sym>,
    /// Parameters in the order of the ABI; symbols come before scalars there.
    pub params: Vec<Param>,
    /// Shape of the launch.
    pub launch: Launch,
    /// Buffers.
    pub bufs: PrimaryMap<BufId, Buffer>,
    /// Queues of asynchronous copies.
    pub queues: PrimaryMap<QueueId, Queue>,
    /// Phased signals.
    pub bars: PrimaryMap<BarId, Bar>,
    /// Variables.
    pub vars: PrimaryMap<VarId, Var>,
    /// Expression nodes; every node has one parent.
    pub exprs: PrimaryMap<ExprId, Expr>,
    /// Statements; every statement stands in one block.
    pub stmts: PrimaryMap<StmtId, Stmt>,
    /// The body.
    pub body: Block,
    /// Paths of the model's nodes that the kernel computes; no part of [`Kernel::structural_hash`].
    pub origin: Vec<String>,
}

/// Statements in order.
pub type Block = Vec<StmtId>;

/// A named integer that is equal for the whole launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sym {
    /// Name in expressions.
    pub name: String,
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
    /// Every value is a multiple of it; 1 if nothing is known.
    pub div: i64,
}

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// Global memory.
    Buf(BufId),
    /// A scalar; the variable is defined at entry and equal for the whole launch.
    Scalar(VarId),
    /// A box descriptor over global memory for bulk copies.
    TensorMap {
        /// The memory.
        buf: BufId,
        /// Extents of one box.
        box_: SmallVec<[u32; 4]>,
        /// How the hardware permutes a box in shared memory.
        swizzle: Swizzle,
    },
    /// Where guards report; its name in text.
    Status(String),
}

/// Shape of a launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// Number of groups in x, y, z.
    pub grid: [SymExpr; 3],
    /// Lanes of a group.
    pub group: u32,
    /// Lanes of a warp.
    pub warp: u32,
    /// Whether z counts steps: a group begins when all groups of smaller z have ended, and sees what they wrote.
    pub steps: bool,
}

impl Default for Launch {
    fn default() -> Self {
        Launch { grid: [1.into(), 1.into(), 1.into()], group: 1, warp: 1, steps: false }
    }
}

/// Who sees a buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// All groups of all launches.
    Global,
    /// The lanes of a group.
    Shared,
    /// One lane; on cpu a slice of the thread's scratch, on tile_core the core's memory.
    Local,
    /// Accumulators of matrix units; one per lane on tile_core, one per group on simt.
    Acc,
}

impl Space {
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Acc => "acc",
        }
    }
}

/// What a kernel does with global memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Reads only.
    Ro,
    /// Writes only.
    Wo,
    /// Reads and writes.
    Rw,
}

impl Mode {
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Ro => "ro",
            Mode::Wo => "wo",
            Mode::Rw => "rw",
        }
    }
    /// Whether loads are legal.
    pub fn reads(self) -> bool {
        self != Mode::Wo
    }
    /// Whether stores are legal.
    pub fn writes(self) -> bool {
        self != Mode::Ro
    }
}

/// A permutation that the hardware applies to 16-byte units of a row.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Rows as they are.
    None,
    /// 32-byte rows, 2 units.
    Sw32,
    /// 64-byte rows, 4 units.
    Sw64,
    /// 128-byte rows, 8 units.
    Sw128,
}

impl Swizzle {
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Swizzle::None => "sw0",
            Swizzle::Sw32 => "sw32",
            Swizzle::Sw64 => "sw64",
            Swizzle::Sw128 => "sw128",
        }
    }
    /// The swizzle of that name.
    pub fn from_name(s: &str) -> Option<Self> {
        [Swizzle::None, Swizzle::Sw32, Swizzle::Sw64, Swizzle::Sw128].into_iter().find(|x| x.name() == s)
    }
    /// Bytes of a row that is permuted as one; 0 for none.
    pub fn row_bytes(self) -> u32 {
        match self {
            Swizzle::None => 0,
            Swizzle::Sw32 => 32,
            Swizzle::Sw64 => 64,
            Swizzle::Sw128 => 128,
        }
    }
}

/// How the innermost dim of an on-chip buffer lies in memory; always a bijection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// As the strides say.
    Plain,
    /// This many elements are added to each row of the innermost dim.
    Pad(u32),
    /// Unit `u` of row `r` lies at `u ^ ((r >> shift) & mask)`.
    Xor {
        /// Elements of a unit.
        unit: u32,
        /// Right shift of the row number.
        shift: u8,
        /// Mask of the shifted row number; one less than a power of two.
        mask: u8,
    },
    /// As the hardware permutes it.
    Hw(Swizzle),
}

/// Memory with a dtype, dims and strides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Name, unique in the kernel.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents; no dims is one element.
    pub dims: Vec<SymExpr>,
    /// Distance of neighbors in elements, one per dim; row-major unless written.
    pub strides: Vec<SymExpr>,
    /// Who sees it.
    pub space: Space,
    /// What the kernel does with it.
    pub mode: Mode,
    /// Alignment of the first element in bytes.
    pub align: u32,
    /// Permutation of rows.
    pub layout: Layout,
    /// Whose bytes it shares, and at which byte of it this buffer begins.
    pub alias: Option<(BufId, u32)>,
}

impl Buffer {
    /// Row-major strides of those dims, with the padding of the layout.
    pub fn row_major(dims: &[SymExpr], layout: Layout) -> Vec<SymExpr> {
        let mut step = SymExpr::from(1);
        let mut out = vec![SymExpr::from(1); dims.len()];
        for i in (0..dims.len()).rev() {
            out[i] = step.clone();
            step = &step * &dims[i];
            if let (Layout::Pad(p), true) = (layout, i + 1 == dims.len()) {
                step = step + i64::from(p);
            }
        }
        out
    }
    /// Whether the strides are those of [`Buffer::row_major`].
    pub fn is_row_major(&self) -> bool {
        self.strides == Self::row_major(&self.dims, self.layout)
    }
    /// Elements from the first to behind the last, as an expression over symbols; 0 dims is 1.
    pub fn span_elems(&self) -> SymExpr {
        if self.is_row_major() {
            return match (self.dims.first(), self.strides.first()) {
                (Some(d), Some(s)) => d * s,
                _ => 1.into(),
            };
        }
        let last = self.dims.iter().zip(&self.strides).map(|(d, s)| (d.clone() - 1) * s.clone());
        last.fold(SymExpr::from(1), |a, b| a + b)
    }
    /// Bytes from the first element to behind the last, packed types rounded up.
    pub fn span_bytes(&self) -> SymExpr {
        match self.dtype.bytes() {
            Some(b) => self.span_elems() * i64::from(b),
            None => (self.span_elems() * i64::from(self.dtype.bits())).ceil_div(&8.into()),
        }
    }
}

/// A queue of asynchronous copies; `commit` closes a group of copies, `wait q n` waits for all but the last `n` groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// Name, unique in the kernel.
    pub name: String,
}

/// A phased signal, or an array of them, in shared memory (flags between the agents of a core on tile_core).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bar {
    /// Name, unique in the kernel.
    pub name: String,
    /// Extents; none for one signal.
    pub dims: SmallVec<[u32; 2]>,
}

/// Where a tile lives.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// Vector memory (UB, NRAM, L1, LM).
    Vec,
    /// Left operand of the matrix unit.
    MatA,
    /// Right operand of the matrix unit.
    MatB,
    /// Accumulator of the matrix unit.
    Acc,
}

impl Home {
    /// Every home.
    pub const ALL: [Home; 4] = [Home::Vec, Home::MatA, Home::MatB, Home::Acc];
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Home::Vec => "Vec",
            Home::MatA => "MatA",
            Home::MatB => "MatB",
            Home::Acc => "Acc",
        }
    }
}

/// Operand of a matrix atom.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// Left factor, `[m, k]`.
    A,
    /// Right factor, `[k, n]`.
    B,
    /// Accumulator, `[m, n]`.
    C,
}

impl Operand {
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Operand::A => "a",
            Operand::B => "b",
            Operand::C => "c",
        }
    }
    /// Dims of the operand, as indices into `(m, n, k)`.
    pub fn dims(self) -> [usize; 2] {
        match self {
            Operand::A => [0, 2],
            Operand::B => [2, 1],
            Operand::C => [0, 1],
        }
    }
}

/// Dims of a tile.
pub type TileDims = SmallVec<[u32; 2]>;

/// Type of an expression or a variable. Vectors of `bool` are masks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// One element.
    Scalar(DType),
    /// That many elements; of `bool` it is a mask.
    Vec(DType, u16),
    /// A lane's part of an operand of a matrix atom.
    Frag(AtomId, Operand),
    /// A block of elements in a core's memory.
    Tile {
        /// Element type.
        dtype: DType,
        /// Extents.
        dims: TileDims,
        /// Where it lives.
        home: Home,
    },
}

impl Ty {
    /// The type of conditions.
    pub const BOOL: Ty = Ty::Scalar(DType::Bool);
    /// A mask of `n` elements.
    pub fn mask(n: u16) -> Ty {
        Ty::Vec(DType::Bool, n)
    }
    /// `n` elements; a scalar for `n == 1`.
    pub fn of(dtype: DType, n: u32) -> Ty {
        if n == 1 { Ty::Scalar(dtype) } else { Ty::Vec(dtype, n.min(u32::from(u16::MAX)) as u16) }
    }
    /// Element type of a scalar, vector or tile.
    pub fn elem(&self) -> Option<DType> {
        match self {
            Ty::Scalar(d) | Ty::Vec(d, _) | Ty::Tile { dtype: d, .. } => Some(*d),
            Ty::Frag(..) => None,
        }
    }
    /// Number of elements of a scalar (1) or a vector.
    pub fn lanes(&self) -> Option<u16> {
        match self {
            Ty::Scalar(_) => Some(1),
            Ty::Vec(_, n) => Some(*n),
            _ => None,
        }
    }
    /// Same shape with another element type.
    pub fn with_elem(&self, d: DType) -> Ty {
        match self {
            Ty::Scalar(_) | Ty::Frag(..) => Ty::Scalar(d),
            Ty::Vec(_, n) => Ty::Vec(d, *n),
            Ty::Tile { dims, home, .. } => Ty::Tile { dtype: d, dims: dims.clone(), home: *home },
        }
    }
    /// The type of the same bits in elements of `d`: as many elements as fit, so another number where the widths differ.
    pub fn regrouped(&self, d: DType) -> Ty {
        match (self.lanes(), self.elem()) {
            (Some(n), Some(from)) if from.bits() != d.bits() && d.bits() > 0 => Ty::of(d, u32::from(n) * from.bits() / d.bits()),
            _ => self.with_elem(d),
        }
    }
}

/// A named value: constant, assignable, or counting a loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Var {
    /// Name, unique among the names in scope.
    pub name: String,
    /// Type of one element of the array.
    pub ty: Ty,
    /// Extents of an array of registers; its indices are constant after unrolling.
    pub arr: SmallVec<[u32; 3]>,
    /// How it gets its value.
    pub kind: VarKind,
}

/// How a variable gets its value.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum VarKind {
    /// Once, where it is defined.
    Let,
    /// By any number of assignments.
    Var,
    /// By its loop, which is repeated at run time.
    Loop,
    /// By its loop, which is unrolled: constant in every copy of the body.
    Unrolled,
    /// By `map`, `reduce`, `scan` or `each`.
    Bound,
    /// By the caller.
    Param,
}

impl Kernel {
    /// An empty kernel.
    pub fn new(name: impl Into<String>, class: Class) -> Self {
        Kernel {
            name: name.into(),
            class,
            syms: Vec::new(),
            params: Vec::new(),
            launch: Launch::default(),
            bufs: PrimaryMap::new(),
            queues: PrimaryMap::new(),
            bars: PrimaryMap::new(),
            vars: PrimaryMap::new(),
            exprs: PrimaryMap::new(),
            stmts: PrimaryMap::new(),
            body: Vec::new(),
            origin: Vec::new(),
        }
    }
    /// The symbol of that name.
    pub fn sym(&self, name: &str) -> Option<&Sym> {
        self.syms.iter().find(|s| s.name == name)
    }
    /// Buffers of the ABI, in order.
    pub fn abi_bufs(&self) -> impl Iterator<Item = BufId> + '_ {
        self.params.iter().filter_map(|p| match p {
            Param::Buf(b) | Param::TensorMap { buf: b, .. } => Some(*b),
            _ => None,
        })
    }
    /// Scalar parameters of the ABI, in order; they follow the symbols.
    pub fn abi_scalars(&self) -> impl Iterator<Item = VarId> + '_ {
        self.params.iter().filter_map(|p| if let Param::Scalar(v) = p { Some(*v) } else { None })
    }
    /// Buffers of that space that are no parameters, in order of declaration.
    pub fn on_chip(&self, space: Space) -> impl Iterator<Item = (BufId, &Buffer)> + '_ {
        self.bufs.iter().filter(move |(_, b)| b.space == space && space != Space::Global)
    }
    /// Bytes of a `local` buffer that is small, of constant size and nobody's base: it lies with the variables of its lane, and takes no
    /// scratch.
    pub fn small_local(&self, id: BufId) -> Option<u32> {
        let b = self.bufs.get(id).filter(|b| b.space == Space::Local && b.alias.is_none())?;
        let bytes = u32::try_from(b.span_bytes().as_const()?).ok()?;
        let base = self.bufs.values().any(|o| o.alias.is_some_and(|(to, _)| to == id));
        (self.class == Class::Cpu && !base && bytes <= 256).then_some(bytes)
    }
    /// Bytes of `local` scratch of one lane, each buffer on a 64-byte boundary, as an expression over symbols.
    pub fn local_bytes(&self) -> SymExpr {
        self.local_offsets().last().map_or(0.into(), |(_, off, size)| off.clone() + size.clone())
    }
    /// Byte offset and size (rounded up to 64) of every `local` buffer in the lane's scratch, without the small ones.
    pub fn local_offsets(&self) -> Vec<(BufId, SymExpr, SymExpr)> {
        let mut at = SymExpr::from(0);
        let mut out: Vec<(BufId, SymExpr, SymExpr)> = Vec::new();
        for (id, b) in self.on_chip(Space::Local).filter(|(id, _)| self.small_local(*id).is_none()) {
            if let Some((base, byte)) = b.alias
                && let Some(known) = out.iter().find(|o| o.0 == base).map(|o| o.1.clone())
            {
                let at_base = known + i64::from(byte);
                out.insert(0, (id, at_base, 0.into()));
                continue;
            }
            let size = b.span_bytes().round_up(64);
            out.push((id, at.clone(), size.clone()));
            at = at + size;
        }
        out
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Position of an id in its map; for tables beside the maps.
pub fn at<K: EntityId>(id: K) -> usize {
    id.index()
}
