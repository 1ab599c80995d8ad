// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fusion of random graphs: to the bit the same results, and every region keeps the promises of its kind.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{
    BinaryOp, FusionKind, Graph, Node, Op, Origin, PadMode, ReduceOp, SymSource, Symbol, TensorType, UnaryOp, ValueId, text,
};
use portwright_ir::sym::SymExpr;

use super::fuse;
use crate::rules::RuleLog;
use crate::testing::{assert_equal, cases, machine, read};

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// A graph of `size` nodes over dims [N, 4, 6] and what movement and reductions make of them.
fn random_graph(seed: u64, size: usize) -> Graph {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut g = Graph::new(format!("random {seed}"));
    g.add_symbol(Symbol { name: "N".into(), lo: 2, hi: 8, div: 1, source: SymSource::Input });
    let n = SymExpr::sym("N");
    let mut values: Vec<ValueId> = Vec::new();
    for i in 0..3 {
        values.push(g.add_input(format!("x{i}"), TensorType::new(DType::F32, vec![n.clone(), 4.into(), 6.into()])));
    }
    while values.len() < size {
        let x = values[values.len() - 1 - r.below(values.len().min(6))];
        let dims = g.ty(x).dims.clone();
        let rank = dims.len();
        let partners: Vec<ValueId> = values.iter().copied().filter(|&v| g.ty(v).dims == dims).collect();
        let y = partners[r.below(partners.len())];
        let axis = r.below(rank.max(1)) as u32;
        let op = match r.below(16) {
            0..=2 => Op::Unary([UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Tanh, UnaryOp::Sigmoid][r.below(4)]),
            3..=6 => Op::Binary([BinaryOp::Add, BinaryOp::Mul, BinaryOp::Max, BinaryOp::Sub][r.below(4)]),
            7 | 8 if rank > 1 => {
                let from = (rank - 1 - r.below(rank - 1)) as u32;
                Op::Reduce {
                    op: [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Mean][r.below(3)],
                    axes: (from..rank as u32).collect(),
                    keep: r.below(3) > 0,
                }
            }
            9 if rank > 1 => Op::Reduce { op: ReduceOp::Sum, axes: vec![axis], keep: r.below(2) > 0 },
            10 if rank > 1 => {
                let mut perm: Vec<u32> = (0..rank as u32).collect();
                perm.swap(r.below(rank), r.below(rank));
                Op::Transpose { perm }
            }
            11 => {
                let Some(d) = dims.get(axis as usize).and_then(|d| d.as_const()).filter(|d| *d > 1) else { continue };
                let mut cut = dims.clone();
                cut[axis as usize] = (d - 1).into();
                let mut starts = vec![SymExpr::from(0); rank];
                starts[axis as usize] = (r.below(2) as i64).into();
                Op::Slice { starts, steps: vec![1; rank], dims: cut }
            }
            12 => {
                let mut wide = dims.clone();
                wide.insert(0, (1 + r.below(2) as i64).into());
                if rank > 3 {
                    continue;
                }
                Op::Broadcast { dims: wide }
            }
            13 if rank > 0 && rank < 4 => {
                let mut with_one = dims.clone();
                with_one.insert(r.below(rank + 1), 1.into());
                Op::Reshape { dims: with_one }
            }
            14 if rank > 0 => Op::Concat { axis },
            15 if rank > 0 => {
                let mut low = vec![SymExpr::from(0); rank];
                low[axis as usize] = 1.into();
                Op::Pad { mode: PadMode::Edge, low: low.clone(), high: low, interior: vec![0; rank] }
            }
            _ => continue,
        };
        let operands = match op {
            Op::Binary(_) => vec![x, y],
            Op::Concat { .. } => vec![x, y],
            _ => vec![x],
        };
        // Broadcasting against a row is what norms do.
        let is_row = |v: ValueId| v != x && g.ty(v).rank() == rank && g.ty(v).dims.last().is_some_and(|d| d.is(1));
        let row = values.iter().rev().copied().find(|&v| is_row(v)).filter(|_| matches!(op, Op::Binary(_)) && r.below(2) == 0);
        let operands = row.map_or(operands, |row| vec![x, row]);
        // Dims that are equal for some sizes only would make the graph fail for others.
        let types: Vec<&TensorType> = operands.iter().map(|&v| g.ty(v)).collect();
        if !portwright_ir::graph::infer::infer_assuming(&g, &op, &types, &[]).is_ok_and(|i| i.assumed.is_empty()) {
            continue;
        }
        if let Ok(m) = g.add(op, &operands, Origin::default())
            && g.ty(g.result(m)).elems().as_const().is_none_or(|e| e < 4096)
        {
            values.push(g.result(m));
        }
    }
    for i in 0..3 {
        let v = values[values.len() - 1 - 2 * i];
        g.add_output(format!("y{i}"), v);
    }
    g
}

