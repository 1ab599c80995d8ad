// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a model carries from one run to the next: inputs that an output continues, as a cache of keys and values, and what such a cache would
//! take that kept what its entries are computed from.
//!
//! Keys and values of latent attention are products of one small vector a token with weights, beside a key that all heads share:
//! `concat(past, transpose(concat(slice(reshape(contract(latent, weight))), broadcast(shared))))`. Nothing of this depends on names or on an
//! order of nodes; entries that are repeated for many heads are found in the same way.

use std::collections::BTreeSet;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Def, Graph, Op, ValueId};
use portwright_ir::sym::{SymExpr, SymName, product};

use crate::rules::consts::is_static;

/// Nodes that are walked from an entry to what it is computed from.
const MOST: usize = 256;

/// An input that an output continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Position of the input.
    pub input: usize,
    /// Position of the output.
    pub output: usize,
    /// Dtype of its elements.
    pub dtype: DType,
    /// Elements that one step adds for one sequence: every other dim that is not known counts 1.
    pub elems: SymExpr,
    /// How many steps it holds before a run.
    pub length: SymExpr,
}

/// All states of a model, and what they could be kept as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// As the interface has them.
    pub all: Vec<State>,
    /// Elements a step, with their dtypes, of what all entries are computed from by products with weights and by repetition; each once.
    pub sources: Vec<(DType, SymExpr)>,
    /// Elements a step, with their dtypes, of what products with weights make of entries, where that is more: the states are latents of it.
    pub expanded: Vec<(DType, SymExpr)>,
}

impl States {
    /// Bytes that one step adds, as exported.
    pub fn exported(&self) -> u64 {
        self.all.iter().map(|s| bytes(s.dtype, &s.elems)).sum()
    }
    /// Bytes that one step adds to a cache of what the entries are computed from, where that is less.
    pub fn latent(&self) -> Option<u64> {
        let all = self.sources.iter().map(|(d, n)| bytes(*d, n)).sum::<u64>();
        (!self.sources.is_empty() && all < self.exported()).then_some(all)
    }
    /// Bytes that one step would add to a cache of what products make of the states, if these are its latents.
    pub fn expanded(&self) -> Option<u64> {
        (!self.expanded.is_empty()).then(|| self.expanded.iter().map(|(d, n)| bytes(*d, n)).sum())
    }
}

/// Bytes of as many elements, for one sequence.
fn bytes(d: DType, n: &SymExpr) -> u64 {
    n.eval(&|_| Some(1)).and_then(|n| d.bytes_for(u64::try_from(n).ok()?)).unwrap_or(0)
}

/// The states of a graph as it was imported.
pub fn of(g: &Graph) -> States {
    let mut out = States::default();
    let mut sources: BTreeSet<ValueId> = BTreeSet::new();
    for (i, o) in g.outputs().iter().enumerate() {
        let Some((input, axis, added)) = continued(g, o.value) else { continue };
        let dims = &g.ty(o.value).dims;
        let others = dims.iter().enumerate().filter(|(j, _)| *j != axis).map(|(_, d)| d);
        let Some(length) = g.inputs().get(input).and_then(|&v| g.ty(v).dims.get(axis)) else { continue };
        out.all.push(State { input, output: i, dtype: g.ty(o.value).dtype, elems: product(others), length: length.clone() });
        collect(g, added, &mut sources);
        let mut grows = BTreeSet::new();
        length.collect_symbols(&mut grows);
        expand(g, o.value, &grows, &mut out.expanded);
    }
    out.sources = sources.iter().map(|&v| (g.ty(v).dtype, product(&g.ty(v).dims))).collect();
    out
}

/// The input that a value continues, along which dim, and with what.
fn continued(g: &Graph, v: ValueId) -> Option<(usize, usize, ValueId)> {
    let node = g.producer(v)?;
    let (Op::Concat { axis }, &[past, added]) = (&node.op, node.operands.as_slice()) else { return None };
    match g.value(past).def {
        // Along a dim whose size a run tells.
        Def::Input(i) if g.ty(past).dims.get(*axis as usize).is_some_and(|d| d.as_const().is_none()) => {
            Some((i as usize, *axis as usize, added))
        }
        _ => None,
    }
}

/// Adds what a value is computed from by movement, repetition, and products with weights that make more of it.
fn collect(g: &Graph, v: ValueId, out: &mut BTreeSet<ValueId>) {
    let mut work = vec![v];
    let mut seen = BTreeSet::new();
    while let Some(v) = work.pop() {
        if !seen.insert(v) {
            continue;
        }
        let node = g.producer(v).filter(|_| seen.len() <= MOST);
        let of_one = |v: ValueId| product(&g.ty(v).dims).eval(&|_: &str| Some(1)).unwrap_or(0);
        match node.map(|n| (&n.op, n.operands.as_slice())) {
            Some((Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Broadcast { .. } | Op::Cast { .. }, &[x])) => {
                work.push(x)
            }
            Some((Op::Concat { .. }, parts)) => work.extend(parts),
            Some((Op::Contract { .. } | Op::ContractBlocks { .. }, &[x, ref w @ ..]))
                if w.iter().all(|&w| is_static(g, w)) && of_one(x) < of_one(v) =>
            {
                out.insert(x);
            }
            _ => {
                out.insert(v);
            }
        }
    }
}

