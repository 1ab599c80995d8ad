// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sampling between elements at places that other tensors give: deformable convolution and aligned regions.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Op, ReduceOp, UnaryOp, ValueId, infer};
use portwright_ir::sym::{SymExpr, product};

use super::{Entry, op};
use crate::cx::{Cx, Res, exprs_of, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("DeformConv", 19, 3, 5, deform_conv), op("RoiAlign", 10, 3, 3, roi_align)];

/// Dtype that positions and weights of samples are computed in.
fn work_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Both neighbors of a position along one dim of `len`, each as index (i64, inside) and weight.
type Pair = [(ValueId, ValueId); 2];

/// Attribute of positive numbers, one a spatial dim.
fn positive(cx: &Cx<'_, '_>, name: &str, n: usize) -> Res<Vec<i64>> {
    match cx.ints(name)? {
        None => Ok(vec![1; n]),
        Some(v) if v.len() == n && v.iter().all(|v| (1..=i64::from(i32::MAX)).contains(v)) => Ok(v),
        Some(v) => Err(Fault::attr(format!("`{name}` is {v:?}, expected {n} positive numbers"))),
    }
}

/// Neighbors of `p`; one that is outside counts nothing.
fn inside_only(cx: &mut Cx<'_, '_>, p: ValueId, len: &SymExpr) -> Res<Pair> {
    use BinaryOp::*;
    let dtype = cx.dtype(p);
    let last = cx.number_of(len.clone() - 1, dtype)?;
    let (zero, unit) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, 1.0)?);
    let first = cx.un(UnaryOp::Floor, p)?;
    let t = cx.bin(Sub, p, first)?;
    let rest = cx.bin(Sub, unit, t)?;
    let next = cx.bin(Add, first, unit)?;
    let mut out = [(first, rest), (next, t)];
    for (place, weight) in &mut out {
        let (low, high) = (cx.bin(Ge, *place, zero)?, cx.bin(Le, *place, last)?);
        let inside = cx.bin(And, low, high)?;
        *weight = cx.select(inside, *weight, zero)?;
        let clamped = cx.bin(Max, *place, zero)?;
        let clamped = cx.bin(Min, clamped, last)?;
        *place = cx.cast(clamped, DType::I64)?;
    }
    Ok(out)
}

