// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A legal graph of fusions to kernels and one host plan.
//!
//! Nodes are walked once in order. Fusions become launches, views become buffers over the same bytes, shape tensors are written by the
//! plan, symbols are bound where their data is there. Then each epoch's arena is placed by lifetimes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use portwright_ir::diag::{Code, Diagnostic, Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::entity::{EntityId, SecondaryMap};
use portwright_ir::graph::op::WeightId;
use portwright_ir::graph::{FusionKind, Graph, Literal, Node, Op, Origin, PadMode, SymSource, TensorType, ValueId};
use portwright_ir::kernel::Module;
use portwright_ir::plan::{Buffer, BufferId, Fault, HostPlan, KernelRef, Launch, OriginId, PlanSymbol, Port, Pred, Stmt, Storage};
use portwright_ir::sym::{Atom, SymExpr, SymName, View, product};
use portwright_ir::weight::Weight;

use crate::legalize::operands;
use crate::ranges::{self, Range};
use crate::schedule::{KernelPool, Known, Room, Scheduled, schedule};
use crate::spec::MachineClass;

mod alias;
mod control;
mod host;
mod memory;
mod region;
mod unchecked;

use memory::Request;
use region::{count_region, single, source_region};
pub use unchecked::without_checks;

/// Where the bytes of a stored weight come from.
#[derive(Clone, Debug)]
pub enum WeightInit {
    /// A weight of the graph; a packed one is an output of the pack program of the same name.
    Weight(Weight),
    /// A small constant.
    Literal(Literal),
}

/// Kernels and plan of one graph.
#[derive(Debug)]
pub struct Program {
    /// Kernels; `KernelRef`s of the plan count them.
    pub module: Module,
    /// The plan.
    pub plan: HostPlan,
    /// Sources of [`HostPlan::weights`], by position.
    pub weights: Vec<WeightInit>,
}

/// Builds kernels and plan.
///
/// # Errors
/// Every node that has no schedule is reported, not the first only.
pub fn build(graph: &Graph, machine: &MachineClass, diags: &mut Diags) -> Lowered<Program> {
    let appended = alias::in_place(graph, machine);
    match build_with(graph, machine, appended, diags)? {
        Some(program) => Ok(program),
        None => build_with(graph, machine, HashMap::new(), diags)?
            .ok_or_else(|| diags.report(Diagnostic::error(Code::INTERNAL, "a plan without outputs in place asks for them to be dense"))),
    }
}

/// As [`build`]; `None` if a kernel that reads a result in place has no form that does.
fn build_with(
    graph: &Graph,
    machine: &MachineClass,
    appended: HashMap<ValueId, alias::Appended>,
    diags: &mut Diags,
) -> Lowered<Option<Program>> {
    let mut b = Builder {
        graph,
        machine,
        diags,
        pool: KernelPool::new(),
        ranges: ranges::of(graph, &[]),
        plan: HostPlan { name: graph.name.clone(), texts: graph.texts.clone(), ..Default::default() },
        weights: Vec::new(),
        stored: HashMap::new(),
        origins: HashMap::new(),
        bound: BTreeSet::new(),
        pending: graph.constraints.clone(),
        uses: Vec::new(),
        epochs: Vec::new(),
        open: None,
        view_of: HashMap::new(),
        appended,
        refused: false,
        position: 0,
        next_name: 0,
    };
    b.symbols();
    let mut body = Vec::new();
    let inputs: Vec<BufferId> = (0..graph.inputs().len()).map(|i| b.input(i)).collect();
    b.bind_inputs(&mut body);
    let outputs: Vec<Option<u32>> = graph.outputs().iter().enumerate().map(|(i, _)| Some(i as u32)).collect();
    b.block(graph, &inputs, &outputs, &mut body);
    if b.refused {
        return Ok(None);
    }
    b.diags.check()?;
    b.place(&mut body);
    b.plan.body = body;
    Ok(Some(Program { module: b.pool.into_module(), plan: b.plan, weights: b.weights }))
}

/// One arena.
struct Epoch {
    /// Symbols that were bound when it was opened.
    bound: BTreeSet<SymName>,
    /// Its buffers.
    buffers: Vec<BufferId>,
}

