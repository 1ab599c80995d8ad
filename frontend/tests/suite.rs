// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs test cases through import and the graph interpreter: the oracle of every importer.
//!
//! The cases of `tests/vendor` (operators of `com.microsoft`) and `tests/ort` (forms of others that the ONNX suite has no case of), with the
//! results of ONNX Runtime, written by `gen.py` there, always run, the ONNX backend suite when it is at hand:
//! `PORTWRIGHT_SUITE` names a folder of suites (`node/`, `simple/`, ...), each a folder of cases with `model.onnx` and `test_data_set_N`.
//! Arguments filter cases by name; `--mutate=N` instead imports N damaged copies of each model, none of which may panic. The closing lines count passed, failed and unsupported cases and group what is missing by reason.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use portwright_frontend::{ImportOptions, TestTensor, import, import_bytes, tensor_from_pb};
use portwright_ir::diag::{Code, Diags};
use portwright_ir::graph::interp::{Options, Tensor, run};
use portwright_ir::graph::text;
use portwright_ir::graph::verify::verify;
use portwright_ir::graph::{Graph, Literal, Op};
use portwright_ir::numerics;

/// Relative and absolute tolerance of ONNX's own runner.
const RTOL: f64 = 1e-3;
const ATOL: f64 = 1e-7;

enum Outcome {
    Passed,
    Failed(String),
    Unsupported(String),
}

fn main() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let suite = std::env::var_os("PORTWRIGHT_SUITE").map(PathBuf::from);
    if suite.is_none() {
        println!("suite: the ONNX backend suite is skipped: PORTWRIGHT_SUITE is not set");
    }
    let roots: Vec<PathBuf> = [own].into_iter().chain(suite).collect();
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if let Some(n) = std::env::args().find_map(|a| a.strip_prefix("--mutate=")?.parse().ok()) {
        return mutate(&roots, &filter, n);
    }
    let known: Vec<&str> = include_str!("suite.known").lines().filter(|l| !l.starts_with('#')).collect();
    let (mut passed, mut failed, mut unsupported, mut differ) = (0, 0, 0, 0);
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in roots.iter().flat_map(|r| cases(r)) {
        let name = case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !filter.is_empty() && !filter.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&case))).unwrap_or_else(|_| Outcome::Failed("panicked".into()));
        match outcome {
            Outcome::Passed => {
                passed += 1;
                if known.contains(&name.as_str()) {
                    println!("{name} passes and is on suite.known");
                }
            }
            Outcome::Failed(_) if known.contains(&name.as_str()) => differ += 1,
            Outcome::Failed(why) => {
                failed += 1;
                println!("FAILED {name}: {why}");
            }
            Outcome::Unsupported(why) => {
                unsupported += 1;
                reasons.entry(why).or_default().push(name);
            }
        }
    }
    let mut reasons: Vec<(String, Vec<String>)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
    for (why, cases) in &reasons {
        println!("unsupported {:4}  {why}  ({})", cases.len(), cases[0]);
    }
    println!("suite: {passed} passed, {failed} failed, {differ} known to differ, {unsupported} unsupported");
    assert_eq!(failed, 0, "cases failed, listed above");
}

/// Imports damaged copies of each model: a byte changed, cut, or doubled at seeded places.
fn mutate(roots: &[PathBuf], filter: &[String], n: u64) {
    let (mut count, mut panics) = (0u64, 0u64);
    for case in roots.iter().flat_map(|r| cases(r)) {
        let name = case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let Ok(good) = std::fs::read(case.join("model.onnx")) else { continue };
        if good.len() > 1 << 16 || !(filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()))) {
            continue;
        }
        let mut state = name.bytes().fold(1u64, |h, b| h.wrapping_mul(0x100_0000_01b3) ^ u64::from(b));
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for _ in 0..n {
            let mut b = good.clone();
            for _ in 0..1 + random() % 3 {
                let at = (random() % b.len() as u64) as usize;
                match random() % 4 {
                    0 => b[at] = random() as u8,
                    1 => b[at] = b[at].wrapping_add(1),
                    2 => b[at] = 0xff,
                    _ => b[at] ^= 1 << (random() % 8),
                }
            }
            count += 1;
            let start = std::time::Instant::now();
            let mut diags = Diags::new();
            let r = catch_unwind(AssertUnwindSafe(|| import_bytes(&b, None, &ImportOptions::default(), &mut diags).is_ok()));
            if r.is_err() || start.elapsed().as_secs() > 5 {
                panics += 1;
                println!("FAILED {name}: {}", if r.is_err() { "panicked" } else { "took longer than 5 s" });
            }
        }
    }
    println!("mutations: {count} imported, {panics} failed");
    assert_eq!(panics, 0, "cases failed, listed above");
}

