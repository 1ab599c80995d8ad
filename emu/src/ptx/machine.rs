// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine: memory, and launches of kernels.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cluster::Cluster;
use super::count::Counts;
use super::fault::{Fault, FaultKind};
use super::memory::Memory;
use super::module::{Kernel, Module, Target};
use super::ty::{FUNC_WINDOW, Space};

/// What is checked and counted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Races on shared memory of a group or cluster, asynchronous data that is used too early, and races on device memory between groups of a
    /// launch that do not communicate.
    pub races: bool,
    /// Shared memory that is read before it was written.
    pub uninitialized: bool,
    /// Sectors, banks and classes are counted.
    pub count: bool,
    /// Bytes touched are noted, for [`super::Traffic::unique`].
    pub unique: bool,
    /// Threads of this machine; 0 for as many as it has. What groups compute does not depend on it.
    pub threads: usize,
    /// Most instructions of warps in a launch.
    pub limit: u64,
    /// Groups that are resident at once where some wait for others.
    pub resident: usize,
    /// Most bytes of shared memory of a group.
    pub shared: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            races: true,
            uninitialized: false,
            count: true,
            unique: true,
            threads: 1,
            limit: 1 << 36,
            resident: 256,
            shared: 227 << 10,
        }
    }
}

/// A parameter of a kernel, as its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param(pub Vec<u8>);

macro_rules! param {
    ($($t:ty),*) => {$(
        impl From<$t> for Param {
            fn from(v: $t) -> Param { Param(v.to_le_bytes().to_vec()) }
        }
    )*};
}
param!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

/// A launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Groups.
    pub grid: [u32; 3],
    /// Threads of a group.
    pub block: [u32; 3],
    /// Groups of a cluster; one each where the kernel does not say otherwise.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u64,
    /// Parameters in order.
    pub params: Vec<Param>,
}

impl Launch {
    /// One without clusters and dynamic memory.
    pub fn new(grid: [u32; 3], block: [u32; 3], params: Vec<Param>) -> Launch {
        Launch { grid, block, cluster: [1; 3], shared: 0, params }
    }
}

/// What all threads of a launch share.
pub(crate) struct Run<'a> {
    pub module: &'a Module,
    pub kernel: &'a Kernel,
    pub memory: &'a Memory,
    pub options: &'a Options,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub params: Vec<u8>,
    /// Bytes of shared memory of a group, dynamic ones at the end.
    pub shared: u64,
    pub dynamic: u64,
    /// Number of each function's first instruction among all.
    pub sites: Vec<u32>,
    pub spent: AtomicU64,
    pub stop: AtomicBool,
}

/// A device: memory and modules.
#[derive(Debug, Default)]
pub struct Machine {
    memory: Memory,
    /// What launches check and count.
    pub options: Options,
}

/// A module whose variables have addresses in a machine's memory.
#[derive(Debug)]
pub struct Loaded {
    module: Module,
}

impl Loaded {
    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Address and bytes of a variable in device memory.
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.module.vars.iter().find(|v| v.name == name && v.space != Space::Shared).map(|v| (v.address, v.size))
    }
}

impl Machine {
    /// A machine without allocations.
    pub fn new(options: Options) -> Machine {
        Machine { memory: Memory::default(), options }
    }

    /// Gives a module's variables their memory.
    pub fn load(&mut self, mut module: Module) -> Loaded {
        for v in module.vars.iter_mut().filter(|v| v.space != Space::Shared) {
            v.address = self.memory.alloc(v.size, v.align, &v.name, v.space == Space::Const);
        }
        for i in 0..module.vars.len() {
            let v = &module.vars[i];
            let mut data = v.data.clone();
            for (at, bytes, target, offset, shift) in &v.refs {
                let base = match target {
                    Target::Var(t) => module.vars[*t as usize].address,
                    Target::Func(f) => FUNC_WINDOW + u64::from(*f),
                };
                let value = base.wrapping_add(*offset as u64) >> shift;
                data[*at..*at + *bytes].copy_from_slice(&value.to_le_bytes()[..*bytes]);
            }
            if v.space != Space::Shared {
                self.memory.write(v.address, &data);
            }
        }
        module.patch(Space::Global);
        Loaded { module }
    }

    /// New memory of zeros; its address is a multiple of 512.
    pub fn alloc(&mut self, bytes: u64, name: &str) -> u64 {
        self.memory.alloc(bytes, 1, name, false)
    }

    /// Gives memory back; false where none begins there.
    pub fn free(&mut self, address: u64) -> bool {
        self.memory.free(address)
    }

