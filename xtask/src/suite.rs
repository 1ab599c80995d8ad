// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask suite`: the ONNX test suite on one target, against the list of cases that are known to pass there.
//!
//! The list, `tests/suite/TARGET.txt`, only grows: a case on it that does not pass any more fails the command, a case that
//! passes and is not on it is reported until `--bless` adds it. `--sample N` runs N cases of the list, always the same ones, drawn in
//! turn from every family of operators; with `--bless` the list is that of the sample. `--without KIND` leaves out a kind of cases, a folder of the suite: the list keeps those that
//! passed before, others are listed as not run. `--last` runs nothing, and takes what the last run of the whole suite ended with.

use crate::process::Task;
use crate::{Outcome, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is said of a case of a kind that is left out.
const NOT_RUN: &str = "not run: its kind takes minutes a case in an emulator";

/// What is said of a case that the sample has not.
const NOT_DRAWN: &str = "not run: the target is shown on a sample";

/// What the command line asks for.
#[derive(Default)]
struct Asked {
    targets: Vec<String>,
    bless: bool,
    sample: Option<usize>,
    without: Vec<String>,
    last: bool,
    passed_on: Vec<String>,
}

/// Runs the suite; `rest` is `[--target T]... [--without KIND]... [--sample N | --last] [--bless]` and what else `portwright suite` takes.
pub fn run(rest: &[String]) -> Outcome {
    let mut asked = Asked::default();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--target" => asked.targets.push(value()?.clone()),
            "--sample" => asked.sample = Some(value()?.parse().map_err(|_| "--sample needs a number")?),
            "--bless" => asked.bless = true,
            "--without" => asked.without.push(value()?.clone()),
            "--last" => asked.last = true,
            other => asked.passed_on.push(other.to_string()),
        }
    }
    if asked.targets.is_empty() {
        asked.targets.push("host".to_string());
    }
    let suite = root().join("tools/.cache/suite");
    if !suite.join("SUITE").exists() {
        return Err("no suite in tools/.cache: run `cargo xtask suite-data` first".to_string());
    }
    if !asked.last {
        Task::cargo(["build", "--release", "--package", "portwright-cli"]).run()?;
    }
    let mut failures = Vec::new();
    for target in &asked.targets {
        if let Err(e) = one_target(&suite, target, &asked) {
            failures.push(format!("{target}: {e}"));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// What each case of the last run of the suite on a target ended with: status and message by name.
pub fn last(target: &str) -> Result<BTreeMap<String, (String, String)>, String> {
    let report = root().join(format!("tools/.cache/suite-{target}.json"));
    statuses(&std::fs::read_to_string(&report).map_err(|e| format!("no report of the suite on {target}: {e}"))?)
}

fn one_target(suite: &Path, target: &str, asked: &Asked) -> Outcome {
    let list_path = root().join(format!("tests/suite/{target}.txt"));
    // A target without a list of its own is held to that of the host.
    let list =
        std::fs::read_to_string(&list_path).or_else(|_| std::fs::read_to_string(root().join("tests/suite/host.txt"))).unwrap_or_default();
    let mut known: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let kinds = std::fs::read_dir(suite).map_err(|e| format!("tools/.cache/suite: {e}"))?;
    let mut folders: Vec<_> = kinds.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let (out, mut folders): (Vec<PathBuf>, Vec<PathBuf>) =
        folders.into_iter().partition(|f| f.file_name().is_some_and(|n| asked.without.iter().any(|w| n == w.as_str())));
    let mut left_out: BTreeMap<String, &str> = out.iter().flat_map(|f| names(f)).map(|name| (name, NOT_RUN)).collect();
    if let Some(n) = asked.sample {
        let drawn: BTreeSet<&str> = sample(&known, &families(), n).into_iter().collect();
        let others = folders.iter().flat_map(|f| names(f)).filter(|name| !drawn.contains(name.as_str()));
        left_out.extend(others.map(|name| (name, NOT_DRAWN)));
        known.retain(|name| drawn.contains(name));
        folders = known.iter().filter_map(|name| folders.iter().map(|f| f.join(name)).find(|p| p.is_dir())).collect::<Vec<PathBuf>>();
    }
    let report = suite.with_file_name(format!("suite-{target}.json"));
    if !asked.last {
        let _ = std::fs::remove_file(&report);
        let mut task = Task::cargo(["run", "--release", "--quiet", "--package", "portwright-cli", "--bin", "portwright", "--", "suite"]);
        task = task.args(&folders).args(["--target", target, "--json"]).arg(&report).args(&asked.passed_on);
        // The exit status says that some case failed; which ones may, the list knows.
        let _ = task.run();
    }
    let text = std::fs::read_to_string(&report).map_err(|e| format!("`portwright suite` wrote no report: {e}"))?;
    let mut statuses = statuses(&text)?;
    // What passed before and was left out by its kind stays on the list.
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for (name, why) in &left_out {
        if !statuses.contains_key(name) {
            if known.remove(name.as_str()) && *why == NOT_RUN {
                kept.insert(name);
            } else {
                statuses.insert(name.clone(), ("skipped".into(), (*why).into()));
            }
        }
    }

    let (lost, gained) = compare(&known, &statuses);
    for (name, status) in &lost {
        println!("lost: {name} ({status})");
    }
    if !gained.is_empty() {
        println!("{} cases pass that are not in tests/suite/{target}.txt", gained.len());
    }
    let count = |status: &str| statuses.values().filter(|(s, _)| s == status).count();
    println!("{target}: {} passed, {} failed, {} unsupported; {} lost", count("passed"), count("failed"), count("unsupported"), lost.len());
    if asked.bless {
        let passing = statuses.iter().filter(|(_, (status, _))| status == "passed").map(|(name, _)| name.as_str());
        let mut text = format!("# Cases of the ONNX test suite that pass on `{target}`; written by `cargo xtask suite --bless`.\n");
        for name in passing.chain(kept).collect::<BTreeSet<_>>() {
            text.push_str(name);
            text.push('\n');
        }
        std::fs::create_dir_all(root().join("tests/suite")).map_err(|e| e.to_string())?;
        std::fs::write(&list_path, text).map_err(|e| format!("{}: {e}", list_path.display()))?;
        let rest_path = root().join(format!("tests/suite/{target}-not.txt"));
        std::fs::write(&rest_path, not_passing(target, &statuses)).map_err(|e| format!("{}: {e}", rest_path.display()))?;
        return Ok(());
    }
    if lost.is_empty() { Ok(()) } else { Err(format!("{} cases that passed do not pass any more", lost.len())) }
}

/// Names of what lies in a folder.
fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// What the cases that do not pass ended with, a line each: name, status, message. `docs/SUITE.md` is made of it.
fn not_passing(target: &str, statuses: &BTreeMap<String, (String, String)>) -> String {
    let mut text = format!("# Cases of the ONNX test suite that do not pass on `{target}`; written by `cargo xtask suite --bless`.\n");
    for (name, (status, message)) in statuses.iter().filter(|(_, (status, _))| status != "passed") {
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("{name}\t{status}\t{message}\n"));
    }
    text
}

/// Operators in lower case, with the importer's file that has each: its family.
fn families() -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("frontend/src/ops")).into_iter().flatten().flatten() {
        let family = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_string();
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        for part in text.split("op(\"").skip(1) {
            if let Some((name, _)) = part.split_once('"') {
                out.insert(name.to_lowercase(), family.clone());
            }
        }
    }
    out
}

