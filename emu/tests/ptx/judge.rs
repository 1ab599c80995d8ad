// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The texts of these tests are what NVIDIA's assembler takes.

use std::path::{Path, PathBuf};

use portwright_emu::ptx::{Module, ptxas};

#[test]
fn ptxas_takes_every_text() {
    let folders: Vec<PathBuf> = std::env::var_os("PORTWRIGHT_TOOLS").map(PathBuf::from).into_iter().collect();
    let judge = match ptxas::find(&folders) {
        Ok(p) => p,
        Err(e) => {
            println!("skipped: {e}");
            return;
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ptx");
    for folder in ["nvcc", "triton"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "ptx") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let arch = Module::parse(&text).unwrap().target;
            let report = judge.judge(&arch, &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(!report.functions.is_empty(), "{}", path.display());
            // A function that calls itself saves registers, which is no spill of a kernel; no product is serialized.
            let faults: Vec<String> = report.faults().into_iter().filter(|f| !f.starts_with("_Z3fibi ")).collect();
            assert_eq!(faults, Vec::<String>::new(), "{}", path.display());
        }
    }
    assert!(matches!(
        judge.judge("sm_80", ".version 8.0\n.target sm_80\n.address_size 64\nnonsense\n"),
        Err(ptxas::PtxasError::Refused(_))
    ));
}
