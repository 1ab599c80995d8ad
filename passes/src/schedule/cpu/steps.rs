// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps of recurrences: products of states with blocks of recurrent weights, gates and states behind them in registers.
//!
//! A block of weights holds, for each element of the state, the weights of all gates for as many hidden units as two vectors have lanes, so
//! that a step reads them from end to end and nothing is summed across lanes. The states are what the results hold: a step reads the rows
//! of `y` that the step before wrote. Where weights are of bf16, pairs of states are rounded to it and multiplied at once.
//!
//! Where a step is work for more than one thread, the launch goes in steps and a group is a block of hidden units; else a group walks all
//! steps of some rows of the batch. Both add in one order.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{Graph, Node, Op, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Mem, Module, Reg, Ty, UnOp};
use portwright_ir::sym::SymExpr;

use super::elementwise::like;
use super::eval::{Eval, Guard, Stop};
use super::index::lane;
use super::{Begun, Built, Cx, finish, vector_loop};
use crate::spec::DotForm;

/// Products of a step that are work for more than one thread: some two microseconds.
const STEP_PRODUCTS: i64 = 1 << 16;

/// Steps of a run where their number is not known, for the cost of a group.
const USUAL_STEPS: i64 = 64;

/// What computes the steps.
struct Steps<'a> {
    node: &'a Node,
    /// Memory of the results: `y`, `h` and, for an LSTM, `c`.
    y: Buf,
    h: Buf,
    c: Option<Buf>,
    direction: Direction,
    linear_before_reset: bool,
    gates: i64,
    steps: SymExpr,
    batch: SymExpr,
    hidden: i64,
    blocks: i64,
    /// Hidden units of a block, and lanes and vectors of those that are computed at once.
    block: i64,
    lanes: i64,
    vectors: i64,
    /// States of the step before for the rows at hand.
    state: Buf,
    /// The update gate, and states behind the reset gate, where that comes before the product.
    update: Option<(Buf, Buf)>,
    /// Where weights are of bf16: how they are multiplied, and states as they meet them.
    halves: Option<(DotForm, Buf)>,
    /// States as bytes, where weights are.
    bytes: Option<Bytes>,
}

/// States of rows rounded to bytes.
struct Bytes {
    /// Neighbors that are multiplied at once.
    group: i64,
    /// Values of a row: whole groups of them. What fills up the last is the zero point.
    values: i64,
    rounded: Buf,
    /// What a unit is, which value is 0, and the sum of a row's differences from it.
    scale: Buf,
    zero: Buf,
    total: Buf,
}

/// Where in the recurrence.
struct Now {
    d: SymExpr,
    at: SymExpr,
    /// Steps that are done.
    t: Ex,
}

