// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators that only move elements.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Op, PadMode, ReduceOp, UnaryOp, ValueId, infer};
use portwright_ir::sym::{SymExpr, product};

use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, exprs_of, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("CenterCropPad", 18, 2, 2, center_crop_pad),
    op("Concat", 1, 1, MANY, concat),
    op("DepthToSpace", 1, 1, 1, depth_to_space),
    op("Expand", 8, 2, 2, expand),
    op("Flatten", 1, 1, 1, flatten),
    op("Pad", 1, 1, 4, pad),
    op("Reshape", 1, 1, 2, reshape),
    op("Slice", 1, 1, 5, slice),
    op("SpaceToDepth", 1, 1, 1, space_to_depth),
    op("Split", 1, 1, 2, split),
    op("Squeeze", 1, 1, 2, squeeze),
    op("Tile", 1, 2, 3, tile),
    op("Transpose", 1, 1, 1, transpose),
    op("Unsqueeze", 1, 1, 2, unsqueeze),
];

/// The target is an attribute before opset 5. 0 keeps a dim (unless `allowzero`), one -1 takes what is left.
fn reshape(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let target = match cx.opt(1)? {
        Some(s) => target_dims(cx, x, s)?,
        None => exprs_of(&cx.ints("shape")?.ok_or_else(|| Fault::attr("attribute `shape` is missing"))?),
    };
    let dims = resolve_reshape(cx, x, target)?;
    one(cx.reshape(x, dims)?)
}

/// Elements of a reshape target. One element that only data can tell takes what the others leave, as exactly one value fits; where there
/// are more, zeros and -1 are resolved while the model runs and the result is bound.
fn target_dims(cx: &mut Cx<'_, '_>, x: ValueId, shape: ValueId) -> Res<Vec<SymExpr>> {
    if let Some(e) = cx.elements(shape) {
        return Ok(e);
    }
    let partial = cx.partial(shape).unwrap_or_default();
    let unknown = partial.iter().filter(|e| e.is_none()).count();
    if unknown == 1 && !partial.iter().flatten().any(|e| e.is(-1)) {
        return Ok(partial.into_iter().map(|e| e.unwrap_or_else(|| (-1).into())).collect());
    }
    let Some(n) = cx.ty(shape).elems().as_const().filter(|n| (0..=64).contains(n)) else {
        return Err(Fault::form("how many dims the target has must be known when the model is compiled"));
    };
    let mut s = cx.cast(shape, DType::I64)?;
    let input = cx.dims(x);
    if !cx.flag("allowzero", false)? {
        let own = (0..n as usize).map(|i| input.get(i).cloned().unwrap_or_else(|| 0.into())).collect();
        let own = cx.dims_value(own)?;
        let zero = cx.bin_c(BinaryOp::Eq, s, 0.0)?;
        s = cx.select(zero, own, s)?;
    }
    // With one -1 among them the product of all elements is the negated product of the others.
    let total = cx.dim_value(product(&input))?;
    let others = cx.reduce(ReduceOp::Prod, s, &[0], false)?;
    let others = cx.un(UnaryOp::Neg, others)?;
    let rest = cx.bin(BinaryOp::Div, total, others)?;
    let open = cx.bin_c(BinaryOp::Eq, s, -1.0)?;
    let s = cx.select(open, rest, s)?;
    let bound = cx.exprs(s, "shape")?;
    // What was known without looking stays as it is.
    let keep = |(i, b): (usize, SymExpr)| match partial.get(i) {
        Some(Some(e)) if !e.is(-1) => e.clone(),
        _ => b,
    };
    Ok(bound.into_iter().enumerate().map(keep).collect())
}

