// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of gathers, scatters and data-dependent indices.

use super::{Cx, Types, Want};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::{Dims, ScatterOp, TensorType, TypeFault};
use crate::sym::{SymExpr, SymName};

impl Cx<'_> {
    pub(super) fn gather(&mut self, axis: u32) -> Types {
        self.arity(2, 2)?;
        self.want(1, Want::Int)?;
        let (x, i) = (self.operands[0], self.operands[1]);
        let a = self.axis(axis, x.rank())?;
        let dims = [&x.dims[..a], &i.dims, &x.dims[a + 1..]].concat();
        Ok(vec![TensorType::new(x.dtype, dims)])
    }

    pub(super) fn gather_elements(&mut self, axis: u32) -> Types {
        self.arity(2, 2)?;
        self.elements(axis)?;
        Ok(vec![TensorType::new(self.operands[0].dtype, self.operands[1].dims.clone())])
    }

    /// Checks the operands that element-wise gathers and scatters share.
    fn elements(&mut self, axis: u32) -> Result<(), TypeFault> {
        self.want(1, Want::Int)?;
        let (x, i) = (self.operands[0], self.operands[1]);
        let a = self.axis(axis, x.rank())?;
        self.want_rank(1, x.rank())?;
        for d in (0..x.rank()).filter(|&d| d != a) {
            if self.graph.bounds(&(&i.dims[d] - &x.dims[d])).0 > 0 {
                let m = format!("dim {d} of operand 1 is {}, expected at most {} as in operand 0", i.dims[d], x.dims[d]);
                return Err(self.fail(Code::SHAPE_MISMATCH, m));
            }
            self.at_most(&i.dims[d], &x.dims[d], || format!("dim {d} of operand 1"))?;
        }
        Ok(())
    }

    /// Length of the index tuples of operand 1, with `batch` dims before what they index.
    fn tuple_len(&mut self, batch: usize) -> Result<usize, TypeFault> {
        self.want(1, Want::Int)?;
        let (x, i) = (self.operands[0], self.operands[1]);
        let Some(last) = i.dims.last() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, "operand 1 is a scalar, expected index tuples along its last dim"));
        };
        if batch >= i.rank() || batch > x.rank() {
            let m = format!("`batch` is {batch}, expected less than the rank {} of operand 1 and at most {}", i.rank(), x.rank());
            return Err(self.fail(Code::BAD_ATTRIBUTE, m));
        }
        match last.as_const().and_then(|k| usize::try_from(k).ok()) {
            Some(k) if k >= 1 && k <= x.rank() - batch => Ok(k),
            _ => {
                let m = format!("the last dim of operand 1 is {last}, expected a static 1 to {}", x.rank() - batch);
                Err(self.fail(Code::SHAPE_MISMATCH, m))
            }
        }
    }

    pub(super) fn gather_nd(&mut self, batch: u32) -> Types {
        self.arity(2, 2)?;
        let b = batch as usize;
        let k = self.tuple_len(b)?;
        let (x, i) = (self.operands[0], self.operands[1]);
        let mut dims = self.equal_dims(&i.dims[..b], &x.dims[..b], "batch dims")?;
        dims.extend_from_slice(&i.dims[b..i.rank() - 1]);
        dims.extend_from_slice(&x.dims[b + k..]);
        Ok(vec![TensorType::new(x.dtype, dims)])
    }

    fn scatter_dtype(&mut self, op: ScatterOp) -> Result<(), TypeFault> {
        self.same_dtype(0, 2)?;
        if op == ScatterOp::Set { Ok(()) } else { self.want(0, Want::Number) }
    }

    pub(super) fn scatter_elements(&mut self, axis: u32, op: ScatterOp) -> Types {
        self.arity(3, 3)?;
        self.elements(axis)?;
        self.scatter_dtype(op)?;
        self.equal_dims(&self.operands[2].dims, &self.operands[1].dims, "updates and indices")?;
        Ok(vec![self.operands[0].clone()])
    }

    pub(super) fn scatter_nd(&mut self, op: ScatterOp) -> Types {
        self.arity(3, 3)?;
        let k = self.tuple_len(0)?;
        self.scatter_dtype(op)?;
        let (x, i, u) = (self.operands[0], self.operands[1], self.operands[2]);
        let expected: Dims = [&i.dims[..i.rank() - 1], &x.dims[k..]].concat();
        self.equal_dims(&u.dims, &expected, "updates and indexed slices")?;
        Ok(vec![x.clone()])
    }

    pub(super) fn non_zero(&mut self, count: &SymName) -> Types {
        self.arity(1, 1)?;
        let t = self.operands[0];
        if t.dtype.is_handle() {
            return Err(self.fail(Code::DTYPE_MISMATCH, "operand 0 is no tensor of numbers"));
        }
        Ok(vec![TensorType::new(DType::I64, vec![SymExpr::from_usize(t.rank()), SymExpr::sym(count.clone())])])
    }
}
