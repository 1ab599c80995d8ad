// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lanes do together: fragments, products, shuffles, votes, atomics, barriers.

use super::code::{AtomicAt, FragOp, Ins, MmaOp, Slot};
use super::machine::{Machine, Stream};
use super::{FaultKind, Run, Stop, alu};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{Atom, AtomicOp, Level, Operand, Order, Place2, ShuffleKind, VoteKind};

/// Lanes of a stream in blocks of `n`, with whether the block is on.
pub(super) fn blocks(s: &Stream, n: usize, what: &str) -> Run<Vec<std::ops::Range<usize>>> {
    let n = n.max(1);
    if !s.lanes.len().is_multiple_of(n) || !s.lanes.start.is_multiple_of(n) {
        return Err(Stop::new(FaultKind::Malformed, format!("{what} of {n} lanes in a stream of {}", s.lanes.len())));
    }
    let mut out = Vec::new();
    for start in s.lanes.clone().step_by(n) {
        let on = (start..start + n).filter(|l| s.on(*l)).count();
        if on == n {
            out.push(start..start + n);
        } else if on > 0 {
            let missing = (start..start + n).find(|l| !s.on(*l)).unwrap_or(start);
            return Err(Stop::new(FaultKind::Divergence, format!("only {on} of {n} lanes reach {what}")).at_lane(missing as u32));
        }
    }
    Ok(out)
}

impl Machine<'_, '_> {
    pub(super) fn exec_shared(&mut self, s: &mut Stream, ins: &Ins) -> Run<()> {
        match ins {
            Ins::FragLoad(op) => self.frag(s, op, false),
            Ins::FragStore(op) => self.frag(s, op, true),
            Ins::Mma(op) => self.mma(s, op),
            Ins::Exchange { kind, width, v, by, n, o, poison } => self.exchange(s, *kind, *width as usize, [*v, *by, *o], *n, *poison),
            Ins::Vote { kind, v, wide, o } => {
                let warp = self.k.launch.warp.max(1) as usize;
                for b in blocks(s, warp, "a vote")? {
                    let bits: Vec<bool> = b.clone().map(|l| self.at(*v, l) & 1 != 0).collect();
                    let r = match kind {
                        VoteKind::Any => u64::from(bits.iter().any(|b| *b)),
                        VoteKind::All => u64::from(bits.iter().all(|b| *b)),
                        VoteKind::Ballot if bits.len() > if *wide { 64 } else { 32 } => {
                            return Err(Stop::new(FaultKind::Malformed, "a ballot of more lanes than its result has bits"));
                        }
                        VoteKind::Ballot => bits.iter().enumerate().fold(0, |a, (i, b)| a | u64::from(*b) << i),
                    };
                    b.for_each(|l| self.put(*o, l, r));
                }
                Ok(())
            }
            Ins::Atomic(op) => self.atomic(s, op),
            Ins::Barrier(level) => self.barrier(s, *level),
            other => self.exec_pipeline(s, other),
        }
    }

    fn barrier(&mut self, s: &Stream, level: Level) -> Run<()> {
        let n = match level {
            Level::Group => self.lanes,
            Level::Role => s.lanes.len(),
            Level::Warp => self.k.launch.warp.max(1) as usize,
        };
        if level == Level::Group && s.lanes.len() != self.lanes {
            return Err(Stop::new(FaultKind::Divergence, "a barrier of the group inside a role"));
        }
        if level != Level::Warp && !s.is_full() {
            let missing = s.lanes.clone().find(|l| !s.on(*l)).unwrap_or(0);
            return Err(Stop::new(FaultKind::Divergence, "not all lanes reach the barrier").at_lane(missing as u32));
        }
        for b in if level == Level::Warp { blocks(s, n, "a barrier")? } else { vec![s.lanes.clone()] } {
            let agents = s.agents;
            self.clocks.barrier(b.map(move |l| agents + l as u32));
        }
        Ok(())
    }

    fn exchange(&mut self, s: &Stream, kind: ShuffleKind, width: usize, [v, by, o]: [Slot; 3], n: u32, poison: bool) -> Run<()> {
        let warp = self.k.launch.warp.max(1) as usize;
        if width == 0 || !width.is_power_of_two() || width > warp {
            return Err(Stop::new(FaultKind::Malformed, "a shuffle wider than the warp"));
        }
        for b in blocks(s, warp, "a shuffle")? {
            for l in b.clone() {
                let (seg, at) = (l - (l - b.start) % width, (l - b.start) % width);
                let by = alu::as_i64(self.at(by, l), false);
                let bad = || Stop::new(FaultKind::Domain, format!("a shuffle by {by} in {width} lanes")).at_lane(l as u32);
                let by = usize::try_from(by).map_err(|_| bad())?;
                if by >= width {
                    return Err(bad());
                }
                let from = match kind {
                    ShuffleKind::Xor => seg + (at ^ by),
                    ShuffleKind::Up => seg + at.checked_sub(by).unwrap_or(at),
                    ShuffleKind::Down => seg + if at + by < width { at + by } else { at },
                    ShuffleKind::Idx => seg + by,
                };
                for e in 0..n {
                    let x = self.at(v + e, from);
                    self.put(o + e, l, x);
                    if poison {
                        let p = self.poisoned(v + e, from);
                        let i = (o + e) as usize * self.lanes + l;
                        self.poison[i] = u8::from(p);
                    }
                }
            }
        }
        Ok(())
    }

