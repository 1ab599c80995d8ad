// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The left operand's rows of a task in scratch, in the dtype of the sums: a narrow number is widened once, and not for each block of columns
//! that it meets.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Mem};

use super::super::problem::{At, Problem};
use super::eval::{Eval, Guard, Stop};
use super::index::lane;
use super::{name_coords, vector_loop};

/// Bytes between rows beyond their elements, so that rows whose distance is a power of two do not share the same lines of a cache.
const APART: i64 = 64;

/// Rows in scratch.
pub(super) struct Left {
    buf: Buf,
    rows: i64,
    /// Which row of the operand is the first.
    first: Ex,
}

/// Whether rows are worth widening: narrower than the sums, with neighbors along the one summed dim.
pub(super) fn fits(eval: &mut Eval<'_>, p: &Problem<'_>) -> bool {
    let [(_, depth)] = p.k.as_slice() else { return false };
    if eval.width == 1 || !p.acc.is_float() || eval.dtype(p.lhs) == p.acc {
        return false;
    }
    let mut at = At::default();
    for l in p.batch.iter().chain(&p.m) {
        let c = eval.ix.bind("fit", Ex::from(0), l.1.clone());
        at = at.with(std::slice::from_ref(l), &[c]);
    }
    let c = eval.ix.bind("fit", Ex::from(0), depth.clone()) + lane();
    let (coords, conditions) = (p.lhs_at)(eval, &at.with(&p.k, &[c]));
    conditions.is_empty() && eval.is_contiguous(p.lhs, &coords)
}

/// Bytes of a row.
pub(super) fn row_bytes(acc: DType, depth: i64) -> i64 {
    depth.saturating_mul(i64::from(acc.bits() / 8)).saturating_add(APART)
}

impl Left {
    /// Declares scratch for that many rows.
    pub(super) fn declare(k: &mut Kb<'_>, p: &Problem<'_>, rows: i64, first: Ex) -> Left {
        let depth = p.k.first().map_or(1.into(), |x| x.1.clone()) + APART / i64::from(p.acc.bits() / 8).max(1);
        Left { buf: k.local("left", BufDecl::rw(p.acc, [rows.into(), depth]).align(64)), rows, first }
    }

    /// Says that another row of the operand is the first.
    pub(super) fn begin_at(&mut self, first: Ex) {
        self.first = first;
    }

    /// Widens rows up to `end` of the operand.
    pub(super) fn fill(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, p: &Problem<'_>, at: &At, end: &Ex) -> Result<(), Stop> {
        let (dims, depth) = (p.m.iter().map(|x| x.1.clone()).collect::<Vec<_>>(), p.k[0].1.clone());
        let m_total = portwright_ir::sym::product(&dims);
        let mut stop = Ok(());
        k.for_("r", &self.first, end, 1, |k, r| {
            eval.open();
            let local = k.let_("r", &r - &self.first);
            let local = eval.ix.bind("r", local, self.rows.into());
            let row = eval.ix.bind("r", r, m_total);
            let rows = if dims.len() > 1 { name_coords(k, eval, &row, &dims) } else { dims.iter().map(|_| row.clone()).collect() };
            let at = at.with(&p.m, &rows);
            stop = vector_loop(k, eval, "c", (Ex::from(0), k.dim(&depth)), &depth, &mut |k, eval, c, guard: &Guard| {
                let (coords, _) = (p.lhs_at)(eval, &at.with(&p.k, &[c.clone()]));
                let x = eval.value(k, p.lhs, &coords, guard)?;
                let x = eval.widen(&x).cast(p.acc);
                eval.store(k, self.buf, &[local.clone(), c.clone()], guard, &x)
            });
            eval.close();
        });
        stop
    }

    /// One element: row `row` of the operand at a summed coordinate.
    pub(super) fn at(&self, k: &mut Kb<'_>, row: Ex, c: Ex) -> Ex {
        k.load("a", Mem::new(self.buf, vec![(row - &self.first, 1), (c, 1)]))
    }
}
