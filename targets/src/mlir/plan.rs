// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host plan as `pw_plan_main`: blocks and branches, because a plan ends at the first failure.
//!
//! Integers are exact: an operation that could leave 64 bits by the ranges of its symbols is checked, and a failed check ends
//! the run with `PW_CODE_OVERFLOW`. Addresses of arenas and outputs lie in stack slots that LLVM turns into registers.

use std::collections::{BTreeSet, HashMap};

use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::graph::types::Dims;
use portwright_ir::kernel::Module;
use portwright_ir::plan::{BufferId, Fault as DataFault, HostCall, HostPlan, Launch, OriginId, Pred, Stmt, Storage, interp as plan_interp};
use portwright_ir::sym::{Atom, SymExpr, View};

use super::code::Code;
use super::kernel::{Fault, division, symbol};
use crate::compile::onnx_dtype;

/// Nanoseconds below which waking threads costs more than it gives.
const TINY_NS: i64 = 20_000;
/// Nanoseconds above which slices are handed out one by one.
const LARGE_NS: i64 = 500_000;

/// Number of a fault in `enum pw_code` of the runtime's pw_plan.h.
pub fn fault_code(f: DataFault) -> i32 {
    match f {
        DataFault::Index => 1,
        DataFault::Shape => 2,
        DataFault::Capacity => 3,
        DataFault::NegativeSize => 4,
        DataFault::LoopLimit => 5,
        DataFault::Reshape => 6,
        DataFault::Overflow => 7,
        DataFault::Range => 9,
    }
}

/// Number of what a check found: of a range, which of its ends.
pub(crate) fn check_code(pred: &Pred, fault: DataFault) -> i32 {
    match (fault, pred) {
        (DataFault::Range, Pred::Le(low, _)) if low.as_const().is_some() => 18,
        (DataFault::Range, Pred::Le(..)) => 17,
        _ => fault_code(fault),
    }
}

struct Emit<'a> {
    module: &'a Module,
    plan: &'a HostPlan,
    c: Code,
    blocks: u32,
    /// Values of symbols and expressions that dominate this place.
    env: HashMap<SymExpr, String>,
    ptrs: HashMap<Storage, String>,
    arenas: Vec<String>,
    outputs: Vec<String>,
    /// Node that an overflow here is reported for.
    origin: i32,
    /// What a host operation is told, and what it finds.
    words: [String; 2],
    /// Whether addresses are those of a device, on which the kernels run.
    device: bool,
}

/// Words of a host operation before its operands: its number, its node, how many operands, results and params there are.
const HOST_HEAD: usize = 5;

/// Emits the plan, its declarations and the description of the model.
///
/// # Errors
/// A reference to something that the plan does not have.
pub(super) fn emit(module: &Module, (plan, device): (&HostPlan, bool), blob: &[u8], loc: &str, out: &mut String) -> Result<(), Fault> {
    let mut e = Emit {
        module,
        plan,
        c: Code::new(loc),
        blocks: 0,
        env: HashMap::new(),
        ptrs: HashMap::new(),
        arenas: Vec::new(),
        outputs: Vec::new(),
        origin: -1,
        words: [String::new(), String::new()],
        device,
    };
    e.function()?;
    e.c.finish("llvm.func hidden @pw_plan_main(%ctx: !llvm.ptr) -> i32 attributes {no_unwind}", out);
    declarations(module, (plan, device), out);
    let bytes: String = blob.iter().map(|b| format!("\\{b:02X}")).collect();
    let n = blob.len();
    out.push_str(&format!(
        "llvm.mlir.global external hidden constant @pw_model_blob(\"{bytes}\") {{addr_space = 0 : i32, alignment = 8 : i64}} : !llvm.array<{n} x i8>\n\
         llvm.mlir.global external hidden constant @pw_model_blob_size({n} : i64) {{addr_space = 0 : i32, alignment = 8 : i64}} : i64\n"
    ));
    Ok(())
}

