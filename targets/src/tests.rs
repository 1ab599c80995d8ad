// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels as native code beside the interpreter: compiled, linked with the runtime, loaded and run at ragged sizes.

use std::collections::BTreeMap;
use std::path::Path;

use portwright_ir::diag::Diags;
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::graph::Origin;
use portwright_ir::kernel::interp::{Args, Memory, RunOptions, run};
use portwright_ir::kernel::{KernelId, Mode, Module, parse_module};
use portwright_ir::numerics::{decode_f64, encode_f64, int_to_bits};
use portwright_ir::plan::{Buffer, HostPlan, KernelRef, Launch, PlanSymbol, Port, Stmt, Storage};
use portwright_ir::sym::SymExpr;
use portwright_runtime::load::{Model, Options as LoadOptions};
use portwright_runtime::tensor::View;

use crate::codegen::Form;
use crate::compile::{self, Options, onnx_dtype};
use crate::target::{self, Machine};

mod cases;
mod ptx;
mod registry;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile_unit;
mod workers;

/// Plans call host operations by numbers that stand in a header of the runtime.
#[test]
fn host_operations_have_the_numbers_of_the_runtime() {
    let header = include_str!("../../runtime/c/pw_plan.h");
    let body = header.split("enum pw_host_op {").nth(1).and_then(|b| b.split('}').next()).unwrap_or_default();
    let names: Vec<String> = body.split(',').map(|n| n.trim().to_ascii_lowercase()).filter(|n| !n.is_empty()).collect();
    let ours = portwright_ir::graph::HostOp::ALL.iter().map(|op| format!("pw_host_{}", op.name()));
    assert_eq!(ours.chain(["pw_host_count".into()]).collect::<Vec<_>>(), names);
}

/// A plan of one launch: read buffers are inputs, written ones outputs, symbols are dims of inputs.
pub(crate) fn plan_of(m: &Module, id: KernelId) -> HostPlan {
    let k = &m.kernels[id];
    let mut p = HostPlan { name: k.name.clone(), ..Default::default() };
    p.symbols = k.syms.iter().map(|s| PlanSymbol { name: s.name.as_str().into(), lo: s.lo, hi: s.hi, div: s.div }).collect();
    let origin = p.origins.push(Origin::path(format!("main/{}", k.name)));
    let (mut buffers, mut outputs) = (Vec::new(), Vec::new());
    for b in k.abi_bufs() {
        let b = &k.bufs[b];
        let port =
            Port { name: b.name.as_str().into(), dtype: b.dtype, dims: b.dims.iter().cloned().collect(), alias_of: None, list: None };
        let storage = if b.mode == Mode::Ro {
            p.inputs.push(port);
            Storage::Input(p.inputs.len() as u32 - 1)
        } else {
            let output = p.outputs.len() as u32;
            outputs.push(Stmt::Output { output, dims: port.dims.clone() });
            p.outputs.push(port);
            Storage::Output(output)
        };
        buffers.push(p.buffers.push(Buffer {
            name: b.name.as_str().into(),
            dtype: b.dtype,
            dims: b.dims.iter().cloned().collect(),
            storage,
        }));
    }
    for s in &k.syms {
        let bind = p.inputs.iter().enumerate().find_map(|(i, port)| {
            let axis = port.dims.iter().position(|d| d.as_sym().is_some_and(|n| **n == *s.name))?;
            Some(Stmt::Bind { symbol: s.name.as_str().into(), input: i as u32, axis: axis as u32 })
        });
        // A size that no input has is told by one more.
        let bind = bind.unwrap_or_else(|| {
            let dims = [SymExpr::sym(s.name.as_str())].into_iter().collect();
            p.inputs.push(Port { name: format!("size of {}", s.name).into(), dtype: DType::U8, dims, alias_of: None, list: None });
            Stmt::Bind { symbol: s.name.as_str().into(), input: p.inputs.len() as u32 - 1, axis: 0 }
        });
        p.body.push(bind);
    }
    p.body.extend(outputs);
    p.body.push(Stmt::Launch(Launch {
        kernel: KernelRef::new(id.index()),
        grid: k.launch.grid.clone(),
        buffers,
        scalars: k.syms.iter().map(|s| SymExpr::sym(s.name.as_str())).collect(),
        scratch_bytes: k.local_bytes(),
        group_cost_ns: 1000,
        origin,
    }));
    p
}

