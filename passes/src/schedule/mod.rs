// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fusion regions to Kernel IR, once per machine class.
//!
//! A schedule takes the region of a `fusion` node and decides everything that the region leaves open: loops, tiles, vector widths,
//! scratch, masks. Symbols of the region are renamed to `s0`, `s1`, .. in order of appearance, so that isomorphic regions give
//! kernels that are equal and are emitted once.

use std::collections::HashMap;

use portwright_ir::graph::{FusionKind, Graph, Origin};
use portwright_ir::kernel::{Kernel, KernelId, Module};
use portwright_ir::sym::{SymExpr, SymName};

use crate::ranges::Range;
use crate::spec::MachineClass;

mod begin;
mod collapse;
pub mod cpu;
mod elementwise;
mod eval;
mod grouped;
mod index;
mod joined;
mod lifted;
mod problem;
mod random;
mod rows;
pub mod simt;
mod transform;

/// The kernels of a module, each structure once.
#[derive(Debug, Default)]
pub struct KernelPool {
    module: Module,
    by_hash: HashMap<[u8; 32], KernelId>,
}

impl KernelPool {
    /// Makes an empty pool.
    pub fn new() -> Self {
        Self::default()
    }
    /// The kernels so far.
    pub fn module(&self) -> &Module {
        &self.module
    }
    /// For builders, which define functions and atoms while they build.
    pub fn module_mut(&mut self) -> &mut Module {
        &mut self.module
    }
    /// The module with all kernels.
    pub fn into_module(self) -> Module {
        self.module
    }
    /// Adds a kernel, or finds the one of equal structure; the origins of both are kept.
    pub fn intern(&mut self, mut kernel: Kernel) -> KernelId {
        let hash = kernel.structural_hash(&self.module);
        if let Some(&id) = self.by_hash.get(&hash) {
            let all = &mut self.module.kernels[id].origin;
            all.extend(kernel.origin);
            return id;
        }
        let base = kernel.name.clone();
        let mut i = 2;
        while self.module.kernel_named(&kernel.name).is_some() {
            kernel.name = format!("{base}_{i}");
            i += 1;
        }
        let id = self.module.kernels.push(kernel);
        self.by_hash.insert(hash, id);
        id
    }
}

/// A scheduled region.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The kernel. Its buffer parameters are the region's inputs, then the region's outputs.
    pub kernel: KernelId,
    /// Groups of the launch, over the region's symbols.
    pub grid: [SymExpr; 3],
    /// Values of the kernel's symbols, in order, over the region's symbols.
    pub scalars: Vec<SymExpr>,
    /// Bytes of local scratch of one thread, over the region's symbols.
    pub scratch_bytes: SymExpr,
    /// Estimated time of one group in nanoseconds.
    pub group_cost_ns: u32,
    /// The same with narrower indices, for tensors that are small enough; its launch is the same.
    pub narrow: Option<Narrow>,
}

/// A kernel for smaller tensors.
#[derive(Clone, Debug)]
pub struct Narrow {
    /// The kernel.
    pub kernel: KernelId,
    /// Numbers of elements, over the region's symbols, each of which is at most `most`.
    pub elems: Vec<SymExpr>,
    /// The most elements.
    pub most: i64,
}

/// Why a region has no schedule on this machine class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// One sentence: which op or form.
    pub reason: String,
}

impl Unschedulable {
    /// Makes one.
    pub fn new(reason: impl Into<String>) -> Self {
        Unschedulable { reason: reason.into() }
    }
}

/// How a value that appends to an input of the model lies in memory: dense below the axis, and above it as if the axis had `room` rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The axis.
    pub axis: usize,
    /// Symbol of the rows that there is room for.
    pub room: SymName,
    /// Symbol of the rows of the input that are to be copied, all or none.
    pub front: SymName,
}

impl Room {
    /// Strides in elements of a value of these dims; `room` as the kernel calls it.
    pub(crate) fn strides(&self, dims: &[SymExpr], room: &SymExpr) -> Vec<SymExpr> {
        let extent = |(i, d): (usize, &SymExpr)| if i == self.axis { room.clone() } else { d.clone() };
        let extents: Vec<SymExpr> = dims.iter().enumerate().map(extent).collect();
        (0..dims.len()).map(|i| portwright_ir::sym::product(&extents[i + 1..])).collect()
    }
}

