// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows in groups, each of which meets a right operand of its own: a task takes a few columns of one group, for all rows of that group.
//!
//! So a right operand that has rows is read once, however many they are, and one without rows costs a task that looks and ends.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op};
use portwright_ir::kernel::{BufDecl, Code, Ex, Kb, Module, Ty};
use portwright_ir::sym::SymExpr;

use super::super::grouped;
use super::super::problem::{At, Feed};
use super::eval::{Eval, Guard, Stop};
use super::gemm;
use super::index::lane;
use super::{Begun, Built, Cx, TASK_ELEMS, finish};

/// Builds the kernel of `contract_groups`.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::ContractGroups { .. }))?;
    let mut b = cx.begin(module, width);
    let Begun { eval, .. } = &mut b;
    let mut problem = grouped::problem(eval, node)?;
    let [e, n, depth] = [&problem.batch, &problem.n, &problem.k].map(|d| d.first().cloned().unwrap_or(('n', 1.into())));
    if width > 1 && n.1.is(1) {
        return Err(Stop::NeedScalar);
    }
    let mut at = At::default().with(std::slice::from_ref(&n), &[lane()]);
    for l in [&depth, &e] {
        let c = eval.ix.bind("p", Ex::from(0), l.1.clone());
        at = at.with(std::slice::from_ref(l), &[c]);
    }
    let (coords, _) = (problem.rhs_at)(eval, &at);
    if !eval.is_contiguous(problem.rhs, &coords) {
        problem.feed = Feed::Pack;
    }
    gemm::build(cx, b, problem)
}

/// Builds the kernel of `group_rows`: counts, running sums of counts, and one place after the other, by one task.
pub(crate) fn sort(cx: &Cx<'_>, module: &mut Module, root: &Node) -> Result<Built, Stop> {
    let (&Op::GroupRows { groups }, &[x]) = (&root.op, root.operands.as_slice()) else { return Stop::no("no rows in groups") };
    let mut b = cx.begin(module, 1);
    let Begun { k, eval, outputs } = &mut b;
    let total = eval.dims(x).pop().unwrap_or_else(|| 1.into());
    let [order, places, starts] = grouped::results(cx.region, root, outputs)?;
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
