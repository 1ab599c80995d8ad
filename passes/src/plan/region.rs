// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Regions that the plan makes itself: of one source, of one node, of what counts a node's results.

use std::collections::{HashMap, HashSet};

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, FusionKind, Graph, Node, Op, ReduceOp, Scalar, TensorType, ValueId};

/// A node of a region as a fusion of its own: its kind, the node with the operands that are no sources, and its region.
pub(super) fn single(region: &Graph, node: &Node) -> Option<(FusionKind, Node, Graph)> {
    let kind = match &node.op {
        Op::Reduce { .. } | Op::ArgReduce { .. } => FusionKind::Reduce,
        Op::Contract { .. }
        | Op::ContractBlocks { .. }
        | Op::ContractScaled { .. }
        | Op::ContractPanels { .. }
        | Op::ContractGroups { .. } => FusionKind::Contract,
        Op::Conv { .. } | Op::ConvLast { .. } | Op::WinogradInput { .. } | Op::WinogradOutput { .. } => FusionKind::Conv,
        Op::Pool { .. } => FusionKind::Window,
        Op::Lstm { .. } | Op::Gru { .. } | Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. } => FusionKind::Recurrent,
        Op::Attention { .. } | Op::AttentionParts { .. } | Op::MergeParts { .. } => FusionKind::Attention,
        op if op.is_elementwise() || op.is_movement() => FusionKind::Map,
        Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => FusionKind::Map,
        _ => FusionKind::Single,
    };
    let mut g = Graph::new("apart");
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    let mut wrapped = node.clone();
    wrapped.operands.clear();
    for &v in &node.operands {
        if map.contains_key(&v) {
            continue;
        }
        let new = match region.producer(v).filter(|p| p.op.is_source()) {
            Some(p) => {
                let n = g.add(p.op.clone(), &[], p.origin.clone()).ok()?;
                g.result(n)
            }
            None => {
                wrapped.operands.push(v);
                g.add_input(format!("i{}", wrapped.operands.len()), region.ty(v).clone())
            }
        };
        map.insert(v, new);
    }
    let operands = node.operands.iter().map(|v| map.get(v).copied()).collect::<Option<Vec<_>>>()?;
    let made = g.add(node.op.clone(), &operands, node.origin.clone()).ok()?;
    for (i, &r) in g.node(made).results.clone().iter().enumerate() {
        g.add_output(format!("o{i}"), r);
    }
    Some((kind, wrapped, g))
}

/// A region that counts the elements that `non_zero` of another region finds, and which of that region's inputs it takes.
pub(super) fn count_region(region: &Graph, root: &Node) -> Option<(Graph, Vec<usize>)> {
    let mut g = Graph::new("count");
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    let x = *root.operands.first()?;
    let mut needed: HashSet<ValueId> = HashSet::from([x]);
    let order = region.order();
    for &n in order.iter().rev() {
        let node = region.node(n);
        if node.results.iter().any(|r| needed.contains(r)) {
            needed.extend(&node.operands);
        }
    }
    let mut inputs = Vec::new();
    for (i, &v) in region.inputs().iter().enumerate().filter(|(_, v)| needed.contains(*v)) {
        inputs.push(i);
        map.insert(v, g.add_input(format!("i{i}"), region.ty(v).clone()));
    }
    for &n in &order {
        let node = region.node(n);
        if !node.results.iter().any(|r| needed.contains(r)) {
            continue;
        }
        let operands = node.operands.iter().map(|v| map.get(v).copied()).collect::<Option<Vec<_>>>()?;
        let made = g.add(node.op.clone(), &operands, node.origin.clone()).ok()?;
        for (&old, &new) in node.results.iter().zip(&g.node(made).results.clone()) {
            map.insert(old, new);
        }
    }
    let from = &root.origin;
    let add = |g: &mut Graph, op: Op, operands: &[ValueId]| g.add(op, operands, from.clone()).ok().map(|n| g.result(n));
    let (mut v, ty) = (*map.get(&x)?, region.ty(x).clone());
    if ty.dtype != DType::Bool {
        let zero = add(&mut g, Op::Fill { value: Scalar::zero(ty.dtype), dims: Vec::new() }, &[])?;
        v = add(&mut g, Op::Binary(BinaryOp::Ne), &[v, zero])?;
    }
    v = add(&mut g, Op::Cast { to: DType::I64, saturate: true }, &[v])?;
    let axes: Vec<u32> = (0..ty.rank() as u32).collect();
    if axes.is_empty() {
        v = add(&mut g, Op::Reshape { dims: vec![1.into()] }, &[v])?;
    }
    let axes = if axes.is_empty() { vec![0] } else { axes };
    v = add(&mut g, Op::Reduce { op: ReduceOp::Sum, axes, keep: false }, &[v])?;
    g.add_output("count", v);
    Some((g, inputs))
}

/// A region that is one source: the kernel that writes it.
pub(super) fn source_region(node: &Node, ty: &TensorType) -> Graph {
    let mut g = Graph::new("source");
    let mut op = node.op.clone();
    if let Op::Fill { dims, .. } = &mut op {
        *dims = ty.dims.clone();
    }
    if let Ok(n) = g.add(op, &[], node.origin.clone()) {
        let v = g.result(n);
        g.add_output("y", v);
    }
    g
}
