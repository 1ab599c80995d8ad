// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums over the rows that a mask selects, as sums over all rows.
//!
//! Before: `scatter_nd{add}(sum, top, f(gather(x, top)) * gather_nd(p, [top, slot]))` with `slot, top = non_zero(mask)`, where `mask` says which
//! tokens chose a number (in `slot`, or anywhere); after: `add(sum, f(x) * reduce_sum(p * cast(eq(choice, number))))`.
//! `f` must compute each row from that row alone. What was selected is the same for every number of rows afterwards, and so are sums over siblings,
//! which [`super::route`] then takes for the chosen rows alone. By itself this form costs more than the one before it, so only those sums
//! are rewritten that are routed.

use std::collections::{HashMap, HashSet};

use portwright_ir::dtype::DType;
use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::symbolic::Symbolic;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ReduceOp, ScatterOp, ValueId, collect_attr_symbols};
use portwright_ir::sym::{SymExpr, SymName, product};

use super::mask::{At, Hit, Look, distinct, wrapped};
use super::rows::proportional;
use crate::canonical::contract::labels;
use crate::fold::substituted;
use crate::rules::consts::{is_exactly, literal};
use crate::rules::{Edit, RuleLog, Tap, topological};

/// Name of the rewrite in origins and statistics.
pub const SELECT: &str = "all-rows";
/// Nodes between a sum and what its rows are selected from.
const MOST: usize = 512;

/// Sums that could be rewritten, in order: nodes that scatter rows.
pub(super) fn candidates(g: &Graph) -> Vec<NodeId> {
    if !g.node_ids().any(|n| matches!(g.node(n).op, Op::NonZero { .. })) {
        return Vec::new();
    }
    let scatters = |n: &NodeId| matches!(g.node(*n).op, Op::ScatterNd { .. } | Op::ScatterElements { .. });
    topological(g).into_iter().filter(scatters).collect()
}

/// Rewrites these sums where that can be done; gives each that was with the term that it has become.
pub(super) fn rewrite(g: &mut Graph, sums: &[NodeId], log: &mut RuleLog) -> Vec<(NodeId, ValueId)> {
    let mut at: SecondaryMap<NodeId, Option<u32>> = SecondaryMap::default();
    for (i, n) in topological(g).into_iter().enumerate() {
        at[n] = u32::try_from(i).ok();
    }
    let mut out = Vec::new();
    for &n in sums {
        let Some(patch) = all_rows(g, n, &at) else { continue };
        if log.spent() {
            break;
        }
        let applied = match g.apply(patch) {
            Ok(applied) => applied,
            Err(fault) => {
                log.refused.insert(SELECT, fault.message);
                continue;
            }
        };
        log.count(SELECT);
        // The last node adds the term to what was there.
        let term = applied.added.last().and_then(|&n| g.node(n).operands.get(1).copied());
        out.extend(term.map(|t| (n, t)));
    }
    out
}

/// A number that depends on the place of an element in the mask: `base + sum by[j] * coordinate j`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    by: Vec<SymExpr>,
    base: SymExpr,
}

impl Place {
    fn plus(&self, other: &Place) -> Place {
        let by = self.by.iter().zip(&other.by).map(|(a, b)| a + b).collect();
        Place { by, base: &self.base + &other.base }
    }
    fn times(&self, by: &SymExpr) -> Place {
        Place { by: self.by.iter().map(|a| a * by).collect(), base: &self.base * by }
    }
}

/// What a value with a dim of the selected elements is for all tokens.
#[derive(Clone, Debug)]
enum All {
    /// Does not depend on what is selected.
    Common,
    /// Each selected row is the row of its token in this value, which has a dim of the tokens in the place of that of the rows.
    Tokens(Tap),
    /// As `Tokens`, but a token's row here is the sum of its selected rows: 0 for tokens that have none.
    Sums(Tap),
    /// One number for each row: that of its token and slot in this value, which has the dims of the choice.
    Slots(Tap),
    /// Places of the selected elements, side by side along `axis`.
    Places { columns: Vec<Place>, axis: usize },
}

