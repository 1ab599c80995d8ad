// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whole pipelines on cases in text: the results are equal, and every node is in a kernel.

use portwright_ir::diag::Diags;
use portwright_ir::graph::{Graph, Node};

use crate::prepare::prepare;
use crate::rules::{self, RuleCx, RuleLog};
use crate::spec::Math;
use crate::testing::{assert_equal, cases, count, machine, parse, read};
use crate::{canonical, decompose, fold, hoist, layout};

#[test]
fn decompositions_compute_what_composites_do() {
    for path in cases("decompose") {
        for g in read(&path) {
            let mut after = g.clone();
            let mut log = RuleLog::default();
            rules::run(&mut after, &decompose::rules(), &RuleCx::plain(Math::F32), &mut log);
            assert!(log.faults().is_empty(), "{}: {:?}", g.name, log.faults());
            let native = |n: &Node| !n.op.is_composite();
            assert!(after.node_ids().all(|n| native(after.node(n))), "{}: a composite is left", g.name);
            // f16 results may differ by a rounding where the interpreter computes in f64.
            let half = g.name.starts_with("half");
            assert_equal(&g.name, &g, &after, None, if half { 2e-3 } else { 2e-6 });
        }
    }
}

#[test]
fn canonical_form_changes_no_bit() {
    for path in cases("canonical").into_iter().chain(cases("prepare")).chain(cases("decompose")) {
        for g in read(&path) {
            let mut after = g.clone();
            let mut log = RuleLog::default();
            let cx = RuleCx::plain(Math::F32);
            fold::fold(&mut after, &mut log);
            rules::run(&mut after, &canonical::rules(), &cx, &mut log);
            fold::share(&mut after, &mut log);
            after.remove_dead();
            assert!(log.faults().is_empty(), "{}: {:?}", g.name, log.faults());
            assert_equal(&g.name, &g, &after, None, 0.0);
            let again = log.patches;
            rules::run(&mut after, &canonical::rules(), &cx, &mut log);
            assert_eq!(again, log.patches, "{}: canonical form is not final: {:?}", g.name, log.fired);
        }
    }
}

fn check_prepared(g: &Graph) -> crate::prepare::Prepared {
    let mut diags = Diags::new();
    let p = prepare(g.clone(), &machine(), Math::F32, &mut diags).unwrap_or_else(|_| panic!("{}: {:?}", g.name, diags.all()));
    assert!(p.log.faults().is_empty(), "{}: {:?}", g.name, p.log.faults());
    p
}

#[test]
fn prepared_graphs_compute_the_same() {
    for path in cases("prepare").into_iter().chain(cases("decompose")) {
        for g in read(&path) {
            let p = check_prepared(&g);
            if std::env::var_os("PRINT_CASES").is_some() {
                println!("{}\n--- pack\n{}\n", portwright_ir::graph::text::print(&p.main), portwright_ir::graph::text::print(&p.pack));
            }
            let half = g.name.starts_with("half");
            assert_equal(&g.name, &g, &p.main, Some(&p.pack), if half { 4e-3 } else { 1e-5 });
        }
    }
}

const LINEAR: &str = "graph \"linear\" symbols N in 1..64
%0: f32[N,3] = input \"x\"
%1: f32[5,3] = weight<f32 5x3 \"w\" seed:1>
%2: f32[5,1] = weight<f32 5x1 \"s\" seed:2>
%3: f32[5,3] = mul(%1, %2)
%4: f32[N,5] = contract(%0, %3) {spec=\"mk,nk->mn\"}
%5: f32[1,5] = const [1.0, 2.0, 3.0, 4.0, 5.0]
%6: f32[N,5] = add(%4, %5)
%7: i64[2] = dims {values=[N,5]}
%8: i64[1] = slice(%7) {starts=[0], steps=[1], dims=[1]}
%9: i64[1] = mul(%8, i64 5)
%10: i64[4,4] = iota {dtype=i64, axis=0, dims=[4,4]}
%11: i64[4,4] = iota {dtype=i64, axis=1, dims=[4,4]}
%12: bool[4,4] = le(%11, %10)
output \"y\" %6
output \"n\" %9
output \"mask\" %12
";

#[test]
fn weights_are_packed_and_masks_are_not() {
    let g = parse(LINEAR, "linear");
    let (main, pack) = hoist::split_pack(g.clone(), &mut RuleLog::default());
    let names: Vec<&str> = pack.outputs().iter().map(|o| &*o.name).collect();
    assert_eq!(names, [".packed"]);
    assert_eq!((count(&main, "mul"), count(&pack, "mul"), count(&main, "le")), (1, 1, 1));
    assert_equal("hoist", &g, &main, Some(&pack), 0.0);
}

#[test]
fn shape_arithmetic_becomes_dims() {
    let mut g = parse(LINEAR, "linear");
    let before = g.clone();
    fold::fold(&mut g, &mut RuleLog::default());
    g.remove_dead();
    assert_eq!((count(&g, "slice"), count(&g, "dims")), (0, 1), "{}", portwright_ir::graph::text::print(&g));
    assert_equal("fold", &before, &g, None, 0.0);
}

#[test]
fn symbols_take_values() {
    let g = parse(LINEAR, "linear");
    let fixed = fold::bind_symbols(&g, &[("N", 4, 4)]).expect("4 is in range");
    assert!(fixed.symbols().is_empty());
    assert_eq!(fixed.ty(fixed.inputs()[0]).static_dims(), Some(vec![4, 3]));
    assert_equal("bind", &fixed, &fold::bind_symbols(&fixed, &[]).expect("nothing to bind"), None, 0.0);
    let narrowed = fold::bind_symbols(&g, &[("N", 2, 8)]).expect("2..8 is in range");
    assert_eq!(narrowed.symbol("N").map(|s| (s.lo, s.hi)), Some((2, 8)));
    for bad in [("M", 1, 1), ("N", 0, 0), ("N", 5, 4), ("N", 1, 65)] {
        assert!(fold::bind_symbols(&g, &[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn weights_lie_as_they_are_read() {
    let g = parse(LINEAR, "linear");
    let mut turned = g.clone();
    let mut log = RuleLog::default();
    layout::turn_weights(&mut turned, &RuleCx::plain(Math::F32), &mut log);
    assert_eq!(count(&turned, "transpose"), 1);
    assert_equal("turned", &g, &turned, None, 0.0);
}

#[test]
fn everything_unsupported_is_reported_once() {
    let g = parse(
        "graph \"complex\" symbols N in 1..8\n%0: c64[N] = input \"a\"\n%1: c64[N] = input \"b\"\n%2: bool[N] = eq(%0, %1)  // main/Equal_0\n\
         %3: bool[N] = ne(%0, %1)  // main/Not_1\noutput \"y\" %2\noutput \"z\" %3\n",
        "complex",
    );
    let mut diags = Diags::new();
    assert!(prepare(g, &machine(), Math::F32, &mut diags).is_err());
    let paths: Vec<_> = diags.all().iter().map(|d| d.path.as_deref()).collect();
    assert_eq!(paths, [Some("main/Equal_0"), Some("main/Not_1")]);
    assert!(diags.all().iter().all(|d| d.message.contains("complex numbers have no kernels")), "{:?}", diags.all());
}
