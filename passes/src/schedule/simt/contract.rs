// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contractions by labels, as sums of products.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op, ValueId};
use portwright_ir::kernel::{BinOp, Ex, Kb, Module, Ty};
use portwright_ir::sym::SymExpr;

use super::fragments::{self, Scales};
use super::problem::{At, Feed, Problem, Roles};
use super::runs::{Made, Run};
use super::{Built, Cx, Eval, Guard, Stop, gemm};
use crate::legalize;

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let node = cx
        .root(|op| matches!(op, Op::Contract { .. } | Op::ContractBlocks { .. } | Op::ContractScaled { .. } | Op::ContractPanels { .. }))?;
    match node.op {
        Op::Contract { .. } => {}
        Op::ContractScaled { .. } => return scaled(cx, module, node),
        _ => return packed(cx, module, node),
    }
    let Op::Contract { spec, acc, out } = &node.op else { return Stop::no("no contraction") };
    let b = cx.begin(module, 1);
    let (lhs, rhs, root) = (node.operands[0], node.operands[1], node.results[0]);
    let (lhs_dims, rhs_dims, root_dims) = (b.eval.dims(lhs), b.eval.dims(rhs), b.eval.dims(root));
    let Roles { lhs: lhs_labels, rhs: rhs_labels, out: out_labels, batch, m, n, k } = Roles::parse(spec, &lhs_dims, &rhs_dims)?;
    let problem = Problem {
        batch,
        m,
        n,
        k,
        lhs,
        rhs,
        root,
        lhs_at: Box::new(move |_, at| (at.of(&lhs_labels, &lhs_dims), Guard::new())),
        rhs_at: Box::new(move |_, at| (at.of(&rhs_labels, &rhs_dims), Guard::new())),
        root_at: Box::new(move |_, at| at.of(&out_labels, &root_dims)),
        acc: *acc,
        out: *out,
        feed: Feed::Direct,
        interior: None,
        starts: None,
    };
    gemm::build(cx, b, &problem, None)
}

/// Products of floats of 8 bits in fragments, whose sums of a block are multiplied with its scales.
fn scaled(cx: &Cx<'_>, module: &mut Module, node: &Node) -> Result<Built, Stop> {
    let b = cx.begin(module, 1);
    let (&Op::ContractScaled { block, out, narrow }, &[x, w, sx, sw], root) = (&node.op, node.operands.as_slice(), node.results[0]) else {
        return Stop::no("a product without scales");
    };
    let (x_dims, root_dims) = (b.eval.dims(x), b.eval.dims(root));
    let (Some((depth, lead)), Some(columns)) = (x_dims.split_last(), root_dims.last()) else {
        return Stop::no("a product over no dim");
    };
    if lead.len() > ROWS.len() {
        return Stop::no("a product of so many dims");
    }
    let problem = rows_by_columns([x, w, root], (lead, depth, columns), (DType::F32, out));
    let fragment = legalize::in_fragments(cx.spec, cx.region, &[x, w], block, narrow);
    let Some(form) = fragment.and_then(|f| fragments::form_of(cx, &problem, f, None)) else {
        return Stop::no("a product of floats of 8 bits without fragments");
    };
    fragments::build(cx, b, &problem, form, None, Some(&Scales { values: [sx, sw], block }))
}

/// Labels of the left operand's leading dims.
const ROWS: [char; 8] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];

/// Rows of `x` times columns of `w`, which lie as rows: leading dims of `x`, the summed dim, columns; dtypes of sums and of results.
fn rows_by_columns<'p>(
    [lhs, rhs, root]: [ValueId; 3],
    (lead, depth, columns): (&[SymExpr], &SymExpr, &SymExpr),
    (acc, out): (DType, DType),
) -> Problem<'p> {
    let rank = lead.len();
    let row = move |at: &At| ROWS[..rank].iter().map(|&l| at.get(l)).collect::<Vec<_>>();
    Problem {
        batch: Vec::new(),
        m: ROWS.iter().copied().zip(lead.iter().cloned()).collect(),
        n: vec![('n', columns.clone())],
        k: vec![('k', depth.clone())],
        lhs,
        rhs,
        root,
        lhs_at: Box::new(move |_, at| (row(at).into_iter().chain([at.get('k')]).collect(), Guard::new())),
        rhs_at: Box::new(move |_, at| (vec![at.get('n'), at.get('k')], Guard::new())),
        root_at: Box::new(move |_, at| row(at).into_iter().chain([at.get('n')]).collect()),
        acc,
        out,
        feed: Feed::Direct,
        interior: None,
        starts: None,
    }
}

/// Products with integers that have a scale a block: they become numbers where they are loaded.
fn packed(cx: &Cx<'_>, module: &mut Module, node: &Node) -> Result<Built, Stop> {
    let b = cx.begin(module, 1);
    let (&[x, w, scale, ref rest @ ..], root) = (node.operands.as_slice(), node.results[0]) else {
        return Stop::no("a product with packed integers that has no scales");
    };
    let (x_dims, w_dims, root_dims) = (b.eval.dims(x), b.eval.dims(w), b.eval.dims(root));
    let (Some((depth, lead)), Some(columns)) = (x_dims.split_last(), root_dims.last()) else {
        return Stop::no("a product with packed integers over no dim");
    };
    if lead.len() > ROWS.len() {
        return Stop::no("a product with packed integers of so many dims");
    }
    let acc = if b.eval.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    let zero = rest.first().copied();
    let problem = rows_by_columns([x, w, root], (lead, depth, columns), (acc, b.eval.dtype(root)));
    let (bits, block, middle) = match &node.op {
        Op::ContractBlocks { block, zero, .. } => (None, *block, *zero),
        Op::ContractPanels { bits, block, zero, .. } => (Some((*bits).clamp(1, 8)), *block, *zero),
        _ => return Stop::no("no packed integers"),
    };
    let run = match bits {
        None => Run::of(&b.eval, [w, scale], zero, block, middle),
        Some(_) => None,
    };
    let panel = w_dims.last().map_or(1.into(), |d| d.div(&4.into()));
    let made = move |k: &mut Kb<'_>, eval: &mut Eval<'_>, at: &At, guard: &Guard| -> Result<Ex, Stop> {
        let (n, kk) = (at.get('n'), at.get('k'));
        let (b, within) = eval.ix.div_mod(&kk, &block.max(1).into());
        let (q, place) = match bits {
            None => (eval.value(k, w, &[n.clone(), kk], guard)?, vec![n, b]),
            Some(bits) => {
                let (p, c) = eval.ix.div_mod(&n, &panel);
                let (g, s) = eval.ix.div_mod(&within, &(32 / bits).into());
                let (j, i) = eval.ix.div_mod(&s, &4.into());
                let byte = eval.value(k, w, &[p.clone(), b.clone(), g, c.clone() * 4 + i], guard)?.cast(DType::I32);
                let shift = (eval.ix.emit(k, &j) * bits).cast(DType::I32);
                (byte.bin(BinOp::Shr, shift) & Ex::int((1 << bits) - 1).typed(&Ty::Scalar(DType::I32)), vec![p, b, c])
            }
        };
        let from = match zero {
            Some(z) => eval.value(k, z, &place, guard)?.cast(acc),
            None => Ex::lit(acc, middle as f64),
        };
        let scale = eval.value(k, scale, &place, guard)?;
        let q = q.cast(acc);
        Ok(if zero.is_none() && middle == 0 { q } else { q - from } * scale.cast(acc))
    };
    gemm::build(cx, b, &problem, Some(&Made { one: &made, run }))
}
