// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chips whose device code is a dialect of C++: `simt/chips.txt`, and rows that other crates add.

use std::sync::{PoisonError, RwLock};

const TEXT: &str = include_str!("../../simt/chips.txt");

/// A chip: a row of the table, which says what the numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    /// Folder of the dialect's headers.
    pub dialect: String,
    /// The vendor's compiler's name of it.
    pub arch: String,
    /// Lanes of a warp.
    pub lanes: u32,
    width: u32,
    threads: u32,
    shared: u32,
    free: u32,
    bound: u32,
    orders: bool,
    defines: Vec<String>,
}

impl Chip {
    fn parse(line: &str) -> Option<Chip> {
        let mut words = line.split_whitespace().map(str::to_string);
        let (dialect, arch) = (words.next()?, words.next()?);
        let mut number = || words.next()?.parse::<u32>().ok();
        let (lanes, width, threads) = (number()?, number()?, number()?);
        let (shared, free, bound) = (number()?, number()?, number()?);
        let orders = number()? != 0;
        Some(Chip { dialect, arch, lanes, width, threads, shared, free, bound, orders, defines: words.collect() })
    }

    /// The chip of that dialect and arch.
    pub fn find(dialect: &str, arch: &str) -> Option<Chip> {
        chips().find(|c| c.dialect == dialect && c.arch == arch)
    }

    /// Macros of the compiler's command line.
    pub(crate) fn defines(&self) -> Vec<String> {
        let own = [
            format!("SIMT_CHIP=\"{}\"", self.arch),
            format!("SIMT_LANES={}", self.lanes),
            format!("SIMT_WIDTH={}", self.width),
            format!("SIMT_THREADS={}", self.threads),
            format!("SIMT_SHARED={}", self.shared),
            format!("SIMT_SHARED_FREE={}", self.free),
            format!("SIMT_BOUND={}", self.bound),
            format!("SIMT_WARP_ORDERS={}", u32::from(self.orders)),
        ];
        own.into_iter().chain(self.defines.iter().cloned()).map(|d| format!("-D{d}")).collect()
    }
}

/// All chips, in the table's order, and behind them those that were [`add`]ed.
pub fn chips() -> impl Iterator<Item = Chip> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner).clone();
    rows(TEXT).filter_map(Chip::parse).chain(added)
}

static ADDED: RwLock<Vec<Chip>> = RwLock::new(Vec::new());

/// Adds rows of the table's form for chips that it does not have.
///
/// # Errors
/// A line that is no row, or a chip that is there.
pub fn add(text: &str) -> Result<(), String> {
    for line in rows(text) {
        let chip = Chip::parse(line).ok_or_else(|| format!("`{line}` is no row of the table of chips"))?;
        if chips().any(|c| (&c.dialect, &c.arch) == (&chip.dialect, &chip.arch)) {
            return Err(format!("the emulator knows {chip} already"));
        }
        ADDED.write().unwrap_or_else(PoisonError::into_inner).push(chip);
    }
    Ok(())
}

fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_chip() {
        assert_eq!(rows(TEXT).filter_map(Chip::parse).count(), rows(TEXT).count());
        for c in chips() {
            let whole = c.lanes.is_power_of_two() && c.width.is_power_of_two() && c.width <= c.lanes && c.lanes <= 128;
            assert!(whole && c.free <= c.shared && c.bound <= c.threads && c.threads <= 4096, "{c:?}");
        }
        assert_eq!(Chip::find("musa", "mp_22").map(|c| c.lanes), Some(128));
        assert_eq!(Chip::find("musa", "mp_99"), None);
    }

    #[test]
    fn rows_are_added_once() {
        let row = "musa mp_added 64 64 512 4096 4096 512 0 __ADDED__=1";
        assert_eq!(Chip::find("musa", "mp_added"), None);
        assert_eq!(add(&format!("# a chip\n{row}\n")), Ok(()));
        assert_eq!(Chip::find("musa", "mp_added").map(|c| c.lanes), Some(64));
        assert!(add(row).is_err() && add("musa mp_1 no row").is_err());
    }
}
