// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From expressions as written to typed nodes. The rules are those of the printer: an operand that has no type of its
//! own takes that of its sibling, then that of the context, then the default.

use smallvec::SmallVec;

use super::ast::{Ast, Node};
use super::{Parsed, Parser};
use crate::dtype::DType;
use crate::kernel::{Args, BinOp, CmpOp, Expr, ExprId, HOp, Id, Lit, Op, Ty, UnOp, typing};

impl Parser {
    fn index_ty(&self) -> Ty {
        Ty::Scalar(if self.in_fn { DType::I64 } else { self.k.class.index() })
    }

    /// The type that an expression has by itself, if it has one.
    fn own(&self, a: &Ast) -> Option<Ty> {
        match &a.node {
            Node::Num(_) | Node::Quoted(_) => None,
            Node::Name(n) if n == "true" || n == "false" => Some(Ty::BOOL),
            Node::Name(n) => self.lookup(n).map(|v| self.k.vars[v].ty.clone()),
            Node::Index(n, args) => {
                let v = &self.k.vars[self.lookup(n)?];
                match &v.ty {
                    Ty::Tile { dtype, .. } if v.arr.is_empty() && !args.is_empty() => Some(Ty::Scalar(*dtype)),
                    t => Some(t.clone()),
                }
            }
            Node::Typed(t, _) => Some(t.clone()),
            Node::Prefix(_, x) => self.own(x),
            Node::Infix(op, x, y) => {
                let t = self.own(x).or_else(|| self.own(y));
                match CmpOp::from_name(op) {
                    Some(_) => Some(t.or_else(|| self.fallback(a)).map_or(Ty::BOOL, |t| t.with_elem(DType::Bool))),
                    None => t,
                }
            }
            Node::Call(f, generic, args, list) => self.own_call(f, *generic, args, list.as_deref()),
        }
    }
    fn own_call(&self, f: &str, generic: Option<DType>, args: &[Ast], list: Option<&[u16]>) -> Option<Ty> {
        let first = || args.first().and_then(|x| self.own(x).or_else(|| self.fallback(x)));
        let any = |from: usize| args.iter().skip(from).find_map(|x| self.own(x));
        if let Some(d) = generic {
            return first().map(|t| t.with_elem(d));
        }
        match f {
            "splat" | "iota" | "mask.lt" | "dim" => None,
            "floor" | "ceil" | "mod" if args.len() == 2 => None,
            "select" => any(1),
            "extract" => Some(Ty::Scalar(first()?.elem()?)),
            "insert" => args.first().and_then(|x| self.own(x)),
            "concat" => {
                let (a, b) = (first()?, args.get(1).and_then(|x| self.own(x).or_else(|| self.fallback(x)))?);
                Some(Ty::of(a.elem()?, u32::from(a.lanes()?) + u32::from(b.lanes()?)))
            }
            "shufflev" => Some(Ty::of(any(0)?.elem()?, list?.len() as u32)),
            "dot4" | "dot2" => first(),
            _ if HOp::from_name(f).is_some() => Some(Ty::Scalar(first()?.elem()?)),
            _ => match self.module.fn_named(f) {
                Some(id) => any(0).map(|t| t.with_elem(self.fns()[id].ret)),
                None => any(0),
            },
        }
    }
    /// The default type of an expression that has none by itself.
    fn fallback(&self, a: &Ast) -> Option<Ty> {
        match &a.node {
            Node::Num(n) if is_float(n) => Some(Ty::Scalar(DType::F32)),
            Node::Num(_) | Node::Quoted(_) => Some(self.index_ty()),
            Node::Name(_) => Some(self.index_ty()),
            Node::Typed(t, _) => Some(t.clone()),
            Node::Index(..) => None,
            Node::Prefix(_, x) => self.fallback(x),
            Node::Infix(_, x, y) => self.fallback(x).or_else(|| self.fallback(y)),
            Node::Call(f, _, args, _) => match f.as_str() {
                "splat" | "iota" | "mask.lt" => None,
                "dim" => Some(self.index_ty()),
                "floor" | "ceil" | "mod" if args.len() == 2 => Some(self.index_ty()),
                "select" => args.iter().skip(1).find_map(|x| self.fallback(x)),
                "insert" => args.first().and_then(|x| self.fallback(x)),
                _ => match self.module.fn_named(f) {
                    Some(id) => Some(Ty::Scalar(self.fns()[id].ret)),
                    None => args.iter().find_map(|x| self.fallback(x)),
                },
            },
        }
    }

