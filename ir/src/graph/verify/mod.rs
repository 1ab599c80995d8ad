// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a graph is well-formed. Later stages rely on every rule here and check none again.
//!
//! 1. Every operand and output is an input of the same graph or a result of a node that is in it; no node needs itself.
//! 2. The edges that index uses, and the links from values to their nodes, agree with the operand lists.
//! 3. Every result has the type that inference gives, equal by normal form or by the recorded constraints.
//! 4. Every symbol in a type, an attribute or a constraint is declared in the graph or one around it, and those read while the model
//!    runs are defined by one node.
//! 5. Weights have sizes, fit their bytes and have names of their own; so do inputs and outputs of the outermost graph.
//! 6. An output that continues an input's memory has its dtype, and no other output continues the same.
//! 7. Regions obey all this by themselves, not deeper than [`MAX_DEPTH`].

use std::collections::{BTreeSet, HashMap, HashSet};

use super::text::describe;
use super::{Def, Flow, Graph, NodeId, Op, SymSource, TensorType, ValueId, collect_attr_symbols, infer};
use crate::diag::{Code, Diagnostic};
use crate::sym::{SymExpr, SymName};
use crate::weight::{Weight, WeightSource};

#[cfg(test)]
mod tests;

/// Deepest nesting of regions.
pub const MAX_DEPTH: usize = 64;

/// Checks a graph and all its regions; returns every fault, none for a well-formed graph. Takes time linear in the number of nodes.
pub fn verify(graph: &Graph) -> Vec<Diagnostic> {
    let mut v = Verifier { faults: Vec::new(), scopes: Vec::new(), facts: Facts::default() };
    v.graph(graph, "");
    v.faults
}

/// What the constraints of a graph say, in a form that dims can be compared under.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Symbols that equal an expression.
    symbols: HashMap<SymName, SymExpr>,
    pairs: HashSet<(SymExpr, SymExpr)>,
}

impl Facts {
    /// The constraints of a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut f = Self::default();
        f.add(graph);
        f
    }
    /// Adds the constraints of a region.
    pub fn add(&mut self, graph: &Graph) {
        for c in &graph.constraints {
            let (l, r) = (self.reduce(&c.left), self.reduce(&c.right));
            let mentions = |e: &SymExpr, s: &SymName| {
                let mut names = BTreeSet::new();
                e.collect_symbols(&mut names);
                names.contains(s)
            };
            match (l.as_sym(), r.as_sym()) {
                _ if l == r => {}
                (_, Some(s)) if !mentions(&l, s) => {
                    self.symbols.insert(s.clone(), l.clone());
                }
                (Some(s), _) if !mentions(&r, s) => {
                    self.symbols.insert(s.clone(), r.clone());
                }
                _ => {}
            }
            self.pairs.insert((c.left.clone(), c.right.clone()));
        }
    }
    /// The expression with symbols replaced by what they equal.
    pub fn reduce(&self, e: &SymExpr) -> SymExpr {
        let mut e = e.clone();
        if self.symbols.is_empty() {
            return e;
        }
        // Facts may mention symbols that later facts replace: a few rounds reach the end of any chain that models have.
        for _ in 0..8 {
            let next = e.substitute(&|s| self.symbols.get(s).cloned());
            if next == e {
                break;
            }
            e = next;
        }
        e
    }
    /// Whether two expressions are equal under the facts.
    pub fn equal(&self, a: &SymExpr, b: &SymExpr) -> bool {
        a == b
            || self.pairs.contains(&(a.clone(), b.clone()))
            || self.pairs.contains(&(b.clone(), a.clone()))
            || (!self.symbols.is_empty() && self.reduce(a) == self.reduce(b))
    }
}

/// Whether two types are the same under the facts.
pub fn types_agree(facts: &Facts, a: &TensorType, b: &TensorType) -> bool {
    a.dtype == b.dtype && a.quant == b.quant && a.rank() == b.rank() && a.dims.iter().zip(&b.dims).all(|(x, y)| facts.equal(x, y))
}

