// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask mutate`: every barrier, wait and commit of every family of simt kernels is deleted in turn, and somebody has to notice.
//!
//! The test `every_order_of_scheduled_kernels_is_needed` of `passes` does it and prints a line for each; this command runs it, holds the share
//! that is caught to the limit, and with `--bless` writes bench/MUTATIONS.md. Who catches is the verifier, the race checker of the interpreter,
//! or the result.

use crate::process::Task;
use crate::{Outcome, root};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Caught, of a thousand.
const LEAST: usize = 980;

/// One deletion.
struct Line {
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
    let test = ["test", "--package", "portwright-passes", "--test", "programs", "every_order", "--", "--nocapture"];
    // The test fails where anything survives, and says so below with the share.
    let mut lines: Vec<Line> = Vec::new();
    Task::cargo(test).lines(|line| lines.extend(parse(line)))?;
    let caught = lines.iter().filter(|l| l.by.is_some()).count();
    if lines.is_empty() {
        return Err("no deletion was tried".to_string());
    }
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
    let (place, statement) = what.split_once(" without `")?;
    let (family, _) = place.split_once(": ")?;
    let by = (by != "MISSED").then(|| by.split(':').next().unwrap_or(by).to_string());
    Some(Line { family: family.to_string(), statement: statement.trim().to_string(), by })
}

fn table(lines: &[Line]) -> String {
    let mut families: Vec<&str> = Vec::new();
    for l in lines {
        if !families.contains(&l.family.as_str()) {
            families.push(&l.family);
        }
    }
    let caught = lines.iter().filter(|l| l.by.is_some()).count();
    let mut out = format!(
        "# Deletions of orders\n\nWritten by `cargo xtask mutate --bless`: each barrier, wait and commit of each family of simt kernels deleted alone, \
         and who notices.\n{caught} of {} are caught.\n\n| family | deleted | verifier | interpreter | result | nobody |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        lines.len()
    );
    for f in families {
        let mut by: BTreeMap<&str, usize> = BTreeMap::new();
        let own: Vec<&Line> = lines.iter().filter(|l| l.family == f).collect();
        for l in &own {
            *by.entry(l.by.as_deref().unwrap_or("nobody")).or_default() += 1;
        }
        let n = |who: &str| by.get(who).copied().unwrap_or(0);
        // Writing to a text does not fail.
        let _ = writeln!(out, "| {f} | {} | {} | {} | {} | {} |", own.len(), n("verifier"), n("interpreter"), n("result"), n("nobody"));
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
    }
}
