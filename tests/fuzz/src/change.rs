// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of ONNX models that leave most of them legal: dims and dtypes throughout, operators of equal form, attributes as the schema has
//! them, nodes that come, go or move into a branch.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use portwright_frontend::model::dtype_of;
use portwright_frontend::{arity, operators, schema, tensor_from_pb};
use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::Tensor;
use protobuf::{EnumOrUnknown, Message, MessageField};

use crate::draw::Draw;
use crate::{models, wire};

/// Most bytes of a model, and most elements of a tensor in it that was changed.
const BYTES: usize = 1 << 16;
const ELEMS: usize = 4096;
/// Dtypes that inputs change to, by their numbers in ONNX.
const DTYPES: &[i32] = &[1, 1, 10, 16, 11, 7, 6, 2, 3, 9, 4, 5, 12, 13, 17, 19, 21, 22];

/// A change; it may find nothing to do.
type Change = for<'d> fn(&mut ModelProto, &mut Draw<'d>) -> Option<()>;

const CHANGES: &[Change] = &[
    attribute,
    attribute,
    attribute,
    dims,
    dims,
    dtypes,
    operator,
    operator,
    rewire,
    rewire,
    remove,
    insert,
    insert,
    insert,
    version,
    optional,
    to_input,
    to_constant,
    output,
    twice,
    branch,
];

/// Another model, from one that is known; bytes that are none are changed as fields.
pub fn model(data: &[u8], d: &mut Draw<'_>) -> Vec<u8> {
    let parsed = ModelProto::parse_from_bytes(data).ok().filter(|m| m.graph.as_ref().is_some_and(|g| !g.node.is_empty()));
    let Some(mut m) = parsed.filter(|_| !d.one_in(10)) else { return wire::protobuf(data, d) };
    let (wanted, mut done) = (1 + d.below(2), 0);
    for _ in 0..8 {
        let Some(change) = d.pick(CHANGES) else { break };
        done += usize::from(change(&mut m, d).is_some());
        if done == wanted {
            break;
        }
    }
    match m.write_to_bytes() {
        Ok(bytes) if bytes.len() <= BYTES => bytes,
        _ => data.to_vec(),
    }
}

/// A model of others' making, without the types that it declares beside those of its inputs: they would not outlast the first change.
pub fn seed(data: &[u8]) -> Option<Vec<u8>> {
    let mut m = ModelProto::parse_from_bytes(data).ok()?;
    let g = m.graph.as_mut()?;
    g.value_info.clear();
    g.doc_string.clear();
    g.output.iter_mut().for_each(|o| o.type_ = MessageField::none());
    m.write_to_bytes().ok().filter(|b| b.len() <= 1 << 14)
}

/// The graph, or one inside of it.
fn some_graph<'m>(m: &'m mut ModelProto, d: &mut Draw<'_>) -> Option<&'m mut GraphProto> {
    let mut g = m.graph.as_mut()?;
    for _ in 0..4 {
        let inner = |g: &GraphProto| g.node.iter().position(|n| n.attribute.iter().any(|a| a.g.is_some()));
        let Some(at) = inner(g).filter(|_| d.one_in(2)) else { break };
        let attributes = g.node[at].attribute.iter_mut().filter_map(|a| a.g.as_mut());
        let mut all: Vec<&mut GraphProto> = attributes.collect();
        let i = d.below(all.len());
        g = all.swap_remove(i);
    }
    Some(g)
}

fn some_node<'m>(m: &'m mut ModelProto, d: &mut Draw<'_>) -> Option<&'m mut NodeProto> {
    let g = some_graph(m, d)?;
    let i = d.below(g.node.len());
    g.node.get_mut(i)
}

/// Version of an operator set that the model asks for.
fn version_of(m: &ModelProto, domain: &str) -> i64 {
    let plain = |s: &str| if s == "ai.onnx" { String::new() } else { s.to_owned() };
    m.opset_import.iter().find(|o| plain(&o.domain) == plain(domain)).map_or(1, |o| o.version)
}

/// Dense elements of a tensor, as numbers.
fn elements(t: &TensorProto) -> Option<Tensor> {
    let t = tensor_from_pb(&t.write_to_bytes().ok()?, None).ok()?;
    let dims = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
    Tensor::new(t.dtype, dims, t.data)
}

