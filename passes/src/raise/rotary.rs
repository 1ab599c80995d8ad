// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rotary embedding from products with cosines and sines.

use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use crate::rules::edit::{binary_of, unary_of};
use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "raise-rotary-half",
        doc: "x * c + concat(-x2, x1) * s -> rotary(x, c1, s1), where c and s are twice the same half along the last dim",
        roots: &["add"],
        apply: whole,
    },
    Rule {
        name: "raise-rotary-parts",
        doc: "concat(x1 * c - x2 * s, x2 * c + x1 * s) -> rotary(x, c, s) for halves x1, x2 of x",
        roots: &["concat"],
        apply: halves,
    },
    Rule {
        name: "raise-rotary-interleaved",
        doc: "the same with x1, x2 the even and odd elements, joined along a new last dim and reshaped -> rotary{interleaved}(x, c, s)",
        roots: &["reshape"],
        apply: interleaved,
    },
];

/// `x`, start, step and length of a slice of the last dim alone.
fn last_slice(g: &Graph, v: ValueId) -> Option<(ValueId, SymExpr, i64, SymExpr)> {
    let node = g.producer(v)?;
    let (Op::Slice { starts, steps, dims }, &[x]) = (&node.op, node.operands.as_slice()) else { return None };
    let last = dims.len().checked_sub(1)?;
    let whole = (0..last).all(|i| starts[i].is(0) && steps[i] == 1 && dims[i] == g.ty(x).dims[i]);
    whole.then(|| (x, starts[last].clone(), steps[last], dims[last].clone()))
}

/// `x` when `a` and `b` are its first and second half along the last dim.
fn halves_of(g: &Graph, a: ValueId, b: ValueId) -> Option<ValueId> {
    let ((x, start_a, 1, half), (y, start_b, 1, rest)) = (last_slice(g, a)?, last_slice(g, b)?) else { return None };
    let whole = g.ty(x).dims.last()?;
    (x == y && start_a.is(0) && start_b == half && half == rest && *whole == half.clone() * 2).then_some(x)
}

/// Angles as `[B|1, S, R]` from ones that broadcast against `[B, H, S, R]`.
fn angles(e: &mut Edit<'_>, v: Tap) -> Option<Tap> {
    let mut dims = e.ty(v).dims.clone();
    while dims.len() < 4 {
        dims.insert(0, 1.into());
    }
    let [_, h, ..] = dims.as_slice() else { return None };
    if dims.len() != 4 || !h.is(1) {
        return None;
    }
    dims.remove(1);
    e.reshape(v, dims)
}

/// Whether both halves of `v` along the last dim are equal by the way it is computed.
fn twice_the_same(g: &Graph, v: ValueId, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let Some(node) = g.producer(v) else { return false };
    let same = |o: ValueId| twice_the_same(g, o, depth);
    let last = g.ty(v).dims.last();
    match (&node.op, node.operands.as_slice()) {
        (Op::Concat { axis }, &[a, b]) => *axis as usize + 1 == g.ty(v).rank() && a == b,
        (Op::Unary(_) | Op::Cast { .. }, &[x]) => same(x),
        (Op::Binary(_), &[x, y]) => {
            let plain = |o: ValueId| g.ty(o).dims.last().is_none_or(|d| d.is(1));
            (same(x) || plain(x)) && (same(y) || plain(y))
        }
        (Op::Reshape { .. } | Op::Broadcast { .. }, &[x]) => g.ty(x).dims.last() == last && same(x),
        (Op::Gather { axis }, &[x, _]) => (*axis as usize) + 1 < g.ty(x).rank() && same(x),
        (Op::Slice { starts, steps, dims }, &[x]) => {
            let i = dims.len().wrapping_sub(1);
            starts.get(i).is_some_and(|s| s.is(0)) && steps.get(i) == Some(&1) && g.ty(x).dims.last() == last && same(x)
        }
        (Op::Transpose { perm }, &[x]) => perm.last().is_some_and(|&p| p as usize + 1 == perm.len()) && same(x),
        _ => false,
    }
}

fn whole(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let y = g.result(n);
    let ty = g.ty(y);
    if ty.rank() != 4 || !ty.dtype.is_float() {
        return None;
    }
    let (a, b) = binary_of(g, y, BinaryOp::Add)?;
    [(a, b), (b, a)].into_iter().find_map(|(direct, turned)| {
        let (p, q) = binary_of(g, turned, BinaryOp::Mul)?;
        let (x, sin) = [(p, q), (q, p)].into_iter().find_map(|(t, s)| Some((rotated(g, t)?, s)))?;
        let (p, q) = binary_of(g, direct, BinaryOp::Mul)?;
        let cos = [(p, q), (q, p)].into_iter().find_map(|(d, c)| (d == x).then_some(c))?;
        if g.ty(x) != ty || !twice_the_same(g, cos, 12) || !twice_the_same(g, sin, 12) {
            return None;
        }
        let size = ty.dims.last()?.clone();
        let half = size.div(&2.into());
        let mut e = Edit::new(g, "raise-rotary-half", &[n]);
        let mut part = |v: ValueId| {
            let last = e.rank(v).checked_sub(1)?;
            let h = e.slice_axis(v, last, 0.into(), half.clone())?;
            angles(&mut e, h)
        };
        let (cos, sin) = (part(cos)?, part(sin)?);
        let new = e.add(Op::Rotary { rotary_dims: size, interleaved: false }, &[x.into(), cos, sin])?;
        e.finish(y, new)
    })
}

