// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Races on shared memory, by happens-before (FastTrack: Flanagan and Freund, PLDI 2009).
//!
//! Every thread of a cluster has a clock, and knows of every other thread up to which of its clocks all that it did is ordered before.
//! Threads that have passed a barrier together share what they know, so a barrier costs one vector and not one a thread. A word of memory
//! keeps its last write and the reads since; an access that does not know of one that it conflicts with is a race.
//!
//! Asynchronous work is a thread of its own that somebody waits for: each thread's `cp.async`, bulk groups and `wgmma`, whose clock is the
//! number of the group, and each mbarrier's copies, whose clock is the phase. What they wrote is known to who has waited.
//!
//! Lanes of a warp are ordered by `bar.warp.sync`, not by running together. Two lanes that store to one word in one instruction are no
//! race: one of them wins.

use std::collections::HashMap;
use std::rc::Rc;

use super::instr::{LANES, Order};

/// Asynchronous work of a thread: `cp.async`, bulk copies in groups, `wgmma`.
pub(crate) const COPY: usize = 0;
pub(crate) const BULK: usize = 1;
pub(crate) const PRODUCT: usize = 2;
const KINDS: usize = 3;

const NOBODY: u32 = u32::MAX;
const STRONG: u32 = 1 << 31;

type Clocks = Vec<u32>;

/// An access that is remembered.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    who: u32,
    clock: u32,
    /// Number of the instruction; the top bit for an access that is strong.
    site: u32,
}

const NEVER: Epoch = Epoch { who: NOBODY, clock: 0, site: 0 };

/// A word, or one of its bytes.
#[derive(Clone, Copy, Debug)]
struct Cell {
    write: Epoch,
    read: Epoch,
    /// Reads of several threads: place in the lists plus one.
    list: u32,
    /// The word's bytes apart: place among the split ones plus one.
    split: u32,
}

const EMPTY: Cell = Cell { write: NEVER, read: NEVER, list: 0, split: 0 };

/// Lanes of a warp that have read at one clock.
#[derive(Clone, Copy, Debug)]
struct Readers {
    first: u32,
    lanes: u32,
    clock: u32,
    site: u32,
}

/// Two accesses that nothing orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict {
    pub lane: usize,
    pub address: u64,
    /// The other thread; of asynchronous work, the one that issued it.
    pub other: Option<u32>,
    pub site: u32,
    /// The other one is asynchronous work that was not waited for.
    pub early: bool,
    /// Nobody has written there.
    pub blank: bool,
    pub wrote: bool,
}

/// An access of lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub load: bool,
    pub store: bool,
    pub strong: bool,
    /// Asynchronous work that does it.
    pub agent: Option<(u32, u32)>,
    pub site: u32,
}

#[derive(Debug, Default)]
struct Mbarrier {
    slot: u32,
    phase: u32,
    come: Clocks,
    done: Rc<Clocks>,
}

/// State of a cluster.
#[derive(Debug)]
pub(crate) struct Race {
    threads: u32,
    know: Vec<Rc<Clocks>>,
    clock: Vec<u32>,
    /// Groups of asynchronous work of every thread: begun, and waited for.
    begun: [Vec<u32>; KINDS],
    ended: [Vec<u32>; KINDS],
    cells: Vec<Vec<Cell>>,
    lists: Vec<Vec<Readers>>,
    splits: Vec<[Cell; 4]>,
    bars: HashMap<(usize, u8), Clocks>,
    mbars: HashMap<usize, Mbarrier>,
    places: HashMap<u64, Clocks>,
    fences: Vec<Option<Rc<Clocks>>>,
    heard: Vec<Clocks>,
    blank: bool,
}

fn join(a: &mut Clocks, b: &[u32]) {
    if a.len() < b.len() {
        a.resize(b.len(), 0);
    }
    for (x, y) in a.iter_mut().zip(b) {
        *x = (*x).max(*y);
    }
}

fn set(a: &mut Clocks, at: u32, v: u32) {
    if a.len() <= at as usize {
        a.resize(at as usize + 1, 0);
    }
    a[at as usize] = a[at as usize].max(v);
}

impl Race {
    pub fn new(ctas: usize, warps: usize, bytes: u64, blank: bool) -> Race {
        let n = ctas * warps * LANES;
        let none = Rc::new(Clocks::new());
        Race {
            threads: n as u32,
            know: vec![none; n],
            clock: vec![1; n],
            begun: std::array::from_fn(|_| vec![1; n]),
            ended: std::array::from_fn(|_| vec![0; n]),
            cells: vec![vec![EMPTY; bytes.div_ceil(4) as usize]; ctas],
            lists: Vec::new(),
            splits: Vec::new(),
            bars: HashMap::new(),
            mbars: HashMap::new(),
            places: HashMap::new(),
            fences: vec![None; n],
            heard: vec![Clocks::new(); n],
            blank,
        }
    }

