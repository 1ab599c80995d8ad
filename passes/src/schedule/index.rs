// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Coordinates as expressions: loop variables are symbols with ranges, so that index arithmetic is simplified before it is emitted.
//!
//! Names of loop variables begin with `%`. `%lane` is the position in a vector: an expression that is linear in it is a vector of
//! equally spaced indices.

use std::collections::{BTreeSet, HashMap};

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Code, Ex, Kb, Ty};
use portwright_ir::sym::{Atom, SymExpr, SymName, View};

/// Position in a vector.
pub(crate) const LANE: &str = "%lane";

/// The lane as an expression.
pub(crate) fn lane() -> SymExpr {
    SymExpr::sym(LANE)
}

/// A loop variable or named index with its range.
#[derive(Clone, Debug)]
struct Bound {
    ex: Ex,
    /// One more than the largest value.
    end: SymExpr,
}

/// Loop variables in scope and ranges of the kernel's symbols.
#[derive(Default)]
pub(crate) struct Indices {
    vars: HashMap<SymName, Bound>,
    ranges: HashMap<SymName, (i64, i64)>,
    next: u32,
    /// Lanes of a vector.
    pub(crate) width: u32,
}

impl Indices {
    /// Declares a symbol of the kernel with its range.
    pub(crate) fn add_symbol(&mut self, name: &str, lo: i64, hi: i64) {
        self.ranges.insert(name.into(), (lo, hi));
    }
    /// Names an index value `0 <= ex < end` and returns it as an expression.
    pub(crate) fn bind(&mut self, hint: &str, ex: Ex, end: SymExpr) -> SymExpr {
        let name: SymName = format!("%{hint}{}", self.next).into();
        self.next += 1;
        self.vars.insert(name.clone(), Bound { ex, end });
        SymExpr::sym(name)
    }
    /// Smallest and largest value of an expression.
    pub(crate) fn bounds(&self, e: &SymExpr) -> (i64, i64) {
        e.bounds(&|s| match self.vars.get(s) {
            Some(b) => Some((0, self.bounds(&b.end).1.saturating_sub(1).max(0))),
            None if s == LANE => Some((0, i64::from(self.width.max(1)) - 1)),
            None => self.ranges.get(s).copied(),
        })
    }
    /// Whether `0 <= e < end` for every value of the loop variables in it.
    pub(crate) fn in_range(&self, e: &SymExpr, end: &SymExpr) -> bool {
        self.bounds(e).0 >= 0 && self.below(e, end)
    }
    /// Whether `e < end`, with each variable at its symbolic end.
    pub(crate) fn below(&self, e: &SymExpr, end: &SymExpr) -> bool {
        if self.bounds(&(end - e)).0 > 0 {
            return true;
        }
        let View::Sum(terms, _) = e.view() else { return false };
        // Only where each variable appears once and grows the value is its end the worst case.
        let simple = terms.iter().all(|(c, atoms)| *c > 0 && atoms.iter().all(|a| matches!(a, Atom::Sym(_))));
        if !simple {
            return false;
        }
        let last_lane = SymExpr::from(i64::from(self.width.max(1)) - 1);
        let worst = e.substitute(&|s| match self.vars.get(s) {
            Some(b) => Some(b.end.clone() - 1),
            None => (s == LANE).then(|| last_lane.clone()),
        });
        self.bounds(&(end - &worst)).0 > 0
    }
    /// `floor(e / d)` and `e - d * floor(e / d)` for `e >= 0`, split along the terms that `d` divides.
    pub(crate) fn div_mod(&self, e: &SymExpr, d: &SymExpr) -> (SymExpr, SymExpr) {
        if self.in_range(e, d) {
            return (0.into(), e.clone());
        }
        let View::Sum(terms, constant) = e.view() else { return (e.div(d), e.modulo(d)) };
        let (mut whole, mut rest) = (SymExpr::from(0), SymExpr::from(0));
        for (c, atoms) in terms {
            let t = atoms.into_iter().fold(SymExpr::from(c), |t, a| t * from_atom(a));
            let q = t.div(d);
            if &q * d == t { whole = whole + q } else { rest = rest + t }
        }
        match d.as_const() {
            Some(k) if k > 0 => {
                whole = whole + constant.div_euclid(k);
                rest = rest + constant.rem_euclid(k);
            }
            _ => rest = rest + constant,
        }
        if self.in_range(&rest, d) { (whole, rest) } else { (e.div(d), e.modulo(d)) }
    }
    /// Row-major coordinates of a linear index.
    pub(crate) fn delinearize(&self, linear: &SymExpr, dims: &[SymExpr]) -> Vec<SymExpr> {
        let mut rest = linear.clone();
        let mut out = vec![SymExpr::from(0); dims.len()];
        for i in (0..dims.len()).rev() {
            if dims[i].is(1) {
                continue;
            }
            if dims[..i].iter().all(|d| d.is(1)) {
                out[i] = rest;
                break;
            }
            let (q, r) = self.div_mod(&rest, &dims[i]);
            out[i] = r;
            rest = q;
        }
        out
    }
    /// Whether an expression has a loop variable (or the lane) in it.
    pub(crate) fn varies(e: &SymExpr) -> bool {
        let mut set = BTreeSet::new();
        e.collect_symbols(&mut set);
        set.iter().any(|s| s.starts_with('%'))
    }

