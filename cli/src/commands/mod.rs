// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One file a command.

pub mod bench;
pub mod check;
pub mod codegen;
pub mod compare;
pub mod compile;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod inspect;
pub mod interpret;
pub mod lower;
pub mod pack;
pub mod run;
pub mod suite;
pub mod suite_worker;
pub mod targets;
