// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a mask marks, read element by element: `choice[.., j] == number`, however it was written.
//!
//! A mask of "who chose expert 3" is `eq(choice, 3)`, a slice of a transposed one-hot tensor, or any of these reduced over the choices of a token.
//! Here the element of such a value at coordinates of which each is a loop variable or a number is followed to the comparison behind it.

use portwright_ir::dtype::DType;
use portwright_ir::graph::symbolic::Symbolic;
use portwright_ir::graph::{BinaryOp, Dims, Graph, Node, Op, ReduceOp, UnaryOp, ValueId};

use crate::rules::consts::splat_f64;

/// Values that are followed for one mask.
const MOST: usize = 128;

/// A coordinate of an element.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// That along an axis of the mask.
    Along(usize),
    /// A number.
    Fixed(i64),
    /// All along a dim that is reduced.
    All,
}

/// The marked elements are those with `choice[at] == number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) choice: ValueId,
    pub(super) at: Vec<At>,
    pub(super) number: i64,
}

/// What an element of numbers is.
enum Elem {
    Number(f64),
    Of(ValueId, Vec<At>),
}

/// Follows elements of one graph.
pub(super) struct Look<'g> {
    g: &'g Graph,
    known: Symbolic,
    left: usize,
}

impl<'g> Look<'g> {
    pub(super) fn new(g: &'g Graph) -> Self {
        Look { g, known: Symbolic::new(), left: MOST }
    }

    /// What a mask marks: its element at its own coordinates is not zero just where that holds.
    pub(super) fn mask(&mut self, v: ValueId) -> Option<Hit> {
        let at = (0..self.g.ty(v).rank()).map(At::Along).collect();
        Some(self.hit(v, at)?.0)
    }

