// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Models as files: ONNX or textual Graph IR.

use std::path::Path;

use portwright_frontend::{DimOverride, ImportOptions};
use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::{Graph, Literal, text};
use portwright_runtime::manifest::{Source, hex};
use portwright_runtime::program::Program;
use sha2::{Digest, Sha256};

use crate::{Cx, view};

/// A graph with what its file says of itself.
pub struct Model {
    /// What it computes.
    pub graph: Graph,
    /// Name, from the file's.
    pub name: String,
    /// For the manifest.
    pub source: Source,
    /// Bytes of the view that lies beside it.
    pub view: Option<Vec<u8>>,
}

/// Reads the `--dim` options.
///
/// # Errors
/// `E0004` for text that is none.
pub fn dims(list: &[String], cx: &mut Cx) -> Lowered<Vec<(String, DimOverride)>> {
    let mut out = Vec::new();
    for text in list {
        match DimOverride::parse(text) {
            Some(d) => out.push(d),
            None => {
                let d = Diagnostic::error(Code::BAD_OPTION, format!("`--dim {text}` is neither NAME=V nor NAME=LO..HI"));
                cx.diags.report(d.help("for example --dim batch=1 or --dim batch=1..64"));
            }
        }
    }
    cx.diags.check()?;
    Ok(out)
}

/// Loads a model.
///
/// # Errors
/// What the importer or the parser says.
pub fn load(path: &Path, dim_options: &[String], weightless: bool, cx: &mut Cx) -> Lowered<Model> {
    load_fixed(path, dim_options, weightless, Vec::new(), cx)
}

/// Loads what can be read of a model, for reports on all of it: errors are reported, and there is a graph of the rest.
///
/// # Errors
/// A file of which nothing can be read.
pub fn load_partial(path: &Path, weightless: bool, cx: &mut Cx) -> Lowered<Model> {
    load_with(path, ImportOptions { weightless, partial: true, ..Default::default() }, cx)
}

/// Loads a model of which some inputs are given for good, by name; textual Graph IR takes none.
///
/// # Errors
/// As [`load`].
pub fn load_fixed(path: &Path, dim_options: &[String], weightless: bool, fixed: Vec<(String, Literal)>, cx: &mut Cx) -> Lowered<Model> {
    let dims = dims(dim_options, cx)?;
    load_with(path, ImportOptions { dims, weightless, fixed, ..Default::default() }, cx)
}

fn load_with(path: &Path, options: ImportOptions, cx: &mut Cx) -> Lowered<Model> {
    if let Ok(Some(p)) = Program::read(path) {
        return cx.fail(executable(path, &p));
    }
    // The folder plays no part: the same model gives the same bundle wherever it lies.
    let name = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let sha256 = match hash(path) {
        Ok(h) => h,
        Err(e) => return cx.fail(Diagnostic::error(Code::FILE_READ, format!("`{}`: {e}", path.display()))),
    };
    let beside = view::beside(path);
    let view = match view::read(&beside, cx)? {
        Some(_) => std::fs::read(beside).ok(),
        None => None,
    };
    if path.extension().is_some_and(|e| e == "graph") {
        let source = match std::fs::read_to_string(path) {
            Ok(s) => s,
            Err(e) => return cx.fail(Diagnostic::error(Code::FILE_READ, format!("`{}`: {e}", path.display()))),
        };
        let graph = match text::parse(&source) {
            Ok(g) => g,
            Err(list) => {
                cx.diags.extend(list);
                cx.diags.check()?;
                return cx.fail(Diagnostic::error(Code::GRAPH_TEXT, "the text is no graph"));
            }
        };
        let graph = bind(graph, &options.dims, cx)?;
        return Ok(Model { graph, name, source: Source { sha256, ..Default::default() }, view });
    }
    let imported = portwright_frontend::import(path, &options, &mut cx.diags)?;
    let source =
        Source { sha256, ir_version: imported.ir_version, opsets: imported.opsets.into_iter().collect(), producer: imported.producer };
    Ok(Model { graph: imported.graph, name, source, view })
}

/// A static executable where a model is expected.
fn executable(path: &Path, p: &Program) -> Diagnostic {
    let (target, name) = (&p.manifest.target, path.display());
    let arch = target.triple.split('-').next().unwrap_or_default();
    let m = format!("`{name}` is a static executable of the model {} for {}, and no model or bundle", p.manifest.name, target.id);
    let start = if Path::new(path).is_absolute() { format!("{name}") } else { format!("./{name}") };
    let start = if arch == std::env::consts::ARCH { start } else { format!("qemu-{arch} -cpu max {start}") };
    Diagnostic::error(Code::OPTION_UNUSED, m).help(format!("it runs by itself: {start} --inputs X.npz --outputs Y.npz; {start} --help"))
}

fn bind(graph: Graph, dims: &[(String, DimOverride)], cx: &mut Cx) -> Lowered<Graph> {
    if dims.is_empty() {
        return Ok(graph);
    }
    let ranges: Vec<(&str, i64, i64)> = dims
        .iter()
        .map(|(n, d)| match d {
            DimOverride::Value(v) => (n.as_str(), *v, *v),
            DimOverride::Range(lo, hi) => (n.as_str(), *lo, *hi),
        })
        .collect();
    portwright_passes::fold::bind_symbols(&graph, &ranges).or_else(|fault| cx.fail(Diagnostic::error(fault.code, fault.message)))
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut h = Sha256::new();
    std::io::copy(&mut file, &mut h)?;
    Ok(hex(&h.finalize()))
}

/// Whether the path is a bundle's folder.
pub fn is_bundle(path: &Path) -> bool {
    portwright_runtime::bundle::Bundle::is_bundle(path)
}
