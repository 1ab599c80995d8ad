// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Branches and loops. Subgraphs become regions; what a known condition or a fixed number of trips decides is imported in place.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Graph, HostOp, Item, ListKind, Op, SymSource, Symbol, TensorType, ValueId};
use portwright_ir::sym::SymExpr;

use super::{Entry, MANY, op};
use crate::cx::{Cx, HostCall, Res};
use crate::fault::Fault;
use crate::model::{GraphDef, TypeDef};
use crate::scope::{Frame, Slot, lift};

pub const TABLE: &[Entry] = &[op("If", 1, 1, 1, if_), op("Loop", 1, 2, MANY, loop_), op("Scan", 8, 1, MANY, scan)];

/// A loop whose shapes change from trip to trip is written out if that makes at most this many nodes.
const MAX_UNROLLED: i64 = 1 << 14;

/// A region and the values of the frame around it that it takes after its own inputs.
struct Region {
    graph: Graph,
    captures: Vec<ValueId>,
}

/// Imports a region: `own` are its inputs, `seed` the first of its captures; `f` gets the values of its inputs, works in the new frame
/// and returns the outputs.
fn region<'m>(
    cx: &mut Cx<'_, 'm>,
    own: &[(String, TensorType)],
    seed: &[ValueId],
    prefix: &str,
    f: impl FnOnce(&mut Cx<'_, 'm>, &[ValueId]) -> Res<Vec<ValueId>>,
) -> Res<Region> {
    let values = cx.imp.open_region(own, prefix)?;
    let inner = cx.imp.frames.len() - 1;
    for &v in seed {
        lift(&mut cx.imp.frames, inner - 1, inner, v);
    }
    let outputs = f(cx, &values);
    let Some(Frame { mut graph, captures, .. }) = cx.imp.frames.pop() else {
        return Err(Fault::form("a region without a frame"));
    };
    for (i, v) in outputs?.into_iter().enumerate() {
        let name = graph.value(v).name.clone().unwrap_or_else(|| format!("out_{i}").into());
        graph.add_output(name, v);
    }
    Ok(Region { graph, captures })
}

/// Values of tensors; a sequence cannot leave a region.
fn tensors(slots: Vec<Slot>, what: &str) -> Res<Vec<ValueId>> {
    let one = |(i, s)| match s {
        Slot::Value(v) => Ok(v),
        Slot::Poison => Err(Fault::follows()),
        Slot::List(..) => Err(Fault::form(format!("output {i} of {what} is a sequence; branches and loops give tensors"))),
        Slot::Absent => Err(Fault::form(format!("output {i} of {what} is an optional without a value"))),
    };
    slots.into_iter().enumerate().map(one).collect()
}