/// Whether the region is steps of a recurrence.
pub(crate) fn takes(region: &Graph) -> bool {
    region.node_ids().any(|n| matches!(region.node(n).op, Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. }))
}

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. }))?;
    let (direction, linear_before_reset, depth) = match node.op {
        Op::LstmSteps { direction, depth } => (direction, true, depth),
        Op::LstmByteSteps { direction, .. } => (direction, true, 1),
        Op::GruSteps { direction, linear_before_reset, depth } => (direction, linear_before_reset, depth),
        _ => return Stop::no("no recurrence"),
    };
    let lstm = node.results.len() == 3;
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let result = |v: ValueId| cx.region.outputs().iter().position(|o| o.value == v).and_then(|i| outputs.get(i)).copied();
    let results: Option<Vec<Buf>> = node.results.iter().map(|&v| result(v)).collect();
    let Some(&[y, h, ref c @ ..]) = results.as_deref() else { return Stop::no("a recurrence without memory for its states") };
    let (g, r) = (eval.dims(node.operands[0]), eval.dims(node.operands[1]));
    let ([steps, batch, directions, gates, hidden], [_, blocks, .., block]) = (g.as_slice(), r.as_slice()) else {
        return Stop::no("a recurrence of other ranks");
    };
    let known = |e: &SymExpr| e.as_const().map_or_else(|| Stop::no("a recurrence of unknown size"), Ok);
    let group = if let Op::LstmByteSteps { group, .. } = node.op { Some(i64::from(group)) } else { None };
    let (gates, hidden, blocks, block) = (known(gates)?, known(hidden)?, known(blocks)?, known(block)? / group.unwrap_or(depth));
    let (steps, batch, directions) = (steps.clone(), batch.clone(), directions.clone());
    let half = cx.spec.dot(DType::BF16, DType::BF16, eval.dtype(node.operands[0])).filter(|f| i64::from(f.depth) == depth && f.depth == 2);
    if half.is_none() && (depth > 1 || eval.dtype(node.operands[1]) == DType::BF16) {
        return Stop::no("pairs of states that no instruction multiplies");
    }
    let dot = group.and_then(|g| cx.spec.byte_dot().filter(|f| i64::from(f.depth) == g));
    if group.is_some_and(|g| g > 1 && dot.is_none()) {
        return Stop::no("groups of bytes that no instruction multiplies");
    }
    let lanes = i64::from(eval.width);
    let vectors = if block % (2 * lanes) == 0 { 2 } else { 1 };
    if block % lanes != 0 {
        return Err(Stop::NeedScalar);
    }

    // Rows of the batch that share the weights, as many as registers hold sums for.
    let free = i64::from(cx.spec.vec_regs) - 2;
    let most = (free / (gates * vectors)).clamp(1, 8);
    let rows = match batch.as_const() {
        Some(n) => {
            let parts = ((n + most - 1) / most).max(1);
            ((n + parts - 1) / parts).max(1)
        }
        None => most,
    };
    let row_products = gates * hidden * hidden;
    // Groups of a step would all round the same states to bytes, which takes as long as the products of a block.
    let in_steps =
        linear_before_reset && blocks > 1 && group.is_none() && row_products.saturating_mul(batch.as_const().unwrap_or(1)) >= STEP_PRODUCTS;

    let d = eval.dtype(node.operands[0]);
    let padded = blocks * block;
    let local = |k: &mut Kb<'_>, name: &str, d: DType| k.local(name, BufDecl::rw(d, [SymExpr::from(rows), padded.into()]).align(64));
    let state = local(k, "state", d);
    let update = if linear_before_reset { None } else { Some((local(k, "update", d), local(k, "reset", half.map_or(d, |f| f.a)))) };
    let halves = half.map(|form| (form, local(k, "halves", form.a)));
    let bytes = group.map(|group| {
        let values = (hidden + group - 1) / group * group;
        let mut local = |name: &str, d: DType, n: i64| k.local(name, BufDecl::rw(d, [SymExpr::from(rows), n.into()]).align(64));
        Bytes {
            group,
            values,
            rounded: local("rounded", dot.map_or(DType::U8, |f| f.a), values),
            scale: local("scale", d, 1),
            zero: local("zero", DType::I32, 1),
            total: local("total", DType::I32, 1),
        }
    });
    let s = Steps {
        node,
        bytes,
        y,
        h,
        c: if lstm { c.first().copied() } else { None },
        direction,
        linear_before_reset,
        gates,
        steps: steps.clone(),
        batch: batch.clone(),
        hidden,
        blocks,
        block,
        lanes,
        vectors,
        state,
        update,
        halves,
    };
    let dd = eval.ix.bind("d", k.gy(), directions.clone());
    let (grid, products) = if in_steps {
        s.in_steps(k, eval, &dd, rows)?;
        let count = if eval.ix.bounds(&steps).0 > 0 { steps.clone() } else { steps.maximum(&1.into()) };
        ([blocks.into(), directions, count], (gates * block * hidden).saturating_mul(batch.as_const().unwrap_or(1)))
    } else {
        s.walk(k, eval, &dd, rows)?;
        ([batch.ceil_div(&rows.into()), directions, 1.into()], row_products.saturating_mul(rows * steps.as_const().unwrap_or(USUAL_STEPS)))
    };
    // Some 25 products a nanosecond.
    Ok(finish(b, grid, (products / if half.is_some() { 50 } else { 25 }).clamp(1, i64::from(u32::MAX)) as u32))
}

