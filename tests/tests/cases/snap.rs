// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Snapshots: texts that a person has reviewed. A snapshot begins with the input that it came from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::skip;

/// Folder of the crate.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn stages() -> PathBuf {
    root().join("stages")
}

/// Snapshots that some trial compares.
#[derive(Default)]
pub struct Kept(BTreeSet<PathBuf>);

impl Kept {
    /// Notes a snapshot `group/name`.
    pub fn text(&mut self, group: &str, name: &str) {
        self.0.insert(stages().join(group).join(format!("{name}.snap")));
    }
    /// Notes a raw file of that extension.
    pub fn raw(&mut self, group: &str, name: &str, extension: &str) {
        self.text(group, name);
        self.0.insert(stages().join(group).join(format!("{name}.snap.{extension}")));
    }
    /// The trial that finds files that no trial compares.
    pub fn no_orphans(self) -> Trial {
        skip::always("stages::no_orphan_snapshots", move || {
            let mut orphans = Vec::new();
            walk(&stages(), &mut |p| {
                let name = p.to_string_lossy();
                let pending = name.ends_with(".snap.new") || name.ends_with(".pending-snap");
                if !pending && !self.0.contains(p) {
                    orphans.push(p.strip_prefix(root()).unwrap_or(p).display().to_string());
                }
            });
            orphans.sort();
            if orphans.is_empty() { Ok(()) } else { Err(format!("no trial compares these files: remove them\n  {}", orphans.join("\n  "))) }
        })
    }
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, see) } else { see(&path) }
    }
}

fn settings(group: &str) -> insta::Settings {
    let mut s = insta::Settings::clone_current();
    s.set_snapshot_path(stages().join(group));
    s.set_prepend_module_to_snapshot(false);
    s.set_omit_expression(true);
    s
}

/// Compares `text`, which came from `input`, with the snapshot `group/name`.
pub fn text(group: &str, name: &str, input: &str, text: &str) -> Result<(), String> {
    let whole = format!("{}\n----\n{}", input.trim_end(), text.trim_end());
    asserted(|| settings(group).bind(|| insta::assert_snapshot!(name, whole)))
}

/// Compares a raw file, which other tools read, with the snapshot `group/name.snap.EXTENSION`.
#[cfg(feature = "mlir")]
pub fn raw(group: &str, name: &str, extension: &str, bytes: Vec<u8>) -> Result<(), String> {
    let file = format!("{name}.{extension}");
    asserted(|| settings(group).bind(|| insta::assert_binary_snapshot!(file.as_str(), bytes)))
}

fn asserted(run: impl FnOnce()) -> Result<(), String> {
    // The difference is printed by insta; the panic only says that there is one.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .map_err(|_| "the snapshot differs (shown above): if that is right, `cargo xtask bless` accepts it".to_owned())
}
