// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Resizing as weighted neighbors along one axis after the other: windows that grow as a dim shrinks (antialiasing), and positions in a
//! region that data names.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, ReduceOp, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use crate::cx::{Cx, Res};
use crate::fault::Fault;

/// Most entries of a table of neighbors.
const MAX_TABLE: i64 = 1 << 22;

/// How neighbors are weighted.
#[derive(Copy, Clone)]
pub struct Window<'a> {
    /// `nearest`, `linear` or `cubic`.
    pub mode: &'a str,
    /// How `nearest` rounds.
    pub nearest: &'a str,
    /// Coefficient of Keys' cubic.
    pub cubic_a: f64,
    /// Neighbors outside count nothing, and the others are weighted for them.
    pub exclude_outside: bool,
}

impl Window<'_> {
    /// Elements on each side that a sample is made of.
    fn reach(&self) -> f64 {
        if self.mode == "cubic" { 2.0 } else { 1.0 }
    }
    /// Weight of a neighbor at the distance `x`.
    fn weight(&self, x: f64) -> f64 {
        let a = self.cubic_a;
        match (self.mode, x.abs()) {
            ("cubic", x) if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            ("cubic", x) if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            ("cubic", _) => 0.0,
            (_, x) => (1.0 - x).max(0.0),
        }
    }
    /// As [`weight`](Self::weight), for distances that are computed.
    fn weights(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
        use BinaryOp::*;
        let x = cx.un(UnaryOp::Abs, x)?;
        let zero = cx.scalar(cx.dtype(x), 0.0)?;
        if self.mode != "cubic" {
            let unit = cx.scalar(cx.dtype(x), 1.0)?;
            let w = cx.bin(Sub, unit, x)?;
            return cx.bin(Max, w, zero);
        }
        let a = self.cubic_a;
        let polynomial = |cx: &mut Cx<'_, '_>, c: [f64; 4]| -> Res<ValueId> {
            let mut y = cx.bin_c(Mul, x, c[0])?;
            for c in &c[1..3] {
                y = cx.bin_c(Add, y, *c)?;
                y = cx.bin(Mul, y, x)?;
            }
            cx.bin_c(Add, y, c[3])
        };
        let near = polynomial(cx, [a + 2.0, -(a + 3.0), 0.0, 1.0])?;
        let far = polynomial(cx, [a, -5.0 * a, 8.0 * a, -4.0 * a])?;
        let (is_near, is_far) = (cx.bin_c(Le, x, 1.0)?, cx.bin_c(Lt, x, 2.0)?);
        let far = cx.select(is_far, far, zero)?;
        cx.select(is_near, near, far)
    }
}

/// Dtype that samples of `dtype` are summed in.
fn work_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Brings samples back to `dtype`; integers are rounded to nearest even.
fn finish(cx: &mut Cx<'_, '_>, y: ValueId, dtype: DType) -> Res<ValueId> {
    let y = if dtype.is_int() { cx.un(UnaryOp::Round, y)? } else { y };
    cx.cast(y, dtype)
}

/// Sums of neighbors along `axis`: `index: i64[to,T]` and `weight: [to,T]`.
fn along(cx: &mut Cx<'_, '_>, x: ValueId, axis: usize, index: ValueId, weight: Option<ValueId>) -> Res<ValueId> {
    let taken = cx.gather(x, index, axis)?;
    let Some(weight) = weight else { return Ok(taken) };
    let mut dims: Dims = vec![1.into(); cx.rank(taken)];
    dims[axis] = cx.dim(weight, 0)?;
    dims[axis + 1] = cx.dim(weight, 1)?;
    let weight = cx.reshape(weight, dims)?;
    let y = cx.bin(BinaryOp::Mul, taken, weight)?;
    cx.reduce(ReduceOp::Sum, y, &[axis as u32 + 1], false)
}

/// Resizes with windows that cover what a result element stands for. `scales` are one a dim, or none: those of the dims. Positions are those
/// of `place(o, n, to, scale)`: result element `o` of `to` in a dim of `n`.
pub fn antialiased(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    dims: &[SymExpr],
    scales: &[f64],
    window: Window<'_>,
    place: &dyn Fn(f64, f64, f64, f64) -> f64,
) -> Res<ValueId> {
    let (dtype, input) = (cx.dtype(x), cx.dims(x));
    let work = work_dtype(dtype);
    let mut y = cx.cast(x, work)?;
    for axis in 0..input.len() {
        let by = scales.get(axis).copied();
        if input[axis] == dims[axis] && by.is_none_or(|s| (s - 1.0).abs() <= 1e-9) {
            continue;
        }
        let (Some(n), Some(to)) = (input[axis].as_const(), dims[axis].as_const()) else {
            return Err(Fault::form("for `antialias` dims that are resized must be known when the model is compiled"));
        };
        let scale = by.unwrap_or(to as f64 / n as f64);
        if to > 0 && !(n > 0 && scale.is_finite() && scale * n as f64 >= 0.5) {
            return Err(Fault::attr(format!("{n} elements do not resize to {to} by {scale}")));
        }
        let shrink = scale.min(1.0);
        let start = (-window.reach() / shrink).floor() as i64 + 1;
        let taps = 2 - 2 * start;
        if taps.checked_mul(to).is_none_or(|t| t > MAX_TABLE) {
            return Err(Fault::form(format!("{to} windows of {taps} elements are too large a table")));
        }
        let (mut index, mut weight) = (Vec::new(), Vec::new());
        for o in 0..to {
            let at = place(o as f64, n as f64, to as f64, scale).clamp(-1e15, 1e15);
            // The left neighbor, so that what remains is in (0, 1].
            let left = at.ceil() - 1.0;
            let places = (start..start + taps).map(|i| left as i64 + i);
            let mut w: Vec<f64> = places.clone().map(|i| window.weight((i as f64 - at) * shrink)).collect();
            if window.exclude_outside {
                w.iter_mut().zip(places.clone()).filter(|(_, i)| !(0..n).contains(i)).for_each(|(w, _)| *w = 0.0);
            }
            let sum: f64 = w.iter().sum();
            index.extend(places.map(|i| i.clamp(0, n - 1)));
            weight.extend(w.iter().map(|w| w / sum));
        }
        let index = cx.table_i64(&[to, taps], &index)?;
        let weight: Vec<f32> = weight.iter().map(|w| *w as f32).collect();
        let weight = cx.table_f32(&[to, taps], &weight)?;
        let weight = cx.cast(weight, work)?;
        y = along(cx, y, axis, index, Some(weight))?;
    }
    finish(cx, y, dtype)
}

