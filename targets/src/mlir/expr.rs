// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Expressions of Kernel IR as MLIR operations.
//!
//! Registers hold f64, f32 and integers as such, truth values as `i1`, and every smaller float as the integer of its bits:
//! such floats have conversions, loads and stores here, and no arithmetic (rules have taken it through f32).

use std::cmp::Ordering;

use portwright_ir::dtype::{DType, Kind, NanCode};
use portwright_ir::entity::PrimaryMap;
use portwright_ir::kernel::{BinOp, CmpOp, Expr, ExprId, FnId, HOp, Id, Lit, Op, Ty, UnOp, VarId};
use portwright_ir::numerics::encode_f64;

use super::kernel::{Emit, Fault};

/// Where an expression stands: in the kernel, or in a function that is expanded at some number of lanes.
#[derive(Copy, Clone)]
pub(super) enum Scope<'s> {
    /// The kernel's own arena.
    Kernel,
    /// A function's arena, with the values of its variables.
    Fn { f: FnId, vars: &'s [Option<String>], lanes: u16 },
}

/// MLIR's type of one element in a register.
pub(super) fn elem_type(d: DType) -> &'static str {
    match d {
        DType::F64 => "f64",
        DType::F32 => "f32",
        DType::Bool => "i1",
        _ => match d.bits() {
            64 => "i64",
            32 => "i32",
            16 => "i16",
            _ => "i8",
        },
    }
}

/// MLIR's type of one element in memory.
pub(super) fn mem_type(d: DType) -> &'static str {
    if d == DType::Bool { "i8" } else { elem_type(d) }
}

/// Bits of an integer's register.
fn reg_bits(d: DType) -> u32 {
    d.bits().max(8)
}

/// MLIR's vector type, or the element's for one lane that is no vector.
pub(super) fn shaped(elem: &str, ty: &Ty) -> String {
    match ty {
        Ty::Vec(_, n) => format!("vector<{n}x{elem}>"),
        Ty::Frag(..) => "!llvm.x86_amx".into(),
        _ => elem.into(),
    }
}

/// MLIR's type of a register.
pub(super) fn reg_type(ty: &Ty) -> String {
    shaped(ty.elem().map_or("i8", elem_type), ty)
}

/// A float in MLIR's text, exact.
fn float_text(v: f64, d: DType) -> String {
    if !v.is_finite() {
        return if d == DType::F64 { format!("0x{:016X}", v.to_bits()) } else { format!("0x{:08X}", (v as f32).to_bits()) };
    }
    let s = format!("{v:?}");
    match s.split_once('e') {
        Some((m, e)) if !m.contains('.') => format!("{m}.0e{e}"),
        _ => s,
    }
}

