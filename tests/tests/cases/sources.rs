// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Targets whose kernels are source for a vendor's compiler, without that compiler: what is said of compilers that do not work, of every chip
//! before anything is compiled, and of code objects. None of it needs LLVM in this program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::command::{ended, portwright, portwright_in, program, repository, scratch};
use crate::skip::{Done, always, trial};

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(always("sources::compilers_that_do_not_work", compilers));
    out.push(always("sources::check_all", check_all));
    out.push(always("sources::what_chips_lack", lacks));
    #[cfg(feature = "emu")]
    out.push(trial("sources::code_object", code_object));
    #[cfg(feature = "emu")]
    out.push(trial("sources::code_object_is_loaded", loaded));
    #[cfg(all(feature = "mlir", feature = "emu"))]
    for case in crate::core::cases() {
        if case.name.ends_with("-odd") || std::env::var_os("PORTWRIGHT_ALL_SIZES").is_some() {
            out.push(trial(format!("core/{}::{COMPILED}::compiler", case.name), move || compiler_takes(&case)));
        }
    }
    #[cfg(all(feature = "mlir", feature = "emu"))]
    out.push(trial("sources::vendors_compiler_builds_a_bundle", vendor_builds));
    #[cfg(all(feature = "mlir", feature = "emu"))]
    out.push(always("sources::estimates_are_near_counts", estimates));
}

fn case(name: &str) -> String {
    repository().join("tests/cases/core").join(format!("{name}.graph")).display().to_string()
}

/// A compiler: what it prints of its version, what it does with everything else, the exit code that follows, and what is said.
const COMPILERS: [(&str, &str, i32, &str); 4] = [
    ("release 10.2, V10.2.89", "exit 0", 5, "is too old: 11 is the lowest version"),
    ("release 12.8, V12.8.93", "echo a banner; exit 0", 5, "returned 0 and wrote no"),
    ("release 12.8, V12.8.93", "echo error: no license >&2; exit 1", 5, "release 12.8, V12.8.93"),
    ("release 12.8, V12.8.93", "while [ $# -gt 0 ]; do [ \"$1\" = -o ] && echo code >\"$2\"; shift; done; exit 0", 0, ""),
];