fn if_(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let cond = cx.input(0)?;
    let (then, other) = (cx.subgraph("then_branch")?, cx.subgraph("else_branch")?);
    let path = cx.path.clone();
    if let Some([c]) = cx.elements(cond).as_deref()
        && let Some(c) = c.as_const()
    {
        let (g, label) = if c != 0 { (then, "then") } else { (other, "else") };
        return cx.imp.subgraph(g, Vec::new(), &format!("{path}.{label}"));
    }
    let cond = cx.as_scalar(cond)?;
    let mut regions: Vec<Region> = Vec::new();
    let mut fault = None;
    // Both branches are imported even if the first one fails, so that all is reported in one run.
    for (g, label) in [(then, "then"), (other, "else")] {
        let prefix = format!("{path}.{label}");
        let seed = regions.first().map_or_else(Vec::new, |r| r.captures.clone());
        let r = region(cx, &[], &seed, &prefix, |cx, _| {
            let slots = cx.imp.subgraph(g, Vec::new(), &prefix)?;
            // An optional without a value says in the other branch what it would be.
            let declared = |i: usize| [g, then, other].into_iter().filter_map(move |g| g.outputs.get(i)).map(|o| &o.ty);
            let wanted = |i: usize| {
                let optional = declared(i).find(|t| matches!(t, TypeDef::Optional(_)));
                optional.or_else(|| declared(i).next()).unwrap_or(&TypeDef::Missing)
            };
            slots.into_iter().enumerate().map(|(i, s)| cx.coerce(s, wanted(i))).collect()
        });
        match r {
            Ok(r) => regions.push(r),
            Err(f) => fault = fault.filter(|o: &Fault| o.code.is_some()).or(Some(f)),
        }
    }
    if let Some(f) = fault {
        return Err(f);
    }
    let [a, b] = regions.as_mut_slice() else { return Err(Fault::follows()) };
    if let Err(f) = same_outputs(&a.graph, &b.graph) {
        // Exporters write "drop this dim if it is 1" as a branch. What the rest of the model expects is the dropped dim: it is taken as
        // given that the dim is 1, which is tested when a run binds its symbols.
        let Some((left, right)) = compared(cx, cond) else { return Err(f) };
        cx.g_mut().assume_equal(&left, &right, &path);
        return cx.imp.subgraph(then, Vec::new(), &format!("{path}.then"));
    }
    // The second branch begins with the captures of the first; what it takes beyond them the first takes too, unused.
    for &c in &b.captures[a.captures.len()..] {
        let name = cx.g().value(c).name.clone().unwrap_or_else(|| format!("capture_{}", a.captures.len()).into());
        a.graph.add_input(name, cx.ty(c).clone());
    }
    let operands: Vec<ValueId> = [cond].into_iter().chain(b.captures.iter().copied()).collect();
    let results = cx.add_regions(Op::If {}, &operands, regions.into_iter().map(|r| r.graph).collect())?;
    Ok(results.into_iter().map(Slot::Value).collect())
}

/// Both sides of the comparison that a condition is, if they are expressions over dims.
fn compared(cx: &mut Cx<'_, '_>, cond: ValueId) -> Option<(SymExpr, SymExpr)> {
    let mut at = cond;
    loop {
        let node = cx.g().producer(at)?;
        match node.op {
            Op::Reshape { .. } | Op::Cast { .. } => at = *node.operands.first()?,
            Op::Binary(BinaryOp::Eq) => break,
            _ => return None,
        }
    }
    let operands = cx.g().producer(at)?.operands.clone();
    let mut side = |v: &ValueId| <[SymExpr; 1]>::try_from(cx.elements(*v)?).ok().map(|[e]| e);
    Some((side(operands.first()?)?, side(operands.get(1)?)?))
}

/// Branches must agree in dtype and dims, since what follows is planned before the condition is known.
fn same_outputs(a: &Graph, b: &Graph) -> Res<()> {
    for (i, (x, y)) in a.outputs().iter().zip(b.outputs()).enumerate() {
        let (x, y) = (a.ty(x.value), b.ty(y.value));
        if x.list.is_some() != y.list.is_some() {
            return Err(Fault::form(format!("output {i} is {x} in one branch and {y} in the other")));
        }
        let clash = x.dims.iter().zip(&y.dims).any(|(x, y)| !portwright_ir::graph::infer::may_be_equal(a, x, y));
        if x.rank() != y.rank() || clash {
            let m = format!("output {i} is {x} in one branch and {y} in the other; the condition must be known when the model is compiled");
            let f = Fault::form(m);
            return Err(f.help("fix the dims that decide the branch: --dim NAME=VALUE"));
        }
    }
    Ok(())
}

/// A bool scalar.
fn truth(cx: &mut Cx<'_, '_>, v: bool) -> Res<ValueId> {
    cx.scalar(DType::Bool, f64::from(u8::from(v)))
}

