// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two IRs of Portwright, and what both stand on.
//!
//! Graph IR ([`graph`]) says what is computed, Kernel IR (`kernel`) says how, the host plan (`plan`) says in which
//! order and in which memory. Each has a text that round-trips, a verifier that collects every fault, and an
//! interpreter that is its meaning.
//!
//! **Must never know:** ONNX, protobuf, any chip, files, terminals.
#![deny(missing_docs)]

pub mod diag;
pub mod dtype;
pub mod entity;
pub mod graph;
pub mod kernel;
pub mod numerics;
pub mod plan;
pub mod regex;
pub mod sym;
pub mod text;
pub mod texts;
pub mod weight;
