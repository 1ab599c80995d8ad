// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a warp.

use super::cluster::{Cluster, Cta, place};
use super::count;
use super::fault::{Fault, FaultKind};
use super::instr::{Code, FULL, Instr, LANES, Op, Order, SINK, Special};
use super::machine::Run;
use super::ty::{FUNC_WINDOW, WINDOW};
use super::warp::{Frame, Group, State, Warp};

mod asynch;
mod barrier;
mod bulk;
mod matrix;
mod memory;
mod print;
mod races;
mod warp;

/// A fault, which is rare and large.
pub(crate) type R<T> = Result<T, Box<Fault>>;

/// Calls nest at most this deep.
const DEPTH: u32 = 256;

/// One warp of a cluster, taken out of it while it runs.
pub(crate) struct Exec<'e, 'a> {
    pub run: &'e Run<'a>,
    pub cl: &'e mut Cluster,
    pub cta: usize,
    pub w: &'e mut Warp,
}

/// The instruction that runs, and the lanes that run it.
#[derive(Clone, Copy)]
pub(crate) struct At<'c> {
    pub i: &'c Instr,
    pub code: &'c Code,
    /// Number of the group of lanes.
    pub g: usize,
    pub frame: u32,
    /// Lanes whose guard holds.
    pub m: u32,
    /// All lanes of the group.
    pub mask: u32,
    /// Memory order of its access.
    pub order: Order,
    /// Bytes at the front and at the end of its access that nobody looks at.
    pub idle: [u8; 2],
}

/// How a group goes on.
enum Flow {
    /// With the next instruction.
    Next,
    /// Groups have changed, or this one waits: another is picked.
    Pick,
}

