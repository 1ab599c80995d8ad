// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What runs beside the lanes: queued copies, bulk copies, asynchronous products, and the signals that order them.

use std::collections::{HashMap, HashSet, VecDeque};

use super::code::{BarAt, Block, CondAt, CopyOp, Ins, Slot};
use super::collective::{blocks, product};
use super::machine::{Machine, Stream};
use super::order::{Clocks, Engine, Who};
use super::{FaultKind, Run, Stop, alu};
use crate::entity::EntityId;
use crate::kernel::{Operand, VarId};

/// Identity of one signal: the array and the position in it.
type BarKey = (u32, u32);

/// A copy in flight.
pub(super) struct Copy {
    who: Who,
    lane: u32,
    dst: usize,
    src: usize,
    /// Element of the destination, and of the source or none for the fill value.
    pairs: Vec<(usize, Option<usize>)>,
    fill: u64,
    bytes: i64,
    bar: Option<BarKey>,
    landed: bool,
}

/// Copies of one lane in one queue.
#[derive(Default)]
pub(super) struct QueueState {
    open: Vec<Copy>,
    groups: VecDeque<Vec<Copy>>,
}

/// A phased signal.
struct Bar {
    count: i64,
    pending: i64,
    bytes: i64,
    phase: i64,
    /// What arrivals of this phase bring, and what those of the last one brought.
    now: Vec<u32>,
    done: Vec<u32>,
    init: (u32, u32),
    fenced: bool,
    seen: HashMap<u32, i64>,
}

#[derive(Default)]
pub(super) struct Bars(HashMap<BarKey, Bar>);

