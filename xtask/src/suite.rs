// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask suite`: the ONNX test suite on one target, against the list of cases that are known to pass there.
//!
//! The list, `tests/suite/TARGET.txt`, only grows: a case on it that does not pass any more fails the command, a case that
//! passes and is not on it is reported until `--bless` adds it.

use crate::process::Task;
use crate::{Outcome, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Runs the suite; `rest` is `[--target T] [--bless]` and what else `portwright suite` takes.
pub fn run(rest: &[String]) -> Outcome {
    let mut target = "host".to_string();
    let mut bless = false;
    let mut passed_on = Vec::new();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--target" => target = words.next().ok_or("--target needs a value")?.clone(),
            "--bless" => bless = true,
            other => passed_on.push(other.to_string()),
        }
    }
    let suite = root().join("tools/.cache/suite");
    if !suite.join("SUITE").exists() {
        return Err("no suite in tools/.cache: run `cargo xtask suite-data` first".to_string());
    }
    Task::cargo(["build", "--release", "--package", "portwright-cli"]).run()?;
    let kinds = std::fs::read_dir(&suite).map_err(|e| format!("tools/.cache/suite: {e}"))?;
    let mut folders: Vec<_> = kinds.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let report = suite.with_file_name(format!("suite-{target}.json"));
    let _ = std::fs::remove_file(&report);
    let mut task = Task::cargo(["run", "--release", "--quiet", "--package", "portwright-cli", "--bin", "portwright", "--", "suite"]);
    task = task.args(&folders).args(["--target", &target, "--json"]).arg(&report).args(&passed_on);
    // The exit status says that some case failed; which ones may, the list knows.
    let _ = task.run();
    let text = std::fs::read_to_string(&report).map_err(|e| format!("`portwright suite` wrote no report: {e}"))?;
    let statuses = statuses(&text)?;

    let list_path = root().join(format!("tests/suite/{target}.txt"));
    let list = std::fs::read_to_string(&list_path).unwrap_or_default();
    let known: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (lost, gained) = compare(&known, &statuses);
    for (name, status) in &lost {
        println!("lost: {name} ({status})");
    }
    if !gained.is_empty() {
        println!("{} cases pass that are not in tests/suite/{target}.txt", gained.len());
    }
    let count = |status: &str| statuses.values().filter(|(s, _)| s == status).count();
    println!("{target}: {} passed, {} failed, {} unsupported; {} lost", count("passed"), count("failed"), count("unsupported"), lost.len());
    if bless {
        let passing = statuses.iter().filter(|(_, (status, _))| status == "passed").map(|(name, _)| name.as_str());
        let mut text = format!("# Cases of the ONNX test suite that pass on `{target}`; written by `cargo xtask suite --bless`.\n");
        for name in passing {
            text.push_str(name);
            text.push('\n');
        }
        std::fs::create_dir_all(root().join("tests/suite")).map_err(|e| e.to_string())?;
        std::fs::write(&list_path, text).map_err(|e| format!("{}: {e}", list_path.display()))?;
        return Ok(());
    }
    if lost.is_empty() { Ok(()) } else { Err(format!("{} cases that passed do not pass any more", lost.len())) }
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
    fn a_lost_case_is_told_from_a_gained_one() {
        let statuses = statuses(REPORT).unwrap();
        let (lost, gained) = compare(&BTreeSet::from(["test_a", "test_b", "test_d"]), &statuses);
        assert_eq!(lost, [("test_b", "failed: numbers differ".to_string()), ("test_d", "not in the suite any more".to_string())]);
        assert_eq!(gained, ["test_c"]);
        assert!(super::statuses("{}").is_err());
    }
}
