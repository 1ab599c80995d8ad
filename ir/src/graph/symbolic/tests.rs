// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values that shape arithmetic gives, as text.

use super::{Symbolic, value_of};
use crate::dtype::DType;
use crate::graph::text::parse;
use crate::graph::{Graph, Op, Origin, SymSource, Symbol, TensorType, UnaryOp};
use crate::sym::SymExpr;

/// Elements of output 0 of a graph with symbols `N in 1..64`, `M in 0..`, `K in 0..100 bind`; `?` where they are not known.
#[track_caller]
fn check(body: &str, expected: &str) {
    let text = format!("graph \"t\" symbols N in 1..64, M in 0.., K in 0..100 bind\n{body}\noutput \"y\" %y\n");
    let g = parse(&text).unwrap_or_else(|f| panic!("{f:?}"));
    let found = match Symbolic::new().partial(&g, g.outputs()[0].value) {
        Some(e) => e.iter().map(|e| e.as_ref().map_or("?".to_owned(), SymExpr::to_string)).collect::<Vec<_>>().join(", "),
        None => "nothing".to_owned(),
    };
    assert_eq!(found, expected, "{body}");
}

const NM: &str = "%a: i64[2] = dims {values=[N,M]}\n%b: i64[2] = dims {values=[M,3]}\n%s: i64[] = dims {values=[N]}\n";

#[test]
fn sources() {
    check("%y: i64[3] = const [4, -1, 2]", "4, -1, 2");
    check("%y: i64[2,2] = fill {value=7}", "7, 7, 7, 7");
    check("%y: i64[2,2] = iota {axis=1}", "0, 1, 0, 1");
    check("%y: i64[2] = dims {values=[N*M,4]}", "M*N, 4");
    check("%y: bool[2] = const [true, false]", "1, 0");
    check("%y: i64[65] = fill {value=7}", "nothing");
    check("%y: i64[2] = input \"x\"", "nothing");
}

#[test]
fn arithmetic() {
    let cases = [
        ("i64[2]", "add(%a, %b)", "M + N, M + 3"),
        ("i64[2]", "sub(%a, i64 1)", "N - 1, M - 1"),
        ("i64[2]", "mul(%a, %b)", "M*N, 3*M"),
        ("i64[2]", "div(%a, i64 2)", "floor(N, 2), floor(M, 2)"),
        ("i64[2]", "div(%a, i64 -2)", "-floor(N, 2), -floor(M, 2)"),
        ("i64[2]", "div(%a, %s)", "1, floor(M, N)"),
        ("i64[2]", "div(%s, %a)", "1, ?"),
        ("i64[2]", "mod(%a, i64 8)", "mod(N, 8), mod(M, 8)"),
        ("i64[2]", "min(%a, i64 64)", "N, min(64, M)"),
        ("i64[2]", "max(%a, i64 0)", "N, M"),
        ("i64[2]", "neg(%a)", "-N, -M"),
        ("i64[2]", "abs(%a)", "N, M"),
        ("i64[2]", "sign(%a)", "1, ?"),
        ("i64[2]", "pow(%a, i64 2)", "N*N, M*M"),
        ("i64[2]", "shl(%a, i64 3)", "8*N, 8*M"),
        ("bool[2]", "eq(%a, i64 -1)", "0, 0"),
        ("bool[2]", "lt(%a, i64 65)", "1, ?"),
        ("bool[2]", "ge(%a, %a)", "1, 1"),
        ("bool[2]", "gt(%a, i64 0)", "1, ?"),
        ("i64[]", "reduce(%a) {op=prod, axes=[0]}", "M*N"),
        ("i64[1]", "reduce(%a) {op=sum, axes=[0], keep=true}", "M + N"),
        ("i64[]", "reduce(%a) {op=max, axes=[0]}", "max(M, N)"),
        ("i64[2]", "scan(%a) {axis=0}", "N, M + N"),
        ("i64[2]", "scan(%a) {axis=0, exclusive=true, reverse=true}", "M, 0"),
        ("i32[2]", "cast(%a)", "N, M"),
        ("i8[2]", "cast(%a)", "N, ?"),
        ("u64[2]", "cast(%a)", "N, M"),
    ];
    for (ty, op, expected) in cases {
        check(&format!("{NM}%y: {ty} = {op}"), expected);
    }
    // A difference below zero truncates toward zero, which flooring does not.
    check(&format!("{NM}%d: i64[2] = sub(%a, i64 100)\n%y: i64[2] = div(%d, i64 3)"), "nothing");
    check(&format!("{NM}%d: i64[2] = mul(%a, i64 -6)\n%y: i64[2] = div(%d, i64 3)"), "-2*N, -2*M");
    check("%a: i64[2] = const [-7, 7]\n%y: i64[2] = div(%a, i64 2)", "-3, 3");
    check("%a: i8[2] = const [127, -128]\n%y: i8[2] = add(%a, i8 1)", "-128, -127");
}

