// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Node by node against a reference: what `compare` does.
//!
//! The model is prepared as for any bundle, and its legal graph is cut at the values that came through fusion, so that the kernels are
//! those of the model. Parts of bounded size run while the reference runs beside them, each twice: on what the parts before it computed
//! (the error that has accumulated), and cut at each value on what the reference computed (the error of that node alone). A tensor is
//! dropped when the last part that reads it has run.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Lowered, Reported};
use portwright_ir::entity::EntityId as _;
use portwright_ir::graph::interp::{self, Tensor as Plain};
use portwright_ir::graph::{Graph, NodeId, ValueId};
use portwright_passes::layout::{TURNED, to_last};
use portwright_passes::pipeline::Compiled;
use portwright_passes::prepare::Prepared;
use portwright_passes::probe::{self, Part};
use portwright_runtime::tensor::{Tensor, View};
use portwright_targets::compile::onnx_dtype;
use serde::Serialize;

use crate::compile::{self, About, Options, Scratch};
use crate::difference::{Difference, Tolerance};
use crate::place::{Place, Running, Start};
use crate::progress::Progress;
use crate::values::dtype_of;
use crate::{Cx, model};

/// Bytes of values from which on a part is full.
const PART_BYTES: u64 = 256 << 20;

/// What is done to a part's program before code is made of it: tests seed faults.
pub type Change<'a> = &'a mut dyn FnMut(&mut Compiled);

/// How a value of the model turned out.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within the tolerance.
    Ok,
    /// Within the tolerance on right operands; the error came with the operands.
    Drift,
    /// Beyond the tolerance.
    Wrong,
}

/// One value of one sample.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which sample, from 0.
    pub sample: usize,
    /// Path of the node in the model.
    pub node: String,
    /// Its op in Graph IR.
    pub op: String,
    /// Name of the value in the model.
    pub value: String,
    /// Whether it is an output of the model.
    pub output: bool,
    /// Name of its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Nodes of the model that the kernel computes.
    pub kernel: Vec<String>,
    /// Error on operands of the reference; none where its sizes cannot be given.
    pub isolated: Option<Difference>,
    /// Error on operands that were computed before.
    pub accumulated: Difference,
    /// Whether it is wrong on right operands.
    pub by_itself: bool,
    /// Judgement.
    pub verdict: Verdict,
}

/// What the values are held against.
pub enum Reference {
    /// The interpreter of Graph IR.
    Interpreter,
    /// Arrays by name of a value, one list a sample.
    Given(Vec<HashMap<String, Tensor>>),
}

/// How to compare.
pub struct Asked<'a> {
    /// What the model is compiled for.
    pub options: &'a Options,
    /// Where it runs.
    pub place: &'a Place,
    /// Threads, 0 for one a CPU.
    pub threads: u32,
    /// See every value of the main graph: they become outputs before the passes, and so results of the kernels that compute them.
    pub every: bool,
    /// When a difference is an error.
    pub tolerance: Tolerance,
}

/// A value that is looked at.
struct Probe {
    /// In the graph as it was imported.
    reference: ValueId,
    /// In the legal graph.
    value: ValueId,
    /// The legal graph has it with channels last.
    turned: bool,
    /// Its own row, but for the numbers.
    node: String,
    op: &'static str,
    name: String,
    output: bool,
    kernel: Vec<String>,
    /// Whether its kernel rounds to steps, and whether that or something before it does.
    steps: (bool, bool),
    /// The last probe that reads it.
    last_use: usize,
}

/// A part as a bundle.
struct Piece {
    bundle: PathBuf,
    inputs: Vec<ValueId>,
}

/// How probes are computed from operands of the reference.
enum Alone {
    /// As from their own: none of them reads another.
    AsOwn,
    /// By a bundle in which every operand is given; for each probe its output, if it can be given its operands.
    Apart(Piece, Vec<Option<usize>>),
    /// Not at all: their sizes are found while the model runs.
    Never,
}

/// Probes that are computed together.
struct Slice {
    from: usize,
    to: usize,
    own: Piece,
    alone: Alone,
}

