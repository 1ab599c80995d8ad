// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command `portwright` with a chip that its repository does not know.

mod acme;

fn main() -> std::process::ExitCode {
    portwright_cli::run_with(&[&acme::A1], std::env::args_os())
}
