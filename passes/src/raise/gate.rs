// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Activations that multiply `x` by a gate of `x`: GELU in both forms, SiLU, HardSwish.

use portwright_ir::graph::{BinaryOp, Graph, NodeId, Op, Patch, UnaryOp, ValueId};

use crate::rules::consts::splat_f64;
use crate::rules::edit::{binary_of, unary_of};
use crate::rules::{Edit, Rule, RuleCx};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "raise-sigmoid", doc: "recip(add(exp(neg(x)), 1)) -> sigmoid(x)", roots: &["recip"], apply: sigmoid },
    Rule {
        name: "raise-gate",
        doc: "x * 0.5 * (1 + erf(x / sqrt 2)) -> gelu(x); with tanh(0.798 * (x + 0.0447 * x^3)) -> gelu{tanh}(x); x * sigmoid(x) -> silu(x); \
              x * min(max(x + 3, 0), 6) / 6 -> hard_swish(x); factors in any order",
        roots: &["mul", "div"],
        apply: gate,
    },
];

fn sigmoid(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let &sum = g.node(n).operands.first()?;
    let x = logistic_denominator(g, sum)?;
    let mut e = Edit::new(g, "raise-sigmoid", &[n]);
    let new = e.unary(UnaryOp::Sigmoid, x)?;
    e.finish(g.result(n), new)
}

/// `x` of `1 + exp(-x)`.
fn logistic_denominator(g: &Graph, v: ValueId) -> Option<ValueId> {
    let (e, one) = binary_of(g, v, BinaryOp::Add)?;
    if splat_f64(g, one) != Some(1.0) {
        return None;
    }
    unary_of(g, unary_of(g, e, UnaryOp::Exp)?, UnaryOp::Neg)
}

/// A product as constant and factors; factors that are products themselves are listed as well as their parts are.
struct Product {
    constant: f64,
    leaves: Vec<ValueId>,
}

/// Takes a product apart down to `stop`, at most four levels deep.
fn product(g: &Graph, v: ValueId, stop: &[ValueId], depth: u32) -> Product {
    let mut out = Product { constant: 1.0, leaves: Vec::new() };
    if depth > 0 && !stop.contains(&v) {
        for (op, sign) in [(BinaryOp::Mul, 1), (BinaryOp::Div, -1)] {
            let Some((a, b)) = binary_of(g, v, op) else { continue };
            if let Some(c) = splat_f64(g, b) {
                out = product(g, a, stop, depth - 1);
                out.constant *= if sign > 0 { c } else { 1.0 / c };
                return out;
            }
            if sign > 0 {
                for part in [a, b] {
                    let p = product(g, part, stop, depth - 1);
                    out.constant *= p.constant;
                    out.leaves.extend(p.leaves);
                }
                return out;
            }
        }
    }
    out.leaves.push(v);
    out
}

/// Values in a product's tree, so that a factor that is a product itself can be `x`.
fn factors(g: &Graph, v: ValueId, depth: u32, out: &mut Vec<ValueId>) {
    out.push(v);
    if depth == 0 {
        return;
    }
    if let Some((a, b)) = binary_of(g, v, BinaryOp::Mul).or_else(|| binary_of(g, v, BinaryOp::Div)) {
        for part in [a, b] {
            if splat_f64(g, part).is_none() {
                factors(g, part, depth - 1, out);
            }
        }
    }
}

/// `v` as a polynomial of degree 3 at most in `x`, lowest coefficient first.
fn polynomial(g: &Graph, v: ValueId, x: ValueId, depth: u32) -> Option<[f64; 4]> {
    if v == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(c) = splat_f64(g, v) {
        return Some([c, 0.0, 0.0, 0.0]);
    }
    let depth = depth.checked_sub(1)?;
    let node = g.producer(v)?;
    let of = |v: ValueId| polynomial(g, v, x, depth);
    match (&node.op, node.operands.as_slice()) {
        (Op::Unary(UnaryOp::Neg), &[a]) => Some(of(a)?.map(|c| -c)),
        (Op::Binary(BinaryOp::Add), &[a, b]) => {
            let (a, b) = (of(a)?, of(b)?);
            Some(std::array::from_fn(|i| a[i] + b[i]))
        }
        (Op::Binary(BinaryOp::Sub), &[a, b]) => {
            let (a, b) = (of(a)?, of(b)?);
            Some(std::array::from_fn(|i| a[i] - b[i]))
        }
        (Op::Binary(BinaryOp::Mul), &[a, b]) => multiply(of(a)?, of(b)?),
        (Op::Binary(BinaryOp::Div), &[a, b]) => {
            let c = splat_f64(g, b)?;
            Some(of(a)?.map(|k| k / c))
        }
        (Op::Binary(BinaryOp::Pow), &[a, b]) => {
            let a = of(a)?;
            match splat_f64(g, b)? {
                2.0 => multiply(a, a),
                3.0 => multiply(multiply(a, a)?, a),
                _ => None,
            }
        }
        _ => None,
    }
}

