// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds small models in code.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use portwright_frontend::{ImportOptions, Imported, import_bytes};
use portwright_ir::diag::Diags;
use protobuf::{EnumOrUnknown, Message, MessageField};

/// A dim of an input.
#[derive(Clone)]
pub enum D {
    V(i64),
    P(&'static str),
    Unset,
}

pub fn value(name: &str, elem: i32, dims: &[D]) -> ValueInfoProto {
    let dim = |d: &D| Dimension {
        value: match d {
            D::V(v) => Some(dimension::Value::DimValue(*v)),
            D::P(p) => Some(dimension::Value::DimParam((*p).into())),
            D::Unset => None,
        },
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type: elem, shape: MessageField::some(shape), ..Default::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(ty), ..Default::default() }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

pub fn named(name: &str, n: NodeProto) -> NodeProto {
    NodeProto { name: name.into(), ..n }
}

pub fn with(mut n: NodeProto, a: AttributeProto) -> NodeProto {
    n.attribute.push(a);
    n
}

fn attr(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: EnumOrUnknown::new(kind), ..Default::default() }
}
pub fn int(name: &str, v: i64) -> AttributeProto {
    AttributeProto { i: v, ..attr(name, AttributeType::INT) }
}
pub fn float(name: &str, v: f32) -> AttributeProto {
    AttributeProto { f: v, ..attr(name, AttributeType::FLOAT) }
}
pub fn ints_attr(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { ints: v.to_vec(), ..attr(name, AttributeType::INTS) }
}
pub fn text(name: &str, v: &str) -> AttributeProto {
    AttributeProto { s: v.into(), ..attr(name, AttributeType::STRING) }
}
pub fn graph_attr(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { g: MessageField::some(g), ..attr(name, AttributeType::GRAPH) }
}
pub fn reference(name: &str, to: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: to.into(), ..attr(name, kind) }
}

pub fn graph(nodes: Vec<NodeProto>, inputs: Vec<ValueInfoProto>, outputs: Vec<ValueInfoProto>) -> GraphProto {
    GraphProto { name: "g".into(), node: nodes, input: inputs, output: outputs, ..Default::default() }
}

pub fn tensor(name: &str, elem: i32, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    TensorProto { name: name.into(), data_type: elem, dims: dims.to_vec(), raw_data: raw, ..Default::default() }
}

pub fn ints(name: &str, v: &[i64]) -> TensorProto {
    tensor(name, 7, &[v.len() as i64], v.iter().flat_map(|v| v.to_le_bytes()).collect())
}

pub fn external(name: &str, dims: &[i64], location: &str, offset: u64) -> TensorProto {
    let entry = |k: &str, v: String| StringStringEntryProto { key: k.into(), value: v, ..Default::default() };
    TensorProto {
        name: name.into(),
        data_type: 1,
        dims: dims.to_vec(),
        data_location: EnumOrUnknown::new(onnx_protobuf::tensor_proto::DataLocation::EXTERNAL),
        external_data: vec![entry("location", location.into()), entry("offset", offset.to_string())],
        ..Default::default()
    }
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version, ..Default::default() }
}

pub fn function(domain: &str, name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.into(),
        domain: domain.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        node: nodes,
        opset_import: vec![opset("", 20), opset(domain, 1)],
        ..Default::default()
    }
}

/// A model of IR version 10 and opset 20.
pub fn model(g: GraphProto) -> ModelProto {
    ModelProto { ir_version: 10, opset_import: vec![opset("", 20)], graph: MessageField::some(g), ..Default::default() }
}

/// f32 `[N, 4]` in and out.
pub fn simple(nodes: Vec<NodeProto>) -> ModelProto {
    model(graph(nodes, vec![value("x", 1, &[D::P("N"), D::V(4)])], vec![value("y", 1, &[])]))
}

pub fn bytes(m: &ModelProto) -> Vec<u8> {
    m.write_to_bytes().expect("a model that was built can be written")
}

/// Imports and renders all reports, a line each, with notes and help below.
pub fn reports(bytes: &[u8], folder: Option<&std::path::Path>, opts: &ImportOptions) -> (Option<Imported>, String) {
    let mut diags = Diags::new();
    let result = import_bytes(bytes, folder, opts, &mut diags);
    assert_eq!(result.is_err(), diags.has_errors(), "an import fails just when it reports an error");
    let mut out = String::new();
    for d in diags.all() {
        let parts: Vec<&str> = [d.path.as_deref(), d.op.as_deref()].into_iter().flatten().collect();
        out += &format!("{}{}{}: {}\n", d.code, if parts.is_empty() { "" } else { " " }, parts.join(" "), d.message);
        d.notes.iter().for_each(|n| out += &format!("  note: {n}\n"));
        d.help.iter().for_each(|h| out += &format!("  help: {h}\n"));
    }
    (result.ok(), out)
}

/// Asserts what is reported.
#[track_caller]
pub fn expect(m: &ModelProto, expected: &str) {
    let (_, found) = reports(&bytes(m), None, &ImportOptions::default());
    let trim = |s: &str| s.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(trim(&found), trim(expected));
}

/// Asserts that nothing is reported, and returns what was imported.
#[track_caller]
pub fn imported(m: &ModelProto) -> Imported {
    let (i, found) = reports(&bytes(m), None, &ImportOptions::default());
    i.unwrap_or_else(|| panic!("{found}"))
}
