// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the race check is told.

use super::matrix::place;
use super::memory::Access;
use super::{At, Exec, R};
use crate::ptx::cluster::{source, unfold};
use crate::ptx::fault::{FaultKind, Place};
use crate::ptx::instr::{LANES, Order};
use crate::ptx::memory::Alloc;
use crate::ptx::race::{COPY, Conflict, PRODUCT, Touch};
use crate::ptx::ty::{RANK_SHIFT, SHARED_WINDOW, Space, window};
use crate::ptx::warp::State;

/// Numbers of some lanes' threads in a cluster.
fn lanes(first: u32, m: u32) -> impl Iterator<Item = u32> + Clone {
    (0..LANES as u32).filter(move |l| m >> l & 1 != 0).map(move |l| first + l)
}

impl Exec<'_, '_> {
    /// Number of the warp's first thread in its cluster; warps count as full.
    pub(super) fn first(&self) -> u32 {
        self.base(self.cta, self.w.id)
    }

    fn base(&self, cta: usize, warp: u32) -> u32 {
        let warps = self.run.block.iter().product::<u32>().div_ceil(LANES as u32);
        (cta as u32 * warps + warp) * LANES as u32
    }

    pub(super) fn threads(&self, m: u32) -> impl Iterator<Item = u32> + Clone + use<> {
        lanes(self.first(), m)
    }

    /// Threads of this group that are in a state.
    pub(super) fn waiting(&self, state: State) -> Vec<u32> {
        let mut out = Vec::new();
        if self.cl.race.is_some() {
            for w in self.cl.ctas[self.cta].warps.iter().flatten().map(|w| &**w).chain(std::iter::once(&*self.w)) {
                let m = w.groups.iter().filter(|g| g.state == state).fold(0, |m, g| m | g.mask);
                out.extend(lanes(self.base(self.cta, w.id), m));
            }
        }
        out
    }

    /// Threads of the cluster that have not ended.
    pub(super) fn everyone(&self) -> Vec<u32> {
        let mut out: Vec<u32> = self.threads(self.w.alive).collect();
        for (c, cta) in self.cl.ctas.iter().enumerate() {
            for w in cta.warps.iter().flatten() {
                out.extend(lanes(self.base(c, w.id), w.alive));
            }
        }
        out
    }

    pub(super) fn commit(&mut self, kind: usize, m: u32) {
        let threads = self.threads(m);
        if let Some(r) = &mut self.cl.race {
            threads.for_each(|t| r.commit(kind, t));
        }
    }

    pub(super) fn waited(&mut self, kind: usize, m: u32, left: u32) {
        let (threads, all) = (self.threads(m), self.threads(self.w.alive));
        if let Some(r) = &mut self.cl.race {
            threads.for_each(|t| r.wait(kind, t, left));
            if kind == PRODUCT {
                // All lanes have waited for what the first one stands for.
                r.meet(all);
            }
        }
    }

    /// As [`Self::site`], where the group of lanes may be gone.
    fn site_of(&self, at: At<'_>) -> u32 {
        let f = self.run.module.codes.iter().position(|c| std::ptr::eq(c, at.code)).unwrap_or(0);
        let pc = at.code.instrs.iter().position(|i| std::ptr::eq(i, at.i)).unwrap_or(0);
        self.run.sites.get(f).copied().unwrap_or(0) + pc as u32
    }

    fn site(&mut self, at: At<'_>) -> u32 {
        let pc = self.w.groups.get(at.g).map_or(0, |g| g.pc);
        let func = self.w.frame(at.frame).func;
        self.run.sites.get(func as usize).copied().unwrap_or(0) + pc
    }

    /// Checks an access of lanes to shared memory; addresses have the rank of their group above.
    pub(super) fn check(&mut self, at: At<'_>, addr: &[u64; LANES], m: u32, bytes: u64, access: Access) -> R<()> {
        let atomic = access == Access::Atomic;
        if access == Access::Sync {
            return Ok(());
        }
        if atomic || at.order != Order::Weak {
            let keys = addr.map(|a| SHARED_WINDOW | if a >> RANK_SHIFT == 0 { a | (self.cta as u64 + 1) << RANK_SHIFT } else { a });
            self.carry(at, &keys, m, access);
        }
        let (site, first, own) = (self.site(at), self.first(), self.cta);
        let Some(race) = &mut self.cl.race else { return Ok(()) };
        let inner = addr.map(|a| a & ((1 << RANK_SHIFT) - 1));
        let cta = |l: usize| (addr[l] >> RANK_SHIFT).checked_sub(1).map_or(own, |r| r as usize);
        let load = matches!(access, Access::Load | Access::Atomic | Access::Use);
        let store = !matches!(access, Access::Load | Access::Use);
        let x = Touch { load, store, strong: access == Access::Use || atomic || at.order != Order::Weak, agent: None, site };
        let result = if access == Access::Copy {
            (0..LANES).filter(|l| m >> l & 1 != 0).try_for_each(|l| {
                let agent = Some(race.agent(COPY, first + l as u32));
                race.access(cta, first, 1 << l, &inner, bytes, Touch { agent, ..x })
            })
        } else {
            race.access(cta, first, m, &inner, bytes, x)
        };
        result.or_else(|c| self.conflict(at, c, x))
    }

