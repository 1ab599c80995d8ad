// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products on a matrix unit with tile registers.
//!
//! A task packs its block of rows of the left operand into scratch, tile by tile, with zeros where rows or summed coordinates end; the
//! right operand lies in panels already. Blocks of two by two tiles of sums stay in registers over all summed coordinates, go to scratch,
//! and from there, row by row, through the epilogue. Each result has one order of additions: the unit's within a tile, then tile by tile.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Atom, AtomId, BlockOrder, BufDecl, Ex, Kb, Mem, Operand, Place2, Ty, Via};
use portwright_ir::sym::{SymExpr, product};

use super::super::problem::{At, Problem};
use super::dots::grouped;
use super::eval::{Eval, Guard, Stop};
use super::gemm::Gemm;
use super::index::lane;
use super::{Begun, Built, Cx, finish, name_coords};
use crate::spec::TileForm;

/// Products that one task should form: some ten microseconds of a core with such a unit.
const TASK_PRODUCTS: i64 = 1 << 24;

/// Rows of a task at most.
const MOST_ROWS: i64 = 256;

/// The unit's instruction on these dtypes. A row of the right operand has neighbors along the summed dim for each column.
pub(super) fn atom(k: &mut Kb<'_>, form: TileForm, dtypes: [DType; 3]) -> AtomId {
    let ([side, _, deep], step) = (form.shape.map(i64::from), i64::from(group(form)));
    let register = |elements: i64, dtype: DType, pack: i64| Place2::TileReg {
        rows: side as u8,
        row_bytes: (elements * i64::from(dtype.bits() / 8)) as u16,
        pack: pack as u8,
    };
    k.module().add_atom(Atom {
        name: format!("tile_{}_{}", dtypes[0], dtypes[1]),
        shape: form.shape.map(|x| x as u16),
        dtypes,
        lanes: 1,
        operands: [register(deep, dtypes[0], 1), register(side * step, dtypes[1], step), register(side, dtypes[2], 1)],
    })
}

/// How a product is cut into tasks of tiles.
#[derive(Clone)]
pub(super) struct Cut {
    pub(super) m_total: SymExpr,
    pub(super) n_total: SymExpr,
    pub(super) batch: SymExpr,
    /// Tiles along the summed dim.
    pub(super) tiles_deep: SymExpr,
    /// Summed coordinates of all tiles, if known.
    packed: i64,
    /// Rows of a task, columns of a block, blocks in all, and blocks of a task.
    pub(super) rows: i64,
    pub(super) block: i64,
    pub(super) panels: SymExpr,
    pub(super) run: i64,
}

impl Cut {
    /// Rows in units, evenly, as many as leave what is packed of them, so many bytes a summed coordinate, in half of the second-level cache;
    /// then columns until a task forms so many products.
    pub(super) fn new(cx: &Cx<'_>, p: &Problem<'_>, form: TileForm, w: i64, (unit, bytes): (i64, i64), products: i64) -> Cut {
        let deep = i64::from(form.shape[2]);
        let m_total = product(p.m.iter().map(|x| &x.1));
        let (depth, n_total) = (p.k[0].1.clone(), p.n[0].1.clone());
        let tiles_deep = depth.ceil_div(&deep.into());
        let packed = tiles_deep.as_const().unwrap_or(1).max(1) * deep;
        let most = (i64::from(cx.spec.l2_bytes) / 2 / (packed * bytes) / unit * unit).clamp(unit, MOST_ROWS);
        let rows = m_total.as_const().map_or(most, |m| {
            let tasks = ((m + most - 1) / most).max(1);
            (((m + tasks - 1) / tasks + unit - 1) / unit * unit).max(unit)
        });
        let block = 2 * w;
        let panels = n_total.ceil_div(&block.into());
        let run = (products / rows.saturating_mul(block).saturating_mul(packed)).clamp(1, 16);
        Cut { m_total, n_total, batch: product(p.batch.iter().map(|x| &x.1)), tiles_deep, packed, rows, block, panels, run }
    }
    /// Products of a task.
    pub(super) fn products(&self) -> i64 {
        self.rows.saturating_mul(self.block * self.run).saturating_mul(self.packed)
    }
    pub(super) fn grid(&self) -> [SymExpr; 3] {
        [self.m_total.ceil_div(&self.rows.into()), self.panels.ceil_div(&self.run.into()), self.batch.clone()]
    }
}

/// Neighbors along the summed dim that lie next to each other in the right operand.
fn group(form: TileForm) -> u32 {
    crate::spec::ProductForm::Tile(form).group()
}