fn multiply(a: [f64; 4], b: [f64; 4]) -> Option<[f64; 4]> {
    let mut out = [0.0; 4];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            if x * y != 0.0 {
                *out.get_mut(i + j)? += x * y;
            }
        }
    }
    Some(out)
}

fn about(found: [f64; 4], wanted: [f64; 4]) -> bool {
    found.iter().zip(wanted).all(|(f, w)| (f - w).abs() <= 1e-3 * w.abs())
}

/// What a gate with a constant factor in front of it makes of `x`.
fn composite(g: &Graph, gate: ValueId, x: ValueId, factor: f64) -> Option<Op> {
    const DEPTH: u32 = 8;
    let near = |v: f64, w: f64| (v - w).abs() <= 1e-3 * w.abs();
    if let Some(inner) = unary_of(g, gate, UnaryOp::Sigmoid) {
        return (inner == x && factor == 1.0).then_some(Op::Silu {});
    }
    if let Some((inner, one)) = binary_of(g, gate, BinaryOp::Add) {
        if splat_f64(g, one) != Some(1.0) || !near(factor, 0.5) {
            return None;
        }
        if let Some(p) = unary_of(g, inner, UnaryOp::Erf) {
            let wanted = [0.0, std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0];
            return about(polynomial(g, p, x, DEPTH)?, wanted).then_some(Op::Gelu { tanh: false });
        }
        let p = unary_of(g, inner, UnaryOp::Tanh)?;
        let k = (2.0 / std::f64::consts::PI).sqrt();
        return about(polynomial(g, p, x, DEPTH)?, [0.0, k, 0.0, k * 0.044715]).then_some(Op::Gelu { tanh: true });
    }
    let (low, hi) = binary_of(g, gate, BinaryOp::Min)?;
    let (p, lo) = binary_of(g, low, BinaryOp::Max)?;
    let bounds = splat_f64(g, lo)? == 0.0 && near(splat_f64(g, hi)? * factor, 1.0);
    let scaled = polynomial(g, p, x, DEPTH)?.map(|c| c * factor);
    (bounds && about(scaled, [0.5, 1.0 / 6.0, 0.0, 0.0])).then_some(Op::HardSwish {})
}

fn is_gate(g: &Graph, v: ValueId) -> bool {
    match g.producer(v).map(|n| (&n.op, n.operands.as_slice())) {
        Some((Op::Unary(UnaryOp::Sigmoid), _)) => true,
        Some((Op::Binary(BinaryOp::Add), &[a, _])) => {
            matches!(g.producer(a).map(|n| &n.op), Some(Op::Unary(UnaryOp::Erf | UnaryOp::Tanh)))
        }
        Some((Op::Binary(BinaryOp::Min), &[a, _])) => binary_of(g, a, BinaryOp::Max).is_some(),
        _ => false,
    }
}

fn gate(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    const NAME: &str = "raise-gate";
    let y = g.result(n);
    if !g.ty(y).dtype.is_float() {
        return None;
    }
    // x / (1 + exp(-x))
    if let Some((x, sum)) = binary_of(g, y, BinaryOp::Div)
        && logistic_denominator(g, sum) == Some(x)
    {
        let mut e = Edit::new(g, NAME, &[n]);
        let new = e.add(Op::Silu {}, &[x.into()])?;
        return e.finish(y, new);
    }
    let mut tree = Vec::new();
    factors(g, y, 4, &mut tree);
    let gates: Vec<ValueId> = tree.iter().copied().filter(|&v| v != y && is_gate(g, v)).collect();
    for gate in gates {
        for &x in tree.iter().filter(|&&v| v != y && v != gate) {
            let p = product(g, y, &[x, gate], 5);
            let mut leaves = p.leaves;
            leaves.sort_unstable();
            let mut wanted = [x, gate];
            wanted.sort_unstable();
            if leaves != wanted {
                continue;
            }
            if let Some(op) = composite(g, gate, x, p.constant) {
                let mut e = Edit::new(g, NAME, &[n]);
                let new = e.add(op, &[x.into()])?;
                return e.finish(y, new);
            }
        }
    }
    None
}
