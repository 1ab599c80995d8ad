// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graphs that no text can say, random graphs, and large ones.

use std::sync::Arc;
use std::time::Instant;

use super::verify;
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::op::Direction;
use crate::graph::symbolic::Symbolic;
use crate::graph::text::{parse, print};
use crate::graph::{
    ArgOp, BinaryOp, Dims, FusionKind, Graph, Literal, Op, Origin, PadMode, ReduceOp, Scalar, ScatterOp, SymSource, Symbol, TensorType,
    UnaryOp, ValueId,
};
use crate::sym::SymExpr;
use crate::weight::{Weight, WeightSource};

fn codes(g: &Graph) -> Vec<Code> {
    let mut c: Vec<Code> = verify(g).into_iter().map(|d| d.code).collect();
    c.dedup();
    c
}

/// `x -> exp -> neg -> y`
fn chain() -> (Graph, ValueId, ValueId) {
    let mut g = Graph::new("t");
    let x = g.add_input("x", TensorType::fixed(DType::F32, &[4]));
    let a = g.add(Op::Unary(UnaryOp::Exp), &[x], Origin::path("main/Exp")).unwrap();
    let a = g.result(a);
    let b = g.add(Op::Unary(UnaryOp::Neg), &[a], Origin::path("main/Neg")).unwrap();
    let b = g.result(b);
    g.add_output("y", b);
    (g, a, b)
}

#[test]
fn each_rule_is_checked() {
    let (g, ..) = chain();
    assert_eq!(codes(&g), []);

    let (mut g, a, b) = chain();
    let n = g.producer_id(a).unwrap();
    g.set_operand(n, 0, b);
    assert_eq!(codes(&g), [Code::CYCLE]);
    assert_eq!(verify(&g)[0].message, "nodes need each other (2): main/Exp, main/Neg");

    let (mut g, a, _) = chain();
    g.remove(g.producer_id(a).unwrap());
    assert_eq!(codes(&g), [Code::INTERNAL]);

    let (mut g, a, _) = chain();
    g.values[a].ty = TensorType::fixed(DType::F32, &[5]);
    assert_eq!(codes(&g), [Code::SHAPE_MISMATCH]);
    g.values[a].ty = TensorType::fixed(DType::F16, &[4]);
    assert_eq!(codes(&g), [Code::DTYPE_MISMATCH]);
    g.values[a].ty = TensorType::new(DType::F32, vec![SymExpr::sym("Q")]);
    assert!(codes(&g).contains(&Code::UNKNOWN_SYMBOL));

    let (mut g, _, b) = chain();
    g.add_output("y", b);
    g.set_alias(1, Some(3));
    assert_eq!(codes(&g), [Code::DUPLICATE_NAME, Code::DTYPE_MISMATCH]);

    let (mut g, ..) = chain();
    let bytes = |len| WeightSource::Bytes { owner: Arc::new(vec![0u8; 8]), offset: 0, len };
    g.add_weight(Weight::new("w", DType::F32, vec![2], bytes(4)));
    g.add_weight(Weight::new("v", DType::F32, vec![4], bytes(16)));
    g.add_weight(Weight::new("v", DType::F32, vec![-1], bytes(8)));
    assert_eq!(codes(&g), [Code::BAD_TENSOR, Code::DUPLICATE_NAME, Code::BAD_DIM]);

    let (mut g, ..) = chain();
    g.add_symbol(Symbol { name: "K".into(), lo: 0, hi: 9, div: 1, source: SymSource::Result });
    assert_eq!(codes(&g), [Code::UNKNOWN_SYMBOL]);

    let (mut g, ..) = chain();
    for _ in 0..70 {
        let mut outer = Graph::new("t");
        let x = outer.add_input("x", TensorType::fixed(DType::F32, &[4]));
        let n = outer.add_with_regions(Op::Fusion { kind: FusionKind::Map }, &[x], vec![g], Origin::default()).unwrap();
        outer.add_output("y", outer.result(n));
        g = outer;
    }
    assert_eq!(codes(&g), [Code::NESTING]);
}

