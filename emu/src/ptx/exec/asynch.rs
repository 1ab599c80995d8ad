// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cp.async` and mbarriers. Copies happen as late as they may, so that a missing wait shows in what is read.

use super::memory::{Access, Pointers, read, write};
use super::{At, Exec, Flow, R};
use crate::ptx::asynch::{Mbar, MbarKind, MbarOp};
use crate::ptx::fault::FaultKind;
use crate::ptx::instr::{LANES, SINK, Width};
use crate::ptx::race::COPY;
use crate::ptx::ty::Space;
use crate::ptx::warp::{Copy, State};

/// Tests of mbarriers without any progress that a cluster may make.
const POLLS: u64 = 1 << 22;

impl Exec<'_, '_> {
    pub(super) fn cp_async(&mut self, at: At<'_>, bytes: u8, dst: Width, src: Width) -> R<()> {
        let to = self.addresses(at, at.i.a, dst, at.i.imm as u32 as i32 as i64 as u64);
        let from = self.addresses(at, at.i.b, src, (at.i.imm >> 32) as u32 as i32 as i64 as u64);
        let mut len = [u32::from(bytes); LANES];
        if at.i.c != SINK {
            len = self.w.frame(at.frame).regs.get::<u32>(at.i.c).map(|n| n.min(bytes.into()));
        }
        let d = self.resolve(at, Space::Shared, &to, bytes.into(), Access::Copy)?;
        // Where nothing is read, the source may be anything; a part that is read must lie in memory like a whole copy.
        let whole = (0..LANES).filter(|l| at.m >> l & 1 != 0 && len[*l] > 0).fold(0u32, |s, l| s | 1 << l);
        let s: Pointers = if whole == 0 {
            [std::ptr::null_mut(); LANES]
        } else if (0..LANES).all(|l| whole >> l & 1 == 0 || len[l] == u32::from(bytes)) {
            self.resolve(At { m: whole, ..at }, Space::Global, &from, bytes.into(), Access::Load)?
        } else {
            let mut all = [std::ptr::null_mut(); LANES];
            for l in (0..LANES).filter(|l| whole >> l & 1 != 0) {
                all[l] = self.span(At { m: 1 << l, ..at }, Space::Global, from[l], len[l].into(), Access::Load)?;
            }
            all
        };
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            self.w.asynch.open.push(Copy { lane: l as u8, dst: d[l], src: s[l], bytes, read: len[l] as u8 });
        }
        Ok(())
    }

    pub(super) fn cp_commit(&mut self, at: At<'_>) {
        let open = std::mem::take(&mut self.w.asynch.open);
        let (mine, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|c| at.m >> c.lane & 1 != 0);
        self.w.asynch.open = rest;
        self.w.asynch.groups.push((at.m, mine));
        self.commit(COPY, at.m);
    }

    /// Ends all groups of each lane but the last ones.
    pub(super) fn cp_wait(&mut self, at: At<'_>, left: u32) -> R<()> {
        let mut keep = [0u32; LANES];
        let mut groups = std::mem::take(&mut self.w.asynch.groups);
        for (mask, copies) in groups.iter_mut().rev() {
            let mut done = 0u32;
            for l in (0..LANES).filter(|l| at.m & *mask >> l & 1 != 0 && at.m >> l & 1 != 0) {
                if keep[l] < left {
                    keep[l] += 1;
                } else {
                    done |= 1 << l;
                }
            }
            copies.retain(|c| {
                let ends = done >> c.lane & 1 != 0;
                if ends {
                    perform(c);
                }
                !ends
            });
            *mask &= !done;
        }
        groups.retain(|g| g.0 != 0);
        self.w.asynch.groups = groups;
        self.waited(COPY, at.m, left);
        Ok(())
    }

    /// An arrival once all copies of each lane are done.
    pub(super) fn cp_mbar(&mut self, at: At<'_>, noinc: bool) -> R<()> {
        let ends = |c: &Copy| {
            let mine = at.m >> c.lane & 1 != 0;
            if mine {
                perform(c);
            }
            !mine
        };
        self.w.asynch.open.retain(ends);
        self.w.asynch.groups.iter_mut().for_each(|g| g.1.retain(ends));
        if !noinc {
            // One arrival more is expected, and it comes.
            return Ok(());
        }
        let base = if at.i.b == 1 { Width::W64 } else { Width::W32 };
        let space = if at.i.c == 1 { Space::Shared } else { Space::Generic };
        let addr = self.addresses(at, at.i.a, base, at.i.imm);
        let p = self.resolve(at, space, &addr, 8, Access::Use)?;
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            let t = self.first() + l as u32;
            if let Some(r) = &mut self.cl.race {
                r.copies_to_mbar(p[l] as usize, t);
                r.arrive_mbar(p[l] as usize, t);
            }
            self.change(at, l, p[l], addr[l], |m| {
                m.pending = m.pending.checked_sub(1)?;
                Some(())
            })?;
        }
        Ok(())
    }

    /// Changes an mbarrier and ends its phase where nothing is missing then. None from the closure: more arrivals than expected.
    fn change(&mut self, at: At<'_>, l: usize, p: *mut u8, address: u64, f: impl FnOnce(&mut Mbar) -> Option<()>) -> R<u64> {
        // SAFETY: the caller has resolved 8 bytes there.
        let old = unsafe { read(p, 8, false) };
        let Some(mut m) = Mbar::unpack(old) else {
            return self.fault(at, FaultKind::Operand, 1 << l, Some(address), "an mbarrier that was not initialized");
        };
        if f(&mut m).is_none() {
            return self.fault(at, FaultKind::Operand, 1 << l, Some(address), "more arrivals at an mbarrier than its phase expects");
        }
        if m.settle() {
            self.wake();
            if let Some(r) = &mut self.cl.race {
                r.end_phase(p as usize);
            }
        }
        // SAFETY: as above.
        unsafe { write(p, 8, m.pack()) };
        Ok(old)
    }

    /// Tells an mbarrier that bytes have come.
    pub(super) fn complete(&mut self, p: *mut u8, bytes: u64) {
        // SAFETY: the pointer was resolved when the copy was issued, and shared memory lives as long as the cluster.
        let old = unsafe { read(p, 8, false) };
        let Some(mut m) = Mbar::unpack(old) else { return };
        m.bytes = m.bytes.wrapping_sub(bytes as i32);
        if m.settle() {
            self.wake();
            if let Some(r) = &mut self.cl.race {
                r.end_phase(p as usize);
            }
        }
        // SAFETY: as above.
        unsafe { write(p, 8, m.pack()) };
    }

    /// Groups that wait for a phase look again.
    pub(super) fn wake(&mut self) {
        self.cl.polls = 0;
        let own = self.w.groups.iter_mut();
        let others = self.cl.ctas.iter_mut().flat_map(|c| c.warps.iter_mut().flatten()).flat_map(|w| w.groups.iter_mut());
        own.chain(others).filter(|g| g.state == State::Mbar).for_each(|g| g.state = State::Run);
    }

    pub(super) fn mbar(&mut self, at: At<'_>, op: MbarOp) -> R<Flow> {
        let lanes = || (0..LANES).filter(|l| at.m >> l & 1 != 0);
        if op.kind == MbarKind::Pending {
            let v = self.w.frame(at.frame).regs.get::<u64>(at.i.a).map(|v| Mbar::unpack(v).map_or(0, |m| m.pending));
            self.w.frame(at.frame).regs.put::<u32>(at.i.d, &v, at.m);
            return Ok(Flow::Next);
        }
        let addr = self.addresses(at, at.i.a, op.base, at.i.imm);
        let access = if matches!(op.kind, MbarKind::Init | MbarKind::Inval) { Access::Store } else { Access::Use };
        let p = self.resolve(at, op.space, &addr, 8, access)?;
        let regs = &self.w.frame(at.frame).regs;
        let count = if at.i.b == SINK { [1; LANES] } else { *regs.get::<u32>(at.i.b) };
        let wide = matches!(op.kind, MbarKind::Test { parity: false, .. });
        let third = match at.i.c {
            SINK => [0; LANES],
            row => regs.wide(row, if wide { Width::W64 } else { Width::W32 }),
        };
        match op.kind {
            MbarKind::Init => {
                for l in lanes() {
                    if count[l] == 0 || count[l] >= 1 << 20 {
                        return self.fault(at, FaultKind::Operand, 1 << l, Some(addr[l]), format!("an mbarrier for {} arrivals", count[l]));
                    }
                    // SAFETY: `resolve` gave 8 bytes for every lane of the mask.
                    unsafe { write(p[l], 8, Mbar::new(count[l]).pack()) };
                }
            }
            MbarKind::Inval => {
                for l in lanes() {
                    // SAFETY: as above.
                    unsafe { write(p[l], 8, 0) };
                }
            }
            MbarKind::Arrive { drop, expect } => {
                let mut old = [0; LANES];
                for l in lanes() {
                    let bytes = if expect { third[l] as i32 } else { 0 };
                    let t = self.first() + l as u32;
                    if let Some(r) = &mut self.cl.race {
                        r.arrive_mbar(p[l] as usize, t);
                    }
                    old[l] = self.change(at, l, p[l], addr[l], |m| {
                        m.bytes += bytes;
                        if drop {
                            m.expected = m.expected.checked_sub(count[l])?;
                        }
                        m.pending = m.pending.checked_sub(count[l])?;
                        Some(())
                    })?;
                }
                if at.i.d != SINK {
                    self.w.frame(at.frame).regs.put::<u64>(at.i.d, &old, at.m);
                }
            }
            MbarKind::Expect | MbarKind::Complete => {
                for l in lanes() {
                    let bytes = third[l] as i32;
                    self.change(at, l, p[l], addr[l], |m| {
                        m.bytes += if op.kind == MbarKind::Expect { bytes } else { -bytes };
                        Some(())
                    })?;
                }
            }
            MbarKind::Test { parity, waits } => {
                let mut yes = 0u32;
                for l in lanes() {
                    self.finish_for(at, p[l])?;
                    // SAFETY: as above.
                    let v = unsafe { read(p[l], 8, false) };
                    let Some(m) = Mbar::unpack(v) else {
                        return self.fault(at, FaultKind::Operand, 1 << l, Some(addr[l]), "an mbarrier that was not initialized");
                    };
                    let of = if parity { third[l] & 1 == 1 } else { Mbar::unpack(third[l]).is_some_and(|m| m.phase) };
                    yes |= u32::from(m.phase != of) << l;
                    let t = self.first() + l as u32;
                    if m.phase != of
                        && let Some(r) = &mut self.cl.race
                    {
                        r.pass_mbar(p[l] as usize, t);
                    }
                }
                if yes == 0 && waits && at.m == at.mask {
                    self.w.groups[at.g].state = State::Mbar;
                    return Ok(Flow::Pick);
                }
                self.w.frame(at.frame).regs.set_pred(at.i.d, yes, at.m);
                if yes != at.m {
                    self.cl.polls += 1;
                    if self.cl.polls > POLLS {
                        return self.fault(
                            at,
                            FaultKind::Deadlock,
                            at.m & !yes,
                            Some(addr[at.m.trailing_zeros() as usize & 31]),
                            "a phase of an mbarrier never ends",
                        );
                    }
                    self.w.groups[at.g].tired = true;
                }
            }
            MbarKind::Pending => {}
        }
        Ok(Flow::Next)
    }
}

/// Does what a copy was to do.
fn perform(c: &Copy) {
    // SAFETY: both pointers were resolved when the copy was issued: `bytes` at `dst` in shared memory, which lives as long as the cluster,
    // and `read` at `src` in device memory, which lives as long as the launch.
    unsafe {
        std::ptr::copy_nonoverlapping(c.src, c.dst, c.read as usize);
        c.dst.wrapping_add(c.read as usize).write_bytes(0, (c.bytes - c.read) as usize);
    }
}
