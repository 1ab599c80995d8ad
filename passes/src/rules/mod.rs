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
    for n in crate::rules::nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        for r in &mut regions {
            run(r, rules, cx, log);
        }
        *graph.regions_mut(n) = regions;
    }
    Driver::new(graph, rules).run(graph, cx, log);
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

struct Driver {
    by_root: HashMap<&'static str, Vec<&'static Rule>>,
    any: Vec<&'static Rule>,
    queue: BinaryHeap<Reverse<(u64, NodeId)>>,
    queued: SecondaryMap<NodeId, bool>,
    generation: SecondaryMap<NodeId, u32>,
    left: u64,
}

impl Driver {
    fn new(graph: &Graph, rules: &[&'static Rule]) -> Self {
        let mut by_root: HashMap<&'static str, Vec<&'static Rule>> = HashMap::new();
        let mut any = Vec::new();
        for r in rules {
            for m in r.roots {
                by_root.entry(m).or_default().push(r);
            }
            if r.roots.is_empty() {
                any.push(*r);
            }
        }
        let mut d = Driver {
            by_root,
            any,
            queue: BinaryHeap::new(),
            queued: SecondaryMap::default(),
            generation: SecondaryMap::default(),
            left: 16 * graph.len() as u64 + 4096,
        };
        graph.node_ids().for_each(|n| d.push(graph, n));
        d
    }

    fn push(&mut self, graph: &Graph, n: NodeId) {
        let node = graph.node(n);
        let wanted = !node.op.is_source() && (!self.any.is_empty() || self.by_root.contains_key(node.op.mnemonic()));
        if wanted && !std::mem::replace(&mut self.queued[n], true) {
            self.queue.push(Reverse((node.seq, n)));
        }
    }

    fn push_users(&mut self, graph: &Graph, n: NodeId, reach: usize) {
        // Who uses a source is not indexed; what a patch makes of a new source is among the nodes that it adds.
        if graph.node(n).op.is_source() {
            return;
        }
        for &v in &graph.node(n).results {
            for u in graph.users(v) {
                self.push(graph, u);
                if reach > 1 {
                    self.push_users(graph, u, reach - 1);
                }
            }
        }
    }

    fn run(mut self, graph: &mut Graph, cx: &RuleCx<'_>, log: &mut RuleLog) {
        while let Some(Reverse((_, n))) = self.queue.pop() {
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
