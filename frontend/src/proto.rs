// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protobuf bytes to [`Model`].
//!
//! The generated schema stops at IR version 10. What is younger arrives in two ways, and both are taken on purpose: dtypes as plain
//! integers (see [`crate::model::dtype_of`]), fields as unknown fields. The unknown fields of IR 11 and later are the multi-device
//! configuration of a model and of its nodes (`ModelProto.configuration`, `NodeProto.device_configurations`): hints about where to
//! compute that never change a result. They are not read, since placement is decided for the target at hand.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::type_proto;
use onnx_protobuf::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, TypeProto};
use portwright_ir::weight::ByteOwner;
use protobuf::{CodedInputStream, Message};

use crate::model::*;

/// How many messages may lie in each other. A level of subgraphs is three messages (graph, node, attribute); the bound keeps parsing,
/// importing and dropping within an ordinary stack.
pub const MESSAGE_DEPTH: u32 = 3 * SUBGRAPH_DEPTH + 8;
/// How many subgraphs may lie in each other.
pub const SUBGRAPH_DEPTH: u32 = 48;

/// Why bytes are not a model.
#[derive(Debug)]
pub enum ParseFail {
    /// Malformed or truncated protobuf.
    Malformed(String),
    /// Messages nested deeper than [`MESSAGE_DEPTH`].
    TooDeep,
}

/// Parses one message of type `M`.
///
/// # Errors
/// Malformed bytes, nesting beyond the limit.
pub fn parse<M: Message>(bytes: &[u8]) -> Result<M, ParseFail> {
    parse_within(bytes, MESSAGE_DEPTH)
}

fn parse_within<M: Message>(bytes: &[u8], depth: u32) -> Result<M, ParseFail> {
    let mut m = M::new();
    let mut input = CodedInputStream::from_bytes(bytes);
    input.set_recursion_limit(depth);
    let fail = |e: protobuf::Error| match e.to_string() {
        s if s.contains("recursion limit") => ParseFail::TooDeep,
        s => ParseFail::Malformed(s),
    };
    m.merge_from(&mut input).map_err(fail)?;
    input.check_eof().map_err(fail)?;
    Ok(m)
}

/// Reads a model; `None` if it holds no graph. Where somebody keeps `bytes`, raw data of initializers stays where it is.
///
/// # Errors
/// As [`parse`].
pub fn read(bytes: &[u8], keeper: Option<&Arc<dyn ByteOwner>>) -> Result<Option<Model>, ParseFail> {
    // What the short way does not take, the long one takes or names.
    if let Some(m) = node_by_node(bytes, keeper) {
        return Ok(Some(m));
    }
    let parsed: ModelProto = parse(bytes)?;
    Ok(parsed.graph.is_some().then(|| model(parsed)))
}

/// Reads a model without holding the parsed messages of all its nodes and weights at once; `None` for whatever is unusual.
fn node_by_node(bytes: &[u8], keeper: Option<&Arc<dyn ByteOwner>>) -> Option<Model> {
    const GRAPH: u64 = 7;
    const NODE: u64 = 1;
    const INITIALIZER: u64 = 5;
    let (mut head, mut inner) = (Vec::new(), None);
    for field in Fields(bytes) {
        let f = field?;
        match (f.number, f.message) {
            (GRAPH, Some(_)) if inner.is_some() => return None,
            (GRAPH, Some(m)) => inner = Some(m),
            _ => head.extend_from_slice(f.whole),
        }
    }
    let mut out = model(parse(&head).ok()?);
    let (mut rest, mut nodes, mut initializers) = (Vec::new(), Vec::new(), Vec::new());
    for field in Fields(inner?) {
        let f = field?;
        match (f.number, f.message) {
            (NODE, Some(m)) => nodes.push(node(parse_within(m, MESSAGE_DEPTH - 2).ok()?)),
            (INITIALIZER, Some(m)) => initializers.push(initializer(m, keeper)?),
            _ => rest.extend_from_slice(f.whole),
        }
    }
    let mut g = graph(parse_within(&rest, MESSAGE_DEPTH - 1).ok()?);
    g.nodes = nodes;
    // Sparse ones come last.
    initializers.append(&mut g.initializers);
    g.initializers = initializers;
    out.graph = g;
    Some(out)
}

