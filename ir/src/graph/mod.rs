// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graph IR: what is computed.
//!
//! A [`Graph`] is a DAG of nodes over typed values in SSA form. Rules of meaning:
//!
//! 1. **Types are always known.** Every value has a dtype and dims; a dim is an expression over named symbols. Types
//!    are inferred when a node is added ([`infer`]) and never guessed.
//! 2. **Operands are an ordered list on the node and are the truth**; the graph library's edges are an index.
//! 3. **Order** is by import sequence among what is ready ([`Graph::order`]), so that prints follow the model file.
//! 4. **Shape arithmetic is expressions.** Small integer tensors whose elements are expressions over symbols are known
//!    symbolically ([`symbolic`]); a number that only data can tell is bound to a symbol by a `bind` node.
//! 5. **Regions are isolated**: a nested graph sees its own inputs only; captures are operands.
//! 6. **Weights are references** ([`crate::weight`]); no pass looks at their values but through a named analysis.
//! 7. **Names survive**: every node keeps the paths of the model nodes that it stands for ([`Origin`]).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::diag::Code;
use crate::entity::{EntityId, PrimaryMap};
use crate::entity_ids;
use crate::sym::{SymExpr, SymName};
use crate::weight::Weight;

pub mod attr;
pub mod infer;
pub mod interp;
pub mod op;
pub mod patch;
pub mod symbolic;
pub mod text;
pub mod types;
pub mod verify;

pub use op::{ArgOp, BinaryOp, FusionKind, Op, PadMode, ReduceOp, ScatterOp, UnaryOp, WeightId};
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
}

impl TypeFault {
    /// Makes a fault.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        TypeFault { code, message: message.into() }
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
    nodes: StableDiGraph<Node, ()>,
    values: PrimaryMap<ValueId, Value>,
    inputs: Vec<ValueId>,
    outputs: Vec<Output>,
    weights: PrimaryMap<WeightId, Weight>,
    symbols: Vec<Symbol>,
    symbol_index: HashMap<SymName, usize>,
    /// Nodes that define symbols while the model runs.
    symbol_nodes: HashMap<SymName, NodeId>,
    /// What the model takes as given; tested when a run binds its symbols.
    pub constraints: Vec<Constraint>,
    next_seq: u64,
}

