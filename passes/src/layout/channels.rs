// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Channels last, chosen over the whole graph.
//!
//! Each node that works on `[N,C,spatial..]` can as well work on `[N,spatial..,C]`: convolutions faster, pooling, elementwise ops, reductions
//! and movement as they do, everything else not at all. A value whose producer and user disagree is transposed, which costs its elements.
//! The choice that costs least is a minimum cut. Before: `%1 = conv(%0, %w); %2 = max(%1, 0); %3 = conv(%2, %v)`; after:
//! `%1 = conv_last{planar}(%0, panels of %w); %2 = max(%1, 0); %3 = conv_last(%2, panels of %v); %4 = transpose{0,3,1,2}(%3)`.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Dims, Graph, Node, NodeId, Op, PadMode, Patch, ValueId};
use portwright_ir::sym::SymExpr;

use super::cut::{FIXED, Network};
use super::{phases, rounded, winograd};
use crate::canonical;
use crate::rules::consts::is_static;
use crate::rules::{Edit, Rule, RuleCx, RuleLog, Tap};
use crate::spec::{CpuSpec, MachineClass, Math, ProductForm, SimtSpec};

/// Name of the rewrite in origins and statistics.
const NAME: &str = "channels-last";

/// Ends the name of a value that is the model's value of that name with channels last.
pub const TURNED: &str = " (channels last)";

/// Rules that bring transposes together; no other rule may see the graph then, as some of them turn weights back.
const TIDY: &[&str] = &["move-nothing", "transpose-chain", "transpose-ones", "transpose-through-merge", "reshape-chain"];

/// Size that a symbol is taken to have, where its range allows.
const NOMINAL: i64 = 16;

/// Femtoseconds of one core: a product of a dense convolution in its inner loop, an element that is transposed, and what a product of a
/// depthwise convolution takes longer with channels first, at steps of 1 and more. Measured on cores with vectors of 64 bytes; what counts
/// is how they compare.
pub(super) const PRODUCT: u64 = 8_700;
const MOVED: u64 = 150_000;
const DEPTHWISE: u64 = 4_000;
const DEPTHWISE_STRIDED: u64 = 30_000;

/// The same of a machine of lanes, by the rates of matrix instructions and memory: what a product of 16-bit floats takes longer where what
/// neighbors share has to be gathered element by element, and an element that is transposed.
const GATHERED: u64 = 26;
const MOVED_BY_LANES: u64 = 2_700;

/// Products of an image from which a convolution may round its operands: some two microseconds of f32.
const ROUNDED_PRODUCTS: i64 = 1 << 17;

/// How a node can take part.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Channels stay first.
    First,
    /// A convolution whose input may have its channels first all the same.
    Dense,
    /// A depthwise convolution.
    Depthwise,
    /// Works either way; whether its result is turned then.
    Either(bool),
    /// Turns its operand anyway.
    Transpose,
}

/// Gives convolutions and what is between them channels last, where that is estimated to be faster.
pub(super) fn channels_last(graph: &mut Graph, machine: &MachineClass, cx: &RuleCx<'_>, log: &mut RuleLog) {
    for n in crate::rules::nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        for r in &mut regions {
            channels_last(r, machine, cx, log);
        }
        *graph.regions_mut(n) = regions;
    }
    if matches!(machine, MachineClass::Cpu(_)) {
        crate::rules::run(graph, &phases::RULES.iter().collect::<Vec<_>>(), cx, log);
    }
    let chosen = choose(graph, machine, cx.math);
    if chosen.is_empty() {
        return;
    }
    for n in crate::rules::topological(graph) {
        if log.spent() {
            return;
        }
        if !graph.contains(n) || !chosen.contains(&n) {
            continue;
        }
        let Some(patch) = turn(graph, n, machine, cx.math) else { continue };
        match graph.apply(patch) {
            Ok(applied) => {
                log.count(NAME);
                name_turned(graph, &applied.added);
            }
            Err(fault) => {
                log.refused.insert(NAME, fault.message);
            }
        }
    }
    let tidy: Vec<&'static Rule> = canonical::rules().into_iter().filter(|r| TIDY.contains(&r.name)).collect();
    crate::rules::run(graph, &tidy, cx, log);
    crate::fold::share(graph, log);
    crate::rules::run(graph, &tidy, cx, log);
    if let (Math::Fast, MachineClass::Cpu(spec)) = (cx.math, machine) {
        rounded::read_rounded(graph, spec, log);
    }
    graph.remove_dead();
}

