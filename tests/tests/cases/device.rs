// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the command says where a device is not there, is not right, has no room or fails: on a driver without a device
//! (`runtime/tests/c/fake_cuda.c`), which the bundle's own runtime finds as it would find the real one.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use portwright_runtime::device::Driver;

use crate::command::{ended, portwright, portwright_in, program, repository, scratch};
use crate::skip::{Done, trial};

const TARGET: &str = "nvidia-sm80";
/// A model with weights.
const MODEL: &str = "docs/examples/dense_softmax.graph";

/// A driver that takes the bundle's code on a device with room.
const WELL: &str = "12080,1,80,1000000000,1000000000,0,";

/// What the driver has and where it fails (`fake_set`), and what the command says: code, what was found, what is needed.
const REFUSED: [(&str, &str, &str, &[&str]); 8] = [
    ("too_old_a_driver", "11000,1,80,1000000000,1000000000,0,", "E0507", &["CUDA 11.0", "needs 11.1"]),
    ("no_device", "12080,0,80,1000000000,1000000000,0,", "E0508", &["number 0", "has 0"]),
    ("another_capability", "12080,1,75,1000000000,1000000000,0,", "E0509", &["has compute capability 7.5", "needs 8.0 or later"]),
    ("too_little_memory", "12080,1,80,64,1000000000,0,", "E0405", &["weights take", "free 64 bytes"]),
    ("larger_than_the_device", "12080,1,80,64,72,0,", "E0406", &["weights take", "whole device has 72 bytes"]),
    ("code_that_it_refuses", "12080,1,80,1000000000,1000000000,2,", "E0510", &["CUDA_ERROR_INVALID_PTX", "no such instruction"]),
    ("a_launch_that_fails", "12080,1,80,1000000000,1000000000,3,", "E0510", &["node main/", "kernel pwk_", "CUDA_ERROR_LAUNCH"]),
    ("a_fault_on_the_device", "12080,1,80,1000000000,1000000000,4,", "E0510", &["CUDA_ERROR_ILLEGAL_ADDRESS"]),
];

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(trial("device::refused", refused));
}

fn refused() -> Result<Done, String> {
    let Some(clang) = program(&["clang-22", "clang"]) else { return Ok(Done::Skipped("no C compiler".into())) };
    let folder = scratch("device")?;
    let model = repository().join(MODEL).display().to_string();
    portwright(&folder, &["--quiet", "compile", &model, "--target", TARGET, "-o", "model.pw"])?.well()?;
    let run = ["run", "model.pw", "--random", "1", "--on", "hardware"];
    let run = &run[..];
    if !Driver::Cuda.is_here() {
        says(&portwright(&folder, run)?, "E0506", &["libcuda.so.1"]).map_err(|e| format!("no driver: {e}"))?;
    }
    let source = repository().join("runtime/tests/c/fake_cuda.c");
    let mut c = Command::new(clang);
    c.args(["-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1"]).arg(source).arg("-o").arg(folder.join("libcuda.so.1"));
    ended(c)?.well()?;
    let on = |has: &str| portwright_in(&folder, run, &[("LD_LIBRARY_PATH", &folder), ("FAKE_CUDA", Path::new(has))]);
    on(WELL)?.well().map_err(|e| format!("a device that is right: {e}"))?;
    for (name, has, code, words) in REFUSED {
        says(&on(has)?, code, words).map_err(|e| format!("{name}: {e}"))?;
    }
    let listed = portwright_in(&folder, &["doctor", "--target", TARGET], &[("LD_LIBRARY_PATH", &folder), ("FAKE_CUDA", Path::new(WELL))])?;
    if !listed.stdout.contains("CUDA 12.8, devices: 1") {
        return Err(format!("doctor does not list the driver:\n{}", listed.stdout));
    }
    Ok(Done::Passed)
}

/// The command ended with one error, of that code, and its text has the words.
fn says(e: &crate::command::Ended, code: &str, words: &[&str]) -> Result<(), String> {
    let first = e.stderr.contains(&format!("error[{code}]")) && e.stderr.matches("error[").count() == 1;
    if e.code > 0 && first && words.iter().all(|w| e.stderr.contains(w)) {
        Ok(())
    } else {
        Err(format!("exit code {}\n{}", e.code, e.stderr))
    }
}