/// Reads a tensor whose raw bytes, all but a few in a large model, are not copied where somebody keeps them.
fn initializer(message: &[u8], keeper: Option<&Arc<dyn ByteOwner>>) -> Option<TensorDef> {
    const RAW_DATA: u64 = 9;
    let Some(keeper) = keeper else { return Some(tensor(parse_within(message, MESSAGE_DEPTH - 2).ok()?)) };
    let (mut head, mut raw) = (Vec::new(), None);
    for field in Fields(message) {
        let f = field?;
        match (f.number, f.message) {
            // Of a field that is given more than once the last one counts.
            (RAW_DATA, Some(m)) => raw = Some(m),
            _ => head.extend_from_slice(f.whole),
        }
    }
    let raw = match raw.filter(|m| !m.is_empty()) {
        Some(m) => {
            let offset = (m.as_ptr() as usize).checked_sub(keeper.bytes().as_ptr() as usize)?;
            (offset.checked_add(m.len())? <= keeper.bytes().len()).then_some(())?;
            Some(Bytes { owner: keeper.clone(), offset, len: m.len() })
        }
        None => None,
    };
    let mut t: TensorProto = parse_within(&head, MESSAGE_DEPTH - 2).ok()?;
    let data = tensor_data(&mut t, raw);
    Some(TensorDef { name: t.name, elem: t.data_type, dims: t.dims, data })
}

/// One field of a message.
struct Field<'b> {
    number: u64,
    /// Its bytes, tag and all.
    whole: &'b [u8],
    /// What it holds, if its length is given.
    message: Option<&'b [u8]>,
}

/// Fields of a message, in order; `None` at the first that is damaged or a group, which nothing of ONNX is.
struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Option<Field<'b>>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Fields<'b> {
    fn field(&mut self) -> Option<Field<'b>> {
        let all = self.0;
        let (tag, start) = varint(all)?;
        let mut message = None;
        let end = match tag & 7 {
            0 => start + varint(all.get(start..)?)?.1,
            1 => start + 8,
            2 => {
                let (len, size) = varint(all.get(start..)?)?;
                let from = start + size;
                let to = from.checked_add(usize::try_from(len).ok()?)?;
                message = Some(all.get(from..to)?);
                to
            }
            5 => start + 4,
            _ => return None,
        };
        let whole = all.get(..end)?;
        self.0 = all.get(end..)?;
        Some(Field { number: tag >> 3, whole, message })
    }
}

/// A number of up to ten bytes, and how many it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut v = 0u64;
    for (i, b) in bytes.iter().take(10).enumerate() {
        v |= u64::from(b & 0x7f).checked_shl(7 * i as u32)?;
        if b & 0x80 == 0 {
            return Some((v, i + 1));
        }
    }
    None
}

fn domain(d: String) -> String {
    if d == "ai.onnx" { String::new() } else { d }
}

/// Converts a parsed model, moving names and bytes out of it.
pub fn model(mut m: ModelProto) -> Model {
    let mut out = Model {
        ir_version: m.ir_version,
        opsets: m.opset_import.drain(..).map(|o| (domain(o.domain), o.version)).collect(),
        producer: [m.producer_name.as_str(), m.producer_version.as_str()].join(" ").trim().to_string(),
        metadata: m.metadata_props.drain(..).map(|p| (p.key, p.value)).collect(),
        graph: m.graph.take().map(graph).unwrap_or_default(),
        ..Model::default()
    };
    for f in m.functions.drain(..) {
        let (key, f) = function(f);
        match out.functions.entry(key) {
            Entry::Occupied(e) => out.duplicate_functions.push(e.key().clone()),
            Entry::Vacant(e) => {
                e.insert(f);
            }
        }
    }
    out
}

