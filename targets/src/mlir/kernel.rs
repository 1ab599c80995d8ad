// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel of class cpu as two functions: the entry of the thread pool's call, and the loop over groups with one argument
//! per buffer, which says to LLVM that they do not overlap.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{
    Block, BufId, Class, Code as GuardCode, ExprId, Kernel, LoopKind, Module, Param, Place, Rhs, Space, Stmt, StmtId, Ty, VarId, VarKind,
};
use portwright_ir::sym::{Atom, SymExpr, View};

use super::Spelling;
use super::code::Code;
use super::expr::reg_type;
use super::simt::Lanes;

/// What has no form here; the caller adds the kernel.
pub(super) type Fault = String;

/// Emits one kernel.
pub(super) struct Emit<'a> {
    pub module: &'a Module,
    pub k: &'a Kernel,
    pub spelling: &'a Spelling,
    pub c: Code,
    /// Values of variables, one per register of an array; absent before a definition.
    pub regs: HashMap<VarId, Vec<Option<String>>>,
    /// Constant values of the counters of unrolled loops.
    pub unrolled: HashMap<VarId, i128>,
    pub group: [String; 3],
    pub grid: [String; 3],
    /// What there is where groups have lanes.
    pub lanes: Option<Box<Lanes>>,
    pub(super) bufs: HashMap<BufId, String>,
    pub(super) dims: HashMap<SymExpr, String>,
    pub(super) syms: HashMap<String, String>,
}

/// Symbol of a kernel's entry in the object.
pub fn symbol(name: &str) -> String {
    format!("pwk_{name}")
}

pub(crate) fn guard_code(c: GuardCode) -> i32 {
    // Numbers of `enum pw_code` in the runtime's pw_plan.h.
    match c {
        GuardCode::Index => 1,
        GuardCode::KvFull => 3,
        GuardCode::Size => 4,
        GuardCode::Range => 9,
    }
}

/// Emits a kernel's functions to `out`. `disjoint` says that buffers which are written overlap no other buffer.
///
/// # Errors
/// What has no form on this machine.
pub(super) fn emit(module: &Module, k: &Kernel, spelling: &Spelling, disjoint: bool, loc: &str, out: &mut String) -> Result<(), Fault> {
    if k.class != Class::Cpu {
        return Err(format!("it is written for class {}", k.class));
    }
    let name = |n: usize| format!("%a{n}");
    let abi_bufs: Vec<BufId> = k.abi_bufs().collect();
    let scalars: Vec<VarId> = k.abi_scalars().collect();
    let n = abi_bufs.len();
    let mut e = Emit {
        module,
        k,
        spelling,
        c: Code::new(loc),
        regs: HashMap::new(),
        unrolled: HashMap::new(),
        group: Default::default(),
        grid: ["%grid0".into(), "%grid1".into(), "%grid2".into()],
        lanes: None,
        bufs: abi_bufs.iter().enumerate().map(|(i, b)| (*b, name(i))).collect(),
        dims: HashMap::new(),
        syms: k.syms.iter().enumerate().map(|(i, s)| (s.name.clone(), format!("%s{i}"))).collect(),
    };
    for (i, v) in scalars.iter().enumerate() {
        let value = e.scalar(&format!("%s{}", k.syms.len() + i), *v)?;
        e.regs.insert(*v, vec![Some(value)]);
    }
    e.groups()?;
    let mut params: Vec<String> = Vec::new();
    for (i, b) in abi_bufs.iter().enumerate() {
        let buf = &k.bufs[*b];
        let mut attrs = vec![format!("llvm.align = {} : i64", buf.align.max(1)), "llvm.nocapture".to_string()];
        attrs.extend(disjoint.then(|| "llvm.noalias".to_string()));
        attrs.extend((!buf.mode.writes()).then(|| "llvm.readonly".to_string()));
        params.push(format!("{}: !llvm.ptr {{{}}}", name(i), attrs.join(", ")));
    }
    let scalar_count = k.syms.len() + scalars.len();
    params.extend((0..scalar_count).map(|i| format!("%s{i}: i64")));
    params.extend(["%grid0", "%grid1", "%grid2", "%begin", "%end"].map(|p| format!("{p}: i64")));
    params.push("%scratch: !llvm.ptr {llvm.align = 64 : i64, llvm.noalias}".into());
    params.push("%status: !llvm.ptr".into());
    let sym = symbol(&k.name);
    let header =
        format!("llvm.func internal @{sym}.groups({}) attributes {{always_inline, no_unwind{}}}", params.join(", "), vectors(spelling));
    let Emit { mut c, .. } = e;
    c.op("llvm.return");
    c.finish(header, out);
    entry(k, &sym, (n, scalar_count), &vectors(spelling), loc, out);
    Ok(())
}

