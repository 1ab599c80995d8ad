// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a program has to do at least: bytes that its kernels read and write, products that they form. A profile divides both by the time.

use std::collections::HashMap;

use portwright_ir::graph::{Graph, Node, NodeId, Op, Origin, ValueId};
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
        let (bytes, products) = (moved(region), multiplied(region));
        match at.entry(node.origin.paths.join("\n")) {
            std::collections::hash_map::Entry::Occupied(i) => {
                if let Some(w) = out.get_mut(*i.get()) {
                    w.fusions += 1;
                    w.bytes = w.bytes.clone() + bytes;
                    w.products = w.products.clone() + products;
                }
            }
            std::collections::hash_map::Entry::Vacant(i) => {
                i.insert(out.len());
                out.push(Work { origin: node.origin.clone(), fusions: 1, bytes, products });
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

fn multiplied(region: &Graph) -> SymExpr {
    region.order().into_iter().fold(SymExpr::from(0), |s, n| s + products(region, region.node(n)))
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
        Op::ContractBlocks { .. } | Op::ContractPanels { .. } | Op::ContractGroups { .. } => {
            result * dims(0).last().cloned().unwrap_or(1.into())
        }
        Op::Conv { .. } => result * rest(1, 1, 0),
        Op::ConvLast { depth, .. } => result * rest(1, 1, 1) * *depth,
        Op::Attention { .. } => match (dims(0), dims(1), dims(2)) {
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
        assert_eq!(n(&work[0].bytes), Some(4 * (3 * 32 + 32 * 8 + 3 * 8)));
    }
}
