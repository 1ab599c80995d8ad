// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Imports every model under the folder that `PORTWRIGHT_ZOO` names, and prints what each needs.
//!
//! Each model must import, or say with coded diagnostics why it does not. Arguments filter by name.

use std::path::PathBuf;
use std::time::Instant;

use portwright_frontend::{ImportOptions, import};
use portwright_ir::diag::Diags;

fn main() {
    let Some(zoo) = std::env::var_os("PORTWRIGHT_ZOO").map(PathBuf::from) else {
        println!("zoo: skipped: PORTWRIGHT_ZOO is not set");
        return;
    };
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut folders: Vec<PathBuf> = match std::fs::read_dir(&zoo) {
        Ok(list) => list.filter_map(|e| e.ok().map(|e| e.path())).collect(),
        Err(e) => panic!("{}: {e}", zoo.display()),
    };
    folders.sort();
    let (mut imported, mut reported) = (0, 0);
    for folder in folders {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let path = folder.join("model.onnx");
        if !path.is_file() || !(filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()))) {
            continue;
        }
        let mut diags = Diags::new();
        let start = Instant::now();
        let result = import(&path, &ImportOptions { weightless: name.ends_with("-full"), ..Default::default() }, &mut diags);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        match result {
            Ok(m) => {
                imported += 1;
                println!(
                    "{name}: {} nodes, {} weights, {} constraints, {ms:.0} ms",
                    m.graph.len(),
                    m.graph.weights().len(),
                    m.graph.constraints.len()
                );
            }
            Err(_) => {
                reported += 1;
                assert!(diags.has_errors(), "{name}: failed without a diagnostic");
                println!("{name}: {} diagnostics, {ms:.0} ms", diags.all().len());
                for d in diags.all().iter().take(6) {
                    let at = d.path.as_deref().unwrap_or("-");
                    println!("    {} {at} {}: {}", d.code, d.op.as_deref().unwrap_or(""), d.message);
                }
            }
        }
    }
    println!("zoo: {imported} imported, {reported} with diagnostics");
}
