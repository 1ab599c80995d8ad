// SPDX-License-Identifier: Apache-2.0 OR MIT
//! C libraries that static executables are linked with: musl, which a zig builds for any target, or what lies in a folder that the user
//! names. Nothing is looked for here but where the caller says.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use portwright_ir::diag::{Code, Diagnostic};
use portwright_runtime::features::Arch;

/// The oldest zig that builds musl for every target here.
pub const ZIG_NEEDED: [u32; 3] = [0, 14, 0];

/// Where a C library lies in a folder that users name: in forms with a triple for `*`, then in those of a machine's own root.
const FORMS: [&str; 5] = ["usr/*/lib", "*/lib", "usr/lib/*", "lib/*", "*/sysroot/usr/lib"];
const PLAIN: [&str; 6] = ["usr/lib64/lp64d", "usr/lib64", "usr/lib", "lib64", "lib", ""];

/// A C library for one architecture.
#[derive(Clone, Debug)]
pub enum Libc {
    /// musl, by a zig.
    Zig(Zig),
    /// In a folder.
    Sysroot(Sysroot),
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Libc::Zig(z) => write!(f, "musl of zig {}", z.version),
            Libc::Sysroot(s) => write!(f, "{}", s.file("libc.a").display()),
        }
    }
}

/// A zig that is new enough.
#[derive(Clone, Debug)]
pub struct Zig {
    command: Vec<OsString>,
    version: String,
    cache: Option<PathBuf>,
}

/// The C library of a folder and what belongs to it.
#[derive(Clone, Debug)]
pub struct Sysroot {
    folder: PathBuf,
    compiler: Option<PathBuf>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No zig answers.
    NoZig {
        /// Commands that were tried.
        tried: Vec<String>,
    },
    /// All zigs are too old.
    OldZig {
        /// The newest.
        command: String,
        /// Its version.
        version: String,
    },
    /// The folder has no static C library of that architecture.
    NoLibrary {
        /// What the user named.
        folder: PathBuf,
        /// The architecture.
        arch: Arch,
        /// A folder that has them for another architecture.
        foreign: Option<PathBuf>,
    },
}

impl Missing {
    /// The report, `E0501`.
    pub fn diagnostic(&self) -> Diagnostic {
        let error = |m: String| Diagnostic::error(Code::TOOL_MISSING, m);
        match self {
            Missing::NoZig { tried } => error("a static executable needs a C library, and no zig is here that makes one".into())
                .note(format!("tried {}", tried.join(", ")))
                .help("./setup installs zig (the Python package ziglang); or --sysroot DIR names a folder with crt1.o and libc.a of the target"),
            Missing::OldZig { command, version } => {
                let [a, b, c] = ZIG_NEEDED;
                error(format!("{command} is zig {version}, which does not know every target: {a}.{b}.{c} or later is needed"))
                    .help("./setup installs one (the Python package ziglang); or --sysroot DIR names a folder with crt1.o and libc.a of the target")
            }
            Missing::NoLibrary { folder, arch, foreign } => {
                let m = format!("`{}` has no static C library for {}", folder.display(), arch.name());
                let d = match foreign {
                    Some(f) => error(m).note(format!("crt1.o in {} is of another architecture", f.display())),
                    None => error(m),
                };
                let d = if folder.is_dir() { d } else { d.note("it is no folder") };
                let forms: Vec<String> = FORMS.iter().chain(&PLAIN).filter(|f| !f.is_empty()).map(|f| f.replace('*', "TRIPLE")).collect();
                let names = triples(*arch);
                d.note(format!("looked for crt1.o and libc.a in it and in its {}, TRIPLE being {}", forms.join(", "), names.join(", ")))
                    .help("give the folder that usr/ and lib/ of the target are in, or leave --sysroot out to take zig's musl")
            }
        }
    }
}