struct Builder<'a> {
    graph: &'a Graph,
    machine: &'a MachineClass,
    diags: &'a mut Diags,
    pool: KernelPool,
    /// Between which numbers the integers of the graph lie.
    ranges: SecondaryMap<ValueId, Option<Range>>,
    plan: HostPlan,
    weights: Vec<WeightInit>,
    stored: HashMap<WeightId, u32>,
    origins: HashMap<Origin, OriginId>,
    bound: BTreeSet<SymName>,
    /// Constraints whose symbols are not all bound yet.
    pending: Vec<portwright_ir::graph::Constraint>,
    /// For each buffer in an arena: first and last statement that touches its bytes.
    uses: Vec<Option<(usize, usize)>>,
    epochs: Vec<Epoch>,
    /// Epoch that takes new buffers.
    open: Option<usize>,
    /// Views of arena buffers: whose bytes, from which byte on.
    view_of: HashMap<BufferId, (BufferId, SymExpr)>,
    /// Results that may be written where the input lies to which they append.
    appended: HashMap<ValueId, alias::Appended>,
    /// Whether a kernel has no form with such operands.
    refused: bool,
    /// Statements so far, over all blocks.
    position: usize,
    next_name: u32,
}

/// The launch of a scheduled region; where it has a kernel with narrower indices, the choice between both.
fn launch_of(s: Scheduled, buffers: Vec<BufferId>, origin: OriginId) -> Stmt {
    let wide = Launch {
        kernel: KernelRef::new(s.kernel.index()),
        grid: s.grid,
        buffers,
        scalars: s.scalars,
        scratch_bytes: s.scratch_bytes,
        group_cost_ns: s.group_cost_ns,
        origin,
    };
    let Some(n) = s.narrow else { return Stmt::Launch(wide) };
    let small = n.elems.into_iter().map(|e| Pred::Le(e, n.most.into())).collect();
    let narrow = Launch { kernel: KernelRef::new(n.kernel.index()), ..wide.clone() };
    Stmt::Choose { cases: vec![(small, narrow), (Vec::new(), wide)] }
}

/// Buffers of a block's values.
type Env = HashMap<ValueId, BufferId>;

