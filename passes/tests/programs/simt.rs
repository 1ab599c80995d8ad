// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels of lanes in warps: what they move, whether their shared memory is free of bank conflicts, and whether each of their orders is needed.

use portwright_ir::kernel::interp::{Copies, RunOptions};
use portwright_ir::kernel::{Kernel, Stmt, StmtId, print_kernel};

use super::*;

fn machine(name: &str) -> MachineClass {
    machines().into_iter().find(|m| m.0 == name).map(|m| m.1).expect("a machine of that name")
}

/// A graph compiled, with inputs of one run and what they give.
struct Job {
    name: &'static str,
    case: Case,
    program: Program,
    packed: Packed,
    inputs: Vec<Tensor>,
    want: Vec<Tensor>,
}

fn job(name: &'static str, machine_name: &str, text: &str) -> Job {
    let text = format!("graph \"{name}\"\n{text}");
    let graph = text::parse(&text).unwrap_or_else(|d| panic!("{name}: {d:#?}"));
    let case = read_case("simt", &text, graph);
    let mut diags = Diags::new();
    let class = machine(machine_name);
    let compiled = pipeline::compile(case.graph.clone(), &class, &class, case.math, None, &mut diags);
    let compiled = compiled.unwrap_or_else(|_| panic!("{name}: {:#?}", diags.all()));
    let made = execute(&compiled.pack, &compiled.pack.plan, &Packed::new(), &[]).expect("weights are packed");
    let packed: Packed = compiled.pack.plan.outputs.iter().zip(made).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
    let (_, inputs) = runs(&case).swap_remove(0);
    let want = graph_interp::run(&case.graph, &inputs, &graph_interp::Options::default()).expect("the graph runs");
    Job { name, case, program: compiled.main, packed, inputs, want }
}

/// What all launches of a run did together: bytes of global memory, trips to shared memory and the least that there could be.
fn counts(j: &Job) -> (u64, u64, u64) {
    let options = plan_interp::Options { kernel: RunOptions { banks: 32, ..RunOptions::default() }, ..plan_interp::Options::default() };
    let mut total = (0, 0, 0);
    let weights = |w| bytes_of(&j.program, &j.packed, w);
    let got = plan_interp::run_watched(&j.program.module, &j.program.plan, &j.inputs, &weights, &options, &mut |_, o| {
        total = (total.0 + o.global[0] + o.global[1], total.1 + o.trips, total.2 + o.least_trips);
    });
    let got = got.unwrap_or_else(|e| panic!("{}: {e}", j.name));
    compare(&j.case, &j.want, &got).unwrap_or_else(|e| panic!("{}: {e}", j.name));
    total
}

/// Bytes that have to move: every input, weight and output once.
fn compulsory(j: &Job) -> u64 {
    let stored: u64 = j.program.plan.weights.iter().map(|w| w.bytes).sum();
    j.inputs.iter().chain(&j.want).map(|t| t.bytes().len() as u64).sum::<u64>() + stored
}

