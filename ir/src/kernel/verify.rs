// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The verifier. It collects all faults of a kernel, each with its statement:
//!
//! - names are legal and unique where they are seen; symbols have ranges; buffers have strides, alignment and capacity;
//! - every node of an expression has one parent, and the type that its operands give;
//! - a name is used where it is defined; a `var` is assigned before it is read;
//! - indices of registers, and bounds of unrolled loops, are constant after unrolling;
//! - atoms are bijections of lanes and registers onto elements, and statements use them with their types and spaces;
//! - barriers stand in group-uniform control; shuffles, votes and products in warp-uniform control;
//! - an index is not provably outside its dim; masks and extents fit their access;
//! - queues have commits and waits; roles end the body and take different warps;
//! - the unrolled kernel is within its budget of statements.
//!
//! What depends on data (bounds, races, deadlock, phases of signals) is the interpreter's.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::{
    Atom, Class, FnId, Home, Kernel, KernelId, Layout, Module, Op, Operand, Param, Place2, Space, Stmt, StmtId, Ty, print, print_kernel,
    typing,
};
use crate::dtype::DType;
use crate::entity::{EntityId, PrimaryMap};
use crate::sym::SymExpr;

mod exprs;
mod flow;
mod stmts;

/// What a machine has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of `shared` memory of a group.
    pub shared_bytes: u64,
    /// Bytes of `local` memory of a lane; on cpu the scratch of a thread, whose size may be symbolic.
    pub local_bytes: u64,
    /// Bytes of accumulator memory.
    pub acc_bytes: u64,
    /// Bytes of live tiles per home: Vec, MatA, MatB, Acc.
    pub home_bytes: [u64; 4],
    /// Lanes of a group.
    pub group: u32,
    /// Statements after unrolling.
    pub statements: u64,
}

impl Default for Limits {
    /// Generous: what no machine exceeds.
    fn default() -> Self {
        Limits {
            shared_bytes: 256 << 10,
            local_bytes: 1 << 30,
            acc_bytes: 256 << 10,
            home_bytes: [1 << 20, 1 << 20, 1 << 20, 1 << 20],
            group: 1024,
            statements: 6000,
        }
    }
}

/// What is wrong with a kernel, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The statement; `None` for a declaration.
    pub stmt: Option<StmtId>,
    /// Line in the printed kernel; 0 for a declaration.
    pub line: u32,
    /// Text of the statement.
    pub text: String,
    /// A sentence.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { write!(f, "{}", self.message) } else { write!(f, "line {}: {}\n  {}", self.line, self.message, self.text) }
    }
}

/// A kernel that was verified; what emitters take.
#[derive(Copy, Clone, Debug)]
pub struct Verified<'a> {
    /// Its module.
    pub module: &'a Module,
    /// The kernel.
    pub kernel: &'a Kernel,
}

/// Verifies a kernel of a module.
///
/// # Errors
/// All faults that were found.
pub fn verify<'a>(m: &'a Module, id: KernelId, limits: &Limits) -> Result<Verified<'a>, Vec<Fault>> {
    let Some(k) = m.kernels.get(id) else {
        return Err(vec![Fault { stmt: None, line: 0, text: String::new(), message: "no such kernel".into() }]);
    };
    verify_kernel(m, k, limits)
}

/// Verifies a kernel that need not be in the module yet; its functions and atoms are the module's.
///
/// # Errors
/// All faults that were found.
pub fn verify_kernel<'a>(m: &'a Module, k: &'a Kernel, limits: &Limits) -> Result<Verified<'a>, Vec<Fault>> {
    let mut v = Verifier { m, k, limits, at: None, faults: Vec::new(), parents: vec![0; k.exprs.len()], depth: 0 };
    v.arenas();
    if v.faults.is_empty() {
        v.declarations();
        v.functions();
        v.statements();
        v.flow();
    }
    if v.faults.is_empty() {
        return Ok(Verified { module: m, kernel: k });
    }
    let text = print_kernel(m, k);
    let faults = v.faults.into_iter().map(|(stmt, message)| match stmt {
        Some(s) => Fault { stmt, line: text.line_of(s), text: text.line(s).into(), message },
        None => Fault { stmt, line: 0, text: String::new(), message },
    });
    Err(faults.collect())
}

