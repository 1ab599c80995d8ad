// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Movement that does nothing, or that one op says as well as two.

use portwright_ir::graph::{Dims, Graph, Node, NodeId, Op, Patch, ReduceOp, TensorType, ValueId, infer};
use portwright_ir::sym::SymExpr;

use super::arith::forward;
use crate::rules::consts::{ints, splat};
use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "move-nothing",
        doc: "reshape, broadcast, slice, transpose, concat of one, pad of nothing: x with the dims of x -> x",
        roots: &["reshape", "broadcast", "slice", "transpose", "concat", "pad"],
        apply: move_nothing,
    },
    Rule { name: "reshape-chain", doc: "reshape(reshape(x)) -> reshape(x)", roots: &["reshape"], apply: reshape_chain },
    Rule {
        name: "transpose-chain",
        doc: "transpose{q}(transpose{p}(x)) -> transpose{p[q]}(x)",
        roots: &["transpose"],
        apply: transpose_chain,
    },
    Rule {
        name: "transpose-ones",
        doc: "transpose that keeps the order of the dims that are not 1 -> reshape",
        roots: &["transpose"],
        apply: transpose_ones,
    },
    Rule { name: "broadcast-chain", doc: "broadcast(broadcast(x)) -> broadcast(x)", roots: &["broadcast"], apply: broadcast_chain },
    Rule {
        name: "broadcast-unit-reshape",
        doc: "broadcast of one element, or that adds only dims of 1 -> reshape",
        roots: &["broadcast"],
        apply: broadcast_ones,
    },
    Rule {
        name: "broadcast-through-reshape",
        doc: "reshape(broadcast(x)) that inserts or removes dims of 1 -> broadcast(reshape(x))",
        roots: &["reshape"],
        apply: broadcast_through_reshape,
    },
    Rule {
        name: "transpose-through-merge",
        doc: "transpose(reshape(x)) where the reshape joins neighboring dims -> reshape(transpose(x))",
        roots: &["transpose"],
        apply: transpose_through_merge,
    },
    Rule {
        name: "broadcast-implied",
        doc: "add(broadcast(x), y) -> add(x, y) when the result has the same dims; also for the other elementwise ops",
        roots: ELEMENTWISE,
        apply: broadcast_implied,
    },
    Rule { name: "slice-chain", doc: "slice(slice(x)) -> slice(x)", roots: &["slice"], apply: slice_chain },
    Rule {
        name: "slice-of-concat",
        doc: "slice(concat(x, y)) along the same axis within x -> slice(x)",
        roots: &["slice"],
        apply: slice_of_concat,
    },
    Rule {
        name: "concat-flat",
        doc: "concat(concat(x, y), z) -> concat(x, y, z) along one axis; operands without elements go",
        roots: &["concat"],
        apply: concat_flat,
    },
    Rule {
        name: "concat-of-slices",
        doc: "concat(slice(x, a..b), slice(x, b..c)) -> slice(x, a..c)",
        roots: &["concat"],
        apply: concat_of_slices,
    },
    Rule {
        name: "gather-known",
        doc: "gather(x, constant indices that count up by a step) -> slice; a scalar index -> slice and reshape",
        roots: &["gather"],
        apply: gather_known,
    },
    Rule {
        name: "movement-of-splat",
        doc: "movement of one number everywhere -> fill",
        roots: &["reshape", "broadcast", "slice", "transpose"],
        apply: movement_of_splat,
    },
    Rule {
        name: "reduce-unit-keep",
        doc: "reshape(reduce{keep=false}(x)) that puts the reduced dims back as 1 -> reduce{keep=true}(x)",
        roots: &["reshape"],
        apply: reduce_keep,
    },
];

/// Ops of several operands that broadcast.
pub(super) const ELEMENTWISE: &[&str] = &[
    "select",
    "attention",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "rem",
    "pow",
    "min",
    "max",
    "and",
    "or",
    "xor",
    "shl",
    "shr",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
];

fn move_nothing(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &x = node.operands.first()?;
    let same = g.ty(x) == g.ty(g.result(n));
    let nothing = match &node.op {
        Op::Reshape { .. } | Op::Broadcast { .. } => same,
        Op::Slice { starts, steps, .. } => same && starts.iter().all(|s| s.is(0)) && steps.iter().all(|&s| s == 1),
        Op::Transpose { perm } => perm.iter().enumerate().all(|(i, &p)| i as u32 == p),
        Op::Concat { .. } => node.operands.len() == 1,
        Op::Pad { low, high, interior, .. } => low.iter().chain(high).all(|p| p.is(0)) && interior.iter().all(|&i| i == 0),
        _ => false,
    };
    if nothing { forward(g, "move-nothing", n, x) } else { None }
}

