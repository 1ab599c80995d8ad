// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A template evaluated for sorted rows: what siblings compute for all tokens, each row computes for its token and its group.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Op, ReduceOp, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::route::Rows;
use super::stack::{Names, stack};
use super::unify::Part;
use crate::canonical::contract::{labels, spec};
use crate::rules::consts::{is_exactly, is_static};
use crate::rules::{Edit, Tap};

/// What a part of the template is for rows.
#[derive(Clone)]
pub(super) enum Val {
    /// The same in all siblings; `fixed` if it depends on weights alone.
    Common { tap: Tap, fixed: bool },
    /// Depends on weights alone, and on the sibling: their values along a new first dim.
    Stacked(Tap),
    /// The siblings' numbers.
    Number,
    /// One for each token and choice that is the sibling's number, else zero.
    Chosen,
    /// As `Chosen`, times these weights.
    Weighted(Tap),
    /// One value a row.
    Rows(Row),
}

/// `[rows, rest..]` for a value of dims `[tokens.., rest..]`.
#[derive(Copy, Clone)]
pub(super) struct Row {
    pub(super) tap: Tap,
    /// How many dims are those of the tokens.
    pub(super) lead: usize,
    /// Whether it is proportional to the row's weight, and so is zero for what was not chosen.
    pub(super) gated: bool,
}

/// Writes the routed subgraph.
pub(super) struct Router<'g, 'n> {
    pub(super) e: Edit<'g>,
    pub(super) names: &'n mut Names,
    pub(super) rows: Rows,
    pub(super) choice: ValueId,
    /// The siblings' numbers, as they come.
    pub(super) numbers: &'n [i64],
    /// Of the parts so far.
    pub(super) values: Vec<Val>,
}

/// An operand: what it is for rows, and the dims that it has in a sibling.
struct Arg {
    value: Val,
    dims: Dims,
    dtype: DType,
    /// The value itself, where it is common to all.
    common: Option<ValueId>,
}

impl Router<'_, '_> {
    /// What a part is for rows; `None` where it is not understood.
    pub(super) fn part(&mut self, part: &Part, values: &[ValueId]) -> Option<Val> {
        let g = self.e.graph;
        let &first = values.first()?;
        match part {
            Part::Common => Some(Val::Common { tap: first.into(), fixed: is_static(g, first) }),
            Part::Weights => Some(Val::Stacked(stack(&mut self.e, values, self.names)?)),
            Part::Number(numbers) => (numbers == self.numbers).then_some(Val::Number),
            Part::Node { op, result, operands } => {
                let node = g.node(*op);
                let mut args = Vec::with_capacity(operands.len());
                for (&p, &v) in operands.iter().zip(&node.operands) {
                    let value = self.values.get(p)?.clone();
                    let common = matches!(value, Val::Common { tap: Tap::Old(_), .. }).then_some(v);
                    args.push(Arg { value, dims: g.ty(v).dims.clone(), dtype: g.ty(v).dtype, common });
                }
                self.node(&node.op, &args, *result, &g.ty(first).dims)
            }
        }
    }

    fn node(&mut self, op: &Op, args: &[Arg], result: usize, dims: &Dims) -> Option<Val> {
        if let Some(taps) =
            args.iter().map(|a| if let Val::Common { tap, .. } = a.value { Some(tap) } else { None }).collect::<Option<Vec<_>>>()
        {
            let fixed = args.iter().all(|a| matches!(a.value, Val::Common { fixed: true, .. }));
            let tap = self.e.add(op.clone(), &taps)?;
            let Tap::New(node, _) = tap else { return None };
            return Some(Val::Common { tap: Tap::New(node, result), fixed });
        }
        if result != 0 {
            return None;
        }
        if let Some(value) = self.chosen(op, args, dims) {
            return Some(value);
        }
        if let (Op::Gather { axis }, [x, Arg { value: Val::Number, .. }]) = (op, args) {
            return self.own(x, *axis as usize, dims);
        }
        let fixed = |a: &Arg| matches!(a.value, Val::Stacked(_) | Val::Common { fixed: true, .. });
        if args.iter().all(fixed) {
            return self.stacked(op, args, dims).map(Val::Stacked);
        }
        self.row(op, args, dims).map(Val::Rows)
    }

