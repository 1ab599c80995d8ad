// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Between which numbers the elements of integer values lie, as far as it can be told when the model is compiled.
//!
//! A lookup whose index comes from constants (the nodes of a decision tree, positions that a slice was turned into) needs no check
//! at run time. Weights are not looked at: what is packed later may hold other numbers.

use portwright_ir::dtype::DType;
use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{BinaryOp, Graph, Node, Op, ValueId};
use portwright_ir::numerics;

/// Smallest and largest element.
pub type Range = (i64, i64);

/// Elements of a constant beyond which nobody looks.
const MOST_ELEMENTS: usize = 1 << 22;

/// Ranges of all values of a graph, given those of its inputs.
pub fn of(g: &Graph, inputs: &[Option<Range>]) -> SecondaryMap<ValueId, Option<Range>> {
    let mut out: SecondaryMap<ValueId, Option<Range>> = SecondaryMap::default();
    for (&v, &r) in g.inputs().iter().zip(inputs) {
        out[v] = r;
    }
    for n in crate::rules::topological(g) {
        let node = g.node(n);
        if let (Op::Fusion { .. }, [region]) = (&node.op, node.regions.as_slice()) {
            let operands: Vec<Option<Range>> = node.operands.iter().map(|&v| out[v]).collect();
            let inner = of(region, &operands);
            for (&v, o) in node.results.iter().zip(region.outputs()) {
                out[v] = inner[o.value];
            }
            continue;
        }
        if let &[v] = node.results.as_slice() {
            let range = node_range(g, node, v, &|o| out[o]);
            out[v] = range.filter(|_| g.ty(v).dtype.is_int());
        }
    }
    out
}

fn hull(parts: impl Iterator<Item = Option<Range>>) -> Option<Range> {
    parts.reduce(|a, b| a.zip(b).map(|((a, b), (c, d))| (a.min(c), b.max(d)))).flatten()
}

/// Range of elements that lie in memory, low byte first.
fn scan(dtype: DType, bytes: &[u8]) -> Option<Range> {
    let size = dtype.bytes()? as usize;
    if !dtype.is_int() || dtype.is_packed() || size == 0 || bytes.len() / size > MOST_ELEMENTS {
        return None;
    }
    let number = |c: &[u8]| {
        let bits = c.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
        i64::try_from(numerics::int_from_bits(dtype, bits)).ok().map(|v| (v, v))
    };
    hull(bytes.chunks_exact(size).map(number))
}

fn node_range(g: &Graph, node: &Node, v: ValueId, of: &dyn Fn(ValueId) -> Option<Range>) -> Option<Range> {
    let operand = |i: usize| node.operands.get(i).and_then(|&o| of(o));
    let extent = |axis: usize| -> Option<Range> {
        let x = *node.operands.first()?;
        Some((0, g.bounds(g.ty(x).dims.get(axis)?).1.checked_sub(1)?.max(0)))
    };
    match &node.op {
        Op::Const { value } => scan(value.dtype, &value.bytes),
        Op::Iota { axis, .. } => Some((0, g.bounds(g.ty(v).dims.get(*axis as usize)?).1.checked_sub(1)?.max(0))),
        Op::ArgReduce { axis, .. } => extent(*axis as usize),
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => operand(0),
        Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => operand(0),
        Op::Concat { .. } => hull(node.operands.iter().map(|&o| of(o))),
        Op::Select {} => hull([operand(1), operand(2)].into_iter()),
        Op::Cast { to, .. } => {
            let from = g.ty(*node.operands.first()?).dtype;
            let (lo, hi) = if from == DType::Bool { (0, 1) } else { operand(0)? };
            let (least, most) = to.int_range()?;
            (i128::from(lo) >= least && i128::from(hi) <= most).then_some((lo, hi))
        }
        Op::Binary(op) => {
            let ((a, b), (c, d)) = (operand(0)?, operand(1)?);
            let (lo, hi) = match op {
                BinaryOp::Add => (a.checked_add(c)?, b.checked_add(d)?),
                BinaryOp::Sub => (a.checked_sub(d)?, b.checked_sub(c)?),
                BinaryOp::Min => (a.min(c), b.min(d)),
                BinaryOp::Max => (a.max(c), b.max(d)),
                _ => return None,
            };
            // Beyond its dtype the result wraps.
            let (least, most) = g.ty(v).dtype.int_range()?;
            (i128::from(lo) >= least && i128::from(hi) <= most).then_some((lo, hi))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parse;

    #[test]
    fn numbers_of_constants_stay_known() {
        let g = parse(
            "graph \"g\" symbols N in 1..8\n%0: i64[N] = input \"a\"\n%1: bool[N] = input \"c\"\n%2: i64[] = const 3\n%3: i64[] = const -2\n\
             %4: i64[N] = select(%1, %2, %3)\n%5: i64[N] = add(%4, %2)\n%6: i32[N] = cast(%5)\n%7: i64[N] = add(%0, %2)\n%8: u8[N] = cast(%4)\n\
             output \"x\" %6\noutput \"y\" %7\noutput \"z\" %8\n",
            "g",
        );
        let ranges = of(&g, &[None, None]);
        let found: Vec<_> = g.outputs().iter().map(|o| ranges[o.value]).collect();
        assert_eq!(found, [Some((1, 6)), None, None]);
    }
}
