// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text of expressions. A literal, a symbol and a position have the type that their context asks for; where the context
//! asks for nothing and the default is not meant, the type is written around: `i32(8)`.

use super::{Cx, name, sym_text};
use crate::dtype::DType;
use crate::kernel::{BinOp, CmpOp, ExprId, Lit, Op, Ty, UnOp};

/// Binding strength of binary operators; comparisons bind tighter than `&`.
pub(in crate::kernel) fn strength(op: &Op) -> Option<u8> {
    Some(match op {
        Op::Bin(BinOp::Or) => 1,
        Op::Bin(BinOp::Xor) => 2,
        Op::Bin(BinOp::And) => 3,
        Op::Cmp(_) => 4,
        Op::Bin(BinOp::Shl | BinOp::Shr) => 5,
        Op::Bin(BinOp::Add | BinOp::Sub | BinOp::AddW | BinOp::SubW) => 6,
        Op::Bin(BinOp::Mul | BinOp::Div | BinOp::Rem | BinOp::MulW) => 7,
        _ => return None,
    })
}

/// A float as text that reads back as the same number.
pub(in crate::kernel) fn float_text(v: f64, d: DType) -> String {
    if v.is_nan() {
        return "nan".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "inf".into() } else { "-inf".into() };
    }
    match d {
        DType::F64 => format!("{v:?}"),
        _ => format!("{:?}", v as f32),
    }
}

