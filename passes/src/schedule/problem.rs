// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products over labeled dims: what contractions and convolutions are to every machine class.

use portwright_ir::dtype::DType;
use portwright_ir::graph::ValueId;
use portwright_ir::sym::SymExpr;

use super::eval::{Eval, Guard, Stop};

/// The dims of a contraction by role, as labels with their extents.
pub(crate) struct Roles {
    /// Labels of the left operand.
    pub(crate) lhs: Vec<char>,
    /// Labels of the right operand.
    pub(crate) rhs: Vec<char>,
    /// Labels of the result.
    pub(crate) out: Vec<char>,
    /// In all three.
    pub(crate) batch: Vec<(char, SymExpr)>,
    /// In the left operand and the result.
    pub(crate) m: Vec<(char, SymExpr)>,
    /// In the right operand and the result.
    pub(crate) n: Vec<(char, SymExpr)>,
    /// Summed.
    pub(crate) k: Vec<(char, SymExpr)>,
}

impl Roles {
    /// Reads `mk,kn->mn` for operands of these dims.
    pub(crate) fn parse(spec: &str, lhs_dims: &[SymExpr], rhs_dims: &[SymExpr]) -> Result<Self, Stop> {
        let parts = spec.split_once("->").and_then(|(i, o)| i.split_once(',').map(|(l, r)| (l, r, o)));
        let Some((l, r, o)) = parts else { return Stop::no("a contraction of other than two operands") };
        let (lhs, rhs, out): (Vec<char>, Vec<char>, Vec<char>) = (l.chars().collect(), r.chars().collect(), o.chars().collect());
        let extent = |c: char| {
            let of = |labels: &[char], dims: &[SymExpr]| labels.iter().position(|&x| x == c).and_then(|i| dims.get(i).cloned());
            match (of(&lhs, lhs_dims), of(&rhs, rhs_dims)) {
                (Some(a), Some(b)) if a.is(1) => b,
                (Some(a), _) => a,
                (None, b) => b.unwrap_or_else(|| 1.into()),
            }
        };
        let (mut batch, mut m, mut n, mut k) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for &c in &out {
            match (lhs.contains(&c), rhs.contains(&c)) {
                (true, true) => batch.push((c, extent(c))),
                (true, false) => m.push((c, extent(c))),
                _ => n.push((c, extent(c))),
            }
        }
        for &c in lhs.iter().filter(|c| !out.contains(c)) {
            if !rhs.contains(&c) {
                return Stop::no("a contraction that sums a dim of one operand alone");
            }
            k.push((c, extent(c)));
        }
        if rhs.iter().any(|c| !out.contains(c) && !lhs.contains(c)) {
            return Stop::no("a contraction that sums a dim of one operand alone");
        }
        Ok(Roles { lhs, rhs, out, batch, m, n, k })
    }
}

/// Coordinates by label.
#[derive(Clone, Default)]
pub(crate) struct At(Vec<(char, SymExpr)>);

impl At {
    /// With coordinates of these labels.
    pub(crate) fn with(&self, labels: &[(char, SymExpr)], coords: &[SymExpr]) -> At {
        let mut out = self.clone();
        for ((c, _), x) in labels.iter().zip(coords) {
            out.0.retain(|(l, _)| l != c);
            out.0.push((*c, x.clone()));
        }
        out
    }
    /// Coordinate of a label; 0 if it has none.
    pub(crate) fn get(&self, label: char) -> SymExpr {
        self.0.iter().find(|(l, _)| *l == label).map_or(0.into(), |(_, x)| x.clone())
    }
    /// Coordinates of an operand; dims of 1 that broadcast are at 0.
    pub(crate) fn of(&self, labels: &[char], dims: &[SymExpr]) -> Vec<SymExpr> {
        labels.iter().zip(dims).map(|(c, d)| if d.is(1) { 0.into() } else { self.get(*c) }).collect()
    }
}

/// Coordinates of an operand's element with the conditions under which it is not zero.
pub(crate) type OperandAt<'p> = Box<dyn Fn(&Eval<'_>, &At) -> (Vec<SymExpr>, Guard) + 'p>;

/// A sum of products over labeled dims: what contractions and convolutions have in common.
pub(crate) struct Problem<'p> {
    /// Dims of both operands and the result.
    pub(crate) batch: Vec<(char, SymExpr)>,
    /// Dims of the left operand and the result.
    pub(crate) m: Vec<(char, SymExpr)>,
    /// Dims of the right operand and the result; the last is along the lanes.
    pub(crate) n: Vec<(char, SymExpr)>,
    /// Summed dims, outermost first.
    pub(crate) k: Vec<(char, SymExpr)>,
    /// Left operand.
    pub(crate) lhs: ValueId,
    /// Right operand.
    pub(crate) rhs: ValueId,
    /// Value that the epilogue follows.
    pub(crate) root: ValueId,
    /// Where the left operand is read.
    pub(crate) lhs_at: OperandAt<'p>,
    /// Where the right operand is read.
    pub(crate) rhs_at: OperandAt<'p>,
    /// Where the result is.
    pub(crate) root_at: Box<dyn Fn(&Eval<'_>, &At) -> Vec<SymExpr> + 'p>,
    /// Dtype of sums.
    pub(crate) acc: DType,
    /// Dtype of the result.
    pub(crate) out: DType,
    /// How the right operand reaches the vectors.
    pub(crate) feed: Feed,
    /// First and last coordinate along the lanes at which the right operand exists for all summed coordinates, where that is a part.
    pub(crate) interior: Option<(i64, i64)>,
    /// Where the rows of each group begin, if the batch dim is that of groups: the right operand has it, the others do not.
    pub(crate) starts: Option<ValueId>,
}

/// How the right operand reaches the vectors.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// Loaded as it lies.
    Direct,
    /// Packed into a panel, a vector at a time.
    Pack,
    /// Packed into a panel, an element at a time: neighbors along the lane follow no line in memory.
    PackScalar,
}