/// Samples a region of `x`: `region[axis]` are its start and end (rank 0, f64) in units of the dim, `None` for the whole. Where a position
/// is outside of `x` the result is `outside`.
pub fn crop(
    cx: &mut Cx<'_, '_>,
    x: ValueId,
    dims: &[SymExpr],
    region: &[Option<(ValueId, ValueId)>],
    window: Window<'_>,
    outside: f64,
) -> Res<ValueId> {
    use BinaryOp::*;
    let (dtype, input) = (cx.dtype(x), cx.dims(x));
    let (work, rank) = (work_dtype(dtype), input.len());
    let mut y = cx.cast(x, work)?;
    let mut inside: Option<ValueId> = None;
    for axis in 0..rank {
        let (n, to) = (input[axis].clone(), dims[axis].clone());
        let last = cx.number_of(n - 1, DType::F64)?;
        let (zero, unit) = (cx.scalar(DType::F64, 0.0)?, cx.scalar(DType::F64, 1.0)?);
        let (from, end) = match region[axis] {
            Some(r) => r,
            None if input[axis] == to => continue,
            None => (zero, unit),
        };
        let size = cx.bin(Sub, end, from)?;
        let span = cx.bin(Mul, size, last)?;
        let start = cx.bin(Mul, from, last)?;
        let o = cx.iota(DType::F64, 0, vec![to.clone()])?;
        let steps = cx.number_of(to.clone() - 1, DType::F64)?;
        let along_span = cx.bin(Mul, o, span)?;
        let along_span = cx.bin(Div, along_span, steps)?;
        // A single element lies in the middle.
        let single = cx.bin_c(Le, steps, 0.0)?;
        let middle = cx.bin_c(Div, span, 2.0)?;
        let at = cx.select(single, middle, along_span)?;
        let at = cx.bin(Add, at, start)?;
        let (low, high) = (cx.bin(Ge, at, zero)?, cx.bin(Le, at, last)?);
        let fits = cx.bin(And, low, high)?;
        let mut line: Dims = vec![1.into(); rank];
        line[axis] = to.clone();
        let fits_here = cx.reshape(fits, line)?;
        inside = Some(match inside {
            None => fits_here,
            Some(i) => cx.bin(And, i, fits_here)?,
        });
        // The left neighbor, so that what remains is in (0, 1].
        let left = cx.un(UnaryOp::Ceil, at)?;
        let left = cx.bin(Sub, left, unit)?;
        let clamped = |cx: &mut Cx<'_, '_>, i: ValueId| -> Res<ValueId> {
            let i = cx.bin(Max, i, zero)?;
            let i = cx.bin(Min, i, last)?;
            cx.cast(i, DType::I64)
        };
        if window.mode == "nearest" {
            let ratio = cx.bin(Sub, at, left)?;
            let whole = cx.bin(Ge, ratio, unit)?;
            let right = match window.nearest {
                "round_prefer_floor" => cx.bin_c(Gt, ratio, 0.5)?,
                "round_prefer_ceil" => cx.bin_c(Ge, ratio, 0.5)?,
                "floor" => whole,
                "ceil" => cx.bin_c(Gt, ratio, 0.0)?,
                other => return Err(Fault::attr(format!("`nearest_mode` is {other:?}"))),
            };
            let right = cx.cast(right, DType::F64)?;
            let index = cx.bin(Add, left, right)?;
            let index = clamped(cx, index)?;
            y = along(cx, y, axis, index, None)?;
            continue;
        }
        let half = window.reach() as i64;
        let offsets: Vec<f64> = (1 - half..=half).map(|i| i as f64).collect();
        let offsets = cx.numbers(DType::F64, &[1, 2 * half], &offsets)?;
        let (at, left) = (cx.unsqueeze(at, &[1])?, cx.unsqueeze(left, &[1])?);
        let places = cx.bin(Add, left, offsets)?;
        let distance = cx.bin(Sub, places, at)?;
        let mut weight = window.weights(cx, distance)?;
        if window.exclude_outside {
            let (low, high) = (cx.bin(Ge, places, zero)?, cx.bin(Le, places, last)?);
            let counts = cx.bin(And, low, high)?;
            weight = cx.select(counts, weight, zero)?;
            let sum = cx.reduce(ReduceOp::Sum, weight, &[1], true)?;
            weight = cx.bin(Div, weight, sum)?;
        }
        let (index, weight) = (clamped(cx, places)?, cx.cast(weight, work)?);
        y = along(cx, y, axis, index, Some(weight))?;
    }
    if let Some(inside) = inside {
        let outside = cx.scalar(work, outside)?;
        y = cx.select(inside, y, outside)?;
    }
    finish(cx, y, dtype)
}
