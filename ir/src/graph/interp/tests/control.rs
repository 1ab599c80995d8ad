// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Regions, symbols and limits.

use super::*;
use crate::sym::SymExpr;
use crate::weight::{Weight, WeightSource};

fn symbol(g: &mut Graph, name: &str, lo: i64, hi: i64, div: i64, source: SymSource) -> SymExpr {
    g.add_symbol(Symbol { name: name.into(), lo, hi, div, source });
    SymExpr::sym(name)
}
fn add(g: &mut Graph, op: Op, x: &[ValueId]) -> ValueId {
    let n = g.add(op, x, Origin::path("main/node")).unwrap_or_else(|f| panic!("{}", f.message));
    g.result(n)
}
fn float(d: &[SymExpr]) -> TensorType {
    TensorType::new(DType::F32, d.to_vec())
}

#[test]
fn symbols_are_solved_and_tested() {
    let mut g = Graph::new("main");
    let n = symbol(&mut g, "N", 1, 8, 2, SymSource::Input);
    let m = symbol(&mut g, "M", 0, 100, 1, SymSource::Input);
    let x = g.add_input("x", float(&[n.clone() * 2 + m.clone()]));
    let y = g.add_input("y", float(&[m.clone()]));
    let z = add(&mut g, Op::Reshape { dims: vec![n.clone() * 2, 1.into()] }, &[x]);
    g.add_output("z", z);
    let _ = y;
    let run = |a: usize, b: usize| run(&g, &[f(&[a]), f(&[b])], &Options::default());
    let e = |a, b| run(a, b).map(|_| ()).map_err(|e| (e.code, e.path, e.message)).unwrap_err();
    assert_eq!(run(8, 0).unwrap()[0].dims, [8, 1]);
    assert_eq!(e(9, 0), (Code::SHAPE_MISMATCH, "x".into(), "a dim is 9, which M + 2*N is for no integer".into()));
    assert_eq!(e(6, 0), (Code::BAD_DIM, "x".into(), "`N` is 3, expected a multiple of 2".into()));
    assert_eq!(e(40, 20), (Code::BAD_DIM, "x".into(), "`N` is 10, expected 1 to 8".into()));
    // Inference took it as given that the elements fit the new dims.
    assert_eq!(e(5, 1).0, Code::SHAPE_MISMATCH);
}

#[test]
fn bind_reads_symbols_and_ranges() {
    let mut g = Graph::new("main");
    let n = symbol(&mut g, "n", 0, 4, 1, SymSource::Bind);
    let x = g.add_input("x", TensorType::fixed(DType::I64, &[1]));
    g.add(Op::Bind { symbols: vec!["n".into()] }, &[x], Origin::path("main/bind")).unwrap();
    let y = add(&mut g, Op::Iota { dtype: DType::I64, axis: 0, dims: vec![n] }, &[]);
    g.add_output("y", y);
    assert_eq!(run(&g, &[ints(&[1], &[3])], &Options::default()).unwrap()[0].to_i64(), [0, 1, 2]);
    let e = run(&g, &[ints(&[1], &[5])], &Options::default()).unwrap_err();
    assert_eq!((e.path.as_str(), e.message.as_str()), ("main/bind", "`n` is 5, expected 0 to 4"));
}

#[test]
fn if_runs_one_region() {
    let region = |op| {
        let mut r = Graph::new("r");
        let x = r.add_input("x", TensorType::fixed(DType::F32, &[2]));
        let y = add(&mut r, Op::Unary(op), &[x]);
        r.add_output("y", y);
        r
    };
    for (cond, want) in [(1, [-1.0, 2.0]), (0, [1.0, 2.0])] {
        let x = [Tensor::from_bits(DType::Bool, vec![], [cond]), t(&[2], &[1.0, -2.0])];
        let g = one_node(Op::If {}, &x, vec![region(UnaryOp::Neg), region(UnaryOp::Abs)]);
        exact(&run(&g, &x, &Options::default()).unwrap()[0], &t(&[2], &want));
    }
}

