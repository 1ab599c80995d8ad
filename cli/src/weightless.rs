// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bundles without weights: the pack program as text, where each stored tensor comes from, and the way back to a whole bundle.
//!
//! `pack/kernels.kir` and `pack/plan.txt` are the pack program, `pack/sources.json` says for each tensor of the store and of the program
//! whether it is one of the model's weights (by name), a result of the program, or bytes in `pack/inline.bin`: small constants and
//! weights that stood in the model file itself. A pack program that comes as streams has `pack/kernels.N.kir` and `pack/plan.N.txt`
//! for each of them, and its runs are in `pack/sources.json` too.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portwright_frontend::External;
use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId as _;
use portwright_ir::graph::Literal;
use portwright_ir::kernel::Module;
use portwright_ir::plan::{HostPlan, StoredWeight};
use portwright_ir::sym::SymExpr;
use portwright_ir::weight::{ByteOwner, Weight, WeightSource};
use portwright_passes::hoist::stream::Run;
use portwright_passes::pipeline::{Compiled, PackStream};
use portwright_passes::plan::{Program, WeightInit};
use portwright_runtime::bundle::{Bundle, BundleError, BundleWriter, STORE};
use portwright_runtime::manifest;
use portwright_targets::compile as codegen;
use serde::{Deserialize, Serialize};

use crate::Cx;
use crate::compile::{self, Scratch};
use crate::packing::{Packer, Packing};

const SOURCES: &str = "pack/sources.json";
const INLINE: &str = "pack/inline.bin";

/// Where a stored tensor comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
enum Source {
    /// A weight of the model, in the files that the manifest lists.
    Weight { name: String },
    /// A result of the pack program.
    Packed { name: String },
    /// A range of `pack/inline.bin`.
    Inline { offset: usize, bytes: usize },
    /// These, one behind the other.
    Parts { parts: Vec<Source> },
}

#[derive(Serialize, Deserialize)]
struct Sources {
    schema: u32,
    /// Of the model's store, by position.
    main: Vec<Source>,
    /// Of the pack program's weights, by position.
    pack: Vec<Source>,
    /// What packs one unit after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    streams: Vec<StreamSources>,
}

/// What a stream packs.
#[derive(Serialize, Deserialize)]
struct StreamSources {
    /// Of its program's weights, by position.
    pack: Vec<Source>,
    runs: Vec<RunSources>,
}

/// One unit of a stream.
#[derive(Serialize, Deserialize)]
struct RunSources {
    /// Of the program's inputs, by position.
    inputs: Vec<Source>,
    /// Tensors of the store that its outputs are, or one part of each.
    outputs: Vec<String>,
    /// Which part.
    #[serde(default)]
    part: u64,
}

/// Names of the files of program `i` of the streams, or of the whole pack program.
fn files(stream: Option<usize>) -> (String, String) {
    match stream {
        None => ("pack/kernels.kir".into(), "pack/plan.txt".into()),
        Some(i) => (format!("pack/kernels.{i}.kir"), format!("pack/plan.{i}.txt")),
    }
}

