// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products: a block of accumulators in registers, rows of the left operand broadcast against vectors of the right one.
//!
//! A task computes a block of rows x columns of one batch element. Within it, blocks of `mr` rows (then 4, then 1, so that no row is
//! computed twice) meet blocks of two vectors of columns; the summed dims run innermost, in order, so each result has one order of
//! additions. A right operand whose columns are not neighbors in memory is first packed into a panel of scratch. Results go through the
//! epilogue in registers; a long epilogue goes row by row through scratch instead, to keep the code small.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Reg, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::super::grouped;
use super::super::problem::{At, Feed, Problem};
use super::dots::dots_fit;
use super::eval::{Eval, Guard, Stop};
use super::index::lane;
use super::left::{self, Left};
use super::{Begun, Built, Cx, finish, heights, name_coords, planes, tiles};
use crate::spec::{DotForm, ProductForm};

/// Epilogue ops beyond which results go through scratch.
const LONG_EPILOGUE: usize = 8;

/// Products that one task should form: a few microseconds of a core, so that a small product has tasks for several.
const TASK_PRODUCTS: i64 = 1 << 18;

/// Tasks that keep many threads busy, with one more or less of them.
const MANY_TASKS: i64 = 32;

/// Products of one result that are written out rather than looped over, where few rows share them.
const UNROLLED_PRODUCTS: i64 = 64;

/// Everything that the loops share.
pub(super) struct Gemm<'c, 'a, 'p> {
    cx: &'c Cx<'a>,
    /// What is computed.
    pub(super) p: Problem<'p>,
    outputs: Vec<Buf>,
    /// Vectors of columns in a block.
    nv: u32,
    /// Packed panel `[K, columns of a block]`.
    panel: Option<Buf>,
    /// Results of a block, for long epilogues.
    tile: Option<Buf>,
    /// Rows of the left operand, where they are widened.
    left: Option<Left>,
    /// Whether the summed dims are written out.
    unrolled: bool,
    /// The instruction that adds a few products at a time.
    dot: Option<DotForm>,
}

/// A vector of columns.
pub(super) struct Column {
    /// The first of them.
    pub(super) start: SymExpr,
    /// Coordinates, with the lane in them.
    pub(super) at: At,
    /// Which of them exist.
    pub(super) guard: Guard,
}

/// Bytes of a page, and of a way of a first-level cache: what lies so far apart meets in one set.
const PAGE: i64 = 4096;

