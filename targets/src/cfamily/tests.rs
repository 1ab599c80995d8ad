// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every program that the schedules are tested with has sources in every dialect, and their text is as reviewed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use portwright_ir::diag::{Diags, Severity};
use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::{self as graph_interp, Tensor};
use portwright_ir::graph::text;
use portwright_ir::numerics::{decode_f64, encode_f64, int_to_bits, seeded_bytes};
use portwright_ir::plan::interp as plan_interp;
use portwright_ir::weight::WeightSource;
use portwright_passes::pipeline;
use portwright_passes::plan::{Program, WeightInit};
use portwright_passes::spec::Math;
use portwright_runtime::store::StoreWriter;
use portwright_runtime::tensor::Tensor as RunTensor;
use portwright_runtime::value::Arg;

use super::{Sources, dialect_of, sources};
use crate::target::{Machine, Target, all};

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Targets of the family, with their machines.
fn chips() -> Vec<(&'static str, Machine)> {
    let machine = |t: &&'static dyn Target| {
        let m = t.machine(None, &mut Diags::new()).unwrap_or_else(|_| panic!("{}", t.spec().id));
        dialect_of(&m).map(|_| (t.spec().id, m))
    };
    all().iter().filter_map(machine).collect()
}

/// The sources of a graph; `None` where no schedule takes it on such a machine.
fn made(name: &str, part: &str, machine: &Machine) -> Option<Sources> {
    let graph = text::parse(part).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let mut sink = Diags::new();
    let mut c = pipeline::compile(graph, &machine.class, &machine.class, Math::F32, None, &mut sink).ok()?;
    crate::compile::legalize(&mut c.main.module, machine);
    let made = sources(&c.main.module, &c.main.plan, machine, &mut sink);
    let errors: Vec<_> = sink.all().iter().filter(|d| d.severity == Severity::Error).collect();
    Some(made.unwrap_or_else(|_| panic!("{name} for {}: {errors:?}", machine.target)))
}

fn programs() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder("../passes/cases/programs")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "graph"));
    files.sort();
    let mut out = Vec::new();
    for f in files {
        let stem = f.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(&f).unwrap_or_else(|e| panic!("{}: {e}", f.display()));
        // What is for CPUs, or is to fail, says so.
        let plain = |p: &&str| !p.lines().any(|l| l.starts_with("# cpu") || l.starts_with("# fails"));
        out.extend(text.split("\n----\n").filter(plain).enumerate().map(|(i, p)| (format!("{stem}/{i}"), p.to_string())));
    }
    assert!(out.len() > 50, "{} programs", out.len());
    out
}

#[test]
fn every_program_has_sources_in_every_dialect() {
    let chips = chips();
    assert!(chips.len() >= 9);
    let wanted = std::env::var("PROGRAM").unwrap_or_default();
    let keep = std::env::var_os("KEEP").map(PathBuf::from);
    for (name, part) in programs().iter().filter(|p| p.0.contains(&wanted)) {
        for (id, machine) in &chips {
            let Some(s) = made(name, part, machine) else { continue };
            if let Some(keep) = &keep {
                for (file, text) in s.files {
                    let at = keep.join(id).join(name.replace('/', "-")).join(file);
                    std::fs::create_dir_all(at.parent().unwrap_or(&at))
                        .and_then(|()| std::fs::write(&at, text))
                        .unwrap_or_else(|e| panic!("{e}"));
                }
            }
        }
    }
}

