// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Resizing, and sampling at computed places.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Dims, Op, Scalar, ValueId};
use portwright_ir::sym::SymExpr;

use super::taps::{self, Window};
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("Resize", 10, 1, 4, resize), op("Upsample", 7, 1, 2, upsample)];

/// How samples are taken.
struct Sampling<'a> {
    mode: &'a str,
    coords: &'a str,
    nearest: &'a str,
}

/// Scales are inputs 1 (opset 10) or 2 (since 11), sizes input 3; `axes` (opset 18) names the dims that they are for.
fn resize(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let mode = cx.text("mode", "nearest")?;
    if cx.version < 11 {
        let scales = cx.input(1)?;
        let s = Sampling { mode, coords: "asymmetric", nearest: "floor" };
        return by_scales(cx, x, scales, &s, None);
    }
    let coords = cx.text("coordinate_transformation_mode", "half_pixel")?;
    let nearest = cx.text("nearest_mode", "round_prefer_floor")?;
    let s = Sampling { mode, coords, nearest };
    let axes = match cx.ints("axes")? {
        Some(a) => Some(a.iter().map(|&a| cx.axis_of(a, cx.rank(x))).collect::<Res<Vec<_>>>()?),
        None => None,
    };
    // An empty tensor counts as not given.
    let given = |cx: &Cx<'_, '_>, i: usize| cx.opt(i).map(|o| o.filter(|v| !cx.ty(*v).elems().is(0)));
    if let Some(sizes) = given(cx, 3)? {
        return by_sizes(cx, x, sizes, &s, axes);
    }
    match given(cx, 2)? {
        Some(scales) => by_scales(cx, x, scales, &s, axes),
        None => Err(Fault::attr("neither scales nor sizes are given")),
    }
}

/// Scales are an attribute in opset 7, then an input.
fn upsample(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let s = Sampling { mode: cx.text("mode", "nearest")?, coords: "asymmetric", nearest: "floor" };
    match cx.opt(1)? {
        Some(scales) => by_scales(cx, x, scales, &s, None),
        None => {
            let scales = cx.floats("scales")?.ok_or_else(|| Fault::attr("attribute `scales` is missing"))?;
            scaled(cx, x, &scales, &s, None)
        }
    }
}

fn by_scales(cx: &mut Cx<'_, '_>, x: ValueId, scales: ValueId, s: &Sampling<'_>, axes: Option<Vec<usize>>) -> Res<Vec<Slot>> {
    match cx.const_numbers(scales) {
        Some(scales) => scaled(cx, x, &scales, s, axes),
        None => Err(Fault::form("the scales must be known when the model is compiled")),
    }
}

fn scaled(cx: &mut Cx<'_, '_>, x: ValueId, scales: &[f64], s: &Sampling<'_>, axes: Option<Vec<usize>>) -> Res<Vec<Slot>> {
    let input = cx.dims(x);
    let axes = axes.unwrap_or_else(|| (0..input.len()).collect());
    if axes.len() != scales.len() {
        return Err(Fault::shape(format!("{} scales for {} dims", scales.len(), axes.len())));
    }
    let mut dims = input.clone();
    let mut all = vec![1.0; input.len()];
    for (&a, &by) in axes.iter().zip(scales) {
        if !(by.is_finite() && by > 0.0) {
            return Err(Fault::attr(format!("a scale is {by}, expected a positive number")));
        }
        all[a] = by;
        dims[a] = times(&input[a], by)?;
    }
    // Opset 11 and 12 scale by the ratio of sizes, not by the number given, except in the mode that keeps corners.
    emit(cx, x, dims, &all, s)
}

/// `floor(d * by)`: exact for a factor that is a ratio of small integers, else only for a known dim.
fn times(d: &SymExpr, by: f64) -> Res<SymExpr> {
    if let Some(d) = d.as_const() {
        // The factor is an f32 in the file: the product is rounded as one.
        return Ok(((d as f32 * by as f32).floor() as i64).into());
    }
    for q in 1..=64i64 {
        let p = by * q as f64;
        if (p - p.round()).abs() < 1e-6 * p.abs() {
            return Ok((d.clone() * p.round() as i64).div(&q.into()));
        }
    }
    Err(Fault::form(format!("a dim of {d} times {by} is no expression; the dim must be known when the model is compiled")))
}

