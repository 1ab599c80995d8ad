// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels and a plan to objects: the way in for the command.

use std::collections::BTreeSet;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::graph::{Item, ItemRank, ListKind, ListType, TensorType};
use portwright_ir::kernel::{Kernel, KernelId, Module};
use portwright_ir::plan::{HostPlan, Stmt, Storage};
use portwright_ir::sym::SymExpr;
use portwright_runtime::blob::{Blob, Dim, Item as BlobItem, Kind, Port, Symbol};
use portwright_runtime::store::Layout;
use portwright_runtime::{device, dtype};

use crate::cache::Cache;
use crate::codegen::{self, Form, Request, Workers};
use crate::mlir::{self, Unit};
use crate::peak::peaks;
use crate::target::{self, Device, Machine};

/// How to compile.
#[derive(Clone, Debug)]
pub struct Options {
    /// 0 to 3.
    pub opt_level: u8,
    /// Who runs LLVM.
    pub workers: Workers,
    /// Where objects of earlier compilations are.
    pub cache: Option<Cache>,
}

impl Default for Options {
    fn default() -> Self {
        Options { opt_level: 2, workers: Workers::InProcess, cache: None }
    }
}

/// What a model became.
#[derive(Clone, Debug, Default)]
pub struct Artifacts {
    /// Object files, in the order in which they are linked.
    pub objects: Vec<Vec<u8>>,
    /// MLIR text of each object.
    pub mlir: Vec<String>,
    /// The description that the library carries.
    pub blob: Blob,
    /// Code of a device, by unit.
    pub images: Vec<String>,
}

/// Weight of the kernels that one object holds; fixed, so that the objects do not depend on the number of workers.
const UNIT_WEIGHT: usize = 4000;

/// Makes kernels legal for a machine. Everything that is emitted went through this, so that an interpreter can run it too.
pub fn legalize(module: &mut Module, machine: &Machine) {
    portwright_passes::kernel_rules::legalize(module, &machine.caps);
}

/// Emits a module, legal for the machine, and its plan as objects.
///
/// # Errors
/// `E0503` naming the kernel and its nodes.
pub fn emit(module: &Module, plan: &HostPlan, machine: &Machine, options: &Options, sink: &mut Diags) -> Lowered<Artifacts> {
    let blob = describe(plan, machine);
    let bytes = blob.write().map_err(|e| sink.report(Diagnostic::error(Code::INTERNAL, e.to_string())))?;
    let units = units(module);
    let texts = texts(module, plan, &bytes, machine, &units, sink)?;
    let requests: Vec<Request> = texts.iter().enumerate().map(|(i, t)| form(t, machine, options.opt_level, i < units.len())).collect();
    let run = |requests: &[Request]| match &options.cache {
        Some(cache) => cache.run_all(requests, &options.workers),
        None => codegen::run_all(requests, &options.workers),
    };
    let results = run(&requests);
    let data = ["pw_model_blob", "pw_model_blob_size", "pw_device_blob"].map(String::from);
    let own: BTreeSet<String> = module.kernels.values().map(|k| mlir::symbol(&k.name)).chain(data).collect();
    let mut images = Vec::new();
    let mut objects = Vec::with_capacity(results.len());
    for (i, r) in results.into_iter().enumerate() {
        let ids = units.get(i).map_or(&[][..], Vec::as_slice);
        match r {
            Ok(out) if machine.device.is_some() && i < units.len() => images.push(finished(machine, out.text)),
            Ok(out) => {
                match crate::link::foreign_symbols(&out.object, &own) {
                    Some(calls) if calls.is_empty() => {}
                    Some(calls) => {
                        let d = Diagnostic::error(Code::CODEGEN, format!("code calls `{}`, which no bundle has", calls.join("`, `")));
                        sink.report(at(d, module, ids));
                    }
                    None => {
                        sink.report(at(Diagnostic::error(Code::CODEGEN, "an object is damaged"), module, ids));
                    }
                }
                objects.push(out.object);
            }
            Err(failure) => blame(module, plan, machine, options, ids, failure, sink),
        }
    }
    sink.check()?;
    if let Some(device) = &machine.device {
        let code = device_code(module, &units, machine, device, images.clone(), sink)?;
        let bytes = code.write().ok_or_else(|| sink.report(Diagnostic::error(Code::CODEGEN, "the device's code leaves 32 bits")))?;
        let text = mlir::device_blob(&bytes);
        match run(&[request(&text, machine, options.opt_level, Form::Object)]).pop() {
            Some(Ok(out)) => objects.push(out.object),
            Some(Err(failure)) => blame(module, plan, machine, options, &[], failure, sink),
            None => {}
        }
        sink.check()?;
    }
    Ok(Artifacts { objects, mlir: texts, blob, images })
}

