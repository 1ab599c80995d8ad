// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright compare`: the compiled model against a reference, value by value.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::Graph;
use portwright_runtime::npz;
use portwright_runtime::tensor::Tensor;

use crate::args::{CompareArgs, On};
use crate::compare::{self, Asked, Change, Comparison, Reference, Row, Verdict};
use crate::compile::{self, Options};
use crate::difference::{Difference, Tolerance};
use crate::progress::Progress;
use crate::{Cx, model, place, values};

/// Compares and prints a row a value.
///
/// # Errors
/// `E0601` for numbers that differ, and anything on the way.
pub fn run(a: CompareArgs, cx: &mut Cx) -> Lowered<()> {
    let options = compile::options(&a.target, cx)?;
    let rows = rows(
        &a,
        &options,
        None,
        &mut |row, first| {
            if !a.json {
                print!("{}", line(row, first));
            }
        },
        cx,
    )?;
    let count = |v: Verdict| rows.iter().filter(|r| r.verdict == v).count();
    let wrong = first_wrong(&rows);
    if a.json {
        let summary = serde_json::json!({
            "schema": 1, "model": a.model.display().to_string(), "target": a.target.id(), "rows": rows,
            "wrong": count(Verdict::Wrong), "drift": count(Verdict::Drift), "first_wrong": wrong.map(|r| &r.node),
        });
        println!("{summary}");
    } else {
        let visible = if a.every { "" } else { "; --every shows what is inside of kernels" };
        println!("{} values: {} wrong, {} drifted{visible}", rows.len(), count(Verdict::Wrong), count(Verdict::Drift));
    }
    match wrong {
        None => Ok(()),
        Some(row) => {
            let d = report(row, &a.model);
            cx.fail(d)
        }
    }
}

/// The row that a reader should look at first: the first that is wrong by itself, else the first that is wrong.
pub fn first_wrong(rows: &[Row]) -> Option<&Row> {
    let wrong = || rows.iter().filter(|r| r.verdict == Verdict::Wrong);
    wrong().find(|r| r.by_itself).or_else(|| wrong().next())
}

/// All rows of all samples; `show` is given each when it is known, and whether it is the first.
///
/// # Errors
/// Anything on the way.
pub fn rows(
    a: &CompareArgs,
    options: &Options,
    change: Option<Change<'_>>,
    show: &mut dyn FnMut(&Row, bool),
    cx: &mut Cx,
) -> Lowered<Vec<Row>> {
    if model::is_bundle(&a.model) {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "a bundle has no values between its inputs and outputs that could be compared");
        return cx.fail(d.help("give the model that it was compiled from"));
    }
    if a.on == Some(On::Interpreter) {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "--on interpreter: it is what the model is compared with");
        return cx.fail(d.help("leave --on out, or give hardware or emulator"));
    }
    let place = place::choose(&compile::machine_target(&options.machine), a.on, cx)?;
    let mut progress = Progress::new(cx.quiet);
    progress.say(&place.line());
    progress.stage("import");
    let graph = compare::load(&a.model, &a.target.dims, cx)?;
    let wanted = super::interpret::describe(&graph);
    let inputs = paths(&a.inputs, "input", cx)?;
    let samples: Vec<Option<PathBuf>> = if inputs.is_empty() { vec![None] } else { inputs.into_iter().map(Some).collect() };
    let expected = paths(&a.expect, "output", cx)?;
    if !expected.is_empty() && expected.len() != samples.len() {
        let m = format!("{} samples, and expected values for {}", samples.len(), expected.len());
        return cx.fail(Diagnostic::error(Code::BAD_OPTION, m).help("give --expect as often as --inputs, in the same order"));
    }
    let given: Vec<HashMap<String, Tensor>> = expected.iter().map(|p| expectation(p, &graph, cx)).collect::<Result<_, _>>()?;
    let names: Option<HashSet<String>> = (!given.is_empty()).then(|| given.iter().flat_map(|g| g.keys().cloned()).collect());
    let reference = if given.is_empty() { Reference::Interpreter } else { Reference::Given(given) };
    progress.stage("passes");
    let tolerance = Tolerance { rtol: a.rtol, atol: a.atol, math: options.math };
    let asked = Asked { options, place: &place, threads: a.threads, every: a.every, tolerance };
    let mut comparison = Comparison::new(graph, asked, names.as_ref(), change, cx)?;
    let mut rows: Vec<Row> = Vec::new();
    for (i, path) in samples.iter().enumerate() {
        let inputs = super::run::inputs(path.as_deref(), a.random, &wanted, cx)?;
        let mut keep = |row: Row| {
            show(&row, rows.is_empty());
            rows.push(row);
        };
        comparison.sample(i, &inputs, &reference, &mut progress, &mut keep, cx)?;
    }
    progress.end();
    Ok(rows)
}

