// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tensors of ONNX test data sets (`test_data_set_0/input_0.pb`).

use std::path::Path;

use onnx_protobuf::TensorProto;
use portwright_ir::dtype::DType;

use crate::external::External;
use crate::model::{TensorData, dtype_of};
use crate::proto;
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

/// Reads a `TensorProto`; external data is looked for in `folder`.
///
/// # Errors
/// A sentence: not a tensor, a sequence or optional (which share no fields with a tensor), texts, data that does not fit.
pub fn tensor_from_pb(bytes: &[u8], folder: Option<&Path>) -> Result<TestTensor, String> {
    let t: TensorProto = proto::parse(bytes).map_err(|e| match e {
        proto::ParseFail::TooDeep => "messages are nested too deeply".to_string(),
        proto::ParseFail::Malformed(m) => format!("not a tensor, or a damaged one: {m}"),
    })?;
    if dtype_of(t.data_type).is_none() {
        return Err("unsupported kind: a sequence, an optional or a map, not a tensor".into());
    }
    let t = proto::tensor(t);
    if matches!(t.data, TensorData::Strings(_)) {
        return Err("unsupported kind: a tensor of texts".into());
    }
    let checked = tensor::check(&t, &mut External::new(folder, false)).map_err(|f| f.message)?;
    let data = checked.bytes().ok_or("its data is not at hand")?.to_vec();
    Ok(TestTensor { name: t.name, dtype: checked.dtype, dims: checked.dims, data })
}
