// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bundles that drive a device, with the device's kernels in [`crate::ptx`]'s machine.
//!
//! The bundle's own library runs in this process as it would beside the device: its plan, its copies and launches, its checks. Only the
//! table of its driver is another one ([`portwright_runtime::device`]), whose memory and launches are the emulated machine's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portwright_runtime::device::{Code, Device, Driver, Launch, Table};
use portwright_runtime::load::{Info, LoadError, Model, Options as LoadOptions, Session};
use portwright_runtime::manifest::Target;
use portwright_runtime::value::{Arg, Value};

use crate::ptx;
use crate::{Count, Executor, Launched, Machine, Missing, Options};

/// Runs bundles of a device whose code is PTX.
#[derive(Debug)]
pub struct Gpu;

/// The executor for a bundle that drives a device, if this program can be that device.
///
/// # Errors
/// It is another device, or the plan is for another machine than this one.
pub fn find(target: &Target) -> Result<Gpu, Missing> {
    let own = target.triple.split('-').next() == Some(std::env::consts::ARCH);
    let driver = target.device.as_deref().and_then(Driver::from_name);
    if own && driver == Some(Driver::Cuda) { Ok(Gpu) } else { Err(Missing::Nobody { triple: target.triple.clone() }) }
}

/// The assembler of a device's vendor, as a second opinion on code for it.
#[derive(Debug)]
pub struct Judge(ptx::ptxas::Ptxas);

/// The assembler for code of that driver, in one of these folders or in the search path.
///
/// # Errors
/// It is nowhere.
pub fn judge(driver: Driver, folders: &[PathBuf]) -> Result<Judge, ptx::ptxas::PtxasError> {
    match driver {
        Driver::Cuda => ptx::ptxas::find(folders).map(Judge),
        // Its code is the vendor's compiler's.
        Driver::Source => Err(ptx::ptxas::PtxasError::NotFound),
    }
}

impl Judge {
    /// Name and version for people, as `ptxas 13.5.37`.
    pub fn name(&self) -> String {
        format!("ptxas {}", self.0.version())
    }

    /// What it says of all images, in their order; `threads` of them at a time, 0 = one a CPU.
    ///
    /// # Errors
    /// Of the first image that it refuses.
    pub fn judge(&self, code: &Code, threads: usize) -> Result<ptx::ptxas::Report, ptx::ptxas::PtxasError> {
        let here = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { here } else { threads }.min(code.images.len());
        let next = AtomicUsize::new(0);
        let said = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = code.images.get(i) else { return };
                let report = self.0.judge(&code.name, text);
                said.lock().unwrap_or_else(PoisonError::into_inner).insert(i, report);
            }
        };
        std::thread::scope(|s| (0..threads).for_each(|_| drop(s.spawn(work))));
        let mut all = ptx::ptxas::Report::default();
        for (_, report) in said.into_inner().unwrap_or_else(PoisonError::into_inner) {
            all.append(report?);
        }
        Ok(all)
    }
}

/// What was launched, by kernel.
type Tally = Arc<Mutex<BTreeMap<String, Launched>>>;

/// The machine and what was loaded into it.
struct Ptx {
    machine: ptx::Machine,
    images: Vec<ptx::Loaded>,
    tally: Option<Tally>,
    /// Bytes given and not given back.
    taken: BTreeMap<u64, u64>,
    edit: Option<Edit>,
}

/// Bytes of memory that the machine is said to have.
const MEMORY: u64 = 64 << 30;

