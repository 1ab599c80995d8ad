// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ops that only move elements.

use super::tensor::{Tensor, count};
use super::walk::{Elems, View, split, strides};
use super::{Fault, Run};
use crate::diag::Code;
use crate::graph::op::PadMode;

fn elems(dims: &[usize]) -> Result<usize, Fault> {
    count(dims).ok_or_else(|| Fault::new(Code::SIZE_OVERFLOW, format!("dims {dims:?} leave the range of sizes")))
}

pub(super) fn reshape(x: &Tensor, dims: Vec<usize>) -> Run {
    let m = format!("{} elements do not fit dims {dims:?}", x.len());
    x.reshaped(dims).ok_or_else(|| Fault::new(Code::SHAPE_MISMATCH, m))
}

pub(super) fn transpose(x: &Tensor, perm: &[u32]) -> Run {
    let own = strides(&x.dims);
    let bad = || Fault::new(Code::BAD_ATTRIBUTE, format!("perm {perm:?} does not fit rank {}", x.rank()));
    let at = |p: &u32| -> Option<(usize, isize)> { Some((*x.dims.get(*p as usize)?, own[*p as usize])) };
    let picked: Vec<(usize, isize)> = perm.iter().map(at).collect::<Option<_>>().filter(|_| perm.len() == x.rank()).ok_or_else(bad)?;
    let (dims, strides): (Vec<usize>, Vec<isize>) = picked.into_iter().unzip();
    if elems(&dims)? != x.len() {
        return Err(bad());
    }
    gathered(x, dims, &View { base: 0, strides })
}

/// The tensor that a view of `x` reads.
fn gathered(x: &Tensor, dims: Vec<usize>, from: &View) -> Run {
    let mut out = Elems::zeros(x.dtype, elems(&dims)?);
    out.copy(&dims, &View::dense(&dims), &Elems::of(x), from)?;
    Ok(out.tensor(dims))
}

pub(super) fn broadcast(x: &Tensor, dims: Vec<usize>) -> Run {
    let from = View::broadcast(&x.dims, &dims)?;
    gathered(x, dims, &from)
}

pub(super) fn slice(x: &Tensor, starts: &[i64], steps: &[i64], dims: Vec<usize>) -> Run {
    let mut from = View::dense(&x.dims);
    for (i, (&start, &step)) in starts.iter().zip(steps).enumerate() {
        let (Some(stride), Some(&size), Some(&n)) = (from.strides.get_mut(i), x.dims.get(i), dims.get(i)) else {
            return Err(Fault::new(Code::BAD_ATTRIBUTE, "starts, steps and dims do not fit the rank".to_owned()));
        };
        let last = i128::from(start) + i128::from(step) * (n as i128 - 1);
        let inside = |at: i128| (0..size as i128).contains(&at);
        if elems(&dims)? > 0 && !(inside(start.into()) && inside(last)) {
            let m = format!("dim {i}: elements {start} to {last} of a dim of {size}");
            return Err(Fault::new(Code::BAD_DIM, m));
        }
        from.base = from.base.saturating_add((start as isize).saturating_mul(*stride));
        *stride = stride.saturating_mul(step as isize);
    }
    gathered(x, dims, &from)
}

