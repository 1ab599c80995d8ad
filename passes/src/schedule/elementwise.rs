// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elementwise ops of Graph IR as Kernel IR expressions, with the stated results where an instruction would trap or wrap.

use portwright_ir::dtype::{DType, Kind};
use portwright_ir::graph::{BinaryOp, Op, UnaryOp};
use portwright_ir::kernel::{BinOp, Ex, Kb, Ty, UnOp};

use super::eval::Stop;

/// Emits `op` on operands of dtype `from` (of the last operand), for a result of dtype `to`; all are scalars or all vectors.
pub(crate) fn emit(k: &mut Kb<'_>, op: &Op, from: DType, to: DType, args: &[Ex]) -> Result<Ex, Stop> {
    match (op, args) {
        (Op::Unary(u), [x]) => unary(k, *u, from, x),
        (Op::Binary(b), [x, y]) => binary(k, *b, from, x, y),
        (Op::Select {}, [c, x, y]) => Ok(c.select(x, y)),
        (Op::Cast { saturate, .. }, [x]) => Ok(if *saturate && to.is_float() && to.bits() <= 8 { x.cast_sat(to) } else { x.cast(to) }),
        (Op::Bitcast { .. }, [x]) => Ok(x.bitcast(to)),
        _ => Stop::no(format!("`{}` inside this kind of kernel", op.mnemonic())),
    }
}

/// Whether an op is a function that takes many instructions, each of which waits for the one before.
pub(crate) fn is_slow(op: &Op) -> bool {
    use UnaryOp::*;
    matches!(
        op,
        Op::Unary(Exp | Log | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Tanh | Asinh | Acosh | Atanh | Erf | Sigmoid | Softplus)
            | Op::Binary(BinaryOp::Pow)
    )
}

fn zero(dtype: DType) -> Ex {
    if dtype.is_float() { Ex::float(0.0) } else { Ex::int(0) }
}

fn unary(k: &mut Kb<'_>, op: UnaryOp, d: DType, x: &Ex) -> Result<Ex, Stop> {
    let float = d.is_float();
    let one = if float { Ex::float(1.0) } else { Ex::int(1) };
    let direct = |u: UnOp| Ok(x.un(u));
    match op {
        UnaryOp::Neg if float => Ok(-x),
        UnaryOp::Neg => Ok(x.mul_w(if d.is_signed_int() { Ex::int(-1) } else { Ex::int(d.int_range().map_or(0, |r| r.1)) })),
        UnaryOp::Abs if float => direct(UnOp::Abs),
        UnaryOp::Abs if d.is_signed_int() => {
            let x = k.let_("x", x);
            Ok(x.lt(0).select(x.mul_w(-1), &x))
        }
        UnaryOp::Abs => Ok(x.clone()),
        UnaryOp::Not => Ok(!x.clone()),
        UnaryOp::Sign if float => {
            let x = k.let_("x", x);
            let below = x.lt(0.0).select(like(&x, -1.0), &x);
            Ok(x.gt(0.0).select(like(&x, 1.0), below))
        }
        UnaryOp::Sign => {
            let x = k.let_("x", x);
            let above = x.gt(0).select(like(&x, 1.0), like(&x, 0.0));
            Ok(if d.is_signed_int() { x.lt(0).select(like(&x, -1.0), above) } else { above })
        }
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc if !float => Ok(x.clone()),
        UnaryOp::Floor => direct(UnOp::Floor),
        UnaryOp::Ceil => direct(UnOp::Ceil),
        UnaryOp::Round => direct(UnOp::Rint),
        UnaryOp::Trunc => direct(UnOp::Trunc),
        UnaryOp::Sqrt => direct(UnOp::Sqrt),
        UnaryOp::Recip => Ok(like(x, 1.0) / x),
        UnaryOp::Exp => direct(UnOp::Exp),
        UnaryOp::Log => direct(UnOp::Log),
        UnaryOp::Sin => direct(UnOp::Sin),
        UnaryOp::Cos => direct(UnOp::Cos),
        UnaryOp::Tan => direct(UnOp::Tan),
        UnaryOp::Asin => direct(UnOp::Asin),
        UnaryOp::Acos => direct(UnOp::Acos),
        UnaryOp::Atan => direct(UnOp::Atan),
        UnaryOp::Sinh => direct(UnOp::Sinh),
        UnaryOp::Cosh => direct(UnOp::Cosh),
        UnaryOp::Tanh => direct(UnOp::Tanh),
        UnaryOp::Asinh => direct(UnOp::Asinh),
        UnaryOp::Acosh => direct(UnOp::Acosh),
        UnaryOp::Atanh => direct(UnOp::Atanh),
        UnaryOp::Erf => direct(UnOp::Erf),
        UnaryOp::Sigmoid => {
            let e = (-x).un(UnOp::Exp);
            Ok(like(x, 1.0) / (e + one))
        }
        UnaryOp::Softplus => {
            let x = k.let_("x", x);
            let small = (-x.abs()).un(UnOp::Exp).un(UnOp::Log1p);
            Ok(x.max(0.0) + small)
        }
        UnaryOp::IsNan if float => {
            let x = k.let_("x", x);
            Ok(x.differs(&x))
        }
        UnaryOp::IsInf if float => Ok(x.abs().equals(f64::INFINITY)),
        UnaryOp::IsNan | UnaryOp::IsInf => Ok(Ex::from(false).splat(lanes(x))),
    }
}

