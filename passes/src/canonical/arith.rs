// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Identities of arithmetic.

use portwright_ir::dtype::{DType, Kind};
use portwright_ir::graph::{BinaryOp, Graph, Literal, Node, NodeId, Op, Patch, Scalar, UnaryOp, ValueId};

use crate::rules::consts::{is_exactly, number, splat};
use crate::rules::edit::{binary_of, unary_of};
use crate::rules::{Edit, Rule, RuleCx, Tap};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "constants-right",
        doc: "add(c, x) -> add(x, c), and gt for lt: of two operands the one that is constant, else the one that is a weight, stands right",
        roots: &["add", "mul", "min", "max", "and", "or", "xor", "eq", "ne", "lt", "le", "gt", "ge"],
        apply: constants_right,
    },
    Rule {
        name: "neutral-operand",
        doc: "x + (-0.0) -> x; x - 0 -> x; x * 1 -> x; x / 1 -> x; pow(x, 1) -> x; integers: x + 0, x | 0, x ^ 0, x << 0; bool: x & true",
        roots: &["add", "sub", "mul", "div", "pow", "or", "xor", "and", "shl", "shr"],
        apply: neutral_operand,
    },
    Rule { name: "integer-zero", doc: "integers: x * 0 -> 0, x & 0 -> 0, x - x -> 0", roots: &["mul", "and", "sub"], apply: integer_zero },
    Rule { name: "square", doc: "pow(x, 2) -> mul(x, x); pow(x, -1) -> recip(x)", roots: &["pow"], apply: power },
    Rule { name: "one-over", doc: "div(1, x) -> recip(x) of floats", roots: &["div"], apply: one_over },
    Rule {
        name: "negation",
        doc: "neg(neg(x)) -> x; mul(x, -1) -> neg(x); add(x, neg(y)) -> sub(x, y); sub(x, neg(y)) -> add(x, y); integers: sub(0, x) -> neg(x)",
        roots: &["neg", "mul", "div", "add", "sub"],
        apply: negation,
    },
    Rule {
        name: "twice-not",
        doc: "not(not(x)) -> x; not(eq(x, y)) -> ne(x, y); abs(abs(x)) -> abs(x)",
        roots: &["not", "abs"],
        apply: twice,
    },
    Rule {
        name: "same-operands",
        doc: "min(x, x) -> x; max(x, x) -> x; and(x, x) -> x; or(x, x) -> x",
        roots: &["min", "max", "and", "or"],
        apply: same_operands,
    },
    Rule {
        name: "merge-bounds",
        doc: "min(min(x, a), b) -> min(x, min(a, b)), also max; max(min(x, hi), lo) -> min(max(x, lo), hi) when lo <= hi",
        roots: &["min", "max"],
        apply: merge_bounds,
    },
    Rule {
        name: "integer-chain",
        doc: "integers: add(add(x, a), b) -> add(x, a + b), also mul, with constants a and b",
        roots: &["add", "mul"],
        apply: integer_chain,
    },
    Rule {
        name: "cast-nothing",
        doc: "cast<t>(x: t) -> x; cast<u>(cast<t>(x)) -> cast<u>(x) when t holds every value of x",
        roots: &["cast"],
        apply: cast,
    },
    Rule {
        name: "bitcast-nothing",
        doc: "bitcast<t>(x: t) -> x; bitcast<u>(bitcast<t>(x)) -> bitcast<u>(x)",
        roots: &["bitcast"],
        apply: bitcast,
    },
];

fn two(node: &Node) -> Option<(ValueId, ValueId)> {
    match node.operands.as_slice() {
        &[x, y] => Some((x, y)),
        _ => None,
    }
}

/// 2 for constants, 1 for weights, 0 for what is computed from inputs.
fn constness(g: &Graph, v: ValueId) -> u8 {
    match g.producer(v).map(|n| &n.op) {
        Some(Op::Weight { .. }) => 1,
        Some(op) if op.is_source() => 2,
        _ => u8::from(splat(g, v).is_some()) * 2,
    }
}

fn flipped(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Le => BinaryOp::Ge,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Ge => BinaryOp::Le,
        other => other,
    }
}

fn constants_right(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Binary(op) = node.op else { return None };
    let (x, y) = two(node)?;
    if constness(g, x) <= constness(g, y) {
        return None;
    }
    let mut e = Edit::new(g, "constants-right", &[n]);
    let new = e.binary(flipped(op), y, x)?;
    e.finish(g.result(n), new)
}

/// A patch that replaces the result of `n` by the old value `x`.
pub(super) fn forward(g: &Graph, rule: &'static str, n: NodeId, x: ValueId) -> Option<Patch> {
    Edit::new(g, rule, &[n]).finish(g.result(n), x)
}

