// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright completions`.

use clap::CommandFactory as _;
use portwright_ir::diag::Lowered;

use crate::Cx;
use crate::args::{Cli, CompletionsArgs};

/// Prints completions.
///
/// # Errors
/// None.
pub fn run(a: CompletionsArgs, _: &mut Cx) -> Lowered<()> {
    clap_complete::generate(a.shell, &mut Cli::command(), "portwright", &mut std::io::stdout());
    Ok(())
}
