// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles the C runtime, and the program around a model in a static executable, for every supported triple into one relocatable object
//! each, to be embedded.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Triples with embedded objects.
const TRIPLES: [&str; 4] = ["x86_64-linux-gnu", "loongarch64-linux-gnu", "aarch64-linux-gnu", "riscv64-linux-gnu"];

const REMEDY: &str = "install LLVM's clang 18 or later (Debian: apt-get install clang-22), or set PORTWRIGHT_CLANG to one, \
                      or build without the feature `embed`";

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-env-changed=PORTWRIGHT_CLANG");
    if env::var_os("CARGO_FEATURE_EMBED").is_none() {
        return;
    }
    if let Err(text) = embed() {
        println!("cargo::error={text}");
    }
}

fn embed() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?).join("c");
    let clang = find_clang()?;
    let mut table = String::new();
    for (constant, file, source) in [("OBJECTS", "runtime", "runtime.c"), ("PROGRAMS", "program", "static/all.c")] {
        table.push_str(&format!("pub(crate) const {constant}: &[(&str, &[u8])] = &[\n"));
        for triple in TRIPLES {
            let object = out.join(format!("{file}-{triple}.o"));
            compile(&clang, &sources, (source, triple), &object)?;
            table.push_str(&format!("    ({triple:?}, include_bytes!({:?})),\n", object.display().to_string()));
        }
        table.push_str("];\n");
    }
    fs::write(out.join("objects.rs"), table).map_err(|e| format!("cannot write to {}: {e}", out.display()))
}

/// The compiler that PORTWRIGHT_CLANG names, else the first that runs.
fn find_clang() -> Result<String, String> {
    let candidates = match env::var("PORTWRIGHT_CLANG") {
        Ok(named) => vec![named],
        Err(_) => ["clang-22", "clang", "clang-21", "clang-20", "clang-19", "clang-18"].map(String::from).to_vec(),
    };
    for c in &candidates {
        if Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success()) {
            return Ok(c.clone());
        }
    }
    Err(format!("no C compiler for the embedded runtime (tried {}): {REMEDY}", candidates.join(", ")))
}

fn compile(clang: &str, sources: &Path, (source, triple): (&str, &str), object: &Path) -> Result<(), String> {
    // Same bytes wherever it is built: no debug data, no paths, no compiler identification.
    let run = Command::new(clang)
        .current_dir(sources)
        .arg(format!("--target={triple}"))
        .args(["-std=c11", "-O2", "-ffreestanding", "-nostdlibinc", "-fPIC", "-fvisibility=hidden", "-fno-ident", "-g0"])
        .args(["-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables", "-ffile-prefix-map=.=."])
        .arg(format!("-DPW_VERSION={:?}", env::var("CARGO_PKG_VERSION").unwrap_or_default()))
        .args(["-Wall", "-Wextra", "-c", source, "-o"])
        .arg(object)
        .output()
        .map_err(|e| format!("cannot run {clang}: {e}"))?;
    if run.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&run.stderr).replace('\n', " | ");
    Err(format!("{clang} did not compile {source} for {triple}: {text}; {REMEDY}"))
}
