// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fills the weight store of a model: weights as they are, and what the pack program makes of them.
//!
//! A small pack program runs once and gives all its results. A large one comes as streams, whose units run one after the other: the
//! memory that packing takes is that of the largest unit, however large the model is.

use std::collections::HashMap;
use std::path::Path;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::graph::interp::Tensor;
use portwright_ir::plan::interp;
use portwright_ir::weight::WeightSource;
use portwright_passes::pipeline::PackStream;
use portwright_passes::plan::{Program, WeightInit};
use portwright_passes::spec::{CpuSpec, MachineClass};
use portwright_runtime::bundle::{LIBRARY, STORE};
use portwright_runtime::load::{self, Session};
use portwright_runtime::store::{Layout, StoreWriter};
use portwright_runtime::tensor::View;
use portwright_targets::codegen::Workers;
use portwright_targets::compile as codegen;
use portwright_targets::target::{self, LookupError, Machine};

use crate::Cx;
use crate::compile::{bytes_of, file_error, library};
use crate::values;

/// What a store is filled from.
pub struct Packing<'a> {
    /// Whose store it is.
    pub main: &'a Program,
    /// What makes its packed weights at once.
    pub pack: &'a Program,
    /// What makes them one after the other.
    pub streams: &'a [PackStream],
}

/// Who runs pack programs.
pub enum Packer {
    /// This machine.
    Code(Machine),
    /// The interpreter of Kernel IR, in builds that make no code for this machine.
    Interpreter(MachineClass),
}

impl Packer {
    /// The fastest that this build has.
    ///
    /// # Errors
    /// What is wrong with this machine.
    pub fn here(sink: &mut Diags) -> Lowered<Packer> {
        if let Err(LookupError::NotBuilt { .. }) = target::lookup("host") {
            return Ok(Packer::Interpreter(MachineClass::Cpu(INTERPRETED)));
        }
        target::machine("host", None, sink).map(Packer::Code)
    }
    /// What its programs are scheduled for.
    pub fn class(&self) -> &MachineClass {
        match self {
            Packer::Code(m) => &m.class,
            Packer::Interpreter(class) => class,
        }
    }
    /// The machine whose code they become.
    pub fn machine(&self) -> Option<&Machine> {
        match self {
            Packer::Code(m) => Some(m),
            Packer::Interpreter(_) => None,
        }
    }
}

/// A machine without vectors: the interpreter takes one element as fast as another.
const INTERPRETED: CpuSpec =
    CpuSpec { vec_bytes: 1, vec_regs: 16, masked_mem: false, fma: true, l1_bytes: 32 << 10, l2_bytes: 1 << 20, dots: &[], tiles: &[] };

/// Who runs pack programs, and where.
struct Site<'a> {
    packer: &'a Packer,
    workers: &'a Workers,
    work: &'a Path,
}

fn internal(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Code::INTERNAL, format!("the pack program: {what}"))
}

impl Packing<'_> {
    /// Writes the store to the file `path`, behind `begin` bytes that are there if that is not 0, and returns the hash of its content.
    /// Programs are run by `packer`, with scratch files in `work`.
    ///
    /// # Errors
    /// `E0110` for a weight without data, `E0702`, or anything on the way.
    pub fn fill(
        &self,
        packer: &Packer,
        workers: &Workers,
        work: &Path,
        (layout, path, begin): (&Layout, &Path, u64),
        cx: &mut Cx,
    ) -> Lowered<[u8; 32]> {
        let site = Site { packer, workers, work };
        let writer = if begin == 0 { StoreWriter::create(path, layout) } else { StoreWriter::append(path, begin, layout) };
        let writer = writer.map_err(|e| cx.diags.report(file_error(path, e)))?;
        // Where each packed weight goes, and how many of its bytes are there.
        let mut wanted: HashMap<&str, (Vec<usize>, u64)> = HashMap::new();
        for (i, w) in self.main.weights.iter().enumerate() {
            if let WeightInit::Weight(w) = w
                && matches!(w.source, WeightSource::Packed)
            {
                wanted.entry(&w.name).or_default().0.push(i);
            } else {
                put(&writer, path, i, w).map_err(|d| cx.diags.report(d))?;
            }
        }
        let mut keep = |name: &str, part: u64, v: &View<'_>| -> Result<(), Diagnostic> {
            let Some((places, there)) = wanted.get_mut(name) else { return Ok(()) };
            let bytes = v.data.len() as u64;
            *there += bytes;
            places.iter().try_for_each(|&i| writer.put(i, part.saturating_mul(bytes), v.data)).map_err(|e| file_error(path, e))
        };
        if !self.pack.plan.outputs.is_empty() {
            let mut running = site.start(self.pack, "pack", cx)?;
            running.execute(&[]).map_err(|e| cx.diags.report(internal(e)))?;
            for (port, v) in self.pack.plan.outputs.iter().zip(running.results()) {
                keep(&port.name, 0, &v).map_err(|d| cx.diags.report(d))?;
            }
        }
        for (i, s) in self.streams.iter().enumerate() {
            let mut running = site.start(&s.program, &format!("pack{i}"), cx)?;
            for run in &s.runs {
                let bytes: Option<Vec<_>> = run.inputs.iter().map(|w| bytes_of(w).map(|b| (w, b))).collect();
                let Some(bytes) = bytes else {
                    let missing = run.inputs.iter().find(|w| bytes_of(w).is_none()).map_or("", |w| &w.name);
                    return cx.fail(Diagnostic::error(Code::EXTERNAL_DATA, format!("weight `{missing}` has no data")));
                };
                let inputs: Vec<View<'_>> =
                    bytes.iter().map(|(w, b)| View { dtype: codegen::onnx_dtype(w.dtype), dims: w.dims.clone(), data: b }).collect();
                running.execute(&inputs).map_err(|e| cx.diags.report(internal(e)))?;
                for (name, v) in run.outputs.iter().zip(running.results()) {
                    keep(name, run.part, &v).map_err(|d| cx.diags.report(d))?;
                }
                run.inputs.iter().for_each(portwright_ir::weight::Weight::forget);
            }
        }
        // What is packed bears the name of its weight, which need not be that of the tensor.
        for (i, (w, stored)) in self.main.weights.iter().zip(&self.main.plan.weights).enumerate() {
            let WeightInit::Weight(w) = w else { continue };
            if wanted.get(&*w.name).is_some_and(|(places, there)| places.contains(&i) && *there != stored.bytes) {
                return cx.fail(Diagnostic::error(Code::INTERNAL, format!("`{}` was not packed", stored.name)));
            }
        }
        writer.finish().map_err(|e| cx.diags.report(file_error(path, e)))
    }
}

