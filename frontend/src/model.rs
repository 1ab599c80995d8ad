// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model file as typed data: what the protobuf says, with nothing interpreted beyond its own encoding.
//!
//! Names borrow from here while the graph is built, so the whole intermediate outlives an import. Tensor bytes are held once, by
//! reference count, and handed on to the weights of the graph.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portwright_ir::dtype::DType;
use portwright_ir::weight::ByteOwner;

/// Version of each imported operator set by domain; the default domain is the empty text.
pub type Opsets = BTreeMap<String, i64>;

/// Domain, name and overload of a model-local function.
pub type FunctionKey = (String, String, String);

/// A whole model.
#[derive(Debug, Default)]
pub struct Model {
    /// Version of the file format.
    pub ir_version: i64,
    /// Imported operator sets.
    pub opsets: Opsets,
    /// Program that wrote the file, with its version.
    pub producer: String,
    /// Key-value pairs of the file, in order.
    pub metadata: Vec<(String, String)>,
    /// The main graph.
    pub graph: GraphDef,
    /// Model-local functions.
    pub functions: HashMap<FunctionKey, FunctionDef>,
    /// Functions that are defined more than once.
    pub duplicate_functions: Vec<FunctionKey>,
}

/// A model-local function.
#[derive(Debug)]
pub struct FunctionDef {
    /// Name of the operator that it defines.
    pub name: String,
    /// Formal inputs.
    pub inputs: Vec<String>,
    /// Formal outputs.
    pub outputs: Vec<String>,
    /// Attributes that have a default.
    pub defaults: Vec<AttrDef>,
    /// Body.
    pub nodes: Vec<NodeDef>,
    /// Operator sets of the body.
    pub opsets: Opsets,
}

/// A graph or subgraph.
#[derive(Debug, Default)]
pub struct GraphDef {
    /// Name in the file.
    pub name: String,
    /// Nodes in file order.
    pub nodes: Vec<NodeDef>,
    /// Inputs, those with an initializer included.
    pub inputs: Vec<ValueDef>,
    /// Outputs.
    pub outputs: Vec<ValueDef>,
    /// Named constants.
    pub initializers: Vec<TensorDef>,
    /// What is declared of values between: nothing is computed from it, it stands in for nodes that cannot be read.
    pub infos: Vec<ValueDef>,
}

/// A named value with its declared type.
#[derive(Debug)]
pub struct ValueDef {
    /// Name.
    pub name: String,
    /// Declared type.
    pub ty: TypeDef,
}

/// A declared type.
#[derive(Clone, Debug)]
pub enum TypeDef {
    /// A dense tensor; `dims` is absent when even the rank is not declared.
    Tensor {
        /// ONNX number of the dtype.
        elem: i32,
        /// Declared dims.
        dims: Option<Vec<DimDef>>,
    },
    /// A sequence, map, optional or sparse tensor, in words.
    Other(&'static str),
    /// Nothing is declared.
    Missing,
}

/// A declared dim.
#[derive(Clone, Debug)]
pub enum DimDef {
    /// A number.
    Value(i64),
    /// A named unknown.
    Param(String),
    /// An unnamed unknown.
    Unknown,
}

/// A node.
#[derive(Debug)]
pub struct NodeDef {
    /// Name; may be empty.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Domain; the default domain is the empty text.
    pub domain: String,
    /// Overload, for model-local functions.
    pub overload: String,
    /// Inputs; an empty name is an absent optional.
    pub inputs: Vec<String>,
    /// Outputs; an empty name is not wanted.
    pub outputs: Vec<String>,
    /// Attributes.
    pub attrs: Vec<AttrDef>,
}

/// A named attribute.
#[derive(Debug)]
pub struct AttrDef {
    /// Name.
    pub name: String,
    /// Value.
    pub value: AttrValue,
}

/// Value of an attribute.
#[derive(Debug)]
pub enum AttrValue {
    /// A number.
    Float(f32),
    /// An integer.
    Int(i64),
    /// Text, in no promised encoding.
    Str(Vec<u8>),
    /// A tensor.
    Tensor(TensorDef),
    /// A subgraph.
    Graph(GraphDef),
    /// Numbers.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Texts.
    Strs(Vec<Vec<u8>>),
    /// Several subgraphs.
    Graphs(Vec<GraphDef>),
    /// The attribute of that name of the function that the node stands in.
    Ref(String),
    /// A type.
    Type(TypeDef),
    /// A kind that no operator here reads.
    Other(&'static str),
}

impl AttrValue {
    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            AttrValue::Float(_) => "a number",
            AttrValue::Int(_) => "an integer",
            AttrValue::Str(_) => "text",
            AttrValue::Tensor(_) => "a tensor",
            AttrValue::Graph(_) => "a graph",
            AttrValue::Floats(_) => "a list of numbers",
            AttrValue::Ints(_) => "a list of integers",
            AttrValue::Strs(_) => "a list of texts",
            AttrValue::Graphs(_) => "a list of graphs",
            AttrValue::Ref(_) => "a reference",
            AttrValue::Type(_) => "a type",
            AttrValue::Other(k) => k,
        }
    }
    /// Subgraphs in it.
    pub fn graphs(&self) -> &[GraphDef] {
        match self {
            AttrValue::Graph(g) => std::slice::from_ref(g),
            AttrValue::Graphs(g) => g,
            _ => &[],
        }
    }
}

/// A constant tensor.
#[derive(Clone, Debug)]
pub struct TensorDef {
    /// Name; may be empty.
    pub name: String,
    /// ONNX number of the dtype.
    pub elem: i32,
    /// Dims as they stand in the file.
    pub dims: Vec<i64>,
    /// Elements.
    pub data: TensorData,
}

/// A range of bytes that somebody keeps: the mapped model file, or a buffer.
#[derive(Clone)]
pub struct Bytes {
    /// Who keeps them.
    pub owner: Arc<dyn ByteOwner>,
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes { offset: 0, len: bytes.len(), owner: Arc::new(bytes) }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// Elements of a constant tensor.
#[derive(Clone, Debug)]
pub enum TensorData {
    /// Dense little-endian bytes as the dtype is packed in memory.
    Bytes(Bytes),
    /// Texts.
    Strings(Vec<Vec<u8>>),
    /// A range of a file beside the model; `len` may be left to the shape.
    External {
        /// File name as the model gives it.
        location: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: Option<u64>,
    },
    /// Coordinates and values of the non-zero elements.
    Sparse {
        /// Non-zero elements.
        values: Box<TensorDef>,
        /// Their positions, `[count]` (row-major) or `[count, rank]`.
        indices: Box<TensorDef>,
    },
    /// Cannot be read; why.
    Bad(String),
}

/// Portwright's dtype of an ONNX dtype number; `None` for `UNDEFINED` and numbers that this version does not know.
///
/// # Source
/// `onnx.proto`, `TensorProto.DataType` (numbers above 22 are younger than the schema that the parser carries).
pub fn dtype_of(elem: i32) -> Option<DType> {
    Some(match elem {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::Str,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        14 => DType::C64,
        15 => DType::C128,
        16 => DType::BF16,
        17 => DType::F8E4M3FN,
        18 => DType::F8E4M3FNUZ,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2FNUZ,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        27 => DType::F6E2M3,
        28 => DType::F6E3M2,
        _ => return None,
    })
}
