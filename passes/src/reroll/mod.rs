// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sibling subgraphs over different weights, written once.
//!
//! Exporters unroll what a model repeats: 256 experts are 256 copies of one subgraph, each with its own weights and the constant that is its
//! number, whose results are added up. Here they become one subgraph again. [`siblings`] finds terms of a sum that are equal up to weights
//! and numbers, by one hash of every value's structure, and [`unify`] writes what they have in common as a template (their least general
//! generalization). [`route`] knows what such a sum often is: each term is multiplied by a weight that is zero for all rows but those that
//! chose its number. Then only the chosen terms are computed: rows are sorted by the term that they chose, and weights, stacked by reference,
//! meet the rows of their group. Where each sibling selects its rows by a mask and scatters what it made of them, [`selected`] first writes the sum
//! over all rows. [`gathered`] routes products whose right operand each row looks up.
//!
//! Nothing here depends on names, on the order of nodes, or on who wrote the file; what a template has that is not understood leaves the sum
//! as it is.

use std::collections::HashSet;

use portwright_ir::graph::{Graph, NodeId, ValueId};

use crate::fold;
use crate::rules::{RuleLog, nodes_with_regions, sweep};
use crate::spec::Math;

mod gathered;
mod mask;
mod route;
mod rows;
mod selected;
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
    select(graph, log);
    roll(graph, log);
    graph.remove_dead();
    sweep(graph, GROUP, log, &gathered::grouped);
}

/// Routes the sums over siblings that stand in the graph; gives the terms that were routed.
fn roll(graph: &mut Graph, log: &mut RuleLog) -> HashSet<ValueId> {
    let mut routed = HashSet::new();
    let mut names = stack::Names::of(graph);
    for chain in siblings::chains(graph) {
        if log.spent() {
            break;
        }
        // An earlier patch may have removed it, or put another node in its place.
        if !graph.contains(chain.root) || siblings::terms(graph, chain.root) != chain.terms {
            continue;
        }
        let patch = |family: &Vec<usize>| Some((family.clone(), route::route(graph, &chain, family, &mut names)?));
        let Some((family, patch)) = chain.families.iter().find_map(patch) else { continue };
        match graph.apply(patch) {
            Ok(_) => {
                log.count(ROUTE);
                routed.extend(family.iter().filter_map(|&i| chain.terms.get(i)));
            }
            Err(fault) => {
                log.refused.insert(ROUTE, fault.message);
            }
        }
    }
    routed
}

/// Routes sums over siblings that select their rows by masks: as sums over all rows, on a copy of the graph, which is taken for those sums
/// alone that are routed.
fn select(graph: &mut Graph, log: &mut RuleLog) {
    let mut sums = selected::candidates(graph);
    while !sums.is_empty() && !log.spent() {
        let (mut trial, mut own) = (graph.clone(), log.clone());
        let terms = selected::rewrite(&mut trial, &sums, &mut own);
        fold::share(&mut trial, &mut own);
        let routed = roll(&mut trial, &mut own);
        let taken: Vec<NodeId> = terms.iter().filter(|(_, t)| routed.contains(t)).map(|(n, _)| *n).collect();
        if taken.len() == terms.len() && !taken.is_empty() {
            trial.remove_dead();
            (*graph, *log) = (trial, own);
            return;
        }
        sums = taken;
    }
}

/// A sum of many terms.
struct Chain {
    /// The last addition.
    root: NodeId,
    terms: Vec<ValueId>,
    /// Positions of terms of one structure, for each structure that there is more than once.
    families: Vec<Vec<usize>>,
}
