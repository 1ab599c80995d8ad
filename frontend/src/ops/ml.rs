// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `ai.onnx.ml`: scalers, linear models and ensembles of trees, on numbers.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::ArgOp;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("ArrayFeatureExtractor", 1, 2, 2, array_feature_extractor),
    op("Binarizer", 1, 1, 1, binarizer),
    op("LinearClassifier", 1, 1, 1, linear_classifier),
    op("LinearRegressor", 1, 1, 1, linear_regressor),
    op("Normalizer", 1, 1, 1, normalizer),
    op("Scaler", 1, 1, 1, scaler),
    op("TreeEnsembleClassifier", 1, 1, 1, tree_classifier),
    op("TreeEnsembleRegressor", 1, 1, 1, tree_regressor),
];

fn floats(cx: &Cx<'_, '_>, name: &str) -> Res<Vec<f32>> {
    Ok(cx.floats(name)?.unwrap_or_default().into_iter().map(|v| v as f32).collect())
}

/// Columns by index along the last dim.
fn array_feature_extractor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, i) = (cx.input(0)?, cx.input(1)?);
    let n = cx.ty(i).elems();
    let i = cx.reshape(i, vec![n.clone()])?;
    let rank = cx.want_rank(x, 1..=usize::MAX)?;
    let y = cx.gather(x, i, rank - 1)?;
    one(if rank == 1 { cx.reshape(y, vec![1.into(), n])? } else { y })
}

fn binarizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let above = cx.bin_c(BinaryOp::Gt, x, cx.float("threshold", 0.0)?)?;
    one(cx.cast(above, cx.dtype(x))?)
}

/// `(x - offset) * scale`, by column or for all.
fn scaler(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let mut y = cx.cast(x, DType::F32)?;
    for (name, op) in [("offset", BinaryOp::Sub), ("scale", BinaryOp::Mul)] {
        let v = floats(cx, name)?;
        if !v.is_empty() {
            let v = cx.table_f32(&[v.len() as i64], &v)?;
            y = cx.bin(op, y, v)?;
        }
    }
    one(y)
}

/// Rows divided by their largest magnitude, sum of magnitudes or length; rows of zeros stay.
fn normalizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let x = cx.cast(x, DType::F32)?;
    let axis = (cx.want_rank(x, 1..=2)? - 1) as u32;
    let a = cx.un(UnaryOp::Abs, x)?;
    let norm = match cx.text("norm", "MAX")? {
        "MAX" => cx.reduce(ReduceOp::Max, x, &[axis], true)?,
        "L1" => cx.reduce(ReduceOp::Sum, a, &[axis], true)?,
        "L2" => {
            let s = cx.bin(BinaryOp::Mul, x, x)?;
            let s = cx.reduce(ReduceOp::Sum, s, &[axis], true)?;
            cx.un(UnaryOp::Sqrt, s)?
        }
        other => return Err(Fault::attr(format!("`norm` is {other:?}, expected MAX, L1 or L2"))),
    };
    let zero = cx.bin_c(BinaryOp::Eq, norm, 0.0)?;
    let unit = cx.scalar(DType::F32, 1.0)?;
    let norm = cx.select(zero, unit, norm)?;
    one(cx.bin(BinaryOp::Div, x, norm)?)
}

fn post_transform(cx: &mut Cx<'_, '_>, y: ValueId) -> Res<ValueId> {
    match cx.text("post_transform", "NONE")? {
        "NONE" => Ok(y),
        "LOGISTIC" => cx.un(UnaryOp::Sigmoid, y),
        "SOFTMAX" => cx.add(Op::Softmax { axis: 1 }, &[y]),
        other => Err(Fault::form(format!("`post_transform` is {other:?}; NONE, LOGISTIC and SOFTMAX are computed"))),
    }
}

/// `[N, F]` as f32.
fn rows(cx: &mut Cx<'_, '_>) -> Res<ValueId> {
    let x = cx.input(0)?;
    let x = cx.cast(x, DType::F32)?;
    if cx.want_rank(x, 1..=2)? == 1 { cx.unsqueeze(x, &[0]) } else { Ok(x) }
}

/// `x * W' + b` with `W` `[targets, F]`.
fn linear(cx: &mut Cx<'_, '_>, targets: i64) -> Res<ValueId> {
    let x = rows(cx)?;
    let (w, b) = (floats(cx, "coefficients")?, floats(cx, "intercepts")?);
    if targets < 1 || w.len() as i64 % targets != 0 {
        return Err(Fault::attr(format!("{} coefficients for {targets} targets", w.len())));
    }
    let w = cx.table_f32(&[targets, w.len() as i64 / targets], &w)?;
    let y = cx.contract("nf,tf->nt", x, w)?;
    if b.is_empty() {
        return Ok(y);
    }
    let b = cx.table_f32(&[b.len() as i64], &b)?;
    cx.bin(BinaryOp::Add, y, b)
}

fn linear_regressor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let y = linear(cx, cx.int("targets", 1)?)?;
    one(post_transform(cx, y)?)
}

