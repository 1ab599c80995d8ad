// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs flat code: streams over the lanes of one group after the other.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::code::{CONST, Ins, Ix, Program, Slot};
use super::memory::Mem;
use super::order::{Clocks, Who};
use super::pipeline::{Bars, Copy, Products, QueueState};
use super::{Args, Copies, FaultKind, GuardReport, Memory, Outcome, Run, RunOptions, Stop, alu};
use crate::dtype::DType;
use crate::kernel::{Kernel, Module};
use crate::numerics;

/// What a stream is doing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Waiting,
    Done,
}

/// One instruction stream over some lanes of the group.
pub(super) struct Stream {
    pub pc: usize,
    /// First lane and the one behind the last.
    pub lanes: std::ops::Range<usize>,
    /// Agent of lane l is `agents + l`.
    pub agents: u32,
    pub role: Option<usize>,
    pub state: State,
    /// Masks of open branches and loops, innermost last; a mask has an entry per lane of the group.
    masks: Vec<u8>,
    /// Whether all lanes of the stream are on in each mask.
    full: Vec<bool>,
}

impl Stream {
    fn new(pc: usize, lanes: std::ops::Range<usize>, agents: u32, width: usize, role: Option<usize>) -> Self {
        let mut masks = vec![0; width];
        masks[lanes.clone()].fill(1);
        Stream { pc, lanes, agents, role, state: State::Ready, masks, full: vec![true] }
    }
    pub(super) fn agent(&self, lane: usize) -> u32 {
        self.agents + lane as u32
    }
    pub(super) fn is_full(&self) -> bool {
        self.full.last().copied().unwrap_or(true)
    }
    pub(super) fn on(&self, lane: usize) -> bool {
        let w = self.masks.len() / self.full.len().max(1);
        self.masks[self.masks.len() - w + lane] != 0
    }
    pub(super) fn active(&self) -> impl Iterator<Item = usize> + '_ {
        self.lanes.clone().filter(|l| self.on(*l))
    }
    fn width(&self) -> usize {
        self.masks.len() / self.full.len().max(1)
    }
    /// Opens a mask: the lanes of the innermost one for which `f` holds; whether any is left.
    fn open(&mut self, f: impl Fn(usize) -> bool) -> bool {
        let w = self.width();
        let top = self.masks.len() - w;
        self.masks.extend_from_within(top..);
        self.full.push(true);
        self.narrow(f)
    }
    /// Keeps those lanes of the innermost mask for which `f` holds.
    fn narrow(&mut self, f: impl Fn(usize) -> bool) -> bool {
        let top = self.masks.len() - self.width();
        let (mut any, mut all) = (false, true);
        for l in self.lanes.clone() {
            let m = &mut self.masks[top + l];
            *m = u8::from(*m != 0 && f(l));
            any |= *m != 0;
            all &= *m != 0;
        }
        if let Some(f) = self.full.last_mut() {
            *f = all;
        }
        any
    }
    /// The other branch: lanes of the outer mask that are off in the innermost one.
    fn flip(&mut self) -> bool {
        let w = self.width();
        let top = self.masks.len() - w;
        let (mut any, mut all) = (false, true);
        for l in self.lanes.clone() {
            let v = self.masks[top - w + l] & (self.masks[top + l] ^ 1);
            self.masks[top + l] = v;
            any |= v != 0;
            all &= v != 0;
        }
        if let Some(f) = self.full.last_mut() {
            *f = all;
        }
        any
    }
    fn close(&mut self) {
        let w = self.width();
        self.masks.truncate(self.masks.len() - w);
        self.full.pop();
    }
}

pub(super) struct Machine<'a, 'm> {
    pub m: &'a Module,
    pub k: &'a Kernel,
    pub p: &'a Program,
    pub opt: &'a RunOptions,
    pub regs: Vec<u64>,
    pub poison: Vec<u8>,
    pub lanes: usize,
    pub group: [i64; 3],
    /// Number of the group plus one.
    pub group_id: u32,
    pub mem: Mem<'a, 'm>,
    pub clocks: Clocks,
    pub queues: HashMap<(u32, u32), QueueState>,
    pub bars: Bars,
    pub bulk: Vec<Copy>,
    pub products: Products,
    pub out: Outcome,
    pub tables: HashMap<(usize, u8), Vec<(u32, u32)>>,
}

