// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix instructions, decoded.

use super::instr::Width;

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
pub struct Mma {}

/// `wgmma.mma_async`
#[derive(Clone, Debug)]
pub struct Wgmma {}

/// A `wgmma` that has not been waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {}