impl Steps<'_> {
    /// A group is one block of hidden units in one step.
    fn in_steps(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, d: &SymExpr, rows: i64) -> Result<(), Stop> {
        k.steps();
        let block = eval.ix.bind("block", k.gx(), self.blocks.into());
        let t = k.gz();
        let mut stop = Ok(());
        let all = |k: &mut Kb<'_>, eval: &mut Eval<'_>| -> Result<(), Stop> {
            let now = self.now(k, eval, d, t.clone());
            let whole = k.let_("whole", k.dim(&self.batch) / rows * rows);
            let parts = [(Ex::from(0), whole.clone(), rows), (whole, k.dim(&self.batch), 1)];
            let needed = if rows == 1 || self.batch.divisible_by(rows, &|_| 1) { 1 } else { 2 };
            for (lo, hi, m) in parts.into_iter().take(needed) {
                let mut stop = Ok(());
                k.for_("b", lo, hi, m, |k, b| {
                    eval.open();
                    let b = eval.ix.bind("b", b, self.batch.clone() - (m - 1));
                    stop = self.read_state(k, eval, &now, &b, m).and_then(|()| self.block(k, eval, &now, &b, m, &block));
                    eval.close();
                });
                stop?;
            }
            Ok(())
        };
        if eval.ix.bounds(&self.steps).0 > 0 {
            return all(k, eval);
        }
        let none = k.dim(&self.steps).equals(0);
        k.if_(!none.clone(), |k| {
            eval.open();
            stop = all(k, eval);
            eval.close();
        });
        stop?;
        let mut stop = Ok(());
        k.if_(none & k.gx().equals(0), |k| {
            k.for_("b", 0, k.dim(&self.batch), 1, |k, b| {
                eval.open();
                let b = eval.ix.bind("b", b, self.batch.clone());
                stop = self.hand_over(k, eval, d, &b);
                eval.close();
            });
        });
        stop
    }

    /// A group is some rows of the batch in all steps.
    fn walk(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, d: &SymExpr, rows: i64) -> Result<(), Stop> {
        let first = k.let_("first", k.gx() * rows);
        if self.batch.divisible_by(rows, &|_| 1) {
            let b = eval.ix.bind("b", first, self.batch.clone() - (rows - 1));
            return self.all_steps(k, eval, d, &b, rows);
        }
        let (mut stop, mut rest) = (Ok(()), Ok(()));
        let end = k.let_("end", &first + rows);
        let whole = k.let_("whole", end.le(k.dim(&self.batch)));
        k.if_(&whole, |k| {
            eval.open();
            let b = eval.ix.bind("b", first.clone(), self.batch.clone() - (rows - 1));
            stop = self.all_steps(k, eval, d, &b, rows);
            eval.close();
        });
        k.if_(!whole.clone(), |k| {
            k.for_("b", first.clone(), k.dim(&self.batch), 1, |k, b| {
                eval.open();
                let b = eval.ix.bind("b", b, self.batch.clone());
                rest = self.all_steps(k, eval, d, &b, 1);
                eval.close();
            });
        });
        stop.and(rest)
    }
    fn all_steps(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, d: &SymExpr, b: &SymExpr, rows: i64) -> Result<(), Stop> {
        let mut stop = Ok(());
        k.for_("t", 0, k.dim(&self.steps), 1, |k, t| {
            eval.open();
            let now = self.now(k, eval, d, t);
            stop = (|| {
                self.read_state(k, eval, &now, b, rows)?;
                if self.update.is_some() {
                    self.each_block(k, eval, &mut |k, eval, block| self.gates_before(k, eval, &now, b, rows, block))?;
                }
                self.each_block(k, eval, &mut |k, eval, block| self.block(k, eval, &now, b, rows, block))
            })();
            eval.close();
        });
        stop?;
        if eval.ix.bounds(&self.steps).0 > 0 {
            return Ok(());
        }
        let mut stop = Ok(());
        k.if_(k.dim(&self.steps).equals(0), |k| {
            eval.open();
            stop = (0..rows).try_for_each(|i| self.hand_over(k, eval, d, &(b.clone() + i)));
            eval.close();
        });
        stop
    }
    fn each_block(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &SymExpr) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut stop = Ok(());
        k.for_("block", 0, self.blocks, 1, |k, block| {
            eval.open();
            let block = eval.ix.bind("block", block, self.blocks.into());
            stop = body(k, eval, &block);
            eval.close();
        });
        stop
    }

    fn now(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, d: &SymExpr, t: Ex) -> Now {
        let back = k.dim(&self.steps) - 1 - &t;
        let at = match self.direction {
            Direction::Forward => t.clone(),
            Direction::Reverse => back,
            Direction::Bidirectional => k.gy().equals(1).select(back, &t),
        };
        let at = k.let_("now", at);
        Now { d: d.clone(), at: eval.ix.bind("now", at, self.steps.clone()), t }
    }
    /// Copies the states that the step before left, which other blocks are about to replace.
    fn read_state(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, now: &Now, b: &SymExpr, rows: i64) -> Result<(), Stop> {
        let h0 = self.node.operands[if self.gates == 4 { 2 } else { 3 }];
        let copy = |k: &mut Kb<'_>,
                    eval: &mut Eval<'_>,
                    from: &dyn Fn(&mut Kb<'_>, &mut Eval<'_>, i64, &SymExpr, &Guard) -> Result<Ex, Stop>|
         -> Result<(), Stop> {
            vector_loop(k, eval, "j", (0.into(), self.hidden.into()), &self.hidden.into(), &mut |k, eval, j, guard| {
                (0..rows).try_for_each(|i| {
                    let x = from(k, eval, i, j, guard)?;
                    if let Some((form, halves)) = self.halves {
                        eval.store(k, halves, &[i.into(), j.clone()], guard, &x.cast(form.a))?;
                    }
                    // States of an LSTM only meet their weights.
                    if self.halves.is_some() && self.c.is_some() {
                        return Ok(());
                    }
                    eval.store(k, self.state, &[i.into(), j.clone()], guard, &x)
                })
            })
        };
        let (mut first, mut later) = (Ok(()), Ok(()));
        let begin = k.let_("begin", now.t.equals(0));
        k.if_(&begin, |k| {
            eval.open();
            first = copy(k, eval, &|k, eval, i, j, guard| eval.value(k, h0, &[now.d.clone(), b.clone() + i, j.clone()], guard));
            eval.close();
        });
        k.if_(!begin.clone(), |k| {
            eval.open();
            let at = eval.ix.emit(k, &now.at);
            let before = match self.direction {
                Direction::Forward => at - 1,
                Direction::Reverse => at + 1,
                Direction::Bidirectional => k.gy().equals(1).select(&at + 1, &at - 1),
            };
            let before = k.let_("before", before);
            let before = eval.ix.bind("before", before, self.steps.clone());
            later = copy(k, eval, &|k, eval, i, j, guard| {
                eval.load(k, "h", self.y, &[before.clone(), now.d.clone(), b.clone() + i, j.clone()], guard)
            });
            eval.close();
        });
        first.and(later)?;
        match &self.bytes {
            Some(bytes) => (0..rows).try_for_each(|i| self.round(k, eval, bytes, i)),
            None => Ok(()),
        }
    }
    /// Rounds the states of a row to bytes.
    fn round(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, bytes: &Bytes, row: i64) -> Result<(), Stop> {
        let d = self.state.dtype;
        let (width, hidden) = (eval.width, SymExpr::from(self.hidden));
        let load = |k: &mut Kb<'_>, eval: &mut Eval<'_>, j: &SymExpr, guard: &Guard| {
            let x = eval.load(k, "h", self.state, &[row.into(), j.clone()], guard)?;
            Ok(eval.widen(&x))
        };
        let one = |buf: Buf| Mem::new(buf, vec![(Ex::from(row), 1), (Ex::from(0), 1)]);
        let zero = || Ex::lit(d, 0.0).splat(width);
        let (lo, hi) = (k.var("lo", zero()), k.var("hi", zero()));
        vector_loop(k, eval, "j", (0.into(), self.hidden.into()), &hidden, &mut |k, eval, j, guard| {
            let x = load(k, eval, j, guard)?;
            k.set(&lo, lo.get().min(&x));
            k.set(&hi, hi.get().max(&x));
            Ok(())
        })?;
        let flat = |x: Ex, f: fn(&Ex) -> Ex| if width == 1 { x } else { f(&x) };
        let (lo, hi) = (k.let_("least", flat(lo.get(), Ex::hmin)), k.let_("most", flat(hi.get(), Ex::hmax)));
        let span = k.let_("span", hi - &lo);
        let unit = k.let_("unit", span.equals(Ex::lit(d, 0.0)).select(Ex::lit(d, 1.0), &span / Ex::lit(d, 255.0)));
        let origin = k.let_("origin", ((-lo) / &unit).un(UnOp::Rint).clamp(Ex::lit(d, 0.0), Ex::lit(d, 255.0)));
        // Signed bytes are 128 less.
        let shift = if bytes.rounded.dtype == DType::I8 { 128.0 } else { 0.0 };
        let sum = k.var("sum", Ex::int(0).typed(&Ty::Scalar(DType::I32)).splat(width));
        let whole = SymExpr::from(bytes.values);
        vector_loop(k, eval, "j", (0.into(), bytes.values.into()), &whole, &mut |k, eval, j, guard| {
            let inside = eval.guarded(guard, j, &hidden);
            let x = load(k, eval, j, &inside)?;
            let moved = (x / eval.widen(&unit)).un(UnOp::Rint) + eval.widen(&origin);
            let q = moved.clamp(Ex::lit(d, 0.0).splat(width), Ex::lit(d, 255.0).splat(width));
            let q = k.let_("q", (q - Ex::lit(d, shift).splat(width)).cast_sat(DType::I32));
            eval.store(k, bytes.rounded, &[row.into(), j.clone()], guard, &q.cast(bytes.rounded.dtype))?;
            let kept = match eval.mask(k, guard)? {
                Some(m) => m.select(&q, Ex::int(0).typed(&Ty::Scalar(DType::I32)).splat(width)),
                None => q,
            };
            k.set(&sum, sum.get() + kept);
            Ok(())
        })?;
        let zero = k.let_("zero", (origin - Ex::lit(d, shift)).cast_sat(DType::I32));
        let total = flat(sum.get(), Ex::hsum) - &zero * bytes.values;
        k.store(one(bytes.scale), unit);
        k.store(one(bytes.zero), zero);
        k.store(one(bytes.total), total);
        Ok(())
    }
    /// States as they meet their weights.
    fn met(&self) -> Buf {
        self.halves.map_or(self.state, |(_, halves)| halves)
    }
    /// Without steps the states are what they were.
    fn hand_over(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, d: &SymExpr, b: &SymExpr) -> Result<(), Stop> {
        let states = if self.gates == 4 { 2 } else { 3 };
        vector_loop(k, eval, "j", (0.into(), self.hidden.into()), &self.hidden.into(), &mut |k, eval, j, guard| {
            for (i, to) in [Some(self.h), self.c].into_iter().flatten().enumerate() {
                let at = [d.clone(), b.clone(), j.clone()];
                let x = eval.value(k, self.node.operands[states + i], &at, guard)?;
                eval.store(k, to, &at, guard, &x)?;
            }
            Ok(())
        })
    }

    /// Repeats `body` over what of a block is computed at once, with the first hidden unit in the block.
    fn parts(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'_>, &SymExpr) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let run = self.lanes * self.vectors;
        if run == self.block {
            return body(k, eval, &0.into());
        }
        let mut stop = Ok(());
        k.for_("part", 0, self.block / run, 1, |k, part| {
            eval.open();
            let part = eval.ix.bind("part", part, (self.block / run).into()) * run;
            stop = body(k, eval, &part);
            eval.close();
        });
        stop
    }
    /// Hidden units of vector `v`, with the lane in it, and which of them exist.
    fn units(&self, eval: &Eval<'_>, block: &SymExpr, part: &SymExpr, v: i64) -> (SymExpr, Guard) {
        let j = block.clone() * self.block + part.clone() + v * self.lanes + lane();
        let guard = eval.guarded(&Guard::new(), &j, &self.hidden.into());
        (j, guard)
    }
    /// What inputs and biases give a gate.
    fn given(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        now: &Now,
        b: &SymExpr,
        gate: i64,
        j: &SymExpr,
        guard: &Guard,
    ) -> Result<Ex, Stop> {
        let at = [now.at.clone(), b.clone(), now.d.clone(), gate.into(), j.clone()];
        let x = eval.value(k, self.node.operands[0], &at, guard)?;
        Ok(eval.widen(&x))
    }
    /// Adds the products of states in `from` with the weights of gates `lo..` of as many gates as `sums: [row, gate, vector]` has.
    #[allow(clippy::too_many_arguments)]
    fn products(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        now: &Now,
        (block, part): (&SymExpr, &SymExpr),
        sums: &Reg,
        (lo, gates, rows): (i64, i64, i64),
        from: Buf,
    ) -> Result<(), Stop> {
        if let Some((form, _)) = self.halves {
            return self.pairs(k, eval, now, (block, part), sums, (lo, gates, rows), (form, from));
        }
        let mut stop = Ok(());
        k.for_("e", 0, self.hidden, 1, |k, e| {
            eval.open();
            let element = eval.ix.bind("e", e.clone(), self.hidden.into());
            stop = (|| {
                let mut weights = Vec::new();
                for gate in 0..gates {
                    for v in 0..self.vectors {
                        let unit = part.clone() + v * self.lanes + lane();
                        let at = [now.d.clone(), block.clone(), element.clone(), (lo + gate).into(), unit];
                        let w = eval.value(k, self.node.operands[1], &at, &Guard::new())?;
                        weights.push((gate, v, eval.widen(&w)));
                    }
                }
                for i in 0..rows {
                    let h = k.load("h", Mem::new(from, vec![(Ex::from(i), 1), (e.clone(), 1)]));
                    let h = k.let_("hs", eval.widen(&h));
                    for (gate, v, w) in &weights {
                        let sum = sums.at([Ex::from(i), Ex::from(*gate), Ex::from(*v)]);
                        let next = w.fma(&h, sum.get());
                        k.set(&sum, next);
                    }
                }
                Ok(())
            })();
            eval.close();
        });
        stop
    }
    /// As `products`, of a few neighbors of the states in `from`, which are rounded, at a time.
    #[allow(clippy::too_many_arguments)]
    fn pairs(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        now: &Now,
        (block, part): (&SymExpr, &SymExpr),
        sums: &Reg,
        (lo, gates, rows): (i64, i64, i64),
        (form, from): (DotForm, Buf),
    ) -> Result<(), Stop> {
        let (width, depth) = (eval.width, i64::from(form.depth));
        let mut stop = Ok(());
        k.for_("e", 0, self.hidden / depth, 1, |k, e| {
            eval.open();
            let element = eval.ix.bind("e", e.clone(), (self.hidden / depth).into());
            stop = (|| {
                let mut weights = Vec::new();
                eval.set_width(width * form.depth);
                for gate in 0..gates {
                    for v in 0..self.vectors {
                        let unit = (part.clone() + v * self.lanes) * depth + lane();
                        let at = [now.d.clone(), block.clone(), element.clone(), (lo + gate).into(), unit];
                        weights.push((gate, v, eval.value(k, self.node.operands[1], &at, &Guard::new())?));
                    }
                }
                eval.set_width(width);
                for i in 0..rows {
                    let h = k.load("h", Mem::new(from, vec![(Ex::from(i), 1), (&e * depth, form.depth)]));
                    let h = k.let_("hs", eval.widen(&h.bitcast(form.acc)));
                    let h = k.let_("hs", h.bitcast(form.a));
                    for (gate, v, w) in &weights {
                        let sum = sums.at([Ex::from(i), Ex::from(*gate), Ex::from(*v)]);
                        k.set(&sum, sum.get().dot2(&h, w));
                    }
                }
                Ok(())
            })();
            eval.set_width(width);
            eval.close();
        });
        stop
    }
    /// Sums of products of bytes, `[row, gate, vector]`.
    fn byte_products(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        bytes: &Bytes,
        now: &Now,
        (block, part): (&SymExpr, &SymExpr),
        rows: i64,
    ) -> Result<Reg, Stop> {
        let (width, group) = (eval.width, bytes.group as u32);
        let none = Ex::int(0).typed(&Ty::Scalar(DType::I32)).splat(width);
        let sums = k.var_array("sum", &[rows as u32, 4, self.vectors as u32], none);
        let mut stop = Ok(());
        k.for_("e", 0, bytes.values / bytes.group, 1, |k, e| {
            eval.open();
            let element = eval.ix.bind("e", e.clone(), (bytes.values / bytes.group).into());
            stop = (|| {
                let mut weights = Vec::new();
                eval.set_width(width * group);
                for gate in 0..4 {
                    for v in 0..self.vectors {
                        let unit = (part.clone() + v * self.lanes) * bytes.group + lane();
                        let at = [now.d.clone(), block.clone(), element.clone(), gate.into(), unit];
                        let w = eval.value(k, self.node.operands[1], &at, &Guard::new())?;
                        weights.push((gate, v, eval.widen(&w)));
                    }
                }
                eval.set_width(width);
                for i in 0..rows {
                    let mem = Mem::new(bytes.rounded, vec![(Ex::from(i), 1), (&e * bytes.group, group)]);
                    let q = k.load("q", mem);
                    let q = match group {
                        1 => k.let_("q", eval.widen(&q.cast(DType::I32))),
                        _ => {
                            let q = k.let_("q", eval.widen(&q.bitcast(DType::I32)));
                            k.let_("q", q.bitcast(bytes.rounded.dtype))
                        }
                    };
                    for (gate, v, w) in &weights {
                        let sum = sums.at([Ex::from(i), Ex::from(*gate), Ex::from(*v)]);
                        let next = match group {
                            1 => sum.get() + w.cast(DType::I32) * &q,
                            _ => sum.get().dot4(&q, w),
                        };
                        k.set(&sum, next);
                    }
                }
                Ok(())
            })();
            eval.set_width(width);
            eval.close();
        });
        stop?;
        Ok(sums)
    }
    /// Sums of gates from those of bytes.
    fn real(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        bytes: &Bytes,
        now: &Now,
        b: &SymExpr,
        (block, part): (&SymExpr, &SymExpr),
        (rows, products): (i64, &Reg),
    ) -> Result<Reg, Stop> {
        let d = self.state.dtype;
        let sums = k.var_array("gate", &[rows as u32, 4, self.vectors as u32], Ex::lit(d, 0.0).splat(eval.width));
        for i in 0..rows {
            let one = |buf: Buf| Mem::new(buf, vec![(Ex::from(i), 1), (Ex::from(0), 1)]);
            let (scale, zero, total) =
                (k.load("unit", one(bytes.scale)), k.load("zero", one(bytes.zero)), k.load("total", one(bytes.total)));
            let (scale, zero, total) = (eval.widen(&scale), eval.widen(&zero), eval.widen(&total));
            for gate in 0..4 {
                for v in 0..self.vectors {
                    let (j, guard) = self.units(eval, block, part, v);
                    let at = [now.d.clone(), gate.into(), j.clone()];
                    let column = |k: &mut Kb<'_>, eval: &mut Eval<'_>, i: usize| -> Result<Ex, Stop> {
                        let x = eval.value(k, self.node.operands[i], &at, &guard)?;
                        Ok(eval.widen(&x))
                    };
                    let (of_column, zeros, weights) = (column(k, eval, 4)?, column(k, eval, 5)?, column(k, eval, 6)?);
                    let at = [Ex::from(i), Ex::from(gate), Ex::from(v)];
                    let exact = k.let_("exact", products.at(at.clone()).get() - &zero * weights - zeros * &total);
                    let given = self.given(k, eval, now, &(b.clone() + i), gate, &j, &guard)?;
                    k.set(&sums.at(at), exact.cast(d).fma(&scale * of_column, given));
                }
            }
        }
        Ok(sums)
    }
    /// Sums of gates, begun with what is given.
    #[allow(clippy::too_many_arguments)]
    fn sums(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        now: &Now,
        b: &SymExpr,
        (block, part): (&SymExpr, &SymExpr),
        (lo, gates, rows): (i64, i64, i64),
    ) -> Result<Reg, Stop> {
        let zero = Ex::lit(self.y.dtype, 0.0).splat(eval.width);
        let sums = k.var_array("sum", &[rows as u32, gates as u32, self.vectors as u32], zero);
        for i in 0..rows {
            for gate in 0..gates {
                for v in 0..self.vectors {
                    let (j, guard) = self.units(eval, block, part, v);
                    let begin = if self.gates == 3 && self.linear_before_reset && gate == 2 {
                        let x = eval.value(k, self.node.operands[2], &[now.d.clone(), j], &guard)?;
                        eval.widen(&x)
                    } else {
                        self.given(k, eval, now, &(b.clone() + i), lo + gate, &j, &guard)?
                    };
                    k.set(&sums.at([Ex::from(i), Ex::from(gate), Ex::from(v)]), begin);
                }
            }
        }
        Ok(sums)
    }

    /// The update gate, and the states behind the reset gate.
    fn gates_before(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, now: &Now, b: &SymExpr, rows: i64, block: &SymExpr) -> Result<(), Stop> {
        let Some((update, reset)) = self.update else { return Ok(()) };
        self.parts(k, eval, &mut |k, eval, part| {
            let sums = self.sums(k, eval, now, b, (block, part), (0, 2, rows))?;
            self.products(k, eval, now, (block, part), &sums, (0, 2, rows), self.met())?;
            for i in 0..rows {
                for v in 0..self.vectors {
                    let (j, guard) = self.units(eval, block, part, v);
                    let gate = |g: i64| sums.at([Ex::from(i), Ex::from(g), Ex::from(v)]).get();
                    let (z, r) = (sigmoid(&gate(0)), sigmoid(&gate(1)));
                    let at = [i.into(), j];
                    let old = eval.load(k, "h", self.state, &at, &guard)?;
                    eval.store(k, update, &at, &guard, &z)?;
                    eval.store(k, reset, &at, &guard, &(r * old).cast(reset.dtype))?;
                }
            }
            Ok(())
        })
    }

    /// New states of a block of hidden units.
    fn block(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, now: &Now, b: &SymExpr, rows: i64, block: &SymExpr) -> Result<(), Stop> {
        self.parts(k, eval, &mut |k, eval, part| {
            let (lo, from) = match self.update {
                Some((_, reset)) => (2, reset),
                None => (0, self.met()),
            };
            let which = (lo, self.gates - lo, rows);
            let sums = match &self.bytes {
                Some(bytes) => {
                    let products = self.byte_products(k, eval, bytes, now, (block, part), rows)?;
                    self.real(k, eval, bytes, now, b, (block, part), (rows, &products))?
                }
                None => {
                    let sums = self.sums(k, eval, now, b, (block, part), which)?;
                    self.products(k, eval, now, (block, part), &sums, which, from)?;
                    sums
                }
            };
            let last = k.let_("last", (&now.t + 1).equals(k.dim(&self.steps)));
            for i in 0..rows {
                for v in 0..self.vectors {
                    let (j, guard) = self.units(eval, block, part, v);
                    let row = b.clone() + i;
                    let gate = |g: i64| sums.at([Ex::from(i), Ex::from(g - lo), Ex::from(v)]).get();
                    let out = match self.c {
                        Some(c) => self.cell(k, eval, now, &row, c, &j, &guard, &gate)?,
                        None => {
                            let old = eval.load(k, "h", self.state, &[i.into(), j.clone()], &guard)?;
                            let (z, u) = match self.update {
                                Some((update, _)) => (eval.load(k, "z", update, &[i.into(), j.clone()], &guard)?, gate(2)),
                                None => {
                                    let given = self.given(k, eval, now, &row, 2, &j, &guard)?;
                                    (k.let_("z", sigmoid(&gate(0))), given + sigmoid(&gate(1)) * gate(2))
                                }
                            };
                            let u = k.let_("u", u.un(UnOp::Tanh));
                            k.let_("out", (like(&z, 1.0) - &z) * u + &z * old)
                        }
                    };
                    eval.store(k, self.y, &[now.at.clone(), now.d.clone(), row.clone(), j.clone()], &guard, &out)?;
                    let mut stop = Ok(());
                    k.if_(&last, |k| {
                        eval.open();
                        stop = eval.store(k, self.h, &[now.d.clone(), row.clone(), j.clone()], &guard, &out);
                        eval.close();
                    });
                    stop?;
                }
            }
            Ok(())
        })
    }
    /// The cell of an LSTM: its new state is stored, the hidden state is given back.
    #[allow(clippy::too_many_arguments)]
    fn cell(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        now: &Now,
        row: &SymExpr,
        c: Buf,
        j: &SymExpr,
        guard: &Guard,
        gate: &dyn Fn(i64) -> Ex,
    ) -> Result<Ex, Stop> {
        let at = [now.d.clone(), row.clone(), j.clone()];
        let mut stop = Ok(());
        k.if_(now.t.equals(0), |k| {
            eval.open();
            stop = eval.value(k, self.node.operands[3], &at, guard).and_then(|x| eval.store(k, c, &at, guard, &x));
            eval.close();
        });
        stop?;
        let old = eval.load(k, "c", c, &at, guard)?;
        let cell = k.let_("cell", sigmoid(&gate(2)) * old + sigmoid(&gate(0)) * gate(3).un(UnOp::Tanh));
        eval.store(k, c, &at, guard, &cell)?;
        Ok(k.let_("out", sigmoid(&gate(1)) * cell.un(UnOp::Tanh)))
    }
}

fn sigmoid(x: &Ex) -> Ex {
    like(x, 1.0) / ((-x).un(UnOp::Exp) + like(x, 1.0))
}