/// Folders with a model, two levels down. Whole networks are left to the native runner, which is fast enough for them.
fn cases(root: &Path) -> Vec<PathBuf> {
    let list = |p: &Path| -> Vec<PathBuf> {
        let mut l: Vec<PathBuf> = std::fs::read_dir(p).map(|d| d.filter_map(|e| e.ok().map(|e| e.path())).collect()).unwrap_or_default();
        l.sort();
        l
    };
    let groups = list(root).into_iter().filter(|g| g.file_name().is_some_and(|n| n != "light"));
    groups.flat_map(|g| list(&g)).filter(|c| c.join("model.onnx").is_file()).collect()
}

/// A case whose axes are inputs is compiled for the values of its first data set.
fn check(case: &Path) -> Outcome {
    match check_with(case, &ImportOptions::default()) {
        Outcome::Unsupported(why) if why.contains("must be known when the model is compiled") => {
            let Ok(inputs) = tensors(&case.join("test_data_set_0"), "input") else { return Outcome::Unsupported(why) };
            let shapes = |t: &TestTensor| if t.dtype.is_float() { t.dims.len() <= 1 && t.data.len() <= 64 } else { t.data.len() <= 512 };
            let small = inputs.into_iter().filter(|t| !t.name.is_empty() && shapes(t));
            let fixed = small.filter_map(|t| Some((t.name, Literal::new(t.dtype, &t.dims, t.data)?))).collect();
            check_with(case, &ImportOptions { fixed, ..Default::default() })
        }
        other => other,
    }
}

