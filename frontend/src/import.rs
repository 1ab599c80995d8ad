// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a model file to a graph: entry points, the main graph's inputs, weights and outputs.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered, Severity};
use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Literal, Op, Origin, SymSource, Symbol, TensorType, ValueId};
use portwright_ir::sym::SymExpr;
use portwright_ir::weight::ByteOwner;

use crate::external::{External, map_file};
use crate::fault::Fault;
use crate::model::*;
use crate::proto::{self, ParseFail};
use crate::scope::{Frame, Scope, Slot};
use crate::tensor;

/// File format versions that are read.
pub const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;
/// Versions of the default operator set that are read with their own meaning.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;
/// Largest dim that a file may give: beyond it no address is left.
const MAX_DIM: i64 = 1 << 47;
/// Range of a symbol of which nothing is said.
const SYMBOL_RANGE: (i64, i64) = (0, i32::MAX as i64);

/// Called now and then with the stage and the number of nodes done.
pub type Progress = Arc<dyn Fn(&'static str, usize) + Send + Sync>;

/// What the user says about a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimOverride {
    /// `NAME=V`
    Value(i64),
    /// `NAME=LO..HI`, both included.
    Range(i64, i64),
}

impl DimOverride {
    /// Reads `NAME=V` or `NAME=LO..HI`; `None` if the text is neither.
    pub fn parse(text: &str) -> Option<(String, DimOverride)> {
        let (name, v) = text.rsplit_once('=')?;
        let v = match v.split_once("..") {
            None => DimOverride::Value(v.trim().parse().ok().filter(|v| (0..=MAX_DIM).contains(v))?),
            Some((lo, hi)) => {
                let (lo, hi): (i64, i64) = (lo.trim().parse().ok()?, hi.trim().trim_start_matches('=').parse().ok()?);
                (0 <= lo && lo <= hi && hi <= MAX_DIM).then_some(DimOverride::Range(lo, hi))?
            }
        };
        (!name.is_empty()).then(|| (name.to_string(), v))
    }
}

/// How to import.
#[derive(Clone, Default)]
pub struct ImportOptions {
    /// Values and ranges of symbols by name, in the order of the command line.
    pub dims: Vec<(String, DimOverride)>,
    /// Never open external data: weights stay references.
    pub weightless: bool,
    /// Inputs that are given for good, by name: they become constants and are no inputs any more. Operators that shape the graph by an
    /// input's values (axes of a reduction) can be compiled with them.
    pub fixed: Vec<(String, Literal)>,
    /// Go on behind what cannot be read: errors are reported, and there is a graph of the rest, for finding everything that is wrong. A
    /// node that failed becomes inputs of the types that the file declares, and what nothing uses an output.
    pub partial: bool,
    /// Told how far the import is.
    pub progress: Option<Progress>,
}

/// An imported model.
#[derive(Debug)]
pub struct Imported {
    /// What it computes.
    pub graph: Graph,
    /// Imported operator sets by domain; the default domain is `ai.onnx`.
    pub opsets: Vec<(String, i64)>,
    /// Version of the file format.
    pub ir_version: i64,
    /// Program that wrote the file, with its version.
    pub producer: String,
    /// Key-value pairs of the file.
    pub metadata: Vec<(String, String)>,
}

/// Imports a model file. External data is looked for in the file's folder.
///
/// # Errors
/// Reports all that is wrong with the model; `E0701` when the file cannot be read. A partial import fails only where there is no graph.
pub fn import(path: &Path, opts: &ImportOptions, diags: &mut Diags) -> Lowered<Imported> {
    let map = match std::fs::metadata(path) {
        // An empty file cannot be mapped.
        Ok(m) if m.is_file() && m.len() == 0 => None,
        _ => match map_file(path) {
            Ok(m) => Some(m),
            Err(e) => return Err(diags.report(Diagnostic::error(Code::FILE_READ, format!("`{}`: {e}", path.display())))),
        },
    };
    match map {
        Some(map) => import_from(map.bytes(), Some(&(map.clone() as _)), path.parent(), opts, diags),
        None => import_bytes(&[], path.parent(), opts, diags),
    }
}

