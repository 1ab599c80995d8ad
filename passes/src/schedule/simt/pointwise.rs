// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Convolutions that are products: filters of one tap, at steps of one, without padding.
//!
//! `conv(x: f16[1,128,14,14], w: f16[64,128,1,1])` sums channels alone, and all positions of an image are one dim: it is
//! `contract{"oc,ncp->nop"}` of the same memory, whose rows of 196 hold whole vectors where rows of 14 hold none.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Op, TensorType, ValueId};
use portwright_ir::sym::{SymExpr, product};

/// The region as a product; `None` if its convolution is none, or something in it tells positions apart.
pub(super) fn product_of(region: &Graph) -> Option<Graph> {
    let order = region.order();
    let mut convolutions = order.iter().map(|&n| region.node(n)).filter(|n| matches!(n.op, Op::Conv { .. }));
    let (Some(node), None) = (convolutions.next(), convolutions.next()) else { return None };
    let (Op::Conv { strides, pads, groups: 1, .. }, &[x, w], &[root]) = (&node.op, node.operands.as_slice(), node.results.as_slice())
    else {
        return None;
    };
    let rank = strides.len() + 2;
    let filters = &region.ty(w).dims;
    let one = strides.iter().all(|s| *s == 1) && pads.iter().all(|p| p.is(0));
    if rank < 3 || !one || filters.len() != rank || !filters.iter().skip(2).all(|d| d.is(1)) || x == w || !region.inputs().contains(&w) {
        return None;
    }
    let places = region.ty(root).dims.get(2..)?;
    // Dims of a value with all positions as one.
    let flat = |v: ValueId| -> Option<Vec<SymExpr>> {
        let dims = &region.ty(v).dims;
        if dims.is_empty() {
            return Some(Vec::new());
        }
        let (outer, own) = dims.split_at(dims.len().saturating_sub(places.len()));
        let alike = own == places || own.iter().all(|d| d.is(1));
        alike.then(|| outer.iter().cloned().chain([product(own)]).collect())
    };
    let mut out = Graph::new(region.name.clone());
    for s in region.symbols() {
        out.add_symbol(s.clone());
    }
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for &v in region.inputs() {
        let name = region.value(v).name.clone().unwrap_or_else(|| "x".into());
        let dims = if v == w { filters.get(..2)?.to_vec() } else { flat(v)? };
        map.insert(v, out.add_input(name, TensorType::new(region.ty(v).dtype, dims)));
    }
    for &n in &order {
        let node = region.node(n);
        let &[result] = node.results.as_slice() else { return None };
        let made = if result == root {
            let acc = match region.ty(x).dtype {
                DType::F64 => DType::F64,
                d if d.is_float() => DType::F32,
                d => d,
            };
            let op = Op::Contract { spec: "oc,ncp->nop".into(), acc, out: region.ty(root).dtype };
            out.add(op, &[*map.get(&w)?, *map.get(&x)?], node.origin.clone())
        } else {
            let scalar = region.ty(result).dims.is_empty() && node.op.is_source();
            if node.operands.contains(&w) || !(node.op.is_elementwise() || scalar) {
                return None;
            }
            flat(result)?;
            let operands: Vec<ValueId> = node.operands.iter().map(|o| map.get(o).copied()).collect::<Option<_>>()?;
            out.add(node.op.clone(), &operands, node.origin.clone())
        };
        map.insert(result, out.result(made.ok()?));
    }
    for o in region.outputs() {
        out.add_output(o.name.clone(), *map.get(&o.value)?);
    }
    Some(out)
}
