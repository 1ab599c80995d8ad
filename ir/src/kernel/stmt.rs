// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Statements: everything with an effect or an order.

use smallvec::SmallVec;

use super::expr::named_ops;
use super::{AtomId, BarId, Block, BufId, ExprId, QueueId, VarId};

/// A block of a buffer: one index per dim, and how many elements from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The buffer.
    pub buf: BufId,
    /// First index per dim. A gather or scatter may have vectors here.
    pub idx: SmallVec<[ExprId; 4]>,
    /// Number of elements per dim, 1 where the text says none.
    pub len: SmallVec<[u32; 4]>,
}

impl Access {
    /// Number of elements.
    pub fn elems(&self) -> u32 {
        self.len.iter().product()
    }
}

/// Which elements of an access happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// All.
    Always,
    /// All or none.
    When(ExprId),
    /// Those whose mask element holds.
    Mask(ExprId),
    /// The leading ones: one extent per dim of the access that is longer than 1, in order.
    Valid(SmallVec<[ExprId; 2]>),
}

/// A variable, an element of an array of registers, or a slice of a tile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The variable.
    pub var: VarId,
    /// Indices of the array of registers, or of the tile slice.
    pub idx: SmallVec<[ExprId; 2]>,
    /// Extents of a tile slice; empty for a variable or register.
    pub len: SmallVec<[u32; 2]>,
}

/// A phased signal: the array and the index in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BarRef {
    /// The array.
    pub bar: BarId,
    /// One index per dim of the array; any integer expression.
    pub idx: SmallVec<[ExprId; 2]>,
}

named_ops! {
    /// Who takes part.
    Level {
        /// The lanes of a group.
        Group "group",
        /// The lanes of a warp.
        Warp "warp",
        /// The lanes of the role that this is written in.
        Role "role",
    }
}

named_ops! {
    /// How a fragment moves between memory and registers.
    Via {
        /// By plain loads and stores of each lane.
        Lane "lane",
        /// By the collective matrix load.
        Ldmatrix "ldmatrix",
        /// By the collective matrix load that transposes.
        LdmatrixTrans "ldmatrix.trans",
        /// As a tile register.
        Tile "tile",
        /// From accumulator memory.
        Tmem "tmem",
    }
}

named_ops! {
    /// Which order a fence makes.
    Fence {
        /// Initialization of signals becomes visible to copy engines.
        Init "init",
        /// Plain stores become visible to copy engines and matrix units.
        Proxy "proxy",
    }
}

named_ops! {
    /// How lanes exchange values.
    ShuffleKind {
        /// From lane `wlane ^ by`.
        Xor "shuffle.xor",
        /// From lane `wlane - by`; a lane without a source keeps its value.
        Up "shuffle.up",
        /// From lane `wlane + by`; a lane without a source keeps its value.
        Down "shuffle.down",
        /// From lane `by`.
        Idx "shuffle.idx",
    }
}

named_ops! {
    /// Votes of a warp.
    VoteKind {
        /// Whether any lane holds.
        Any "vote.any",
        /// Whether all lanes hold.
        All "vote.all",
        /// One bit a lane, as u32 or u64.
        Ballot "vote.ballot",
    }
}

named_ops! {
    /// Read-modify-write operations.
    AtomicOp {
        /// Sum; integers modulo 2^bits.
        Add "atomic.add",
        /// Larger.
        Max "atomic.max",
        /// Smaller.
        Min "atomic.min",
        /// Bitwise and.
        And "atomic.and",
        /// Bitwise or.
        Or "atomic.or",
        /// Bitwise exclusive or.
        Xor "atomic.xor",
        /// Exchange.
        Xchg "atomic.xchg",
    }
}

named_ops! {
    /// Memory order of an atomic.
    Order {
        /// Orders nothing else.
        Relaxed "relaxed",
        /// What came before the release is seen after the acquire.
        AcqRel "acq_rel",
    }
}

named_ops! {
    /// Reductions over an axis of a tile, left to right.
    RedOp {
        /// Sum.
        Sum "sum",
        /// Product.
        Prod "prod",
        /// Largest; NaN if any is.
        Max "max",
        /// Smallest; NaN if any is.
        Min "min",
    }
}

