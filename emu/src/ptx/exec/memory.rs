// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads, stores and atomics.

use super::{At, Exec, R};
use crate::ptx::alu::half::fma as half_fma;
use crate::ptx::count;
use crate::ptx::decode::FRAME_PARAMS;
use crate::ptx::fault::FaultKind;
use crate::ptx::fp::{bhalf, half, to_bhalf, to_half};
use crate::ptx::instr::{Atom, AtomOp, LANES, Mem, Order, SINK, Width};
use crate::ptx::ty::{RANK_SHIFT, SHARED_WINDOW, Space, Ty, window};

/// Where the bytes of every lane are, in this machine's memory. Only lanes of the mask that it was made for are set.
pub(super) type Pointers = [*mut u8; LANES];

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Load,
    Store,
    Atomic,
    /// The destination of `cp.async`.
    Copy,
    /// An mbarrier, which has to be there and needs no other order.
    Use,
    /// Checked elsewhere.
    Sync,
}

impl Exec<'_, '_> {
    /// Addresses of lanes.
    pub(super) fn addresses(&mut self, at: At<'_>, row: u32, base: Width, offset: u64) -> [u64; LANES] {
        let regs = &self.w.frame(at.frame).regs;
        if base == Width::W64 {
            let a = regs.get::<u64>(row);
            std::array::from_fn(|l| a[l].wrapping_add(offset))
        } else {
            let a = regs.get::<u32>(row);
            std::array::from_fn(|l| u64::from(a[l].wrapping_add(offset as u32)))
        }
    }

    /// Checks an access of lanes, counts it, and says where its bytes are.
    pub(super) fn resolve(&mut self, at: At<'_>, space: Space, addr: &[u64; LANES], bytes: u64, access: Access) -> R<Pointers> {
        let mut out = [std::ptr::null_mut(); LANES];
        let low = addr.iter().enumerate().filter(|(l, _)| at.m >> l & 1 != 0).fold(0, |s, (_, a)| s | a);
        if low & (bytes - 1) != 0 {
            let bad = (0..LANES).filter(|l| at.m >> l & 1 != 0 && addr[*l] & (bytes - 1) != 0).fold(0u32, |s, l| s | 1 << l);
            let a = addr[bad.trailing_zeros() as usize & 31];
            return self.fault(at, FaultKind::Misaligned, bad, Some(a), format!("an access of {bytes} bytes that is not aligned to them"));
        }
        match space {
            Space::Global | Space::Const => self.global(at, addr, at.m, bytes, access, &mut out)?,
            Space::Shared | Space::Cluster => self.in_shared(at, addr, at.m, bytes, access, &mut out)?,
            Space::Local => self.in_local(at, addr, at.m, bytes, &mut out)?,
            Space::Param => self.in_params(at, addr, at.m, bytes, access, &mut out)?,
            Space::Generic => {
                // Lanes may point into different spaces.
                let mut left = at.m;
                while left != 0 {
                    let (space, _) = window(addr[left.trailing_zeros() as usize]);
                    let (mut same, mut inner) = (0u32, [0; LANES]);
                    for l in (0..LANES).filter(|l| left >> l & 1 != 0) {
                        let (s, a) = window(addr[l]);
                        if s == space {
                            same |= 1 << l;
                            inner[l] = a;
                        }
                    }
                    match space {
                        Space::Cluster => self.in_shared(at, &inner, same, bytes, access, &mut out)?,
                        Space::Local => self.in_local(at, &inner, same, bytes, &mut out)?,
                        Space::Param => self.in_params(at, &inner, same, bytes, access, &mut out)?,
                        _ => self.global(at, &inner, same, bytes, access, &mut out)?,
                    }
                    left &= !same;
                }
            }
        }
        Ok(out)
    }

