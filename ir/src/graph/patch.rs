// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Edits as values: a rule returns a patch, and only the graph applies it.

use super::{Graph, NodeId, Op, Origin, TensorType, TypeFault, ValueId, defined_symbols, infer};
use crate::entity::EntityId;
use crate::weight::Weight;

use super::op::WeightId;

/// A value of the graph, or a result of a node that the patch adds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tap {
    /// Already there.
    Old(ValueId),
    /// Result `.1` of the patch's node `.0`.
    New(usize, usize),
}

impl From<ValueId> for Tap {
    fn from(v: ValueId) -> Self {
        Tap::Old(v)
    }
}

#[derive(Debug)]
struct NewNode {
    op: Op,
    operands: Vec<Tap>,
    regions: Vec<Graph>,
    types: Vec<TensorType>,
}

/// New nodes and which old values they replace. Types are inferred while the patch is built, so that a rule can look at them.
#[derive(Debug)]
pub struct Patch {
    /// Name of the rule, kept in the origin of what it makes.
    pub rule: &'static str,
    /// Nodes whose paths the new nodes carry.
    pub from: Vec<NodeId>,
    nodes: Vec<NewNode>,
    replace: Vec<(ValueId, Tap)>,
    weights: Vec<Weight>,
    weight_base: usize,
}

impl Patch {
    /// Starts a patch of `rule` that stands for the nodes `from`; the new nodes take the position of the last of them.
    pub fn new(graph: &Graph, rule: &'static str, from: &[NodeId]) -> Self {
        Patch { rule, from: from.to_vec(), nodes: Vec::new(), replace: Vec::new(), weights: Vec::new(), weight_base: graph.weights.len() }
    }
    /// Type of a value of the graph or of the patch.
    pub fn ty<'a>(&'a self, graph: &'a Graph, t: impl Into<Tap>) -> &'a TensorType {
        match t.into() {
            Tap::Old(v) => graph.ty(v),
            Tap::New(n, i) => &self.nodes[n].types[i],
        }
    }
    /// Adds a node and returns its first result (a placeholder for a node without results).
    ///
    /// # Errors
    /// What inference found.
    pub fn add(&mut self, graph: &Graph, op: Op, operands: &[Tap]) -> Result<Tap, TypeFault> {
        self.add_with_regions(graph, op, operands, Vec::new())
    }
    /// Adds a node with regions and returns its first result.
    ///
    /// # Errors
    /// What inference found.
    pub fn add_with_regions(&mut self, graph: &Graph, op: Op, operands: &[Tap], regions: Vec<Graph>) -> Result<Tap, TypeFault> {
        let types: Vec<&TensorType> = operands.iter().map(|&t| self.ty(graph, t)).collect();
        let types = match &op {
            // The graph does not have the patch's weights yet.
            Op::Weight { weight } if weight.index() >= self.weight_base && weight.index() - self.weight_base < self.weights.len() => {
                let w = &self.weights[weight.index() - self.weight_base];
                vec![TensorType::fixed(w.dtype, &w.dims)]
            }
            _ => infer::infer(graph, &op, &types, &regions)?,
        };
        self.nodes.push(NewNode { op, operands: operands.to_vec(), regions, types });
        Ok(Tap::New(self.nodes.len() - 1, 0))
    }
    /// Adds a weight (of which only the type is looked at until the patch is applied) and returns its id.
    pub fn add_weight(&mut self, w: Weight) -> WeightId {
        self.weights.push(w);
        WeightId::new(self.weight_base + self.weights.len() - 1)
    }
    /// Makes users of `old` take `new`, which must have the same dtype and dims.
    pub fn replace(&mut self, old: ValueId, new: impl Into<Tap>) {
        self.replace.push((old, new.into()));
    }
    /// Number of nodes that it adds.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Whether it adds no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// What a patch changed, for the worklist.
#[derive(Debug, Default)]
pub struct Applied {
    /// Nodes that were added.
    pub added: Vec<NodeId>,
    /// Nodes that take other operands now.
    pub changed: Vec<NodeId>,
    /// Nodes that nothing uses any more; they were removed.
    pub removed: Vec<NodeId>,
}

impl Graph {
    /// Applies a patch: adds its nodes, replaces values, removes what has become dead among the replaced nodes and their producers.
    ///
    /// # Errors
    /// A replacement that changes dtype or rank, or a node that inference rejects: a fault of the rule. Nodes added before the fault stay,
    /// unused, until [`Graph::remove_dead`].
    pub fn apply(&mut self, patch: Patch) -> Result<Applied, TypeFault> {
        let Patch { rule, from, nodes, replace, weights, weight_base } = patch;
        if !weights.is_empty() && weight_base != self.weights.len() {
            return Err(TypeFault::new(crate::diag::Code::INTERNAL, format!("rule {rule}: patch built for an older graph")));
        }
        for w in weights {
            self.weights.push(w);
        }
        let origin = Origin::merge(from.iter().map(|&n| &self.node(n).origin), rule);
        let seq = from.iter().map(|&n| self.node(n).seq).max().unwrap_or(self.next_seq);
        let mut out = Applied::default();
        let mut made: Vec<NodeId> = Vec::with_capacity(nodes.len());
        let resolve = |g: &Graph, made: &[NodeId], t: Tap| match t {
            Tap::Old(v) => v,
            Tap::New(n, i) => g.node(made[n]).results[i],
        };
        for n in nodes {
            let operands: Vec<ValueId> = n.operands.iter().map(|&t| resolve(self, &made, t)).collect();
            made.push(self.insert(n.op, &operands, n.regions, origin.clone(), seq)?);
        }
        let mut maybe_dead: Vec<NodeId> = from.clone();
        for (old, tap) in replace {
            let new = resolve(self, &made, tap);
            let (a, b) = (self.ty(old), self.ty(new));
            if a.dtype != b.dtype || a.rank() != b.rank() {
                let m = format!("rule {rule}: replaces {a} by {b}");
                return Err(TypeFault::new(crate::diag::Code::INTERNAL, m));
            }
            maybe_dead.extend(self.producer_id(old));
            out.changed.extend(self.replace_uses(old, new));
        }
        out.added = made;
        // What this patch made dead goes at once, so that rules count users correctly.
        while let Some(n) = maybe_dead.pop() {
            if !self.contains(n) || matches!(self.node(n).op, Op::Bind { .. }) {
                continue;
            }
            let node = self.node(n);
            if node.op.is_source() || node.results.iter().any(|&v| self.is_output(v) || self.is_used(v)) {
                continue;
            }
            if defined_symbols(&node.op, &node.regions).iter().any(|s| self.symbol_nodes.get(s) == Some(&n)) {
                continue;
            }
            maybe_dead.extend(node.operands.iter().filter_map(|&v| self.producer_id(v)));
            out.removed.push(n);
            self.remove(n);
        }
        out.added.retain(|&n| self.contains(n));
        out.changed.retain(|&n| self.contains(n));
        Ok(out)
    }
}
