// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Choices: from bytes, which a mutation can change one by one, and from a seed when these are spent.

/// A source of choices.
#[derive(Clone, Debug)]
pub struct Draw<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl<'a> Draw<'a> {
    /// Choices of these bytes, then of what follows from them.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        let state = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
        Draw { bytes, state }
    }
    /// Choices of a seed.
    pub fn seed(seed: u64) -> Draw<'static> {
        Draw { bytes: &[], state: seed }
    }
    /// 64 bits of the generator (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n`, 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n < 2 {
            return 0;
        }
        match self.bytes.split_first() {
            Some((&b, rest)) if n <= 256 => {
                self.bytes = rest;
                usize::from(b) % n
            }
            _ => (self.next() % n as u64) as usize,
        }
    }
    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// One of a list.
    pub fn pick<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        let i = self.below(list.len());
        list.get(i)
    }
}