    /// What is compared behind an element that is a number `on` where it holds and 0 elsewhere; where `on` is not known
    /// it is above 0.
    fn hit(&mut self, v: ValueId, at: Vec<At>) -> Option<(Hit, Option<f64>)> {
        self.left = self.left.checked_sub(1)?;
        let g = self.g;
        let node = g.producer(v)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Cast { to, .. }, &[x]) => {
                let (hit, on) = self.hit(x, at)?;
                match *to {
                    DType::Bool => Some((hit, Some(1.0))),
                    to if to.is_float() || to.is_int() => on.filter(|&on| on == 1.0).map(|on| (hit, Some(on))),
                    _ => None,
                }
            }
            (Op::Binary(op @ (BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Gt)), &[a, b]) => {
                let (at_a, at_b) = (self.aligned(a, node, &at)?, self.aligned(b, node, &at)?);
                let (one, other) = (self.elem(a, at_a)?, self.elem(b, at_b)?);
                let (x, at, number) = match (one, other) {
                    (Elem::Of(x, at), Elem::Number(n)) => (x, at, n),
                    (Elem::Number(n), Elem::Of(x, at)) if *op != BinaryOp::Gt => (x, at, n),
                    _ => return None,
                };
                if let Some((hit, on)) = self.hit(x, at.clone()) {
                    let same = match op {
                        BinaryOp::Eq => on == Some(number),
                        BinaryOp::Ne => number == 0.0,
                        _ => number == 0.0 && on.is_none_or(|on| on > 0.0),
                    };
                    return same.then_some((hit, Some(1.0)));
                }
                let whole = number.fract() == 0.0 && number.abs() < 2f64.powi(52);
                let compared = *op == BinaryOp::Eq && whole && self.g.ty(x).dtype.is_int();
                compared.then(|| (Hit { choice: x, at, number: number as i64 }, Some(1.0)))
            }
            (Op::Select {}, &[c, x, y]) => {
                let [at_c, at_x, at_y] = [c, x, y].map(|v| self.aligned(v, node, &at));
                let (Elem::Number(on), Elem::Number(off)) = (self.elem(x, at_x?)?, self.elem(y, at_y?)?) else { return None };
                let hit = self.hit(c, at_c?)?.0;
                (on != 0.0 && off == 0.0).then_some((hit, Some(on)))
            }
            (Op::Reduce { op: op @ (ReduceOp::Any | ReduceOp::Max | ReduceOp::Sum), axes, keep }, &[x]) => {
                let at = reduced(axes, *keep, at)?;
                let (hit, on) = self.hit(x, at)?;
                // Elements that are below 0 where they are not 0 have another maximum, and sums of several may be anything.
                let positive = on.is_none_or(|on| on > 0.0);
                positive.then_some((hit, on.filter(|_| *op != ReduceOp::Sum)))
            }
            _ => {
                let (x, at) = self.moved(node, at)?;
                self.hit(x, at)
            }
        }
    }

    /// Whether an element is 0 wherever `hit` does not hold.
    pub(super) fn vanishes(&mut self, v: ValueId, at: Vec<At>, hit: &Hit) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let g = self.g;
        let Some(node) = g.producer(v) else { return false };
        if self.hit(v, at.clone()).is_some_and(|(h, _)| h == *hit) {
            return true;
        }
        let of = |this: &mut Self, v: ValueId| this.aligned(v, node, &at).is_some_and(|at| this.vanishes(v, at, hit));
        match (&node.op, node.operands.as_slice()) {
            (Op::Cast { .. } | Op::Unary(UnaryOp::Neg), &[x]) => of(self, x),
            (Op::Binary(BinaryOp::Mul), &[a, b]) => of(self, a) || of(self, b),
            (Op::Select {}, &[c, x, y]) => {
                let zero = splat_f64(g, y) == Some(0.0);
                let chosen = self.aligned(c, node, &at).and_then(|at| self.hit(c, at)).is_some_and(|(h, _)| h == *hit);
                zero && (chosen || self.aligned(x, node, &at).is_some_and(|at| self.vanishes(x, at, hit)))
            }
            (Op::Reduce { op: ReduceOp::Sum, axes, keep }, &[x]) => reduced(axes, *keep, at).is_some_and(|at| self.vanishes(x, at, hit)),
            _ => self.moved(node, at).is_some_and(|(x, at)| self.vanishes(x, at, hit)),
        }
    }

    /// An element of numbers: one that is known, or the value that it is an element of.
    fn elem(&mut self, mut v: ValueId, mut at: Vec<At>) -> Option<Elem> {
        let g = self.g;
        loop {
            self.left = self.left.checked_sub(1)?;
            if let Some(n) = splat_f64(g, v).or_else(|| self.constant(v, &at)) {
                return Some(Elem::Number(n));
            }
            let Some(node) = g.producer(v) else { return Some(Elem::Of(v, at)) };
            let next = match (&node.op, node.operands.as_slice()) {
                (Op::Iota { axis, .. }, _) => {
                    let Some(At::Fixed(n)) = at.get(*axis as usize) else { return None };
                    return Some(Elem::Number(*n as f64));
                }
                // Integers of at least 32 bits: numbers of siblings fit.
                (Op::Cast { to, .. }, &[x]) if to.is_int() && to.bits() >= 32 && g.ty(x).dtype.is_int() => Some((x, at.clone())),
                _ => self.moved(node, at.clone()),
            };
            match next {
                Some((x, before)) => (v, at) = (x, before),
                None => return Some(Elem::Of(v, at)),
            }
        }
    }

    /// An element of a small tensor that is known before any run.
    fn constant(&mut self, v: ValueId, at: &[At]) -> Option<f64> {
        let dims = self.g.ty(v).static_dims()?;
        let mut flat = 0i64;
        for (d, at) in dims.iter().zip(at) {
            let At::Fixed(i) = at else { return None };
            flat = flat.checked_mul(*d)?.checked_add(*i)?;
        }
        let elems = self.known.constants(self.g, v)?;
        elems.get(usize::try_from(flat).ok()?).copied()
    }

    /// Coordinates of an operand that broadcasts to the result of an elementwise op.
    fn aligned(&self, v: ValueId, node: &Node, at: &[At]) -> Option<Vec<At>> {
        let own = &self.g.ty(v).dims;
        let result = &self.g.ty(*node.results.first()?).dims;
        broadcast(own, result, at)
    }

    /// The element of its operand that an op which only moves them gives at `at`.
    fn moved(&mut self, node: &Node, mut at: Vec<At>) -> Option<(ValueId, Vec<At>)> {
        let g = self.g;
        let &x = node.operands.first()?;
        let own = &g.ty(x).dims;
        let result = &g.ty(*node.results.first()?).dims;
        let at = match &node.op {
            // Dims of 1 come and go.
            Op::Reshape { .. } => {
                let wide = |dims: &Dims| dims.iter().filter(|d| !d.is(1)).cloned().collect::<Dims>();
                (wide(own) == wide(result)).then_some(())?;
                let mut rest = result.iter().zip(at).filter(|(d, _)| !d.is(1)).map(|(_, at)| at);
                own.iter().map(|d| if d.is(1) { Some(At::Fixed(0)) } else { rest.next() }).collect::<Option<_>>()?
            }
            Op::Transpose { perm } => {
                let mut before = vec![At::Fixed(0); perm.len()];
                for (&p, at) in perm.iter().zip(at) {
                    *before.get_mut(p as usize)? = at;
                }
                before
            }
            Op::Slice { starts, steps, dims: to } => {
                let mut before = Vec::with_capacity(at.len());
                for (i, at) in at.into_iter().enumerate() {
                    let (start, step) = (starts.get(i)?, *steps.get(i)?);
                    before.push(match at {
                        At::Fixed(i) => At::Fixed(i.checked_mul(step)?.checked_add(start.as_const()?)?),
                        // All of a dim, or nothing is known of the rest of it.
                        at => (start.is(0) && step == 1 && to.get(i) == own.get(i)).then_some(at)?,
                    });
                }
                before
            }
            Op::Broadcast { .. } => broadcast(own, result, &at)?,
            Op::Gather { axis } => {
                let (axis, &index) = (*axis as usize, node.operands.get(1)?);
                let rank = g.ty(index).rank();
                let numbers = self.known.constants(g, index)?;
                let &[number] = numbers.as_slice() else { return None };
                let size = own.get(axis)?.as_const();
                let number = if number < 0.0 { number as i64 + size? } else { number as i64 };
                at.get(axis..axis + rank)?;
                at.splice(axis..axis + rank, [At::Fixed(number)]);
                at
            }
            Op::Concat { axis } => {
                let axis = *axis as usize;
                let Some(&At::Fixed(mut i)) = at.get(axis) else { return None };
                for &x in &node.operands {
                    let size = g.ty(x).dims.get(axis)?.as_const()?;
                    if i < size {
                        *at.get_mut(axis)? = At::Fixed(i);
                        return Some((x, at));
                    }
                    i -= size;
                }
                return None;
            }
            _ => return None,
        };
        Some((x, at))
    }
}