impl Cx<'_> {
    /// Whether the parser knows the type without a context.
    fn determined(&self, e: ExprId) -> bool {
        let x = &self.exprs[e];
        match &x.op {
            Op::Lit(Lit::Int(_)) => x.ty == Ty::BOOL,
            Op::Lit(_) | Op::Dim(_) | Op::Id(_) | Op::Splat | Op::Iota | Op::MaskLt => false,
            Op::Var(_) | Op::At(_) | Op::Cast | Op::CastSat | Op::Bitcast | Op::Cmp(_) => true,
            Op::Extract | Op::Concat | Op::Shufflev(_) | Op::Hred(_) | Op::Dot2 | Op::Dot4 => true,
            Op::Select => x.args.iter().skip(1).any(|a| self.determined(*a)),
            Op::Insert => x.args.first().is_some_and(|a| self.determined(*a)),
            Op::Un(_) | Op::Bin(_) | Op::Clamp | Op::Fma | Op::Call(_) => x.args.iter().any(|a| self.determined(*a)),
        }
    }
    /// The type that the parser assumes for an undetermined expression without a context.
    fn default(&self, e: ExprId) -> Option<Ty> {
        let x = &self.exprs[e];
        match &x.op {
            Op::Lit(Lit::Float(_)) => Some(Ty::Scalar(DType::F32)),
            Op::Lit(Lit::Int(_)) | Op::Dim(_) | Op::Id(_) => Some(Ty::Scalar(self.index)),
            Op::Splat | Op::Iota | Op::MaskLt => None,
            Op::Call(f) => self.fns.get(*f).map(|f| Ty::Scalar(f.ret)),
            Op::Select => x.args.iter().skip(1).find_map(|a| self.default(*a)),
            Op::Insert => x.args.first().and_then(|a| self.default(*a)),
            _ => x.args.iter().find_map(|a| self.default(*a)),
        }
    }

    /// A whole expression where the context asks for `want`.
    pub(super) fn top(&self, e: ExprId, want: Option<&Ty>) -> String {
        self.expr(e, want, 0)
    }
    pub(super) fn list(&self, es: &[ExprId], want: Option<&Ty>) -> String {
        es.iter().map(|e| self.top(*e, want)).collect::<Vec<_>>().join(", ")
    }

    fn expr(&self, e: ExprId, want: Option<&Ty>, level: u8) -> String {
        let Some(x) = self.exprs.get(e) else { return "?".into() };
        if !self.determined(e) && want != Some(&x.ty) && (want.is_some() || self.default(e).as_ref() != Some(&x.ty)) {
            return format!("{}({})", self.ty(&x.ty), self.expr(e, Some(&x.ty), 0));
        }
        let args = x.args.as_slice();
        let ty = &x.ty;
        let any = |from: usize| args.iter().skip(from).any(|a| self.determined(*a));
        // What the parser passes to operands of one type: the type, once it knows it.
        let shared = Some(ty);
        let call = |f: &str, parts: &[String]| format!("{f}({})", parts.join(", "));
        match &x.op {
            Op::Lit(Lit::Int(v)) if *ty == Ty::BOOL => (if *v != 0 { "true" } else { "false" }).into(),
            Op::Lit(Lit::Int(v)) => v.to_string(),
            Op::Lit(Lit::Float(b)) => float_text(f64::from_bits(*b), ty.elem().unwrap_or(DType::F64)),
            Op::Dim(s) => match s.as_sym() {
                Some(n) => name(n),
                None => format!("dim({})", sym_text(s)),
            },
            Op::Id(i) => i.name().into(),
            Op::Var(v) | Op::At(v) if args.is_empty() => self.var_name(*v).into(),
            Op::Var(v) | Op::At(v) => format!("{}[{}]", self.var_name(*v), self.list(args, None)),
            Op::Un(u @ (UnOp::Neg | UnOp::Not)) => {
                let a = self.expr(args[0], shared, 9);
                let digit = a.starts_with(|c: char| c.is_ascii_digit()) || a == "inf";
                if digit { format!("{}({a})", u.name()) } else { format!("{}{a}", u.name()) }
            }
            Op::Un(u) => call(u.name(), &[self.expr(args[0], shared, 0)]),
            Op::Bin(b) => match strength(&x.op) {
                Some(s) => self.infix(b.name(), args, shared, s, level, s),
                None => call(b.name(), &[self.list(args, shared)]),
            },
            Op::Cmp(c) => self.comparison(*c, args, level),
            Op::Select => {
                let mut parts = vec![self.expr(args[0], None, 0)];
                parts.extend(args[1..].iter().map(|a| self.expr(*a, shared, 0)));
                call("select", &parts)
            }
            Op::Clamp => call("clamp", &[self.list(args, shared)]),
            Op::Fma => call("fma", &[self.list(args, shared)]),
            Op::Cast | Op::CastSat | Op::Bitcast => {
                let f = match x.op {
                    Op::Cast => "cast",
                    Op::CastSat => "cast_sat",
                    _ => "bitcast",
                };
                format!("{f}<{}>({})", ty.elem().map_or("?", DType::name), self.list(args, None))
            }
            Op::Splat | Op::Iota => {
                let f = if x.op == Op::Splat { "splat" } else { "iota" };
                call(f, &[self.list(args, ty.elem().map(Ty::Scalar).as_ref())])
            }
            Op::MaskLt => {
                let t = any(0).then(|| self.exprs[args[0]].ty.clone());
                call("mask.lt", &[self.operands(args, t.as_ref())])
            }
            Op::Extract => call("extract", &[self.expr(args[0], None, 0), self.expr(args[1], Some(&Ty::Scalar(DType::I32)), 0)]),
            Op::Insert => {
                let parts = [
                    self.expr(args[0], shared, 0),
                    self.expr(args[1], Some(&Ty::Scalar(DType::I32)), 0),
                    self.expr(args[2], ty.elem().map(Ty::Scalar).as_ref(), 0),
                ];
                call("insert", &parts)
            }
            Op::Concat => call("concat", &[self.list(args, None)]),
            Op::Dot2 => call("dot2", &[self.list(args, None)]),
            Op::Dot4 => call("dot4", &[self.list(args, None)]),
            Op::Shufflev(list) => {
                let t = any(0).then(|| self.exprs[args[0]].ty.clone());
                let list: Vec<String> = list.iter().map(u16::to_string).collect();
                format!("shufflev({}, {{{}}})", self.operands(args, t.as_ref()), list.join(", "))
            }
            Op::Hred(h) => call(h.name(), &[self.list(args, None)]),
            Op::Call(f) => match self.fns.get(*f) {
                Some(def) => {
                    let parts: Vec<String> =
                        args.iter().zip(def.param_dtypes()).map(|(a, d)| self.expr(*a, Some(&ty.with_elem(d)), 0)).collect();
                    call(&def.name, &parts)
                }
                None => call("?", &[self.list(args, None)]),
            },
        }
    }

    /// Operands of one type that the context does not determine; without any, each has its default.
    fn operands(&self, args: &[ExprId], t: Option<&Ty>) -> String {
        match t {
            Some(t) => self.list(args, Some(t)),
            None => self.list(args, self.common_default(args).as_ref()),
        }
    }
    fn common_default(&self, args: &[ExprId]) -> Option<Ty> {
        args.iter().find_map(|a| self.default(*a))
    }
    fn infix(&self, op: &str, args: &[ExprId], want: Option<&Ty>, s: u8, level: u8, left: u8) -> String {
        let text = format!("{} {op} {}", self.expr(args[0], want, left), self.expr(args[1], want, s + 1));
        if s < level { format!("({text})") } else { text }
    }
    fn comparison(&self, c: CmpOp, args: &[ExprId], level: u8) -> String {
        let known = args.iter().find(|a| self.determined(**a)).map(|a| self.exprs[*a].ty.clone());
        let want = known.or_else(|| self.common_default(args));
        self.infix(c.name(), args, want.as_ref(), 4, level, 5)
    }
}
