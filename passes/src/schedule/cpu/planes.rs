// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of f32 products on a matrix unit that multiplies bf16.
//!
//! A number is the sum of three of bf16, each the rounded rest of those before it: 24 bits. Of the nine products of two such sums, the six
//! largest count; the others are below the last place of f32. Weights lie in planes already; a task splits its rows of the left operand once.
//!
//! The unit takes subnormal numbers as zero, and parts of what is close to the largest or the smallest number are none that it has. So a task
//! whose rows hold magnitudes outside [2^-60, 2^30] (but zero) and a block of results that holds infinities, NaN or magnitudes below 2^-60 is
//! computed again in f32 as any other sum of products: what is not finite, and all that overflows on the way, shows in the results.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ValueId};
use portwright_ir::kernel::{BlockOrder, Buf, BufDecl, Ex, Kb, Mem, Operand, Reg, Ty, Via};
use portwright_ir::sym::SymExpr;

use super::super::problem::{At, Problem};
use super::dots::grouped;
use super::eval::{Eval, Guard, Stop};
use super::gemm::{Column, Gemm};
use super::index::lane;
use super::tiles::{Cut, atom};
use super::{Begun, Built, Cx, finish, name_coords};
use crate::spec::TileForm;

/// Products of f32 that one task should form: some ten microseconds of a core with such a unit.
const TASK_PRODUCTS: i64 = 1 << 22;

/// Which planes of the left and the right operand meet, in an order that loads few tiles.
const PAIRS: [(usize, usize); 6] = [(0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0)];

/// Largest and smallest magnitude of a left operand of which no part is one that the unit does not have.
const WITHIN: (f64, f64) = (1_073_741_824.0, 8.673617379884035e-19);

/// The three values whose sum the right operand is.
fn planes(eval: &Eval<'_>, rhs: ValueId) -> Option<[ValueId; 3]> {
    let g = eval.graph;
    let sum = |v: ValueId| match g.producer(v).map(|n| (&n.op, n.operands.as_slice())) {
        Some((Op::Binary(BinaryOp::Add), &[x, y])) => Some((x, y)),
        _ => None,
    };
    let part = |v: ValueId| match g.producer(v).map(|n| (&n.op, n.operands.as_slice())) {
        Some((Op::Cast { .. }, &[x])) if g.ty(x).dtype == DType::BF16 => Some(x),
        _ => None,
    };
    let (first, last) = sum(rhs)?;
    let (a, b) = sum(first)?;
    Some([part(a)?, part(b)?, part(last)?])
}

