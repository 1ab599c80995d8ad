// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `check` says that a model runs if and only if it compiles and the result is right: random graphs as native code, and the models of the
//! zoo, which `zoo/` compiles and runs. It looks at the same [`GRAPHS`] every time, or as long as `PORTWRIGHT_PROPERTY_SECONDS` says;
//! `portwright-fuzz` holds random graphs against the interpreters of plans and kernels.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use portwright_cli::commands::check::outcomes_of;
use portwright_cli::compile;
use portwright_cli::model;
use portwright_cli::place::Place;
use portwright_cli::progress::Progress;
use portwright_fuzz::draw::Draw;
use portwright_fuzz::{graphs, program};
use portwright_ir::graph::{interp, text};

use crate::command::scratch;
use crate::core::show;
use crate::native;
use crate::skip::{Done, always, trial};

/// How many random graphs are compiled where nobody says for how long.
const GRAPHS: u64 = 60;

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(always("property/check_tells_what_runs", random_graphs));
    out.push(trial("property/check_tells_that_the_models_run", models));
}

fn random_graphs() -> Result<(), String> {
    let (start, folder) = (Instant::now(), scratch("property")?);
    let seconds = std::env::var("PORTWRIGHT_PROPERTY_SECONDS").ok().and_then(|s| s.parse().ok());
    let mut done = 0;
    for seed in 0u64.. {
        if seconds.map_or(seed == GRAPHS, |s| start.elapsed() > Duration::from_secs(s)) {
            break;
        }
        one(seed, &folder).map_err(|e| format!("seed {seed}: {e}"))?;
        done += 1;
    }
    println!("property: {done} random graphs");
    if done == 0 { Err("no graph in that time".into()) } else { Ok(()) }
}

/// Whether `check` says that the model runs, with what it found.
fn says(path: &Path) -> Result<(bool, String), String> {
    let mut cx = native::cx();
    let options = [("host", native::options("host", None)?)];
    let found = outcomes_of(path, &options, false, &mut cx).map_err(|_| show(cx.diags.all()))?;
    let one = found.first().ok_or("no outcome")?;
    Ok((one.ok(), show(&one.found)))
}

fn one(seed: u64, folder: &Path) -> Result<(), String> {
    // Seeds of their own: the other rungs have the first ones.
    let mut d = Draw::seed(seed.wrapping_add(1 << 32));
    let g = graphs::graph(&mut d, 10);
    let printed = text::print(&g);
    let path = folder.join("model.graph");
    std::fs::write(&path, &printed).map_err(|e| e.to_string())?;
    let (runs, found) = says(&path)?;
    let mut cx = native::cx();
    let o = native::options("host", None)?;
    // Libraries that were loaded stay: each has a place of its own.
    let out = folder.join(format!("model-{seed}.pw"));
    let made = model::load(&path, &[], false, &mut cx).and_then(|m| compile::bundle(m, &o, &out, false, &mut Progress::new(true), &mut cx));
    match (runs, made) {
        (true, Err(_)) => return Err(format!("`check` finds nothing, and it does not compile: {}\n{printed}", show(cx.diags.all()))),
        (false, Ok(_)) => return Err(format!("it compiles, and `check` finds: {found}\n{printed}")),
        (false, Err(_)) => return Ok(()),
        (true, Ok(_)) => {}
    }
    let inputs = graphs::inputs(&g, &mut d);
    let want = interp::run(&g, &inputs, &interp::Options::default());
    let got = native::run(&out, &Place::Here, 2, &inputs);
    match (want, got) {
        (Ok(w), Ok(t)) => program::same(&g, &inputs, &w, &t).map_err(|e| format!("{e}\n{printed}")),
        (Err(_), Err(_)) => Ok(()),
        (Err(e), Ok(_)) => Err(format!("it runs, and the interpreter says: {e}\n{printed}")),
        (Ok(_), Err(e)) => Err(format!("it does not run: {e}\n{printed}")),
    }
}

fn models() -> Result<Done, String> {
    let Some(zoo) = std::env::var_os("PORTWRIGHT_ZOO").map(PathBuf::from) else {
        return Ok(Done::Skipped("PORTWRIGHT_ZOO names no models".into()));
    };
    let mut bad = Vec::new();
    for e in std::fs::read_dir(&zoo).map_err(|e| e.to_string())?.flatten() {
        let path = e.path().join("model.onnx");
        // Those with cases are compiled and run by `zoo/`.
        let cases =
            std::fs::read_dir(e.path()).into_iter().flatten().flatten().any(|f| f.file_name().to_string_lossy().ends_with(".inputs.npz"));
        if !cases || std::fs::metadata(&path).map_or(u64::MAX, |m| m.len()) > 20 << 20 {
            continue;
        }
        let (runs, found) = says(&path)?;
        if runs {
            continue;
        }
        let (mut cx, o) = (native::cx(), native::options("host", None)?);
        let m = model::load(&path, &[], false, &mut cx);
        if m.and_then(|m| compile::lower(m.graph, &o, None, &mut cx)).is_ok() {
            bad.push(format!("{}: it compiles, and `check` finds: {found}", e.file_name().display()));
        }
    }
    if bad.is_empty() { Ok(Done::Passed) } else { Err(bad.join("\n")) }
}
