// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Integer expressions over named symbols: the language of dims, sizes, offsets and launch grids.
//!
//! An expression is kept in a normal form (a sum of integer multiples of products of atoms, sorted), so that two
//! expressions that are equal as polynomials are equal as values. Atoms are symbols and the operations that do not
//! distribute: floor and ceiling division, remainder, minimum, maximum. Symbols are named, not numbered, so one
//! expression means the same in Graph IR, in the host plan and in a kernel.
//!
//! Arithmetic at compile time is exact within `i64`; a coefficient that leaves `i64` makes the expression
//! [`SymExpr::overflowed`], which verifiers reject. So does one of more than [`MAX_SIZE`] parts or nested deeper than
//! [`MAX_DEPTH`], which keeps every walk over an expression cheap whatever a model file says. Divisors are positive by contract: `x / 0` evaluates to `None`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

mod order;

/// Most symbols, operations and terms in an expression, written out.
pub const MAX_SIZE: u32 = 1 << 12;
/// Deepest nesting of operations in an expression.
pub const MAX_DEPTH: u32 = 32;
/// Most products that a multiplication forms.
const MAX_PRODUCTS: usize = 1 << 11;

/// Name of a symbol, as in the model file where it has one.
pub type SymName = Arc<str>;

/// An integer expression in normal form; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymExpr(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    Poly(Arc<Poly>),
    Overflow,
}

/// Sum of terms plus a constant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct Poly {
    terms: Vec<(Vec<Atom>, i64)>,
    constant: i64,
    /// Parts of the expression written out, from its terms.
    size: u32,
    /// Nesting of operations, from its terms.
    depth: u32,
}

impl Poly {
    fn new(terms: Vec<(Vec<Atom>, i64)>, constant: i64) -> Self {
        Poly { terms, constant, size: 0, depth: 0 }
    }
    /// Positions of terms `c*d*floor(x / d)` and `c*(x mod d)`, which make `c*x`.
    fn whole_and_rest(&self) -> Option<(usize, usize)> {
        self.terms.iter().enumerate().find_map(|(rest, (atoms, c))| {
            let [Atom::Mod(x, d)] = atoms.as_slice() else { return None };
            let whole = c.checked_mul(d.as_const()?)?;
            let div = self.terms.iter().position(|(a, k)| *k == whole && matches!(a.as_slice(), [Atom::Div(y, e)] if x == y && d == e))?;
            Some((div, rest))
        })
    }
}

/// What a product is made of.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// A named unknown.
    Sym(SymName),
    /// `floor(a / b)`, `b > 0`.
    Div(SymExpr, SymExpr),
    /// `ceil(a / b)`, `b > 0`.
    Ceil(SymExpr, SymExpr),
    /// `a - b * floor(a / b)`, `b > 0`.
    Mod(SymExpr, SymExpr),
    /// The smaller one.
    Min(SymExpr, SymExpr),
    /// The larger one.
    Max(SymExpr, SymExpr),
}

/// One step of the structural view that emitters and printers walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// A constant.
    Const(i64),
    /// Terms `coefficient * product of atoms`, plus a constant.
    Sum(Vec<(i64, Vec<Atom>)>, i64),
    /// Left the range of `i64`.
    Overflow,
}

impl From<i64> for SymExpr {
    fn from(v: i64) -> Self {
        SymExpr(Repr::Const(v))
    }
}

