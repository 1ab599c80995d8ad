// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows in groups, each of which meets a right operand of its own: a task takes a few columns of one group, for all rows of that group.
//!
//! So a right operand that has rows is read once, however many they are, and one without rows costs a task that looks and ends.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Node, Op, ValueId};
use portwright_ir::kernel::{BufDecl, Code, Ex, Kb, Module, Ty};
use portwright_ir::sym::SymExpr;

use super::super::problem::{At, Feed, Problem};
use super::eval::{Eval, Guard, Stop};
use super::gemm;
use super::index::lane;
use super::{Begun, Built, Cx, TASK_ELEMS, finish};

/// First row of group `e` of `count`, and the row behind its last one.
pub(super) fn rows(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    starts: ValueId,
    e: &SymExpr,
    count: i64,
    total: &SymExpr,
) -> Result<(Ex, Ex), Stop> {
    let end = k.dim(total);
    let group = eval.ix.emit(k, e);
    // What begins outside of the rows begins at their end.
    let mut start = |k: &mut Kb<'_>, at: SymExpr| -> Result<Ex, Stop> {
        let x = eval.value(k, starts, &[at], &Guard::new())?;
        Ok(k.let_("start", x.cast(DType::I64).max(0).min(&end)))
    };
    let own = start(k, e.clone())?;
    let next = start(k, (e.clone() + 1).minimum(&(count - 1).into()))?;
    let zero = Ex::int(0).typed(&Ty::Scalar(DType::I64));
    let from = k.let_("from", group.equals(0).select(zero, own));
    let to = k.let_("to", group.equals(count - 1).select(&end, next));
    Ok((from, to))
}

/// Whether a region's product is one of rows in groups.
pub(crate) fn takes(region: &Graph) -> bool {
    region.node_ids().any(|n| matches!(region.node(n).op, Op::ContractGroups { .. }))
}

/// Builds the kernel of `contract_groups`.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::ContractGroups { .. }))?;
    let (Op::ContractGroups { acc, out }, &[lhs, rhs, starts]) = (&node.op, node.operands.as_slice()) else {
        return Stop::no("no product of rows in groups");
    };
    let root = node.results[0];
    let mut b = cx.begin(module, width);
    let Begun { eval, .. } = &mut b;
    let (lhs_dims, rhs_dims, root_dims) = (eval.dims(lhs), eval.dims(rhs), eval.dims(root));
    let ([rows, _], [groups, depth, columns]) = (lhs_dims.as_slice(), rhs_dims.as_slice()) else {
        return Stop::no("a product of rows in groups of another rank");
    };
    if groups.as_const().is_none() {
        return Stop::no("a number of groups that is not known");
    }
    if width > 1 && columns.is(1) {
        return Err(Stop::NeedScalar);
    }
    let (e, m, n, depth) = (('e', groups.clone()), ('m', rows.clone()), ('n', columns.clone()), ('k', depth.clone()));
    let mut at = At::default().with(std::slice::from_ref(&n), &[lane()]);
    for l in [&depth, &e] {
        let c = eval.ix.bind("p", Ex::from(0), l.1.clone());
        at = at.with(std::slice::from_ref(l), &[c]);
    }
    let direct = eval.is_contiguous(rhs, &at.of(&['e', 'k', 'n'], &rhs_dims));
    let problem = Problem {
        batch: vec![e],
        m: vec![m],
        n: vec![n],
        k: vec![depth],
        lhs,
        rhs,
        root,
        lhs_at: Box::new(move |_, at| (at.of(&['m', 'k'], &lhs_dims), Guard::new())),
        rhs_at: Box::new(move |_, at| (at.of(&['e', 'k', 'n'], &rhs_dims), Guard::new())),
        root_at: Box::new(move |_, at| at.of(&['m', 'n'], &root_dims)),
        acc: *acc,
        out: *out,
        feed: if direct { Feed::Direct } else { Feed::Pack },
        interior: None,
        starts: Some(starts),
    };
    gemm::build(cx, b, problem)
}

/// Builds the kernel of `group_rows`: counts, running sums of counts, and one place after the other, by one task.
pub(crate) fn sort(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let (&Op::GroupRows { groups }, &[x]) = (&root.op, root.operands.as_slice()) else { return Stop::no("no rows in groups") };
    let mut b = cx.begin(module, 1);
    let Begun { k, eval, outputs } = &mut b;
    let total = eval.dims(x).pop().unwrap_or_else(|| 1.into());
    let mut to = [None; 3];
    for (o, &buf) in cx.region.outputs().iter().zip(outputs.iter()) {
        match root.results.iter().position(|&r| r == o.value).and_then(|i| to.get_mut(i)) {
            Some(to) => *to = Some(buf),
            None => return Stop::no("work behind `group_rows` in its kernel"),
        }
    }
    let [order, places, starts] = to;
    let next = k.local("next", BufDecl::rw(DType::I64, [groups.into()]));
    let zero = Ex::int(0).typed(&Ty::Scalar(DType::I64));
    let always = Guard::new();
    let mut stop = Ok(());
    k.for_("e", 0, groups, 1, |k, e| {
        eval.open();
        let e = eval.ix.bind("e", e, groups.into());
        stop = eval.store(k, next, &[e], &always, &zero);
        eval.close();
    });
    stop?;
    // The group of row `r`, and what `next` holds for it.
    let group = |k: &mut Kb<'_>, eval: &mut Eval<'_>, r: &SymExpr| -> Result<(SymExpr, Ex), Stop> {
        let v = eval.value(k, x, std::slice::from_ref(r), &Guard::new())?;
        let (v, at) = (k.let_("g", v.cast(DType::I64)), eval.ix.emit(k, r));
        let v = k.guard("gc", &v, 0, groups, Code::Index, &at);
        let e = eval.ix.bind("e", v, groups.into());
        let n = eval.load(k, "n", next, std::slice::from_ref(&e), &Guard::new())?;
        Ok((e, n))
    };
    let each = |k: &mut Kb<'_>, eval: &mut Eval<'_>, place: bool| -> Result<(), Stop> {
        let mut stop = Ok(());
        let hi = k.dim(&total);
        k.for_("r", 0, hi, 1, |k, r| {
            eval.open();
            stop = (|| {
                let row = eval.ix.bind("r", r.clone(), total.clone());
                let (e, n) = group(k, eval, &row)?;
                eval.store(k, next, &[e], &always, &(&n + 1))?;
                if !place {
                    return Ok(());
                }
                if let Some(places) = places {
                    eval.store(k, places, std::slice::from_ref(&row), &always, &n)?;
                }
                if let Some(order) = order {
                    let at = eval.ix.bind("at", n, total.clone());
                    eval.store(k, order, &[at], &always, &r.cast(DType::I64))?;
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    };
    each(k, eval, false)?;
    let sum = k.var("sum", zero);
    let mut stop = Ok(());
    k.for_("e", 0, groups, 1, |k, e| {
        eval.open();
        stop = (|| {
            let e = eval.ix.bind("e", e, groups.into());
            let n = eval.load(k, "n", next, std::slice::from_ref(&e), &always)?;
            let begin = k.let_("begin", sum.get());
            eval.store(k, next, std::slice::from_ref(&e), &always, &begin)?;
            if let Some(starts) = starts {
                eval.store(k, starts, &[e], &always, &begin)?;
            }
            k.set(&sum, &begin + n);
            Ok(())
        })();
        eval.close();
    });
    stop?;
    each(k, eval, true)?;
    Ok(finish(b, [1.into(), 1.into(), 1.into()], TASK_ELEMS as u32))
}
