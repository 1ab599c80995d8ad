// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The repository's model from C: thirty lines over the bundle's header, on this machine and as a loongarch64 program under qemu.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
#[cfg(feature = "emu")]
use portwright_runtime::features::Arch;
use portwright_runtime::tensor::Tensor;

#[cfg(feature = "emu")]
use crate::command::tools;
use crate::command::{Ended, ended, program, scratch};
use crate::skip::{Done, trial};
use crate::snap;
use crate::zoo::{self, OWN};

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(trial("speech.c::host", on_host));
    #[cfg(feature = "emu")]
    out.push(trial("speech.c::loongarch64::qemu", under_qemu));
}

const STRICT: [&str; 5] = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"];

fn text(p: &Path) -> String {
    p.display().to_string()
}

fn run(program: &Path, args: &[&str]) -> Result<Ended, String> {
    let mut c = Command::new(program);
    c.args(args);
    ended(c)?.well().map_err(|e| format!("{}: {e}", program.file_name().unwrap_or_default().display()))
}

/// The sound as raw floats, and what ONNX Runtime says of it.
fn sound(folder: &Path) -> Result<(PathBuf, Tensor), String> {
    let m = zoo::model(OWN)?;
    let find =
        |list: Vec<(String, Tensor)>, name: &str| list.into_iter().find(|(n, _)| n == name).map(|(_, t)| t).ok_or(format!("no {name}"));
    let raw = folder.join("sound.f32");
    std::fs::write(&raw, &find(zoo::read(&m.folder.join("speech.npz"))?, "input")?.data[..]).map_err(|e| e.to_string())?;
    Ok((raw, find(zoo::read(&m.folder.join("expected.npz"))?, "speech_probs")?))
}

/// Compares what the program printed: a line a row, its second number the probability.
fn check(printed: &str, want: &Tensor) -> Result<(), String> {
    let got: Vec<f32> = printed.lines().filter_map(|l| l.split_whitespace().nth(2)?.parse().ok()).collect();
    let bytes: Vec<u8> = got.iter().flat_map(|v| v.to_le_bytes()).collect();
    let got = Tensor::new(want.dtype, &[got.len() as i64], &bytes)?;
    if got.dims != want.dims {
        return Err(format!("{} rows, expected {}: {printed}", got.dims[0], want.dims[0]));
    }
    let d = zoo::distance(want, &got);
    if d <= 1e-5 { Ok(()) } else { Err(format!("relative L2 {d:e}, expected at most 1e-5")) }
}

fn on_host() -> Result<Done, String> {
    let Some(cc) = program(&["clang-22", "cc"]) else { return Ok(Done::Skipped("no C compiler".into())) };
    let bundle = zoo::bundle(&zoo::model(OWN)?, "host")?;
    let folder = scratch("speech-host")?;
    let (raw, want) = sound(&folder)?;
    let (source, include, exe) = (text(&snap::root().join("c/speech.c")), text(&bundle.join("include")), folder.join("speech"));
    run(&cc, &[&STRICT[..], &["-O1", "-I", &include, &source, "-o", &text(&exe), "-ldl"]].concat())?;
    let printed = run(&exe, &[&text(&bundle), &text(&raw)])?.stdout;
    check(&printed, &want)?;
    // The command gives the same numbers, to the last bit that nine digits show.
    let outputs = folder.join("outputs.npz");
    let input = zoo::model(OWN)?.folder.join("speech.npz");
    crate::command::portwright(&folder, &["--quiet", "run", &text(&bundle), "--inputs", &text(&input), "--outputs", &text(&outputs)])?
        .well()?;
    let own = zoo::read(&outputs)?.into_iter().find(|(n, _)| n == "speech_probs").ok_or("no speech_probs")?.1;
    let shown = portwright_cli::values::elements(&own.view());
    let same = printed.lines().zip(&shown).all(|(l, v)| l.split_whitespace().nth(2).and_then(|t| t.parse::<f32>().ok()) == Some(*v as f32));
    if same { Ok(Done::Passed) } else { Err("the C program and `run` give different numbers".into()) }
}

/// The C program as one of loongarch64, with that machine's C library and dynamic loader, where `./setup` has put them.
#[cfg(feature = "emu")]
fn under_qemu() -> Result<Done, String> {
    let triple = "loongarch64-linux-gnu";
    let root = tools().join("sysroot/loongarch64");
    let libc = root.join("usr").join(triple);
    let gcc = std::fs::read_dir(root.join("usr/lib/gcc-cross").join(triple)).ok().and_then(|mut d| d.next()?.ok()).map(|e| e.path());
    let qemu = match portwright_emu::qemu::find_program(Arch::Loongarch64, &portwright_cli::place::emulator_folders()) {
        Ok(q) => q,
        Err(missing) => return Ok(Done::Skipped(missing.to_string())),
    };
    let (Some(clang), Some(lld)) = (program(&["clang-22"]), program(&["ld.lld-22", "ld.lld"])) else {
        return Ok(Done::Skipped("no clang-22 and lld".into()));
    };
    let Some(gcc) = gcc else { return Ok(Done::Skipped("no loongarch64 C library (./setup installs it)".into())) };
    let bundle = zoo::bundle(&zoo::model(OWN)?, "loongarch64")?;
    let folder = scratch("speech-loongarch64")?;
    let (raw, want) = sound(&folder)?;
    let (source, object, exe) = (text(&snap::root().join("c/speech.c")), text(&folder.join("speech.o")), folder.join("speech"));
    let (include, system, target) = (text(&bundle.join("include")), text(&libc.join("include")), format!("--target={triple}"));
    run(&clang, &[&STRICT[..], &[&target, "-O1", "-isystem", &system, "-I", &include, "-c", &source, "-o", &object]].concat())?;
    let at = |d: &Path, n: &str| text(&d.join(n));
    let (sysroot, own, other) = (format!("--sysroot={}", text(&root)), format!("-L{}", at(&libc, "lib")), format!("-L{}", text(&gcc)));
    let (crt1, crti, begin) = (at(&libc, "lib/crt1.o"), at(&libc, "lib/crti.o"), at(&gcc, "crtbegin.o"));
    let (end, crtn, out) = (at(&gcc, "crtend.o"), at(&libc, "lib/crtn.o"), text(&exe));
    let loader = "/lib64/ld-linux-loongarch-lp64d.so.1";
    let link = ["-dynamic-linker", loader, &sysroot, &own, &other, &crt1, &crti, &begin, &object, "-lc", "-lgcc", &end, &crtn, "-o", &out];
    run(&lld, &link)?;
    let mut emulated = qemu.command(Some(&libc));
    emulated.arg(&exe).arg(&bundle).arg(&raw);
    let printed = ended(emulated)?.well()?.stdout;
    check(&printed, &want).map(|()| Done::Passed)
}
