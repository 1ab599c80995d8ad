// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model to a bundle: both programs, code, weights, header, manifest.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::graph::{Graph, HostOp};
use portwright_ir::kernel::Module;
use portwright_ir::plan::{HostPlan, Stmt};
use portwright_ir::weight::{Weight, WeightSource};
use portwright_passes::pipeline::{self, Compiled};
use portwright_passes::plan::{Program, WeightInit};
use portwright_passes::prepare::{self, Prepared};
use portwright_passes::spec::Math;
use portwright_runtime::bundle::{BundleError, BundleWriter, LIBRARY, STORE};
use portwright_runtime::embed;
use portwright_runtime::header;
use portwright_runtime::manifest::{self, HostNode, Kernel, Manifest, Memory, Store};
use portwright_runtime::program::{self, Program as Executable};
use portwright_targets::cache::{self, Cache};
use portwright_targets::cfamily;
use portwright_targets::codegen::Workers;
use portwright_targets::compile as codegen;
use portwright_targets::libc::Libc;
use portwright_targets::link;
use portwright_targets::target::{self, Machine};

use crate::Cx;
use crate::args::TargetArgs;
use crate::model::Model;
use crate::packing::{Packer, Packing};
use crate::progress::Progress;
use crate::weightless;

/// Where an executable's code lies among its parts.
const EXECUTABLE: &str = "lib/program";

/// What to compile for.
pub struct Options {
    /// The machine.
    pub machine: Machine,
    /// Who runs the pack program.
    pub packer: Packer,
    /// Which rounding is allowed.
    pub math: Math,
    /// Whether siblings over different weights are written once.
    pub reroll: bool,
    /// Symbols that were given a value or a range, as on the command line, for the manifest.
    pub dims: Vec<String>,
    /// Who runs LLVM.
    pub workers: Workers,
    /// Whether a bundle has to be on the disk when it is done; not where it is run once and removed.
    pub durable: bool,
}

/// Resolves target and CPU.
///
/// # Errors
/// `E0001`, `E0002`, `E0005`.
pub fn options(args: &TargetArgs, cx: &mut Cx) -> Lowered<Options> {
    let machine = target::machine(args.id(), args.cpu.as_deref(), &mut cx.diags)?;
    let packer = Packer::here(&mut cx.diags)?;
    Ok(Options {
        machine,
        packer,
        math: args.math().into(),
        reroll: !args.no_reroll,
        dims: args.dims.clone(),
        workers: workers(),
        durable: true,
    })
}

/// Runs the passes.
///
/// # Errors
/// Everything that will not work, at once.
pub fn lower(graph: Graph, o: &Options, watch: Option<pipeline::Watch<'_>>, cx: &mut Cx) -> Lowered<Compiled> {
    let prepared = prepare(graph, o, watch, cx)?;
    programs(prepared, o, cx)
}

/// Runs the passes up to the legal graph.
///
/// # Errors
/// Everything that has no kernels, at once.
pub fn prepare(graph: Graph, o: &Options, watch: Option<pipeline::Watch<'_>>, cx: &mut Cx) -> Lowered<Prepared> {
    let options = prepare::Options { math: o.math, reroll: o.reroll, stages: watch, ..Default::default() };
    prepare::prepare_with(graph, &o.machine.class, options, &mut cx.diags)
}

/// Makes legal kernels and a plan of a legal graph.
///
/// # Errors
/// Every node that has no schedule.
pub fn programs(prepared: Prepared, o: &Options, cx: &mut Cx) -> Lowered<Compiled> {
    let mut c = pipeline::programs(prepared, &o.machine.class, o.packer.class(), &mut cx.diags)?;
    codegen::legalize(&mut c.main.module, &o.machine);
    if let Packer::Code(packer) = &o.packer {
        codegen::legalize(&mut c.pack.module, packer);
        c.streams.iter_mut().for_each(|s| codegen::legalize(&mut s.program.module, packer));
    }
    // `bench/checks.py` measures what checks cost; a program without them is wrong where its data is.
    if std::env::var_os("PORTWRIGHT_MEASURE_WITHOUT_CHECKS").is_some_and(|v| v == "1") {
        portwright_passes::plan::without_checks(&mut c.main);
    }
    Ok(c)
}

