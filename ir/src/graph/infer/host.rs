// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of host operations: what they say of themselves, held against their operands.

use super::{Cx, Types};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::{Dims, HostOp, ListType, Op, TensorType};

/// Fewest and most operands of a host operation.
fn operands(op: HostOp) -> (usize, usize) {
    match op {
        HostOp::StringRank
        | HostOp::StringOf
        | HostOp::NumberOf
        | HostOp::ListLength
        | HostOp::OptionalGet
        | HostOp::ListConcat
        | HostOp::MapValues
        | HostOp::ImageDecode => (1, 1),
        HostOp::StringConcat | HostOp::StringSplit | HostOp::StringNormalize | HostOp::RegexFullMatch => (2, 2),
        HostOp::ListAt | HostOp::ZipMap | HostOp::MapLookup => (2, 2),
        HostOp::ListErase | HostOp::ListSplit => (1, 2),
        HostOp::ListInsert => (2, 3),
        HostOp::Tokenize => (3, 3),
        HostOp::ListOf => (0, usize::MAX),
    }
}

impl Cx<'_> {
    pub(super) fn host(&mut self) -> Types {
        let Op::Host { op, takes, gives, dims, list, lowered, .. } = self.op else {
            return Err(self.fail(Code::INTERNAL, "not a host operation"));
        };
        let (least, most) = operands(*op);
        self.arity(least, most)?;
        self.len("takes", takes.len(), self.operands.len())?;
        self.len("dims", dims.len(), gives.len())?;
        let stored = |d: DType| if *lowered && d.is_handle() { DType::I64 } else { d };
        if !self.operands.iter().zip(takes).all(|(t, d)| t.dtype == stored(*d)) {
            let names: Vec<&str> = takes.iter().map(|d| d.name()).collect();
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("`takes` is {}", names.join(", "))));
        }
        let number = match op {
            HostOp::StringOf => takes.first(),
            HostOp::NumberOf => gives.first(),
            _ => None,
        };
        if number.is_some_and(|d| !matches!(d, DType::I64 | DType::U64 | DType::F32 | DType::F64)) {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("`{}` of numbers that are not i64, u64, f32 or f64", op.name())));
        }
        let lists = gives.iter().filter(|d| **d == DType::List).count();
        if lists > 1 || (lists == 1) != list.is_some() {
            return Err(self.fail(Code::BAD_ATTRIBUTE, "a list needs its type, and there is one at most"));
        }
        let one = |(d, dims): (&DType, &Dims)| match (stored(*d), list) {
            (DType::List, Some(l)) => TensorType::list(l.clone()),
            (d, _) => TensorType::new(d, dims.clone()),
        };
        Ok(gives.iter().zip(dims).map(one).collect())
    }

    pub(super) fn handle(&mut self, to: DType, list: Option<&ListType>) -> Types {
        self.arity(1, 1)?;
        let from = self.operands[0];
        let fits = if to == DType::I64 { from.dtype.is_handle() } else { from.dtype == DType::I64 && to.is_handle() };
        if !fits || (to == DType::List) != list.is_some() {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("there is no handle from {} to {to}", from.dtype)));
        }
        Ok(vec![match list {
            Some(l) => TensorType::list(l.clone()),
            None => TensorType::new(to, from.dims.clone()),
        }])
    }
}
