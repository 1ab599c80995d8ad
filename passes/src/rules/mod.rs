// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Named rewrite rules and the worklist that runs them.
//!
//! A rule looks at one node and returns a [`Patch`]; it never mutates. The driver visits nodes in import order, applies what rules
//! return, and visits again only what a patch touched: the nodes that it added or changed, their users up to [`REACH`] steps on, and the
//! producers whose number of users it lowered. So the cost of a run follows the size of the graph once and the size of the changes after.
//!
//! Two guards keep it finite whatever the rules are. A node that a patch makes is one generation older than the node that the rule
//! started from; past [`GENERATIONS`] no rule starts there any more, and the rule is reported as one that fires on its own output. And the
//! patches of one run are bounded by the size of the graph.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use portwright_ir::diag::{Code, Diagnostic};
use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{Graph, Node, NodeId, Patch};

use crate::spec::Math;

pub mod consts;
pub mod edit;

pub use edit::Edit;
pub use portwright_ir::graph::patch::Tap;

/// Generations of nodes that grow from one another before the driver takes it for a loop.
pub const GENERATIONS: u32 = 48;
/// How many steps along users a change is felt.
pub const REACH: usize = 2;
/// Users of a value beyond which a change is felt one step on only.
const FAN: usize = 1024;

/// What rules may know beside the graph.
#[derive(Copy, Clone)]
pub struct RuleCx<'a> {
    /// Which rounding is allowed.
    pub math: Math,
    /// Whether the machine has kernels for this node as it is.
    pub native: &'a (dyn Fn(&Graph, &Node) -> bool + 'a),
}

impl RuleCx<'_> {
    /// A context in which every core op is native and no composite is.
    pub fn plain(math: Math) -> RuleCx<'static> {
        RuleCx { math, native: &|_, n| !n.op.is_composite() }
    }
}

/// A rewrite with a name.
pub struct Rule {
    /// Name, as in origins, statistics and `--explain`.
    pub name: &'static str,
    /// What it does, before -> after in text IR.
    pub doc: &'static str,
    /// Mnemonics of the ops that it starts from; empty for all.
    pub roots: &'static [&'static str],
    /// The rewrite, starting from a node; `None` if it does not apply.
    pub apply: fn(&Graph, NodeId, &RuleCx<'_>) -> Option<Patch>,
}

/// Which rules fired how often, over all passes of a compilation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleLog {
    /// Count per rule.
    pub fired: BTreeMap<&'static str, u64>,
    /// Patches applied so far.
    pub patches: u64,
    /// Stop after that many patches (`--pass-limit`): with a comparison of results this bisects the compiler.
    pub limit: Option<u64>,
    /// Rules that grew from their own output, with the path of a node; each is a fault of the rule.
    pub refired: BTreeSet<(&'static str, Arc<str>)>,
    /// Patches that the graph refused, with its reason; each is a fault of the rule.
    pub refused: BTreeMap<&'static str, String>,
}

impl RuleLog {
    /// A log that stops the rules after `limit` patches.
    pub fn with_limit(limit: Option<u64>) -> Self {
        RuleLog { limit, ..Default::default() }
    }
    /// Whether no further patch may be applied.
    pub fn spent(&self) -> bool {
        self.limit.is_some_and(|l| self.patches >= l)
    }
    /// Counts one firing of a rewrite that is not a [`Rule`].
    pub fn count(&mut self, name: &'static str) {
        self.patches += 1;
        *self.fired.entry(name).or_default() += 1;
    }
    /// Faults of rules, as reports. The results are right nevertheless: a refused or endless rule is not applied.
    pub fn faults(&self) -> Vec<Diagnostic> {
        let endless = self.refired.iter().map(|(rule, path)| {
            Diagnostic::warning(Code::INTERNAL, format!("rule {rule} fires on its own output and was stopped")).at(path.to_string())
        });
        let refused = self.refused.iter().map(|(rule, why)| Diagnostic::warning(Code::INTERNAL, format!("rule {rule}: {why}")));
        endless.chain(refused).collect()
    }
}

