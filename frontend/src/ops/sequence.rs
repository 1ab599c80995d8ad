// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequences and optionals. As far as their lengths are known when the model is compiled they are lists of tensors, and no op remains;
//! others are lists that a run makes and the host works on.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{Dims, HostOp, Item, ItemRank, ListKind, ListType, SymSource, ValueId};
use portwright_ir::sym::{SymExpr, SymName};

use super::control::loop_while;
use super::{Entry, MANY, op};
use crate::cx::{Cx, HostCall, Res, one};
use crate::fault::Fault;
use crate::lists;
use crate::model::{AttrValue, TypeDef};
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("ConcatFromSequence", 11, 1, 1, concat_from_sequence),
    op("Optional", 15, 0, 1, optional),
    op("OptionalGetElement", 15, 1, 1, optional_get),
    op("OptionalHasElement", 15, 0, 1, optional_has),
    op("SequenceAt", 11, 2, 2, at),
    op("SequenceConstruct", 11, 1, MANY, construct),
    op("SequenceEmpty", 11, 0, 0, empty),
    op("SequenceErase", 11, 1, 2, erase),
    op("SequenceInsert", 11, 2, 3, insert),
    op("SequenceLength", 11, 1, 1, length),
    op("SequenceMap", 17, 1, MANY, map),
    op("SplitToSequence", 11, 1, 2, split),
];

/// A sequence: of known length, or of a run.
enum Seq {
    Known(Vec<ValueId>, DType),
    Run(ValueId, ListType),
}

fn seq(cx: &Cx<'_, '_>, i: usize) -> Res<Seq> {
    match cx.slots.get(i) {
        Some(Slot::List(l, d)) => Ok(Seq::Known(l.to_vec(), *d)),
        Some(Slot::Poison) => Err(Fault::follows()),
        Some(Slot::Value(v)) => match &cx.ty(*v).list {
            Some(l) if l.kind == ListKind::Sequence => Ok(Seq::Run(*v, (**l).clone())),
            _ => Err(Fault::form(format!("input {i} is {}, expected a sequence", cx.ty(*v)))),
        },
        _ => Err(Fault::new(Code::UNSUPPORTED_FORM, format!("input {i} is no sequence"))),
    }
}

/// The sequence as one of a run.
fn run(cx: &mut Cx<'_, '_>, s: Seq) -> Res<(ValueId, ListType)> {
    match s {
        Seq::Run(v, l) => Ok((v, l)),
        Seq::Known(values, dtype) => {
            let v = cx.coerce(Slot::List(values.into(), dtype), &TypeDef::Missing)?;
            let list = cx.ty(v).list.as_deref().cloned();
            Ok((v, list.ok_or_else(|| Fault::form("no sequence"))?))
        }
    }
}

fn sequence(v: Vec<ValueId>, dtype: DType) -> Res<Vec<Slot>> {
    Ok(vec![Slot::List(v.into(), dtype)])
}

/// A position in a sequence of `len` that may count from the end; the end itself is one where `end` says so. `None` where only data
/// tells it.
fn position(cx: &mut Cx<'_, '_>, i: usize, len: usize, end: bool) -> Res<Option<usize>> {
    let v = cx.input(i)?;
    let Some(&[p]) = cx.const_numbers(v).as_deref() else { return Ok(None) };
    let p = p as i64;
    let at = if p < 0 { p.saturating_add(len as i64) } else { p };
    let found = usize::try_from(at).ok().filter(|a| *a < len || (end && *a == len));
    found.map(Some).ok_or_else(|| Fault::shape(format!("position {p} in a sequence of {len}")))
}

/// A position as i64 scalar.
fn position_value(cx: &mut Cx<'_, '_>, i: usize) -> Res<ValueId> {
    let v = cx.input(i)?;
    let v = cx.as_scalar(v)?;
    cx.cast(v, DType::I64)
}

fn construct(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let values = cx.all_inputs()?;
    let dtype = values.first().map_or(DType::F32, |&v| cx.dtype(v));
    if let Some(&v) = values.iter().find(|v| cx.dtype(**v) != dtype) {
        return Err(Fault::new(Code::DTYPE_MISMATCH, format!("the first element is {dtype}, another one {}", cx.dtype(v))));
    }
    if dtype == DType::List {
        let items = values.iter().map(|&v| lists::item_of(cx.ty(v)));
        let item = items.map(Some).reduce(|a, b| a?.join(&b?)).flatten();
        let item = item.ok_or_else(|| Fault::form("the elements of a sequence are of different types"))?;
        return one(cx.list_of(ListType::of(ListKind::Sequence, item), &values)?);
    }
    sequence(values, dtype)
}
fn empty(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let dtype = cx.dtype_attr("dtype")?.unwrap_or(DType::F32);
    sequence(Vec::new(), dtype)
}

