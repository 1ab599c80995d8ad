// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What waits or signals in a text of PTX, and the text without one of them: a program that needs the order must then be diagnosed.

use std::fmt::Write as _;

/// Instructions that put accesses into an order.
const NAMES: [&str; 16] = [
    "mbarrier.try_wait",
    "mbarrier.test_wait",
    "mbarrier.arrive",
    "mbarrier.init",
    "bar.sync",
    "barrier.sync",
    "barrier.arrive",
    "bar.warp.sync",
    "barrier.cluster",
    "cp.async.wait_",
    "cp.async.commit_group",
    "cp.async.bulk.wait_group",
    "wgmma.wait_group",
    "wgmma.fence",
    "membar",
    "fence.",
];

/// One such instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its line, from 1.
    pub line: usize,
    /// Its name with modifiers.
    pub name: String,
    /// Kernel or function that it stands in.
    pub function: String,
}

/// Where the instruction of a statement begins, behind its guard; `None` for what orders nothing.
fn found(line: &str) -> Option<usize> {
    let code = line.split("//").next().unwrap_or(line);
    let start = code.len() - code.trim_start().len();
    let body = &code[start..];
    let guard = if body.starts_with('@') { body.find(char::is_whitespace)? } else { 0 };
    let at = start + guard + (body[guard..].len() - body[guard..].trim_start().len());
    NAMES.iter().any(|n| code[at..].starts_with(n)).then_some(at)
}

/// All of a text that has one statement a line, as LLVM writes it.
pub fn orders(text: &str) -> Vec<Order> {
    let (mut out, mut function) = (Vec::new(), String::new());
    for (i, line) in text.lines().enumerate() {
        if let Some(rest) = [".entry", ".func"].iter().find_map(|k| line.split_once(k)).map(|p| p.1) {
            function = rest.trim().split(|c: char| c == '(' || c.is_whitespace()).next().unwrap_or_default().to_owned();
        }
        if let Some(at) = found(line) {
            let name = line[at..].split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default().to_owned();
            out.push(Order { line: i + 1, name, function: function.clone() });
        }
    }
    out
}

/// The text without that one. A test of a phase that is gone counts as passed.
pub fn without(text: &str, order: &Order) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.lines().enumerate() {
        let gone = if i + 1 == order.line { found(line) } else { None };
        let Some(at) = gone else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let tested = order.name.contains("_wait") && order.name.starts_with("mbarrier");
        let predicate = line[at..].split_whitespace().nth(1).filter(|_| tested).map(|w| w.trim_end_matches(','));
        // Writing to a text does not fail.
        let _ = match predicate {
            Some(p) => writeln!(out, "\tsetp.eq.u32 {p}, 0, 0;"),
            None => writeln!(out),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_a_text_are_found_and_deleted() {
        let text = ".visible .entry k(\n)\n{\n\tbar.sync \t0;\n\tmov.u32 \t%r1, 0; // bar.sync\n\t@%p1 bar.warp.sync \t-1;\n\
                    \tmbarrier.test_wait.parity.shared.b64 \t%p2, [%rd1], %r1;\n}\n";
        let found = orders(text);
        let names: Vec<(usize, &str)> = found.iter().map(|o| (o.line, o.name.as_str())).collect();
        assert_eq!(names, [(4, "bar.sync"), (6, "bar.warp.sync"), (7, "mbarrier.test_wait.parity.shared.b64")]);
        assert!(found.iter().all(|o| o.function == "k"));
        assert!(!without(text, &found[1]).contains("warp"));
        assert_eq!(without(text, &found[2]).lines().nth(6), Some("\tsetp.eq.u32 %p2, 0, 0;"));
        assert_eq!(without(text, &found[0]).lines().count(), text.lines().count());
    }
}
