// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright check`: the real pipeline up to the plan, for every model and target, with no code made.
//!
//! What cannot be read or has no kernels is set aside and the rest goes on, so that one run says all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered, Severity};
use portwright_ir::graph::Graph;
use portwright_passes::kernel_rules::{self, Emulation};
use portwright_passes::legalize::{self, Support};
use portwright_passes::pipeline::{self, Compiled};
use portwright_passes::prepare;
use portwright_passes::spec::MachineClass;
use portwright_passes::work;
use portwright_targets::cfamily;
use portwright_targets::target::{self, Roof};
use serde::Serialize;

use crate::args::{CheckArgs, TargetArgs};
use crate::bill::{Bill, Interface};
use crate::compile::Options;
use crate::roof::{Estimate, size, time};
use crate::{Cx, compile, model, report};

/// How the nodes of a model are computed: each by the least direct way that a part of it goes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Nodes of the model, those of its subgraphs and functions included.
    pub nodes: usize,
    /// By kernels as they are.
    pub native: usize,
    /// Through simpler operations, by the rule's name.
    pub decomposed: BTreeMap<String, usize>,
    /// In a wider dtype than their own, by the rule's name.
    pub emulated: BTreeMap<String, usize>,
    /// By the host.
    pub fallback: usize,
    /// Before the model runs, or by the plan: constants, shapes, views that nothing computes.
    pub folded: usize,
    /// Not at all.
    pub rejected: usize,
}

/// What a model becomes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Distinct kernels.
    pub kernels: usize,
    /// Statements of the plan.
    pub statements: usize,
    /// Bytes of the weight store.
    pub weight_bytes: u64,
    /// What it takes, and what one step of it has to do.
    #[serde(skip)]
    pub bill: Option<Bill>,
    /// The least time of one step on the chip.
    #[serde(skip)]
    pub estimate: Option<Estimate>,
    /// What kernels are written with and the chip lacks, by the rule that emulates it.
    #[serde(skip)]
    pub emulations: Vec<Emulation>,
}

/// One model on one target.
pub struct Outcome {
    /// The model's file.
    pub model: String,
    /// The target.
    pub target: String,
    /// How its nodes are computed.
    pub counts: Counts,
    /// Where all of it can be compiled.
    pub facts: Option<Facts>,
    /// All that was found.
    pub found: Vec<Diagnostic>,
}

impl Outcome {
    fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter().filter(|d| d.severity == Severity::Error)
    }
    /// Whether it can be compiled.
    pub fn ok(&self) -> bool {
        self.facts.is_some() && self.errors().next().is_none()
    }
}