    fn atomic(&mut self, s: &Stream, op: &AtomicAt) -> Run<()> {
        let buf = op.at.buf.index();
        let lanes: Vec<usize> = s.active().collect();
        for l in lanes {
            let lane = l as u32;
            let off = matches!(op.cond, super::code::CondAt::When(c) if self.at(c, l) & 1 == 0);
            let undefined = !matches!(op.cond, super::code::CondAt::Always);
            if let (true, Some(p)) = (undefined, self.poison.get_mut(op.o as usize * self.lanes + l)) {
                *p = u8::from(off);
            }
            if off {
                continue;
            }
            let at = self.corner(&op.at, l, None)?;
            let agent = s.agent(l);
            let key = (buf, at);
            if op.order == Order::AcqRel
                && let Some(k) = self.products.sync.get(&key).cloned()
            {
                self.clocks.acquire(agent, &k);
            }
            let mut who = self.who(s, l);
            who.atomic = true;
            self.mem.touch(buf, lane, at, 1, true, &who).map_err(|x| x.at_lane(lane))?;
            let mut old = [0u64];
            self.mem.get(buf, lane, at, &mut old, 1, 1).map_err(|x| x.at_lane(lane))?;
            let (a, b) = (old[0], self.at(op.v, l));
            use crate::kernel::BinOp;
            let new = match op.op {
                AtomicOp::Xchg => Some(b),
                AtomicOp::Add if op.d.is_float() => alu::bin_one(BinOp::Add, op.d, a, b),
                AtomicOp::Add => alu::bin_one(BinOp::AddW, op.d, a, b),
                AtomicOp::Max => alu::bin_one(BinOp::Max, op.d, a, b),
                AtomicOp::Min => alu::bin_one(BinOp::Min, op.d, a, b),
                AtomicOp::And => Some(a & b),
                AtomicOp::Or => Some(a | b),
                AtomicOp::Xor => Some(a ^ b),
            };
            self.mem.put(buf, lane, at, &[new.unwrap_or(a)], 1, 1);
            self.put(op.o, l, a);
            if op.order == Order::AcqRel {
                let v = self.clocks.release(agent);
                self.products.sync.insert(key, v);
            }
        }
        Ok(())
    }

    /// Moves a fragment; the lanes of the atom share one block of memory.
    fn frag(&mut self, s: &Stream, op: &FragOp, write: bool) -> Run<()> {
        let module = self.m;
        let atom = &module.atoms[op.atom];
        let buf = op.at.buf.index();
        let long: Vec<usize> = (0..op.at.len.len()).filter(|d| op.at.len[*d] > 1).collect();
        let ext = atom.extents(op.operand);
        let pack = match atom.operand(op.operand) {
            Place2::TileReg { pack, .. } => u32::from((*pack).max(1)),
            _ => 1,
        };
        let &[p, q] = long.as_slice() else {
            return Err(Stop::new(FaultKind::Malformed, "a fragment moves to and from a block of two long dims"));
        };
        let order = op.order.map(|o| usize::from(o.min(1)));
        let expect = if op.tile { [ext[0] / pack, ext[1] * pack] } else { [ext[order[0]], ext[order[1]]] };
        if [op.at.len[p], op.at.len[q]] != expect || (!op.tile && order[0] == order[1]) {
            let m = format!("a block of {} x {} where the fragment has {} x {}", op.at.len[p], op.at.len[q], expect[0], expect[1]);
            return Err(Stop::new(FaultKind::Malformed, m));
        }
        let strides = self.p.bufs[buf].strides.clone();
        let regs = atom.regs(op.operand).unwrap_or(0);
        let n = if op.tile { 1 } else { usize::from(atom.lanes) };
        for b in blocks(s, n, "the move of a fragment")? {
            for ix in &op.at.idx {
                if let Some(l) = b.clone().find(|l| self.ix(*ix, *l) != self.ix(*ix, b.start)) {
                    return Err(Stop::new(FaultKind::Divergence, "lanes name different blocks for one fragment").at_lane(l as u32));
                }
            }
            let corner = self.corner(&op.at, b.start, None)?;
            if self.counts(op.at.buf) && !op.tile {
                self.count_fragment(&op.at, b.start, corner);
            }
            for l in b.clone() {
                let who = self.who(s, l);
                let lane = l as u32;
                for r in 0..regs {
                    let c = atom.coord(op.operand, (l - b.start) as u32, r);
                    let [cp, cq] = if op.tile { [c[0] / pack, c[1] * pack + c[0] % pack] } else { [c[order[0]], c[order[1]]] };
                    let at = corner + (i64::from(cp) * strides[p] + i64::from(cq) * strides[q]) as usize;
                    self.mem.touch(buf, lane, at, 1, write, &who).map_err(|x| x.at_lane(lane))?;
                    if write {
                        let v = [self.at(op.regs + r, l)];
                        self.mem.put(buf, lane, at, &v, 1, 1);
                    } else {
                        let mut v = [0];
                        self.mem.get(buf, lane, at, &mut v, 1, 1).map_err(|x| x.at_lane(lane))?;
                        self.put(op.regs + r, l, v[0]);
                    }
                }
            }
        }
        Ok(())
    }

