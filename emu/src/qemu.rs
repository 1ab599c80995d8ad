// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CPUs under qemu's user-mode emulation.
//!
//! qemu runs `c/runner.c`, a static program without a C library that maps the bundle's library itself; so neither a C library nor
//! a dynamic loader of the emulated machine is needed, and starting takes milliseconds.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use portwright_runtime::bundle;
use portwright_runtime::features::Arch;
use portwright_runtime::load::{self, LoadError, Status};
use portwright_runtime::manifest::Target;

use crate::wire::Process;
use crate::{Executor, Machine, Missing, Options};

#[cfg(feature = "embed")]
include!(concat!(env!("OUT_DIR"), "/runners.rs"));
#[cfg(not(feature = "embed"))]
const RUNNERS: &[(&str, &[u8])] = &[];

/// The oldest version whose vectors are whole: LSX and LASX came with 8.2, RVV's `max` CPU too. Debian 12's own is 7.2.
pub const NEEDED: Version = Version([8, 2, 0]);

/// A version of qemu.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

impl Version {
    /// Reads the first line of `--version`: `qemu-riscv64 version 10.0.2 (Debian 1:10.0.2+ds-2)`.
    pub fn parse(text: &str) -> Option<Version> {
        let number = text.lines().next()?.split_once(" version ")?.1.split_whitespace().next()?;
        let mut parts = number.split('.').map(|p| p.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>());
        let major = parts.next()?.ok()?;
        let mut rest = || parts.next().and_then(Result::ok).unwrap_or(0);
        Some(Version([major, rest(), rest()]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a}.{b}.{c}")
    }
}

/// A qemu that is new enough.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    version: Version,
    arch: Arch,
    /// The processor, as its option `-cpu` names it.
    cpu: String,
}

/// The emulator of an architecture: the first in `folders` and then on the search path that is new enough.
///
/// # Errors
/// None is here, or all are too old.
pub fn find_program(arch: Arch, folders: &[PathBuf]) -> Result<Qemu, Missing> {
    let name = format!("qemu-{}", arch.name());
    let candidates = folders.iter().map(|f| f.join(&name)).chain([PathBuf::from(&name)]);
    let mut newest: Option<(PathBuf, Version)> = None;
    for program in candidates {
        let output = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
        let Some(version) = output.ok().and_then(|o| Version::parse(&String::from_utf8_lossy(&o.stdout))) else { continue };
        if version >= NEEDED {
            return Ok(Qemu { program, version, arch, cpu: processor(arch, &[]) });
        }
        if newest.as_ref().is_none_or(|(_, v)| version > *v) {
            newest = Some((program, version));
        }
    }
    Err(match newest {
        Some((path, version)) => Missing::TooOld { path, version: version.to_string(), needed: NEEDED.to_string() },
        None => Missing::NotFound { program: name },
    })
}

/// The emulator for the CPU that a bundle was made for.
///
/// # Errors
/// As [`find_program`]; or the target is no CPU that qemu emulates.
pub fn find(target: &Target, folders: &[PathBuf]) -> Result<Qemu, Missing> {
    let arch = Arch::of_triple(&target.triple).ok_or_else(|| Missing::Nobody { triple: target.triple.clone() })?;
    if runner(arch).is_none() {
        return Err(Missing::NotBuilt);
    }
    Ok(Qemu { cpu: processor(arch, &target.features), ..find_program(arch, folders)? })
}

/// Everything that the emulator has, for a bundle tests at load for what it needs; with vector registers of the length that features ask for,
/// or of the least.
fn processor(arch: Arch, features: &[String]) -> String {
    let bits = |names: &[(&str, u32)]| names.iter().filter(|n| features.iter().any(|f| f == n.0)).map(|n| n.1).max().unwrap_or(128);
    match arch {
        Arch::Aarch64 => format!("max,sve-default-vector-length={}", bits(&[("vl256", 256), ("vl512", 512)]) / 8),
        Arch::Riscv64 => format!("max,vlen={}", bits(&[("zvl256b", 256), ("zvl512b", 512)])),
        Arch::X86_64 | Arch::Loongarch64 => "max".into(),
    }
}

fn runner(arch: Arch) -> Option<&'static [u8]> {
    RUNNERS.iter().find(|(a, _)| *a == arch.name()).map(|(_, bytes)| *bytes)
}

/// The program that the emulator runs, as a file that goes with this value.
struct Runner(PathBuf);

