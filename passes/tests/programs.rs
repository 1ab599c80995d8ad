// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graphs to programs, and the programs run: kernels and host plan must compute what the Graph interpreter computes.
//!
//! Each graph of `cases/programs/*.graph` is compiled for CPUs of several shapes. Kernels and plans are verified, plans go through their
//! text, the pack program runs first, and all of it runs in the interpreters. Lines that begin with `#` say more:
//!
//! - `# sizes 0 3 17`: how far above the low end of its range each symbol is set, one run each (default `0 3`);
//! - `# dims N=3 M=5`: one more run at these sizes;
//! - `# ints -5 6`: range of integer inputs (default 0 to 3); `# floats -1 1`: range of float inputs (default -2 to 2);
//! - `# special`: float inputs hold NaN, infinities, zeros and ties;
//! - `# fails INDEX [-7]`: every run ends with that fault, in both, and the plan's message has that text;
//! - `# fast`: products may be rounded to bf16;
//! - `# cpu`: other machines have no schedules for it, so they are left out;
//! - `# loose 0.001`: more tolerance, relative to the largest element.
//!
//! Every run is made twice: with the kernels as the schedules write them, and after the kernel rules of the machine.
//! `PROGRAM=text` runs only cases whose name has that text and prints their kernels and plans.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use portwright_ir::diag::{Code, Diags};
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::graph::interp::{self as graph_interp, Tensor};
use portwright_ir::graph::{Graph, text};
use portwright_ir::kernel::{self, Digit, KernelId, Module, print_module};
use portwright_ir::numerics;
use portwright_ir::plan::{self, HostPlan, interp as plan_interp};
use portwright_ir::sym::SymName;
use portwright_ir::weight::WeightSource;
use portwright_passes::kernel_rules::{self, KernelCaps};
use portwright_passes::pipeline;
use portwright_passes::plan::{Program, WeightInit};
use portwright_passes::spec::{CpuSpec, DotForm, Fragment, MachineClass, Math, QueueForm, SimtSpec, TileForm};

#[path = "programs/simt.rs"]
mod simt_counts;

const DOTS: &[DotForm] = &[
    DotForm { a: DType::U8, b: DType::I8, acc: DType::I32, depth: 4 },
    DotForm { a: DType::BF16, b: DType::BF16, acc: DType::F32, depth: 2 },
];
const TILES: &[TileForm] = &[
    TileForm { operand: DType::BF16, acc: DType::F32, shape: [16, 16, 32], registers: 8 },
    TileForm { operand: DType::I8, acc: DType::I32, shape: [16, 16, 64], registers: 8 },
];

/// CPUs with what their single instructions do: wide with masks, also with dot products and with matrix tiles, the usual width with masks of
/// some elements, narrow without, and one lane.
fn machines() -> Vec<(&'static str, MachineClass, KernelCaps)> {
    let cpu = |vec_bytes, vec_regs, masked_mem| {
        MachineClass::Cpu(CpuSpec {
            vec_bytes,
            vec_regs,
            masked_mem,
            fma: true,
            l1_bytes: 32 << 10,
            l2_bytes: 1 << 20,
            dots: &[],
            tiles: &[],
        })
    };
    let units = |tiles| match cpu(64, 32, true) {
        MachineClass::Cpu(spec) => MachineClass::Cpu(CpuSpec { dots: DOTS, tiles, ..spec }),
        other => other,
    };
    let caps = |masked_bits, fma, f16_convert| KernelCaps { masked_bits, fma, f16_convert };
    vec![
        ("v64", cpu(64, 32, true), caps(&[8, 16, 32, 64], true, true)),
        ("dots", units(&[]), caps(&[8, 16, 32, 64], true, true)),
        ("tiles", units(TILES), caps(&[8, 16, 32, 64], true, true)),
        ("v32", cpu(32, 16, true), caps(&[32, 64], true, true)),
        ("v16", cpu(16, 16, false), caps(&[], true, false)),
        ("v4", cpu(4, 16, false), caps(&[], false, false)),
        ("simt32", simt(32, 99 << 10, Some(QUEUE), FRAGMENTS_32), caps(&[], true, true)),
        ("simt64", simt(64, 64 << 10, None, FRAGMENTS_64), caps(&[], true, true)),
        ("simt128", simt(128, 28 << 10, None, &[]), caps(&[], true, false)),
    ]
}

const fn digit(dim: u8, stride: u16, extent: u16) -> Digit {
    Digit { dim, stride, extent }
}
const M: u8 = 0;
const N: u8 = 1;
const K: u8 = 2;

