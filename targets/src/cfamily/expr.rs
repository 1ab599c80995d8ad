// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Expressions of Kernel IR as expressions of C++: trees stay trees, with as few parentheses as C++ needs.
//!
//! Registers hold f64, f32, integers and truth values as such, every smaller float as the unsigned integer of its bits, and numbers under a
//! byte extended in a byte. What C++ leaves open or defines otherwise is a function of `lanes.h`.

use portwright_ir::dtype::{DType, Kind, NanCode};
use portwright_ir::entity::PrimaryMap;
use portwright_ir::kernel::{BinOp, CmpOp, Expr, ExprId, FnId, HOp, Id, Lit, Op, Ty, UnOp, VarId};
use portwright_ir::numerics::encode_f64;

use super::dialect::fill;
use super::kernel::{Emit, Fault};

/// How tightly an expression binds, from the loosest.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Prec {
    Choice,
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Equal,
    Order,
    Shift,
    Sum,
    Product,
    Unary,
    Whole,
}

/// An expression's text.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub text: String,
    pub prec: Prec,
    /// Whether it is made of literals whose C++ type may be another one than that of the expression.
    pub loose: bool,
}

impl Text {
    pub fn whole(text: impl Into<String>) -> Text {
        Text { text: text.into(), prec: Prec::Whole, loose: false }
    }
    pub fn of(prec: Prec, text: impl Into<String>) -> Text {
        Text { text: text.into(), prec, loose: false }
    }
    /// The text where something that binds at least so tightly is wanted.
    pub fn at(&self, prec: Prec) -> String {
        if self.prec >= prec { self.text.clone() } else { format!("({})", self.text) }
    }
}

/// Where an expression stands: in the kernel, or in a function.
#[derive(Copy, Clone)]
pub(super) enum Scope<'s> {
    Kernel,
    Fn { f: FnId, vars: &'s [String] },
}

/// C++'s type of an element in a register.
pub(super) fn elem(d: DType) -> &'static str {
    match (d, d.is_signed_int(), d.bits()) {
        (DType::F64, ..) => "double",
        (DType::F32, ..) => "float",
        (DType::Bool, ..) => "bool",
        (_, true, 64) => "int64_t",
        (_, true, 32) => "int32_t",
        (_, true, 16) => "int16_t",
        (_, true, _) => "int8_t",
        (_, false, 64) => "uint64_t",
        (_, false, 32) => "uint32_t",
        (_, false, 16) => "uint16_t",
        (_, false, _) => "uint8_t",
    }
}

/// C++'s type of an element in memory.
pub(super) fn stored(d: DType) -> &'static str {
    if d == DType::Bool { "uint8_t" } else { elem(d) }
}

/// C++'s type of a register of `n` elements that are no fragment.
pub(super) fn shaped(e: &str, ty: &Ty) -> String {
    match ty {
        Ty::Vec(_, n) => format!("pw_vec<{e}, {n}>"),
        _ => e.into(),
    }
}

pub(super) fn register(ty: &Ty) -> String {
    shaped(ty.elem().map_or("uint8_t", elem), ty)
}

/// A float as a literal, exact.
fn float(v: f64, d: DType) -> Text {
    let single = d == DType::F32;
    if !v.is_finite() {
        return Text::whole(match single {
            true => format!("pw_bits<float>(0x{:08x}u)", (v as f32).to_bits()),
            false => format!("pw_bits<double>((uint64_t)0x{:016x}ull)", v.to_bits()),
        });
    }
    let s = if single { format!("{:?}f", v as f32) } else { format!("{v:?}") };
    Text::of(if s.starts_with('-') { Prec::Unary } else { Prec::Whole }, s)
}

/// An integer as a literal.
fn integer(v: i128, d: DType) -> Text {
    let text = match d {
        DType::Bool => (if v != 0 { "true" } else { "false" }).to_string(),
        DType::U64 => format!("UINT64_C({v})"),
        DType::U32 => format!("{v}u"),
        DType::I64 if v == i128::from(i64::MIN) => return Text::whole("INT64_MIN"),
        DType::I32 if v == i128::from(i32::MIN) => return Text::whole("INT32_MIN"),
        DType::I64 if i32::try_from(v).is_err() => format!("INT64_C({v})"),
        _ => v.to_string(),
    };
    let prec = if v < 0 { Prec::Unary } else { Prec::Whole };
    Text { text, prec, loose: !matches!(d, DType::I32 | DType::Bool | DType::U32) }
}

