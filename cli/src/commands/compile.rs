// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright compile`.

use portwright_ir::diag::{Code, Diagnostic, Lowered};

use crate::args::CompileArgs;
use crate::progress::Progress;
use crate::{Cx, compile, model};

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
    progress.say(&format!("{nodes} nodes on {}, 0 on the host, 0 bytes cross", options.machine.target));
    println!("{}", path.display());
    Ok(())
}
