// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is computed from weights alone leaves the model: it becomes the pack program.
//!
//! Before: `%1 = mul(weight "w", weight "s"); %2 = conv(%x, %1)`;
//! after, in main: `%2 = conv(%x, weight "w.scaled")`, and in the pack program: `output "w.scaled" = mul(weight "w", weight "s")`.
//!
//! Views (reshape), what makes more elements than it reads (broadcast), and what is generated from no data at all by cheap arithmetic
//! (a causal mask from indices) stay in the model: stored, they would cost more than they save. The nodes of each packed weight stand
//! together in the pack program, so that it streams: one weight is computed, written and forgotten before the next.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{Graph, NodeId, Op, Patch, UnaryOp, ValueId, collect_attr_symbols};
use portwright_ir::weight::{Weight, WeightSource};

use crate::rules::{RuleLog, topological};

mod lift;
mod parts;
pub mod stream;

pub use lift::lift;

/// Splits a graph into the model and its pack program.
///
/// The pack program's inputs are none, its weights are the model's; output `i` is the weight of that name in the model, whose source is
/// [`WeightSource::Packed`].
pub fn split_pack(mut graph: Graph, log: &mut RuleLog) -> (Graph, Graph) {
    let packed = packed_values(&graph);
    let mut pack = Graph::new(format!("{}.pack", graph.name));
    if packed.is_empty() {
        return (graph, pack);
    }
    let mut names: HashSet<Arc<str>> = graph.weights().values().map(|w| w.name.clone()).collect();
    let mut copied: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::default();
    for v in packed {
        let (Some(producer), Some(dims)) = (graph.producer_id(v), graph.ty(v).static_dims()) else { continue };
        let Some(in_pack) = copy(&graph, v, &mut pack, &mut copied) else { continue };
        let value = graph.value(v);
        let base = value.name.clone().unwrap_or_else(|| format!("{}.packed", graph.node(producer).origin.first()).into());
        let mut name = base.clone();
        for i in 2.. {
            if names.insert(name.clone()) {
                break;
            }
            name = format!("{base}.{i}").into();
        }
        let dtype = value.ty.dtype;
        let mut patch = Patch::new(&graph, "hoist", &[producer]);
        let w = patch.add_weight(Weight::new(name.clone(), dtype, dims, WeightSource::Packed));
        let Ok(new) = patch.add(&graph, Op::Weight { weight: w }, &[]) else { continue };
        patch.replace(v, new);
        match graph.apply(patch) {
            Ok(applied) => {
                // What is computed further from this weight goes on from its value in the pack program.
                for &m in &applied.added {
                    copied[graph.result(m)] = Some(in_pack);
                }
                pack.add_output(name, in_pack);
                log.count("hoist");
            }
            Err(fault) => {
                log.refused.insert("hoist", fault.message);
            }
        }
    }
    graph.remove_dead();
    pack.remove_dead();
    (graph, pack)
}

/// Whether an op computes with a number that only a run tells, as a slice from the iteration of a loop on.
fn needs_symbols(op: &Op) -> bool {
    let mut names = BTreeSet::new();
    collect_attr_symbols(op, &mut names);
    !names.is_empty()
}

/// Whether a value is made of another one without computing: stored, it would take memory twice.
fn is_view(graph: &Graph, v: ValueId) -> bool {
    let renames = |op: &Op| matches!(op, Op::Reshape { .. } | Op::Broadcast { .. } | Op::Quantized { .. });
    graph.producer(v).is_some_and(|p| renames(&p.op)) || graph.ty(v).quant.is_some()
}

/// Whether recomputing a node costs next to nothing.
fn cheap(op: &Op) -> bool {
    match op {
        Op::Unary(u) => matches!(
            u,
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc
        ),
        Op::Binary(b) => *b != portwright_ir::graph::BinaryOp::Pow,
        Op::Select {} | Op::Cast { .. } | Op::Bitcast { .. } => true,
        op => op.is_movement() || op.is_source(),
    }
}