/// Text of a device's code as its driver gets it.
fn finished(machine: &Machine, text: String) -> String {
    match target::lookup(machine.target) {
        Ok(t) => t.finished(text),
        Err(_) => text,
    }
}

/// What the library carries for the device's driver.
fn device_code(
    module: &Module,
    units: &[Vec<KernelId>],
    machine: &Machine,
    device: &Device,
    images: Vec<String>,
    sink: &mut Diags,
) -> Lowered<device::Code> {
    let mut kernels = Vec::with_capacity(module.kernels.len());
    for (image, id) in units.iter().enumerate().flat_map(|(n, ids)| ids.iter().map(move |id| (n, *id))) {
        let (k, Some(forms)) = (&module.kernels[id], machine.spelling.simt) else { continue };
        let form = mlir::simt::launch_form(k, forms).map_err(|fault| {
            sink.report(Diagnostic::error(Code::CODEGEN, format!("the kernel `{}` cannot be launched: {fault}", k.name)))
        })?;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        kernels.push(device::Kernel {
            name: mlir::symbol(&k.name),
            image: number(image),
            group: form.group,
            dynamic: form.dynamic,
            row: form.row,
            buffers: number(k.abi_bufs().count()),
            scalars: number(k.syms.len() + k.abi_scalars().count()),
        });
    }
    Ok(device::Code {
        driver: device.driver,
        capability: device.capability,
        exact: device.exact,
        version: device.driver_version,
        name: machine.cpu.clone(),
        images,
        kernels,
    })
}

/// Text of a form for `lower`: MLIR, optimized LLVM IR or assembly of every unit, one after the other.
///
/// # Errors
/// As [`emit`].
pub fn text(
    module: &Module,
    plan: &HostPlan,
    machine: &Machine,
    options: &Options,
    form: Option<Form>,
    sink: &mut Diags,
) -> Lowered<String> {
    let units = units(module);
    let texts = texts(module, plan, &[], machine, &units, sink)?;
    let Some(form) = form else { return Ok(texts.join("\n")) };
    let device = |i: usize| machine.device.is_some() && i < units.len();
    let requests: Vec<Request> =
        texts.iter().enumerate().map(|(i, t)| Request { form, ..self::form(t, machine, options.opt_level, device(i)) }).collect();
    let mut out = String::new();
    for (i, r) in codegen::run_all(&requests, &options.workers).into_iter().enumerate() {
        match r {
            Ok(o) if form == Form::Assembly && device(i) => out.push_str(&finished(machine, o.text)),
            Ok(o) => out.push_str(&o.text),
            Err(failure) => blame(module, plan, machine, options, units.get(i).map_or(&[][..], Vec::as_slice), failure, sink),
        }
    }
    sink.check()?;
    Ok(out)
}

/// What makes code of a unit of kernels, which may be for a device, or of what the host runs.
fn form(text: &str, machine: &Machine, opt_level: u8, kernels: bool) -> Request {
    match &machine.device {
        Some(d) if kernels => Request {
            mlir: text.into(),
            triple: d.triple.into(),
            cpu: d.processor.into(),
            features: d.features.into(),
            abi: String::new(),
            opt_level,
            form: Form::Assembly,
        },
        _ => request(text, machine, opt_level, Form::Object),
    }
}

fn request(text: &str, machine: &Machine, opt_level: u8, form: Form) -> Request {
    Request {
        mlir: text.into(),
        triple: machine.triple.into(),
        cpu: machine.llvm_cpu.into(),
        features: machine.feature_list(),
        abi: machine.abi.into(),
        opt_level,
        form,
    }
}

fn weight(k: &Kernel) -> usize {
    k.stmts.len() * 4 + k.exprs.len()
}

/// Kernels by object, in order.
fn units(module: &Module) -> Vec<Vec<KernelId>> {
    let mut out: Vec<Vec<KernelId>> = Vec::new();
    let mut open = usize::MAX;
    for (id, k) in module.kernels.iter() {
        let w = weight(k);
        if open.saturating_add(w) > UNIT_WEIGHT {
            out.push(Vec::new());
            open = 0;
        }
        open += w;
        if let Some(last) = out.last_mut() {
            last.push(id);
        }
    }
    out
}

