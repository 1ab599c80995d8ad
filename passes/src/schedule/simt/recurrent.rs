// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recurrences: one group a direction and batch element walks the steps with its state in shared memory, a lane some hidden units.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{Node, Op, ReduceOp, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Level, Mem, Module, Ty, UnOp};
use portwright_ir::sym::SymExpr;

use super::elementwise::like;
use super::reduce::{Fold, Team};
use super::{Begun, Built, Cx, Eval, Guard, Stop, done, name_coords};

/// How recurrent weights are given.
enum Weights {
    /// `[D, gates * H, H]`, with biases, and the inputs' weights beside them.
    Rows,
    /// In blocks of so many hidden units, so many elements of the state side by side.
    Blocks { width: i64, depth: i64 },
    /// As blocks, of bytes.
    Bytes { width: i64, depth: i64 },
}

struct Recurrence<'n> {
    node: &'n Node,
    weights: Weights,
    gates: i64,
    linear_before_reset: bool,
    hidden: SymExpr,
    /// Most hidden units that there can be.
    most: i64,
    /// In which sums are formed and states kept.
    dtype: DType,
    /// Lanes of the group.
    group: i64,
    d: SymExpr,
    b: SymExpr,
    /// States `[slot, H]`; a step reads slot `t % 2` and writes the other.
    h: Buf,
    /// Cells of an LSTM, update gates of a GRU.
    c: Buf,
    /// States as weights meet them, where that is not as they are.
    met: Option<Buf>,
}

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let node = cx.root(|op| {
        matches!(op, Op::Lstm { .. } | Op::Gru { .. } | Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. })
    })?;
    let mut b = cx.begin(module, 1);
    let Begun { k, eval, outputs } = &mut b;
    let dims = |i: usize| node.operands.get(i).map(|&v| eval.dims(v)).unwrap_or_default();
    let (x_dims, first, second) = (dims(0), dims(1), dims(2));
    let blocks = |depth: i64| match (first.last().and_then(SymExpr::as_const), depth) {
        (Some(row), d) if d > 0 => row / d,
        _ => 1,
    };
    let (direction, gates, linear_before_reset, weights, hidden) = match &node.op {
        Op::Lstm { direction } => (*direction, 4, false, Weights::Rows, second.last()),
        Op::Gru { direction, linear_before_reset } => (*direction, 3, *linear_before_reset, Weights::Rows, second.last()),
        Op::LstmSteps { direction, depth } => {
            (*direction, 4, false, Weights::Blocks { width: blocks(*depth), depth: *depth }, x_dims.last())
        }
        Op::GruSteps { direction, linear_before_reset, depth } => {
            (*direction, 3, *linear_before_reset, Weights::Blocks { width: blocks(*depth), depth: *depth }, x_dims.last())
        }
        Op::LstmByteSteps { direction, group } => {
            let depth = i64::from(*group);
            (*direction, 4, false, Weights::Bytes { width: blocks(depth), depth }, x_dims.last())
        }
        _ => return Stop::no("no recurrence"),
    };
    let stored = eval.dtype(node.operands[0]);
    if !stored.is_float() || stored.bits() < 16 {
        return Stop::no(format!("a recurrence in {stored}"));
    }
    let dtype = if stored == DType::F64 { DType::F64 } else { DType::F32 };
    let hidden = hidden.cloned().unwrap_or_else(|| 0.into());
    // Shared memory is for the most hidden units that there can be.
    let most = eval.ix.bounds(&hidden).1;
    let group = cx.spec.group(Some(most));
    let halves = eval.dtype(node.operands[1]) == DType::BF16;
    let own = matches!(weights, Weights::Bytes { .. }) || halves || (gates == 3 && !linear_before_reset);
    let bytes = most.saturating_mul(i64::from(dtype.bytes().unwrap_or(4)) * (3 + i64::from(own)));
    if bytes > i64::from(cx.spec.shared_bytes) {
        return Stop::no(format!("a recurrence whose {bytes} bytes of states do not fit shared memory"));
    }
    k.group(group, cx.spec.lanes);
    let shared = |k: &mut Kb<'_>, name: &str, dims: Vec<SymExpr>| k.shared(name, BufDecl::rw(dtype, dims));
    let h = shared(k, "h", vec![2.into(), most.into()]);
    let c = shared(k, "c", vec![most.into()]);
    let met = own.then(|| shared(k, "hm", vec![most.into()]));

    let (steps, batch) = (x_dims[0].clone(), x_dims[1].clone());
    let directions = SymExpr::from(if direction == Direction::Bidirectional { 2 } else { 1 });
    let groups = &directions * &batch;
    let g = eval.ix.bind("g", k.gx(), groups.clone());
    let at = name_coords(k, eval, &g, &[directions, batch]);
    let [d, bb] = at.as_slice() else { return Stop::no("a recurrence without a batch") };
    let group = i64::from(group);
    let r = Recurrence { node, weights, gates, linear_before_reset, hidden, most, dtype, group, d: d.clone(), b: bb.clone(), h, c, met };
    let team = Team::whole(cx.spec, group as u32);
    let ranges = if matches!(r.weights, Weights::Bytes { .. }) { 2 } else { 0 };
    let ranges: Vec<Vec<Buf>> = (0..ranges).map(|_| team.shared(k, &[dtype])).collect();

    let states = if matches!(r.weights, Weights::Rows) {
        4
    } else if gates == 3 {
        3
    } else {
        2
    };
    r.units(k, eval, &mut |k, eval, j| {
        let at = [r.d.clone(), r.b.clone(), j.clone()];
        let h0 = r.value(k, eval, node.operands[states], &at)?;
        eval.store(k, r.h, &[0.into(), j.clone()], &Guard::new(), &h0)?;
        if gates == 4 {
            let c0 = r.value(k, eval, node.operands[states + 1], &at)?;
            eval.store(k, r.c, &[j.clone()], &Guard::new(), &c0)?;
        }
        Ok(())
    })?;
    k.barrier(Level::Group);
    let mut stop = Ok(());
    let n = k.dim(&steps);
    k.for_("t", 0, &n, 1, |k, t| {
        eval.open();
        stop = (|| {
            let back = &n - 1 - &t;
            let now = match direction {
                Direction::Forward => t.clone(),
                Direction::Reverse => back,
                Direction::Bidirectional => {
                    let d = eval.ix.emit(k, &r.d);
                    d.equals(1).select(back, &t)
                }
            };
            let now = k.let_("now", now);
            let now = eval.ix.bind("now", now, steps.clone());
            let slot = k.let_("slot", &t % 2);
            let next = k.let_("next", Ex::from(1) - &slot);
            let (slot, next) = (eval.ix.bind("slot", slot, 2.into()), eval.ix.bind("next", next, 2.into()));
            let unit = r.meet(k, eval, &slot, &team, &ranges, halves)?;
            if gates == 3 && !r.linear_before_reset {
                r.reset(k, eval, &now, &slot, halves)?;
            }
            r.units(k, eval, &mut |k, eval, j| r.unit(cx, outputs, k, eval, &now, (&slot, &next), j, unit.as_ref()))?;
            k.barrier(Level::Group);
            Ok(())
        })();
        eval.close();
    });
    stop?;
    let last = k.let_("last", n % 2);
    let last = eval.ix.bind("last", last, 2.into());
    r.units(k, eval, &mut |k, eval, j| {
        let at = [r.d.clone(), r.b.clone(), j.clone()];
        let h = eval.load(k, "h", r.h, &[last.clone(), j.clone()], &Guard::new())?;
        write(cx, outputs, k, eval, node.results[1], &at, &h)?;
        if gates == 4 {
            let c = eval.load(k, "c", r.c, &[j.clone()], &Guard::new())?;
            write(cx, outputs, k, eval, node.results[2], &at, &c)?;
        }
        Ok(())
    })?;
    Ok(done(b, groups))
}