/// `doctor` and `build.sh` say which compiler does not work, what it says of itself and what is known to work.
fn compilers() -> Result<(), String> {
    let folder = scratch("sources-compilers")?;
    let fail = |e: std::io::Error| e.to_string();
    portwright(&folder, &["--quiet", "compile", &case("relu-odd"), "--target", "nvidia-cuda", "-o", "model.pw"])?.well()?;
    let (sdk, known) = (folder.join("sdk"), "known to work: CUDA toolkit 12.8");
    std::fs::create_dir_all(sdk.join("bin")).map_err(fail)?;
    let nvcc = sdk.join("bin/nvcc");
    for (version, does, code, said) in COMPILERS {
        let text = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Copyright (c) 2005-2024' && echo '{version}' && exit 0\n{does}\n");
        std::fs::write(&nvcc, text).map_err(fail)?;
        std::fs::set_permissions(&nvcc, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        let doctor = portwright_in(&folder, &["doctor", "--target", "nvidia-cuda"], &[("CUDA_HOME", &sdk)])?;
        let mut build = Command::new("sh");
        build.arg("model.pw/build.sh").current_dir(&folder).env("CUDA_HOME", &sdk);
        for (who, e) in [("doctor", doctor), ("build.sh", ended(build)?)] {
            let all = format!("{}{}", e.stdout, e.stderr);
            let explained = code == 0 || [said, known, version].iter().all(|w| all.contains(w));
            if e.code != code || !explained {
                return Err(format!("{who} with {version}, which does `{does}`: exit code {}\n{all}", e.code));
            }
        }
    }
    if !folder.join("model.pw/lib/libmodel.so").is_file() {
        return Err("build.sh made no library".into());
    }
    // Where nobody has installed it.
    if program(&["nvcc"]).is_some() || Path::new("/usr/local/cuda").exists() {
        return Ok(());
    }
    let mut build = Command::new("sh");
    build.arg("model.pw/build.sh").current_dir(&folder).env("CUDA_HOME", "");
    let e = ended(build)?;
    if e.code != 5 || !e.stderr.contains("nvcc is nowhere") || !e.stderr.contains(known) {
        return Err(format!("no compiler: exit code {}\n{}", e.code, e.stderr));
    }
    let e = portwright_in(&folder, &["doctor", "--target", "nvidia-cuda"], &[("CUDA_HOME", Path::new(""))])?;
    if e.code == 5 { Ok(()) } else { Err(format!("doctor without a compiler: exit code {}\n{}", e.code, e.stdout)) }
}

/// Two models on all chips: each has its row, with memory and, where its spec says how fast the chip is, a time; what chips lack is said.
fn check_all() -> Result<(), String> {
    let folder = scratch("sources-check")?;
    let models = [case("matmul-aligned"), case("cast_f16-odd")];
    let e = portwright(&folder, &["--quiet", "check", &models[0], &models[1], "--all", "--json"])?.well()?;
    let rows: Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
    let rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
    let targets = portwright_targets::target::all();
    if rows.len() != 2 * targets.len() {
        return Err(format!("{} rows of {} targets", rows.len(), targets.len()));
    }
    for row in &rows {
        let target = targets.iter().find(|t| row["target"] == t.spec().id).ok_or("a row of no target")?;
        let roof = target.spec().roof;
        let known = roof.bandwidth.is_some() && !roof.peaks.is_empty();
        // A change of dtypes alone is no arithmetic.
        let computes = row["model"].as_str().is_some_and(|m| m.contains("matmul"));
        let [bytes, operations] = ["bytes", "operations"].map(|k| row["estimate"][k].as_u64());
        let work = bytes.is_some_and(|n| n > 0) && operations.is_some_and(|n| (n > 0) == computes);
        let least = row["estimate"]["seconds"].as_f64();
        if !work || row["memory_bytes"].as_u64().is_none() || (least.is_some() && !known) || least.is_some_and(|t| t <= 0.0 || t > 1.0) {
            return Err(row.to_string());
        }
    }
    let halves = |id: &str| rows.iter().filter(|r| r["target"] == id && r["emulations"][0]["rule"] == "emulate-small-floats").count();
    if halves("biren-br100") != 1 {
        return Err("nothing is said of halves on a chip that has none".into());
    }
    let e = portwright(&folder, &["--quiet", "check", &models[0], &models[1], "--all"])?.well()?;
    let table = ["memory", "time", "iluvatar-ivcore11", "emulate-small-floats in 1 kernel"];
    if table.iter().all(|w| e.stdout.contains(w)) { Ok(()) } else { Err(e.stdout) }
}

/// Kinds of numbers that chips lack: an operation or the dtype of a conversion, the dtype of its operands, a target with the rule that stands for it there, and one that has it or needs no
/// other rule.
const LACKED: [(&str, &str, &str, &str, Option<&str>); 6] = [
    ("add", "f64", "biren-br100", "emulate-double", Some("metax-xcore1000")),
    ("sqrt", "f64", "biren-br100", "emulate-double", Some("hygon-gfx906")),
    ("add", "f16", "biren-br100", "emulate-small-floats", Some("metax-xcore1000")),
    ("add", "bf16", "metax-xcore1000", "emulate-small-floats", None),
    ("add", "bf16", "biren-br100", "emulate-small-floats", None),
    ("f8e4m3fn", "f32", "iluvatar-ivcore11", "emulate-small-floats", None),
];

/// `check` names the rule, the nodes and the cost of what a chip lacks, as text and as data, and says nothing where the chip has it.
fn lacks() -> Result<(), String> {
    let folder = scratch("sources-lacks")?;
    for (op, dtype, target, rule, has) in LACKED {
        let of = |result: &str, op: &str| format!("{result}[7,13] = {op}  // main/node\n");
        let body = match op {
            "sqrt" => of(&format!("%1: {dtype}"), "sqrt(%0)"),
            "add" => of(&format!("%1: {dtype}"), "add(%0, %0)"),
            narrow => of(&format!("%1: {narrow}"), "cast(%0)"),
        };
        let text = format!("graph \"m\"\n%0: {dtype}[7,13] = input \"x\"\n{body}output \"y\" %1\n");
        std::fs::write(folder.join("m.graph"), &text).map_err(|e| e.to_string())?;
        let said = |target: &str| -> Result<(Value, String), String> {
            let e = portwright(&folder, &["--quiet", "check", "m.graph", "--target", target, "--json"])?.well()?;
            let rows: Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
            Ok((rows[0]["emulations"].clone(), portwright(&folder, &["--quiet", "check", "m.graph", "--target", target])?.well()?.stdout))
        };
        let (all, people) = said(target)?;
        let found = all.as_array().into_iter().flatten().find(|e| e["rule"] == rule);
        let Some(e) = found else { return Err(format!("{op} of {dtype} on {target}: {all}\n{people}")) };
        let nodes: Vec<&str> = e["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let told = nodes.iter().all(|n| people.contains(&format!("--> {n}"))) && people.contains(&format!("lacks    {rule} in 1 kernel, "));
        if nodes.is_empty() || !told || e["operations"].as_u64().is_none_or(|n| n == 0) {
            return Err(format!("{op} of {dtype} on {target}: {e}\n{people}"));
        }
        if let Some(has) = has {
            let (all, people) = said(has)?;
            if all.as_array().is_none_or(|a| !a.is_empty()) || people.contains("lacks") {
                return Err(format!("{op} of {dtype} on {has}, which has it: {all}"));
            }
        }
    }
    Ok(())
}

/// `inspect --code` links code of the chip that LLVM has, and prints what its metadata says.
#[cfg(feature = "emu")]
fn code_object() -> Result<Done, String> {
    if let Err(e) = portwright_emu::judge::Clang::find() {
        return Ok(Done::Skipped(e.to_string()));
    }
    let folder = scratch("sources-code")?;
    for (target, registers) in [("hygon-gfx906", true), ("moore-mp22", false)] {
        let bundle = format!("{target}.pw");
        portwright(&folder, &["--quiet", "compile", &case("softmax-odd"), "--target", target, "-o", &bundle])?.well()?;
        let e = portwright(&folder, &["inspect", &bundle, "--code", "--json"])?.well()?;
        let v: Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
        let kernels: Vec<&Value> = v["kernels"].as_array().into_iter().flatten().collect();
        let told = kernels.iter().all(|k| k["registers"].as_u64() > Some(0) && k["spills"] == 0);
        if kernels.is_empty() == registers || !told {
            return Err(e.stdout);
        }
    }
    Ok(Done::Passed)
}

/// The target whose vendor's compiler can be had without the chip.
#[cfg(all(feature = "mlir", feature = "emu"))]
const COMPILED: &str = "nvidia-cuda";

/// Why the vendor's compiler is asked nothing: it is not here, or not whole.
#[cfg(all(feature = "mlir", feature = "emu"))]
fn no_compiler() -> Option<Done> {
    use portwright_emu::judge::{Clang, Nvcc};
    let missing = Clang::find().map(|_| ()).and_then(|()| Nvcc::find(&[crate::command::tools()]).map(|_| ())).err()?;
    Some(Done::Skipped(missing.to_string()))
}

/// The vendor's own compiler takes the kernels of a case, down to code of the chip, and nothing spills.
#[cfg(all(feature = "mlir", feature = "emu"))]
fn compiler_takes(case: &crate::core::Case) -> Result<Done, String> {
    if let Some(skipped) = no_compiler() {
        return Ok(skipped);
    }
    let folder = scratch(&format!("sources-compiler-{}", case.name))?;
    let model = case.path().display().to_string();
    portwright(&folder, &["--quiet", "compile", &model, "--target", COMPILED, "-o", "model.pw"])?.well()?;
    let e =
        portwright_in(&folder, &["inspect", "model.pw", "--code", "--json"], &[("PORTWRIGHT_TOOLS", &crate::command::tools())])?.well()?;
    let v: Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
    let kernels: Vec<&Value> = v["kernels"].as_array().into_iter().flatten().collect();
    let told = kernels.iter().all(|k| k["registers"].as_u64() > Some(0) && k["spills"] == 0);
    if told && v["taken"] == kernels.len() && e.stdout.contains("nvcc") { Ok(Done::Passed) } else { Err(e.stdout) }
}

/// `build.sh` makes a library with the vendor's compiler, which the loader takes: what is missing then is the chip.
#[cfg(all(feature = "mlir", feature = "emu"))]
fn vendor_builds() -> Result<Done, String> {
    if let Some(skipped) = no_compiler() {
        return Ok(skipped);
    }
    let python = crate::command::tools().join("python/lib");
    let homes = std::fs::read_dir(&python).into_iter().flatten().flatten().map(|e| e.path().join("site-packages/nvidia/cu13"));
    let Some(home) = homes.into_iter().find(|h| h.join("bin/nvcc").is_file()) else {
        return Ok(Done::Skipped("the compiler is not that of ./setup".into()));
    };
    let folder = scratch("sources-vendor")?;
    portwright(&folder, &["--quiet", "compile", &case("matmul-odd"), "--target", COMPILED, "-o", "model.pw"])?.well()?;
    let mut build = Command::new("sh");
    build.arg("model.pw/build.sh").current_dir(&folder).env("CUDA_HOME", &home);
    ended(build)?.well()?;
    let e = portwright(&folder, &["--quiet", "run", "model.pw", "--random", "1", "--on", "hardware"])?;
    let no_chip = ["E0506", "E0507", "E0508"].iter().any(|c| e.stderr.contains(c));
    if e.code == 0 || no_chip { Ok(Done::Passed) } else { Err(format!("exit code {}\n{}", e.code, e.stderr)) }
}

/// Without the vendor's SDK `build.sh` makes a library that loads its code object into whatever HIP runtime is there, and launches its kernels.
#[cfg(feature = "emu")]
fn loaded() -> Result<Done, String> {
    if let Err(e) = portwright_emu::judge::Clang::find() {
        return Ok(Done::Skipped(e.to_string()));
    }
    let Some(cc) = program(&["cc", "clang-22", "clang"]) else { return Ok(Done::Skipped("no C compiler".into())) };
    let folder = scratch("sources-loaded")?;
    portwright(&folder, &["--quiet", "compile", &case("softmax-odd"), "--target", "hygon-gfx906", "-o", "model.pw"])?.well()?;
    let mut build = Command::new("sh");
    build.args(["model.pw/build.sh", "--code-object"]).current_dir(&folder).env("CC", &cc);
    ended(build)?.well()?;
    let run = ["--quiet", "run", "model.pw", "--random", "1", "--on", "hardware"];
    let log = folder.join("launches");
    let environment = [("LD_LIBRARY_PATH", folder.as_path()), ("FAKE_HIP_LOG", log.as_path())];
    let nothing = portwright_in(&folder, &run, &environment)?;
    if nothing.code == 0 || !nothing.stderr.contains("libgalaxyhip.so") {
        return Err(format!("without a runtime: exit code {}\n{}", nothing.code, nothing.stderr));
    }
    let mut c = Command::new(cc);
    c.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]).arg(repository().join("tests/c/fake_hip.c"));
    c.arg("-o").arg(folder.join("libgalaxyhip.so"));
    ended(c)?.well()?;
    portwright_in(&folder, &run, &environment)?.well()?;
    let launches = std::fs::read_to_string(&log).map_err(|e| format!("no launches: {e}"))?;
    let lanes =
        |l: &str| l.split_once(" lanes ").and_then(|(_, n)| n.split(' ').next()?.parse::<u32>().ok()).is_some_and(|n| n > 0 && n % 64 == 0);
    if launches.lines().count() > 0 && launches.lines().all(|l| l.starts_with("pwk_") && lanes(l)) {
        Ok(Done::Passed)
    } else {
        Err(launches)
    }
}