    /// Comparisons with the choice, and what weighs them, up to the weight of a row.
    fn chosen(&mut self, op: &Op, args: &[Arg], dims: &Dims) -> Option<Val> {
        let choices = &self.e.graph.ty(self.choice).dims;
        let values: Vec<&Val> = args.iter().map(|a| &a.value).collect();
        match (op, values.as_slice()) {
            (Op::Binary(BinaryOp::Eq), [Val::Common { tap, .. }, Val::Number] | [Val::Number, Val::Common { tap, .. }]) => {
                (*tap == Tap::Old(self.choice) && dims == choices).then_some(Val::Chosen)
            }
            (Op::Cast { to, .. }, [Val::Chosen]) => (to.is_float() || to.is_int()).then_some(Val::Chosen),
            (Op::Cast { .. }, &[&Val::Weighted(w)]) => Some(Val::Weighted(self.e.add(op.clone(), &[w])?)),
            (Op::Binary(BinaryOp::Mul), [Val::Common { tap, .. }, Val::Chosen] | [Val::Chosen, Val::Common { tap, .. }]) => {
                let w = self.e.broadcast(*tap, choices.clone())?;
                (dims == choices).then_some(Val::Weighted(w))
            }
            (
                Op::Binary(BinaryOp::Mul),
                &[&Val::Common { tap: c, .. }, &Val::Weighted(w)] | &[&Val::Weighted(w), &Val::Common { tap: c, .. }],
            ) => {
                (dims == choices).then_some(())?;
                Some(Val::Weighted(self.e.binary(BinaryOp::Mul, w, c)?))
            }
            (Op::Select {}, [Val::Chosen, Val::Common { tap, .. }, Val::Common { .. }]) => {
                let none = args.get(2)?.common?;
                let w = self.e.broadcast(*tap, choices.clone())?;
                (dims == choices && is_exactly(self.e.graph, none, 0.0)).then_some(Val::Weighted(w))
            }
            (Op::Reduce { op: ReduceOp::Sum, axes, keep }, [Val::Chosen | Val::Weighted(_)]) => {
                let last = choices.len().checked_sub(1)?;
                (axes.as_slice() == [u32::try_from(last).ok()?]).then_some(())?;
                let w = match args {
                    [Arg { value: Val::Weighted(w), .. }] => *w,
                    [Arg { dtype, .. }] => self.rows.ones(&mut self.e, *dtype)?,
                    _ => return None,
                };
                let tap = self.rows.of_choices(&mut self.e, w, usize::from(*keep))?;
                Some(Val::Rows(Row { tap, lead: last, gated: true }))
            }
            _ => None,
        }
    }

    /// What each sibling takes of a common value by its number along `axis`, with dims `dims`.
    fn own(&mut self, x: &Arg, axis: usize, dims: &Dims) -> Option<Val> {
        let Val::Common { tap, fixed } = x.value else { return None };
        let (base, groups) = (self.rows.base, SymExpr::from(self.rows.groups));
        x.dims.get(axis)?.as_const().filter(|&d| base >= 0 && base + self.rows.groups <= d)?;
        let all = self.e.slice_axis(tap, axis, base.into(), groups.clone())?;
        if fixed {
            let front = std::iter::once(axis).chain((0..x.dims.len()).filter(|&i| i != axis)).map(|i| i as u32).collect();
            let first = self.e.transpose(all, front)?;
            return Some(Val::Stacked(self.e.reshape(first, [&[groups], dims.as_slice()].concat())?));
        }
        // One number of each row's token.
        let lead = self.rows.lead(&x.dims[..axis].to_vec())?;
        (lead == axis && axis + 1 == x.dims.len()).then_some(())?;
        let after = self.rows.lead(dims)?;
        let rows = self.rows.of_tokens(&mut self.e, all, lead)?;
        let tap = self.rows.of_own(&mut self.e, rows)?;
        let rest: Dims = [&[self.rows.total.clone()], dims.get(after..)?].concat();
        Some(Val::Rows(Row { tap: self.e.reshape(tap, rest)?, lead: after, gated: false }))
    }