/// Adds what products with weights make of a state that is moved only, where that is more of it; dims in which `grows` occurs count 1.
fn expand(g: &Graph, state: ValueId, grows: &BTreeSet<SymName>, out: &mut Vec<(DType, SymExpr)>) {
    let a_step = |v: ValueId| {
        let still = |d: &&SymExpr| {
            let mut own = BTreeSet::new();
            d.collect_symbols(&mut own);
            own.is_disjoint(grows)
        };
        product(g.ty(v).dims.iter().filter(still))
    };
    let one = |e: &SymExpr| e.eval(&|_: &str| Some(1)).unwrap_or(0);
    let (mut work, mut seen) = (vec![state], BTreeSet::new());
    while let Some(v) = work.pop() {
        if !seen.insert(v) || seen.len() > MOST {
            continue;
        }
        for n in g.users(v) {
            let node = g.node(n);
            let Some(&y) = node.results.first() else { continue };
            match &node.op {
                Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Cast { .. } => work.push(y),
                Op::Contract { .. }
                    if node.operands.iter().all(|&o| o == v || is_static(g, o)) && one(&a_step(y)) > one(&a_step(state)) =>
                {
                    out.push((g.ty(y).dtype, a_step(y)));
                }
                _ => {}
            }
        }
    }
}

/// Values of a graph's symbols for one step behind `before` others of one sequence: those that say how long a state is, what follows from
/// them, and 1 for all others.
pub fn step(g: &Graph, states: &States, before: i64) -> Vec<(SymName, i64)> {
    let mut known: Vec<(SymName, i64)> = Vec::new();
    let get = |known: &[(SymName, i64)], s: &str| known.iter().find(|(n, _)| &**n == s).map(|(_, v)| *v);
    for s in &states.all {
        if let Some(name) = s.length.as_sym().filter(|n| get(&known, n).is_none()) {
            let most = g.symbol(name).map_or(before, |s| before.clamp(s.lo, s.hi.max(s.lo)));
            known.push((name.clone(), most));
        }
    }
    // A length that is given twice: `mask == past + new`.
    for c in &g.constraints {
        for (one, other) in [(&c.left, &c.right), (&c.right, &c.left)] {
            let mut symbols = BTreeSet::new();
            other.collect_symbols(&mut symbols);
            let (Some(name), true) = (one.as_sym(), symbols.iter().any(|s| get(&known, s).is_some())) else { continue };
            let value = other.eval(&|s| Some(get(&known, s).unwrap_or(1)));
            if let (None, Some(value)) = (get(&known, name), value) {
                known.push((name.clone(), value));
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parse;

    #[test]
    fn a_latent_cache_is_found_behind_keys_and_values() {
        let g = parse(
            "graph \"g\" symbols B in 1..4, P in 0..64, S in 1..8\n%0: f32[B,S,16] = input \"x\"\n%1: f32[B,4,P,10] = input \"k\"\n\
             %2: f32[B,4,P,8] = input \"v\"\n%3: f32[B,S,6] = slice(%0)\n%4: f32[B,S,6] = tanh(%3)\n\
             %5: f32[B,S,64] = contract(%4, weight<f32 6x64 \"up\" seed:1>) {spec=\"bsk,kn->bsn\"}\n%6: f32[B,S,4,16] = reshape(%5)\n\
             %7: f32[B,S,4,8] = slice(%6)\n%8: f32[B,S,4,8] = slice(%6) {starts=[0,0,0,8]}\n%9: f32[B,S,2] = slice(%0) {starts=[0,0,6]}\n\
             %10: f32[B,S,2] = sin(%9)\n%11: f32[B,S,1,2] = reshape(%10)\n%12: f32[B,S,4,2] = broadcast(%11)\n\
             %13: f32[B,S,4,10] = concat(%7, %12) {axis=3}\n%14: f32[B,4,S,10] = transpose(%13) {perm=[0,2,1,3]}\n\
             %15: f32[B,4,S,8] = transpose(%8) {perm=[0,2,1,3]}\n%16: f32[B,4,P+S,10] = concat(%1, %14) {axis=2}\n\
             %17: f32[B,4,P+S,8] = concat(%2, %15) {axis=2}\noutput \"k\" %16\noutput \"v\" %17\n",
            "g",
        );
        let s = of(&g);
        assert_eq!((s.all.len(), s.exported(), s.latent()), (2, 4 * (40 + 32), Some(4 * (6 + 2))));
        assert_eq!(step(&g, &s, 1000), [("P".into(), 64)]);
    }

    #[test]
    fn a_state_that_is_projected_up_is_a_latent() {
        let g = parse(
            "graph \"g\" symbols P in 0..64, S in 1..8\n%0: f32[1,S,6] = input \"x\"\n%1: f32[1,P,6] = input \"latents\"\n\
             %2: f32[1,P+S,6] = concat(%1, %0) {axis=1}\n\
             %3: f32[1,P+S,64] = contract(%2, weight<f32 6x64 \"up\" seed:1>) {spec=\"bsk,kn->bsn\"}\n\
             output \"latents\" %2\noutput \"keys\" %3\n",
            "g",
        );
        let s = of(&g);
        assert_eq!((s.exported(), s.latent(), s.expanded()), (24, None, Some(256)));
    }

    #[test]
    fn keys_of_their_own_are_no_latent_cache() {
        let g = parse(
            "graph \"g\" symbols P in 0..64, S in 1..8\n%0: f32[1,S,16] = input \"x\"\n%1: f32[1,P,8] = input \"k\"\n\
             %2: f32[1,S,8] = contract(%0, weight<f32 16x8 \"w\" seed:1>) {spec=\"bsk,kn->bsn\"}\n\
             %3: f32[1,P+S,8] = concat(%1, %2) {axis=1}\noutput \"k\" %3\n",
            "g",
        );
        let s = of(&g);
        assert_eq!((s.exported(), s.latent()), (32, None));
    }
}