/// The rewrite of one sum.
struct Selected<'g, 'o> {
    e: Edit<'g>,
    order: &'o SecondaryMap<NodeId, Option<u32>>,
    /// Where the mask's elements are found, in that order.
    since: u32,
    found: ValueId,
    /// How many they are.
    count: SymName,
    hit: Hit,
    /// The axis of the mask that counts the choices of a token.
    slot: Option<usize>,
    /// Rank of the mask.
    rank: usize,
    /// How many tokens there are, and the number of a token by the coordinates in the mask.
    tokens: SymExpr,
    token: Place,
    /// Number of a choice, counted through all tokens, where the mask says which it was.
    pair: Option<Place>,
    look: Look<'g>,
    known: HashMap<ValueId, Option<All>>,
    passed: Vec<NodeId>,
}

/// The node that finds the elements that an index counts.
fn found(g: &Graph, index: ValueId) -> Option<NodeId> {
    let (mut work, mut seen) = (vec![index], HashSet::new());
    while let Some(v) = work.pop() {
        if !seen.insert(v) || seen.len() > 64 {
            continue;
        }
        let Some(n) = g.producer_id(v) else { continue };
        let node = g.node(n);
        match &node.op {
            Op::NonZero { .. } => return Some(n),
            Op::Gather { .. } => work.extend(node.operands.first()),
            op if op.is_movement() || op.is_elementwise() => work.extend(node.operands.iter().rev()),
            _ => {}
        }
    }
    None
}

/// The patch for a sum; `None` if it is not of that kind.
fn all_rows(g: &Graph, n: NodeId, order: &SecondaryMap<NodeId, Option<u32>>) -> Option<Patch> {
    let node = g.node(n);
    let &[base, index, update] = node.operands.as_slice() else { return None };
    let op = match &node.op {
        Op::ScatterNd { op } | Op::ScatterElements { op, .. } => *op,
        _ => return None,
    };
    let from = found(g, index)?;
    let Op::NonZero { count } = &g.node(from).op else { return None };
    let &[mask] = g.node(from).operands.as_slice() else { return None };
    let mut look = Look::new(g);
    let hit = look.mask(mask)?;
    let shape = Shape::of(g, mask, &hit)?;
    let unique = shape.slot.is_none() || distinct(g, hit.choice);
    // What a token gets once and not once for each of its choices: the same where they differ.
    if shape.slot.is_none() && !distinct(g, hit.choice) {
        return None;
    }
    let mut s = Selected {
        e: Edit::new(g, SELECT, &[n]),
        order,
        since: order[from]?,
        found: g.result(from),
        count: count.clone(),
        hit,
        slot: shape.slot,
        rank: g.ty(mask).rank(),
        tokens: shape.tokens,
        token: shape.token,
        pair: shape.pair,
        look: Look::new(g),
        known: HashMap::new(),
        passed: vec![n],
    };
    s.target(n, base, index, update)?;
    let update = match op {
        ScatterOp::Add => update,
        // Each row once: onto what was there, or onto nothing.
        ScatterOp::Set if unique => match s.added(base, update) {
            Some(added) => added,
            None => is_exactly(g, base, 0.0).then_some(update)?,
        },
        _ => return None,
    };
    let term = s.term(update)?;
    let term = s.e.reshape(term, g.ty(base).dims.clone())?;
    let sum = s.e.binary(BinaryOp::Add, base, term)?;
    let mut patch = s.e.finish(g.result(n), sum)?;
    patch.from = s.passed;
    patch.from.sort_by_key(|&n| order[n]);
    Some(patch)
}

/// How the elements of a mask count tokens and their choices.
struct Shape {
    slot: Option<usize>,
    tokens: SymExpr,
    token: Place,
    pair: Option<Place>,
}

