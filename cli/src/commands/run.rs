// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright run`.

use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_runtime::bundle::Bundle;
use portwright_runtime::load::{self, LoadError, Model, Status};
use portwright_runtime::tensor::{Tensor, View};

use crate::args::{On, RunArgs, TargetArgs};
use crate::compile::Scratch;
use crate::progress::Progress;
use crate::{Cx, compile, model, values};

/// Runs a model or bundle once.
///
/// # Errors
/// Anything on the way.
pub fn run(a: RunArgs, cx: &mut Cx) -> Lowered<()> {
    if a.on == Some(On::Interpreter) {
        return super::interpret::run(&a, cx);
    }
    if a.on == Some(On::Emulator) {
        let d = Diagnostic::error(Code::NO_EXECUTOR, "no emulator is built into this command");
        return cx.fail(d.help("leave --on out to run on this machine, or use --on interpreter"));
    }
    let mut progress = Progress::new(cx.quiet);
    let scratch = Scratch::new(cx)?;
    let bundle = bundle(&a.model, &a.target, &scratch, &mut progress, cx)?;
    progress.stage("run");
    let loaded = load(&bundle, a.threads, false, cx)?;
    let inputs = inputs(a.inputs.as_deref(), a.random, &loaded, cx)?;
    let mut session = loaded.open().map_err(|e| cx.diags.report(run_error(&e)))?;
    let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
    let results = session.run(&views).map_err(|e| cx.diags.report(run_error(&e)))?;
    progress.end();
    let names: Vec<&str> = loaded.outputs().iter().map(|o| o.name.as_str()).collect();
    show(&names, &results, a.outputs.as_deref(), a.json, cx)
}

/// The bundle itself, or the one that the model is compiled to.
///
/// # Errors
/// Anything on the way of compiling.
pub fn bundle(subject: &Path, target: &TargetArgs, scratch: &Scratch, progress: &mut Progress, cx: &mut Cx) -> Lowered<PathBuf> {
    if model::is_bundle(subject) {
        return Ok(subject.to_path_buf());
    }
    let options = compile::options(target, cx)?;
    progress.stage("import");
    let m = model::load(subject, &target.dims, false, cx)?;
    compile::bundle(m, &options, &scratch.path().join("model.pw"), false, progress, cx)
}

/// Writes or prints results.
///
/// # Errors
/// `E0702`.
pub fn show(names: &[&str], results: &[View<'_>], file: Option<&Path>, json: bool, cx: &mut Cx) -> Lowered<()> {
    if let Some(path) = file {
        return values::write(path, names, results, cx);
    }
    if json {
        let list: Vec<_> = names
            .iter()
            .zip(results)
            .map(|(n, v)| serde_json::json!({"name": n, "dtype": portwright_runtime::dtype::name(v.dtype), "shape": v.dims, "values": values::elements(v)}))
            .collect();
        println!("{}", serde_json::json!({"schema": 1, "outputs": list}));
        return Ok(());
    }
    for (n, v) in names.iter().zip(results) {
        print!("{}", values::describe(n, v));
    }
    Ok(())
}

/// Loads a bundle.
///
/// # Errors
/// What the bundle says.
pub fn load(bundle: &Path, threads: u32, profile: bool, cx: &mut Cx) -> Lowered<Model> {
    let manifest = Bundle::read(bundle).map_err(|e| cx.diags.report(Diagnostic::error(Code::BAD_BUNDLE, e.to_string())))?.manifest;
    let machine = manifest.target.triple.split('-').next().unwrap_or_default();
    if machine != std::env::consts::ARCH {
        let m =
            format!("the bundle is for {} ({}), this machine is {}", manifest.target.id, manifest.target.triple, std::env::consts::ARCH);
        return cx.fail(Diagnostic::error(Code::BUNDLE_FOREIGN, m).help("compile for this machine: --target host"));
    }
    let options = load::Options { threads, profile, ..Default::default() };
    Model::load(bundle, &options).map_err(|e| cx.diags.report(load_error(&e)))
}

/// Inputs from a file or folder, or random ones.
///
/// # Errors
/// `E0704`.
pub fn inputs(from: Option<&Path>, seed: Option<u64>, model: &Model, cx: &mut Cx) -> Lowered<Vec<Tensor>> {
    match (from, seed, model.inputs()) {
        (_, _, []) => Ok(Vec::new()),
        (Some(path), _, wanted) => values::read(path, wanted, cx),
        (None, Some(seed), wanted) => values::random(seed, wanted, cx),
        (None, None, wanted) => {
            let names: Vec<PathBuf> = wanted.iter().map(|w| w.name.clone().into()).collect();
            let names = names.iter().map(|n| n.display().to_string()).collect::<Vec<_>>().join(", ");
            let d = Diagnostic::error(Code::BAD_OPTION, format!("the model takes {names}, and no inputs are given"));
            cx.fail(d.help("--inputs X.npz with arrays of these names, or --random SEED"))
        }
    }
}

/// A failed load as a report.
pub fn load_error(e: &LoadError) -> Diagnostic {
    let code = match e.status {
        Status::Cpu => Code::BUNDLE_FOREIGN,
        Status::Memory => Code::OVER_MEMORY,
        _ => Code::BAD_BUNDLE,
    };
    let d = Diagnostic::error(code, e.to_string());
    match e.status {
        Status::Cpu => d.help("compile for this machine: --target host"),
        _ => d,
    }
}

/// A failed run as a report.
pub fn run_error(e: &LoadError) -> Diagnostic {
    let code = match e.status {
        Status::Memory => Code::OVER_MEMORY,
        Status::Internal => Code::INTERNAL,
        _ => Code::RUN_FAILED,
    };
    Diagnostic::error(code, e.to_string())
}
