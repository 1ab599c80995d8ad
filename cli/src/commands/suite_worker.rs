// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The worker of `suite`: a list of cases a line on stdin, one outcome a line on stdout for each. An empty line says that it is at work: where the
//! place that runs bundles compiles them, the cases of a list are compiled together before the first of them runs.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Lowered, Severity};
use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Literal, Op};
use portwright_runtime::blob::Kind;
use portwright_runtime::bundle::Bundle;
use portwright_runtime::manifest::{HostNode, Target};
use portwright_runtime::tensor::View;
use portwright_runtime::value::Value;
use portwright_targets::codegen::Workers;

use super::suite::{BUNDLE, MODEL, Outcome, Status, name_of};
use crate::args::{On, WorkerArgs};
use crate::compile::{Options, Scratch};
use crate::place::{self, Place, Running, Start};
use crate::progress::Progress;
use crate::{Cx, compile, model, values};

/// Tolerances of a case without a `tol.json`.
const RTOL: f64 = 1e-3;
const ATOL: f64 = 1e-7;

/// Runs cases until stdin ends.
///
/// # Errors
/// A target that does not exist.
pub fn run(a: WorkerArgs, cx: &mut Cx) -> Lowered<()> {
    limit_memory(a.max_memory);
    // A worker is a process of its own already.
    let options = Options { workers: Workers::InProcess, durable: false, ..compile::options(&a.target, cx)? };
    let place = match a.on {
        Some(On::Interpreter) => None,
        on => Some(place::choose(&compile::machine_target(&options.machine), on, cx)?),
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let cases: Vec<PathBuf> = serde_json::from_str(&line).unwrap_or_default();
        let mut made = Vec::new();
        for case in &cases {
            made.push(guarded(case, cx, |cx| Made::new(case, &a, &options, place.as_ref(), cx)));
            if cases.len() > 1 {
                say("")?;
            }
        }
        if let Some(place) = place.as_ref().filter(|_| cases.len() > 1) {
            let bundles: Vec<&Path> = made.iter().flatten().filter_map(Made::bundle).collect();
            place.prepare(&bundles);
            say("")?;
        }
        for (case, made) in cases.iter().zip(made) {
            let outcome = made.and_then(|made| guarded(case, cx, |cx| made.run(&a, place.as_ref(), cx)));
            let outcome = outcome.unwrap_or_else(|bad| *bad);
            say(&serde_json::to_string(&outcome).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Writes a line to whoever asked.
fn say(line: &str) -> Lowered<()> {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(0);
    }
    Ok(())
}

fn limit_memory(megabytes: u64) {
    let bytes = megabytes.saturating_mul(1 << 20);
    let _ = rlimit::setrlimit(rlimit::Resource::AS, bytes, bytes);
}

/// Does a part of a case; what goes wrong is how the case ended.
fn guarded<T>(case: &Path, cx: &mut Cx, part: impl FnOnce(&mut Cx) -> Lowered<T>) -> Result<T, Box<Outcome>> {
    let name = name_of(case);
    cx.diags.take();
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| part(cx))) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => {
            let list = cx.diags.take();
            let first = list.iter().find(|d| d.severity == Severity::Error).cloned();
            let d = first.unwrap_or_else(|| Diagnostic::error(Code::INTERNAL, "no reason"));
            let unsupported = d.code.exit_code() == 4 || matches!(d.code, Code::UNKNOWN_OP | Code::UNSUPPORTED_FORM | Code::IR_VERSION);
            let path = d.path.as_ref().map_or_else(String::new, |p| format!("{p}: "));
            let status = if unsupported { Status::Unsupported } else { Status::Failed };
            Err(Box::new(Outcome::bad(&name, status, Some(d.code.to_string()), format!("{path}{}", d.message))))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(Box::new(Outcome::bad(&name, Status::Failed, Some(Code::INTERNAL.to_string()), text.unwrap_or_default())))
        }
    }
}

/// What a case's model was made into.
enum Model {
    Compiled { bundle: PathBuf, target: Option<Target>, kernels: usize, device_nodes: usize, host: Vec<HostNode>, random: bool },
    Interpreted(Graph),
}

/// A case that is ready to run.
struct Made {
    case: PathBuf,
    /// Its sets of inputs and outputs.
    sets: Vec<PathBuf>,
    fixed: Vec<Fixed>,
    model: Model,
    /// Where its bundle lies.
    _scratch: Scratch,
}

