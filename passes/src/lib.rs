// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graph to Graph, Graph to kernels and host plan: rules, fusion, legalization, layout, schedules.
//!
//! Everything here sees capabilities and specs ([`spec`]), never a chip's name.
//!
//! **Must never know:** ONNX, any chip by name.
#![deny(missing_docs)]

pub mod canonical;
pub mod decompose;
pub mod fold;
pub mod fuse;
pub mod hoist;
pub mod kernel_rules;
pub mod layout;
pub mod legalize;
pub mod pipeline;
pub mod plan;
pub mod prepare;
#[cfg(test)]
mod prepare_tests;
pub mod probe;
pub mod products;
pub mod raise;
pub mod ranges;
pub mod reroll;
pub mod rules;
pub mod schedule;
pub mod spec;
pub mod states;
#[cfg(test)]
mod testing;
pub mod work;
