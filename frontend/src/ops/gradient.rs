// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `Gradient`: reverse-mode differentiation of the part of the graph that lies between two sets of names.
//!
//! The part is what `y` is computed from, cut at `xs` and `zs`. It is taken over with the node's inputs in the places of these names, then walked
//! backward: each op hands the derivative of its result on to its operands, and what reaches an operand from several users is added. An
//! op without a rule is refused by name, unless no derivative flows through it.

use std::collections::{HashMap, HashSet};

use portwright_ir::graph::{BinaryOp, Dims, Node, NodeId, Op, PadMode, ReduceOp, ScatterOp, UnaryOp, ValueId};
use portwright_ir::sym::product;

use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, many};
use crate::fault::Fault;
use crate::scope::Slot;

/// Operators of `ai.onnx.preview.training`.
pub const TABLE: &[Entry] = &[op("Gradient", 1, 1, MANY, gradient)];

/// Derivatives of operands, by their position.
type Parts = Vec<(usize, ValueId)>;

fn gradient(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let given = cx.all_inputs()?;
    let xs = cx.texts("xs")?.unwrap_or_default();
    let zs = cx.texts("zs")?.unwrap_or_default();
    if xs.is_empty() || given.len() != xs.len() + zs.len() {
        let m = format!("{} inputs for {} names in `xs` and {} in `zs`, expected one each", given.len(), xs.len(), zs.len());
        return Err(Fault::attr(m));
    }
    let y = named(cx, "y", cx.text("y", "")?)?;
    let mut leaves = HashMap::new();
    for (attribute, name, &fed) in xs.iter().map(|n| ("xs", n)).chain(zs.iter().map(|n| ("zs", n))).zip(&given).map(|((a, n), v)| (a, n, v))
    {
        let leaf = named(cx, attribute, name)?;
        if cx.ty(leaf) != cx.ty(fed) {
            return Err(Fault::shape(format!("the input for `{name}` is {}, expected {}", cx.ty(fed), cx.ty(leaf))));
        }
        if leaves.insert(leaf, fed).is_some_and(|other| other != fed) {
            return Err(Fault::attr(format!("`{name}` stands for two inputs")));
        }
    }
    if !cx.dtype(y).is_float() {
        return Err(Fault::shape(format!("`y` is {}, expected floating-point numbers", cx.ty(y))));
    }
    let nodes = between(cx, y, &leaves);
    let (copies, values) = taken_over(cx, &nodes, leaves.clone())?;
    let last = values.get(&y).copied().unwrap_or(y);
    let one = cx.fill(cx.dtype(last), 1.0, cx.dims(last))?;
    let mut slopes: HashMap<ValueId, ValueId> = HashMap::from([(last, one)]);
    let active = active(cx, &copies, &given[..xs.len()]);
    // A leaf is where the part ends: what lies before it is not walked.
    let ends: HashSet<ValueId> = given.iter().copied().collect();
    for &n in copies.iter().rev() {
        let node = cx.g().node(n).clone();
        let slope = node.results.iter().find_map(|r| slopes.get(r).filter(|_| !ends.contains(r))).copied();
        let Some(slope) = slope.filter(|_| node.results.iter().any(|r| active.contains(r))) else { continue };
        for (i, part) in backward(cx, &node, slope)? {
            let Some(&v) = node.operands.get(i).filter(|v| active.contains(v)) else { continue };
            let part = summed_to(cx, part, cx.dims(v))?;
            let part = cx.cast(part, cx.dtype(v))?;
            let sum = match slopes.get(&v) {
                Some(&before) => cx.bin(BinaryOp::Add, before, part)?,
                None => part,
            };
            slopes.insert(v, sum);
        }
    }
    let mut out = Vec::new();
    for &x in &given[..xs.len()] {
        out.push(match slopes.get(&x) {
            Some(&s) => s,
            None => cx.fill(cx.dtype(x), 0.0, cx.dims(x))?,
        });
    }
    many(out)
}

