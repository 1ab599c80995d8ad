// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a bundle runs: on this machine, or on an emulated one of its kind.

use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::HostOp;
use portwright_runtime::bundle::Bundle;
use portwright_runtime::device::Driver;
use portwright_runtime::load::{self, Info, Launch, LoadError, Session, Status};
use portwright_runtime::manifest::{HostNode, Target};
use portwright_runtime::tensor::View;
#[cfg(feature = "emu")]
use portwright_runtime::value::Arg;
use portwright_runtime::value::{Input, Value};

#[cfg(feature = "emu")]
use portwright_emu as emu;

use crate::Cx;
use crate::args::{On, TargetArgs};
use crate::compile::{self, Scratch};
use crate::model;
use crate::progress::Progress;

/// Rung of evidence of code that was executed, on whatever machine.
pub const RUNG: u8 = 1;

/// A machine that runs bundles of some target.
pub enum Place {
    /// This one.
    Here,
    /// An emulated one.
    #[cfg(feature = "emu")]
    Emulated(Box<dyn emu::Executor>),
}

impl Place {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Place::Here => "this machine".into(),
            #[cfg(feature = "emu")]
            Place::Emulated(e) => e.name(),
        }
    }
    /// What a command says on stderr before it runs something there.
    pub fn line(&self) -> String {
        format!("on {} (rung {RUNG})", self.name())
    }
    /// How many bundles are worth being compiled there together.
    pub fn together(&self) -> usize {
        match self {
            Place::Here => 1,
            #[cfg(feature = "emu")]
            Place::Emulated(e) => e.together(),
        }
    }
    /// Does for bundles at once what [`Running::start`] would do for each.
    pub fn prepare(&self, _bundles: &[&Path]) {
        #[cfg(feature = "emu")]
        if let Place::Emulated(e) = self {
            e.prepare(_bundles);
        }
    }
    /// Whether it is this machine.
    pub fn is_here(&self) -> bool {
        matches!(self, Place::Here)
    }
}

/// Chooses the place for bundles of a target: `on`, else this machine if it is of that kind, else an emulator.
///
/// # Errors
/// `E0505` for another machine's bundle on this hardware, `E0504` where nothing can run it.
pub fn choose(target: &Target, on: Option<On>, cx: &mut Cx) -> Lowered<Place> {
    let own = target.triple.split('-').next() == Some(std::env::consts::ARCH);
    match on {
        Some(On::Hardware) if !own => {
            let m = format!("{} runs {}, and this machine is {}", target.id, target.triple, std::env::consts::ARCH);
            cx.fail(
                Diagnostic::error(Code::BUNDLE_FOREIGN, m).help("leave --on out to run it in an emulator, or compile with --target host"),
            )
        }
        Some(On::Emulator) => emulator(target, cx),
        None if !own => emulator(target, cx),
        None if !device_here(target) => emulator(target, cx),
        _ => Ok(Place::Here),
    }
}

/// Whether the kernels of bundles of a target can run here, as far as can be told without trying: there is no device, or its driver is here.
fn device_here(target: &Target) -> bool {
    target.device.as_deref().is_none_or(|d| Driver::from_name(d).is_some_and(Driver::is_here))
}

#[cfg(feature = "emu")]
fn emulator(target: &Target, cx: &mut Cx) -> Lowered<Place> {
    match emu::find(target, &emulator_folders(), compile::cache_folder().as_deref()) {
        Ok(e) => Ok(Place::Emulated(e)),
        Err(missing) => {
            let m = format!("nothing here can run {} ({}): {missing}", target.id, target.triple);
            cx.fail(Diagnostic::error(Code::NO_EXECUTOR, m).help(missing.remedy()))
        }
    }
}

#[cfg(not(feature = "emu"))]
fn emulator(target: &Target, cx: &mut Cx) -> Lowered<Place> {
    let m = format!("nothing here can run {} ({}): this build has no emulators", target.id, target.triple);
    cx.fail(Diagnostic::error(Code::NO_EXECUTOR, m).help("build with `--features emu`"))
}

/// Folders in which `./setup` leaves tools: the folder that `PORTWRIGHT_TOOLS` names, else `tools/.cache` above this program or above the
/// folder that it runs in.
pub fn tool_folders() -> Vec<PathBuf> {
    let all: Vec<PathBuf> = match std::env::var_os("PORTWRIGHT_TOOLS") {
        Some(named) => vec![PathBuf::from(named)],
        None => {
            let from = [std::env::current_exe().ok(), std::env::current_dir().ok()];
            from.iter().flatten().flat_map(|p| p.ancestors()).map(|p| p.join("tools/.cache")).collect()
        }
    };
    all.into_iter().filter(|f| f.is_dir()).collect()
}

/// Folders in which `./setup` leaves emulators.
pub fn emulator_folders() -> Vec<PathBuf> {
    tool_folders().into_iter().map(|t| t.join("qemu/usr/bin")).filter(|f| f.is_dir()).collect()
}

