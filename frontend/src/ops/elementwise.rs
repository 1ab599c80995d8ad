// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elementwise functions of one, two and many operands, conversions, and operators that compute nothing.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, HostOp, Op, Scalar, UnaryOp, ValueId};
use portwright_ir::numerics;

use super::random::{draw, seed};
use super::{Entry, MANY, op};
use crate::cx::{Cx, HostCall, Res, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

macro_rules! unary {
    ($($name:ident $op:ident),*) => { $(fn $name(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
        let x = cx.input(0)?;
        one(cx.un(UnaryOp::$op, x)?)
    })* };
}
macro_rules! binary {
    ($($name:ident $op:ident),*) => { $(fn $name(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
        let (a, b) = operands(cx)?;
        one(cx.bin(BinaryOp::$op, a, b)?)
    })* };
}

pub const TABLE: &[Entry] = &[
    op("Abs", 1, 1, 1, abs),
    op("Acos", 7, 1, 1, acos),
    op("Acosh", 9, 1, 1, acosh),
    op("Add", 1, 2, 2, add),
    op("And", 1, 2, 2, and),
    op("Asin", 7, 1, 1, asin),
    op("Asinh", 9, 1, 1, asinh),
    op("Atan", 7, 1, 1, atan),
    op("Atanh", 9, 1, 1, atanh),
    op("BitCast", 26, 1, 1, bit_cast),
    op("BitShift", 11, 2, 2, bit_shift),
    op("BitwiseAnd", 18, 2, 2, and),
    op("BitwiseNot", 18, 1, 1, not),
    op("BitwiseOr", 18, 2, 2, or),
    op("BitwiseXor", 18, 2, 2, xor),
    op("Cast", 1, 1, 1, cast),
    op("CastLike", 15, 2, 2, cast_like),
    op("Ceil", 1, 1, 1, ceil),
    op("Clip", 1, 1, 3, clip),
    op("Cos", 7, 1, 1, cos),
    op("Cosh", 9, 1, 1, cosh),
    op("Div", 1, 2, 2, div),
    op("Dropout", 1, 1, 3, dropout),
    op("Equal", 1, 2, 2, equal),
    op("Erf", 9, 1, 1, erf),
    op("Exp", 1, 1, 1, exp),
    op("Floor", 1, 1, 1, floor),
    op("Greater", 1, 2, 2, greater),
    op("GreaterOrEqual", 12, 2, 2, greater_or_equal),
    op("Identity", 1, 1, 1, identity),
    op("IsInf", 10, 1, 1, is_inf),
    op("IsNaN", 9, 1, 1, is_nan),
    op("Less", 1, 2, 2, less),
    op("LessOrEqual", 12, 2, 2, less_or_equal),
    op("Log", 1, 1, 1, log),
    op("Max", 1, 1, MANY, max),
    op("Mean", 1, 1, MANY, mean),
    op("Min", 1, 1, MANY, min),
    op("Mod", 10, 2, 2, modulo),
    op("Mul", 1, 2, 2, mul),
    op("Neg", 1, 1, 1, neg),
    op("Not", 1, 1, 1, not),
    op("Or", 1, 2, 2, or),
    op("Pow", 1, 2, 2, pow),
    op("Reciprocal", 1, 1, 1, reciprocal),
    op("Round", 11, 1, 1, round),
    op("Sigmoid", 1, 1, 1, sigmoid),
    op("Sign", 9, 1, 1, sign),
    op("Sin", 7, 1, 1, sin),
    op("Sinh", 9, 1, 1, sinh),
    op("Softplus", 1, 1, 1, softplus),
    op("Sqrt", 1, 1, 1, sqrt),
    op("Sub", 1, 2, 2, sub),
    op("Sum", 1, 1, MANY, sum),
    op("Tan", 7, 1, 1, tan),
    op("Tanh", 1, 1, 1, tanh),
    op("Where", 9, 3, 3, where_),
    op("Xor", 1, 2, 2, xor),
];

unary!(
    abs Abs, acos Acos, acosh Acosh, asin Asin, asinh Asinh, atan Atan, atanh Atanh, ceil Ceil, cos Cos, cosh Cosh, erf Erf, exp Exp,
    floor Floor, is_nan IsNan, log Log, neg Neg, not Not, reciprocal Recip, round Round, sigmoid Sigmoid, sign Sign, sin Sin, sinh Sinh,
    softplus Softplus, sqrt Sqrt, tan Tan, tanh Tanh
);
binary!(
    add Add, and And, div Div, equal Eq, greater Gt, greater_or_equal Ge, less Lt, less_or_equal Le, mul Mul, or Or, sub Sub, xor Xor
);

/// Both operands; before opset 7 the second is aligned by the attributes `broadcast` and `axis`.
fn operands(cx: &mut Cx<'_, '_>) -> Res<(ValueId, ValueId)> {
    let (a, mut b) = (cx.input(0)?, cx.input(1)?);
    if cx.version < 7 && cx.flag("broadcast", false)? {
        let (ra, rb) = (cx.rank(a), cx.rank(b));
        let axis = match cx.int_opt("axis")? {
            Some(axis) => cx.axis_of(axis, ra.max(1))?,
            None => ra.saturating_sub(rb),
        };
        if axis + rb > ra {
            return Err(Fault::attr(format!("`axis` {axis} aligns {} beyond {}", cx.ty(b), cx.ty(a))));
        }
        let mut dims = cx.dims(b);
        dims.extend((axis + rb..ra).map(|_| 1.into()));
        b = cx.reshape(b, dims)?;
    }
    Ok((a, b))
}

fn fold(cx: &mut Cx<'_, '_>, op: BinaryOp) -> Res<ValueId> {
    let inputs = cx.all_inputs()?;
    let mut at = cx.input(0)?;
    for &v in &inputs[1..] {
        at = cx.bin(op, at, v)?;
    }
    Ok(at)
}

fn max(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    one(fold(cx, BinaryOp::Max)?)
}
fn min(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    one(fold(cx, BinaryOp::Min)?)
}
fn sum(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    one(fold(cx, BinaryOp::Add)?)
}
fn mean(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let s = fold(cx, BinaryOp::Add)?;
    let n = cx.slots.len() as f64;
    one(cx.bin_c(BinaryOp::Div, s, n)?)
}

fn modulo(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let op = if cx.flag("fmod", false)? { BinaryOp::Rem } else { BinaryOp::Mod };
    one(cx.bin(op, a, b)?)
}

/// The exponent may have a dtype of its own since opset 12; the result has the base's.
fn pow(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, y) = operands(cx)?;
    let (dx, dy) = (cx.dtype(x), cx.dtype(y));
    if dx == dy || dx.is_float() || dy.is_int() {
        let y = cx.cast(y, dx)?;
        return one(cx.bin(BinaryOp::Pow, x, y)?);
    }
    // An integer to a real power is computed in real numbers.
    let (x, y) = (cx.cast(x, DType::F64)?, cx.cast(y, DType::F64)?);
    let p = cx.bin(BinaryOp::Pow, x, y)?;
    one(cx.cast(p, dx)?)
}

