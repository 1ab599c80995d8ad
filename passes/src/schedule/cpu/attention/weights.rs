// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scores of a row to weights: bend, mask, the running maximum, exponentials, and what earlier blocks made of the row scaled to fit.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{BinOp, Ex, FnId, Kb, Mem, UnOp};
use portwright_ir::sym::SymExpr;

use super::super::eval::{Eval, Guard, Stop};
use super::super::index::Indices;
use super::super::vector_loop;
use super::{Attend, Keys};

/// `e^x` for `x <= 0`; what is below the smallest normal number is 0.
fn exponential(k: &mut Kb<'_>) -> FnId {
    k.module().define_fn("exp_below", &[("x", DType::F32)], DType::F32, |f, args| {
        let x = &args[0];
        let c = f.let_("c", x.lt(-88.0).select(-88.0, x));
        // The sum with 1.5 * 2^23 + 127 has the exponent of 2^n in its low bits, n the integer nearest to x / ln 2.
        let t = f.let_("t", c.fma(std::f64::consts::LOG2_E, 12_583_039.0));
        let n = f.let_("n", &t - 12_583_039.0);
        // ln 2 as one number: what that loses grows with n, as the result shrinks with 2^n.
        let r = f.let_("r", n.fma(-std::f64::consts::LN_2, &c));
        // e^r on both sides of 0 up to ln(2) / 2, within 4e-9.
        let p = r.fma(1.381_453_592_330_217_4e-3, 8.368_745_446_205_14e-3);
        let p = [4.166_839_271_783_829e-2, 0.166_665_211_319_923_4, 0.499_999_940_395_355_2, 1.0, 1.0].iter().fold(p, |p, c| p.fma(&r, *c));
        let power = t.bitcast(DType::I32).bin(BinOp::Shl, Ex::lit(DType::I32, 23.0)).bitcast(DType::F32);
        p * power
    })
}

/// The largest element of a vector, NaN passed over.
fn largest(k: &mut Kb<'_>, mut x: Ex, mut n: u32) -> Ex {
    while n > 1 {
        n /= 2;
        let half = |from: u32| -> Vec<u16> { (from..from + n).map(|i| i as u16).collect() };
        let (a, b) = if n == 1 { (x.extract(0), x.extract(1)) } else { (x.shufflev(&half(0)), x.shufflev(&half(n))) };
        let (a, b) = (k.let_("a", a), k.let_("b", b));
        x = k.let_("larger", b.gt(&a).select(&b, &a));
    }
    x
}

impl Attend<'_, '_> {
    /// `e^x` for `x <= 0`.
    fn exp(&self, k: &mut Kb<'_>, x: &Ex) -> Ex {
        if self.form.acc != DType::F32 {
            return x.un(UnOp::Exp);
        }
        let f = exponential(k);
        k.call(f, std::slice::from_ref(x))
    }

    /// Turns the first `hi` scores of `rows` rows, from row `i0` of the task on, into weights. All rows are masked before the first is
    /// raised: what masks read from memory is under way for some rows at a time.
    pub(super) fn weigh(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, i0: &Ex, rows: i64, hi: &Ex) -> Result<(), Stop> {
        let mut stop = Ok(());
        k.for_("r", 0, rows, 1, |k, r| {
            eval.open();
            stop = self.mask(k, eval, keys, &(i0 + &r), &r, hi);
            eval.close();
        });
        stop?;
        k.for_("r", 0, rows, 1, |k, r| self.raise(k, &(i0 + &r), &r, hi));
        Ok(())
    }