/// How a case's model is run.
enum Runner {
    Executed(Running),
    Interpreted(Graph),
}

/// An input whose value the model is compiled for.
struct Fixed {
    /// Number of its file.
    number: usize,
    name: String,
    value: Literal,
}

/// Inputs of a case that may decide what the graph is, as axes, sizes and modes do: integers and truth values in one dim at most, and
/// `scales` floats as well. Their values are the same in all data sets of the case.
fn structural(sets: &[PathBuf], scales: bool) -> Vec<Fixed> {
    let read = |set: &PathBuf, number: usize| {
        let bytes = std::fs::read(set.join(format!("input_{number}.pb"))).ok()?;
        portwright_frontend::tensor_from_pb(&bytes, Some(set)).ok()
    };
    let Some((first, others)) = sets.split_first() else { return Vec::new() };
    let mut out = Vec::new();
    for number in 0.. {
        if !first.join(format!("input_{number}.pb")).is_file() {
            break;
        }
        let Some(t) = read(first, number) else { continue };
        let small = t.dims.len() <= 1 && t.dims.iter().product::<i64>() <= 64;
        let structure = t.dtype.is_int() || t.dtype == DType::Bool || scales && t.dtype.is_float();
        let same = others.iter().all(|o| read(o, number).is_some_and(|o| o.dims == t.dims && o.data == t.data));
        if small && structure && same && !t.name.is_empty() {
            out.push(Fixed { number, name: t.name, value: Literal { dtype: t.dtype, dims: t.dims, bytes: t.data.into() } });
        }
    }
    out
}

/// Whether all that stands against a model is that values of inputs are not known in advance.
fn wants_values(list: &[Diagnostic]) -> bool {
    let mut errors = list.iter().filter(|d| d.severity == Severity::Error).peekable();
    errors.peek().is_some()
        && errors.all(|d| d.code == Code::UNSUPPORTED_FORM && d.message.contains("must be known when the model is compiled"))
}

/// The case's model, compiled; or its bundle, where the case is one that was compiled before.
fn model(case: &Path, a: &WorkerArgs, options: &Options, executed: bool, fixed: &[Fixed], scratch: &Path, cx: &mut Cx) -> Lowered<Model> {
    let fixed = || fixed.iter().map(|f| (f.name.clone(), f.value.clone())).collect();
    let (file, compiled) = (case.join(MODEL), case.join(BUNDLE));
    if !executed {
        return Ok(Model::Interpreted(model::load_fixed(&file, &a.target.dims, false, fixed(), cx)?.graph));
    }
    let mut random = false;
    let (bundle, nodes) = if !file.is_file() && model::is_bundle(&compiled) {
        (compiled, None)
    } else {
        let m = model::load_fixed(&file, &a.target.dims, false, fixed(), cx)?;
        random = draws(&m.graph);
        let nodes = m.graph.node_ids().filter(|&n| !m.graph.node(n).op.is_source()).count();
        (compile::bundle(m, options, &scratch.join("model.pw"), false, &mut Progress::new(true), cx)?, Some(nodes))
    };
    let manifest = Bundle::read(&bundle).map_err(|e| cx.diags.report(Diagnostic::error(Code::BAD_BUNDLE, e.to_string())))?.manifest;
    place::fallback(&manifest.host_nodes, a.target.id(), a.max_fallback, cx)?;
    let device_nodes = nodes.unwrap_or_else(|| manifest.kernels.iter().map(|k| k.nodes.len()).sum());
    // A bundle that was compiled before says itself what it is for.
    let target = nodes.is_none().then_some(manifest.target);
    Ok(Model::Compiled { bundle, target, kernels: manifest.kernels.len(), device_nodes, host: manifest.host_nodes, random })
}

/// Whether a graph computes with numbers that no two implementations draw alike.
fn draws(g: &Graph) -> bool {
    g.node_ids().any(|n| matches!(g.node(n).op, Op::RandomUniform { .. }) || g.node(n).regions.iter().any(draws))
}

