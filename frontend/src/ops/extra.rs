// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `com.microsoft` that stand by themselves, earlier forms of operators of ONNX, and searches, which are refused.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, ScatterOp, UnaryOp, ValueId};

use super::matmul::matmul_spec;
use super::{Entry, MANY, gather, linalg, movement, op, sample, shape};
use crate::cx::{Cx, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

/// Whole searches for texts, which are refused with what to export instead.
pub const SEARCHES: &[&str] = &["BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"];

pub const TABLE: &[Entry] = &[
    op("BeamSearch", 1, 0, MANY, search),
    op("CDist", 1, 2, 2, distances),
    op("ComplexMul", 1, 2, 2, complex_mul),
    op("ComplexMulConj", 1, 2, 2, complex_mul_conj),
    op("ExpandDims", 1, 2, 2, expand_dims),
    op("GatherND", 1, 2, 2, gather::gather_nd),
    op("GreedySearch", 1, 0, MANY, search),
    op("GridSample", 1, 2, 2, sample::grid_sample),
    op("Inverse", 1, 1, 1, linalg::inverse),
    op("IsAllFinite", 1, 1, MANY, is_all_finite),
    op("MatMulInteger16", 1, 2, 2, matmul_integer16),
    op("NGramRepeatBlock", 1, 2, 2, no_repeats),
    op("Pad", 1, 2, 3, pad),
    op("Range", 1, 2, 3, range),
    op("Sampling", 1, 0, MANY, search),
    op("Trilu", 1, 1, 2, shape::trilu),
    op("Unique", 1, 1, 1, unique),
    op("WhisperBeamSearch", 1, 0, MANY, search),
];

/// A search runs a decoder until it is done, with caches that it chooses from: a program around a model.
fn search(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    Err(Fault::form(format!("{} is a search around a decoder, which is not compiled", cx.node.op)).help(
        "export the decoder by itself (and the encoder, if there is one) and call it for each token: its caches are inputs and outputs",
    ))
}

/// Distances between the rows of two matrices.
fn distances(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    cx.want_rank(a, 2..=2)?;
    cx.want_rank(b, 2..=2)?;
    let root = match cx.text("metric", "sqeuclidean")? {
        "sqeuclidean" => false,
        "euclidean" => true,
        other => return Err(Fault::form(format!("`metric` is {other:?}; euclidean and sqeuclidean are taken"))),
    };
    let (a, b) = (cx.unsqueeze(a, &[1])?, cx.unsqueeze(b, &[0])?);
    let d = cx.bin(BinaryOp::Sub, a, b)?;
    let d = cx.bin(BinaryOp::Mul, d, d)?;
    let d = cx.reduce(ReduceOp::Sum, d, &[2], false)?;
    one(if root { cx.un(UnaryOp::Sqrt, d)? } else { d })
}

/// Products of complex numbers whose parts are the last dim; `conj` turns the sign of the second's imaginary part.
fn complex_product(cx: &mut Cx<'_, '_>, conj: bool) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let mut parts = Vec::new();
    for i in 0..2 {
        let v = cx.input(i)?;
        let last = cx.want_rank(v, 1..=usize::MAX)? - 1;
        if !portwright_ir::graph::infer::may_be_equal(cx.g(), &cx.dim(v, last)?, &2.into()) {
            return Err(Fault::shape(format!("an input is {}, expected real and imaginary parts as last dim", cx.ty(v))));
        }
        parts.extend(cx.split(v, last, &[1.into(), 1.into()])?);
    }
    let &[ar, ai, br, bi] = parts.as_slice() else { return Err(Fault::shape("two inputs are expected")) };
    let bi = if conj { cx.un(UnaryOp::Neg, bi)? } else { bi };
    let (rr, ii) = (cx.bin(Mul, ar, br)?, cx.bin(Mul, ai, bi)?);
    let (ri, ir) = (cx.bin(Mul, ar, bi)?, cx.bin(Mul, ai, br)?);
    let (re, im) = (cx.bin(Sub, rr, ii)?, cx.bin(Add, ri, ir)?);
    let last = cx.rank(re) - 1;
    one(cx.concat(&[re, im], last)?)
}
fn complex_mul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    complex_product(cx, false)
}
fn complex_mul_conj(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    complex_product(cx, true)
}

/// Inserts a dim of 1.
fn expand_dims(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, axis) = (cx.input(0)?, cx.input(1)?);
    let axis = match cx.const_ints(axis, "the axis")?.as_slice() {
        &[a] => cx.axis_of(a, cx.rank(x) + 1)?,
        other => return Err(Fault::shape(format!("{} axes, expected one", other.len()))),
    };
    one(cx.unsqueeze(x, &[axis])?)
}

