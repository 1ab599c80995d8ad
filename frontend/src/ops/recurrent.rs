// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recurrences: the common forms become composites, the others loops (see [`super::cell`]).

use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{Op, ValueId};
use portwright_ir::sym::SymExpr;

use super::cell::{self, Cell, Kind};
use super::{Entry, op};
use crate::cx::{Cx, Res};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("GRU", 1, 3, 6, gru), op("LSTM", 1, 3, 8, lstm), op("RNN", 1, 3, 6, rnn)];

/// Reads the operands that all recurrences share; what is not given is made of zeros.
fn read(cx: &mut Cx<'_, '_>, kind: Kind) -> Res<(Cell, bool)> {
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
    let batch_first = cx.flag("layout", false)?;
    let x = if batch_first { cx.transpose(x, &[1, 0, 2])? } else { x };
    let (steps, batch) = (cx.dim(x, 0)?, cx.dim(x, 1)?);
    // Lengths that are all the number of steps say nothing.
    let mut lens = cx.opt(4)?;
    if let Some(l) = lens
        && cx.elements(l).is_some_and(|l| l.iter().all(|l| *l == steps))
    {
        lens = None;
    }
    let (d, hidden) = (cx.dim(w, 0)?, cx.dim(r, 2)?);
    let bias = match cx.opt(3)? {
        Some(b) => b,
        None => cx.fill(cx.dtype(x), 0.0, vec![d.clone(), hidden.clone() * (2 * kind.gates())])?,
    };
    let state = vec![d, batch, hidden];
    let h = initial(cx, 5, batch_first, x, &state)?;
    let (c, peephole) = match kind {
        Kind::Lstm { .. } => (Some(initial(cx, 6, batch_first, x, &state)?), cx.opt(7)?),
        _ => (None, None),
    };
    Ok((Cell { kind, x, w, r, bias, h, c, peephole, lens, direction }, batch_first))
}

fn initial(cx: &mut Cx<'_, '_>, input: usize, batch_first: bool, x: ValueId, dims: &[SymExpr]) -> Res<ValueId> {
    match cx.opt(input)? {
        Some(v) if batch_first => cx.transpose(v, &[1, 0, 2]),
        Some(v) => Ok(v),
        None => cx.fill(cx.dtype(x), 0.0, dims.to_vec()),
    }
}

/// Whether the node is what the composite computes.
fn is_plain(cx: &Cx<'_, '_>, c: &Cell) -> Res<bool> {
    let usual = c.kind.activations();
    let named = cx.texts("activations")?.unwrap_or_default();
    let same = named.iter().enumerate().all(|(i, a)| usual[i % usual.len()].eq_ignore_ascii_case(a));
    let clips = cx.float_opt("clip")?.is_some_and(|c| c > 0.0);
    let coupled = matches!(c.kind, Kind::Lstm { input_forget: true } | Kind::Rnn);
    Ok(same && !clips && !coupled && c.peephole.is_none() && c.lens.is_none())
}

/// Results in the layout of the node: `y` is `[S,D,B,H]`, states are `[D,B,H]`.
fn results(cx: &mut Cx<'_, '_>, results: Vec<ValueId>, batch_first: bool) -> Res<Vec<Slot>> {
    let mut out = Vec::new();
    for (i, v) in results.into_iter().enumerate() {
        let perm: &[usize] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        out.push(Slot::Value(if batch_first { cx.transpose(v, perm)? } else { v }));
    }
    Ok(out)
}

/// The LSTM that the node's first eight inputs and its attributes say.
pub fn lstm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let input_forget = cx.flag("input_forget", false)?;
    let (c, batch_first) = read(cx, Kind::Lstm { input_forget })?;
    let y = match c.c {
        Some(c0) if is_plain(cx, &c)? => cx.add_all(Op::Lstm { direction: c.direction }, &[c.x, c.w, c.r, c.bias, c.h, c0])?,
        _ => cell::run(cx, &c)?,
    };
    results(cx, y, batch_first)
}

fn gru(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let linear_before_reset = cx.flag("linear_before_reset", false)?;
    let (c, batch_first) = read(cx, Kind::Gru { linear_before_reset })?;
    let y = if is_plain(cx, &c)? {
        cx.add_all(Op::Gru { direction: c.direction, linear_before_reset }, &[c.x, c.w, c.r, c.bias, c.h])?
    } else {
        cell::run(cx, &c)?
    };
    results(cx, y, batch_first)
}

fn rnn(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (c, batch_first) = read(cx, Kind::Rnn)?;
    let y = cell::run(cx, &c)?;
    results(cx, y, batch_first)
}