fn neutral_operand(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Binary(op) = node.op else { return None };
    let (x, y) = two(node)?;
    let c = splat(g, y)?;
    let v = number(c)?;
    let float = c.dtype.is_float();
    let neutral = match op {
        BinaryOp::Add => v == 0.0 && (!float || v.is_sign_negative()),
        BinaryOp::Sub => v == 0.0 && (!float || v.is_sign_positive()),
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow => v == 1.0,
        BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => !float && v == 0.0,
        BinaryOp::And => c.dtype == DType::Bool && v == 1.0,
        _ => false,
    };
    if neutral { forward(g, "neutral-operand", n, x) } else { None }
}

fn integer_zero(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (x, y) = two(node)?;
    let ty = g.ty(g.result(n)).clone();
    if !(ty.dtype.is_int() || ty.dtype == DType::Bool) {
        return None;
    }
    let zero = match node.op {
        Op::Binary(BinaryOp::Sub) => x == y,
        _ => is_exactly(g, y, 0.0),
    };
    if !zero {
        return None;
    }
    let mut e = Edit::new(g, "integer-zero", &[n]);
    let new = e.add(Op::Fill { value: Scalar::zero(ty.dtype), dims: ty.dims }, &[])?;
    e.finish(g.result(n), new)
}

fn power(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let (x, y) = two(g.node(n))?;
    let float = g.ty(x).dtype.is_float();
    let mut e = Edit::new(g, "square", &[n]);
    let new = if is_exactly(g, y, 2.0) {
        e.binary(BinaryOp::Mul, x, x)?
    } else if float && is_exactly(g, y, -1.0) {
        e.unary(UnaryOp::Recip, x)?
    } else {
        return None;
    };
    e.finish(g.result(n), new)
}

fn one_over(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let (x, y) = two(g.node(n))?;
    if !g.ty(y).dtype.is_float() || !is_exactly(g, x, 1.0) {
        return None;
    }
    let mut e = Edit::new(g, "one-over", &[n]);
    let new = e.unary(UnaryOp::Recip, y)?;
    e.finish(g.result(n), new)
}

fn negation(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    const NAME: &str = "negation";
    let node = g.node(n);
    if let Op::Unary(UnaryOp::Neg) = node.op {
        return forward(g, NAME, n, unary_of(g, *node.operands.first()?, UnaryOp::Neg)?);
    }
    let Op::Binary(op) = node.op else { return None };
    let (x, y) = two(node)?;
    let mut e = Edit::new(g, NAME, &[n]);
    let new = match op {
        BinaryOp::Mul | BinaryOp::Div if is_exactly(g, y, -1.0) && g.ty(x).dtype.kind() != Kind::Unsigned => e.unary(UnaryOp::Neg, x)?,
        BinaryOp::Add => match (unary_of(g, y, UnaryOp::Neg), unary_of(g, x, UnaryOp::Neg)) {
            (Some(y), _) => e.binary(BinaryOp::Sub, x, y)?,
            (_, Some(x)) => e.binary(BinaryOp::Sub, y, x)?,
            _ => return None,
        },
        BinaryOp::Sub => match unary_of(g, y, UnaryOp::Neg) {
            Some(y) => e.binary(BinaryOp::Add, x, y)?,
            None if g.ty(x).dtype.is_int() && is_exactly(g, x, 0.0) => e.unary(UnaryOp::Neg, y)?,
            None => return None,
        },
        _ => return None,
    };
    e.finish(g.result(n), new)
}

fn twice(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    const NAME: &str = "twice-not";
    let node = g.node(n);
    let &x = node.operands.first()?;
    match node.op {
        Op::Unary(UnaryOp::Abs) => {
            unary_of(g, x, UnaryOp::Abs)?;
            forward(g, NAME, n, x)
        }
        Op::Unary(UnaryOp::Not) => {
            if let Some(inner) = unary_of(g, x, UnaryOp::Not) {
                return forward(g, NAME, n, inner);
            }
            let swap = [(BinaryOp::Eq, BinaryOp::Ne), (BinaryOp::Ne, BinaryOp::Eq)];
            let (op, (a, b)) = swap.into_iter().find_map(|(from, to)| Some((to, binary_of(g, x, from)?)))?;
            let mut e = Edit::new(g, NAME, &[n]);
            let new = e.binary(op, a, b)?;
            e.finish(g.result(n), new)
        }
        _ => None,
    }
}

fn same_operands(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let (x, y) = two(g.node(n))?;
    if x == y { forward(g, "same-operands", n, x) } else { None }
}

