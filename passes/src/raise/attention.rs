// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention from contraction, scale, mask, softmax, contraction.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Graph, NodeId, Op, Patch, Scalar, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::{producers, used_once};
use crate::canonical::contract::labels;
use crate::rules::consts::splat_f64;
use crate::rules::edit::{binary_of, unary_of};
use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "raise-attention",
        doc: "contract(softmax(contract(q, k) * scale + mask), v) -> attention(q, k, v, mask); the scale on q, k or the scores, the mask \
              added or chosen by, NaN guards of empty rows",
        roots: &["contract"],
        apply: attention,
    },
    Rule {
        name: "raise-shared-heads",
        doc: "attention(q, k', v') -> attention(q, k, v), where k' and v' repeat each head of k and v: reshape(broadcast(reshape(k)))",
        roots: &["attention"],
        apply: shared_heads,
    },
];

/// How scores are masked.
enum Mask {
    None,
    Added(ValueId),
    /// Kept where true, and what stands where it is false.
    Chosen {
        keep: ValueId,
        inverted: bool,
        other: f64,
    },
}

/// `p` without a guard that turns the NaN of empty rows to 0.
fn unguarded(g: &Graph, p: ValueId) -> ValueId {
    let Some((Op::Select {}, &[cond, x, y])) = g.producer(p).map(|n| (&n.op, n.operands.as_slice())) else { return p };
    match unary_of(g, cond, UnaryOp::IsNan) {
        Some(of) if of == y && splat_f64(g, x) == Some(0.0) => y,
        _ => p,
    }
}

fn masked(g: &Graph, s: ValueId) -> (ValueId, Mask) {
    if let Some((a, b)) = binary_of(g, s, BinaryOp::Add) {
        // The side that leads to the contraction holds the scores.
        let scores = |v: ValueId| matches!(g.producer(scaled(g, v).0).map(|n| &n.op), Some(Op::Contract { .. }));
        if scores(a) && g.ty(a) == g.ty(s) {
            return (a, Mask::Added(b));
        }
        if scores(b) && g.ty(b) == g.ty(s) {
            return (b, Mask::Added(a));
        }
    }
    if let Some((Op::Select {}, &[cond, x, y])) = g.producer(s).map(|n| (&n.op, n.operands.as_slice())) {
        let chosen = |v: ValueId, other: ValueId, inverted: bool| {
            let other = splat_f64(g, other).filter(|o| *o <= -1e30)?;
            (g.ty(v) == g.ty(s)).then_some((v, Mask::Chosen { keep: cond, inverted, other }))
        };
        if let Some(found) = chosen(x, y, false).or_else(|| chosen(y, x, true)) {
            return found;
        }
    }
    (s, Mask::None)
}

/// A value without constant factors, and their product.
fn scaled(g: &Graph, mut v: ValueId) -> (ValueId, f64) {
    let mut factor = 1.0;
    for _ in 0..3 {
        if let Some((x, c)) = binary_of(g, v, BinaryOp::Mul).and_then(|(x, c)| Some((x, splat_f64(g, c)?))) {
            (v, factor) = (x, factor * c);
        } else if let Some((x, c)) = binary_of(g, v, BinaryOp::Div).and_then(|(x, c)| Some((x, splat_f64(g, c)?))) {
            (v, factor) = (x, factor / c);
        } else {
            break;
        }
    }
    (v, factor)
}

/// An operand of a contraction as `[b, h, rows, columns]`, given which labels these are; `None` for `h` makes a dim of 1.
fn arranged(e: &mut Edit<'_>, v: ValueId, names: &[char], wanted: [Option<char>; 4]) -> Option<Tap> {
    let used: Vec<char> = wanted.into_iter().flatten().collect();
    if used.len() != names.len() {
        return None;
    }
    let perm = used.iter().map(|c| names.iter().position(|n| n == c).map(|p| p as u32)).collect::<Option<Vec<_>>>()?;
    let t = e.transpose(v, perm)?;
    if used.len() == 4 {
        return Some(t);
    }
    let mut dims = e.ty(t).dims.clone();
    dims.insert(1, 1.into());
    e.reshape(t, dims)
}

