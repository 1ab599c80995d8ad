// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules that read one file at a time: licence line, length, paths of one machine, unfinished marks, who may print.

use crate::{Fault, File, Report};

const LICENSE: &str = "SPDX-License-Identifier: Apache-2.0 OR MIT";
const MAX_LINES: usize = 800;
const MAX_SNAPSHOT_LINES: usize = 60;

/// Folders that exist on one machine only. Tests may name them, as values.
const MACHINE_FOLDERS: [&str; 4] = ["work", "root", "home", "tmp"];

/// Hosts of package registries: a user's mirror is not ours to choose.
const REGISTRY_HOSTS: [&str; 8] = [
    "crates.io",
    "pypi.org",
    "pythonhosted.org",
    "deb.debian.org",
    "security.debian.org",
    "registry.npmjs.org",
    "proxy.golang.org",
    "static.rust-lang.org",
];

const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "#[ignore", "FIXME", "XXX"];

/// What only `cli` does: print, exit, read the environment.
const TERMINAL: [&str; 8] = ["println!", "eprintln!", "print!", "eprint!", "process::exit", "env::var", "env::args", "io::stdout"];

/// What `ir` and `passes` must not touch.
const FILE_SYSTEM: [&str; 3] = ["std::fs", "std::path", "fs::File"];

/// Applies the rules of this module to `file`.
pub fn check(file: &File, report: &mut Report) {
    let faults = &mut report.faults;
    if file.is_source() {
        license(file, faults);
        length(file, faults);
    }
    machine_paths(file, faults);
    registry_hosts(file, faults);
    if file.extension() == "rs" {
        unfinished(file, faults);
        manners(file, faults);
    }
    if file.extension().starts_with("snap") {
        let lines = file.text.lines().count();
        if lines > MAX_SNAPSHOT_LINES {
            let message = format!("{lines} lines; a snapshot that is reviewed has at most {MAX_SNAPSHOT_LINES}");
            report.warnings.push(Fault::new(&file.path, 0, "long-snapshot", message));
        }
    }
}

fn license(file: &File, faults: &mut Vec<Fault>) {
    let mut lines = file.text.lines().skip_while(|line| line.starts_with("#!"));
    if !lines.next().is_some_and(|line| line.contains(LICENSE)) {
        faults.push(Fault::new(&file.path, 1, "spdx", format!("the first line must say `{LICENSE}`")));
    }
}

fn length(file: &File, faults: &mut Vec<Fault>) {
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        let message = format!("{lines} lines, {MAX_LINES} are allowed: split it by subject");
        faults.push(Fault::new(&file.path, MAX_LINES + 1, "long-file", message));
    }
}

fn machine_paths(file: &File, faults: &mut Vec<Fault>) {
    // Values in tests are not paths that anything opens; a snapshot must read the same on every machine.
    let snapshot = file.extension().starts_with("snap");
    if !snapshot && (file.is_test() || !(file.is_source() || is_prose_or_config(file))) {
        return;
    }
    for (number, line) in numbered(without_tests(file)) {
        for folder in MACHINE_FOLDERS {
            // Documents may show a scratch folder in an example.
            if folder == "tmp" && file.extension() == "md" {
                continue;
            }
            if names_folder(line, folder) {
                faults.push(Fault::new(&file.path, number, "machine-path", format!("names a path under /{folder}")));
            }
        }
    }
}

/// Whether `line` has `/folder` as the beginning of an absolute path.
fn names_folder(line: &str, folder: &str) -> bool {
    let needle = format!("/{folder}");
    line.match_indices(&needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        before.is_none_or(|c| !(c.is_alphanumeric() || "_./-~$})*]>".contains(c)))
            && after.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '-'))
    })
}

fn registry_hosts(file: &File, faults: &mut Vec<Fault>) {
    if file.path == "Cargo.lock" || file.room() == "tests" {
        return;
    }
    for (number, line) in numbered(&file.text) {
        for host in REGISTRY_HOSTS {
            if line.contains(host) {
                faults.push(Fault::new(&file.path, number, "registry-host", format!("names `{host}`")));
            }
        }
    }
}

