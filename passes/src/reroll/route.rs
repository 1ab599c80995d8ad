// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums over siblings of which each row chooses a few.
//!
//! Before: the sum over `e` of `f(x, weight "w.e") * reduce_sum(p * cast(eq(choice, e)))`, with `choice, p: [tokens.., k]` and `x: [tokens.., D]`;
//! after: `order, places, starts = group_rows(reshape(choice))`, rows `gather(x, order / k)`, `f` over them with `contract_groups` where `x` met a
//! weight, times `gather(p, order)`, and for each token the sum of its `k` rows. For a sum over `E` siblings that is `k / E` of the arithmetic,
//! and what no row chose is not read.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ReduceOp, Scalar, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::mask::wrapped;
use super::rows::{Router, Val};
use super::stack::Names;
use super::unify::{Part, Template, unify};
use super::{Chain, ROUTE};
use crate::rules::{Edit, Tap};

/// Who chooses: `choice[tokens.., k]` holds numbers, and sibling `i` has the number `numbers[i]`.
struct Choice<'t> {
    choice: ValueId,
    numbers: &'t [i64],
}

/// The sum with one family of terms routed; `None` if the family is not of that kind. With `all` the two terms, of numbers 0 and 1, stand for so
/// many, which take weights of their own by number.
pub(super) fn route(g: &Graph, chain: &Chain, family: &[usize], all: Option<i64>, names: &mut Names) -> Option<Patch> {
    let roots: Vec<ValueId> = family.iter().map(|&i| chain.terms.get(i).copied()).collect::<Option<_>>()?;
    let mut template = unify(g, roots)?;
    if let Some(all) = all {
        template.extend(all)?;
    }
    let (choice, numbers) = {
        let found = choice(g, &template)?;
        (found.choice, found.numbers.to_vec())
    };
    // Siblings in the order of their numbers, which must have no gap.
    let base = *numbers.iter().min()?;
    let mut by_number: Vec<usize> = (0..numbers.len()).collect();
    by_number.sort_by_key(|&i| numbers[i]);
    if !by_number.iter().enumerate().all(|(place, &i)| numbers[i].checked_sub(base) == i64::try_from(place).ok()) {
        return None;
    }
    for (_, values) in template.parts.iter_mut().filter(|_| all.is_none()) {
        *values = by_number.iter().map(|&i| values.get(i).copied()).collect::<Option<_>>()?;
    }

    let mut from: Vec<NodeId> = template.parts.iter().filter_map(|(p, v)| own_node(g, p, v)).collect();
    from.push(chain.root);
    let mut e = Edit::new(g, ROUTE, &from);
    let rows = Rows::of(&mut e, choice, base, i64::try_from(numbers.len()).ok()?)?;
    let mut router = Router { e, names, rows, choice, numbers: &numbers, values: Vec::with_capacity(template.parts.len()) };
    for (part, values) in &template.parts {
        let value = router.part(part, values)?;
        router.values.push(value);
    }
    let Some(Val::Rows(root)) = router.values.last().cloned() else { return None };
    if !root.gated {
        return None;
    }
    let Router { mut e, rows, .. } = router;
    let result = g.result(chain.root);
    let sum = rows.summed(&mut e, root.tap, &g.ty(result).dims)?;
    let others = chain.terms.iter().enumerate().filter(|(i, _)| !family.contains(i)).map(|(_, &v)| Tap::from(v));
    let mut total: Option<Tap> = None;
    for t in others.chain([sum]) {
        total = Some(match total {
            None => t,
            Some(before) => e.binary(BinaryOp::Add, before, t)?,
        });
    }
    e.finish(result, total?)
}

/// The node of the first sibling behind a part.
fn own_node(g: &Graph, part: &Part, values: &[ValueId]) -> Option<NodeId> {
    match part {
        Part::Node { .. } => g.producer_id(*values.first()?),
        _ => None,
    }
}

/// The only value that is compared with the siblings' numbers.
fn choice<'t>(g: &Graph, t: &'t Template) -> Option<Choice<'t>> {
    let mut found: Option<Choice<'t>> = None;
    for (part, _) in &t.parts {
        let Part::Node { op, operands, .. } = part else { continue };
        if g.node(*op).op != Op::Binary(BinaryOp::Eq) {
            continue;
        }
        let of = |i: usize| operands.get(i).and_then(|&p| t.parts.get(p));
        let pair = match (of(0)?, of(1)?) {
            ((Part::Common, v), (Part::Number(n), _)) | ((Part::Number(n), _), (Part::Common, v)) => (*v.first()?, n),
            _ => continue,
        };
        match &found {
            Some(c) if c.choice != pair.0 || c.numbers != pair.1.as_slice() => return None,
            _ => found = Some(Choice { choice: pair.0, numbers: pair.1 }),
        }
    }
    found
}

/// Rows of the routed subgraph: one for each token and each of its choices, sorted by what was chosen.
pub(super) struct Rows {
    /// Dims of the tokens, and how many they are.
    pub(super) tokens: Dims,
    pub(super) count: SymExpr,
    /// Choices of a token.
    pub(super) each: i64,
    /// The least number of a sibling, and how many siblings there are.
    pub(super) base: i64,
    pub(super) groups: i64,
    /// Tokens times choices.
    pub(super) total: SymExpr,
    /// Which row, counted by token and choice, comes to each place.
    order: Tap,
    /// To which place each row comes.
    places: Tap,
    /// At which place each group begins.
    pub(super) starts: Tap,
    /// Token and group at each place.
    token: Tap,
    group: Tap,
    /// Which choices are one of the siblings' numbers, where that is not known.
    inside: Option<Tap>,
}

