// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `fuzz [SECONDS] [TARGET]`: hunts on all targets in turn, or on one.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match portwright_fuzz::hunt::command(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(finds) => {
            eprintln!("fuzz: {finds} finds in tests/fuzz/corpus: each is a test from now on");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("fuzz: {e}");
            ExitCode::from(2)
        }
    }
}