impl Shape {
    /// `None` unless each element of the mask belongs to one token, or to one choice of one.
    fn of(g: &Graph, mask: ValueId, hit: &Hit) -> Option<Shape> {
        let (own, dims) = (&g.ty(mask).dims, &g.ty(hit.choice).dims);
        let (last, tokens) = dims.split_last()?;
        let (&last_at, tokens_at) = hit.at.split_last()?;
        let mut used = vec![false; own.len()];
        let mut stride = SymExpr::from(1);
        let none = Place { by: vec![0.into(); own.len()], base: 0.into() };
        let mut token = none.clone();
        for (d, at) in tokens.iter().zip(tokens_at).rev() {
            match *at {
                At::Along(j) if own.get(j) == Some(d) && !std::mem::replace(used.get_mut(j)?, true) => {
                    *token.by.get_mut(j)? = stride.clone()
                }
                At::Fixed(0) if d.is(1) => {}
                _ => return None,
            }
            stride = &stride * d;
        }
        let (slot, pair) = match last_at {
            At::Along(_) | At::Fixed(0) if last.is(1) => (None, None),
            At::Along(j) if own.get(j) == Some(last) && !std::mem::replace(used.get_mut(j)?, true) => {
                let mut pair = token.times(last);
                *pair.by.get_mut(j)? = 1.into();
                (Some(j), Some(pair))
            }
            At::All => (None, None),
            _ => return None,
        };
        let whole = used.iter().zip(own).all(|(used, d)| *used || d.is(1));
        whole.then_some(Shape { slot, tokens: stride, token, pair })
    }
}

impl Selected<'_, '_> {
    /// Whether rows go to where their tokens are, each a whole one.
    fn target(&mut self, n: NodeId, base: ValueId, index: ValueId, update: ValueId) -> Option<()> {
        let g = self.e.graph;
        let All::Places { columns, axis } = self.all(index)? else { return None };
        let (to, at, rows) = (&g.ty(base).dims, &g.ty(index).dims, &g.ty(update).dims);
        match &g.node(n).op {
            Op::ScatterNd { .. } => {
                let (depth, lead) = at.split_last()?;
                let side_by_side = columns.len() == 1 || axis + 1 == at.len();
                let row = number_of(&columns, to)?;
                (side_by_side && depth.as_const() == i64::try_from(columns.len()).ok()).then_some(())?;
                (row == self.token && product(to.get(..columns.len())?) == self.tokens).then_some(())?;
                lead.iter().all(|d| d.is(1) || d.as_sym() == Some(&self.count)).then_some(())
            }
            Op::ScatterElements { axis, .. } => {
                let axis = *axis as usize;
                let [column] = columns.as_slice() else { return None };
                let others = to.iter().zip(at).enumerate().all(|(i, (a, b))| i == axis || a == b);
                let whole = others && at == rows && self.along(at)? == axis;
                (whole && *column == self.token && *to.get(axis)? == self.tokens).then_some(())
            }
            _ => None,
        }
    }

    /// `u` of `gather(base, rows) + u`, where that is what the rows get.
    fn added(&mut self, base: ValueId, update: ValueId) -> Option<ValueId> {
        let g = self.e.graph;
        let node = g.producer(update)?;
        let (Op::Binary(BinaryOp::Add), &[a, b]) = (&node.op, node.operands.as_slice()) else { return None };
        for (old, new) in [(a, b), (b, a)] {
            let Some(read) = g.producer(old).filter(|_| g.ty(old) == g.ty(update) && g.ty(new) == g.ty(update)) else { continue };
            let (&from, &index) = (read.operands.first()?, read.operands.get(1)?);
            let Some(All::Places { columns, axis }) = self.all(index) else { continue };
            let (dims, at) = (&g.ty(from).dims, &g.ty(index).dims);
            let own = match &read.op {
                Op::Gather { axis: 0 } if columns.len() == 1 && at.len() == 1 => number_of(&columns, dims),
                Op::GatherNd { batch: 0 } if axis + 1 == at.len() => number_of(&columns, dims),
                Op::GatherElements { axis } if self.along(at) == Some(*axis as usize) && columns.len() == 1 => {
                    let others = dims.iter().zip(at).enumerate().all(|(i, (a, b))| i == *axis as usize || a == b);
                    columns.first().filter(|_| others).cloned()
                }
                _ => None,
            };
            if from == base && own.as_ref() == Some(&self.token) {
                return Some(new);
            }
        }
        None
    }

    /// What the rows of `update` add to each token.
    fn term(&mut self, update: ValueId) -> Option<Tap> {
        let g = self.e.graph;
        let dims = self.with_tokens(&g.ty(update).dims);
        let dtype = g.ty(update).dtype;
        match self.all(update)? {
            All::Sums(t) => Some(t),
            All::Tokens(t) => {
                let along = self.along(&g.ty(update).dims)?;
                let mut ones: Dims = vec![1.into(); dims.len()];
                *ones.get_mut(along)? = self.tokens.clone();
                let chosen = self.chosen(None, dtype, ones)?;
                self.e.binary(BinaryOp::Mul, t, chosen)
            }
            All::Slots(p) => self.chosen(Some(p), dtype, dims),
            _ => None,
        }
    }