fn bit_shift(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, n) = (cx.input(0)?, cx.input(1)?);
    let op = match cx.text("direction", "")? {
        "LEFT" => BinaryOp::Shl,
        "RIGHT" => BinaryOp::Shr,
        other => return Err(Fault::attr(format!("`direction` is {other:?}, expected LEFT or RIGHT"))),
    };
    one(cx.bin(op, x, n)?)
}

fn bit_cast(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let to = cx.dtype_attr("to")?.ok_or_else(|| Fault::attr("attribute `to` is missing"))?;
    one(cx.add(Op::Bitcast { to }, &[x])?)
}

fn cast(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    // Before opset 6 the dtype is named by text.
    let to = match cx.attr("to") {
        Some(crate::model::AttrValue::Str(s)) => old_dtype(s)?,
        _ => cx.dtype_attr("to")?.ok_or_else(|| Fault::attr("attribute `to` is missing"))?,
    };
    convert(cx, x, to)
}

fn cast_like(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let to = cx.dtype(like);
    convert(cx, x, to)
}

fn convert(cx: &mut Cx<'_, '_>, x: ValueId, to: DType) -> Res<Vec<Slot>> {
    let saturate = cx.flag("saturate", true)?;
    let from = cx.dtype(x);
    if (from == DType::Str) != (to == DType::Str) {
        return one(through_text(cx, x, to)?);
    }
    if to == DType::F8E8M0 && cx.dtype(x) != to && cx.text("round_mode", "up")? != "nearest" {
        return one(to_power_of_two(cx, x)?);
    }
    if cx.dtype(x) == to {
        return one(x);
    }
    // ONNX leaves open what becomes of numbers beyond the range of a narrow integer; its own data wraps them, as from wider integers.
    let x = if to.is_int() && to.is_packed() && cx.dtype(x).is_float() { cx.cast(x, DType::I32)? } else { x };
    one(cx.add(Op::Cast { to, saturate }, &[x])?)
}