/// Asserts what schedules rely on.
fn check_regions(g: &Graph, whole: &str) {
    for n in g.order() {
        let node = g.node(n);
        let Op::Fusion { kind } = node.op else {
            let known = node.op.is_source() || matches!(node.op, Op::Reshape { .. } | Op::Bind { .. } | Op::If {} | Op::Loop { .. });
            assert!(known, "{} is in no kernel\n{whole}", node.op.mnemonic());
            node.regions.iter().for_each(|r| check_regions(r, whole));
            continue;
        };
        let r = &node.regions[0];
        let nodes: Vec<&Node> = r.order().into_iter().map(|m| r.node(m)).collect();
        assert!(!nodes.iter().any(|m| matches!(m.op, Op::Weight { .. })), "a region holds a weight\n{whole}");
        let outputs: Vec<_> = r.outputs().iter().map(|o| &r.ty(o.value).dims).collect();
        let cores =
            nodes.iter().filter(|m| matches!(m.op, Op::Contract { .. } | Op::Conv { .. } | Op::ConvLast { .. } | Op::Pool { .. })).count();
        let reductions: Vec<&&Node> = nodes.iter().filter(|m| matches!(m.op, Op::Reduce { .. } | Op::ArgReduce { .. })).collect();
        match kind {
            FusionKind::Map => {
                assert!(outputs.windows(2).all(|w| w[0] == w[1]), "outputs of a map differ\n{}", text::print(r));
                assert!(cores == 0 && reductions.is_empty());
            }
            FusionKind::Reduce => {
                let full = &r.ty(reductions[0].operands[0]).dims;
                let alike = reductions.iter().all(|m| m.op.attrs()[1] == reductions[0].op.attrs()[1] && r.ty(m.operands[0]).dims == *full);
                assert!(reductions.len() == 1 || alike, "reductions differ\n{}", text::print(r));
            }
            FusionKind::Contract | FusionKind::Conv | FusionKind::Window => {
                assert!(cores == 1 && reductions.is_empty(), "{}", text::print(r));
                assert!(outputs.windows(2).all(|w| w[0] == w[1]), "{}", text::print(r));
            }
            FusionKind::Attention => {
                let attends = nodes.iter().filter(|m| matches!(m.op, Op::Attention { .. })).count();
                assert!(attends == 1 && cores == 0 && reductions.is_empty(), "{}", text::print(r));
            }
            _ => assert_eq!(nodes.iter().filter(|m| !m.op.is_source()).count(), 1),
        }
    }
}

#[test]
fn random_graphs_compute_the_same_bits() {
    for seed in 1..160 {
        let mut g = random_graph(seed, 12 + (seed as usize % 40));
        g.remove_dead();
        let mut after = g.clone();
        let mut log = RuleLog::default();
        fuse(&mut after, &mut log).unwrap_or_else(|f| panic!("{}\n{}", f.message, text::print(&g)));
        check_regions(&after, &text::print(&after));
        assert_equal(&g.name.clone(), &g, &after, None, 0.0);
    }
}

#[test]
fn prepared_cases_keep_the_promises_of_their_kinds() {
    for path in cases("prepare").into_iter().chain(cases("decompose")) {
        for g in read(&path) {
            let mut diags = portwright_ir::diag::Diags::new();
            let p = crate::prepare::prepare(g, &machine(), crate::spec::Math::F32, &mut diags).expect("the case is supported");
            for part in [&p.main, &p.pack] {
                check_regions(part, &text::print(part));
            }
        }
    }
}
