// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the kernels of all machine classes begin and end: symbols, parameters, status, launch.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{FusionKind, Graph, Node, Op, Origin};
use portwright_ir::kernel::{Buf, BufDecl, Class, Kb, Kernel, Module};
use portwright_ir::sym::{SymExpr, product};

use super::eval::{Eval, Stop};
use super::{Known, Room, SymMap};
use crate::ranges;
use crate::spec::CpuSpec;

/// What all schedules of a region share.
pub(crate) struct Cx<'a, S> {
    /// The machine.
    pub(super) spec: &'a S,
    /// What is computed.
    pub(super) region: &'a Graph,
    /// What is known of its numbers.
    pub(super) known: &'a Known<'a>,
    /// Nodes of the model.
    pub(super) origin: &'a Origin,
    /// Name of the kernel.
    pub(super) name: String,
}

/// A machine that kernels are begun for.
pub(crate) trait Spec {
    /// Class of its kernels.
    const CLASS: Class;
    /// Bytes on whose multiple each parameter begins; `None` for those of one element.
    fn align(&self) -> Option<u32>;
    /// Width of indices of a kernel whose tensors have at most that many elements.
    fn index(&self, most: i64) -> DType;
}

impl Spec for CpuSpec {
    const CLASS: Class = Class::Cpu;
    fn align(&self) -> Option<u32> {
        None
    }
    fn index(&self, _: i64) -> DType {
        DType::I64
    }
}

/// A kernel before it is finished.
pub(crate) struct Begun<'a, 'm> {
    /// The kernel.
    pub(super) k: Kb<'m>,
    /// Its values.
    pub(super) eval: Eval<'a>,
    /// Where results go.
    pub(super) outputs: Vec<Buf>,
}

impl<'a, S: Spec> Cx<'a, S> {
    /// Declares symbols, inputs and outputs of the kernel.
    pub(super) fn begin<'m>(&self, module: &'m mut Module, width: u32) -> Begun<'a, 'm> {
        self.begin_reading(module, width, None)
    }
    /// As `begin`, for a kernel that also reads what it wrote to that output.
    pub(super) fn begin_reading<'m>(&self, module: &'m mut Module, width: u32, output: Option<usize>) -> Begun<'a, 'm> {
        let mut k = Kb::new(module, &self.name, S::CLASS);
        for p in &self.origin.paths {
            k.origin(&**p);
        }
        let mut syms = SymMap::of(self.region);
        for (i, r) in self.known.rooms.iter().enumerate().filter_map(|(i, r)| Some((i, r.as_ref()?))) {
            syms = syms.with(&r.room);
            if i >= self.region.inputs().len() {
                syms = syms.with(&r.front);
            }
        }
        let mut eval = Eval::new(self.region, syms.clone(), width);
        eval.ranges = ranges::of(self.region, self.known.inputs);
        for (region_name, kernel_name) in syms.names() {
            let (lo, hi, div) = (self.known.symbols)(region_name);
            k.sym(kernel_name, lo, hi, div);
            eval.ix.add_symbol(kernel_name, lo, hi);
        }
        let largest = |eval: &Eval<'_>| {
            eval.graph.values().values().map(|v| eval.ix.bounds(&eval.syms.to_kernel(&v.ty.elems())).1).max().unwrap_or(0)
        };
        k.set_index(self.spec.index(if self.known.short { 0 } else { largest(&eval) }));
        let aligned = |d: BufDecl| match self.spec.align() {
            Some(bytes) => d.align(bytes),
            None => d,
        };
        for (i, &v) in self.region.inputs().iter().enumerate() {
            let (d, dims) = (eval.dtype(v), eval.dims(v));
            let decl = match d.is_packed() {
                true => BufDecl::ro(DType::U8, [(product(&dims) * i64::from(d.bits())).ceil_div(&8.into())]),
                false => self.lying(BufDecl::ro(d, dims.clone()), i, &dims, &eval),
            };
            let buf = k.param(&format!("x{i}"), aligned(decl));
            eval.bind_buf(v, buf);
        }
        let mut outputs = Vec::new();
        let reads_back = self.region.node_ids().any(|n| {
            matches!(
                self.region.node(n).op,
                Op::ScatterElements { .. } | Op::ScatterNd { .. } | Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. }
            )
        });
        for (i, o) in self.region.outputs().iter().enumerate() {
            let (d, dims) = (eval.dtype(o.value), eval.dims(o.value));
            let decl = if reads_back || output == Some(i) { BufDecl::rw(d, dims.clone()) } else { BufDecl::wo(d, dims.clone()) };
            let decl = self.lying(decl, self.region.inputs().len() + i, &dims, &eval);
            outputs.push(k.param(&format!("y{i}"), aligned(decl)));
        }
        let guards = self.region.node_ids().any(|n| {
            matches!(
                self.region.node(n).op,
                Op::Gather { .. }
                    | Op::GatherElements { .. }
                    | Op::GatherNd { .. }
                    | Op::ScatterElements { .. }
                    | Op::ScatterNd { .. }
                    | Op::GroupRows { .. }
            )
        });
        if guards {
            k.status("status");
        }
        Begun { k, eval, outputs }
    }
    /// A buffer as its value lies: dense, or with room.
    fn lying(&self, decl: BufDecl, i: usize, dims: &[SymExpr], eval: &Eval<'_>) -> BufDecl {
        match self.room(i) {
            Some(r) => decl.strides(r.strides(dims, &eval.syms.to_kernel(&SymExpr::sym(r.room.clone())))),
            None => decl,
        }
    }
    /// Room of an input, or of an output behind all inputs.
    pub(super) fn room(&self, i: usize) -> Option<&'a Room> {
        self.known.rooms.get(i).and_then(Option::as_ref)
    }
    /// The only node that `f` takes.
    pub(super) fn root(&self, f: impl Fn(&Op) -> bool) -> Result<&'a Node, Stop> {
        let mut found = self.region.order().into_iter().map(|n| self.region.node(n)).filter(|n| f(&n.op));
        match (found.next(), found.next()) {
            (Some(n), None) => Ok(n),
            _ => Stop::no("a region without exactly one op of its kind"),
        }
    }
}