/// Lane and register digits of a, b and the accumulator.
type Digits = [[&'static [Digit]; 2]; 3];
/// Rows of 16 and columns of 8 over 32 lanes, pairs of neighbors along the summed dim.
const NARROW: Digits = [
    [&[digit(K, 2, 4), digit(M, 1, 8)], &[digit(K, 1, 2), digit(M, 8, 2), digit(K, 8, 2)]],
    [&[digit(K, 2, 4), digit(N, 1, 8)], &[digit(K, 1, 2), digit(K, 8, 2)]],
    [&[digit(N, 2, 4), digit(M, 1, 8)], &[digit(N, 1, 2), digit(M, 8, 2)]],
];
/// Elements of 8 bits: four neighbors along the sum in a register.
const BYTES: Digits = [
    [&[digit(K, 4, 4), digit(M, 1, 8)], &[digit(K, 1, 4), digit(M, 8, 2), digit(K, 16, 2)]],
    [&[digit(K, 4, 4), digit(N, 1, 8)], &[digit(K, 1, 4), digit(K, 16, 2)]],
    [&[digit(N, 2, 4), digit(M, 1, 8)], &[digit(N, 1, 2), digit(M, 8, 2)]],
];
/// Squares of 16 over 64 lanes; a lane has neighboring columns of the accumulator.
const SQUARE: Digits = [
    [&[digit(M, 1, 16), digit(K, 4, 4)], &[digit(K, 1, 4)]],
    [&[digit(N, 1, 16), digit(K, 4, 4)], &[digit(K, 1, 4)]],
    [&[digit(M, 1, 16), digit(N, 4, 4)], &[digit(N, 1, 4)]],
];
const fn halves(name: &'static str, dtype: DType, lanes: u16, columns: u16, operands: Digits) -> Fragment {
    Fragment { name, shape: [16, columns, 16], dtypes: [dtype, dtype, DType::F32], lanes, operands }
}
const FRAGMENTS_32: &[Fragment] = &[
    halves("P16", DType::F16, 32, 8, NARROW),
    halves("PB16", DType::BF16, 32, 8, NARROW),
    Fragment { name: "P8", shape: [16, 8, 32], dtypes: [DType::I8, DType::I8, DType::I32], lanes: 32, operands: BYTES },
    Fragment { name: "PF8", shape: [16, 8, 32], dtypes: [DType::F8E4M3FN, DType::F8E4M3FN, DType::F32], lanes: 32, operands: BYTES },
];
const FRAGMENTS_64: &[Fragment] = &[halves("S16", DType::F16, 64, 16, SQUARE), halves("SB16", DType::BF16, 64, 16, SQUARE)];
const QUEUE: QueueForm = QueueForm { bytes: &[4, 8, 16], pending: 8 };

/// Machines of lanes in warps.
fn simt(lanes: u32, shared_bytes: u32, queue: Option<QueueForm>, fragments: &'static [Fragment]) -> MachineClass {
    MachineClass::Simt(SimtSpec {
        lanes,
        shuffle: lanes.min(64) / (1 + lanes / 128),
        max_group: 1024,
        max_grid: i64::from(i32::MAX),
        shared_bytes,
        banks: 32,
        registers: 255,
        vec_bytes: 16,
        busy: 64,
        queue,
        ldmatrix: lanes == 32,
        fragments,
        floats: &[DType::F16, DType::BF16, DType::F32, DType::F64],
    })
}

struct Case {
    name: String,
    graph: Graph,
    sizes: Vec<i64>,
    dims: Vec<HashMap<SymName, i64>>,
    ints: (i64, i64),
    floats: (f64, f64),
    special: bool,
    math: Math,
    /// Other machines have no schedules for it.
    cpu: bool,
    fails: Option<String>,
    says: Option<String>,
    loose: f64,
    /// Size of the numbers that results are made of, at least.
    floor: f64,
}

fn read_cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/programs");
    let mut files: Vec<_> = std::fs::read_dir(&dir).expect("the cases are there").flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "graph"));
    files.sort();
    let (mut out, mut faults) = (Vec::new(), String::new());
    for f in files {
        let stem = f.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(&f).expect("a case can be read");
        for part in text.split("\n----\n") {
            match text::parse(part) {
                Ok(g) => out.push(read_case(&stem, part, g)),
                Err(list) => {
                    let first = part.lines().find(|l| l.starts_with("graph")).unwrap_or("");
                    list.iter().for_each(|d| faults += &format!("{stem}: {first}: {}\n", d.message));
                }
            }
        }
    }
    assert!(faults.is_empty(), "cases that are no graphs:\n{faults}");
    out
}