impl SymExpr {
    /// The constant; [`overflowed`](Self::overflowed) beyond `i64`.
    pub fn from_usize(v: usize) -> Self {
        i64::try_from(v).map_or_else(|_| Self::overflowed(), Self::from)
    }
    /// The unknown of that name.
    pub fn sym(name: impl Into<SymName>) -> Self {
        Self::atom(Atom::Sym(name.into()))
    }
    /// The expression that left `i64`.
    pub fn overflowed() -> Self {
        SymExpr(Repr::Overflow)
    }
    /// Whether computing it left `i64`.
    pub fn is_overflowed(&self) -> bool {
        matches!(self.0, Repr::Overflow)
    }
    /// The value, if no symbol is in it.
    #[inline]
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(v) => Some(v),
            _ => None,
        }
    }
    /// The symbol, if it is just one.
    pub fn as_sym(&self) -> Option<&SymName> {
        match &self.0 {
            Repr::Poly(p) if p.constant == 0 && p.terms.len() == 1 => match p.terms[0].0.as_slice() {
                [Atom::Sym(s)] if p.terms[0].1 == 1 => Some(s),
                _ => None,
            },
            _ => None,
        }
    }
    /// Whether it is that constant.
    #[inline]
    pub fn is(&self, v: i64) -> bool {
        self.as_const() == Some(v)
    }
    /// Its structure, for printers and emitters.
    pub fn view(&self) -> View {
        match &self.0 {
            Repr::Const(v) => View::Const(*v),
            Repr::Overflow => View::Overflow,
            Repr::Poly(p) => View::Sum(p.terms.iter().map(|(a, c)| (*c, a.clone())).collect(), p.constant),
        }
    }

    fn atom(a: Atom) -> Self {
        let overflowed = match &a {
            Atom::Sym(_) => false,
            Atom::Div(x, y) | Atom::Ceil(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => {
                x.is_overflowed() || y.is_overflowed()
            }
        };
        if overflowed { Self::overflowed() } else { Self::from_poly(Poly::new(vec![(vec![a], 1)], 0)) }
    }
    fn poly(&self) -> Option<Poly> {
        match &self.0 {
            Repr::Const(v) => Some(Poly::new(vec![], *v)),
            Repr::Poly(p) => Some((**p).clone()),
            Repr::Overflow => None,
        }
    }
    fn from_poly(mut p: Poly) -> Self {
        p.terms.retain(|(_, c)| *c != 0);
        if p.terms.is_empty() {
            return p.constant.into();
        }
        (p.size, p.depth) = (1, 0);
        for (atoms, _) in &p.terms {
            p.size = p.size.saturating_add(1);
            for a in atoms {
                let (size, depth) = a.measure();
                p.size = p.size.saturating_add(size);
                p.depth = p.depth.max(depth);
            }
        }
        if p.size > MAX_SIZE || p.depth > MAX_DEPTH { Self::overflowed() } else { SymExpr(Repr::Poly(Arc::new(p))) }
    }
    /// Parts and nesting.
    fn measure(&self) -> (u32, u32) {
        match &self.0 {
            Repr::Const(_) | Repr::Overflow => (1, 0),
            Repr::Poly(p) => (p.size, p.depth),
        }
    }
    fn try_add(&self, o: &Self) -> Option<Self> {
        if let (Some(a), Some(b)) = (self.as_const(), o.as_const()) {
            return a.checked_add(b).map(Self::from);
        }
        let (mut a, b) = (self.poly()?, o.poly()?);
        a.constant = a.constant.checked_add(b.constant)?;
        for (atoms, c) in b.terms {
            match a.terms.binary_search_by(|(x, _)| x.cmp(&atoms)) {
                Ok(i) => a.terms[i].1 = a.terms[i].1.checked_add(c)?,
                Err(i) => a.terms.insert(i, (atoms, c)),
            }
        }
        match a.whole_and_rest() {
            Some((div, rest)) => {
                let ([Atom::Mod(x, _)], c) = (a.terms[rest].0.as_slice(), a.terms[rest].1) else { return None };
                let joined = x.try_mul(&c.into())?;
                a.terms.remove(div.max(rest));
                a.terms.remove(div.min(rest));
                Self::from_poly(a).try_add(&joined)
            }
            None => Some(Self::from_poly(a)),
        }
    }
    fn try_mul(&self, o: &Self) -> Option<Self> {
        match (self.as_const(), o.as_const()) {
            (Some(a), Some(b)) => return a.checked_mul(b).map(Self::from),
            // Most products are of a size and a number: the terms keep their order.
            (Some(c), None) => return o.scaled(c),
            (None, Some(c)) => return self.scaled(c),
            (None, None) => {}
        }
        let (a, b) = (self.poly()?, o.poly()?);
        if a.terms.len().saturating_mul(b.terms.len()) > MAX_PRODUCTS {
            return None;
        }
        let constant = a.constant.checked_mul(b.constant)?;
        let mut all: Vec<(Vec<Atom>, i64)> = Vec::new();
        for (x, y) in [(&a, &b), (&b, &a)] {
            if y.constant != 0 {
                for (atoms, c) in &x.terms {
                    all.push((atoms.clone(), c.checked_mul(y.constant)?));
                }
            }
        }
        for (xa, xc) in &a.terms {
            for (ya, yc) in &b.terms {
                let mut atoms = [xa.as_slice(), ya.as_slice()].concat();
                atoms.sort();
                all.push((atoms, xc.checked_mul(*yc)?));
            }
        }
        all.sort();
        let mut terms: Vec<(Vec<Atom>, i64)> = Vec::with_capacity(all.len());
        for (atoms, c) in all {
            match terms.last_mut() {
                Some((last, sum)) if *last == atoms => *sum = sum.checked_add(c)?,
                _ => terms.push((atoms, c)),
            }
        }
        Some(Self::from_poly(Poly::new(terms, constant)))
    }
    /// The expression times a number.
    fn scaled(&self, c: i64) -> Option<Self> {
        if c == 1 {
            return Some(self.clone());
        }
        let mut p = self.poly()?;
        p.constant = p.constant.checked_mul(c)?;
        for (_, k) in &mut p.terms {
            *k = k.checked_mul(c)?;
        }
        Some(Self::from_poly(p))
    }
    /// `floor(self / d)` in normal form; `None` if it cannot be had.
    ///
    /// Multiples of `d` are divided, common factors cancelled, and `floor(floor(a / m) + c, d)` is `floor(a + c*m, m*d)`. What remains is
    /// `floor(r + c, d)` with `0 <= c < d`, written `ceil(r, d)` where `c` is `d - 1`: the same number always has the same form.
    fn floor_const(&self, d: i64) -> Option<Self> {
        if d < 1 {
            return None;
        }
        let p = self.poly()?;
        let mut quotient = Poly::new(vec![], p.constant.div_euclid(d));
        let mut rest = Vec::new();
        for (atoms, c) in p.terms {
            if c % d == 0 {
                quotient.terms.push((atoms, c / d));
            } else {
                rest.push((atoms, c));
            }
        }
        let quotient = Self::from_poly(quotient);
        if rest.is_empty() {
            return Some(quotient);
        }
        let common = rest.iter().fold(d, |g, (_, c)| gcd(g, *c));
        rest.iter_mut().for_each(|(_, c)| *c /= common);
        let (d, c) = (d / common, p.constant.rem_euclid(d) / common);
        if let [(atoms, 1)] = rest.as_slice()
            && let [Atom::Div(a, m) | Atom::Ceil(a, m)] = atoms.as_slice()
            && let Some(m) = m.as_const().filter(|m| *m > 0)
            && let Some(md) = m.checked_mul(d)
        {
            let up = if matches!(atoms[0], Atom::Ceil(..)) { m - 1 } else { 0 };
            let shift = c.checked_mul(m)?.checked_add(up)?;
            return quotient.try_add(&a.try_add(&shift.into())?.floor_const(md)?);
        }
        let is_ceiling = c == d - 1;
        let dividend = Self::from_poly(Poly::new(rest, if is_ceiling { 0 } else { c }));
        let atom = if is_ceiling { Atom::Ceil(dividend, d.into()) } else { Atom::Div(dividend, d.into()) };
        quotient.try_add(&Self::atom(atom))
    }
    /// `self / o` if `o` is one product that divides every term of `self` exactly.
    fn exact_div_term(&self, o: &Self) -> Option<Self> {
        let (p, q) = (self.poly()?, o.poly()?);
        let [(factors, coeff)] = q.terms.as_slice() else {
            return None;
        };
        if q.constant != 0 || p.constant != 0 || *coeff <= 0 {
            return None;
        }
        let mut out = Poly::default();
        for (atoms, c) in &p.terms {
            let mut rest = atoms.clone();
            for f in factors {
                rest.remove(rest.iter().position(|a| a == f)?);
            }
            if c % coeff != 0 {
                return None;
            }
            if rest.is_empty() {
                out.constant = c / coeff;
            } else {
                out.terms.push((rest, c / coeff));
            }
        }
        out.terms.sort();
        Some(Self::from_poly(out))
    }

    /// `floor(self / o)`; `o` must be positive.
    pub fn div(&self, o: &Self) -> Self {
        if o.is(1) || self.is_overflowed() {
            return self.clone();
        }
        match (self.as_const(), o.as_const()) {
            (Some(a), Some(b)) if b > 0 => return a.div_euclid(b).into(),
            (_, Some(d)) => {
                if let Some(q) = self.floor_const(d) {
                    return q;
                }
            }
            _ => {
                if self == o {
                    return 1.into();
                }
                if let Some(q) = self.exact_div_term(o) {
                    return q;
                }
            }
        }
        Self::atom(Atom::Div(self.clone(), o.clone()))
    }
    /// `ceil(self / o)`; `o` must be positive.
    pub fn ceil_div(&self, o: &Self) -> Self {
        if o.is(1) || self.is_overflowed() {
            return self.clone();
        }
        match (self.as_const(), o.as_const()) {
            (Some(a), Some(b)) if b > 0 => {
                return (-(-(a as i128)).div_euclid(b as i128) as i64).into();
            }
            (_, Some(d)) => {
                let shifted = d.checked_sub(1).and_then(|d| self.try_add(&d.into()));
                if let Some(q) = shifted.and_then(|e| e.floor_const(d)) {
                    return q;
                }
            }
            _ => {
                if self == o {
                    return 1.into();
                }
                if let Some(q) = self.exact_div_term(o) {
                    return q;
                }
            }
        }
        Self::atom(Atom::Ceil(self.clone(), o.clone()))
    }
    /// `self - o * floor(self / o)`; `o` must be positive.
    pub fn modulo(&self, o: &Self) -> Self {
        if o.is(1) || self == o {
            return 0.into();
        }
        match (self.as_const(), o.as_const()) {
            (Some(a), Some(b)) if b > 0 => return a.rem_euclid(b).into(),
            (_, Some(d)) if d > 0 => {
                // Multiples of the divisor leave no remainder.
                if let Some(mut p) = self.poly() {
                    p.terms.retain(|(_, c)| c % d != 0);
                    p.constant = p.constant.rem_euclid(d);
                    let rest = Self::from_poly(p);
                    return if rest.as_const().is_some() { rest } else { Self::atom(Atom::Mod(rest, o.clone())) };
                }
            }
            _ => {}
        }
        Self::atom(Atom::Mod(self.clone(), o.clone()))
    }
    /// The smaller of both.
    pub fn minimum(&self, o: &Self) -> Self {
        match (self.clone() - o.clone()).as_const() {
            Some(d) if d <= 0 => self.clone(),
            Some(_) => o.clone(),
            None => {
                let (a, b) = if self <= o { (self, o) } else { (o, self) };
                Self::atom(Atom::Min(a.clone(), b.clone()))
            }
        }
    }
    /// The larger of both.
    pub fn maximum(&self, o: &Self) -> Self {
        match (self.clone() - o.clone()).as_const() {
            Some(d) if d >= 0 => self.clone(),
            Some(_) => o.clone(),
            None => {
                let (a, b) = if self <= o { (self, o) } else { (o, self) };
                Self::atom(Atom::Max(a.clone(), b.clone()))
            }
        }
    }
    /// `self` rounded up to a multiple of `unit > 0`.
    pub fn round_up(&self, unit: i64) -> Self {
        self.ceil_div(&unit.into()) * Self::from(unit)
    }

    /// Value under an assignment; `None` for an unbound symbol, an overflow or a divisor that is not positive.
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        match &self.0 {
            Repr::Const(v) => Some(*v),
            Repr::Overflow => None,
            Repr::Poly(p) => {
                let mut sum = p.constant;
                for (atoms, c) in &p.terms {
                    let mut v = *c;
                    for a in atoms {
                        v = v.checked_mul(a.eval(lookup)?)?;
                    }
                    sum = sum.checked_add(v)?;
                }
                Some(sum)
            }
        }
    }
    /// Replaces symbols; `None` from the closure keeps a symbol.
    pub fn substitute(&self, f: &dyn Fn(&str) -> Option<SymExpr>) -> SymExpr {
        match &self.0 {
            Repr::Const(_) | Repr::Overflow => self.clone(),
            Repr::Poly(p) => {
                let mut sum = SymExpr::from(p.constant);
                for (atoms, c) in &p.terms {
                    let t = atoms.iter().fold(SymExpr::from(*c), |t, a| t * a.substitute(f));
                    sum = sum + t;
                }
                sum
            }
        }
    }
    /// Adds the names of all symbols in it to `out`.
    pub fn collect_symbols(&self, out: &mut BTreeSet<SymName>) {
        if let Repr::Poly(p) = &self.0 {
            for a in p.terms.iter().flat_map(|(atoms, _)| atoms) {
                match a {
                    Atom::Sym(s) => {
                        out.insert(s.clone());
                    }
                    Atom::Div(x, y) | Atom::Ceil(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => {
                        x.collect_symbols(out);
                        y.collect_symbols(out);
                    }
                }
            }
        }
    }
    /// Smallest and largest value, from the ranges of its symbols (saturating; an unknown symbol is `0..=i64::MAX`).
    pub fn bounds(&self, range: &dyn Fn(&str) -> Option<(i64, i64)>) -> (i64, i64) {
        let clamp = |v: i128| v.clamp(i64::MIN as i128, i64::MAX as i128) as i64;
        match &self.0 {
            Repr::Const(v) => (*v, *v),
            Repr::Overflow => (i64::MIN, i64::MAX),
            Repr::Poly(p) => {
                let (mut lo, mut hi) = (p.constant as i128, p.constant as i128);
                for (atoms, c) in &p.terms {
                    let (mut a, mut b) = (*c as i128, *c as i128);
                    for atom in atoms {
                        let (x, y) = atom.bounds(range);
                        // Far beyond `i64`, so that no other term brings it back into range.
                        let mul = |p: i128, q: i64| p.saturating_mul(q as i128).clamp(-(1 << 100), 1 << 100);
                        let all = [mul(a, x), mul(a, y), mul(b, x), mul(b, y)];
                        (a, b) = (all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0));
                    }
                    lo += a;
                    hi += b;
                }
                (clamp(lo), clamp(hi))
            }
        }
    }
    /// Whether `unit` divides it for every assignment in which each symbol is a multiple of `div(symbol)`.
    pub fn divisible_by(&self, unit: i64, div: &dyn Fn(&str) -> i64) -> bool {
        match &self.0 {
            Repr::Const(v) => unit != 0 && v % unit == 0,
            Repr::Overflow => false,
            Repr::Poly(p) => {
                unit != 0
                    && p.constant % unit == 0
                    && p.terms.iter().all(|(atoms, c)| {
                        let f = atoms.iter().fold(*c as i128, |f, a| match a {
                            Atom::Sym(s) => f.saturating_mul(div(s).max(1) as i128),
                            _ => f,
                        });
                        f % unit as i128 == 0
                    })
            }
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    // One of them is a positive `i64`, which bounds what divides both.
    i64::try_from(a).unwrap_or(1)
}

impl Atom {
    /// Parts and nesting.
    fn measure(&self) -> (u32, u32) {
        match self {
            Atom::Sym(_) => (1, 0),
            Atom::Div(x, y) | Atom::Ceil(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => {
                let ((a, b), (c, d)) = (x.measure(), y.measure());
                (a.saturating_add(c).saturating_add(1), b.max(d) + 1)
            }
        }
    }
    fn eval(&self, f: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        let two = |x: &SymExpr, y: &SymExpr| Some((x.eval(f)?, y.eval(f)?));
        let div = |x, y| two(x, y).filter(|(_, b)| *b > 0);
        match self {
            Atom::Sym(s) => f(s),
            Atom::Div(x, y) => div(x, y).map(|(a, b)| a.div_euclid(b)),
            Atom::Ceil(x, y) => div(x, y).map(|(a, b)| -(-(a as i128)).div_euclid(b as i128) as i64),
            Atom::Mod(x, y) => div(x, y).map(|(a, b)| a.rem_euclid(b)),
            Atom::Min(x, y) => two(x, y).map(|(a, b)| a.min(b)),
            Atom::Max(x, y) => two(x, y).map(|(a, b)| a.max(b)),
        }
    }
    fn substitute(&self, f: &dyn Fn(&str) -> Option<SymExpr>) -> SymExpr {
        match self {
            Atom::Sym(s) => f(s).unwrap_or_else(|| SymExpr::atom(self.clone())),
            Atom::Div(x, y) => x.substitute(f).div(&y.substitute(f)),
            Atom::Ceil(x, y) => x.substitute(f).ceil_div(&y.substitute(f)),
            Atom::Mod(x, y) => x.substitute(f).modulo(&y.substitute(f)),
            Atom::Min(x, y) => x.substitute(f).minimum(&y.substitute(f)),
            Atom::Max(x, y) => x.substitute(f).maximum(&y.substitute(f)),
        }
    }
    fn bounds(&self, r: &dyn Fn(&str) -> Option<(i64, i64)>) -> (i64, i64) {
        match self {
            Atom::Sym(s) => r(s).unwrap_or((0, i64::MAX)),
            Atom::Div(x, y) | Atom::Ceil(x, y) => {
                let ((a, b), (c, d)) = (x.bounds(r), y.bounds(r));
                let (c, d) = (c.max(1), d.max(1));
                let q = |p: i64, q: i64| match self {
                    Atom::Div(..) => p.div_euclid(q),
                    _ => -(-(p as i128)).div_euclid(q as i128) as i64,
                };
                let all = [q(a, c), q(a, d), q(b, c), q(b, d)];
                (all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0))
            }
            Atom::Mod(x, y) => {
                let ((a, b), (_, d)) = (x.bounds(r), y.bounds(r));
                let top = d.max(1) - 1;
                (0, if a >= 0 { b.min(top) } else { top })
            }
            Atom::Min(x, y) => {
                let ((a, b), (c, d)) = (x.bounds(r), y.bounds(r));
                (a.min(c), b.min(d))
            }
            Atom::Max(x, y) => {
                let ((a, b), (c, d)) = (x.bounds(r), y.bounds(r));
                (a.max(c), b.max(d))
            }
        }
    }
}

macro_rules! arith {
    ($($tr:ident $m:ident |$a:ident, $b:ident| $e:expr);*) => {$(
        impl std::ops::$tr for SymExpr {
            type Output = SymExpr;
            fn $m(self, o: SymExpr) -> SymExpr {
                let ($a, $b) = (&self, &o);
                $e.unwrap_or_else(SymExpr::overflowed)
            }
        }
        impl std::ops::$tr<&SymExpr> for &SymExpr {
            type Output = SymExpr;
            fn $m(self, o: &SymExpr) -> SymExpr {
                let ($a, $b) = (self, o);
                $e.unwrap_or_else(SymExpr::overflowed)
            }
        }
        impl std::ops::$tr<i64> for SymExpr {
            type Output = SymExpr;
            fn $m(self, o: i64) -> SymExpr {
                std::ops::$tr::$m(self, SymExpr::from(o))
            }
        }
    )*};
}
arith! {
    Add add |a, b| a.try_add(b);
    Sub sub |a, b| b.try_mul(&SymExpr::from(-1)).and_then(|n| a.try_add(&n));
    Mul mul |a, b| a.try_mul(b)
}

/// Product of dims; 1 for none.
pub fn product<'a>(dims: impl IntoIterator<Item = &'a SymExpr>) -> SymExpr {
    // Numbers first: with one unknown the rest is a single multiplication.
    let (mut number, mut rest) = (SymExpr::from(1), None);
    for d in dims {
        if d.as_const().is_some() {
            number = &number * d;
        } else {
            rest = Some(rest.map_or_else(|| d.clone(), |r: SymExpr| &r * d));
        }
    }
    match rest {
        Some(r) => &r * &number,
        None => number,
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => f.write_str(&crate::text::print_name(s)),
            Atom::Div(a, b) => write!(f, "floor({a}, {b})"),
            Atom::Ceil(a, b) => write!(f, "ceil({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl fmt::Display for SymExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = match &self.0 {
            Repr::Const(v) => return write!(f, "{v}"),
            Repr::Overflow => return f.write_str("overflow"),
            Repr::Poly(p) => p,
        };
        // Positive terms come first, so that `N - 1` reads as people write it.
        let ordered = p.terms.iter().filter(|t| t.1 > 0).chain(p.terms.iter().filter(|t| t.1 < 0));
        for (i, (atoms, c)) in ordered.enumerate() {
            let sign = match (i, *c < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            f.write_str(sign)?;
            if c.unsigned_abs() != 1 {
                write!(f, "{}*", c.unsigned_abs())?;
            }
            for (j, a) in atoms.iter().enumerate() {
                write!(f, "{}{a}", if j > 0 { "*" } else { "" })?;
            }
        }
        match p.constant {
            0 => Ok(()),
            c if c > 0 => write!(f, " + {c}"),
            c => write!(f, " - {}", c.unsigned_abs()),
        }
    }
}

impl fmt::Debug for SymExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
