// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fusion: nodes that one kernel computes become one `fusion` node.
//!
//! Before: `%1 = contract(%x, %w); %2 = add(%1, %b); %3 = max(%2, 0)`;
//! after: `%3 = fusion{kind=contract}(%x, %w, %b)` with the three nodes as its region.
//!
//! # Result
//! Every node of the result is a source, `bind`, `reshape` (a view), `if`, `loop` or `fusion`. Regions take what they read as operands in
//! order of first use; one-element constants, `fill`, `iota` and `dims` are copied into them.
//!
//! # How nodes find together
//! Nodes are visited once, in import order, and join a group of one of their operands or open a new one. Groups are numbered in the order in which
//! they will run. A node may join a group only if everything that it reads runs before that group, so no cycle can arise and the test is a
//! comparison of two numbers. A group whose values are used by the joining node alone (*closed*) can run later instead, or merge.
//! Slices and broadcasts of stored values are copied into each user that can take them, since they only rename coordinates.
//!
//! # What joins what
//! - `map`: elementwise, movement, gathers. A node with other dims joins only if nothing else uses the group, for then its values need not
//!   be stored; and only cheap values are computed more than once.
//! - `reduce`: reductions of the same trailing dims of one shape with elementwise nodes of that shape or of a row; or one reduction of
//!   other dims with its elementwise prologue and epilogue. Outputs have the full dims, or those of a row with or without the ones.
//! - `contract`, `conv`, `window`: the op and elementwise nodes of the dims of its result.
//! - `attention`: the same, what moves rows of its operands, and a transpose of the heads of its result.
//! - anything else is a group of its own.

use portwright_ir::diag::Code;
use portwright_ir::graph::{Graph, TypeFault};

use crate::rules::{RuleLog, nodes_with_regions};

mod classify;
mod emit;
mod group;

pub use classify::materialized_reshape;

/// Most operations of a fusion.
pub const MAX_OPS: usize = 512;
/// Most values that a fusion reads and writes, which bounds what is alive at once.
pub const MAX_PORTS: usize = 40;

/// Groups all nodes, those of `if` and `loop` regions included.
///
/// # Errors
/// `E0901`: inference rejected a region, which is a fault of this pass.
pub fn fuse(graph: &mut Graph, log: &mut RuleLog) -> Result<(), TypeFault> {
    if log.spent() {
        log.limit = Some(log.patches);
    }
    graph.remove_dead();
    for n in nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        let done = regions.iter_mut().try_for_each(|r| fuse(r, log));
        *graph.regions_mut(n) = regions;
        done?;
    }
    let plan = group::Grouping::of(graph);
    *graph = emit::emit(graph, &plan, log).map_err(|f| TypeFault::new(Code::INTERNAL, format!("fusion: {}", f.message)))?;
    Ok(())
}

#[cfg(test)]
mod tests;