fn read_case(stem: &str, part: &str, graph: Graph) -> Case {
    let name = format!("{stem}/{}", graph.name);
    let mut c = Case {
        name,
        graph,
        sizes: vec![0, 3],
        dims: Vec::new(),
        ints: (0, 3),
        floats: (-2.0, 2.0),
        special: false,
        math: Math::F32,
        cpu: false,
        fails: None,
        says: None,
        loose: 0.0,
        floor: 1e-3,
    };
    for line in part.lines().filter_map(|l| l.strip_prefix("# ")) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        let rest: Vec<&str> = words.collect();
        let int = |s: &str| s.parse::<i64>().unwrap_or_else(|_| panic!("{}: `{s}` is no integer", c.name));
        let float = |s: &str| s.parse::<f64>().unwrap_or_else(|_| panic!("{}: `{s}` is no number", c.name));
        match (first, rest.as_slice()) {
            ("sizes", list) => c.sizes = list.iter().map(|s| int(s)).collect(),
            ("dims", list) => {
                let set = list.iter().filter_map(|s| s.split_once('=')).map(|(n, v)| (SymName::from(n), int(v))).collect();
                c.dims.push(set);
            }
            ("ints", [lo, hi]) => c.ints = (int(lo), int(hi)),
            ("floats", [lo, hi]) => c.floats = (float(lo), float(hi)),
            ("special", []) => c.special = true,
            ("fast", []) => c.math = Math::Fast,
            ("cpu", []) => c.cpu = true,
            ("fails", [code, says @ ..]) => {
                c.fails = Some((*code).to_owned());
                c.says = says.first().map(|s| (*s).to_owned());
            }
            ("loose", [t]) => c.loose = float(t),
            _ => {}
        }
    }
    c
}

/// One run: the sizes of symbols and the inputs.
fn runs(c: &Case) -> Vec<(String, Vec<Tensor>)> {
    let at = |step: i64| -> HashMap<SymName, i64> {
        let value = |s: &portwright_ir::graph::Symbol| {
            let div = s.div.max(1);
            let lo = (s.lo + div - 1).div_euclid(div) * div;
            (lo + step * div).min(s.hi)
        };
        c.graph.symbols().iter().map(|s| (s.name.clone(), value(s))).collect()
    };
    let mut sets: Vec<HashMap<SymName, i64>> = c.sizes.iter().map(|&s| at(s)).collect();
    for d in &c.dims {
        let mut base = at(1);
        base.extend(d.clone());
        sets.push(base);
    }
    if c.graph.symbols().is_empty() {
        sets.truncate(1);
    }
    sets.into_iter()
        .enumerate()
        .map(|(i, s)| {
            let mut named: Vec<String> = s.iter().map(|(n, v)| format!("{n}={v}")).collect();
            named.sort();
            (named.join(" "), inputs(c, &s, 7 + i as u64))
        })
        .collect()
}

fn inputs(c: &Case, symbols: &HashMap<SymName, i64>, seed: u64) -> Vec<Tensor> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let specials = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 2.0, 2.5, -2.5, 1e30, 1e-30];
    let (lo, hi) = (c.ints.0 as f64, c.ints.1 as f64);
    c.graph
        .inputs()
        .iter()
        .map(|&v| {
            let ty = c.graph.ty(v);
            let dims: Vec<usize> = ty
                .dims
                .iter()
                .map(|d| d.eval(&|n| symbols.get(n).copied()).unwrap_or_else(|| panic!("{}: dim {d}", c.name)) as usize)
                .collect();
            let n: usize = dims.iter().product();
            let elems: Vec<u64> = (0..n)
                .map(|_| match ty.dtype {
                    DType::Bool => u64::from(next() < 0.5),
                    d if d.is_int() => numerics::int_to_bits(d, (lo + (next() * (hi - lo + 1.0)).floor()) as i128),
                    d if c.special && next() < 0.5 => {
                        numerics::encode_f64(d, specials[(next() * specials.len() as f64) as usize % specials.len()], false)
                    }
                    d => numerics::encode_f64(d, c.floats.0 + next() * (c.floats.1 - c.floats.0), false),
                })
                .collect();
            Tensor::from_bits(ty.dtype, dims, elems)
        })
        .collect()
}

