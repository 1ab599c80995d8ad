// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gathers, scatters and indices that depend on data. An index outside its dim fails the run.

use super::movement::each_index;
use super::tensor::{Tensor, count};
use super::walk::{Elems, split, strides};
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::op::{BinaryOp, ScatterOp};
use crate::numerics;

/// Position in `0..n` of an index, negative ones from the end.
fn resolve(i: i64, n: usize) -> Result<usize, Fault> {
    let size = n as i64;
    let at = if i < 0 { i.checked_add(size).unwrap_or(-1) } else { i };
    if at >= 0 && at < size { Ok(at as usize) } else { Err(Fault::new(Code::RUN_FAILED, format!("index {i} is outside a dim of {n}"))) }
}

fn shape(what: &str) -> Fault {
    Fault::new(Code::SHAPE_MISMATCH, format!("{what} do not fit together"))
}
fn indices(i: &Tensor) -> Result<Vec<i64>, Fault> {
    if !i.dtype.is_int() {
        return Err(Fault::new(Code::DTYPE_MISMATCH, format!("indices are {}, expected integers", i.dtype)));
    }
    // A u64 beyond i64 would wrap to a negative index.
    let big = i.dtype == DType::U64 && i.all_bits().any(|b| b > i64::MAX as u64);
    if big { Err(Fault::new(Code::RUN_FAILED, "an index is beyond 2^63".to_owned())) } else { Ok(i.to_i64()) }
}
fn zeros(dtype: DType, dims: &[usize]) -> Result<Elems, Fault> {
    let n = count(dims).ok_or_else(|| Fault::new(Code::SIZE_OVERFLOW, format!("dims {dims:?} leave the range of sizes")))?;
    Ok(Elems::zeros(dtype, n))
}

pub(super) fn gather(x: &Tensor, i: &Tensor, axis: usize) -> Run {
    let (outer, n, inner) = split(&x.dims, axis)?;
    let dims = [&x.dims[..axis], &i.dims, &x.dims[axis + 1..]].concat();
    if outer * inner == 0 {
        return Ok(zeros(x.dtype, &dims)?.tensor(dims));
    }
    let at: Vec<usize> = indices(i)?.into_iter().map(|i| resolve(i, n)).collect::<Result<_, _>>()?;
    let src = Elems::of(x);
    let mut out = zeros(x.dtype, &dims)?;
    for o in 0..outer {
        for (j, &a) in at.iter().enumerate() {
            out.put_run((o * at.len() + j) * inner, &src, (o * n + a) * inner, inner);
        }
    }
    Ok(out.tensor(dims))
}

/// Checks that all dims of `i` but that of `axis` are at most those of `x`.
fn elements_fit(x: &Tensor, i: &Tensor, axis: usize) -> Result<usize, Fault> {
    let fits = x.rank() == i.rank() && x.dims.iter().zip(&i.dims).enumerate().all(|(d, (a, b))| d == axis || b <= a);
    if fits { x.dims.get(axis).copied().ok_or_else(|| shape("axis and rank")) } else { Err(shape("indices and operand")) }
}

pub(super) fn gather_elements(x: &Tensor, i: &Tensor, axis: usize) -> Run {
    let n = elements_fit(x, i, axis)?;
    let at: Vec<usize> = indices(i)?.into_iter().map(|i| resolve(i, n)).collect::<Result<_, _>>()?;
    let own = strides(&x.dims);
    let src = Elems::of(x);
    let mut out = zeros(x.dtype, &i.dims)?;
    each_index(&i.dims, |c, o| {
        let from: usize = c.iter().enumerate().map(|(d, &c)| own[d] as usize * if d == axis { at[o] } else { c }).sum();
        out.put(o, &src, from);
    });
    Ok(out.tensor(i.dims.clone()))
}

/// Positions of the slices that index tuples name: `dims` are indexed by tuples of `k`, slices have `run` elements.
fn slices(tuples: &[i64], k: usize, dims: &[usize], run: usize) -> Result<Vec<usize>, Fault> {
    let own = strides(dims);
    let one = |t: &[i64]| -> Result<usize, Fault> {
        t.iter().enumerate().try_fold(0, |at, (d, &i)| Ok(at + resolve(i, dims[d])? * own[d] as usize * run))
    };
    tuples.chunks_exact(k).map(one).collect()
}

/// Tuple length of an index operand whose tuples index the dims of `x` after `batch`.
fn tuple_len(x: &Tensor, i: &Tensor, batch: usize) -> Result<usize, Fault> {
    let k = i.dims.last().copied().filter(|&k| k >= 1 && batch < i.rank() && batch + k <= x.rank());
    let k = k.ok_or_else(|| shape("index tuples and operand"))?;
    if x.dims[..batch] == i.dims[..batch] { Ok(k) } else { Err(shape("batch dims")) }
}

