// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products of rows with matrices that each row looks up.
//!
//! Before: `contract{"rk,rkn->rn"}(x, gather(w, group))`, for which a matrix a row would be copied;
//! after: the rows sorted by group, `contract_groups` with `w` as it lies, and each result where its row was. Rows are what any labels say, the
//! matrices may be either operand, looked up by `gather` or `gather_nd`, turned or reshaped after that, or dequantized, with their scales looked
//! up likewise. What lies between two such products of the same groups stays sorted.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::route::chosen_below;
use crate::canonical::contract::labels;
use crate::rules::consts::is_static;
use crate::rules::edit::only_user;
use crate::rules::{Edit, Tap};

/// Values that rows read, each by its own number.
struct LookUp {
    /// Matrices by group, of rank 3; where they are dequantized, their scales and zero points follow.
    tables: Vec<ValueId>,
    /// The node that dequantizes what was looked up.
    dequantize: Option<NodeId>,
    /// The numbers of groups, and the dims that they have as rows.
    group: ValueId,
    rows: Dims,
    /// Labels of the rows, then those of a matrix as the table has it.
    labels: Vec<char>,
    /// Nodes that the product does without.
    passed: Vec<NodeId>,
}

/// What a value looks up along the first dim of a table: table, index, and whether the index has a last dim of 1 besides.
fn table(g: &Graph, v: ValueId) -> Option<(ValueId, ValueId, bool)> {
    let node = g.producer(v)?;
    let &[table, index] = node.operands.as_slice() else { return None };
    match &node.op {
        Op::Gather { axis: 0 } => Some((table, index, false)),
        Op::GatherNd { batch: 0 } => g.ty(index).dims.last().is_some_and(|d| d.is(1)).then_some((table, index, true)),
        _ => None,
    }
}

/// Follows a matrix a row back to where it is looked up; `names` are its labels in the product.
fn look_up(g: &Graph, mut v: ValueId, names: &[char]) -> Option<LookUp> {
    let mut names = names.to_vec();
    let mut rows: Option<Dims> = None;
    let mut passed = Vec::new();
    loop {
        let n = g.producer_id(v)?;
        let node = g.node(n);
        only_user(g, v)?;
        passed.push(n);
        let dims = &g.ty(v).dims;
        let lead = dims.len().checked_sub(2)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Transpose { perm }, &[x]) if rows.is_none() => {
                let mut before = names.clone();
                perm.iter().zip(&names).for_each(|(&p, &name)| before[p as usize] = name);
                (v, names) = (x, before);
            }
            (Op::Reshape { .. }, &[x]) if rows.is_none() => {
                let from = &g.ty(x).dims;
                (from.len() >= 2 && from[from.len() - 2..] == dims[lead..]).then_some(())?;
                rows = Some(dims[..lead].to_vec());
                v = x;
            }
            (Op::Dequantize { .. }, parts) => {
                let found = parts.iter().map(|&p| table(g, p)).collect::<Option<Vec<_>>>()?;
                let &(_, group, _) = found.first()?;
                // The axis of the scales is that of the table where rows have one dim.
                (found.iter().all(|f| f.1 == group) && lead == 1 && rows.is_none()).then_some(())?;
                let tables = found.iter().map(|f| f.0).collect();
                return Some(LookUp { tables, dequantize: Some(n), group, rows: dims[..lead].to_vec(), labels: names, passed });
            }
            _ => {
                let (w, group, _) = table(g, v)?;
                let rows = rows.unwrap_or_else(|| dims[..lead].to_vec());
                return Some(LookUp { tables: vec![w], dequantize: None, group, rows, labels: names, passed });
            }
        }
    }
}

/// The patch for one product; `None` if it is not of that kind.
pub(super) fn grouped(g: &Graph, n: NodeId) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec, .. }, &[a, b]) = (&node.op, node.operands.as_slice()) else { return None };
    let [left, right, to] = labels(spec)?;
    let side = |x, own: &[char], v, names| routed(g, n, (x, own), &look_up(g, v, names)?, &to);
    side(a, &left, b, &right).or_else(|| side(b, &right, a, &left))
}

