// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cases from `cases/graph`, the examples of `docs/TEXT_IR.md`, and texts that are wrong at random.

use std::path::{Path, PathBuf};

use super::{parse, print};
use crate::diag::Diagnostic;
use crate::graph::verify::verify;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn render(d: &Diagnostic) -> String {
    let path = d.path.as_ref().map(|p| format!(" {p}")).unwrap_or_default();
    format!("error[{}]{path}: {}\n", d.code, d.message)
}

/// What a case gives: its canonical text, or its faults.
fn outcome(source: &str) -> String {
    let graph = match parse(source) {
        Ok(g) => g,
        Err(faults) => return faults.iter().map(render).collect(),
    };
    let faults = verify(&graph);
    if !faults.is_empty() {
        return faults.iter().map(|d| format!("verify {}", render(d))).collect();
    }
    let text = print(&graph);
    let again = parse(&text).unwrap_or_else(|f| panic!("the print does not parse:\n{text}\n{f:?}"));
    assert_eq!(print(&again), text, "not a fixed point");
    text
}

/// A file holds cases between `----` lines; in each, the text and what it gives stand around a `====` line.
/// `INSTA_UPDATE=always` writes what is given into the files.
#[test]
fn cases() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder("cases/graph")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let bless = std::env::var("INSTA_UPDATE").is_ok_and(|v| v == "always");
    let mut failed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut blessed = Vec::new();
        for case in text.split("----\n") {
            let (source, expected) = case.split_once("====\n").unwrap_or_else(|| panic!("{}: no ====", file.display()));
            let found = outcome(source);
            if found != expected && !bless {
                failed.push(format!("{}\n--- text\n{source}--- expected\n{expected}--- found\n{found}", file.display()));
            }
            blessed.push(format!("{source}====\n{found}"));
        }
        if bless {
            std::fs::write(&file, blessed.join("----\n")).unwrap();
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