named_ops! {
    /// What a failed guard reports.
    Code {
        /// An index of the model's input is outside its table.
        Index "INDEX",
        /// A cache is full.
        KvFull "KV_FULL",
        /// A computed size is outside its limits.
        Size "SIZE",
        /// Any other value outside its limits.
        Range "RANGE",
    }
}

impl Code {
    /// Number in the C ABI.
    pub fn number(self) -> i32 {
        match self {
            Code::Index => 1,
            Code::KvFull => 2,
            Code::Size => 3,
            Code::Range => 4,
        }
    }
}

/// Right side of a definition or an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rhs {
    /// A pure value.
    Expr(ExprId),
    /// Elements of memory: a scalar, a vector along one dim, or a tile. Elements that are switched off are `other`;
    /// without `other` they are poison.
    Load {
        /// From where.
        from: Access,
        /// Which elements.
        cond: Cond,
        /// Value of the elements that are switched off, a scalar.
        other: Option<ExprId>,
    },
    /// One element per element of the index vectors; scalar indices are the same for all.
    Gather {
        /// From where; lens are 1.
        from: Access,
        /// Which elements.
        cond: Cond,
        /// Value of the elements that are switched off, a scalar.
        other: Option<ExprId>,
    },
    /// A fragment from a block of memory; a collective of the warp.
    FragLoad {
        /// The block; two of its lens are longer than 1.
        from: Access,
        /// Which dim of the operand each of the two is: `(m, k)` is `[0, 1]` for operand a, `(k, m)` is `[1, 0]`.
        order: [u8; 2],
        /// How.
        via: Via,
    },
    /// `atom(a, b, c)`: a times b plus c; a collective of the warp, or one lane for tile registers and tiles.
    Mma {
        /// The atom.
        atom: AtomId,
        /// Left factor.
        a: Place,
        /// Right factor.
        b: Place,
        /// Accumulator.
        c: Place,
    },
    /// Value of another lane; a collective of the warp, in segments of `width` lanes.
    Shuffle {
        /// Which lane.
        kind: ShuffleKind,
        /// The value.
        v: ExprId,
        /// Distance, mask or lane.
        by: ExprId,
        /// Lanes of a segment, a power of two.
        width: u16,
    },
    /// Vote of the warp.
    Vote(VoteKind, ExprId),
    /// Read-modify-write of one element; the value is the old one.
    Atomic {
        /// What.
        op: AtomicOp,
        /// Where.
        at: Access,
        /// Operand.
        v: ExprId,
        /// Memory order.
        order: Order,
        /// Whether it happens; the value is poison if not.
        cond: Cond,
    },
    /// `v` clamped to `lo..hi` (`hi` excluded); if it was outside, `code`, `at` and the value go to the status.
    Guard {
        /// The value, an integer scalar.
        v: ExprId,
        /// Smallest legal value.
        lo: ExprId,
        /// First value above the legal ones.
        hi: ExprId,
        /// What to report.
        code: Code,
        /// Position to report.
        at: ExprId,
    },
    /// Every element of a tile or a fragment.
    Fill(ExprId),
    /// A tile by an expression over its indices.
    Map {
        /// Index variables, one per dim of the tile.
        vars: SmallVec<[VarId; 2]>,
        /// Extents of the index variables.
        dims: SmallVec<[u32; 2]>,
        /// The element.
        body: ExprId,
    },
    /// A tile by a reduction of an expression over its indices and one more, from 0 upwards.
    Reduce {
        /// What.
        op: RedOp,
        /// Index variables of the result and, last, of the reduced axis.
        vars: SmallVec<[VarId; 3]>,
        /// Extents of the index variables.
        dims: SmallVec<[u32; 3]>,
        /// The element.
        body: ExprId,
    },
    /// A tile of inclusive running results of an expression along the last index.
    Scan {
        /// What.
        op: RedOp,
        /// Index variables; the last one runs.
        vars: SmallVec<[VarId; 2]>,
        /// Extents of the index variables.
        dims: SmallVec<[u32; 2]>,
        /// The element.
        body: ExprId,
    },
    /// A tile moved to another home; a fragment as the vector of what a lane holds of it, in the order of the atom's registers, or such a
    /// vector as a fragment. Elements are unchanged.
    Move(Place),
    /// A tile with both dims exchanged.
    Transpose(Place),
}

