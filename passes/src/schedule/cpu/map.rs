// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elementwise ops, movement and gathers: every output element once, the innermost dim in vectors.

use portwright_ir::graph::{Graph, Op, ValueId};
use portwright_ir::kernel::{Ex, Kb, Module};
use portwright_ir::sym::{SymExpr, product};

use super::elementwise::is_slow;
use super::eval::{Eval, Stop};
use super::{Begun, Built, Cx, TASK_ELEMS, finish, share, wide_loop};

/// Parts of a concatenation up to which each has a loop of its own.
const FEW_PARTS: usize = 4;

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let results: Vec<_> = cx.region.outputs().iter().map(|o| o.value).collect();
    let Some(&first) = results.first() else { return Stop::no("a region without outputs") };
    let dims = eval.dims(first);
    // Rows of an input that the output has already are left out.
    let mut skip = None;
    let (mut outer, inner) = match dims.split_last() {
        Some((last, rest)) => (rest.to_vec(), last.clone()),
        None => (Vec::new(), SymExpr::from(1)),
    };
    if inner.is(1) && width > 1 {
        return Err(Stop::NeedScalar);
    }
    if let Some(r) = cx.room(cx.region.inputs().len()) {
        let Some((axis, parts)) = joined(cx.region, &results) else { return Stop::no("room in what joins no rows") };
        let front = eval.syms.to_kernel(&SymExpr::sym(r.front.clone()));
        let skipped = &eval.dims(parts[0])[axis] - &front;
        outer[axis] = &outer[axis] - &skipped;
        skip = Some((front, skipped));
    }
    let rows = product(&outer);
    let at_least_one = |e: &SymExpr| e.maximum(&1.into());
    // A task is a run of whole rows, or a run of elements of one long row.
    let cols = match inner.as_const() {
        Some(n) if n <= TASK_ELEMS => inner.clone(),
        // Whole vectors, several of them at once.
        _ => share(&inner, TASK_ELEMS).round_up(TASK_ELEMS / 32),
    };
    let row_run = match cols.as_const() {
        Some(n) if inner.as_const().is_some() => share(&rows, (TASK_ELEMS / n.max(1)).max(1)),
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
    let flight = in_flight(cx);
    // A row of `values` at `from` is a row of the outputs at `lead`.
    let row_body = |k: &mut Kb<'_>, eval: &mut Eval<'_>, values: &[ValueId], from: &[SymExpr], lead: &[SymExpr]| {
        wide_loop(k, eval, flight, (c0.clone(), c1.clone()), &inner, &mut |k, eval, c, guard| {
            let coords = |lead: &[SymExpr]| {
                let mut coords = lead.to_vec();
                if !dims.is_empty() {
                    coords.push(c.clone());
                }
                coords
            };
            let (from, to) = (coords(from), coords(lead));
            let values = values.iter().map(|&v| eval.value(k, v, &from, guard)).collect::<Result<Vec<_>, _>>()?;
            for (buf, ex) in outputs.iter().zip(&values) {
                eval.store(k, *buf, &to, guard, ex)?;
            }
            Ok(())
        })
    };
    if rows.is(1) {
        let lead = vec![SymExpr::from(0); outer.len()];
        stop = row_body(k, eval, &results, &lead, &lead);
    } else {
        let r0 = k.let_("r0", k.gy() * k.dim(&row_run));
        let r1 = (&r0 + k.dim(&row_run)).min(k.dim(&rows));
        k.for_("r", r0, r1, 1, |k, r| {
            eval.open();
            let row = eval.ix.bind("r", r, rows.clone());
            let lead = super::name_coords(k, eval, &row, &outer);
            stop = match joined(cx.region, &results) {
                Some((axis, parts)) => by_part(k, eval, axis, &parts, &lead, skip.as_ref(), &row_body),
                None => row_body(k, eval, &results, &lead, &lead),
            };
            eval.close();
        });
    }
    stop?;
    let cost = (TASK_ELEMS / 8) as u32 * (1 + cx.region.len() as u32 / 4);
    Ok(finish(b, grid, cost))
}

/// How many vectors are in flight at once: several where functions take long chains of operations and nothing is moved.
fn in_flight(cx: &Cx<'_>) -> u32 {
    let nodes: Vec<_> = cx.region.order().into_iter().map(|n| cx.region.node(n)).collect();
    let plain = |op: &Op| op.is_elementwise() || op.is_source() || matches!(op, Op::Broadcast { .. });
    let slow = nodes.iter().any(|n| is_slow(&n.op));
    if slow && nodes.iter().all(|n| plain(&n.op)) { (cx.spec.vec_regs / 8).clamp(1, 4) } else { 1 }
}

/// The axis and the parts of a region that joins whole rows: which part a row comes from is asked once a row, not once a vector.
pub(super) fn joined(region: &Graph, results: &[ValueId]) -> Option<(usize, Vec<ValueId>)> {
    let [only] = results else { return None };
    let node = region.producer(*only)?;
    let Op::Concat { axis } = node.op else { return None };
    let axis = axis as usize;
    let whole = axis + 1 < region.ty(*only).rank() && (2..=FEW_PARTS).contains(&node.operands.len());
    whole.then(|| (axis, node.operands.clone()))
}

/// Writes the row body out for each part. With `skip`, `lead` counts so many rows of the first part only, and those that are left out of it.
fn by_part(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    axis: usize,
    parts: &[ValueId],
    lead: &[SymExpr],
    skip: Option<&(SymExpr, SymExpr)>,
    row_body: &dyn Fn(&mut Kb<'_>, &mut Eval<'_>, &[ValueId], &[SymExpr], &[SymExpr]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let at = eval.ix.emit(k, &lead[axis]);
    let mut to = lead.to_vec();
    if let Some((_, skipped)) = skip {
        to[axis] = &to[axis] + skipped;
    }
    let mut start = SymExpr::from(0);
    for (i, &part) in parts.iter().enumerate() {
        let len = match skip {
            Some((front, _)) if i == 0 => front.clone(),
            _ => eval.dims(part)[axis].clone(),
        };
        let (from, end) = (k.dim(&start), k.dim(&(start.clone() + len.clone())));
        start = start + len.clone();
        if len.is(0) {
            continue;
        }
        let own: Ex = at.ge(&from) & at.lt(end);
        let mut stop = Ok(());
        k.if_(own, |k| {
            eval.open();
            let within = k.let_("p", &at - &from);
            let mut source = lead.to_vec();
            source[axis] = eval.ix.bind("p", within, len.clone());
            stop = row_body(k, eval, &[part], &source, &to);
            eval.close();
        });
        stop?;
    }
    Ok(())
}
