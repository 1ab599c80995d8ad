// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles device code for this CPU.
//!
//! What does not change from program to program is compiled once and kept: the machine, the program around a bundle, and the dialect's
//! headers of each chip. Programs are kept by the hash of all that goes into them, the newest few hundred.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::{Chip, rewrite};
use crate::Missing;

/// The headers and the machine, by path.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/simt.rs"));

/// The oldest compiler: `_Float16` and lambdas with attributes are whole from there.
const NEEDED: u32 = 17;
/// Programs that are kept.
const KEPT: usize = 256;
/// Seconds that one launch may take.
const SECONDS: u32 = 900;

/// Flags of all code that runs on lanes: what reads or writes memory is seen (`core/runtime.cpp`), and `a * b + c` is two operations.
const DEVICE: &[&str] = &[
    "-x",
    "c++",
    "-std=c++20",
    "-O1",
    "-g1",
    "-fsanitize=thread",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fno-delete-null-pointer-checks",
    "-fno-exceptions",
    "-fno-rtti",
    "-w",
    "-mllvm",
    "-tsan-instrument-func-entry-exit=0",
    "-mllvm",
    "-tsan-instrument-atomics=0",
    "-mllvm",
    "-tsan-handle-cxx-exceptions=0",
    "-mllvm",
    "-tsan-instrument-read-before-write=1",
];

/// Flags of what the host runs: the plan, and the runtime with what drives a device.
const HOST: &[&str] =
    &["-x", "c", "-std=c11", "-O1", "-g0", "-ffreestanding", "-fno-strict-aliasing", "-w", "-DPW_WITH_DEVICE", "-DPW_VERSION=\"emulated\""];

/// A C++ compiler, and where what it made is kept.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    version: String,
    cache: PathBuf,
    /// What this CPU has that code may use.
    cpu: Vec<&'static str>,
    /// Whether LLVM's linker came with it.
    linker: bool,
    symbolizer: Option<PathBuf>,
}

/// Why there is no program.
#[derive(Debug)]
pub enum Failure {
    /// The compiler refuses the text; what it says names the text's files and lines.
    Refused(String),
    /// A file could not be read or written, or the compiler not be started.
    System(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text) => write!(f, "the kernels do not compile: {}", text.trim_end()),
            Failure::System(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

fn system(what: &Path) -> impl Fn(io::Error) -> Failure {
    let what = what.display().to_string();
    move |e| Failure::System(format!("{what}: {e}"))
}

/// A compiled program. Its file stays where it is kept, until newer ones take its place.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    symbolizer: Option<PathBuf>,
}

impl Program {
    /// A command that runs it; its arguments follow.
    pub fn command(&self) -> Command {
        let mut c = Command::new(&self.path);
        c.env("SIMT_SECONDS", SECONDS.to_string());
        c
    }
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
    pub(super) fn symbolizer(&self) -> Option<&Path> {
        self.symbolizer.as_deref()
    }
}

/// What one program is made of.
#[derive(Default)]
struct Sources {
    /// Device code and its headers: path within the program, text.
    device: Vec<(PathBuf, String)>,
    /// Of them, those that are compiled.
    units: Vec<PathBuf>,
    /// The bundle that it is of: its plan, the runtime and the program around it are linked.
    bundle: Option<PathBuf>,
}

impl Compiler {
    /// The first compiler on the search path that is new enough.
    ///
    /// # Errors
    /// None is here, or all are too old.
    pub fn find(cache: Option<&Path>) -> Result<Compiler, Missing> {
        let names = ["clang++-22", "clang++", "clang++-21", "clang++-20", "clang++-19", "clang++-18", "clang++-17"];
        let mut newest: Option<(PathBuf, u32, String)> = None;
        for name in names {
            let said = Command::new(name).arg("--version").stdin(Stdio::null()).output();
            let Some(text) = said.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok()) else { continue };
            let line = text.lines().next().unwrap_or("").to_string();
            let Some(major) = line.split_once("clang version ").and_then(|(_, n)| n.split('.').next()?.parse::<u32>().ok()) else {
                continue;
            };
            if newest.as_ref().is_none_or(|n| major > n.1) {
                newest = Some((name.into(), major, line));
            }
            if major >= NEEDED {
                break;
            }
        }
        match newest {
            Some((program, major, line)) if major >= NEEDED => {
                let version = line.split_once("clang version ").map_or("", |(_, n)| n.split([' ', '(']).next().unwrap_or(n));
                let cache = cache.map_or_else(|| std::env::temp_dir().join("portwright-simt"), |c| c.join("simt"));
                let mut found =
                    Compiler { program, version: format!("clang {version}"), cache, cpu: cpu(), linker: false, symbolizer: None };
                found.linker = found.beside("ld.lld").is_some();
                found.symbolizer = found.beside("llvm-symbolizer");
                Ok(found)
            }
            Some((path, _, line)) => Err(Missing::TooOld { path, version: line, needed: NEEDED.to_string() }),
            None => Err(Missing::NotFound { program: "clang++".into() }),
        }
    }