    fn global(&mut self, at: At<'_>, addr: &[u64; LANES], m: u32, bytes: u64, access: Access, out: &mut Pointers) -> R<()> {
        let memory = self.run.memory;
        let unique = self.run.options.count && self.run.options.unique;
        let mut hint = self.w.hint;
        for l in (0..LANES).filter(|l| m >> l & 1 != 0) {
            let Some(a) = memory.find(addr[l], bytes, &mut hint) else {
                let near = memory
                    .near(addr[l])
                    .map_or(String::new(), |a| format!("; the nearest allocation is {} at {:#x} with {} bytes", a.name, a.base, a.len));
                return self.fault(
                    at,
                    FaultKind::OutOfBounds,
                    1 << l,
                    Some(addr[l]),
                    format!("an access of {bytes} bytes to device memory that is not there{near}"),
                );
            };
            if a.read_only && access != Access::Load {
                return self.fault(at, FaultKind::ReadOnly, 1 << l, Some(addr[l]), format!("a store to the constant {}", a.name));
            }
            out[l] = a.at(addr[l] - a.base);
            if unique {
                if access != Access::Store {
                    a.touch(addr[l] - a.base, bytes, false);
                }
                if access != Access::Load {
                    a.touch(addr[l] - a.base, bytes, true);
                }
            }
            let [front, end] = at.idle.map(u64::from);
            self.alone(at, a, (addr[l] - a.base + front, bytes - front - end), 1 << l, access != Access::Load)?;
        }
        self.w.hint = hint;
        if access == Access::Atomic || at.order != Order::Weak {
            self.carry(at, addr, m, access);
        }
        if self.run.options.count {
            let t = if access == Access::Load { &mut self.cl.counts.load } else { &mut self.cl.counts.store };
            t.requests += 1;
            t.bytes += bytes * u64::from(m.count_ones());
            t.sectors += count::sectors(addr, m, bytes);
        }
        Ok(())
    }

    fn in_shared(&mut self, at: At<'_>, addr: &[u64; LANES], m: u32, bytes: u64, access: Access, out: &mut Pointers) -> R<()> {
        let size = self.run.shared;
        let groups = self.cl.ctas.len() as u64;
        for l in (0..LANES).filter(|l| m >> l & 1 != 0) {
            let (rank, offset) = (addr[l] >> RANK_SHIFT, addr[l] & ((1 << RANK_SHIFT) - 1));
            if rank > groups || offset + bytes > size {
                return self.fault(
                    at,
                    FaultKind::OutOfBounds,
                    1 << l,
                    Some(addr[l]),
                    format!("an access of {bytes} bytes to shared memory, of which there are {size}"),
                );
            }
            let cta = if rank == 0 { self.cta } else { rank as usize - 1 };
            if self.cl.ctas[cta].alive == 0 {
                return self.fault(at, FaultKind::OutOfBounds, 1 << l, Some(addr[l]), "shared memory of a group that has ended");
            }
            out[l] = self.cl.shared(cta).wrapping_add(offset as usize);
        }
        if self.run.options.count {
            self.count_shared(addr, m, bytes);
        }
        if self.cl.race.is_some() {
            let [front, end] = at.idle.map(u64::from);
            self.check(at, &addr.map(|a| a + front), m, bytes - front - end, access)?;
        }
        Ok(())
    }

    /// Counts an access to shared memory.
    pub(super) fn count_shared(&mut self, addr: &[u64; LANES], m: u32, bytes: u64) {
        let (passes, least) = count::wavefronts(addr, m, bytes);
        let c = &mut self.cl.counts;
        c.shared_requests += 1;
        c.shared_wavefronts += least;
        c.bank_conflicts += passes - least;
    }

    fn in_local(&mut self, at: At<'_>, addr: &[u64; LANES], m: u32, bytes: u64, out: &mut Pointers) -> R<()> {
        let len = u64::from(self.w.local_len);
        for l in (0..LANES).filter(|l| m >> l & 1 != 0) {
            if addr[l].checked_add(bytes).is_none_or(|end| end > len) {
                return self.fault(
                    at,
                    FaultKind::OutOfBounds,
                    1 << l,
                    Some(addr[l]),
                    format!("an access of {bytes} bytes to local memory, of which there are {len}"),
                );
            }
            out[l] = self.w.local.as_mut_ptr().wrapping_add(l * len as usize + addr[l] as usize);
        }
        Ok(())
    }