impl<'a> Emit<'a> {
    fn arena(&self, s: Scope<'_>) -> &'a PrimaryMap<ExprId, Expr> {
        match s {
            Scope::Kernel => &self.k.exprs,
            Scope::Fn { f, .. } => &self.module.fns[f].exprs,
        }
    }

    /// The integer that an expression is, if it is a constant one.
    pub(super) fn const_int(&self, id: ExprId) -> Option<i128> {
        let e = &self.k.exprs[id];
        match &e.op {
            Op::Lit(Lit::Int(v)) => Some(*v),
            Op::Dim(s) => s.as_const().map(i128::from),
            Op::Var(v) => self.listed.get(v).copied(),
            _ => None,
        }
    }

    /// An expression of the kernel.
    pub(super) fn expr(&mut self, id: ExprId) -> Result<Text, Fault> {
        self.expr_in(Scope::Kernel, id)
    }
    /// As [`Emit::expr`], of exactly its type, so that C++ takes it for an argument of a template.
    pub(super) fn arg(&mut self, id: ExprId) -> Result<String, Fault> {
        self.arg_in(Scope::Kernel, id)
    }
    fn arg_in(&mut self, s: Scope<'_>, id: ExprId) -> Result<String, Fault> {
        let v = self.expr_in(s, id)?;
        let ty = &self.arena(s)[id].ty;
        Ok(exact(&v, ty))
    }

    pub(super) fn expr_in(&mut self, s: Scope<'_>, id: ExprId) -> Result<Text, Fault> {
        let e = &self.arena(s)[id];
        let ty = e.ty.clone();
        let d = ty.elem().ok_or("an expression of a matrix fragment")?;
        let arena = self.arena(s);
        let of = |i: usize| arena[e.args[i]].ty.clone();
        match &e.op {
            Op::Lit(Lit::Int(v)) => return Ok(integer(*v, d)),
            Op::Lit(Lit::Float(b)) => {
                let v = f64::from_bits(*b);
                return Ok(match d {
                    DType::F32 | DType::F64 => float(v, d),
                    _ => Text { text: format!("0x{:x}", encode_f64(d, v, false)), prec: Prec::Whole, loose: true },
                });
            }
            Op::Dim(v) => {
                let v = self.dim(v)?;
                return Ok(self.narrowed(v, d));
            }
            Op::Id(i) => return self.position(*i, d),
            Op::Var(v) => return self.read(s, *v, &e.args),
            Op::Splat => {
                let x = self.arg_in(s, e.args[0])?;
                return Ok(Text::whole(format!("pw_splat<{}, {}>({x})", elem(d), ty.lanes().unwrap_or(1))));
            }
            Op::Iota => {
                let x = self.arg_in(s, e.args[0])?;
                return Ok(Text::whole(format!("pw_iota<{}, {}>({x})", elem(d), ty.lanes().unwrap_or(1))));
            }
            Op::MaskLt => {
                let (a, b) = (self.arg_in(s, e.args[0])?, self.arg_in(s, e.args[1])?);
                return Ok(match ty.lanes() {
                    Some(n) if n > 1 => Text::whole(format!("pw_mask_below<{n}>({a}, {b})")),
                    _ => Text::of(Prec::Order, format!("{a} < {b}")),
                });
            }
            Op::Extract => {
                let (v, i) = (self.expr_in(s, e.args[0])?, self.expr_in(s, e.args[1])?);
                return Ok(Text::whole(format!("{}[{}]", v.at(Prec::Whole), i.text)));
            }
            Op::Insert => {
                let (v, i, x) = (self.expr_in(s, e.args[0])?, self.expr_in(s, e.args[1])?, self.arg_in(s, e.args[2])?);
                return Ok(Text::whole(format!("pw_insert({}, {}, {x})", v.text, i.text)));
            }
            Op::Un(u) => {
                let x = self.expr_in(s, e.args[0])?;
                return unary(*u, &x, &ty);
            }
            Op::Bin(b) => {
                let (x, y) = (self.expr_in(s, e.args[0])?, self.expr_in(s, e.args[1])?);
                return binary(*b, &x, &y, &ty);
            }
            Op::Cmp(c) => {
                let (x, y) = (self.expr_in(s, e.args[0])?, self.expr_in(s, e.args[1])?);
                let prec = if matches!(c, CmpOp::Eq | CmpOp::Ne) { Prec::Equal } else { Prec::Order };
                let tighter = if prec == Prec::Equal { Prec::Order } else { Prec::Shift };
                return Ok(Text::of(prec, format!("{} {} {}", x.at(tighter), c.name(), y.at(tighter))));
            }
            Op::Select => {
                let c = self.expr_in(s, e.args[0])?;
                if matches!(of(0), Ty::Vec(..)) && matches!(ty, Ty::Vec(..)) {
                    let (a, b) = (self.arg_in(s, e.args[1])?, self.arg_in(s, e.args[2])?);
                    return Ok(Text::whole(format!("pw_select({}, {a}, {b})", c.text)));
                }
                let (a, b) = (self.expr_in(s, e.args[1])?, self.expr_in(s, e.args[2])?);
                let text = format!("{} ? {} : {}", c.at(Prec::Or), a.at(Prec::Or), b.at(Prec::Or));
                return Ok(Text { text, prec: Prec::Choice, loose: a.loose || b.loose });
            }
            _ => {}
        }
        let mut args = Vec::with_capacity(e.args.len());
        for a in &e.args {
            args.push(self.arg_in(s, *a)?);
        }
        let x = args.first().cloned().unwrap_or_default();
        Ok(match &e.op {
            Op::Clamp => Text::whole(format!("pw_min(pw_max({x}, {}), {})", args[1], args[2])),
            Op::Fma => {
                plain(&ty, "fma")?;
                Text::whole(match &ty {
                    Ty::Scalar(DType::F32) => format!("fmaf({})", args.join(", ")),
                    Ty::Scalar(_) => format!("fma({})", args.join(", ")),
                    _ => format!("pw_fma({})", args.join(", ")),
                })
            }
            Op::Cast => self.cast(&x, &of(0), &ty, false)?,
            Op::CastSat => self.cast(&x, &of(0), &ty, true)?,
            Op::Bitcast => {
                let (from, to) = (register(&of(0)), register(&ty));
                if from == to {
                    return self.expr_in(s, e.args[0]);
                }
                match of(0).elem() == Some(DType::Bool) || d == DType::Bool {
                    true => self.cast(&x, &of(0), &ty, false)?,
                    false => Text::whole(format!("pw_bits<{to}>({x})")),
                }
            }
            Op::Concat => {
                let part = |i: usize| if matches!(of(i), Ty::Vec(..)) { args[i].clone() } else { format!("pw_one({})", args[i]) };
                Text::whole(format!("pw_concat({}, {})", part(0), part(1)))
            }
            Op::Shufflev(list) => {
                let list: Vec<String> = list.iter().map(u16::to_string).collect();
                let second = args.get(1).unwrap_or(&x);
                Text::whole(format!("pw_pick<{}>({x}, {second})", list.join(", ")))
            }
            Op::Hred(h) => {
                let name = match h {
                    HOp::Sum => "pw_hsum",
                    HOp::Prod => "pw_hprod",
                    HOp::Max => "pw_hmax",
                    HOp::Min => "pw_hmin",
                    HOp::And => "pw_hand",
                    HOp::Or => "pw_hor",
                };
                Text::whole(format!("{name}({x})"))
            }
            Op::Dot4 => Text::whole(format!("pw_dot4({})", args.join(", "))),
            Op::Call(f) => {
                let wide = e.args.iter().any(|a| matches!(self.arena(s)[*a].ty, Ty::Vec(..)));
                let name = self.function(*f, wide)?;
                Text::whole(format!("{name}({})", args.join(", ")))
            }
            Op::At(_) => return Err("an element of a tile has no form on this machine".into()),
            _ => return Err("an expression without a form on this machine".into()),
        })
    }

    fn read(&mut self, s: Scope<'_>, v: VarId, idx: &[ExprId]) -> Result<Text, Fault> {
        match s {
            Scope::Fn { vars, .. } => {
                let name = vars.get(portwright_ir::kernel::at(v)).filter(|n| !n.is_empty());
                name.cloned().map(Text::whole).ok_or_else(|| "a function's variable has no value".into())
            }
            Scope::Kernel => {
                if let Some(c) = self.listed.get(&v) {
                    return Ok(integer(*c, self.k.vars[v].ty.elem().unwrap_or(DType::I32)));
                }
                self.place_of(v, idx).map(Text::whole)
            }
        }
    }
    /// A variable, or an element of its array.
    pub(super) fn place_of(&mut self, v: VarId, idx: &[ExprId]) -> Result<String, Fault> {
        let mut text = self.vars.get(&v).cloned().ok_or_else(|| format!("`{}` is read before it has a value", self.k.vars[v].name))?;
        for i in idx {
            let i = self.expr(*i)?;
            text.push_str(&format!("[{}]", i.text));
        }
        Ok(text)
    }

    fn position(&mut self, i: Id, d: DType) -> Result<Text, Fault> {
        let v = match i {
            Id::Group(a) => self.here(usize::from(a.min(2)))?,
            Id::Grid(a) => {
                let g = self.k.launch.grid[usize::from(a.min(2))].clone();
                let g = self.dim(&g)?;
                return Ok(self.narrowed(g, d));
            }
            Id::Lane => self.once("lane", "const int", "(int)threadIdx.x"),
            Id::Warp => {
                let warp = self.forms.warp;
                self.once("warp", "const int", &format!("(int)threadIdx.x / {warp}"))
            }
            Id::WarpLane => self.warp_lane(),
        };
        Ok(match d.bits() {
            32 if d.is_signed_int() => Text::whole(v),
            64 | 32 => Text::of(Prec::Unary, format!("({}){v}", elem(d))),
            _ => return Err(format!("a position as {d}")),
        })
    }
    /// A size, which is an `int64_t`, as an integer that holds it.
    fn narrowed(&self, v: Text, d: DType) -> Text {
        if d == DType::I64 || (v.loose && d.is_int()) {
            return Text { loose: v.loose && d != DType::I32, ..v };
        }
        Text::of(Prec::Unary, format!("({}){}", elem(d), v.at(Prec::Unary)))
    }

    /// Conversion of numbers; see [`Op::Cast`] and [`Op::CastSat`].
    pub(super) fn cast(&self, x: &str, from: &Ty, to: &Ty, saturate: bool) -> Result<Text, Fault> {
        let (a, b) = (from.elem().ok_or("a cast of a fragment")?, to.elem().ok_or("a cast to a fragment")?);
        let vector = matches!(from, Ty::Vec(..));
        if a == b {
            return Ok(Text::of(Prec::Choice, x));
        }
        let wide = |d: DType| matches!(d, DType::F32 | DType::F64);
        // C++'s own conversion is the right one.
        let plain = |x: &str| match vector {
            true => Text::whole(format!("pw_cast<{}>({x})", elem(b))),
            false => Text::of(Prec::Unary, format!("({}){}", elem(b), operand(x))),
        };
        Ok(match (a.kind(), b.kind()) {
            (_, Kind::Bool) if a.is_int() || wide(a) => Text::whole(format!("pw_truth({x})")),
            (Kind::Bool, Kind::Signed | Kind::Unsigned) => plain(x),
            (Kind::Bool | Kind::Signed | Kind::Unsigned, Kind::Float) if wide(b) => plain(x),
            (Kind::Signed | Kind::Unsigned, Kind::Signed | Kind::Unsigned) => {
                let mut x = x.to_string();
                if saturate && let (Some((alo, ahi)), Some((blo, bhi))) = (a.int_range(), b.int_range()) {
                    for (name, limit, needed) in [("pw_max", blo, alo < blo), ("pw_min", bhi, ahi > bhi)] {
                        if needed {
                            let l = exact(&integer(limit, a), &Ty::Scalar(a));
                            let l = if let Ty::Vec(_, n) = from { format!("pw_splat<{}, {n}>({l})", elem(a)) } else { l };
                            x = format!("{name}({x}, {l})");
                        }
                    }
                }
                let v = if elem(a) == elem(b) { Text::of(Prec::Choice, x) } else { plain(&x) };
                if b.bits() >= 8 { v } else { Text::whole(format!("pw_low<{}>({})", b.bits(), v.text)) }
            }
            (Kind::Float, Kind::Signed | Kind::Unsigned) if wide(a) => {
                let (lo, hi) = b.int_range().unwrap_or((0, 0));
                // The nearest floats of the limits: where the upper one is rounded up it is the first number beyond.
                let (below, above) = match a {
                    DType::F32 => (float(f64::from(lo as f32), a), float(f64::from(hi as f32), a)),
                    _ => (float(lo as f64, a), float(hi as f64, a)),
                };
                let r = Ty::Scalar(b);
                let (low, high) = (exact(&integer(lo, b), &r), exact(&integer(hi, b), &r));
                Text::whole(format!("pw_to_int<{}>({x}, {}, {}, {low}, {high})", elem(b), below.text, above.text))
            }
            (Kind::Float, Kind::Float) => return self.cast_float(x, from, to, saturate),
            _ => return Err(format!("a conversion from {a} to {b} was not expanded")),
        })
    }
    fn cast_float(&self, x: &str, from: &Ty, to: &Ty, saturate: bool) -> Result<Text, Fault> {
        let (a, b) = (from.elem().unwrap_or(DType::F32), to.elem().unwrap_or(DType::F32));
        let vector = matches!(from, Ty::Vec(..));
        let all = |v: f64, d: DType| match from {
            Ty::Vec(_, n) => format!("pw_splat<{}, {n}>({})", elem(d), float(v, d).text),
            _ => float(v, d).text,
        };
        let plain = |x: &str| match vector {
            true => Text::whole(format!("pw_cast<{}>({x})", elem(b))),
            false => Text::of(Prec::Unary, format!("({}){}", elem(b), operand(x))),
        };
        let held = |x: &str, most: f64, d: DType| format!("pw_min(pw_max({x}, {}), {})", all(-most, d), all(most, d));
        Ok(match (a, b) {
            (DType::F32, DType::F64) => plain(x),
            (DType::F64, DType::F32) if saturate => Text::whole(held(&plain(x).text, f32::MAX.into(), DType::F32)),
            (DType::F64, DType::F32) => plain(x),
            (DType::F16, DType::F32 | DType::F64) if self.dialect.halves.is_some() => {
                let y = Text::whole(format!("pw_of_f16({x})"));
                if b == DType::F64 { plain(&y.text) } else { y }
            }
            (DType::F32, DType::F16) if self.dialect.halves.is_some() => {
                let x = if saturate { held(x, 65504.0, DType::F32) } else { x.to_string() };
                Text::whole(format!("pw_to_f16({x})"))
            }
            (DType::BF16, DType::F32) => Text::whole(format!("pw_of_bf16({x})")),
            (DType::BF16, DType::F64) => plain(&format!("pw_of_bf16({x})")),
            _ => return Err(format!("a conversion from {a} to {b} was not expanded")),
        })
    }
}

/// A text behind a cast: alone if it is one word or call, else in parentheses.
fn operand(x: &str) -> String {
    let word = !x.is_empty() && x.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if word || enclosed(x) { x.into() } else { format!("({x})") }
}

/// Whether a text is one call or element: a name and what ends it.
fn enclosed(x: &str) -> bool {
    let named = x.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').count();
    let Some(rest) = x.get(named..).filter(|r| named > 0 && (r.starts_with('(') || r.starts_with('['))) else { return false };
    let mut depth = 0i32;
    for (i, c) in rest.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1 == rest.len();
        }
    }
    false
}