/// Checks models against targets; prints all that was found.
///
/// # Errors
/// `E0401` where a node will not work, the model's own error where it cannot be read.
pub fn run(a: CheckArgs, cx: &mut Cx) -> Lowered<()> {
    let targets: Vec<String> = match (a.all, a.target.is_empty()) {
        (true, _) => target::all().iter().map(|t| t.spec().id.to_owned()).collect(),
        (_, true) => vec!["host".into()],
        _ => a.target.clone(),
    };
    let mut options = Vec::new();
    for id in &targets {
        let args = TargetArgs { target: Some(id.clone()), cpu: None, dims: Vec::new(), math: None, no_reroll: a.no_reroll };
        // A target that this program cannot compile for is no finding about the model.
        options.push((id.as_str(), compile::options(&args, cx)?));
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for path in &a.models {
        outcomes.extend(outcomes_of(path, &options, a.weightless, cx)?);
    }
    if a.json {
        let rows: Vec<serde_json::Value> = outcomes.iter().map(json).collect();
        println!("{}", serde_json::Value::from(rows));
    } else {
        print!("{}", text(&outcomes));
    }
    verdict(&outcomes, cx)
}

/// One model on each target.
///
/// # Errors
/// A file that is no model, or that cannot be opened.
pub fn outcomes_of(path: &Path, targets: &[(&str, Options)], weightless: bool, cx: &mut Cx) -> Lowered<Vec<Outcome>> {
    let kept = cx.diags.take();
    let loaded = model::load_partial(path, weightless, cx);
    let import = cx.diags.take();
    cx.diags.extend(kept);
    let name = path.display().to_string();
    let Ok(m) = loaded else {
        // Nothing of it could be read: the same on every target.
        let of = |(id, _): &(&str, Options)| Outcome {
            model: name.clone(),
            target: (*id).to_owned(),
            counts: Counts::default(),
            facts: None,
            found: import.clone(),
        };
        return Ok(targets.iter().map(of).collect());
    };
    let mut nodes = Ways::default();
    nodes.all(&m.graph);
    import.iter().filter(|d| d.severity == Severity::Error).filter_map(|d| d.path.as_deref()).for_each(|p| nodes.put(p, Way::Rejected));
    let mut out = Vec::new();
    let interface = Interface::of(&m.graph);
    let mut graph = Some(m.graph);
    for (i, (id, o)) in targets.iter().enumerate() {
        let g = if i + 1 == targets.len() { graph.take() } else { graph.clone() };
        let mut ways = nodes.clone();
        let mut found = import.clone();
        let compiled = g.and_then(|g| lower(g, o, &mut ways, &mut found));
        let whole = found.iter().all(|d| d.severity != Severity::Error);
        let facts = compiled.filter(|_| whole).map(|c| facts(c, &interface, o));
        out.push(Outcome { model: name.clone(), target: (*id).to_owned(), counts: ways.counts(), facts, found });
    }
    Ok(out)
}

/// Everything up to the plan. What is found on the way is added to `found`.
fn lower(graph: Graph, o: &Options, ways: &mut Ways, found: &mut Vec<Diagnostic>) -> Option<Compiled> {
    let class = &o.machine.class;
    let mut diags = Diags::new();
    let mut look = |stage: &str, main: &Graph, _: &Graph| {
        if stage == "graph" {
            ways.supported(class, main);
        }
    };
    let options = prepare::Options { math: o.math, partial: true, reroll: o.reroll, stages: Some(&mut look), ..Default::default() };
    let prepared = prepare::prepare_with(graph, class, options, &mut diags);
    found.extend(diags.take());
    let compiled = pipeline::programs(prepared.ok()?, class, o.packer.class(), &mut diags);
    for d in diags.take() {
        // Behind what was set aside, a size may be told by nobody.
        let follows = d.code == Code::UNKNOWN_SYMBOL && found.iter().any(|d| d.severity == Severity::Error);
        if !follows {
            d.path.iter().filter(|_| d.severity == Severity::Error).for_each(|p| ways.put(p, Way::Rejected));
            found.push(d);
        }
    }
    compiled.ok()
}

/// What is said of a model that can be compiled. Bills of memory and work are drawn up from the same programs.
fn facts(c: Compiled, interface: &Interface, o: &Options) -> Facts {
    let bill = Bill::of(interface, &c);
    let roof = target::lookup(o.machine.target).map_or(Roof::UNKNOWN, |t| t.spec().roof);
    let work = work::of(&c.prepared.main);
    Facts {
        estimate: Estimate::of(&work, bill.launches(), interface.sizes(), &roof, &o.machine.class),
        kernels: c.main.module.kernels.len(),
        statements: c.main.plan.body.len(),
        weight_bytes: c.main.plan.store_bytes(),
        emulations: {
            let doubles = cfamily::doubles_by_integers(c.main.module.clone(), &o.machine);
            kernel_rules::emulations(c.main.module, &o.machine.caps).into_iter().chain(doubles).collect()
        },
        bill: Some(bill),
    }
}

/// How a node is computed, from the most direct way to none.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Folded,
    Native,
    Decomposed(&'static str),
    Emulated(&'static str),
    Fallback,
    Rejected,
}

/// How each node of a model is computed, by path.
#[derive(Clone, Default)]
struct Ways(BTreeMap<Arc<str>, Way>);

impl Ways {
    fn put(&mut self, path: &str, way: Way) {
        match self.0.get_mut(path) {
            Some(old) => *old = way.max(*old),
            None => {
                self.0.insert(path.into(), way);
            }
        }
    }
    fn all(&mut self, g: &Graph) {
        for n in g.node_ids() {
            g.node(n).origin.paths.iter().for_each(|p| self.put(p, Way::Folded));
            g.node(n).regions.iter().for_each(|r| self.all(r));
        }
    }
    fn supported(&mut self, class: &MachineClass, g: &Graph) {
        for n in g.node_ids() {
            let node = g.node(n);
            if !node.op.is_source() {
                let way = match legalize::support(class, g, node) {
                    Support::Native => Way::Native,
                    Support::Decomposed { rule } if legalize::widens(rule) => Way::Emulated(rule),
                    Support::Decomposed { rule } => Way::Decomposed(rule),
                    Support::Fallback { .. } => Way::Fallback,
                    Support::Rejected { .. } => Way::Rejected,
                };
                node.origin.paths.iter().for_each(|p| self.put(p, way));
            }
            node.regions.iter().for_each(|r| self.supported(class, r));
        }
    }
    fn counts(&self) -> Counts {
        let mut c = Counts { nodes: self.0.len(), ..Default::default() };
        for way in self.0.values() {
            match way {
                Way::Folded => c.folded += 1,
                Way::Native => c.native += 1,
                Way::Decomposed(rule) => *c.decomposed.entry((*rule).to_owned()).or_default() += 1,
                Way::Emulated(rule) => *c.emulated.entry((*rule).to_owned()).or_default() += 1,
                Way::Fallback => c.fallback += 1,
                Way::Rejected => c.rejected += 1,
            }
        }
        c
    }
}

/// Reports of one reason: on each node, and each target that has them.
struct Group<'a> {
    first: &'a Diagnostic,
    nodes: Vec<&'a Diagnostic>,
    targets: Vec<&'a str>,
}

/// Groups the reports of outcomes of one model.
fn groups<'a>(outcomes: &[&'a Outcome]) -> Vec<Group<'a>> {
    let mut out: Vec<Group<'a>> = Vec::new();
    for o in outcomes {
        for d in &o.found {
            let same = |g: &&mut Group<'_>| {
                let f = g.first;
                (f.code, f.severity, &f.message, &f.op, &f.help) == (d.code, d.severity, &d.message, &d.op, &d.help)
            };
            match out.iter_mut().find(same) {
                Some(g) => {
                    if !g.nodes.iter().any(|n| n.path == d.path && n.operands == d.operands) {
                        g.nodes.push(d);
                    }
                    if !g.targets.contains(&o.target.as_str()) {
                        g.targets.push(&o.target);
                    }
                }
                None => out.push(Group { first: d, nodes: vec![d], targets: vec![&o.target] }),
            }
        }
    }
    // Errors first, otherwise in the order of the model.
    out.sort_by_key(|g| g.first.severity != Severity::Error);
    out
}