fn check_with(case: &Path, opts: &ImportOptions) -> Outcome {
    let mut diags = Diags::new();
    let Ok(model) = import(&case.join("model.onnx"), opts, &mut diags) else {
        let Some(d) = diags.all().iter().find(|d| d.severity == portwright_ir::diag::Severity::Error) else {
            return Outcome::Failed("no diagnostic".into());
        };
        let why = format!("{} {}: {}", d.code, d.op.as_deref().unwrap_or("model"), d.message);
        let known = [Code::UNKNOWN_OP, Code::UNSUPPORTED_FORM, Code::MISSING_TYPE];
        return if diags.all().iter().all(|d| known.contains(&d.code)) { Outcome::Unsupported(why) } else { Outcome::Failed(why) };
    };
    if let Err(e) = well_formed(&model.graph) {
        return Outcome::Failed(e);
    }
    // Random numbers are those of the generator, which ONNX leaves open.
    if model.graph.node_ids().any(|n| matches!(model.graph.node(n).op, Op::RandomUniform { .. })) {
        return Outcome::Unsupported("random numbers".into());
    }
    for set in 0.. {
        let folder = case.join(format!("test_data_set_{set}"));
        if !folder.is_dir() {
            break;
        }
        match check_set(&model.graph, &folder) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}

/// What is imported passes the verifier, and its text reads back as the same graph.
fn well_formed(g: &Graph) -> Result<(), String> {
    if let Some(d) = verify(g).first() {
        return Err(format!("verifier: {} {}: {}", d.code, d.path.as_deref().unwrap_or(""), d.message));
    }
    let printed = text::print(g);
    match text::parse(&printed) {
        Ok(again) if text::print(&again) == printed => Ok(()),
        Ok(_) => Err("its text reads back as another graph".into()),
        Err(d) => Err(format!("its text does not read back: {}", d.first().map_or("", |d| d.message.as_str()))),
    }
}

fn tensors(folder: &Path, prefix: &str) -> Result<Vec<TestTensor>, String> {
    let mut out = Vec::new();
    for i in 0.. {
        let path = folder.join(format!("{prefix}_{i}.pb"));
        let Ok(bytes) = std::fs::read(&path) else { break };
        out.push(tensor_from_pb(&bytes, Some(folder))?);
    }
    Ok(out)
}

fn check_set(g: &Graph, folder: &Path) -> Outcome {
    let (inputs, expected) = match (tensors(folder, "input"), tensors(folder, "output")) {
        (Ok(i), Ok(o)) => (i, o),
        (Err(e), _) | (_, Err(e)) => return Outcome::Unsupported(e),
    };
    let mut fed = Vec::new();
    for (i, &v) in g.inputs().iter().enumerate() {
        let name = g.value(v).name.as_deref().unwrap_or_default();
        let Some(t) = inputs.iter().find(|t| t.name == name).or_else(|| inputs.get(i)) else {
            return Outcome::Failed(format!("no data for input `{name}`"));
        };
        let dims = t.dims.iter().map(|d| *d as usize).collect();
        match Tensor::new(t.dtype, dims, t.data.clone()) {
            Some(t) => fed.push(t),
            None => return Outcome::Failed(format!("data of input `{name}` does not fit")),
        }
    }
    let found = match run(g, &fed, &Options::default()) {
        Ok(f) => f,
        // What reads images is no part of the interpreter.
        Err(e) if e.code == Code::NOT_SUPPORTED => return Outcome::Unsupported(format!("run: {}", e.message)),
        Err(e) => return Outcome::Failed(format!("run: {e}")),
    };
    for (i, t) in expected.iter().enumerate() {
        let at = g.outputs().iter().position(|o| *o.name == *t.name).unwrap_or(i);
        let Some(f) = found.get(at) else { return Outcome::Failed(format!("output {i} is missing")) };
        if let Err(e) = compare(t, f) {
            return Outcome::Failed(format!("output {i}: {e}"));
        }
    }
    Outcome::Passed
}

fn compare(want: &TestTensor, found: &Tensor) -> Result<(), String> {
    let dims: Vec<i64> = found.dims.iter().map(|d| *d as i64).collect();
    if dims != want.dims || found.dtype != want.dtype {
        return Err(format!("{}{:?}, expected {}{:?}", found.dtype, dims, want.dtype, want.dims));
    }
    let real = want.dtype.is_float();
    if real && distance(want, found) <= bound() {
        return Ok(());
    }
    for i in 0..found.len() {
        let (a, b) = (numerics::get(&want.data, want.dtype, i), found.bits(i));
        if a == b {
            continue;
        }
        let (x, y) = (numerics::decode_f64(want.dtype, a), numerics::decode_f64(want.dtype, b));
        let near = real && ((x.is_nan() && y.is_nan()) || x == y || (x - y).abs() <= ATOL + RTOL * x.abs());
        if !near {
            return Err(format!("element {i} is {y}, expected {x}"));
        }
    }
    Ok(())
}

/// Relative distance of whole tensors (L2), infinite when NaN or infinities differ.
fn distance(want: &TestTensor, found: &Tensor) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for i in 0..found.len() {
        let x = numerics::decode_f64(want.dtype, numerics::get(&want.data, want.dtype, i));
        let y = numerics::decode_f64(want.dtype, found.bits(i));
        if x == y || (x.is_nan() && y.is_nan()) {
            continue;
        }
        difference += (x - y) * (x - y);
        size += x * x;
    }
    if difference == 0.0 {
        0.0
    } else if size > 0.0 && difference.is_finite() {
        (difference / size).sqrt()
    } else {
        f64::INFINITY
    }
}

/// Largest distance that counts as equal: `PORTWRIGHT_SUITE_L2`, or what f32 arithmetic in another order gives.
fn bound() -> f64 {
    std::env::var("PORTWRIGHT_SUITE_L2").ok().and_then(|v| v.parse().ok()).unwrap_or(1e-6)
}