/// Gives a tensor another dtype and dims; its elements come again in order.
fn refill(t: &mut TensorProto, elem: i32, dims: &[i64]) -> Option<()> {
    let old = elements(t)?;
    let to = dtype_of(elem).filter(|d| !d.is_handle() && !matches!(d, DType::C64 | DType::C128))?;
    let sizes = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
    let n = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= ELEMS)?;
    let values: Vec<f64> = old.to_f64();
    let filled: Vec<f64> = if values.is_empty() { vec![0.0; n] } else { values.into_iter().cycle().take(n).collect() };
    let raw_data = Tensor::from_f64(to, sizes, &filled).bytes().to_vec();
    *t = TensorProto { name: t.name.clone(), data_type: elem, dims: dims.to_vec(), raw_data, ..Default::default() };
    Some(())
}

fn tensor_type(v: &mut ValueInfoProto) -> Option<&mut type_proto::Tensor> {
    match v.type_.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(t) => Some(t),
        _ => None,
    }
}

/// A size becomes another, wherever it is a dim of an input or of an initializer.
fn dims(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = m.graph.as_mut()?;
    let sizes = |v: &mut ValueInfoProto| -> Vec<i64> {
        let shape = tensor_type(v).and_then(|t| t.shape.as_ref());
        shape.map_or_else(Vec::new, |s| s.dim.iter().filter_map(|d| if d.has_dim_value() { Some(d.dim_value()) } else { None }).collect())
    };
    let all: Vec<i64> = g.input.iter_mut().flat_map(sizes).collect();
    let from = *d.pick(&all)?;
    let to = [0, 1, 2, 3, 4, 5, 7, 8, 17, -1][d.below(10)];
    let held = g.initializer.iter().any(|t| t.dims.contains(&from));
    if to < 0 && held {
        return None;
    }
    for v in &mut g.input {
        for dim in tensor_type(v).and_then(|t| t.shape.as_mut()).into_iter().flat_map(|s| s.dim.iter_mut()) {
            if dim.has_dim_value() && dim.dim_value() == from {
                dim.value = Some(if to < 0 { dimension::Value::DimParam("D".into()) } else { dimension::Value::DimValue(to) });
            }
        }
    }
    for t in &mut g.initializer {
        let dims: Vec<i64> = t.dims.iter().map(|&s| if s == from { to } else { s }).collect();
        if dims != t.dims {
            refill(t, t.data_type, &dims);
        }
    }
    Some(())
}

/// A dtype becomes another, wherever it is that of an input, of an initializer or of what a cast gives.
fn dtypes(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = m.graph.as_mut()?;
    let elem = |v: &mut ValueInfoProto| tensor_type(v).map(|t| t.elem_type);
    let all: Vec<i32> = g.input.iter_mut().filter_map(elem).chain(g.initializer.iter().map(|t| t.data_type)).collect();
    let (from, to) = (*d.pick(&all)?, *d.pick(DTYPES)?);
    retype(g, from, to, 0);
    Some(())
}

fn retype(g: &mut GraphProto, from: i32, to: i32, depth: usize) {
    for t in g.input.iter_mut().chain(&mut g.output).chain(&mut g.value_info).filter_map(tensor_type) {
        t.elem_type = if t.elem_type == from { to } else { t.elem_type };
    }
    for t in g.initializer.iter_mut().filter(|t| t.data_type == from) {
        let dims = t.dims.clone();
        refill(t, to, &dims);
    }
    for a in g.node.iter_mut().flat_map(|n| n.attribute.iter_mut()) {
        if matches!(a.name.as_str(), "to" | "dtype") && a.i == i64::from(from) {
            a.i = to.into();
        }
        if let Some(t) = a.t.as_mut().filter(|t| t.data_type == from) {
            let dims = t.dims.clone();
            refill(t, to, &dims);
        }
        if let Some(g) = a.g.as_mut().filter(|_| depth < 4) {
            retype(g, from, to, depth + 1);
        }
    }
}