/// A program's results on a machine that stands in for the chip, and those of the interpreter of graphs; `None` where there is no compiler.
fn executed(name: &str, part: &str, machine: &Machine) -> Option<Result<f64, String>> {
    let graph = text::parse(part).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let target = portwright_runtime::manifest::Target {
        id: machine.target.into(),
        triple: machine.triple.into(),
        cpu: machine.cpu.clone(),
        features: Vec::new(),
        device: super::device_name(machine),
    };
    let executor = match portwright_emu::find(&target, &[], None) {
        Ok(e) => e,
        Err(missing) => {
            eprintln!("skipped {name} for {}: {missing}", machine.target);
            return None;
        }
    };
    let inputs: Vec<Tensor> = (graph.inputs().iter().enumerate())
        .map(|(i, &v)| {
            let ty = graph.ty(v);
            let dims: Vec<usize> = ty.dims.iter().map(|d| d.as_const().unwrap_or_else(|| panic!("{name}: {d}")) as usize).collect();
            let mut x = 7 + i as u64;
            let elems = (0..dims.iter().product::<usize>()).map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let unit = (x >> 40) as f64 / f64::from(1u32 << 24);
                match ty.dtype.is_float() {
                    true => encode_f64(ty.dtype, unit * 4.0 - 2.0, false),
                    false => int_to_bits(ty.dtype, (unit * if ty.dtype == DType::Bool { 2.0 } else { 4.0 }) as i128),
                }
            });
            Tensor::from_bits(ty.dtype, dims.clone(), elems.collect::<Vec<u64>>())
        })
        .collect();
    let want = graph_interp::run(&graph, &inputs, &graph_interp::Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut sink = Diags::new();
    let compiled = pipeline::compile(graph, &machine.class, &machine.class, Math::F32, None, &mut sink);
    let mut c = compiled.unwrap_or_else(|_| panic!("{name}: {:?}", sink.all()));
    // Packed by the interpreter: what code of another machine would do is no question here.
    let packed =
        plan_interp::run(&c.pack.module, &c.pack.plan, &[], &|i| weight(&c.pack, i, &HashMap::new()), &plan_interp::Options::default());
    let packed = packed.unwrap_or_else(|e| panic!("{name}: {e}"));
    let packed: HashMap<String, Vec<u8>> =
        c.pack.plan.outputs.iter().zip(packed).map(|(o, t)| (o.name.to_string(), t.bytes().to_vec())).collect();
    crate::compile::legalize(&mut c.main.module, machine);
    let made = sources(&c.main.module, &c.main.plan, machine, &mut sink).unwrap_or_else(|_| panic!("{name}: {:?}", sink.all()));
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    for (file, text) in &made.files {
        let at = folder.path().join(file);
        std::fs::create_dir_all(at.parent().unwrap_or(&at)).and_then(|()| std::fs::write(&at, text)).unwrap_or_else(|e| panic!("{e}"));
    }
    let layout = crate::compile::store_layout(&c.main.plan);
    if layout.reference().is_some() {
        let at = folder.path().join("weights/store.bin");
        std::fs::create_dir_all(folder.path().join("weights")).unwrap_or_else(|e| panic!("{e}"));
        let store = StoreWriter::create(&at, &layout).unwrap_or_else(|e| panic!("{e}"));
        for i in 0..c.main.plan.weights.len() {
            let bytes = weight(&c.main, i as u32, &packed).unwrap_or_else(|| panic!("{name}: no weight {i}"));
            store.put(i, 0, &bytes).unwrap_or_else(|e| panic!("{e}"));
        }
        store.finish().unwrap_or_else(|e| panic!("{e}"));
    }
    let given: Vec<RunTensor> = inputs
        .iter()
        .map(|t| {
            let dims: Vec<i64> = t.dims.iter().map(|d| *d as i64).collect();
            RunTensor::new(crate::compile::onnx_dtype(t.dtype), &dims, t.bytes()).unwrap_or_else(|e| panic!("{e}"))
        })
        .collect();
    let args: Vec<Arg<'_>> = given.iter().map(|t| Arg::Tensor(t.view())).collect();
    let ran = executor.load(folder.path(), &portwright_emu::Options::default()).and_then(|mut m| m.run(&args));
    let got = match ran {
        Ok(v) => v,
        Err(e) => return Some(Err(e.to_string())),
    };
    let mut worst = 0.0f64;
    for (w, g) in want.iter().zip(&got) {
        let Some(g) = g.tensor() else { return Some(Err("an output is no tensor".into())) };
        let g = Tensor::new(w.dtype, w.dims.clone(), g.view().data.to_vec())?;
        let bits = |t: &Tensor| (0..t.len()).map(|i| decode_f64(t.dtype, t.bits(i))).collect::<Vec<f64>>();
        let (a, b) = (bits(w), bits(&g));
        let norm = a.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-30);
        let far = a.iter().zip(&b).map(|(x, y)| if x.is_nan() && y.is_nan() { 0.0 } else { (x - y) * (x - y) }).sum::<f64>().sqrt();
        worst = if far.is_nan() { f64::INFINITY } else { worst.max(far / norm) };
    }
    Some(Ok(worst))
}

/// Bytes of a weight of a program.
fn weight(p: &Program, i: u32, packed: &HashMap<String, Vec<u8>>) -> Option<Vec<u8>> {
    match p.weights.get(i as usize)? {
        WeightInit::Literal(l) => Some(l.bytes.to_vec()),
        WeightInit::Weight(w) => w.joined(&|w| match &w.source {
            WeightSource::Seed(s) => seeded_bytes(*s, w.dtype, &w.dims),
            WeightSource::Packed => packed.get(&*w.name).cloned(),
            _ => w.bytes().map(<[u8]>::to_vec),
        }),
    }
}

