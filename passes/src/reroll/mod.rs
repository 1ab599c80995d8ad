// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sibling subgraphs over different weights, written once.
//!
//! Exporters unroll what a model repeats: 256 experts are 256 copies of one subgraph, each with its own weights and the constant that is its
//! number, whose results are added up. Here they become one subgraph again. [`siblings`] finds terms of a sum that are equal up to weights
//! and numbers, by one hash of every value's structure, and [`unify`] writes what they have in common as a template (their least general
//! generalization). [`route`] knows what such a sum often is: each term is multiplied by a weight that is zero for all rows but those that
//! chose its number. Then only the chosen terms are computed: rows are sorted by the term that they chose, and weights, stacked by reference,
//! meet the rows of their group. [`gathered`] does the same for products whose right operand each row looks up.
//!
//! Nothing here depends on names, on the order of nodes, or on who wrote the file; what a template has that is not understood leaves the sum
//! as it is.

use portwright_ir::graph::{Graph, NodeId, ValueId};

use crate::rules::{RuleLog, nodes_with_regions, sweep};
use crate::spec::Math;

mod gathered;
mod route;
mod rows;
mod siblings;
mod stack;
#[cfg(test)]
mod tests;
mod unify;

/// Name of the rewrite in origins and statistics.
pub const ROUTE: &str = "route-siblings";
/// Name of the rewrite of products with matrices that each row looks up.
pub const GROUP: &str = "group-rows";

/// Re-rolls a graph, bodies of `if` and `loop` included.
///
/// A term that a row did not choose has no influence on it, whatever it would have been (docs/NUMERICS.md, `contract.groups`), so nothing is
/// done under [`Math::Exact`].
pub fn reroll(graph: &mut Graph, math: Math, log: &mut RuleLog) {
    if math == Math::Exact {
        return;
    }
    for n in nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        regions.iter_mut().for_each(|r| reroll(r, math, log));
        *graph.regions_mut(n) = regions;
    }
    let mut names = stack::Names::of(graph);
    for chain in siblings::chains(graph) {
        if log.spent() {
            return;
        }
        // An earlier patch may have removed it, or put another node in its place.
        if !graph.contains(chain.root) || siblings::terms(graph, chain.root) != chain.terms {
            continue;
        }
        let Some(patch) = chain.families.iter().find_map(|family| route::route(graph, &chain, family, &mut names)) else { continue };
        match graph.apply(patch) {
            Ok(_) => log.count(ROUTE),
            Err(fault) => {
                log.refused.insert(ROUTE, fault.message);
            }
        }
    }
    graph.remove_dead();
    sweep(graph, GROUP, log, &gathered::grouped);
}

/// A sum of many terms.
struct Chain {
    /// The last addition.
    root: NodeId,
    terms: Vec<ValueId>,
    /// Positions of terms of one structure, for each structure that there is more than once.
    families: Vec<Vec<usize>>,
}