impl Bars {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A product in flight.
struct Product {
    who: Who,
    atom: crate::kernel::AtomId,
    acc: Slot,
    var: VarId,
    lanes: std::ops::Range<usize>,
    a: Vec<usize>,
    b: Vec<usize>,
    bufs: [usize; 2],
    landed: bool,
}

#[derive(Default)]
struct Unit {
    open: Vec<Product>,
    groups: VecDeque<Vec<Product>>,
    /// Accumulators that lanes wrote since the last fence.
    dirty: HashSet<VarId>,
}

/// Asynchronous products by their first lane's agent, and what atomics have released by address.
#[derive(Default)]
pub(super) struct Products {
    units: HashMap<u32, Unit>,
    pub sync: HashMap<(usize, usize), Vec<u32>>,
}

impl Products {
    pub(super) fn clear(&mut self) {
        self.units.clear();
        self.sync.clear();
    }
}

fn signal<T>(message: impl Into<String>, lane: usize) -> Run<T> {
    Err(Stop::new(FaultKind::Signal, message).at_lane(lane as u32))
}

impl Machine<'_, '_> {
    pub(super) fn exec_pipeline(&mut self, s: &mut Stream, ins: &Ins) -> Run<()> {
        let lanes: Vec<usize> = s.active().collect();
        match ins {
            Ins::CopyAsync(op) => {
                if self.counts(op.dst.buf) {
                    let n: usize = op.dst.len.iter().map(|n| *n as usize).product();
                    let at = |l: usize| Ok((l, self.corner(&op.dst, l, None)?, n));
                    let touches = lanes.iter().map(|l| at(*l)).collect::<Run<Vec<_>>>()?;
                    self.count_trips(op.dst.buf, &touches);
                }
                lanes.into_iter().try_for_each(|l| self.copy_async(s, op, l).map_err(|x| x.at_lane(l as u32)))
            }
            Ins::Commit(q) => {
                for l in lanes {
                    let state = self.queues.entry((*q, s.agent(l))).or_default();
                    let group = std::mem::take(&mut state.open);
                    state.groups.push_back(group);
                }
                Ok(())
            }
            Ins::Wait(q, n) => {
                for l in lanes {
                    let agent = s.agent(l);
                    let Some(state) = self.queues.get_mut(&(*q, agent)) else { continue };
                    let count = state.groups.len().saturating_sub(*n as usize);
                    let done: Vec<Vec<Copy>> = state.groups.drain(..count).collect();
                    for mut c in done.into_iter().flatten() {
                        self.land(&mut c)?;
                        self.clocks.acquire(agent, &Clocks::landed(&c.who));
                    }
                }
                Ok(())
            }
            Ins::CopyBulk { dst, src, bar } => lanes.into_iter().try_for_each(|l| self.copy_bulk(s, dst, src, bar, l)),
            Ins::BarInit(b, count) => {
                for l in lanes {
                    let key = self.bar_key(b, l)?;
                    let count = alu::as_i64(self.at(*count, l), false);
                    if count <= 0 {
                        return signal(format!("a signal of {count} arrivals"), l);
                    }
                    if self.bars.0.contains_key(&key) {
                        return signal("the signal is initialized twice", l);
                    }
                    let agent = s.agent(l);
                    let at = self.clocks.release(agent)[agent as usize];
                    let bar = Bar {
                        count,
                        pending: count,
                        bytes: 0,
                        phase: 0,
                        now: Vec::new(),
                        done: Vec::new(),
                        init: (agent, at),
                        fenced: false,
                        seen: HashMap::new(),
                    };
                    self.bars.0.insert(key, bar);
                }
                Ok(())
            }
            Ins::BarExpect(b, bytes) => {
                for l in lanes {
                    let bytes = alu::as_i64(self.at(*bytes, l), false);
                    let key = self.known_bar(s, b, l)?;
                    if let Some(bar) = self.bars.0.get_mut(&key) {
                        bar.bytes += bytes;
                    }
                    self.arrive(s, key, l)?;
                }
                Ok(())
            }
            Ins::BarArrive(b) => {
                for l in lanes {
                    let key = self.known_bar(s, b, l)?;
                    self.arrive(s, key, l)?;
                }
                Ok(())
            }
            Ins::FenceInit => {
                for l in lanes {
                    let agent = s.agent(l);
                    self.bars.0.values_mut().filter(|b| b.init.0 == agent).for_each(|b| b.fenced = true);
                }
                Ok(())
            }
            Ins::FenceProxy => {
                lanes.into_iter().for_each(|l| self.mem.fence(s.agent(l)));
                Ok(())
            }
            Ins::MmaAsync { atom, acc, var, a, b } => self.mma_async(s, *atom, (*acc, *var), a, b),
            Ins::MmaFence => {
                self.products.units.iter_mut().filter(|(k, _)| in_stream(s, **k)).for_each(|(_, u)| u.dirty.clear());
                Ok(())
            }
            Ins::MmaCommit => {
                for u in self.products.units.iter_mut().filter(|(k, _)| in_stream(s, **k)).map(|(_, u)| u) {
                    let group = std::mem::take(&mut u.open);
                    u.groups.push_back(group);
                }
                Ok(())
            }
            Ins::MmaWait(n) => self.mma_wait(s, *n as usize),
            Ins::AccUse { var, write } => {
                for (k, u) in self.products.units.iter_mut().filter(|(k, _)| in_stream(s, **k)) {
                    if u.open.iter().chain(u.groups.iter().flatten()).any(|p| p.var == *var) {
                        let m = "an accumulator is used while a product is in flight";
                        return Err(Stop::new(FaultKind::InFlight, m).at_lane(*k - s.agents));
                    }
                    if *write {
                        u.dirty.insert(*var);
                    }
                }
                if *write {
                    // The unit may not exist yet; it begins with what was written before.
                    let k = s.agent(s.lanes.start);
                    self.products.units.entry(k).or_default().dirty.insert(*var);
                }
                Ok(())
            }
            _ => Err(Stop::new(FaultKind::Malformed, "an instruction that no part of the machine runs")),
        }
    }

