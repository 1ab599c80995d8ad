// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles the C runtime, and the program around a model in a static executable, for every supported triple into one relocatable object
//! each, to be embedded.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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

/// An object to be made: its file, the source, and the definition that chooses a variant.
struct Unit {
    file: &'static str,
    source: &'static str,
    define: &'static str,
    /// Whether it is made of that file of `c`.
    of: fn(&Path) -> bool,
}

/// The runtime, the same with what drives a device, the program of static executables, and what decodes images.
const UNITS: [(&str, Unit); 4] = [
    (
        "OBJECTS",
        Unit { file: "runtime", source: "runtime.c", define: "-UPW_WITH_DEVICE", of: |f| !in_program(f) && !of_device(f) && !of_images(f) },
    ),
    ("DEVICES", Unit { file: "device", source: "runtime.c", define: "-DPW_WITH_DEVICE", of: |f| !in_program(f) && !of_images(f) }),
    ("PROGRAMS", Unit { file: "program", source: "static/all.c", define: "-UPW_WITH_DEVICE", of: |f| in_program(f) || is_header(f) }),
    ("IMAGES", Unit { file: "image", source: "image/host.c", define: "-UPW_WITH_DEVICE", of: |f| of_images(f) || is_header(f) }),
];

fn in_program(f: &Path) -> bool {
    f.starts_with("static")
}
fn of_device(f: &Path) -> bool {
    f.to_str().is_some_and(|f| f.starts_with("device"))
}
fn of_images(f: &Path) -> bool {
    f.starts_with("image")
}
fn is_header(f: &Path) -> bool {
    f.extension().is_some_and(|e| e == "h" || e == "def")
}

fn embed() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?).join("c");
    let (clang, version) = find_clang()?;
    let files = read_all(&sources, Path::new(""))?;
    let mut table = String::new();
    let mut work = Vec::new();
    for (constant, unit) in &UNITS {
        table.push_str(&format!("pub(crate) const {constant}: &[(&str, &[u8])] = &[\n"));
        for triple in TRIPLES {
            let object = out.join(format!("{}-{triple}.o", unit.file));
            table.push_str(&format!("    ({triple:?}, include_bytes!({:?})),\n", object.display().to_string()));
            work.push((unit, triple, object));
        }
        table.push_str("];\n");
    }
    // As many at once as cargo allows; what was made of the same is kept.
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse::<usize>().ok()).unwrap_or(1).clamp(1, work.len());
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..jobs {
            s.spawn(|| {
                while let Some((unit, triple, object)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let of = files.iter().filter(|(f, _)| (unit.of)(f)).map(|(f, text)| (f.as_path(), text.as_slice()));
                    let kept = object.with_extension("made-of");
                    let now = fingerprint(of, &[&version, triple, unit.define, include_str!("build.rs")]);
                    if object.is_file() && fs::read_to_string(&kept).is_ok_and(|before| before == now) {
                        continue;
                    }
                    let done = compile(&clang, &sources, (unit.source, triple, unit.define), object)
                        .and_then(|()| fs::write(&kept, &now).map_err(|e| format!("cannot write {}: {e}", kept.display())));
                    if let Err(fault) = done {
                        faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
                    }
                }
            });
        }
    });
    if let Some(fault) = faults.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().next() {
        return Err(fault);
    }
    interpreters(&clang, &sources);
    fs::write(out.join("objects.rs"), table).map_err(|e| format!("cannot write to {}: {e}", out.display()))
}

/// What decodes images, for the machine that this crate is built for.
fn interpreters(clang: &str, sources: &Path) {
    let mut build = cc::Build::new();
    build.compiler(clang).file(sources.join("image/alone.c")).std("c11").opt_level(2).warnings(false).debug(false);
    build.cargo_warnings(false).compile("portwright_image");
}

/// Every file of a folder by its name in it, in order.
fn read_all(root: &Path, folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let fail = |e: std::io::Error| format!("cannot read {}: {e}", root.join(folder).display());
    let mut out = Vec::new();
    for entry in fs::read_dir(root.join(folder)).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = folder.join(entry.file_name());
        match entry.file_type().map_err(fail)?.is_dir() {
            true => out.extend(read_all(root, &name)?),
            false => out.push((name, fs::read(entry.path()).map_err(fail)?)),
        }
    }
    out.sort();
    Ok(out)
}

/// What decides the bytes of an object, in short.
fn fingerprint<'a>(files: impl Iterator<Item = (&'a Path, &'a [u8])>, rest: &[&str]) -> String {
    let mut h = DefaultHasher::new();
    files.for_each(|f| f.hash(&mut h));
    rest.hash(&mut h);
    env::var("CARGO_PKG_VERSION").unwrap_or_default().hash(&mut h);
    format!("{:016x}", h.finish())
}

/// The compiler that PORTWRIGHT_CLANG names, else the first that runs, and what it says of its version.
fn find_clang() -> Result<(String, String), String> {
    let candidates = match env::var("PORTWRIGHT_CLANG") {
        Ok(named) => vec![named],
        Err(_) => ["clang-22", "clang", "clang-21", "clang-20", "clang-19", "clang-18"].map(String::from).to_vec(),
    };
    for c in &candidates {
        if let Some(o) = Command::new(c).arg("--version").output().ok().filter(|o| o.status.success()) {
            return Ok((c.clone(), String::from_utf8_lossy(&o.stdout).into_owned()));
        }
    }
    Err(format!("no C compiler for the embedded runtime (tried {}): {REMEDY}", candidates.join(", ")))
}

fn compile(clang: &str, sources: &Path, (source, triple, define): (&str, &str, &str), object: &Path) -> Result<(), String> {
    // Same bytes wherever it is built: no debug data, no paths, no compiler identification.
    let run = Command::new(clang)
        .current_dir(sources)
        .arg(format!("--target={triple}"))
        .args(["-std=c11", "-O2", "-ffreestanding", "-nostdlibinc", "-fPIC", "-fvisibility=hidden", "-fno-ident", "-g0"])
        .args(["-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables", "-ffile-prefix-map=.=."])
        .arg(format!("-DPW_VERSION={:?}", env::var("CARGO_PKG_VERSION").unwrap_or_default()))
        // Headers of the C library that vendored code names; what it uses of them is in these.
        .args(["-idirafter", "image/shim"])
        .args([define, "-Wall", "-Wextra", "-c", source, "-o"])
        .arg(object)
        .output()
        .map_err(|e| format!("cannot run {clang}: {e}"))?;
    if run.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&run.stderr).replace('\n', " | ");
    Err(format!("{clang} did not compile {source} for {triple}: {text}; {REMEDY}"))
}
