// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elements of small tensors as expressions over symbols: shape arithmetic, seen through.
//!
//! [`Symbolic`] follows a value back through the ops that shape arithmetic is made of (constants, `dims`, arithmetic, comparisons,
//! `select`, casts, movement, `gather`, reductions, `scan`) and gives each element as an expression where that is exact. A value that a
//! `bind` node reads is known as the symbols bound to it. Constants are computed by [`crate::numerics`], so they are what a run would give.
//!
//! # What is taken as given
//! An element of a 32- or 64-bit integer dtype does not wrap, and an element of f32 or f64 that stands for an integer is one that
//! the dtype holds exactly, unless the ranges of the symbols refute it. Narrower dtypes need the proof.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Graph, NodeId, Op, TensorType, ValueId};
use crate::dtype::DType;
use crate::entity::SecondaryMap;
use crate::numerics;
use crate::sym::{SymExpr, SymName};

mod elem;
mod eval;
#[cfg(test)]
mod tests;

use elem::Elem;

/// Most elements of a tensor that is followed.
pub const MAX_ELEMS: usize = 64;

#[derive(Clone, Default)]
enum State {
    #[default]
    Unseen,
    /// Its operands are being looked at.
    Visiting,
    /// Looked at while `.0` symbols were bound; what is not fully known is looked at again when more are.
    Done(usize, Option<Arc<[Elem]>>),
    /// Fully known, for good.
    Known(Arc<[Elem]>),
}

/// What is known about the elements of small tensors; filled as values are asked for, each node once.
#[derive(Clone, Default)]
pub struct Symbolic {
    states: SecondaryMap<ValueId, State>,
    /// Values that `bind` nodes read, with their symbols, as of `bound_at` symbols.
    bound: HashMap<ValueId, Vec<SymName>>,
    bound_at: usize,
}

/// Elements of one value; keep a [`Symbolic`] to ask for many.
pub fn value_of(graph: &Graph, v: ValueId) -> Option<Arc<[SymExpr]>> {
    Symbolic::new().get(graph, v)
}

impl Symbolic {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Elements of an integer or bool tensor in row-major order, if all are known; `None` for other dtypes.
    ///
    /// Bool elements are 0 or 1. Values must not change their meaning between calls, which patches guarantee.
    pub fn get(&mut self, graph: &Graph, v: ValueId) -> Option<Arc<[SymExpr]>> {
        self.partial(graph, v)?.into_iter().collect::<Option<Vec<_>>>().map(Arc::from)
    }

    /// As [`get`](Self::get), but with `None` for elements that are not known; `None` if nothing is.
    pub fn partial(&mut self, graph: &Graph, v: ValueId) -> Option<Vec<Option<SymExpr>>> {
        let dtype = graph.ty(v).dtype;
        if !(dtype.is_int() || dtype == DType::Bool) {
            return None;
        }
        let elems = self.elems(graph, v)?;
        Some(elems.iter().map(|e| e.as_expr(dtype)).collect())
    }

    /// The single element of an integer or bool tensor of one element.
    pub fn scalar(&mut self, graph: &Graph, v: ValueId) -> Option<SymExpr> {
        match &*self.get(graph, v)? {
            [e] => Some(e.clone()),
            _ => None,
        }
    }

    /// Elements of a tensor of any real dtype as numbers, if all are constants.
    pub fn constants(&mut self, graph: &Graph, v: ValueId) -> Option<Vec<f64>> {
        let dtype = graph.ty(v).dtype;
        let elems = self.elems(graph, v)?;
        elems.iter().map(|e| if let Elem::Bits(b) = e { Some(numerics::decode_f64(dtype, *b)) } else { None }).collect()
    }

    /// Takes the elements of an integer tensor as given, as for an input of a region whose operand is known.
    pub fn assume(&mut self, graph: &Graph, v: ValueId, elems: &[SymExpr]) {
        let dtype = graph.ty(v).dtype;
        self.states[v] = State::Known(elems.iter().map(|e| Elem::admit(graph, dtype, e.clone())).collect());
    }