/// Builds the kernel of a problem.
pub(crate) fn build<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, problem: Problem<'_>) -> Result<Built, Stop> {
    let Begun { k, eval, outputs } = &mut b;
    let width = eval.width;
    let p = problem;
    let (n_last, n_outer) = match p.n.split_last() {
        Some((l, o)) => (l.1.clone(), o.to_vec()),
        None => (1.into(), Vec::new()),
    };
    let w = i64::from(width);
    let nv: u32 = if n_last.as_const().is_some_and(|n| n <= w) { 1 } else { 2 };
    let nr = w * i64::from(nv);
    let m_total = product(p.m.iter().map(|x| &x.1));
    let most = i64::from(((cx.spec.vec_regs.saturating_sub(2 + nv)) / nv).clamp(1, 14));
    // Rows whose distance is a multiple of a page lie in one set of the first-level cache, which has so many ways of a page each; two are
    // left to the right operand.
    let bits = i64::from(eval.dtype(p.lhs).bits());
    let pitch = product(p.k.iter().map(|x| &x.1)).as_const().map_or(1, |n| n * bits / 8);
    let most = if pitch % PAGE == 0 { most.min((i64::from(cx.spec.l1_bytes) / PAGE - 2).max(4)) } else { most };
    // Rows of a known number are cut evenly.
    let mr = m_total.as_const().map_or(most, |m| {
        let blocks = ((m + most - 1) / most).max(1);
        ((m + blocks - 1) / blocks).max(1)
    });
    let operands = [eval.dtype(p.lhs), eval.dtype(p.rhs)];
    if let ProductForm::Tile(form) = cx.spec.products(operands[0], operands[1], p.acc)
        && width > 1
        && p.starts.is_none()
        && tiles::fit(eval, &p, form, nr)
    {
        return tiles::build(cx, b, p, form);
    }
    if let (Some(form), DType::F32, true) = (cx.spec.split_tile(), p.acc, width > 1 && p.starts.is_none())
        && let Some(parts) = planes::fit(eval, &p, form, nr)
    {
        return planes::build(cx, b, p, form, parts);
    }
    let dot = cx.spec.dot(operands[0], operands[1], p.acc).filter(|&form| width > 1 && dots_fit(eval, &p, form, nr));
    let k_total = product(p.k.iter().map(|x| &x.1));
    let batch = product(p.batch.iter().map(|x| &x.1));
    let outer_total = product(n_outer.iter().map(|x| &x.1));

    // Rows that are widened stay in half of the second-level cache, and so do rows that would crowd a panel out of it.
    let widens = dot.is_none() && left::fits(eval, &p);
    let l2 = i64::from(cx.spec.l2_bytes);
    let panel_bytes = k_total.as_const().unwrap_or(0).saturating_mul(nr * i64::from(eval.dtype(p.rhs).bits()) / 8);
    let far = dot.is_none()
        && m_total.as_const().is_some_and(|m| m.saturating_mul(pitch) > l2)
        && (8 * mr).saturating_mul(pitch).saturating_add(panel_bytes) > l2 / 4 * 3;
    let held = match (widens, far) {
        (true, _) => l2 / 2 / left::row_bytes(p.acc, k_total.as_const().unwrap_or(512)),
        (_, true) => l2 / 2 / pitch.max(1),
        _ => i64::MAX,
    };
    let together = (held / mr).clamp(1, 8) * mr;

    // Blocks of a task: up to 8 blocks of rows, evenly cut, and as many columns as make a task worth its start. A right operand is read
    // once however few the rows are.
    let mc = match m_total.as_const() {
        Some(m) => {
            let tasks = (m + together - 1) / together;
            (((m + tasks.max(1) - 1) / tasks.max(1) + mr - 1) / mr * mr).max(mr)
        }
        None => together,
    };
    let rows_of_task = m_total.as_const().map_or(4 * mr, |m| m.min(mc)).max(8);
    let depth = k_total.as_const().unwrap_or(512).max(1);
    // What each task does once for its rows, to widen them or to bring them near, is worth the more the more columns meet them, as long as
    // there are tasks for many threads.
    let task_products = if widens { 4 * TASK_PRODUCTS } else { TASK_PRODUCTS };
    let blocks = m_total.ceil_div(&mc.into()).as_const().unwrap_or(1).saturating_mul(n_last.ceil_div(&nr.into()).as_const().unwrap_or(1));
    let least = if widens || far { (blocks / MANY_TASKS).clamp(1, 8) } else { 1 };
    let nc = nr * (task_products / rows_of_task.saturating_mul(nr).saturating_mul(depth)).clamp(least, 8);
    let outer_run = match n_last.as_const() {
        Some(n) => (task_products / rows_of_task.saturating_mul(n.max(1)).saturating_mul(depth)).clamp(1, 256),
        None => 1,
    };
    let col_tasks = n_last.ceil_div(&nc.into());
    let row_tasks = if p.starts.is_some() { 1.into() } else { m_total.ceil_div(&mc.into()) };
    let grid = [row_tasks, &col_tasks * &outer_total.ceil_div(&outer_run.into()), batch.clone()];

    let packs = width > 1 && p.feed != Feed::Direct && dot.is_none();
    let panel = packs.then(|| k.local("panel", BufDecl::rw(p.acc, [k_total.clone(), nr.into()]).align(64)));
    let epilogue = cx.region.node_ids().filter(|&n| cx.region.node(n).op.is_elementwise()).count();
    let tile = (epilogue > LONG_EPILOGUE).then(|| k.local("tile", BufDecl::rw(p.acc, [mr.into(), nr.into()]).align(64)));

    let few = m_total.as_const().is_some_and(|m| m < 8);
    let unrolled = p.feed == Feed::Direct && dot.is_none() && few && k_total.as_const().is_some_and(|n| n <= UNROLLED_PRODUCTS);
    let m0 = if p.starts.is_some() { Ex::from(0) } else { k.let_("m0", k.gx() * mc) };
    let left = widens.then(|| Left::declare(k, &p, mc, m0.clone()));
    let mut g = Gemm { cx, p, outputs: outputs.clone(), nv, panel, tile, left, unrolled, dot };

    let z = k.gz();
    let z = eval.ix.bind("z", z, batch);
    let batch_dims: Vec<SymExpr> = g.p.batch.iter().map(|x| x.1.clone()).collect();
    let batch_coords = name_coords(k, eval, &z, &batch_dims);
    let at = At::default().with(&g.p.batch, &batch_coords);
    let columns = Columns { n_outer, n_last: n_last.clone(), outer_total: outer_total.clone(), outer_run, col_tasks, nc, nr };
    match g.p.starts {
        None => {
            let m1 = k.let_("m1", (&m0 + mc).min(k.dim(&m_total)));
            g.rows(k, eval, &at, &columns, (&m0, &m1), (&m_total, mr))?;
        }
        Some(starts) => {
            let count = g.p.batch.first().and_then(|x| x.1.as_const()).unwrap_or(1);
            let (from, to) = grouped::rows(k, eval, starts, &z, count, &m_total)?;
            let mut stop = Ok(());
            k.for_("m0", from, &to, mc, |k, m0| {
                eval.open();
                let m1 = k.let_("m1", (&m0 + mc).min(&to));
                if let Some(left) = &mut g.left {
                    left.begin_at(m0.clone());
                }
                stop = g.rows(k, eval, &at, &columns, (&m0, &m1), (&m_total, mr));
                eval.close();
            });
            stop?;
        }
    }
    // Some 25 products a nanosecond.
    let columns =
        n_last.as_const().map_or(nc, |n| n.min(nc)).saturating_mul(outer_total.as_const().map_or(outer_run, |n| n.min(outer_run)));
    let products = rows_of_task.saturating_mul(columns).saturating_mul(depth);
    let cost = (products / 25).clamp(1, i64::from(u32::MAX)) as u32;
    Ok(finish(b, grid, cost))
}

