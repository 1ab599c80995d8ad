// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way of a graph to its kernels: canonical form, composites, decomposition, the pack program, fusion, legal dtypes.

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::graph::{Graph, Node, NodeId};

use crate::rules::{self, Rule, RuleCx, RuleLog};
use crate::spec::{MachineClass, Math};
use crate::{canonical, decompose, fold, fuse, handles, hoist, layout, legalize, products, raise, reroll};

/// Names of the stages at which a graph can be looked at, in order.
pub const STAGES: &[&str] = &["graph", "fused", "legal"];

/// What `prepare` may be told.
pub struct Options<'a> {
    /// Which rounding is allowed.
    pub math: Math,
    /// Stop rewriting after that many patches.
    pub pass_limit: Option<u64>,
    /// Whether siblings that differ in weights alone are written once ([`reroll`]).
    pub reroll: bool,
    /// Go on without what the machine rejects, for finding everything that will not work: the result computes something else.
    pub partial: bool,
    /// Is given the graph and its pack program after each of [`STAGES`]; the pack program is empty until it is split off.
    pub stages: Option<&'a mut dyn FnMut(&str, &Graph, &Graph)>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { math: Math::default(), pass_limit: None, reroll: true, partial: false, stages: None }
    }
}

/// A graph whose every node is a source, `bind`, `reshape`, `if`, `loop` or `fusion`.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The model.
    pub main: Graph,
    /// What is computed once from weights; its outputs are the model's weights of the same names.
    pub pack: Graph,
    /// Which rules fired how often.
    pub log: RuleLog,
}

/// Prepares a graph for scheduling on a machine.
///
/// # Errors
/// `E0401`, every unsupported node at once; `E0901` for a fault of a pass.
pub fn prepare(graph: Graph, machine: &MachineClass, math: Math, diags: &mut Diags) -> Lowered<Prepared> {
    prepare_with(graph, machine, Options { math, ..Default::default() }, diags)
}

/// As [`prepare`], with all options.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_with(mut graph: Graph, machine: &MachineClass, mut options: Options<'_>, diags: &mut Diags) -> Lowered<Prepared> {
    let mut log = RuleLog::with_limit(options.pass_limit);
    let native = |g: &Graph, n: &Node| legalize::is_native(machine, g, n);
    let cx = RuleCx { math: options.math, native: &native };
    let nothing = Graph::default();
    let mut look = |stage: &str, main: &Graph, pack: &Graph| {
        if let Some(f) = &mut options.stages {
            f(stage, main, pack);
        }
    };

    handles::lower(&mut graph).map_err(|fault| diags.report(Diagnostic::error(fault.code, fault.message)))?;
    if options.reroll {
        reroll::reroll(&mut graph, options.math, &mut log);
    }
    simplify(&mut graph, &canonical::rules(), &cx, &mut log);
    simplify(&mut graph, &[canonical::rules(), raise::rules(), canonical::affine::rules()].concat(), &cx, &mut log);
    look("graph", &graph, &nothing);

    let before = diags.all().len();
    legalize::report_unsupported(machine, &graph, diags);
    if options.partial && diags.all().len() > before {
        legalize::stand_in(machine, &mut graph);
    }
    if !options.partial {
        diags.check()?;
    }
    products::in_panels(&mut graph, machine, options.math, &mut log);
    rules::run(&mut graph, &canonical::views::rules(), &cx, &mut log);
    rules::run(&mut graph, &decompose::rules(), &cx, &mut log);
    legalize::legalize(&mut graph, &cx, &mut log);
    simplify(&mut graph, &[canonical::rules(), legalize::rules()].concat(), &cx, &mut log);

    decompose::recurrences(&mut graph, machine, options.math, &mut log);
    decompose::reductions(&mut graph, options.math, &mut log);
    products::of_bytes(&mut graph, machine, &mut log);
    products::in_halves(&mut graph, machine, options.math, &mut log);
    products::in_parts(&mut graph, machine, options.math, &mut log);
    products::over_parts(&mut graph, machine, options.math, &mut log);
    layout::channels_last(&mut graph, machine, &cx, &mut log);
    layout::turn_weights(&mut graph, &cx, &mut log);
    hoist::lift(&mut graph, &mut log);
    let (mut main, mut pack) = hoist::split_pack(graph, &mut log);
    let fused = fuse::fuse(&mut main, &mut log).and_then(|()| {
        layout::cut_panels(&mut main, &mut pack, machine, options.math, &mut log);
        fuse::fuse(&mut pack, &mut log)
    });
    fused.map_err(|fault| diags.report(Diagnostic::error(fault.code, fault.message)))?;
    look("fused", &main, &pack);
    look("legal", &main, &pack);
    for d in log.faults() {
        diags.warn(d);
    }
    for (what, g) in [("model", &main), ("pack program", &pack)] {
        if let Some(op) = unfused(g) {
            return Err(diags.report(Diagnostic::error(Code::INTERNAL, format!("`{op}` of the {what} is in no kernel"))));
        }
    }
    Ok(Prepared { main, pack, log })
}

/// Folds, rewrites and shares until nothing changes, at most four times; after the first time rules look at what changed alone.
fn simplify(graph: &mut Graph, rules: &[&'static Rule], cx: &RuleCx<'_>, log: &mut RuleLog) {
    let mut changed: Option<Vec<NodeId>> = None;
    for _ in 0..4 {
        let before = log.patches;
        let folded = fold::fold(graph, log);
        match changed.take() {
            None => rules::run(graph, rules, cx, log),
            Some(mut nodes) => {
                nodes.extend(folded);
                rules::run_from(graph, rules, nodes, cx, log);
                if log.patches == before {
                    break;
                }
            }
        }
        changed = Some(fold::share(graph, log));
        graph.remove_dead();
        if log.patches == before || log.spent() {
            break;
        }
    }
}

/// Mnemonic of a node that no kernel computes and that the host plan does not know.
fn unfused(graph: &Graph) -> Option<&'static str> {
    use portwright_ir::graph::Op;
    graph.order().into_iter().find_map(|n| {
        let node = graph.node(n);
        let known = node.op.is_source()
            || matches!(
                node.op,
                Op::Bind { .. }
                    | Op::Host { .. }
                    | Op::Handle { .. }
                    | Op::Reshape { .. }
                    | Op::Fusion { .. }
                    | Op::If {}
                    | Op::Loop { .. }
            );
        let inside = || node.regions.iter().filter(|_| !matches!(node.op, Op::Fusion { .. })).find_map(unfused);
        if known { inside() } else { Some(node.op.mnemonic()) }
    })
}
