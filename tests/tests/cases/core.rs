// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The core cases: every stage reviewed, and every rung run.
//!
//! Stages are those of a fixed machine, so that snapshots are the same everywhere; native code is that of the machine at hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libtest_mimic::Trial;
use portwright_ir::diag::{Diagnostic, Diags};
use portwright_ir::entity::EntityId;
use portwright_ir::graph::interp::{self as graph_interp, Tensor};
use portwright_ir::graph::{Graph, text};
use portwright_ir::kernel::{self, KernelId};
use portwright_ir::numerics;
use portwright_ir::plan::{self, interp as plan_interp};
use portwright_ir::weight::WeightSource;
use portwright_passes::kernel_rules::{self, KernelCaps};
use portwright_passes::pipeline::{self, Compiled};
use portwright_passes::plan::{Program, WeightInit};
use portwright_passes::spec::{CpuSpec, MachineClass, Math};
use serde::Deserialize;

use crate::expect::{self, Expect};
use crate::skip::always;
use crate::snap::{self, Kept};

/// The machine of the snapshots: x86-64-v4, by its numbers. `core::machine` compares it with the target's own.
pub const MACHINE: &str = "x86-64-v4";

/// Targets whose code is run on an emulated machine.
#[cfg(all(feature = "mlir", feature = "emu"))]
pub const EMULATED: [&str; 3] = ["aarch64", "riscv64", "loongarch64"];

/// Devices whose kernels are run on an emulated one, while the plan runs here.
#[cfg(all(feature = "mlir", feature = "emu"))]
pub const DEVICES: [&str; 2] = ["nvidia-sm80", "nvidia-sm90a"];

/// Devices whose kernels are C++ for a vendor's compiler, and run in headers of ours.
#[cfg(all(feature = "mlir", feature = "emu"))]
pub const SOURCES: [&str; 9] = [
    "nvidia-cuda",
    "hygon-gfx906",
    "hygon-gfx928",
    "hygon-gfx936",
    "moore-mp22",
    "moore-mp31",
    "metax-xcore1000",
    "iluvatar-ivcore11",
    "biren-br100",
];

/// Their CPUs that take other vectors or dot products than the default one.
#[cfg(all(feature = "mlir", feature = "emu"))]
const OTHERS: [(&str, Option<&str>); 3] =
    [("aarch64", Some("neoverse-v1")), ("riscv64", Some("rv64gcv-zvl256b")), ("loongarch64", Some("loongarch64-lsx"))];

/// Class of [`MACHINE`].
pub fn class() -> MachineClass {
    MachineClass::Cpu(CpuSpec {
        vec_bytes: 64,
        vec_regs: 32,
        masked_mem: true,
        fma: true,
        l1_bytes: 32 << 10,
        l2_bytes: 1 << 20,
        dots: &[],
        tiles: &[],
    })
}

/// What kernels of [`MACHINE`] may use.
pub fn caps() -> KernelCaps {
    KernelCaps { masked_bits: &[8, 16, 32, 64], fma: true, f16_convert: true }
}

/// A sidecar `NAME.toml`: which snapshots its sizes have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    /// Stages of every size.
    stages: Vec<String>,
    /// Further stages, by size.
    #[serde(default)]
    size: HashMap<String, Vec<String>>,
}

/// One input: a graph, and how it is run.
#[derive(Clone)]
pub struct Case {
    /// As `softmax-odd`.
    pub name: String,
    path: PathBuf,
}

impl Case {
    /// Where the graph lies.
    #[cfg(feature = "mlir")]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Text of the graph.
    pub fn input(&self) -> Result<String, String> {
        read(&self.path)
    }
    /// The graph.
    pub fn graph(&self) -> Result<Graph, String> {
        text::parse(&self.input()?).map_err(|d| show(&d))
    }
    /// What it is run with and gives.
    pub fn expect(&self) -> Result<Expect, String> {
        expect::parse(&read(&self.path.with_extension("expect"))?)
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.file_name().unwrap_or_default().display()))
}