fn loop_<'m>(cx: &mut Cx<'_, 'm>) -> Res<Vec<Slot>> {
    let body = cx.subgraph("body")?;
    let trip = match cx.opt(0)? {
        Some(v) => {
            let v = cx.as_scalar(v)?;
            Some(cx.cast(v, DType::I64)?)
        }
        None => None,
    };
    let cond = match cx.opt(1)? {
        Some(v) => cx.as_scalar(v)?,
        None => truth(cx, true)?,
    };
    let count = match trip {
        Some(t) => <[SymExpr; 1]>::try_from(cx.elements(t).unwrap_or_default()).ok().and_then(|[e]| e.as_const()),
        None => None,
    };
    let always = cx.elements(cond).and_then(|e| e.first().and_then(SymExpr::as_const)) != Some(0);
    let carried: Vec<Slot> = cx.slots.iter().skip(2).cloned().collect();
    if body.inputs.len() != carried.len() + 2 || body.outputs.len() < carried.len() + 1 {
        let m =
            format!("the body has {} inputs and {} outputs for {} carried values", body.inputs.len(), body.outputs.len(), carried.len());
        return Err(Fault::new(portwright_ir::diag::Code::BAD_ARITY, m));
    }
    let before = cx.imp.diags.all().len();
    // Shapes that change from trip to trip have no loop, but a known number of trips can be written out.
    let nodes = body.nodes.len() as i64 + 1;
    let small = count.filter(|n| *n >= 0 && n.checked_mul(nodes).is_some_and(|n| n <= MAX_UNROLLED));
    let mut start = carried.clone();
    if small.is_none() || start.iter().any(|s| matches!(s, Slot::Value(v) if cx.dtype(*v) == DType::List)) {
        // Sequences of known length become lists of the run.
        for (s, d) in start.iter_mut().zip(&body.inputs[2..]) {
            if matches!(s, Slot::List(..) | Slot::Absent) || matches!(d.ty, TypeDef::Optional(_)) {
                *s = Slot::Value(cx.coerce(s.clone(), &d.ty)?);
            }
        }
    }
    let fault = match as_loop(cx, body, (trip, count), cond, &start) {
        Ok(slots) => return Ok(slots),
        Err(f) => f,
    };
    match small {
        Some(n) if fault.code.is_some() && cx.imp.diags.all().len() == before => unrolled(cx, body, if always { n } else { 0 }, &carried),
        _ => Err(fault),
    }
}

