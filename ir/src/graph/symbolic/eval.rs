// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One node on small tensors of elements.

use std::sync::Arc;

use super::elem::{self, Elem};
use super::small;
use crate::dtype::DType;
use crate::graph::{BinaryOp, Graph, Node, Op, PadMode, ReduceOp, Scalar, ScatterOp, ValueId};
use crate::numerics;
use crate::sym::SymExpr;

/// Whether an op is one that [`node`] computes from its operands.
pub(super) fn is_followed(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Select {}
            | Op::Cast { .. }
            | Op::Reduce { .. }
            | Op::Scan { .. }
            | Op::Gather { .. }
            | Op::GatherElements { .. }
            | Op::ScatterElements { .. }
            | Op::ScatterNd { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Broadcast { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
    )
}

/// Row-major positions of all elements of a tensor.
fn coords(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..dims.iter().product::<usize>()).map(move |mut i| {
        let mut at = vec![0; dims.len()];
        for (a, d) in at.iter_mut().zip(dims).rev() {
            *a = i % d;
            i /= d;
        }
        at
    })
}

/// Index of a position.
fn linear(at: &[usize], dims: &[usize]) -> usize {
    at.iter().zip(dims).fold(0, |i, (a, d)| i * d + a)
}

/// An operand.
struct Part<'a> {
    dtype: DType,
    dims: Vec<usize>,
    /// `None` where nothing is known.
    elems: Option<&'a Arc<[Elem]>>,
}

impl Part<'_> {
    fn at(&self, at: &[usize]) -> Elem {
        self.elems.and_then(|e| e.get(linear(at, &self.dims))).cloned().unwrap_or(Elem::Unknown)
    }
    /// The element that meets position `at` of a result that this was broadcast to.
    fn broadcast_at(&self, at: &[usize]) -> Elem {
        let skip = at.len().saturating_sub(self.dims.len());
        let own: Vec<usize> = at[skip..].iter().zip(&self.dims).map(|(&a, &d)| if d == 1 { 0 } else { a }).collect();
        self.at(&own)
    }
    /// An index along a dim of `size`, negative ones counted from the end.
    fn index_at(&self, at: &[usize], size: usize) -> Option<usize> {
        let v = self.at(at).as_expr(self.dtype)?.as_const()?;
        let v = if v < 0 { v.checked_add(i64::try_from(size).ok()?)? } else { v };
        usize::try_from(v).ok().filter(|&v| v < size)
    }
}

fn as_i64s(dims: &[SymExpr]) -> Option<Vec<i64>> {
    dims.iter().map(SymExpr::as_const).collect()
}

