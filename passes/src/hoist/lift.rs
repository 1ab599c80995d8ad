// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the bodies of `if` and `loop` compute from weights alone moves out in front of them, where the pack program finds it.
//!
//! Before: `%2 = if(%c, weight "w", weight "s") { %b = mul(%w, %s); conv(%x, %b) }`;
//! after: `%1 = mul(weight "w", weight "s"); %2 = if(%c, %1) { conv(%x, %b) }`, and `%1` is packed.
//!
//! Only ops that cannot fail move: a branch that is never taken must not stop the packer. Views and what is generated from no data stay.

use std::collections::HashMap;

use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{Graph, NodeId, Op, Patch, TypeFault, ValueId};

use super::is_view;
use crate::rules::{RuleLog, Tap, nodes_with_regions, topological};

/// Moves weight computation out of all bodies, the innermost first. Returns how many values left a body.
pub fn lift(graph: &mut Graph, log: &mut RuleLog) -> usize {
    inside(graph, None, log)
}

/// As [`lift`], for a body of whose inputs those marked `fixed` are known before any run; `None` for the model.
fn inside(graph: &mut Graph, fixed: Option<&[bool]>, log: &mut RuleLog) -> usize {
    let mut count = 0;
    let nodes = nodes_with_regions(graph);
    if nodes.is_empty() {
        return 0;
    }
    let mut known = Known::of(graph, fixed);
    for n in nodes {
        let first = match &graph.node(n).op {
            Op::If {} => 1,
            // The inputs of a body are those of the loop; what it carries changes.
            Op::Loop { carried, .. } => *carried as usize + 2,
            _ => continue,
        };
        if log.spent() {
            break;
        }
        let captures: Vec<bool> = graph.node(n).operands.iter().skip(first).map(|&v| known.is(v)).collect();
        let mut regions = std::mem::take(graph.regions_mut(n));
        let mut moved = 0;
        let mut wanted = Vec::with_capacity(regions.len());
        for r in &mut regions {
            let mut inputs = vec![false; r.inputs().len().saturating_sub(captures.len())];
            inputs.extend(&captures);
            count += inside(r, Some(&inputs), log);
            let w = leaving(r, &inputs);
            moved += w.len();
            wanted.push(w);
        }
        *graph.regions_mut(n) = regions;
        if moved == 0 {
            continue;
        }
        match rebuilt(graph, n, first, &wanted) {
            Ok(patch) => match graph.apply(patch) {
                Ok(_) => {
                    log.count("lift-weights");
                    count += moved;
                    known = Known::of(graph, fixed);
                }
                Err(fault) => {
                    log.refused.insert("lift-weights", fault.message);
                }
            },
            Err(fault) => {
                log.refused.insert("lift-weights", fault.message);
            }
        }
    }
    count
}

/// Values of a graph that are known before any run.
struct Known {
    /// Whether a value is, and whether weights have a part in it.
    values: SecondaryMap<ValueId, Option<bool>>,
}

impl Known {
    fn of(g: &Graph, fixed: Option<&[bool]>) -> Known {
        let mut values: SecondaryMap<ValueId, Option<bool>> = SecondaryMap::default();
        for (&v, &fixed) in g.inputs().iter().zip(fixed.unwrap_or_default()) {
            values[v] = (fixed && g.ty(v).static_dims().is_some()).then_some(true);
        }
        for n in topological(g) {
            let node = g.node(n);
            let known = match &node.op {
                Op::RandomUniform { .. } | Op::Host { .. } | Op::Handle { .. } => None,
                op if super::needs_symbols(op) => None,
                // Weights are the model's; what a body has of its own stays with it.
                Op::Weight { .. } => fixed.is_none().then_some(true),
                op if op.is_source() => Some(false),
                op if moves(op) => node.operands.iter().map(|&v| values[v]).try_fold(false, |any, v| Some(any | v?)),
                _ => None,
            };
            for &v in &node.results {
                values[v] = known.filter(|_| g.ty(v).static_dims().is_some() && g.ty(v).quant.is_none());
            }
        }
        Known { values }
    }
    fn is(&self, v: ValueId) -> bool {
        self.values[v].is_some()
    }
    /// Whether the value is computed from weights.
    fn weighs(&self, v: ValueId) -> bool {
        self.values[v] == Some(true)
    }
}

/// Whether an op gives a result for any operands of its types.
fn moves(op: &Op) -> bool {
    op.is_elementwise()
        || op.is_movement()
        || matches!(
            op,
            Op::Reduce { .. } | Op::Contract { .. } | Op::Conv { .. } | Op::Scan { .. } | Op::Quantize { .. } | Op::Dequantize { .. }
        )
}