/// Number of lanes of an expression.
pub(crate) fn lanes(x: &Ex) -> u32 {
    x.ty().and_then(Ty::lanes).map_or(1, u32::from)
}

/// A constant of the type of `x`.
pub(crate) fn like(x: &Ex, v: f64) -> Ex {
    let d = x.ty().and_then(Ty::elem).unwrap_or(DType::F32);
    let lit = if d.is_float() { Ex::lit(d, v) } else { Ex::int(v as i128).typed(&Ty::Scalar(d)) };
    lit.splat(lanes(x))
}

fn binary(k: &mut Kb<'_>, op: BinaryOp, d: DType, x: &Ex, y: &Ex) -> Result<Ex, Stop> {
    let (float, boolean) = (d.is_float(), d.kind() == Kind::Bool);
    Ok(match op {
        BinaryOp::Add if float => x + y,
        BinaryOp::Sub if float => x - y,
        BinaryOp::Mul if float => x * y,
        BinaryOp::Div if float => x / y,
        BinaryOp::Add => x.add_w(y),
        BinaryOp::Sub => x.sub_w(y),
        BinaryOp::Mul => x.mul_w(y),
        BinaryOp::Div => {
            let y = k.let_("y", y);
            let by_zero = k.let_("z", y.equals(0));
            let q = x.tdiv(by_zero.select(like(&y, 1.0), &y));
            by_zero.select(like(&y, 0.0), q)
        }
        BinaryOp::Rem if float => x.trem(y),
        BinaryOp::Mod if float => {
            let y = k.let_("y", y);
            let r = k.let_("r", x.trem(&y));
            let below = k.let_("below", y.lt(0.0));
            let whole = k.let_("whole", r.equals(0.0));
            let other_side = (r.lt(0.0) ^ &below).select(&r + &y, &r);
            // A remainder of zero has the sign of the divisor, as any other.
            whole.select(below.select(like(&y, -0.0), like(&y, 0.0)), other_side)
        }
        BinaryOp::Rem | BinaryOp::Mod => {
            let y = k.let_("y", y);
            let by_zero = k.let_("z", y.equals(0));
            let r = k.let_("r", x.trem(by_zero.select(like(&y, 1.0), &y)));
            let wrapped = if op == BinaryOp::Mod && d.is_signed_int() {
                let other_side = r.lt(0) ^ y.lt(0);
                (r.differs(0) & other_side).select(r.add_w(&y), &r)
            } else {
                r
            };
            by_zero.select(like(&y, 0.0), wrapped)
        }
        BinaryOp::Pow if float => x.pow(y),
        BinaryOp::Pow => int_pow(k, d, x, y),
        BinaryOp::Min if boolean => x & y,
        BinaryOp::Max if boolean => x | y,
        BinaryOp::Min => x.min(y),
        BinaryOp::Max => x.max(y),
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
        BinaryOp::Shl | BinaryOp::Shr => {
            let bits = i64::from(d.bits());
            let y = k.let_("y", y);
            let wide = if d.is_signed_int() { y.ge(bits) | y.lt(0) } else { y.ge(bits) };
            let wide = k.let_("w", wide);
            let amount = wide.select(like(&y, 0.0), &y);
            let lost = match op {
                BinaryOp::Shr if d.is_signed_int() => x.bin(BinOp::Shr, like(&y, (bits - 1) as f64)),
                _ => like(&y, 0.0),
            };
            let shifted = x.bin(if op == BinaryOp::Shl { BinOp::Shl } else { BinOp::Shr }, amount);
            wide.select(lost, shifted)
        }
        BinaryOp::Eq if boolean => !(x ^ y),
        BinaryOp::Ne if boolean => x ^ y,
        BinaryOp::Lt if boolean => !x.clone() & y,
        BinaryOp::Le if boolean => !x.clone() | y,
        BinaryOp::Gt if boolean => x & !y.clone(),
        BinaryOp::Ge if boolean => x | !y.clone(),
        BinaryOp::Eq => x.equals(y),
        BinaryOp::Ne => x.differs(y),
        BinaryOp::Lt => x.lt(y),
        BinaryOp::Le => x.le(y),
        BinaryOp::Gt => x.gt(y),
        BinaryOp::Ge => x.ge(y),
    })
}

