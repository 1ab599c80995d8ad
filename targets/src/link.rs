// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects to `libmodel.so` by LLVM's linker, and to static executables by the linker that goes with a C library.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::graph::HostOp;
use portwright_runtime::embed;
use portwright_runtime::features::Arch;

use crate::libc::Libc;
use crate::target::Toolchain;

/// LLVM's ELF linker.
#[derive(Copy, Clone, Debug)]
pub struct Lld;

/// Names under which it is found, the one that is pinned first.
const NAMES: [&str; 3] = ["ld.lld-22", "/usr/lib/llvm-22/bin/ld.lld", "ld.lld"];

const REMEDY: &str = "`./setup --minimal` installs it (Debian: lld-22)";

/// Functions of the process's C library that code may call besides the runtime's.
const LIBC: [&str; 4] = ["memcpy", "memset", "memmove", "memcmp"];

/// The runtime's function for host operations on images. It lies in an object of its own, which is linked where a plan calls it.
pub(crate) const IMAGES: &str = "pw_rt_image";

/// The runtime's function that runs a host operation.
pub(crate) fn host_entry(op: HostOp) -> &'static str {
    if op == HostOp::ImageDecode { IMAGES } else { "pw_rt_host" }
}

/// What plans of those objects need beside the runtime.
fn beside(objects: &[Vec<u8>], triple: &str) -> Option<&'static [u8]> {
    let calls = |o: &Vec<u8>| undefined(o).is_some_and(|names| names.contains(IMAGES));
    objects.iter().any(calls).then(|| embed::image_object_for(triple)).flatten()
}

fn find() -> Option<(&'static str, String)> {
    NAMES.into_iter().find_map(|n| {
        let out = Command::new(n).arg("--version").output().ok().filter(|o| o.status.success())?;
        Some((n, String::from_utf8_lossy(&out.stdout).trim().to_string()))
    })
}

impl Toolchain for Lld {
    fn name(&self) -> &'static str {
        "ld.lld"
    }
    fn probe(&self) -> Option<String> {
        find().map(|f| f.1)
    }
    fn remedy(&self) -> &'static str {
        REMEDY
    }
}

/// Links a model's objects with the runtime of the triple, or with that of its devices, to `output`; `name` is the model's name as a C identifier. Writes
/// the objects into `work`, an existing folder that the caller removes. The same objects give the same bytes.
///
/// # Errors
/// `E0501` without a linker, `E0502` with what it says, `E0702` for a file that cannot be written.
pub fn link(objects: &[Vec<u8>], (triple, device): (&str, bool), name: &str, work: &Path, output: &Path, sink: &mut Diags) -> Lowered<()> {
    let runtime = if device { embed::device_object_for(triple) } else { embed::object_for(triple) };
    let Some(runtime) = runtime else {
        let d = Diagnostic::error(Code::TOOL_MISSING, format!("this build carries no runtime for {triple}"));
        return Err(sink.report(d.help("build portwright-runtime with the feature `embed`")));
    };
    let linker = linker(sink)?;
    let mut names = written(objects.iter().map(Vec::as_slice).chain(beside(objects, triple)).chain([runtime]), work, sink)?;
    let runtime = names.pop().unwrap_or_default();
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let args = embed::link_arguments(name, &inputs, &runtime, &absolute(output, sink)?);
    let mut command = Command::new(linker);
    command.args(&args).current_dir(work);
    ran(command, sink)
}

/// Links a model's objects with the runtime, the program of the triple and a C library to the static executable `output`; else as [`link`].
///
/// # Errors
/// As [`link`].
pub fn program(objects: &[Vec<u8>], triple: &str, libc: &Libc, work: &Path, output: &Path, sink: &mut Diags) -> Lowered<()> {
    let (Some(runtime), Some(program), Some(arch)) = (embed::object_for(triple), embed::program_for(triple), Arch::of_triple(triple))
    else {
        let d = Diagnostic::error(Code::TOOL_MISSING, format!("this build carries no runtime for {triple}"));
        return Err(sink.report(d.help("build portwright-runtime with the feature `embed`")));
    };
    let names = written(objects.iter().map(Vec::as_slice).chain(beside(objects, triple)).chain([runtime, program]), work, sink)?;
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let out = absolute(output, sink)?;
    let command = match libc {
        Libc::Zig(zig) => {
            let mut c = zig.compiler(arch, work);
            c.args(embed::program_arguments(&inputs, "-Wl,", &out));
            c
        }
        Libc::Sysroot(root) => {
            let (before, behind) = root.around();
            let mut c = Command::new(linker(sink)?);
            c.arg("--eh-frame-hdr").args(before).args(embed::program_arguments(&inputs, "", &out)).args(behind);
            c
        }
    };
    let mut command = command;
    command.current_dir(work);
    ran(command, sink)
}