/// Writes what `pack` needs into a bundle.
///
/// # Errors
/// A file that cannot be written.
pub fn write(c: &Compiled, writer: &BundleWriter) -> Result<(), BundleError> {
    let mut inline: Vec<u8> = Vec::new();
    let mut keep = |bytes: &[u8]| {
        let offset = inline.len();
        inline.extend_from_slice(bytes);
        Source::Inline { offset, bytes: bytes.len() }
    };
    let mut one = |w: &Weight| match w.source {
        WeightSource::Packed => Source::Packed { name: w.name.to_string() },
        WeightSource::Absent { .. } => Source::Weight { name: w.name.to_string() },
        _ => keep(&compile::bytes_of(w).unwrap_or(Cow::Borrowed(&[]))),
    };
    let mut source = |w: &Weight| match w.source {
        WeightSource::Parts(ref parts) => Source::Parts { parts: parts.iter().map(&mut one).collect() },
        _ => one(w),
    };
    let mut list = |p: &Program| -> Vec<Source> {
        let literal = |l: &Literal| Weight::new("", l.dtype, l.dims.clone(), bytes_source(l.bytes.to_vec()));
        let init = |w: &WeightInit| match w {
            WeightInit::Weight(w) => w.clone(),
            WeightInit::Literal(l) => literal(l),
        };
        p.weights.iter().map(|w| source(&init(w))).collect()
    };
    let (main, pack) = (list(&c.main), list(&c.pack));
    let packs: Vec<Vec<Source>> = c.streams.iter().map(|s| list(&s.program)).collect();
    let streams = c.streams.iter().zip(packs).map(|(s, pack)| {
        let run = |r: &Run| RunSources {
            inputs: r.inputs.iter().map(&mut source).collect(),
            outputs: r.outputs.iter().map(|n| n.to_string()).collect(),
            part: r.part,
        };
        StreamSources { pack, runs: s.runs.iter().map(run).collect() }
    });
    let sources = Sources { schema: 1, main, pack, streams: streams.collect() };
    let programs = std::iter::once((None, &c.pack)).chain(c.streams.iter().enumerate().map(|(i, s)| (Some(i), &s.program)));
    for (stream, p) in programs {
        let names: Vec<&str> = p.module.kernels.values().map(|k| k.name.as_str()).collect();
        let name = |i: usize| names.get(i).map_or_else(|| format!("k{i}"), |n| (*n).to_owned());
        let (kernels, plan) = files(stream);
        writer.write(&kernels, portwright_ir::kernel::print_module(&p.module).as_bytes())?;
        writer.write(&plan, portwright_ir::plan::print(&p.plan, &name).as_bytes())?;
    }
    writer.write(SOURCES, serde_json::to_string_pretty(&sources).unwrap_or_default().as_bytes())?;
    writer.write(INLINE, &inline)
}

