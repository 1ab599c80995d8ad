// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask coverage`: which lines of `ir` and `frontend` the tests of these rooms run, the ONNX suite through the Graph interpreter
//! among them where `PORTWRIGHT_SUITE` names it.
//!
//! The crates of the workspace are built once more with counters, those of others are not: cargo calls this program in the place of the
//! compiler ([`compile`]), and keeps what it makes under names of its own. LLVM's tools are those of `./setup`; a toolchain's own
//! (`llvm-profdata`, `llvm-cov` in the PATH) do as well.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use serde_json::Value;

use crate::process::Task;
use crate::{Outcome, root};

/// Rooms that are measured, and crates whose tests run.
const ROOMS: [&str; 2] = ["ir", "frontend"];
const CRATES: [&str; 2] = ["portwright-ir", "portwright-frontend"];
/// Set where this program stands in the place of the compiler.
const COMPILES: &str = "PORTWRIGHT_COVERAGE_COMPILES";
/// Least share of lines, in percent.
const LEAST: f64 = 80.0;

/// Lines of a room, and how many ran.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    all: u64,
    run: u64,
}

/// Builds, runs, prints a line a room; fails below [`LEAST`].
pub fn run(rest: &[String]) -> Outcome {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("coverage");
    let profiles = folder.join("profiles");
    let _ = std::fs::remove_dir_all(&profiles);
    std::fs::create_dir_all(&profiles).map_err(|e| format!("{}: {e}", profiles.display()))?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let cargo = || {
        let mut task = Task::cargo(["test", "--lib", "--tests"]);
        for c in CRATES {
            task = task.args(["--package", c]);
        }
        task.env("RUSTC_WORKSPACE_WRAPPER", &own.display().to_string())
            .env(COMPILES, "1")
            .env("LLVM_PROFILE_FILE", &profiles.join("%p-%m.profraw").display().to_string())
            .args(rest)
    };
    cargo().run()?;
    let listed = cargo().args(["--no-run", "--message-format", "json"]).output()?;
    let programs = programs(&listed);
    let data = folder.join("all.profdata");
    let raw = std::fs::read_dir(&profiles).map_err(|e| e.to_string())?.flatten().map(|e| e.path());
    Task::new(tool("llvm-profdata")?).args(["merge", "--sparse", "-o"]).arg(&data).args(raw).run()?;
    let mut export = Task::new(tool("llvm-cov")?).args(["export", "--summary-only", "--instr-profile"]).arg(&data);
    for p in &programs {
        export = export.arg("--object").arg(p);
    }
    let found = lines(&export.output()?, &root().display().to_string())?;
    let mut poor = Vec::new();
    for (room, l) in &found {
        let share = 100.0 * l.run as f64 / l.all.max(1) as f64;
        println!("{room}: {} of {} lines run, {share:.1} %", l.run, l.all);
        if share < LEAST {
            poor.push(room.clone());
        }
    }
    if poor.is_empty() { Ok(()) } else { Err(format!("less than {LEAST} % of the lines run: {}", poor.join(", "))) }
}

/// As the compiler: `rustc ARGUMENTS..` with counters; `None` where this program is not called for that.
pub fn compile() -> Option<ExitCode> {
    std::env::var_os(COMPILES)?;
    let mut command = std::env::args_os().skip(1);
    let done = Command::new(command.next()?).args(command).arg("-Cinstrument-coverage").status();
    Some(if done.is_ok_and(|s| s.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The newest of LLVM's tools of that name.
fn tool(name: &str) -> Result<String, String> {
    let names = [format!("{name}-22"), name.to_owned()];
    let works = |n: &&String| Command::new(n).arg("--version").output().is_ok_and(|o| o.status.success());
    names.iter().find(works).cloned().ok_or(format!("no {name}: run ./setup, or `rustup component add llvm-tools`"))
}

/// Test programs that cargo has built, by its messages.
fn programs(messages: &str) -> Vec<String> {
    let one = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("executable")?.as_str().map(str::to_owned);
    messages.lines().filter_map(one).collect()
}

/// Lines by room in a report of `llvm-cov export`; the rooms' own tests do not count.
fn lines(report: &str, root: &str) -> Result<BTreeMap<String, Lines>, String> {
    let report: Value = serde_json::from_str(report).map_err(|e| format!("the report of llvm-cov: {e}"))?;
    let mut out: BTreeMap<String, Lines> = ROOMS.iter().map(|r| ((*r).to_owned(), Lines::default())).collect();
    let files = report["data"][0]["files"].as_array().ok_or("the report of llvm-cov has no files")?;
    for f in files {
        let name = f["filename"].as_str().unwrap_or_default();
        let inside = name.strip_prefix(root).unwrap_or(name).trim_start_matches('/');
        let Some((room, path)) = inside.split_once("/src/") else { continue };
        if path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs")) {
            continue;
        }
        if let Some(l) = out.get_mut(room) {
            let number = |key: &str| f["summary"]["lines"][key].as_u64().unwrap_or(0);
            l.all += number("count");
            l.run += number("covered");
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_room_without_tests() {
        let file = |name: &str, count: u64, covered: u64| serde_json::json!({"filename": format!("/here/{name}"), "summary": {"lines": {"count": count, "covered": covered}}});
        let files = [
            file("ir/src/sym.rs", 100, 90),
            file("ir/src/sym/tests.rs", 50, 50),
            file("frontend/src/cx.rs", 10, 5),
            file("cli/src/x.rs", 9, 9),
        ];
        let report = serde_json::json!({"data": [{"files": files}]}).to_string();
        let found = lines(&report, "/here").unwrap();
        assert_eq!(found["ir"], Lines { all: 100, run: 90 });
        assert_eq!(found["frontend"], Lines { all: 10, run: 5 });
        assert_eq!(programs("{\"executable\":\"/a/b\"}\n{\"executable\":null}\nnothing"), ["/a/b"]);
    }
}