/// `[B, Hk, S, D]` of a value that repeats each of its heads: reshape(broadcast(reshape(x))) over a dim beside the heads.
fn unrepeated(g: &Graph, v: ValueId) -> Option<ValueId> {
    let op_of = |v: ValueId| g.producer(v).and_then(|n| Some((&n.op, *n.operands.first()?)));
    let (Op::Reshape { dims }, wide) = op_of(v)? else { return None };
    let (Op::Broadcast { dims: repeated }, narrow) = op_of(wide)? else { return None };
    let narrow_dims = &g.ty(narrow).dims;
    let ([b, hk, r, s, d], [b1, hk1, one, s1, d1]) = (repeated.as_slice(), narrow_dims.as_slice()) else { return None };
    let same = (b, hk, s, d) == (b1, hk1, s1, d1) && one.is(1);
    let joined: SymExpr = hk * r;
    if !same || dims.as_slice() != [b.clone(), joined, s.clone(), d.clone()] {
        return None;
    }
    Some(narrow)
}

fn attention(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec, out, .. }, &[p, v]) = (&node.op, node.operands.as_slice()) else { return None };
    let probabilities = unguarded(g, p);
    let softmax = g.producer(probabilities)?;
    let (Op::Softmax { axis }, &[s]) = (&softmax.op, softmax.operands.as_slice()) else { return None };
    let rank = g.ty(p).rank();
    if *axis as usize + 1 != rank || !(rank == 3 || rank == 4) || *out != g.ty(v).dtype {
        return None;
    }
    let (scores, mask) = masked(g, s);
    let (product, mut scale) = scaled(g, scores);
    let first = g.producer(product)?;
    let (Op::Contract { spec: first_spec, out: scores_dtype, .. }, &[q, k]) = (&first.op, first.operands.as_slice()) else { return None };
    if *scores_dtype != g.ty(q).dtype || g.ty(product) != g.ty(s) {
        return None;
    }
    let mut inside = vec![p, s, scores, product];
    inside.dedup();
    if !inside.iter().all(|&v| used_once(g, v)) {
        return None;
    }
    // Labels of the scores, which are [b, h, q, k] or [b, q, k].
    let [q_names, k_names, s_names] = labels(first_spec)?;
    let [p_names, v_names, o_names] = labels(spec)?;
    let (batch, rows) = s_names.split_at(s_names.len().checked_sub(2)?);
    let &[row, column] = rows else { return None };
    let shared = |names: &[char], other: &[char]| names.iter().copied().filter(|c| other.contains(c)).collect::<Vec<_>>();
    let summed: Vec<char> = shared(&q_names, &k_names).into_iter().filter(|c| !s_names.contains(c)).collect();
    let &[depth] = summed.as_slice() else { return None };
    let swapped = k_names.contains(&row);
    let (mut q, mut k, q_names, k_names) = if swapped { (k, q, k_names, q_names) } else { (q, k, q_names, k_names) };
    if !q_names.contains(&row) || !k_names.contains(&column) || q_names.contains(&column) || k_names.contains(&row) {
        return None;
    }
    if !batch.iter().all(|c| q_names.contains(c) && k_names.contains(c)) {
        return None;
    }
    // The second contraction sums over the columns of the probabilities; its batch dims are the same by position.
    let position = |i: usize| p_names.get(i).copied();
    let (p_row, p_column) = (position(rank - 2)?, position(rank - 1)?);
    let p_batch: Vec<char> = p_names.iter().copied().take(rank - 2).collect();
    let v_depth: Vec<char> = v_names.iter().copied().filter(|c| !p_names.contains(c)).collect();
    let &[v_depth] = v_depth.as_slice() else { return None };
    let sums_columns = !o_names.contains(&p_column) && v_names.contains(&p_column) && !v_names.contains(&p_row) && o_names.contains(&p_row);
    if !sums_columns || !p_batch.iter().all(|c| v_names.contains(c) && o_names.contains(c)) || o_names.len() != rank {
        return None;
    }
    for side in [&mut q, &mut k] {
        let (x, c) = scaled(g, *side);
        if g.ty(x) == g.ty(*side) {
            (*side, scale) = (x, scale * c);
        }
    }
    let head = |names: &[char]| if rank == 4 { names.get(1).copied() } else { None };
    let from: Vec<NodeId> = producers(g, &[product, probabilities]).into_iter().chain([n]).collect();
    let mut e = Edit::new(g, "raise-attention", &from);
    let q4 = arranged(&mut e, q, &q_names, [Some(batch[0]), head(batch), Some(row), Some(depth)])?;
    let k4 = arranged(&mut e, k, &k_names, [Some(batch[0]), head(batch), Some(column), Some(depth)])?;
    let v4 = arranged(&mut e, v, &v_names, [Some(p_batch[0]), head(&p_batch), Some(p_column), Some(v_depth)])?;
    let mut operands = vec![q4, k4, v4];
    let dtype = e.ty(q4).dtype;
    if let Some(m) = mask_operand(&mut e, mask, dtype, rank)? {
        operands.push(m);
    }
    let op = Op::Attention {
        scale: Scalar::from_f64(DType::F32, scale),
        causal: false,
        has_mask: operands.len() > 3,
        has_offset: false,
        softcap: Scalar::from_f64(DType::F32, 0.0),
    };
    let mut y = e.add(op, &operands)?;
    // [b, h, q, d] to the order of the result.
    if rank == 3 {
        let mut dims = e.ty(y).dims.clone();
        dims.remove(1);
        y = e.reshape(y, dims)?;
    }
    let mut made = p_batch.clone();
    made.extend([p_row, v_depth]);
    let perm = o_names.iter().map(|c| made.iter().position(|m| m == c).map(|p| p as u32)).collect::<Option<Vec<_>>>()?;
    let y = e.transpose(y, perm)?;
    e.finish(g.result(n), y)
}

