// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reshapes move past elementwise ops towards the outputs, so that activations stand beside what makes their operand.
//!
//! A reshape is a view and costs nothing, but a kernel ends at it: `gelu(reshape(conv(x)))` would be two kernels.

use portwright_ir::graph::{Dims, Graph, NodeId, Op, Patch, ValueId};

use crate::rules::edit::only_user;
use crate::rules::{Edit, Rule, RuleCx, Tap};

const RULES: &[Rule] = &[Rule {
    name: "reshape-sinks",
    doc: "gelu(reshape(x)) -> reshape(gelu(x)), also with operands of the last dims, and add(reshape(x), reshape(y)) -> reshape(add(x, y))",
    roots: &[],
    apply: sink,
}];

/// All rules of this module; they run once composites are found and before they are taken apart.
pub fn rules() -> Vec<&'static Rule> {
    RULES.iter().collect()
}

/// What a reshape that nothing else uses reshapes.
fn reshaped(g: &Graph, v: ValueId) -> Option<ValueId> {
    let node = g.producer(v)?;
    match (&node.op, node.operands.as_slice()) {
        // Views of inputs and weights stay: no kernel could take the op in.
        (Op::Reshape { .. }, &[x]) if g.producer(x).is_some_and(|p| !p.op.is_source()) => only_user(g, v).map(|_| x),
        _ => None,
    }
}

fn sink(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let y = *node.results.first()?;
    if !node.op.is_elementwise() {
        return None;
    }
    let mut dims: Option<&Dims> = None;
    let mut operands: Vec<Tap> = Vec::with_capacity(node.operands.len());
    // The longest operand that is no reshape: the reshape must leave that many dims as they are.
    let mut kept = 0;
    for &v in &node.operands {
        let ty = g.ty(v);
        if let Some(x) = reshaped(g, v).filter(|_| ty.dims == g.ty(y).dims) {
            if *dims.get_or_insert(&g.ty(x).dims) != &g.ty(x).dims {
                return None;
            }
            operands.push(x.into());
        } else {
            kept = kept.max(ty.rank());
            operands.push(v.into());
        }
    }
    let trailing = dims?.iter().rev().zip(g.ty(y).dims.iter().rev()).take_while(|(a, b)| a == b).count();
    if kept > trailing || kept >= g.ty(y).rank().max(1) {
        return None;
    }
    let mut e = Edit::new(g, "reshape-sinks", &[n]);
    let new = e.add(node.op.clone(), &operands)?;
    let new = e.reshape(new, g.ty(y).dims.clone())?;
    e.finish(y, new)
}