/// Symbols for the dims of a tensor that comes out of a list.
fn fresh_dims(cx: &mut Cx<'_, '_>, item: Option<&Item>, hint: &str) -> Res<(DType, Dims, Vec<SymName>)> {
    let (dtype, rank) = match item {
        Some(Item::Tensor(d, ItemRank::Is(r))) => (*d, *r),
        Some(Item::Tensor(_, ItemRank::Mixed)) => {
            return Err(Fault::form("the elements of the sequence are of different ranks, so that of this one is not known"));
        }
        Some(Item::Tensor(..)) => {
            let f = Fault::form("the rank of the elements is not known");
            return Err(f.help("declare the shape of the elements, with unknown dims if need be"));
        }
        _ => return Err(Fault::form("its elements are no tensors")),
    };
    let dims: Dims = (0..rank).map(|_| cx.fresh(hint, SymSource::Result)).collect();
    let symbols = dims.iter().filter_map(|d| d.as_sym().cloned()).collect();
    Ok((dtype, dims, symbols))
}

/// An element of a list, by an operation that takes `operands`.
fn element(cx: &mut Cx<'_, '_>, op: HostOp, list: &ListType, operands: &[ValueId]) -> Res<Vec<Slot>> {
    if let Some(Item::List(inner)) = list.item() {
        let inner = (**inner).clone();
        return one(cx.host1(HostCall { list: Some(inner), ..HostCall::new(op, operands, DType::List, Vec::new()) })?);
    }
    let (dtype, dims, symbols) = fresh_dims(cx, list.item(), "element")?;
    one(cx.host1(HostCall { symbols, ..HostCall::new(op, operands, dtype, dims) })?)
}

fn at(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let s = seq(cx, 0)?;
    if let Seq::Known(l, _) = &s
        && let Some(p) = position(cx, 1, l.len(), false)?
    {
        return one(l[p]);
    }
    let (v, list) = run(cx, s)?;
    let p = position_value(cx, 1)?;
    element(cx, HostOp::ListAt, &list, &[v, p])
}

fn insert(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (s, x) = (seq(cx, 0)?, cx.input(1)?);
    let placed = cx.opt(2)?.is_some();
    if let Seq::Known(l, dtype) = &s
        && let Some(p) = if placed { position(cx, 2, l.len(), true)? } else { Some(l.len()) }
    {
        if !l.is_empty() && cx.dtype(x) != *dtype {
            return Err(Fault::new(Code::DTYPE_MISMATCH, format!("{} into a sequence of {dtype}", cx.ty(x))));
        }
        let mut l = l.clone();
        l.insert(p, x);
        return sequence(l, cx.dtype(x));
    }
    let (v, list) = run(cx, s)?;
    let item = list.item().and_then(|i| i.join(&lists::item_of(cx.ty(x))));
    let item = item.ok_or_else(|| Fault::new(Code::DTYPE_MISMATCH, format!("{} into {list}", cx.ty(x))))?;
    let mut operands = vec![v, x];
    if placed {
        operands.push(position_value(cx, 2)?);
    }
    let list = Some(ListType::of(ListKind::Sequence, item));
    one(cx.host1(HostCall { list, ..HostCall::new(HostOp::ListInsert, &operands, DType::List, Vec::new()) })?)
}

fn erase(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let s = seq(cx, 0)?;
    let placed = cx.opt(1)?.is_some();
    if let Seq::Known(l, dtype) = &s
        && let Some(p) = if placed { position(cx, 1, l.len(), false)? } else { Some(l.len().saturating_sub(1)) }
    {
        let mut l = l.clone();
        if p >= l.len() {
            return Err(Fault::shape("the sequence is empty"));
        }
        l.remove(p);
        return sequence(l, *dtype);
    }
    let (v, list) = run(cx, s)?;
    let mut operands = vec![v];
    if placed {
        operands.push(position_value(cx, 1)?);
    }
    one(cx.host1(HostCall { list: Some(list), ..HostCall::new(HostOp::ListErase, &operands, DType::List, Vec::new()) })?)
}

fn length(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    match seq(cx, 0)? {
        Seq::Known(l, _) => one(cx.scalar(DType::I64, l.len() as f64)?),
        Seq::Run(v, _) => one(cx.host1(HostCall::new(HostOp::ListLength, &[v], DType::I64, Vec::new()))?),
    }
}