impl Made {
    /// Compiles a case.
    fn new(case: &Path, a: &WorkerArgs, options: &Options, place: Option<&Place>, cx: &mut Cx) -> Lowered<Made> {
        let scratch = Scratch::new(cx)?;
        let mut sets: Vec<PathBuf> = std::fs::read_dir(case)
            .map(|d| d.flatten().map(|e| e.path()).filter(|p| p.is_dir() && name_of(p).starts_with("test_data_set_")).collect())
            .unwrap_or_default();
        sets.sort();
        let mut fixed = Vec::new();
        let mut made = model(case, a, options, place.is_some(), &fixed, scratch.path(), cx);
        // Where the graph itself follows from an input's value, the model is compiled for the value that the case has; the record says so.
        for scales in [false, true] {
            if made.is_ok() || !wants_values(cx.diags.all()) {
                break;
            }
            let values = structural(&sets, scales);
            if values.len() > fixed.len() {
                cx.diags.take();
                fixed = values;
                made = model(case, a, options, place.is_some(), &fixed, scratch.path(), cx);
            }
        }
        Ok(Made { case: case.to_path_buf(), sets, fixed, model: made?, _scratch: scratch })
    }

    /// The bundle, if it is one for the place that this worker is for.
    fn bundle(&self) -> Option<&Path> {
        match &self.model {
            Model::Compiled { bundle, target: None, .. } => Some(bundle),
            _ => None,
        }
    }

    /// Runs it on the case's inputs.
    fn run(self, a: &WorkerArgs, place: Option<&Place>, cx: &mut Cx) -> Lowered<Outcome> {
        let Made { case, sets, fixed, model, _scratch } = self;
        run_case(&case, &sets, &fixed, model, a, place, cx)
    }
}

fn run_case(
    case: &Path,
    sets: &[PathBuf],
    fixed: &[Fixed],
    model: Model,
    a: &WorkerArgs,
    place: Option<&Place>,
    cx: &mut Cx,
) -> Lowered<Outcome> {
    let name = &name_of(case);
    let (rtol, atol) = tolerance(case);
    let numbers: Vec<usize> = fixed.iter().map(|f| f.number).collect();
    let (mut runner, random, kernels, device_nodes, host) = match (model, place) {
        (Model::Compiled { bundle, target, kernels, device_nodes, host, random }, Some(place)) => {
            let own = target.map(|t| place::choose(&t, a.on, cx)).transpose()?;
            let running = Running::start(&bundle, own.as_ref().unwrap_or(place), Start { threads: 1, profile: false }, cx)?;
            (Runner::Executed(running), random, kernels, device_nodes, host)
        }
        (Model::Compiled { .. }, None) => return cx.fail(Diagnostic::error(Code::INTERNAL, "a bundle, and nowhere to run it")),
        (Model::Interpreted(g), _) => {
            let random = draws(&g);
            (Runner::Interpreted(g), random, 0, 0, Vec::new())
        }
    };
    // Nothing numeric is a host operation; a file is no tensor of numbers, though it is given as one.
    if let (Runner::Executed(running), Some(h)) = (&runner, host.iter().find(|h| h.op != "image_decode"))
        && running.inputs().iter().chain(running.outputs()).all(|i| i.kind == Kind::Tensor)
        && !uses_lists(case)
    {
        let m = format!("{}: `{}` runs on the host, and the case is one of numbers", h.node, h.op);
        return cx.fail(Diagnostic::error(Code::OVER_FALLBACK, m));
    }
    let (inputs, outputs) = match &runner {
        Runner::Executed(running) => (running.inputs().to_vec(), running.outputs().to_vec()),
        Runner::Interpreted(g) => (super::interpret::describe(g), super::interpret::describe_outputs(g)),
    };
    let (mut max_abs, mut max_rel) = (0f64, 0f64);
    for set in sets {
        let given = values::read_folder_without(set, "input", &inputs, &numbers, cx)?;
        let expected = values::read_folder(set, "output", &outputs, cx)?;
        let got: Vec<Value> = match &mut runner {
            Runner::Executed(running) => {
                running.execute(&given, cx)?;
                running.values()
            }
            Runner::Interpreted(g) => super::interpret::interpret(g, &given, cx)?,
        };
        if random && got.iter().zip(&expected).all(|(g, e)| g.describe() == e.describe()) {
            return Ok(Outcome::bad(name, Status::Skipped, None, "its numbers are random; dtypes and shapes agree"));
        }
        for ((g, e), info) in got.iter().zip(&expected).zip(&outputs) {
            match compare_values(g, e, rtol, atol) {
                Ok((abs, rel)) => (max_abs, max_rel) = (max_abs.max(abs), max_rel.max(rel)),
                Err(why) => return cx.fail(Diagnostic::error(Code::NUMBERS_DIFFER, format!("output `{}`: {why}", info.name))),
            }
        }
    }
    if sets.is_empty() {
        return Ok(Outcome::bad(name, Status::Skipped, None, "no test data sets"));
    }
    let rung = if matches!(runner, Runner::Executed(_)) { place::RUNG } else { 0 };
    Ok(Outcome {
        case: name.clone(),
        status: Status::Passed,
        rung,
        kernels,
        device_nodes,
        host_nodes: host.len(),
        host_ops: host.into_iter().map(|h| h.op).collect(),
        max_abs,
        max_rel,
        code: None,
        message: (!fixed.is_empty()).then(|| {
            let names: Vec<&str> = fixed.iter().map(|f| f.name.as_str()).collect();
            format!("compiled for the given values of `{}`", names.join("`, `"))
        }),
    })
}

