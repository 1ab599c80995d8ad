// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The graph of groups.

use std::collections::{BTreeSet, HashMap};

use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{FusionKind, Graph, Node, NodeId, Op, Origin, TypeFault, ValueId, collect_attr_symbols};

use super::classify::{Class, class, computes_operands, inlined};
use super::group::{Group, Grouping, Kind};
use crate::rules::RuleLog;

/// Members of a group in order, with what it reads from elsewhere.
struct Body {
    group: u32,
    nodes: Vec<NodeId>,
    reads: Vec<ValueId>,
}

/// Whether a node goes on with what it has stored, so that all its results have memory.
fn keeps_states(node: &Node) -> bool {
    matches!(node.op, Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. })
}

/// Whether `node` copies one-element constants and generated operands into its region.
fn copies_sources(g: &Graph, n: NodeId) -> bool {
    match class(g, g.node(n)) {
        Class::Core(kind) => computes_operands(kind),
        c => !matches!(c, Class::Alone(_) | Class::Stays),
    }
}

fn body(g: &Graph, plan: &Grouping, index: usize, group: &Group) -> Body {
    let mut nodes = group.nodes.clone();
    nodes.sort_by_key(|&n| plan.position[n]);
    nodes.dedup();
    let mut reads = Vec::new();
    let mut known: BTreeSet<ValueId> = BTreeSet::new();
    for &n in &nodes {
        let node = g.node(n);
        let copies = copies_sources(g, n);
        for &v in &node.operands {
            let generated = copies && g.producer(v).is_some_and(|p| inlined(&p.op));
            if !generated && known.insert(v) {
                reads.push(v);
            }
        }
        known.extend(&node.results);
    }
    Body { group: index as u32, nodes, reads }
}

pub(super) fn emit(g: &Graph, plan: &Grouping, log: &mut RuleLog) -> Result<Graph, TypeFault> {
    let mut groups: Vec<(usize, &Group)> = plan.groups.iter().enumerate().filter(|(_, group)| !group.nodes.is_empty()).collect();
    groups.sort_by_key(|(_, group)| group.at);
    let bodies: Vec<Body> = groups.iter().map(|(i, group)| body(g, plan, *i, group)).collect();
    let mut stored: SecondaryMap<ValueId, bool> = SecondaryMap::default();
    bodies.iter().flat_map(|b| &b.reads).for_each(|&v| stored[v] = true);
    g.outputs().iter().for_each(|o| stored[o.value] = true);

    let mut e = Emit { g, plan, out: Graph::new(g.name.clone()), map: SecondaryMap::default() };
    g.symbols().iter().for_each(|s| e.out.add_symbol(s.clone()));
    for w in g.weights().values() {
        e.out.add_weight(w.clone());
    }
    for &v in g.inputs() {
        let value = g.value(v);
        e.map[v] = Some(e.out.add_input(value.name.clone().unwrap_or_default(), value.ty.clone()));
    }
    e.out.constraints.clone_from(&g.constraints);
    e.out.texts.clone_from(&g.texts);
    for ((_, group), body) in groups.into_iter().zip(bodies) {
        match group.kind {
            Kind::Stays => e.stay(&body)?,
            Kind::Fused(kind) => {
                e.fusion(kind, &body, &stored)?;
                log.count("fuse");
            }
        }
    }
    for (i, o) in g.outputs().iter().enumerate() {
        let v = e.operand(o.value)?;
        e.out.add_output(o.name.clone(), v);
        e.out.set_alias(i, o.alias_of);
    }
    Ok(e.out)
}

struct Emit<'g> {
    g: &'g Graph,
    plan: &'g Grouping,
    out: Graph,
    map: SecondaryMap<ValueId, Option<ValueId>>,
}

