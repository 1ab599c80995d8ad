// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interpreter: the meaning of Kernel IR, and the oracle of every schedule and emitter.
//!
//! It is a SIMD machine over the lanes of a group with a stack of masks; each role is a stream of its own. Groups run in
//! a seeded order. Checked on the way: bounds of each dim, alignment, reads of bytes that nobody wrote, poison, collectives
//! that not all lanes reach, integers that wrap, shift amounts, data races by happens-before, phases of signals,
//! deadlock, and copies that nobody waits for.
//!
//! Not modeled: how rows are permuted in memory (a layout is a bijection, so it changes no value), memory orders beyond
//! acquire-release of one address within a group, and the precision of a matrix unit (products are summed in the
//! accumulator's type from k = 0 upwards, one rounding a step, and the sum is added to the accumulator).

use std::collections::BTreeMap;
use std::fmt;

use super::{Kernel, KernelId, Module, StmtId, print_kernel};

mod access;
mod alu;
mod banks;
mod code;
mod collective;
mod compile;
mod compile_expr;
mod compile_rhs;
mod machine;
mod memory;
mod order;
mod pipeline;

/// What kind of rule was broken.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The arguments do not fit the parameters.
    Arguments,
    /// The kernel cannot be run: it was not verified.
    Malformed,
    /// An element outside its buffer, tile or array.
    Bounds,
    /// An address that is not a multiple of what the access needs.
    Alignment,
    /// A read of memory that nobody wrote.
    Uninitialized,
    /// A value that is not defined reached an effect.
    Poison,
    /// An integer result outside its type.
    Wrap,
    /// An integer operand outside the operation's domain.
    Domain,
    /// A collective that not all of its lanes reach, or with operands that differ.
    Divergence,
    /// Two accesses to one byte without an order, one of them a write.
    Race,
    /// An accumulator or a copy that is used before it has landed.
    InFlight,
    /// A signal used against its protocol.
    Signal,
    /// No stream can go on.
    Deadlock,
    /// Copies or products that nobody waits for.
    Leak,
    /// `assume` does not hold.
    Assumption,
}

/// A broken rule, where and in whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// Name of the kernel.
    pub kernel: String,
    /// Line of the statement in the printed kernel; 0 if none.
    pub line: u32,
    /// Text of the statement.
    pub statement: String,
    /// Group in x, y, z.
    pub group: [i64; 3],
    /// Lane in the group, where one is at fault.
    pub lane: Option<u32>,
    /// What happened.
    pub message: String,
    /// Paths of the nodes that the kernel computes.
    pub origin: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}, line {}: {:?}: {}", self.kernel, self.line, self.kind, self.message)?;
        if !self.statement.is_empty() {
            write!(f, "\n  {}", self.statement)?;
        }
        let [x, y, z] = self.group;
        write!(f, "\n  in group ({x}, {y}, {z})")?;
        if let Some(l) = self.lane {
            write!(f, ", lane {l}")?;
        }
        if !self.origin.is_empty() {
            write!(f, "\n  from {}", self.origin.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// When asynchronous copies and products land.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Copies {
    /// As late as the rules allow.
    #[default]
    Lazy,
    /// At once.
    Eager,
}

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Seed of the order of groups and streams; 0 runs them in order.
    pub seed: u64,
    /// When asynchronous operations land.
    pub copies: Copies,
    /// Whether data races are looked for.
    pub races: bool,
    /// Instructions after which a run is given up; `None` for no limit.
    pub limit: Option<u64>,
    /// Banks of shared memory, whose trips are counted; 0 for none.
    pub banks: u32,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions { seed: 0, copies: Copies::Lazy, races: true, limit: None, banks: 0 }
    }
}

/// A piece of memory that buffer arguments lie in.
#[derive(Debug)]
pub enum Memory<'a> {
    /// Memory that is only read.
    Ro(&'a [u8]),
    /// Memory that is read and written.
    Rw(&'a mut [u8]),
}

impl Memory<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Ro(b) => b,
            Memory::Rw(b) => b,
        }
    }
}

/// Arguments of a launch.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Piece of memory and byte offset in it, one per buffer parameter in order. Parameters may share bytes only if
    /// they begin at the same byte and have elements of one width.
    pub bufs: Vec<(usize, usize)>,
    /// Values of the symbols.
    pub syms: BTreeMap<String, i64>,
    /// Bits of the scalar parameters, in order.
    pub scalars: Vec<u64>,
}

/// What a failed guard reported.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GuardReport {
    /// Which check.
    pub code: super::Code,
    /// The position it named.
    pub at: i64,
    /// The value that was outside.
    pub value: i64,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Instructions of the flat form, each for all lanes of a stream.
    pub instructions: u64,
    /// Elements loaded.
    pub loaded: u64,
    /// Elements stored.
    pub stored: u64,
    /// Bytes of global memory loaded, and stored.
    pub global: [u64; 2],
    /// Trips to the banks of shared memory, if they are counted.
    pub trips: u64,
    /// Trips that as many words would take if they lay evenly.
    pub least_trips: u64,
    /// Failed guards, in the order they happened.
    pub guards: Vec<GuardReport>,
}

/// Runs a kernel over all groups of its launch.
///
/// # Errors
/// The first broken rule.
pub fn run(m: &Module, k: KernelId, memory: &mut [Memory<'_>], args: &Args, options: &RunOptions) -> Result<Outcome, Box<Fault>> {
    let kernel = m.kernels.get(k).ok_or_else(|| Box::new(bare_fault(FaultKind::Arguments, "no such kernel")))?;
    let stop = |s: Stop| Box::new(s.into_fault(m, kernel));
    let program = compile::compile(m, kernel, args).map_err(stop)?;
    machine::Machine::new(m, kernel, &program, memory, args, options).map_err(stop)?.launch().map_err(stop)
}

fn bare_fault(kind: FaultKind, message: &str) -> Fault {
    Fault {
        kind,
        kernel: String::new(),
        line: 0,
        statement: String::new(),
        group: [0; 3],
        lane: None,
        message: message.into(),
        origin: Vec::new(),
    }
}

/// A fault without its context, which only matters once it happened.
#[derive(Debug)]
pub(super) struct Stop {
    pub kind: FaultKind,
    pub message: String,
    pub stmt: Option<StmtId>,
    pub group: [i64; 3],
    pub lane: Option<u32>,
}

impl Stop {
    fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Stop { kind, message: message.into(), stmt: None, group: [0; 3], lane: None }
    }
    fn at_lane(self, lane: u32) -> Self {
        Stop { lane: Some(lane), ..self }
    }
    fn into_fault(self, m: &Module, k: &Kernel) -> Fault {
        let (line, statement) = match self.stmt {
            Some(s) => {
                let p = print_kernel(m, k);
                (p.line_of(s), p.line(s).to_string())
            }
            None => (0, String::new()),
        };
        Fault {
            kind: self.kind,
            kernel: k.name.clone(),
            line,
            statement,
            group: self.group,
            lane: self.lane,
            message: self.message,
            origin: k.origin.clone(),
        }
    }
}

pub(super) type Run<T> = Result<T, Stop>;