fn unfinished(file: &File, faults: &mut Vec<Fault>) {
    if file.path.starts_with("tests/tidy/") {
        return;
    }
    for (number, line) in numbered(&file.text) {
        for mark in UNFINISHED {
            if has_word(line, mark) {
                faults.push(Fault::new(&file.path, number, "unfinished", format!("`{mark}`: finish it or leave it out")));
            }
        }
    }
}

fn manners(file: &File, faults: &mut Vec<Fault>) {
    let build_script = file.path.ends_with("build.rs") || file.path.contains("/build/");
    if !file.path.contains("/src/") || build_script || file.is_test() {
        return;
    }
    let code = without_comments(without_tests(file));
    let mut forbid = |words: &[&str], rule, why: &str| {
        for (number, line) in numbered(&code) {
            for word in words {
                if has_word(line, word) {
                    faults.push(Fault::new(&file.path, number, rule, format!("`{word}`: {why}")));
                }
            }
        }
    };
    match file.room() {
        "ir" | "passes" => {
            forbid(&TERMINAL, "terminal", "only `cli` prints, exits and reads the environment");
            forbid(&FILE_SYSTEM, "file-system", "this room knows no files");
        }
        "frontend" | "targets" | "runtime" | "emu" => {
            forbid(&TERMINAL, "terminal", "only `cli` prints, exits and reads the environment");
        }
        _ => {}
    }
}

fn is_prose_or_config(file: &File) -> bool {
    matches!(file.extension(), "md" | "toml" | "json" | "yml" | "yaml" | "txt" | "graph")
}

/// Lines of `text`, counted from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line))
}

/// The text of a Rust file before its unit tests.
pub(crate) fn without_tests(file: &File) -> &str {
    if file.extension() != "rs" {
        return &file.text;
    }
    file.text.split("#[cfg(test)]\nmod ").next().unwrap_or(&file.text)
}

