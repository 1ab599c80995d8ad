// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trips to the banks of shared memory, by the layout that the kernel gives its buffers.
//!
//! Lanes of a warp that access memory together take as many trips as the busiest bank has different words; a trip serves so many lanes as
//! the width of all banks allows. Fragments come as rows of 16 bytes, eight at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::code::Block;
use super::machine::Machine;
use crate::entity::EntityId;
use crate::kernel::{BufId, Layout, Space};

/// Bytes of a word of a bank.
const WORD: u64 = 4;

/// What a lane touches: the lane, the first element (as strides have it) and how many neighbors.
pub(super) type Touch = (usize, usize, usize);

impl Machine<'_, '_> {
    /// Whether accesses to that buffer are counted.
    pub(super) fn counts(&self, buf: BufId) -> bool {
        self.opt.banks > 0 && self.k.bufs.get(buf).is_some_and(|b| b.space == Space::Shared)
    }
    /// Counts the trips of one statement.
    pub(super) fn count_trips(&mut self, buf: BufId, touches: &[Touch]) {
        let (Some(b), Some(shape)) = (self.k.bufs.get(buf), self.p.bufs.get(buf.index())) else { return };
        let Some(size) = b.dtype.bytes().map(u64::from) else { return };
        let row_len = shape.dims.last().copied().unwrap_or(1).max(1) as u64;
        // Where an element lies; permutations that only the hardware makes are not followed.
        let place = |e: u64| match b.layout {
            Layout::Xor { unit, shift, mask } => {
                let (row, c, unit) = (e / row_len, e % row_len, u64::from(unit.max(1)));
                row * row_len + ((c / unit) ^ ((row >> shift) & u64::from(mask))) * unit + c % unit
            }
            _ => e,
        };
        let warp = self.k.launch.warp.max(1) as usize;
        let mut by_warp: BTreeMap<usize, Vec<&Touch>> = BTreeMap::new();
        touches.iter().for_each(|t| by_warp.entry(t.0 / warp).or_default().push(t));
        let banks = u64::from(self.opt.banks);
        for lanes in by_warp.values() {
            let widest = lanes.iter().map(|t| t.2 as u64 * size).max().unwrap_or(WORD).max(WORD);
            for together in lanes.chunks((banks * WORD / widest).max(1) as usize) {
                let mut words: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
                for (_, at, n) in together.iter().copied() {
                    for e in 0..*n as u64 {
                        let word = place(*at as u64 + e) * size / WORD;
                        words.entry(word % banks).or_default().insert(word);
                    }
                }
                let all: usize = words.values().map(BTreeSet::len).sum();
                self.out.trips += words.values().map(BTreeSet::len).max().unwrap_or(0) as u64;
                self.out.least_trips += (all as u64).div_ceil(banks);
            }
        }
    }
    /// Counts the trips of a fragment's block whose first element is `corner`.
    pub(super) fn count_fragment(&mut self, b: &Block, lane: usize, corner: usize) {
        let Some(buf) = self.k.bufs.get(b.buf) else { return };
        let Some(per) = buf.dtype.bytes().map(|s| (16 / s).max(1) as usize) else { return };
        let strides = &self.p.bufs[b.buf.index()].strides;
        let long: Vec<usize> = (0..b.len.len()).filter(|d| b.len[*d] > 1).collect();
        let &[p, q] = long.as_slice() else { return };
        let (rows, step, cols) = (b.len[p] as usize, strides[p] as usize, b.len[q] as usize);
        let first = lane / self.k.launch.warp.max(1) as usize * self.k.launch.warp.max(1) as usize;
        for column in (0..cols).step_by(per) {
            for row in (0..rows).step_by(8) {
                let touches: Vec<Touch> =
                    (row..rows.min(row + 8)).map(|r| (first, corner + r * step + column, per.min(cols - column))).collect();
                self.count_trips(b.buf, &touches);
            }
        }
    }
}
