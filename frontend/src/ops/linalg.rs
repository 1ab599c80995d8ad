// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determinants and inverses.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::ArgOp;
use portwright_ir::graph::{BinaryOp, Op, UnaryOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use super::control::loop_of;
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("Det", 11, 1, 1, det)];

/// Matrices of at most this many rows are eliminated without a loop.
const UNROLLED: i64 = 4;

/// Dims of `[.., M, M]` and `M`.
fn square(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<(Vec<SymExpr>, SymExpr)> {
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let d = cx.dims(x);
    let (n, columns) = (d[rank - 2].clone(), d[rank - 1].clone());
    if !portwright_ir::graph::infer::may_be_equal(cx.g(), &n, &columns) {
        return Err(Fault::shape(format!("its matrices are {n} x {columns}, expected square ones")));
    }
    let path = cx.path.clone();
    cx.g_mut().assume_equal(&n, &columns, &path);
    Ok((d, n))
}

/// `[.., M, M] -> [..]`, by elimination with partial pivoting.
fn det(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let (d, n) = square(cx, x)?;
    let rank = d.len();
    one(cx.wide(x, |cx, x| {
        let dtype = cx.dtype(x);
        let batch = product(&d[..rank - 2]);
        let a = cx.reshape(x, vec![batch.clone(), n.clone(), n.clone()])?;
        let unit = cx.fill(dtype, 1.0, vec![batch])?;
        let y = match n.as_const() {
            Some(m) if m <= UNROLLED => {
                let (mut a, mut det) = (a, unit);
                for k in 0..m {
                    let k = cx.scalar(DType::I64, k as f64)?;
                    (a, det) = eliminate(cx, a, det, k, &n)?;
                }
                det
            }
            _ => {
                let m = n.clone();
                loop_of(cx, &n, &[a, unit], &[], |cx, k, states, _| {
                    let (a, det) = eliminate(cx, states[0], states[1], k, &m)?;
                    Ok((vec![a, det], Vec::new()))
                })?[1]
            }
        };
        cx.reshape(y, d[..rank - 2].to_vec())
    })?)
}

/// Step `k` for matrices `a: [B,M,M]`: the row with the largest element of column `k` at or below the diagonal takes place `k`, and its
/// multiples are subtracted from the rows below; `det: [B]` is multiplied by its pivot.
fn eliminate(cx: &mut Cx<'_, '_>, a: ValueId, det: ValueId, k: ValueId, n: &SymExpr) -> Res<(ValueId, ValueId)> {
    use BinaryOp::*;
    let dtype = cx.dtype(a);
    let batch = cx.dim(a, 0)?;
    let row = cx.iota(DType::I64, 0, vec![n.clone()])?;
    let column = cx.gather(a, k, 2)?;
    let open = cx.bin(Ge, row, k)?;
    let size = cx.un(UnaryOp::Abs, column)?;
    let (done, zero) = (cx.scalar(dtype, -1.0)?, cx.scalar(dtype, 0.0)?);
    let size = cx.select(open, size, done)?;
    let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: true, last: false }, &[size])?;
    let pivot = cx.add(Op::GatherElements { axis: 1 }, &[column, at])?;
    // The pivot's row and the one whose place it takes, [B,1,M].
    let wide = vec![batch.clone(), 1.into(), n.clone()];
    let index = cx.unsqueeze(at, &[2])?;
    let index = cx.broadcast(index, wide.clone())?;
    let chosen = cx.add(Op::GatherElements { axis: 1 }, &[a, index])?;
    let top = cx.gather(a, k, 1)?;
    let top = cx.reshape(top, wide)?;
    let is_chosen = cx.bin(Eq, row, at)?;
    let is_chosen = cx.unsqueeze(is_chosen, &[2])?;
    let swapped = cx.select(is_chosen, top, a)?;
    let below = cx.bin(Gt, row, k)?;
    let column = cx.gather(swapped, k, 2)?;
    let factor = cx.bin(Div, column, pivot)?;
    // A column of zeros has nothing to subtract: the determinant is 0 already.
    let singular = cx.bin_c(Eq, pivot, 0.0)?;
    let factor = cx.select(singular, zero, factor)?;
    let factor = cx.select(below, factor, zero)?;
    let factor = cx.unsqueeze(factor, &[2])?;
    let part = cx.bin(Mul, factor, chosen)?;
    let a = cx.bin(Sub, swapped, part)?;
    let stays = cx.bin(Eq, at, k)?;
    let back = cx.un(UnaryOp::Neg, pivot)?;
    let signed = cx.select(stays, pivot, back)?;
    let signed = cx.reshape(signed, vec![batch])?;
    Ok((a, cx.bin(Mul, det, signed)?))
}

