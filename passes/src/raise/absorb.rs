// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Latent attention in absorbed form.
//!
//! Before: keys and values that are products of one latent vector a token with weights, each head its own, beside a part of the key that all
//! heads share: `attention(q, concat(latent Wk, shared), latent Wv)`;
//! after: heads that share one key, the latent itself: `attention(concat(q0 Wk^T, q1), concat(latent, shared), latent) Wv`.
//!
//! A few queries then meet many latents without that every latent is projected up for every head (DeepSeek-V2, arXiv 2405.04434, 2.1.2).
//! Which form takes fewer products depends on sizes; [`pays`] says by which rule it is chosen.

use std::collections::BTreeSet;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Dims, Graph, NodeId, Op, Patch, ValueId};
use portwright_ir::sym::SymExpr;

use crate::canonical::contract::{labels, spec};
use crate::rules::consts::is_static;
use crate::rules::{Edit, Rule, RuleCx, Tap};
use crate::spec::Math;

pub(super) const RULES: &[Rule] = &[Rule {
    name: "absorb-projections",
    doc: "attention(q, concat(latent Wk, shared), latent Wv) -> attention(concat(q Wk^T, q'), concat(latent, shared), latent) Wv, where one step \
          over many latents takes fewer products so",
    roots: &["attention"],
    apply: absorb,
}];

/// Keys for which forms are compared where their number is not known.
const MANY: i64 = 4096;

/// Nodes between attention and a latent at most.
const MOST: usize = 256;

/// What a dim of a value on the way from the latent to the keys counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Role {
    Batch,
    Head,
    Key,
    Depth,
    /// Heads and their depths as one dim.
    HeadDepth,
    /// Sequences and their keys as one dim.
    BatchKey,
    /// A dim of 1.
    One,
    /// What a product sums over.
    Summed,
}

/// A value and what its dims count, of whose depths `from..from + len` are wanted.
#[derive(Clone, Debug)]
struct Seen {
    v: ValueId,
    roles: Vec<Role>,
    from: i64,
    len: i64,
}

/// Neighboring depths of keys or values.
#[derive(Clone, Debug)]
enum Piece {
    /// The same for all heads.
    Shared(Seen),
    /// A latent times weights of each head.
    Up { latent: Seen, weight: Seen },
}

impl Piece {
    fn len(&self) -> i64 {
        match self {
            Piece::Shared(s) | Piece::Up { weight: s, .. } => s.len,
        }
    }
}

/// Follows keys and values back to what they are computed from.
struct Walk<'g> {
    g: &'g Graph,
    heads: i64,
    /// Nodes on the way.
    passed: BTreeSet<NodeId>,
    left: usize,
}

