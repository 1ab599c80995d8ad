// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Walks over index spaces: the one way in which ops address elements.

use super::Fault;
use super::tensor::{Tensor, count};
use crate::diag::Code;
use crate::dtype::DType;
use crate::numerics;

/// Row-major strides in elements.
pub(super) fn strides(dims: &[usize]) -> Vec<isize> {
    let mut out = vec![1isize; dims.len()];
    for i in (1..dims.len()).rev() {
        out[i - 1] = out[i].saturating_mul(dims[i].max(1) as isize);
    }
    out
}

/// Strides with which a tensor of `from` is read as if it had dims `to` (numpy broadcasting); `None` if it does not broadcast.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Option<Vec<isize>> {
    let lead = to.len().checked_sub(from.len())?;
    let own = strides(from);
    let mut out = vec![0; to.len()];
    for (i, &d) in from.iter().enumerate() {
        match d {
            d if d == to[lead + i] => out[lead + i] = own[i],
            1 => {}
            _ => return None,
        }
    }
    Some(out)
}

/// Dims to which all operands broadcast.
pub(super) fn broadcast_dims(parts: &[&[usize]]) -> Result<Vec<usize>, Fault> {
    let rank = parts.iter().map(|p| p.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for p in parts {
        for (i, &d) in p.iter().rev().enumerate() {
            let o = &mut out[rank - 1 - i];
            if *o == 1 {
                *o = d;
            } else if d != 1 && d != *o {
                return Err(Fault::new(
                    Code::SHAPE_MISMATCH,
                    format!("dims {p:?} do not broadcast with dim {o} (axis {} from the end)", i + 1),
                ));
            }
        }
    }
    Ok(out)
}

/// Where one operand of a walk begins and how far it steps along each dim, in elements.
#[derive(Clone)]
pub(super) struct View {
    pub base: isize,
    pub strides: Vec<isize>,
}

impl View {
    /// The whole of a row-major tensor.
    pub fn dense(dims: &[usize]) -> Self {
        View { base: 0, strides: strides(dims) }
    }
    /// A tensor of dims `from` read as if it had dims `to`.
    pub fn broadcast(from: &[usize], to: &[usize]) -> Result<Self, Fault> {
        let strides = broadcast_strides(from, to)
            .ok_or_else(|| Fault::new(Code::SHAPE_MISMATCH, format!("dims {from:?} do not broadcast to {to:?}")))?;
        Ok(View { base: 0, strides })
    }
    /// Whether every offset that a walk over `dims` takes lies in `0..len`.
    fn fits(&self, dims: &[usize], len: usize) -> bool {
        let (mut lo, mut hi) = (self.base as i128, self.base as i128);
        for (&d, &s) in dims.iter().zip(&self.strides) {
            let reach = (d as i128 - 1) * s as i128;
            lo += reach.min(0);
            hi += reach.max(0);
        }
        dims.contains(&0) || lo >= 0 && hi < len as i128
    }
    fn check(&self, dims: &[usize], len: usize) -> Result<(), Fault> {
        if self.strides.len() == dims.len() && self.fits(dims, len) {
            return Ok(());
        }
        Err(Fault::new(Code::SHAPE_MISMATCH, format!("reads or writes outside a tensor of {len} elements")))
    }
}

/// Calls `row(offsets, n)` for each innermost row of `dims` in row-major order: its `n` elements lie at `offsets[k] + i * step[k]`, where
/// `step[k]` is the last stride of view `k` (0 for a scalar).
fn rows<const K: usize>(dims: &[usize], views: [&View; K], mut row: impl FnMut([isize; K], usize)) {
    if dims.contains(&0) {
        return;
    }
    let mut at: [isize; K] = std::array::from_fn(|k| views[k].base);
    let Some((&n, outer)) = dims.split_last() else { return row(at, 1) };
    let mut index = vec![0usize; outer.len()];
    loop {
        row(at, n);
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            (0..K).for_each(|k| at[k] += views[k].strides[axis]);
            if index[axis] < outer[axis] {
                break;
            }
            index[axis] = 0;
            (0..K).for_each(|k| at[k] -= views[k].strides[axis] * outer[axis] as isize);
        }
    }
}

