// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of contractions, convolutions and pooling.

use super::{Cx, MAX_REACH, Types, Want, broadcast_dims, real_dtype};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::{Dims, ReduceOp, TensorType, TypeFault};
use crate::sym::SymExpr;

/// Labels of a contraction, one a dim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Of the left operand.
    pub left: Vec<char>,
    /// Of the right operand.
    pub right: Vec<char>,
    /// Of the result.
    pub result: Vec<char>,
}

impl Labels {
    /// Reads `"bmk,bkn->bmn"`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(spec: &str) -> Result<Labels, String> {
        let parts = spec.split_once("->").and_then(|(ops, result)| Some((ops.split_once(',')?, result)));
        let Some(((left, right), result)) = parts else {
            return Err(format!("spec is {spec:?}, expected `LEFT,RIGHT->RESULT`"));
        };
        let read = |s: &str| -> Result<Vec<char>, String> {
            let labels: Vec<char> = s.chars().collect();
            for (i, c) in labels.iter().enumerate() {
                if !c.is_ascii_alphabetic() {
                    return Err(format!("spec is {spec:?}, where {c:?} is not a letter"));
                }
                if labels[..i].contains(c) {
                    return Err(format!("spec is {spec:?}, where label `{c}` is twice in `{s}`"));
                }
            }
            Ok(labels)
        };
        let l = Labels { left: read(left)?, right: read(right)?, result: read(result)? };
        for c in &l.result {
            if !l.left.contains(c) && !l.right.contains(c) {
                return Err(format!("spec is {spec:?}, where label `{c}` of the result is in no operand"));
            }
        }
        for c in l.left.iter().chain(&l.right) {
            let in_both = l.left.contains(c) && l.right.contains(c);
            if !l.result.contains(c) && !in_both {
                return Err(format!("spec is {spec:?}, where label `{c}` is in one operand alone and not in the result"));
            }
        }
        Ok(l)
    }
}

