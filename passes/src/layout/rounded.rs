// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Large values that products read as bf16 are stored as nothing else.
//!
//! Before: `%2 = cast<bf16>(%1); %3 = conv_last(%2, ..); %4 = add(%1, %3)`, which stores both `%1` and `%2`;
//! after: `%4 = add(cast<f32>(%2), %3)`. A residual is then rounded as the products beside it are, and takes a third of the bytes.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, NodeId, Op, Patch, ValueId};

use super::channels::size;
use crate::rules::consts::is_static;
use crate::rules::{Edit, RuleLog, Tap};
use crate::spec::CpuSpec;

/// Name of the rewrite in origins and statistics.
const NAME: &str = "read-rounded";

/// Size that a symbol is taken to have, where its range allows.
const NOMINAL: i64 = 16;

/// Makes elementwise ops read what a value was rounded to, where nothing else needs the value itself and the cache does not hold it.
pub(super) fn read_rounded(graph: &mut Graph, spec: &CpuSpec, log: &mut RuleLog) {
    for n in crate::rules::topological(graph) {
        if log.spent() {
            return;
        }
        if !graph.contains(n) {
            continue;
        }
        let Some(&x) = graph.node(n).operands.first() else { continue };
        if !matches!(graph.node(n).op, Op::Cast { to: DType::BF16, .. }) || !large(graph, x, spec) {
            continue;
        }
        for user in graph.users(x) {
            if !graph.contains(user) || is_rounding(graph, user) {
                continue;
            }
            let Some(patch) = reads(graph, n, x, user) else { break };
            match graph.apply(patch) {
                Ok(_) => log.count(NAME),
                Err(fault) => {
                    log.refused.insert(NAME, fault.message);
                }
            }
        }
    }
}

fn is_rounding(g: &Graph, n: NodeId) -> bool {
    matches!(g.node(n).op, Op::Cast { to: DType::BF16, .. })
}

/// Whether `x` is computed, in f32, for products and elementwise ops alone, and fills a good part of the cache.
fn large(g: &Graph, x: ValueId, spec: &CpuSpec) -> bool {
    let nominal = |s: &str| g.symbol(s).map(|s| NOMINAL.clamp(s.lo.max(1), s.hi.max(1)));
    let bytes = size(&g.ty(x).dims, &nominal).saturating_mul(4);
    g.ty(x).dtype == DType::F32
        && g.producer(x).is_some()
        && !g.is_output(x)
        && !is_static(g, x)
        && bytes >= u64::from(spec.l2_bytes) / 4
        && g.users(x).into_iter().all(|n| {
            let node = g.node(n);
            node.op.is_elementwise() && node.results.iter().all(|&y| g.ty(y).dims == g.ty(x).dims)
        })
}

/// The user with what the rounding `n` of `x` gives in place of `x`.
fn reads(g: &Graph, n: NodeId, x: ValueId, user: NodeId) -> Option<Patch> {
    let node = g.node(user);
    let mut e = Edit::new(g, NAME, &[user]);
    let wide = e.cast(g.result(n), DType::F32)?;
    let operands: Vec<Tap> = node.operands.iter().map(|&v| if v == x { wide } else { v.into() }).collect();
    let new = e.add(node.op.clone(), &operands)?;
    e.finish(*node.results.first()?, new)
}