    /// For each token the sum over those of its choices that were selected, of `weights` or of ones, with dims `dims` of one number a token.
    fn chosen(&mut self, weights: Option<Tap>, dtype: DType, dims: Dims) -> Option<Tap> {
        let choice = self.hit.choice;
        let of = self.e.graph.ty(choice);
        let last = u32::try_from(of.rank().checked_sub(1)?).ok()?;
        let number = self.e.add(Op::Const { value: literal(of.dtype, self.hit.number as f64) }, &[])?;
        let equal = self.e.binary(BinaryOp::Eq, choice, number)?;
        let mut marked = self.e.cast(equal, dtype)?;
        if let Some(w) = weights {
            marked = self.e.binary(BinaryOp::Mul, w, marked)?;
        }
        let sum = self.e.reduce(ReduceOp::Sum, marked, vec![last])?;
        self.e.reshape(sum, dims)
    }

    /// The only dim of the selected elements.
    fn along(&self, dims: &Dims) -> Option<usize> {
        let mut at = dims.iter().enumerate().filter(|(_, d)| self.counts(d));
        let (axis, d) = at.next()?;
        (at.next().is_none() && d.as_sym() == Some(&self.count)).then_some(axis)
    }

    fn counts(&self, d: &SymExpr) -> bool {
        let mut symbols = std::collections::BTreeSet::new();
        d.collect_symbols(&mut symbols);
        symbols.contains(&self.count)
    }

    fn with_tokens(&self, dims: &Dims) -> Dims {
        dims.iter().map(|d| d.substitute(&|s| (*s == *self.count).then(|| self.tokens.clone()))).collect()
    }

    /// What a value is for all tokens; `None` where that is not understood.
    fn all(&mut self, v: ValueId) -> Option<All> {
        if let Some(known) = self.known.get(&v) {
            return known.clone();
        }
        let all = self.understood(v);
        self.known.insert(v, all.clone());
        all
    }

    fn understood(&mut self, v: ValueId) -> Option<All> {
        let g = self.e.graph;
        if v == self.found {
            let mask = g.producer(v).and_then(|n| n.operands.first()).map(|&m| &g.ty(m).dims)?;
            // The coordinate along a dim of 1 is 0.
            let one = |j: usize| {
                let by = mask.iter().enumerate().map(|(i, d)| SymExpr::from(i64::from(i == j && !d.is(1))));
                Place { by: by.collect(), base: 0.into() }
            };
            return Some(All::Places { columns: (0..self.rank).map(one).collect(), axis: 0 });
        }
        let Some(n) = g.producer_id(v) else { return Some(All::Common) };
        let node = g.node(n);
        // What comes before the elements are found does not depend on them.
        if self.order[n]? < self.since {
            return Some(All::Common);
        }
        if self.known.len() > MOST || !node.regions.is_empty() || node.results.first() != Some(&v) {
            return None;
        }
        let args = node.operands.iter().map(|&o| self.all(o)).collect::<Option<Vec<_>>>()?;
        let mut symbols = std::collections::BTreeSet::new();
        collect_attr_symbols(&node.op, &mut symbols);
        let dims = &g.ty(v).dims;
        let of_count = symbols.contains(&self.count) || dims.iter().any(|d| self.counts(d));
        if args.iter().all(|a| matches!(a, All::Common)) && !of_count {
            return Some(All::Common);
        }
        self.passed.push(n);
        if args.iter().any(|a| matches!(a, All::Places { .. })) {
            return self.places(v, &args).or_else(|| self.looked_up(v, &args));
        }
        let along = self.along(dims)?;
        let all = if node.op.is_elementwise() { self.elementwise(v, &args, along)? } else { self.rowwise(v, &args, along)? };
        // The rows of all tokens have the dims of the selected ones, but for how many they are.
        match &all {
            All::Tokens(t) | All::Sums(t) => (self.e.ty(*t).dims == self.with_tokens(dims)).then_some(all),
            _ => Some(all),
        }
    }