/// Names what was turned after the value that it is with channels first, so that it can be found by the model's name.
fn name_turned(graph: &mut Graph, added: &[NodeId]) {
    for &n in added {
        let node = graph.node(n);
        let (Op::Transpose { perm }, &[x], &[y]) = (&node.op, node.operands.as_slice(), node.results.as_slice()) else { continue };
        if *perm == to_first(perm.len())
            && graph.value(x).name.is_none()
            && let Some(name) = graph.value(y).name.clone()
        {
            graph.set_name(x, format!("{name}{TURNED}"));
        }
    }
}

/// `[0, 2, .., 1]`: from channels first to last.
pub fn to_last(rank: usize) -> Vec<u32> {
    std::iter::once(0).chain(2..rank as u32).chain([1]).collect()
}

/// `[0, last, 1, ..]`: from channels last to first.
pub(super) fn to_first(rank: usize) -> Vec<u32> {
    [0, rank as u32 - 1].into_iter().chain(1..rank as u32 - 1).collect()
}

/// Dim `i` with channels last.
fn moved(i: usize, rank: usize) -> usize {
    match i {
        0 => 0,
        1 => rank - 1,
        i => i - 1,
    }
}

/// What is listed by dim, for the dims in the order of `perm`.
fn permuted<T: Clone>(list: &[T], perm: &[u32]) -> Option<Vec<T>> {
    perm.iter().map(|&p| list.get(p as usize).cloned()).collect()
}

/// Whether a machine of lanes has matrix instructions for a convolution, and copies its channels in whole vectors.
fn in_fragments(g: &Graph, node: &Node, spec: &SimtSpec) -> bool {
    let (Op::Conv { groups: 1, .. }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return false };
    let dtype = g.ty(x).dtype;
    let multiplied = spec.fragments.iter().any(|f| f.dtypes == [dtype, g.ty(w).dtype, DType::F32]);
    let vector = i64::from(spec.vector(dtype));
    multiplied && g.ty(w).static_dims().is_some_and(|d| d.iter().take(2).all(|n| n % vector == 0))
}

fn part(g: &Graph, node: &Node, machine: &MachineClass) -> Part {
    let (Some(&x), Some(&y)) = (node.operands.first(), node.results.first()) else { return Part::First };
    let quantized = node.operands.iter().chain(&node.results).any(|&v| g.ty(v).quant.is_some());
    let (rank, result) = (g.ty(x).rank(), g.ty(y).rank());
    if quantized || node.results.len() != 1 {
        return Part::First;
    }
    match &node.op {
        Op::Transpose { .. } => Part::Transpose,
        Op::Conv { groups, .. } => {
            let Some(&w) = node.operands.get(1) else { return Part::First };
            let Some(dims) = g.ty(w).static_dims() else { return Part::First };
            if let MachineClass::Simt(spec) = machine {
                let fits = is_static(g, w) && (3..=5).contains(&rank) && !dims.contains(&0) && in_fragments(g, node, spec);
                return if fits { Part::Dense } else { Part::First };
            }
            let numbers = matches!(g.ty(x).dtype, DType::F32 | DType::F64 | DType::I32);
            if !is_static(g, w) || !numbers || !(3..=5).contains(&rank) || dims.contains(&0) {
                return Part::First;
            }
            match (groups, dims.as_slice()) {
                (1, [_, ..]) => Part::Dense,
                (g, [o, 1, ..]) if g == o => Part::Depthwise,
                // Vectors of a group's filters are filled at least half.
                (g, [o, ..]) if o / g >= 8 => Part::Dense,
                _ => Part::First,
            }
        }
        _ if !(3..=5).contains(&rank.max(result)) => Part::First,
        Op::Pool { channels_last: false, .. } if g.ty(x).dtype.is_float() => Part::Either(true),
        Op::Concat { .. } | Op::Slice { .. } => Part::Either(true),
        Op::Pad { mode: PadMode::Constant, .. } => Part::Either(true),
        Op::Broadcast { .. } if rank == result => Part::Either(true),
        Op::Gather { .. } if rank == result && node.operands.get(1).is_some_and(|&i| g.ty(i).rank() == 1) => Part::Either(true),
        Op::Reshape { dims } if rank >= 3 && dims.len() >= 3 && g.ty(x).dims[..2] == dims[..2] => Part::Either(true),
        Op::Reduce { axes, keep, .. } => reduced(rank, axes, *keep),
        Op::ArgReduce { axis, keep, .. } => reduced(rank, &[*axis], *keep),
        op if op.is_elementwise() => Part::Either(true),
        _ => Part::First,
    }
}

