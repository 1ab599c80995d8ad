// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cases from `cases/graph`, the examples of `docs/TEXT_IR.md`, and texts that are wrong at random.

use std::path::{Path, PathBuf};

use super::{PrintOptions, parse, print, print_with};
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

/// A small generator of numbers, the same on every machine (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn sources() -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder("cases/graph")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().map(|f| std::fs::read_to_string(f).unwrap());
    texts.flat_map(|t| t.split("----\n").map(|c| c.split("====\n").next().unwrap_or("").to_owned()).collect::<Vec<_>>()).collect()
}

/// Whatever stands in a text, reading it ends with a graph that is well-formed and round-trips, or with faults.
#[test]
fn wrong_texts_never_panic() {
    let sources = sources();
    let words = [
        "%",
        "%0",
        "%1",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "<",
        ">",
        "=",
        ",",
        ":",
        "\"",
        "`",
        "-",
        "+",
        "*",
        "..",
        "->",
        "==",
        "//",
        "\n",
        "#",
        "graph",
        "region \"r\"\n",
        "end\n",
        "output",
        "assume",
        "symbols",
        "N",
        "floor(N, 3)",
        "mod",
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "4294967295",
        "99999999999999999999999",
        "f32",
        "i64[]",
        "none",
        "true",
        "nan",
        "inf",
        "1e400",
        "0x",
        "é",
        "\u{1F600}",
        "\\",
        "\0",
        "weight<f32 2>",
        "const",
        "hex\"0g\"",
        "input \"x\"",
        "axes=[0]",
        "axis=7",
        "dims=[N]",
        "bind",
        "div",
    ];
    let mut random = Random(7);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..6000 {
        let mut text: Vec<char> = random.pick(&sources).chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len() + 1);
            let len = random.below(12).min(text.len() - at);
            match random.below(4) {
                0 => drop(text.drain(at..at + len)),
                1 => drop(text.splice(at..at, random.pick(&words).chars())),
                2 => drop(text.splice(at..at + len, random.pick(&words).chars())),
                _ => {
                    let copy: Vec<char> = text[at..at + len].to_vec();
                    let to = random.below(text.len() + 1);
                    text.splice(to..to, copy);
                }
            }
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(g) => {
                good += 1;
                let faults = verify(&g);
                if faults.is_empty() {
                    let printed = print(&g);
                    let again = parse(&printed).unwrap_or_else(|f| panic!("{text}\n=> {printed}\n{f:?}"));
                    assert_eq!(print(&again), printed);
                }
            }
            Err(faults) => {
                bad += 1;
                assert!(!faults.is_empty());
            }
        }
    }
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
}

/// The examples of the page are as the page says they are: canonical.
#[test]
fn documented_examples() {
    let page = std::fs::read_to_string(folder("../docs/TEXT_IR.md")).unwrap();
    let examples: Vec<&str> = page.split("```graph\n").skip(1).map(|e| e.split("```").next().unwrap_or("")).collect();
    assert!(examples.len() >= 4);
    for example in examples {
        assert_eq!(outcome(example), example);
    }
}

#[test]
fn options_show_names_and_rules() {
    let text = "graph \"t\"\n%0: f32[4] = input \"x\"\n%1 \"exp out\": f32[4] = exp(%0)  // main/Exp_0 [some-rule]\noutput \"y\" %1\n";
    let mut g = parse(text).unwrap();
    let n = g.producer_id(g.outputs()[0].value).unwrap();
    assert_eq!(g.node(n).origin.paths, ["main/Exp_0".into()]);
    g.origin_mut(n).rules = vec!["some-rule"];
    assert_eq!(print_with(&g, PrintOptions { names: true, rules: true }), text);
    assert_eq!(print(&g), text.replace(" \"exp out\"", "").replace(" [some-rule]", ""));
    assert_eq!(super::describe(&g, n), "f32[4] = exp(f32[4])");
}
