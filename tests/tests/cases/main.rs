// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One harness: every trial is a case and what is done with it, as `core/softmax-odd::x86-64-v4::fused`.
//!
//! `cargo test -p portwright-tests --test cases -- softmax` runs the trials of that name; `cargo xtask bless` accepts what the stages are
//! now. Trials that this machine cannot run are counted as ignored, with the reason; the last lines list the reasons.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod bad;
mod check;
mod chips;
mod command;
mod core;
mod docs;
mod expect;
mod lanes;
mod skip;
mod snap;
mod sources;

#[cfg(feature = "mlir")]
mod compare;
#[cfg(feature = "mlir")]
mod decode;
#[cfg(feature = "mlir")]
mod device;
#[cfg(feature = "mlir")]
mod executable;
#[cfg(feature = "mlir")]
mod faults;
#[cfg(feature = "mlir")]
mod flags;
#[cfg(feature = "mlir")]
mod native;
#[cfg(feature = "mlir")]
mod property;
#[cfg(feature = "mlir")]
mod speech;
#[cfg(feature = "mlir")]
mod texts;
#[cfg(feature = "mlir")]
mod zoo;

/// Models built in code, as the importer's own tests build them.
#[allow(dead_code)]
#[path = "../../../frontend/tests/bad/build.rs"]
mod build;

/// Whether a trial of that name is among those that the command line asks for.
fn asked(a: &Arguments, name: &str) -> bool {
    let is = |word: &String| if a.exact { name == word } else { name.contains(word.as_str()) };
    a.filter.as_ref().is_none_or(is) && !a.skip.iter().any(is)
}

fn main() -> ExitCode {
    if let Some(code) = command::be_the_command() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    let mut kept = snap::Kept::default();
    core::trials(&mut trials, &mut kept, &|name| asked(&arguments, name));
    bad::trials(&mut trials, &mut kept);
    check::trials(&mut trials, &mut kept);
    docs::trials(&mut trials);
    lanes::trials(&mut trials, &mut kept);
    sources::trials(&mut trials);
    #[cfg(feature = "mlir")]
    {
        zoo::trials(&mut trials);
        decode::trials(&mut trials);
        speech::trials(&mut trials);
        compare::trials(&mut trials);
        device::trials(&mut trials);
        executable::trials(&mut trials);
        faults::trials(&mut trials);
        flags::trials(&mut trials);
        property::trials(&mut trials);
        texts::trials(&mut trials);
    }
    trials.push(kept.no_orphans());
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        skip::print();
        println!("{} passed, {} failed, {} skipped", conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
    }
    conclusion.exit_code()
}
