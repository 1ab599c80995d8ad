// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The order of nodes, and which of them are needed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use super::{Graph, NodeId, Op, attr};
use crate::entity::EntityId;
use crate::sym::SymName;

impl Graph {
    /// Nodes so that each comes after what it needs, ties by import order. Nodes on a cycle are left out.
    ///
    /// Sources need nothing: one that a patch made later than its user comes just before it.
    pub fn order(&self) -> Vec<NodeId> {
        self.ordered.get_or_init(|| self.compute_order()).clone()
    }
    fn compute_order(&self) -> Vec<NodeId> {
        let mut sorted: Vec<(u64, NodeId)> = self.node_ids().map(|n| (self.node(n).seq, n)).collect();
        sorted.sort_unstable();
        let mut rank = vec![0u32; self.nodes.bound()];
        for (i, (_, n)) in sorted.iter().enumerate() {
            rank[n.index()] = i as u32;
        }
        let mut missing = vec![0u32; self.nodes.bound()];
        let mut symbol_users: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        for n in self.node_ids() {
            let needed = self.node(n).operands.iter().filter(|&&v| !self.values[v].source).filter_map(|&v| self.producer_id(v));
            let mut count = needed.filter(|&p| self.contains(p)).count();
            if !self.symbol_nodes.is_empty() {
                for d in self.symbol_definers(n) {
                    symbol_users.entry(d).or_default().push(n);
                    count += 1;
                }
            }
            missing[n.index()] = count as u32;
        }
        // The smallest that is ready is the next in the sorted list, unless one that was passed over has become ready since.
        let mut passed: BinaryHeap<Reverse<u32>> = BinaryHeap::new();
        let mut early = vec![false; self.nodes.bound()];
        let mut out = Vec::with_capacity(sorted.len());
        let mut at = 0;
        loop {
            let i = match passed.pop() {
                Some(Reverse(i)) => i as usize,
                None if at == sorted.len() => break,
                None => {
                    at += 1;
                    at - 1
                }
            };
            let n = sorted[i].1;
            if missing[n.index()] > 0 {
                continue;
            }
            let node = self.node(n);
            if node.op.is_source() {
                if !std::mem::replace(&mut early[n.index()], true) {
                    out.push(n);
                }
                continue;
            }
            for s in node.operands.iter().filter(|&&v| self.values[v].source).filter_map(|&v| self.producer_id(v)) {
                let late = rank[s.index()] as usize > i && self.contains(s);
                if late && !std::mem::replace(&mut early[s.index()], true) {
                    out.push(s);
                }
            }
            out.push(n);
            let mut done = |m: NodeId| {
                let left = &mut missing[m.index()];
                *left = left.saturating_sub(1);
                if *left == 0 && (rank[m.index()] as usize) < at {
                    passed.push(Reverse(rank[m.index()]));
                }
            };
            for &v in &node.results {
                self.uses(v).for_each(|(m, _)| done(m));
            }
            symbol_users.remove(&n).unwrap_or_default().into_iter().for_each(done);
        }
        out
    }
    /// Nodes that must run before `n` because they define symbols in its types, attributes and regions, or in those of the sources that it
    /// takes: sources wait for nobody, so who takes one waits for its symbols.
    fn symbol_definers(&self, n: NodeId) -> BTreeSet<NodeId> {
        let node = self.node(n);
        let mut names = BTreeSet::new();
        let sources = node.operands.iter().filter(|&&v| self.values[v].source).filter_map(|&v| self.producer(v));
        for part in sources.chain([node]) {
            for &v in &part.results {
                self.values[v].ty.dims.iter().for_each(|d| d.collect_symbols(&mut names));
            }
            collect_attr_symbols(&part.op, &mut names);
        }
        node.regions.iter().for_each(|r| r.collect_free_symbols(&mut names));
        names.iter().filter_map(|s| self.symbol_definer(s)).filter(|&d| d != n).collect()
    }

    /// Removes every node that no output and no used symbol needs; returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        if self.symbol_nodes.is_empty() {
            return self.remove_unused();
        }
        let mut live: Vec<bool> = vec![false; self.nodes.bound()];
        let mut work: Vec<NodeId> = Vec::new();
        // Symbols that are needed, each followed once to the node that defines it.
        let mut used: BTreeSet<SymName> = BTreeSet::new();
        let mut followed: HashSet<SymName> = HashSet::new();
        for o in &self.outputs {
            work.extend(self.producer_id(o.value));
            self.values[o.value].ty.dims.iter().for_each(|d| d.collect_symbols(&mut used));
        }
        for c in &self.constraints {
            c.left.collect_symbols(&mut used);
            c.right.collect_symbols(&mut used);
        }
        loop {
            while let Some(n) = work.pop() {
                if std::mem::replace(&mut live[n.index()], true) {
                    continue;
                }
                let node = self.node(n);
                if !self.symbol_nodes.is_empty() {
                    for &v in node.operands.iter().chain(&node.results) {
                        self.values[v].ty.dims.iter().for_each(|d| d.collect_symbols(&mut used));
                    }
                    collect_attr_symbols(&node.op, &mut used);
                    node.regions.iter().for_each(|r| r.collect_free_symbols(&mut used));
                }
                work.extend(node.operands.iter().filter_map(|&v| self.producer_id(v)));
            }
            for s in std::mem::take(&mut used) {
                if !followed.contains(&s) {
                    work.extend(self.symbol_definer(&s).filter(|n| !live[n.index()]));
                    followed.insert(s);
                }
            }
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
    /// As [`remove_dead`](Self::remove_dead), where no node defines symbols: what nobody uses goes, and then what only that used.
    fn remove_unused(&mut self) -> usize {
        let mut uses: Vec<u32> = vec![0; self.nodes.bound()];
        let operands = self.node_ids().flat_map(|n| &self.node(n).operands);
        for p in operands.chain(self.outputs.iter().map(|o| &o.value)).filter_map(|&v| self.producer_id(v)) {
            uses[p.index()] += 1;
        }
        let mut dead: Vec<NodeId> = self.node_ids().filter(|n| uses[n.index()] == 0).collect();
        let mut at = 0;
        while let Some(&n) = dead.get(at) {
            at += 1;
            for p in self.node(n).operands.iter().filter_map(|&v| self.producer_id(v)) {
                uses[p.index()] -= 1;
                if uses[p.index()] == 0 {
                    dead.push(p);
                }
            }
        }
        dead.sort_unstable();
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