/// Convolution whose taps are moved by offsets and weighted by a mask: taps are sampled into columns, which meet the weights in one product.
///
/// `(x: [N,C,in..], w: [O,C/G,kernel..], offset: [N,OG*K*S,out..], bias: [O], mask: [N,OG*K,out..]) -> [N,O,out..]` with `S` spatial dims
/// and `K` taps.
fn deform_conv(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let (x, w, offset, bias, mask) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.opt(3)?, cx.opt(4)?);
    let rank = cx.want_rank(x, 3..=5)?;
    cx.want_rank(w, rank..=rank)?;
    cx.want_rank(offset, rank..=rank)?;
    let n = rank - 2;
    let (xd, wd, od) = (cx.dims(x), cx.dims(w), cx.dims(offset));
    let kernel: Option<Vec<i64>> = wd[2..].iter().map(|d| d.as_const().filter(|d| (1..=1 << 10).contains(d))).collect();
    let kernel = kernel.ok_or_else(|| Fault::form("the kernel must be known when the model is compiled"))?;
    if let Some(k) = cx.ints("kernel_shape")?.filter(|k| *k != kernel) {
        return Err(Fault::attr(format!("`kernel_shape` is {k:?}, the weights have {kernel:?}")));
    }
    let (strides, dilations) = (positive(cx, "strides", n)?, positive(cx, "dilations", n)?);
    let pads = cx.ints("pads")?.unwrap_or_else(|| vec![0; 2 * n]);
    if pads.len() != 2 * n || pads.iter().any(|p| i32::try_from(*p).is_err()) {
        return Err(Fault::attr(format!("`pads` is {pads:?}, expected {} numbers", 2 * n)));
    }
    let (groups, offsets) = (cx.int("group", 1)?, cx.int("offset_group", 1)?);
    for (name, g, d) in [("group", groups, &xd[1]), ("offset_group", offsets, &xd[1]), ("group", groups, &wd[0])] {
        if !(1..=1 << 20).contains(&g) || d.as_const().is_some_and(|d| d % g != 0) {
            return Err(Fault::attr(format!("`{name}` is {g}, which does not divide {d} channels")));
        }
    }
    let taps = kernel.iter().try_fold(1i64, |t, k| t.checked_mul(*k)).filter(|t| *t <= 1 << 20);
    let taps = taps.ok_or_else(|| Fault::attr(format!("a kernel of {kernel:?} is too large")))?;
    // The offsets say how large the result is; the attributes must say the same.
    let mut expected = vec![xd[0].clone(), SymExpr::from(offsets * taps * n as i64)];
    for i in 0..n {
        let reach = dilations[i] * (kernel[i] - 1) + 1;
        expected.push((xd[i + 2].clone() + (pads[i] + pads[i + n] - reach)).div(&strides[i].into()) + 1);
    }
    same_dims(cx, "the offsets", &od, &expected)?;
    let places = od[2..].to_vec();
    let count = product(&places);
    let (dtype, work) = (cx.dtype(x), work_dtype(cx.dtype(x)));
    let (x, w, offset) = (cx.cast(x, work)?, cx.cast(w, work)?, cx.cast(offset, work)?);

    let mut split = vec![xd[0].clone(), offsets.into(), taps.into(), (n as i64).into()];
    split.extend_from_slice(&places);
    let offset = cx.reshape(offset, split)?;
    let columns = count.clone() * taps;
    let mut grid: Dims = vec![taps.into()];
    grid.extend_from_slice(&places);
    let mut pairs = Vec::new();
    for i in 0..n {
        // Where tap `k` of place `p` lies without its offset.
        let inner: i64 = kernel[i + 1..].iter().product();
        let at: Vec<f64> = (0..taps).map(|k| ((k / inner % kernel[i]) * dilations[i] - pads[i]) as f64).collect();
        let mut tap_dims = vec![1; n + 1];
        tap_dims[0] = taps;
        let at = cx.numbers(work, &tap_dims, &at)?;
        let start = cx.iota(work, i + 1, grid.clone())?;
        let start = cx.bin_c(Mul, start, strides[i] as f64)?;
        let base = cx.bin(Add, start, at)?;
        let base = cx.reshape(base, vec![columns.clone()])?;
        let moved = cx.slice_axis(offset, 3, (i as i64).into(), 1.into(), 1)?;
        let moved = cx.reshape(moved, vec![xd[0].clone(), offsets.into(), 1.into(), columns.clone()])?;
        let p = cx.bin(Add, moved, base)?;
        pairs.push(inside_only(cx, p, &xd[i + 2])?);
    }
    let per = xd[1].div(&offsets.into());
    let flat = cx.reshape(x, vec![xd[0].clone(), offsets.into(), per.clone(), product(&xd[2..])])?;
    let wide = vec![xd[0].clone(), offsets.into(), per, columns.clone()];
    let mut sum: Option<ValueId> = None;
    for corner in 0..1usize << n {
        let (mut index, mut weight): (Option<ValueId>, Option<ValueId>) = (None, None);
        for (i, pair) in pairs.iter().enumerate() {
            let (at, part) = pair[corner >> i & 1];
            index = Some(match index {
                None => at,
                Some(before) => {
                    let len = cx.number_of(xd[i + 2].clone(), DType::I64)?;
                    let before = cx.bin(Mul, before, len)?;
                    cx.bin(Add, before, at)?
                }
            });
            weight = Some(match weight {
                None => part,
                Some(before) => cx.bin(Mul, before, part)?,
            });
        }
        let (Some(index), Some(weight)) = (index, weight) else { return Err(Fault::shape("no spatial dims")) };
        let index = cx.broadcast(index, wide.clone())?;
        let v = cx.add(Op::GatherElements { axis: 3 }, &[flat, index])?;
        let v = cx.bin(Mul, v, weight)?;
        sum = Some(match sum {
            None => v,
            Some(s) => cx.bin(Add, s, v)?,
        });
    }
    let Some(mut sampled) = sum else { return Err(Fault::shape("no spatial dims")) };
    if let Some(m) = mask {
        let mut expected = od.clone();
        expected[1] = (offsets * taps).into();
        same_dims(cx, "the mask", &cx.dims(m), &expected)?;
        let m = cx.cast(m, work)?;
        let m = cx.reshape(m, vec![xd[0].clone(), offsets.into(), 1.into(), columns])?;
        sampled = cx.bin(Mul, sampled, m)?;
    }
    let depth = xd[1].div(&groups.into()) * taps;
    let cols = cx.reshape(sampled, vec![xd[0].clone(), groups.into(), depth.clone(), count])?;
    let w = cx.reshape(w, vec![groups.into(), wd[0].div(&groups.into()), depth])?;
    let y = cx.contract("gok,ngkp->ngop", w, cols)?;
    let mut out = vec![xd[0].clone(), wd[0].clone()];
    out.extend_from_slice(&places);
    let mut y = cx.reshape(y, out)?;
    if let Some(b) = bias {
        let b = cx.cast(b, work)?;
        let mut dims = exprs_of(&vec![1; n + 1]);
        dims[0] = wd[0].clone();
        let b = cx.reshape(b, dims)?;
        y = cx.bin(Add, y, b)?;
    }
    one(cx.cast(y, dtype)?)
}

