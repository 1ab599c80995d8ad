// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Uniformity as a computed type of every value, where collectives stand, and whether queues are waited for.

use super::Verifier;
use crate::entity::EntityId;
use crate::kernel::{Access, Block, Class, Cond, ExprId, Id, Level, Op, Operand, Place2, Rhs, ShuffleKind, Space, Stmt, StmtId, VarId};

/// For whom a value is the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Uniform {
    Launch,
    Group,
    Warp,
    Lane,
}

impl Verifier<'_> {
    pub(super) fn flow(&mut self) {
        let mut vars = vec![Uniform::Launch; self.k.vars.len()];
        // Assignments in loops reach reads before them, so this repeats until nothing changes; a level only rises.
        for _ in 0..4 * (self.k.vars.len() + 1) {
            let before = vars.clone();
            self.spread(&self.k.body.clone(), Uniform::Launch, &mut vars);
            if vars == before {
                break;
            }
        }
        self.collectives(&self.k.body.clone(), Uniform::Launch, None, &vars);
        self.at = None;
        self.queues();
    }

    /// A level that is meant for more lanes than there are is as good as a wider one.
    fn cap(&self, u: Uniform) -> Uniform {
        let l = &self.k.launch;
        match u {
            Uniform::Lane if l.group == 1 => Uniform::Group,
            Uniform::Lane if l.warp == 1 => Uniform::Warp,
            Uniform::Warp if l.warp == l.group => Uniform::Group,
            u => u,
        }
    }
    fn of(&self, e: ExprId, vars: &[Uniform]) -> Uniform {
        let x = &self.k.exprs[e];
        let own = match &x.op {
            Op::Id(Id::Group(_)) => Uniform::Group,
            Op::Id(Id::Warp) => Uniform::Warp,
            Op::Id(Id::Lane | Id::WarpLane) => Uniform::Lane,
            Op::Var(v) | Op::At(v) => vars[v.index()],
            _ => Uniform::Launch,
        };
        let all = x.args.iter().map(|a| self.of(*a, vars)).fold(own, Uniform::max);
        self.cap(all)
    }
    fn access_level(&self, a: &Access, vars: &[Uniform]) -> Uniform {
        // Lanes have `local` memory of their own.
        let own = match self.k.bufs[a.buf].space {
            Space::Local => Uniform::Lane,
            Space::Acc | Space::Shared => Uniform::Group,
            Space::Global => Uniform::Launch,
        };
        a.idx.iter().map(|e| self.of(*e, vars)).fold(own, Uniform::max)
    }
    fn cond_level(&self, c: &Cond, vars: &[Uniform]) -> Uniform {
        match c {
            Cond::Always => Uniform::Launch,
            Cond::When(e) | Cond::Mask(e) => self.of(*e, vars),
            Cond::Valid(v) => v.iter().map(|e| self.of(*e, vars)).max().unwrap_or(Uniform::Launch),
        }
    }
    fn rhs_level(&self, r: &Rhs, vars: &[Uniform]) -> Uniform {
        let place = |v: VarId| vars[v.index()];
        let u = match r {
            Rhs::Expr(e) | Rhs::Fill(e) => self.of(*e, vars),
            Rhs::Load { from, cond, other } | Rhs::Gather { from, cond, other } => {
                let o = other.map_or(Uniform::Launch, |e| self.of(e, vars));
                self.access_level(from, vars).max(self.cond_level(cond, vars)).max(o)
            }
            Rhs::FragLoad { .. } | Rhs::Mma { .. } | Rhs::Atomic { .. } => Uniform::Lane,
            Rhs::Shuffle { kind: ShuffleKind::Idx, by, width, .. } if u32::from(*width) == self.k.launch.warp => {
                self.of(*by, vars).max(Uniform::Warp)
            }
            Rhs::Shuffle { v, .. } => {
                self.of(*v, vars).max(if self.of(*v, vars) <= Uniform::Warp { Uniform::Launch } else { Uniform::Lane })
            }
            Rhs::Vote(..) => Uniform::Warp,
            Rhs::Guard { v, lo, hi, .. } => [v, lo, hi].map(|e| self.of(*e, vars)).into_iter().fold(Uniform::Launch, Uniform::max),
            Rhs::Map { body, .. } | Rhs::Scan { body, .. } => self.of(*body, vars),
            Rhs::Reduce { body, .. } => self.of(*body, vars),
            // Lanes hold different elements of a fragment.
            Rhs::Move(p) if matches!(self.k.vars[p.var].ty, crate::kernel::Ty::Frag(..)) => Uniform::Lane,
            Rhs::Move(p) | Rhs::Transpose(p) => place(p.var),
        };
        self.cap(u)
    }

    /// One pass of levels from definitions to uses; what is assigned under a condition is as uneven as the condition.
    fn spread(&self, b: &Block, control: Uniform, vars: &mut Vec<Uniform>) {
        for s in b {
            match &self.k.stmts[*s] {
                Stmt::Def { var, init } => {
                    let u = init.as_ref().map_or(Uniform::Launch, |r| self.rhs_level(r, vars));
                    vars[var.index()] = vars[var.index()].max(u);
                }
                Stmt::Set { place, val } => {
                    let u = self.rhs_level(val, vars).max(self.cap(control));
                    vars[place.var.index()] = vars[place.var.index()].max(u);
                }
                Stmt::For { var, lo, hi, step, body, .. } => {
                    let u = [lo, hi, step].map(|e| self.of(*e, vars)).into_iter().fold(Uniform::Launch, Uniform::max);
                    vars[var.index()] = vars[var.index()].max(u);
                    self.spread(body, control.max(u), vars);
                }
                Stmt::If { cond, then, els } => {
                    let u = control.max(self.of(*cond, vars));
                    self.spread(then, u, vars);
                    self.spread(els, u, vars);
                }
                Stmt::Role { body, .. } => self.spread(body, control, vars),
                Stmt::Each { val, coords, body, .. } => {
                    for v in [val, &coords[0], &coords[1]] {
                        vars[v.index()] = self.cap(Uniform::Lane);
                    }
                    self.spread(body, control, vars);
                }
                _ => {}
            }
        }
    }

    fn stands(&mut self, control: Uniform, most: Uniform, what: &str) {
        let control = self.cap(control);
        self.need(control <= most, || {
            let who = if most == Uniform::Group { "group" } else { "warp" };
            format!("{what} where control is not uniform in the {who}")
        });
    }
    /// Lanes of an atom that is more than a warp must agree like a group.
    fn atom_level(&self, lanes: u16) -> Uniform {
        if u32::from(lanes) > self.k.launch.warp { Uniform::Group } else { Uniform::Warp }
    }

    fn collectives(&mut self, b: &Block, control: Uniform, role: Option<StmtId>, vars: &[Uniform]) {
        for s in b {
            self.at = Some(*s);
            let k = self.k;
            match &k.stmts[*s] {
                Stmt::Def { init: Some(r), .. } | Stmt::Set { val: r, .. } => self.collective_rhs(r, control, vars),
                Stmt::Barrier(l) => match l {
                    Level::Group => {
                        self.need(role.is_none(), || "a barrier of the group inside a role".into());
                        self.stands(control, Uniform::Group, "a barrier of the group");
                    }
                    Level::Role => self.stands(control, Uniform::Group, "a barrier of the role"),
                    Level::Warp => self.stands(control, Uniform::Warp, "a barrier of the warp"),
                },
                Stmt::MmaAsync { atom, a, b, .. } => {
                    let level = self.atom_level(k_lanes(self, *atom));
                    self.stands(control, level, "an asynchronous product");
                    for x in [a, b] {
                        let u = self.cap(x.idx.iter().map(|e| self.of(*e, vars)).fold(Uniform::Launch, Uniform::max));
                        self.need(u <= Uniform::Warp, || "operands that differ in the warp".into());
                    }
                }
                Stmt::MmaFence | Stmt::MmaCommit | Stmt::MmaWait(_) => {
                    self.stands(control, Uniform::Warp, "an order of asynchronous products")
                }
                Stmt::FragStore { to, val, .. } => {
                    let lanes = match k.vars[val.var].ty {
                        crate::kernel::Ty::Frag(a, _) => k_lanes(self, a),
                        _ => 1,
                    };
                    self.frag_access(to, control, lanes, vars);
                }
                Stmt::For { lo, hi, step, body, .. } => {
                    let u = [lo, hi, step].map(|e| self.of(*e, vars)).into_iter().fold(control, Uniform::max);
                    self.collectives(body, u, role, vars);
                }
                Stmt::If { cond, then, els } => {
                    let u = control.max(self.of(*cond, vars));
                    self.collectives(then, u, role, vars);
                    self.collectives(els, u, role, vars);
                }
                Stmt::Role { body, .. } => self.collectives(body, Uniform::Launch, Some(*s), vars),
                Stmt::Each { body, .. } => self.collectives(body, control, role, vars),
                _ => {}
            }
        }
    }
    fn frag_access(&mut self, a: &Access, control: Uniform, lanes: u16, vars: &[Uniform]) {
        if lanes <= 1 {
            return;
        }
        let level = self.atom_level(lanes);
        self.stands(control, level, "the move of a fragment");
        let u = self.cap(a.idx.iter().map(|e| self.of(*e, vars)).fold(Uniform::Launch, Uniform::max));
        self.need(u <= Uniform::Warp, || "a fragment whose block differs in the warp".into());
    }
    fn collective_rhs(&mut self, r: &Rhs, control: Uniform, vars: &[Uniform]) {
        match r {
            Rhs::Shuffle { .. } => self.stands(control, Uniform::Warp, "a shuffle"),
            Rhs::Vote(..) => self.stands(control, Uniform::Warp, "a vote"),
            Rhs::Mma { atom, .. } => {
                let level = self.atom_level(k_lanes(self, *atom));
                if matches!(self.m.atoms[*atom].operand(Operand::C), Place2::PerLane { .. }) {
                    self.stands(control, level, "a product");
                }
            }
            Rhs::FragLoad { from, via, .. } if *via != crate::kernel::Via::Tile => {
                let warp = self.k.launch.warp.min(u32::from(u16::MAX)) as u16;
                self.frag_access(from, control, warp, vars);
            }
            _ => {}
        }
    }

    /// Every queue that has copies has commits and waits, in the stream that copies.
    fn queues(&mut self) {
        let k = self.k;
        let mut streams: Vec<(Option<StmtId>, Vec<StmtId>)> = vec![(None, k.body.clone())];
        let is_role = |s: &StmtId| matches!(k.stmts[*s], Stmt::Role { .. });
        streams[0].1.retain(|s| !is_role(s));
        for s in k.body.iter().filter(|s| is_role(s)) {
            if let Stmt::Role { body, .. } = &k.stmts[*s] {
                streams.push((Some(*s), body.clone()));
            }
        }
        for (at, body) in streams {
            let mut flat = Vec::new();
            self.flatten(&body, &mut flat);
            self.at = at;
            for (q, queue) in k.queues.iter() {
                let name = &queue.name;
                let find = |f: &dyn Fn(&Stmt) -> bool| flat.iter().rposition(|s| f(&k.stmts[*s]));
                let copy = find(&|s| matches!(s, Stmt::CopyAsync { q: x, .. } if *x == q));
                let commit = find(&|s| matches!(s, Stmt::Commit(x) if *x == q));
                let wait = find(&|s| matches!(s, Stmt::Wait(x, _) if *x == q));
                match (copy, commit, wait) {
                    (Some(_), None, _) => self.fault(format!("copies in queue `{name}` are never committed")),
                    (Some(_), _, None) => self.fault(format!("nobody waits for queue `{name}`")),
                    (None, Some(_), _) | (None, _, Some(_)) => {
                        self.fault(format!("queue `{name}` is committed or waited for without copies"))
                    }
                    (Some(c), Some(m), _) if m < c => self.fault(format!("the last copies in queue `{name}` are not committed")),
                    _ => {}
                }
            }
            let products = flat.iter().any(|s| matches!(k.stmts[*s], Stmt::MmaAsync { .. }));
            if products {
                for (found, what) in [
                    (flat.iter().any(|s| matches!(k.stmts[*s], Stmt::MmaCommit)), "`mma.commit`"),
                    (flat.iter().any(|s| matches!(k.stmts[*s], Stmt::MmaWait(_))), "`mma.wait`"),
                ] {
                    self.need(found, || format!("asynchronous products without {what}"));
                }
            }
        }
        self.at = None;
        self.need(k.queues.is_empty() || k.class != Class::Cpu, || "queues on cpu".into());
    }
    fn flatten(&self, b: &Block, out: &mut Vec<StmtId>) {
        for s in b {
            out.push(*s);
            match &self.k.stmts[*s] {
                Stmt::For { body, .. } | Stmt::Each { body, .. } | Stmt::Role { body, .. } => self.flatten(body, out),
                Stmt::If { then, els, .. } => {
                    self.flatten(then, out);
                    self.flatten(els, out);
                }
                _ => {}
            }
        }
    }
}

fn k_lanes(v: &Verifier<'_>, a: crate::kernel::AtomId) -> u16 {
    v.m.atoms[a].lanes
}
