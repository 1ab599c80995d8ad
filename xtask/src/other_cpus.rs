// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask other-cpus`: all that is shown of CPUs that are not at hand, under qemu, and the page that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::process::Task;
use crate::{Outcome, chips, gpus, root, suite};

const TARGETS: [&str; 3] = ["loongarch64", "aarch64", "riscv64"];

/// Target and CPU whose vectors are measured.
const MACHINES: [(&str, &str); 7] = [
    ("loongarch64", "la464"),
    ("loongarch64", "loongarch64-lsx"),
    ("aarch64", "armv8-a"),
    ("aarch64", "armv8.2-a"),
    ("aarch64", "neoverse-v1"),
    ("riscv64", "rv64gcv"),
    ("riscv64", "rv64gcv-zvl256b"),
];

/// Seconds that a case of the suite may take in an emulator.
const TIMEOUT: &str = "300";

/// Runs all; with `--bless` writes what came out.
pub fn run(rest: &[String]) -> Outcome {
    let bless = match rest {
        [] => false,
        [one] if one == "--bless" => true,
        _ => return Err("other-cpus takes --bless and nothing else".into()),
    };
    let mut failures = Vec::new();
    for target in TARGETS {
        let arguments = ["--target", target, "--timeout", TIMEOUT].into_iter().chain(bless.then_some("--bless"));
        if let Err(e) = suite::run(&arguments.map(String::from).collect::<Vec<_>>()) {
            failures.push(e);
        }
    }
    let models = zoo(&TARGETS)?;
    failures.extend(failed(&models));
    if bless {
        let tried = TARGETS.map(|t| (format!("{t}::emulator"), t));
        let page = format!("{HEAD}{}{}{}", suites(&TARGETS)?, zoo_table(&models, &tried), lanes()?);
        let at = root().join("bench/OTHER_CPUS.md");
        std::fs::write(&at, page).map_err(|e| format!("{}: {e}", at.display()))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

const HEAD: &str = "\
<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->
# CPUs that are not here

What is executed for LoongArch64, 64-bit Arm and RISC-V, as machine code under qemu's user mode, against the same expected outputs as on the
machine at hand. Written by `cargo xtask other-cpus --bless`, with `PORTWRIGHT_ZOO` naming the folder of models.
";

/// What became of the suite's cases on targets, beside the list of the host.
pub fn suites(targets: &[&str]) -> Result<String, String> {
    let host = std::fs::read_to_string(root().join("tests/suite/host.txt")).unwrap_or_default();
    let host: BTreeSet<&str> = host.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let mut out = String::from(
        "\n## The ONNX test suite\n\n| target | passed | failed | unsupported | skipped | on the host's list and not passed |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let _ = writeln!(out, "| host | {} | | | | |", host.len());
    for target in targets {
        let all = suite::last(target)?;
        let count = |status: &str| all.values().filter(|(s, _)| s == status).count();
        let lost =
            host.iter().filter_map(|name| all.get(*name).filter(|(s, _)| s != "passed").map(|(s, m)| format!("`{name}` ({s}: {m})")));
        let mut lost: Vec<String> = lost.collect();
        let left_out = host.iter().filter(|name| !all.contains_key(**name)).count();
        if left_out > 0 {
            lost.push(format!("{left_out} that were not run"));
        }
        let lost = if lost.is_empty() { "none".into() } else { lost.join(", ") };
        let _ = writeln!(
            out,
            "| {target} | {} | {} | {} | {} | {lost} |",
            count("passed"),
            count("failed"),
            count("unsupported"),
            count("skipped")
        );
    }
    Ok(out)
}

/// Status of each small model by what was tried, `TARGET::emulator`, `TARGET::assembler` or `TARGET::compiles`.
pub type Models = BTreeMap<String, BTreeMap<String, String>>;

/// Tries small models on targets, with the emulator built as the release is.
pub fn zoo(targets: &[&str]) -> Result<Models, String> {
    let mut models = Models::new();
    let task = Task::cargo(["test", "--release", "--package", "portwright-tests", "--test", "cases", "--", "zoo/", "--skip", "host"]);
    skipping_others(task, targets).env("PORTWRIGHT_ZOO_EMULATED", "1").lines(|line| {
        if let Some((model, tried, status)) = trial(line) {
            models.entry(model.to_owned()).or_default().insert(tried.to_owned(), status.to_owned());
        }
    })?;
    if models.len() < 2 { Err("no trials of models: does PORTWRIGHT_ZOO name their folder?".into()) } else { Ok(models) }
}

/// A run of the tests without those of other targets than these, of all that are emulated.
pub fn skipping_others(task: Task, targets: &[&str]) -> Task {
    let all = TARGETS.into_iter().chain(gpus::ASSEMBLED).chain(chips::targets());
    all.filter(|t| !targets.contains(t)).fold(task, |task, t| task.args(["--skip", t]))
}

/// Model, what was tried and status of a line `test zoo/MODEL::TARGET::emulator ... ok`.
fn trial(line: &str) -> Option<(&str, &str, &str)> {
    let (name, status) = line.strip_prefix("test zoo/")?.split_once("... ")?;
    let (model, tried) = name.trim().split_once("::")?;
    ["::emulator", "::assembler", "::compiles"].iter().any(|t| tried.ends_with(t)).then(|| (model, tried, status.trim()))
}

/// What failed of it.
pub fn failed(models: &Models) -> impl Iterator<Item = String> {
    models.iter().filter(|(_, m)| m.values().any(|s| s == "FAILED")).map(|(name, _)| format!("{name}: failed"))
}

/// The table of models, with a column for everything that was tried.
pub fn zoo_table(models: &Models, tried: &[(String, &str)]) -> String {
    let mut out = String::from(
        "\n## Models of up to 10 MB\n\nEvery case of each, outputs as near to the expected ones as the host's have to be.\n\n",
    );
    let heads: Vec<&str> = tried.iter().map(|t| t.1).collect();
    let _ = writeln!(out, "| model | {} |\n| --- |{}", heads.join(" | "), " --- |".repeat(heads.len()));
    for (name, by_target) in models {
        let cell =
            |t: &(String, &str)| by_target.get(&t.0).map_or("-", |s| if s.starts_with("ignored") { "refused, as on the host" } else { s });
        let _ = writeln!(out, "| {name} | {} |", tried.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    out
}

/// Instructions with vectors and with one lane.
fn lanes() -> Result<String, String> {
    let mut out = String::from(
        "\n## What vectors save\n\nInstructions that kernels execute, against those of the same kernels with one lane (`portwright bench MODEL --target T --cpu NAME\n--profile`); `tests/stages/lanes` has the inner loops.\n\n| kernel | machine | instructions | one lane | ratio |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut cases: Vec<_> =
        std::fs::read_dir(root().join("tests/cases/lanes")).map_err(|e| e.to_string())?.flatten().map(|e| e.path()).collect();
    cases.sort();
    for case in cases {
        for (target, cpu) in MACHINES {
            let task = Task::cargo([
                "run",
                "--release",
                "--quiet",
                "--package",
                "portwright-cli",
                "--bin",
                "portwright",
                "--",
                "--quiet",
                "bench",
            ]);
            let report = task.arg(&case).args(["--target", target, "--cpu", cpu, "--profile", "--json"]).output()?;
            let report: Value = serde_json::from_str(&report).map_err(|e| format!("bench on {cpu}: {e}"))?;
            let sum = |key: &str| report["nodes"].as_array().into_iter().flatten().filter_map(|n| n[key].as_u64()).sum::<u64>();
            let (n, one) = (sum("instructions"), sum("one_lane"));
            let name = case.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let _ = writeln!(out, "| {name} | {target} {cpu} | {n} | {one} | {:.1} |", one as f64 / n.max(1) as f64);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_of_models_are_read() {
        let line = "test zoo/pt-vit::riscv64::emulator       ... ok";
        assert_eq!(trial(line), Some(("pt-vit", "riscv64::emulator", "ok")));
        assert_eq!(trial("test zoo/ml-svc::aarch64::assembler ... ignored, no"), Some(("ml-svc", "aarch64::assembler", "ignored, no")));
        assert_eq!(trial("test zoo/ml-svc::host::numbers ... ok"), None);
        assert_eq!(trial("test core/add::aarch64::emulator ... ok"), None);
    }
}