pub(super) struct Verifier<'a> {
    m: &'a Module,
    k: &'a Kernel,
    limits: &'a Limits,
    at: Option<StmtId>,
    faults: Vec<(Option<StmtId>, String)>,
    /// How many nodes or statements use an expression.
    parents: Vec<u32>,
    depth: u32,
}

impl<'a> Verifier<'a> {
    fn fault(&mut self, message: impl Into<String>) {
        // One wrong type spreads; a hundred faults say no more than a few.
        if self.faults.len() < 200 {
            self.faults.push((self.at, message.into()));
        }
    }
    fn need(&mut self, ok: bool, message: impl FnOnce() -> String) {
        if !ok {
            self.fault(message());
        }
    }

    /// Ids point into their arenas, and statements form a tree: everything after this may follow them.
    fn arenas(&mut self) {
        let k = self.k;
        for (id, e) in k.exprs.iter() {
            let ok = e.args.iter().all(|a| a.index() < id.index())
                && match &e.op {
                    Op::Var(v) | Op::At(v) => k.vars.get(*v).is_some(),
                    Op::Call(f) => self.m.fns.get(*f).is_some(),
                    _ => true,
                };
            self.need(ok, || format!("expression {id:?} refers outside its arena"));
        }
        let mut seen = vec![false; k.stmts.len()];
        let mut work: Vec<StmtId> = k.body.clone();
        while let Some(s) = work.pop() {
            match seen.get_mut(s.index()) {
                Some(x) if !*x => *x = true,
                _ => {
                    self.fault(format!("statement {s:?} stands in two blocks, or in none"));
                    return;
                }
            }
            match &k.stmts[s] {
                Stmt::For { body, .. } | Stmt::Role { body, .. } | Stmt::Each { body, .. } => work.extend(body),
                Stmt::If { then, els, .. } => work.extend(then.iter().chain(els)),
                _ => {}
            }
            let ids = refs(&k.stmts[s]);
            let ok = ids.exprs.iter().all(|e| k.exprs.get(*e).is_some())
                && ids.vars.iter().all(|v| k.vars.get(*v).is_some())
                && ids.bufs.iter().all(|b| k.bufs.get(*b).is_some())
                && ids.queues.iter().all(|q| k.queues.get(*q).is_some())
                && ids.bars.iter().all(|b| k.bars.get(*b).is_some())
                && ids.atoms.iter().all(|a| self.m.atoms.get(*a).is_some());
            self.at = Some(s);
            self.need(ok, || "the statement refers outside its arenas".into());
            self.at = None;
        }
        for v in k.vars.values() {
            if let Ty::Frag(a, _) = &v.ty {
                self.need(self.m.atoms.get(*a).is_some(), || format!("`{}` is a fragment of no atom", v.name));
            }
        }
        for p in &k.params {
            let ok = match p {
                Param::Buf(b) | Param::TensorMap { buf: b, .. } => k.bufs.get(*b).is_some(),
                Param::Scalar(v) => k.vars.get(*v).is_some(),
                Param::Status(_) => true,
            };
            self.need(ok, || "a parameter refers outside its arena".into());
        }
    }

    /// Symbols of an expression are declared, and it stays within 64 bits.
    fn symbolic(&mut self, e: &SymExpr, what: &str) {
        let mut names = BTreeSet::new();
        e.collect_symbols(&mut names);
        for n in names {
            self.need(self.k.sym(&n).is_some(), || format!("{what} uses symbol `{n}`, which is not declared"));
        }
        self.need(!e.is_overflowed(), || format!("{what} leaves 64 bits"));
    }
    fn sym_range(&self, e: &SymExpr) -> (i64, i64) {
        e.bounds(&|n| self.k.sym(n).map(|s| (s.lo, s.hi)))
    }