/// The loop op. `trip` is the most trips, as a value and as a number where it is known.
fn as_loop<'m>(
    cx: &mut Cx<'_, 'm>,
    body: &'m GraphDef,
    (trip, count): (Option<ValueId>, Option<i64>),
    cond: ValueId,
    carried: &[Slot],
) -> Res<Vec<Slot>> {
    let initial = tensors(carried.to_vec(), "the loop's start")?;
    let mut own =
        vec![("iteration".to_string(), TensorType::fixed(DType::I64, &[])), ("condition".to_string(), TensorType::fixed(DType::Bool, &[]))];
    own.extend(initial.iter().zip(&body.inputs[2..]).map(|(&v, d)| (d.name.clone(), cx.ty(v).clone())));
    let path = cx.path.clone();
    let prefix = format!("{path}.body");
    // Optionals that the body gives without their wrapping are unwrapped behind the loop.
    let mut unwrap = vec![false; initial.len()];
    let mut r = region(cx, &own, &[], &prefix, |cx, values| {
        // What is cut by the iteration has a size that follows from it; unused, the binding goes.
        let at = cx.expr(values[0], "iteration")?;
        if let (Some(name), Some(n)) = (at.as_sym().cloned(), count.filter(|n| *n > 0)) {
            cx.g_mut().add_symbol(Symbol { name, lo: 0, hi: n - 1, div: 1, source: SymSource::Bind });
        }
        let mut slots = Vec::new();
        for (i, &v) in values.iter().enumerate() {
            // Some exporters declare iteration and condition as lists of one.
            let listed = i < 2 && matches!(&body.inputs[i].ty, crate::model::TypeDef::Tensor { dims: Some(d), .. } if d.len() == 1);
            slots.push(Slot::Value(if listed { cx.reshape(v, vec![1.into()])? } else { v }));
        }
        let lists: Vec<Option<ListKind>> = values.iter().map(|&v| cx.ty(v).list.as_ref().map(|l| l.kind)).collect();
        let mut made = cx.imp.subgraph(body, slots, &prefix)?;
        for (i, s) in made.iter_mut().enumerate().skip(1).take(initial.len()) {
            let Some(Some(kind)) = lists.get(i + 1) else { continue };
            let optional = matches!(s, Slot::Absent) || matches!(s, Slot::Value(v) if is_optional(cx, *v));
            let ty = if *kind == ListKind::Optional { &body.inputs[i + 1].ty } else { &TypeDef::Missing };
            unwrap[i - 1] = *kind == ListKind::Optional && !optional;
            *s = Slot::Value(cx.coerce(s.clone(), ty)?);
        }
        let mut out = tensors(made, "the body")?;
        if let Some(c) = out.first_mut() {
            *c = cx.as_scalar(*c)?;
        }
        Ok(out)
    })?;
    r.graph.remove_dead();
    for (i, &v) in initial.iter().enumerate() {
        let after = r.graph.outputs().get(i + 1).map(|o| r.graph.ty(o.value).clone());
        let before = cx.ty(v);
        let fits = |a: &TensorType| {
            a.rank() == before.rank()
                && a.dims.iter().zip(&before.dims).all(|(x, y)| portwright_ir::graph::infer::may_be_equal(&r.graph, x, y))
        };
        if let Some(after) = after.filter(|a| !fits(a)) {
            return Err(Fault::form(format!(
                "carried value {i} is {before} before the body and {after} after it; loops keep their shapes"
            )));
        }
    }
    for (i, o) in r.graph.outputs().iter().enumerate().skip(1) {
        let mut names = std::collections::BTreeSet::new();
        r.graph.ty(o.value).dims.iter().for_each(|d| d.collect_symbols(&mut names));
        if names.iter().any(|n| r.graph.symbol_definer(n).is_some()) {
            let ty = r.graph.ty(o.value);
            let m = format!(
                "output {i} of the body is {ty}, which follows from the iteration; the number of trips must be known when the model is compiled"
            );
            return Err(Fault::form(m));
        }
    }
    let trip = match trip {
        Some(t) => t,
        None => cx.scalar_bits(portwright_ir::graph::Scalar::i64(i64::MAX))?,
    };
    let trips = cx.fresh("trips", SymSource::Result);
    let trips = trips.as_sym().cloned().ok_or_else(|| Fault::form("the number of trips cannot be given"))?;
    let operands: Vec<ValueId> = [trip, cond].into_iter().chain(initial.iter().copied()).chain(r.captures).collect();
    let results = cx.add_regions(Op::Loop { carried: initial.len() as u32, trips }, &operands, vec![r.graph])?;
    let mut slots = Vec::new();
    for (i, v) in results.into_iter().enumerate() {
        let inner = cx.ty(v).list.as_ref().filter(|_| unwrap.get(i) == Some(&true)).and_then(|l| l.item().cloned());
        slots.push(Slot::Value(match inner {
            Some(Item::List(l)) => {
                let call = HostCall::new(HostOp::OptionalGet, &[v], DType::List, Vec::new());
                cx.host1(HostCall { list: Some(*l), ..call })?
            }
            _ => v,
        }));
    }
    Ok(slots)
}

fn is_optional(cx: &Cx<'_, '_>, v: ValueId) -> bool {
    cx.ty(v).list.as_ref().is_some_and(|l| l.kind == ListKind::Optional)
}

