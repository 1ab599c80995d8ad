// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experts along a dim, computed for all tokens and weighed by scores of which most are 0.
//!
//! Before: `reduce_sum(f(x, w) * scores)` over the dim of the experts, with `w: [E, ..]` and `scores = scatter_elements(zeros, choice, p)`;
//! after: what the first two of them are, added up: `f(x, w[0]) * reduce_sum(p * cast(eq(choice, 0))) + f(x, w[1]) * ..`. These are siblings
//! whose template is that of all `E`, so that [`super::route`] writes the sum of all from it. On its own the result is another sum: it is
//! written on a copy of the graph, and goes with it where it is not routed.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ReduceOp, ScatterOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::mask::distinct;
use crate::canonical::contract::{labels, spec};
use crate::rules::consts::{is_exactly, is_static, literal};
use crate::rules::{Edit, RuleLog, Tap, topological};

/// Name of the rewrite in origins and statistics.
pub const DENSE: &str = "experts-apart";
/// Nodes between a sum and what its terms read.
const MOST: usize = 512;

/// Sums over a dim, where values are scattered at all.
pub(super) fn candidates(g: &Graph) -> Vec<NodeId> {
    if !g.node_ids().any(|n| matches!(g.node(n).op, Op::ScatterElements { .. })) {
        return Vec::new();
    }
    topological(g).into_iter().filter(|&n| summed(g, n).is_some()).collect()
}

/// The axis along which a node adds up, whether it stays as 1, and how many terms there are.
fn summed(g: &Graph, n: NodeId) -> Option<(usize, bool, i64)> {
    let node = g.node(n);
    let (Op::Reduce { op: ReduceOp::Sum, axes, keep }, &[x]) = (&node.op, node.operands.as_slice()) else { return None };
    let &[axis] = axes.as_slice() else { return None };
    let terms = g.ty(x).dims.get(axis as usize)?.as_const().filter(|e| *e > 1)?;
    g.ty(x).dtype.is_float().then_some((axis as usize, *keep, terms))
}

/// Writes the first two terms of these sums in their place, where that can be done; gives each sum with the two, and how many they stand for.
pub(super) fn rewrite(g: &mut Graph, sums: &[NodeId], log: &mut RuleLog) -> Vec<(NodeId, [ValueId; 2], i64)> {
    let mut out = Vec::new();
    for &n in sums {
        let Some((patch, terms)) = apart(g, n) else { continue };
        if log.spent() {
            break;
        }
        let added = match g.apply(patch) {
            Ok(applied) => applied.added,
            Err(fault) => {
                log.refused.insert(DENSE, fault.message);
                continue;
            }
        };
        log.count(DENSE);
        // The last node adds them.
        if let Some(&[a, b]) = added.last().map(|&n| g.node(n).operands.as_slice()) {
            out.push((n, [a, b], terms));
        }
    }
    out
}

fn apart(g: &Graph, n: NodeId) -> Option<(Patch, i64)> {
    let (axis, _, terms) = summed(g, n)?;
    let &[x] = g.node(n).operands.as_slice() else { return None };
    let dims = g.ty(g.result(n)).dims.clone();
    let mut a = Apart { e: Edit::new(g, DENSE, &[n]), terms, number: 0, known: HashMap::new(), passed: vec![n], chosen: false };
    let first = a.at(x, axis)?;
    if !a.chosen {
        return None;
    }
    let first = a.e.reshape(first, dims.clone())?;
    (a.number, a.known) = (1, HashMap::new());
    let second = a.at(x, axis)?;
    let second = a.e.reshape(second, dims)?;
    let sum = a.e.binary(BinaryOp::Add, first, second)?;
    let mut patch = a.e.finish(g.result(n), sum)?;
    a.passed.sort_unstable();
    a.passed.dedup();
    patch.from = a.passed;
    Some((patch, terms))
}

/// One term of a sum.
struct Apart<'g> {
    e: Edit<'g>,
    /// How many terms there are, and which this is.
    terms: i64,
    number: i64,
    known: HashMap<(ValueId, usize), Option<Tap>>,
    passed: Vec<NodeId>,
    /// Whether a score is 0 for all but a few terms.
    chosen: bool,
}

