// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Constant tensors: checks of size, dense forms, and what becomes a constant or a weight of the graph.

use std::sync::Arc;

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::Literal;
use portwright_ir::weight::{Weight, WeightSource};

use crate::external::{DataFault, External};
use crate::fault::Fault;
use crate::model::{TensorData, TensorDef, dtype_of};

/// Integers and truth values up to this many bytes are constants of the graph: they may shape it.
pub const CONST_BYTES: u64 = 64 << 10;
/// As [`CONST_BYTES`], of dtypes in which weights are quantized: longer ones are weights unless one number says it all.
const QUANTIZED_CONST_BYTES: u64 = 1 << 10;
/// Largest sparse tensor that is made dense.
const SPARSE_BYTES: u64 = 1 << 30;

/// A checked tensor.
pub struct Checked {
    /// Dtype.
    pub dtype: DType,
    /// Dims, all >= 0.
    pub dims: Vec<i64>,
    /// Where the bytes are.
    pub source: WeightSource,
}

impl Checked {
    /// Its bytes, if they are at hand.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.source {
            WeightSource::Bytes { owner, offset, len } => owner.bytes().get(*offset..offset.checked_add(*len)?),
            _ => None,
        }
    }
    /// The constant, if it is one that may shape the graph: small integers and truth values, and single numbers.
    pub fn into_const(self) -> Result<Literal, Self> {
        let elems: i64 = self.dims.iter().product();
        let shape_like = (self.dtype.is_int() || self.dtype == DType::Bool) && self.dtype.bits() >= 8;
        let quantized = self.dtype.is_int() && self.dtype.bits() <= 32;
        let small = |b: &[u8]| {
            let len = b.len() as u64;
            len <= CONST_BYTES && (!quantized || len <= QUANTIZED_CONST_BYTES || uniform(b, self.dtype))
        };
        match self.bytes() {
            Some(b) if elems == 1 || (shape_like && small(b)) => {
                let bytes: Arc<[u8]> = if self.dtype == DType::Bool { b.iter().map(|v| u8::from(*v != 0)).collect() } else { b.into() };
                Ok(Literal { dtype: self.dtype, dims: self.dims, bytes })
            }
            _ => Err(self),
        }
    }
    /// The weight of that name.
    pub fn into_weight(self, name: impl Into<Arc<str>>) -> Weight {
        Weight::new(name, self.dtype, self.dims, self.source)
    }
}

/// Whether all elements, of whole bytes, are the same.
fn uniform(bytes: &[u8], dtype: DType) -> bool {
    let width = dtype.bytes().map_or(1, |w| w as usize).max(1);
    bytes.get(..width).is_some_and(|first| bytes.chunks(width).all(|e| e == first))
}