/// Who runs LLVM: processes of this program, so that an abort is a diagnostic.
pub fn workers() -> Workers {
    match std::env::current_exe() {
        Ok(exe) => Workers::Processes {
            program: exe,
            args: vec!["codegen".into()],
            count: std::thread::available_parallelism().map_or(1, usize::from),
        },
        Err(_) => Workers::InProcess,
    }
}

/// The user's cache of objects.
pub fn cache() -> Option<Cache> {
    Some(Cache::new(cache_folder()?, cache::LIMIT))
}

/// Folder of the user's cache: `PORTWRIGHT_CACHE` names it, or is `off`; else it lies where the user's caches do.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    match std::env::var_os("PORTWRIGHT_CACHE") {
        Some(v) if v == "off" || v.is_empty() => None,
        Some(v) => Some(PathBuf::from(v)),
        None => Some(absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?.join("portwright")),
    }
}

/// A bundle that cannot be written, as a report.
pub fn bundle_error(e: &BundleError) -> Diagnostic {
    match e {
        BundleError::Occupied(_) => Diagnostic::error(Code::OUTPUT_EXISTS, e.to_string()).help("give another folder with -o, or remove it"),
        _ => Diagnostic::error(Code::FILE_WRITE, e.to_string()),
    }
}

/// An executable that cannot be written, as a report.
pub fn executable_error(e: &BundleError) -> Diagnostic {
    match e {
        BundleError::Occupied(p) => {
            let m = format!("{} exists and is no executable of `compile --static`; it is left alone", p.display());
            Diagnostic::error(Code::OUTPUT_EXISTS, m).help("give another file with -o, or remove it")
        }
        _ => bundle_error(e),
    }
}

pub(crate) fn file_error(path: &Path, e: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Code::FILE_WRITE, format!("`{}`: {e}", path.display()))
}

/// Emits and links a program into the library `out`; returns its description.
pub(crate) fn library(
    program: &Program,
    machine: &Machine,
    workers: &Workers,
    place: (&str, &Path, &Path),
    diags: &mut Diags,
) -> Lowered<portwright_runtime::blob::Blob> {
    linked(program, machine, workers, place, None, diags)
}

/// As [`library`]; with a C library into an executable without its weights.
fn linked(
    program: &Program,
    machine: &Machine,
    workers: &Workers,
    (name, work, out): (&str, &Path, &Path),
    libc: Option<&Libc>,
    diags: &mut Diags,
) -> Lowered<portwright_runtime::blob::Blob> {
    let options = codegen::Options { workers: workers.clone(), cache: cache(), ..Default::default() };
    let made = codegen::emit(&program.module, &program.plan, machine, &options, diags)?;
    let objects = work.join("objects");
    std::fs::create_dir_all(&objects).map_err(|e| diags.report(file_error(&objects, e)))?;
    let linked = match libc {
        None => link::link(&made.objects, (machine.triple, machine.device.is_some()), name, &objects, out, diags),
        Some(libc) => link::program(&made.objects, machine.triple, libc, &objects, out, diags),
    };
    let _ = std::fs::remove_dir_all(&objects);
    linked?;
    Ok(made.blob)
}

/// Writes a program as sources for a vendor's compiler; returns its description.
fn sources(program: &Program, machine: &Machine, writer: &BundleWriter, cx: &mut Cx) -> Lowered<portwright_runtime::blob::Blob> {
    let made = cfamily::sources(&program.module, &program.plan, machine, &mut cx.diags)?;
    for (file, text) in &made.files {
        writer.write(file, text.as_bytes()).map_err(|e| cx.diags.report(bundle_error(&e)))?;
    }
    Ok(made.blob)
}

/// A machine as manifests name it.
pub fn machine_target(m: &Machine) -> manifest::Target {
    manifest::Target {
        id: m.target.to_owned(),
        triple: m.triple.to_owned(),
        cpu: m.cpu.clone(),
        features: m.features.iter().map(|f| (*f).to_owned()).collect(),
        device: cfamily::device_name(m).or_else(|| m.device.as_ref().map(|d| d.driver.name().to_owned())),
    }
}

/// Compiles a model into the bundle `out`.
///
/// # Errors
/// Anything on the way; `out` is as it was before.
pub fn bundle(model: Model, o: &Options, out: &Path, weightless: bool, progress: &mut Progress, cx: &mut Cx) -> Lowered<PathBuf> {
    let (compiled, about) = compiled(model, o, progress, cx)?;
    bundle_of(compiled, about, o, out, weightless, progress, cx)
}

