// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `ai.onnx.preview`: attention whose scores and weights pass through subgraphs.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ValueId, infer};

use super::attention::{Heads, attend, repeat_heads};
use super::{Entry, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::model::AttrValue;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("FlexAttention", 1, 3, 3, flex_attention)];

/// `prob_mod(softmax(score_mod(q k^T * scale))) v`; `(q: [B,Hq,L,E], k: [B,H,S,E], v: [B,H,S,Ev]) -> [B,Hq,L,Ev]`. Without subgraphs it is
/// the attention composite.
fn flex_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    for x in [q, k, v] {
        cx.want_rank(x, 4..=4)?;
    }
    let dtype = cx.dtype(q);
    let own = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let precision = match cx.dtype_attr("softmax_precision")? {
        None => own,
        Some(d) if d.is_float() && d.bits() >= 16 => d,
        Some(d) => return Err(Fault::attr(format!("`softmax_precision` is {d}, expected f16, bf16, f32 or f64"))),
    };
    let scale = cx.float_opt("scale")?;
    let modified = cx.attr("score_mod").is_some() || cx.attr("prob_mod").is_some();
    if !modified && precision == own {
        let heads = Heads { scale, causal: false, softcap: 0.0, precision: None };
        return one(attend(cx, [q, k, v], None, None, &heads, None)?.0);
    }
    let scale = match (scale, cx.dim(q, 3)?.as_const()) {
        (Some(s), _) => s,
        (None, Some(d)) => 1.0 / (d as f64).sqrt(),
        (None, None) => return Err(Fault::form("the head size must be known when the model is compiled")),
    };
    let (q, k, v) = (cx.cast(q, own)?, cx.cast(k, own)?, cx.cast(v, own)?);
    let (k, v) = (repeat_heads(cx, k, q)?, repeat_heads(cx, v, q)?);
    let s = cx.contract("bhqd,bhkd->bhqk", q, k)?;
    let s = cx.bin_c(BinaryOp::Mul, s, scale)?;
    let s = cx.cast(s, precision)?;
    let s = modify(cx, "score_mod", s)?;
    let p = cx.add(Op::Softmax { axis: 3 }, &[s])?;
    let p = modify(cx, "prob_mod", p)?;
    let p = cx.cast(p, own)?;
    let y = cx.contract("bhqk,bhkd->bhqd", p, v)?;
    one(cx.cast(y, dtype)?)
}

/// `x` after the subgraph of that name, which keeps dtype and dims; `x` itself where there is none.
fn modify(cx: &mut Cx<'_, '_>, name: &str, x: ValueId) -> Res<ValueId> {
    let g = match cx.attr(name) {
        None => return Ok(x),
        Some(AttrValue::Graph(g)) => g,
        Some(other) => return Err(Fault::attr(format!("attribute `{name}` is {}, expected a graph", other.kind()))),
    };
    let prefix = format!("{}.{name}", cx.path);
    let out = cx.imp.subgraph(g, vec![Slot::Value(x)], &prefix)?;
    let [Slot::Value(y)] = out.as_slice() else {
        return Err(Fault::attr(format!("`{name}` has {} outputs, expected one tensor", out.len())));
    };
    let (a, b) = (cx.ty(x).clone(), cx.ty(*y).clone());
    let fits = a.dtype == b.dtype && a.rank() == b.rank() && a.dims.iter().zip(&b.dims).all(|(a, b)| infer::may_be_equal(cx.g(), a, b));
    if !fits {
        return Err(Fault::shape(format!("`{name}` makes {b} of {a}; it must keep dtype and dims")));
    }
    let path = cx.path.clone();
    for (a, b) in a.dims.iter().zip(&b.dims) {
        cx.g_mut().assume_equal(a, b, &path);
    }
    Ok(*y)
}