    /// An op over weights alone, for all siblings at once.
    fn stacked(&mut self, op: &Op, args: &[Arg], dims: &Dims) -> Option<Tap> {
        let e = &mut self.e;
        let groups = SymExpr::from(self.rows.groups);
        let lead = |d: &[SymExpr]| -> Dims { [&[groups.clone()], d].concat() };
        let mut taps = Vec::with_capacity(args.len());
        match op {
            Op::Dequantize { to, axis, block } => return dequantized(e, args, (*axis, *block, *to), &groups),
            op if op.is_elementwise() => {
                for a in args {
                    taps.push(match a.value {
                        // Dims of one sibling line up with the last dims of the result.
                        Val::Stacked(tap) => e.reshape(tap, lead(&[vec![1.into(); dims.len() - a.dims.len()], a.dims.clone()].concat()))?,
                        Val::Common { tap, .. } => tap,
                        _ => return None,
                    });
                }
                return e.add(op.clone(), &taps);
            }
            _ => {}
        }
        for a in args {
            let Val::Stacked(tap) = a.value else { return None };
            taps.push(tap);
        }
        let op = match op {
            Op::Reshape { dims } => Op::Reshape { dims: lead(dims) },
            Op::Broadcast { dims } => {
                let own = &args.first()?.dims;
                let tap = taps.first_mut()?;
                *tap = e.reshape(*tap, lead(&[vec![1.into(); dims.len().checked_sub(own.len())?], own.clone()].concat()))?;
                Op::Broadcast { dims: lead(dims) }
            }
            Op::Transpose { perm } => Op::Transpose { perm: std::iter::once(0).chain(perm.iter().map(|p| p + 1)).collect() },
            Op::Slice { starts, steps, dims } => {
                Op::Slice { starts: [&[0.into()], starts.as_slice()].concat(), steps: [&[1], steps.as_slice()].concat(), dims: lead(dims) }
            }
            Op::Concat { axis } => Op::Concat { axis: axis + 1 },
            _ => return None,
        };
        e.add(op, &taps)
    }

    /// An op over rows.
    fn row(&mut self, op: &Op, args: &[Arg], dims: &Dims) -> Option<Row> {
        let gated = |a: &Arg| matches!(a.value, Val::Rows(Row { gated: true, .. }) | Val::Weighted(_));
        let any_gated = args.iter().any(gated);
        if op.is_elementwise() {
            let gated: Vec<bool> = args.iter().map(gated).collect();
            if any_gated && !proportional(op, &gated) {
                return None;
            }
            let lead = self.rows.lead(dims)?;
            let rest = dims.len() - lead;
            let taps = args.iter().map(|a| self.aligned(a, (lead, rest), dims)).collect::<Option<Vec<_>>>()?;
            return Some(Row { tap: self.e.add(op.clone(), &taps)?, lead, gated: any_gated });
        }
        match op {
            Op::Contract { spec: text, acc, out } => {
                let [a, b, to] = labels(text)?;
                let (tap, lead) = match args {
                    [x, w] => self.product((x, &a), (w, &b), &to, op).or_else(|| self.product((w, &b), (x, &a), &to, op))?,
                    _ => return None,
                };
                debug_assert_eq!((self.e.ty(tap).dtype, *acc), (*out, *acc));
                Some(Row { tap, lead, gated: any_gated })
            }
            Op::ContractBlocks { block, narrow, zero, groups: false } => {
                let (x, weights) = args.split_first()?;
                let (tap, lead) = self.row_of(x)?;
                (x.dims.len() == lead + 1).then_some(())?;
                let mut taps = vec![tap];
                for w in weights {
                    let Val::Stacked(w) = w.value else { return None };
                    taps.push(w);
                }
                taps.push(self.rows.starts);
                let op = Op::ContractBlocks { block: *block, narrow: *narrow, zero: *zero, groups: true };
                Some(Row { tap: self.e.add(op, &taps)?, lead, gated: any_gated })
            }
            _ => self.moved(op, args, dims, any_gated),
        }
    }

