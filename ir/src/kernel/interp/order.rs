// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Happens-before by vector clocks, and the shadow of memory that finds two accesses without an order.
//!
//! Agents are lanes (of each role, on tile_core) and engines: one per lane and queue, one per lane for bulk copies, one
//! per lane for asynchronous products. An access is known to an agent if the agent's clock covers it.

use std::collections::HashMap;
use std::rc::Rc;

/// What an engine does.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Engine {
    Queue(u32),
    Bulk,
    Matrix,
}

/// A set of known events: for each agent the latest clock.
pub(super) type Known = Rc<Vec<u32>>;

fn join(into: &mut Vec<u32>, other: &[u32]) {
    if into.len() < other.len() {
        into.resize(other.len(), 0);
    }
    for (a, b) in into.iter_mut().zip(other) {
        *a = (*a).max(*b);
    }
}

/// Who accesses, and what it knows.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub group: u32,
    pub agent: u32,
    pub clock: u32,
    pub known: Known,
    /// An agent all of whose events up to a clock are known beside `known`: the lane itself, or who issued an operation.
    pub issuer: (u32, u32),
    pub atomic: bool,
    /// Whether its writes reach matrix units only behind a `fence proxy` of the issuer.
    pub plain: bool,
}

impl Who {
    fn knows(&self, agent: u32, clock: u32) -> bool {
        (agent == self.issuer.0 && clock <= self.issuer.1) || self.known.get(agent as usize).is_some_and(|c| *c >= clock)
    }
}

/// Clocks of the agents of a group.
pub(super) struct Clocks {
    known: Vec<Known>,
    own: Vec<u32>,
    engines: HashMap<(Engine, u32), u32>,
    empty: Known,
}

impl Clocks {
    pub(super) fn new(agents: usize) -> Self {
        let empty: Known = Rc::new(Vec::new());
        Clocks { known: vec![empty.clone(); agents], own: vec![1; agents], engines: HashMap::new(), empty }
    }
    /// Identity of a lane for its next access.
    pub(super) fn lane(&self, group: u32, agent: u32) -> Who {
        let a = agent as usize;
        Who { group, agent, clock: self.own[a], known: self.known[a].clone(), issuer: (agent, u32::MAX), atomic: false, plain: true }
    }
    /// Identity of an operation that an agent issues to an engine; later events of the agent are not known to it.
    pub(super) fn issue(&mut self, group: u32, agent: u32, engine: Engine) -> Who {
        let next = self.known.len() as u32;
        let e = *self.engines.entry((engine, agent)).or_insert(next);
        if e == next {
            self.known.push(self.empty.clone());
            self.own.push(0);
        }
        self.own[e as usize] += 1;
        let a = agent as usize;
        let at = self.own[a];
        self.own[a] += 1;
        Who {
            group,
            agent: e,
            clock: self.own[e as usize],
            known: self.known[a].clone(),
            issuer: (agent, at),
            atomic: false,
            plain: matches!(engine, Engine::Queue(_)),
        }
    }
    /// Everything an agent has done and knows; what it does next is not in it.
    pub(super) fn release(&mut self, agent: u32) -> Vec<u32> {
        let a = agent as usize;
        let mut v = (*self.known[a]).clone();
        if v.len() <= a {
            v.resize(a + 1, 0);
        }
        v[a] = self.own[a];
        self.own[a] += 1;
        v
    }
    pub(super) fn acquire(&mut self, agent: u32, what: &[u32]) {
        let k = &mut self.known[agent as usize];
        if what.iter().enumerate().all(|(i, c)| *c == 0 || k.get(i).is_some_and(|x| x >= c)) {
            return;
        }
        join(Rc::make_mut(k), what);
    }
    /// What the end of an operation brings.
    pub(super) fn landed(w: &Who) -> Vec<u32> {
        let mut v = (*w.known).clone();
        let n = (w.agent.max(w.issuer.0) + 1) as usize;
        if v.len() < n {
            v.resize(n, 0);
        }
        v[w.agent as usize] = v[w.agent as usize].max(w.clock);
        if w.issuer.1 != u32::MAX {
            let i = w.issuer.0 as usize;
            v[i] = v[i].max(w.issuer.1);
        }
        v
    }
    /// All arrive before any goes on.
    pub(super) fn barrier(&mut self, agents: impl Iterator<Item = u32> + Clone) {
        let mut all = Vec::new();
        let mut last: Option<Known> = None;
        for a in agents.clone() {
            let k = &self.known[a as usize];
            if !last.as_ref().is_some_and(|l| Rc::ptr_eq(l, k)) {
                join(&mut all, k);
                last = Some(k.clone());
            }
        }
        for a in agents.clone() {
            let a = a as usize;
            if all.len() <= a {
                all.resize(a + 1, 0);
            }
            all[a] = all[a].max(self.own[a]);
            self.own[a] += 1;
        }
        let all = Rc::new(all);
        for a in agents {
            self.known[a as usize] = all.clone();
        }
    }
    /// A new agent begins with what another one has done.
    pub(super) fn fork(&mut self, from: u32, to: u32) {
        let v = self.release(from);
        self.acquire(to, &v);
    }
}

const ATOMIC: u32 = 1 << 31;
const MANY: u32 = u32::MAX;

