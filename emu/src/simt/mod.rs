// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Device code in the dialects of C++ that GPU vendors' compilers take, compiled for this CPU.
//!
//! The text as it lies in a bundle, or anywhere, goes through [`rewrite`] and a C++ compiler, against headers under the vendor's own names
//! (`simt/`), and is linked with a machine of lanes (`simt/core/runtime.cpp`) that checks every access, every meeting of lanes and every
//! limit of the chip (`simt/chips.txt`). What is wrong is a report that names the kernel, the lane and the line.
//!
//! | what is found | how |
//! | --- | --- |
//! | a copy's arguments in another order, a mask of too few lanes, a function that the vendor does not have | it does not compile |
//! | accesses outside allocations and shared variables, of the host's memory, of freed memory | each one is looked up |
//! | races between lanes and between blocks | of each byte the last write and reads are known, and barriers order them |
//! | collectives and barriers that a part of the lanes reaches | lanes are fibers, and say where they wait |
//! | too many threads, too much shared memory, launch bounds that do not hold | at the launch, and where a variable is placed |
//! | shared memory that nobody wrote | it is filled with ones, which are NaN |
//!
//! Not modeled: order between blocks by atomics and fences, so a kernel whose last block reads what others wrote is said to race.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use portwright_runtime::load::{Info, LoadError, Status};
use portwright_runtime::manifest::Target;
use portwright_runtime::value::{Arg, Value};

use crate::wire::Process;
use crate::{Count, Executor, Machine, Missing, Options};

mod batch;
mod build;
mod chips;
mod rewrite;

pub use build::{Compiler, Failure, Program};
pub use chips::{Chip, add, chips};
pub use rewrite::rewrite;

/// How [`Target::device`] begins where the kernels of a bundle are source: `source:DIALECT:ARCH`.
pub const DEVICE: &str = "source:";

/// Bundles that are compiled together: more of them share what is read once, and wait longer for the first of them.
const TOGETHER: usize = 24;

/// Runs bundles whose kernels are source.
#[derive(Clone, Debug)]
pub struct Simt {
    compiler: Compiler,
    chip: Chip,
}

/// The executor for a bundle whose kernels are source; compiled programs are kept in `cache`, else in the system's folder of temporary files.
///
/// # Errors
/// It is no such bundle, nothing is known of its chip, or there is no compiler.
pub fn find(target: &Target, cache: Option<&Path>) -> Result<Simt, Missing> {
    let nobody = || Missing::Nobody { triple: target.device.clone().unwrap_or_else(|| target.triple.clone()) };
    let named = target.device.as_deref().and_then(|d| d.strip_prefix(DEVICE)).ok_or_else(nobody)?;
    let (dialect, arch) = named.split_once(':').ok_or_else(nobody)?;
    let chip = Chip::find(dialect, arch).ok_or_else(nobody)?;
    Ok(Simt { compiler: Compiler::find(cache)?, chip })
}

impl Executor for Simt {
    fn name(&self) -> String {
        format!("the {} headers of this program, by {}", self.chip.dialect, self.compiler.version())
    }

    fn together(&self) -> usize {
        TOGETHER
    }

    fn prepare(&self, bundles: &[&Path]) {
        // What does not compile is said when it is loaded.
        let _ = self.compiler.bundles(&self.chip, bundles);
    }

    fn load(&self, bundle: &Path, _: &Options) -> Result<Box<dyn Machine>, LoadError> {
        let fail = |f: Failure| LoadError { status: Status::Bundle, message: f.to_string() };
        let program = self.compiler.bundle(&self.chip, bundle).map_err(fail)?;
        let mut command = program.command();
        command.arg(bundle).args(program.key());
        let process = Process::start(command, self.name(), None).map_err(|e| program.explain(e))?;
        Ok(Box::new(Running { process, program }))
    }
}

/// A bundle that runs.
struct Running {
    process: Process,
    program: Program,
}

impl Machine for Running {
    fn inputs(&self) -> &[Info] {
        self.process.inputs()
    }
    fn outputs(&self) -> &[Info] {
        self.process.outputs()
    }
    fn run(&mut self, inputs: &[Arg<'_>]) -> Result<Vec<Value>, LoadError> {
        self.process.run(inputs).map_err(|e| self.program.explain(e))
    }
    fn take_counts(&mut self) -> Vec<Count> {
        Vec::new()
    }
}

impl Program {
    fn explain(&self, e: LoadError) -> LoadError {
        LoadError { status: e.status, message: self.lines(&e.message) }
    }

    /// A report with the lines of the text in the place of addresses (`at @401234`), as far as there is something to tell them.
    pub fn lines(&self, report: &str) -> String {
        let mut known: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut out = String::new();
        let mut rest = report;
        while let Some((before, after)) = rest.split_once("at @") {
            let hex = after.chars().take_while(char::is_ascii_hexdigit).count();
            let (address, tail) = after.split_at(hex);
            let line = known.entry(address).or_insert_with(|| self.line(address));
            out.push_str(before);
            match line {
                Some(l) => out.push_str(&format!("at {l}")),
                None => out.push_str(&format!("at {address}")),
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    /// The place in the text that an address was compiled from.
    fn line(&self, address: &str) -> Option<String> {
        // What is known is where a call returns to.
        let before = u64::from_str_radix(address, 16).ok()?.checked_sub(1)?;
        let mut c = Command::new(self.symbolizer()?);
        c.arg("--obj").arg(self.path()).args(["--no-inlines", "--functions=none", "--basenames"]).arg(format!("{before:#x}"));
        let text = String::from_utf8(c.stdin(Stdio::null()).output().ok()?.stdout).ok()?;
        let (place, _column) = text.lines().next()?.rsplit_once(':')?;
        (!place.starts_with('?')).then(|| place.to_string())
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dialect, self.arch)
    }
}
