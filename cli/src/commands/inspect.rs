// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright inspect`: names, shapes, operators; never weights.

use std::collections::BTreeMap;
use std::path::Path;

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::Graph;
use portwright_runtime::bundle::{Bundle, LIBRARY};
use portwright_runtime::device::Code as DeviceCode;
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
        if a.code {
            return judged(&a, &bundle, cx);
        }
        compiled("bundle", &bundle.manifest, a.json);
        return Ok(());
    }
    if a.code {
        let d = Diagnostic::error(Code::OPTION_UNUSED, format!("--code: `{}` is no bundle", a.model.display()));
        return cx.fail(d.help("compile the model with --target, then inspect the bundle"));
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

/// The code of a bundle for a device, without the assembler.
fn device_code(at: &Path, bundle: &Bundle, cx: &mut Cx) -> Lowered<DeviceCode> {
    if bundle.manifest.target.device.is_none() {
        let d =
            Diagnostic::error(Code::OPTION_UNUSED, format!("--code: the bundle is for {}, which is no device", bundle.manifest.target.cpu));
        return cx.fail(d.help("leave --code out; `lower --stage asm` prints the code of a CPU"));
    }
    let library = at.join(LIBRARY);
    let bytes =
        std::fs::read(&library).or_else(|e| cx.fail(Diagnostic::error(Code::FILE_READ, format!("`{}`: {e}", library.display()))))?;
    let code = DeviceCode::in_library(&bytes);
    code.map_or_else(|| cx.fail(Diagnostic::error(Code::BAD_BUNDLE, format!("`{}` carries no code of a device", library.display()))), Ok)
}

/// Hands the code of a bundle to the assembler of its device's vendor.
#[cfg(feature = "emu")]
fn judged(a: &InspectArgs, bundle: &Bundle, cx: &mut Cx) -> Lowered<()> {
    use portwright_emu::gpu;
    use portwright_emu::ptx::ptxas::PtxasError;

    if bundle.manifest.target.device.as_deref().is_some_and(|d| d.starts_with(portwright_emu::simt::DEVICE)) {
        return judged_source(a, bundle, cx);
    }
    let code = device_code(&a.model, bundle, cx)?;
    let failed = |e: PtxasError| match e {
        PtxasError::NotFound => Diagnostic::error(Code::TOOL_MISSING, e.to_string()).help("./setup installs what is missing"),
        e => Diagnostic::error(Code::TOOL_REJECTED, e.to_string()),
    };
    let judge = gpu::judge(code.driver, &crate::place::tool_folders()).map_err(|e| cx.diags.report(failed(e)))?;
    let report = judge.judge(&code, 0).map_err(|e| cx.diags.report(failed(e)))?;
    let faults = report.faults();
    // Functions that kernels call are in their numbers.
    let kernels: Vec<_> = report.functions.iter().filter_map(|f| Some((f, code.kernels.iter().find(|k| k.name == f.name)?))).collect();
    if a.json {
        let rows = kernels.iter().map(|(f, k)| {
            serde_json::json!({"kernel": f.name, "lanes": k.group, "registers": f.registers, "shared": f.shared,
                "dynamic_shared": k.dynamic, "stack": f.stack, "spill_stores": f.spill_stores, "spill_loads": f.spill_loads})
        });
        let rows: Vec<_> = rows.collect();
        println!("{}", serde_json::json!({"schema": 1, "assembler": judge.name(), "chip": code.name, "kernels": rows, "faults": faults}));
    } else {
        println!("{:<48} {:>6} {:>9} {:>8} {:>6} {:>6}", "kernel", "lanes", "registers", "shared", "stack", "spills");
        for (f, k) in &kernels {
            let (shared, spills) = (f.shared + u64::from(k.dynamic), f.spill_stores + f.spill_loads);
            println!("{:<48} {:>6} {:>9} {shared:>8} {:>6} {spills:>6}", f.name, k.group, f.registers, f.stack);
        }
        println!("{} kernels of {} texts: {} takes them for {}", kernels.len(), code.images.len(), judge.name(), code.name);
    }
    for f in &faults {
        cx.diags.report(Diagnostic::error(Code::TOOL_REJECTED, format!("{}: {f}", judge.name())));
    }
    cx.diags.check()
}

/// Hands the sources of a bundle to clang, in the mode that is nearest to the vendor's compiler, and to that compiler where it can be had.
#[cfg(feature = "emu")]
fn judged_source(a: &InspectArgs, bundle: &Bundle, cx: &mut Cx) -> Lowered<()> {
    use portwright_emu::judge::{Clang, JudgeError, Made, Mode, Nvcc, resources};

    let failed = |e: JudgeError| match e {
        JudgeError::NotFound(_) | JudgeError::Nobody(_) => {
            Diagnostic::error(Code::TOOL_MISSING, e.to_string()).help("install LLVM's clang (Debian: apt-get install clang-22 lld-22)")
        }
        JudgeError::Io(..) => Diagnostic::error(Code::FILE_READ, e.to_string()),
        JudgeError::Refused(..) => Diagnostic::error(Code::TOOL_REJECTED, e.to_string()),
    };
    let target = &bundle.manifest.target;
    let mode = Mode::find(target).ok_or_else(|| JudgeError::Nobody(target.cpu.clone())).map_err(|e| cx.diags.report(failed(e)))?;
    let clang = Clang::find().map_err(|e| cx.diags.report(failed(e)))?;
    let made = clang.bundle(&mode, &a.model).map_err(|e| cx.diags.report(failed(e)))?;
    let as_if = if mode.exact() { String::new() } else { format!(", as if for {}", mode.processor) };
    let mut judges = vec![format!("{} takes them{as_if}", clang.name())];
    let mut rows: Vec<Taken> = Vec::new();
    match made {
        Made::Object(object) => match resources(&object) {
            Some(kernels) => rows.extend(kernels.into_iter().map(|k| Taken {
                kernel: k.name,
                lanes: k.group,
                registers: k.registers,
                scalar_registers: Some(k.scalars),
                shared: k.shared,
                stack: k.stack,
                spills: k.spills,
            })),
            None => return cx.fail(Diagnostic::error(Code::TOOL_REJECTED, format!("{} made no code object", clang.name()))),
        },
        Made::Text(_) if mode.compiler.is_none() => judges.push("of registers it says nothing".into()),
        Made::Text(_) => {}
    }
    if mode.compiler.is_some() {
        match Nvcc::find(&crate::place::tool_folders()) {
            Ok(nvcc) => {
                let report = nvcc.bundle(&mode.processor, &a.model).map_err(|e| cx.diags.report(failed(e)))?;
                judges.push(format!("{} takes them for {}", nvcc.name(), mode.processor));
                // Functions that kernels call are in their numbers, and have no registers of their own.
                rows.extend(report.functions.into_iter().filter(|f| f.registers > 0).map(|f| Taken {
                    spills: f.spill_stores.saturating_add(f.spill_loads),
                    kernel: f.name,
                    lanes: 0,
                    registers: f.registers.into(),
                    scalar_registers: None,
                    shared: f.shared,
                    stack: f.stack,
                }));
            }
            Err(e @ JudgeError::NotFound(_)) => judges.push(format!("{e}: ./setup installs it")),
            Err(e) => return cx.fail(failed(e)),
        }
    }
    let count = bundle.manifest.kernels.len();
    if a.json {
        let rows: Vec<_> = rows.iter().map(|k| serde_json::json!(k)).collect();
        let v = serde_json::json!({"schema": 1, "assembler": clang.name(), "chip": mode.processor, "kernels": rows, "taken": count, "judges": judges});
        println!("{v}");
    } else {
        if !rows.is_empty() {
            println!("{:<48} {:>6} {:>9} {:>8} {:>8} {:>6} {:>6}", "kernel", "lanes", "registers", "scalars", "shared", "stack", "spills");
        }
        let known = |n: u64| if n == 0 { "-".to_owned() } else { n.to_string() };
        for k in &rows {
            let (lanes, scalars) = (known(k.lanes), k.scalar_registers.map_or("-".into(), |n| n.to_string()));
            println!("{:<48} {lanes:>6} {:>9} {scalars:>8} {:>8} {:>6} {:>6}", k.kernel, k.registers, k.shared, k.stack, k.spills);
        }
        println!("{count} kernels: {}", judges.join("; "));
    }
    for k in rows.iter().filter(|k| k.spills > 0) {
        cx.diags.report(Diagnostic::error(Code::TOOL_REJECTED, format!("{}: {} spills: {}", judges.join("; "), k.kernel, k.spills)));
    }
    cx.diags.check()
}

/// What a compiler says that a kernel takes.
#[cfg(feature = "emu")]
#[derive(serde::Serialize)]
struct Taken {
    kernel: String,
    /// Lanes of a group; 0 where it is not said.
    lanes: u64,
    /// Registers of a lane.
    registers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scalar_registers: Option<u64>,
    /// Bytes of the group's memory.
    shared: u64,
    /// Bytes of the stack.
    stack: u64,
    /// Registers, or bytes of them, that lie in memory.
    spills: u64,
}

#[cfg(not(feature = "emu"))]
fn judged(a: &InspectArgs, bundle: &Bundle, cx: &mut Cx) -> Lowered<()> {
    device_code(&a.model, bundle, cx)?;
    cx.fail(Diagnostic::error(Code::TOOL_MISSING, "this build asks no assembler").help("build with the feature `emu`"))
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