    /// Reductions and norms of a row, and what moves its elements.
    fn moved(&mut self, op: &Op, args: &[Arg], dims: &Dims, gated: bool) -> Option<Row> {
        let (x, more) = args.split_first()?;
        let (tap, lead) = self.row_of(x)?;
        let total = self.rows.total.clone();
        let within = |axis: u32| u32::try_from((axis as usize).checked_sub(lead)? + 1).ok();
        let behind = |d: &Dims| -> Option<Dims> { Some([&[total.clone()], d.get(lead..)?].concat()) };
        let linear = matches!(op, Op::Reduce { op: ReduceOp::Sum | ReduceOp::Mean, .. }) || op.is_movement();
        if gated && !linear {
            return None;
        }
        let mut taps = vec![tap];
        for a in more {
            match (op, &a.value) {
                (Op::Concat { .. }, _) if gated => return None,
                (Op::Concat { .. }, _) => {
                    let (tap, own) = self.row_of(a)?;
                    (own == lead).then_some(())?;
                    taps.push(tap);
                }
                (Op::RmsNorm { .. } | Op::LayerNorm { .. }, Val::Common { tap, fixed: true }) => taps.push(*tap),
                _ => return None,
            }
        }
        let mut lead_after = lead;
        let op = match op {
            Op::Reduce { op, axes, keep } => {
                Op::Reduce { op: *op, axes: axes.iter().map(|&a| within(a)).collect::<Option<_>>()?, keep: *keep }
            }
            Op::Softmax { axis } => Op::Softmax { axis: within(*axis)? },
            Op::RmsNorm { axis, eps } => Op::RmsNorm { axis: within(*axis)?, eps: *eps },
            Op::LayerNorm { axis, eps } => Op::LayerNorm { axis: within(*axis)?, eps: *eps },
            Op::Concat { axis } => Op::Concat { axis: within(*axis)? },
            Op::Reshape { dims } => {
                lead_after = self.rows.lead(dims)?;
                Op::Reshape { dims: [&[total.clone()], dims.get(lead_after..)?].concat() }
            }
            Op::Transpose { perm } => {
                perm.iter().take(lead).enumerate().all(|(i, &p)| p as usize == i).then_some(())?;
                let rest = perm.iter().skip(lead).map(|&p| within(p)).collect::<Option<Vec<_>>>()?;
                Op::Transpose { perm: std::iter::once(0).chain(rest).collect() }
            }
            Op::Slice { starts, steps, dims: to } => {
                let whole = (0..lead).all(|i| starts[i].is(0) && steps[i] == 1 && to[i] == x.dims[i]);
                whole.then_some(())?;
                let starts = [&[0.into()], starts.get(lead..)?].concat();
                Op::Slice { starts, steps: [&[1], steps.get(lead..)?].concat(), dims: behind(to)? }
            }
            Op::Broadcast { dims: to } => {
                (to.len() == x.dims.len() && to.get(..lead) == x.dims.get(..lead)).then_some(())?;
                Op::Broadcast { dims: behind(to)? }
            }
            _ => return None,
        };
        // What is left must be one value a row.
        (self.rows.lead(dims) == Some(lead_after)).then_some(())?;
        Some(Row { tap: self.e.add(op, &taps)?, lead: lead_after, gated })
    }

    /// Rows, or what they read of the tokens.
    fn row_of(&mut self, a: &Arg) -> Option<(Tap, usize)> {
        match &a.value {
            Val::Rows(r) => Some((r.tap, r.lead)),
            Val::Common { tap, .. } => {
                let lead = self.rows.lead(&a.dims)?;
                Some((self.rows.of_tokens(&mut self.e, *tap, lead)?, lead))
            }
            _ => None,
        }
    }

    /// An operand of an elementwise op whose result has `lead` dims of tokens and `rest` others, as `[rows, rest..]` or what broadcasts to it.
    fn aligned(&mut self, a: &Arg, (lead, rest): (usize, usize), dims: &Dims) -> Option<Tap> {
        let rank = lead + rest;
        match &a.value {
            Val::Rows(r) => (a.dims.len() == rank && r.lead == lead).then_some(r.tap),
            Val::Weighted(w) => {
                // The only choice of a token.
                (a.dims.len() == rank && rest == 1 && self.rows.each == 1).then_some(())?;
                self.rows.of_choices(&mut self.e, *w, rest)
            }
            Val::Common { tap, .. } => {
                let padded: Dims = [vec![1.into(); rank.checked_sub(a.dims.len())?], a.dims.clone()].concat();
                if padded[..lead].iter().all(|d| d.is(1)) {
                    let own = padded.len().min(a.dims.len()).min(rest);
                    return self.e.reshape(*tap, padded[rank - own..].to_vec());
                }
                (padded[..lead] == dims[..lead]).then_some(())?;
                self.rows.of_tokens(&mut self.e, *tap, lead)
            }
            Val::Stacked(tap) => {
                let padded: Dims = [vec![1.into(); rank.checked_sub(a.dims.len())?], a.dims.clone()].concat();
                padded[..lead].iter().all(|d| d.is(1)).then_some(())?;
                let own: Dims = [&[SymExpr::from(self.rows.groups)], &padded[lead..]].concat();
                let tap = self.e.reshape(*tap, own)?;
                self.rows.of_groups(&mut self.e, tap)
            }
            _ => None,
        }
    }