/// Checks a tensor's dtype, dims and amount of data, and says where its bytes are.
///
/// # Errors
/// `E0109`, `E0110`, `E0201`, `E0204`, `E0113`.
pub fn check(t: &TensorDef, external: &mut External) -> Result<Checked, Fault> {
    let name = &t.name;
    let bad = |m: String| Fault::new(Code::BAD_TENSOR, format!("tensor `{name}`: {m}"));
    let Some(dtype) = dtype_of(t.elem) else {
        return Err(bad(format!("its dtype has the number {}, which is not one of ONNX", t.elem)));
    };
    if let Some(d) = t.dims.iter().find(|d| **d < 0) {
        return Err(Fault::new(Code::BAD_DIM, format!("tensor `{name}` has a dim of {d}; constants have dims of 0 and more")));
    }
    let elems = t.dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
    let bytes = elems.and_then(|n| dtype.bytes_for(n)).filter(|b| i64::try_from(*b).is_ok());
    let (Some(elems), Some(expected)) = (elems, bytes) else {
        return Err(Fault::new(Code::SIZE_OVERFLOW, format!("tensor `{name}` of dims {:?} has more bytes than 64 bits can count", t.dims)));
    };
    let source = match &t.data {
        TensorData::Bytes(b) => {
            if b.len as u64 != expected {
                let m = format!("{} bytes of data; {dtype} {:?} needs {expected}", b.len, t.dims);
                return Err(bad(m));
            }
            WeightSource::Bytes { owner: b.owner.clone(), offset: b.offset, len: b.len }
        }
        TensorData::Strings(_) => {
            return Err(Fault::new(Code::UNSUPPORTED_FORM, format!("tensor `{name}` holds {elems} texts, expected numbers")));
        }
        TensorData::External { location, offset, len } => {
            let fault = |e: DataFault| Fault { note: e.note, ..Fault::new(Code::EXTERNAL_DATA, e.message) };
            external.source(location, *offset, *len, expected).map_err(fault)?
        }
        TensorData::Sparse { values, indices } => {
            if expected > SPARSE_BYTES {
                return Err(bad(format!("a sparse tensor of {expected} bytes is too large to be made dense")));
            }
            let (values, indices) = (check(values, external)?, check(indices, external)?);
            let dense = densify(&values, &indices, &t.dims, elems).map_err(bad)?;
            let len = dense.len();
            WeightSource::Bytes { owner: Arc::new(dense), offset: 0, len }
        }
        TensorData::Bad(m) => return Err(bad(m.clone())),
    };
    Ok(Checked { dtype, dims: t.dims.clone(), source })
}

/// Elements of an integer tensor that is at hand.
pub fn ints(dtype: DType, bytes: &[u8]) -> Option<Vec<i64>> {
    fn each<const N: usize>(b: &[u8], f: impl Fn([u8; N]) -> Option<i64>) -> Option<Vec<i64>> {
        b.chunks_exact(N).map(|c| c.try_into().ok().and_then(&f)).collect()
    }
    match dtype {
        DType::I64 => each(bytes, |b| Some(i64::from_le_bytes(b))),
        DType::I32 => each(bytes, |b| Some(i32::from_le_bytes(b).into())),
        DType::I16 => each(bytes, |b| Some(i16::from_le_bytes(b).into())),
        DType::I8 => each(bytes, |b| Some(i8::from_le_bytes(b).into())),
        DType::U64 => each(bytes, |b| i64::try_from(u64::from_le_bytes(b)).ok()),
        DType::U32 => each(bytes, |b| Some(u32::from_le_bytes(b).into())),
        DType::U16 => each(bytes, |b| Some(u16::from_le_bytes(b).into())),
        DType::U8 | DType::Bool => each(bytes, |b: [u8; 1]| Some(b[0].into())),
        _ => None,
    }
}

fn densify(values: &Checked, indices: &Checked, dims: &[i64], elems: u64) -> Result<Vec<u8>, String> {
    let width = values.dtype.bytes().ok_or("its dtype is packed")? as usize;
    let (Some(v), Some(i)) = (values.bytes(), indices.bytes().and_then(|b| ints(indices.dtype, b))) else {
        return Err("its values or indices are not at hand".into());
    };
    let count = v.len() / width;
    let per = if indices.dims.len() == 2 { dims.len() } else { 1 };
    if per == 0 || i.len() != count * per {
        return Err(format!("{count} values with indices of dims {:?}", indices.dims));
    }
    let mut out = vec![0u8; elems as usize * width];
    for (value, at) in v.chunks_exact(width).zip(i.chunks_exact(per)) {
        let mut linear = 0i64;
        if per == 1 && indices.dims.len() != 2 {
            linear = at.first().copied().unwrap_or(0);
        } else {
            for (&x, &d) in at.iter().zip(dims) {
                if x < 0 || x >= d {
                    return Err(format!("index {x} in a dim of {d}"));
                }
                linear = linear * d + x;
            }
        }
        let start = usize::try_from(linear).ok().and_then(|l| l.checked_mul(width));
        let cell = start.and_then(|s| out.get_mut(s..s + width)).ok_or_else(|| format!("index {linear} of {elems} elements"))?;
        cell.copy_from_slice(value);
    }
    Ok(out)
}