impl Builder<'_> {
    fn symbols(&mut self) {
        for s in self.graph.symbols() {
            self.plan.symbols.push(PlanSymbol { name: s.name.clone(), lo: s.lo, hi: s.hi, div: s.div });
        }
        let port = |name: Arc<str>, ty: &TensorType, alias_of| {
            let list = ty.list.as_deref().cloned();
            Port { name, dtype: ty.dtype, dims: ty.dims.clone(), alias_of, list }
        };
        for (i, &v) in self.graph.inputs().iter().enumerate() {
            let name = self.graph.value(v).name.clone().unwrap_or_else(|| format!("input_{i}").into());
            self.plan.inputs.push(port(name, self.graph.ty(v), None));
        }
        for (o, continues) in self.graph.outputs().iter().zip(alias::continued(self.graph)) {
            self.plan.outputs.push(port(o.name.clone(), self.graph.ty(o.value), continues));
        }
    }
    fn origin(&mut self, o: &Origin) -> OriginId {
        if let Some(&id) = self.origins.get(o) {
            return id;
        }
        let id = self.plan.origins.push(o.clone());
        self.origins.insert(o.clone(), id);
        id
    }
    fn push(&mut self, body: &mut Vec<Stmt>, s: Stmt) {
        self.position += 1;
        body.push(s);
    }
    fn buffer(&mut self, name: Arc<str>, ty: &TensorType, storage: Storage) -> BufferId {
        self.uses.push(None);
        self.plan.buffers.push(Buffer { name, dtype: ty.dtype, dims: ty.dims.clone(), storage })
    }
    fn touch(&mut self, b: BufferId) {
        let now = self.position;
        let u = &mut self.uses[b.index()];
        *u = Some(u.map_or((now, now), |(from, to)| (from.min(now), to.max(now))));
    }
    fn input(&mut self, i: usize) -> BufferId {
        let v = self.graph.inputs()[i];
        let name = self.plan.inputs[i].name.clone();
        self.buffer(name, &self.graph.ty(v).clone(), Storage::Input(i as u32))
    }

    /// Binds symbols to input dims and checks what the dims must satisfy.
    fn bind_inputs(&mut self, body: &mut Vec<Stmt>) {
        let ports: Vec<(u32, u32, SymExpr, Arc<str>)> = (self.plan.inputs.iter().enumerate())
            .flat_map(|(i, p)| p.dims.iter().enumerate().map(move |(a, d)| (i as u32, a as u32, d.clone(), p.name.clone())))
            .collect();
        let mut checks = Vec::new();
        // Dims that are just a symbol first: they bind; every other dim is checked against what they say.
        for (input, axis, dim, name) in &ports {
            let fresh = dim.as_sym().is_some_and(|s| !self.bound.contains(s));
            if let (Some(s), true) = (dim.as_sym(), fresh) {
                self.bound.insert(s.clone());
                self.push(body, Stmt::Bind { symbol: s.clone(), input: *input, axis: *axis });
                continue;
            }
            checks.push((*input, *axis, dim.clone(), name.clone()));
        }
        let mut seen = Vec::new();
        for (input, axis, dim, name) in checks {
            let actual: SymName = format!("{name}.{axis}").into();
            self.push(body, Stmt::Bind { symbol: actual.clone(), input, axis });
            self.bound.insert(actual.clone());
            seen.push((actual, dim, name));
        }
        // Dims with one unknown symbol tell it, as `2*N` or `S + P` where `S` is known; each may help the next.
        let mut solved = true;
        while std::mem::take(&mut solved) {
            for (actual, dim, _) in &seen {
                if let Some((symbol, expr)) = solve(dim, &SymExpr::sym(actual.clone()), &self.bound) {
                    self.bound.insert(symbol.clone());
                    self.push(body, Stmt::Let { symbol, expr });
                    solved = true;
                }
            }
        }
        for (actual, dim, name) in seen {
            let origin = self.origin(&Origin::path(&*name));
            self.push(body, Stmt::Check { pred: Pred::Eq(SymExpr::sym(actual), dim), fault: Fault::Shape, origin });
        }
        for s in self.plan.symbols.clone() {
            if self.bound.contains(&s.name) {
                self.check_range(body, &s);
            }
        }
        self.check_constraints(body);
        for s in self.graph.symbols() {
            if s.source == SymSource::Input && !self.bound.contains(&s.name) && used(self.graph, &s.name) {
                let d = Diagnostic::error(Code::UNKNOWN_SYMBOL, format!("no input dim tells symbol `{}`", s.name));
                self.diags.report(d.help(format!("give it a value: --dim {}=VALUE", s.name)));
            }
        }
    }
    fn check_range(&mut self, body: &mut Vec<Stmt>, s: &PlanSymbol) {
        let e = SymExpr::sym(s.name.clone());
        let origin = self.origin(&Origin::path(format!("symbol {}", s.name)));
        if s.lo > 0 {
            self.push(body, Stmt::Check { pred: Pred::Le(s.lo.into(), e.clone()), fault: Fault::Range, origin });
        }
        if s.hi < i64::MAX {
            self.push(body, Stmt::Check { pred: Pred::Le(e.clone(), s.hi.into()), fault: Fault::Range, origin });
        }
        if s.div > 1 {
            self.push(body, Stmt::Check { pred: Pred::Divides(s.div, e), fault: Fault::Range, origin });
        }
    }
    /// Checks the constraints whose symbols are bound by now.
    fn check_constraints(&mut self, body: &mut Vec<Stmt>) {
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().partition(|c| {
            let mut set = BTreeSet::new();
            c.left.collect_symbols(&mut set);
            c.right.collect_symbols(&mut set);
            set.is_subset(&self.bound)
        });
        self.pending = later;
        for c in now {
            let origin = self.origin(&Origin::path(c.path.clone()));
            self.push(body, Stmt::Check { pred: Pred::Eq(c.left, c.right), fault: Fault::Shape, origin });
        }
    }

    /// Where a weight of the graph lies.
    fn weight(&mut self, g: &Graph, w: WeightId) -> u32 {
        if std::ptr::eq(g, self.graph)
            && let Some(&i) = self.stored.get(&w)
        {
            return i;
        }
        let weight = g.weight(w);
        let bytes = weight.bytes_len().unwrap_or(0);
        let i = self.plan.add_weight(weight.name.clone(), weight.dtype, weight.dims.clone(), bytes);
        self.weights.push(WeightInit::Weight(weight.clone()));
        if std::ptr::eq(g, self.graph) {
            self.stored.insert(w, i);
        }
        i
    }
    fn literal(&mut self, value: &Literal) -> u32 {
        let same = self.weights.iter().position(|w| matches!(w, WeightInit::Literal(l) if l == value));
        if let Some(i) = same {
            return i as u32;
        }
        self.next_name += 1;
        let name = format!("const.{}", self.next_name);
        let i = self.plan.add_weight(name, value.dtype, value.dims.clone(), value.bytes.len() as u64);
        self.weights.push(WeightInit::Literal(value.clone()));
        i
    }

    /// A buffer in the arena, in the open epoch or in a new one if its size needs symbols that were bound since.
    fn arena(&mut self, body: &mut Vec<Stmt>, name: Arc<str>, ty: &TensorType) -> BufferId {
        let mut needs = BTreeSet::new();
        ty.dims.iter().for_each(|d| d.collect_symbols(&mut needs));
        let open = self.open.filter(|&e| needs.is_subset(&self.epochs[e].bound));
        let epoch = open.unwrap_or_else(|| {
            let epoch = self.epochs.len();
            self.epochs.push(Epoch { bound: self.bound.clone(), buffers: Vec::new() });
            self.push(body, Stmt::Epoch { epoch: epoch as u32, bytes: 0.into() });
            self.open = Some(epoch);
            epoch
        });
        let b = self.buffer(name, ty, Storage::Arena { epoch: epoch as u32, offset: 0.into() });
        self.epochs[epoch].buffers.push(b);
        b
    }

    /// Plans the nodes of a graph (or region). `inputs` are the buffers of its inputs; for each output, the model's output that it is,
    /// or `None` for a value that the caller copies. Returns the buffers of its outputs.
    fn block(&mut self, g: &Graph, inputs: &[BufferId], outputs: &[Option<u32>], body: &mut Vec<Stmt>) -> Vec<BufferId> {
        let mut env: Env = g.inputs().iter().copied().zip(inputs.iter().copied()).collect();
        // Values that can be written into the model's outputs at once: through views, back to the node that makes them.
        let mut direct: HashMap<ValueId, u32> = HashMap::new();
        for (o, port) in g.outputs().iter().zip(outputs) {
            let Some(port) = port else { continue };
            let mut v = o.value;
            while let Some(Node { op: Op::Reshape { .. } | Op::Handle { .. }, operands, .. }) = g.producer(v) {
                v = operands[0];
            }
            let made = g.producer(v).is_some_and(|n| {
                matches!(n.op, Op::Fusion { .. } | Op::DimTensor { .. } | Op::Fill { .. } | Op::Iota { .. } | Op::Host { .. })
            });
            if made {
                direct.entry(v).or_insert(*port);
            }
        }
        for n in g.order() {
            let node = g.node(n);
            self.node(g, node, &mut env, &direct, body);
        }
        let mut out = Vec::new();
        for (o, port) in g.outputs().iter().zip(outputs) {
            let Some(&from) = env.get(&o.value) else {
                self.diags.report(Diagnostic::error(Code::INTERNAL, format!("output `{}` was not planned", o.name)));
                continue;
            };
            let Some(port) = port else {
                self.touch(from);
                out.push(from);
                continue;
            };
            if self.plan.buffers[from].storage == Storage::Output(*port) {
                out.push(from);
                continue;
            }
            let ty = g.ty(o.value).clone();
            self.push(body, Stmt::Output { output: *port, dims: ty.dims.clone() });
            let to = self.buffer(o.name.clone(), &ty, Storage::Output(*port));
            self.touch(from);
            self.push(body, Stmt::Copy { to, from });
            out.push(to);
        }
        out
    }

    /// Memory for a node's result: the model's output if it is one, else the arena.
    fn result(&mut self, g: &Graph, v: ValueId, origin: &Origin, direct: &HashMap<ValueId, u32>, body: &mut Vec<Stmt>) -> BufferId {
        let ty = g.ty(v).clone();
        let name: Arc<str> = g.value(v).name.clone().unwrap_or_else(|| origin.first().into());
        // The port's own dims: the result may be a view of the output. Where those are told only by data that is still to come, the
        // result is copied to the output at the end.
        match direct.get(&v).filter(|p| self.told(**p)) {
            Some(&port) => {
                let dims = self.plan.outputs[port as usize].dims.clone();
                self.push(body, Stmt::Output { output: port, dims });
                self.buffer(name, &ty, Storage::Output(port))
            }
            None => self.arena(body, name, &ty),
        }
    }

    /// The dims of an output are known where it is made, so that it can be written at once.
    fn told(&self, port: u32) -> bool {
        let mut needs = BTreeSet::new();
        self.plan.outputs[port as usize].dims.iter().for_each(|d| d.collect_symbols(&mut needs));
        needs.is_subset(&self.bound)
    }

    /// Asks how a result that appends to an input lies in the caller's memory, or forgets that it may.
    fn ask_room(&mut self, v: ValueId, direct: &HashMap<ValueId, u32>, body: &mut Vec<Stmt>) {
        let Some(a) = self.appended.get(&v).cloned() else { return };
        if direct.get(&v) != Some(&a.output) || !self.told(a.output) {
            self.appended.remove(&v);
            return;
        }
        for s in [&a.room.room, &a.room.front] {
            self.bound.insert(s.clone());
        }
        let Room { room, front, .. } = a.room;
        self.push(body, Stmt::Room { output: a.output, past: a.past, needed: a.needed, room, front });
    }
    fn room(&self, g: &Graph, v: ValueId) -> Option<Room> {
        self.appended.get(&v).filter(|_| std::ptr::eq(g, self.graph)).map(|a| a.room.clone())
    }

    fn node(&mut self, g: &Graph, node: &Node, env: &mut Env, direct: &HashMap<ValueId, u32>, body: &mut Vec<Stmt>) {
        match &node.op {
            Op::Weight { weight } => {
                let i = self.weight(g, *weight);
                let v = node.results[0];
                let name = self.plan.weights[i as usize].name.clone();
                let b = self.buffer(name, &g.ty(v).clone(), Storage::Weight { weight: i });
                env.insert(v, b);
            }
            Op::Const { value } => {
                let i = self.literal(value);
                let v = node.results[0];
                let b = self.buffer(node.origin.first().into(), &g.ty(v).clone(), Storage::Weight { weight: i });
                env.insert(v, b);
            }
            Op::DimTensor { values, .. } => {
                let v = node.results[0];
                let b = self.result(g, v, &node.origin, direct, body);
                self.touch(b);
                self.push(body, Stmt::WriteDims { buffer: b, values: values.clone() });
                env.insert(v, b);
            }
            Op::Fill { .. } | Op::Iota { .. } | Op::RandomUniform { .. } => {
                let region = source_region(node, g.ty(node.results[0]));
                self.fusion(g, node, FusionKind::Map, &region, env, direct, body);
            }
            Op::Reshape { .. } | Op::Handle { .. } => {
                let Some(&from) = env.get(&node.operands[0]) else { return };
                let v = node.results[0];
                let b = self.view(from, 0.into(), &g.ty(v).clone());
                env.insert(v, b);
            }
            Op::Bind { symbols } => {
                let Some(&from) = env.get(&node.operands[0]) else { return };
                self.touch(from);
                for (i, s) in symbols.iter().enumerate() {
                    self.push(body, Stmt::Read { symbol: s.clone(), buffer: from, index: (i as i64).into() });
                    self.bound.insert(s.clone());
                    if let Some(s) = self.plan.symbols.iter().find(|p| p.name == *s).cloned() {
                        let e = SymExpr::sym(s.name.clone());
                        let origin = self.origin(&node.origin);
                        let fault = if s.lo == 0 { Fault::NegativeSize } else { Fault::Range };
                        if s.lo > i64::MIN {
                            self.push(body, Stmt::Check { pred: Pred::Le(s.lo.into(), e.clone()), fault, origin });
                        }
                        if s.hi < i64::MAX {
                            self.push(body, Stmt::Check { pred: Pred::Le(e, s.hi.into()), fault: Fault::Range, origin });
                        }
                    }
                }
                self.check_constraints(body);
            }
            Op::Fusion { kind } => {
                if let [region] = node.regions.as_slice() {
                    self.fusion(g, node, *kind, region, env, direct, body);
                }
            }
            Op::Host { .. } => self.host_node(g, node, env, direct, body),
            Op::If {} => self.if_node(g, node, env, body),
            Op::Loop { .. } => self.loop_node(g, node, env, body),
            op => {
                let d = Diagnostic::error(Code::NOT_SUPPORTED, format!("`{}` has no kernel on this machine class", op.mnemonic()));
                self.diags.report(d.at(node.origin.first()).op(op.mnemonic()).operands(operands(g, node)));
            }
        }
    }

    /// A buffer over the bytes of another one, from byte `extra` on; both live as long as either is used.
    fn view(&mut self, base: BufferId, extra: SymExpr, ty: &TensorType) -> BufferId {
        let Buffer { name, storage, .. } = self.plan.buffers[base].clone();
        let view = self.buffer(name, ty, storage.clone());
        if let Storage::Arena { epoch, .. } = storage {
            if let Some(e) = self.epochs.get_mut(epoch as usize) {
                e.buffers.push(view);
            }
            self.view_of.insert(view, (base, extra));
        }
        view
    }

    #[allow(clippy::too_many_arguments)]
    fn fusion(
        &mut self,
        g: &Graph,
        node: &Node,
        kind: FusionKind,
        region: &Graph,
        env: &mut Env,
        direct: &HashMap<ValueId, u32>,
        body: &mut Vec<Stmt>,
    ) {
        let graph = self.graph;
        let ranges = |s: &str| graph.symbol(s).map_or((0, i64::MAX, 1), |s| (s.lo, s.hi, s.div));
        // What flows through the regions of control is not followed.
        let inputs: Vec<Option<Range>> =
            node.operands.iter().map(|&v| if std::ptr::eq(g, graph) { self.ranges[v] } else { None }).collect();
        let results = node.results.first().filter(|_| std::ptr::eq(g, graph));
        if let Some(&v) = results {
            self.ask_room(v, direct, body);
        }
        let rooms: Vec<Option<Room>> = node.operands.iter().chain(&node.results).map(|v| self.room(g, *v)).collect();
        let known = Known { symbols: &ranges, inputs: &inputs, rooms: &rooms, short: false };
        let scheduled = match schedule(self.machine, kind, region, &known, &node.origin, &mut self.pool) {
            Ok(s) => s,
            Err(_) if rooms.iter().all(Option::is_none) && self.apart(g, node, region, env, direct, body) => return,
            Err(why) => {
                if rooms.iter().any(Option::is_some) {
                    self.refused = true;
                } else {
                    let d = Diagnostic::error(Code::NOT_SUPPORTED, format!("no kernel: {}", why.reason));
                    self.diags.report(with_others(d, &node.origin).operands(operands(g, node)));
                }
                for &r in &node.results {
                    let b = self.buffer("".into(), &g.ty(r).clone(), Storage::Arena { epoch: 0, offset: 0.into() });
                    env.insert(r, b);
                }
                return;
            }
        };
        let operands: Vec<BufferId> = node.operands.iter().filter_map(|v| env.get(v).copied()).collect();
        self.check_tables(region, &node.origin, body);
        self.count_results(region, &operands, &node.origin, body);
        let results: Vec<BufferId> = node.results.iter().map(|&r| self.result(g, r, &node.origin, direct, body)).collect();
        for &b in operands.iter().chain(&results) {
            self.touch(b);
        }
        for (&r, &b) in node.results.iter().zip(&results) {
            env.insert(r, b);
        }
        let origin = self.origin(&node.origin);
        let buffers = operands.into_iter().chain(results).collect();
        let launch = launch_of(scheduled, buffers, origin);
        self.push(body, launch);
    }

    /// Plans a region that has no schedule as a whole one node at a time; `false` if it is one node already.
    fn apart(
        &mut self,
        g: &Graph,
        node: &Node,
        region: &Graph,
        outer: &mut Env,
        direct: &HashMap<ValueId, u32>,
        body: &mut Vec<Stmt>,
    ) -> bool {
        let order = region.order();
        let nodes: Vec<&Node> = order.iter().map(|&n| region.node(n)).filter(|n| !n.op.is_source()).collect();
        if nodes.len() < 2 {
            return false;
        }
        let operands: Vec<BufferId> = node.operands.iter().filter_map(|v| outer.get(v).copied()).collect();
        let mut env: Env = region.inputs().iter().copied().zip(operands).collect();
        // What the region hands out is written where the fusion's result lies.
        let mut inner: HashMap<ValueId, u32> = HashMap::new();
        for (o, r) in region.outputs().iter().zip(&node.results) {
            if let Some(&port) = direct.get(r) {
                inner.entry(o.value).or_insert(port);
            }
        }
        for n in nodes {
            match single(region, n) {
                Some((kind, wrapped, alone)) => self.fusion(region, &wrapped, kind, &alone, &mut env, &inner, body),
                None => {
                    let d = Diagnostic::error(Code::INTERNAL, format!("`{}` cannot be planned apart", n.op.mnemonic()));
                    self.diags.report(d.at(n.origin.first()));
                }
            }
        }
        for (o, &r) in region.outputs().iter().zip(&node.results) {
            let Some(&made) = env.get(&o.value) else { continue };
            let mine = direct.get(&r).is_none_or(|p| self.plan.buffers[made].storage == Storage::Output(*p));
            let to = if mine && !region.inputs().contains(&o.value) {
                made
            } else {
                let to = self.result(g, r, &node.origin, direct, body);
                self.touch(made);
                self.touch(to);
                self.push(body, Stmt::Copy { to, from: made });
                to
            };
            outer.insert(r, to);
        }
        true
    }

    /// Before a kernel that looks up rows by indices from data: a table without rows has none to look up. Guards inside the kernel keep
    /// every index within its table, which takes at least one row.
    fn check_tables(&mut self, region: &Graph, origin: &Origin, body: &mut Vec<Stmt>) {
        for n in region.order() {
            let node = region.node(n);
            if let (Op::Pad { mode, low, high, .. }, &[x, ..]) = (&node.op, node.operands.as_slice()) {
                // What lies outside shows elements inside: there must be one.
                let shown = product(&region.ty(node.results[0]).dims);
                for (i, d) in region.ty(x).dims.iter().enumerate().filter(|_| *mode != PadMode::Constant) {
                    if !(low[i].is(0) && high[i].is(0)) {
                        self.check_rows(&shown, d, Fault::Shape, origin, body);
                    }
                }
                continue;
            }
            let [table, indices, ..] = node.operands.as_slice() else { continue };
            let (table, index) = (&region.ty(*table).dims, &region.ty(*indices).dims);
            let rows: &[SymExpr] = match &node.op {
                Op::Gather { axis } | Op::GatherElements { axis } | Op::ScatterElements { axis, .. } => {
                    table.get(*axis as usize).map_or(&[], std::slice::from_ref)
                }
                Op::GatherNd { .. } | Op::ScatterNd { .. } => {
                    let batch = if let Op::GatherNd { batch } = node.op { batch as usize } else { 0 };
                    let depth = index.last().and_then(SymExpr::as_const).and_then(|d| usize::try_from(d).ok()).unwrap_or(0);
                    table.get(batch..).and_then(|t| t.get(..depth)).unwrap_or(&[])
                }
                _ => continue,
            };
            // Without an element in the result no row is looked up.
            let shown = if matches!(node.op, Op::Gather { .. }) { &region.ty(node.results[0]).dims } else { index };
            let lookups = product(shown);
            rows.iter().for_each(|rows| self.check_rows(&lookups, rows, Fault::Index, origin, body));
        }
    }
    /// Checks that there is a row where there are lookups.
    fn check_rows(&mut self, lookups: &SymExpr, rows: &SymExpr, fault: Fault, origin: &Origin, body: &mut Vec<Stmt>) {
        if self.graph.bounds(rows).0 < 1 && !lookups.is(0) {
            let origin = self.origin(origin);
            let pred = Pred::Le(lookups.minimum(&1.into()), rows.clone());
            self.push(body, Stmt::Check { pred, fault, origin });
        }
    }

    /// Before a kernel whose region finds how many results it has: a kernel that counts them, and the symbol read from it.
    fn count_results(&mut self, region: &Graph, operands: &[BufferId], origin: &Origin, body: &mut Vec<Stmt>) {
        for n in region.order() {
            let Op::NonZero { count } = &region.node(n).op else { continue };
            let Some((counter, inputs)) = count_region(region, region.node(n)) else { continue };
            let graph = self.graph;
            let ranges = |s: &str| graph.symbol(s).map_or((0, i64::MAX, 1), |s| (s.lo, s.hi, s.div));
            let known = Known { symbols: &ranges, inputs: &[], rooms: &[], short: false };
            let scheduled = match schedule(self.machine, FusionKind::Reduce, &counter, &known, origin, &mut self.pool) {
                Ok(s) => s,
                Err(why) => {
                    let d = Diagnostic::error(Code::NOT_SUPPORTED, format!("no kernel: {}", why.reason));
                    self.diags.report(d.at(origin.first()));
                    return;
                }
            };
            let total = self.arena(body, format!("{}.count", origin.first()).into(), &TensorType::new(DType::I64, Vec::new()));
            let buffers: Vec<BufferId> = inputs.iter().filter_map(|&i| operands.get(i).copied()).chain([total]).collect();
            buffers.iter().for_each(|&b| self.touch(b));
            let id = self.origin(origin);
            let launch = launch_of(scheduled, buffers, id);
            self.push(body, launch);
            self.touch(total);
            self.push(body, Stmt::Read { symbol: count.clone(), buffer: total, index: 0.into() });
            self.bound.insert(count.clone());
            if let Some(hi) = self.graph.symbol(count).map(|s| s.hi).filter(|hi| *hi < i64::MAX) {
                let pred = Pred::Le(SymExpr::sym(count.clone()), hi.into());
                self.push(body, Stmt::Check { pred, fault: Fault::Range, origin: id });
            }
            self.check_constraints(body);
        }
    }

    /// Gives every arena buffer its offset and every epoch its bytes.
    fn place(&mut self, body: &mut [Stmt]) {
        for (i, epoch) in self.epochs.iter().enumerate() {
            let mut life: HashMap<BufferId, (usize, usize)> = HashMap::new();
            for &b in &epoch.buffers {
                if let Some((from, to)) = self.uses[b.index()] {
                    let e = life.entry(self.base(b).0).or_insert((from, to));
                    *e = (e.0.min(from), e.1.max(to));
                }
            }
            let bases: Vec<BufferId> = epoch.buffers.iter().copied().filter(|b| !self.view_of.contains_key(b)).collect();
            let request = |b: &BufferId| {
                let (from, to) = life.get(b).copied().unwrap_or((0, 0));
                Request { bytes: self.plan.buffers[*b].bytes(), from, to }
            };
            let requests: Vec<Request> = bases.iter().map(request).collect();
            let graph = self.graph;
            let placement = memory::place(&requests, &|a, b| graph.bounds(&(b - a)).0 >= 0);
            let offsets: HashMap<BufferId, SymExpr> = bases.iter().copied().zip(placement.offsets).collect();
            for &b in &epoch.buffers {
                let (base, extra) = self.base(b);
                let offset = offsets.get(&base).cloned().unwrap_or_else(|| 0.into()) + extra;
                self.plan.buffers[b].storage = Storage::Arena { epoch: i as u32, offset };
            }
            set_epoch(body, i as u32, &placement.bytes);
        }
    }

    /// The buffer whose bytes a view shows, and how many bytes behind its begin.
    fn base(&self, b: BufferId) -> (BufferId, SymExpr) {
        let (mut b, mut extra) = (b, SymExpr::from(0));
        while let Some((next, more)) = self.view_of.get(&b) {
            extra = extra + more.clone();
            b = *next;
        }
        (b, extra)
    }
}

