// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask mutate`: every barrier, wait and commit of every family of simt kernels is deleted in turn, and somebody has to notice.
//!
//! Two tests do it and print a line for each: `every_order_of_scheduled_kernels_is_needed` of `passes` in Kernel IR, and
//! `every_order_of_ptx_is_needed` of `targets` in the PTX that becomes of it. This command runs both, holds the share that is caught to the
//! limit, and with `--bless` writes bench/MUTATIONS.md. Who catches is the verifier, the race checker of the interpreter, that of the PTX
//! machine, or the result.

use crate::process::Task;
use crate::{Outcome, root};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Caught, of a thousand.
const LEAST: usize = 980;

/// Package, kind of target and name of each test that deletes.
const TESTS: [[&str; 5]; 2] = [
    ["--package", "portwright-passes", "--test", "programs", "every_order_of_scheduled_kernels_is_needed"],
    ["--package", "portwright-targets", "--lib", "--quiet", "every_order_of_ptx_is_needed"],
];

/// One deletion.
struct Line {
    /// Whether it is one in PTX.
    emitted: bool,
    family: String,
    statement: String,
    by: Option<String>,
}

/// Runs the deletions; `rest` is `[--bless]`.
pub fn run(rest: &[String]) -> Outcome {
    let bless = match rest {
        [] => false,
        [one] if one == "--bless" => true,
        _ => return Err("mutate takes --bless alone".to_string()),
    };
    let mut lines: Vec<Line> = Vec::new();
    for test in TESTS {
        let before = lines.len();
        // A test fails where anything survives, and says so below with the share.
        Task::cargo(["test"]).args(test).args(["--", "--nocapture"]).lines(|line| lines.extend(parse(line)))?;
        if lines.len() == before {
            return Err(format!("{} deleted nothing", test[4]));
        }
    }
    let caught = lines.iter().filter(|l| l.by.is_some()).count();
    if bless {
        let path = root().join("bench/MUTATIONS.md");
        std::fs::write(&path, table(&lines)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("{caught} of {} deletions are caught", lines.len());
    for l in lines.iter().filter(|l| l.by.is_none()) {
        println!("survives: {} without `{}`", l.family, l.statement);
    }
    if caught * 1000 < lines.len() * LEAST { Err(format!("fewer than {} of 1000 are caught", LEAST)) } else { Ok(()) }
}

/// `FAMILY: KERNEL line N without `STATEMENT` | WHO: what`, or MISSED.
fn parse(line: &str) -> Option<Line> {
    let (what, by) = line.rsplit_once("` | ")?;
    let (emitted, what) = what.strip_prefix("PTX ").map_or((false, what), |rest| (true, rest));
    let (place, statement) = what.split_once(" without `")?;
    let (family, _) = place.split_once(": ")?;
    let by = (by != "MISSED").then(|| by.split(':').next().unwrap_or(by).to_string());
    Some(Line { emitted, family: family.to_string(), statement: statement.trim().to_string(), by })
}

fn table(lines: &[Line]) -> String {
    let caught = lines.iter().filter(|l| l.by.is_some()).count();
    let mut out = format!(
        "# Deletions of orders\n\nWritten by `cargo xtask mutate --bless`: each barrier, wait and commit of each family of simt kernels deleted alone, \
         and who notices.\n{caught} of {} are caught.\n",
        lines.len()
    );
    for (emitted, title, judges) in
        [(false, "In Kernel IR", ["verifier", "interpreter"].as_slice()), (true, "In PTX, for sm_80", &["machine"])]
    {
        let part: Vec<&Line> = lines.iter().filter(|l| l.emitted == emitted).collect();
        let mut families: Vec<&str> = part.iter().map(|l| l.family.as_str()).collect();
        families.dedup();
        let columns: Vec<&str> = judges.iter().copied().chain(["result", "nobody"]).collect();
        // Writing to a text does not fail.
        let _ = writeln!(
            out,
            "\n## {title}\n\n| family | deleted | {} |\n| --- | ---: |{}",
            columns.join(" | "),
            " ---: |".repeat(columns.len())
        );
        for f in families {
            let mut by: BTreeMap<&str, usize> = BTreeMap::new();
            let own: Vec<&&Line> = part.iter().filter(|l| l.family == f).collect();
            for l in &own {
                *by.entry(l.by.as_deref().unwrap_or("nobody")).or_default() += 1;
            }
            let cells: Vec<String> = columns.iter().map(|who| by.get(who).copied().unwrap_or(0).to_string()).collect();
            let _ = writeln!(out, "| {f} | {} | {} |", own.len(), cells.join(" | "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_test_are_read() {
        let l = parse("tiles: gemm line 12 without `barrier group` | interpreter: a race").unwrap();
        assert_eq!((l.family.as_str(), l.statement.as_str(), l.by.as_deref()), ("tiles", "barrier group", Some("interpreter")));
        assert!(parse("tiles: gemm line 12 without `wait q 0` | MISSED").unwrap().by.is_none());
        assert!(parse("test every_order ... ok").is_none());
        let l = parse("PTX tiles: pwk_gemm image 0 line 12 without `bar.sync` | machine: a race").unwrap();
        assert!(l.emitted && l.family == "tiles" && l.by.as_deref() == Some("machine"));
        let page = table(&[parse("tiles: gemm line 12 without `barrier group` | interpreter: a race").unwrap(), l]);
        assert_eq!(page.lines().filter(|l| *l == "| tiles | 1 | 0 | 1 | 0 | 0 |" || *l == "| tiles | 1 | 1 | 0 | 0 |").count(), 2);
    }
}
