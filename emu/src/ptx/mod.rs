// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine that executes PTX.
//!
//! [`Module::parse`] reads PTX as LLVM, nvcc and Triton write it, [`Machine`] has device memory and launches kernels. Warps run their 32
//! lanes together, lanes that part are independent threads as of sm_70. Whatever a program may not do is a [`Fault`] that says where.
#![allow(clippy::needless_range_loop)]

mod alu;
mod ast;
mod asynch;
mod cluster;
mod count;
mod decode;
mod exec;
mod fault;
pub mod fp;
mod instr;
mod lex;
mod machine;
mod matrix;
mod memory;
mod module;
pub mod orders;
mod owners;
mod parse;
pub mod ptxas;
mod race;
mod tensor;
mod ty;
mod warp;

pub use count::{Counts, Traffic};
pub use fault::{Fault, FaultKind, Place, PtxError};
pub use instr::Class;
pub use machine::{Launch, Loaded, Machine, Options, Param};
pub use module::{Kernel, Module, Var};
pub use tensor::{Swizzle, TensorMap};