fn sigmoid(x: &Ex) -> Ex {
    like(x, 1.0) / ((-x).un(UnOp::Exp) + like(x, 1.0))
}

/// Stores a result if the region hands it out.
fn write(cx: &Cx<'_>, outputs: &[Buf], k: &mut Kb<'_>, eval: &mut Eval<'_>, v: ValueId, at: &[SymExpr], ex: &Ex) -> Result<(), Stop> {
    for (o, buf) in cx.region.outputs().iter().zip(outputs) {
        if o.value == v {
            let d = eval.dtype(v);
            let ex = if ex.ty().and_then(Ty::elem) == Some(d) { ex.clone() } else { ex.cast(d) };
            eval.store(k, *buf, at, &Guard::new(), &ex)?;
        }
    }
    Ok(())
}

impl Recurrence<'_> {
    /// Repeats `body` for the hidden units of this lane.
    fn units<'a>(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'a>,
        body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut stop = Ok(());
        let (first, hi) = (k.lane(), k.dim(&self.hidden));
        k.for_("j", first, hi, self.group, |k, j| {
            eval.open();
            let j = eval.ix.bind("j", j, self.hidden.clone());
            stop = body(k, eval, &j);
            eval.close();
        });
        stop
    }
    /// An element of an operand; floats in the dtype of sums.
    fn value(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, v: ValueId, at: &[SymExpr]) -> Result<Ex, Stop> {
        let x = eval.value(k, v, at, &Guard::new())?;
        let d = eval.dtype(v);
        Ok(if d.is_float() && d != self.dtype { k.let_("w", x.cast(self.dtype)) } else { x })
    }
    /// Puts states as weights meet them beside the states; of bytes, gives the scale of the rounded ones.
    fn meet(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        slot: &SymExpr,
        team: &Team,
        ranges: &[Vec<Buf>],
        halves: bool,
    ) -> Result<Option<Ex>, Stop> {
        let Some(met) = self.met else { return Ok(None) };
        let d = self.dtype;
        let lit = |v: f64| Ex::lit(d, v);
        let state = |k: &mut Kb<'_>, eval: &mut Eval<'_>, j: &SymExpr| eval.load(k, "h", self.h, &[slot.clone(), j.clone()], &Guard::new());
        if !matches!(self.weights, Weights::Bytes { .. }) {
            if halves {
                self.units(k, eval, &mut |k, eval, j| {
                    let x = state(k, eval, j)?.cast(DType::BF16).cast(d);
                    eval.store(k, met, &[j.clone()], &Guard::new(), &x)
                })?;
                k.barrier(Level::Group);
            }
            return Ok(None);
        }
        let (lo, hi) = (k.var("lo", lit(0.0)), k.var("hi", lit(0.0)));
        self.units(k, eval, &mut |k, eval, j| {
            let x = state(k, eval, j)?;
            k.set(&lo, lo.get().min(&x));
            k.set(&hi, hi.get().max(&x));
            Ok(())
        })?;
        let [least, most] = ranges else { return Stop::no("no room for a range of states") };
        let lo = team.meet(k, &[lo.get()], least, &Fold::Number(ReduceOp::Min, d));
        let hi = team.meet(k, &[hi.get()], most, &Fold::Number(ReduceOp::Max, d));
        let ([lo], [hi]) = (&lo[..], &hi[..]) else { return Stop::no("no range of states") };
        let span = k.let_("span", hi - lo);
        let unit = k.let_("unit", span.equals(lit(0.0)).select(lit(1.0), &span / lit(255.0)));
        let origin = k.let_("origin", ((-lo) / &unit).un(UnOp::Rint).clamp(lit(0.0), lit(255.0)));
        self.units(k, eval, &mut |k, eval, j| {
            let x = state(k, eval, j)?;
            let q = ((x / &unit).un(UnOp::Rint) + &origin).clamp(lit(0.0), lit(255.0)) - &origin;
            eval.store(k, met, &[j.clone()], &Guard::new(), &q)
        })?;
        k.barrier(Level::Group);
        Ok(Some(unit))
    }
    /// What inputs and biases give a gate. Of rows, the bias of the recurrent product is in it unless `apart`.
    fn given(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, now: &SymExpr, gate: i64, j: &SymExpr, apart: bool) -> Result<Ex, Stop> {
        let o = &self.node.operands;
        if !matches!(self.weights, Weights::Rows) {
            let at = [now.clone(), self.b.clone(), self.d.clone(), gate.into(), j.clone()];
            return self.value(k, eval, o[0], &at);
        }
        let row = self.hidden.clone() * gate + j.clone();
        let n = eval.dims(o[0])[2].clone();
        let sum = k.var("sum", Ex::lit(self.dtype, 0.0));
        let hi = k.dim(&n);
        let mut stop = Ok(());
        k.for_("i", 0, hi, 1, |k, i| {
            eval.open();
            let i = eval.ix.bind("i", i, n.clone());
            stop = (|| {
                let x = self.value(k, eval, o[0], &[now.clone(), self.b.clone(), i.clone()])?;
                let w = self.value(k, eval, o[1], &[self.d.clone(), row.clone(), i.clone()])?;
                k.set(&sum, w.fma(&x, sum.get()));
                Ok(())
            })();
            eval.close();
        });
        stop?;
        let wb = self.value(k, eval, o[3], &[self.d.clone(), row.clone()])?;
        let bias = if apart { wb } else { wb + self.bias(k, eval, gate, j)? };
        Ok(k.let_("pre", sum.get() + bias))
    }
    /// The bias of the recurrent product.
    fn bias(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, gate: i64, j: &SymExpr) -> Result<Ex, Stop> {
        let o = &self.node.operands;
        match (&self.weights, &self.node.op) {
            (Weights::Rows, _) => {
                let at = self.hidden.clone() * (self.gates + gate) + j.clone();
                self.value(k, eval, o[3], &[self.d.clone(), at])
            }
            (_, Op::GruSteps { .. }) => self.value(k, eval, o[2], &[self.d.clone(), j.clone()]),
            _ => Ok(Ex::lit(self.dtype, 0.0)),
        }
    }
    /// A row of recurrent weights times a vector of states.
    fn product(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        gate: i64,
        j: &SymExpr,
        state: &dyn Fn(&SymExpr) -> (Buf, Vec<SymExpr>),
    ) -> Result<Ex, Stop> {
        let o = &self.node.operands;
        let sum = k.var("sum", Ex::lit(self.dtype, 0.0));
        // Bytes are weights less their zero point.
        let bytes = match self.weights {
            Weights::Bytes { .. } => {
                let at = [self.d.clone(), gate.into(), j.clone()];
                let zero = self.value(k, eval, o[5], &at)?;
                Some((zero, self.value(k, eval, o[4], &at)?))
            }
            _ => None,
        };
        let mut stop = Ok(());
        let hi = k.dim(&self.hidden);
        k.for_("i", 0, hi, 1, |k, i| {
            eval.open();
            let i = eval.ix.bind("i", i, self.hidden.clone());
            stop = (|| {
                let (buf, at) = state(&i);
                let h = eval.load(k, "h", buf, &at, &Guard::new())?;
                let w = match self.weights {
                    Weights::Rows => {
                        let row = self.hidden.clone() * gate + j.clone();
                        self.value(k, eval, o[2], &[self.d.clone(), row, i.clone()])?
                    }
                    Weights::Blocks { width, depth } | Weights::Bytes { width, depth } => {
                        let (block, column) = eval.ix.div_mod(j, &width.into());
                        let (outer, beside) = eval.ix.div_mod(&i, &depth.into());
                        let at = [self.d.clone(), block, outer, gate.into(), column * depth + beside];
                        self.value(k, eval, o[1], &at)?
                    }
                };
                let w = match &bytes {
                    Some((zero, _)) => (w.cast(DType::I32) - zero.cast(DType::I32)).cast(self.dtype),
                    None => w,
                };
                k.set(&sum, w.fma(&h, sum.get()));
                Ok(())
            })();
            eval.close();
        });
        stop?;
        Ok(match bytes {
            Some((_, scale)) => k.let_("part", sum.get() * scale.cast(self.dtype)),
            None => k.let_("part", sum.get()),
        })
    }
    /// Where states that weights meet lie.
    fn state(&self, slot: &SymExpr, halves: bool) -> impl Fn(&SymExpr) -> (Buf, Vec<SymExpr>) + use<> {
        let (h, met, slot) = (self.h, self.met.filter(|_| halves || matches!(self.weights, Weights::Bytes { .. })), slot.clone());
        move |i| match met {
            Some(met) => (met, vec![i.clone()]),
            None => (h, vec![slot.clone(), i.clone()]),
        }
    }
    /// Where the reset gate is applied before the product: update gates and the faded states of all units.
    fn reset(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, now: &SymExpr, slot: &SymExpr, halves: bool) -> Result<(), Stop> {
        let Some(met) = self.met else { return Ok(()) };
        // Rounded states lie where faded ones will: these wait in registers until all units have met those.
        let state = self.state(slot, halves);
        let units = (self.most + self.group - 1) / self.group;
        let faded = k.var_array("faded", &[units as u32], Ex::lit(self.dtype, 0.0));
        for u in 0..units {
            let j = k.let_("j", k.lane() + u * self.group);
            let inside = j.lt(k.dim(&self.hidden));
            let mut stop = Ok(());
            k.if_(inside, |k| {
                eval.open();
                let j = eval.ix.bind("j", j, self.hidden.clone());
                stop = (|| {
                    let z = self.given(k, eval, now, 0, &j, false)? + self.product(k, eval, 0, &j, &state)?;
                    let z = k.let_("pre", z);
                    let z = k.let_("z", sigmoid(&z));
                    eval.store(k, self.c, &[j.clone()], &Guard::new(), &z)?;
                    let r = self.given(k, eval, now, 1, &j, false)? + self.product(k, eval, 1, &j, &state)?;
                    let r = k.let_("pre", r);
                    let r = k.let_("r", sigmoid(&r));
                    let old = eval.load(k, "h", self.h, &[slot.clone(), j.clone()], &Guard::new())?;
                    let f = r * old;
                    let f = if halves { f.cast(DType::BF16).cast(self.dtype) } else { f };
                    k.set(&faded.at([Ex::from(u)]), f);
                    Ok(())
                })();
                eval.close();
            });
            stop?;
        }
        if halves {
            k.barrier(Level::Group);
        }
        for u in 0..units {
            let j = k.let_("j", k.lane() + u * self.group);
            let to = Mem::new(met, vec![(j.clone(), 1)]).when(j.lt(k.dim(&self.hidden)));
            k.store(to, faded.at([Ex::from(u)]).get());
        }
        k.barrier(Level::Group);
        Ok(())
    }
    /// One hidden unit at one step.
    #[allow(clippy::too_many_arguments)]
    fn unit(
        &self,
        cx: &Cx<'_>,
        outputs: &[Buf],
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        now: &SymExpr,
        (slot, next): (&SymExpr, &SymExpr),
        j: &SymExpr,
        unit: Option<&Ex>,
    ) -> Result<(), Stop> {
        let state = self.state(slot, self.met.is_some() && self.linear_or_cells());
        let gate = |k: &mut Kb<'_>, eval: &mut Eval<'_>, i: i64| -> Result<Ex, Stop> {
            let part = self.product(k, eval, i, j, &state)?;
            let part = match unit {
                Some(u) => part * u,
                None => part,
            };
            let x = self.given(k, eval, now, i, j, false)? + part;
            Ok(k.let_("pre", x))
        };
        let none = Guard::new();
        let out = if self.gates == 4 {
            let (i, o, f, u) = (gate(k, eval, 0)?, gate(k, eval, 1)?, gate(k, eval, 2)?, gate(k, eval, 3)?);
            let old = eval.load(k, "c", self.c, &[j.clone()], &none)?;
            let cell = k.let_("cell", sigmoid(&f) * old + sigmoid(&i) * u.un(UnOp::Tanh));
            eval.store(k, self.c, &[j.clone()], &none, &cell)?;
            k.let_("out", sigmoid(&o) * cell.un(UnOp::Tanh))
        } else {
            let old = eval.load(k, "h", self.h, &[slot.clone(), j.clone()], &none)?;
            let (z, u) = if self.linear_before_reset {
                let (z, r) = (gate(k, eval, 0)?, gate(k, eval, 1)?);
                let q = self.product(k, eval, 2, j, &state)? + self.bias(k, eval, 2, j)?;
                let v = self.given(k, eval, now, 2, j, true)?;
                (k.let_("z", sigmoid(&z)), k.let_("u", v + sigmoid(&r) * q))
            } else {
                let Some(met) = self.met else { return Stop::no("no faded states") };
                let q = self.product(k, eval, 2, j, &|i| (met, vec![i.clone()]))?;
                let q = q + self.bias(k, eval, 2, j)?;
                let v = self.given(k, eval, now, 2, j, true)?;
                (eval.load(k, "z", self.c, &[j.clone()], &none)?, k.let_("u", v + q))
            };
            let u = k.let_("u", u.un(UnOp::Tanh));
            k.let_("out", (like(&z, 1.0) - &z) * u + &z * old)
        };
        eval.store(k, self.h, &[next.clone(), j.clone()], &none, &out)?;
        write(cx, outputs, k, eval, self.node.results[0], &[now.clone(), self.d.clone(), self.b.clone(), j.clone()], &out)
    }
    /// Whether what weights meet is rounded states, not faded ones.
    fn linear_or_cells(&self) -> bool {
        self.gates == 4 || self.linear_before_reset
    }
}