    /// Its name and version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Compiles a bundle's kernels, plan and runtime into a program that answers as `c/talk.h` says.
    ///
    /// # Errors
    /// The texts do not compile, or are not there.
    pub fn bundle(&self, chip: &Chip, bundle: &Path) -> Result<Program, Failure> {
        let from = bundle.join("src");
        let mut s = Sources { bundle: Some(from.clone()), ..Sources::default() };
        for path in files(&from)? {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            match path.extension().and_then(|e| e.to_str()) {
                Some("c") | None => {}
                Some("h" | "hpp" | "cuh" | "inc") => s.device.push((name, read(&path)?)),
                Some(_) => {
                    s.device.push((name.clone(), read(&path)?));
                    s.units.push(name);
                }
            }
        }
        if s.units.is_empty() {
            return Err(Failure::System(format!("{} has no device code", from.display())));
        }
        self.compile(chip, &s)
    }

    /// Compiles one text with a `main` of its own; `name` is what reports call it, and what it includes lies in `folders`.
    ///
    /// # Errors
    /// It does not compile.
    pub fn text(&self, chip: &Chip, name: &str, text: &str, folders: &[PathBuf]) -> Result<Program, Failure> {
        let mut s = Sources { device: vec![(name.into(), text.into())], units: vec![name.into()], ..Sources::default() };
        for path in folders.iter().map(|f| files(f)).collect::<Result<Vec<_>, _>>()?.concat() {
            let file: PathBuf = path.file_name().map(PathBuf::from).unwrap_or_default();
            if file != Path::new(name) {
                s.device.push((file, read(&path)?));
            }
        }
        self.compile(chip, &s)
    }

