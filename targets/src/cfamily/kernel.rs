// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel of class simt as one `__global__` function: statements, positions, sizes, loops.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{
    Block, BufId, ExprId, FnId, Kernel, Level, LoopKind, Module, Param, Place, Rhs, ShuffleKind, Space, Stmt, StmtId, Ty, VarId, VarKind,
};
use portwright_ir::sym::{Atom, SymExpr, View};

use super::Dialect;
use super::dialect::{Bounds, fill};
use super::expr::{Prec, Scope, Text, elem, exact, register, stored};
use super::names::{Namer, identifier};
use crate::mlir::guard_code;
use crate::mlir::simt::{self, Forms, LaunchForm};

/// What has no form here; the caller adds the kernel.
pub(super) type Fault = String;

/// What kernels of a file share: functions, products, headers.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Texts of functions by number.
    pub functions: BTreeMap<usize, (String, String)>,
    /// Functions that are lifted to vectors.
    pub lifted: BTreeSet<usize>,
    /// Products by their place in the dialect's table.
    pub products: BTreeSet<usize>,
    /// Whether there are asynchronous copies.
    pub copies: bool,
}

/// Emits one kernel.
pub(super) struct Emit<'a> {
    pub module: &'a Module,
    pub k: &'a Kernel,
    pub dialect: &'static Dialect,
    pub forms: &'static Forms,
    pub form: LaunchForm,
    pub shared: &'a mut Shared,
    pub names: Namer,
    pub vars: HashMap<VarId, String>,
    /// Values of counters whose loop is written out.
    pub listed: HashMap<VarId, i128>,
    pub bufs: HashMap<BufId, String>,
    syms: HashMap<String, String>,
    dims: HashMap<SymExpr, Text>,
    /// What is declared once at the top, by what it is.
    onces: HashMap<String, String>,
    pub top: Vec<String>,
    pub body: String,
    pub depth: usize,
}