/// Last write and last reads of one unit of memory.
#[derive(Clone, Copy, Default)]
struct Cell {
    write_group: u32,
    write_agent: u32,
    write_clock: u32,
    read_group: u32,
    read_agent: u32,
    read_clock: u32,
}

/// The other access of a race.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Write { group: u32, agent: u32 },
    Read { group: u32, agent: u32 },
    Reads,
}

/// Shadow of a buffer whose accesses may race.
#[derive(Default)]
pub(super) struct Shadow {
    cells: Vec<Cell>,
    /// Readers of units that several unordered agents read.
    sets: Vec<Vec<(u32, u32)>>,
}

impl Shadow {
    pub(super) fn new(units: usize) -> Self {
        Shadow { cells: vec![Cell::default(); units], sets: Vec::new() }
    }
    pub(super) fn clear(&mut self) {
        self.cells.fill(Cell::default());
        self.sets.clear();
    }

    fn after_write(c: &Cell, w: &Who) -> bool {
        c.write_group == 0
            || (c.write_agent & ATOMIC != 0 && w.atomic)
            || (c.write_group == w.group && w.knows(c.write_agent & !ATOMIC, c.write_clock))
    }
    pub(super) fn read(&mut self, unit: usize, w: &Who) -> Result<(), Other> {
        let Some(c) = self.cells.get_mut(unit) else { return Ok(()) };
        if !Self::after_write(c, w) {
            return Err(Other::Write { group: c.write_group, agent: c.write_agent & !ATOMIC });
        }
        if c.read_group == 0
            || (c.read_group == w.group && c.read_agent != MANY && (c.read_agent == w.agent || w.knows(c.read_agent, c.read_clock)))
        {
            (c.read_group, c.read_agent, c.read_clock) = (w.group, w.agent, w.clock);
        } else if c.read_group != w.group {
            c.read_group = MANY;
        } else if c.read_agent != MANY {
            let set = vec![(c.read_agent, c.read_clock), (w.agent, w.clock)];
            c.read_agent = MANY;
            c.read_clock = self.sets.len() as u32;
            self.sets.push(set);
        } else if let Some(set) = self.sets.get_mut(c.read_clock as usize) {
            match set.iter_mut().find(|r| r.0 == w.agent) {
                Some(r) => r.1 = w.clock,
                None => {
                    set.retain(|r| !w.knows(r.0, r.1));
                    set.push((w.agent, w.clock));
                }
            }
        }
        Ok(())
    }
    pub(super) fn write(&mut self, unit: usize, w: &Who) -> Result<(), Other> {
        let Some(c) = self.cells.get_mut(unit) else { return Ok(()) };
        if !Self::after_write(c, w) {
            return Err(Other::Write { group: c.write_group, agent: c.write_agent & !ATOMIC });
        }
        if c.read_group == MANY || (c.read_group != 0 && c.read_group != w.group) {
            return Err(Other::Reads);
        }
        if c.read_group != 0 {
            if c.read_agent == MANY {
                let set = self.sets.get(c.read_clock as usize).map_or(&[][..], |s| s);
                if let Some(r) = set.iter().find(|r| !w.knows(r.0, r.1)) {
                    return Err(Other::Read { group: w.group, agent: r.0 });
                }
            } else if !w.knows(c.read_agent, c.read_clock) {
                return Err(Other::Read { group: w.group, agent: c.read_agent });
            }
        }
        let agent = w.agent | if w.atomic { ATOMIC } else { 0 };
        *c = Cell { write_group: w.group, write_agent: agent, write_clock: w.clock, ..Cell::default() };
        Ok(())
    }
}

/// Shadow for groups of one agent: only two groups can race.
#[derive(Default)]
pub(super) struct GroupShadow {
    cells: Vec<(u32, u32)>,
}

impl GroupShadow {
    pub(super) fn new(units: usize) -> Self {
        GroupShadow { cells: vec![(0, 0); units] }
    }
    pub(super) fn clear(&mut self) {
        self.cells.fill((0, 0));
    }
    pub(super) fn read(&mut self, units: std::ops::Range<usize>, g: u32) -> Result<(), (usize, u32)> {
        let start = units.start;
        let Some(cells) = self.cells.get_mut(units) else { return Ok(()) };
        for (i, c) in cells.iter_mut().enumerate() {
            if c.0 != 0 && c.0 != g {
                return Err((start + i, c.0 & !ATOMIC));
            }
            c.1 = if c.1 == 0 || c.1 == g { g } else { MANY };
        }
        Ok(())
    }
    pub(super) fn write(&mut self, units: std::ops::Range<usize>, g: u32, atomic: bool) -> Result<(), (usize, u32)> {
        let start = units.start;
        let Some(cells) = self.cells.get_mut(units) else { return Ok(()) };
        for (i, c) in cells.iter_mut().enumerate() {
            let both = atomic && c.0 & ATOMIC != 0;
            if (c.0 != 0 && c.0 != g && !both && c.0 != g | ATOMIC) || (c.1 != 0 && c.1 != g) {
                return Err((start + i, if c.0 != 0 && c.0 != g { c.0 & !ATOMIC } else { 0 }));
            }
            c.0 = if atomic { g | ATOMIC } else { g };
        }
        Ok(())
    }
}