/// Core cases, the smallest of each, or those with `PROGRAM` in their names; `CHIP` chooses among the chips.
#[test]
fn core_cases_run_where_every_chip_is_stood_in_for() {
    let [wanted, chip] = ["PROGRAM", "CHIP"].map(|v| std::env::var(v).unwrap_or_default());
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder("../tests/cases/core")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let name = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let chosen = |n: &str| if wanted.is_empty() { n == "softmax-odd" || n == "matmul-odd" } else { n.contains(&wanted) };
    cases.retain(|p| p.extension().is_some_and(|e| e == "graph") && chosen(&name(p)));
    cases.sort();
    let mut faults = String::new();
    for (id, machine) in chips().iter().filter(|c| c.0.contains(&chip)) {
        for case in &cases {
            let text = std::fs::read_to_string(case).unwrap_or_else(|e| panic!("{e}"));
            match executed(&name(case), &text, machine) {
                None => return,
                Some(Ok(far)) if far <= 1e-5 => eprintln!("{id}: {}: {far:.1e}", name(case)),
                Some(Ok(far)) => faults += &format!("{id}: {}: {far:e} from the interpreter\n", name(case)),
                Some(Err(e)) => faults += &format!("{id}: {}: {e}\n", name(case)),
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

/// A bundle's sources in a folder that goes with the value.
fn written(made: &Sources) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    for (file, text) in &made.files {
        let at = folder.path().join(file);
        std::fs::create_dir_all(at.parent().unwrap_or(&at)).and_then(|()| std::fs::write(&at, text)).unwrap_or_else(|e| panic!("{e}"));
    }
    folder
}

/// Clang, in the mode that is nearest to each vendor's compiler, takes the core cases: of the chips that LLVM has all, of others those that
/// have products and exchanges. Linked code has no spills.
#[test]
fn clang_takes_the_core_cases_of_every_chip() {
    use portwright_emu::judge::{Clang, Made, Mode, resources};
    let clang = match Clang::find() {
        Ok(c) => c,
        Err(e) => return eprintln!("skipped: {e}"),
    };
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder("../tests/cases/core")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "graph"));
    cases.sort();
    let name = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let (mut judged, mut faults) = (0, String::new());
    for (id, machine) in chips() {
        let target = portwright_runtime::manifest::Target { device: super::device_name(&machine), ..Default::default() };
        let mode = Mode::find(&target).unwrap_or_else(|| panic!("nothing judges {id}"));
        let few = |c: &&PathBuf| mode.exact() && mode.object || ["attention_mla_block-odd", "matmul-aligned"].contains(&name(c).as_str());
        for case in cases.iter().filter(few) {
            let text = std::fs::read_to_string(case).unwrap_or_else(|e| panic!("{e}"));
            let Some(made) = made(&name(case), &text, &machine) else { continue };
            judged += 1;
            match clang.bundle(&mode, written(&made).path()) {
                Err(e) => faults += &format!("{id}: {}: {e}\n", name(case)),
                Ok(Made::Text(_)) => {}
                Ok(Made::Object(o)) => match resources(&o) {
                    Some(all) if all.iter().all(|k| k.spills == 0 && k.lanes == 64) => {}
                    other => faults += &format!("{id}: {}: {other:?}\n", name(case)),
                },
            }
        }
    }
    assert!(faults.is_empty() && judged > 36, "{judged} judged\n{faults}");
}

/// Where lanes hold the operands of 16x16x16 products is what AMD's calculator of matrix instructions prints (`quads.csv`).
#[test]
fn quads_lie_as_in_the_product_that_stands_for_them() {
    use portwright_ir::kernel::Digit;
    let product = super::quads("quads", DType::F16, "", "pw_half4").fragment;
    // Coordinates m, n, k of a lane's register.
    let at = |operand: usize, lane: u16, reg: u16| {
        let mut out = [0u16; 3];
        for (digits, mut n) in product.operands[operand].iter().zip([lane, reg]) {
            for Digit { dim, stride, extent } in *digits {
                out[usize::from(*dim)] += n % extent * stride;
                n /= extent;
            }
        }
        out
    };
    let mut lanes = 0;
    for line in include_str!("quads.csv").lines().filter(|l| !l.starts_with('#')) {
        let mut cells = line.split(',').map(|c| c.split(' ').map(|n| n.parse::<u16>().unwrap()).collect::<Vec<_>>());
        assert_eq!(cells.next(), Some(vec![lanes]));
        for operand in 0..3 {
            for reg in 0..4 {
                let Some([row, column]) = cells.next().and_then(|c| <[u16; 2]>::try_from(c).ok()) else { panic!("{line}") };
                let want = [[row, 0, column], [0, column, row], [row, column, 0]][operand];
                assert_eq!(at(operand, lanes, reg), want, "operand {operand} of lane {lanes}, register {reg}");
            }
        }
        lanes += 1;
    }
    assert_eq!(lanes, 64);
}
