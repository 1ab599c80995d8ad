// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright run`.

use std::path::Path;

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_runtime::load::Info;
use portwright_runtime::value::Value;

use crate::args::{On, RunArgs};
use crate::compile::Scratch;
use crate::place::{self, Running, Start};
use crate::progress::Progress;
use crate::view::{self, Views};
use crate::{Cx, values};

/// Runs a model or bundle once.
///
/// # Errors
/// Anything on the way.
pub fn run(a: RunArgs, cx: &mut Cx) -> Lowered<()> {
    if a.on == Some(On::Interpreter) {
        return super::interpret::run(&a, cx);
    }
    let mut progress = Progress::new(cx.quiet);
    let scratch = Scratch::new(cx)?;
    let (bundle, place) = place::prepare(&a.model, &a.target, (a.on, a.max_fallback), &scratch, &mut progress, cx)?;
    let views = view::read(&bundle.join(view::FILE), cx)?;
    progress.say(&place.line());
    progress.stage("run");
    let mut running = Running::start(&bundle, &place, Start { threads: a.threads, profile: false }, cx)?;
    let inputs = inputs(a.inputs.as_deref(), a.random, running.inputs(), cx)?;
    running.execute(&inputs, cx)?;
    progress.end();
    let names: Vec<&str> = running.outputs().iter().map(|o| o.name.as_str()).collect();
    show(&names, &running.values(), views.as_ref(), (a.outputs.as_deref(), a.json), cx)
}

/// Writes or prints results.
///
/// # Errors
/// `E0702`.
pub fn show(names: &[&str], results: &[Value], views: Option<&Views>, (file, json): (Option<&Path>, bool), cx: &mut Cx) -> Lowered<()> {
    if let Some(path) = file {
        values::write(path, names, results, cx)?;
    }
    if json {
        let list: Vec<_> = names
            .iter()
            .zip(results)
            .map(|(n, v)| {
                let mut entry = values::json(v);
                if !entry.is_object() {
                    entry = serde_json::json!({ "value": entry });
                }
                entry["name"] = (*n).into();
                entry
            })
            .collect();
        println!("{}", serde_json::json!({"schema": 1, "outputs": list}));
    } else if file.is_none() {
        if let Some(title) = views.map(|v| v.title.as_str()).filter(|t| !t.is_empty()) {
            println!("{title}");
        }
        for (n, v) in names.iter().zip(results) {
            print!("{}", values::describe_value(n, v, views));
        }
    }
    Ok(())
}

/// Inputs from a file or folder, or random ones.
///
/// # Errors
/// `E0704`.
pub fn inputs(from: Option<&Path>, seed: Option<u64>, wanted: &[Info], cx: &mut Cx) -> Lowered<Vec<Value>> {
    match (from, seed) {
        (Some(path), _) => values::read(path, wanted, cx),
        (None, _) if wanted.is_empty() => Ok(Vec::new()),
        (None, Some(seed)) => values::random(seed, wanted, cx),
        (None, None) => {
            let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
            let d = Diagnostic::error(Code::BAD_OPTION, format!("the model takes {}, and no inputs are given", names.join(", ")));
            cx.fail(d.help("--inputs X.npz with arrays of these names, or --random SEED"))
        }
    }
}