/// MLIR text of every unit, and last of the plan.
fn texts(
    module: &Module,
    plan: &HostPlan,
    blob: &[u8],
    machine: &Machine,
    units: &[Vec<KernelId>],
    sink: &mut Diags,
) -> Lowered<Vec<String>> {
    let shared = mlir::overlapping(module, plan);
    let mut out = Vec::with_capacity(units.len() + 1);
    for ids in units {
        // Every unit is tried, so that all faults are reported at once.
        if let Ok(t) = mlir::emit(module, Unit { kernels: ids, plan: None }, &shared, &machine.spelling, sink) {
            out.push(t);
        }
    }
    out.push(mlir::emit(module, Unit { kernels: &[], plan: Some((plan, blob)) }, &shared, &machine.spelling, sink)?);
    sink.check()?;
    Ok(out)
}

fn at(d: Diagnostic, module: &Module, ids: &[KernelId]) -> Diagnostic {
    match ids {
        [] => d.note("in the host plan"),
        [id] => d.at(mlir::origin(module, *id)),
        _ => ids.iter().fold(d, |d, id| d.note(format!("one of: {}", mlir::origin(module, *id)))),
    }
}

/// Reports a failed unit; one of several kernels is compiled kernel by kernel to name the one.
fn blame(module: &Module, plan: &HostPlan, machine: &Machine, options: &Options, ids: &[KernelId], failure: Vec<String>, sink: &mut Diags) {
    let shared = mlir::overlapping(module, plan);
    let report = |ids: &[KernelId], failure: Vec<String>, sink: &mut Diags| {
        let d = at(Diagnostic::error(Code::CODEGEN, "code generation failed"), module, ids);
        sink.report(failure.into_iter().take(8).fold(d, |d, m| d.note(m)));
    };
    let mut named = false;
    if ids.len() > 1 {
        for id in ids {
            // It was emitted before: reports of its own do not count, and those of other kernels must not stop it.
            let unit = Unit { kernels: &[*id], plan: None };
            let Ok(t) = mlir::emit(module, unit, &shared, &machine.spelling, &mut Diags::new()) else { continue };
            let r = codegen::run_all(&[form(&t, machine, options.opt_level, true)], &options.workers);
            for failure in r.into_iter().filter_map(Result::err) {
                named = true;
                report(&[*id], failure, sink);
            }
        }
    }
    if !named {
        report(ids, failure, sink);
    }
}

/// What the library says of itself.
pub fn describe(plan: &HostPlan, machine: &Machine) -> Blob {
    let mut symbols: Vec<Symbol> = plan
        .symbols
        .iter()
        .map(|s| Symbol { name: s.name.to_string(), lo: s.lo.max(0), hi: s.hi.max(s.lo.max(0)), div: s.div.max(1) })
        .collect();
    let range = |n: &str| plan.symbols.iter().find(|s| *s.name == *n).map(|s| (s.lo, s.hi));
    let mut dim = |e: &SymExpr| -> Dim {
        if let Some(v) = e.as_const() {
            return Dim::Fixed(v.max(0));
        }
        let name = e.to_string();
        let at = symbols.iter().position(|s| s.name == name).unwrap_or_else(|| {
            let (lo, hi) = e.bounds(&range);
            symbols.push(Symbol { name, lo: lo.max(0), hi: hi.max(lo.max(0)), div: 1 });
            symbols.len() - 1
        });
        Dim::Symbol(at as u32)
    };
    let mut read = BTreeSet::new();
    let mut data_shapes = false;
    reads(&plan.body, plan, &mut |s| match s {
        Some(i) => {
            read.insert(i);
        }
        None => data_shapes = true,
    });
    let bytes = |d: DType, dims: &[SymExpr]| {
        let top: Option<Vec<i64>> = dims.iter().map(|d| Some(d.bounds(&range).1).filter(|v| *v < i64::MAX)).collect();
        top.and_then(|t| dtype::tensor_bytes(onnx_dtype(d), &t)).unwrap_or(0)
    };
    let mut port = |p: &portwright_ir::plan::Port, input: Option<u32>| Port {
        name: p.name.to_string(),
        dtype: onnx_dtype(p.dtype),
        dims: p.dims.iter().map(&mut dim).collect(),
        alias_of: p.alias_of,
        kind: kind_of(&p.ty()),
        items: p.list.as_ref().map_or_else(Vec::new, items),
        read_by_plan: input.is_some_and(|i| read.contains(&i)),
        max_bytes: bytes(p.dtype, &p.dims),
        ..Port::default()
    };
    let inputs: Vec<Port> = plan.inputs.iter().enumerate().map(|(i, p)| port(p, Some(i as u32))).collect();
    let mut outputs: Vec<Port> = plan.outputs.iter().map(|p| port(p, None)).collect();
    for (o, p) in outputs.iter_mut().zip(&plan.outputs) {
        // An output that continues an input with other dims appends to it on the axis where they differ.
        if let Some(i) = p.alias_of.and_then(|i| plan.inputs.get(i as usize))
            && i.dims.len() == p.dims.len()
        {
            o.append_axis = i.dims.iter().zip(&p.dims).position(|(a, b)| a != b).map(|a| a as u32);
        }
    }
    for s in &plan.body {
        if let Stmt::Room { output, .. } = s
            && let Some(o) = outputs.get_mut(*output as usize)
        {
            o.in_place = true;
        }
    }
    let mut epochs = 0;
    count_epochs(&plan.body, &mut epochs);
    let mut origins: Vec<String> = plan.origins.values().map(|o| o.paths.join(" + ")).collect();
    let epochs = peaks(plan, epochs)
        .into_iter()
        .map(|peak| {
            origins.push(peak?);
            u32::try_from(origins.len() - 1).ok()
        })
        .collect();
    Blob {
        name: plan.name.clone(),
        arch: Some(machine.arch),
        cpu: machine.cpu.clone(),
        features: machine.feature_bits(),
        data_shapes,
        symbols,
        inputs,
        outputs,
        origins,
        epochs,
        texts: plan.texts.iter().map(|t| t.to_string()).collect(),
        store: store_layout(plan).reference(),
    }
}

