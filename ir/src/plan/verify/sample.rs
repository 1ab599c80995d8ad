// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What needs numbers: a plan followed at sample sizes, without running kernels.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::diag::{Code, Diagnostic};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{KernelId, Module};
use crate::plan::{BufferId, HostPlan, Launch, Pred, Stmt, Storage};
use crate::sym::{SymExpr, SymName};

/// Steps above the low end of each symbol's range at which a plan is followed.
const STEPS: [i64; 4] = [0, 1, 2, 65];

/// Most faults of one sample.
const MAX_FAULTS: usize = 20;

/// Follows the plan at sample sizes, each with both ways of every branch.
pub(super) fn check(plan: &HostPlan, module: &Module) -> Vec<Diagnostic> {
    let mut out: Vec<Diagnostic> = Vec::new();
    let has_if = branches(&plan.body);
    let symbolic = !plan.symbols.is_empty() || plan.inputs.iter().any(|p| p.dims.iter().any(|d| d.as_const().is_none()));
    for (n, &step) in STEPS.iter().enumerate() {
        if n > 0 && !symbolic {
            break;
        }
        for &taken in if has_if { &[true, false][..] } else { &[true][..] } {
            let mut f = Follow { plan, module, step, taken, symbols: HashMap::new(), epochs: HashMap::new(), faults: Vec::new() };
            // A sample that the plan's own checks refuse, or whose sizes leave 64-bit integers, says nothing.
            let _ = f.block(&plan.body);
            for d in f.faults {
                if !out.contains(&d) {
                    out.push(d);
                }
            }
        }
    }
    out
}

fn branches(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::If { .. } => true,
        Stmt::Loop { body, .. } => branches(body),
        _ => false,
    })
}

/// Bytes of an arena by who wrote them last: from the first byte to the byte behind the last.
type Writers = BTreeMap<i64, (i64, BufferId)>;

struct Arena {
    bytes: i64,
    writers: Writers,
}

struct Follow<'a> {
    plan: &'a HostPlan,
    module: &'a Module,
    step: i64,
    taken: bool,
    symbols: HashMap<SymName, i64>,
    epochs: HashMap<u32, Arena>,
    faults: Vec<Diagnostic>,
}

/// The sample goes no further.
struct Refused;
type Go<T> = Result<T, Refused>;