/// Coordinates of what broadcasts from `own` to `result`.
fn broadcast(own: &Dims, result: &Dims, at: &[At]) -> Option<Vec<At>> {
    let skip = result.len().checked_sub(own.len())?;
    Some(own.iter().zip(at.get(skip..)?).map(|(d, at)| if d.is(1) { At::Fixed(0) } else { *at }).collect())
}

/// Coordinates of the operand of a reduction over one axis; there is at most one reduction on the way.
fn reduced(axes: &[u32], keep: bool, mut at: Vec<At>) -> Option<Vec<At>> {
    let &[axis] = axes else { return None };
    let axis = axis as usize;
    if at.contains(&At::All) || axis > at.len() {
        return None;
    }
    if keep {
        *at.get_mut(axis)? = At::All;
    } else {
        at.insert(axis, At::All);
    }
    Some(at)
}

/// Whether the elements of `choice` along its last dim are known to differ from each other: positions of the largest elements along a dim.
pub(super) fn distinct(g: &Graph, choice: ValueId) -> bool {
    if g.ty(choice).dims.last().is_some_and(|d| d.is(1)) {
        return true;
    }
    let mut v = choice;
    for _ in 0..8 {
        let Some(node) = g.producer(v) else { return false };
        match (&node.op, node.operands.as_slice()) {
            (Op::TopK { axis, .. }, _) => {
                return node.results.get(1) == Some(&v) && *axis as usize + 1 == g.ty(v).rank();
            }
            (Op::Cast { to, .. }, &[x]) if to.is_int() && to.bits() >= 32 => v = x,
            (Op::Reshape { dims }, &[x]) if dims.last() == g.ty(x).dims.last() => v = x,
            (Op::Select {}, _) => match wrapped(g, v) {
                Some(x) => v = x,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}

/// `x` of `select(lt(x, 0), _, x)`: indices from the end, as exporters write them for those that may be.
pub(super) fn wrapped(g: &Graph, v: ValueId) -> Option<ValueId> {
    let node = g.producer(v)?;
    let (Op::Select {}, &[c, _, x]) = (&node.op, node.operands.as_slice()) else { return None };
    let below = g.producer(c)?;
    let (Op::Binary(BinaryOp::Lt), &[y, zero]) = (&below.op, below.operands.as_slice()) else { return None };
    (x == y && splat_f64(g, zero) == Some(0.0)).then_some(x)
}
