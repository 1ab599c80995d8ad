// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One element, and arithmetic on it.

use crate::dtype::DType;
use crate::graph::{BinaryOp, Graph, Scalar, UnaryOp};
use crate::numerics;
use crate::sym::SymExpr;

/// What is known about one element of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elem {
    /// A constant, as bits of the tensor's dtype.
    Bits(u64),
    /// An integer that depends on symbols (in a float tensor: the float of that value).
    Expr(SymExpr),
    /// In a float tensor: the quotient, rounded to the dtype if the divisor is no power of two.
    Ratio(SymExpr, i64),
    /// Nothing.
    Unknown,
}

/// Largest divisor that is followed.
const MAX_DIVISOR: i64 = 1 << 40;

/// Largest integer up to which a float dtype holds all of them, and whether that must be proven.
fn exact_limit(dtype: DType) -> Option<(i64, bool)> {
    match dtype {
        DType::F64 => Some((1 << 53, false)),
        DType::F32 => Some((1 << 24, false)),
        DType::F16 => Some((1 << 11, true)),
        DType::BF16 => Some((1 << 8, true)),
        _ => None,
    }
}

/// Whether an expression that depends on symbols may stand as an element of `dtype`.
fn fits(graph: &Graph, dtype: DType, e: &SymExpr) -> bool {
    let (lo, hi) = graph.bounds(e);
    let (least, most, proof) = match (dtype.int_range(), exact_limit(dtype)) {
        (Some((a, b)), _) => {
            let clamp = |v: i128| v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            (clamp(a), clamp(b), dtype.bits() < 32)
        }
        (_, Some((m, proof))) => (-m, m, proof),
        _ => return false,
    };
    if lo >= least && hi <= most {
        return true;
    }
    // Unsigned dtypes need the proof that nothing goes below zero.
    !proof && lo <= most && hi >= least && (least < 0 || lo >= 0)
}

fn is_power_of_two(v: i64) -> bool {
    v > 0 && v & (v - 1) == 0
}

impl Elem {
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Elem::Unknown)
    }

    /// An integer as an element of `dtype`; unknown where it may wrap or round.
    pub(super) fn admit(graph: &Graph, dtype: DType, e: SymExpr) -> Elem {
        match e.as_const() {
            Some(c) if dtype.is_float() => Elem::Bits(Scalar::from_i64(dtype, c).bits),
            Some(c) => Elem::Bits(numerics::int_to_bits(dtype, i128::from(c))),
            None if !e.is_overflowed() && fits(graph, dtype, &e) => Elem::Expr(e),
            None => Elem::Unknown,
        }
    }

    fn ratio(graph: &Graph, dtype: DType, e: SymExpr, q: i64) -> Elem {
        if !(1..=MAX_DIVISOR).contains(&q) || e.is_overflowed() || !matches!(dtype, DType::F32 | DType::F64) {
            return Elem::Unknown;
        }
        if e.modulo(&q.into()).is(0) { Elem::admit(graph, dtype, e.div(&q.into())) } else { Elem::Ratio(e, q) }
    }

    pub(super) fn bool(v: bool) -> Elem {
        Elem::Bits(u64::from(v))
    }

    /// The element as an integer expression, if it is one.
    pub(super) fn as_expr(&self, dtype: DType) -> Option<SymExpr> {
        match self {
            Elem::Bits(b) if dtype.is_float() => Scalar { dtype, bits: *b }.to_i64().map(SymExpr::from),
            Elem::Bits(b) => i64::try_from(numerics::int_from_bits(dtype, *b)).ok().map(SymExpr::from),
            Elem::Expr(e) => Some(e.clone()),
            Elem::Ratio(..) | Elem::Unknown => None,
        }
    }

    /// The element of a float tensor as an exact quotient.
    fn as_ratio(&self, dtype: DType) -> Option<(SymExpr, i64)> {
        match self {
            Elem::Expr(e) => Some((e.clone(), 1)),
            Elem::Ratio(e, q) => is_power_of_two(*q).then(|| (e.clone(), *q)),
            Elem::Bits(b) => {
                let v = numerics::decode_f64(dtype, *b);
                let q = (0..=20).map(|s| 1i64 << s).find(|q| (v * *q as f64).fract() == 0.0)?;
                let p = v * q as f64;
                (p.abs() < MAX_DIVISOR as f64).then(|| ((p as i64).into(), q))
            }
            Elem::Unknown => None,
        }
    }
}

