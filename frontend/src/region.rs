// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists of nodes: main graph, function bodies and subgraphs are all imported here.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use portwright_ir::diag::{Code, Diagnostic, Severity};
use portwright_ir::graph::{Graph, TensorType, ValueId};
use smallvec::SmallVec;

use crate::check;
use crate::cx::Cx;
use crate::fault::Fault;
use crate::import::Importer;
use crate::model::*;
use crate::ops;
use crate::proto::SUBGRAPH_DEPTH;
use crate::schema;
use crate::scope::{Env, Frame, Scope, Slot, lift};

/// How many function calls may lie in each other.
const CALL_DEPTH: usize = 64;
/// How many nodes a model may have once its functions are inlined: more is a file made to exhaust memory.
const MAX_NODES: usize = 16_000_000;

impl<'m> Importer<'m> {
    /// What a name stands for in the current scope, as a value of the current frame.
    pub(crate) fn resolve(&mut self, name: &str) -> Option<Slot> {
        let mut at = Some(self.scopes.len().checked_sub(1)?);
        let to = self.frames.len() - 1;
        while let Some(i) = at {
            let s = &self.scopes[i];
            if let Some(slot) = s.names.get(name) {
                let from = s.frame;
                return Some(match slot {
                    Slot::Value(v) if from < to => Slot::Value(lift(&mut self.frames, from, to, *v)),
                    Slot::List(l) if from < to => {
                        Slot::List(l.clone().iter().map(|v| lift(&mut self.frames, from, to, *v)).collect::<Vec<_>>().into())
                    }
                    s => s.clone(),
                });
            }
            at = s.parent;
        }
        None
    }

    fn visible(&self, name: &str) -> bool {
        let mut at = self.scopes.len().checked_sub(1);
        while let Some(i) = at {
            if self.scopes[i].names.contains_key(name) {
                return true;
            }
            at = self.scopes[i].parent;
        }
        false
    }

    /// Imports nodes into the current scope and frame; node paths begin with `prefix`.
    pub(crate) fn body(&mut self, nodes: &'m [NodeDef], prefix: &str) {
        let paths = NodePaths::new(nodes, prefix);
        let here = self.scopes.len() - 1;
        let s = check::schedule(nodes, |n| self.visible(n), |n| self.scopes[here].names.contains_key(n));
        for (name, first, second) in &s.duplicates {
            let by = first.map_or_else(|| "an input or initializer".to_string(), |f| format!("`{}`", paths.path(f)));
            let m = format!("`{name}` is defined twice, by {by} and by this node");
            self.diags.report(Diagnostic::error(Code::DUPLICATE_NAME, m).at(&*paths.path(*second)).op(op_text(&nodes[*second], None)));
        }
        for (name, node) in &s.undefined {
            let m = format!("`{name}` is used but defined nowhere");
            self.diags.report(Diagnostic::error(Code::UNDEFINED_NAME, m).at(&*paths.path(*node)).op(op_text(&nodes[*node], None)));
            self.scopes[here].names.insert(name, Slot::Poison);
        }
        if !s.cycle.is_empty() {
            let mut names: Vec<String> = s.cycle.iter().take(8).map(|&i| paths.path(i).to_string()).collect();
            if s.cycle.len() > 8 {
                names.push(format!("... {} more", s.cycle.len() - 8));
            }
            let first = s.cycle.first().map(|&i| paths.path(i));
            let d = Diagnostic::error(Code::CYCLE, format!("{} nodes need each other", s.cycle.len())).note(names.join(" -> "));
            self.diags.report(match first {
                Some(p) => d.at(&*p),
                None => d,
            });
        }
        // What is on or behind a cycle is never made.
        if s.order.len() < nodes.len() {
            let done: HashSet<usize> = s.order.iter().copied().collect();
            for n in nodes.iter().enumerate().filter(|(i, _)| !done.contains(i)).map(|(_, n)| n) {
                for o in &n.outputs {
                    self.scopes[here].names.entry(o).or_insert(Slot::Poison);
                }
            }
        }
        for i in s.order {
            if self.nodes_done >= MAX_NODES {
                let m = format!("the model has more than {MAX_NODES} nodes once its functions are inlined");
                self.diags.report(Diagnostic::error(Code::NESTING, m));
                return;
            }
            self.node(&nodes[i], paths.path(i));
        }
    }