/// What a value of that type is to a caller.
pub fn kind_of(ty: &TensorType) -> Kind {
    match &ty.list {
        Some(l) => list_kind(l.kind),
        None if ty.dtype == DType::Str => Kind::Strings,
        None => Kind::Tensor,
    }
}

fn list_kind(k: ListKind) -> Kind {
    match k {
        ListKind::Sequence => Kind::Sequence,
        ListKind::Optional => Kind::Optional,
        ListKind::Map => Kind::Map,
    }
}

/// What a list holds, as a description has it: outer lists first.
pub fn items(l: &ListType) -> Vec<BlobItem> {
    let mut out = Vec::new();
    for item in &l.items {
        match item {
            Item::Tensor(d, rank) => {
                let kind = if *d == DType::Str { Kind::Strings } else { Kind::Tensor };
                let rank = if let ItemRank::Is(r) = rank { Some(*r) } else { None };
                out.push(BlobItem { kind, dtype: onnx_dtype(*d), rank });
            }
            Item::List(l) => {
                out.push(BlobItem { kind: list_kind(l.kind), dtype: 0, rank: None });
                out.extend(items(l));
            }
        }
    }
    out
}

fn count_epochs(body: &[Stmt], n: &mut usize) {
    for s in body {
        match s {
            Stmt::Epoch { epoch, .. } => *n = (*n).max(*epoch as usize + 1),
            Stmt::If { then, els, .. } => {
                count_epochs(then, n);
                count_epochs(els, n);
            }
            Stmt::Loop { body, .. } => count_epochs(body, n),
            _ => {}
        }
    }
}

/// Calls `f` with the input of every read, or with `None` where the plan reads what a kernel computed.
fn reads(body: &[Stmt], plan: &HostPlan, f: &mut impl FnMut(Option<u32>)) {
    let one = |b: &portwright_ir::plan::BufferId, f: &mut dyn FnMut(Option<u32>)| {
        f(match plan.buffers.get(*b).map(|b| &b.storage) {
            Some(Storage::Input(i)) => Some(*i),
            _ => None,
        });
    };
    for s in body {
        match s {
            Stmt::Read { buffer, .. } => one(buffer, f),
            // What it finds decides shapes, or what it holds is an output.
            Stmt::Host(_) => f(None),
            Stmt::If { then, els, .. } => {
                reads(then, plan, f);
                reads(els, plan, f);
            }
            Stmt::Loop { cond, body, .. } => {
                if let Some(c) = cond {
                    one(c, f);
                }
                reads(body, plan, f);
            }
            _ => {}
        }
    }
}

/// The weight store of a plan, in the form that the runtime's writer takes.
pub fn store_layout(plan: &HostPlan) -> Layout {
    let mut layout = Layout::new();
    for w in &plan.weights {
        // Offsets are the plan's: both count in order with the same alignment.
        let at = layout.push(&w.name, onnx_dtype(w.dtype), &w.dims, w.bytes, 64);
        debug_assert_eq!(at.ok(), Some(w.offset));
    }
    layout
}

/// ONNX's number of a dtype.
pub fn onnx_dtype(d: DType) -> i32 {
    dtype::by_name(d.name()).map_or(0, |i| i.code)
}