/// An operator of the same form takes the place of a node's.
fn operator(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let known = m.clone();
    let n = some_node(m, d)?;
    let version = version_of(&known, &n.domain);
    let old = schema::find(&n.domain, &n.op_type, version)?;
    let form = |s: &schema::Schema| s.inputs.iter().map(|i| i.ty).take(n.input.len()).collect::<String>();
    let dtypes = |s: &schema::Schema| s.inputs.first().and_then(|i| s.types.iter().find(|t| t.0 == i.ty)).map_or(u64::MAX, |t| t.1);
    let fits = |op: &str| {
        let s = schema::find(&n.domain, op, version)?;
        let inputs = (s.count.0..=s.count.1).contains(&n.input.len()) && form(s) == form(old);
        let needs = s.attrs.iter().all(|a| !a.2 || n.attribute.iter().any(|b| b.name == a.0));
        (inputs && needs && dtypes(s) & dtypes(old) != 0).then_some(s)
    };
    let plain = if n.domain.is_empty() { "ai.onnx" } else { n.domain.as_str() };
    let all: Vec<(&str, &schema::Schema)> =
        operators().into_iter().filter(|o| o.0 == plain && o.2 <= version).filter_map(|o| Some((o.1, fits(o.1)?))).collect();
    let &(op, s) = d.pick(&all)?;
    n.op_type = op.into();
    n.attribute.retain(|a| s.attrs.iter().any(|b| b.0 == a.name));
    Some(())
}

/// An attribute that the schema has comes, goes, or gets another value.
fn attribute(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let known = m.clone();
    let n = some_node(m, d)?;
    let s = schema::find(&n.domain, &n.op_type, version_of(&known, &n.domain));
    let Some(s) = s.filter(|s| !s.attrs.is_empty() && !d.one_in(16)) else {
        let i = d.below(n.attribute.len());
        return alter(n.attribute.get_mut(i)?, d);
    };
    let &(name, kind, needed) = d.pick(&s.attrs)?;
    match n.attribute.iter().position(|a| a.name == name) {
        Some(i) if !needed && d.one_in(5) => {
            n.attribute.remove(i);
        }
        Some(i) => return alter(&mut n.attribute[i], d),
        None => n.attribute.push(models::attribute_of(name, kind, d)?),
    }
    Some(())
}

fn alter(a: &mut AttributeProto, d: &mut Draw<'_>) -> Option<()> {
    let near = |v: i64, d: &mut Draw<'_>| match d.below(8) {
        0 => v.wrapping_add(1),
        1 => v.wrapping_sub(1),
        2 => v.wrapping_neg(),
        3 => 0,
        4 => 1,
        5 => -1,
        6 => v.wrapping_mul(2),
        _ => d.below(9) as i64,
    };
    match a.type_.enum_value().ok()? {
        AttributeType::INT => a.i = near(a.i, d),
        AttributeType::FLOAT => a.f = [0.0, 1.0, -a.f, a.f * 2.0, a.f + 0.5, 1e-5, f32::INFINITY][d.below(7)],
        AttributeType::STRING => a.s = models::text_of(&a.name, d).into_bytes(),
        AttributeType::INTS => {
            let (i, j) = (d.below(a.ints.len()), d.below(a.ints.len()));
            match d.below(4) {
                0 if !a.ints.is_empty() => a.ints.swap(i, j),
                1 if !a.ints.is_empty() => {
                    a.ints.remove(i);
                }
                2 => a.ints.insert(i, near(1, d)),
                _ => {
                    let v = a.ints.get_mut(i)?;
                    *v = near(*v, d);
                }
            }
        }
        AttributeType::FLOATS => {
            let i = d.below(a.floats.len());
            *a.floats.get_mut(i)? = [0.0, 1.0, -1.0, 0.5, 100.0][d.below(5)];
        }
        AttributeType::TENSOR => {
            let t = a.t.as_mut()?;
            let elem = if d.one_in(2) { *d.pick(DTYPES)? } else { t.data_type };
            let dims = if d.one_in(2) { t.dims.clone() } else { vec![[0, 1, 2, 3, 4][d.below(5)]; d.below(3)] };
            refill(t, elem, &dims)?;
        }
        _ => return None,
    }
    Some(())
}

/// Names that a node at that place can take: inputs, initializers and what nodes before it give.
fn names(g: &GraphProto, before: usize) -> Vec<String> {
    let made = g.node.iter().take(before).flat_map(|n| n.output.iter());
    let all = made.chain(g.input.iter().map(|v| &v.name)).chain(g.initializer.iter().map(|t| &t.name));
    all.filter(|n| !n.is_empty()).cloned().collect()
}