/// Family of a case by its name, `test_averagepool_2d_default`: that of the longest operator that the name begins with.
fn family<'f>(case: &str, families: &'f BTreeMap<String, String>) -> &'f str {
    let name = case.trim_start_matches("test_").to_lowercase().replace('_', "");
    let found = families.iter().filter(|(op, _)| name.starts_with(op.as_str())).max_by_key(|(op, _)| op.len());
    found.map_or("other", |(_, family)| family.as_str())
}

/// `n` cases, the same for the same list: in turn one of each family, in an order that depends on names only.
fn sample<'a>(known: &BTreeSet<&'a str>, ops: &BTreeMap<String, String>, n: usize) -> Vec<&'a str> {
    let mut by_family: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
    for &case in known {
        by_family.entry(family(case, ops)).or_default().push(case);
    }
    by_family.values_mut().for_each(|cases| cases.sort_by_key(|case| std::cmp::Reverse(draw(case))));
    let mut out = Vec::new();
    while out.len() < n && by_family.values().any(|cases| !cases.is_empty()) {
        let next = by_family.values_mut().filter_map(Vec::pop).take(n - out.len()).collect::<Vec<_>>();
        out.extend(next);
    }
    out
}

/// The place of a name in a fixed order that has nothing to do with the alphabet (FNV-1a).
fn draw(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Status and message of each case of a report, by the name of the case's folder.
fn statuses(report: &str) -> Result<BTreeMap<String, (String, String)>, String> {
    let report: Value = serde_json::from_str(report).map_err(|e| format!("the report of `portwright suite`: {e}"))?;
    let cases = report.as_array().or_else(|| report.get("cases").and_then(Value::as_array)).ok_or("the report has no cases")?;
    let field = |case: &Value, key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let name = |case: &Value| field(case, "case").trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
    Ok(cases.iter().map(|case| (name(case), (field(case, "status"), field(case, "message")))).collect())
}

/// Known cases that did not pass, each with what it did, and passing cases that are not known.
fn compare<'a>(known: &BTreeSet<&'a str>, statuses: &'a BTreeMap<String, (String, String)>) -> (Vec<(&'a str, String)>, Vec<&'a str>) {
    let mut lost = Vec::new();
    for &name in known {
        match statuses.get(name) {
            Some((status, _)) if status == "passed" => {}
            Some((status, message)) => lost.push((name, format!("{status}: {message}"))),
            None => lost.push((name, "not in the suite any more".to_string())),
        }
    }
    let passing = statuses.iter().filter(|(_, (status, _))| status == "passed").map(|(name, _)| name.as_str());
    (lost, passing.filter(|name| !known.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[{"case": "suite/node/test_a", "status": "passed"},
        {"case": "test_b", "status": "failed", "message": "numbers differ"}, {"case": "test_c", "status": "passed"}]"#;

    #[test]
    fn a_sample_has_every_family_and_is_always_the_same() {
        let ops: BTreeMap<String, String> = [("add", "elementwise"), ("averagepool", "pool"), ("conv", "conv"), ("convtranspose", "conv")]
            .map(|(a, b)| (a.into(), b.into()))
            .into();
        let known =
            BTreeSet::from(["test_add", "test_add_bcast", "test_add_uint8", "test_averagepool_2d", "test_convtranspose_pad", "test_zzz"]);
        assert_eq!(family("test_convtranspose_pad", &ops), "conv");
        let four = sample(&known, &ops, 4);
        assert_eq!(four.iter().map(|c| family(c, &ops)).collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(four, sample(&known, &ops, 4));
        assert_eq!(sample(&known, &ops, 100).len(), known.len());
    }

    #[test]
    fn what_does_not_pass_is_listed_with_its_reason() {
        let text = not_passing("host", &statuses(REPORT).unwrap());
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), ["test_b\tfailed\tnumbers differ"]);
    }

    #[test]
    fn a_lost_case_is_told_from_a_gained_one() {
        let statuses = statuses(REPORT).unwrap();
        let (lost, gained) = compare(&BTreeSet::from(["test_a", "test_b", "test_d"]), &statuses);
        assert_eq!(lost, [("test_b", "failed: numbers differ".to_string()), ("test_d", "not in the suite any more".to_string())]);
        assert_eq!(gained, ["test_c"]);
        assert!(super::statuses("{}").is_err());
    }
}
