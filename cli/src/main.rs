// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `portwright` command.

fn main() -> std::process::ExitCode {
    portwright_cli::run(std::env::args_os())
}