/// A node takes another value.
fn rewire(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = some_graph(m, d)?;
    let at = d.below(g.node.len());
    let all = names(g, at);
    let n = g.node.get_mut(at)?;
    let i = d.below(n.input.len());
    let to = n.input.get_mut(i)?;
    *to = d.pick(&all)?.clone();
    Some(())
}

/// Every use of a value becomes one of another.
fn replace(g: &mut GraphProto, from: &str, to: &str, nodes: std::ops::Range<usize>) {
    for n in g.node.get_mut(nodes).into_iter().flatten() {
        n.input.iter_mut().filter(|i| *i == from).for_each(|i| *i = to.to_owned());
    }
}

/// A node goes; what it gave is what it took.
fn remove(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = some_graph(m, d)?;
    if g.node.len() < 2 {
        return None;
    }
    let n = g.node.remove(d.below(g.node.len()));
    let (to, all) = (n.input.first().filter(|i| !i.is_empty())?, g.node.len());
    for from in n.output.iter().filter(|o| !o.is_empty()) {
        replace(g, from, to, 0..all);
        g.output.iter_mut().filter(|o| o.name == *from).for_each(|o| o.name = to.clone());
    }
    Some(())
}

/// A name that no value has.
fn fresh(g: &GraphProto, d: &mut Draw<'_>) -> String {
    format!("z{}_{}", g.node.len(), d.next() % 100_000)
}

/// A node comes between a value and those that take it, or beside it as a new output.
fn insert(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    const ONE: &[&str] = &[
        "Relu",
        "Neg",
        "Abs",
        "Identity",
        "Exp",
        "Sigmoid",
        "Tanh",
        "Transpose",
        "Softmax",
        "LogSoftmax",
        "Shape",
        "Size",
        "NonZero",
        "Sqrt",
        "Floor",
        "Sign",
        "Not",
        "Unsqueeze",
        "Flatten",
        "ReduceSum",
        "ReduceMax",
        "ArgMax",
        "CumSum",
        "Cast",
        "Erf",
        "Hardmax",
        "Gelu",
        "Reciprocal",
        "Squeeze",
        "LpNormalization",
        "GlobalAveragePool",
        "IsNaN",
        "Det",
        "Round",
        "Mish",
        "DynamicQuantizeLinear",
        "ReduceMean",
        "ReduceL2",
    ];
    const TWO: &[&str] = &[
        "Add",
        "Mul",
        "Sub",
        "Div",
        "Max",
        "Min",
        "Concat",
        "MatMul",
        "Equal",
        "Less",
        "Pow",
        "Mod",
        "And",
        "BitwiseXor",
        "PRelu",
        "Sum",
        "Gather",
        "Expand",
        "Tile",
        "Reshape",
        "GatherElements",
        "BitShift",
        "MatMulInteger",
    ];
    let known = m.clone();
    let g = some_graph(m, d)?;
    let at = d.below(g.node.len() + 1);
    let all = names(g, at);
    let from = d.pick(&all)?.clone();
    let made = fresh(g, d);
    let two = d.one_in(3);
    let op = d.pick(if two { TWO } else { ONE })?;
    let mut n = NodeProto { op_type: (*op).to_owned(), output: vec![made.clone()], ..Default::default() };
    n.input.push(from.clone());
    if two {
        n.input.push(if d.one_in(2) { from.clone() } else { d.pick(&all)?.clone() });
    }
    let s = schema::find("", op, version_of(&known, ""))?;
    for &(name, kind, needed) in &s.attrs {
        if needed || d.one_in(6) {
            n.attribute.push(models::attribute_of(name, kind, d)?);
        }
    }
    g.node.insert(at, n);
    let end = g.node.len();
    if d.one_in(3) {
        g.output.push(ValueInfoProto { name: made, ..Default::default() });
    } else {
        replace(g, &from, &made, at + 1..end);
        g.output.iter_mut().filter(|o| o.name == from).for_each(|o| o.name = made.clone());
    }
    Some(())
}

/// Another version of an operator set.
fn version(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let i = d.below(m.opset_import.len());
    let o = m.opset_import.get_mut(i)?;
    o.version = if o.domain.is_empty() || o.domain == "ai.onnx" { 7 + d.below(19) as i64 } else { 1 + d.below(5) as i64 };
    Some(())
}