/// How a reduction of these axes takes part.
fn reduced(rank: usize, axes: &[u32], keep: bool) -> Part {
    if keep {
        return Part::Either(true);
    }
    let kept: Vec<u32> = to_last(rank).into_iter().filter(|p| !axes.contains(p)).collect();
    if kept.is_sorted() {
        Part::Either(false)
    } else if kept.len() >= 3 && kept.contains(&0) && kept.contains(&1) {
        Part::Either(true)
    } else {
        Part::First
    }
}

/// Elements of a tensor of these dims, each at least 1: a symbol's nominal size may be too small for a window.
pub(super) fn size(dims: &[SymExpr], nominal: &dyn Fn(&str) -> Option<i64>) -> u64 {
    dims.iter().map(|d| d.eval(nominal).unwrap_or(1).clamp(1, 1 << 40) as u64).fold(1, u64::saturating_mul).min(1 << 40)
}

/// What a convolution gains by having its channels last. With channels first, vectors run along positions: along a row, or along all of
/// them for pointwise ones; their last vector is partly filled, and steps and taps cost shuffles.
fn gain(g: &Graph, node: &Node, part: Part, machine: &MachineClass, nominal: &dyn Fn(&str) -> Option<i64>) -> u64 {
    let (Op::Conv { strides, .. }, &[_, w], &[y]) = (&node.op, node.operands.as_slice(), node.results.as_slice()) else { return 0 };
    let size = |dims: &[SymExpr]| size(dims, nominal);
    let (filters, dims) = (&g.ty(w).dims, &g.ty(y).dims);
    let products = size(dims).saturating_mul(size(&filters[1..]).max(1));
    let MachineClass::Cpu(spec) = machine else { return products.saturating_mul(GATHERED) };
    let strided = strides.iter().any(|&s| s != 1);
    if part == Part::Depthwise {
        return products.saturating_mul(if strided { DEPTHWISE_STRIDED } else { DEPTHWISE });
    }
    let lanes = u64::from(spec.lanes(g.ty(y).dtype));
    let pointwise = filters[2..].iter().all(|d| d.is(1)) && !strided;
    let row = if pointwise { size(&dims[2..]) } else { size(&dims[dims.len() - 1..]) }.max(1);
    // Percent of the time with channels last.
    let filled = row.next_multiple_of(lanes).saturating_mul(100) / row;
    let percent = match (pointwise, strided) {
        (true, _) => filled + 4,
        (_, false) => filled + filled / 5,
        (_, true) => filled * 2,
    };
    products.saturating_mul(PRODUCT * percent.saturating_sub(100) / 100)
}

/// Time to transpose a value: none where only dims of 1 move.
fn weight(g: &Graph, v: ValueId, machine: &MachineClass, nominal: &dyn Fn(&str) -> Option<i64>) -> u64 {
    let dims = &g.ty(v).dims;
    if dims.len() < 3 || dims[1].is(1) || dims[2..].iter().all(|d| d.is(1)) {
        return 0;
    }
    size(dims, nominal).saturating_mul(if matches!(machine, MachineClass::Cpu(_)) { MOVED } else { MOVED_BY_LANES })
}