/// Longest accumulation of a graph, where it is a number.
fn longest_sum(g: &Graph) -> f64 {
    let mut longest = 1.0f64;
    for n in g.node_ids() {
        let node = g.node(n);
        for r in &node.regions {
            longest = longest.max(longest_sum(r));
        }
        let size = |v| g.ty(v).dims.iter().map(|d| d.as_const().unwrap_or(64).max(1) as f64).product::<f64>();
        let big = node.operands.iter().map(|&v| size(v)).fold(1.0, f64::max);
        if !node.op.is_elementwise() && !node.op.is_movement() && !node.op.is_source() {
            longest = longest.max(big.min(4096.0));
        }
    }
    longest
}

fn eps(d: DType) -> f64 {
    match d {
        DType::F64 => f64::EPSILON,
        d => d.float_format().map_or(0.0, |f| 2f64.powi(-(f.mantissa_bits as i32))),
    }
}

/// Compares outputs; the bound is the rounding of the output's dtype and of an accumulation in f32 (f64 for f64).
fn compare(c: &Case, want: &[Tensor], got: &[Tensor]) -> Result<(), String> {
    if want.len() != got.len() {
        return Err(format!("{} outputs, expected {}", got.len(), want.len()));
    }
    let length = longest_sum(&c.graph);
    for (i, (w, g)) in want.iter().zip(got).enumerate() {
        if (w.dtype, &w.dims) != (g.dtype, &g.dims) {
            return Err(format!("output {i} is {}{:?}, expected {}{:?}", g.dtype, g.dims, w.dtype, w.dims));
        }
        if !w.dtype.is_float() {
            if let Some(k) = (0..w.len()).find(|&k| w.bits(k) != g.bits(k)) {
                return Err(format!("output {i} element {k} of {:?} is {:?}, expected {:?}", w.dims, g, w));
            }
            continue;
        }
        let (a, b) = (w.to_f64(), g.to_f64());
        let scale = a.iter().filter(|x| x.is_finite() && x.abs() < 1e20).fold(c.floor, |m, x| m.max(x.abs()));
        let inner = if w.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let relative = 2.0 * eps(w.dtype) + inner * (16.0 + length) + c.loose;
        for (k, (x, y)) in a.iter().zip(&b).enumerate() {
            let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= relative * scale.max(x.abs());
            if !same {
                let wrong = a
                    .iter()
                    .zip(&b)
                    .filter(|(x, y)| !(x == y || (x.is_nan() && y.is_nan()) || (**x - **y).abs() <= relative * scale))
                    .count();
                return Err(format!(
                    "output {i} element {k} of {:?} is {y}, expected {x} (within {:e}); {wrong} of {} differ",
                    w.dims,
                    relative * scale,
                    a.len()
                ));
            }
        }
    }
    Ok(())
}

/// Verifies a program and sends its plan through its text.
fn check_program(p: &Program) -> Result<HostPlan, String> {
    for (id, k) in p.module.kernels.iter() {
        if let Err(faults) = kernel::verify(&p.module, id, &kernel::Limits::default()) {
            let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(format!("kernel {} is wrong: {}\n{}", k.name, list.join("\n"), show(p)));
        }
    }
    let faults = plan::verify(&p.plan, &p.module);
    if !faults.is_empty() {
        return Err(format!("the plan is wrong: {faults:#?}\n{}", show(p)));
    }
    let name = |i: usize| p.module.kernels.get(KernelId::new(i)).map_or_else(String::new, |k| k.name.clone());
    let printed = plan::print(&p.plan, &name);
    let read = plan::parse(&printed, &|n| p.module.kernel_named(n).map(EntityId::index));
    let read = read.map_err(|d| format!("the plan's text is not read back: {d:#?}\n{printed}"))?;
    let again = plan::print(&read, &name);
    if again != printed {
        return Err(format!("the plan's text changes:\n{printed}\n{again}"));
    }
    let module_text = print_module(&p.module);
    let module: Module =
        portwright_ir::kernel::parse_module(&module_text).map_err(|e| format!("kernels are not read back: {e}\n{module_text}"))?;
    let module_again = print_module(&module);
    if module_again != module_text {
        return Err(format!("the kernels' text changes:\n{module_text}\n{module_again}"));
    }
    Ok(read)
}

fn show(p: &Program) -> String {
    let name = |i: usize| p.module.kernels.get(KernelId::new(i)).map_or_else(String::new, |k| k.name.clone());
    let mut out = print_module(&p.module);
    let _ = writeln!(out, "{}", plan::print(&p.plan, &name));
    out
}