pub(super) fn gather_nd(x: &Tensor, i: &Tensor, batch: usize) -> Run {
    let k = tuple_len(x, i, batch)?;
    let (batches, per_batch) = (count(&x.dims[..batch]).unwrap_or(0), count(&x.dims[batch..]).unwrap_or(0));
    let run = count(&x.dims[batch + k..]).unwrap_or(0);
    let tuples = count(&i.dims[batch..i.rank() - 1]).unwrap_or(0);
    let dims = [&i.dims[..i.rank() - 1], &x.dims[batch + k..]].concat();
    let at = slices(&indices(i)?, k, &x.dims[batch..batch + k], run)?;
    let src = Elems::of(x);
    let mut out = zeros(x.dtype, &dims)?;
    if out.len() != batches * tuples * run {
        return Err(shape("indices and result"));
    }
    for (j, &a) in at.iter().enumerate() {
        out.put_run(j * run, &src, j / tuples * per_batch + a, run);
    }
    Ok(out.tensor(dims))
}

/// What an update does to the element that is there.
fn combine(out: &mut Elems, to: usize, u: &Elems, from: usize, dtype: DType, op: ScatterOp) {
    let op = match op {
        ScatterOp::Set => return out.put(to, u, from),
        ScatterOp::Add => BinaryOp::Add,
        ScatterOp::Mul => BinaryOp::Mul,
        ScatterOp::Min => BinaryOp::Min,
        ScatterOp::Max => BinaryOp::Max,
    };
    let bits = |e: &Elems, i: usize| {
        let mut w = [0u8; 8];
        w[..e.width].copy_from_slice(&e.bytes[i * e.width..(i + 1) * e.width]);
        u64::from_le_bytes(w)
    };
    let r = numerics::binary(op, dtype, bits(out, to), bits(u, from)).to_le_bytes();
    let w = out.width;
    out.bytes[to * w..(to + 1) * w].copy_from_slice(&r[..w]);
}

fn scatter_dtypes(x: &Tensor, u: &Tensor, op: ScatterOp) -> Result<(), Fault> {
    if x.dtype != u.dtype || op != ScatterOp::Set && x.dtype == DType::C128 {
        return Err(Fault::new(Code::DTYPE_MISMATCH, format!("updates of {} to {} by `{}`", u.dtype, x.dtype, op.name())));
    }
    Ok(())
}

pub(super) fn scatter_elements(x: &Tensor, i: &Tensor, u: &Tensor, axis: usize, op: ScatterOp) -> Run {
    scatter_dtypes(x, u, op)?;
    let n = elements_fit(x, i, axis)?;
    if u.dims != i.dims {
        return Err(shape("updates and indices"));
    }
    let at: Vec<usize> = indices(i)?.into_iter().map(|i| resolve(i, n)).collect::<Result<_, _>>()?;
    let own = strides(&x.dims);
    let (mut out, src) = (Elems::of(x), Elems::of(u));
    each_index(&i.dims, |c, j| {
        let to: usize = c.iter().enumerate().map(|(d, &c)| own[d] as usize * if d == axis { at[j] } else { c }).sum();
        combine(&mut out, to, &src, j, x.dtype, op);
    });
    Ok(out.tensor(x.dims.clone()))
}

pub(super) fn scatter_nd(x: &Tensor, i: &Tensor, u: &Tensor, op: ScatterOp) -> Run {
    scatter_dtypes(x, u, op)?;
    let k = tuple_len(x, i, 0)?;
    let run = count(&x.dims[k..]).unwrap_or(0);
    if u.dims != [&i.dims[..i.rank() - 1], &x.dims[k..]].concat() {
        return Err(shape("updates and indices"));
    }
    let at = slices(&indices(i)?, k, &x.dims[..k], run)?;
    let (mut out, src) = (Elems::of(x), Elems::of(u));
    for (j, &a) in at.iter().enumerate() {
        for e in 0..run {
            combine(&mut out, a + e, &src, j * run + e, x.dtype, op);
        }
    }
    Ok(out.tensor(x.dims.clone()))
}

/// Whether an element is not zero (NaN is not zero).
fn is_set(t: &Tensor, i: usize) -> bool {
    match t.dtype {
        DType::C128 => (0..2).any(|p| f64::from_bits(numerics::get(t.bytes(), DType::F64, 2 * i + p)) != 0.0),
        DType::C64 => (0..2).any(|p| f32::from_bits(numerics::get(t.bytes(), DType::F32, 2 * i + p) as u32) != 0.0),
        d => numerics::cast(t.bits(i), d, DType::Bool, false) != 0,
    }
}

pub(super) fn non_zero(x: &Tensor) -> Run {
    let (mut columns, mut found) = (vec![Vec::new(); x.rank()], 0);
    each_index(&x.dims, |c, i| {
        if is_set(x, i) {
            columns.iter_mut().zip(c).for_each(|(col, &c)| col.push(c as i64));
            found += 1;
        }
    });
    Ok(Tensor::from_i64(vec![x.rank(), found], &columns.concat()))
}
