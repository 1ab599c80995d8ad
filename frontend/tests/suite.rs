// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the ONNX backend suite through import and the graph interpreter: the oracle of every importer.
//!
//! `PORTWRIGHT_SUITE` names a folder of suites (`node/`, `simple/`, ...), each a folder of cases with `model.onnx` and `test_data_set_N`.
//! Arguments filter cases by name. The closing lines count passed, failed and unsupported cases and group what is missing by reason.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use portwright_frontend::{ImportOptions, TestTensor, import, tensor_from_pb};
use portwright_ir::diag::{Code, Diags};
use portwright_ir::graph::Graph;
use portwright_ir::graph::interp::{Options, Tensor, run};
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
    let Some(root) = std::env::var_os("PORTWRIGHT_SUITE").map(PathBuf::from) else {
        println!("suite: skipped: PORTWRIGHT_SUITE is not set");
        return;
    };
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in cases(&root) {
        let name = case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !filter.is_empty() && !filter.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&case))).unwrap_or_else(|_| Outcome::Failed("panicked".into()));
        match outcome {
            Outcome::Passed => passed += 1,
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
    println!("suite: {passed} passed, {failed} failed, {unsupported} unsupported");
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

fn check(case: &Path) -> Outcome {
    let mut diags = Diags::new();
    let Ok(model) = import(&case.join("model.onnx"), &ImportOptions::default(), &mut diags) else {
        let Some(d) = diags.all().iter().find(|d| d.severity == portwright_ir::diag::Severity::Error) else {
            return Outcome::Failed("no diagnostic".into());
        };
        let why = format!("{} {}: {}", d.code, d.op.as_deref().unwrap_or("model"), d.message);
        let known = [Code::UNKNOWN_OP, Code::UNSUPPORTED_FORM, Code::MISSING_TYPE];
        return if diags.all().iter().all(|d| known.contains(&d.code)) { Outcome::Unsupported(why) } else { Outcome::Failed(why) };
    };
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
