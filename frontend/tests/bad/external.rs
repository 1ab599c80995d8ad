// SPDX-License-Identifier: Apache-2.0 OR MIT
//! External data that is missing, too short or outside of the model's folder.

use std::path::PathBuf;

use super::build::*;
use onnx_protobuf::ModelProto;
use portwright_frontend::ImportOptions;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("portwright-frontend-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("model")).expect("a folder in the system's folder for temporary files");
        Folder(path)
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn with_weight(location: &str, offset: u64) -> ModelProto {
    let mut m = simple(vec![node("Add", &["x", "w"], &["y"])]);
    m.graph.as_mut().expect("a graph").initializer.push(external("w", &[4], location, offset));
    m
}

#[test]
fn every_way_out_is_closed() {
    let f = Folder::new("external");
    let model = f.0.join("model");
    std::fs::write(f.0.join("secret.bin"), [0u8; 64]).expect("writes");
    std::fs::write(model.join("short.bin"), [0u8; 12]).expect("writes");
    std::fs::write(model.join("good.bin"), [1u8; 64]).expect("writes");
    std::fs::create_dir(model.join("folder.bin")).expect("makes a folder");
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret.bin", model.join("link.bin")).expect("links");
    let run = |location: &str, offset: u64, weightless: bool| {
        let opts = ImportOptions { weightless, ..Default::default() };
        reports(&bytes(&with_weight(location, offset)), Some(&model), &opts)
    };
    let absolute = f.0.join("secret.bin").display().to_string();
    for (location, offset, expected) in [
        ("missing.bin", 0, "`missing.bin` cannot be opened in the model's folder"),
        ("short.bin", 0, "`short.bin` is too short: it has 12 bytes"),
        ("good.bin", 60, "`good.bin` is too short: it has 64 bytes"),
        ("good.bin", u64::MAX - 2, "a range of `good.bin` leaves the range of 64 bits"),
        ("../secret.bin", 0, "`../secret.bin` points outside the model's folder"),
        ("a/../../secret.bin", 0, "`a/../../secret.bin` points outside the model's folder"),
        ("..\\secret.bin", 0, "`..\\secret.bin` points outside the model's folder"),
        (absolute.as_str(), 0, "points outside the model's folder"),
        ("link.bin", 0, "`link.bin` is a link that leaves the model's folder"),
        ("folder.bin", 0, "`folder.bin` cannot be opened: not a regular file"),
        ("", 0, "its data is external, but no location is given"),
    ] {
        let (_, found) = run(location, offset, false);
        let code = if location.is_empty() { "E0109: tensor `w`: " } else { "E0110 weight w: " };
        assert!(found.starts_with(code) && found.contains(expected), "{location}: {found}");
    }
    // One file, one sentence: what differs is in the path and the note.
    let mut two = with_weight("short.bin", 0);
    two.graph.as_mut().expect("a graph").initializer.push(external("v", &[5], "short.bin", 4));
    let mut diags = portwright_ir::diag::Diags::new();
    let options = ImportOptions::default();
    assert!(portwright_frontend::import_bytes(&bytes(&two), Some(&model), &options, &mut diags).is_err());
    let said: Vec<_> = diags.all().iter().map(|d| (d.path.as_deref(), d.message.as_str(), d.notes.as_slice())).collect();
    let (message, note) = ("`short.bin` is too short: it has 12 bytes", |n: &str| [format!("bytes {n} are expected")]);
    assert_eq!(said, [(Some("weight w"), message, &note("0..16")[..]), (Some("weight v"), message, &note("4..24")[..])]);
    let (i, found) = run("good.bin", 48, false);
    let i = i.unwrap_or_else(|| panic!("{found}"));
    assert_eq!(i.graph.weights().values().next().and_then(|w| w.bytes()), Some(&[1u8; 16][..]));
    // Without weights no file is opened, but names that point outside are still refused.
    assert!(run("missing.bin", 0, true).0.is_some());
    assert!(run("../secret.bin", 0, true).1.starts_with("E0110"));
}