/// Elements of the first result, whose static dims are `dims`; `None` if nothing is known.
pub(super) fn node<'a>(
    graph: &'a Graph,
    node: &Node,
    dims: &[usize],
    known: &dyn Fn(ValueId) -> Option<&'a Arc<[Elem]>>,
) -> Option<Vec<Elem>> {
    let result = graph.ty(*node.results.first()?);
    let count: usize = dims.iter().product();
    let splat = |s: Scalar| vec![Elem::Bits(s.bits); count];
    match &node.op {
        Op::Const { value } => return Some(value.elems().map(|s| Elem::Bits(s.bits)).collect()).filter(|e: &Vec<_>| e.len() == count),
        Op::Fill { value, .. } => return Some(splat(*value)),
        Op::DimTensor { values, dtype, .. } => return Some(values.iter().map(|e| Elem::admit(graph, *dtype, e.clone())).collect()),
        Op::Iota { dtype, axis, .. } => {
            return Some(coords(dims).map(|at| Elem::Bits(Scalar::from_i64(*dtype, at[*axis as usize] as i64).bits)).collect());
        }
        op if !is_followed(op) => return None,
        _ => {}
    }
    let parts: Vec<Part<'_>> = node
        .operands
        .iter()
        .map(|&o| {
            let t = graph.ty(o);
            small(t).map(|dims| Part { dtype: t.dtype, dims, elems: known(o) })
        })
        .collect::<Option<_>>()?;
    let x = parts.first()?;
    if parts.iter().all(|p| p.elems.is_none()) {
        return None;
    }
    let each = |f: &dyn Fn(&[usize]) -> Elem| -> Option<Vec<Elem>> { Some(coords(dims).map(|at| f(&at)).collect()) };
    match &node.op {
        Op::Unary(u) => each(&|at| elem::unary(graph, *u, x.dtype, &x.at(at))),
        Op::Binary(b) => {
            let y = parts.get(1)?;
            each(&|at| elem::binary(graph, *b, x.dtype, &x.broadcast_at(at), &y.broadcast_at(at)))
        }
        Op::Select {} => {
            let (y, z) = (parts.get(1)?, parts.get(2)?);
            each(&|at| match (x.broadcast_at(at), y.broadcast_at(at), z.broadcast_at(at)) {
                (Elem::Bits(0), _, no) => no,
                (Elem::Bits(_), yes, _) => yes,
                (_, yes, no) if yes == no => yes,
                _ => Elem::Unknown,
            })
        }
        Op::Cast { to, saturate } => each(&|at| elem::cast(graph, x.dtype, *to, *saturate, &x.at(at))),
        Op::Reduce { op, axes, keep } => reduce(graph, x, *op, axes, *keep, dims),
        Op::Scan { op, axis, exclusive, reverse } => scan(graph, x, *op, *axis as usize, *exclusive, *reverse),
        Op::Gather { axis } => {
            let (i, axis) = (parts.get(1)?, *axis as usize);
            let rank = i.dims.len();
            each(&|at| match i.index_at(&at[axis..axis + rank], x.dims[axis]) {
                Some(j) => x.at(&[&at[..axis], &[j], &at[axis + rank..]].concat()),
                None => Elem::Unknown,
            })
        }
        Op::GatherElements { axis } => {
            let (i, axis) = (parts.get(1)?, *axis as usize);
            each(&|at| {
                let mut from = at.to_vec();
                match i.index_at(at, x.dims[axis]) {
                    Some(j) => {
                        from[axis] = j;
                        x.at(&from)
                    }
                    None => Elem::Unknown,
                }
            })
        }
        Op::ScatterElements { .. } | Op::ScatterNd { .. } => scatter(graph, &node.op, x, parts.get(1)?, parts.get(2)?),
        Op::Reshape { .. } => x.elems.map(|e| e.to_vec()).filter(|e| e.len() == count),
        Op::Transpose { perm } => each(&|at| {
            let mut from = vec![0; at.len()];
            for (a, &p) in at.iter().zip(perm) {
                from[p as usize] = *a;
            }
            x.at(&from)
        }),
        Op::Broadcast { .. } => each(&|at| x.broadcast_at(at)),
        Op::Slice { starts, steps, .. } => {
            let starts = as_i64s(starts)?;
            each(&|at| {
                let from = at.iter().enumerate().map(|(i, &a)| {
                    let v = (a as i64).checked_mul(steps[i]).and_then(|v| v.checked_add(starts[i]))?;
                    usize::try_from(v).ok().filter(|&v| v < x.dims[i])
                });
                from.collect::<Option<Vec<_>>>().map_or(Elem::Unknown, |from| x.at(&from))
            })
        }
        Op::Pad { mode: PadMode::Constant, low, interior, .. } => {
            let (low, fill) = (as_i64s(low)?, parts.get(1)?.at(&[]));
            each(&|at| {
                let from = at.iter().enumerate().map(|(i, &a)| {
                    let v = (a as i64).checked_sub(low[i])?;
                    let unit = interior[i].checked_add(1)?;
                    let v = (v >= 0 && v % unit == 0).then(|| v / unit)?;
                    usize::try_from(v).ok().filter(|&v| v < x.dims[i])
                });
                from.collect::<Option<Vec<_>>>().map_or_else(|| fill.clone(), |from| x.at(&from))
            })
        }
        Op::Concat { axis } => {
            let axis = *axis as usize;
            each(&|at| {
                let mut at = at.to_vec();
                for p in &parts {
                    if at[axis] < p.dims[axis] {
                        return p.at(&at);
                    }
                    at[axis] -= p.dims[axis];
                }
                Elem::Unknown
            })
        }
        _ => None,
    }
    .filter(|e| e.len() == count && result.rank() == dims.len())
}

/// How two elements are combined by a reduction.
fn combiner(op: ReduceOp) -> Option<BinaryOp> {
    match op {
        ReduceOp::Sum => Some(BinaryOp::Add),
        ReduceOp::Prod => Some(BinaryOp::Mul),
        ReduceOp::Max => Some(BinaryOp::Max),
        ReduceOp::Min => Some(BinaryOp::Min),
        ReduceOp::Any => Some(BinaryOp::Or),
        ReduceOp::All => Some(BinaryOp::And),
        ReduceOp::Mean => None,
    }
}