/// Attributes of functions that say what vectors are on the machine.
fn vectors(spelling: &Spelling) -> String {
    let length = spelling.vscale.map(|n| format!(", vscale_range = #llvm.vscale_range<minRange = {n} : i32, maxRange = {n} : i32>"));
    // What LLVM's vectorizers go by: registers of vectors only where the code names them.
    let none = spelling.one_lane.then_some(", passthrough = [\"noimplicitfloat\"]");
    length.unwrap_or_default() + none.unwrap_or_default()
}

/// The function that the runtime calls: unpacks its arguments.
fn entry(k: &Kernel, sym: &str, (bufs, scalars): (usize, usize), vectors: &str, loc: &str, out: &mut String) {
    let mut c = Code::new(loc);
    let mut args = Vec::new();
    let mut types = Vec::new();
    let mut unpack = |c: &mut Code, from: &str, ty: &'static str, count: usize| {
        for i in 0..count {
            let p = if i == 0 {
                from.to_string()
            } else {
                c.def(format_args!("llvm.getelementptr {from}[{i}] : (!llvm.ptr) -> !llvm.ptr, {ty}"))
            };
            args.push(c.def(format_args!("llvm.load {p} {{alignment = 8 : i64}} : !llvm.ptr -> {ty}")));
            types.push(ty);
        }
    };
    unpack(&mut c, "%bufs", "!llvm.ptr", bufs);
    unpack(&mut c, "%syms", "i64", scalars);
    unpack(&mut c, "%grid", "i64", 3);
    args.extend(["%begin", "%end", "%scratch", "%status"].map(String::from));
    types.extend(["i64", "i64", "!llvm.ptr", "!llvm.ptr"]);
    c.op(format_args!("llvm.call @{sym}.groups({}) : ({}) -> ()", args.join(", "), types.join(", ")));
    c.op("llvm.return");
    let ptrs = ["%bufs", "%syms", "%grid"].map(|p| format!("{p}: !llvm.ptr {{llvm.noalias, llvm.readonly}}"));
    let header = format!(
        "llvm.func hidden @{sym}({}, %begin: i64, %end: i64, %scratch: !llvm.ptr, %status: !llvm.ptr) attributes {{no_unwind{vectors}}}",
        ptrs.join(", ")
    );
    debug_assert_eq!(k.abi_bufs().count(), bufs);
    c.finish(header, out);
}