/// A model under comparison.
pub struct Comparison<'a, 'c> {
    asked: Asked<'a>,
    change: Option<Change<'c>>,
    /// As imported.
    graph: Graph,
    prepared: Prepared,
    probes: Vec<Probe>,
    cut: HashSet<ValueId>,
    by_value: HashMap<ValueId, usize>,
    by_reference: HashMap<ValueId, Vec<usize>>,
    slices: Vec<Slice>,
    scratch: Scratch,
    /// One part for all: sizes are found while the model runs.
    whole: bool,
}

/// Numbers of one sample.
struct Sample<'s> {
    number: usize,
    inputs: &'s [Tensor],
    /// By probe, while a part may need it.
    reference: Vec<Option<Tensor>>,
    own: Vec<Option<Tensor>>,
    /// The next probe that is to be computed.
    next: usize,
    /// Bytes of references that wait.
    waiting: u64,
    failed: bool,
}

impl<'a, 'c> Comparison<'a, 'c> {
    /// Prepares a model. `names` are values that must be visible beside outputs and what survives.
    ///
    /// # Errors
    /// What the passes say; `E0704` for a name that no node computes.
    pub fn new(
        mut graph: Graph,
        asked: Asked<'a>,
        names: Option<&HashSet<String>>,
        change: Option<Change<'c>>,
        cx: &mut Cx,
    ) -> Lowered<Self> {
        let known = name_values(&mut graph);
        let outputs = graph.outputs().len();
        let mut marked = graph.clone();
        let mut forced: Vec<ValueId> = Vec::new();
        for name in names.into_iter().flatten() {
            let output = graph.outputs().iter().any(|o| *o.name == **name);
            match known.get(name) {
                _ if output => {}
                Some(&v) => forced.push(v),
                None => {
                    let d = Diagnostic::error(Code::BAD_NPZ, format!("no node of the main graph computes a value `{name}`"));
                    cx.diags.report(
                        d.help("`lower MODEL --stage import` shows the graph; values inside of If, Loop and Scan are not compared"),
                    );
                }
            }
        }
        cx.diags.check()?;
        if asked.every {
            forced = known.values().copied().collect();
        }
        forced.sort_unstable();
        forced.iter().for_each(|&v| marked.add_output(format!("probe.{}", v.index()), v));
        let prepared = compile::prepare(marked, asked.options, None, cx)?;
        let scratch = Scratch::new(cx)?;
        let mut c = Comparison {
            asked,
            change,
            whole: probe::finds_sizes(&prepared.main),
            graph,
            prepared,
            probes: Vec::new(),
            cut: HashSet::new(),
            by_value: HashMap::new(),
            by_reference: HashMap::new(),
            slices: Vec::new(),
            scratch,
        };
        c.find_probes(outputs, &forced, names, &known);
        Ok(c)
    }

    /// Finds what of the model the legal graph still has: outputs, forced values and what kept its name; or only what is in `names`.
    fn find_probes(&mut self, outputs: usize, forced: &[ValueId], names: Option<&HashSet<String>>, known: &HashMap<String, ValueId>) {
        let main = &self.prepared.main;
        let mut found: HashMap<ValueId, (ValueId, bool, bool)> = HashMap::new();
        for (o, p) in self.graph.outputs().iter().zip(main.outputs()) {
            let name = self.graph.value(o.value).name.as_deref().unwrap_or_default();
            if names.is_none_or(|n| n.contains(&*o.name) || n.contains(name)) {
                found.entry(p.value).or_insert((o.value, false, true));
            }
        }
        for (&v, p) in forced.iter().zip(main.outputs().iter().skip(outputs)) {
            found.entry(p.value).or_insert((v, false, false));
        }
        let order = main.order();
        let results = || order.iter().flat_map(|&n| &main.node(n).results).copied();
        if names.is_none() {
            for v in results() {
                let Some(name) = main.value(v).name.as_deref() else { continue };
                let (plain, turned) = name.strip_suffix(TURNED).map_or((name, false), |n| (n, true));
                let Some(&r) = known.get(plain) else { continue };
                let (ty, was) = (main.ty(v), self.graph.ty(r));
                let dims = if turned {
                    to_last(was.rank()).iter().filter_map(|&p| was.dims.get(p as usize)).cloned().collect()
                } else {
                    was.dims.clone()
                };
                if ty.dtype == was.dtype && ty.dims == dims {
                    found.entry(v).or_insert((r, turned, false));
                }
            }
        }
        for v in results() {
            let (Some(&(reference, turned, output)), Some(producer)) = (found.get(&v), main.producer(v)) else { continue };
            if producer.op.is_source() || main.ty(v).quant.is_some() {
                continue;
            }
            let made = self.graph.producer(reference);
            let kernel = kernel_of(main, v);
            let steps = rounds_to_steps(main, v);
            self.by_value.insert(v, self.probes.len());
            self.by_reference.entry(reference).or_default().push(self.probes.len());
            self.cut.insert(v);
            self.probes.push(Probe {
                reference,
                value: v,
                turned,
                node: made.map_or_else(String::new, |n| n.origin.first().to_owned()),
                op: made.map_or("input", |n| n.op.mnemonic()),
                name: self.graph.value(reference).name.as_deref().unwrap_or_default().to_owned(),
                output,
                kernel,
                steps: (steps, steps),
                last_use: self.probes.len(),
            });
        }
        for i in 0..self.probes.len() {
            for v in probe::needs(main, self.probes[i].value, &self.cut) {
                if let Some(&j) = self.by_value.get(&v) {
                    self.probes[j].last_use = self.probes[j].last_use.max(i);
                    self.probes[i].steps.1 |= self.probes[j].steps.1;
                }
            }
        }
    }