/// `x` of `concat(neg(second half of x), first half of x)`.
fn rotated(g: &Graph, v: ValueId) -> Option<ValueId> {
    let node = g.producer(v)?;
    let (Op::Concat { axis }, &[minus, first]) = (&node.op, node.operands.as_slice()) else { return None };
    let second = unary_of(g, minus, UnaryOp::Neg)?;
    (*axis as usize + 1 == g.ty(v).rank()).then_some(())?;
    halves_of(g, first, second)
}

/// Both parts of a rotation: `(x1, x2, c, s)` of `low = x1 * c - x2 * s` and `high = x2 * c + x1 * s`.
fn rotation(g: &Graph, low: ValueId, high: ValueId) -> Option<[ValueId; 4]> {
    let (a, b) = binary_of(g, low, BinaryOp::Sub)?;
    let (p, q) = binary_of(g, high, BinaryOp::Add)?;
    let pairs = |v: ValueId| binary_of(g, v, BinaryOp::Mul).map(|(x, y)| [(x, y), (y, x)]);
    let (first, second) = (pairs(a)?, pairs(b)?);
    for (x1, c) in first {
        for (x2, s) in second {
            let is = |v: ValueId, x: ValueId, y: ValueId| pairs(v).is_some_and(|p| p.contains(&(x, y)));
            let fits = (is(p, x2, c) && is(q, x1, s)) || (is(q, x2, c) && is(p, x1, s));
            if fits && g.ty(x1) == g.ty(low) && g.ty(x2) == g.ty(low) && x1 != x2 {
                return Some([x1, x2, c, s]);
            }
        }
    }
    None
}

fn halves(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let y = g.result(n);
    let (Op::Concat { axis }, &[low, high]) = (&node.op, node.operands.as_slice()) else { return None };
    if *axis != 3 || g.ty(y).rank() != 4 {
        return None;
    }
    let [x1, x2, c, s] = rotation(g, low, high)?;
    let x = halves_of(g, x1, x2)?;
    let mut e = Edit::new(g, "raise-rotary-parts", &[n]);
    let (c, s) = (angles(&mut e, c.into())?, angles(&mut e, s.into())?);
    let size = g.ty(y).dims.last()?.clone();
    let new = e.add(Op::Rotary { rotary_dims: size, interleaved: false }, &[x.into(), c, s])?;
    e.finish(y, new)
}

/// The value under reshapes that only insert or remove dims of 1.
fn without_ones(g: &Graph, v: ValueId) -> ValueId {
    match g.producer(v).map(|n| (&n.op, n.operands.as_slice())) {
        Some((Op::Reshape { .. }, &[x])) if stripped(&g.ty(x).dims) == stripped(&g.ty(v).dims) => x,
        _ => v,
    }
}

fn stripped(dims: &Dims) -> Vec<&SymExpr> {
    dims.iter().filter(|d| !d.is(1)).collect()
}

/// `x` when `a` and `b` are its even and odd elements along the last dim: slices with step 2, or of a dim of 2.
fn pairs_of(g: &Graph, a: ValueId, b: ValueId) -> Option<(ValueId, bool)> {
    let (a, b) = (without_ones(g, a), without_ones(g, b));
    let ((x, start_a, step_a, len_a), (z, start_b, step_b, len_b)) = (last_slice(g, a)?, last_slice(g, b)?);
    let whole = g.ty(x).dims.last()?.clone();
    if x != z || !start_a.is(0) || !start_b.is(1) || step_a != step_b || len_a != len_b {
        return None;
    }
    if step_a == 2 && whole == len_a.clone() * 2 {
        return Some((x, false));
    }
    (whole.is(2) && len_a.is(1)).then_some((x, true))
}

fn interleaved(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let y = g.result(n);
    let &joined = g.node(n).operands.first()?;
    let node = g.producer(joined)?;
    let (Op::Concat { axis: 4 }, &[low, high]) = (&node.op, node.operands.as_slice()) else { return None };
    let dims = g.ty(y).dims.clone();
    let [b, h, s, d] = dims.as_slice() else { return None };
    let half = d.div(&2.into());
    let joined_dims = &g.ty(joined).dims;
    if joined_dims.as_slice() != [b.clone(), h.clone(), s.clone(), half, 2.into()] {
        return None;
    }
    let [x1, x2, cos, sin] = rotation(g, without_ones(g, low), without_ones(g, high))?;
    let (x, paired) = pairs_of(g, x1, x2)?;
    let mut e = Edit::new(g, "raise-rotary-interleaved", &[n]);
    let x = if paired { e.reshape(x, dims.clone())? } else { Tap::Old(x) };
    if e.ty(x).dims != dims {
        return None;
    }
    let mut angle = |v: ValueId| {
        let mut a = e.ty(v).dims.clone();
        // Angles of pairs whose dim of 1 is still there.
        if e.rank(x1) == 5 {
            a.pop().filter(|d| d.is(1))?;
        }
        let v = e.reshape(v, a)?;
        angles(&mut e, v)
    };
    let (cos, sin) = (angle(cos)?, angle(sin)?);
    let new = e.add(Op::Rotary { rotary_dims: d.clone(), interleaved: true }, &[x, cos, sin])?;
    e.finish(y, new)
}