/// Writes what was compiled as the bundle `out`.
///
/// # Errors
/// As [`bundle`].
pub fn bundle_of(
    compiled: Compiled,
    about: About,
    o: &Options,
    out: &Path,
    weightless: bool,
    progress: &mut Progress,
    cx: &mut Cx,
) -> Lowered<PathBuf> {
    let made = write(compiled, about, o, out, (weightless, None), progress, cx)?;
    let done = made.writer.finish(made.manifest).map_err(|e| cx.diags.report(bundle_error(&e)))?;
    progress.end();
    Ok(done.path)
}

/// Operations of the host in a plan, in order.
fn host_nodes(plan: &HostPlan, body: &[Stmt], out: &mut Vec<HostNode>) {
    for s in body {
        match s {
            Stmt::Host(h) => out.push(HostNode {
                node: plan.origins.get(h.origin).map_or("", |o| o.first()).to_owned(),
                op: h.op.name().to_owned(),
                reason: match h.op {
                    HostOp::ImageDecode => "images are decoded by the host",
                    _ => "texts, sequences, optionals and maps are worked on by the host",
                }
                .to_owned(),
            }),
            Stmt::If { then, els, .. } => {
                host_nodes(plan, then, out);
                host_nodes(plan, els, out);
            }
            Stmt::Loop { body, .. } => host_nodes(plan, body, out),
            _ => {}
        }
    }
}

/// Whether a static executable for that machine can be written there.
///
/// # Errors
/// A machine with kernels of a device; no folder.
pub fn check_executable(o: &Options, out: &Path, cx: &mut Cx) -> Lowered<()> {
    if o.machine.device.is_some() {
        let d = Diagnostic::error(Code::OPTION_UNUSED, format!("--static: kernels for {} run on a device", o.machine.target));
        return cx.fail(
            d.note("a static executable cannot open the device's driver").help("leave --static out: a bundle needs no toolkit either"),
        );
    }
    if out.parent().is_some_and(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        return cx.fail(file_error(out, "its folder does not exist"));
    }
    Ok(())
}

/// Writes what was compiled as the static executable `out`, linked with that C library; [`check_executable`] comes before.
///
/// # Errors
/// Anything on the way; `out` is as it was before.
pub fn executable_of(
    compiled: Compiled,
    about: About,
    o: &Options,
    out: &Path,
    libc: &Libc,
    progress: &mut Progress,
    cx: &mut Cx,
) -> Lowered<Executable> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    // A bundle's folder beside it that never becomes one: large weights are written once, on the disk where they stay.
    let parts = out.with_file_name(format!(".{name}.parts-{}", std::process::id()));
    let made = write(compiled, about, o, &parts, (false, Some(libc)), progress, cx)?;
    let store = made.manifest.store.as_ref().map(|_| made.store_at);
    let others = made.manifest.inputs.iter().chain(&made.manifest.outputs).find(|v| v.kind != "tensor");
    if let Some(v) = others {
        let m = format!("`{}` is of the kind `{}`, and a static executable takes and gives tensors of numbers", v.name, v.kind);
        return cx.fail(Diagnostic::error(Code::NOT_SUPPORTED, m).help("compile a bundle: leave --static out"));
    }
    let done = program::complete(&made.writer.folder().join(EXECUTABLE), store, &made.manifest, out);
    progress.end();
    done.map_err(|e| cx.diags.report(executable_error(&e)))
}

/// A folder with all that a bundle has, and what is said of it.
struct Written {
    writer: BundleWriter,
    manifest: Manifest,
    /// Where the store begins in its file.
    store_at: u64,
}

/// What a bundle says of the model that it was made of.
#[derive(Default)]
pub struct About {
    /// Name of the model.
    pub name: String,
    /// Its file.
    pub source: manifest::Source,
    /// Bytes of the view that lies beside it.
    pub view: Option<Vec<u8>>,
}

/// Runs the passes on a model.
///
/// # Errors
/// As [`lower`].
pub fn compiled(model: Model, o: &Options, progress: &mut Progress, cx: &mut Cx) -> Lowered<(Compiled, About)> {
    let Model { mut graph, name, source, view } = model;
    let name = header::identifier(&name);
    graph.name.clone_from(&name);
    progress.stage(format!("passes ({} nodes)", graph.len()));
    Ok((lower(graph, o, None, cx)?, About { name, source, view }))
}