    fn declarations(&mut self) {
        let k = self.k;
        let mut names: HashMap<&str, u32> = HashMap::new();
        let scalars = k.abi_scalars().map(|v| k.vars[v].name.as_str());
        let statuses = k.params.iter().filter_map(|p| if let Param::Status(n) = p { Some(n.as_str()) } else { None });
        let others = k.queues.values().map(|q| q.name.as_str()).chain(k.bars.values().map(|b| b.name.as_str()));
        for n in k.bufs.values().map(|b| b.name.as_str()).chain(scalars).chain(statuses).chain(others) {
            *names.entry(n).or_default() += 1;
            self.need(print::plain_name(n), || format!("`{n}` is no legal name"));
        }
        for s in &k.syms {
            *names.entry(&s.name).or_default() += 1;
            self.need(s.lo <= s.hi && s.div >= 1, || format!("symbol `{}` has no value: {}..{} div {}", s.name, s.lo, s.hi, s.div));
        }
        let mut twice: Vec<&str> = names.into_iter().filter(|n| n.1 > 1).map(|n| n.0).collect();
        twice.sort_unstable();
        for n in twice {
            self.fault(format!("`{n}` is declared twice"));
        }
        let (group, warp) = (k.launch.group, k.launch.warp);
        self.need(group >= 1 && group <= self.limits.group, || format!("a group of {group} lanes"));
        self.need(warp >= 1 && group.is_multiple_of(warp.max(1)), || format!("warps of {warp} lanes in a group of {group}"));
        self.need(k.class != Class::Cpu || group == 1, || "a group on cpu has one lane".into());
        self.need(k.class == Class::Cpu || !k.launch.steps, || "a launch in steps, which only cpu has".into());
        for g in &k.launch.grid {
            self.symbolic(g, "the grid");
        }
        let mut bytes = [0u64; 3];
        for (id, b) in k.bufs.iter() {
            let n = &b.name;
            self.need(b.dims.len() == b.strides.len(), || format!("`{n}` has {} dims and {} strides", b.dims.len(), b.strides.len()));
            self.need(b.align.is_power_of_two(), || format!("`{n}` is aligned to {} bytes", b.align));
            self.need(!matches!(b.dtype, DType::Str | DType::List | DType::C64 | DType::C128), || {
                format!("`{n}` has elements of {}", b.dtype)
            });
            for d in b.dims.iter().chain(&b.strides) {
                self.symbolic(d, &format!("`{n}`"));
                self.need(self.sym_range(d).1 >= 0, || format!("a dim of `{n}` is negative"));
            }
            let is_param = k.abi_bufs().filter(|p| *p == id).count();
            self.need((is_param == 1) == (b.space == Space::Global), || {
                format!("`{n}` is a parameter {is_param} times and in {}", b.space.name())
            });
            match b.layout {
                Layout::Xor { unit, mask, .. } => {
                    let row = b.dims.last().and_then(SymExpr::as_const).unwrap_or(0);
                    let units = row / i64::from(unit.max(1));
                    let ok = unit.is_power_of_two() && (u32::from(mask) + 1).is_power_of_two();
                    let ok = ok && i64::from(unit) * units == row && units % (i64::from(mask) + 1) == 0;
                    self.need(ok, || format!("the layout of `{n}` is no bijection of its rows"));
                }
                Layout::Hw(s) => {
                    let row = b.dims.last().and_then(SymExpr::as_const).unwrap_or(0) * i64::from(b.dtype.bytes().unwrap_or(0));
                    self.need(row % i64::from(s.row_bytes().max(1)) == 0, || format!("rows of `{n}` do not fit {}", s.name()));
                }
                Layout::Plain | Layout::Pad(_) => {}
            }
            if b.space == Space::Global {
                self.need(b.alias.is_none() && b.layout == Layout::Plain, || format!("`{n}` is global and has a layout or an alias"));
                continue;
            }
            if let Some((base, at)) = b.alias {
                let ok = base.index() < id.index() && k.bufs[base].space == b.space && at % b.align.max(1) == 0;
                self.need(ok, || format!("`{n}` shares bytes with a buffer that is later, elsewhere, or not aligned for it"));
                continue;
            }
            let size = b.span_bytes();
            let slot = match b.space {
                Space::Shared => 0,
                Space::Local => 1,
                _ => 2,
            };
            match size.as_const() {
                Some(c) => bytes[slot] += c.max(0) as u64,
                None => self.need(b.space == Space::Local && k.class == Class::Cpu, || format!("the size of `{n}` is not constant")),
            }
        }
        let room = [self.limits.shared_bytes, self.limits.local_bytes, self.limits.acc_bytes];
        for ((have, room), name) in bytes.into_iter().zip(room).zip(["shared", "local", "acc"]) {
            self.need(have <= room, || format!("{have} bytes of {name} memory, there are {room}"));
        }
        for p in &k.params {
            if let Param::TensorMap { buf, box_, .. } = p {
                let b = &k.bufs[*buf];
                self.need(box_.len() == b.dims.len(), || format!("the box of `{}` has {} extents", b.name, box_.len()));
            }
        }
        for b in k.bars.values() {
            let n: u64 = b.dims.iter().map(|d| u64::from(*d)).product();
            self.need((1..=4096).contains(&n), || format!("`{}` is an array of {n} signals", b.name));
        }
        let used: BTreeSet<_> = k.stmts.values().flat_map(|s| refs(s).atoms).collect();
        let frags = k.vars.values().filter_map(|v| if let Ty::Frag(a, _) = &v.ty { Some(*a) } else { None });
        for a in used.into_iter().chain(frags).collect::<BTreeSet<_>>() {
            if let Err(m) = atom_is_sound(&self.m.atoms[a]) {
                self.fault(m);
            }
        }
    }

