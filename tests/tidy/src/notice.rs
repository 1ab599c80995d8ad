// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NOTICE lists the crates of `Cargo.lock`; `cargo xtask notice` writes the list, this module says whether it is current.

use crate::{Fault, File};

/// Beginning of the line in NOTICE that carries the [`digest`].
pub const DIGEST_LINE: &str = "Crates of Cargo.lock, digest ";

/// Digest of the names and versions of all crates from a registry in the text of a `Cargo.lock`: FNV-1a, 16 hex digits.
pub fn digest(lock: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for package in lock.split("[[package]]").skip(1) {
        if !package.contains("\nsource = ") {
            continue;
        }
        for line in package.lines().filter(|line| line.starts_with("name = ") || line.starts_with("version = ")) {
            for byte in line.bytes().chain([b'\n']) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    format!("{hash:016x}")
}

/// Checks that NOTICE was written for this `Cargo.lock`.
pub fn check(files: &[File], faults: &mut Vec<Fault>) {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let (Some(lock), Some(notice)) = (text("Cargo.lock"), text("NOTICE")) else { return };
    let written = notice.lines().find_map(|line| line.strip_prefix(DIGEST_LINE));
    if written.map(|line| line.trim_end_matches('.')) != Some(digest(lock).as_str()) {
        faults.push(Fault::new("NOTICE", 0, "stale-notice", "Cargo.lock has changed: run `cargo xtask notice`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str =
        "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";

    fn faults(notice: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        check(&[File::new("Cargo.lock", LOCK), File::new("NOTICE", notice)], &mut faults);
        faults
    }

    #[test]
    fn a_stale_notice_is_caught() {
        assert_eq!(faults(&format!("{DIGEST_LINE}0000000000000000.\n"))[0].rule, "stale-notice");
        assert_eq!(faults("nothing\n")[0].rule, "stale-notice");
        assert!(faults(&format!("{DIGEST_LINE}{}.\n", digest(LOCK))).is_empty());
    }

    #[test]
    fn the_digest_is_of_registry_crates() {
        assert_ne!(digest(LOCK), digest(&LOCK.replace("1.0.0", "1.0.1")));
        assert_eq!(digest(LOCK), digest(&LOCK.replace("0.1.0", "0.2.0")));
    }
}