    /// For each element of an operand, row-major: the lane of the block and the register that hold it.
    pub(super) fn table(&mut self, index: usize, atom: &Atom, o: Operand) -> Vec<(u32, u32)> {
        if let Some(t) = self.tables.get(&(index, o as u8)) {
            return t.clone();
        }
        let [rows, cols] = atom.extents(o);
        let mut t = vec![(0, 0); (rows * cols) as usize];
        for lane in 0..u32::from(atom.lanes) {
            for r in 0..atom.regs(o).unwrap_or(0) {
                let [i, j] = atom.coord(o, lane, r);
                if let Some(x) = t.get_mut((i * cols + j) as usize) {
                    *x = (lane, r);
                }
            }
        }
        self.tables.insert((index, o as u8), t.clone());
        t
    }

    fn mma(&mut self, s: &Stream, op: &MmaOp) -> Run<()> {
        let module = self.m;
        let atom = &module.atoms[op.atom];
        let [m, n, k] = op.dims.map(|d| d as usize);
        let per_lane = matches!(atom.operand(Operand::C), Place2::PerLane { .. });
        let tables = [Operand::A, Operand::B, Operand::C].map(|o| if per_lane { self.table(op.atom.index(), atom, o) } else { Vec::new() });
        let lanes = if per_lane { usize::from(atom.lanes) } else { 1 };
        for b in blocks(s, lanes, "a product")? {
            let read = |me: &Self, base: Slot, t: &[(u32, u32)], len: usize| -> Vec<u64> {
                (0..len)
                    .map(|i| match t.get(i) {
                        Some((l, r)) => me.at(base + r, b.start + *l as usize),
                        None => me.at(base + i as u32, b.start),
                    })
                    .collect()
            };
            let (x, y) = (read(self, op.a, &tables[0], m * k), read(self, op.b, &tables[1], k * n));
            let mut z = read(self, op.c, &tables[2], m * n);
            product(atom.dtypes, [m, n, k], &x, &y, false, &mut z);
            for (i, v) in z.into_iter().enumerate() {
                match tables[2].get(i) {
                    Some((l, r)) => self.put(op.o + r, b.start + *l as usize, v),
                    None => self.put(op.o + i as u32, b.start, v),
                }
            }
        }
        Ok(())
    }
}

/// `z += x * y`; products of floats are summed in f32 from k = 0 upwards with one rounding a step, and the sum is added to `z`, as matrix units
/// have it, which read the accumulator last. `y` is `[k, n]`, or `[n, k]` if `transposed`.
pub(super) fn product(dtypes: [DType; 3], [m, n, k]: [usize; 3], x: &[u64], y: &[u64], transposed: bool, z: &mut [u64]) {
    let [da, db, dc] = dtypes;
    let at = |l: usize, j: usize| if transposed { j * k + l } else { l * n + j };
    if dc == DType::F32 && da.is_float() && db.is_float() {
        let xf: Vec<f32> = x.iter().map(|b| alu::to_f32(da, *b)).collect();
        let yf: Vec<f32> = y.iter().map(|b| alu::to_f32(db, *b)).collect();
        let mut row = vec![0f32; n];
        for i in 0..m {
            row.fill(0.0);
            for l in 0..k {
                let a = xf[i * k + l];
                for (j, r) in row.iter_mut().enumerate() {
                    *r = alu::fma_f32(a, yf[at(l, j)], *r);
                }
            }
            for (r, z) in row.iter().zip(&mut z[i * n..]) {
                *z = u64::from((f32::from_bits(*z as u32) + r).to_bits());
            }
        }
        return;
    }
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                z[i * n + j] = alu::mac(dc, da, db, z[i * n + j], x[i * k + l], y[at(l, j)]);
            }
        }
    }
}