    fn node(&mut self, n: &'m NodeDef, path: Arc<str>) {
        self.nodes_done += 1;
        self.tick(false);
        let mut slots: SmallVec<[Slot; 4]> = SmallVec::with_capacity(n.inputs.len());
        for name in &n.inputs {
            slots.push(if name.is_empty() { Slot::Absent } else { self.resolve(name).unwrap_or(Slot::Poison) });
        }
        let results = self.results(n, &path, slots);
        let results = match results {
            Ok(r) if r.len() > n.outputs.len() || n.outputs[r.len()..].iter().all(String::is_empty) => r,
            Ok(r) => {
                let m = format!("output {} (`{}`) is not computed here", r.len(), n.outputs[r.len()]);
                self.fault(Fault::new(Code::BAD_ARITY, m), Some(&path), Some(op_text(n, self.version(n))));
                r
            }
            Err(f) => {
                let operands = n.inputs.iter().filter(|name| !name.is_empty()).map(|name| self.operand_text(name)).collect();
                self.node_fault(f, &path, op_text(n, self.version(n)), operands);
                // The subgraphs of a node that failed are not imported, but their unknown operators are reported.
                for (label, g) in subgraphs(n) {
                    self.report_unknown(&g.nodes, &format!("{path}.{label}"));
                }
                n.outputs.iter().map(|name| self.stand_in(name)).collect()
            }
        };
        let mut results = results.into_iter();
        let top = self.frames.len() - 1;
        for name in &n.outputs {
            let slot = results.next().unwrap_or(Slot::Poison);
            if name.is_empty() {
                continue;
            }
            if let Slot::Value(v) = slot
                && self.frames[top].graph.value(v).name.is_none()
            {
                self.frames[top].graph.set_name(v, name.as_str());
            }
            if let Some(s) = self.scopes.last_mut() {
                s.names.entry(name).or_insert(slot);
            }
        }
    }

    /// An operand as reports show it.
    fn operand_text(&mut self, name: &str) -> String {
        match self.resolve(name) {
            Some(Slot::Value(v)) => format!("`{name}`: {}", self.frames[self.frames.len() - 1].graph.ty(v)),
            _ => format!("`{name}`"),
        }
    }

    /// Version of the operator set that a node belongs to.
    fn version(&self, n: &NodeDef) -> Option<i64> {
        self.scopes.last().and_then(|s| s.opsets.get(&n.domain)).copied()
    }

    fn results(&mut self, n: &'m NodeDef, path: &Arc<str>, slots: SmallVec<[Slot; 4]>) -> Result<Vec<Slot>, Fault> {
        if let Some((key, f)) = self.function(n) {
            return self.call(key, f, n, slots, path);
        }
        let Some(entry) = ops::find(&n.domain, &n.op) else {
            return Err(unknown_op(n));
        };
        let version = match self.version(n) {
            Some(v) => v,
            None if n.domain.is_empty() => {
                let f = Fault::new(Code::IR_VERSION, "the model imports no version of the operator set ai.onnx that this operator is from");
                return Err(f.help("add an opset_import for the domain ai.onnx"));
            }
            // Domains of a single version are often left out.
            None => 1,
        };
        if version < entry.since && n.domain.is_empty() {
            let m = format!("{} came with opset {}; the model imports opset {version}", n.op, entry.since);
            return Err(Fault::new(Code::UNKNOWN_OP, m));
        }
        if slots.iter().any(|s| matches!(s, Slot::Poison)) {
            return Err(Fault::follows());
        }
        if slots.len() < entry.least || slots.len() > entry.most {
            let expected = match (entry.least, entry.most) {
                (a, b) if a == b => a.to_string(),
                (a, usize::MAX) => format!("at least {a}"),
                (a, b) => format!("{a} to {b}"),
            };
            return Err(Fault::new(Code::BAD_ARITY, format!("{} inputs, expected {expected}", slots.len())));
        }
        let top = &self.frames[self.frames.len() - 1].graph;
        let dtype = |s: &Slot| match s {
            Slot::Value(v) => Some(top.ty(*v).dtype),
            _ => None,
        };
        schema::check(n, version, &slots.iter().map(dtype).collect::<SmallVec<[_; 4]>>())?;
        let env = self.scopes.last().map(|s| s.env.clone()).unwrap_or_default();
        (entry.import)(&mut Cx { imp: self, node: n, version, path: path.clone(), slots, env })
    }