/// Name, machine, graph, and how many times the compulsory bytes may move.
const MOVES: &[(&str, &str, &str, f64)] = &[
    (
        "gelu of a sum",
        "simt32",
        "%0: f32[96,256] = input \"x\"\n%1: f32[96,256] = input \"y\"\n%2: f32[96,256] = add(%0, %1)\n%3: f32[96,256] = gelu(%2)\noutput \"z\" %3\n",
        1.0,
    ),
    ("softmax", "simt32", "%0: f32[40,1000] = input \"x\"\n%1: f32[40,1000] = softmax(%0) {axis=1}\noutput \"y\" %1\n", 1.0),
    ("softmax of long rows", "simt64", "%0: f32[3,8000] = input \"x\"\n%1: f32[3,8000] = softmax(%0) {axis=1}\noutput \"y\" %1\n", 1.0),
    (
        "normalization",
        "simt32",
        "%0: f32[24,768] = input \"x\"\n%1: f32[768] = input \"g\"\n%2: f32[768] = input \"b\"\n%3: f32[24,768] = layer_norm(%0, %1, %2) {axis=1, eps=1e-5}\noutput \"y\" %3\n",
        2.2,
    ),
    (
        "sum of columns",
        "simt32",
        "%0: f32[512,96] = input \"x\"\n%1: f32[96] = reduce(%0) {op=sum, axes=[0], keep=false}\noutput \"y\" %1\n",
        1.01,
    ),
    (
        "sum of rows",
        "simt128",
        "%0: f16[64,512] = input \"x\"\n%1: f16[64] = reduce(%0) {op=sum, axes=[1], keep=false}\noutput \"y\" %1\n",
        1.01,
    ),
    ("transpose", "simt32", "%0: f32[70,300] = input \"x\"\n%1: f32[300,70] = transpose(%0) {perm=[1,0]}\noutput \"y\" %1\n", 1.0),
    (
        "one row, weights along the sum",
        "simt32",
        "%0: f16[1,512] = input \"x\"\n%1: f16[256,512] = input \"w\"\n%2: f16[1,256] = contract(%0, %1) {spec=\"mk,nk->mn\", acc=f32, out=f16}\noutput \"y\" %2\n",
        2.1,
    ),
    (
        "one row, weights along the columns",
        "simt32",
        "%0: f32[1,512] = input \"x\"\n%1: f32[512,256] = input \"w\"\n%2: f32[1,256] = contract(%0, %1) {spec=\"mk,kn->mn\", acc=f32, out=f32}\noutput \"y\" %2\n",
        1.3,
    ),
    (
        "one row, nibbles along the sum",
        "simt32",
        "%0: f16[1,512] = input \"x\"\n%1: u4[4096,512] = weight<u4 4096x512 \"w\" seed:1>\n%2: f16[4096,16] = weight<f16 4096x16 \"s\" seed:2>\n%3: f16[1,4096] = contract_blocks(%0, %1, %2) {block=32, narrow=true, zero=8}\noutput \"y\" %3\n",
        1.3,
    ),
    (
        "one query of two groups of heads over many keys",
        "simt32",
        "%0: f16[1,8,1,32] = input \"q\"\n%1: f16[1,2,2048,32] = input \"k\"\n%2: f16[1,2,2048,32] = input \"v\"\n%3: f16[1,8,1,32] = attention(%0, %1, %2) {scale=0.2}\noutput \"y\" %3\n",
        1.1,
    ),
    (
        "one query of latent heads",
        "simt32",
        "%0: bf16[1,16,1,576] = input \"q\"\n%1: bf16[1,1,128,576] = input \"k\"\n%2: bf16[1,1,128,512] = input \"v\"\n%3: bf16[1,16,1,512] = attention(%0, %1, %2) {scale=0.07}\noutput \"y\" %3\n",
        1.1,
    ),
    (
        "the largest of rows",
        "simt32",
        "%0: f32[4,2048] = input \"x\"\n%1: f32[4,8], %2: i64[4,8] = top_k(%0) {axis=1, k=8}\noutput \"v\" %1\noutput \"i\" %2\n",
        1.01,
    ),
    (
        "depthwise convolution",
        "simt32",
        "%0: f16[1,16,28,32] = input \"x\"\n%1: f16[1,16,28,32] = conv(%0, weight<f16 16x1x3x3 \"w\" seed:1>) {strides=[1,1], dilations=[1,1], pads=[1,1,1,1], groups=16}\noutput \"y\" %1\n",
        1.01,
    ),
];