/// Writes `n` trips out one after the other. A condition that turns false must be known.
fn unrolled<'m>(cx: &mut Cx<'_, 'm>, body: &'m GraphDef, n: i64, carried: &[Slot]) -> Res<Vec<Slot>> {
    let mut state = carried.to_vec();
    let mut scanned: Vec<Vec<ValueId>> = vec![Vec::new(); body.outputs.len() - carried.len() - 1];
    let prefix = format!("{}.body", cx.path);
    for i in 0..n {
        let (iteration, yes) = (cx.scalar_bits(portwright_ir::graph::Scalar::i64(i))?, truth(cx, true)?);
        let inputs = [Slot::Value(iteration), Slot::Value(yes)].into_iter().chain(state).collect();
        let mut out = cx.imp.subgraph(body, inputs, &prefix)?.into_iter();
        let go = match out.next() {
            Some(Slot::Value(c)) => cx.elements(c).and_then(|e| e.first().and_then(SymExpr::as_const)),
            _ => None,
        };
        state = out.by_ref().take(carried.len()).collect();
        for (list, v) in scanned.iter_mut().zip(tensors(out.collect(), "the body")?) {
            list.push(v);
        }
        match go {
            Some(0) => break,
            Some(_) => {}
            None => return Err(Fault::form("its shapes change from trip to trip, and only data tells how many trips there are")),
        }
    }
    for (i, list) in scanned.into_iter().enumerate() {
        if list.is_empty() {
            return Err(Fault::form(format!("scanned output {i} of a loop without trips has no shape")));
        }
        let mut rows = Vec::new();
        for v in list {
            rows.push(cx.unsqueeze(v, &[0])?);
        }
        state.push(Slot::Value(cx.concat(&rows, 0)?));
    }
    Ok(state)
}

/// A scan is a loop over slices of its inputs.
fn scan<'m>(cx: &mut Cx<'_, 'm>) -> Res<Vec<Slot>> {
    if cx.version < 9 {
        return scan_batched(cx);
    }
    let body = cx.subgraph("body")?;
    let inputs = cx.all_inputs()?;
    let scans = usize::try_from(cx.need_int("num_scan_inputs")?).ok().filter(|n| (1..=inputs.len()).contains(n));
    let scans = scans.ok_or_else(|| Fault::attr(format!("`num_scan_inputs` does not fit {} inputs", inputs.len())))?;
    let (states, xs) = inputs.split_at(inputs.len() - scans);
    let (n_states, outs) = (states.len(), body.outputs.len().checked_sub(states.len()));
    let outs = outs.ok_or_else(|| Fault::attr("the body has fewer outputs than states"))?;
    let list = |name: &str, n: usize| -> Res<Vec<i64>> {
        match cx.ints(name)? {
            None => Ok(vec![0; n]),
            Some(l) if l.len() == n => Ok(l),
            Some(l) => Err(Fault::attr(format!("`{name}` has {} entries, expected {n}", l.len()))),
        }
    };
    let (in_axes, in_back) = (list("scan_input_axes", scans)?, list("scan_input_directions", scans)?);
    let (out_axes, out_back) = (list("scan_output_axes", outs)?, list("scan_output_directions", outs)?);
    let axes = xs.iter().zip(&in_axes).map(|(&x, &a)| cx.axis_of(a, cx.rank(x))).collect::<Res<Vec<_>>>()?;
    let n = cx.dim(xs[0], axes[0])?;
    let mut own =
        vec![("iteration".to_string(), TensorType::fixed(DType::I64, &[])), ("condition".to_string(), TensorType::fixed(DType::Bool, &[]))];
    own.extend(states.iter().enumerate().map(|(i, &v)| (format!("state_{i}"), cx.ty(v).clone())));
    let path = cx.path.clone();
    let prefix = format!("{path}.body");
    let (from, to) = (cx.imp.frames.len() - 1, cx.imp.frames.len());
    let r = region(cx, &own, &[], &prefix, |cx, values| {
        let mut slots: Vec<Slot> = values[2..].iter().map(|v| Slot::Value(*v)).collect();
        for (i, &x) in xs.iter().enumerate() {
            let x = lift(&mut cx.imp.frames, from, to, x);
            let mut at = values[0];
            if in_back[i] != 0 {
                let last = cx.dim_value(n.clone() - 1)?;
                at = cx.bin(BinaryOp::Sub, last, at)?;
            }
            slots.push(Slot::Value(cx.gather(x, at, axes[i])?));
        }
        let out = tensors(cx.imp.subgraph(body, slots, &prefix)?, "the body")?;
        let go = truth(cx, true)?;
        Ok([go].into_iter().chain(out).collect())
    })?;
    let (trip, go) = (cx.dim_value(n.clone())?, truth(cx, true)?);
    let trips = cx.fresh("trips", SymSource::Result);
    let trips = trips.as_sym().cloned().ok_or_else(|| Fault::form("the number of trips cannot be given"))?;
    let operands: Vec<ValueId> = [trip, go].into_iter().chain(states.iter().copied()).chain(r.captures).collect();
    let results = cx.add_regions(Op::Loop { carried: n_states as u32, trips }, &operands, vec![r.graph])?;
    let mut slots = Vec::new();
    for (i, v) in results.into_iter().enumerate() {
        let Some(o) = i.checked_sub(n_states) else {
            slots.push(Slot::Value(v));
            continue;
        };
        // The number of trips is known here.
        let mut dims = cx.dims(v);
        dims[0] = n.clone();
        let mut v = cx.reshape(v, dims.clone())?;
        if out_back[o] != 0 {
            v = cx.slice_axis(v, 0, n.clone() - 1, n.clone(), -1)?;
        }
        let axis = cx.axis_of(out_axes[o], dims.len())?;
        let mut perm: Vec<usize> = (1..dims.len()).collect();
        perm.insert(axis, 0);
        slots.push(Slot::Value(cx.transpose(v, &perm)?));
    }
    Ok(slots)
}