    /// What moves and counts places.
    fn places(&mut self, v: ValueId, args: &[All]) -> Option<All> {
        let g = self.e.graph;
        let node = g.producer(v)?;
        let (x, dims) = (*node.operands.first()?, &g.ty(v).dims);
        let own = &g.ty(x).dims;
        if let Some(x) = wrapped(g, v) {
            return self.all(x).filter(|a| matches!(a, All::Places { .. }));
        }
        if let Op::Binary(op) = &node.op {
            return self.counted(*op, v, args);
        }
        if let Op::Concat { axis } = &node.op {
            let axis = *axis as usize;
            let mut all = Vec::new();
            for (a, &o) in args.iter().zip(&node.operands) {
                let All::Places { columns, axis: own } = a else { return None };
                let depth = g.ty(o).dims.get(axis)?.as_const().and_then(|d| usize::try_from(d).ok())?;
                (depth == columns.len() && (depth == 1 || *own == axis)).then_some(())?;
                all.extend(columns.iter().cloned());
            }
            return (self.along(dims)? != axis).then_some(All::Places { columns: all, axis });
        }
        let All::Places { columns, axis } = args.first()?.clone() else { return None };
        let single = columns.len() == 1;
        let (columns, axis) = match &node.op {
            Op::Cast { to, .. } if to.is_int() && to.bits() >= 32 => (columns, axis),
            Op::Broadcast { .. } if single => (columns, 0),
            Op::Reshape { .. } if single => {
                self.same_rows(own, dims)?;
                (columns, 0)
            }
            Op::Reshape { .. } => {
                let wide = |dims: &Dims| dims.iter().filter(|d| !d.is(1)).cloned().collect::<Dims>();
                (wide(own) == wide(dims)).then_some(())?;
                let depth = i64::try_from(columns.len()).ok()?;
                (columns, dims.iter().position(|d| d.is(depth))?)
            }
            Op::Transpose { perm } => {
                let axis = perm.iter().position(|&p| p as usize == axis)?;
                (columns, axis)
            }
            Op::Slice { starts, steps, dims: to } => {
                let along = self.along(own)?;
                (starts.get(along)?.is(0) && steps.iter().all(|s| *s == 1) && to.get(along) == own.get(along)).then_some(())?;
                if single {
                    (columns, 0)
                } else {
                    let index = |e: &SymExpr| e.as_const().and_then(|i| usize::try_from(i).ok());
                    let (start, len) = (index(starts.get(axis)?)?, index(to.get(axis)?)?);
                    (columns.get(start..start.checked_add(len)?)?.to_vec(), axis)
                }
            }
            Op::Gather { axis: at } if args.len() == 2 && !single && *at as usize == axis => {
                let index = *node.operands.get(1)?;
                let number = Symbolic::new().scalar(g, index)?.as_const()?;
                let number = if number < 0 { number + i64::try_from(columns.len()).ok()? } else { number };
                (vec![columns.get(usize::try_from(number).ok()?)?.clone()], 0)
            }
            _ => return None,
        };
        self.along(dims)?;
        Some(All::Places { columns, axis })
    }

    /// Sums of places and numbers, products of a place and a number.
    fn counted(&mut self, op: BinaryOp, v: ValueId, args: &[All]) -> Option<All> {
        let g = self.e.graph;
        let operands = &g.producer(v)?.operands;
        let along_end = |this: &Self, v: ValueId| this.along(&g.ty(v).dims).map(|a| g.ty(v).rank() - a);
        let mut sides = Vec::new();
        for (a, &o) in args.iter().zip(operands) {
            sides.push(match a {
                All::Places { columns, .. } => {
                    let [column] = columns.as_slice() else { return None };
                    (along_end(self, o)? == along_end(self, v)?).then_some(())?;
                    column.clone()
                }
                All::Common => Place { by: vec![0.into(); self.rank], base: Symbolic::new().scalar(g, o)? },
                _ => return None,
            });
        }
        let number = |p: &Place| p.by.iter().all(|b| b.is(0)).then(|| p.base.clone());
        let [a, b] = sides.as_slice() else { return None };
        let column = match op {
            BinaryOp::Add => a.plus(b),
            BinaryOp::Sub => a.plus(&b.times(&(-1).into())),
            BinaryOp::Mul => match (number(a), number(b)) {
                (_, Some(n)) => a.times(&n),
                (Some(n), _) => b.times(&n),
                _ => return None,
            },
            _ => return None,
        };
        Some(All::Places { columns: vec![column], axis: 0 })
    }