    /// A product of rows with weights: of their group where they are stacked, else the same for all. Gives its rows and dims of tokens.
    fn product(&mut self, (x, own): (&Arg, &[char]), (w, theirs): (&Arg, &[char]), to: &[char], op: &Op) -> Option<(Tap, usize)> {
        let Op::Contract { acc, out, .. } = op else { return None };
        if !matches!(x.value, Val::Rows(_) | Val::Common { fixed: false, .. }) {
            return None;
        }
        let lead = match &x.value {
            Val::Rows(r) => r.lead,
            _ => self.rows.lead(&x.dims)?,
        };
        let tokens = own.get(..lead)?;
        if to.get(..lead) != Some(tokens) || theirs.iter().any(|c| tokens.contains(c)) {
            return None;
        }
        let (rest, to) = (&own[lead..], &to[lead..]);
        match w.value {
            Val::Stacked(tap) => {
                let (&[k], &[n], [_, _]) = (rest, to, theirs) else { return None };
                let tap = match theirs {
                    t if t == [k, n] => tap,
                    t if t == [n, k] => self.e.transpose(tap, vec![0, 2, 1])?,
                    _ => return None,
                };
                let (x, _) = self.row_of(x)?;
                let starts = self.rows.starts;
                Some((self.e.add(Op::ContractGroups { acc: *acc, out: *out }, &[x, tap, starts])?, lead))
            }
            Val::Common { tap, fixed: true } => {
                let row = ('a'..='z').find(|c| !own.contains(c) && !theirs.contains(c))?;
                let with = |l: &[char]| [&[row], l].concat();
                let (x, _) = self.row_of(x)?;
                Some((self.e.contract(&spec(&[with(rest), theirs.to_vec(), with(to)]), x, tap, *acc, *out)?, lead))
            }
            _ => None,
        }
    }
}

/// Whether the result of an elementwise op is proportional to the operands that are.
pub(super) fn proportional(op: &Op, gated: &[bool]) -> bool {
    match (op, gated) {
        (Op::Unary(UnaryOp::Neg) | Op::Cast { .. }, [true]) => true,
        (Op::Binary(BinaryOp::Mul), [a, b]) => a != b,
        (Op::Binary(BinaryOp::Div), [true, false]) => true,
        (Op::Binary(BinaryOp::Add | BinaryOp::Sub), [true, true]) | (Op::Select {}, [false, true, true]) => true,
        _ => false,
    }
}

/// Integers of all siblings with their scales: one number a block along an axis, or one a sibling.
fn dequantized(e: &mut Edit<'_>, args: &[Arg], (axis, block, to): (Option<u32>, u32, DType), groups: &SymExpr) -> Option<Tap> {
    let (q, more) = args.split_first()?;
    let Val::Stacked(tap) = q.value else { return None };
    let mut taps = vec![tap];
    let blocked = block > 1 || more.iter().all(|a| a.dims.len() == q.dims.len() && q.dims.len() > 1);
    let matrix = q.dims.len() == 2;
    let (mut new_axis, mut new_block) = (axis.map(|a| a + 1), block);
    for a in more {
        let Val::Stacked(tap) = a.value else { return None };
        taps.push(match axis {
            Some(_) if blocked => tap,
            // One a row or column of a matrix: one block along the other dim.
            Some(at) if matrix && a.dims.len() == 1 => {
                let along = 1 - at as usize;
                (new_axis, new_block) = (Some(along as u32 + 1), u32::try_from(q.dims.get(along)?.as_const()?).ok()?);
                let mut dims: Dims = vec![groups.clone(), 1.into(), 1.into()];
                *dims.get_mut(at as usize + 1)? = a.dims.first()?.clone();
                e.reshape(tap, dims)?
            }
            None if portwright_ir::sym::product(&a.dims).is(1) => {
                (new_axis, new_block) = (Some(0), 1);
                e.reshape(tap, vec![groups.clone()])?
            }
            _ => return None,
        });
    }
    e.add(Op::Dequantize { to, axis: new_axis, block: new_block }, &taps)
}