impl Zig {
    /// The first of the commands that is new enough; its libraries are kept in `cache`, or where zig keeps them.
    ///
    /// # Errors
    /// None answers, or all are too old.
    pub fn find(commands: &[Vec<OsString>], cache: Option<PathBuf>) -> Result<Zig, Missing> {
        let mut newest: Option<([u32; 3], &Vec<OsString>, String)> = None;
        for command in commands {
            let Some((program, arguments)) = command.split_first() else { continue };
            let output = Command::new(program).args(arguments).arg("version").stdin(Stdio::null()).output();
            let Some(text) = output.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
            else {
                continue;
            };
            let Some(version) = version(&text) else { continue };
            if version >= ZIG_NEEDED {
                return Ok(Zig { command: command.clone(), version: text, cache });
            }
            if newest.as_ref().is_none_or(|n| version > n.0) {
                newest = Some((version, command, text));
            }
        }
        let name = |c: &[OsString]| c.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Err(match newest {
            Some((_, command, version)) => Missing::OldZig { command: name(command), version },
            None => Missing::NoZig { tried: commands.iter().map(|c| format!("`{}`", name(c))).collect() },
        })
    }
    /// What it says of itself.
    pub fn version(&self) -> &str {
        &self.version
    }
    /// Its C compiler for static programs of an architecture; scratch files go to `work`.
    pub(crate) fn compiler(&self, arch: Arch, work: &Path) -> Command {
        let (program, arguments) = self.command.split_first().map_or((Default::default(), &[][..]), |(p, a)| (p.clone(), a));
        let mut c = Command::new(program);
        c.args(arguments).arg("cc").arg("-target").arg(format!("{}-linux-musl", arch.name()));
        c.env("ZIG_LOCAL_CACHE_DIR", work.join("zig"));
        if let Some(cache) = &self.cache {
            c.env("ZIG_GLOBAL_CACHE_DIR", cache);
        }
        c
    }
}

/// Reads `0.14.0`, `0.15.0-dev.27+abc`.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split('.').map(|p| p.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok());
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

impl Sysroot {
    /// Finds the C library of an architecture in a folder: of a cross package of Debian (`usr/TRIPLE/lib`), of a machine's root
    /// (`usr/lib/TRIPLE`, `usr/lib64`, ..), of musl's own installation (`lib`), or the folder with the files themselves.
    ///
    /// # Errors
    /// None is there.
    pub fn open(folder: &Path, arch: Arch) -> Result<Sysroot, Missing> {
        let names = triples(arch);
        let named = names.iter().flat_map(|t| FORMS.map(|f| folder.join(f.replace('*', t))));
        let mut foreign = None;
        for at in named.chain(PLAIN.map(|f| folder.join(f))) {
            match (at.join("libc.a").is_file(), machine(&at.join("crt1.o"))) {
                (true, Some(a)) if a == arch => {
                    let compiler = compiler_folder(folder, &at, &names);
                    return Ok(Sysroot { folder: at, compiler });
                }
                (true, Some(_)) => foreign = foreign.or(Some(at)),
                _ => {}
            }
        }
        Err(Missing::NoLibrary { folder: folder.to_path_buf(), arch, foreign })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What stands before a program's objects on the linker's command line, and what stands behind them.
    pub(crate) fn around(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        // The linker runs in another folder.
        let some = |p: PathBuf| p.is_file().then(|| std::path::absolute(&p).unwrap_or(p));
        let own = |n: &str| some(self.file(n));
        let helper = |n: &str| self.compiler.as_ref().and_then(|c| some(c.join(n)));
        let begin = helper("crtbeginT.o").or_else(|| helper("crtbegin.o"));
        let before = [own("crt1.o"), own("crti.o"), begin.clone()];
        // Each of these may need another of them.
        let libraries = [own("libc.a"), own("libpthread.a"), helper("libgcc.a"), helper("libgcc_eh.a")];
        let group = ["--start-group".into()].into_iter().chain(libraries.into_iter().flatten()).chain(["--end-group".into()]);
        let end = begin.and_then(|_| helper("crtend.o"));
        (before.into_iter().flatten().collect(), group.chain(end).chain(own("crtn.o")).collect())
    }
}

fn triples(arch: Arch) -> Vec<String> {
    ["linux-gnu", "linux-musl", "unknown-linux-gnu", "unknown-linux-musl"].iter().map(|s| format!("{}-{s}", arch.name())).collect()
}

/// The folder of the compiler's own library, which C libraries lean on; the newest version.
fn compiler_folder(folder: &Path, library: &Path, triples: &[String]) -> Option<PathBuf> {
    let above = folder.parent().map(Path::to_path_buf);
    let roots = [Some(folder.join("usr/lib")), Some(folder.join("lib")), above.map(|a| a.join("lib"))];
    let mut found: Vec<(Vec<u32>, PathBuf)> = Vec::new();
    for root in roots.into_iter().flatten() {
        for (kind, t) in ["gcc-cross", "gcc"].iter().flat_map(|k| triples.iter().map(move |t| (k, t))) {
            for e in std::fs::read_dir(root.join(kind).join(t)).into_iter().flatten().flatten() {
                if e.path().join("libgcc.a").is_file() {
                    let version = e.file_name().to_string_lossy().split('.').filter_map(|p| p.parse().ok()).collect();
                    found.push((version, e.path()));
                }
            }
        }
    }
    found.sort();
    found.pop().map(|f| f.1).or_else(|| library.join("libgcc.a").is_file().then(|| library.to_path_buf()))
}

/// The architecture of an object file.
fn machine(file: &Path) -> Option<Arch> {
    use std::io::Read as _;
    let mut head = [0u8; 20];
    std::fs::File::open(file).and_then(|mut f| f.read_exact(&mut head)).ok()?;
    Arch::of_elf(&head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("0.17.1"), Some([0, 17, 1]));
        assert_eq!(version("0.15.0-dev.27+6b2bbb1"), Some([0, 15, 0]));
        assert_eq!(version("0.13"), Some([0, 13, 0]));
        assert_eq!((version(""), version("zig"), version("1.x")), (None, None, None));
    }

