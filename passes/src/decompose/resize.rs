// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Resize as gathers, one dim at a time.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, NodeId, Op, UnaryOp};
use portwright_ir::sym::SymExpr;

use super::{narrowed, parts, widened};
use crate::rules::{Edit, Tap};

struct Axis<'a> {
    at: usize,
    from: SymExpr,
    to: SymExpr,
    scale: Option<f64>,
    coords: &'a str,
}

pub(super) fn resize(e: &mut Edit<'_>, n: NodeId) -> Option<Tap> {
    let (Op::Resize { dims, mode, coords, nearest, scales, cubic_a, exclude_outside, antialias }, &[x]) = parts(e, n) else { return None };
    if *antialias {
        return None;
    }
    let from = e.ty(x).dims.clone();
    let mut y = if &**mode == "nearest" { Tap::Old(x) } else { widened(e, x)? };
    for (at, to) in dims.iter().enumerate() {
        let scale = scales.get(at).map(|s| s.to_f64());
        if from.get(at)? == to && scale.is_none_or(|s| s == 1.0) {
            continue;
        }
        let axis = Axis { at, from: from.get(at)?.clone(), to: to.clone(), scale, coords };
        let position = coordinate(e, &axis)?;
        y = match &**mode {
            "nearest" => {
                let index = round_to(e, position, nearest)?;
                pick(e, y, &axis, index)?
            }
            "linear" => linear(e, y, &axis, position)?,
            "cubic" => cubic(e, y, &axis, position, cubic_a.to_f64(), *exclude_outside)?,
            _ => return None,
        };
    }
    narrowed(e, n, y)
}

/// A dim as an f32 scalar.
fn size(e: &mut Edit<'_>, d: &SymExpr) -> Option<Tap> {
    match d.as_const() {
        Some(v) => e.scalar(DType::F32, v as f64),
        None => {
            let t = e.dims_tensor(vec![d.clone()], DType::I64, true)?;
            e.cast(t, DType::F32)
        }
    }
}

/// Where the result's elements lie in the operand, `f32[to]`.
fn coordinate(e: &mut Edit<'_>, a: &Axis<'_>) -> Option<Tap> {
    let i = e.iota(DType::F32, 0, vec![a.to.clone()])?;
    let scale = match a.scale {
        Some(s) => e.scalar(DType::F32, s)?,
        None => {
            let (to, from) = (size(e, &a.to)?, size(e, &a.from)?);
            e.binary(BinaryOp::Div, to, from)?
        }
    };
    match a.coords {
        "asymmetric" => e.binary(BinaryOp::Div, i, scale),
        "align_corners" => {
            if a.to.is(1) {
                return e.with_scalar(BinaryOp::Mul, i, 0.0);
            }
            let last = size(e, &(a.from.clone() - 1))?;
            // The corners are those of the scaled length, which may lie between two elements.
            let top = match a.scale {
                Some(_) => {
                    let from = size(e, &a.from)?;
                    let length = e.binary(BinaryOp::Mul, scale, from)?;
                    e.with_scalar(BinaryOp::Sub, length, 1.0)?
                }
                None => size(e, &(a.to.clone() - 1))?,
            };
            // A result of one element lies at 0 whatever the quotient is.
            let top = e.with_scalar(BinaryOp::Max, top, 1.0)?;
            let whole = e.binary(BinaryOp::Mul, i, last)?;
            e.binary(BinaryOp::Div, whole, top)
        }
        "pytorch_half_pixel" if a.to.is(1) => e.with_scalar(BinaryOp::Mul, i, 0.0),
        "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric" => {
            let middle = e.with_scalar(BinaryOp::Add, i, 0.5)?;
            let wide = e.binary(BinaryOp::Div, middle, scale)?;
            let mut x = e.with_scalar(BinaryOp::Sub, wide, 0.5)?;
            if a.coords == "half_pixel_symmetric" {
                // The result is centered over the operand: offset = from / 2 * (1 - to / (scale * from)).
                let (to, from) = (size(e, &a.to)?, size(e, &a.from)?);
                let real = e.binary(BinaryOp::Mul, scale, from)?;
                let adjustment = e.binary(BinaryOp::Div, to, real)?;
                let minus = e.unary(UnaryOp::Neg, adjustment)?;
                let rest = e.with_scalar(BinaryOp::Add, minus, 1.0)?;
                let center = e.with_scalar(BinaryOp::Mul, from, 0.5)?;
                let offset = e.binary(BinaryOp::Mul, center, rest)?;
                x = e.binary(BinaryOp::Add, x, offset)?;
            }
            if a.coords == "pytorch_half_pixel" && a.to.as_const().is_none() {
                let to = size(e, &a.to)?;
                let one = e.scalar(DType::F32, 1.0)?;
                let several = e.binary(BinaryOp::Gt, to, one)?;
                let zero = e.scalar(DType::F32, 0.0)?;
                x = e.select(several, x, zero)?;
            }
            Some(x)
        }
        _ => None,
    }
}

