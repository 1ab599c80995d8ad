// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What siblings have in common: anti-unification of subgraphs.

use std::collections::HashMap;

use portwright_ir::graph::{Graph, Literal, NodeId, Op, ValueId};

/// Nodes of a template at most: siblings are small, and what they all read is found within a few steps.
const MOST: usize = 1024;

/// A value of a template: what each sibling has in this place.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The same value in all.
    Common,
    /// Tensors known before any run, of one type: weights, or constants.
    Weights,
    /// A number of its own in each.
    Number(Vec<i64>),
    /// Result `result` of the same op in all, over parts.
    Node { op: NodeId, result: usize, operands: Vec<usize> },
}

/// Siblings as one subgraph; each part comes after its operands, and the last one is the root.
pub(super) struct Template {
    /// With what each sibling has there.
    pub(super) parts: Vec<(Part, Vec<ValueId>)>,
}

impl Template {
    /// Takes the template of the siblings 0 and 1 as that of `all`, which differ in their numbers alone; `None` where these two differ in more.
    pub(super) fn extend(&mut self, all: i64) -> Option<()> {
        for (part, _) in &mut self.parts {
            match part {
                Part::Weights => return None,
                Part::Number(numbers) if *numbers == [0, 1] => *numbers = (0..all).collect(),
                Part::Number(_) => return None,
                Part::Common | Part::Node { .. } => {}
            }
        }
        Some(())
    }
}

/// The template of siblings given by their results; `None` if they are no siblings.
pub(super) fn unify(g: &Graph, roots: Vec<ValueId>) -> Option<Template> {
    let mut t = Template { parts: Vec::new() };
    let mut known: HashMap<Vec<ValueId>, usize> = HashMap::new();
    let mut work: Vec<(Vec<ValueId>, bool)> = vec![(roots, false)];
    while let Some((values, ready)) = work.pop() {
        if known.contains_key(&values) {
            continue;
        }
        if t.parts.len() + work.len() > MOST {
            return None;
        }
        let part = match leaf(g, &values)? {
            Leaf::Is(part) => part,
            Leaf::No(nodes) => {
                let first = g.node(*nodes.first()?);
                let operands: Vec<Vec<ValueId>> =
                    (0..first.operands.len()).map(|i| nodes.iter().map(|&n| g.node(n).operands[i]).collect()).collect();
                if !ready {
                    work.push((values, true));
                    work.extend(operands.into_iter().rev().map(|o| (o, false)));
                    continue;
                }
                let operands = operands.iter().map(|o| known.get(o).copied()).collect::<Option<Vec<_>>>()?;
                let result = first.results.iter().position(|v| Some(v) == values.first())?;
                Part::Node { op: nodes[0], result, operands }
            }
        };
        known.insert(values.clone(), t.parts.len());
        t.parts.push((part, values));
    }
    Some(t)
}

/// A tuple of values: a leaf of the template, or results of one op in nodes that differ.
enum Leaf {
    Is(Part),
    No(Vec<NodeId>),
}

fn leaf(g: &Graph, values: &[ValueId]) -> Option<Leaf> {
    let &first = values.first()?;
    if values.iter().all(|&v| v == first) {
        return Some(Leaf::Is(Part::Common));
    }
    let nodes = values.iter().map(|&v| g.producer_id(v)).collect::<Option<Vec<_>>>()?;
    let node = g.node(*nodes.first()?);
    let ty = g.ty(first);
    if !values.iter().all(|&v| g.ty(v) == ty) {
        return None;
    }
    match &node.op {
        Op::Weight { .. } => nodes.iter().all(|&n| matches!(g.node(n).op, Op::Weight { .. })).then_some(Leaf::Is(Part::Weights)),
        Op::Const { value } => {
            let literals = nodes.iter().map(|&n| literal(g, n)).collect::<Option<Vec<_>>>()?;
            if literals.iter().all(|l| *l == value) {
                return Some(Leaf::Is(Part::Common));
            }
            let numbers = (value.len() == 1 && value.dtype.int_range().is_some())
                .then(|| literals.iter().map(|l| l.to_i64s()?.first().copied()).collect::<Option<Vec<_>>>())
                .flatten();
            Some(Leaf::Is(numbers.map_or(Part::Weights, Part::Number)))
        }
        Op::RandomUniform { .. } => None,
        op if op.is_source() => nodes.iter().all(|&n| g.node(n).op == *op).then_some(Leaf::Is(Part::Common)),
        op => {
            let result = node.results.iter().position(|&v| v == first)?;
            let alike = |(&n, &v): (&NodeId, &ValueId)| {
                let other = g.node(n);
                other.op == *op && other.operands.len() == node.operands.len() && other.results.get(result) == Some(&v)
            };
            let plain = node.regions.is_empty() && !matches!(op, Op::Bind { .. } | Op::NonZero { .. });
            (plain && nodes.iter().zip(values).all(alike)).then_some(Leaf::No(nodes))
        }
    }
}

fn literal(g: &Graph, n: NodeId) -> Option<&Literal> {
    match &g.node(n).op {
        Op::Const { value } => Some(value),
        _ => None,
    }
}