    /// The model-local function that a node calls, if it calls one.
    fn function(&self, n: &NodeDef) -> Option<(&'m FunctionKey, &'m FunctionDef)> {
        if self.model.functions.is_empty() {
            return None;
        }
        self.model.functions.get_key_value(&(n.domain.clone(), n.op.clone(), n.overload.clone()))
    }

    fn call(
        &mut self,
        key: &'m FunctionKey,
        f: &'m FunctionDef,
        n: &'m NodeDef,
        slots: SmallVec<[Slot; 4]>,
        path: &Arc<str>,
    ) -> Result<Vec<Slot>, Fault> {
        if self.calls.contains(&key) {
            let chain: Vec<&str> = self.calls.iter().map(|k| k.1.as_str()).chain([f.name.as_str()]).collect();
            return Err(Fault::new(Code::NESTING, format!("function `{}` calls itself: {}", f.name, chain.join(" -> "))));
        }
        if self.calls.len() >= CALL_DEPTH {
            return Err(Fault::new(Code::NESTING, format!("more than {CALL_DEPTH} function calls lie in each other")));
        }
        if slots.len() > f.inputs.len() {
            let m = format!("{} inputs, function `{}` has {}", slots.len(), f.name, f.inputs.len());
            return Err(Fault::new(Code::BAD_ARITY, m));
        }
        let outer = self.scopes.last().map(|s| s.env.clone()).unwrap_or_default();
        let mut env: Env<'m> = f.defaults.iter().map(|a| (a.name.as_str(), &a.value)).collect();
        for a in &n.attrs {
            match &a.value {
                AttrValue::Ref(name) => {
                    if let Some(v) = outer.get(name.as_str()) {
                        env.insert(&a.name, v);
                    }
                }
                v => {
                    env.insert(&a.name, v);
                }
            }
        }
        let mut slots = slots.into_iter();
        let names = f.inputs.iter().map(|name| (name.as_str(), slots.next().unwrap_or(Slot::Absent))).collect();
        let frame = self.frames.len() - 1;
        self.calls.push(key);
        self.scopes.push(Scope { names, parent: None, frame, env: Rc::new(env), opsets: &f.opsets });
        self.body(&f.nodes, path);
        let mut out = Vec::with_capacity(f.outputs.len());
        for name in &f.outputs {
            out.push(match self.resolve(name) {
                Some(s) => s,
                None => {
                    let m = format!("output `{name}` of function `{}` is defined nowhere", f.name);
                    self.diags.report(Diagnostic::error(Code::UNDEFINED_NAME, m).at(&**path));
                    Slot::Poison
                }
            });
        }
        self.scopes.pop();
        self.calls.pop();
        Ok(out)
    }

    /// Opens a frame for a subgraph of the current scope whose own inputs have the given names and types.
    ///
    /// # Errors
    /// Nested too deeply.
    pub(crate) fn open_region(&mut self, own: &[(String, TensorType)], prefix: &str) -> Result<Vec<ValueId>, Fault> {
        if self.frames.len() > SUBGRAPH_DEPTH as usize {
            return Err(Fault::new(Code::NESTING, format!("more than {SUBGRAPH_DEPTH} subgraphs lie in each other")));
        }
        let mut graph = Graph::new(prefix.rsplit('/').next().unwrap_or(prefix));
        if let Some(outer) = self.frames.last() {
            outer.graph.symbols().iter().for_each(|s| graph.add_symbol(s.clone()));
        }
        let values = own.iter().map(|(name, ty)| graph.add_input(name.as_str(), ty.clone())).collect();
        self.frames.push(Frame::new(graph));
        Ok(values)
    }