impl<'e> Exec<'e, '_> {
    pub fn cta(&mut self) -> &mut Cta {
        &mut self.cl.ctas[self.cta]
    }

    /// A fault at the instruction that runs.
    pub fn fault<T>(&self, at: At<'_>, kind: FaultKind, lanes: u32, address: Option<u64>, what: impl Into<String>) -> R<T> {
        let pc = self.w.groups.get(at.g).map_or(0, |g| g.pc);
        let place = place(self.run, &self.cl.ctas[self.cta], self.w, at.frame, pc, lanes);
        Err(Box::new(Fault { kind, kernel: self.run.kernel.name.clone(), what: what.into(), at: Some(place), address, other: None }))
    }

    /// Runs for about so many instructions, or until all lanes wait or have ended.
    pub fn slice(&mut self, budget: u64) -> R<()> {
        let begin = self.cl.counts.instructions;
        let run = self.run;
        while self.cl.counts.instructions - begin < budget {
            let Some((g, meet)) = self.w.pick() else { break };
            self.group(run, g, meet, begin + budget)?;
        }
        let spent = self.cl.counts.instructions - begin;
        self.cl.clock += spent;
        let total = run.spent.fetch_add(spent, std::sync::atomic::Ordering::Relaxed) + spent;
        if total > run.options.limit {
            let what = format!("more than {} instructions of warps", run.options.limit);
            return Err(Box::new(Fault {
                kind: FaultKind::Limit,
                kernel: run.kernel.name.clone(),
                what,
                at: None,
                address: None,
                other: None,
            }));
        }
        Ok(())
    }

    /// Runs one group of lanes until groups change, it meets another, or its budget is spent.
    fn group(&mut self, run: &'e Run<'_>, g: usize, meet: u32, until: u64) -> R<()> {
        let Group { frame, mask, mut pc, .. } = self.w.groups[g];
        let Some(f) = self.w.frames[frame as usize].as_mut() else { return Ok(()) };
        let code: &Code = &run.module.codes[f.func as usize];
        let slice = if meet == u32::MAX { u64::MAX } else { self.cl.counts.instructions + 2048 };
        loop {
            let i = &code.instrs[pc as usize];
            let f = self.w.frame(frame);
            let m = if i.guard == SINK {
                mask
            } else {
                let p = f.regs.preds[(i.guard >> 1) as usize];
                mask & if i.guard & 1 == 1 { !p } else { p }
            };
            match i.op {
                Op::Alu(k) => {
                    if m != 0 {
                        k(&mut f.regs, i, m);
                        if i.touches {
                            self.w.asynch.fenced = false;
                        }
                    }
                    pc += 1;
                    count::one(&mut self.cl.counts, i.class, m.count_ones());
                }
                Op::Bra(to) => {
                    count::one(&mut self.cl.counts, i.class, mask.count_ones());
                    if m == mask {
                        pc = to;
                    } else if m == 0 {
                        pc += 1;
                    } else {
                        self.w.groups[g].mask = mask & !m;
                        self.w.groups[g].pc = pc + 1;
                        self.w.groups.push(Group { frame, pc: to, mask: m, state: State::Run, tired: false });
                        return Ok(());
                    }
                }
                _ => {
                    self.w.groups[g].pc = pc;
                    count::one(&mut self.cl.counts, i.class, m.count_ones());
                    match self.other(At { i, code, g, frame, m, mask, order: Order::Weak, idle: [0; 2] })? {
                        Flow::Next => pc += 1,
                        Flow::Pick => return Ok(()),
                    }
                }
            }
            if pc >= meet || self.cl.counts.instructions >= until {
                break;
            }
            if self.cl.counts.instructions >= slice {
                self.w.groups[g].tired = true;
                break;
            }
        }
        self.w.groups[g].pc = pc;
        Ok(())
    }

    fn other(&mut self, at: At<'_>) -> R<Flow> {
        let At { i, code, g, frame, m, mask, .. } = at;
        // What no lane does has no effect; what ends or moves lanes is told apart below.
        if m == 0 {
            return Ok(Flow::Next);
        }
        match i.op {
            Op::Alu(_) | Op::Bra(_) | Op::Nop => {}
            Op::Special(which) => {
                let v = self.special(which, frame);
                let r = &mut self.w.frame(frame).regs;
                if i.imm == 1 {
                    r.put::<u64>(i.d, &v, m);
                } else {
                    r.put::<u32>(i.d, &v.map(|x| x as u32), m);
                }
            }
            Op::BrxIdx(t) => {
                let Some(table) = code.tables.get(t as usize) else { return Ok(Flow::Next) };
                let index = *self.w.frame(frame).regs.get::<u32>(i.a);
                let mut left = m;
                while left != 0 {
                    let l = left.trailing_zeros() as usize;
                    let same = (0..LANES).filter(|k| left >> k & 1 != 0 && index[*k] == index[l]).fold(0u32, |s, k| s | 1 << k);
                    let Some(to) = table.get(index[l] as usize) else {
                        return self.fault(at, FaultKind::Operand, same, None, format!("target {} of {}", index[l], table.len()));
                    };
                    self.w.groups.push(Group { frame, pc: *to, mask: same, state: State::Run, tired: false });
                    left &= !same;
                }
                self.leave(g, m, true);
                return Ok(Flow::Pick);
            }
            Op::Call(c) => return self.call(at, c),
            Op::Ret => {
                if self.w.frame(frame).depth == 0 {
                    self.exit(at)?;
                } else {
                    self.back(at);
                }
                return Ok(Flow::Pick);
            }
            Op::Exit => {
                self.exit(at)?;
                return Ok(Flow::Pick);
            }
            Op::Trap => return self.fault(at, FaultKind::Trap, m, None, "trap"),
            Op::Ld(mem) => self.load(at, mem)?,
            Op::St(mem) => self.store(at, mem)?,
            Op::Atom(n) => {
                let Some(atom) = code.atoms.get(n as usize) else { return Ok(Flow::Next) };
                self.atomic(at, *atom)?;
            }
            Op::Bar { kind, aligned } => return self.bar(at, kind, aligned),
            Op::WarpSync => return self.warp_sync(at),
            Op::Shfl { kind, mask } => return self.shfl(at, kind, mask),
            Op::Vote { kind, wide, negated } => return self.vote(at, kind, wide, negated),
            Op::Redux { op, ty, nan, abs } => return self.redux(at, op, ty, nan, abs),
            Op::ActiveMask => self.w.frame(frame).regs.put::<u32>(i.d, &[mask; LANES], m),
            Op::Fence | Op::ProxyFence => {
                let threads = self.threads(m);
                if let Some(r) = &mut self.cl.race {
                    r.fence(threads);
                }
            }
            Op::ClusterArrive { .. } => self.cluster_arrive(at)?,
            Op::ClusterWait { .. } => return self.cluster_wait(at),
            Op::Mapa { generic } => self.mapa(at, generic)?,
            Op::GetRank { generic } => self.get_rank(at, generic),
            Op::Matrix(load) => return self.fragment(at, load),
            Op::Mma(n) => {
                if let Some(x) = code.mmas.get(n as usize) {
                    return self.mma(at, x);
                }
            }
            Op::Wgmma(n) => {
                if let Some(x) = code.wgmmas.get(n as usize) {
                    return self.wgmma(at, n, x);
                }
            }
            Op::WgmmaFence => self.w.asynch.fenced = true,
            Op::WgmmaCommit => self.wgmma_commit(at),
            Op::WgmmaWait(n) => return self.wgmma_wait(at, n),
            Op::CpAsync { bytes, dst, src } => self.cp_async(at, bytes, dst, src)?,
            Op::CpCommit => self.cp_commit(at),
            Op::CpWait(n) => self.cp_wait(at, n)?,
            Op::CpMbar { noinc } => self.cp_mbar(at, noinc)?,
            Op::Mbar(op) => return self.mbar(at, op),
            Op::Bulk(n) => {
                if let Some(x) = code.bulks.get(n as usize) {
                    self.bulk(at, n, x)?;
                }
            }
            Op::BulkCommit => self.bulk_commit(at),
            Op::BulkWait { pending, read } => self.bulk_wait(at, pending, read)?,
            Op::Syscall(0) => return self.fault(at, FaultKind::Assertion, m, None, "a failed assertion"),
            Op::Syscall(_) => self.print(at)?,
        }
        Ok(Flow::Next)
    }

    /// Takes lanes out of a group; the rest goes on behind the instruction.
    fn leave(&mut self, g: usize, m: u32, next: bool) {
        let group = &mut self.w.groups[g];
        group.mask &= !m;
        if next {
            group.pc += 1;
        }
        if group.mask == 0 {
            self.w.groups.swap_remove(g);
        }
    }

    fn call(&mut self, at: At<'_>, c: u32) -> R<Flow> {
        let At { i: _, code, g, frame, m, .. } = at;
        let Some(call) = code.calls.get(c as usize) else { return Ok(Flow::Next) };
        let (mut func, mut lanes) = (call.func, m);
        if call.indirect != SINK {
            // Lanes that call the same function go together; the others come here again.
            let a = *self.w.frame(frame).regs.get::<u64>(call.indirect);
            let first = a[m.trailing_zeros() as usize];
            lanes = (0..LANES).filter(|l| m >> l & 1 != 0 && a[*l] == first).fold(0, |s, l| s | 1 << l);
            let n = first.wrapping_sub(FUNC_WINDOW);
            if n >= self.run.module.codes.len() as u64 || first / WINDOW != FUNC_WINDOW / WINDOW {
                return self.fault(at, FaultKind::Operand, lanes, Some(first), "a call of what is no function");
            }
            func = n as u32;
        }
        let callee = &self.run.module.codes[func as usize];
        if callee.formals.len() != call.args.len() || callee.returns.len() != call.returns.len() {
            return self.fault(at, FaultKind::Operand, lanes, None, format!("a call of {} with other parameters than it has", callee.name));
        }
        let (depth, base) = {
            let f = self.w.frame(frame);
            (f.depth + 1, f.local + code.local.next_multiple_of(16))
        };
        if depth > DEPTH || base + callee.local > 1 << 24 {
            return self.fault(at, FaultKind::Limit, lanes, None, "calls nest too deep");
        }
        let pc = self.w.groups[g].pc;
        let mut new = Frame { depth, parent: frame, back: pc + 1, call: c, local: base, ..Frame::new(func, callee, lanes) };
        let caller = self.w.frame(frame);
        move_params(&caller.params, &mut new.params, &call.args, &callee.formals, lanes);
        self.w.reserve(base + callee.local);
        let slot = self.w.frames.iter().position(Option::is_none).unwrap_or(self.w.frames.len());
        if slot == self.w.frames.len() {
            self.w.frames.push(Some(new));
        } else {
            self.w.frames[slot] = Some(new);
        }
        self.w.groups.push(Group { frame: slot as u32, pc: 0, mask: lanes, state: State::Run, tired: false });
        // Lanes whose guard does not hold go on; those of another function run this instruction again.
        let again = m & !lanes;
        if again != 0 {
            self.w.groups.push(Group { frame, pc, mask: again, state: State::Run, tired: false });
        }
        self.leave(g, m, true);
        Ok(Flow::Pick)
    }

    /// Lanes return to their caller.
    fn back(&mut self, at: At<'_>) {
        let At { code, g, frame, m, .. } = at;
        let f = self.w.frame(frame);
        let (parent, pc, call) = (f.parent, f.back, f.call);
        f.live &= !m;
        let done = f.live == 0;
        let params = std::mem::take(&mut f.params);
        let caller = self.w.frame(parent);
        if let Some(call) = self.run.module.codes[caller.func as usize].calls.get(call as usize) {
            move_params(&params, &mut caller.params, &code.returns, &call.returns, m);
        }
        self.w.frame(frame).params = params;
        self.leave(g, m, true);
        if done {
            self.w.frames[frame as usize] = None;
        }
        self.w.groups.push(Group { frame: parent, pc, mask: m, state: State::Run, tired: false });
    }

    /// Lanes end.
    fn exit(&mut self, at: At<'_>) -> R<()> {
        self.bulk_exit(at)?;
        self.leave(at.g, at.m, true);
        self.w.alive &= !at.m;
        let mut frame = at.frame;
        while let Some(f) = self.w.frames[frame as usize].as_mut() {
            f.live &= !at.m;
            let (depth, parent, live) = (f.depth, f.parent, f.live);
            if depth == 0 {
                break;
            }
            if live == 0 {
                self.w.frames[frame as usize] = None;
            }
            frame = parent;
        }
        self.cta().alive -= at.m.count_ones();
        if self.cta().alive == 0 && self.cl.ctas.len() > 1 {
            self.vanish(at)?;
        }
        // Threads that have ended are not waited for.
        self.w.groups.iter_mut().filter(|g| g.state == State::Converge).for_each(|g| g.state = State::Run);
        self.warp_release();
        for b in 0..16 {
            self.release(b);
        }
        self.cluster_release();
        Ok(())
    }

    fn special(&mut self, which: Special, frame: u32) -> [u64; LANES] {
        let (run, clock) = (self.run, self.cl.clock + self.cl.counts.instructions);
        let cta = &self.cl.ctas[self.cta];
        let lane = |f: &dyn Fn(u32) -> u64| std::array::from_fn(|l| f(l as u32));
        let all = |v: u64| [v; LANES];
        let size = run.cluster.iter().product::<u32>();
        match which {
            Special::Tid(d) => {
                let [x, y, _] = run.block;
                let first = self.w.id * LANES as u32;
                lane(&|l| {
                    let t = first + l;
                    u64::from([t % x, t / x % y, t / x / y][d as usize % 3])
                })
            }
            Special::Ntid(d) => all(run.block[d as usize % 3].into()),
            Special::Ctaid(d) => all(cta.id[d as usize % 3].into()),
            Special::Nctaid(d) => all(run.grid[d as usize % 3].into()),
            Special::Laneid => lane(&|l| l.into()),
            Special::Warpid => all(self.w.id.into()),
            Special::Nwarpid => all(cta.warps.len() as u64),
            Special::LaneEq => lane(&|l| 1 << l),
            Special::LaneLe => lane(&|l| u64::from(FULL >> (31 - l))),
            Special::LaneLt => lane(&|l| (1 << l) - 1),
            Special::LaneGe => lane(&|l| u64::from(FULL << l)),
            Special::LaneGt => lane(&|l| u64::from(FULL << l << 1) & !(1 << l)),
            Special::Clock => all(clock & 0xffff_ffff),
            Special::ClockHi => all(clock >> 32),
            Special::Clock64 | Special::Globaltimer => all(clock),
            Special::Smid => all(self.cl.number % 132),
            Special::Nsmid => all(132),
            Special::Gridid | Special::Zero => all(0),
            Special::ClusterId(d) => all(self.cl.id[d as usize % 3].into()),
            Special::NclusterId(d) => all((run.grid[d as usize % 3] / run.cluster[d as usize % 3]).into()),
            Special::ClusterCtaid(d) => all(super::cluster::unfold(cta.rank.into(), run.cluster)[d as usize % 3].into()),
            Special::ClusterNctaid(d) => all(run.cluster[d as usize % 3].into()),
            Special::ClusterCtarank => all(cta.rank.into()),
            Special::ClusterNctarank => all(size.into()),
            Special::IsExplicitCluster => all(u64::from(size > 1)),
            Special::DynamicSmem => all(run.dynamic),
            Special::TotalSmem => all(run.shared),
            Special::Local(at) => {
                let base = self.w.frame(frame).local;
                all(u64::from(base + at))
            }
        }
    }
}

/// Copies parameters of lanes from one frame's memory to another's.
fn move_params(from: &[u8], to: &mut [u8], src: &[(u32, u32)], dst: &[(u32, u32)], lanes: u32) {
    let (a, b) = (from.len() / LANES, to.len() / LANES);
    for ((s, n), (d, k)) in src.iter().zip(dst) {
        let n = (*n).min(*k) as usize;
        for l in (0..LANES).filter(|l| lanes >> l & 1 != 0) {
            let (s, d) = (l * a + *s as usize, l * b + *d as usize);
            if let (Some(x), Some(y)) = (from.get(s..s + n), to.get_mut(d..d + n)) {
                y.copy_from_slice(x);
            }
        }
    }
}
