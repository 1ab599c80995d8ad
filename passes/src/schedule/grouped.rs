// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows in groups, as every machine class sees them: which rows a group has, and the product that they form with its right operand.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Node, Op, ValueId};
use portwright_ir::kernel::{Buf, Ex, Kb, Ty};
use portwright_ir::sym::SymExpr;

use super::eval::{Eval, Guard, Stop};
use super::problem::{Feed, Problem};

/// Whether a region's product is one of rows in groups.
pub(crate) fn takes(region: &Graph) -> bool {
    region.node_ids().any(|n| matches!(region.node(n).op, Op::ContractGroups { .. }))
}

/// First row of group `e` of `count`, and the row behind its last one. Whatever `starts` holds, every row is in one group.
pub(crate) fn rows(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    starts: ValueId,
    e: &SymExpr,
    count: i64,
    total: &SymExpr,
) -> Result<(Ex, Ex), Stop> {
    let (end, index) = (k.dim_as(total, DType::I64), k.index());
    let group = eval.ix.emit(k, e);
    let narrow = |x: Ex| if index == DType::I64 { x } else { x.cast(index) };
    // What begins outside of the rows begins at their end.
    let mut start = |k: &mut Kb<'_>, at: SymExpr| -> Result<Ex, Stop> {
        let x = eval.value(k, starts, &[at], &Guard::new())?;
        Ok(k.let_("start", narrow(x.cast(DType::I64).max(0).min(&end))))
    };
    let own = start(k, e.clone())?;
    let next = start(k, (e.clone() + 1).minimum(&(count - 1).into()))?;
    let zero = Ex::int(0).typed(&Ty::Scalar(index));
    let from = k.let_("from", group.equals(0).select(zero, own));
    let to = k.let_("to", group.equals(count - 1).select(k.dim(total), next));
    Ok((from, to))
}

/// The product of a `contract_groups`: its batch dim is that of the groups.
pub(crate) fn problem(eval: &Eval<'_>, node: &Node) -> Result<Problem<'static>, Stop> {
    let (Op::ContractGroups { acc, out }, &[lhs, rhs, starts], &[root]) = (&node.op, node.operands.as_slice(), node.results.as_slice())
    else {
        return Stop::no("no product of rows in groups");
    };
    let (lhs_dims, rhs_dims, root_dims) = (eval.dims(lhs), eval.dims(rhs), eval.dims(root));
    let ([rows, _], [groups, depth, columns]) = (lhs_dims.as_slice(), rhs_dims.as_slice()) else {
        return Stop::no("a product of rows in groups of another rank");
    };
    if groups.as_const().is_none() {
        return Stop::no("a number of groups that is not known");
    }
    Ok(Problem {
        batch: vec![('e', groups.clone())],
        m: vec![('m', rows.clone())],
        n: vec![('n', columns.clone())],
        k: vec![('k', depth.clone())],
        lhs,
        rhs,
        root,
        lhs_at: Box::new(move |_, at| (at.of(&['m', 'k'], &lhs_dims), Guard::new())),
        rhs_at: Box::new(move |_, at| (at.of(&['e', 'k', 'n'], &rhs_dims), Guard::new())),
        root_at: Box::new(move |_, at| at.of(&['m', 'n'], &root_dims)),
        acc: *acc,
        out: *out,
        feed: Feed::Direct,
        interior: None,
        starts: Some(starts),
    })
}

/// Where the results of `group_rows` go: `order`, `places` and `starts`, as far as they are wanted.
pub(crate) fn results(region: &Graph, root: &Node, outputs: &[Buf]) -> Result<[Option<Buf>; 3], Stop> {
    let mut to = [None; 3];
    for (o, &buf) in region.outputs().iter().zip(outputs) {
        match root.results.iter().position(|&r| r == o.value).and_then(|i| to.get_mut(i)) {
            Some(to) => *to = Some(buf),
            None => return Stop::no("work behind `group_rows` in its kernel"),
        }
    }
    Ok(to)
}