/// A way out where the report itself has none.
fn remedy(d: &Diagnostic) -> Option<&str> {
    if d.help.is_some() {
        return d.help.as_deref();
    }
    match d.code {
        Code::UNKNOWN_OP => Some("export with an opset that has it, or ship it as a model-local function of operators that are known"),
        Code::UNSUPPORTED_FORM => Some("export the node in another form; what operators take is in docs/COVERAGE.md"),
        Code::NOT_SUPPORTED => Some("`portwright check --all` says which targets take it"),
        _ => None,
    }
}

fn json(o: &Outcome) -> serde_json::Value {
    let facts = o.facts.clone().unwrap_or_default();
    let groups: Vec<serde_json::Value> = groups(&[o])
        .iter()
        .map(|g| {
            let nodes: Vec<_> =
                g.nodes.iter().map(|d| serde_json::json!({"path": d.path, "operands": d.operands, "notes": d.notes})).collect();
            serde_json::json!({
                "code": g.first.code.to_string(), "severity": if g.first.severity == Severity::Error { "error" } else { "warning" },
                "op": g.first.op, "message": g.first.message, "help": remedy(g.first), "nodes": nodes,
            })
        })
        .collect();
    let errors: Vec<serde_json::Value> = o
        .errors()
        .map(|d| serde_json::json!({"code": d.code.to_string(), "path": d.path, "op": d.op, "message": d.message, "help": d.help}))
        .collect();
    let emulations: Vec<serde_json::Value> = (facts.emulations.iter())
        .map(|e| serde_json::json!({"rule": e.rule, "kernels": e.kernels, "operations": e.operations, "nodes": e.nodes}))
        .collect();
    serde_json::json!({
        "schema": 1, "model": o.model, "target": o.target, "ok": o.ok(), "counts": o.counts, "kernels": facts.kernels,
        "statements": facts.statements, "weight_bytes": facts.weight_bytes, "memory_bytes": facts.bill.as_ref().and_then(Bill::memory),
        "estimate": facts.estimate, "emulations": emulations, "bill": facts.bill.as_ref().map(Bill::json), "groups": groups, "errors": errors,
    })
}