/// The tensor of a name in the graph around the node.
fn named(cx: &mut Cx<'_, '_>, attribute: &str, name: &str) -> Res<ValueId> {
    match cx.imp.resolve(name) {
        Some(Slot::Value(v)) => Ok(v),
        Some(Slot::Poison) => Err(Fault::follows()),
        Some(_) => Err(Fault::form(format!("`{attribute}` names `{name}`, which is no tensor"))),
        None => Err(Fault::attr(format!("`{attribute}` names `{name}`, which no node before this one computes"))),
    }
}

/// Nodes that lie on a way from a leaf to `y`, each behind those that it takes values of.
fn between(cx: &Cx<'_, '_>, y: ValueId, leaves: &HashMap<ValueId, ValueId>) -> Vec<NodeId> {
    let g = cx.g();
    let mut seen: HashSet<ValueId> = HashSet::new();
    let mut reach: HashSet<ValueId> = leaves.keys().copied().collect();
    let mut order = Vec::new();
    let mut stack = vec![(y, false)];
    while let Some((v, done)) = stack.pop() {
        let Some(n) = g.producer_id(v).filter(|_| !leaves.contains_key(&v)) else { continue };
        let node = g.node(n);
        if done {
            if node.operands.iter().any(|o| reach.contains(o)) && !reach.contains(&v) {
                reach.extend(&node.results);
                order.push(n);
            }
        } else if seen.insert(v) {
            stack.push((v, true));
            stack.extend(node.operands.iter().map(|&o| (o, false)));
        }
    }
    order
}

/// The nodes once more, with other values for some; those whose operands stay are themselves. Returns them and what each value became.
fn taken_over(
    cx: &mut Cx<'_, '_>,
    nodes: &[NodeId],
    mut values: HashMap<ValueId, ValueId>,
) -> Res<(Vec<NodeId>, HashMap<ValueId, ValueId>)> {
    let mut copies = Vec::new();
    for &n in nodes {
        let node = cx.g().node(n).clone();
        let operands: Vec<ValueId> = node.operands.iter().map(|v| values.get(v).copied().unwrap_or(*v)).collect();
        if operands == node.operands {
            copies.push(n);
            continue;
        }
        if !node.regions.is_empty() || matches!(node.op, Op::Host { .. } | Op::NonZero { .. }) {
            return Err(Fault::form(format!("`{}` cannot be computed again for other inputs", node.op.mnemonic())));
        }
        let results = cx.add_all(node.op.clone(), &operands)?;
        copies.extend(results.first().and_then(|&r| cx.g().producer_id(r)));
        values.extend(node.results.iter().copied().zip(results));
    }
    Ok((copies, values))
}

/// Values that depend on one of `xs` through numbers that have a derivative.
fn active(cx: &Cx<'_, '_>, nodes: &[NodeId], xs: &[ValueId]) -> HashSet<ValueId> {
    let float = |v: &ValueId| cx.dtype(*v).is_float();
    let mut active: HashSet<ValueId> = xs.iter().copied().filter(float).collect();
    for &n in nodes {
        let node = cx.g().node(n);
        if node.operands.iter().any(|v| active.contains(v)) {
            active.extend(node.results.iter().copied().filter(float));
        }
    }
    active
}

/// Adds up what broadcasting repeated, so that a derivative has the dims of the operand that it is of.
fn summed_to(cx: &mut Cx<'_, '_>, v: ValueId, dims: Dims) -> Res<ValueId> {
    let from = cx.dims(v);
    let extra = from.len().saturating_sub(dims.len());
    let repeated = |(i, d): (usize, &portwright_ir::sym::SymExpr)| i < extra || (dims[i - extra].is(1) && !d.is(1));
    let axes: Vec<u32> = from.iter().enumerate().filter(|&(i, d)| repeated((i, d))).map(|(i, _)| i as u32).collect();
    let v = cx.reduce(ReduceOp::Sum, v, &axes, false)?;
    cx.reshape(v, dims)
}

/// A derivative of what a reduction gave, repeated over what it was formed of.
fn spread(cx: &mut Cx<'_, '_>, v: ValueId, axes: &[u32], keep: bool, dims: &Dims) -> Res<ValueId> {
    let axes: Vec<usize> = axes.iter().map(|&a| a as usize).collect();
    let v = if keep { v } else { cx.unsqueeze(v, &axes)? };
    cx.broadcast(v, dims.clone())
}