    /// Functions that the kernel reaches have well-typed bodies and call only functions before them.
    fn functions(&mut self) {
        let calls = |exprs: &PrimaryMap<_, super::Expr>| -> Vec<FnId> {
            exprs.values().filter_map(|e: &super::Expr| if let Op::Call(f) = e.op { Some(f) } else { None }).collect()
        };
        let mut work = calls(&self.k.exprs);
        let mut seen = BTreeSet::new();
        while let Some(f) = work.pop() {
            if !seen.insert(f) {
                continue;
            }
            let Some(def) = self.m.fns.get(f) else {
                self.fault("a call of no function");
                continue;
            };
            self.need(print::plain_name(&def.name), || format!("`{}` is no legal name of a function", def.name));
            let mut known: BTreeSet<_> = def.params.iter().copied().collect();
            let ok_ids = def.exprs.iter().all(|(id, e)| {
                e.args.iter().all(|a| a.index() < id.index())
                    && match e.op {
                        Op::Call(g) => g < f,
                        Op::Var(v) => def.vars.get(v).is_some(),
                        _ => true,
                    }
            });
            if !ok_ids
                || def.exprs.get(def.result).is_none()
                || def.lets.iter().any(|(v, e)| def.vars.get(*v).is_none() || def.exprs.get(*e).is_none())
            {
                self.fault(format!("function `{}` refers outside its arenas, or to a later function", def.name));
                continue;
            }
            let mut order: Vec<_> = def.lets.iter().map(|(v, e)| (Some(*v), *e)).collect();
            order.push((None, def.result));
            for (v, root) in order {
                let mut stack = vec![root];
                while let Some(e) = stack.pop() {
                    let x = &def.exprs[e];
                    stack.extend(&x.args);
                    let scalar = matches!(x.ty, Ty::Scalar(_));
                    self.need(scalar, || format!("function `{}` computes {}", def.name, x.ty.show()));
                    let tys: Vec<Ty> = x.args.iter().map(|a| def.exprs[*a].ty.clone()).collect();
                    let found = match &x.op {
                        Op::Var(u) if known.contains(u) => Ok(def.vars[*u].ty.clone()),
                        Op::Var(_) | Op::At(_) | Op::Id(_) | Op::Dim(_) => Err("a name that is not defined in a function".into()),
                        Op::Call(g) => typing::call_type(self.m.fns[*g].param_dtypes(), self.m.fns[*g].ret, &tys),
                        op => typing::type_of(op, &tys, Some(&x.ty)),
                    };
                    match found {
                        Ok(t) if t == x.ty => {}
                        Ok(t) => self.fault(format!("function `{}`: {} where {} stands", def.name, t.show(), x.ty.show())),
                        Err(m) => self.fault(format!("function `{}`: {m}", def.name)),
                    }
                }
                known.extend(v);
            }
            let ret = &def.exprs[def.result].ty;
            self.need(*ret == Ty::Scalar(def.ret), || format!("function `{}` returns {}, not {}", def.name, ret.show(), def.ret));
            work.extend(calls(&def.exprs));
        }
    }
}

