// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shapes as data, constants, and tensors made from numbers alone.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Literal, Op, Origin, Scalar, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::model::dtype_of;
use crate::scope::Slot;
use crate::tensor;

pub const TABLE: &[Entry] = &[
    op("Constant", 1, 0, 0, constant),
    op("ConstantOfShape", 9, 1, 1, constant_of_shape),
    op("EyeLike", 9, 1, 1, eye_like),
    op("Range", 11, 3, 3, range),
    op("Shape", 1, 1, 1, shape),
    op("Size", 1, 1, 1, size),
    op("Trilu", 14, 1, 2, trilu),
];

/// `start` and `end` came with opset 15; they are cut to the rank.
fn shape(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let dims = cx.dims(x);
    let rank = dims.len() as i64;
    let cut = |v: i64| if v < 0 { (v.saturating_add(rank)).max(0) } else { v.min(rank) };
    let (start, end) = (cut(cx.int("start", 0)?), cut(cx.int("end", rank)?));
    let part = dims.get(start as usize..end.max(start) as usize).unwrap_or_default().to_vec();
    one(cx.dims_value(part)?)
}

fn size(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let n = cx.ty(x).elems();
    one(cx.dim_value(n)?)
}

fn constant(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    if let Some(t) = match cx.tensor("value")? {
        Some(t) => Some(t),
        None => cx.tensor("sparse_value")?,
    } {
        let name = cx.node.outputs.first().map_or("", String::as_str);
        let origin = Origin::path(cx.path.clone());
        return one(cx.imp.constant(t, name, origin)?);
    }
    if let Some(v) = cx.int_opt("value_int")? {
        return one(cx.scalar_bits(Scalar::i64(v))?);
    }
    if let Some(v) = cx.float_opt("value_float")? {
        return one(cx.scalar(DType::F32, v)?);
    }
    if let Some(v) = cx.ints("value_ints")? {
        return one(cx.int_list(&v)?);
    }
    if let Some(v) = cx.floats("value_floats")? {
        return one(cx.numbers(DType::F32, &[v.len() as i64], &v)?);
    }
    if let Some(v) = cx.text_opt("value_string")? {
        return one(cx.table_texts(&[], &[v])?);
    }
    if let Some(v) = cx.texts("value_strings")? {
        return one(cx.table_texts(&[v.len() as i64], &v)?);
    }
    Err(Fault::attr("none of its value attributes is given"))
}

fn constant_of_shape(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let s = cx.input(0)?;
    let dims = cx.exprs(s, "shape")?;
    if let Some(d) = dims.iter().find(|d| d.as_const().is_some_and(|d| d < 0)) {
        return Err(Fault::shape(format!("the shape has {d}, expected 0 or more")));
    }
    let value = match cx.tensor("value")? {
        None => Scalar::f32(0.0),
        Some(t) => {
            let checked = tensor::check(t, &mut cx.imp.external)?;
            let literal = checked.into_const().ok().and_then(|l| l.elem(0).filter(|_| l.len() == 1));
            let expected = || format!("`value` of dtype {} is not one number", dtype_of(t.elem).map_or("?", DType::name));
            literal.ok_or_else(|| Fault::attr(expected()))?
        }
    };
    one(cx.add(Op::Fill { value, dims }, &[])?)
}

fn eye_like(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    cx.want_rank(x, 2..=2)?;
    let dtype = cx.dtype_attr("dtype")?.unwrap_or(cx.dtype(x));
    let k = cx.int("k", 0)?;
    let dims = cx.dims(x);
    let (rows, columns) = (cx.iota(DType::I64, 0, dims.clone())?, cx.iota(DType::I64, 1, dims)?);
    let k = cx.scalar_bits(Scalar::i64(k))?;
    let rows = cx.bin(BinaryOp::Add, rows, k)?;
    let on = cx.bin(BinaryOp::Eq, rows, columns)?;
    one(cx.cast(on, dtype)?)
}

