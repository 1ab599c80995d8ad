// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tensors of bytes, as they go into and come out of bundles and files.

use crate::dtype;
use std::fmt;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that begin at a multiple of 64.
#[derive(Clone, Default)]
pub struct Bytes {
    lines: Vec<Line>,
    len: usize,
}

impl Bytes {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Bytes {
        Bytes { lines: vec![Line([0; 64]); len.div_ceil(64)], len }
    }
}

impl Bytes {
    /// So many zeros, or `None` when there is no memory for them.
    pub fn try_zeroed(len: usize) -> Option<Bytes> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(len.div_ceil(64)).ok()?;
        lines.resize(len.div_ceil(64), Line([0; 64]));
        Some(Bytes { lines, len })
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the lines are `lines.len() * 64 >= len` initialized bytes without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        let mut b = Bytes::zeroed(bytes.len());
        b.copy_from_slice(bytes);
        b
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.len)
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        self[..] == other[..]
    }
}

/// A dense row-major tensor of numbers. Types under a byte are packed as ONNX packs them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// ONNX TensorProto.DataType.
    pub dtype: i32,
    /// Its shape.
    pub dims: Vec<i64>,
    /// `dtype::tensor_bytes(dtype, &dims)` bytes.
    pub data: Bytes,
}

impl Tensor {
    /// A tensor with these bytes.
    ///
    /// # Errors
    /// A text that says so, when the bytes are not as many as dtype and dims need.
    pub fn new(dtype: i32, dims: &[i64], bytes: &[u8]) -> Result<Tensor, String> {
        match dtype::tensor_bytes(dtype, dims) {
            Some(n) if n == bytes.len() as u64 => Ok(Tensor { dtype, dims: dims.to_vec(), data: bytes.into() }),
            Some(n) => Err(format!("{}{dims:?} has {n} bytes, got {}", dtype::name(dtype), bytes.len())),
            None => Err(format!("{}{dims:?} is not a tensor of numbers that fits memory", dtype::name(dtype))),
        }
    }

    /// The tensor, borrowed.
    pub fn view(&self) -> View<'_> {
        View { dtype: self.dtype, dims: self.dims.clone(), data: &self.data }
    }
}

/// A borrowed tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct View<'a> {
    /// ONNX TensorProto.DataType.
    pub dtype: i32,
    /// Its shape.
    pub dims: Vec<i64>,
    /// Its bytes, aligned to the element.
    pub data: &'a [u8],
}

impl View<'_> {
    /// A copy that owns its bytes.
    pub fn to_tensor(&self) -> Tensor {
        Tensor { dtype: self.dtype, dims: self.dims.clone(), data: self.data.into() }
    }
}