/// Types that differ only by what the constraints say are the same.
#[test]
fn constraints_make_dims_equal() {
    let mut g = Graph::new("t");
    let s = SymExpr::sym;
    for name in ["N", "M", "K"] {
        g.add_symbol(Symbol { name: name.into(), lo: 1, hi: 64, div: 1, source: SymSource::Input });
    }
    let x = g.add_input("x", TensorType::new(DType::F32, vec![s("N")]));
    let y = g.add_input("y", TensorType::new(DType::F32, vec![s("K") + 1]));
    let n = g.add(Op::Unary(UnaryOp::Exp), &[x], Origin::default()).unwrap();
    g.add_output("o", g.result(n));
    g.set_operand(n, 0, y);
    assert_eq!(codes(&g), [Code::SHAPE_MISMATCH]);
    g.assume_equal(&s("N"), &(s("M") + 2), "a");
    g.assume_equal(&(s("K") + 1), &s("N"), "b");
    assert_eq!(codes(&g), []);
    let text = print(&g);
    assert_eq!(print(&parse(&text).unwrap()), text);
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n.max(1) as u64) as usize
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }
    fn small(&mut self) -> u32 {
        self.below(4) as u32
    }
    fn ints(&mut self, most: usize) -> Vec<i64> {
        (0..self.below(most + 1)).map(|_| self.below(5) as i64 - 1).collect()
    }
    fn dim(&mut self) -> SymExpr {
        let n = SymExpr::sym("N");
        match self.below(8) {
            0 => n,
            1 => n * 2 - 1,
            2 => n.ceil_div(&3.into()),
            3 => SymExpr::sym("a b").modulo(&4.into()),
            4 => 0.into(),
            k => ((k - 4) as i64).into(),
        }
    }
    fn dims(&mut self) -> Dims {
        (0..self.below(4)).map(|_| self.dim()).collect()
    }
    fn dtype(&mut self) -> DType {
        *self.pick(&[DType::F32, DType::F32, DType::F32, DType::F16, DType::I64, DType::Bool, DType::I4])
    }

    /// Any op with any attributes; most do not fit.
    fn op(&mut self, g: &mut Graph) -> Op {
        let axis = self.small();
        match self.below(34) {
            0..=3 => Op::Unary(*self.pick(UnaryOp::ALL)),
            4..=7 => Op::Binary(*self.pick(BinaryOp::ALL)),
            8 => Op::Select {},
            9 => Op::Cast { to: self.dtype(), saturate: self.flag() },
            10 => Op::Reduce { op: *self.pick(ReduceOp::ALL), axes: vec![axis], keep: self.flag() },
            11 => Op::ArgReduce { op: *self.pick(ArgOp::ALL), axis, keep: self.flag(), last: self.flag() },
            12 => Op::Contract {
                spec: (*self.pick(&["mk,kn->mn", "bmk,bkn->bmn", "k,k->", "m,n->mn"])).into(),
                acc: DType::F32,
                out: self.dtype(),
            },
            13 => Op::Gather { axis },
            14 => Op::GatherElements { axis },
            15 => Op::GatherNd { batch: axis / 2 },
            16 => Op::ScatterElements { axis, op: *self.pick(ScatterOp::ALL) },
            17 => Op::Reshape { dims: self.dims() },
            18 => Op::Transpose { perm: self.pick(&[vec![], vec![0], vec![1, 0], vec![0, 2, 1]]).clone() },
            19 => Op::Broadcast { dims: self.dims() },
            20 => {
                let dims = self.dims();
                Op::Slice { starts: vec![0.into(); dims.len()], steps: vec![1; dims.len()], dims }
            }
            21 => {
                let (low, interior) = (self.dims(), self.ints(3));
                Op::Pad { mode: *self.pick(PadMode::ALL), high: low.clone(), low, interior }
            }
            22 => Op::Concat { axis },
            23 => Op::Scan { op: ReduceOp::Sum, axis, exclusive: self.flag(), reverse: self.flag() },
            24 => Op::TopK { axis, k: self.dim(), largest: self.flag() },
            25 => Op::Softmax { axis },
            26 => Op::LayerNorm { axis, eps: Scalar::f32(1e-5) },
            27 => Op::Lstm { direction: *self.pick(Direction::ALL) },
            28 => Op::Fill { value: Scalar::from_i64(self.dtype(), 1), dims: self.dims() },
            29 => {
                let dims = self.dims();
                Op::Iota { dtype: self.dtype(), axis, dims }
            }
            30 => Op::DimTensor { values: self.dims(), dtype: DType::I64, scalar: self.flag() },
            31 => {
                let elems: Vec<u64> = (0..self.below(20)).map(|_| self.below(9) as u64).collect();
                let dtype = self.dtype();
                let l = Literal::from_bits(dtype, &[elems.len() as i64], elems.iter().map(|e| e & crate::numerics::mask(dtype) & 1));
                Op::Const { value: l.unwrap() }
            }
            32 => {
                let dims = self.ints(2);
                let source = if self.flag() { WeightSource::Seed(1) } else { WeightSource::Packed };
                let name = format!("w {}", g.weights().len());
                Op::Weight { weight: g.add_weight(Weight::new(name, self.dtype(), dims, source)) }
            }
            _ => {
                let (dilations, groups) = (self.ints(2), 1);
                Op::Conv { strides: dilations.iter().map(|d| d + 1).collect(), pads: self.dims(), dilations, groups }
            }
        }
    }

    fn graph(&mut self, nodes: usize, depth: usize) -> Graph {
        let mut g = Graph::new("random \"graph\"");
        for (name, lo) in [("N", 1), ("a b", 0)] {
            g.add_symbol(Symbol { name: name.into(), lo, hi: 64, div: 1, source: SymSource::Input });
        }
        let mut values = Vec::new();
        for i in 0..4 {
            let ty = TensorType::new(self.dtype(), self.dims());
            values.push(g.add_input(format!("in{i}"), ty));
        }
        for i in 0..nodes {
            let op = self.op(&mut g);
            let count = if op.is_source() { 0 } else { *self.pick(&[1, 1, 2, 2, 3, 6]) };
            let operands: Vec<ValueId> = (0..count).map(|_| *self.pick(&values)).collect();
            let origin = if self.flag() { Origin::path(format!("main/op, {i}")) } else { Origin::path(format!("main/{i}")) };
            if let Ok(n) = g.add(op, &operands, origin) {
                values.extend(g.node(n).results.iter());
            }
            if depth > 0 && self.below(20) == 0 {
                let body = self.graph(nodes / 2, depth - 1);
                let ok: Option<Vec<ValueId>> =
                    body.inputs().iter().map(|&i| values.iter().copied().find(|&v| g.ty(v) == body.ty(i))).collect();
                if let Some(operands) = ok {
                    let n =
                        g.add_with_regions(Op::Fusion { kind: FusionKind::Map }, &operands, vec![body], Origin::path("main/f")).unwrap();
                    values.extend(g.node(n).results.iter());
                }
            }
        }
        for i in 0..3 {
            let v = *self.pick(&values);
            g.add_output(format!("out{i}"), v);
        }
        if self.flag() {
            g.remove_dead();
        }
        g
    }
}

