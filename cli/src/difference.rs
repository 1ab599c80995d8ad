// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How far two tensors are apart.

use portwright_ir::dtype::DType;
use portwright_ir::numerics;
use portwright_passes::spec::Math;
use portwright_runtime::tensor::Tensor;
use serde::Serialize;

use crate::values::dtype_of;

/// When a difference is an error: where `|got - expected| > atol + rtol * |expected|`.
#[derive(Copy, Clone, Debug, Default)]
pub struct Tolerance {
    /// Relative; by default 1e-3, or four steps of the dtype where that is more.
    pub rtol: Option<f64>,
    /// Absolute; by default `rtol` times the root of the mean square of what is expected.
    pub atol: Option<f64>,
    /// Products in bf16 are expected to differ by more.
    pub math: Math,
}

/// How far two tensors are apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference relative to the expected element, over those that are not 0.
    pub max_rel: f64,
    /// Norm of the difference relative to the norm of what is expected.
    pub l2: f64,
    /// Cosine of the angle between both, as vectors.
    pub cosine: f64,
    /// Elements beyond the tolerance.
    pub over: u64,
    /// The worst of them: position in row-major order, found, expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<(usize, f64, f64)>,
    /// What differs but numbers: dtype or shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
}

/// A step of a dtype relative to its numbers.
fn step(d: DType) -> f64 {
    match (d.is_float(), d.bits()) {
        (true, 64) => 2f64.powi(-52),
        (true, 32) => 2f64.powi(-23),
        (true, 16) if d == DType::BF16 => 2f64.powi(-7),
        (true, 16) => 2f64.powi(-10),
        (true, _) => 2f64.powi(-2),
        _ => 0.0,
    }
}

impl Tolerance {
    fn relative(&self, dtype: Option<DType>) -> f64 {
        let least = if self.math == Math::Fast { 3e-2 } else { 1e-3 };
        self.rtol.unwrap_or_else(|| dtype.map_or(0.0, |d| 4.0 * step(d)).max(least))
    }
    /// Whether a difference of two tensors of `dtype` (ONNX's number) is an error. What was rounded to `steps` on the way may lie a whole
    /// step apart where a number lay between two: unless tolerances are given it is held by its norm, to ten times the relative one.
    pub fn exceeds(&self, d: &Difference, dtype: i32, steps: bool) -> bool {
        let lenient = steps && self.rtol.is_none() && self.atol.is_none() && d.form.is_none();
        if lenient { d.l2.is_nan() || d.l2 > 10.0 * self.relative(dtype_of(dtype)) || d.max_abs.is_infinite() } else { d.over > 0 }
    }
    /// Compares two tensors element by element. NaN meets NaN, an infinity meets itself.
    pub fn difference(&self, got: &Tensor, expected: &Tensor) -> Difference {
        let mut d = Difference { max_abs: 0.0, max_rel: 0.0, l2: 0.0, cosine: 1.0, over: 0, worst: None, form: None };
        if got.dtype != expected.dtype || got.dims != expected.dims {
            let text = |t: &Tensor| format!("{}{:?}", portwright_runtime::dtype::name(t.dtype), t.dims);
            d.form = Some(format!("{}, expected {}", text(got), text(expected)));
            (d.over, d.cosine) = (1, 0.0);
            return d;
        }
        let Some(dtype) = dtype_of(got.dtype) else { return d };
        let n = got.dims.iter().product::<i64>().max(0) as usize;
        let number = |t: &Tensor, i: usize| {
            let bits = numerics::get(&t.data, dtype, i);
            if dtype.is_float() { numerics::decode_f64(dtype, bits) } else { numerics::int_from_bits(dtype, bits) as f64 }
        };
        let (mut square, mut finite) = (0f64, 0usize);
        for y in (0..n).map(|i| number(expected, i)).filter(|y| y.is_finite()) {
            (square, finite) = (square + y * y, finite + 1);
        }
        let rtol = self.relative(Some(dtype));
        let atol = self.atol.unwrap_or_else(|| rtol * (square / finite.max(1) as f64).sqrt());
        let (mut far, mut dot, mut own, mut worst) = (0f64, 0f64, 0f64, 0f64);
        for i in 0..n {
            let (x, y) = (number(got, i), number(expected, i));
            if x.is_finite() && y.is_finite() {
                (dot, own) = (dot + x * y, own + x * x);
            }
            if x == y || x.is_nan() && y.is_nan() {
                continue;
            }
            let apart = (x - y).abs();
            let over = apart - (atol + rtol * y.abs());
            if apart.is_finite() {
                far += apart * apart;
                d.max_abs = d.max_abs.max(apart);
                if y != 0.0 {
                    d.max_rel = d.max_rel.max(apart / y.abs());
                }
            } else {
                (d.max_abs, d.max_rel) = (f64::INFINITY, f64::INFINITY);
            }
            if over > 0.0 || !apart.is_finite() {
                d.over += 1;
                let by = if over.is_nan() { f64::INFINITY } else { over };
                if d.worst.is_none() || by > worst {
                    (d.worst, worst) = (Some((i, x, y)), by);
                }
            }
        }
        d.l2 = if square > 0.0 { (far / square).sqrt() } else { far.sqrt() };
        d.cosine = if square > 0.0 && own > 0.0 { dot / (square * own).sqrt() } else { f64::from(u8::from(square == own)) };
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(v: &[f32]) -> Tensor {
        let bytes: Vec<u8> = v.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(1, &[v.len() as i64], &bytes).unwrap()
    }

    #[test]
    fn what_is_not_finite_meets_itself() {
        let t = Tolerance::default();
        let x = f32s(&[1.0, f32::NAN, f32::INFINITY]);
        let d = t.difference(&x, &x);
        assert_eq!((d.over, d.max_abs, d.l2), (0, 0.0, 0.0));
        let d = t.difference(&f32s(&[1.0, 2.0, f32::NEG_INFINITY]), &x);
        assert_eq!((d.over, d.max_abs), (2, f64::INFINITY));
    }

    #[test]
    fn small_elements_are_held_against_the_size_of_all() {
        let t = Tolerance::default();
        let y = f32s(&[100.0, -100.0, 1e-6]);
        assert_eq!(t.difference(&f32s(&[100.0, -100.0, 1e-3]), &y).over, 0);
        let d = t.difference(&f32s(&[100.0, -101.0, 1e-6]), &y);
        assert_eq!((d.over, d.worst), (1, Some((1, -101.0, -100.0))));
        assert!(d.cosine > 0.9999 && d.cosine < 1.0);
    }

    #[test]
    fn a_step_apart_is_held_by_the_norm() {
        let t = Tolerance::default();
        let y: Vec<f32> = (0..1000).map(|i| (i % 7) as f32 * 0.1).collect();
        let mut x = y.clone();
        x[5] += 0.1;
        let d = t.difference(&f32s(&x), &f32s(&y));
        assert_eq!(d.over, 1);
        assert!(t.exceeds(&d, 1, false) && !t.exceeds(&d, 1, true));
        assert!(Tolerance { rtol: Some(1e-3), ..t }.exceeds(&d, 1, true));
    }

    #[test]
    fn another_shape_is_no_number() {
        let t = Tolerance { rtol: Some(1.0), atol: Some(1e9), ..Default::default() };
        assert_eq!(t.difference(&f32s(&[1.0]), &f32s(&[1.0, 2.0])).over, 1);
    }
}
