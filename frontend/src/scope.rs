// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names, graphs under construction, and captures.
//!
//! A *scope* maps names to values; a *frame* is a graph under construction. A subgraph opens a scope and a frame, a function call a scope
//! that sees no outer names. A value of an outer frame reaches an inner one as a capture: an input of the region, fed by the control node.
//! Constants and shape arithmetic are repeated inside instead, so that they can shape what is there.

use std::collections::HashMap;
use std::rc::Rc;

use portwright_ir::dtype::DType;
use portwright_ir::graph::symbolic::Symbolic;
use portwright_ir::graph::{Graph, Op, Origin, ValueId};

use crate::model::{AttrValue, Opsets};

/// Attributes of the function call that a body stands for, by formal name.
pub type Env<'m> = HashMap<&'m str, &'m AttrValue>;

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Slot {
    /// A tensor of the scope's frame.
    Value(ValueId),
    /// A sequence of known length whose elements are tensors of that dtype.
    List(Rc<[ValueId]>, DType),
    /// An optional input that is not given, or an optional without a value.
    Absent,
    /// The node that should make it failed, which was reported.
    Poison,
}

/// Names that are visible together.
pub struct Scope<'m> {
    /// Names defined so far.
    pub names: HashMap<&'m str, Slot>,
    /// The scope around it, for subgraphs.
    pub parent: Option<usize>,
    /// Frame that the values belong to.
    pub frame: usize,
    /// Attributes that references stand for.
    pub env: Rc<Env<'m>>,
    /// Operator sets of the nodes.
    pub opsets: &'m Opsets,
}

/// A graph under construction.
pub struct Frame {
    /// The graph.
    pub graph: Graph,
    /// Values of the frame around it that it takes, in order.
    pub captures: Vec<ValueId>,
    /// What is known of its small tensors.
    pub sym: Symbolic,
    lifted: HashMap<ValueId, ValueId>,
}

impl Frame {
    /// Opens a frame.
    pub fn new(graph: Graph) -> Self {
        Frame { graph, captures: Vec::new(), sym: Symbolic::new(), lifted: HashMap::new() }
    }
}

/// The value of frame `to` that stands for value `v` of the outer frame `from`.
pub fn lift(frames: &mut [Frame], from: usize, to: usize, v: ValueId) -> ValueId {
    (from + 1..=to).fold(v, |v, k| capture(frames, k, v))
}

fn capture(frames: &mut [Frame], k: usize, v: ValueId) -> ValueId {
    let (outer, inner) = frames.split_at_mut(k);
    let (outer, inner) = (&mut outer[k - 1], &mut inner[0]);
    if let Some(&known) = inner.lifted.get(&v) {
        return known;
    }
    let origin = outer.graph.producer(v).map_or_else(Origin::default, |n| n.origin.clone());
    let repeat = outer.graph.producer(v).map(|n| &n.op);
    let repeat = repeat.filter(|op| matches!(op, Op::Const { .. } | Op::DimTensor { .. } | Op::Fill { .. } | Op::Iota { .. })).cloned();
    let repeat = repeat.or_else(|| crate::cx::dim_tensor(outer, v));
    let new = match repeat.and_then(|op| inner.graph.add(op, &[], origin).ok()) {
        Some(n) => inner.graph.result(n),
        None => {
            let outer = &outer.graph;
            let name = outer.value(v).name.clone().unwrap_or_else(|| format!("capture_{}", inner.captures.len()).into());
            inner.captures.push(v);
            inner.graph.add_input(name, outer.ty(v).clone())
        }
    };
    inner.lifted.insert(v, new);
    new
}
