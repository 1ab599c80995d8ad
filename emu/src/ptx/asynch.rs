// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous copies and mbarriers, decoded, and the state of an mbarrier.

use super::instr::{AtomOp, Width};
use super::tensor::TensorMap;
use super::ty::{Space, Ty};

/// What is done to an mbarrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum MbarKind {
    Init,
    Inval,
    /// b: arrivals; c: bytes expected; d: old state
    Arrive {
        drop: bool,
        expect: bool,
    },
    /// c: bytes
    Expect,
    Complete,
    /// c: state or parity; d: predicate
    Test {
        parity: bool,
        waits: bool,
    },
    /// a: state; d
    Pending,
}

/// An operation on an mbarrier. Rows that are not given are [`super::instr::SINK`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MbarOp {
    /// What.
    pub kind: MbarKind,
    /// Where it lies.
    pub space: Space,
    /// Width of the register with its address.
    pub base: Width,
}

/// A place that an instruction names: row, width, offset and space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Spot {
    pub row: u32,
    pub width: Width,
    pub offset: i64,
    pub space: Space,
}

/// A bulk copy.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// Where to; for a tensor in device memory, its map.
    pub dst: Spot,
    /// Where from; for a tensor in device memory, its map.
    pub src: Spot,
    /// Row with the number of bytes, where no tensor says it.
    pub size: u32,
    /// The mbarrier that is told; none for copies in groups.
    pub mbar: Option<Spot>,
    /// Row with the groups that get the data.
    pub multicast: Option<u32>,
    /// Rows of the coordinates of a tensor's box, innermost first; empty for plain bytes.
    pub coords: Vec<u32>,
    /// Combines instead of storing.
    pub reduce: Option<(AtomOp, Ty)>,
    /// The row of `size` holds the value of a store (`st.async`), so wide.
    pub value: Option<(u8, Width, Vec<u32>)>,
}

/// Fields of an mbarrier's 64 bits: arrivals a phase (20), arrivals missing (20), bytes missing (21, biased), valid, phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mbar {
    pub expected: u32,
    pub pending: u32,
    pub bytes: i32,
    pub phase: bool,
}

const FIELD: u64 = (1 << 20) - 1;
const BIAS: i32 = 1 << 20;
const VALID: u64 = 0b10 << 61;

impl Mbar {
    pub fn new(count: u32) -> Mbar {
        Mbar { expected: count, pending: count, bytes: 0, phase: false }
    }

    /// None where no mbarrier was initialized.
    pub fn unpack(v: u64) -> Option<Mbar> {
        let bytes = (v >> 40 & ((1 << 21) - 1)) as i32 - BIAS;
        (v & 0b11 << 61 == VALID).then_some(Mbar {
            expected: (v & FIELD) as u32,
            pending: (v >> 20 & FIELD) as u32,
            bytes,
            phase: v >> 63 == 1,
        })
    }

    pub fn pack(self) -> u64 {
        u64::from(self.expected)
            | u64::from(self.pending) << 20
            | ((self.bytes.wrapping_add(BIAS) as u64) & ((1 << 21) - 1)) << 40
            | VALID
            | u64::from(self.phase) << 63
    }

    /// Ends the phase where nothing is missing; says whether it did.
    pub fn settle(&mut self) -> bool {
        let done = self.pending == 0 && self.bytes == 0;
        if done {
            self.pending = self.expected;
            self.phase = !self.phase;
        }
        done
    }
}

/// Bulk work that has been issued and not done.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The mbarrier that is told when it is done.
    pub mbar: Option<*mut u8>,
    pub bytes: u64,
    pub work: Work,
}

/// What a job does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Copy { dst: *mut u8, src: *const u8, reduce: Option<(AtomOp, Ty)> },
    Value { dst: *mut u8, data: Vec<u8> },
    Tensor { map: TensorMap, coords: [i32; 5], shared: *mut u8, offset: u64, store: bool, reduce: Option<(AtomOp, Ty)> },
}