    /// What is looked up by places.
    fn looked_up(&mut self, v: ValueId, args: &[All]) -> Option<All> {
        let g = self.e.graph;
        let node = g.producer(v)?;
        let (&[x, index], [table, All::Places { columns, axis }]) = (node.operands.as_slice(), args) else { return None };
        let (own, at, dims) = (&g.ty(x).dims, &g.ty(index).dims, &g.ty(v).dims);
        let narrow = |dims: &[SymExpr]| dims.iter().all(|d| d.is(1) || d.as_sym() == Some(&self.count));
        match (&node.op, table) {
            (Op::Gather { axis }, All::Common) if columns.len() == 1 && narrow(at) => {
                let axis = *axis as usize;
                let rest = own.iter().enumerate().all(|(i, d)| i == axis || d.is(1));
                self.row_of(x, columns.first()?.clone(), own.get(axis)?.clone(), rest, v)
            }
            (Op::GatherNd { batch: 0 }, All::Common) => {
                let (_, lead) = at.split_last()?;
                let rest = own.get(columns.len()..)?.iter().all(|d| d.is(1));
                let fits = narrow(lead) && (columns.len() == 1 || axis + 1 == at.len());
                fits.then_some(())?;
                match columns.split_last()? {
                    // One column of all rows.
                    (last, columns) if !columns.is_empty() && last.by.iter().all(|b| b.is(0)) => {
                        let number = self.e.add(Op::Const { value: literal(DType::I64, last.base.as_const()? as f64) }, &[])?;
                        let axis = u32::try_from(columns.len()).ok()?;
                        let column = self.e.add(Op::Gather { axis }, &[x.into(), number])?;
                        let (row, of) = (number_of(columns, own)?, product(own.get(..columns.len())?));
                        (row == self.token && of == self.tokens).then_some(())?;
                        Some(All::Tokens(self.e.reshape(column, self.with_tokens(dims))?))
                    }
                    _ => self.row_of(x, number_of(columns, own)?, product(own.get(..columns.len())?), rest, v),
                }
            }
            // The choice of a row among those of its token.
            (Op::GatherElements { axis }, All::Tokens(t)) if columns.len() == 1 && narrow(dims) => {
                let (axis, slot, along) = (*axis as usize, self.slot?, self.along(own)?);
                let choices = &g.ty(self.hit.choice).dims;
                let each = own.iter().enumerate().all(|(i, d)| i == axis || i == along || d.is(1));
                let place = Place { by: (0..self.rank).map(|i| i64::from(i == slot).into()).collect(), base: 0.into() };
                let fits = each && along < axis && own.get(axis) == choices.last() && columns.first() == Some(&place);
                fits.then_some(())?;
                Some(All::Slots(self.e.reshape(*t, choices.clone())?))
            }
            _ => None,
        }
    }

    /// Rows of `x` by number, of `of` in all; `narrow` if a row is one number.
    fn row_of(&mut self, x: ValueId, row: Place, of: SymExpr, narrow: bool, v: ValueId) -> Option<All> {
        let g = self.e.graph;
        if row == self.token && of == self.tokens {
            let dims = self.with_tokens(&g.ty(v).dims);
            let zero = narrow && self.slot.is_none() && self.vanishes(x);
            let tap = self.e.reshape(x, dims)?;
            return Some(if zero { All::Sums(tap) } else { All::Tokens(tap) });
        }
        let choices = g.ty(self.hit.choice).dims.clone();
        let slots = narrow && self.pair.as_ref() == Some(&row) && of == product(&choices);
        slots.then_some(())?;
        Some(All::Slots(self.e.reshape(x, choices)?))
    }

