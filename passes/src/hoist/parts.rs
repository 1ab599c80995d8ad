// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A unit of the pack program that treats the parts of stacked weights one like the other, as a program for one part.
//!
//! Before: `transpose(reshape(w: [256,K,N]))` of a weight of 256 parts; after: the same ops with 1 for 256, run 256 times, each time on one
//! part, which makes as much of the result. So weights that are stacked for the model never lie in memory together.

use std::collections::HashMap;

use portwright_ir::graph::{Dims, Graph, Op, TensorType, ValueId};
use portwright_ir::sym::{SymExpr, product};
use portwright_ir::weight::WeightSource;

use super::stream::Run;

/// The program for one part and its runs; `None` where the parts do not pass through it side by side.
pub(super) fn apart(g: &Graph, run: &Run) -> Option<(Graph, Vec<Run>)> {
    let parts: Vec<&[portwright_ir::weight::Weight]> = run
        .inputs
        .iter()
        .map(|w| match &w.source {
            WeightSource::Parts(p) => Some(&**p),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let count = parts.first()?.len();
    if count < 2 || parts.iter().any(|p| p.len() != count) {
        return None;
    }
    let one = Cut { count: i64::try_from(count).ok()? };
    let (graph, axes) = one.graph(g, &vec![Some(0); run.inputs.len()])?;
    if axes.iter().any(|a| *a != Some(0)) {
        return None;
    }
    // An input is as a part of its weight is, with a dim of 1 ahead.
    let runs = (0..count).map(|i| {
        let inputs = parts.iter().map(|p| {
            let mut w = p.get(i)?.clone();
            w.dims.insert(0, 1);
            Some(w)
        });
        Some(Run { inputs: inputs.collect::<Option<_>>()?, outputs: run.outputs.clone(), part: i as u64 })
    });
    Some((graph, runs.collect::<Option<_>>()?))
}

/// Where in a value the parts are; `None` for a value that does not depend on them.
type Axis = Option<usize>;

struct Cut {
    count: i64,
}

impl Cut {
    /// A graph for one part, given in which dim each input has the parts; and in which dim each output has them.
    fn graph(&self, g: &Graph, inputs: &[Axis]) -> Option<(Graph, Vec<Axis>)> {
        let mut out = Graph::new(g.name.clone());
        g.symbols().iter().for_each(|s| out.add_symbol(s.clone()));
        let mut map: HashMap<ValueId, (ValueId, Axis)> = HashMap::new();
        for (&v, &axis) in g.inputs().iter().zip(inputs) {
            let ty = g.ty(v);
            let dims = self.one(&ty.dims, axis)?;
            let name = g.value(v).name.clone().unwrap_or_default();
            map.insert(v, (out.add_input(name, TensorType { dims, ..ty.clone() }), axis));
        }
        for n in crate::rules::topological(g) {
            let node = g.node(n);
            let operands = node.operands.iter().map(|v| map.get(v).copied()).collect::<Option<Vec<_>>>()?;
            let (values, own): (Vec<ValueId>, Vec<Axis>) = operands.into_iter().unzip();
            let dims: Vec<&Dims> = node.operands.iter().map(|&v| &g.ty(v).dims).collect();
            let (op, regions, axes) = if let (Op::Fusion { .. }, [region]) = (&node.op, node.regions.as_slice()) {
                let (region, axes) = self.graph(region, &own)?;
                (node.op.clone(), vec![region], axes)
            } else if own.iter().all(Option::is_none) && node.regions.is_empty() {
                (node.op.clone(), Vec::new(), vec![None; node.results.len()])
            } else {
                let to = &g.ty(*node.results.first()?).dims;
                let (op, axis) = self.op(&node.op, &dims, &own, to)?;
                (op, Vec::new(), vec![Some(axis)])
            };
            let made = out.insert(op, &values, regions, node.origin.clone(), node.seq).ok()?;
            let results = out.node(made).results.clone();
            for ((&old, new), axis) in node.results.iter().zip(results).zip(axes) {
                if out.ty(new).dims != self.one(&g.ty(old).dims, axis)? {
                    return None;
                }
                map.insert(old, (new, axis));
            }
        }
        let mut axes = Vec::with_capacity(g.outputs().len());
        for o in g.outputs() {
            let &(v, axis) = map.get(&o.value)?;
            out.add_output(o.name.clone(), v);
            axes.push(axis);
        }
        Some((out, axes))
    }

    /// Dims with 1 for the parts.
    fn one(&self, dims: &Dims, axis: Axis) -> Option<Dims> {
        let mut dims = dims.clone();
        if let Some(a) = axis {
            let d = dims.get_mut(a).filter(|d| d.is(self.count))?;
            *d = 1.into();
        }
        Some(dims)
    }

    /// An op for one part, and in which dim its result has the parts.
    fn op(&self, op: &Op, dims: &[&Dims], axes: &[Axis], to: &Dims) -> Option<(Op, usize)> {
        let (&axis, &from) = (axes.first()?, dims.first()?);
        if op.is_elementwise() {
            // Operands line up at their last dims, and all must have the parts in one dim, or nothing there.
            let place = |d: &Dims, a: Axis| a.map(|a| a + to.len() - d.len());
            let at = dims.iter().zip(axes).find_map(|(d, &a)| place(d, a))?;
            let fits = |(d, &a): (&&Dims, &Axis)| match place(d, a) {
                Some(p) => p == at,
                None => (at + d.len()).checked_sub(to.len()).and_then(|i| d.get(i)).is_none_or(|d| d.is(1)),
            };
            return dims.iter().zip(axes).all(fits).then(|| (op.clone(), at));
        }
        let a = axis?;
        if !matches!(op, Op::Concat { .. }) && axes.iter().skip(1).any(Option::is_some) {
            return None;
        }
        let keeps = |list: &Dims| list.get(a).is_some_and(|d| d.is(0));
        Some(match op {
            Op::Reshape { dims } => {
                let before: SymExpr = product(&from[..a]);
                let at = (0..dims.len()).find(|&b| product(&dims[..b]) == before && dims[b].is(self.count))?;
                (Op::Reshape { dims: self.one(dims, Some(at))? }, at)
            }
            Op::Transpose { perm } => (op.clone(), perm.iter().position(|&p| p as usize == a)?),
            Op::Broadcast { dims } => {
                let at = a + dims.len().checked_sub(from.len())?;
                (Op::Broadcast { dims: self.one(dims, Some(at))? }, at)
            }
            Op::Slice { starts, steps, dims } if keeps(starts) && steps.get(a) == Some(&1) => {
                (Op::Slice { starts: starts.clone(), steps: steps.clone(), dims: self.one(dims, Some(a))? }, a)
            }
            Op::Pad { low, high, interior, .. } if keeps(low) && keeps(high) && interior.get(a) == Some(&0) => (op.clone(), a),
            Op::Concat { axis: along } if *along as usize != a && axes.iter().all(|x| *x == axis) => (op.clone(), a),
            Op::Reduce { axes: gone, keep, .. } if !gone.contains(&u32::try_from(a).ok()?) => {
                let before = gone.iter().filter(|&&g| (g as usize) < a).count();
                (op.clone(), if *keep { a } else { a - before })
            }
            _ => return None,
        })
    }
}
