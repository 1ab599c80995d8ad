// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Code generation in workers: an abort inside LLVM ends a worker, and its request becomes a diagnostic.

/// What a compilation is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// An object file.
    Object,
    /// Assembly text.
    Assembly,
    /// Optimized LLVM IR text.
    Llvm,
}

/// One compilation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// MLIR text of a module.
    pub mlir: String,
    /// LLVM's target triple.
    pub triple: String,
    /// LLVM's name of the CPU.
    pub cpu: String,
    /// LLVM's feature list, as in `+avx2,+fma`.
    pub features: String,
    /// LLVM's name of the calling convention's variant; empty for the usual one.
    pub abi: String,
    /// 0 to 3.
    pub opt_level: u8,
    /// What to make.
    pub form: Form,
}
