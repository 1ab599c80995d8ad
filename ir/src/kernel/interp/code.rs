// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The flat form of a kernel for one assignment of its symbols: unrolled, inlined, with a slot for every value.
//!
//! A slot holds one element for every lane of the group; a vector of n elements is n slots in order. An instruction
//! writes a slot above those that it reads, so that sources and destination are never the same memory.

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::kernel::{
    AtomId, AtomicOp, BinOp, BufId, CmpOp, Code, HOp, Level, Operand, Order, RedOp, ShuffleKind, StmtId, UnOp, VarId, VoteKind,
};

/// A slot: a register, or a constant if [`CONST`] is set.
pub(super) type Slot = u32;
/// Marks a slot of the constant pool.
pub(super) const CONST: Slot = 1 << 31;

/// An index into memory with its width.
#[derive(Copy, Clone, Debug)]
pub(super) struct Ix {
    pub slot: Slot,
    pub wide: bool,
}

#[derive(Clone, Debug)]
pub(super) enum CondAt {
    Always,
    When(Slot),
    Mask(Slot),
    Valid(SmallVec<[Ix; 2]>),
}

/// A block of memory.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub buf: BufId,
    pub idx: SmallVec<[Ix; 4]>,
    pub len: SmallVec<[u32; 4]>,
}