struct Verifier {
    faults: Vec<Diagnostic>,
    /// Symbols of the graphs that are open, outermost first.
    scopes: Vec<HashSet<SymName>>,
    facts: Facts,
}

impl Verifier {
    fn report(&mut self, code: Code, path: &str, message: impl Into<String>) {
        let d = Diagnostic::error(code, message);
        self.faults.push(if path.is_empty() { d } else { d.at(path) });
    }
    fn report_node(&mut self, g: &Graph, n: NodeId, code: Code, message: impl Into<String>) {
        let path = g.node(n).origin.first().to_owned();
        let d = Diagnostic::error(code, message).note(describe(g, n));
        self.faults.push(if path.is_empty() { d } else { d.at(path) });
    }

    fn graph(&mut self, g: &Graph, path: &str) {
        if self.scopes.len() >= MAX_DEPTH {
            self.report(Code::NESTING, path, format!("regions are nested deeper than {MAX_DEPTH} levels"));
            return;
        }
        self.scopes.push(g.symbols().iter().map(|s| s.name.clone()).collect());
        let outer = if g.constraints.is_empty() {
            None
        } else {
            let outer = self.facts.clone();
            self.facts.add(g);
            Some(outer)
        };
        self.symbols(g, path);
        self.interface(g, path);
        self.weights(g, path);
        let sound: Vec<NodeId> = g.node_ids().filter(|&n| self.links(g, n)).collect();
        if sound.len() == g.len() {
            self.cycles(g, path);
        }
        for n in sound {
            self.types(g, n);
            for r in &g.node(n).regions {
                let path = format!("{}.{}", g.node(n).origin.first(), r.name);
                self.graph(r, &path);
            }
        }
        if let Some(outer) = outer {
            self.facts = outer;
        }
        self.scopes.pop();
    }

    fn symbols(&mut self, g: &Graph, path: &str) {
        for s in g.symbols() {
            if s.lo > s.hi || s.div < 1 {
                let m = format!("symbol `{}` has the range {}..{} and the divisor {}, which nothing fits", s.name, s.lo, s.hi, s.div);
                self.report(Code::BAD_DIM, path, m);
            }
            if s.source != SymSource::Input && g.symbol_definer(&s.name).is_none() && self.scopes.len() == 1 {
                self.report(Code::UNKNOWN_SYMBOL, path, format!("no node defines symbol `{}`, which is read while the model runs", s.name));
            }
        }
        for c in &g.constraints {
            let mut names = BTreeSet::new();
            c.left.collect_symbols(&mut names);
            c.right.collect_symbols(&mut names);
            if let Some(s) = self.undeclared(&names) {
                self.report(
                    Code::UNKNOWN_SYMBOL,
                    &c.path,
                    format!("symbol `{s}` of the constraint {} == {} is not declared", c.left, c.right),
                );
            }
        }
    }
    fn undeclared(&self, names: &BTreeSet<SymName>) -> Option<SymName> {
        names.iter().find(|s| !self.scopes.iter().any(|scope| scope.contains(*s))).cloned()
    }