/// The product `n` of `x`, labeled `own`, with what is looked up, as a grouped one.
fn routed(g: &Graph, n: NodeId, (x, own): (ValueId, &[char]), w: &LookUp, to: &[char]) -> Option<Patch> {
    let Op::Contract { acc, out, .. } = &g.node(n).op else { return None };
    let &table = w.tables.first()?;
    let ty = g.ty(table);
    let groups = ty.dims.first()?.as_const().filter(|&e| e > 1)?;
    let float = w.dequantize.is_some() || ty.dtype.is_float() && ty.quant.is_none();
    if !float || ty.rank() != 3 || !w.tables.iter().all(|&t| is_static(g, t)) {
        return None;
    }
    let (rows, matrix) = w.labels.split_at_checked(w.rows.len())?;
    let &[first, second] = matrix else { return None };
    let summed = |c: char| own.contains(&c) && !to.contains(&c);
    let columns_last = summed(first);
    let (k, m) = if columns_last { (first, second) } else { (second, first) };
    let free: Vec<char> = own.iter().copied().filter(|c| *c != k && !rows.contains(c)).collect();
    let result: Vec<char> = rows.iter().chain(&free).copied().chain([m]).collect();
    if !summed(k) || own.contains(&m) || rows.is_empty() || result.len() != to.len() || !result.iter().all(|c| to.contains(c)) {
        return None;
    }
    let dim_of = |c: char| own.iter().position(|o| *o == c).map(|i| g.ty(x).dims[i].clone());
    let free_dims: Dims = free.iter().map(|&c| dim_of(c)).collect::<Option<_>>()?;
    let lead: Dims = w.rows.iter().chain(&free_dims).cloned().collect();
    let (total, copies) = (product(&lead), product(&free_dims));

    let mut from = w.passed.clone();
    from.push(n);
    let mut e = Edit::new(g, super::GROUP, &from);
    let mut group = w.group.into();
    if !chosen_below(g, w.group, groups) {
        // Indices from the end, as `gather` takes them.
        let wide = e.cast(group, DType::I64)?;
        let none = e.scalar(DType::I64, 0.0)?;
        let negative = e.binary(BinaryOp::Lt, wide, none)?;
        let wrapped = e.with_scalar(BinaryOp::Add, wide, groups as f64)?;
        group = e.select(negative, wrapped, wide)?;
    }
    if !copies.is(1) {
        group = e.reshape(group, [w.rows.as_slice(), &vec![1.into(); free.len()]].concat())?;
        group = e.broadcast(group, lead.clone())?;
    }
    let group = e.reshape(group, vec![total.clone()])?;
    let sorted = e.add(Op::GroupRows { groups }, &[group])?;
    let Tap::New(at, _) = sorted else { return None };
    let (order, places, starts) = (Tap::New(at, 0), Tap::New(at, 1), Tap::New(at, 2));

    // The other operand as rows, in the order of the labels.
    let has = |c: &char| own.contains(c);
    let missing: Vec<usize> = (0..rows.len()).filter(|&i| !has(&rows[i])).collect();
    let there: Vec<char> = rows.iter().chain(&free).copied().filter(has).chain([k]).collect();
    let perm = there.iter().map(|c| own.iter().position(|o| o == c).and_then(|i| u32::try_from(i).ok())).collect::<Option<Vec<_>>>()?;
    let depth = dim_of(k)?;
    let as_it_lies = in_order(&g.ty(x).dims, &perm);
    let mut lhs = if as_it_lies { x.into() } else { e.transpose(x, perm)? };
    let each = product(&missing.iter().map(|&i| w.rows[i].clone()).collect::<Dims>());
    // Rows that follow each other and read the same find it by their number.
    let runs = copies.is(1) && missing.first().is_some_and(|&i| i + missing.len() == rows.len());
    let mut by = order;
    if let Some(each) = each.as_const().filter(|_| runs) {
        let some = product(&w.rows[..rows.len() - missing.len()]);
        lhs = e.reshape(lhs, vec![some, depth])?;
        by = if each == 1 { order } else { e.with_scalar(BinaryOp::Div, order, each as f64)? };
    } else if let Some((once, each)) = repeated(g, x, &depth).filter(|_| missing.is_empty() && as_it_lies) {
        let count = product(&g.ty(once).dims).div(&depth);
        lhs = e.reshape(once, vec![count, depth])?;
        by = e.with_scalar(BinaryOp::Div, order, each as f64)?;
    } else {
        if !missing.is_empty() {
            let ones = lead.iter().enumerate().map(|(i, d)| if missing.contains(&i) { SymExpr::from(1) } else { d.clone() });
            lhs = e.reshape(lhs, ones.chain([depth.clone()]).collect())?;
            lhs = e.broadcast(lhs, lead.iter().cloned().chain([depth.clone()]).collect())?;
        }
        lhs = e.reshape(lhs, vec![total, depth])?;
    }
    let lhs = e.add(Op::Gather { axis: 0 }, &[lhs, by])?;
    let matrices = match w.dequantize {
        Some(d) => e.add(g.node(d).op.clone(), &w.tables.iter().map(|&t| t.into()).collect::<Vec<_>>())?,
        None => table.into(),
    };
    let matrices = if columns_last { matrices } else { e.transpose(matrices, vec![0, 2, 1])? };
    let y = e.add(Op::ContractGroups { acc: *acc, out: *out }, &[lhs, matrices, starts])?;
    let mut y = e.add(Op::Gather { axis: 0 }, &[y, places])?;
    let columns = e.ty(y).dims.last()?.clone();
    let dims: Dims = lead.iter().cloned().chain([columns]).collect();
    let back = to.iter().map(|c| result.iter().position(|r| r == c).and_then(|i| u32::try_from(i).ok())).collect::<Option<Vec<_>>>()?;
    if in_order(&dims, &back) {
        y = e.reshape(y, back.iter().map(|&i| dims[i as usize].clone()).collect())?;
    } else {
        y = e.reshape(y, dims)?;
        y = e.transpose(y, back)?;
    }
    e.finish(g.result(n), y)
}

