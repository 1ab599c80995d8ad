// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random ONNX models: every operator that is imported, with operands and attributes that fit more often than not.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};
use protobuf::{EnumOrUnknown, Message, MessageField};

use crate::draw::Draw;

/// Attributes with the kind of their values: `i` integer, `f` number, `s` text, `l` list of integers, `t` tensor, `g` subgraph.
const ATTRIBUTES: &[(&str, char)] = &[
    ("axis", 'i'),
    ("axes", 'l'),
    ("keepdims", 'i'),
    ("kernel_shape", 'l'),
    ("pads", 'l'),
    ("strides", 'l'),
    ("dilations", 'l'),
    ("group", 'i'),
    ("perm", 'l'),
    ("to", 'i'),
    ("mode", 's'),
    ("alpha", 'f'),
    ("beta", 'f'),
    ("epsilon", 'f'),
    ("value", 't'),
    ("shape", 'l'),
    ("split", 'l'),
    ("num_outputs", 'i'),
    ("largest", 'i'),
    ("sorted", 'i'),
    ("exclusive", 'i'),
    ("reverse", 'i'),
    ("batch_dims", 'i'),
    ("block_size", 'i'),
    ("bits", 'i'),
    ("ceil_mode", 'i'),
    ("auto_pad", 's'),
    ("equation", 's'),
    ("direction", 's'),
    ("hidden_size", 'i'),
    ("num_heads", 'i'),
    ("kv_num_heads", 'i'),
    ("scale", 'f'),
    ("transA", 'i'),
    ("transB", 'i'),
    ("reduction", 's'),
    ("dtype", 'i'),
    ("seed", 'f'),
    ("coordinate_transformation_mode", 's'),
    ("nearest_mode", 's'),
    ("antialias", 'i'),
    ("output_shape", 'l'),
    ("count_include_pad", 'i'),
    ("storage_order", 'i'),
    ("allowzero", 'i'),
    ("body", 'g'),
    ("then_branch", 'g'),
    ("else_branch", 'g'),
    ("stash_type", 'i'),
    ("K", 'i'),
    ("N", 'i'),
];
const TEXTS: &[&str] = &[
    "",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "nearest",
    "linear",
    "cubic",
    "add",
    "mul",
    "max",
    "min",
    "none",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "NOTSET",
    "forward",
    "reverse",
    "bidirectional",
    "ij,jk->ik",
    "...ij->...ji",
    "mean",
    "sum",
    "align_corners",
    "half_pixel",
    "DCR",
    "CRD",
    "floor",
    "ceil",
    "tanh",
    "bilinear",
    "zeros",
];
const NAMES: &[&str] = &["a", "b", "c", "d", "e", "f", "x", "i", "w", "k", "s"];

fn info(name: &str, elem: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension {
        value: Some(if d < 0 { dimension::Value::DimParam("N".into()) } else { dimension::Value::DimValue(d) }),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type: elem, shape: MessageField::some(shape), ..Default::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(ty), ..Default::default() }
}

fn ints(name: &str, dims: &[i64], v: &[i64]) -> TensorProto {
    let raw_data = v.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto { name: name.into(), data_type: 7, dims: dims.to_vec(), raw_data, ..Default::default() }
}

fn floats(name: &str, dims: &[i64], d: &mut Draw<'_>) -> TensorProto {
    let n = dims.iter().product::<i64>().clamp(0, 4096);
    let raw_data = (0..n).flat_map(|_| ((d.next() % 64) as f32 / 16.0 - 2.0).to_le_bytes()).collect();
    TensorProto { name: name.into(), data_type: 1, dims: dims.to_vec(), raw_data, ..Default::default() }
}

fn attribute(name: &str, kind: char, depth: usize, d: &mut Draw<'_>) -> AttributeProto {
    let mut a = AttributeProto { name: name.into(), ..Default::default() };
    let small = |d: &mut Draw<'_>| d.below(6) as i64 - if d.one_in(3) { 2 } else { 0 };
    let of = |t: AttributeType| EnumOrUnknown::new(t);
    match kind {
        'f' => (a.type_, a.f) = (of(AttributeType::FLOAT), [0.0, 1.0, 1e-5, 0.5, -1.0, f32::NAN, f32::INFINITY][d.below(7)]),
        's' => (a.type_, a.s) = (of(AttributeType::STRING), d.pick(TEXTS).unwrap_or(&"").as_bytes().to_vec()),
        'l' => (a.type_, a.ints) = (of(AttributeType::INTS), (0..d.below(5)).map(|_| small(d)).collect()),
        't' => {
            a.type_ = of(AttributeType::TENSOR);
            a.t = MessageField::some(if d.one_in(2) { ints("", &[2], &[1, 2]) } else { floats("", &[1], d) });
        }
        'g' => (a.type_, a.g) = (of(AttributeType::GRAPH), MessageField::some(graph(d, depth + 1))),
        _ => (a.type_, a.i) = (of(AttributeType::INT), small(d)),
    }
    a
}

