// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of quantization and of composites.

use super::{Cx, Types, Want};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::op::Direction;
use crate::graph::{Dims, Quant, Scalar, TensorType, TypeFault};
use crate::sym::SymExpr;

impl Cx<'_> {
    // ---- quantization ----

    /// Checks scale (operand 1) and zero point (operand 2, of dtype `stored`) against the tensor that they scale.
    fn scales(&mut self, axis: Option<u32>, block: u32, stored: DType) -> Result<(), TypeFault> {
        self.arity(2, 3)?;
        self.want(1, Want::Float)?;
        let (x, s) = (self.operands[0], self.operands[1]);
        match axis {
            None => {
                if s.dims.iter().any(|d| !d.is(1)) {
                    return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand 1 is {s}, expected one scale")));
                }
            }
            Some(axis) => {
                let a = self.axis(axis, x.rank())?;
                if block == 0 {
                    return Err(self.fail(Code::BAD_ATTRIBUTE, "the block is 0, expected 1 or more elements"));
                }
                let mut expected = x.dims.clone();
                expected[a] = x.dims[a].ceil_div(&i64::from(block).into());
                if block == 1 && s.rank() == 1 {
                    expected = vec![x.dims[a].clone()];
                }
                self.equal_dims(&s.dims, &expected, "scales and blocks")?;
            }
        }
        if let Some(&z) = self.operands.get(2) {
            if z.dtype != stored {
                return Err(self.fail(Code::DTYPE_MISMATCH, format!("operand 2 is {}, expected {stored} zero points", z.dtype)));
            }
            self.equal_dims(&z.dims, &s.dims, "zero points and scales")?;
        }
        Ok(())
    }

    pub(super) fn quantize(&mut self, to: DType, axis: Option<u32>, block: u32) -> Types {
        self.scales(axis, block, to)?;
        self.want(0, Want::Number)?;
        if !Want::Number.takes(to) {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("`to` is {to}, expected {}", Want::Number.words())));
        }
        Ok(vec![self.operands[0].with_dtype(to)])
    }

    pub(super) fn dequantize(&mut self, to: DType, axis: Option<u32>, block: u32) -> Types {
        self.arity(2, 3)?;
        self.want(0, Want::Number)?;
        self.scales(axis, block, self.operands[0].dtype)?;
        if !to.is_float() {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("`to` is {to}, expected {}", Want::Float.words())));
        }
        Ok(vec![self.operands[0].with_dtype(to)])
    }

    pub(super) fn quantized(&mut self, quant: &Quant) -> Types {
        self.arity(2, 3)?;
        self.want(0, Want::Number)?;
        let (q, s) = (self.operands[0], self.operands[1]);
        self.scales(quant.axis, quant.block_elems, q.dtype)?;
        if s.dtype != quant.scale || !quant.expressed.is_float() {
            let m = format!("operand 1 is {} for {}, expected {} scales of a floating-point dtype", s.dtype, quant.expressed, quant.scale);
            return Err(self.fail(Code::DTYPE_MISMATCH, m));
        }
        if quant.zero_point != (self.operands.len() == 3) {
            let m = format!("found {} operands, expected a zero point just when the type has one", self.operands.len());
            return Err(self.fail(Code::BAD_ARITY, m));
        }
        Ok(vec![TensorType { quant: Some(Box::new(quant.clone())), ..q.with_dtype(q.dtype) }])
    }

    // ---- normalization ----

    pub(super) fn softmax(&mut self, axis: u32) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Float)?;
        self.axis(axis, self.operands[0].rank())?;
        Ok(vec![self.operands[0].clone()])
    }

    /// Norms over dims `axis..`, with a scale and perhaps a bias that broadcast to these dims.
    pub(super) fn norm(&mut self, axis: u32, most: usize) -> Types {
        self.arity(1, most)?;
        self.want(0, Want::Float)?;
        let x = self.operands[0];
        let a = self.axis(axis, x.rank())?;
        for i in 1..self.operands.len() {
            self.want(i, Want::Float)?;
            self.broadcasts_to(&self.operands[i].dims, &x.dims[a..], &format!("operand {i}"))?;
        }
        Ok(vec![x.clone()])
    }

    // ---- attention ----

    pub(super) fn attention(&mut self, has_mask: bool, has_offset: bool) -> Types {
        let count = 3 + usize::from(has_mask) + usize::from(has_offset);
        self.arity(count, count)?;
        for i in 0..3 {
            self.want(i, Want::Float)?;
            self.same_dtype(0, i)?;
            self.want_rank(i, 4)?;
        }
        let (q, k, v) = (self.operands[0], self.operands[1], self.operands[2]);
        let b = self.equal(&q.dims[0], &k.dims[0], || "batch of q and k".into())?;
        let b = self.equal(&b, &v.dims[0], || "batch of q and v".into())?;
        let hk = self.equal(&k.dims[1], &v.dims[1], || "heads of k and v".into())?;
        let sk = self.equal(&k.dims[2], &v.dims[2], || "length of k and v".into())?;
        self.equal(&q.dims[3], &k.dims[3], || "head size of q and k".into())?;
        let hq = &q.dims[1];
        if let (Some(hq), Some(hk)) = (hq.as_const(), hk.as_const())
            && (hk == 0 || hq % hk != 0)
        {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("{hq} query heads, expected a multiple of {hk} key heads")));
        }
        if *hq != hk {
            // Heads of q need one of k.
            self.at_most(&hq.minimum(&1.into()), &hk, || "heads of q without one of k".into())?;
            let some = if self.graph.bounds(&hk).0 > 0 { hk } else { hk.maximum(&1.into()) };
            self.equal(&hq.modulo(&some), &0.into(), || "heads of q beyond a multiple of those of k".into())?;
        }
        if has_mask {
            let m = self.operands[3];
            if m.dtype != DType::Bool && m.dtype != q.dtype {
                return Err(self.fail(Code::DTYPE_MISMATCH, format!("the mask is {}, expected bool or {}", m.dtype, q.dtype)));
            }
            self.broadcasts_to(&m.dims, &[b.clone(), hq.clone(), q.dims[2].clone(), sk], "the mask")?;
        }
        if has_offset {
            self.want_scalar(count - 1, DType::I64)?;
        }
        Ok(vec![TensorType::new(q.dtype, vec![b, hq.clone(), q.dims[2].clone(), v.dims[3].clone()])])
    }

    pub(super) fn attention_parts(&mut self, part: i64, has_mask: bool, has_offset: bool) -> Types {
        let whole = self.attention(has_mask, has_offset)?;
        self.positive("part", &[part])?;
        let dtype = if self.operands[0].dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let parts = self.operands[1].dims[2].ceil_div(&part.into());
        let with = |mut dims: Dims| {
            dims.insert(2, parts.clone());
            TensorType::new(dtype, dims)
        };
        let dims = whole.into_iter().next().map(|t| t.dims).unwrap_or_default();
        let rows = dims.iter().take(3).cloned().collect();
        Ok(vec![with(dims), with(rows)])
    }

    pub(super) fn merge_parts(&mut self, to: DType) -> Types {
        self.arity(2, 2)?;
        self.want(0, Want::Float)?;
        self.same_dtype(0, 1)?;
        self.want_rank(0, 5)?;
        self.want_rank(1, 4)?;
        if !to.is_float() {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`to` is {to}, expected floats")));
        }
        let (y, log) = (self.operands[0], self.operands[1]);
        for (i, (a, b)) in y.dims.iter().zip(&log.dims).enumerate() {
            self.equal(a, b, || format!("dim {i} of parts and their logarithms"))?;
        }
        let [b, h, _, s, d] = y.dims.as_slice() else { return Ok(vec![]) };
        Ok(vec![TensorType::new(to, [b, h, s, d].map(SymExpr::clone).to_vec())])
    }

    pub(super) fn rotary(&mut self, rotary_dims: &SymExpr) -> Types {
        self.arity(3, 3)?;
        self.want(0, Want::Float)?;
        self.want_rank(0, 4)?;
        let x = self.operands[0];
        if rotary_dims.as_const().is_some_and(|r| r < 0 || r % 2 != 0) || self.graph.bounds(&(rotary_dims - &x.dims[3])).0 > 0 {
            let m = format!("`rotary_dims` is {rotary_dims}, expected an even number of at most {}", x.dims[3]);
            return Err(self.fail(Code::BAD_ATTRIBUTE, m));
        }
        let half = rotary_dims.div(&2.into());
        for i in 1..3 {
            self.want(i, Want::Float)?;
            self.want_rank(i, 3)?;
            let t = self.operands[i];
            if !t.dims[0].is(1) {
                self.equal(&t.dims[0], &x.dims[0], || format!("batch of operand {i}"))?;
            }
            self.equal(&t.dims[1], &x.dims[2], || format!("length of operand {i} and of operand 0"))?;
            self.equal(&t.dims[2], &half, || format!("angles of operand {i} and half of `rotary_dims`"))?;
        }
        Ok(vec![x.clone()])
    }

    // ---- recurrence ----

    /// LSTM (4 gates, with a cell state) and GRU (3 gates).
    pub(super) fn recurrent(&mut self, direction: Direction, gates: i64) -> Types {
        let states = if gates == 4 { 2 } else { 1 };
        self.arity(4 + states, 4 + states)?;
        self.want(0, Want::Float)?;
        for (i, rank) in [3, 3, 3, 2, 3, 3].into_iter().take(4 + states).enumerate() {
            self.same_dtype(0, i)?;
            self.want_rank(i, rank)?;
        }
        let x = self.operands[0];
        let (s, b, input) = (&x.dims[0], &x.dims[1], &x.dims[2]);
        let hidden = &self.operands[2].dims[2];
        let d = SymExpr::from(if direction == Direction::Bidirectional { 2 } else { 1 });
        let times = |n: i64| hidden.clone() * n;
        let expected: [(usize, Vec<SymExpr>); 5] = [
            (1, vec![d.clone(), times(gates), input.clone()]),
            (2, vec![d.clone(), times(gates), hidden.clone()]),
            (3, vec![d.clone(), times(2 * gates)]),
            (4, vec![d.clone(), b.clone(), hidden.clone()]),
            (5, vec![d.clone(), b.clone(), hidden.clone()]),
        ];
        for (i, dims) in expected.iter().take(3 + states) {
            self.equal_dims(&self.operands[*i].dims, dims, &format!("operand {i}"))?;
        }
        let state = TensorType::new(x.dtype, vec![d.clone(), b.clone(), hidden.clone()]);
        let mut types = vec![TensorType::new(x.dtype, vec![s.clone(), d, b.clone(), hidden.clone()])];
        types.extend(std::iter::repeat_n(state, states));
        Ok(types)
    }

    /// The steps of an LSTM (4 gates, with a cell state) or GRU (3 gates, with a bias).
    pub(super) fn steps(&mut self, direction: Direction, gates: i64, depth: i64) -> Types {
        self.arity(4, 4)?;
        self.want(0, Want::Float)?;
        self.positive("depth", &[depth])?;
        for (i, rank) in [5, 5, if gates == 4 { 3 } else { 2 }, 3].into_iter().enumerate() {
            if i != 1 || self.operands[1].dtype != DType::BF16 {
                self.same_dtype(0, i)?;
            }
            self.want_rank(i, rank)?;
        }
        let (g, r) = (self.operands[0], self.operands[1]);
        let (s, b, hidden) = (&g.dims[0], &g.dims[1], &g.dims[4]);
        let depth = SymExpr::from(depth);
        let (blocks, width) = (&r.dims[1], &r.dims[4].div(&depth));
        let d = SymExpr::from(if direction == Direction::Bidirectional { 2 } else { 1 });
        let state = vec![d.clone(), b.clone(), hidden.clone()];
        let third = if gates == 4 { state.clone() } else { vec![d.clone(), hidden.clone()] };
        let expected = [
            vec![s.clone(), b.clone(), d.clone(), gates.into(), hidden.clone()],
            vec![d.clone(), blocks.clone(), hidden.div(&depth), gates.into(), width * &depth],
            third,
            state.clone(),
        ];
        for (i, dims) in expected.iter().enumerate() {
            self.equal_dims(&self.operands[i].dims, dims, &format!("operand {i}"))?;
        }
        self.equal(blocks, &hidden.ceil_div(width), || "blocks of hidden units".to_owned())?;
        let state = TensorType::new(g.dtype, state);
        let mut types = vec![TensorType::new(g.dtype, vec![s.clone(), d, b.clone(), hidden.clone()])];
        types.extend(std::iter::repeat_n(state, if gates == 4 { 2 } else { 1 }));
        Ok(types)
    }

    /// The steps of an LSTM with weights of bytes.
    pub(super) fn byte_steps(&mut self, direction: Direction, group: u32) -> Types {
        self.arity(7, 7)?;
        self.want(0, Want::Float)?;
        for (i, (rank, dtype)) in [(3, None), (3, None), (3, None), (3, Some(DType::I32)), (3, Some(DType::I32))].into_iter().enumerate() {
            self.want_rank(i + 2, rank)?;
            match dtype {
                Some(d) if self.operands[i + 2].dtype != d => {
                    return Err(
                        self.fail(Code::DTYPE_MISMATCH, format!("operand {} is {}, expected {d}", i + 2, self.operands[i + 2].dtype))
                    );
                }
                Some(_) => {}
                None => self.same_dtype(0, i + 2)?,
            }
        }
        self.want_rank(0, 5)?;
        self.want_rank(1, 5)?;
        let (g, r) = (self.operands[0], self.operands[1]);
        if r.dtype != DType::I8 || group == 0 {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("weights are {} in groups of {group}, expected i8", r.dtype)));
        }
        let (s, b, hidden) = (&g.dims[0], &g.dims[1], &g.dims[4]);
        let d = SymExpr::from(if direction == Direction::Bidirectional { 2 } else { 1 });
        let group = SymExpr::from(i64::from(group));
        let width = r.dims[4].div(&group);
        let state = vec![d.clone(), b.clone(), hidden.clone()];
        let column = vec![d.clone(), 4.into(), hidden.clone()];
        let expected = [
            vec![s.clone(), b.clone(), d.clone(), 4.into(), hidden.clone()],
            vec![d.clone(), hidden.ceil_div(&width), hidden.ceil_div(&group), 4.into(), &width * &group],
            state.clone(),
            state.clone(),
            column.clone(),
            column.clone(),
            column,
        ];
        for (i, dims) in expected.iter().enumerate() {
            self.equal_dims(&self.operands[i].dims, dims, &format!("operand {i}"))?;
        }
        let state = TensorType::new(g.dtype, state);
        let y = TensorType::new(g.dtype, vec![s.clone(), d, b.clone(), hidden.clone()]);
        Ok(vec![y, state.clone(), state])
    }

    // ---- resize ----

    pub(super) fn resize(&mut self, dims: &[SymExpr], mode: &str, coords: &str, nearest: &str, scales: &[Scalar]) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Number)?;
        let x = self.operands[0];
        self.len("dims", dims.len(), x.rank())?;
        if !scales.is_empty() {
            self.len("scales", scales.len(), x.rank())?;
        }
        let coords_known = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
        let nearest_known = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
        for (name, found, known) in
            [("mode", mode, &["nearest", "linear", "cubic"][..]), ("coords", coords, &coords_known), ("nearest", nearest, &nearest_known)]
        {
            if !known.contains(&found) {
                return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`{name}` is {found:?}, expected {}", known.join(", "))));
            }
        }
        Ok(vec![TensorType::new(x.dtype, dims.to_vec())])
    }
}