pub fn trilu(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let rank = cx.want_rank(x, 2..=usize::MAX)?;
    let upper = cx.flag("upper", true)?;
    let dims = cx.dims(x)[rank - 2..].to_vec();
    let (mut rows, columns) = (cx.iota(DType::I64, 0, dims.clone())?, cx.iota(DType::I64, 1, dims)?);
    if let Some(k) = cx.opt(1)? {
        let k = cx.as_scalar(k)?;
        rows = cx.bin(BinaryOp::Add, rows, k)?;
    }
    let keep = cx.bin(if upper { BinaryOp::Le } else { BinaryOp::Ge }, rows, columns)?;
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    one(cx.select(keep, x, zero)?)
}

/// `start + i * delta` for as many `i` as stay before the limit. The number is an expression where the bounds are, else it is bound.
pub fn range(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let scalar = |cx: &mut Cx<'_, '_>, i: usize| {
        let v = cx.input(i)?;
        cx.as_scalar(v)
    };
    let (start, limit, delta) = (scalar(cx, 0)?, scalar(cx, 1)?, scalar(cx, 2)?);
    let dtype = cx.dtype(start);
    let n = range_len(cx, start, limit, delta)?;
    if n.as_const().is_some_and(|n| n > 1 << 40) {
        return Err(Fault::new(portwright_ir::diag::Code::SIZE_OVERFLOW, format!("{n} elements are too many")));
    }
    // Known integers stay visible as such, since ranges often shape what follows.
    if dtype.is_int()
        && let (Some(n), Some(s), Some(d)) = (n.as_const().filter(|n| *n <= 64), known(cx, start), known(cx, delta))
        && let (Some(s), Some(d)) = (s.as_const(), d.as_const())
    {
        let values: Vec<i64> = (0..n).map(|i| s.wrapping_add(i.wrapping_mul(d))).collect();
        return one(cx.add(Op::Const { value: Literal::vector(dtype, &values) }, &[])?);
    }
    // Narrow floats count in f32, so that far elements are rounded once.
    let work = if dtype.is_float() && dtype.bits() < 32 { DType::F32 } else { dtype };
    let i = cx.iota(work, 0, vec![n])?;
    let (start, delta) = (cx.cast(start, work)?, cx.cast(delta, work)?);
    let y = cx.bin(BinaryOp::Mul, i, delta)?;
    let y = cx.bin(BinaryOp::Add, y, start)?;
    one(cx.cast(y, dtype)?)
}

fn known(cx: &mut Cx<'_, '_>, v: ValueId) -> Option<SymExpr> {
    <[SymExpr; 1]>::try_from(cx.elements(v)?).ok().map(|[e]| e)
}

fn range_len(cx: &mut Cx<'_, '_>, start: ValueId, limit: ValueId, delta: ValueId) -> Res<SymExpr> {
    let dtype = cx.dtype(start);
    if let (Some(s), Some(l), Some(d)) = (known(cx, start), known(cx, limit), known(cx, delta))
        && let Some(d) = d.as_const()
    {
        if d == 0 {
            return Err(Fault::shape("the step is 0"));
        }
        let span = if d > 0 { &l - &s } else { &s - &l };
        let by = i64::try_from(d.unsigned_abs()).map_err(|_| Fault::shape("the step is out of range"))?;
        return Ok(cx.max(&span.ceil_div(&by.into()), &0.into()));
    }
    let consts = |cx: &mut Cx<'_, '_>, v| cx.const_numbers(v).and_then(|n| n.first().copied());
    if let (Some(s), Some(l), Some(d)) = (consts(cx, start), consts(cx, limit), consts(cx, delta)) {
        let n = ((l - s) / d).ceil();
        if !n.is_finite() {
            return Err(Fault::shape(format!("from {s} to {l} by {d} there is no number of elements")));
        }
        return Ok((n.clamp(0.0, (1u64 << 62) as f64) as i64).into());
    }
    // Only data can tell: counted while the model runs.
    let work = if dtype.is_float() { dtype } else { DType::F64 };
    let (s, l, d) = (cx.cast(start, work)?, cx.cast(limit, work)?, cx.cast(delta, work)?);
    let n = cx.bin(BinaryOp::Sub, l, s)?;
    let n = cx.bin(BinaryOp::Div, n, d)?;
    let n = cx.un(UnaryOp::Ceil, n)?;
    let n = cx.bin_c(BinaryOp::Max, n, 0.0)?;
    let n = cx.cast(n, DType::I64)?;
    cx.expr(n, "range")
}
