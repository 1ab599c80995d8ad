// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Executes bundles of machines that are not at hand.
//!
//! [`find`] gives the [`Executor`] for the machine that a bundle was made for, or says what is [`Missing`] and what mends it.
//! [`Executor::load`] starts a bundle as it lies on the disk, and [`Machine::run`] runs it: the emulator sees the very bytes that
//! the chip would. This room knows the bundle's form and its C ABI, never how the bundle came to be, so that it cannot share a
//! mistake with what it checks.
//!
//! | executor | runs | needs |
//! | --- | --- | --- |
//! | [`gpu`] | bundles that drive a device whose code is PTX | nothing: [`ptx`] is the device, the bundle's plan runs in this process |
//! | [`simt`] | bundles that drive a device whose code is source, in a dialect of C++ | clang 17 or later with a C++ library |
//! | [`qemu`] | bundles of CPUs | qemu-user 8.2 or later, and nothing else: no C library, no dynamic loader of that machine |
//!
//! [`ptx`] executes kernels of NVIDIA's GPUs as they lie in a bundle, and checks and counts what they do.
#![deny(missing_docs)]

use std::fmt;
use std::path::{Path, PathBuf};

use portwright_runtime::load::{Info, LoadError};
use portwright_runtime::manifest::Target;
use portwright_runtime::value::{Arg, Value};

mod count;
pub mod gpu;
pub mod judge;
pub mod ptx;
pub mod qemu;
pub mod simt;
mod wire;

/// How a bundle is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Count instructions ([`Machine::take_counts`]); a run takes many times as long.
    pub count: bool,
}

/// A way to run what a machine that is not here would run.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Name and version for people, as `qemu-riscv64 10.0.2`.
    fn name(&self) -> String;
    /// How many bundles [`Executor::prepare`] is worth being called with at once.
    fn together(&self) -> usize {
        1
    }
    /// Does for many bundles at once what [`Executor::load`] does first for each; what fails is said there.
    fn prepare(&self, _bundles: &[&Path]) {}
    /// Starts the bundle in that folder, in a process of its own.
    ///
    /// # Errors
    /// What the bundle's own `load` says, or that the process could not be started.
    fn load(&self, bundle: &Path, options: &Options) -> Result<Box<dyn Machine>, LoadError>;
}

/// A bundle that is loaded on an emulated machine. It ends with this value.
pub trait Machine: Send {
    /// The inputs, in the order of [`Machine::run`].
    fn inputs(&self) -> &[Info];
    /// The outputs, in the order of [`Machine::run`].
    fn outputs(&self) -> &[Info];
    /// Runs the model once.
    ///
    /// # Errors
    /// What the bundle says, naming the node; or how the emulated program died.
    fn run(&mut self, inputs: &[Arg<'_>]) -> Result<Vec<Value>, LoadError>;
    /// Instructions executed since the last call, by function of the bundle's library; empty without [`Options::count`].
    fn take_counts(&mut self) -> Vec<Count>;
}

/// Instructions that one function executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Its symbol in the bundle's library: a kernel's name, or a function of the runtime.
    pub function: String,
    /// Instructions executed in it, without those of functions that it calls.
    pub instructions: u64,
    /// Of a device's kernel: what its launches did.
    pub device: Option<Launched>,
}

/// What the launches of a device's kernel did together.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Launched {
    /// How many there were.
    pub launches: u64,
    /// Bytes, sectors, bank conflicts and instructions, summed over them.
    pub counts: ptx::Counts,
}

/// Why nothing can run a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No executor is for that machine.
    Nobody {
        /// Triple of the machine.
        triple: String,
    },
    /// This build has no program for the emulator to run.
    NotBuilt,
    /// The emulator is nowhere.
    NotFound {
        /// Its name.
        program: String,
    },
    /// Every one that is here is too old for the code that bundles have.
    TooOld {
        /// The newest of them.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The oldest one that will do.
        needed: String,
    },
}

impl Missing {
    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Missing::Nobody { .. } => "run it on that machine",
            Missing::NotBuilt => "build with the features `mlir` and `emu`",
            Missing::NotFound { program } if program.starts_with("clang") => {
                "install clang 17 or later with a C++ library (Debian: apt-get install clang-22 lld-22 libstdc++-12-dev)"
            }
            Missing::NotFound { .. } | Missing::TooOld { .. } => {
                "./setup unpacks a new one into tools/.cache (Debian 12 itself has 7.2; bookworm-backports has 10.0)"
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Nobody { triple } => write!(f, "there is no emulator for {triple}"),
            Missing::NotBuilt => f.write_str("this build has no program for an emulator to run"),
            Missing::NotFound { program } => write!(f, "the program {program} is not here"),
            Missing::TooOld { path, version, needed } => {
                write!(
                    f,
                    "the emulator {} is version {version}, and {needed} is the oldest that knows the vectors of bundles",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for Missing {}

/// The executor for the machine that a bundle was made for. `folders` are looked through in order, then the search path; what is compiled to
/// run a bundle is kept in `cache`.
///
/// # Errors
/// What is missing.
pub fn find(target: &Target, folders: &[PathBuf], cache: Option<&Path>) -> Result<Box<dyn Executor>, Missing> {
    match target.device.as_deref() {
        Some(d) if d.starts_with(simt::DEVICE) => simt::find(target, cache).map(|s| Box::new(s) as Box<dyn Executor>),
        Some(_) => gpu::find(target).map(|g| Box::new(g) as Box<dyn Executor>),
        None => qemu::find(target, folders).map(|q| Box::new(q) as Box<dyn Executor>),
    }
}