/// Takes it as given that dims are those that are expected.
fn same_dims(cx: &mut Cx<'_, '_>, what: &str, dims: &[SymExpr], expected: &[SymExpr]) -> Res<()> {
    if dims.len() != expected.len() || dims.iter().zip(expected).any(|(a, b)| !infer::may_be_equal(cx.g(), a, b)) {
        return Err(Fault::shape(format!("the dims of {what} are {dims:?}, expected {expected:?}")));
    }
    let path = cx.path.clone();
    for (a, b) in dims.iter().zip(expected) {
        cx.g_mut().assume_equal(a, b, &path);
    }
    Ok(())
}

/// Samples of regions along one axis.
struct Samples {
    /// Indices and weights, `[R,bins,samples]` each.
    pair: Pair,
    /// How many of the samples a region has, `[R,1,1]`, where regions differ in that.
    grid: Option<(ValueId, ValueId)>,
    /// How many samples there are a bin.
    count: SymExpr,
}

/// Samples of the regions `from..from + size` (`[R,1]`), in `bins` bins of `ratio` samples (0: as many as the elements it covers) of a
/// dim of `len`.
fn samples(cx: &mut Cx<'_, '_>, from: ValueId, size: ValueId, bins: i64, ratio: i64, len: &SymExpr) -> Res<Samples> {
    use BinaryOp::*;
    let dtype = cx.dtype(from);
    let (from, size) = (cx.unsqueeze(from, &[2])?, cx.unsqueeze(size, &[2])?);
    let bin = cx.bin_c(Div, size, bins as f64)?;
    let (grid, count) = if ratio > 0 {
        (cx.scalar(dtype, ratio as f64)?, SymExpr::from(ratio))
    } else {
        let grid = cx.un(UnaryOp::Ceil, bin)?;
        let grid = cx.bin_c(Max, grid, 0.0)?;
        let most = cx.reduce(ReduceOp::Max, grid, &[0, 1, 2], false)?;
        // Without regions the largest is the lowest number; there is always one sample, so that every dim is one.
        let most = cx.bin_c(Max, most, 1.0)?;
        let most = cx.cast(most, DType::I64)?;
        let most = <[SymExpr; 1]>::try_from(cx.exprs_from(most, "samples", 1)?);
        (grid, most.map_err(|_| Fault::shape("the number of samples is no scalar"))?[0].clone())
    };
    let places = vec![1.into(), bins.into(), count.clone()];
    let (b, s) = (cx.iota(dtype, 1, places.clone())?, cx.iota(dtype, 2, places)?);
    let half = cx.bin_c(Add, s, 0.5)?;
    let within = cx.bin(Mul, half, bin)?;
    let within = cx.bin(Div, within, grid)?;
    let start = cx.bin(Mul, b, bin)?;
    let at = cx.bin(Add, from, start)?;
    let at = cx.bin(Add, at, within)?;
    let (whole, last) = (cx.number_of(len.clone(), dtype)?, cx.number_of(len.clone() - 1, dtype)?);
    let (zero, unit) = (cx.scalar(dtype, 0.0)?, cx.scalar(dtype, 1.0)?);
    // A sample more than one element outside counts nothing, one at the border is that of the border.
    let (low, high) = (cx.bin_c(Ge, at, -1.0)?, cx.bin(Le, at, whole)?);
    let mut counts = cx.bin(And, low, high)?;
    let grid = if ratio > 0 {
        None
    } else {
        let has = cx.bin(Lt, s, grid)?;
        counts = cx.bin(And, counts, has)?;
        Some((grid, has))
    };
    let at = cx.bin(Max, at, zero)?;
    let at = cx.bin(Min, at, last)?;
    let first = cx.un(UnaryOp::Floor, at)?;
    let t = cx.bin(Sub, at, first)?;
    let rest = cx.bin(Sub, unit, t)?;
    let next = cx.bin(Add, first, unit)?;
    let next = cx.bin(Min, next, last)?;
    let mut pair = [(first, rest), (next, t)];
    for (place, weight) in &mut pair {
        *place = cx.cast(*place, DType::I64)?;
        *weight = cx.select(counts, *weight, zero)?;
    }
    Ok(Samples { pair, grid, count })
}

