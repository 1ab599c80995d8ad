// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sampling at computed places.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, UnaryOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("AffineGrid", 20, 2, 2, affine_grid), op("GridSample", 16, 2, 2, grid_sample)];

/// Normalized coordinates of every place of a result, moved by a matrix.
fn affine_grid(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (theta, size) = (cx.input(0)?, cx.input(1)?);
    let corners = cx.flag("align_corners", false)?;
    let size = cx.exprs(size, "size")?;
    let spatial = size.len().checked_sub(2).filter(|s| (2..=3).contains(s));
    let Some(spatial) = spatial else {
        return Err(Fault::shape(format!("the size has {} entries, expected 4 or 5", size.len())));
    };
    let plane = size[2..].to_vec();
    let dtype = cx.dtype(theta);
    let mut parts = Vec::new();
    // Coordinates are in the order x, y, z: the last dim first.
    for axis in (0..spatial).rev() {
        let i = cx.iota(dtype, axis, plane.clone())?;
        let n = plane[axis].clone();
        let twice = cx.bin_c(BinaryOp::Mul, i, 2.0)?;
        let (above, below) = if corners {
            let d = cx.number_of(n - 1, dtype)?;
            (twice, d)
        } else {
            let up = cx.bin_c(BinaryOp::Add, twice, 1.0)?;
            (up, cx.number_of(n, dtype)?)
        };
        let c = cx.bin(BinaryOp::Div, above, below)?;
        let c = cx.bin_c(BinaryOp::Sub, c, 1.0)?;
        parts.push(cx.unsqueeze(c, &[spatial])?);
    }
    let mut unit = plane.clone();
    unit.push(1.into());
    parts.push(cx.fill(dtype, 1.0, unit)?);
    let grid = cx.concat(&parts, spatial)?;
    let spec = if spatial == 2 { "nik,hwk->nhwi" } else { "nik,dhwk->ndhwi" };
    one(cx.contract(spec, theta, grid)?)
}

/// What lies outside of the input.
#[derive(Copy, Clone, PartialEq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// One spatial dim of an input that is sampled.
struct Axis {
    len: SymExpr,
    corners: bool,
    outside: Outside,
    dtype: DType,
}

