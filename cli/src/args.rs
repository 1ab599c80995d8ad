// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
Example:
  portwright compile models/silero-vad/model.onnx --target host -o silero-vad.pw
  portwright run silero-vad.pw --inputs models/silero-vad/speech.npz

Exit codes:
  0 done, 2 usage, 3 the model cannot be read, 4 not supported on the target, 5 a tool is missing,
  6 numbers differ, 7 files, 70 our own bug; `portwright explain E0101` explains an error's code";

/// Compiles ONNX models to native programs for the chip that you have.
#[derive(Debug, Parser)]
#[command(name = "portwright", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// How errors are printed; json is one object a line.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text", help_heading = "Everywhere")]
    pub error_format: ErrorFormat,
    /// No progress on stderr.
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

// Variants are explained by the options that take them: a help page stays one screen.

/// How errors are printed: for people, or one JSON object a line.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ErrorFormat {
    Text,
    Json,
}

/// Whether results may be rounded below f32 in between: `Exact` accumulates wider wherever a narrower sum loses bits, `F32` rounds nothing
/// below f32, `Fast` may form products in bf16 or tf32.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum MathArg {
    Exact,
    F32,
    Fast,
}

impl From<MathArg> for portwright_passes::spec::Math {
    fn from(m: MathArg) -> Self {
        match m {
            MathArg::Exact => Self::Exact,
            MathArg::F32 => Self::F32,
            MathArg::Fast => Self::Fast,
        }
    }
}

/// Where a model is executed: on this machine, on an emulated one of the bundle's kind, or in the interpreter of Graph IR, which is slow and
/// the oracle of everything else.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum On {
    Hardware,
    Emulator,
    Interpreter,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a model into a bundle, or into one static executable.
    #[command(after_help = "Example:\n  portwright compile models/silero-vad/model.onnx --target host -o silero-vad.pw\n  \
                            portwright compile models/silero-vad/model.onnx --target host --static -o silero")]
    Compile(CompileArgs),
    /// Fill a weightless bundle with weights.
    #[command(after_help = "Example:\n  portwright pack model.pw --weights model-folder/")]
    Pack(PackArgs),
    /// Run a model or a bundle once and print its outputs.
    #[command(after_help = "Example:\n  portwright run silero-vad.pw --inputs models/silero-vad/speech.npz")]
    Run(RunArgs),
    /// Time a model or a bundle.
    #[command(after_help = "Example:\n  portwright bench silero-vad.pw --threads 2 --min-time 1")]
    Bench(BenchArgs),
    /// Run folders of ONNX test cases.
    #[command(after_help = "Example:\n  portwright suite suite/node --filter 'test_add*'")]
    Suite(SuiteArgs),
    /// Say everything that will not work, without compiling.
    #[command(after_help = "Example:\n  portwright check model.onnx --target host")]
    Check(CheckArgs),
    /// Compare a compiled model with a reference, node by node.
    #[command(after_help = "Example:\n  portwright compare model.onnx --inputs sample.npz\n  \
                            portwright compare model.onnx --inputs samples/ --expect expected/ --rtol 1e-2")]
    Compare(CompareArgs),
    /// Print one stage of the way from model to machine code.
    #[command(after_help = "Example:\n  portwright lower model.onnx --stage kernel --node main/Softmax_3")]
    Lower(LowerArgs),
    /// Say what is in a model or a bundle.
    #[command(after_help = "Example:\n  portwright inspect model.onnx --json")]
    Inspect(InspectArgs),
    /// List targets, or describe one.
    #[command(after_help = "Example:\n  portwright targets host")]
    Targets(TargetsArgs),
    /// Say which tools are there and which are missing.
    #[command(after_help = "Example:\n  portwright doctor --target host")]
    Doctor(DoctorArgs),
    /// Explain an error code.
    #[command(after_help = "Example:\n  portwright explain E0110")]
    Explain(ExplainArgs),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  portwright completions bash > /etc/bash_completion.d/portwright")]
    Completions(CompletionsArgs),
    /// Generates code for another process of this program.
    #[command(hide = true)]
    Codegen,
    /// Runs test cases for another process of this program.
    #[command(hide = true)]
    SuiteWorker(WorkerArgs),
}