/// A graph whose nodes take what is there; in a subgraph also what is around it.
fn graph(d: &mut Draw<'_>, depth: usize) -> GraphProto {
    let mut g = GraphProto { name: "g".into(), ..Default::default() };
    let rank = d.below(5);
    let dims: Vec<i64> = (0..rank).map(|_| [1, 2, 3, 4, 8, -1, 0][d.below(7)]).collect();
    if depth == 0 {
        let elem = [1, 1, 1, 7, 6, 10, 16, 11, 9, 2, 3][d.below(11)];
        g.input = vec![info("x", elem, &dims), info("a", elem, &dims), info("i", 7, &[2]), info("c", 9, &[])];
        let w: Vec<i64> = dims.iter().map(|d| (*d).max(1)).collect();
        g.initializer =
            vec![floats("w", &w, d), floats("k", &[4, 4, 3, 3], d), ints("s", &[2], &[1, 2]), ints("n", &[], &[3]), floats("b", &[4], d)];
    } else if d.one_in(2) {
        g.input = vec![info("it", 7, &[]), info("go", 9, &[]), info("p", 1, &dims)];
    }
    let operators = portwright_frontend::operators();
    let mut known: Vec<String> = NAMES.iter().map(|s| (*s).to_owned()).collect();
    known.extend(g.input.iter().map(|v| v.name.clone()));
    for n in 0..1 + d.below(if depth == 0 { 6 } else { 3 }) {
        let i = (d.next() % operators.len() as u64) as usize;
        let Some(&(domain, op, _)) = operators.get(i) else { continue };
        let mut node = NodeProto { op_type: op.into(), ..Default::default() };
        if domain != "ai.onnx" {
            node.domain = domain.into();
        }
        for _ in 0..1 + d.below(4) {
            let name =
                if d.one_in(12) { String::new() } else { known[known.len() - 1 - d.below(known.len()).min(d.below(known.len()))].clone() };
            node.input.push(name);
        }
        for _ in 0..d.below(4) {
            let i = (d.next() % ATTRIBUTES.len() as u64) as usize;
            let (name, kind) = ATTRIBUTES[i];
            if kind != 'g' || depth < 2 {
                node.attribute.push(attribute(name, kind, depth, d));
            }
        }
        for needed in ["body", "then_branch", "else_branch"].iter().filter(|n| match op {
            "Loop" | "Scan" | "SequenceMap" => **n == "body",
            "If" => **n != "body",
            _ => false,
        }) {
            if depth < 3 {
                node.attribute.push(attribute(needed, 'g', depth, d));
            }
        }
        let made = format!("v{depth}_{n}");
        node.output.push(made.clone());
        if d.one_in(5) {
            node.output.push(format!("u{depth}_{n}"));
        }
        known.push(made);
        g.node.push(node);
    }
    let outputs: Vec<String> = known.iter().rev().take(1 + d.below(3)).cloned().collect();
    g.output = outputs.iter().map(|o| ValueInfoProto { name: o.clone(), ..Default::default() }).collect();
    g
}

/// The bytes of a random model.
pub fn model(d: &mut Draw<'_>) -> Vec<u8> {
    let opset = |domain: &str, version: i64| OperatorSetIdProto { domain: domain.into(), version, ..Default::default() };
    let version = [7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24][d.below(17)];
    let domains = portwright_frontend::operators().into_iter().map(|o| o.0).filter(|d| *d != "ai.onnx");
    let mut opset_import = vec![opset("", version)];
    for domain in domains {
        if !opset_import.iter().any(|o| o.domain == domain) {
            opset_import.push(opset(domain, if domain == "ai.onnx.ml" { 3 } else { 1 }));
        }
    }
    let m = ModelProto { ir_version: 10, opset_import, graph: MessageField::some(graph(d, 0)), ..Default::default() };
    m.write_to_bytes().unwrap_or_default()
}