fn round_to(e: &mut Edit<'_>, x: Tap, nearest: &str) -> Option<Tap> {
    match nearest {
        "floor" => e.unary(UnaryOp::Floor, x),
        "ceil" => e.unary(UnaryOp::Ceil, x),
        // ceil(x - 0.5) and floor(x + 0.5): halves go down and up.
        "round_prefer_floor" => {
            let low = e.with_scalar(BinaryOp::Sub, x, 0.5)?;
            e.unary(UnaryOp::Ceil, low)
        }
        "round_prefer_ceil" => {
            let high = e.with_scalar(BinaryOp::Add, x, 0.5)?;
            e.unary(UnaryOp::Floor, high)
        }
        _ => None,
    }
}

/// Elements of `y` at the f32 positions `index`, moved to the edge where they lie outside.
fn pick(e: &mut Edit<'_>, y: Tap, a: &Axis<'_>, index: Tap) -> Option<Tap> {
    let last = size(e, &(a.from.clone() - 1))?;
    let low = e.with_scalar(BinaryOp::Max, index, 0.0)?;
    let inside = e.binary(BinaryOp::Min, low, last)?;
    let index = e.cast(inside, DType::I64)?;
    e.add(Op::Gather { axis: a.at as u32 }, &[y, index])
}

/// Weights `f32[to]` with dims that broadcast along the axis.
fn along(e: &mut Edit<'_>, w: Tap, y: Tap, a: &Axis<'_>) -> Option<Tap> {
    let mut dims = vec![SymExpr::from(1); e.rank(y)];
    *dims.get_mut(a.at)? = a.to.clone();
    let w = e.reshape(w, dims)?;
    let dtype = e.ty(y).dtype;
    e.cast(w, dtype)
}

fn linear(e: &mut Edit<'_>, y: Tap, a: &Axis<'_>, x: Tap) -> Option<Tap> {
    let low = e.unary(UnaryOp::Floor, x)?;
    let right = e.binary(BinaryOp::Sub, x, low)?;
    let high = e.with_scalar(BinaryOp::Add, low, 1.0)?;
    let one = e.scalar(DType::F32, 1.0)?;
    let left = e.binary(BinaryOp::Sub, one, right)?;
    let (p, q) = (pick(e, y, a, low)?, pick(e, y, a, high)?);
    let (left, right) = (along(e, left, y, a)?, along(e, right, y, a)?);
    let p = e.binary(BinaryOp::Mul, p, left)?;
    let q = e.binary(BinaryOp::Mul, q, right)?;
    e.binary(BinaryOp::Add, p, q)
}

/// `c[3] t^3 + c[2] t^2 + c[1] t + c[0]`.
fn polynomial(e: &mut Edit<'_>, t: Tap, c: [f64; 4]) -> Option<Tap> {
    let mut p = e.with_scalar(BinaryOp::Mul, t, c[3])?;
    for (i, k) in [c[2], c[1], c[0]].into_iter().enumerate() {
        p = e.with_scalar(BinaryOp::Add, p, k)?;
        if i < 2 {
            p = e.binary(BinaryOp::Mul, p, t)?;
        }
    }
    Some(p)
}

fn cubic(e: &mut Edit<'_>, y: Tap, a: &Axis<'_>, x: Tap, k: f64, exclude_outside: bool) -> Option<Tap> {
    let low = e.unary(UnaryOp::Floor, x)?;
    let t = e.binary(BinaryOp::Sub, x, low)?;
    // Keys' kernel at distances 1 + t, t, 1 - t, 2 - t, expanded in t.
    let taps = [[0.0, k, -2.0 * k, k], [1.0, 0.0, -(k + 3.0), k + 2.0], [0.0, -k, 2.0 * k + 3.0, -(k + 2.0)], [0.0, 0.0, k, -k]];
    let mut parts = Vec::with_capacity(4);
    for (i, c) in taps.into_iter().enumerate() {
        let mut w = polynomial(e, t, c)?;
        let at = e.with_scalar(BinaryOp::Add, low, i as f64 - 1.0)?;
        if exclude_outside {
            let last = size(e, &(a.from.clone() - 1))?;
            let zero = e.scalar(DType::F32, 0.0)?;
            let above = e.binary(BinaryOp::Ge, at, zero)?;
            let below = e.binary(BinaryOp::Le, at, last)?;
            let inside = e.binary(BinaryOp::And, above, below)?;
            w = e.select(inside, w, zero)?;
        }
        parts.push((w, at));
    }
    if exclude_outside {
        let mut total = parts.first()?.0;
        for (w, _) in parts.iter().skip(1) {
            total = e.binary(BinaryOp::Add, total, *w)?;
        }
        for (w, _) in &mut parts {
            *w = e.binary(BinaryOp::Div, *w, total)?;
        }
    }
    let mut sum = None;
    for (w, at) in parts {
        let p = pick(e, y, a, at)?;
        let w = along(e, w, y, a)?;
        let p = e.binary(BinaryOp::Mul, p, w)?;
        sum = Some(match sum {
            None => p,
            Some(s) => e.binary(BinaryOp::Add, s, p)?,
        });
    }
    sum
}