fn reshape_chain(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let inner = g.producer(*node.operands.first()?)?;
    let (Op::Reshape { dims }, Op::Reshape { .. }) = (&node.op, &inner.op) else { return None };
    let mut e = Edit::new(g, "reshape-chain", &[n]);
    let new = e.reshape(*inner.operands.first()?, dims.clone())?;
    e.finish(g.result(n), new)
}

fn transpose_chain(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let inner = g.producer(*node.operands.first()?)?;
    let (Op::Transpose { perm: q }, Op::Transpose { perm: p }) = (&node.op, &inner.op) else { return None };
    let perm = q.iter().map(|&i| p.get(i as usize).copied()).collect::<Option<Vec<_>>>()?;
    let mut e = Edit::new(g, "transpose-chain", &[n]);
    let new = e.transpose(*inner.operands.first()?, perm)?;
    e.finish(g.result(n), new)
}

fn transpose_ones(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Transpose { perm } = &node.op else { return None };
    let &x = node.operands.first()?;
    let dims = &g.ty(x).dims;
    let moved: Vec<u32> = perm.iter().copied().filter(|&p| dims.get(p as usize).is_some_and(|d| !d.is(1))).collect();
    if !moved.is_sorted() || perm.is_sorted() {
        return None;
    }
    let mut e = Edit::new(g, "transpose-ones", &[n]);
    let new = e.reshape(x, g.ty(g.result(n)).dims.clone())?;
    e.finish(g.result(n), new)
}

fn broadcast_chain(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let inner = g.producer(*node.operands.first()?)?;
    let (Op::Broadcast { dims }, Op::Broadcast { .. }) = (&node.op, &inner.op) else { return None };
    let mut e = Edit::new(g, "broadcast-chain", &[n]);
    let new = e.broadcast(*inner.operands.first()?, dims.clone())?;
    e.finish(g.result(n), new)
}

fn broadcast_ones(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Broadcast { dims } = &node.op else { return None };
    let &x = node.operands.first()?;
    let old = &g.ty(x).dims;
    let added = dims.len().checked_sub(old.len())?;
    if !dims.iter().take(added).all(|d| d.is(1)) || dims.get(added..)? != old.as_slice() {
        return None;
    }
    let mut e = Edit::new(g, "broadcast-unit-reshape", &[n]);
    let new = e.reshape(x, dims.clone())?;
    e.finish(g.result(n), new)
}

/// Whether `op` over operands of these types has a result of that type without assuming more than `node` does.
fn proves(g: &Graph, node: &Node, operands: &[&TensorType], result: &TensorType) -> bool {
    let before: Vec<&TensorType> = node.operands.iter().map(|&v| g.ty(v)).collect();
    let given = infer::infer_assuming(g, &node.op, &before, &[]).map(|i| i.assumed).unwrap_or_default();
    infer::infer_assuming(g, &node.op, operands, &[])
        .is_ok_and(|i| i.types.first() == Some(result) && i.assumed.iter().all(|a| given.contains(a)))
}

fn broadcast_through_reshape(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &wide = node.operands.first()?;
    let inner = g.producer(wide)?;
    let (Op::Reshape { dims }, Op::Broadcast { dims: repeated }, &x) = (&node.op, &inner.op, inner.operands.first()?) else { return None };
    let stripped = |d: &Dims| d.iter().filter(|d| !d.is(1)).cloned().collect::<Dims>();
    if stripped(dims) != stripped(repeated) {
        return None;
    }
    let x_dims = &g.ty(x).dims;
    let lead = repeated.len().checked_sub(x_dims.len())?;
    let own = |i: usize| i.checked_sub(lead).and_then(|i| x_dims.get(i).cloned()).unwrap_or_else(|| 1.into());
    let mut kept = repeated.iter().enumerate().filter(|(_, d)| !d.is(1)).map(|(i, _)| own(i));
    let narrow: Dims = dims.iter().map(|d| if d.is(1) { Some(1.into()) } else { kept.next() }).collect::<Option<_>>()?;
    let mut e = Edit::new(g, "broadcast-through-reshape", &[n]);
    let narrow = e.reshape(x, narrow)?;
    let new = e.broadcast(narrow, dims.clone())?;
    e.finish(g.result(n), new)
}