impl Emit<'_> {
    /// A scalar parameter from its slot of 64 bits.
    pub(super) fn scalar(&mut self, slot: &str, v: VarId) -> Result<String, Fault> {
        let ty = self.k.vars[v].ty.clone();
        let d = ty.elem().ok_or("a parameter that is no scalar")?;
        let t = reg_type(&ty);
        self.c.at_top(|c| {
            Ok(match d {
                DType::F64 => c.def(format_args!("llvm.bitcast {slot} : i64 to f64")),
                DType::F32 => {
                    let low = c.def(format_args!("arith.trunci {slot} : i64 to i32"));
                    c.def(format_args!("llvm.bitcast {low} : i32 to f32"))
                }
                _ if t == "i64" => slot.to_string(),
                _ => c.def(format_args!("arith.trunci {slot} : i64 to {t}")),
            })
        })
    }

    /// The loop over the groups `begin..end`.
    fn groups(&mut self) -> Result<(), Fault> {
        let (g, one) = (self.c.named("g"), self.c.i64(1));
        let grid = self.k.launch.grid.clone();
        let flat = |from: usize| grid[from..].iter().all(|d| d.is(1));
        self.c.open(format_args!("scf.for {g} = %begin to %end step {one} : i64 {{"));
        self.group = if flat(1) {
            let zero = self.c.i64(0);
            [g, zero.clone(), zero]
        } else {
            let x = self.c.def(format_args!("arith.remui {g}, %grid0 : i64"));
            let rest = self.c.def(format_args!("arith.divui {g}, %grid0 : i64"));
            if flat(2) {
                [x, rest, self.c.i64(0)]
            } else {
                let y = self.c.def(format_args!("arith.remui {rest}, %grid1 : i64"));
                let z = self.c.def(format_args!("arith.divui {rest}, %grid1 : i64"));
                [x, y, z]
            }
        };
        let body = self.k.body.clone();
        self.block(&body)?;
        self.c.close();
        Ok(())
    }

    /// Address of a buffer's first element.
    pub(super) fn buffer(&mut self, b: BufId) -> Result<String, Fault> {
        if let Some(v) = self.bufs.get(&b) {
            return Ok(v.clone());
        }
        if self.lanes.is_some() {
            return self.on_chip(b);
        }
        let buf = &self.k.bufs[b];
        // Groups have one lane here: memory of the group is memory of the thread.
        if !matches!(buf.space, Space::Local | Space::Shared) {
            return Err(format!("`{}` lies in {} memory", buf.name, buf.space.name()));
        }
        if buf.space == Space::Shared {
            return Err(format!("`{}` lies in shared memory, which has no place in the scratch", buf.name));
        }
        if let Some(bytes) = self.k.small_local(b) {
            let (one, align) = (self.c.i64(1), buf.align.max(16));
            let v = self.c.at_top(|c| {
                c.def(format_args!(
                    "llvm.alloca {one} x !llvm.array<{} x i8> {{alignment = {align} : i64}} : (i64) -> !llvm.ptr",
                    bytes.max(1)
                ))
            });
            self.bufs.insert(b, v.clone());
            return Ok(v);
        }
        let offset = self.k.local_offsets().into_iter().find(|o| o.0 == b).map(|o| o.1).ok_or("a buffer without a place")?;
        let o = self.dim(&offset)?;
        let v = self.c.at_top(|c| c.def(format_args!("llvm.getelementptr %scratch[{o}] : (!llvm.ptr, i64) -> !llvm.ptr, i8")));
        self.bufs.insert(b, v.clone());
        Ok(v)
    }

    /// A launch-uniform expression as i64, computed once at the top of the function.
    pub(super) fn dim(&mut self, e: &SymExpr) -> Result<String, Fault> {
        if let Some(v) = self.dims.get(e) {
            return Ok(v.clone());
        }
        let v = match e.view() {
            View::Const(v) => self.c.i64(v),
            View::Overflow => return Err("a size left 64-bit integers".into()),
            View::Sum(terms, constant) => {
                let mut sum: Option<String> = (constant != 0).then(|| self.c.i64(constant));
                for (c, atoms) in terms {
                    let mut t: Option<String> = (c != 1).then(|| self.c.i64(c));
                    for a in &atoms {
                        let v = self.atom(a)?;
                        t = Some(match t {
                            Some(t) => self.c.at_top(|c| c.def(format_args!("arith.muli {t}, {v} overflow<nsw> : i64"))),
                            None => v,
                        });
                    }
                    let t = match t {
                        Some(t) => t,
                        None => self.c.i64(1),
                    };
                    sum = Some(match sum {
                        Some(s) => self.c.at_top(|c| c.def(format_args!("arith.addi {s}, {t} overflow<nsw> : i64"))),
                        None => t,
                    });
                }
                match sum {
                    Some(s) => s,
                    None => self.c.i64(0),
                }
            }
        };
        self.dims.insert(e.clone(), v.clone());
        Ok(v)
    }
    fn atom(&mut self, a: &Atom) -> Result<String, Fault> {
        let (op, x, y) = match a {
            Atom::Sym(s) => {
                return self.syms.get(&**s).cloned().ok_or_else(|| format!("`{s}` is no symbol of the kernel"));
            }
            Atom::Div(x, y) => ("floordivsi", x, y),
            Atom::Ceil(x, y) => ("ceildivsi", x, y),
            Atom::Mod(x, y) => ("mod", x, y),
            Atom::Min(x, y) => ("minsi", x, y),
            Atom::Max(x, y) => ("maxsi", x, y),
        };
        let range = |n: &str| self.k.sym(n).map(|s| (s.lo, s.hi));
        let (natural, positive) = (x.bounds(&range).0 >= 0, y.bounds(&range).0 > 0);
        let (x, y) = (self.dim(x)?, self.dim(y)?);
        Ok(self.c.at_top(|c| division(c, op, natural, positive, &x, &y)))
    }
    /// A launch-uniform expression in an integer type that holds it.
    pub(super) fn dim_as(&mut self, e: &SymExpr, d: DType) -> Result<String, Fault> {
        let v = self.dim(e)?;
        match reg_type(&Ty::Scalar(d)).as_str() {
            "i64" => Ok(v),
            t if d.is_int() => Ok(self.c.at_top(|c| c.def(format_args!("arith.trunci {v} : i64 to {t}")))),
            _ => Err(format!("a dim as {d}")),
        }
    }

    pub(super) fn block(&mut self, b: &Block) -> Result<(), Fault> {
        b.iter().try_for_each(|s| self.stmt(*s))
    }

    /// Value of a variable or register that is read whole.
    pub(super) fn place(&mut self, p: &Place) -> Result<String, Fault> {
        let at = self.register(p.var, &p.idx)?;
        match self.regs.get(&p.var).and_then(|r| r.get(at)).cloned().flatten() {
            Some(v) => Ok(v),
            None => Err(format!("`{}` is read before it has a value", self.k.vars[p.var].name)),
        }
    }

    fn stmt(&mut self, id: StmtId) -> Result<(), Fault> {
        let k = self.k;
        let s = &k.stmts[id];
        match s {
            Stmt::Def { var, init } => {
                let v = &k.vars[*var];
                let n = v.arr.iter().product::<u32>().max(1) as usize;
                let value = match init {
                    Some(r) => Some(self.rhs(r, &v.ty)?),
                    None => None,
                };
                self.regs.insert(*var, vec![value; n]);
                Ok(())
            }
            Stmt::Set { place, val } => {
                let ty = k.vars[place.var].ty.clone();
                let v = self.rhs(val, &ty)?;
                let at = self.register(place.var, &place.idx)?;
                let slot = self.regs.get_mut(&place.var).and_then(|r| r.get_mut(at));
                *slot.ok_or_else(|| format!("`{}` is assigned before it is defined", k.vars[place.var].name))? = Some(v);
                Ok(())
            }
            Stmt::Store { to, val, cond } => self.store(to, *val, cond),
            Stmt::Scatter { to, val, cond } => self.scatter(to, *val, cond),
            Stmt::FragStore { to, val, via, .. } if self.lanes.is_none() => self.tile_store(to, val, *via),
            Stmt::For { var, lo, hi, step, kind, body } => self.repeat(*var, *lo, *hi, *step, kind, body),
            Stmt::If { cond, then, els } => self.branch(*cond, then, els),
            Stmt::Prefetch(a) => self.prefetch(a),
            s if self.lanes.is_some() => self.collective(s),
            s if Self::is_silent(s) => Ok(()),
            _ => Err("a statement that only machines with lanes or copy engines have".into()),
        }
    }

    fn rhs(&mut self, r: &Rhs, ty: &Ty) -> Result<String, Fault> {
        match r {
            Rhs::Expr(e) => self.expr(*e),
            Rhs::Load { from, cond, other } => self.load(from, cond, *other),
            Rhs::Gather { from, cond, other } => self.gather(from, cond, *other),
            Rhs::FragLoad { from, via, .. } if self.lanes.is_none() => self.tile_load(from, *via, ty),
            Rhs::Mma { .. } if self.lanes.is_none() => self.mma(r),
            Rhs::Atomic { .. } => self.atomic(r),
            Rhs::Guard { v, lo, hi, code, at } => self.guard(*v, *lo, *hi, *code, *at),
            Rhs::Fill(e) if matches!(ty, Ty::Frag(..)) && self.lanes.is_none() => {
                let zero = self.k.exprs[*e].op == portwright_ir::kernel::Op::Lit(portwright_ir::kernel::Lit::float(0.0))
                    || self.const_int(*e) == Some(0);
                if zero { self.tile_zero(ty) } else { Err("a tile register begins with zeros".into()) }
            }
            _ if self.lanes.is_some() => self.exchanged(r, ty),
            _ => Err("a right side that only machines with lanes or tiles have".into()),
        }
    }

    fn guard(&mut self, v: ExprId, lo: ExprId, hi: ExprId, code: GuardCode, at: ExprId) -> Result<String, Fault> {
        let ty = self.k.exprs[v].ty.clone();
        let at_ty = self.k.exprs[at].ty.clone();
        let (t, wide) = (reg_type(&ty), Ty::Scalar(DType::I64));
        let (v, lo, hi) = (self.expr(v)?, self.expr(lo)?, self.expr(hi)?);
        // One comparison: what lies below the range wraps to beyond its length, and the length is the same for a whole loop. An empty
        // range has no legal value, and a negative one does not occur: both bounds come from one size.
        let from = self.c.def(format_args!("arith.subi {v}, {lo} : {t}"));
        let length = self.c.def(format_args!("arith.subi {hi}, {lo} : {t}"));
        let bad = self.c.def(format_args!("arith.cmpi uge, {from}, {length} : {t}"));
        let x = self.c.fresh();
        self.c.open(format_args!("{x} = scf.if {bad} -> ({t}) {{"));
        let at = self.expr(at)?;
        let (at, value) = (self.cast(&at, &at_ty, &wide, false)?, self.cast(&v, &ty, &wide, false)?);
        let code = self.c.i32(guard_code(code));
        match self.lanes {
            None => self.c.op(format_args!("llvm.call @pw_rt_guard(%status, {code}, {at}, {value}) : (!llvm.ptr, i32, i64, i64) -> ()")),
            Some(_) => self.c.op(format_args!(
                "llvm.call @pw_guard(%status, %launch, {code}, {at}, {value}) : (!llvm.ptr<1>, i64, i32, i64, i64) -> ()"
            )),
        }
        let signed = ty.elem().is_some_and(DType::is_signed_int);
        let (max, min) = if signed { ("maxsi", "minsi") } else { ("maxui", "minui") };
        let one = self.c.constant(&t, "1");
        let last = self.c.def(format_args!("arith.subi {hi}, {one} : {t}"));
        // Where no value is legal the lower bound stands; the run has failed by then.
        let low = self.c.def(format_args!("arith.{min} {v}, {last} : {t}"));
        let clamped = self.c.def(format_args!("arith.{max} {low}, {lo} : {t}"));
        self.c.op(format_args!("scf.yield {clamped} : {t}"));
        self.c.between("} else {");
        self.c.op(format_args!("scf.yield {v} : {t}"));
        self.c.close();
        Ok(x)
    }

    /// Variables that a block assigns and that are defined before it.
    fn assigned(&self, blocks: &[&Block]) -> Vec<VarId> {
        let (mut set, mut own) = (BTreeSet::new(), BTreeSet::new());
        let mut todo: Vec<StmtId> = blocks.iter().flat_map(|b| b.iter().copied()).collect();
        while let Some(s) = todo.pop() {
            match &self.k.stmts[s] {
                Stmt::Def { var, .. } => {
                    own.insert(*var);
                }
                Stmt::Set { place, .. } => {
                    set.insert(place.var);
                }
                Stmt::For { body, .. } | Stmt::Role { body, .. } | Stmt::Each { body, .. } => todo.extend(body),
                Stmt::If { then, els, .. } => todo.extend(then.iter().chain(els)),
                _ => {}
            }
        }
        set.difference(&own).copied().collect()
    }
    /// What a region takes over and hands on: variable, register, type, value before it.
    fn carried(&mut self, vars: &[VarId]) -> Result<Vec<(VarId, usize, Ty, String)>, Fault> {
        let mut out = Vec::new();
        for v in vars {
            let ty = self.k.vars[*v].ty.clone();
            let regs = self.regs.get(v).cloned().ok_or_else(|| format!("`{}` is assigned before it is defined", self.k.vars[*v].name))?;
            for (i, r) in regs.into_iter().enumerate() {
                let value = match r {
                    Some(value) => value,
                    None if matches!(ty, Ty::Frag(..)) && self.lanes.is_none() => self.tile_zero(&ty)?,
                    None => {
                        let t = self.register_type(&ty);
                        self.c.shared(&format!("llvm.mlir.poison : {t}"))
                    }
                };
                out.push((*v, i, ty.clone(), value));
            }
        }
        Ok(out)
    }
    fn write(&mut self, v: VarId, at: usize, value: String) {
        if let Some(slot) = self.regs.get_mut(&v).and_then(|r| r.get_mut(at)) {
            *slot = Some(value);
        }
    }
    fn yield_of(&mut self, carried: &[(VarId, usize, Ty, String)]) {
        if carried.is_empty() {
            return;
        }
        let (mut values, mut types) = (Vec::new(), Vec::new());
        for (v, i, ty, before) in carried {
            let now = self.regs.get(v).and_then(|r| r.get(*i)).cloned().flatten();
            values.push(now.unwrap_or_else(|| before.clone()));
            types.push(self.register_type(ty));
        }
        self.c.op(format_args!("scf.yield {} : {}", values.join(", "), types.join(", ")));
    }
    fn results(&mut self, carried: &[(VarId, usize, Ty, String)], base: &str) {
        for (n, (v, i, ..)) in carried.iter().enumerate() {
            self.write(*v, *i, if carried.len() == 1 { base.to_string() } else { format!("{base}#{n}") });
        }
    }

    fn repeat(&mut self, var: VarId, lo: ExprId, hi: ExprId, step: ExprId, kind: &LoopKind, body: &Block) -> Result<(), Fault> {
        if *kind != LoopKind::Seq || self.k.vars[var].kind == VarKind::Unrolled {
            let values: Vec<i128> = match kind {
                LoopKind::List(l) => l.iter().map(|v| i128::from(*v)).collect(),
                _ => {
                    let bound = |e| self.const_int(e).ok_or("an unrolled loop without constant bounds");
                    let (lo, hi, step) = (bound(lo)?, bound(hi)?, bound(step)?);
                    if step <= 0 || (hi - lo) / step > 4096 {
                        return Err("an unrolled loop of too many steps".into());
                    }
                    (0..).map(|i| lo + i * step).take_while(|v| *v < hi).collect()
                }
            };
            for v in values {
                self.unrolled.insert(var, v);
                self.block(body)?;
            }
            self.unrolled.remove(&var);
            return Ok(());
        }
        let ty = self.k.vars[var].ty.clone();
        let t = reg_type(&ty);
        let (lo, hi, step) = (self.expr(lo)?, self.expr(hi)?, self.expr(step)?);
        let vars = self.assigned(&[body]);
        let carried = self.carried(&vars)?;
        let name = self.k.vars[var].name.clone();
        let i = self.c.named(&name);
        let unsigned = if ty.elem().is_some_and(DType::is_signed_int) { "" } else { "unsigned " };
        if carried.is_empty() {
            self.c.open(format_args!("scf.for {unsigned}{i} = {lo} to {hi} step {step} : {t} {{"));
            self.regs.insert(var, vec![Some(i)]);
            self.block(body)?;
            self.c.close();
            return Ok(());
        }
        let base = self.c.fresh();
        let (mut inits, mut types) = (Vec::new(), Vec::new());
        for (v, at, ty, before) in &carried {
            let name = self.k.vars[*v].name.clone();
            let arg = self.c.named(&name);
            inits.push(format!("{arg} = {before}"));
            types.push(self.register_type(ty));
            self.write(*v, *at, arg);
        }
        let results = if carried.len() == 1 { base.clone() } else { format!("{base}:{}", carried.len()) };
        self.c.open(format_args!(
            "{results} = scf.for {unsigned}{i} = {lo} to {hi} step {step} iter_args({}) -> ({}) : {t} {{",
            inits.join(", "),
            types.join(", ")
        ));
        self.regs.insert(var, vec![Some(i)]);
        self.block(body)?;
        self.yield_of(&carried);
        self.c.close();
        self.results(&carried, &base);
        Ok(())
    }

    fn branch(&mut self, cond: ExprId, then: &Block, els: &Block) -> Result<(), Fault> {
        let c = self.expr(cond)?;
        self.branch_on(&c, then, els)
    }
    /// Two blocks of which one runs, with what they assign carried over.
    pub(super) fn branch_on(&mut self, c: &str, then: &Block, els: &Block) -> Result<(), Fault> {
        let vars = self.assigned(&[then, els]);
        let carried = self.carried(&vars)?;
        let before: BTreeMap<VarId, Vec<Option<String>>> = vars.iter().filter_map(|v| self.regs.get(v).map(|r| (*v, r.clone()))).collect();
        let base = self.c.fresh();
        if carried.is_empty() {
            self.c.open(format_args!("scf.if {c} {{"));
        } else {
            let types: Vec<String> = carried.iter().map(|x| self.register_type(&x.2)).collect();
            let results = if carried.len() == 1 { base.clone() } else { format!("{base}:{}", carried.len()) };
            self.c.open(format_args!("{results} = scf.if {c} -> ({}) {{", types.join(", ")));
        }
        self.block(then)?;
        self.yield_of(&carried);
        if !els.is_empty() || !carried.is_empty() {
            self.c.between("} else {");
            self.regs.extend(before);
            self.block(els)?;
            self.yield_of(&carried);
        }
        self.c.close();
        self.results(&carried, &base);
        Ok(())
    }
}