type Packed = HashMap<Arc<str>, Vec<u8>>;

fn bytes_of(p: &Program, packed: &Packed, w: u32) -> Option<Vec<u8>> {
    match p.weights.get(w as usize)? {
        WeightInit::Literal(l) => Some(l.bytes.to_vec()),
        WeightInit::Weight(w) => w.joined(&|w| match &w.source {
            WeightSource::Seed(s) => numerics::seeded_bytes(*s, w.dtype, &w.dims),
            WeightSource::Packed => packed.get(&w.name).cloned(),
            _ => w.bytes().map(<[u8]>::to_vec),
        }),
    }
}

fn execute(p: &Program, plan: &HostPlan, packed: &Packed, inputs: &[Tensor]) -> Result<Vec<Tensor>, plan_interp::RunError> {
    plan_interp::run(&p.module, plan, inputs, &|w| bytes_of(p, packed, w), &plan_interp::Options::default())
}

fn check(c: &Case, machine: &MachineClass, caps: &KernelCaps, verbose: bool) -> Result<(), String> {
    let mut diags = Diags::new();
    let compiled = pipeline::compile(c.graph.clone(), machine, machine, c.math, None, &mut diags);
    let Ok(compiled) = compiled else { return Err(format!("does not compile: {:#?}", diags.all())) };
    if verbose {
        println!("{}", text::print(&compiled.prepared.main));
        println!("---- pack\n{}---- main\n{}", show(&compiled.pack), show(&compiled.main));
    }
    let pack_plan = check_program(&compiled.pack).map_err(|e| format!("pack program: {e}"))?;
    let main_plan = check_program(&compiled.main)?;
    let made =
        execute(&compiled.pack, &pack_plan, &Packed::new(), &[]).map_err(|e| format!("pack program: {e}\n{}", show(&compiled.pack)))?;
    let packed: Packed = compiled.pack.plan.outputs.iter().zip(made).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
    let main = compiled.main;
    let mut legal = Program { module: main.module.clone(), plan: main.plan.clone(), weights: main.weights.clone() };
    kernel_rules::legalize(&mut legal.module, caps);
    check_program(&legal).map_err(|e| format!("after kernel rules: {e}"))?;
    for (sizes, inputs) in runs(c) {
        let want = graph_interp::run(&c.graph, &inputs, &graph_interp::Options::default());
        let got = execute(&main, &main_plan, &packed, &inputs);
        let at = |m: String| format!("at {sizes}: {m}");
        match (want, got) {
            (Err(w), Err(g)) if c.fails.is_some() => {
                let name = g.fault.map(|f| f.name().to_uppercase());
                if name != c.fails || c.says.as_ref().is_some_and(|s| !g.to_string().contains(s)) {
                    return Err(at(format!("ended with {g}, expected {:?}; the graph ends with {w}", c.fails)));
                }
                let legal_fault = execute(&legal, &main_plan, &packed, &inputs).err().and_then(|e| e.fault);
                if legal_fault != g.fault {
                    return Err(at(format!("after kernel rules: ended with {legal_fault:?}, before with {g}")));
                }
            }
            (Ok(_), Ok(_)) if c.fails.is_some() => return Err(at("a run does not fail".into())),
            (Err(w), _) => return Err(at(format!("the graph itself does not run: {w}"))),
            (Ok(_), Err(g)) => {
                return Err(at(format!("{g}\n{}", if g.code == Code::INTERNAL && !verbose { show(&main) } else { String::new() })));
            }
            (Ok(w), Ok(g)) => {
                compare(c, &w, &g).map_err(|e| at(format!("{e}\n{}", if verbose { String::new() } else { show(&main) })))?;
                let after = |e: String| at(format!("after kernel rules: {e}\n{}", if verbose { String::new() } else { show(&legal) }));
                let g = execute(&legal, &main_plan, &packed, &inputs).map_err(|e| after(e.to_string()))?;
                compare(c, &w, &g).map_err(after)?;
            }
        }
    }
    Ok(())
}

