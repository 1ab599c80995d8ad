// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of expression nodes: one rule set for builder, parser and verifier. Types are explicit and equal; nothing is
//! promoted and nothing is broadcast.

use super::{BinOp, HOp, Op, Ty, UnOp};
use crate::dtype::{DType, Kind};

/// Whether the type of `op` follows from its operands alone.
pub fn self_typed(op: &Op) -> bool {
    !matches!(op, Op::Lit(_) | Op::Dim(_) | Op::Id(_) | Op::Cast | Op::CastSat | Op::Bitcast | Op::Splat | Op::Iota | Op::MaskLt)
}

fn float(d: DType) -> bool {
    d.is_float()
}

fn need(ok: bool, msg: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(msg()) }
}

fn equal(args: &[Ty]) -> Result<Ty, String> {
    let first = args.first().ok_or("an operand is missing")?;
    match args.iter().find(|t| *t != first) {
        Some(other) => Err(format!("operands are {} and {}", first.show(), other.show())),
        None => Ok(first.clone()),
    }
}

fn elem(t: &Ty) -> Result<DType, String> {
    match t {
        Ty::Scalar(d) | Ty::Vec(d, _) => Ok(*d),
        _ => Err(format!("{} is no operand of an expression", t.show())),
    }
}

fn count(args: &[Ty], n: usize) -> Result<(), String> {
    need(args.len() == n, || format!("takes {n} operands, not {}", args.len()))
}

/// Type of a node from the types of its operands. `want` is the type that the context asks for: it decides where the
/// operands do not. `var`, tile elements and calls are typed by their declarations, not here.
///
/// # Errors
/// A sentence that says what is wrong with the operands.
pub fn type_of(op: &Op, args: &[Ty], want: Option<&Ty>) -> Result<Ty, String> {
    let wanted = || want.cloned().ok_or_else(|| "its type cannot be inferred here".to_string());
    match op {
        Op::Lit(_) | Op::Dim(_) | Op::Id(_) => {
            let t = wanted()?;
            let Ty::Scalar(d) = t else { return Err(format!("a constant is a scalar, not {}", t.show())) };
            let ok = match op {
                Op::Lit(super::Lit::Float(_)) => float(d),
                Op::Lit(super::Lit::Int(v)) => d.int_range().is_some_and(|(lo, hi)| (lo..=hi).contains(v)),
                _ => d.is_int(),
            };
            need(ok, || format!("it does not fit {d}"))?;
            Ok(t)
        }
        Op::Var(_) | Op::At(_) | Op::Call(_) => wanted(),
        Op::Un(u) => {
            count(args, 1)?;
            let t = equal(args)?;
            let d = elem(&t)?;
            let ok = match u {
                UnOp::Neg => float(d) || d.is_signed_int(),
                UnOp::Abs => float(d) || d.is_int(),
                UnOp::Not => d.is_int() || d == DType::Bool,
                _ => float(d),
            };
            need(ok, || format!("`{}` of {}", u.name(), t.show()))?;
            Ok(t)
        }
        Op::Bin(b) => {
            count(args, 2)?;
            let t = equal(args)?;
            let d = elem(&t)?;
            let ok = match b {
                BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Div => float(d) || d.is_int(),
                BinOp::Min | BinOp::Max | BinOp::TRem => float(d) || d.is_int(),
                BinOp::Rem | BinOp::AddW | BinOp::SubW | BinOp::MulW | BinOp::TDiv | BinOp::Shl | BinOp::Shr => d.is_int(),
                BinOp::And | BinOp::Or | BinOp::Xor => d.is_int() || d == DType::Bool,
                BinOp::MinNum | BinOp::MaxNum | BinOp::Pow | BinOp::Atan2 => float(d),
            };
            need(ok, || format!("`{}` of {}", b.name(), t.show()))?;
            Ok(t)
        }
        Op::Cmp(c) => {
            count(args, 2)?;
            let t = equal(args)?;
            let d = elem(&t)?;
            let eq = matches!(c, super::CmpOp::Eq | super::CmpOp::Ne);
            need(float(d) || d.is_int() || (eq && d == DType::Bool), || format!("comparison of {}", t.show()))?;
            Ok(t.with_elem(DType::Bool))
        }
        Op::Select => {
            count(args, 3)?;
            let t = equal(&args[1..])?;
            elem(&t)?;
            need(args[0] == Ty::BOOL || args[0] == t.with_elem(DType::Bool), || {
                format!("condition {} does not choose between {}", args[0].show(), t.show())
            })?;
            Ok(t)
        }
        Op::Clamp | Op::Fma => {
            count(args, 3)?;
            let t = equal(args)?;
            let d = elem(&t)?;
            need(float(d) || (*op == Op::Clamp && d.is_int()), || format!("of {}", t.show()))?;
            Ok(t)
        }
        Op::Cast | Op::CastSat | Op::Bitcast => {
            count(args, 1)?;
            let (t, from) = (wanted()?, elem(&args[0])?);
            let to = elem(&t)?;
            let like = if *op == Op::Bitcast { args[0].regrouped(to) } else { args[0].with_elem(to) };
            need(t == like, || format!("{} to {}", args[0].show(), t.show()))?;
            let num = |d: DType| float(d) || d.is_int() || d == DType::Bool;
            need(num(from) && num(to), || format!("{from} to {to}"))?;
            let bits = |t: &Ty| t.lanes().map(|n| u32::from(n) * t.elem().map_or(0, DType::bits));
            let whole = |d: DType| d.bits() >= 8;
            need(*op != Op::Bitcast || (bits(&t) == bits(&args[0]) && (from.bits() == to.bits() || whole(from) && whole(to))), || {
                format!("{} and {} differ in width", args[0].show(), t.show())
            })?;
            Ok(t)
        }
        Op::Splat | Op::Iota => {
            count(args, 1)?;
            let t = wanted()?;
            let (Ty::Vec(d, _), Ty::Scalar(s)) = (&t, &args[0]) else {
                return Err(format!("of {} gives no {}", args[0].show(), t.show()));
            };
            need(d == s, || format!("of {s} gives no {}", t.show()))?;
            need(*op == Op::Splat || d.is_int(), || format!("iota of {d}"))?;
            Ok(t)
        }
        Op::MaskLt => {
            count(args, 2)?;
            let t = wanted()?;
            need(matches!(t, Ty::Vec(DType::Bool, _)), || format!("gives a mask, not {}", t.show()))?;
            let d = elem(&equal(args)?)?;
            need(matches!(args[0], Ty::Scalar(_)) && d.is_int(), || format!("of {}", args[0].show()))?;
            Ok(t)
        }
        Op::Extract => {
            count(args, 2)?;
            let (Ty::Vec(d, _), Ty::Scalar(i)) = (&args[0], &args[1]) else {
                return Err(format!("of {} at {}", args[0].show(), args[1].show()));
            };
            need(i.is_int(), || format!("index is {i}"))?;
            Ok(Ty::Scalar(*d))
        }
        Op::Insert => {
            count(args, 3)?;
            let (Ty::Vec(d, _), Ty::Scalar(i), Ty::Scalar(x)) = (&args[0], &args[1], &args[2]) else {
                return Err(format!("of {} into {}", args[2].show(), args[0].show()));
            };
            need(i.is_int() && x == d, || format!("of {x} into {}", args[0].show()))?;
            Ok(args[0].clone())
        }
        Op::Concat => {
            count(args, 2)?;
            let (a, b) = (elem(&args[0])?, elem(&args[1])?);
            need(a == b, || format!("of {a} and {b}"))?;
            let n = u32::from(args[0].lanes().unwrap_or(1)) + u32::from(args[1].lanes().unwrap_or(1));
            Ok(Ty::of(a, n))
        }
        Op::Shufflev(list) => {
            need(args.len() == 1 || args.len() == 2, || "takes one or two vectors".into())?;
            let t = equal(args)?;
            let n = t.lanes().unwrap_or(1) as usize * args.len();
            need(list.iter().all(|&i| usize::from(i) < n), || format!("a position is not below {n}"))?;
            need(!list.is_empty(), || "an empty list".into())?;
            Ok(Ty::of(elem(&t)?, list.len() as u32))
        }
        Op::Hred(h) => {
            count(args, 1)?;
            let Ty::Vec(d, n) = args[0] else { return Err(format!("of {}", args[0].show())) };
            let ok = match h {
                HOp::And | HOp::Or => d.is_int() || d == DType::Bool,
                _ => float(d) || d.is_int(),
            };
            need(ok && n.is_power_of_two(), || format!("`{}` of {}", h.name(), args[0].show()))?;
            Ok(Ty::Scalar(d))
        }
        Op::Dot2 => {
            count(args, 3)?;
            let n = args[0].lanes().unwrap_or(0);
            let half = |t: &Ty| elem(t) == Ok(DType::BF16) && t.lanes() == n.checked_mul(2);
            need(elem(&args[0])? == DType::F32 && half(&args[1]) && half(&args[2]), || {
                format!("of {}, {} and {}", args[0].show(), args[1].show(), args[2].show())
            })?;
            Ok(args[0].clone())
        }
        Op::Dot4 => {
            count(args, 3)?;
            let n = args[0].lanes().unwrap_or(0);
            let eight = |t: &Ty| matches!(elem(t), Ok(DType::I8 | DType::U8)) && t.lanes() == n.checked_mul(4);
            need(elem(&args[0])? == DType::I32 && eight(&args[1]) && eight(&args[2]), || {
                format!("of {}, {} and {}", args[0].show(), args[1].show(), args[2].show())
            })?;
            Ok(args[0].clone())
        }
    }
}

