// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Windows that slide over tensors with channels last: depthwise convolutions and pooling, channels in vectors.
//!
//! A tile is a few neighboring positions of a row: they share filters, and the input vectors on which they overlap are loaded once. Taps
//! outside the tensor are not visited: loops over rows of taps run over those that exist; within a row the tiles at either edge are
//! written out without the taps that lie outside. Rows of a size that is not known have their edge positions one at a time instead.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Node, Op, ReduceOp, ValueId};
use portwright_ir::kernel::{Buf, Ex, Kb, Module, Reg, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::channels::{store, tile_of};
use super::elementwise::{combine, identity};
use super::eval::{Eval, Guard, Stop};
use super::index::literal;
use super::{Begun, Built, Cx, TASK_ELEMS, finish, name_coords, vector_loop};

/// Most positions of a tile.
const TILE: i64 = 8;

/// Most tiles of a row that are written out apart because they touch its ends.
const EDGE_TILES: i64 = 4;

/// Whether a region is a pooling or a depthwise convolution with channels last.
pub(crate) fn takes(region: &Graph) -> bool {
    node_of(region).is_some()
}

fn node_of(region: &Graph) -> Option<&Node> {
    region.order().into_iter().map(|n| region.node(n)).find(|n| match &n.op {
        Op::Pool { channels_last, .. } => *channels_last,
        Op::ConvLast { channels, groups, planar, strides, .. } => {
            let of = |i: usize, at: usize| n.operands.get(i).and_then(|&v| region.ty(v).dims.get(at));
            let one = |d: Option<&SymExpr>| d.is_some_and(|d| d.is(1));
            !planar && channels == groups && one(of(1, 0)) && one(of(1, strides.len() + 1))
        }
        _ => false,
    })
}

/// What is made of the taps of a window.
enum Kind {
    /// A sum of products with a filter.
    Filter(ValueId),
    /// A reduction; for means, whether padding counts.
    Reduce(ReduceOp, bool),
}

struct Sliding<'c, 'a> {
    cx: &'c Cx<'a>,
    outputs: Vec<Buf>,
    kind: Kind,
    x: ValueId,
    root: ValueId,
    /// Dtype of the reduction.
    acc: DType,
    out: DType,
    channels: SymExpr,
    input: Vec<SymExpr>,
    positions: Vec<SymExpr>,
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    low: Vec<SymExpr>,
    high: Vec<SymExpr>,
}

/// Taps of a window along one dim.
#[derive(Clone)]
enum Taps {
    /// Those that exist, and how many count.
    Range { from: Ex, to: Ex, counted: Ex },
    /// Decided for each position where code is made.
    Written,
}

/// A row of positions.
#[derive(Clone)]
struct Row {
    n: SymExpr,
    /// Position along each dim but the last.
    at: Vec<SymExpr>,
    taps: Vec<Taps>,
}

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let Some(node) = node_of(cx.region) else { return Stop::no("no window") };
    let (x, root) = (node.operands[0], node.results[0]);
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let (kind, kernel, strides, dilations, pads) = match &node.op {
        Op::Pool { op, kernel, strides, dilations, pads, count_pad, .. } => {
            (Kind::Reduce(*op, *count_pad), kernel.clone(), strides, dilations, pads)
        }
        Op::ConvLast { strides, dilations, pads, .. } => {
            let dims = eval.dims(node.operands[1]);
            let taps: Option<Vec<i64>> = dims[1..=strides.len()].iter().map(SymExpr::as_const).collect();
            let Some(taps) = taps else { return Stop::no("a convolution with filters of a size that is not known") };
            (Kind::Filter(node.operands[1]), taps, strides, dilations, pads)
        }
        _ => return Stop::no("no window"),
    };
    let s = strides.len();
    let (from, dims) = (eval.dims(x), eval.dims(root));
    let d = eval.dtype(x);
    let acc = match &kind {
        Kind::Filter(_) if d.is_float() && d != DType::F64 => DType::F32,
        Kind::Reduce(ReduceOp::Mean, _) if !d.is_float() => return Stop::no("a mean of integers"),
        _ => d,
    };
    let channels = dims[s + 1].clone();
    if width > 1 && channels.is(1) {
        return Err(Stop::NeedScalar);
    }
    let sides = |p: &[SymExpr]| p.iter().map(|p| eval.syms.to_kernel(p)).collect::<Vec<_>>();
    let c = Sliding {
        cx,
        outputs: outputs.clone(),
        x,
        root,
        acc,
        out: eval.dtype(root),
        channels: channels.clone(),
        input: from[1..=s].to_vec(),
        positions: dims[1..=s].to_vec(),
        low: sides(&pads[..s]),
        high: sides(&pads[s..]),
        kernel,
        kind,
        strides: strides.clone(),
        dilations: dilations.clone(),
    };
    let lead: Vec<SymExpr> = dims[..s].to_vec();
    let rows = product(&lead);
    let taps: i64 = c.kernel.iter().product();
    let of_row = c.positions[s - 1].as_const().unwrap_or(64).saturating_mul(channels.as_const().unwrap_or(64)).max(1);
    let run = (TASK_ELEMS * 16 / of_row.saturating_mul(taps)).clamp(1, 64);
    let grid = [rows.ceil_div(&run.into()), 1.into(), 1.into()];
    let r0 = k.let_("r0", k.gx() * run);
    let r1 = (&r0 + run).min(k.dim(&rows));
    let mut stop = Ok(());
    k.for_("r", r0, r1, 1, |k, r| {
        eval.open();
        let at = eval.ix.bind("r", r, rows.clone());
        let lead = name_coords(k, eval, &at, &lead);
        let taps = (0..s - 1).map(|i| c.range(k, eval, i, &lead[1 + i])).collect();
        stop = c.row(k, eval, &Row { n: lead[0].clone(), at: lead[1..].to_vec(), taps });
        eval.close();
    });
    stop?;
    let cost = (of_row.saturating_mul(run).saturating_mul(taps) / 30).clamp(1, i64::from(u32::MAX)) as u32;
    Ok(finish(b, grid, cost))
}

