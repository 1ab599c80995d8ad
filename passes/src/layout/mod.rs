// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How weights lie in memory, written as plain movement of weights, which the pack program then does once.

use portwright_ir::graph::{Dims, Graph, NodeId, Op, PadMode, Patch, ValueId};
use portwright_ir::sym::SymExpr;

use crate::canonical::contract::{labels, spec};
use crate::rules::consts::is_static;
use crate::rules::{Edit, Rule, RuleCx, RuleLog, Tap};
use crate::spec::MachineClass;

mod channels;
mod cut;

const RULES: &[Rule] = &[Rule {
    name: "weight-columns-last",
    doc: "contract{\"mk,nk->mn\"}(x, weight) -> contract{\"mk,kn->mn\"}(x, transpose(weight)): vectors run along the dim that memory does",
    roots: &["contract"],
    apply: columns_last,
}];

/// Gives convolutions channels last where that is estimated to be faster, and everything around them that can work so.
pub fn channels_last(graph: &mut Graph, machine: &MachineClass, cx: &RuleCx<'_>, log: &mut RuleLog) {
    match machine {
        MachineClass::Cpu(spec) => channels::channels_last(graph, spec, cx, log),
    }
}

/// Turns weights so that the result's innermost dim is theirs too. Canonical form would turn them back: run this after it.
pub fn turn_weights(graph: &mut Graph, cx: &RuleCx<'_>, log: &mut RuleLog) {
    crate::rules::run(graph, &RULES.iter().collect::<Vec<_>>(), cx, log);
}

fn columns_last(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec: text, acc, out }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let [a, b, result] = labels(text)?;
    let last = result.last()?;
    let at = b.iter().position(|c| c == last)?;
    if a.contains(last) || at + 1 == b.len() || !is_static(g, w) {
        return None;
    }
    let perm: Vec<u32> = (0..b.len()).filter(|&i| i != at).chain([at]).map(|i| i as u32).collect();
    let turned = perm.iter().map(|&p| b.get(p as usize).copied()).collect::<Option<Vec<_>>>()?;
    let mut e = Edit::new(g, "weight-columns-last", &[n]);
    let w = e.transpose(w, perm)?;
    let new = e.contract(&spec(&[a, turned, result]), x, w, *acc, *out)?;
    e.finish(g.result(n), new)
}

/// Cuts the columns of weights into panels of `width`: `contract{"mk,kn->mn"}(x, w: [K,N])` becomes
/// `slice(reshape(contract{"mk,okp->mop"}(x, w: [ceil(N / width),K,width])))`, the last panel filled with zeros. Returns how many.
///
/// Only weights of at least `width` columns without batch dims are cut.
pub fn cut_panels(graph: &mut Graph, width: i64, log: &mut RuleLog) -> usize {
    let mut count = 0;
    for n in crate::rules::topological(graph) {
        if log.spent() || !graph.contains(n) {
            continue;
        }
        if let Some(patch) = panels(graph, n, width)
            && graph.apply(patch).is_ok()
        {
            log.count("weight-panels");
            count += 1;
        }
    }
    count
}

fn panels(g: &Graph, n: NodeId, width: i64) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec: text, acc, out }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let [a, b, result] = labels(text)?;
    let &last = result.last()?;
    let &[first, second] = b.as_slice() else { return None };
    let k = if first == last { second } else { first };
    let dims: Vec<i64> = g.ty(w).static_dims()?;
    let at = b.iter().position(|&c| c == last)?;
    let (columns, depth) = (*dims.get(at)?, *dims.get(1 - at)?);
    if a.contains(&last) || !a.contains(&k) || result.contains(&k) || columns < width || !is_static(g, w) {
        return None;
    }
    let mut free = ('a'..='z').filter(|c| !a.contains(c) && !b.contains(c) && !result.contains(c));
    let (panel, lane) = (free.next()?, free.next()?);
    let count = (columns + width - 1) / width;
    let mut e = Edit::new(g, "weight-panels", &[n]);
    let mut packed = e.transpose(w, if at == 1 { vec![0, 1] } else { vec![1, 0] })?;
    if count * width != columns {
        let zero = e.scalar(g.ty(w).dtype, 0.0)?;
        let none = || -> Dims { vec![0.into(), 0.into()] };
        let high: Dims = vec![0.into(), (count * width - columns).into()];
        packed = e.add(Op::Pad { mode: PadMode::Constant, low: none(), high, interior: vec![0, 0] }, &[packed, zero])?;
    }
    packed = e.reshape(packed, vec![depth.into(), count.into(), width.into()])?;
    packed = e.transpose(packed, vec![1, 0, 2])?;
    let mut split = result.clone();
    split.pop();
    split.extend([panel, lane]);
    let y = e.contract(&spec(&[a, vec![panel, k, lane], split]), x, packed, *acc, *out)?;
    let mut joined: Dims = e.ty(y).dims.clone();
    joined.truncate(joined.len().checked_sub(2)?);
    let axis = joined.len();
    joined.push((count * width).into());
    let y = e.reshape(y, joined)?;
    let y: Tap = e.slice_axis(y, axis, 0.into(), SymExpr::from(columns))?;
    let old: ValueId = g.result(n);
    e.finish(old, y)
}
