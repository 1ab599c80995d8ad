// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Few rows against many keys: each key and each value is read once, as it lies, and met by all rows.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Ex, Kb, Mem};
use portwright_ir::sym::SymExpr;

use super::super::eval::{Eval, Guard, Stop};
use super::super::index::lane;
use super::{Attend, Form, Keys, along, weighted};

/// Rows that are few, at most: beyond, packing keys costs less than a dot product a row and key.
pub(super) const MOST: i64 = 4;

/// Keys whose dot products are formed side by side.
const KEYS: i64 = 4;

/// Vectors of a row that are written out rather than looped over.
const UNROLLED: i64 = 16;

/// The number of rows that are treated as few where a task has that many; `None` where there is none, or keys do not lie along the depth.
pub(super) fn rows_of(eval: &mut Eval<'_>, form: &Form, total: &SymExpr) -> Option<i64> {
    // Of unknown queries, one.
    let rows = total.as_const().or_else(|| form.shared.as_const())?;
    let lies_well = form.parts.iter().all(|p| {
        let dims = eval.dims(p.k);
        let mut at: Vec<SymExpr> = dims.iter().take(3).map(|d| eval.ix.bind("probe", Ex::from(0), d.clone())).collect();
        at.push(lane());
        eval.width == 1 || eval.is_contiguous(p.k, &at)
    });
    (lies_well && (1..=MOST).contains(&rows)).then_some(rows)
}

/// The sums of the elements of four vectors of `w` lanes, as one vector: two by two, each half of a pair is added to the other half.
fn sums_of_four(k: &mut Kb<'_>, mut vectors: Vec<Ex>, w: u32) -> Ex {
    // Elements that are still to be added of each vector, which lie side by side.
    let mut left = w as u16;
    while vectors.len() > 1 {
        let half = left / 2;
        let runs = |from: u16| -> Vec<u16> { (0..2 * w as u16).step_by(left.into()).flat_map(|at| at + from..at + from + half).collect() };
        let (low, high) = (runs(0), runs(half));
        vectors = vectors
            .chunks_exact(2)
            .map(|pair| k.let_("h", pair[0].shufflev2(&pair[1], &low) + pair[0].shufflev2(&pair[1], &high)))
            .collect();
        left = half;
    }
    let mut sums = vectors.swap_remove(0);
    // What is left of each is folded, and its first element taken.
    while left > 1 {
        left /= 2;
        let list: Vec<u16> = (0..w as u16).map(|i| i ^ left).collect();
        sums = k.let_("h", &sums + sums.shufflev(&list));
    }
    let list: Vec<u16> = (0..w as u16).step_by((w / KEYS as u32) as usize).collect();
    if list.len() == w as usize { sums } else { sums.shufflev(&list) }
}

impl Attend<'_, '_> {
    /// A block of keys against the `rows` rows of a task.
    pub(super) fn few_block(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, rows: i64) -> Result<(), Stop> {
        let whole = k.let_("fours", &keys.len / KEYS * KEYS);
        for (lo, hi, n) in [(Ex::from(0), &whole, KEYS), (whole.clone(), &keys.len, 1)] {
            let mut stop = Ok(());
            k.for_("j", lo, hi, n, |k, j| {
                eval.open();
                stop = self.dots(k, eval, keys, &j, n, rows);
                eval.close();
            });
            stop?;
        }
        self.weigh(k, eval, keys, &Ex::lit(DType::I64, 0.0), rows, &keys.len)?;
        self.mix(k, eval, keys, rows)
    }

    /// Scores of `n` keys from key `j` of the block on.
    fn dots(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, j: &Ex, n: i64, rows: i64) -> Result<(), Stop> {
        let (w, d) = (self.w, self.form.acc);
        let c = k.var_array("c", &[n as u32, rows as u32], Ex::lit(d, 0.0).splat(w));
        let first = k.let_("key", &keys.first + j);
        let first = eval.ix.bind("key", first, keys.part.len.clone() - (n - 1));
        self.each_vector(k, eval, &self.form.depth, &mut |k, eval, at, guard, base| {
            let q: Vec<Ex> = (0..rows).map(|r| k.load("q", Mem::new(self.scratch.q, vec![(Ex::from(r), 1), (base.clone(), w)]))).collect();
            for i in 0..n {
                let coords = [self.batch.clone(), self.head.clone(), first.clone() + i, at.clone()];
                let x = eval.value(k, keys.part.k, &coords, guard)?;
                let x = k.let_("x", eval.widen(&x).cast(d));
                for (r, q) in q.iter().enumerate() {
                    let reg = c.at([Ex::from(i), Ex::from(r)]);
                    let next = x.fma(q, reg.get());
                    k.set(&reg, next);
                }
            }
            Ok(())
        })?;
        for r in 0..rows {
            let of_key = |i: i64| c.at([Ex::from(i), Ex::from(r)]).get();
            if n == KEYS && w >= 4 {
                let sums = sums_of_four(k, (0..n).map(of_key).collect(), w);
                k.store(Mem::new(self.scratch.s, vec![(Ex::from(r), 1), (j.clone(), KEYS as u32)]), sums);
                continue;
            }
            for i in 0..n {
                k.store(Mem::new(self.scratch.s, vec![(Ex::from(r), 1), (j + i, 1)]), of_key(i).hsum());
            }
        }
        Ok(())
    }

