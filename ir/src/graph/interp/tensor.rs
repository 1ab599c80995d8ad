// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tensors with data.

use std::fmt;
use std::sync::Arc;

use crate::dtype::DType;
use crate::graph::types::{Literal, Quant};
use crate::numerics;

/// A dense row-major tensor; its bytes are shared, so clones and reshapes cost nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub dims: Vec<usize>,
    /// Scales, of a quantized value.
    pub quant: Option<Arc<Scales>>,
    data: Arc<Vec<u8>>,
}

/// What makes a stored tensor stand for other numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scales {
    /// How the numbers are quantized.
    pub quant: Quant,
    /// Scales, one a block.
    pub scale: Tensor,
    /// Zero points, where there are any.
    pub zero_point: Option<Tensor>,
}

impl Tensor {
    /// A tensor of these bytes (little-endian, types under a byte packed); `None` if they are not as many as dims and dtype need.
    pub fn new(dtype: DType, dims: Vec<usize>, bytes: Vec<u8>) -> Option<Self> {
        let n = count(&dims)?;
        let fits = dtype.bytes_for(n as u64)? == bytes.len() as u64;
        fits.then(|| Tensor { dtype, dims, quant: None, data: Arc::new(bytes) })
    }
    /// A tensor whose size is right by construction.
    pub(super) fn made(dtype: DType, dims: Vec<usize>, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(count(&dims).and_then(|n| dtype.bytes_for(n as u64)), Some(bytes.len() as u64));
        Tensor { dtype, dims, quant: None, data: Arc::new(bytes) }
    }
    /// A tensor of elements given as bits; missing ones are 0.
    pub fn from_bits(dtype: DType, dims: Vec<usize>, elems: impl IntoIterator<Item = u64>) -> Self {
        let n = count(&dims).unwrap_or(0);
        let mut bytes = vec![0; dtype.bytes_for(n as u64).unwrap_or(0) as usize];
        match dtype.bytes() {
            Some(w @ (1 | 2 | 4 | 8)) => {
                let w = w as usize;
                bytes.chunks_exact_mut(w).zip(elems).for_each(|(to, e)| to.copy_from_slice(&e.to_le_bytes()[..w]));
            }
            _ => elems.into_iter().take(n).enumerate().for_each(|(i, e)| numerics::set(&mut bytes, dtype, i, e)),
        }
        Tensor { dtype, dims, quant: None, data: Arc::new(bytes) }
    }
    /// An f32 tensor; missing elements are 0.
    pub fn from_f32(dims: Vec<usize>, elems: &[f32]) -> Self {
        Self::encode_f32(DType::F32, dims, elems)
    }
    /// An i64 tensor; missing elements are 0.
    pub fn from_i64(dims: Vec<usize>, elems: &[i64]) -> Self {
        Self::from_bits(DType::I64, dims, elems.iter().map(|&v| v as u64))
    }
    /// A tensor of `dtype` with these numbers, rounded; missing elements are 0.
    pub fn from_f64(dtype: DType, dims: Vec<usize>, elems: &[f64]) -> Self {
        Self::from_bits(dtype, dims, elems.iter().map(|&v| numerics::encode_f64(dtype, v, false)))
    }
    /// As [`from_f64`](Self::from_f64), from f32.
    pub(super) fn encode_f32(dtype: DType, dims: Vec<usize>, elems: &[f32]) -> Self {
        if dtype == DType::F32 && count(&dims) == Some(elems.len()) {
            return Self::made(dtype, dims, elems.iter().flat_map(|v| v.to_le_bytes()).collect());
        }
        Self::from_bits(dtype, dims, elems.iter().map(|&v| numerics::encode_f64(dtype, v.into(), false)))
    }
    /// The tensor that a literal is; `None` if its bytes do not fit its dims.
    pub fn from_literal(l: &Literal) -> Option<Self> {
        let dims = l.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
        Self::new(l.dtype, dims, l.bytes.to_vec())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        count(&self.dims).unwrap_or(0)
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }
    /// Bytes as they lie in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }
    /// Bits of the element at row-major position `i`; 0 if it lies outside.
    pub fn bits(&self, i: usize) -> u64 {
        numerics::get(&self.data, self.dtype, i)
    }
    /// All elements as bits.
    pub fn all_bits(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|i| self.bits(i))
    }
    /// Elements as f32, exact for f32 and narrower floats.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self.data.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
            d => self.all_bits().map(|b| numerics::decode_f64(d, b) as f32).collect(),
        }
    }
    /// Elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => self.data.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]).into()).collect(),
            d => self.all_bits().map(|b| numerics::decode_f64(d, b)).collect(),
        }
    }
    /// Elements of an integer tensor, wrapped to 64 bits.
    pub fn to_i64(&self) -> Vec<i64> {
        self.all_bits().map(|b| numerics::int_from_bits(self.dtype, b) as i64).collect()
    }
    /// Same elements, other dims of the same product.
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
        (count(&dims)? == self.len()).then(|| Tensor { dims, ..self.clone() })
    }
    /// Same bytes under another dtype of the same width.
    pub(super) fn bitcast(&self, dtype: DType) -> Option<Self> {
        (dtype.bits() == self.dtype.bits()).then(|| Tensor { dtype, ..self.clone() })
    }
    /// Texts or lists as their numbers, or back.
    pub(super) fn handle(&self, dtype: DType) -> Option<Self> {
        (dtype.is_handle() != self.dtype.is_handle()).then(|| self.bitcast(dtype)).flatten()
    }
    /// The same elements under the dtype of texts or lists, or under that of numbers; what has another width stays as it is.
    pub(super) fn as_handle(&self, dtype: DType) -> Self {
        self.bitcast(dtype).unwrap_or_else(|| self.clone())
    }
    /// Texts as their numbers; others as they are.
    pub(super) fn as_number(&self) -> Self {
        if self.dtype.is_handle() { self.as_handle(DType::I64) } else { self.clone() }
    }
    /// Elements of an integer tensor, or the numbers of texts or lists.
    pub(super) fn to_ids(&self) -> Vec<i64> {
        self.as_number().to_i64()
    }
    /// The same storage with scales.
    pub(super) fn with_scales(&self, scales: Scales) -> Self {
        Tensor { quant: Some(Arc::new(scales)), ..self.clone() }
    }
}

/// Product of dims; `None` on overflow.
pub(super) fn count(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= isize::MAX as usize / 16)
}

impl fmt::Debug for Tensor {
    /// Dtype, dims and the first elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?} [", self.dtype, self.dims)?;
        for i in 0..self.len().min(64) {
            let s = crate::graph::types::Scalar { dtype: self.dtype, bits: self.bits(i) };
            write!(f, "{}{s}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.len() > 64 { ", ..]" } else { "]" })
    }
}
