// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes wrong: in a text, and in a launch.

use std::fmt;

/// A text that is not executed, with the line of what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxError {
    /// Line in the text, from 1.
    pub line: u32,
    /// What is wrong.
    pub what: String,
}

impl PtxError {
    pub(crate) fn new(line: u32, what: impl Into<String>) -> PtxError {
        PtxError { line, what: what.into() }
    }
}

impl fmt::Display for PtxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for PtxError {}

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FaultKind {
    /// An address that no allocation, variable or parameter holds.
    OutOfBounds,
    /// An address that is no multiple of the access's size.
    Misaligned,
    /// A store to constants or parameters.
    ReadOnly,
    /// Lanes that must run an instruction together do not.
    Divergent,
    /// All threads wait.
    Deadlock,
    /// Two accesses that nothing orders.
    Race,
    /// Data of an asynchronous operation used before it was waited for.
    Premature,
    /// Shared memory read before it was written.
    Uninitialized,
    /// `trap`.
    Trap,
    /// A failed assertion.
    Assertion,
    /// More instructions than the options allow.
    Limit,
    /// A launch that cannot be.
    Launch,
    /// An operand that the instruction does not take.
    Operand,
}

/// Where an access was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Function.
    pub function: String,
    /// Line in the PTX.
    pub line: u32,
    /// File and line that `.loc` gives.
    pub source: Option<(String, u32)>,
    /// Group of the thread.
    pub group: [u32; 3],
    /// Number of the thread in its group.
    pub thread: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.group;
        write!(f, "{}, PTX line {}", self.function, self.line)?;
        if let Some((file, line)) = &self.source {
            write!(f, " ({file}:{line})")?;
        }
        write!(f, ", group ({x}, {y}, {z}), thread {}", self.thread)
    }
}

/// Why a launch ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// Kernel that was launched.
    pub kernel: String,
    /// What happened.
    pub what: String,
    /// Where; none for a launch that did not begin.
    pub at: Option<Place>,
    /// Address of the access.
    pub address: Option<u64>,
    /// The other access of a race.
    pub other: Option<Place>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}: {}", self.kernel, self.what)?;
        if let Some(a) = self.address {
            write!(f, " [address {a:#x}]")?;
        }
        if let Some(p) = &self.at {
            write!(f, " at {p}")?;
        }
        if let Some(p) = &self.other {
            write!(f, "; the other access at {p}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
