// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Caches that a C program keeps in one piece of memory: what the model appends is written there, and nothing else changes.

use std::process::Command;

use libtest_mimic::Trial;

use crate::command::{ended, portwright, program, scratch};
use crate::skip::{Done, trial};
use crate::snap;

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(trial("decode.c::host", on_host));
}

fn on_host() -> Result<Done, String> {
    let Some(cc) = program(&["clang-22", "cc"]) else { return Ok(Done::Skipped("no C compiler".into())) };
    let folder = scratch("decode-host")?;
    let (graph, bundle, exe) = (snap::root().join("c/decode.graph"), folder.join("bundle"), folder.join("decode"));
    let text = |p: &std::path::Path| p.display().to_string();
    portwright(&folder, &["--quiet", "compile", &text(&graph), "-o", &text(&bundle)])?.well()?;
    let (include, source) = (text(&bundle.join("include")), text(&snap::root().join("c/decode.c")));
    let mut build = Command::new(&cc);
    build.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-I", &include, &source, "-o", &text(&exe), "-ldl"]);
    ended(build)?.well()?;
    let mut run = Command::new(&exe);
    run.args([&text(&bundle), "40"]);
    let said = ended(run)?.well()?.stdout;
    if said.contains("2 caches in place, the same bytes") { Ok(Done::Passed) } else { Err(said) }
}