/// Completes a weightless bundle in place with the model's data files from `folder`.
///
/// # Errors
/// `E0705` for a folder that is no weightless bundle, `E0110` for a file that is missing or too short, and anything on the way.
pub fn complete(place: &Path, folder: &Path, cx: &mut Cx) -> Lowered<PathBuf> {
    let bundle = Bundle::read(place).map_err(|e| cx.diags.report(Diagnostic::error(Code::BAD_BUNDLE, e.to_string())))?;
    let Some(store) = bundle.manifest.store.clone() else {
        let d = Diagnostic::error(Code::BAD_BUNDLE, format!("`{}` has no weights at all", place.display()));
        return cx.fail(d.help("it runs as it is"));
    };
    if store.packed && !place.join(SOURCES).is_file() {
        let d = Diagnostic::error(Code::BAD_BUNDLE, format!("`{}` has its weights already", place.display()));
        return cx.fail(d.help("it runs as it is; only a bundle of `compile --weightless` takes weights"));
    }
    let broken = |what: &str, e: &dyn std::fmt::Display| Diagnostic::error(Code::BAD_BUNDLE, format!("`{}`: {what}: {e}", place.display()));
    let text = |name: &str, cx: &mut Cx| -> Lowered<String> {
        std::fs::read_to_string(place.join(name)).or_else(|e| {
            let d = broken(name, &e).note("only a bundle of `compile --weightless` has a pack program");
            cx.fail(d)
        })
    };
    let sources: Sources = serde_json::from_str(&text(SOURCES, cx)?).or_else(|e| cx.fail(broken(SOURCES, &e)))?;
    let read = |stream: Option<usize>, cx: &mut Cx| -> Lowered<(Module, HostPlan)> {
        let (kernels, plan) = files(stream);
        let module = portwright_ir::kernel::parse_module(&text(&kernels, cx)?).or_else(|e| cx.fail(broken(&kernels, &e)))?;
        match portwright_ir::plan::parse(&text(&plan, cx)?, &|n| module.kernel_named(n).map(|k| k.index())) {
            Ok(p) => Ok((module, p)),
            Err(list) => {
                cx.diags.extend(list);
                cx.fail(broken(&plan, &"the pack program is damaged"))
            }
        }
    };
    let inline: Arc<dyn ByteOwner> = Arc::new(std::fs::read(place.join(INLINE)).or_else(|e| cx.fail(broken(INLINE, &e)))?);
    let weights = bundle.manifest.weights.iter().map(|w| (w.name.as_str(), w)).collect();
    let given = Given { weights, files: RefCell::new(External::new(Some(folder), false)), inline };
    let (module, plan) = read(None, cx)?;
    let pack = given.program(module, plan, &sources.pack, cx)?;
    let mut streams = Vec::with_capacity(sources.streams.len());
    for (i, s) in sources.streams.iter().enumerate() {
        let (module, plan) = read(Some(i), cx)?;
        let program = given.program(module, plan, &s.pack, cx)?;
        let runs = s.runs.iter().map(|r| given.run(&program, r)).collect::<Result<Vec<_>, _>>().or_else(|d| cx.fail(d))?;
        streams.push(PackStream { program, runs });
    }
    let mut stored = HostPlan::default();
    for t in &store.tensors {
        let Some(dtype) = DType::from_name(&t.dtype) else { return cx.fail(broken("manifest", &"a dtype that does not exist")) };
        stored.weights.push(StoredWeight { name: t.name.as_str().into(), dtype, dims: t.shape.clone(), offset: t.offset, bytes: t.bytes });
    }
    let main = given.program(Default::default(), stored, &sources.main, cx)?;

    let packer = Packer::here(&mut cx.diags)?;
    let scratch = Scratch::new(cx)?;
    let layout = codegen::store_layout(&main.plan);
    let writer = BundleWriter::create(place).map_err(|e| cx.diags.report(compile::bundle_error(&e)))?;
    let packing = Packing { main: &main, pack: &pack, streams: &streams };
    let hash = packing.fill(&packer, &compile::workers(), scratch.path(), (&layout, &writer.folder().join(STORE), 0), cx)?;
    for name in bundle.manifest.files.keys() {
        writer.copy(&place.join(name), name).map_err(|e| cx.diags.report(compile::bundle_error(&e)))?;
    }
    let mut manifest = bundle.manifest.clone();
    manifest.store = Some(manifest::Store { packed: true, content: manifest::hex(&hash), ..store });
    let done = writer.finish(manifest).map_err(|e| cx.diags.report(compile::bundle_error(&e)))?;
    Ok(done.path)
}

/// Number of bytes of a weight that is at hand.
fn found_bytes(w: &Weight) -> Option<u64> {
    w.parts().iter().try_fold(0u64, |n, p| n.checked_add(p.bytes()?.len() as u64))
}

fn bytes_source(bytes: Vec<u8>) -> WeightSource {
    let len = bytes.len();
    WeightSource::Bytes { owner: Arc::new(bytes), offset: 0, len }
}

/// What a bundle is completed with.
struct Given<'a> {
    weights: HashMap<&'a str, &'a manifest::Weight>,
    files: RefCell<External>,
    inline: Arc<dyn ByteOwner>,
}

