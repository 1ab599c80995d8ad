// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/CHIPS.md`: what is shown of each chip whose kernels are source for a vendor's compiler, and what is emulated there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portwright_ir::diag::Diags;
use portwright_ir::dtype::DType;
use portwright_passes::spec::{MachineClass, SimtSpec};
use portwright_runtime::device::Driver;
use portwright_targets::target::{self, Machine};

use crate::docs::{lists, repository};

const HEAD: &str = "\
<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->
# Chips whose kernels are source

One row a target whose kernels are C++ for its vendor's compiler (ADDING_A_TARGET.md says what its folder has, and what the rungs of evidence
are: rung 1 is the emitted text, unchanged, in headers of ours that check lanes, masks, meetings, memory and limits of the chip; rung 2 is the
vendor's own compiler, which takes the kernels of the core cases). Written by `cargo xtask bless docs/` from the folders, the targets' specs, and
the lists of `cargo xtask chips --bless`: `tests/suite/TARGET.txt` and `tests/models.txt`. Cases have no node on the host, but for texts,
sequences, optionals and maps.

| target | lines of its folder | rung | core cases, by size, that run | cases of the ONNX suite that pass | models that run | models that compile | emulated |
| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |
";

const RULES: &str = "
On all of them `expand-math` computes exp, erf, tanh and the other functions in Kernel IR, the same on every chip, and `emulate-small-floats`
computes on integers what bf16, fp8 and fp4 are to and from f32. `portwright check MODEL --target T` says what a model costs there.

## Where fragments are known from

No machine here executes these products. The emitter's digits and the emulator's table (`emu/simt/core/matrix.h`) were written apart, and kernels
that run there are right only where both agree.

| product | targets | where lanes hold operands, by | checked against |
| --- | --- | --- | --- |
| 16x16x16 of f16 | hygon-gfx928, hygon-gfx936 | tilelang-hygon, `src/tl_templates` | what AMD's calculator of matrix instructions prints for `v_mfma_f32_16x16x16_f16` (`targets/src/cfamily/quads.csv`), lane by lane; clang makes that instruction of the same text for gfx90a |
| 16x16x16 of f16 | metax-xcore1000 | mcTlass, CuTe atoms | the same |
| 16x16x16 of bf16 | hygon-gfx928, hygon-gfx936, metax-xcore1000 | the vendors' names alone: operands by analogy with f16 | the calculator, for `v_mfma_f32_16x16x16_bf16_1k`, and clang |
| 16x16x16 of f16 and bf16, 16x16x32 of bytes | iluvatar-ivcore11 | FlyDSL, `MmaAtom.cpp`; the vendor's `wmma` header, as quoted | both agree, as do 92 checks that others made on an MR-V100; operand types of bf16 and bytes are guesses |
| none is listed | moore-mp22, moore-mp31, biren-br100, hygon-gfx906, nvidia-cuda | no source tells the fragments of Moore Threads' and Biren's builtins; gfx906 has none; CUDA C++ documents none | |
";

/// The page as it should be.
pub fn page() -> Result<String, String> {
    let passing: BTreeMap<String, BTreeSet<String>> = lists().into_iter().collect();
    let models = models()?;
    let mut out = String::from(HEAD);
    for t in target::all() {
        let id = t.spec().id;
        let mut diags = Diags::new();
        let machine = target::machine(id, None, &mut diags).map_err(|_| format!("{id} has no machine"))?;
        if machine.device.as_ref().is_none_or(|d| d.driver != Driver::Source) {
            continue;
        }
        let MachineClass::Simt(spec) = &machine.class else { return Err(format!("{id} has kernels in source, and no lanes")) };
        let of = |what: &str, core: bool| {
            let name = format!("{id}::{what}");
            models.iter().filter(move |m| m.1 == name && m.0.starts_with("core/") == core).map(|m| (m.0.as_str(), m.2 == "ok"))
        };
        let counted = |what: &str, core: bool| match of(what, core).count() {
            0 => "-".to_owned(),
            all => format!("{} of {all}", of(what, core).filter(|m| m.1).count()),
        };
        let ran: Vec<&str> = of("emulator", false).filter(|m| m.1).map(|m| m.0).collect();
        let cases = passing.get(id).map_or(0, BTreeSet::len);
        let vendor = of("compiler", true).next().is_some() && of("compiler", true).all(|m| m.1);
        let rung = if vendor {
            "1, 2"
        } else if cases > 0 {
            "1"
        } else {
            "text"
        };
        let row = [
            id.to_owned(),
            folder_lines(id)?.to_string(),
            rung.to_owned(),
            counted("emulator", true),
            cases.to_string(),
            if ran.is_empty() { "-".into() } else { ran.join(", ") },
            counted("compiles", false),
            emulated(&machine, spec).join("; "),
        ];
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    Ok(out + RULES)
}

/// What a chip's spec says that it lacks, and what stands in its place.
fn emulated(m: &Machine, s: &SimtSpec) -> Vec<String> {
    let mut out = Vec::new();
    if !m.caps.f16_convert {
        out.push("conversions of f16, on integers (`emulate-small-floats`)".into());
    }
    if !m.caps.fma {
        out.push("fused multiply-add (`emulate-fma`)".into());
    }
    if !s.floats.contains(&DType::F64) {
        out.push("f64, on integers (`double.h`)".into());
    }
    if s.fragments.is_empty() {
        out.push("matrix products, lane by lane".into());
    }
    if s.queue.is_none() {
        out.push("copies to shared memory, through registers".into());
    }
    if s.reach() < s.lanes {
        out.push(format!("exchanges among {} lanes, in parts of {} and shared memory", s.lanes, s.reach()));
    }
    out
}

/// Lines of the folder that has a target.
fn folder_lines(id: &str) -> Result<usize, String> {
    let all = repository().join("targets/src");
    let text = |p: &Path| std::fs::read_to_string(p).unwrap_or_default();
    let named = format!("\"{id}\"");
    let folders = std::fs::read_dir(&all).map_err(|e| format!("{}: {e}", all.display()))?.flatten().map(|e| e.path());
    let folder = folders.filter(|f| f.is_dir()).find(|f| text(&f.join("mod.rs")).contains(&named)).ok_or(format!("no folder has {id}"))?;
    Ok(std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| text(&e.path()).lines().count()).sum())
}

/// Lines of `tests/models.txt`: model, target and what was tried, status.
fn models() -> Result<Vec<(String, String, String)>, String> {
    let path = repository().join("tests/models.txt");
    let all = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let split = |l: &str| {
        let mut parts = l.splitn(3, '\t').map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.next()?))
    };
    let lines = all.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|l| split(l).ok_or(format!("tests/models.txt: `{l}`"))).collect()
}
