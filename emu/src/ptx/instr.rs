// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The decoded form: registers are rows of 32 lanes, operands are numbers of rows, and most instructions are a pointer to a loop over
//! lanes that was compiled for their types.

use serde::{Deserialize, Serialize};

use super::asynch::{Bulk, MbarOp};
use super::matrix::{MatrixLoad, Mma, Wgmma};
use super::ty::{Space, Ty};

/// Lanes of a warp.
pub const LANES: usize = 32;
/// All lanes.
pub const FULL: u32 = !0;
/// No register: `_`.
pub const SINK: u32 = u32::MAX;

/// A value of 32 bits in every lane; one of 64 bits takes two rows.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Row(pub [u32; LANES]);

/// Widths of registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// A bit in a mask.
    Pred,
    /// One row; upper bits of narrower registers are whatever they are, and readers cut them off.
    W32,
    /// Two rows.
    W64,
    /// Four rows.
    W128,
}

impl Width {
    /// Of a register of that type.
    pub fn of(ty: Ty) -> Width {
        match ty.bits() {
            1 if ty == Ty::Pred => Width::Pred,
            64 => Width::W64,
            128 => Width::W128,
            _ => Width::W32,
        }
    }

    /// Rows that a register takes.
    pub fn rows(self) -> u32 {
        match self {
            Width::Pred => 0,
            Width::W32 => 1,
            Width::W64 => 2,
            Width::W128 => 4,
        }
    }
}

/// Registers of one call of a function by one warp.
#[derive(Clone, Debug, Default)]
pub struct Regs {
    /// Rows.
    pub rows: Vec<Row>,
    /// One mask of lanes a predicate; 0 is false everywhere, 1 is true everywhere.
    pub preds: Vec<u32>,
    /// Carries of `add.cc` and the like.
    pub carry: u32,
}

mod sealed {
    pub trait Sealed {}
}

/// Lane types of rows.
pub trait Lane: Copy + Default + sealed::Sealed {
    /// Width of the register.
    const WIDTH: Width;
}

macro_rules! lane {
    ($($t:ty => $w:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Lane for $t { const WIDTH: Width = Width::$w; }
    )*};
}
lane!(u32 => W32, i32 => W32, f32 => W32, u64 => W64, i64 => W64, f64 => W64);

impl Regs {
    /// All lanes of a register.
    #[inline(always)]
    pub fn get<T: Lane>(&self, row: u32) -> &[T; LANES] {
        let n = T::WIDTH.rows() as usize;
        let rows = &self.rows[row as usize..row as usize + n];
        // SAFETY: `n` rows of 128 bytes are as large as 32 values of T, rows are aligned to 64, and T is a plain number for which every
        // pattern of bits is a value.
        unsafe { &*rows.as_ptr().cast::<[T; LANES]>() }
    }

    /// All lanes of a register, to be written.
    #[inline(always)]
    pub fn get_mut<T: Lane>(&mut self, row: u32) -> &mut [T; LANES] {
        let n = T::WIDTH.rows() as usize;
        let rows = &mut self.rows[row as usize..row as usize + n];
        // SAFETY: as in `get`, and the borrow is exclusive.
        unsafe { &mut *rows.as_mut_ptr().cast::<[T; LANES]>() }
    }

    /// Writes the lanes of a mask.
    #[inline(always)]
    pub fn put<T: Lane>(&mut self, row: u32, v: &[T; LANES], mask: u32) {
        let d = self.get_mut::<T>(row);
        if mask == FULL {
            *d = *v;
        } else {
            for l in 0..LANES {
                if mask >> l & 1 != 0 {
                    d[l] = v[l];
                }
            }
        }
    }

    /// Lanes of a register of 32 or 64 bits.
    #[inline(always)]
    pub fn wide(&self, row: u32, width: Width) -> [u64; LANES] {
        if width == Width::W64 {
            *self.get::<u64>(row)
        } else {
            let r = self.get::<u32>(row);
            std::array::from_fn(|l| u64::from(r[l]))
        }
    }

