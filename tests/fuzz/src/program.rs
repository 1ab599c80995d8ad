// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graphs to programs without LLVM, and whether a program computes what its graph means.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portwright_ir::diag::{Code, Diagnostic, Diags};
use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::{self as graph_interp, Tensor};
use portwright_ir::graph::{Graph, Op, ValueId};
use portwright_ir::kernel::interp::RunOptions;
use portwright_ir::numerics;
use portwright_ir::plan::{self, interp as plan_interp};
use portwright_ir::weight::WeightSource;
use portwright_passes::kernel_rules::{self, KernelCaps};
use portwright_passes::pipeline::{self, Compiled};
use portwright_passes::plan::{Program, WeightInit};
use portwright_passes::spec::{CpuSpec, MachineClass, Math};

use crate::draw::Draw;

/// Most bytes that the interpreters may hold, and most instructions of a launch.
const BYTES: u64 = 256 << 20;
const INSTRUCTIONS: u64 = 8 << 20;

/// A machine of wide vectors with masks, or of narrow ones without.
pub fn machine(wide: bool) -> (MachineClass, KernelCaps) {
    let class = MachineClass::Cpu(CpuSpec {
        vec_bytes: if wide { 64 } else { 16 },
        vec_regs: 32,
        masked_mem: wide,
        fma: true,
        l1_bytes: 32 << 10,
        l2_bytes: 1 << 20,
        dots: &[],
        tiles: &[],
    });
    (class, KernelCaps { masked_bits: if wide { &[8, 16, 32, 64] } else { &[] }, fma: true, f16_convert: wide })
}

/// Compiles a graph for a machine.
///
/// # Errors
/// All that was reported.
pub fn compile(g: Graph, wide: bool) -> Result<Compiled, Vec<Diagnostic>> {
    let (class, caps) = machine(wide);
    let mut diags = Diags::new();
    let Ok(mut c) = pipeline::compile(g, &class, &class, Math::F32, None, &mut diags) else { return Err(diags.take()) };
    kernel_rules::legalize(&mut c.main.module, &caps);
    kernel_rules::legalize(&mut c.pack.module, &caps);
    c.streams.iter_mut().for_each(|s| kernel_rules::legalize(&mut s.program.module, &caps));
    Ok(c)
}

fn graph_options() -> graph_interp::Options {
    graph_interp::Options { max_bytes: BYTES, loop_limit: 256, images: Some(portwright_runtime::image::read), ..Default::default() }
}

/// Runs a program in the interpreters of plans and kernels.
fn execute(p: &Program, packed: &HashMap<Arc<str>, Vec<u8>>, inputs: &[Tensor]) -> Result<Vec<Tensor>, plan_interp::RunError> {
    let weight = |i: u32| match p.weights.get(i as usize)? {
        WeightInit::Literal(l) => Some(l.bytes.to_vec()),
        WeightInit::Weight(w) => match &w.source {
            WeightSource::Seed(s) => numerics::seeded_bytes(*s, w.dtype, &w.dims),
            WeightSource::Packed => packed.get(&w.name).cloned(),
            _ => w.bytes().map(<[u8]>::to_vec),
        },
    };
    let options = plan_interp::Options {
        kernel: RunOptions { limit: Some(INSTRUCTIONS), ..Default::default() },
        max_bytes: BYTES,
        loop_limit: 256,
        images: Some(portwright_runtime::image::read),
    };
    plan_interp::run(&p.module, &p.plan, inputs, &weight, &options)
}

/// Whether a program computes what its graph means; both may refuse the same data.
///
/// # Errors
/// Where they differ, in words.
pub fn agrees(g: &Graph, c: &Compiled, inputs: &[Tensor]) -> Result<(), String> {
    match both(g, c, inputs)? {
        Some((want, got)) => same(g, inputs, &want, &got),
        None => Ok(()),
    }
}

/// What a graph gives, and what its program gives; `None` where both refuse the data, or the interpreters cannot tell.
///
/// # Errors
/// Where one refuses what the other takes, and faults of the program's own.
pub fn both(g: &Graph, c: &Compiled, inputs: &[Tensor]) -> Result<Option<(Vec<Tensor>, Vec<Tensor>)>, String> {
    for p in [&c.pack, &c.main] {
        if let Some(f) = plan::verify(&p.plan, &p.module).first() {
            return Err(format!("the plan is wrong: {f:?}"));
        }
    }
    let want = graph_interp::run(g, inputs, &graph_options());
    if want.as_ref().is_err_and(|e| e.code == Code::OVER_MEMORY || e.code == Code::NOT_SUPPORTED) {
        return Ok(None);
    }
    let packed = match execute(&c.pack, &HashMap::new(), &[]) {
        Ok(p) => p,
        // What fails with any input may fail before there is one.
        Err(e) if want.is_err() && e.code != Code::INTERNAL => return Ok(None),
        Err(e) if gives_up(&e) => return Ok(None),
        Err(e) => return Err(format!("the pack program: {e}")),
    };
    let packed: HashMap<Arc<str>, Vec<u8>> =
        c.pack.plan.outputs.iter().zip(packed).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
    let got = execute(&c.main, &packed, inputs);
    let is_input = |path: &str| g.inputs().iter().any(|&v| g.values()[v].name.as_deref() == Some(path));
    let computes = |path: &str| c.main.plan.origins.values().any(|o| o.paths.iter().any(|p| **p == *path));
    match (want, got) {
        (Ok(w), Ok(g)) => Ok(Some((w, g))),
        (_, Err(e)) if e.code == Code::OVER_MEMORY || gives_up(&e) => Ok(None),
        (Err(_), Err(e)) if e.code != Code::INTERNAL => Ok(None),
        // What a program need not compute cannot fail in it.
        (Err(w), Ok(_)) if !is_input(&w.path) && (!computes(&w.path) || is_taken_in_part(g, &w.path)) => Ok(None),
        (Err(w), Ok(_)) => Err(format!("the program runs where the graph does not: {w}")),
        (_, Err(e)) => Err(format!("the program does not run: {e}")),
    }
}

