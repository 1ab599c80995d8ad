// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One harness: every trial is a case and what is done with it, as `core/softmax-odd::x86-64-v4::fused`.
//!
//! `cargo test -p portwright-tests --test cases -- softmax` runs the trials of that name; `cargo xtask bless` accepts what the stages are
//! now. Trials that this machine cannot run are counted as ignored, with the reason; the last lines list the reasons.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod core;
mod expect;
mod skip;
mod snap;

#[cfg(feature = "mlir")]
mod native;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    let mut kept = snap::Kept::default();
    core::trials(&mut trials, &mut kept);
    trials.push(kept.no_orphans());
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        skip::print();
        println!("{} passed, {} failed, {} skipped", conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
    }
    conclusion.exit_code()
}
