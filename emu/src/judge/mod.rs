// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Second judges of device code in vendors' dialects: clang in its modes of CUDA and HIP, against headers that type the vendor's names
//! (`judge/`). The text as it lies in a bundle is compiled for the chip itself where LLVM has it, else for one that is near
//! (`judge/chips.txt`); code for AMD's family is linked, and says what registers, memory and spills each kernel has.
//!
//! Where the vendor's own compiler can be had without its chip ([`Nvcc`]), it is asked too.
//!
//! Neither the headers nor the machine of [`crate::simt`] have a part in this: what both take was read twice.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use portwright_runtime::manifest::Target;

use crate::simt::DEVICE;

mod nvcc;
mod object;

pub use nvcc::Nvcc;
pub use object::{Resources, resources};

/// The headers, by path.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/judge.rs"));
const CHIPS: &str = include_str!("../../judge/chips.txt");

/// The oldest clang: atomics with scopes and exchanges have their names from there.
const NEEDED: u32 = 19;

/// Why there is no verdict.
#[derive(Debug)]
pub enum JudgeError {
    /// There is no compiler, or none that is whole and new enough: what is missing.
    NotFound(String),
    /// Nothing judges code for that chip.
    Nobody(String),
    /// A file cannot be read or written, or the compiler not be started.
    Io(PathBuf, std::io::Error),
    /// The text is refused: by whom, and in which words.
    Refused(String, String),
}

impl JudgeError {
    /// The lines of what was said that tell of errors, or all where none does.
    fn refused(who: &str, text: &str) -> JudgeError {
        let mut lines: Vec<&str> = text.lines().filter(|l| l.contains("error")).collect();
        lines.truncate(6);
        JudgeError::Refused(who.to_owned(), if lines.is_empty() { text.trim().to_string() } else { lines.join("; ") })
    }
}

impl fmt::Display for JudgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JudgeError::NotFound(what) => f.write_str(what),
            JudgeError::Nobody(chip) => write!(f, "no mode of clang is known for {chip}"),
            JudgeError::Io(path, e) => write!(f, "{}: {e}", path.display()),
            JudgeError::Refused(who, text) => write!(f, "{who} refuses the kernels: {}", text.trim_end()),
        }
    }
}

impl std::error::Error for JudgeError {}

/// How a chip's code is judged: a row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Folder of the headers.
    pub dialect: String,
    /// The vendor's compiler's name of the chip.
    pub arch: String,
    /// Clang's language.
    pub language: String,
    /// What code is made for.
    pub processor: String,
    /// Whether code is linked.
    pub object: bool,
    /// The vendor's own compiler, where it can be had.
    pub compiler: Option<String>,
}

impl Mode {
    fn parse(line: &str) -> Option<Mode> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[dialect, arch, language, processor, form, compiler] = words.as_slice() else { return None };
        let [dialect, arch, language, processor] = [dialect, arch, language, processor].map(str::to_owned);
        let compiler = (compiler != "-").then(|| compiler.to_owned());
        Some(Mode { dialect, arch, language, processor, object: form == "object", compiler })
    }
    /// The mode for bundles of a target.
    pub fn find(target: &Target) -> Option<Mode> {
        let (dialect, arch) = target.device.as_deref()?.strip_prefix(DEVICE)?.split_once(':')?;
        modes().find(|m| m.dialect == dialect && m.arch == arch)
    }
    /// Whether code is for the chip and not for one that stands in for it.
    pub fn exact(&self) -> bool {
        self.arch == self.processor
    }
}

/// All rows of the table.
pub fn modes() -> impl Iterator<Item = Mode> {
    CHIPS.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).filter_map(Mode::parse)
}

/// A clang.
#[derive(Clone, Debug)]
pub struct Clang {
    program: PathBuf,
    version: String,
}

/// What is made of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// Assembly.
    Text(String),
    /// A code object, as the driver of the processor loads it.
    Object(Vec<u8>),
}