    fn in_params(&mut self, at: At<'_>, addr: &[u64; LANES], m: u32, bytes: u64, access: Access, out: &mut Pointers) -> R<()> {
        let run = self.run;
        for l in (0..LANES).filter(|l| m >> l & 1 != 0) {
            let (base, len, a) = if addr[l] >= FRAME_PARAMS {
                let p = &mut self.w.frame(at.frame).params;
                let len = p.len() / LANES;
                (p.as_mut_ptr().wrapping_add(l * len), len as u64, addr[l] - FRAME_PARAMS)
            } else {
                if access != Access::Load {
                    return self.fault(at, FaultKind::ReadOnly, 1 << l, Some(addr[l]), "a store to a parameter of the kernel");
                }
                (run.params.as_ptr().cast_mut(), run.params.len() as u64, addr[l])
            };
            if a.checked_add(bytes).is_none_or(|end| end > len) {
                return self.fault(
                    at,
                    FaultKind::OutOfBounds,
                    1 << l,
                    Some(addr[l]),
                    format!("an access of {bytes} bytes to parameters, of which there are {len}"),
                );
            }
            out[l] = base.wrapping_add(a as usize);
        }
        Ok(())
    }

    pub(super) fn load(&mut self, at: At<'_>, mem: Mem) -> R<()> {
        let pool = &at.code.pool[at.i.d as usize..at.i.d as usize + mem.n as usize];
        let unused = |n: usize| mem.bytes * n as u8;
        let front = pool.iter().take_while(|r| **r == SINK).count();
        let end = pool[front..].iter().rev().take_while(|r| **r == SINK).count();
        let at = At { order: mem.order, idle: [unused(front), unused(end)], ..at };
        let addr = self.addresses(at, at.i.a, mem.base, at.i.imm);
        let total = u64::from(mem.bytes) * u64::from(mem.n);
        let p = self.resolve(at, mem.space, &addr, total, Access::Load)?;
        let regs = &mut self.w.frame(at.frame).regs;
        for (e, row) in pool.iter().enumerate().filter(|(_, r)| **r != SINK) {
            let step = e * mem.bytes as usize;
            let lanes = (0..LANES).filter(|l| at.m >> l & 1 != 0);
            if mem.width == Width::W64 {
                let d = regs.get_mut::<u64>(*row);
                for l in lanes {
                    // SAFETY: `resolve` gave a pointer to `total` bytes for every lane of the mask.
                    d[l] = unsafe { read(p[l].wrapping_add(step), mem.bytes, mem.signed) };
                }
            } else if mem.bytes == 4 {
                let d = regs.get_mut::<u32>(*row);
                for l in lanes {
                    // SAFETY: as above, and the pointer is aligned as the address is.
                    d[l] = unsafe { p[l].wrapping_add(step).cast::<u32>().read_unaligned() };
                }
            } else {
                let d = regs.get_mut::<u32>(*row);
                for l in lanes {
                    // SAFETY: as above.
                    d[l] = unsafe { read(p[l].wrapping_add(step), mem.bytes, mem.signed) } as u32;
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, at: At<'_>, mem: Mem) -> R<()> {
        let at = At { order: mem.order, ..at };
        let addr = self.addresses(at, at.i.a, mem.base, at.i.imm);
        let total = u64::from(mem.bytes) * u64::from(mem.n);
        let p = self.resolve(at, mem.space, &addr, total, Access::Store)?;
        let pool = &at.code.pool[at.i.d as usize..at.i.d as usize + mem.n as usize];
        let regs = &self.w.frame(at.frame).regs;
        // Lane after lane, so that the highest of several lanes at one address wins.
        let lanes = (0..LANES).filter(|l| at.m >> l & 1 != 0);
        if mem.width == Width::W64 {
            for l in lanes {
                for (e, row) in pool.iter().enumerate() {
                    // SAFETY: `resolve` gave a pointer to `total` bytes for every lane of the mask.
                    unsafe { write(p[l].wrapping_add(e * mem.bytes as usize), mem.bytes, regs.get::<u64>(*row)[l]) };
                }
            }
        } else {
            for (e, row) in pool.iter().enumerate() {
                let v = regs.get::<u32>(*row);
                for l in lanes.clone() {
                    // SAFETY: as above.
                    unsafe { write(p[l].wrapping_add(e * mem.bytes as usize), mem.bytes, v[l].into()) };
                }
            }
        }
        Ok(())
    }

    pub(super) fn atomic(&mut self, at: At<'_>, atom: Atom) -> R<()> {
        let mem = atom.mem;
        let at = At { order: mem.order, ..at };
        let addr = self.addresses(at, at.i.a, mem.base, at.i.imm);
        let n = mem.n as usize;
        let p = self.resolve(at, mem.space, &addr, u64::from(mem.bytes) * n as u64, Access::Atomic)?;
        let at_pool = at.i.d as usize;
        let get = |pool: &[u32], e: usize| pool.get(at_pool + e).copied().unwrap_or(SINK);
        let regs = &mut self.w.frame(at.frame).regs;
        for e in 0..n {
            let b = regs.wide(get(&at.code.pool, n + e), mem.width);
            let c = if atom.op == AtomOp::Cas { regs.wide(get(&at.code.pool, 2 * n + e), mem.width) } else { [0; LANES] };
            let mut old = [0u64; LANES];
            for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
                let q = p[l].wrapping_add(e * mem.bytes as usize);
                // SAFETY: `resolve` gave a pointer to all elements for every lane of the mask. Kernels with atomics on device memory run on
                // one thread, and shared memory belongs to one.
                unsafe {
                    old[l] = read(q, mem.bytes, false);
                    write(q, mem.bytes, apply(atom, old[l], b[l], c[l]));
                }
            }
            let d = get(&at.code.pool, e);
            if d != SINK && atom.fetch {
                if mem.width == Width::W64 {
                    regs.put::<u64>(d, &old, at.m);
                } else {
                    regs.put::<u32>(d, &old.map(|v| v as u32), at.m);
                }
            }
        }
        Ok(())
    }

    pub(super) fn mapa(&mut self, at: At<'_>, generic: bool) -> R<()> {
        let wide = at.i.imm == 1;
        let regs = &self.w.frame(at.frame).regs;
        let a = regs.wide(at.i.a, if wide { Width::W64 } else { Width::W32 });
        let rank = *regs.get::<u32>(at.i.b);
        let mut o = [0u64; LANES];
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            if rank[l] as usize >= self.cl.ctas.len() {
                return self.fault(
                    at,
                    FaultKind::Operand,
                    1 << l,
                    None,
                    format!("group {} of a cluster of {}", rank[l], self.cl.ctas.len()),
                );
            }
            let inner = if generic { a[l].wrapping_sub(SHARED_WINDOW) } else { a[l] } & ((1 << RANK_SHIFT) - 1);
            o[l] = inner | u64::from(rank[l] + 1) << RANK_SHIFT | if generic { SHARED_WINDOW } else { 0 };
        }
        let regs = &mut self.w.frame(at.frame).regs;
        if wide {
            regs.put::<u64>(at.i.d, &o, at.m)
        } else {
            regs.put::<u32>(at.i.d, &o.map(|v| v as u32), at.m)
        }
        Ok(())
    }

    pub(super) fn get_rank(&mut self, at: At<'_>, generic: bool) {
        let own = u64::from(self.cl.ctas[self.cta].rank);
        let width = if at.i.imm == 1 { Width::W64 } else { Width::W32 };
        let a = self.w.frame(at.frame).regs.wide(at.i.a, width);
        let o = a.map(|a| {
            let a = if generic { a.wrapping_sub(SHARED_WINDOW) } else { a };
            (a >> RANK_SHIFT & 0xff).checked_sub(1).unwrap_or(own) as u32
        });
        self.w.frame(at.frame).regs.put::<u32>(at.i.d, &o, at.m);
    }
}

/// A number of 1, 2, 4 or 8 bytes.
///
/// # Safety
/// So many bytes can be read at `p`.
#[inline(always)]
pub(super) unsafe fn read(p: *const u8, bytes: u8, signed: bool) -> u64 {
    // SAFETY: by contract.
    unsafe {
        match (bytes, signed) {
            (1, false) => p.read().into(),
            (1, true) => p.cast::<i8>().read() as i64 as u64,
            (2, false) => p.cast::<u16>().read_unaligned().into(),
            (2, true) => p.cast::<i16>().read_unaligned() as i64 as u64,
            (4, false) => p.cast::<u32>().read_unaligned().into(),
            (4, true) => p.cast::<i32>().read_unaligned() as i64 as u64,
            _ => p.cast::<u64>().read_unaligned(),
        }
    }
}

/// Stores the lower bytes of a number.
///
/// # Safety
/// So many bytes can be written at `p`.
#[inline(always)]
pub(super) unsafe fn write(p: *mut u8, bytes: u8, v: u64) {
    // SAFETY: by contract.
    unsafe {
        match bytes {
            1 => p.write(v as u8),
            2 => p.cast::<u16>().write_unaligned(v as u16),
            4 => p.cast::<u32>().write_unaligned(v as u32),
            _ => p.cast::<u64>().write_unaligned(v),
        }
    }
}

/// What an atomic operation leaves in memory.
pub(super) fn apply(atom: Atom, old: u64, b: u64, c: u64) -> u64 {
    let bits = atom.ty.bits();
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let (b, c) = (b & mask, c & mask);
    let sext = |v: u64| ((v << (64 - bits)) as i64) >> (64 - bits);
    let pairs = |f: &dyn Fn(u32, u32) -> u32| {
        let (o, b) = (old as u32, b as u32);
        u64::from(f(o & 0xffff, b & 0xffff) | f(o >> 16, b >> 16) << 16)
    };
    let float = |o: f64, x: f64| match atom.op {
        AtomOp::Min => o.min(x),
        AtomOp::Max => o.max(x),
        _ => o + x,
    };
    let f16 = |o: u32, x: u32| match atom.op {
        AtomOp::Add => half_fma::<false>(0, o, 0x3c00, x),
        _ => to_half(float(half(o).into(), half(x).into()) as f32),
    };
    let bf16 = |o: u32, x: u32| match atom.op {
        AtomOp::Add => half_fma::<true>(0, o, 0x3f80, x),
        _ => to_bhalf(float(bhalf(o).into(), bhalf(x).into()) as f32),
    };
    match (atom.op, atom.ty) {
        (AtomOp::Exch, _) => b,
        (AtomOp::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (AtomOp::And, _) => old & b,
        (AtomOp::Or, _) => old | b,
        (AtomOp::Xor, _) => old ^ b,
        (AtomOp::Inc, _) => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        (AtomOp::Dec, _) => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        (AtomOp::Add, Ty::F32) => (f32::from_bits(old as u32) + f32::from_bits(b as u32)).to_bits().into(),
        (_, Ty::F32) => (float(f32::from_bits(old as u32).into(), f32::from_bits(b as u32).into()) as f32).to_bits().into(),
        (_, Ty::F64) => float(f64::from_bits(old), f64::from_bits(b)).to_bits(),
        (_, Ty::F16) => f16(old as u32, b as u32).into(),
        (_, Ty::BF16) => bf16(old as u32, b as u32).into(),
        (_, Ty::F16x2) => pairs(&f16),
        (_, Ty::BF16x2) => pairs(&bf16),
        (AtomOp::Add, _) => old.wrapping_add(b) & mask,
        (AtomOp::Min, t) if t.signed() => (sext(old).min(sext(b)) as u64) & mask,
        (AtomOp::Max, t) if t.signed() => (sext(old).max(sext(b)) as u64) & mask,
        (AtomOp::Min, _) => old.min(b),
        (AtomOp::Max, _) => old.max(b),
    }
}
