// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be said of constants without reading a weight.

use portwright_ir::graph::{Graph, Literal, Op, Scalar, ValueId};

/// How far analyses of constants walk up a chain of nodes.
const DEPTH: usize = 24;
/// Largest constant that is looked at, in elements.
const ELEMS: usize = 1 << 16;

/// The one number that every element of a value is, if a small constant says so.
pub fn splat(g: &Graph, mut v: ValueId) -> Option<Scalar> {
    for _ in 0..DEPTH {
        let node = g.producer(v)?;
        match &node.op {
            Op::Const { value } => return (value.len() <= ELEMS).then(|| value.splat())?,
            Op::Fill { value, .. } => return Some(*value),
            Op::DimTensor { values, dtype, .. } => {
                let first = values.first()?.as_const()?;
                return values.iter().all(|d| d.is(first)).then(|| Scalar::from_i64(*dtype, first));
            }
            Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } => v = *node.operands.first()?,
            _ => return None,
        }
    }
    None
}

/// As [`splat`], as a real number; `None` for complex numbers and text.
pub fn splat_f64(g: &Graph, v: ValueId) -> Option<f64> {
    splat(g, v).and_then(number)
}

/// The real number that a scalar stands for; `None` for complex numbers and text.
pub fn number(s: Scalar) -> Option<f64> {
    let real = s.dtype.is_float() || s.dtype.int_range().is_some();
    real.then(|| if s.dtype.is_float() { s.to_f64() } else { s.to_i64().map_or(f64::NAN, |v| v as f64) })
}

/// Whether every element is `x` within 1e-3 of it.
pub fn is_about(g: &Graph, v: ValueId, x: f64) -> bool {
    splat_f64(g, v).is_some_and(|s| (s - x).abs() <= 1e-3 * x.abs())
}

/// Whether every element is exactly `x` (zeros of both signs are equal).
pub fn is_exactly(g: &Graph, v: ValueId, x: f64) -> bool {
    splat_f64(g, v) == Some(x)
}

/// Elements of an integer or bool constant of at most 4096 elements.
pub fn ints(g: &Graph, v: ValueId) -> Option<Vec<i64>> {
    match &g.producer(v)?.op {
        Op::Const { value } if value.dtype.int_range().is_some() && value.len() <= 4096 => value.to_i64s(),
        Op::DimTensor { values, .. } => values.iter().map(|d| d.as_const()).collect(),
        Op::Fill { value, dims } if value.dtype.int_range().is_some() => {
            let n = portwright_ir::sym::product(dims).as_const().filter(|n| (0..=4096).contains(n))?;
            Some(vec![value.to_i64()?; n as usize])
        }
        _ => None,
    }
}

/// A constant without dims, the number nearest to `v`.
pub fn literal(dtype: portwright_ir::dtype::DType, v: f64) -> Literal {
    let s = if dtype.is_float() { Scalar::from_f64(dtype, v) } else { Scalar::from_i64(dtype, v as i64) };
    Literal::scalar(s)
}

/// Whether a value is computed from weights and constants alone by a short chain of nodes, and its dims are static.
pub fn is_static(g: &Graph, v: ValueId) -> bool {
    fn walk(g: &Graph, v: ValueId, left: &mut usize) -> bool {
        let Some(node) = g.producer(v) else { return false };
        if *left == 0 || g.ty(v).static_dims().is_none() {
            return false;
        }
        *left -= 1;
        match &node.op {
            Op::DimTensor { values, .. } => values.iter().all(|d| d.as_const().is_some()),
            Op::RandomUniform { .. }
            | Op::Bind { .. }
            | Op::If {}
            | Op::Loop { .. }
            | Op::NonZero { .. }
            | Op::Host { .. }
            | Op::Handle { .. } => false,
            op if op.is_source() => true,
            _ => node.operands.iter().all(|&o| walk(g, o, left)),
        }
    }
    walk(g, v, &mut 64)
}
