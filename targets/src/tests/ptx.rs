// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels of lanes as PTX, which the vendor's assembler has to take where it is at hand.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use portwright_emu::ptx::orders;
use portwright_emu::ptx::ptxas::{self, Ptxas};
use portwright_ir::diag::Diags;
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::kernel::{Class, KernelId, Module, parse_module};
use portwright_passes::kernel_rules::legalize;
use portwright_passes::spec::MachineClass;
use portwright_runtime::load::{Model, Options as LoadOptions};
use portwright_runtime::tensor::View;

use super::cases::shared;
use crate::codegen::{Form, Request, Workers, run_all};
use crate::compile::onnx_dtype;
use crate::mlir::{self, Spelling, Unit};
use crate::nvidia::{CAPS, Generation, SM80, SM90A, SM100A, TRIPLE};
use crate::target::{Machine, Target};

/// The assembler that `./setup` leaves among the tools, or the one on the search path.
fn assembler() -> Option<Ptxas> {
    let tools: Vec<PathBuf> = std::env::var_os("PORTWRIGHT_TOOLS").map(PathBuf::from).into_iter().collect();
    ptxas::find(&tools).map_err(|e| eprintln!("skipped the second judge: {e}")).ok()
}

fn module(text: &str) -> Module {
    let mut m = parse_module(text).unwrap_or_else(|e| panic!("{e:?}"));
    legalize(&mut m, &CAPS);
    m
}

/// The PTX of one kernel, or what is reported.
fn ptx(m: &Module, id: KernelId, g: &Generation) -> Result<String, String> {
    let spelling = Spelling { simt: Some(g.forms), ..Spelling::default() };
    let mut sink = Diags::new();
    let unit = Unit { kernels: &[id], plan: None };
    let text = mlir::emit(m, unit, &BTreeSet::new(), &spelling, &mut sink).map_err(|_| format!("{:?}", sink.all()))?;
    let request = Request {
        mlir: text.clone(),
        triple: TRIPLE.into(),
        cpu: g.processor.into(),
        features: g.features.into(),
        abi: String::new(),
        opt_level: 2,
        form: Form::Assembly,
    };
    match run_all(&[request], &Workers::InProcess).pop() {
        Some(Ok(o)) => Ok(o.text),
        Some(Err(e)) => panic!("{e:?}\n{text}"),
        None => Err("no answer".into()),
    }
}

/// Holds a text against the assembler: an error, a spill or a product that it serializes is a failure.
fn judged(by: &Ptxas, name: &str, text: &str, g: &Generation) {
    let report = by.judge(g.processor, text).unwrap_or_else(|e| panic!("{name} for {}: {e}\n{text}", g.processor));
    assert!(report.faults().is_empty(), "{name} for {}: {:?}", g.processor, report.faults());
}

/// Beside the texts that all machines share.
const LANES: &str = "../../../targets/cases/lanes";

const KERNELS: [(&str, &str, &[&str]); 3] = [
    ("softmax", "softmax_w32", &["shfl.sync.bfly.b32", "bar.sync"]),
    (
        "gemm_simt",
        "gemm_mma",
        &[
            "cp.async.cg.shared.global",
            "cp.async.wait_group",
            "ldmatrix.sync.aligned.m8n8.x4",
            ".trans",
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        ],
    ),
    (LANES, "together", &["vote.sync.ballot.b32", "bar.warp.sync", "bar.sync \t1, 32", "mbarrier.test_wait.parity", "atom.", "pw_guard"]),
];

#[test]
fn kernels_of_lanes_become_ptx_that_assembles() {
    let judge = assembler();
    for (file, kernel, parts) in KERNELS {
        let m = module(&shared(file));
        let id = m.kernel_named(kernel).unwrap_or_else(|| panic!("no {kernel}"));
        for g in [&SM80, &SM90A, &SM100A] {
            let text = ptx(&m, id, g).unwrap_or_else(|e| panic!("{kernel}: {e}"));
            for part in parts {
                assert!(text.contains(part), "{kernel} for {} has no {part}:\n{text}", g.processor);
            }
            if let Some(j) = &judge {
                judged(j, kernel, &text, g);
            }
        }
    }
}