/// `code` with comments blanked, lines kept; text in string literals stays.
pub(crate) fn without_comments(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |at| at + 2);
            out.extend(rest[..end].chars().filter(|&c| c == '\n'));
            rest = &rest[end..];
        } else if let Some(end) = raw_string_end(rest).filter(|_| !out.ends_with(|c: char| c.is_alphanumeric() || c == '_')) {
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if c == '"' {
            let end = string_end(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(end) = char_end(rest) {
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Length of the raw string literal (`r"..."`, `r#"..."#`) at the beginning of `text`, if there is one.
fn raw_string_end(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let body = after.trim_start_matches('#');
    let hashes = &after[..after.len() - body.len()];
    let close = format!("\"{hashes}");
    let start = text.len() - body.strip_prefix('"')?.len();
    Some(text[start..].find(&close).map_or(text.len(), |at| start + at + close.len()))
}

/// Length of the string literal at the beginning of `text`, quotes included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal at the beginning of `text`, so that `'"'` opens no string; lifetimes are none.
fn char_end(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    if chars.next()?.1 != '\'' {
        return None;
    }
    if chars.next()?.1 == '\\' {
        chars.next();
        return text[3.min(text.len())..].find('\'').map(|at| at + 4).filter(|&end| end <= text.len());
    }
    let (at, c) = chars.next()?;
    (c == '\'').then_some(at + 1)
}

/// Whether `word` stands in `line` with no letter, digit or underscore before it (or after it, if it ends in one).
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !(before.is_some_and(in_name) || word.ends_with(in_name) && after.is_some_and(in_name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules_of;

    const HEAD: &str = "// SPDX-License-Identifier: Apache-2.0 OR MIT\n";

    fn rules(path: &str, body: &str) -> Vec<&'static str> {
        rules_of(&[File::new(path, format!("{HEAD}{body}"))]).into_iter().filter(|r| *r != "lock-file").collect()
    }

    #[test]
    fn a_clean_file_has_no_fault() {
        assert!(rules("ir/src/a.rs", "/// Says `println!`.\npub fn a() {}\n").is_empty());
    }

    #[test]
    fn a_missing_licence_line_is_caught() {
        let file = File::new("ir/src/a.rs", "pub fn a() {}\n");
        assert!(rules_of(&[file]).contains(&"spdx"));
        let script = File::new("setup", "#!/bin/sh\n# no licence\n");
        assert!(rules_of(&[script]).contains(&"spdx"));
    }

    #[test]
    fn a_long_file_is_caught() {
        assert_eq!(rules("ir/src/a.rs", &"\n".repeat(800)), ["long-file"]);
        assert!(rules("ir/src/a.rs", &"\n".repeat(799)).is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_caught() {
        assert_eq!(rules("ir/src/a.rs", "// see /work/notes\n"), ["machine-path"]);
        assert_eq!(rules("runtime/c/a.c", "open(\"/home/me/x\");\n"), ["machine-path"]);
        assert_eq!(rules("cli/src/a.rs", "let a = \"/tmp/x\";\n"), ["machine-path"]);
        assert_eq!(rules("tests/stages/a.snap", "at /home/me/model.onnx\n"), ["machine-path"]);
        assert!(rules("cli/src/a.rs", "let a = \"a/root/b\"; let b = \"{}/tmp\"; let c = \"/workload\";\n").is_empty());
        assert!(rules("cli/src/tests.rs", "let a = \"/tmp/x\";\n").is_empty());
        assert!(rules("cli/src/a.rs", "#[cfg(test)]\nmod tests { const A: &str = \"/tmp/x\"; }\n").is_empty());
    }

    #[test]
    fn a_registry_host_is_caught() {
        assert_eq!(rules("tools/get.sh", "# from deb.debian.org\n"), ["registry-host"]);
    }

    #[test]
    fn unfinished_work_is_caught() {
        assert_eq!(rules("ir/src/a.rs", "fn a() { todo!() }\n"), ["unfinished"]);
        assert_eq!(rules("ir/src/a.rs", "#[ignore]\nfn a() {}\n"), ["unfinished"]);
        assert_eq!(rules("ir/src/a.rs", "fn a() { unimplemented!(\"later\") }\n"), ["unfinished"]);
    }

    #[test]
    fn a_room_that_prints_is_caught() {
        assert_eq!(rules("passes/src/a.rs", "fn a() { println!(\"x\") }\n"), ["terminal"]);
        assert_eq!(rules("frontend/src/a.rs", "fn a() { std::env::var(\"X\"); }\n"), ["terminal"]);
        assert!(rules("cli/src/a.rs", "fn a() { println!(\"x\") }\n").is_empty());
        assert!(rules("passes/src/a.rs", "// println! is not used here\n").is_empty());
    }

    #[test]
    fn a_file_opened_by_an_ir_room_is_caught() {
        assert_eq!(rules("ir/src/a.rs", "use std::fs;\n"), ["file-system"]);
        assert!(rules("frontend/src/a.rs", "use std::fs;\n").is_empty());
    }

    #[test]
    fn a_long_snapshot_is_a_warning() {
        let report = check_files_of("tests/stages/a.snap", &"x\n".repeat(61));
        assert_eq!(report.warnings.len(), 1);
        assert!(check_files_of("tests/stages/a.snap", &"x\n".repeat(60)).warnings.is_empty());
    }

    fn check_files_of(path: &str, text: &str) -> Report {
        crate::check_files(&[File::new(path, text)])
    }

    #[test]
    fn comments_go_and_strings_stay() {
        assert_eq!(without_comments("a // b\nc /* d\ne */ f"), "a \nc \n f");
        assert_eq!(without_comments("\"// a\" '\"' // b"), "\"// a\" '\"' ");
        assert_eq!(without_comments("'\\'' // b"), "'\\'' ");
        assert_eq!(without_comments("r\"\\\" // b"), "r\"\\\" ");
        assert_eq!(without_comments("r#\"a \" // b\"# // c"), "r#\"a \" // b\"# ");
        assert_eq!(without_comments("fn a<'a>(x: &'a str) {} // b"), "fn a<'a>(x: &'a str) {} ");
    }
}