/// Derivatives of a node's operands from that of its first result, in whatever dims broadcasting gave them.
fn backward(cx: &mut Cx<'_, '_>, node: &Node, g: ValueId) -> Res<Parts> {
    let x = node.operands.as_slice();
    let at = |i: usize| x.get(i).copied().ok_or_else(|| Fault::new(portwright_ir::diag::Code::INTERNAL, "an operand is missing"));
    let one = |v: ValueId| Ok(vec![(0, v)]);
    match &node.op {
        Op::Unary(u) => match unary(cx, *u, at(0)?, node.results[0], g)? {
            Some(v) => one(v),
            None => Ok(Vec::new()),
        },
        Op::Binary(b) => binary(cx, *b, (at(0)?, at(1)?), node.results[0], g),
        Op::Select {} => {
            let zero = cx.scalar(cx.dtype(g), 0.0)?;
            Ok(vec![(1, cx.select(at(0)?, g, zero)?), (2, cx.select(at(0)?, zero, g)?)])
        }
        Op::Cast { .. } | Op::Reshape { .. } => {
            let g = cx.reshape(g, cx.dims(at(0)?))?;
            one(g)
        }
        Op::Broadcast { .. } => one(g),
        Op::Transpose { perm } => {
            let mut back = vec![0; perm.len()];
            for (i, &p) in perm.iter().enumerate() {
                if let Some(b) = back.get_mut(p as usize) {
                    *b = i;
                }
            }
            one(cx.transpose(g, &back)?)
        }
        Op::Concat { axis } => {
            let axis = *axis as usize;
            let sizes: Vec<_> = x.iter().map(|&v| cx.dims(v)[axis].clone()).collect();
            Ok(cx.split(g, axis, &sizes)?.into_iter().enumerate().collect())
        }
        Op::Slice { starts, steps, .. } if steps.iter().all(|s| *s > 0) => {
            let (from, to) = (cx.dims(at(0)?), cx.dims(g));
            let interior: Vec<i64> = steps.iter().map(|s| s - 1).collect();
            // `n` elements with `s - 1` between them take `(n - 1) * s + 1`.
            let taken = |i: usize| &(&(&to[i] * &steps[i].into()) - &steps[i].into()) + &1.into();
            let high = (0..from.len()).map(|i| &(&from[i] - &starts[i]) - &taken(i)).collect();
            one(cx.pad(g, starts.clone(), high, interior, 0.0)?)
        }
        Op::Pad { mode: PadMode::Constant, low, high, interior }
            if low.iter().chain(high).all(|p| p.as_const().is_some_and(|p| p >= 0)) =>
        {
            let steps = interior.iter().map(|i| i + 1).collect();
            let kept = cx.add(Op::Slice { starts: low.clone(), steps, dims: cx.dims(at(0)?) }, &[g])?;
            Ok(vec![(0, kept)])
        }
        Op::Reduce { op, axes, keep } => {
            let dims = cx.dims(at(0)?);
            let all = spread(cx, g, axes, *keep, &dims)?;
            match op {
                ReduceOp::Sum => one(all),
                ReduceOp::Mean => {
                    let count = product(&axes.iter().filter_map(|&a| dims.get(a as usize).cloned()).collect::<Vec<_>>());
                    let count = cx.number_of(count, cx.dtype(g))?;
                    one(cx.bin(BinaryOp::Div, all, count)?)
                }
                ReduceOp::Max | ReduceOp::Min => {
                    // Equal ones share.
                    let best = spread(cx, node.results[0], axes, *keep, &dims)?;
                    let hit = cx.bin(BinaryOp::Eq, at(0)?, best)?;
                    let hit = cx.cast(hit, cx.dtype(g))?;
                    let count = cx.reduce(ReduceOp::Sum, hit, axes, true)?;
                    let share = cx.bin(BinaryOp::Div, hit, count)?;
                    one(cx.bin(BinaryOp::Mul, all, share)?)
                }
                _ => Err(unknown(node)),
            }
        }
        Op::Contract { spec, .. } => {
            let (left, out) = spec.split_once("->").ok_or_else(|| unknown(node))?;
            let (a, b) = left.split_once(',').ok_or_else(|| unknown(node))?;
            let wide = cx.dtype(g);
            let (va, vb) = (cx.cast(at(0)?, wide)?, cx.cast(at(1)?, wide)?);
            Ok(vec![(0, cx.contract(&format!("{out},{b}->{a}"), g, vb)?), (1, cx.contract(&format!("{a},{out}->{b}"), va, g)?)])
        }
        Op::Gather { axis } => {
            // Rows that were taken once or more get what was made of them; others nothing.
            let (from, i, axis) = (cx.dims(at(0)?), cx.dims(at(1)?), *axis as usize);
            let rank = cx.rank(g);
            // The axis first: positions, then what lies before and behind it.
            let mut perm: Vec<usize> = (axis..axis + i.len()).collect();
            perm.extend((0..axis).chain(axis + i.len()..rank));
            let rows = cx.transpose(g, &perm)?;
            let index = cx.unsqueeze(at(1)?, &[i.len()])?;
            let mut first: Vec<usize> = vec![axis];
            first.extend((0..from.len()).filter(|d| *d != axis));
            let zero = cx.fill(cx.dtype(g), 0.0, first.iter().map(|&d| from[d].clone()).collect())?;
            let sum = cx.add(Op::ScatterNd { op: ScatterOp::Add }, &[zero, index, rows])?;
            let mut back = vec![0; from.len()];
            first.iter().enumerate().for_each(|(to, &d)| back[d] = to);
            one(cx.transpose(sum, &back)?)
        }
        Op::GatherElements { axis } => {
            let zero = cx.fill(cx.dtype(g), 0.0, cx.dims(at(0)?))?;
            one(cx.add(Op::ScatterElements { axis: *axis, op: ScatterOp::Add }, &[zero, at(1)?, g])?)
        }
        Op::Softmax { axis } => {
            let y = node.results[0];
            let p = cx.bin(BinaryOp::Mul, g, y)?;
            let sum = cx.reduce(ReduceOp::Sum, p, &[*axis], true)?;
            let rest = cx.bin(BinaryOp::Sub, g, sum)?;
            one(cx.bin(BinaryOp::Mul, rest, y)?)
        }
        Op::LogSoftmax { axis } => {
            let p = cx.un(UnaryOp::Exp, node.results[0])?;
            let sum = cx.reduce(ReduceOp::Sum, g, &[*axis], true)?;
            let part = cx.bin(BinaryOp::Mul, p, sum)?;
            one(cx.bin(BinaryOp::Sub, g, part)?)
        }
        Op::Silu {} => {
            // s + x s (1 - s)
            let s = cx.un(UnaryOp::Sigmoid, at(0)?)?;
            let y = node.results[0];
            let ys = cx.bin(BinaryOp::Mul, y, s)?;
            let rest = cx.bin(BinaryOp::Sub, y, ys)?;
            let d = cx.bin(BinaryOp::Add, s, rest)?;
            one(cx.bin(BinaryOp::Mul, g, d)?)
        }
        Op::Conv { strides, dilations, pads, groups: 1 } => Ok(vec![
            (0, conv_input(cx, (at(0)?, at(1)?), g, (strides, dilations, pads))?),
            (1, conv_filter(cx, (at(0)?, at(1)?), g, (strides, dilations, pads))?),
        ]),
        _ => Err(unknown(node)),
    }
}

