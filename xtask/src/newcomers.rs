// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask newcomers`: in a copy of the work tree, a chip is added as docs/ADDING_A_TARGET.md says; in a crate outside of it, another one.
//! Both are built without LLVM and without the network, and run the core cases on the machine that stands in for their chip.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Task;
use crate::{Outcome, new_target, root};

/// The chip that `new-target` makes, and the one of `examples/outside`, each with the sizes of core cases that it runs.
const CHIPS: [(&str, &[&str]); 2] = [("demo", &["-odd"]), ("acme-a1", &["softmax-odd", "matmul-odd", "attention_mla_block-odd"])];

/// The program of `examples/outside`.
const PROGRAM: &str = "portwright-acme";

/// Makes the copy, builds it, runs the cases.
pub fn run(rest: &[String]) -> Outcome {
    if !rest.is_empty() {
        return Err("newcomers takes no arguments".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let tree = target.join("newcomers");
    copy(&tree)?;
    new_target::add(&tree, CHIPS[0].0)?;
    let outside = tree.join("examples/outside");
    // The versions that the repository is built with, which are here already.
    fs::copy(root().join("Cargo.lock"), outside.join("Cargo.lock")).map_err(|e| format!("Cargo.lock: {e}"))?;
    let task = Task::cargo(["build", "--offline", "--quiet", "--manifest-path"]).arg(outside.join("Cargo.toml"));
    task.env("CARGO_TARGET_DIR", &target.to_string_lossy()).run()?;
    let program = target.join("debug").join(PROGRAM);
    let cases = cases(&tree.join("tests/cases/core"))?;
    let mut ran = 0;
    for (chip, wanted) in CHIPS {
        let folder = format!("targets/src/{chip}");
        let chosen: Vec<&PathBuf> = cases.iter().filter(|c| wanted.iter().any(|w| stem(c).ends_with(w))).collect();
        for case in &chosen {
            let task =
                Task::new(&program).args(["--quiet", "compare"]).arg(case).args(["--random", "1", "--on", "emulator", "--target", chip]);
            task.output().map_err(|e| format!("{} on {chip}: {e}", stem(case)))?;
        }
        let where_from = if tree.join(&folder).is_dir() { folder.as_str() } else { "examples/outside" };
        println!("{chip} ({where_from}): {} core cases as the interpreter has them", chosen.len());
        ran += chosen.len();
    }
    if ran == 0 { Err("no core cases were found".into()) } else { Ok(()) }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn cases(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let list = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut all: Vec<PathBuf> = list.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "graph")).collect();
    all.sort();
    Ok(all)
}

/// Copies what git tracks or would track. A file that is there as it is stays, so that it is not built again.
fn copy(to: &Path) -> Outcome {
    let list = Task::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output()?;
    let fail = |path: &str, e: std::io::Error| format!("{path}: {e}");
    let _ = fs::remove_dir_all(to.join("targets/src").join(CHIPS[0].0));
    for path in list.split('\0').filter(|p| !p.is_empty()) {
        // What git tracks and the work tree lacks is a deletion in progress; what is no file is of no use here.
        let (from, to) = (root().join(path), to.join(path));
        if !from.is_file() {
            continue;
        }
        let bytes = fs::read(&from).map_err(|e| fail(path, e))?;
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&to, bytes)).map_err(|e| fail(path, e))?;
    }
    Ok(())
}