fn declarations(module: &Module, (plan, device): (&HostPlan, bool), out: &mut String) {
    for (name, args, ret) in [
        ("pw_rt_dim", "!llvm.ptr, i32, i32", "i64"),
        ("pw_rt_input", "!llvm.ptr, i32", "!llvm.ptr"),
        ("pw_rt_weight", "!llvm.ptr, i64", "!llvm.ptr"),
        ("pw_rt_arena", "!llvm.ptr, i32, i64", "!llvm.ptr"),
        ("pw_rt_room", "!llvm.ptr, i32, i64", "i64"),
        ("pw_rt_front", "!llvm.ptr, i32, i64", "i64"),
        ("pw_rt_output", "!llvm.ptr, i32, !llvm.ptr, i32", "!llvm.ptr"),
        ("pw_rt_launch", "!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, i64, i32, i32", "i32"),
        ("pw_rt_host", "!llvm.ptr, !llvm.ptr, !llvm.ptr, i32", "i32"),
        ("pw_rt_image", "!llvm.ptr, !llvm.ptr, !llvm.ptr, i32", "i32"),
        ("pw_rt_held", "!llvm.ptr, i32, !llvm.ptr, i64", "i32"),
        ("pw_rt_fail", "!llvm.ptr, i32, i32, i64, i64", "i32"),
        ("pw_rt_status", "!llvm.ptr", "i32"),
        ("pw_rt_loop", "!llvm.ptr, i32, i64, i64", "i32"),
    ] {
        out.push_str(&format!("llvm.func hidden @{name}({args}) -> {ret}\n"));
    }
    if device {
        for (name, args, ret) in [
            ("pw_rt_device_launch", "!llvm.ptr, i32, !llvm.ptr, !llvm.ptr, !llvm.ptr, i32", " -> i32"),
            ("pw_rt_device_get", "!llvm.ptr, !llvm.ptr, i32", " -> i64"),
            ("pw_rt_device_put", "!llvm.ptr, !llvm.ptr, i64, i32", ""),
            ("pw_rt_device_copy", "!llvm.ptr, !llvm.ptr, !llvm.ptr, i64", ""),
        ] {
            out.push_str(&format!("llvm.func hidden @{name}({args}){ret}\n"));
        }
        return;
    }
    let mut used = BTreeSet::new();
    launches(&plan.body, &mut |l| {
        used.insert(l.kernel);
    });
    for k in used {
        if let Some(k) = module.kernels.values().nth(k.index()) {
            out.push_str(&format!(
                "llvm.func hidden @{}(!llvm.ptr, !llvm.ptr, !llvm.ptr, i64, i64, !llvm.ptr, !llvm.ptr)\n",
                symbol(&k.name)
            ));
        }
    }
}

/// Visits every launch of a block, in text order.
pub(super) fn launches<'p>(body: &'p [Stmt], f: &mut impl FnMut(&'p Launch)) {
    for s in body {
        match s {
            Stmt::Launch(l) => f(l),
            Stmt::Choose { cases } => cases.iter().for_each(|(_, l)| f(l)),
            Stmt::If { then, els, .. } => {
                launches(then, f);
                launches(els, f);
            }
            Stmt::Loop { body, .. } => launches(body, f),
            _ => {}
        }
    }
}

fn outputs_and_epochs(body: &[Stmt], f: &mut impl FnMut(&Stmt)) {
    for s in body {
        f(s);
        match s {
            Stmt::If { then, els, .. } => {
                outputs_and_epochs(then, f);
                outputs_and_epochs(els, f);
            }
            Stmt::Loop { body, .. } => outputs_and_epochs(body, f),
            _ => {}
        }
    }
}

type Saved = (HashMap<SymExpr, String>, HashMap<Storage, String>);

