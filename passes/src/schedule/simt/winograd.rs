// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Winograd's transforms: a lane has one channel of one tile, neighbors have neighboring channels.

use portwright_ir::graph::winograd::{SPAN, TILE};
use portwright_ir::graph::{Node, Op};
use portwright_ir::kernel::{Ex, Module};
use portwright_ir::sym::SymExpr;

use super::super::transform::{points, results};
use super::{Built, Cx, Guard, Stop, done, each_lane, elems, name_coords, store_outputs};

const STEP: i64 = TILE as i64;
const WINDOW: i64 = SPAN as i64;

/// Builds the kernel of a transform.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module, node: &Node) -> Result<Built, Stop> {
    match &node.op {
        Op::WinogradInput { pads } => input(cx, module, node, pads),
        _ => output(cx, module, node),
    }
}

fn tiles(len: &SymExpr) -> SymExpr {
    len.ceil_div(&STEP.into())
}

fn input(cx: &Cx<'_>, module: &mut Module, node: &Node, pads: &[SymExpr]) -> Result<Built, Stop> {
    let mut b = cx.begin(module, 1);
    let (x, root) = (node.operands[0], node.results[0]);
    let (from, dims) = (b.eval.dims(x), b.eval.dims(root));
    let pads: Vec<SymExpr> = pads.iter().map(|p| b.eval.syms.to_kernel(p)).collect();
    let ([images, height, width, channels], [low_y, low_x, high_y, high_x]) = (&from[..], &pads[..]) else {
        return Stop::no("tiles of other than images with two spatial dims");
    };
    let counted = [
        images.clone(),
        tiles(&(height.clone() + low_y.clone() + high_y.clone() - 2)),
        tiles(&(width.clone() + low_x.clone() + high_x.clone() - 2)),
        channels.clone(),
    ];
    let outputs = b.outputs.clone();
    let groups = each_lane(cx, &mut b, &elems(&counted), &mut |k, eval, i| {
        let at = name_coords(k, eval, i, &counted);
        let number = &(&(&at[0] * &counted[1]) + &at[1]) * &counted[2] + at[2].clone();
        let number = eval.ix.emit(k, &number);
        let number = k.let_("t", number);
        let number = eval.ix.bind("t", number, elems(&counted[..3]));
        let mut columns: Vec<Vec<Ex>> = Vec::with_capacity(SPAN);
        for j in 0..WINDOW {
            let mut column = Vec::with_capacity(SPAN);
            for i in 0..WINDOW {
                let y = at[1].clone() * STEP + i - low_y.clone();
                let x_at = at[2].clone() * STEP + j - low_x.clone();
                let guard = eval.guarded(&eval.guarded(&Guard::new(), &y, height), &x_at, width);
                column.push(eval.value(k, x, &[at[0].clone(), y, x_at, at[3].clone()], &guard)?);
            }
            columns.push(points(k, &column));
        }
        for i in 0..SPAN {
            let row: Vec<Ex> = columns.iter().map(|c| c[i].clone()).collect();
            for (j, v) in points(k, &row).into_iter().enumerate() {
                let coords = [SymExpr::from((i * SPAN + j) as i64), number.clone(), at[3].clone()];
                eval.bind(root, &coords, &Guard::new(), v);
                store_outputs(cx, &outputs, k, eval, &dims, &coords, &Guard::new())?;
            }
        }
        Ok(())
    })?;
    Ok(done(b, groups))
}

fn output(cx: &Cx<'_>, module: &mut Module, node: &Node) -> Result<Built, Stop> {
    let mut b = cx.begin(module, 1);
    let (m, root) = (node.operands[0], node.results[0]);
    let dims = b.eval.dims(root);
    let [images, height, width, channels] = &dims[..] else {
        return Stop::no("tiles of other than images with two spatial dims");
    };
    let counted = [images.clone(), tiles(height), tiles(width), channels.clone()];
    let outputs = b.outputs.clone();
    let groups = each_lane(cx, &mut b, &elems(&counted), &mut |k, eval, i| {
        let at = name_coords(k, eval, i, &counted);
        let number = &(&(&at[0] * &counted[1]) + &at[1]) * &counted[2] + at[2].clone();
        let number = eval.ix.emit(k, &number);
        let number = k.let_("t", number);
        let number = eval.ix.bind("t", number, elems(&counted[..3]));
        let mut rows: Vec<Vec<Ex>> = Vec::with_capacity(SPAN);
        for i in 0..WINDOW {
            let mut row = Vec::with_capacity(SPAN);
            for j in 0..WINDOW {
                row.push(eval.value(k, m, &[(i * WINDOW + j).into(), number.clone(), at[3].clone()], &Guard::new())?);
            }
            rows.push(results(k, &row));
        }
        for j in 0..TILE {
            let column: Vec<Ex> = rows.iter().map(|r| r[j].clone()).collect();
            for (i, v) in results(k, &column).into_iter().enumerate() {
                // Tiles at the edge have fewer rows and columns.
                let (y, x) = (at[1].clone() * STEP + i as i64, at[2].clone() * STEP + j as i64);
                let guard = eval.guarded(&eval.guarded(&Guard::new(), &y, height), &x, width);
                let coords = [at[0].clone(), y, x, at[3].clone()];
                eval.bind(root, &coords, &guard, v);
                store_outputs(cx, &outputs, k, eval, &dims, &coords, &guard)?;
            }
        }
        Ok(())
    })?;
    Ok(done(b, groups))
}