impl Axis {
    fn number(&self, cx: &mut Cx<'_, '_>, n: SymExpr) -> Res<ValueId> {
        cx.number_of(n, self.dtype)
    }
    /// From -1..1 to positions.
    fn position(&self, cx: &mut Cx<'_, '_>, n: ValueId) -> Res<ValueId> {
        let up = cx.bin_c(BinaryOp::Add, n, 1.0)?;
        if self.corners {
            let half = cx.bin_c(BinaryOp::Div, up, 2.0)?;
            let last = self.number(cx, self.len.clone() - 1)?;
            return cx.bin(BinaryOp::Mul, half, last);
        }
        let whole = self.number(cx, self.len.clone())?;
        let x = cx.bin(BinaryOp::Mul, up, whole)?;
        let x = cx.bin_c(BinaryOp::Sub, x, 1.0)?;
        cx.bin_c(BinaryOp::Div, x, 2.0)
    }
    fn clamp(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
        let x = cx.bin_c(BinaryOp::Max, x, 0.0)?;
        let last = self.number(cx, self.len.clone() - 1)?;
        cx.bin(BinaryOp::Min, x, last)
    }
    /// Mirrored at the borders until inside: a zigzag of period twice the range.
    fn reflect(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
        let (low, range) = if self.corners { (0.0, self.len.clone() - 1) } else { (-0.5, self.len.clone()) };
        // A range of nothing has one place.
        let range = self.number(cx, range)?;
        let range = cx.bin_c(BinaryOp::Max, range, f64::from(f32::MIN_POSITIVE))?;
        let period = cx.bin_c(BinaryOp::Mul, range, 2.0)?;
        let d = cx.bin_c(BinaryOp::Sub, x, low)?;
        let d = cx.un(UnaryOp::Abs, d)?;
        let d = cx.bin(BinaryOp::Mod, d, period)?;
        let back = cx.bin(BinaryOp::Sub, period, d)?;
        let d = cx.bin(BinaryOp::Min, d, back)?;
        cx.bin_c(BinaryOp::Add, d, low)
    }
    /// Positions outside are brought in where the mode does that before neighbours are chosen.
    fn bring_in(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
        let at_border = |cx: &mut Cx<'_, '_>, inner: ValueId| -> Res<ValueId> {
            let (low, high) = if self.corners { (0.0, self.len.clone() - 1) } else { (-0.5, self.len.clone()) };
            let mut high = self.number(cx, high)?;
            if !self.corners {
                high = cx.bin_c(BinaryOp::Sub, high, 0.5)?;
            }
            let (below, above) = (cx.bin_c(BinaryOp::Lt, x, low)?, cx.bin(BinaryOp::Gt, x, high)?);
            let out = cx.bin(BinaryOp::Or, below, above)?;
            cx.select(out, inner, x)
        };
        match self.outside {
            Outside::Zeros => Ok(x),
            Outside::Border => {
                let inner = self.clamp(cx, x)?;
                at_border(cx, inner)
            }
            Outside::Reflection => {
                let inner = self.reflect(cx, x)?;
                at_border(cx, inner)
            }
        }
    }
    /// Index (i64, always inside) of a whole position, and whether it counts.
    fn index(&self, cx: &mut Cx<'_, '_>, x: ValueId) -> Res<(ValueId, Option<ValueId>)> {
        let (low, last) = (cx.bin_c(BinaryOp::Ge, x, 0.0)?, self.number(cx, self.len.clone() - 1)?);
        let x = match self.outside {
            Outside::Reflection => self.reflect(cx, x)?,
            _ => x,
        };
        let inside = match self.outside {
            Outside::Zeros => {
                let high = cx.bin(BinaryOp::Le, x, last)?;
                Some(cx.bin(BinaryOp::And, low, high)?)
            }
            _ => None,
        };
        let x = cx.un(UnaryOp::Trunc, x)?;
        let x = self.clamp(cx, x)?;
        Ok((cx.cast(x, DType::I64)?, inside))
    }
}

/// Neighbours of a position along one axis: whole positions and their weights (`None` for the only one).
fn neighbours(cx: &mut Cx<'_, '_>, mode: &str, x: ValueId) -> Res<Vec<(ValueId, Option<ValueId>)>> {
    use BinaryOp::*;
    if mode == "nearest" {
        return Ok(vec![(cx.un(UnaryOp::Round, x)?, None)]);
    }
    let first = cx.un(UnaryOp::Floor, x)?;
    let t = cx.bin(Sub, x, first)?;
    if mode == "linear" {
        let one = cx.scalar(cx.dtype(x), 1.0)?;
        let rest = cx.bin(Sub, one, t)?;
        let next = cx.bin_c(Add, first, 1.0)?;
        return Ok(vec![(first, Some(rest)), (next, Some(t))]);
    }
    // Keys' cubic with a = -0.75, by the distance to each of four neighbours.
    let a = -0.75;
    let mut out = Vec::new();
    for k in -1i64..=2 {
        let at = cx.bin_c(Add, first, k as f64)?;
        let d = cx.bin_c(Sub, t, k as f64)?;
        let d = cx.un(UnaryOp::Abs, d)?;
        let poly = |cx: &mut Cx<'_, '_>, c: [f64; 4]| -> Res<ValueId> {
            let mut y = cx.bin_c(Mul, d, c[0])?;
            for (i, c) in c[1..].iter().enumerate() {
                y = cx.bin_c(Add, y, *c)?;
                if i < 2 {
                    y = cx.bin(Mul, y, d)?;
                }
            }
            Ok(y)
        };
        let w = if k == 0 || k == 1 { poly(cx, [a + 2.0, -(a + 3.0), 0.0, 1.0])? } else { poly(cx, [a, -5.0 * a, 8.0 * a, -4.0 * a])? };
        out.push((at, Some(w)));
    }
    Ok(out)
}

