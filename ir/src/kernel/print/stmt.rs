// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text of statements.

use super::{Access, BarRef, Block, Cond, KernelPrinter, Place, StmtId, Ty, VarId};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{ExprId, LoopKind, Operand, Rhs, Stmt, VarKind};

impl KernelPrinter<'_> {
    pub(super) fn block(&mut self, b: &Block) {
        for s in b {
            self.stmt(*s);
        }
    }
    fn nested(&mut self, b: &Block) {
        self.depth += 1;
        self.block(b);
        self.depth -= 1;
    }

    fn access(&self, a: &Access) -> String {
        let name = self.k.bufs.get(a.buf).map_or("?", |b| b.name.as_str());
        let part = |(i, e): (usize, &ExprId)| {
            let text = self.cx.top(*e, None);
            match a.len.get(i) {
                Some(1) | None => text,
                Some(n) => format!("{text}:{n}"),
            }
        };
        format!("{name}[{}]", a.idx.iter().enumerate().map(part).collect::<Vec<_>>().join(", "))
    }
    fn place(&self, p: &Place) -> String {
        let name = self.cx.var_name(p.var);
        if p.idx.is_empty() {
            return name.into();
        }
        let part = |(i, e): (usize, &ExprId)| {
            let text = self.cx.top(*e, None);
            match p.len.get(i) {
                Some(n) => format!("{text}:{n}"),
                None => text,
            }
        };
        format!("{name}[{}]", p.idx.iter().enumerate().map(part).collect::<Vec<_>>().join(", "))
    }
    fn bar(&self, b: &BarRef) -> String {
        let name = self.k.bars.get(b.bar).map_or("?", |b| b.name.as_str());
        if b.idx.is_empty() { name.into() } else { format!("{name}[{}]", self.cx.list(&b.idx, None)) }
    }
    fn queue(&self, q: super::super::QueueId) -> &str {
        self.k.queues.get(q).map_or("?", |q| q.name.as_str())
    }
    fn cond(&self, c: &Cond, n: u32) -> String {
        match c {
            Cond::Always => String::new(),
            Cond::When(e) => format!(" when {}", self.cx.top(*e, Some(&Ty::BOOL))),
            Cond::Mask(e) => format!(" mask {}", self.cx.top(*e, Some(&Ty::of(DType::Bool, n)))),
            Cond::Valid(v) => format!(" valid [{}]", self.cx.list(v, None)),
        }
    }
    fn masked(&self, a: &Access, n: u32, c: &Cond, other: Option<ExprId>) -> String {
        let d = self.k.bufs.get(a.buf).map_or(DType::F32, |b| b.dtype);
        let other = match (c, other) {
            (_, Some(o)) => format!(" else {}", self.cx.top(o, Some(&Ty::Scalar(d)))),
            (Cond::Always, None) => String::new(),
            _ => " else undef".into(),
        };
        format!("{}{}{other}", self.access(a), self.cond(c, n))
    }
    /// Number of elements of a gather or scatter: that of its index vectors.
    fn gathered(&self, a: &Access) -> u32 {
        a.idx.iter().filter_map(|i| self.cx.exprs.get(*i)?.ty.lanes()).max().unwrap_or(1).into()
    }
    fn order(&self, ty: Option<&Ty>, order: [u8; 2]) -> String {
        let names = match ty {
            Some(Ty::Frag(_, Operand::A)) => ["m", "k"],
            Some(Ty::Frag(_, Operand::B)) => ["k", "n"],
            _ => ["m", "n"],
        };
        let [x, y] = order.map(|o| names[usize::from(o).min(1)]);
        format!(" as ({x}, {y})")
    }
    fn over(&self, vars: &[VarId], dims: &[u32], body: ExprId, ty: &Ty) -> String {
        let vars: Vec<String> = vars.iter().zip(dims).map(|(v, d)| format!("{}<{d}", self.cx.var_name(*v))).collect();
        let want = ty.elem().map(Ty::Scalar);
        format!("{}: {}", vars.join(", "), self.cx.top(body, want.as_ref()))
    }

    fn rhs(&self, r: &Rhs, ty: &Ty) -> String {
        let cx = &self.cx;
        match r {
            Rhs::Expr(e) => cx.top(*e, Some(ty)),
            Rhs::Load { from, cond, other } => format!("load {}", self.masked(from, from.elems(), cond, *other)),
            Rhs::Gather { from, cond, other } => format!("gather {}", self.masked(from, self.gathered(from), cond, *other)),
            Rhs::FragLoad { from, order, via } => {
                format!("load {}{} via {}", self.access(from), self.order(Some(ty), *order), via.name())
            }
            Rhs::Mma { atom, a, b, c } => {
                let name = self.m.atoms.get(*atom).map_or("?", |a| a.name.as_str());
                format!("mma {name}({}, {}, {})", self.place(a), self.place(b), self.place(c))
            }
            Rhs::Shuffle { kind, v, by, width } => {
                let by = cx.top(*by, Some(&Ty::Scalar(DType::I32)));
                format!("{}({}, {by}) width {width}", kind.name(), cx.top(*v, Some(ty)))
            }
            Rhs::Vote(kind, e) => format!("{}({})", kind.name(), cx.top(*e, Some(&Ty::BOOL))),
            Rhs::Atomic { op, at, v, order, cond } => {
                let v = cx.top(*v, Some(ty));
                format!("{}({}, {v}) {}{}", op.name(), self.access(at), order.name(), self.cond(cond, 1))
            }
            Rhs::Guard { v, lo, hi, code, at } => {
                let [v, lo, hi] = [v, lo, hi].map(|e| cx.top(*e, Some(ty)));
                format!("guard {v} in {lo}..{hi} code {} at {}", code.name(), cx.top(*at, None))
            }
            Rhs::Fill(e) => {
                let d = match ty {
                    Ty::Frag(a, o) => self.m.atoms.get(*a).map(|a| a.dtype(*o)),
                    t => t.elem(),
                };
                format!("fill({})", cx.top(*e, d.map(Ty::Scalar).as_ref()))
            }
            Rhs::Map { vars, dims, body } => format!("map {}", self.over(vars, dims, *body, ty)),
            Rhs::Reduce { op, vars, dims, body } => format!("reduce {} {}", op.name(), self.over(vars, dims, *body, ty)),
            Rhs::Scan { op, vars, dims, body } => format!("scan {} {}", op.name(), self.over(vars, dims, *body, ty)),
            Rhs::Move(p) => format!("move {}", self.place(p)),
            Rhs::Transpose(p) => format!("transpose {}", self.place(p)),
        }
    }

    fn stmt(&mut self, id: StmtId) {
        let k = self.k;
        let Some(s) = k.stmts.get(id) else { return };
        self.lines[id.index()] = self.line;
        let i32_ = Some(Ty::Scalar(DType::I32));
        match s {
            Stmt::Def { var, init } => {
                let Some(v) = k.vars.get(*var) else { return };
                let word = if v.kind == VarKind::Let { "let" } else { "var" };
                let arr: Vec<String> = v.arr.iter().map(u32::to_string).collect();
                let arr = if arr.is_empty() { String::new() } else { format!("[{}]", arr.join(", ")) };
                let init = init.as_ref().map_or(String::new(), |r| format!(" = {}", self.rhs(r, &v.ty)));
                self.put(&format!("{word} {}: {}{arr}{init}", v.name, self.cx.ty(&v.ty)));
            }
            Stmt::Set { place, val } => {
                let ty = k.vars.get(place.var).map_or(Ty::BOOL, |v| v.ty.clone());
                let text = format!("{} = {}", self.place(place), self.rhs(val, &ty));
                self.put(&text);
            }
            Stmt::Store { to, val, cond } => {
                let want = k.bufs.get(to.buf).map(|b| Ty::of(b.dtype, to.elems()));
                let text = self.cx.top(*val, want.as_ref());
                self.put(&format!("store {} = {text}{}", self.access(to), self.cond(cond, to.elems())));
            }
            Stmt::Scatter { to, val, cond } => {
                let n = self.gathered(to);
                let want = k.bufs.get(to.buf).map(|b| Ty::of(b.dtype, n));
                let text = self.cx.top(*val, want.as_ref());
                self.put(&format!("scatter {} = {text}{}", self.access(to), self.cond(cond, n)));
            }
            Stmt::FragStore { to, val, order, via } => {
                let ty = k.vars.get(val.var).map(|v| &v.ty);
                let order = self.order(ty, *order);
                self.put(&format!("store {} = {}{order} via {}", self.access(to), self.place(val), via.name()));
            }
            Stmt::Alloc(b) => self.put(&format!("alloc {}", k.bufs.get(*b).map_or("?", |b| b.name.as_str()))),
            Stmt::For { var, lo, hi, step, kind, body } => {
                let Some(v) = k.vars.get(*var) else { return };
                let note = if v.ty == Ty::Scalar(self.cx.index) { String::new() } else { format!(": {}", self.cx.ty(&v.ty)) };
                let [l, h, st] = [lo, hi, step].map(|e| self.cx.top(*e, Some(&v.ty)));
                let st = if st == "1" { String::new() } else { format!(" step {st}") };
                let range = match kind {
                    LoopKind::Seq => format!("{l}..{h}{st}"),
                    LoopKind::Unroll => format!("{l}..{h}{st} unroll"),
                    LoopKind::List(vs) => {
                        let vs: Vec<String> = vs.iter().map(i64::to_string).collect();
                        format!("{{{}}} unroll", vs.join(", "))
                    }
                };
                self.put(&format!("for {}{note} in {range} {{", v.name));
                self.nested(body);
                self.put("}");
            }
            Stmt::If { cond, then, els } => {
                let c = self.cx.top(*cond, Some(&Ty::BOOL));
                self.put(&format!("if {c} {{"));
                self.nested(then);
                if !els.is_empty() {
                    self.put("} else {");
                    self.nested(els);
                }
                self.put("}");
            }
            Stmt::Role { name, warps, regs, body } => {
                let warps = warps.map_or(String::new(), |(a, b)| format!(" warps {a}..{b}"));
                let regs = regs.map_or(String::new(), |r| format!(" regs {r}"));
                self.put(&format!("role {name}{warps}{regs} {{"));
                self.nested(body);
                self.put("}");
            }
            Stmt::Each { frag, val, coords, body } => {
                let Some(v) = k.vars.get(*val) else { return };
                let [r, c] = coords.map(|c| self.cx.var_name(c).to_string());
                let text = format!("each ({}: {}, {r}, {c}) of {} {{", v.name, self.cx.ty(&v.ty), self.place(frag));
                self.put(&text);
                self.nested(body);
                self.put("}");
            }
            Stmt::CopyAsync { q, dst, src, cond, other } => {
                let src = self.masked(src, src.elems(), cond, *other);
                self.put(&format!("copy.async {} {} <- {src}", self.queue(*q), self.access(dst)));
            }
            Stmt::Commit(q) => self.put(&format!("commit {}", self.queue(*q))),
            Stmt::Wait(q, n) => self.put(&format!("wait {} {n}", self.queue(*q))),
            Stmt::CopyBulk { dst, src, bar } => {
                self.put(&format!("copy.bulk {} <- {} signal {}", self.access(dst), self.access(src), self.bar(bar)));
            }
            Stmt::BarInit(b, e) => self.put(&format!("bar.init {} {}", self.bar(b), self.cx.top(*e, i32_.as_ref()))),
            Stmt::BarExpect(b, e) => self.put(&format!("bar.expect {} {}", self.bar(b), self.cx.top(*e, i32_.as_ref()))),
            Stmt::BarArrive(b) => self.put(&format!("bar.arrive {}", self.bar(b))),
            Stmt::BarWait(b, e) => self.put(&format!("bar.wait {} parity {}", self.bar(b), self.cx.top(*e, i32_.as_ref()))),
            Stmt::Barrier(l) => self.put(&format!("barrier {}", l.name())),
            Stmt::Fence(f) => self.put(&format!("fence {}", f.name())),
            Stmt::MmaAsync { atom, acc, a, b } => {
                let name = self.m.atoms.get(*atom).map_or("?", |a| a.name.as_str());
                self.put(&format!("mma.async {name} {} += {} * {}", self.place(acc), self.access(a), self.access(b)));
            }
            Stmt::MmaFence => self.put("mma.fence"),
            Stmt::MmaCommit => self.put("mma.commit"),
            Stmt::MmaWait(n) => self.put(&format!("mma.wait {n}")),
            Stmt::Prefetch(a) => self.put(&format!("prefetch {}", self.access(a))),
            Stmt::Assume(e) => self.put(&format!("assume {}", self.cx.top(*e, Some(&Ty::BOOL)))),
        }
    }
}