fn linker(sink: &mut Diags) -> Lowered<&'static str> {
    let missing = || Diagnostic::error(Code::TOOL_MISSING, "the linker ld.lld is not here").help(REMEDY);
    find().map(|f| f.0).ok_or_else(|| sink.report(missing()))
}

/// Writes objects into `work` and gives their names, relative to it, so that no path can reach the output.
fn written<'a>(objects: impl Iterator<Item = &'a [u8]>, work: &Path, sink: &mut Diags) -> Lowered<Vec<String>> {
    let mut names = Vec::new();
    for (i, bytes) in objects.enumerate() {
        let file = format!("part{i}.o");
        if let Err(e) = std::fs::write(work.join(&file), bytes) {
            return Err(sink.report(Diagnostic::error(Code::FILE_WRITE, format!("{}: {e}", work.join(&file).display()))));
        }
        names.push(file);
    }
    Ok(names)
}

fn absolute(output: &Path, sink: &mut Diags) -> Lowered<String> {
    match std::path::absolute(output) {
        Ok(p) => Ok(p.display().to_string()),
        Err(e) => Err(sink.report(Diagnostic::error(Code::FILE_WRITE, format!("{}: {e}", output.display())))),
    }
}

fn ran(mut linker: Command, sink: &mut Diags) -> Lowered<()> {
    match linker.output() {
        Ok(o) if o.status.success() => Ok(()),
        Ok(o) => {
            let d = Diagnostic::error(Code::TOOL_REJECTED, "the linker rejected what was emitted");
            Err(sink.report(String::from_utf8_lossy(&o.stderr).lines().take(20).fold(d, |d, l| d.note(l))))
        }
        Err(e) => {
            let name = linker.get_program().to_string_lossy().into_owned();
            Err(sink.report(Diagnostic::error(Code::TOOL_MISSING, format!("{name}: {e}")).help(REMEDY)))
        }
    }
}

/// Names that an ELF64 little-endian object needs and that neither the runtime nor the C library offers: calls of library
/// functions that some operation should have been expanded to avoid. `None` if the object is damaged.
pub fn foreign_symbols(object: &[u8], own: &BTreeSet<String>) -> Option<Vec<String>> {
    let known = |n: &String| n.starts_with("pw_rt_") || LIBC.contains(&n.as_str()) || n == "_GLOBAL_OFFSET_TABLE_" || own.contains(n);
    Some(undefined(object)?.into_iter().filter(|n| !known(n)).collect())
}

/// Names that an ELF64 little-endian object needs. `None` if it is damaged.
fn undefined(object: &[u8]) -> Option<BTreeSet<String>> {
    let n = |at: usize, bytes: usize| -> Option<usize> {
        let raw = object.get(at..at.checked_add(bytes)?)?;
        Some(raw.iter().rev().fold(0usize, |v, b| v << 8 | usize::from(*b)))
    };
    let (table, entry, count) = (n(40, 8)?, n(58, 2)?, n(60, 2)?);
    let mut out = BTreeSet::new();
    for s in 0..count {
        let head = table.checked_add(s.checked_mul(entry)?)?;
        // SHT_SYMTAB
        if n(head.checked_add(4)?, 4)? != 2 {
            continue;
        }
        let (at, bytes, link) = (n(head + 24, 8)?, n(head + 32, 8)?, n(head + 40, 4)?);
        let strings = n(table.checked_add(link.checked_mul(entry)?)?.checked_add(24)?, 8)?;
        for i in 1..bytes / 24 {
            let sym = at.checked_add(i * 24)?;
            if n(sym + 6, 2)? != 0 {
                continue;
            }
            let name = strings.checked_add(n(sym, 4)?)?;
            let end = object.get(name..)?.iter().position(|b| *b == 0)?;
            let name = String::from_utf8_lossy(&object[name..name + end]).into_owned();
            if !name.is_empty() {
                out.insert(name);
            }
        }
    }
    Some(out)
}