fn machine(g: &Generation) -> Machine {
    let mut sink = Diags::new();
    g.machine(None, &mut sink).unwrap_or_else(|_| panic!("{:?}", sink.all()))
}

#[test]
fn no_fragment_rounds_what_it_is_given() {
    for g in [&SM80, &SM90A, &SM100A] {
        let MachineClass::Simt(spec) = machine(g).class else { panic!("{} is no machine of lanes", g.processor) };
        let wide = spec.fragments.iter().find(|f| f.dtypes[..2].contains(&DType::F32));
        assert!(wide.is_none(), "{wide:?} reads f32 as tf32");
    }
}

fn emulated() -> LoadOptions {
    LoadOptions { device: Some(Arc::new(portwright_emu::gpu::device(portwright_emu::ptx::Options::default()))), ..LoadOptions::default() }
}

#[test]
fn kernels_of_lanes_equal_the_interpreter() {
    let rows: &[&[(&str, i64)]] = &[&[("R", 1), ("D", 1)], &[("R", 7), ("D", 45)], &[("R", 3), ("D", 700)]];
    let sizes: &[&[(&str, i64)]] = &[&[("M", 1), ("N", 8), ("K", 8)], &[("M", 130), ("N", 136), ("K", 72)]];
    let ends: &[&[(&str, i64)]] = &[&[("N", 4)], &[("N", 1000)]];
    for g in [&SM80, &SM90A] {
        super::check_loaded(&machine(g), &emulated, (&shared("softmax"), "softmax_w32"), rows, 8, true);
        super::check_loaded(&machine(g), &emulated, (&shared(LANES), "mixed"), ends, 8, true);
        super::check_loaded(&machine(g), &emulated, (&shared("gemm_simt"), "gemm_mma"), sizes, 1 << 16, false);
    }
}

#[test]
fn a_guard_of_a_device_names_the_node_and_the_session_goes_on() {
    let mut m = module(&shared(LANES));
    let (id, dir) = (m.kernel_named("looked_up").unwrap(), tempfile::tempdir().unwrap());
    m.kernels = std::iter::once(m.kernels[id].clone()).collect();
    super::build(&m, &super::plan_of(&m, KernelId::new(0)), &machine(&SM80), dir.path());
    let model = Model::load(dir.path(), &emulated()).unwrap_or_else(|e| panic!("{e}"));
    let mut session = model.open().unwrap();
    let table: Vec<u8> = (0..256).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let mut run = |x: [i32; 70]| {
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = |dtype, n, data| View { dtype: onnx_dtype(dtype), dims: vec![n], data };
        let out = session.run(&[view(DType::I32, 70, &bytes), view(DType::F32, 256, &table)]);
        out.map(|o| o[0].data.to_vec()).map_err(|e| e.message)
    };
    let mut wrong = [3; 70];
    (wrong[69], wrong[66]) = (-5, 1 << 30);
    let e = run(wrong).unwrap_err();
    assert!(e.contains("main/looked_up") && e.contains("the index 1073741824 at position 66"), "{e}");
    let sums: Vec<f32> = run([3; 70]).unwrap().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    // Each lane adds what four neighbors looked up; behind the end that is row 0.
    assert_eq!((sums.len(), sums[0], sums[64]), (70, 12.0, 12.0));
    assert_eq!(sums[69], 3.0);
}

#[test]
fn what_has_no_form_names_the_kernel() {
    for file in ["softmax", "gemm_simt", "misc", "add_gelu"] {
        let m = module(&shared(file));
        for (id, k) in m.kernels.iter().filter(|(_, k)| k.class == Class::Simt && !["softmax_w32", "gemm_mma"].contains(&k.name.as_str())) {
            if let Err(e) = ptx(&m, id, &SM80) {
                assert!(e.contains("E0503") && e.contains(&k.name), "{e}");
            }
        }
    }
}

