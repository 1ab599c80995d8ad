// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Static executables: what they give is to the byte what `run` gives of the bundle, on this machine and on emulated ones, with the C
//! library of a sysroot and with zig's musl.
//!
//! zig builds musl once a target, which takes a minute. One target pays for it by default; the others are tried where it was paid before,
//! or where `PORTWRIGHT_STATIC=all` asks for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use portwright_runtime::features::Arch;
use portwright_runtime::npz::{self, Array};
use portwright_runtime::tensor::Tensor;
use portwright_targets::libc::Sysroot;

use crate::command::{Ended, ended, portwright_in, scratch};
use crate::skip::{Done, trial};
use crate::snap;
use crate::zoo::{self, OWN};

/// The emulated targets, with the machine's name.
#[cfg(feature = "emu")]
const EMULATED: [(&str, Arch); 3] = [("loongarch64", Arch::Loongarch64), ("aarch64", Arch::Aarch64), ("riscv64", Arch::Riscv64)];

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(trial("executable::host::sysroot", || with_sysroot("host", own(), Path::new("/"))));
    out.push(trial("executable::host::zig", || with_zig("host", own())));
    out.push(trial("executable::host::bad_inputs", bad_inputs));
    out.push(trial("executable::refused", refused));
    #[cfg(feature = "emu")]
    {
        for (target, arch) in EMULATED {
            out.push(trial(format!("executable::{target}::zig"), move || with_zig(target, arch)));
        }
        let root = crate::command::tools().join("sysroot/loongarch64");
        out.push(trial("executable::loongarch64::sysroot", move || with_sysroot("loongarch64", Arch::Loongarch64, &root)));
    }
}

/// This machine's.
fn own() -> Arch {
    Arch::ALL.into_iter().find(|a| a.name() == std::env::consts::ARCH).unwrap_or(Arch::X86_64)
}

fn text(p: &Path) -> String {
    p.display().to_string()
}

fn tools() -> PathBuf {
    std::env::var_os("PORTWRIGHT_TOOLS").map_or_else(|| crate::command::repository().join("tools/.cache"), PathBuf::from)
}

/// The command, which finds the tools of the repository.
fn portwright(folder: &Path, args: &[&str]) -> Result<Ended, String> {
    portwright_in(folder, args, &[("PORTWRIGHT_TOOLS", &tools())])
}

fn with_sysroot(target: &str, arch: Arch, root: &Path) -> Result<Done, String> {
    if Sysroot::open(root, arch).is_err() {
        return Ok(Done::Skipped(format!(
            "no static C library for {target} in {}",
            root.file_name().map_or("/".into(), |n| n.display().to_string())
        )));
    }
    same_as_run(target, arch, Some(root))
}

fn with_zig(target: &str, arch: Arch) -> Result<Done, String> {
    let zig = match portwright_cli::libc::zig() {
        Ok(z) => z,
        Err(missing) => return Ok(Done::Skipped(missing.diagnostic().message)),
    };
    let stamp = tools().join(format!("zig/musl-{}-{}", zig.version(), arch.name()));
    let asked = std::env::var_os("PORTWRIGHT_STATIC").is_some_and(|v| v == "all");
    if arch != Arch::Loongarch64 && !asked && !stamp.is_file() {
        return Ok(Done::Skipped(format!("musl for {} is not built yet (PORTWRIGHT_STATIC=all builds it)", arch.name())));
    }
    let done = same_as_run(target, arch, None)?;
    if matches!(done, Done::Passed) {
        let _ = std::fs::create_dir_all(tools().join("zig")).and_then(|()| std::fs::write(&stamp, ""));
    }
    Ok(done)
}

/// How a program of that architecture is started here, or why it cannot be.
fn starter(arch: Arch) -> Result<impl Fn(&Path) -> Command, String> {
    #[cfg(feature = "emu")]
    let qemu = if arch == own() {
        None
    } else {
        Some(portwright_emu::qemu::find_program(arch, &portwright_cli::place::emulator_folders()).map_err(|m| m.to_string())?)
    };
    #[cfg(not(feature = "emu"))]
    if arch != own() {
        return Err("this build has no emulators".into());
    }
    Ok(move |program: &Path| {
        #[cfg(feature = "emu")]
        if let Some(q) = &qemu {
            let mut c = q.command(None);
            c.arg(program);
            return c;
        }
        Command::new(program)
    })
}