    /// Elements of a block in row order, each with whether it is inside the cut.
    fn elements(&mut self, b: &Block, corner: usize) -> Vec<usize> {
        let shape = &self.p.bufs[b.buf.index()];
        let n: u32 = b.len.iter().product();
        (0..n)
            .map(|e| {
                let (mut rest, mut at) = (e, corner as i64);
                for d in (0..b.len.len()).rev() {
                    at += i64::from(rest % b.len[d]) * shape.strides[d];
                    rest /= b.len[d];
                }
                at as usize
            })
            .collect()
    }
    fn inside(b: &Block, e: usize, cut: Option<&[i64]>) -> bool {
        let Some(cut) = cut else { return true };
        let mut rest = e as u32;
        (0..b.len.len()).rev().all(|d| {
            let v = rest % b.len[d];
            rest /= b.len[d];
            i64::from(v) < cut[d]
        })
    }

    fn copy_async(&mut self, s: &Stream, op: &CopyOp, l: usize) -> Run<()> {
        let mut cut = self.cut(&op.src, &op.cond, l);
        if let CondAt::When(c) = op.cond
            && self.at(c, l) & 1 == 0
        {
            cut = Some(op.src.len.iter().map(|_| 0).collect());
        }
        let fill = op.other.map(|o| self.at(o, l));
        let src_at = self.corner(&op.src, l, cut.as_deref())?;
        // What is beyond the cut is filled, or not written at all.
        let dst_cut = if fill.is_some() { None } else { cut.clone() };
        let dst_cut = dst_cut.map(|c| spread(&op.src, &op.dst, &c));
        let dst_at = self.corner(&op.dst, l, dst_cut.as_deref())?;
        let src = self.elements(&op.src, src_at);
        let dst = self.elements(&op.dst, dst_at);
        let size = self.p.bufs[op.dst.buf.index()].dtype.bytes().unwrap_or(1) as usize;
        let bytes = size * dst.len();
        if self.k.class == crate::kernel::Class::Simt && matches!(bytes, 4 | 8 | 16) {
            let some = cut.as_ref().is_none_or(|c| !c.contains(&0));
            for (at, name) in [(Some(dst_at), "destination"), (some.then_some(src_at), "source")] {
                if at.is_some_and(|a| !(a * size).is_multiple_of(bytes)) {
                    return Err(Stop::new(FaultKind::Alignment, format!("the {name} of a copy of {bytes} bytes")));
                }
            }
        }
        let mut pairs = Vec::with_capacity(dst.len());
        for (e, (d, x)) in dst.into_iter().zip(src).enumerate() {
            if Self::inside(&op.src, e, cut.as_deref()) {
                pairs.push((d, Some(x)));
            } else if fill.is_some() {
                pairs.push((d, None));
            }
        }
        let who = self.clocks.issue(self.group_id, s.agent(l), Engine::Queue(op.queue));
        let mut c = Copy {
            who,
            lane: l as u32,
            dst: op.dst.buf.index(),
            src: op.src.buf.index(),
            pairs,
            fill: fill.unwrap_or(0),
            bytes: bytes as i64,
            bar: None,
            landed: false,
        };
        self.start(&mut c)?;
        self.queues.entry((op.queue, s.agent(l))).or_default().open.push(c);
        Ok(())
    }
    /// Notes what an operation will touch; from now on its bytes are in flight.
    fn start(&mut self, c: &mut Copy) -> Run<()> {
        for (d, x) in &c.pairs {
            if let Some(x) = x {
                self.mem.touch(c.src, c.lane, *x, 1, false, &c.who)?;
            }
            self.mem.touch(c.dst, c.lane, *d, 1, true, &c.who)?;
        }
        if self.eager() { self.land(c) } else { Ok(()) }
    }
    fn land(&mut self, c: &mut Copy) -> Run<()> {
        if std::mem::replace(&mut c.landed, true) {
            return Ok(());
        }
        for (d, x) in &c.pairs {
            let mut v = [c.fill];
            if let Some(x) = x {
                self.mem.get(c.src, c.lane, *x, &mut v, 1, 1)?;
            }
            self.mem.put(c.dst, c.lane, *d, &v, 1, 1);
        }
        Ok(())
    }