impl<'a> Emit<'a> {
    fn arena(&self, s: Scope<'_>) -> &'a PrimaryMap<ExprId, Expr> {
        match s {
            Scope::Kernel => &self.k.exprs,
            Scope::Fn { f, .. } => &self.module.fns[f].exprs,
        }
    }
    fn lift(&self, s: Scope<'_>, ty: &Ty) -> Ty {
        match (s, ty) {
            (Scope::Fn { lanes, .. }, Ty::Scalar(d)) if lanes > 1 => Ty::Vec(*d, lanes),
            _ => ty.clone(),
        }
    }

    /// The integer that an expression is after unrolling, if it is one.
    pub(super) fn const_int(&self, id: ExprId) -> Option<i128> {
        let e = &self.k.exprs[id];
        let arg = |i: usize| e.args.get(i).and_then(|a| self.const_int(*a));
        match &e.op {
            Op::Lit(Lit::Int(v)) => Some(*v),
            Op::Dim(s) => s.as_const().map(i128::from),
            Op::Var(v) => self.unrolled.get(v).copied(),
            Op::Cast if e.ty.elem().is_some_and(DType::is_int) => {
                let v = arg(0)?;
                let (lo, hi) = e.ty.elem()?.int_range()?;
                (lo..=hi).contains(&v).then_some(v)
            }
            Op::Bin(op) => {
                let (a, b) = (arg(0)?, arg(1)?);
                match op {
                    BinOp::Add => a.checked_add(b),
                    BinOp::Sub => a.checked_sub(b),
                    BinOp::Mul => a.checked_mul(b),
                    BinOp::Div if b > 0 && a >= 0 => Some(a / b),
                    BinOp::Rem if b > 0 && a >= 0 => Some(a % b),
                    BinOp::Min => Some(a.min(b)),
                    BinOp::Max => Some(a.max(b)),
                    BinOp::And => Some(a & b),
                    BinOp::Or => Some(a | b),
                    BinOp::Xor => Some(a ^ b),
                    BinOp::Shl if (0..64).contains(&b) => a.checked_mul(1 << b),
                    BinOp::Shr if (0..64).contains(&b) => Some(a >> b),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A constant of every element of a register.
    pub(super) fn splat_const(&mut self, ty: &Ty, literal: &str) -> String {
        let t = reg_type(ty);
        match ty {
            Ty::Vec(..) => self.c.constant(&t, &format!("dense<{literal}>")),
            _ => self.c.constant(&t, literal),
        }
    }
    pub(super) fn int_const(&mut self, ty: &Ty, v: i128) -> String {
        // MLIR reads a decimal literal as signed or unsigned of the type's width; both are taken.
        let text = match ty.elem() {
            Some(DType::Bool) => (if v != 0 { "true" } else { "false" }).to_string(),
            _ => v.to_string(),
        };
        self.splat_const(ty, &text)
    }
    fn float_const(&mut self, ty: &Ty, v: f64) -> String {
        match ty.elem() {
            Some(d @ (DType::F32 | DType::F64)) => self.splat_const(ty, &float_text(v, d)),
            Some(d) => {
                let bits = encode_f64(d, v, false);
                self.splat_const(ty, &bits.to_string())
            }
            None => String::new(),
        }
    }
    /// A scalar in every element of `ty`.
    pub(super) fn splat(&mut self, v: &str, ty: &Ty) -> String {
        match ty {
            Ty::Vec(d, _) => {
                let (e, t) = (elem_type(*d), reg_type(ty));
                self.c.def(format_args!("vector.broadcast {v} : {e} to {t}"))
            }
            _ => v.into(),
        }
    }

    /// Emits an expression of the kernel and returns its value.
    pub(super) fn expr(&mut self, id: ExprId) -> Result<String, Fault> {
        self.expr_in(Scope::Kernel, id)
    }

    fn expr_in(&mut self, s: Scope<'_>, id: ExprId) -> Result<String, Fault> {
        let e = &self.arena(s)[id];
        let ty = self.lift(s, &e.ty);
        if matches!(s, Scope::Kernel)
            && matches!(e.op, Op::Bin(_) | Op::Var(_))
            && ty.elem().is_some_and(DType::is_int)
            && matches!(ty, Ty::Scalar(_))
            && let Some(v) = self.const_int(id)
        {
            return Ok(self.int_const(&ty, v));
        }
        match &e.op {
            Op::Lit(Lit::Int(v)) => return Ok(self.int_const(&ty, *v)),
            Op::Lit(Lit::Float(b)) => return Ok(self.float_const(&ty, f64::from_bits(*b))),
            Op::Dim(d) => {
                let Some(dt) = ty.elem() else { return Err("a dim has no element type".into()) };
                return self.dim_as(d, dt);
            }
            Op::Id(i) => return self.position(*i, &ty),
            Op::Var(v) => return self.read(s, *v, &e.args),
            Op::Splat => {
                match &self.arena(s)[e.args[0]].op {
                    Op::Lit(Lit::Int(v)) => return Ok(self.int_const(&ty, *v)),
                    Op::Lit(Lit::Float(b)) => return Ok(self.float_const(&ty, f64::from_bits(*b))),
                    _ => {}
                }
                let x = self.expr_in(s, e.args[0])?;
                return Ok(self.splat(&x, &ty));
            }
            Op::Iota => {
                let x = self.expr_in(s, e.args[0])?;
                return Ok(self.iota(&x, &ty));
            }
            Op::MaskLt => {
                let from = self.arena(s)[e.args[0]].ty.clone();
                let (a, b) = (self.expr_in(s, e.args[0])?, self.expr_in(s, e.args[1])?);
                return Ok(self.mask_lt(&a, &b, &from, &ty));
            }
            Op::Extract | Op::Insert => return self.element(s, e, &ty),
            Op::At(_) => return Err("an element of a tile has no form on this machine".into()),
            _ => {}
        }
        let mut args = Vec::with_capacity(e.args.len());
        let mut tys = Vec::with_capacity(e.args.len());
        for a in &e.args {
            tys.push(self.lift(s, &self.arena(s)[*a].ty));
            args.push(self.expr_in(s, *a)?);
        }
        match &e.op {
            Op::Un(u) => self.unary(*u, &args[0], &ty),
            Op::Bin(b) => self.binary(*b, &args[0], &args[1], &ty),
            Op::Cmp(c) => Ok(self.compare(*c, &args[0], &args[1], &tys[0])),
            Op::Select => Ok(self.select(&args[0], &tys[0], &args[1], &args[2], &ty)),
            Op::Clamp => {
                let low = self.binary(BinOp::Max, &args[0], &args[1], &ty)?;
                self.binary(BinOp::Min, &low, &args[2], &ty)
            }
            Op::Fma => {
                self.plain(&ty, "fma")?;
                let t = reg_type(&ty);
                Ok(self.c.def(format_args!("llvm.intr.fma({}, {}, {}) : ({t}, {t}, {t}) -> {t}", args[0], args[1], args[2])))
            }
            Op::Cast => self.cast(&args[0], &tys[0], &ty, false),
            Op::CastSat => self.cast(&args[0], &tys[0], &ty, true),
            Op::Bitcast => {
                let (a, b) = (reg_type(&tys[0]), reg_type(&ty));
                if a == b {
                    return Ok(args[0].clone());
                }
                if tys[0].elem() == Some(DType::Bool) || ty.elem() == Some(DType::Bool) {
                    return self.cast(&args[0], &tys[0], &ty, false);
                }
                Ok(self.c.def(format_args!("llvm.bitcast {} : {a} to {b}", args[0])))
            }
            Op::Concat => Ok(self.concat(&args, &tys, &ty)),
            Op::Shufflev(list) => {
                let t = reg_type(&tys[0]);
                let second = args.get(1).cloned().unwrap_or_else(|| args[0].clone());
                if list.len() == 1 {
                    return Err("a shuffle to one element is an extract".into());
                }
                Ok(self.shuffle(&args[0], &second, list.iter().map(|i| i32::from(*i)), &t))
            }
            Op::Hred(h) => self.reduce(*h, &args[0], &tys[0]),
            Op::Dot2 => self.dot2(&args, &tys, &ty),
            Op::Dot4 => self.dot4(&args, &tys, &ty),
            Op::Call(f) => self.call(*f, &args, ty.lanes().unwrap_or(1)),
            _ => Err("an expression without a form on this machine".into()),
        }
    }

    /// Expands a function at that number of lanes.
    fn call(&mut self, f: FnId, args: &[String], lanes: u16) -> Result<String, Fault> {
        let module = self.module;
        let def = module.fns.get(f).ok_or("a call of no function")?;
        let mut vars: Vec<Option<String>> = vec![None; def.vars.len()];
        for (p, a) in def.params.iter().zip(args) {
            vars[portwright_ir::kernel::at(*p)] = Some(a.clone());
        }
        for (v, e) in &def.lets {
            let value = self.expr_in(Scope::Fn { f, vars: &vars, lanes }, *e)?;
            vars[portwright_ir::kernel::at(*v)] = Some(value);
        }
        self.expr_in(Scope::Fn { f, vars: &vars, lanes }, def.result)
    }

    fn read(&mut self, s: Scope<'_>, v: VarId, idx: &[ExprId]) -> Result<String, Fault> {
        match s {
            Scope::Fn { vars, .. } => {
                vars.get(portwright_ir::kernel::at(v)).cloned().flatten().ok_or_else(|| "a function's variable has no value".into())
            }
            Scope::Kernel => {
                if let Some(c) = self.unrolled.get(&v) {
                    let (ty, c) = (self.k.vars[v].ty.clone(), *c);
                    return Ok(self.int_const(&ty, c));
                }
                let at = self.register(v, idx)?;
                match self.regs.get(&v).and_then(|r| r.get(at)).cloned().flatten() {
                    Some(value) => Ok(value),
                    None => Err(format!("`{}` is read before it has a value", self.k.vars[v].name)),
                }
            }
        }
    }
    /// Position of an element in the array of registers of a variable.
    pub(super) fn register(&self, v: VarId, idx: &[ExprId]) -> Result<usize, Fault> {
        let var = &self.k.vars[v];
        let mut at = 0usize;
        for (i, n) in idx.iter().zip(&var.arr) {
            let c = self.const_int(*i).ok_or_else(|| format!("an index of `{}` is not constant after unrolling", var.name))?;
            let c = usize::try_from(c).ok().filter(|c| *c < *n as usize);
            at = at * *n as usize + c.ok_or_else(|| format!("an index of `{}` is out of range", var.name))?;
        }
        Ok(at)
    }

    fn position(&mut self, i: Id, ty: &Ty) -> Result<String, Fault> {
        let v = match i {
            Id::Group(a) => self.group[usize::from(a.min(2))].clone(),
            Id::Grid(a) => self.grid[usize::from(a.min(2))].clone(),
            Id::Lane | Id::Warp | Id::WarpLane => match &self.lanes {
                Some(l) => l.position(i).to_string(),
                None => return Ok(self.int_const(ty, 0)),
            },
        };
        self.narrow(&v, ty.elem().unwrap_or(DType::I64))
    }
    /// An i64 as another integer of a dtype that holds it.
    pub(super) fn narrow(&mut self, v: &str, d: DType) -> Result<String, Fault> {
        match elem_type(d) {
            "i64" => Ok(v.into()),
            t if d.is_int() => Ok(self.c.def(format_args!("arith.trunci {v} : i64 to {t}"))),
            _ => Err(format!("a position as {d}")),
        }
    }

    fn iota(&mut self, base: &str, ty: &Ty) -> String {
        let (t, n) = (reg_type(ty), ty.lanes().unwrap_or(1));
        let b = self.splat(base, ty);
        let steps: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let i = self.c.constant(&t, &format!("dense<[{}]>", steps.join(", ")));
        self.c.def(format_args!("arith.addi {b}, {i} : {t}"))
    }
    /// Element i is `base + i < end`, by comparing positions with the number of elements that are on.
    pub(super) fn mask_lt(&mut self, base: &str, end: &str, from: &Ty, ty: &Ty) -> String {
        let n = ty.lanes().unwrap_or(1);
        let t = reg_type(from);
        let signed = from.elem().is_some_and(DType::is_signed_int);
        if n == 1 {
            let p = if signed { "slt" } else { "ult" };
            return self.c.def(format_args!("arith.cmpi {p}, {base}, {end} : {t}"));
        }
        let left = self.c.def(format_args!("arith.subi {end}, {base} : {t}"));
        let (zero, top) = (self.int_const(from, 0), self.int_const(from, i128::from(n)));
        // A base beyond the end wraps in unsigned types: it is told apart before.
        let p = if signed { "sle" } else { "ule" };
        let none = self.c.def(format_args!("arith.cmpi {p}, {end}, {base} : {t}"));
        let clipped = self.c.def(format_args!("arith.minui {left}, {top} : {t}"));
        let count = self.c.def(format_args!("arith.select {none}, {zero}, {clipped} : {t}"));
        let d = if n <= 16 {
            DType::I32
        } else if n <= 32 {
            DType::I16
        } else {
            DType::I8
        };
        let (small, e) = (Ty::Vec(d, n), elem_type(d));
        let wide = from.elem().unwrap_or(DType::I64);
        let count = match reg_bits(wide).cmp(&reg_bits(d)) {
            Ordering::Equal => count,
            Ordering::Greater => self.c.def(format_args!("arith.trunci {count} : {t} to {e}")),
            Ordering::Less => self.c.def(format_args!("arith.extui {count} : {t} to {e}")),
        };
        let all = self.splat(&count, &small);
        let st = reg_type(&small);
        let steps: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let i = self.c.constant(&st, &format!("dense<[{}]>", steps.join(", ")));
        // 128 and more positions of i8 are right as unsigned numbers.
        self.c.def(format_args!("arith.cmpi ult, {i}, {all} : {st}"))
    }

    fn element(&mut self, s: Scope<'_>, e: &Expr, ty: &Ty) -> Result<String, Fault> {
        if !matches!(s, Scope::Kernel) {
            return Err("an element of a vector inside a function".into());
        }
        let i = self.const_int(e.args[1]).ok_or("the position of an element is not constant after unrolling")?;
        let n = self.k.exprs[e.args[0]].ty.lanes().unwrap_or(1);
        if i < 0 || i >= i128::from(n) {
            return Err(format!("element {i} of a vector of {n}"));
        }
        let t = reg_type(&self.k.exprs[e.args[0]].ty);
        let v = self.expr(e.args[0])?;
        let at = self.c.i64(i as i64);
        Ok(match e.op {
            Op::Extract => self.c.def(format_args!("llvm.extractelement {v}[{at} : i64] : {t}")),
            _ => {
                let x = self.expr(e.args[2])?;
                self.c.def(format_args!("llvm.insertelement {x}, {v}[{at} : i64] : {}", reg_type(ty)))
            }
        })
    }

    /// Elements of two equal vectors by position.
    pub(super) fn shuffle(&mut self, a: &str, b: &str, list: impl Iterator<Item = i32>, t: &str) -> String {
        let list: Vec<String> = list.map(|i| i.to_string()).collect();
        self.c.def(format_args!("llvm.shufflevector {a}, {b} [{}] : {t}", list.join(", ")))
    }
    fn concat(&mut self, args: &[String], tys: &[Ty], ty: &Ty) -> String {
        let (n, m) = (i32::from(tys[0].lanes().unwrap_or(1)), i32::from(tys[1].lanes().unwrap_or(1)));
        let d = ty.elem().unwrap_or(DType::I8);
        // Shuffles take equal vectors: a scalar is one, a shorter vector is widened by undefined elements.
        let wide = n.max(m);
        let widened = |this: &mut Self, v: &str, k: i32| {
            if k == wide && wide > 1 {
                return v.to_string();
            }
            let t = format!("vector<{}x{}>", k, elem_type(d));
            let v = if k == 1 { this.c.def(format_args!("vector.broadcast {v} : {} to {t}", elem_type(d))) } else { v.into() };
            if wide == 1 {
                return v;
            }
            let u = this.c.shared(&format!("llvm.mlir.poison : {t}"));
            this.shuffle(&v, &u, (0..wide).map(|i| if i < k { i } else { -1 }), &t)
        };
        let (a, b) = (widened(self, &args[0], n), widened(self, &args[1], m));
        let t = format!("vector<{}x{}>", wide, elem_type(d));
        self.shuffle(&a, &b, (0..n).chain(wide..wide + m), &t)
    }

    fn reduce(&mut self, h: HOp, v: &str, ty: &Ty) -> Result<String, Fault> {
        let (d, mut n) = (ty.elem().ok_or("a reduction of no vector")?, ty.lanes().unwrap_or(1));
        let op = match (h, d == DType::Bool) {
            (HOp::Sum, _) => BinOp::Add,
            (HOp::Prod, _) => BinOp::Mul,
            (HOp::Max, _) => BinOp::Max,
            (HOp::Min, _) => BinOp::Min,
            (HOp::And, _) => BinOp::And,
            (HOp::Or, _) => BinOp::Or,
        };
        if d == DType::Bool && n > 1 && matches!(op, BinOp::And | BinOp::Or) {
            // One test of a register of flags on every machine, where the tree below would move single bits.
            let name = if op == BinOp::And { "and" } else { "or" };
            return Ok(self.c.def(format_args!("\"llvm.intr.vector.reduce.{name}\"({v}) : (vector<{n}xi1>) -> i1")));
        }
        let mut v = v.to_string();
        while n > 1 {
            let (t, half) = (format!("vector<{n}x{}>", elem_type(d)), i32::from(n / 2));
            if n == 2 {
                let (zero, one) = (self.c.i64(0), self.c.i64(1));
                let a = self.c.def(format_args!("llvm.extractelement {v}[{zero} : i64] : {t}"));
                let b = self.c.def(format_args!("llvm.extractelement {v}[{one} : i64] : {t}"));
                return self.binary(op, &a, &b, &Ty::Scalar(d));
            }
            let a = self.shuffle(&v, &v, 0..half, &t);
            let b = self.shuffle(&v, &v, half..2 * half, &t);
            n /= 2;
            v = self.binary(op, &a, &b, &Ty::Vec(d, n))?;
        }
        Ok(v)
    }

    /// Whether arithmetic of the type is written as such; smaller floats were taken through f32 by a rule.
    fn plain(&self, ty: &Ty, what: &str) -> Result<(), Fault> {
        match ty.elem() {
            Some(DType::F32 | DType::F64 | DType::Bool) => Ok(()),
            Some(d) if d.is_int() && d.bits() >= 8 => Ok(()),
            Some(d) => Err(format!("`{what}` of {d} is no operation of this machine")),
            None => Err(format!("`{what}` of a matrix fragment")),
        }
    }

    fn unary(&mut self, u: UnOp, x: &str, ty: &Ty) -> Result<String, Fault> {
        let t = reg_type(ty);
        let d = ty.elem().unwrap_or(DType::F32);
        if let (UnOp::Neg | UnOp::Abs, Some(f)) = (u, d.float_format())
            && d.bits() < 32
            && f.signed
            && f.nan != NanCode::NegativeZero
        {
            let sign = 1i128 << (f.exponent_bits + f.mantissa_bits);
            let (op, m) = if u == UnOp::Neg { ("xori", sign) } else { ("andi", sign - 1) };
            let m = self.splat_const(ty, &m.to_string());
            return Ok(self.c.def(format_args!("arith.{op} {x}, {m} : {t}")));
        }
        self.plain(ty, u.name())?;
        let intr = |this: &mut Self, name: &str| this.c.def(format_args!("llvm.intr.{name}({x}) : ({t}) -> {t}"));
        let float = d.is_float();
        Ok(match u {
            UnOp::Neg if float => self.c.def(format_args!("arith.negf {x} : {t}")),
            UnOp::Neg => {
                let zero = self.int_const(ty, 0);
                self.c.def(format_args!("arith.subi {zero}, {x} : {t}"))
            }
            UnOp::Not => {
                let ones = if d == DType::Bool { self.int_const(ty, 1) } else { self.splat_const(ty, "-1") };
                self.c.def(format_args!("arith.xori {x}, {ones} : {t}"))
            }
            UnOp::Abs if float => intr(self, "fabs"),
            UnOp::Abs if d.is_signed_int() => {
                let zero = self.int_const(ty, 0);
                let minus = self.c.def(format_args!("arith.subi {zero}, {x} : {t}"));
                self.c.def(format_args!("arith.maxsi {x}, {minus} : {t}"))
            }
            UnOp::Abs => x.into(),
            UnOp::Sqrt => intr(self, "sqrt"),
            UnOp::Floor => intr(self, "floor"),
            UnOp::Ceil => intr(self, "ceil"),
            UnOp::Rint => intr(self, "roundeven"),
            UnOp::Trunc => intr(self, "trunc"),
            UnOp::Rcp | UnOp::Rsqrt => {
                let y = if u == UnOp::Rsqrt { intr(self, "sqrt") } else { x.to_string() };
                let one = self.float_const(ty, 1.0);
                self.c.def(format_args!("arith.divf {one}, {y} : {t}"))
            }
            _ => return Err(format!("`{}` was not expanded", u.name())),
        })
    }

    pub(super) fn binary(&mut self, b: BinOp, x: &str, y: &str, ty: &Ty) -> Result<String, Fault> {
        self.plain(ty, b.name())?;
        let t = reg_type(ty);
        let d = ty.elem().unwrap_or(DType::F32);
        let (float, signed) = (d.is_float(), d.is_signed_int());
        // Index arithmetic does not wrap, by the rules of Kernel IR; it is what address folding lives from.
        let flags = match (ty, d) {
            (Ty::Scalar(_), DType::I64 | DType::I32) => " overflow<nsw>",
            _ => "",
        };
        let op = |this: &mut Self, name: &str| this.c.def(format_args!("arith.{name} {x}, {y} : {t}"));
        let indexed = |this: &mut Self, name: &str| this.c.def(format_args!("arith.{name} {x}, {y}{flags} : {t}"));
        Ok(match b {
            BinOp::Add if float => op(self, "addf"),
            BinOp::Sub if float => op(self, "subf"),
            BinOp::Mul if float => op(self, "mulf"),
            BinOp::Div if float => op(self, "divf"),
            BinOp::Add => indexed(self, "addi"),
            BinOp::Sub => indexed(self, "subi"),
            BinOp::Mul => indexed(self, "muli"),
            BinOp::AddW => op(self, "addi"),
            BinOp::SubW => op(self, "subi"),
            BinOp::MulW => op(self, "muli"),
            // Both are >= 0, so the unsigned forms are the same numbers, and have no trap for the smallest by -1.
            BinOp::Div => op(self, "divui"),
            BinOp::Rem => op(self, "remui"),
            BinOp::TDiv | BinOp::TRem if float => return Err(format!("`{}` was not expanded", b.name())),
            BinOp::TDiv | BinOp::TRem => self.signed_division(b, x, y, ty),
            BinOp::And => op(self, "andi"),
            BinOp::Or => op(self, "ori"),
            BinOp::Xor => op(self, "xori"),
            BinOp::Shl => op(self, "shli"),
            BinOp::Shr => op(self, if signed { "shrsi" } else { "shrui" }),
            BinOp::Min | BinOp::Max if float && !self.ordered_extremes(ty) && !self.c.is_constant(x) && !self.c.is_constant(y) => {
                self.extreme(b, x, y, ty)
            }
            BinOp::Min | BinOp::Max if float => {
                let name = if b == BinOp::Min { "minimum" } else { "maximum" };
                self.c.def(format_args!("llvm.intr.{name}({x}, {y}) : ({t}, {t}) -> {t}"))
            }
            BinOp::Min => op(self, if signed { "minsi" } else { "minui" }),
            BinOp::Max => op(self, if signed { "maxsi" } else { "maxui" }),
            BinOp::MinNum | BinOp::MaxNum => {
                let p = if b == BinOp::MinNum { "olt" } else { "ogt" };
                let c = self.c.def(format_args!("arith.cmpf {p}, {x}, {y} : {t}"));
                let m = self.choose(&c, x, y, ty);
                let nan = self.c.def(format_args!("arith.cmpf uno, {y}, {y} : {t}"));
                self.choose(&nan, x, &m, ty)
            }
            BinOp::Pow | BinOp::Atan2 => return Err(format!("`{}` was not expanded", b.name())),
        })
    }
    /// The smaller or larger of two floats, NaN if either is, -0 below +0. Both orders of the comparison differ only in which
    /// zero they give, and the bits of both together are the right one: a shorter chain than ordering the zeros first.
    fn extreme(&mut self, b: BinOp, x: &str, y: &str, ty: &Ty) -> String {
        let (t, bits) = (reg_type(ty), ty.with_elem(if ty.elem() == Some(DType::F64) { DType::I64 } else { DType::I32 }));
        let tb = reg_type(&bits);
        let (p, op) = if b == BinOp::Min { ("olt", "ori") } else { ("ogt", "andi") };
        let one = |this: &mut Self, x: &str, y: &str| {
            let c = this.c.def(format_args!("arith.cmpf {p}, {x}, {y} : {t}"));
            let m = this.choose(&c, x, y, ty);
            this.c.def(format_args!("llvm.bitcast {m} : {t} to {tb}"))
        };
        let (m, n) = (one(self, x, y), one(self, y, x));
        let v = self.c.def(format_args!("arith.{op} {m}, {n} : {tb}"));
        let v = self.c.def(format_args!("llvm.bitcast {v} : {tb} to {t}"));
        let either = self.c.def(format_args!("arith.cmpf uno, {x}, {y} : {t}"));
        let nan = self.float_const(ty, f64::NAN);
        self.choose(&either, &nan, &v, ty)
    }
    /// Division toward zero with the stated results where the machine would trap.
    fn signed_division(&mut self, b: BinOp, x: &str, y: &str, ty: &Ty) -> String {
        let t = reg_type(ty);
        let signed = ty.elem().is_some_and(DType::is_signed_int);
        let (zero, one) = (self.int_const(ty, 0), self.int_const(ty, 1));
        let is_zero = self.c.def(format_args!("arith.cmpi eq, {y}, {zero} : {t}"));
        let div = b == BinOp::TDiv;
        if !signed {
            let safe = self.choose(&is_zero, &one, y, ty);
            return self.c.def(format_args!("arith.{} {x}, {safe} : {t}", if div { "divui" } else { "remui" }));
        }
        let minus = self.splat_const(ty, "-1");
        let is_minus = self.c.def(format_args!("arith.cmpi eq, {y}, {minus} : {t}"));
        let safe = self.choose(&is_zero, &one, y, ty);
        let safe = self.choose(&is_minus, &one, &safe, ty);
        let q = self.c.def(format_args!("arith.{} {x}, {safe} : {t}", if div { "divsi" } else { "remsi" }));
        if !div {
            // A remainder by 1 is 0, and so is one by -1.
            return q;
        }
        let neg = self.c.def(format_args!("arith.subi {zero}, {x} : {t}"));
        self.choose(&is_minus, &neg, &q, ty)
    }

    pub(super) fn compare(&mut self, c: CmpOp, x: &str, y: &str, ty: &Ty) -> String {
        let t = reg_type(ty);
        let d = ty.elem().unwrap_or(DType::I64);
        let (float, signed) = (d.is_float() && d.bits() >= 32, d.is_signed_int());
        let p = match (c, float, signed) {
            (CmpOp::Eq, true, _) => "oeq",
            (CmpOp::Ne, true, _) => "une",
            (CmpOp::Lt, true, _) => "olt",
            (CmpOp::Le, true, _) => "ole",
            (CmpOp::Gt, true, _) => "ogt",
            (CmpOp::Ge, true, _) => "oge",
            (CmpOp::Eq, ..) => "eq",
            (CmpOp::Ne, ..) => "ne",
            (CmpOp::Lt, _, true) => "slt",
            (CmpOp::Le, _, true) => "sle",
            (CmpOp::Gt, _, true) => "sgt",
            (CmpOp::Ge, _, true) => "sge",
            (CmpOp::Lt, ..) => "ult",
            (CmpOp::Le, ..) => "ule",
            (CmpOp::Gt, ..) => "ugt",
            (CmpOp::Ge, ..) => "uge",
        };
        let kind = if float { "cmpf" } else { "cmpi" };
        self.c.def(format_args!("arith.{kind} {p}, {x}, {y} : {t}"))
    }
    /// `a` where the condition of the same number of elements holds.
    pub(super) fn choose(&mut self, c: &str, a: &str, b: &str, ty: &Ty) -> String {
        let mask = ty.with_elem(DType::Bool);
        self.select(c, &mask, a, b, ty)
    }
    fn select(&mut self, c: &str, cty: &Ty, a: &str, b: &str, ty: &Ty) -> String {
        let t = reg_type(ty);
        match (cty, ty) {
            (Ty::Vec(..), Ty::Vec(..)) => {
                let m = reg_type(cty);
                self.c.def(format_args!("arith.select {c}, {a}, {b} : {m}, {t}"))
            }
            _ => self.c.def(format_args!("arith.select {c}, {a}, {b} : {t}")),
        }
    }

    /// Conversion of numbers; see [`Op::Cast`] and [`Op::CastSat`].
    pub(super) fn cast(&mut self, x: &str, from: &Ty, to: &Ty, saturate: bool) -> Result<String, Fault> {
        let (a, b) = (from.elem().ok_or("a cast of a fragment")?, to.elem().ok_or("a cast to a fragment")?);
        if a == b {
            return Ok(x.into());
        }
        let (ta, tb) = (reg_type(from), reg_type(to));
        let conv = |this: &mut Self, op: &str| this.c.def(format_args!("arith.{op} {x} : {ta} to {tb}"));
        let wide = |d: DType| matches!(d, DType::F32 | DType::F64);
        match (a.kind(), b.kind()) {
            (_, Kind::Bool) if a.is_int() || wide(a) => {
                let zero = if a.is_int() { self.int_const(from, 0) } else { self.float_const(from, 0.0) };
                Ok(self.compare(CmpOp::Ne, x, &zero, from))
            }
            (Kind::Bool, Kind::Signed | Kind::Unsigned) => Ok(conv(self, "extui")),
            (Kind::Bool, Kind::Float) if wide(b) => Ok(conv(self, "uitofp")),
            (Kind::Signed | Kind::Unsigned, Kind::Signed | Kind::Unsigned) => Ok(self.cast_int(x, from, to, saturate)),
            (Kind::Signed, Kind::Float) if wide(b) => Ok(conv(self, "sitofp")),
            (Kind::Unsigned, Kind::Float) if wide(b) => Ok(conv(self, "uitofp")),
            (Kind::Float, Kind::Signed | Kind::Unsigned) if wide(a) => Ok(self.float_to_int(x, from, to)),
            (Kind::Float, Kind::Float) => self.cast_float(x, from, to, saturate),
            _ => Err(format!("a conversion from {a} to {b} was not expanded")),
        }
    }
    fn cast_int(&mut self, x: &str, from: &Ty, to: &Ty, saturate: bool) -> String {
        let (a, b) = (from.elem().unwrap_or(DType::I64), to.elem().unwrap_or(DType::I64));
        let (ta, tb) = (reg_type(from), reg_type(to));
        let mut x = x.to_string();
        if saturate && let (Some((alo, ahi)), Some((blo, bhi))) = (a.int_range(), b.int_range()) {
            let (max, min) = if a.is_signed_int() { ("maxsi", "minsi") } else { ("maxui", "minui") };
            for (op, limit, needed) in [(max, blo, alo < blo), (min, bhi, ahi > bhi)] {
                if needed {
                    let l = self.int_const(from, limit);
                    x = self.c.def(format_args!("arith.{op} {x}, {l} : {ta}"));
                }
            }
        }
        match reg_bits(a).cmp(&reg_bits(b)) {
            Ordering::Equal => {}
            Ordering::Greater => x = self.c.def(format_args!("arith.trunci {x} : {ta} to {tb}")),
            Ordering::Less => {
                let op = if a.is_signed_int() { "extsi" } else { "extui" };
                x = self.c.def(format_args!("arith.{op} {x} : {ta} to {tb}"));
            }
        }
        if b.bits() >= 8 {
            return x;
        }
        // A type under a byte keeps its value, extended, in a byte.
        let by = self.int_const(to, i128::from(8 - b.bits()));
        let up = self.c.def(format_args!("arith.shli {x}, {by} : {tb}"));
        let op = if b.is_signed_int() { "shrsi" } else { "shrui" };
        self.c.def(format_args!("arith.{op} {up}, {by} : {tb}"))
    }
    /// Toward zero, to the nearest number there is beyond the range, and 0 for NaN.
    fn float_to_int(&mut self, x: &str, from: &Ty, to: &Ty) -> String {
        let (ta, tb) = (reg_type(from), reg_type(to));
        let d = to.elem().unwrap_or(DType::I64);
        let signed = d.is_signed_int();
        if d.bits() >= 32 {
            let op = if signed { "fptosi" } else { "fptoui" };
            let part = |t: &Ty, d: &str| match t {
                Ty::Vec(_, n) => format!("v{n}{d}"),
                _ => d.to_string(),
            };
            let name = format!("llvm.{op}.sat.{}.{}", part(to, elem_type(d)), part(from, elem_type(from.elem().unwrap_or(DType::F32))));
            return self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({x}) : ({ta}) -> {tb}"));
        }
        // Narrow limits are exact floats: clipping there first keeps whole vectors in registers.
        let (lo, hi) = d.int_range().unwrap_or((0, 0));
        let (lo, hi, zero) = (self.float_const(from, lo as f64), self.float_const(from, hi as f64), self.float_const(from, 0.0));
        let nan = self.c.def(format_args!("arith.cmpf uno, {x}, {x} : {ta}"));
        let x = self.choose(&nan, &zero, x, from);
        let below = self.c.def(format_args!("arith.cmpf olt, {x}, {lo} : {ta}"));
        let x = self.choose(&below, &lo, &x, from);
        let above = self.c.def(format_args!("arith.cmpf ogt, {x}, {hi} : {ta}"));
        let x = self.choose(&above, &hi, &x, from);
        let wide = to.with_elem(DType::I32);
        let tw = reg_type(&wide);
        let i = self.c.def(format_args!("arith.fptosi {x} : {ta} to {tw}"));
        self.c.def(format_args!("arith.trunci {i} : {tw} to {tb}"))
    }
    fn cast_float(&mut self, x: &str, from: &Ty, to: &Ty, saturate: bool) -> Result<String, Fault> {
        let (a, b) = (from.elem().unwrap_or(DType::F32), to.elem().unwrap_or(DType::F32));
        let (ta, tb) = (reg_type(from), reg_type(to));
        let half = |t: &Ty| shaped("f16", t);
        match (a, b) {
            (DType::F32, DType::F64) => Ok(self.c.def(format_args!("arith.extf {x} : {ta} to {tb}"))),
            (DType::F64, DType::F32) => {
                let y = self.c.def(format_args!("arith.truncf {x} : {ta} to {tb}"));
                if !saturate {
                    return Ok(y);
                }
                let (lo, hi) = (self.float_const(to, -f64::from(f32::MAX)), self.float_const(to, f64::from(f32::MAX)));
                let y = self.binary(BinOp::Max, &y, &lo, to)?;
                self.binary(BinOp::Min, &y, &hi, to)
            }
            (DType::F16, DType::F32 | DType::F64) => {
                let h = self.c.def(format_args!("llvm.bitcast {x} : {ta} to {}", half(from)));
                let f = from.with_elem(DType::F32);
                let y = self.c.def(format_args!("arith.extf {h} : {} to {}", half(from), reg_type(&f)));
                self.cast(&y, &f, to, false)
            }
            (DType::F32, DType::F16) => {
                let x = if saturate {
                    let (lo, hi) = (self.float_const(from, -65504.0), self.float_const(from, 65504.0));
                    let x = self.binary(BinOp::Max, x, &lo, from)?;
                    self.binary(BinOp::Min, &x, &hi, from)?
                } else {
                    x.to_string()
                };
                let h = self.c.def(format_args!("arith.truncf {x} : {ta} to {}", half(to)));
                Ok(self.c.def(format_args!("llvm.bitcast {h} : {} to {tb}", half(to))))
            }
            (DType::BF16, DType::F32 | DType::F64) => {
                let (w, f) = (from.with_elem(DType::I32), from.with_elem(DType::F32));
                let (tw, tf) = (reg_type(&w), reg_type(&f));
                let x = self.c.def(format_args!("arith.extui {x} : {ta} to {tw}"));
                let by = self.int_const(&w, 16);
                let x = self.c.def(format_args!("arith.shli {x}, {by} : {tw}"));
                let y = self.c.def(format_args!("llvm.bitcast {x} : {tw} to {tf}"));
                self.cast(&y, &f, to, false)
            }
            _ => Err(format!("a conversion from {a} to {b} was not expanded")),
        }
    }
}
