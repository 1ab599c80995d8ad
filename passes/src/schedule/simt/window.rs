// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pooling: a lane walks the window of one result.

use portwright_ir::graph::{Op, ReduceOp};
use portwright_ir::kernel::{Ex, Module, Ty};
use portwright_ir::sym::SymExpr;

use super::elementwise::{combine, identity};
use super::{Built, Cx, Guard, Stop, done, each, each_lane, elems, name_coords, store_outputs};

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Pool { .. }))?;
    let Op::Pool { op, kernel, strides, dilations, pads, count_pad, channels_last, .. } = &node.op else {
        return Stop::no("no pooling");
    };
    let mut b = cx.begin(module, 1);
    let (x, root) = (node.operands[0], node.results[0]);
    let (from, dims, d) = (b.eval.dims(x), b.eval.dims(root), b.eval.dtype(x));
    let s = kernel.len();
    if s == 0 || dims.len() != s + 2 || pads.len() != 2 * s {
        return Stop::no("a pooling window over all dims");
    }
    // Where the spatial dims begin.
    let first = if *channels_last { 1 } else { 2 };
    let pads: Vec<SymExpr> = pads.iter().map(|p| b.eval.syms.to_kernel(p)).collect();
    let taps: Vec<SymExpr> = kernel.iter().map(|&n| n.into()).collect();
    let (op, outputs, ty) = (*op, b.outputs.clone(), Ty::Scalar(d));
    let total = elems(&dims);
    let groups = each_lane(cx, &mut b, &total, &mut |k, eval, i| {
        let coords = name_coords(k, eval, i, &dims);
        let acc = k.var("acc", identity(op, d).typed(&ty));
        let count = (op == ReduceOp::Mean).then(|| k.var("count", Ex::lit(d, 0.0)));
        each(k, eval, &taps, &mut Vec::new(), &mut |k, eval, tap| {
            let (mut at, mut inside, mut counted) = (coords.clone(), Guard::new(), Guard::new());
            for i in 0..s {
                let p = coords[first + i].clone() * strides[i] + tap[i].clone() * dilations[i] - pads[i].clone();
                inside = eval.guarded(&inside, &p, &from[first + i]);
                let padded = from[first + i].clone() + pads[i].clone() + pads[s + i].clone();
                counted = match count_pad {
                    true => eval.guarded(&counted, &(p.clone() + pads[i].clone()), &padded),
                    false => eval.guarded(&counted, &p, &from[first + i]),
                };
                at[first + i] = p;
            }
            let v = eval.value(k, x, &at, &inside)?;
            let v = match eval.mask(k, &inside)? {
                Some(m) => m.select(v, identity(op, d).typed(&ty)),
                None => v,
            };
            k.set(&acc, combine(op, d, &acc.get(), &v));
            if let Some(count) = &count {
                let one = match eval.mask(k, &counted)? {
                    Some(m) => m.select(Ex::lit(d, 1.0), Ex::lit(d, 0.0)),
                    None => Ex::lit(d, 1.0),
                };
                k.set(count, count.get() + one);
            }
            Ok(())
        })?;
        let value = match &count {
            // A window that lies in the padding alone has no mean; its sum is 0.
            Some(count) => acc.get() / count.get().max(1.0),
            None => acc.get(),
        };
        let value = k.let_(op.name(), value);
        eval.bind(root, &coords, &Guard::new(), value);
        store_outputs(cx, &outputs, k, eval, &dims, &coords, &Guard::new())
    })?;
    Ok(done(b, groups))
}