    fn node(&mut self, a: &Ast, op: Op, args: Args, want: Option<&Ty>) -> Parsed<ExprId> {
        let tys: Vec<Ty> = args.iter().map(|e| self.k.exprs[*e].ty.clone()).collect();
        match typing::type_of(&op, &tys, want) {
            Ok(ty) => Ok(self.push(Expr { op, args, ty })),
            Err(m) => a.pos.err(match &a.node {
                Node::Num(n) => format!("{n}: {m}"),
                Node::Name(n) | Node::Call(n, ..) => format!("`{n}`: {m}"),
                _ => m,
            }),
        }
    }
    fn all(&mut self, args: &[Ast], want: Option<&Ty>) -> Parsed<Args> {
        args.iter().map(|x| self.elab(x, want)).collect()
    }
    /// Type of operands that have one type in common.
    fn common(&self, args: &[Ast], want: Option<&Ty>) -> Option<Ty> {
        let own = args.iter().find_map(|x| self.own(x));
        own.or_else(|| want.cloned()).or_else(|| args.iter().find_map(|x| self.fallback(x)))
    }

    pub(super) fn elab(&mut self, a: &Ast, want: Option<&Ty>) -> Parsed<ExprId> {
        // A chain of operators is as deep as it is long, so this is not the limit of nesting.
        if self.elab_depth > 400 {
            return a.pos.err("nested too deeply");
        }
        self.elab_depth += 1;
        let r = self.elab_(a, want);
        self.elab_depth -= 1;
        r
    }
    fn elab_(&mut self, a: &Ast, want: Option<&Ty>) -> Parsed<ExprId> {
        let none = Args::new;
        match &a.node {
            Node::Num(n) => self.number(a, n, want),
            Node::Quoted(n) => {
                if self.k.sym(n).is_none() {
                    return a.pos.err(format!("no symbol `{n}`"));
                }
                let t = want.cloned().unwrap_or(self.index_ty());
                self.node(a, Op::Dim(n.as_str().into_sym()), none(), Some(&t))
            }
            Node::Name(n) => self.name(a, n, want),
            Node::Index(n, args) => {
                let Some(v) = self.lookup(n) else { return a.pos.err(format!("no variable `{n}`")) };
                let var = &self.k.vars[v];
                let tile = match &var.ty {
                    Ty::Tile { dtype, .. } if var.arr.is_empty() => Some(Ty::Scalar(*dtype)),
                    _ => None,
                };
                let (op, ty) = match tile {
                    Some(t) => (Op::At(v), t),
                    None => (Op::Var(v), var.ty.clone()),
                };
                let args = self.all(args, None)?;
                Ok(self.push(Expr { op, args, ty }))
            }
            Node::Typed(t, x) => {
                let e = self.elab(x, Some(t))?;
                let got = &self.k.exprs[e].ty;
                if got != t {
                    return a.pos.err(format!("this is {}, not {}", got.show(), t.show()));
                }
                Ok(e)
            }
            Node::Prefix(c, x) => {
                let t = self.common(std::slice::from_ref(x), want);
                let e = self.elab(x, t.as_ref())?;
                let op = Op::Un(if *c == '-' { UnOp::Neg } else { UnOp::Not });
                self.node(a, op, Args::from_slice(&[e]), None)
            }
            Node::Infix(op, x, y) => {
                let (op, want) = match (CmpOp::from_name(op), BinOp::from_name(op)) {
                    (Some(c), _) => (Op::Cmp(c), None),
                    (_, Some(b)) => (Op::Bin(b), want),
                    _ => return a.pos.err("no such operator"),
                };
                let t = self.own(x).or_else(|| self.own(y)).or_else(|| want.cloned());
                let t = t.or_else(|| self.fallback(x)).or_else(|| self.fallback(y));
                let args = Args::from_slice(&[self.elab(x, t.as_ref())?, self.elab(y, t.as_ref())?]);
                self.node(a, op, args, None)
            }
            Node::Call(f, generic, args, list) => self.call(a, f, *generic, args, list.as_deref(), want),
        }
    }

