// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels that misbehave, in `suite`: each costs its own case, with a reason, and the run goes on.
//!
//! The bundles are real ones in which one object is replaced: the kernel of a core case by C code of the same symbol.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use onnx_protobuf::TensorProto;
use portwright_cli::{compile, model};
use portwright_ir::graph::interp::Tensor;
use portwright_targets::compile::{self as codegen, onnx_dtype};
use portwright_targets::{link, mlir};
use protobuf::Message;

use crate::command::{ended, portwright, program, scratch};
use crate::core::{self, Case};
use crate::native;
use crate::skip::{Done, trial};
use crate::snap;

/// Faults in order of `FAULT` in faults.c, with words that the reason must have.
const FAULTS: [(&str, &str); 4] = [
    ("reads_null", "outside its memory"),
    ("divides_by_zero", "arithmetic"),
    ("loops_for_ever", "longer than 5 s"),
    ("overflows_the_stack", "stack"),
];

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(trial("suite::faults_cost_their_case", faults));
}

fn faults() -> Result<Done, String> {
    let Some(clang) = program(&["clang-22", "clang", "cc"]) else { return Ok(Done::Skipped("no C compiler".into())) };
    if !cfg!(target_arch = "x86_64") {
        return Ok(Done::Skipped("integer division by zero traps on x86-64 only".into()));
    }
    let case = core::cases().into_iter().find(|c| c.name == "relu-odd").ok_or("no case relu-odd")?;
    let folder = scratch("faults")?;
    let cases = folder.join("cases");
    write_case(&case, &cases.join("a_good_one"))?;
    for (i, (name, _)) in FAULTS.iter().enumerate() {
        write_case(&case, &cases.join(name))?;
        break_kernel(&case, &cases.join(name).join("model.pw"), i, &clang)?;
    }
    write_case(&case, &cases.join("z_good_one"))?;
    let json = folder.join("out.json").display().to_string();
    let e = portwright(&folder, &["--quiet", "suite", "cases", "--jobs", "1", "--timeout", "5", "--json", &json])?;
    let last = e.stdout.lines().last().unwrap_or_default();
    if e.code != 6 || last != "2 passed, 4 failed, 0 unsupported" {
        return Err(format!("exit code {}, `{last}`\n{}{}", e.code, e.stdout, e.stderr));
    }
    let list: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    for (name, reason) in FAULTS {
        let one =
            list.as_array().into_iter().flatten().find(|o| o["case"] == name).ok_or_else(|| format!("{name} is not in the results"))?;
        let message = one["message"].as_str().unwrap_or_default();
        if one["status"] != "failed" || !message.contains(reason) {
            return Err(format!("{name}: {one}, expected `failed` and a reason with `{reason}`"));
        }
    }
    Ok(Done::Passed)
}

/// A suite case whose model is compiled already: a bundle, inputs and outputs.
fn write_case(case: &Case, folder: &Path) -> Result<(), String> {
    let set = folder.join("test_data_set_0");
    std::fs::create_dir_all(&set).map_err(|e| e.to_string())?;
    native::bundle(case.path(), "host", None, &folder.join("model.pw"))?;
    let (g, e) = (case.graph()?, case.expect()?);
    let inputs = e.inputs(&g)?;
    let put = |name: String, t: &Tensor| {
        let dims: Vec<i64> = t.dims.iter().map(|&d| d as i64).collect();
        let p = TensorProto { dims, data_type: onnx_dtype(t.dtype), raw_data: t.bytes().to_vec(), ..Default::default() };
        std::fs::write(set.join(name), p.write_to_bytes().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    };
    inputs.iter().enumerate().try_for_each(|(i, t)| put(format!("input_{i}.pb"), t))?;
    e.outputs.iter().enumerate().try_for_each(|(i, o)| put(format!("output_{i}.pb"), &o.want))
}

/// Links the bundle's library again, with its kernel replaced.
fn break_kernel(case: &Case, bundle: &Path, fault: usize, clang: &Path) -> Result<(), String> {
    let mut cx = native::cx();
    let o = native::options("host", None)?;
    let name = portwright_runtime::header::identifier(&case.name);
    let m = model::load(case.path(), &[], false, &mut cx).map_err(|_| core::show(cx.diags.all()))?;
    let mut c = compile::lower(m.graph, &o, None, &mut cx).map_err(|_| core::show(cx.diags.all()))?;
    c.main.plan.name.clone_from(&name);
    let settings = codegen::Options { workers: o.workers.clone(), ..Default::default() };
    let mut made =
        codegen::emit(&c.main.module, &c.main.plan, &o.machine, &settings, &mut cx.diags).map_err(|_| core::show(cx.diags.all()))?;
    let kernels: Vec<&str> = c.main.module.kernels.values().map(|k| k.name.as_str()).collect();
    let ([kernel], 2) = (&kernels[..], made.objects.len()) else {
        return Err(format!("expected one kernel and two objects: {kernels:?}, {}", made.objects.len()));
    };
    let work = scratch(&format!("faults-{fault}"))?;
    let object = work.join("fault.o");
    let mut c = Command::new(clang);
    c.args(["-O1", "-fPIC", "-c", "-o"]).arg(&object).arg(snap::root().join("c/faults.c"));
    c.arg(format!("-DKERNEL={}", mlir::symbol(kernel))).arg(format!("-DFAULT={fault}"));
    ended(c)?.well()?;
    made.objects[0] = std::fs::read(&object).map_err(|e| e.to_string())?;
    let library = bundle.join(portwright_runtime::bundle::LIBRARY);
    link::link(&made.objects, (o.machine.triple, o.machine.device.is_some()), &name, &work, &library, &mut cx.diags)
        .map_err(|_| core::show(cx.diags.all()))
}