/// What is known of the numbers that a region meets.
pub struct Known<'a> {
    /// Smallest value, largest value and a divisor of each symbol.
    pub symbols: &'a dyn Fn(&str) -> (i64, i64, i64),
    /// Between which numbers the elements of each input lie.
    pub inputs: &'a [Option<Range>],
    /// For each input, then each output, how it lies if it is not dense; what is missing is dense.
    pub rooms: &'a [Option<Room>],
    /// Whether every tensor has so few elements that the narrowest index counts them.
    pub short: bool,
}

/// The axis along which a region joins its first input and more, if the machine class writes that with [`Room`].
pub fn appends(machine: &MachineClass, kind: FusionKind, region: &Graph) -> Option<usize> {
    match machine {
        MachineClass::Cpu(_) if kind == FusionKind::Map => cpu::appends(region),
        _ => None,
    }
}

/// Whether kernels of that kind read operands that lie with [`Room`].
pub fn reads_rooms(machine: &MachineClass, kind: FusionKind) -> bool {
    matches!(machine, MachineClass::Cpu(_)) && kind == FusionKind::Attention
}

/// Schedules one region into `pool`.
///
/// # Errors
/// A form that the machine class does not take.
pub fn schedule(
    machine: &MachineClass,
    kind: FusionKind,
    region: &Graph,
    known: &Known<'_>,
    origin: &Origin,
    pool: &mut KernelPool,
) -> Result<Scheduled, Unschedulable> {
    match machine {
        MachineClass::Cpu(spec) => cpu::schedule(spec, kind, region, known, origin, pool),
        MachineClass::Simt(spec) => simt::schedule(spec, kind, region, known, origin, pool),
    }
}

/// Names of a region's symbols in the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct SymMap {
    names: Vec<(SymName, SymName)>,
}

impl SymMap {
    /// Numbers the symbols of a region's types and attributes in order of name within order of appearance.
    pub(crate) fn of(region: &Graph) -> Self {
        let mut map = SymMap::default();
        let mut add = |e: &SymExpr| {
            let mut set = std::collections::BTreeSet::new();
            e.collect_symbols(&mut set);
            for s in set {
                if !map.names.iter().any(|(g, _)| *g == s) {
                    let k: SymName = format!("s{}", map.names.len()).into();
                    map.names.push((s, k));
                }
            }
        };
        for &v in region.inputs() {
            region.ty(v).dims.iter().for_each(&mut add);
        }
        for n in region.order() {
            let node = region.node(n);
            let mut set = std::collections::BTreeSet::new();
            portwright_ir::graph::collect_attr_symbols(&node.op, &mut set);
            set.into_iter().for_each(|s| add(&SymExpr::sym(s)));
            for &v in &node.results {
                region.ty(v).dims.iter().for_each(&mut add);
            }
        }
        map
    }
    /// One more symbol, behind those of the region.
    pub(crate) fn with(mut self, s: &SymName) -> Self {
        if !self.names.iter().any(|(g, _)| g == s) {
            let k: SymName = format!("s{}", self.names.len()).into();
            self.names.push((s.clone(), k));
        }
        self
    }
    /// An expression of the region in the kernel's names.
    pub(crate) fn to_kernel(&self, e: &SymExpr) -> SymExpr {
        e.substitute(&|s| self.names.iter().find(|(g, _)| &**g == s).map(|(_, k)| SymExpr::sym(k.clone())))
    }
    /// An expression of the kernel in the region's names.
    pub(crate) fn to_region(&self, e: &SymExpr) -> SymExpr {
        e.substitute(&|s| self.names.iter().find(|(_, k)| &**k == s).map(|(g, _)| SymExpr::sym(g.clone())))
    }
    /// Region and kernel name of every symbol, in order.
    pub(crate) fn names(&self) -> &[(SymName, SymName)] {
        &self.names
    }
}