/// Nodes that get channels last.
fn choose(g: &Graph, machine: &MachineClass, math: Math) -> std::collections::HashSet<NodeId> {
    let order = crate::rules::topological(g);
    let parts: HashMap<NodeId, Part> = order.iter().map(|&n| (n, part(g, g.node(n), machine))).collect();
    if !parts.values().any(|p| matches!(p, Part::Dense | Part::Depthwise)) {
        return Default::default();
    }
    let nominal = |s: &str| g.symbol(s).map(|s| NOMINAL.clamp(s.lo.max(1), s.hi.max(1)));
    let mut net = Network::default();
    // On the source's side: last.
    let (last, first) = (net.node(), net.node());
    let at: HashMap<NodeId, usize> = order.iter().map(|&n| (n, net.node())).collect();
    let mut users: HashMap<ValueId, Vec<NodeId>> = HashMap::new();
    for &n in &order {
        let node = g.node(n);
        match parts[&n] {
            Part::First => net.edge(at[&n], first, FIXED),
            Part::Dense | Part::Depthwise => net.edge(last, at[&n], gain(g, node, parts[&n], machine, &nominal)),
            _ => {}
        }
        let mut seen: Vec<ValueId> = Vec::new();
        for &v in &node.operands {
            // Only operands of the full rank are turned with the node.
            let rank = node.operands.iter().chain(&node.results).map(|&v| g.ty(v).rank()).max().unwrap_or(0);
            let own = matches!(parts[&n], Part::First) || g.ty(v).rank() == rank || matches!(node.op, Op::Reshape { .. });
            if !seen.contains(&v) && own {
                seen.push(v);
                users.entry(v).or_default().push(n);
            }
        }
    }
    let mut values: Vec<ValueId> =
        order.iter().flat_map(|&n| g.node(n).results.iter().copied()).chain(g.inputs().iter().copied()).collect();
    values.retain(|v| users.contains_key(v) || g.is_output(*v));
    for v in values {
        let cost = weight(g, v, machine, &nominal);
        // What turns by a view does so best once: behind it, vectors of channels would be gathered.
        let cost = if math == Math::Fast && g.ty(v).rank() >= 3 { cost.max(1) } else { cost };
        // Weights are turned when they are packed.
        if cost == 0 || is_static(g, v) {
            continue;
        }
        let made = match g.producer_id(v) {
            Some(n) => match parts[&n] {
                Part::Transpose => continue,
                Part::Either(false) => first,
                _ => at[&n],
            },
            None => first,
        };
        // One transposed copy serves all users on the other side of the producer.
        let (to_last, to_first) = (net.node(), net.node());
        net.edge(to_last, made, cost);
        // Right behind a convolution, a transpose parts it from its epilogue.
        let parts_epilogue = g.producer_id(v).is_some_and(|n| matches!(parts[&n], Part::Dense | Part::Depthwise));
        net.edge(made, to_first, if parts_epilogue { cost + cost / 2 } else { cost });
        for &n in users.get(&v).into_iter().flatten() {
            match parts[&n] {
                Part::Transpose => {}
                // The convolution copies its input itself, which costs half as much.
                Part::Dense if g.node(n).operands.first() == Some(&v) && matches!(machine, MachineClass::Cpu(_)) => {
                    net.edge(at[&n], made, cost / 2);
                    net.edge(to_first, at[&n], FIXED);
                }
                _ => {
                    net.edge(at[&n], to_last, FIXED);
                    net.edge(to_first, at[&n], FIXED);
                }
            }
        }
        if g.is_output(v) {
            net.edge(to_first, first, FIXED);
        }
    }
    let side = net.cut(last, first);
    order.into_iter().filter(|n| side[at[n]] && !matches!(parts[n], Part::First | Part::Transpose)).collect()
}

/// A value of full rank with channels last, undoing the transpose that made its channels first.
fn operand_last(e: &mut Edit<'_>, v: ValueId) -> Option<Tap> {
    let rank = e.rank(v);
    match already_last(e.graph, v) {
        Some(x) => Some(x.into()),
        None => turned(e, v.into(), to_last(rank)),
    }
}

/// What has the elements of `v` with channels last.
fn already_last(g: &Graph, v: ValueId) -> Option<ValueId> {
    let node = g.producer(v)?;
    match (&node.op, node.operands.as_slice()) {
        (Op::Transpose { perm }, &[x]) if *perm == to_first(perm.len()) => Some(x),
        _ => None,
    }
}

/// A transpose, or the reshape that it is where it moves only dims of 1.
fn turned(e: &mut Edit<'_>, x: Tap, perm: Vec<u32>) -> Option<Tap> {
    let dims = e.ty(x).dims.clone();
    let long: Vec<u32> = perm.iter().copied().filter(|&p| dims.get(p as usize).is_some_and(|d| !d.is(1))).collect();
    if long.is_sorted() { e.reshape(x, permuted(&dims, &perm)?) } else { e.transpose(x, perm) }
}

