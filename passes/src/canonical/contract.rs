// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contractions: labels say what movement would.

use std::sync::Arc;

use portwright_ir::graph::infer::Labels;
use portwright_ir::graph::{Graph, NodeId, Op, Patch, ValueId};

use crate::rules::{Edit, Rule, RuleCx};

pub(super) const RULES: &[Rule] = &[
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

fn transposed_operand(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Contract { spec: text, acc, out } = &node.op else { return None };
    let mut l = labels(text)?;
    let mut operands: Vec<ValueId> = node.operands.clone();
    let mut changed = false;
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