/// Means or maxima of bilinear samples in the bins of regions.
///
/// `(x: [N,C,H,W], rois: [R,4] as x, y, x, y, batch: int[R]) -> [R,C,output_height,output_width]`. Maxima are those of single neighbors times
/// their weights, as the reference and ONNX Runtime have it.
fn roi_align(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let (x, rois, batch) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.want_rank(x, 4..=4)?;
    cx.want_rank(rois, 2..=2)?;
    cx.want_rank(batch, 1..=1)?;
    let max = match cx.text("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(Fault::attr(format!("`mode` is {other:?}, expected avg or max"))),
    };
    // Opset 10 knows one way.
    let shifted = match cx.text("coordinate_transformation_mode", if cx.version < 16 { "output_half_pixel" } else { "half_pixel" })? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            let m = format!("`coordinate_transformation_mode` is {other:?}, expected half_pixel or output_half_pixel");
            return Err(Fault::attr(m));
        }
    };
    let (height, width, ratio) = (cx.int("output_height", 1)?, cx.int("output_width", 1)?, cx.int("sampling_ratio", 0)?);
    if !(1..=1 << 16).contains(&height) || !(1..=1 << 16).contains(&width) || !(0..=1 << 10).contains(&ratio) {
        return Err(Fault::attr(format!("a result of {height} x {width} with {ratio} samples cannot be made")));
    }
    let by = cx.float("spatial_scale", 1.0)?;
    let (dtype, work) = (cx.dtype(x), work_dtype(cx.dtype(x)));
    let (d, r) = (cx.dims(x), cx.dim(rois, 0)?);
    let rois = cx.cast(rois, work)?;
    let mut ends = Vec::new();
    for i in 0..4 {
        let c = cx.slice_axis(rois, 1, i.into(), 1.into(), 1)?;
        let c = cx.bin_c(Mul, c, by)?;
        ends.push(if shifted { cx.bin_c(Sub, c, 0.5)? } else { c });
    }
    let mut axes = Vec::new();
    for (low, bins, len) in [(1, height, &d[2]), (0, width, &d[3])] {
        let mut size = cx.bin(Sub, ends[low + 2], ends[low])?;
        if !shifted {
            size = cx.bin_c(Max, size, 1.0)?;
        }
        axes.push(samples(cx, ends[low], size, bins, ratio, len)?);
    }
    // Channels last: a sample is one row of them.
    let x = cx.cast(x, work)?;
    let x = cx.transpose(x, &[0, 2, 3, 1])?;
    let rows = cx.reshape(x, vec![product(&[d[0].clone(), d[2].clone(), d[3].clone()]), d[1].clone()])?;
    let batch = cx.cast(batch, DType::I64)?;
    let batch = cx.reshape(batch, vec![r.clone(), 1.into(), 1.into(), 1.into(), 1.into()])?;
    let (tall, broad) = (cx.number_of(d[2].clone(), DType::I64)?, cx.number_of(d[3].clone(), DType::I64)?);
    let batch = cx.bin(Mul, batch, tall)?;
    // Dims are region, bin and sample down, bin and sample across.
    let down = |cx: &mut Cx<'_, '_>, v: ValueId| cx.unsqueeze(v, &[3, 4]);
    let across = |cx: &mut Cx<'_, '_>, v: ValueId| cx.unsqueeze(v, &[1, 2]);
    let mut joined: Option<ValueId> = None;
    for (iy, wy) in axes[0].pair {
        for (ix, wx) in axes[1].pair {
            let (iy, wy) = (down(cx, iy)?, down(cx, wy)?);
            let (ix, wx) = (across(cx, ix)?, across(cx, wx)?);
            let line = cx.bin(Add, batch, iy)?;
            let line = cx.bin(Mul, line, broad)?;
            let index = cx.bin(Add, line, ix)?;
            let v = cx.gather(rows, index, 0)?;
            let weight = cx.bin(Mul, wy, wx)?;
            let weight = cx.unsqueeze(weight, &[5])?;
            let v = cx.bin(Mul, v, weight)?;
            joined = Some(match joined {
                None => v,
                Some(j) => cx.bin(if max { Max } else { Add }, j, v)?,
            });
        }
    }
    let Some(mut v) = joined else { return Err(Fault::shape("no corners")) };
    let grids = match (axes[0].grid, axes[1].grid) {
        (Some((gy, hy)), Some((gx, hx))) => {
            let (hy, hx) = (down(cx, hy)?, across(cx, hx)?);
            Some((cx.bin(Mul, gy, gx)?, cx.bin(And, hy, hx)?))
        }
        _ => None,
    };
    let y = if max {
        if let Some((_, has)) = grids {
            let (has, lowest) = (cx.unsqueeze(has, &[5])?, cx.scalar(work, f64::NEG_INFINITY)?);
            v = cx.select(has, v, lowest)?;
        }
        let y = cx.reduce(ReduceOp::Max, v, &[2, 4], false)?;
        match grids {
            // A region without samples gives 0.
            Some((grid, _)) => {
                let (some, zero) = (cx.bin_c(Gt, grid, 0.0)?, cx.scalar(work, 0.0)?);
                let some = cx.unsqueeze(some, &[3])?;
                cx.select(some, y, zero)?
            }
            None => y,
        }
    } else {
        let sum = cx.reduce(ReduceOp::Sum, v, &[2, 4], false)?;
        let n = match grids {
            Some((grid, _)) => {
                let grid = cx.bin_c(Max, grid, 1.0)?;
                cx.unsqueeze(grid, &[3])?
            }
            None => cx.number_of(axes[0].count.clone() * axes[1].count.clone(), work)?,
        };
        cx.bin(Div, sum, n)?
    };
    let y = cx.transpose(y, &[0, 3, 1, 2])?;
    one(cx.cast(y, dtype)?)
}
