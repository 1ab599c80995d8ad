// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recurrences: one task a direction and batch element walks the steps with its state in scratch.
//!
//! Matrix-vector products read rows of the weights, which are neighbors in memory, four rows at a time.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{Op, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Module, UnOp};
use portwright_ir::sym::SymExpr;

use super::elementwise::like;
use super::eval::{Eval, Guard, Stop};
use super::{Begun, Built, Cx, finish, vector_loop};

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Lstm { .. } | Op::Gru { .. }))?;
    let (direction, gates, linear_before_reset) = match &node.op {
        Op::Lstm { direction } => (*direction, 4, false),
        Op::Gru { direction, linear_before_reset } => (*direction, 3, *linear_before_reset),
        _ => return Stop::no("no recurrence"),
    };
    let lstm = gates == 4;
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let x = node.operands[0];
    let d = eval.dtype(x);
    if !matches!(d, DType::F32 | DType::F64) {
        return Stop::no("a recurrence in other than f32 or f64");
    }
    let (steps, batch) = (eval.dims(x)[0].clone(), eval.dims(x)[1].clone());
    let r_dims = eval.dims(node.operands[2]);
    let (directions, hidden) = (r_dims[0].clone(), r_dims[2].clone());
    let pad = hidden.round_up(i64::from(width));
    let local = |k: &mut Kb<'_>, name: &str, n: SymExpr| k.local(name, BufDecl::rw(d, [n]).align(64));
    let h = local(k, "h", pad.clone());
    let c = local(k, "c", pad.clone());
    let g = local(k, "g", pad.clone() * gates);
    let rh = local(k, "rh", pad.clone() * if lstm { 1 } else { gates });
    let dd = eval.ix.bind("d", k.gx(), directions.clone());
    let bb = eval.ix.bind("b", k.gy(), batch.clone());
    let rows = Rows { d, hidden: hidden.clone(), pad: pad.clone() };

    let each =
        |k: &mut Kb<'_>, eval: &mut Eval<'_>, body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &SymExpr, &Guard) -> Result<(), Stop>| {
            let hi = k.dim(&hidden);
            vector_loop(k, eval, "j", (0.into(), hi), &hidden, body)
        };
    each(k, eval, &mut |k, eval, j, guard| {
        let at = [dd.clone(), bb.clone(), j.clone()];
        let h0 = eval.value(k, node.operands[4], &at, guard)?;
        eval.store(k, h, &[j.clone()], guard, &h0)?;
        if lstm {
            let c0 = eval.value(k, node.operands[5], &at, guard)?;
            eval.store(k, c, &[j.clone()], guard, &c0)?;
        }
        Ok(())
    })?;
    let mut stop = Ok(());
    let n_steps = k.dim(&steps);
    k.for_("t", 0, &n_steps, 1, |k, t| {
        eval.open();
        let back = &n_steps - 1 - &t;
        let now = match direction {
            Direction::Forward => t.clone(),
            Direction::Reverse => back,
            Direction::Bidirectional => k.gx().equals(1).select(back, &t),
        };
        let now = k.let_("now", now);
        let now = eval.ix.bind("now", now, steps.clone());
        stop = (|| {
            let xs = |at: &SymExpr| vec![now.clone(), bb.clone(), at.clone()];
            rows.products(k, eval, g, gates, &dd, node.operands[1], Source::Value(x, &xs))?;
            let recurrent = if lstm || linear_before_reset { gates } else { 2 };
            if lstm {
                rows.add_products(k, eval, g, gates, &dd, node.operands[2], h)?;
            } else {
                rows.products(k, eval, rh, recurrent, &dd, node.operands[2], Source::Row(h))?;
            }
            let bias = |k: &mut Kb<'_>, eval: &mut Eval<'_>, gate: i64, j: &SymExpr, guard: &Guard| {
                eval.value(k, node.operands[3], &[dd.clone(), hidden.clone() * gate + j.clone()], guard)
            };
            if lstm {
                each(k, eval, &mut |k, eval, j, guard| {
                    let gate = |k: &mut Kb<'_>, eval: &mut Eval<'_>, i: i64| -> Result<Ex, Stop> {
                        let v = eval.load(k, "g", g, &[pad.clone() * i + j.clone()], guard)?;
                        let (wb, rb) = (bias(k, eval, i, j, guard)?, bias(k, eval, 4 + i, j, guard)?);
                        Ok(k.let_("pre", v + (wb + rb)))
                    };
                    let (i, o, f, u) = (gate(k, eval, 0)?, gate(k, eval, 1)?, gate(k, eval, 2)?, gate(k, eval, 3)?);
                    let old = eval.load(k, "c", c, &[j.clone()], guard)?;
                    let cell = sigmoid(&f) * old + sigmoid(&i) * u.un(UnOp::Tanh);
                    let cell = k.let_("cell", cell);
                    let out = sigmoid(&o) * cell.un(UnOp::Tanh);
                    let out = k.let_("out", out);
                    eval.store(k, c, &[j.clone()], guard, &cell)?;
                    eval.store(k, h, &[j.clone()], guard, &out)?;
                    write(k, eval, cx, outputs, node.results[0], &[now.clone(), dd.clone(), bb.clone(), j.clone()], guard, &out)
                })
            } else {
                if !linear_before_reset {
                    // The reset gate is applied to the state before its product: `g` of gate r, then the product of gate h.
                    each(k, eval, &mut |k, eval, j, guard| {
                        let v = eval.load(k, "g", g, &[pad.clone() + j.clone()], guard)?;
                        let q = eval.load(k, "q", rh, &[pad.clone() + j.clone()], guard)?;
                        let (wb, rb) = (bias(k, eval, 1, j, guard)?, bias(k, eval, 4, j, guard)?);
                        let r = sigmoid(&(v + q + (wb + rb)));
                        let old = eval.load(k, "h", h, &[j.clone()], guard)?;
                        let reset = k.let_("reset", r * old);
                        eval.store(k, c, &[j.clone()], guard, &reset)
                    })?;
                    rows.one_product(k, eval, rh, 2, &dd, node.operands[2], c)?;
                }
                each(k, eval, &mut |k, eval, j, guard| {
                    let pre = |k: &mut Kb<'_>, eval: &mut Eval<'_>, i: i64| -> Result<(Ex, Ex), Stop> {
                        let v = eval.load(k, "g", g, &[pad.clone() * i + j.clone()], guard)?;
                        let q = eval.load(k, "q", rh, &[pad.clone() * i + j.clone()], guard)?;
                        let (wb, rb) = (bias(k, eval, i, j, guard)?, bias(k, eval, 3 + i, j, guard)?);
                        Ok((k.let_("v", v + wb), k.let_("q", q + rb)))
                    };
                    let (zv, zq) = pre(k, eval, 0)?;
                    let z = k.let_("z", sigmoid(&(zv + zq)));
                    let (hv, hq) = pre(k, eval, 2)?;
                    let u = if linear_before_reset {
                        let (rv, rq) = pre(k, eval, 1)?;
                        let r = k.let_("r", sigmoid(&(rv + rq)));
                        hv + r * hq
                    } else {
                        hv + hq
                    };
                    let u = k.let_("u", u.un(UnOp::Tanh));
                    let old = eval.load(k, "h", h, &[j.clone()], guard)?;
                    let out = (like(&z, 1.0) - &z) * u + &z * old;
                    let out = k.let_("out", out);
                    eval.store(k, h, &[j.clone()], guard, &out)?;
                    write(k, eval, cx, outputs, node.results[0], &[now.clone(), dd.clone(), bb.clone(), j.clone()], guard, &out)
                })
            }
        })();
        eval.close();
    });
    stop?;
    each(k, eval, &mut |k, eval, j, guard| {
        let at = [dd.clone(), bb.clone(), j.clone()];
        let out = eval.load(k, "h", h, &[j.clone()], guard)?;
        write(k, eval, cx, outputs, node.results[1], &at, guard, &out)?;
        if lstm {
            let cell = eval.load(k, "c", c, &[j.clone()], guard)?;
            write(k, eval, cx, outputs, node.results[2], &at, guard, &cell)?;
        }
        Ok(())
    })?;
    let grid = [directions, batch, 1.into()];
    Ok(finish(b, grid, 100_000))
}

