// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Winograd's transforms: tiles of the input to points, sums of products at points to tiles of the result.
//!
//! Vectors run along channels. Rows and columns of a tile take twelve or thirteen operations each: points of both signs share their even
//! and odd parts. A task has a box of tiles; of the input it first copies what they cover, with zeros around it. A tile of the result lies
//! in scratch until all of its channels are known, so that what follows the convolution is written in rows.

use portwright_ir::graph::winograd::{SPAN, TILE};
use portwright_ir::graph::{Graph, Node, Op};
use portwright_ir::kernel::{BufDecl, Ex, Kb, Module};
use portwright_ir::sym::{SymExpr, product};

use super::super::transform::{points, results};
use super::boxes::{Corner, InputBox};
use super::channels::store;
use super::eval::{Eval, Stop};
use super::{Begun, Built, Cx, finish, name_coords, vector_loop};

/// Elements of points that a task should write or read.
const TASK_POINTS: i64 = 1 << 16;

const STEP: i64 = TILE as i64;
const WINDOW: i64 = SPAN as i64;

/// The transform of a region.
pub(crate) fn node_of(region: &Graph) -> Option<&Node> {
    region.order().into_iter().map(|n| region.node(n)).find(|n| matches!(n.op, Op::WinogradInput { .. } | Op::WinogradOutput { .. }))
}

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let Some(node) = node_of(cx.region) else { return Stop::no("no transform of tiles") };
    match &node.op {
        Op::WinogradInput { pads } => input(cx, module, width, node, pads),
        Op::WinogradOutput { .. } => output(cx, module, width, node),
        _ => Stop::no("no transform of tiles"),
    }
}

/// Tiles by rows and columns of an image, and how many of them a task takes.
struct Tiles {
    images: SymExpr,
    count: [SymExpr; 2],
    block: [i64; 2],
}

impl Tiles {
    /// Tiles over results of `len`; as many in a task as have about [`TASK_POINTS`], of which rows of the box fit `room` elements.
    fn new(images: SymExpr, len: [SymExpr; 2], channels: i64, room: i64) -> Self {
        let count = len.map(|l| l.ceil_div(&STEP.into()));
        let most = |i: usize| count[i].as_const().unwrap_or(16).max(1);
        let points = |rows: i64, columns: i64| rows * columns * WINDOW * WINDOW * channels;
        let read = |rows: i64, columns: i64| (rows * STEP + 2) * (columns * STEP + 2) * channels;
        let fits = |rows: i64, columns: i64| points(rows, columns) <= TASK_POINTS && read(rows, columns) <= room;
        let columns = (1..=most(1)).rev().find(|&c| fits(1, c)).unwrap_or(1);
        let rows = (1..=most(0)).rev().find(|&r| fits(r, columns)).unwrap_or(1);
        Tiles { images, count, block: [rows, columns] }
    }

    fn boxes(&self) -> [SymExpr; 2] {
        [0, 1].map(|i| self.count[i].ceil_div(&self.block[i].into()))
    }

    /// Walks over the tiles of the task `gx` in image `gz`: its corner, its tile in the box, its row and column in the image and its number.
    #[allow(clippy::type_complexity)]
    fn each<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        first: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &Corner) -> Result<(), Stop>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &Corner, &At) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let boxes = self.boxes();
        let (gx, gz) = (k.gx(), k.gz());
        let task = eval.ix.bind("task", gx, product(&boxes));
        let which = name_coords(k, eval, &task, &boxes);
        let n = eval.ix.bind("n", gz, self.images.clone());
        let (mut origin, mut ends) = (Vec::new(), Vec::new());
        for i in 0..2 {
            let at = eval.ix.emit(k, &(which[i].clone() * self.block[i]));
            let at = k.let_("at", at);
            ends.push(k.let_("len", (k.dim(&self.count[i]) - &at).min(self.block[i])));
            origin.push(eval.ix.bind("at", at, self.count[i].clone()));
        }
        let corner = Corner { n: n.clone(), g: 0.into(), origin };
        first(k, eval, &corner)?;
        let mut stop = Ok(());
        k.for_("ty", 0, &ends[0], 1, |k, ty| {
            eval.open();
            let ty = eval.ix.bind("ty", ty, self.block[0].into());
            k.for_("tx", 0, &ends[1], 1, |k, tx| {
                eval.open();
                let tx = eval.ix.bind("tx", tx, self.block[1].into());
                let at: Vec<Ex> = [(&ty, 0), (&tx, 1)]
                    .into_iter()
                    .map(|(t, i)| {
                        let ex = eval.ix.emit(k, &(corner.origin[i].clone() + t.clone()));
                        k.let_("tile", ex)
                    })
                    .collect();
                let image = eval.ix.emit(k, &n);
                let number = k.let_("t", (image * k.dim(&self.count[0]) + &at[0]) * k.dim(&self.count[1]) + &at[1]);
                let number = eval.ix.bind("t", number, product(&self.count) * self.images.clone());
                let at = At { local: [ty.clone(), tx], tile: [at[0].clone(), at[1].clone()], number };
                stop = body(k, eval, &corner, &at);
                eval.close();
            });
            eval.close();
        });
        stop
    }
}

/// A tile: within its task, within its image, and among all.
struct At {
    local: [SymExpr; 2],
    tile: [Ex; 2],
    number: SymExpr,
}

