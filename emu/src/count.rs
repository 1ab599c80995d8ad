// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts of executed instructions, from the log that qemu writes.
//!
//! qemu packaged as a static program takes no plugins, but its log tells the same: once what instructions a block has (`IN:` and a
//! line for each), and then, with blocks kept apart (`nochain`), a line `Trace` for every execution of one. Instructions of a block
//! times its executions, by the function that the block lies in, is the count; the library is put at a fixed address so that
//! nothing else need be logged.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::Count;

/// Where the runner puts the library (`PLACE` in `c/runner.c`), and how much of what follows is logged.
const PLACE: u64 = 0x20_0000_0000;
const REACH: u64 = 1 << 30;

/// Arguments that make qemu write the log to its stderr.
pub(crate) fn arguments() -> [String; 4] {
    ["-d".into(), "in_asm,exec,nochain".into(), "-dfilter".into(), format!("{PLACE:#x}+{REACH:#x}")]
}

/// The line that the runner writes when a run has ended, among those of the log (`c/runner.c`).
const MARK: &[u8] = b"end of a run";

/// What the log said so far.
#[derive(Debug, Default)]
struct Log {
    /// Blocks by their first address: instructions in one, and how often it was executed.
    blocks: HashMap<u64, (u64, u64)>,
    /// Runs that have ended.
    runs: u64,
    /// Nothing more will come.
    closed: bool,
}

/// The log of a process, as its reader fills it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    log: Mutex<Log>,
    more: Condvar,
}

impl Tally {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log once it has told of so many runs, or of all there will be: a reply comes another way, and sooner.
    fn after(&self, runs: u64) -> MutexGuard<'_, Log> {
        self.more.wait_while(self.log(), |l| l.runs < runs && !l.closed).unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, what: impl FnOnce(&mut Log)) {
        what(&mut self.log());
        self.more.notify_all();
    }
}

/// Counts of a process, by function of its library.
#[derive(Debug)]
pub(crate) struct Counter {
    tally: Arc<Tally>,
    /// Runs that were asked for.
    runs: u64,
    /// First address, end and name of each function, in order.
    functions: Vec<(u64, u64, String)>,
    base: u64,
}

impl Counter {
    pub(crate) fn new(library: &Path) -> Counter {
        let bytes = std::fs::read(library).unwrap_or_default();
        Counter { tally: Arc::default(), runs: 0, functions: functions(&bytes).unwrap_or_default(), base: PLACE }
    }

    pub(crate) fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// A run has ended.
    pub(crate) fn ran(&mut self) {
        self.runs += 1;
    }

    /// The library lies there.
    pub(crate) fn place(&mut self, base: u64) {
        self.base = base;
    }

    /// Counts since the last call, largest first.
    pub(crate) fn take(&mut self) -> Vec<Count> {
        let mut sums: HashMap<&str, u64> = HashMap::new();
        let mut log = self.tally.after(self.runs);
        for (address, (instructions, times)) in &mut log.blocks {
            let at = address.wrapping_sub(self.base);
            let i = self.functions.partition_point(|f| f.0 <= at);
            let name = i.checked_sub(1).and_then(|i| self.functions.get(i)).filter(|f| at < f.1).map_or("?", |f| f.2.as_str());
            let n = std::mem::take(times) * *instructions;
            if n > 0 {
                *sums.entry(name).or_default() += n;
            }
        }
        let mut out: Vec<Count> =
            sums.into_iter().map(|(function, instructions)| Count { function: function.into(), instructions, device: None }).collect();
        out.sort_by(|a, b| b.instructions.cmp(&a.instructions).then_with(|| a.function.cmp(&b.function)));
        out
    }
}

/// The program counter of a line `Trace 0: 0x7f5d14000100 [00000000/0000002000012345/00000011/ff200000] name`.
fn executed(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"Trace ")?;
    let open = rest.iter().position(|b| *b == b'[')?;
    let field = rest.get(open + 1..)?.split(|b| *b == b'/').nth(1)?;
    hex(field)
}

/// The program counter of a line `Stopped execution of TB chain before 0x7f5d14000100 [0000002000012345] name`: the execution that was
/// announced last did not take place.
fn stopped(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"Stopped execution of TB chain before ")?;
    let open = rest.iter().position(|b| *b == b'[')?;
    hex(rest.get(open + 1..)?.split(|b| *b == b']').next()?)
}

/// The address of a line `0x200001cbec:  7100041f  cmp      w0, #1`.
fn instruction(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"0x")?;
    hex(rest.get(..rest.iter().position(|b| *b == b':')?)?)
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digit = |d: u8| (d as char).to_digit(16).map(u64::from);
    if digits.is_empty() || digits.len() > 16 { None } else { digits.iter().try_fold(0, |v, d| Some(v << 4 | digit(*d)?)) }
}

/// Reads what a process says on stderr until it ends; gives its last line that is not of the log.
pub(crate) fn listen(from: impl BufRead, tally: Option<&Tally>) -> String {
    let last = read(from, tally);
    if let Some(tally) = tally {
        tally.say(|l| l.closed = true);
    }
    last
}

