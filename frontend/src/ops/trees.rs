// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ensembles of trees of `ai.onnx.ml`: all trees go down one level at a time, by tables of their nodes.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::ArgOp;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::ml::{labels, post_transform, rows, transformed};
use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("TreeEnsemble", 5, 1, 1, tree_ensemble),
    op("TreeEnsembleClassifier", 1, 1, 1, tree_classifier),
    op("TreeEnsembleRegressor", 1, 1, 1, tree_regressor),
];

/// Ways of comparing, in the order of their numbers in `TreeEnsemble`.
const MODES: [(&str, BinaryOp); 6] = [
    ("BRANCH_LEQ", BinaryOp::Le),
    ("BRANCH_LT", BinaryOp::Lt),
    ("BRANCH_GTE", BinaryOp::Ge),
    ("BRANCH_GT", BinaryOp::Gt),
    ("BRANCH_EQ", BinaryOp::Eq),
    ("BRANCH_NEQ", BinaryOp::Ne),
];

/// Number of the mode that asks whether a feature is one of some values.
const MEMBER: usize = MODES.len();

/// Most targets or classes.
const MAX_TARGETS: i64 = 1 << 16;

/// Where the node of a tree and a number lies.
type Places = HashMap<(i64, i64), usize>;

/// Nodes of all trees as tables; leaves lead to themselves.
#[derive(Default)]
struct Forest {
    feature: Vec<i64>,
    value: Vec<f64>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<bool>,
    /// Index into [`MODES`].
    mode: Vec<usize>,
    roots: Vec<i64>,
}

