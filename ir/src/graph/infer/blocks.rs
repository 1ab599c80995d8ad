// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of sums of products with integers that have a scale a block.

use super::{Cx, Types, Want};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::{Dims, TensorType, TypeFault};
use crate::sym::SymExpr;

/// Longest block: sums of products of two bytes over one stay exact in i32 and in f32.
const LONGEST: i64 = 1 << 24;

impl Cx<'_> {
    /// The left operand's last dim and the dims of the result, whose last one is `n`.
    fn rows(&self, n: SymExpr) -> Result<(SymExpr, Dims), TypeFault> {
        self.arity(3, 4)?;
        self.want(0, Want::Float)?;
        self.want(1, Want::Int)?;
        self.want(2, Want::Float)?;
        let Some((k, lead)) = self.operands[0].dims.split_last() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, "operand 0 is a scalar, expected [.., K]"));
        };
        Ok((k.clone(), lead.iter().cloned().chain([n]).collect()))
    }
    fn block(&self, block: i64) -> Result<SymExpr, TypeFault> {
        if (1..=LONGEST).contains(&block) {
            return Ok(block.into());
        }
        Err(self.fail(Code::BAD_ATTRIBUTE, format!("`block` is {block}, expected 1 to {LONGEST}")))
    }

    pub(super) fn contract_blocks(&mut self, block: i64) -> Types {
        self.arity(3, 4)?;
        self.want_rank(1, 2)?;
        let (n, k) = (self.operands[1].dims[0].clone(), self.operands[1].dims[1].clone());
        let (own, dims) = self.rows(n.clone())?;
        self.equal(&own, &k, || "last dims of operands 0 and 1".into())?;
        let blocks = k.ceil_div(&self.block(block)?);
        for i in 2..self.operands.len() {
            let found = self.operands[i].dims.clone();
            self.equal_dims(&found, &[n.clone(), blocks.clone()], "one number a row and block")?;
        }
        Ok(vec![TensorType::new(self.operands[0].dtype, dims)])
    }

    pub(super) fn contract_panels(&mut self, columns: i64, bits: i64, block: i64) -> Types {
        self.arity(3, 4)?;
        self.positive("columns", &[columns])?;
        let (own, dims) = self.rows(columns.into())?;
        self.want_rank(1, 4)?;
        let (w, size) = (self.operands[1], self.block(block)?);
        if ![2, 4, 8].contains(&bits) || block * bits % 32 != 0 {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("blocks of {block} integers of {bits} bits, expected whole words of 32")));
        }
        let width = w.dims[3].as_const().filter(|&c| w.dtype == DType::U8 && c > 0 && c % 4 == 0).map(|c| c / 4);
        let fits = |width: i64| w.dims[0].is((columns + width - 1) / width) && w.dims[2].is(block * bits / 32);
        let Some(width) = width.filter(|&c| fits(c)) else {
            let m = format!("operand 1 is {w}, expected panels of bytes that hold {columns} columns");
            return Err(self.fail(Code::SHAPE_MISMATCH, m));
        };
        let (panels, blocks) = (w.dims[0].clone(), w.dims[1].clone());
        self.equal(&own.ceil_div(&size), &blocks, || "blocks of operands 0 and 1".into())?;
        for i in 2..self.operands.len() {
            let found = self.operands[i].dims.clone();
            self.equal_dims(&found, &[panels.clone(), blocks.clone(), width.into()], "one number a column and block")?;
        }
        Ok(vec![TensorType::new(self.operands[0].dtype, dims)])
    }
}
