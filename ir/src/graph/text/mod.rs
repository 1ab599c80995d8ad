// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graph IR as text that round-trips.
//!
//! ```text
//! graph "mnist" symbols N in 1..64
//! %0: f32[N,1,28,28] = input "x"
//! %1: f32[8,1,5,5] = weight<f32 8x1x5x5 "conv.w" sha:1f3a9c02>
//! %2: f32[N,8,28,28] = conv(%0, %1) {pads=[2,2,2,2]}  // main/Conv_0
//! output "y" %2
//! ```
//!
//! Values are numbered in the order of [`Graph::order`], in each region from `%0`. Attributes that have their usual value, or that follow
//! from the declared result type, are left out. `docs/TEXT_IR.md` has the grammar.

mod defaults;
mod parse;
mod print;
mod source;
#[cfg(test)]
mod tests;
mod values;
pub(crate) use values::{dtype, tensor_type};

use std::fmt;

use super::{Graph, NodeId};
use crate::diag::Diagnostic;

/// What a print shows beside what always is there.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PrintOptions {
    /// Names that the model file gives to values, as `%2 "conv1_out": f32[..]`.
    pub names: bool,
    /// Names of the rules that made a node, in brackets behind its paths; reading drops them.
    pub rules: bool,
}

/// The text of a graph.
pub fn print(graph: &Graph) -> String {
    print_with(graph, PrintOptions::default())
}

/// The text of a graph with what `options` ask for.
pub fn print_with(graph: &Graph, options: PrintOptions) -> String {
    print::graph(graph, options)
}

/// One node for a message: its result types, op, operand types and attributes, without numbers of values.
pub fn describe(graph: &Graph, node: NodeId) -> String {
    print::describe(graph, node)
}

/// Reads a graph. Every declared result type is checked against inference.
///
/// # Errors
/// All faults that were found, the first 50 of them; each message begins with `LINE:COLUMN: `.
pub fn parse(text: &str) -> Result<Graph, Vec<Diagnostic>> {
    parse::graph(text)
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self))
    }
}
