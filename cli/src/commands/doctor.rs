// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright doctor`: which tools are there, which are missing, and what installs them.

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_targets::target;

use crate::Cx;
use crate::args::DoctorArgs;

/// Prints what each target needs and has.
///
/// # Errors
/// `E0501` if something that a target needs is missing.
pub fn run(a: DoctorArgs, cx: &mut Cx) -> Lowered<()> {
    let ids: Vec<&str> = match &a.target {
        Some(id) => vec![id.as_str()],
        None => target::all().iter().map(|t| t.spec().id).collect(),
    };
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for id in ids {
        let t = target::lookup(id).map_err(|e| cx.diags.report(e.diagnostic(id)))?;
        let Some(tool) = t.toolchain() else { continue };
        let found = tool.probe();
        if found.is_none() {
            missing.push(format!("{} for {id}: {}", tool.name(), tool.remedy()));
        }
        if a.json {
            rows.push(serde_json::json!({"target": id, "tool": tool.name(), "found": found, "remedy": tool.remedy()}));
        } else {
            println!("{id:<14}{:<10}{}", tool.name(), found.unwrap_or_else(|| format!("missing: {}", tool.remedy())));
        }
    }
    if a.json {
        println!("{}", serde_json::json!({"schema": 1, "tools": rows}));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let d = Diagnostic::error(Code::TOOL_MISSING, format!("{} tools are missing", missing.len()));
    let d = missing.into_iter().fold(d, |d, m| d.note(m));
    cx.fail(d.help("./setup installs what is missing"))
}