impl Forest {
    fn len(&self) -> usize {
        self.yes.len()
    }
    /// Adds a node that leads to itself.
    fn leaf(&mut self) -> usize {
        let i = self.len();
        self.feature.push(0);
        self.value.push(0.0);
        self.missing.push(false);
        self.mode.push(0);
        self.yes.push(i as i64);
        self.no.push(i as i64);
        i
    }
    fn is_leaf(&self, i: usize) -> bool {
        self.yes[i] == i as i64 && self.no[i] == i as i64
    }
    /// Nodes of the older operators, and where each (tree, node) lies.
    fn read(cx: &mut Cx<'_, '_>) -> Res<(Forest, Places)> {
        let need = |name: &str| -> Res<Vec<i64>> { cx.ints(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing"))) };
        let (trees, ids) = (need("nodes_treeids")?, need("nodes_nodeids")?);
        let (yes, no, features) = (need("nodes_truenodeids")?, need("nodes_falsenodeids")?, need("nodes_featureids")?);
        let (values, modes) = (numbers(cx, "nodes_values")?, cx.texts("nodes_modes")?.unwrap_or_default());
        let missing = cx.ints("nodes_missing_value_tracks_true")?.filter(|m| !m.is_empty()).unwrap_or_else(|| vec![0; ids.len()]);
        let n = ids.len();
        if [trees.len(), yes.len(), no.len(), features.len(), values.len(), modes.len(), missing.len()].iter().any(|l| *l != n) || n == 0 {
            return Err(Fault::attr("the lists of its nodes have different lengths"));
        }
        let index: Places = (0..n).map(|i| ((trees[i], ids[i]), i)).collect();
        let mut f = Forest::default();
        (0..n).for_each(|_| _ = f.leaf());
        let mut child = vec![false; n];
        for i in 0..n {
            if modes[i] == "LEAF" {
                continue;
            }
            f.mode[i] =
                MODES.iter().position(|m| m.0 == modes[i]).ok_or_else(|| Fault::attr(format!("{:?} is no mode of a node", modes[i])))?;
            (f.feature[i], f.value[i], f.missing[i]) = (features[i], values[i], missing[i] != 0);
            for (to, list) in [(yes[i], &mut f.yes), (no[i], &mut f.no)] {
                let Some(&to) = index.get(&(trees[i], to)) else {
                    return Err(Fault::attr(format!("tree {} has no node {to}", trees[i])));
                };
                list[i] = to as i64;
                child[to] = true;
            }
        }
        f.roots = (0..n).filter(|i| !child[*i]).map(|i| i as i64).collect();
        Ok((f, index))
    }
    /// Longest way from a root to a leaf.
    fn depth(&self) -> Res<usize> {
        // Depth of a node once it is known; a node that is met again on its own way is on a cycle.
        let (mut known, mut open) = (vec![None; self.len()], vec![false; self.len()]);
        let mut stack: Vec<(usize, bool)> = self.roots.iter().map(|r| (*r as usize, false)).collect();
        while let Some((i, back)) = stack.pop() {
            if known[i].is_some() {
                continue;
            }
            let (yes, no) = (self.yes[i] as usize, self.no[i] as usize);
            if self.is_leaf(i) {
                known[i] = Some(0usize);
            } else if back {
                let below = |j: usize| known[j].ok_or_else(|| Fault::attr("its nodes are no trees"));
                known[i] = Some(below(yes)?.max(below(no)?) + 1);
            } else if open[i] {
                return Err(Fault::attr("its nodes are no trees"));
            } else {
                open[i] = true;
                stack.extend([(i, true), (yes, false), (no, false)]);
            }
        }
        Ok(self.roots.iter().filter_map(|r| known[*r as usize]).max().unwrap_or(0))
    }
    /// Leaf that each row reaches in each tree, `[N, trees]`.
    fn leaves(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
        if self.roots.is_empty() {
            return Err(Fault::attr("it has no trees"));
        }
        if let Some(f) = self.feature.iter().find(|f| **f < 0) {
            return Err(Fault::attr(format!("a node compares feature {f}")));
        }
        let depth = self.depth()?;
        let n = [self.len() as i64];
        let feature = cx.table_i64(&n, &self.feature)?;
        let value = if cx.dtype(x) == DType::F64 {
            cx.table_f64(&n, &self.value)?
        } else {
            let value: Vec<f32> = self.value.iter().map(|v| *v as f32).collect();
            cx.table_f32(&n, &value)?
        };
        let (yes, no) = (cx.table_i64(&n, &self.yes)?, cx.table_i64(&n, &self.no)?);
        let missing = if self.missing.contains(&true) {
            let missing: Vec<i64> = self.missing.iter().map(|m| i64::from(*m)).collect();
            Some(cx.table_i64(&n, &missing)?)
        } else {
            None
        };
        let inner: Vec<usize> = (0..self.len()).filter(|i| !self.is_leaf(*i)).collect();
        let mut used: Vec<usize> = inner.iter().map(|i| self.mode[*i]).collect();
        used.sort_unstable();
        used.dedup();
        let modes = if used.len() > 1 {
            let modes: Vec<i64> = self.mode.iter().map(|m| *m as i64).collect();
            Some(cx.table_i64(&n, &modes)?)
        } else {
            None
        };
        let roots = cx.table_i64(&[1, self.roots.len() as i64], &self.roots)?;
        let batch = cx.dim(x, 0)?;
        let trees = (self.roots.len() as i64).into();
        let roots = cx.reshape(roots, vec![1.into(), (self.roots.len() as i64).into()])?;
        let mut at = cx.broadcast(roots, vec![batch, trees])?;
        for _ in 0..depth {
            let f = cx.gather(feature, at, 0)?;
            let v = cx.gather(value, at, 0)?;
            let seen = cx.add(Op::GatherElements { axis: 1 }, &[x, f])?;
            let mut go = None;
            for &m in &used {
                let mut this = cx.bin(MODES[m].1, seen, v)?;
                if let Some(modes) = modes {
                    let mode = cx.gather(modes, at, 0)?;
                    let mine = cx.bin_c(BinaryOp::Eq, mode, m as f64)?;
                    this = cx.bin(BinaryOp::And, this, mine)?;
                }
                go = Some(match go {
                    None => this,
                    Some(g) => cx.bin(BinaryOp::Or, g, this)?,
                });
            }
            let Some(mut go) = go else { break };
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
    /// What leaves give to targets, with `base` added, `[N, targets]`: `given` lists leaf, target and weight. The least or largest of nothing
    /// is 0, as ONNX Runtime has it.
    fn scores(
        &self,
        cx: &mut Cx<'_, '_>,
        x: ValueId,
        given: &[(usize, i64, f64)],
        targets: i64,
        op: ReduceOp,
        base: Option<ValueId>,
    ) -> Res<ValueId> {
        let cells = (self.len() as i64).checked_mul(targets).filter(|c| *c <= 1 << 28);
        let cells = cells.ok_or_else(|| Fault::attr(format!("{} nodes for {targets} targets are too large a table", self.len())))?;
        let none = match op {
            ReduceOp::Min => f64::INFINITY,
            ReduceOp::Max => f64::NEG_INFINITY,
            _ => 0.0,
        };
        let mut table = vec![none; cells as usize];
        for &(leaf, target, weight) in given {
            let Some(cell) = table.get_mut(leaf * targets as usize + target as usize) else { continue };
            *cell = if none == 0.0 { *cell + weight } else { weight };
        }
        let at = self.leaves(cx, x)?;
        let dims = [self.len() as i64, targets];
        let table = if cx.dtype(x) == DType::F64 {
            cx.table_f64(&dims, &table)?
        } else {
            let table: Vec<f32> = table.iter().map(|v| *v as f32).collect();
            cx.table_f32(&dims, &table)?
        };
        let table = cx.reshape(table, crate::cx::exprs_of(&dims))?;
        let each = cx.gather(table, at, 0)?;
        let joined = cx.reduce(op, each, &[1], false)?;
        let y = match base {
            Some(b) => cx.bin(BinaryOp::Add, joined, b)?,
            None => joined,
        };
        if none == 0.0 {
            return Ok(y);
        }
        let (empty, zero) = (cx.bin_c(BinaryOp::Eq, joined, none)?, cx.scalar(cx.dtype(y), 0.0)?);
        cx.select(empty, zero, y)
    }
}

/// A list of numbers that may be given as a tensor of doubles instead.
fn numbers(cx: &mut Cx<'_, '_>, name: &str) -> Res<Vec<f64>> {
    match cx.tensor_numbers(&format!("{name}_as_tensor"))? {
        Some(v) => Ok(v),
        None => Ok(cx.floats(name)?.unwrap_or_default()),
    }
}

/// How the trees of the older operators are joined.
fn aggregate(cx: &Cx<'_, '_>) -> Res<ReduceOp> {
    Ok(match cx.text("aggregate_function", "SUM")? {
        "SUM" => ReduceOp::Sum,
        "AVERAGE" => ReduceOp::Mean,
        "MIN" => ReduceOp::Min,
        "MAX" => ReduceOp::Max,
        other => return Err(Fault::attr(format!("`aggregate_function` is {other:?}, expected SUM, AVERAGE, MIN or MAX"))),
    })
}

/// Scores of the older operators, `[N, targets]`, with their base values.
fn scores(cx: &mut Cx<'_, '_>, prefix: &str, targets: i64) -> Res<ValueId> {
    let (f, index) = Forest::read(cx)?;
    let need = |name: String| -> Res<Vec<i64>> { cx.ints(&name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing"))) };
    let (trees, nodes, ids) = (need(format!("{prefix}_treeids"))?, need(format!("{prefix}_nodeids"))?, need(format!("{prefix}_ids"))?);
    let weights = numbers(cx, &format!("{prefix}_weights"))?;
    if trees.len() != ids.len() || nodes.len() != ids.len() || weights.len() != ids.len() || !(1..=MAX_TARGETS).contains(&targets) {
        return Err(Fault::attr("the lists of its leaves have different lengths"));
    }
    let mut given = Vec::with_capacity(ids.len());
    for i in 0..ids.len() {
        let leaf = index.get(&(trees[i], nodes[i])).filter(|_| (0..targets).contains(&ids[i]));
        let Some(&leaf) = leaf else {
            return Err(Fault::attr(format!("tree {} has no node {} for target {}", trees[i], nodes[i], ids[i])));
        };
        given.push((leaf, ids[i], weights[i]));
    }
    let op = aggregate(cx)?;
    let x = rows(cx)?;
    let base: Vec<f32> = numbers(cx, "base_values")?.iter().map(|v| *v as f32).collect();
    if base.is_empty() {
        return f.scores(cx, x, &given, targets, op, None);
    }
    if base.len() as i64 != targets && base.len() != 1 {
        return Err(Fault::attr(format!("{} base values for {targets} targets", base.len())));
    }
    let base = cx.table_f32(&[base.len() as i64], &base)?;
    f.scores(cx, x, &given, targets, op, Some(base))
}

fn tree_regressor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let targets = cx.int("n_targets", 1)?;
    let y = scores(cx, "target", targets)?;
    one(post_transform(cx, y)?)
}

/// Two classes may be told by one score: that of the second class, or its odds.
fn tree_classifier(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let labels = labels(cx, "classlabels_int64s")?;
    let n = labels.len() as i64;
    let ids = cx.ints("class_ids")?.unwrap_or_default();
    let single = n == 2 && ids.windows(2).all(|w| w[0] == w[1]);
    let table = labels.table(cx)?;
    if !single {
        let y = scores(cx, "class", n)?;
        let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: false, last: false }, &[y])?;
        let label = cx.gather(table, at, 0)?;
        let scores = post_transform(cx, y)?;
        return many([label, scores]);
    }
    let y = scores(cx, "class", 2)?;
    let s = cx.slice_axis(y, 1, ids.first().copied().unwrap_or(0).into(), 1.into(), 1)?;
    let positive = numbers(cx, "class_weights")?.iter().all(|w| *w >= 0.0);
    let logistic = match cx.text("post_transform", "NONE")? {
        // As in ONNX Runtime: a softmax of one score leaves it as it is.
        "NONE" | "SOFTMAX" | "SOFTMAX_ZERO" => false,
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

/// `[N, F] -> [N, n_targets]` in the input's dtype. Inner nodes and leaves are listed apart; a node that asks whether a feature is one of
/// some values becomes a chain of nodes, a value each.
fn tree_ensemble(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let need = |name: &str| -> Res<Vec<i64>> { cx.ints(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing"))) };
    let features = need("nodes_featureids")?;
    let (yes, no) = (need("nodes_truenodeids")?, need("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (need("nodes_trueleafs")?, need("nodes_falseleafs")?);
    let (leaf_targets, roots) = (need("leaf_targetids")?, need("tree_roots")?);
    let mut need = |name: &str| cx.tensor_numbers(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing")));
    let (splits, modes, leaf_weights) = (need("nodes_splits")?, need("nodes_modes")?, need("leaf_weights")?);
    let n = features.len();
    let missing = cx.ints("nodes_missing_value_tracks_true")?.filter(|m| !m.is_empty()).unwrap_or_else(|| vec![0; n]);
    if [splits.len(), modes.len(), yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), missing.len()].iter().any(|l| *l != n) {
        return Err(Fault::attr("the lists of its nodes have different lengths"));
    }
    let targets = cx.int("n_targets", 1)?;
    if leaf_targets.len() != leaf_weights.len() || !(1..=MAX_TARGETS).contains(&targets) {
        return Err(Fault::attr("the lists of its leaves have different lengths"));
    }
    let mut f = Forest::default();
    (0..n + leaf_targets.len()).for_each(|_| _ = f.leaf());
    let place = |to: i64, leaf: i64| -> Res<i64> {
        let (base, count) = if leaf != 0 { (n, leaf_targets.len()) } else { (0, n) };
        let to = usize::try_from(to).ok().filter(|t| *t < count);
        to.map(|t| (base + t) as i64).ok_or_else(|| Fault::attr("a node leads to one that is not there"))
    };
    let members = cx.tensor_numbers("membership_values")?.unwrap_or_default();
    let mut sets = members.split(|v| v.is_nan());
    for i in 0..n {
        let (yes, no) = (place(yes[i], yes_leaf[i])?, place(no[i], no_leaf[i])?);
        let mode = modes[i] as usize;
        if modes[i] < 0.0 || mode > MEMBER {
            return Err(Fault::attr(format!("{} is no mode of a node", modes[i])));
        }
        let mut at = i;
        let values = if mode == MEMBER {
            sets.next().ok_or_else(|| Fault::attr("`membership_values` has fewer sets than there are nodes that ask for one"))?
        } else {
            std::slice::from_ref(&splits[i])
        };
        if values.is_empty() {
            // Nothing is one of no values, but for what is missing.
            (f.mode[at], f.value[at]) = (MEMBER - 2, f64::NAN);
        }
        for (k, &v) in values.iter().enumerate() {
            if k > 0 {
                let next = f.leaf();
                f.no[at] = next as i64;
                at = next;
            }
            (f.mode[at], f.value[at]) = (if mode == MEMBER { MEMBER - 2 } else { mode }, v);
            (f.feature[at], f.missing[at], f.yes[at]) = (features[i], missing[i] != 0, yes);
        }
        (f.feature[at], f.missing[at], f.yes[at], f.no[at]) = (features[i], missing[i] != 0, yes, no);
    }
    f.roots = roots.iter().map(|r| place(*r, 0)).collect::<Res<_>>()?;
    let mut given = Vec::with_capacity(leaf_targets.len());
    for (i, (&target, &weight)) in leaf_targets.iter().zip(&leaf_weights).enumerate() {
        if !(0..targets).contains(&target) {
            return Err(Fault::attr(format!("a leaf is for target {target} of {targets}")));
        }
        given.push((n + i, target, weight));
    }
    let op = match cx.int("aggregate_function", 1)? {
        0 => ReduceOp::Mean,
        1 => ReduceOp::Sum,
        2 => ReduceOp::Min,
        3 => ReduceOp::Max,
        other => return Err(Fault::attr(format!("`aggregate_function` is {other}, expected 0 to 3"))),
    };
    let transform = match cx.int("post_transform", 0)? {
        0 => "NONE",
        1 => "SOFTMAX",
        2 => "LOGISTIC",
        3 => "SOFTMAX_ZERO",
        4 => "PROBIT",
        other => return Err(Fault::attr(format!("`post_transform` is {other}, expected 0 to 4"))),
    };
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let x = if dtype == DType::F64 { x } else { cx.cast(x, DType::F32)? };
    let x = if cx.want_rank(x, 1..=2)? == 1 { cx.unsqueeze(x, &[0])? } else { x };
    let y = f.scores(cx, x, &given, targets, op, None)?;
    let y = transformed(cx, y, transform)?;
    one(if dtype.is_float() { cx.cast(y, dtype)? } else { y })
}
