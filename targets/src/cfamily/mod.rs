// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The C-family emitter: kernels of class simt and the host plan as sources for a vendor's compiler.
//!
//! A bundle carries one file of C++ with all kernels, their launches and the table by which the runtime drives the device, the plan as C, the
//! runtime's own sources, and a script with the vendor's command line. Whatever differs between vendors is data ([`Dialect`], [`Chip`]); no
//! line here is for one of them. Trees of Kernel IR stay trees, loops stay loops, and every kernel says which nodes of the model it computes.

use std::collections::BTreeSet;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::kernel::{KernelId, Module};
use portwright_ir::plan::HostPlan;
use portwright_runtime::blob::Blob;
use portwright_runtime::device;
use portwright_runtime::embed;

use crate::mlir::{origin, overlapping};
use crate::target::Machine;

mod chip;
pub mod dialect;
mod doubles;
mod driver;
mod expr;
mod fragment;
mod kernel;
mod memory;
mod names;
mod plan;
#[cfg(test)]
mod tests;
mod tools;

pub use crate::mlir::symbol;
pub use chip::{CHIP, Chip, fragment, k, limits, m, n, quads};
pub use dialect::{API, ASK_DYNAMIC, Api, BUILD, Bounds, Build, Builtin, Copies, Dialect, HALVES, Halves, LANES, Object, VECTORS, chosen};
pub use doubles::emulation as doubles_by_integers;

/// Sources of a bundle.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files by their place in the bundle.
    pub files: Vec<(String, String)>,
    /// The description that the library carries.
    pub blob: Blob,
}

/// The dialect of a machine, if its vendor's compiler makes its code.
pub fn dialect_of(machine: &Machine) -> Option<&'static Dialect> {
    machine.spelling.dialect
}

/// Emits the file of kernels.
///
/// # Errors
/// `E0503` for each kernel that has no form on this machine.
pub fn kernels(module: &Module, plan: &HostPlan, machine: &Machine, sink: &mut Diags) -> Lowered<String> {
    emitted(module, plan, machine, sink).map(|e| e.0)
}

fn emitted(module: &Module, plan: &HostPlan, machine: &Machine, sink: &mut Diags) -> Lowered<(String, Vec<device::Kernel>)> {
    let (Some(dialect), Some(forms)) = (machine.spelling.dialect, machine.spelling.simt) else {
        return Err(sink.report(Diagnostic::error(Code::INTERNAL, format!("{} has no dialect of C++", machine.target))));
    };
    let aliased: BTreeSet<KernelId> = overlapping(module, plan);
    let (mut bodies, mut launches, mut table) = (String::new(), String::new(), String::new());
    let mut shared = kernel::Shared::default();
    let mut list = Vec::with_capacity(module.kernels.len());
    for (number, (id, k)) in module.kernels.iter().enumerate() {
        let mut text = String::new();
        match kernel::emit(module, k, (dialect, forms), !aliased.contains(&id), &mut shared, &mut text) {
            Ok(form) => {
                bodies.push('\n');
                bodies.push_str(&driver::shape(&form));
                bodies.push_str(&text);
                let [function, line] = driver::launch(dialect, k, number);
                launches.push_str(&function);
                table.push_str(&line);
                let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                list.push(device::Kernel {
                    name: symbol(&k.name),
                    image: 0,
                    group: form.group,
                    dynamic: form.dynamic,
                    row: form.row,
                    buffers: count(k.abi_bufs().count()),
                    scalars: count(k.syms.len() + k.abi_scalars().count()),
                });
            }
            Err(fault) => {
                let d = Diagnostic::error(Code::CODEGEN, format!("the kernel `{}` cannot be emitted: {fault}", k.name));
                sink.report(d.at(origin(module, id)));
            }
        }
    }
    sink.check()?;
    let calls = shared.functions.values().fold(bodies.clone(), |all, f| all + &f.1);
    let mut out = String::new();
    for (number, (name, text)) in &shared.functions {
        out.push('\n');
        out.push_str(text);
        if shared.lifted.contains(number) {
            out.push_str(&kernel::lifted(module, *number, name));
        }
    }
    for p in shared.products.iter().filter_map(|i| dialect.products.get(*i)) {
        out.push_str(&p.function());
    }
    out.push_str(&bodies);
    // Who makes code of the device alone leaves the host's part out.
    out.push_str("\n#ifndef PW_DEVICE_ONLY\n// ---- launches ----\n\n");
    out.push_str(&launches);
    out.push_str("extern \"C\" const pw_kernel_entry *pw_kernel_table(uint32_t *count) {\n");
    if table.is_empty() {
        // A model may compute nothing on the device; arrays of C++ have elements.
        out.push_str("  *count = 0;\n  return nullptr;\n}\n");
    } else {
        out.push_str(&format!(
            "  static const pw_kernel_entry kernels[] = {{\n{table}  }};\n  *count = {};\n  return kernels;\n}}\n",
            table.lines().count()
        ));
    }
    out.push_str("#endif\n");
    let lacks = doubles::lacking(machine);
    let doubles = match doubles::by_integers(&out).filter(|_| lacks) {
        Some(text) => {
            out = text;
            Doubles::ByIntegers
        }
        None if lacks => Doubles::None,
        None => Doubles::Own,
    };
    Ok((head(dialect, machine, &shared, &calls, doubles) + &out, list))
}

