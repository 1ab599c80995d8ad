// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the cases of the textual form cannot say: equalities that are taken as given.

use super::{broadcast_dims, infer_assuming};
use crate::dtype::DType;
use crate::graph::{BinaryOp, Dims, Graph, Op, Origin, ReduceOp, SymSource, Symbol, TensorType, UnaryOp};
use crate::sym::SymExpr;
use crate::weight::{Weight, WeightSource};

/// `N` and `M` may be 1, `T` and `U` may not.
fn graph() -> Graph {
    let mut g = Graph::new("t");
    for (name, lo) in [("N", 1), ("M", 1), ("T", 2), ("U", 2)] {
        g.add_symbol(Symbol { name: name.into(), lo, hi: 64, div: 1, source: SymSource::Input });
    }
    g
}

fn dim(text: &str) -> SymExpr {
    text.parse::<i64>().map_or_else(|_| SymExpr::sym(text), SymExpr::from)
}

#[test]
fn broadcasting_of_two_dims() {
    let g = graph();
    let cases = [
        ("4", "4", Some(("4", false))),
        ("1", "N", Some(("N", false))),
        ("N", "1", Some(("N", false))),
        ("N", "N", Some(("N", false))),
        ("N", "4", Some(("4", true))),
        ("4", "N", Some(("4", true))),
        ("N", "M", Some(("N", true))),
        ("N", "T", Some(("T", true))),
        ("T", "N", Some(("T", true))),
        ("T", "U", Some(("T", true))),
        ("0", "1", Some(("0", false))),
        ("3", "4", None),
        ("N", "65", None),
        ("N", "0", None),
    ];
    for (a, b, expected) in cases {
        let found = broadcast_dims(&g, &[&vec![dim(a)], &vec![dim(b)]]);
        let found = found.ok().map(|(d, assumed)| (d[0].to_string(), !assumed.is_empty()));
        assert_eq!(found, expected.map(|(d, assumed)| (d.to_owned(), assumed)), "{a} with {b}");
    }
    let (d, assumed) = broadcast_dims(&g, &[&vec![dim("3")], &vec![dim("N"), dim("1")], &vec![]]).unwrap();
    assert_eq!((d, assumed.len()), (vec![dim("N"), dim("3")], 0));
}

#[test]
fn nodes_record_what_they_take_as_given() {
    let mut g = graph();
    let x = g.add_input("x", TensorType::new(DType::F32, vec![dim("N"), dim("4")]));
    let y = g.add_input("y", TensorType::new(DType::F32, vec![dim("M"), dim("4")]));
    for path in ["main/Add_0", "main/Add_1"] {
        g.add(Op::Binary(BinaryOp::Add), &[x, y], Origin::path(path)).unwrap();
    }
    let texts: Vec<String> = g.constraints.iter().map(|c| format!("{} == {} for {}", c.left, c.right, c.path)).collect();
    assert_eq!(texts, ["N == M for main/Add_0"]);
}

/// Reshapes compare products: what is recorded has no common factors, unless a symbol may be 0.
#[test]
fn assumptions_have_no_common_factors() {
    let mut g = graph();
    g.add_symbol(Symbol { name: "Z".into(), lo: 0, hi: 64, div: 1, source: SymSource::Input });
    let n = SymExpr::sym;
    let cases = [
        (vec![n("N"), n("M"), 12.into()], vec![n("N"), 4.into(), n("T") + 2], "3*M == T + 2"),
        (vec![n("N"), n("Z")], vec![n("Z"), n("M")], "N*Z == M*Z"),
        (vec![n("N"), n("T")], vec![n("T"), 1.into()], "N == 1"),
        (vec![n("N") * 6 + 4], vec![n("M") * 2], "3*N + 2 == M"),
    ];
    for (from, to, expected) in cases {
        let x = TensorType::new(DType::F32, from);
        let found = infer_assuming(&g, &Op::Reshape { dims: to }, &[&x], &[]).unwrap().assumed;
        let texts: Vec<String> = found.iter().map(|(a, b)| format!("{a} == {b}")).collect();
        assert_eq!(texts, [expected]);
    }
}

#[test]
fn sizes_that_leave_the_range_are_faults() {
    let g = graph();
    let huge = TensorType::new(DType::F32, vec![SymExpr::sym("N") * (1 << 40), SymExpr::from(1 << 40)]);
    let dims: Dims = vec![SymExpr::sym("N") * (1 << 40) * (1 << 40)];
    for (op, operands) in [
        (Op::Reshape { dims: vec![dim("4")] }, vec![&huge]),
        (Op::Broadcast { dims: dims.clone() }, vec![&huge]),
        (Op::Fill { value: crate::graph::Scalar::f32(0.0), dims }, vec![]),
        (Op::Concat { axis: 1 }, vec![&huge; 3]),
    ] {
        assert!(infer_assuming(&g, &op, &operands, &[]).is_err(), "{op:?}");
    }
}

#[test]
fn dims_that_cannot_match_are_followed_back() {
    let mut g = Graph::new("g");
    g.add_symbol(Symbol { name: "N".into(), lo: 1, hi: 64, div: 1, source: SymSource::Input });
    let n = || SymExpr::sym("N");
    let a = g.add_input("a", TensorType::new(DType::F32, vec![n(), 2.into(), 5.into()]));
    let b = g.add_input("b", TensorType::new(DType::F32, vec![7.into(), n()]));
    let at = Origin::path;
    let t = g.add(Op::Transpose { perm: vec![0, 2, 1] }, &[a], at("main/turn")).unwrap();
    let t = g.add(Op::Unary(UnaryOp::Neg), &[g.result(t)], at("main/neg")).unwrap();
    let r = g.add(Op::Reshape { dims: vec![n(), 5.into(), 1.into(), 2.into()] }, &[g.result(t)], at("main/shape")).unwrap();
    let r = g.add(Op::Reduce { op: ReduceOp::Sum, axes: vec![3], keep: false }, &[g.result(r)], at("main/sum")).unwrap();
    let f = g.add(Op::Binary(BinaryOp::Add), &[g.result(r), b], at("main/add")).unwrap_err();
    assert_eq!(f.message, "add(f32[N,5,1], f32[7,N]): dims 5 and 7 do not broadcast (axis 2 from the end)");
    assert_eq!(
        f.notes,
        [
            "dim 1 of operand 0 is 5: axis 2 of input `a`, through main/turn, main/neg, main/shape, main/sum",
            "dim 0 of operand 1 is 7: axis 0 of input `b`"
        ]
    );
    // What a node computes itself is said with what it computes it from.
    let c = g.add(Op::Concat { axis: 1 }, &[a, a], at("main/join")).unwrap();
    let op = Op::Contract { spec: "nmk,kl->nml".into(), acc: DType::F32, out: DType::F32 };
    let w = g.add_weight(Weight::new("w", DType::F32, vec![3, 8], WeightSource::Seed(1)));
    let w = g.add(Op::Weight { weight: w }, &[], at("")).unwrap();
    let turned = g.add(Op::Transpose { perm: vec![0, 2, 1] }, &[g.result(c)], at("main/turn2")).unwrap();
    let f = g.add(op, &[g.result(turned), g.result(w)], at("main/mul")).unwrap_err();
    assert_eq!(
        f.notes,
        [
            "dim 2 of operand 0 is 4: axis 1 of what main/join makes of `a` (f32[N,2,5]), `a` (f32[N,2,5]), through main/turn2",
            "dim 0 of operand 1 is 3: axis 0 of weight `w`"
        ]
    );
}