impl Device for Ptx {
    fn memory(&self) -> (u64, u64) {
        (MEMORY.saturating_sub(self.taken.values().sum()), MEMORY)
    }
    fn alloc(&mut self, bytes: u64) -> Result<u64, String> {
        if bytes > self.memory().0 {
            return Err(format!("{bytes} bytes of {} that are free", self.memory().0));
        }
        let address = self.machine.alloc(bytes, "memory");
        self.taken.insert(address, bytes);
        Ok(address)
    }
    fn release(&mut self, address: u64) {
        self.taken.remove(&address);
        self.machine.free(address);
    }
    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), String> {
        if self.machine.write(to, bytes) {
            Ok(())
        } else {
            Err(format!("a copy of {} bytes to {to:#x} leaves what was given", bytes.len()))
        }
    }
    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), String> {
        if self.machine.read(from, bytes) {
            Ok(())
        } else {
            Err(format!("a copy of {} bytes from {from:#x} leaves what was given", bytes.len()))
        }
    }
    fn image(&mut self, text: &str) -> Result<usize, String> {
        let edited = self.edit.as_ref().map(|e| e(text));
        let module = ptx::Module::parse(edited.as_deref().unwrap_or(text)).map_err(|e| e.to_string())?;
        self.images.push(self.machine.load(module));
        Ok(self.images.len() - 1)
    }
    fn has(&self, image: usize, kernel: &str) -> bool {
        self.images.get(image).is_some_and(|i| i.module().kernels.contains_key(kernel))
    }
    fn launch(&mut self, l: &Launch<'_>) -> Result<(), String> {
        let image = self.images.get(l.image).ok_or("a launch from no image")?;
        let mut launch = ptx::Launch::new(l.grid, [l.group, 1, 1], l.params.iter().map(|p| ptx::Param::from(*p)).collect());
        launch.shared = l.dynamic.into();
        // The runtime names the kernel of a launch that failed.
        let told = |text: String| text.strip_prefix(&format!("kernel {}: ", l.kernel)).map(str::to_owned).unwrap_or(text);
        let counts = self.machine.launch(image, l.kernel, &launch).map_err(|f| told(f.to_string()))?;
        if let Some(t) = &self.tally {
            let mut all = t.lock().unwrap_or_else(PoisonError::into_inner);
            let own = all.entry(l.kernel.to_owned()).or_default();
            own.launches += 1;
            own.counts.add(&counts);
        }
        Ok(())
    }
}

/// A device that executes PTX, for loading a bundle in this process.
pub fn device(options: ptx::Options) -> Table {
    made(options, None)
}

/// What a text of PTX is changed into before it is loaded.
pub type Edit = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// As [`device`], for texts that are changed before they are loaded: faults that are put in have to be found.
pub fn device_of_edited(options: ptx::Options, edit: Edit) -> Table {
    let machine = ptx::Machine::new(options);
    Table::new(Box::new(Ptx { machine, images: Vec::new(), tally: None, taken: BTreeMap::new(), edit: Some(edit) }))
}

fn made(options: ptx::Options, tally: Option<Tally>) -> Table {
    Table::new(Box::new(Ptx { machine: ptx::Machine::new(options), images: Vec::new(), tally, taken: BTreeMap::new(), edit: None }))
}

impl Executor for Gpu {
    fn name(&self) -> String {
        "the PTX machine of this program".into()
    }
    fn load(&self, bundle: &Path, options: &Options) -> Result<Box<dyn Machine>, LoadError> {
        let tally = options.count.then(Tally::default);
        let checks = ptx::Options { count: options.count, unique: options.count, threads: 0, ..ptx::Options::default() };
        let table = Arc::new(made(checks, tally.clone()));
        let model = Model::load(bundle, &LoadOptions { device: Some(table), ..LoadOptions::default() })?;
        let session = model.open()?;
        Ok(Box::new(Running { model, session, tally }))
    }
}

/// A bundle that is loaded beside the machine.
struct Running {
    model: Model,
    session: Session,
    tally: Option<Tally>,
}

impl Machine for Running {
    fn inputs(&self) -> &[Info] {
        self.model.inputs()
    }
    fn outputs(&self) -> &[Info] {
        self.model.outputs()
    }
    fn run(&mut self, inputs: &[Arg<'_>]) -> Result<Vec<Value>, LoadError> {
        self.session.execute(inputs)?;
        Ok(self.session.values())
    }
    fn take_counts(&mut self) -> Vec<Count> {
        let Some(t) = &self.tally else { return Vec::new() };
        let all = std::mem::take(&mut *t.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().map(|(function, l)| Count { function, instructions: l.counts.instructions, device: Some(l) }).collect()
    }
}