/// Makes an executable of a model in `folder`.
fn make(folder: &Path, model: &Path, target: &str, root: Option<&Path>) -> Result<PathBuf, String> {
    let (model, out) = (text(model), folder.join("program"));
    let root = root.map(text);
    let mut args = vec!["--quiet", "compile", &model, "--target", target, "--static", "-o", "program"];
    if let Some(root) = &root {
        args.extend(["--sysroot", root.as_str()]);
    }
    let said = portwright(folder, &args)?.well()?.stdout;
    if said.trim() == "program" { Ok(out) } else { Err(format!("`compile` printed {said}")) }
}

/// Inputs of `c/ports.graph`, all of which it takes.
fn inputs() -> Vec<(String, Array)> {
    let array = |name: &str, dtype: i32, dims: &[i64], data: &[u8]| {
        (name.to_owned(), Array::Numbers(Tensor { dtype, dims: dims.to_vec(), data: data.into() }))
    };
    let floats: Vec<u8> = [1.5f32, -2.0, 0.1, 1e-3, f32::INFINITY, 3e20].iter().flat_map(|v| v.to_le_bytes()).collect();
    let rows: Vec<u8> = [7i64, -(1 << 40)].iter().flat_map(|v| v.to_le_bytes()).collect();
    vec![
        array("x", 1, &[2, 3], &floats),
        array("rows", 7, &[2], &rows),
        array("mask", 9, &[2, 3], &[1, 0, 1, 1, 1, 0]),
        array("half", 4, &[2], &[0x80, 0x3f, 0xc0, 0xff]),
        array("small", 3, &[5], &[0xf8, 7, 0, 0xff, 3]),
        array("scale", 1, &[], &0.25f32.to_le_bytes()),
    ]
}

fn save(path: &Path, arrays: &[(String, Array)]) -> Result<(), String> {
    npz::save_npz(path, arrays).map_err(|e| e.to_string())
}

/// The model of many dtypes and that of the repository give the same bytes as a bundle, at one thread and at three.
fn same_as_run(target: &str, arch: Arch, root: Option<&Path>) -> Result<Done, String> {
    let start = match starter(arch) {
        Ok(s) => s,
        Err(reason) => return Ok(Done::Skipped(reason)),
    };
    let kind = if root.is_some() { "sysroot" } else { "zig" };
    for (name, model) in [("ports", snap::root().join("c/ports.graph")), ("silero", zoo::model(OWN)?.folder.join("model.onnx"))] {
        let folder = scratch(&format!("executable-{name}-{target}-{kind}"))?;
        let program = make(&folder, &model, target, root)?;
        let given = if name == "ports" { folder.join("x.npz") } else { zoo::model(OWN)?.folder.join("speech.npz") };
        if name == "ports" {
            save(&given, &inputs())?;
        }
        let bundle = match name {
            "ports" => {
                portwright(&folder, &["--quiet", "compile", &text(&model), "--target", target, "-o", "model.pw"])?.well()?;
                folder.join("model.pw")
            }
            _ => zoo::bundle(&zoo::model(OWN)?, target)?,
        };
        let (given, bundle) = (text(&given), text(&bundle));
        portwright(&folder, &["--quiet", "run", &bundle, "--inputs", &given, "--outputs", "want.npz"])?.well()?;
        let want = std::fs::read(folder.join("want.npz")).map_err(|e| e.to_string())?;
        for threads in ["1", "3"] {
            let mut run = start(&program);
            run.args(["--inputs", &given, "--outputs", "got.npz", "--threads", threads]).current_dir(&folder);
            ended(run)?.well().map_err(|e| format!("{name} at {threads} threads: {e}"))?;
            let got = std::fs::read(folder.join("got.npz")).map_err(|e| e.to_string())?;
            if got != want {
                return Err(format!("{name} at {threads} threads: the outputs have other bytes than those of `run`"));
            }
        }
        if name == "ports" {
            let shown = portwright(&folder, &["--quiet", "run", &bundle, "--inputs", &given])?.well()?.stdout;
            let mut run = start(&program);
            run.args(["--inputs", &given]).current_dir(&folder);
            let printed = ended(run)?.well()?.stdout;
            if printed != shown {
                return Err(format!("it prints\n{printed}where `run` prints\n{shown}"));
            }
        }
        if std::fs::read_dir(&folder).map_err(|e| e.to_string())?.flatten().any(|e| e.file_name().to_string_lossy().contains("new-")) {
            return Err("something half-written was left behind".into());
        }
    }
    Ok(Done::Passed)
}

