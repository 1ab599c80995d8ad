// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A graph as petgraph sees it: nodes of the model, with an edge from each node to every user of its results.
//!
//! Nodes and uses live in lists of our own, where an edit costs the same on a value of a million users; algorithms that only look at a
//! graph are the library's.

use petgraph::Direction;
use petgraph::visit::{
    GraphBase, GraphRef, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, NodeCount, NodeIndexable, Visitable,
};

use super::{Graph, NodeId};
use crate::entity::EntityId;

/// The flow of values between the nodes of a graph, for algorithms of petgraph.
///
/// ```
/// use portwright_ir::graph::{Flow, Graph};
/// assert!(petgraph::algo::toposort(Flow(&Graph::new("empty")), None).is_ok_and(|order| order.is_empty()));
/// ```
#[derive(Copy, Clone)]
pub struct Flow<'g>(pub &'g Graph);

impl GraphBase for Flow<'_> {
    type NodeId = NodeId;
    type EdgeId = (NodeId, NodeId);
}
impl GraphRef for Flow<'_> {}

impl IntoNeighborsDirected for Flow<'_> {
    type NeighborsDirected = std::vec::IntoIter<NodeId>;
    fn neighbors_directed(self, n: NodeId, d: Direction) -> Self::NeighborsDirected {
        let node = self.0.node(n);
        let list: Vec<NodeId> = match d {
            Direction::Outgoing => node.results.iter().flat_map(|&v| self.0.users(v)).collect(),
            Direction::Incoming => {
                let producers = node.operands.iter().filter_map(|&v| self.0.producer_id(v));
                producers.filter(|&p| self.0.contains(p)).collect()
            }
        };
        list.into_iter()
    }
}
impl IntoNeighbors for Flow<'_> {
    type Neighbors = std::vec::IntoIter<NodeId>;
    fn neighbors(self, n: NodeId) -> Self::Neighbors {
        self.neighbors_directed(n, Direction::Outgoing)
    }
}
impl IntoNodeIdentifiers for Flow<'_> {
    type NodeIdentifiers = std::vec::IntoIter<NodeId>;
    fn node_identifiers(self) -> Self::NodeIdentifiers {
        self.0.node_ids().collect::<Vec<_>>().into_iter()
    }
}
impl Visitable for Flow<'_> {
    type Map = std::collections::HashSet<NodeId>;
    fn visit_map(&self) -> Self::Map {
        Self::Map::new()
    }
    fn reset_map(&self, map: &mut Self::Map) {
        map.clear();
    }
}
impl NodeCount for Flow<'_> {
    fn node_count(&self) -> usize {
        self.0.len()
    }
}
impl NodeIndexable for Flow<'_> {
    fn node_bound(&self) -> usize {
        self.0.node_ids().map(|n| n.index() + 1).max().unwrap_or(0)
    }
    fn to_index(&self, n: NodeId) -> usize {
        n.index()
    }
    fn from_index(&self, i: usize) -> NodeId {
        NodeId::new(i)
    }
}
