// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parts of a prepared graph as graphs of their own, for looking at what is between its inputs and outputs.
//!
//! The graph is cut after fusion, so that the kernels of a part are those of the model: what is looked at is what would run. A value at
//! which it is cut becomes an input of the part.

use std::collections::{BTreeSet, HashMap, HashSet};

use portwright_ir::diag::Code;
use portwright_ir::graph::op::WeightId;
use portwright_ir::graph::{Graph, NodeId, Op, SymSource, Symbol, TypeFault, ValueId, collect_attr_symbols};
use portwright_ir::sym::SymName;
use portwright_ir::weight::WeightSource;

use crate::prepare::Prepared;

/// A part of a model.
#[derive(Debug)]
pub struct Part {
    /// What it computes. Output `i` is the wanted value `i`.
    pub prepared: Prepared,
    /// What its inputs are in the whole graph, by position: inputs of that, or values at which it was cut.
    pub inputs: Vec<ValueId>,
}

/// Whether some symbol of the graph is found while it runs: then what a part is given does not tell all sizes.
pub fn finds_sizes(g: &Graph) -> bool {
    g.symbols().iter().any(|s| g.symbol_definer(&s.name).is_some())
}

/// Values of the graph at which the computation of `v` from `cut` values begins: those of `cut` that it needs, and inputs.
pub fn needs(g: &Graph, v: ValueId, cut: &HashSet<ValueId>) -> Vec<ValueId> {
    let mut out = Vec::new();
    let mut seen: HashSet<ValueId> = HashSet::new();
    let mut work: Vec<ValueId> = g.producer(v).map(|p| p.operands.clone()).unwrap_or_default();
    while let Some(v) = work.pop() {
        if !seen.insert(v) {
            continue;
        }
        match g.producer(v) {
            Some(p) if !cut.contains(&v) => work.extend(&p.operands),
            _ => out.push(v),
        }
    }
    out.sort_unstable();
    out
}

/// The part that computes `wanted` from the model's inputs and the values `cut`, with what it needs of the pack program. A wanted value is
/// computed even where it is in `cut`; what is computed further from it takes what is given.
///
/// # Errors
/// `E0205` for a size that only the whole model finds, `E0901` for a value that no node makes.
pub fn part(p: &Prepared, wanted: &[ValueId], cut: &HashSet<ValueId>) -> Result<Part, TypeFault> {
    let g = &p.main;
    let nodes = computed(g, wanted, cut);
    let mut c = Copy { from: g, cut, to: Graph::new(g.name.clone()), inputs: Vec::new(), given: HashMap::new(), weights: HashMap::new() };
    c.symbols(&nodes);
    // Inputs with sizes tell them, whether their data is needed or not.
    for &v in g.inputs().iter().filter(|v| g.ty(**v).static_dims().is_none()) {
        c.give(v);
    }
    let mut made: HashMap<ValueId, ValueId> = HashMap::new();
    for &n in &nodes {
        let node = g.node(n);
        let operands = node.operands.iter().map(|&v| c.operand(v, &made)).collect::<Result<Vec<_>, _>>()?;
        let op = match &node.op {
            Op::Weight { weight } => Op::Weight { weight: c.weight(*weight) },
            op => op.clone(),
        };
        let m = c.to.insert(op, &operands, node.regions.clone(), node.origin.clone(), node.seq)?;
        for (&old, new) in node.results.iter().zip(c.to.node(m).results.clone()) {
            made.insert(old, new);
            if let Some(name) = &g.value(old).name {
                c.to.set_name(new, name.clone());
            }
        }
    }
    for (i, v) in wanted.iter().enumerate() {
        let v = made.get(v).ok_or_else(|| TypeFault::new(Code::INTERNAL, "an input of the graph is wanted as a result"))?;
        c.to.add_output(format!("output_{i}"), *v);
    }
    c.sizes_are_told()?;
    let (main, inputs) = (c.to, c.inputs);
    let packed: HashSet<&str> = main.weights().values().filter(|w| matches!(w.source, WeightSource::Packed)).map(|w| &*w.name).collect();
    let mut pack = p.pack.clone();
    pack.retain_outputs(|o| packed.contains(&*o.name));
    pack.remove_dead();
    Ok(Part { prepared: Prepared { main, pack, log: Default::default() }, inputs })
}

