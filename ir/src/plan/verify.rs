// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks a plan against its rules and its kernels; collects every fault.
//!
//! What needs numbers (who lies where, who overwrites whom) is followed at a few sample sizes: each symbol at the small end of its
//! range, a little above, and at an odd size. Lifetimes are found anew: an arena remembers for every byte which buffer wrote it last,
//! and a read through a buffer that shows other bytes than the last writer's is a fault.

use std::collections::{BTreeSet, HashSet};

use super::{BufferId, HostPlan, Launch, OriginId, Pred, Stmt, Storage};
use crate::diag::{Code, Diagnostic};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{KernelId, Module};
use crate::sym::{SymExpr, SymName};

mod sample;

/// Most faults that are reported.
const MAX_FAULTS: usize = 100;

/// Checks a plan that launches the kernels of `module`.
///
/// Returns `E0901` for each fault: a symbol that is not bound or bound twice, a buffer, kernel, input, output or epoch that is not there,
/// a launch that does not fit its kernel, an arena that is not open, bytes that are read before they are written or after something
/// else was written over them.
pub fn verify(plan: &HostPlan, module: &Module) -> Vec<Diagnostic> {
    let mut v = Verify { plan, module, faults: Vec::new(), scope: Scope::default(), epochs: HashSet::new(), place: String::new() };
    v.tables();
    let usable = v.faults.is_empty();
    v.block(&plan.body);
    if usable && v.faults.is_empty() {
        v.faults = sample::check(plan, module);
    }
    v.faults.truncate(MAX_FAULTS);
    v.faults
}

/// What is bound, open and declared at a statement.
#[derive(Clone, Default)]
struct Scope {
    symbols: BTreeSet<SymName>,
    open: BTreeSet<u32>,
    outputs: BTreeSet<u32>,
}

struct Verify<'a> {
    plan: &'a HostPlan,
    module: &'a Module,
    faults: Vec<Diagnostic>,
    scope: Scope,
    /// Epochs that were opened anywhere.
    epochs: HashSet<u32>,
    place: String,
}