    /// The agent that does a thread's asynchronous work now.
    pub fn agent(&self, kind: usize, thread: u32) -> (u32, u32) {
        (self.threads * (1 + kind as u32) + thread, self.begun[kind][thread as usize])
    }

    /// A thread commits a group of asynchronous work.
    pub fn commit(&mut self, kind: usize, thread: u32) {
        self.begun[kind][thread as usize] += 1;
    }

    /// A thread has waited for all groups but the last ones.
    pub fn wait(&mut self, kind: usize, thread: u32, left: u32) {
        let t = thread as usize;
        self.ended[kind][t] = self.ended[kind][t].max(self.begun[kind][t].saturating_sub(1 + left));
    }

    fn knows(&self, t: u32, e: Epoch) -> bool {
        if e.who == t || e.who == NOBODY {
            return true;
        }
        if e.who >= self.threads {
            let (kind, of) = ((e.who / self.threads - 1) as usize, e.who % self.threads);
            if kind < KINDS && of == t && self.ended[kind][t as usize] >= e.clock {
                return true;
            }
        }
        self.know[t as usize].get(e.who as usize).is_some_and(|c| *c >= e.clock)
    }

    /// Checks and notes an access of lanes whose addresses are inside a group's memory.
    pub fn access(
        &mut self,
        cta: impl Fn(usize) -> usize,
        first: u32,
        m: u32,
        addr: &[u64; LANES],
        bytes: u64,
        x: Touch,
    ) -> Result<(), Conflict> {
        for l in (0..LANES).filter(|l| m >> l & 1 != 0) {
            let t = first + l as u32;
            let mut at = addr[l];
            let end = at + bytes;
            while at < end {
                let (word, cut) = (at / 4 * 4, at % 4 != 0 || end - at < 4);
                let Some(cell) = self.cells.get(cta(l)).and_then(|c| c.get((word / 4) as usize)).copied() else { return Ok(()) };
                let stop = end.min(word + 4);
                if !cut && x.agent.is_none() && self.quick(cta(l), (word / 4) as usize, t, x) {
                    at = stop;
                    continue;
                }
                if cut || cell.split != 0 {
                    let s = if cell.split == 0 {
                        self.splits.push([Cell { list: 0, ..cell }; 4]);
                        // Readers of the word are readers of each byte.
                        if cell.list != 0 {
                            let readers = self.lists[cell.list as usize - 1].clone();
                            let last = self.splits.len() - 1;
                            for b in 0..4 {
                                self.lists.push(readers.clone());
                                self.splits[last][b].list = self.lists.len() as u32;
                            }
                        }
                        self.splits.len() as u32
                    } else {
                        cell.split
                    };
                    self.cells[cta(l)][(word / 4) as usize].split = s;
                    for b in at..stop {
                        let mut c = self.splits[s as usize - 1][(b % 4) as usize];
                        self.one(&mut c, t, l, b, x)?;
                        self.splits[s as usize - 1][(b % 4) as usize] = c;
                    }
                } else {
                    let mut c = cell;
                    self.one(&mut c, t, l, at, x)?;
                    self.cells[cta(l)][(word / 4) as usize] = c;
                }
                at = stop;
            }
        }
        Ok(())
    }

    /// Notes an access of a thread to a whole word where that is plain: what was there is ordered before it, or other lanes of the warp have
    /// read it too. False where more has to be looked at.
    #[inline]
    fn quick(&mut self, cta: usize, word: usize, t: u32, x: Touch) -> bool {
        let Some(c) = self.cells.get_mut(cta).and_then(|c| c.get_mut(word)) else { return false };
        let know = &self.know[t as usize];
        let ordered = |e: Epoch| e.who == t || e.who == NOBODY || know.get(e.who as usize).is_some_and(|k| *k >= e.clock);
        if c.split != 0 || !ordered(c.write) || (self.blank && c.write.who == NOBODY) {
            return false;
        }
        let clock = self.clock[t as usize];
        let e = Epoch { who: t, clock, site: x.site | if x.strong { STRONG } else { 0 } };
        let list = (c.list as usize).checked_sub(1).and_then(|i| self.lists.get_mut(i)).filter(|l| !l.is_empty());
        match list {
            None if !ordered(c.read) => return false,
            None if x.store => (c.write, c.read) = (e, NEVER),
            None => c.read = e,
            Some(_) if x.store => return false,
            Some(list) => {
                let base = t / LANES as u32 * LANES as u32;
                match list.iter_mut().find(|r| r.first == base && r.clock == clock && r.site & STRONG == e.site & STRONG) {
                    Some(r) => r.lanes |= 1 << (t - base),
                    None => return false,
                }
            }
        }
        true
    }