fn merge_bounds(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Binary(op) = node.op else { return None };
    let (inner, b) = two(node)?;
    let b_value = number(splat(g, b)?).filter(|v| !v.is_nan())?;
    let dtype = g.ty(inner).dtype;
    let mut e = Edit::new(g, "merge-bounds", &[n]);
    let new = if let Some((x, a)) = binary_of(g, inner, op) {
        let a_value = number(splat(g, a)?).filter(|v| !v.is_nan())?;
        if g.ty(x).dims != g.ty(inner).dims || a_value == b_value && a_value == 0.0 {
            return None;
        }
        let tighter = if op == BinaryOp::Min { a_value.min(b_value) } else { a_value.max(b_value) };
        let bound = if tighter == a_value { a } else { b };
        e.binary(op, x, bound)?
    } else if let (BinaryOp::Max, Some((x, hi))) = (op, binary_of(g, inner, BinaryOp::Min)) {
        if number(splat(g, hi)?)? <= b_value || dtype != g.ty(x).dtype {
            return None;
        }
        let low = e.binary(BinaryOp::Max, x, b)?;
        e.binary(BinaryOp::Min, low, hi)?
    } else {
        return None;
    };
    e.finish(g.result(n), new)
}

fn integer_chain(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let Op::Binary(op) = node.op else { return None };
    let (inner, b) = two(node)?;
    let (x, a) = binary_of(g, inner, op)?;
    let (a_value, b_value) = (splat(g, a)?, splat(g, b)?);
    if !a_value.dtype.is_int() || g.ty(x).dims != g.ty(inner).dims {
        return None;
    }
    // Both wrap at the width of the dtype, so the constants may be joined at any width.
    let bits = match op {
        BinaryOp::Add => a_value.bits.wrapping_add(b_value.bits),
        _ => a_value.bits.wrapping_mul(b_value.bits),
    } & portwright_ir::numerics::mask(a_value.dtype);
    let value = Literal::scalar(Scalar { dtype: a_value.dtype, bits });
    let mut e = Edit::new(g, "integer-chain", &[n]);
    let c = e.add(Op::Const { value }, &[])?;
    let new = e.binary(op, x, c)?;
    e.finish(g.result(n), new)
}

/// Whether every value of `from` is a value of `to`.
fn holds_every(from: DType, to: DType) -> bool {
    if from == to {
        return true;
    }
    match (from.float_format(), to.float_format(), from.int_range(), to.int_range()) {
        (Some(a), Some(b), _, _) => {
            let low = |f: portwright_ir::dtype::FloatFormat| 1 - f.bias - f.mantissa_bits as i32;
            let high = |f: portwright_ir::dtype::FloatFormat| (1 << f.exponent_bits) - 1 - f.bias;
            use portwright_ir::dtype::NanCode;
            b.mantissa_bits >= a.mantissa_bits
                && low(b) <= low(a)
                && high(b) > high(a)
                && (b.signed || !a.signed)
                && (b.infinity || !a.infinity)
                && (b.nan != NanCode::None || a.nan == NanCode::None)
        }
        (None, Some(b), Some((lo, hi)), _) => {
            let exact = 1i128 << (b.mantissa_bits + 1);
            b.signed && b.exponent_bits >= 8 && -exact <= lo && hi <= exact
        }
        (None, None, Some((lo, hi)), Some((to_lo, to_hi))) => to_lo <= lo && hi <= to_hi && to != DType::Bool,
        _ => false,
    }
}

fn cast(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    const NAME: &str = "cast-nothing";
    let node = g.node(n);
    let &x = node.operands.first()?;
    let Op::Cast { to, saturate } = node.op else { return None };
    if g.ty(x).dtype == to {
        return forward(g, NAME, n, x);
    }
    let inner = g.producer(x)?;
    let (&source, Op::Cast { to: middle, .. }) = (inner.operands.first()?, &inner.op) else { return None };
    let from = g.ty(source).dtype;
    // Integers wrap where floats saturate: through a float the way matters unless it leads back.
    let same_way = from == to || to.is_float() || from.is_float() == middle.is_float();
    if !holds_every(from, *middle) || !same_way {
        return None;
    }
    let mut e = Edit::new(g, NAME, &[n]);
    let new = if from == to { Tap::Old(source) } else { e.add(Op::Cast { to, saturate }, &[source.into()])? };
    e.finish(g.result(n), new)
}

fn bitcast(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    const NAME: &str = "bitcast-nothing";
    let node = g.node(n);
    let &x = node.operands.first()?;
    let Op::Bitcast { to } = node.op else { return None };
    if g.ty(x).dtype == to {
        return forward(g, NAME, n, x);
    }
    let inner = g.producer(x).filter(|i| matches!(i.op, Op::Bitcast { .. }))?;
    let mut e = Edit::new(g, NAME, &[n]);
    let new = e.add(Op::Bitcast { to }, &[(*inner.operands.first()?).into()])?;
    e.finish(g.result(n), new)
}