/// For each dim of `to`, how many neighboring dims of `from` it joins; `None` if `to` does more than join.
fn merges(from: &Dims, to: &Dims) -> Option<Vec<usize>> {
    let mut left = from.iter();
    let mut counts = Vec::with_capacity(to.len());
    for d in to {
        let mut product = left.next()?.clone();
        let mut count = 1;
        while product != *d {
            product = &product * left.next()?;
            count += 1;
        }
        counts.push(count);
    }
    left.next().is_none().then_some(counts)
}

fn transpose_through_merge(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &joined = node.operands.first()?;
    let inner = g.producer(joined)?;
    let (Op::Transpose { perm }, Op::Reshape { dims }, &x) = (&node.op, &inner.op, inner.operands.first()?) else { return None };
    // Elsewhere the merged value would be needed as well.
    crate::rules::edit::only_user(g, joined)?;
    let counts = merges(&g.ty(x).dims, dims)?;
    let starts: Vec<usize> = counts.iter().scan(0, |at, c| Some(std::mem::replace(at, *at + c))).collect();
    let mut wide = Vec::new();
    for &p in perm {
        let (start, count) = (*starts.get(p as usize)?, *counts.get(p as usize)?);
        wide.extend((start..start + count).map(|i| i as u32));
    }
    let mut e = Edit::new(g, "transpose-through-merge", &[n]);
    let moved = e.transpose(x, wide)?;
    let new = e.reshape(moved, g.ty(g.result(n)).dims.clone())?;
    e.finish(g.result(n), new)
}

fn broadcast_implied(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    if node.operands.len() < 2 {
        return None;
    }
    let result = g.ty(g.result(n));
    for (i, &v) in node.operands.iter().enumerate() {
        let Some((Op::Broadcast { .. }, inner)) = g.producer(v).map(|p| (&p.op, &p.operands)) else { continue };
        let mut operands = node.operands.clone();
        *operands.get_mut(i)? = *inner.first()?;
        let types: Vec<&TensorType> = operands.iter().map(|&v| g.ty(v)).collect();
        if proves(g, node, &types, result) {
            let taps: Vec<Tap> = operands.into_iter().map(Tap::Old).collect();
            let mut e = Edit::new(g, "broadcast-implied", &[n]);
            let new = e.add(node.op.clone(), &taps)?;
            return e.finish(g.result(n), new);
        }
    }
    None
}

fn slice_chain(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let inner = g.producer(*node.operands.first()?)?;
    let (Op::Slice { starts: s2, steps: t2, dims }, Op::Slice { starts: s1, steps: t1, .. }) = (&node.op, &inner.op) else { return None };
    let mut starts = Dims::new();
    let mut steps = Vec::new();
    for i in 0..dims.len() {
        starts.push(s1.get(i)?.clone() + s2.get(i)?.clone() * *t1.get(i)?);
        steps.push(t1.get(i)?.checked_mul(*t2.get(i)?)?);
    }
    let mut e = Edit::new(g, "slice-chain", &[n]);
    let new = e.add(Op::Slice { starts, steps, dims: dims.clone() }, &[(*inner.operands.first()?).into()])?;
    e.finish(g.result(n), new)
}

/// The one dim along which a slice of step 1 is not whole: axis, start, length.
fn sliced_axis<'a>(g: &Graph, x: ValueId, op: &'a Op) -> Option<(usize, &'a SymExpr, &'a SymExpr)> {
    let Op::Slice { starts, steps, dims } = op else { return None };
    let whole = &g.ty(x).dims;
    let mut cut = (0..dims.len()).filter(|&i| !(starts[i].is(0) && dims[i] == whole[i] && steps[i] == 1));
    let axis = cut.next()?;
    (cut.next().is_none() && steps[axis] == 1).then(|| (axis, &starts[axis], &dims[axis]))
}

fn slice_of_concat(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &x = node.operands.first()?;
    let inner = g.producer(x)?;
    let Op::Concat { axis } = inner.op else { return None };
    let (at, start, len) = sliced_axis(g, x, &node.op)?;
    if at != axis as usize {
        return None;
    }
    let mut from = SymExpr::from(0);
    for &part in &inner.operands {
        let size = &g.ty(part).dims[at];
        let to = &from + size;
        // start >= from and start + len <= to
        if g.bounds(&(start - &from)).0 >= 0 && g.bounds(&(&to - &(start + len))).0 >= 0 {
            let mut e = Edit::new(g, "slice-of-concat", &[n]);
            let new = e.slice_axis(part, at, start - &from, len.clone())?;
            return e.finish(g.result(n), new);
        }
        from = to;
    }
    None
}

