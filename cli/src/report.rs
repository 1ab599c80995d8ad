// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A finding about many nodes as text.

use std::fmt::Write as _;

use portwright_ir::diag::{Diagnostic, Severity};

/// Widest column of node paths.
const PATHS: usize = 60;

/// One reason with the nodes that share it: each with what it is given, and what is said of it alone.
pub fn group(first: &Diagnostic, message: &str, nodes: &[&Diagnostic], help: Option<&str>) -> String {
    let mut s = String::new();
    let kind = if first.severity == Severity::Error { "error" } else { "warning" };
    let count = if nodes.len() > 1 { format!(" ({} nodes)", nodes.len()) } else { String::new() };
    let _ = writeln!(s, "{kind}[{}]: {message}{count}", first.code);
    let wide = nodes.iter().filter_map(|d| d.path.as_ref()).map(|p| p.chars().count()).max().unwrap_or(0).min(PATHS);
    // Facts that all nodes share are said once, below them.
    let shared: Vec<&String> = first.notes.iter().filter(|n| nodes.iter().all(|d| d.notes.contains(n))).collect();
    for (i, d) in nodes.iter().enumerate() {
        let Some(path) = &d.path else { continue };
        let arrow = if i == 0 { "-->" } else { "   " };
        let op = d.op.as_ref().map_or_else(String::new, |o| format!("{o}  "));
        let _ = writeln!(s, "  {arrow} {path:<wide$}  {op}{}", d.operands.join(", "));
        for n in d.notes.iter().filter(|n| !shared.contains(n)) {
            let _ = writeln!(s, "        {n}");
        }
    }
    for n in shared {
        let _ = writeln!(s, "   = {n}");
    }
    if let Some(h) = help {
        let _ = writeln!(s, "   = help: {h}");
    }
    s.lines().map(|l| format!("{}\n", l.trim_end())).collect()
}