    fn copy_bulk(&mut self, s: &Stream, dst: &Block, src: &Block, bar: &BarAt, l: usize) -> Run<()> {
        let key = self.known_bar(s, bar, l)?;
        if !self.bars.0.get(&key).is_some_and(|b| b.fenced) {
            return signal("a copy engine signals before `fence init` made the signal visible to it", l);
        }
        let dst_at = self.corner(dst, l, None)?;
        let to = self.elements(dst, dst_at);
        let shape = &self.p.bufs[src.buf.index()];
        // The box may hang over the tensor; what is outside becomes zero.
        let mut pairs = Vec::with_capacity(to.len());
        let n: u32 = src.len.iter().product();
        if n as usize != to.len() {
            return Err(Stop::new(FaultKind::Malformed, "a bulk copy between blocks that differ").at_lane(l as u32));
        }
        for (e, d) in to.into_iter().enumerate() {
            let (mut rest, mut at, mut inside) = (e as u32, 0i64, true);
            for k in (0..src.len.len()).rev() {
                let v = self.ix(src.idx[k], l) + i64::from(rest % src.len[k]);
                rest /= src.len[k];
                inside &= v >= 0 && v < shape.dims[k];
                at = at.wrapping_add(v.wrapping_mul(shape.strides[k]));
            }
            pairs.push((d, inside.then_some(at as usize)));
        }
        let size = i64::from(shape.dtype.bytes().unwrap_or(1));
        let who = self.clocks.issue(self.group_id, s.agent(l), Engine::Bulk);
        let bytes = size * i64::from(n);
        let (dst, src) = (dst.buf.index(), src.buf.index());
        let mut c = Copy { who, lane: l as u32, dst, src, pairs, fill: 0, bytes, bar: Some(key), landed: false };
        self.start(&mut c).map_err(|x| x.at_lane(l as u32))?;
        if self.eager() {
            return self.complete(&c);
        }
        self.bulk.push(c);
        Ok(())
    }
    /// The bytes of a bulk copy count for its signal.
    fn complete(&mut self, c: &Copy) -> Run<()> {
        let Some(bar) = c.bar.and_then(|k| self.bars.0.get_mut(&k)) else { return Ok(()) };
        bar.bytes -= c.bytes;
        if bar.bytes < 0 {
            return signal("bytes arrive that nobody expects", c.lane as usize);
        }
        merge(&mut bar.now, &Clocks::landed(&c.who));
        flip(bar);
        Ok(())
    }