    fn conflict(&self, lane: usize, address: u64, e: Epoch, wrote: bool) -> Conflict {
        let other = match e.who {
            w if w < self.threads => Some(w),
            w if w < self.threads * (1 + KINDS as u32) => Some(w % self.threads),
            _ => None,
        };
        Conflict { lane, address, other, site: e.site & !STRONG, early: e.who >= self.threads, blank: false, wrote }
    }

    fn one(&mut self, c: &mut Cell, t: u32, lane: usize, address: u64, x: Touch) -> Result<(), Conflict> {
        let (who, clock) = x.agent.unwrap_or((t, self.clock[t as usize]));
        let e = Epoch { who, clock, site: x.site | if x.strong { STRONG } else { 0 } };
        let both = |o: Epoch| x.strong && o.site & STRONG != 0;
        if x.load && self.blank && c.write.who == NOBODY {
            return Err(Conflict { blank: true, ..self.conflict(lane, address, NEVER, true) });
        }
        // Lanes of one instruction that store to one word.
        let same = |o: Epoch| o.who / LANES as u32 == t / LANES as u32 && o.site == e.site && !x.load;
        if !self.knows(t, c.write) && !both(c.write) && !(same(c.write) && self.clock.get(c.write.who as usize) == Some(&c.write.clock)) {
            return Err(self.conflict(lane, address, c.write, true));
        }
        if x.store {
            if !self.knows(t, c.read) && !both(c.read) {
                return Err(self.conflict(lane, address, c.read, false));
            }
            if c.list != 0 {
                let list = std::mem::take(&mut self.lists[c.list as usize - 1]);
                for r in &list {
                    for k in (0..LANES as u32).filter(|k| r.lanes >> k & 1 != 0) {
                        let o = Epoch { who: r.first + k, clock: r.clock, site: r.site };
                        if !self.knows(t, o) && !both(o) {
                            return Err(self.conflict(lane, address, o, false));
                        }
                    }
                }
                let mut list = list;
                list.clear();
                self.lists[c.list as usize - 1] = list;
            }
            (c.write, c.read) = (e, NEVER);
            return Ok(());
        }
        // A read replaces the ones that are ordered before it.
        let mut others = 0;
        if c.list != 0 {
            let mut list = std::mem::take(&mut self.lists[c.list as usize - 1]);
            let base = who / LANES as u32 * LANES as u32;
            if let Some(r) = list.iter_mut().find(|r| r.first == base && r.clock == clock && r.site & STRONG == e.site & STRONG) {
                r.lanes |= 1 << (who - base);
                self.lists[c.list as usize - 1] = list;
                return Ok(());
            }
            list.retain(|r| {
                (0..LANES as u32).any(|k| r.lanes >> k & 1 != 0 && !self.knows(t, Epoch { who: r.first + k, clock: r.clock, site: 0 }))
            });
            others = list.len();
            self.lists[c.list as usize - 1] = list;
        }
        if others == 0 && self.knows(t, c.read) {
            c.read = e;
            return Ok(());
        }
        if c.list == 0 {
            self.lists.push(Vec::new());
            c.list = self.lists.len() as u32;
        }
        let list = &mut self.lists[c.list as usize - 1];
        for o in [c.read, e] {
            if o.who != NOBODY {
                let base = o.who / LANES as u32 * LANES as u32;
                list.push(Readers { first: base, lanes: 1 << (o.who - base), clock: o.clock, site: o.site });
            }
        }
        c.read = NEVER;
        Ok(())
    }

    /// What threads have done so far goes into `into`; their clocks go on.
    fn release(&mut self, threads: impl Iterator<Item = u32>, into: &mut Clocks) {
        let mut seen: Vec<*const Clocks> = Vec::new();
        for t in threads {
            let k = &self.know[t as usize];
            if !seen.contains(&Rc::as_ptr(k)) {
                seen.push(Rc::as_ptr(k));
                join(into, k);
            }
            set(into, t, self.clock[t as usize]);
            for kind in 0..KINDS {
                let n = self.ended[kind][t as usize];
                if n > 0 {
                    set(into, self.threads * (1 + kind as u32) + t, n);
                }
            }
            self.clock[t as usize] += 1;
        }
    }

