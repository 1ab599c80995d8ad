// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The portwright command: the only room that prints, exits and reads the environment.
#![deny(missing_docs)]

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered, Severity};
use portwright_targets::target::{self, Target};

pub mod args;
pub mod bill;
pub mod commands;
pub mod compare;
pub mod compile;
pub mod difference;
pub mod libc;
pub mod limits;
pub mod model;
pub mod packing;
pub mod place;
pub mod progress;
pub mod render;
pub mod report;
pub mod roof;
pub mod values;
pub mod view;
pub mod weightless;

use args::{Cli, Command, ErrorFormat};

/// What every command has at hand.
pub struct Cx {
    /// Reports so far.
    pub diags: Diags,
    /// No progress on stderr.
    pub quiet: bool,
    /// How errors are printed.
    pub error_format: ErrorFormat,
}

impl Cx {
    /// Reports an error.
    pub fn fail<T>(&mut self, d: Diagnostic) -> Lowered<T> {
        Err(self.diags.report(d))
    }
}

/// Runs the command with targets of another crate beside its own: the `main` of a program that adds a chip.
pub fn run_with(targets: &[&'static dyn Target], args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let added = target::add(targets).map_err(|e| e.to_string());
    #[cfg(feature = "emu")]
    let added = added.and_then(|()| targets.iter().filter_map(|t| t.emulated()).try_for_each(portwright_emu::simt::add));
    match added {
        Ok(()) => run(args),
        Err(e) => {
            render::print(&[Diagnostic::error(Code::INTERNAL, format!("a target cannot be added: {e}"))], ErrorFormat::Text);
            ExitCode::from(Code::INTERNAL.exit_code())
        }
    }
}

/// Runs the command; the exit code is documented in the command's contract.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        // Help and versions are data.
        Err(e) if !e.use_stderr() || e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
        Err(e) => {
            let json =
                args.windows(2).any(|w| w[0] == "--error-format" && w[1] == "json") || args.iter().any(|a| a == "--error-format=json");
            render::print(&[usage(&e)], if json { ErrorFormat::Json } else { ErrorFormat::Text });
            return ExitCode::from(Code::BAD_OPTION.exit_code());
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let format = cli.error_format;
    let mut cx = Cx { diags: Diags::new(), quiet: cli.quiet, error_format: format };
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| dispatch(cli.command, &mut cx)));
    let internal = match outcome {
        Ok(_) => None,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Some(text.unwrap_or_else(|| "no message".into()))
        }
    };
    // Whoever read the output has enough of it, such as `head`.
    let internal = internal.filter(|message| !message.starts_with("failed printing to stdout: Broken pipe"));
    if let Some(message) = internal {
        let d = Diagnostic::error(Code::INTERNAL, format!("Portwright itself failed: {message}"));
        cx.diags
            .report(d.help("please report this with the command line and `portwright inspect MODEL` (it prints shapes, never weights)"));
    }
    let list = cx.diags.take();
    render::print(&list, format);
    let worst = list.iter().find(|d| d.severity == Severity::Error).map_or(0, |d| d.code.exit_code());
    let any_internal = list.iter().any(|d| d.severity == Severity::Error && d.code == Code::INTERNAL);
    ExitCode::from(if any_internal { 70 } else { worst })
}

/// A command line that is none, as a report.
fn usage(e: &clap::Error) -> Diagnostic {
    let text = e.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("For more information"));
    let mut d = Diagnostic::error(Code::BAD_OPTION, lines.next().unwrap_or_default().trim_start_matches("error: "));
    for line in lines {
        d = match line.strip_prefix("tip: ") {
            Some(tip) => d.help(tip),
            None => d.note(line),
        };
    }
    if d.help.is_none() { d.help("`--help` after the command shows its options") } else { d }
}

fn dispatch(command: Command, cx: &mut Cx) -> Lowered<()> {
    match command {
        Command::Compile(a) => commands::compile::run(a, cx),
        Command::Pack(a) => commands::pack::run(a, cx),
        Command::Run(a) => commands::run::run(a, cx),
        Command::Bench(a) => commands::bench::run(a, cx),
        Command::Suite(a) => commands::suite::run(a, cx),
        Command::Check(a) => commands::check::run(a, cx),
        Command::Compare(a) => commands::compare::run(a, cx),
        Command::Lower(a) => commands::lower::run(a, cx),
        Command::Inspect(a) => commands::inspect::run(a, cx),
        Command::Targets(a) => commands::targets::run(a, cx),
        Command::Doctor(a) => commands::doctor::run(a, cx),
        Command::Explain(a) => commands::explain::run(a, cx),
        Command::Completions(a) => commands::completions::run(a, cx),
        Command::Codegen => commands::codegen::run(cx),
        Command::SuiteWorker(a) => commands::suite_worker::run(a, cx),
    }
}