    fn interface(&mut self, g: &Graph, path: &str) {
        let outermost = self.scopes.len() == 1;
        let mut seen = HashSet::new();
        for (i, &v) in g.inputs().iter().enumerate() {
            let Some(value) = g.values().get(v) else {
                self.report(Code::INTERNAL, path, format!("input {i} is no value of the graph"));
                continue;
            };
            if value.def != Def::Input(i as u32) {
                self.report(Code::INTERNAL, path, format!("the value of input {i} is defined elsewhere"));
            }
            let name = value.name.as_deref().unwrap_or("");
            if outermost && !seen.insert(name) {
                self.report(Code::DUPLICATE_NAME, path, format!("two inputs have the name {name:?}"));
            }
            self.type_symbols(&value.ty, path, &format!("input {name:?}"));
            if let Some(d) = value.ty.dims.iter().find(|d| d.is_overflowed() || g.bounds(d).1 < 0) {
                self.report(Code::BAD_DIM, path, format!("input {name:?} is {}, where {d} is no size", value.ty));
            }
        }
        let (mut seen, mut continued) = (HashSet::new(), HashSet::new());
        for o in g.outputs() {
            if outermost && !seen.insert(&o.name) {
                self.report(Code::DUPLICATE_NAME, path, format!("two outputs have the name {:?}", o.name));
            }
            if !is_live(g, o.value) {
                self.report(Code::INTERNAL, path, format!("output {:?} is a value that no node makes", o.name));
                continue;
            }
            if let Some(i) = o.alias_of {
                let dtype = g.inputs().get(i as usize).and_then(|&v| g.values().get(v)).map(|v| v.ty.dtype);
                if dtype != Some(g.ty(o.value).dtype) {
                    let m = format!("output {:?} of {} continues input {i}, which is {dtype:?}", o.name, g.ty(o.value).dtype);
                    self.report(Code::DTYPE_MISMATCH, path, m);
                }
                if !continued.insert(i) {
                    self.report(Code::DUPLICATE_NAME, path, format!("two outputs continue input {i}"));
                }
            }
        }
    }

    fn weights(&mut self, g: &Graph, path: &str) {
        let mut seen = HashSet::new();
        for w in g.weights().values() {
            if !seen.insert(&w.name) {
                self.report(Code::DUPLICATE_NAME, path, format!("two weights have the name {:?}", w.name));
            }
            let Some(expected) = w.bytes_len() else {
                self.report(Code::BAD_DIM, path, format!("weight {:?} of dims {:?} has no size", w.name, w.dims));
                continue;
            };
            let found = match &w.source {
                WeightSource::Bytes { len, .. } => Some(*len as u64),
                WeightSource::Absent { len, .. } => Some(*len),
                WeightSource::Seed(_) | WeightSource::Packed => None,
                WeightSource::Parts(parts) => {
                    let alike = |p: &Weight| p.dtype == w.dtype && parts.first().is_some_and(|f| f.dims == p.dims);
                    if !parts.iter().all(|p| alike(p) && !matches!(p.source, WeightSource::Parts(_))) {
                        self.report(Code::BAD_TENSOR, path, format!("parts of weight {:?} are not alike", w.name));
                    }
                    // Parts of less than a byte do not lie one behind the other.
                    let whole = |p: &Weight| p.elems().is_some_and(|n| n.wrapping_mul(u64::from(w.dtype.bits())) % 8 == 0);
                    if !parts.iter().all(whole) {
                        self.report(Code::BAD_TENSOR, path, format!("parts of weight {:?} are no whole bytes", w.name));
                    }
                    parts.iter().try_fold(0u64, |n, p| n.checked_add(p.bytes_len()?))
                }
            };
            if let Some(found) = found.filter(|&f| f != expected) {
                let m = format!("weight {:?} has {found} bytes, expected {expected} for {}{:?}", w.name, w.dtype, w.dims);
                self.report(Code::BAD_TENSOR, path, m);
            } else if matches!(w.source, WeightSource::Bytes { .. }) && w.bytes().is_none() {
                self.report(Code::BAD_TENSOR, path, format!("weight {:?} lies outside the bytes that hold it", w.name));
            }
        }
    }

