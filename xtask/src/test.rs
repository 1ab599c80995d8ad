// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test`: all tests of the workspace, counted.

use crate::Outcome;
use crate::process::Task;
use std::time::Instant;

/// Sums of the closing lines of test runners.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    /// Adds `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next().and_then(|w| w.parse::<u64>().ok()), words.next()) else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

/// Builds and runs all tests; prints `N passed, N failed, N skipped` last.
pub fn run(rest: &[String]) -> Outcome {
    let (options, filter): (Vec<&String>, Vec<&String>) = rest.iter().partition(|a| a.starts_with("--"));
    let cargo = || Task::cargo(["test", "--workspace", "--no-fail-fast"]).args(&options).env("INSTA_UPDATE", "no");

    let start = Instant::now();
    cargo().arg("--no-run").run()?;
    println!("built in {:.0} s", start.elapsed().as_secs_f64());

    let mut counts = Counts::default();
    let start = Instant::now();
    let passed = cargo().args(&filter).lines(|line| counts.add(line))?;
    println!("ran in {:.0} s", start.elapsed().as_secs_f64());
    // A test binary that dies prints no closing line.
    if !passed && counts.failed == 0 {
        counts.failed = 1;
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if passed { Ok(()) } else { Err("tests failed".to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured");
        counts.add("test 7 passed");
        assert_eq!(counts, Counts { passed: 5, failed: 4, skipped: 1 });
    }
}
