// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every option does what it says or is refused, and what says `--json` is JSON.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::command::{Ended, MARK, ended, portwright, portwright_in, scratch};
use crate::skip::always;
#[cfg(feature = "emu")]
use crate::skip::{Done, trial};
use crate::zoo::{self, OWN};

/// A call that is refused: name, arguments, exit code, words of the message. MODEL, HOST and OTHER stand for a model, its bundle for this
/// machine, and its bundle for [`OTHER`].
type Refused = (&'static str, &'static [&'static str], i32, &'static [&'static str]);

/// A target that is not this machine.
const OTHER: &str = if cfg!(target_arch = "riscv64") { "aarch64" } else { "riscv64" };

const REFUSED: &[Refused] = &[
    ("hardware_of_another_machine", &["run", "OTHER", "--random", "1", "--on", "hardware"], 5, &["E0505", OTHER]),
    ("bundle_and_math", &["run", "HOST", "--random", "1", "--math", "fast"], 2, &["E0003", "--math"]),
    ("bundle_and_dim", &["run", "HOST", "--random", "1", "--dim", "N=1"], 2, &["E0003", "--dim"]),
    ("bundle_and_cpu", &["bench", "HOST", "--cpu", "x86-64-v3"], 2, &["E0003", "--cpu"]),
    ("bundle_and_target", &["run", "HOST", "--random", "1", "--target", OTHER], 2, &["E0003", "--target"]),
    ("interpreter_and_threads", &["run", "MODEL", "--random", "1", "--on", "interpreter", "--threads", "2"], 2, &["E0003", "--threads"]),
    ("interpreter_and_cpu", &["run", "MODEL", "--random", "1", "--on", "interpreter", "--cpu", "host"], 2, &["E0003", "--cpu"]),
    ("interpreter_and_fallback", &["run", "MODEL", "--on", "interpreter", "--max-fallback", "0"], 2, &["E0003", "--max-fallback"]),
    ("interpreter_timed", &["bench", "MODEL", "--on", "interpreter"], 2, &["E0003", "interpreter"]),
    ("no_time", &["bench", "HOST", "--min-time", "0"], 2, &["E0004", "--min-time"]),
    ("no_inputs", &["run", "HOST"], 2, &["E0004", "--inputs"]),
    ("bad_dim", &["compile", "MODEL", "--dim", "batch:4"], 2, &["E0004", "--dim batch:4"]),
    ("node_of_no_kernel_stage", &["lower", "MODEL", "--stage", "plan", "--node", "x"], 2, &["E0003", "--node"]),
    ("pack_of_import", &["lower", "MODEL", "--stage", "import", "--pack"], 2, &["E0003", "--pack"]),
    ("unknown_stage", &["lower", "MODEL", "--stage", "fusion"], 2, &["E0006", "fused"]),
    ("unknown_node", &["lower", "MODEL", "--stage", "kernel", "--node", "x"], 2, &["E0007"]),
    ("host_of_a_cpu", &["compile", "MODEL", "--host", "aarch64-linux-gnu"], 2, &["E0003", "--host"]),
    ("unknown_cpu", &["compile", "MODEL", "--target", "x86-64", "--cpu", "x86-64-v5"], 2, &["E0005", "x86-64-v4"]),
    ("unknown_feature", &["compile", "MODEL", "--target", "loongarch64", "--cpu", "la464+lasy"], 2, &["E0005", "`lasx`"]),
    ("feature_of_another_cpu", &["compile", "MODEL", "--target", "riscv64", "--cpu", "rv64gcv+avx2"], 2, &["E0005", "riscv64"]),
    ("suite_on_hardware", &["suite", ".", "--target", OTHER, "--on", "hardware"], 2, &["E0004"]),
    ("random_and_inputs", &["run", "HOST", "--random", "1", "--inputs", "x.npz"], 2, &["E0004", "--random", "--inputs"]),
    ("slip", &["run", "HOST", "--input", "x.npz"], 2, &["E0004", "--inputs"]),
    ("slip_of_a_command", &["runn", "HOST"], 2, &["E0004", "run"]),
    ("packed_already", &["pack", "HOST", "--weights", "."], 7, &["E0705", "already"]),
];

/// Calls whose stdout is one JSON value.
const JSON: &[&[&str]] = &[
    &["inspect", "MODEL", "--json"],
    &["inspect", "HOST", "--json"],
    &["targets", "--json"],
    &["targets", "host", "--json"],
    &["check", "MODEL", "--json"],
    &["check", "MODEL", "--all", "--json"],
    &["doctor", "--json", "--target", "host"],
    &["run", "HOST", "--random", "1", "--json"],
    &["run", "MODEL", "--random", "1", "--json", "--on", "interpreter"],
    &["bench", "HOST", "--min-time", "0.01", "--json"],
    &["bench", "HOST", "--min-time", "0.01", "--json", "--profile"],
    &["targets", "aarch64", "--json"],
];

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    for &(name, args, code, words) in REFUSED {
        out.push(always(format!("flags/{name}"), move || refused(args, code, words)));
    }
    out.push(always("flags/json", json));
    out.push(always("flags/reader_that_has_enough", reader_that_has_enough));
    out.push(always("flags/library_of_another_machine", library_of_another_machine));
    #[cfg(feature = "emu")]
    {
        out.push(always("flags/emulator::missing", || without_emulator(None)));
        out.push(always("flags/emulator::too_old", || without_emulator(Some("7.2.9 (Debian 1:7.2)"))));
        out.push(trial("flags/emulator::counts_instructions", counts));
    }
}

/// Runs a call in a folder of its own.
fn call(folder: &Path, args: &[&str], environment: &[(&str, &Path)]) -> Result<Ended, String> {
    let m = zoo::model(OWN)?;
    let text = |p: &Path| p.display().to_string();
    let mut full = Vec::new();
    for a in args {
        full.push(match *a {
            "MODEL" => text(&m.folder.join("model.onnx")),
            "HOST" => text(&zoo::bundle(&m, "host")?),
            "OTHER" => text(&zoo::bundle(&m, OTHER)?),
            other => other.to_owned(),
        });
    }
    portwright_in(folder, &full.iter().map(String::as_str).collect::<Vec<_>>(), environment)
}

fn is_refused(e: &Ended, code: i32, words: &[&str]) -> Result<(), String> {
    let missing = words.iter().find(|w| !e.stderr.contains(**w));
    match missing {
        None if e.code == code && e.stdout.is_empty() => Ok(()),
        _ => Err(format!("exit code {} (expected {code}), lacks {missing:?}:\n{}{}", e.code, e.stdout, e.stderr)),
    }
}

fn refused(args: &[&str], code: i32, words: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    is_refused(&call(folder.path(), args, &[])?, code, words)?;
    match std::fs::read_dir(folder.path()).map(Iterator::count) {
        Ok(0) => Ok(()),
        _ => Err("it left something in its folder".into()),
    }
}

/// Whoever reads the output may stop doing so, as `head` does: no fault of ours.
fn reader_that_has_enough() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"(sleep 0.3; "$0" targets --json; echo "ended with $?" >&2) | true"#]).arg(program).env(MARK, "1");
    let e = ended(shell)?;
    if e.stderr == "ended with 0\n" { Ok(()) } else { Err(e.stderr) }
}

/// A bundle of this machine into which the library of another was put says so, and does not fail somewhere in the system's loader.
fn library_of_another_machine() -> Result<(), String> {
    let m = zoo::model(OWN)?;
    let (own, other) = (zoo::bundle(&m, "host")?, zoo::bundle(&m, OTHER)?);
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mixed = folder.path().join("mixed.pw");
    let copy = |from: &Path, name: &str| {
        let to = mixed.join(name);
        std::fs::create_dir_all(to.parent().unwrap_or(&mixed))
            .and_then(|()| std::fs::copy(from.join(name), &to))
            .map_err(|e| format!("{name}: {e}"))
    };
    copy(&own, "manifest.json")?;
    copy(&own, "weights/store.bin")?;
    copy(&other, "lib/libmodel.so")?;
    let at = mixed.display().to_string();
    is_refused(
        &portwright(folder.path(), &["--quiet", "run", &at, "--random", "1"])?,
        5,
        &["E0505", OTHER, std::env::consts::ARCH, "--target"],
    )
}

fn json() -> Result<(), String> {
    let folder = scratch("flags-json")?;
    for args in JSON {
        let e = call(&folder, args, &[])?;
        // A tool that is missing is an error of `doctor`, and its list is printed all the same.
        if e.code != 0 && args.first() != Some(&"doctor") {
            return Err(format!("{args:?}: exit code {}\n{}", e.code, e.stderr));
        }
        serde_json::from_str::<serde_json::Value>(&e.stdout).map_err(|x| format!("{args:?}: {x}\n{}", e.stdout))?;
    }
    let e = portwright(&folder, &["explain", "E0001"])?.well()?;
    if !e.stdout.contains("portwright targets") {
        return Err(format!("explain: {}", e.stdout));
    }
    let e = portwright(&folder, &["compile", "absent.onnx", "--error-format", "json"])?;
    let v: serde_json::Value = serde_json::from_str(e.stderr.trim()).map_err(|x| format!("--error-format json: {x}\n{}", e.stderr))?;
    if v["code"] == "E0701" { Ok(()) } else { Err(e.stderr) }
}

/// No emulator, or one of that version, is a report with a remedy, before anything else is done.
#[cfg(feature = "emu")]
fn without_emulator(version: Option<&str>) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (tools, path) = (folder.path().join("tools"), folder.path().join("path"));
    for f in [tools.join("qemu/usr/bin"), path.clone()] {
        std::fs::create_dir_all(f).map_err(|e| e.to_string())?;
    }
    let name = format!("qemu-{OTHER}");
    if let Some(v) = version {
        let program = tools.join("qemu/usr/bin").join(&name);
        std::fs::write(&program, format!("#!/bin/sh\necho '{name} version {v}'\n")).map_err(|e| e.to_string())?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    }
    let e = call(folder.path(), &["run", "OTHER", "--random", "1"], &[("PORTWRIGHT_TOOLS", &tools), ("PATH", &path)])?;
    is_refused(&e, 5, &["E0504", &name, "./setup", version.map_or("not here", |_| "8.2.0")])
}

