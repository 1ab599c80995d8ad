// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a program has to do at least: bytes that its kernels read and write, products that they form, operations on single elements. A
//! profile divides them by the time, an estimate by what a machine can do.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Graph, Node, NodeId, Op, Origin, UnaryOp, ValueId};
use portwright_ir::sym::{SymExpr, product};

use crate::canonical::contract::labels;

/// Work of all fusions with one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The nodes.
    pub origin: Origin,
    /// How many fusions.
    pub fusions: u64,
    /// Bytes read and written, each tensor once; of a table that is looked up, what is found in it.
    pub bytes: SymExpr,
    /// Products that are added up: two floating-point operations each.
    pub products: SymExpr,
    /// The same by the dtype of their factors, the wider one of two.
    pub by_dtype: Vec<(DType, SymExpr)>,
    /// Operations on single elements: what is added, compared, chosen; a function counts as what it is made of.
    pub operations: SymExpr,
}

/// Work of a fused graph, in order; bodies of `if` and `loop` count once.
pub fn of(graph: &Graph) -> Vec<Work> {
    let (mut out, mut at) = (Vec::new(), HashMap::new());
    visit(graph, &mut out, &mut at);
    out
}

fn visit(graph: &Graph, out: &mut Vec<Work>, at: &mut HashMap<String, usize>) {
    for n in graph.order() {
        let node = graph.node(n);
        let regions = &node.regions;
        let (Op::Fusion { .. }, Some(region)) = (&node.op, regions.first()) else {
            regions.iter().for_each(|r| visit(r, out, at));
            continue;
        };
        let (bytes, by_dtype, operations) = (moved(region), multiplied(region), single(region));
        let products = by_dtype.iter().fold(SymExpr::from(0), |s, (_, n)| s + n.clone());
        match at.entry(node.origin.paths.join("\n")) {
            std::collections::hash_map::Entry::Occupied(i) => {
                if let Some(w) = out.get_mut(*i.get()) {
                    w.fusions += 1;
                    w.bytes = w.bytes.clone() + bytes;
                    w.products = w.products.clone() + products;
                    w.operations = w.operations.clone() + operations;
                    by_dtype.into_iter().for_each(|(d, n)| add(&mut w.by_dtype, d, n));
                }
            }
            std::collections::hash_map::Entry::Vacant(i) => {
                i.insert(out.len());
                out.push(Work { origin: node.origin.clone(), fusions: 1, bytes, products, by_dtype, operations });
            }
        }
    }
}

fn bytes(g: &Graph, v: ValueId) -> SymExpr {
    let ty = g.ty(v);
    (product(&ty.dims) * i64::from(ty.dtype.bits())).ceil_div(&8.into())
}

fn moved(region: &Graph) -> SymExpr {
    let mut sum = SymExpr::from(0);
    for &v in region.inputs() {
        let users: Vec<NodeId> = region.users(v);
        let table = |n: &NodeId| {
            let node = region.node(*n);
            let looks = matches!(node.op, Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. });
            looks && node.operands.first() == Some(&v) && !node.operands.iter().skip(1).any(|o| *o == v)
        };
        sum = if !users.is_empty() && users.iter().all(table) {
            users.iter().fold(sum, |s, n| s + bytes(region, region.result(*n)))
        } else {
            sum + bytes(region, v)
        };
    }
    region.outputs().iter().fold(sum, |s, o| s + bytes(region, o.value))
}

fn add(to: &mut Vec<(DType, SymExpr)>, dtype: DType, n: SymExpr) {
    match to.iter_mut().find(|(d, _)| *d == dtype) {
        Some((_, sum)) => *sum = sum.clone() + n,
        None => to.push((dtype, n)),
    }
}

fn multiplied(region: &Graph) -> Vec<(DType, SymExpr)> {
    let mut out = Vec::new();
    for n in region.order() {
        let node = region.node(n);
        let factors = node.operands.iter().take(2).map(|&v| region.ty(v).dtype);
        let n = products(region, node);
        if let Some(dtype) = factors.max_by_key(|d| d.bits())
            && n != SymExpr::from(0)
        {
            add(&mut out, dtype, n);
        }
    }
    out
}

/// Operations that a function of one element is made of, about: a range reduction and a polynomial (`kernel_rules/math.kir`).
const FUNCTION: i64 = 24;

fn single(region: &Graph) -> SymExpr {
    region.order().into_iter().fold(SymExpr::from(0), |s, n| s + operations(region, region.node(n)))
}