/// What is done to the inputs before they are written, the exit code, and words of the message.
type Bad = (&'static str, fn(&mut Vec<(String, Array)>), i32, &'static [&'static str]);

fn numbers<'a>(arrays: &'a mut [(String, Array)], name: &str) -> &'a mut Tensor {
    match arrays.iter_mut().find(|(n, _)| n == name) {
        Some((_, Array::Numbers(t))) => t,
        _ => panic!("no array {name}"),
    }
}

const BAD: &[Bad] = &[
    ("missing", |a| a.retain(|(n, _)| n != "half"), 3, &["array 'half'", "missing", "bf16[N]"]),
    ("unknown", |a| a.push(("extra".into(), a[0].1.clone())), 3, &["no input 'extra'", "'x', 'rows'"]),
    ("slip", |a| a[0].0 = "X".into(), 3, &["no input 'X'", "array 'x': it is missing"]),
    ("dtype", |a| numbers(a, "rows").dtype = 11, 3, &["array 'rows'", "'<f8'", "'<i8'"]),
    ("dtype_of_bits", |a| numbers(a, "half").dtype = 10, 3, &["array 'half'", "'<f2'", "'<u2'", "bf16"]),
    ("rank", |a| numbers(a, "x").dims = vec![6], 3, &["array 'x'", "[6]", "f32[N, 3]"]),
    ("fixed", |a| numbers(a, "x").dims = vec![3, 2], 3, &["array 'x'", "[3, 2]", "f32[N, 3]"]),
    (
        "range",
        |a| *numbers(a, "half") = Tensor { dtype: 4, dims: vec![10], data: [0; 20][..].into() },
        3,
        &["array 'half'", "[10]", "N from 1 to 9"],
    ),
    (
        "symbol",
        |a| *numbers(a, "half") = Tensor { dtype: 4, dims: vec![3], data: [0; 6][..].into() },
        3,
        &["array 'half'", "[3]", "N is 2 as in 'x'"],
    ),
    ("too_large_for_bits", |a| numbers(a, "small").data = [8, 0, 0, 0, 0][..].into(), 3, &["array 'small'", "8", "i4"]),
    ("strings", |a| a[0].1 = Array::Strings { dims: vec![1], values: vec!["a".into()] }, 3, &["array 'x'", "'<U1'", "'<f4'"]),
    (
        "two_at_once",
        |a| {
            numbers(a, "x").dims = vec![6];
            numbers(a, "rows").dtype = 11;
        },
        3,
        &["array 'x'", "array 'rows'"],
    ),
];