/// A loop of `n` trips that an importer makes: `f` gets the iteration, the states and `xs` (values from outside) and returns the new states
/// and what each trip adds to the scanned results. Returns the last states, then the scanned results with a first dim of `n`.
pub fn loop_of<'m>(
    cx: &mut Cx<'_, 'm>,
    n: &SymExpr,
    states: &[ValueId],
    xs: &[ValueId],
    f: impl FnOnce(&mut Cx<'_, 'm>, ValueId, &[ValueId], &[ValueId]) -> Res<(Vec<ValueId>, Vec<ValueId>)>,
) -> Res<Vec<ValueId>> {
    let mut results = made_loop(cx, n, states, xs, |cx, i, states, xs| {
        let (states, scanned) = f(cx, i, states, xs)?;
        Ok((truth(cx, true)?, states, scanned))
    })?;
    for v in results.iter_mut().skip(states.len()) {
        // The number of trips is known here.
        let mut dims = cx.dims(*v);
        dims[0] = n.clone();
        *v = cx.reshape(*v, dims)?;
    }
    Ok(results)
}

/// As [`loop_of`], without scanned results; `f` says first whether there is another trip, of at most `n`.
pub fn loop_while<'m>(
    cx: &mut Cx<'_, 'm>,
    n: &SymExpr,
    states: &[ValueId],
    xs: &[ValueId],
    f: impl FnOnce(&mut Cx<'_, 'm>, ValueId, &[ValueId], &[ValueId]) -> Res<(ValueId, Vec<ValueId>)>,
) -> Res<Vec<ValueId>> {
    made_loop(cx, n, states, xs, |cx, i, states, xs| {
        let (goes_on, states) = f(cx, i, states, xs)?;
        Ok((goes_on, states, Vec::new()))
    })
}

/// A loop whose body `f` returns the condition, the new states and the scanned values.
fn made_loop<'m>(
    cx: &mut Cx<'_, 'm>,
    n: &SymExpr,
    states: &[ValueId],
    xs: &[ValueId],
    f: impl FnOnce(&mut Cx<'_, 'm>, ValueId, &[ValueId], &[ValueId]) -> Res<(ValueId, Vec<ValueId>, Vec<ValueId>)>,
) -> Res<Vec<ValueId>> {
    let mut own =
        vec![("iteration".to_string(), TensorType::fixed(DType::I64, &[])), ("condition".to_string(), TensorType::fixed(DType::Bool, &[]))];
    own.extend(states.iter().enumerate().map(|(i, &v)| (format!("state_{i}"), cx.ty(v).clone())));
    let prefix = format!("{}.body", cx.path);
    let (from, to) = (cx.imp.frames.len() - 1, cx.imp.frames.len());
    let r = region(cx, &own, &[], &prefix, |cx, values| {
        let inside: Vec<ValueId> = xs.iter().map(|&x| lift(&mut cx.imp.frames, from, to, x)).collect();
        let (goes_on, states, scanned) = f(cx, values[0], &values[2..], &inside)?;
        Ok([goes_on].into_iter().chain(states).chain(scanned).collect())
    })?;
    let (trip, go) = (cx.dim_value(n.clone())?, truth(cx, true)?);
    let trips = cx.fresh("trips", SymSource::Result);
    let trips = trips.as_sym().cloned().ok_or_else(|| Fault::form("the number of trips cannot be given"))?;
    let operands: Vec<ValueId> = [trip, go].into_iter().chain(states.iter().copied()).chain(r.captures).collect();
    cx.add_regions(Op::Loop { carried: states.len() as u32, trips }, &operands, vec![r.graph])
}

