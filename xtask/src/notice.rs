// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask notice`: the list of linked crates at the end of NOTICE.

use crate::process::Task;
use crate::{Outcome, root};
use portwright_tidy::notice::{DIGEST_LINE, digest};
use std::collections::BTreeSet;

/// Replaces everything in NOTICE from the digest line on; what stands before is written by hand.
pub fn write() -> Outcome {
    let path = root().join("NOTICE");
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).map_err(|e| format!("Cargo.lock: {e}"))?;
    let old = std::fs::read_to_string(&path).map_err(|e| format!("NOTICE: {e}"))?;
    let head = old.find(DIGEST_LINE).map_or(old.as_str(), |at| &old[..at]);
    let tree = Task::cargo(["tree", "--locked", "--workspace", "--all-features", "--edges", "normal,no-proc-macro"])
        .args(["--exclude", "portwright-tests", "--exclude", "portwright-tidy", "--exclude", "xtask"])
        .args(["--prefix", "none", "--format", "{p}|{l}", "--target", "x86_64-unknown-linux-gnu"])
        .output()?;
    let crates = crates(&tree);
    let mut text = format!("{}{DIGEST_LINE}{}.\n\n", head, digest(&lock));
    for line in &crates {
        text.push_str(&format!("  {line}\n"));
    }
    std::fs::write(&path, text).map_err(|e| format!("NOTICE: {e}"))?;
    println!("NOTICE: {} crates", crates.len());
    Ok(())
}

/// `name version: licence` for each crate of `cargo tree`'s lines `name vVERSION (...)|LICENCE` that is not of this workspace.
fn crates(tree: &str) -> BTreeSet<String> {
    let named = tree.lines().filter_map(|line| {
        let (package, license) = line.split_once('|')?;
        let mut words = package.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        let own = words.any(|word| word.starts_with("(/"));
        let license = license.trim_end_matches(" (*)").trim().replace('/', " OR ");
        let license = if license.is_empty() { "see the crate".to_string() } else { license };
        (!own).then(|| format!("{name} {version}: {license}"))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_listed_once_and_in_order() {
        let tree = "own v0.1.0 (/a/b)|MIT\nb v1.0.0|MIT/Apache-2.0\na v2.0.0|MIT OR Apache-2.0\nb v1.0.0|MIT/Apache-2.0 (*)\nc v3.0.0|\n";
        let listed: Vec<_> = crates(tree).into_iter().collect();
        assert_eq!(listed, ["a 2.0.0: MIT OR Apache-2.0", "b 1.0.0: MIT OR Apache-2.0", "c 3.0.0: see the crate"]);
    }
}
