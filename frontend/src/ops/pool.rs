// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pooling over windows and over whole planes.

use portwright_ir::graph::{BinaryOp, Dims, Op, ReduceOp, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::conv::Window;
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("AveragePool", 1, 1, 1, average_pool),
    op("GlobalAveragePool", 1, 1, 1, global_average_pool),
    op("GlobalLpPool", 1, 1, 1, global_lp_pool),
    op("GlobalMaxPool", 1, 1, 1, global_max_pool),
    op("LpPool", 1, 1, 1, lp_pool),
    op("MaxPool", 1, 1, 1, max_pool),
];

fn pool(cx: &mut Cx<'_, '_>, op: ReduceOp, x: ValueId, count_pad: bool) -> Res<ValueId> {
    let spatial = cx.want_rank(x, 3..=usize::MAX)? - 2;
    let w = Window::read(cx, spatial, None)?;
    let ceil = cx.flag("ceil_mode", false)?;
    let input = cx.dims(x);
    let pads = w.padding(cx, &input[2..]);
    let mut dims = Dims::new();
    for i in 0..spatial {
        let (stride, d) = (SymExpr::from(w.strides[i]), &input[i + 2]);
        if w.pads.is_none() {
            dims.push(d.ceil_div(&stride));
            continue;
        }
        let span: SymExpr = (d + &(&pads[i] + &pads[i + spatial])) - w.extent(i);
        if ceil {
            // The last window must begin inside the input or its padding before.
            let begins = (d + &pads[i]).ceil_div(&stride);
            dims.push(cx.min(&(span.ceil_div(&stride) + 1), &begins));
        } else {
            dims.push(span.div(&stride) + 1);
        }
    }
    let op = Op::Pool { op, kernel: w.kernel, strides: w.strides, dilations: w.dilations, pads, count_pad, dims };
    cx.add(op, &[x])
}

fn max_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    if cx.wants(1) {
        return Err(Fault::form("its indices are asked for; only the values are computed"));
    }
    one(pool(cx, ReduceOp::Max, x, false)?)
}

fn average_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let count_pad = cx.flag("count_include_pad", false)?;
    one(cx.wide(x, |cx, x| pool(cx, ReduceOp::Mean, x, count_pad))?)
}

/// `(sum of |x|^p)^(1/p)` over what `sum` sums.
fn lp(cx: &mut Cx<'_, '_>, x: ValueId, sum: impl FnOnce(&mut Cx<'_, '_>, ValueId) -> Res<ValueId>) -> Res<Vec<Slot>> {
    let p = cx.float("p", 2.0)?;
    one(cx.wide(x, |cx, x| {
        let a = cx.un(UnaryOp::Abs, x)?;
        let a = if p == 1.0 {
            a
        } else if p == 2.0 {
            cx.bin(BinaryOp::Mul, a, a)?
        } else {
            cx.bin_c(BinaryOp::Pow, a, p)?
        };
        let s = sum(cx, a)?;
        if p == 1.0 {
            Ok(s)
        } else if p == 2.0 {
            cx.un(UnaryOp::Sqrt, s)
        } else {
            cx.bin_c(BinaryOp::Pow, s, 1.0 / p)
        }
    })?)
}

fn lp_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    lp(cx, x, |cx, x| pool(cx, ReduceOp::Sum, x, false))
}

fn global(cx: &mut Cx<'_, '_>, op: ReduceOp, x: ValueId) -> Res<ValueId> {
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let axes: Vec<u32> = (2..rank as u32).collect();
    cx.reduce(op, x, &axes, true)
}

fn global_average_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(global(cx, ReduceOp::Mean, x)?)
}
fn global_max_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    one(global(cx, ReduceOp::Max, x)?)
}
fn global_lp_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    lp(cx, x, |cx, x| global(cx, ReduceOp::Sum, x))
}