impl Verify<'_> {
    fn fault(&mut self, message: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            let d = Diagnostic::error(Code::INTERNAL, format!("plan: {}", message.into()));
            self.faults.push(if self.place.is_empty() { d } else { d.at(self.place.clone()) });
        }
    }
    fn at(&mut self, origin: OriginId) {
        match self.plan.origins.get(origin) {
            Some(o) => self.place = o.first().to_owned(),
            None => {
                self.place = String::new();
                self.fault(format!("there is no origin {origin:?}"));
            }
        }
    }

    /// What does not need statements.
    fn tables(&mut self) {
        let mut names = HashSet::new();
        for s in &self.plan.symbols {
            if !names.insert(&s.name) {
                self.fault(format!("symbol `{}` is declared twice", s.name));
            }
            if s.lo > s.hi || s.div < 1 {
                self.fault(format!("symbol `{}` has the range {}..{} and the divisor {}", s.name, s.lo, s.hi, s.div));
            }
        }
        for p in self.plan.outputs.iter().filter_map(|p| p.alias_of.map(|a| (p, a))) {
            if self.plan.inputs.get(p.1 as usize).is_none_or(|i| i.dtype != p.0.dtype) {
                self.fault(format!("output `{}` continues input {}, which is not there or of another dtype", p.0.name, p.1));
            }
        }
        let mut end = 0u64;
        let mut names = HashSet::new();
        for w in &self.plan.weights {
            if !names.insert(&w.name) {
                self.fault(format!("weight `{}` is stored twice", w.name));
            }
            let elems = w.dims.iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
            if elems.and_then(|n| w.dtype.bytes_for(n)) != Some(w.bytes) {
                self.fault(format!("weight `{}` has {} bytes, {}{:?} takes {elems:?} elements", w.name, w.bytes, w.dtype, w.dims));
            }
            if w.offset % 64 != 0 || w.offset < end {
                self.fault(format!("weight `{}` lies at byte {}; it must be a multiple of 64, {end} or more", w.name, w.offset));
            }
            match w.offset.checked_add(w.bytes).filter(|e| *e <= i64::MAX as u64) {
                Some(e) => end = e,
                None => self.fault(format!("weight `{}` ends beyond 64-bit integers", w.name)),
            }
        }
        for (id, b) in self.plan.buffers.iter() {
            let port = match &b.storage {
                Storage::Input(i) => self.plan.inputs.get(*i as usize).map(|p| p.dtype),
                Storage::Output(o) => self.plan.outputs.get(*o as usize).map(|p| p.dtype),
                Storage::Weight { weight } => self.plan.weights.get(*weight as usize).map(|w| w.dtype),
                Storage::Arena { .. } => Some(b.dtype),
            };
            let what = format!("buffer %{} `{}`", id.index(), b.name);
            match port {
                None => self.fault(format!("{what} lies in what is not there")),
                Some(d) if d.bits() != b.dtype.bits() => self.fault(format!("{what} is {}, its memory {d}", b.dtype)),
                Some(_) => {}
            }
            if b.dtype == DType::List && !b.dims.is_empty() {
                self.fault(format!("{what} is a tensor of lists"));
            }
            if b.dims.iter().any(|d| d.is_overflowed() || d.as_const().is_some_and(|d| d < 0)) {
                self.fault(format!("{what} has a dim that is no number of elements"));
            }
            if let Storage::Weight { weight } = &b.storage
                && let (Some(w), Some(n)) = (self.plan.weights.get(*weight as usize), b.bytes().as_const())
                && u64::try_from(n).ok().is_none_or(|n| n > w.bytes)
            {
                self.fault(format!("{what} has {n} bytes, weight `{}` has {}", w.name, w.bytes));
            }
        }
    }

    fn expr(&mut self, e: &SymExpr) {
        if e.is_overflowed() {
            self.fault("an expression leaves 64-bit integers");
        }
        if e.as_const().is_some() {
            return;
        }
        let mut set = BTreeSet::new();
        e.collect_symbols(&mut set);
        for s in set {
            if !self.scope.symbols.contains(&s) {
                self.fault(format!("symbol `{s}` of `{e}` is not bound here"));
            }
        }
    }
    fn pred(&mut self, p: &Pred) {
        match p {
            Pred::Eq(a, b) | Pred::Le(a, b) => {
                self.expr(a);
                self.expr(b);
            }
            Pred::Divides(d, a) => {
                if *d < 1 {
                    self.fault(format!("`{p}`: the divisor is not positive"));
                }
                self.expr(a);
            }
        }
    }
    fn bind(&mut self, s: &SymName) {
        if !self.scope.symbols.insert(s.clone()) {
            self.fault(format!("symbol `{s}` is bound twice"));
        }
    }
    /// A buffer that is read or written.
    fn buffer(&mut self, b: BufferId, write: bool) {
        let Some(buf) = self.plan.buffers.get(b) else {
            return self.fault(format!("there is no buffer %{}", b.index()));
        };
        let what = format!("buffer %{} `{}`", b.index(), buf.name);
        buf.dims.iter().for_each(|d| self.expr(d));
        match &buf.storage {
            Storage::Input(_) | Storage::Weight { .. } if write => self.fault(format!("{what} is an input or a weight and is written")),
            Storage::Output(o) if !self.scope.outputs.contains(o) => {
                self.fault(format!("{what} is used before output {o} is declared"));
            }
            Storage::Arena { epoch, offset } => {
                if !self.scope.open.contains(epoch) {
                    self.fault(format!("{what} is used before epoch {epoch} is opened"));
                }
                self.expr(offset);
                if offset.as_const().is_some_and(|o| o < 0) {
                    self.fault(format!("{what} lies before its arena"));
                }
            }
            _ => {}
        }
    }
    fn integer(&mut self, b: BufferId) {
        if let Some(buf) = self.plan.buffers.get(b)
            && !matches!(buf.dtype, DType::I64 | DType::I32 | DType::Bool)
        {
            self.fault(format!("buffer %{} holds {}; expected i64, i32 or bool", b.index(), buf.dtype));
        }
    }

    fn scoped(&mut self, body: &[Stmt], more: &[&SymName]) {
        let outer = self.scope.clone();
        more.iter().for_each(|s| self.bind(s));
        self.block(body);
        self.scope = outer;
    }
    fn block(&mut self, body: &[Stmt]) {
        for s in body {
            self.place = String::new();
            self.stmt(s);
        }
    }
    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::Bind { symbol, input, axis } => {
                if self.plan.inputs.get(*input as usize).is_none_or(|p| *axis as usize >= p.dims.len()) {
                    self.fault(format!("there is no dim {axis} of input {input}"));
                }
                self.bind(symbol);
            }
            Stmt::Let { symbol, expr } => {
                self.expr(expr);
                self.bind(symbol);
            }
            Stmt::Room { output, past, needed, room, front } => {
                self.expr(past);
                self.expr(needed);
                if self.plan.outputs.get(*output as usize).is_none_or(|p| p.alias_of.is_none()) {
                    self.fault(format!("output {output} is not there or continues no input"));
                }
                self.bind(room);
                self.bind(front);
            }
            Stmt::Read { symbol, buffer, index } => {
                self.buffer(*buffer, false);
                self.integer(*buffer);
                self.expr(index);
                self.bind(symbol);
            }
            Stmt::Check { pred, origin, .. } => {
                self.at(*origin);
                self.pred(pred);
            }
            Stmt::Epoch { epoch, bytes } => {
                self.expr(bytes);
                if !self.epochs.insert(*epoch) {
                    self.fault(format!("epoch {epoch} is opened twice"));
                }
                self.scope.open.insert(*epoch);
            }
            Stmt::Output { output, dims } => {
                dims.iter().for_each(|d| self.expr(d));
                match self.plan.outputs.get(*output as usize) {
                    None => self.fault(format!("there is no output {output}")),
                    Some(p) if p.dims.len() != dims.len() => {
                        self.fault(format!("output {output} has {} dims, {} are declared", p.dims.len(), dims.len()));
                    }
                    Some(_) => {}
                }
                if !self.scope.outputs.insert(*output) {
                    self.fault(format!("output {output} is declared twice"));
                }
            }
            Stmt::Launch(l) => self.launch(l),
            Stmt::Choose { cases } => {
                for (preds, l) in cases {
                    preds.iter().for_each(|p| self.pred(p));
                    self.launch(l);
                }
                let open = cases.iter().position(|(p, _)| p.is_empty());
                if open != cases.len().checked_sub(1) {
                    self.fault("the last case of a choice, and only it, has no condition");
                }
            }
            Stmt::WriteDims { buffer, values } => {
                self.buffer(*buffer, true);
                self.integer(*buffer);
                values.iter().for_each(|v| self.expr(v));
                let n = self.plan.buffers.get(*buffer).map(|b| crate::sym::product(&b.dims));
                if n.and_then(|n| n.as_const()).is_some_and(|n| n != values.len() as i64) {
                    self.fault(format!("{} values are written to buffer %{}", values.len(), buffer.index()));
                }
            }
            Stmt::Host(h) => {
                self.at(h.origin);
                h.operands.iter().for_each(|&b| self.buffer(b, false));
                if h.takes.len() != h.operands.len() {
                    self.fault(format!("`{}` has {} operands and takes {}", h.op.name(), h.operands.len(), h.takes.len()));
                }
                for (&b, &d) in h.operands.iter().zip(&h.takes) {
                    let stored = if d.is_handle() { DType::I64 } else { d };
                    if self.plan.buffers.get(b).is_some_and(|b| b.dtype != stored) {
                        self.fault(format!("`{}` takes {d}, which buffer %{} does not hold", h.op.name(), b.index()));
                    }
                }
                h.symbols.iter().for_each(|s| self.bind(s));
            }
            Stmt::Held { buffer, .. } => self.buffer(*buffer, true),
            Stmt::Copy { to, from } => {
                self.buffer(*from, false);
                self.buffer(*to, true);
                if let (Some(a), Some(b)) = (self.plan.buffers.get(*to), self.plan.buffers.get(*from))
                    && a.dtype != b.dtype
                {
                    self.fault(format!("%{} of {} is copied onto %{} of {}", from.index(), b.dtype, to.index(), a.dtype));
                }
            }
            Stmt::If { pred, then, els } => {
                self.pred(pred);
                self.scoped(then, &[]);
                self.scoped(els, &[]);
            }
            Stmt::Loop { counter, trips, trip, cond, body, origin } => {
                self.at(*origin);
                self.expr(trip);
                if let Some(c) = cond {
                    self.buffer(*c, false);
                    if self.plan.buffers.get(*c).is_some_and(|b| b.dtype != DType::Bool) {
                        self.fault(format!("the condition %{} of a loop is not bool", c.index()));
                    }
                }
                self.scoped(body, &[counter]);
                self.place = String::new();
                self.bind(trips);
            }
        }
    }

    fn launch(&mut self, l: &Launch) {
        self.at(l.origin);
        l.grid.iter().chain(&l.scalars).for_each(|e| self.expr(e));
        self.expr(&l.scratch_bytes);
        let Some(k) = self.module.kernels.get(KernelId::new(l.kernel.index())) else {
            return self.fault(format!("there is no kernel {}", l.kernel.index()));
        };
        let params: Vec<_> = k.abi_bufs().collect();
        if params.len() != l.buffers.len() {
            self.fault(format!("{} buffers for the {} of kernel `{}`", l.buffers.len(), params.len(), k.name));
        }
        let wanted = k.syms.len() + k.abi_scalars().count();
        if wanted != l.scalars.len() {
            self.fault(format!("{} scalars for the {wanted} of kernel `{}`", l.scalars.len(), k.name));
        }
        for (i, &b) in l.buffers.iter().enumerate() {
            let param = params.get(i).and_then(|p| k.bufs.get(*p));
            self.buffer(b, param.is_some_and(|p| p.mode.writes()));
            if let (Some(p), Some(buf)) = (param, self.plan.buffers.get(b))
                && p.dtype != buf.dtype
                // Elements under a byte are read as the bytes that hold them.
                && !(p.dtype == DType::U8 && buf.dtype.is_packed() && !p.mode.writes())
            {
                self.fault(format!("`{}` of kernel `{}` is {}, buffer %{} is {}", p.name, k.name, p.dtype, b.index(), buf.dtype));
            }
        }
    }
}
