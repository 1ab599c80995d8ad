// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pooling over windows and over whole planes.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Op, ReduceOp, ScatterOp, UnaryOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::conv::Window;
use super::{Entry, op};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("AveragePool", 1, 1, 1, average_pool),
    op("GlobalAveragePool", 1, 1, 1, global_average_pool),
    op("GlobalLpPool", 1, 1, 1, global_lp_pool),
    op("GlobalMaxPool", 1, 1, 1, global_max_pool),
    op("LpPool", 1, 1, 1, lp_pool),
    op("MaxPool", 1, 1, 1, max_pool),
    op("MaxUnpool", 9, 2, 3, max_unpool),
];

/// Most positions of a kernel whose indices are computed.
const MAX_POSITIONS: i64 = 1024;

/// Reduces windows as the node's attributes say.
pub fn pool(cx: &mut Cx<'_, '_>, op: ReduceOp, x: ValueId, count_pad: bool) -> Res<ValueId> {
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
    let op = Op::Pool { op, kernel: w.kernel, strides: w.strides, dilations: w.dilations, pads, count_pad, dims, channels_last: false };
    cx.add(op, &[x])
}

/// Output 1 is the place of each largest element in the whole input, rows first or (`storage_order`) columns first.
fn max_pool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let y = pool(cx, ReduceOp::Max, x, false)?;
    if !cx.wants(1) {
        return one(y);
    }
    let places = max_places(cx, x, y)?;
    many([y, places])
}

/// For each result the place of the first element of its window that is as large: windows are laid beside each other, one slice of the
/// padded input for each position of the kernel.
fn max_places(cx: &mut Cx<'_, '_>, x: ValueId, y: ValueId) -> Res<ValueId> {
    let rank = cx.rank(x);
    let spatial = rank - 2;
    let w = Window::read(cx, spatial, None)?;
    let (input, out) = (cx.dims(x), cx.dims(y));
    let positions: i64 = w.kernel.iter().product();
    if positions > MAX_POSITIONS {
        return Err(Fault::form(format!(
            "its indices are asked for with a kernel of {positions} positions; at most {MAX_POSITIONS} are taken"
        )));
    }
    let pads = w.padding(cx, &input[2..]);
    let columns_first = cx.int("storage_order", 0)? != 0;
    // Strides of a plane, in the order that is asked for.
    let mut stride: Dims = vec![1.into(); spatial];
    let order: Vec<usize> = if columns_first { (0..spatial).collect() } else { (0..spatial).rev().collect() };
    let mut plane = SymExpr::from(1);
    for &a in &order {
        stride[a] = plane.clone();
        plane = &plane * &input[a + 2];
    }
    let mut best: Option<(ValueId, ValueId)> = None;
    for p in 0..positions {
        let mut left = p;
        let mut at: Option<ValueId> = None;
        let mut inside: Option<ValueId> = None;
        for a in (0..spatial).rev() {
            let k = left % w.kernel[a];
            left /= w.kernel[a];
            let i = cx.iota(DType::I64, a, out[2..].to_vec())?;
            let i = cx.bin_c(BinaryOp::Mul, i, w.strides[a] as f64)?;
            let shift = cx.number_of(SymExpr::from(k * w.dilations[a]) - pads[a].clone(), DType::I64)?;
            let i = cx.bin(BinaryOp::Add, i, shift)?;
            let size = cx.number_of(input[a + 2].clone(), DType::I64)?;
            let (low, high) = (cx.bin_c(BinaryOp::Ge, i, 0.0)?, cx.bin(BinaryOp::Lt, i, size)?);
            let ok = cx.bin(BinaryOp::And, low, high)?;
            inside = Some(match inside {
                Some(o) => cx.bin(BinaryOp::And, o, ok)?,
                None => ok,
            });
            let by = cx.number_of(stride[a].clone(), DType::I64)?;
            let i = cx.bin(BinaryOp::Mul, i, by)?;
            at = Some(match at {
                Some(o) => cx.bin(BinaryOp::Add, o, i)?,
                None => i,
            });
        }
        let (Some(at), Some(inside)) = (at, inside) else { return Err(Fault::shape("no spatial dims")) };
        // Rows first is also how the input lies in memory; for columns first the element is found by its own place.
        let zero = cx.scalar(DType::I64, 0.0)?;
        let safe = cx.select(inside, at, zero)?;
        let count = product(&out[2..]);
        let source = if columns_first {
            let perm: Vec<usize> = [0, 1].into_iter().chain((2..rank).rev()).collect();
            cx.transpose(x, &perm)?
        } else {
            x
        };
        let flat = cx.reshape(source, vec![input[0].clone(), input[1].clone(), plane.clone()])?;
        let index = cx.reshape(safe, vec![count])?;
        let v = cx.gather(flat, index, 2)?;
        let v = cx.reshape(v, out.clone())?;
        let equal = cx.bin(BinaryOp::Eq, v, y)?;
        let hit = cx.bin(BinaryOp::And, equal, inside)?;
        best = Some(match best {
            None => (hit, at),
            Some((found, place)) => (cx.bin(BinaryOp::Or, found, hit)?, cx.select(found, place, at)?),
        });
    }
    let Some((_, place)) = best else { return Err(Fault::shape("an empty kernel")) };
    // Batch and channel come before the plane.
    let wide = vec![out[0].clone(), out[1].clone()];
    let (n, c) = (cx.iota(DType::I64, 0, wide.clone())?, cx.iota(DType::I64, 1, wide.clone())?);
    let channels = cx.number_of(input[1].clone(), DType::I64)?;
    let base = cx.bin(BinaryOp::Mul, n, channels)?;
    let base = cx.bin(BinaryOp::Add, base, c)?;
    let size = cx.number_of(plane, DType::I64)?;
    let base = cx.bin(BinaryOp::Mul, base, size)?;
    let mut dims = wide;
    dims.extend((0..spatial).map(|_| SymExpr::from(1)));
    let base = cx.reshape(base, dims)?;
    cx.bin(BinaryOp::Add, base, place)
}

/// Puts elements back to the places that a pooling found, with zeros elsewhere; a wanted shape that is larger has more zeros at its ends.
fn max_unpool(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, places, wanted) = (cx.input(0)?, cx.input(1)?, cx.opt(2)?);
    let rank = cx.want_rank(x, 3..=usize::MAX)?;
    let w = Window::read(cx, rank - 2, None)?;
    let input = cx.dims(x);
    let pads = w.padding(cx, &input[2..]);
    let mut dims = input[..2].to_vec();
    for i in 0..rank - 2 {
        let padding = &pads[i] + &pads[i + rank - 2];
        dims.push((input[i + 2].clone() - 1) * w.strides[i] - padding + w.kernel[i]);
    }
    let all = cx.fill(cx.dtype(x), 0.0, vec![product(&dims)])?;
    let n = product(&input);
    let (flat, at) = (cx.reshape(x, vec![n.clone()])?, cx.reshape(places, vec![n])?);
    let y = cx.add(Op::ScatterElements { axis: 0, op: ScatterOp::Set }, &[all, at, flat])?;
    let y = cx.reshape(y, dims.clone())?;
    let Some(wanted) = wanted else { return one(y) };
    let wanted = cx.exprs(wanted, "shape")?;
    if wanted.len() != rank {
        return Err(Fault::shape(format!("the wanted shape has {} dims, the input {rank}", wanted.len())));
    }
    let high = wanted.iter().zip(&dims).map(|(w, d)| w - d).collect();
    one(cx.pad(y, vec![0.into(); rank], high, vec![0; rank], 0.0)?)
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
