// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whole pipelines on cases in text: the results are equal, and every node is in a kernel.

use portwright_ir::diag::Diags;
use portwright_ir::graph::{Graph, Node};

use crate::prepare::prepare;
use crate::rules::{self, RuleCx, RuleLog};
use crate::spec::Math;
use crate::testing::{assert_equal, cases, machine, read};
use crate::{canonical, decompose, fold};

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
