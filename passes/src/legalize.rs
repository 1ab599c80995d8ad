// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine takes, and the named rules that make the rest legal.
//!
//! [`support`] is pure and total, and the only truth: passes ask it, reports ask it. Emulation is always a rewrite.

use portwright_ir::diag::{Code, Diagnostic, Diags};
use portwright_ir::dtype::{DType, Kind};
use portwright_ir::graph::{Graph, Node, NodeId, Op, Patch, ValueId};
use portwright_ir::sym::product;

use crate::rules::{Edit, Rule, RuleCx, RuleLog, Tap};
use crate::schedule::cpu::attention;
use crate::spec::{Fragment, MachineClass, SimtSpec};

/// How a machine takes a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// There are kernels for it as it is.
    Native,
    /// A named rule turns it into what is native.
    Decomposed {
        /// The rule.
        rule: &'static str,
    },
    /// It runs on the host.
    Fallback {
        /// Why.
        reason: String,
    },
    /// It cannot run.
    Rejected {
        /// Why.
        reason: String,
    },
}

/// How `machine` takes `node`, before fusion.
pub fn support(machine: &MachineClass, graph: &Graph, node: &Node) -> Support {
    match machine {
        MachineClass::Cpu(_) => cpu(graph, node),
        MachineClass::Simt(spec) => simt(spec, graph, node),
    }
}

fn reject(reason: impl Into<String>) -> Support {
    Support::Rejected { reason: reason.into() }
}

fn cpu(graph: &Graph, node: &Node) -> Support {
    let dtypes = || node.operands.iter().chain(&node.results).map(|&v| graph.ty(v).dtype);
    if matches!(node.op, Op::Handle { .. } | Op::Host { .. }) {
        return Support::Native;
    }
    if dtypes().any(DType::is_handle) {
        return reject("texts and lists have no kernels");
    }
    if dtypes().any(|d| d.kind() == Kind::Complex) {
        return reject("complex numbers have no kernels");
    }
    match &node.op {
        Op::Lstm { .. } | Op::Gru { .. } => Support::Native,
        Op::Resize { antialias: true, .. } => reject("resize with antialiasing has no kernel"),
        Op::Softmax { .. } => Support::Decomposed { rule: "decompose-softmax" },
        Op::LogSoftmax { .. } => Support::Decomposed { rule: "decompose-log-softmax" },
        Op::LayerNorm { .. } => Support::Decomposed { rule: "decompose-layer-norm" },
        Op::RmsNorm { .. } => Support::Decomposed { rule: "decompose-rms-norm" },
        Op::Gelu { .. } => Support::Decomposed { rule: "decompose-gelu" },
        Op::Silu {} => Support::Decomposed { rule: "decompose-silu" },
        Op::HardSwish {} => Support::Decomposed { rule: "decompose-hard-swish" },
        Op::Attention { .. } => match attention::refuses(node.operands.iter().take(3).map(|&v| graph.ty(v).dtype)) {
            None => Support::Native,
            Some(_) => Support::Decomposed { rule: "decompose-attention" },
        },
        Op::Rotary { .. } => Support::Decomposed { rule: "decompose-rotary" },
        Op::Resize { .. } => Support::Decomposed { rule: "decompose-resize" },
        Op::Quantize { .. } => Support::Decomposed { rule: "decompose-quantize" },
        Op::Dequantize { .. } => Support::Decomposed { rule: "decompose-dequantize" },
        Op::ContractBlocks { .. } => Support::Decomposed { rule: "decompose-contract-blocks" },
        Op::ContractScaled { .. } => Support::Decomposed { rule: "decompose-contract-scaled" },
        op if narrow_arithmetic(graph, node, op) => Support::Decomposed { rule: WIDENS },
        _ => Support::Native,
    }
}

fn simt(spec: &SimtSpec, graph: &Graph, node: &Node) -> Support {
    // Sums of products in f32, rounded once: as they would be computed in a wider dtype.
    let multiplied = |v: ValueId| spec.fragments.iter().any(|f| f.dtypes == [graph.ty(v).dtype, graph.ty(v).dtype, DType::F32]);
    match &node.op {
        Op::ContractBlocks { groups: false, .. } => Support::Native,
        Op::ContractScaled { block, narrow, .. }
            if node.operands.get(..2).is_some_and(|p| in_fragments(spec, graph, p, *block, *narrow).is_some()) =>
        {
            Support::Native
        }
        Op::Conv { groups: 1, .. } | Op::ConvLast { groups: 1, .. } if node.operands.iter().all(|&v| multiplied(v)) => Support::Native,
        // Taps of one channel, read as they are stored and added in f32.
        Op::Conv { groups, .. } if depthwise(graph, node, *groups) => Support::Native,
        _ => cpu(graph, node),
    }
}

/// Whether each filter of a convolution meets one channel, which is its own.
fn depthwise(graph: &Graph, node: &Node, groups: i64) -> bool {
    let dims = |i: usize| node.operands.get(i).map_or(&[][..], |&v| graph.ty(v).dims.as_slice());
    let (x, w) = (dims(0), dims(1));
    x.get(1).is_some_and(|c| c.is(groups)) && w.first().is_some_and(|o| o.is(groups)) && w.get(1).is_some_and(|c| c.is(1))
}