    fn number(&mut self, a: &Ast, n: &str, want: Option<&Ty>) -> Parsed<ExprId> {
        let default = if is_float(n) { Ty::Scalar(DType::F32) } else { self.index_ty() };
        let t = want.cloned().unwrap_or(default);
        let Ty::Scalar(d) = t else { return a.pos.err(format!("a number is no {}; use splat", t.show())) };
        let lit = if d.is_float() {
            // Each width is rounded once from the decimal text.
            let v = if d == DType::F64 { n.parse::<f64>().ok() } else { n.parse::<f32>().ok().map(f64::from) };
            let Some(v) = v else { return a.pos.err(format!("`{n}` is no number")) };
            let bits = crate::numerics::encode_f64(d, v, false);
            Lit::float(crate::numerics::decode_f64(d, bits))
        } else {
            match n.parse::<i128>() {
                Ok(v) => Lit::Int(v),
                Err(_) => return a.pos.err(format!("`{n}` is no {d}")),
            }
        };
        self.node(a, Op::Lit(lit), Args::new(), Some(&t))
    }

    fn name(&mut self, a: &Ast, n: &str, want: Option<&Ty>) -> Parsed<ExprId> {
        if let Some(v) = self.lookup(n) {
            let ty = self.k.vars[v].ty.clone();
            return Ok(self.push(Expr { op: Op::Var(v), args: Args::new(), ty }));
        }
        if n == "true" || n == "false" {
            return self.node(a, Op::Lit(Lit::Int(i128::from(n == "true"))), Args::new(), Some(&Ty::BOOL));
        }
        let t = want.cloned().unwrap_or(self.index_ty());
        if let Some(id) = Id::ALL.into_iter().find(|i| i.name() == n) {
            return self.node(a, Op::Id(id), Args::new(), Some(&t));
        }
        if self.k.sym(n).is_some() {
            return self.node(a, Op::Dim(n.into_sym()), Args::new(), Some(&t));
        }
        a.pos.err(format!("no variable or symbol `{n}`"))
    }