    /// Checks what a node points at and what points back; `false` if nothing more can be asked of it.
    fn links(&mut self, g: &Graph, n: NodeId) -> bool {
        let node = g.node(n);
        let path = node.origin.first().to_owned();
        let word = node.op.mnemonic();
        for (i, &v) in node.operands.iter().enumerate() {
            if !is_live(g, v) {
                self.report(Code::INTERNAL, &path, format!("operand {i} of `{word}` is a value that no node makes"));
                return false;
            }
        }
        for (i, &v) in node.results.iter().enumerate() {
            if g.values().get(v).is_none_or(|value| value.def != Def::Result(n, i as u32)) {
                self.report(Code::INTERNAL, &path, format!("result {i} of `{word}` does not point back at it"));
                return false;
            }
        }
        if !g.is_linked(n) {
            self.report_node(g, n, Code::INTERNAL, format!("the lists of uses do not agree with the operands of `{word}`"));
        }
        let defined: Vec<&SymName> = match &node.op {
            Op::Bind { symbols } => symbols.iter().collect(),
            Op::NonZero { count } => vec![count],
            Op::Loop { trips, .. } => vec![trips],
            Op::Fusion { .. } => {
                let mut inner: Vec<&SymName> = node.regions.iter().flat_map(|r| r.symbol_nodes.keys()).collect();
                inner.sort();
                inner
            }
            _ => Vec::new(),
        };
        for s in defined {
            if g.symbol_definer(s) != Some(n) {
                self.report_node(g, n, Code::DUPLICATE_NAME, format!("symbol `{s}` is defined by another node too"));
            }
        }
        true
    }

    fn cycles(&mut self, g: &Graph, path: &str) {
        let order = g.order();
        if order.len() == g.len() {
            return;
        }
        let mut found = false;
        for mut list in petgraph::algo::kosaraju_scc(Flow(g)) {
            let itself = |n: NodeId| g.node(n).operands.iter().any(|&v| g.producer_id(v) == Some(n));
            if list.len() == 1 && !itself(list[0]) {
                continue;
            }
            found = true;
            list.sort_by_key(|&n| (g.node(n).seq, n));
            let names: Vec<&str> = list.iter().take(5).map(|&n| g.node(n).origin.first()).collect();
            self.report(Code::CYCLE, path, format!("nodes need each other ({}): {}", list.len(), names.join(", ")));
        }
        if !found {
            // A symbol may be needed by what defines it.
            self.report(Code::CYCLE, path, "nodes need symbols that are defined from their results".to_owned());
        }
    }

    fn types(&mut self, g: &Graph, n: NodeId) {
        let node = g.node(n);
        let mut names = BTreeSet::new();
        collect_attr_symbols(&node.op, &mut names);
        for &v in &node.results {
            g.ty(v).dims.iter().for_each(|d| d.collect_symbols(&mut names));
        }
        if let Some(s) = self.undeclared(&names) {
            self.report_node(g, n, Code::UNKNOWN_SYMBOL, format!("symbol `{s}` is not declared"));
        }
        let operands: Vec<&TensorType> = node.operands.iter().map(|&v| g.ty(v)).collect();
        match infer::infer(g, &node.op, &operands, &node.regions) {
            Err(f) => self.report_node(g, n, f.code, f.message),
            Ok(types) if types.len() != node.results.len() => {
                let m = format!("`{}` has {} results, expected {}", node.op.mnemonic(), node.results.len(), types.len());
                self.report_node(g, n, Code::BAD_ARITY, m);
            }
            Ok(types) => {
                for (i, (t, &v)) in types.iter().zip(&node.results).enumerate() {
                    if !types_agree(&self.facts, t, g.ty(v)) {
                        let code = if t.dtype == g.ty(v).dtype { Code::SHAPE_MISMATCH } else { Code::DTYPE_MISMATCH };
                        self.report_node(g, n, code, format!("result {i} is {}, expected {t}", g.ty(v)));
                    }
                }
            }
        }
    }

    fn type_symbols(&mut self, t: &TensorType, path: &str, what: &str) {
        let mut names = BTreeSet::new();
        t.dims.iter().for_each(|d| d.collect_symbols(&mut names));
        if let Some(s) = self.undeclared(&names) {
            self.report(Code::UNKNOWN_SYMBOL, path, format!("symbol `{s}` of {what} is not declared"));
        }
    }
}

/// Whether a value is an input or a result of a node that is in the graph.
fn is_live(g: &Graph, v: ValueId) -> bool {
    match g.values().get(v).map(|value| value.def) {
        Some(Def::Result(n, i)) => g.contains(n) && g.node(n).results.get(i as usize) == Some(&v),
        Some(Def::Input(i)) => g.inputs().get(i as usize) == Some(&v),
        None => false,
    }
}
