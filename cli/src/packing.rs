// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fills the weight store of a model: weights as they are, and what the pack program makes of them.
//!
//! A small pack program runs once and gives all its results. A large one comes as streams, whose units run one after the other: the
//! memory that packing takes is that of the largest unit, however large the model is.

use std::collections::HashMap;
use std::path::Path;

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::weight::WeightSource;
use portwright_passes::pipeline::PackStream;
use portwright_passes::plan::{Program, WeightInit};
use portwright_runtime::bundle::{LIBRARY, STORE};
use portwright_runtime::load::{self, Session};
use portwright_runtime::store::{Layout, StoreWriter};
use portwright_runtime::tensor::View;
use portwright_targets::codegen::Workers;
use portwright_targets::compile as codegen;
use portwright_targets::target::Machine;

use crate::Cx;
use crate::compile::{bytes_of, file_error, library};

/// What a store is filled from.
pub struct Packing<'a> {
    /// Whose store it is.
    pub main: &'a Program,
    /// What makes its packed weights at once.
    pub pack: &'a Program,
    /// What makes them one after the other.
    pub streams: &'a [PackStream],
}

/// Who runs pack programs, and where.
struct Site<'a> {
    packer: &'a Machine,
    workers: &'a Workers,
    work: &'a Path,
}

fn internal(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Code::INTERNAL, format!("the pack program: {what}"))
}

impl Packing<'_> {
    /// Writes the store to the file `path`, behind `begin` bytes that are there if that is not 0, and returns the hash of its content.
    /// Programs are compiled for `packer`, with scratch files in `work`.
    ///
    /// # Errors
    /// `E0110` for a weight without data, `E0702`, or anything on the way.
    pub fn fill(
        &self,
        packer: &Machine,
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
            let mut session = site.session(self.pack, "pack", cx)?;
            session.execute(&[]).map_err(|e| cx.diags.report(internal(e)))?;
            for (port, v) in self.pack.plan.outputs.iter().zip(session.results()) {
                keep(&port.name, 0, &v).map_err(|d| cx.diags.report(d))?;
            }
        }
        for (i, s) in self.streams.iter().enumerate() {
            let mut session = site.session(&s.program, &format!("pack{i}"), cx)?;
            for run in &s.runs {
                let bytes: Option<Vec<_>> = run.inputs.iter().map(|w| bytes_of(w).map(|b| (w, b))).collect();
                let Some(bytes) = bytes else {
                    let missing = run.inputs.iter().find(|w| bytes_of(w).is_none()).map_or("", |w| &w.name);
                    return cx.fail(Diagnostic::error(Code::EXTERNAL_DATA, format!("weight `{missing}` has no data")));
                };
                let inputs: Vec<View<'_>> =
                    bytes.iter().map(|(w, b)| View { dtype: codegen::onnx_dtype(w.dtype), dims: w.dims.clone(), data: b }).collect();
                session.execute(&inputs).map_err(|e| cx.diags.report(internal(e)))?;
                for (name, v) in run.outputs.iter().zip(session.results()) {
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
    /// Compiles a pack program for this machine and opens it.
    fn session(&self, p: &Program, name: &str, cx: &mut Cx) -> Lowered<Session> {
        let folder = self.work.join(name);
        for dir in ["lib", "weights"] {
            std::fs::create_dir_all(folder.join(dir)).map_err(|e| cx.diags.report(file_error(&folder, e)))?;
        }
        library(p, self.packer, self.workers, (name, self.work, &folder.join(LIBRARY)), &mut cx.diags)?;
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
