// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How weights lie in memory, written as plain movement of weights, which the pack program then does once.

use portwright_ir::graph::{Graph, NodeId, Op, Patch};

use crate::canonical::contract::{labels, spec};
use crate::rules::consts::is_static;
use crate::rules::{Edit, Rule, RuleCx, RuleLog};
use crate::spec::{MachineClass, Math};

mod channels;
mod cut;
mod panels;
mod phases;
mod rounded;
mod winograd;

pub use channels::{TURNED, to_last};

const RULES: &[Rule] = &[Rule {
    name: "weight-columns-last",
    doc: "contract{\"mk,nk->mn\"}(x, weight) -> contract{\"mk,kn->mn\"}(x, transpose(weight)): vectors run along the dim that memory does",
    roots: &["contract"],
    apply: columns_last,
}];

/// Gives convolutions channels last where that is estimated to be faster, and everything around them that can work so.
pub fn channels_last(graph: &mut Graph, machine: &MachineClass, cx: &RuleCx<'_>, log: &mut RuleLog) {
    channels::channels_last(graph, machine, cx, log);
}

/// Cuts the constant right operands of a fused graph's contractions into panels; `pack` is not fused yet.
pub fn cut_panels(main: &mut Graph, pack: &mut Graph, machine: &MachineClass, math: Math, log: &mut RuleLog) {
    match machine {
        MachineClass::Cpu(spec) => panels::cut_panels(main, pack, spec, math, log),
        MachineClass::Simt(_) => {}
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