fn last_steps<const K: usize>(views: [&View; K]) -> [isize; K] {
    std::array::from_fn(|k| views[k].strides.last().copied().unwrap_or(0))
}

/// Calls `f` with the offsets of each element of `dims`, in row-major order. `lens` are the sizes of what the views address.
pub(super) fn walk<const K: usize>(
    dims: &[usize],
    views: [&View; K],
    lens: [usize; K],
    mut f: impl FnMut([usize; K]),
) -> Result<(), Fault> {
    for k in 0..K {
        views[k].check(dims, lens[k])?;
    }
    let step = last_steps(views);
    rows(dims, views, |mut at, n| {
        for _ in 0..n {
            f(at.map(|o| o as usize));
            (0..K).for_each(|k| at[k] += step[k]);
        }
    });
    Ok(())
}

/// Elements of any dtype, one or more whole bytes each, for ops that only move them.
pub(super) struct Elems {
    pub bytes: Vec<u8>,
    pub width: usize,
    dtype: DType,
}

impl Elems {
    /// Copies a tensor out, one byte for each element under a byte.
    pub fn of(t: &Tensor) -> Self {
        Elems { bytes: numerics::unpack(t.bytes(), t.dtype, t.len()), width: width(t.dtype), dtype: t.dtype }
    }
    /// `n` elements of zeros.
    pub fn zeros(dtype: DType, n: usize) -> Self {
        Elems { bytes: vec![0; n * width(dtype)], width: width(dtype), dtype }
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }
    /// The tensor of these elements.
    pub fn tensor(self, dims: Vec<usize>) -> Tensor {
        Tensor::made(self.dtype, dims, numerics::pack(self.bytes, self.dtype))
    }
    /// Copies element `from` of `src` to position `to`; both must be inside.
    pub fn put(&mut self, to: usize, src: &Elems, from: usize) {
        let w = self.width;
        self.bytes[to * w..(to + 1) * w].copy_from_slice(&src.bytes[from * w..(from + 1) * w]);
    }
    /// Copies `n` consecutive elements; both ranges must be inside.
    pub fn put_run(&mut self, to: usize, src: &Elems, from: usize, n: usize) {
        let w = self.width;
        self.bytes[to * w..(to + n) * w].copy_from_slice(&src.bytes[from * w..(from + n) * w]);
    }
    /// Sets all elements to element 0 of `src`.
    pub fn fill(&mut self, src: &Elems) {
        for i in 0..self.len() {
            self.put(i, src, 0);
        }
    }
    /// Copies a walk over `dims` from one view to another.
    pub fn copy(&mut self, dims: &[usize], to: &View, src: &Elems, from: &View) -> Result<(), Fault> {
        to.check(dims, self.len())?;
        from.check(dims, src.len())?;
        let step = last_steps([to, from]);
        rows(dims, [to, from], |[mut o, mut i], n| {
            if step == [1, 1] {
                self.put_run(o as usize, src, i as usize, n);
            } else {
                for _ in 0..n {
                    self.put(o as usize, src, i as usize);
                    o += step[0];
                    i += step[1];
                }
            }
        });
        Ok(())
    }
}

fn width(dtype: DType) -> usize {
    dtype.bytes().unwrap_or(1) as usize
}

/// Dims split at an axis: product before, the dim, product after.
pub(super) fn split(dims: &[usize], axis: usize) -> Result<(usize, usize, usize), Fault> {
    let bad = || Fault::new(Code::BAD_ATTRIBUTE, format!("axis is {axis}, expected less than the rank {}", dims.len()));
    let n = *dims.get(axis).ok_or_else(bad)?;
    let product = |d: &[usize]| count(d).ok_or_else(|| Fault::new(Code::SIZE_OVERFLOW, "a size leaves the range".to_owned()));
    Ok((product(&dims[..axis])?, n, product(&dims[axis + 1..])?))
}