/// Whether a case's model has operators on texts, sequences, optionals or maps.
fn uses_lists(case: &Path) -> bool {
    let words = ["Sequence", "Optional", "String", "Regex", "Tokenizer", "ZipMap", "CastMap", "DictVectorizer"];
    let bytes = std::fs::read(case.join(MODEL)).unwrap_or_default();
    words.iter().any(|w| bytes.windows(w.len()).any(|b| b == w.as_bytes()))
}

fn tolerance(case: &Path) -> (f64, f64) {
    let text = std::fs::read_to_string(case.join("tol.json")).unwrap_or_default();
    let v: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    (v["rtol"].as_f64().unwrap_or(RTOL), v["atol"].as_f64().unwrap_or(ATOL))
}

/// As [`compare`], of values of any kind: texts and the structure of lists are equal or not.
pub fn compare_values(got: &Value, expected: &Value, rtol: f64, atol: f64) -> Result<(f64, f64), String> {
    match (got, expected) {
        (Value::Tensor(g), Value::Tensor(e)) => compare(&g.view(), &e.view(), rtol, atol),
        (Value::Texts(g), Value::Texts(e)) if g.dims == e.dims => match g.values.iter().zip(&e.values).position(|(x, y)| x != y) {
            Some(i) => Err(format!("element {i} is {:?}, expected {:?}", g.values[i], e.values[i])),
            None => Ok((0.0, 0.0)),
        },
        (Value::List(g), Value::List(e)) if g.kind == e.kind && g.items.len() == e.items.len() => {
            let mut most = (0f64, 0f64);
            for (i, (x, y)) in g.items.iter().zip(&e.items).enumerate() {
                let (abs, rel) = compare_values(x, y, rtol, atol).map_err(|why| format!("item {i}: {why}"))?;
                most = (most.0.max(abs), most.1.max(rel));
            }
            Ok(most)
        }
        _ => Err(format!("{}, expected {}", got.describe(), expected.describe())),
    }
}

/// Largest absolute and relative difference; `Err` says where the tolerance is exceeded.
pub fn compare(got: &View<'_>, expected: &View<'_>, rtol: f64, atol: f64) -> Result<(f64, f64), String> {
    if got.dtype != expected.dtype || got.dims != expected.dims {
        let text = |v: &View<'_>| format!("{}{:?}", portwright_runtime::dtype::name(v.dtype), v.dims);
        return Err(format!("{}, expected {}", text(got), text(expected)));
    }
    let (g, e) = (values::elements(got), values::elements(expected));
    let (mut max_abs, mut max_rel) = (0f64, 0f64);
    let mut worst: Option<(usize, f64)> = None;
    for (i, (&x, &y)) in g.iter().zip(&e).enumerate() {
        if x == y || (x.is_nan() && y.is_nan()) {
            continue;
        }
        let d = (x - y).abs();
        if d.is_finite() {
            max_abs = max_abs.max(d);
            max_rel = max_rel.max(d / y.abs().max(f64::MIN_POSITIVE));
        }
        let over = d - (atol + rtol * y.abs());
        if (over > 0.0 || !d.is_finite()) && worst.is_none_or(|w| over > w.1) {
            worst = Some((i, over));
        }
    }
    match worst {
        Some((i, _)) => Err(format!("element {i} is {}, expected {}", g[i], e[i])),
        None => Ok((max_abs, max_rel)),
    }
}
