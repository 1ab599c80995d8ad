// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host plan: in which order kernels run, in which memory, and how sizes follow from symbols.
//!
//! A plan is a program, shaped like the code that is emitted from it:
//!
//! 1. **Symbols** are bound once, in text order: from input dims ([`Stmt::Bind`]), from expressions ([`Stmt::Let`]) or from data
//!    ([`Stmt::Read`]). An expression may use only symbols that are bound before it.
//! 2. **Checks** ([`Stmt::Check`]) hold or the run ends with the error they name; nothing after a failed check runs.
//! 3. **Memory.** An [`Stmt::Epoch`] sizes one piece of arena from expressions; [`Storage::Arena`] values lie in it at offsets that are
//!    expressions over symbols bound before that epoch. Values whose lifetimes do not meet share bytes. Nothing allocates inside an epoch.
//!    A size that only data can tell is read, and opens the next epoch.
//! 4. **Kernels** run one after the other, in text order; a launch is complete before the next statement.
//! 5. Integer arithmetic of expressions is exact: leaving `i64`, or a divisor that is not positive, is an error of the run, not a wrap.
//! 6. **Texts and lists** are numbers (i64) of entries in tables of the run. [`Stmt::Host`] alone looks into them; what it makes it
//!    holds until [`Stmt::Held`] puts it into memory, whose size may follow from symbols that it bound.
//! 7. Values are dense and row-major. A value of zero elements has no bytes, and launches over an empty grid do nothing.

use std::sync::Arc;

use crate::dtype::DType;
use crate::entity::PrimaryMap;
use crate::entity_ids;
use crate::graph::HostOp;
use crate::graph::types::{Dims, ListType, Origin, TensorType};
use crate::sym::{Atom, SymExpr, SymName, View};
use crate::texts::Texts;

pub mod interp;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod verify;

pub use parse::parse;
pub use print::print;
pub use verify::verify;

entity_ids! {
    /// A piece of memory with a dtype and dims that kernels read or write.
    BufferId "b",
    /// A kernel of the module, by position.
    KernelRef "k",
    /// An entry of the table of origins.
    OriginId "o",
}

/// Where a buffer lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// The model's input of that position, read only.
    Input(u32),
    /// The model's output of that position; its dims are declared by [`Stmt::Output`] before the first use.
    Output(u32),
    /// In the bundle's weight store, from that byte on.
    Weight {
        /// Index into [`HostPlan::weights`].
        weight: u32,
    },
    /// In the arena of an epoch.
    Arena {
        /// Which epoch's.
        epoch: u32,
        /// First byte, a multiple of 64.
        offset: SymExpr,
    },
}

/// A buffer of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Name for people: the value's in the model file, or one made from the node path.
    pub name: Arc<str>,
    /// Dtype.
    pub dtype: DType,
    /// Dims, outermost first.
    pub dims: Dims,
    /// Where it lies.
    pub storage: Storage,
}

impl Buffer {
    /// Bytes of its dense form, rounded up for packed dtypes.
    pub fn bytes(&self) -> SymExpr {
        let elems = crate::sym::product(&self.dims);
        match self.dtype.bits() {
            b if b >= 8 => elems * i64::from(b / 8),
            b => elems.ceil_div(&SymExpr::from(i64::from(8 / b.max(1)))),
        }
    }
}

/// An input or output of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Name in the model file.
    pub name: Arc<str>,
    /// Dtype.
    pub dtype: DType,
    /// Dims.
    pub dims: Dims,
    /// For an output: the input whose memory it continues.
    pub alias_of: Option<u32>,
    /// What a list holds.
    pub list: Option<ListType>,
}

impl Port {
    /// Its type.
    pub fn ty(&self) -> TensorType {
        match &self.list {
            Some(l) => TensorType::list(l.clone()),
            None => TensorType::new(self.dtype, self.dims.clone()),
        }
    }
}

/// A symbol with the range that the plan relies on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanSymbol {
    /// Name.
    pub name: SymName,
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
    /// A number that divides it.
    pub div: i64,
}

/// A tensor in the bundle's weight store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredWeight {
    /// Name, unique in the plan.
    pub name: Arc<str>,
    /// Dtype.
    pub dtype: DType,
    /// Dims.
    pub dims: Vec<i64>,
    /// First byte in the store, a multiple of 64.
    pub offset: u64,
    /// Bytes of its dense form.
    pub bytes: u64,
}