    /// Writes the lanes of a mask of a predicate.
    #[inline(always)]
    pub fn set_pred(&mut self, p: u32, v: u32, mask: u32) {
        if p != SINK {
            let d = &mut self.preds[p as usize];
            *d = *d & !mask | v & mask;
        }
    }
}

/// A loop over the lanes of registers.
pub type AluFn = fn(&mut Regs, &Instr, u32);

/// What the counts tell apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Class {
    Mma,
    Ldmatrix,
    CpAsync,
    LoadGlobal,
    StoreGlobal,
    LoadShared,
    StoreShared,
    LoadOther,
    StoreOther,
    Atomic,
    Fp64,
    Fp32,
    Half,
    Int,
    Convert,
    Sfu,
    Move,
    Warp,
    Branch,
    Barrier,
    Other,
}

/// Number of [`Class`]es.
pub const CLASSES: usize = Class::Other as usize + 1;

/// A special register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Laneid,
    Warpid,
    Nwarpid,
    LaneEq,
    LaneLe,
    LaneLt,
    LaneGe,
    LaneGt,
    Clock,
    Clock64,
    ClockHi,
    Globaltimer,
    Smid,
    Nsmid,
    Gridid,
    ClusterId(u8),
    NclusterId(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    IsExplicitCluster,
    DynamicSmem,
    TotalSmem,
    Zero,
    /// Address of a variable of the frame in local memory.
    Local(u32),
}

/// Memory order of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// No order: a race where another thread's access is not ordered otherwise.
    Weak,
    /// Never a race with accesses that are relaxed too.
    Relaxed,
    /// What was released is visible behind it.
    Acquire,
    /// What stands before it is visible to who acquires it.
    Release,
    /// Both.
    AcqRel,
}

/// A load or store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mem {
    /// Where.
    pub space: Space,
    /// Bytes of an element.
    pub bytes: u8,
    /// Elements.
    pub n: u8,
    /// Sign-extend.
    pub signed: bool,
    /// Registers of elements.
    pub width: Width,
    /// Width of the register with the address.
    pub base: Width,
    /// Memory order.
    pub order: Order,
}

/// An atomic operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// `atom` or `red`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Atom {
    /// Operation.
    pub op: AtomOp,
    /// Type of an element.
    pub ty: Ty,
    /// Where; the fields of a load.
    pub mem: Mem,
    /// Whether the old value is wanted.
    pub fetch: bool,
}

/// A barrier of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum BarKind {
    Sync,
    Arrive,
    Popc,
    And,
    Or,
}

/// `shfl.sync`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Shfl {
    Up,
    Down,
    Bfly,
    Idx,
}

/// `vote.sync` and `match.sync`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Vote {
    All,
    Any,
    Uni,
    Ballot,
    MatchAny,
    MatchAll,
    Elect,
}