/// Whether a kernel ran longer than the interpreter may.
fn gives_up(e: &plan_interp::RunError) -> bool {
    e.message.contains("more instructions than the run's limit")
}

/// Whether a part of what a node gives is taken further on, so that the rest of it need not be computed.
fn is_taken_in_part(g: &Graph, path: &str) -> bool {
    let mut from: HashSet<ValueId> = HashSet::new();
    for n in g.order() {
        let node = g.node(n);
        let takes = matches!(node.op, Op::Slice { .. } | Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. });
        let reached = node.operands.iter().any(|v| from.contains(v));
        if reached && takes {
            return true;
        }
        if reached || node.origin.paths.iter().any(|p| **p == *path) {
            from.extend(&node.results);
        }
    }
    false
}

/// Compares results with a tolerance by the coarsest float dtype of the graph. Where a difference is large, it is none of the program if
/// the graph itself answers to a change of its inputs in the last place by as much.
///
/// # Errors
/// The first result that differs.
pub fn same(g: &Graph, inputs: &[Tensor], want: &[Tensor], got: &[Tensor]) -> Result<(), String> {
    let step = g.values().values().map(|v| step(v.ty.dtype)).fold(0.0, f64::max);
    let rtol = (16.0 * step).max(2e-3);
    let mut moved: Option<Vec<Vec<Tensor>>> = None;
    for (o, (w, t)) in want.iter().zip(got).enumerate() {
        if w.dtype != t.dtype || w.dims != t.dims {
            return Err(format!("output {o} is {}{:?}, expected {}{:?}", t.dtype, t.dims, w.dtype, w.dims));
        }
        let (x, y) = (t.to_f64(), w.to_f64());
        let finite: Vec<f64> = y.iter().copied().filter(|y| y.is_finite()).collect();
        let rms = (finite.iter().map(|y| y * y).sum::<f64>() / finite.len().max(1) as f64).sqrt();
        for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
            let apart = (x - y).abs();
            if x == y || x.is_nan() && y.is_nan() || apart <= rtol * (y.abs() + rms) + step {
                continue;
            }
            let moved = moved.get_or_insert_with(|| (0..6).filter_map(|seed| nudged(g, inputs, seed, step.max(2e-7))).collect());
            let answers = |m: &Vec<Tensor>| {
                let z = m.get(o).and_then(|t| t.to_f64().get(i).copied()).unwrap_or(y);
                let by = (z - y).abs();
                by.is_nan() || by * 64.0 >= apart || !apart.is_finite() && by > 0.0
            };
            if !moved.iter().any(answers) {
                return Err(format!("output {o}, element {i} is {x}, expected {y}"));
            }
        }
    }
    Ok(())
}

fn step(d: DType) -> f64 {
    match (d.is_float(), d.bits(), d) {
        (true, 16, DType::BF16) => 2f64.powi(-7),
        (true, 16, _) => 2f64.powi(-10),
        (true, 32 | 64, _) => 2f64.powi(-23),
        (true, ..) => 0.25,
        _ => 0.0,
    }
}

/// What a graph gives for inputs that are moved a little, and results rounded otherwise.
fn nudged(g: &Graph, inputs: &[Tensor], seed: u64, by: f64) -> Option<Vec<Tensor>> {
    let mut d = Draw::seed(seed);
    let one = |t: &Tensor, d: &mut Draw<'_>| {
        if !t.dtype.is_float() {
            return t.clone();
        }
        let bits: Vec<u64> = t
            .to_f64()
            .into_iter()
            .map(|x| {
                let sign = if d.next() & 1 == 0 { 1.0 } else { -1.0 };
                numerics::encode_f64(t.dtype, x * (1.0 + sign * by * 2.0) + sign * by * 1e-3, true)
            })
            .collect();
        Tensor::from_bits(t.dtype, t.dims.clone(), bits)
    };
    let inputs: Vec<Tensor> = inputs.iter().map(|t| one(t, &mut d)).collect();
    graph_interp::run(g, &inputs, &graph_interp::Options { rounding: Some(seed), ..graph_options() }).ok()
}
