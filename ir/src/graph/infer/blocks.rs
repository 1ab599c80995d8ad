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
    /// How many operands a product with blocks has, and the groups of its right operands, which are their first dim.
    fn grouped(&mut self, groups: bool) -> Result<(usize, Option<SymExpr>), TypeFault> {
        let more = usize::from(groups);
        self.arity(3 + more, 4 + more)?;
        if !groups {
            return Ok((self.operands.len(), None));
        }
        let last = self.operands.len() - 1;
        Ok((last, Some(self.starts(last)?)))
    }
    /// The number of groups, of which operand `at` says where they begin.
    fn starts(&mut self, at: usize) -> Result<SymExpr, TypeFault> {
        self.want_rank(0, 2)?;
        self.want(at, Want::Int)?;
        self.want_rank(at, 1)?;
        let groups = self.operands[at].dims[0].clone();
        if groups.is(0) {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand {at} has no groups")));
        }
        Ok(groups)
    }
    /// Dims of an operand without that of the groups.
    fn of_group(&mut self, operand: usize, groups: &Option<SymExpr>) -> Result<Dims, TypeFault> {
        let dims = &self.operands[operand].dims;
        let Some(e) = groups else { return Ok(dims.clone()) };
        let Some((first, rest)) = dims.split_first() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand {operand} is a scalar, expected one part a group")));
        };
        let (first, rest) = (first.clone(), rest.to_vec());
        self.equal(&first, e, || format!("groups of operand {operand}"))?;
        Ok(rest)
    }
    /// The left operand's last dim and the dims of the result, whose last one is `n`.
    fn rows(&self, n: SymExpr) -> Result<(SymExpr, Dims), TypeFault> {
        self.want(0, Want::Float)?;
        let stored = self.operands[1].dtype;
        if !(stored.is_float() && stored.bits() == 8) {
            self.want(1, Want::Int)?;
        }
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

    pub(super) fn contract_blocks(&mut self, block: i64, groups: bool) -> Types {
        let (operands, groups) = self.grouped(groups)?;
        let q = self.of_group(1, &groups)?;
        let [n, k] = q.as_slice() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, "operand 1 is no matrix of integers"));
        };
        let (own, dims) = self.rows(n.clone())?;
        self.equal(&own, k, || "last dims of operands 0 and 1".into())?;
        let blocks = k.ceil_div(&self.block(block)?);
        for i in 2..operands {
            let found = self.of_group(i, &groups)?;
            self.equal_dims(&found, &[n.clone(), blocks.clone()], "one number a row and block")?;
        }
        Ok(vec![TensorType::new(self.operands[0].dtype, dims)])
    }

    pub(super) fn contract_scaled(&mut self, block: i64, out: DType) -> Types {
        self.arity(4, 4)?;
        self.same_dtype(0, 1)?;
        let (own, dims) = match self.operands[1].dims.as_slice() {
            [n, k] => {
                let (own, dims) = self.rows(n.clone())?;
                self.equal(&own, k, || "last dims of operands 0 and 1".into())?;
                (own, dims)
            }
            _ => return Err(self.fail(Code::SHAPE_MISMATCH, "operand 1 is no matrix")),
        };
        let stored = self.operands[0].dtype;
        if stored.bits() != 8 || !out.is_float() {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("products of {stored} as {out}, expected floats of 8 bits as floats")));
        }
        self.want(3, Want::Float)?;
        if !own.divisible_by(block.max(1), &|_| 1) {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("blocks of {block} along a dim of {own}")));
        }
        let blocks = own.div(&self.block(block)?);
        for i in 0..2 {
            let mut want = self.operands[i].dims.clone();
            if let Some(last) = want.last_mut() {
                *last = blocks.clone();
            }
            let found = self.operands[i + 2].dims.clone();
            self.equal_dims(&found, &want, "one number a row and block")?;
        }
        Ok(vec![TensorType::new(out, dims)])
    }

    pub(super) fn contract_panels(&mut self, columns: i64, bits: i64, block: i64, groups: bool) -> Types {
        let (operands, groups) = self.grouped(groups)?;
        self.positive("columns", &[columns])?;
        let (own, dims) = self.rows(columns.into())?;
        let (panels, size) = (self.of_group(1, &groups)?, self.block(block)?);
        let w = self.operands[1];
        if ![2, 4, 8].contains(&bits) || block * bits % 32 != 0 {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("blocks of {block} integers of {bits} bits, expected whole words of 32")));
        }
        let [count, blocks, words, row] = panels.as_slice() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand 1 is {w}, expected panels")));
        };
        let width = row.as_const().filter(|&c| w.dtype == DType::U8 && c > 0 && c % 4 == 0).map(|c| c / 4);
        let fits = |width: i64| count.is((columns + width - 1) / width) && words.is(block * bits / 32);
        let Some(width) = width.filter(|&c| fits(c)) else {
            let m = format!("operand 1 is {w}, expected panels of bytes that hold {columns} columns");
            return Err(self.fail(Code::SHAPE_MISMATCH, m));
        };
        self.equal(&own.ceil_div(&size), blocks, || "blocks of operands 0 and 1".into())?;
        for i in 2..operands {
            let found = self.of_group(i, &groups)?;
            self.equal_dims(&found, &[count.clone(), blocks.clone(), width.into()], "one number a column and block")?;
        }
        Ok(vec![TensorType::new(self.operands[0].dtype, dims)])
    }

    pub(super) fn contract_groups(&mut self, acc: DType, out: DType) -> Types {
        self.arity(3, 3)?;
        self.want(0, Want::Float)?;
        self.same_dtype(0, 1)?;
        let groups = Some(self.starts(2)?);
        let w = self.of_group(1, &groups)?;
        let [k, n] = w.as_slice() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, "operand 1 is no matrix a group"));
        };
        for (name, d) in [("acc", acc), ("out", out)] {
            if !d.is_float() || !Want::Number.takes(d) {
                return Err(self.fail(Code::DTYPE_MISMATCH, format!("`{name}` is {d}, expected {}", Want::Float.words())));
            }
        }
        let [rows, own] = self.operands[0].dims.as_slice() else {
            return Err(self.fail(Code::SHAPE_MISMATCH, "operand 0 is no matrix"));
        };
        let (rows, own) = (rows.clone(), own.clone());
        self.equal(&own, k, || "summed dims of operands 0 and 1".into())?;
        Ok(vec![TensorType::new(out, vec![rows, n.clone()])])
    }

    pub(super) fn group_rows(&mut self, groups: i64) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Int)?;
        self.want_rank(0, 1)?;
        self.positive("groups", &[groups])?;
        let rows = TensorType::new(DType::I64, self.operands[0].dims.clone());
        Ok(vec![rows.clone(), rows, TensorType::new(DType::I64, vec![groups.into()])])
    }
}
