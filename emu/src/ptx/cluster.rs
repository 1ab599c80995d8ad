// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cluster of groups: their shared memory, warps and barriers, and whose turn it is.

use std::collections::VecDeque;

use super::asynch::Job;
use super::count::Counts;
use super::exec::Exec;
use super::fault::{Fault, FaultKind, Place};
use super::instr::{BarKind, LANES};
use super::machine::Run;
use super::race::Race;
use super::warp::{State, Warp};

/// Instructions that a warp runs before the next one of its group.
const SLICE: u64 = 1 << 12;

/// A named barrier of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bar {
    /// Threads that have come.
    pub come: u32,
    /// Threads that are waited for; 0 for all that have not ended.
    pub want: u32,
    pub waits: bool,
    /// Of a reduction: threads with a true predicate.
    pub yes: u32,
    pub kind: Option<BarKind>,
}

/// A group of threads.
#[derive(Debug)]
pub(crate) struct Cta {
    pub id: [u32; 3],
    pub rank: u32,
    /// Words, so that the bytes are aligned.
    pub shared: Vec<u128>,
    pub warps: Vec<Option<Box<Warp>>>,
    pub bars: [Bar; 16],
    pub alive: u32,
}

/// A cluster.
pub(crate) struct Cluster {
    pub id: [u32; 3],
    pub number: u64,
    pub ctas: Vec<Cta>,
    pub counts: Counts,
    /// Threads that have come to the barrier of the cluster.
    pub come: u32,
    pub phase: u32,
    pub clock: u64,
    /// Bulk copies that tell mbarriers.
    pub jobs: VecDeque<Job>,
    /// Tests of mbarriers since the last phase that ended.
    pub polls: u64,
    pub race: Option<Box<Race>>,
}

/// Place number `n` in a box.
pub(crate) fn unfold(n: u64, size: [u32; 3]) -> [u32; 3] {
    let (x, y) = (u64::from(size[0]).max(1), u64::from(size[1]).max(1));
    [(n % x) as u32, (n / x % y) as u32, (n / x / y) as u32]
}

impl Cluster {
    pub fn new(run: &Run<'_>, number: u64) -> Cluster {
        let per = [0, 1, 2].map(|i| run.grid[i] / run.cluster[i]);
        let id = unfold(number, per);
        let size = run.cluster.iter().product::<u32>();
        let threads = run.block.iter().product::<u32>();
        let code = &run.module.codes[run.kernel.func as usize];
        let ctas = (0..size)
            .map(|rank| {
                let inside = unfold(rank.into(), run.cluster);
                let warps = (0..threads.div_ceil(LANES as u32))
                    .map(|w| {
                        let n = (threads - w * 32).min(32);
                        let lanes = if n == 32 { u32::MAX } else { (1 << n) - 1 };
                        Some(Box::new(Warp::new(w, lanes, run.kernel.func, code)))
                    })
                    .collect();
                Cta {
                    id: [0, 1, 2].map(|i| id[i] * run.cluster[i] + inside[i]),
                    rank,
                    shared: vec![0; run.shared.div_ceil(16) as usize + 1],
                    warps,
                    bars: [Bar::default(); 16],
                    alive: threads,
                }
            })
            .collect();
        let warps = threads.div_ceil(LANES as u32) as usize;
        let race =
            (run.options.races && run.shared > 0).then(|| Box::new(Race::new(size as usize, warps, run.shared, run.options.uninitialized)));
        let mut counts = Counts::new();
        counts.groups = size.into();
        Cluster { id, number, ctas, counts, come: 0, phase: 0, clock: 0, jobs: VecDeque::new(), polls: 0, race }
    }