/// Whether no element of any input is infinite or NaN, or one of both alone.
fn is_all_finite(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (nan_only, inf_only) = (cx.flag("isnan_only", false)?, cx.flag("isinf_only", false)?);
    if nan_only && inf_only {
        return Err(Fault::attr("`isnan_only` and `isinf_only` are both 1"));
    }
    let mut good = None;
    for x in cx.all_inputs()? {
        let nan = cx.bin(BinaryOp::Ne, x, x)?;
        let size = cx.un(UnaryOp::Abs, x)?;
        let inf = cx.bin_c(BinaryOp::Eq, size, f64::INFINITY)?;
        let bad = match (nan_only, inf_only) {
            (true, _) => nan,
            (_, true) => inf,
            _ => cx.bin(BinaryOp::Or, nan, inf)?,
        };
        let axes: Vec<u32> = (0..cx.rank(bad) as u32).collect();
        let any = cx.reduce(ReduceOp::Any, bad, &axes, false)?;
        let none = cx.un(UnaryOp::Not, any)?;
        good = Some(match good {
            Some(g) => cx.bin(BinaryOp::And, g, none)?,
            None => none,
        });
    }
    one(good.ok_or_else(|| Fault::shape("no inputs"))?)
}

/// Products of 16-bit integers, summed in 32 bits.
fn matmul_integer16(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let sum = if cx.dtype(a) == DType::U16 && cx.dtype(b) == DType::U16 { DType::U32 } else { DType::I32 };
    let spec = matmul_spec(cx.rank(a), cx.rank(b), false, false)?;
    let (a, b) = (cx.cast(a, sum)?, cx.cast(b, sum)?);
    one(cx.contract(&spec, a, b)?)
}

/// Scores `[B,V]` with minus infinity for each token that would repeat an n-gram of `input_ids: [B,S]`.
fn no_repeats(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (ids, scores) = (cx.input(0)?, cx.input(1)?);
    cx.want_rank(ids, 2..=2)?;
    cx.want_rank(scores, 2..=2)?;
    let n = cx.need_int("ngram_size")?;
    if !(1..=1 << 10).contains(&n) {
        return Err(Fault::attr(format!("`ngram_size` is {n}, expected 1 to 1024")));
    }
    let steps = cx.dim(ids, 1)?;
    let starts = cx.max(&(steps.clone() - (n - 1)), &0.into());
    // A start repeats the end of the sequence if all tokens but the last do.
    let tail = cx.max(&(steps.clone() - (n - 1)), &0.into());
    let mut matches: Option<ValueId> = None;
    for t in 0..n - 1 {
        let inside = cx.slice_axis(ids, 1, t.into(), starts.clone(), 1)?;
        let at = cx.min(&(&tail + &t.into()), &(steps.clone() - 1));
        let own = cx.slice_axis(ids, 1, at, 1.into(), 1)?;
        let same = cx.bin(BinaryOp::Eq, inside, own)?;
        matches = Some(match matches {
            Some(m) => cx.bin(BinaryOp::And, m, same)?,
            None => same,
        });
    }
    let banned = cx.slice_axis(ids, 1, (n - 1).into(), starts.clone(), 1)?;
    let dtype = cx.dtype(scores);
    let (low, high) = (cx.scalar(dtype, f64::NEG_INFINITY)?, cx.scalar(dtype, f64::INFINITY)?);
    let updates = match matches {
        Some(m) => cx.select(m, low, high)?,
        None => low,
    };
    let dims = cx.dims(banned);
    let updates = cx.broadcast(updates, dims)?;
    one(cx.add(Op::ScatterElements { axis: 1, op: ScatterOp::Min }, &[scores, banned, updates])?)
}

/// Amounts may be a row.
fn pad(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let amounts = cx.input(1)?;
    let n = cx.ty(amounts).elems();
    let flat = cx.reshape(amounts, vec![n])?;
    cx.slots[1] = Slot::Value(flat);
    movement::pad(cx)
}

/// The step may be left out.
fn range(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    if cx.opt(2)?.is_none() {
        let start = cx.input(0)?;
        let step = cx.scalar(cx.dtype(start), 1.0)?;
        cx.slots.truncate(2);
        cx.slots.push(Slot::Value(step));
    }
    shape::range(cx)
}

/// Elements of a list in order of appearance, where each went, and how often each comes.
fn unique(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    cx.want_rank(x, 1..=1)?;
    let [y, _, places, counts] = gather::unique_of(cx, x, None, false)?;
    many([y, places, counts])
}
