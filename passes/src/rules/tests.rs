// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver's guards.

use portwright_ir::graph::{BinaryOp, Graph, NodeId, Op, Patch, UnaryOp, text};

use super::{Edit, Rule, RuleCx, RuleLog, run};
use crate::spec::Math;

const CHAIN: &str = "graph \"chain\" symbols N in 1..8
%0: f32[N] = input \"x\"
%1: f32[N] = neg(%0)
%2: f32[N] = neg(%1)
%3: f32[N] = neg(%2)
%4: f32[N] = neg(%3)
%5: f32[N] = add(%4, %0)
output \"y\" %5
";

static SWAP: Rule = Rule { name: "swap-for-ever", doc: "add(x, y) -> add(y, x)", roots: &["add"], apply: swap };
static PAIR: Rule = Rule { name: "pair", doc: "neg(neg(x)) -> x", roots: &["neg"], apply: pair };

fn swap(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let &[x, y] = g.node(n).operands.as_slice() else { return None };
    let mut e = Edit::new(g, "swap-for-ever", &[n]);
    let new = e.binary(BinaryOp::Add, y, x)?;
    e.finish(g.result(n), new)
}

fn pair(g: &Graph, n: NodeId, _: &RuleCx<'_>) -> Option<Patch> {
    let x = super::edit::unary_of(g, *g.node(n).operands.first()?, UnaryOp::Neg)?;
    Edit::new(g, "pair", &[n]).finish(g.result(n), x)
}

fn graph() -> Graph {
    text::parse(CHAIN).expect("the chain parses")
}

#[test]
fn a_rule_that_feeds_itself_is_stopped_and_named() {
    let (mut g, mut log) = (graph(), RuleLog::default());
    run(&mut g, &[&SWAP], &RuleCx::plain(Math::F32), &mut log);
    assert_eq!(log.fired.get("swap-for-ever"), Some(&u64::from(super::GENERATIONS)));
    assert_eq!(log.refired.len(), 1);
    assert!(log.faults()[0].message.contains("swap-for-ever"));
}

#[test]
fn a_limit_stops_after_so_many_patches() {
    for limit in 0..3 {
        let (mut g, mut log) = (graph(), RuleLog::with_limit(Some(limit)));
        run(&mut g, &[&PAIR], &RuleCx::plain(Math::F32), &mut log);
        assert_eq!((log.patches, log.spent()), (limit.min(2), limit <= 2));
        assert_eq!(g.len(), 5 - 2 * limit.min(2) as usize);
    }
}

#[test]
fn new_nodes_stand_where_the_old_ones_stood_and_say_who_made_them() {
    let (mut g, mut log) = (graph(), RuleLog::default());
    let n = g.order().into_iter().find(|&n| g.node(n).op == Op::Binary(BinaryOp::Add)).expect("there is an addition");
    let seq = g.node(n).seq;
    run(&mut g, &[&SWAP], &RuleCx::plain(Math::F32), &mut log);
    let n = g.order().into_iter().find(|&n| g.node(n).op == Op::Binary(BinaryOp::Add)).expect("there is an addition");
    assert_eq!((g.node(n).seq, g.node(n).origin.rules.as_slice()), (seq, &["swap-for-ever"][..]));
}

#[test]
fn names_and_docs_are_there_and_unique() {
    let all = [
        crate::canonical::rules(),
        crate::canonical::affine::rules(),
        crate::canonical::views::rules(),
        crate::raise::rules(),
        crate::decompose::rules(),
        crate::legalize::rules(),
    ]
    .concat();
    let mut names: Vec<&str> = all.iter().map(|r| r.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(count, names.len());
    assert!(all.iter().all(|r| r.doc.contains("->")), "a rule's doc says before -> after");
}