impl Runner {
    fn write(arch: Arch) -> std::io::Result<Runner> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let bytes = runner(arch).ok_or_else(|| std::io::Error::other("this build has none"))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("portwright-runner-{}-{}-{number}", arch.name(), std::process::id()));
        // qemu asks for the right to execute as the system would.
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
        let made = Runner(path);
        file.write_all(bytes)?;
        Ok(made)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Qemu {
    /// A command that runs a program of that architecture; its arguments follow. `library` is the folder that stands for the
    /// machine's root where the program asks for a dynamic loader.
    pub fn command(&self, library: Option<&Path>) -> Command {
        let mut c = Command::new(&self.program);
        c.args(["-cpu", &self.cpu]);
        if let Some(root) = library {
            c.arg("-L").arg(root);
        }
        c
    }
    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }
    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }
}

impl Executor for Qemu {
    fn name(&self) -> String {
        format!("qemu-{} {}", self.arch.name(), self.version)
    }

    fn load(&self, folder: &Path, options: &Options) -> Result<Box<dyn Machine>, LoadError> {
        load::same_arch(folder, self.arch.name())?;
        let fail = |what: String| LoadError { status: Status::Internal, message: what };
        let runner = Runner::write(self.arch).map_err(|e| fail(format!("the program for {} cannot be written: {e}", self.name())))?;
        let mut command = self.command(None);
        if options.count {
            command.args(crate::count::arguments());
        }
        // The program reads the bundle by system calls of its own, in the folder that this process is in.
        command.arg(&runner.0).arg(folder);
        if options.count {
            command.arg("count");
        }
        let library = options.count.then(|| folder.join(bundle::LIBRARY));
        // Once it has answered it is in memory, and its file may go.
        Process::start(command, self.name(), library.as_deref()).map(|p| Box::new(p) as Box<dyn Machine>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let v = |t: &str| Version::parse(t);
        assert_eq!(v("qemu-riscv64 version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(Version([10, 0, 2])));
        assert_eq!(v("qemu-x86_64 version 8.2"), Some(Version([8, 2, 0])));
        assert_eq!(v("qemu-x86_64 version 9.1.0-rc2"), Some(Version([9, 1, 0])));
        assert_eq!((v("qemu version x"), v(""), v("hello 3.1")), (None, None, None));
        assert!(v("q version 7.2.9").is_some_and(|v| v < NEEDED) && v("q version 10.0").is_some_and(|v| v > NEEDED));
    }

    #[test]
    fn registers_are_as_long_as_a_bundle_asks() {
        let of = |arch, features: &[&str]| processor(arch, &features.iter().map(|f| f.to_string()).collect::<Vec<_>>());
        assert_eq!(of(Arch::Riscv64, &["m", "v"]), "max,vlen=128");
        assert_eq!(of(Arch::Riscv64, &["v", "zvl256b", "zvl512b"]), "max,vlen=512");
        assert_eq!(of(Arch::Aarch64, &["neon", "sve", "vl256"]), "max,sve-default-vector-length=32");
        assert_eq!(of(Arch::Loongarch64, &["lasx"]), "max");
    }

    #[test]
    #[cfg(unix)]
    fn an_old_emulator_is_named_and_a_newer_one_taken() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let fake = |folder: &str, version: &str| {
            let path = dir.path().join(folder);
            std::fs::create_dir_all(&path).unwrap();
            let program = path.join("qemu-riscv64");
            std::fs::write(&program, format!("#!/bin/sh\necho 'qemu-riscv64 version {version}'\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (old, new) = (fake("old", "7.2.9 (Debian)"), fake("new", "99.0.0"));
        let found = find_program(Arch::Riscv64, &[old.clone(), new.clone()]).unwrap();
        assert_eq!((found.program(), found.name().as_str()), (new.join("qemu-riscv64").as_path(), "qemu-riscv64 99.0.0"));
        // Without the newer one the search path decides; where that has none either, the old one is named.
        if let Err(e) = find_program(Arch::Riscv64, &[old]) {
            assert!(matches!(&e, Missing::TooOld { version, .. } if version == "7.2.9"), "{e}");
            assert!(e.to_string().contains("8.2.0") && e.remedy().contains("./setup"));
        }
        let target = Target { triple: "vax-dec-vms".into(), ..Target::default() };
        assert_eq!(find(&target, &[]).unwrap_err(), Missing::Nobody { triple: "vax-dec-vms".into() });
    }
}