    /// Runs until all threads have ended (true) or so many instructions have run.
    pub fn run(&mut self, run: &Run<'_>, turn: u64) -> Result<bool, Box<Fault>> {
        let mut left = turn;
        loop {
            let (mut busy, mut ran) = (false, false);
            for c in 0..self.ctas.len() {
                for w in 0..self.ctas[c].warps.len() {
                    let Some(mut warp) = self.ctas[c].warps[w].take() else { continue };
                    let before = self.counts.instructions;
                    let result = Exec { run, cl: self, cta: c, w: &mut warp }.slice(SLICE);
                    let spent = self.counts.instructions - before;
                    if warp.alive != 0 {
                        busy = true;
                        self.ctas[c].warps[w] = Some(warp);
                    }
                    result?;
                    ran |= spent > 0;
                    left = left.saturating_sub(spent.max(1));
                }
            }
            if !busy {
                return Ok(true);
            }
            if !ran {
                return Err(self.stuck(run));
            }
            if left == 0 {
                return Ok(false);
            }
        }
    }

    /// Nothing can run: says who waits for what.
    fn stuck(&self, run: &Run<'_>) -> Box<Fault> {
        let mut list = Vec::new();
        for c in &self.ctas {
            for w in c.warps.iter().flatten() {
                for g in &w.groups {
                    list.push((c, w, g));
                }
            }
        }
        // Lanes that are missing from a collective explain most other waits.
        let first = list.iter().find(|(_, _, g)| matches!(g.state, State::Converge | State::Warp(_))).or(list.first());
        let Some((c, w, g)) = first else {
            return Box::new(Fault {
                kind: FaultKind::Deadlock,
                kernel: run.kernel.name.clone(),
                what: "nothing can run".into(),
                at: None,
                address: None,
                other: None,
            });
        };
        let kind = if matches!(g.state, State::Converge | State::Warp(_)) { FaultKind::Divergent } else { FaultKind::Deadlock };
        let mut what = match g.state {
            State::Converge => {
                format!("lanes {:#010x} run an instruction for which others of the warp must come, and they never do", g.mask)
            }
            State::Warp(m) => format!("lanes {:#010x} wait at bar.warp.sync for lanes {:#010x}, which never come", g.mask, m & !g.mask),
            State::Bar(b) => {
                let bar = &c.bars[usize::from(b) & 15];
                let want = if bar.want == 0 { c.alive } else { bar.want };
                format!("all threads wait: {} of {want} threads have come to barrier {b}", bar.come)
            }
            State::Cluster => format!("all threads wait: {} threads have come to the barrier of the cluster", self.come),
            State::Mbar => "all threads wait: a phase of an mbarrier never ends".into(),
            State::Run => "nothing can run".into(),
        };
        let elsewhere = list.iter().filter(|(_, v, h)| v.id != w.id || h.pc != g.pc).count();
        if elsewhere > 0 {
            what.push_str(&format!("; {elsewhere} more groups of lanes wait elsewhere"));
        }
        Box::new(Fault {
            kind,
            kernel: run.kernel.name.clone(),
            what,
            at: Some(place(run, c, w, g.frame, g.pc, g.mask)),
            address: None,
            other: None,
        })
    }

    /// Bytes of a group's shared memory.
    pub fn shared(&mut self, cta: usize) -> *mut u8 {
        self.ctas[cta].shared.as_mut_ptr().cast()
    }
}

/// Where the first of some lanes stands.
pub(crate) fn place(run: &Run<'_>, cta: &Cta, w: &Warp, frame: u32, pc: u32, mask: u32) -> Place {
    let func = w.frames.get(frame as usize).and_then(Option::as_ref).map_or(run.kernel.func, |f| f.func);
    let code = &run.module.codes[func as usize];
    let (line, loc) = code.instrs.get(pc as usize).map_or((0, 0), |i| (i.line, i.loc));
    let source = source(run, func, loc);
    Place { function: code.name.clone(), line, source, group: cta.id, thread: w.id * 32 + mask.trailing_zeros().min(31) }
}

/// File and line of a `.loc`.
pub(crate) fn source(run: &Run<'_>, func: u32, loc: u32) -> Option<(String, u32)> {
    let (file, line) = *run.module.codes[func as usize].locs.get((loc as usize).checked_sub(1)?)?;
    Some((run.module.files.get(&u64::from(file)).cloned().unwrap_or_default(), line))
}