impl Walk<'_> {
    /// The pieces of a value `[b, h, t, d]`, in order of their depths.
    fn pieces(&mut self, v: ValueId) -> Option<Vec<Piece>> {
        let len = self.g.ty(v).dims.last()?.as_const()?;
        self.of(Seen { v, roles: vec![Role::Batch, Role::Head, Role::Key, Role::Depth], from: 0, len })
    }

    fn of(&mut self, s: Seen) -> Option<Vec<Piece>> {
        let g = self.g;
        if !s.roles.iter().any(|r| matches!(r, Role::Head | Role::HeadDepth)) {
            return Some(vec![Piece::Shared(s)]);
        }
        self.left = self.left.checked_sub(1)?;
        let n = g.producer_id(s.v)?;
        self.passed.insert(n);
        let node = g.node(n);
        let (dims, &x) = (&g.ty(s.v).dims, node.operands.first()?);
        let own = &g.ty(x).dims;
        let roles = match &node.op {
            Op::Cast { to, .. } => {
                let from = g.ty(x).dtype;
                (from.is_float() && to.is_float() && from.bits() <= to.bits()).then(|| s.roles.clone())?
            }
            Op::Transpose { perm } => {
                let mut roles = vec![Role::One; perm.len()];
                for (&p, &r) in perm.iter().zip(&s.roles) {
                    *roles.get_mut(p as usize)? = r;
                }
                roles
            }
            Op::Reshape { .. } => self.reshaped(dims, own, &s.roles)?,
            Op::Broadcast { .. } => {
                let less = dims.len().checked_sub(own.len())?;
                s.roles[..less].iter().all(|r| matches!(r, Role::Head | Role::One)).then_some(())?;
                let repeated = |(i, &r): (usize, &Role)| match (own.get(i)? == dims.get(i + less)?, r) {
                    (true, r) => Some(r),
                    (false, Role::Head | Role::One) => Some(Role::One),
                    _ => None,
                };
                s.roles[less..].iter().enumerate().map(repeated).collect::<Option<_>>()?
            }
            Op::Slice { starts, steps, .. } => {
                let mut from = s.from;
                for (i, &r) in s.roles.iter().enumerate() {
                    let (start, step) = (starts.get(i)?, *steps.get(i)?);
                    if r == Role::Depth && step == 1 {
                        from = from.checked_add(start.as_const()?)?;
                    } else if !(start.is(0) && step == 1 && own.get(i) == dims.get(i)) {
                        return None;
                    }
                }
                return self.of(Seen { v: x, from, ..s });
            }
            Op::Concat { axis } => {
                (s.roles.get(*axis as usize) == Some(&Role::Depth)).then_some(())?;
                let (mut at, mut out) = (0i64, Vec::new());
                for &part in &node.operands {
                    let size = g.ty(part).dims.get(*axis as usize)?.as_const()?;
                    let (from, to) = ((s.from - at).max(0), (s.from + s.len - at).min(size));
                    if from < to {
                        out.extend(self.of(Seen { v: part, roles: s.roles.clone(), from, len: to - from })?);
                    }
                    at = at.checked_add(size)?;
                }
                return Some(out);
            }
            Op::Contract { spec, .. } => return self.product(&s, spec, &node.operands),
            _ => return None,
        };
        self.of(Seen { v: x, roles, ..s })
    }

    /// What the dims of a reshape's operand count: dims of 1 come and go, and heads with their depths, or sequences with their keys, are one dim
    /// or two.
    fn reshaped(&self, to: &Dims, from: &Dims, roles: &[Role]) -> Option<Vec<Role>> {
        let depth = |d: &SymExpr| d.as_const().filter(|n| *n > 0);
        let (mut i, mut out) = (0, Vec::new());
        let mut from = from.iter().peekable();
        while let Some(d) = from.next() {
            let here = to.get(i).zip(roles.get(i).copied());
            let next = to.get(i + 1).zip(roles.get(i + 1).copied());
            match (here, next) {
                (Some((t, r)), _) if t == d => {
                    out.push(r);
                    i += 1;
                }
                _ if d.is(1) => out.push(Role::One),
                (Some((t, r)), _) if t.is(1) && r != Role::Depth => {
                    // It is no dim of the operand: look at this one again.
                    i += 1;
                    let rest: Dims = std::iter::once(d).chain(from).cloned().collect();
                    out.extend(self.reshaped(&to[i..].to_vec(), &rest, &roles[i..])?);
                    return Some(out);
                }
                (Some((h, Role::Head)), Some((t, Role::Depth))) if *d == h * t && depth(t).is_some() => {
                    out.push(Role::HeadDepth);
                    i += 2;
                }
                (Some((b, Role::Batch)), Some((t, Role::Key))) if *d == b * t => {
                    out.push(Role::BatchKey);
                    i += 2;
                }
                (Some((t, Role::HeadDepth)), _) if d.is(self.heads) && from.peek().is_some_and(|e| *t == d * *e) => {
                    from.next();
                    out.extend([Role::Head, Role::Depth]);
                    i += 1;
                }
                (Some((t, Role::BatchKey)), _) if from.peek().is_some_and(|e| *t == d * *e) => {
                    from.next();
                    out.extend([Role::Batch, Role::Key]);
                    i += 1;
                }
                _ => return None,
            }
        }
        to.get(i..)?.iter().all(|t| t.is(1)).then_some(out)
    }

    /// A product of a latent with weights.
    fn product(&self, s: &Seen, text: &str, operands: &[ValueId]) -> Option<Vec<Piece>> {
        let [a, b, out] = labels(text)?;
        let &[x, y] = operands else { return None };
        let ((x, own), (w, theirs)) = match (is_static(self.g, x), is_static(self.g, y)) {
            (false, true) => ((x, a), (y, b)),
            (true, false) => ((y, b), (x, a)),
            _ => return None,
        };
        let role = |c: &char| match out.iter().position(|o| o == c) {
            Some(i) => s.roles.get(i).copied(),
            None => Some(Role::Summed),
        };
        let roles = |l: &[char]| l.iter().map(role).collect::<Option<Vec<_>>>();
        let (of_latent, of_weight) = (roles(&own)?, roles(&theirs)?);
        let summed = |r: &[Role]| r.iter().filter(|r| **r == Role::Summed).count() == 1;
        let from_latent = of_latent.iter().all(|r| matches!(r, Role::Batch | Role::Key | Role::BatchKey | Role::One | Role::Summed));
        let from_weight = of_weight.iter().all(|r| matches!(r, Role::Head | Role::Depth | Role::HeadDepth | Role::One | Role::Summed));
        let disjoint = own.iter().filter(|c| theirs.contains(c)).all(|c| !out.contains(c));
        if !(summed(&of_latent) && summed(&of_weight) && from_latent && from_weight && disjoint) {
            return None;
        }
        let latent = Seen { v: x, roles: of_latent, from: 0, len: 0 };
        Some(vec![Piece::Up { latent, weight: Seen { v: w, roles: of_weight, ..*s } }])
    }
}