impl<'a> Sliding<'_, 'a> {
    fn last(&self) -> usize {
        self.positions.len() - 1
    }

    /// Taps along dim `i` at a position, found when the kernel runs.
    fn range(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, i: usize, at: &SymExpr) -> Taps {
        let (kernel, dilation) = (self.kernel[i], self.dilations[i]);
        let start = at.clone() * self.strides[i];
        let (start, low) = (eval.ix.emit(k, &start), k.dim(&self.low[i]));
        let start = k.let_("start", start);
        // Taps before the tensor, and up to its end: never negative numbers divided.
        let before = (&low - &start).max(0);
        let from = k.let_("from", ((before + (dilation - 1)) / dilation).min(kernel));
        let room = (k.dim(&(self.input[i].clone() + self.low[i].clone())) - &start).max(0);
        let to = k.let_("to", ((room + (dilation - 1)) / dilation).min(kernel));
        let counted = match &self.kind {
            Kind::Reduce(ReduceOp::Mean, true) => {
                let padded = self.input[i].clone() + self.low[i].clone() + self.high[i].clone();
                let room = (k.dim(&padded) - &start).max(0);
                ((room + (dilation - 1)) / dilation).min(kernel)
            }
            _ => (&to - &from).max(0),
        };
        let counted = k.let_("n", counted);
        Taps::Range { from, to, counted }
    }

    /// All positions of a row.
    fn row(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, row: &Row) -> Result<(), Stop> {
        let i = self.last();
        let registers = i64::from(self.cx.spec.vec_regs);
        let most = (registers - 2 - self.kernel[i].min(registers / 2)).clamp(1, TILE);
        let (stride, reach) = (self.strides[i], (self.kernel[i] - 1) * self.dilations[i]);
        if let (Some(len), Some(input), Some(low)) = (self.positions[i].as_const(), self.input[i].as_const(), self.low[i].as_const()) {
            let tile = tile_of(len, most);
            let tiles = (len + tile - 1) / tile;
            let inside = |t: i64| t * tile * stride >= low && (t * tile + tile - 1) * stride - low + reach < input && (t + 1) * tile <= len;
            let first = (0..tiles).find(|&t| inside(t)).unwrap_or(tiles);
            let behind = (first..tiles).find(|&t| !inside(t)).unwrap_or(tiles);
            if first + tiles - behind <= EDGE_TILES {
                for t in (0..first).chain(behind..tiles) {
                    self.tile(k, eval, row, &(t * tile).into(), tile.min(len - t * tile))?;
                }
                let mut stop = Ok(());
                if first < behind {
                    k.for_("x", first * tile, behind * tile, tile, |k, x| {
                        eval.open();
                        let x = eval.ix.bind("x", x, (behind * tile - tile + 1).into());
                        stop = self.tile_inside(k, eval, row, &x, tile);
                        eval.close();
                    });
                }
                return stop;
            }
        }
        // Where taps exist is found while the kernel runs.
        let len = k.dim(&self.positions[i]);
        let low = k.dim(&self.low[i]);
        let first = k.let_("first", ((low + (stride - 1)) / stride).min(&len));
        let room = (k.dim(&(self.input[i].clone() + self.low[i].clone())) - reach).max(0);
        let behind = k.let_("behind", ((room + (stride - 1)) / stride).min(&len).max(&first));
        let whole = k.let_("whole", &first + ((&behind - &first) / most) * most);
        let mut stop = Ok(());
        k.for_("x", &first, &whole, most, |k, x| {
            eval.open();
            let x = eval.ix.bind("x", x, self.positions[i].clone() - (most - 1));
            stop = self.tile_inside(k, eval, row, &x, most);
            eval.close();
        });
        stop?;
        for (lo, hi) in [(literal(k, 0), first), (whole, len)] {
            let mut stop = Ok(());
            k.for_("x", lo, hi, 1, |k, x| {
                eval.open();
                let x = eval.ix.bind("x", x, self.positions[i].clone());
                let taps = self.range(k, eval, i, &x);
                let mut row = row.clone();
                row.taps.push(taps);
                stop = self.vectors(k, eval, &row, &x, 1, false);
                eval.close();
            });
            stop?;
        }
        Ok(())
    }

    /// A tile at a known place: each position has the taps that it has.
    fn tile(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, row: &Row, x: &SymExpr, size: i64) -> Result<(), Stop> {
        let mut row = row.clone();
        row.taps.push(Taps::Written);
        self.vectors(k, eval, &row, x, size, false)
    }

    /// A tile all of whose taps exist.
    fn tile_inside(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, row: &Row, x: &SymExpr, size: i64) -> Result<(), Stop> {
        let mut row = row.clone();
        row.taps.push(Taps::Written);
        self.vectors(k, eval, &row, x, size, true)
    }

    /// All channels of a tile.
    fn vectors(&self, k: &mut Kb<'_>, eval: &mut Eval<'a>, row: &Row, x: &SymExpr, size: i64, inside: bool) -> Result<(), Stop> {
        let width = eval.width;
        let ty = Ty::Scalar(self.acc);
        let hi = k.dim(&self.channels);
        vector_loop(k, eval, "c", (0.into(), hi), &self.channels, &mut |k, eval, c, guard| {
            let start = match &self.kind {
                Kind::Filter(_) if self.acc.is_float() => Ex::float(0.0),
                Kind::Filter(_) => Ex::int(0),
                Kind::Reduce(op, _) => identity(*op, self.acc),
            };
            let acc = k.var_array("acc", &[size as u32], start.typed(&ty).splat(width));
            self.taps(k, eval, row, x, size, inside, (c, guard), &acc, &mut Vec::new())?;
            for i in 0..size {
                let own = x.clone() + i;
                let v = acc.at([Ex::from(i)]).get();
                let v = match &self.kind {
                    Kind::Reduce(ReduceOp::Mean, pad) => {
                        let n = self.counted(row, &own, inside, *pad);
                        // A window that lies in the padding alone has no mean; its sum is 0.
                        v / eval.widen(&n.max(1).cast(self.acc))
                    }
                    _ => v,
                };
                let mut coords = vec![row.n.clone()];
                coords.extend(row.at.iter().cloned());
                coords.extend([own, c.clone()]);
                store(self.cx, &self.outputs, k, eval, self.root, &coords, guard, v.cast(self.out))?;
            }
            Ok(())
        })
    }

    /// How many elements a mean divides by.
    fn counted(&self, row: &Row, x: &SymExpr, inside: bool, pad: bool) -> Ex {
        let i = self.last();
        let mut n = Ex::lit(DType::I64, 1.0);
        for t in &row.taps {
            n = n * match t {
                Taps::Range { counted, .. } => counted.clone(),
                Taps::Written if inside => Ex::from(self.kernel[i]),
                Taps::Written => {
                    let known = |e: &SymExpr| e.as_const().unwrap_or(0);
                    let padded = known(&self.input[i]) + known(&self.low[i]) + known(&self.high[i]);
                    let counts = |t: i64| {
                        let p = known(x) * self.strides[i] + t * self.dilations[i];
                        if pad { p < padded } else { p >= known(&self.low[i]) && p < known(&self.input[i]) + known(&self.low[i]) }
                    };
                    Ex::from((0..self.kernel[i]).filter(|&t| counts(t)).count() as i64)
                }
            };
        }
        n
    }

    /// Visits the taps: loops along the dims before the last, written out along it where that is known.
    #[allow(clippy::too_many_arguments)]
    fn taps(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        row: &Row,
        x: &SymExpr,
        size: i64,
        inside: bool,
        (c, guard): (&SymExpr, &Guard),
        acc: &Reg,
        taps: &mut Vec<SymExpr>,
    ) -> Result<(), Stop> {
        let i = taps.len();
        if i > self.last() {
            return self.take(k, eval, row, x, 0, (c, guard), acc, taps);
        }
        match &row.taps[i] {
            Taps::Range { from, to, .. } => {
                let mut stop = Ok(());
                k.for_("t", from, to, 1, |k, t| {
                    eval.open();
                    taps.push(eval.ix.bind("t", t, self.kernel[i].into()));
                    stop = self.taps(k, eval, row, x, size, inside, (c, guard), acc, taps);
                    taps.pop();
                    eval.close();
                });
                stop
            }
            Taps::Written => {
                eval.open();
                for t in 0..self.kernel[i] {
                    taps.push(t.into());
                    for place in 0..size {
                        let p = self.position(i, &(x.clone() + place), &t.into());
                        if inside || eval.ix.in_range(&p, &self.input[i]) {
                            self.take(k, eval, row, x, place, (c, guard), acc, taps)?;
                        }
                    }
                    taps.pop();
                }
                eval.close();
                Ok(())
            }
        }
    }

    fn position(&self, i: usize, at: &SymExpr, tap: &SymExpr) -> SymExpr {
        at.clone() * self.strides[i] + tap.clone() * self.dilations[i] - self.low[i].clone()
    }

    /// Takes one tap in.
    #[allow(clippy::too_many_arguments)]
    fn take(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        row: &Row,
        x: &SymExpr,
        place: i64,
        (c, guard): (&SymExpr, &Guard),
        acc: &Reg,
        taps: &[SymExpr],
    ) -> Result<(), Stop> {
        let i = self.last();
        let mut coords = vec![row.n.clone()];
        coords.extend((0..i).map(|d| self.position(d, &row.at[d], &taps[d])));
        coords.extend([self.position(i, &(x.clone() + place), &taps[i]), c.clone()]);
        let v = eval.value(k, self.x, &coords, guard)?;
        let v = eval.widen(&v);
        let reg = acc.at([Ex::from(place)]);
        let old = reg.get();
        let new = match &self.kind {
            Kind::Filter(w) => {
                let coords: Vec<SymExpr> = std::iter::once(0.into()).chain(taps.iter().cloned()).chain([0.into(), c.clone()]).collect();
                let f = eval.value(k, *w, &coords, guard)?;
                let f = eval.widen(&f).cast(self.acc);
                let v = v.cast(self.acc);
                if self.acc.is_float() { v.fma(f, old) } else { old.add_w(v.mul_w(f)) }
            }
            Kind::Reduce(op, _) => {
                // What a vector has beyond the channels is computed and not stored.
                combine(*op, self.acc, &old, &v)
            }
        };
        k.set(&reg, new);
        Ok(())
    }
}
