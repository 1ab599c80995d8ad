// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which groups of a launch have touched device memory.
//!
//! Nothing orders the groups of a launch that do not communicate, so two of them may share bytes only if neither writes there. A word keeps the
//! group that wrote it and the one that read it, or that several did; where an access takes a part of a word, its bytes keep them too.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Several groups.
const MANY: u32 = u32::MAX;

/// The writer below, the reader above; 0 for nobody.
type Cells = Box<[AtomicU64]>;

#[derive(Debug)]
struct Page {
    words: Cells,
    bytes: OnceLock<Cells>,
}

/// The groups of one allocation, by page.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    pages: Vec<OnceLock<Page>>,
}

/// Another group's access to the same byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clash {
    /// Its offset in the allocation.
    pub offset: u64,
    /// Whether the other one is a store.
    pub wrote: bool,
    /// Number of the other group from 0, where it is one.
    pub group: Option<u32>,
}

fn cells(n: u64) -> Cells {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

/// What group `who` may not meet in a cell.
fn judged(cell: u64, who: u32, store: bool, offset: u64) -> Result<(), Clash> {
    let (writer, reader) = (cell as u32, (cell >> 32) as u32);
    let other = |x: u32, wrote| Err(Clash { offset, wrote, group: (x != MANY).then(|| x - 1) });
    if writer != 0 && writer != who {
        return other(writer, true);
    }
    if store && reader != 0 && reader != who {
        return other(reader, false);
    }
    Ok(())
}

/// Judges a cell, and notes the access there.
fn mark(cell: &AtomicU64, who: u32, store: bool, offset: u64) -> Result<(), Clash> {
    let mut old = cell.load(Ordering::SeqCst);
    loop {
        judged(old, who, store, offset)?;
        let new = match (store, (old >> 32) as u32) {
            (true, _) => old & !u64::from(u32::MAX) | u64::from(who),
            (false, 0) => old | u64::from(who) << 32,
            (false, reader) if reader != who => old | u64::from(MANY) << 32,
            _ => old,
        };
        if new == old {
            return Ok(());
        }
        match cell.compare_exchange_weak(old, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok(()),
            Err(now) => old = now,
        }
    }
}

impl Owners {
    /// Of an allocation of so many bytes, where they are noted.
    pub fn new(len: u64) -> Owners {
        Owners { pages: (0..len.div_ceil(PAGE)).map(|_| OnceLock::new()).collect() }
    }

    /// Forgets everybody; `len` is 0 where nothing is noted.
    pub fn reset(&mut self, len: u64) {
        if self.pages.len() as u64 != len.div_ceil(PAGE) {
            *self = Owners::new(len);
        }
        self.pages.iter_mut().for_each(|p| drop(p.take()));
    }

    /// Notes an access of group `who`, counted from 1, to bytes of the allocation.
    ///
    /// # Errors
    /// Another group that nothing orders with this one.
    pub fn access(&self, offset: u64, bytes: u64, who: u32, store: bool) -> Result<(), Clash> {
        let (mut at, end) = (offset, offset + bytes);
        while at < end {
            let word = at / 4 * 4;
            let next = end.min(word + 4);
            let Some(page) = self.pages.get((word / PAGE) as usize) else { return Ok(()) };
            let page = page.get_or_init(|| Page { words: cells(PAGE / 4), bytes: OnceLock::new() });
            let inside = word % PAGE;
            let Some(cell) = page.words.get((inside / 4) as usize) else { return Ok(()) };
            if next - at == 4 {
                // Its own mark first, then what others left: of two groups at once, one sees the other.
                mark(cell, who, store, word)?;
                if let Some(own) = page.bytes.get() {
                    for (b, cell) in (word..).zip(own.iter().skip(inside as usize).take(4)) {
                        judged(cell.load(Ordering::SeqCst), who, store, b)?;
                    }
                }
            } else {
                let own = page.bytes.get_or_init(|| cells(PAGE));
                for b in at..next {
                    if let Some(cell) = own.get((b % PAGE) as usize) {
                        mark(cell, who, store, b)?;
                    }
                }
                judged(cell.load(Ordering::SeqCst), who, store, at)?;
            }
            at = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_what_nobody_writes() {
        let o = Owners::new(10_000);
        for who in 1..4 {
            o.access(4000, 200, who, false).unwrap();
        }
        let met = o.access(4100, 4, 1, true).unwrap_err();
        assert_eq!(met, Clash { offset: 4100, wrote: false, group: None });
    }

    #[test]
    fn bytes_of_one_word_have_their_own_groups() {
        let o = Owners::new(64);
        o.access(0, 2, 1, true).unwrap();
        o.access(2, 2, 2, true).unwrap();
        assert_eq!(o.access(0, 4, 1, false).unwrap_err(), Clash { offset: 2, wrote: true, group: Some(1) });
        assert_eq!(o.access(1, 1, 2, false).unwrap_err(), Clash { offset: 1, wrote: true, group: Some(0) });
        o.access(8, 4, 1, true).unwrap();
        assert_eq!(o.access(9, 1, 2, false).unwrap_err(), Clash { offset: 9, wrote: true, group: Some(0) });
        o.access(9, 1, 1, false).unwrap();
    }

    #[test]
    fn a_launch_forgets_the_one_before() {
        let mut o = Owners::new(64);
        o.access(0, 16, 1, true).unwrap();
        o.reset(64);
        o.access(0, 16, 2, true).unwrap();
        o.reset(0);
        o.access(0, 16, 3, true).unwrap();
    }
}