/// Whether a permutation of these dims moves no element: dims of 1 may stand anywhere.
fn in_order(dims: &Dims, perm: &[u32]) -> bool {
    perm.iter().filter(|&&i| dims.get(i as usize).is_some_and(|d| !d.is(1))).is_sorted()
}

/// For a value of which `each` rows of `depth` that follow each other are equal: the value that has one in their place, and `each`.
fn repeated(g: &Graph, mut v: ValueId, depth: &SymExpr) -> Option<(ValueId, i64)> {
    for _ in 0..4 {
        let node = g.producer(v)?;
        let &[x] = node.operands.as_slice() else { return None };
        match &node.op {
            Op::Reshape { .. } => v = x,
            Op::Broadcast { dims } => {
                let from = &g.ty(x).dims;
                let mut grown = (0..dims.len()).filter(|&i| from.get(i) != dims.get(i));
                let (axis, more) = (grown.next()?, grown.next());
                let alone = from.len() == dims.len() && more.is_none() && from[axis].is(1) && product(&dims[axis + 1..]) == *depth;
                return dims[axis].as_const().filter(|&each| alone && each > 0).map(|each| (x, each));
            }
            _ => return None,
        }
    }
    None
}

/// Rows that were put back where they were and are sorted by the same groups again: they stay sorted, and what was made of them in between
/// with them. `None` where that saves nothing.
pub(super) fn kept(g: &Graph, n: NodeId) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Gather { axis: 0 }, &[x, order]) = (&node.op, node.operands.as_slice()) else { return None };
    let by = g.producer_id(order)?;
    let (Op::GroupRows { .. }, &[own, places, _]) = (&g.node(by).op, g.node(by).results.as_slice()) else { return None };
    let rows = g.ty(order).dims.first()?.clone();
    (own == order).then_some(())?;
    let mut k = Kept { e: Edit::new(g, super::KEEP, &[n]), rows, order, places, found: false, known: HashMap::new(), passed: vec![n] };
    let new = k.sorted(x)?;
    // What another node reads too would be computed twice.
    let own = |n: &NodeId| *n == k.passed[0] || !g.is_output(g.result(*n)) && g.users(g.result(*n)).iter().all(|u| k.passed.contains(u));
    (k.found && k.passed.iter().all(own)).then_some(())?;
    k.e.finish(g.result(n), new)
}

/// Nodes between two sorts that are followed.
const MOST: usize = 64;

/// Writes values of rows as sorted ones.
struct Kept<'g> {
    e: Edit<'g>,
    rows: SymExpr,
    order: ValueId,
    places: ValueId,
    /// Whether rows were met that had been sorted.
    found: bool,
    known: HashMap<ValueId, Tap>,
    /// Nodes that the sorted value does without, if nothing else reads them; that which sorts first.
    passed: Vec<NodeId>,
}

impl Kept<'_> {
    fn sorted(&mut self, v: ValueId) -> Option<Tap> {
        if let Some(&known) = self.known.get(&v) {
            return Some(known);
        }
        let tap = self.written(v)?;
        self.known.insert(v, tap);
        Some(tap)
    }

    fn written(&mut self, v: ValueId) -> Option<Tap> {
        let g = self.e.graph;
        let n = g.producer_id(v)?;
        let node = g.node(n);
        let rank = g.ty(v).rank();
        let leads = |v: ValueId, rows: &SymExpr| g.ty(v).dims.first() == Some(rows);
        match (&node.op, node.operands.as_slice()) {
            (Op::Gather { axis: 0 }, &[y, by]) if by == self.places => {
                self.found = true;
                return Some(y.into());
            }
            _ if self.passed.len() > MOST => {}
            (op, operands) if op.is_elementwise() => {
                self.passed.push(n);
                let mut taps = Vec::with_capacity(operands.len());
                for &o in operands {
                    let of_rows = g.ty(o).rank() == rank && leads(o, &self.rows);
                    taps.push(if of_rows { self.sorted(o)? } else { o.into() });
                }
                return self.e.add(op.clone(), &taps);
            }
            (op @ (Op::Reshape { .. } | Op::Slice { .. }), &[o]) if leads(o, &self.rows) && leads(v, &self.rows) => {
                let whole = match op {
                    Op::Slice { starts, steps, .. } => starts.first().is_some_and(|s| s.is(0)) && steps.first() == Some(&1),
                    _ => true,
                };
                if whole {
                    self.passed.push(n);
                    let o = self.sorted(o)?;
                    return self.e.add(op.clone(), &[o]);
                }
            }
            _ => {}
        }
        self.e.add(Op::Gather { axis: 0 }, &[v.into(), self.order.into()])
    }
}
