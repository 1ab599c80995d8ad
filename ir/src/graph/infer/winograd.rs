// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of Winograd's transforms.

use super::{Cx, Types, Want};
use crate::diag::Code;
use crate::graph::types::TensorType;
use crate::graph::winograd::{KERNEL, SPAN, TILE};
use crate::sym::SymExpr;

/// Tiles that cover results of that length.
fn tiles(len: &SymExpr) -> SymExpr {
    len.ceil_div(&(TILE as i64).into())
}

impl Cx<'_> {
    pub(super) fn winograd_input(&mut self, pads: &[SymExpr]) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Float)?;
        self.want_rank(0, 4)?;
        if pads.len() != 4 {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`pads` has {} entries, expected 4", pads.len())));
        }
        let x = self.operands[0];
        let mut count = x.dims[0].clone();
        for i in 0..2 {
            let len = &x.dims[1 + i] + &(&pads[i] + &pads[i + 2]) - (KERNEL as i64 - 1);
            if self.graph.bounds(&len).1 < 1 {
                return Err(
                    self.fail(Code::BAD_DIM, format!("spatial dim {i}: a kernel that spans {KERNEL} does not fit the padded input"))
                );
            }
            count = count * tiles(&len);
        }
        Ok(vec![TensorType::new(x.dtype, vec![((SPAN * SPAN) as i64).into(), count, x.dims[3].clone()])])
    }

    pub(super) fn winograd_output(&mut self, dims: &[SymExpr]) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Float)?;
        self.want_rank(0, 3)?;
        let x = self.operands[0];
        let [n, h, w] = dims else {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`dims` has {} entries, expected 3: [N,H,W]", dims.len())));
        };
        let (points, count) = (SymExpr::from((SPAN * SPAN) as i64), n.clone() * tiles(h) * tiles(w));
        self.equal(&x.dims[0], &points, || "dim 0 of operand 0, and the points of a tile".to_string())?;
        self.equal(&x.dims[1], &count, || "dim 1 of operand 0, and the tiles that cover `dims`".to_string())?;
        Ok(vec![TensorType::new(x.dtype, vec![n.clone(), h.clone(), w.clone(), x.dims[2].clone()])])
    }
}
