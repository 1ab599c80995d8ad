// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sibling subgraphs over different weights, written once.
//!
//! Exporters unroll what a model repeats: 256 experts are 256 copies of one subgraph, each with its own weights and the constant that is its
//! number, whose results are added up. Here they become one subgraph again. [`siblings`] finds terms of a sum that are equal up to weights
//! and numbers, by one hash of every value's structure, and [`unify`] writes what they have in common as a template (their least general
//! generalization). [`route`] knows what such a sum often is: each term is multiplied by a weight that is zero for all rows but those that
//! chose its number. Then only the chosen terms are computed: rows are sorted by the term that they chose, and weights, stacked by reference,
//! meet the rows of their group. Where each sibling selects its rows by a mask and scatters what it made of them, [`selected`] first writes the sum
//! over all rows; where they lie along a dim, [`dense`] writes two of them. [`gathered`] routes products whose right operand each row looks up.
//!
//! Nothing here depends on names, on the order of nodes, or on who wrote the file; what a template has that is not understood leaves the sum
//! as it is.

use std::collections::HashSet;

use portwright_ir::graph::{Graph, NodeId, ValueId};

use crate::fold;
use crate::rules::{RuleLog, nodes_with_regions, sweep};
use crate::spec::Math;

mod dense;
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
/// Name of the rewrite of rows that are put back and sorted again.
pub const KEEP: &str = "keep-sorted";

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
    rewritten(graph, log);
    roll(graph, &[], log);
    graph.remove_dead();
    let before = log.fired.get(GROUP).copied();
    sweep(graph, GROUP, log, &gathered::grouped);
    if log.fired.get(GROUP).copied() != before {
        fold::share(graph, log);
        sweep(graph, KEEP, log, &gathered::kept);
        graph.remove_dead();
    }
}

/// Routes the sums over siblings that stand in the graph, where pairs of terms may stand for more; gives the terms that were routed.
fn roll(graph: &mut Graph, pairs: &[([ValueId; 2], i64)], log: &mut RuleLog) -> HashSet<ValueId> {
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
        let patch = |family: &Vec<usize>| {
            let terms: Vec<ValueId> = family.iter().filter_map(|&i| chain.terms.get(i).copied()).collect();
            let all = match pairs.iter().find(|(pair, _)| pair.iter().any(|t| terms.contains(t))) {
                Some((pair, all)) => Some((terms == *pair).then_some(*all)?),
                None => None,
            };
            Some((route::route(graph, &chain, family, all, &mut names)?, terms))
        };
        let Some((patch, terms)) = chain.families.iter().find_map(patch) else { continue };
        match graph.apply(patch) {
            Ok(_) => {
                log.count(ROUTE);
                routed.extend(terms);
            }
            Err(fault) => {
                log.refused.insert(ROUTE, fault.message);
            }
        }
    }
    routed
}

/// Routes sums that are no sums over siblings as they stand: those whose siblings select their rows by masks, and those over a dim. They are
/// written as sums over siblings on a copy of the graph, which is taken for those alone that are routed.
fn rewritten(graph: &mut Graph, log: &mut RuleLog) {
    let (mut selected, mut dense) = (selected::candidates(graph), dense::candidates(graph));
    while !(selected.is_empty() && dense.is_empty() || log.spent()) {
        let (mut trial, mut own) = (graph.clone(), log.clone());
        let rows = selected::rewrite(&mut trial, &selected, &mut own);
        let dims = dense::rewrite(&mut trial, &dense, &mut own);
        fold::share(&mut trial, &mut own);
        let pairs: Vec<([ValueId; 2], i64)> = dims.iter().map(|(_, pair, all)| (*pair, *all)).collect();
        let routed = roll(&mut trial, &pairs, &mut own);
        selected = rows.iter().filter(|(_, t)| routed.contains(t)).map(|(n, _)| *n).collect();
        dense = dims.iter().filter(|(_, pair, _)| pair.iter().all(|t| routed.contains(t))).map(|(n, ..)| *n).collect();
        if (selected.len(), dense.len()) == (rows.len(), dims.len()) {
            if !(selected.is_empty() && dense.is_empty()) {
                trial.remove_dead();
                (*graph, *log) = (trial, own);
            }
            return;
        }
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
