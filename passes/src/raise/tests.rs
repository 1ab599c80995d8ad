// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cases/raise/NAME.graph` are spellings of the composite NAME, `NAME_not.graph` look-alikes of it.

use portwright_ir::graph::{Graph, Op, text};

use crate::rules::{self, RuleCx, RuleLog};
use crate::spec::Math;
use crate::testing::{assert_equal, cases, count, read};
use crate::{canonical, fold};

fn raised(g: &Graph, log: &mut RuleLog) -> Graph {
    let mut out = g.clone();
    let all = [canonical::rules(), super::rules()].concat();
    for _ in 0..2 {
        fold::fold(&mut out, log);
        rules::run(&mut out, &all, &RuleCx::plain(Math::F32), log);
        fold::share(&mut out, log);
        out.remove_dead();
    }
    out
}

#[test]
fn chains_are_raised_and_look_alikes_are_not() {
    for path in cases("raise") {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let (name, wanted) = stem.strip_suffix("_not").map_or((stem, true), |n| (n, false));
        for g in read(&path) {
            let title = format!("{stem}: {}", g.name);
            let mut log = RuleLog::default();
            let after = raised(&g, &mut log);
            assert!(log.faults().is_empty(), "{title}: {:?}", log.faults());
            assert_eq!(count(&after, name), usize::from(wanted), "{title}\n{}", text::print(&after));
            let half = g.name.starts_with("half");
            assert_equal(&title, &g, &after, None, if half { 2e-3 } else { 2e-3 / 100.0 });
            let before = log.patches;
            raised(&after, &mut log);
            assert_eq!(before, log.patches, "{title}: raising is not final: {:?}", log.fired);
        }
    }
}

#[test]
fn projections_are_absorbed_where_that_pays() {
    for path in cases("absorb") {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let wanted = !stem.ends_with("_not");
        for g in read(&path) {
            let title = format!("{stem}: {}", g.name);
            let mut log = RuleLog::default();
            let after = raised(&g, &mut log);
            assert!(log.faults().is_empty(), "{title}: {:?}", log.faults());
            let shared = after.order().into_iter().map(|n| after.node(n)).any(|n| {
                matches!(n.op, Op::Attention { .. }) && n.operands.get(1).is_some_and(|&k| after.ty(k).dims.get(1).is_some_and(|h| h.is(1)))
            });
            assert_eq!(shared, wanted, "{title}\n{}", text::print(&after));
            assert_equal(&title, &g, &after, None, if g.name.starts_with("half") { 2e-2 } else { 2e-5 });
        }
    }
}