/// The dims of these roles in that order, as a value of `dims`.
fn arranged(e: &mut Edit<'_>, s: &Seen, order: &[Role], dims: Dims) -> Option<Tap> {
    let mut perm: Vec<u32> = Vec::with_capacity(s.roles.len());
    for r in order.iter().chain(&[Role::One]) {
        perm.extend(s.roles.iter().enumerate().filter(|(_, x)| *x == r).map(|(i, _)| i as u32));
    }
    (perm.len() == s.roles.len()).then_some(())?;
    let t = e.transpose(s.v, perm)?;
    e.reshape(t, dims)
}

/// Sizes of an attention over latents.
struct Sizes {
    queries: SymExpr,
    keys: SymExpr,
    heads: i64,
    /// Of the latent.
    latent: [i64; 2],
    /// Depths of keys that are projected up, that are shared, and of values.
    depths: [i64; 3],
}

/// Whether the absorbed form takes fewer products. Where sizes are not known, it is asked for one step over many keys: if keys are past ones and
/// those of the queries, the queries are as few as they may be, else as many; keys are 4096, or the nearest number that they may be.
fn pays(g: &Graph, s: &Sizes) -> bool {
    let range = |name: &str| g.symbol(name).map_or((0, i64::MAX), |s| (s.lo, s.hi));
    let mut past = BTreeSet::new();
    (s.keys.clone() - s.queries.clone()).collect_symbols(&mut past);
    let mut own = BTreeSet::new();
    s.queries.collect_symbols(&mut own);
    let mut of_keys = BTreeSet::new();
    s.keys.collect_symbols(&mut of_keys);
    let stepwise = !past.is_empty() && own.is_subset(&of_keys) && own.is_disjoint(&past);
    let few = |name: &str| if stepwise { Some(range(name).0.max(1)) } else { Some(range(name).1).filter(|&hi| hi < i64::MAX) };
    let many = |name: &str| {
        let (lo, hi) = range(name);
        Some(MANY.clamp(lo, hi.max(lo)))
    };
    let Some(queries) = s.queries.eval(&few) else { return false };
    let keys = if s.keys == s.queries { queries } else { s.keys.eval(&many).unwrap_or(MANY) };
    let [queries, keys, heads] = [queries, keys, s.heads].map(|n| i128::from(n.max(1)));
    let ([r, rv], [up, shared, values]) = (s.latent.map(i128::from), s.depths.map(i128::from));
    let projected = r * up + rv * values;
    let exported = keys * heads * projected + queries * keys * heads * (up + shared + values);
    let absorbed = queries * heads * projected + queries * keys * heads * (r + shared + rv);
    absorbed < exported
}