/// Nodes that compute the wanted values, in order.
fn computed(g: &Graph, wanted: &[ValueId], cut: &HashSet<ValueId>) -> Vec<NodeId> {
    let mut needed: HashSet<NodeId> = HashSet::new();
    let mut work: Vec<NodeId> = wanted.iter().filter_map(|&v| g.producer_id(v)).collect();
    while let Some(n) = work.pop() {
        if !needed.insert(n) {
            continue;
        }
        work.extend(g.node(n).operands.iter().filter(|v| !cut.contains(v)).filter_map(|&v| g.producer_id(v)));
        // Who finds a size that the node computes with.
        work.extend(used_symbols(g, n).iter().filter_map(|s| g.symbol_definer(s)));
    }
    g.order().into_iter().filter(|n| needed.contains(n)).collect()
}

/// Symbols in a node, its results and its regions.
fn used_symbols(g: &Graph, n: NodeId) -> BTreeSet<SymName> {
    let node = g.node(n);
    let mut out = BTreeSet::new();
    collect_attr_symbols(&node.op, &mut out);
    let values = node.operands.iter().chain(&node.results);
    values.flat_map(|&v| &g.ty(v).dims).for_each(|d| d.collect_symbols(&mut out));
    for r in &node.regions {
        for n in r.node_ids() {
            out.extend(used_symbols(r, n).into_iter().filter(|s| r.symbol_definer(s).is_none()));
        }
    }
    out
}

/// A part under construction.
struct Copy<'a> {
    from: &'a Graph,
    cut: &'a HashSet<ValueId>,
    to: Graph,
    inputs: Vec<ValueId>,
    given: HashMap<ValueId, ValueId>,
    weights: HashMap<WeightId, WeightId>,
}

impl Copy<'_> {
    /// Declares symbols: those that no node of the part defines come from its inputs.
    fn symbols(&mut self, nodes: &[NodeId]) {
        let inside: HashSet<NodeId> = nodes.iter().copied().collect();
        for s in self.from.symbols() {
            let defined = self.from.symbol_definer(&s.name).is_some_and(|n| inside.contains(&n));
            let source = if defined { s.source.clone() } else { SymSource::Input };
            self.to.add_symbol(Symbol { source, ..s.clone() });
        }
        for c in &self.from.constraints {
            let mut names = BTreeSet::new();
            c.left.collect_symbols(&mut names);
            c.right.collect_symbols(&mut names);
            if names.iter().all(|n| self.from.symbol_definer(n).is_none()) {
                self.to.constraints.push(c.clone());
            }
        }
    }
    /// The input that stands for a value.
    fn give(&mut self, v: ValueId) -> ValueId {
        if let Some(&new) = self.given.get(&v) {
            return new;
        }
        let new = self.to.add_input(format!("input_{}", self.inputs.len()), self.from.ty(v).clone());
        self.inputs.push(v);
        self.given.insert(v, new);
        new
    }
    fn operand(&mut self, v: ValueId, made: &HashMap<ValueId, ValueId>) -> Result<ValueId, TypeFault> {
        if self.cut.contains(&v) || self.from.producer_id(v).is_none() {
            return Ok(self.give(v));
        }
        made.get(&v).copied().ok_or_else(|| TypeFault::new(Code::INTERNAL, "a value is used before it is made"))
    }
    fn weight(&mut self, w: WeightId) -> WeightId {
        let (from, to) = (self.from, &mut self.to);
        *self.weights.entry(w).or_insert_with(|| to.add_weight(from.weight(w).clone()))
    }
    /// Every size that the part computes with is found in it, or is that of an input, and not both.
    fn sizes_are_told(&self) -> Result<(), TypeFault> {
        let plain = |s: &SymName| self.to.inputs().iter().any(|&v| self.to.ty(v).dims.iter().any(|d| d.as_sym() == Some(s)));
        let mut used = BTreeSet::new();
        self.to.node_ids().for_each(|n| used.extend(used_symbols(&self.to, n)));
        for s in &used {
            let (found, anywhere) = (self.to.symbol_definer(s).is_some(), self.from.symbol_definer(s).is_some());
            if found && plain(s) {
                return Err(TypeFault::new(Code::UNKNOWN_SYMBOL, format!("`{s}` is found in the part and given to it")));
            }
            if anywhere && !found && !plain(s) {
                return Err(TypeFault::new(Code::UNKNOWN_SYMBOL, format!("only the whole model finds `{s}`")));
            }
        }
        Ok(())
    }
}