impl Rows {
    fn of(e: &mut Edit<'_>, choice: ValueId, base: i64, groups: i64) -> Option<Self> {
        let g = e.graph;
        let ty = g.ty(choice);
        let (last, tokens) = ty.dims.split_last()?;
        let each = last.as_const().filter(|&k| (1..groups).contains(&k))?;
        if !ty.dtype.is_int() || ty.dtype.is_packed() {
            return None;
        }
        let (tokens, count) = (tokens.to_vec(), product(tokens));
        let total = &count * &SymExpr::from(each);
        let mut number: Tap = choice.into();
        let mut inside = None;
        if base != 0 || !chosen_below(g, choice, groups) {
            let wide = e.cast(number, DType::I64)?;
            let moved = if base == 0 { wide } else { e.with_scalar(BinaryOp::Sub, wide, base as f64)? };
            let low = e.with_scalar(BinaryOp::Ge, moved, 0.0)?;
            let high = e.with_scalar(BinaryOp::Lt, moved, groups as f64)?;
            inside = Some(e.binary(BinaryOp::And, low, high)?);
            let none = e.scalar(DType::I64, 0.0)?;
            number = e.select(inside?, moved, none)?;
        }
        let flat = e.reshape(number, vec![total.clone()])?;
        let sorted = e.add(Op::GroupRows { groups }, &[flat])?;
        let Tap::New(node, _) = sorted else { return None };
        let (order, places, starts) = (Tap::New(node, 0), Tap::New(node, 1), Tap::New(node, 2));
        let token = if each == 1 { order } else { e.with_scalar(BinaryOp::Div, order, each as f64)? };
        let group = e.add(Op::Gather { axis: 0 }, &[flat, order])?;
        Some(Rows { tokens, count, each, base, groups, total, order, places, starts, token, group, inside })
    }

    /// How many leading dims are those of the tokens.
    pub(super) fn lead(&self, dims: &Dims) -> Option<usize> {
        if dims.get(..self.tokens.len()) == Some(self.tokens.as_slice()) {
            return Some(self.tokens.len());
        }
        (0..=dims.len()).find(|&l| product(&dims[..l]) == self.count)
    }

    /// What each row reads of a value with dims `[tokens.., rest..]`, of which `lead` are those of the tokens.
    pub(super) fn of_tokens(&self, e: &mut Edit<'_>, x: Tap, lead: usize) -> Option<Tap> {
        let rest = e.ty(x).dims.get(lead..)?.to_vec();
        let flat = e.reshape(x, [vec![self.count.clone()], rest].concat())?;
        e.add(Op::Gather { axis: 0 }, &[flat, self.token])
    }

    /// What each row reads of a value with a leading dim of the groups.
    pub(super) fn of_groups(&self, e: &mut Edit<'_>, x: Tap) -> Option<Tap> {
        e.add(Op::Gather { axis: 0 }, &[x, self.group])
    }

    /// The number of its group that each row has among `[rows, groups]`, as `[rows, 1]`.
    pub(super) fn of_own(&self, e: &mut Edit<'_>, x: Tap) -> Option<Tap> {
        let at = e.reshape(self.group, vec![self.total.clone(), 1.into()])?;
        e.add(Op::GatherElements { axis: 1 }, &[x, at])
    }

    /// What each row reads of a value with one number a token and choice, with `rest` dims of 1 behind it; zero where the choice is no sibling.
    pub(super) fn of_choices(&self, e: &mut Edit<'_>, x: Tap, rest: usize) -> Option<Tap> {
        let x = match self.inside {
            Some(inside) => {
                let none = e.scalar(e.ty(x).dtype, 0.0)?;
                e.select(inside, x, none)?
            }
            None => x,
        };
        let flat = e.reshape(x, vec![self.total.clone()])?;
        let sorted = e.add(Op::Gather { axis: 0 }, &[flat, self.order])?;
        e.reshape(sorted, [vec![self.total.clone()], vec![1.into(); rest]].concat())
    }

    /// One for each token and choice.
    pub(super) fn ones(&self, e: &mut Edit<'_>, dtype: DType) -> Option<Tap> {
        let value = if dtype.is_float() { Scalar::from_f64(dtype, 1.0) } else { Scalar::from_i64(dtype, 1) };
        let dims = [self.tokens.as_slice(), &[self.each.into()]].concat();
        e.add(Op::Fill { value, dims }, &[])
    }

    /// For each token the sum of its rows, with the dims of the result.
    fn summed(&self, e: &mut Edit<'_>, rows: Tap, dims: &Dims) -> Option<Tap> {
        let at = e.reshape(self.places, vec![self.count.clone(), self.each.into()])?;
        let own = e.add(Op::Gather { axis: 0 }, &[rows, at])?;
        let sum = e.reduce(ReduceOp::Sum, own, vec![1])?;
        e.reshape(sum, dims.clone())
    }
}

/// Whether the elements of a value are known to be of `0..end`: positions along a dim of that size.
pub(super) fn chosen_below(g: &Graph, mut v: ValueId, end: i64) -> bool {
    for _ in 0..8 {
        let Some(node) = g.producer(v) else { return false };
        let Some(&x) = node.operands.first() else { return false };
        let along = |axis: u32| g.ty(x).dims.get(axis as usize).and_then(SymExpr::as_const).is_some_and(|d| d <= end);
        match &node.op {
            Op::TopK { axis, .. } => return node.results.get(1) == Some(&v) && along(*axis),
            Op::ArgReduce { axis, .. } => return along(*axis),
            Op::Cast { to, .. } if to.is_int() && to.int_range().is_some_and(|(_, most)| most >= i128::from(end)) => v = x,
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Broadcast { .. } => v = x,
            // What is not negative is no index from the end.
            Op::Select {} => match wrapped(g, v) {
                Some(x) => v = x,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}