/// Whether the unit takes the operands: the left one has rows along the one summed dim, the right one lies in panels of `block` columns.
pub(super) fn fit(eval: &mut Eval<'_>, p: &Problem<'_>, form: TileForm, block: i64) -> bool {
    let ([(_, depth)], [(_, n)]) = (p.k.as_slice(), p.n.as_slice()) else { return false };
    let [rows, columns, deep] = form.shape.map(i64::from);
    let (w, step) = (i64::from(eval.width), i64::from(group(form)));
    if block != 2 * columns || columns != w || rows != columns || depth.as_const().is_none() || n.as_const().is_none() {
        return false;
    }
    let bind = |eval: &mut Eval<'_>, end: SymExpr| eval.ix.bind("fit", Ex::from(0), end);
    let mut at = At::default();
    for l in p.batch.iter().chain(&p.m) {
        let c = bind(eval, l.1.clone());
        at = at.with(std::slice::from_ref(l), &[c]);
    }
    let start = bind(eval, n.ceil_div(&block.into())) * block;
    let first = bind(eval, depth.ceil_div(&deep.into())) * deep;
    let width = eval.width;
    // Rows of a tile: neighbors in memory, one row of the panel after the other.
    eval.set_width(width * group(form));
    let row = |eval: &Eval<'_>, i: i64| grouped(eval, p, &at, &(start.clone() + w), &(first.clone() + i * step), group(form));
    let (top, below, last) = (row(eval, 0), row(eval, 1), row(eval, deep / step - 1));
    let right = [&top, &below, &last].iter().all(|c| eval.is_contiguous(p.rhs, c) && eval.reaches(p.rhs, c));
    let next = match (eval.resolve(p.rhs, &top), eval.resolve(p.rhs, &below)) {
        (Some((a, x)), Some((b, y))) => {
            let rows = x.len().checked_sub(2);
            a.id == b.id && (0..x.len()).all(|i| (&y[i] - &x[i]).is(i64::from(Some(i) == rows)))
        }
        _ => false,
    };
    eval.set_width(form.shape[2]);
    let (coords, conditions) = (p.lhs_at)(eval, &at.with(&p.k, &[first + lane()]));
    let left = eval.is_contiguous(p.lhs, &coords) && conditions.is_empty();
    eval.set_width(width);
    left && right && next
}