/// `x^y` modulo 2^bits by repeated squaring; a negative power of other than 1 and -1 is 0.
fn int_pow(k: &mut Kb<'_>, d: DType, x: &Ex, y: &Ex) -> Ex {
    let (x, y) = (k.let_("x", x), k.let_("y", y));
    let mut result = like(&x, 1.0);
    let mut square = x.clone();
    // Every bit counts: powers of an odd number come round, they never wrap to 0.
    for bit in 0..d.bits() - u32::from(d.is_signed_int()) {
        let set = (y.bin(BinOp::Shr, like(&y, f64::from(bit))) & like(&y, 1.0)).differs(0);
        result = k.let_("p", set.select(result.mul_w(&square), &result));
        square = k.let_("sq", square.mul_w(&square));
    }
    if !d.is_signed_int() {
        return result;
    }
    let odd = (&y & like(&y, 1.0)).differs(0);
    let of_minus_one = odd.select(like(&x, -1.0), like(&x, 1.0));
    let reciprocal = x.equals(1).select(like(&x, 1.0), x.equals(-1).select(of_minus_one, like(&x, 0.0)));
    y.lt(0).select(reciprocal, result)
}

/// The neutral element of a reduction as a constant of that dtype.
pub(crate) fn identity(op: portwright_ir::graph::ReduceOp, d: DType) -> Ex {
    use portwright_ir::graph::ReduceOp::{All, Any, Max, Mean, Min, Prod, Sum};
    use portwright_ir::numerics;
    let bits = |b: u64| super::eval::scalar_ex(portwright_ir::graph::Scalar { dtype: d, bits: b });
    match op {
        Sum | Mean => zero(d).typed(&Ty::Scalar(d)),
        Prod => like(&zero(d).typed(&Ty::Scalar(d)), 1.0),
        Max if d.is_float() => Ex::lit(d, f64::NEG_INFINITY),
        Min if d.is_float() => Ex::lit(d, f64::INFINITY),
        Max => bits(numerics::lowest(d)),
        Min => bits(numerics::highest(d)),
        Any => Ex::from(false),
        All => Ex::from(true),
    }
}

/// One step of a reduction.
pub(crate) fn combine(op: portwright_ir::graph::ReduceOp, d: DType, acc: &Ex, x: &Ex) -> Ex {
    use portwright_ir::graph::ReduceOp::{All, Any, Max, Mean, Min, Prod, Sum};
    match op {
        Sum | Mean if d.is_float() => acc + x,
        Prod if d.is_float() => acc * x,
        Sum | Mean => acc.add_w(x),
        Prod => acc.mul_w(x),
        Max if d.kind() == Kind::Bool => acc | x,
        Min if d.kind() == Kind::Bool => acc & x,
        Max => acc.max(x),
        Min => acc.min(x),
        Any => acc | x,
        All => acc & x,
    }
}
