// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright doctor`: which tools are there, which are missing, and what installs them.

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_runtime::device::Driver;
use portwright_runtime::manifest::Target;
use portwright_targets::target;

use crate::args::DoctorArgs;
use crate::{Cx, compile, libc};

/// Prints what each target needs and has.
///
/// # Errors
/// `E0501` if something that a target needs is missing.
pub fn run(a: DoctorArgs, cx: &mut Cx) -> Lowered<()> {
    let ids: Vec<&str> = match &a.target {
        Some(id) => vec![id.as_str()],
        None => target::all().iter().map(|t| t.spec().id).collect(),
    };
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    let mut faults = Vec::new();
    let zig = libc::zig();
    for id in ids {
        let t = target::lookup(id).map_err(|e| cx.diags.report(e.diagnostic(id)))?;
        // What only builds bundles on the machine where they run is missing where it was asked for.
        let wanted = a.target.is_some() || !t.toolchain().is_some_and(|tool| tool.only_builds());
        let tool = t.toolchain().map(|tool| (tool.name(), tool.probe(), tool.remedy().to_owned()));
        if let Some(fault) = t.toolchain().and_then(|tool| tool.fault()) {
            if wanted {
                missing.push(format!("{fault}, for {id}"));
            }
            faults.push((id, fault));
        }
        let machine = t.machine(None, &mut cx.diags)?;
        let tools = tool.into_iter().map(|tool| (tool, wanted));
        let emulator = emulator(&compile::machine_target(&machine)).into_iter().map(|e| (e, true));
        for ((name, found, remedy), wanted) in tools.chain(emulator) {
            if found.is_none() && wanted {
                missing.push(format!("{name} for {id}: {remedy}"));
            }
            show(&a, (id, name), found, &remedy, &mut rows);
        }
        for (name, found, remedy) in device(&compile::machine_target(&machine)) {
            show(&a, (id, name), found, &remedy, &mut rows);
        }
        // Executables are asked for, bundles are the rule: a machine without it lacks nothing else. Of devices there are bundles alone.
        if machine.device.is_some() {
            continue;
        }
        let (found, remedy) = match &zig {
            Ok(z) => (Some(format!("zig {}", z.version())), String::new()),
            Err(e) => (None, format!("{}; only `compile --static` needs it", e.diagnostic().help.unwrap_or_default())),
        };
        show(&a, (id, "zig"), found, &remedy, &mut rows);
    }
    if a.json {
        let faults: Vec<_> = faults.iter().map(|(id, fault)| serde_json::json!({"target": id, "fault": fault})).collect();
        println!("{}", serde_json::json!({"schema": 1, "tools": rows, "faults": faults}));
    } else {
        faults.iter().for_each(|(id, fault)| println!("{id}: {fault}"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let d = Diagnostic::error(Code::TOOL_MISSING, format!("{} tools are missing or do not work", missing.len()));
    let d = missing.into_iter().fold(d, |d, m| d.note(m));
    cx.fail(d.help("./setup installs what is missing"))
}

/// A line of the table.
fn show(a: &DoctorArgs, (id, name): (&str, &str), found: Option<String>, remedy: &str, rows: &mut Vec<serde_json::Value>) {
    if a.json {
        rows.push(serde_json::json!({"target": id, "tool": name, "found": found, "remedy": remedy}));
    } else {
        let width = target::all().iter().map(|t| t.spec().id.len()).max().unwrap_or(0) + 2;
        println!("{id:<width$}{name:<11}{}", found.unwrap_or_else(|| format!("missing: {remedy}")));
    }
}

/// What there is for a target's device. Bundles are made without any of it, and an emulator runs them.
fn device(target: &Target) -> Vec<(&'static str, Option<String>, String)> {
    let Some(driver) = target.device.as_deref().and_then(Driver::from_name) else { return Vec::new() };
    let found = driver.probe();
    let row = ("driver", found, format!("the driver of the device, {}; without it an emulator runs bundles", driver.name()));
    #[cfg(not(feature = "emu"))]
    return vec![row];
    #[cfg(feature = "emu")]
    {
        let judge = portwright_emu::gpu::judge(driver, &crate::place::tool_folders());
        let remedy = judge.as_ref().err().map_or_else(String::new, ToString::to_string);
        vec![row, ("assembler", judge.ok().map(|j| j.name()), format!("{remedy}; only `inspect --code` asks it"))]
    }
}

/// What runs a target's bundles where this machine does not.
#[cfg(feature = "emu")]
fn emulator(target: &Target) -> Option<(&'static str, Option<String>, String)> {
    if target.triple.split('-').next() == Some(std::env::consts::ARCH) {
        return None;
    }
    Some(match portwright_emu::find(target, &crate::place::emulator_folders(), crate::compile::cache_folder().as_deref()) {
        Ok(e) => ("emulator", Some(e.name()), String::new()),
        Err(e) => ("emulator", None, format!("{e}: {}", e.remedy())),
    })
}

#[cfg(not(feature = "emu"))]
fn emulator(_: &Target) -> Option<(&'static str, Option<String>, String)> {
    None
}