/// An input that a node may do without goes.
fn optional(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let n = some_node(m, d)?;
    let (least, _) = arity(&n.domain, &n.op_type)?;
    if n.input.len() <= least {
        return None;
    }
    let at = least + d.below(n.input.len() - least);
    if at + 1 == n.input.len() {
        n.input.pop();
    } else {
        n.input[at].clear();
    }
    Some(())
}

/// An initializer becomes an input, or is one as well.
fn to_input(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = m.graph.as_mut()?;
    let i = d.below(g.initializer.len());
    let t = g.initializer.get(i)?;
    if g.input.iter().any(|v| v.name == t.name) {
        return None;
    }
    g.input.push(models::info(&t.name, t.data_type, &t.dims));
    if d.one_in(2) {
        g.initializer.remove(i);
    }
    Some(())
}

/// An input becomes a constant.
fn to_constant(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = m.graph.as_mut()?;
    if g.input.len() < 2 {
        return None;
    }
    let i = d.below(g.input.len());
    let v = g.input.get_mut(i)?;
    let (name, t) = (v.name.clone(), tensor_type(v)?.clone());
    let dims: Vec<i64> = t.shape.as_ref()?.dim.iter().map(|d| if d.has_dim_value() { d.dim_value() } else { 2 }).collect();
    let raw_data = vec![d.below(4) as u8; 4];
    let mut made =
        TensorProto { name, data_type: 1, dims: vec![2, 2], float_data: vec![0.0, 1.0, 2.0, f32::from(raw_data[0])], ..Default::default() };
    refill(&mut made, t.elem_type, &dims)?;
    g.input.remove(i);
    g.initializer.push(made);
    Some(())
}

/// A value is an output as well.
fn output(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = m.graph.as_mut()?;
    let name = d.pick(&names(g, g.node.len()))?.clone();
    if g.output.iter().any(|o| o.name == name) {
        return None;
    }
    g.output.push(ValueInfoProto { name, ..Default::default() });
    Some(())
}

/// A node comes once more; those behind it take the copy's results.
fn twice(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = some_graph(m, d)?;
    let at = d.below(g.node.len());
    let mut n = g.node.get(at)?.clone();
    let (first, end) = (n.output.first()?.clone(), g.node.len() + 1);
    let made = fresh(g, d);
    n.output = vec![made.clone()];
    if d.one_in(2) {
        n.input = n.input.iter().map(|i| if n.input.first() == Some(i) && !i.is_empty() { first.clone() } else { i.clone() }).collect();
    }
    g.node.insert(at + 1, n);
    replace(g, &first, &made, at + 2..end);
    g.output.iter_mut().filter(|o| o.name == first).for_each(|o| o.name = made.clone());
    Some(())
}

/// A node moves into the branches of an `If` over a new input, in one of them with another operand behind it.
fn branch(m: &mut ModelProto, d: &mut Draw<'_>) -> Option<()> {
    let g = m.graph.as_mut()?;
    let at = d.below(g.node.len());
    let n = g.node.get(at)?.clone();
    let result = n.output.first().filter(|o| !o.is_empty())?.clone();
    let one = |tag: &str, op: &str| {
        let mut inner = n.clone();
        inner.output = vec![format!("{result}_{tag}")];
        let last =
            NodeProto { op_type: op.into(), input: inner.output.clone(), output: vec![format!("{result}_{tag}_y")], ..Default::default() };
        let output = vec![ValueInfoProto { name: last.output[0].clone(), ..Default::default() }];
        let g = GraphProto { name: tag.into(), node: vec![inner, last], output, ..Default::default() };
        let type_ = EnumOrUnknown::new(AttributeType::GRAPH);
        AttributeProto { name: format!("{tag}_branch"), type_, g: MessageField::some(g), ..Default::default() }
    };
    let other = ["Identity", "Neg", "Relu", "Abs"][d.below(4)];
    let attribute = vec![one("then", "Identity"), one("else", other)];
    let condition = fresh(g, d);
    g.input.push(models::info(&condition, 9, &[]));
    g.node[at] = NodeProto { op_type: "If".into(), input: vec![condition], output: vec![result], attribute, ..Default::default() };
    Some(())
}