fn paths(list: &[PathBuf], what: &str, cx: &mut Cx) -> Lowered<Vec<PathBuf>> {
    let mut out = Vec::new();
    for p in list {
        out.extend(compare::samples(p, what, cx)?);
    }
    Ok(out)
}

/// Expected values by name: an npz file, or the outputs of a test data set.
fn expectation(path: &Path, g: &Graph, cx: &mut Cx) -> Lowered<HashMap<String, Tensor>> {
    if path.is_dir() {
        let wanted = super::interpret::describe_outputs(g);
        let list = values::read_folder(path, "output", &wanted, cx)?;
        return Ok(wanted.into_iter().map(|w| w.name).zip(list).collect());
    }
    let bad = |m: String| Diagnostic::error(Code::BAD_NPZ, format!("`{}`: {m}", path.display()));
    let arrays = npz::load_npz(path).or_else(|e| cx.fail(bad(e.to_string())))?;
    let dtypes = compare::dtypes(g);
    let mut out = HashMap::new();
    for (name, array) in arrays {
        let Some(&dtype) = dtypes.get(&name) else {
            cx.diags.report(bad(format!("no node of the main graph computes `{name}`")));
            continue;
        };
        match array.into_tensor(dtype) {
            Ok(t) => {
                out.insert(name, t);
            }
            Err(e) => {
                cx.diags.report(bad(format!("array `{name}`: {e}")));
            }
        }
    }
    cx.diags.check()?;
    Ok(out)
}

/// The error that ends the command.
fn report(row: &Row, model: &Path) -> Diagnostic {
    let of = |d: &Difference| match (&d.form, d.worst) {
        (Some(form), _) => form.clone(),
        (None, Some((i, x, y))) => format!("{} elements beyond the tolerance; element {i} is {x}, expected {y}", d.over),
        (None, None) => format!("largest difference {:e}", d.max_abs),
    };
    let ty = format!("`{}`, {}{:?}", row.value, row.dtype, row.shape);
    let mut d = Diagnostic::error(Code::NUMBERS_DIFFER, format!("the first wrong value is {ty}")).at(&*row.node).op(&*row.op);
    d = match &row.isolated {
        Some(alone) if row.by_itself => d.note(format!("on right operands: {}", of(alone))),
        Some(_) => d.note(format!("right on right operands; on its own: {}", of(&row.accumulated))),
        None => d.note(of(&row.accumulated)),
    };
    if row.kernel.len() > 1 {
        d = d.note(format!(
            "computed in one kernel with {}",
            row.kernel.iter().filter(|k| **k != row.node).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    let node = row.kernel.first().unwrap_or(&row.node);
    d.help(format!("`portwright lower {} --stage kernel --node {node}` prints its kernel; --every compares inside of it", model.display()))
}

/// A row as text, below its heading if it is the first.
fn line(row: &Row, first: bool) -> String {
    let numbers = |d: Option<&Difference>| match d {
        Some(Difference { form: Some(_), .. }) => format!("{:>9} {:>9} {:>9} {:>9}", "form", "", "", ""),
        Some(d) => format!("{:>9} {:>9} {:>9} {:>9.6}", short(d.max_abs), short(d.max_rel), short(d.l2), d.cosine),
        None => format!("{:>9} {:>9} {:>9} {:>9}", "-", "-", "-", "-"),
    };
    let mark = match row.verdict {
        Verdict::Ok => "ok",
        Verdict::Drift => "drift",
        Verdict::Wrong => "WRONG",
    };
    let dims: Vec<String> = row.shape.iter().map(i64::to_string).collect();
    let ty = format!("{}[{}]", row.dtype, dims.join(","));
    let more = if row.kernel.len() > 1 { format!("+{}", row.kernel.len() - 1) } else { String::new() };
    let mut s = String::new();
    if first {
        let columns = format!("{:>9} {:>9} {:>9} {:>9}", "max abs", "max rel", "l2", "cosine");
        s += &format!("{:91}on right operands{:24}as computed\n", "", "");
        s += &format!("{:<6}{:<40} {:<16} {:<18} {:>4}  {columns}  {columns}\n", "", "node", "op", "type", "");
    }
    let tail = |text: &str, n: usize| {
        let long = text.chars().count();
        if long <= n { text.to_owned() } else { format!("…{}", text.chars().skip(long + 1 - n).collect::<String>()) }
    };
    s += &format!(
        "{mark:<6}{:<40} {:<16} {:<18} {more:>4}  {}  {}\n",
        tail(&row.node, 40),
        tail(&row.op, 16),
        tail(&ty, 18),
        numbers(row.isolated.as_ref()),
        numbers(Some(&row.accumulated))
    );
    s
}

fn short(x: f64) -> String {
    if x == 0.0 { "0".into() } else { format!("{x:.2e}") }
}