/// How a bundle is started.
#[derive(Copy, Clone, Debug, Default)]
pub struct Start {
    /// 0 = one a CPU.
    pub threads: u32,
    /// Keep what each launch took, or what instructions each function executed.
    pub profile: bool,
}

/// What one function of a bundle's library executed on an emulated machine.
pub struct Executed {
    /// Its symbol.
    pub function: String,
    /// Instructions.
    pub instructions: u64,
    /// Of a device's kernel: its launches, bytes, sectors, bank conflicts and products, as JSON.
    pub device: Option<serde_json::Value>,
}

#[cfg(feature = "emu")]
impl Executed {
    fn of(c: emu::Count) -> Executed {
        // Counts are numbers and one text, which always have a form.
        let device = c.device.and_then(|d| serde_json::to_value(d).ok());
        Executed { function: c.function, instructions: c.instructions, device }
    }
}

/// A bundle that is loaded somewhere.
pub enum Running {
    /// In this process.
    Here {
        /// The model.
        model: load::Model,
        /// Its one session.
        session: Session,
    },
    /// On an emulated machine.
    #[cfg(feature = "emu")]
    Emulated {
        /// What runs it.
        machine: Box<dyn emu::Machine>,
        /// Outputs of the last run.
        results: Vec<Value>,
    },
}

impl Running {
    /// Loads a bundle.
    ///
    /// # Errors
    /// What the bundle says; `E0003` for threads where there are none.
    pub fn start(bundle: &Path, place: &Place, how: Start, cx: &mut Cx) -> Lowered<Running> {
        match place {
            Place::Here => {
                let options = load::Options { threads: how.threads, profile: how.profile, ..Default::default() };
                let model = load::Model::load(bundle, &options).map_err(|e| cx.diags.report(load_error(&e)))?;
                let session = model.open().map_err(|e| cx.diags.report(run_error(&e)))?;
                Ok(Running::Here { model, session })
            }
            #[cfg(feature = "emu")]
            Place::Emulated(e) => {
                if how.threads > 1 {
                    let d =
                        Diagnostic::error(Code::OPTION_UNUSED, format!("--threads {}: an emulated machine has one thread", how.threads));
                    return cx.fail(d.help("leave --threads out: results do not depend on it"));
                }
                let options = emu::Options { count: how.profile };
                let machine = e.load(bundle, &options).map_err(|e| cx.diags.report(load_error(&e)))?;
                Ok(Running::Emulated { machine, results: Vec::new() })
            }
        }
    }
    /// Its inputs.
    pub fn inputs(&self) -> &[Info] {
        match self {
            Running::Here { model, .. } => model.inputs(),
            #[cfg(feature = "emu")]
            Running::Emulated { machine, .. } => machine.inputs(),
        }
    }
    /// Its outputs.
    pub fn outputs(&self) -> &[Info] {
        match self {
            Running::Here { model, .. } => model.outputs(),
            #[cfg(feature = "emu")]
            Running::Emulated { machine, .. } => machine.outputs(),
        }
    }
    /// Runs it; [`Running::results`] has the outputs. This is what a benchmark times.
    ///
    /// # Errors
    /// `E0602` and what [`run_error`] makes of others.
    pub fn execute(&mut self, inputs: &[impl Input], cx: &mut Cx) -> Lowered<()> {
        let done = match self {
            Running::Here { session, .. } => session.execute(inputs),
            #[cfg(feature = "emu")]
            Running::Emulated { machine, results } => {
                let given: Vec<Arg<'_>> = inputs.iter().map(Input::arg).collect();
                machine.run(&given).map(|r| *results = r)
            }
        };
        done.map_err(|e| cx.diags.report(run_error(&e)))
    }
    /// Outputs of the last run that are tensors of numbers; others are empty ones here.
    pub fn results(&self) -> Vec<View<'_>> {
        match self {
            Running::Here { session, .. } => session.results(),
            #[cfg(feature = "emu")]
            Running::Emulated { results, .. } => {
                let empty = View { dtype: 0, dims: Vec::new(), data: &[] };
                results.iter().map(|v| v.tensor().map_or_else(|| empty.clone(), |t| t.view())).collect()
            }
        }
    }
    /// Outputs of the last run, of any kind.
    pub fn values(&self) -> Vec<Value> {
        match self {
            Running::Here { session, .. } => session.values(),
            #[cfg(feature = "emu")]
            Running::Emulated { results, .. } => results.clone(),
        }
    }
    /// Launches since the last call, where it was started to keep them in this process.
    pub fn take_launches(&self) -> Vec<Launch> {
        match self {
            Running::Here { model, .. } => model.take_profile(),
            #[cfg(feature = "emu")]
            Running::Emulated { .. } => Vec::new(),
        }
    }
    /// Instructions since the last call by function, where it was started to count them on an emulated machine.
    pub fn take_instructions(&mut self) -> Vec<Executed> {
        match self {
            Running::Here { .. } => Vec::new(),
            #[cfg(feature = "emu")]
            Running::Emulated { machine, .. } => machine.take_counts().into_iter().map(Executed::of).collect(),
        }
    }
}