impl Apart<'_> {
    /// Element `number` of a value along `axis`, without that dim; `None` where that is not understood.
    fn at(&mut self, v: ValueId, axis: usize) -> Option<Tap> {
        if let Some(known) = self.known.get(&(v, axis)) {
            return *known;
        }
        let tap = self.apart(v, axis);
        self.known.insert((v, axis), tap);
        tap
    }

    fn apart(&mut self, v: ValueId, axis: usize) -> Option<Tap> {
        let g = self.e.graph;
        let dims = &g.ty(v).dims;
        (dims.get(axis)?.as_const() == Some(self.terms) && self.known.len() < MOST).then_some(())?;
        let rest = without(dims, axis);
        if is_static(g, v) {
            let number = self.number(DType::I64)?;
            return self.e.add(Op::Gather { axis: u32::try_from(axis).ok()? }, &[v.into(), number]);
        }
        let n = g.producer_id(v)?;
        let node = g.node(n);
        if node.results.len() != 1 || !node.regions.is_empty() {
            return None;
        }
        self.passed.push(n);
        // Axes of what has the dims of the result.
        let moved = |a: u32| if (a as usize) > axis { a - 1 } else { a };
        let &first = node.operands.first()?;
        match &node.op {
            op if op.is_elementwise() => {
                let taps = node.operands.iter().map(|&o| self.aligned(o, axis, dims.len())).collect::<Option<Vec<_>>>()?;
                self.e.add(op.clone(), &taps)
            }
            Op::Contract { spec: text, acc, out } => {
                let [a, b, to] = labels(text)?;
                let label = *to.get(axis)?;
                let mut taps = Vec::with_capacity(2);
                for (own, &o) in [&a, &b].into_iter().zip(&node.operands) {
                    taps.push(match own.iter().position(|&c| c == label) {
                        Some(at) if g.ty(o).dims.get(at)?.is(1) => self.e.reshape(o, without(&g.ty(o).dims, at))?,
                        Some(at) => self.at(o, at)?,
                        None => o.into(),
                    });
                }
                let [a, b, to] = [a, b, to].map(|l| l.into_iter().filter(|&c| c != label).collect::<Vec<_>>());
                let &[x, y] = taps.as_slice() else { return None };
                self.e.contract(&spec(&[a, b, to]), x, y, *acc, *out)
            }
            Op::Reshape { .. } => {
                // A dim that was joined with others and is one again.
                let mut x = first;
                loop {
                    let own = &g.ty(x).dims;
                    let same = |j: &usize| own[*j].as_const() == Some(self.terms) && product(&own[..*j]) == product(&dims[..axis]);
                    if let Some(at) = (0..own.len()).find(same) {
                        let tap = self.at(x, at)?;
                        return self.e.reshape(tap, rest);
                    }
                    let before = g.producer(x)?;
                    x = match (&before.op, before.operands.as_slice()) {
                        (Op::Reshape { .. }, &[x]) => x,
                        _ => return None,
                    };
                }
            }
            Op::Broadcast { .. } => {
                let tap = self.aligned(first, axis, dims.len())?;
                self.e.broadcast(tap, rest)
            }
            Op::Transpose { perm } => {
                let from = *perm.get(axis)?;
                let tap = self.at(first, from as usize)?;
                let perm = perm.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &p)| if p > from { p - 1 } else { p }).collect();
                self.e.transpose(tap, perm)
            }
            Op::Slice { starts, steps, .. } => {
                let whole = starts.get(axis)?.is(0) && *steps.get(axis)? == 1 && g.ty(first).dims.get(axis) == dims.get(axis);
                whole.then_some(())?;
                let tap = self.at(first, axis)?;
                let mut steps = steps.clone();
                steps.remove(axis);
                self.e.add(Op::Slice { starts: without(starts, axis), steps, dims: rest }, &[tap])
            }
            Op::Concat { axis: along } if *along as usize != axis => {
                let taps = node.operands.iter().map(|&o| self.at(o, axis)).collect::<Option<Vec<_>>>()?;
                self.e.add(Op::Concat { axis: moved(*along) }, &taps)
            }
            Op::Reduce { op, axes, keep } => {
                // Where the axis was before others went.
                let from = if *keep { axis } else { (0..g.ty(first).rank()).filter(|&i| !axes.contains(&(i as u32))).nth(axis)? };
                let tap = self.at(first, from)?;
                let axes = axes.iter().map(|&a| if a as usize > from { a - 1 } else { a }).collect();
                self.e.add(Op::Reduce { op: *op, axes, keep: *keep }, &[tap])
            }
            Op::Softmax { axis: along } if *along as usize != axis => {
                let tap = self.at(first, axis)?;
                self.e.add(Op::Softmax { axis: moved(*along) }, &[tap])
            }
            Op::ScatterElements { axis: along, op } if *along as usize == axis && axis + 1 == dims.len() => {
                self.score(node.operands.as_slice(), *op)
            }
            _ => None,
        }
    }

    /// An operand of an op whose result has rank `rank`: without what is its dim at `axis` of the result.
    fn aligned(&mut self, o: ValueId, axis: usize, rank: usize) -> Option<Tap> {
        let dims = &self.e.graph.ty(o).dims;
        match (axis + dims.len()).checked_sub(rank) {
            None => Some(o.into()),
            Some(at) if dims.get(at)?.is(1) => self.e.reshape(o, without(dims, at)),
            Some(at) => self.at(o, at),
        }
    }

    /// What the scores of chosen terms, put into zeros, are for this one.
    fn score(&mut self, operands: &[ValueId], op: ScatterOp) -> Option<Tap> {
        let g = self.e.graph;
        let &[zeros, choice, p] = operands else { return None };
        let (all, chosen) = (&g.ty(zeros).dims, &g.ty(choice).dims);
        let last = all.len().checked_sub(1)?;
        let each = match op {
            ScatterOp::Add => true,
            ScatterOp::Set => distinct(g, choice),
            _ => false,
        };
        (each && all.get(..last) == chosen.get(..last) && is_exactly(g, zeros, 0.0)).then_some(())?;
        let number = self.number(g.ty(choice).dtype)?;
        let equal = self.e.binary(BinaryOp::Eq, choice, number)?;
        let marked = self.e.cast(equal, g.ty(p).dtype)?;
        let own = self.e.binary(BinaryOp::Mul, p, marked)?;
        self.chosen = true;
        self.e.add(Op::Reduce { op: ReduceOp::Sum, axes: vec![u32::try_from(last).ok()?], keep: false }, &[own])
    }

    fn number(&mut self, dtype: DType) -> Option<Tap> {
        self.e.add(Op::Const { value: literal(dtype, self.number as f64) }, &[])
    }
}

fn without(dims: &Dims, axis: usize) -> Dims {
    dims.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d): (_, &SymExpr)| d.clone()).collect()
}
