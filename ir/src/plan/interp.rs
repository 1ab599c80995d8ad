// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of a plan: runs it, statement by statement, with the Kernel interpreter behind its launches.
//!
//! Host operations run in the same tables as in the Graph interpreter. An arena is one block of bytes that begins as 0xCB, so that what nobody wrote is seen; it begins anew each time its epoch opens.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::{Buffer, BufferId, Fault, HostCall, HostPlan, Launch, OriginId, Pred, Stmt, Storage};
use crate::diag::Code;
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::graph::HostOp;
use crate::graph::interp::{Host, ReadImage, Tensor, Value};
use crate::kernel::interp::{self as kernel, Args, Memory};
use crate::kernel::{KernelId, Module};
use crate::numerics;
use crate::sym::{SymExpr, SymName};

/// Byte that memory holds which nobody wrote.
pub const POISON: u8 = 0xCB;

/// Limits and givens of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How kernels run.
    pub kernel: kernel::RunOptions,
    /// Most bytes of one arena or output, and of all texts and lists.
    pub max_bytes: u64,
    /// Most iterations of one loop.
    pub loop_limit: u64,
    /// What reads images in files.
    pub images: Option<ReadImage>,
}

impl Default for Options {
    fn default() -> Self {
        Options { kernel: kernel::RunOptions::default(), max_bytes: 8 << 30, loop_limit: 1 << 24, images: None }
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// Path of the node; empty where none is at fault.
    pub path: String,
    /// What was found.
    pub message: String,
    /// Code for the report: [`Code::RUN_FAILED`] for data that does not fit, [`Code::OVER_MEMORY`] for texts beyond the limit, [`Code::INTERNAL`] for a plan or kernel that is wrong.
    pub code: Code,
    /// What data did, where data is at fault.
    pub fault: Option<Fault>,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.code, self.path, self.message)
    }
}
impl std::error::Error for RunError {}

type Run<T> = Result<T, RunError>;

/// Runs a plan on inputs; `weights` gives the bytes of the stored weight of that index.
///
/// # Errors
/// Data that does not fit ([`RunError::fault`] says how), a limit of `opts` exceeded, missing weights, or a plan that breaks its rules.
pub fn run(
    module: &Module,
    plan: &HostPlan,
    inputs: &[Tensor],
    weights: &dyn Fn(u32) -> Option<Vec<u8>>,
    opts: &Options,
) -> Run<Vec<Tensor>> {
    run_watched(module, plan, inputs, weights, opts, &mut |_, _| {})
}

/// As [`run`]; `watch` is told of each launch, with what it did.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    module: &Module,
    plan: &HostPlan,
    inputs: &[Tensor],
    weights: &dyn Fn(u32) -> Option<Vec<u8>>,
    opts: &Options,
    watch: &mut dyn FnMut(KernelId, &kernel::Outcome),
) -> Run<Vec<Tensor>> {
    execute(module, plan, inputs, weights, opts, watch, Host::new(plan.texts.clone(), opts.images)).map(|r| r.0)
}

/// As [`run`], with inputs and outputs of any kind.
///
/// # Errors
/// As [`run`].
pub fn run_values(
    module: &Module,
    plan: &HostPlan,
    inputs: &[Value],
    weights: &dyn Fn(u32) -> Option<Vec<u8>>,
    opts: &Options,
) -> Run<Vec<Value>> {
    let mut host = Host::new(plan.texts.clone(), opts.images);
    let inputs: Vec<Tensor> = inputs.iter().map(|v| host.take(v)).collect();
    let (outputs, host) = execute(module, plan, &inputs, weights, opts, &mut |_, _| {}, host)?;
    Ok(plan.outputs.iter().zip(&outputs).map(|(p, t)| host.give(t, p.list.as_ref())).collect())
}

fn execute(
    module: &Module,
    plan: &HostPlan,
    inputs: &[Tensor],
    weights: &dyn Fn(u32) -> Option<Vec<u8>>,
    opts: &Options,
    watch: &mut dyn FnMut(KernelId, &kernel::Outcome),
    host: Host,
) -> Run<(Vec<Tensor>, Host)> {
    let mut m = Machine {
        watch,
        module,
        plan,
        inputs,
        opts,
        read: weights,
        weights: HashMap::new(),
        outputs: vec![None; plan.outputs.len()],
        epochs: HashMap::new(),
        symbols: HashMap::new(),
        host,
        held: Vec::new(),
    };
    m.check_inputs()?;
    m.block(&plan.body)?;
    let outputs = std::mem::take(&mut m.outputs);
    let outputs = (plan.outputs.iter().zip(outputs)).map(|(p, o)| {
        let made = o.and_then(|(dims, bytes)| Tensor::new(p.dtype, dims, bytes));
        made.ok_or_else(|| broken(format!("output `{}` was not declared", p.name)))
    });
    Ok((outputs.collect::<Run<Vec<Tensor>>>()?, m.host))
}