/// A scan as opset 8 has it: states and scanned inputs have a first dim for the batch, scanned ones a second one for the steps. Input 0 may
/// say how many steps each of the batch has; after them states stay as they are, and scanned outputs are zeros.
fn scan_batched<'m>(cx: &mut Cx<'_, 'm>) -> Res<Vec<Slot>> {
    let body = cx.subgraph("body")?;
    let lengths = cx.opt(0)?;
    let inputs = (1..cx.slots.len()).map(|i| cx.input(i)).collect::<Res<Vec<_>>>()?;
    let scans = usize::try_from(cx.need_int("num_scan_inputs")?).ok().filter(|n| (1..=inputs.len()).contains(n));
    let scans = scans.ok_or_else(|| Fault::attr(format!("`num_scan_inputs` does not fit {} inputs", inputs.len())))?;
    let n_states = inputs.len() - scans;
    if body.outputs.len() < n_states {
        return Err(Fault::attr("the body has fewer outputs than states"));
    }
    let back = match cx.ints("directions")? {
        None => vec![0; scans],
        Some(d) if d.len() == scans => d,
        Some(d) => return Err(Fault::attr(format!("`directions` has {} entries, expected {scans}", d.len()))),
    };
    if lengths.is_some() && back.iter().any(|b| *b != 0) {
        return Err(Fault::form("`directions` is not taken together with lengths of the sequences"));
    }
    for (i, &v) in inputs.iter().enumerate() {
        cx.want_rank(v, if i < n_states { 1 } else { 2 }..=usize::MAX)?;
    }
    let (batch, steps) = (cx.dim(inputs[n_states], 0)?, cx.dim(inputs[n_states], 1)?);
    let mut outside = inputs;
    outside.extend(lengths);
    let prefix = format!("{}.body", cx.path);
    let all = loop_of(cx, &batch, &[], &outside, |cx, b, _, xs| {
        let own = xs.iter().map(|&x| cx.gather(x, b, 0)).collect::<Res<Vec<_>>>()?;
        let out = loop_of(cx, &steps, &own[..n_states], &own[n_states..], |cx, t, states, xs| {
            let mut slots: Vec<Slot> = states.iter().map(|v| Slot::Value(*v)).collect();
            for (&x, &back) in xs.iter().zip(&back) {
                let at = if back != 0 {
                    let last = cx.dim_value(steps.clone() - 1)?;
                    cx.bin(BinaryOp::Sub, last, t)?
                } else {
                    t
                };
                slots.push(Slot::Value(cx.gather(x, at, 0)?));
            }
            let mut out = tensors(cx.imp.subgraph(body, slots, &prefix)?, "the body")?;
            if let Some(&length) = xs.get(scans) {
                let length = cx.cast(length, DType::I64)?;
                let goes_on = cx.bin(BinaryOp::Lt, t, length)?;
                for (i, v) in out.iter_mut().enumerate() {
                    let other = match states.get(i) {
                        Some(&s) => s,
                        None => cx.scalar(cx.dtype(*v), 0.0)?,
                    };
                    *v = cx.select(goes_on, *v, other)?;
                }
            }
            let scanned = out.split_off(n_states);
            Ok((out, scanned))
        })?;
        Ok((Vec::new(), out))
    })?;
    Ok(all.into_iter().map(Slot::Value).collect())
}