    /// Values that are compared.
    pub fn len(&self) -> usize {
        self.probes.len()
    }
    /// Whether nothing can be compared.
    pub fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }

    /// Compares one sample; each row is shown as soon as it is known.
    ///
    /// # Errors
    /// What the interpreter, the code generator or the run says.
    pub fn sample(
        &mut self,
        number: usize,
        inputs: &[Tensor],
        reference: &Reference,
        progress: &mut Progress,
        show: &mut dyn FnMut(Row),
        cx: &mut Cx,
    ) -> Lowered<()> {
        let n = self.probes.len();
        let mut s = Sample { number, inputs, reference: vec![None; n], own: vec![None; n], next: 0, waiting: 0, failed: false };
        match reference {
            Reference::Given(samples) => {
                let Some(values) = samples.get(number) else { return Ok(()) };
                for i in 0..n {
                    let named = self.graph.outputs().iter().find(|o| o.value == self.probes[i].reference).map(|o| o.name.to_string());
                    let t = values.get(&self.probes[i].name).or_else(|| values.get(&named?));
                    if let Some(t) = t {
                        self.offer(i, t.clone(), &mut s, progress, show, cx);
                    }
                }
            }
            Reference::Interpreter => {
                let graph = std::mem::take(&mut self.graph);
                let given = plain(inputs);
                let seen = interp::run_with(
                    &graph,
                    &given,
                    &interp::Options { images: Some(portwright_runtime::image::read), ..Default::default() },
                    &mut |node: NodeId, results: &[Plain]| {
                        for (&v, t) in graph.node(node).results.iter().zip(results) {
                            for i in self.by_reference.get(&v).cloned().unwrap_or_default() {
                                match from_plain(t) {
                                    Ok(t) => self.offer(i, t, &mut s, progress, show, cx),
                                    Err(d) => s.failed |= cx.fail::<()>(d).is_err(),
                                }
                            }
                        }
                    },
                );
                self.graph = graph;
                if let Err(e) = seen {
                    return cx.fail(Diagnostic::error(Code::RUN_FAILED, e.message.clone()).at(e.path.clone()).note("in the reference"));
                }
            }
        }
        cx.diags.check()?;
        self.flush(&mut s, n, progress, show, cx)
    }

    /// Takes the reference of a probe and computes the parts that are complete.
    fn offer(&mut self, i: usize, t: Tensor, s: &mut Sample<'_>, progress: &mut Progress, show: &mut dyn FnMut(Row), cx: &mut Cx) {
        if s.failed {
            return;
        }
        s.waiting = s.waiting.saturating_add(t.data.len() as u64);
        s.reference[i] = Some(if self.probes[i].turned { turn(&t, &to_last(t.dims.len())) } else { t });
        let ready = (s.next..self.probes.len()).find(|&i| s.reference[i].is_none()).unwrap_or(self.probes.len());
        let planned = self.slices.iter().find(|p| p.from == s.next).map(|p| p.to);
        let to = planned
            .filter(|&to| to <= ready)
            .or_else(|| (planned.is_none() && !self.whole && s.waiting >= PART_BYTES && ready > s.next).then_some(ready));
        if let Some(to) = to {
            s.failed = self.flush(s, to, progress, show, cx).is_err();
        }
    }

    /// Computes and compares the probes before `to`.
    fn flush(&mut self, s: &mut Sample<'_>, to: usize, progress: &mut Progress, show: &mut dyn FnMut(Row), cx: &mut Cx) -> Lowered<()> {
        while s.next < to {
            let at = match self.slices.iter().position(|p| p.from == s.next) {
                Some(at) => at,
                None => {
                    progress.stage(format!("code of {} of {} values", to, self.probes.len()));
                    let slice = self.slice(s.next, to, cx)?;
                    self.slices.push(slice);
                    self.slices.len() - 1
                }
            };
            let (from, end) = (self.slices[at].from, self.slices[at].to);
            progress.stage(format!("sample {}: {end} of {} values", s.number + 1, self.probes.len()));
            let own = self.execute(&self.slices[at].own, s, &s.own, cx)?;
            let alone = match &self.slices[at].alone {
                Alone::Never => vec![None; end - from],
                Alone::AsOwn => self.execute(&self.slices[at].own, s, &s.reference, cx)?.into_iter().map(Some).collect(),
                Alone::Apart(code, outputs) => {
                    let mut results: Vec<Option<Tensor>> = self.execute(code, s, &s.reference, cx)?.into_iter().map(Some).collect();
                    outputs.iter().map(|o| results.get_mut((*o)?)?.take()).collect::<Vec<_>>()
                }
            };
            for ((i, own), alone) in (from..end).zip(own).zip(alone) {
                if let Some(expected) = &s.reference[i] {
                    show(self.row(s.number, i, expected, &own, alone.as_ref()));
                }
                s.own[i] = Some(own);
            }
            s.next = end;
            s.waiting = 0;
            for i in 0..end {
                if self.probes[i].last_use < end {
                    (s.reference[i], s.own[i]) = (None, None);
                }
            }
        }
        Ok(())
    }

    fn row(&self, sample: usize, i: usize, expected: &Tensor, own: &Tensor, alone: Option<&Tensor>) -> Row {
        let p = &self.probes[i];
        let tolerance = &self.asked.tolerance;
        let accumulated = tolerance.difference(own, expected);
        let isolated = alone.map(|a| tolerance.difference(a, expected));
        let by_itself = isolated.as_ref().is_some_and(|a| tolerance.exceeds(a, expected.dtype, p.steps.0));
        let verdict = match (&isolated, tolerance.exceeds(&accumulated, expected.dtype, p.steps.1)) {
            _ if by_itself => Verdict::Wrong,
            (_, false) => Verdict::Ok,
            (Some(_), true) if !p.output => Verdict::Drift,
            _ => Verdict::Wrong,
        };
        let rank = expected.dims.len();
        let mut shape = expected.dims.clone();
        if p.turned {
            for (d, &perm) in expected.dims.iter().zip(&to_last(rank)) {
                if let Some(s) = shape.get_mut(perm as usize) {
                    *s = *d;
                }
            }
        }
        Row {
            sample,
            node: p.node.clone(),
            op: p.op.into(),
            value: p.name.clone(),
            output: p.output,
            dtype: portwright_runtime::dtype::name(expected.dtype),
            shape,
            kernel: p.kernel.clone(),
            isolated,
            accumulated,
            by_itself,
            verdict,
        }
    }

    /// Makes the bundles of the probes `from..to`.
    fn slice(&mut self, from: usize, to: usize, cx: &mut Cx) -> Lowered<Slice> {
        let wanted: Vec<ValueId> = self.probes[from..to].iter().map(|p| p.value).collect();
        let before: HashSet<ValueId> = self.probes[..from].iter().map(|p| p.value).collect();
        let broken = |f: portwright_ir::graph::TypeFault| Diagnostic::error(Code::INTERNAL, format!("a part of the model: {}", f.message));
        let own = probe::part(&self.prepared, &wanted, &before).or_else(|f| cx.fail(broken(f)))?;
        // Cut at every value, those can be computed together that can be given their operands. Where inputs tell all sizes, all can.
        let mut n = 0;
        let mut fits = |v: &ValueId| {
            let fits = !self.whole || probe::part(&self.prepared, &[*v], &self.cut).is_ok();
            n += usize::from(fits);
            fits.then(|| n - 1)
        };
        let outputs: Vec<Option<usize>> = wanted.iter().map(&mut fits).collect();
        let together: Vec<ValueId> = wanted.iter().zip(&outputs).filter(|(_, o)| o.is_some()).map(|(v, _)| *v).collect();
        let part = if together.is_empty() { None } else { probe::part(&self.prepared, &together, &self.cut).ok() };
        let same = part
            .as_ref()
            .is_some_and(|a| together.len() == wanted.len() && a.inputs == own.inputs && a.prepared.main.len() == own.prepared.main.len());
        let name = format!("part_{from}");
        let own = self.code(own, &name, cx)?;
        let alone = match part {
            None => Alone::Never,
            Some(_) if same => Alone::AsOwn,
            Some(part) => Alone::Apart(self.code(part, &format!("{name}_alone"), cx)?, outputs),
        };
        Ok(Slice { from, to, own, alone })
    }

    fn code(&mut self, part: Part, name: &str, cx: &mut Cx) -> Lowered<Piece> {
        let mut prepared = part.prepared;
        prepared.main.name = name.to_owned();
        let mut compiled = compile::programs(prepared, self.asked.options, cx)?;
        if let Some(change) = &mut self.change {
            change(&mut compiled);
        }
        let about = About { name: name.to_owned(), ..Default::default() };
        let at = self.scratch.path().join(format!("{name}.pw"));
        let mut quiet = Progress::new(true);
        let bundle = compile::bundle_of(compiled, about, self.asked.options, &at, false, &mut quiet, cx)?;
        Ok(Piece { bundle, inputs: part.inputs })
    }

    /// Runs a part on the model's inputs and on `values`.
    fn execute(&self, code: &Piece, s: &Sample<'_>, values: &[Option<Tensor>], cx: &mut Cx) -> Lowered<Vec<Tensor>> {
        let main = &self.prepared.main;
        let input = |v: &ValueId| match self.by_value.get(v) {
            Some(&i) => values[i].as_ref(),
            None => main.inputs().iter().position(|i| i == v).and_then(|i| s.inputs.get(i)),
        };
        let views: Option<Vec<View<'_>>> = code.inputs.iter().map(|v| input(v).map(Tensor::view)).collect();
        let Some(views) = views else { return cx.fail(Diagnostic::error(Code::INTERNAL, "a part needs a value that was not kept")) };
        let mut running = Running::start(&code.bundle, self.asked.place, Start { threads: self.asked.threads, profile: false }, cx)?;
        running.execute(&views, cx)?;
        Ok(running.results().iter().map(View::to_tensor).collect())
    }
}