    fn bar_key(&self, b: &BarAt, l: usize) -> Run<BarKey> {
        let mut at = 0u32;
        for (i, d) in b.idx.iter().zip(&b.dims) {
            let v = self.ix(*i, l);
            if v < 0 || v >= i64::from(*d) {
                return Err(Stop::new(FaultKind::Bounds, format!("signal {v} of {d}")).at_lane(l as u32));
            }
            at = at * d + v as u32;
        }
        Ok((b.bar, at))
    }
    /// A signal whose initialization the lane knows of.
    fn known_bar(&self, s: &Stream, b: &BarAt, l: usize) -> Run<BarKey> {
        let key = self.bar_key(b, l)?;
        let Some(bar) = self.bars.0.get(&key) else { return signal("the signal is not initialized", l) };
        let who = self.who(s, l);
        let (agent, at) = bar.init;
        let known = who.agent == agent || who.known.get(agent as usize).is_some_and(|c| *c >= at);
        if known { Ok(key) } else { signal("nothing orders the initialization of the signal before this", l) }
    }
    fn arrive(&mut self, s: &Stream, key: BarKey, l: usize) -> Run<()> {
        let v = self.clocks.release(s.agent(l));
        let Some(bar) = self.bars.0.get_mut(&key) else { return Ok(()) };
        if bar.pending == 0 {
            return signal("more arrivals than the phase has", l);
        }
        bar.pending -= 1;
        merge(&mut bar.now, &v);
        flip(bar);
        Ok(())
    }
    /// Whether the phase of that parity has ended for all lanes that are on.
    pub(super) fn bar_wait(&mut self, s: &Stream, b: &BarAt, parity: Slot) -> Run<bool> {
        let lanes: Vec<usize> = s.active().collect();
        let mut keys = Vec::with_capacity(lanes.len());
        for &l in &lanes {
            let key = self.known_bar(s, b, l)?;
            if !keys.contains(&key) {
                let (ready, rest): (Vec<Copy>, Vec<Copy>) = std::mem::take(&mut self.bulk).into_iter().partition(|c| c.bar == Some(key));
                self.bulk = rest;
                for mut c in ready {
                    self.land(&mut c)?;
                    self.complete(&c)?;
                }
            }
            keys.push(key);
        }
        let wanted = |me: &Self, l: usize| alu::as_i64(me.at(parity, l), false) & 1;
        if lanes.iter().zip(&keys).any(|(l, k)| self.bars.0.get(k).is_none_or(|b| b.phase & 1 == wanted(self, *l))) {
            return Ok(false);
        }
        for (&l, k) in lanes.iter().zip(&keys) {
            let agent = s.agent(l);
            let Some(bar) = self.bars.0.get_mut(k) else { continue };
            let ended = bar.phase - 1;
            let last = bar.seen.insert(agent, ended).unwrap_or(-1);
            if ended > last + 1 {
                return signal("the phase that this waits for was overrun", l);
            }
            let done = std::mem::take(&mut bar.done);
            self.clocks.acquire(agent, &done);
            if let Some(bar) = self.bars.0.get_mut(k) {
                bar.done = done;
            }
        }
        Ok(true)
    }

    fn mma_async(&mut self, s: &Stream, atom: crate::kernel::AtomId, (acc, var): (Slot, VarId), a: &Block, b: &Block) -> Run<()> {
        let module = self.m;
        let at = &module.atoms[atom];
        let shape = at.shape.map(u32::from);
        let long = |b: &Block| b.len.iter().copied().filter(|l| *l > 1).collect::<Vec<_>>();
        if long(a) != [shape[0], shape[2]] || long(b) != [shape[1], shape[2]] {
            return Err(Stop::new(FaultKind::Malformed, "operands that do not have the atom's extents"));
        }
        for lanes in blocks(s, usize::from(at.lanes), "an asynchronous product")? {
            for ix in a.idx.iter().chain(&b.idx) {
                if let Some(l) = lanes.clone().find(|l| self.ix(*ix, *l) != self.ix(*ix, lanes.start)) {
                    return Err(Stop::new(FaultKind::Divergence, "lanes name different operands").at_lane(l as u32));
                }
            }
            let leader = s.agent(lanes.start);
            let first = s.agent(s.lanes.start);
            let dirty = [leader, first].iter().any(|k| self.products.units.get(k).is_some_and(|u| u.dirty.contains(&var)));
            if dirty {
                let m = "the accumulator was written by lanes since the last `mma.fence`";
                return Err(Stop::new(FaultKind::InFlight, m).at_lane(lanes.start as u32));
            }
            let corners = [self.corner(a, lanes.start, None)?, self.corner(b, lanes.start, None)?];
            let (ea, eb) = (self.elements(a, corners[0]), self.elements(b, corners[1]));
            let bufs = [a.buf.index(), b.buf.index()];
            let who = self.clocks.issue(self.group_id, leader, Engine::Matrix);
            for (buf, es) in [(bufs[0], &ea), (bufs[1], &eb)] {
                for e in es {
                    self.mem.unit_reads(buf, *e).map_err(|x| x.at_lane(lanes.start as u32))?;
                    self.mem.touch(buf, lanes.start as u32, *e, 1, false, &who).map_err(|x| x.at_lane(lanes.start as u32))?;
                }
            }
            let mut p = Product { who, atom, acc, var, lanes, a: ea, b: eb, bufs, landed: false };
            if self.eager() {
                self.finish(&mut p)?;
            }
            self.products.units.entry(leader).or_default().open.push(p);
        }
        Ok(())
    }
    fn finish(&mut self, p: &mut Product) -> Run<()> {
        if std::mem::replace(&mut p.landed, true) {
            return Ok(());
        }
        let module = self.m;
        let atom = &module.atoms[p.atom];
        let lane = p.lanes.start as u32;
        let mut read = |buf: usize, es: &[usize]| -> Run<Vec<u64>> {
            let mut out = vec![0; es.len()];
            for (o, e) in out.iter_mut().zip(es) {
                self.mem.get(buf, lane, *e, std::slice::from_mut(o), 1, 1).map_err(|x| x.at_lane(lane))?;
            }
            Ok(out)
        };
        let (x, y) = (read(p.bufs[0], &p.a)?, read(p.bufs[1], &p.b)?);
        let table = self.table(p.atom.index(), atom, Operand::C);
        let at = |t: &(u32, u32)| (p.acc + t.1, p.lanes.start + t.0 as usize);
        let mut z: Vec<u64> = table.iter().map(|t| self.at(at(t).0, at(t).1)).collect();
        let dims = atom.shape.map(usize::from);
        product(atom.dtypes, dims, &x, &y, true, &mut z);
        for (t, v) in table.iter().zip(z) {
            self.put(at(t).0, at(t).1, v);
        }
        Ok(())
    }
    fn mma_wait(&mut self, s: &Stream, n: usize) -> Run<()> {
        let keys: Vec<u32> = self.products.units.keys().copied().filter(|k| in_stream(s, *k)).collect();
        for k in keys {
            let Some(u) = self.products.units.get_mut(&k) else { continue };
            let count = u.groups.len().saturating_sub(n);
            let done: Vec<Vec<Product>> = u.groups.drain(..count).collect();
            for mut p in done.into_iter().flatten() {
                self.finish(&mut p)?;
                let landed = Clocks::landed(&p.who);
                for l in p.lanes.clone() {
                    self.clocks.acquire(s.agent(l), &landed);
                }
            }
        }
        Ok(())
    }