fn input(cx: &Cx<'_>, module: &mut Module, width: u32, node: &Node, pads: &[SymExpr]) -> Result<Built, Stop> {
    let (x, root) = (node.operands[0], node.results[0]);
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let dims = eval.dims(x);
    let (Some(channels), [low @ .., _, _]) = (dims[3].as_const(), pads) else {
        return Stop::no("tiles of a number of channels that is not known");
    };
    let pads: Vec<SymExpr> = pads.iter().map(|p| eval.syms.to_kernel(p)).collect();
    let len = [0, 1].map(|i| dims[1 + i].clone() + pads[i].clone() + pads[i + low.len()].clone() - 2);
    let element = i64::from(eval.dtype(x).bits().div_ceil(8));
    let tiles = Tiles::new(dims[0].clone(), len, channels, i64::from(cx.spec.l2_bytes) / 4 / element);
    let covered = InputBox {
        x,
        input: dims[1..3].to_vec(),
        block: tiles.block.to_vec(),
        kernel: vec![WINDOW; 2],
        strides: vec![STEP; 2],
        dilations: vec![1; 2],
        low: pads[..2].to_vec(),
        planar: false,
        channels,
    };
    let decl = BufDecl::rw(eval.dtype(x), [covered.extent(0).into(), covered.extent(1).into(), channels.into()]);
    let scratch = k.local("box", decl.align(64));
    let outputs = outputs.clone();
    tiles.each(k, eval, &mut |k, eval, corner| covered.fill(k, eval, scratch, corner), &mut |k, eval, _, at| {
        let end = SymExpr::from(channels);
        vector_loop(k, eval, "c", (0.into(), channels.into()), &end, &mut |k, eval, c, guard| {
            let mut d: Vec<Vec<Ex>> = Vec::with_capacity(SPAN);
            for j in 0..WINDOW {
                let column = (0..WINDOW)
                    .map(|i| {
                        let coords = [at.local[0].clone() * STEP + i, at.local[1].clone() * STEP + j, c.clone()];
                        eval.load(k, "d", scratch, &coords, guard)
                    })
                    .collect::<Result<Vec<Ex>, Stop>>()?;
                d.push(points(k, &column));
            }
            for i in 0..SPAN {
                let row: Vec<Ex> = d.iter().map(|column| column[i].clone()).collect();
                for (j, v) in points(k, &row).into_iter().enumerate() {
                    let coords = [SymExpr::from((i * SPAN + j) as i64), at.number.clone(), c.clone()];
                    store(cx, &outputs, k, eval, root, &coords, guard, v)?;
                }
            }
            Ok(())
        })
    })?;
    Ok(done(b, &tiles, channels))
}

fn output(cx: &Cx<'_>, module: &mut Module, width: u32, node: &Node) -> Result<Built, Stop> {
    let (m, root) = (node.operands[0], node.results[0]);
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let dims = eval.dims(root);
    let Some(channels) = dims[3].as_const() else { return Stop::no("tiles of a number of channels that is not known") };
    let tiles = Tiles::new(dims[0].clone(), [dims[1].clone(), dims[2].clone()], channels, i64::MAX);
    let padded = SymExpr::from(channels).round_up(i64::from(width));
    let scratch = k.local("tile", BufDecl::rw(eval.dtype(m), [(STEP * STEP).into(), padded]).align(64));
    let outputs = outputs.clone();
    let end = SymExpr::from(channels);
    tiles.each(k, eval, &mut |_, _, _| Ok(()), &mut |k, eval, corner, at| {
        vector_loop(k, eval, "c", (0.into(), channels.into()), &end, &mut |k, eval, c, guard| {
            let mut rows: Vec<Vec<Ex>> = Vec::with_capacity(SPAN);
            for i in 0..WINDOW {
                let row = (0..WINDOW)
                    .map(|j| eval.value(k, m, &[(i * WINDOW + j).into(), at.number.clone(), c.clone()], guard))
                    .collect::<Result<Vec<Ex>, Stop>>()?;
                rows.push(results(k, &row));
            }
            for j in 0..TILE {
                let column: Vec<Ex> = rows.iter().map(|r| r[j].clone()).collect();
                for (i, v) in results(k, &column).into_iter().enumerate() {
                    eval.store(k, scratch, &[((i * TILE + j) as i64).into(), c.clone()], guard, &v)?;
                }
            }
            Ok(())
        })?;
        // Tiles at the edge have fewer rows and columns.
        let ends: Vec<Ex> = (0..2).map(|i| k.let_("rows", (k.dim(&dims[1 + i]) - &at.tile[i] * STEP).min(STEP))).collect();
        let mut stop = Ok(());
        k.for_("i", 0, &ends[0], 1, |k, i| {
            k.for_("j", 0, &ends[1], 1, |k, j| {
                eval.open();
                let y = k.let_("y", &at.tile[0] * STEP + &i);
                let x = k.let_("x", &at.tile[1] * STEP + &j);
                let row = k.let_("row", &i * STEP + &j);
                let lead = [corner.n.clone(), eval.ix.bind("y", y, dims[1].clone()), eval.ix.bind("x", x, dims[2].clone())];
                let row = eval.ix.bind("row", row, (STEP * STEP).into());
                stop = vector_loop(k, eval, "c", (0.into(), channels.into()), &end, &mut |k, eval, c, guard| {
                    let v = eval.load(k, "v", scratch, &[row.clone(), c.clone()], guard)?;
                    let coords: Vec<SymExpr> = lead.iter().cloned().chain([c.clone()]).collect();
                    store(cx, &outputs, k, eval, root, &coords, guard, v)
                });
                eval.close();
            });
        });
        stop
    })?;
    Ok(done(b, &tiles, channels))
}

fn done(b: Begun<'_, '_>, tiles: &Tiles, channels: i64) -> Built {
    // Some sixteen elements of points a nanosecond.
    let cost = (tiles.block[0] * tiles.block[1] * WINDOW * WINDOW * channels / 16).clamp(1, i64::from(u32::MAX)) as u32;
    finish(b, [product(&tiles.boxes()), 1.into(), tiles.images.clone()], cost)
}