/// Gives every value that a node computes a name of its own; values by name.
fn name_values(g: &mut Graph) -> HashMap<String, ValueId> {
    let mut known: HashMap<String, ValueId> = HashMap::new();
    let inputs: HashSet<String> = g.inputs().iter().filter_map(|&v| g.value(v).name.as_deref().map(str::to_owned)).collect();
    for n in g.order() {
        if g.node(n).op.is_source() {
            continue;
        }
        let base = match g.node(n).origin.first() {
            "" => format!("{n:?}"),
            path => path.to_owned(),
        };
        for v in g.node(n).results.clone() {
            let named = g.value(v).name.as_deref().map(str::to_owned);
            let free = |name: &String| !known.contains_key(name) && !inputs.contains(name);
            let name = named.filter(free).unwrap_or_else(|| (0usize..).map(|i| format!("{base}#{i}")).find(free).unwrap_or_default());
            g.set_name(v, name.as_str());
            known.insert(name, v);
        }
    }
    known
}

/// Whether a value is rounded to steps where it is made: then the least difference may become a whole step.
fn rounds_to_steps(g: &Graph, v: ValueId) -> bool {
    use portwright_ir::graph::{Op, UnaryOp};
    fn rounds(g: &Graph, n: NodeId) -> bool {
        let node = g.node(n);
        let float = |v: Option<&ValueId>| v.is_some_and(|&v| g.ty(v).dtype.is_float());
        let here = match &node.op {
            Op::Unary(u) => matches!(u, UnaryOp::Round | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc),
            Op::Cast { to, .. } => !to.is_float() && float(node.operands.first()),
            Op::Quantize { .. } | Op::LstmByteSteps { .. } => true,
            _ => false,
        };
        here || node.regions.iter().any(|r| r.node_ids().any(|n| rounds(r, n)))
    }
    let mut v = v;
    while let Some(n) = g.producer_id(v) {
        match (&g.node(n).op, g.node(n).operands.first()) {
            (Op::Reshape { .. }, Some(&x)) => v = x,
            _ => return rounds(g, n),
        }
    }
    false
}