impl Cx<'_> {
    pub(super) fn contract(&mut self, spec: &str, acc: DType, out: DType) -> Types {
        self.arity(2, 2)?;
        self.want(0, Want::Number)?;
        // Machines multiply bytes of either sign.
        let byte = |t: &TensorType| matches!(t.dtype, DType::I8 | DType::U8);
        if !self.operands.iter().all(|t| byte(t)) {
            self.same_dtype(0, 1)?;
        }
        let labels = Labels::parse(spec).map_err(|m| self.fail(Code::BAD_ATTRIBUTE, m))?;
        let (l, r) = (self.operands[0], self.operands[1]);
        for (i, (t, labels)) in [(l, &labels.left), (r, &labels.right)].into_iter().enumerate() {
            if t.rank() != labels.len() {
                let m = format!("operand {i} has rank {} and {} labels in {spec:?}", t.rank(), labels.len());
                return Err(self.fail(Code::SHAPE_MISMATCH, m));
            }
        }
        let is_float = real_dtype(l).is_float();
        for (name, d) in [("acc", acc), ("out", out)] {
            if d.is_float() != is_float || !Want::Number.takes(d) {
                let expected = if is_float { Want::Float } else { Want::Int }.words();
                return Err(
                    self.fail(Code::DTYPE_MISMATCH, format!("`{name}` is {d}, expected {expected} for operands of {}", real_dtype(l)))
                );
            }
        }
        for (i, c) in labels.left.iter().enumerate() {
            if let (false, Some(j)) = (labels.result.contains(c), labels.right.iter().position(|x| x == c)) {
                self.equal(&l.dims[i], &r.dims[j], || format!("summed label `{c}`"))?;
            }
        }
        let mut dims = Dims::with_capacity(labels.result.len());
        for c in &labels.result {
            let a = labels.left.iter().position(|x| x == c).map(|i| &l.dims[i]);
            let b = labels.right.iter().position(|x| x == c).map(|i| &r.dims[i]);
            dims.push(match (a, b) {
                (Some(a), Some(b)) => {
                    let (mut both, assumed) = broadcast_dims(self.graph, &[&vec![a.clone()], &vec![b.clone()]]).map_err(|_| {
                        let m = format!("batch label `{c}`: found {a} and {b}, expected equal dims or 1");
                        TypeFault { apart: self.places(&[a, b]), ..self.fail(Code::SHAPE_MISMATCH, m) }
                    })?;
                    self.assumed.extend(assumed);
                    both.swap_remove(0)
                }
                (Some(d), None) | (None, Some(d)) => d.clone(),
                (None, None) => return Err(self.fail(Code::BAD_ATTRIBUTE, format!("label `{c}` of the result is in no operand"))),
            });
        }
        Ok(vec![TensorType::new(out, dims)])
    }

    pub(super) fn conv(&mut self, strides: &[i64], dilations: &[i64], pads: &[SymExpr], groups: i64) -> Types {
        self.arity(2, 2)?;
        self.want(0, Want::Number)?;
        self.same_dtype(0, 1)?;
        let (x, w) = (self.operands[0], self.operands[1]);
        if x.rank() < 3 {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand 0 has rank {}, expected 3 or more: [N,C,spatial..]", x.rank())));
        }
        self.want_rank(1, x.rank())?;
        let spatial = x.rank() - 2;
        self.window(&[("strides", strides), ("dilations", dilations)], pads, spatial)?;
        self.positive("groups", &[groups])?;
        let per_group = &w.dims[1] * &SymExpr::from(groups);
        self.equal(&x.dims[1], &per_group, || format!("channels of operand 0, and channels of operand 1 times {groups} groups"))?;
        if let Some(o) = w.dims[0].as_const()
            && o % groups != 0
        {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand 1 has {o} filters, expected a multiple of {groups} groups")));
        }
        self.equal(&w.dims[0].modulo(&groups.into()), &0.into(), || format!("filters beyond a multiple of {groups} groups"))?;
        self.offsets(x, 2, strides)?;
        let mut dims = vec![x.dims[0].clone(), w.dims[0].clone()];
        dims.extend(self.positions(&x.dims[2..], &w.dims[2..], strides, dilations, pads)?);
        Ok(vec![TensorType::new(real_dtype(x), dims)])
    }

    pub(super) fn conv_last(
        &mut self,
        (channels, groups): (i64, i64),
        strides: &[i64],
        dilations: &[i64],
        pads: &[SymExpr],
        (planar, depth): (bool, i64),
        out: DType,
    ) -> Types {
        self.arity(2, 2)?;
        self.want(0, Want::Number)?;
        self.same_dtype(0, 1)?;
        let (x, w) = (self.operands[0], self.operands[1]);
        if x.rank() < 3 {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand 0 has rank {}, expected 3 or more: [N,spatial..,C]", x.rank())));
        }
        let spatial = x.rank() - 2;
        self.want_rank(1, spatial + 3)?;
        self.window(&[("strides", strides), ("dilations", dilations)], pads, spatial)?;
        self.positive("groups", &[groups])?;
        self.positive("channels", &[channels])?;
        self.positive("depth", &[depth])?;
        if out.is_float() != real_dtype(x).is_float() || !Want::Number.takes(out) {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("`out` is {out}, expected a dtype for sums of {}", real_dtype(x))));
        }
        if channels % groups != 0 {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`channels` is {channels}, expected a multiple of {groups} groups")));
        }
        let own = if planar { &x.dims[1] } else { &x.dims[spatial + 1] };
        // The dim whose neighbors lie side by side.
        let whole = |i: usize| &w.dims[i] * &SymExpr::from(if i == spatial + usize::from(!planar) { depth } else { 1 });
        let per_group = whole(spatial + 1) * SymExpr::from(groups);
        self.equal(own, &per_group, || format!("channels of operand 0, and channels of operand 1 times {groups} groups"))?;
        let (panels, width) = (&w.dims[0], &w.dims[spatial + 2]);
        let fits = |b: i64| b > 0 && b % depth == 0 && panels.as_const() == Some((channels + b / depth - 1) / (b / depth));
        if !width.as_const().is_some_and(fits) {
            let m = match depth {
                1 => format!("operand 1 has {panels} panels of {width} filters, expected as many as hold {channels}"),
                d => format!("operand 1 has {panels} panels of {width} elements, {d} a filter, expected as many as hold {channels}"),
            };
            return Err(self.fail(Code::SHAPE_MISMATCH, m));
        }
        self.offsets(x, if planar { 2 } else { 1 }, strides)?;
        let input = if planar { &x.dims[2..] } else { &x.dims[1..=spatial] };
        let mut dims = vec![x.dims[0].clone()];
        let kernel: Dims = (1..=spatial).map(whole).collect();
        dims.extend(self.positions(input, &kernel, strides, dilations, pads)?);
        dims.push(channels.into());
        Ok(vec![TensorType::new(out, dims)])
    }

    /// Spatial dims of the result of a convolution.
    fn positions(
        &mut self,
        input: &[SymExpr],
        kernel: &[SymExpr],
        strides: &[i64],
        dilations: &[i64],
        pads: &[SymExpr],
    ) -> Result<Vec<SymExpr>, TypeFault> {
        let spatial = input.len();
        let mut dims = Vec::with_capacity(spatial);
        for i in 0..spatial {
            let (input, kernel) = (&input[i], &kernel[i]);
            if self.graph.bounds(kernel).0 > MAX_REACH {
                return Err(self.fail(Code::BAD_DIM, format!("spatial dim {i}: a kernel of {kernel}, expected at most {MAX_REACH}")));
            }
            let padded = input + &(&pads[i] + &pads[i + spatial]);
            let extent = extent(kernel, dilations[i]);
            if self.graph.bounds(&(&padded - &extent)).1 < 0 {
                let m = format!("spatial dim {i}: a kernel that spans {extent} does not fit the padded input of {padded}");
                return Err(self.fail(Code::BAD_DIM, m));
            }
            self.at_most(&extent, &padded, || format!("the span of the kernel in spatial dim {i}"))?;
            dims.push((padded - extent).div(&strides[i].into()) + 1);
        }
        Ok(dims)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn pool(
        &mut self,
        op: ReduceOp,
        kernel: &[i64],
        strides: &[i64],
        dilations: &[i64],
        pads: &[SymExpr],
        dims: &[SymExpr],
        channels_last: bool,
    ) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Number)?;
        if matches!(op, ReduceOp::Any | ReduceOp::All) {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`op` is {}, expected a reduction of numbers", op.name())));
        }
        let x = self.operands[0];
        if x.rank() < 3 {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("operand 0 has rank {}, expected 3 or more: [N,C,spatial..]", x.rank())));
        }
        let spatial = x.rank() - 2;
        self.window(&[("kernel", kernel), ("strides", strides), ("dilations", dilations)], pads, spatial)?;
        self.len("dims", dims.len(), spatial)?;
        let first = if channels_last { 1 } else { 2 };
        self.offsets(x, first, strides)?;
        for i in 0..spatial {
            let padded = &x.dims[i + first] + &(&pads[i] + &pads[i + spatial]);
            let span = extent(&kernel[i].into(), dilations[i]);
            // Ceiling modes may begin one more window inside the padded tensor, never two.
            let most = (&padded - &span).ceil_div(&strides[i].into()) + 1;
            if self.graph.bounds(&(&dims[i] - &most)).0 > 0 {
                let m = format!("spatial dim {i} of the result is {}, expected at most {most} windows over {padded}", dims[i]);
                return Err(self.fail(Code::BAD_DIM, m));
            }
        }
        let mut out = x.dims.clone();
        out.splice(first..first + spatial, dims.iter().cloned());
        Ok(vec![TensorType::new(x.dtype, out)])
    }

    fn window(&self, lists: &[(&str, &[i64])], pads: &[SymExpr], spatial: usize) -> Result<(), TypeFault> {
        for (name, values) in lists {
            self.len(name, values.len(), spatial)?;
            self.reach(name, values, 1)?;
        }
        self.len("pads", pads.len(), 2 * spatial)?;
        let outside = |p: &&SymExpr| {
            let (lo, hi) = self.graph.bounds(p);
            p.is_overflowed() || hi < 0 || lo > MAX_REACH
        };
        match pads.iter().find(outside) {
            Some(p) => Err(self.fail(Code::BAD_ATTRIBUTE, format!("`pads` has {p}, expected 0 to {MAX_REACH}"))),
            None => Ok(()),
        }
    }
}

/// Elements that a dilated kernel spans.
fn extent(kernel: &SymExpr, dilation: i64) -> SymExpr {
    (kernel.clone() - 1) * dilation + 1
}
