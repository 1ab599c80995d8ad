// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Transposed convolutions without their zeros.
//!
//! A convolution of an input with gaps of `f - 1` zeros multiplies by zero in all but one of `f` taps, and which ones those are depends on
//! the position modulo `f` alone. So the result is `f` interleaved convolutions of the input as it is, with every `f`-th tap each: one
//! convolution with `f` times the filters, whose result is taken apart along channels and interleaved along the spatial dims.

use portwright_ir::graph::{Dims, Graph, NodeId, Op, PadMode, Patch, ValueId};
use portwright_ir::sym::SymExpr;

use super::channels::{to_first, to_last};
use crate::rules::consts::{is_exactly, is_static};
use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "conv-in-phases",
    doc: "conv(pad{interior=[0,0,1]}(x, 0), w: [O,C,k]) -> interleave(conv(x, w': [2*O,C,ceil(k, 2)])), for weights and steps of any size",
    roots: &["conv"],
    apply: in_phases,
}];

/// One spatial dim: with `base = q mod f` for `q` zeros before the input, phase `r` has the taps `w[f * u + base - r]`.
struct Dim {
    /// Distance of the input's elements.
    step: i64,
    /// Zeros around the filter, and taps of a phase.
    before: i64,
    behind: i64,
    taps: i64,
    /// Padding of the input.
    low: i64,
    high: i64,
    /// Positions of a phase.
    positions: SymExpr,
}

impl Dim {
    fn of(input: &SymExpr, result: &SymExpr, kernel: i64, step: i64, zeros: i64) -> Option<Dim> {
        if zeros < 0 || kernel < 1 {
            return None;
        }
        let (low, base) = (zeros / step, zeros % step);
        let before = step - 1 - base;
        let taps = (kernel + before + step - 1) / step;
        // The last phases may have a position more than they need.
        let more = (result - &(input.clone() * step)).as_const()?;
        let more = (more + step - 1).div_euclid(step);
        let high = (more + taps - 1 - low).max(0);
        let positions = input.clone() + (low + high - taps + 1);
        Some(Dim { step, before, behind: taps * step - kernel - before, taps, low, high, positions })
    }
}

fn in_phases(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Conv { strides, dilations, pads, groups: 1 }, &[padded, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let inner = g.producer(padded)?;
    let (Op::Pad { mode: PadMode::Constant, low, high, interior }, &[x, zero]) = (&inner.op, inner.operands.as_slice()) else {
        return None;
    };
    let outer = |d: &Dims| d.iter().take(2).all(|p| p.is(0));
    let plain = strides.iter().chain(dilations).all(|&s| s == 1) && outer(low) && outer(high) && interior.iter().take(2).all(|&i| i == 0);
    if !plain || interior.iter().all(|&i| i == 0) || !is_exactly(g, zero, 0.0) || !is_static(g, w) {
        return None;
    }
    let old: ValueId = g.result(n);
    let (from, to, filter) = (&g.ty(x).dims, &g.ty(old).dims, g.ty(w).static_dims()?);
    let spatial = strides.len();
    let dims: Vec<Dim> = (0..spatial)
        .map(|i| {
            let zeros = low.get(i + 2)?.as_const()? + pads.get(i)?.as_const()?;
            Dim::of(from.get(i + 2)?, to.get(i + 2)?, *filter.get(i + 2)?, interior.get(i + 2)? + 1, zeros)
        })
        .collect::<Option<_>>()?;
    let (&filters, &channels) = (filter.first()?, filter.get(1)?);
    let phases: i64 = dims.iter().map(|d| d.step).product();

    let mut e = Edit::new(g, "conv-in-phases", &[n]);
    // [O, C, u1, f1, ..] with the phases turned around -> [f1, .., O, C, u1, ..]
    let around = |f: &dyn Fn(&Dim) -> i64| -> Dims { [0, 0].into_iter().chain(dims.iter().map(f)).map(SymExpr::from).collect() };
    let none = e.scalar(g.ty(w).dtype, 0.0)?;
    let filled =
        Op::Pad { mode: PadMode::Constant, low: around(&|d| d.before), high: around(&|d| d.behind), interior: vec![0; spatial + 2] };
    let mut packed: Tap = e.add(filled, &[w.into(), none])?;
    let split = |f: &dyn Fn(&Dim) -> [i64; 2]| dims.iter().flat_map(f).collect::<Vec<i64>>();
    let sizes: Dims = [filters, channels].into_iter().chain(split(&|d| [d.taps, d.step])).map(SymExpr::from).collect();
    packed = e.reshape(packed, sizes.clone())?;
    let starts: Dims = [0, 0].into_iter().chain(split(&|d| [0, d.step - 1])).map(SymExpr::from).collect();
    let steps: Vec<i64> = [1, 1].into_iter().chain(split(&|_| [1, -1])).collect();
    packed = e.add(Op::Slice { starts, steps, dims: sizes }, &[packed])?;
    let s = spatial as u32;
    let perm: Vec<u32> = (0..s).map(|i| 3 + 2 * i).chain([0, 1]).chain((0..s).map(|i| 2 + 2 * i)).collect();
    packed = e.transpose(packed, perm)?;
    let joined: Dims = [phases * filters, channels].into_iter().chain(dims.iter().map(|d| d.taps)).map(SymExpr::from).collect();
    packed = e.reshape(packed, joined)?;

    let pads: Dims = dims.iter().map(|d| d.low).chain(dims.iter().map(|d| d.high)).map(SymExpr::from).collect();
    let op = Op::Conv { strides: vec![1; spatial], dilations: vec![1; spatial], pads, groups: 1 };
    let mut y = e.add(op, &[x.into(), packed])?;
    // [N, f1 * .. * O, a1, ..] -> [N, a1, .., f1, .., O] -> [N, a1, f1, .., O] -> [N, a1 * f1, .., O]
    y = e.transpose(y, to_last(spatial + 2))?;
    let batch = from.first()?.clone();
    let positions = dims.iter().map(|d| d.positions.clone());
    let apart: Dims =
        std::iter::once(batch.clone()).chain(positions).chain(dims.iter().map(|d| d.step.into())).chain([filters.into()]).collect();
    y = e.reshape(y, apart)?;
    let perm: Vec<u32> = std::iter::once(0).chain((0..s).flat_map(|i| [1 + i, 1 + s + i])).chain([2 * s + 1]).collect();
    y = e.transpose(y, perm)?;
    let whole: Dims = std::iter::once(batch).chain(dims.iter().map(|d| d.positions.clone() * d.step)).chain([filters.into()]).collect();
    y = e.reshape(y, whole)?;
    for (i, d) in to.iter().skip(2).enumerate() {
        y = e.slice_axis(y, 1 + i, 0.into(), d.clone())?;
    }
    y = e.transpose(y, to_first(spatial + 2))?;
    e.finish(old, y)
}
