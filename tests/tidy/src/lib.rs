// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules of the house that a compiler does not check.
//!
//! Every rule is a function from text to [`Fault`]s, with a test that shows it what it must catch. [`check`] applies all of
//! them to a work tree. It builds without LLVM and without any other room, so that it answers in seconds.
#![deny(missing_docs)]

pub mod manifests;
pub mod names;
pub mod notice;
pub mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// Line, counted from 1; 0 when the fault is of the whole file.
    pub line: usize,
    /// Name of the rule, in kebab case.
    pub rule: &'static str,
    /// What was found, and what to do.
    pub message: String,
}

impl Fault {
    fn new(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Fault {
        Fault { path: path.to_string(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// What [`check`] found.
#[derive(Debug, Default)]
pub struct Report {
    /// Broken rules; the tidy test fails if there is one.
    pub faults: Vec<Fault>,
    /// Advice that fails nothing, such as a snapshot too long to review.
    pub warnings: Vec<Fault>,
    /// Number of files that were looked at.
    pub files: usize,
}

/// A text file of the work tree.
#[derive(Clone, Debug)]
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl File {
    /// A file from its path and text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> File {
        File { path: path.into(), text: text.into() }
    }

    /// The first folder of the path: the room, for the crates of the workspace.
    pub fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or("")
    }

    /// The part of the name after its first dot: `rs`, `snap`, `snap.mlir`.
    pub fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or("");
        name.strip_prefix('.').unwrap_or(name).split_once('.').map_or("", |(_, extension)| extension)
    }

    /// Whether the file is written by people in a programming language (snapshots and data are not).
    pub fn is_source(&self) -> bool {
        matches!(self.extension(), "rs" | "c" | "h" | "cc" | "cpp" | "hpp" | "inc" | "py" | "sh" | "awk" | "td")
            || self.text.starts_with("#!/")
    }

    /// Whether the file is another project's, as it came, which no rule is for: in a folder `vendor` of the runtime's C, where a README.md
    /// says from where, and under which license.
    pub fn is_vendored(&self) -> bool {
        self.path.starts_with("runtime/c/") && self.path.split_once("/vendor/").is_some_and(|(_, name)| name != "README.md")
    }

    /// Whether the file belongs to tests: the `tests` room, a `tests` folder, or a module named `tests`, `..._tests` or `testing`.
    pub fn is_test(&self) -> bool {
        let named = ["/tests.rs", "_tests.rs", "/testing.rs"].iter().any(|end| self.path.ends_with(end));
        self.room() == "tests" || self.path.contains("/tests/") || named
    }
}

/// Files of the work tree at `root` that git tracks or would track, in order of their paths; binary files are left out.
///
/// # Errors
/// A sentence, if git does not answer.
pub fn files(root: &Path) -> Result<Vec<File>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let paths: BTreeSet<String> =
        output.stdout.split(|&b| b == 0).filter(|p| !p.is_empty()).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    let mut files = Vec::new();
    for path in paths {
        // A path that git tracks and the work tree lacks is a deletion in progress.
        let Ok(bytes) = std::fs::read(root.join(&path)) else { continue };
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            files.push(File { path, text });
        }
    }
    Ok(files)
}

/// Applies every rule to `files`.
pub fn check_files(files: &[File]) -> Report {
    let mut report = Report { files: files.len(), ..Report::default() };
    let (chips, vendors) = (names::chips(files), names::vendors(files));
    for file in files.iter().filter(|f| !f.is_vendored()) {
        text::check(file, &mut report);
        names::check(file, &chips, &vendors, &mut report.faults);
    }
    manifests::check(files, &mut report.faults);
    notice::check(files, &mut report.faults);
    report.faults.sort();
    report.warnings.sort();
    report
}

/// Applies every rule to the work tree at `root`.
///
/// # Errors
/// A sentence, if the files cannot be listed.
pub fn check(root: &Path) -> Result<Report, String> {
    Ok(check_files(&files(root)?))
}

#[cfg(test)]
pub(crate) fn rules_of(files: &[File]) -> Vec<&'static str> {
    let mut rules: Vec<_> = check_files(files).faults.iter().map(|f| f.rule).collect();
    rules.dedup();
    rules
}
