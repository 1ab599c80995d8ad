// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attributes that a text may leave out: usual values, and what the declared result type says.

use crate::dtype::DType;
use crate::graph::TensorType;
use crate::graph::attr::Attr;
use crate::graph::types::Scalar;
use crate::sym::SymExpr;

/// What is known about a node before its attributes are.
pub(super) struct Site<'a> {
    /// Types of the operands.
    pub operands: &'a [&'a TensorType],
    /// Type of the first result.
    pub result: Option<&'a TensorType>,
}

impl Site<'_> {
    fn rank(&self) -> usize {
        self.operands.first().map_or(0, |t| t.rank())
    }
    fn dims(&self, skip: usize) -> Option<Attr> {
        Some(Attr::List(self.result?.dims.get(skip..)?.iter().map(|d| Attr::Expr(d.clone())).collect()))
    }
    fn last_dim(&self) -> Option<Attr> {
        Some(Attr::Int(self.result?.dims.last()?.as_const()?.into()))
    }
    fn dtype(&self) -> Option<Attr> {
        Some(Attr::Name(self.result?.dtype.name().into()))
    }
    /// Dtype in which the products of a contraction are usually added.
    fn accumulator(&self) -> Option<Attr> {
        let t = self.operands.first()?;
        let d = t.quant.as_ref().map_or(t.dtype, |q| q.expressed);
        let acc = match (d.is_float(), d.bits()) {
            (_, 64) => d,
            (true, _) => DType::F32,
            (false, _) => DType::I32,
        };
        Some(Attr::Name(acc.name().into()))
    }
}

/// The value that an attribute has where the text does not say.
pub(super) fn attr(op: &str, name: &str, site: &Site<'_>) -> Option<Attr> {
    let ints = |n: usize, v: i128| Some(Attr::List(vec![Attr::Int(v); n]));
    let exprs = |n: usize, v: i64| Some(Attr::List(vec![Attr::Expr(SymExpr::from(v)); n]));
    let word = |w: &str| Some(Attr::Name(w.into()));
    let text = |w: &str| Some(Attr::Text(w.into()));
    let spatial = site.rank().saturating_sub(2);
    match (op, name) {
        ("conv" | "conv_last" | "pool", "strides" | "dilations") => ints(spatial, 1),
        ("conv" | "conv_last" | "pool", "pads") => exprs(2 * spatial, 0),
        ("pool", "dims") => site.dims(2),
        ("contract_blocks" | "contract_panels", "zero") => Some(Attr::Int(0)),
        ("contract_panels", "columns") | ("conv_last", "channels") => site.last_dim(),
        ("host", "params" | "symbols") => Some(Attr::List(Vec::new())),
        ("host", "lowered") => Some(Attr::Bool(false)),
        ("host", "dims") => None,
        (_, "dims") => site.dims(0),
        ("slice", "starts") | ("pad", "low" | "high") => exprs(site.rank(), 0),
        ("slice", "steps") => ints(site.rank(), 1),
        ("pad", "interior") => ints(site.rank(), 0),
        ("pad", "mode") => word("constant"),
        ("conv" | "conv_last", "groups") | ("conv_last" | "lstm_steps" | "gru_steps", "depth") | ("quantize" | "dequantize", "block") => {
            Some(Attr::Int(1))
        }
        ("gather_nd", "batch") => Some(Attr::Int(0)),
        ("contract" | "contract_groups", "acc") => site.accumulator(),
        (_, "dtype" | "to") | ("contract" | "contract_groups" | "conv_last", "out") => site.dtype(),
        ("dims", "scalar") => Some(Attr::Bool(site.result?.dims.is_empty())),
        ("scan", "op") => word("sum"),
        ("scatter_elements" | "scatter_nd", "op") => word("set"),
        (_, "direction") => word("forward"),
        ("cast" | "quantize", "saturate") | ("top_k", "largest") => Some(Attr::Bool(true)),
        (
            _,
            "keep"
            | "last"
            | "exclusive"
            | "reverse"
            | "count_pad"
            | "planar"
            | "narrow"
            | "groups"
            | "channels_last"
            | "tanh"
            | "causal"
            | "has_mask"
            | "has_offset"
            | "interleaved"
            | "linear_before_reset"
            | "exclude_outside"
            | "antialias",
        ) => Some(Attr::Bool(false)),
        ("attention" | "attention_parts", "softcap") => Some(Attr::Scalar(Scalar::f32(0.0))),
        ("resize", "scales") => Some(Attr::List(Vec::new())),
        ("resize", "cubic_a") => Some(Attr::Scalar(Scalar::f32(-0.75))),
        ("resize", "coords") => text("half_pixel"),
        ("resize", "nearest") => text("round_prefer_floor"),
        _ => None,
    }
}

/// Dtype of a number whose dtype the text does not say.
pub(super) fn scalar_dtype(op: &str, site: &Site<'_>) -> DType {
    match (op, site.result) {
        ("fill" | "random_uniform", Some(t)) => t.dtype,
        _ => DType::F32,
    }
}
