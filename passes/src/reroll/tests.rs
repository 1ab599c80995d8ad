// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cases/reroll/*.graph` are sums whose rows choose their terms, `*_not.graph` look-alikes of them.

use portwright_ir::graph::text;

use super::reroll;
use crate::rules::RuleLog;
use crate::spec::Math;
use crate::testing::{assert_equal, cases, count, read};

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