/// Files that are no archive, by what is made of the good one.
type Damage = (&'static str, fn(&[u8]) -> Vec<u8>, &'static [&'static str]);

const DAMAGED: &[Damage] = &[
    ("empty", |_| Vec::new(), &["too short"]),
    ("text", |_| b"not an archive, but long enough to be one".to_vec(), &["no directory"]),
    ("cut", |b| b[..b.len() - 30].to_vec(), &["no directory"]),
    ("head_cut", |b| b[64..].to_vec(), &["outside"]),
    (
        "flipped",
        |b| {
            let mut b = b.to_vec();
            b[130] ^= 1;
            b
        },
        &["array 'x'", "checksum"],
    ),
];

/// Whatever lies in an archive, what is wrong is said, by name, and the exit code says whose fault it is.
fn bad_inputs() -> Result<Done, String> {
    if Sysroot::open(Path::new("/"), own()).is_err() {
        return Ok(Done::Skipped("no static C library of this machine".into()));
    }
    let folder = scratch("executable-bad")?;
    let program = make(&folder, &snap::root().join("c/ports.graph"), "host", Some(Path::new("/")))?;
    let call = |args: &[&str]| {
        let mut c = Command::new(&program);
        c.args(args).current_dir(&folder);
        ended(c)
    };
    let mut faults = Vec::new();
    let mut check = |what: &str, e: Result<Ended, String>, code: i32, words: &[&str]| match e {
        Err(e) => faults.push(format!("{what}: {e}")),
        Ok(e) => {
            let missing: Vec<_> = words.iter().filter(|w| !e.stderr.contains(*w)).collect();
            if e.code != code || !missing.is_empty() || (code != 0 && !e.stderr.starts_with("error: ")) {
                faults.push(format!("{what}: exit code {}, expected {code}; without {missing:?}: {}", e.code, e.stderr));
            }
        }
    };
    let error = |e: std::io::Error| e.to_string();
    for (name, change, code, words) in BAD {
        let mut arrays = inputs();
        change(&mut arrays);
        save(&folder.join("bad.npz"), &arrays)?;
        check(name, call(&["--inputs", "bad.npz", "--outputs", "y.npz"]), *code, words);
    }
    save(&folder.join("x.npz"), &inputs())?;
    let good = std::fs::read(folder.join("x.npz")).map_err(error)?;
    for (name, change, words) in DAMAGED {
        std::fs::write(folder.join("bad.npz"), change(&good)).map_err(error)?;
        check(name, call(&["--inputs", "bad.npz", "--outputs", "y.npz"]), 3, words);
    }
    check("absent", call(&["--inputs", "none.npz"]), 7, &["none.npz", "No such file"]);
    check("a_folder", call(&["--inputs", "."]), 7, &["directory"]);
    check("no_folder_for_outputs", call(&["--inputs", "x.npz", "--outputs", "no/y.npz"]), 7, &["no/y.npz", "No such file"]);
    check("no_inputs", call(&[]), 2, &["x, rows, mask, half, small, scale", "--inputs"]);
    check("slip", call(&["--input", "x.npz"]), 2, &["'--input'"]);
    check("no_value", call(&["--inputs"]), 2, &["--inputs"]);
    check("twice", call(&["--inputs=x.npz", "--inputs=x.npz"]), 2, &["--inputs"]);
    check("no_number", call(&["--inputs=x.npz", "--threads=many"]), 2, &["many"]);
    check("good", call(&["--inputs=x.npz", "--outputs=y.npz", "--threads=2"]), 0, &[]);
    check("into_a_pipe", into_a_pipe(&folder, &call), 0, &[]);
    let help = call(&["--help"])?.well()?.stdout;
    for word in ["x: f32[N, 3], numpy '<f4', N from 1 to 9", "small: i4[5], numpy '|i1'", "output half.neg: bf16[N]", "--outputs Y.npz"] {
        if !help.contains(word) {
            check("help", Err(format!("no {word} in {help}")), 0, &[]);
        }
    }
    // What lost its end says so, and is nothing that `compile` would replace.
    let whole = std::fs::read(&program).map_err(error)?;
    for (name, bytes) in [("cut_short", &whole[..whole.len() - 1]), ("weights_cut_off", &whole[..whole.len() - 4096])] {
        std::fs::write(&program, bytes).map_err(error)?;
        check(name, call(&["--inputs", "x.npz"]), 7, &["copy the whole file"]);
    }
    let names: Vec<_> =
        std::fs::read_dir(&folder).map_err(error)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    if names.len() != 4 {
        faults.push(format!("files left behind: {names:?}"));
    }
    if faults.is_empty() { Ok(Done::Passed) } else { Err(faults.join("\n")) }
}

/// A pipe that outputs go to gets the bytes that a file gets, and is there afterwards.
fn into_a_pipe(folder: &Path, call: &dyn Fn(&[&str]) -> Result<Ended, String>) -> Result<Ended, String> {
    use std::os::unix::fs::FileTypeExt as _;
    let (pipe, error) = (folder.join("pipe"), |e: std::io::Error| e.to_string());
    let made = Command::new("mkfifo").arg(&pipe).status().map_err(error)?;
    let mut reader = Command::new("cat").arg(&pipe).stdout(std::process::Stdio::piped()).spawn().map_err(error)?;
    let e = call(&["--inputs=x.npz", "--outputs=pipe"]);
    let stays = std::fs::symlink_metadata(&pipe).is_ok_and(|m| m.file_type().is_fifo());
    if !made.success() || !stays || !e.as_ref().is_ok_and(|e| e.code == 0) {
        let _ = reader.kill();
        let _ = reader.wait();
        return Err(format!("the pipe is {}there afterwards; {:?}", if stays { "" } else { "not " }, e.map(|e| e.stderr)));
    }
    let got = reader.wait_with_output().map_err(error)?.stdout;
    let want = std::fs::read(folder.join("y.npz")).map_err(error)?;
    std::fs::remove_file(&pipe).map_err(error)?;
    if got == want { e } else { Err(format!("{} bytes through the pipe, {} in the file", got.len(), want.len())) }
}

/// Calls of the command that are refused: name, arguments, exit code, words.
type Refused = (&'static str, &'static [&'static str], i32, &'static [&'static str]);

const REFUSED: &[Refused] = &[
    ("weightless", &["compile", "MODEL", "--static", "--weightless"], 2, &["E0003", "--weightless", "pack"]),
    ("sysroot_of_a_bundle", &["compile", "MODEL", "--sysroot", "/"], 2, &["E0003", "--static"]),
    ("no_zig", &["compile", "MODEL", "--static"], 5, &["E0501", "/no/zig", "./setup", "--sysroot"]),
    ("no_sysroot", &["compile", "MODEL", "--static", "--sysroot", "."], 5, &["E0501", "crt1.o", "libc.a", "usr/TRIPLE/lib"]),
    ("no_folder", &["compile", "MODEL", "--static", "--sysroot", "none"], 5, &["E0501", "no folder"]),
    ("taken", &["compile", "MODEL", "--static", "--sysroot", "ROOT", "-o", "precious"], 7, &["E0703", "precious"]),
    ("nowhere", &["compile", "MODEL", "--static", "--sysroot", "ROOT", "-o", "no/x"], 7, &["E0702", "no/x"]),
    ("run", &["run", "program", "--random", "1"], 2, &["E0003", "static executable", "./program --inputs"]),
    ("bench", &["bench", "program"], 2, &["E0003", "static executable"]),
];

fn refused() -> Result<Done, String> {
    let root = Path::new("/");
    if Sysroot::open(root, own()).is_err() {
        return Ok(Done::Skipped("no static C library of this machine".into()));
    }
    let folder = scratch("executable-refused")?;
    let model = snap::root().join("c/ports.graph");
    make(&folder, &model, "host", Some(root))?;
    std::fs::write(folder.join("precious"), "precious").map_err(|e| e.to_string())?;
    let before = crate::command::contents(&folder);
    let mut faults = Vec::new();
    let model = text(&model);
    for (name, args, code, words) in REFUSED {
        let args: Vec<&str> = args
            .iter()
            .map(|a| {
                if *a == "MODEL" {
                    &model
                } else if *a == "ROOT" {
                    "/"
                } else {
                    a
                }
            })
            .collect();
        let e = portwright_in(&folder, &args, &[("PORTWRIGHT_ZIG", Path::new("/no/zig"))])?;
        let missing: Vec<_> = words.iter().filter(|w| !e.stderr.contains(*w)).collect();
        if e.code != *code || !missing.is_empty() {
            faults.push(format!("{name}: exit code {}, expected {code}; without {missing:?}: {}", e.code, e.stderr));
        }
    }
    let shown = portwright(&folder, &["inspect", "program"])?.well()?.stdout;
    if !shown.starts_with("static executable ports") {
        faults.push(format!("inspect says {shown}"));
    }
    if crate::command::contents(&folder) != before {
        faults.push("a refused call changed files".into());
    }
    // The same model gives the same bytes, and replaces what it gave before.
    make(&folder, Path::new(&model), "host", Some(root))?;
    if crate::command::contents(&folder) != before {
        faults.push("the same model gives other bytes".into());
    }
    if faults.is_empty() { Ok(Done::Passed) } else { Err(faults.join("\n")) }
}