/// The unknown symbol of `dim == actual` with its value, if there is one only and it has a constant factor.
fn solve(dim: &SymExpr, actual: &SymExpr, bound: &BTreeSet<SymName>) -> Option<(SymName, SymExpr)> {
    let mut unknown = BTreeSet::new();
    dim.collect_symbols(&mut unknown);
    unknown.retain(|s| !bound.contains(s));
    let s = unknown.pop_first().filter(|_| unknown.is_empty())?;
    let View::Sum(terms, _) = dim.view() else { return None };
    let is_symbol = |t: &&(i64, Vec<Atom>)| matches!(t.1.as_slice(), [Atom::Sym(x)] if *x == s);
    let factor = terms.iter().find(is_symbol)?.0;
    let rest = dim.clone() - SymExpr::sym(s.clone()) * factor;
    let mut left = BTreeSet::new();
    rest.collect_symbols(&mut left);
    if left.contains(&s) || factor == i64::MIN {
        return None;
    }
    let value = if factor > 0 { actual.clone() - rest } else { rest - actual.clone() };
    Some((s, value.div(&factor.abs().into())))
}

fn set_epoch(body: &mut [Stmt], epoch: u32, size: &SymExpr) {
    for s in body {
        match s {
            Stmt::Epoch { epoch: e, bytes } if *e == epoch => *bytes = size.clone(),
            Stmt::If { then, els, .. } => {
                set_epoch(then, epoch, size);
                set_epoch(els, epoch, size);
            }
            Stmt::Loop { body, .. } => set_epoch(body, epoch, size),
            _ => {}
        }
    }
}

/// Whether a symbol stands in any type or attribute of the graph that is left.
fn used(g: &Graph, name: &str) -> bool {
    let mut set = BTreeSet::new();
    for n in g.node_ids() {
        let node = g.node(n);
        portwright_ir::graph::collect_attr_symbols(&node.op, &mut set);
        for &v in node.operands.iter().chain(&node.results) {
            g.ty(v).dims.iter().for_each(|d| d.collect_symbols(&mut set));
        }
    }
    set.iter().any(|s| &**s == name)
}

/// A report on a kernel, with the other nodes that it computes.
fn with_others(d: Diagnostic, o: &Origin) -> Diagnostic {
    let others: Vec<&str> = o.paths.iter().skip(1).map(|p| &**p).collect();
    let d = d.at(o.first());
    if others.is_empty() { d } else { d.note(format!("in one kernel with {}", others.join(", "))) }
}
