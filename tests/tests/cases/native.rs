// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cases as native code: compiled in this process, linked, loaded and run.

use std::path::{Path, PathBuf};
#[cfg(feature = "emu")]
use std::sync::{Arc, OnceLock};

use portwright_cli::args::ErrorFormat;
#[cfg(feature = "emu")]
use portwright_cli::args::On;
use portwright_cli::compile::{self, Options};
use portwright_cli::model::Model;
#[cfg(feature = "emu")]
use portwright_cli::place;
use portwright_cli::place::{Place, Running, Start};
use portwright_cli::progress::Progress;
use portwright_cli::{Cx, model};
use portwright_ir::diag::Diags;
use portwright_ir::graph::interp::Tensor;
use portwright_passes::spec::Math;
use portwright_runtime::tensor::{Tensor as RunTensor, View};
use portwright_targets::codegen::{Form, Workers};
use portwright_targets::compile::{self as codegen, onnx_dtype};
use portwright_targets::target;

use crate::core::{self, Case, MACHINE, caps, class, show};
#[cfg(feature = "emu")]
use crate::skip::Done;
use crate::snap;

/// What a command has at hand, quiet.
pub fn cx() -> Cx {
    Cx { diags: Diags::new(), quiet: true, error_format: ErrorFormat::Text }
}

/// A machine and the workers of this process.
pub fn options(id: &str, cpu: Option<&str>) -> Result<Options, String> {
    let mut diags = Diags::new();
    let machine = target::machine(id, cpu, &mut diags).map_err(|_| show(diags.all()))?;
    let packer = target::machine("host", None, &mut diags).map_err(|_| show(diags.all()))?;
    let packer = portwright_cli::packing::Packer::Code(packer);
    Ok(Options { machine, packer, math: Math::F32, reroll: true, dims: Vec::new(), workers: Workers::InProcess, durable: false })
}

/// Compiles a text of Graph IR for a machine into `out`.
pub fn bundle(graph: &Path, id: &str, cpu: Option<&str>, out: &Path) -> Result<PathBuf, String> {
    let mut cx = cx();
    let o = options(id, cpu)?;
    let m: Model = model::load(graph, &[], false, &mut cx).map_err(|_| show(cx.diags.all()))?;
    compile::bundle(m, &o, out, false, &mut Progress::new(true), &mut cx).map_err(|_| show(cx.diags.all()))
}

/// A case compiled for the machine at hand gives what the Graph interpreter gives, at one thread and at three.
pub fn runs(case: &Case) -> Result<(), String> {
    let (g, e) = (case.graph()?, case.expect()?);
    let inputs = e.inputs(&g)?;
    let want = core::interpret(&g, &inputs)?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let at = bundle(case.path(), "host", None, &folder.path().join("case.pw"))?;
    for threads in [1, 3] {
        let got = run(&at, &Place::Here, threads, &inputs).map_err(|m| format!("at {threads} threads: {m}"))?;
        e.check(&got).map_err(|m| format!("against ONNX Runtime, at {threads} threads: {m}"))?;
        e.agree(&want, &got).map_err(|m| format!("against the Graph interpreter, at {threads} threads: {m}"))?;
    }
    Ok(())
}

/// The cases that are asked for on one chip, compiled together: a compiler reads once what they have in common.
#[cfg(feature = "emu")]
pub struct Together {
    target: &'static str,
    cases: Vec<Case>,
    made: OnceLock<Result<tempfile::TempDir, String>>,
}

#[cfg(feature = "emu")]
impl Together {
    /// Cases on a chip.
    pub fn new(target: &'static str, cases: Vec<Case>) -> Arc<Together> {
        Arc::new(Together { target, cases, made: OnceLock::new() })
    }

    /// The bundle of one of them, which whoever asks first compiles with the others.
    fn bundle(&self, case: &Case, place: &Place) -> Result<PathBuf, String> {
        let made = self.made.get_or_init(|| {
            let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
            let at = |c: &Case| folder.path().join(format!("{}.pw", c.name));
            // One that does not compile says so in its own trial.
            let all: Vec<PathBuf> = self.cases.iter().filter_map(|c| bundle(c.path(), self.target, None, &at(c)).ok()).collect();
            for some in all.chunks(place.together().max(1)) {
                place.prepare(&some.iter().map(PathBuf::as_path).collect::<Vec<_>>());
            }
            Ok(folder)
        });
        let at = made.as_ref().map_err(Clone::clone)?.path().join(format!("{}.pw", case.name));
        if at.is_dir() { Ok(at) } else { bundle(case.path(), self.target, None, &at) }
    }
}

/// A case compiled for a chip, with others, gives what the Graph interpreter gives, emulated.
#[cfg(feature = "emu")]
pub fn runs_together(case: &Case, all: &Together) -> Result<Done, String> {
    emulated(case, all.target, None, &|place| all.bundle(case, place))
}

/// A case compiled for another machine gives what the Graph interpreter gives, emulated.
#[cfg(feature = "emu")]
pub fn runs_emulated(case: &Case, target: &str, cpu: Option<&str>) -> Result<Done, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    emulated(case, target, cpu, &|_| bundle(case.path(), target, cpu, &folder.path().join("case.pw")))
}

