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
/// Initializers and their dtypes, by their numbers in ONNX.
const NAMES: &[(&str, i32)] = &[("b", 1), ("w", 1), ("k", 1), ("s", 7), ("n", 7)];

/// An input or output of a dtype, by its number in ONNX, and dims; negative ones are a symbol.
pub(crate) fn info(name: &str, elem: i32, dims: &[i64]) -> ValueInfoProto {
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

/// A text for an attribute of that name, more often than not one that it may have.
pub(crate) fn text_of(name: &str, d: &mut Draw<'_>) -> String {
    let known: &[&str] = match name {
        "mode" => &["constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic", "DCR", "CRD", "bilinear", "IDF", "TF", "TFIDF"],
        "auto_pad" => &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"],
        "direction" => &["forward", "reverse", "bidirectional", "LEFT", "RIGHT"],
        "reduction" => &["none", "add", "mul", "max", "min", "mean", "sum"],
        "equation" => &["ij,jk->ik", "...ij->...ji", "ii->i", "ij->", "i,i", "bij,bjk->bik"],
        "approximate" => &["none", "tanh"],
        "padding_mode" => &["zeros", "border", "reflection"],
        "coordinate_transformation_mode" => &["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"],
        "nearest_mode" => &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"],
        "post_transform" => &["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"],
        "norm" => &["L1", "L2", "MAX"],
        "case_change_action" => &["NONE", "LOWER", "UPPER"],
        _ => TEXTS,
    };
    d.pick(if d.clone().one_in(8) { TEXTS } else { known }).map_or_else(String::new, |t| (*t).to_owned())
}

/// An attribute of a kind (a letter of the schemas' table) with some value that fits its name; `None` for kinds without values of their own.
pub(crate) fn attribute_of(name: &str, kind: char, d: &mut Draw<'_>) -> Option<AttributeProto> {
    let mut a = AttributeProto { name: name.into(), ..Default::default() };
    let small = |d: &mut Draw<'_>| d.below(6) as i64 - if d.one_in(3) { 2 } else { 0 };
    let of = |t: AttributeType| EnumOrUnknown::new(t);
    match kind {
        'i' => {
            a.type_ = of(AttributeType::INT);
            a.i = match name {
                "to" | "dtype" => *d.pick(&[1, 1, 6, 7, 9, 10, 11, 16, 2, 3])?,
                "axis" => d.below(4) as i64 - 2,
                "group" | "block_size" | "blocksize" | "num_heads" | "kv_num_heads" | "hidden_size" => 1 + d.below(4) as i64,
                "keepdims"
                | "noop_with_empty_axes"
                | "largest"
                | "sorted"
                | "exclusive"
                | "reverse"
                | "ceil_mode"
                | "transA"
                | "transB" => d.below(2) as i64,
                _ => small(d),
            };
        }
        'f' => (a.type_, a.f) = (of(AttributeType::FLOAT), [0.0, 1.0, 1e-5, 0.5, -1.0, f32::NAN, f32::INFINITY][d.below(7)]),
        's' => (a.type_, a.s) = (of(AttributeType::STRING), text_of(name, d).into_bytes()),
        'I' => {
            a.type_ = of(AttributeType::INTS);
            a.ints = match name {
                "axes" => vec![d.below(4) as i64 - 1],
                "perm" => (0..1 + d.below(4) as i64).rev().collect(),
                "kernel_shape" => vec![1 + d.below(3) as i64; 1 + d.below(3)],
                "strides" | "dilations" => vec![1 + d.below(2) as i64; 1 + d.below(3)],
                "pads" | "output_padding" => vec![d.below(2) as i64; 2 * (1 + d.below(3))],
                _ => (0..d.below(5)).map(|_| small(d)).collect(),
            };
        }
        'F' => (a.type_, a.floats) = (of(AttributeType::FLOATS), (0..d.below(5)).map(|_| small(d) as f32).collect()),
        'S' => (a.type_, a.strings) = (of(AttributeType::STRINGS), (0..d.below(4)).map(|_| text_of(name, d).into_bytes()).collect()),
        't' => {
            a.type_ = of(AttributeType::TENSOR);
            a.t = MessageField::some(if d.one_in(2) { ints("", &[2], &[1, 2]) } else { floats("", &[1], d) });
        }
        _ => return None,
    }
    Some(a)
}

fn subgraph(name: &str, (depth, version): (usize, i64), d: &mut Draw<'_>) -> AttributeProto {
    let type_ = EnumOrUnknown::new(AttributeType::GRAPH);
    AttributeProto { name: name.into(), type_, g: MessageField::some(graph(d, depth + 1, version)), ..Default::default() }
}

/// A graph whose nodes take what is there; in a subgraph also what is around it.
fn graph(d: &mut Draw<'_>, depth: usize, version: i64) -> GraphProto {
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
    // Names with the dtype that they have or are thought to have.
    let mut known: Vec<(String, i32)> = NAMES.iter().map(|(n, e)| ((*n).to_owned(), *e)).collect();
    known.extend(g.input.iter_mut().filter_map(|v| Some((v.name.clone(), v.type_.as_ref()?.tensor_type().elem_type))));
    for n in 0..1 + d.below(if depth == 0 { 6 } else { 3 }) {
        let i = (d.next() % operators.len() as u64) as usize;
        let Some(&(domain, op, since)) = operators.get(i) else { continue };
        let mut node = NodeProto { op_type: op.into(), ..Default::default() };
        if domain != "ai.onnx" {
            node.domain = domain.into();
        }
        let form = portwright_frontend::schema::find(&node.domain, op, since.max(version));
        let (least, most) = portwright_frontend::arity(&node.domain, op).unwrap_or((1, 1));
        for k in 0..least + if d.one_in(3) { d.below(most.min(least + 4) - least + 1) } else { 0 } {
            let ty = form.and_then(|f| f.inputs.get(k.min(f.inputs.len().saturating_sub(1))));
            let mask = ty.and_then(|i| form?.types.iter().find(|t| t.0 == i.ty)).map_or(u64::MAX, |t| t.1);
            let fits: Vec<&String> = known.iter().rev().filter(|(_, e)| mask >> e & 1 == 1).map(|(n, _)| n).collect();
            let near = d.below(fits.len()).min(d.below(fits.len()));
            let name = fits.get(near).filter(|_| !d.clone().one_in(16)).map_or_else(String::new, |n| (*n).clone());
            node.input.push(name);
        }
        for &(name, kind, needed) in form.into_iter().flat_map(|f| &f.attrs) {
            if kind == 'g' && depth < 3 {
                node.attribute.push(subgraph(name, (depth, version), d));
            } else if needed || d.one_in(5) {
                node.attribute.extend(attribute_of(name, kind, d));
            }
        }
        let made = format!("v{depth}_{n}");
        node.output.push(made.clone());
        if d.one_in(5) {
            node.output.push(format!("u{depth}_{n}"));
        }
        let first = node.input.first().and_then(|i| known.iter().find(|k| k.0 == *i)).map_or(1, |k| k.1);
        known.push((made, first));
        g.node.push(node);
    }
    let outputs: Vec<String> = known.iter().rev().take(1 + d.below(3)).map(|k| k.0.clone()).collect();
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
    let m = ModelProto { ir_version: 10, opset_import, graph: MessageField::some(graph(d, 0, version)), ..Default::default() };
    m.write_to_bytes().unwrap_or_default()
}
