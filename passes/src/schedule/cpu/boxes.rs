// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The box of an input that a task of a convolution reads, copied into scratch with zeros where it leaves the tensor.

use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{Buf, Ex, Kb, Ty};
use portwright_ir::sym::SymExpr;

use super::eval::{Eval, Stop};
use super::index::literal;
use super::vector_loop;

/// Which box. Lists are over spatial dims.
pub(super) struct InputBox {
    pub(super) x: ValueId,
    /// Spatial dims of `x`.
    pub(super) input: Vec<SymExpr>,
    /// Positions of the window in a task, and what a window is.
    pub(super) block: Vec<i64>,
    pub(super) kernel: Vec<i64>,
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    /// Padding before the first element.
    pub(super) low: Vec<SymExpr>,
    /// Whether channels of `x` come before its spatial dims; they do in scratch then.
    pub(super) planar: bool,
    /// Channels of a group.
    pub(super) channels: i64,
}

/// Where a task begins: image, group, first position of the window.
#[derive(Clone)]
pub(super) struct Corner {
    pub(super) n: SymExpr,
    pub(super) g: SymExpr,
    pub(super) origin: Vec<SymExpr>,
}

impl InputBox {
    /// Elements of the box along a spatial dim.
    pub(super) fn extent(&self, i: usize) -> i64 {
        (self.block[i] - 1) * self.strides[i] + (self.kernel[i] - 1) * self.dilations[i] + 1
    }

    /// Copies the task's box of the input into scratch; what lies outside the tensor is zero.
    ///
    /// # Errors
    /// An input that cannot be evaluated so.
    pub(super) fn fill(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, scratch: Buf, at: &Corner) -> Result<(), Stop> {
        if !self.planar {
            return self.fill_rows(k, eval, scratch, at, &mut Vec::new(), &mut Vec::new(), None);
        }
        let mut stop = Ok(());
        k.for_("c", 0, self.channels, 1, |k, c| {
            eval.open();
            let c = eval.ix.bind("c", c, self.channels.into());
            let own = at.g.clone() * self.channels + c.clone();
            stop = self.fill_rows(k, eval, scratch, at, &mut vec![c], &mut vec![own], None);
            eval.close();
        });
        stop
    }

    /// Fills rows of the box: `to` and `from` are the coordinates so far, `inside` says whether they lie in the tensor.
    #[allow(clippy::too_many_arguments)]
    fn fill_rows(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        scratch: Buf,
        at: &Corner,
        to: &mut Vec<SymExpr>,
        from: &mut Vec<SymExpr>,
        inside: Option<Ex>,
    ) -> Result<(), Stop> {
        let s = self.block.len();
        let i = to.len() - usize::from(self.planar);
        let extent = self.extent(i);
        // Position in the tensor of the first of the box; it may lie before it.
        let start = at.origin[i].clone() * self.strides[i];
        let (start_ex, low_ex) = (eval.ix.emit(k, &start), k.dim(&self.low[i]));
        if i + 1 < s {
            let mut stop = Ok(());
            k.for_("r", 0, extent, 1, |k, r| {
                eval.open();
                stop = {
                    let p = k.let_("p", &start_ex + &r);
                    let own = p.ge(&low_ex) & p.lt(k.dim(&(self.input[i].clone() + self.low[i].clone())));
                    let own = k.let_("in", inside.map_or(own.clone(), |all| all & own));
                    // Outside nothing is read, so any coordinate will do.
                    let q = k.let_("q", own.select(&p - &low_ex, 0));
                    to.push(eval.ix.bind("r", r, extent.into()));
                    from.push(eval.ix.bind("q", q, self.input[i].clone()));
                    let stop = self.fill_rows(k, eval, scratch, at, to, from, Some(own));
                    to.pop();
                    from.pop();
                    stop
                };
                eval.close();
            });
            return stop;
        }
        // A row: before, inside and behind the tensor.
        let end = k.dim(&(self.input[i].clone() + self.low[i].clone()));
        let first = (&low_ex - &start_ex).clamp(0, extent);
        let last = (end - start_ex).clamp(0, extent);
        let (first, last) = match inside {
            None => (first, last),
            Some(own) => (own.select(first, extent), own.select(last, extent)),
        };
        let first = k.let_("first", first);
        let last = k.let_("last", last.max(&first));
        let shift = start - self.low[i].clone();
        let zero = literal(k, 0);
        self.fill_run(k, eval, scratch, at, (zero, first.clone()), (to, from), None, extent)?;
        self.fill_run(k, eval, scratch, at, (first, last.clone()), (to, from), Some(&shift), extent)?;
        self.fill_run(k, eval, scratch, at, (last, Ex::from(extent)), (to, from), None, extent)
    }

    /// Fills the positions `lo..hi` of a row: position `x` is `x + shift` in the tensor; zeros without a shift.
    #[allow(clippy::too_many_arguments)]
    fn fill_run(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        scratch: Buf,
        at: &Corner,
        (lo, hi): (Ex, Ex),
        (to, from): (&[SymExpr], &[SymExpr]),
        shift: Option<&SymExpr>,
        extent: i64,
    ) -> Result<(), Stop> {
        let zero = if scratch.dtype.is_float() { Ex::float(0.0) } else { Ex::int(0) };
        let zero = zero.typed(&Ty::Scalar(scratch.dtype));
        let lead: Vec<SymExpr> = std::iter::once(at.n.clone()).chain(from.iter().cloned()).collect();
        if self.planar {
            return vector_loop(k, eval, "x", (lo, hi), &extent.into(), &mut |k, eval, x, guard| {
                let v = match shift {
                    Some(shift) => {
                        let source: Vec<SymExpr> = lead.iter().cloned().chain([x + shift]).collect();
                        eval.value(k, self.x, &source, guard)?
                    }
                    None => zero.clone(),
                };
                let place: Vec<SymExpr> = to.iter().cloned().chain([x.clone()]).collect();
                eval.store(k, scratch, &place, guard, &v)
            });
        }
        let mut stop = Ok(());
        k.for_("x", lo, hi, 1, |k, x| {
            eval.open();
            stop = {
                let x = eval.ix.bind("x", x, extent.into());
                let source = match shift {
                    Some(shift) => {
                        let q = eval.ix.emit(k, &(&x + shift));
                        let q = k.let_("q", q);
                        let q = eval.ix.bind("q", q, self.input[self.block.len() - 1].clone());
                        Some(lead.iter().cloned().chain([q]).collect::<Vec<_>>())
                    }
                    None => None,
                };
                let end = SymExpr::from(self.channels);
                vector_loop(k, eval, "c", (0.into(), self.channels.into()), &end, &mut |k, eval, c, guard| {
                    let v = match &source {
                        Some(lead) => {
                            let own = at.g.clone() * self.channels + c.clone();
                            let source: Vec<SymExpr> = lead.iter().cloned().chain([own]).collect();
                            eval.value(k, self.x, &source, guard)?
                        }
                        None => zero.clone(),
                    };
                    let place: Vec<SymExpr> = to.iter().cloned().chain([x.clone(), c.clone()]).collect();
                    eval.store(k, scratch, &place, guard, &v)
                })
            };
            eval.close();
        });
        stop
    }
}