impl Emit<'_> {
    /// The value in the new graph; sources are copied when they are first asked for.
    fn operand(&mut self, v: ValueId) -> Result<ValueId, TypeFault> {
        if let Some(new) = self.map[v] {
            return Ok(new);
        }
        match self.g.producer_id(v) {
            Some(n) if self.g.node(n).op.is_source() => {
                let node = self.g.node(n);
                let m = self.out.insert(node.op.clone(), &[], Vec::new(), node.origin.clone(), node.seq)?;
                self.results(n, m);
                Ok(self.out.result(m))
            }
            _ => Err(TypeFault::new(portwright_ir::diag::Code::INTERNAL, format!("value {v:?} is read before it is made"))),
        }
    }

    fn results(&mut self, old: NodeId, new: NodeId) {
        for (i, &v) in self.g.node(old).results.iter().enumerate() {
            let w = self.out.node(new).results[i];
            self.map[v] = Some(w);
            if let Some(name) = &self.g.value(v).name {
                self.out.set_name(w, name.clone());
            }
        }
    }

    fn stay(&mut self, body: &Body) -> Result<(), TypeFault> {
        for &n in &body.nodes {
            let node = self.g.node(n);
            let operands = node.operands.iter().map(|&v| self.operand(v)).collect::<Result<Vec<_>, _>>()?;
            let m = self.out.insert(node.op.clone(), &operands, node.regions.clone(), node.origin.clone(), node.seq)?;
            self.results(n, m);
        }
        Ok(())
    }

    fn fusion(&mut self, kind: FusionKind, body: &Body, stored: &SecondaryMap<ValueId, bool>) -> Result<(), TypeFault> {
        let g = self.g;
        let results: Vec<ValueId> =
            body.nodes.iter().flat_map(|&n| &g.node(n).results).copied().filter(|&v| self.keeps(v, body, stored)).collect();
        if results.is_empty() {
            return Ok(());
        }
        let mut region = Graph::new("");
        let mut names = BTreeSet::new();
        for &v in &body.reads {
            g.ty(v).dims.iter().for_each(|d| d.collect_symbols(&mut names));
        }
        for &n in &body.nodes {
            let node = g.node(n);
            let sources = node.operands.iter().filter_map(|&v| g.producer(v)).filter(|p| p.op.is_source());
            for part in sources.chain([node]) {
                collect_attr_symbols(&part.op, &mut names);
                part.results.iter().for_each(|&v| g.ty(v).dims.iter().for_each(|d| d.collect_symbols(&mut names)));
            }
        }
        names.iter().filter_map(|s| g.symbol(s)).for_each(|s| region.add_symbol(s.clone()));
        let mut local: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, &v) in body.reads.iter().enumerate() {
            local.insert(v, region.add_input(format!("i{i}"), g.ty(v).clone()));
        }
        for &n in &body.nodes {
            let node = g.node(n);
            let mut operands = Vec::with_capacity(node.operands.len());
            for &v in &node.operands {
                if !local.contains_key(&v)
                    && let Some(source) = g.producer(v).filter(|p| p.op.is_source())
                {
                    let m = region.insert(source.op.clone(), &[], Vec::new(), source.origin.clone(), source.seq)?;
                    local.insert(v, region.result(m));
                }
                operands.extend(local.get(&v).copied());
            }
            let m = region.insert(node.op.clone(), &operands, node.regions.clone(), node.origin.clone(), node.seq)?;
            local.extend(node.results.iter().copied().zip(region.node(m).results.iter().copied()));
        }
        for (i, v) in results.iter().enumerate() {
            if let Some(&w) = local.get(v) {
                region.add_output(format!("o{i}"), w);
            }
        }
        region.constraints.clear();
        let operands = body.reads.iter().map(|&v| self.operand(v)).collect::<Result<Vec<_>, _>>()?;
        let origin = Origin::merge(body.nodes.iter().map(|&n| &g.node(n).origin), "fuse");
        let seq = body.nodes.iter().map(|&n| g.node(n).seq).max().unwrap_or(0);
        let m = self.out.insert(Op::Fusion { kind }, &operands, vec![region], origin, seq)?;
        for (i, &v) in results.iter().enumerate() {
            let w = self.out.node(m).results[i];
            self.map[v] = Some(w);
            if let Some(name) = &g.value(v).name {
                self.out.set_name(w, name.clone());
            }
        }
        Ok(())
    }

    /// Whether a member's result is stored by this group: it is read elsewhere, and the member is no copy.
    fn keeps(&self, v: ValueId, body: &Body, stored: &SecondaryMap<ValueId, bool>) -> bool {
        (stored[v] || self.g.producer(v).is_some_and(keeps_states))
            && self.g.producer_id(v).is_some_and(|n| self.plan.of[n] == Some(body.group))
    }
}