#[test]
fn loops_carry_and_stack() {
    // (i, cond, sum, step) -> (sum + step < 10, sum + step, sum)
    let mut b = Graph::new("body");
    let _i = b.add_input("i", TensorType::fixed(DType::I64, &[]));
    let _c = b.add_input("c", TensorType::fixed(DType::Bool, &[]));
    let sum = b.add_input("sum", TensorType::fixed(DType::F32, &[]));
    let step = b.add_input("step", TensorType::fixed(DType::F32, &[]));
    let next = add(&mut b, Op::Binary(BinaryOp::Add), &[sum, step]);
    let ten = add(&mut b, Op::Const { value: Literal::scalar(Scalar::f32(10.0)) }, &[]);
    let more = add(&mut b, Op::Binary(BinaryOp::Lt), &[next, ten]);
    b.add_output("more", more);
    b.add_output("next", next);
    b.add_output("seen", sum);
    let op = Op::Loop { carried: 1, trips: "trips".into() };
    let go = |trip: i64, cond: u64, limit: u64| {
        let x = [ints(&[], &[trip]), Tensor::from_bits(DType::Bool, vec![], [cond]), t(&[], &[1.0]), t(&[], &[4.0])];
        run(&one_node(op.clone(), &x, vec![b.clone()]), &x, &Options { loop_limit: limit, ..Options::default() })
    };
    let r = go(100, 1, 100).unwrap();
    exact(&r[0], &t(&[], &[13.0]));
    exact(&r[1], &t(&[3], &[1.0, 5.0, 9.0]));
    assert_eq!(go(2, 1, 100).unwrap()[1].dims, [2]);
    let none = go(100, 0, 100).unwrap();
    assert_eq!((none[0].to_f64(), none[1].dims.clone()), (vec![1.0], vec![0]));
    assert_eq!(go(100, 1, 2).unwrap_err().message, "more than 2 iterations");
}

#[test]
fn fusion_is_its_body() {
    let mut b = Graph::new("body");
    let x = b.add_input("x", TensorType::fixed(DType::F32, &[2]));
    let y = add(&mut b, Op::Silu {}, &[x]);
    let z = add(&mut b, Op::Binary(BinaryOp::Mul), &[y, x]);
    b.add_output("z", z);
    let x = [t(&[2], &[0.0, 1.0])];
    let g = one_node(Op::Fusion { kind: FusionKind::Map }, &x, vec![b]);
    close(&run(&g, &x, &Options::default()).unwrap()[0], &[2], &[0.0, 0.731_058_58]);
}

#[test]
fn limits_and_weights() {
    let mut g = Graph::new("main");
    let w = g.add_weight(Weight::new("w", DType::F32, vec![4], WeightSource::Seed(3)));
    let p = g.add_weight(Weight::new("p", DType::F32, vec![4], WeightSource::Packed));
    let (a, b) = (add(&mut g, Op::Weight { weight: w }, &[]), add(&mut g, Op::Weight { weight: p }, &[]));
    let sum = add(&mut g, Op::Binary(BinaryOp::Add), &[a, b]);
    let wide = add(&mut g, Op::Broadcast { dims: dims(&[1000, 4]) }, &[sum]);
    g.add_output("y", wide);
    assert_eq!(run(&g, &[], &Options::default()).unwrap_err().code, Code::NEEDS_WEIGHTS);
    let weights: WeightReader = Arc::new(|_| Some(vec![0; 16]));
    let opts = Options { weights: Some(weights), ..Options::default() };
    let mut seen = Vec::new();
    let r = run_with(&g, &[], &opts, &mut |n, r| seen.push((n, r.len()))).unwrap();
    assert_eq!(r[0].bytes()[..16], numerics::seeded_bytes(3, DType::F32, &[4]).unwrap()[..]);
    assert_eq!(seen.len(), 4);
    let e = run(&g, &[], &Options { max_bytes: 4096, ..opts }).unwrap_err();
    assert_eq!((e.code, e.path.as_str()), (Code::OVER_MEMORY, "main/node"));
}
