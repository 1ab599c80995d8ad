// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright compile`.

use std::path::Path;

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_runtime::bundle::Bundle;
use portwright_runtime::features::Arch;
use portwright_runtime::manifest::HostNode;
use portwright_runtime::program;
use portwright_targets::libc::Libc;

use crate::args::CompileArgs;
use crate::bill::{Bill, Interface};
use crate::progress::Progress;
use crate::{Cx, compile, libc, model, place};

/// Compiles a model and prints the path of the bundle or executable.
///
/// # Errors
/// Anything on the way.
pub fn run(a: CompileArgs, cx: &mut Cx) -> Lowered<()> {
    refuse(&a, cx)?;
    let mut progress = Progress::new(cx.quiet);
    let options = compile::options(&a.target, cx)?;
    let libc = if a.executable { Some(c_library(&a, options.machine.triple, cx)?) } else { None };
    if let (true, Some(out)) = (a.executable, &a.output) {
        program::check_place(out).map_err(|e| cx.diags.report(compile::executable_error(&e)))?;
    }
    progress.stage("import");
    let model = model::load(&a.model, &a.target.dims, a.weightless, cx)?;
    let nodes = model.graph.len();
    let out = a.output.unwrap_or_else(|| match &libc {
        Some(_) => format!("{}-{}", model.name, a.target.id()).into(),
        None => format!("{}.pw", model.name).into(),
    });
    if libc.is_some() {
        compile::check_executable(&options, &out, cx)?;
    }
    let interface = Interface::of(&model.graph);
    let (compiled, about) = compile::compiled(model, &options, &mut progress, cx)?;
    let bill = Bill::of(&interface, &compiled);
    let (path, host, line) = match &libc {
        Some(libc) => {
            let made = compile::executable_of(compiled, about, &options, &out, libc, &mut progress, cx)?;
            let line = format!(", linked with {libc}, {:.2} MB", made.bytes as f64 / 1e6);
            (made.path, made.manifest.host_nodes, line)
        }
        None => {
            let path = compile::bundle_of(compiled, about, &options, &out, a.weightless, &mut progress, cx)?;
            // A CPU is its own host, so nothing is placed elsewhere and nothing crosses; what a device target leaves to the host is listed.
            let host = Bundle::read(&path).map(|b| b.manifest.host_nodes).unwrap_or_default();
            (path, host, String::new())
        }
    };
    within(&host, a.target.id(), a.max_fallback, &path, cx)?;
    progress.say(&format!(
        "{} nodes on {}, {} on the host, 0 bytes cross{line}",
        nodes - host.len().min(nodes),
        options.machine.target,
        host.len()
    ));
    progress.say(bill.text().trim_end());
    println!("{}", path.display());
    Ok(())
}

/// Options that say nothing here.
fn refuse(a: &CompileArgs, cx: &mut Cx) -> Lowered<()> {
    let mut unused = |m: &str, help: &str| {
        cx.diags.report(Diagnostic::error(Code::OPTION_UNUSED, m).help(help));
    };
    if a.host.is_some() {
        unused("--host names the machine that drives a device; this target drives itself", "leave --host out");
    }
    if a.executable && a.weightless {
        unused(
            "--static puts the weights into the executable, and --weightless leaves them out",
            "leave --weightless out where the model's data files are, or compile a bundle without --static and complete it with `pack`",
        );
    }
    if a.sysroot.is_some() && !a.executable {
        unused("--sysroot names the C library of a static executable, and a bundle needs none", "leave --sysroot out, or add --static");
    }
    cx.diags.check()
}

fn c_library(a: &CompileArgs, triple: &str, cx: &mut Cx) -> Lowered<Libc> {
    let Some(arch) = Arch::of_triple(triple) else {
        let d = Diagnostic::error(Code::OPTION_UNUSED, format!("--static makes an executable for a CPU, and {} is none", a.target.id()));
        return cx.fail(d.help("leave --static out"));
    };
    libc::find(a.sysroot.as_deref(), arch, cx)
}

/// Holds what runs on the host against `--max-fallback`; over it nothing stays.
fn within(host: &[HostNode], target: &str, most: Option<usize>, path: &Path, cx: &mut Cx) -> Lowered<()> {
    place::fallback(host, target, most, cx).inspect_err(|_| {
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    })
}