impl<'c, 'a, 'p> Gemm<'c, 'a, 'p> {
    /// What the epilogue of a problem needs that is computed in tiles.
    pub(super) fn for_tiles(cx: &'c Cx<'a>, p: Problem<'p>, outputs: Vec<Buf>) -> Self {
        Gemm { cx, p, outputs, nv: 2, panel: None, tile: None, left: None, unrolled: false, dot: None }
    }
}

/// How the columns of a problem are cut into tasks.
struct Columns {
    n_outer: Vec<(char, SymExpr)>,
    n_last: SymExpr,
    outer_total: SymExpr,
    outer_run: i64,
    col_tasks: SymExpr,
    nc: i64,
    nr: i64,
}

impl Gemm<'_, '_, '_> {
    /// All columns of the task for rows `rows`.
    fn rows(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        c: &Columns,
        rows: (&Ex, &Ex),
        total: (&SymExpr, i64),
    ) -> Result<(), Stop> {
        if let Some(left) = &self.left {
            left.fill(k, eval, &self.p, at, rows.1)?;
        }
        if c.n_outer.is_empty() {
            let n0 = k.let_("n0", k.gy() * c.nc);
            let n1 = k.let_("n1", (&n0 + c.nc).min(k.dim(&c.n_last)));
            return self.columns(k, eval, at, c, (n0, n1), rows, total);
        }
        let tasks = k.dim(&c.col_tasks.maximum(&1.into()));
        let n0 = k.let_("n0", (k.gy() % &tasks) * c.nc);
        let n1 = k.let_("n1", (&n0 + c.nc).min(k.dim(&c.n_last)));
        let o0 = k.let_("o0", (k.gy() / &tasks) * c.outer_run);
        let o1 = (&o0 + c.outer_run).min(k.dim(&c.outer_total));
        let outer_dims: Vec<SymExpr> = c.n_outer.iter().map(|x| x.1.clone()).collect();
        let mut stop = Ok(());
        k.for_("o", o0, o1, 1, |k, o| {
            eval.open();
            let o = eval.ix.bind("o", o, c.outer_total.clone());
            let coords = name_coords(k, eval, &o, &outer_dims);
            stop = self.columns(k, eval, &at.with(&c.n_outer, &coords), c, (n0.clone(), n1.clone()), rows, total);
            eval.close();
        });
        stop
    }

    /// Columns `n0..n1`.
    #[allow(clippy::too_many_arguments)]
    fn columns(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        c: &Columns,
        (n0, n1): (Ex, Ex),
        rows: (&Ex, &Ex),
        (m_total, mr): (&SymExpr, i64),
    ) -> Result<(), Stop> {
        let (n_last, nr) = (&c.n_last, c.nr);
        let whole = n_last.divisible_by(nr, &|_| 1);
        if let (Some(n), true) = (n_last.as_const(), c.col_tasks.is(1)) {
            return self.static_columns(k, eval, at, n, nr, rows, m_total, mr);
        }
        if let Some(n) = n_last.as_const() {
            // Whole blocks by number, so that what lies in panels is found without a division.
            let last = k.let_("pfull", n1.clone() / nr);
            let mut stop = Ok(());
            k.for_("p", n0 / nr, &last, 1, |k, block| {
                eval.open();
                let start = eval.ix.bind("p", block, (n / nr).into()) * nr;
                stop = self.block_column(k, eval, at, &start, &Vec::new(), rows, m_total, mr);
                eval.close();
            });
            stop?;
            let mut stop = Ok(());
            if !whole {
                k.if_((last * nr).lt(&n1), |k| {
                    eval.open();
                    let start = SymExpr::from(n / nr * nr);
                    stop = self.block_column(k, eval, at, &start, &vec![(start.clone(), n.into())], rows, m_total, mr);
                    eval.close();
                });
            }
            return stop;
        }
        let full = if whole { n1.clone() } else { k.let_("nfull", &n0 + ((&n1 - &n0) / nr) * nr) };
        let mut stop = Ok(());
        k.for_("n", n0, &full, nr, |k, n| {
            eval.open();
            let n = eval.ix.bind("n", n, n_last.clone() - (nr - 1));
            stop = self.block_column(k, eval, at, &n, &Vec::new(), rows, m_total, mr);
            eval.close();
        });
        stop?;
        if whole {
            return Ok(());
        }
        let mut stop = Ok(());
        k.if_(full.lt(&n1), |k| {
            eval.open();
            let n = eval.ix.bind("n", full.clone(), n_last.clone());
            let edge = vec![(n.clone(), n_last.clone())];
            stop = self.block_column(k, eval, at, &n, &edge, rows, m_total, mr);
            eval.close();
        });
        stop
    }

    /// All columns of a row of a known number of them: what lies where is known, so edges have the masks that they need and no others.
    #[allow(clippy::too_many_arguments)]
    fn static_columns(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        n: i64,
        nr: i64,
        rows: (&Ex, &Ex),
        m_total: &SymExpr,
        mr: i64,
    ) -> Result<(), Stop> {
        let full = n / nr * nr;
        // Before, inside and behind where the right operand has no edge.
        let (from, to) = match self.p.interior {
            Some((lo, hi)) if self.unrolled => {
                let from = ((lo.max(0) + nr - 1) / nr * nr).min(full);
                (from, (from..full).step_by(nr as usize).take_while(|x| x + nr - 1 <= hi).last().map_or(from, |x| x + nr))
            }
            _ => (0, full),
        };
        for (lo, hi) in [(0, from), (from, to), (to, full)] {
            let mut stop = Ok(());
            if hi - lo == nr {
                eval.open();
                stop = self.block_column(k, eval, at, &lo.into(), &Vec::new(), rows, m_total, mr);
                eval.close();
            } else if hi > lo {
                k.for_("p", 0, (hi - lo) / nr, 1, |k, x| {
                    eval.open();
                    let x = eval.ix.bind("p", x, ((hi - lo) / nr).into()) * nr + lo;
                    stop = self.block_column(k, eval, at, &x, &Vec::new(), rows, m_total, mr);
                    eval.close();
                });
            }
            stop?;
        }
        if full < n {
            eval.open();
            let start = SymExpr::from(full);
            let stop = self.block_column(k, eval, at, &start, &vec![(start.clone(), n.into())], rows, m_total, mr);
            eval.close();
            stop?;
        }
        Ok(())
    }

    /// One block of columns against all rows of the task.
    #[allow(clippy::too_many_arguments)]
    fn block_column(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        n: &SymExpr,
        edge: &Guard,
        (m0, m1): (&Ex, &Ex),
        m_total: &SymExpr,
        mr: i64,
    ) -> Result<(), Stop> {
        let w = i64::from(eval.width);
        let last: Vec<(char, SymExpr)> = self.p.n.last().cloned().into_iter().collect();
        // Coordinates and masks of each vector of the block.
        let mut vectors: Vec<Column> = Vec::new();
        for j in 0..i64::from(self.nv) {
            let start = n.clone() + j * w;
            let c = if eval.width == 1 { start.clone() } else { start.clone() + lane() };
            // A vector that lies behind the edge as a whole is not computed.
            let outside = |end: &SymExpr| eval.ix.bounds(&(&c - end)).0 >= 0;
            if j > 0 && edge.iter().any(|(_, end)| outside(end)) {
                break;
            }
            let guard = edge.iter().fold(Guard::new(), |g, (_, end)| eval.guarded(&g, &c, end));
            vectors.push(Column { start, at: at.with(&last, &[c]), guard });
        }
        if let Some(panel) = self.panel {
            self.pack(k, eval, panel, at, n, edge, &vectors)?;
        }
        let sizes = heights(m_total.as_const().filter(|_| self.p.starts.is_none()), mr, 4);
        let mut from = m0.clone();
        for (i, &rows) in sizes.iter().enumerate() {
            let last = i + 1 == sizes.len();
            let to = if last { m1.clone() } else { k.let_("mfull", &from + ((m1 - &from) / rows) * rows) };
            let mut stop = Ok(());
            k.for_("m", &from, &to, rows, |k, m| {
                eval.open();
                let m = eval.ix.bind("m", m, m_total.clone() - (rows - 1));
                stop = self.block(k, eval, &vectors, &m, rows);
                eval.close();
            });
            stop?;
            from = to;
        }
        Ok(())
    }

    /// Fills the panel with the right operand of one block of columns.
    #[allow(clippy::too_many_arguments)]
    fn pack(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        panel: Buf,
        at: &At,
        n: &SymExpr,
        edge: &Guard,
        vectors: &[Column],
    ) -> Result<(), Stop> {
        let w = eval.width;
        let k_dims: Vec<SymExpr> = self.p.k.iter().map(|x| x.1.clone()).collect();
        let mut coords = Vec::new();
        if self.p.feed != Feed::PackScalar {
            return self.sum(k, eval, &k_dims, &mut coords, &mut |k, eval, kc, flat| {
                for (j, column) in vectors.iter().enumerate() {
                    let (coords, guard) = self.right(eval, column, kc);
                    let x = eval.value(k, self.p.rhs, &coords, &guard)?;
                    let x = eval.widen(&x).cast(self.p.acc);
                    let to = [flat.clone(), SymExpr::from(j as i64 * i64::from(w)) + lane()];
                    eval.store(k, panel, &to, &Vec::new(), &x)?;
                }
                Ok(())
            });
        }
        // A column at a time: where it lies is found once for all summed dims.
        let last: Vec<(char, SymExpr)> = self.p.n.last().cloned().into_iter().collect();
        let columns = i64::from(w) * vectors.len() as i64;
        let mut stop = Ok(());
        eval.set_width(1);
        k.for_("q", 0, columns, 1, |k, q| {
            eval.open();
            let q = eval.ix.bind("q", q, columns.into());
            let c = n + &q;
            // Columns behind the edge repeat the last one: they are computed and not stored.
            let c = edge.first().map_or(c.clone(), |(_, end)| c.minimum(&(end.clone() - 1)));
            let ex = eval.ix.emit(k, &c);
            let named = k.let_("col", ex);
            let end = self.p.n.last().map_or(1.into(), |x| x.1.clone());
            let c = eval.ix.bind("col", named, end);
            let at = at.with(&last, &[c]);
            stop = self.sum(k, eval, &k_dims, &mut coords, &mut |k, eval, kc, flat| {
                let (coords, inside) = (self.p.rhs_at)(eval, &at.with(&self.p.k, kc));
                let x = eval.value(k, self.p.rhs, &coords, &inside)?;
                let x = x.cast(self.p.acc);
                eval.store(k, panel, &[flat.clone(), q.clone()], &Vec::new(), &x)
            });
            eval.close();
        });
        eval.set_width(w);
        stop
    }

    /// Coordinates of row `i` of a block: named ahead of the summed loops when rows are several dims.
    pub(super) fn row_coords(&self, eval: &mut Eval<'_>, named: &[Reg], m: &SymExpr, i: &SymExpr, i_ex: &Ex) -> Vec<SymExpr> {
        if named.is_empty() {
            return vec![m + i];
        }
        named.iter().zip(&self.p.m).map(|(r, (_, d))| eval.ix.bind("mi", r.at([i_ex.clone()]).get(), d.clone())).collect()
    }

    /// Where a vector of the right operand is read at summed coordinates, and which of its elements are not zero.
    fn right(&self, eval: &Eval<'_>, column: &Column, kc: &[SymExpr]) -> (Vec<SymExpr>, Guard) {
        let (coords, inside) = (self.p.rhs_at)(eval, &column.at.with(&self.p.k, kc));
        // What lies beyond the edge is not stored; it need not be kept from being read where there is memory.
        if eval.reaches(self.p.rhs, &coords) {
            return (coords, inside);
        }
        (coords, column.guard.iter().chain(&inside).cloned().collect())
    }

    /// Adds the products of a block one summed coordinate after the other.
    #[allow(clippy::too_many_arguments)]
    fn products(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        at: &At,
        vectors: &[Column],
        m: &SymExpr,
        rows: i64,
        named: &[Reg],
        c: &Reg,
    ) -> Result<(), Stop> {
        let w = eval.width;
        let k_dims: Vec<SymExpr> = self.p.k.iter().map(|x| x.1.clone()).collect();
        self.sum(k, eval, &k_dims, &mut Vec::new(), &mut |k, eval, kc, flat| {
            let mut b = Vec::new();
            for (j, column) in vectors.iter().enumerate() {
                let x = match self.panel {
                    Some(panel) => {
                        let at = [flat.clone(), SymExpr::from(j as i64 * i64::from(w)) + lane()];
                        eval.load(k, "b", panel, &at, &Vec::new())?
                    }
                    None => {
                        let (coords, guard) = self.right(eval, column, kc);
                        let x = eval.value(k, self.p.rhs, &coords, &guard)?;
                        let x = eval.widen(&x).cast(self.p.acc);
                        k.let_("b", x)
                    }
                };
                b.push(x);
            }
            let mut stop = Ok(());
            k.unroll("i", 0, rows, |k, i_ex| {
                eval.open();
                stop = (|| {
                    let i = eval.ix.bind("i", i_ex.clone(), rows.into());
                    let row = self.row_coords(eval, named, m, &i, &i_ex);
                    let a = match &self.left {
                        Some(left) => {
                            let (row, c) = (eval.ix.emit(k, &(m + &i)), eval.ix.emit(k, flat));
                            left.at(k, row, c)
                        }
                        None => {
                            let (coords, inside) = (self.p.lhs_at)(eval, &at.with(&self.p.k, kc).with(&self.p.m, &row));
                            eval.value(k, self.p.lhs, &coords, &inside)?.cast(self.p.acc)
                        }
                    };
                    let a = if w > 1 { k.let_("a", a.splat(w)) } else { a };
                    for (j, b) in b.iter().enumerate() {
                        let reg = c.at([i_ex.clone(), Ex::from(j)]);
                        let old = reg.get();
                        let new = if self.p.acc.is_float() { a.fma(b, old) } else { old.add_w(a.mul_w(b)) };
                        k.set(&reg, new);
                    }
                    Ok(())
                })();
                eval.close();
            });
            stop
        })
    }

    /// `rows` rows against all vectors of the block.
    pub(super) fn block(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, vectors: &[Column], m: &SymExpr, rows: i64) -> Result<(), Stop> {
        let w = eval.width;
        let m_dims: Vec<SymExpr> = self.p.m.iter().map(|x| x.1.clone()).collect();
        let zero = if self.p.acc.is_float() { Ex::float(0.0) } else { Ex::int(0) };
        let zero = zero.typed(&Ty::Scalar(self.p.acc)).splat(w);
        let c = k.var_array("c", &[rows as u32, self.nv], zero);
        let many = m_dims.len() > 1;
        let named: Vec<Reg> = if many {
            m_dims.iter().map(|_| k.var_array("mi", &[rows as u32], Ex::int(0).typed(&Ty::Scalar(DType::I64)))).collect()
        } else {
            Vec::new()
        };
        if many {
            k.unroll("i", 0, rows, |k, i_ex| {
                eval.open();
                let i = eval.ix.bind("i", i_ex.clone(), rows.into());
                for (x, r) in eval.ix.delinearize(&(m + &i), &m_dims).iter().zip(&named) {
                    let ex = eval.ix.emit(k, x);
                    k.set(&r.at([i_ex.clone()]), ex);
                }
                eval.close();
            });
        }
        let at = vectors.first().map(|v| v.at.clone()).unwrap_or_default();
        match self.dot {
            Some(form) => self.dots(k, eval, form, vectors, m, rows, &named, &c)?,
            None => self.products(k, eval, &at, vectors, m, rows, &named, &c)?,
        }
        match self.tile {
            None => {
                let mut stop = Ok(());
                k.unroll("i", 0, rows, |k, i_ex| {
                    eval.open();
                    stop = (|| {
                        let i = eval.ix.bind("i", i_ex.clone(), rows.into());
                        let row = self.row_coords(eval, &named, m, &i, &i_ex);
                        for (j, Column { at, guard, .. }) in vectors.iter().enumerate() {
                            let x = c.at([i_ex.clone(), Ex::from(j)]).get();
                            self.epilogue(k, eval, &at.with(&self.p.m, &row), guard, x)?;
                        }
                        Ok(())
                    })();
                    eval.close();
                });
                stop
            }
            Some(tile) => {
                k.unroll("i", 0, rows, |k, i_ex| {
                    for j in 0..self.nv {
                        let x = c.at([i_ex.clone(), Ex::from(j)]).get();
                        let mem = portwright_ir::kernel::Mem::new(tile, vec![(i_ex.clone(), 1), (Ex::from(i64::from(j * w)), w)]);
                        k.store(mem, x);
                    }
                });
                let mut stop = Ok(());
                k.for_("i", 0, rows, 1, |k, i_ex| {
                    eval.open();
                    stop = (|| {
                        let i = eval.ix.bind("i", i_ex.clone(), rows.into());
                        let row = if many {
                            let linear = m + &i;
                            name_coords(k, eval, &linear, &m_dims)
                        } else {
                            vec![m + &i]
                        };
                        for (j, Column { at, guard, .. }) in vectors.iter().enumerate() {
                            let mem =
                                portwright_ir::kernel::Mem::new(tile, vec![(i_ex.clone(), 1), (Ex::from(i64::from(j as u32 * w)), w)]);
                            let x = k.load("c", mem);
                            self.epilogue(k, eval, &at.with(&self.p.m, &row), guard, x)?;
                        }
                        Ok(())
                    })();
                    eval.close();
                });
                stop
            }
        }
    }

    /// What follows the contraction, on one vector of results.
    pub(super) fn epilogue(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, at: &At, guard: &Guard, x: Ex) -> Result<(), Stop> {
        let coords = (self.p.root_at)(eval, at);
        let x = x.cast(self.p.out);
        let x = k.let_("s", x);
        eval.bind(self.p.root, &coords, guard, x.clone());
        let follow = eval.forward(self.p.root, &coords, guard);
        for (o, buf) in self.cx.region.outputs().iter().zip(&self.outputs) {
            let Some((at, guard)) = follow.get(&o.value) else {
                return Stop::no("an output of a contraction that is not one result an element");
            };
            eval.bind(self.p.root, &coords, guard, x.clone());
            let v = eval.value(k, o.value, at, guard)?;
            eval.store(k, *buf, at, guard, &v)?;
        }
        Ok(())
    }

    /// Loops over the summed dims in order; the body gets their coordinates and the flat position.
    fn sum<'e>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'e>,
        dims: &[SymExpr],
        coords: &mut Vec<SymExpr>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'e>, &[SymExpr], &SymExpr) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if coords.len() == dims.len() {
            let flat = coords.iter().zip(dims).fold(SymExpr::from(0), |f, (c, d)| &(&f * d) + c);
            let coords = coords.clone();
            return body(k, eval, &coords, &flat);
        }
        let d = dims[coords.len()].clone();
        if let (Some(n), true) = (d.as_const(), self.unrolled) {
            return (0..n).try_for_each(|i| {
                coords.push(i.into());
                let stop = self.sum(k, eval, dims, coords, body);
                coords.pop();
                stop
            });
        }
        let mut stop = Ok(());
        let hi = k.dim(&d);
        k.for_("k", 0, hi, 1, |k, i| {
            eval.open();
            let at = eval.ix.bind("k", i, d.clone());
            coords.push(at);
            stop = self.sum(k, eval, dims, coords, body);
            coords.pop();
            eval.close();
        });
        stop
    }
}
