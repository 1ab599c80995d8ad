// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Outputs that are an input with more behind it: caches that a caller may keep in one piece of memory.

use std::collections::HashSet;

use portwright_ir::graph::{Graph, Op, ValueId};

/// For each output, the input that it continues: what the graph says, or an input of its own to which it appends along one axis.
pub(super) fn continued(g: &Graph) -> Vec<Option<u32>> {
    let mut out: Vec<Option<u32>> = g.outputs().iter().map(|o| o.alias_of).collect();
    let mut taken: HashSet<u32> = out.iter().copied().flatten().collect();
    for (o, alias) in g.outputs().iter().zip(&mut out) {
        if alias.is_none()
            && let Some(i) = appended_to(g, o.value).filter(|i| !taken.contains(i))
        {
            taken.insert(i);
            *alias = Some(i);
        }
    }
    out
}

/// The input whose elements a value has in front, in the same rank and dtype.
fn appended_to(g: &Graph, v: ValueId) -> Option<u32> {
    let first = first_part(g, v)?;
    let from = match g.producer(v).map(|n| &n.op) {
        // The value that the region calls its input, as the graph calls it.
        Some(Op::Fusion { .. }) => {
            let node = g.producer(v)?;
            let [region] = node.regions.as_slice() else { return None };
            *node.operands.get(region.inputs().iter().position(|i| *i == first)?)?
        }
        _ => first,
    };
    let i = g.inputs().iter().position(|i| *i == from)?;
    (g.ty(from).dtype == g.ty(v).dtype && g.ty(from).rank() == g.ty(v).rank()).then_some(i as u32)
}

/// What a value begins with, if it is a concatenation; of a fusion, as its region has it.
fn first_part(g: &Graph, v: ValueId) -> Option<ValueId> {
    let node = g.producer(v)?;
    match &node.op {
        Op::Concat { .. } => node.operands.first().copied(),
        Op::Fusion { .. } => {
            let [region] = node.regions.as_slice() else { return None };
            let at = node.results.iter().position(|r| *r == v)?;
            let inner = region.producer(region.outputs().get(at)?.value)?;
            matches!(inner.op, Op::Concat { .. }).then(|| inner.operands.first().copied()).flatten()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use portwright_ir::diag::Diags;
    use portwright_ir::graph::text;

    use crate::pipeline;
    use crate::spec::Math;
    use crate::testing::machine;

    #[test]
    fn caches_continue_their_inputs() {
        let source = r#"graph "decode" symbols P in 0..100, S in 1..8
%0: f32[2,P,4] = input "past"
%1: f32[2,S,4] = input "new"
%2: f32[2,P,4] = input "other"
%3: f32[2,S,4] = mul(%1, f32 2.0)
%4: f32[2,P + S,4] = concat(%0, %3) {axis=1}
%5: f32[2,S + P,4] = concat(%3, %2) {axis=1}
%6: f32[2,P + S,4] = concat(%0, %1) {axis=1}
output "present" %4
output "backward" %5
output "again" %6
"#;
        let graph = text::parse(source).unwrap();
        let machine = machine();
        let c = pipeline::compile(graph, &machine, &machine, Math::F32, None, &mut Diags::new()).unwrap();
        let alias: Vec<Option<u32>> = c.main.plan.outputs.iter().map(|o| o.alias_of).collect();
        assert_eq!(alias, [Some(0), None, None], "the first output that appends takes the input's memory, and only it");
    }
}