fn function(f: FunctionProto) -> (FunctionKey, FunctionDef) {
    let key = (domain(f.domain), f.name.clone(), f.overload);
    let def = FunctionDef {
        name: f.name,
        inputs: f.input,
        outputs: f.output,
        defaults: f.attribute_proto.into_iter().map(attr).collect(),
        nodes: f.node.into_iter().map(node).collect(),
        opsets: f.opset_import.into_iter().map(|o| (domain(o.domain), o.version)).collect(),
    };
    (key, def)
}

fn graph(g: GraphProto) -> GraphDef {
    let value = |v: onnx_protobuf::ValueInfoProto| ValueDef { name: v.name, ty: v.type_.as_ref().map_or(TypeDef::Missing, type_def) };
    let mut initializers: Vec<TensorDef> = g.initializer.into_iter().map(tensor).collect();
    initializers.extend(g.sparse_initializer.into_iter().map(sparse));
    GraphDef {
        name: g.name,
        nodes: g.node.into_iter().map(node).collect(),
        inputs: g.input.into_iter().map(value).collect(),
        outputs: g.output.into_iter().map(value).collect(),
        infos: g.value_info.into_iter().map(value).collect(),
        initializers,
    }
}

fn node(n: NodeProto) -> NodeDef {
    NodeDef {
        name: n.name,
        op: n.op_type,
        domain: domain(n.domain),
        overload: n.overload,
        inputs: n.input,
        outputs: n.output,
        attrs: n.attribute.into_iter().map(attr).collect(),
    }
}

fn type_def(t: &TypeProto) -> TypeDef {
    match &t.value {
        Some(type_proto::Value::TensorType(t)) => TypeDef::Tensor {
            elem: t.elem_type,
            dims: t.shape.as_ref().map(|s| {
                let dim = |d: &onnx_protobuf::tensor_shape_proto::Dimension| match &d.value {
                    Some(dimension::Value::DimValue(v)) => DimDef::Value(*v),
                    // Exporters write `?` where they mean an unknown dim; as a name it would make all of them equal.
                    Some(dimension::Value::DimParam(p)) if p.contains(char::is_alphanumeric) => DimDef::Param(p.clone()),
                    _ => DimDef::Unknown,
                };
                s.dim.iter().map(dim).collect()
            }),
        },
        Some(type_proto::Value::SequenceType(_)) => TypeDef::Other("a sequence"),
        Some(type_proto::Value::MapType(_)) => TypeDef::Other("a map"),
        Some(type_proto::Value::OptionalType(_)) => TypeDef::Other("an optional"),
        Some(type_proto::Value::SparseTensorType(_)) => TypeDef::Other("a sparse tensor"),
        Some(_) => TypeDef::Other("a value of an unknown kind"),
        None => TypeDef::Missing,
    }
}

fn attr(mut a: AttributeProto) -> AttrDef {
    use AttributeType as T;
    let name = std::mem::take(&mut a.name);
    if !a.ref_attr_name.is_empty() {
        return AttrDef { name, value: AttrValue::Ref(a.ref_attr_name) };
    }
    let kind = match a.type_.enum_value() {
        // Files older than IR version 2 leave the kind out: the field that is set tells it.
        Ok(T::UNDEFINED) if a.t.is_some() => T::TENSOR,
        Ok(T::UNDEFINED) if a.g.is_some() => T::GRAPH,
        Ok(T::UNDEFINED) if !a.ints.is_empty() => T::INTS,
        Ok(T::UNDEFINED) if !a.floats.is_empty() => T::FLOATS,
        Ok(T::UNDEFINED) if !a.strings.is_empty() => T::STRINGS,
        Ok(T::UNDEFINED) if !a.s.is_empty() => T::STRING,
        Ok(T::UNDEFINED) if a.f != 0.0 => T::FLOAT,
        Ok(T::UNDEFINED) => T::INT,
        Ok(k) => k,
        Err(_) => return AttrDef { name, value: AttrValue::Other("a value of an unknown kind") },
    };
    let value = match kind {
        T::FLOAT => AttrValue::Float(a.f),
        T::INT => AttrValue::Int(a.i),
        T::STRING => AttrValue::Str(a.s),
        T::TENSOR => a.t.take().map_or(AttrValue::Other("an empty tensor field"), |t| AttrValue::Tensor(tensor(t))),
        T::GRAPH => a.g.take().map_or(AttrValue::Other("an empty graph field"), |g| AttrValue::Graph(graph(g))),
        T::SPARSE_TENSOR => a.sparse_tensor.take().map_or(AttrValue::Other("an empty tensor field"), |t| AttrValue::Tensor(sparse(t))),
        T::FLOATS => AttrValue::Floats(a.floats),
        T::INTS => AttrValue::Ints(a.ints),
        T::STRINGS => AttrValue::Strs(a.strings),
        T::GRAPHS => AttrValue::Graphs(a.graphs.into_iter().map(graph).collect()),
        T::TYPE_PROTO => AttrValue::Type(a.tp.as_ref().map_or(TypeDef::Missing, type_def)),
        T::TENSORS => AttrValue::Other("a list of tensors"),
        T::SPARSE_TENSORS => AttrValue::Other("a list of sparse tensors"),
        T::TYPE_PROTOS => AttrValue::Other("a list of types"),
        T::UNDEFINED => AttrValue::Other("nothing"),
    };
    AttrDef { name, value }
}