    /// Vectors along the depth of keys or values: written out where they are few.
    fn each_vector<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        extent: &SymExpr,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr, &Guard, &Ex) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let w = i64::from(self.w);
        if let Some(n) = extent.as_const().filter(|n| *n <= UNROLLED * w) {
            return (0..n).step_by(w as usize).try_for_each(|c| {
                let at = along(c.into(), self.w);
                let guard = eval.guarded(&Guard::new(), &at, extent);
                body(k, eval, &at, &guard, &Ex::lit(DType::I64, c as f64))
            });
        }
        let mut stop = Ok(());
        k.for_("c", 0, k.dim(extent), w, |k, c| {
            eval.open();
            let at = along(eval.ix.bind("c", c.clone(), extent.clone()), self.w);
            let guard = eval.guarded(&Guard::new(), &at, extent);
            stop = body(k, eval, &at, &guard, &c);
            eval.close();
        });
        stop
    }

    /// Adds the weighted values of a block, a few vectors of their depth at a time.
    fn mix(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, rows: i64) -> Result<(), Stop> {
        let w = i64::from(self.w);
        let width = &self.form.width;
        // Sums of all rows stay in registers.
        let most = (i64::from(self.cx.spec.vec_regs) / 2 / rows).clamp(1, UNROLLED);
        if let Some(n) = width.as_const() {
            let step = most * w;
            return (0..n).step_by(step as usize).try_for_each(|from| {
                let starts: Vec<SymExpr> = (from..n.min(from + step)).step_by(w as usize).map(SymExpr::from).collect();
                self.mix_vectors(k, eval, keys, rows, &starts)
            });
        }
        let mut stop = Ok(());
        k.for_("c", 0, k.dim(width), w, |k, c| {
            eval.open();
            let start = eval.ix.bind("c", c, width.clone());
            stop = self.mix_vectors(k, eval, keys, rows, &[start]);
            eval.close();
        });
        stop
    }

    fn mix_vectors(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, rows: i64, starts: &[SymExpr]) -> Result<(), Stop> {
        let (w, d) = (self.w, self.form.acc);
        let c = k.var_array("o", &[rows as u32, starts.len() as u32], Ex::lit(d, 0.0).splat(w));
        let places: Vec<Ex> = starts.iter().map(|s| eval.ix.emit(k, s)).collect();
        let place = |r: i64, at: &Ex| Mem::new(self.scratch.o, vec![(Ex::from(r), 1), (at.clone(), w)]);
        let each = |k: &mut Kb<'_>, f: &mut dyn FnMut(&mut Kb<'_>, &portwright_ir::kernel::Reg, Mem)| {
            for r in 0..rows {
                for (j, at) in places.iter().enumerate() {
                    f(k, &c.at([Ex::from(r), Ex::from(j)]), place(r, at));
                }
            }
        };
        if !self.sizes.at_once {
            each(k, &mut |k, reg, at| {
                let old = k.load("o", at);
                k.set(reg, old);
            });
        }
        let mut stop = Ok(());
        k.for_("j", 0, &keys.len, 1, |k, j| {
            eval.open();
            let key = k.let_("key", &keys.first + &j);
            let key = eval.ix.bind("key", key, keys.part.len.clone());
            stop = (|| {
                let p: Vec<Ex> = (0..rows)
                    .map(|r| {
                        let p = k.load("p", Mem::new(self.scratch.s, vec![(Ex::from(r), 1), (j.clone(), 1)]));
                        if w > 1 { k.let_("p", p.splat(w)) } else { p }
                    })
                    .collect();
                for (i, start) in starts.iter().enumerate() {
                    let at = along(start.clone(), w);
                    let guard = eval.guarded(&Guard::new(), &at, &self.form.width);
                    let x = eval.value(k, keys.part.v, &[self.batch.clone(), self.head.clone(), key.clone(), at], &guard)?;
                    let x = k.let_("x", eval.widen(&x).cast(d));
                    for (r, p) in p.iter().enumerate() {
                        let reg = c.at([Ex::from(r), Ex::from(i)]);
                        let x = if self.hides() { weighted(p, &x, w) } else { x.clone() };
                        let next = p.fma(x, reg.get());
                        k.set(&reg, next);
                    }
                }
                Ok(())
            })();
            eval.close();
        });
        stop?;
        each(k, &mut |k, reg, at| k.store(at, reg.get()));
        Ok(())
    }
}
