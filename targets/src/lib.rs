// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Targets: who a chip is, what it takes, and how kernels and plans become its code.
//!
//! A chip is a folder and a line in [`target::all`]. [`compile`] is the way from a legal module to objects, [`link`] the way
//! from objects to a library. Without the feature `mlir` nothing of LLVM is built: names are known, code is not made.
//!
//! **Must never know:** ONNX; a chip's folder: another chip.
#![deny(missing_docs)]

#[cfg(feature = "mlir")]
mod aarch64;
mod biren;
pub mod cache;
pub mod cfamily;
pub mod codegen;
pub mod compile;
#[cfg(feature = "mlir")]
mod cpu;
mod hygon_dcu;
mod iluvatar;
pub mod libc;
pub mod link;
#[cfg(feature = "mlir")]
mod loongarch64;
mod metax;
pub mod mlir;
mod moore;
#[cfg(feature = "mlir")]
mod nvidia;
mod nvidia_source;
mod peak;
#[cfg(feature = "mlir")]
mod riscv64;
pub mod target;
#[cfg(feature = "mlir")]
mod x86_64;

/// Element types, of which chips say which they compute in.
pub use portwright_ir::dtype::DType;

#[cfg(all(test, feature = "mlir"))]
mod tests;