    fn acquire(&mut self, threads: impl Iterator<Item = u32>, from: &Rc<Clocks>) {
        // What threads knew, which they may share, and what they know then.
        let mut made: Vec<(Rc<Clocks>, Rc<Clocks>)> = Vec::new();
        for t in threads {
            let k = &self.know[t as usize];
            let new = match made.iter().find(|m| Rc::ptr_eq(&m.0, k)) {
                Some(m) => m.1.clone(),
                None => {
                    let covered = k.len() <= from.len() && k.iter().zip(from.iter()).all(|(a, b)| a <= b);
                    let new = if covered {
                        from.clone()
                    } else {
                        let mut v = (**k).clone();
                        join(&mut v, from);
                        Rc::new(v)
                    };
                    made.push((k.clone(), new.clone()));
                    new
                }
            };
            self.know[t as usize] = new;
        }
    }

    pub fn arrive_bar(&mut self, cta: usize, bar: u8, threads: impl Iterator<Item = u32>) {
        let mut v = self.bars.remove(&(cta, bar)).unwrap_or_default();
        self.release(threads, &mut v);
        self.bars.insert((cta, bar), v);
    }

    pub fn pass_bar(&mut self, cta: usize, bar: u8, threads: impl Iterator<Item = u32>) {
        let v = Rc::new(self.bars.remove(&(cta, bar)).unwrap_or_default());
        self.acquire(threads, &v);
    }

    /// Threads wait for each other.
    pub fn meet(&mut self, threads: impl Iterator<Item = u32> + Clone) {
        let mut v = Clocks::new();
        self.release(threads.clone(), &mut v);
        self.acquire(threads, &Rc::new(v));
    }

    fn mbar_of(&mut self, at: usize) -> &mut Mbarrier {
        let slot = self.threads * (1 + KINDS as u32) + self.mbars.len() as u32;
        self.mbars.entry(at).or_insert_with(|| Mbarrier { slot, ..Mbarrier::default() })
    }

    /// The agent of copies that end a phase of an mbarrier.
    pub fn mbar_agent(&mut self, at: usize) -> (u32, u32) {
        let m = self.mbar_of(at);
        (m.slot, m.phase + 1)
    }

    pub fn arrive_mbar(&mut self, at: usize, thread: u32) {
        let mut v = std::mem::take(&mut self.mbar_of(at).come);
        self.release(std::iter::once(thread), &mut v);
        self.mbar_of(at).come = v;
    }

    /// The copies of a thread tell an mbarrier.
    pub fn copies_to_mbar(&mut self, at: usize, thread: u32) {
        let (who, clock) = self.agent(COPY, thread);
        let mut v = std::mem::take(&mut self.mbar_of(at).come);
        set(&mut v, who, clock);
        self.mbar_of(at).come = v;
        self.begun[COPY][thread as usize] += 1;
    }

    pub fn end_phase(&mut self, at: usize) {
        let m = self.mbar_of(at);
        m.phase += 1;
        let mut v = std::mem::take(&mut m.come);
        join(&mut v, &m.done);
        set(&mut v, m.slot, m.phase);
        m.done = Rc::new(v);
    }

    pub fn pass_mbar(&mut self, at: usize, thread: u32) {
        let done = self.mbar_of(at).done.clone();
        self.acquire(std::iter::once(thread), &done);
    }

    /// A strong access carries what was released at its place.
    pub fn strong(&mut self, address: u64, t: u32, loads: bool, stores: bool, order: Order) {
        if loads && let Some(v) = self.places.get(&address) {
            if matches!(order, Order::Acquire | Order::AcqRel) {
                let v = Rc::new(v.clone());
                self.acquire(std::iter::once(t), &v);
            } else {
                let v = v.clone();
                join(&mut self.heard[t as usize], &v);
            }
        }
        if stores {
            let mut v = self.places.remove(&address).unwrap_or_default();
            if matches!(order, Order::Release | Order::AcqRel) {
                self.release(std::iter::once(t), &mut v);
            } else if let Some(f) = &self.fences[t as usize] {
                join(&mut v, f);
            }
            self.places.insert(address, v);
        }
    }

    pub fn fence(&mut self, threads: impl Iterator<Item = u32>) {
        for t in threads {
            let heard = std::mem::take(&mut self.heard[t as usize]);
            if !heard.is_empty() {
                self.acquire(std::iter::once(t), &Rc::new(heard));
            }
            let mut v = Clocks::new();
            self.release(std::iter::once(t), &mut v);
            self.fences[t as usize] = Some(Rc::new(v));
        }
    }
}