/// A random graph over a few inputs and dtypes: movement, arithmetic, reductions and contractions on top of each other.
fn random_graph(seed: u64) -> Graph {
    use portwright_ir::graph::{BinaryOp, Literal, Op, Origin, PadMode, ReduceOp, Scalar, TensorType, UnaryOp, ValueId};
    use portwright_ir::sym::SymExpr;
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut next = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 33) % n.max(1) as u64) as usize
    };
    let mut g = Graph::new(format!("random {seed}"));
    let sizes = [1i64, 2, 3, 4, 7, 16, 19];
    let mut values: Vec<ValueId> = Vec::new();
    for i in 0..3 {
        let rank = next(4);
        let dims: Vec<i64> = (0..rank).map(|_| sizes[next(sizes.len())]).collect();
        let dtype = [DType::F32, DType::F32, DType::F32, DType::I32][next(4)];
        values.push(g.add_input(format!("x{i}"), TensorType::fixed(dtype, &dims)));
    }
    let mut made = 0;
    for step in 0..60 {
        if made >= 10 {
            break;
        }
        let v = values[if next(2) == 0 { values.len() - 1 } else { next(values.len()) }];
        let ty = g.ty(v).clone();
        let (rank, dims, d) = (ty.rank(), ty.static_dims().unwrap_or_default(), ty.dtype);
        if ty.elems().as_const().is_none_or(|n| n > 20_000) {
            continue;
        }
        let axis = next(rank.max(1)) as u32;
        let other = values[next(values.len())];
        let e = |v: i64| SymExpr::from(v);
        let (op, operands) = match next(14) {
            0 => (Op::Unary([UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sign][next(3)]), vec![v]),
            1 if d.is_float() => (Op::Unary([UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Floor][next(3)]), vec![v]),
            2 | 3 => (Op::Binary([BinaryOp::Add, BinaryOp::Sub, BinaryOp::Max, BinaryOp::Min][next(4)]), vec![v, other]),
            4 if rank > 1 => {
                let mut perm: Vec<u32> = (0..rank as u32).collect();
                (0..rank).for_each(|i| perm.swap(i, next(rank)));
                (Op::Transpose { perm }, vec![v])
            }
            5 if rank > 1 => {
                let at = next(rank - 1);
                let mut to = dims.clone();
                let merged = to[at] * to.remove(at + 1);
                to[at] = merged;
                (Op::Reshape { dims: to.into_iter().map(e).collect() }, vec![v])
            }
            6 if rank > 0 => {
                let (mut starts, mut steps, mut out) = (Vec::new(), Vec::new(), Vec::new());
                for &n in &dims {
                    let step = [1, 1, 2, -1][next(4)];
                    let len = 1 + next(((n + 1) / 2) as usize) as i64;
                    let span = (len - 1) * i64::abs(step);
                    let (step, len, span) = if span < n { (step, len, span) } else { (1, 1, 0) };
                    let low = next((n - span) as usize) as i64;
                    starts.push(e(if step > 0 { low } else { low + span }));
                    steps.push(step);
                    out.push(e(len));
                }
                (Op::Slice { starts, steps, dims: out }, vec![v])
            }
            7 if rank > 0 => {
                let low = (0..rank).map(|_| e(next(3) as i64)).collect();
                let high = dims.iter().map(|&n| e(next(3) as i64 - i64::from(n > 1))).collect();
                let interior = (0..rank).map(|_| i64::from(next(4) == 0)).collect();
                let value = g.add(Op::Const { value: Literal::scalar(Scalar::from_i64(d, 2)) }, &[], Origin::default());
                let Ok(value) = value else { continue };
                (Op::Pad { mode: PadMode::Constant, low, high, interior }, vec![v, g.result(value)])
            }
            8 if rank > 0 => (Op::Concat { axis }, vec![v, if next(2) == 0 { v } else { other }]),
            9 | 10 if rank > 0 => {
                let axes: Vec<u32> = (0..rank as u32).filter(|a| *a == axis || next(3) == 0).collect();
                let op = [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Mean][next(4)];
                (Op::Reduce { op, axes, keep: next(2) == 0 }, vec![v])
            }
            11 if rank > 0 && d.is_float() => (Op::Softmax { axis }, vec![v]),
            12 if rank == 2 => (Op::Contract { spec: "mk,nk->mn".into(), acc: d, out: d }, vec![v, if next(2) == 0 { v } else { other }]),
            13 if rank > 0 => {
                let rows: Vec<i64> = (0..1 + next(5)).map(|_| next(dims[axis as usize] as usize) as i64).collect();
                let rows = g.add(Op::Const { value: Literal::vector(DType::I64, &rows) }, &[], Origin::default());
                let Ok(rows) = rows else { continue };
                (Op::Gather { axis }, vec![v, g.result(rows)])
            }
            _ => continue,
        };
        if let Ok(n) = g.add(op, &operands, Origin::path(format!("n{step}"))) {
            let r = g.result(n);
            if g.ty(r).elems().as_const().is_some_and(|n| n <= 20_000) {
                values.push(r);
                made += 1;
            }
        }
    }
    let last = values.len() - 1;
    g.add_output("last", values[last]);
    g.add_output("some", values[next(values.len())]);
    g.remove_dead();
    g
}