fn unknown(node: &Node) -> Fault {
    Fault::form(format!("no derivative of `{}` is known", node.op.mnemonic()))
}

/// `g` times the derivative of a function of `x` whose value is `y`; `None` where that is 0 nearly everywhere.
fn unary(cx: &mut Cx<'_, '_>, u: UnaryOp, x: ValueId, y: ValueId, g: ValueId) -> Res<Option<ValueId>> {
    use UnaryOp::*;
    let squared = |cx: &mut Cx<'_, '_>, v: ValueId| cx.bin(BinaryOp::Mul, v, v);
    // a + b * v^2
    let poly = |cx: &mut Cx<'_, '_>, a: f64, b: f64, v: ValueId| -> Res<ValueId> {
        let v = squared(cx, v)?;
        let v = cx.bin_c(BinaryOp::Mul, v, b)?;
        cx.bin_c(BinaryOp::Add, v, a)
    };
    let (by, divides) = match u {
        Neg => return cx.un(Neg, g).map(Some),
        Exp => (y, false),
        Abs => (cx.un(Sign, x)?, false),
        Log => (x, true),
        Sqrt => (cx.bin_c(BinaryOp::Mul, y, 2.0)?, true),
        Recip => {
            let s = squared(cx, y)?;
            (cx.un(Neg, s)?, false)
        }
        Tanh => (poly(cx, 1.0, -1.0, y)?, false),
        Sigmoid => {
            let s = squared(cx, y)?;
            (cx.bin(BinaryOp::Sub, y, s)?, false)
        }
        Softplus => (cx.un(Sigmoid, x)?, false),
        Sin => (cx.un(Cos, x)?, false),
        Cos => {
            let s = cx.un(Sin, x)?;
            (cx.un(Neg, s)?, false)
        }
        Tan => (poly(cx, 1.0, 1.0, y)?, false),
        Sinh => (cx.un(Cosh, x)?, false),
        Cosh => (cx.un(Sinh, x)?, false),
        Atan => (poly(cx, 1.0, 1.0, x)?, true),
        Atanh => (poly(cx, 1.0, -1.0, x)?, true),
        Asin | Acos | Asinh | Acosh => {
            let (a, b) = match u {
                Asinh => (1.0, 1.0),
                Acosh => (-1.0, 1.0),
                _ => (1.0, -1.0),
            };
            let p = poly(cx, a, b, x)?;
            let root = cx.un(Sqrt, p)?;
            (if u == Acos { cx.un(Neg, root)? } else { root }, true)
        }
        Erf => {
            let s = squared(cx, x)?;
            let s = cx.un(Neg, s)?;
            let e = cx.un(Exp, s)?;
            (cx.bin_c(BinaryOp::Mul, e, std::f64::consts::FRAC_2_SQRT_PI)?, false)
        }
        Sign | Floor | Ceil | Round | Trunc | Not | IsNan | IsInf => return Ok(None),
    };
    cx.bin(if divides { BinaryOp::Div } else { BinaryOp::Mul }, g, by).map(Some)
}