    #[test]
    #[cfg(unix)]
    fn an_old_zig_is_named_and_a_newer_one_taken() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let fake = |name: &str, version: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho {version}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            vec![path.into_os_string()]
        };
        let (older, old, new, none) = (fake("a", "0.9.1"), fake("b", "0.11.0"), fake("c", "9.0.0"), vec![OsString::from("/no/zig")]);
        let found = Zig::find(&[none.clone(), old.clone(), new], None).unwrap();
        assert_eq!(found.version(), "9.0.0");
        let missing = Zig::find(&[older, none.clone(), old], None).unwrap_err();
        assert!(matches!(&missing, Missing::OldZig { version, .. } if version == "0.11.0"), "{missing:?}");
        let missing = Zig::find(&[none], None).unwrap_err();
        let d = missing.diagnostic();
        assert_eq!(d.code, Code::TOOL_MISSING);
        assert!(d.notes[0].contains("/no/zig") && d.help.is_some_and(|h| h.contains("./setup") && h.contains("--sysroot")));
    }

    #[test]
    fn sysroots_of_every_form() {
        let elf = |machine: u16| {
            let mut f = b"\x7fELF\x02\x01\x01".to_vec();
            f.resize(18, 0);
            f.extend(machine.to_le_bytes());
            f
        };
        let forms = ["usr/riscv64-linux-gnu/lib", "riscv64-unknown-linux-musl/lib", "usr/lib/riscv64-linux-gnu", "usr/lib64", "lib", ""];
        for form in forms {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path().join(form);
            std::fs::create_dir_all(&at).unwrap();
            let missing = Sysroot::open(dir.path(), Arch::Riscv64).unwrap_err();
            assert!(missing.diagnostic().notes[0].contains("usr/TRIPLE/lib"), "{missing:?}");
            std::fs::write(at.join("crt1.o"), elf(243)).unwrap();
            assert!(Sysroot::open(dir.path(), Arch::Riscv64).is_err(), "without a library");
            std::fs::write(at.join("libc.a"), "!<arch>\n").unwrap();
            let s = Sysroot::open(dir.path(), Arch::Riscv64).unwrap();
            assert_eq!(s.folder, at);
            assert!(s.around().0 == [at.join("crt1.o")] && s.around().1.contains(&at.join("libc.a")));
            for version in ["9", "12.2.0", "10"] {
                let gcc = dir.path().join("usr/lib/gcc-cross/riscv64-linux-gnu").join(version);
                std::fs::create_dir_all(&gcc).unwrap();
                std::fs::write(gcc.join("libgcc.a"), "").unwrap();
            }
            let s = Sysroot::open(dir.path(), Arch::Riscv64).unwrap();
            assert!(s.compiler.is_some_and(|c| c.ends_with("12.2.0")));
            std::fs::write(at.join("crt1.o"), elf(62)).unwrap();
            let missing = Sysroot::open(dir.path(), Arch::Riscv64).unwrap_err();
            assert!(missing.diagnostic().notes[0].contains("another architecture"), "{missing:?}");
        }
    }
}
