// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host plan as C: `pw_plan_main` of a bundle whose kernels run on a device, and its two descriptions.
//!
//! Integers are exact: an operation that could leave 64 bits by the ranges of its symbols is checked, and a failed check ends
//! the run with `PW_CODE_OVERFLOW`.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::kernel::Module;
use portwright_ir::plan::{BufferId, Fault as DataFault, HostCall, HostPlan, Launch, OriginId, Pred, Stmt, Storage, interp as plan_interp};
use portwright_ir::sym::{Atom, SymExpr, View};

use super::kernel::{Fault, comment};
use super::names::Namer;
use crate::compile::onnx_dtype;
use crate::mlir::{check_code, fault_code};

/// Words of a host operation before its operands: its number, its node, how many operands, results and params there are.
const HOST_HEAD: usize = 5;

struct Emit<'a> {
    module: &'a Module,
    plan: &'a HostPlan,
    names: Namer,
    body: String,
    depth: usize,
    /// Values of symbols and expressions that are declared in blocks around this place.
    env: HashMap<SymExpr, String>,
    /// Node that an overflow here is reported for.
    origin: i32,
    /// Numbers of labels.
    labels: u32,
}

/// Emits `src/plan.c`: the plan, the description of the model and that of the device's code.
///
/// # Errors
/// A reference to something that the plan does not have.
pub(super) fn emit(module: &Module, plan: &HostPlan, blob: &[u8], device: &[u8]) -> Result<String, Fault> {
    let mut out = String::from(
        "/* The host plan: in which order and memory the kernels run. */\n\
         #include \"runtime/device.h\"\n#include \"runtime/portwright.h\"\n#include \"runtime/pw_plan.h\"\n\n",
    );
    let mut e = Emit { module, plan, names: Namer::default(), body: String::new(), depth: 1, env: HashMap::new(), origin: -1, labels: 0 };
    e.function()?;
    let helpers = [
        ("pw_floor_div", "x / y - (x % y < 0)"),
        ("pw_ceil_div", "x / y + (x % y > 0)"),
        ("pw_mod", "x % y < 0 ? x % y + y : x % y"),
        ("pw_min", "x < y ? x : y"),
        ("pw_max", "x > y ? x : y"),
    ];
    for (name, text) in helpers.iter().filter(|(name, _)| e.body.contains(&format!("{name}("))) {
        out.push_str(&format!("static inline int64_t {name}(int64_t x, int64_t y) {{ return {text}; }}\n"));
    }
    out.push_str("\nint32_t pw_plan_main(pw_ctx *ctx) {\n");
    out.push_str(&e.body);
    out.push_str("  return PW_OK;\nfailed:\n  return pw_rt_status(ctx);\n}\n\n");
    out.push_str("/* What the library says of itself: pw_blob.h. */\n");
    out.push_str(&array("pw_model_blob", blob));
    out.push_str(&format!("const uint64_t pw_model_blob_size = {};\n\n", blob.len()));
    out.push_str("/* Kernels, by the numbers that the plan has for them: device.h. */\n");
    out.push_str(&array("pw_device_blob", device));
    Ok(out)
}

/// Bytes as a constant array.
fn array(name: &str, bytes: &[u8]) -> String {
    let mut out = format!("const uint8_t {name}[] __attribute__((aligned(8))) = {{");
    for (i, b) in bytes.iter().enumerate() {
        out.push_str(if i % 32 == 0 { "\n  " } else { "" });
        out.push_str(&format!("{b},"));
    }
    out.push_str("\n};\n");
    out
}

fn number(o: OriginId) -> i32 {
    i32::try_from(o.index()).unwrap_or(-1)
}

fn walk(body: &[Stmt], f: &mut impl FnMut(&Stmt)) {
    for s in body {
        f(s);
        match s {
            Stmt::If { then, els, .. } => {
                walk(then, f);
                walk(els, f);
            }
            Stmt::Loop { body, .. } => walk(body, f),
            _ => {}
        }
    }
}

/// A constant of 64 bits.
fn constant(v: i64) -> String {
    if v == i64::MIN { "INT64_MIN".into() } else { format!("INT64_C({v})") }
}

