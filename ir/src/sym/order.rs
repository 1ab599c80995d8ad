// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Proofs that an expression is never negative, by cases over its minima, maxima and divisions.
//!
//! Intervals alone take every occurrence of a symbol as another number, so that `N - min(K, N)` may be anything to them. Here a minimum
//! or maximum is replaced by what it can be, and a floor or ceiling by the line that bounds it, until intervals decide.

use super::{Atom, Repr, SymExpr};

/// Most replacements of one proof.
const STEPS: u32 = 96;

type Range<'a> = &'a dyn Fn(&str) -> Option<(i64, i64)>;

impl SymExpr {
    /// Whether it is proven to be 0 or more for all symbols within their ranges (`range`; an unknown symbol is `0..=i64::MAX`).
    /// `false` says nothing.
    pub fn never_negative(&self, range: Range<'_>) -> bool {
        prove(self, range, &mut STEPS.clone())
    }
}

fn prove(e: &SymExpr, range: Range<'_>, steps: &mut u32) -> bool {
    if e.is_overflowed() {
        return false;
    }
    if e.bounds(range).0 >= 0 {
        return true;
    }
    let Repr::Poly(p) = &e.0 else { return false };
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    let without = |i: usize| {
        let mut p = (**p).clone();
        p.terms.remove(i);
        SymExpr::from_poly(p)
    };
    // What needs all of its cases is exact; what needs one of them waits until nothing else is left.
    let mut choice = None;
    for (i, (atoms, c)) in p.terms.iter().enumerate() {
        let [atom] = atoms.as_slice() else { continue };
        let times = |x: &SymExpr| x.clone() * *c;
        match atom {
            Atom::Min(x, y) | Atom::Max(x, y) => {
                if matches!(atom, Atom::Min(..)) == (*c > 0) {
                    let rest = without(i);
                    return prove(&(&rest + &times(x)), range, steps) && prove(&(&rest + &times(y)), range, steps);
                }
                choice = choice.or(Some((i, times(x), times(y))));
            }
            Atom::Div(x, k) | Atom::Ceil(x, k) => {
                let Some(unit) = k.as_const().filter(|k| *k > 0) else { continue };
                // `unit * floor(x / unit)` is `x - unit + 1` to `x`, `unit * ceil(x / unit)` is `x` to `x + unit - 1`.
                let slack = match (atom, *c > 0) {
                    (Atom::Div(..), true) => 1 - unit,
                    (Atom::Ceil(..), false) => unit - 1,
                    _ => 0,
                };
                // A multiple of `unit` is 0 or more as soon as it is more than `-unit`.
                let line = without(i) * unit + times(&(x.clone() + slack)) + (unit - 1);
                return prove(&line, range, steps);
            }
            Atom::Sym(_) | Atom::Mod(..) => {}
        }
    }
    choice.is_some_and(|(i, x, y)| {
        let rest = without(i);
        prove(&(&rest + &x), range, steps) || prove(&(&rest + &y), range, steps)
    })
}