fn sigmoid(x: &Ex) -> Ex {
    like(x, 1.0) / ((-x).un(UnOp::Exp) + like(x, 1.0))
}

/// Stores a result if the region hands it out.
#[allow(clippy::too_many_arguments)]
fn write(
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    cx: &Cx<'_>,
    outputs: &[Buf],
    v: ValueId,
    at: &[SymExpr],
    guard: &Guard,
    ex: &Ex,
) -> Result<(), Stop> {
    for (o, buf) in cx.region.outputs().iter().zip(outputs) {
        if o.value == v {
            eval.store(k, *buf, at, guard, ex)?;
        }
    }
    Ok(())
}

/// What a matrix meets.
enum Source<'s> {
    /// A value of the region; the closure gives its coordinates.
    Value(ValueId, &'s dyn Fn(&SymExpr) -> Vec<SymExpr>),
    /// A row of scratch.
    Row(Buf),
}

/// Products of `[D, gates * H, n]` weights with a vector, into rows of scratch that are `pad` apart.
struct Rows {
    d: DType,
    hidden: SymExpr,
    pad: SymExpr,
}

impl Rows {
    #[allow(clippy::too_many_arguments)]
    fn products(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        to: Buf,
        gates: i64,
        dir: &SymExpr,
        w: ValueId,
        x: Source<'_>,
    ) -> Result<(), Stop> {
        (0..gates).try_for_each(|gate| self.gate(k, eval, to, gate, dir, w, &x, false))
    }
    #[allow(clippy::too_many_arguments)]
    fn add_products(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        to: Buf,
        gates: i64,
        dir: &SymExpr,
        w: ValueId,
        x: Buf,
    ) -> Result<(), Stop> {
        (0..gates).try_for_each(|gate| self.gate(k, eval, to, gate, dir, w, &Source::Row(x), true))
    }
    #[allow(clippy::too_many_arguments)]
    fn one_product(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, to: Buf, gate: i64, dir: &SymExpr, w: ValueId, x: Buf) -> Result<(), Stop> {
        self.gate(k, eval, to, gate, dir, w, &Source::Row(x), false)
    }
    /// Four rows at a time, then one, so that the vector is read a quarter as often.
    #[allow(clippy::too_many_arguments)]
    fn gate(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        to: Buf,
        gate: i64,
        dir: &SymExpr,
        w: ValueId,
        x: &Source<'_>,
        add: bool,
    ) -> Result<(), Stop> {
        let n = eval.dims(w)[2].clone();
        let whole = k.let_("four", k.dim(&self.hidden) / 4 * 4);
        let mut stop = Ok(());
        for (lo, hi, rows) in [(Ex::from(0), whole.clone(), 4i64), (whole, k.dim(&self.hidden), 1)] {
            k.for_("row", lo, hi, rows, |k, row| {
                eval.open();
                let row = eval.ix.bind("row", row, self.hidden.clone() - (rows - 1));
                stop = self.block(k, eval, to, gate, dir, w, x, add, &n, &row, rows);
                eval.close();
            });
            std::mem::replace(&mut stop, Ok(()))?;
        }
        Ok(())
    }
    #[allow(clippy::too_many_arguments)]
    fn block(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        to: Buf,
        gate: i64,
        dir: &SymExpr,
        w: ValueId,
        x: &Source<'_>,
        add: bool,
        n: &SymExpr,
        row: &SymExpr,
        rows: i64,
    ) -> Result<(), Stop> {
        let acc = k.var_array("acc", &[rows as u32], Ex::lit(self.d, 0.0).splat(eval.width));
        let hi = k.dim(n);
        vector_loop(k, eval, "i", (0.into(), hi), n, &mut |k, eval, i, guard| {
            let xv = match x {
                Source::Value(v, at) => eval.value(k, *v, &at(i), guard)?,
                Source::Row(b) => eval.load(k, "x", *b, &[i.clone()], guard)?,
            };
            for r in 0..rows {
                let at = [dir.clone(), self.hidden.clone() * gate + row.clone() + r, i.clone()];
                let wv = eval.value(k, w, &at, guard)?;
                let reg = acc.at([Ex::from(r)]);
                let next = wv.fma(&xv, reg.get());
                k.set(&reg, next);
            }
            Ok(())
        })?;
        for r in 0..rows {
            let at = [self.pad.clone() * gate + row.clone() + r];
            let sum = acc.at([Ex::from(r)]).get().hsum();
            let sum = if add { eval.load(k, "g", to, &at, &Guard::new())? + sum } else { sum };
            let sum = k.let_("sum", sum);
            eval.store(k, to, &at, &Guard::new(), &sum)?;
        }
        Ok(())
    }
}
