// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where nodes live, and who uses a value.
//!
//! Nodes are slots of a slab; the id of a removed node is given out again, the last one first. The uses of a value are a doubly linked
//! list through the operand positions of its users, as compilers keep them: adding, moving and removing a use costs the same whether the
//! value has one user or a million.

use smallvec::SmallVec;

use super::{Graph, Node, NodeId, ValueId};
use crate::entity::{EntityId, PrimaryMap};

/// Operand `slot` of a node; [`NOBODY`] ends a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    node: u32,
    slot: u32,
}

/// The end of a list of uses.
pub(super) const NOBODY: Use = Use { node: u32::MAX, slot: 0 };

impl Use {
    fn new(n: NodeId, slot: usize) -> Self {
        Use { node: n.index() as u32, slot: slot as u32 }
    }
    fn node(self) -> NodeId {
        NodeId::new(self.node as usize)
    }
}

/// Neighbours of a use in the list of its value.
#[derive(Copy, Clone, Debug)]
struct Link {
    before: Use,
    after: Use,
}

#[derive(Clone, Debug)]
struct Slot {
    node: Node,
    /// One an operand.
    links: SmallVec<[Link; 2]>,
}

/// All nodes of a graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    slots: Vec<Option<Slot>>,
    free: Vec<NodeId>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
    /// One more than the largest id ever given out.
    pub(super) fn bound(&self) -> usize {
        self.slots.len()
    }
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.slots.iter().enumerate().filter(|(_, s)| s.is_some()).map(|(i, _)| NodeId::new(i))
    }
    #[inline]
    pub(super) fn contains(&self, n: NodeId) -> bool {
        matches!(self.slots.get(n.index()), Some(Some(_)))
    }
    #[inline]
    fn slot(&self, n: NodeId) -> &Slot {
        self.slots[n.index()].as_ref().expect("the node is in the graph")
    }
    fn slot_mut(&mut self, n: NodeId) -> &mut Slot {
        self.slots[n.index()].as_mut().expect("the node is in the graph")
    }
    #[inline]
    pub(super) fn get(&self, n: NodeId) -> &Node {
        &self.slot(n).node
    }
    pub(super) fn get_mut(&mut self, n: NodeId) -> &mut Node {
        &mut self.slot_mut(n).node
    }
    fn insert(&mut self, node: Node) -> NodeId {
        let links = SmallVec::from_elem(Link { before: NOBODY, after: NOBODY }, node.operands.len());
        let slot = Some(Slot { node, links });
        match self.free.pop() {
            Some(n) => {
                self.slots[n.index()] = slot;
                n
            }
            None => {
                self.slots.push(slot);
                NodeId::new(self.slots.len() - 1)
            }
        }
    }
    fn link(&mut self, u: Use) -> &mut Link {
        &mut self.slot_mut(u.node()).links[u.slot as usize]
    }
}

/// Uses of one value, the youngest first.
pub struct Uses<'g> {
    nodes: &'g Nodes,
    at: Use,
}

impl Iterator for Uses<'_> {
    /// The user and the position of the operand.
    type Item = (NodeId, usize);
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == NOBODY {
            return None;
        }
        let Use { slot, .. } = self.at;
        let n = self.at.node();
        self.at = self.nodes.slot(n).links[slot as usize].after;
        Some((n, slot as usize))
    }
}

impl Graph {
    /// Puts a node into the slab and its operands into the lists of their uses.
    pub(super) fn place(&mut self, node: Node) -> NodeId {
        self.ordered.take();
        let n = self.nodes.insert(node);
        for slot in 0..self.nodes.get(n).operands.len() {
            self.link(n, slot);
        }
        n
    }
    fn link(&mut self, n: NodeId, slot: usize) {
        self.ordered.take();
        let v = self.nodes.get(n).operands[slot];
        let u = Use::new(n, slot);
        let after = std::mem::replace(&mut self.values[v].first_use, u);
        if after != NOBODY {
            self.nodes.link(after).before = u;
        }
        *self.nodes.link(u) = Link { before: NOBODY, after };
    }
    fn unlink(&mut self, n: NodeId, slot: usize) {
        let v = self.nodes.get(n).operands[slot];
        let Link { before, after } = *self.nodes.link(Use::new(n, slot));
        match before == NOBODY {
            true => self.values[v].first_use = after,
            false => self.nodes.link(before).after = after,
        }
        if after != NOBODY {
            self.nodes.link(after).before = before;
        }
    }
    /// Takes a node out; the lists of its operands forget it.
    pub(super) fn take_out(&mut self, n: NodeId) -> Option<Node> {
        if !self.contains(n) {
            return None;
        }
        for slot in 0..self.nodes.get(n).operands.len() {
            self.unlink(n, slot);
        }
        self.ordered.take();
        self.nodes.free.push(n);
        self.nodes.slots[n.index()].take().map(|s| s.node)
    }
    /// Operand positions that take a value, in no meaningful order.
    pub fn uses(&self, v: ValueId) -> Uses<'_> {
        Uses { nodes: &self.nodes, at: self.values[v].first_use }
    }
    /// Whether a node takes the value.
    pub fn is_used(&self, v: ValueId) -> bool {
        self.values[v].first_use != NOBODY
    }
    /// The node that takes the value, if it is just one.
    pub fn single_user(&self, v: ValueId) -> Option<NodeId> {
        let mut uses = self.uses(v);
        let (first, _) = uses.next()?;
        uses.all(|(n, _)| n == first).then_some(first)
    }
    /// Nodes that take a value as operand, each once, by import order.
    pub fn users(&self, v: ValueId) -> Vec<NodeId> {
        let mut out: Vec<NodeId> = self.uses(v).map(|(n, _)| n).collect();
        if out.len() > 1 {
            out.sort_unstable_by_key(|&n| (self.node(n).seq, n));
            out.dedup();
        }
        out
    }
    /// Replaces an operand.
    pub fn set_operand(&mut self, n: NodeId, position: usize, v: ValueId) {
        if self.nodes.get(n).operands[position] != v {
            self.unlink(n, position);
            self.nodes.get_mut(n).operands[position] = v;
            self.link(n, position);
        }
    }
    /// Whether the lists of uses say of a node what its operands say.
    pub(super) fn is_linked(&self, n: NodeId) -> bool {
        let slot = self.nodes.slot(n);
        let points_here = |i: usize, l: &Link| {
            let u = Use::new(n, i);
            let forth = match l.before == NOBODY {
                true => slot.node.operands.get(i).and_then(|&v| self.values.get(v)).map(|v| v.first_use),
                false => self.neighbour(l.before).map(|b| b.after),
            };
            forth == Some(u) && (l.after == NOBODY || self.neighbour(l.after).is_some_and(|a| a.before == u))
        };
        slot.links.len() == slot.node.operands.len() && slot.links.iter().enumerate().all(|(i, l)| points_here(i, l))
    }
    fn neighbour(&self, u: Use) -> Option<&Link> {
        self.nodes.slots.get(u.node as usize)?.as_ref()?.links.get(u.slot as usize)
    }
}

/// A value that nobody uses yet.
pub(super) fn unused(ty: super::TensorType, def: super::Def, name: Option<std::sync::Arc<str>>) -> super::Value {
    super::Value { ty, def, name, first_use: NOBODY, outputs: 0, source: false }
}

/// Values by id.
pub(super) type Values = PrimaryMap<ValueId, super::Value>;
