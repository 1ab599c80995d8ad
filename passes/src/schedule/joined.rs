// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elements of what is padded or joined: conditions choose between values.

use portwright_ir::graph::{Node, Op, PadMode, Scalar};
use portwright_ir::kernel::{Ex, Kb, Ty};
use portwright_ir::sym::SymExpr;

use super::eval::{CondEx, Eval, Guard, Stop, scalar_ex};

impl<'a> Eval<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn pad(
        &mut self,
        k: &mut Kb<'_>,
        node: &'a Node,
        mode: PadMode,
        low: &[SymExpr],
        interior: &[i64],
        coords: &[SymExpr],
        guard: &Guard,
    ) -> Result<Ex, Stop> {
        let x = node.operands[0];
        let dims = self.dims(x);
        let mut inner = Vec::with_capacity(coords.len());
        let mut inside = guard.clone();
        let mut own: Guard = Vec::new();
        for (i, c) in coords.iter().enumerate() {
            let low = self.syms.to_kernel(&low[i]);
            if low.is(0) && interior[i] == 0 && self.graph.ty(x).dims[i] == self.graph.ty(node.results[0]).dims[i] {
                inner.push(c.clone());
                continue;
            }
            let shifted = c - &low;
            let d = &dims[i];
            // Position behind the last whole period before the first element: no dividend is negative, of elements that a guard leaves out
            // neither.
            let round = |shifted: SymExpr, period: &SymExpr| {
                let place = (shifted + low.clone()).maximum(&0.into());
                (place + low.ceil_div(period) * period.clone() - low.clone()).modulo(period)
            };
            let at = match mode {
                PadMode::Constant if interior[i] > 0 => {
                    let unit = SymExpr::from(interior[i] + 1);
                    let aligned = (shifted.modulo(&unit), SymExpr::from(1));
                    inside.push(aligned.clone());
                    own.push(aligned);
                    shifted.div(&unit)
                }
                PadMode::Constant => shifted,
                PadMode::Edge => shifted.maximum(&0.into()).minimum(&(d.clone() - 1)),
                PadMode::Wrap => round(shifted, d),
                PadMode::Reflect if !self.reflects_once(node, i) => {
                    // There and back again, as often as it takes; a single element shows itself.
                    let period = (d.clone() * 2 - 2).maximum(&1.into());
                    let at = round(shifted, &period);
                    at.minimum(&(period - at.clone()))
                }
                PadMode::Reflect => {
                    let low = shifted.maximum(&(SymExpr::from(0) - shifted.clone()));
                    let over = low.clone() - (d.clone() - 1);
                    d.clone() - 1 - over.maximum(&(SymExpr::from(0) - over.clone()))
                }
            };
            if mode == PadMode::Constant {
                let before = inside.len();
                inside = self.guarded(&inside, &at, d);
                own.extend(inside[before..].iter().cloned());
            }
            inner.push(at);
        }
        if mode != PadMode::Constant || own.is_empty() {
            return self.value(k, x, &inner, guard);
        }
        let value = self.value(k, x, &inner, &inside)?;
        let outside = self.value(k, node.operands[1], &[], guard)?;
        match self.cond(k, &own)? {
            CondEx::Always => Ok(value),
            CondEx::When(c) => {
                let wide = matches!(value.ty(), Some(Ty::Vec(..)));
                Ok(c.select(&value, if wide { self.widen(&outside) } else { outside }))
            }
            CondEx::Mask(m) => Ok(m.select(self.widen(&value), self.widen(&outside))),
        }
    }

    /// Whether a dim is known to have more elements than a reflecting pad shows on either side.
    fn reflects_once(&self, node: &Node, i: usize) -> bool {
        let Op::Pad { low, high, .. } = &node.op else { return false };
        let last = self.graph.ty(node.operands[0]).dims[i].clone() - 1;
        [low, high].iter().all(|p| p.get(i).is_some_and(|p| self.graph.bounds(&(last.clone() - p.clone())).0 >= 0))
    }

    pub(super) fn concat(&mut self, k: &mut Kb<'_>, node: &'a Node, axis: usize, coords: &[SymExpr], guard: &Guard) -> Result<Ex, Stop> {
        let mut start = SymExpr::from(0);
        let mut out: Option<Ex> = None;
        for &o in &node.operands {
            let len = self.dims(o)[axis].clone();
            let at = &coords[axis] - &start;
            start = &start + &len;
            if len.is(0) {
                continue;
            }
            let mut inner = coords.to_vec();
            inner[axis] = at.clone();
            let inside = self.guarded(guard, &at, &len);
            let own: Guard = inside[guard.len().min(inside.len())..].to_vec();
            let value = self.value(k, o, &inner, &inside)?;
            out = Some(match (out, self.cond(k, &own)?) {
                (None, _) | (_, CondEx::Always) => value,
                (Some(before), CondEx::When(c)) => {
                    let wide = [&before, &value].iter().any(|e| matches!(e.ty(), Some(Ty::Vec(..))));
                    if wide { c.select(self.widen(&value), self.widen(&before)) } else { c.select(value, before) }
                }
                (Some(before), CondEx::Mask(m)) => m.select(self.widen(&value), self.widen(&before)),
            });
        }
        match out {
            Some(e) => Ok(e),
            None => Ok(scalar_ex(Scalar::zero(self.dtype(node.results[0])))),
        }
    }
}
