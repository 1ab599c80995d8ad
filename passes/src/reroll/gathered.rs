// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products of rows with matrices that each row looks up.
//!
//! Before: `contract{"rk,rkn->rn"}(x, gather(w, group))`, for which a matrix a row would be copied;
//! after: the rows sorted by group, `contract_groups` with `w` as it lies, and each result where its row was. A `w` that is dequantized may be
//! looked up before that, with its scales.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Graph, NodeId, Op, Patch, ValueId};

use crate::canonical::contract::labels;
use crate::rules::consts::is_static;
use crate::rules::edit::only_user;
use crate::rules::{Edit, Tap};

/// What these values look up, all by the same index along their first dim.
fn tables(g: &Graph, values: &[ValueId]) -> Option<(Vec<ValueId>, ValueId)> {
    let mut index = None;
    let table = |&v: &ValueId| {
        let node = g.producer(v)?;
        let (Op::Gather { axis: 0 }, &[table, by]) = (&node.op, node.operands.as_slice()) else { return None };
        (*index.get_or_insert(by) == by).then_some(table)
    };
    let tables = values.iter().map(table).collect::<Option<Vec<_>>>()?;
    Some((tables, index?))
}

/// The patch for one product; `None` if it is not of that kind.
pub(super) fn grouped(g: &Graph, n: NodeId) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec, acc, out }, &[x, looked_up]) = (&node.op, node.operands.as_slice()) else { return None };
    let source = g.producer(looked_up)?;
    let (tables, group) = match &source.op {
        Op::Dequantize { .. } => tables(g, &source.operands)?,
        _ => tables(g, &[looked_up])?,
    };
    let &w = tables.first()?;
    let [a, b, to] = labels(spec)?;
    let (&[r, k], &[row, first, second], &[to_row, n_label]) = (a.as_slice(), b.as_slice(), to.as_slice()) else { return None };
    let columns_last = (first, second) == (k, n_label);
    let alike = r == row && r == to_row && (columns_last || (first, second) == (n_label, k));
    let ty = g.ty(w);
    let groups = ty.dims.first()?.as_const().filter(|&e| e > 1)?;
    let float = g.ty(looked_up).dtype.is_float() && ty.quant.is_none();
    if !alike || !float || g.ty(group).rank() != 1 || only_user(g, looked_up).is_none() || !tables.iter().all(|&t| is_static(g, t)) {
        return None;
    }
    let mut e = Edit::new(g, super::GROUP, &[g.producer_id(looked_up)?, n]);
    // Indices from the end, as `gather` takes them.
    let wide = e.cast(group, DType::I64)?;
    let none = e.scalar(DType::I64, 0.0)?;
    let negative = e.binary(BinaryOp::Lt, wide, none)?;
    let wrapped = e.with_scalar(BinaryOp::Add, wide, groups as f64)?;
    let group = e.select(negative, wrapped, wide)?;
    let sorted = e.add(Op::GroupRows { groups }, &[group])?;
    let Tap::New(at, _) = sorted else { return None };
    let (order, places, starts) = (Tap::New(at, 0), Tap::New(at, 1), Tap::New(at, 2));
    let rows = e.add(Op::Gather { axis: 0 }, &[x.into(), order])?;
    let w = match &source.op {
        Op::Dequantize { .. } => e.add(source.op.clone(), &tables.iter().map(|&t| t.into()).collect::<Vec<_>>())?,
        _ => w.into(),
    };
    let w = if columns_last { w } else { e.transpose(w, vec![0, 2, 1])? };
    let y = e.add(Op::ContractGroups { acc: *acc, out: *out }, &[rows, w, starts])?;
    let y = e.add(Op::Gather { axis: 0 }, &[y, places])?;
    e.finish(g.result(n), y)
}