/// Nodes of the model that are computed with a value.
fn kernel_of(g: &Graph, mut v: ValueId) -> Vec<String> {
    while let Some(node) = g.producer(v) {
        match (&node.op, node.operands.first()) {
            (portwright_ir::graph::Op::Reshape { .. }, Some(&x)) if g.producer(x).is_some_and(|p| !p.op.is_source()) => v = x,
            _ => return node.origin.paths.iter().map(|p| p.to_string()).collect(),
        }
    }
    Vec::new()
}

fn from_plain(t: &Plain) -> Result<Tensor, Diagnostic> {
    let dims: Vec<i64> = t.dims.iter().map(|&d| d as i64).collect();
    Tensor::new(onnx_dtype(t.dtype), &dims, t.bytes()).map_err(|e| Diagnostic::error(Code::INTERNAL, e))
}

fn plain(inputs: &[Tensor]) -> Vec<Plain> {
    let one = |t: &Tensor| {
        let dims = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
        Plain::new(dtype_of(t.dtype)?, dims, t.data.to_vec())
    };
    inputs.iter().filter_map(one).collect()
}

/// A tensor of whole bytes with its dims permuted.
fn turn(t: &Tensor, perm: &[u32]) -> Tensor {
    let elems = t.dims.iter().product::<i64>().max(0) as usize;
    let width = if elems == 0 { 0 } else { t.data.len() / elems };
    let strides: Vec<usize> = (0..t.dims.len()).map(|i| t.dims[i + 1..].iter().product::<i64>() as usize).collect();
    let dims: Vec<i64> = perm.iter().map(|&p| t.dims[p as usize]).collect();
    let steps: Vec<usize> = perm.iter().map(|&p| strides[p as usize]).collect();
    let mut out = t.clone();
    let mut index = vec![0i64; dims.len()];
    for to in 0..elems {
        let from: usize = index.iter().zip(&steps).map(|(&i, s)| i as usize * s).sum();
        out.data[to * width..(to + 1) * width].copy_from_slice(&t.data[from * width..(from + 1) * width]);
        for (i, d) in index.iter_mut().zip(&dims).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    out.dims = dims;
    out
}

/// Samples in a path: a file, a test data set, or a folder of files or of test data sets.
///
/// # Errors
/// `E0701` for a folder without any.
pub fn samples(path: &Path, what: &str, cx: &mut Cx) -> Lowered<Vec<PathBuf>> {
    if !path.is_dir() || path.join(format!("{what}_0.pb")).is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).or_else(|e| cx.fail(Diagnostic::error(Code::FILE_READ, format!("`{}`: {e}", path.display()))))?;
    let mut out: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    out.retain(|p| p.extension().is_some_and(|e| e == "npz") || p.join(format!("{what}_0.pb")).is_file());
    out.sort();
    if out.is_empty() {
        let d = Diagnostic::error(Code::FILE_READ, format!("`{}` holds no samples", path.display()));
        return cx.fail(d.help(format!("a folder holds NAME.npz files, test data sets, or {what}_0.pb, {what}_1.pb, .. of one")));
    }
    Ok(out)
}

/// Loads a model for comparison, and says what it takes.
///
/// # Errors
/// As [`model::load`].
pub fn load(path: &Path, dims: &[String], cx: &mut Cx) -> Result<Graph, Reported> {
    Ok(model::load(path, dims, false, cx)?.graph)
}

/// ONNX's number of the dtype of each value by name, for reading arrays.
pub fn dtypes(g: &Graph) -> HashMap<String, i32> {
    let all = g.order().into_iter().flat_map(|n| g.node(n).results.clone());
    let mut out: HashMap<String, i32> =
        all.filter_map(|v| Some((g.value(v).name.as_deref()?.to_owned(), onnx_dtype(g.ty(v).dtype)))).collect();
    out.extend(g.outputs().iter().map(|o| (o.name.to_string(), onnx_dtype(g.ty(o.value).dtype))));
    out
}
