// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who a chip is and what it takes, as data and few questions; the registry of those that are compiled in.

use std::sync::OnceLock;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::graph::Node;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, MachineClass};
use portwright_runtime::device::Driver;
use portwright_runtime::features::{self, Arch};

use crate::mlir::Spelling;

/// What is known of a target before a CPU is chosen.
#[derive(Copy, Clone, Debug)]
pub struct TargetSpec {
    /// Name on the command line.
    pub id: &'static str,
    /// Who makes it.
    pub vendor: &'static str,
    /// One line for `portwright targets`.
    pub about: &'static str,
    /// Names that `--cpu` takes, the default first.
    pub cpus: &'static [&'static str],
    /// Where the numbers of its machines come from.
    pub sources: &'static [&'static str],
    /// Who answers for it.
    pub maintainer: &'static str,
    /// What it can do at most.
    pub roof: Roof,
}

/// What a chip can do at most, as far as somebody says it whom `sources` names; of several claims the lowest.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Roof {
    /// Bytes a second between the chip and its memory.
    pub bandwidth: Option<f64>,
    /// Operations a second, two a multiply-add, on numbers of these dtypes. Those of dtypes with no row are done in f32.
    pub peaks: &'static [(DType, f64)],
    /// Seconds from one launch to the next, at least.
    pub launch: Option<f64>,
}

impl Roof {
    /// Nobody says anything.
    pub const UNKNOWN: Roof = Roof { bandwidth: None, peaks: &[], launch: None };

    /// Operations a second on numbers of that dtype, by lanes or, where the machine has a product of it, by that.
    pub fn peak(&self, dtype: DType, class: &MachineClass) -> Option<f64> {
        let MachineClass::Simt(simt) = class else { return self.of(dtype).or_else(|| self.of(DType::F32)) };
        let own = simt.floats.contains(&dtype) || simt.fragments.iter().any(|f| f.dtypes[0] == dtype);
        self.of(dtype).filter(|_| own).or_else(|| self.of(DType::F32))
    }
    fn of(&self, dtype: DType) -> Option<f64> {
        self.peaks.iter().find(|(d, _)| *d == dtype).map(|(_, n)| *n)
    }
}

/// A target with all that was left open resolved: the same machine gives the same bytes, wherever it is compiled.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Name of the target.
    pub target: &'static str,
    /// Instruction set.
    pub arch: Arch,
    /// Triple of the code and of the embedded runtime.
    pub triple: &'static str,
    /// The CPU, in words that help whoever has another one.
    pub cpu: String,
    /// LLVM's name of the CPU that is nearest from below.
    pub llvm_cpu: &'static str,
    /// LLVM's name of the calling convention's variant; empty for the usual one.
    pub abi: &'static str,
    /// Features that the code may use, by LLVM's names, in order of the runtime's table.
    pub features: Vec<&'static str>,
    /// Class with its numbers.
    pub class: MachineClass,
    /// What kernels may use.
    pub caps: KernelCaps,
    /// Spelling of what generic operations cannot say.
    pub spelling: Spelling,
    /// The device that the kernels run on, driven by the machine that all the rest is of; `None` where they run there too.
    pub device: Option<Device>,
}

/// A device as code generation and its driver know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// LLVM's triple of its code.
    pub triple: &'static str,
    /// LLVM's name of its processor.
    pub processor: &'static str,
    /// LLVM's feature list.
    pub features: &'static str,
    /// Who loads its code.
    pub driver: Driver,
    /// Ten times the major and the minor version of the capability that code is for.
    pub capability: u32,
    /// Whether code runs on that capability alone.
    pub exact: bool,
    /// Lowest version of the driver's interface.
    pub driver_version: u32,
}

impl Machine {
    /// The same machine used one element at a time: no vectors, no dot products, no tiles. What vectors save is measured against it.
    pub fn one_lane(&self) -> Machine {
        let MachineClass::Cpu(spec) = &self.class else { return self.clone() };
        let class = MachineClass::Cpu(CpuSpec { vec_bytes: 1, masked_mem: false, dots: &[], tiles: &[], ..spec.clone() });
        let caps = KernelCaps { masked_bits: &[], ..self.caps };
        Machine {
            class,
            caps,
            spelling: Spelling { one_lane: true, ..Spelling::default() },
            cpu: format!("{}, one lane", self.cpu),
            ..self.clone()
        }
    }
    /// LLVM's feature list.
    pub fn feature_list(&self) -> String {
        self.features.iter().filter(|f| features::of_llvm(self.arch, f)).map(|f| format!("+{f}")).collect::<Vec<_>>().join(",")
    }
    /// The features as the runtime tests them at load.
    pub fn feature_bits(&self) -> Vec<u32> {
        self.features.iter().filter_map(|f| features::bit(self.arch, f)).collect()
    }
}

