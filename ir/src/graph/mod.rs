// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graph IR: what is computed.
//!
//! A [`Graph`] is a DAG of nodes over typed values in SSA form. Rules of meaning:
//!
//! 1. **Types are always known.** Every value has a dtype and dims; a dim is an expression over named symbols. Types
//!    are inferred when a node is added ([`infer`]) and never guessed.
//! 2. **Operands are an ordered list on the node and are the truth**; lists of uses follow them.
//! 3. **Order** is by import sequence among what is ready ([`Graph::order`]), so that prints follow the model file.
//! 4. **Shape arithmetic is expressions.** Small integer tensors whose elements are expressions over symbols are known
//!    symbolically ([`symbolic`]); a number that only data can tell is bound to a symbol by a `bind` node.
//! 5. **Regions are isolated**: a nested graph sees its own inputs only; captures are operands.
//! 6. **Weights are references** ([`crate::weight`]); no pass looks at their values but through a named analysis.
//! 7. **Names survive**: every node keeps the paths of the model nodes that it stands for ([`Origin`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use crate::diag::Code;
use crate::entity::PrimaryMap;
use crate::entity_ids;
use crate::sym::{SymExpr, SymName};
use crate::weight::Weight;

pub mod attr;
mod flow;
pub mod infer;
pub mod interp;
mod nodes;
pub mod op;
mod order;
pub mod patch;
pub mod symbolic;
pub mod text;
pub mod types;
pub mod verify;
pub mod winograd;

pub use flow::Flow;
pub use nodes::Uses;
pub use op::{ArgOp, BinaryOp, FusionKind, Op, PadMode, ReduceOp, ScatterOp, UnaryOp, WeightId};
pub use order::collect_attr_symbols;
pub use patch::Patch;
pub use types::{Constraint, Dims, Literal, Origin, Quant, Scalar, SymSource, Symbol, TensorType};

entity_ids! {
    /// A node of a graph.
    NodeId "n",
    /// A value of a graph.
    ValueId "v",
}

/// Where a value comes from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Def {
    /// The graph's input of that position.
    Input(u32),
    /// Result of a node.
    Result(NodeId, u32),
}

/// A typed SSA value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Where it comes from.
    pub def: Def,
    /// Name in the model file, where it has one.
    pub name: Option<Arc<str>>,
    /// The first of its uses.
    first_use: nodes::Use,
    /// How many outputs of the graph it is.
    outputs: u32,
    /// Whether a source makes it: the order of nodes asks of every operand.
    source: bool,
}

/// An operation on values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Operands by position.
    pub operands: Vec<ValueId>,
    /// Results by position.
    pub results: Vec<ValueId>,
    /// Nested graphs, for control and fusions.
    pub regions: Vec<Graph>,
    /// Where it comes from.
    pub origin: Origin,
    /// Position among the imported nodes; what replaces a node takes its position.
    pub seq: u64,
}

/// Why a node cannot be: code and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeFault {
    /// Code for the report.
    pub code: Code,
    /// What was found and what was expected.
    pub message: String,
    /// Dims that cannot match, each by operand and axis.
    pub apart: Vec<(usize, usize)>,
    /// Where these come from, a sentence each.
    pub notes: Vec<String>,
}

impl TypeFault {
    /// Makes a fault.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        TypeFault { code, message: message.into(), apart: Vec::new(), notes: Vec::new() }
    }
    /// Says of the dims that cannot match where they come from.
    fn derived(mut self, g: &Graph, operands: &[ValueId]) -> Self {
        for &(operand, axis) in &self.apart {
            let Some((&v, dim)) = operands.get(operand).and_then(|v| Some((v, g.ty(*v).dims.get(axis)?))) else { continue };
            self.notes.push(format!("dim {axis} of operand {operand} is {dim}: {}", infer::derivation(g, v, axis)));
        }
        self
    }
}