    /// Checks and notes bytes of an allocation, its offset and their number, which no other group of the launch may touch if one of them writes.
    pub(super) fn alone(&mut self, at: At<'_>, a: &Alloc, (offset, bytes): (u64, u64), lanes: u32, store: bool) -> R<()> {
        let own = self.cl.number as u32 + 1;
        let Err(c) = a.owners.access(offset, bytes, own, store) else { return Ok(()) };
        let name = |store| if store { "store" } else { "load" };
        let other = match c.group {
            Some(g) => {
                let per = [0, 1, 2].map(|i| self.run.grid[i] / self.run.cluster[i]);
                let id = unfold(g.into(), per);
                format!("a {} of group {:?}", name(c.wrote), [0, 1, 2].map(|i| id[i] * self.run.cluster[i]))
            }
            None => "loads of other groups".to_owned(),
        };
        let what = format!("a race on device memory ({}): nothing orders this {} and {other}", a.name, name(store));
        self.fault(at, FaultKind::Race, lanes, Some(a.base + c.offset), what)
    }

    /// The last thread of a group in a cluster ends, and its shared memory with it: all accesses by other groups must be over.
    pub(super) fn vanish(&mut self, at: At<'_>) -> R<()> {
        let (site, first, own, size) = (self.site_of(at), self.first(), self.cta, self.run.shared);
        let Some(race) = &mut self.cl.race else { return Ok(()) };
        let x = Touch { load: false, store: true, strong: false, agent: None, site };
        let l = at.m.trailing_zeros() as usize & 31;
        let addr = [0; LANES];
        race.access(|_| own, first, 1 << l, &addr, size, x).or_else(|c| self.conflict(at, c, x))
    }

    /// A strong access carries knowledge from thread to thread.
    pub(super) fn carry(&mut self, at: At<'_>, keys: &[u64; LANES], m: u32, access: Access) {
        let first = self.first();
        let Some(race) = &mut self.cl.race else { return };
        for l in (0..LANES).filter(|l| m >> l & 1 != 0) {
            race.strong(keys[l], first + l as u32, access != Access::Store, access != Access::Load, at.order);
        }
    }

    /// Checks and notes bytes of shared memory that a bulk copy reads or writes.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn note(
        &mut self,
        at: At<'_>,
        l: usize,
        space: Space,
        address: u64,
        bytes: u64,
        store: bool,
        mbar: Option<*mut u8>,
    ) -> R<()> {
        let (space, a) = if space == Space::Generic { window(address) } else { (space, address) };
        if !matches!(space, Space::Shared | Space::Cluster) {
            return Ok(());
        }
        let (site, first, own) = (self.site(at), self.first(), self.cta);
        let Some(race) = &mut self.cl.race else { return Ok(()) };
        let agent = match mbar {
            Some(p) => race.mbar_agent(p as usize),
            None => race.agent(crate::ptx::race::BULK, first + l as u32),
        };
        let mut addr = [0; LANES];
        addr[l] = a & ((1 << RANK_SHIFT) - 1);
        let cta = |_: usize| (a >> RANK_SHIFT).checked_sub(1).map_or(own, |r| r as usize);
        let x = Touch { load: !store, store, strong: false, agent: Some(agent), site };
        race.access(cta, first, 1 << l, &addr, bytes, x).or_else(|c| self.conflict(at, c, x))
    }

    /// Checks and notes what a `wgmma` reads of a matrix.
    pub(super) fn operand(&mut self, at: At<'_>, desc: u64, bytes: usize, mn: std::ops::Range<usize>, k: usize, trans: bool) -> R<()> {
        let (site, first, own, size) = (self.site(at), self.first(), self.cta, self.run.shared);
        let Some(race) = &mut self.cl.race else { return Ok(()) };
        let agent = Some(race.agent(PRODUCT, first));
        let x = Touch { load: true, store: false, strong: false, agent, site };
        let t = 16 / bytes;
        let mut addr = [0; LANES];
        let result = mn.step_by(if trans { t } else { 1 }).try_for_each(|i| {
            (0..k).step_by(if trans { 1 } else { t }).try_for_each(|j| {
                addr[0] = place(desc, bytes, i, j, trans) as u64;
                // What lies beyond is a fault of its own.
                if addr[0] + 16 > size { Ok(()) } else { race.access(|_| own, first, 1, &addr, 16, x) }
            })
        });
        result.or_else(|c| self.conflict(at, c, x))
    }

    fn conflict(&mut self, at: At<'_>, c: Conflict, x: Touch) -> R<()> {
        let run = self.run;
        let warps = run.block.iter().product::<u32>().div_ceil(LANES as u32);
        let other = c.other.or(c.early.then_some(self.first())).map(|t| {
            let f = run.sites.partition_point(|s| *s <= c.site).saturating_sub(1);
            let code = &run.module.codes[f];
            let (line, loc) = code.instrs.get((c.site - run.sites[f]) as usize).map_or((0, 0), |i| (i.line, i.loc));
            let group = self.cl.ctas.get((t / 32 / warps) as usize).map_or([0; 3], |c| c.id);
            Place { function: code.name.clone(), line, source: source(run, f as u32, loc), group, thread: t % (32 * warps) }
        });
        let name = |store| if store { "store" } else { "load" };
        let (kind, what) = if c.blank {
            (FaultKind::Uninitialized, "a load from shared memory that nobody has written".to_owned())
        } else if c.early {
            (
                FaultKind::Premature,
                format!(
                    "a {} of shared memory that an asynchronous operation {}, and it was not waited for",
                    name(x.store),
                    if c.wrote { "writes" } else { "reads" }
                ),
            )
        } else {
            (
                FaultKind::Race,
                format!("a race on shared memory: nothing orders this {} and another thread's {}", name(x.store), name(c.wrote)),
            )
        };
        let mut result = self.fault(at, kind, 1 << c.lane, Some(c.address), what);
        if let Err(f) = &mut result
            && !c.blank
        {
            f.other = other;
        }
        result
    }
}