    fn compile(&self, chip: &Chip, s: &Sources) -> Result<Program, Failure> {
        let common = self.prepare(chip)?;
        let mut hash = Sha256::new();
        hash.update(common.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default());
        hash.update(chip.to_string());
        hash.update(chip.defines().concat());
        for (name, text) in &s.device {
            hash.update(name.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(text);
        }
        let mut runtime = String::new();
        if let Some(from) = &s.bundle {
            hash.update(read(&from.join("plan.c"))?);
            let mut all = Sha256::new();
            for folder in ["runtime", "runtime/host"].map(|f| from.join(f)).iter().filter(|f| f.is_dir()) {
                for path in files(folder)? {
                    all.update(read(&path)?);
                    all.update([0]);
                }
            }
            runtime = name_of(&all.finalize());
            hash.update(&runtime);
        }
        let symbolizer = self.symbolizer.clone();
        let path = self.cache.join("programs").join(name_of(&hash.finalize()));
        if path.is_file() {
            // So that it counts among the newest.
            let _ = File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
            return Ok(Program { path, symbolizer });
        }
        let room = Room::new(&self.cache)?;
        for (name, text) in &s.device {
            let to = room.0.join(name);
            fs::write(&to, rewrite(&name.to_string_lossy(), text)).map_err(system(&to))?;
        }
        let mut objects = Vec::new();
        for unit in &s.units {
            let object = room.0.join(unit).with_extension("o");
            let mut c = self.command();
            c.args(DEVICE).args(&self.cpu).args(chip.defines());
            c.arg("-include-pch").arg(common.join(headers_of(chip)));
            c.arg("-I").arg(common.join(&chip.dialect)).arg("-I").arg(&room.0);
            if let Some(from) = &s.bundle {
                c.arg("-I").arg(from).arg("-I").arg(from.join("runtime"));
            }
            c.arg("-c").arg(room.0.join(unit)).arg("-o").arg(&object);
            self.run(c, &room.0)?;
            objects.push(object);
        }
        if let Some(from) = &s.bundle {
            let compile = |source: &Path, object: &Path| -> Result<(), Failure> {
                let mut c = self.command();
                c.args(HOST).arg("-I").arg(from).arg("-I").arg(from.join("runtime"));
                c.arg("-c").arg(source).arg("-o").arg(object);
                self.run(c, from)
            };
            let plan = room.0.join("plan.o");
            compile(&from.join("plan.c"), &plan)?;
            // The runtime is the same in all bundles of a version.
            let kept = common.join(format!("runtime-{runtime}.o"));
            if !kept.is_file() {
                let made = room.0.join("host-runtime.o");
                compile(&from.join("runtime/runtime.c"), &made)?;
                fs::rename(&made, &kept).map_err(system(&kept))?;
            }
            objects.extend([plan, kept, common.join("runner.o")]);
        }
        let program = room.0.join("program");
        let mut c = self.command();
        c.args(["-no-pie", "-Wl,--as-needed"]).args(objects).arg(common.join("runtime.o"));
        if self.linker {
            c.arg("-fuse-ld=lld");
        }
        c.args(["-lm", "-ldl", "-lpthread", "-o"]).arg(&program);
        self.run(c, &room.0)?;
        let folder = self.cache.join("programs");
        fs::create_dir_all(&folder).map_err(system(&folder))?;
        fs::rename(&program, &path).map_err(system(&path))?;
        forget(&folder);
        Ok(Program { path, symbolizer })
    }

    /// What all programs of a chip have in common, in a folder of its own.
    fn prepare(&self, chip: &Chip) -> Result<PathBuf, Failure> {
        let mut hash = Sha256::new();
        for part in FILES.iter().flat_map(|(n, t)| [*n, *t]).chain(DEVICE.iter().copied()).chain(self.cpu.iter().copied()) {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(&self.version);
        let common = self.cache.join(name_of(&hash.finalize()));
        let headers = common.join(headers_of(chip));
        if headers.is_file() {
            return Ok(common);
        }
        private(&self.cache).map_err(system(&self.cache))?;
        fs::create_dir_all(&common).map_err(system(&common))?;
        // One process writes, others wait for it.
        let lock = common.join("lock");
        let file = File::create(&lock).map_err(system(&lock))?;
        file.lock().map_err(system(&lock))?;
        if headers.is_file() {
            return Ok(common);
        }
        let made = |name: &str| common.join(format!("{name}.new"));
        let done = |name: &str| fs::rename(made(name), common.join(name)).map_err(system(&common));
        if !common.join("runner.o").is_file() {
            for (name, text) in FILES {
                let path = common.join(name);
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder).map_err(system(folder))?;
                }
                fs::write(&path, text).map_err(system(&path))?;
            }
            let mut c = self.command();
            c.args(["-x", "c++", "-std=c++20", "-O2", "-g1", "-w", "-fno-exceptions", "-fno-rtti", "-c"])
                .arg(common.join("core/runtime.cpp"));
            c.args(&self.cpu).arg("-o").arg(made("runtime.o"));
            self.run(c, &common)?;
            done("runtime.o")?;
            let mut c = self.command();
            c.args(["-x", "c", "-std=gnu11", "-O1", "-w", "-c"]).arg(common.join("core/runner.c")).arg("-o").arg(made("runner.o"));
            self.run(c, &common)?;
            done("runner.o")?;
        }
        // The dialect's own header, under the name that device code includes it by.
        let all: Vec<&str> =
            FILES.iter().map(|(n, _)| *n).filter(|n| n.strip_prefix(&chip.dialect).is_some_and(|n| n.starts_with('/'))).collect();
        let list: String = all.iter().map(|n| format!("#include \"{n}\"\n")).collect();
        let source = common.join(format!("{}-{}.h", chip.dialect, chip.arch));
        fs::write(&source, list).map_err(system(&source))?;
        let name = headers_of(chip);
        let mut c = self.command();
        c.args(DEVICE).args(["-x", "c++-header"]).args(&self.cpu).args(chip.defines()).arg("-I").arg(common.join(&chip.dialect));
        c.arg(&source).arg("-o").arg(made(&name));
        self.run(c, &common)?;
        done(&name)?;
        Ok(common)
    }