/// A condition over symbols.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pred {
    /// `a == b`.
    Eq(SymExpr, SymExpr),
    /// `a <= b`.
    Le(SymExpr, SymExpr),
    /// `unit` divides `a`.
    Divides(i64, SymExpr),
}

/// What went wrong with data, as the runtime reports it. The numbers are part of the runtime's interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum Fault {
    /// An index lies outside its table.
    Index = 1,
    /// Two dims that must be equal are not.
    Shape = 2,
    /// A dim lies outside the range that was compiled for.
    Range = 3,
    /// A reshape does not fit its elements.
    Reshape = 4,
    /// A computed size is negative.
    NegativeSize = 5,
    /// A size leaves 64-bit integers, or a divisor is not positive.
    Overflow = 6,
    /// A loop ran over its limit.
    LoopLimit = 7,
    /// A state has no room for what is appended.
    Capacity = 8,
}

impl Fault {
    /// Every fault.
    pub const ALL: &'static [Fault] = &[
        Fault::Index,
        Fault::Shape,
        Fault::Range,
        Fault::Reshape,
        Fault::NegativeSize,
        Fault::Overflow,
        Fault::LoopLimit,
        Fault::Capacity,
    ];
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Index => "index",
            Fault::Shape => "shape",
            Fault::Range => "range",
            Fault::Reshape => "reshape",
            Fault::NegativeSize => "negative_size",
            Fault::Overflow => "overflow",
            Fault::LoopLimit => "loop_limit",
            Fault::Capacity => "capacity",
        }
    }
    /// The fault of that name.
    pub fn from_name(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|f| f.name() == name)
    }
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// Which kernel.
    pub kernel: KernelRef,
    /// Groups along x, y, z; nothing runs if one is zero.
    pub grid: [SymExpr; 3],
    /// Buffers in order of the kernel's buffer parameters.
    pub buffers: Vec<BufferId>,
    /// Values of the kernel's symbols and scalar parameters, in order.
    pub scalars: Vec<SymExpr>,
    /// Bytes of scratch that each thread needs for the kernel's local buffers.
    pub scratch_bytes: SymExpr,
    /// Estimated time of one group in nanoseconds on the target; decides whether threads are worth waking.
    pub group_cost_ns: u32,
    /// Nodes that it computes.
    pub origin: OriginId,
}

/// One operation of the host ([`HostOp`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostCall {
    /// Which operation.
    pub op: HostOp,
    /// Its numbers.
    pub params: Vec<i64>,
    /// What it reads; texts and lists are buffers of i64.
    pub operands: Vec<BufferId>,
    /// What the operands are to it.
    pub takes: Vec<DType>,
    /// What its results are to it.
    pub gives: Vec<DType>,
    /// Bound from here on to what it finds, in order.
    pub symbols: Vec<SymName>,
    /// Node that it computes.
    pub origin: OriginId,
}