/// Applies a function of one operand.
pub(super) fn unary(graph: &Graph, op: UnaryOp, dtype: DType, x: &Elem) -> Elem {
    let e = match x {
        Elem::Bits(b) => return Elem::Bits(numerics::unary(op, dtype, *b)),
        Elem::Unknown => return Elem::Unknown,
        Elem::Ratio(e, q) => {
            let q = SymExpr::from(*q);
            return match op {
                UnaryOp::Floor => Elem::admit(graph, dtype, e.div(&q)),
                UnaryOp::Ceil => Elem::admit(graph, dtype, e.ceil_div(&q)),
                UnaryOp::Trunc if graph.bounds(e).0 >= 0 => Elem::admit(graph, dtype, e.div(&q)),
                UnaryOp::IsNan | UnaryOp::IsInf => Elem::bool(false),
                _ => Elem::Unknown,
            };
        }
        Elem::Expr(e) => e,
    };
    let (lo, hi) = graph.bounds(e);
    let negated = || SymExpr::from(0) - e.clone();
    match op {
        UnaryOp::Neg => Elem::admit(graph, dtype, negated()),
        UnaryOp::Abs if lo >= 0 => x.clone(),
        UnaryOp::Abs if hi <= 0 => Elem::admit(graph, dtype, negated()),
        UnaryOp::Sign if lo > 0 => Elem::admit(graph, dtype, 1.into()),
        UnaryOp::Sign if hi < 0 => Elem::admit(graph, dtype, (-1).into()),
        UnaryOp::Not if dtype == DType::Bool => Elem::admit(graph, dtype, SymExpr::from(1) - e.clone()),
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => x.clone(),
        UnaryOp::IsNan | UnaryOp::IsInf => Elem::bool(false),
        _ => Elem::Unknown,
    }
}

/// Applies a function of two operands of one dtype.
pub(super) fn binary(graph: &Graph, op: BinaryOp, dtype: DType, a: &Elem, b: &Elem) -> Elem {
    use BinaryOp::*;
    if let (Elem::Bits(a), Elem::Bits(b)) = (a, b) {
        return Elem::Bits(numerics::binary(op, dtype, *a, *b));
    }
    if dtype == DType::Bool {
        return logic(op, a, b);
    }
    if let (Some(x), Some(y)) = (a.as_expr(dtype), b.as_expr(dtype))
        && (dtype.is_int() || !matches!(op, Div))
    {
        return integers(graph, op, dtype, &x, &y);
    }
    // Integers absorb: nothing needs to be known about the other side.
    if dtype.is_int() && op == Mul && (matches!(a, Elem::Bits(0)) || matches!(b, Elem::Bits(0))) {
        return Elem::Bits(0);
    }
    if !dtype.is_float() {
        return Elem::Unknown;
    }
    let (Some((x, p)), Some((y, q))) = (a.as_ratio(dtype), b.as_ratio(dtype)) else { return Elem::Unknown };
    let Some(pq) = p.checked_mul(q) else { return Elem::Unknown };
    match op {
        Mul => Elem::ratio(graph, dtype, x * y, pq),
        Add => Elem::ratio(graph, dtype, x * q + y * p, pq),
        Sub => Elem::ratio(graph, dtype, x * q - y * p, pq),
        Div => match y.as_const().and_then(|y| p.checked_mul(y)) {
            Some(d) if d > 0 => Elem::ratio(graph, dtype, x * q, d),
            _ => Elem::Unknown,
        },
        _ if op.is_compare() => compare(graph, op, &(x * q), &(y * p)),
        _ => Elem::Unknown,
    }
}

fn logic(op: BinaryOp, a: &Elem, b: &Elem) -> Elem {
    match (op, a, b) {
        (BinaryOp::And, Elem::Bits(0), _) | (BinaryOp::And, _, Elem::Bits(0)) => Elem::bool(false),
        (BinaryOp::Or, Elem::Bits(1), _) | (BinaryOp::Or, _, Elem::Bits(1)) => Elem::bool(true),
        (BinaryOp::And, Elem::Bits(1), x) | (BinaryOp::And, x, Elem::Bits(1)) => x.clone(),
        (BinaryOp::Or, Elem::Bits(0), x) | (BinaryOp::Or, x, Elem::Bits(0)) => x.clone(),
        _ => Elem::Unknown,
    }
}