/// `cargo test -p portwright-passes --test programs bytes -- --nocapture` prints the table.
#[test]
fn bytes_that_move_are_near_the_compulsory_ones() {
    let mut wrong = Vec::new();
    for &(name, machine, text, most) in MOVES {
        let j = job(name, machine, text);
        let (moved, least) = (counts(&j).0, compulsory(&j));
        let ratio = moved as f64 / least as f64;
        println!("{name} on {machine}: {moved} bytes, {ratio:.3} of the compulsory {least}");
        if ratio > most {
            wrong.push(format!("{name}: {ratio:.3}, at most {most}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Products whose operands lie in shared memory, with the trips to its banks that they may take for each one that they have to.
const TILES_OF: &[(&str, &str, &str, f64)] = &[
    ("transpose", "simt32", "%0: f32[70,300] = input \"x\"\n%1: f32[300,70] = transpose(%0) {perm=[1,0]}\noutput \"y\" %1\n", 1.0),
    ("transpose of halves", "simt64", "%0: f16[64,96] = input \"x\"\n%1: f16[96,64] = transpose(%0) {perm=[1,0]}\noutput \"y\" %1\n", 2.0),
    (
        "f16",
        "simt32",
        "%0: f16[64,128] = input \"a\"\n%1: f16[128,64] = input \"b\"\n%2: f32[64,64] = contract(%0, %1) {spec=\"mk,kn->mn\", acc=f32, out=f32}\noutput \"y\" %2\n",
        1.0,
    ),
    (
        "f16, transposed",
        "simt32",
        "%0: f16[128,64] = input \"a\"\n%1: f16[64,128] = input \"b\"\n%2: f32[64,64] = contract(%0, %1) {spec=\"km,nk->mn\", acc=f32, out=f32}\noutput \"y\" %2\n",
        1.0,
    ),
    (
        "attention",
        "simt32",
        "%0: f16[1,1,64,64] = input \"q\"\n%1: f16[1,1,128,64] = input \"k\"\n%2: f16[1,1,128,64] = input \"v\"\n%3: f16[1,1,64,64] = attention(%0, %1, %2) {scale=0.125}\noutput \"y\" %3\n",
        1.0,
    ),
    (
        "attention of latent heads",
        "simt32",
        "%0: bf16[1,1,64,192] = input \"q\"\n%1: bf16[1,1,128,192] = input \"k\"\n%2: bf16[1,1,128,128] = input \"v\"\n%3: bf16[1,1,64,128] = attention(%0, %1, %2) {scale=0.07}\noutput \"y\" %3\n",
        1.0,
    ),
    (
        "f32",
        "simt32",
        "%0: f32[64,128] = input \"a\"\n%1: f32[128,64] = input \"b\"\n%2: f32[64,64] = contract(%0, %1) {spec=\"mk,kn->mn\", acc=f32, out=f32}\noutput \"y\" %2\n",
        1.35,
    ),
];

/// `cargo test -p portwright-passes --test programs banks -- --nocapture` prints the table.
#[test]
fn banks_of_shared_memory_do_not_conflict() {
    let mut wrong = Vec::new();
    for &(name, machine, text, most) in TILES_OF {
        let (_, trips, least) = counts(&job(name, machine, text));
        let ratio = trips as f64 / least.max(1) as f64;
        println!("{name} on {machine}: {trips} trips, {ratio:.3} of {least}");
        if least == 0 || ratio > most {
            wrong.push(format!("{name}: {ratio:.3}, at most {most}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One graph for each family of kernels that has an order of its own: its name, its machine and its text.
fn families() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let blocks = include_str!("../../cases/orders.graphs").split("\n#: ").skip(1);
    blocks.map(|b| {
        let (head, text) = b.split_once('\n').expect("a graph under its head");
        let (machine, name) = head.split_once(' ').expect("a machine and a family");
        (name, machine, text)
    })
}

fn orders(s: &Stmt) -> bool {
    matches!(s, Stmt::Barrier(_) | Stmt::Commit(_) | Stmt::Wait(..) | Stmt::Fence(_))
}

fn without(k: &mut Kernel, s: StmtId) {
    let blocks = k.stmts.values_mut().flat_map(|x| match x {
        Stmt::For { body, .. } | Stmt::Role { body, .. } | Stmt::Each { body, .. } => vec![body],
        Stmt::If { then, els, .. } => vec![then, els],
        _ => vec![],
    });
    blocks.chain(std::iter::once(&mut k.body)).for_each(|b| b.retain(|x| *x != s));
}

/// Who reports a program, if anybody does.
fn caught(j: &Job, module: &Module, id: KernelId) -> Option<String> {
    if let Err(f) = kernel::verify(module, id, &kernel::Limits::default()) {
        return Some(format!("verifier: {}", f[0].message));
    }
    [(Copies::Lazy, 0), (Copies::Eager, 7)].into_iter().find_map(|(copies, seed)| {
        let options =
            plan_interp::Options { kernel: RunOptions { copies, seed, ..RunOptions::default() }, ..plan_interp::Options::default() };
        let weights = |w| bytes_of(&j.program, &j.packed, w);
        match plan_interp::run(module, &j.program.plan, &j.inputs, &weights, &options) {
            Err(e) => Some(format!("interpreter: {}", e.message.lines().next().unwrap_or(""))),
            Ok(got) => compare(&j.case, &j.want, &got).err().map(|e| format!("result: {e}")),
        }
    })
}

/// Without any one barrier, commit or wait, the verifier or the interpreter reports a fault.
/// `cargo test -p portwright-passes --test programs order -- --nocapture` prints who catches what.
#[test]
fn every_order_of_scheduled_kernels_is_needed() {
    let (mut missed, mut all) = (Vec::new(), 0);
    for (name, machine, text) in families() {
        let j = job(name, machine, text);
        let mut found = 0;
        for (id, k) in j.program.module.kernels.iter() {
            assert_eq!(caught(&j, &j.program.module, id), None, "{name} as written");
            let printed = print_kernel(&j.program.module, k);
            for (s, _) in k.stmts.iter().filter(|(_, s)| orders(s)) {
                let mut bad = j.program.module.clone();
                without(&mut bad.kernels[id], s);
                let by = caught(&j, &bad, id);
                let line = format!("{name}: {} line {} without `{}`", k.name, printed.line_of(s), printed.line(s));
                println!("{line} | {}", by.as_deref().unwrap_or("MISSED"));
                found += 1;
                if by.is_none() {
                    missed.push(line);
                }
            }
        }
        assert!(found > 0, "{name} has no order");
        all += found;
    }
    assert!(missed.is_empty(), "{} of {all} are not missed:\n{}", missed.len(), missed.join("\n"));
}

/// Where sizes are not known there are kernels with narrow and with wide indices, and both compute the same.
#[test]
fn wide_indices_compute_what_narrow_ones_do() {
    let text = "graph \"wide\" symbols M in 1..2000000000, N in 1..2000000000\n# dims M=37 N=70\n%0: f32[M,N] = input \"x\"\n%1: f32[N] = input \"b\"\n\
                %2: f32[M,N] = add(%0, %1)\n%3: f32[M,N] = softmax(%2) {axis=1}\n%4: f32[M,M] = contract(%3, %0) {spec=\"mk,nk->mn\", acc=f32, out=f32}\n\
                %5: f32[N,M] = transpose(%0) {perm=[1,0]}\n%6: f32[M,N] = scan(%0) {op=sum, axis=1, exclusive=false, reverse=false}\n\
                output \"p\" %4\noutput \"t\" %5\noutput \"s\" %6\n";
    let graph = text::parse(text).unwrap_or_else(|d| panic!("{d:#?}"));
    let case = read_case("simt", text, graph);
    for name in ["simt32", "simt128"] {
        let (class, mut diags) = (machine(name), Diags::new());
        let compiled = pipeline::compile(case.graph.clone(), &class, &class, case.math, None, &mut diags);
        let p = compiled.unwrap_or_else(|_| panic!("{:#?}", diags.all())).main;
        let narrow = check_program(&p).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut wide = narrow.clone();
        let mut choices = 0;
        for s in &mut wide.body {
            if let plan::Stmt::Choose { cases } = s {
                let (_, launch) = cases.pop().expect("a choice has cases");
                *s = plan::Stmt::Launch(launch);
                choices += 1;
            }
        }
        assert!(choices >= 4, "{name}: {choices} choices");
        let (_, inputs) = runs(&case).pop().expect("a run");
        let want = graph_interp::run(&case.graph, &inputs, &graph_interp::Options::default()).expect("the graph runs");
        for (which, plan) in [("narrow", &narrow), ("wide", &wide)] {
            let got = execute(&p, plan, &Packed::new(), &inputs).unwrap_or_else(|e| panic!("{name}, {which}: {e}"));
            compare(&case, &want, &got).unwrap_or_else(|e| panic!("{name}, {which}: {e}"));
        }
    }
}