/// What a reduction of nothing gives.
fn identity(op: ReduceOp, dtype: DType) -> Elem {
    Elem::Bits(match op {
        ReduceOp::Prod | ReduceOp::All => Scalar::one(dtype).bits,
        ReduceOp::Max => numerics::lowest(dtype),
        ReduceOp::Min => numerics::highest(dtype),
        ReduceOp::Sum | ReduceOp::Any | ReduceOp::Mean => 0,
    })
}

fn reduce(graph: &Graph, x: &Part<'_>, op: ReduceOp, axes: &[u32], keep: bool, dims: &[usize]) -> Option<Vec<Elem>> {
    let combine = combiner(op)?;
    // A float sum depends on its order, which only the kernel fixes.
    if x.dtype.is_float() && matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
        return None;
    }
    let mut out: Vec<Option<Elem>> = vec![None; dims.iter().product()];
    for at in coords(&x.dims) {
        let to: Vec<usize> = (0..at.len())
            .filter(|&i| keep || axes.binary_search(&(i as u32)).is_err())
            .map(|i| if axes.binary_search(&(i as u32)).is_ok() { 0 } else { at[i] })
            .collect();
        let slot = out.get_mut(linear(&to, dims))?;
        let e = x.at(&at);
        *slot = Some(match slot.take() {
            None => e,
            Some(old) => elem::binary(graph, combine, x.dtype, &old, &e),
        });
    }
    Some(out.into_iter().map(|e| e.unwrap_or_else(|| identity(op, x.dtype))).collect())
}

fn scan(graph: &Graph, x: &Part<'_>, op: ReduceOp, axis: usize, exclusive: bool, reverse: bool) -> Option<Vec<Elem>> {
    let combine = combiner(op)?;
    if x.dtype.is_float() {
        return None;
    }
    let size = *x.dims.get(axis)?;
    let mut out = vec![Elem::Unknown; x.dims.iter().product()];
    for start in coords(&x.dims).filter(|at| at[axis] == 0) {
        let mut at = start;
        let mut sum = identity(op, x.dtype);
        for i in 0..size {
            at[axis] = if reverse { size - 1 - i } else { i };
            let next = elem::binary(graph, combine, x.dtype, &sum, &x.at(&at));
            *out.get_mut(linear(&at, &x.dims))? = if exclusive { sum } else { next.clone() };
            sum = next;
        }
    }
    Some(out)
}

fn scatter(graph: &Graph, op: &Op, x: &Part<'_>, i: &Part<'_>, u: &Part<'_>) -> Option<Vec<Elem>> {
    let mut out: Vec<Elem> = coords(&x.dims).map(|at| x.at(&at)).collect();
    let mut put = |op: ScatterOp, at: &[usize], v: Elem| -> Option<()> {
        let slot = out.get_mut(linear(at, &x.dims))?;
        *slot = match op {
            ScatterOp::Set => v,
            ScatterOp::Add => elem::binary(graph, BinaryOp::Add, x.dtype, slot, &v),
            ScatterOp::Mul => elem::binary(graph, BinaryOp::Mul, x.dtype, slot, &v),
            ScatterOp::Min => elem::binary(graph, BinaryOp::Min, x.dtype, slot, &v),
            ScatterOp::Max => elem::binary(graph, BinaryOp::Max, x.dtype, slot, &v),
        };
        Some(())
    };
    match op {
        Op::ScatterElements { axis, op } => {
            for at in coords(&i.dims) {
                let mut to = at.clone();
                // An unknown index could be anywhere.
                to[*axis as usize] = i.index_at(&at, x.dims[*axis as usize])?;
                put(*op, &to, u.at(&at))?;
            }
        }
        Op::ScatterNd { op } => {
            let (&k, tuples) = i.dims.split_last()?;
            for tuple in coords(tuples) {
                let to: Vec<usize> = (0..k).map(|j| i.index_at(&[&tuple[..], &[j]].concat(), x.dims[j])).collect::<Option<_>>()?;
                for rest in coords(&x.dims[k..]) {
                    put(*op, &[&to[..], &rest].concat(), u.at(&[&tuple[..], &rest].concat()))?;
                }
            }
        }
        _ => return None,
    }
    Some(out)
}
