// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elementwise ops, movement and gathers: a lane computes one element of the outputs, or a few neighbors.

use portwright_ir::graph::ValueId;
use portwright_ir::kernel::Module;
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::{Begun, Built, Cx, Stop, done, each_lane, elems, vector};

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let mut b = cx.begin(module, 1);
    let results: Vec<ValueId> = cx.region.outputs().iter().map(|o| o.value).collect();
    let Some(&first) = results.first() else { return Stop::no("a region without outputs") };
    let dims = b.eval.dims(first);
    let width = width(cx, &mut b, &results, &dims);
    let w = i64::from(width);
    // Vectors in place of elements along the last dim.
    let mut counted = dims.clone();
    if let Some(last) = counted.last_mut().filter(|_| w > 1) {
        *last = last.div(&w.into());
    }
    let total = elems(&counted);
    b.eval.set_width(width);
    let outputs = b.outputs.clone();
    let groups = each_lane(cx, &mut b, &total, &mut |k, eval, i| {
        let mut coords = super::name_coords(k, eval, i, &counted);
        if let Some(last) = coords.last_mut().filter(|_| w > 1) {
            *last = last.clone() * w + lane();
        }
        let values = results.iter().map(|&v| eval.value(k, v, &coords, &Vec::new())).collect::<Result<Vec<_>, _>>()?;
        for (buf, ex) in outputs.iter().zip(&values) {
            eval.store(k, *buf, &coords, &Vec::new(), ex)?;
        }
        Ok(())
    })?;
    Ok(done(b, groups))
}

/// How many neighbors along the last dim a lane computes.
fn width(cx: &Cx<'_>, b: &mut Begun<'_, '_>, results: &[ValueId], dims: &[SymExpr]) -> u32 {
    let Some((last, outer)) = dims.split_last() else { return 1 };
    let eval = &mut b.eval;
    vector::widest(cx, eval, results, None, &mut |eval, w| {
        let mut coords: Vec<SymExpr> = outer.iter().map(|d| eval.ix.bind("p", 0.into(), d.clone())).collect();
        let whole = vector::divides(cx, eval, last, w);
        // What is no whole vector begins nowhere that is a multiple of one.
        let first = eval.ix.bind("p", 0.into(), last.div(&w.into()));
        coords.push(if whole { first * w + lane() } else { first + lane() });
        coords
    })
}