/// Imports a model from bytes. External data is looked for in `folder`.
///
/// # Errors
/// Reports all that is wrong with the model.
pub fn import_bytes(bytes: &[u8], folder: Option<&Path>, opts: &ImportOptions, diags: &mut Diags) -> Lowered<Imported> {
    import_from(bytes, None, folder, opts, diags)
}

/// `keeper` has `bytes` for as long as a weight needs them, which then are not copied.
fn import_from(
    bytes: &[u8],
    keeper: Option<&Arc<dyn ByteOwner>>,
    folder: Option<&Path>,
    opts: &ImportOptions,
    diags: &mut Diags,
) -> Lowered<Imported> {
    let model = read_model(bytes, keeper, diags)?;
    let mut imp = Importer::new(&model, External::new(folder, opts.weightless), opts);
    imp.main_graph(opts);
    let found = imp.diags.take();
    let graph = imp.frames.pop().map(|f| f.graph);
    let before = diags.all().len();
    diags.extend(found);
    if !opts.partial && diags.all()[before..].iter().any(|d| d.severity == Severity::Error) {
        diags.check()?;
    }
    let Some(graph) = graph.map(|g| if opts.partial { with_all_outputs(g) } else { g }) else {
        return Err(diags.report(Diagnostic::error(Code::INTERNAL, "the import ended without a graph")));
    };
    let name = |d: &String| if d.is_empty() { "ai.onnx".to_string() } else { d.clone() };
    Ok(Imported {
        graph,
        opsets: model.opsets.iter().map(|(d, v)| (name(d), *v)).collect(),
        ir_version: model.ir_version,
        producer: model.producer.clone(),
        metadata: model.metadata.clone(),
    })
}

/// The graph with what nothing uses as outputs: it may have lost those behind a node that failed.
fn with_all_outputs(mut g: Graph) -> Graph {
    let mut names: HashSet<Arc<str>> = g.outputs().iter().map(|o| o.name.clone()).collect();
    for n in g.order() {
        for v in g.node(n).results.clone() {
            if !g.is_used(v) && !g.is_output(v) && !g.node(n).op.is_source() {
                let base: Arc<str> = g.value(v).name.clone().unwrap_or_else(|| g.node(n).origin.first().into());
                let mut name = base.clone();
                let mut i = 1;
                while !names.insert(name.clone()) {
                    i += 1;
                    name = format!("{base}.{i}").into();
                }
                g.add_output(name, v);
            }
        }
    }
    g
}

/// Parses the bytes and checks what concerns the file as a whole.
fn read_model(bytes: &[u8], keeper: Option<&Arc<dyn ByteOwner>>, diags: &mut Diags) -> Lowered<Model> {
    let not_onnx = |m: String| Diagnostic::error(Code::NOT_ONNX, m);
    if bytes.is_empty() {
        return Err(diags.report(not_onnx("the file is empty".into())));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(diags.report(
            not_onnx("the file is a Git LFS pointer, not the model".into()).help("run `git lfs pull` in the folder of the model"),
        ));
    }
    let model = match proto::read(bytes, keeper) {
        Ok(Some(m)) => m,
        Ok(None) => return Err(diags.report(not_onnx("the file holds no graph".into()))),
        Err(ParseFail::TooDeep) => {
            let m = format!("messages are nested too deeply; at most {} subgraphs may lie in each other", proto::SUBGRAPH_DEPTH);
            return Err(diags.report(Diagnostic::error(Code::NESTING, m)));
        }
        Err(ParseFail::Malformed(m)) => {
            return Err(diags.report(not_onnx(format!("the bytes are not an ONNX model, or the file is truncated: {m}"))));
        }
    };
    if !IR_VERSIONS.contains(&model.ir_version) {
        let m = format!("IR version {} is outside {}..={}", model.ir_version, IR_VERSIONS.start(), IR_VERSIONS.end());
        diags.report(Diagnostic::error(Code::IR_VERSION, m).help("convert the model: onnx.version_converter, or export it again"));
    }
    match model.opsets.get("") {
        Some(v) if *v > *OPSETS.end() => {
            let m = format!("opset {v} of ai.onnx is outside {}..={}", OPSETS.start(), OPSETS.end());
            diags.report(Diagnostic::error(Code::IR_VERSION, m).help("export the model with an opset of at most 28"));
        }
        Some(v) if *v < *OPSETS.start() => {
            let m = format!("opset {v} of ai.onnx is older than {}: operators that changed since are read as in {0}", OPSETS.start());
            diags.warn(Diagnostic::warning(Code::IR_VERSION, m));
        }
        _ => {}
    }
    diags.check()?;
    Ok(model)
}

