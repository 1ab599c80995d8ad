// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values of symbols: read from the dims of inputs, bound by nodes, tested against ranges and constraints.

use std::collections::{BTreeSet, HashMap};

use super::{Fault, RunError, Tensor};
use crate::diag::Code;
use crate::graph::{Dims, Graph, TensorType};
use crate::numerics;
use crate::sym::{Atom, SymExpr, SymName, View};

/// Values of symbols. A region sees those of the graphs around it.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    values: HashMap<SymName, i64>,
}

impl Bindings {
    /// These values.
    pub fn new(values: HashMap<SymName, i64>) -> Self {
        Bindings { values }
    }
    /// Value of a symbol.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.values.get(name).copied()
    }
    /// All values.
    pub fn values(&self) -> &HashMap<SymName, i64> {
        &self.values
    }
    /// Value of an expression; `None` if a symbol in it has none or the value leaves i64.
    pub fn eval(&self, e: &SymExpr) -> Option<i64> {
        e.eval(&|s| self.get(s))
    }
    /// Value of an expression, or which symbol is missing.
    pub(super) fn number(&self, e: &SymExpr) -> Result<i64, Fault> {
        self.eval(e).ok_or_else(|| {
            let mut names = BTreeSet::new();
            e.collect_symbols(&mut names);
            match names.iter().find(|n| self.get(n).is_none()) {
                Some(n) => Fault::new(Code::UNKNOWN_SYMBOL, format!("symbol `{n}` has no value: no input dim gives it")),
                None => Fault::new(Code::SIZE_OVERFLOW, format!("{e} leaves the range of 64-bit integers or divides by zero")),
            }
        })
    }
    /// Values of dims.
    pub(super) fn dims(&self, dims: &Dims) -> Result<Vec<usize>, Fault> {
        let one = |e: &SymExpr| {
            let v = self.number(e)?;
            usize::try_from(v).map_err(|_| Fault::new(Code::BAD_DIM, format!("dim {e} is {v}, expected 0 or more")))
        };
        let out: Vec<usize> = dims.iter().map(one).collect::<Result<_, _>>()?;
        super::tensor::count(&out).ok_or_else(|| Fault::new(Code::SIZE_OVERFLOW, format!("dims {out:?} leave the range of sizes")))?;
        Ok(out)
    }

    /// Drops the symbols that nodes of this graph define: in a region they hide those of the graphs around it, and in a loop's body
    /// they are new in each iteration.
    pub(super) fn forget_defined(&mut self, g: &Graph) {
        self.values.retain(|name, _| g.symbol_definer(name).is_none());
    }

    /// Takes over the symbols that the nodes of a fused body have found.
    pub(super) fn take_defined(&mut self, body: &Graph, inner: &Bindings) {
        let found = inner.values.iter().filter(|(name, _)| body.symbol_definer(name).is_some());
        self.values.extend(found.map(|(name, &v)| (name.clone(), v)));
    }

    /// Tests a symbol against what the graph says of it.
    pub(super) fn check_range(&self, g: &Graph, name: &str) -> Result<(), Fault> {
        let (Some(v), Some(s)) = (self.get(name), g.symbol(name)) else { return Ok(()) };
        if v < s.lo || v > s.hi {
            return Err(Fault::new(Code::BAD_DIM, format!("`{name}` is {v}, expected {} to {}", s.lo, s.hi)));
        }
        if s.div > 1 && v % s.div != 0 {
            return Err(Fault::new(Code::BAD_DIM, format!("`{name}` is {v}, expected a multiple of {}", s.div)));
        }
        Ok(())
    }
    fn set(&mut self, g: &Graph, name: &SymName, v: i64) -> Result<(), Fault> {
        self.values.insert(name.clone(), v);
        self.check_range(g, name)
    }

    /// Compares inputs with their types and reads the symbols that they give.
    pub(super) fn inputs(&mut self, g: &Graph, inputs: &[Tensor]) -> Result<(), RunError> {
        if g.inputs().len() != inputs.len() {
            return Err(Fault::new(Code::BAD_ARITY, format!("found {} inputs, expected {}", inputs.len(), g.inputs().len())).at(&g.name));
        }
        let name = |i: usize| g.value(g.inputs()[i]).name.as_deref().unwrap_or("input").to_owned();
        // A dim such as `2*N` is solved when it is linear in one unknown; what one input gives may solve another.
        let mut unsolved: Vec<(usize, &SymExpr, i64)> = Vec::new();
        for (i, (&v, t)) in g.inputs().iter().zip(inputs).enumerate() {
            let ty = g.ty(v);
            if t.dtype != ty.dtype || t.rank() != ty.rank() || t.quant.is_some() != ty.quant.is_some() {
                let code = if t.dtype == ty.dtype { Code::SHAPE_MISMATCH } else { Code::DTYPE_MISMATCH };
                return Err(Fault::new(code, format!("found {}{:?}, expected {ty}", t.dtype, t.dims)).at(name(i)));
            }
            unsolved.extend(ty.dims.iter().zip(&t.dims).map(|(e, &d)| (i, e, d as i64)));
        }
        loop {
            let before = unsolved.len();
            let mut left = Vec::new();
            for (i, e, d) in unsolved {
                match (self.eval(e), self.solve(e, d)) {
                    (Some(v), _) if v == d => {}
                    (Some(v), _) => return Err(Fault::new(Code::SHAPE_MISMATCH, format!("a dim is {d}, expected {e} = {v}")).at(name(i))),
                    (None, Solved::Is(s, v)) => self.set(g, &s, v).map_err(|f| f.at(name(i)))?,
                    (None, Solved::Never) => {
                        return Err(Fault::new(Code::SHAPE_MISMATCH, format!("a dim is {d}, which {e} is for no integer")).at(name(i)));
                    }
                    (None, Solved::NotYet) => left.push((i, e, d)),
                }
            }
            if left.len() == before || left.is_empty() {
                return match left.first() {
                    // Nothing can be read from it now; if the symbols are found later the result's types are compared with it.
                    Some((i, e, d)) if before_run_needed(g, e) => {
                        Err(Fault::new(Code::UNKNOWN_SYMBOL, format!("a dim is {d}, from which {e} cannot be solved; give its symbols"))
                            .at(name(*i)))
                    }
                    _ => Ok(()),
                };
            }
            unsolved = left;
        }
    }

    /// Finds the one unknown of `e = value` if `e` is linear in it.
    fn solve(&self, e: &SymExpr, value: i64) -> Solved {
        let View::Sum(terms, constant) = e.view() else { return Solved::NotYet };
        let (mut rest, mut unknown) = (i128::from(value) - i128::from(constant), None);
        for (c, atoms) in &terms {
            let known = term(*c, atoms);
            match (self.eval(&known), atoms.as_slice()) {
                (Some(v), _) => rest -= i128::from(v),
                (None, [Atom::Sym(s)]) if unknown.is_none() => unknown = Some((s.clone(), i128::from(*c))),
                _ => return Solved::NotYet,
            }
        }
        match unknown {
            Some((s, c)) if c != 0 && rest % c == 0 => i64::try_from(rest / c).map_or(Solved::Never, |v| Solved::Is(s, v)),
            Some(_) => Solved::Never,
            None => Solved::NotYet,
        }
    }

    /// Binds symbols to the elements of a tensor.
    pub(super) fn bind(&mut self, g: &Graph, symbols: &[SymName], t: &Tensor) -> Result<(), Fault> {
        if t.len() != symbols.len() || !t.dtype.is_int() {
            return Err(Fault::new(Code::SHAPE_MISMATCH, format!("{}{:?} gives {} symbols", t.dtype, t.dims, symbols.len())));
        }
        for (s, b) in symbols.iter().zip(t.all_bits()) {
            let v = i64::try_from(numerics::int_from_bits(t.dtype, b));
            let v = v.map_err(|_| Fault::new(Code::SIZE_OVERFLOW, format!("`{s}` leaves the range of 64-bit integers")))?;
            self.set(g, s, v)?;
        }
        Ok(())
    }

    /// Compares a result with its type and reads the symbols that only it gives.
    pub(super) fn result(&mut self, g: &Graph, ty: &TensorType, t: &Tensor) -> Result<(), Fault> {
        let differs = || Fault::new(Code::SHAPE_MISMATCH, format!("the result is {}{:?}, its type is {ty}", t.dtype, t.dims));
        if t.dtype != ty.dtype || t.rank() != ty.rank() {
            return Err(differs());
        }
        for (e, &d) in ty.dims.iter().zip(&t.dims) {
            match (self.eval(e), e.as_sym()) {
                (Some(v), _) if v == d as i64 => {}
                (None, Some(s)) => self.set(g, s, d as i64)?,
                _ => return Err(differs()),
            }
        }
        Ok(())
    }

    /// Tests the constraints whose symbols all have values.
    pub(super) fn constraints(&self, g: &Graph) -> Result<(), RunError> {
        for c in &g.constraints {
            if let (Some(l), Some(r)) = (self.eval(&c.left), self.eval(&c.right))
                && l != r
            {
                let m = format!("{} and {} must be equal, found {l} and {r}", c.left, c.right);
                return Err(Fault::new(Code::SHAPE_MISMATCH, m).at(c.path.to_string()));
            }
        }
        Ok(())
    }
}

enum Solved {
    Is(SymName, i64),
    Never,
    NotYet,
}

/// Whether a symbol of `e` can only come from inputs.
fn before_run_needed(g: &Graph, e: &SymExpr) -> bool {
    let mut names = BTreeSet::new();
    e.collect_symbols(&mut names);
    names.iter().any(|n| g.symbol_definer(n).is_none())
}

/// The expression `c * product of atoms`.
fn term(c: i64, atoms: &[Atom]) -> SymExpr {
    let one = |a: &Atom| match a {
        Atom::Sym(s) => SymExpr::sym(s.clone()),
        Atom::Div(x, y) => x.div(y),
        Atom::Ceil(x, y) => x.ceil_div(y),
        Atom::Mod(x, y) => x.modulo(y),
        Atom::Min(x, y) => x.minimum(y),
        Atom::Max(x, y) => x.maximum(y),
    };
    atoms.iter().fold(c.into(), |t: SymExpr, a| t * one(a))
}