/// Families of kernels that have an order of their own: names and texts, with inputs in the place of weights.
fn families() -> Vec<(String, String)> {
    let blocks = include_str!("../../../passes/cases/orders.graphs").split("\n#: ").skip(1);
    let block = |b: &str| {
        let (head, text) = b.split_once('\n').unwrap();
        let name = head.split_once(' ').unwrap().1;
        let line = |l: &str| match l.split_once("= weight<") {
            Some((value, rest)) => format!("{value}= input \"{}\"\n", rest.split('"').nth(1).unwrap()),
            None => format!("{l}\n"),
        };
        (name.to_owned(), format!("graph \"{}\"\n{}", name.replace([' ', ','], "_"), text.lines().map(line).collect::<String>()))
    };
    blocks.map(block).collect()
}

/// Without any one wait or signal of the PTX of a family the machine reports a fault, or the results differ.
/// `cargo test -p portwright-targets every_order_of_ptx -- --nocapture` prints who catches what.
#[test]
fn every_order_of_ptx_is_needed() {
    let target = machine(&SM80);
    let (mut missed, mut all) = (Vec::new(), 0);
    for (name, text) in families() {
        let graph = portwright_ir::graph::text::parse(&text).unwrap_or_else(|d| panic!("{name}: {d:#?}"));
        let mut sink = Diags::new();
        let compiled = portwright_passes::pipeline::compile(graph, &target.class, &target.class, Default::default(), None, &mut sink);
        let mut program = compiled.unwrap_or_else(|_| panic!("{name}: {:#?}", sink.all())).main;
        legalize(&mut program.module, &target.caps);
        let dir = tempfile::tempdir().unwrap();
        let images = super::build(&program.module, &program.plan, &target, dir.path()).images;
        let ports: Vec<(DType, Vec<i64>)> =
            program.plan.inputs.iter().map(|p| (p.dtype, p.dims.iter().map(|d| d.as_const().unwrap()).collect())).collect();
        let data: Vec<Vec<u8>> = ports
            .iter()
            .enumerate()
            .map(|(i, (d, dims))| {
                let n = dims.iter().product::<i64>() as usize;
                match d {
                    DType::I64 => (0..n).flat_map(|j| (j as i64 * 7 % 3).to_le_bytes()).collect(),
                    d if d.is_packed() => super::seeded(DType::U8, n * d.bits() as usize / 8, i as u64, false),
                    d => super::seeded(*d, n, i as u64, false),
                }
            })
            .collect();
        let run = |edit: portwright_emu::gpu::Edit| -> Result<Vec<Vec<u8>>, String> {
            let options = portwright_emu::ptx::Options { limit: 1 << 24, ..Default::default() };
            let device = Some(Arc::new(portwright_emu::gpu::device_of_edited(options, edit)));
            let model = Model::load(dir.path(), &LoadOptions { device, ..LoadOptions::default() }).map_err(|e| e.to_string())?;
            let mut session = model.open().map_err(|e| e.to_string())?;
            let views: Vec<View<'_>> =
                ports.iter().zip(&data).map(|((d, dims), data)| View { dtype: onnx_dtype(*d), dims: dims.clone(), data }).collect();
            Ok(session.run(&views).map_err(|e| e.message)?.iter().map(|v| v.data.to_vec()).collect())
        };
        let right = run(Arc::new(str::to_owned)).unwrap_or_else(|e| panic!("{name} as written: {e}"));
        let before = all;
        for (i, image) in images.iter().enumerate() {
            for order in orders::orders(image) {
                let (own, gone) = (image.clone(), order.clone());
                let result = run(Arc::new(move |text: &str| if text == own { orders::without(text, &gone) } else { text.to_owned() }));
                let by = match result {
                    Err(e) => Some(format!("machine: {}", e.lines().next().unwrap_or_default())),
                    Ok(got) => (got != right).then(|| "result: differs".to_owned()),
                };
                let line = format!("{name}: {} image {i} line {} without `{}`", order.function, order.line, order.name);
                println!("PTX {line} | {}", by.as_deref().unwrap_or("MISSED"));
                all += 1;
                if by.is_none() {
                    missed.push(line);
                }
            }
        }
        assert!(all > before, "{name} has no order");
    }
    assert!(missed.is_empty(), "{} of {all} are not missed:\n{}", missed.len(), missed.join("\n"));
}
