// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a machine takes, and the named rules that make the rest legal.
//!
//! [`support`] is pure and total, and the only truth: passes ask it, reports ask it. Emulation is always a rewrite.

use std::collections::BTreeMap;

use portwright_ir::diag::{Code, Diagnostic, Diags};
use portwright_ir::dtype::{DType, Kind};
use portwright_ir::graph::{Graph, Node, NodeId, Op, Patch};

use crate::rules::{Edit, Rule, RuleCx, RuleLog, Tap};
use crate::schedule::cpu::attention;
use crate::spec::MachineClass;

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
        MachineClass::Simt(_) => simt(graph, node),
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
        op if narrow_arithmetic(graph, node, op) => Support::Decomposed { rule: "narrow-floats-in-f32" },
        _ => Support::Native,
    }
}

fn simt(graph: &Graph, node: &Node) -> Support {
    match &node.op {
        Op::ContractBlocks { .. } => Support::Native,
        _ => cpu(graph, node),
    }
}

/// Whether the machine has kernels for the node as it is.
pub fn is_native(machine: &MachineClass, graph: &Graph, node: &Node) -> bool {
    support(machine, graph, node) == Support::Native
}

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
    name: "narrow-floats-in-f32",
    doc: "add(x: f16, y: f16) -> cast<f16>(add(cast<f32>(x), cast<f32>(y))), for every op that computes in a float narrower than f32",
    roots: &[],
    apply: narrow_floats,
}];

fn narrow_floats(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (&[v], true) = (node.results.as_slice(), narrow_arithmetic(g, node, &node.op)) else { return None };
    let mut e = Edit::new(g, "narrow-floats-in-f32", &[n]);
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

/// Reports every node that the machine rejects, one report a reason.
pub fn report_unsupported(machine: &MachineClass, graph: &Graph, diags: &mut Diags) {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    collect(machine, graph, &mut by_reason);
    for (reason, nodes) in by_reason {
        let mut d =
            Diagnostic::error(Code::NOT_SUPPORTED, format!("{reason} ({} node{})", nodes.len(), if nodes.len() == 1 { "" } else { "s" }));
        for text in &nodes {
            d = d.note(text.clone());
        }
        diags.report(d);
    }
}

fn collect(machine: &MachineClass, graph: &Graph, out: &mut BTreeMap<String, Vec<String>>) {
    for n in graph.order() {
        let node = graph.node(n);
        if let Support::Rejected { reason } = support(machine, graph, node) {
            let types: Vec<String> = node.operands.iter().map(|&v| graph.ty(v).to_string()).collect();
            out.entry(reason).or_default().push(format!("{}: {}({})", node.origin.first(), node.op.mnemonic(), types.join(", ")));
        }
        for r in &node.regions {
            collect(machine, r, out);
        }
    }
}