/// An expression of exactly its type.
pub(super) fn exact(v: &Text, ty: &Ty) -> String {
    match ty {
        Ty::Scalar(d) if v.loose => format!("({}){}", elem(*d), v.at(Prec::Unary)),
        _ => v.text.clone(),
    }
}

/// Whether arithmetic of the type is written as such; smaller floats were taken through f32 by a rule.
fn plain(ty: &Ty, what: &str) -> Result<(), Fault> {
    match ty.elem() {
        Some(DType::F32 | DType::F64 | DType::Bool) => Ok(()),
        Some(d) if d.is_int() && d.bits() >= 8 => Ok(()),
        Some(d) => Err(format!("`{what}` of {d} is no operation of this machine")),
        None => Err(format!("`{what}` of a matrix fragment")),
    }
}

/// Whether C++ computes in a wider type, whose result has to be brought back.
fn promoted(ty: &Ty) -> bool {
    matches!(ty, Ty::Scalar(d) if d.is_int() && d.bits() < 32)
}
fn back(text: String, prec: Prec, ty: &Ty) -> Text {
    match ty {
        Ty::Scalar(d) if promoted(ty) => Text::of(Prec::Unary, format!("({})({text})", elem(*d))),
        _ => Text::of(prec, text),
    }
}

fn unary(u: UnOp, x: &Text, ty: &Ty) -> Result<Text, Fault> {
    let d = ty.elem().unwrap_or(DType::F32);
    let x_exact = exact(x, ty);
    let all = |v: u64| match ty {
        Ty::Vec(_, n) => format!("pw_splat<{}, {n}>(({})0x{v:x})", elem(d), elem(d)),
        _ => format!("0x{v:x}"),
    };
    if let (UnOp::Neg | UnOp::Abs, Some(f)) = (u, d.float_format())
        && d.bits() < 32
        && f.signed
        && f.nan != NanCode::NegativeZero
    {
        let sign = 1u64 << (f.exponent_bits + f.mantissa_bits);
        let (op, m) = if u == UnOp::Neg { ("^", sign) } else { ("&", sign - 1) };
        let text = format!("{} {op} {}", x.at(Prec::Shift), all(m));
        return Ok(match ty {
            Ty::Vec(..) => Text::of(Prec::BitXor, text),
            _ => Text::of(Prec::Unary, format!("({})({text})", elem(d))),
        });
    }
    plain(ty, u.name())?;
    let float = d.is_float();
    let vector = matches!(ty, Ty::Vec(..));
    let function = |name: &str| match (ty, d) {
        (Ty::Vec(..), _) => Text::whole(format!("pw_{name}({x_exact})")),
        (_, DType::F32) => Text::whole(format!("{name}f({x_exact})")),
        _ => Text::whole(format!("{name}({x_exact})")),
    };
    let one = |y: &str| {
        let text = match (ty, d) {
            (Ty::Vec(_, n), _) => format!("pw_splat<{}, {n}>(1) / {y}", elem(d)),
            (_, DType::F32) => format!("1.0f / {y}"),
            _ => format!("1.0 / {y}"),
        };
        Text::of(Prec::Product, text)
    };
    Ok(match u {
        UnOp::Neg => {
            let text = format!("-{}", if x.text.starts_with('-') { format!("({})", x.text) } else { x.at(Prec::Unary) });
            back(text, Prec::Unary, ty)
        }
        UnOp::Not if d == DType::Bool => Text::of(Prec::Unary, format!("!{}", x.at(Prec::Unary))),
        UnOp::Not => back(format!("~{}", x.at(Prec::Unary)), Prec::Unary, ty),
        UnOp::Abs if float && !vector => Text::whole(format!("{}({x_exact})", if d == DType::F32 { "fabsf" } else { "fabs" })),
        UnOp::Abs => Text::whole(format!("pw_abs({x_exact})")),
        UnOp::Sqrt => function("sqrt"),
        UnOp::Floor => function("floor"),
        UnOp::Ceil => function("ceil"),
        UnOp::Rint => function("rint"),
        UnOp::Trunc => function("trunc"),
        UnOp::Rcp => one(&x.at(Prec::Unary)),
        UnOp::Rsqrt => one(&function("sqrt").text),
        _ => return Err(format!("`{}` was not expanded", u.name())),
    })
}