/// One statement of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// `symbol = dim axis of input`.
    Bind {
        /// Bound from here on.
        symbol: SymName,
        /// Which input.
        input: u32,
        /// Which of its dims.
        axis: u32,
    },
    /// `symbol = expr`.
    Let {
        /// Bound from here on.
        symbol: SymName,
        /// Its value.
        expr: SymExpr,
    },
    /// `symbol = element of an integer buffer`.
    Read {
        /// Bound from here on.
        symbol: SymName,
        /// An i64, i32 or bool buffer.
        buffer: BufferId,
        /// Which element, row-major.
        index: SymExpr,
    },
    /// Asks how an output that appends to an input along one axis lies in the caller's memory.
    Room {
        /// Which output; [`Port::alias_of`] is the input.
        output: u32,
        /// Rows of the input along the axis.
        past: SymExpr,
        /// Rows of the output along the axis.
        needed: SymExpr,
        /// Bound to the rows from one index of the dims before the axis to the next: `needed` where the output is dense, no less where it
        /// lies in one memory with the input.
        room: SymName,
        /// Bound to the number of the input's rows that are to be copied: `past`, or 0 where the output has them already.
        front: SymName,
    },
    /// Ends the run with `fault` unless `pred` holds.
    Check {
        /// What must hold.
        pred: Pred,
        /// What it is if not; the two sides are part of the message.
        fault: Fault,
        /// Node that needs it.
        origin: OriginId,
    },
    /// Sizes the arena of an epoch; the bytes are undefined.
    Epoch {
        /// Which epoch, counted from 0.
        epoch: u32,
        /// Bytes.
        bytes: SymExpr,
    },
    /// Declares the dims of an output and asks for its memory.
    Output {
        /// Which output.
        output: u32,
        /// Its dims.
        dims: Dims,
    },
    /// Runs a kernel.
    Launch(Launch),
    /// Runs the first case whose predicates all hold; the last has none.
    Choose {
        /// Cases in order.
        cases: Vec<(Vec<Pred>, Launch)>,
    },
    /// Writes expressions as elements of an integer buffer.
    WriteDims {
        /// An i64, i32 or bool buffer of that many elements.
        buffer: BufferId,
        /// Elements, row-major.
        values: Vec<SymExpr>,
    },
    /// Copies a whole buffer onto another of the same dtype and number of elements.
    Copy {
        /// Written.
        to: BufferId,
        /// Read.
        from: BufferId,
    },
    /// Runs a host operation; its results are held until the next one.
    Host(HostCall),
    /// Writes a result that is held into a buffer of its size.
    Held {
        /// Written.
        buffer: BufferId,
        /// Which result of the last host operation.
        result: u32,
    },
    /// Runs one of two blocks; symbols bound inside are not visible after it.
    If {
        /// Taken when it holds.
        pred: Pred,
        /// If it holds.
        then: Vec<Stmt>,
        /// If not.
        els: Vec<Stmt>,
    },
    /// Runs `body` for `counter` = 0, 1, .. while `counter < trip` and the bool buffer `cond`, if any, is true.
    Loop {
        /// Bound in the body.
        counter: SymName,
        /// Bound after the loop to the number of iterations.
        trips: SymName,
        /// Limit.
        trip: SymExpr,
        /// Read before each iteration.
        cond: Option<BufferId>,
        /// Statements.
        body: Vec<Stmt>,
        /// Node, for the limit's report.
        origin: OriginId,
    },
}

/// A whole plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPlan {
    /// Name of the model.
    pub name: String,
    /// Symbols with their ranges, in order of binding.
    pub symbols: Vec<PlanSymbol>,
    /// Inputs by position.
    pub inputs: Vec<Port>,
    /// Outputs by position.
    pub outputs: Vec<Port>,
    /// Weight store, in order of offset.
    pub weights: Vec<StoredWeight>,
    /// Texts that constants are: a run's table begins with them.
    pub texts: Texts,
    /// Buffers.
    pub buffers: PrimaryMap<BufferId, Buffer>,
    /// Statements.
    pub body: Vec<Stmt>,
    /// Where launches and checks come from.
    pub origins: PrimaryMap<OriginId, Origin>,
}

impl HostPlan {
    /// Bytes of the weight store.
    pub fn store_bytes(&self) -> u64 {
        self.weights.iter().map(|w| w.offset + w.bytes).max().unwrap_or(0).next_multiple_of(64)
    }
    /// Adds a weight at the end of the store and returns its index.
    pub fn add_weight(&mut self, name: impl Into<Arc<str>>, dtype: DType, dims: Vec<i64>, bytes: u64) -> u32 {
        let offset = self.store_bytes();
        self.weights.push(StoredWeight { name: name.into(), dtype, dims, offset, bytes });
        (self.weights.len() - 1) as u32
    }
    /// Range of a symbol.
    pub fn range(&self, name: &str) -> Option<(i64, i64)> {
        self.symbols.iter().find(|s| *s.name == *name).map(|s| (s.lo, s.hi))
    }
    /// Bound on the magnitude of an expression over the plan's symbols and of every intermediate result of it; `None` if one may leave 63 bits.
    pub fn magnitude(&self, e: &SymExpr) -> Option<i64> {
        match e.view() {
            View::Const(v) => v.checked_abs(),
            View::Overflow => None,
            View::Sum(terms, k) => {
                let mut sum = k.checked_abs()?;
                for (c, atoms) in terms {
                    let mut t = c.checked_abs()?;
                    for a in &atoms {
                        t = t.checked_mul(self.atom_magnitude(a)?.max(1))?;
                    }
                    sum = sum.checked_add(t)?;
                }
                Some(sum)
            }
        }
    }
    fn atom_magnitude(&self, a: &Atom) -> Option<i64> {
        match a {
            Atom::Sym(s) => self.range(s).and_then(|(lo, hi)| Some(lo.checked_abs()?.max(hi.checked_abs()?))).filter(|m| *m < i64::MAX),
            Atom::Div(x, y) | Atom::Ceil(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => {
                Some(self.magnitude(x)?.max(self.magnitude(y)?))
            }
        }
    }
}