fn concat_flat(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Concat { axis } = node.op else { return None };
    let mut parts: Vec<Tap> = Vec::new();
    let mut changed = false;
    for &v in &node.operands {
        if g.ty(v).dims.get(axis as usize)?.is(0) && node.operands.len() > 1 {
            changed = true;
            continue;
        }
        match g.producer(v) {
            Some(p) if p.op == node.op && crate::rules::edit::only_user(g, v) == Some(n) => {
                changed = true;
                parts.extend(p.operands.iter().map(|&o| Tap::Old(o)));
            }
            _ => parts.push(v.into()),
        }
    }
    if !changed || parts.is_empty() {
        return None;
    }
    let mut e = Edit::new(g, "concat-flat", &[n]);
    let new = e.add(node.op.clone(), &parts)?;
    e.finish(g.result(n), new)
}

fn concat_of_slices(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Concat { axis } = node.op else { return None };
    let (&first, rest) = node.operands.split_first()?;
    if rest.is_empty() {
        return None;
    }
    let part = |v: ValueId| {
        let p = g.producer(v)?;
        let &x = p.operands.first()?;
        let (at, start, len) = sliced_axis(g, x, &p.op)?;
        (at == axis as usize).then(|| (x, start.clone(), len.clone()))
    };
    let (x, start, mut total) = part(first)?;
    for &v in rest {
        let (y, from, len) = part(v)?;
        if y != x || from != &start + &total {
            return None;
        }
        total = &total + &len;
    }
    let mut e = Edit::new(g, "concat-of-slices", &[n]);
    let new = e.slice_axis(x, axis as usize, start, total)?;
    e.finish(g.result(n), new)
}

fn gather_known(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Gather { axis }, &[x, i]) = (&node.op, node.operands.as_slice()) else { return None };
    let axis = *axis as usize;
    let size = g.ty(x).dims.get(axis)?.clone();
    let index_rank = g.ty(i).rank();
    let indices = ints(g, i)?;
    let (&first, _) = indices.split_first()?;
    let step = indices.get(1).map_or(1, |&second| second - first);
    let steady = step != 0 && indices.windows(2).all(|w| w[1] - w[0] == step);
    if index_rank > 1 || !steady || indices.iter().any(|&k| (k < 0) != (first < 0)) {
        return None;
    }
    // All indices are in range for every size that the dim can have.
    let (lowest, highest) = (*indices.iter().min()?, *indices.iter().max()?);
    let (smallest, _) = g.bounds(&size);
    if lowest < -smallest || highest >= smallest {
        return None;
    }
    let start = if first < 0 { size + first } else { first.into() };
    let rank = g.ty(x).rank();
    let mut starts: Dims = vec![0.into(); rank];
    let mut steps = vec![1; rank];
    let mut dims = g.ty(x).dims.clone();
    (starts[axis], steps[axis], dims[axis]) = (start, step, SymExpr::from_usize(indices.len()));
    let mut e = Edit::new(g, "gather-known", &[n]);
    let sliced = e.add(Op::Slice { starts, steps, dims }, &[x.into()])?;
    let new = e.reshape(sliced, g.ty(g.result(n)).dims.clone())?;
    e.finish(g.result(n), new)
}

fn movement_of_splat(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let v = g.result(n);
    let value = splat(g, v)?;
    let mut e = Edit::new(g, "movement-of-splat", &[n]);
    let new = e.add(Op::Fill { value, dims: g.ty(v).dims.clone() }, &[])?;
    e.finish(v, new)
}

fn reduce_keep(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let &x = node.operands.first()?;
    let inner = g.producer(x)?;
    let (Op::Reduce { op, axes, keep: false }, &source) = (&inner.op, inner.operands.first()?) else { return None };
    let op: ReduceOp = *op;
    let mut kept = g.ty(source).dims.clone();
    for &a in axes {
        *kept.get_mut(a as usize)? = 1.into();
    }
    if kept != g.ty(g.result(n)).dims || crate::rules::edit::only_user(g, x).is_none() {
        return None;
    }
    let mut e = Edit::new(g, "reduce-unit-keep", &[n]);
    let new = e.reduce(op, source, axes.clone())?;
    e.finish(g.result(n), new)
}