    fn command(&self) -> Command {
        Command::new(&self.program)
    }

    fn run(&self, mut c: Command, room: &Path) -> Result<(), Failure> {
        let said = c.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(system(&self.program))?;
        if said.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&said.stderr).replace(&format!("{}/", room.display()), "");
        let mut lines: Vec<&str> = text.lines().filter(|l| l.contains("error") || l.contains("undefined")).collect();
        lines.dedup();
        lines.truncate(6);
        let all = if lines.is_empty() { text.trim().to_string() } else { lines.join("; ") };
        Err(Failure::Refused(all))
    }

    /// A program that came with the compiler.
    fn beside(&self, name: &str) -> Option<PathBuf> {
        let said = self.command().arg(format!("-print-prog-name={name}")).stdin(Stdio::null()).output().ok()?;
        let path = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
        path.is_absolute().then_some(path).filter(|p| p.is_file())
    }
}

/// A folder that goes with this value.
struct Room(PathBuf);

impl Room {
    fn new(cache: &Path) -> Result<Room, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = cache.join(format!("room-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).map_err(system(&path))?;
        Ok(Room(path))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a folder that nobody else can write to: what lies in it is executed.
fn private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let there = fs::metadata(folder)?;
    let own = owner()?;
    if there.uid() != own || there.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it"));
    }
    Ok(())
}

/// The user that files of this process belong to.
fn owner() -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata("/proc/self")?.uid())
}

/// Removes programs that were used least recently.
fn forget(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut all: Vec<(SystemTime, PathBuf)> =
        entries.flatten().filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    if all.len() <= KEPT {
        return;
    }
    all.sort();
    let old = all.len() - KEPT;
    for (_, path) in all.into_iter().take(old) {
        let _ = fs::remove_file(path);
    }
}

/// The file of a chip's headers, compiled: what it is called, and what is said of it.
fn headers_of(chip: &Chip) -> String {
    let hash = name_of(&Sha256::digest(chip.defines().concat()));
    format!("{}-{}-{}.pch", chip.dialect, chip.arch, hash.get(..8).unwrap_or_default())
}

fn name_of(hash: &[u8]) -> String {
    hash.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for e in fs::read_dir(folder).map_err(system(folder))? {
        let path = e.map_err(system(folder))?.path();
        if path.is_file() {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).map_err(system(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Flags for what this CPU has: without them each `fmaf` and each conversion of a half is a call.
fn cpu() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let has = [
            std::arch::is_x86_feature_detected!("avx2"),
            std::arch::is_x86_feature_detected!("fma"),
            std::arch::is_x86_feature_detected!("f16c"),
            std::arch::is_x86_feature_detected!("bmi2"),
        ];
        if has.iter().all(|h| *h) {
            return vec!["-march=x86-64-v3"];
        }
    }
    Vec::new()
}