fn operations(g: &Graph, node: &Node) -> SymExpr {
    let elements = |v: Option<&ValueId>| v.map_or_else(|| SymExpr::from(0), |&v| product(&g.ty(v).dims));
    let (given, made) = (|| elements(node.operands.first()), || elements(node.results.first()));
    match &node.op {
        Op::Unary(u) => match u {
            UnaryOp::Sigmoid => made() * (FUNCTION + 3),
            UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan | UnaryOp::Asin | UnaryOp::Acos | UnaryOp::Atan => {
                made() * FUNCTION
            }
            UnaryOp::Sinh | UnaryOp::Cosh | UnaryOp::Tanh | UnaryOp::Asinh | UnaryOp::Acosh | UnaryOp::Atanh => made() * FUNCTION,
            UnaryOp::Erf | UnaryOp::Softplus => made() * FUNCTION,
            _ => made(),
        },
        Op::Binary(BinaryOp::Pow) => made() * (2 * FUNCTION),
        Op::Binary(_) | Op::Select {} => made(),
        Op::Reduce { .. } | Op::Scan { .. } | Op::ArgReduce { .. } => given(),
        Op::Pool { kernel, .. } => made() * kernel.iter().product::<i64>(),
        // A transform of a tile of 6x6, or to one of 4x4, is some 8 additions an element.
        Op::WinogradInput { .. } | Op::WinogradOutput { .. } => made() * 8,
        // A score is scaled, compared, exponentiated and summed.
        Op::Attention { .. } | Op::AttentionParts { .. } => {
            let dims = |i: usize| node.operands.get(i).map_or(&[][..], |&v| g.ty(v).dims.as_slice());
            match (dims(0), dims(1)) {
                ([b, h, s, _], [_, _, t, _]) => product(&[b.clone(), h.clone(), s.clone(), t.clone()]) * (FUNCTION + 4),
                _ => 0.into(),
            }
        }
        _ => 0.into(),
    }
}

fn products(g: &Graph, node: &Node) -> SymExpr {
    let dims = |i: usize| node.operands.get(i).map_or(&[][..], |&v| g.ty(v).dims.as_slice());
    let result = node.results.first().map_or_else(|| SymExpr::from(0), |&r| product(&g.ty(r).dims));
    let rest = |i: usize, from: usize, less: usize| dims(i).get(from..dims(i).len().saturating_sub(less)).map_or(1.into(), product);
    match &node.op {
        Op::Contract { spec, .. } => {
            let Some([left, right, to]) = labels(spec) else { return 0.into() };
            let summed = left.iter().zip(dims(0)).filter(|(l, _)| right.contains(l) && !to.contains(l));
            result * product(&summed.map(|(_, d)| d.clone()).collect::<Vec<_>>())
        }
        Op::ContractBlocks { .. } | Op::ContractScaled { .. } | Op::ContractPanels { .. } | Op::ContractGroups { .. } => {
            result * dims(0).last().cloned().unwrap_or(1.into())
        }
        Op::Conv { .. } => result * rest(1, 1, 0),
        Op::ConvLast { depth, .. } => result * rest(1, 1, 1) * *depth,
        Op::Attention { .. } | Op::AttentionParts { .. } => match (dims(0), dims(1), dims(2)) {
            ([b, h, s, d], [_, _, t, _], [.., e]) => product(&[b.clone(), h.clone(), s.clone(), t.clone()]) * (d.clone() + e.clone()),
            _ => 0.into(),
        },
        Op::Lstm { .. } | Op::Gru { .. } => {
            result * (rest(1, 2, 0) + rest(2, 2, 0)) * if matches!(node.op, Op::Lstm { .. }) { 4 } else { 3 }
        }
        Op::LstmSteps { depth, .. } => result * rest(1, 2, 2) * 4 * *depth,
        Op::GruSteps { depth, .. } => result * rest(1, 2, 2) * 3 * *depth,
        _ => 0.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portwright_ir::diag::Diags;
    use portwright_ir::graph::text;

    #[test]
    fn products_and_bytes_of_a_dense_layer() {
        let g = text::parse(
            "graph \"main\" symbols N in 1..64\n%0: f32[N,32] = input \"x\"\n%1: f32[32,8] = weight<f32 32x8 \"w\" seed:1>\n\
             %2: f32[N,8] = contract(%0, %1) {spec=\"mk,kn->mn\", acc=f32, out=f32}\n%3: f32[N,8] = tanh(%2)\noutput \"y\" %3\n",
        )
        .expect("the graph is well formed");
        let machine = crate::testing::machine();
        let p = crate::prepare::prepare(g, &machine, crate::spec::Math::F32, &mut Diags::new()).expect("it compiles");
        let work = of(&p.main);
        let n = |e: &SymExpr| e.eval(&|_| Some(3));
        assert_eq!(work.len(), 1);
        assert_eq!((n(&work[0].products), work[0].fusions), (Some(3 * 8 * 32), 1));
        let by: Vec<_> = work[0].by_dtype.iter().map(|(d, e)| (*d, n(e))).collect();
        assert_eq!((by, n(&work[0].operations)), (vec![(DType::F32, Some(3 * 8 * 32))], Some(FUNCTION * 3 * 8)));
        assert_eq!(n(&work[0].bytes), Some(4 * (3 * 32 + 32 * 8 + 3 * 8)));
    }
}
