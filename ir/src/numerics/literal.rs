// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scalars and literals as numbers.

use std::fmt;

use crate::dtype::{DType, Kind};
use crate::graph::types::{Literal, Scalar};

use super::convert::int_from_bits;
use super::{decode_f64, encode_f64, get, packed};

impl Scalar {
    /// The number as `dtype`, rounded as [`encode_f64`] does without saturation.
    pub fn from_f64(dtype: DType, v: f64) -> Self {
        Scalar { dtype, bits: encode_f64(dtype, v, false) }
    }
    /// The integer as `dtype`: wraps in integers, rounds once in floats.
    pub fn from_i64(dtype: DType, v: i64) -> Self {
        Scalar { dtype, bits: super::cast(v as u64, DType::I64, dtype, false) }
    }
    /// An f32.
    pub fn f32(v: f32) -> Self {
        Scalar { dtype: DType::F32, bits: u64::from(v.to_bits()) }
    }
    /// An i64.
    pub fn i64(v: i64) -> Self {
        Scalar { dtype: DType::I64, bits: v as u64 }
    }
    /// 0.
    pub fn zero(dtype: DType) -> Self {
        Self::from_i64(dtype, 0)
    }
    /// 1.
    pub fn one(dtype: DType) -> Self {
        Self::from_i64(dtype, 1)
    }
    /// Its value ([`decode_f64`]).
    pub fn to_f64(self) -> f64 {
        decode_f64(self.dtype, self.bits)
    }
    /// Its value if that is an integer in the range of i64, whatever the dtype.
    pub fn to_i64(self) -> Option<i64> {
        match self.dtype.kind() {
            Kind::Float => Some(self.to_f64()).filter(|v| v.fract() == 0.0 && v.abs() < 9.2e18).map(|v| v as i64),
            Kind::Signed | Kind::Unsigned | Kind::Bool => i64::try_from(int_from_bits(self.dtype, self.bits)).ok(),
            Kind::Complex | Kind::Handle => None,
        }
    }
    /// Converted ([`super::cast`]).
    pub fn cast(self, to: DType, saturate: bool) -> Self {
        Scalar { dtype: to, bits: super::cast(self.bits, self.dtype, to, saturate) }
    }
    /// Whether its value is that number.
    pub fn is(self, v: f64) -> bool {
        self.to_f64() == v
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&super::print_scalar(*self))
    }
}

/// Iterator over the elements of a [`Literal`]; empty for `c128` and `str`.
#[derive(Clone, Debug)]
pub struct Elems<'a> {
    literal: &'a Literal,
    at: usize,
    end: usize,
}

impl Iterator for Elems<'_> {
    type Item = Scalar;
    fn next(&mut self) -> Option<Scalar> {
        if self.at == self.end {
            return None;
        }
        self.at += 1;
        self.literal.elem(self.at - 1)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.at, Some(self.end - self.at))
    }
}
impl ExactSizeIterator for Elems<'_> {}

impl Literal {
    /// A literal of the given bytes; `None` if they are not as many as the dims need.
    pub fn new(dtype: DType, dims: &[i64], bytes: Vec<u8>) -> Option<Self> {
        let n = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))?;
        (dtype.bytes_for(n)? == bytes.len() as u64).then(|| Literal { dtype, dims: dims.to_vec(), bytes: bytes.into() })
    }
    /// A literal of elements given as bits; `None` if they are not as many as the dims need or the dtype has no scalar form.
    pub fn from_bits(dtype: DType, dims: &[i64], elems: impl IntoIterator<Item = u64>) -> Option<Self> {
        Self::new(dtype, dims, packed::collect(dtype, elems.into_iter())?)
    }
    /// A rank-0 literal.
    pub fn scalar(s: Scalar) -> Self {
        let bytes = packed::collect(s.dtype, std::iter::once(s.bits)).unwrap_or_default();
        Literal { dtype: s.dtype, dims: Vec::new(), bytes: bytes.into() }
    }
    /// A 1-D literal of integers, which wrap.
    pub fn vector(dtype: DType, values: &[i64]) -> Self {
        let bits = values.iter().map(|&v| Scalar::from_i64(dtype, v).bits);
        let bytes = packed::collect(dtype, bits).unwrap_or_default();
        Literal { dtype, dims: vec![values.len() as i64], bytes: bytes.into() }
    }
    /// Number of elements that its bytes hold (of its dims, if those are fewer).
    pub fn len(&self) -> usize {
        let n = self.dims.iter().fold(1usize, |n, &d| n.saturating_mul(usize::try_from(d).unwrap_or(0)));
        match self.dtype.bits() {
            0 => 0,
            b => n.min(self.bytes.len().saturating_mul(8) / b as usize),
        }
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The element at row-major position `i`; `None` if it lies outside or the dtype has no scalar form.
    pub fn elem(&self, i: usize) -> Option<Scalar> {
        let plain = self.dtype != DType::C128;
        (plain && i < self.len()).then(|| Scalar { dtype: self.dtype, bits: get(&self.bytes, self.dtype, i) })
    }
    /// Elements in row-major order.
    pub fn elems(&self) -> Elems<'_> {
        let plain = self.dtype != DType::C128;
        Elems { literal: self, at: 0, end: if plain { self.len() } else { 0 } }
    }
    /// The one number that every element is, if there is one (bits are compared).
    pub fn splat(&self) -> Option<Scalar> {
        let mut e = self.elems();
        let first = e.next()?;
        e.all(|s| s == first).then_some(first)
    }
    /// Elements as i64; `None` unless all are integers in range.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        self.elems().map(Scalar::to_i64).collect()
    }
    /// Elements as f64.
    pub fn to_f64s(&self) -> Vec<f64> {
        self.elems().map(Scalar::to_f64).collect()
    }
}