fn text(outcomes: &[Outcome]) -> String {
    let mut s = String::new();
    let mut models: Vec<&str> = outcomes.iter().map(|o| o.model.as_str()).collect();
    models.dedup();
    for model in &models {
        let of: Vec<&Outcome> = outcomes.iter().filter(|o| o.model == *model).collect();
        for g in groups(&of) {
            let everywhere = g.targets.len() == of.len();
            let place = if everywhere { String::new() } else { format!(" on {}", g.targets.join(", ")) };
            let file = if models.len() > 1 { format!("{model}: ") } else { String::new() };
            s += &report::group(g.first, &format!("{file}{}{place}", g.first.message), &g.nodes, remedy(g.first));
            s.push('\n');
        }
    }
    if outcomes.len() == 1 {
        outcomes.iter().for_each(|o| s += &summary(o));
    } else {
        s += &table(outcomes);
        s += &emulated(outcomes);
    }
    s
}

fn sum(of: &BTreeMap<String, usize>) -> usize {
    of.values().sum()
}

/// Launches whose nodes are listed of each rule that emulates.
const NODES: usize = 8;

/// The last lines on one model and target.
fn summary(o: &Outcome) -> String {
    let c = &o.counts;
    let rules = |of: &BTreeMap<String, usize>| {
        let list: Vec<String> = of.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
        if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
    };
    let mut s = match &o.facts {
        Some(f) if o.ok() => {
            format!("{} runs on {}: {} kernels, {:.2} MB of weights\n", o.model, o.target, f.kernels, f.weight_bytes as f64 / 1e6)
        }
        _ => format!("{} will not run on {}\n", o.model, o.target),
    };
    if let Some(bill) = o.facts.as_ref().filter(|_| o.ok()).and_then(|f| f.bill.as_ref()) {
        s += &bill.text();
    }
    for f in o.facts.iter().filter(|_| o.ok()) {
        if let Some(e) = &f.estimate {
            let least = e.seconds.map_or_else(String::new, |t| format!(", {} at least", time(t)));
            s += &format!("  roofline {} between chip and memory, {} operations{least}\n", size(e.bytes), e.operations);
        }
        for e in &f.emulations {
            s += &format!("  lacks    {}\n", cost(e));
            let (shown, rest) = e.nodes.split_at(e.nodes.len().min(NODES));
            shown.iter().for_each(|n| s += &format!("           --> {n}\n"));
            if !rest.is_empty() {
                s += &format!("           and {} launches more: --json has all\n", rest.len());
            }
        }
    }
    for (n, what) in [
        (c.nodes, "nodes".to_owned()),
        (c.native, "native".into()),
        (sum(&c.decomposed), format!("decomposed{}", rules(&c.decomposed))),
        (sum(&c.emulated), format!("emulated in a wider dtype{}", rules(&c.emulated))),
        (c.fallback, "on the host".into()),
        (c.folded, "without code: constants, shapes, views".into()),
        (c.rejected, "rejected".into()),
    ] {
        if n > 0 {
            s += &format!("{n:>8} {what}\n");
        }
    }
    s
}