fn resolve_reshape(cx: &Cx<'_, '_>, x: ValueId, target: Vec<SymExpr>) -> Res<Dims> {
    let input = cx.dims(x);
    let allow_zero = cx.flag("allowzero", false)?;
    let mut out = Dims::new();
    let mut open = None;
    for (i, t) in target.into_iter().enumerate() {
        match t.as_const() {
            Some(0) if !allow_zero => match input.get(i) {
                Some(d) => out.push(d.clone()),
                None => return Err(Fault::shape(format!("element {i} of the target is 0, but {} has no dim {i}", cx.ty(x)))),
            },
            Some(-1) if open.is_none() => {
                open = Some(i);
                out.push(1.into());
            }
            Some(v) if v < 0 => return Err(Fault::shape(format!("element {i} of the target is {v}"))),
            _ => out.push(t),
        }
    }
    if let Some(open) = open {
        // Dims that stand on both sides cancel, so that the rest divides without a remainder.
        let mut left = input.clone();
        let mut right = Vec::new();
        for (i, d) in out.iter().enumerate().filter(|(i, _)| *i != open) {
            match left.iter().position(|l| l == d && !d.is(0)) {
                Some(p) => {
                    left.remove(p);
                }
                None => right.push((i, d.clone())),
            }
        }
        let (total, known) = (product(&left), product(right.iter().map(|(_, d)| d)));
        if known.is(0) {
            return Err(Fault::shape("the target has both 0 and -1, so that -1 could be anything"));
        }
        out[open] = total.div(&known);
    }
    Ok(out)
}

fn flatten(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let axis = cx.int("axis", 1)?;
    let rank = dims.len() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    let at = usize::try_from(at).ok().filter(|a| *a <= dims.len());
    let at = at.ok_or_else(|| Fault::attr(format!("axis {axis} is outside of rank {rank}")))?;
    let to = vec![product(&dims[..at]), product(&dims[at..])];
    one(cx.reshape(x, to)?)
}

