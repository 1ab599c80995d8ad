// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix instructions, decoded, and the lane functions of fragments.
//!
//! Products of f16, bf16, tf32 and fp8 elements are exact; those of one instruction are summed in f32 in the order of k, each sum
//! rounded to nearest, and then added to the accumulator. f64 products are fused, in order. Integers wrap, or saturate where said.

use super::instr::Width;
use super::ty::Ty;

/// `ldmatrix` and `stmatrix`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatrixLoad {
    /// Matrices of 8 rows of 16 bytes.
    pub n: u8,
    /// Transposed.
    pub trans: bool,
    /// Stores.
    pub store: bool,
    /// Width of the register with the address.
    pub base: Width,
    /// Whether the address is generic.
    pub generic: bool,
}

/// `mma.sync`
#[derive(Clone, Debug)]
pub struct Mma {
    /// Rows of A, columns of B, and what is summed over.
    pub m: usize,
    /// See `m`.
    pub n: usize,
    /// See `m`.
    pub k: usize,
    /// Type of A.
    pub a: Ty,
    /// Type of B.
    pub b: Ty,
    /// Type of the accumulator.
    pub c: Ty,
    /// Type of the result.
    pub d: Ty,
    /// Integers saturate.
    pub sat: bool,
    /// Products of bits: `and` instead of `xor`.
    pub and: bool,
    /// Registers of D, A, B, C, in that order, in the pool.
    pub pool: u32,
    /// Numbers of registers.
    pub counts: [usize; 4],
}

/// Where A of a `wgmma` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In shared memory, as the descriptor in that row says.
    Shared(u32),
    /// In registers of the pool, from there on.
    Regs(u32),
}

/// `wgmma.mma_async`, 64 rows by four warps.
#[derive(Clone, Debug)]
pub struct Wgmma {
    /// Columns.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// Type of A.
    pub a: Ty,
    /// Type of B.
    pub b: Ty,
    /// Type of the accumulator.
    pub d: Ty,
    /// A.
    pub source: Source,
    /// Row with the descriptor of B.
    pub desc: u32,
    /// Predicate without which the accumulator counts as zero, and whether it is negated.
    pub scale: (u32, bool),
    /// A and B are negated.
    pub negate: [bool; 2],
    /// A and B lie with rows respectively columns next to each other.
    pub trans: [bool; 2],
    /// Integers saturate.
    pub sat: bool,
    /// First register of D in the pool.
    pub pool: u32,
    /// Registers of D.
    pub count: usize,
}

/// A `wgmma` that has not been waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub func: u32,
    pub frame: u32,
    pub product: u32,
    pub descs: [u64; 2],
    pub keep: bool,
}

/// Where an element of A is in the registers of a fragment: register, lane, element in the register. `per` elements lie in a register.
pub(crate) fn a_place(m: usize, per: usize, row: usize, k: usize) -> (usize, usize, usize) {
    let halves = m / 8;
    let chunk = 4 * per;
    (k / chunk * halves + row / 8, row % 8 * 4 + k % chunk / per, k % per)
}

/// Where an element of B is.
pub(crate) fn b_place(per: usize, k: usize, col: usize) -> (usize, usize, usize) {
    let chunk = 4 * per;
    (k / chunk, col % 8 * 4 + k % chunk / per, k % per)
}

/// Where an element of C is, in elements.
pub(crate) fn c_place(row: usize, col: usize) -> (usize, usize) {
    (row / 8 * 2 + col % 2, row % 8 * 4 + col % 8 / 2)
}