/// Models by targets.
fn table(outcomes: &[Outcome]) -> String {
    let wide = |f: fn(&Outcome) -> &str, least: usize| outcomes.iter().map(|o| f(o).chars().count()).max().unwrap_or(0).max(least);
    let (m, t) = (wide(|o| &o.model, 5), wide(|o| &o.target, 6));
    let mut s = format!(
        "{:<m$}  {:<t$}  {:>7}  {:>6} {:>7} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10}\n",
        "model", "target", "kernels", "nodes", "native", "decomposed", "emulated", "fallback", "folded", "rejected", "memory", "time"
    );
    for o in outcomes {
        let c = &o.counts;
        let said = |f: &dyn Fn(&Facts) -> Option<String>| o.facts.as_ref().filter(|_| o.ok()).and_then(f).unwrap_or_else(|| "-".into());
        let kernels = said(&|f| Some(f.kernels.to_string()));
        let memory = said(&|f| f.bill.as_ref()?.memory().map(size));
        let least = said(&|f| f.estimate.as_ref()?.seconds.map(time));
        s += &format!(
            "{:<m$}  {:<t$}  {kernels:>7}  {:>6} {:>7} {:>10} {:>8} {:>8} {:>8} {:>8} {memory:>10} {least:>10}\n",
            o.model,
            o.target,
            c.nodes,
            c.native,
            sum(&c.decomposed),
            sum(&c.emulated),
            c.fallback,
            c.folded,
            c.rejected
        );
    }
    s
}

/// What a rule did, and what it costs.
fn cost(e: &Emulation) -> String {
    let kernels = if e.kernels == 1 { "1 kernel".to_owned() } else { format!("{} kernels", e.kernels) };
    format!("{} in {kernels}, {} operations more in their text", e.rule, e.operations)
}

/// What chips lack, each with the targets that it is said of.
fn emulated(outcomes: &[Outcome]) -> String {
    let mut lines: Vec<(&str, String, Vec<&str>)> = Vec::new();
    for o in outcomes.iter().filter(|o| o.ok()) {
        for e in o.facts.iter().flat_map(|f| &f.emulations) {
            let text = cost(e);
            match lines.iter_mut().find(|l| (l.0, &l.1) == (o.model.as_str(), &text)) {
                Some(line) => line.2.push(&o.target),
                None => lines.push((&o.model, text, vec![&o.target])),
            }
        }
    }
    lines.iter().map(|(model, text, targets)| format!("{model}: {text}: {}\n", targets.join(", "))).collect()
}

/// The error that ends the command; what was found was printed.
fn verdict(outcomes: &[Outcome], cx: &mut Cx) -> Lowered<()> {
    let unsupported = |d: &&Diagnostic| d.code.exit_code() == 4 || matches!(d.code, Code::UNKNOWN_OP | Code::UNSUPPORTED_FORM);
    // A model that is wrong in itself is that before anything else.
    let broken = outcomes.iter().flat_map(Outcome::errors).find(|d| !unsupported(d));
    let failed: Vec<&Outcome> = outcomes.iter().filter(|o| !o.ok()).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let kinds = groups(&[first]).iter().filter(|g| g.first.severity == Severity::Error).count();
    let nodes = first.errors().count();
    let what = if first.errors().all(|d| d.path.is_some()) { "node" } else { "error" };
    let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let m = match failed.len() {
        1 => format!("{} will not run on {}: {} of {}", first.model, first.target, plural(nodes, what), plural(kinds, "kind")),
        n => format!("{n} of {} combinations of model and target will not run", outcomes.len()),
    };
    cx.fail(Diagnostic::error(broken.map_or(Code::NOT_SUPPORTED, |d| d.code), m))
}