/// What a target does with a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is scheduled as it is.
    Native,
    /// Its decomposition is.
    Decomposed,
    /// It runs on the host instead.
    Fallback(String),
    /// Nothing runs it.
    Rejected(String),
}

/// An external program that a target may use to check, build or run what was emitted.
pub trait Toolchain: Sync {
    /// Name for people.
    fn name(&self) -> &'static str;
    /// Version as the program says it; `None` if it is not here.
    fn probe(&self) -> Option<String>;
    /// What is wrong with the one that is here, and what is known to work. It may be run to find out.
    fn fault(&self) -> Option<String> {
        None
    }
    /// What makes it available.
    fn remedy(&self) -> &'static str;
    /// Whether only who builds bundles on the machine where they run needs it.
    fn only_builds(&self) -> bool {
        false
    }
}

/// A chip, as six answers; what is not data has a default.
pub trait Target: Sync {
    /// Who it is.
    fn spec(&self) -> &TargetSpec;
    /// The machine of that CPU name; `None` is the default.
    ///
    /// # Errors
    /// `E0005` for a name or a feature that does not exist, with the nearest one that does.
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine>;
    /// What it does with a node of a legalized graph.
    fn support(&self, _node: &Node) -> Support {
        Support::Native
    }
    /// Kernel rules that make its kernels legal, in order.
    fn rules(&self) -> &'static [portwright_passes::kernel_rules::KernelRule] {
        portwright_passes::kernel_rules::RULES
    }
    /// Text of a device's code as its driver gets it, made of the text that LLVM gives.
    fn finished(&self, text: String) -> String {
        text
    }
    /// What the emulator of source dialects has to know of it and does not: a row of its table of chips.
    fn emulated(&self) -> Option<&'static str> {
        None
    }
    /// What links or checks its output.
    fn toolchain(&self) -> Option<&dyn Toolchain> {
        Some(&crate::link::Lld)
    }
}

/// Targets of this crate.
const OWN: &[&dyn Target] = &[
    #[cfg(feature = "mlir")]
    &crate::x86_64::X86_64,
    #[cfg(feature = "mlir")]
    &crate::aarch64::Aarch64,
    #[cfg(feature = "mlir")]
    &crate::riscv64::Riscv64,
    #[cfg(feature = "mlir")]
    &crate::loongarch64::LoongArch64,
    #[cfg(feature = "mlir")]
    &crate::nvidia::SM80,
    #[cfg(feature = "mlir")]
    &crate::nvidia::SM90A,
    #[cfg(feature = "mlir")]
    &crate::nvidia::SM100A,
    &crate::nvidia_source::SM80,
    &crate::hygon_dcu::GFX906,
    &crate::hygon_dcu::GFX928,
    &crate::hygon_dcu::GFX936,
    &crate::moore::MP22,
    &crate::moore::MP31,
    &crate::metax::XCORE1000,
    &crate::iluvatar::IVCORE11,
    &crate::biren::BR100,
];

/// Targets of this crate and those that were [`add`]ed, from the first question on.
static ALL: OnceLock<Vec<&'static dyn Target>> = OnceLock::new();

/// Every target that is compiled in, in order of `portwright targets`.
pub fn all() -> &'static [&'static dyn Target] {
    ALL.get_or_init(|| OWN.to_vec())
}

/// Adds targets of another crate behind those of this one. A program does so once, before anything asks for a target.
///
/// # Errors
/// An id that there is already, or targets that were asked for before.
pub fn add(more: &[&'static dyn Target]) -> Result<(), AddError> {
    let mut list = OWN.to_vec();
    for t in more {
        let id = t.spec().id;
        if id == "host" || list.iter().any(|l| l.spec().id == id) || EXIST.iter().any(|(name, _)| *name == id) {
            return Err(AddError::Taken(id));
        }
        list.push(*t);
    }
    ALL.set(list).map_err(|_| AddError::Late)
}

/// Why targets are not added.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AddError {
    /// There is one of that id.
    Taken(&'static str),
    /// The list of targets is in use.
    Late,
}

impl std::fmt::Display for AddError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AddError::Taken(id) => write!(f, "there is a target `{id}` already"),
            AddError::Late => f.write_str("targets are added before the first question for one"),
        }
    }
}

