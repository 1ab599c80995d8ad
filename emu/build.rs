// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles the program that emulators run into one static executable an architecture, to be embedded.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Architectures that an emulator is known for, as they begin target triples.
const ARCHES: [&str; 4] = ["x86_64", "aarch64", "riscv64", "loongarch64"];

const REMEDY: &str = "install LLVM's clang and lld 18 or later (Debian: apt-get install clang-22 lld-22), or set PORTWRIGHT_CLANG to a \
                      clang that finds its own lld, or build without the feature `embed`";

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed=../runtime/c/portwright.h");
    println!("cargo::rerun-if-changed=simt");
    println!("cargo::rerun-if-changed=judge");
    println!("cargo::rerun-if-env-changed=PORTWRIGHT_CLANG");
    if let Err(text) = headers() {
        println!("cargo::error={text}");
    }
    if env::var_os("CARGO_FEATURE_EMBED").is_none() {
        return;
    }
    if let Err(text) = embed() {
        println!("cargo::error={text}");
    }
}

/// The lists of the headers and sources of `simt`, with what they include, for `src/simt/build.rs`, and of `judge`.
fn headers() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let room = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let mut files =
        vec![("core/talk.h".into(), room.join("c/talk.h")), ("core/portwright.h".into(), room.join("../runtime/c/portwright.h"))];
    list(&room.join("simt"), "", &mut files)?;
    write(&out.join("simt.rs"), files)?;
    let mut files = Vec::new();
    list(&room.join("judge"), "", &mut files)?;
    write(&out.join("judge.rs"), files)
}

/// Writes a list of names and texts.
fn write(to: &Path, mut files: Vec<(String, PathBuf)>) -> Result<(), String> {
    files.sort();
    let mut table = String::from("[\n");
    for (name, path) in files {
        table.push_str(&format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string()));
    }
    table.push_str("]\n");
    fs::write(to, table).map_err(|e| format!("cannot write {}: {e}", to.display()))
}

/// Adds what lies in a folder and those in it, by path.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            list(&path, &format!("{name}/"), files)?;
        } else if path.extension().is_some_and(|e| e == "h" || e == "c" || e == "cpp") {
            files.push((name, path));
        }
    }
    Ok(())
}

fn embed() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let room = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let clang = find_clang()?;
    let mut table = String::from("const RUNNERS: &[(&str, &[u8])] = &[\n");
    for arch in ARCHES {
        let program = out.join(format!("runner-{arch}"));
        compile(&clang, &room, arch, &program)?;
        table.push_str(&format!("    ({arch:?}, include_bytes!({:?})),\n", program.display().to_string()));
    }
    table.push_str("];\n");
    fs::write(out.join("runners.rs"), table).map_err(|e| format!("cannot write to {}: {e}", out.display()))
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
    Err(format!("no C compiler for the embedded runner (tried {}): {REMEDY}", candidates.join(", ")))
}

fn compile(clang: &str, room: &Path, arch: &str, program: &Path) -> Result<(), String> {
    // Same bytes wherever it is built: no debug data, no paths, no compiler identification.
    let run = Command::new(clang)
        .current_dir(room)
        .arg(format!("--target={arch}-linux-gnu"))
        .args(["-std=c11", "-O2", "-ffreestanding", "-nostdlibinc", "-fno-stack-protector", "-fno-pic", "-fno-ident", "-g0"])
        .args(["-fno-asynchronous-unwind-tables", "-ffile-prefix-map=.=.", "-Wall", "-Wextra", "-I", "../runtime/c"])
        .args(["-static", "-nostdlib", "-fuse-ld=lld", "-Wl,--build-id=none,-z,noexecstack,--strip-all"])
        .args(["c/runner.c", "-o"])
        .arg(program)
        .output()
        .map_err(|e| format!("cannot run {clang}: {e}"))?;
    if run.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&run.stderr).replace('\n', " | ");
    Err(format!("{clang} did not compile the runner for {arch}: {text}; {REMEDY}"))
}