/// Whether each operand's table is a bijection of lanes and registers onto elements.
fn atom_is_sound(a: &Atom) -> Result<(), String> {
    for o in [Operand::A, Operand::B, Operand::C] {
        let [rows, cols] = a.extents(o);
        let name = format!("operand {} of atom `{}`", o.name(), a.name);
        match a.operand(o) {
            Place2::PerLane { lane, .. } => {
                let lanes: u32 = lane.iter().map(|d| u32::from(d.extent)).product();
                let regs = a.regs(o).unwrap_or(0);
                if lanes != u32::from(a.lanes) || u64::from(lanes) * u64::from(regs) != u64::from(rows) * u64::from(cols) {
                    return Err(format!("{name} has {lanes} lanes and {regs} registers for {rows} x {cols} elements"));
                }
                let mut seen = vec![false; (rows * cols) as usize];
                for l in 0..lanes {
                    for r in 0..regs {
                        let [i, j] = a.coord(o, l, r);
                        let slot = if i < rows && j < cols { seen.get_mut((i * cols + j) as usize) } else { None };
                        match slot {
                            Some(s) if !*s => *s = true,
                            _ => return Err(format!("{name} is no bijection: lane {l} register {r} holds ({i}, {j})")),
                        }
                    }
                }
            }
            Place2::TileReg { rows: r, row_bytes, pack } => {
                let bytes = u64::from(rows) * u64::from(cols) * u64::from(a.dtype(o).bits()) / 8;
                let pack = u32::from(*pack);
                if u64::from(*r) * u64::from(*row_bytes) != bytes || pack == 0 || rows % pack != 0 {
                    return Err(format!("{name} has {r} rows of {row_bytes} bytes for {bytes} bytes"));
                }
            }
            Place2::Desc { .. } if o == Operand::C => return Err(format!("{name} is a descriptor")),
            Place2::Desc { .. } | Place2::Tile => {}
        }
    }
    Ok(())
}

/// Ids that a statement mentions itself, without its blocks.
#[derive(Default)]
pub(super) struct Refs {
    pub exprs: Vec<super::ExprId>,
    pub vars: Vec<super::VarId>,
    pub bufs: Vec<super::BufId>,
    pub queues: Vec<super::QueueId>,
    pub bars: Vec<super::BarId>,
    pub atoms: Vec<super::AtomId>,
}

