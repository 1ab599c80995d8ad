// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Movement that exchanges the dim that memory runs along: tiles are read along one dim and written along the other, through shared memory.

use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{BufDecl, Ex, Layout, Level, Mem, Module};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, elems, name_coords};

/// Extent of a tile.
const TILE: i64 = 32;

/// Extents below which whole tiles would be mostly empty.
const LEAST: i64 = 8;

/// Builds the kernel; `None` where memory runs along the last dim on both sides, or along none that all operands share.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Option<Built>, Stop> {
    let [output] = cx.region.outputs() else { return Ok(None) };
    let v = output.value;
    let mut b = cx.begin(module, 1);
    let group = i64::from(cx.spec.group(None));
    let Begun { k, eval, outputs } = &mut b;
    let dims = eval.dims(v);
    let (Some(axis), [out]) = (axis_of(eval, v, &dims), outputs.as_slice()) else { return Ok(None) };
    let (last, out) = (dims.len() - 1, *out);
    k.group(group as u32, cx.spec.lanes);
    let d = eval.dtype(v);
    // One more word a row, so that a column lies in as many banks as a row.
    let pad = (32 / d.bits().max(8)).max(1);
    let tile = k.shared("tile", BufDecl::rw(d, [TILE.into(), TILE.into()]).layout(Layout::Pad(pad)));

    let mut counted = dims.clone();
    counted[axis] = dims[axis].ceil_div(&TILE.into());
    counted[last] = dims[last].ceil_div(&TILE.into());
    let groups = elems(&counted);
    let g = eval.ix.bind("g", k.gx(), groups.clone());
    let at = name_coords(k, eval, &g, &counted);
    let first: Vec<Ex> = [axis, last]
        .into_iter()
        .map(|i| {
            let t = eval.ix.emit(k, &at[i]);
            k.let_("first", t * TILE)
        })
        .collect();
    let (near, far) = (k.let_("near", k.lane() % TILE), k.let_("far", k.lane() / TILE));
    let rows = group / TILE;
    // The element that has the lane along `axis` (or along the last dim), with its edge.
    let place = |k: &mut portwright_ir::kernel::Kb<'_>, eval: &mut Eval<'_>, along: usize, u: i64| {
        let far = if u == 0 { far.clone() } else { k.let_("far", &far + u * rows) };
        let (a, c) = if along == axis { (&near, &far) } else { (&far, &near) };
        let (mut coords, mut edge) = (at.clone(), Guard::new());
        for (i, first, own) in [(axis, &first[0], a), (last, &first[1], c)] {
            let x = k.let_("at", first + own);
            coords[i] = eval.ix.bind("at", x, dims[i].clone());
            if !dims[i].divisible_by(TILE, &|_| 1) {
                edge.push((coords[i].clone(), dims[i].clone()));
            }
        }
        (coords, edge, a.clone(), c.clone())
    };
    for u in 0..TILE / rows {
        eval.open();
        let (coords, edge, a, c) = place(k, eval, axis, u);
        let x = eval.value(k, v, &coords, &edge)?;
        // What lies beyond an edge is some number, which nobody reads.
        k.store(Mem::new(tile, vec![(c, 1), (a, 1)]), x);
        eval.close();
    }
    k.barrier(Level::Group);
    for u in 0..TILE / rows {
        eval.open();
        let (coords, edge, a, c) = place(k, eval, last, u);
        let x = k.load("x", Mem::new(tile, vec![(c, 1), (a, 1)]));
        eval.store(k, out, &coords, &edge, &x)?;
        eval.close();
    }
    Ok(Some(done(b, groups)))
}

/// The dim along which all operands run, if it is not the last one.
fn axis_of(eval: &mut Eval<'_>, v: ValueId, dims: &[SymExpr]) -> Option<usize> {
    let last = dims.len().checked_sub(1)?;
    let small = |i: usize| dims[i].as_const().is_some_and(|n| n < LEAST);
    eval.set_width(2);
    let mut along = |i: usize| {
        let mut coords: Vec<SymExpr> = dims.iter().map(|d| eval.ix.bind("p", 0.into(), d.clone())).collect();
        coords[i] = lane();
        eval.is_contiguous(v, &coords)
    };
    let found = if small(last) || along(last) { None } else { (0..last).rev().find(|&i| !small(i) && along(i)) };
    eval.set_width(1);
    found
}