/// A number as text or a text as number, through the widest dtype of its kind: texts are those of f32 for all that f32 holds.
fn through_text(cx: &mut Cx<'_, '_>, x: ValueId, to: DType) -> Res<ValueId> {
    let wide = |d: DType| match d {
        DType::F64 => Some(DType::F64),
        d if d.is_float() => Some(DType::F32),
        DType::U64 => Some(DType::U64),
        d if d.is_int() => Some(DType::I64),
        _ => None,
    };
    let (from, dims) = (cx.dtype(x), cx.dims(x));
    // Truth is 0 or 1 as text, and any number but 0 as text.
    let number = match if to == DType::Str { from } else { to } {
        DType::Bool if to == DType::Str => Some(DType::I64),
        DType::Bool => Some(DType::F64),
        d => wide(d),
    };
    let Some(number) = number else { return Err(Fault::form(format!("a cast from {from} to {to}"))) };
    if to == DType::Str {
        let x = cx.cast(x, number)?;
        return cx.host1(HostCall::new(HostOp::StringOf, &[x], DType::Str, dims));
    }
    let y = cx.host1(HostCall::new(HostOp::NumberOf, &[x], number, dims))?;
    cx.cast(y, to)
}

/// f8e8m0 rounds up or down to a power of two as `round_mode` says: the number's exponent is adjusted before the conversion.
fn to_power_of_two(cx: &mut Cx<'_, '_>, x: ValueId) -> Res<ValueId> {
    let up = match cx.text("round_mode", "up")? {
        "up" => true,
        "down" => false,
        other => return Err(Fault::attr(format!("`round_mode` is {other:?}, expected up, down or nearest"))),
    };
    let x = cx.cast(x, DType::F32)?;
    let bits = cx.add(Op::Bitcast { to: DType::U32 }, &[x])?;
    let exponent = cx.scalar_bits(Scalar { dtype: DType::U32, bits: 0xff80_0000 })?;
    // Adding the full mantissa carries into the exponent unless the number is a power of two; clearing it rounds down.
    let raised = if up {
        let full = cx.scalar_bits(Scalar { dtype: DType::U32, bits: 0x007f_ffff })?;
        cx.bin(BinaryOp::Add, bits, full)?
    } else {
        bits
    };
    let rounded = cx.bin(BinaryOp::And, raised, exponent)?;
    let rounded = cx.add(Op::Bitcast { to: DType::F32 }, &[rounded])?;
    let special = {
        let (nan, inf) = (cx.un(UnaryOp::IsNan, x)?, cx.un(UnaryOp::IsInf, x)?);
        cx.bin(BinaryOp::Or, nan, inf)?
    };
    let v = cx.select(special, x, rounded)?;
    cx.add(Op::Cast { to: DType::F8E8M0, saturate: true }, &[v])
}

