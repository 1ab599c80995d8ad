// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rebuilding expressions: every node is visited after its operands and may become several.

use std::collections::{BTreeSet, HashMap};

use portwright_ir::entity::{EntityId, PrimaryMap};
use portwright_ir::kernel::{Access, BarRef, Cond, Expr, ExprId, FnId, Module, Op, Place, Rhs, Stmt};

/// Expressions of a kernel or function, while they are rebuilt.
pub(super) type Arena = PrimaryMap<ExprId, Expr>;

/// Rebuilds every arena of a module. `f` gets a node whose operands are rebuilt and returns what stands for it.
pub(super) fn rebuild(module: &mut Module, f: &mut dyn FnMut(&mut Arena, Expr) -> ExprId) {
    for def in module.fns.values_mut() {
        let map = arena(&mut def.exprs, f);
        let to = |e: &mut ExprId| *e = map[e.index()];
        def.lets.iter_mut().for_each(|l| to(&mut l.1));
        to(&mut def.result);
    }
    for k in module.kernels.values_mut() {
        let map = arena(&mut k.exprs, f);
        for s in k.stmts.values_mut() {
            stmt(s, &mut |e| *e = map[e.index()]);
        }
    }
}

fn arena(old: &mut Arena, f: &mut dyn FnMut(&mut Arena, Expr) -> ExprId) -> Vec<ExprId> {
    let mut new = Arena::new();
    let mut map: Vec<ExprId> = Vec::with_capacity(old.len());
    for mut e in std::mem::take(old).values().cloned() {
        // Operands precede the node.
        e.args.iter_mut().for_each(|a| *a = map[a.index()]);
        let id = f(&mut new, e);
        map.push(id);
    }
    *old = new;
    map
}

/// Whether any node of a module satisfies `f`.
pub(super) fn any(module: &Module, f: &dyn Fn(&Arena, &Expr) -> bool) -> bool {
    module.fns.values().map(|d| &d.exprs).chain(module.kernels.values().map(|k| &k.exprs)).any(|a| a.values().any(|e| f(a, e)))
}

/// Brings functions of a library into a module, before its own, and returns their ids by name in the library.
pub(super) fn import(module: &mut Module, library: &Module, wanted: &BTreeSet<String>) -> HashMap<String, FnId> {
    let mut need: BTreeSet<usize> = BTreeSet::new();
    let mut todo: Vec<usize> = wanted.iter().filter_map(|n| library.fn_named(n)).map(EntityId::index).collect();
    while let Some(i) = todo.pop() {
        if need.insert(i) {
            let calls =
                library.fns[FnId::new(i)].exprs.values().filter_map(|e| if let Op::Call(f) = e.op { Some(f.index()) } else { None });
            todo.extend(calls);
        }
    }
    let place: HashMap<usize, usize> = need.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let shift = need.len();
    let mut fns = PrimaryMap::new();
    let mut ids = HashMap::new();
    for old in &need {
        let mut def = library.fns[FnId::new(*old)].clone();
        calls(&mut def.exprs, &|f| FnId::new(place.get(&f.index()).copied().unwrap_or(0)));
        let name = def.name.clone();
        while module.fn_named(&def.name).is_some() {
            def.name.push_str("_m");
        }
        ids.insert(name, fns.push(def));
    }
    for mut def in std::mem::take(&mut module.fns).values().cloned() {
        calls(&mut def.exprs, &|f| FnId::new(f.index() + shift));
        fns.push(def);
    }
    module.fns = fns;
    for k in module.kernels.values_mut() {
        calls(&mut k.exprs, &|f| FnId::new(f.index() + shift));
    }
    ids
}

fn calls(arena: &mut Arena, f: &dyn Fn(FnId) -> FnId) {
    for e in arena.values_mut() {
        if let Op::Call(g) = &mut e.op {
            *g = f(*g);
        }
    }
}

type Visit<'v> = &'v mut dyn FnMut(&mut ExprId);

fn access(a: &mut Access, f: Visit<'_>) {
    a.idx.iter_mut().for_each(f);
}
fn cond(c: &mut Cond, f: Visit<'_>) {
    match c {
        Cond::Always => {}
        Cond::When(e) | Cond::Mask(e) => f(e),
        Cond::Valid(v) => v.iter_mut().for_each(f),
    }
}
fn place(p: &mut Place, f: Visit<'_>) {
    p.idx.iter_mut().for_each(f);
}
fn bar(b: &mut BarRef, f: Visit<'_>) {
    b.idx.iter_mut().for_each(f);
}

fn rhs(r: &mut Rhs, f: Visit<'_>) {
    match r {
        Rhs::Expr(e) | Rhs::Fill(e) | Rhs::Vote(_, e) => f(e),
        Rhs::Load { from, cond: c, other } | Rhs::Gather { from, cond: c, other } => {
            access(from, f);
            cond(c, f);
            other.iter_mut().for_each(f);
        }
        Rhs::FragLoad { from, .. } => access(from, f),
        Rhs::Mma { a, b, c, .. } => [a, b, c].into_iter().for_each(|p| place(p, f)),
        Rhs::Shuffle { v, by, .. } => {
            f(v);
            f(by);
        }
        Rhs::Atomic { at, v, cond: c, .. } => {
            access(at, f);
            f(v);
            cond(c, f);
        }
        Rhs::Guard { v, lo, hi, at, .. } => [v, lo, hi, at].into_iter().for_each(f),
        Rhs::Map { body, .. } | Rhs::Reduce { body, .. } | Rhs::Scan { body, .. } => f(body),
        Rhs::Move(p) | Rhs::Transpose(p) => place(p, f),
    }
}

/// Visits the root of every expression of a statement; nested blocks are statements of their own.
pub(super) fn stmt(s: &mut Stmt, f: Visit<'_>) {
    match s {
        Stmt::Def { init, .. } => {
            if let Some(r) = init {
                rhs(r, f);
            }
        }
        Stmt::Set { place: p, val } => {
            place(p, f);
            rhs(val, f);
        }
        Stmt::Store { to, val, cond: c } | Stmt::Scatter { to, val, cond: c } => {
            access(to, f);
            f(val);
            cond(c, f);
        }
        Stmt::FragStore { to, val, .. } => {
            access(to, f);
            place(val, f);
        }
        Stmt::For { lo, hi, step, .. } => [lo, hi, step].into_iter().for_each(f),
        Stmt::If { cond, .. } => f(cond),
        Stmt::Each { frag, .. } => place(frag, f),
        Stmt::CopyAsync { dst, src, cond: c, other, .. } => {
            access(dst, f);
            access(src, f);
            cond(c, f);
            other.iter_mut().for_each(f);
        }
        Stmt::CopyBulk { dst, src, bar: b } => {
            access(dst, f);
            access(src, f);
            bar(b, f);
        }
        Stmt::BarInit(b, e) | Stmt::BarExpect(b, e) | Stmt::BarWait(b, e) => {
            bar(b, f);
            f(e);
        }
        Stmt::BarArrive(b) => bar(b, f),
        Stmt::MmaAsync { acc, a, b, .. } => {
            place(acc, f);
            access(a, f);
            access(b, f);
        }
        Stmt::Prefetch(a) => access(a, f),
        Stmt::Assume(e) => f(e),
        Stmt::Alloc(_) | Stmt::Role { .. } | Stmt::Commit(_) | Stmt::Wait(..) | Stmt::Barrier(_) | Stmt::Fence(_) => {}
        Stmt::MmaFence | Stmt::MmaCommit | Stmt::MmaWait(_) => {}
    }
}