/// Writes a bundle's folder. With a C library its code is not the library but [`EXECUTABLE`], and the store lies behind that.
fn write(
    mut compiled: Compiled,
    about: About,
    o: &Options,
    out: &Path,
    (weightless, libc): (bool, Option<&Libc>),
    progress: &mut Progress,
    cx: &mut Cx,
) -> Lowered<Written> {
    let About { name, source, view } = about;
    compiled.main.plan.name.clone_from(&name);
    let writer = BundleWriter::create(out).map_err(|e| cx.diags.report(bundle_error(&e)))?.durable(o.durable);
    let work = writer.folder().join("work");
    std::fs::create_dir_all(&work).map_err(|e| cx.diags.report(file_error(&work, e)))?;
    let first = if matches!(libc, Some(Libc::Zig(_))) { "; musl takes a minute once a target" } else { "" };
    progress.stage(format!("code ({} kernels{first})", compiled.main.module.kernels.len()));
    let code = writer.folder().join(if libc.is_some() { EXECUTABLE } else { LIBRARY });
    let blob = match cfamily::dialect_of(&o.machine) {
        Some(_) => sources(&compiled.main, &o.machine, &writer, cx)?,
        None => linked(&compiled.main, &o.machine, &o.workers, (&name, &work, &code), libc, &mut cx.diags)?,
    };
    let absent: Vec<&Weight> = weights(&compiled).filter(|w| matches!(w.source, WeightSource::Absent { .. })).collect();
    let (store_file, store_at) = match libc {
        None => (writer.folder().join(STORE), 0),
        Some(_) => (code.clone(), program::store_place(&code).map_err(|e| cx.diags.report(file_error(&code, e)))?),
    };
    let mut manifest = Manifest::of_blob(&blob);
    manifest.source = source;
    manifest.target = machine_target(&o.machine);
    manifest.options = BTreeMap::from([("math".to_owned(), o.math.name().to_owned())]);
    for (symbol, value) in o.dims.iter().filter_map(|d| d.split_once('=')) {
        manifest.options.insert(format!("dim {}", symbol.trim()), value.trim().to_owned());
    }
    manifest.versions.insert("portwright".into(), env!("CARGO_PKG_VERSION").into());
    manifest.kernels = kernels(&compiled.main.module);
    host_nodes(&compiled.main.plan, &compiled.main.plan.body, &mut manifest.host_nodes);
    manifest.work = work_of(&compiled);
    manifest.memory = memory(&compiled.main.plan);
    manifest.weights = expected(&absent);
    let layout = codegen::store_layout(&compiled.main.plan);
    if layout.reference().is_some() {
        let tensors = layout.entries().iter().map(|e| weight_entry(&e.name, e.dtype, &e.dims, "", e.offset, e.bytes)).collect();
        let mut store = Store {
            file: STORE.into(),
            packed: false,
            data_bytes: layout.data_bytes(),
            layout: manifest::hex(&layout.hash()),
            content: String::new(),
            tensors,
        };
        if !weightless && !absent.is_empty() {
            let d = Diagnostic::error(Code::EXTERNAL_DATA, format!("{} weights have no data", absent.len()));
            return cx.fail(d.help("put the model's data files beside it, or compile with --weightless"));
        }
        if absent.is_empty() && !weightless {
            progress.stage(format!("weights ({:.1} MB)", layout.data_bytes() as f64 / 1e6));
            let packing = Packing { main: &compiled.main, pack: &compiled.pack, streams: &compiled.streams };
            let hash = packing.fill(&o.packer, &o.workers, &work, (&layout, &store_file, store_at), cx)?;
            store.packed = true;
            store.content = manifest::hex(&hash);
        } else {
            weightless::write(&compiled, &writer).map_err(|e| cx.diags.report(bundle_error(&e)))?;
        }
        manifest.store = Some(store);
    }
    let _ = std::fs::remove_dir_all(&work);
    writer.write(&format!("include/{name}.h"), header::write(&blob).as_bytes()).map_err(|e| cx.diags.report(bundle_error(&e)))?;
    if manifest.host_nodes.iter().any(|n| n.op == HostOp::ImageDecode.name()) {
        writer.write("LICENSES", embed::image_licenses().as_bytes()).map_err(|e| cx.diags.report(bundle_error(&e)))?;
    }
    if let Some(view) = view {
        writer.write(crate::view::FILE, &view).map_err(|e| cx.diags.report(bundle_error(&e)))?;
    }
    Ok(Written { writer, manifest, store_at })
}

