// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright inspect`: names, shapes, operators; never weights.

use std::collections::BTreeMap;

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::Graph;
use portwright_runtime::bundle::Bundle;
use portwright_runtime::manifest::Manifest;
use portwright_runtime::program::Program;

use crate::args::InspectArgs;
use crate::{Cx, model};

/// Says what is in a model or bundle.
///
/// # Errors
/// What cannot be read.
pub fn run(a: InspectArgs, cx: &mut Cx) -> Lowered<()> {
    if model::is_bundle(&a.model) {
        let bundle = Bundle::read(&a.model).map_err(|e| cx.diags.report(Diagnostic::error(Code::BAD_BUNDLE, e.to_string())))?;
        compiled("bundle", &bundle.manifest, a.json);
        return Ok(());
    }
    if let Ok(Some(p)) = Program::read(&a.model) {
        compiled("static executable", &p.manifest, a.json);
        return Ok(());
    }
    let m = model::load(&a.model, &[], true, cx)?;
    let g = &m.graph;
    let mut ops: BTreeMap<&str, usize> = BTreeMap::new();
    count(g, &mut ops);
    let weights: u64 = g.weights().values().filter_map(|w| w.bytes_len()).sum();
    let port = |name: &str, v| (name.to_owned(), g.ty(v).to_string());
    let inputs: Vec<(String, String)> = g.inputs().iter().map(|&v| port(g.value(v).name.as_deref().unwrap_or(""), v)).collect();
    let outputs: Vec<(String, String)> = g.outputs().iter().map(|o| port(&o.name, o.value)).collect();
    if a.json {
        let v = serde_json::json!({
            "schema": 1, "name": m.name, "sha256": m.source.sha256, "ir_version": m.source.ir_version, "opsets": m.source.opsets,
            "producer": m.source.producer, "nodes": g.len(), "ops": ops, "weights": g.weights().len(), "weight_bytes": weights,
            "inputs": inputs.iter().map(|(n, t)| serde_json::json!({"name": n, "type": t})).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(|(n, t)| serde_json::json!({"name": n, "type": t})).collect::<Vec<_>>(),
            "symbols": g.symbols().iter().map(|s| serde_json::json!({"name": &*s.name, "min": s.lo, "max": s.hi})).collect::<Vec<_>>(),
        });
        println!("{v}");
        return Ok(());
    }
    let opsets: Vec<String> = m.source.opsets.iter().map(|(d, v)| format!("{d} {v}")).collect();
    println!("{}: {} nodes, {} weights, {:.2} MB", m.name, g.len(), g.weights().len(), weights as f64 / 1e6);
    if !m.source.producer.is_empty() {
        println!("  made by {}; {}", m.source.producer, opsets.join(", "));
    }
    for (what, list) in [("input", inputs), ("output", outputs)] {
        for (n, t) in list {
            println!("  {what} {n}: {t}");
        }
    }
    for s in g.symbols() {
        println!("  symbol {} in {}..{}", s.name, s.lo, s.hi);
    }
    let list: Vec<String> = ops.iter().map(|(n, c)| format!("{n} {c}")).collect();
    println!("  ops: {}", list.join(", "));
    Ok(())
}

/// What is in a bundle or an executable.
fn compiled(what: &str, m: &Manifest, json: bool) {
    if json {
        println!("{}", m.to_json());
        return;
    }
    println!("{what} {} for {}", m.name, m.target.cpu);
    for (what, list) in [("input", &m.inputs), ("output", &m.outputs)] {
        for v in list {
            let dims: Vec<String> = v
                .shape
                .iter()
                .map(|d| match d {
                    portwright_runtime::manifest::Axis::Fixed(n) => n.to_string(),
                    portwright_runtime::manifest::Axis::Symbol(s) => s.clone(),
                })
                .collect();
            println!("  {what} {}: {}[{}]", v.name, v.dtype, dims.join(","));
        }
    }
    println!("  {} kernels, {:.2} MB of weights", m.kernels.len(), m.memory.weight_bytes as f64 / 1e6);
    println!("  arena {} bytes", m.memory.arena.join(" + "));
}

fn count<'g>(g: &'g Graph, ops: &mut BTreeMap<&'g str, usize>) {
    for n in g.node_ids() {
        let node = g.node(n);
        if !node.op.is_source() {
            *ops.entry(node.op.mnemonic()).or_default() += 1;
        }
        node.regions.iter().for_each(|r| count(r, ops));
    }
}
