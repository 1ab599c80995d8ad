// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recurrences.

use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{Op, ValueId};
use portwright_ir::sym::SymExpr;

use super::{Entry, op};
use crate::cx::{Cx, Res};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("GRU", 1, 3, 6, gru), op("LSTM", 1, 3, 8, lstm)];

/// Operands of a recurrence in the layout of the composites, with what is not given made of zeros.
struct Recurrence {
    x: ValueId,
    w: ValueId,
    r: ValueId,
    bias: ValueId,
    direction: Direction,
    batch_first: bool,
}

impl Recurrence {
    fn read(cx: &mut Cx<'_, '_>, gates: i64, activations: &[&str]) -> Res<(Recurrence, Vec<SymExpr>)> {
        let (x, w, r) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        for v in [x, w, r] {
            cx.want_rank(v, 3..=3)?;
        }
        let direction = match cx.text("direction", "forward")? {
            "forward" => Direction::Forward,
            "reverse" => Direction::Reverse,
            "bidirectional" => Direction::Bidirectional,
            other => return Err(Fault::attr(format!("`direction` is {other:?}, expected forward, reverse or bidirectional"))),
        };
        if let Some(a) = cx.texts("activations")?
            && !a.iter().enumerate().all(|(i, a)| activations.get(i % activations.len()).is_some_and(|e| e.eq_ignore_ascii_case(a)))
        {
            return Err(Fault::form(format!("its activations are {a:?}; only {activations:?} are computed")));
        }
        if cx.float_opt("clip")?.is_some_and(|c| c != 0.0) {
            return Err(Fault::form("`clip` bounds its gates, which is not computed"));
        }
        let batch_first = cx.flag("layout", false)?;
        let x = if batch_first { cx.transpose(x, &[1, 0, 2])? } else { x };
        let (steps, batch) = (cx.dim(x, 0)?, cx.dim(x, 1)?);
        if let Some(lens) = cx.opt(4)? {
            let known = cx.elements(lens);
            if known.is_none_or(|l| l.iter().any(|l| *l != steps)) {
                return Err(Fault::form("`sequence_lens` differ from the number of steps; sequences of one length are computed"));
            }
        }
        let (d, hidden) = (cx.dim(w, 0)?, cx.dim(r, 2)?);
        let dtype = cx.dtype(x);
        let bias = match cx.opt(3)? {
            Some(b) => b,
            None => cx.fill(dtype, 0.0, vec![d.clone(), hidden.clone() * (2 * gates)])?,
        };
        Ok((Recurrence { x, w, r, bias, direction, batch_first }, vec![d, batch, hidden]))
    }
    fn state(&self, cx: &mut Cx<'_, '_>, input: usize, dims: &[SymExpr]) -> Res<ValueId> {
        match cx.opt(input)? {
            Some(v) if self.batch_first => cx.transpose(v, &[1, 0, 2]),
            Some(v) => Ok(v),
            None => cx.fill(cx.dtype(self.x), 0.0, dims.to_vec()),
        }
    }
    /// Results in the layout of the node: `y` is `[S,D,B,H]`, states are `[D,B,H]`.
    fn results(&self, cx: &mut Cx<'_, '_>, results: Vec<ValueId>) -> Res<Vec<Slot>> {
        let mut out = Vec::new();
        for (i, v) in results.into_iter().enumerate() {
            let perm: &[usize] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
            out.push(Slot::Value(if self.batch_first { cx.transpose(v, perm)? } else { v }));
        }
        Ok(out)
    }
}

fn lstm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (r, dims) = Recurrence::read(cx, 4, &["Sigmoid", "Tanh", "Tanh"])?;
    if cx.opt(7)?.is_some() {
        return Err(Fault::form("peephole weights are given, which are not computed"));
    }
    if cx.flag("input_forget", false)? {
        return Err(Fault::form("`input_forget` couples its gates, which is not computed"));
    }
    let (h, c) = (r.state(cx, 5, &dims)?, r.state(cx, 6, &dims)?);
    let y = cx.add_all(Op::Lstm { direction: r.direction }, &[r.x, r.w, r.r, r.bias, h, c])?;
    r.results(cx, y)
}

fn gru(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (r, dims) = Recurrence::read(cx, 3, &["Sigmoid", "Tanh"])?;
    let linear_before_reset = cx.flag("linear_before_reset", false)?;
    let h = r.state(cx, 5, &dims)?;
    let y = cx.add_all(Op::Gru { direction: r.direction, linear_before_reset }, &[r.x, r.w, r.r, r.bias, h])?;
    r.results(cx, y)
}
