// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fewer, longer dims: neighbors that every value of a region treats alike become one.
//!
//! `relu(x: f32[8,64,7,7])` is one loop over 25,088 elements, not rows of 7. Memory is dense and row-major, so the buffers are the same.

use std::collections::HashMap;

use portwright_ir::graph::{Graph, Op, ReduceOp, TensorType, ValueId};
use portwright_ir::sym::{SymExpr, product};

/// Rewrites a region of elementwise ops, reductions and sources over merged dims; `None` if there is nothing to merge or another op in it.
pub(crate) fn collapse(region: &Graph) -> Option<Graph> {
    let order = region.order();
    let rank = region.values().values().map(|v| v.ty.rank()).max()?;
    if rank < 2 {
        return None;
    }
    // For each value, which iteration dim each of its dims is.
    let mut axes: HashMap<ValueId, Vec<usize>> = HashMap::new();
    let trailing = |r: usize| (rank - r..rank).collect::<Vec<_>>();
    for &v in region.inputs() {
        axes.insert(v, trailing(region.ty(v).rank()));
    }
    for &n in &order {
        let node = region.node(n);
        let result = *node.results.first()?;
        let list = match &node.op {
            Op::Fill { dims, .. } if dims.is_empty() => Vec::new(),
            Op::Const { value } if value.splat().is_some() && value.dims.is_empty() => Vec::new(),
            Op::Reduce { axes: reduced, keep, .. } => {
                let from = axes.get(&node.operands[0])?;
                if *keep { from.clone() } else { (0..from.len()).filter(|i| !reduced.contains(&(*i as u32))).map(|i| from[i]).collect() }
            }
            op if op.is_elementwise() => {
                let lists: Vec<&Vec<usize>> = node.operands.iter().filter_map(|o| axes.get(o)).collect();
                let longest = (*lists.iter().max_by_key(|l| l.len())?).clone();
                if lists.iter().any(|l| !longest.ends_with(l)) {
                    return None;
                }
                longest
            }
            _ => return None,
        };
        axes.insert(result, list);
    }
    // The iteration dims themselves: the first dim that is not 1.
    let mut dims: Vec<SymExpr> = vec![1.into(); rank];
    for (v, list) in &axes {
        for (d, &a) in region.ty(*v).dims.iter().zip(list) {
            if dims[a].is(1) {
                dims[a] = d.clone();
            }
        }
    }
    let reduced_at = |n: &portwright_ir::graph::Node| -> Vec<usize> {
        match &n.op {
            Op::Reduce { axes: r, .. } => r.iter().filter_map(|&i| axes.get(&n.operands[0])?.get(i as usize).copied()).collect(),
            _ => Vec::new(),
        }
    };
    // Whether iteration dims i and j, both more than 1, are treated alike everywhere.
    let alike = |i: usize, j: usize| {
        let same = axes.iter().all(|(v, list)| {
            let full = |a: usize| list.iter().position(|&x| x == a).map(|p| !region.ty(*v).dims[p].is(1));
            match (full(i), full(j)) {
                (None, None) => true,
                (Some(x), Some(y)) => x == y,
                (None, Some(y)) => !y,
                (Some(_), None) => false,
            }
        });
        same && order.iter().all(|&n| {
            let r = reduced_at(region.node(n));
            r.is_empty() || r.contains(&i) == r.contains(&j)
        })
    };
    // `join[i]`: iteration dims i and i + 1 are one. A dim of 1 joins anything, so what counts is the last dim before it that is more.
    let mut join = Vec::with_capacity(rank - 1);
    let mut last = (!dims[0].is(1)).then_some(0);
    for j in 1..rank {
        let joins = dims[j].is(1) || last.is_none_or(|i| alike(i, j));
        join.push(joins && reduced_ones(j, &reduced_at, &order, region));
        if !dims[j].is(1) {
            last = Some(j);
        }
    }
    if !join.contains(&true) {
        return None;
    }
    let mut group = vec![0usize; rank];
    for i in 1..rank {
        group[i] = group[i - 1] + usize::from(!join[i - 1]);
    }
    let merge = |v: ValueId| -> Vec<SymExpr> {
        let (list, ty) = (&axes[&v], region.ty(v));
        let mut out: Vec<(usize, Vec<SymExpr>)> = Vec::new();
        for (d, &a) in ty.dims.iter().zip(list) {
            match out.last_mut() {
                Some((g, part)) if *g == group[a] => part.push(d.clone()),
                _ => out.push((group[a], vec![d.clone()])),
            }
        }
        out.into_iter().map(|(_, part)| product(&part)).collect()
    };

    let mut out = Graph::new(region.name.clone());
    for s in region.symbols() {
        out.add_symbol(s.clone());
    }
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for &v in region.inputs() {
        let name = region.value(v).name.clone().unwrap_or_else(|| "x".into());
        map.insert(v, out.add_input(name, TensorType::new(region.ty(v).dtype, merge(v))));
    }
    for &n in &order {
        let node = region.node(n);
        let op = match &node.op {
            Op::Reduce { op, axes: r, keep } => {
                let from = &axes[&node.operands[0]];
                // Positions of the merged operand dims that are reduced.
                let mut seen: Vec<usize> = Vec::new();
                let mut merged: Vec<u32> = Vec::new();
                for (i, &a) in from.iter().enumerate() {
                    if seen.last() != Some(&group[a]) {
                        seen.push(group[a]);
                    }
                    let at = (seen.len() - 1) as u32;
                    if r.contains(&(i as u32)) && merged.last() != Some(&at) {
                        merged.push(at);
                    }
                }
                Op::Reduce { op: *op, axes: merged, keep: *keep }
            }
            other => other.clone(),
        };
        let operands: Vec<ValueId> = node.operands.iter().map(|o| map.get(o).copied()).collect::<Option<_>>()?;
        let made = out.add(op, &operands, node.origin.clone()).ok()?;
        if node.results.len() != 1 {
            return None;
        }
        map.insert(node.results[0], out.result(made));
    }
    for o in region.outputs() {
        out.add_output(o.name.clone(), *map.get(&o.value)?);
    }
    Some(out)
}

/// Whether a dim of 1 may join the dim before it: both are reduced, or neither.
fn reduced_ones(
    j: usize,
    reduced_at: &dyn Fn(&portwright_ir::graph::Node) -> Vec<usize>,
    order: &[portwright_ir::graph::NodeId],
    region: &Graph,
) -> bool {
    order.iter().all(|&n| {
        let r = reduced_at(region.node(n));
        r.is_empty() || r.contains(&(j - 1)) == r.contains(&j)
    })
}

/// Whether a reduction op keeps an integer count of its own.
pub(crate) fn divides(op: ReduceOp) -> bool {
    op == ReduceOp::Mean
}
