// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was found once is found no more, and random inputs of fixed seeds find nothing. `PORTWRIGHT_FUZZ_SECONDS` makes it look longer.

use std::time::{Duration, Instant};

use portwright_fuzz::draw::Draw;
use portwright_fuzz::hunt::{corpus, one};
use portwright_fuzz::targets::TARGETS;

#[test]
fn finds_stay_away() {
    let mut bad = Vec::new();
    for t in TARGETS {
        for e in std::fs::read_dir(corpus().join(t.name)).into_iter().flatten().flatten() {
            let data = std::fs::read(e.path()).unwrap();
            if let Err(message) = one(t, &data) {
                bad.push(format!("{}/{}: {message}", t.name, e.file_name().display()));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// A legal graph is compiled and computes what it means, models are refused or right, files are refused or read.
#[test]
fn random_inputs_of_fixed_seeds() {
    let seconds = std::env::var("PORTWRIGHT_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8u64);
    let each = Duration::from_secs(seconds) / TARGETS.len() as u32;
    let mut bad = Vec::new();
    for t in TARGETS {
        let start = Instant::now();
        let mut last = Vec::new();
        for seed in 0u64.. {
            if start.elapsed() > each || seed >= 400 && seconds <= 8 {
                break;
            }
            let mut d = Draw::seed(seed);
            // In turn a new input, and a changed one.
            let data = if seed % 2 == 0 { (t.fresh)(&mut d) } else { (t.mutate)(&last, &mut d) };
            if let Err(message) = one(t, &data) {
                bad.push(format!("{} seed {seed}: {message}", t.name));
            }
            last = data;
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