/// A small generator; the order of groups and streams must be repeatable, not random.
fn shuffle(order: &mut [usize], seed: u64) {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for i in (1..order.len()).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        order.swap(i, (x >> 11) as usize % (i + 1));
    }
}

pub(super) struct Src<'r> {
    low: &'r [u64],
    consts: &'r [u64],
    lanes: usize,
}
impl<'r> Src<'r> {
    fn get(&self, s: Slot, n: u32) -> &'r [u64] {
        let (from, s) = if s & CONST != 0 { (self.consts, s & !CONST) } else { (self.low, s) };
        &from[s as usize * self.lanes..(s + n) as usize * self.lanes]
    }
}

impl<'a, 'm> Machine<'a, 'm> {
    pub(super) fn new(
        m: &'a Module,
        k: &'a Kernel,
        p: &'a Program,
        memory: &'a mut [Memory<'m>],
        args: &Args,
        opt: &'a RunOptions,
    ) -> Run<Self> {
        let lanes = p.lanes as usize;
        let regs = vec![0; p.slots as usize * lanes];
        Ok(Machine {
            m,
            k,
            p,
            opt,
            poison: if p.has_poison { vec![0; regs.len()] } else { Vec::new() },
            regs,
            lanes,
            group: [0; 3],
            group_id: 0,
            mem: Mem::new(k, p, memory, args, opt.races)?,
            clocks: Clocks::new(0),
            queues: HashMap::new(),
            bars: Bars::default(),
            bulk: Vec::new(),
            products: Products::default(),
            out: Outcome::default(),
            tables: HashMap::new(),
        })
    }

    pub(super) fn launch(mut self) -> Run<Outcome> {
        let [x, y, z] = self.p.grid;
        let count = x.checked_mul(y).and_then(|v| v.checked_mul(z)).filter(|v| *v < i64::from(u32::MAX >> 1));
        let Some(count) = count else { return Err(Stop::new(FaultKind::Arguments, "a launch of too many groups")) };
        // Without a seed the order is that of the numbers, and needs no table of a launch's groups.
        let mut order: Vec<usize> = if self.opt.seed == 0 { Vec::new() } else { (0..count as usize).collect() };
        // The groups of a step, or of the launch, in any order.
        let together = if self.k.launch.steps { (x * y).max(1) } else { count.max(1) } as usize;
        order.chunks_mut(together).for_each(|step| shuffle(step, self.opt.seed));
        for n in 0..count as usize {
            if n > 0 && n % together == 0 {
                self.mem.new_step();
            }
            let g = order.get(n).copied().unwrap_or(n);
            let i = g as i64;
            self.group = [i % x, i / x % y, i / (x * y)];
            self.group_id = g as u32 + 1;
            self.run_group()?;
        }
        self.out.loaded = self.mem.loaded;
        self.out.stored = self.mem.stored;
        self.out.global = self.mem.global;
        Ok(self.out)
    }

    fn run_group(&mut self) -> Run<()> {
        let agents = self.lanes * (1 + self.p.roles.len());
        self.clocks = Clocks::new(agents);
        self.mem.new_group();
        self.queues.clear();
        self.bars.clear();
        self.bulk.clear();
        self.products.clear();
        for (s, g) in self.p.group_slots.into_iter().zip(self.group) {
            let at = s as usize * self.lanes;
            self.regs[at..at + self.lanes].fill(g as u64);
        }
        let mut main = Stream::new(0, 0..self.lanes, 0, self.lanes, None);
        self.step(&mut main)?;
        if main.state == State::Waiting {
            return Err(self.deadlock(&[main]));
        }
        let mut streams = Vec::new();
        // On simt a role is some of the group's lanes; on tile_core each core gets an agent more.
        let forked = self.k.class == crate::kernel::Class::TileCore;
        if main.state == State::Ready {
            for (i, r) in self.p.roles.iter().enumerate() {
                let lanes = r.lanes.0 as usize..(r.lanes.0 + r.lanes.1) as usize;
                let agents = if forked { ((i + 1) * self.lanes) as u32 } else { 0 };
                if forked {
                    for l in 0..self.lanes as u32 {
                        self.clocks.fork(l, agents + l);
                    }
                }
                streams.push(Stream::new(r.start as usize, lanes, agents, self.lanes, Some(i)));
            }
        }
        let mut order: Vec<usize> = (0..streams.len()).collect();
        if self.opt.seed != 0 {
            shuffle(&mut order, self.opt.seed ^ u64::from(self.group_id));
        }
        loop {
            let mut moved = false;
            for &i in &order {
                if streams[i].state == State::Done {
                    continue;
                }
                let before = self.out.instructions;
                streams[i].state = State::Ready;
                self.step(&mut streams[i])?;
                // A wait that fails again is the one instruction of a stream that cannot go on.
                moved |= self.out.instructions > before + 1 || streams[i].state == State::Done;
            }
            if streams.iter().all(|s| s.state == State::Done) {
                break;
            }
            if !moved {
                return Err(self.deadlock(&streams));
            }
        }
        self.check_leaks()
    }

    fn deadlock(&self, streams: &[Stream]) -> Stop {
        let waiting: Vec<String> = streams
            .iter()
            .filter(|s| s.state != State::Done)
            .map(|s| {
                let line = super::print_kernel(self.m, self.k);
                let name = s.role.and_then(|r| self.p.roles.get(r)).map_or("the kernel", |r| r.name.as_str());
                format!("{name} at `{}`", self.p.stmt.get(s.pc).map_or("", |st| line.line(*st)))
            })
            .collect();
        let mut stop = Stop::new(FaultKind::Deadlock, format!("no stream can go on: {}", waiting.join("; ")));
        stop.group = self.group;
        stop.stmt = streams.iter().find(|s| s.state != State::Done).and_then(|s| self.p.stmt.get(s.pc)).copied();
        stop
    }
    fn check_leaks(&mut self) -> Run<()> {
        let leak = self.leak();
        match leak {
            Some(m) => Err(Stop { group: self.group, ..Stop::new(FaultKind::Leak, m) }),
            None => Ok(()),
        }
    }

    /// Runs a stream until it waits or ends.
    fn step(&mut self, s: &mut Stream) -> Run<()> {
        let r = self.go(s);
        r.map_err(|mut stop| {
            stop.stmt = stop.stmt.or_else(|| self.p.stmt.get(s.pc).copied());
            stop.group = self.group;
            stop
        })
    }

    pub(super) fn parts(&mut self, o: Slot, n: u32) -> (Src<'_>, &mut [u64]) {
        let l = self.lanes;
        let (low, high) = self.regs.split_at_mut(o as usize * l);
        (Src { low, consts: &self.p.consts, lanes: l }, &mut high[..n as usize * l])
    }
    pub(super) fn at(&self, s: Slot, lane: usize) -> u64 {
        let from = if s & CONST != 0 { &self.p.consts } else { &self.regs };
        from[(s & !CONST) as usize * self.lanes + lane]
    }
    pub(super) fn ix(&self, i: Ix, lane: usize) -> i64 {
        alu::as_i64(self.at(i.slot, lane), i.wide)
    }
    pub(super) fn put(&mut self, s: Slot, lane: usize, v: u64) {
        self.regs[s as usize * self.lanes + lane] = v;
    }
    pub(super) fn poisoned(&self, s: Slot, lane: usize) -> bool {
        s & CONST == 0 && self.poison.get(s as usize * self.lanes + lane).is_some_and(|p| *p != 0)
    }
    pub(super) fn set_poison(&mut self, s: Slot, lane: usize, p: bool) {
        if let Some(x) = self.poison.get_mut(s as usize * self.lanes + lane) {
            *x = u8::from(p);
        }
    }
    pub(super) fn who(&self, s: &Stream, lane: usize) -> Who {
        self.clocks.lane(self.group_id, s.agent(lane))
    }

    /// A check failed at some element; it counts if its lane is on.
    fn check(&self, s: &Stream, n: u32, fails: impl Fn(usize) -> bool, kind: FaultKind, what: impl Fn(usize) -> String) -> Run<()> {
        let l = self.lanes;
        let bad = (0..n as usize * l).find(|i| s.lanes.contains(&(i % l)) && s.on(i % l) && fails(*i));
        match bad {
            Some(i) => Err(Stop::new(kind, what(i)).at_lane((i % l) as u32)),
            None => Ok(()),
        }
    }

    fn go(&mut self, s: &mut Stream) -> Run<()> {
        let p = self.p;
        loop {
            let Some(ins) = p.code.get(s.pc) else { return Err(Stop::new(FaultKind::Malformed, "ran off the code")) };
            self.out.instructions += 1;
            match ins {
                Ins::End => {
                    s.state = State::Done;
                    return Ok(());
                }
                Ins::Roles => return Ok(()),
                Ins::If { cond, els } => {
                    let any = s.open(|l| self.at(*cond, l) & 1 != 0);
                    if !any {
                        s.pc = *els as usize;
                        continue;
                    }
                }
                Ins::Else { end } => {
                    if !s.flip() {
                        s.pc = *end as usize;
                        continue;
                    }
                }
                Ins::EndIf => s.close(),
                Ins::ForInit { d, var, lo, hi, step, exit } => {
                    let wide = *d == DType::I64;
                    for l in s.lanes.clone() {
                        let v = self.at(*lo, l);
                        self.put(*var, l, v);
                    }
                    if let Some(l) = s.active().find(|l| alu::as_i64(self.at(*step, *l), wide) <= 0) {
                        return Err(Stop::new(FaultKind::Domain, "a step that is not positive").at_lane(l as u32));
                    }
                    if !s.open(|l| alu::as_i64(self.at(*lo, l), wide) < alu::as_i64(self.at(*hi, l), wide)) {
                        s.close();
                        s.pc = *exit as usize;
                        continue;
                    }
                }
                Ins::ForNext { d, var, hi, step, body } => {
                    let wide = *d == DType::I64;
                    for l in s.lanes.clone() {
                        if !s.on(l) {
                            continue;
                        }
                        let v = alu::as_i64(self.at(*var, l), wide).saturating_add(alu::as_i64(self.at(*step, l), wide));
                        let v = if wide { v as u64 } else { u64::from(v.clamp(i32::MIN.into(), i32::MAX.into()) as i32 as u32) };
                        self.put(*var, l, v);
                    }
                    if self.opt.limit.is_some_and(|max| self.out.instructions > max) {
                        return Err(Stop::new(FaultKind::Deadlock, "more instructions than the run's limit"));
                    }
                    if s.narrow(|l| alu::as_i64(self.at(*var, l), wide) < alu::as_i64(self.at(*hi, l), wide)) {
                        s.pc = *body as usize;
                        continue;
                    }
                    s.close();
                }
                Ins::BarWait(b, parity) => {
                    if !self.bar_wait(s, b, *parity)? {
                        s.state = State::Waiting;
                        return Ok(());
                    }
                }
                other => self.exec(s, other)?,
            }
            s.pc += 1;
        }
    }

    #[allow(clippy::too_many_lines)]
    fn exec(&mut self, s: &mut Stream, ins: &Ins) -> Run<()> {
        match ins {
            Ins::Un { op, d, n, a, o } => {
                let (src, out) = self.parts(*o, *n);
                if alu::un(*op, *d, src.get(*a, *n), out).is_some() {
                    let value = |i: usize| self.elem(*a, i);
                    let text = |i| format!("`{}` of {} leaves {d}", op.name(), numerics::int_from_bits(*d, value(i)));
                    self.check(s, *n, |i| alu::un_one(*op, *d, value(i)).is_none(), FaultKind::Wrap, text)?;
                }
            }
            Ins::Bin { op, d, n, a, b, o } => {
                let (src, out) = self.parts(*o, *n);
                if alu::bin(*op, *d, src.get(*a, *n), src.get(*b, *n), out).is_some() {
                    let value = |i: usize| (self.elem(*a, i), self.elem(*b, i));
                    let fails = |i: usize| alu::bin_one(*op, *d, value(i).0, value(i).1).is_none();
                    use crate::kernel::BinOp::{Add, Mul, Sub};
                    let kind = if matches!(op, Add | Sub | Mul) { FaultKind::Wrap } else { FaultKind::Domain };
                    let text = |i: usize| {
                        let [x, y] = [value(i).0, value(i).1].map(|v| numerics::int_from_bits(*d, v));
                        format!("{x} {} {y} has no value in {d}", op.name())
                    };
                    self.check(s, *n, fails, kind, text)?;
                }
            }
            Ins::Cmp { op, d, n, a, b, o } => {
                let (src, out) = self.parts(*o, *n);
                alu::cmp(*op, *d, src.get(*a, *n), src.get(*b, *n), out);
            }
            Ins::Select { n, scalar, c, a, b, o } => {
                let l = self.lanes;
                let (src, out) = self.parts(*o, *n);
                let (a, b) = (src.get(*a, *n), src.get(*b, *n));
                let c = src.get(*c, if *scalar { 1 } else { *n });
                for (i, o) in out.iter_mut().enumerate() {
                    let c = if *scalar { c[i % l] } else { c[i] };
                    *o = if c & 1 != 0 { a[i] } else { b[i] };
                }
            }
            Ins::Fma { d, n, a, b, c, o } => {
                let (src, out) = self.parts(*o, *n);
                alu::fma(*d, src.get(*a, *n), src.get(*b, *n), src.get(*c, *n), out);
            }
            Ins::Cast { from, to, sat, n, a, o } => {
                let (src, out) = self.parts(*o, *n);
                alu::cast(*from, *to, *sat, src.get(*a, *n), out);
            }
            Ins::Regroup { from, to, n, a, o } => {
                let mask = if *to >= 64 { u64::MAX } else { (1 << to) - 1 };
                for l in s.lanes.clone() {
                    for e in 0..*n {
                        let v = if from > to {
                            let parts = from / to;
                            (self.at(*a + e / parts, l) >> (e % parts * to)) & mask
                        } else {
                            let parts = to / from;
                            (0..parts).fold(0, |v, i| v | (self.at(*a + e * parts + i, l) << (i * from)))
                        };
                        self.put(*o + e, l, v);
                    }
                }
            }
            Ins::Copy { n, a, o } => self.copy_all(*a, *o, *n),
            Ins::Set { n, a, o } => {
                if s.is_full() && s.lanes.len() == self.lanes {
                    self.copy_all(*a, *o, *n);
                } else {
                    for e in 0..*n {
                        for l in s.lanes.clone() {
                            if s.on(l) {
                                let v = self.at(*a + e, l);
                                self.put(*o + e, l, v);
                            }
                        }
                    }
                }
            }
            Ins::Splat { n, a, o } => {
                let l = self.lanes;
                let (src, out) = self.parts(*o, *n);
                let a = src.get(*a, 1);
                if l == 1 {
                    out.fill(a[0]);
                } else {
                    out.chunks_exact_mut(l).for_each(|c| c.copy_from_slice(a));
                }
            }
            Ins::Iota { d, n, a, o } => {
                for e in 0..*n {
                    for l in s.lanes.clone() {
                        let v = numerics::int_from_bits(*d, self.at(*a, l)) + i128::from(e);
                        if s.on(l) && d.int_range().is_some_and(|(_, hi)| v > hi) {
                            return Err(Stop::new(FaultKind::Wrap, format!("iota reaches {v}, which is no {d}")).at_lane(l as u32));
                        }
                        self.put(*o + e, l, numerics::int_to_bits(*d, v));
                    }
                }
            }
            Ins::MaskLt { d, n, a, b, o } => {
                for l in s.lanes.clone() {
                    let (a, b) = (numerics::int_from_bits(*d, self.at(*a, l)), numerics::int_from_bits(*d, self.at(*b, l)));
                    for e in 0..*n {
                        self.put(*o + e, l, u64::from(a + i128::from(e) < b));
                    }
                }
            }
            Ins::Shuffle { list, n, a, b, o } => {
                let l = self.lanes;
                let (src, out) = self.parts(*o, list.len() as u32);
                let (a, b) = (src.get(*a, *n), src.get(*b, *n));
                for (i, c) in list.iter().zip(out.chunks_exact_mut(l)) {
                    let i = usize::from(*i);
                    let (from, i) = if i < *n as usize { (a, i) } else { (b, i - *n as usize) };
                    c.copy_from_slice(&from[i * l..(i + 1) * l]);
                }
            }
            Ins::Hred { op, d, n, a, o } => {
                let mut v: SmallVec<[u64; 64]> = SmallVec::new();
                for l in s.lanes.clone() {
                    v.clear();
                    v.extend((0..*n).map(|e| self.at(*a + e, l)));
                    match alu::hred(*op, *d, &mut v) {
                        Some(r) => self.put(*o, l, r),
                        None if s.on(l) => {
                            return Err(Stop::new(FaultKind::Wrap, format!("`{}` leaves {d}", op.name())).at_lane(l as u32));
                        }
                        None => {}
                    }
                }
            }
            Ins::Dot2 { n, acc, a, b, o } => {
                for l in s.lanes.clone() {
                    for e in 0..*n {
                        let first = |x: Slot, i: u32| alu::bf16_as_f32(self.at(x + e * 2 + i, l));
                        let sum = f32::from_bits(self.at(*acc + e, l) as u32);
                        let sum = alu::fma_f32(first(*a, 1), first(*b, 1), sum);
                        let sum = alu::fma_f32(first(*a, 0), first(*b, 0), sum);
                        self.put(*o + e, l, u64::from(sum.to_bits()));
                    }
                }
            }
            Ins::Dot4 { n, acc, a, b, signed, o } => {
                let kind = |s: bool| if s { DType::I8 } else { DType::U8 };
                for l in s.lanes.clone() {
                    for e in 0..*n {
                        let mut sum = numerics::int_from_bits(DType::I32, self.at(*acc + e, l));
                        for i in 0..4 {
                            let x = numerics::int_from_bits(kind(signed[0]), self.at(*a + e * 4 + i, l));
                            sum += x * numerics::int_from_bits(kind(signed[1]), self.at(*b + e * 4 + i, l));
                        }
                        self.put(*o + e, l, numerics::int_to_bits(DType::I32, sum));
                    }
                }
            }
            Ins::Reduce { op, d, outer, inner, scan, a, o } => {
                for l in s.lanes.clone() {
                    for i in 0..*outer {
                        let mut acc = self.at(*a + i * inner, l);
                        for j in 0..*inner {
                            if j > 0 {
                                let v = alu::red(*op, *d, acc, self.at(*a + i * inner + j, l));
                                let Some(v) = v else {
                                    return Err(Stop::new(FaultKind::Wrap, format!("the reduction leaves {d}")).at_lane(l as u32));
                                };
                                acc = v;
                            }
                            if *scan {
                                self.put(*o + i * inner + j, l, acc);
                            }
                        }
                        if !scan {
                            self.put(*o + i, l, acc);
                        }
                    }
                }
            }
            Ins::Transpose { rows, cols, a, o } => {
                for l in s.lanes.clone() {
                    for r in 0..*rows {
                        for c in 0..*cols {
                            let v = self.at(*a + r * cols + c, l);
                            self.put(*o + c * rows + r, l, v);
                        }
                    }
                }
            }
            Ins::TileAt(t) => {
                for e in 0..t.n {
                    for l in s.lanes.clone().filter(|l| s.on(*l)).collect::<SmallVec<[usize; 8]>>() {
                        let mut at = 0u32;
                        for (i, d) in t.idx.iter().zip(&t.dims) {
                            let v = alu::as_i64(self.at(i.slot + e, l), i.wide);
                            if v < 0 || v >= i64::from(*d) {
                                return Err(Stop::new(FaultKind::Bounds, format!("element {v} of a tile's dim of {d}")).at_lane(l as u32));
                            }
                            at = at * d + v as u32;
                        }
                        let v = self.at(t.tile + at, l);
                        self.put(t.o + e, l, v);
                        if t.poison {
                            let p = self.poisoned(t.tile + at, l);
                            self.set_poison(t.o + e, l, p);
                        }
                    }
                }
            }
            Ins::Slice(t) => {
                let lanes: Vec<usize> = s.active().collect();
                for l in lanes {
                    let n: u32 = t.len.iter().product();
                    for e in 0..n {
                        let (mut rest, mut at, mut step) = (e, 0u32, 1u32);
                        for d in (0..t.dims.len()).rev() {
                            let v = self.ix(t.idx[d], l) + i64::from(rest % t.len[d]);
                            rest /= t.len[d];
                            if v < 0 || v >= i64::from(t.dims[d]) {
                                let m = format!("element {v} of a tile's dim of {}", t.dims[d]);
                                return Err(Stop::new(FaultKind::Bounds, m).at_lane(l as u32));
                            }
                            at += v as u32 * step;
                            step *= t.dims[d];
                        }
                        let v = self.at(t.val + e, l);
                        self.put(t.tile + at, l, v);
                        self.set_poison(t.tile + at, l, false);
                    }
                }
            }
            Ins::Poison { n, o, from } => {
                for e in 0..*n {
                    for l in s.lanes.clone() {
                        // Operands with more elements than the result give each of its elements a run of theirs.
                        let run = |c: u32| e * c / n..(e * c / n).max(((e + 1) * c).div_ceil(*n).saturating_sub(1)) + 1;
                        let p = from.iter().any(|(a, c)| run(*c).any(|i| self.poisoned(a + i, l)));
                        self.set_poison(o + e, l, p);
                    }
                }
            }
            Ins::PoisonSelect { n, scalar, c, a, b, o } => {
                for e in 0..*n {
                    for l in s.lanes.clone() {
                        let c = c + if *scalar { 0 } else { e };
                        let chosen = if self.at(c, l) & 1 != 0 { a } else { b };
                        let p = self.poisoned(c, l) || self.poisoned(chosen + e, l);
                        self.set_poison(o + e, l, p);
                    }
                }
            }
            Ins::PoisonSet { n, a, o } => {
                for e in 0..*n {
                    for l in s.lanes.clone() {
                        if s.on(l) {
                            let p = a.is_none_or(|a| self.poisoned(a + e, l));
                            self.set_poison(o + e, l, p);
                        }
                    }
                }
            }
            Ins::NoPoison { n, a, what } => {
                let l = self.lanes;
                let text = |i: usize| format!("element {} is undefined and reaches {what}", i / l);
                self.check(s, *n, |i| self.poisoned(a + (i / l) as u32, i % l), FaultKind::Poison, text)?;
            }
            Ins::Load(op) => self.load(s, op)?,
            Ins::Store(op) => self.store(s, op)?,
            Ins::Alloc(b) => {
                let i = crate::entity::EntityId::index(*b);
                self.mem.alloc(i, &self.p.bufs[i]);
            }
            Ins::Guard(g) => {
                let lanes: Vec<usize> = s.active().collect();
                for l in lanes {
                    let [v, lo, hi] = [g.v, g.lo, g.hi].map(|x| numerics::int_from_bits(g.d, self.at(x, l)));
                    if hi <= lo {
                        return Err(Stop::new(FaultKind::Domain, format!("a guard with no legal value: {lo}..{hi}")).at_lane(l as u32));
                    }
                    let r = v.clamp(lo, hi - 1);
                    if r != v {
                        let at = self.ix(g.at, l);
                        self.out.guards.push(GuardReport { code: g.code, at, value: v as i64 });
                    }
                    self.put(g.o, l, numerics::int_to_bits(g.d, r));
                }
            }
            Ins::Assume(c) => {
                if let Some(l) = s.active().find(|l| self.at(*c, *l) & 1 == 0) {
                    return Err(Stop::new(FaultKind::Assumption, "the assumption does not hold").at_lane(l as u32));
                }
            }
            other => self.exec_shared(s, other)?,
        }
        Ok(())
    }

    pub(super) fn elem(&self, s: Slot, i: usize) -> u64 {
        let from = if s & CONST != 0 { &self.p.consts } else { &self.regs };
        from[(s & !CONST) as usize * self.lanes + i]
    }
    fn copy_all(&mut self, a: Slot, o: Slot, n: u32) {
        let l = self.lanes;
        let (len, at) = (n as usize * l, o as usize * l);
        if a & CONST != 0 {
            let from = (a & !CONST) as usize * l;
            self.regs[at..at + len].copy_from_slice(&self.p.consts[from..from + len]);
        } else {
            self.regs.copy_within(a as usize * l..a as usize * l + len, at);
        }
    }

    pub(super) fn eager(&self) -> bool {
        self.opt.copies == Copies::Eager
    }
}