/// The plan or a kernel breaks a rule.
fn broken(message: impl Into<String>) -> RunError {
    RunError { path: String::new(), message: message.into(), code: Code::INTERNAL, fault: None }
}

struct Machine<'a> {
    watch: &'a mut dyn FnMut(KernelId, &kernel::Outcome),
    module: &'a Module,
    plan: &'a HostPlan,
    inputs: &'a [Tensor],
    opts: &'a Options,
    read: &'a dyn Fn(u32) -> Option<Vec<u8>>,
    weights: HashMap<u32, Vec<u8>>,
    outputs: Vec<Option<(Vec<usize>, Vec<u8>)>>,
    epochs: HashMap<u32, Vec<u8>>,
    symbols: HashMap<SymName, i64>,
    /// Texts and lists of the run.
    host: Host,
    /// Results of the last host operation.
    held: Vec<Tensor>,
}

/// A piece of memory.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Input(u32),
    Output(u32),
    Weight(u32),
    Epoch(u32),
}

/// A buffer in this run.
struct Located {
    place: Place,
    at: usize,
    bytes: usize,
    elems: usize,
    dtype: DType,
}

impl Machine<'_> {
    fn failed(&self, fault: Fault, origin: OriginId, message: String) -> RunError {
        let path = self.plan.origins.get(origin).map_or("", |o| o.first()).to_owned();
        RunError { path, message, code: Code::RUN_FAILED, fault: Some(fault) }
    }
    fn check_inputs(&self) -> Run<()> {
        let bad = |name: &str, message: String| {
            Err(RunError { path: name.to_owned(), message, code: Code::RUN_FAILED, fault: Some(Fault::Shape) })
        };
        if self.inputs.len() != self.plan.inputs.len() {
            return bad(&self.plan.name, format!("{} inputs, expected {}", self.inputs.len(), self.plan.inputs.len()));
        }
        for (p, t) in self.plan.inputs.iter().zip(self.inputs) {
            if p.dtype != t.dtype || p.dims.len() != t.dims.len() {
                return bad(&p.name, format!("{} of rank {}, expected {} of rank {}", t.dtype, t.dims.len(), p.dtype, p.dims.len()));
            }
            for (axis, (d, &n)) in p.dims.iter().zip(&t.dims).enumerate() {
                if d.as_const().is_some_and(|d| d != n as i64) {
                    return bad(&p.name, format!("dim {axis} is {n}, expected {d}"));
                }
            }
        }
        Ok(())
    }

    fn eval(&self, e: &SymExpr) -> Run<i64> {
        if let Some(v) = e.as_const() {
            return Ok(v);
        }
        let mut unbound = std::collections::BTreeSet::new();
        e.collect_symbols(&mut unbound);
        if let Some(s) = unbound.iter().find(|s| !self.symbols.contains_key(*s)) {
            return Err(broken(format!("symbol `{s}` of `{e}` is not bound")));
        }
        e.eval(&|s| self.symbols.get(s).copied()).ok_or_else(|| RunError {
            path: String::new(),
            message: format!("`{e}` leaves 64-bit integers or divides by what is not positive"),
            code: Code::RUN_FAILED,
            fault: Some(Fault::Overflow),
        })
    }
    fn size(&self, e: &SymExpr, what: &str) -> Run<usize> {
        let v = self.eval(e)?;
        let fault = |code, fault, message| Err(RunError { path: String::new(), message, code, fault: Some(fault) });
        match usize::try_from(v) {
            Err(_) => fault(Code::RUN_FAILED, Fault::NegativeSize, format!("{what} is {v}")),
            Ok(n) if n as u64 > self.opts.max_bytes => {
                fault(Code::OVER_MEMORY, Fault::Overflow, format!("{what} is {v}, the limit is {}", self.opts.max_bytes))
            }
            Ok(n) => Ok(n),
        }
    }
    fn holds(&self, p: &Pred) -> Run<bool> {
        Ok(match p {
            Pred::Eq(a, b) => self.eval(a)? == self.eval(b)?,
            Pred::Le(a, b) => self.eval(a)? <= self.eval(b)?,
            Pred::Divides(d, a) => {
                if *d < 1 {
                    return Err(broken(format!("`{p}`: the divisor is not positive")));
                }
                self.eval(a)?.rem_euclid(*d) == 0
            }
        })
    }
    /// Binds a symbol; one that is bound inside a loop is bound anew in each iteration.
    fn bind(&mut self, s: &SymName, v: i64) {
        self.symbols.insert(s.clone(), v);
    }

    fn buffer(&self, b: BufferId) -> Run<&Buffer> {
        self.plan.buffers.get(b).ok_or_else(|| broken(format!("there is no buffer %{}", b.index())))
    }
    /// Where a buffer lies now; memory that holds it is at hand.
    fn locate(&mut self, id: BufferId) -> Run<Located> {
        let b = self.buffer(id)?;
        let mut elems = 1usize;
        for d in &b.dims {
            let d = self.size(d, "a dim")?;
            elems = elems.checked_mul(d).ok_or_else(|| broken(format!("buffer %{} has too many elements", id.index())))?;
        }
        let bytes = b.dtype.bytes_for(elems as u64).unwrap_or(u64::MAX);
        let bytes = usize::try_from(bytes).ok().filter(|b| *b as u64 <= self.opts.max_bytes);
        let bytes = bytes.ok_or_else(|| broken(format!("buffer %{} has too many bytes", id.index())))?;
        let (place, at, dtype) = match &b.storage {
            Storage::Input(i) => (Place::Input(*i), 0, b.dtype),
            Storage::Output(i) => (Place::Output(*i), 0, b.dtype),
            Storage::Weight { weight } => (Place::Weight(*weight), 0, b.dtype),
            Storage::Arena { epoch, offset } => (Place::Epoch(*epoch), self.size(offset, "an offset")?, b.dtype),
        };
        let name = b.name.clone();
        let room = match place {
            Place::Input(i) => self.inputs.get(i as usize).map(|t| t.bytes().len()),
            Place::Output(i) => self.outputs.get(i as usize).and_then(|o| o.as_ref()).map(|o| o.1.len()),
            Place::Epoch(e) => self.epochs.get(&e).map(Vec::len),
            Place::Weight(w) => {
                if !self.weights.contains_key(&w) {
                    let stored = self.plan.weights.get(w as usize).ok_or_else(|| broken(format!("there is no weight {w}")))?;
                    let data = (self.read)(w).filter(|d| d.len() as u64 == stored.bytes);
                    let data = data.ok_or_else(|| RunError {
                        path: stored.name.to_string(),
                        message: format!("the weight's {} bytes are not at hand", stored.bytes),
                        code: Code::NEEDS_WEIGHTS,
                        fault: None,
                    })?;
                    self.weights.insert(w, data);
                }
                self.weights.get(&w).map(Vec::len)
            }
        };
        // What has no bytes lies nowhere.
        let room = if bytes == 0 { room.or(Some(at)) } else { room };
        match room {
            None => Err(broken(format!("%{} `{name}` is used before its memory is there", id.index()))),
            Some(n) if bytes > 0 && at.checked_add(bytes).is_none_or(|end| end > n) => {
                Err(broken(format!("%{} `{name}` needs {bytes} bytes from byte {at}, there are {n}", id.index())))
            }
            Some(_) => Ok(Located { place, at: if bytes == 0 { 0 } else { at }, bytes, elems, dtype }),
        }
    }
    fn bytes(&self, l: &Located) -> &[u8] {
        let all: &[u8] = match l.place {
            Place::Input(i) => self.inputs.get(i as usize).map_or(&[], |t| t.bytes()),
            Place::Output(i) => self.outputs.get(i as usize).and_then(|o| o.as_ref()).map_or(&[], |o| &o.1),
            Place::Weight(w) => self.weights.get(&w).map_or(&[], |w| w),
            Place::Epoch(e) => self.epochs.get(&e).map_or(&[], |e| e),
        };
        all.get(l.at..l.at + l.bytes).unwrap_or(&[])
    }
    fn bytes_mut(&mut self, l: &Located) -> Run<&mut [u8]> {
        let all: Option<&mut Vec<u8>> = match l.place {
            Place::Output(i) => self.outputs.get_mut(i as usize).and_then(|o| o.as_mut()).map(|o| &mut o.1),
            Place::Epoch(e) => self.epochs.get_mut(&e),
            Place::Input(_) | Place::Weight(_) => return Err(broken("an input or a weight is written")),
        };
        Ok(all.and_then(|a| a.get_mut(l.at..l.at + l.bytes)).unwrap_or(&mut []))
    }
    fn element(&mut self, b: BufferId, index: i64) -> Run<i64> {
        let l = self.locate(b)?;
        let i = usize::try_from(index).ok().filter(|i| *i < l.elems);
        let i = i.ok_or_else(|| broken(format!("element {index} of %{}, which has {}", b.index(), l.elems)))?;
        let v = numerics::int_from_bits(l.dtype, numerics::get(self.bytes(&l), l.dtype, i));
        i64::try_from(v).map_err(|_| broken(format!("element {index} of %{} is {v}, outside of i64", b.index())))
    }

    fn block(&mut self, body: &[Stmt]) -> Run<()> {
        body.iter().try_for_each(|s| self.stmt(s))
    }
    fn stmt(&mut self, s: &Stmt) -> Run<()> {
        match s {
            Stmt::Bind { symbol, input, axis } => {
                let dim = self.inputs.get(*input as usize).and_then(|t| t.dims.get(*axis as usize));
                let dim = *dim.ok_or_else(|| broken(format!("there is no dim {axis} of input {input}")))?;
                self.bind(symbol, dim as i64);
            }
            Stmt::Let { symbol, expr } => {
                let v = self.eval(expr)?;
                self.bind(symbol, v);
            }
            // Outputs are dense here, and no input's memory is written.
            Stmt::Room { past, needed, room, front, .. } => {
                let (past, needed) = (self.eval(past)?, self.eval(needed)?);
                self.bind(room, needed);
                self.bind(front, past);
            }
            Stmt::Read { symbol, buffer, index } => {
                let index = self.eval(index)?;
                let v = self.element(*buffer, index)?;
                self.bind(symbol, v);
            }
            Stmt::Check { pred, fault, origin } => {
                if !self.holds(pred)? {
                    let m = match pred {
                        Pred::Eq(a, b) | Pred::Le(a, b) => format!("`{pred}` does not hold: {} and {}", self.eval(a)?, self.eval(b)?),
                        Pred::Divides(_, a) => format!("`{pred}` does not hold: {}", self.eval(a)?),
                    };
                    return Err(self.failed(*fault, *origin, m));
                }
            }
            Stmt::Epoch { epoch, bytes } => {
                let n = self.size(bytes, "an arena")?;
                self.epochs.insert(*epoch, vec![POISON; n]);
            }
            Stmt::Output { output, dims } => {
                let port = self.plan.outputs.get(*output as usize).ok_or_else(|| broken(format!("there is no output {output}")))?;
                let dims = dims.iter().map(|d| self.size(d, "a dim of an output")).collect::<Run<Vec<usize>>>()?;
                let elems = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
                let bytes = elems.and_then(|n| port.dtype.bytes_for(n)).filter(|b| *b <= self.opts.max_bytes);
                let bytes = bytes.ok_or_else(|| broken(format!("output `{}` has too many bytes", port.name)))?;
                self.outputs[*output as usize] = Some((dims, vec![POISON; bytes as usize]));
            }
            Stmt::Launch(l) => self.launch(l)?,
            Stmt::Choose { cases } => {
                for (preds, l) in cases {
                    let mut all = true;
                    for p in preds {
                        all = all && self.holds(p)?;
                    }
                    if all {
                        return self.launch(l);
                    }
                }
                return Err(broken("no case of a choice holds"));
            }
            Stmt::WriteDims { buffer, values } => {
                let values = values.iter().map(|v| self.eval(v)).collect::<Run<Vec<i64>>>()?;
                let l = self.locate(*buffer)?;
                if l.elems != values.len() {
                    return Err(broken(format!("{} values for %{}, which has {}", values.len(), buffer.index(), l.elems)));
                }
                let dtype = l.dtype;
                let bytes = self.bytes_mut(&l)?;
                for (i, v) in values.into_iter().enumerate() {
                    numerics::set(bytes, dtype, i, numerics::int_to_bits(dtype, v.into()));
                }
            }
            Stmt::Host(h) => self.host_call(h)?,
            Stmt::Held { buffer, result } => {
                let t = self.held.get(*result as usize).cloned();
                let t = t.ok_or_else(|| broken(format!("no result {result} is held")))?;
                let l = self.locate(*buffer)?;
                if (l.dtype, l.bytes) != (t.dtype, t.bytes().len()) {
                    let m = format!("{} bytes of {} for %{} of {} bytes of {}", t.bytes().len(), t.dtype, buffer.index(), l.bytes, l.dtype);
                    return Err(broken(m));
                }
                self.bytes_mut(&l)?.copy_from_slice(t.bytes());
            }
            Stmt::Copy { to, from } => {
                let (src, dst) = (self.locate(*from)?, self.locate(*to)?);
                if (src.dtype, src.bytes) != (dst.dtype, dst.bytes) {
                    return Err(broken(format!("copy of {} bytes of {} onto {} bytes of {}", src.bytes, src.dtype, dst.bytes, dst.dtype)));
                }
                let data = self.bytes(&src).to_vec();
                self.bytes_mut(&dst)?.copy_from_slice(&data);
            }
            Stmt::If { pred, then, els } => {
                let body = if self.holds(pred)? { then } else { els };
                self.block(body)?;
            }
            Stmt::Loop { counter, trips, trip, cond, body, origin } => {
                let trip = self.eval(trip)?;
                let mut i = 0i64;
                while i < trip {
                    if let Some(c) = cond
                        && self.element(*c, 0)? == 0
                    {
                        break;
                    }
                    if i as u64 >= self.opts.loop_limit {
                        return Err(self.failed(Fault::LoopLimit, *origin, format!("more than {} iterations", self.opts.loop_limit)));
                    }
                    self.bind(counter, i);
                    self.block(body)?;
                    i += 1;
                }
                self.bind(trips, i);
            }
        }
        Ok(())
    }

    /// Runs a host operation and binds what it finds: the last dims of its first result, of an image those before its channels.
    fn host_call(&mut self, h: &HostCall) -> Run<()> {
        let path = self.plan.origins.get(h.origin).map_or("", |o| o.first()).to_owned();
        let failed = |code, message| RunError { path: path.clone(), message, code, fault: None };
        let mut operands = Vec::with_capacity(h.operands.len());
        for &b in &h.operands {
            let dims = self.buffer(b)?.dims.clone();
            let dims = dims.iter().map(|d| self.size(d, "a dim")).collect::<Run<Vec<usize>>>()?;
            let l = self.locate(b)?;
            let t = Tensor::new(l.dtype, dims, self.bytes(&l).to_vec());
            operands.push(t.ok_or_else(|| broken(format!("%{} has other bytes than dims", b.index())))?);
        }
        self.held = self.host.call(h, &operands).map_err(|(code, message)| failed(code, message))?;
        if self.host.bytes() > self.opts.max_bytes {
            let m = format!("texts and lists of more than the limit of {} bytes", self.opts.max_bytes);
            return Err(failed(Code::OVER_MEMORY, m));
        }
        let mut dims = self.held.first().map_or(&[][..], |t| &t.dims).to_vec();
        if h.op == HostOp::ImageDecode {
            dims.pop();
        }
        // An element of a list has the rank that was said of it.
        let whole = matches!(h.op, HostOp::ListAt | HostOp::OptionalGet | HostOp::ListConcat);
        let Some(first) = dims.len().checked_sub(h.symbols.len()).filter(|f| *f == 0 || !whole) else {
            let m = format!("found a tensor of rank {}, expected {}", dims.len(), h.symbols.len());
            return Err(failed(Code::RUN_FAILED, m));
        };
        for (s, d) in h.symbols.iter().zip(&dims[first..]) {
            self.bind(s, *d as i64);
        }
        Ok(())
    }
    fn launch(&mut self, l: &Launch) -> Run<()> {
        let id = KernelId::new(l.kernel.index());
        let module = self.module;
        let k = module.kernels.get(id).ok_or_else(|| broken(format!("there is no kernel {}", l.kernel.index())))?;
        let grid = [self.eval(&l.grid[0])?, self.eval(&l.grid[1])?, self.eval(&l.grid[2])?];
        if grid.iter().any(|g| *g < 0) {
            return Err(broken(format!("the grid of `{}` is {grid:?}", k.name)));
        }
        let scalars = l.scalars.iter().map(|s| self.eval(s)).collect::<Run<Vec<i64>>>()?;
        let scratch = self.eval(&l.scratch_bytes)?;
        let located = l.buffers.iter().map(|&b| self.locate(b)).collect::<Run<Vec<Located>>>()?;
        if grid.contains(&0) {
            return Ok(());
        }
        let syms: BTreeMap<String, i64> = k.syms.iter().map(|s| s.name.clone()).zip(scalars.iter().copied()).collect();
        let lookup = |s: &str| syms.get(s).copied();
        let own: Option<Vec<i64>> = k.launch.grid.iter().map(|g| g.eval(&lookup)).collect();
        if own.as_deref() != Some(&grid) {
            return Err(broken(format!("the grid of `{}` is {grid:?}, the kernel says {own:?}", k.name)));
        }
        if k.local_bytes().eval(&lookup).is_none_or(|need| need > scratch) {
            return Err(broken(format!("`{}` needs {} bytes of scratch, the plan gives {scratch}", k.name, k.local_bytes())));
        }
        for (b, param) in located.iter().zip(k.abi_bufs()) {
            let p = &k.bufs[param];
            let elems = p.dims.iter().try_fold(1i64, |n, d| d.eval(&lookup).and_then(|d| n.checked_mul(d)));
            // Elements under a byte are read as the bytes that hold them.
            let bytes = b.dtype.is_packed() && p.dtype == DType::U8 && elems == i64::try_from(b.bytes).ok();
            if !bytes && (p.dtype != b.dtype || elems != Some(b.elems as i64)) {
                let m = format!("`{}` of `{}` is {} of {elems:?}, the buffer {} of {}", p.name, k.name, p.dtype, b.dtype, b.elems);
                return Err(broken(m));
            }
        }
        let scalar_params: Vec<DType> = k.abi_scalars().filter_map(|v| k.vars.get(v)?.ty.elem()).collect();
        let bits: Vec<u64> = (scalars.iter().skip(k.syms.len()).zip(&scalar_params))
            .map(|(v, d)| if d.is_float() { *v as u64 } else { numerics::int_to_bits(*d, (*v).into()) })
            .collect();
        if scalars.len() != k.syms.len() + scalar_params.len() {
            return Err(broken(format!("{} scalars for `{}`", scalars.len(), k.name)));
        }
        let mut places: Vec<Place> = located.iter().map(|b| b.place).collect();
        places.sort_unstable();
        places.dedup();
        let args =
            Args { bufs: located.iter().map(|b| (places.binary_search(&b.place).unwrap_or(0), b.at)).collect(), syms, scalars: bits };
        let mut memory: Vec<Option<Memory<'_>>> = places.iter().map(|_| None).collect();
        let at = |p: Place| places.binary_search(&p).ok();
        for (i, t) in self.inputs.iter().enumerate() {
            if let Some(k) = at(Place::Input(i as u32)) {
                memory[k] = Some(Memory::Ro(t.bytes()));
            }
        }
        for (w, data) in &self.weights {
            if let Some(k) = at(Place::Weight(*w)) {
                memory[k] = Some(Memory::Ro(data));
            }
        }
        for (i, o) in self.outputs.iter_mut().enumerate() {
            if let (Some(k), Some((_, data))) = (at(Place::Output(i as u32)), o) {
                memory[k] = Some(Memory::Rw(data));
            }
        }
        for (e, data) in &mut self.epochs {
            if let Some(k) = at(Place::Epoch(*e)) {
                memory[k] = Some(Memory::Rw(data));
            }
        }
        let mut memory: Vec<Memory<'_>> = memory.into_iter().map(|m| m.unwrap_or(Memory::Ro(&[]))).collect();
        let outcome = kernel::run(module, id, &mut memory, &args, &self.opts.kernel).map_err(|f| {
            let path = self.plan.origins.get(l.origin).map_or("", |o| o.first()).to_owned();
            RunError { path, message: f.to_string(), code: Code::INTERNAL, fault: None }
        })?;
        (self.watch)(id, &outcome);
        if let Some(g) = outcome.guards.first() {
            let fault = match g.code {
                crate::kernel::Code::Index => Fault::Index,
                crate::kernel::Code::KvFull => Fault::Capacity,
                crate::kernel::Code::Size => Fault::NegativeSize,
                crate::kernel::Code::Range => Fault::Range,
            };
            return Err(self.failed(fault, l.origin, format!("element {} is {}, which is outside", g.at, g.value)));
        }
        Ok(())
    }
}

/// Weights from a list by position.
pub fn from_list(list: Vec<Option<Arc<[u8]>>>) -> impl Fn(u32) -> Option<Vec<u8>> {
    move |w| list.get(w as usize)?.as_ref().map(|b| b.to_vec())
}
