// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a plan needs most memory: the node, and the largest values that are alive then. Errors about an arena name it.

use std::collections::HashMap;
use std::fmt::Write as _;

use portwright_ir::plan::{BufferId, HostPlan, Launch, Stmt, Storage};
use portwright_ir::sym::SymExpr;

/// Size that a symbol is taken to have, where its range allows: which values are large must be said before sizes are known.
const NOMINAL: i64 = 64;

/// Values that are named.
const NAMED: usize = 3;

/// For each epoch what an error about its memory says of it.
pub(crate) fn peaks(plan: &HostPlan, epochs: usize) -> Vec<Option<String>> {
    let mut steps = Vec::new();
    walk(&plan.body, &mut steps);
    (0..epochs).map(|e| peak(plan, &steps, e as u32)).collect()
}

fn walk<'p>(body: &'p [Stmt], steps: &mut Vec<&'p Launch>) {
    for s in body {
        match s {
            Stmt::Launch(launch) => steps.push(launch),
            Stmt::Choose { cases } => steps.extend(cases.first().map(|(_, launch)| launch)),
            Stmt::If { then, els, .. } => {
                walk(then, steps);
                walk(els, steps);
            }
            Stmt::Loop { body, .. } => walk(body, steps),
            _ => {}
        }
    }
}

fn peak(plan: &HostPlan, steps: &[&Launch], epoch: u32) -> Option<String> {
    let nominal = |s: &str| {
        let p = plan.symbols.iter().find(|p| &*p.name == s)?;
        Some(NOMINAL.clamp(p.lo.max(1), p.hi.max(1)))
    };
    let size = |e: &SymExpr| e.eval(&nominal).unwrap_or(0).max(0);
    // What lies at one place is one value, however it is looked at; its life is the longest.
    let mut lives: HashMap<String, (BufferId, usize, usize)> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for &b in &step.buffers {
            let Some(buffer) = plan.buffers.get(b) else { continue };
            let Storage::Arena { epoch: own, offset } = &buffer.storage else { continue };
            if *own == epoch {
                // A place is taken again by another value later on, so name and place together are one.
                let life = lives.entry(format!("{offset} {}", buffer.name)).or_insert((b, i, i));
                life.2 = i;
            }
        }
    }
    let bytes = |b: BufferId| plan.buffers.get(b).map_or(0, |b| size(&b.bytes()));
    let mut change = vec![0i64; steps.len() + 1];
    for &(b, from, to) in lives.values() {
        change[from] = change[from].saturating_add(bytes(b));
        change[to + 1] = change[to + 1].saturating_sub(bytes(b));
    }
    let (mut now, mut most, mut at) = (0i64, i64::MIN, 0);
    for (i, c) in change.iter().take(steps.len()).enumerate() {
        now = now.saturating_add(*c);
        if now > most {
            (most, at) = (now, i);
        }
    }
    let mut list: Vec<BufferId> = lives.values().filter(|(_, from, to)| (*from..=*to).contains(&at)).map(|(b, ..)| *b).collect();
    list.sort_by_key(|&b| (std::cmp::Reverse(bytes(b)), b));
    let node = plan.origins.get(steps.get(at)?.origin)?.paths.join(" + ");
    let mut text = format!("{node} (where");
    for (i, b) in list.iter().take(NAMED).filter_map(|b| plan.buffers.get(*b)).enumerate() {
        let dims: Vec<String> = b.dims.iter().map(SymExpr::to_string).collect();
        let _ = write!(text, "{} `{}` {}[{}]", if i > 0 { "," } else { "" }, b.name, b.dtype, dims.join(","));
    }
    if list.is_empty() {
        return None;
    }
    let more = list.len().saturating_sub(NAMED);
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    Some(text + " are alive)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_with_most_bytes_and_what_lives_there() {
        let text = r#"plan "main"
input "x": f32[N,64]
output "y": f32[N,10]
symbol N in 1..1000
buffer %0 "x": f32[N,64] = input 0
buffer %1 "wide": f32[N,128] = arena 0 at 0
buffer %2 "wider": f32[N,256] = arena 0 at 512*N
buffer %3 "small": f32[N,10] = arena 0 at 0
buffer %4 "y": f32[N,10] = output 0
bind N = dim 0 of input 0
epoch 0 bytes 1536*N
launch a grid(1, 1, 1) (%0, %1) cost 1  // main/a
launch b grid(1, 1, 1) (%1, %2) cost 1  // main/b, main/c
launch c grid(1, 1, 1) (%2, %3) cost 1  // main/d
output 0 [N, 10]
launch d grid(1, 1, 1) (%3, %4) cost 1  // main/e
"#;
        let plan = portwright_ir::plan::parse(text, &|_| Some(0)).unwrap_or_else(|d| panic!("{d:#?}"));
        let want = "main/b + main/c (where `wider` f32[N,256], `wide` f32[N,128] are alive)";
        assert_eq!(peaks(&plan, 1), [Some(want.to_string())]);
        assert_eq!(peaks(&plan, 2)[1], None);
    }
}
