// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A warp: frames of registers, and groups of lanes that stand at the same place.
//!
//! Lanes are independent threads (as of sm_70): every lane makes progress, whatever the others do, and lanes run together only where they
//! happen to stand at the same instruction. The group at the lowest address of the deepest call runs, which brings lanes together again
//! where paths join; a group that has run long gives way to the others, so that lanes may wait for each other.

use super::asynch::Job;
use super::instr::{Code, LANES, Regs};
use super::matrix::Pending;

/// What a group does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Run,
    /// Waits at a collective instruction for lanes that have not come.
    Converge,
    /// Waits at `bar.warp.sync` for those lanes.
    Warp(u32),
    /// Waits at a barrier of its group of threads.
    Bar(u8),
    /// Waits for all of the cluster.
    Cluster,
    /// Waits for a phase of an mbarrier.
    Mbar,
}

/// Lanes at one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub frame: u32,
    pub pc: u32,
    pub mask: u32,
    pub state: State,
    pub tired: bool,
}

/// One call of a function.
#[derive(Debug)]
pub(crate) struct Frame {
    pub func: u32,
    pub depth: u32,
    pub parent: u32,
    pub back: u32,
    pub call: u32,
    pub live: u32,
    pub regs: Regs,
    /// `.param` variables, lane after lane.
    pub params: Vec<u8>,
    pub local: u32,
}

/// A copy of `cp.async` that has not been waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub lane: u8,
    pub dst: *mut u8,
    pub src: *const u8,
    pub bytes: u8,
    pub read: u8,
}

/// Asynchronous work of a warp that its own waits end.
#[derive(Debug, Default)]
pub(crate) struct Asynch {
    pub open: Vec<Copy>,
    /// Groups of copies with the lanes that committed them, oldest first.
    pub groups: Vec<(u32, Vec<Copy>)>,
    pub products: Vec<Pending>,
    pub batches: Vec<Vec<Pending>>,
    /// Whether `wgmma.fence` has been run.
    pub fenced: bool,
    /// Bulk copies of lanes, without and with their group.
    pub bulk: Vec<(u8, Job)>,
    pub bulk_groups: Vec<(u8, Vec<Job>)>,
}

/// A warp.
#[derive(Debug)]
pub(crate) struct Warp {
    pub id: u32,
    pub alive: u32,
    pub groups: Vec<Group>,
    pub frames: Vec<Option<Frame>>,
    pub local: Vec<u8>,
    /// Bytes of local memory of a lane.
    pub local_len: u32,
    /// Hint for the allocation that an access falls into.
    pub hint: usize,
    pub asynch: Asynch,
    /// Lanes that have come to the barrier of the cluster, and those that may pass it.
    pub arrived: u32,
    pub passed: u32,
}

impl Frame {
    pub fn new(func: u32, code: &Code, live: u32) -> Frame {
        let mut regs =
            Regs { rows: vec![super::instr::Row([0; LANES]); code.rows as usize], preds: vec![0; code.preds as usize], carry: 0 };
        if let Some(p) = regs.preds.get_mut(1) {
            *p = u32::MAX;
        }
        for (at, row) in &code.consts {
            regs.rows[*at as usize] = *row;
        }
        Frame { func, depth: 0, parent: 0, back: 0, call: 0, live, regs, params: vec![0; code.params as usize * LANES], local: 0 }
    }
}

impl Warp {
    /// A warp at the beginning of a kernel.
    pub fn new(id: u32, lanes: u32, func: u32, code: &Code) -> Warp {
        let frame = Frame::new(func, code, lanes);
        let mut w = Warp {
            id,
            alive: lanes,
            groups: vec![Group { frame: 0, pc: 0, mask: lanes, state: State::Run, tired: false }],
            frames: vec![Some(frame)],
            local: Vec::new(),
            local_len: 0,
            hint: 0,
            asynch: Asynch::default(),
            arrived: 0,
            passed: 0,
        };
        w.reserve(code.local);
        w
    }

    /// Makes a lane's local memory at least so large.
    pub fn reserve(&mut self, bytes: u32) {
        let new = bytes.next_multiple_of(16);
        if new > self.local_len {
            let mut local = vec![0; new as usize * LANES];
            let old = self.local_len as usize;
            for l in 0..LANES {
                local[l * new as usize..l * new as usize + old].copy_from_slice(&self.local[l * old..(l + 1) * old]);
            }
            (self.local, self.local_len) = (local, new);
        }
    }

    pub fn frame(&mut self, at: u32) -> &mut Frame {
        match &mut self.frames[at as usize] {
            Some(f) => f,
            None => unreachable!("a group's frame lives as long as the group"),
        }
    }

    fn depth(&self, at: u32) -> u32 {
        self.frames[at as usize].as_ref().map_or(0, |f| f.depth)
    }

    /// Joins groups at the same place, and gives the group to run and the place from which on it may meet another.
    pub fn pick(&mut self) -> Option<(usize, u32)> {
        if let [g] = &self.groups[..] {
            return (g.state == State::Run).then_some((0, u32::MAX));
        }
        let mut i = 0;
        while i < self.groups.len() {
            let mut j = i + 1;
            while j < self.groups.len() {
                let (a, b) = (self.groups[i], self.groups[j]);
                let open = |s| matches!(s, State::Run | State::Converge);
                if (a.frame, a.pc) == (b.frame, b.pc) && open(a.state) && open(b.state) {
                    self.groups[i].mask |= b.mask;
                    self.groups[i].state = State::Run;
                    self.groups[i].tired &= b.tired;
                    self.groups.swap_remove(j);
                } else {
                    j += 1;
                }
            }
            i += 1;
        }
        if self.groups.iter().all(|g| g.tired || g.state != State::Run) {
            self.groups.iter_mut().for_each(|g| g.tired = false);
        }
        let best = (0..self.groups.len())
            .filter(|i| self.groups[*i].state == State::Run && !self.groups[*i].tired)
            .min_by_key(|i| (u32::MAX - self.depth(self.groups[*i].frame), self.groups[*i].pc))?;
        let me = self.groups[best];
        let meets = self.groups.iter().filter(|g| g.frame == me.frame && g.pc > me.pc && matches!(g.state, State::Run | State::Converge));
        Some((best, meets.map(|g| g.pc).min().unwrap_or(u32::MAX)))
    }
}