fn ix(n: NodeId) -> NodeIndex {
    NodeIndex::new(n.index())
}
fn id(n: NodeIndex) -> NodeId {
    NodeId::new(n.index())
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
        if left != right {
            let c = Constraint { left: left.clone(), right: right.clone(), path: path.into() };
            if !self.constraints.iter().any(|o| o.left == c.left && o.right == c.right) {
                self.constraints.push(c);
            }
        }
    }
    /// Adds an input.
    pub fn add_input(&mut self, name: impl Into<Arc<str>>, ty: TensorType) -> ValueId {
        let def = Def::Input(self.inputs.len() as u32);
        let v = self.values.push(Value { ty, def, name: Some(name.into()) });
        self.inputs.push(v);
        v
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
        self.outputs.push(Output { name: name.into(), value, alias_of: None });
    }
    /// Outputs by position.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }
    /// Outputs by position.
    pub fn outputs_mut(&mut self) -> &mut [Output] {
        &mut self.outputs
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
        let infer::Inferred { types: result_types, assumed } = infer::infer_assuming(self, &op, &types, &regions)?;
        for (left, right) in &assumed {
            self.assume_equal(left, right, origin.first());
        }
        let defines = match &op {
            Op::Bind { symbols } => symbols.clone(),
            Op::NonZero { count } => vec![count.clone()],
            Op::Loop { trips, .. } => vec![trips.clone()],
            // What its body finds, a fusion finds.
            Op::Fusion { .. } => regions.iter().flat_map(|r| r.symbol_nodes.keys().cloned()).collect(),
            _ => Vec::new(),
        };
        let node = Node { op, operands: operands.to_vec(), results: Vec::new(), regions, origin, seq };
        let n = id(self.nodes.add_node(node));
        for s in defines {
            self.symbol_nodes.insert(s, n);
        }
        self.next_seq = self.next_seq.max(seq + 1);
        for &v in operands {
            self.link(v, n);
        }
        for (i, ty) in result_types.into_iter().enumerate() {
            let v = self.values.push(Value { ty, def: Def::Result(n, i as u32), name: None });
            self.nodes[ix(n)].results.push(v);
        }
        Ok(n)
    }
    /// Sources have no edges: a constant with a million uses must not make each removal walk them all.
    fn link(&mut self, v: ValueId, user: NodeId) {
        if let Def::Result(p, _) = self.values[v].def
            && !self.nodes[ix(p)].op.is_source()
        {
            self.nodes.add_edge(ix(p), ix(user), ());
        }
    }
    fn unlink(&mut self, v: ValueId, user: NodeId) {
        if let Def::Result(p, _) = self.values[v].def
            && let Some(e) = self.nodes.find_edge(ix(p), ix(user))
        {
            self.nodes.remove_edge(e);
        }
    }
    /// The node, which must be in the graph.
    pub fn node(&self, n: NodeId) -> &Node {
        &self.nodes[ix(n)]
    }
    /// Whether the node is (still) in the graph.
    pub fn contains(&self, n: NodeId) -> bool {
        self.nodes.contains_node(ix(n))
    }
    /// Nested graphs of a node.
    pub fn regions_mut(&mut self, n: NodeId) -> &mut Vec<Graph> {
        &mut self.nodes[ix(n)].regions
    }
    /// Origin of a node.
    pub fn origin_mut(&mut self, n: NodeId) -> &mut Origin {
        &mut self.nodes[ix(n)].origin
    }
    /// The value.
    pub fn value(&self, v: ValueId) -> &Value {
        &self.values[v]
    }
    /// Its type.
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
    pub fn result(&self, n: NodeId) -> ValueId {
        self.nodes[ix(n)].results[0]
    }
    /// The node that makes a value; `None` for an input.
    pub fn producer(&self, v: ValueId) -> Option<&Node> {
        self.producer_id(v).map(|n| self.node(n))
    }
    /// The node that makes a value; `None` for an input.
    pub fn producer_id(&self, v: ValueId) -> Option<NodeId> {
        match self.values[v].def {
            Def::Result(n, _) => Some(n),
            Def::Input(_) => None,
        }
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }
    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All nodes, in no meaningful order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices().map(id)
    }
    /// Nodes that take a value as operand, each once, by import order. For sources and inputs this walks the graph.
    pub fn users(&self, v: ValueId) -> Vec<NodeId> {
        let direct = match self.values[v].def {
            Def::Result(p, _) if !self.node(p).op.is_source() => Some(p),
            _ => None,
        };
        let mut out: Vec<NodeId> = match direct {
            Some(p) => self.nodes.edges_directed(ix(p), Direction::Outgoing).map(|e| id(e.target())).collect(),
            None => self.node_ids().collect(),
        };
        out.retain(|&n| self.node(n).operands.contains(&v));
        out.sort_by_key(|&n| (self.node(n).seq, n));
        out.dedup();
        out
    }
    /// Whether a value is an output of the graph.
    pub fn is_output(&self, v: ValueId) -> bool {
        self.outputs.iter().any(|o| o.value == v)
    }

    /// Nodes so that each comes after what it needs, ties by import order. Nodes on a cycle are left out.
    pub fn order(&self) -> Vec<NodeId> {
        let mut missing: HashMap<NodeId, usize> = HashMap::with_capacity(self.len());
        let mut symbol_users: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        let mut ready = BinaryHeap::new();
        for n in self.node_ids() {
            let mut count = self.nodes.edges_directed(ix(n), Direction::Incoming).count();
            if !self.symbol_nodes.is_empty() {
                for d in self.symbol_definers(n) {
                    symbol_users.entry(d).or_default().push(n);
                    count += 1;
                }
            }
            if count == 0 {
                ready.push(Reverse((self.node(n).seq, n)));
            } else {
                missing.insert(n, count);
            }
        }
        let mut out = Vec::with_capacity(self.len());
        let mut early: HashSet<NodeId> = HashSet::new();
        while let Some(Reverse((_, n))) = ready.pop() {
            // Sources have no edges: one that a patch made later than its user goes just before it.
            let late = |s: &NodeId| (self.node(*s).seq, *s) > (self.node(n).seq, n) && self.node(*s).op.is_source();
            for s in self.node(n).operands.iter().filter_map(|&v| self.producer_id(v)).filter(late) {
                if early.insert(s) {
                    out.push(s);
                }
            }
            if self.node(n).op.is_source() && !early.insert(n) {
                continue;
            }
            out.push(n);
            let next = self.nodes.edges_directed(ix(n), Direction::Outgoing).map(|e| id(e.target()));
            for m in next.chain(symbol_users.remove(&n).unwrap_or_default()) {
                if let Some(c) = missing.get_mut(&m) {
                    *c -= 1;
                    if *c == 0 {
                        missing.remove(&m);
                        ready.push(Reverse((self.node(m).seq, m)));
                    }
                }
            }
        }
        out
    }
    /// Nodes that must run before `n` because they define symbols in its types or attributes.
    fn symbol_definers(&self, n: NodeId) -> BTreeSet<NodeId> {
        let node = self.node(n);
        let mut names = BTreeSet::new();
        for &v in &node.results {
            self.values[v].ty.dims.iter().for_each(|d| d.collect_symbols(&mut names));
        }
        collect_attr_symbols(&node.op, &mut names);
        names.iter().filter_map(|s| self.symbol_nodes.get(s)).copied().filter(|&d| d != n && self.contains(d)).collect()
    }
    /// The node that defines a symbol while the model runs, if one does.
    pub fn symbol_definer(&self, name: &str) -> Option<NodeId> {
        self.symbol_nodes.get(name).copied().filter(|&n| self.contains(n))
    }

    /// Replaces an operand.
    pub fn set_operand(&mut self, n: NodeId, position: usize, v: ValueId) {
        let old = self.nodes[ix(n)].operands[position];
        if old != v {
            self.unlink(old, n);
            self.nodes[ix(n)].operands[position] = v;
            self.link(v, n);
        }
    }
    /// Makes every user of `old`, and every output that is `old`, take `new`; returns the nodes that changed.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) -> Vec<NodeId> {
        let users = self.users(old);
        for &n in &users {
            for i in 0..self.node(n).operands.len() {
                if self.node(n).operands[i] == old {
                    self.set_operand(n, i, new);
                }
            }
        }
        for o in &mut self.outputs {
            if o.value == old {
                o.value = new;
            }
        }
        if self.values[new].name.is_none() {
            self.values[new].name = self.values[old].name.clone();
        }
        users
    }
    /// Removes a node; its results must have no users.
    pub fn remove(&mut self, n: NodeId) {
        if let Some(node) = self.nodes.remove_node(ix(n)) {
            debug_assert!(!node.results.iter().any(|&v| self.is_output(v)));
            self.symbol_nodes.retain(|_, d| *d != n);
        }
    }
    /// Removes every node that no output and no used symbol needs; returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        let mut used_symbols = BTreeSet::new();
        let mut live: Vec<bool> = vec![false; self.nodes.node_indices().map(|i| i.index() + 1).max().unwrap_or(0)];
        let mut work: Vec<NodeId> = Vec::new();
        for o in &self.outputs {
            work.extend(self.producer_id(o.value));
            self.values[o.value].ty.dims.iter().for_each(|d| d.collect_symbols(&mut used_symbols));
        }
        for c in &self.constraints {
            c.left.collect_symbols(&mut used_symbols);
            c.right.collect_symbols(&mut used_symbols);
        }
        loop {
            while let Some(n) = work.pop() {
                if std::mem::replace(&mut live[n.index()], true) {
                    continue;
                }
                let node = self.node(n);
                for &v in node.operands.iter().chain(&node.results) {
                    if !self.symbol_nodes.is_empty() {
                        self.values[v].ty.dims.iter().for_each(|d| d.collect_symbols(&mut used_symbols));
                    }
                }
                if !self.symbol_nodes.is_empty() {
                    collect_attr_symbols(&node.op, &mut used_symbols);
                    for r in &node.regions {
                        r.collect_free_symbols(&mut used_symbols);
                    }
                }
                work.extend(node.operands.iter().filter_map(|&v| self.producer_id(v)));
            }
            work.extend(used_symbols.iter().filter_map(|s| self.symbol_definer(s)).filter(|n| !live[n.index()]));
            if work.is_empty() {
                break;
            }
        }
        let dead: Vec<NodeId> = self.node_ids().filter(|n| !live[n.index()]).collect();
        for &n in dead.iter().rev() {
            self.remove(n);
        }
        dead.len()
    }
    /// Adds every symbol that the types and attributes of this graph mention.
    pub fn collect_free_symbols(&self, out: &mut BTreeSet<SymName>) {
        for v in self.values.values() {
            v.ty.dims.iter().for_each(|d| d.collect_symbols(out));
        }
        for n in self.node_ids() {
            collect_attr_symbols(&self.node(n).op, out);
            for r in &self.node(n).regions {
                r.collect_free_symbols(out);
            }
        }
    }
}

/// Adds the symbols in an op's attributes.
pub fn collect_attr_symbols(op: &Op, out: &mut BTreeSet<SymName>) {
    fn walk(a: &attr::Attr, out: &mut BTreeSet<SymName>) {
        match a {
            attr::Attr::Expr(e) => e.collect_symbols(out),
            attr::Attr::List(l) => l.iter().for_each(|a| walk(a, out)),
            _ => {}
        }
    }
    // The common ops have no expressions; skipping them keeps ordering a million nodes cheap.
    if !matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Weight { .. } | Op::Const { .. } | Op::Contract { .. }) {
        op.attrs().iter().for_each(|(_, a)| walk(a, out));
    }
}