    /// Copies bytes to the device; false where they do not fit into one allocation.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        self.memory.write(address, bytes)
    }

    /// Copies bytes from the device; false where one allocation does not hold them.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self.memory.read(address, bytes)
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// The first thing that went wrong; memory keeps what was stored until then.
    pub fn launch(&mut self, loaded: &Loaded, kernel: &str, launch: &Launch) -> Result<Counts, Box<Fault>> {
        // Where there is one group, or groups order themselves by atomics, none is held against another.
        let alone = launch.grid.iter().map(|n| u64::from(*n)).product::<u64>() == 1;
        let groups = self.options.races && !alone && loaded.module.kernels.get(kernel).is_some_and(|k| !k.communicates);
        self.memory.watch(self.options.count && self.options.unique, groups);
        let run = self.prepare(&loaded.module, kernel, launch)?;
        let clusters: u64 = (0..3).map(|i| u64::from(run.grid[i] / run.cluster[i])).product();
        let threads = match self.options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let alone = threads == 1 || clusters == 1 || run.kernel.communicates;
        let mut counts = if alone { together(&run, clusters)? } else { apart(&run, clusters, threads)? };
        counts.load.unique = self.memory.watched(false);
        counts.store.unique = self.memory.watched(true);
        Ok(counts)
    }

    fn prepare<'a>(&'a self, module: &'a Module, name: &str, launch: &Launch) -> Result<Run<'a>, Box<Fault>> {
        let bad =
            |what: String| Box::new(Fault { kind: FaultKind::Launch, kernel: name.to_owned(), what, at: None, address: None, other: None });
        let kernel = module.kernels.get(name).ok_or_else(|| bad("the module has no such kernel".into()))?;
        let threads: u64 = launch.block.iter().map(|n| u64::from(*n)).product();
        if threads == 0 || threads > 1024 {
            return Err(bad(format!("a group of {threads} threads")));
        }
        if launch.grid.contains(&0) {
            return Err(bad(format!("a grid of {:?} groups", launch.grid)));
        }
        let cluster = kernel.cluster.filter(|c| !c.contains(&0)).unwrap_or(launch.cluster);
        if cluster.contains(&0)
            || (0..3).any(|i| launch.grid[i] % cluster[i] != 0)
            || cluster.iter().map(|n| u64::from(*n)).product::<u64>() > 16
        {
            return Err(bad(format!("clusters of {cluster:?} groups in a grid of {:?}", launch.grid)));
        }
        if let Some(r) = kernel.reqntid
            && r != launch.block
        {
            return Err(bad(format!("groups of {:?} threads, and the kernel demands {r:?}", launch.block)));
        }
        if let Some(m) = kernel.maxntid
            && threads > m.iter().map(|n| u64::from(*n)).product()
        {
            return Err(bad(format!("groups of {threads} threads, and the kernel allows {m:?}")));
        }
        if launch.params.len() != kernel.params.len() {
            return Err(bad(format!("{} parameters, and the kernel has {}", launch.params.len(), kernel.params.len())));
        }
        let size = kernel.params.iter().map(|(at, n)| at + n).max().unwrap_or(0);
        let mut params = vec![0; size as usize];
        for (i, (p, (at, n))) in launch.params.iter().zip(&kernel.params).enumerate() {
            if p.0.len() != *n as usize {
                return Err(bad(format!("parameter {i} has {} bytes, and the kernel's has {n}", p.0.len())));
            }
            params[*at as usize..(*at + *n) as usize].copy_from_slice(&p.0);
        }
        let shared = kernel.shared + launch.shared;
        if shared > self.options.shared {
            return Err(bad(format!("{shared} bytes of shared memory, and a group may have {}", self.options.shared)));
        }
        Ok(Run {
            module,
            kernel,
            memory: &self.memory,
            options: &self.options,
            grid: launch.grid,
            block: launch.block,
            cluster,
            params,
            shared,
            dynamic: launch.shared,
            sites: module.codes.iter().scan(0, |n, c| Some(std::mem::replace(n, *n + c.instrs.len() as u32))).collect(),
            spent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }
}

/// Instructions that a cluster runs before another one gets its turn, where clusters may wait for each other.
const TURN: u64 = 1 << 16;

/// All clusters on this thread, in order; one that does not end in its turn waits until others had theirs.
fn together(run: &Run<'_>, clusters: u64) -> Result<Counts, Box<Fault>> {
    let mut counts = Counts::new();
    let mut resident: VecDeque<Cluster> = VecDeque::new();
    let mut next = 0;
    loop {
        let mut c = if next < clusters && resident.len() < run.options.resident.max(1) {
            next += 1;
            Cluster::new(run, next - 1)
        } else {
            match resident.pop_front() {
                Some(c) => c,
                None => return Ok(counts),
            }
        };
        if c.run(run, if run.kernel.communicates { TURN } else { u64::MAX })? {
            counts.add(&c.counts);
        } else {
            resident.push_back(c);
        }
    }
}

/// Clusters on several threads; none of them depends on another.
fn apart(run: &Run<'_>, clusters: u64, threads: usize) -> Result<Counts, Box<Fault>> {
    let next = AtomicU64::new(0);
    let work = || -> (Vec<(u64, Counts)>, Option<(u64, Box<Fault>)>) {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= clusters || run.stop.load(Ordering::Relaxed) {
                return (done, None);
            }
            let mut c = Cluster::new(run, i);
            match c.run(run, u64::MAX) {
                Ok(_) => done.push((i, c.counts)),
                Err(f) => {
                    run.stop.store(true, Ordering::Relaxed);
                    return (done, Some((i, f)));
                }
            }
        }
    };
    let parts: Vec<_> = std::thread::scope(|s| {
        let handles: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    for (done, fault) in parts {
        all.extend(done);
        faults.extend(fault);
    }
    // Groups begin in order, so the first that fails in order has been run whatever the number of threads.
    if let Some((_, f)) = faults.into_iter().min_by_key(|f| f.0) {
        return Err(f);
    }
    all.sort_by_key(|c| c.0);
    let mut counts = Counts::new();
    all.iter().for_each(|c| counts.add(&c.1));
    Ok(counts)
}