impl Clang {
    /// The first that is new enough.
    ///
    /// # Errors
    /// [`JudgeError::NotFound`].
    pub fn find() -> Result<Clang, JudgeError> {
        for name in ["clang++-22", "clang++", "clang++-21", "clang++-20", "clang++-19"] {
            let said = Command::new(name).arg("--version").stdin(Stdio::null()).output();
            let Some(text) = said.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok()) else { continue };
            let Some((_, version)) = text.lines().next().unwrap_or_default().split_once("clang version ") else { continue };
            let version = version.split([' ', '(']).next().unwrap_or(version);
            if version.split('.').next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= NEEDED) {
                return Ok(Clang { program: name.into(), version: version.into() });
            }
        }
        Err(JudgeError::NotFound(format!("no clang {NEEDED} or later is here")))
    }
    /// Its name and version.
    pub fn name(&self) -> String {
        format!("clang {}", self.version)
    }

    /// Compiles the device code of a bundle, and reads what the host runs of it.
    ///
    /// # Errors
    /// It is refused, or is not there.
    pub fn bundle(&self, mode: &Mode, bundle: &Path) -> Result<Made, JudgeError> {
        let unit = device_code(bundle)?;
        let from = bundle.join("src");
        self.unit(mode, &unit, &[&from, &from.join("runtime")])
    }

    /// As [`Clang::bundle`], of one text whose own headers lie in `folders`.
    ///
    /// # Errors
    /// It is refused, or is not there.
    pub fn unit(&self, mode: &Mode, unit: &Path, folders: &[&Path]) -> Result<Made, JudgeError> {
        let room = Room::new()?;
        for (name, text) in FILES {
            room.write(name, text)?;
        }
        let at = |name: &str| room.0.join(name);
        let command = || {
            let mut c = Command::new(&self.program);
            c.args(["-x", &mode.language, "-std=c++17", "-ffp-contract=off", "-fno-unroll-loops", "-w", "-nogpuinc", "-nogpulib"]);
            c.arg(format!("--offload-arch={}", mode.processor));
            c.arg("-I").arg(at(&mode.dialect)).arg("-I").arg(&room.0);
            for folder in folders {
                c.arg("-I").arg(folder);
            }
            c
        };
        let mut c = command();
        c.args(["--cuda-host-only", "-fsyntax-only"]).arg(unit);
        self.run(c)?;
        let made = at("made");
        let mut c = command();
        c.args(["-O3", "--cuda-device-only"]);
        // The version of PTX that has all that is written, where clang knows of no toolkit that would say one.
        c.args(if mode.language == "cuda" { ["--cuda-feature=+ptx71", "-S"] } else { ["--no-gpu-bundle-output", "-fvisibility=hidden"] });
        if mode.language != "cuda" && !mode.object {
            c.arg("-S");
        }
        c.arg(unit).arg("-o").arg(&made);
        self.run(c)?;
        let bytes = fs::read(&made).map_err(|e| JudgeError::Io(made.clone(), e))?;
        Ok(if mode.object { Made::Object(bytes) } else { Made::Text(String::from_utf8_lossy(&bytes).into_owned()) })
    }

    fn run(&self, mut c: Command) -> Result<(), JudgeError> {
        let io = |e| JudgeError::Io(self.program.clone(), e);
        let said = c.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(io)?;
        if said.status.success() {
            return Ok(());
        }
        Err(JudgeError::refused(&self.name(), &String::from_utf8_lossy(&said.stderr)))
    }
}

/// The file of a bundle that has its device code.
fn device_code(bundle: &Path) -> Result<PathBuf, JudgeError> {
    let from = bundle.join("src");
    let list = fs::read_dir(&from).map_err(|e| JudgeError::Io(from.clone(), e))?;
    let mut units: Vec<PathBuf> = list.flatten().map(|e| e.path()).filter(|p| p.file_stem().is_some_and(|s| s == "kernels")).collect();
    units.sort();
    units.into_iter().next().ok_or_else(|| JudgeError::Io(from, std::io::Error::other("there is no device code")))
}

/// A folder that goes with this value.
struct Room(PathBuf);

impl Room {
    fn new() -> Result<Room, JudgeError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portwright-judge-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|e| JudgeError::Io(path.clone(), e))?;
        Ok(Room(path))
    }
    fn write(&self, name: &str, text: &str) -> Result<(), JudgeError> {
        let path = self.0.join(name);
        let write = || path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        write().map_err(|e| JudgeError::Io(path.clone(), e))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
