// SPDX-License-Identifier: Apache-2.0 OR MIT
use portwright_ir::at;
use portwright_ir::diag::Diags;
use portwright_ir::dtype::DType::F32;
use portwright_ir::kernel::{BufDecl, Class, Kb, Module};

use crate::mlir::{Spelling, Unit, emit};

pub(crate) fn add_gelu() -> Module {
    let mut m = Module::new();
    let gelu = m.define_fn("gelu", &[("v", F32)], F32, |f, p| {
        let h = f.let_("h", &p[0] * 0.5);
        h.fma(&p[0], &h)
    });
    let mut k = Kb::new(&mut m, "add_gelu", Class::Cpu);
    k.origin("main/Gelu_7");
    let (mm, n) = (k.sym("M", 1, 1 << 30, 1), k.sym("N", 1, 1 << 30, 1));
    let x = k.param("x", BufDecl::ro(F32, [mm.clone(), n.clone()]));
    let y = k.param("y", BufDecl::ro(F32, [mm.clone(), n.clone()]));
    let z = k.param("z", BufDecl::wo(F32, [mm.clone(), n.clone()]));
    k.launch([mm.ceil_div(&8.into()), 1.into(), 1.into()]);
    let nv = k.let_("nv", k.dim(&n) / 16 * 16);
    let tm = k.let_("tm", nv.mask_lt(k.dim(&n), 16));
    let r0 = k.let_("r0", k.gx() * 8);
    let r1 = (&r0 + 8).min(k.dim(&mm));
    k.for_("r", &r0, r1, 1, |k, r| {
        k.for_("c", 0, &nv, 16, |k, c| {
            let a = k.load("a", at!(x; &r, &c => 16));
            let b = k.load("b", at!(y; &r, &c => 16));
            let g = k.let_("g", k.call(gelu, &[a + b]));
            k.store(at!(z; &r, &c => 16), g);
        });
        k.if_(nv.lt(k.dim(&n)), |k| {
            let a = k.load("a", at!(x; &r, &nv => 16).mask(&tm).or(0.0));
            let b = k.load("b", at!(y; &r, &nv => 16).mask(&tm).or(0.0));
            let g = k.let_("g", k.call(gelu, &[a + b]));
            k.store(at!(z; &r, &nv => 16).mask(&tm), g);
        });
    });
    k.finish();
    m
}

#[test]
fn text() {
    let m = add_gelu();
    let mut sink = Diags::new();
    let ids: Vec<_> = m.kernels.keys().collect();
    let t = emit(&m, Unit { kernels: &ids, plan: None }, &Default::default(), &Spelling::default(), &mut sink).unwrap();

    for form in [crate::codegen::Form::Assembly] {
        let r = crate::codegen::Request {
            mlir: t.clone(),
            triple: "x86_64-linux-gnu".into(),
            cpu: "x86-64-v4".into(),
            features: String::new(),
            abi: String::new(),
            opt_level: 2,
            form,
        };
        let out = crate::mlir::llvm::compile(&r).unwrap();
        println!("{}", out.text);
    }
}