/// An output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name in the model file.
    pub name: Arc<str>,
    /// The value.
    pub value: ValueId,
    /// Input whose memory it continues (a state that is appended in place), by position.
    pub alias_of: Option<u32>,
}

/// A DAG of nodes with inputs, outputs, symbols and weights.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name of the model or region.
    pub name: String,
    nodes: nodes::Nodes,
    values: nodes::Values,
    inputs: Vec<ValueId>,
    outputs: Vec<Output>,
    weights: PrimaryMap<WeightId, Weight>,
    symbols: Vec<Symbol>,
    symbol_index: HashMap<SymName, usize>,
    /// Nodes that define symbols while the model runs.
    symbol_nodes: HashMap<SymName, NodeId>,
    /// What the model takes as given; tested when a run binds its symbols.
    pub constraints: Vec<Constraint>,
    assumed: HashSet<(SymExpr, SymExpr)>,
    next_seq: u64,
    /// What [`Graph::order`] found, until a node or an operand changes.
    ordered: OnceLock<Vec<NodeId>>,
}

impl Graph {
    /// Makes an empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), ..Default::default() }
    }

    // ---- symbols, inputs, weights, outputs ----

    /// Declares a symbol, or narrows the range of one that exists.
    pub fn add_symbol(&mut self, s: Symbol) {
        match self.symbol_index.get(&s.name) {
            Some(&i) => {
                let old = &mut self.symbols[i];
                old.lo = old.lo.max(s.lo);
                old.hi = old.hi.min(s.hi);
                old.div = old.div.max(s.div);
            }
            None => {
                self.symbol_index.insert(s.name.clone(), self.symbols.len());
                self.symbols.push(s);
            }
        }
    }
    /// Declares a symbol of a new name made from `hint` and returns it as an expression.
    pub fn fresh_symbol(&mut self, hint: &str, lo: i64, hi: i64, source: SymSource) -> SymExpr {
        let mut n = self.symbols.len();
        let name = loop {
            let name: SymName = format!("{hint}{n}").into();
            if !self.symbol_index.contains_key(&name) {
                break name;
            }
            n += 1;
        };
        self.add_symbol(Symbol { name: name.clone(), lo, hi, div: 1, source });
        SymExpr::sym(name)
    }
    /// All symbols in order of declaration.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }
    /// The symbol of that name.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbol_index.get(name).map(|&i| &self.symbols[i])
    }
    /// Smallest and largest value of an expression under the symbols' ranges.
    pub fn bounds(&self, e: &SymExpr) -> (i64, i64) {
        e.bounds(&|s| self.symbol(s).map(|s| (s.lo, s.hi)))
    }
    /// Takes `left == right` as given because node `path` needs it; nothing is recorded when it is plain.
    pub fn assume_equal(&mut self, left: &SymExpr, right: &SymExpr, path: &str) {
        if left == right {
            return;
        }
        // The list is open to everybody; the index follows it when it was changed elsewhere.
        if self.assumed.len() != self.constraints.len() {
            self.assumed = self.constraints.iter().map(|c| (c.left.clone(), c.right.clone())).collect();
        }
        if self.assumed.insert((left.clone(), right.clone())) {
            self.constraints.push(Constraint { left: left.clone(), right: right.clone(), path: path.into() });
        }
    }
    /// Adds an input.
    pub fn add_input(&mut self, name: impl Into<Arc<str>>, ty: TensorType) -> ValueId {
        let def = Def::Input(self.inputs.len() as u32);
        let v = self.values.push(nodes::unused(ty, def, Some(name.into())));
        self.inputs.push(v);
        v
    }
    /// Removes an input that nothing takes; those after it move up.
    pub fn remove_input(&mut self, i: usize) {
        let gone = self.inputs.remove(i);
        debug_assert!(!self.is_used(gone) && !self.is_output(gone));
        for (i, &v) in self.inputs.iter().enumerate().skip(i) {
            self.values[v].def = Def::Input(i as u32);
        }
    }
    /// Inputs by position.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }
    /// Adds a weight.
    pub fn add_weight(&mut self, w: Weight) -> WeightId {
        self.weights.push(w)
    }
    /// All weights.
    pub fn weights(&self) -> &PrimaryMap<WeightId, Weight> {
        &self.weights
    }
    /// A weight.
    pub fn weight(&self, w: WeightId) -> &Weight {
        &self.weights[w]
    }
    /// The weight that a value is, if it is just that.
    #[inline]
    pub fn as_weight(&self, v: ValueId) -> Option<WeightId> {
        match self.producer(v).map(|n| &n.op) {
            Some(Op::Weight { weight }) => Some(*weight),
            _ => None,
        }
    }
    /// The constant that a value is, if it is just that.
    pub fn as_literal(&self, v: ValueId) -> Option<&Literal> {
        match self.producer(v).map(|n| &n.op) {
            Some(Op::Const { value }) => Some(value),
            _ => None,
        }
    }
    /// Adds an output.
    pub fn add_output(&mut self, name: impl Into<Arc<str>>, value: ValueId) {
        self.values[value].outputs += 1;
        self.outputs.push(Output { name: name.into(), value, alias_of: None });
    }
    /// Outputs by position.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }
    /// Keeps the outputs that `keep` holds for.
    pub fn retain_outputs(&mut self, mut keep: impl FnMut(&Output) -> bool) {
        let (kept, gone) = std::mem::take(&mut self.outputs).into_iter().partition(|o| keep(o));
        self.outputs = kept;
        for o in gone as Vec<Output> {
            self.values[o.value].outputs -= 1;
        }
    }
    /// Makes output `i` another value.
    pub fn set_output(&mut self, i: usize, value: ValueId) {
        let old = std::mem::replace(&mut self.outputs[i].value, value);
        self.values[old].outputs -= 1;
        self.values[value].outputs += 1;
    }
    /// Says which input's memory output `i` continues.
    pub fn set_alias(&mut self, i: usize, alias_of: Option<u32>) {
        self.outputs[i].alias_of = alias_of;
    }

    // ---- nodes and values ----

    /// Adds a node at the end of the import order; its result types are inferred.
    ///
    /// # Errors
    /// The fault that [`infer::infer`] found; the graph is as before.
    pub fn add(&mut self, op: Op, operands: &[ValueId], origin: Origin) -> Result<NodeId, TypeFault> {
        self.add_with_regions(op, operands, Vec::new(), origin)
    }
    /// Adds a node with regions at the end of the import order.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_with_regions(&mut self, op: Op, operands: &[ValueId], regions: Vec<Graph>, origin: Origin) -> Result<NodeId, TypeFault> {
        let seq = self.next_seq;
        self.insert(op, operands, regions, origin, seq)
    }
    /// Adds a node at position `seq` of the import order.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn insert(&mut self, op: Op, operands: &[ValueId], regions: Vec<Graph>, origin: Origin, seq: u64) -> Result<NodeId, TypeFault> {
        let types: Vec<&TensorType> = operands.iter().map(|&v| &self.values[v].ty).collect();
        let infer::Inferred { types: result_types, assumed } =
            infer::infer_assuming(self, &op, &types, &regions).map_err(|f| f.derived(self, operands))?;
        for (left, right) in &assumed {
            self.assume_equal(left, right, origin.first());
        }
        let (defines, source) = (defined_symbols(&op, &regions), op.is_source());
        let n = self.place(Node { op, operands: operands.to_vec(), results: Vec::with_capacity(result_types.len()), regions, origin, seq });
        for s in defines {
            self.symbol_nodes.insert(s, n);
        }
        self.next_seq = self.next_seq.max(seq + 1);
        for (i, ty) in result_types.into_iter().enumerate() {
            let v = self.values.push(Value { source, ..nodes::unused(ty, Def::Result(n, i as u32), None) });
            self.nodes.get_mut(n).results.push(v);
        }
        Ok(n)
    }
    /// The node, which must be in the graph.
    #[inline]
    pub fn node(&self, n: NodeId) -> &Node {
        self.nodes.get(n)
    }
    /// Whether the node is (still) in the graph.
    #[inline]
    pub fn contains(&self, n: NodeId) -> bool {
        self.nodes.contains(n)
    }
    /// Nested graphs of a node.
    pub fn regions_mut(&mut self, n: NodeId) -> &mut Vec<Graph> {
        &mut self.nodes.get_mut(n).regions
    }
    /// Origin of a node.
    pub fn origin_mut(&mut self, n: NodeId) -> &mut Origin {
        &mut self.nodes.get_mut(n).origin
    }
    /// The value.
    #[inline]
    pub fn value(&self, v: ValueId) -> &Value {
        &self.values[v]
    }
    /// Its type.
    #[inline]
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.values[v].ty
    }
    /// Names a value as the model file does.
    pub fn set_name(&mut self, v: ValueId, name: impl Into<Arc<str>>) {
        self.values[v].name = Some(name.into());
    }
    /// All values, those of removed nodes included.
    pub fn values(&self) -> &PrimaryMap<ValueId, Value> {
        &self.values
    }
    /// First result of a node.
    #[inline]
    pub fn result(&self, n: NodeId) -> ValueId {
        self.nodes.get(n).results[0]
    }
    /// The node that makes a value; `None` for an input.
    #[inline]
    pub fn producer(&self, v: ValueId) -> Option<&Node> {
        self.producer_id(v).map(|n| self.node(n))
    }
    /// The node that makes a value; `None` for an input.
    #[inline]
    pub fn producer_id(&self, v: ValueId) -> Option<NodeId> {
        match self.values[v].def {
            Def::Result(n, _) => Some(n),
            Def::Input(_) => None,
        }
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All nodes, in no meaningful order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.ids()
    }
    /// Whether a value is an output of the graph.
    #[inline]
    pub fn is_output(&self, v: ValueId) -> bool {
        self.values[v].outputs > 0
    }

    /// The node that defines a symbol while the model runs, if one does.
    pub fn symbol_definer(&self, name: &str) -> Option<NodeId> {
        self.symbol_nodes.get(name).copied().filter(|&n| self.contains(n))
    }

    /// Makes every user of `old`, and every output that is `old`, take `new`; returns the nodes that changed, by import order.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) -> Vec<NodeId> {
        let users = self.users(old);
        while let Some((n, slot)) = if old == new { None } else { self.uses(old).next() } {
            self.set_operand(n, slot, new);
        }
        if self.is_output(old) {
            for i in 0..self.outputs.len() {
                if self.outputs[i].value == old {
                    self.set_output(i, new);
                }
            }
        }
        if self.values[new].name.is_none() {
            self.values[new].name = self.values[old].name.clone();
        }
        users
    }
    /// Removes a node; its results must have no users.
    pub fn remove(&mut self, n: NodeId) {
        if let Some(node) = self.take_out(n) {
            debug_assert!(!node.results.iter().any(|&v| self.is_output(v)));
            for s in defined_symbols(&node.op, &node.regions) {
                if self.symbol_nodes.get(&s) == Some(&n) {
                    self.symbol_nodes.remove(&s);
                }
            }
        }
    }
}

/// Symbols that a node gives a value while the model runs.
pub(super) fn defined_symbols(op: &Op, regions: &[Graph]) -> Vec<SymName> {
    match op {
        Op::Bind { symbols } => symbols.clone(),
        Op::NonZero { count } => vec![count.clone()],
        Op::Loop { trips, .. } => vec![trips.clone()],
        // What its body finds, a fusion finds.
        Op::Fusion { .. } => regions.iter().flat_map(|r| r.symbol_nodes.keys().cloned()).collect(),
        _ => Vec::new(),
    }
}