    /// Emits an expression without lane as an index.
    pub(crate) fn emit(&self, k: &Kb<'_>, e: &SymExpr) -> Ex {
        if !Self::varies(e) {
            return k.dim(e);
        }
        let View::Sum(terms, constant) = e.view() else { return k.dim(e) };
        // Positive terms first: no intermediate result is below the value unless the value is.
        let mut sum: Option<Ex> = None;
        let (pos, neg): (Vec<_>, Vec<_>) = terms.into_iter().partition(|t| t.0 > 0);
        for (c, atoms) in pos {
            let t = self.emit_product(k, c, &atoms);
            sum = Some(match sum {
                None => t,
                Some(s) => s + t,
            });
        }
        if constant > 0 {
            sum = Some(match sum {
                None => literal(k, constant),
                Some(s) => s + constant,
            });
        }
        for (c, atoms) in neg {
            let t = self.emit_product(k, -c, &atoms);
            sum = Some(sum.unwrap_or_else(|| literal(k, 0)) - t);
        }
        match (sum, constant) {
            (Some(s), c) if c < 0 => s - (-c),
            (Some(s), _) => s,
            (None, c) => literal(k, c),
        }
    }
    fn emit_product(&self, k: &Kb<'_>, c: i64, atoms: &[Atom]) -> Ex {
        let (fixed, varying): (Vec<&Atom>, Vec<&Atom>) = atoms.iter().partition(|a| !Self::varies(&from_atom((*a).clone())));
        let uniform = fixed.into_iter().fold(SymExpr::from(c), |t, a| t * from_atom(a.clone()));
        let mut out: Option<Ex> = None;
        for a in varying {
            let x = self.emit_atom(k, a);
            out = Some(match out {
                None => x,
                Some(o) => o * x,
            });
        }
        match out {
            None => k.dim(&uniform),
            Some(o) if uniform.is(1) => o,
            Some(o) => o * k.dim(&uniform),
        }
    }
    fn emit_atom(&self, k: &Kb<'_>, a: &Atom) -> Ex {
        let two = |x: &SymExpr, y: &SymExpr| (self.emit(k, x), self.emit(k, y));
        match a {
            Atom::Sym(s) => match self.vars.get(s) {
                Some(b) => b.ex.clone(),
                None => k.dim(&SymExpr::sym(s.clone())),
            },
            Atom::Min(x, y) => {
                let (p, q) = two(x, y);
                p.min(q)
            }
            Atom::Max(x, y) => {
                let (p, q) = two(x, y);
                p.max(q)
            }
            Atom::Div(x, y) | Atom::Ceil(x, y) | Atom::Mod(x, y) => {
                // Kernel IR divides what is not negative: shift the dividend up by a multiple of the divisor.
                let lo = self.bounds(x).0;
                let (p, q) = two(x, y);
                let shift =
                    if lo >= 0 { None } else { y.as_const().map(|d| lo.max(-(1 << 40)).unsigned_abs().div_ceil(d.max(1) as u64) as i64) };
                let p = match shift {
                    Some(s) => p + s * y.as_const().unwrap_or(1),
                    None => p,
                };
                let back = |q: Ex| match shift {
                    None => q,
                    Some(s) => q - s,
                };
                match a {
                    Atom::Div(..) => back(p / q),
                    Atom::Ceil(..) => back((p + (q.clone() - 1)) / q),
                    _ => p % q,
                }
            }
        }
    }
    /// `(base, step)` with `e == base + step * lane`; `None` if it is not linear in the lane.
    pub(crate) fn linear(e: &SymExpr) -> Option<(SymExpr, i64)> {
        let base = e.substitute(&|s| (s == LANE).then(|| 0.into()));
        let at_one = e.substitute(&|s| (s == LANE).then(|| 1.into()));
        let step = (&at_one - &base).as_const()?;
        (base.clone() + lane() * step == *e).then_some((base, step))
    }
}

fn from_atom(a: Atom) -> SymExpr {
    match a {
        Atom::Sym(s) => SymExpr::sym(s),
        Atom::Div(x, y) => x.div(&y),
        Atom::Ceil(x, y) => x.ceil_div(&y),
        Atom::Mod(x, y) => x.modulo(&y),
        Atom::Min(x, y) => x.minimum(&y),
        Atom::Max(x, y) => x.maximum(&y),
    }
}

/// A literal of the kernel's index type.
pub(crate) fn literal(k: &Kb<'_>, v: i64) -> Ex {
    Ex::from(v).typed(&Ty::Scalar(k.index()))
}

/// An index into a table of `n` rows (i64) as a row: checked as it was given, so that a report says what the caller wrote, then wrapped.
pub(crate) fn row_of(k: &mut Kb<'_>, index: &Ex, n: Ex, position: &Ex) -> Ex {
    let i = k.let_("i", index.cast(DType::I64));
    let i = k.guard("ic", &i, -n.clone(), &n, Code::Index, position);
    let row = i.lt(0).select(i.clone() + n, &i);
    k.let_("row", if k.index() == DType::I64 { row } else { row.cast(k.index()) })
}
