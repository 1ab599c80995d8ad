// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The repository keeps its own rules.

use std::path::Path;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let report = portwright_tidy::check(&root).expect("the files of the work tree");
    assert!(report.files > 20, "only {} files were found", report.files);
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    for fault in &report.faults {
        eprintln!("{fault}");
    }
    assert!(report.faults.is_empty(), "{} faults, listed above", report.faults.len());
}
