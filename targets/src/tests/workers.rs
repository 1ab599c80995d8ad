// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a worker that dies leaves behind: a report that names the kernels, and no half of a bundle.

use portwright_ir::diag::{Code, Diags};
use portwright_ir::entity::EntityId;
use portwright_ir::kernel::{KernelId, parse_module};

use crate::codegen::Workers;
use crate::compile::{self, Options};

const TWO: &str = "kernel good class cpu\n origin \"main/Add_1\"\n param x: ro f32[8]\n param z: wo f32[8]\n launch grid(1)\n{\n \
                   for i in 0..8 { let a: f32 = load x[i]\n store z[i] = a + 1.0 }\n}\n\
                   kernel bad class cpu\n origin \"main/Mul_2\"\n param x: ro f32[8]\n param z: wo f32[8]\n launch grid(1)\n{\n \
                   for i in 0..8 { let a: f32 = load x[i]\n store z[i] = a * 2.0 }\n}\n";

fn reports(script: &str) -> String {
    let module = parse_module(TWO).unwrap_or_else(|e| panic!("{e:?}"));
    let machine = super::host();
    let plan = super::plan_of(&module, KernelId::new(0));
    let workers = Workers::Processes { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], count: 2 };
    let mut sink = Diags::new();
    assert!(compile::emit(&module, &plan, &machine, &Options { workers, ..Options::default() }, &mut sink).is_err());
    assert!(sink.all().iter().all(|d| d.code == Code::CODEGEN), "{:?}", sink.all());
    format!("{:#?}", sink.all())
}

#[test]
fn an_abort_of_llvm_is_a_report_for_each_kernel() {
    let all = reports("echo 'LLVM ERROR: Cannot select: t7' >&2; kill -ABRT $$");
    for part in ["main/Add_1", "main/Mul_2", "Cannot select: t7", "SIGABRT", "host plan"] {
        assert!(all.contains(part), "no {part} in {all}");
    }
}

#[test]
fn a_worker_that_says_nothing_or_nonsense_is_a_report() {
    assert!(reports("exit 3").contains("exit status: 3"));
    assert!(reports("kill -SEGV $$").contains("SIGSEGV"));
    // An answer that ends in the middle.
    assert!(reports("printf '\\000\\377'").contains("the code generator stopped"));
}