/// What runs under qemu is counted, equally in every run, by the kernels of the manifest.
#[cfg(feature = "emu")]
fn counts() -> Result<Done, String> {
    let folder = scratch("flags-counts")?;
    // One step of the model: every executed block is a line of qemu's log.
    let once = || -> Result<Option<(u64, bool)>, String> {
        let e = call(&folder, &["bench", "OTHER", "--json"], &[])?;
        if e.stderr.contains("E0504") {
            return Ok(None);
        }
        let v: serde_json::Value = serde_json::from_str(&e.well()?.stdout).map_err(|x| x.to_string())?;
        let of_nodes = v["functions"].as_array().is_some_and(|f| f.iter().any(|f| f["nodes"].as_array().is_some_and(|n| !n.is_empty())));
        Ok(Some((v["instructions"].as_u64().unwrap_or(0), of_nodes)))
    };
    match (once()?, once()?) {
        (None, _) | (_, None) => Ok(Done::Skipped(format!("no emulator of {OTHER}"))),
        // Where memory lies decides how it is copied.
        (Some((a, true)), Some((b, true))) if a.abs_diff(b) * 100 < a && a > 100_000 => Ok(Done::Passed),
        (a, b) => Err(format!("instructions of two runs: {a:?}, {b:?}")),
    }
}
