// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright compile`.

use portwright_ir::diag::{Code, Diagnostic, Lowered};

use portwright_runtime::bundle::Bundle;

use crate::args::CompileArgs;
use crate::progress::Progress;
use crate::{Cx, compile, model, place};

/// Compiles a model and prints the bundle's path.
///
/// # Errors
/// Anything on the way.
pub fn run(a: CompileArgs, cx: &mut Cx) -> Lowered<()> {
    if a.host.is_some() {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "--host names the machine that drives a device; this target drives itself");
        return cx.fail(d.help("leave --host out"));
    }
    let mut progress = Progress::new(cx.quiet);
    let options = compile::options(&a.target, cx)?;
    progress.stage("import");
    let model = model::load(&a.model, &a.target.dims, a.weightless, cx)?;
    let nodes = model.graph.len();
    let out = a.output.unwrap_or_else(|| format!("{}.pw", model.name).into());
    let path = compile::bundle(model, &options, &out, a.weightless, &mut progress, cx)?;
    // A CPU is its own host, so nothing is placed elsewhere and nothing crosses; what a device target leaves to the host is listed.
    let host = Bundle::read(&path).map(|b| b.manifest.host_nodes).unwrap_or_default();
    if let Err(over) = place::fallback(&host, a.target.id(), a.max_fallback, cx) {
        let _ = std::fs::remove_dir_all(&path);
        return Err(over);
    }
    progress.say(&format!(
        "{} nodes on {}, {} on the host, 0 bytes cross",
        nodes - host.len().min(nodes),
        options.machine.target,
        host.len()
    ));
    println!("{}", path.display());
    Ok(())
}
