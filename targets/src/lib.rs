// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Targets: who a chip is, what it takes, and how kernels and plans become its code.
#![deny(missing_docs)]

pub mod codegen;
pub mod mlir;

#[cfg(test)]
mod tests;