/// `FUZZ=FIRST-LAST` runs other seeds.
#[test]
fn random_programs_compute_what_their_graphs_mean() {
    let range = std::env::var("FUZZ").unwrap_or_else(|_| "0-60".into());
    let (first, end) = range.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))).unwrap_or((0u64, 60u64));
    let mut failures = Vec::new();
    for seed in first..end {
        let graph = random_graph(seed);
        let (name, sizes) = (graph.name.clone(), vec![0]);
        let c = Case {
            name,
            graph,
            sizes,
            dims: Vec::new(),
            ints: (-9, 9),
            floats: (-2.0, 2.0),
            special: false,
            math: Math::F32,
            cpu: false,
            fails: None,
            says: None,
            loose: 1e-5,
            floor: 1.0,
        };
        let (name, machine, caps) = machines().swap_remove([0, 1, 2, 3, 6, 7, 8][(seed % 7) as usize]);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&c, &machine, &caps, false)));
        let message = match result {
            Ok(Ok(())) => continue,
            Ok(Err(e)) => e,
            Err(_) => "panics".into(),
        };
        failures.push(format!("== {seed} on {name}: {message}\n{}", text::print(&c.graph)));
    }
    assert!(failures.is_empty(), "{} random programs fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn programs_compute_what_their_graphs_mean() {
    let only = std::env::var("PROGRAM").ok();
    let machine_only = std::env::var("MACHINE").ok();
    let brief = std::env::var("BRIEF").is_ok();
    let mut cases = read_cases();
    cases.retain(|c| only.as_ref().is_none_or(|o| c.name.contains(o.as_str())));
    assert!(!cases.is_empty(), "no case");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some(c) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    for (name, machine, caps) in machines() {
                        let taken = !c.cpu || matches!(machine, MachineClass::Cpu(_));
                        if !taken || machine_only.as_ref().is_some_and(|m| m != name) {
                            continue;
                        }
                        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            check(c, &machine, &caps, only.is_some() && machine_only.is_some())
                        }));
                        let message = match result {
                            Ok(Ok(())) => continue,
                            Ok(Err(e)) => e,
                            Err(p) => {
                                let text =
                                    p.downcast_ref::<String>().cloned().or_else(|| p.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                                format!("panics: {}", text.unwrap_or_default())
                            }
                        };
                        let message = if brief { message.lines().take(6).collect::<Vec<_>>().join("\n") } else { message };
                        failures.lock().expect("no thread panics here").push((c.name.clone(), name, message));
                        break;
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics here");
    failures.sort();
    let text: String = failures.iter().map(|(c, m, e)| format!("== {c} on {m}: {e}\n")).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{text}", failures.len(), cases.len());
}

/// Relative error of a product by the L2 norm, against sums in f64.
fn error_of(machine: &MachineClass, c: &Case) -> f64 {
    let mut diags = Diags::new();
    let compiled =
        pipeline::compile(c.graph.clone(), machine, machine, Math::F32, None, &mut diags).unwrap_or_else(|_| panic!("{:#?}", diags.all()));
    let made = execute(&compiled.pack, &compiled.pack.plan, &Packed::new(), &[]).expect("weights are packed");
    let packed: Packed = compiled.pack.plan.outputs.iter().zip(made).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
    let (_, inputs) = runs(c).swap_remove(0);
    let got = execute(&compiled.main, &compiled.main.plan, &packed, &inputs).expect("a product runs");
    let wide: Vec<Tensor> = inputs.iter().map(|t| Tensor::from_f64(DType::F64, t.dims.clone(), &t.to_f64())).collect();
    let text = text::print(&c.graph).replace("f32[40,300] = input", "f64[40,300] = input").replace("spec=", "acc=f64, out=f64, spec=");
    let text = text.replace("%2: f32[40,64] = contract(%0, %1)", "%2: f64[300,64] = cast(%1)\n%3: f64[40,64] = contract(%0, %2)");
    let exact = text::parse(&text.replace("\"y\" %2", "\"y\" %3")).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
    let want = graph_interp::run(&exact, &wide, &graph_interp::Options::default()).expect("the graph runs");
    let (a, b) = (want[0].to_f64(), got[0].to_f64());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(&b).map(|(x, y)| x - y)) / norm(&mut a.iter().copied())
}

