// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Texts and lists become the numbers that they have in the tables of a run: everything but host operations computes with i64.
//!
//! Before: `%1: bool[N] = eq(%x: str[N], const [3])`; after: `%1: i64[N] = handle(%x); %2: bool[N] = eq(%1, const [3])`. Inputs and outputs
//! keep their types, which tell a caller what they are.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Literal, Op, Origin, TensorType, TypeFault};
use portwright_ir::weight::Weight;

/// Lowers a graph with its regions.
///
/// # Errors
/// A fault of inference, which is one of this pass.
pub fn lower(graph: &mut Graph) -> Result<(), TypeFault> {
    if !uses_handles(graph) {
        return Ok(());
    }
    let ports: Vec<TensorType> = graph.inputs().iter().map(|&v| graph.ty(v).clone()).collect();
    let outputs: Vec<TensorType> = graph.outputs().iter().map(|o| graph.ty(o.value).clone()).collect();
    retype(graph);
    for (v, ty) in graph.inputs().to_vec().into_iter().zip(ports).filter(|(_, t)| t.dtype.is_handle()) {
        graph.set_type(v, ty);
        let n = graph.insert(Op::Handle { to: DType::I64, list: None }, &[v], Vec::new(), Origin::default(), 0)?;
        let number = graph.result(n);
        let users = graph.users(v);
        for u in users.into_iter().filter(|u| *u != n) {
            let slots: Vec<usize> = graph.node(u).operands.iter().enumerate().filter(|(_, o)| **o == v).map(|(i, _)| i).collect();
            slots.into_iter().for_each(|slot| graph.set_operand(u, slot, number));
        }
        for i in 0..graph.outputs().len() {
            if graph.outputs()[i].value == v {
                graph.set_output(i, number);
            }
        }
    }
    for (i, ty) in outputs.into_iter().enumerate().filter(|(_, t)| t.dtype.is_handle()) {
        let number = graph.outputs()[i].value;
        let origin = graph.producer(number).map_or_else(Origin::default, |p| p.origin.clone());
        let n = graph.add(Op::Handle { to: ty.dtype, list: ty.list.map(|l| *l) }, &[number], origin)?;
        let made = graph.result(n);
        graph.set_output(i, made);
    }
    Ok(())
}

fn uses_handles(graph: &Graph) -> bool {
    graph.values().values().any(|v| v.ty.dtype.is_handle())
        || graph.node_ids().any(|n| graph.node(n).op.is_host() || graph.node(n).regions.iter().any(uses_handles))
}

/// Turns the types of all values, and the constants among them.
fn retype(graph: &mut Graph) {
    graph.retype(|t| t.dtype.is_handle().then(|| TensorType::new(DType::I64, t.dims.clone())));
    let number = |w: &Weight| Weight::new(w.name.clone(), DType::I64, w.dims.clone(), w.source.clone());
    graph.replace_weights(|w| w.dtype.is_handle().then(|| number(w)));
    for n in graph.node_ids().collect::<Vec<_>>() {
        // What was turned to numbers before is a number now.
        if let (Op::Handle { .. }, &[x], &[y]) = (&graph.node(n).op, graph.node(n).operands.as_slice(), graph.node(n).results.as_slice()) {
            graph.replace_uses(y, x);
            graph.remove(n);
            continue;
        }
        graph.regions_mut(n).iter_mut().for_each(retype);
        let op = graph.op_mut(n);
        match op {
            Op::Const { value } if value.dtype.is_handle() => *value = Literal { dtype: DType::I64, ..value.clone() },
            Op::Fill { value, .. } if value.dtype.is_handle() => value.dtype = DType::I64,
            Op::Host { lowered, .. } => *lowered = true,
            _ => {}
        }
    }
}
