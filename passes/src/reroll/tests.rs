// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cases/reroll/*.graph` are sums whose rows choose their terms, `*_not.graph` look-alikes of them.

use portwright_ir::diag::Diags;
use portwright_ir::entity::EntityId;
use portwright_ir::graph::text;
use portwright_ir::kernel::KernelId;
use portwright_ir::plan;

use super::reroll;
use crate::pipeline;
use crate::rules::RuleLog;
use crate::spec::Math;
use crate::testing::{assert_equal, cases, count, machine, read};

#[test]
fn sums_that_rows_choose_from_are_routed_and_look_alikes_are_not() {
    for path in cases("reroll") {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let wanted = !stem.ends_with("_not");
        for g in read(&path) {
            let title = format!("{stem}: {}", g.name);
            let (mut after, mut log) = (g.clone(), RuleLog::default());
            reroll(&mut after, Math::F32, &mut log);
            assert!(log.faults().is_empty(), "{title}: {:?}", log.faults());
            assert_eq!(count(&after, "group_rows"), usize::from(wanted), "{title}\n{}", text::print(&after));
            if g.name.ends_with("stay sorted") {
                // One before the first product, one behind the last.
                assert_eq!((count(&after, "gather"), count(&after, "broadcast")), (2, 0), "{title}\n{}", text::print(&after));
            }
            let half = g.name.starts_with("half");
            assert_equal(&title, &g, &after, None, if half { 2e-2 } else { 2e-5 });
            let printed = text::print(&after);
            let again = text::parse(&printed).unwrap_or_else(|d| panic!("{title}: {d:#?}"));
            assert_eq!(text::print(&again), printed, "{title}");
            let mut exact = g.clone();
            reroll(&mut exact, Math::Exact, &mut log);
            assert_eq!(count(&exact, "group_rows"), 0, "{title}");
        }
    }
}

/// Graphs of `counts.graph` are pairs that differ in how many siblings there are.
#[test]
fn kernels_and_launches_do_not_depend_on_how_many_siblings_there_are() {
    let graphs = cases("reroll").iter().find(|p| p.ends_with("counts.graph")).map(|p| read(p)).unwrap_or_default();
    assert!(!graphs.is_empty());
    for pair in graphs.chunks(2) {
        let launches: Vec<Vec<String>> = pair
            .iter()
            .map(|g| {
                let c = pipeline::compile(g.clone(), &machine(), &machine(), Math::F32, None, &mut Diags::new()).unwrap();
                let name = |i| c.main.module.kernels.get(KernelId::new(i)).map_or_else(String::new, |k| k.name.clone());
                let plan = plan::print(&c.main.plan, &name);
                let launched = |line: &str| line.trim().strip_prefix("launch ")?.split(' ').next().map(str::to_owned);
                plan.lines().filter_map(launched).collect()
            })
            .collect();
        assert_eq!(launches[0], launches[1], "{}", pair[0].name);
        assert!((1..=24).contains(&launches[0].len()), "{}: {launches:?}", pair[0].name);
    }
}