/// Labels as integers; texts are not computed.
fn labels(cx: &Cx<'_, '_>, name: &str) -> Res<Vec<i64>> {
    match cx.ints(name)? {
        Some(l) if !l.is_empty() => Ok(l),
        _ => Err(Fault::form("its labels are texts; integer labels are computed").help("export the model with integer labels")),
    }
}

fn linear_classifier(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let labels = labels(cx, "classlabels_ints")?;
    let n = labels.len() as i64;
    let y = linear(cx, n)?;
    let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: false, last: false }, &[y])?;
    let table = cx.table_i64(&[n], &labels)?;
    let label = cx.gather(table, at, 0)?;
    let scores = post_transform(cx, y)?;
    many([label, scores])
}

/// Nodes of all trees as tables; leaves lead to themselves.
struct Forest {
    feature: Vec<i64>,
    value: Vec<f32>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
    mode: BinaryOp,
    roots: Vec<i64>,
    depth: usize,
    index: HashMap<(i64, i64), usize>,
}

impl Forest {
    fn read(cx: &Cx<'_, '_>) -> Res<Forest> {
        let need = |name: &str| -> Res<Vec<i64>> { cx.ints(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing"))) };
        let (trees, ids) = (need("nodes_treeids")?, need("nodes_nodeids")?);
        let (yes, no, features) = (need("nodes_truenodeids")?, need("nodes_falsenodeids")?, need("nodes_featureids")?);
        let (values, modes) = (floats(cx, "nodes_values")?, cx.texts("nodes_modes")?.unwrap_or_default());
        let missing = cx.ints("nodes_missing_value_tracks_true")?.filter(|m| !m.is_empty()).unwrap_or_else(|| vec![0; ids.len()]);
        let n = ids.len();
        if [trees.len(), yes.len(), no.len(), features.len(), values.len(), modes.len(), missing.len()].iter().any(|l| *l != n) || n == 0 {
            return Err(Fault::attr("the lists of its nodes have different lengths"));
        }
        let index: HashMap<(i64, i64), usize> = (0..n).map(|i| ((trees[i], ids[i]), i)).collect();
        let mut f = Forest {
            feature: features,
            value: values,
            yes: (0..n as i64).collect(),
            no: (0..n as i64).collect(),
            missing,
            mode: BinaryOp::Le,
            roots: Vec::new(),
            depth: 0,
            index,
        };
        let mut found = None;
        let mut child = vec![false; n];
        for i in 0..n {
            let mode = match modes[i] {
                "LEAF" => {
                    f.feature[i] = 0;
                    continue;
                }
                "BRANCH_LEQ" => BinaryOp::Le,
                "BRANCH_LT" => BinaryOp::Lt,
                "BRANCH_GTE" => BinaryOp::Ge,
                "BRANCH_GT" => BinaryOp::Gt,
                "BRANCH_EQ" => BinaryOp::Eq,
                "BRANCH_NEQ" => BinaryOp::Ne,
                other => return Err(Fault::attr(format!("{other:?} is no mode of a node"))),
            };
            if found.is_some_and(|m| m != mode) {
                return Err(Fault::form("its nodes compare in different ways; one way in all is computed"));
            }
            found = Some(mode);
            for (to, list) in [(yes[i], &mut f.yes), (no[i], &mut f.no)] {
                let Some(&to) = f.index.get(&(trees[i], to)) else {
                    return Err(Fault::attr(format!("tree {} has no node {to}", trees[i])));
                };
                list[i] = to as i64;
                child[to] = true;
            }
        }
        f.mode = found.unwrap_or(BinaryOp::Le);
        f.roots = (0..n).filter(|i| !child[*i]).map(|i| i as i64).collect();
        f.depth = f.measure()?;
        Ok(f)
    }
    /// Longest way from a root to a leaf.
    fn measure(&self) -> Res<usize> {
        let mut level: Vec<usize> = self.roots.iter().map(|r| *r as usize).collect();
        let mut seen = 0usize;
        for depth in 0.. {
            seen += level.len();
            if seen > self.yes.len() {
                break;
            }
            let inner = level.iter().filter(|i| self.yes[**i] != **i as i64);
            let next: Vec<usize> = inner.flat_map(|i| [self.yes[*i] as usize, self.no[*i] as usize]).collect();
            if next.is_empty() {
                return Ok(depth);
            }
            level = next;
        }
        Err(Fault::attr("its nodes are no trees"))
    }
    /// Leaf that each row reaches in each tree, `[N, trees]`: all trees go down one level at a time.
    fn leaves(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
        let n = [self.yes.len() as i64];
        let (feature, value) = (cx.table_i64(&n, &self.feature)?, cx.table_f32(&n, &self.value)?);
        let (yes, no) = (cx.table_i64(&n, &self.yes)?, cx.table_i64(&n, &self.no)?);
        let tracks = self.missing.iter().any(|m| *m != 0);
        let missing = if tracks { Some(cx.table_i64(&n, &self.missing)?) } else { None };
        let roots = cx.table_i64(&[1, self.roots.len() as i64], &self.roots)?;
        let batch = cx.dim(x, 0)?;
        let mut at = cx.broadcast(roots, vec![batch, (self.roots.len() as i64).into()])?;
        for _ in 0..self.depth {
            let f = cx.gather(feature, at, 0)?;
            let v = cx.gather(value, at, 0)?;
            let seen = cx.add(Op::GatherElements { axis: 1 }, &[x, f])?;
            let mut go = cx.bin(self.mode, seen, v)?;
            if let Some(m) = missing {
                let m = cx.gather(m, at, 0)?;
                let m = cx.bin_c(BinaryOp::Ne, m, 0.0)?;
                let nan = cx.un(UnaryOp::IsNan, seen)?;
                let m = cx.bin(BinaryOp::And, m, nan)?;
                go = cx.bin(BinaryOp::Or, go, m)?;
            }
            let (y, z) = (cx.gather(yes, at, 0)?, cx.gather(no, at, 0)?);
            at = cx.select(go, y, z)?;
        }
        Ok(at)
    }
    /// What the leaves add up to, `[N, targets]`.
    fn sums(&self, cx: &mut Cx<'_, '_>, prefix: &str, targets: i64) -> Res<ValueId> {
        let need = |name: String| -> Res<Vec<i64>> { cx.ints(&name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing"))) };
        let (trees, nodes, ids) = (need(format!("{prefix}_treeids"))?, need(format!("{prefix}_nodeids"))?, need(format!("{prefix}_ids"))?);
        let weights = floats(cx, &format!("{prefix}_weights"))?;
        let n = self.yes.len();
        if trees.len() != ids.len() || nodes.len() != ids.len() || weights.len() != ids.len() || !(1..=1 << 16).contains(&targets) {
            return Err(Fault::attr("the lists of its leaves have different lengths"));
        }
        let mut table = vec![0f32; n * targets as usize];
        for i in 0..ids.len() {
            let cell = self.index.get(&(trees[i], nodes[i])).filter(|_| (0..targets).contains(&ids[i]));
            let Some(node) = cell else {
                return Err(Fault::attr(format!("tree {} has no node {} for target {}", trees[i], nodes[i], ids[i])));
            };
            table[node * targets as usize + ids[i] as usize] += weights[i];
        }
        let x = rows(cx)?;
        let at = self.leaves(cx, x)?;
        let table = cx.table_f32(&[n as i64, targets], &table)?;
        let each = cx.gather(table, at, 0)?;
        let op = match cx.text("aggregate_function", "SUM")? {
            "SUM" => ReduceOp::Sum,
            "AVERAGE" => ReduceOp::Mean,
            "MIN" => ReduceOp::Min,
            "MAX" => ReduceOp::Max,
            other => return Err(Fault::attr(format!("`aggregate_function` is {other:?}"))),
        };
        let y = cx.reduce(op, each, &[1], false)?;
        let base = floats(cx, "base_values")?;
        if base.is_empty() {
            return Ok(y);
        }
        let base = cx.table_f32(&[base.len() as i64], &base)?;
        cx.bin(BinaryOp::Add, y, base)
    }
}

fn tree_regressor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let f = Forest::read(cx)?;
    let targets = cx.int("n_targets", 1)?;
    let y = f.sums(cx, "target", targets)?;
    one(post_transform(cx, y)?)
}

/// Two classes may be told by one score: that of the second class, or its odds.
fn tree_classifier(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let f = Forest::read(cx)?;
    let labels = labels(cx, "classlabels_int64s")?;
    let n = labels.len() as i64;
    let ids = cx.ints("class_ids")?.unwrap_or_default();
    let single = n == 2 && ids.windows(2).all(|w| w[0] == w[1]);
    let table = cx.table_i64(&[n], &labels)?;
    if !single {
        let y = f.sums(cx, "class", n)?;
        let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: false, last: false }, &[y])?;
        let label = cx.gather(table, at, 0)?;
        let scores = post_transform(cx, y)?;
        return many([label, scores]);
    }
    let y = f.sums(cx, "class", 2)?;
    let s = cx.slice_axis(y, 1, ids.first().copied().unwrap_or(0).into(), 1.into(), 1)?;
    let positive = floats(cx, "class_weights")?.iter().all(|w| *w >= 0.0);
    let logistic = match cx.text("post_transform", "NONE")? {
        "NONE" => false,
        "LOGISTIC" => true,
        other => return Err(Fault::form(format!("`post_transform` is {other:?} for one score of two classes"))),
    };
    let above = cx.bin_c(BinaryOp::Gt, s, if positive && !logistic { 0.5 } else { 0.0 })?;
    let at = cx.cast(above, DType::I64)?;
    let batch = cx.dim(at, 0)?;
    let at = cx.reshape(at, vec![batch])?;
    let label = cx.gather(table, at, 0)?;
    let (first, second) = if logistic || positive {
        let p = if logistic { cx.un(UnaryOp::Sigmoid, s)? } else { s };
        let unit = cx.scalar(DType::F32, 1.0)?;
        (cx.bin(BinaryOp::Sub, unit, p)?, p)
    } else {
        (cx.un(UnaryOp::Neg, s)?, s)
    };
    let scores = cx.concat(&[first, second], 1)?;
    many([label, scores])
}
