// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reductions, running sums and order. Sums, means and products of floats are formed in f64 and rounded once.

use std::cmp::Ordering;

use super::tensor::{Tensor, count};
use super::walk::{Elems, View, split, walk};
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::op::{ArgOp, BinaryOp, ReduceOp};
use crate::numerics;

/// An accumulator of one reduction.
#[derive(Clone)]
pub(super) struct Acc {
    op: ReduceOp,
    dtype: DType,
    float: f64,
    int: i128,
    bits: u64,
}

impl Acc {
    /// The value for no element.
    pub fn new(op: ReduceOp, dtype: DType) -> Self {
        let one = op == ReduceOp::Prod;
        let bits = match op {
            ReduceOp::Max => numerics::lowest(dtype),
            ReduceOp::Min => numerics::highest(dtype),
            ReduceOp::All => 1,
            _ => 0,
        };
        Acc { op, dtype, float: f64::from(u8::from(one)), int: i128::from(one), bits }
    }
    /// Takes an element in.
    pub fn take(&mut self, e: u64) {
        match self.op {
            ReduceOp::Sum | ReduceOp::Mean if self.dtype.is_float() => self.float += numerics::decode_f64(self.dtype, e),
            ReduceOp::Prod if self.dtype.is_float() => self.float *= numerics::decode_f64(self.dtype, e),
            ReduceOp::Sum | ReduceOp::Mean => self.int = self.int.wrapping_add(numerics::int_from_bits(self.dtype, e)),
            ReduceOp::Prod => {
                // Wraps at each step: the exact product would leave any width.
                let p = self.int.wrapping_mul(numerics::int_from_bits(self.dtype, e));
                self.int = numerics::int_from_bits(self.dtype, numerics::int_to_bits(self.dtype, p));
            }
            ReduceOp::Max => self.bits = numerics::binary(BinaryOp::Max, self.dtype, self.bits, e),
            ReduceOp::Min => self.bits = numerics::binary(BinaryOp::Min, self.dtype, self.bits, e),
            ReduceOp::Any => self.bits |= e & 1,
            ReduceOp::All => self.bits &= e & 1,
        }
    }
    /// The result; `n` divides a mean.
    pub fn finish(&self, n: usize) -> u64 {
        match self.op {
            ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => self.bits,
            ReduceOp::Mean if self.dtype.is_float() => numerics::encode_f64(self.dtype, self.float / n as f64, false),
            ReduceOp::Mean => {
                let wide = if self.dtype == DType::U64 { DType::U64 } else { DType::I64 };
                let sum = numerics::int_from_bits(wide, numerics::int_to_bits(wide, self.int));
                numerics::int_to_bits(self.dtype, sum.checked_div(n as i128).unwrap_or(0))
            }
            _ if self.dtype.is_float() => numerics::encode_f64(self.dtype, self.float, false),
            _ => numerics::int_to_bits(self.dtype, self.int),
        }
    }
}

fn numbers(x: &Tensor) -> Result<(), Fault> {
    if x.dtype.is_float() || x.dtype.int_range().is_some() {
        return Ok(());
    }
    Err(Fault::new(Code::DTYPE_MISMATCH, format!("operand is {}, expected numbers", x.dtype)))
}

pub(super) fn reduce(x: &Tensor, op: ReduceOp, axes: &[u32], keep: bool) -> Run {
    numbers(x)?;
    let is_reduced = |i: usize| axes.contains(&(i as u32));
    let kept: Vec<usize> = x.dims.iter().enumerate().map(|(i, &d)| if is_reduced(i) { 1 } else { d }).collect();
    let n: usize = x.dims.iter().enumerate().filter(|(i, _)| is_reduced(*i)).map(|(_, &d)| d).product();
    let to = View::broadcast(&kept, &x.dims)?;
    let size = count(&kept).unwrap_or(0);
    let mut acc = vec![Acc::new(op, x.dtype); size];
    walk(&x.dims, [&to, &View::dense(&x.dims)], [size, x.len()], |[o, i]| acc[o].take(x.bits(i)))?;
    let dims = if keep { kept } else { x.dims.iter().enumerate().filter(|(i, _)| !is_reduced(*i)).map(|(_, &d)| d).collect() };
    Ok(Tensor::from_bits(x.dtype, dims, acc.iter().map(|a| a.finish(n))))
}

