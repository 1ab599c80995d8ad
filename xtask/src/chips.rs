// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask chips`: all that is shown of chips whose kernels are source for a vendor's compiler, in headers of ours, and the table of it.

use std::fmt::Write as _;

use crate::process::Task;
use crate::{Outcome, other_cpus, root, suite};

/// All of them; the first of each dialect is the one that runs models.
pub fn targets() -> Vec<&'static str> {
    include_str!("chips.txt").lines().collect()
}

/// What is shown, each by its name for `--only`.
const PARTS: [&str; 3] = ["suite", "core", "models"];

/// Runs the suite on each target, the core cases at all sizes, and the models, or only the parts that `--only` names; with `--bless` writes what
/// came out. Other words, such as `--without light`, go to the suite.
pub fn run(rest: &[String]) -> Outcome {
    let (mut bless, mut only, mut passed_on) = (false, Vec::new(), Vec::new());
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bless" => bless = true,
            "--only" => match words.next().filter(|part| PARTS.contains(&part.as_str())) {
                Some(part) => only.push(part.as_str()),
                None => return Err(format!("--only takes one of {}", PARTS.join(", "))),
            },
            _ => passed_on.push(word.clone()),
        }
    }
    let asked = |part: &str| only.is_empty() || only.contains(&part);
    let mut failures = Vec::new();
    for target in targets().into_iter().filter(|_| asked("suite")) {
        let arguments = ["--target", target, "--max-fallback", "0", "--timeout", "300"].map(String::from);
        let blessed = bless.then(|| "--bless".to_owned());
        if let Err(e) = suite::run(&arguments.into_iter().chain(passed_on.clone()).chain(blessed).collect::<Vec<_>>()) {
            failures.push(e);
        }
    }
    let path = root().join("tests/models.txt");
    let mut kept = read(&std::fs::read_to_string(&path).unwrap_or_default());
    if asked("core") {
        let core = core()?;
        failures.extend(other_cpus::failed(&core));
        kept.retain(|name, _| !name.starts_with(CORE));
        kept.extend(core);
    }
    if asked("models") {
        let models = other_cpus::zoo(&targets())?;
        failures.extend(other_cpus::failed(&models));
        kept.retain(|name, _| name.starts_with(CORE));
        kept.extend(models);
    }
    if bless {
        std::fs::write(&path, table(&kept)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// How names of core cases begin.
const CORE: &str = "core/";

/// Status of each core case at each size by target and who judged it: the emulator, or the vendor's compiler.
fn core() -> Result<other_cpus::Models, String> {
    let mut all = other_cpus::Models::new();
    let task = Task::cargo(["test", "--release", "--package", "portwright-tests", "--test", "cases", "--", CORE, "--skip", "interpreted"]);
    other_cpus::skipping_others(task, &targets()).env("PORTWRIGHT_ALL_SIZES", "1").lines(|line| {
        if let Some((name, tried, status)) = trial(line) {
            all.entry(name.to_owned()).or_default().insert(tried.to_owned(), status.to_owned());
        }
    })?;
    if all.is_empty() { Err("no trials of core cases".into()) } else { Ok(all) }
}

/// Case, what was tried and status of a line `test core/CASE::TARGET::emulator ... ok` of these targets.
fn trial(line: &str) -> Option<(&str, &str, &str)> {
    let (name, status) = line.strip_prefix("test ")?.split_once("... ")?;
    let (case, tried) = name.trim().split_once("::")?;
    let (target, how) = tried.split_once("::")?;
    let ours = case.starts_with(CORE) && targets().contains(&target) && ["emulator", "compiler"].contains(&how);
    ours.then(|| (case, tried, status.trim()))
}

const HEAD: &str = "\
# What became of core cases and of models of PORTWRIGHT_ZOO on targets whose kernels are source: case or model, target and what was tried, status.
# Written by `cargo xtask chips --bless`; docs/CHIPS.md counts it.
";

/// A line for everything that was tried.
fn table(models: &other_cpus::Models) -> String {
    let mut out = String::from(HEAD);
    for (model, tried) in models {
        for (what, status) in tried {
            let refused = status.starts_with("ignored") && !model.starts_with(CORE);
            let status = if refused { "refused, as on the host" } else { status };
            let _ = writeln!(out, "{model}\t{what}\t{status}");
        }
    }
    out
}

/// What a table says.
fn read(table: &str) -> other_cpus::Models {
    let mut all = other_cpus::Models::new();
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        if let (Some(model), Some(what), Some(status)) = (parts.next(), parts.next(), parts.next()) {
            all.entry(model).or_default().insert(what, status);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{read, table, trial};

    #[test]
    fn what_the_host_refuses_is_told_from_what_fails() {
        let of = |status: &str| [("a::emulator".to_owned(), status.to_owned())].into();
        let text = table(&[("m".to_owned(), of("ok")), ("n".to_owned(), of("ignored, no"))].into());
        assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), ["m\ta::emulator\tok", "n\ta::emulator\trefused, as on the host"]);
        assert_eq!(table(&read(&text)), text);
    }

    #[test]
    fn trials_of_core_cases_are_read() {
        let target = super::targets()[0];
        let line = format!("test core/relu-odd::{target}::emulator   ... ok");
        assert_eq!(trial(&line), Some(("core/relu-odd", &*format!("{target}::emulator"), "ok")));
        assert_eq!(trial("test core/relu-odd::host::native ... ok"), None);
        assert_eq!(trial(&format!("test zoo/pt-vit::{target}::emulator ... ok")), None);
    }
}