/// `[.., M, M]` to their inverses (`com.microsoft`), by Gauss and Jordan with partial pivoting; a singular matrix gives no numbers.
pub fn inverse(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let (d, n) = square(cx, x)?;
    let rank = d.len();
    one(cx.wide(x, |cx, x| {
        let batch = product(&d[..rank - 2]);
        let a = cx.reshape(x, vec![batch.clone(), n.clone(), n.clone()])?;
        let plane = vec![n.clone(), n.clone()];
        let (row, column) = (cx.iota(DType::I64, 0, plane.clone())?, cx.iota(DType::I64, 1, plane)?);
        let unit = cx.bin(BinaryOp::Eq, row, column)?;
        let unit = cx.cast(unit, cx.dtype(x))?;
        let unit = cx.broadcast(unit, vec![batch, n.clone(), n.clone()])?;
        let mut both = cx.concat(&[a, unit], 2)?;
        match n.as_const() {
            Some(m) if m <= UNROLLED => {
                for k in 0..m {
                    let k = cx.scalar(DType::I64, k as f64)?;
                    both = cleared(cx, both, k, &n)?;
                }
            }
            _ => {
                let m = n.clone();
                both = loop_of(cx, &n, &[both], &[], |cx, k, states, _| Ok((vec![cleared(cx, states[0], k, &m)?], Vec::new())))?[0];
            }
        }
        let y = cx.slice_axis(both, 2, n.clone(), n.clone(), 1)?;
        cx.reshape(y, d.clone())
    })?)
}

/// Step `k` for `a: [B,M,2M]`: the row with the largest element of column `k` at or below the diagonal takes place `k`, divided by that
/// element, and its multiples are subtracted from all others.
fn cleared(cx: &mut Cx<'_, '_>, a: ValueId, k: ValueId, n: &SymExpr) -> Res<ValueId> {
    use BinaryOp::*;
    let (batch, width) = (cx.dim(a, 0)?, cx.dim(a, 2)?);
    let row = cx.iota(DType::I64, 0, vec![n.clone()])?;
    let column = cx.gather(a, k, 2)?;
    let open = cx.bin(Ge, row, k)?;
    let size = cx.un(UnaryOp::Abs, column)?;
    let done = cx.scalar(cx.dtype(a), -1.0)?;
    let size = cx.select(open, size, done)?;
    let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: true, last: false }, &[size])?;
    let pivot = cx.add(Op::GatherElements { axis: 1 }, &[column, at])?;
    let pivot = cx.unsqueeze(pivot, &[2])?;
    let wide = vec![batch, 1.into(), width];
    let index = cx.unsqueeze(at, &[2])?;
    let index = cx.broadcast(index, wide.clone())?;
    let chosen = cx.add(Op::GatherElements { axis: 1 }, &[a, index])?;
    let chosen = cx.bin(Div, chosen, pivot)?;
    let top = cx.gather(a, k, 1)?;
    let top = cx.reshape(top, wide)?;
    // The row that was in place `k` goes where the chosen one was.
    let from = cx.bin(Eq, row, at)?;
    let from = cx.unsqueeze(from, &[2])?;
    let swapped = cx.select(from, top, a)?;
    let factor = cx.gather(swapped, k, 2)?;
    let factor = cx.unsqueeze(factor, &[2])?;
    let part = cx.bin(Mul, factor, chosen)?;
    let rest = cx.bin(Sub, swapped, part)?;
    let own = cx.bin(Eq, row, k)?;
    let own = cx.reshape(own, vec![n.clone(), 1.into()])?;
    cx.select(own, chosen, rest)
}
