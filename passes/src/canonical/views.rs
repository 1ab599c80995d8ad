// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reshapes move past elementwise ops towards the outputs, so that activations stand beside what makes their operand.
//!
//! A reshape is a view and costs nothing, but a kernel ends at it: `gelu(reshape(conv(x)))` would be two kernels.

use portwright_ir::graph::{Graph, NodeId, Op, Patch, ValueId};

use crate::rules::edit::only_user;
use crate::rules::{Edit, Rule, RuleCx, Tap};

const RULES: &[Rule] = &[Rule {
    name: "reshape-sinks",
    doc: "gelu(reshape(x)) -> reshape(gelu(x)), also with operands of the last dims, and add(reshape(x), reshape(y)) -> reshape(add(x, y)), where \
          a y of other dims that is stored anyway is seen in the dims of x",
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
    // Whether what a reshape reshapes is computed for it alone: it can be in one kernel with the op if the reshape is gone.
    let alone = |x: ValueId| only_user(g, x).is_some() && g.producer(x).is_some_and(|p| p.op.is_elementwise());
    let views = || node.operands.iter().filter(|&&v| g.ty(v).dims == g.ty(y).dims).filter_map(|&v| reshaped(g, v));
    let freed = views().find(|&x| alone(x));
    let dims = &g.ty(freed.or_else(|| views().next())?).dims;
    let mut operands: Vec<Tap> = Vec::with_capacity(node.operands.len());
    // The longest operand that is no reshape: the reshape must leave that many dims as they are.
    let mut kept = 0;
    let mut moved: Vec<(usize, ValueId)> = Vec::new();
    for &v in &node.operands {
        let ty = g.ty(v);
        if let Some(x) = reshaped(g, v).filter(|_| ty.dims == g.ty(y).dims) {
            if *dims != g.ty(x).dims && (alone(x) || freed.is_none()) {
                return None;
            }
            moved.push((operands.len(), x));
            operands.push(x.into());
        } else {
            kept = kept.max(ty.rank());
            operands.push(v.into());
        }
    }
    let trailing = dims.iter().rev().zip(g.ty(y).dims.iter().rev()).take_while(|(a, b)| a == b).count();
    if kept > trailing || kept >= g.ty(y).rank().max(1) {
        return None;
    }
    let mut e = Edit::new(g, "reshape-sinks", &[n]);
    for (i, x) in moved {
        *operands.get_mut(i)? = e.reshape(x, dims.clone())?;
    }
    let new = e.add(node.op.clone(), &operands)?;
    let new = e.reshape(new, g.ty(y).dims.clone())?;
    e.finish(y, new)
}