/// Values that become weights, in the order in which the model uses them.
fn packed_values(graph: &Graph) -> Vec<ValueId> {
    #[derive(Copy, Clone, PartialEq)]
    enum From {
        Inputs,
        /// Constants that are generated, by cheap arithmetic.
        Nothing,
        Weights,
    }
    let order = topological(graph);
    let mut from: SecondaryMap<ValueId, From> = SecondaryMap::with_default(From::Inputs);
    for &n in &order {
        let node = graph.node(n);
        let of = match &node.op {
            Op::RandomUniform { .. } | Op::Bind { .. } | Op::If {} | Op::Loop { .. } | Op::Fusion { .. } | Op::NonZero { .. } => {
                From::Inputs
            }
            op if needs_symbols(op) => From::Inputs,
            Op::Weight { .. } => From::Weights,
            Op::Const { value } if value.len() > 1 => From::Weights,
            op if op.is_source() => From::Nothing,
            op => {
                let parts = || node.operands.iter().map(|&v| from[v]);
                if parts().any(|p| p == From::Inputs) {
                    From::Inputs
                } else if parts().all(|p| p == From::Nothing) && cheap(op) {
                    From::Nothing
                } else {
                    From::Weights
                }
            }
        };
        for &v in &node.results {
            from[v] = if graph.ty(v).static_dims().is_some() { of } else { From::Inputs };
        }
    }
    // What the model still needs of it, from the users down to what is not kept in the model.
    let mut wanted = Vec::new();
    let mut seen: SecondaryMap<ValueId, bool> = SecondaryMap::default();
    let computed = |v: &ValueId| from[*v] != From::Inputs;
    let mut work: Vec<ValueId> = Vec::new();
    for &n in &order {
        let node = graph.node(n);
        if node.results.iter().all(|v| from[*v] == From::Inputs) {
            work.extend(node.operands.iter().copied().filter(computed).rev());
        }
        while let Some(v) = work.pop() {
            if std::mem::replace(&mut seen[v], true) {
                continue;
            }
            let Some(p) = graph.producer(v).filter(|p| !p.op.is_source()) else { continue };
            if is_view(graph, v) || from[v] == From::Nothing {
                work.extend(p.operands.iter().copied().filter(computed).rev());
            } else {
                wanted.push(v);
            }
        }
    }
    for o in graph.outputs() {
        if from[o.value] == From::Weights && !seen[o.value] && graph.producer(o.value).is_some_and(|p| !p.op.is_source()) {
            seen[o.value] = true;
            wanted.push(o.value);
        }
    }
    wanted
}

/// Copies what a value is computed from into the pack program, each node once.
fn copy(graph: &Graph, root: ValueId, pack: &mut Graph, copied: &mut SecondaryMap<ValueId, Option<ValueId>>) -> Option<ValueId> {
    let mut work: Vec<(NodeId, bool)> = vec![(graph.producer_id(root)?, false)];
    while let Some((n, ready)) = work.pop() {
        let node = graph.node(n);
        if node.results.first().is_some_and(|&v| copied[v].is_some()) {
            continue;
        }
        if !ready {
            work.push((n, true));
            work.extend(node.operands.iter().rev().filter_map(|&v| graph.producer_id(v)).map(|p| (p, false)));
            continue;
        }
        let operands = node.operands.iter().map(|&v| copied[v]).collect::<Option<Vec<_>>>()?;
        let op = match &node.op {
            Op::Weight { weight } => Op::Weight { weight: pack.add_weight(graph.weight(*weight).clone()) },
            op => op.clone(),
        };
        let m = pack.add(op, &operands, node.origin.clone()).ok()?;
        for (&old, &new) in node.results.iter().zip(&pack.node(m).results.clone()) {
            copied[old] = Some(new);
            if let Some(name) = &graph.value(old).name {
                pack.set_name(new, name.clone());
            }
        }
    }
    copied[root]
}

#[cfg(test)]
mod tests;