fn binary(cx: &mut Cx<'_, '_>, op: BinaryOp, (a, b): (ValueId, ValueId), y: ValueId, g: ValueId) -> Res<Parts> {
    use BinaryOp::*;
    let zero = cx.scalar(cx.dtype(g), 0.0)?;
    Ok(match op {
        Add => vec![(0, g), (1, g)],
        Sub => vec![(0, g), (1, cx.un(UnaryOp::Neg, g)?)],
        Mul => vec![(0, cx.bin(Mul, g, b)?), (1, cx.bin(Mul, g, a)?)],
        Div => {
            let first = cx.bin(Div, g, b)?;
            let second = cx.bin(Mul, first, y)?;
            vec![(0, first), (1, cx.un(UnaryOp::Neg, second)?)]
        }
        Pow => {
            // b a^(b - 1), which is 0 for an exponent of 0 whatever the base; a^b log a, which is 0 for a base of 0.
            let less = cx.bin_c(Sub, b, 1.0)?;
            let power = cx.bin(Pow, a, less)?;
            let slope = cx.bin(Mul, power, b)?;
            let flat = cx.bin_c(Eq, b, 0.0)?;
            let slope = cx.select(flat, zero, slope)?;
            let log = cx.un(UnaryOp::Log, a)?;
            let rate = cx.bin(Mul, y, log)?;
            let nothing = cx.bin_c(Eq, a, 0.0)?;
            let rate = cx.select(nothing, zero, rate)?;
            vec![(0, cx.bin(Mul, g, slope)?), (1, cx.bin(Mul, g, rate)?)]
        }
        Max | Min => {
            // Of equal ones the second counts, so that a rectifier is flat at 0.
            let first = cx.bin(if op == Max { Gt } else { Lt }, a, b)?;
            vec![(0, cx.select(first, g, zero)?), (1, cx.select(first, zero, g)?)]
        }
        Mod | Rem => {
            let rounded = cx.bin(Sub, a, y)?;
            let times = cx.bin(Div, rounded, b)?;
            let back = cx.bin(Mul, g, times)?;
            vec![(0, g), (1, cx.un(UnaryOp::Neg, back)?)]
        }
        Eq | Ne | Lt | Le | Gt | Ge | And | Or | Xor | Shl | Shr => Vec::new(),
    })
}

