// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elementwise ops, movement and gathers: every output element once, the innermost dim in vectors.

use portwright_ir::kernel::Module;
use portwright_ir::sym::{SymExpr, product};

use super::eval::Stop;
use super::{Begun, Built, Cx, TASK_ELEMS, finish, vector_loop};

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let results: Vec<_> = cx.region.outputs().iter().map(|o| o.value).collect();
    let Some(&first) = results.first() else { return Stop::no("a region without outputs") };
    let dims = eval.dims(first);
    let (outer, inner) = match dims.split_last() {
        Some((last, rest)) => (rest.to_vec(), last.clone()),
        None => (Vec::new(), SymExpr::from(1)),
    };
    if inner.is(1) && width > 1 {
        return Err(Stop::NeedScalar);
    }
    let rows = product(&outer);
    let at_least_one = |e: &SymExpr| e.maximum(&1.into());
    // A task is a run of whole rows, or a run of elements of one long row.
    let cols = match inner.as_const() {
        Some(n) if n <= TASK_ELEMS => inner.clone(),
        _ => SymExpr::from(TASK_ELEMS),
    };
    let row_run = match cols.as_const() {
        Some(n) if inner.as_const().is_some() => SymExpr::from((TASK_ELEMS / n.max(1)).max(1)),
        _ => at_least_one(&SymExpr::from(TASK_ELEMS).div(&at_least_one(&inner))),
    };
    let grid = [inner.ceil_div(&at_least_one(&cols)), rows.ceil_div(&row_run), 1.into()];
    let mut stop = Ok(());
    let (c0, c1) = if grid[0].is(1) || inner.is(0) {
        (0.into(), k.dim(&inner))
    } else {
        let c0 = k.let_("c0", k.gx() * k.dim(&cols));
        let c1 = k.let_("c1", (&c0 + k.dim(&cols)).min(k.dim(&inner)));
        (c0, c1)
    };
    let row_body = |k: &mut portwright_ir::kernel::Kb<'_>, eval: &mut super::eval::Eval<'_>, lead: &[SymExpr]| {
        vector_loop(k, eval, "c", (c0.clone(), c1.clone()), &inner, &mut |k, eval, c, guard| {
            let mut coords = lead.to_vec();
            if !dims.is_empty() {
                coords.push(c.clone());
            }
            let mut values = Vec::with_capacity(results.len());
            for &v in &results {
                values.push(eval.value(k, v, &coords, guard)?);
            }
            for (buf, ex) in outputs.iter().zip(&values) {
                eval.store(k, *buf, &coords, guard, ex)?;
            }
            Ok(())
        })
    };
    if rows.is(1) {
        stop = row_body(k, eval, &vec![SymExpr::from(0); outer.len()]);
    } else {
        let r0 = k.let_("r0", k.gy() * k.dim(&row_run));
        let r1 = (&r0 + k.dim(&row_run)).min(k.dim(&rows));
        k.for_("r", r0, r1, 1, |k, r| {
            eval.open();
            let row = eval.ix.bind("r", r, rows.clone());
            let lead = super::name_coords(k, eval, &row, &outer);
            stop = row_body(k, eval, &lead);
            eval.close();
        });
    }
    stop?;
    let cost = (TASK_ELEMS / 8) as u32 * (1 + cx.region.len() as u32 / 4);
    Ok(finish(b, grid, cost))
}