#[test]
fn products_of_parts_are_as_exact_as_f32() {
    let text = "graph \"parts\"\n%0: f32[40,300] = input \"a\"\n%1: f32[300,64] = weight<f32 300x64 \"w\" seed:1>\n\
                %2: f32[40,64] = contract(%0, %1) {spec=\"mk,kn->mn\"}\noutput \"y\" %2\n";
    let graph = text::parse(text).unwrap_or_else(|d| panic!("{d:#?}"));
    let c = read_case("products", text, graph);
    let by_name = |n: &str| machines().into_iter().find(|m| m.0 == n).map(|m| m.1).expect("a machine of that name");
    let (plain, parts) = (error_of(&by_name("v64"), &c), error_of(&by_name("tiles"), &c));
    assert!(parts <= plain && plain < 1e-6, "products of parts are off by {parts:e}, those of f32 by {plain:e}");
}

/// A sum over three experts, of which each row takes one: expert 1 is made of NaN and infinities.
const EXPERTS: &str = "graph \"experts\" symbols N in 1..8
%0: f32[N,2] = input \"x\"
%1: i64[N,1] = input \"chosen\"
%2: f32[N,2] = contract(%0, weight<f32 2x2 \"w.0\" [1.0, 2.0, 3.0, 4.0]>) {spec=\"ak,kn->an\"}
%3: bool[N,1] = eq(%1, i64 0)
%4: f32[N,1] = cast(%3)
%5: f32[N,1] = reduce(%4) {op=sum, axes=[1], keep=true}
%6: f32[N,2] = mul(%2, %5)
%7: f32[N,2] = contract(%0, weight<f32 2x2 \"w.1\" [nan, inf, -inf, nan]>) {spec=\"ak,kn->an\"}
%8: bool[N,1] = eq(%1, i64 1)
%9: f32[N,1] = cast(%8)
%10: f32[N,1] = reduce(%9) {op=sum, axes=[1], keep=true}
%11: f32[N,2] = mul(%7, %10)
%12: f32[N,2] = contract(%0, weight<f32 2x2 \"w.2\" [5.0, 6.0, 7.0, 8.0]>) {spec=\"ak,kn->an\"}
%13: bool[N,1] = eq(%1, i64 2)
%14: f32[N,1] = cast(%13)
%15: f32[N,1] = reduce(%14) {op=sum, axes=[1], keep=true}
%16: f32[N,2] = mul(%12, %15)
%17: f32[N,2] = add(%6, %11)
%18: f32[N,2] = add(%17, %16)
output \"y\" %18
";

#[test]
fn experts_that_no_row_chose_have_no_influence() {
    let graph = text::parse(EXPERTS).unwrap_or_else(|d| panic!("{d:#?}"));
    let x = Tensor::from_f64(DType::F32, vec![3, 2], &[1.0, 1.0, -1.0, 2.0, 0.5, 0.0]);
    for (name, machine, _) in machines() {
        let mut diags = Diags::new();
        let compiled = pipeline::compile(graph.clone(), &machine, &machine, Math::F32, None, &mut diags)
            .unwrap_or_else(|_| panic!("{name}: {:#?}", diags.all()));
        let made = execute(&compiled.pack, &compiled.pack.plan, &Packed::new(), &[]).expect("weights are packed");
        let packed: Packed = compiled.pack.plan.outputs.iter().zip(made).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
        let run = |chosen: [f64; 3]| {
            let chosen = Tensor::from_f64(DType::I64, vec![3, 1], &chosen);
            let got = execute(&compiled.main, &compiled.main.plan, &packed, &[x.clone(), chosen]).expect("a program runs");
            got.first().map(Tensor::to_f64).unwrap_or_default()
        };
        assert_eq!(run([0.0, 2.0, 0.0]), [4.0, 6.0, 9.0, 10.0, 0.5, 1.0], "{name}");
        // A row that did choose it has it, and nobody else has.
        let got = run([0.0, 1.0, 2.0]);
        assert!(got[2].is_nan() && got[3].is_nan(), "{name}: {got:?}");
        assert_eq!([got[0], got[1], got[4], got[5]], [4.0, 6.0, 2.5, 3.0], "{name}");
    }
}
