// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys and values of a block as panels: keys along the lanes, widened, edges filled with zeros.

use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{Ex, Kb, Mem};
use portwright_ir::sym::SymExpr;

use super::super::eval::{Eval, Guard, Stop};
use super::super::index::lane;
use super::super::vector_loop;
use super::{Attend, Keys, along};

impl Attend<'_, '_> {
    /// Coordinates of key `i` of a block; keys behind the last repeat it.
    fn key(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, i: &Ex) -> SymExpr {
        let at = &keys.first + i;
        let at = if keys.whole { at } else { at.min(k.dim(&keys.part.len) - 1) };
        let at = k.let_("key", at);
        eval.ix.bind("key", at, keys.part.len.clone())
    }

    /// Packs the keys of a block.
    pub(super) fn pack_keys(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>) -> Result<(), Stop> {
        let block = i64::from(self.w * self.sizes.nv);
        let panels = k.let_("panels", (&keys.len + (block - 1)) / block);
        let mut stop = Ok(());
        k.for_("p", 0, panels, 1, |k, p| {
            eval.open();
            stop = (0..self.sizes.nv).try_for_each(|j| match self.w {
                1 => self.pack_column(k, eval, keys, &p, j),
                _ if self.along_keys(eval, keys.part.k) => self.pack_vectors(k, eval, keys, &p, j),
                _ => self.pack_squares(k, eval, keys, &p, j),
            });
            eval.close();
        });
        stop
    }

    /// Whether keys lie next to each other in memory.
    fn along_keys(&self, eval: &mut Eval<'_>, key: ValueId) -> bool {
        let dims = eval.dims(key);
        let probe = |eval: &mut Eval<'_>, d: &SymExpr| eval.ix.bind("probe", Ex::from(0), d.clone());
        let d = probe(eval, &dims[3]);
        let i = probe(eval, &dims[2]);
        let lead = [self.batch.clone(), self.head.clone()];
        let at = |tail: [SymExpr; 2]| -> Vec<SymExpr> { lead.iter().cloned().chain(tail).collect() };
        !eval.is_contiguous(key, &at([i, lane()])) && eval.is_contiguous(key, &at([lane(), d]))
    }

    fn key_vector(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, at: [SymExpr; 2], guard: &Guard) -> Result<Ex, Stop> {
        let [key, d] = at;
        let x = eval.value(k, keys.part.k, &[self.batch.clone(), self.head.clone(), key, d], guard)?;
        Ok(eval.widen(&x).cast(self.form.acc))
    }

    /// One key, an element at a time.
    fn pack_column(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, p: &Ex, j: u32) -> Result<(), Stop> {
        let block = i64::from(self.sizes.nv);
        let key = self.key(k, eval, keys, &(p * block + i64::from(j)));
        let mut stop = Ok(());
        k.for_("d", 0, k.dim(&self.form.depth), 1, |k, d| {
            eval.open();
            let at = eval.ix.bind("d", d.clone(), self.form.depth.clone());
            stop = self.key_vector(k, eval, keys, [key.clone(), at], &Guard::new()).map(|x| {
                k.store(Mem::new(self.scratch.k, vec![(p.clone(), 1), (d, 1), (Ex::from(j), 1)]), x);
            });
            eval.close();
        });
        stop
    }

    /// A vector of keys that are neighbors in memory, one depth after the other.
    fn pack_vectors(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, p: &Ex, j: u32) -> Result<(), Stop> {
        let (w, block) = (i64::from(self.w), i64::from(self.w * self.sizes.nv));
        let first = k.let_("key", &keys.first + p * block + i64::from(j) * w);
        // A vector that lies behind the end as a whole is not read: its first key is brought to the end.
        let end = keys.part.len.clone();
        let first = k.let_("key", first.min(k.dim(&end)));
        let first = eval.ix.bind("key", first, if keys.whole { end.clone() - (w - 1) } else { end.clone() + 1 });
        let key = first + lane();
        let guard = if keys.whole { Guard::new() } else { vec![(key.clone(), end)] };
        let mut stop = Ok(());
        k.for_("d", 0, k.dim(&self.form.depth), 1, |k, d| {
            eval.open();
            let at = eval.ix.bind("d", d.clone(), self.form.depth.clone());
            stop = self.key_vector(k, eval, keys, [key.clone(), at], &guard).map(|x| {
                k.store(Mem::new(self.scratch.k, vec![(p.clone(), 1), (d, 1), (Ex::from(i64::from(j) * w), self.w)]), x);
            });
            eval.close();
        });
        stop
    }