impl Refs {
    fn access(&mut self, a: &super::Access) {
        self.bufs.push(a.buf);
        self.exprs.extend(&a.idx);
    }
    fn place(&mut self, p: &super::Place) {
        self.vars.push(p.var);
        self.exprs.extend(&p.idx);
    }
    fn bar(&mut self, b: &super::BarRef) {
        self.bars.push(b.bar);
        self.exprs.extend(&b.idx);
    }
    fn cond(&mut self, c: &super::Cond) {
        match c {
            super::Cond::Always => {}
            super::Cond::When(e) | super::Cond::Mask(e) => self.exprs.push(*e),
            super::Cond::Valid(v) => self.exprs.extend(v),
        }
    }
    fn rhs(&mut self, r: &super::Rhs) {
        use super::Rhs::*;
        match r {
            Expr(e) | Fill(e) | Vote(_, e) => self.exprs.push(*e),
            Load { from, cond, other } | Gather { from, cond, other } => {
                self.access(from);
                self.cond(cond);
                self.exprs.extend(other);
            }
            FragLoad { from, .. } => self.access(from),
            Mma { atom, a, b, c } => {
                self.atoms.push(*atom);
                [a, b, c].into_iter().for_each(|p| self.place(p));
            }
            Shuffle { v, by, .. } => self.exprs.extend([v, by]),
            Atomic { at, v, cond, .. } => {
                self.access(at);
                self.exprs.push(*v);
                self.cond(cond);
            }
            Guard { v, lo, hi, at, .. } => self.exprs.extend([v, lo, hi, at]),
            Map { vars, body, .. } | Scan { vars, body, .. } => {
                self.vars.extend(vars);
                self.exprs.push(*body);
            }
            Reduce { vars, body, .. } => {
                self.vars.extend(vars);
                self.exprs.push(*body);
            }
            Move(p) | Transpose(p) => self.place(p),
        }
    }
}

/// Everything a statement mentions itself.
pub(super) fn refs(s: &Stmt) -> Refs {
    let mut r = Refs::default();
    match s {
        Stmt::Def { var, init } => {
            r.vars.push(*var);
            if let Some(i) = init {
                r.rhs(i);
            }
        }
        Stmt::Set { place, val } => {
            r.place(place);
            r.rhs(val);
        }
        Stmt::Store { to, val, cond } | Stmt::Scatter { to, val, cond } => {
            r.access(to);
            r.exprs.push(*val);
            r.cond(cond);
        }
        Stmt::FragStore { to, val, .. } => {
            r.access(to);
            r.place(val);
        }
        Stmt::Alloc(b) => r.bufs.push(*b),
        Stmt::For { var, lo, hi, step, .. } => {
            r.vars.push(*var);
            r.exprs.extend([lo, hi, step]);
        }
        Stmt::If { cond, .. } => r.exprs.push(*cond),
        Stmt::Role { .. } | Stmt::Barrier(_) | Stmt::Fence(_) | Stmt::MmaFence | Stmt::MmaCommit | Stmt::MmaWait(_) => {}
        Stmt::Each { frag, val, coords, .. } => {
            r.place(frag);
            r.vars.push(*val);
            r.vars.extend(coords);
        }
        Stmt::CopyAsync { q, dst, src, cond, other } => {
            r.queues.push(*q);
            r.access(dst);
            r.access(src);
            r.cond(cond);
            r.exprs.extend(other);
        }
        Stmt::Commit(q) | Stmt::Wait(q, _) => r.queues.push(*q),
        Stmt::CopyBulk { dst, src, bar } => {
            r.access(dst);
            r.access(src);
            r.bar(bar);
        }
        Stmt::BarInit(b, e) | Stmt::BarExpect(b, e) | Stmt::BarWait(b, e) => {
            r.bar(b);
            r.exprs.push(*e);
        }
        Stmt::BarArrive(b) => r.bar(b),
        Stmt::MmaAsync { atom, acc, a, b } => {
            r.atoms.push(*atom);
            r.place(acc);
            r.access(a);
            r.access(b);
        }
        Stmt::Prefetch(a) => r.access(a),
        Stmt::Assume(e) => r.exprs.push(*e),
    }
    r
}

/// Position of a home in [`Limits::home_bytes`].
fn home_slot(h: Home) -> usize {
    h as usize
}