    /// What is still in flight when the group ends.
    pub(super) fn leak(&self) -> Option<String> {
        for ((q, _), state) in &self.queues {
            let name = self.k.queues.values().nth(*q as usize).map_or("?", |q| q.name.as_str());
            if !state.open.is_empty() {
                return Some(format!("copies in queue `{name}` are not committed when the group ends"));
            }
            if state.groups.iter().any(|g| !g.is_empty()) {
                return Some(format!("nobody waits for copies in queue `{name}`"));
            }
        }
        if !self.bulk.is_empty() {
            return Some("nobody waits for a bulk copy".into());
        }
        let products = self.products.units.values().any(|u| !u.open.is_empty() || u.groups.iter().any(|g| !g.is_empty()));
        products.then(|| "nobody waits for asynchronous products".into())
    }
}

fn in_stream(s: &Stream, agent: u32) -> bool {
    agent >= s.agents && s.lanes.contains(&((agent - s.agents) as usize))
}
fn merge(into: &mut Vec<u32>, from: &[u32]) {
    if into.len() < from.len() {
        into.resize(from.len(), 0);
    }
    into.iter_mut().zip(from).for_each(|(a, b)| *a = (*a).max(*b));
}
fn flip(b: &mut Bar) {
    if b.pending == 0 && b.bytes == 0 {
        b.phase += 1;
        b.pending = b.count;
        b.done = std::mem::take(&mut b.now);
    }
}
/// The cut of a source block in the dims of a destination block that has the same long dims.
fn spread(src: &Block, dst: &Block, cut: &[i64]) -> Vec<i64> {
    let mut long = src.len.iter().zip(cut).filter(|(n, _)| **n > 1).map(|(_, c)| *c);
    let none = cut.contains(&0);
    dst.len
        .iter()
        .map(|n| {
            if none {
                0
            } else if *n > 1 {
                long.next().unwrap_or(i64::from(*n))
            } else {
                1
            }
        })
        .collect()
}