/// Numbers of 64 bits in a file of kernels.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Doubles {
    /// Those of the lanes.
    Own,
    /// `double.h`.
    ByIntegers,
    /// The lanes have none, and nothing asks for them.
    None,
}

/// What a file of kernels begins with.
fn head(d: &Dialect, machine: &Machine, shared: &kernel::Shared, calls: &str, doubles: Doubles) -> String {
    let mut out = format!("// Kernels for {} ({}), written by Portwright.\n", machine.target, machine.cpu);
    let called = ["pw_of_f16", "pw_to_f16"].iter().any(|f| calls.contains(f));
    let halves = d.halves.filter(|_| called);
    let headers = halves.map_or(&[][..], |h| h.headers);
    let copies = d.copies.filter(|_| shared.copies).map_or(&[][..], |c| c.headers);
    for h in d.headers.iter().chain(headers).chain(copies) {
        out.push_str(&format!("#include <{h}>\n"));
    }
    out.push_str("#include <stddef.h>\n#include <stdint.h>\n");
    out.push_str(match doubles {
        Doubles::Own => "",
        Doubles::ByIntegers => "#define PW_SOFT_DOUBLE 1\n",
        Doubles::None => "#define PW_NO_DOUBLE 1\n",
    });
    out.push_str(
        "extern \"C\" {\n#include \"device.h\"\n#include \"portwright.h\"\n}\n#include \"pw_lanes.h\"\n#ifndef PW_DEVICE_ONLY\n#include \"pw_driver.h\"\n#endif\n\n",
    );
    // Types of operands of the products that are called.
    let typed = |name: &str| shared.products.iter().filter_map(|i| d.products.get(*i)).any(|p| p.operands.contains(&name));
    for (name, ty) in d.types.iter().filter(|t| typed(t.0)) {
        out.push_str(&format!("typedef {};\n", ty.replace("{name}", name)));
    }
    if let Some(h) = &halves {
        out.push_str(&expr::halves(h));
    }
    out.push_str(&kernel::shuffles(d, calls));
    out
}

/// Emits everything that a bundle of that machine has besides weights and manifest.
///
/// # Errors
/// `E0503` naming kernels and their nodes.
pub fn sources(module: &Module, plan: &HostPlan, machine: &Machine, sink: &mut Diags) -> Lowered<Sources> {
    let (text, list) = emitted(module, plan, machine, sink)?;
    let Some(dialect) = machine.spelling.dialect else {
        return Err(sink.report(Diagnostic::error(Code::INTERNAL, format!("{} has no dialect of C++", machine.target))));
    };
    let blob = crate::compile::describe(plan, machine);
    let bytes = blob.write().map_err(|e| sink.report(Diagnostic::error(Code::INTERNAL, e.to_string())))?;
    let code = device::Code {
        driver: device::Driver::Source,
        capability: 0,
        exact: false,
        version: 0,
        name: machine.cpu.clone(),
        images: vec!["linked".into()],
        kernels: list,
    };
    let code =
        code.write().ok_or_else(|| sink.report(Diagnostic::error(Code::CODEGEN, "the description of the kernels leaves 32 bits")))?;
    let name = portwright_runtime::header::identifier(&plan.name);
    let mut plan = plan::emit(module, plan, &bytes, &code)
        .map_err(|fault| sink.report(Diagnostic::error(Code::CODEGEN, format!("the host plan cannot be emitted: {fault}"))))?;
    // The same function under the model's name, for programs that link several models.
    plan.push_str(&format!(
        "\n__attribute__((visibility(\"default\"))) const pw_api *pw_{name}_api(uint32_t wanted_major) {{ return pw_bundle_api(wanted_major); }}\n"
    ));
    let mut files = vec![
        (format!("src/kernels.{}", dialect.suffix), text),
        ("src/plan.c".into(), plan),
        ("src/pw_double.h".into(), include_str!("double.h").to_string()),
        ("src/pw_lanes.h".into(), include_str!("lanes.h").to_string()),
        ("src/pw_driver.h".into(), driver::header(dialect)),
        ("build.sh".into(), driver::script(dialect, &machine.cpu, machine.target)),
    ];
    files.extend(dialect.object.iter().flat_map(|o| o.files).map(|(file, text)| (format!("src/{file}"), (*text).to_string())));
    let images = files.iter().any(|(f, text)| f == "src/plan.c" && text.contains(crate::link::IMAGES));
    let (with, beside) = if images { (embed::WITH_IMAGES, embed::IMAGE_SOURCES) } else { ("", &[][..]) };
    files.extend(embed::SOURCES.iter().chain(beside).map(|(file, text)| {
        let text = if *file == "runtime.c" { format!("{}{text}{with}", embed::WITH_DEVICE) } else { (*text).to_string() };
        (format!("src/runtime/{file}"), text)
    }));
    Ok(Sources { files, blob })
}

/// What a manifest says of the device of such a bundle: the dialect and the processor, for whoever stands in for it.
pub fn device_name(machine: &Machine) -> Option<String> {
    machine.spelling.dialect.map(|d| format!("source:{}:{}", d.name, machine.cpu))
}
