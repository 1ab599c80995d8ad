// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values of ONNX test data sets (`test_data_set_0/input_0.pb`): tensors, sequences, optionals and maps.

use std::path::Path;

use onnx_protobuf::TensorProto;
use portwright_ir::dtype::DType;
use portwright_ir::graph::ListKind;

use crate::external::External;
use crate::model::{TensorData, dtype_of};
use crate::proto::{self, Fields};
use crate::tensor;

/// A tensor of a test data set.
#[derive(Clone, Debug, PartialEq)]
pub struct TestTensor {
    /// Name; empty in many files, where the file's number tells the input.
    pub name: String,
    /// Dtype.
    pub dtype: DType,
    /// Dims.
    pub dims: Vec<i64>,
    /// Dense little-endian elements, types under a byte packed.
    pub data: Vec<u8>,
}

/// A value of a test data set.
#[derive(Clone, Debug, PartialEq)]
pub enum TestValue {
    /// Numbers.
    Tensor(TestTensor),
    /// Texts: dims, and elements in row-major order.
    Texts(Vec<i64>, Vec<String>),
    /// A sequence, an optional of one value or none, or a map of keys and values.
    List(ListKind, Vec<TestValue>),
}

/// Most lists that lie in each other.
const MAX_NESTED: u32 = 8;

/// Reads a `TensorProto` of numbers; external data is looked for in `folder`.
///
/// # Errors
/// A sentence: not a tensor, a sequence or optional (which share no fields with a tensor), texts, data that does not fit.
pub fn tensor_from_pb(bytes: &[u8], folder: Option<&Path>) -> Result<TestTensor, String> {
    match read_tensor(bytes, folder)? {
        TestValue::Tensor(t) => Ok(t),
        _ => Err("a tensor of texts, expected numbers".into()),
    }
}

/// Reads a `TensorProto`, or as `kind` says a `SequenceProto`, `OptionalProto` or `MapProto`.
///
/// # Errors
/// A sentence: bytes that are none of it.
pub fn value_from_pb(bytes: &[u8], kind: Option<ListKind>, folder: Option<&Path>) -> Result<TestValue, String> {
    match kind {
        None => read_tensor(bytes, folder),
        Some(kind) => list(bytes, kind, folder, 0),
    }
}

fn read_tensor(bytes: &[u8], folder: Option<&Path>) -> Result<TestValue, String> {
    let t: TensorProto = proto::parse(bytes).map_err(|e| match e {
        proto::ParseFail::TooDeep => "messages are nested too deeply".to_string(),
        proto::ParseFail::Malformed(m) => format!("not a tensor, or a damaged one: {m}"),
    })?;
    if dtype_of(t.data_type).is_none() {
        return Err("a sequence, an optional or a map, expected a tensor".into());
    }
    let t = proto::tensor(t);
    if let TensorData::Strings(texts) = &t.data {
        let elems = t.dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d).filter(|_| *d >= 0));
        if elems != i64::try_from(texts.len()).ok() {
            return Err(format!("{} texts for the dims {:?}", texts.len(), t.dims));
        }
        let texts = texts.iter().map(|s| String::from_utf8(s.clone()).map_err(|_| "a text is not UTF-8".to_string()));
        return Ok(TestValue::Texts(t.dims.clone(), texts.collect::<Result<_, _>>()?));
    }
    let checked = tensor::check(&t, &mut External::new(folder, false)).map_err(|f| f.message)?;
    let data = checked.bytes().ok_or("its data is not at hand")?.to_vec();
    Ok(TestValue::Tensor(TestTensor { name: t.name, dtype: checked.dtype, dims: checked.dims, data }))
}

/// `SequenceProto` and `OptionalProto` number their fields alike: name, kind of elements, tensors, sparse tensors, sequences, maps,
/// optionals. `MapProto` has name, dtype of keys, integer keys, text keys, and a sequence of values.
///
/// # Source
/// `onnx-data.proto`.
fn list(bytes: &[u8], kind: ListKind, folder: Option<&Path>, depth: u32) -> Result<TestValue, String> {
    if depth > MAX_NESTED {
        return Err("lists are nested too deeply".into());
    }
    if kind == ListKind::Map {
        return map(bytes, folder, depth);
    }
    let mut items = Vec::new();
    for field in Fields(bytes) {
        let field = field.ok_or("a damaged message")?;
        let Some(message) = field.message else { continue };
        items.push(match field.number {
            3 => read_tensor(message, folder)?,
            4 => return Err("sparse tensors in lists are not read".into()),
            5 => list(message, ListKind::Sequence, folder, depth + 1)?,
            6 => list(message, ListKind::Map, folder, depth + 1)?,
            7 => list(message, ListKind::Optional, folder, depth + 1)?,
            _ => continue,
        });
    }
    if kind == ListKind::Optional && items.len() > 1 {
        return Err(format!("an optional of {} values", items.len()));
    }
    Ok(TestValue::List(kind, items))
}

fn map(bytes: &[u8], folder: Option<&Path>, depth: u32) -> Result<TestValue, String> {
    let (mut numbers, mut texts, mut values) = (Vec::new(), Vec::new(), None);
    for field in Fields(bytes) {
        let field = field.ok_or("a damaged message")?;
        match (field.number, field.message) {
            (3, Some(mut packed)) => {
                while !packed.is_empty() {
                    let (v, n) = proto::varint(packed).ok_or("a damaged key")?;
                    numbers.push(v as i64);
                    packed = packed.get(n..).unwrap_or_default();
                }
            }
            (3, None) => {
                let (_, tag) = proto::varint(field.whole).ok_or("a damaged key")?;
                let (v, _) = field.whole.get(tag..).and_then(proto::varint).ok_or("a damaged key")?;
                numbers.push(v as i64);
            }
            (4, Some(text)) => texts.push(String::from_utf8(text.to_vec()).map_err(|_| "a key is not UTF-8")?),
            (5, Some(message)) => values = Some(list(message, ListKind::Sequence, folder, depth + 1)?),
            _ => {}
        }
    }
    let Some(TestValue::List(_, values)) = values else { return Err("a map without values".into()) };
    let keys = if texts.is_empty() {
        let dims = vec![numbers.len() as i64];
        let data = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        TestValue::Tensor(TestTensor { name: String::new(), dtype: DType::I64, dims, data })
    } else {
        TestValue::Texts(vec![texts.len() as i64], texts)
    };
    Ok(TestValue::List(ListKind::Map, vec![keys, joined(values)?]))
}

/// Values of a map, one tensor each, as one.
fn joined(values: Vec<TestValue>) -> Result<TestValue, String> {
    let n = values.len() as i64;
    let mut all: Option<TestTensor> = None;
    let mut texts = Vec::new();
    for v in values {
        match v {
            TestValue::Texts(_, t) if t.len() == 1 => texts.extend(t),
            TestValue::Tensor(t) if t.dims.iter().product::<i64>() == 1 && !t.dtype.is_packed() => match &mut all {
                None => all = Some(t),
                Some(first) if first.dtype == t.dtype => first.data.extend(t.data),
                Some(_) => return Err("the values of a map are of different dtypes".into()),
            },
            _ => return Err("a value of a map is not one element".into()),
        }
    }
    match all {
        Some(t) if texts.is_empty() => Ok(TestValue::Tensor(TestTensor { dims: vec![n], ..t })),
        _ => Ok(TestValue::Texts(vec![n], texts)),
    }
}