fn transpose(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let perm = match cx.ints("perm")? {
        Some(p) => p.iter().map(|&a| cx.axis_of(a, rank)).collect::<Res<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    one(cx.transpose(x, &perm)?)
}

/// Axes are an attribute before opset 13, then an input.
fn axes(cx: &mut Cx<'_, '_>) -> Res<Option<Vec<i64>>> {
    match cx.opt(1)? {
        Some(a) => cx.const_ints(a, "the axes").map(Some),
        None => cx.ints("axes"),
    }
}

fn squeeze(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let drop: Vec<u32> = match axes(cx)? {
        Some(a) => cx.axes_of(&a, dims.len())?,
        None => (0..dims.len() as u32).filter(|&i| dims[i as usize].is(1)).collect(),
    };
    if let Some(&a) = drop.iter().find(|&&a| dims[a as usize].as_const().is_some_and(|d| d != 1)) {
        return Err(Fault::shape(format!("dim {a} of {} is not 1", cx.ty(x))));
    }
    let kept = dims.iter().enumerate().filter(|(i, _)| !drop.contains(&(*i as u32))).map(|(_, d)| d.clone()).collect();
    one(cx.reshape(x, kept)?)
}

fn unsqueeze(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axes = axes(cx)?.ok_or_else(|| Fault::attr("the axes are missing"))?;
    let rank = cx.rank(x) + axes.len();
    let axes: Vec<usize> = cx.axes_of(&axes, rank)?.into_iter().map(|a| a as usize).collect();
    one(cx.unsqueeze(x, &axes)?)
}

fn concat(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let parts = cx.all_inputs()?;
    let x = cx.input(0)?;
    let axis = match cx.int_opt("axis")? {
        None if cx.version >= 4 => return Err(Fault::attr("attribute `axis` is missing")),
        a => cx.axis_of(a.unwrap_or(1), cx.rank(x))?,
    };
    one(cx.concat(&parts, axis)?)
}

/// Sizes are an attribute before opset 13, then an input; without them the parts are equal, the last one perhaps smaller since opset 18.
fn split(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let axis = cx.axis(x, 0)?;
    let d = cx.dim(x, axis)?;
    let sizes = match cx.opt(1)? {
        Some(s) => Some(cx.exprs(s, "split")?),
        None => cx.ints("split")?.map(|s| exprs_of(&s)),
    };
    let sizes = match sizes {
        Some(s) => s,
        None => {
            let n = cx.int("num_outputs", cx.node.outputs.len() as i64)?;
            if !(1..=1 << 16).contains(&n) {
                return Err(Fault::attr(format!("{n} parts are asked for")));
            }
            if d.as_const().is_some_and(|d| d % n != 0) && cx.version < 18 {
                return Err(Fault::shape(format!("a dim of {d} does not split into {n} equal parts")));
            }
            let chunk = d.ceil_div(&n.into());
            let last = d.clone() - chunk.clone() * (n - 1);
            let mut sizes = vec![chunk; n as usize - 1];
            sizes.push(last);
            sizes
        }
    };
    if sizes.iter().any(|s| s.as_const().is_some_and(|s| s < 0)) {
        return Err(Fault::shape(format!("the parts of a dim of {d} are {sizes:?}")));
    }
    let total = sizes.iter().fold(SymExpr::from(0), |t, s| &t + s);
    if !infer::may_be_equal(cx.g(), &total, &d) {
        return Err(Fault::shape(format!("the parts add up to {total}, the dim is {d}")));
    }
    let path = cx.path.clone();
    cx.g_mut().assume_equal(&total, &d, &path);
    many(cx.split(x, axis, &sizes)?)
}

/// Bounds are attributes before opset 10, then inputs. Bounds count from the end when negative, and are cut to the dim.
fn slice(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let rank = dims.len();
    let (starts, ends, axes, steps) = if cx.version < 10 {
        let need = |name: &str| -> Res<Vec<i64>> { cx.ints(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing"))) };
        (exprs_of(&need("starts")?), exprs_of(&need("ends")?), cx.ints("axes")?, None)
    } else {
        let axes = match cx.opt(3)? {
            Some(a) => Some(cx.const_ints(a, "the axes")?),
            None => None,
        };
        let steps = match cx.opt(4)? {
            Some(s) => Some(cx.const_ints(s, "the steps")?),
            None => None,
        };
        let (s, e) = (cx.input(1)?, cx.input(2)?);
        let (s, e) = (bounds(cx, x, s, &axes, &steps, 0)?, bounds(cx, x, e, &axes, &steps, -1)?);
        (s, e, axes, steps)
    };
    let n = starts.len();
    let axes: Vec<usize> = match axes {
        Some(a) => a.iter().map(|&a| cx.axis_of(a, rank)).collect::<Res<_>>()?,
        None => (0..n).collect(),
    };
    let steps = steps.unwrap_or_else(|| vec![1; n]);
    if ends.len() != n || axes.len() != n || steps.len() != n || n > rank {
        let m = format!("{n} starts, {} ends, {} axes and {} steps for {}", ends.len(), axes.len(), steps.len(), cx.ty(x));
        return Err(Fault::shape(m));
    }
    let (mut out, mut from, mut by) = (dims.clone(), vec![SymExpr::from(0); rank], vec![1i64; rank]);
    for i in 0..n {
        let (axis, d) = (axes[i], &dims[axes[i]]);
        // No tensor has a second element so far away, whatever its size.
        let far = steps[i].unsigned_abs() >= infer::MAX_ELEMS.unsigned_abs();
        let step = if far { steps[i].signum() } else { steps[i] };
        let (start, len) = range(cx, &starts[i], &ends[i], step, d)?;
        let len = if far { cx.min(&len, &1.into()) } else { len };
        (from[axis], by[axis], out[axis]) = (start, if len.is(1) { 1 } else { step }, len);
    }
    if out == dims && by.iter().all(|s| *s == 1) {
        return one(x);
    }
    one(cx.add(Op::Slice { starts: from, steps: by, dims: out }, &[x])?)
}

/// Starts or ends of a slice. What only data can tell is brought into its dim while the model runs, and bound; a position before the
/// first element, where walking back may end, is `low`.
fn bounds(cx: &mut Cx<'_, '_>, x: ValueId, v: ValueId, axes: &Option<Vec<i64>>, steps: &Option<Vec<i64>>, low: i64) -> Res<Vec<SymExpr>> {
    if let Some(e) = cx.elements(v) {
        return Ok(e);
    }
    let ty = cx.ty(v).clone();
    let Some(n) = ty.elems().as_const().filter(|n| ty.rank() <= 1 && (0..=64).contains(n)) else {
        return Err(Fault::form(format!("the bounds are {ty}; how many there are must be known when the model is compiled")));
    };
    let dims = cx.dims(x);
    let at = |i: usize| axes.as_ref().map_or(Ok(i), |a| a.get(i).map_or(Ok(i), |&a| cx.axis_of(a, dims.len())));
    let sizes = (0..n as usize).map(|i| Ok(dims.get(at(i)?).cloned().unwrap_or_else(|| 0.into()))).collect::<Res<Vec<_>>>()?;
    let back = |i: usize| steps.as_ref().and_then(|s| s.get(i)).is_some_and(|s| *s < 0);
    let (lows, highs): (Vec<i64>, Vec<SymExpr>) =
        sizes.iter().enumerate().map(|(i, d)| if back(i) { (low, d.clone() - 1) } else { (0, d.clone()) }).unzip();
    let partial = cx.partial(v);
    let s = cx.cast(v, DType::I64)?;
    let (d, lo, hi) = (cx.dims_value(sizes)?, cx.int_list(&lows)?, cx.dims_value(highs)?);
    let wrapped = cx.bin(BinaryOp::Add, s, d)?;
    let negative = cx.bin_c(BinaryOp::Lt, s, 0.0)?;
    let s = cx.select(negative, wrapped, s)?;
    let s = cx.bin(BinaryOp::Max, s, lo)?;
    let s = cx.bin(BinaryOp::Min, s, hi)?;
    let bound = cx.exprs_from(s, "bound", lows.iter().copied().min().unwrap_or(0))?;
    let known = |i: usize| partial.as_ref().and_then(|p| p.get(i).cloned().flatten());
    Ok(bound.into_iter().enumerate().map(|(i, b)| known(i).unwrap_or(b)).collect())
}

/// First element and number of elements of `start..end` by `step` in a dim of `d`, with Python's rules.
fn range(cx: &Cx<'_, '_>, start: &SymExpr, end: &SymExpr, step: i64, d: &SymExpr) -> Res<(SymExpr, SymExpr)> {
    let zero = SymExpr::from(0);
    // An expression of unknown sign is taken as what exporters mean by one: a position from the front.
    let from_front = |e: &SymExpr| if cx.g().bounds(e).1 < 0 { e + d } else { e.clone() };
    let huge = |e: &SymExpr| e.as_const().filter(|v| v.unsigned_abs() > 1 << 62);
    if step == 0 {
        return Err(Fault::attr("a step is 0"));
    }
    if step > 0 {
        let cut = |e: &SymExpr| match huge(e) {
            Some(v) if v < 0 => zero.clone(),
            Some(_) => d.clone(),
            None => cx.max(&cx.min(&from_front(e), d), &zero),
        };
        let (s, e) = (cut(start), cut(end));
        let len = (&e - &s).ceil_div(&step.into());
        return Ok((s, cx.max(&len, &zero)));
    }
    // Walking back, positions are cut to -1..=d-1.
    let last = d.clone() - 1;
    let cut = |e: &SymExpr, low: i64| match huge(e) {
        Some(v) if v < 0 => SymExpr::from(low),
        Some(_) => last.clone(),
        None => cx.max(&cx.min(&from_front(e), &last), &low.into()),
    };
    let (s, e) = (cut(start, 0), cut(end, -1));
    let by = step.checked_neg().ok_or_else(|| Fault::attr("a step is out of range"))?;
    let len = cx.max(&(&s - &e).ceil_div(&by.into()), &zero);
    // A dim of 0 has no last position to walk back from.
    let len = if cx.g().bounds(d).0 < 1 { cx.min(&len, d) } else { len };
    Ok((s, len))
}

/// Amounts are an attribute before opset 11, then an input; `axes` came with opset 18.
pub fn pad(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let amounts = match cx.opt(1)? {
        Some(p) => cx.exprs_from(p, "pads", -i64::from(i32::MAX))?,
        None => {
            let name = if cx.version < 2 { "paddings" } else { "pads" };
            exprs_of(&cx.ints(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing")))?)
        }
    };
    let axes: Vec<usize> = match cx.opt(3)? {
        Some(a) => {
            let a = cx.const_ints(a, "the axes")?;
            a.iter().map(|&a| cx.axis_of(a, rank)).collect::<Res<_>>()?
        }
        None => (0..rank).collect(),
    };
    if amounts.len() != 2 * axes.len() {
        return Err(Fault::shape(format!("{} amounts of padding for {} dims", amounts.len(), axes.len())));
    }
    let mode = match cx.text("mode", "constant")? {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(Fault::attr(format!("`mode` is {other:?}, expected constant, reflect, edge or wrap"))),
    };
    let (mut low, mut high): (Dims, Dims) = (vec![0.into(); rank], vec![0.into(); rank]);
    for (i, &a) in axes.iter().enumerate() {
        low[a] = amounts[i].clone();
        high[a] = amounts[i + axes.len()].clone();
    }
    let interior = vec![0; rank];
    if low.iter().chain(&high).all(|p| p.is(0)) {
        return one(x);
    }
    if mode != PadMode::Constant {
        return one(cx.add(Op::Pad { mode, low, high, interior }, &[x])?);
    }
    let dtype = cx.dtype(x);
    let value = match cx.opt(2)? {
        Some(v) => {
            let v = cx.as_scalar(v)?;
            cx.cast(v, dtype)?
        }
        None => {
            let v = cx.float("value", 0.0)?;
            cx.scalar(dtype, v)?
        }
    };
    one(cx.add(Op::Pad { mode, low, high, interior }, &[x, value])?)
}

/// Dims of `x` broadcast with `shape`, both ways, as `Expand` has it.
pub fn broadcast_with(cx: &mut Cx<'_, '_>, x: ValueId, shape: Dims) -> Res<ValueId> {
    let (dims, assumed) = infer::broadcast_dims(cx.g(), &[&cx.dims(x), &shape])?;
    let path = cx.path.clone();
    for (a, b) in assumed {
        cx.g_mut().assume_equal(&a, &b, &path);
    }
    cx.broadcast(x, dims)
}

/// A target that only data can tell: where it is 1 the input's dim stays, which is resolved while the model runs; a dim of the input that
/// is surely not 1 is the result's.
fn expand_target(cx: &mut Cx<'_, '_>, x: ValueId, shape: ValueId) -> Res<Vec<SymExpr>> {
    let Some(n) = cx.ty(shape).elems().as_const().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= 64) else {
        return Err(Fault::form("how many dims the target has must be known when the model is compiled"));
    };
    let input = cx.dims(x);
    let own: Vec<SymExpr> =
        (0..n).map(|i| (i + input.len()).checked_sub(n).and_then(|i| input.get(i).cloned()).unwrap_or_else(|| 1.into())).collect();
    let partial = cx.partial(shape).unwrap_or_default();
    let s = cx.cast(shape, DType::I64)?;
    let (kept, ones) = (cx.dims_value(own.clone())?, cx.bin_c(BinaryOp::Eq, s, 1.0)?);
    let s = cx.select(ones, kept, s)?;
    let bound = cx.exprs(s, "shape")?;
    let path = cx.path.clone();
    let choose = |(i, b): (usize, SymExpr)| match partial.get(i) {
        Some(Some(e)) => e.clone(),
        _ if own[i].as_const().is_some_and(|d| d != 1) => {
            cx.g_mut().assume_equal(&b, &own[i], &path);
            own[i].clone()
        }
        _ => b,
    };
    Ok(bound.into_iter().enumerate().map(choose).collect())
}

fn expand(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, shape) = (cx.input(0)?, cx.input(1)?);
    let shape = match cx.elements(shape) {
        Some(s) => s,
        None => expand_target(cx, x, shape)?,
    };
    if let Some(s) = shape.iter().find(|s| s.as_const().is_some_and(|s| s < 0)) {
        return Err(Fault::new(Code::BAD_DIM, format!("the shape has {s}, expected 0 or more")));
    }
    one(broadcast_with(cx, x, shape)?)
}

/// Each repeated dim gets a dim before it, which is broadcast and joined. Opset 1 names one axis instead.
fn tile(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let repeats = if cx.version < 6 {
        let (n, axis) = (cx.input(1)?, cx.input(2)?);
        let axis = cx.const_number(axis, "the axis")? as i64;
        let mut r: Dims = vec![1.into(); dims.len()];
        let axis = cx.axis_of(axis, dims.len())?;
        r[axis] = (cx.const_number(n, "the number of tiles")? as i64).into();
        r
    } else {
        let r = cx.input(1)?;
        cx.exprs(r, "repeats")?
    };
    if repeats.len() != dims.len() {
        return Err(Fault::shape(format!("{} repeats for {}", repeats.len(), cx.ty(x))));
    }
    let (mut apart, mut wide, mut joined) = (Dims::new(), Dims::new(), Dims::new());
    for (d, r) in dims.iter().zip(&repeats) {
        if r.is(1) {
            apart.push(d.clone());
            wide.push(d.clone());
        } else {
            apart.extend([1.into(), d.clone()]);
            wide.extend([r.clone(), d.clone()]);
        }
        joined.push(d * r);
    }
    let y = cx.reshape(x, apart)?;
    let y = cx.broadcast(y, wide)?;
    one(cx.reshape(y, joined)?)
}

fn block(cx: &Cx<'_, '_>) -> Res<i64> {
    let b = cx.need_int("blocksize")?;
    if b > 0 { Ok(b) } else { Err(Fault::attr(format!("`blocksize` is {b}, expected 1 or more"))) }
}

fn depth_to_space(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    cx.want_rank(x, 4..=4)?;
    let b = block(cx)?;
    let d = cx.dims(x);
    let c = d[1].div(&(b * b).into());
    let e = SymExpr::from(b);
    let column_first = column_first(cx)?;
    let (split, perm) = if column_first {
        (vec![d[0].clone(), c.clone(), e.clone(), e, d[2].clone(), d[3].clone()], [0, 1, 4, 2, 5, 3])
    } else {
        (vec![d[0].clone(), e.clone(), e, c.clone(), d[2].clone(), d[3].clone()], [0, 3, 4, 1, 5, 2])
    };
    let y = cx.reshape(x, split)?;
    let y = cx.transpose(y, &perm)?;
    one(cx.reshape(y, vec![d[0].clone(), c, d[2].clone() * b, d[3].clone() * b])?)
}

/// Whether the channels of a block stand behind their channel (CRD) or before it (DCR).
fn column_first(cx: &Cx<'_, '_>) -> Res<bool> {
    match cx.text("mode", "DCR")? {
        "DCR" => Ok(false),
        "CRD" => Ok(true),
        other => Err(Fault::attr(format!("`mode` is {other:?}, expected DCR or CRD"))),
    }
}

fn space_to_depth(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    cx.want_rank(x, 4..=4)?;
    let b = block(cx)?;
    let d = cx.dims(x);
    let e = SymExpr::from(b);
    let (h, w) = (d[2].div(&e), d[3].div(&e));
    let y = cx.reshape(x, vec![d[0].clone(), d[1].clone(), h.clone(), e.clone(), w.clone(), e])?;
    let y = cx.transpose(y, if column_first(cx)? { &[0, 1, 3, 5, 2, 4] } else { &[0, 3, 5, 1, 2, 4] })?;
    one(cx.reshape(y, vec![d[0].clone(), d[1].clone() * (b * b), h, w])?)
}

/// Crops or pads both ends of each axis to a size; what is odd falls to the end.
fn center_crop_pad(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (mut x, shape) = (cx.input(0)?, cx.input(1)?);
    let sizes = cx.exprs(shape, "shape")?;
    let rank = cx.rank(x);
    let axes: Vec<usize> = match cx.ints("axes")? {
        Some(a) => a.iter().map(|&a| cx.axis_of(a, rank)).collect::<Res<_>>()?,
        None => (0..rank).collect(),
    };
    if sizes.len() != axes.len() {
        return Err(Fault::shape(format!("{} sizes for {} axes", sizes.len(), axes.len())));
    }
    for (&axis, size) in axes.iter().zip(&sizes) {
        let (d, zero) = (cx.dim(x, axis)?, SymExpr::from(0));
        let surplus = cx.max(&(&d - size), &zero);
        if !surplus.is(0) {
            let len = cx.min(&d, size);
            x = cx.slice_axis(x, axis, surplus.div(&2.into()), len, 1)?;
        }
        let lack = cx.max(&(size - &d), &zero);
        if !lack.is(0) {
            let (mut low, mut high): (Dims, Dims) = (vec![0.into(); rank], vec![0.into(); rank]);
            low[axis] = lack.div(&2.into());
            high[axis] = &lack - &low[axis];
            x = if cx.dtype(x) == DType::Bool {
                let no = cx.scalar(DType::Bool, 0.0)?;
                cx.add(Op::Pad { mode: PadMode::Constant, low, high, interior: vec![0; rank] }, &[x, no])?
            } else {
                cx.pad(x, low, high, vec![0; rank], 0.0)?
            };
        }
    }
    one(x)
}
