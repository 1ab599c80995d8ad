// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles device code for this CPU.
//!
//! What does not change from program to program is compiled once and kept: the machine, the program around a bundle, and the dialect's
//! headers of each chip. Programs are kept by the hash of all that goes into them, the newest half a gigabyte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::batch::{self, Bundle};
use super::{Chip, rewrite};
use crate::Missing;

/// The headers and the machine, by path.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/simt.rs"));

/// The oldest compiler: `_Float16` and lambdas with attributes are whole from there.
const NEEDED: u32 = 17;
/// Bytes of programs that are kept.
const KEPT: u64 = 512 << 20;
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
    /// Which of the bundles that were compiled together it is to run.
    key: Option<String>,
    symbolizer: Option<PathBuf>,
}

impl Program {
    /// A command that runs it; its arguments follow.
    pub fn command(&self) -> Command {
        let mut c = Command::new(&self.path);
        c.env("SIMT_SECONDS", SECONDS.to_string());
        c
    }
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
    pub(super) fn symbolizer(&self) -> Option<&Path> {
        self.symbolizer.as_deref()
    }
}

/// A text with a `main` of its own, and what it includes.
struct Sources {
    /// Path within the program, text.
    files: Vec<(PathBuf, String)>,
    /// Of them, the one that is compiled.
    unit: PathBuf,
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
        let b = Bundle::read(bundle)?;
        let common = self.prepare(chip)?;
        let key = b.key(&self.basis(chip, &common));
        match self.kept(&key) {
            Some(p) => Ok(p),
            None => self.build(chip, &common, &[(key, b)]).and_then(|mut all| all.pop().ok_or_else(nothing)),
        }
    }

    /// Compiles many bundles of a chip, so that what they have in common is read once; [`Compiler::bundle`] then finds each of them. Where
    /// one does not compile, all of its company are left to be compiled alone.
    ///
    /// # Errors
    /// What all programs have in common cannot be made.
    pub fn bundles(&self, chip: &Chip, all: &[&Path]) -> Result<(), Failure> {
        let common = self.prepare(chip)?;
        let basis = self.basis(chip, &common);
        let mut groups: BTreeMap<String, Vec<(String, Bundle)>> = BTreeMap::new();
        for b in all.iter().filter_map(|b| Bundle::read(b).ok()) {
            let key = b.key(&basis);
            let group = groups.entry(b.company()).or_default();
            if self.kept(&key).is_none() && group.iter().all(|(k, _)| *k != key) {
                group.push((key, b));
            }
        }
        for group in groups.values().filter(|g| g.len() > 1) {
            let _ = self.build(chip, &common, group);
        }
        Ok(())
    }

    /// Compiles one text with a `main` of its own; `name` is what reports call it, and what it includes lies in `folders`.
    ///
    /// # Errors
    /// It does not compile.
    pub fn text(&self, chip: &Chip, name: &str, text: &str, folders: &[PathBuf]) -> Result<Program, Failure> {
        let mut s = Sources { files: vec![(name.into(), text.into())], unit: name.into() };
        for path in folders.iter().map(|f| files(f)).collect::<Result<Vec<_>, _>>()?.concat() {
            let file: PathBuf = path.file_name().map(PathBuf::from).unwrap_or_default();
            if file != Path::new(name) {
                s.files.push((file, read(&path)?));
            }
        }
        let common = self.prepare(chip)?;
        let mut hash = self.basis(chip, &common);
        add(&mut hash, &s.files);
        let key = name_of(&hash.finalize());
        if let Some(p) = self.kept(&key) {
            return Ok(Program { key: None, ..p });
        }
        let room = Room::new(&self.cache)?;
        room.write_rewritten(&s.files)?;
        let object = room.0.join("text.o");
        self.device(chip, &common, &room, &s.unit, &[], &object)?;
        self.link(&common, &room, &[&object])?;
        Ok(Program { key: None, ..self.keep(&room, &[&key])?.pop().ok_or_else(nothing)? })
    }

    /// What every program of a chip depends on.
    fn basis(&self, chip: &Chip, common: &Path) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update(common.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default());
        hash.update(chip.defines().join(" "));
        hash
    }

    /// A program that was compiled before.
    fn kept(&self, key: &str) -> Option<Program> {
        let path = self.cache.join("programs").join(key);
        if !path.is_file() {
            return None;
        }
        // So that it counts among the newest.
        let _ = File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Some(Program { path, key: Some(key.to_owned()), symbolizer: self.symbolizer.clone() })
    }

    /// Puts the program of a room where programs are kept, under each of the keys.
    fn keep(&self, room: &Room, keys: &[&str]) -> Result<Vec<Program>, Failure> {
        let folder = self.cache.join("programs");
        fs::create_dir_all(&folder).map_err(system(&folder))?;
        let made = room.0.join("program");
        for key in keys {
            // Whole or not at all, whoever else writes it.
            let (name, path) = (room.0.join(key), folder.join(key));
            fs::hard_link(&made, &name).and_then(|()| fs::rename(&name, &path)).map_err(system(&path))?;
        }
        forget(&folder);
        let of = |key: &&str| Program { path: folder.join(key), key: Some((*key).to_owned()), symbolizer: self.symbolizer.clone() };
        Ok(keys.iter().map(of).collect())
    }

    /// Compiles a file of a room that runs on lanes.
    fn device(&self, chip: &Chip, common: &Path, room: &Room, unit: &Path, folders: &[PathBuf], object: &Path) -> Result<(), Failure> {
        let mut c = self.command();
        c.args(DEVICE).args(&self.cpu).args(chip.defines());
        c.arg("-include-pch").arg(common.join(headers_of(chip, "pch")));
        c.arg("-I").arg(common.join(&chip.dialect)).arg("-I").arg(&room.0);
        for folder in folders {
            c.arg("-I").arg(folder);
        }
        c.arg("-c").arg(room.0.join(unit)).arg("-o").arg(object);
        self.run(c, &room.0)
    }

    fn link(&self, common: &Path, room: &Room, objects: &[&Path]) -> Result<(), Failure> {
        let mut c = self.command();
        c.args(["-no-pie", "-Wl,--as-needed"]).args(objects).arg(common.join("runtime.o"));
        if self.linker {
            c.arg("-fuse-ld=lld");
        }
        c.args(["-lm", "-ldl", "-lpthread", "-o"]).arg(room.0.join("program"));
        self.run(c, &room.0)
    }

    /// Compiles bundles of one company into one program.
    fn build(&self, chip: &Chip, common: &Path, all: &[(String, Bundle)]) -> Result<Vec<Program>, Failure> {
        let Some((_, first)) = all.first() else { return Ok(Vec::new()) };
        let room = Room::new(&self.cache)?;
        room.write_rewritten(&first.headers)?;
        let (kernels, plans) = (room.0.join("all.cpp"), room.0.join("all.c"));
        fs::write(&kernels, batch::kernels(all)).map_err(system(&kernels))?;
        fs::write(&plans, batch::plans(all)).map_err(system(&plans))?;
        let [kernels_o, plans_o] = ["kernels.o", "plans.o"].map(|n| room.0.join(n));
        let folders = [first.from.clone(), first.from.join("runtime")];
        self.device(chip, common, &room, &kernels, &folders, &kernels_o)?;
        let compile = |source: &Path, object: &Path| -> Result<(), Failure> {
            let mut c = self.command();
            c.args(HOST).arg("-I").arg(&folders[0]).arg("-I").arg(&folders[1]);
            c.arg("-c").arg(source).arg("-o").arg(object);
            self.run(c, &room.0)
        };
        compile(&plans, &plans_o)?;
        // The runtime is the same in all bundles of a version.
        let kept = common.join(format!("runtime-{}.o", first.runtime));
        if !kept.is_file() {
            let made = room.0.join("host-runtime.o");
            compile(&folders[1].join("runtime.c"), &made)?;
            fs::rename(&made, &kept).map_err(system(&kept))?;
        }
        self.link(common, &room, &[&kernels_o, &plans_o, &kept, &common.join("runner.o")])?;
        self.keep(&room, &all.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
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
        let headers = common.join(headers_of(chip, "pch"));
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
        let (source, name) = (common.join(headers_of(chip, "h")), headers_of(chip, "pch"));
        fs::write(&source, list).map_err(system(&source))?;
        let mut c = self.command();
        // What templates of the headers become is in the kept headers, too.
        c.args(DEVICE).args(["-x", "c++-header", "-fpch-instantiate-templates"]).args(&self.cpu).args(chip.defines());
        c.arg("-I").arg(common.join(&chip.dialect)).arg(&source).arg("-o").arg(made(&name));
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

impl Room {
    /// Writes files as the compiler for this CPU takes them.
    fn write_rewritten(&self, files: &[(PathBuf, String)]) -> Result<(), Failure> {
        for (name, text) in files {
            let to = self.0.join(name);
            fs::write(&to, rewrite(&name.to_string_lossy(), text)).map_err(system(&to))?;
        }
        Ok(())
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

/// Removes programs that were used least recently. One that many bundles share counts once.
fn forget(folder: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(folder) else { return };
    let file = |e: fs::DirEntry| {
        let m = e.metadata().ok()?;
        Some((m.modified().ok()?, m.ino(), m.len(), e.path()))
    };
    let mut all: Vec<(SystemTime, u64, u64, PathBuf)> = entries.flatten().filter_map(file).collect();
    all.sort();
    let (mut bytes, mut seen) = (0u64, BTreeSet::new());
    for (_, file, size, path) in all.into_iter().rev() {
        if seen.insert(file) {
            bytes = bytes.saturating_add(size);
        }
        if bytes > KEPT {
            let _ = fs::remove_file(path);
        }
    }
}

/// Name of a chip's headers. Of what the table says of the chip the name depends, too.
fn headers_of(chip: &Chip, ending: &str) -> String {
    let of = name_of(&Sha256::digest(chip.defines().join(" ")));
    format!("{}-{}-{}.{ending}", chip.dialect, chip.arch, of.get(..8).unwrap_or_default())
}

fn nothing() -> Failure {
    Failure::System("the compiler wrote no program".into())
}

/// Adds files to a hash.
pub(super) fn add(hash: &mut Sha256, files: &[(PathBuf, String)]) {
    for (name, text) in files {
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
}

pub(super) fn name_of(hash: &[u8]) -> String {
    hash.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
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

pub(super) fn read(path: &Path) -> Result<String, Failure> {
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
