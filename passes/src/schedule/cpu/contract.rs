// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contractions by labels, as sums of products.

use portwright_ir::graph::Op;
use portwright_ir::kernel::{Ex, Module};

use super::super::problem::{At, Feed, Problem, Roles};
use super::eval::{Guard, Stop};
use super::gemm;
use super::index::lane;
use super::{Begun, Built, Cx};

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Contract { .. }))?;
    let Op::Contract { spec, acc, out } = &node.op else { return Stop::no("no contraction") };
    let mut b = cx.begin(module, width);
    let Begun { eval, .. } = &mut b;
    let (lhs, rhs, root) = (node.operands[0], node.operands[1], node.results[0]);
    let (lhs_dims, rhs_dims, root_dims) = (eval.dims(lhs), eval.dims(rhs), eval.dims(root));
    let roles = Roles::parse(spec, &lhs_dims, &rhs_dims)?;
    if width > 1 && roles.n.last().is_none_or(|n| n.1.is(1)) {
        return Err(Stop::NeedScalar);
    }
    // Whether the right operand is vectors as it lies.
    let mut at = At::default();
    for l in roles.k.iter().chain(&roles.n).chain(&roles.batch) {
        let c = if Some(l) == roles.n.last() { lane() } else { eval.ix.bind("p", Ex::from(0), l.1.clone()) };
        at = at.with(std::slice::from_ref(l), &[c]);
    }
    let direct = eval.is_contiguous(rhs, &at.of(&roles.rhs, &rhs_dims));
    let Roles { lhs: lhs_labels, rhs: rhs_labels, out: out_labels, batch, m, n, k } = roles;
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
        feed: if direct { Feed::Direct } else { Feed::Pack },
        interior: None,
        starts: None,
    };
    gemm::build(cx, b, problem)
}
