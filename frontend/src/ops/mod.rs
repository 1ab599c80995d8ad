// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One importer per operator, a file per family.
//!
//! An importer turns one node into core ops or composites with the meaning that its operator set version gives it; differences between
//! versions are decided inside the importer, beside each other. To add an operator: a function in the file of its family, a line in that
//! file's `TABLE`, a case in the ONNX suite.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::cx::{Cx, Res};
use crate::scope::Slot;

mod activation;
mod attention;
mod bilinear;
mod blocks;
mod cache;
mod category;
mod cell;
mod contrib;
mod control;
mod conv;
mod detect;
mod elementwise;
mod encoder;
mod experts;
mod extra;
mod flex;
mod fused;
mod gather;
mod gradient;
mod grams;
mod linalg;
mod loss;
mod matmul;
mod ml;
mod movement;
mod norm;
mod pool;
mod qlinear;
mod quant;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod sequence;
mod shape;
mod signal;
mod state;
mod svm;
mod taps;
mod text;
mod trees;

/// Imports one node.
pub type Import = for<'a, 'b, 'm> fn(&'a mut Cx<'b, 'm>) -> Res<Vec<Slot>>;

/// An operator that is known.
pub struct Entry {
    /// Name of the operator.
    pub op: &'static str,
    /// First version of its domain that has it.
    pub since: i64,
    /// Fewest inputs.
    pub least: usize,
    /// Most inputs.
    pub most: usize,
    /// Its importer.
    pub import: Import,
}

/// Any number of inputs.
const MANY: usize = usize::MAX;

const fn op(op: &'static str, since: i64, least: usize, most: usize, import: Import) -> Entry {
    Entry { op, since, least, most, import }
}

/// Families of the default domain.
const FAMILIES: &[&[Entry]] = &[
    activation::TABLE,
    attention::TABLE,
    bilinear::TABLE,
    control::TABLE,
    conv::TABLE,
    elementwise::TABLE,
    detect::TABLE,
    gather::TABLE,
    grams::TABLE,
    linalg::TABLE,
    loss::TABLE,
    matmul::TABLE,
    movement::TABLE,
    norm::TABLE,
    pool::TABLE,
    quant::TABLE,
    random::TABLE,
    recurrent::TABLE,
    reduce::TABLE,
    resize::TABLE,
    sample::TABLE,
    sequence::TABLE,
    shape::TABLE,
    signal::TABLE,
    state::TABLE,
    text::TABLE,
];

type Table = HashMap<(&'static str, &'static str), &'static Entry>;

/// The importer of an operator; the default domain is the empty text.
pub fn find(domain: &str, op: &str) -> Option<&'static Entry> {
    table().get(&(domain, op)).copied()
}

/// Fewest and most inputs that an operator is imported with; the default domain is the empty text.
pub fn arity(domain: &str, op: &str) -> Option<(usize, usize)> {
    find(domain, op).map(|e| (e.least, e.most))
}

/// Every operator that is known, as domain (`ai.onnx` is the default one), name and first version, sorted.
pub fn operators() -> Vec<(&'static str, &'static str, i64)> {
    let name = |d: &&'static str| if d.is_empty() { "ai.onnx" } else { d };
    let mut all: Vec<_> = table().iter().map(|((d, op), e)| (name(d), *op, e.since)).collect();
    all.retain(|(domain, op, _)| *domain != "com.microsoft" || !extra::SEARCHES.contains(op));
    all.sort_unstable();
    all
}

fn table() -> &'static Table {
    static BY_NAME: OnceLock<Table> = OnceLock::new();
    BY_NAME.get_or_init(|| {
        let default = FAMILIES.iter().flat_map(|f| f.iter()).map(|e| (("", e.op), e));
        // Older exporters wrote this one into the default domain.
        let stray = contrib::TABLE.iter().filter(|e| e.op == "SimplifiedLayerNormalization").map(|e| (("", e.op), e));
        let vendor = [
            blocks::TABLE,
            cache::TABLE,
            contrib::TABLE,
            encoder::TABLE,
            experts::TABLE,
            extra::TABLE,
            fused::TABLE,
            qlinear::TABLE,
            text::VENDOR,
        ]
        .map(|t| ("com.microsoft", t));
        let domains = vendor.into_iter().chain([
            ("ai.onnx.ml", category::TABLE),
            ("ai.onnx.ml", ml::TABLE),
            ("ai.onnx.ml", svm::TABLE),
            ("ai.onnx.ml", trees::TABLE),
            ("ai.onnx.preview", flex::TABLE),
            ("ai.onnx.preview.training", loss::TRAINING),
            ("ai.onnx.preview.training", gradient::TABLE),
        ]);
        let named = domains.flat_map(|(d, t)| t.iter().map(move |e| ((d, e.op), e)));
        default.chain(named).chain(stray).collect()
    })
}