/// Bytes and operations that `check` estimates are within a factor of three of those that the PTX machine counts: bytes that are touched, and
/// of operations those of lanes and of products.
#[cfg(all(feature = "mlir", feature = "emu"))]
fn estimates() -> Result<(), String> {
    use std::collections::BTreeSet;
    const TARGET: &str = "nvidia-sm80";
    let folder = scratch("sources-estimates")?;
    let (mut compared, mut faults) = (BTreeSet::new(), String::new());
    const CASES: [&str; 11] = [
        "relu",
        "add_broadcast",
        "cast_f16",
        "gather",
        "softmax",
        "matmul",
        "conv_bn_relu",
        "qdq_linear",
        "rms_norm",
        "reduce_sum",
        "transpose",
    ];
    for name in CASES {
        let model = case(&format!("{name}-aligned"));
        let e = portwright(&folder, &["--quiet", "check", &model, "--target", TARGET, "--json"])?.well()?;
        let said: Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
        let e = portwright(&folder, &["--quiet", "bench", &model, "--target", TARGET, "--profile", "--json"])?.well()?;
        let counted: Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
        for f in counted["functions"].as_array().into_iter().flatten() {
            let nodes: Vec<&str> = f["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let nodes = nodes.join(" + ");
            let Some(part) = said[0]["estimate"]["kernels"].as_array().into_iter().flatten().find(|k| k["nodes"] == nodes) else {
                continue;
            };
            let counts = &f["device"]["counts"];
            let n = |v: &Value| v.as_u64().unwrap_or(0) as f64;
            let bytes = n(&counts["load"]["unique"]) + n(&counts["store"]["unique"]);
            let class = |c: portwright_emu::ptx::Class| n(&counts["classes"][c as usize]) * 32.0;
            let operations = class(portwright_emu::ptx::Class::Fp32) + 2.0 * n(&counts["mma_ops"]);
            for (what, estimated, counted) in [("bytes", n(&part["bytes"]), bytes), ("operations", n(&part["operations"]), operations)] {
                // A kernel that only moves has no operations; what a launch is too small for is no estimate's concern.
                if estimated.max(counted) < 256.0 {
                    continue;
                }
                compared.insert(format!("{name}: {nodes}"));
                if !(counted / 3.0..=counted * 3.0).contains(&estimated) {
                    faults += &format!("{name}: {nodes}: {what}: {estimated} estimated, {counted} counted\n");
                }
            }
        }
    }
    if compared.len() < 10 {
        faults += &format!("{} kernels were compared", compared.len());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