#[cfg(feature = "emu")]
fn emulated(case: &Case, target: &str, cpu: Option<&str>, bundle: &dyn Fn(&Place) -> Result<PathBuf, String>) -> Result<Done, String> {
    let (g, e) = (case.graph()?, case.expect()?);
    let mut cx = cx();
    let machine = compile::machine_target(&options(target, cpu)?.machine);
    let Ok(place) = place::choose(&machine, Some(On::Emulator), &mut cx) else { return Ok(Done::Skipped(show(cx.diags.all()))) };
    let inputs = e.inputs(&g)?;
    let want = core::interpret(&g, &inputs)?;
    let got = run(&bundle(&place)?, &place, 1, &inputs)?;
    e.check(&got).map_err(|m| format!("against ONNX Runtime: {m}"))?;
    e.agree(&want, &got).map_err(|m| format!("against the Graph interpreter: {m}"))?;
    Ok(Done::Passed)
}

/// Kernels of a case on an emulated machine execute so many times fewer instructions than with one lane.
#[cfg(feature = "emu")]
pub fn saves(case: &Case, target: &str, cpu: &str, least: f64) -> Result<Done, String> {
    let machine = compile::machine_target(&options(target, Some(cpu))?.machine);
    let mut cx = cx();
    let Ok(place) = place::choose(&machine, Some(On::Emulator), &mut cx) else { return Ok(Done::Skipped(show(cx.diags.all()))) };
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut count = |cpu: &str, name: &str| {
        let o = options(target, Some(cpu))?;
        let m: Model = model::load(case.path(), &[], false, &mut cx).map_err(|_| show(cx.diags.all()))?;
        let at = compile::bundle(m, &o, &folder.path().join(name), false, &mut Progress::new(true), &mut cx)
            .map_err(|_| show(cx.diags.all()))?;
        let how = Start { threads: 1, profile: true };
        let mut running = Running::start(&at, &place, how, &mut cx).map_err(|_| show(cx.diags.all()))?;
        let inputs = portwright_cli::values::random(1, running.inputs(), &mut cx).map_err(|_| show(cx.diags.all()))?;
        // What the first run does once, translation too, is not in the second.
        for _ in 0..2 {
            running.take_instructions();
            running.execute(&inputs, &mut cx).map_err(|_| show(cx.diags.all()))?;
        }
        let kernels = running.take_instructions().into_iter().filter(|c| c.function.starts_with("pwk_"));
        Ok::<u64, String>(kernels.map(|c| c.instructions).sum())
    };
    let (vectors, one) = (count(cpu, "vectors.pw")?, count(&format!("{cpu}{}", target::ONE_LANE), "one.pw")?);
    let ratio = one as f64 / vectors.max(1) as f64;
    if ratio < least || vectors == 0 {
        return Err(format!("{vectors} instructions, {one} with one lane: {ratio:.2} times, and {least} is asked"));
    }
    Ok(Done::Passed)
}

/// Loads a bundle and runs it once.
pub fn run(bundle: &Path, place: &Place, threads: u32, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut cx = cx();
    let mut running = Running::start(bundle, place, Start { threads, profile: false }, &mut cx).map_err(|_| show(cx.diags.all()))?;
    let given = inputs.iter().map(|t| {
        let dims: Vec<i64> = t.dims.iter().map(|&d| d as i64).collect();
        RunTensor::new(onnx_dtype(t.dtype), &dims, t.bytes())
    });
    let given = given.collect::<Result<Vec<_>, _>>()?;
    let views: Vec<View<'_>> = given.iter().map(RunTensor::view).collect();
    running.execute(&views, &mut cx).map_err(|_| show(cx.diags.all()))?;
    let results = running.results();
    let back = results.iter().map(|v| {
        let dtype = portwright_cli::values::dtype_of(v.dtype)?;
        Tensor::new(dtype, v.dims.iter().map(|&d| d as usize).collect(), v.data.to_vec())
    });
    back.collect::<Option<Vec<_>>>().ok_or_else(|| "an output is no tensor of numbers".to_owned())
}

/// Emitted text of a case is as it was reviewed: a raw file that LLVM's own tools read.
pub fn emitted(case: &Case, stage: &str) -> Result<(), String> {
    let mut cx = cx();
    let o = options("x86-64", Some(MACHINE))?;
    let c = compile::lower(case.graph()?, &o, None, &mut cx).map_err(|_| show(cx.diags.all()))?;
    let (form, extension) = if stage == "asm" { (Some(Form::Assembly), "s") } else { (None, "mlir") };
    let settings = codegen::Options { workers: Workers::InProcess, ..Default::default() };
    let text = codegen::text(&c.main.module, &c.main.plan, &o.machine, &settings, form, &mut cx.diags).map_err(|_| show(cx.diags.all()))?;
    snap::raw("core", &case.name, extension, text.into_bytes())
}

/// The machine of the snapshots is that of the target.
pub fn machine_is_the_targets() -> Result<(), String> {
    let m = options("x86-64", Some(MACHINE))?.machine;
    if m.class == class() && m.caps == caps() {
        return Ok(());
    }
    Err(format!("{MACHINE} of the target is {:?} {:?}: say so in `core::class` and `core::caps`", m.class, m.caps))
}
