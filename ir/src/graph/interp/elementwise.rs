// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elementwise ops.

use super::tensor::Tensor;
use super::walk::{Elems, View, broadcast_dims, walk};
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::op::{BinaryOp, UnaryOp};
use crate::numerics;

pub(super) fn unary(op: UnaryOp, x: &Tensor) -> Run {
    if x.dtype == DType::C128 {
        let sign = if op == UnaryOp::Neg { -1.0 } else { return Err(complex(op.name())) };
        let out = pairs(x).iter().flat_map(|&(re, im)| [sign * re, sign * im]).flat_map(f64::to_le_bytes).collect();
        return Ok(Tensor::made(x.dtype, x.dims.clone(), out));
    }
    let dtype = if op.is_predicate() { DType::Bool } else { x.dtype };
    if x.dtype == DType::F32 && !op.is_predicate() && op != UnaryOp::Not {
        let out: Vec<f32> = x.to_f32().into_iter().map(|v| numerics::unary_f32(op, v)).collect();
        return Ok(Tensor::encode_f32(dtype, x.dims.clone(), &out));
    }
    Ok(Tensor::from_bits(dtype, x.dims.clone(), x.all_bits().map(|b| numerics::unary(op, x.dtype, b))))
}

pub(super) fn binary(op: BinaryOp, a: &Tensor, b: &Tensor) -> Run {
    if a.dtype != b.dtype {
        return Err(Fault::new(Code::DTYPE_MISMATCH, format!("found {} and {}, expected one dtype", a.dtype, b.dtype)));
    }
    let dims = broadcast_dims(&[&a.dims, &b.dims])?;
    let (va, vb) = (View::broadcast(&a.dims, &dims)?, View::broadcast(&b.dims, &dims)?);
    let (views, lens) = ([&va, &vb], [a.len(), b.len()]);
    let dtype = if op.is_compare() { DType::Bool } else { a.dtype };
    if a.dtype == DType::C128 {
        return binary_c128(op, a, b, &dims, views, lens);
    }
    let arithmetic = !op.is_compare() && !matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr);
    if a.dtype == DType::F32 && arithmetic {
        let (x, y) = (a.to_f32(), b.to_f32());
        let mut out = Vec::with_capacity(x.len().max(y.len()));
        walk(&dims, views, lens, |[i, j]| out.push(numerics::binary_f32(op, x[i], y[j])))?;
        return Ok(Tensor::encode_f32(dtype, dims, &out));
    }
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    walk(&dims, views, lens, |[i, j]| out.push(numerics::binary(op, a.dtype, a.bits(i), b.bits(j))))?;
    Ok(Tensor::from_bits(dtype, dims, out))
}

fn complex(op: &str) -> Fault {
    Fault::new(Code::NOT_SUPPORTED, format!("`{op}` is not defined for complex numbers"))
}

fn pairs(t: &Tensor) -> Vec<(f64, f64)> {
    let real: Vec<f64> = match t.dtype {
        DType::C64 => t.bytes().chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]).into()).collect(),
        _ => t.bytes().chunks_exact(8).map(|c| f64::from_bits(numerics::get(c, DType::F64, 0))).collect(),
    };
    real.chunks_exact(2).map(|p| (p[0], p[1])).collect()
}

fn binary_c128(op: BinaryOp, a: &Tensor, b: &Tensor, dims: &[usize], views: [&View; 2], lens: [usize; 2]) -> Run {
    let (x, y) = (pairs(a), pairs(b));
    if matches!(op, BinaryOp::Eq | BinaryOp::Ne) {
        let mut out = Vec::new();
        walk(dims, views, lens, |[i, j]| out.push(u64::from((x[i] == y[j]) == (op == BinaryOp::Eq))))?;
        return Ok(Tensor::from_bits(DType::Bool, dims.to_vec(), out));
    }
    if !matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div) {
        return Err(complex(op.name()));
    }
    let mut out: Vec<u8> = Vec::new();
    walk(dims, views, lens, |[i, j]| {
        let ((a, b), (c, d)) = (x[i], y[j]);
        let (re, im) = match op {
            BinaryOp::Add => (a + c, b + d),
            BinaryOp::Sub => (a - c, b - d),
            BinaryOp::Mul => (a * c - b * d, a * d + b * c),
            _ => {
                let n = c * c + d * d;
                ((a * c + b * d) / n, (b * c - a * d) / n)
            }
        };
        out.extend(re.to_le_bytes());
        out.extend(im.to_le_bytes());
    })?;
    Ok(Tensor::made(DType::C128, dims.to_vec(), out))
}

pub(super) fn select(cond: &Tensor, a: &Tensor, b: &Tensor) -> Run {
    if cond.dtype != DType::Bool || a.dtype != b.dtype {
        let m = format!("found {}, {} and {}, expected bool and one dtype", cond.dtype, a.dtype, b.dtype);
        return Err(Fault::new(Code::DTYPE_MISMATCH, m));
    }
    let dims = broadcast_dims(&[&cond.dims, &a.dims, &b.dims])?;
    let views = [View::broadcast(&cond.dims, &dims)?, View::broadcast(&a.dims, &dims)?, View::broadcast(&b.dims, &dims)?];
    let (x, y) = (Elems::of(a), Elems::of(b));
    let n = super::tensor::count(&dims).unwrap_or(0);
    let mut out = Elems::zeros(a.dtype, n);
    let mut at = 0;
    walk(&dims, [&views[0], &views[1], &views[2]], [cond.len(), a.len(), b.len()], |[c, i, j]| {
        if cond.bits(c) & 1 == 1 {
            out.put(at, &x, i)
        } else {
            out.put(at, &y, j)
        }
        at += 1;
    })?;
    Ok(out.tensor(dims))
}

pub(super) fn cast(x: &Tensor, to: DType, saturate: bool) -> Run {
    if x.dtype == to {
        return Ok(x.clone());
    }
    let bytes = match (x.dtype, to) {
        (DType::C64, DType::C128) => pairs(x).into_iter().flat_map(|(a, b)| [a, b]).flat_map(f64::to_le_bytes).collect(),
        (DType::C128, DType::C64) => pairs(x).into_iter().flat_map(|(a, b)| [a as f32, b as f32]).flat_map(f32::to_le_bytes).collect(),
        _ => numerics::cast_slice(x.bytes(), x.len(), x.dtype, to, saturate)
            .ok_or_else(|| Fault::new(Code::DTYPE_MISMATCH, format!("there is no conversion from {} to {to}", x.dtype)))?,
    };
    Ok(Tensor::made(to, x.dims.clone(), bytes))
}

/// A function of f64 applied to each element of a float tensor, rounded once.
pub(super) fn map_f64(x: &Tensor, f: impl Fn(f64) -> f64) -> Tensor {
    let out: Vec<f64> = x.to_f64().into_iter().map(f).collect();
    Tensor::from_f64(x.dtype, x.dims.clone(), &out)
}

pub(super) fn gelu(x: &Tensor, tanh: bool) -> Tensor {
    let cubic = |v: f64| (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
    map_f64(x, |v| {
        let t = if tanh { libm::tanh(cubic(v)) } else { libm::erf(v * std::f64::consts::FRAC_1_SQRT_2) };
        0.5 * v * (1.0 + t)
    })
}

pub(super) fn silu(x: &Tensor) -> Tensor {
    map_f64(x, |v| v * numerics::unary_f64(UnaryOp::Sigmoid, v))
}

pub(super) fn hard_swish(x: &Tensor) -> Tensor {
    map_f64(x, |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0))
}