impl Emit<'_> {
    fn block(&mut self) -> String {
        self.blocks += 1;
        format!("^b{}", self.blocks)
    }
    fn save(&self) -> Saved {
        (self.env.clone(), self.ptrs.clone())
    }
    fn restore(&mut self, s: Saved) {
        (self.env, self.ptrs) = s;
    }
    /// Goes on where the condition holds, and to `away` where it does not.
    fn unless(&mut self, ok: &str, away: &str) {
        let next = self.block();
        self.c.op(format_args!("llvm.cond_br {ok}, {next}, {away}"));
        self.c.label(next);
    }
    fn slot(&mut self, ty: &str, n: usize) -> String {
        let n = self.c.i64(n.max(1) as i64);
        self.c.at_top(|c| c.def(format_args!("llvm.alloca {n} x {ty} {{alignment = 8 : i64}} : (i64) -> !llvm.ptr")))
    }

    fn function(&mut self) -> Result<(), Fault> {
        let (mut epochs, mut rank) = (0, 1);
        outputs_and_epochs(&self.plan.body, &mut |s| match s {
            Stmt::Epoch { epoch, .. } => epochs = epochs.max(*epoch as usize + 1),
            Stmt::Output { dims, .. } => rank = rank.max(dims.len()),
            _ => {}
        });
        let (mut bufs, mut scalars) = (1, 1);
        launches(&self.plan.body, &mut |l| {
            bufs = bufs.max(l.buffers.len());
            scalars = scalars.max(l.scalars.len());
        });
        self.arenas = (0..epochs).map(|_| self.slot("!llvm.ptr", 1)).collect();
        self.outputs = (0..self.plan.outputs.len()).map(|_| self.slot("!llvm.ptr", 1)).collect();
        let (mut words, mut found) = (0, 0);
        outputs_and_epochs(&self.plan.body, &mut |s| {
            if let Stmt::Host(h) = s {
                let dims: usize = h.operands.iter().filter_map(|b| self.plan.buffers.get(*b)).map(|b| 3 + b.dims.len()).sum();
                words = words.max(HOST_HEAD + dims + h.gives.len() + h.params.len());
                found = found.max(h.symbols.len());
            }
        });
        if words > 0 {
            self.words = [self.slot("i64", words), self.slot("i64", found)];
        }
        let slots = [self.slot("!llvm.ptr", bufs), self.slot("i64", scalars), self.slot("i64", 3), self.slot("i64", rank)];
        let body = &self.plan.body;
        self.stmts(body, &slots)?;
        let zero = self.c.i32(0);
        self.c.op(format_args!("llvm.return {zero} : i32"));
        self.c.label("^failed");
        let status = self.c.def("llvm.call @pw_rt_status(%ctx) : (!llvm.ptr) -> i32");
        self.c.op(format_args!("llvm.return {status} : i32"));
        Ok(())
    }

    /// Records an error and leaves.
    fn fail(&mut self, code: i32, origin: i32, a: &str, b: &str) {
        let (code, origin) = (self.c.i32(code), self.c.i32(origin));
        let s =
            self.c.def(format_args!("llvm.call @pw_rt_fail(%ctx, {code}, {origin}, {a}, {b}) : (!llvm.ptr, i32, i32, i64, i64) -> i32"));
        self.c.op(format_args!("llvm.return {s} : i32"));
    }
    fn checked(&mut self, op: &str, a: &str, b: &str) -> String {
        let pair = self.c.def(format_args!("\"llvm.intr.{op}.with.overflow\"({a}, {b}) : (i64, i64) -> !llvm.struct<(i64, i1)>"));
        let v = self.c.def(format_args!("llvm.extractvalue {pair}[0] : !llvm.struct<(i64, i1)>"));
        let over = self.c.def(format_args!("llvm.extractvalue {pair}[1] : !llvm.struct<(i64, i1)>"));
        let (bad, next) = (self.block(), self.block());
        self.c.op(format_args!("llvm.cond_br {over}, {bad}, {next}"));
        self.c.label(&bad);
        self.fail(fault_code(DataFault::Overflow), self.origin, a, b);
        self.c.label(&next);
        v
    }

    /// Value of an expression, an i64.
    fn value(&mut self, e: &SymExpr) -> Result<String, Fault> {
        if let Some(v) = self.env.get(e) {
            return Ok(v.clone());
        }
        let free = self.plan.magnitude(e).is_some();
        let v = match e.view() {
            View::Const(v) => return Ok(self.c.i64(v)),
            View::Overflow => {
                let zero = self.c.i64(0);
                self.fail(fault_code(DataFault::Overflow), self.origin, &zero, &zero);
                let dead = self.block();
                self.c.label(&dead);
                zero
            }
            View::Sum(terms, constant) => {
                let mut sum = (constant != 0).then(|| self.c.i64(constant));
                for (c, atoms) in terms {
                    let mut t = (c != 1).then(|| self.c.i64(c));
                    for a in &atoms {
                        let v = self.atom(a)?;
                        t = Some(match t {
                            Some(t) => self.combine(free, "mul", &t, &v),
                            None => v,
                        });
                    }
                    let t = t.unwrap_or_else(|| self.c.i64(1));
                    sum = Some(match sum {
                        Some(s) => self.combine(free, "add", &s, &t),
                        None => t,
                    });
                }
                sum.unwrap_or_else(|| self.c.i64(0))
            }
        };
        self.env.insert(e.clone(), v.clone());
        Ok(v)
    }
    fn combine(&mut self, free: bool, op: &str, a: &str, b: &str) -> String {
        if free { self.c.def(format_args!("arith.{op}i {a}, {b} overflow<nsw> : i64")) } else { self.checked(&format!("s{op}"), a, b) }
    }
    fn atom(&mut self, a: &Atom) -> Result<String, Fault> {
        let (op, x, y) = match a {
            Atom::Sym(s) => {
                return self.env.get(&SymExpr::sym(s.clone())).cloned().ok_or_else(|| format!("`{s}` is used before it is bound"));
            }
            Atom::Div(x, y) => ("floordivsi", x, y),
            Atom::Ceil(x, y) => ("ceildivsi", x, y),
            Atom::Mod(x, y) => ("mod", x, y),
            Atom::Min(x, y) => ("minsi", x, y),
            Atom::Max(x, y) => ("maxsi", x, y),
        };
        let bounds = |e: &SymExpr| e.bounds(&|n| self.plan.range(n));
        let (natural, positive) = (bounds(x).0 >= 0, bounds(y).0 > 0);
        let (vx, vy) = (self.value(x)?, self.value(y)?);
        if !positive && !matches!(op, "minsi" | "maxsi") {
            let zero = self.c.i64(0);
            let ok = self.c.def(format_args!("arith.cmpi sgt, {vy}, {zero} : i64"));
            let (bad, next) = (self.block(), self.block());
            self.c.op(format_args!("llvm.cond_br {ok}, {next}, {bad}"));
            self.c.label(&bad);
            self.fail(fault_code(DataFault::Overflow), self.origin, &vx, &vy);
            self.c.label(&next);
        }
        Ok(division(&mut self.c, op, natural, true, &vx, &vy))
    }

    /// Address of a buffer.
    fn address(&mut self, b: BufferId) -> Result<String, Fault> {
        let storage = &self.plan.buffers.get(b).ok_or("a buffer that does not exist")?.storage;
        if let Some(v) = self.ptrs.get(storage) {
            return Ok(v.clone());
        }
        let v = match storage {
            Storage::Input(i) => {
                let i = self.c.i32(*i as i32);
                let p = self.c.def(format_args!("llvm.call @pw_rt_input(%ctx, {i}) : (!llvm.ptr, i32) -> !llvm.ptr"));
                let null = self.c.shared("llvm.mlir.zero : !llvm.ptr");
                let ok = self.c.def(format_args!("llvm.icmp \"ne\" {p}, {null} : !llvm.ptr"));
                self.unless(&ok, "^failed");
                p
            }
            Storage::Output(o) => {
                let slot = self.outputs.get(*o as usize).cloned().ok_or("an output that does not exist")?;
                // The address may change when the output is declared again, so it is read where it is used.
                return Ok(self.c.def(format_args!("llvm.load {slot} : !llvm.ptr -> !llvm.ptr")));
            }
            Storage::Weight { weight } => {
                let at = self.plan.weights.get(*weight as usize).ok_or("a weight that does not exist")?.offset;
                let at = self.c.i64(at as i64);
                self.c.def(format_args!("llvm.call @pw_rt_weight(%ctx, {at}) : (!llvm.ptr, i64) -> !llvm.ptr"))
            }
            Storage::Arena { epoch, offset } => {
                let slot = self.arenas.get(*epoch as usize).cloned().ok_or("an arena that is never sized")?;
                let at = self.value(offset)?;
                let base = self.c.def(format_args!("llvm.load {slot} : !llvm.ptr -> !llvm.ptr"));
                self.c.def(format_args!("llvm.getelementptr {base}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, i8"))
            }
        };
        if matches!(storage, Storage::Input(_) | Storage::Weight { .. }) {
            self.ptrs.insert(storage.clone(), v.clone());
        }
        Ok(v)
    }
    fn element(&mut self, b: BufferId, index: &str) -> Result<(String, &'static str), Fault> {
        let d = self.plan.buffers.get(b).ok_or("a buffer that does not exist")?.dtype;
        let t = match d {
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::Bool => "i8",
            _ => return Err(format!("the plan reads and writes no {d}")),
        };
        let p = self.address(b)?;
        Ok((self.c.def(format_args!("llvm.getelementptr {p}[{index}] : (!llvm.ptr, i64) -> !llvm.ptr, {t}")), t))
    }
    /// The element at an address.
    fn fetch(&mut self, p: &str, t: &str) -> String {
        if !self.device {
            return self.c.def(format_args!("llvm.load {p} : !llvm.ptr -> {t}"));
        }
        let n = self.c.i32(element_bytes(t));
        let v = self.c.def(format_args!("llvm.call @pw_rt_device_get(%ctx, {p}, {n}) : (!llvm.ptr, !llvm.ptr, i32) -> i64"));
        // What could not be fetched is not computed with.
        let status = self.c.def("llvm.call @pw_rt_status(%ctx) : (!llvm.ptr) -> i32");
        let zero = self.c.i32(0);
        let ok = self.c.def(format_args!("arith.cmpi eq, {status}, {zero} : i32"));
        self.unless(&ok, "^failed");
        if t == "i64" { v } else { self.c.def(format_args!("arith.trunci {v} : i64 to {t}")) }
    }
    fn store(&mut self, array: &str, i: usize, v: &str, ty: &str) {
        let p = if i == 0 {
            array.to_string()
        } else {
            self.c.def(format_args!("llvm.getelementptr {array}[{i}] : (!llvm.ptr) -> !llvm.ptr, {ty}"))
        };
        self.c.op(format_args!("llvm.store {v}, {p} : {ty}, !llvm.ptr"));
    }

    fn pred(&mut self, p: &Pred) -> Result<(String, String, String), Fault> {
        let (op, a, b) = match p {
            Pred::Eq(a, b) => ("eq", self.value(a)?, self.value(b)?),
            Pred::Le(a, b) => ("sle", self.value(a)?, self.value(b)?),
            Pred::Divides(unit, a) => {
                let (v, u) = (self.value(a)?, self.c.i64((*unit).max(1)));
                let r = self.c.def(format_args!("arith.remsi {v}, {u} : i64"));
                let zero = self.c.i64(0);
                return Ok((self.c.def(format_args!("arith.cmpi eq, {r}, {zero} : i64")), v, u));
            }
        };
        Ok((self.c.def(format_args!("arith.cmpi {op}, {a}, {b} : i64")), a, b))
    }

    fn stmts(&mut self, body: &[Stmt], slots: &[String; 4]) -> Result<(), Fault> {
        body.iter().try_for_each(|s| self.stmt(s, slots))
    }
    fn bind(&mut self, s: &str, v: String) {
        self.env.insert(SymExpr::sym(s), v);
    }

    fn stmt(&mut self, s: &Stmt, slots: &[String; 4]) -> Result<(), Fault> {
        match s {
            Stmt::Bind { symbol, input, axis } => {
                let (i, a) = (self.c.i32(*input as i32), self.c.i32(*axis as i32));
                let v = self.c.def(format_args!("llvm.call @pw_rt_dim(%ctx, {i}, {a}) : (!llvm.ptr, i32, i32) -> i64"));
                self.bind(symbol, v);
            }
            Stmt::Let { symbol, expr } => {
                let v = self.value(expr)?;
                self.bind(symbol, v);
            }
            Stmt::Read { symbol, buffer, index } => {
                let i = self.value(index)?;
                let (p, t) = self.element(*buffer, &i)?;
                let v = self.fetch(&p, t);
                let v = if t == "i64" {
                    v
                } else {
                    self.c.def(format_args!("arith.{} {v} : {t} to i64", if t == "i8" { "extui" } else { "extsi" }))
                };
                self.bind(symbol, v);
            }
            Stmt::Room { output, past, needed, room, front } => {
                let (o, past, needed) = (self.c.i32(*output as i32), self.value(past)?, self.value(needed)?);
                let v = self.c.def(format_args!("llvm.call @pw_rt_room(%ctx, {o}, {needed}) : (!llvm.ptr, i32, i64) -> i64"));
                self.bind(room, v);
                let v = self.c.def(format_args!("llvm.call @pw_rt_front(%ctx, {o}, {past}) : (!llvm.ptr, i32, i64) -> i64"));
                self.bind(front, v);
            }
            Stmt::Check { pred, fault, origin } => {
                self.origin = origin_number(*origin);
                let (ok, a, b) = self.pred(pred)?;
                let (bad, next) = (self.block(), self.block());
                self.c.op(format_args!("llvm.cond_br {ok}, {next}, {bad}"));
                self.c.label(&bad);
                self.fail(check_code(pred, *fault), origin_number(*origin), &a, &b);
                self.c.label(&next);
            }
            Stmt::Epoch { epoch, bytes } => {
                let (n, bytes) = (self.c.i32(*epoch as i32), self.value(bytes)?);
                let p = self.c.def(format_args!("llvm.call @pw_rt_arena(%ctx, {n}, {bytes}) : (!llvm.ptr, i32, i64) -> !llvm.ptr"));
                self.pointer(&p, self.arenas.get(*epoch as usize).cloned())?;
            }
            Stmt::Output { output, dims } => {
                self.dims(dims, &slots[3])?;
                let (o, rank) = (self.c.i32(*output as i32), self.c.i32(dims.len() as i32));
                let d = &slots[3];
                let p = self
                    .c
                    .def(format_args!("llvm.call @pw_rt_output(%ctx, {o}, {d}, {rank}) : (!llvm.ptr, i32, !llvm.ptr, i32) -> !llvm.ptr"));
                self.pointer(&p, self.outputs.get(*output as usize).cloned())?;
            }
            Stmt::Launch(l) => self.launch(l, slots)?,
            Stmt::Choose { cases } => self.choose(cases, slots)?,
            Stmt::WriteDims { buffer, values } => {
                for (i, v) in values.iter().enumerate() {
                    let (v, i) = (self.value(v)?, self.c.i64(i as i64));
                    let (p, t) = self.element(*buffer, &i)?;
                    if self.device {
                        let n = self.c.i32(element_bytes(t));
                        self.c
                            .op(format_args!("llvm.call @pw_rt_device_put(%ctx, {p}, {v}, {n}) : (!llvm.ptr, !llvm.ptr, i64, i32) -> ()"));
                        continue;
                    }
                    let v = if t == "i64" { v } else { self.c.def(format_args!("arith.trunci {v} : i64 to {t}")) };
                    self.c.op(format_args!("llvm.store {v}, {p} : {t}, !llvm.ptr"));
                }
            }
            Stmt::Host(h) => self.host(h)?,
            Stmt::Held { buffer, result } => {
                let bytes = self.plan.buffers.get(*buffer).ok_or("a buffer that does not exist")?.bytes();
                let (n, result, to) = (self.value(&bytes)?, self.c.i32(*result as i32), self.address(*buffer)?);
                let s =
                    self.c.def(format_args!("llvm.call @pw_rt_held(%ctx, {result}, {to}, {n}) : (!llvm.ptr, i32, !llvm.ptr, i64) -> i32"));
                self.succeeded(&s);
            }
            Stmt::Copy { to, from } => {
                let bytes = self.plan.buffers.get(*to).ok_or("a buffer that does not exist")?.bytes();
                let n = self.value(&bytes)?;
                let (to, from) = (self.address(*to)?, self.address(*from)?);
                if self.device {
                    self.c.op(format_args!(
                        "llvm.call @pw_rt_device_copy(%ctx, {to}, {from}, {n}) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, i64) -> ()"
                    ));
                    return Ok(());
                }
                let same = self.c.def(format_args!("llvm.icmp \"ne\" {to}, {from} : !llvm.ptr"));
                let (copy, next) = (self.block(), self.block());
                self.c.op(format_args!("llvm.cond_br {same}, {copy}, {next}"));
                self.c.label(&copy);
                self.c.op(format_args!(
                    "\"llvm.intr.memcpy\"({to}, {from}, {n}) <{{isVolatile = false}}> : (!llvm.ptr, !llvm.ptr, i64) -> ()"
                ));
                self.c.op(format_args!("llvm.br {next}"));
                self.c.label(&next);
            }
            Stmt::If { pred, then, els } => {
                let (ok, ..) = self.pred(pred)?;
                let (yes, no, next) = (self.block(), self.block(), self.block());
                self.c.op(format_args!("llvm.cond_br {ok}, {yes}, {no}"));
                for (label, block) in [(yes, then), (no, els)] {
                    self.c.label(label);
                    let saved = self.save();
                    self.stmts(block, slots)?;
                    self.restore(saved);
                    self.c.op(format_args!("llvm.br {next}"));
                }
                self.c.label(next);
            }
            Stmt::Loop { counter, trips, trip, cond, body, origin } => {
                self.origin = origin_number(*origin);
                let trip = self.value(trip)?;
                let (head, test, run, next) = (self.block(), self.block(), self.block(), self.block());
                let zero = self.c.i64(0);
                let i = self.c.named(counter);
                self.c.op(format_args!("llvm.br {head}({zero} : i64)"));
                self.c.label(format_args!("{head}({i}: i64)"));
                let more = self.c.def(format_args!("arith.cmpi slt, {i}, {trip} : i64"));
                self.c.op(format_args!("llvm.cond_br {more}, {test}, {next}"));
                self.c.label(&test);
                let saved = self.save();
                if let Some(c) = cond {
                    let (p, t) = self.element(*c, &zero)?;
                    let v = self.fetch(&p, t);
                    let none = self.c.constant(t, "0");
                    let on = self.c.def(format_args!("arith.cmpi ne, {v}, {none} : {t}"));
                    let go = self.block();
                    self.c.op(format_args!("llvm.cond_br {on}, {go}, {next}"));
                    self.c.label(&go);
                }
                // The limit of the interpreter: a loop that does not end is an error, not a hang.
                let most = i64::try_from(plan_interp::Options::default().loop_limit).unwrap_or(i64::MAX);
                let (o, limit) = (self.c.i32(origin_number(*origin)), self.c.i64(most));
                let stop = self.c.def(format_args!("llvm.call @pw_rt_loop(%ctx, {o}, {i}, {limit}) : (!llvm.ptr, i32, i64, i64) -> i32"));
                let nothing = self.c.i32(0);
                let ok = self.c.def(format_args!("arith.cmpi eq, {stop}, {nothing} : i32"));
                self.c.op(format_args!("llvm.cond_br {ok}, {run}, ^failed"));
                self.c.label(&run);
                self.bind(counter, i.clone());
                self.stmts(body, slots)?;
                let one = self.c.i64(1);
                let up = self.c.def(format_args!("arith.addi {i}, {one} : i64"));
                self.c.op(format_args!("llvm.br {head}({up} : i64)"));
                self.restore(saved);
                self.c.label(&next);
                self.bind(trips, i);
            }
        }
        Ok(())
    }
    /// Keeps a pointer that must not be null.
    fn pointer(&mut self, p: &str, slot: Option<String>) -> Result<(), Fault> {
        let slot = slot.ok_or("an output that does not exist")?;
        let null = self.c.shared("llvm.mlir.zero : !llvm.ptr");
        let ok = self.c.def(format_args!("llvm.icmp \"ne\" {p}, {null} : !llvm.ptr"));
        self.unless(&ok, "^failed");
        self.c.op(format_args!("llvm.store {p}, {slot} : !llvm.ptr, !llvm.ptr"));
        Ok(())
    }
    fn dims(&mut self, dims: &Dims, array: &str) -> Result<(), Fault> {
        for (i, d) in dims.iter().enumerate() {
            let v = self.value(d)?;
            self.store(array, i, &v, "i64");
        }
        Ok(())
    }

    /// Goes on where a status says that all is well.
    fn succeeded(&mut self, status: &str) {
        let zero = self.c.i32(0);
        let ok = self.c.def(format_args!("arith.cmpi eq, {status}, {zero} : i32"));
        self.unless(&ok, "^failed");
    }

    /// Calls a host operation as `pw_plan.h` says, and binds what it finds.
    fn host(&mut self, h: &HostCall) -> Result<(), Fault> {
        self.origin = origin_number(h.origin);
        let [words, found] = self.words.clone();
        let counts = [h.operands.len(), h.gives.len(), h.params.len()];
        let head = [h.op as i64, i64::from(self.origin)].into_iter().chain(counts.map(|n| n as i64));
        let mut at = 0;
        let mut put = |e: &mut Self, v: String| {
            e.store(&words, at, &v, "i64");
            at += 1;
        };
        for n in head {
            let v = self.c.i64(n);
            put(self, v);
        }
        for (&b, &takes) in h.operands.iter().zip(&h.takes) {
            let p = self.address(b)?;
            let dims = self.plan.buffers.get(b).ok_or("a buffer that does not exist")?.dims.clone();
            let address = self.c.def(format_args!("llvm.ptrtoint {p} : !llvm.ptr to i64"));
            put(self, address);
            for n in [i64::from(onnx_dtype(takes)), dims.len() as i64] {
                let v = self.c.i64(n);
                put(self, v);
            }
            for d in &dims {
                let v = self.value(d)?;
                put(self, v);
            }
        }
        for n in h.gives.iter().map(|d| i64::from(onnx_dtype(*d))).chain(h.params.iter().copied()) {
            let v = self.c.i64(n);
            put(self, v);
        }
        let n = self.c.i32(h.symbols.len() as i32);
        let entry = crate::link::host_entry(h.op);
        let s = self.c.def(format_args!("llvm.call @{entry}(%ctx, {words}, {found}, {n}) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, i32) -> i32"));
        self.succeeded(&s);
        for (i, symbol) in h.symbols.iter().enumerate() {
            let p = if i == 0 {
                found.clone()
            } else {
                self.c.def(format_args!("llvm.getelementptr {found}[{i}] : (!llvm.ptr) -> !llvm.ptr, i64"))
            };
            let v = self.c.def(format_args!("llvm.load {p} : !llvm.ptr -> i64"));
            self.bind(symbol, v);
        }
        Ok(())
    }

    fn launch(&mut self, l: &Launch, slots: &[String; 4]) -> Result<(), Fault> {
        self.origin = origin_number(l.origin);
        let kernel = self.module.kernels.values().nth(l.kernel.index()).ok_or("a kernel that does not exist")?;
        if kernel.abi_bufs().count() != l.buffers.len() || kernel.syms.len() + kernel.abi_scalars().count() != l.scalars.len() {
            return Err(format!("a launch of `{}` with other arguments than it takes", kernel.name));
        }
        let name = symbol(&kernel.name);
        for (i, b) in l.buffers.iter().enumerate() {
            let p = self.address(*b)?;
            self.store(&slots[0], i, &p, "!llvm.ptr");
        }
        for (i, s) in l.scalars.iter().enumerate() {
            let v = self.value(s)?;
            self.store(&slots[1], i, &v, "i64");
        }
        for (i, g) in l.grid.iter().enumerate() {
            let v = self.value(g)?;
            self.store(&slots[2], i, &v, "i64");
        }
        if self.device {
            let (number, o) = (self.c.i32(l.kernel.index() as i32), self.c.i32(origin_number(l.origin)));
            let status = self.c.def(format_args!(
                "llvm.call @pw_rt_device_launch(%ctx, {number}, {}, {}, {}, {o}) : (!llvm.ptr, i32, !llvm.ptr, !llvm.ptr, !llvm.ptr, i32) -> i32",
                slots[0], slots[1], slots[2]
            ));
            let zero = self.c.i32(0);
            let ok = self.c.def(format_args!("arith.cmpi eq, {status}, {zero} : i32"));
            self.unless(&ok, "^failed");
            return Ok(());
        }
        let scratch = self.value(&l.scratch_bytes)?;
        let cost = self.cost(l, kernel.launch.steps)?;
        let f = self.c.shared(&format!("llvm.mlir.addressof @{name} : !llvm.ptr"));
        let o = self.c.i32(origin_number(l.origin));
        let status = self.c.def(format_args!(
            "llvm.call @pw_rt_launch(%ctx, {f}, {}, {}, {}, {scratch}, {o}, {cost}) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, i64, i32, i32) -> i32",
            slots[0], slots[1], slots[2]
        ));
        let zero = self.c.i32(0);
        let ok = self.c.def(format_args!("arith.cmpi eq, {status}, {zero} : i32"));
        self.unless(&ok, "^failed");
        Ok(())
    }
    /// Class of a launch's cost from its number of groups: 0 tiny, 1 even, 2 large; 4 is added for a launch in steps.
    fn cost(&mut self, l: &Launch, steps: bool) -> Result<String, Fault> {
        let steps = if steps { 4 } else { 0 };
        let per = i64::from(l.group_cost_ns.max(1));
        let groups = &(&l.grid[0] * &l.grid[1]) * &l.grid[2];
        if let Some(n) = groups.as_const() {
            let ns = n.saturating_mul(per);
            return Ok(self.c.i32(steps + i32::from(ns >= TINY_NS) + i32::from(ns >= LARGE_NS)));
        }
        // A wrapped product chooses another class, never another result.
        let mut n = self.value(&l.grid[0])?;
        for g in &l.grid[1..] {
            if !g.is(1) {
                let g = self.value(g)?;
                n = self.c.def(format_args!("arith.muli {n}, {g} : i64"));
            }
        }
        let (tiny, large) = (self.c.i64(TINY_NS / per), self.c.i64(LARGE_NS / per));
        let a = self.c.def(format_args!("arith.cmpi sge, {n}, {tiny} : i64"));
        let b = self.c.def(format_args!("arith.cmpi sge, {n}, {large} : i64"));
        let a = self.c.def(format_args!("arith.extui {a} : i1 to i32"));
        let b = self.c.def(format_args!("arith.extui {b} : i1 to i32"));
        let class = self.c.def(format_args!("arith.addi {a}, {b} : i32"));
        if steps == 0 {
            return Ok(class);
        }
        let steps = self.c.i32(steps);
        Ok(self.c.def(format_args!("arith.addi {class}, {steps} : i32")))
    }
    fn choose(&mut self, cases: &[(Vec<Pred>, Launch)], slots: &[String; 4]) -> Result<(), Fault> {
        let done = self.block();
        for (preds, l) in cases {
            let other = self.block();
            let saved = self.save();
            for p in preds {
                let (ok, ..) = self.pred(p)?;
                self.unless(&ok, &other);
            }
            self.launch(l, slots)?;
            self.restore(saved);
            self.c.op(format_args!("llvm.br {done}"));
            self.c.label(&other);
            if preds.is_empty() {
                break;
            }
        }
        self.c.op(format_args!("llvm.br {done}"));
        self.c.label(&done);
        Ok(())
    }
}

fn element_bytes(t: &str) -> i32 {
    match t {
        "i64" => 8,
        "i32" => 4,
        _ => 1,
    }
}

fn origin_number(o: OriginId) -> i32 {
    i32::try_from(o.index()).unwrap_or(-1)
}