/// Runs rules over a graph and the regions of its nodes until none applies.
pub fn run(graph: &mut Graph, rules: &[&'static Rule], cx: &RuleCx<'_>, log: &mut RuleLog) {
    regions(graph, rules, cx, log);
    let mut driver = Driver::new(graph, rules);
    for n in graph.node_ids() {
        driver.push(graph, n);
    }
    driver.run(graph, cx, log);
}

/// As [`run`], for a graph to which no rule applied before these nodes changed; all of its regions are visited.
pub fn run_from(graph: &mut Graph, rules: &[&'static Rule], mut changed: Vec<NodeId>, cx: &RuleCx<'_>, log: &mut RuleLog) {
    regions(graph, rules, cx, log);
    changed.sort_unstable();
    changed.dedup();
    let mut driver = Driver::new(graph, rules);
    for n in changed.into_iter().filter(|&n| graph.contains(n)).collect::<Vec<_>>() {
        driver.push(graph, n);
        driver.push_users(graph, n, REACH);
    }
    driver.run(graph, cx, log);
}

fn regions(graph: &mut Graph, rules: &[&'static Rule], cx: &RuleCx<'_>, log: &mut RuleLog) {
    for n in crate::rules::nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        for r in &mut regions {
            run(r, rules, cx, log);
        }
        *graph.regions_mut(n) = regions;
    }
}

/// Offers every node once to `rewrite`, nodes of regions first and each after what it needs, and applies the patches as the rule `name`.
pub fn sweep(graph: &mut Graph, name: &'static str, log: &mut RuleLog, rewrite: &dyn Fn(&Graph, NodeId) -> Option<Patch>) {
    for n in nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        regions.iter_mut().for_each(|r| sweep(r, name, log, rewrite));
        *graph.regions_mut(n) = regions;
    }
    for n in topological(graph) {
        if log.spent() {
            return;
        }
        if !graph.contains(n) {
            continue;
        }
        match rewrite(graph, n).map(|p| graph.apply(p)) {
            Some(Ok(_)) => log.count(name),
            Some(Err(fault)) => {
                log.refused.insert(name, fault.message);
            }
            None => {}
        }
    }
}

/// Nodes so that each comes after what it needs, sources first: [`Graph::order`] puts a source where it was imported, which may be after
/// its users.
pub fn topological(graph: &Graph) -> Vec<NodeId> {
    let (mut out, rest): (Vec<NodeId>, Vec<NodeId>) = graph.order().into_iter().partition(|&n| graph.node(n).op.is_source());
    out.extend(rest);
    out
}

/// Nodes that have nested graphs, by import order.
pub fn nodes_with_regions(graph: &Graph) -> Vec<NodeId> {
    let mut out: Vec<NodeId> = graph.node_ids().filter(|&n| !graph.node(n).regions.is_empty()).collect();
    out.sort_by_key(|&n| (graph.node(n).seq, n));
    out
}

/// Hashes the short names of ops, which is asked for every visit of a node.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // FNV-1a.
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

type ByName<V> = HashMap<&'static str, V, BuildHasherDefault<NameHasher>>;

struct Driver {
    by_root: ByName<Vec<&'static Rule>>,
    any: Vec<&'static Rule>,
    /// Nodes that wait from the start, in descending order, and those that came since.
    first: Vec<(u64, NodeId)>,
    queue: BinaryHeap<Reverse<(u64, NodeId)>>,
    started: bool,
    queued: SecondaryMap<NodeId, bool>,
    generation: SecondaryMap<NodeId, u32>,
    left: u64,
}

impl Driver {
    fn new(graph: &Graph, rules: &[&'static Rule]) -> Self {
        let mut by_root: ByName<Vec<&'static Rule>> = ByName::default();
        let mut any = Vec::new();
        for r in rules {
            for m in r.roots {
                by_root.entry(m).or_default().push(r);
            }
            if r.roots.is_empty() {
                any.push(*r);
            }
        }
        Driver {
            by_root,
            any,
            first: Vec::new(),
            queue: BinaryHeap::new(),
            started: false,
            queued: SecondaryMap::default(),
            generation: SecondaryMap::default(),
            left: 16 * graph.len() as u64 + 4096,
        }
    }

    fn push(&mut self, graph: &Graph, n: NodeId) {
        let node = graph.node(n);
        let wanted = !node.op.is_source() && (!self.any.is_empty() || self.by_root.contains_key(node.op.mnemonic()));
        if wanted && !std::mem::replace(&mut self.queued[n], true) {
            match self.started {
                true => self.queue.push(Reverse((node.seq, n))),
                false => self.first.push((node.seq, n)),
            }
        }
    }

    /// The first of all that wait.
    fn pop(&mut self) -> Option<NodeId> {
        match (self.first.last(), self.queue.peek()) {
            (Some(f), Some(Reverse(q))) if q < f => self.queue.pop().map(|Reverse((_, n))| n),
            (Some(_), _) => self.first.pop().map(|(_, n)| n),
            (None, _) => self.queue.pop().map(|Reverse((_, n))| n),
        }
    }

    fn push_users(&mut self, graph: &Graph, n: NodeId, reach: usize) {
        // Who uses a source is not indexed; what a patch makes of a new source is among the nodes that it adds.
        if graph.node(n).op.is_source() {
            return;
        }
        for &v in &graph.node(n).results {
            for (u, _) in graph.uses(v) {
                self.push(graph, u);
            }
            // Behind what many nodes feed and many use, every change would be felt by all.
            if reach > 1 && graph.uses(v).nth(FAN).is_none() {
                for (u, _) in graph.uses(v) {
                    self.push_users(graph, u, reach - 1);
                }
            }
        }
    }

    fn run(mut self, graph: &mut Graph, cx: &RuleCx<'_>, log: &mut RuleLog) {
        self.first.sort_unstable_by(|a, b| b.cmp(a));
        self.started = true;
        while let Some(n) = self.pop() {
            self.queued[n] = false;
            // Ids of removed nodes are given out again, so an entry may stand for another node: visiting it does no harm.
            if graph.contains(n) && !log.spent() && self.left > 0 {
                self.visit(graph, n, cx, log);
            }
        }
    }

    /// Applies the first rule that fits.
    fn visit(&mut self, graph: &mut Graph, n: NodeId, cx: &RuleCx<'_>, log: &mut RuleLog) {
        let fitting = self.by_root.get(graph.node(n).op.mnemonic()).into_iter().flatten().chain(&self.any);
        let Some((rule, patch)) = fitting.copied().find_map(|r| (r.apply)(graph, n, cx).map(|p| (r, p))) else {
            return;
        };
        let generation = self.generation[n] + 1;
        if generation > GENERATIONS {
            log.refired.insert((rule.name, graph.node(n).origin.first().into()));
            return;
        }
        let feeders: Vec<NodeId> = patch
            .from
            .iter()
            .flat_map(|&m| &graph.node(m).operands)
            .filter_map(|&v| graph.producer_id(v))
            .filter(|&m| !graph.node(m).op.is_source())
            .collect();
        match graph.apply(patch) {
            Ok(applied) => {
                self.left -= 1;
                log.count(rule.name);
                for &m in &applied.added {
                    self.generation[m] = generation;
                }
                for &m in applied.added.iter().chain(&applied.changed) {
                    self.push(graph, m);
                    self.push_users(graph, m, REACH);
                }
                for m in feeders {
                    if graph.contains(m) {
                        self.push(graph, m);
                    }
                }
            }
            Err(fault) => {
                log.refused.insert(rule.name, fault.message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
