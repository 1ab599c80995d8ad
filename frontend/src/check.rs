// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Order and names of a list of nodes: duplicates, names that nothing defines, cycles.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::model::{GraphDef, NodeDef};

/// Names that a subgraph takes from around it, each possibly several times.
pub fn free_names<'m>(g: &'m GraphDef, out: &mut Vec<&'m str>) {
    let mut local: HashSet<&str> = g.inputs.iter().map(|v| v.name.as_str()).collect();
    local.extend(g.initializers.iter().map(|t| t.name.as_str()));
    local.extend(g.nodes.iter().flat_map(|n| &n.outputs).map(String::as_str));
    let mut inner = Vec::new();
    for n in &g.nodes {
        inner.clear();
        needs(n, &mut inner);
        out.extend(inner.iter().filter(|name| !local.contains(**name)));
    }
    out.extend(g.outputs.iter().map(|v| v.name.as_str()).filter(|name| !name.is_empty() && !local.contains(name)));
}

/// Names that a node needs: its inputs and what its subgraphs take from around them.
pub fn needs<'m>(n: &'m NodeDef, out: &mut Vec<&'m str>) {
    out.extend(n.inputs.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for g in n.attrs.iter().flat_map(|a| a.value.graphs()) {
        free_names(g, out);
    }
}

/// What is wrong with a list of nodes, and the order in which it can be imported.
#[derive(Debug, Default)]
pub struct Schedule<'m> {
    /// Nodes so that each comes after what it needs, ties in file order. Nodes on or behind a cycle are left out.
    pub order: Vec<usize>,
    /// `(name, first node, second node)`: defined by both; no first node when an input or initializer defines it.
    pub duplicates: Vec<(&'m str, Option<usize>, usize)>,
    /// `(name, node)`: needed by the node, defined nowhere.
    pub undefined: Vec<(&'m str, usize)>,
    /// One cycle, as nodes that each need the one before; empty if there is none.
    pub cycle: Vec<usize>,
}

/// Orders nodes. `known` says whether a name is defined before the first of them, `local` whether that is in the same scope.
pub fn schedule<'m>(nodes: &'m [NodeDef], known: impl Fn(&str) -> bool, local: impl Fn(&str) -> bool) -> Schedule<'m> {
    let mut s = Schedule::default();
    let mut definer: HashMap<&str, usize> = HashMap::with_capacity(nodes.len());
    for (i, n) in nodes.iter().enumerate() {
        for name in n.outputs.iter().map(String::as_str).filter(|n| !n.is_empty()) {
            if local(name) {
                s.duplicates.push((name, None, i));
            } else if let Some(&first) = definer.get(name) {
                s.duplicates.push((name, Some(first), i));
            } else {
                definer.insert(name, i);
            }
        }
    }
    let mut sorted = true;
    let mut wanted = Vec::new();
    for (i, n) in nodes.iter().enumerate() {
        wanted.clear();
        needs(n, &mut wanted);
        for &name in &wanted {
            match definer.get(name) {
                Some(&d) => sorted &= d < i,
                None if known(name) => {}
                None => s.undefined.push((name, i)),
            }
        }
    }
    s.undefined.dedup();
    if sorted {
        s.order = (0..nodes.len()).collect();
        return s;
    }
    let mut missing = vec![0usize; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, n) in nodes.iter().enumerate() {
        wanted.clear();
        needs(n, &mut wanted);
        let mut producers: Vec<usize> = wanted.iter().filter_map(|name| definer.get(name).copied()).collect();
        producers.sort_unstable();
        producers.dedup();
        missing[i] = producers.len();
        producers.iter().for_each(|&p| users[p].push(i));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|&i| missing[i] == 0).map(Reverse).collect();
    while let Some(Reverse(i)) = ready.pop() {
        s.order.push(i);
        for &u in &users[i] {
            missing[u] -= 1;
            if missing[u] == 0 {
                ready.push(Reverse(u));
            }
        }
    }
    if s.order.len() < nodes.len() {
        s.cycle = find_cycle(&users, &missing);
    }
    s
}

/// Walks backwards among the nodes that were never ready until one comes twice.
fn find_cycle(users: &[Vec<usize>], missing: &[usize]) -> Vec<usize> {
    let mut before: HashMap<usize, usize> = HashMap::new();
    for (p, list) in users.iter().enumerate().filter(|(p, _)| missing[*p] > 0) {
        for &u in list {
            before.entry(u).or_insert(p);
        }
    }
    let Some(mut at) = (0..missing.len()).find(|&i| missing[i] > 0 && before.contains_key(&i)) else {
        return Vec::new();
    };
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut walk = Vec::new();
    loop {
        if let Some(&start) = seen.get(&at) {
            let mut cycle = walk.split_off(start);
            cycle.reverse();
            // From the node that comes first in the file.
            let first = cycle.iter().enumerate().min_by_key(|(_, n)| **n).map_or(0, |(i, _)| i);
            cycle.rotate_left(first);
            return cycle;
        }
        seen.insert(at, walk.len());
        walk.push(at);
        match before.get(&at) {
            Some(&p) => at = p,
            None => return Vec::new(),
        }
    }
}
