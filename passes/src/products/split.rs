// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Long sums of few results in parts, so that more groups have work.
//!
//! Before: `contract{"mk,nk->mn"}(a, b)` with 64 x 64 results of 8192 products;
//! after: `reduce{sum}(contract{"mzk,nzk->zmn"}(reshape(a), reshape(b)))`. How many parts there are follows from sizes and the machine, so that
//! each result has one order of additions.

use portwright_ir::graph::{Dims, Graph, NodeId, Op, Patch, ReduceOp, ValueId};
use portwright_ir::sym::SymExpr;

use crate::canonical::contract::{labels, spec as spec_of};
use crate::rules::{Edit, RuleLog, sweep};
use crate::spec::{MachineClass, Math, SimtSpec};

const NAME: &str = "products-in-parts";

/// Summed coordinates of a part, at least.
const PART: i64 = 512;

/// Rows and columns of a tile that is small enough for few results.
const TILE: i64 = 64;

/// Cuts the sums that are long for what the machine has to do at once. Exact sums stay whole.
pub fn in_parts(graph: &mut Graph, machine: &MachineClass, math: Math, log: &mut RuleLog) {
    let MachineClass::Simt(spec) = machine else { return };
    if math != Math::Exact {
        sweep(graph, NAME, log, &|g, n| rewrite(g, n, spec));
    }
}

fn rewrite(g: &Graph, n: NodeId, spec: &SimtSpec) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec: text, acc, out }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
    let dtypes = [g.ty(x).dtype, g.ty(w).dtype, *acc];
    let fragment = spec.fragments.iter().find(|f| f.dtypes == dtypes)?;
    let [a, b, result] = labels(text)?;
    let extent = |v: ValueId, own: &[char], c: char| own.iter().position(|x| *x == c).and_then(|i| g.ty(v).dims.get(i)?.as_const());
    let both: Vec<char> = a.iter().copied().filter(|c| b.contains(c) && !result.contains(c)).collect();
    let &[k] = both.as_slice() else { return None };
    let depth = extent(x, &a, k).filter(|d| extent(w, &b, k) == Some(*d))?;
    // Dims of results, and of which operand each is.
    let (mut rows, mut columns, mut tiles) = (1i64, 1i64, 1i64);
    for &c in &result {
        let size = extent(x, &a, c).or_else(|| extent(w, &b, c))?.clamp(0, 1 << 30);
        match (a.contains(&c), b.contains(&c)) {
            (true, true) => tiles = tiles.saturating_mul(size),
            (true, false) => rows = rows.saturating_mul(size),
            _ => columns = columns.saturating_mul(size),
        }
    }
    if rows < i64::from(fragment.shape[0]) || columns < i64::from(fragment.shape[1]) || tiles == 0 {
        return None;
    }
    let up = |n: i64| (n + TILE - 1) / TILE;
    let tiles = tiles.saturating_mul(up(rows)).saturating_mul(up(columns));
    // Parts are as many as give every processor one group, and no more than leave a sum that is worth its start.
    let processors = i64::from(spec.busy / 8).max(1);
    let mut parts = 1;
    while tiles * parts * 2 <= processors && depth % (parts * 2 * 32) == 0 && depth / (parts * 2) >= PART {
        parts *= 2;
    }
    if parts == 1 {
        return None;
    }
    let z = ('a'..='z').chain('A'..='Z').find(|c| !a.contains(c) && !b.contains(c))?;
    let mut e = Edit::new(g, NAME, &[n]);
    let mut cut = |v: ValueId, own: &[char]| {
        let (mut dims, mut names) = (Dims::new(), Vec::new());
        for (c, d) in own.iter().zip(&g.ty(v).dims) {
            if *c == k {
                names.extend([z, k]);
                dims.extend([SymExpr::from(parts), SymExpr::from(depth / parts)]);
            } else {
                names.push(*c);
                dims.push(d.clone());
            }
        }
        Some((e.reshape(v, dims)?, names))
    };
    let ((x, a), (w, b)) = (cut(x, &a)?, cut(w, &b)?);
    let wide: Vec<char> = std::iter::once(z).chain(result).collect();
    let y = e.contract(&spec_of(&[a, b, wide]), x, w, *acc, *acc)?;
    let y = e.reduce(ReduceOp::Sum, y, vec![0])?;
    let dims = g.ty(g.result(n)).dims.clone();
    let y = e.reshape(y, dims)?;
    let y = e.cast(y, *out)?;
    e.finish(g.result(n), y)
}
