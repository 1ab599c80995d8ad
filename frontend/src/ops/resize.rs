// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Resizing, and sampling at computed places.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Dims, Op, Scalar, ValueId};
use portwright_ir::sym::SymExpr;

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
    if coords == "tf_crop_and_resize" {
        return Err(Fault::form("`tf_crop_and_resize` reads outside of the tensor; other coordinate modes are computed"));
    }
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
    let op = Op::Resize {
        dims,
        mode: mode.into(),
        coords: s.coords.into(),
        nearest: s.nearest.into(),
        scales: scales.iter().map(|v| Scalar::from_f64(DType::F32, *v)).collect(),
        cubic_a: Scalar::from_f64(DType::F32, cx.float("cubic_coeff_a", -0.75)?),
        exclude_outside: cx.flag("exclude_outside", false)?,
        antialias: cx.flag("antialias", false)?,
    };
    one(cx.add(op, &[x])?)
}