    fn call(&mut self, a: &Ast, f: &str, generic: Option<DType>, args: &[Ast], list: Option<&[u16]>, want: Option<&Ty>) -> Parsed<ExprId> {
        let i32_ = Ty::Scalar(DType::I32);
        let arity = |n: usize| if args.len() == n { Ok(()) } else { a.pos.err(format!("`{f}` takes {n} operands, not {}", args.len())) };
        if let Some(d) = generic {
            arity(1)?;
            let es = self.all(args, None)?;
            let from = &self.k.exprs[es[0]].ty;
            let ty = if f == "bitcast" { from.regrouped(d) } else { from.with_elem(d) };
            let op = match f {
                "cast" => Op::Cast,
                "cast_sat" => Op::CastSat,
                _ => Op::Bitcast,
            };
            return self.node(a, op, es, Some(&ty));
        }
        if list.is_some() && f != "shufflev" {
            return a.pos.err(format!("`{f}` takes no list"));
        }
        if let Some(u) = UnOp::from_name(f)
            && args.len() == 1
        {
            let t = self.common(args, want);
            let es = self.all(args, t.as_ref())?;
            return self.node(a, Op::Un(u), es, None);
        }
        if let Some(h) = HOp::from_name(f) {
            arity(1)?;
            let es = self.all(args, None)?;
            return self.node(a, Op::Hred(h), es, None);
        }
        let symbolic = matches!(f, "floor" | "ceil" | "mod") && args.len() == 2;
        if f == "dim" || symbolic {
            let s = if symbolic { self.to_sym(a)? } else { arity(1).and_then(|()| self.to_sym(&args[0]))? };
            let t = want.cloned().unwrap_or(self.index_ty());
            let op = match s.as_const() {
                Some(c) => Op::Lit(Lit::Int(c.into())),
                None => Op::Dim(s),
            };
            return self.node(a, op, Args::new(), Some(&t));
        }
        let op = match f {
            "select" => {
                arity(3)?;
                let c = self.elab(&args[0], None)?;
                let t = self.common(&args[1..], want);
                let ab = self.all(&args[1..], t.as_ref())?;
                return self.node(a, Op::Select, Args::from_slice(&[c, ab[0], ab[1]]), None);
            }
            "splat" | "iota" => {
                arity(1)?;
                let Some(t) = want else { return a.pos.err(format!("`{f}`: its number of elements cannot be inferred here")) };
                let elem = t.elem().map(Ty::Scalar);
                let es = self.all(args, elem.as_ref())?;
                let op = if f == "splat" { Op::Splat } else { Op::Iota };
                return self.node(a, op, es, want);
            }
            "mask.lt" => {
                arity(2)?;
                let t = self.common(args, None);
                let es = self.all(args, t.as_ref())?;
                return self.node(a, Op::MaskLt, es, want);
            }
            "extract" => {
                arity(2)?;
                let es = Args::from_slice(&[self.elab(&args[0], None)?, self.elab(&args[1], Some(&i32_))?]);
                return self.node(a, Op::Extract, es, None);
            }
            "insert" => {
                arity(3)?;
                let t = self.common(&args[..1], want);
                let v = self.elab(&args[0], t.as_ref())?;
                let elem = self.k.exprs[v].ty.elem().map(Ty::Scalar);
                let es = Args::from_slice(&[v, self.elab(&args[1], Some(&i32_))?, self.elab(&args[2], elem.as_ref())?]);
                return self.node(a, Op::Insert, es, None);
            }
            "concat" | "dot2" | "dot4" => {
                let es = self.all(args, None)?;
                let op = match f {
                    "concat" => Op::Concat,
                    "dot2" => Op::Dot2,
                    _ => Op::Dot4,
                };
                return self.node(a, op, es, None);
            }
            "shufflev" => {
                let Some(list) = list else { return a.pos.err("`shufflev` takes a list of positions") };
                let t = self.common(args, None);
                let es = self.all(args, t.as_ref())?;
                return self.node(a, Op::Shufflev(SmallVec::from_slice(list)), es, None);
            }
            "fma" => Op::Fma,
            "clamp" => Op::Clamp,
            _ => match (BinOp::from_name(f), self.module.fn_named(f)) {
                (Some(b), _) => Op::Bin(b),
                (None, Some(id)) => return self.call_fn(a, id, args, want),
                _ => return a.pos.err(format!("no function `{f}`")),
            },
        };
        let t = self.common(args, want);
        let es = self.all(args, t.as_ref())?;
        self.node(a, op, es, None)
    }

    fn call_fn(&mut self, a: &Ast, id: crate::kernel::FnId, args: &[Ast], want: Option<&Ty>) -> Parsed<ExprId> {
        let shape = args.iter().find_map(|x| self.own(x)).or_else(|| want.cloned()).unwrap_or(Ty::BOOL);
        let params: Vec<DType> = self.fns()[id].param_dtypes().collect();
        let ret = self.fns()[id].ret;
        let mut es = Args::new();
        for (i, x) in args.iter().enumerate() {
            let t = params.get(i).map(|d| shape.with_elem(*d));
            es.push(self.elab(x, t.as_ref())?);
        }
        let tys: Vec<Ty> = es.iter().map(|e| self.k.exprs[*e].ty.clone()).collect();
        match typing::call_type(params.into_iter(), ret, &tys) {
            Ok(ty) => Ok(self.push(Expr { op: Op::Call(id), args: es, ty })),
            Err(m) => a.pos.err(m),
        }
    }
}

fn is_float(n: &str) -> bool {
    n.contains(['.', 'e', 'E']) || n.ends_with("inf") || n == "nan"
}

trait IntoSym {
    fn into_sym(self) -> crate::sym::SymExpr;
}
impl IntoSym for &str {
    fn into_sym(self) -> crate::sym::SymExpr {
        crate::sym::SymExpr::sym(self)
    }
}
