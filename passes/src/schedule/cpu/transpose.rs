// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maps that turn memory: what is read along one dim and written along another goes through squares of registers.
//!
//! As many vectors as a vector has lanes are read along the dim in which the operands lie, transposed by interleaving them in pairs, and
//! written along the last dim. Elementwise ops before and after the transpose are computed on the way in.

use portwright_ir::kernel::{Ex, Kb, Module};
use portwright_ir::sym::{SymExpr, product};

use super::eval::{Eval, Guard, Stop};
use super::index::lane;
use super::{Begun, Built, Cx, TASK_ELEMS, finish, name_coords};

/// Builds the kernel; `None` where vectors along the last dim are as good.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Option<Built>, Stop> {
    let [output] = cx.region.outputs() else { return Ok(None) };
    let value = output.value;
    let rank = cx.region.ty(value).rank();
    if rank < 2 || width < 2 || !width.is_power_of_two() {
        return Ok(None);
    }
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let dims = eval.dims(value);
    let last = rank - 1;
    let w = i64::from(width);
    let short = |d: &SymExpr| d.as_const().is_some_and(|n| n * 2 < w);
    if short(&dims[last]) {
        return Ok(None);
    }
    let Some(axis) = turned(eval, value, &dims).filter(|&a| !short(&dims[a])) else { return Ok(None) };
    let (len, rows) = (dims[last].clone(), dims[axis].clone());
    let mut outer: Vec<SymExpr> = dims[..last].to_vec();
    outer[axis] = rows.ceil_div(&w.into());
    let strips = product(&outer);
    let run = (TASK_ELEMS / (len.as_const().unwrap_or(64).saturating_mul(w)).max(1)).max(1);
    let s0 = k.let_("s0", k.gx() * run);
    let s1 = (&s0 + run).min(k.dim(&strips));
    let buf = outputs[0];
    let mut stop = Ok(());
    k.for_("s", s0, s1, 1, |k, s| {
        eval.open();
        stop = (|| {
            let s = eval.ix.bind("s", s, strips.clone());
            let mut lead = name_coords(k, eval, &s, &outer);
            let first = lead[axis].clone() * w;
            let whole = rows.divisible_by(w, &|_| 1);
            let ex = eval.ix.emit(k, &first);
            let named = k.let_("d", ex);
            let end = if whole { rows.clone() - (w - 1) } else { rows.clone() };
            lead[axis] = eval.ix.bind("d", named.clone(), end);
            let square = Square { value, buf, axis, lead: &lead, rows: &rows, len: &len };
            if whole {
                return square.strip(k, eval, false);
            }
            let mut stop = Ok(());
            k.if_((&named + w).le(k.dim(&rows)), |k| {
                eval.open();
                // All rows of this strip exist.
                let mut lead = lead.clone();
                lead[axis] = eval.ix.bind("d", named.clone(), rows.clone() - (w - 1));
                stop = Square { lead: &lead, ..square }.strip(k, eval, false);
                eval.close();
            });
            stop?;
            let mut stop = Ok(());
            k.if_((&named + w).gt(k.dim(&rows)), |k| {
                eval.open();
                stop = square.strip(k, eval, true);
                eval.close();
            });
            stop
        })();
        eval.close();
    });
    stop?;
    let cost = (TASK_ELEMS / 8) as u32 * (1 + cx.region.len() as u32 / 4);
    Ok(Some(finish(b, [strips.ceil_div(&run.into()), 1.into(), 1.into()], cost)))
}

/// The dim along which everything that a value needs lies in vectors, if that is not the last.
fn turned(eval: &mut Eval<'_>, value: portwright_ir::graph::ValueId, dims: &[SymExpr]) -> Option<usize> {
    let mut along = |axis: usize| {
        let at: Vec<SymExpr> =
            (0..dims.len()).map(|i| if i == axis { lane() } else { eval.ix.bind("p", Ex::from(0), dims[i].clone()) }).collect();
        eval.is_contiguous(value, &at)
    };
    let last = dims.len() - 1;
    if along(last) { None } else { (0..last).find(|&a| !dims[a].is(1) && along(a)) }
}

/// A strip of squares: as many rows as a vector has lanes.
#[derive(Copy, Clone)]
struct Square<'s> {
    value: portwright_ir::graph::ValueId,
    buf: portwright_ir::kernel::Buf,
    axis: usize,
    /// Coordinates but for the last; of the first row along the axis.
    lead: &'s [SymExpr],
    rows: &'s SymExpr,
    len: &'s SymExpr,
}

impl Square<'_> {
    fn strip(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, ragged: bool) -> Result<(), Stop> {
        let w = i64::from(eval.width);
        let hi = k.dim(self.len);
        let full = if self.len.divisible_by(w, &|_| 1) { hi.clone() } else { k.let_("full", (&hi / w) * w) };
        let mut stop = Ok(());
        k.for_("c", 0, &full, w, |k, c| {
            eval.open();
            let c = eval.ix.bind("c", c, self.len.clone() - (w - 1));
            stop = self.square(k, eval, &c, ragged, false);
            eval.close();
        });
        stop?;
        if self.len.divisible_by(w, &|_| 1) {
            return Ok(());
        }
        let mut stop = Ok(());
        k.if_(full.lt(&hi), |k| {
            eval.open();
            let c = eval.ix.bind("c", full.clone(), self.len.clone());
            stop = self.square(k, eval, &c, ragged, true);
            eval.close();
        });
        stop
    }

    /// One square; `ragged` where rows may lie behind the last one, `short` where columns may.
    fn square(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, c: &SymExpr, ragged: bool, short: bool) -> Result<(), Stop> {
        let w = i64::from(eval.width);
        let first = &self.lead[self.axis];
        let along = first.clone() + lane();
        let guard = if ragged { vec![(along.clone(), self.rows.clone())] } else { Guard::new() };
        let mut vectors = Vec::with_capacity(w as usize);
        for i in 0..w {
            let column = c.clone() + i;
            // Columns behind the last repeat it: they are not stored.
            let column = if short {
                let ex = eval.ix.emit(k, &column);
                let named = k.let_("col", ex.min(k.dim(self.len) - 1));
                eval.ix.bind("col", named, self.len.clone())
            } else {
                column
            };
            let mut at = self.lead.to_vec();
            at[self.axis] = along.clone();
            at.push(column);
            let v = eval.value(k, self.value, &at, &guard)?;
            let v = eval.widen(&v);
            vectors.push(k.let_("v", v));
        }
        // Interleaving the first half with the second, log2(w) times, is the transpose.
        let half = (w / 2) as usize;
        let list = |from: u16| -> Vec<u16> { (0..w as u16 / 2).flat_map(|i| [from + i, from + i + w as u16]).collect() };
        let (low, high) = (list(0), list(w as u16 / 2));
        for _ in 0..w.trailing_zeros() {
            let mut next = Vec::with_capacity(vectors.len());
            for i in 0..half {
                let (a, b) = (&vectors[i], &vectors[i + half]);
                next.push(k.let_("z", a.shufflev2(b, &low)));
                next.push(k.let_("z", a.shufflev2(b, &high)));
            }
            vectors = next;
        }
        for (r, v) in (0..w).zip(&vectors) {
            let row = first.clone() + r;
            let mut at = self.lead.to_vec();
            at[self.axis] = row.clone();
            let column = c.clone() + lane();
            at.push(column.clone());
            let mut guard = Guard::new();
            if ragged {
                guard.push((row, self.rows.clone()));
            }
            if short {
                guard.push((column, self.len.clone()));
            }
            eval.store(k, self.buf, &at, &guard, v)?;
        }
        Ok(())
    }
}
