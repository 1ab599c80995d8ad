// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pointwise convolutions with channels last have one spatial dim: all positions.

use std::collections::HashMap;

use portwright_ir::graph::{Graph, Node, Op, TensorType, ValueId};
use portwright_ir::sym::{SymExpr, product};

/// The region of a pointwise convolution with all positions as one dim; `None` for others, and where the epilogue tells spatial dims apart.
pub(super) fn flatten(region: &Graph, node: &Node) -> Option<Graph> {
    let Op::ConvLast { channels, strides, pads, groups, planar: false, depth, out: dtype, .. } = &node.op else { return None };
    let &[x, w] = node.operands.as_slice() else { return None };
    let spatial = strides.len();
    let kernel = region.ty(w).dims.get(1..=spatial)?;
    if spatial < 2 || !kernel.iter().all(|d| d.is(1)) || strides.iter().any(|&s| s != 1) || !pads.iter().all(|p| p.is(0)) {
        return None;
    }
    let result = region.ty(*node.results.first()?).dims.clone();
    let positions = result.get(1..=spatial)?;
    // `[N,y,x,C]` is `[N,y * x,C]`; what broadcasts along all positions or has no such dims stays as it is.
    let shrink = |dims: &[SymExpr]| -> Option<Vec<SymExpr>> {
        if dims.len() <= 1 {
            return Some(dims.to_vec());
        }
        let (last, rest) = dims.split_last()?;
        let at = rest.len().saturating_sub(spatial);
        let (lead, own) = rest.split_at(at);
        let middle: SymExpr = if own == positions {
            product(positions)
        } else if own.iter().all(|d| d.is(1)) {
            1.into()
        } else {
            return None;
        };
        Some(lead.iter().cloned().chain([middle, last.clone()]).collect())
    };
    let alone = |v: ValueId| region.producer(v).is_none() && !region.is_output(v);
    let users_are_node = |v: ValueId| region.users(v).iter().all(|&n| std::ptr::eq(region.node(n), node));
    if !alone(w) || !users_are_node(w) || !alone(x) {
        return None;
    }
    let mut out = Graph::new(region.name.clone());
    for sym in region.symbols() {
        out.add_symbol(sym.clone());
    }
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for &v in region.inputs() {
        let ty = region.ty(v);
        let dims = if v == w {
            let (first, last) = (ty.dims.first()?, ty.dims.get(spatial + 1..)?);
            [std::slice::from_ref(first), &[1.into()], last].concat()
        } else {
            shrink(&ty.dims)?
        };
        let name = region.value(v).name.clone().unwrap_or_else(|| "x".into());
        map.insert(v, out.add_input(name, TensorType::new(ty.dtype, dims)));
    }
    for n in region.order() {
        let m = region.node(n);
        let operands: Vec<ValueId> = m.operands.iter().map(|o| map.get(o).copied()).collect::<Option<_>>()?;
        let op = if std::ptr::eq(m, node) {
            Op::ConvLast {
                channels: *channels,
                strides: vec![1],
                dilations: vec![1],
                pads: vec![0.into(), 0.into()],
                groups: *groups,
                planar: false,
                depth: *depth,
                out: *dtype,
            }
        } else if m.op.is_elementwise() || (m.op.is_source() && is_number(region, *m.results.first()?)) {
            m.op.clone()
        } else {
            return None;
        };
        let made = out.add(op, &operands, m.origin.clone()).ok()?;
        map.insert(*m.results.first()?, out.result(made));
    }
    for o in region.outputs() {
        out.add_output(o.name.clone(), *map.get(&o.value)?);
    }
    Some(out)
}

/// Whether a value is one element that broadcasts to any dims.
fn is_number(region: &Graph, v: ValueId) -> bool {
    let dims = &region.ty(v).dims;
    dims.len() <= 1 && dims.iter().all(|d| d.is(1))
}