fn by_sizes(cx: &mut Cx<'_, '_>, x: ValueId, sizes: ValueId, s: &Sampling<'_>, axes: Option<Vec<usize>>) -> Res<Vec<Slot>> {
    let sizes = cx.exprs(sizes, "size")?;
    let input = cx.dims(x);
    let axes = axes.unwrap_or_else(|| (0..input.len()).collect());
    if axes.len() != sizes.len() {
        return Err(Fault::shape(format!("{} sizes for {} dims", sizes.len(), axes.len())));
    }
    let mut dims = input.clone();
    for (&a, size) in axes.iter().zip(&sizes) {
        dims[a] = size.clone();
    }
    let policy = cx.text("keep_aspect_ratio_policy", "stretch")?;
    if policy == "stretch" {
        return emit(cx, x, dims, &[], s);
    }
    // One scale for all axes, so that the result fits into, or covers, the sizes.
    let mut ratios = Vec::new();
    for &a in &axes {
        let (Some(to), Some(d)) = (dims[a].as_const(), input[a].as_const()) else {
            return Err(Fault::form("for `keep_aspect_ratio_policy` sizes and dims must be known when the model is compiled"));
        };
        ratios.push(to as f64 / d as f64);
    }
    let by = match policy {
        "not_larger" => ratios.iter().copied().fold(f64::INFINITY, f64::min),
        "not_smaller" => ratios.iter().copied().fold(0.0, f64::max),
        other => return Err(Fault::attr(format!("`keep_aspect_ratio_policy` is {other:?}"))),
    };
    let mut all = vec![1.0; input.len()];
    for &a in &axes {
        if let Some(d) = input[a].as_const() {
            dims[a] = ((d as f64 * by + 0.5).floor() as i64).into();
            all[a] = by;
        }
    }
    emit(cx, x, dims, &all, s)
}

fn emit(cx: &mut Cx<'_, '_>, x: ValueId, dims: Dims, scales: &[f64], s: &Sampling<'_>) -> Res<Vec<Slot>> {
    let mode = match s.mode {
        "linear" | "bilinear" => "linear",
        m => m,
    };
    let cubic_a = cx.float("cubic_coeff_a", -0.75)?;
    let exclude_outside = cx.flag("exclude_outside", false)?;
    let antialias = cx.flag("antialias", false)?;
    let window = Window { mode, nearest: s.nearest, cubic_a, exclude_outside };
    if s.coords == "tf_crop_and_resize" {
        if antialias {
            return Err(Fault::form("`antialias` is not computed for `tf_crop_and_resize`"));
        }
        known("mode", mode, &["nearest", "linear", "cubic"])?;
        known("nearest_mode", s.nearest, &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?;
        let region = region(cx, x)?;
        let outside = cx.float("extrapolation_value", 0.0)?;
        return one(taps::crop(cx, x, &dims, &region, window, outside)?);
    }
    if antialias && mode != "nearest" {
        known("mode", mode, &["linear", "cubic"])?;
        let coords = known(
            "coordinate_transformation_mode",
            s.coords,
            &["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"],
        )?;
        let place = |o: f64, n: f64, to: f64, scale: f64| {
            let width = scale * n;
            match coords {
                "align_corners" if width == 1.0 => 0.0,
                "align_corners" => o * (n - 1.0) / (width - 1.0),
                "asymmetric" => o / scale,
                "pytorch_half_pixel" if width == 1.0 => -0.5,
                "half_pixel_symmetric" => n / 2.0 * (1.0 - to / width) + (o + 0.5) / scale - 0.5,
                _ => (o + 0.5) / scale - 0.5,
            }
        };
        return one(taps::antialiased(cx, x, &dims, scales, window, &place)?);
    }
    let op = Op::Resize {
        dims,
        mode: mode.into(),
        coords: s.coords.into(),
        nearest: s.nearest.into(),
        scales: scales.iter().map(|v| Scalar::from_f64(DType::F32, *v)).collect(),
        cubic_a: Scalar::from_f64(DType::F32, cubic_a),
        exclude_outside,
        antialias: false,
    };
    one(cx.add(op, &[x])?)
}

/// An attribute of one of some values.
fn known<'a>(name: &str, value: &'a str, all: &[&str]) -> Res<&'a str> {
    if all.contains(&value) {
        return Ok(value);
    }
    Err(Fault::attr(format!("`{name}` is {value:?}, expected {}", all.join(", "))))
}

/// Start and end of the region that is resized in every dim, from input 1: all starts, then all ends, of `axes` in their order.
fn region(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<Vec<Option<(ValueId, ValueId)>>> {
    let roi = cx.input(1)?;
    let rank = cx.rank(x);
    let axes: Vec<usize> = match cx.ints("axes")?.filter(|_| cx.version >= 18) {
        Some(a) => a.iter().map(|&a| cx.axis_of(a, rank)).collect::<Res<_>>()?,
        None => (0..rank).collect(),
    };
    let n = axes.len() as i64;
    if cx.rank(roi) != 1 || !cx.ty(roi).elems().is(2 * n) {
        return Err(Fault::shape(format!("the region is {}, expected {} numbers", cx.ty(roi), 2 * n)));
    }
    let roi = cx.cast(roi, DType::F64)?;
    let mut out = vec![None; rank];
    for (i, &axis) in axes.iter().enumerate() {
        let at = |cx: &mut Cx<'_, '_>, i: i64| {
            let v = cx.slice_axis(roi, 0, i.into(), 1.into(), 1)?;
            cx.as_scalar(v)
        };
        out[axis] = Some((at(cx, i as i64)?, at(cx, i as i64 + n)?));
    }
    Ok(out)
}