/// The planes of the right operand, if the unit takes the operands: rows along the one summed dim, and panels of two tiles of columns.
pub(super) fn fit(eval: &mut Eval<'_>, p: &Problem<'_>, form: TileForm, block: i64) -> Option<[ValueId; 3]> {
    let parts = planes(eval, p.rhs)?;
    let ([(_, depth)], [(_, n)]) = (p.k.as_slice(), p.n.as_slice()) else { return None };
    let [rows, columns, deep] = form.shape.map(i64::from);
    let w = i64::from(eval.width);
    if block != 2 * columns || columns != w || rows != columns || deep != 2 * w || depth.as_const().is_none() || n.as_const().is_none() {
        return None;
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
    eval.set_width(width * 2);
    let row = |eval: &Eval<'_>, i: i64| grouped(eval, p, &at, &(start.clone() + w), &(first.clone() + i * 2), 2);
    let (top, below) = (row(eval, 0), row(eval, 1));
    let right = parts.iter().all(|&v| {
        let next = match (eval.resolve(v, &top), eval.resolve(v, &below)) {
            (Some((a, x)), Some((b, y))) => {
                let rows = x.len().checked_sub(2);
                a.id == b.id && (0..x.len()).all(|i| (&y[i] - &x[i]).is(i64::from(Some(i) == rows)))
            }
            _ => false,
        };
        next && [&top, &below].iter().all(|c| eval.is_contiguous(v, c) && eval.reaches(v, c))
    });
    eval.set_width(width);
    let (coords, conditions) = (p.lhs_at)(eval, &at.with(&p.k, &[first + lane()]));
    (right && conditions.is_empty() && eval.is_contiguous(p.lhs, &coords)).then_some(parts)
}

/// Magnitudes seen so far, lane by lane.
struct Seen {
    most: Reg,
    least: Reg,
}

impl Seen {
    fn new(k: &mut Kb<'_>, w: u32) -> Seen {
        let float = |v: f64| Ex::float(v).typed(&Ty::Scalar(DType::F32)).splat(w);
        Seen { most: k.var("most", float(0.0)), least: k.var("least", float(1.0)) }
    }
    fn add(&self, k: &mut Kb<'_>, x: &Ex, w: u32) {
        let float = |v: f64| Ex::float(v).typed(&Ty::Scalar(DType::F32)).splat(w);
        let size = k.let_("size", x.abs());
        k.set(&self.most, self.most.get().max(&size));
        k.set(&self.least, self.least.get().min(size.equals(float(0.0)).select(float(1.0), &size)));
    }
    /// Whether all lie in between, or are zero; NaN does not.
    fn within(&self, most: f64, least: f64) -> Ex {
        let float = |v: f64| Ex::float(v).typed(&Ty::Scalar(DType::F32));
        self.most.get().hmax().le(float(most)) & self.least.get().hmin().ge(float(least))
    }
}

/// Builds the kernel of a problem that fits.
pub(super) fn build<'a>(cx: &Cx<'a>, mut b: Begun<'a, '_>, p: Problem<'_>, form: TileForm, parts: [ValueId; 3]) -> Result<Built, Stop> {
    let Begun { k, eval, outputs } = &mut b;
    let [side, _, deep] = form.shape.map(i64::from);
    let (w, lanes) = (i64::from(eval.width), eval.width);
    let atom = atom(k, form, [DType::BF16, DType::BF16, DType::F32]);

    // Two tiles of rows at a time, in three planes.
    let unit = side * 2;
    let cut = Cut::new(cx, &p, form, w, (unit, 6), TASK_PRODUCTS);
    let Cut { m_total, n_total, batch, tiles_deep, rows, block, panels, run, .. } = cut.clone();
    let grid = cut.grid();

    let dims = [3.into(), SymExpr::from(rows / side), tiles_deep.clone(), side.into(), deep.into()];
    let split = k.local("a", BufDecl::rw(DType::BF16, dims).align(64));
    let sums = k.local("sums", BufDecl::rw(DType::F32, [SymExpr::from(unit), block.into()]).align(64));
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
    let row_at = |k: &mut Kb<'_>, eval: &mut Eval<'_>, i: Ex| {
        let row = k.let_("row", &m0 + i);
        let row = eval.ix.bind("row", row, m_total.clone());
        let rows = if m_dims.len() > 1 { name_coords(k, eval, &row, &m_dims) } else { m_dims.iter().map(|_| row.clone()).collect() };
        (row, at.with(&p.m, &rows))
    };

    let seen = Seen::new(k, lanes);
    let mut stop = Ok(());
    k.for_("t", 0, &blocks * 2, 1, |k, t| {
        k.for_("r", 0, side, 1, |k, r| {
            eval.open();
            let (row, at) = row_at(k, eval, &t * side + &r);
            let inside = vec![(row, m_total.clone())];
            k.for_("q", 0, k.dim(&tiles_deep), 1, |k, q| {
                eval.open();
                stop = stop.clone().and_then(|()| {
                    let first = eval.ix.bind("q", q.clone(), tiles_deep.clone()) * deep;
                    (0..2).try_for_each(|h| {
                        let c = first.clone() + h * w + lane();
                        let guard = eval.guarded(&inside, &c, &p.k[0].1);
                        let (coords, _) = (p.lhs_at)(eval, &at.with(&p.k, &[c]));
                        let x = eval.value(k, p.lhs, &coords, &guard)?;
                        let x = eval.widen(&x);
                        seen.add(k, &x, lanes);
                        split_into(k, split, x, lanes, |i| {
                            vec![(Ex::from(i), 1), (t.clone(), 1), (q.clone(), 1), (r.clone(), 1), (Ex::from(h * w), lanes)]
                        });
                        Ok(())
                    })
                });
                eval.close();
            });
            eval.close();
        });
    });
    stop?;
    let usual = k.let_("usual", seen.within(WITHIN.0, WITHIN.1));

    let frag = |o| Ty::Frag(atom, o);
    let p0 = k.let_("p0", k.gy() * run);
    let p1 = (&p0 + run).min(k.dim(&panels));
    let mut stop = Ok(());
    k.for_("p", p0, p1, 1, |k, panel| {
        eval.open();
        let start = eval.ix.bind("p", panel, panels.clone()) * block;
        k.for_("b", 0, &blocks, 1, |k, b| {
            eval.open();
            let c = k.frags("c", atom, Operand::C, &[2, 2], Ex::float(0.0));
            k.for_("q", 0, k.dim(&tiles_deep), 1, |k, q| {
                eval.open();
                let at_q = eval.ix.bind("q", q.clone(), tiles_deep.clone()) * deep;
                let (a, x) = (k.var_uninit("a", &[2], frag(Operand::A)), k.var_uninit("b", &[2], frag(Operand::B)));
                let mut loaded = (None, None);
                for (i, j) in PAIRS {
                    if loaded.0 != Some(i) {
                        for t in 0..2 {
                            let tile =
                                [(Ex::from(i), 1), (&b * 2 + t, 1), (q.clone(), 1), (Ex::from(0), side as u32), (Ex::from(0), deep as u32)];
                            let v = k.v_frag(&Mem::new(split, tile.to_vec()), atom, Operand::A, BlockOrder::AsIs, Via::Tile);
                            k.set_value(&a.at([Ex::from(t)]), v);
                        }
                    }
                    if loaded.1 != Some(j) {
                        for t in 0..2 {
                            let first = at.with(&p.n, &[start.clone() + t * w]).with(&p.k, &[at_q.clone()]);
                            let coords = (p.rhs_at)(eval, &first).0;
                            let Some((buf, coords)) = eval.resolve(parts[j], &coords) else {
                                stop = Stop::no("a right operand that is not in memory");
                                continue;
                            };
                            let last = coords.len() - 1;
                            let length = |i: usize| match last - i {
                                0 => (side * 2) as u32,
                                1 => (deep / 2) as u32,
                                _ => 1,
                            };
                            let idx = coords.iter().enumerate().map(|(i, c)| (eval.ix.emit(k, c), length(i))).collect();
                            let v = k.v_frag(&Mem::new(buf, idx), atom, Operand::B, BlockOrder::AsIs, Via::Tile);
                            k.set_value(&x.at([Ex::from(t)]), v);
                        }
                    }
                    loaded = (Some(i), Some(j));
                    for i in 0..2 {
                        for j in 0..2 {
                            k.mma(atom, &a.at([Ex::from(i)]), &x.at([Ex::from(j)]), &c.at([Ex::from(i), Ex::from(j)]));
                        }
                    }
                }
                eval.close();
            });
            for i in 0..2 {
                for j in 0..2 {
                    let mem = Mem::new(sums, vec![(Ex::from(i * side), side as u32), (Ex::from(j * w), lanes)]);
                    k.store_frag(&mem, &c.at([Ex::from(i), Ex::from(j)]), BlockOrder::AsIs, Via::Tile);
                }
            }
            let cell = |i: &Ex, j: i64| Mem::new(sums, vec![(i.clone(), 1), (Ex::from(j * w), lanes)]);
            let seen = Seen::new(k, lanes);
            k.for_("i", 0, unit, 1, |k, i| {
                for j in 0..2 {
                    let s = k.load("s", cell(&i, j));
                    seen.add(k, &s, lanes);
                }
            });
            let fine = k.let_("fine", &usual & seen.within(f64::from(f32::MAX), WITHIN.1));
            let here = k.let_("here", (&left - &b * unit).min(unit));
            let columns = |eval: &Eval<'_>| -> Vec<Column> {
                let one = |j: i64| {
                    let first = start.clone() + j * w;
                    let c = first.clone() + lane();
                    let guard = eval.guarded(&Guard::new(), &c, &n_total);
                    Column { start: first, at: at.with(&p.n, &[c]), guard }
                };
                vec![one(0), one(1)]
            };
            let vectors = columns(eval);
            let (mut tiles, mut again) = (Ok(()), Ok(()));
            // Both branches are built one after the other; only one of them holds the evaluator at a time.
            let shared = std::cell::RefCell::new(&mut *eval);
            k.if_else(
                fine,
                |k| {
                    let eval = &mut **shared.borrow_mut();
                    k.for_("i", 0, &here, 1, |k, i| {
                        eval.open();
                        let (_, at) = row_at(k, eval, &b * unit + &i);
                        tiles = vectors.iter().enumerate().try_for_each(|(j, column)| {
                            let x = k.load("s", cell(&i, j as i64));
                            let n: Vec<SymExpr> = p.n.iter().map(|l| column.at.get(l.0)).collect();
                            g.epilogue(k, eval, &at.with(&p.n, &n), &column.guard, x)
                        });
                        eval.close();
                    });
                },
                |k| {
                    let eval = &mut **shared.borrow_mut();
                    k.for_("i", 0, &here, 1, |k, i| {
                        eval.open();
                        let row = k.let_("row", &m0 + &b * unit + &i);
                        let row = eval.ix.bind("row", row, m_total.clone());
                        again = g.block(k, eval, &vectors, &row, 1);
                        eval.close();
                    });
                },
            );
            stop = stop.clone().and(tiles).and(again);
            eval.close();
        });
        eval.close();
    });
    stop?;
    // Some two hundred products a nanosecond.
    let products = cut.products();
    Ok(finish(b, grid, (products / 200).clamp(1, i64::from(u32::MAX)) as u32))
}

/// Stores the parts of a vector: each takes the upper half of what is left, rounded; the last one takes all.
fn split_into(k: &mut Kb<'_>, to: Buf, x: Ex, w: u32, at: impl Fn(i64) -> Vec<(Ex, u32)>) {
    let number = |v: i64| Ex::int(v.into()).typed(&Ty::Scalar(DType::U32)).splat(w);
    let mut left = k.let_("x", x);
    for i in 0..3 {
        let bits = left.bitcast(DType::U32);
        let upper = if i < 2 { k.let_("h", bits.add_w(number(0x8000)) & number(0xffff_0000)) } else { bits };
        k.store(Mem::new(to, at(i)), (upper.clone() >> number(16)).cast(DType::U16).bitcast(DType::BF16));
        if i < 2 {
            left = k.let_("x", left - upper.bitcast(DType::F32));
        }
    }
}