/// Whatever inference lets into a graph is well-formed, round-trips, and can be followed.
#[test]
fn random_graphs() {
    let mut nodes = 0;
    for seed in 1..400 {
        let g = Random(seed).graph(150, 2);
        nodes += g.len();
        let faults = verify(&g);
        let invalid = g.weights().values().any(|w| w.elems().is_none());
        assert!(invalid || faults.is_empty(), "{faults:?}\n{g}");
        let mut s = Symbolic::new();
        for v in g.values().keys() {
            if g.producer_id(v).is_none_or(|n| g.contains(n) && g.node(n).results.contains(&v)) {
                s.partial(&g, v);
                s.constants(&g, v);
            }
        }
        let text = print(&g);
        let again = parse(&text).unwrap_or_else(|f| panic!("{f:?}\n{text}"));
        assert_eq!(print(&again), text);
        assert_eq!(again.len(), g.len());
    }
    assert!(nodes > 3000, "{nodes} nodes");
}

/// No stage on the way of a graph takes more than linear time.
#[test]
fn large_graphs() {
    let mut g = Graph::new("large");
    g.add_symbol(Symbol { name: "N".into(), lo: 1, hi: 64, div: 1, source: SymSource::Input });
    let x = g.add_input("x", TensorType::new(DType::F32, vec![SymExpr::sym("N"), 64.into()]));
    let one = g.add(Op::Const { value: Literal::scalar(Scalar::f32(1.0)) }, &[], Origin::default()).unwrap();
    let one = g.result(one);
    let mut v = x;
    let start = Instant::now();
    for i in 0..20_000 {
        for (op, operands) in
            [(Op::Binary(BinaryOp::Add), vec![v, one]), (Op::Unary(UnaryOp::Exp), vec![v]), (Op::Binary(BinaryOp::Mul), vec![v, x])]
        {
            let n = g.add(op, &operands, Origin::path(format!("main/layer{i}"))).unwrap();
            v = g.result(n);
        }
    }
    g.add_output("y", v);
    let built = start.elapsed();
    let text = print(&g);
    let printed = start.elapsed();
    let again = parse(&text).unwrap();
    let parsed = start.elapsed();
    assert_eq!(verify(&again), []);
    let verified = start.elapsed();
    assert_eq!(again.len(), 60_001);
    // Generous: a shared machine may be slow, but a quadratic stage would take minutes.
    assert!(verified.as_secs() < 20, "built {built:?}, printed {printed:?}, parsed {parsed:?}, verified {verified:?}");
}