/// Bytes of an element that a plan reads and writes, and whether they are extended by their sign.
fn element(d: DType) -> Result<(u32, bool), Fault> {
    match d {
        DType::I64 => Ok((8, false)),
        DType::I32 => Ok((4, true)),
        DType::Bool => Ok((1, false)),
        _ => Err(format!("the plan reads and writes no {d}")),
    }
}

impl Emit<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.body.push_str("  ");
        }
        self.body.push_str(text.as_ref());
        self.body.push('\n');
    }
    fn open(&mut self, text: impl AsRef<str>) {
        self.line(text);
        self.depth += 1;
    }
    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }
    /// Declares a value.
    fn def(&mut self, name: &str, value: impl AsRef<str>) -> String {
        let n = self.names.name(name);
        self.line(format!("const int64_t {n} = {};", value.as_ref()));
        n
    }

    fn function(&mut self) -> Result<(), Fault> {
        let (mut epochs, mut rank, mut bufs, mut scalars, mut words, mut found) = (0, 0, 0, 0, 0, 0);
        let plan = self.plan;
        let mut launch = |l: &Launch| {
            bufs = bufs.max(l.buffers.len());
            scalars = scalars.max(l.scalars.len());
        };
        walk(&plan.body, &mut |s| match s {
            Stmt::Epoch { epoch, .. } => epochs = epochs.max(*epoch as usize + 1),
            Stmt::Output { dims, .. } => rank = rank.max(dims.len()),
            Stmt::Launch(l) => launch(l),
            Stmt::Choose { cases } => cases.iter().for_each(|(_, l)| launch(l)),
            Stmt::Host(h) => {
                let dims: usize = h.operands.iter().filter_map(|b| plan.buffers.get(*b)).map(|b| 3 + b.dims.len()).sum();
                words = words.max(HOST_HEAD + dims + h.gives.len() + h.params.len());
                found = found.max(h.symbols.len());
            }
            _ => {}
        });
        let one = |n: usize| n.max(1);
        self.line(format!("uint8_t *arena[{}] = {{0}}, *output[{}] = {{0}};", one(epochs), one(plan.outputs.len())));
        self.line(format!("void *buffers[{}];", one(bufs)));
        self.line(format!("int64_t scalars[{}], grid[3], dims[{}];", one(scalars), one(rank)));
        self.line("(void)arena, (void)output, (void)buffers, (void)scalars, (void)grid, (void)dims;");
        if words > 0 {
            self.line(format!("int64_t words[{words}], found[{}];", one(found)));
        }
        for name in ["ctx", "arena", "output", "buffers", "scalars", "grid", "dims", "words", "found", "failed"] {
            self.names.name(name);
        }
        self.stmts(&plan.body)
    }
    /// Leaves with an error.
    fn fail(&self, code: i32, origin: i32, a: &str, b: &str) -> String {
        format!("return pw_rt_fail(ctx, {code}, {origin}, {a}, {b});")
    }
    fn combine(&mut self, free: bool, op: &str, a: &str, b: &str) -> String {
        if free {
            return format!("{a} {op} {b}");
        }
        let n = self.names.name("n");
        let fail = self.fail(fault_code(DataFault::Overflow), self.origin, a, b);
        let name = if op == "*" { "mul" } else { "add" };
        self.line(format!("int64_t {n};"));
        self.line(format!("if (__builtin_{name}_overflow((int64_t){a}, (int64_t){b}, &{n})) {fail}"));
        n
    }
    /// Value of an expression, a name or a constant.
    fn value(&mut self, e: &SymExpr) -> Result<String, Fault> {
        if let Some(v) = self.env.get(e) {
            return Ok(v.clone());
        }
        let free = self.plan.magnitude(e).is_some();
        let (terms, last) = match e.view() {
            View::Const(v) => return Ok(constant(v)),
            View::Overflow => {
                let fail = self.fail(fault_code(DataFault::Overflow), self.origin, "0", "0");
                self.line(fail);
                return Ok("0".into());
            }
            View::Sum(terms, last) => (terms, last),
        };
        let mut sum: Option<String> = (last != 0).then(|| constant(last));
        for (c, atoms) in terms {
            let mut t: Option<String> = (c != 1).then(|| constant(c));
            for a in &atoms {
                let v = self.atom(a)?;
                t = Some(match t {
                    Some(t) => self.combine(free, "*", &t, &v),
                    None => v,
                });
            }
            let t = t.unwrap_or_else(|| constant(1));
            sum = Some(match sum {
                Some(s) => self.combine(free, "+", &s, &t),
                None => t,
            });
        }
        let sum = sum.unwrap_or_else(|| constant(0));
        let named = sum.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let v = if named { sum } else { self.def("n", sum) };
        self.env.insert(e.clone(), v.clone());
        Ok(v)
    }
    fn atom(&mut self, a: &Atom) -> Result<String, Fault> {
        let (op, x, y) = match a {
            Atom::Sym(s) => {
                return self.env.get(&SymExpr::sym(s.clone())).cloned().ok_or_else(|| format!("`{s}` is used before it is bound"));
            }
            Atom::Div(x, y) => ("pw_floor_div", x, y),
            Atom::Ceil(x, y) => ("pw_ceil_div", x, y),
            Atom::Mod(x, y) => ("pw_mod", x, y),
            Atom::Min(x, y) => ("pw_min", x, y),
            Atom::Max(x, y) => ("pw_max", x, y),
        };
        let positive = y.bounds(&|n| self.plan.range(n)).0 > 0;
        let (vx, vy) = (self.value(x)?, self.value(y)?);
        if !positive && !matches!(a, Atom::Min(..) | Atom::Max(..)) {
            let fail = self.fail(fault_code(DataFault::Overflow), self.origin, &vx, &vy);
            self.line(format!("if ({vy} <= 0) {fail}"));
        }
        Ok(format!("{op}({vx}, {vy})"))
    }

    /// Address of a buffer, as an expression of type `void *` or `uint8_t *`.
    fn address(&mut self, b: BufferId) -> Result<String, Fault> {
        let storage = self.plan.buffers.get(b).ok_or("a buffer that does not exist")?.storage.clone();
        Ok(match storage {
            Storage::Input(i) => {
                let p = self.names.name("input");
                self.line(format!("void *const {p} = (void *)(uintptr_t)pw_rt_input(ctx, {i});"));
                self.line(format!("if (!{p}) goto failed;"));
                p
            }
            Storage::Output(o) => {
                if o as usize >= self.plan.outputs.len() {
                    return Err("an output that does not exist".into());
                }
                format!("output[{o}]")
            }
            Storage::Weight { weight } => {
                let at = self.plan.weights.get(weight as usize).ok_or("a weight that does not exist")?.offset;
                format!("(void *)(uintptr_t)pw_rt_weight(ctx, UINT64_C({at}))")
            }
            Storage::Arena { epoch, offset } => {
                let at = self.value(&offset)?;
                format!("(arena[{epoch}] + {at})")
            }
        })
    }
    fn element(&mut self, b: BufferId, index: &str) -> Result<(String, u32, bool), Fault> {
        let (bytes, signed) = element(self.plan.buffers.get(b).ok_or("a buffer that does not exist")?.dtype)?;
        let p = self.address(b)?;
        Ok((format!("(uint8_t *){p} + {index} * {bytes}"), bytes, signed))
    }
    /// The element at a place, extended to 64 bits; what could not be fetched is not computed with.
    fn fetch(&mut self, b: BufferId, index: &str, name: &str) -> Result<String, Fault> {
        let (p, bytes, signed) = self.element(b, index)?;
        let get = format!("pw_rt_device_get(ctx, {p}, {bytes})");
        let v = self.def(name, if signed { format!("(int32_t){get}") } else { get });
        self.line("if (pw_rt_status(ctx) != PW_OK) goto failed;");
        Ok(v)
    }
    fn pred(&mut self, p: &Pred) -> Result<(String, String, String), Fault> {
        Ok(match p {
            Pred::Eq(a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                (format!("{a} == {b}"), a, b)
            }
            Pred::Le(a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                (format!("{a} <= {b}"), a, b)
            }
            Pred::Divides(unit, a) => {
                let (v, u) = (self.value(a)?, constant((*unit).max(1)));
                (format!("{v} % {u} == 0"), v, u)
            }
        })
    }
    fn bind(&mut self, s: &str, v: String) {
        self.env.insert(SymExpr::sym(s), v);
    }
    fn stmts(&mut self, body: &[Stmt]) -> Result<(), Fault> {
        body.iter().try_for_each(|s| self.stmt(s))
    }
    /// A block of its own.
    fn inner(&mut self, body: &[Stmt]) -> Result<(), Fault> {
        let saved = self.env.clone();
        self.stmts(body)?;
        self.env = saved;
        Ok(())
    }

    fn stmt(&mut self, s: &Stmt) -> Result<(), Fault> {
        match s {
            Stmt::Bind { symbol, input, axis } => {
                let v = self.def(symbol, format!("pw_rt_dim(ctx, {input}, {axis})"));
                self.bind(symbol, v);
            }
            Stmt::Let { symbol, expr } => {
                let v = self.value(expr)?;
                let v = self.def(symbol, v);
                self.bind(symbol, v);
            }
            Stmt::Read { symbol, buffer, index } => {
                let i = self.value(index)?;
                let v = self.fetch(*buffer, &i, symbol)?;
                self.bind(symbol, v);
            }
            Stmt::Room { output, past, needed, room, front } => {
                let (past, needed) = (self.value(past)?, self.value(needed)?);
                let v = self.def(room, format!("pw_rt_room(ctx, {output}, {needed})"));
                self.bind(room, v);
                let v = self.def(front, format!("pw_rt_front(ctx, {output}, {past})"));
                self.bind(front, v);
            }
            Stmt::Check { pred, fault, origin } => {
                self.origin = number(*origin);
                let (ok, a, b) = self.pred(pred)?;
                let fail = self.fail(check_code(pred, *fault), number(*origin), &a, &b);
                self.line(format!("if (!({ok})) {fail}"));
            }
            Stmt::Epoch { epoch, bytes } => {
                let bytes = self.value(bytes)?;
                self.line(format!("arena[{epoch}] = pw_rt_arena(ctx, {epoch}, {bytes});"));
                self.line(format!("if (!arena[{epoch}]) goto failed;"));
            }
            Stmt::Output { output, dims } => {
                for (i, d) in dims.iter().enumerate() {
                    let v = self.value(d)?;
                    self.line(format!("dims[{i}] = {v};"));
                }
                self.line(format!("output[{output}] = pw_rt_output(ctx, {output}, dims, {});", dims.len()));
                self.line(format!("if (!output[{output}]) goto failed;"));
            }
            Stmt::Launch(l) => self.launch(l)?,
            Stmt::Choose { cases } => self.choose(cases)?,
            Stmt::WriteDims { buffer, values } => {
                for (i, v) in values.iter().enumerate() {
                    let v = self.value(v)?;
                    let (p, bytes, _) = self.element(*buffer, &i.to_string())?;
                    self.line(format!("pw_rt_device_put(ctx, {p}, {v}, {bytes});"));
                }
            }
            Stmt::Host(h) => self.host(h)?,
            Stmt::Held { buffer, result } => {
                let bytes = self.plan.buffers.get(*buffer).ok_or("a buffer that does not exist")?.bytes();
                let (n, to) = (self.value(&bytes)?, self.address(*buffer)?);
                self.line(format!("if (pw_rt_held(ctx, {result}, {to}, {n}) != PW_OK) goto failed;"));
            }
            Stmt::Copy { to, from } => {
                let bytes = self.plan.buffers.get(*to).ok_or("a buffer that does not exist")?.bytes();
                let n = self.value(&bytes)?;
                let (to, from) = (self.address(*to)?, self.address(*from)?);
                self.line(format!("pw_rt_device_copy(ctx, {to}, {from}, {n});"));
            }
            Stmt::If { pred, then, els } => {
                let (ok, ..) = self.pred(pred)?;
                self.open(format!("if ({ok}) {{"));
                self.inner(then)?;
                if !els.is_empty() {
                    self.depth -= 1;
                    self.open("} else {");
                    self.inner(els)?;
                }
                self.close();
            }
            Stmt::Loop { counter, trips, trip, cond, body, origin } => {
                self.origin = number(*origin);
                let trip = self.value(trip)?;
                let i = self.names.name(counter);
                self.line(format!("int64_t {i} = 0;"));
                self.open(format!("for (; {i} < {trip}; {i}++) {{"));
                let saved = self.env.clone();
                if let Some(c) = cond {
                    let v = self.fetch(*c, "0", "more")?;
                    self.line(format!("if (!{v}) break;"));
                }
                // The limit of the interpreter: a loop that does not end is an error, not a hang.
                let most = i64::try_from(plan_interp::Options::default().loop_limit).unwrap_or(i64::MAX);
                self.line(format!("if (pw_rt_loop(ctx, {}, {i}, {}) != 0) goto failed;", number(*origin), constant(most)));
                self.bind(counter, i.clone());
                self.stmts(body)?;
                self.env = saved;
                self.close();
                self.bind(trips, i);
            }
        }
        Ok(())
    }

    /// Calls a host operation as `pw_plan.h` says, and binds what it finds.
    fn host(&mut self, h: &HostCall) -> Result<(), Fault> {
        self.origin = number(h.origin);
        let counts = [h.operands.len(), h.gives.len(), h.params.len()];
        let head = [h.op as i64, i64::from(self.origin)].into_iter().chain(counts.map(|n| n as i64));
        let mut words: Vec<String> = head.map(constant).collect();
        for (&b, &takes) in h.operands.iter().zip(&h.takes) {
            let p = self.address(b)?;
            let dims = self.plan.buffers.get(b).ok_or("a buffer that does not exist")?.dims.clone();
            words.extend([format!("(int64_t)(uintptr_t){p}"), constant(onnx_dtype(takes).into()), constant(dims.len() as i64)]);
            for d in &dims {
                let v = self.value(d)?;
                words.push(v);
            }
        }
        words.extend(h.gives.iter().map(|d| i64::from(onnx_dtype(*d))).chain(h.params.iter().copied()).map(constant));
        for (i, w) in words.iter().enumerate() {
            self.line(format!("words[{i}] = {w};"));
        }
        self.line(format!("if ({}(ctx, words, found, {}) != PW_OK) goto failed;", crate::link::host_entry(h.op), h.symbols.len()));
        for (i, symbol) in h.symbols.iter().enumerate() {
            let v = self.def(symbol, format!("found[{i}]"));
            self.bind(symbol, v);
        }
        Ok(())
    }

    fn launch(&mut self, l: &Launch) -> Result<(), Fault> {
        self.origin = number(l.origin);
        let kernel = self.module.kernels.values().nth(l.kernel.index()).ok_or("a kernel that does not exist")?;
        if kernel.abi_bufs().count() != l.buffers.len() || kernel.syms.len() + kernel.abi_scalars().count() != l.scalars.len() {
            return Err(format!("a launch of `{}` with other arguments than it takes", kernel.name));
        }
        let node = self.plan.origins.get(l.origin).map(|o| o.paths.join(" + ")).unwrap_or_default();
        self.line(format!("/* {}: {} */", kernel.name, comment(&node).replace("*/", "* /")));
        for (i, b) in l.buffers.iter().enumerate() {
            let p = self.address(*b)?;
            self.line(format!("buffers[{i}] = {p};"));
        }
        for (array, values) in [("scalars", &l.scalars[..]), ("grid", &l.grid[..])] {
            for (i, s) in values.iter().enumerate() {
                let v = self.value(s)?;
                self.line(format!("{array}[{i}] = {v};"));
            }
        }
        let (number, origin) = (l.kernel.index(), number(l.origin));
        self.line(format!("if (pw_rt_device_launch(ctx, {number}, buffers, scalars, grid, {origin}) != PW_OK) goto failed;"));
        Ok(())
    }
    /// The first launch whose conditions hold.
    fn choose(&mut self, cases: &[(Vec<Pred>, Launch)]) -> Result<(), Fault> {
        self.labels += 1;
        let done = format!("chosen{}", self.labels);
        for (preds, l) in cases {
            let saved = self.env.clone();
            self.open("do {");
            for p in preds {
                let (ok, ..) = self.pred(p)?;
                self.line(format!("if (!({ok})) break;"));
            }
            self.launch(l)?;
            self.line(format!("goto {done};"));
            self.depth -= 1;
            self.line("} while (0);");
            self.env = saved;
            if preds.is_empty() {
                break;
            }
        }
        self.line(format!("{done}:;"));
        Ok(())
    }
}