fn shared_heads(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Attention { .. }, &[q, k, v, ref rest @ ..]) = (&node.op, node.operands.as_slice()) else { return None };
    let (narrow_k, narrow_v) = (unrepeated(g, k)?, unrepeated(g, v)?);
    if g.ty(narrow_k).dims.get(1)? != g.ty(narrow_v).dims.get(1)? {
        return None;
    }
    let mut e = Edit::new(g, "raise-shared-heads", &[n]);
    let mut operands = vec![Tap::Old(q)];
    for x in [narrow_k, narrow_v] {
        let mut dims = e.ty(x).dims.clone();
        dims.remove(2);
        operands.push(e.reshape(x, dims)?);
    }
    operands.extend(rest.iter().map(|&v| Tap::Old(v)));
    let y = e.add(node.op.clone(), &operands)?;
    e.finish(g.result(n), y)
}

/// The mask as operand: `Some(None)` for none, `None` if it does not fit.
fn mask_operand(e: &mut Edit<'_>, mask: Mask, dtype: DType, rank: usize) -> Option<Option<Tap>> {
    let m: Tap = match mask {
        Mask::None => return Some(None),
        Mask::Added(m) => m.into(),
        Mask::Chosen { keep, inverted, other } => {
            let keep = if inverted { e.unary(UnaryOp::Not, keep)? } else { Tap::Old(keep) };
            if other == f64::NEG_INFINITY {
                keep
            } else {
                // A row without anything to see is spread evenly by a finite number, which a bool mask would not do.
                let zero = e.scalar(dtype, 0.0)?;
                let low = e.scalar(dtype, other)?;
                e.select(keep, zero, low)?
            }
        }
    };
    let m = if e.ty(m).dtype == DType::Bool { m } else { e.cast(m, dtype)? };
    if rank == 4 {
        return Some(Some(m));
    }
    // [b, q, k] with a dim for the head.
    let mut dims = e.ty(m).dims.clone();
    if dims.len() == 3 {
        dims.insert(1, 1.into());
    }
    Some(Some(e.reshape(m, dims)?))
}