#[derive(Clone, Debug)]
pub(super) struct MemOp {
    pub at: Block,
    pub cond: CondAt,
    pub other: Option<Slot>,
    pub n: u32,
    /// Destination of a load, source of a store.
    pub val: Slot,
    /// Index vectors instead of a block.
    pub indexed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FragOp {
    pub at: Block,
    pub atom: AtomId,
    pub operand: Operand,
    pub order: [u8; 2],
    pub regs: Slot,
    pub tile: bool,
}

#[derive(Clone, Debug)]
pub(super) struct MmaOp {
    pub atom: AtomId,
    pub a: Slot,
    pub b: Slot,
    pub c: Slot,
    pub o: Slot,
    /// Extents m, n, k: the atom's, or those of whole tiles.
    pub dims: [u32; 3],
}

#[derive(Clone, Debug)]
pub(super) struct CopyOp {
    pub queue: u32,
    pub dst: Block,
    pub src: Block,
    pub cond: CondAt,
    pub other: Option<Slot>,
}

#[derive(Clone, Debug)]
pub(super) struct BarAt {
    pub bar: u32,
    pub dims: SmallVec<[u32; 2]>,
    pub idx: SmallVec<[Ix; 2]>,
}

#[derive(Clone, Debug)]
pub(super) struct TileAt {
    pub tile: Slot,
    pub dims: SmallVec<[u32; 2]>,
    pub idx: SmallVec<[Ix; 2]>,
    pub n: u32,
    pub o: Slot,
    pub poison: bool,
}

#[derive(Clone, Debug)]
pub(super) struct SliceOp {
    pub tile: Slot,
    pub dims: SmallVec<[u32; 2]>,
    pub idx: SmallVec<[Ix; 2]>,
    pub len: SmallVec<[u32; 2]>,
    pub val: Slot,
}

#[derive(Clone, Debug)]
pub(super) struct AtomicAt {
    pub at: Block,
    pub op: AtomicOp,
    pub order: Order,
    pub d: DType,
    pub v: Slot,
    pub cond: CondAt,
    pub o: Slot,
}

#[derive(Clone, Debug)]
pub(super) struct GuardOp {
    pub d: DType,
    pub v: Slot,
    pub lo: Slot,
    pub hi: Slot,
    pub at: Ix,
    pub code: Code,
    pub o: Slot,
}

#[derive(Clone, Debug)]
pub(super) enum Ins {
    Un {
        op: UnOp,
        d: DType,
        n: u32,
        a: Slot,
        o: Slot,
    },
    Bin {
        op: BinOp,
        d: DType,
        n: u32,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    Cmp {
        op: CmpOp,
        d: DType,
        n: u32,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    Select {
        n: u32,
        scalar: bool,
        c: Slot,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    Fma {
        d: DType,
        n: u32,
        a: Slot,
        b: Slot,
        c: Slot,
        o: Slot,
    },
    Cast {
        from: DType,
        to: DType,
        sat: bool,
        n: u32,
        a: Slot,
        o: Slot,
    },
    /// Elements of `from` bits as `n` elements of `to` bits, low bits first.
    Regroup {
        from: u32,
        to: u32,
        n: u32,
        a: Slot,
        o: Slot,
    },
    Copy {
        n: u32,
        a: Slot,
        o: Slot,
    },
    /// A copy for active lanes only.
    Set {
        n: u32,
        a: Slot,
        o: Slot,
    },
    Splat {
        n: u32,
        a: Slot,
        o: Slot,
    },
    Iota {
        d: DType,
        n: u32,
        a: Slot,
        o: Slot,
    },
    MaskLt {
        d: DType,
        n: u32,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    Shuffle {
        list: SmallVec<[u16; 16]>,
        n: u32,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    Hred {
        op: HOp,
        d: DType,
        n: u32,
        a: Slot,
        o: Slot,
    },
    Dot2 {
        n: u32,
        acc: Slot,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    Dot4 {
        n: u32,
        acc: Slot,
        a: Slot,
        b: Slot,
        signed: [bool; 2],
        o: Slot,
    },
    Reduce {
        op: RedOp,
        d: DType,
        outer: u32,
        inner: u32,
        scan: bool,
        a: Slot,
        o: Slot,
    },
    Transpose {
        rows: u32,
        cols: u32,
        a: Slot,
        o: Slot,
    },
    TileAt(Box<TileAt>),
    Slice(Box<SliceOp>),

    /// Poison of `o` is that of the sources; `sources` of 1 element count for all.
    Poison {
        n: u32,
        o: Slot,
        from: SmallVec<[(Slot, u32); 3]>,
    },
    PoisonSelect {
        n: u32,
        scalar: bool,
        c: Slot,
        a: Slot,
        b: Slot,
        o: Slot,
    },
    /// Makes active lanes of `o` poison, or as poisoned as `a`.
    PoisonSet {
        n: u32,
        a: Option<Slot>,
        o: Slot,
    },
    NoPoison {
        n: u32,
        a: Slot,
        what: &'static str,
    },

    Load(Box<MemOp>),
    Store(Box<MemOp>),
    Alloc(BufId),
    FragLoad(Box<FragOp>),
    FragStore(Box<FragOp>),
    Mma(Box<MmaOp>),
    Exchange {
        kind: ShuffleKind,
        width: u32,
        v: Slot,
        by: Slot,
        n: u32,
        o: Slot,
        poison: bool,
    },
    Vote {
        kind: VoteKind,
        v: Slot,
        wide: bool,
        o: Slot,
    },
    Atomic(Box<AtomicAt>),
    Guard(Box<GuardOp>),
    Assume(Slot),

    CopyAsync(Box<CopyOp>),
    Commit(u32),
    Wait(u32, u32),
    CopyBulk {
        dst: Box<Block>,
        src: Box<Block>,
        bar: Box<BarAt>,
    },
    BarInit(Box<BarAt>, Slot),
    BarExpect(Box<BarAt>, Slot),
    BarArrive(Box<BarAt>),
    BarWait(Box<BarAt>, Slot),
    Barrier(Level),
    FenceInit,
    FenceProxy,
    MmaAsync {
        atom: AtomId,
        acc: Slot,
        var: VarId,
        a: Box<Block>,
        b: Box<Block>,
    },
    MmaFence,
    MmaCommit,
    MmaWait(u32),
    /// The accumulator is read or written by the lanes.
    AccUse {
        var: VarId,
        write: bool,
    },

    If {
        cond: Slot,
        els: u32,
    },
    Else {
        end: u32,
    },
    EndIf,
    ForInit {
        d: DType,
        var: Slot,
        lo: Slot,
        hi: Slot,
        step: Slot,
        exit: u32,
    },
    ForNext {
        d: DType,
        var: Slot,
        hi: Slot,
        step: Slot,
        body: u32,
    },
    /// Starts the roles, and ends the stream.
    Roles,
    End,
}

/// A stream of its own.
#[derive(Clone, Debug)]
pub(super) struct RoleCode {
    pub name: String,
    pub start: u32,
    /// First lane and number of lanes.
    pub lanes: (u32, u32),
}

/// A compiled kernel.
pub(super) struct Program {
    pub code: Vec<Ins>,
    pub stmt: Vec<StmtId>,
    pub consts: Vec<u64>,
    /// Registers per lane.
    pub slots: u32,
    /// Registers of gx, gy, gz.
    pub group_slots: [Slot; 3],
    pub has_poison: bool,
    pub roles: Vec<RoleCode>,
    pub grid: [i64; 3],
    pub lanes: u32,
    pub bufs: Vec<BufShape>,
}

/// A buffer for one assignment of the symbols.
#[derive(Clone, Debug)]
pub(super) struct BufShape {
    pub dtype: DType,
    pub dims: SmallVec<[i64; 6]>,
    pub strides: SmallVec<[i64; 6]>,
    pub bytes: u64,
}
