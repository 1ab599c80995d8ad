// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Outputs that are an input with more behind it: caches that a caller may keep in one piece of memory.

use std::collections::{HashMap, HashSet};

use portwright_ir::graph::{Graph, Node, Op, ValueId};
use portwright_ir::sym::SymExpr;

use crate::schedule::{self, Room};
use crate::spec::MachineClass;

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

/// A result that may be written behind an input in the caller's memory.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    /// The output that it is.
    pub output: u32,
    /// How it lies.
    pub room: Room,
    /// Rows of the input along the axis.
    pub past: SymExpr,
    /// Rows of the result along the axis.
    pub needed: SymExpr,
}

/// Results that append to an input which nothing else reads, written by a kernel that can leave the input's rows out, and read by kernels
/// that take them with room between.
pub(super) fn in_place(g: &Graph, machine: &MachineClass) -> HashMap<ValueId, Appended> {
    let mut out = HashMap::new();
    for (i, (o, input)) in g.outputs().iter().zip(continued(g)).enumerate() {
        let Some(input) = input.and_then(|n| g.inputs().get(n as usize)) else { continue };
        let Some(axis) = appends(g, machine, o.value, *input) else { continue };
        let (Some(past), Some(needed)) = (g.ty(*input).dims.get(axis), g.ty(o.value).dims.get(axis)) else { continue };
        let room = Room { axis, room: format!("{}.room", o.name).into(), front: format!("{}.front", o.name).into() };
        out.insert(o.value, Appended { output: i as u32, room, past: past.clone(), needed: needed.clone() });
    }
    out
}

fn appends(g: &Graph, machine: &MachineClass, v: ValueId, input: ValueId) -> Option<usize> {
    let node = g.producer(v)?;
    let (Op::Fusion { kind }, [region]) = (&node.op, node.regions.as_slice()) else { return None };
    let axis = schedule::appends(machine, *kind, region)?;
    let first = first_part(g, v)?;
    let own = region.inputs().iter().position(|i| *i == first)?;
    let once = |v: ValueId| g.outputs().iter().filter(|o| o.value == v).count();
    let alone = node.operands.get(own) == Some(&input) && g.users(input).len() == 1 && once(input) == 0 && once(v) == 1;
    let reads = |n: &Node| matches!(n.op, Op::Fusion { kind } if schedule::reads_rooms(machine, kind));
    let dense = node.operands.iter().filter(|o| **o == input).count() == 1 && g.ty(v).dtype.bits() >= 8;
    (alone && dense && g.users(v).into_iter().all(|n| reads(g.node(n)))).then_some(axis)
}

#[cfg(test)]
mod tests {
    use portwright_ir::diag::Diags;
    use portwright_ir::graph::text;
    use portwright_ir::plan::Stmt;

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

    #[test]
    fn caches_that_attention_reads_are_appended_to_in_place() {
        let source = |read: &str| {
            format!(
                r#"graph "decode" symbols P in 0..100
%0: f32[1,2,P,4] = input "past_k"
%1: f32[1,2,P,4] = input "past_v"
%2: f32[1,2,1,4] = input "k"
%3: f32[1,2,1,4] = input "v"
%4: f32[1,4,1,4] = input "q"
%5: f32[1,2,P + 1,4] = concat(%0, %2) {{axis=2}}
%6: f32[1,2,P + 1,4] = concat(%1, %3) {{axis=2}}
%7: f32[1,4,1,4] = attention(%4, %5, %6) {{scale=0.5, causal=false, has_mask=false, has_offset=false, softcap=0.0}}
{read}
output "y" %7
output "present_k" %5
output "present_v" %6
output "also" %8
"#
            )
        };
        let machine = machine();
        let rooms = |read: &str| -> Vec<u32> {
            let graph = text::parse(&source(read)).unwrap();
            let c = pipeline::compile(graph, &machine, &machine, Math::F32, None, &mut Diags::new()).unwrap();
            let room = |s: &Stmt| if let Stmt::Room { output, .. } = s { Some(*output) } else { None };
            c.main.plan.body.iter().filter_map(room).collect()
        };
        assert_eq!(rooms("%8: f32[1,4,1,4] = neg(%7)"), [1, 2]);
        assert_eq!(rooms("%8: f32[1,2,P,4] = neg(%0)"), [2], "what else reads the past needs it dense");
        assert_eq!(rooms("%8: f32[1,2,4,P + 1] = transpose(%6) {perm=[0,1,3,2]}"), [1], "what moves the present reads it dense");
    }
}