fn old_dtype(name: &[u8]) -> Res<DType> {
    Ok(match name {
        b"FLOAT" => DType::F32,
        b"UINT8" => DType::U8,
        b"INT8" => DType::I8,
        b"UINT16" => DType::U16,
        b"INT16" => DType::I16,
        b"INT32" => DType::I32,
        b"INT64" => DType::I64,
        b"BOOL" => DType::Bool,
        b"FLOAT16" => DType::F16,
        b"DOUBLE" => DType::F64,
        b"UINT32" => DType::U32,
        b"UINT64" => DType::U64,
        _ => return Err(Fault::attr(format!("`to` is {:?}, which is no dtype", String::from_utf8_lossy(name)))),
    })
}

/// Bounds are attributes before opset 11, then inputs.
fn clip(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let mut x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let (lo, hi) = if cx.version < 11 {
        let bound = |cx: &mut Cx<'_, '_>, name: &str| match cx.float_opt(name)? {
            Some(v) => cx.scalar(dtype, v).map(Some),
            None => Ok(None),
        };
        (bound(cx, "min")?, bound(cx, "max")?)
    } else {
        (cx.opt(1)?, cx.opt(2)?)
    };
    for (bound, op) in [(lo, BinaryOp::Max), (hi, BinaryOp::Min)] {
        if let Some(b) = bound {
            let b = cx.as_scalar(b)?;
            x = cx.bin(op, x, b)?;
        }
    }
    one(x)
}

/// Inference drops nothing: the result is the input, the mask is all true. Training keeps an element where a uniform number reaches the
/// ratio, and scales what is kept.
fn dropout(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    if cx.version >= 12
        && let Some(training) = cx.opt(2)?
        && cx.const_number(training, "`training_mode`")? != 0.0
    {
        let ratio = match cx.opt(1)? {
            Some(r) => cx.const_number(r, "`ratio`")?,
            None => 0.5,
        };
        if !(0.0..1.0).contains(&ratio) {
            return Err(Fault::attr(format!("`ratio` is {ratio}, expected 0 or more and less than 1")));
        }
        if ratio != 0.0 {
            return drop_some(cx, x, ratio);
        }
    }
    if !cx.wants(1) {
        return one(x);
    }
    let dtype = if cx.version < 10 { cx.dtype(x) } else { DType::Bool };
    let dims = cx.dims(x);
    let value = Scalar { dtype, bits: numerics::cast(1, DType::Bool, dtype, false) };
    let mask = cx.add(Op::Fill { value, dims }, &[])?;
    many([x, mask])
}

fn identity(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    match cx.slots.first() {
        Some(s) => Ok(vec![s.clone()]),
        None => Err(Fault::new(Code::BAD_ARITY, "input 0 is missing")),
    }
}

fn is_inf(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let inf = cx.un(UnaryOp::IsInf, x)?;
    one(match (cx.flag("detect_negative", true)?, cx.flag("detect_positive", true)?) {
        (true, true) => inf,
        (false, false) => {
            let dims = cx.dims(x);
            cx.fill(DType::Bool, 0.0, dims)?
        }
        (_, positive) => {
            let side = cx.bin_c(if positive { BinaryOp::Gt } else { BinaryOp::Lt }, x, 0.0)?;
            cx.bin(BinaryOp::And, inf, side)?
        }
    })
}

fn where_(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (c, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    one(cx.select(c, a, b)?)
}

/// `x / (1 - ratio)` where it is kept and 0 elsewhere, with the mask of what is kept.
fn drop_some(cx: &mut Cx<'_, '_>, x: ValueId, ratio: f64) -> Res<Vec<Slot>> {
    let (seed, dims) = (seed(cx)?, cx.dims(x));
    let u = draw(cx, DType::F32, 0.0, 1.0, seed, dims)?;
    let kept = cx.bin_c(BinaryOp::Ge, u, ratio)?;
    let zero = cx.scalar(cx.dtype(x), 0.0)?;
    let y = cx.bin_c(BinaryOp::Mul, x, 1.0 / (1.0 - ratio))?;
    many([cx.select(kept, y, zero)?, kept])
}