    /// Imports the nodes of a subgraph into the current frame, its inputs bound to `inputs`; returns its outputs.
    ///
    /// # Errors
    /// Wrong number of inputs; [`Fault::follows`] when an error was reported inside.
    pub(crate) fn subgraph(&mut self, g: &'m GraphDef, inputs: Vec<Slot>, prefix: &str) -> Result<Vec<Slot>, Fault> {
        if self.scopes.len() > SUBGRAPH_DEPTH as usize + CALL_DEPTH + 1 {
            return Err(Fault::new(Code::NESTING, format!("more than {SUBGRAPH_DEPTH} subgraphs lie in each other")));
        }
        if inputs.len() != g.inputs.len() {
            let m = format!("subgraph `{}` has {} inputs, expected {}", g.name, g.inputs.len(), inputs.len());
            return Err(Fault::new(Code::BAD_ARITY, m));
        }
        let outer = self.scopes.len() - 1;
        let (env, opsets, frame) = (self.scopes[outer].env.clone(), self.scopes[outer].opsets, self.frames.len() - 1);
        let names = g.inputs.iter().map(|v| v.name.as_str()).zip(inputs).collect();
        self.scopes.push(Scope { names, parent: Some(outer), frame, env, opsets });
        let before = self.diags.all().len();
        self.initializers(g);
        self.body(&g.nodes, prefix);
        let mut out = Vec::with_capacity(g.outputs.len());
        for o in &g.outputs {
            let slot = self.resolve(&o.name);
            if slot.is_none() {
                let m = format!("output `{}` of the subgraph is defined nowhere", o.name);
                self.diags.report(Diagnostic::error(Code::UNDEFINED_NAME, m).at(prefix));
            }
            out.push(slot.unwrap_or(Slot::Poison));
        }
        self.scopes.pop();
        let failed = self.diags.all()[before..].iter().any(|d| d.severity == Severity::Error);
        if failed || out.iter().any(|s| matches!(s, Slot::Poison)) { Err(Fault::follows()) } else { Ok(out) }
    }

    /// Reports every unknown operator among nodes that are not imported.
    fn report_unknown(&mut self, nodes: &'m [NodeDef], prefix: &str) {
        let paths = NodePaths::new(nodes, prefix);
        for (i, n) in nodes.iter().enumerate() {
            if self.function(n).is_none() && ops::find(&n.domain, &n.op).is_none() {
                self.fault(unknown_op(n), Some(&paths.path(i)), Some(op_text(n, self.version(n))));
            }
            for (label, g) in subgraphs(n) {
                self.report_unknown(&g.nodes, &format!("{}.{label}", paths.path(i)));
            }
        }
    }
}

fn unknown_op(n: &NodeDef) -> Fault {
    let domain = if n.domain.is_empty() { "ai.onnx" } else { &n.domain };
    let f = Fault::new(Code::UNKNOWN_OP, format!("operator `{}` of `{domain}` is not known", n.op));
    if n.domain.is_empty() { f } else { f.help("ship it as a model-local function: a model may carry the definition of its own operators") }
}

/// Subgraphs of a node with the names that paths give them.
fn subgraphs(n: &NodeDef) -> Vec<(&str, &GraphDef)> {
    let label = |name: &'_ str| -> &'static str {
        match name {
            "then_branch" => "then",
            "else_branch" => "else",
            "score_mod" => "score_mod",
            "prob_mod" => "prob_mod",
            _ => "body",
        }
    };
    n.attrs.iter().flat_map(|a| a.value.graphs().iter().map(move |g| (label(&a.name), g))).collect()
}

/// Operator as reports name it: `Conv (ai.onnx 17)`.
fn op_text(n: &NodeDef, version: Option<i64>) -> String {
    let domain = if n.domain.is_empty() { "ai.onnx" } else { &n.domain };
    match version {
        Some(v) => format!("{} ({domain} {v})", n.op),
        None => format!("{} ({domain})", n.op),
    }
}

/// Paths of the nodes of one list. Nodes without a name, or with one that another has too, are told apart by their index.
struct NodePaths<'m> {
    prefix: String,
    nodes: &'m [NodeDef],
    repeated: HashSet<usize>,
}

impl<'m> NodePaths<'m> {
    fn new(nodes: &'m [NodeDef], prefix: &str) -> Self {
        let mut seen = HashSet::with_capacity(nodes.len());
        let repeated = nodes.iter().enumerate().filter(|(_, n)| !n.name.is_empty() && !seen.insert(n.name.as_str())).map(|(i, _)| i);
        let repeated = repeated.collect();
        NodePaths { prefix: prefix.to_string(), nodes, repeated }
    }
    fn path(&self, i: usize) -> Arc<str> {
        let n = &self.nodes[i];
        let name = n.name.trim_start_matches('/');
        if name.is_empty() {
            format!("{}/{}_{i}", self.prefix, n.op).into()
        } else if self.repeated.contains(&i) {
            format!("{}/{name}#{i}", self.prefix).into()
        } else {
            format!("{}/{name}", self.prefix).into()
        }
    }
}