/// `redux.sync`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Redux {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Alu(AluFn),
    Special(Special),
    Bra(u32),
    /// Index in [`Code::tables`].
    BrxIdx(u32),
    /// Index in [`Code::calls`].
    Call(u32),
    Ret,
    Exit,
    Trap,
    Nop,
    /// Registers of elements are `Code::pool[d..]`, the address is `a + imm`.
    Ld(Mem),
    St(Mem),
    /// Operands b, c of elements follow the destinations in the pool.
    Atom(u32),
    /// d: result; a: barrier, b: threads (or [`SINK`]); c: predicate.
    Bar {
        kind: BarKind,
        aligned: bool,
    },
    WarpSync,
    /// d, imm = predicate; a, b, c; the mask is `Code::pool[..]` of `x`.
    Shfl {
        kind: Shfl,
        mask: u32,
    },
    /// d; a: predicate or value; b: mask
    Vote {
        kind: Vote,
        wide: bool,
        negated: bool,
    },
    Redux {
        op: Redux,
        ty: Ty,
        nan: bool,
        abs: bool,
    },
    ActiveMask,
    Matrix(MatrixLoad),
    Mma(u32),
    Wgmma(u32),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait(u32),
    /// a: destination, b: source, c: bytes read or [`SINK`]
    CpAsync {
        bytes: u8,
        dst: Width,
        src: Width,
    },
    CpCommit,
    CpWait(u32),
    CpMbar {
        noinc: bool,
    },
    Mbar(MbarOp),
    Bulk(u32),
    BulkCommit,
    BulkWait {
        pending: u32,
        read: bool,
    },
    ClusterArrive {
        release: bool,
    },
    ClusterWait {
        acquire: bool,
    },
    Fence,
    ProxyFence,
    /// a: address, b: rank
    Mapa {
        generic: bool,
    },
    GetRank {
        generic: bool,
    },
    /// 0: assertion, 1: print
    Syscall(u8),
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instr {
    /// What it does.
    pub op: Op,
    /// Twice the number of the guard, plus one where it is negated; [`SINK`] without one.
    pub guard: u32,
    /// Destination.
    pub d: u32,
    /// Operand.
    pub a: u32,
    /// Operand.
    pub b: u32,
    /// Operand.
    pub c: u32,
    /// Operand.
    pub e: u32,
    /// Number in the instruction: an offset, a table of bits, a second destination.
    pub imm: u64,
    /// Line in the text.
    pub line: u32,
    /// Index of its `.loc`, plus one.
    pub loc: u32,
    /// What it counts as.
    pub class: Class,
    /// Writes a register of a `wgmma`.
    pub touches: bool,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Function; [`SINK`] where the address is in register `indirect`.
    pub func: u32,
    /// Register with the address of the function.
    pub indirect: u32,
    /// Offset and bytes of arguments in the caller's parameter memory.
    pub args: Vec<(u32, u32)>,
    /// Offset and bytes of results.
    pub returns: Vec<(u32, u32)>,
}

/// A decoded function.
#[derive(Debug, Default)]
pub struct Code {
    /// Name.
    pub name: String,
    /// Instructions.
    pub instrs: Vec<Instr>,
    /// Rows of constants.
    pub consts: Vec<(u32, Row)>,
    /// Rows of a frame, constants included.
    pub rows: u32,
    /// Predicates of a frame.
    pub preds: u32,
    /// Lists of operands.
    pub pool: Vec<u32>,
    /// Targets of `brx.idx`.
    pub tables: Vec<Vec<u32>>,
    /// Calls.
    pub calls: Vec<Call>,
    /// Atomics.
    pub atoms: Vec<Atom>,
    /// Products of matrices.
    pub mmas: Vec<Mma>,
    /// Products of matrices by four warps.
    pub wgmmas: Vec<Wgmma>,
    /// Bulk copies.
    pub bulks: Vec<Bulk>,
    /// Bytes of local memory of a frame.
    pub local: u32,
    /// Bytes of `.param` variables of a frame, its own parameters and results first.
    pub params: u32,
    /// Offset and bytes of its parameters.
    pub formals: Vec<(u32, u32)>,
    /// Offset and bytes of its results.
    pub returns: Vec<(u32, u32)>,
    /// File and line of every `.loc`.
    pub locs: Vec<(u32, u32)>,
    /// Rows of constants that are addresses.
    pub relocs: Vec<Reloc>,
    /// Functions that it names.
    pub uses: Vec<u32>,
}

/// A constant that is the address of a variable, known when a module is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Reloc {
    /// Index in [`Code::consts`].
    pub at: u32,
    /// Number of the variable in its module.
    pub var: u32,
    /// Bytes behind it.
    pub offset: i64,
    /// Whether the register has 64 bits.
    pub wide: bool,
}