/// What a run has to do, by nodes.
fn work_of(c: &Compiled) -> Vec<manifest::Work> {
    let entry = |w: portwright_passes::work::Work| manifest::Work {
        nodes: w.origin.paths.join(" + "),
        launches: w.fusions,
        bytes: w.bytes.to_string(),
        products: w.products.to_string(),
    };
    portwright_passes::work::of(&c.prepared.main).into_iter().map(entry).collect()
}

/// All weights of the model that some program reads.
fn weights(c: &Compiled) -> impl Iterator<Item = &Weight> {
    let stored = c.main.weights.iter().chain(&c.pack.weights).filter_map(|w| match w {
        WeightInit::Weight(w) => Some(w),
        WeightInit::Literal(_) => None,
    });
    let streamed = c.streams.iter().flat_map(|s| &s.runs).flat_map(|r| &r.inputs);
    stored.chain(streamed).flat_map(Weight::parts).filter(|w| !matches!(w.source, WeightSource::Packed))
}

fn weight_entry(name: &str, dtype: i32, dims: &[i64], file: &str, offset: u64, bytes: u64) -> manifest::Weight {
    manifest::Weight {
        name: name.into(),
        dtype: portwright_runtime::dtype::name(dtype),
        shape: dims.to_vec(),
        file: file.into(),
        offset,
        bytes,
    }
}

/// What a weightless bundle is completed with.
fn expected(absent: &[&Weight]) -> Vec<manifest::Weight> {
    let mut out: Vec<manifest::Weight> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for w in absent {
        let WeightSource::Absent { location, offset, len } = &w.source else { continue };
        if seen.insert(&w.name) {
            out.push(weight_entry(&w.name, codegen::onnx_dtype(w.dtype), &w.dims, location, *offset, *len));
        }
    }
    out
}

fn kernels(module: &Module) -> Vec<Kernel> {
    let one = |k: &portwright_ir::kernel::Kernel| Kernel { name: k.name.clone(), class: k.class.name().into(), nodes: k.origin.clone() };
    module.kernels.values().map(one).collect()
}

fn memory(plan: &HostPlan) -> Memory {
    fn walk(body: &[Stmt], arena: &mut Vec<String>, scratch: &mut Vec<String>) {
        for s in body {
            match s {
                Stmt::Epoch { bytes, .. } => arena.push(bytes.to_string()),
                Stmt::Launch(l) => {
                    let text = l.scratch_bytes.to_string();
                    if text != "0" && !scratch.contains(&text) {
                        scratch.push(text);
                    }
                }
                Stmt::If { then, els, .. } => {
                    walk(then, arena, scratch);
                    walk(els, arena, scratch);
                }
                Stmt::Loop { body, .. } => walk(body, arena, scratch),
                _ => {}
            }
        }
    }
    let (mut arena, mut scratch) = (Vec::new(), Vec::new());
    walk(&plan.body, &mut arena, &mut scratch);
    let scratch = if scratch.is_empty() { "0".into() } else { scratch.join(" or ") };
    Memory { weight_bytes: plan.store_bytes(), arena, max_arena_bytes: None, scratch_bytes_per_thread: scratch }
}

/// Bytes of a weight that is at hand.
pub fn bytes_of(w: &Weight) -> Option<std::borrow::Cow<'_, [u8]>> {
    match &w.source {
        WeightSource::Seed(seed) => portwright_ir::numerics::seeded_bytes(*seed, w.dtype, &w.dims).map(Into::into),
        WeightSource::Parts(_) => w.joined(&|p| bytes_of(p).map(Into::into)).map(Into::into),
        _ => w.bytes().map(Into::into),
    }
}

/// A folder that is removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// `E0702`.
    pub fn new(cx: &mut Cx) -> Lowered<Scratch> {
        let path = std::env::temp_dir().join(format!("portwright-{}-{}", std::process::id(), unique()));
        std::fs::create_dir_all(&path).map_err(|e| cx.diags.report(file_error(&path, e)))?;
        Ok(Scratch(path))
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
