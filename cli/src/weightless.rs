// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bundles without weights: the pack program as text, where each stored tensor comes from, and the way back to a whole bundle.
//!
//! `pack/kernels.kir` and `pack/plan.txt` are the pack program, `pack/sources.json` says for each tensor of the store and of the program
//! whether it is one of the model's weights (by name), a result of the program, or bytes in `pack/inline.bin`: small constants and
//! weights that stood in the model file itself.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portwright_frontend::External;
use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId as _;
use portwright_ir::plan::{HostPlan, StoredWeight};
use portwright_ir::weight::{ByteOwner, Weight, WeightSource};
use portwright_passes::pipeline::Compiled;
use portwright_passes::plan::{Program, WeightInit};
use portwright_runtime::bundle::{Bundle, BundleError, BundleWriter, STORE};
use portwright_runtime::manifest::{self, Manifest};
use portwright_targets::compile as codegen;
use portwright_targets::target;
use serde::{Deserialize, Serialize};

use crate::Cx;
use crate::compile::{self, Scratch};

const KERNELS: &str = "pack/kernels.kir";
const PLAN: &str = "pack/plan.txt";
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
}

#[derive(Serialize, Deserialize)]
struct Sources {
    schema: u32,
    /// Of the model's store, by position.
    main: Vec<Source>,
    /// Of the pack program's weights, by position.
    pack: Vec<Source>,
}

/// Writes what `pack` needs into a bundle.
///
/// # Errors
/// A file that cannot be written.
pub fn write(c: &Compiled, writer: &BundleWriter) -> Result<(), BundleError> {
    let mut inline: Vec<u8> = Vec::new();
    let mut list = |p: &Program| -> Vec<Source> {
        p.weights
            .iter()
            .map(|w| match w {
                WeightInit::Weight(w) if matches!(w.source, WeightSource::Packed) => Source::Packed { name: w.name.to_string() },
                WeightInit::Weight(w) if matches!(w.source, WeightSource::Absent { .. }) => Source::Weight { name: w.name.to_string() },
                other => {
                    let bytes = compile::bytes_of(other).unwrap_or(Cow::Borrowed(&[]));
                    let offset = inline.len();
                    inline.extend_from_slice(&bytes);
                    Source::Inline { offset, bytes: bytes.len() }
                }
            })
            .collect()
    };
    let sources = Sources { schema: 1, main: list(&c.main), pack: list(&c.pack) };
    let names: Vec<&str> = c.pack.module.kernels.values().map(|k| k.name.as_str()).collect();
    let name = |i: usize| names.get(i).map_or_else(|| format!("k{i}"), |n| (*n).to_owned());
    writer.write(KERNELS, portwright_ir::kernel::print_module(&c.pack.module).as_bytes())?;
    writer.write(PLAN, portwright_ir::plan::print(&c.pack.plan, &name).as_bytes())?;
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
    let broken = |what: &str, e: &dyn std::fmt::Display| Diagnostic::error(Code::BAD_BUNDLE, format!("`{}`: {what}: {e}", place.display()));
    let text = |name: &str, cx: &mut Cx| -> Lowered<String> {
        std::fs::read_to_string(place.join(name)).or_else(|e| {
            let d = broken(name, &e).note("only a bundle of `compile --weightless` has a pack program");
            cx.fail(d)
        })
    };
    let sources: Sources = serde_json::from_str(&text(SOURCES, cx)?).or_else(|e| cx.fail(broken(SOURCES, &e)))?;
    let module = portwright_ir::kernel::parse_module(&text(KERNELS, cx)?).or_else(|e| cx.fail(broken(KERNELS, &e)))?;
    let plan_text = text(PLAN, cx)?;
    let plan = match portwright_ir::plan::parse(&plan_text, &|n| module.kernel_named(n).map(|k| k.index())) {
        Ok(p) => p,
        Err(list) => {
            cx.diags.extend(list);
            return cx.fail(broken(PLAN, &"the pack program is damaged"));
        }
    };
    let inline: Arc<dyn ByteOwner> = Arc::new(std::fs::read(place.join(INLINE)).or_else(|e| cx.fail(broken(INLINE, &e)))?);
    let given = Given { manifest: &bundle.manifest, files: RefCell::new(External::new(Some(folder), false)), inline };
    let pack = given.program(module, plan, &sources.pack, cx)?;
    let mut stored = HostPlan::default();
    for t in &store.tensors {
        let Some(dtype) = DType::from_name(&t.dtype) else { return cx.fail(broken("manifest", &"a dtype that does not exist")) };
        stored.weights.push(StoredWeight { name: t.name.as_str().into(), dtype, dims: t.shape.clone(), offset: t.offset, bytes: t.bytes });
    }
    let main = given.program(Default::default(), stored, &sources.main, cx)?;

    let packer = target::machine("host", None, &mut cx.diags)?;
    let scratch = Scratch::new(cx)?;
    let packed = compile::pack(&pack, &packer, &compile::workers(), scratch.path(), cx)?;
    let layout = codegen::store_layout(&main.plan);
    let writer = BundleWriter::create(place).map_err(|e| cx.diags.report(compile::bundle_error(&e)))?;
    let hash = compile::write_store(&main, packed.as_ref(), &layout, &writer.folder().join(STORE), cx)?;
    for name in bundle.manifest.files.keys() {
        writer.copy(&place.join(name), name).map_err(|e| cx.diags.report(compile::bundle_error(&e)))?;
    }
    let mut manifest = bundle.manifest.clone();
    manifest.store = Some(manifest::Store { packed: true, content: manifest::hex(&hash), ..store });
    let done = writer.finish(manifest).map_err(|e| cx.diags.report(compile::bundle_error(&e)))?;
    Ok(done.path)
}

/// What a bundle is completed with.
struct Given<'a> {
    manifest: &'a Manifest,
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
            let source = match s {
                Source::Packed { name } => (name.as_str(), WeightSource::Packed),
                Source::Inline { offset, bytes } => {
                    (&*w.name, WeightSource::Bytes { owner: self.inline.clone(), offset: *offset, len: *bytes })
                }
                Source::Weight { name } => match self.file_range(name) {
                    Ok(source) => (name.as_str(), source),
                    Err(d) => {
                        cx.diags.report(d);
                        continue;
                    }
                },
            };
            let made = Weight::new(source.0, w.dtype, w.dims.clone(), source.1);
            if !matches!(made.source, WeightSource::Packed) && made.bytes().is_none_or(|b| b.len() as u64 != w.bytes) {
                cx.diags
                    .report(Diagnostic::error(Code::BAD_BUNDLE, format!("`{}` has not the {} bytes that it takes", made.name, w.bytes)));
            }
            weights.push(WeightInit::Weight(made));
        }
        cx.diags.check()?;
        Ok(Program { module, plan, weights })
    }
    /// The bytes of one of the model's weights.
    fn file_range(&self, name: &str) -> Result<WeightSource, Diagnostic> {
        let fail =
            |m: String| Diagnostic::error(Code::EXTERNAL_DATA, m).help("give the folder that holds the model's data files with --weights");
        let Some(w) = self.manifest.weights.iter().find(|w| w.name == name) else {
            return Err(fail(format!("the bundle does not say where weight `{name}` lies")));
        };
        self.files.borrow_mut().source(&w.file, w.offset, None, w.bytes).map_err(|e| fail(e).at(format!("weight {name}")))
    }
}