fn fail(sink: &Diags) -> ! {
    panic!("{:#?}", sink.all())
}

/// Compiles and links a plan into a folder that the runtime loads.
pub(crate) fn build(m: &Module, plan: &HostPlan, machine: &Machine, dir: &Path) -> compile::Artifacts {
    let mut sink = Diags::new();
    let Ok(a) = compile::emit(m, plan, machine, &Options::default(), &mut sink) else { fail(&sink) };
    std::fs::create_dir_all(dir.join("lib")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let lib = dir.join("lib/libmodel.so");
    let name = portwright_runtime::header::identifier(&plan.name);
    if crate::link::link(&a.objects, (machine.triple, machine.device.is_some()), &name, work.path(), &lib, &mut sink).is_err() {
        fail(&sink);
    }
    a
}

pub(crate) fn host() -> Machine {
    let mut sink = Diags::new();
    target::machine("host", None, &mut sink).unwrap_or_else(|_| fail(&sink))
}

/// A repeatable element: small numbers in every sign, with a few special ones.
fn element(d: DType, x: u64, special: bool) -> u64 {
    let small = (x >> 20) as i64 % 33 - 16;
    if d.is_float() {
        let specials = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-40, 3e38, -88.5];
        let v = if special && x % 61 == 7 { specials[(x >> 32) as usize % specials.len()] } else { small as f64 / 5.0 };
        encode_f64(d, v, false)
    } else {
        int_to_bits(d, i128::from(if d.is_signed_int() { small } else { small + 16 }))
    }
}

pub(crate) fn seeded(d: DType, n: usize, seed: u64, special: bool) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let size = d.bytes().unwrap() as usize;
    let mut out = Vec::new();
    for _ in 0..n {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&element(d, x, special).to_le_bytes()[..size]);
    }
    out
}

/// Distance in units of the last place; NaN equals NaN.
pub(crate) fn ulp(d: DType, a: u64, b: u64) -> u64 {
    if !d.is_float() {
        return if a == b { 0 } else { u64::MAX };
    }
    if decode_f64(d, a).is_nan() && decode_f64(d, b).is_nan() {
        return 0;
    }
    let sign = 1u64 << (d.bits() - 1);
    let order = |v: u64| if v & sign != 0 { -((v & !sign) as i128) } else { v as i128 };
    if decode_f64(d, a).is_nan() != decode_f64(d, b).is_nan() { u64::MAX } else { (order(a) - order(b)).unsigned_abs() as u64 }
}

/// Runs a kernel of a module by the interpreter, as written, and as code of this machine, legalized; outputs may differ by
/// `ulps`, or by as many units of 2^-24.
pub(crate) fn check(text: &str, kernel: &str, sizes: &[&[(&str, i64)]], ulps: u64) {
    check_on(&host(), text, kernel, sizes, ulps, true);
}

/// As [`check`], as code of that machine, which this one executes; `special` is whether floats hold NaN, infinities and the like.
pub(crate) fn check_on(machine: &Machine, text: &str, kernel: &str, sizes: &[&[(&str, i64)]], ulps: u64, special: bool) {
    check_loaded(machine, &|| LoadOptions { threads: 3, ..Default::default() }, (text, kernel), sizes, ulps, special);
}

