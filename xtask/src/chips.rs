// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask chips`: all that is shown of chips whose kernels are source for a vendor's compiler, in headers of ours, and the table of it.

use std::fmt::Write as _;

use crate::process::Task;
use crate::{Outcome, other_cpus, root, suite};

/// All of them; the first of each dialect is the one that runs models.
pub fn targets() -> Vec<&'static str> {
    include_str!("chips.txt").lines().collect()
}

/// Runs the suite on each, and the models; with `--bless` writes what came out. Other words, such as `--without light`, go to the suite.
pub fn run(rest: &[String]) -> Outcome {
    let bless = rest.iter().any(|word| word == "--bless");
    let mut failures = Vec::new();
    for target in targets() {
        let arguments = ["--target", target, "--max-fallback", "0", "--timeout", "300"].map(String::from);
        if let Err(e) = suite::run(&arguments.iter().chain(rest).cloned().collect::<Vec<_>>()) {
            failures.push(e);
        }
    }
    let task = Task::cargo(["test", "--release", "--package", "portwright-tests", "--test", "cases", "--", "core/"]);
    let core = other_cpus::skipping_others(task, &targets()).env("PORTWRIGHT_ALL_SIZES", "1");
    failures.extend(core.run().err());
    let models = other_cpus::zoo(&targets())?;
    failures.extend(other_cpus::failed(&models));
    if bless {
        let at = root().join("tests/models.txt");
        std::fs::write(&at, table(&models)).map_err(|e| format!("{}: {e}", at.display()))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

const HEAD: &str = "\
# What became of models of PORTWRIGHT_ZOO on targets whose kernels are source: model, target and what was tried, status.
# Written by `cargo xtask chips --bless`; docs/CHIPS.md counts it.
";

/// A line for everything that was tried.
fn table(models: &other_cpus::Models) -> String {
    let mut out = String::from(HEAD);
    for (model, tried) in models {
        for (what, status) in tried {
            let status = if status.starts_with("ignored") { "refused, as on the host" } else { status };
            let _ = writeln!(out, "{model}\t{what}\t{status}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn what_the_host_refuses_is_told_from_what_fails() {
        let of = |status: &str| [("a::emulator".to_owned(), status.to_owned())].into();
        let text = table(&[("m".to_owned(), of("ok")), ("n".to_owned(), of("ignored, no"))].into());
        assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), ["m\ta::emulator\tok", "n\ta::emulator\trefused, as on the host"]);
    }
}