/// Strides, dilations and pads of a convolution.
type Form<'f> = (&'f [i64], &'f [i64], &'f Dims);

/// Elements along the spatial dims in reverse order.
fn turned(cx: &mut Cx<'_, '_>, w: ValueId) -> Res<ValueId> {
    let dims = cx.dims(w);
    let spatial = |i: usize| i >= 2;
    let starts = dims.iter().enumerate().map(|(i, d)| if spatial(i) { d - &1.into() } else { 0.into() }).collect();
    let steps = (0..dims.len()).map(|i| if spatial(i) { -1 } else { 1 }).collect();
    cx.add(Op::Slice { starts, steps, dims }, &[w])
}

fn swapped(cx: &mut Cx<'_, '_>, v: ValueId) -> Res<ValueId> {
    let mut perm: Vec<usize> = (0..cx.rank(v)).collect();
    perm.swap(0, 1);
    cx.transpose(v, &perm)
}

/// Of the input: the derivative, as far apart as windows were, meets the filters in reverse.
fn conv_input(cx: &mut Cx<'_, '_>, (x, w): (ValueId, ValueId), g: ValueId, (strides, dilations, pads): Form<'_>) -> Res<ValueId> {
    let n = strides.len();
    let (from, to, kernel) = (cx.dims(x), cx.dims(g), cx.dims(w));
    let filters = turned(cx, w)?;
    let filters = swapped(cx, filters)?;
    let (mut low, mut high, mut interior) = (vec![0.into(); 2], vec![0.into(); 2], vec![0; 2]);
    for i in 0..n {
        // A window reaches `reach` beyond its first element.
        let reach = &(&kernel[i + 2] - &1.into()) * &dilations[i].into();
        let taken = &(&(&to[i + 2] - &1.into()) * &strides[i].into()) + &1.into();
        let before = &reach - &pads[i];
        // As many as make the input's dim again: taken + before + after - reach.
        high.push(&(&(&from[i + 2] + &reach) - &taken) - &before);
        low.push(before);
        interior.push(strides[i] - 1);
    }
    let wide = cx.pad(g, low, high, interior, 0.0)?;
    let conv = Op::Conv { strides: vec![1; n], dilations: dilations.to_vec(), pads: vec![0.into(); 2 * n], groups: 1 };
    cx.add(conv, &[wide, filters])
}

/// Of the filters: the input meets the derivative as a filter, strides and dilations in turn, samples being channels.
fn conv_filter(cx: &mut Cx<'_, '_>, (x, w): (ValueId, ValueId), g: ValueId, (strides, dilations, pads): Form<'_>) -> Res<ValueId> {
    let n = strides.len();
    let (x, g) = (swapped(cx, x)?, swapped(cx, g)?);
    let conv = Op::Conv { strides: dilations.to_vec(), dilations: strides.to_vec(), pads: pads.clone(), groups: 1 };
    let all = cx.add(conv, &[x, g])?;
    let all = swapped(cx, all)?;
    // Rows of the input that no window reached make more taps than there are.
    let dims = cx.dims(w);
    let starts = vec![0.into(); n + 2];
    if cx.dims(all) == dims { Ok(all) } else { cx.add(Op::Slice { starts, steps: vec![1; n + 2], dims }, &[all]) }
}