    fn elems(&mut self, graph: &Graph, v: ValueId) -> Option<Arc<[Elem]>> {
        let bound = graph.symbol_nodes.len();
        if self.bound_at != bound {
            self.bound_at = bound;
            self.bound = bound_values(graph);
        }
        // A stack of its own: chains are as long as graphs are.
        let mut stack = vec![v];
        while let Some(&top) = stack.last() {
            match &self.states[top] {
                State::Known(_) => {
                    stack.pop();
                }
                State::Done(at, _) if *at == bound => {
                    stack.pop();
                }
                State::Unseen | State::Done(..) => {
                    let before = stack.len();
                    if let Some(node) = graph.producer(top)
                        && small(graph.ty(top)).is_some()
                        && eval::is_followed(&node.op)
                    {
                        for &o in &node.operands {
                            let open = match &self.states[o] {
                                State::Unseen => true,
                                State::Done(at, _) => *at != bound,
                                State::Visiting | State::Known(_) => false,
                            };
                            if open && small(graph.ty(o)).is_some() {
                                stack.push(o);
                            }
                        }
                    }
                    if stack.len() == before {
                        self.finish(graph, top, bound);
                        stack.pop();
                    } else {
                        self.states[top] = State::Visiting;
                    }
                }
                State::Visiting => {
                    self.finish(graph, top, bound);
                    stack.pop();
                }
            }
        }
        self.known(v).cloned()
    }

    fn known(&self, v: ValueId) -> Option<&Arc<[Elem]>> {
        match &self.states[v] {
            State::Known(e) | State::Done(_, Some(e)) => Some(e),
            _ => None,
        }
    }

    /// Computes a value whose operands have been looked at.
    fn finish(&mut self, graph: &Graph, v: ValueId, bound: usize) {
        let elems = small(graph.ty(v)).and_then(|dims| {
            let computed = graph.producer(v).and_then(|node| {
                let slot = node.results.iter().position(|&r| r == v)?;
                if slot != 0 {
                    return None;
                }
                eval::node(graph, node, &dims, &|o| self.known(o))
            });
            let known = computed.as_ref().is_some_and(|e| e.iter().all(Elem::is_known));
            let symbols = if known { None } else { self.bound.get(&v) };
            symbols.map(|s| s.iter().map(|s| Elem::Expr(SymExpr::sym(s.clone()))).collect()).or(computed)
        });
        self.states[v] = match elems {
            Some(e) if e.iter().all(Elem::is_known) => State::Known(e.into()),
            Some(e) if e.iter().any(Elem::is_known) => State::Done(bound, Some(e.into())),
            _ => State::Done(bound, None),
        };
    }
}

/// Values that `bind` nodes read.
fn bound_values(graph: &Graph) -> HashMap<ValueId, Vec<SymName>> {
    let nodes: BTreeSet<NodeId> = graph.symbol_nodes.values().copied().filter(|&n| graph.contains(n)).collect();
    let mut out = HashMap::new();
    for n in nodes {
        if let (Op::Bind { symbols }, Some(&v)) = (&graph.node(n).op, graph.node(n).operands.first()) {
            out.entry(v).or_insert_with(|| symbols.clone());
        }
    }
    out
}

/// Static dims of a tensor that is small enough to follow.
fn small(t: &TensorType) -> Option<Vec<usize>> {
    if t.quant.is_some() || t.dims.len() > 4 || t.dtype.is_handle() || matches!(t.dtype, DType::C64 | DType::C128) {
        return None;
    }
    let mut elems = 1usize;
    let mut dims = Vec::with_capacity(t.dims.len());
    for d in &t.dims {
        let d = usize::try_from(d.as_const()?).ok()?;
        elems = elems.checked_mul(d)?;
        dims.push(d);
    }
    (elems <= MAX_ELEMS).then_some(dims)
}