#[test]
fn movement() {
    let cases = [
        ("i64[]", "gather(%a, i64 1) {axis=0}", "M"),
        ("i64[3]", "gather(%a, const i64[3] [-1, 0, -2]) {axis=0}", "M, N, N"),
        ("i64[1]", "slice(%a) {starts=[1]}", "M"),
        ("i64[2]", "slice(%a) {starts=[1], steps=[-1]}", "M, N"),
        ("i64[4]", "concat(%a, %b) {axis=0}", "N, M, M, 3"),
        ("i64[2,1]", "reshape(%a)", "N, M"),
        ("i64[2,2]", "broadcast(%a)", "N, M, N, M"),
        ("i64[4]", "pad(%a, i64 1) {low=[1], high=[1]}", "1, N, M, 1"),
        ("i64[2]", "scatter_elements(%a, const i64[1] [1], const i64[1] [5]) {axis=0}", "N, 5"),
        ("i64[2]", "scatter_nd(%a, const i64[1,1] [0], %t)", "9, M"),
        ("i64[2]", "gather_elements(%a, const i64[2] [1, 1]) {axis=0}", "M, M"),
        ("i64[2]", "select(const bool[2] [true, false], %a, %b)", "N, 3"),
    ];
    for (ty, op, expected) in cases {
        check(&format!("{NM}%t: i64[1] = const [9]\n%y: {ty} = {op}"), expected);
    }
    check(&format!("{NM}%r: i64[2,1] = reshape(%a)\n%y: i64[1,2] = transpose(%r) {{perm=[1,0]}}"), "N, M");
    // What an exporter writes for `-1` keeps a dim.
    check(&format!("{NM}%e: bool[2] = eq(%a, i64 -1)\n%y: i64[2] = select(%e, %b, %a)"), "N, M");
    // Elements are known one by one.
    check(&format!("{NM}%x: i64[1] = input \"x\"\n%y: i64[3] = concat(%x, %a) {{axis=0}}"), "?, N, M");
    check(&format!("{NM}%i: i64[] = input \"i\"\n%y: i64[] = gather(%a, %i) {{axis=0}}"), "nothing");
}

#[test]
fn through_floats() {
    let scaled = |factor: &str, round: &str| {
        format!("{NM}%f: f32[2] = cast(%a)\n%g: f32[2] = {factor}\n%h: f32[2] = {round}\n%y: i64[2] = cast(%h)")
    };
    check(&scaled("mul(%f, f32 2.0)", "floor(%g)"), "2*N, 2*M");
    check(&scaled("mul(%f, f32 0.5)", "floor(%g)"), "floor(N, 2), floor(M, 2)");
    check(&scaled("mul(%f, f32 0.75)", "ceil(%g)"), "ceil(3*N, 4), ceil(3*M, 4)");
    check(&scaled("div(%f, f32 3.0)", "floor(%g)"), "floor(N, 3), floor(M, 3)");
    check(&scaled("div(%f, f32 3.0)", "neg(%g)"), "nothing");
    check(&scaled("mul(%f, f32 0.1)", "floor(%g)"), "nothing");
    check("%a: i64[1] = const [10]\n%f: f32[1] = cast(%a)\n%g: f32[1] = mul(%f, f32 0.1)\n%y: i64[1] = cast(%g)", "1");
    check("%a: f32[1] = const [4.0]\n%s: f32[1] = sqrt(%a)\n%y: i64[1] = cast(%s)", "2");
    // f16 holds integers up to 2048 only.
    check(&format!("{NM}%f: f16[2] = cast(%a)\n%y: i64[2] = cast(%f)"), "N, ?");
}

#[test]
fn bound_values_are_their_symbols() {
    check("%x: i64[1] = input \"x\"\nbind(%x) {symbols=[\"K\"]}\n%y: i64[1] = add(%x, i64 2)", "K + 2");
    // A bind that comes later is seen too.
    let mut g = Graph::new("t");
    let x = g.add_input("x", TensorType::fixed(DType::I64, &[1]));
    let n = g.add(Op::Unary(UnaryOp::Neg), &[x], Origin::default()).unwrap();
    let y = g.result(n);
    let mut s = Symbolic::new();
    assert_eq!(s.get(&g, y), None);
    g.add_symbol(Symbol { name: "K".into(), lo: 0, hi: 9, div: 1, source: SymSource::Bind });
    g.add(Op::Bind { symbols: vec!["K".into()] }, &[x], Origin::default()).unwrap();
    assert_eq!(s.scalar(&g, y).unwrap().to_string(), "-K");
}

#[test]
fn long_chains_need_no_stack() {
    let mut g = Graph::new("chain");
    let d = g.add(Op::DimTensor { values: vec![1.into(), SymExpr::sym("N")], dtype: DType::I64, scalar: false }, &[], Origin::default());
    let mut v = g.result(d.unwrap());
    for _ in 0..60_000 {
        let n = g.add(Op::Unary(UnaryOp::Neg), &[v], Origin::default()).unwrap();
        v = g.result(n);
    }
    let texts: Vec<String> = value_of(&g, v).unwrap().iter().map(SymExpr::to_string).collect();
    assert_eq!(texts, ["1", "N"]);
}