fn sparse(s: SparseTensorProto) -> TensorDef {
    let part = |t: Option<TensorProto>| Box::new(tensor(t.unwrap_or_default()));
    let (values, indices) = (part(s.values.into_option()), part(s.indices.into_option()));
    TensorDef { name: values.name.clone(), elem: values.elem, dims: s.dims, data: TensorData::Sparse { values, indices } }
}

/// Converts a tensor; typed fields become the bytes that a dense tensor has in memory, raw bytes are moved.
pub fn tensor(mut t: TensorProto) -> TensorDef {
    let raw = std::mem::take(&mut t.raw_data);
    let data = tensor_data(&mut t, (!raw.is_empty()).then(|| raw.into()));
    TensorDef { name: t.name, elem: t.data_type, dims: t.dims, data }
}

fn tensor_data(t: &mut TensorProto, raw: Option<Bytes>) -> TensorData {
    if t.segment.is_some() {
        return TensorData::Bad("it is split into segments, which ONNX never came to define".into());
    }
    if t.data_location.enum_value() == Ok(DataLocation::EXTERNAL) {
        return external(t);
    }
    if t.data_type == 8 {
        return TensorData::Strings(std::mem::take(&mut t.string_data));
    }
    if let Some(raw) = raw {
        return TensorData::Bytes(raw);
    }
    let bytes: Vec<u8> = match t.data_type {
        // Complex numbers are stored as pairs, so the same bytes serve both.
        1 | 14 => t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        11 | 15 => t.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        7 => t.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        13 => t.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        12 => t.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect(),
        6 => t.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        4 | 5 | 10 | 16 => t.int32_data.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
        // One byte an entry; types under a byte are packed before they are widened.
        2 | 3 | 9 | 17..=28 => t.int32_data.iter().map(|v| *v as u8).collect(),
        _ => Vec::new(),
    };
    TensorData::Bytes(bytes.into())
}

fn external(t: &mut TensorProto) -> TensorData {
    let (mut location, mut offset, mut len) = (None, 0u64, None);
    for e in t.external_data.drain(..) {
        match e.key.as_str() {
            "location" => location = Some(e.value),
            "offset" => match e.value.parse() {
                Ok(v) => offset = v,
                Err(_) => return TensorData::Bad(format!("its offset in the external file is {:?}, not a number", e.value)),
            },
            "length" => match e.value.parse() {
                Ok(v) => len = Some(v),
                Err(_) => return TensorData::Bad(format!("its length in the external file is {:?}, not a number", e.value)),
            },
            // A checksum of the whole file and the base path of in-memory writers are not needed to read the bytes.
            _ => {}
        }
    }
    match location {
        Some(location) if !location.is_empty() => TensorData::External { location, offset, len },
        _ => TensorData::Bad("its data is external, but no location is given".into()),
    }
}