/// An import under way.
pub struct Importer<'m> {
    pub(crate) model: &'m Model,
    pub(crate) frames: Vec<Frame>,
    pub(crate) scopes: Vec<Scope<'m>>,
    pub(crate) diags: Diags,
    pub(crate) external: External,
    /// Functions whose bodies are being imported, outermost first.
    pub(crate) calls: Vec<&'m FunctionKey>,
    pub(crate) nodes_done: usize,
    overrides: HashMap<&'m str, DimOverride>,
    symbols: HashMap<&'m str, SymExpr>,
    pub(crate) symbol_names: HashSet<Arc<str>>,
    weight_names: HashSet<Arc<str>>,
    /// In a partial import: types that the file declares of values of the main graph.
    declared: Option<HashMap<&'m str, &'m TypeDef>>,
    progress: Option<Progress>,
}

impl<'m> Importer<'m> {
    fn new(model: &'m Model, external: External, opts: &'m ImportOptions) -> Self {
        Importer {
            model,
            frames: vec![Frame::new(Graph::new("main"))],
            scopes: Vec::new(),
            diags: Diags::new(),
            external,
            calls: Vec::new(),
            nodes_done: 0,
            overrides: opts.dims.iter().map(|(n, o)| (n.as_str(), o.clone())).collect(),
            symbols: HashMap::new(),
            symbol_names: HashSet::new(),
            weight_names: HashSet::new(),
            declared: opts.partial.then(|| {
                let g = &model.graph;
                g.infos.iter().chain(&g.outputs).map(|v| (v.name.as_str(), &v.ty)).collect()
            }),
            progress: opts.progress.clone(),
        }
    }

    fn main_graph(&mut self, opts: &ImportOptions) {
        let (model, g) = (self.model, &self.model.graph);
        let scope = Scope { names: HashMap::new(), parent: None, frame: 0, env: Rc::default(), opsets: &model.opsets };
        self.scopes.push(scope);
        for key in &model.duplicate_functions {
            let m = format!("function `{}.{}` is defined twice", key.0, key.1);
            self.diags.report(Diagnostic::error(Code::DUPLICATE_NAME, m));
        }
        self.initializers(g);
        let with_default: HashSet<&str> = g.initializers.iter().map(|t| t.name.as_str()).collect();
        for v in &g.inputs {
            // An input with an initializer has a default; inference takes it as the constant that it is.
            if with_default.contains(v.name.as_str()) {
                continue;
            }
            let slot = match opts.fixed.iter().find(|(name, _)| *name == v.name) {
                Some((_, value)) => self.fixed_input(v, value),
                None => self.input(v),
            };
            self.define(&v.name, slot, || "an input".into());
        }
        self.check_overrides();
        self.body(&g.nodes, "main");
        for o in &g.outputs {
            match self.resolve(&o.name) {
                Some(Slot::Value(v)) => {
                    self.frames[0].graph.add_output(o.name.as_str(), v);
                    self.check_output(o, v);
                }
                Some(Slot::Poison) => {}
                Some(Slot::List(_)) => {
                    let m = format!("output `{}` is a sequence; outputs are tensors", o.name);
                    self.diags.report(Diagnostic::error(Code::UNSUPPORTED_FORM, m));
                }
                Some(Slot::Absent) => {
                    let m = format!("output `{}` is an optional without a value", o.name);
                    self.diags.report(Diagnostic::error(Code::UNSUPPORTED_FORM, m));
                }
                None => {
                    self.diags.report(Diagnostic::error(Code::UNDEFINED_NAME, format!("output `{}` is defined nowhere", o.name)));
                }
            }
        }
        self.tick(true);
    }

