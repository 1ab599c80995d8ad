// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a dim comes from: the way back from a value to the input or weight that says it, for reports on dims that cannot match.

use super::{Graph, Labels, Op, SymExpr};
use crate::graph::{Def, Dims, Node, ValueId};
use crate::sym::product;

/// Nodes of a way that are named.
const NAMED: usize = 8;

/// Says where dim `axis` of `v` comes from, as `axis 2 of input "a", through main/Transpose_3`.
pub fn derivation(g: &Graph, v: ValueId, axis: usize) -> String {
    let (mut v, mut axis, mut through): (_, _, Vec<&str>) = (v, axis, Vec::new());
    let root = loop {
        let name = g.value(v).name.as_deref().unwrap_or_default();
        let Some(node) = g.producer(v) else {
            let Def::Input(i) = g.value(v).def else { break String::new() };
            break if name.is_empty() { format!("axis {axis} of input {i}") } else { format!("axis {axis} of input `{name}`") };
        };
        let path = node.origin.first();
        match &node.op {
            Op::Weight { weight } => break format!("axis {axis} of weight `{}`", g.weight(*weight).name),
            Op::Const { .. } if name.is_empty() => break format!("axis {axis} of a constant"),
            Op::Const { .. } => break format!("axis {axis} of constant `{name}`"),
            op => match step(g, node, v, axis) {
                Some((operand, from)) => {
                    if !path.is_empty() && through.last() != Some(&path) {
                        through.push(path);
                    }
                    (v, axis) = (operand, from);
                }
                None => {
                    let of: Vec<String> = node.operands.iter().take(4).map(|&v| shown(g, v)).collect();
                    let of = if of.is_empty() { String::new() } else { format!(" of {}", of.join(", ")) };
                    let maker = if path.is_empty() { format!("`{}`", op.mnemonic()) } else { path.to_owned() };
                    break format!("axis {axis} of what {maker} makes{of}");
                }
            },
        }
    };
    match through.len() {
        0 => root,
        n if n <= NAMED => format!("{root}, through {}", through.iter().rev().copied().collect::<Vec<_>>().join(", ")),
        n => {
            let first: Vec<&str> = through.iter().rev().take(NAMED).copied().collect();
            format!("{root}, through {} and {} more nodes", first.join(", "), n - NAMED)
        }
    }
}

fn shown(g: &Graph, v: ValueId) -> String {
    match &g.value(v).name {
        Some(name) => format!("`{name}` ({})", g.ty(v)),
        None => g.ty(v).to_string(),
    }
}

/// The operand and axis that a result has a dim from, where it is handed on as it is.
fn step(g: &Graph, node: &Node, v: ValueId, axis: usize) -> Option<(ValueId, usize)> {
    let dims = &g.ty(v).dims;
    let dim = dims.get(axis)?;
    let operand = |i: usize| node.operands.get(i).copied();
    let same = |i: usize, axis: usize| operand(i).filter(|&x| g.ty(x).dims.get(axis) == Some(dim)).map(|x| (x, axis));
    // Matched from the last dim.
    let aligned = |x: ValueId| {
        let axis = (axis + g.ty(x).rank()).checked_sub(dims.len())?;
        (g.ty(x).dims.get(axis) == Some(dim)).then_some((x, axis))
    };
    match &node.op {
        Op::Transpose { perm } => Some((operand(0)?, usize::try_from(*perm.get(axis)?).ok()?)),
        op if op.is_elementwise() => node.operands.iter().copied().find_map(aligned),
        Op::Broadcast { .. } => aligned(operand(0)?),
        Op::Reshape { .. } => reshaped(dims, axis, &g.ty(operand(0)?).dims).map(|a| (node.operands[0], a)),
        Op::Reduce { axes, keep, .. } => {
            if *keep {
                return same(0, axis);
            }
            let kept = (0..g.ty(operand(0)?).rank()).filter(|a| !axes.iter().any(|r| *r as usize == *a));
            same(0, kept.into_iter().nth(axis)?)
        }
        Op::Contract { spec, .. } => {
            let labels = Labels::parse(spec).ok()?;
            let c = labels.result.get(axis)?;
            let at = |list: &[char]| list.iter().position(|l| l == c);
            let left = at(&labels.left).and_then(|a| same(0, a));
            left.or_else(|| at(&labels.right).and_then(|a| same(1, a)))
        }
        Op::Conv { .. } => match axis {
            0 => same(0, 0),
            1 => same(1, 0),
            _ => None,
        },
        Op::Gather { axis: at } => {
            let (at, indices) = (*at as usize, g.ty(operand(1)?).rank());
            match axis {
                a if a < at => same(0, a),
                a if a < at + indices => same(1, a - at),
                a => same(0, a - indices + 1),
            }
        }
        Op::GatherElements { .. } => same(1, axis),
        Op::Concat { axis: at } if *at as usize == axis => None,
        _ if g.ty(operand(0)?).rank() == dims.len() => same(0, axis),
        _ => None,
    }
}

/// The dim of `from` that a reshape keeps as dim `axis` of `to`: as many elements before it, and it is the same.
fn reshaped(to: &Dims, axis: usize, from: &Dims) -> Option<usize> {
    let dim = to.get(axis)?;
    let before = product(to.get(..axis)?);
    let kept = (0..from.len()).find(|&a| from.get(a) == Some(dim) && product(&from[..a]) == before);
    // A symbol that is there once is the same one.
    let only = |d: &SymExpr| d.as_const().is_none() && from.iter().filter(|f| *f == d).count() == 1;
    kept.or_else(|| from.iter().position(|d| d == dim && only(d)))
}