/// Order of two elements with NaN above all, as numpy sorts.
fn order(dtype: DType, a: u64, b: u64) -> Ordering {
    if !dtype.is_float() {
        return numerics::int_from_bits(dtype, a).cmp(&numerics::int_from_bits(dtype, b));
    }
    let (a, b) = (numerics::decode_f64(dtype, a), numerics::decode_f64(dtype, b));
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

pub(super) fn arg_reduce(x: &Tensor, op: ArgOp, axis: usize, keep: bool, last: bool) -> Run {
    numbers(x)?;
    let (outer, n, inner) = split(&x.dims, axis)?;
    if n == 0 && outer * inner > 0 {
        return Err(Fault::new(Code::RUN_FAILED, format!("dim {axis} is 0, so there is no extreme element")));
    }
    let mut out = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let at = |a: usize| x.bits((o * n + a) * inner + i);
            let mut best = 0;
            for a in 1..n {
                let (new, old) = (at(a), at(best));
                // A NaN is the extreme in both directions, the first one unless the last of equals is asked for.
                let order = match (numerics::is_nan(x.dtype, new), numerics::is_nan(x.dtype, old)) {
                    (true, true) => Ordering::Equal,
                    (true, false) => Ordering::Greater,
                    (false, true) => Ordering::Less,
                    _ if op == ArgOp::Max => order(x.dtype, new, old),
                    _ => order(x.dtype, old, new),
                };
                if order == Ordering::Greater || last && order == Ordering::Equal {
                    best = a;
                }
            }
            out.push(best as i64);
        }
    }
    let mut dims = x.dims.clone();
    if keep {
        dims[axis] = 1;
    } else {
        dims.remove(axis);
    }
    Ok(Tensor::from_i64(dims, &out))
}

pub(super) fn scan(x: &Tensor, op: ReduceOp, axis: usize, exclusive: bool, reverse: bool) -> Run {
    numbers(x)?;
    if !matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
        return Err(Fault::new(Code::BAD_ATTRIBUTE, format!("`op` is {}, expected sum or prod", op.name())));
    }
    let (outer, n, inner) = split(&x.dims, axis)?;
    let mut out = vec![0u64; x.len()];
    for o in 0..outer {
        for i in 0..inner {
            let mut acc = Acc::new(op, x.dtype);
            for a in 0..n {
                let at = (o * n + if reverse { n - 1 - a } else { a }) * inner + i;
                if exclusive {
                    out[at] = acc.finish(1);
                    acc.take(x.bits(at));
                } else {
                    acc.take(x.bits(at));
                    out[at] = acc.finish(1);
                }
            }
        }
    }
    Ok(Tensor::from_bits(x.dtype, x.dims.clone(), out))
}

pub(super) fn top_k(x: &Tensor, axis: usize, k: i64, largest: bool) -> Result<Vec<Tensor>, Fault> {
    numbers(x)?;
    let (outer, n, inner) = split(&x.dims, axis)?;
    let k = usize::try_from(k).ok().filter(|&k| k <= n);
    let k = k.ok_or_else(|| Fault::new(Code::RUN_FAILED, format!("k is outside 0..={n}, the size of dim {axis}")))?;
    let mut dims = x.dims.clone();
    dims[axis] = k;
    let src = Elems::of(x);
    let mut values = Elems::zeros(x.dtype, outer * k * inner);
    let mut found = vec![0i64; outer * k * inner];
    for o in 0..outer {
        for i in 0..inner {
            let at = |a: usize| (o * n + a) * inner + i;
            let mut all: Vec<usize> = (0..n).collect();
            // Stable, so equals keep index order.
            all.sort_by(|&a, &b| match order(x.dtype, x.bits(at(a)), x.bits(at(b))) {
                r if largest => r.reverse(),
                r => r,
            });
            for (j, &a) in all.iter().take(k).enumerate() {
                let to = (o * k + j) * inner + i;
                values.put(to, &src, at(a));
                found[to] = a as i64;
            }
        }
    }
    Ok(vec![values.tensor(dims.clone()), Tensor::from_i64(dims, &found)])
}