    /// Reports a declared output dtype that the graph does not compute.
    fn check_output(&mut self, o: &ValueDef, v: ValueId) {
        if let TypeDef::Tensor { elem, .. } = o.ty
            && let Some(declared) = dtype_of(elem)
        {
            let found = self.frames[0].graph.ty(v).dtype;
            if found != declared {
                let m = format!("output `{}` is declared as {declared} but computed as {found}", o.name);
                self.diags.report(Diagnostic::error(Code::DTYPE_MISMATCH, m));
            }
        }
    }

    /// Defines the constants of a graph in the current scope.
    pub(crate) fn initializers(&mut self, g: &'m GraphDef) {
        for t in &g.initializers {
            let slot = match self.constant(t, &t.name, Origin::default()) {
                Ok(v) => Slot::Value(v),
                Err(f) => {
                    // What is said of a data file is said once, with the weights that lie in it.
                    let path = (f.code == Some(Code::EXTERNAL_DATA)).then(|| format!("weight {}", t.name));
                    self.fault(f, path.as_deref(), None);
                    Slot::Poison
                }
            };
            self.define(&t.name, slot, || "an initializer".into());
        }
    }

    /// Adds a constant tensor to the current frame: a small one as such, else as a weight of the main graph.
    pub(crate) fn constant(&mut self, t: &TensorDef, name: &str, origin: Origin) -> Result<ValueId, Fault> {
        let checked = tensor::check(t, &mut self.external)?;
        let top = self.frames.len() - 1;
        let v = match checked.into_const() {
            Ok(value) => {
                let g = &mut self.frames[top].graph;
                let n = g.add(Op::Const { value }, &[], origin)?;
                g.result(n)
            }
            Err(checked) => {
                let mut unique: Arc<str> = if name.is_empty() { "constant".into() } else { name.into() };
                let mut n = 1;
                while !self.weight_names.insert(unique.clone()) {
                    unique = format!("{name}.{n}").into();
                    n += 1;
                }
                let g = &mut self.frames[0].graph;
                let weight = g.add_weight(checked.into_weight(unique));
                let n = g.add(Op::Weight { weight }, &[], origin)?;
                let v = g.result(n);
                crate::scope::lift(&mut self.frames, 0, top, v)
            }
        };
        if !name.is_empty() {
            self.frames[top].graph.set_name(v, name);
        }
        Ok(v)
    }

    /// Defines a name in the current scope; a second definition is reported, and the first one stays.
    pub(crate) fn define(&mut self, name: &'m str, slot: Slot, what: impl FnOnce() -> String) {
        let Some(scope) = self.scopes.last_mut() else { return };
        if scope.names.contains_key(name) {
            let m = format!("`{name}` is defined twice; the second time by {}", what());
            self.diags.report(Diagnostic::error(Code::DUPLICATE_NAME, m));
        } else {
            scope.names.insert(name, slot);
        }
    }

    fn fixed_input(&mut self, v: &'m ValueDef, value: &Literal) -> Slot {
        if let TypeDef::Tensor { elem, .. } = v.ty
            && dtype_of(elem).is_some_and(|d| d != value.dtype)
        {
            let m =
                format!("input `{}` is fixed to {} numbers, its dtype is {}", v.name, value.dtype, dtype_of(elem).map_or("?", DType::name));
            self.diags.report(Diagnostic::error(Code::DTYPE_MISMATCH, m));
            return Slot::Poison;
        }
        match self.frames[0].graph.add(Op::Const { value: value.clone() }, &[], Origin::default()) {
            Ok(n) => Slot::Value(self.frames[0].graph.result(n)),
            Err(f) => {
                self.fault(f.into(), None, None);
                Slot::Poison
            }
        }
    }