fn compare(graph: &Graph, op: BinaryOp, x: &SymExpr, y: &SymExpr) -> Elem {
    let (lo, hi) = graph.bounds(&(x - y));
    let holds = match op {
        BinaryOp::Eq if lo == 0 && hi == 0 => Some(true),
        BinaryOp::Eq if lo > 0 || hi < 0 => Some(false),
        BinaryOp::Ne if lo == 0 && hi == 0 => Some(false),
        BinaryOp::Ne if lo > 0 || hi < 0 => Some(true),
        BinaryOp::Lt | BinaryOp::Ge if hi < 0 => Some(op == BinaryOp::Lt),
        BinaryOp::Lt | BinaryOp::Ge if lo >= 0 => Some(op == BinaryOp::Ge),
        BinaryOp::Le | BinaryOp::Gt if hi <= 0 => Some(op == BinaryOp::Le),
        BinaryOp::Le | BinaryOp::Gt if lo > 0 => Some(op == BinaryOp::Gt),
        _ => None,
    };
    holds.map_or(Elem::Unknown, Elem::bool)
}

/// Arithmetic on integers (in a float tensor: on floats that are integers).
fn integers(graph: &Graph, op: BinaryOp, dtype: DType, x: &SymExpr, y: &SymExpr) -> Elem {
    use BinaryOp::*;
    let non_negative = |e: &SymExpr| graph.bounds(e).0 >= 0;
    let positive = |e: &SymExpr| graph.bounds(e).0 > 0;
    let (lo, hi) = graph.bounds(&(x - y));
    let e = match op {
        Add => x + y,
        Sub => x - y,
        Mul => x * y,
        // Truncation is flooring where nothing is negative, or nothing remains.
        Div if positive(y) && (non_negative(x) || x.modulo(y).is(0)) => x.div(y),
        Div if y.as_const().is_some_and(|c| c < 0 && c != i64::MIN) && non_negative(x) => {
            SymExpr::from(0) - x.div(&(SymExpr::from(0) - y.clone()))
        }
        Mod if positive(y) => x.modulo(y),
        Rem if positive(y) && non_negative(x) => x.modulo(y),
        Min if hi <= 0 => x.clone(),
        Min if lo >= 0 => y.clone(),
        Min => x.minimum(y),
        Max if lo >= 0 => x.clone(),
        Max if hi <= 0 => y.clone(),
        Max => x.maximum(y),
        Pow => match y.as_const() {
            Some(n @ 0..=8) => (0..n).fold(SymExpr::from(1), |p, _| &p * x),
            _ => return Elem::Unknown,
        },
        Shl if dtype.is_int() => match y.as_const() {
            Some(n @ 0..=30) => x * &SymExpr::from(1i64 << n),
            _ => return Elem::Unknown,
        },
        Shr if dtype.is_int() => match y.as_const() {
            Some(n @ 0..=30) => x.div(&(1i64 << n).into()),
            _ => return Elem::Unknown,
        },
        _ if op.is_compare() => return compare(graph, op, x, y),
        _ => return Elem::Unknown,
    };
    Elem::admit(graph, dtype, e)
}

/// Converts an element.
pub(super) fn cast(graph: &Graph, from: DType, to: DType, saturate: bool, x: &Elem) -> Elem {
    let to_number = |e: &SymExpr| {
        if to != DType::Bool {
            return Elem::admit(graph, to, e.clone());
        }
        match graph.bounds(e) {
            (lo, hi) if lo > 0 || hi < 0 => Elem::bool(true),
            _ if from == DType::Bool => Elem::Expr(e.clone()),
            _ => Elem::Unknown,
        }
    };
    match x {
        Elem::Bits(b) => Elem::Bits(numerics::cast(*b, from, to, saturate)),
        Elem::Expr(e) => to_number(e),
        Elem::Ratio(e, q) if to.is_int() && graph.bounds(e).0 >= 0 => to_number(&e.div(&(*q).into())),
        Elem::Ratio(e, q) if to.is_float() && is_power_of_two(*q) => Elem::ratio(graph, to, e.clone(), *q),
        Elem::Ratio(..) if to == from => x.clone(),
        Elem::Ratio(..) | Elem::Unknown => Elem::Unknown,
    }
}
