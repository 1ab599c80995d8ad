// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Device memory: allocations with room between them, so that an address that no allocation holds is a fault.

use std::sync::atomic::{AtomicU64, Ordering};

use super::owners::Owners;

/// Addresses begin here.
const FIRST: u64 = 0x7f00_0000_0000;
/// Alignment of an allocation, as the driver's.
const ALIGN: u64 = 512;
/// Room behind an allocation.
const GUARD: u64 = 4096;

/// One allocation.
#[derive(Debug)]
pub(crate) struct Alloc {
    pub base: u64,
    pub len: u64,
    pub name: String,
    pub read_only: bool,
    data: Box<[AtomicU64]>,
    /// One bit a byte: loaded, stored.
    touched: [Vec<AtomicU64>; 2],
    /// Groups of the launch that were there.
    pub owners: Owners,
}

impl Alloc {
    /// The byte at an offset; `offset <= len`.
    #[inline(always)]
    pub fn at(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset <= self.len);
        // Words are atomics, whose content may change behind a shared reference.
        self.data.as_ptr().cast::<u8>().wrapping_add(offset as usize).cast_mut()
    }

    /// Marks bytes as loaded or stored.
    #[inline(always)]
    pub fn touch(&self, offset: u64, bytes: u64, store: bool) {
        let bits = &self.touched[usize::from(store)];
        let (word, shift) = ((offset / 64) as usize, offset % 64);
        let mask = if bytes >= 64 { u64::MAX } else { (1 << bytes) - 1 };
        let Some(w) = bits.get(word) else { return };
        let low = mask << shift;
        if w.load(Ordering::Relaxed) & low != low {
            w.fetch_or(low, Ordering::Relaxed);
        }
        if shift + bytes > 64
            && let Some(w) = bits.get(word + 1)
        {
            w.fetch_or(mask >> (64 - shift), Ordering::Relaxed);
        }
    }
}

/// All allocations, by address.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub allocs: Vec<Alloc>,
    next: u64,
}

impl Memory {
    /// New memory of zeros.
    pub fn alloc(&mut self, len: u64, align: u64, name: &str, read_only: bool) -> u64 {
        let base = self.next.max(FIRST).next_multiple_of(align.max(ALIGN));
        self.next = base + len + GUARD;
        let words = len.div_ceil(8) as usize;
        let data = (0..words).map(|_| AtomicU64::new(0)).collect();
        self.allocs.push(Alloc {
            base,
            len,
            name: name.to_owned(),
            read_only,
            data,
            touched: [Vec::new(), Vec::new()],
            owners: Owners::default(),
        });
        base
    }

    /// Gives memory back.
    pub fn free(&mut self, base: u64) -> bool {
        let before = self.allocs.len();
        self.allocs.retain(|a| a.base != base);
        self.allocs.len() < before
    }

    /// Index of the allocation that holds bytes; `hint` is tried first and set.
    #[inline(always)]
    pub fn find(&self, address: u64, bytes: u64, hint: &mut usize) -> Option<&Alloc> {
        if let Some(a) = self.allocs.get(*hint)
            && address.wrapping_sub(a.base) < a.len
        {
            return (a.len - (address - a.base) >= bytes).then_some(a);
        }
        let i = self.allocs.partition_point(|a| a.base <= address).checked_sub(1)?;
        let a = &self.allocs[i];
        let inside = address - a.base < a.len && a.len - (address - a.base) >= bytes;
        if inside {
            *hint = i;
        }
        inside.then_some(a)
    }

    /// The allocation nearest to an address, for messages.
    pub fn near(&self, address: u64) -> Option<&Alloc> {
        let i = self.allocs.partition_point(|a| a.base <= address);
        let below = i.checked_sub(1).and_then(|i| self.allocs.get(i));
        let above = self.allocs.get(i);
        match (below, above) {
            (Some(b), Some(a)) if a.base - address < address - (b.base + b.len).min(address) => Some(a),
            (None, a) => a,
            (b, _) => b,
        }
    }

    /// Forgets which bytes were touched, and by which groups, or stops noting it.
    pub fn watch(&mut self, bytes: bool, groups: bool) {
        for a in &mut self.allocs {
            let n = if bytes { a.len.div_ceil(64) as usize } else { 0 };
            a.touched = [(); 2].map(|()| (0..n).map(|_| AtomicU64::new(0)).collect());
            a.owners.reset(if groups { a.len } else { 0 });
        }
    }

    /// Bytes touched since then.
    pub fn watched(&self, store: bool) -> u64 {
        let ones = |a: &Alloc| a.touched[usize::from(store)].iter().map(|w| u64::from(w.load(Ordering::Relaxed).count_ones())).sum::<u64>();
        self.allocs.iter().map(ones).sum()
    }

    /// Copies bytes into memory; false where they do not fit.
    pub fn write(&self, address: u64, bytes: &[u8]) -> bool {
        let mut hint = 0;
        let Some(a) = self.find(address, bytes.len() as u64, &mut hint) else { return bytes.is_empty() };
        // SAFETY: `find` says that the bytes lie inside the allocation, and no kernel runs while the machine is borrowed here.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), a.at(address - a.base), bytes.len()) };
        true
    }

    /// Copies bytes out of memory; false where they are not there.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let mut hint = 0;
        let Some(a) = self.find(address, bytes.len() as u64, &mut hint) else { return bytes.is_empty() };
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(a.at(address - a.base), bytes.as_mut_ptr(), bytes.len()) };
        true
    }
}