/// How a loop is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LoopKind {
    /// At run time.
    Seq,
    /// As copies of the body; bounds and step are constant.
    Unroll,
    /// As copies of the body, one per value.
    List(Vec<i64>),
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Defines a `let` (with a value) or a `var`; an array of registers gets the value in every element.
    Def {
        /// The variable.
        var: VarId,
        /// Its value.
        init: Option<Rhs>,
    },
    /// Assigns to a `var`, an element of it, or a slice of a tile.
    Set {
        /// To where.
        place: Place,
        /// What.
        val: Rhs,
    },
    /// Writes a scalar, vector or tile.
    Store {
        /// To where.
        to: Access,
        /// What.
        val: ExprId,
        /// Which elements.
        cond: Cond,
    },
    /// Writes one element per element of the index vectors, in their order.
    Scatter {
        /// To where; lens are 1.
        to: Access,
        /// What.
        val: ExprId,
        /// Which elements.
        cond: Cond,
    },
    /// Writes a fragment to a block of memory.
    FragStore {
        /// The block.
        to: Access,
        /// The fragment.
        val: Place,
        /// As of [`Rhs::FragLoad`].
        order: [u8; 2],
        /// How.
        via: Via,
    },
    /// Gives the bytes of an aliased buffer to this one: they are poison again.
    Alloc(BufId),
    /// Repeats the body for `lo, lo + step, ..` below `hi`.
    For {
        /// Counter.
        var: VarId,
        /// First value.
        lo: ExprId,
        /// Bound, not reached.
        hi: ExprId,
        /// Step, positive.
        step: ExprId,
        /// How.
        kind: LoopKind,
        /// What.
        body: Block,
    },
    /// Chooses.
    If {
        /// A truth value.
        cond: ExprId,
        /// Where it holds.
        then: Block,
        /// Where it does not.
        els: Block,
    },
    /// A stream of its own: the given warps on simt, one more agent of each core on tile_core.
    Role {
        /// Name, unique in the kernel.
        name: String,
        /// First warp and the one behind the last; `None` on tile_core.
        warps: Option<(u32, u32)>,
        /// Registers a lane asks for.
        regs: Option<u16>,
        /// What it does.
        body: Block,
    },
    /// For every register of an accumulator fragment, or every vector of its unit-stride columns.
    Each {
        /// The fragment.
        frag: Place,
        /// The register or vector.
        val: VarId,
        /// Row and column in the atom.
        coords: [VarId; 2],
        /// What.
        body: Block,
    },
    /// Copies a block asynchronously; elements beyond `valid` become `other`.
    CopyAsync {
        /// The queue.
        q: QueueId,
        /// To where.
        dst: Access,
        /// From where, the same lens.
        src: Access,
        /// Which elements of the source.
        cond: Cond,
        /// Value of the elements that are switched off.
        other: Option<ExprId>,
    },
    /// Closes a group of copies of this lane.
    Commit(QueueId),
    /// Waits until at most that many closed groups of this lane are in flight.
    Wait(QueueId, u8),
    /// Copies a box by the copy engine and signals its bytes; elements outside the tensor become 0.
    CopyBulk {
        /// To where.
        dst: Access,
        /// From where; the lens are those of the tensor map's box or of `dst`.
        src: Access,
        /// What it signals.
        bar: BarRef,
    },
    /// Sets the number of arrivals of a phase.
    BarInit(BarRef, ExprId),
    /// Arrives, and expects that many bytes of bulk copies in this phase.
    BarExpect(BarRef, ExprId),
    /// Arrives.
    BarArrive(BarRef),
    /// Waits for the end of the phase of that parity.
    BarWait(BarRef, ExprId),
    /// All lanes of the level arrive before any goes on.
    Barrier(Level),
    /// Orders between plain accesses and engines.
    Fence(Fence),
    /// Starts `c += a * b` of a matrix unit that reads memory.
    MmaAsync {
        /// The atom.
        atom: AtomId,
        /// Accumulator.
        acc: Place,
        /// Left factor, `[m, k]`.
        a: Access,
        /// Right factor, `[n, k]` for k-major operands.
        b: Access,
    },
    /// Orders register writes before the next asynchronous mma.
    MmaFence,
    /// Closes a group of asynchronous mma.
    MmaCommit,
    /// Waits until at most that many closed groups are in flight.
    MmaWait(u8),
    /// A hint.
    Prefetch(Access),
    /// Holds, or the kernel is wrong.
    Assume(ExprId),
}