/// Division and its kin of the plan's and the kernels' symbol arithmetic; `y > 0` unless `positive` is unknown, where the
/// result for other divisors is unspecified but no trap.
pub(super) fn division(c: &mut Code, op: &str, natural: bool, positive: bool, x: &str, y: &str) -> String {
    let y = if positive || matches!(op, "minsi" | "maxsi") {
        y.to_string()
    } else {
        let one = c.i64(1);
        c.def(format_args!("arith.maxsi {y}, {one} : i64"))
    };
    match op {
        "floordivsi" if natural => c.def(format_args!("arith.divui {x}, {y} : i64")),
        "mod" if natural => c.def(format_args!("arith.remui {x}, {y} : i64")),
        "minsi" | "maxsi" => c.def(format_args!("arith.{op} {x}, {y} : i64")),
        "mod" => {
            let r = c.def(format_args!("arith.remsi {x}, {y} : i64"));
            let zero = c.i64(0);
            let neg = c.def(format_args!("arith.cmpi slt, {r}, {zero} : i64"));
            let up = c.def(format_args!("arith.addi {r}, {y} : i64"));
            c.def(format_args!("arith.select {neg}, {up}, {r} : i64"))
        }
        _ => {
            // Toward zero, then one step where the remainder has the other sign.
            let q = c.def(format_args!("arith.divsi {x}, {y} : i64"));
            let r = c.def(format_args!("arith.remsi {x}, {y} : i64"));
            let (zero, one) = (c.i64(0), c.i64(1));
            let (p, step) = if op == "floordivsi" { ("slt", "subi") } else { ("sgt", "addi") };
            let off = c.def(format_args!("arith.cmpi {p}, {r}, {zero} : i64"));
            let next = c.def(format_args!("arith.{step} {q}, {one} : i64"));
            c.def(format_args!("arith.select {off}, {next}, {q} : i64"))
        }
    }
}

/// Whether a kernel can report through its status word.
pub(super) fn reports(k: &Kernel) -> bool {
    k.params.iter().any(|p| matches!(p, Param::Status(_)))
        || k.stmts.values().any(|s| matches!(s, Stmt::Def { init: Some(Rhs::Guard { .. }), .. } | Stmt::Set { val: Rhs::Guard { .. }, .. }))
}
