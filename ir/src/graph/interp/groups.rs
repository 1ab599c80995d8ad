// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows in groups: sorting by group, and products whose right operand is the group's.

use super::tensor::Tensor;
use super::{Fault, Run};
use crate::diag::Code;
use crate::numerics;

/// `group_rows`: `(order, places, starts)`.
pub(super) fn rows(group: &Tensor, groups: i64) -> Result<Vec<Tensor>, Fault> {
    let count = usize::try_from(groups).map_err(|_| Fault::new(Code::BAD_ATTRIBUTE, format!("{groups} groups")))?;
    let mut of = Vec::with_capacity(group.len());
    for (i, bits) in group.all_bits().enumerate() {
        let e = numerics::int_from_bits(group.dtype, bits);
        let fits = usize::try_from(e).ok().filter(|&e| e < count);
        of.push(fits.ok_or_else(|| Fault::new(Code::RUN_FAILED, format!("row {i} is of group {e}, outside 0..{count}")))?);
    }
    let mut starts = vec![0i64; count];
    let mut order: Vec<usize> = (0..of.len()).collect();
    // Stable: the rows of one group keep their order.
    order.sort_by_key(|&r| of[r]);
    let mut places = vec![0i64; of.len()];
    for (i, &r) in order.iter().enumerate() {
        places[r] = i as i64;
    }
    let mut sizes = vec![0i64; count];
    of.iter().for_each(|&e| sizes[e] += 1);
    for e in 1..count {
        starts[e] = starts[e - 1] + sizes[e - 1];
    }
    let order: Vec<i64> = order.into_iter().map(|r| r as i64).collect();
    let n = of.len();
    Ok(vec![Tensor::from_i64(vec![n], &order), Tensor::from_i64(vec![n], &places), Tensor::from_i64(vec![count], &starts)])
}

/// `(x, right operands.., starts)`: `one` multiplies the rows of a group by its part of each right operand; results are joined.
pub(super) fn each(operands: &[&Tensor], one: &dyn Fn(&[&Tensor]) -> Run) -> Run {
    let [x, right @ .., starts] = operands else { return Err(Fault::new(Code::BAD_ARITY, "operands are missing")) };
    let (rows, groups) = (x.dims.first().copied().unwrap_or(0), starts.len());
    let mut parts = Vec::with_capacity(groups);
    let mut from = 0;
    for e in 0..groups {
        let at = |e: usize| usize::try_from(numerics::int_from_bits(starts.dtype, starts.bits(e))).ok();
        let end = if e + 1 == groups { Some(rows) } else { at(e + 1) };
        let end = end.filter(|&end| from <= end && end <= rows);
        let end = end.ok_or_else(|| Fault::new(Code::RUN_FAILED, format!("group {} begins outside of {from}..={rows}", e + 1)))?;
        // An empty group still says what the result's dims are.
        let own: Vec<Tensor> = std::iter::once(cut(x, from, end)).chain(right.iter().map(|w| at_first(w, e))).collect();
        parts.push(one(&own.iter().collect::<Vec<_>>())?);
        from = end;
    }
    super::movement::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

/// Rows `from..to`.
fn cut(x: &Tensor, from: usize, to: usize) -> Tensor {
    let row: usize = x.dims.iter().skip(1).product();
    let mut dims = x.dims.clone();
    if let Some(d) = dims.first_mut() {
        *d = to - from;
    }
    Tensor::from_bits(x.dtype, dims, (from * row..to * row).map(|i| x.bits(i)))
}

/// The part of a tensor at that coordinate of its first dim.
fn at_first(x: &Tensor, e: usize) -> Tensor {
    let one = cut(x, e, e + 1);
    Tensor::from_bits(x.dtype, one.dims.iter().skip(1).copied().collect(), one.all_bits())
}