    /// As many keys as a vector has lanes, turned in squares.
    fn pack_squares(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>, p: &Ex, j: u32) -> Result<(), Stop> {
        let (w, block) = (i64::from(self.w), i64::from(self.w * self.sizes.nv));
        let rows: Vec<SymExpr> = (0..w).map(|i| self.key(k, eval, keys, &(p * block + (i64::from(j) * w + i)))).collect();
        let hi = k.dim(&self.form.depth);
        vector_loop(k, eval, "d", (0.into(), hi), &self.form.depth, &mut |k, eval, d, guard| {
            let mut square = Vec::with_capacity(rows.len());
            for key in &rows {
                let x = self.key_vector(k, eval, keys, [key.clone(), d.clone()], guard)?;
                square.push(k.let_("x", x));
            }
            let base = d - &lane();
            let base = eval.ix.emit(k, &base);
            for (i, x) in turn(k, square).into_iter().enumerate() {
                k.store(Mem::new(self.scratch.k, vec![(p.clone(), 1), (&base + i, 1), (Ex::from(i64::from(j) * w), self.w)]), x);
            }
            Ok(())
        })
    }

    /// Whether values need no packing: whole vectors in the dtype of sums, one key right behind the other.
    pub(super) fn values_as_they_lie(&self, eval: &mut Eval<'_>, v: ValueId) -> bool {
        let values = i64::from(self.w * self.sizes.vv);
        if self.w == 1 || eval.dtype(v) != self.form.acc || self.form.width.as_const().is_none_or(|n| n % values != 0) {
            return false;
        }
        let key = eval.ix.bind("probe", Ex::from(0), eval.dims(v)[2].clone());
        let Some((_, at)) = eval.resolve(v, &[self.batch.clone(), self.head.clone(), key.clone(), lane()]) else { return false };
        let Some(source) = source(eval, v) else { return false };
        let dense = eval.dims(source).last() == Some(&self.form.width);
        matches!(at.as_slice(), [.., before, last] if *before == key && *last == lane()) && dense
    }

    /// Packs the values of a block.
    pub(super) fn pack_values(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, keys: &Keys<'_>) -> Result<(), Stop> {
        let (w, vv) = (i64::from(self.w), i64::from(self.sizes.vv));
        let (values, width) = (w * vv, self.form.width.clone());
        let panels = width.ceil_div(&values.into());
        let mut stop = Ok(());
        k.for_("p", 0, k.dim(&panels), 1, |k, p| {
            eval.open();
            let start = eval.ix.bind("p", p.clone(), panels.clone()) * values;
            k.for_("k", 0, &keys.len, 1, |k, i| {
                eval.open();
                let at = k.let_("key", &keys.first + &i);
                let key = eval.ix.bind("key", at, keys.part.len.clone());
                stop = (0..vv).try_for_each(|j| {
                    let c = along(start.clone() + j * w, self.w);
                    let guard = eval.guarded(&Guard::new(), &c, &width);
                    let x = eval.value(k, keys.part.v, &[self.batch.clone(), self.head.clone(), key.clone(), c], &guard)?;
                    let x = eval.widen(&x).cast(self.form.acc);
                    k.store(Mem::new(self.scratch.v, vec![(p.clone(), 1), (i.clone(), 1), (Ex::from(j * w), self.w)]), x);
                    Ok(())
                });
                eval.close();
            });
            eval.close();
        });
        stop
    }
}

/// The input that a value only moves the elements of.
fn source(eval: &Eval<'_>, v: ValueId) -> Option<ValueId> {
    match eval.graph.producer(v) {
        None => Some(v),
        Some(node) if node.op.is_movement() => source(eval, *node.operands.first()?),
        Some(_) => None,
    }
}

/// The transpose of a square: interleaving its first half with its second, as often as halves have halves.
fn turn(k: &mut Kb<'_>, mut square: Vec<Ex>) -> Vec<Ex> {
    let n = square.len();
    let list = |from: usize| -> Vec<u16> { (0..n / 2).flat_map(|i| [(from + i) as u16, (from + i + n) as u16]).collect() };
    let (low, high) = (list(0), list(n / 2));
    for _ in 0..n.trailing_zeros() {
        let (first, second) = square.split_at(n / 2);
        let mut next = Vec::with_capacity(n);
        for (a, b) in first.iter().zip(second) {
            next.push(k.let_("z", a.shufflev2(b, &low)));
            next.push(k.let_("z", a.shufflev2(b, &high)));
        }
        square = next;
    }
    square
}