fn binary(b: BinOp, x: &Text, y: &Text, ty: &Ty) -> Result<Text, Fault> {
    plain(ty, b.name())?;
    let d = ty.elem().unwrap_or(DType::F32);
    let (float, flag) = (d.is_float(), d == DType::Bool);
    let infix = |op: &str, prec: Prec, right: Prec| {
        // Literals alone would be computed as `int`.
        // Of the operations on bits nobody remembers which binds tighter: only the same one goes without parentheses.
        let bits = matches!(prec, Prec::Shift | Prec::BitAnd | Prec::BitXor | Prec::BitOr);
        let left = match (x.loose && y.loose, bits && x.prec != prec) {
            (true, _) => format!("({}){}", elem(d), x.at(Prec::Unary)),
            (_, true) => x.at(Prec::Unary),
            _ => x.at(prec),
        };
        let right = if bits { Prec::Unary } else { right };
        back(format!("{left} {op} {}", y.at(right)), prec, ty)
    };
    let call = |name: &str| Text::whole(format!("{name}({}, {})", exact(x, ty), exact(y, ty)));
    let unsigned = matches!(d, DType::U32 | DType::U64) && !matches!(ty, Ty::Vec(..));
    let (sum, product) = (Prec::Sum, Prec::Product);
    Ok(match b {
        BinOp::Add => infix("+", sum, product),
        BinOp::Sub => infix("-", sum, product),
        BinOp::Mul => infix("*", product, Prec::Unary),
        BinOp::Div => infix("/", product, Prec::Unary),
        BinOp::Rem => infix("%", product, Prec::Unary),
        BinOp::AddW if unsigned => infix("+", sum, product),
        BinOp::SubW if unsigned => infix("-", sum, product),
        BinOp::MulW if unsigned => infix("*", product, Prec::Unary),
        BinOp::AddW => call("pw_add"),
        BinOp::SubW => call("pw_sub"),
        BinOp::MulW => call("pw_mul"),
        BinOp::TDiv | BinOp::TRem if float => return Err(format!("`{}` was not expanded", b.name())),
        BinOp::TDiv => call("pw_quotient"),
        BinOp::TRem => call("pw_remainder"),
        BinOp::And if flag && !matches!(ty, Ty::Vec(..)) => infix("&&", Prec::And, Prec::BitOr),
        BinOp::Or if flag && !matches!(ty, Ty::Vec(..)) => infix("||", Prec::Or, Prec::And),
        BinOp::Xor if flag && !matches!(ty, Ty::Vec(..)) => infix("!=", Prec::Equal, Prec::Order),
        BinOp::And => infix("&", Prec::BitAnd, Prec::Equal),
        BinOp::Or => infix("|", Prec::BitOr, Prec::BitXor),
        BinOp::Xor => infix("^", Prec::BitXor, Prec::BitAnd),
        BinOp::Shl if unsigned => infix("<<", Prec::Shift, sum),
        BinOp::Shl => call("pw_shl"),
        BinOp::Shr => infix(">>", Prec::Shift, sum),
        BinOp::Min => call("pw_min"),
        BinOp::Max => call("pw_max"),
        BinOp::MinNum if float => call("pw_min_num"),
        BinOp::MaxNum if float => call("pw_max_num"),
        BinOp::MinNum => call("pw_min"),
        BinOp::MaxNum => call("pw_max"),
        BinOp::Pow | BinOp::Atan2 => return Err(format!("`{}` was not expanded", b.name())),
    })
}

/// Functions of the kernel's dialect that convert f16.
pub(super) fn halves(h: &super::Halves) -> String {
    let (widen, round) = (fill(h.widen, &[("bits", "bits")]), fill(h.round, &[("value", "value")]));
    format!(
        "PW_FN float pw_of_f16(uint16_t bits) {{ return {widen}; }}\n\
         PW_FN uint16_t pw_to_f16(float value) {{ return {round}; }}\n\
         template <int N>\nPW_TEMPLATE_FN pw_vec<float, N> pw_of_f16(pw_vec<uint16_t, N> x) {{\n  pw_vec<float, N> r;\n  \
         for (int i = 0; i < N; i++) r.v[i] = pw_of_f16(x.v[i]);\n  return r;\n}}\n\
         template <int N>\nPW_TEMPLATE_FN pw_vec<uint16_t, N> pw_to_f16(pw_vec<float, N> x) {{\n  pw_vec<uint16_t, N> r;\n  \
         for (int i = 0; i < N; i++) r.v[i] = pw_to_f16(x.v[i]);\n  return r;\n}}\n"
    )
}