impl Follow<'_> {
    fn fault(&mut self, path: &str, message: String) -> Go<()> {
        if self.faults.len() >= MAX_FAULTS {
            return Err(Refused);
        }
        let mut sizes: Vec<String> = self.symbols.iter().map(|(s, v)| format!("{s} = {v}")).collect();
        sizes.sort();
        let d = Diagnostic::error(Code::INTERNAL, format!("plan: {message}"));
        let d = if sizes.is_empty() { d } else { d.note(format!("at {}", sizes.join(", "))) };
        self.faults.push(if path.is_empty() { d } else { d.at(path) });
        Ok(())
    }
    fn eval(&self, e: &SymExpr) -> Go<i64> {
        e.eval(&|s| self.symbols.get(s).copied()).ok_or(Refused)
    }
    fn holds(&self, p: &Pred) -> Go<bool> {
        Ok(match p {
            Pred::Eq(a, b) => self.eval(a)? == self.eval(b)?,
            Pred::Le(a, b) => self.eval(a)? <= self.eval(b)?,
            Pred::Divides(d, a) => self.eval(a)?.rem_euclid((*d).max(1)) == 0,
        })
    }
    /// The sample value of a symbol that the run would be given.
    fn given(&self, s: &str) -> i64 {
        let Some(p) = self.plan.symbols.iter().find(|p| *p.name == *s) else { return 1 + self.step };
        let div = p.div.max(1);
        let first = p.lo.saturating_add(div - 1).div_euclid(div).saturating_mul(div);
        let v = first.saturating_add(self.step.saturating_mul(div));
        if v > p.hi { p.hi.div_euclid(div) * div } else { v }
    }

    /// First byte and byte behind the last of a buffer in an arena; `None` for other memory and for no bytes.
    fn range(&mut self, b: BufferId, path: &str) -> Go<Option<(u32, i64, i64)>> {
        let Some(buf) = self.plan.buffers.get(b) else { return Err(Refused) };
        let mut n = 1i64;
        for d in &buf.dims {
            let d = self.eval(d)?;
            if d < 0 {
                return Err(Refused);
            }
            n = n.checked_mul(d).ok_or(Refused)?;
        }
        let bytes = buf.dtype.bytes_for(n as u64).and_then(|b| i64::try_from(b).ok()).ok_or(Refused)?;
        let Storage::Arena { epoch, offset } = &buf.storage else { return Ok(None) };
        let at = self.eval(offset)?;
        if bytes == 0 {
            return Ok(None);
        }
        let Some(arena) = self.epochs.get(epoch) else { return Err(Refused) };
        let (room, end) = (arena.bytes, at.checked_add(bytes).ok_or(Refused)?);
        if at < 0 || end > room {
            self.fault(path, format!("buffer %{} `{}` lies in bytes {at}..{end} of an arena of {room}", b.index(), buf.name))?;
            return Ok(None);
        }
        Ok(Some((*epoch, at, end)))
    }
    /// Whether two buffers show the same bytes on purpose: a view keeps the name.
    fn related(&self, a: BufferId, b: BufferId) -> bool {
        a == b || (self.plan.buffers.get(a).map(|x| &x.name) == self.plan.buffers.get(b).map(|x| &x.name))
    }
    fn read(&mut self, b: BufferId, path: &str) -> Go<()> {
        let Some((epoch, from, to)) = self.range(b, path)? else { return Ok(()) };
        let Some(arena) = self.epochs.get(&epoch) else { return Err(Refused) };
        let before = arena.writers.range(..from).next_back().filter(|(_, (end, _))| *end > from);
        let mut at = from;
        let mut wrong: Option<String> = None;
        for (&start, &(end, writer)) in before.into_iter().chain(arena.writers.range(from..to)) {
            if start > at {
                break;
            }
            if !self.related(writer, b) {
                wrong = Some(format!("whose bytes %{} `{}` was written over", writer.index(), self.plan.buffers[writer].name));
            }
            at = at.max(end);
        }
        if at < to {
            wrong = Some(format!("of which nobody wrote byte {}", at - from));
        }
        let name = &self.plan.buffers[b].name;
        wrong.map_or(Ok(()), |w| self.fault(path, format!("%{} `{name}` is read, {w}", b.index())))
    }
    fn write(&mut self, b: BufferId, path: &str) -> Go<()> {
        let Some((epoch, from, to)) = self.range(b, path)? else { return Ok(()) };
        if let Some(arena) = self.epochs.get_mut(&epoch) {
            clear(&mut arena.writers, from, to);
            arena.writers.insert(from, (to, b));
        }
        Ok(())
    }

    fn block(&mut self, body: &[Stmt]) -> Go<()> {
        body.iter().try_for_each(|s| self.stmt(s))
    }
    fn stmt(&mut self, s: &Stmt) -> Go<()> {
        match s {
            Stmt::Bind { symbol, input, axis } => {
                let dim = self.plan.inputs.get(*input as usize).and_then(|p| p.dims.get(*axis as usize));
                let v = dim.and_then(|d| d.eval(&|s| Some(self.given(s)))).ok_or(Refused)?;
                self.symbols.insert(symbol.clone(), v);
            }
            Stmt::Let { symbol, expr } => {
                let v = self.eval(expr)?;
                self.symbols.insert(symbol.clone(), v);
            }
            Stmt::Room { past, needed, room, front, .. } => {
                let (past, needed) = (self.eval(past)?, self.eval(needed)?);
                self.symbols.insert(room.clone(), needed);
                self.symbols.insert(front.clone(), past);
            }
            Stmt::Read { symbol, buffer, .. } => {
                self.read(*buffer, "")?;
                let v = self.given(symbol);
                self.symbols.insert(symbol.clone(), v);
            }
            Stmt::Check { pred, .. } => {
                if !self.holds(pred)? {
                    return Err(Refused);
                }
            }
            Stmt::Epoch { epoch, bytes } => {
                let bytes = self.eval(bytes)?;
                if bytes < 0 {
                    return Err(Refused);
                }
                self.epochs.insert(*epoch, Arena { bytes, writers: Writers::new() });
            }
            Stmt::Output { .. } => {}
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
            }
            Stmt::WriteDims { buffer, .. } => self.write(*buffer, "")?,
            Stmt::Host(h) => {
                let path = self.plan.origins.get(h.origin).map_or("", |o| o.first());
                h.operands.iter().try_for_each(|&b| self.read(b, path))?;
                for s in &h.symbols {
                    let v = self.given(s);
                    self.symbols.insert(s.clone(), v);
                }
            }
            Stmt::Held { buffer, .. } => self.write(*buffer, "")?,
            Stmt::Copy { to, from } => {
                self.read(*from, "")?;
                let (a, b) = (self.range(*from, "")?, self.range(*to, "")?);
                if let (Some(a), Some(b)) = (a, b)
                    && (a.2 - a.1 != b.2 - b.1 || (a.0 == b.0 && a.1 < b.2 && b.1 < a.2))
                {
                    self.fault("", format!("%{} is copied onto %{}, which overlaps it or differs in size", from.index(), to.index()))?;
                }
                self.write(*to, "")?;
            }
            Stmt::If { then, els, .. } => self.block(if self.taken { then } else { els })?,
            Stmt::Loop { counter, trips, trip, cond, body, .. } => {
                let n = self.eval(trip)?.clamp(0, 2);
                for i in 0..n {
                    if let Some(c) = cond {
                        self.read(*c, "")?;
                    }
                    self.symbols.insert(counter.clone(), i);
                    self.block(body)?;
                }
                self.symbols.insert(trips.clone(), n);
            }
        }
        Ok(())
    }

    fn launch(&mut self, l: &Launch) -> Go<()> {
        let plan = self.plan;
        let module = self.module;
        let path = plan.origins.get(l.origin).map_or("", |o| o.first());
        let Some(k) = module.kernels.get(KernelId::new(l.kernel.index())) else { return Err(Refused) };
        let scalars = l.scalars.iter().map(|s| self.eval(s)).collect::<Go<Vec<i64>>>()?;
        let grid = l.grid.iter().map(|g| self.eval(g)).collect::<Go<Vec<i64>>>()?;
        for (s, &v) in k.syms.iter().zip(&scalars) {
            if v < s.lo || v > s.hi || v.rem_euclid(s.div.max(1)) != 0 {
                let m = format!("`{}` of kernel `{}` is {v}; the kernel takes {}..{}, multiples of {}", s.name, k.name, s.lo, s.hi, s.div);
                self.fault(path, m)?;
            }
        }
        let lookup = |s: &str| k.syms.iter().position(|x| x.name == s).and_then(|i| scalars.get(i).copied());
        let own: Option<Vec<i64>> = k.launch.grid.iter().map(|g| g.eval(&lookup)).collect();
        if own.as_ref() != Some(&grid) {
            self.fault(path, format!("the grid of `{}` is {grid:?}, the kernel says {own:?}", k.name))?;
        }
        let scratch = self.eval(&l.scratch_bytes)?;
        if k.local_bytes().eval(&lookup).is_none_or(|need| need > scratch) {
            self.fault(path, format!("kernel `{}` needs {} bytes of scratch, {scratch} are given", k.name, k.local_bytes()))?;
        }
        let mut writes = BTreeSet::new();
        for (&b, p) in l.buffers.iter().zip(k.abi_bufs()) {
            let p = &k.bufs[p];
            let have = plan.buffers.get(b).and_then(|b| {
                let n = elems(&b.dims, &|s| self.symbols.get(s).copied())?;
                // Elements under a byte are read as the bytes that hold them.
                if b.dtype.is_packed() && p.dtype == DType::U8 { b.dtype.bytes_for(n.try_into().ok()?)?.try_into().ok() } else { Some(n) }
            });
            let want = elems(&p.dims, &lookup);
            if have != want {
                let m = format!("`{}` of kernel `{}` has {want:?} elements, buffer %{} has {have:?}", p.name, k.name, b.index());
                self.fault(path, m)?;
            }
            if let Some((_, at, _)) = self.range(b, path)?
                && at % 64 != 0
            {
                self.fault(path, format!("buffer %{} lies at byte {at}, which is no multiple of 64", b.index()))?;
            }
            if p.mode.writes() {
                writes.insert(b);
            }
        }
        if grid.contains(&0) {
            return Ok(());
        }
        // Nothing that the launch reads or writes lies on what it writes.
        let mut ranges = Vec::new();
        for (i, &b) in l.buffers.iter().enumerate() {
            if let Some(r) = self.range(b, path)? {
                ranges.push((i, b, r));
            }
        }
        for (i, b, r) in &ranges {
            let meets = ranges.iter().find(|(j, _, s)| i != j && r.0 == s.0 && r.1 < s.2 && s.1 < r.2);
            if let (true, Some((_, c, _))) = (writes.contains(b), meets) {
                self.fault(path, format!("a launch of `{}` writes %{} over its own %{}", k.name, b.index(), c.index()))?;
            }
        }
        for &b in l.buffers.iter().filter(|b| !writes.contains(b)) {
            self.read(b, path)?;
        }
        writes.into_iter().try_for_each(|b| self.write(b, path))
    }
}

fn elems(dims: &[SymExpr], lookup: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
    dims.iter().try_fold(1i64, |n, d| d.eval(lookup).and_then(|d| n.checked_mul(d)))
}

/// Takes `from..to` out of what was written; what sticks out on either side stays.
fn clear(w: &mut Writers, from: i64, to: i64) {
    if let Some((&start, &(end, b))) = w.range(..from).next_back()
        && end > from
    {
        w.insert(start, (from, b));
        if end > to {
            w.insert(to, (end, b));
        }
    }
    let inside: Vec<i64> = w.range(from..to).map(|(s, _)| *s).collect();
    for s in inside {
        if let Some((end, b)) = w.remove(&s)
            && end > to
        {
            w.insert(to, (end, b));
        }
    }
}