/// Diagnostics as one text.
pub fn show(list: &[Diagnostic]) -> String {
    let one = |d: &Diagnostic| format!("{}: {}{}", d.code, d.path.as_ref().map_or_else(String::new, |p| format!("{p}: ")), d.message);
    list.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Cases of `cases/core`, in order.
pub fn cases() -> Vec<Case> {
    cases_in("core")
}

/// Cases of a folder of `cases`, in order.
pub fn cases_in(group: &str) -> Vec<Case> {
    let folder = snap::root().join("cases").join(group);
    let mut out: Vec<Case> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "graph"))
        .map(|path| Case { name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path })
        .collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>, kept: &mut Kept, asked: &dyn Fn(&str) -> bool) {
    let all = cases();
    for case in &all {
        let name = format!("core/{}", case.name);
        let c = case.clone();
        out.push(always(format!("{name}::graph"), move || graph_runs(&c)));
        let c = case.clone();
        out.push(always(format!("{name}::{MACHINE}::interpreted"), move || program_runs(&c)));
        let (stem, size) = case.name.rsplit_once('-').unwrap_or((&case.name, ""));
        let sidecar = sidecar(stem);
        let stages = match &sidecar {
            Ok(s) => s.stages.iter().chain(s.size.get(size).into_iter().flatten()).cloned().collect(),
            Err(_) => Vec::new(),
        };
        if let Err(e) = sidecar {
            out.push(always(format!("{name}::sidecar"), move || Err(e)));
        }
        for stage in stages {
            let (c, trial) = (case.clone(), format!("{name}::{MACHINE}::{stage}"));
            match stage.as_str() {
                "mlir" | "asm" => {
                    kept.raw("core", &case.name, if stage == "asm" { "s" } else { "mlir" });
                    #[cfg(feature = "mlir")]
                    out.push(always(trial, move || crate::native::emitted(&c, &stage)));
                }
                _ => {
                    kept.text("core", &format!("{}.{stage}", case.name));
                    out.push(always(trial, move || stage_is(&c, &stage)));
                }
            }
        }
        #[cfg(feature = "mlir")]
        {
            let c = case.clone();
            out.push(always(format!("{name}::host::native"), move || crate::native::runs(&c)));
        }
        #[cfg(all(feature = "mlir", feature = "emu"))]
        for (target, cpu) in EMULATED.iter().chain(&DEVICES).map(|t| (*t, None)).chain(OTHERS) {
            let c = case.clone();
            let trial = format!("{name}::{}::emulator", cpu.unwrap_or(target));
            out.push(crate::skip::trial(trial, move || crate::native::runs_emulated(&c, target, cpu)));
        }
    }
    #[cfg(all(feature = "mlir", feature = "emu"))]
    for target in SOURCES {
        // Compiling what runs there takes a while: ragged sizes say most, and the others are for who asks.
        let sizes = all.iter().filter(|c| c.name.ends_with("-odd") || std::env::var_os("PORTWRIGHT_ALL_SIZES").is_some());
        let trial = |c: &Case| format!("core/{}::{target}::emulator", c.name);
        let listed: Vec<Case> = sizes.cloned().collect();
        let together = crate::native::Together::new(target, listed.iter().filter(|c| asked(&trial(c))).cloned().collect());
        for c in listed {
            let (name, together) = (trial(&c), together.clone());
            out.push(crate::skip::trial(name, move || crate::native::runs_together(&c, &together)));
        }
    }
    #[cfg(not(all(feature = "mlir", feature = "emu")))]
    let _ = asked;
    #[cfg(feature = "mlir")]
    out.push(always("core::machine", crate::native::machine_is_the_targets));
    #[cfg(not(feature = "mlir"))]
    crate::skip::not_listed(all.len(), "native code (this build has no `mlir`)");
}

fn sidecar(stem: &str) -> Result<Sidecar, String> {
    let path = snap::root().join("cases/core").join(format!("{stem}.toml"));
    toml::from_str(&read(&path)?).map_err(|e| format!("{stem}.toml: {}", e.message()))
}

/// The Graph interpreter gives what ONNX Runtime gives.
fn graph_runs(case: &Case) -> Result<(), String> {
    let (g, e) = (case.graph()?, case.expect()?);
    e.check(&interpret(&g, &e.inputs(&g)?)?)
}