/// An operand that broadcasts to a result of `rank` dims, with channels last: without leading dims of 1.
fn broadcast_last(e: &mut Edit<'_>, v: ValueId, rank: usize) -> Option<Tap> {
    let dims = e.ty(v).dims.clone();
    if dims.len() == rank {
        return operand_last(e, v);
    }
    if dims.iter().all(|d| d.is(1)) {
        return Some(v.into());
    }
    let mut full: Dims = vec![1.into(); rank.checked_sub(dims.len())?];
    full.extend(dims);
    let x = e.reshape(v, full)?;
    let x = turned(e, x, to_last(rank))?;
    let dims = e.ty(x).dims.clone();
    let lead = dims.iter().take_while(|d| d.is(1)).count();
    e.reshape(x, dims.get(lead..)?.to_vec())
}

/// The node with channels last between transposes.
fn turn(g: &Graph, n: NodeId, machine: &MachineClass, math: Math) -> Option<Patch> {
    let node = g.node(n);
    let (&x, &old) = (node.operands.first()?, node.results.first()?);
    let rank = g.ty(x).rank();
    let mut e = Edit::new(g, NAME, &[n]);
    let new = match &node.op {
        Op::Conv { .. } => match machine {
            MachineClass::Cpu(spec) => conv(&mut e, node, spec, math)?,
            MachineClass::Simt(_) => conv_in_fragments(&mut e, node)?,
        },
        Op::Pool { op, kernel, strides, dilations, pads, count_pad, dims, .. } => {
            let x = operand_last(&mut e, x)?;
            let op = Op::Pool {
                op: *op,
                kernel: kernel.clone(),
                strides: strides.clone(),
                dilations: dilations.clone(),
                pads: pads.clone(),
                count_pad: *count_pad,
                dims: dims.clone(),
                channels_last: true,
            };
            e.add(op, &[x])?
        }
        Op::Concat { axis } => {
            let parts = node.operands.iter().map(|&v| operand_last(&mut e, v)).collect::<Option<Vec<_>>>()?;
            e.concat(&parts, moved(*axis as usize, rank))?
        }
        Op::Slice { starts, steps, dims } => {
            let (x, perm) = (operand_last(&mut e, x)?, to_last(rank));
            let op = Op::Slice { starts: permuted(starts, &perm)?, steps: permuted(steps, &perm)?, dims: permuted(dims, &perm)? };
            e.add(op, &[x])?
        }
        Op::Pad { mode, low, high, interior } => {
            let (x, perm) = (operand_last(&mut e, x)?, to_last(rank));
            let (low, high, interior) = (permuted(low, &perm)?, permuted(high, &perm)?, permuted(interior, &perm)?);
            let rest = node.operands.iter().skip(1).map(|&v| v.into());
            let operands: Vec<Tap> = std::iter::once(x).chain(rest).collect();
            e.add(Op::Pad { mode: *mode, low, high, interior }, &operands)?
        }
        Op::Broadcast { dims } => {
            let x = operand_last(&mut e, x)?;
            e.broadcast(x, permuted(dims, &to_last(rank))?)?
        }
        Op::Gather { axis } => {
            let x = operand_last(&mut e, x)?;
            e.add(Op::Gather { axis: moved(*axis as usize, rank) as u32 }, &[x, (*node.operands.get(1)?).into()])?
        }
        Op::Reshape { dims } => {
            let x = operand_last(&mut e, x)?;
            e.reshape(x, permuted(dims, &to_last(dims.len()))?)?
        }
        Op::Reduce { op, axes, keep } => {
            let x = operand_last(&mut e, x)?;
            let mut axes: Vec<u32> = axes.iter().map(|&a| moved(a as usize, rank) as u32).collect();
            axes.sort_unstable();
            e.add(Op::Reduce { op: *op, axes, keep: *keep }, &[x])?
        }
        Op::ArgReduce { op, axis, keep, last } => {
            let x = operand_last(&mut e, x)?;
            e.add(Op::ArgReduce { op: *op, axis: moved(*axis as usize, rank) as u32, keep: *keep, last: *last }, &[x])?
        }
        op if op.is_elementwise() => {
            let rank = g.ty(old).rank();
            let operands = node.operands.iter().map(|&v| broadcast_last(&mut e, v, rank)).collect::<Option<Vec<_>>>()?;
            e.add(op.clone(), &operands)?
        }
        _ => return None,
    };
    let new = match part(g, node, machine) {
        Part::Either(false) => new,
        _ => {
            let rank = e.rank(new);
            e.transpose(new, to_first(rank))?
        }
    };
    e.finish(old, new)
}

