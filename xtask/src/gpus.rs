// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask gpus`: all that is shown of GPUs that are not at hand, in the PTX machine and by NVIDIA's assembler, and the page that says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::{Outcome, other_cpus, root, suite};

/// Targets whose kernels are executed.
const TARGETS: [&str; 2] = ["nvidia-sm80", "nvidia-sm90a"];

/// Targets whose code the assembler judges.
pub const ASSEMBLED: [&str; 3] = ["nvidia-sm80", "nvidia-sm90a", "nvidia-sm100a"];

/// Seconds that a case of the suite may take in the PTX machine.
const TIMEOUT: &str = "300";

/// Runs all; with `--bless` writes what came out. Other words, such as `--without light` or `--last`, go to the suite.
pub fn run(rest: &[String]) -> Outcome {
    let bless = rest.iter().any(|word| word == "--bless");
    let mut failures = Vec::new();
    for target in TARGETS {
        let arguments = ["--target", target, "--max-fallback", "0", "--timeout", TIMEOUT].map(String::from);
        if let Err(e) = suite::run(&arguments.iter().chain(rest).cloned().collect::<Vec<_>>()) {
            failures.push(e);
        }
    }
    let models = other_cpus::zoo(&ASSEMBLED)?;
    failures.extend(other_cpus::failed(&models));
    if bless {
        let runs = TARGETS.map(|t| (format!("{t}::emulator"), t));
        let heads = ["sm_80 by ptxas", "sm_90a by ptxas", "sm_100a by ptxas"];
        let judged = ASSEMBLED.iter().zip(heads).map(|(t, head)| (format!("{t}::assembler"), head));
        let tried: Vec<(String, &str)> = runs.into_iter().chain(judged).collect();
        let page = format!("{HEAD}{}{}{}{ASSEMBLER}", other_cpus::suites(&TARGETS)?, why()?, other_cpus::zoo_table(&models, &tried));
        let at = root().join("bench/GPUS.md");
        std::fs::write(&at, page).map_err(|e| format!("{}: {e}", at.display()))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

const HEAD: &str = "\
<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->
# GPUs that are not here

What is executed for NVIDIA's GPUs, as PTX in the machine of `emu`, which checks bounds, alignment, divergence, deadlock and races, against the
same expected outputs as on the machine at hand; and what NVIDIA's assembler says of the PTX. Written by `cargo xtask gpus --bless`, with
`PORTWRIGHT_ZOO` naming the folder of models. No case runs a node on the host, but for texts, sequences, optionals and maps.
";

const ASSEMBLER: &str = "
By ptxas: `portwright compile MODEL --target T`, then `portwright inspect BUNDLE --code`, which prints registers, shared memory, stack and spills of
each kernel, and fails where a text is refused, a kernel spills or matrix products are serialized (C7517).
";

/// The cases that do not pass, by what they end with.
fn why() -> Result<String, String> {
    let mut out =
        String::from("\nWhat does not pass, by what it ends with:\n\n| target | cases | ended | message |\n| --- | ---: | --- | --- |\n");
    for target in TARGETS {
        let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (status, message) in suite::last(target)?.into_values().filter(|(s, _)| s != "passed") {
            *kinds.entry((status, kind(&message))).or_default() += 1;
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|k| std::cmp::Reverse(k.1));
        for ((status, kind), n) in kinds {
            let _ = writeln!(out, "| {target} | {n} | {status} | {} |", kind.replace('|', "\\|"));
        }
    }
    Ok(out)
}

/// A message without the names and numbers that differ from case to case.
fn kind(message: &str) -> String {
    // A path of a node stands first.
    let text = match message.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') && path.contains('/') => rest,
        _ => message,
    };
    let mut out = String::new();
    for word in text.split_whitespace() {
        let core = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-' && c != '.');
        let number = core.parse::<f64>().is_ok();
        let word = if number { word.replace(core, "N") } else { word.to_owned() };
        let _ = write!(out, "{}{word}", if out.is_empty() { "" } else { " " });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn messages_that_differ_in_numbers_are_of_one_kind() {
        assert_eq!(kind("output `Y`: element 142 is 0.515625, expected 0.5"), "output `Y`: element N is N, expected N");
        assert_eq!(kind("main/Image_0: operator `Image` is not known"), "operator `Image` is not known");
    }
}
