// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Winograd's transforms of one row or column: twelve or thirteen operations, since points of both signs share their even and odd parts.

use portwright_ir::graph::winograd::POINTS;
use portwright_ir::kernel::{Ex, Kb};

use super::elementwise::like;

/// `B^T d` for one column.
pub(crate) fn points(k: &mut Kb<'_>, d: &[Ex]) -> Vec<Ex> {
    let [p, q] = POINTS;
    let number = |v: f64| like(&d[0], v);
    let mut named = |name: &str, x: Ex| k.let_(name, x);
    let (p2, q2) = (p * p, q * q);
    let first = d[2].fma(number(-p2 - q2), d[0].fma(number(p2 * q2), &d[4]));
    let last = d[3].fma(number(-p2 - q2), d[1].fma(number(p2 * q2), &d[5]));
    let mut out = vec![named("b", first)];
    // At +-a: an even part and a odd one, with the square of the other point.
    for (a, other) in [(p, q2), (q, p2)] {
        let even = named("even", d[2].fma(number(-other), &d[4]));
        let odd = named("odd", d[1].fma(number(-other), &d[3]));
        out.push(named("b", odd.fma(number(a), &even)));
        out.push(named("b", odd.fma(number(-a), &even)));
    }
    out.push(named("b", last));
    out
}

/// `A^T m` for one column.
pub(crate) fn results(k: &mut Kb<'_>, m: &[Ex]) -> Vec<Ex> {
    let [p, q] = POINTS;
    let number = |v: f64| like(&m[0], v);
    let mut named = |name: &str, x: Ex| k.let_(name, x);
    let (e1, o1) = (named("even", &m[1] + &m[2]), named("odd", &m[1] - &m[2]));
    let (e2, o2) = (named("even", &m[3] + &m[4]), named("odd", &m[3] - &m[4]));
    let power = |x: f64, n: i32| number(x.powi(n));
    let sums = [
        &m[0] + (&e1 + &e2),
        o2.fma(power(q, 1), &o1 * power(p, 1)),
        e2.fma(power(q, 2), &e1 * power(p, 2)),
        o2.fma(power(q, 3), o1.fma(power(p, 3), &m[5])),
    ];
    sums.into_iter().map(|s| named("a", s)).collect()
}
