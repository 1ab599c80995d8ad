// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chains of primitives as the composites that exporters broke up.
//!
//! Rules match the canonical form, so one pattern serves every spelling of it. Constants may be off by 1e-3 relative: exporters round them.
//! A raised composite computes its formula directly, so results move by a few roundings; a look-alike with another formula stays.

use portwright_ir::graph::{BinaryOp, Graph, NodeId, Op, ReduceOp, UnaryOp, ValueId};

use crate::rules::Rule;
use crate::rules::edit::{binary_of, only_user, unary_of};

mod absorb;
mod attention;
mod gate;
mod norm;
mod rotary;

/// All rules that raise.
pub fn rules() -> Vec<&'static Rule> {
    gate::RULES.iter().chain(norm::RULES).chain(attention::RULES).chain(absorb::RULES).chain(rotary::RULES).collect()
}

/// The operand of a reduction of trailing dims that keeps them as 1 and makes `v`, with its first axis.
fn row_reduce_of(g: &Graph, v: ValueId, op: ReduceOp) -> Option<(ValueId, u32)> {
    let node = g.producer(v)?;
    let (Op::Reduce { op: found, axes, keep: true }, &[x]) = (&node.op, node.operands.as_slice()) else { return None };
    let first = g.ty(x).rank().checked_sub(axes.len())? as u32;
    let trailing = !axes.is_empty() && axes.iter().enumerate().all(|(i, &a)| a == first + i as u32);
    (*found == op && trailing).then_some((x, first))
}

/// The operand and axis of a reduction of one dim that keeps it as 1 and makes `v`.
fn axis_reduce_of(g: &Graph, v: ValueId, op: ReduceOp) -> Option<(ValueId, u32)> {
    let node = g.producer(v)?;
    match (&node.op, node.operands.as_slice()) {
        (Op::Reduce { op: found, axes, keep: true }, &[x]) if *found == op && axes.len() == 1 => Some((x, *axes.first()?)),
        _ => None,
    }
}

/// `(x, y)` of `v = x / y`, written as a division or as a product with a reciprocal.
fn quotient_of(g: &Graph, v: ValueId) -> Option<(ValueId, ValueId)> {
    binary_of(g, v, BinaryOp::Div).or_else(|| {
        let (a, b) = binary_of(g, v, BinaryOp::Mul)?;
        unary_of(g, b, UnaryOp::Recip).map(|y| (a, y)).or_else(|| unary_of(g, a, UnaryOp::Recip).map(|y| (b, y)))
    })
}

/// Whether `v` is used once, by another node.
fn used_once(g: &Graph, v: ValueId) -> bool {
    only_user(g, v).is_some()
}

/// Nodes that make these values.
fn producers(g: &Graph, values: &[ValueId]) -> Vec<NodeId> {
    values.iter().filter_map(|&v| g.producer_id(v)).collect()
}

#[cfg(test)]
mod tests;
