// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of ops that only move elements.

use super::{Cx, MAX_ELEMS, Types};
use crate::diag::Code;
use crate::graph::{Dims, PadMode, TensorType, TypeFault};
use crate::sym::{SymExpr, product};

impl Cx<'_> {
    pub(super) fn reshape(&mut self, dims: &Dims) -> Types {
        self.arity(1, 1)?;
        let t = self.operands[0];
        if t.dims != *dims {
            let (from, to) = (product(&t.dims), product(dims));
            let empty = |d: &[SymExpr]| d.iter().any(|d| d.is(0));
            if (from.is_overflowed() || to.is_overflowed()) && !(empty(&t.dims) && empty(dims)) {
                return Err(self.fail(Code::SIZE_OVERFLOW, "the number of elements leaves the range of 64-bit integers"));
            }
            self.equal(&from, &to, || format!("elements of operand 0 and of {}", TensorType::new(t.dtype, dims.clone())))?;
        }
        Ok(vec![TensorType::new(t.dtype, dims.clone())])
    }

    pub(super) fn transpose(&mut self, perm: &[u32]) -> Types {
        self.arity(1, 1)?;
        let t = self.operands[0];
        let mut seen = vec![false; t.rank()];
        let valid = perm.len() == t.rank() && perm.iter().all(|&p| seen.get_mut(p as usize).is_some_and(|s| !std::mem::replace(s, true)));
        if !valid {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("perm is {perm:?}, expected a permutation of 0..{}", t.rank())));
        }
        Ok(vec![TensorType::new(t.dtype, perm.iter().map(|&p| t.dims[p as usize].clone()).collect::<Dims>())])
    }

    pub(super) fn broadcast(&mut self, dims: &Dims) -> Types {
        self.arity(1, 1)?;
        let t = self.operands[0];
        self.broadcasts_to(&t.dims, dims, "operand 0")?;
        Ok(vec![TensorType::new(t.dtype, dims.clone())])
    }

    pub(super) fn slice(&mut self, starts: &Dims, steps: &[i64], dims: &Dims) -> Types {
        self.arity(1, 1)?;
        let t = self.operands[0];
        self.len("starts", starts.len(), t.rank())?;
        self.len("steps", steps.len(), t.rank())?;
        self.len("dims", dims.len(), t.rank())?;
        self.offsets(t, 0, steps)?;
        for i in 0..t.rank() {
            if steps[i] == 0 {
                return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`steps` has 0 at dim {i}, expected another number")));
            }
            self.slice_of(&t.dims[i], &starts[i], steps[i], &dims[i], i)?;
        }
        Ok(vec![TensorType::new(t.dtype, dims.clone())])
    }

    /// Checks that `n` elements from `first` on, `step` apart, lie in a dim of `d`.
    fn slice_of(&mut self, d: &SymExpr, first: &SymExpr, step: i64, n: &SymExpr, i: usize) -> Result<(), TypeFault> {
        // A size below 0 is reported with the other sizes.
        if self.graph.bounds(n).1 < 1 || (n == d && step == 1 && first.is(0)) {
            return Ok(());
        }
        let last = first + &((n.clone() - 1) * step);
        let (zero, lacks) = (SymExpr::from(0), |cx: &Self, at: &SymExpr| cx.graph.bounds(at).1 < 0 || cx.graph.bounds(&(at - d)).0 >= 0);
        for (what, at) in [("first", first), ("last", &last)] {
            if at.is_overflowed() || lacks(self, at) {
                if self.graph.bounds(n).0 < 1 && !at.is_overflowed() {
                    // It must be empty.
                    self.equal(n, &zero, || format!("elements of dim {i}"))?;
                    return Ok(());
                }
                let m = format!("dim {i}: the {what} element is at {at}, expected 0 to less than {d}");
                return Err(self.fail(Code::BAD_DIM, m));
            }
        }
        // Without elements the last one stands a step before the first: these conditions hold for any start in the dim.
        let what = |w: &str| format!("{w} of dim {i}");
        if step > 0 {
            self.at_most(&zero, first, || what("0 before the first element"))?;
            return self.at_most(&(last + 1), d, || what("the end"));
        }
        self.at_most(&zero, &last, || what("0 before the last element"))?;
        self.at_most(first, &(d.clone() - 1).maximum(&zero), || what("the first element"))?;
        self.at_most(n, d, || what("elements"))
    }

    pub(super) fn pad(&mut self, mode: PadMode, low: &Dims, high: &Dims, interior: &[i64]) -> Types {
        let operands = if mode == PadMode::Constant { 2 } else { 1 };
        self.arity(operands, operands)?;
        let t = self.operands[0];
        if mode == PadMode::Constant {
            self.want_scalar(1, t.dtype)?;
        }
        self.len("low", low.len(), t.rank())?;
        self.len("high", high.len(), t.rank())?;
        self.len("interior", interior.len(), t.rank())?;
        let mut dims = Dims::with_capacity(t.rank());
        for p in low.iter().chain(high) {
            let (least, most) = self.graph.bounds(p);
            if p.is_overflowed() || least > MAX_ELEMS || most < -MAX_ELEMS {
                return Err(self.fail(Code::BAD_ATTRIBUTE, format!("padding of {p}, expected at most 2^48 elements")));
            }
        }
        self.reach("interior", interior, 0)?;
        for (i, d) in t.dims.iter().enumerate() {
            if interior[i] > 0 && mode != PadMode::Constant {
                let m = format!("`interior` has {} at dim {i}, expected 0 in mode {}", interior[i], mode.name());
                return Err(self.fail(Code::BAD_ATTRIBUTE, m));
            }
            let mut size = d + &(&low[i] + &high[i]);
            if interior[i] > 0 {
                let gaps = d.clone() - 1;
                let gaps = if self.graph.bounds(&gaps).0 >= 0 { gaps } else { gaps.maximum(&0.into()) };
                size = size + gaps * interior[i];
            }
            // What lies outside comes from inside: there must be enough of it.
            let reach = match mode {
                PadMode::Constant => None,
                PadMode::Reflect => Some(d.clone() - 1),
                PadMode::Edge => d.is(0).then(|| d.clone()),
                PadMode::Wrap => Some(d.clone()),
            };
            for p in [&low[i], &high[i]] {
                if let Some(reach) = &reach
                    && self.graph.bounds(p).0 > 0
                    && self.graph.bounds(&(p - reach)).0 > 0
                {
                    let m = format!("dim {i}: padding of {p} in mode {}, expected at most {reach} for a dim of {d}", mode.name());
                    return Err(self.fail(Code::BAD_ATTRIBUTE, m));
                }
            }
            dims.push(size);
        }
        Ok(vec![TensorType::new(t.dtype, dims)])
    }

    pub(super) fn concat(&mut self, axis: u32) -> Types {
        self.arity(1, usize::MAX)?;
        let first = self.operands[0];
        let a = self.axis(axis, first.rank())?;
        let mut dims = first.dims.clone();
        for i in 1..self.operands.len() {
            self.same_dtype(0, i)?;
            self.want_rank(i, first.rank())?;
            let t = self.operands[i];
            for (d, (so_far, dim)) in dims.iter_mut().zip(&t.dims).enumerate() {
                *so_far = if d == a {
                    &*so_far + dim
                } else {
                    self.equal(so_far, dim, || format!("dim {d} of operand {i} and of those before it"))?
                };
            }
        }
        Ok(vec![TensorType::new(first.dtype, dims)])
    }
}