fn read(mut from: impl BufRead, tally: Option<&Tally>) -> String {
    let (mut line, mut last) = (Vec::new(), String::new());
    // The block whose instructions are being listed: its first address and how many there were.
    let mut block: Option<(u64, u64)> = None;
    loop {
        line.clear();
        if !from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            return last;
        }
        let text = line.trim_ascii_end();
        let Some(tally) = tally else {
            if !text.is_empty() {
                last = String::from_utf8_lossy(text).into_owned();
            }
            continue;
        };
        if let Some(at) = executed(text) {
            tally.log().blocks.entry(at).or_default().1 += 1;
        } else if let Some(at) = stopped(text) {
            let mut log = tally.log();
            let times = &mut log.blocks.entry(at).or_default().1;
            *times = times.saturating_sub(1);
        } else if let Some(at) = instruction(text) {
            block = Some(block.map_or((at, 1), |(first, n)| (first, n + 1)));
        } else if text.is_empty() || text.starts_with(b"---") || text.starts_with(b"IN:") {
            if let Some((first, n)) = block.take() {
                tally.log().blocks.entry(first).or_default().0 = n;
            }
        } else if text == MARK {
            tally.say(|l| l.runs += 1);
        } else {
            last = String::from_utf8_lossy(text).into_owned();
        }
    }
}

/// Functions of an ELF64 little-endian library, by its whole symbol table; `None` if it is damaged.
fn functions(elf: &[u8]) -> Option<Vec<(u64, u64, String)>> {
    let n = |at: u64, bytes: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let raw = elf.get(at..at.checked_add(bytes)?)?;
        Some(raw.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    };
    let (table, entry, count) = (n(40, 8)?, n(58, 2)?, n(60, 2)?);
    let section = |i: u64| table.checked_add(i.checked_mul(entry)?);
    let mut out = Vec::new();
    for i in 0..count {
        let head = section(i)?;
        // SHT_SYMTAB
        if n(head.checked_add(4)?, 4)? != 2 {
            continue;
        }
        let field = |by: u64, bytes| n(head.checked_add(by)?, bytes);
        let (at, bytes, link) = (field(24, 8)?, field(32, 8)?, field(40, 4)?);
        let strings = n(section(link)?.checked_add(24)?, 8)?;
        for s in 0..bytes / 24 {
            let sym = at.checked_add(s * 24)?;
            let field = |by: u64, bytes| n(sym.checked_add(by)?, bytes);
            let (name, info, value, size) = (field(0, 4)?, field(4, 1)?, field(8, 8)?, field(16, 8)?);
            // STT_FUNC
            if info & 15 != 2 || size == 0 {
                continue;
            }
            let from = usize::try_from(strings.checked_add(name)?).ok()?;
            let text = elf.get(from..)?.split(|b| *b == 0).next()?;
            out.push((value, value.checked_add(size)?, String::from_utf8_lossy(text).into_owned()));
        }
    }
    out.sort();
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LOG: &str = "----------------\nIN: \n0x2000000010:  7100041f  cmp w0, #1\n0x2000000014:  d65f03c0  ret\n\n\
        Trace 0: 0x7f588260e340 [81009b31/0000002000000010/00000001/00000200] \n\
        ----------------\nIN: \n0x2000000020:  157d   addi a0,a0,-1\n\n\
        Trace 0: 0x7f588260e940 [0/0000002000000020/00000001/00000200] \nTrace 0: 0x7f588260e940 [0/2000000020/1/2] f\n\
        qemu: uncaught target signal 11\n";

    #[test]
    fn a_log_is_counted_by_function() {
        let mut c =
            Counter { tally: Arc::default(), runs: 0, functions: vec![(0x10, 0x18, "f".into()), (0x20, 0x30, "g".into())], base: PLACE };
        let tally = c.tally();
        assert_eq!(listen(LOG.as_bytes(), Some(&tally)), "qemu: uncaught target signal 11");
        let count = |function: &str, instructions| Count { function: function.into(), instructions, device: None };
        assert_eq!(c.take(), [count("f", 2), count("g", 2)]);
        assert_eq!(c.take(), []);
        // What a block has is kept: it is only said once.
        listen(&b"Trace 0: 0x1 [0/2000000010/0/0]\nTrace 0: 0x1 [0/zz/0/0]\nTrace\n0x:\n"[..], Some(&tally));
        assert_eq!(c.take(), [count("f", 2)]);
        listen(&b"Trace 0: 0x1 [0/2000000010/0/0]\nStopped execution of TB chain before 0x1 [0000002000000010] f\n"[..], Some(&tally));
        assert_eq!(c.take(), []);
        assert_eq!(listen(LOG.as_bytes(), None), "qemu: uncaught target signal 11");
    }

    #[test]
    fn counts_are_taken_when_the_log_has_told_of_the_run() {
        let mut c = Counter { tally: Arc::default(), runs: 0, functions: vec![(0x10, 0x18, "f".into())], base: PLACE };
        let (tally, (reader, mut writer)) = (c.tally(), std::io::pipe().unwrap());
        let log = std::thread::spawn(move || listen(std::io::BufReader::new(reader), Some(&tally)));
        writer.write_all(b"IN:\n0x2000000010:  00  nop\n\n").unwrap();
        c.ran();
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            writer.write_all(b"Trace 0: 0x1 [0/2000000010/0/0]\n\nend of a run\n").unwrap();
            writer
        });
        let once = [Count { function: "f".into(), instructions: 1, device: None }];
        assert_eq!(c.take(), once);
        // Where a process ends in a run, what was told is all there is.
        c.ran();
        late.join().unwrap().write_all(b"Trace 0: 0x1 [0/2000000010/0/0]\n").unwrap();
        assert_eq!(c.take(), once);
        log.join().unwrap();
    }

    #[test]
    fn no_bytes_make_the_symbol_table_panic() {
        assert_eq!(functions(b""), None);
        let mut elf = vec![0xff; 256];
        assert_eq!(functions(&elf), None);
        elf[58..62].copy_from_slice(&[64, 0, 1, 0]);
        elf[40..48].copy_from_slice(&64u64.to_le_bytes());
        assert_eq!(functions(&elf), Some(Vec::new()));
        elf[68..72].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(functions(&elf), None);
    }
}
