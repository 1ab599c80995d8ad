// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pooling: a window of taps around every position, positions of the innermost dim in vectors.

use portwright_ir::graph::{Op, ReduceOp};
use portwright_ir::kernel::{Ex, Kb, Module, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::elementwise::{combine, identity};
use super::eval::{Eval, Guard, Stop};
use super::{Begun, Built, Cx, TASK_ELEMS, finish, name_coords, vector_loop};

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Pool { .. }))?;
    let Op::Pool { op, kernel, strides, dilations, pads, count_pad, .. } = &node.op else { return Stop::no("no pooling") };
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let (x, root) = (node.operands[0], node.results[0]);
    let (from, dims) = (eval.dims(x), eval.dims(root));
    let s = kernel.len();
    if s == 0 || dims.len() != s + 2 {
        return Stop::no("a pooling window over all dims");
    }
    let (last, outer) = (dims[s + 1].clone(), dims[..s + 1].to_vec());
    if width > 1 && last.is(1) {
        return Err(Stop::NeedScalar);
    }
    let (low, high): (Vec<SymExpr>, Vec<SymExpr>) =
        (pads[..s].iter().map(|p| eval.syms.to_kernel(p)).collect(), pads[s..].iter().map(|p| eval.syms.to_kernel(p)).collect());
    let taps: i64 = kernel.iter().product();
    let d = eval.dtype(x);
    let op = *op;
    let ty = Ty::Scalar(d);
    let rows = product(&outer);
    let run = match last.as_const() {
        Some(n) => SymExpr::from((TASK_ELEMS / (n * taps).max(1)).max(1)),
        None => SymExpr::from(16),
    };
    let grid = [rows.ceil_div(&run), 1.into(), 1.into()];
    let r0 = k.let_("r0", k.gx() * k.dim(&run));
    let r1 = (&r0 + k.dim(&run)).min(k.dim(&rows));
    let mut stop = Ok(());
    k.for_("r", r0, r1, 1, |k, r| {
        eval.open();
        let at = eval.ix.bind("r", r, rows.clone());
        let lead = name_coords(k, eval, &at, &outer);
        let hi = k.dim(&last);
        stop = vector_loop(k, eval, "c", (0.into(), hi), &last, &mut |k, eval, c, guard| {
            let mut coords = lead.clone();
            coords.push(c.clone());
            let acc = k.var("acc", identity(op, d).typed(&ty).splat(width));
            let inside_count = (op == ReduceOp::Mean).then(|| k.var("count", Ex::lit(d, 0.0).splat(width)));
            let mut position: Vec<SymExpr> = coords[..2].to_vec();
            let mut counted = guard.clone();
            let body = &mut |k: &mut Kb<'_>, eval: &mut Eval<'_>, at: &[SymExpr], inside: &Guard, counted: &Guard| -> Result<(), Stop> {
                let v = eval.value(k, x, at, inside)?;
                let v = eval.widen(&v);
                let v = match eval.mask(k, inside)? {
                    Some(m) => m.select(v, identity(op, d).typed(&ty).splat(width)),
                    None => v,
                };
                k.set(&acc, combine(op, d, &acc.get(), &v));
                if let Some(count) = &inside_count {
                    let one = Ex::lit(d, 1.0).splat(width);
                    let one = match eval.mask(k, counted)? {
                        Some(m) => m.select(one, Ex::lit(d, 0.0).splat(width)),
                        None => one,
                    };
                    k.set(count, count.get() + one);
                }
                Ok(())
            };
            let shape = Taps { kernel, strides, dilations, low: &low, high: &high, from: &from, count_pad: *count_pad };
            let mut inside = guard.clone();
            shape.each(k, eval, &coords[2..], &mut position, &mut inside, &mut counted, body)?;
            let value = match &inside_count {
                Some(count) => {
                    // A window that lies in the padding alone has no mean; its sum is 0.
                    let n = count.get();
                    acc.get() / n.max(1.0)
                }
                None => acc.get(),
            };
            let value = k.let_(op.name(), value);
            eval.bind(root, &coords, guard, value);
            for (o, buf) in cx.region.outputs().iter().zip(outputs.iter()) {
                let v = eval.value(k, o.value, &coords, guard)?;
                eval.store(k, *buf, &coords, guard, &v)?;
            }
            Ok(())
        });
        eval.close();
    });
    stop?;
    Ok(finish(b, grid, (TASK_ELEMS / 8) as u32))
}

/// A window's taps.
struct Taps<'s> {
    kernel: &'s [i64],
    strides: &'s [i64],
    dilations: &'s [i64],
    low: &'s [SymExpr],
    high: &'s [SymExpr],
    from: &'s [SymExpr],
    count_pad: bool,
}

type TapBody<'b> = dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &[SymExpr], &Guard, &Guard) -> Result<(), Stop> + 'b;

impl Taps<'_> {
    #[allow(clippy::too_many_arguments)]
    fn each(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        spatial: &[SymExpr],
        position: &mut Vec<SymExpr>,
        inside: &mut Guard,
        counted: &mut Guard,
        body: &mut TapBody<'_>,
    ) -> Result<(), Stop> {
        let i = position.len() - 2;
        if i == self.kernel.len() {
            return body(k, eval, position, inside, counted);
        }
        let mut stop = Ok(());
        k.for_("t", 0, self.kernel[i], 1, |k, t| {
            eval.open();
            let tap = eval.ix.bind("t", t, self.kernel[i].into());
            let p = spatial[i].clone() * self.strides[i] + tap * self.dilations[i] - self.low[i].clone();
            let (before_in, before_count) = (inside.clone(), counted.clone());
            *inside = eval.guarded(inside, &p, &self.from[2 + i]);
            *counted = if self.count_pad {
                let padded = self.from[2 + i].clone() + self.low[i].clone() + self.high[i].clone();
                eval.guarded(counted, &(p.clone() + self.low[i].clone()), &padded)
            } else {
                eval.guarded(counted, &p, &self.from[2 + i])
            };
            position.push(p);
            stop = self.each(k, eval, spatial, position, inside, counted, body);
            position.pop();
            (*inside, *counted) = (before_in, before_count);
            eval.close();
        });
        stop
    }
}
