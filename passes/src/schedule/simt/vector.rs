// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which neighbors a lane takes at once.

use portwright_ir::graph::{Op, PadMode, ValueId};
use portwright_ir::sym::SymExpr;

use super::super::index::Indices;
use super::{Cx, Eval};

/// The widest vector, in elements, with which every one of `values` can be loaded, computed and stored along its last coordinate: memory is
/// proven to hold whole ones that begin at multiples of their size. `at(w)` are coordinates of the first element and its neighbors (with the
/// lane in them) for vectors of `w`. Any vector of `given` is at hand.
pub(super) fn widest(cx: &Cx<'_>, eval: &mut Eval<'_>, values: &[ValueId], given: Option<ValueId>, at: &mut Places<'_>) -> u32 {
    let mut w = values.iter().map(|&v| cx.spec.vector(eval.dtype(v))).min().unwrap_or(1);
    while w > 1 && !fits(cx, eval, values, given, i64::from(w), at) {
        w /= 2;
    }
    w.max(1)
}

/// Whether vectors of `w` will do.
pub(super) fn fits(cx: &Cx<'_>, eval: &mut Eval<'_>, values: &[ValueId], given: Option<ValueId>, w: i64, at: &mut Places<'_>) -> bool {
    let before = eval.width;
    eval.set_width(w as u32);
    let coords = at(eval, w);
    // Coordinates are those of the first value; of others, as of the results of a kernel, they are the same element's.
    let dims: Vec<Vec<SymExpr>> = values.iter().map(|&v| eval.dims(v)).collect();
    let own = dims.iter().map(|d| if Some(d) == dims.first() { coords.clone() } else { eval.reshape(&coords, &dims[0], d) });
    let ok = values
        .iter()
        .zip(&dims)
        .zip(own.collect::<Vec<_>>())
        .all(|((&v, d), c)| in_vectors(cx, eval, v, given, &c, w) && block(cx, eval, d, &c, w));
    eval.set_width(before);
    ok
}

/// Whether `w` neighbors of one value can be loaded at these coordinates as whole aligned vectors.
pub(super) fn loads(cx: &Cx<'_>, eval: &Eval<'_>, v: ValueId, coords: &[SymExpr], w: i64) -> bool {
    in_vectors(cx, eval, v, None, coords, w)
}

/// Coordinates of a vector of so many elements.
type Places<'p> = dyn FnMut(&mut Eval<'_>, i64) -> Vec<SymExpr> + 'p;

/// What every value of a symbol is a multiple of.
fn divisor<'c>(cx: &'c Cx<'_>, eval: &'c Eval<'_>) -> impl Fn(&str) -> i64 + 'c {
    move |s| eval.syms.names().iter().find(|(_, k)| &**k == s).map_or(1, |(g, _)| (cx.known.symbols)(g).2)
}

/// Whether an extent is a multiple, for all values of the symbols.
pub(super) fn divides(cx: &Cx<'_>, eval: &Eval<'_>, e: &SymExpr, by: i64) -> bool {
    e.divisible_by(by, &divisor(cx, eval))
}

/// Whether the elements at `coords` of dense memory are one element, or `w` neighbors that begin at a multiple of `w`.
fn block(cx: &Cx<'_>, eval: &Eval<'_>, dims: &[SymExpr], coords: &[SymExpr], w: i64) -> bool {
    let last = coords.len().saturating_sub(1);
    let parts: Option<Vec<(SymExpr, i64)>> = coords.iter().map(Indices::linear).collect();
    let Some(parts) = parts else { return false };
    if parts.iter().all(|p| p.1 == 0) {
        return true;
    }
    // Rows begin at multiples if they are whole vectors, or if there is one row only.
    let rows = dims.split_last().is_some_and(|(l, outer)| divides(cx, eval, l, w) || outer.iter().all(|d| d.is(1)));
    rows && parts.iter().enumerate().all(|(i, (base, step))| *step == i64::from(i == last) && (i != last || divides(cx, eval, base, w)))
}

/// Whether a value can be computed `w` neighbors at a time with whole aligned vectors wherever memory is read.
fn in_vectors(cx: &Cx<'_>, eval: &Eval<'_>, v: ValueId, given: Option<ValueId>, coords: &[SymExpr], w: i64) -> bool {
    let dims = eval.dims(v);
    if given == Some(v) {
        return true;
    }
    let has_lane = |c: &SymExpr| Indices::linear(c).is_none_or(|p| p.1 != 0);
    if eval.is_loaded(v) {
        // Wider ones are several loads, each of which would take a part of every sector.
        let one = w <= i64::from(cx.spec.vector(eval.dtype(v))) || !coords.iter().any(has_lane);
        return one && !eval.dtype(v).is_packed() && block(cx, eval, &dims, coords, w);
    }
    if !coords.iter().any(has_lane) {
        return true;
    }
    if let Some((x, inner)) = eval.moved(v, coords) {
        return in_vectors(cx, eval, x, given, &inner, w);
    }
    let Some(node) = eval.graph.producer(v) else { return false };
    let operands = &node.operands;
    match &node.op {
        Op::Broadcast { .. } => in_vectors(cx, eval, operands[0], given, &eval.broadcast(operands[0], v, coords), w),
        Op::Const { value } => value.splat().is_some(),
        Op::Fill { .. } | Op::Iota { .. } => true,
        Op::Concat { axis } => {
            let axis = *axis as usize;
            !has_lane(&coords[axis]) && operands.iter().all(|&o| in_vectors(cx, eval, o, given, coords, w))
        }
        Op::Gather { axis } => {
            let axis = *axis as usize;
            let rank = eval.graph.ty(operands[1]).rank();
            if coords[axis..axis + rank].iter().any(has_lane) {
                return false;
            }
            let mut inner = coords[..axis].to_vec();
            inner.push(0.into());
            inner.extend_from_slice(&coords[axis + rank..]);
            in_vectors(cx, eval, operands[0], given, &inner, w)
        }
        Op::Pad { mode: PadMode::Constant, low, high, interior } => {
            let own = |i: usize| low[i].is(0) && high[i].is(0) && interior[i] == 0;
            let lane_is_own = coords.iter().enumerate().all(|(i, c)| !has_lane(c) || own(i));
            lane_is_own && in_vectors(cx, eval, operands[0], given, coords, w)
        }
        op if op.is_elementwise() => operands.iter().all(|&o| in_vectors(cx, eval, o, given, &eval.broadcast(o, v, coords), w)),
        _ => false,
    }
}