/// Emits a kernel's function to `out`. `disjoint` says that buffers which are written overlap no other buffer.
///
/// # Errors
/// What has no form on this machine.
pub(super) fn emit(
    module: &Module,
    k: &Kernel,
    (dialect, forms): (&'static Dialect, &'static Forms),
    disjoint: bool,
    shared: &mut Shared,
    out: &mut String,
) -> Result<LaunchForm, Fault> {
    let form = simt::launch_form(k, forms)?;
    if k.params.iter().any(|p| matches!(p, Param::TensorMap { .. })) {
        return Err("descriptors of boxes have no form on this machine".into());
    }
    let mut e = Emit {
        module,
        k,
        dialect,
        forms,
        form: form.clone(),
        shared,
        names: Namer::default(),
        vars: HashMap::new(),
        listed: HashMap::new(),
        bufs: HashMap::new(),
        syms: HashMap::new(),
        dims: HashMap::new(),
        onces: HashMap::new(),
        top: Vec::new(),
        body: String::new(),
        depth: 1,
    };
    let mut params: Vec<String> = Vec::new();
    for b in k.abi_bufs() {
        let buf = &k.bufs[b];
        let name = e.names.name(&buf.name);
        let restrict = if disjoint { "__restrict__ " } else { "" };
        let constant = if buf.mode.writes() { "" } else { "const " };
        params.push(format!("{constant}{} *{restrict}{name}", stored(buf.dtype)));
        e.bufs.insert(b, name);
    }
    for s in &k.syms {
        let name = e.names.name(&s.name);
        params.push(format!("int64_t {name}"));
        e.syms.insert(s.name.clone(), name);
    }
    for v in k.abi_scalars() {
        let (name, slot) = (e.names.name(&k.vars[v].name), e.names.name(&format!("{}_bits", k.vars[v].name)));
        params.push(format!("int64_t {slot}"));
        let d = k.vars[v].ty.elem().ok_or("a parameter that is no scalar")?;
        let value = match d {
            DType::F64 => format!("pw_bits<double>({slot})"),
            DType::F32 => format!("pw_bits<float>((uint32_t){slot})"),
            _ => format!("({}){slot}", elem(d)),
        };
        e.top.push(format!("const {} {name} = {value};", elem(d)));
        e.vars.insert(v, name);
    }
    params.extend(["unsigned long long *pw_status".into(), "unsigned long long pw_launch".into()]);
    e.group_memory()?;
    let body = k.body.clone();
    e.block(&body)?;
    let bounds = match dialect.bounds {
        Bounds::Always => true,
        Bounds::Over(n) => form.group > n,
        Bounds::Never => false,
    };
    let bounds = if bounds { format!(" __launch_bounds__({})", form.group) } else { String::new() };
    out.push_str(&format!("// kernel {}\n", k.name));
    for node in &k.origin {
        out.push_str(&format!("// node: {}\n", comment(node)));
    }
    out.push_str(&format!("extern \"C\" __global__ void{bounds} {}(", super::symbol(&k.name)));
    // Parameters on lines of at most some hundred columns.
    let mut column = 200;
    for (i, p) in params.iter().enumerate() {
        let comma = if i + 1 < params.len() { "," } else { "" };
        if column + p.len() > 110 {
            out.push_str("\n   ");
            column = 4;
        }
        out.push_str(&format!(" {p}{comma}"));
        column += p.len() + 2;
    }
    out.push_str(") {\n");
    let unused = ["pw_status", "pw_launch"].map(|n| format!("(void){n};"));
    if !e.body.contains("pw_status") {
        e.top.insert(0, unused.join(" "));
    }
    for line in &e.top {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(&e.body);
    out.push_str("}\n");
    Ok(form)
}

/// A text that a comment of one line may hold.
pub(super) fn comment(text: &str) -> String {
    // A backslash at the end would take the next line in.
    text.chars().map(|c| if c.is_control() || c == '\\' { ' ' } else { c }).collect::<String>().trim_end().to_string()
}

impl Emit<'_> {
    pub(super) fn line(&mut self, text: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.body.push_str("  ");
        }
        self.body.push_str(text.as_ref());
        self.body.push('\n');
    }
    pub(super) fn open(&mut self, text: impl AsRef<str>) {
        self.line(text);
        self.depth += 1;
    }
    pub(super) fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }
    /// A constant of the kernel that is declared once, at its top.
    pub(super) fn once(&mut self, name: &str, ty: &str, value: &str) -> String {
        let key = format!("{ty} {value}");
        if let Some(n) = self.onces.get(&key) {
            return n.clone();
        }
        let n = self.names.name(name);
        self.top.push(format!("{ty} {n} = {value};"));
        self.onces.insert(key, n.clone());
        n
    }
    pub(super) fn warp_lane(&mut self) -> String {
        let warp = self.forms.warp;
        self.once("wlane", "const int", &format!("(int)threadIdx.x % {warp}"))
    }
    /// The group's position on an axis.
    pub(super) fn here(&mut self, axis: usize) -> Result<String, Fault> {
        let name = ["gx", "gy", "gz"][axis.min(2)];
        if !self.form.row {
            let of = ["x", "y", "z"][axis.min(2)];
            return Ok(self.once(name, "const int", &format!("(int)blockIdx.{of}")));
        }
        // All groups stand in one row, because a grid may be larger than its dims can be.
        let grid = self.k.launch.grid.clone();
        let (x, y) = (self.dim(&grid[0])?.at(Prec::Unary), self.dim(&grid[1])?.at(Prec::Unary));
        let text = match axis {
            0 => format!("(int)(blockIdx.x % {x})"),
            1 => format!("(int)(blockIdx.x / {x} % {y})"),
            _ => format!("(int)(blockIdx.x / {x} / {y})"),
        };
        Ok(self.once(name, "const int", &text))
    }

    /// Declares the group's memory, and that of lanes.
    fn group_memory(&mut self) -> Result<(), Fault> {
        let places = simt::places(self.k)?;
        let dynamic = self.form.dynamic > 0;
        if dynamic {
            self.top.push("extern __shared__ __align__(16) unsigned char pw_shared[];".into());
        }
        let k = self.k;
        let (whole, parts): (Vec<_>, Vec<_>) =
            k.bufs.iter().filter(|(_, b)| matches!(b.space, Space::Shared | Space::Local)).partition(|(_, b)| b.alias.is_none());
        for (id, b) in whole {
            let name = self.names.name(&b.name);
            let t = stored(b.dtype);
            let bytes = b.span_bytes().as_const().filter(|n| (0..1 << 30).contains(n));
            let bytes = bytes.ok_or_else(|| format!("`{}` of a group or a lane has no fixed size", b.name))?;
            let each = i64::from(b.dtype.bytes().unwrap_or(1));
            let count = (bytes + each - 1) / each;
            match (b.space, dynamic) {
                (Space::Local, _) => self.top.push(format!("alignas(16) {t} {name}[{}];", count.max(1))),
                (_, false) => self.top.push(format!("__shared__ __align__(16) {t} {name}[{}];", count.max(1))),
                (_, true) => {
                    let at = places.get(&id).copied().ok_or("a buffer without a place")?;
                    self.top.push(format!("{t} *const {name} = ({t} *)(void *)(pw_shared + {at});"));
                }
            }
            self.bufs.insert(id, name);
        }
        let mut left = parts;
        while !left.is_empty() {
            let before = left.len();
            let mut next = Vec::new();
            for (id, b) in left {
                let base = b.alias.and_then(|(base, at)| self.bufs.get(&base).map(|n| (n.clone(), at)));
                let Some((base, at)) = base else {
                    next.push((id, b));
                    continue;
                };
                let (name, t) = (self.names.name(&b.name), stored(b.dtype));
                self.top.push(format!("{t} *const {name} = ({t} *)(void *)((unsigned char *)(void *){base} + {at});"));
                self.bufs.insert(id, name);
            }
            left = next;
            if left.len() == before {
                return Err("buffers that lie in each other".into());
            }
        }
        if k.bufs.values().any(|b| b.space == Space::Acc) {
            return Err("memory of accumulators has no form on this machine".into());
        }
        Ok(())
    }

    /// A launch-uniform expression as `int64_t`; what is more than a name or a number is computed once at the top of the kernel.
    pub(super) fn dim(&mut self, e: &SymExpr) -> Result<Text, Fault> {
        if let Some(v) = self.dims.get(e) {
            return Ok(v.clone());
        }
        let v = match e.view() {
            View::Const(v) if i32::try_from(v).is_ok() => {
                Text { text: v.to_string(), prec: if v < 0 { Prec::Unary } else { Prec::Whole }, loose: true }
            }
            View::Const(v) if v == i64::MIN => Text::whole("INT64_MIN"),
            View::Const(v) => Text { text: format!("INT64_C({v})"), prec: if v < 0 { Prec::Unary } else { Prec::Whole }, loose: true },
            View::Overflow => return Err("a size left 64-bit integers".into()),
            View::Sum(terms, constant) => {
                let mut sum = String::new();
                for (c, atoms) in terms {
                    let mut factors: Vec<String> = (c.abs() != 1).then(|| c.unsigned_abs().to_string()).into_iter().collect();
                    for a in &atoms {
                        factors.push(self.atom(a)?.at(Prec::Unary));
                    }
                    if factors.is_empty() {
                        factors.push("1".into());
                    }
                    sum.push_str(match (sum.is_empty(), c < 0) {
                        (true, true) => "-",
                        (true, false) => "",
                        (false, true) => " - ",
                        (false, false) => " + ",
                    });
                    sum.push_str(&factors.join(" * "));
                }
                if constant != 0 {
                    sum.push_str(if constant < 0 { " - " } else { " + " });
                    sum.push_str(&constant.unsigned_abs().to_string());
                }
                let name = sum.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if name { Text::whole(sum) } else { Text::whole(self.once("n", "const int64_t", &sum)) }
            }
        };
        self.dims.insert(e.clone(), v.clone());
        Ok(v)
    }
    fn atom(&mut self, a: &Atom) -> Result<Text, Fault> {
        let (op, x, y) = match a {
            Atom::Sym(s) => {
                return self.syms.get(&**s).cloned().map(Text::whole).ok_or_else(|| format!("`{s}` is no symbol of the kernel"));
            }
            Atom::Div(x, y) => ("pw_floor_div", x, y),
            Atom::Ceil(x, y) => ("pw_ceil_div", x, y),
            Atom::Mod(x, y) => ("pw_mod", x, y),
            Atom::Min(x, y) => ("pw_min", x, y),
            Atom::Max(x, y) => ("pw_max", x, y),
        };
        let range = |n: &str| self.k.sym(n).map(|s| (s.lo, s.hi));
        let positive = y.bounds(&range).0 > 0 || matches!(a, Atom::Min(..) | Atom::Max(..));
        let (x, y) = (self.dim(x)?, self.dim(y)?);
        let size = Ty::Scalar(DType::I64);
        let (x, y) = (exact(&x, &size), exact(&y, &size));
        // For other divisors the result is unspecified, but no trap.
        let y = if positive { y } else { format!("pw_max({y}, (int64_t)1)") };
        Ok(Text::whole(format!("{op}({x}, {y})")))
    }

    pub(super) fn block(&mut self, b: &Block) -> Result<(), Fault> {
        b.iter().try_for_each(|s| self.stmt(*s))
    }

    fn stmt(&mut self, id: StmtId) -> Result<(), Fault> {
        let k = self.k;
        match &k.stmts[id] {
            Stmt::Def { var, init } => self.define(*var, init.as_ref()),
            Stmt::Set { place, val } => {
                let to = self.place(place)?;
                self.assign(&to, val, &k.vars[place.var].ty)
            }
            Stmt::Store { to, val, cond } => self.store(to, *val, cond),
            Stmt::Scatter { to, val, cond } => self.scatter(to, *val, cond),
            Stmt::FragStore { to, val, order, via } => self.fragment_store(to, val, *order, *via),
            Stmt::Each { frag, val, coords, body } => self.each(frag, *val, *coords, body),
            Stmt::For { var, lo, hi, step, kind, body } => self.repeat(*var, [*lo, *hi, *step], kind, body),
            Stmt::If { cond, then, els } => {
                let c = self.expr(*cond)?;
                self.open(format!("if ({}) {{", c.text));
                self.block(then)?;
                if !els.is_empty() {
                    self.depth -= 1;
                    self.open("} else {");
                    self.block(els)?;
                }
                self.close();
                Ok(())
            }
            Stmt::Barrier(Level::Group) => {
                self.line(format!("{};", self.dialect.barrier));
                Ok(())
            }
            Stmt::Barrier(Level::Warp) => {
                let call = self.dialect.warp_barrier.ok_or("a barrier of a warp has no form on this machine")?;
                self.line(format!("{call};"));
                Ok(())
            }
            Stmt::CopyAsync { dst, src, cond, other, .. } => self.copy_async(dst, src, cond, *other),
            Stmt::Commit(_) => {
                if let Some(c) = self.dialect.copies {
                    self.line(format!("{};", c.commit));
                }
                Ok(())
            }
            Stmt::Wait(_, n) => {
                if let Some(c) = self.dialect.copies {
                    // Groups of all queues are counted together: with several, only an empty line is sure.
                    let n = if k.queues.len() > 1 { 0 } else { *n };
                    self.line(format!("{};", fill(c.wait, &[("groups", &n.to_string())])));
                }
                Ok(())
            }
            Stmt::Prefetch(_) | Stmt::Alloc(_) | Stmt::Assume(_) => Ok(()),
            _ => Err("a statement that has no form on this machine".into()),
        }
    }

    pub(super) fn place(&mut self, p: &Place) -> Result<String, Fault> {
        self.place_of(p.var, &p.idx)
    }
    /// C++'s type of a variable's register.
    pub(super) fn register_of(&self, ty: &Ty) -> Result<String, Fault> {
        match ty {
            Ty::Frag(..) => self.fragment_type(ty),
            Ty::Tile { .. } => Err("a tile has no form on this machine".into()),
            _ => Ok(register(ty)),
        }
    }

    fn define(&mut self, var: VarId, init: Option<&Rhs>) -> Result<(), Fault> {
        let v = &self.k.vars[var];
        let t = self.register_of(&v.ty)?;
        let ty = v.ty.clone();
        let name = self.names.name(&v.name);
        let dims: String = v.arr.iter().map(|n| format!("[{n}]")).collect();
        if !dims.is_empty() {
            let arr: Vec<u32> = v.arr.to_vec();
            self.line(format!("{t} {name}{dims};"));
            if let Some(r) = init {
                // The value is computed once, and every element has it.
                let one = self.names.name(&format!("{}_first", v.name));
                let literal = matches!(r, Rhs::Expr(e) if self.const_int(*e).is_some() || self.k.exprs[*e].args.is_empty());
                let value = if literal && let Rhs::Expr(e) = r {
                    self.arg(*e)?
                } else {
                    self.vars.insert(var, one.clone());
                    self.declare(&one, &t, r, &ty, true)?;
                    one
                };
                let at: Vec<String> = (0..arr.len()).map(|_| self.names.name("r")).collect();
                for (n, i) in arr.iter().zip(&at) {
                    self.line("#pragma unroll");
                    self.open(format!("for (int {i} = 0; {i} < {n}; {i}++) {{"));
                }
                let index: String = at.iter().map(|i| format!("[{i}]")).collect();
                self.line(format!("{name}{index} = {value};"));
                arr.iter().for_each(|_| self.close());
            }
            self.vars.insert(var, name);
            return Ok(());
        }
        match init {
            Some(r) => self.declare(&name, &t, r, &ty, v.kind == VarKind::Let)?,
            None => self.line(format!("{t} {name};")),
        }
        self.vars.insert(var, name);
        Ok(())
    }
    /// Declares a variable with a value.
    fn declare(&mut self, name: &str, t: &str, r: &Rhs, ty: &Ty, constant: bool) -> Result<(), Fault> {
        match self.value(r, ty)? {
            Some(v) => self.line(format!("{}{t} {name} = {v};", if constant { "const " } else { "" })),
            None => {
                self.line(format!("{t} {name};"));
                self.assign(name, r, ty)?;
            }
        }
        Ok(())
    }
    fn assign(&mut self, to: &str, r: &Rhs, ty: &Ty) -> Result<(), Fault> {
        if let Some(v) = self.value(r, ty)? {
            self.line(format!("{to} = {v};"));
            return Ok(());
        }
        match r {
            Rhs::FragLoad { from, order, via } => self.fragment_load(to, from, *order, *via, ty),
            _ => Err("a right side that has no form on this machine".into()),
        }
    }
    /// A right side as an expression; `None` where it takes statements.
    fn value(&mut self, r: &Rhs, ty: &Ty) -> Result<Option<String>, Fault> {
        Ok(Some(match r {
            Rhs::Expr(e) => self.expr(*e)?.text,
            Rhs::Load { from, cond, other } => self.load(from, cond, *other)?.text,
            Rhs::Gather { from, cond, other } => self.gather(from, cond, *other)?.text,
            Rhs::Guard { v, lo, hi, code, at } => {
                let t = elem(ty.elem().unwrap_or(DType::I64));
                let (v, lo, hi, at) = (self.expr(*v)?, self.expr(*lo)?, self.expr(*hi)?, self.expr(*at)?);
                let code = guard_code(*code);
                format!("pw_guarded<{t}>({}, {}, {}, {code}, {}, pw_status, pw_launch)", v.text, lo.text, hi.text, at.text)
            }
            Rhs::Shuffle { kind, v, by, width } => self.shuffled(*kind, *v, *by, *width)?,
            Rhs::Atomic { .. } => self.atomic(r)?,
            Rhs::Fill(e) => {
                let v = self.arg(*e)?;
                self.fragment_fill(&v, ty)?
            }
            Rhs::Mma { .. } => self.product(r)?,
            Rhs::Move(p) => {
                let from = self.k.vars[p.var].ty.clone();
                let (v, from, to) = (self.place(p)?, self.register_of(&from)?, self.register_of(ty)?);
                if from == to { v } else { format!("pw_bits<{to}>({v})") }
            }
            Rhs::FragLoad { .. } => return Ok(None),
            _ => return Err("a right side that has no form on this machine".into()),
        }))
    }

    /// A value of another lane, 32 bits at a time.
    fn shuffled(&mut self, kind: ShuffleKind, v: ExprId, by: ExprId, width: u16) -> Result<String, Fault> {
        if !width.is_power_of_two() || u32::from(width) > self.forms.warp {
            return Err("a shuffle wider than the warp".into());
        }
        let at = ShuffleKind::ALL.iter().position(|k| *k == kind).unwrap_or(0);
        let call = self.dialect.shuffles.get(at).copied().flatten();
        let call = call.ok_or_else(|| format!("`{}` has no form on this machine", kind.name()))?;
        let ty = self.k.exprs[v].ty.clone();
        let (x, by) = (self.arg(v)?, self.expr(by)?);
        if matches!(ty, Ty::Scalar(DType::F32 | DType::I32 | DType::U32)) {
            return Ok(fill(call, &[("value", &x), ("by", &by.text), ("width", &width.to_string())]));
        }
        let name = ["pw_shuffle_xor", "pw_shuffle_up", "pw_shuffle_down", "pw_shuffle_from"][at.min(3)];
        Ok(format!("{name}({x}, {}, {width})", by.text))
    }

    fn repeat(&mut self, var: VarId, [lo, hi, step]: [ExprId; 3], kind: &LoopKind, body: &Block) -> Result<(), Fault> {
        if let LoopKind::List(values) = kind {
            for v in values {
                self.listed.insert(var, i128::from(*v));
                self.open("{");
                self.block(body)?;
                self.close();
            }
            self.listed.remove(&var);
            return Ok(());
        }
        let v = &self.k.vars[var];
        let t = register(&v.ty);
        let (lo, hi, step) = (self.expr(lo)?, self.expr(hi)?, self.expr(step)?);
        let i = self.names.name(&v.name);
        self.vars.insert(var, i.clone());
        // Which loops are unrolled the schedule decided: compilers that unroll others run out of registers.
        let unrolled = *kind == LoopKind::Unroll || v.kind == VarKind::Unrolled;
        self.line(if unrolled { "#pragma unroll" } else { "#pragma unroll 1" });
        let up = if step.text == "1" { format!("{i}++") } else { format!("{i} += {}", step.text) };
        self.open(format!("for ({t} {i} = {}; {i} < {}; {up}) {{", lo.text, hi.at(Prec::Shift)));
        self.block(body)?;
        self.close();
        Ok(())
    }

    /// Name of a function of the module, which is added to the file.
    pub(super) fn function(&mut self, f: FnId, lifted: bool) -> Result<String, Fault> {
        let number = portwright_ir::kernel::at(f);
        if lifted {
            self.shared.lifted.insert(number);
        }
        if let Some((name, _)) = self.shared.functions.get(&number) {
            return Ok(name.clone());
        }
        let module = self.module;
        let def = module.fns.get(f).ok_or("a call of no function")?;
        let name = format!("pw_fn_{}", identifier(&def.name));
        let mut own = Namer::default();
        let mut vars = vec![String::new(); def.vars.len()];
        let mut params = Vec::new();
        for p in &def.params {
            let n = own.name(&def.vars[*p].name);
            params.push(format!("{} {n}", register(&def.vars[*p].ty)));
            vars[portwright_ir::kernel::at(*p)] = n;
        }
        let mut text = format!("PW_FN {} {name}({}) {{\n", elem(def.ret), params.join(", "));
        for (v, e) in &def.lets {
            let value = self.expr_in(Scope::Fn { f, vars: &vars }, *e)?;
            let n = own.name(&def.vars[*v].name);
            text.push_str(&format!("  const {} {n} = {};\n", register(&def.vars[*v].ty), value.text));
            vars[portwright_ir::kernel::at(*v)] = n;
        }
        let result = self.expr_in(Scope::Fn { f, vars: &vars }, def.result)?;
        text.push_str(&format!("  return {};\n}}\n", result.text));
        self.shared.functions.insert(number, (name.clone(), text));
        Ok(name)
    }
}