/// Type of a call: the result type with the operands' number of elements.
///
/// # Errors
/// A sentence that says which operand does not fit.
pub fn call_type(params: impl Iterator<Item = DType>, ret: DType, args: &[Ty]) -> Result<Ty, String> {
    let params: Vec<DType> = params.collect();
    count(args, params.len())?;
    let shape = args.first().map_or(Ty::Scalar(ret), |t| t.with_elem(ret));
    for (p, a) in params.iter().zip(args) {
        need(elem(a)? == *p && a.lanes() == shape.lanes(), || format!("operand {} where {p} is expected", a.show()))?;
    }
    Ok(shape)
}

impl Ty {
    /// Spelling of scalars, vectors and masks; fragments and tiles need a module to be spelled in full.
    pub fn show(&self) -> String {
        match self {
            Ty::Scalar(d) => d.name().into(),
            Ty::Vec(DType::Bool, n) => format!("mask{n}"),
            Ty::Vec(d, n) => format!("{d}x{n}"),
            Ty::Frag(a, o) => format!("frag<{a:?}.{}>", o.name()),
            Ty::Tile { dtype, dims, home } => {
                let dims: Vec<String> = dims.iter().map(u32::to_string).collect();
                format!("tile {dtype}[{}]@{}", dims.join(", "), home.name())
            }
        }
    }
    /// Whether elements have arithmetic that an expression can do.
    pub fn is_numeric(&self) -> bool {
        self.elem().is_some_and(|d| matches!(d.kind(), Kind::Float | Kind::Signed | Kind::Unsigned | Kind::Bool))
    }
}