impl Given<'_> {
    /// A program whose weights have their bytes.
    fn program(&self, module: portwright_ir::kernel::Module, plan: HostPlan, sources: &[Source], cx: &mut Cx) -> Lowered<Program> {
        if sources.len() != plan.weights.len() {
            return cx.fail(Diagnostic::error(Code::BAD_BUNDLE, format!("{} sources for {} tensors", sources.len(), plan.weights.len())));
        }
        let mut weights = Vec::with_capacity(sources.len());
        for (s, w) in sources.iter().zip(&plan.weights) {
            let (name, source) = match self.source(s, (&w.name, w.dtype, &w.dims)) {
                Ok(found) => found,
                Err(d) => {
                    cx.diags.report(d);
                    continue;
                }
            };
            let made = Weight::new(name, w.dtype, w.dims.clone(), source);
            if !matches!(made.source, WeightSource::Packed) && found_bytes(&made) != Some(w.bytes) {
                cx.diags
                    .report(Diagnostic::error(Code::BAD_BUNDLE, format!("`{}` has not the {} bytes that it takes", made.name, w.bytes)));
            }
            weights.push(WeightInit::Weight(made));
        }
        cx.diags.check()?;
        Ok(Program { module, plan, weights })
    }
    /// One unit of a stream.
    fn run(&self, p: &Program, r: &RunSources) -> Result<Run, Diagnostic> {
        let damaged = |what: &str| Diagnostic::error(Code::BAD_BUNDLE, format!("a run of the pack program {what}"));
        if r.inputs.len() != p.plan.inputs.len() || r.outputs.len() != p.plan.outputs.len() {
            return Err(damaged("has another number of inputs or outputs than its plan"));
        }
        let mut inputs = Vec::with_capacity(r.inputs.len());
        for (s, port) in r.inputs.iter().zip(&p.plan.inputs) {
            let dims: Vec<i64> =
                port.dims.iter().map(SymExpr::as_const).collect::<Option<_>>().ok_or_else(|| damaged("has no fixed size"))?;
            if matches!(s, Source::Packed { .. }) {
                return Err(damaged("reads what is packed"));
            }
            let (name, source) = self.source(s, ("", port.dtype, &dims))?;
            let w = Weight::new(name.clone(), port.dtype, dims, source);
            if found_bytes(&w).is_none() || found_bytes(&w) != w.bytes_len() {
                return Err(damaged(&format!("reads `{name}`, which has another size")));
            }
            inputs.push(w);
        }
        Ok(Run { inputs, outputs: r.outputs.iter().map(|n| n.as_str().into()).collect(), part: r.part })
    }
    /// Name and bytes of a tensor of that name, dtype and dims.
    fn source(&self, s: &Source, (name, dtype, dims): (&str, DType, &[i64])) -> Result<(String, WeightSource), Diagnostic> {
        Ok(match s {
            Source::Packed { name } => (name.clone(), WeightSource::Packed),
            Source::Inline { offset, bytes } => {
                (name.to_owned(), WeightSource::Bytes { owner: self.inline.clone(), offset: *offset, len: *bytes })
            }
            Source::Weight { name } => (name.clone(), self.file_range(name)?),
            Source::Parts { parts } => {
                let own = dims.get(1..).unwrap_or(&[]);
                let part = |p: &Source| match p {
                    Source::Packed { .. } | Source::Parts { .. } => {
                        Err(Diagnostic::error(Code::BAD_BUNDLE, format!("a part of `{name}` is no weight of the model")))
                    }
                    p => self.source(p, (name, dtype, own)).map(|(name, s)| Weight::new(name, dtype, own.to_vec(), s)),
                };
                (name.to_owned(), WeightSource::Parts(parts.iter().map(part).collect::<Result<_, _>>()?))
            }
        })
    }
    /// The bytes of one of the model's weights.
    fn file_range(&self, name: &str) -> Result<WeightSource, Diagnostic> {
        let fail =
            |m: String| Diagnostic::error(Code::EXTERNAL_DATA, m).help("give the folder that holds the model's data files with --weights");
        let Some(w) = self.weights.get(name) else {
            return Err(fail(format!("the bundle does not say where weight `{name}` lies")));
        };
        self.files
            .borrow_mut()
            .source(&w.file, w.offset, None, w.bytes)
            .map_err(|e| e.note.iter().fold(fail(e.message), |d, n| d.note(n)).at(format!("weight {name}")))
    }
}
