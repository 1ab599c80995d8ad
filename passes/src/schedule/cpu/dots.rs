// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Blocks of sums whose products a machine adds a few at a time: groups of neighbors along the summed dim, broadcast from the left operand
//! against as many of each column.

use portwright_ir::kernel::{Ex, Kb, Reg};
use portwright_ir::sym::SymExpr;

use super::super::problem::{At, Problem};
use super::eval::{Eval, Guard, Stop};
use super::gemm::{Column, Gemm};
use super::index::lane;
use crate::spec::DotForm;

/// Where a vector of the right operand is read whose elements are groups of `group` summed coordinates from `first` for each of the columns
/// from `start`; the open width counts all elements.
pub(super) fn grouped(eval: &Eval<'_>, p: &Problem<'_>, at: &At, start: &SymExpr, first: &SymExpr, group: u32) -> Vec<SymExpr> {
    let group = SymExpr::from(i64::from(group));
    let last: Vec<(char, SymExpr)> = p.n.last().cloned().into_iter().collect();
    let at = at.with(&last, &[start.clone() + lane().div(&group)]).with(&p.k, &[first.clone() + lane().modulo(&group)]);
    (p.rhs_at)(eval, &at).0
}

/// Whether both operands lie so that a dot-product instruction takes them as they are: groups of neighbors along the one summed dim.
pub(super) fn dots_fit(eval: &mut Eval<'_>, p: &Problem<'_>, form: DotForm, block: i64) -> bool {
    let (&[(_, ref depth)], Some((_, n))) = (p.k.as_slice(), p.n.last()) else { return false };
    let Some(n) = n.as_const() else { return false };
    let (w, group) = (eval.width, i64::from(form.depth));
    let bind = |eval: &mut Eval<'_>, end: SymExpr| eval.ix.bind("fit", Ex::from(0), end);
    let mut at = At::default();
    for l in p.batch.iter().chain(&p.m).chain(&p.n) {
        let c = bind(eval, l.1.clone());
        at = at.with(std::slice::from_ref(l), &[c]);
    }
    let start = bind(eval, SymExpr::from(n).ceil_div(&block.into())) * block + (block - i64::from(w));
    let first = bind(eval, depth.ceil_div(&group.into())) * group;
    eval.set_width(w * form.depth);
    let coords = grouped(eval, p, &at, &start, &first, form.depth);
    let right = eval.is_contiguous(p.rhs, &coords) && eval.reaches(p.rhs, &coords);
    eval.set_width(form.depth);
    let (coords, conditions) = (p.lhs_at)(eval, &at.with(&p.k, &[first + lane()]));
    let left = eval.is_contiguous(p.lhs, &coords) && conditions.is_empty();
    eval.set_width(w);
    left && right
}

impl Gemm<'_, '_, '_> {
    /// Adds the products of a block a few neighbors along the summed dim at a time.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn dots(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        form: DotForm,
        vectors: &[Column],
        m: &SymExpr,
        rows: i64,
        named: &[Reg],
        c: &Reg,
    ) -> Result<(), Stop> {
        let (depth, group) = (self.p.k.iter().map(|x| x.1.clone()).next().unwrap_or(1.into()), i64::from(form.depth));
        let whole = depth.div(&group.into());
        let mut stop = Ok(());
        k.for_("q", 0, k.dim(&whole), 1, |k, q| {
            let q = eval.ix.bind("q", q, whole.clone());
            stop = self.dot_step(k, eval, form, vectors, (m, rows, named), c, &q, &Guard::new());
        });
        stop?;
        if depth.divisible_by(group, &|_| 1) {
            return Ok(());
        }
        let edge = vec![(whole.clone() * group + lane(), depth.clone())];
        let mut stop = Ok(());
        k.if_((k.dim(&whole) * group).lt(k.dim(&depth)), |k| {
            stop = self.dot_step(k, eval, form, vectors, (m, rows, named), c, &whole, &edge);
        });
        stop
    }

    /// Group `q` of summed coordinates; `edge` says which of them exist.
    #[allow(clippy::too_many_arguments)]
    fn dot_step(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        form: DotForm,
        vectors: &[Column],
        (m, rows, named): (&SymExpr, i64, &[Reg]),
        c: &Reg,
        q: &SymExpr,
        edge: &Guard,
    ) -> Result<(), Stop> {
        let (w, group) = (eval.width, form.depth);
        let first = q.clone() * i64::from(group);
        eval.open();
        let stop = (|| {
            let mut b = Vec::with_capacity(vectors.len());
            eval.set_width(w * group);
            for column in vectors {
                let coords = grouped(eval, &self.p, &column.at, &column.start, &first, group);
                b.push(eval.value(k, self.p.rhs, &coords, &Guard::new())?);
            }
            eval.set_width(group);
            let at = vectors.first().map(|v| v.at.clone()).unwrap_or_default().with(&self.p.k, &[first.clone() + lane()]);
            let mut stop = Ok(());
            k.unroll("i", 0, rows, |k, i_ex| {
                eval.open();
                stop = (|| {
                    let i = eval.ix.bind("i", i_ex.clone(), rows.into());
                    let row = self.row_coords(eval, named, m, &i, &i_ex);
                    let (coords, _) = (self.p.lhs_at)(eval, &at.with(&self.p.m, &row));
                    let a = eval.value(k, self.p.lhs, &coords, edge)?;
                    let a = k.let_("a", a.bitcast(self.p.acc).splat(w));
                    let a = k.let_("a", a.bitcast(form.a));
                    for (j, b) in b.iter().enumerate() {
                        let reg = c.at([i_ex.clone(), Ex::from(j)]);
                        let new = match form.depth {
                            2 => reg.get().dot2(&a, b),
                            _ => reg.get().dot4(&a, b),
                        };
                        k.set(&reg, new);
                    }
                    Ok(())
                })();
                eval.close();
            });
            stop
        })();
        eval.set_width(w);
        eval.close();
        stop
    }
}
