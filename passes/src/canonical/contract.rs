// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contractions: labels say what movement would.

use std::sync::Arc;

use portwright_ir::graph::infer::Labels;
use portwright_ir::graph::{Dims, Graph, Node, NodeId, Op, PadMode, Patch, ValueId};

use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "pad-into-conv",
        doc: "conv(pad(x, 0), w) -> conv{pads}(x, w) when zeros are added around the spatial dims",
        roots: &["conv"],
        apply: padded_operand,
    },
    Rule {
        name: "transpose-of-contract",
        doc: "transpose(contract{\"bqk,bkd->bqd\"}(x, y)) -> contract{\"bqk,bkd->qbd\"}(x, y) when the last dim stays last and nothing else uses it",
        roots: &["transpose"],
        apply: transposed_result,
    },
    Rule {
        name: "transpose-into-contract",
        doc: "contract{\"mk,kn->mn\"}(x, transpose{1,0}(w)) -> contract{\"mk,nk->mn\"}(x, w)",
        roots: &["contract"],
        apply: transposed_operand,
    },
];

/// Whether a value is zero everywhere.
fn is_zero(g: &Graph, v: ValueId) -> bool {
    crate::rules::consts::is_exactly(g, v, 0.0)
}

fn padded_operand(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Conv { strides, dilations, pads, groups }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let inner = g.producer(x)?;
    let (Op::Pad { mode: PadMode::Constant, low, high, interior }, &[source, value]) = (&inner.op, inner.operands.as_slice()) else {
        return None;
    };
    let spatial = pads.len() / 2;
    let plain = interior.iter().all(|&i| i == 0) && low.len() == spatial + 2 && low.iter().chain(high).all(|p| g.bounds(p).0 >= 0);
    if !plain || !is_zero(g, value) || ![low, high].iter().all(|p| p.iter().take(2).all(|p| p.is(0))) {
        return None;
    }
    let sides = low.iter().skip(2).chain(high.iter().skip(2));
    let pads = pads.iter().zip(sides).map(|(a, b)| a + b).collect();
    let op = Op::Conv { strides: strides.clone(), dilations: dilations.clone(), pads, groups: *groups };
    let mut e = Edit::new(g, "pad-into-conv", &[n]);
    let new = e.add(op, &[source.into(), w.into()])?;
    e.finish(g.result(n), new)
}

fn transposed_result(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &made = node.operands.first()?;
    let (Op::Transpose { perm }, inner) = (&node.op, g.producer(made)?) else { return None };
    let (Op::Contract { spec: text, acc, out }, &[x, y]) = (&inner.op, inner.operands.as_slice()) else { return None };
    let [a, b, result] = labels(text)?;
    let last = perm.len().checked_sub(1)?;
    if perm.get(last).copied() != Some(last as u32) || crate::rules::edit::only_user(g, made).is_none() {
        return None;
    }
    let moved = perm.iter().map(|&p| result.get(p as usize).copied()).collect::<Option<Vec<_>>>()?;
    let mut e = Edit::new(g, "transpose-of-contract", &[g.producer_id(made)?, n]);
    let new = e.contract(&spec(&[a, b, moved]), x, y, *acc, *out)?;
    e.finish(g.result(n), new)
}

/// Labels of both operands and the result.
pub fn labels(spec: &str) -> Option<[Vec<char>; 3]> {
    let l = Labels::parse(spec).ok()?;
    Some([l.left, l.right, l.result])
}

/// Text of labels.
pub fn spec(labels: &[Vec<char>; 3]) -> Arc<str> {
    let [a, b, out] = labels.each_ref().map(|l| l.iter().collect::<String>());
    format!("{a},{b}->{out}").into()
}

/// For an operand that is a transpose with dims of 1 inserted or removed: what is transposed, the dims that it needs, and their labels.
fn under_ones(g: &Graph, v: ValueId, reshape: &Node, names: &[char]) -> Option<(ValueId, Dims, Vec<char>)> {
    let (Op::Reshape { dims }, &[turned]) = (&reshape.op, reshape.operands.as_slice()) else { return None };
    let inner = g.producer(turned)?;
    let (Op::Transpose { perm }, &[x]) = (&inner.op, inner.operands.as_slice()) else { return None };
    let from = &g.ty(turned).dims;
    let long = |d: &Dims| d.iter().enumerate().filter(|(_, d)| !d.is(1)).map(|(i, _)| i).collect::<Vec<_>>();
    let (before, after) = (long(from), long(dims));
    if g.ty(v).rank() != names.len() || before.len() != after.len() || !before.iter().zip(&after).all(|(&i, &j)| from[i] == dims[j]) {
        return None;
    }
    // Dims of 1 go first; the others follow in the order in which they lie in memory.
    let mut order: Vec<(u32, usize)> = before.iter().zip(&after).map(|(&i, &j)| Some((*perm.get(i)?, j))).collect::<Option<_>>()?;
    order.sort_unstable();
    let places = (0..dims.len()).filter(|i| dims[*i].is(1)).chain(order.into_iter().map(|(_, j)| j));
    let (dims, names) = places.map(|i| (dims[i].clone(), names[i])).unzip();
    Some((x, dims, names))
}

fn transposed_operand(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Contract { spec: text, acc, out } = &node.op else { return None };
    let mut l = labels(text)?;
    let mut operands: Vec<ValueId> = node.operands.clone();
    let mut changed = false;
    for (at, &v) in node.operands.iter().enumerate() {
        if let Some((x, dims, moved)) = g.producer(v).and_then(|p| under_ones(g, v, p, &l[at])) {
            l[at] = moved;
            let mut e = Edit::new(g, "transpose-into-contract", &[n]);
            let mut taps: Vec<Tap> = node.operands.iter().map(|&o| o.into()).collect();
            taps[at] = e.reshape(x, dims)?;
            let new = e.contract(&spec(&l), taps[0], taps[1], *acc, *out)?;
            return e.finish(g.result(n), new);
        }
    }
    for (v, names) in operands.iter_mut().zip(&mut l) {
        let Some((Op::Transpose { perm }, Some(&x))) = g.producer(*v).map(|p| (&p.op, p.operands.first())) else { continue };
        if perm.len() != names.len() {
            continue;
        }
        let mut moved = names.clone();
        for (i, &p) in perm.iter().enumerate() {
            *moved.get_mut(p as usize)? = *names.get(i)?;
        }
        *names = moved;
        *v = x;
        changed = true;
    }
    let &[x, y] = operands.as_slice() else { return None };
    if !changed {
        return None;
    }
    let mut e = Edit::new(g, "transpose-into-contract", &[n]);
    let new = e.contract(&spec(&l), x, y, *acc, *out)?;
    e.finish(g.result(n), new)
}