/// How a model is compiled.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Compilation (of a model, not with a bundle)")]
pub struct TargetArgs {
    /// Target id, as `portwright targets` lists them [default: host].
    #[arg(long, value_name = "ID")]
    pub target: Option<String>,
    /// CPU of the target, with features added and removed as NAME+FEATURE-FEATURE; `portwright targets ID` lists the names. NAME+one-lane is
    /// that CPU used without its vectors.
    #[arg(long, value_name = "NAME")]
    pub cpu: Option<String>,
    /// Give a symbolic dim a value or a range.
    #[arg(long = "dim", value_name = "NAME=V | NAME=LO..HI")]
    pub dims: Vec<String>,
    /// Rounding: sums wider than f32, nothing below f32, or products in bf16 [default: f32].
    #[arg(long, value_enum, value_name = "HOW")]
    pub math: Option<MathArg>,
    /// Leave copies of one subgraph over different weights, as of experts, as they are.
    #[arg(long)]
    pub no_reroll: bool,
}

impl TargetArgs {
    /// Target id.
    pub fn id(&self) -> &str {
        self.target.as_deref().unwrap_or("host")
    }
    /// Which rounding is allowed.
    pub fn math(&self) -> MathArg {
        self.math.unwrap_or(MathArg::F32)
    }
}

/// Arguments of `compile`.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// An .onnx file, or textual Graph IR.
    pub model: PathBuf,
    /// Folder of the bundle [default: the model's name with .pw]; with --static the file [default: the model's name, then the target's].
    #[arg(short, long, value_name = "DIR | FILE")]
    pub output: Option<PathBuf>,
    /// One static executable instead of a bundle, weights inside: reads --inputs X.npz, writes --outputs Y.npz, needs nothing where it runs.
    #[arg(long = "static")]
    pub executable: bool,
    /// Folder with crt1.o and libc.a of the target for --static [default: musl, which zig makes].
    #[arg(long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
    /// Machine that drives a device target [default: this one].
    #[arg(long, value_name = "TRIPLE")]
    pub host: Option<String>,
    /// Never open external data; the bundle is completed by `pack`.
    #[arg(long)]
    pub weightless: bool,
    /// Most nodes that may run on the host instead of the target [default: 0, and any number for `host`].
    #[arg(long, value_name = "N")]
    pub max_fallback: Option<usize>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
}

/// Arguments of `pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Folder that holds the model's external data files.
    #[arg(long, value_name = "DIR")]
    pub weights: PathBuf,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A model or a bundle.
    pub model: PathBuf,
    /// Inputs by name, or one ONNX test data set.
    #[arg(long, value_name = "X.npz | DIR")]
    pub inputs: Option<PathBuf>,
    /// Random inputs from this seed (symbolic dims take their smallest value, or that of --dim).
    #[arg(long, value_name = "SEED", conflicts_with = "inputs")]
    pub random: Option<u64>,
    /// Write outputs here instead of printing them.
    #[arg(long, value_name = "Y.npz")]
    pub outputs: Option<PathBuf>,
    /// Threads [default: one a CPU].
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    pub threads: u32,
    /// Where to run: here, on an emulated machine, or in the interpreter (slow, the oracle of the others) [default: hardware if this machine
    /// is of that kind, else emulator].
    #[arg(long, value_enum, value_name = "WHERE")]
    pub on: Option<On>,
    /// Most nodes that may run on the host instead of the target [default: 0, and any number for `host`].
    #[arg(long, value_name = "N")]
    pub max_fallback: Option<usize>,
    /// Print outputs as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A model or a bundle.
    pub model: PathBuf,
    /// Inputs by name, or one ONNX test data set; random ones otherwise.
    #[arg(long, value_name = "X.npz | DIR")]
    pub inputs: Option<PathBuf>,
    /// Threads [default: one a CPU].
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    pub threads: u32,
    /// Where to run: here, on an emulated machine, or in the interpreter (slow, the oracle of the others) [default: hardware if this machine
    /// is of that kind, else emulator].
    #[arg(long, value_enum, value_name = "WHERE")]
    pub on: Option<On>,
    /// Seconds to measure [default: 1].
    #[arg(long, value_name = "SECONDS")]
    pub min_time: Option<f64>,
    /// Time by node; on an emulated machine, instructions by kernel.
    #[arg(long)]
    pub profile: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
}