    /// Whether a value of one number a token is 0 for the tokens that have no selected row.
    fn vanishes(&mut self, x: ValueId) -> bool {
        let g = self.e.graph;
        let (dims, of) = (&g.ty(x).dims, &g.ty(self.hit.choice).dims);
        let Some((_, tokens_at)) = self.hit.at.split_last() else { return false };
        let wide = |dims: &[SymExpr]| dims.iter().filter(|d| !d.is(1)).cloned().collect::<Dims>();
        let Some((_, tokens)) = of.split_last() else { return false };
        if wide(dims) != wide(tokens) {
            return false;
        }
        let mut rest = tokens.iter().zip(tokens_at).filter(|(d, _)| !d.is(1)).map(|(_, at)| *at);
        let at = dims.iter().map(|d| if d.is(1) { At::Fixed(0) } else { rest.next().unwrap_or(At::Fixed(0)) }).collect();
        self.look.vanishes(x, at, &self.hit)
    }

    /// An elementwise op over rows.
    fn elementwise(&mut self, v: ValueId, args: &[All], along: usize) -> Option<All> {
        let g = self.e.graph;
        let node = g.producer(v)?;
        let dims = &g.ty(v).dims;
        // Rows meet rows, and what is common meets each row alike.
        for (a, &o) in args.iter().zip(&node.operands) {
            let own = &g.ty(o).dims;
            let at = (along + own.len()).checked_sub(dims.len());
            let fits = match a {
                All::Common => at.is_none_or(|at| own.get(at).is_some_and(|d| d.is(1))),
                _ => at.is_some() && self.along(own) == at,
            };
            fits.then_some(())?;
        }
        let one = |o: ValueId| product(&g.ty(o).dims).is(1);
        if args.iter().any(|a| matches!(a, All::Slots(_))) {
            let narrow = args.iter().zip(&node.operands).all(|(a, &o)| matches!(a, All::Slots(_)) || matches!(a, All::Common) && one(o));
            if narrow {
                let mut taps = Vec::with_capacity(args.len());
                for (a, &o) in args.iter().zip(&node.operands) {
                    taps.push(match a {
                        All::Slots(t) => *t,
                        _ => self.e.reshape(o, Vec::new())?,
                    });
                }
                return Some(All::Slots(self.e.add(node.op.clone(), &taps)?));
            }
            let (Op::Binary(BinaryOp::Mul), &[a, b]) = (&node.op, node.operands.as_slice()) else { return None };
            let (slots, narrow, other, wide) = match args {
                [All::Slots(p), All::Tokens(_) | All::Common] => (*p, a, args.get(1)?, b),
                [All::Tokens(_) | All::Common, All::Slots(p)] => (*p, b, args.first()?, a),
                _ => return None,
            };
            let own = self.with_tokens(&g.ty(narrow).dims);
            let chosen = self.chosen(Some(slots), g.ty(narrow).dtype, own)?;
            let other = if let All::Tokens(t) = other { *t } else { wide.into() };
            return Some(All::Sums(self.e.binary(BinaryOp::Mul, other, chosen)?));
        }
        let sums: Vec<bool> = args.iter().map(|a| matches!(a, All::Sums(_))).collect();
        let any = sums.contains(&true);
        if any && !proportional(&node.op, &sums) {
            return None;
        }
        let tap = |(a, &o): (&All, &ValueId)| match a {
            All::Tokens(t) | All::Sums(t) => *t,
            _ => o.into(),
        };
        let taps: Vec<Tap> = args.iter().zip(&node.operands).map(tap).collect();
        let t = self.e.add(node.op.clone(), &taps)?;
        Some(if any { All::Sums(t) } else { All::Tokens(t) })
    }