/// A kernel that is not in the module yet, with its launch over the region's symbols.
pub(crate) struct Built {
    /// The kernel.
    pub(super) kernel: Kernel,
    /// Groups.
    pub(super) grid: [SymExpr; 3],
    /// Values of its symbols.
    pub(super) scalars: Vec<SymExpr>,
    /// Time of a group.
    pub(super) cost_ns: u32,
    /// Names of symbols.
    pub(super) syms: SymMap,
}

/// Ends a kernel and says how it is launched. `grid` is over the kernel's symbols; `cost_ns` is that of one group.
pub(super) fn finish(b: Begun<'_, '_>, grid: [SymExpr; 3], cost_ns: u32) -> Built {
    let Begun { mut k, eval, .. } = b;
    k.launch(grid.clone());
    let scalars = eval.syms.names().iter().map(|(g, _)| SymExpr::sym(g.clone())).collect();
    let grid = grid.map(|g| eval.syms.to_region(&g));
    Built { kernel: k.into_kernel(), grid, scalars, cost_ns: cost_ns.max(1), syms: eval.syms }
}

/// A name that tells what the kernel does: its first ops that are more than movement.
pub(super) fn kernel_name(kind: FusionKind, region: &Graph) -> String {
    let mut name = String::from(kind.name());
    let mut last = "";
    let ops = region.order().into_iter().map(|n| &region.node(n).op).filter(|op| !op.is_source() && !op.is_movement());
    for m in ops.map(Op::mnemonic).filter(|m| *m != kind.name()) {
        if name.len() > 40 {
            break;
        }
        if m != last {
            name.push('_');
            name.push_str(m);
            last = m;
        }
    }
    name
}

/// Coordinates of a row, named one by one so that each division is done once.
pub(super) fn name_coords(k: &mut Kb<'_>, eval: &mut Eval<'_>, row: &SymExpr, dims: &[SymExpr]) -> Vec<SymExpr> {
    let coords = eval.ix.delinearize(row, dims);
    coords
        .into_iter()
        .zip(dims)
        .map(|(c, d)| {
            if c.as_const().is_some() || c.as_sym().is_some() {
                return c;
            }
            let ex = eval.ix.emit(k, &c);
            let named = k.let_("i", ex);
            eval.ix.bind("i", named, d.clone())
        })
        .collect()
}