/// Arguments of `suite`.
#[derive(Debug, Args)]
pub struct SuiteArgs {
    /// Folders of test cases, at any depth.
    #[arg(required = true)]
    pub folders: Vec<PathBuf>,
    /// Only cases whose name matches.
    #[arg(long, value_name = "GLOB")]
    pub filter: Option<String>,
    /// Where to run: here, on an emulated machine, or in the interpreter (slow, the oracle of the others) [default: hardware if this machine
    /// is of that kind, else emulator].
    #[arg(long, value_enum, value_name = "WHERE")]
    pub on: Option<On>,
    /// Most nodes that may run on the host instead of the target [default: 0, and any number for `host`].
    #[arg(long, value_name = "N")]
    pub max_fallback: Option<usize>,
    /// Worker processes [default: one a CPU].
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Seconds after which a case has failed.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub timeout: u64,
    /// Megabytes that a worker may have.
    #[arg(long, value_name = "MB", default_value = "4096")]
    pub max_memory: u64,
    /// Write one JSON array of results.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
}

/// Arguments of the suite's workers.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
    /// Where to run.
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// Most nodes that may run on the host instead of the target.
    #[arg(long)]
    pub max_fallback: Option<usize>,
    /// Megabytes that it may have.
    #[arg(long)]
    pub max_memory: u64,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Models.
    #[arg(required = true)]
    pub models: Vec<PathBuf>,
    /// Target ids [default: host].
    #[arg(long)]
    pub target: Vec<String>,
    /// All targets.
    #[arg(long, conflicts_with = "target")]
    pub all: bool,
    /// Never open external data.
    #[arg(long)]
    pub weightless: bool,
    /// Leave copies of one subgraph over different weights, as of experts, as they are.
    #[arg(long)]
    pub no_reroll: bool,
    /// Print one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A model.
    pub model: PathBuf,
    /// Inputs by name, one ONNX test data set, or a folder of several of these; may be given several times.
    #[arg(long, value_name = "X.npz | DIR")]
    pub inputs: Vec<PathBuf>,
    /// Random inputs from this seed (symbolic dims take their smallest value, or that of --dim).
    #[arg(long, value_name = "SEED", conflicts_with = "inputs")]
    pub random: Option<u64>,
    /// Compare with these values, by the names that they have in the model, instead of with the interpreter; as many as --inputs.
    #[arg(long, value_name = "Y.npz | DIR")]
    pub expect: Vec<PathBuf>,
    /// Relative tolerance [default: 1e-3, or four steps of the value's dtype; with --math fast 3e-2].
    #[arg(long, value_name = "R")]
    pub rtol: Option<f64>,
    /// Absolute tolerance [default: R times the root of the mean square of the expected value].
    #[arg(long, value_name = "A")]
    pub atol: Option<f64>,
    /// See every value: those inside of fused kernels become further results of these, which may be scheduled otherwise then.
    #[arg(long)]
    pub every: bool,
    /// Threads [default: one a CPU].
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    pub threads: u32,
    /// Where to run: here or on an emulated machine [default: hardware if this machine is of that kind, else emulator].
    #[arg(long, value_enum, value_name = "WHERE")]
    pub on: Option<On>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
}

/// Arguments of `lower`.
#[derive(Debug, Args)]
pub struct LowerArgs {
    /// A model.
    pub model: PathBuf,
    /// Which stage: import, graph, fused, legal, plan, kernel, mlir, llvm, asm.
    #[arg(long)]
    pub stage: String,
    /// Only what computes this node.
    #[arg(long, value_name = "PATH")]
    pub node: Option<String>,
    /// The pack program instead of the model.
    #[arg(long)]
    pub pack: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model or a bundle.
    pub model: PathBuf,
    /// Of a bundle for a device: what the assembler of the device's vendor says of each kernel; what it refuses, and what spills, is an error.
    #[arg(long)]
    pub code: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `targets`.
#[derive(Debug, Args)]
pub struct TargetsArgs {
    /// A target.
    pub id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Describe this CPU of the target instead of its first one.
    #[arg(long, value_name = "NAME", requires = "id")]
    pub cpu: Option<String>,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only what this target needs.
    #[arg(long)]
    pub target: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A code, as E0110.
    pub code: String,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// A shell.
    pub shell: clap_complete::Shell,
}