fn concat_from_sequence(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (axis, new) = (cx.need_int("axis")?, cx.flag("new_axis", false)?);
    let mut l = match seq(cx, 0)? {
        Seq::Known(l, _) => l,
        Seq::Run(v, list) => {
            let item = match list.item() {
                Some(Item::Tensor(d, ItemRank::Is(r))) if new => Some(Item::Tensor(*d, ItemRank::Is(r + 1))),
                other => other.cloned(),
            };
            let (dtype, dims, symbols) = fresh_dims(cx, item.as_ref(), "joined")?;
            let axis = cx.axis_of(axis, dims.len())?;
            let params = vec![axis as i64, i64::from(new)];
            return one(cx.host1(HostCall { params, symbols, ..HostCall::new(HostOp::ListConcat, &[v], dtype, dims) })?);
        }
    };
    let Some(&first) = l.first() else { return Err(Fault::shape("the sequence is empty")) };
    let rank = cx.rank(first);
    if new {
        let axis = cx.axis_of(axis, rank + 1)?;
        for v in &mut l {
            *v = cx.unsqueeze(*v, &[axis])?;
        }
        return one(cx.concat(&l, axis)?);
    }
    let axis = cx.axis_of(axis, rank)?;
    one(cx.concat(&l, axis)?)
}

/// Without sizes each part has one element and, unless `keepdims`, loses the axis; one size cuts equal parts, the last perhaps smaller.
fn split(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let (axis, keep, dtype) = (cx.axis(x, 0)?, cx.flag("keepdims", true)?, cx.dtype(x));
    let d = cx.dim(x, axis)?;
    let known = d.as_const().filter(|d| (0..=1 << 16).contains(d));
    let Some(sizes) = cx.opt(1)? else {
        let Some(d) = known else { return split_at_run(cx, x, None, axis, i64::from(keep)) };
        let mut parts = cx.split(x, axis, &vec![1.into(); d as usize])?;
        if !keep {
            for p in &mut parts {
                let mut dims = cx.dims(*p);
                dims.remove(axis);
                *p = cx.reshape(*p, dims)?;
            }
        }
        return sequence(parts, dtype);
    };
    let scalar = cx.rank(sizes) == 0;
    let given = cx.elements(sizes).and_then(|e| e.iter().map(SymExpr::as_const).collect::<Option<Vec<i64>>>());
    let sizes: Vec<SymExpr> = match (given.as_deref(), known) {
        (Some([each]), Some(d)) if scalar => {
            let each = *each;
            if each < 1 {
                return Err(Fault::shape(format!("parts of {each} of a dim of {d}")));
            }
            (0..(d + each - 1) / each).map(|i| each.min(d - i * each).into()).collect()
        }
        (Some(list), _) if !scalar => list.iter().map(|s| (*s).into()).collect(),
        _ => return split_at_run(cx, x, Some(sizes), axis, if scalar { 2 } else { 3 }),
    };
    sequence(cx.split(x, axis, &sizes)?, dtype)
}

fn split_at_run(cx: &mut Cx<'_, '_>, x: ValueId, sizes: Option<ValueId>, axis: usize, mode: i64) -> Res<Vec<Slot>> {
    let rank = cx.rank(x) - usize::from(mode == 0);
    let list = Some(ListType::of(ListKind::Sequence, Item::Tensor(cx.dtype(x), ItemRank::Is(rank as u32))));
    let mut operands = vec![x];
    if let Some(s) = sizes {
        operands.push(cx.cast(s, DType::I64)?);
    }
    let params = vec![axis as i64, mode];
    one(cx.host1(HostCall { list, params, ..HostCall::new(HostOp::ListSplit, &operands, DType::List, Vec::new()) })?)
}

/// The body is written out once an element, or is that of a loop over the elements.
fn map(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let n = match seq(cx, 0)? {
        Seq::Known(l, _) if cx.slots.iter().all(|s| !matches!(s, Slot::Value(v) if cx.dtype(*v) == DType::List)) => l.len(),
        first => return map_at_run(cx, first),
    };
    let body = cx.subgraph("body")?;
    let mut out: Vec<Vec<ValueId>> = vec![Vec::new(); body.outputs.len()];
    let prefix = format!("{}.body", cx.path);
    for i in 0..n {
        let pick = |s: &Slot| match s {
            Slot::List(l, _) => l.get(i).copied().map(Slot::Value).ok_or_else(|| Fault::shape("the sequences have different lengths")),
            s => Ok(s.clone()),
        };
        let inputs = cx.slots.iter().map(pick).collect::<Res<Vec<_>>>()?;
        for (list, s) in out.iter_mut().zip(cx.imp.subgraph(body, inputs, &prefix)?) {
            match s {
                Slot::Value(v) => list.push(v),
                _ => return Err(Fault::form("the body gives no tensor")),
            }
        }
    }
    let dtype = |cx: &Cx<'_, '_>, l: &[ValueId]| l.first().map_or(DType::F32, |&v| cx.dtype(v));
    Ok(out.into_iter().map(|l| (dtype(cx, &l), l)).map(|(d, l)| Slot::List(l.into(), d)).collect())
}