impl std::error::Error for AddError {}

/// Targets that exist only with a cargo feature, with its name.
const EXIST: &[(&str, &str)] = &[
    ("host", "mlir"),
    ("x86-64", "mlir"),
    ("aarch64", "mlir"),
    ("riscv64", "mlir"),
    ("loongarch64", "mlir"),
    ("nvidia-sm80", "mlir"),
    ("nvidia-sm90a", "mlir"),
    ("nvidia-sm100a", "mlir"),
];

/// Why a name is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// There is none of that name.
    Unknown {
        /// The nearest name.
        did_you_mean: Option<&'static str>,
    },
    /// It exists, but this build lacks it.
    NotBuilt {
        /// The cargo feature that adds it.
        feature: &'static str,
    },
}

impl LookupError {
    /// As a report on that name.
    pub fn diagnostic(&self, id: &str) -> Diagnostic {
        match self {
            LookupError::Unknown { did_you_mean } => {
                let d = Diagnostic::error(Code::UNKNOWN_TARGET, format!("`{id}` is no target"));
                match did_you_mean {
                    Some(n) => d.help(format!("did you mean `{n}`? `portwright targets` lists all")),
                    None => d.help("`portwright targets` lists all"),
                }
            }
            LookupError::NotBuilt { feature } => {
                Diagnostic::error(Code::TARGET_NOT_BUILT, format!("this build has no code generation for `{id}`"))
                    .help(format!("build with `--features {feature}`"))
            }
        }
    }
}

/// The target of that name; `host` is the one of the machine at hand.
///
/// # Errors
/// Whether the name is unknown or only not compiled in.
pub fn lookup(id: &str) -> Result<&'static dyn Target, LookupError> {
    let wanted = match (id, std::env::consts::ARCH) {
        ("host", "x86_64") => "x86-64",
        ("host", other) => other,
        (id, _) => id,
    };
    if let Some(t) = all().iter().find(|t| t.spec().id == wanted) {
        return Ok(*t);
    }
    match EXIST.iter().find(|(n, _)| *n == id || *n == wanted) {
        Some((_, feature)) => Err(LookupError::NotBuilt { feature }),
        None => {
            let names = EXIST.iter().map(|(n, _)| *n).chain(all().iter().map(|t| t.spec().id));
            Err(LookupError::Unknown { did_you_mean: nearest(id, names) })
        }
    }
}

/// What is put behind a CPU's name to have it used one element at a time.
pub const ONE_LANE: &str = "+one-lane";

/// The machine of a target; `host` with no CPU name is the machine at hand with all that it offers. A name that ends in [`ONE_LANE`] is
/// [`Machine::one_lane`] of what stands before.
///
/// # Errors
/// `E0001`, `E0002` or `E0005`.
pub fn machine(id: &str, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
    let t = lookup(id).map_err(|e| sink.report(e.diagnostic(id)))?;
    let vectors = cpu.and_then(|c| c.strip_suffix(ONE_LANE));
    let name = vectors.or(cpu).filter(|n| !n.is_empty()).or((id == "host").then_some("host"));
    let m = t.machine(name, sink)?;
    Ok(if vectors.is_some() { m.one_lane() } else { m })
}

/// The name that differs least, if it is near enough to be a slip.
pub fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.map(|n| (distance(wanted, n), n)).min()?;
    let begun = wanted.len() > 2 && best.1.starts_with(wanted);
    (begun || best.0 <= 2 + wanted.len() / 4).then_some(best.1)
}

/// Number of insertions, removals and replacements between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// Report on a CPU name or feature that does not exist.
pub(crate) fn unknown_cpu<'n>(
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'n str> + Clone,
    sink: &mut Diags,
) -> portwright_ir::diag::Reported {
    let d = Diagnostic::error(Code::UNKNOWN_CPU, format!("`{name}` is no {what} that Portwright knows"));
    let known = names.clone().collect::<Vec<_>>().join(", ");
    let d = match nearest(name, names) {
        Some(n) => d.help(format!("did you mean `{n}`?")),
        None => d,
    };
    sink.report(d.note(format!("known: {known}")))
}