/// The fragment that multiplies two operands of 8-bit floats, rows along the sum, whose scales change every `block` summed coordinates: one of
/// such floats where sums may be `narrow`, else one of f16, which holds each of them.
pub(crate) fn in_fragments(spec: &SimtSpec, graph: &Graph, operands: &[ValueId], block: i64, narrow: bool) -> Option<Fragment> {
    let &[a, b] = operands else { return None };
    let (a, b) = (graph.ty(a), graph.ty(b));
    let of = |dtypes: [DType; 2]| spec.fragments.iter().find(|f| f.dtypes == [dtypes[0], dtypes[1], DType::F32]);
    let stored = [a.dtype, b.dtype];
    let exact = stored.iter().all(|d| matches!(d, DType::F8E4M3FN | DType::F8E5M2));
    let fragment = of(stored).filter(|_| narrow).or_else(|| of([DType::F16; 2]).filter(|_| exact))?;
    let [rows, columns, depth] = fragment.shape.map(i64::from);
    let lead = product(&a.dims[..a.dims.len().saturating_sub(1)]);
    // Tiles would be mostly empty, or a step would meet two scales.
    let many = |n: Option<i64>, least: i64| n.is_none_or(|n| n >= least);
    let fits =
        many(lead.as_const(), rows) && b.dims.first().is_some_and(|n| many(n.as_const(), columns)) && block % (2 * depth).max(32) == 0;
    fits.then_some(*fragment)
}

/// Whether the machine has kernels for the node as it is.
pub fn is_native(machine: &MachineClass, graph: &Graph, node: &Node) -> bool {
    support(machine, graph, node) == Support::Native
}

/// Whether a rule computes in a wider dtype what the machine lacks in its own.
pub fn widens(rule: &str) -> bool {
    rule == WIDENS
}

/// Name of the rule that computes narrow floats in f32.
const WIDENS: &str = "narrow-floats-in-f32";

/// A float in which machines do not compute, only store.
fn narrow(d: DType) -> bool {
    d.is_float() && d.bits() < 32
}

/// Whether `op` computes in a float narrower than f32: a copy, a choice or a conversion does not.
fn narrow_arithmetic(graph: &Graph, node: &Node, op: &Op) -> bool {
    let computes = match op {
        Op::Unary(_) | Op::Binary(_) | Op::Reduce { .. } | Op::Scan { .. } => true,
        // Neighbors side by side are for an instruction that takes them as they are.
        Op::ConvLast { depth, .. } => *depth == 1,
        Op::Pool { .. } | Op::Conv { .. } => true,
        _ => false,
    };
    computes && node.operands.iter().any(|&v| narrow(graph.ty(v).dtype))
}

/// Rules that make a graph legal.
pub fn rules() -> Vec<&'static Rule> {
    RULES.iter().collect()
}

const RULES: &[Rule] = &[Rule {
    name: WIDENS,
    doc: "add(x: f16, y: f16) -> cast<f16>(add(cast<f32>(x), cast<f32>(y))), for every op that computes in a float narrower than f32",
    roots: &[],
    apply: narrow_floats,
}];

fn narrow_floats(g: &Graph, n: NodeId, cx: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let widens = narrow_arithmetic(g, node, &node.op) && !(cx.native)(g, node);
    let (&[v], true) = (node.results.as_slice(), widens) else { return None };
    let mut e = Edit::new(g, WIDENS, &[n]);
    let mut operands = Vec::with_capacity(node.operands.len());
    for &o in &node.operands {
        operands.push(if narrow(g.ty(o).dtype) { e.cast(o, DType::F32)? } else { Tap::Old(o) });
    }
    let y = e.add(node.op.clone(), &operands)?;
    let y = e.cast(y, g.ty(v).dtype)?;
    e.finish(v, y)
}

/// Applies the rules to a graph before fusion, regions of control included.
pub fn legalize(graph: &mut Graph, cx: &RuleCx<'_>, log: &mut RuleLog) {
    crate::rules::run(graph, &rules(), cx, log);
}

/// Reports every node that the machine rejects.
pub fn report_unsupported(machine: &MachineClass, graph: &Graph, diags: &mut Diags) {
    for n in graph.order() {
        let node = graph.node(n);
        if let Support::Rejected { reason } = support(machine, graph, node) {
            let d = Diagnostic::error(Code::NOT_SUPPORTED, reason).at(node.origin.first()).op(node.op.mnemonic());
            diags.report(d.operands(operands(graph, node)));
        }
        for r in &node.regions {
            report_unsupported(machine, r, diags);
        }
    }
}

/// Types of a node's operands, with names where they have some.
pub fn operands(graph: &Graph, node: &Node) -> Vec<String> {
    let one = |v: &ValueId| match &graph.value(*v).name {
        Some(name) => format!("`{name}`: {}", graph.ty(*v)),
        None => graph.ty(*v).to_string(),
    };
    node.operands.iter().map(one).collect()
}

/// Puts inputs in the place of what the machine rejects, so that the rest can be looked at.
pub fn stand_in(machine: &MachineClass, graph: &mut Graph) {
    fn rejected(machine: &MachineClass, g: &Graph, n: NodeId) -> bool {
        let node = g.node(n);
        let inside = || node.regions.iter().any(|r| r.node_ids().any(|n| rejected(machine, r, n)));
        matches!(support(machine, g, node), Support::Rejected { .. }) || inside()
    }
    for n in graph.order() {
        if !rejected(machine, graph, n) {
            continue;
        }
        for v in graph.node(n).results.clone() {
            let name = graph.value(v).name.clone().unwrap_or_else(|| format!("{}.{v:?}", graph.node(n).origin.first()).into());
            let input = graph.add_input(name, graph.ty(v).clone());
            graph.replace_uses(v, input);
        }
        graph.remove(n);
    }
    graph.remove_dead();
}