fn map_at_run(cx: &mut Cx<'_, '_>, first: Seq) -> Res<Vec<Slot>> {
    let body = cx.subgraph("body")?;
    let (first, _) = run(cx, first)?;
    let mut lists = Vec::new();
    let mut xs = vec![first];
    for i in 1..cx.slots.len() {
        let is_list = matches!(&cx.slots[i], Slot::List(..)) || matches!(&cx.slots[i], Slot::Value(v) if cx.dtype(*v) == DType::List);
        if is_list {
            let s = seq(cx, i)?;
            lists.push(i);
            xs.push(run(cx, s)?.0);
        } else {
            xs.push(cx.input(i)?);
        }
    }
    let length = cx.host1(HostCall::new(HostOp::ListLength, &[first], DType::I64, Vec::new()))?;
    for &i in &lists {
        let other = cx.host1(HostCall::new(HostOp::ListLength, &[xs[i]], DType::I64, Vec::new()))?;
        let (a, b) = (cx.expr(length, "elements")?, cx.expr(other, "elements")?);
        let path = cx.path.clone();
        cx.g_mut().assume_equal(&a, &b, &path);
    }
    let n = cx.expr(length, "elements")?;
    lists.push(0);
    let mut states = Vec::new();
    for o in &body.outputs {
        let declared = TypeDef::Sequence(Box::new(o.ty.clone()));
        let list =
            lists::declared(&declared).map_err(|f| Fault { message: format!("output `{}` of the body: {}", o.name, f.message), ..f })?;
        let item = match list.item() {
            // What is declared of a rank is found anew.
            Some(Item::Tensor(d, _)) => Item::Tensor(*d, ItemRank::Unknown),
            _ => return Err(Fault::form("the body gives no tensor")),
        };
        states.push(cx.list_of(ListType::of(ListKind::Sequence, item), &[])?);
    }
    let prefix = format!("{}.body", cx.path);
    let results = loop_while(cx, &n, &states, &xs, |cx, i, states, xs| {
        let mut inputs = Vec::new();
        for (k, &x) in xs.iter().enumerate() {
            inputs.push(if lists.contains(&k) {
                let list = cx.ty(x).list.as_deref().cloned().ok_or_else(|| Fault::form("no sequence"))?;
                element(cx, HostOp::ListAt, &list, &[x, i])?.remove(0)
            } else {
                Slot::Value(x)
            });
        }
        let out = cx.imp.subgraph(body, inputs, &prefix)?;
        let mut next = Vec::new();
        for (&state, slot) in states.iter().zip(out) {
            let Slot::Value(v) = slot else { return Err(Fault::form("the body gives no tensor")) };
            let item = lists::item_of(cx.ty(v));
            let list = Some(ListType::of(ListKind::Sequence, item));
            next.push(cx.host1(HostCall { list, ..HostCall::new(HostOp::ListInsert, &[state, v], DType::List, Vec::new()) })?);
        }
        let go = cx.scalar(DType::Bool, 1.0)?;
        Ok((go, next))
    })?;
    Ok(results.into_iter().map(Slot::Value).collect())
}

fn optional(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    match (cx.slots.first().cloned(), cx.attr("type")) {
        (Some(s), _) if !matches!(s, Slot::Absent) => Ok(vec![s]),
        // Without a value the type is all there is.
        (_, Some(AttrValue::Type(_))) | (None | Some(Slot::Absent), None) => Ok(vec![Slot::Absent]),
        (_, Some(other)) => Err(Fault::attr(format!("attribute `type` is {}, expected a type", other.kind()))),
        _ => Ok(vec![Slot::Absent]),
    }
}

/// An optional that only a run knows.
fn optional_at_run(cx: &Cx<'_, '_>) -> Option<(ValueId, ListType)> {
    let Some(Slot::Value(v)) = cx.slots.first() else { return None };
    let list = cx.ty(*v).list.as_deref().filter(|l| l.kind == ListKind::Optional)?;
    Some((*v, list.clone()))
}

fn optional_get(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    if let Some((v, list)) = optional_at_run(cx) {
        return element(cx, HostOp::OptionalGet, &list, &[v]);
    }
    match cx.slots.first() {
        Some(s @ (Slot::Value(_) | Slot::List(..))) => Ok(vec![s.clone()]),
        _ => Err(Fault::form("the optional has no value")),
    }
}
fn optional_has(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    if let Some((v, _)) = optional_at_run(cx) {
        let n = cx.host1(HostCall::new(HostOp::ListLength, &[v], DType::I64, Vec::new()))?;
        return one(cx.bin_c(portwright_ir::graph::BinaryOp::Ne, n, 0.0)?);
    }
    let has = matches!(cx.slots.first(), Some(Slot::Value(_) | Slot::List(..)));
    one(cx.scalar(DType::Bool, f64::from(u8::from(has)))?)
}