    /// Any other op that computes each row from that row of its first operand; others are common to all rows.
    fn rowwise(&mut self, v: ValueId, args: &[All], along: usize) -> Option<All> {
        let g = self.e.graph;
        let node = g.producer(v)?;
        let count = self.count.clone();
        let tokens = self.tokens.clone();
        let op = substituted(&node.op, &|s| (*s == *count).then(|| tokens.clone()));
        let tap = |a: &All| match a {
            All::Tokens(t) | All::Sums(t) => Some(*t),
            _ => None,
        };
        // The same for every row.
        match (&node.op, args) {
            // One number a row is that whatever its dims are.
            (Op::Reshape { .. } | Op::Transpose { .. }, [All::Slots(t)]) => return Some(All::Slots(*t)),
            (Op::Fill { .. }, _) => return Some(All::Tokens(self.e.add(op, &[])?)),
            (Op::Iota { axis, .. }, _) if *axis as usize != along => return Some(All::Tokens(self.e.add(op, &[])?)),
            (Op::Broadcast { .. }, [All::Common]) => {
                let &x = node.operands.first()?;
                let own = &g.ty(x).dims;
                let at = (along + own.len()).checked_sub(g.ty(v).rank());
                at.is_none_or(|at| own.get(at).is_some_and(|d| d.is(1))).then_some(())?;
                // The same place for all, as that of a sibling's own column.
                if let Some(base) = Symbolic::new().scalar(g, x).filter(|_| g.ty(x).dtype == DType::I64) {
                    let by = vec![0.into(); self.rank];
                    return Some(All::Places { columns: vec![Place { by, base }], axis: 0 });
                }
                return Some(All::Tokens(self.e.add(op, &[x.into()])?));
            }
            (Op::Concat { axis }, _) if *axis as usize != along => {
                let rows = |(a, &o): (&All, &ValueId)| match a {
                    All::Tokens(t) if self.along(&g.ty(o).dims) == Some(along) => Some(*t),
                    _ => None,
                };
                let taps = args.iter().zip(&node.operands).map(rows).collect::<Option<Vec<_>>>()?;
                return Some(All::Tokens(self.e.add(op, &taps)?));
            }
            _ => {}
        }
        // A product whose rows are those of its right operand is told by labels.
        let at = args.iter().position(|a| tap(a).is_some())?;
        let x = *node.operands.get(at)?;
        let others = args.iter().enumerate().all(|(i, a)| i == at || matches!(a, All::Common));
        let own = &g.ty(x).dims;
        let from = self.along(own)?;
        let sums = matches!(args.get(at)?, All::Sums(_));
        let (fits, linear) = match &node.op {
            Op::Contract { spec, .. } => {
                let [a, b, to] = labels(spec)?;
                let (rows, theirs) = if at == 0 { (a, b) } else { (b, a) };
                let row = *rows.get(from)?;
                let once = rows.iter().filter(|&&c| c == row).count() == 1;
                (once && !theirs.contains(&row) && to.get(along) == Some(&row), true)
            }
            Op::ContractBlocks { groups: false, .. } => (at == 0 && from == along && from + 1 < own.len(), true),
            Op::Reduce { op, axes, .. } => (axes.iter().all(|&a| a as usize != from), matches!(op, ReduceOp::Sum | ReduceOp::Mean)),
            Op::Softmax { axis } | Op::LogSoftmax { axis } => (*axis as usize != from, false),
            Op::LayerNorm { axis, .. } | Op::RmsNorm { axis, .. } => (at == 0 && *axis as usize > from, false),
            Op::Reshape { dims } => (self.same_rows(own, dims).is_some(), true),
            Op::Transpose { perm } => (perm.get(along).is_some_and(|&p| p as usize == from), true),
            Op::Slice { starts, steps, dims } => {
                (starts.get(from)?.is(0) && *steps.get(from)? == 1 && dims.get(from) == own.get(from), true)
            }
            Op::Broadcast { dims } => (own.len() - from == dims.len() - along, true),
            Op::Gather { axis } => (at == 0 && *axis as usize != from, true),
            _ => return None,
        };
        if !fits || !others || (sums && !linear) {
            return None;
        }
        let taps: Vec<Tap> = args.iter().zip(&node.operands).map(|(a, &o)| tap(a).unwrap_or(o.into())).collect();
        let t = self.e.add(op, &taps)?;
        Some(if sums { All::Sums(t) } else { All::Tokens(t) })
    }

    /// Whether row `i` stays row `i` where a value of dims `own` is read with dims `to`.
    fn same_rows(&self, own: &Dims, to: &Dims) -> Option<()> {
        let (a, b) = (self.along(own)?, self.along(to)?);
        (product(own.get(..a)?) == product(to.get(..b)?)).then_some(())
    }
}

/// The number of an element along the first dims, counted through all of them, from its place along each.
fn number_of(columns: &[Place], dims: &Dims) -> Option<Place> {
    let mut out: Option<Place> = None;
    for (c, d) in columns.iter().zip(dims.get(..columns.len())?) {
        out = Some(match out {
            None => c.clone(),
            Some(before) => before.times(d).plus(c),
        });
    }
    out
}
