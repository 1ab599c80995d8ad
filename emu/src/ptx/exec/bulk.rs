// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bulk copies and tensors. A copy that tells an mbarrier happens when somebody looks at that mbarrier, one in a group when its thread
//! waits for it, and all of them at the end.

use super::memory::{Access, apply, read, write};
use super::{At, Exec, R};
use crate::ptx::asynch::{Bulk, Job, Spot, Work};
use crate::ptx::fault::FaultKind;
use crate::ptx::instr::{Atom, AtomOp, LANES, Mem, Order, Width};
use crate::ptx::race::BULK;
use crate::ptx::tensor::TensorMap;
use crate::ptx::ty::{RANK_SHIFT, Space, Ty, window};

impl Exec<'_, '_> {
    /// Where any number of bytes of one lane are; counts them.
    pub(super) fn span(&mut self, at: At<'_>, space: Space, address: u64, bytes: u64, access: Access) -> R<*mut u8> {
        let (space, a) = if space == Space::Generic { window(address) } else { (space, address) };
        match space {
            Space::Shared | Space::Cluster => {
                let (rank, o) = (a >> RANK_SHIFT, a & ((1 << RANK_SHIFT) - 1));
                if rank as usize > self.cl.ctas.len() || o + bytes > self.run.shared {
                    return self.fault(
                        at,
                        FaultKind::OutOfBounds,
                        at.m,
                        Some(address),
                        format!("{bytes} bytes of shared memory of {}", self.run.shared),
                    );
                }
                let cta = if rank == 0 { self.cta } else { rank as usize - 1 };
                Ok(self.cl.shared(cta).wrapping_add(o as usize))
            }
            Space::Global | Space::Const => {
                let mut hint = self.w.hint;
                let Some(alloc) = self.run.memory.find(a, bytes, &mut hint) else {
                    return self.fault(
                        at,
                        FaultKind::OutOfBounds,
                        at.m,
                        Some(address),
                        format!("{bytes} bytes of device memory that are not there"),
                    );
                };
                if access != Access::Load && alloc.read_only {
                    return self.fault(at, FaultKind::ReadOnly, at.m, Some(address), format!("a store to the constant {}", alloc.name));
                }
                if self.run.options.count && self.run.options.unique {
                    for o in (0..bytes).step_by(64) {
                        alloc.touch(a - alloc.base + o, (bytes - o).min(64), access != Access::Load);
                    }
                }
                if access != Access::Atomic {
                    self.alone(at, alloc, (a - alloc.base, bytes), at.m, access != Access::Load)?;
                }
                let t = if access == Access::Load { &mut self.cl.counts.load } else { &mut self.cl.counts.store };
                t.requests += 1;
                t.bytes += bytes;
                t.sectors += (a + bytes).div_ceil(32) - a / 32;
                self.w.hint = hint;
                Ok(alloc.at(a - alloc.base))
            }
            _ => self.fault(at, FaultKind::Operand, at.m, Some(address), "a bulk copy in another space"),
        }
    }

    fn spot(&mut self, at: At<'_>, s: Spot, lane: usize) -> u64 {
        self.addresses(at, s.row, s.width, s.offset as u64)[lane]
    }

