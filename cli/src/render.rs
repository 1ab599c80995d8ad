// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Diagnostics for people and for scripts. Equal reports on many nodes are one, with a count.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use portwright_ir::diag::{Diagnostic, Severity};

use crate::args::ErrorFormat;

/// Nodes of one reason that are named before the rest is counted.
const NAMED: usize = 8;

/// One report with the nodes that share it.
struct Group<'a> {
    first: &'a Diagnostic,
    paths: Vec<&'a str>,
}

fn groups(list: &[Diagnostic]) -> Vec<Group<'_>> {
    let mut out: Vec<Group<'_>> = Vec::new();
    for d in list {
        let same = |g: &&mut Group<'_>| {
            g.first.code == d.code
                && g.first.message == d.message
                && g.first.op == d.op
                && g.first.severity == d.severity
                && g.first.path.is_some()
        };
        let path = d.path.as_deref();
        match out.iter_mut().find(same) {
            Some(g) if path.is_some() => g.paths.extend(path),
            _ => out.push(Group { first: d, paths: path.into_iter().collect() }),
        }
    }
    out
}

/// Renders reports as text, without color.
pub fn text(list: &[Diagnostic]) -> String {
    let mut s = String::new();
    for g in groups(list) {
        let d = g.first;
        let kind = if d.severity == Severity::Error { "error" } else { "warning" };
        let _ = writeln!(s, "{kind}[{}]: {}", d.code, d.message);
        if let Some(path) = g.paths.first() {
            let op = d.op.as_ref().map_or_else(String::new, |o| format!("     ({o})"));
            let _ = writeln!(s, "  --> {path}{op}");
        } else if let Some(op) = &d.op {
            let _ = writeln!(s, "  --> {op}");
        }
        for p in g.paths.iter().skip(1).take(NAMED - 1) {
            let _ = writeln!(s, "      {p}");
        }
        if g.paths.len() > NAMED {
            let _ = writeln!(s, "   = {} more nodes for the same reason", g.paths.len() - NAMED);
        }
        for n in &d.notes {
            let _ = writeln!(s, "   = {n}");
        }
        if let Some(h) = &d.help {
            let _ = writeln!(s, "   = help: {h}");
        }
    }
    s
}

fn json(list: &[Diagnostic]) -> String {
    let mut s = String::new();
    for d in list {
        let v = serde_json::json!({
            "schema": 1,
            "code": d.code.to_string(),
            "severity": if d.severity == Severity::Error { "error" } else { "warning" },
            "path": d.path, "op": d.op, "message": d.message, "notes": d.notes, "help": d.help,
        });
        let _ = writeln!(s, "{v}");
    }
    s
}

/// Prints reports on stderr.
pub fn print(list: &[Diagnostic], format: ErrorFormat) {
    let text = match format {
        ErrorFormat::Json => json(list),
        ErrorFormat::Text => {
            let plain = text(list);
            if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() { color(&plain) } else { plain }
        }
    };
    // A reader that went away is no error of ours.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn color(plain: &str) -> String {
    plain
        .lines()
        .map(|l| match l.split_once(": ") {
            Some((head, rest)) if head.starts_with("error[") => format!("\x1b[1;31m{head}\x1b[0m\x1b[1m: {rest}\x1b[0m\n"),
            Some((head, rest)) if head.starts_with("warning[") => format!("\x1b[1;33m{head}\x1b[0m\x1b[1m: {rest}\x1b[0m\n"),
            _ => format!("{l}\n"),
        })
        .collect()
}