/// A function of scalars applied to the elements of vectors.
pub(super) fn lifted(module: &Module, number: usize, name: &str) -> String {
    let Some(def) = module.fns.values().nth(number) else { return String::new() };
    let types: Vec<&str> = def.param_dtypes().map(elem).collect();
    let params: Vec<String> = types.iter().enumerate().map(|(i, t)| format!("pw_vec<{t}, N> x{i}")).collect();
    let args: Vec<String> = (0..types.len()).map(|i| format!("x{i}.v[i]")).collect();
    let ret = elem(def.ret);
    format!(
        "template <int N>\nPW_TEMPLATE_FN pw_vec<{ret}, N> {name}({}) {{\n  pw_vec<{ret}, N> r;\n  for (int i = 0; i < N; i++) r.v[i] = {name}({});\n  return r;\n}}\n",
        params.join(", "),
        args.join(", ")
    )
}

/// Exchanges of values of any size, in words of 32 bits, as far as they are called.
pub(super) fn shuffles(d: &Dialect, calls: &str) -> String {
    let mut out = String::new();
    let names = ["pw_shuffle_xor", "pw_shuffle_up", "pw_shuffle_down", "pw_shuffle_from"];
    for (name, call) in names.iter().zip(d.shuffles).filter(|(name, _)| calls.contains(*name)) {
        let Some(call) = call else { continue };
        let call = fill(call, &[("value", "words[i]"), ("by", "by"), ("width", "width")]);
        out.push_str(&format!(
            "template <class T>\nPW_TEMPLATE_FN T {name}(T x, int by, int width) {{\n  int words[(sizeof(T) + 3) / 4] = {{0}};\n  \
             memcpy(words, &x, sizeof x);\n  for (int i = 0; i < (int)((sizeof(T) + 3) / 4); i++) words[i] = {call};\n  \
             memcpy(&x, words, sizeof x);\n  return x;\n}}\n"
        ));
    }
    out
}