/// Outputs of the Graph interpreter.
pub fn interpret(g: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    graph_interp::run(g, inputs, &graph_interp::Options::default()).map_err(|e| e.to_string())
}

/// The case compiled for [`MACHINE`]; `see` is shown the stages of the graph.
fn lower(g: Graph, see: &mut dyn FnMut(&str, &Graph, &Graph)) -> Result<Compiled, String> {
    let mut diags = Diags::new();
    let compiled = pipeline::compile(g, &class(), &class(), Math::F32, Some(see), &mut diags);
    let mut c = compiled.map_err(|_| show(diags.all()))?;
    kernel_rules::legalize(&mut c.main.module, &caps());
    kernel_rules::legalize(&mut c.pack.module, &caps());
    Ok(c)
}

/// One stage is as it was reviewed.
fn stage_is(case: &Case, stage: &str) -> Result<(), String> {
    let g = case.graph()?;
    let mut stages = vec![("import".to_owned(), text::print(&g))];
    let c = lower(g, &mut |s, main, pack| {
        let pack = if pack.is_empty() { String::new() } else { format!("---- pack\n{}", text::print(pack)) };
        stages.push((s.to_owned(), text::print(main) + &pack));
    })?;
    match stage {
        "plan" => stages.push((stage.to_owned(), plan_text(&c.main))),
        "kernel" => stages.push((stage.to_owned(), kernels_text(&c.main))),
        "pack" => stages.push((stage.to_owned(), plan_text(&c.pack) + &kernels_text(&c.pack))),
        _ => {}
    }
    let at = stages.iter().position(|(s, _)| s == stage).ok_or_else(|| format!("`{stage}` is no stage"))?;
    let text = match stages[..at].iter().find(|(_, t)| *t == stages[at].1) {
        Some((same, _)) => format!("as `{same}`"),
        None => stages[at].1.clone(),
    };
    snap::text("core", &format!("{}.{stage}", case.name), &case.input()?, &text)
}

/// Kernels without the functions that they call, as `lower --stage kernel` prints them.
fn kernels_text(p: &Program) -> String {
    p.module.kernels.values().map(|k| kernel::print_kernel(&p.module, k).text).collect::<Vec<_>>().join("\n")
}

fn plan_text(p: &Program) -> String {
    plan::print(&p.plan, &|i| p.module.kernels.get(KernelId::new(i)).map_or_else(String::new, |k| k.name.clone()))
}

/// Kernels and plan, interpreted, give what the Graph interpreter gives.
fn program_runs(case: &Case) -> Result<(), String> {
    let (g, e) = (case.graph()?, case.expect()?);
    let inputs = e.inputs(&g)?;
    let want = interpret(&g, &inputs)?;
    let c = lower(g, &mut |_, _, _| {})?;
    let packed = execute(&c.pack, &HashMap::new(), &[]).map_err(|m| format!("the pack program: {m}"))?;
    let packed: HashMap<Arc<str>, Vec<u8>> =
        c.pack.plan.outputs.iter().zip(packed).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
    e.agree(&want, &execute(&c.main, &packed, &inputs)?)
}

fn execute(p: &Program, packed: &HashMap<Arc<str>, Vec<u8>>, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let faults = plan::verify(&p.plan, &p.module);
    if let Some(f) = faults.first() {
        return Err(format!("the plan is wrong: {f:?}"));
    }
    let weight = |i: u32| match p.weights.get(i as usize)? {
        WeightInit::Literal(l) => Some(l.bytes.to_vec()),
        WeightInit::Weight(w) => w.joined(&|w| match &w.source {
            WeightSource::Seed(s) => numerics::seeded_bytes(*s, w.dtype, &w.dims),
            WeightSource::Packed => packed.get(&w.name).cloned(),
            _ => w.bytes().map(<[u8]>::to_vec),
        }),
    };
    plan_interp::run(&p.module, &p.plan, inputs, &weight, &plan_interp::Options::default()).map_err(|e| e.to_string())
}