/// Samples `[N,C,spatial..]` at `grid: [N,out..,D]`, whose last dim names the last axis first.
pub fn grid_sample(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.want_rank(x, 3..=7)?;
    cx.want_rank(grid, rank..=rank)?;
    let mode = match cx.text("mode", "linear")? {
        "bilinear" | "linear" => "linear",
        "bicubic" | "cubic" => "cubic",
        "nearest" => "nearest",
        other => return Err(Fault::attr(format!("`mode` is {other:?}, expected linear, nearest or cubic"))),
    };
    let outside = match cx.text("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => return Err(Fault::attr(format!("`padding_mode` is {other:?}, expected zeros, border or reflection"))),
    };
    let corners = cx.flag("align_corners", false)?;
    let (dims, places) = (cx.dims(x), cx.dims(grid));
    let spatial = rank - 2;
    let count = product(&places[1..rank - 1]);
    let work = if cx.dtype(grid) == DType::F64 { DType::F64 } else { DType::F32 };
    let grid = cx.cast(grid, work)?;
    let mut axes = Vec::new();
    for a in 0..spatial {
        let axis = Axis { len: dims[a + 2].clone(), corners, outside, dtype: work };
        let n = cx.slice_axis(grid, rank - 1, ((spatial - 1 - a) as i64).into(), 1.into(), 1)?;
        let n = cx.reshape(n, vec![places[0].clone(), 1.into(), count.clone()])?;
        let at = axis.position(cx, n)?;
        let at = if mode == "nearest" { cx.un(UnaryOp::Round, at)? } else { at };
        let at = axis.bring_in(cx, at)?;
        let mut taps = Vec::new();
        for (place, weight) in neighbours(cx, mode, at)? {
            let (index, inside) = axis.index(cx, place)?;
            taps.push((index, inside, weight));
        }
        axes.push(taps);
    }
    let dtype = cx.dtype(x);
    let flat = cx.reshape(x, vec![dims[0].clone(), dims[1].clone(), product(&dims[2..])])?;
    let flat = cx.cast(flat, work)?;
    let total: usize = axes.iter().map(Vec::len).product();
    let mut sum: Option<ValueId> = None;
    for corner in 0..total {
        let (mut left, mut index, mut weight, mut counts) = (corner, None, None, None);
        for (a, taps) in axes.iter().enumerate() {
            let (i, inside, w) = taps[left % taps.len()];
            left /= taps.len();
            index = Some(match index {
                None => i,
                Some(before) => {
                    let len = cx.number_of(dims[a + 2].clone(), DType::I64)?;
                    let scaled = cx.bin(BinaryOp::Mul, before, len)?;
                    cx.bin(BinaryOp::Add, scaled, i)?
                }
            });
            weight = both(cx, weight, w, BinaryOp::Mul)?;
            counts = both(cx, counts, inside, BinaryOp::And)?;
        }
        let Some(index) = index else { return Err(Fault::shape("no spatial dims")) };
        let index = cx.broadcast(index, vec![dims[0].clone(), dims[1].clone(), count.clone()])?;
        let mut v = cx.add(Op::GatherElements { axis: 2 }, &[flat, index])?;
        if let Some(c) = counts {
            let zero = cx.scalar(work, 0.0)?;
            v = cx.select(c, v, zero)?;
        }
        if let Some(w) = weight {
            v = cx.bin(BinaryOp::Mul, v, w)?;
        }
        sum = both(cx, sum, Some(v), BinaryOp::Add)?;
    }
    let Some(sum) = sum else { return Err(Fault::shape("no spatial dims")) };
    let sum = cx.cast(sum, dtype)?;
    let mut out = dims[..2].to_vec();
    out.extend_from_slice(&places[1..rank - 1]);
    one(cx.reshape(sum, out)?)
}

/// Joins two optional values.
fn both(cx: &mut Cx<'_, '_>, a: Option<ValueId>, b: Option<ValueId>, op: BinaryOp) -> Res<Option<ValueId>> {
    match (a, b) {
        (Some(a), Some(b)) => cx.bin(op, a, b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}