/// Builds the kernel of a problem that fits.
pub(super) fn build<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: Problem<'_>, form: TileForm) -> Result<Built, Stop> {
    let Begun { k, eval, outputs } = &mut b;
    let [side, _, deep] = form.shape.map(i64::from);
    let step = i64::from(group(form));
    let (dtypes, w) = ([eval.dtype(p.lhs), eval.dtype(p.rhs), p.acc], i64::from(eval.width));
    let atom = atom(k, form, dtypes);
    let m_total = product(p.m.iter().map(|x| &x.1));

    // Two tiles of rows at a time, or one where that is all; as many rows as leave the packed block in half of the second-level cache.
    let across = if m_total.as_const().is_some_and(|m| m <= side) { 1 } else { 2 };
    let unit = side * across;
    let cut = Cut::new(cx, &p, form, w, (unit, i64::from(dtypes[0].bits() / 8)), TASK_PRODUCTS);
    let Cut { n_total, batch, tiles_deep, rows, block, panels, run, .. } = cut.clone();
    let grid = cut.grid();

    let tile = [SymExpr::from(side), deep.into()];
    let packed = k.local("a", BufDecl::rw(dtypes[0], [SymExpr::from(rows / side), tiles_deep.clone()].into_iter().chain(tile)).align(64));
    let sums = k.local("sums", BufDecl::rw(p.acc, [SymExpr::from(unit), block.into()]).align(64));
    let g = Gemm::for_tiles(cx, p, outputs.clone());
    let p = &g.p;

    let z = k.gz();
    let z = eval.ix.bind("z", z, batch);
    let dims: Vec<SymExpr> = p.batch.iter().map(|x| x.1.clone()).collect();
    let coords = name_coords(k, eval, &z, &dims);
    let at = At::default().with(&p.batch, &coords);
    let m_dims: Vec<SymExpr> = p.m.iter().map(|x| x.1.clone()).collect();
    let m0 = k.let_("m0", k.gx() * rows);
    let left = k.let_("rows", (k.dim(&m_total) - &m0).min(rows));
    let blocks = k.let_("blocks", (&left + (unit - 1)) / unit);

    let mut stop = Ok(());
    k.for_("t", 0, &blocks * across, 1, |k, t| {
        k.for_("r", 0, side, 1, |k, r| {
            eval.open();
            stop = stop.clone().and_then(|()| {
                let row = k.let_("row", &m0 + &t * side + &r);
                let row = eval.ix.bind("row", row, m_total.clone());
                let rows = if m_dims.len() > 1 { name_coords(k, eval, &row, &m_dims) } else { vec![row.clone()] };
                let inside = vec![(row, m_total.clone())];
                pack_row(k, eval, p, &at.with(&p.m, &rows), &inside, form, |q| {
                    Mem::new(packed, vec![(t.clone(), 1), (q.clone(), 1), (r.clone(), 1), (Ex::from(0), deep as u32)])
                })
            });
            eval.close();
        });
    });
    stop?;

    let zero = if p.acc.is_float() { Ex::float(0.0) } else { Ex::int(0) };
    let frag = |o| Ty::Frag(atom, o);
    let p0 = k.let_("p0", k.gy() * run);
    let p1 = (&p0 + run).min(k.dim(&panels));
    let mut stop = Ok(());
    k.for_("p", p0, p1, 1, |k, panel| {
        eval.open();
        let start = eval.ix.bind("p", panel, panels.clone()) * block;
        k.for_("b", 0, &blocks, 1, |k, b| {
            eval.open();
            let c = k.frags("c", atom, Operand::C, &[across as u32, 2], zero.clone());
            k.for_("q", 0, k.dim(&tiles_deep), 1, |k, q| {
                eval.open();
                let at_q = eval.ix.bind("q", q.clone(), tiles_deep.clone()) * deep;
                let (a, x) = (k.var_uninit("a", &[across as u32], frag(Operand::A)), k.var_uninit("b", &[2], frag(Operand::B)));
                k.unroll("i", 0, across, |k, i| {
                    let t = &b * across + &i;
                    let mem = Mem::new(packed, vec![(t, 1), (q.clone(), 1), (Ex::from(0), side as u32), (Ex::from(0), deep as u32)]);
                    let v = k.v_frag(&mem, atom, Operand::A, BlockOrder::AsIs, Via::Tile);
                    k.set_value(&a.at([i]), v);
                });
                for j in 0..2 {
                    let coords = grouped_at(p, eval, &at, &(start.clone() + j * w), &at_q);
                    let Some((buf, coords)) = eval.resolve(p.rhs, &coords) else {
                        stop = Stop::no("a right operand that is not in memory");
                        continue;
                    };
                    let last = coords.len() - 1;
                    let length = |i: usize| match last - i {
                        0 => (side * step) as u32,
                        1 => (deep / step) as u32,
                        _ => 1,
                    };
                    let idx = coords.iter().enumerate().map(|(i, c)| (eval.ix.emit(k, c), length(i))).collect();
                    let v = k.v_frag(&Mem::new(buf, idx), atom, Operand::B, BlockOrder::AsIs, Via::Tile);
                    k.set_value(&x.at([Ex::from(j)]), v);
                }
                k.unroll("i", 0, across, |k, i| {
                    k.unroll("j", 0, 2, |k, j| {
                        k.mma(atom, &a.at([i.clone()]), &x.at([j.clone()]), &c.at([i.clone(), j]));
                    });
                });
                eval.close();
            });
            k.unroll("i", 0, across, |k, i| {
                k.unroll("j", 0, 2, |k, j| {
                    let mem = Mem::new(sums, vec![(&i * side, side as u32), (&j * w, w as u32)]);
                    k.store_frag(&mem, &c.at([i.clone(), j]), BlockOrder::AsIs, Via::Tile);
                });
            });
            let here = (&left - &b * unit).min(unit);
            k.for_("i", 0, here, 1, |k, i| {
                eval.open();
                stop = stop.clone().and_then(|()| {
                    let row = k.let_("row", &m0 + &b * unit + &i);
                    let row = eval.ix.bind("row", row, m_total.clone());
                    let rows = if m_dims.len() > 1 { name_coords(k, eval, &row, &m_dims) } else { vec![row] };
                    let at = at.with(&p.m, &rows);
                    (0..2).try_for_each(|j| {
                        let column = start.clone() + j * w + lane();
                        let guard = eval.guarded(&Guard::new(), &column, &n_total);
                        let x = k.load("s", Mem::new(sums, vec![(i.clone(), 1), (Ex::from(j * w), w as u32)]));
                        g.epilogue(k, eval, &at.with(&p.n, &[column]), &guard, x)
                    })
                });
                eval.close();
            });
            eval.close();
        });
        eval.close();
    });
    stop?;
    // Some thousand products a nanosecond.
    let products = cut.products();
    Ok(finish(b, grid, (products / 1000).clamp(1, i64::from(u32::MAX)) as u32))
}

/// Where the first element of a tile of the right operand is.
fn grouped_at(p: &Problem<'_>, eval: &Eval<'_>, at: &At, column: &SymExpr, first: &SymExpr) -> Vec<SymExpr> {
    (p.rhs_at)(eval, &at.with(&p.n, &[column.clone()]).with(&p.k, &[first.clone()])).0
}

/// Copies one row of the left operand, a tile's width at a time; what is not `inside` is zero.
fn pack_row(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    p: &Problem<'_>,
    at: &At,
    inside: &Guard,
    form: TileForm,
    to: impl Fn(&Ex) -> Mem,
) -> Result<(), Stop> {
    let (deep, depth, width) = (i64::from(form.shape[2]), p.k[0].1.clone(), eval.width);
    let tiles = depth.ceil_div(&deep.into());
    let mut stop = Ok(());
    k.for_("q", 0, k.dim(&tiles), 1, |k, q| {
        eval.open();
        eval.set_width(form.shape[2]);
        stop = (|| {
            let first = eval.ix.bind("q", q.clone(), tiles.clone()) * deep;
            let c = first + lane();
            let guard = eval.guarded(inside, &c, &depth);
            let (coords, _) = (p.lhs_at)(eval, &at.with(&p.k, &[c]));
            let x = eval.value(k, p.lhs, &coords, &guard)?;
            let x = eval.widen(&x);
            k.store(to(&q), x);
            Ok(())
        })();
        eval.set_width(width);
        eval.close();
    });
    stop
}
