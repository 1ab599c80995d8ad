// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright lower`.

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::{Graph, text};
use portwright_ir::kernel::print_kernel;
use portwright_targets::cfamily;
use portwright_targets::codegen::Form;
use portwright_targets::compile as codegen;

use crate::args::LowerArgs;
use crate::{Cx, compile, model};

/// Stages in the order in which a model goes through them.
pub const STAGES: &[&str] = &["import", "graph", "fused", "legal", "plan", "kernel", "mlir", "llvm", "asm", "c"];

/// Stages that show kernels one by one.
const OF_KERNELS: &[&str] = &["kernel", "mlir", "llvm", "asm", "c"];

/// Stages of what LLVM makes.
const OF_LLVM: &[&str] = &["mlir", "llvm", "asm"];

/// Prints one stage.
///
/// # Errors
/// `E0006` for an unknown stage, `E0007` for a node that is not there, and anything on the way.
pub fn run(a: LowerArgs, cx: &mut Cx) -> Lowered<()> {
    let stage = a.stage.as_str();
    if !STAGES.contains(&stage) {
        let d = Diagnostic::error(Code::UNKNOWN_STAGE, format!("`{stage}` is no stage"));
        return cx.fail(d.help(format!("one of {}", STAGES.join(", "))));
    }
    if a.node.is_some() && !OF_KERNELS.contains(&stage) {
        let d = Diagnostic::error(Code::OPTION_UNUSED, format!("--node chooses kernels, and `{stage}` shows the whole model"));
        return cx.fail(d.help(format!("leave --node out, or give a stage of {}", OF_KERNELS.join(", "))));
    }
    if a.pack && stage == "import" {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "--pack: at the stage `import` the pack program is still part of the model");
        return cx.fail(d.help("leave --pack out, or give a later stage"));
    }
    let m = model::load(&a.model, &a.target.dims, false, cx)?;
    if stage == "import" {
        print!("{}", text::print(&m.graph));
        return Ok(());
    }
    let options = compile::options(&a.target, cx)?;
    // A stage that the target's code does not go through.
    let machine = if a.pack { options.packer.machine() } else { Some(&options.machine) };
    let (source, is_c) = (machine.is_some_and(|m| cfamily::dialect_of(m).is_some()), stage == "c");
    if (is_c != source || machine.is_none()) && (is_c || OF_LLVM.contains(&stage)) {
        let whose = machine.map_or("what this build interprets", |m| m.target);
        let d = Diagnostic::error(Code::OPTION_UNUSED, format!("--stage {stage}: code for {whose} does not go through it"));
        return cx.fail(d.help(format!("give --stage {}", if source { "c" } else { "mlir, llvm or asm" })));
    }
    let mut seen = None;
    let mut watch = |s: &str, main: &Graph, pack: &Graph| {
        if s == stage {
            seen = Some(text::print(if a.pack { pack } else { main }));
        }
    };
    let c = compile::lower(m.graph, &options, Some(&mut watch), cx)?;
    if let Some(text) = seen {
        print!("{text}");
        return Ok(());
    }
    let program = if a.pack { &c.pack } else { &c.main };
    let name = |i: usize| program.module.kernels.values().nth(i).map_or_else(String::new, |k| k.name.clone());
    if stage == "plan" {
        print!("{}", portwright_ir::plan::print(&program.plan, &name));
        return Ok(());
    }
    let wanted = |origin: &[String]| a.node.as_ref().is_none_or(|n| origin.iter().any(|o| o == n));
    if let Some(n) = &a.node
        && !program.module.kernels.values().any(|k| wanted(&k.origin))
    {
        return cx.fail(
            Diagnostic::error(Code::UNKNOWN_NODE, format!("no kernel computes `{n}`")).help("`lower --stage plan` shows node paths"),
        );
    }
    if stage == "kernel" {
        let texts: Vec<String> =
            program.module.kernels.values().filter(|k| wanted(&k.origin)).map(|k| print_kernel(&program.module, k).text).collect();
        print!("{}", texts.join("\n"));
        return Ok(());
    }
    // Every later stage is of a machine's code, which was asked for above.
    let Some(machine) = machine else { return Ok(()) };
    let mut module = program.module.clone();
    if a.node.is_some() {
        module.kernels = program.module.kernels.values().filter(|k| wanted(&k.origin)).cloned().collect();
    }
    let plan = if a.node.is_some() { &Default::default() } else { &program.plan };
    if is_c {
        print!("{}", cfamily::kernels(&module, plan, machine, &mut cx.diags)?);
        return Ok(());
    }
    let form = match stage {
        "llvm" => Some(Form::Llvm),
        "asm" => Some(Form::Assembly),
        _ => None,
    };
    let options = codegen::Options { workers: options.workers.clone(), ..Default::default() };
    print!("{}", codegen::text(&module, plan, machine, &options, form, &mut cx.diags)?);
    Ok(())
}
