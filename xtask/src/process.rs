// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running other programs from the root of the repository.

use crate::{Outcome, root};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A program with its arguments and environment.
pub struct Task {
    command: Command,
    name: String,
}

impl Task {
    /// A program by name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Task {
        let name = program.as_ref().to_string_lossy().rsplit('/').next().unwrap_or_default().to_string();
        let mut command = Command::new(program);
        command.current_dir(root()).stdin(Stdio::null());
        Task { command, name }
    }

    /// The cargo that runs this program.
    pub fn cargo<const N: usize>(arguments: [&str; N]) -> Task {
        let mut task = Task::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        task.name = format!("cargo {}", arguments.first().unwrap_or(&""));
        task.args(arguments)
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Task {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Task {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Task {
        self.command.env(name, value);
        self
    }

    /// Runs the program with this terminal.
    ///
    /// # Errors
    /// The program cannot be started or fails.
    pub fn run(mut self) -> Outcome {
        let status = self.command.status().map_err(|e| format!("cannot run {}: {e}", self.name))?;
        if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", self.name)) }
    }

    /// Runs the program, shows its standard output as it comes and hands each line to `each`; whether it succeeded.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn lines(mut self, mut each: impl FnMut(&str)) -> Result<bool, String> {
        let mut child = self.command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot run {}: {e}", self.name))?;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                each(&line);
            }
        }
        Ok(child.wait().map_err(|e| e.to_string())?.success())
    }

    /// Runs the program and gives its standard output.
    ///
    /// # Errors
    /// The program cannot be started or fails; what it said on standard error has been shown.
    pub fn output(mut self) -> Result<String, String> {
        let output = self.command.stderr(Stdio::inherit()).output().map_err(|e| format!("cannot run {}: {e}", self.name))?;
        if !output.status.success() {
            return Err(format!("{} failed ({})", self.name, output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