    pub(super) fn bulk(&mut self, at: At<'_>, _n: u32, x: &Bulk) -> R<()> {
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            self.issue(At { m: 1 << l, ..at }, l, x)?;
        }
        Ok(())
    }

    fn issue(&mut self, at: At<'_>, l: usize, x: &Bulk) -> R<()> {
        let (dst, src) = (self.spot(at, x.dst, l), self.spot(at, x.src, l));
        let mbar = x.mbar.map(|m| self.spot(at, m, l));
        let own = |a: u64| a & ((1 << RANK_SHIFT) - 1);
        // The same places in the groups of a mask; otherwise where the addresses say.
        let ranks: Vec<Option<u64>> = match x.multicast {
            None => vec![None],
            Some(row) => {
                let mask = self.w.frame(at.frame).regs.get::<u32>(row)[l] & 0xffff;
                (0..16).filter(|r| mask >> r & 1 != 0).map(Some).collect()
            }
        };
        for rank in ranks {
            let there = |a: u64| rank.map_or(a, |r| own(a) | (r + 1) << RANK_SHIFT);
            let mbar = match mbar {
                Some(m) if m % 8 != 0 => {
                    return self.fault(at, FaultKind::Misaligned, at.m, Some(m), "an mbarrier that is not aligned to 8 bytes");
                }
                Some(m) => Some(self.span(at, Space::Cluster, there(m), 8, Access::Atomic)?),
                None => None,
            };
            let (bytes, work) = if let Some((each, width, rows)) = &x.value {
                let regs = &self.w.frame(at.frame).regs;
                let data: Vec<u8> = rows.iter().flat_map(|r| regs.wide(*r, *width)[l].to_le_bytes()[..*each as usize].to_vec()).collect();
                let n = data.len() as u64;
                let place = there(dst);
                let dst = self.span(at, x.dst.space, place, n, Access::Store)?;
                self.note(at, l, x.dst.space, place, n, true, mbar)?;
                (n, Work::Value { dst, data })
            } else if !x.coords.is_empty() {
                let store = x.dst.space == Space::Global;
                let (map, inner) = if store { (dst, src) } else { (src, there(dst)) };
                let map = self.map(at, map)?;
                let regs = &self.w.frame(at.frame).regs;
                let mut coords = [0i32; 5];
                for (c, row) in coords.iter_mut().zip(&x.coords) {
                    *c = regs.get::<i32>(*row)[l];
                }
                if x.coords.len() != map.rank as usize {
                    return self.fault(
                        at,
                        FaultKind::Operand,
                        at.m,
                        None,
                        format!("{} coordinates of a tensor with {} dimensions", x.coords.len(), map.rank),
                    );
                }
                let bytes = map.elements() * u64::from(map.element);
                if inner % 128 != 0 {
                    return self.fault(at, FaultKind::Misaligned, at.m, Some(inner), "a box of a tensor that is not aligned to 128 bytes");
                }
                let access = if store { Access::Load } else { Access::Store };
                let first = self.span(at, if store { x.src.space } else { Space::Cluster }, inner, bytes, access)?;
                let space = if store { x.src.space } else { Space::Cluster };
                self.note(at, l, space, inner, bytes, !store, mbar)?;
                let offset = own(inner);
                let shared = first.wrapping_sub(offset as usize);
                (bytes, Work::Tensor { map, coords, shared, offset, store, reduce: x.reduce })
            } else {
                let n = u64::from(self.w.frame(at.frame).regs.get::<u32>(x.size)[l]);
                if n % 16 != 0 || dst % 16 != 0 || src % 16 != 0 {
                    return self.fault(
                        at,
                        FaultKind::Misaligned,
                        at.m,
                        Some(dst),
                        format!("a bulk copy of {n} bytes from {src:#x}: all must be multiples of 16"),
                    );
                }
                let access = if x.reduce.is_some() { Access::Atomic } else { Access::Store };
                self.note(at, l, x.dst.space, there(dst), n, true, mbar)?;
                self.note(at, l, x.src.space, src, n, false, mbar)?;
                let dst = self.span(at, x.dst.space, there(dst), n, access)?;
                let src = self.span(at, x.src.space, src, n, Access::Load)?;
                (n, Work::Copy { dst, src, reduce: x.reduce })
            };
            let job = Job { mbar, bytes, work };
            if mbar.is_some() {
                self.cl.jobs.push_back(job);
                // Whoever waits for that mbarrier looks again, and the copy happens.
                self.wake();
            } else {
                self.w.asynch.bulk.push((l as u8, job));
            }
        }
        Ok(())
    }

    /// A tensor map by its generic address.
    fn map(&mut self, at: At<'_>, address: u64) -> R<TensorMap> {
        let mut b = [0; 128];
        let there = match window(address) {
            (Space::Param, a) => match usize::try_from(a).ok().and_then(|a| self.run.params.get(a..a.checked_add(128)?)) {
                Some(p) => {
                    b.copy_from_slice(p);
                    true
                }
                None => false,
            },
            (Space::Global, a) => self.run.memory.read(a, &mut b),
            _ => false,
        };
        match TensorMap::decode(&b) {
            Some(map) if there && address % 64 == 0 => Ok(map),
            _ => self.fault(at, FaultKind::Operand, at.m, Some(address), "no tensor map lies there"),
        }
    }

    /// Does what a job was to do, and tells its mbarrier.
    fn finish(&mut self, at: At<'_>, job: Job) -> R<()> {
        match job.work {
            // SAFETY (all arms): pointers were resolved for all bytes when the job was issued; shared memory lives as long as the cluster,
            // device memory as long as the launch.
            Work::Value { dst, data } => unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), dst, data.len()) },
            Work::Copy { dst, src, reduce: None } => unsafe { std::ptr::copy(src, dst, job.bytes as usize) },
            Work::Copy { dst, src, reduce: Some((op, ty)) } => {
                let n = ty.bytes();
                for o in (0..job.bytes as usize).step_by(n) {
                    combine(op, ty, dst.wrapping_add(o), src.wrapping_add(o));
                }
            }
            Work::Tensor { map, coords, shared, offset, store, reduce } => {
                let each = map.element;
                let mut hint = self.w.hint;
                for i in 0..map.elements() {
                    let inner = shared.wrapping_add(map.swizzle.apply(offset + i * u64::from(each)) as usize);
                    let Some(a) = map.place(&coords, i) else {
                        if !store {
                            // SAFETY: as above; the swizzle stays inside blocks of 1024 bytes of the box.
                            unsafe { write(inner, each, map.outside()) };
                        }
                        continue;
                    };
                    let Some(alloc) = self.run.memory.find(a, each.into(), &mut hint) else {
                        return self.fault(
                            at,
                            FaultKind::OutOfBounds,
                            at.m,
                            Some(a),
                            "an element of a tensor map that lies in no allocation",
                        );
                    };
                    let outer = alloc.at(a - alloc.base);
                    if self.run.options.count && self.run.options.unique {
                        alloc.touch(a - alloc.base, each.into(), store);
                    }
                    if reduce.is_none() {
                        self.alone(at, alloc, (a - alloc.base, each.into()), at.m, store)?;
                    }
                    match (store, reduce) {
                        // SAFETY: as above.
                        (false, _) => unsafe { write(inner, each, read(outer, each, false)) },
                        (true, None) => unsafe { write(outer, each, read(inner, each, false)) },
                        (true, Some((op, _))) => {
                            combine(op, [Ty::U8, Ty::F16, Ty::F32, Ty::U64][each.trailing_zeros() as usize & 3], outer, inner)
                        }
                    }
                }
                let t = if store { &mut self.cl.counts.store } else { &mut self.cl.counts.load };
                t.requests += 1;
                t.bytes += job.bytes;
                t.sectors += job.bytes.div_ceil(32);
            }
        }
        if let Some(p) = job.mbar {
            self.complete(p, job.bytes);
        }
        Ok(())
    }

    /// Ends the copies that tell an mbarrier.
    pub(super) fn finish_for(&mut self, at: At<'_>, mbar: *mut u8) -> R<()> {
        while let Some(i) = self.cl.jobs.iter().position(|j| j.mbar == Some(mbar)) {
            if let Some(job) = self.cl.jobs.remove(i) {
                self.finish(at, job)?;
            }
        }
        Ok(())
    }

    pub(super) fn bulk_commit(&mut self, at: At<'_>) {
        let open = std::mem::take(&mut self.w.asynch.bulk);
        let (mine, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|(l, _)| at.m >> l & 1 != 0);
        self.w.asynch.bulk = rest;
        self.commit(BULK, at.m);
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            let jobs = mine.iter().filter(|(k, _)| *k as usize == l).map(|(_, j)| j.clone()).collect();
            self.w.asynch.bulk_groups.push((l as u8, jobs));
        }
    }

    pub(super) fn bulk_wait(&mut self, at: At<'_>, pending: u32, _read: bool) -> R<()> {
        self.waited(BULK, at.m, pending);
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            let mine = self.w.asynch.bulk_groups.iter().filter(|g| g.0 as usize == l).count();
            for _ in pending as usize..mine {
                let Some(i) = self.w.asynch.bulk_groups.iter().position(|g| g.0 as usize == l) else { break };
                for job in self.w.asynch.bulk_groups.remove(i).1 {
                    self.finish(at, job)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the copies in groups of lanes that end.
    pub(super) fn bulk_exit(&mut self, at: At<'_>) -> R<()> {
        if self.w.asynch.bulk.is_empty() && self.w.asynch.bulk_groups.is_empty() {
            return Ok(());
        }
        let l = self.w.asynch.bulk.iter().map(|b| b.0).chain(self.w.asynch.bulk_groups.iter().map(|g| g.0)).find(|l| at.m >> l & 1 != 0);
        if let (Some(l), true) = (l, self.run.options.races) {
            return self.fault(
                at,
                FaultKind::Premature,
                1 << l,
                None,
                "a thread ends, and its bulk copies from shared memory were not waited for",
            );
        }
        self.bulk_commit(at);
        self.bulk_wait(at, 0, false)
    }
}

/// Combines one element in memory with another.
fn combine(op: AtomOp, ty: Ty, dst: *mut u8, src: *const u8) {
    let n = ty.bytes() as u8;
    let mem = Mem { space: Space::Global, bytes: n, n: 1, signed: false, width: Width::W64, base: Width::W64, order: Order::Relaxed };
    let atom = Atom { op, ty, mem, fetch: false };
    // SAFETY: the callers have resolved an element at both places.
    unsafe { write(dst, n, apply(atom, read(dst, n, false), read(src, n, false), 0)) };
}
