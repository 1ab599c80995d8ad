// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVIDIA's assembler as a second judge: what it refuses is no PTX, and what it says of registers and spills is what the chip gets.
//!
//! `./setup` installs it from PyPI (`nvidia-cuda-nvcc`); it needs no driver and no device.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The assembler.
#[derive(Clone, Debug)]
pub struct Ptxas {
    program: PathBuf,
    version: String,
}

/// What a kernel or function takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Name.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Barriers of a group.
    pub barriers: u32,
    /// Bytes of static shared memory.
    pub shared: u64,
    /// Bytes of the stack.
    pub stack: u64,
    /// Bytes stored because registers did not suffice.
    pub spill_stores: u64,
    /// Bytes loaded for that.
    pub spill_loads: u64,
}

/// What the assembler says of a text that it accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Kernels and functions in its order.
    pub functions: Vec<Resources>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Advisories with a number, as `C7517`: it has serialized `wgmma`.
    pub advisories: Vec<(String, String)>,
}

impl Report {
    /// What a text for fast kernels must not have: spills, and matrix instructions that are serialized.
    pub fn faults(&self) -> Vec<String> {
        let spills = self.functions.iter().filter(|f| f.spill_stores + f.spill_loads > 0);
        let spills = spills.map(|f| format!("{} spills {} bytes and loads {}", f.name, f.spill_stores, f.spill_loads));
        let serial = self.advisories.iter().filter(|a| a.0 == "C7517").map(|a| a.1.clone());
        spills.chain(serial).collect()
    }

    /// Adds what is said of another text.
    pub fn append(&mut self, mut other: Report) {
        self.functions.append(&mut other.functions);
        self.warnings.append(&mut other.warnings);
        self.advisories.append(&mut other.advisories);
    }

    /// Reads what `-v` prints.
    pub fn parse(text: &str) -> Report {
        let mut r = Report::default();
        for line in text.lines() {
            let (head, rest) = line.split_once(": ").unwrap_or(("", line));
            let rest = rest.trim();
            if head.trim_end().ends_with("warning") {
                r.warnings.push(rest.to_owned());
            }
            if let Some((code, what)) = advisory(rest) {
                r.advisories.push((code.to_owned(), what.to_owned()));
            } else if let Some(name) = rest.strip_prefix("Function properties for ") {
                r.functions.push(Resources { name: name.to_owned(), ..Resources::default() });
            } else if let Some(f) = r.functions.last_mut() {
                for part in rest.trim_start_matches("Used ").trim_start_matches("used ").split(", ") {
                    let part = part.trim_start_matches("used ");
                    let Some((n, what)) = part.split_once(' ') else { continue };
                    let Ok(n) = n.parse::<u64>() else { continue };
                    match what {
                        "registers" => f.registers = n as u32,
                        "barriers" => f.barriers = n as u32,
                        "bytes smem" => f.shared = n,
                        "bytes stack frame" => f.stack = n,
                        "bytes spill stores" => f.spill_stores = n,
                        "bytes spill loads" => f.spill_loads = n,
                        _ => {}
                    }
                }
            }
        }
        r
    }
}

/// `(C7517) text`, or `Advisory: .. C7517 ..`.
fn advisory(s: &str) -> Option<(&str, &str)> {
    let at = s.find("(C")?;
    let end = at + s[at..].find(')')?;
    let code = &s[at + 1..end];
    (code.len() > 1 && code[1..].bytes().all(|b| b.is_ascii_digit())).then(|| (code, s[end + 1..].trim()))
}

/// Why there is no report.
#[derive(Debug)]
pub enum PtxasError {
    /// It is nowhere.
    NotFound,
    /// It could not be run, or a file not be written.
    Io(std::io::Error),
    /// It refuses the text.
    Refused(String),
}

impl fmt::Display for PtxasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PtxasError::NotFound => f.write_str("ptxas is not here: ./setup installs it into tools/.cache"),
            PtxasError::Io(e) => write!(f, "ptxas could not be run: {e}"),
            PtxasError::Refused(text) => write!(f, "ptxas refuses the text: {text}"),
        }
    }
}

impl std::error::Error for PtxasError {}

/// The assembler in one of these folders, in the Python packages of one of them, or in the search path.
///
/// # Errors
/// [`PtxasError::NotFound`]
pub fn find(folders: &[PathBuf]) -> Result<Ptxas, PtxasError> {
    let inside = folders.iter().flat_map(|f| std::iter::once(f.join("ptxas")).chain(packaged(f, "ptxas")));
    let all = inside.chain([PathBuf::from("ptxas")]);
    all.into_iter().find_map(|program| Some(Ptxas { version: version(&program)?, program })).ok_or(PtxasError::NotFound)
}

/// Where a program of NVIDIA's lies in the Python packages of a folder.
pub(crate) fn packaged(folder: &Path, name: &str) -> Vec<PathBuf> {
    let versions = std::fs::read_dir(folder.join("python/lib")).into_iter().flatten().flatten();
    let mut out: Vec<PathBuf> = versions.map(|v| v.path().join("site-packages/nvidia/cu13/bin").join(name)).collect();
    out.sort();
    out
}

/// What a program of NVIDIA's says of its version, as `13.5.37`, if it runs.
pub(crate) fn version(program: &Path) -> Option<String> {
    let o = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    let words = text.split_whitespace().filter_map(|w| w.strip_prefix('V'));
    words.into_iter().find(|v| v.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

impl Ptxas {
    /// Version, as `13.5.37`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Assembles a text for a chip (`sm_90a`) and throws the result away.
    ///
    /// # Errors
    /// What it refuses, in its words.
    pub fn judge(&self, arch: &str, text: &str) -> Result<Report, PtxasError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("portwright-ptxas-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).map_err(PtxasError::Io)?;
        let (source, object) = (folder.join("kernel.ptx"), folder.join("kernel.cubin"));
        let result = std::fs::write(&source, text).map_err(PtxasError::Io).and_then(|()| self.assemble(arch, &source, &object));
        // What is left of it is of no use to anybody; a failure to remove it is not worth more than the report.
        let _ = std::fs::remove_dir_all(&folder);
        result
    }

    /// Assembles a file for a chip into a cubin.
    ///
    /// # Errors
    /// What it refuses, in its words.
    pub fn assemble(&self, arch: &str, source: &Path, object: &Path) -> Result<Report, PtxasError> {
        let mut command = Command::new(&self.program);
        command.arg(format!("-arch={arch}")).arg("-v").arg(source).arg("-o").arg(object).stdin(Stdio::null());
        let o = command.output().map_err(PtxasError::Io)?;
        let text = format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
        if o.status.success() { Ok(Report::parse(&text)) } else { Err(PtxasError::Refused(text.trim().to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports() {
        let r = Report::parse(
            "ptxas info    : 0 bytes gmem\n\
             ptxas info    : (C7517) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ill formed pipeline\n\
             ptxas warning : Value of threads per SM is out of range\n\
             ptxas info    : Compiling entry function 'k' for 'sm_90a'\n\
             ptxas info    : Function properties for k\n    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n\
             ptxas info    : Used 104 registers, used 1 barriers, 24576 bytes smem, 384 bytes cmem[0]\n",
        );
        let k = Resources { name: "k".into(), registers: 104, barriers: 1, shared: 24576, stack: 16, spill_stores: 8, spill_loads: 4 };
        assert_eq!(r.functions, [k]);
        assert_eq!((r.advisories[0].0.as_str(), r.warnings.len(), r.faults().len()), ("C7517", 1, 2));
    }
}