/// Values of a body that move out: computed from weights, and needed by what stays.
fn leaving(r: &Graph, fixed: &[bool]) -> Vec<ValueId> {
    let known = Known::of(r, Some(fixed));
    let mut wanted = Vec::new();
    let mut seen: SecondaryMap<ValueId, bool> = SecondaryMap::default();
    let mut visit = |v: ValueId| {
        let mut work = vec![v];
        while let Some(v) = work.pop() {
            if !known.weighs(v) || std::mem::replace(&mut seen[v], true) {
                continue;
            }
            match r.producer(v) {
                Some(p) if is_view(r, v) => work.extend(p.operands.iter().rev()),
                Some(p) if !p.op.is_source() => wanted.push(v),
                _ => {}
            }
        }
    };
    for n in topological(r) {
        let node = r.node(n);
        if !node.results.iter().all(|&v| known.is(v)) || node.results.is_empty() {
            node.operands.iter().for_each(|&v| visit(v));
        }
    }
    r.outputs().iter().for_each(|o| visit(o.value));
    wanted
}

/// The node with bodies that take the wanted values as inputs, and what makes them in front of it.
fn rebuilt(g: &Graph, n: NodeId, first: usize, wanted: &[Vec<ValueId>]) -> Result<Patch, TypeFault> {
    let node = g.node(n);
    let mut patch = Patch::new(g, "lift-weights", &[n]);
    let mut operands: Vec<Tap> = node.operands.iter().map(|&v| v.into()).collect();
    let mut regions = node.regions.clone();
    for (at, list) in wanted.iter().enumerate() {
        let Some(r) = node.regions.get(at) else { continue };
        // What stands outside for the values of this body.
        let mut outside: HashMap<ValueId, Tap> = HashMap::new();
        for (&v, &o) in r.inputs().iter().skip(r.inputs().len().saturating_sub(node.operands.len() - first)).zip(&node.operands[first..]) {
            outside.insert(v, o.into());
        }
        for &v in list {
            operands.push(copy(g, &mut patch, r, v, &mut outside)?);
            let name = r.value(v).name.clone().unwrap_or_else(|| format!("lifted_{}", operands.len()).into());
            for (i, region) in regions.iter_mut().enumerate() {
                let new = region.add_input(name.clone(), r.ty(v).clone());
                if i == at {
                    region.replace_uses(v, new);
                }
            }
        }
    }
    for r in &mut regions {
        r.remove_dead();
    }
    // Captures that nobody takes any more go.
    for i in (first..operands.len()).rev() {
        let taken = |r: &Graph| {
            let at = r.inputs().len() + i - operands.len();
            let v = r.inputs()[at];
            r.is_used(v) || r.is_output(v)
        };
        if !regions.iter().any(taken) {
            for r in &mut regions {
                r.remove_input(r.inputs().len() + i - operands.len());
            }
            operands.remove(i);
        }
    }
    let Tap::New(made, _) = patch.add_with_regions(g, node.op.clone(), &operands, regions)? else {
        return Err(TypeFault::new(portwright_ir::diag::Code::INTERNAL, "a node of a patch is not new"));
    };
    for (i, &v) in node.results.iter().enumerate() {
        patch.replace(v, Tap::New(made, i));
    }
    Ok(patch)
}

/// Adds what a value of a body is computed from to the patch.
fn copy(g: &Graph, patch: &mut Patch, r: &Graph, root: ValueId, outside: &mut HashMap<ValueId, Tap>) -> Result<Tap, TypeFault> {
    let mut work = vec![root];
    while let Some(&v) = work.last() {
        if outside.contains_key(&v) {
            work.pop();
            continue;
        }
        let Some(p) = r.producer(v) else {
            return Err(TypeFault::new(portwright_ir::diag::Code::INTERNAL, "an input of a body has no operand"));
        };
        let open: Vec<ValueId> = p.operands.iter().copied().filter(|o| !outside.contains_key(o)).collect();
        if !open.is_empty() {
            work.extend(open);
            continue;
        }
        let operands: Vec<Tap> = p.operands.iter().filter_map(|o| outside.get(o).copied()).collect();
        let Tap::New(made, _) = patch.add(g, p.op.clone(), &operands)? else { continue };
        for (i, &v) in p.results.iter().enumerate() {
            outside.insert(v, Tap::New(made, i));
        }
    }
    outside.get(&root).copied().ok_or_else(|| TypeFault::new(portwright_ir::diag::Code::INTERNAL, "a lifted value was not made"))
}
