// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright check`: the real pipeline up to the plan, for every model and target, with no code made.

use portwright_ir::diag::{Diagnostic, Lowered, Severity};
use portwright_passes::pipeline::Compiled;
use portwright_targets::target;

use crate::args::{CheckArgs, TargetArgs};
use crate::bill::{Bill, Interface};
use crate::{Cx, compile, model};

/// Checks models against targets and prints one line each; reports everything.
///
/// # Errors
/// What will not work.
pub fn run(a: CheckArgs, cx: &mut Cx) -> Lowered<()> {
    let targets: Vec<String> = match (a.all, a.target.is_empty()) {
        (true, _) => target::all().iter().map(|t| t.spec().id.to_owned()).collect(),
        (_, true) => vec!["host".into()],
        _ => a.target.clone(),
    };
    let mut rows = Vec::new();
    let mut failed: Vec<Diagnostic> = Vec::new();
    for path in &a.models {
        for id in &targets {
            let args = TargetArgs { target: Some(id.clone()), cpu: None, dims: Vec::new(), math: None, no_reroll: a.no_reroll };
            let outcome: Lowered<(Bill, Compiled)> = (|| {
                let options = compile::options(&args, cx)?;
                let m = model::load(path, &[], a.weightless, cx)?;
                let interface = Interface::of(&m.graph);
                let compiled = compile::lower(m.graph, &options, None, cx)?;
                Ok((Bill::of(&interface, &compiled), compiled))
            })();
            let found = cx.diags.take();
            let errors = found.iter().filter(|d| d.severity == Severity::Error).count();
            let (kernels, launches) = outcome.as_ref().map_or((0, 0), |(_, c)| (c.main.module.kernels.len(), c.main.plan.body.len()));
            rows.push(serde_json::json!({
                "model": path.display().to_string(), "target": id, "ok": outcome.is_ok(), "kernels": kernels, "statements": launches,
                "bill": outcome.as_ref().ok().map(|(b, _)| b.json()),
                "errors": found.iter().filter(|d| d.severity == Severity::Error)
                    .map(|d| serde_json::json!({"code": d.code.to_string(), "path": d.path, "op": d.op, "message": d.message, "help": d.help}))
                    .collect::<Vec<_>>(),
            }));
            if !a.json {
                let verdict = if outcome.is_ok() { format!("ok, {kernels} kernels") } else { format!("{errors} errors") };
                println!("{}  {id}  {verdict}", path.display());
                if let Ok((bill, _)) = &outcome {
                    print!("{}", bill.text());
                }
            }
            failed.extend(found);
        }
    }
    if a.json {
        println!("{}", serde_json::Value::from(rows));
    }
    cx.diags.extend(failed);
    cx.diags.check()
}