    /// Bends and masks the scores of row `i` of the task, row `r` of the tile, and finds the largest.
    fn mask(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, i: &Ex, r: &Ex, hi: &Ex) -> Result<(), Stop> {
        let (w, d) = (self.w, self.form.acc);
        let lowest = Ex::lit(d, f64::NEG_INFINITY);
        let s = self.scratch.s;
        let changed = self.form.mask.is_some() || self.form.softcap != 0.0 || self.offset.is_some();
        let at = self.row(k, eval, i);
        // Keys of this block that a causal mask shows the row.
        let seen = self.offset.as_ref().map(|offset| {
            let query = eval.ix.emit(k, &at.query);
            k.let_("seen", query + offset + 1 - k.dim(&keys.part.start) - &keys.first)
        });
        let top = k.var("top", lowest.splat(w));
        let row = eval.ix.bind("r", r.clone(), self.sizes.tile.max(super::few::MOST).into());
        // Whole vectors have no edge.
        let lo = if keys.whole { Ex::from(0) } else { Ex::lit(DType::I64, 0.0) };
        let bound = SymExpr::from(self.sizes.keys);
        let mut max = |k: &mut Kb<'_>, eval: &mut Eval<'_>, c: &SymExpr, guard: &Guard| {
            let mut x = eval.load(k, "s", s, &[row.clone(), c.clone()], guard)?;
            if self.form.softcap != 0.0 {
                let cap = Ex::lit(d, self.form.softcap).splat(w);
                x = (x / &cap).un(UnOp::Tanh) * cap;
            }
            if let Some(mask) = self.form.mask {
                x = self.masked(k, eval, keys, mask, &at, c, guard, x)?;
            }
            if let Some(seen) = &seen {
                let Some((base, _)) = Indices::linear(c) else { return Err(Stop::NeedScalar) };
                let base = eval.ix.emit(k, &base);
                let shown = if w == 1 { base.lt(seen) } else { base.mask_lt(seen, w) };
                x = shown.select(x, lowest.splat(w));
            }
            if let Some(inside) = eval.mask(k, guard)? {
                x = inside.select(x, lowest.splat(w));
            }
            if changed || !guard.is_empty() {
                x = k.let_("s", x);
                eval.store(k, s, &[row.clone(), c.clone()], &Guard::new(), &x)?;
            }
            let old = top.get();
            k.set(&top, x.gt(&old).select(&x, &old));
            Ok(())
        };
        vector_loop(k, eval, "c", (lo, hi.clone()), &bound, &mut max)?;
        let here = |buf| Mem::new(buf, vec![(i.clone(), 1)]);
        let across = largest(k, top.get(), w);
        let old = (!self.sizes.at_once).then(|| k.load("old", here(self.scratch.top)));
        let high = match &old {
            None => across,
            Some(old) => k.let_("high", across.gt(old).select(&across, old)),
        };
        // Nothing seen yet: all scores are minus infinity, and their weights 0.
        let base = k.let_("base", high.equals(f64::NEG_INFINITY).select(Ex::lit(d, 0.0), &high));
        if let Some(old) = old {
            let fade = self.exp(k, &(old - &base));
            k.store(Mem::new(self.scratch.fade, vec![(r.clone(), 1)]), fade);
            k.store(here(self.scratch.top), high);
        }
        k.store(Mem::new(self.scratch.base, vec![(r.clone(), 1)]), base);
        Ok(())
    }

    /// Raises e to the scores of row `i` of the task, row `r` of the tile, and brings what earlier blocks made of the row to the same base.
    fn raise(&self, k: &mut Kb<'_>, i: &Ex, r: &Ex, hi: &Ex) {
        let (w, d) = (self.w, self.form.acc);
        let base = k.load("base", Mem::new(self.scratch.base, vec![(r.clone(), 1)]));
        let base = k.let_("base", base.splat(w));
        let sum = k.var("sum", Ex::lit(d, 0.0).splat(w));
        let vectors = k.let_("vectors", (hi + i64::from(w - 1)) / i64::from(w) * i64::from(w));
        k.for_("c", 0, vectors, i64::from(w), |k, c| {
            let place = Mem::new(self.scratch.s, vec![(r.clone(), 1), (c, w)]);
            let x = k.load("s", place.clone());
            let x = k.let_("x", x - &base);
            let p = self.exp(k, &x);
            let p = k.let_("p", p);
            k.store(place, &p);
            k.set(&sum, sum.get() + p);
        });
        let sum = sum.get().hsum();
        let total = Mem::new(self.scratch.sum, vec![(i.clone(), 1)]);
        if self.sizes.at_once {
            k.store(total, sum);
            return;
        }
        let fade = k.load("fade", Mem::new(self.scratch.fade, vec![(r.clone(), 1)]));
        let before = k.load("before", total.clone());
        k.store(total, before.fma(&fade, sum));
        self.each_sum(k, i, &mut |k, at| k.load("o", at) * fade.splat(w));
    }

    /// A vector of scores under the mask.
    #[allow(clippy::too_many_arguments)]
    fn masked(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        keys: &Keys<'_>,
        mask: portwright_ir::graph::ValueId,
        at: &super::Row,
        c: &SymExpr,
        guard: &Guard,
        x: Ex,
    ) -> Result<Ex, Stop> {
        let (w, d) = (self.w, self.form.acc);
        let Some((base, _)) = Indices::linear(c) else { return Err(Stop::NeedScalar) };
        let key = eval.ix.emit(k, &base) + &keys.first + k.dim(&keys.part.start);
        let key = k.let_("key", key);
        let end = &self.form.keys;
        let first = eval.ix.bind("key", key, if guard.is_empty() { end.clone() - i64::from(w - 1) } else { end.clone() });
        let key = super::along(first, w);
        let inside = if guard.is_empty() { Guard::new() } else { vec![(key.clone(), end.clone())] };
        let scores = [self.batch.clone(), at.head.clone(), at.query.clone(), key];
        let dims = eval.dims(mask);
        let coords: Vec<SymExpr> =
            dims.iter().zip(&scores[4 - dims.len().min(4)..]).map(|(d, c)| if d.is(1) { 0.into() } else { c.clone() }).collect();
        let m = eval.value(k, mask, &coords, &inside)?;
        let m = eval.widen(&m);
        Ok(if eval.dtype(mask) == DType::Bool { m.select(x, Ex::lit(d, f64::NEG_INFINITY).splat(w)) } else { x + m.cast(d) })
    }
}