    fn input(&mut self, v: &'m ValueDef) -> Slot {
        match self.declared_type(&v.ty) {
            Ok(ty) => Slot::Value(self.frames[0].graph.add_input(v.name.as_str(), ty)),
            Err(f) => {
                self.diags.report(diagnostic(Fault { message: format!("input `{}`: {}", v.name, f.message), ..f }));
                Slot::Poison
            }
        }
    }

    /// The type that a file declares; unknown dims become symbols.
    ///
    /// # Errors
    /// Nothing usable is declared, or dims are out of range.
    pub(crate) fn declared_type(&mut self, ty: &'m TypeDef) -> Result<TensorType, Fault> {
        let (elem, dims) = match ty {
            TypeDef::Tensor { elem, dims } => (*elem, dims),
            TypeDef::Other(kind) => return Err(Fault::form(format!("its type is {kind}; inputs are tensors"))),
            TypeDef::Missing => return Err(Fault::new(Code::MISSING_TYPE, "it has no type")),
        };
        let Some(dtype) = dtype_of(elem) else {
            return Err(Fault::new(Code::MISSING_TYPE, format!("its dtype has the number {elem}, which is not one of ONNX")));
        };
        if dtype.bits() == 0 {
            let f = Fault::new(Code::UNSUPPORTED_FORM, "it is a tensor of texts; Portwright computes on numbers");
            return Err(f.help("move the text processing out of the model and feed it the numbers"));
        }
        let Some(dims) = dims else {
            let f = Fault::new(Code::MISSING_TYPE, "not even its rank is declared");
            return Err(f.help("export the model with the ranks of its inputs, or run onnx.shape_inference on it"));
        };
        let mut out = Vec::with_capacity(dims.len());
        for (i, d) in dims.iter().enumerate() {
            out.push(match d {
                DimDef::Value(v) if *v < -1 || *v > MAX_DIM => {
                    return Err(Fault::new(Code::BAD_DIM, format!("dim {i} is {v}; expected 0 to 2^47, or -1 for an unknown one")));
                }
                // Exporters write -1, a number, where they mean an unknown dim.
                DimDef::Value(-1) | DimDef::Unknown => self.fresh_symbol("unk", SymSource::Input),
                DimDef::Value(v) => (*v).into(),
                DimDef::Param(name) => self.named_symbol(name),
            });
        }
        let ty = TensorType::new(dtype, out);
        let known: i128 = ty.dims.iter().filter_map(SymExpr::as_const).fold(1i128, |n, d| n.saturating_mul(d.into()));
        if known.saturating_mul(dtype.bits().into()) / 8 > i128::from(i64::MAX) {
            return Err(Fault::new(Code::SIZE_OVERFLOW, format!("{ty} has more bytes than 64 bits can count")));
        }
        Ok(ty)
    }

    fn named_symbol(&mut self, name: &'m str) -> SymExpr {
        if let Some(e) = self.symbols.get(name) {
            return e.clone();
        }
        let e = match self.overrides.get(name) {
            Some(DimOverride::Value(v)) => (*v).into(),
            o => {
                let (lo, hi) = match o {
                    Some(DimOverride::Range(lo, hi)) => (*lo, *hi),
                    _ => SYMBOL_RANGE,
                };
                // Names that would not read as one word in text are spelled with underscores.
                let spelled = name.replace('+', " plus ").replace('-', " minus ").replace('*', " times ").replace('/', " over ");
                let mut words = spelled.split(|c: char| !c.is_alphanumeric() && !"_.".contains(c)).filter(|w| !w.is_empty());
                let first = words.next().unwrap_or("_").to_string();
                let word = words.fold(first, |all, w| all + "_" + w);
                let word = if word.starts_with(|c: char| c.is_alphabetic() || c == '_') { word } else { format!("_{word}") };
                let mut unique: Arc<str> = word.as_str().into();
                let mut n = 1;
                while !self.symbol_names.insert(unique.clone()) {
                    unique = format!("{word}_{n}").into();
                    n += 1;
                }
                let s = Symbol { name: unique.clone(), lo, hi, div: 1, source: SymSource::Input };
                self.frames[0].graph.add_symbol(s);
                SymExpr::sym(unique)
            }
        };
        self.symbols.insert(name, e.clone());
        e
    }

