// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a launch did, counted.

use serde::{Deserialize, Serialize};

use super::instr::{CLASSES, Class};

/// Traffic between the chip and device memory in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Accesses of warps.
    pub requests: u64,
    /// Bytes that lanes asked for.
    pub bytes: u64,
    /// Sectors of 32 bytes that the accesses of each warp touch.
    pub sectors: u64,
    /// Bytes touched at all, each once: what must move at least. Zero without [`super::Options::unique`].
    pub unique: u64,
}

impl Traffic {
    /// Share of the bytes of sectors that lanes asked for.
    pub fn efficiency(&self) -> f64 {
        if self.sectors == 0 { 1.0 } else { self.bytes as f64 / (self.sectors * 32) as f64 }
    }
}

/// Counts of a launch. Instructions are those of warps: one for all lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Instructions of warps.
    pub instructions: u64,
    /// Instructions of lanes.
    pub lanes: u64,
    /// Instructions of warps by [`Class`], in its order.
    pub classes: Vec<u64>,
    /// Loads from device memory.
    pub load: Traffic,
    /// Stores to device memory.
    pub store: Traffic,
    /// Accesses of warps to shared memory.
    pub shared_requests: u64,
    /// Passes that the banks need for them at least.
    pub shared_wavefronts: u64,
    /// Passes that bank conflicts add.
    pub bank_conflicts: u64,
    /// Barriers of groups that were passed, once a group.
    pub barriers: u64,
    /// Multiply-adds of matrix instructions.
    pub mma_ops: u64,
    /// Groups.
    pub groups: u64,
    /// What kernels printed.
    pub printed: String,
}

impl Counts {
    /// Nothing counted.
    pub fn new() -> Counts {
        Counts { classes: vec![0; CLASSES], ..Counts::default() }
    }

    /// Instructions of a class.
    pub fn of(&self, class: Class) -> u64 {
        self.classes.get(class as usize).copied().unwrap_or(0)
    }

    /// Adds another part of the launch.
    pub fn add(&mut self, o: &Counts) {
        self.instructions += o.instructions;
        self.lanes += o.lanes;
        self.classes.resize(CLASSES, 0);
        for (a, b) in self.classes.iter_mut().zip(&o.classes) {
            *a += b;
        }
        for (a, b) in [(&mut self.load, &o.load), (&mut self.store, &o.store)] {
            a.requests += b.requests;
            a.bytes += b.bytes;
            a.sectors += b.sectors;
            a.unique += b.unique;
        }
        self.shared_requests += o.shared_requests;
        self.shared_wavefronts += o.shared_wavefronts;
        self.bank_conflicts += o.bank_conflicts;
        self.barriers += o.barriers;
        self.mma_ops += o.mma_ops;
        self.groups += o.groups;
        self.printed.push_str(&o.printed);
    }
}

/// Sectors of 32 bytes that lanes touch; an access of a lane is aligned, so it lies in as many sectors as its bytes fill.
pub(crate) fn sectors(addresses: &[u64; 32], mask: u32, bytes: u64) -> u64 {
    let each = bytes.div_ceil(32).max(1);
    let mut list = [0u64; 32];
    let (mut n, mut sorted) = (0, true);
    for (l, a) in addresses.iter().enumerate() {
        if mask >> l & 1 != 0 {
            let s = a / 32;
            if n > 0 {
                if list[n - 1] == s {
                    continue;
                }
                sorted &= list[n - 1] < s;
            }
            list[n] = s;
            n += 1;
        }
    }
    if !sorted {
        list[..n].sort_unstable();
        let mut k = 0;
        for i in 0..n {
            if i == 0 || list[i] != list[k - 1] {
                list[k] = list[i];
                k += 1;
            }
        }
        n = k;
    }
    n as u64 * each
}

/// Passes of 32 banks of 4 bytes for an access, and how many it would need without conflicts. Lanes with accesses of 8 or 16 bytes go in
/// two or four parts; lanes of a part that want the same word share it.
pub(crate) fn wavefronts(addresses: &[u64; 32], mask: u32, bytes: u64) -> (u64, u64) {
    let words = bytes.div_ceil(4).max(1);
    let lanes = (32 / words).max(1) as usize;
    let (mut passes, mut least) = (0, 0);
    for part in 0..32 / lanes {
        // Per bank: the words wanted.
        let (mut first, mut count) = ([u64::MAX; 32], [0u64; 32]);
        let mut more = [[u64::MAX; 8]; 32];
        let mut distinct = 0u64;
        for l in part * lanes..(part + 1) * lanes {
            if mask >> l & 1 == 0 {
                continue;
            }
            for w in addresses[l] / 4..addresses[l] / 4 + words {
                let b = (w % 32) as usize;
                if count[b] == 0 {
                    (first[b], count[b]) = (w, 1);
                    distinct += 1;
                } else if first[b] != w {
                    let kept = (count[b] as usize - 1).min(8);
                    if !more[b][..kept].contains(&w) {
                        if kept < 8 {
                            more[b][kept] = w;
                        }
                        count[b] += 1;
                        distinct += 1;
                    }
                }
            }
        }
        if distinct > 0 {
            passes += count.iter().max().copied().unwrap_or(0);
            least += distinct.div_ceil(32);
        }
    }
    (passes, least)
}

/// Counts one instruction.
#[inline(always)]
pub(crate) fn one(c: &mut Counts, class: Class, lanes: u32) {
    c.instructions += 1;
    c.lanes += u64::from(lanes);
    if let Some(n) = c.classes.get_mut(class as usize) {
        *n += 1;
    }
}