pub(super) fn concat(parts: &[&Tensor], axis: usize) -> Run {
    let Some(first) = parts.first() else { return Err(Fault::new(Code::BAD_ARITY, "nothing to join".to_owned())) };
    let (outer, _, inner) = split(&first.dims, axis)?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for p in parts {
        let same = p.rank() == dims.len() && p.dims.iter().zip(&first.dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !same || p.dtype != first.dtype {
            let m = format!("{}{:?} does not join {}{:?} along axis {axis}", p.dtype, p.dims, first.dtype, first.dims);
            return Err(Fault::new(Code::SHAPE_MISMATCH, m));
        }
        dims[axis] = dims[axis].saturating_add(p.dims[axis]);
    }
    let total = dims[axis];
    let mut out = Elems::zeros(first.dtype, elems(&dims)?);
    let mut at = 0;
    for p in parts {
        let run = p.dims[axis] * inner;
        let src = Elems::of(p);
        for o in 0..outer {
            out.put_run((o * total + at) * inner, &src, o * run, run);
        }
        at += p.dims[axis];
    }
    Ok(out.tensor(dims))
}

pub(super) fn pad(x: &Tensor, value: Option<&Tensor>, mode: PadMode, low: &[i64], high: &[i64], interior: &[i64]) -> Run {
    let rank = x.rank();
    if low.len() != rank || high.len() != rank || interior.len() != rank {
        return Err(Fault::new(Code::BAD_ATTRIBUTE, "low, high and interior do not fit the rank".to_owned()));
    }
    let mut dims = Vec::with_capacity(rank);
    for i in 0..rank {
        let gaps = i128::from(interior[i]) * (x.dims[i] as i128 - 1).max(0);
        let d = x.dims[i] as i128 + gaps + i128::from(low[i]) + i128::from(high[i]);
        dims.push(usize::try_from(d).map_err(|_| Fault::new(Code::BAD_DIM, format!("dim {i} of the result is {d}, expected 0 or more")))?);
    }
    let n = elems(&dims)?;
    let src = Elems::of(x);
    let mut out = Elems::zeros(x.dtype, n);
    if mode == PadMode::Constant {
        let value = value.filter(|v| v.dtype == x.dtype && v.len() == 1);
        let value = value.ok_or_else(|| Fault::new(Code::DTYPE_MISMATCH, format!("the value is no {} scalar", x.dtype)))?;
        out.fill(&Elems::of(value));
        // The source elements that are not cropped are a slice; they go to a strided view of the result.
        let (mut from, mut to, mut part) = (View::dense(&x.dims), View::dense(&dims), Vec::with_capacity(rank));
        for i in 0..rank {
            let step = i128::from(interior[i]) + 1;
            let taken = |room: i128| (room.max(0) + step - 1) / step;
            let first = taken(-i128::from(low[i]));
            let end = taken(dims[i] as i128 - i128::from(low[i])).min(x.dims[i] as i128);
            part.push((end - first).max(0) as usize);
            from.base += first.min(x.dims[i] as i128) as isize * from.strides[i];
            to.base += (first * step + i128::from(low[i])).clamp(0, dims[i] as i128) as isize * to.strides[i];
            to.strides[i] *= step as isize;
        }
        out.copy(&part, &to, &src, &from)?;
        return Ok(out.tensor(dims));
    }
    // Other modes read each result element from the source dim by dim.
    let mut index: Vec<Vec<usize>> = Vec::with_capacity(rank);
    for i in 0..rank {
        if x.dims[i] == 0 && n > 0 {
            return Err(Fault::new(Code::BAD_DIM, format!("dim {i} is 0: there is nothing to pad with")));
        }
        index.push((0..dims[i]).map(|o| source(mode, o as i128 - i128::from(low[i]), x.dims[i].max(1) as i128)).collect());
    }
    let own = strides(&x.dims);
    each_index(&dims, |at, o| {
        let from: usize = at.iter().enumerate().map(|(i, &c)| index[i][c] * own[i] as usize).sum();
        out.put(o, &src, from);
    });
    Ok(out.tensor(dims))
}

/// The position in `0..n` that position `i` shows.
fn source(mode: PadMode, i: i128, n: i128) -> usize {
    (match mode {
        PadMode::Constant | PadMode::Edge => i.clamp(0, n - 1),
        PadMode::Wrap => i.rem_euclid(n),
        PadMode::Reflect if n == 1 => 0,
        PadMode::Reflect => {
            let period = 2 * (n - 1);
            let r = i.rem_euclid(period);
            r.min(period - r)
        }
    }) as usize
}

/// Calls `f` with each index of `dims` and its row-major position.
pub(super) fn each_index(dims: &[usize], mut f: impl FnMut(&[usize], usize)) {
    let n = count(dims).unwrap_or(0);
    let mut at = vec![0usize; dims.len()];
    for i in 0..n {
        f(&at, i);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
}