/// The convolution with channels last; its filters lie in panels of a vector each.
fn conv(e: &mut Edit<'_>, node: &Node, spec: &CpuSpec, math: Math) -> Option<Tap> {
    let (Op::Conv { strides, dilations, pads, groups }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let (dtype, rank) = (e.ty(w).dtype, e.rank(x));
    let dims = e.ty(w).static_dims()?;
    let (&filters, lanes) = (dims.first()?, i64::from(spec.lanes(dtype)));
    let depthwise = filters == *groups && dims.get(1) == Some(&1);
    // Another user may have the input turned already.
    let planar = !depthwise && already_last(e.graph, x).is_none() && !turned_elsewhere(e.graph, x);
    let rounds = math == Math::Fast && may_round(e.graph, node);
    let depth = if rounds { beside(node, &dims, planar, spec) } else { 1 };
    // At twice the rate, and with weights of an eighth of the bytes, the direct form is no slower within a model.
    if math != Math::Exact && depth == 1 && winograd::pays(e.graph, node, spec, if planar { MOVED } else { 0 }) {
        let input = operand_last(e, x)?;
        return winograd::conv(e, node, input);
    }
    if !planar && rounds && halves(node, &dims, spec) {
        return pointwise(e, x, w, &dims);
    }
    // Panels of whole vectors, the last filled up; groups must not share one.
    let whole = filters / groups % lanes == 0 || (*groups == 1 && filters > lanes);
    let width = if whole && !depthwise { lanes } else { filters };
    let panels = (filters + width - 1) / width;
    let mut packed = Tap::Old(w);
    let mut pads = pads.clone();
    // A kernel of columns that are multiplied together may end in one of zeros.
    let last = *dims.last()?;
    let beyond = if planar { (last + depth - 1) / depth * depth - last } else { 0 };
    if panels * width != filters || beyond > 0 {
        let zero = e.scalar(dtype, 0.0)?;
        let none: Dims = vec![0.into(); dims.len()];
        let mut high = none.clone();
        *high.first_mut()? = (panels * width - filters).into();
        *high.last_mut()? = beyond.into();
        let behind = pads.last_mut()?;
        *behind = behind.clone() + beyond;
        packed = e.add(Op::Pad { mode: PadMode::Constant, low: none, high, interior: vec![0; dims.len()] }, &[packed, zero])?;
    }
    let mut split: Vec<i64> = [panels, width].into_iter().chain(dims.iter().skip(1).copied()).collect();
    *split.last_mut()? += beyond;
    packed = e.reshape(packed, split.iter().map(|&n| n.into()).collect())?;
    // [P, B, C, kernel..] -> [P, kernel.., C, B]
    let perm: Vec<u32> = std::iter::once(0).chain(3..rank as u32 + 1).chain([2, 1]).collect();
    packed = e.transpose(packed, perm.clone())?;
    let mut input = if planar { Tap::Old(x) } else { operand_last(e, x)? };
    if depth > 1 {
        (input, packed) = (e.cast(input, DType::BF16)?, e.cast(packed, DType::BF16)?);
        // [.., Q * d, .., B] -> [.., Q, .., B * d]
        let mut dims: Vec<i64> = perm.iter().map(|&p| split.get(p as usize).copied()).collect::<Option<_>>()?;
        let at = if planar { rank - 2 } else { rank - 1 };
        *dims.get_mut(at)? /= depth;
        let mut apart = dims.clone();
        apart.insert(at + 1, depth);
        packed = e.reshape(packed, apart.iter().map(|&n| n.into()).collect())?;
        let order = (0..=at).chain(at + 2..=rank + 1).chain([at + 1]).map(|i| i as u32).collect();
        packed = e.transpose(packed, order)?;
        *dims.last_mut()? *= depth;
        packed = e.reshape(packed, dims.iter().map(|&n| n.into()).collect())?;
    }
    let op = Op::ConvLast {
        channels: filters,
        strides: strides.clone(),
        dilations: dilations.clone(),
        pads,
        groups: *groups,
        planar,
        depth,
        out: dtype,
    };
    e.add(op, &[input, packed])
}

/// The convolution with channels last, and filters in one panel, `[1, kernel.., C, O]`.
fn conv_in_fragments(e: &mut Edit<'_>, node: &Node) -> Option<Tap> {
    let (Op::Conv { strides, dilations, pads, groups: 1 }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let (out, dims) = (e.ty(w).dtype, e.ty(w).static_dims()?);
    let perm: Vec<u32> = (2..dims.len() as u32).chain([1, 0]).collect();
    let filters = e.transpose(w, perm.clone())?;
    let mut panel: Dims = vec![1.into()];
    panel.extend(permuted(&dims, &perm)?.into_iter().map(SymExpr::from));
    let filters = e.reshape(filters, panel)?;
    let input = operand_last(e, x)?;
    let op = Op::ConvLast {
        channels: *dims.first()?,
        strides: strides.clone(),
        dilations: dilations.clone(),
        pads: pads.clone(),
        groups: 1,
        planar: false,
        depth: 1,
        out,
    };
    e.add(op, &[input, filters])
}

/// Neighbors of the input that an instruction multiplies in bf16 at once: channels, or columns of the kernel where the input is planar; 1
/// where that is not possible or not worth it.
fn beside(node: &Node, filters: &[i64], planar: bool, spec: &CpuSpec) -> i64 {
    let Op::Conv { dilations, groups, .. } = &node.op else { return 1 };
    let (&[o, c, ref kernel @ ..], lanes) = (filters, i64::from(spec.lanes(DType::F32))) else { return 1 };
    let Some(form) = spec.dot(DType::BF16, DType::BF16, DType::F32) else { return 1 };
    let (depth, own) = (i64::from(form.depth), o / groups);
    let whole = own % lanes == 0 || (*groups == 1 && own > lanes);
    let fits = if planar { dilations.last() == Some(&1) && kernel.last() > Some(&1) } else { c % depth == 0 };
    // Short sums, and few of them an element, take less time than to round what they read.
    let taps = kernel.iter().product::<i64>();
    let worth = taps.saturating_mul(c) >= lanes && taps.saturating_mul(own) >= 2 * lanes;
    if whole && fits && worth { depth } else { 1 }
}

/// Whether the operands of a convolution may be rounded to bf16, where results may. What is made of a whole picture often gates all of
/// another: all of that would share its rounding. Few products gain next to nothing for what they lose.
fn may_round(g: &Graph, node: &Node) -> bool {
    let (&[x, w], &[y]) = (node.operands.as_slice(), node.results.as_slice()) else { return false };
    let Some(filters) = g.ty(w).static_dims() else { return false };
    let positions = g.ty(y).dims.iter().skip(2).map(|d| d.as_const().unwrap_or(i64::MAX));
    let products = filters.into_iter().chain(positions.clone()).fold(1, i64::saturating_mul);
    g.ty(x).dtype == DType::F32 && positions.max() > Some(1) && products >= ROUNDED_PRODUCTS
}

/// Whether a convolution is a product of matrices that the machine forms faster in bf16.
fn halves(node: &Node, filters: &[i64], spec: &CpuSpec) -> bool {
    let Op::Conv { strides, pads, groups: 1, .. } = &node.op else { return false };
    let (&[o, c, ref kernel @ ..], lanes) = (filters, i64::from(spec.lanes(DType::F32))) else { return false };
    let plain = kernel.iter().chain(strides).all(|&n| n == 1) && pads.iter().all(|p| p.is(0));
    plain && o.min(c) >= 2 * lanes && spec.products(DType::BF16, DType::BF16, DType::F32) != ProductForm::Multiply
}

/// A pointwise convolution as a contraction of bf16 over the channels, which come last.
fn pointwise(e: &mut Edit<'_>, x: ValueId, w: ValueId, filters: &[i64]) -> Option<Tap> {
    let rank = filters.len();
    let input = operand_last(e, x)?;
    let input = e.cast(input, DType::BF16)?;
    let matrix = e.reshape(w, filters.iter().take(2).map(|&n| n.into()).collect())?;
    let matrix = e.transpose(matrix, vec![1, 0])?;
    let matrix = e.cast(matrix, DType::BF16)?;
    let positions: String = ('s'..).take(rank - 1).collect();
    e.contract(&format!("{positions}c,co->{positions}o"), input, matrix, DType::F32, DType::F32)
}

/// Whether a value with channels first also exists with channels last, or is a transpose that a further one joins.
fn turned_elsewhere(g: &Graph, x: ValueId) -> bool {
    let is_transpose = |n: &Node| matches!(n.op, Op::Transpose { .. });
    let dims = &g.ty(x).dims;
    dims.get(1).is_some_and(|c| c.is(1))
        || g.producer(x).is_some_and(is_transpose)
        || g.users(x).into_iter().any(|n| matches!(&g.node(n).op, Op::Transpose { perm } if *perm == to_last(perm.len())))
}