fn absorb(g: &Graph, n: NodeId, cx: &RuleCx<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Attention { .. }, &[q, k, v, ref rest @ ..]) = (&node.op, node.operands.as_slice()) else { return None };
    let ([b, h, s, _], [_, hk, t, _]) = (g.ty(q).dims.as_slice(), g.ty(k).dims.as_slice()) else { return None };
    let heads = h.as_const().filter(|&x| x > 1 && hk.is(x) && cx.math != Math::Exact)?;
    let mut walk = Walk { g, heads, passed: BTreeSet::new(), left: MOST };
    let (keys, values) = (walk.pieces(k)?, walk.pieces(v)?);
    let [Piece::Up { latent: value_latent, weight: value_weight }] = values.as_slice() else { return None };
    let mut ups = keys.iter().filter_map(|p| if let Piece::Up { latent, weight } = p { Some((latent, weight)) } else { None });
    let (Some((latent, weight)), None) = (ups.next(), ups.next()) else { return None };
    // What something else needs is computed anyway.
    let within = |m: &NodeId| {
        let all = |&v: &ValueId| !g.is_output(v) && g.users(v).into_iter().all(|u| u == n || walk.passed.contains(&u));
        g.node(*m).results.iter().all(all)
    };
    walk.passed.iter().all(within).then_some(())?;
    let width = |l: &Seen| g.ty(l.v).dims.get(l.roles.iter().position(|r| *r == Role::Summed)?)?.as_const();
    let (r, rv) = (width(latent)?, width(value_latent)?);
    let (up, depth) = (weight.len, value_weight.len);
    let shared = keys.iter().map(Piece::len).sum::<i64>() - up;
    let sizes = Sizes { queries: s.clone(), keys: t.clone(), heads, latent: [r, rv], depths: [up, shared, depth] };
    pays(g, &sizes).then_some(())?;

    let dtype = g.ty(q).dtype;
    let acc = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let mut e = Edit::new(g, "absorb-projections", &walk.passed.iter().copied().chain([n]).collect::<Vec<_>>());
    let latent_of = |e: &mut Edit<'_>, l: &Seen, r: i64| {
        let order = [Role::Batch, Role::BatchKey, Role::Key, Role::Summed];
        let x = arranged(e, l, &order, vec![b.clone(), 1.into(), t.clone(), r.into()])?;
        e.cast(x, dtype)
    };
    let weight_of = |e: &mut Edit<'_>, w: &Seen, r: i64| {
        let size = |role| w.roles.iter().position(|x| *x == role).and_then(|i| g.ty(w.v).dims.get(i)?.as_const());
        let full = match size(Role::HeadDepth) {
            Some(n) => n.checked_div(heads)?,
            None => size(Role::Depth)?,
        };
        let order = [Role::Summed, Role::Head, Role::HeadDepth, Role::Depth];
        let x = arranged(e, w, &order, vec![r.into(), heads.into(), full.into()])?;
        let x = if full == w.len { x } else { e.slice_axis(x, 2, w.from.into(), w.len.into())? };
        e.cast(x, dtype)
    };
    let (mut at, mut queries, mut seen) = (0i64, Vec::new(), Vec::new());
    for p in &keys {
        let own = e.slice_axis(q, 3, at.into(), p.len().into())?;
        at += p.len();
        match p {
            Piece::Up { latent, weight } => {
                let w = weight_of(&mut e, weight, r)?;
                let text = spec(&[vec!['b', 'h', 's', 'd'], vec!['r', 'h', 'd'], vec!['b', 'h', 's', 'r']]);
                queries.push(e.contract(&text, own, w, acc, dtype)?);
                seen.push(latent_of(&mut e, latent, r)?);
            }
            Piece::Shared(x) => {
                queries.push(own);
                let full = x.roles.iter().position(|r| *r == Role::Depth).and_then(|i| g.ty(x.v).dims.get(i).cloned())?;
                let order = [Role::Batch, Role::BatchKey, Role::Key, Role::Depth];
                let y = arranged(&mut e, x, &order, vec![b.clone(), 1.into(), t.clone(), full.clone()])?;
                let y = if full.is(x.len) { y } else { e.slice_axis(y, 3, x.from.into(), x.len.into())? };
                seen.push(e.cast(y, dtype)?);
            }
        }
    }
    let one = |e: &mut Edit<'_>, parts: &[Tap]| if let &[x] = parts { Some(x) } else { e.concat(parts, 3) };
    let mut operands = vec![one(&mut e, &queries)?, one(&mut e, &seen)?, latent_of(&mut e, value_latent, rv)?];
    operands.extend(rest.iter().map(|&v| Tap::Old(v)));
    let y = e.add(node.op.clone(), &operands)?;
    let w = weight_of(&mut e, value_weight, rv)?;
    let text = spec(&[vec!['b', 'h', 's', 'r'], vec!['r', 'h', 'd'], vec!['b', 'h', 's', 'd']]);
    let y = e.contract(&text, y, w, acc, g.ty(g.result(n)).dtype)?;
    e.finish(g.result(n), y)
}