/// A bundle with the place that runs it: the subject itself, or what it is compiled to. The place is found before anything is
/// compiled, so that a missing emulator costs no wait.
///
/// # Errors
/// `E0003` for options of compilation with a bundle, and anything on the way.
pub fn prepare(
    subject: &Path,
    target: &TargetArgs,
    (on, max_fallback): (Option<On>, Option<usize>),
    scratch: &Scratch,
    progress: &mut Progress,
    cx: &mut Cx,
) -> Lowered<(PathBuf, Place)> {
    if model::is_bundle(subject) {
        let manifest = Bundle::read(subject).map_err(|e| cx.diags.report(Diagnostic::error(Code::BAD_BUNDLE, e.to_string())))?.manifest;
        refuse_compile_options(target, &manifest.target.id, cx)?;
        fallback(&manifest.host_nodes, target.id(), max_fallback, cx)?;
        let place = choose(&manifest.target, on, cx)?;
        return Ok((subject.to_path_buf(), place));
    }
    let options = compile::options(target, cx)?;
    let place = choose(&compile::machine_target(&options.machine), on, cx)?;
    progress.stage("import");
    let m = model::load(subject, &target.dims, false, cx)?;
    let bundle = compile::bundle(m, &options, &scratch.path().join("model.pw"), false, progress, cx)?;
    let nodes = Bundle::read(&bundle).map(|b| b.manifest.host_nodes).unwrap_or_default();
    fallback(&nodes, target.id(), max_fallback, cx)?;
    Ok((bundle, place))
}

/// A bundle is compiled already: what would change that is refused.
fn refuse_compile_options(target: &TargetArgs, id: &str, cx: &mut Cx) -> Lowered<()> {
    let given = [
        ("--target", target.target.as_deref().is_some_and(|t| t != id)),
        ("--cpu", target.cpu.is_some()),
        ("--dim", !target.dims.is_empty()),
        ("--math", target.math.is_some()),
    ];
    for (option, _) in given.iter().filter(|(_, given)| *given) {
        let d = Diagnostic::error(Code::OPTION_UNUSED, format!("{option} says how a model is compiled, and this is a bundle for {id}"));
        cx.diags.report(d.help(format!("leave {option} out, or give the model")));
    }
    cx.diags.check()
}

/// Holds the nodes that run on the host against `--max-fallback`.
///
/// # Errors
/// `E0402` with each of them.
pub fn fallback(nodes: &[HostNode], target: &str, most: Option<usize>, cx: &mut Cx) -> Lowered<()> {
    let most = most.unwrap_or(if target == "host" { usize::MAX } else { 0 });
    // What works on texts and lists has no other place on any machine.
    let nodes: Vec<&HostNode> = nodes.iter().filter(|n| HostOp::from_name(&n.op).is_none()).collect();
    if nodes.len() > most {
        for n in &nodes {
            let d = Diagnostic::error(Code::OVER_FALLBACK, format!("runs on the host: {}", n.reason)).at(&n.node).op(&n.op);
            cx.diags.report(d.help(format!("{} nodes do; --max-fallback {} allows them", nodes.len(), nodes.len())));
        }
    }
    cx.diags.check()
}

/// What is wrong with a device.
fn device_code(status: Status) -> Option<Code> {
    Some(match status {
        Status::NoDriver => Code::NO_DRIVER,
        Status::OldDriver => Code::OLD_DRIVER,
        Status::NoDevice => Code::NO_DEVICE,
        Status::Capability => Code::CAPABILITY,
        Status::Device => Code::DEVICE_FAILED,
        Status::DeviceMemory => Code::DEVICE_MEMORY,
        Status::DeviceSize => Code::DEVICE_SIZE,
        _ => return None,
    })
}

/// A failed load as a report.
pub fn load_error(e: &LoadError) -> Diagnostic {
    let code = match e.status {
        status if device_code(status).is_some() => device_code(status).unwrap_or(Code::INTERNAL),
        Status::Cpu => Code::BUNDLE_FOREIGN,
        Status::Memory => Code::OVER_MEMORY,
        Status::Internal => Code::INTERNAL,
        _ => Code::BAD_BUNDLE,
    };
    // For a CPU that lacks something the bundle's own text says what to do.
    Diagnostic::error(code, e.to_string())
}

/// A failed run as a report.
pub fn run_error(e: &LoadError) -> Diagnostic {
    let code = match e.status {
        status if device_code(status).is_some() => device_code(status).unwrap_or(Code::INTERNAL),
        Status::Memory => Code::OVER_MEMORY,
        Status::Internal => Code::INTERNAL,
        _ => Code::RUN_FAILED,
    };
    Diagnostic::error(code, e.to_string())
}