/// As [`check_on`], loaded in that way.
pub(crate) fn check_loaded(
    machine: &Machine,
    how: &dyn Fn() -> LoadOptions,
    (text, kernel): (&str, &str),
    sizes: &[&[(&str, i64)]],
    ulps: u64,
    special: bool,
) {
    let m = parse_module(text).unwrap_or_else(|e| panic!("{e:?}"));
    let id = m.kernel_named(kernel).unwrap();
    let mut alone = m.clone();
    alone.kernels = std::iter::once(m.kernels[id].clone()).collect();
    compile::legalize(&mut alone, machine);
    let id_alone = KernelId::new(0);
    let plan = plan_of(&alone, id_alone);
    let dir = tempfile::tempdir().unwrap();
    build(&alone, &plan, machine, dir.path());
    let model = Model::load(dir.path(), &how()).unwrap_or_else(|e| panic!("{e}"));
    let mut session = model.open().unwrap();
    let k = &m.kernels[id];
    for size in sizes {
        let syms: BTreeMap<String, i64> = size.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        let value = |e: &SymExpr| e.eval(&|n| syms.get(n).copied()).unwrap();
        let bufs: Vec<_> = k.abi_bufs().map(|b| &k.bufs[b]).collect();
        let mut data: Vec<Vec<u8>> = bufs
            .iter()
            .enumerate()
            .map(|(i, b)| seeded(b.dtype, b.dims.iter().map(&value).product::<i64>() as usize, i as u64 + 1, special))
            .collect();
        let dims: Vec<Vec<i64>> = bufs.iter().map(|b| b.dims.iter().map(&value).collect()).collect();
        let mut inputs: Vec<View<'_>> = (0..bufs.len())
            .filter(|i| bufs[*i].mode == Mode::Ro)
            .map(|i| View { dtype: onnx_dtype(bufs[i].dtype), dims: dims[i].clone(), data: &data[i] })
            .collect();
        let more: Vec<Vec<u8>> = plan.inputs.iter().skip(inputs.len()).map(|p| vec![0; value(&p.dims[0]) as usize]).collect();
        inputs.extend(more.iter().map(|m| View { dtype: onnx_dtype(DType::U8), dims: vec![m.len() as i64], data: m }));
        let got: Vec<Vec<u8>> =
            session.run(&inputs).unwrap_or_else(|e| panic!("{kernel} {size:?}: {e}")).iter().map(|v| v.data.to_vec()).collect();
        let mut memory: Vec<Memory<'_>> = data.iter_mut().map(|b| Memory::Rw(b)).collect();
        let args = Args { bufs: (0..bufs.len()).map(|i| (i, 0)).collect(), syms: syms.clone(), scalars: vec![] };
        run(&m, id, &mut memory, &args, &RunOptions::default()).unwrap_or_else(|e| panic!("{kernel} {size:?}: {e}"));
        drop(memory);
        let want: Vec<&Vec<u8>> = (0..bufs.len()).filter(|i| bufs[*i].mode != Mode::Ro).map(|i| &data[i]).collect();
        let types: Vec<DType> = bufs.iter().filter(|b| b.mode != Mode::Ro).map(|b| b.dtype).collect();
        for (o, ((got, want), d)) in got.iter().zip(want).zip(types).enumerate() {
            let size_of = d.bytes().unwrap() as usize;
            let bits = |c: &[u8]| c.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
            for (i, (a, b)) in got.chunks_exact(size_of).zip(want.chunks_exact(size_of)).enumerate() {
                let (a, b) = (bits(a), bits(b));
                let text = |v: u64| if d.is_float() { decode_f64(d, v).to_string() } else { v.to_string() };
                let near = d.is_float() && (decode_f64(d, a) - decode_f64(d, b)).abs() <= ulps as f64 * 2f64.powi(-24);
                assert!(near || ulp(d, a, b) <= ulps, "{kernel} {size:?} output {o} element {i}: {}, not {}", text(a), text(b));
            }
        }
    }
}

/// A kernel as assembly of a machine.
pub(crate) fn assembly(text: &str, kernel: &str, id: &str, cpu: Option<&str>) -> String {
    let mut m = parse_module(text).unwrap_or_else(|e| panic!("{e:?}"));
    let k = m.kernel_named(kernel).unwrap();
    m.kernels = std::iter::once(m.kernels[k].clone()).collect();
    let mut sink = Diags::new();
    let Ok(machine) = target::machine(id, cpu, &mut sink) else { fail(&sink) };
    compile::legalize(&mut m, &machine);
    let plan = plan_of(&m, KernelId::new(0));
    match compile::text(&m, &plan, &machine, &Options::default(), Some(Form::Assembly), &mut sink) {
        Ok(t) => t,
        Err(_) => fail(&sink),
    }
}
