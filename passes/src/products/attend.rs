// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention of few queries over many keys in parts, so that more groups have work (flash decoding).
//!
//! Before: `attention(q, k, v)` with one query of each head; after: `merge_parts(attention_parts{part=512}(q, k, v))`. How many keys a part has
//! follows from sizes and the machine, so that each result has one order of additions; how many parts there are follows from the keys, which
//! need not be known.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, NodeId, Op, Patch};

use crate::rules::{Edit, RuleLog, Tap, sweep};
use crate::spec::{MachineClass, Math, SimtSpec};

const NAME: &str = "attention-in-parts";

/// Queries of a head that are few.
const QUERIES: i64 = 16;

/// Rows that a group takes at once, about.
const ROWS: i64 = 64;

/// Keys of a part are a multiple of that, and at least twice as many.
const BLOCK: i64 = 128;

/// Of the bytes that a part reads, at most one in so many is what it leaves behind.
const LEFT: i64 = 16;

/// Keys that there are where nothing is known of them, for how many a part has.
const KEYS: i64 = 8192;

/// Cuts what is long for what the machine has to do at once. Exact sums stay whole.
pub fn over_parts(graph: &mut Graph, machine: &MachineClass, math: Math, log: &mut RuleLog) {
    let MachineClass::Simt(spec) = machine else { return };
    if math != Math::Exact {
        sweep(graph, NAME, log, &|g, n| rewrite(g, n, spec));
    }
}

fn rewrite(g: &Graph, n: NodeId, spec: &SimtSpec) -> Option<Patch> {
    let node = g.node(n);
    let (&Op::Attention { scale, causal, has_mask, has_offset, softcap }, &[q, k, v, ..]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let ([batch, heads, queries, depth], [_, key_heads, keys, _], [.., width]) =
        (g.ty(q).dims.as_slice(), g.ty(k).dims.as_slice(), g.ty(v).dims.as_slice())
    else {
        return None;
    };
    let queries = queries.as_const().filter(|n| (1..=QUERIES).contains(n))?;
    let (heads, key_heads) = (heads.as_const()?, key_heads.as_const().filter(|n| *n > 0)?);
    let (depth, width) = (depth.as_const()?.clamp(1, 1 << 16), width.as_const()?.clamp(1, 1 << 16));
    let rows = (heads / key_heads).max(1).saturating_mul(queries);
    // Where the batch is not known it may be one.
    let batch = g.bounds(batch).0.max(1);
    let groups = batch.saturating_mul(key_heads).saturating_mul((rows + ROWS - 1) / ROWS);
    let most = keys.as_const().unwrap_or_else(|| g.bounds(keys).1.min(KEYS));
    // A group of few rows has one warp, and memory is busy with several of those on each processor.
    let wanted = i64::from(spec.busy / 2) / groups;
    let up = |n: i64| (n + BLOCK - 1) / BLOCK * BLOCK;
    // What parts leave behind is at most a part of what they read.
    let bytes = i64::from(g.ty(k).dtype.bits() / 8).max(1);
    let left = rows.saturating_mul(width).saturating_mul(2 * 4) / ((depth + width) * bytes);
    let part = up((most + wanted.max(1) - 1) / wanted.max(1)).max(2 * BLOCK).max(up(left.min(1 << 30) * LEFT));
    if wanted < 2 || most < 2 * part || g.ty(q).dtype == DType::F64 {
        return None;
    }
    let mut e = Edit::new(g, NAME, &[n]);
    let operands: Vec<_> = node.operands.iter().map(|&v| v.into()).collect();
    let y = e.add(Op::AttentionParts { part, scale, causal, has_mask, has_offset, softcap }, &operands)?;
    let Tap::New(parts, _) = y else { return None };
    let y = e.add(Op::MergeParts { to: g.ty(g.result(n)).dtype }, &[y, Tap::New(parts, 1)])?;
    e.finish(g.result(n), y)
}
