// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums whose terms are siblings: of one structure, up to weights and constants.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{BinaryOp, Def, Graph, NodeId, Op, ValueId};

use super::Chain;
use crate::rules::{edit::only_user, topological};

/// All sums of a graph that have siblings among their terms, in order.
pub(super) fn chains(g: &Graph) -> Vec<Chain> {
    let order = topological(g);
    let hashes = structure(g, &order);
    let mut out = Vec::new();
    for &n in &order {
        if !is_sum(g, n) || inner(g, n) {
            continue;
        }
        let terms = terms(g, n);
        let mut by_hash: HashMap<u64, usize> = HashMap::new();
        let mut families: Vec<Vec<usize>> = Vec::new();
        for (i, t) in terms.iter().enumerate() {
            let family = *by_hash.entry(hashes[*t]).or_insert(families.len());
            if family == families.len() {
                families.push(Vec::new());
            }
            families[family].push(i);
        }
        families.retain(|f| f.len() > 1);
        if !families.is_empty() {
            out.push(Chain { root: n, terms, families });
        }
    }
    out
}

fn is_sum(g: &Graph, n: NodeId) -> bool {
    matches!(g.node(n).op, Op::Binary(BinaryOp::Add))
}

/// Whether a sum is only a term of another one of its type.
fn inner(g: &Graph, n: NodeId) -> bool {
    let v = g.result(n);
    only_user(g, v).is_some_and(|user| is_sum(g, user) && g.ty(g.result(user)) == g.ty(v))
}

/// What is added up to the result of `root`, in order.
pub(super) fn terms(g: &Graph, root: NodeId) -> Vec<ValueId> {
    if !is_sum(g, root) {
        return Vec::new();
    }
    let ty = g.ty(g.result(root));
    let mut out = Vec::new();
    let mut work: Vec<ValueId> = g.node(root).operands.iter().rev().copied().collect();
    while let Some(v) = work.pop() {
        let sum = g.producer_id(v).filter(|&n| is_sum(g, n) && g.ty(v) == ty && only_user(g, v).is_some());
        match sum {
            Some(n) => work.extend(g.node(n).operands.iter().rev()),
            None => out.push(v),
        }
    }
    out
}

/// A number for the structure of each value: equal for equal ones, and for those that differ in weights and constants alone.
fn structure(g: &Graph, order: &[NodeId]) -> SecondaryMap<ValueId, u64> {
    let mut out: SecondaryMap<ValueId, u64> = SecondaryMap::default();
    for &v in g.inputs() {
        let mut h = DefaultHasher::new();
        if let Def::Input(i) = g.value(v).def {
            (0u8, i).hash(&mut h);
        }
        out[v] = h.finish();
    }
    for &n in order {
        let node = g.node(n);
        let mut h = DefaultHasher::new();
        match &node.op {
            Op::Weight { .. } => (1u8, g.ty(g.result(n))).hash(&mut h),
            Op::Const { value } => (2u8, value.dtype, &value.dims).hash(&mut h),
            // A node with a body of its own is like no other.
            op if !node.regions.is_empty() => (3u8, op.mnemonic(), n).hash(&mut h),
            op => {
                (4u8, op).hash(&mut h);
                node.operands.iter().for_each(|&v| out[v].hash(&mut h));
            }
        }
        for (i, &v) in node.results.iter().enumerate() {
            let mut own = h.clone();
            i.hash(&mut own);
            out[v] = own.finish();
        }
    }
    out
}
