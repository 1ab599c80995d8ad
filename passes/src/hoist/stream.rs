// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pack program, result by result: what makes weights larger than memory pass through it.
//!
//! Results that share no computation are units, each of which can run, be written and be forgotten alone. Units that differ only in
//! which weights they read are one [`Stream`]: a graph whose inputs are those weights, and a list of runs. So a model of sixty equal
//! layers needs the kernels of one, and memory for the largest unit instead of for all.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{Graph, NodeId, TypeFault, ValueId};
use portwright_ir::weight::Weight;

use super::parts;

/// A pack program that reads and writes no more bytes than this runs as one.
pub const AT_ONCE: u64 = 256 << 20;

/// One unit of a stream.
#[derive(Clone, Debug)]
pub struct Run {
    /// Weights for the inputs of the graph, by position.
    pub inputs: Vec<Weight>,
    /// Packed weights that its outputs are, by position; or one part of each, as many bytes as an output has.
    pub outputs: Vec<Arc<str>>,
    /// Which part, counted from 0.
    pub part: u64,
}

/// Units of one form.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What a unit computes: inputs are weights, outputs packed weights.
    pub graph: Graph,
    /// The units, in the order of the pack program's outputs.
    pub runs: Vec<Run>,
}

/// Bytes of the weights that a pack program reads and of those that it makes.
pub fn bytes(pack: &Graph) -> u64 {
    let made = pack.outputs().iter().map(|o| {
        let ty = pack.ty(o.value);
        ty.elems().as_const().and_then(|n| ty.dtype.bytes_for(u64::try_from(n).ok()?)).unwrap_or(u64::MAX)
    });
    let read = pack.weights().values().map(|w| w.bytes_len().unwrap_or(u64::MAX));
    made.chain(read).fold(0, u64::saturating_add)
}

/// Cuts a pack program, fused or not, into streams.
///
/// # Errors
/// What inference says of a copied node, which is a fault of this pass.
pub fn streams(pack: &Graph) -> Result<Vec<Stream>, TypeFault> {
    let order = crate::rules::topological(pack);
    let mut units = Units::default();
    for &n in order.iter().filter(|&&n| !pack.node(n).op.is_source()) {
        units.add(pack, n);
    }
    // Units by their first output, each with its nodes in order and its outputs.
    let mut at: HashMap<u32, usize> = HashMap::new();
    let mut parts: Vec<(Vec<NodeId>, Vec<usize>)> = Vec::new();
    for (i, o) in pack.outputs().iter().enumerate() {
        // An output that is a source has a unit of its own.
        let unit = pack.producer_id(o.value).and_then(|n| units.find(n));
        let part = match unit {
            Some(u) => *at.entry(u).or_insert(parts.len()),
            None => parts.len(),
        };
        if part == parts.len() {
            parts.push(Default::default());
        }
        parts[part].1.push(i);
    }
    for &n in &order {
        if let Some(part) = units.find(n).and_then(|u| at.get(&u)) {
            parts[*part].0.push(n);
        }
    }
    let mut out: Vec<Stream> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (nodes, outputs) in parts {
        let (graph, run) = unit(pack, &nodes, &outputs)?;
        let (graph, runs) = parts::apart(&graph, &run).unwrap_or_else(|| (graph, vec![run]));
        let mut form = String::new();
        describe(&graph, &mut form);
        match known.get(&form) {
            Some(&i) => out[i].runs.extend(runs),
            None => {
                known.insert(form, out.len());
                out.push(Stream { graph, runs });
            }
        }
    }
    Ok(out)
}

/// Nodes by what they share.
#[derive(Default)]
struct Units {
    of: SecondaryMap<NodeId, Option<u32>>,
    parent: Vec<u32>,
}

impl Units {
    fn root(&mut self, mut u: u32) -> u32 {
        while self.parent[u as usize] != u {
            let up = self.parent[self.parent[u as usize] as usize];
            self.parent[u as usize] = up;
            u = up;
        }
        u
    }
    fn find(&mut self, n: NodeId) -> Option<u32> {
        self.of[n].map(|u| self.root(u))
    }
    /// Puts a node to those that make its operands.
    fn add(&mut self, g: &Graph, n: NodeId) {
        let own = self.parent.len() as u32;
        self.parent.push(own);
        self.of[n] = Some(own);
        for p in g.node(n).operands.iter().filter_map(|&v| g.producer_id(v)) {
            if let Some(u) = self.find(p) {
                let own = self.root(own);
                // The older one stays the root.
                self.parent[u.max(own) as usize] = u.min(own);
            }
        }
    }
}

/// Copies nodes into a graph of their own: weights become inputs, other sources come along.
fn unit(pack: &Graph, nodes: &[NodeId], outputs: &[usize]) -> Result<(Graph, Run), TypeFault> {
    let mut g = Graph::new(pack.name.clone());
    pack.symbols().iter().for_each(|s| g.add_symbol(s.clone()));
    let mut run = Run { inputs: Vec::new(), outputs: Vec::new(), part: 0 };
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    let read = |g: &mut Graph, map: &mut HashMap<ValueId, ValueId>, run: &mut Run, v: ValueId| -> Result<ValueId, TypeFault> {
        if let Some(&new) = map.get(&v) {
            return Ok(new);
        }
        let new = match (pack.as_weight(v), pack.producer(v)) {
            (Some(weight), _) => {
                run.inputs.push(pack.weight(weight).clone());
                g.add_input(format!("w{}", run.inputs.len() - 1), pack.ty(v).clone())
            }
            (None, Some(p)) if p.op.is_source() => {
                let m = g.insert(p.op.clone(), &[], Vec::new(), p.origin.clone(), p.seq)?;
                g.result(m)
            }
            _ => return Err(TypeFault::new(portwright_ir::diag::Code::INTERNAL, "a value of the pack program is read before it is made")),
        };
        map.insert(v, new);
        Ok(new)
    };
    for &n in nodes {
        let node = pack.node(n);
        let operands = node.operands.iter().map(|&v| read(&mut g, &mut map, &mut run, v)).collect::<Result<Vec<_>, _>>()?;
        let m = g.insert(node.op.clone(), &operands, node.regions.clone(), node.origin.clone(), node.seq)?;
        map.extend(node.results.iter().copied().zip(g.node(m).results.iter().copied()));
    }
    for &i in outputs {
        let o = &pack.outputs()[i];
        let v = read(&mut g, &mut map, &mut run, o.value)?;
        g.add_output(format!("p{}", run.outputs.len()), v);
        run.outputs.push(o.name.clone());
    }
    Ok((g, run))
}

/// Writes what a graph computes, without names: graphs of one text are one program.
fn describe(g: &Graph, out: &mut String) {
    let mut position: HashMap<ValueId, usize> = HashMap::new();
    for &v in g.inputs() {
        let _ = write!(out, "{};", g.ty(v));
        position.insert(v, position.len());
    }
    for n in g.order() {
        let node = g.node(n);
        let _ = write!(out, "{:?}(", node.op);
        for v in &node.operands {
            let _ = write!(out, "{},", position.get(v).copied().unwrap_or(usize::MAX));
        }
        for r in &node.regions {
            out.push('{');
            describe(r, out);
            out.push('}');
        }
        for &v in &node.results {
            let _ = write!(out, ":{}", g.ty(v));
            position.insert(v, position.len());
        }
        out.push(';');
    }
    for o in g.outputs() {
        let _ = write!(out, "={}", position.get(&o.value).copied().unwrap_or(usize::MAX));
    }
}