    /// Declares a symbol of a new name in the current frame.
    pub(crate) fn fresh_symbol(&mut self, hint: &str, source: SymSource) -> SymExpr {
        self.fresh_from(hint, source, SYMBOL_RANGE.0)
    }

    /// As [`fresh_symbol`](Self::fresh_symbol), for values of `lo` and more.
    pub(crate) fn fresh_from(&mut self, hint: &str, source: SymSource, lo: i64) -> SymExpr {
        let mut n = self.symbol_names.len();
        let name = loop {
            let name: Arc<str> = format!("{hint}_{n}").into();
            if self.symbol_names.insert(name.clone()) {
                break name;
            }
            n += 1;
        };
        let (lo, hi) = match self.overrides.get(&*name) {
            Some(DimOverride::Range(lo, hi)) => (*lo, *hi),
            Some(DimOverride::Value(v)) if source == SymSource::Input => {
                let v = *v;
                return v.into();
            }
            _ => (lo, SYMBOL_RANGE.1),
        };
        if let Some(f) = self.frames.last_mut() {
            f.graph.add_symbol(Symbol { name: name.clone(), lo, hi, div: 1, source });
        }
        SymExpr::sym(name)
    }

    fn check_overrides(&mut self) {
        let mut unknown: Vec<&str> =
            self.overrides.keys().copied().filter(|n| !self.symbols.contains_key(n) && !self.symbol_names.contains(*n)).collect();
        unknown.sort_unstable();
        for name in unknown {
            let mut known: Vec<&str> = self.symbols.keys().copied().collect();
            known.sort_unstable();
            let d = Diagnostic::error(Code::UNKNOWN_SYMBOL, format!("no input has a dim named `{name}`"));
            let d = if known.is_empty() { d } else { d.note(format!("its symbols are {}", known.join(", "))) };
            self.diags.report(d);
        }
    }

    /// Reports a fault at a node, unless it follows from one that was reported.
    pub(crate) fn fault(&mut self, f: Fault, path: Option<&str>, op: Option<String>) {
        if f.code.is_some() {
            let mut d = diagnostic(f);
            d.path = path.map(str::to_string);
            d.op = op;
            self.diags.report(d);
        }
    }

    /// As [`fault`](Self::fault), of a node that takes `operands`.
    pub(crate) fn node_fault(&mut self, f: Fault, path: &str, op: String, operands: Vec<String>) {
        if f.code.is_some() {
            self.diags.report(diagnostic(f).at(path).op(op).operands(operands));
        }
    }

    /// In a partial import, an input in the place of a value of the main graph that was not made.
    pub(crate) fn stand_in(&mut self, name: &'m str) -> Slot {
        let declared = self.declared.as_ref().and_then(|d| d.get(name).copied());
        let (Some(ty), [scope], 1) = (declared, &self.scopes[..], self.frames.len()) else { return Slot::Poison };
        if scope.names.contains_key(name) {
            return Slot::Poison;
        }
        match self.declared_type(ty) {
            Ok(ty) => Slot::Value(self.frames[0].graph.add_input(name, ty)),
            Err(_) => Slot::Poison,
        }
    }

    pub(crate) fn tick(&mut self, done: bool) {
        if let Some(p) = &self.progress
            && (done || self.nodes_done.is_multiple_of(4096))
        {
            p("import", self.nodes_done);
        }
    }
}

fn diagnostic(f: Fault) -> Diagnostic {
    let mut d = Diagnostic::error(f.code.unwrap_or(Code::INTERNAL), f.message);
    d.notes.extend(f.why);
    d.notes.extend(f.note);
    match f.help {
        Some(h) => d.help(h),
        None => d,
    }
}
