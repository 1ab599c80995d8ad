// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contractions by labels, as sums of products.

use portwright_ir::graph::Op;
use portwright_ir::kernel::{Ex, Module};
use portwright_ir::sym::SymExpr;

use super::eval::{Guard, Stop};
use super::gemm::{self, At, Feed, Problem};
use super::index::lane;
use super::{Begun, Built, Cx};

/// The dims of a contraction by role, as labels with their extents.
pub(crate) struct Roles {
    lhs: Vec<char>,
    rhs: Vec<char>,
    out: Vec<char>,
    batch: Vec<(char, SymExpr)>,
    m: Vec<(char, SymExpr)>,
    n: Vec<(char, SymExpr)>,
    k: Vec<(char, SymExpr)>,
}

impl Roles {
    fn parse(spec: &str, lhs_dims: &[SymExpr], rhs_dims: &[SymExpr]) -> Result<Self, Stop> {
        let parts = spec.split_once("->").and_then(|(i, o)| i.split_once(',').map(|(l, r)| (l, r, o)));
        let Some((l, r, o)) = parts else { return Stop::no("a contraction of other than two operands") };
        let (lhs, rhs, out): (Vec<char>, Vec<char>, Vec<char>) = (l.chars().collect(), r.chars().collect(), o.chars().collect());
        let extent = |c: char| {
            let of = |labels: &[char], dims: &[SymExpr]| labels.iter().position(|&x| x == c).and_then(|i| dims.get(i).cloned());
            match (of(&lhs, lhs_dims), of(&rhs, rhs_dims)) {
                (Some(a), Some(b)) if a.is(1) => b,
                (Some(a), _) => a,
                (None, b) => b.unwrap_or_else(|| 1.into()),
            }
        };
        let (mut batch, mut m, mut n, mut k) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for &c in &out {
            match (lhs.contains(&c), rhs.contains(&c)) {
                (true, true) => batch.push((c, extent(c))),
                (true, false) => m.push((c, extent(c))),
                _ => n.push((c, extent(c))),
            }
        }
        for &c in lhs.iter().filter(|c| !out.contains(c)) {
            if !rhs.contains(&c) {
                return Stop::no("a contraction that sums a dim of one operand alone");
            }
            k.push((c, extent(c)));
        }
        if rhs.iter().any(|c| !out.contains(c) && !lhs.contains(c)) {
            return Stop::no("a contraction that sums a dim of one operand alone");
        }
        Ok(Roles { lhs, rhs, out, batch, m, n, k })
    }
}

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
    };
    gemm::build(cx, b, problem)
}
