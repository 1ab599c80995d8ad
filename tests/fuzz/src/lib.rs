// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs that nobody wrote: random legal graphs and models, and files that were changed.
//!
//! The loop is [`hunt`]; `cargo xtask fuzz [SECONDS] [TARGET]` runs it. What it finds becomes a file in `corpus/TARGET`, which the tests run
//! from then on. There is no instrumentation: an input is kept for further mutations when it makes the program say what none before made
//! it say, by code, operator and form of the report, or when it brings ops together that were not.
#![deny(missing_docs)]

pub mod change;
pub mod draw;
pub mod graphs;
pub mod hunt;
pub mod models;
pub mod program;
pub mod targets;
pub mod wire;
