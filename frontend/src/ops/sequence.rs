// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequences and optionals, as far as their lengths are known when the model is compiled: they are lists of tensors, and no op remains.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::ValueId;
use portwright_ir::sym::SymExpr;

use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
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

fn list(cx: &Cx<'_, '_>, i: usize) -> Res<Vec<ValueId>> {
    match cx.slots.get(i) {
        Some(Slot::List(l)) => Ok(l.to_vec()),
        Some(Slot::Poison) => Err(Fault::follows()),
        _ => Err(Fault::new(Code::UNSUPPORTED_FORM, format!("input {i} is no sequence"))),
    }
}

fn sequence(v: Vec<ValueId>) -> Res<Vec<Slot>> {
    Ok(vec![Slot::List(v.into())])
}

/// A position in a sequence of `len` that may count from the end; the end itself is one where `end` says so.
fn position(cx: &mut Cx<'_, '_>, i: usize, len: usize, end: bool) -> Res<usize> {
    let v = cx.input(i)?;
    let p = cx.const_number(v, "the position")? as i64;
    let at = if p < 0 { p.saturating_add(len as i64) } else { p };
    usize::try_from(at)
        .ok()
        .filter(|a| *a < len || (end && *a == len))
        .ok_or_else(|| Fault::shape(format!("position {p} in a sequence of {len}")))
}

fn construct(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    sequence(cx.all_inputs()?)
}
fn empty(_: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    sequence(Vec::new())
}
fn at(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let l = list(cx, 0)?;
    let p = position(cx, 1, l.len(), false)?;
    one(l[p])
}
fn insert(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (mut l, x) = (list(cx, 0)?, cx.input(1)?);
    let p = if cx.opt(2)?.is_some() { position(cx, 2, l.len(), true)? } else { l.len() };
    l.insert(p, x);
    sequence(l)
}
fn erase(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let mut l = list(cx, 0)?;
    let p = if cx.opt(1)?.is_some() { position(cx, 1, l.len(), false)? } else { l.len().saturating_sub(1) };
    if p >= l.len() {
        return Err(Fault::shape("the sequence is empty"));
    }
    l.remove(p);
    sequence(l)
}
fn length(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let n = list(cx, 0)?.len();
    one(cx.scalar(DType::I64, n as f64)?)
}

fn concat_from_sequence(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let mut l = list(cx, 0)?;
    let Some(&first) = l.first() else { return Err(Fault::shape("the sequence is empty")) };
    let rank = cx.rank(first);
    let axis = cx.need_int("axis")?;
    if cx.flag("new_axis", false)? {
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
    let axis = cx.axis(x, 0)?;
    let d = cx.dim(x, axis)?;
    let known = |e: &SymExpr| e.as_const().ok_or_else(|| Fault::form(format!("a dim of {e} gives a sequence of unknown length")));
    let Some(sizes) = cx.opt(1)? else {
        let mut parts = cx.split(x, axis, &vec![1.into(); known(&d)?.clamp(0, 1 << 16) as usize])?;
        if !cx.flag("keepdims", true)? {
            for p in &mut parts {
                let mut dims = cx.dims(*p);
                dims.remove(axis);
                *p = cx.reshape(*p, dims)?;
            }
        }
        return sequence(parts);
    };
    let scalar = cx.rank(sizes) == 0;
    let sizes = cx.const_ints(sizes, "the sizes")?;
    let sizes: Vec<SymExpr> = match sizes.as_slice() {
        [each] if scalar => {
            let (d, each) = (known(&d)?, *each);
            if each < 1 || d / each > 1 << 16 {
                return Err(Fault::shape(format!("parts of {each} of a dim of {d}")));
            }
            (0..(d + each - 1) / each).map(|i| each.min(d - i * each).into()).collect()
        }
        list => list.iter().map(|s| (*s).into()).collect(),
    };
    sequence(cx.split(x, axis, &sizes)?)
}

/// The body is written out once an element.
fn map(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let body = cx.subgraph("body")?;
    let n = list(cx, 0)?.len();
    let mut out: Vec<Vec<ValueId>> = vec![Vec::new(); body.outputs.len()];
    let prefix = format!("{}.body", cx.path);
    for i in 0..n {
        let pick = |s: &Slot| match s {
            Slot::List(l) => l.get(i).copied().map(Slot::Value).ok_or_else(|| Fault::shape("the sequences have different lengths")),
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
    Ok(out.into_iter().map(|l| Slot::List(l.into())).collect())
}

fn optional(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    Ok(vec![cx.slots.first().cloned().unwrap_or(Slot::Absent)])
}
fn optional_get(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    match cx.slots.first() {
        Some(s @ (Slot::Value(_) | Slot::List(_))) => Ok(vec![s.clone()]),
        _ => Err(Fault::form("the optional has no value")),
    }
}
fn optional_has(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let has = matches!(cx.slots.first(), Some(Slot::Value(_) | Slot::List(_)));
    one(cx.scalar(DType::Bool, f64::from(u8::from(has)))?)
}
