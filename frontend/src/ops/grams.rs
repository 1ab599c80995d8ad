// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts of n-grams in sequences of integers.

use std::collections::BTreeMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ScatterOp, ValueId};

use super::ml::floats;
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("TfIdfVectorizer", 9, 1, 1, tf_idf)];

/// Longest n-gram, and most items that are skipped: every length and every skip is a step of the graph.
const MAX_STEPS: i64 = 64;

/// N-grams as a tree: an edge leads from the node of a prefix by one more token.
struct Tree {
    /// Tokens that come in any n-gram, sorted.
    tokens: Vec<i64>,
    /// `node * tokens.len() + token` of every edge, sorted, and the node that it leads to. Node 0 is the root.
    edges: BTreeMap<i64, i64>,
    /// Column of the result that counts the n-gram of a node.
    columns: Vec<Option<i64>>,
    /// Weights of the columns, where there are any.
    weights: Option<Vec<f32>>,
}

impl Tree {
    fn read(cx: &mut Cx<'_, '_>, least: i64, most: i64, texts: bool) -> Res<(Tree, i64)> {
        let need = |name: &str| cx.ints(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing")));
        let (starts, indexes) = (need("ngram_counts")?, need("ngram_indexes")?);
        let pool = if texts {
            let pool = cx.texts("pool_strings")?.ok_or_else(|| Fault::attr("attribute `pool_strings` is missing"))?;
            pool.into_iter().map(|t| cx.text_number(t)).collect()
        } else {
            need("pool_int64s")?
        };
        let width = indexes.iter().copied().max().unwrap_or(-1);
        if indexes.iter().any(|i| *i < 0) || width >= 1 << 24 || indexes.is_empty() {
            return Err(Fault::attr("`ngram_indexes` names no columns of a result"));
        }
        let weights = match floats(cx, "weights")? {
            w if w.is_empty() => None,
            w => Some(by_column(&w, &indexes, width + 1)?),
        };
        let mut tokens = pool.clone();
        tokens.sort_unstable();
        tokens.dedup();
        let mut tree = Tree { tokens, edges: BTreeMap::new(), columns: vec![None], weights };
        let mut id = 0usize;
        for (i, &from) in starts.iter().enumerate() {
            let to = starts.get(i + 1).copied().unwrap_or(pool.len() as i64);
            let part = usize::try_from(from).ok().zip(usize::try_from(to).ok()).and_then(|(a, b)| pool.get(a..b));
            let size = i + 1;
            let Some(part) = part.filter(|p| p.len() % size == 0) else {
                return Err(Fault::attr(format!("`ngram_counts` is {starts:?} for a pool of {} items", pool.len())));
            };
            for gram in part.chunks(size) {
                let column = indexes.get(id).copied();
                let column = column.ok_or_else(|| Fault::attr("`ngram_indexes` has fewer entries than there are n-grams"))?;
                id += 1;
                if (least..=most).contains(&(size as i64)) {
                    tree.insert(gram, column)?;
                }
            }
        }
        Ok((tree, width + 1))
    }
    fn insert(&mut self, gram: &[i64], column: i64) -> Res<()> {
        let mut node = 0i64;
        for t in gram {
            let token = self.tokens.binary_search(t).map_err(|_| Fault::attr("an n-gram has an unknown token"))?;
            let key = node * self.tokens.len() as i64 + token as i64;
            let next = self.columns.len() as i64;
            node = *self.edges.entry(key).or_insert(next);
            if node == next {
                self.columns.push(None);
            }
        }
        if let Some(c) = self.columns.get_mut(node as usize) {
            *c = Some(column);
        }
        Ok(())
    }
}

/// Weights of n-grams as those of the columns that count them.
fn by_column(weights: &[f32], indexes: &[i64], columns: i64) -> Res<Vec<f32>> {
    if weights.len() != indexes.len() {
        return Err(Fault::attr(format!("{} weights for {} n-grams", weights.len(), indexes.len())));
    }
    let mut out = vec![None; columns as usize];
    for (&w, &i) in weights.iter().zip(indexes) {
        let Some(cell) = out.get_mut(i as usize) else { continue };
        if cell.replace(w).is_some_and(|before| before != w) {
            return Err(Fault::form(format!("n-grams of different weights are counted in column {i}")));
        }
    }
    Ok(out.into_iter().map(|w| w.unwrap_or(0.0)).collect())
}

/// A sorted list as a table that is searched by halves.
pub struct Sorted {
    table: ValueId,
    /// Number of entries, and the power of two that they are filled up to.
    len: i64,
    filled: i64,
}

impl Sorted {
    /// A table of these keys, which are sorted and unique.
    pub fn new(cx: &mut Cx<'_, '_>, keys: &[i64]) -> Res<Sorted> {
        let mut all = keys.to_vec();
        // Two at least: a table of one is a scalar constant.
        let filled = keys.len().max(2).next_power_of_two();
        all.resize(filled, i64::MAX);
        Ok(Sorted { table: cx.table_i64(&[filled as i64], &all)?, len: keys.len() as i64, filled: filled as i64 })
    }
    /// Number of entries that places may lie in.
    pub fn filled(&self) -> i64 {
        self.filled
    }
    /// Place of every `x` (i64) and whether it is there.
    pub fn find(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<(ValueId, ValueId)> {
        let dims = cx.dims(x);
        let mut at = cx.fill(DType::I64, 0.0, dims)?;
        let mut step = self.filled / 2;
        while step > 0 {
            // All up to `next` are below `x` if the last of them is.
            let last = cx.bin_c(BinaryOp::Add, at, (step - 1) as f64)?;
            let next = cx.bin_c(BinaryOp::Add, at, step as f64)?;
            let key = cx.gather(self.table, last, 0)?;
            let go = cx.bin(BinaryOp::Lt, key, x)?;
            at = cx.select(go, next, at)?;
            step /= 2;
        }
        let key = cx.gather(self.table, at, 0)?;
        let (same, inside) = (cx.bin(BinaryOp::Eq, key, x)?, cx.bin_c(BinaryOp::Lt, at, self.len as f64)?);
        Ok((at, cx.bin(BinaryOp::And, same, inside)?))
    }
}

/// `[C]` or `[N,C]` to how often each n-gram comes, `[.., columns]`. All places of a row walk down the tree of n-grams together, once for
/// every distance between items.
fn tf_idf(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let x = cx.input(0)?;
    let flat = cx.want_rank(x, 1..=2)? == 1;
    let texts = cx.dtype(x) == DType::Str;
    if !cx.dtype(x).is_int() && !texts {
        return Err(Fault::form(format!("its input is {}; n-grams of integers and of texts are counted", cx.ty(x))));
    }
    let (least, most, skips) = (cx.need_int("min_gram_length")?, cx.need_int("max_gram_length")?, cx.need_int("max_skip_count")?);
    if least < 1 || most < least || most > MAX_STEPS || !(0..=MAX_STEPS).contains(&skips) {
        return Err(Fault::attr(format!("n-grams of {least} to {most} items with up to {skips} skipped are not counted")));
    }
    let mode = match cx.text("mode", "")? {
        m @ ("TF" | "IDF" | "TFIDF") => m,
        other => return Err(Fault::attr(format!("`mode` is {other:?}, expected TF, IDF or TFIDF"))),
    };
    let (tree, columns) = Tree::read(cx, least, most, texts)?;
    let x = if texts { cx.add(Op::Handle { to: DType::I64, list: None }, &[x])? } else { cx.cast(x, DType::I64)? };
    let x = if flat { cx.unsqueeze(x, &[0])? } else { x };
    let (rows, length) = (cx.dim(x, 0)?, cx.dim(x, 1)?);
    let tokens = Sorted::new(cx, &tree.tokens)?;
    let keys: Vec<i64> = tree.edges.keys().copied().collect();
    let edges = Sorted::new(cx, &keys)?;
    // A node that no edge leaves stands for all that is no n-gram.
    let dead = tree.columns.len() as f64;
    let mut children: Vec<i64> = tree.edges.values().copied().collect();
    children.resize(edges.filled as usize, 0);
    let children = cx.table_i64(&[edges.filled], &children)?;
    let mut column: Vec<i64> = tree.columns.iter().map(|c| c.unwrap_or(columns)).collect();
    column.push(columns);
    let column = cx.table_i64(&[column.len() as i64], &column)?;
    let (token, known) = tokens.find(cx, x)?;
    let (none, per) = (cx.scalar(DType::I64, dead)?, tree.tokens.len() as f64);
    let mut hits = Vec::new();
    for distance in 1..=skips + 1 {
        let mut node = cx.fill(DType::I64, 0.0, vec![rows.clone(), length.clone()])?;
        for size in 1..=most {
            let ahead = (size - 1) * distance;
            let left = cx.max(&(length.clone() - ahead), &0.into());
            if left.is(0) {
                break;
            }
            let from = cx.min(&ahead.into(), &length);
            let part = cx.slice_axis(token, 1, from.clone(), left.clone(), 1)?;
            let is_known = cx.slice_axis(known, 1, from, left.clone(), 1)?;
            node = cx.slice_axis(node, 1, 0.into(), left, 1)?;
            let key = cx.bin_c(Mul, node, per)?;
            let key = cx.bin(Add, key, part)?;
            let (at, found) = edges.find(cx, key)?;
            let found = cx.bin(And, found, is_known)?;
            let child = cx.gather(children, at, 0)?;
            node = cx.select(found, child, none)?;
            // Single items are the same for every distance.
            if size >= least && (size > 1 || distance == 1) {
                hits.push(cx.gather(column, node, 0)?);
            }
        }
    }
    let zeros = cx.fill(DType::F32, 0.0, vec![rows.clone(), (columns + 1).into()])?;
    let mut y = zeros;
    if !hits.is_empty() {
        let at = cx.concat(&hits, 1)?;
        let dims = cx.dims(at);
        let ones = cx.fill(DType::F32, 1.0, dims)?;
        y = cx.add(Op::ScatterElements { axis: 1, op: ScatterOp::Add }, &[zeros, at, ones])?;
    }
    // The last column counts what is no n-gram.
    y = cx.slice_axis(y, 1, 0.into(), columns.into(), 1)?;
    if mode == "IDF" {
        let some = cx.bin_c(Gt, y, 0.0)?;
        y = cx.cast(some, DType::F32)?;
    }
    if let Some(w) = tree.weights.as_ref().filter(|_| mode != "TF") {
        let w = cx.table_f32(&[columns], w)?;
        y = cx.bin(Mul, y, w)?;
    }
    one(if flat { cx.reshape(y, vec![columns.into()])? } else { y })
}