impl Site<'_> {
    /// Makes a pack program ready to run.
    fn start<'p>(&self, p: &'p Program, name: &str, cx: &mut Cx) -> Lowered<Running<'p>> {
        match self.packer {
            Packer::Code(m) => self.session(m, p, name, cx).map(Running::Code),
            Packer::Interpreter(_) => Ok(Running::Interpreted(p, Vec::new())),
        }
    }
    /// Compiles a pack program for that machine, which is this one, and opens it.
    fn session(&self, packer: &Machine, p: &Program, name: &str, cx: &mut Cx) -> Lowered<Session> {
        let folder = self.work.join(name);
        for dir in ["lib", "weights"] {
            std::fs::create_dir_all(folder.join(dir)).map_err(|e| cx.diags.report(file_error(&folder, e)))?;
        }
        library(p, packer, self.workers, (name, self.work, &folder.join(LIBRARY)), &mut cx.diags)?;
        let layout = codegen::store_layout(&p.plan);
        if layout.reference().is_some() {
            let path = folder.join(STORE);
            let store = || -> Result<(), Diagnostic> {
                let writer = StoreWriter::create(&path, &layout).map_err(|e| file_error(&path, e))?;
                for (i, w) in p.weights.iter().enumerate() {
                    put(&writer, &path, i, w)?;
                }
                writer.finish().map(drop).map_err(|e| file_error(&path, e))
            };
            store().map_err(|d| cx.diags.report(d))?;
        }
        let model = load::Model::load(&folder, &load::Options::default()).map_err(|e| cx.diags.report(internal(e)))?;
        model.open().map_err(|e| cx.diags.report(internal(e)))
    }
}

/// A pack program that runs.
enum Running<'p> {
    Code(Session),
    Interpreted(&'p Program, Vec<Tensor>),
}

impl Running<'_> {
    fn execute(&mut self, inputs: &[View<'_>]) -> Result<(), String> {
        match self {
            Running::Code(session) => session.execute(inputs).map_err(|e| e.to_string()),
            Running::Interpreted(p, results) => {
                let tensor = |v: &View<'_>| {
                    let dims = v.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
                    Tensor::new(values::dtype_of(v.dtype)?, dims?, v.data.to_vec())
                };
                let given = inputs.iter().map(tensor).collect::<Option<Vec<_>>>().ok_or("an input has no such form")?;
                let weight = |i: u32| match p.weights.get(usize::try_from(i).ok()?)? {
                    WeightInit::Literal(l) => Some(l.bytes.to_vec()),
                    WeightInit::Weight(w) => bytes_of(w).map(std::borrow::Cow::into_owned),
                };
                let mut options = interp::Options { images: Some(portwright_runtime::image::read), ..Default::default() };
                options.kernel.races = false;
                *results = interp::run(&p.module, &p.plan, &given, &weight, &options).map_err(|e| e.to_string())?;
                Ok(())
            }
        }
    }
    /// Results of the last run.
    fn results(&self) -> Vec<View<'_>> {
        match self {
            Running::Code(session) => session.results(),
            Running::Interpreted(_, results) => results
                .iter()
                .map(|t| View {
                    dtype: codegen::onnx_dtype(t.dtype),
                    dims: t.dims.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect(),
                    data: t.bytes(),
                })
                .collect(),
        }
    }
}

/// Writes tensor `i` of a store, whose bytes are at hand.
fn put(writer: &StoreWriter<'_>, path: &Path, i: usize, w: &WeightInit) -> Result<(), Diagnostic> {
    match w {
        WeightInit::Literal(l) => writer.put(i, 0, &l.bytes).map_err(|e| file_error(path, e)),
        WeightInit::Weight(w) => {
            let mut at = 0;
            for part in w.parts() {
                let Some(bytes) = bytes_of(part) else {
                    return Err(Diagnostic::error(Code::EXTERNAL_DATA, format!("weight `{}` has no data", part.name)));
                };
                writer.put(i, at, &bytes).map_err(|e| file_error(path, e))?;
                at += bytes.len() as u64;
                part.forget();
            }
            Ok(())
        }
    }
}
