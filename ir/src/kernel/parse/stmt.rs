// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads statements.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::{Parsed, Parser, Pos};
use crate::dtype::DType;
use crate::kernel::{
    Access, AtomicOp, Bar, BarRef, Block, Code, Cond, ExprId, Fence, Level, LoopKind, Operand, Order, Place, Queue, RedOp, Rhs,
    ShuffleKind, Space, Stmt, Ty, VarId, VarKind, Via, VoteKind,
};

impl Parser {
    /// Statements up to the closing brace.
    pub(super) fn block(&mut self) -> Parsed<Block> {
        self.deeper(|p| {
            p.scopes.push(HashMap::new());
            let mut out = Block::new();
            while !p.eat("}") {
                if p.done() {
                    return p.fail("expected a statement or `}`");
                }
                if let Some(s) = p.statement()? {
                    out.push(p.k.stmts.push(s));
                }
            }
            p.scopes.pop();
            Ok(out)
        })
    }
    fn braced(&mut self) -> Parsed<Block> {
        self.need("{")?;
        self.block()
    }

    fn statement(&mut self) -> Parsed<Option<Stmt>> {
        let Some(word) = self.word().map(str::to_owned) else { return self.fail("expected a statement") };
        let pos = self.pos();
        let dotted = self.is_at(1, ".");
        if super::super::reserved(&word) {
            self.at += 1;
        }
        Ok(Some(match word.as_str() {
            "shared" | "local" | "acc" | "queue" | "bar" if !dotted => {
                self.declaration(&word)?;
                return Ok(None);
            }
            "let" | "var" => self.definition(word == "let")?,
            "for" => self.for_()?,
            "if" => {
                let cond = self.expr(Some(&Ty::BOOL))?;
                let then = self.braced()?;
                let els = if self.eat("else") { self.braced()? } else { Block::new() };
                Stmt::If { cond, then, els }
            }
            "role" => {
                let name = self.new_name("role")?;
                let warps = if self.eat("warps") {
                    let a = self.small("a warp")?;
                    self.need("..")?;
                    Some((a, self.small("a warp")?))
                } else {
                    None
                };
                let regs = if self.eat("regs") { Some(self.small("registers")?) } else { None };
                Stmt::Role { name, warps, regs, body: self.braced()? }
            }
            "each" => self.each()?,
            "store" => self.store()?,
            "scatter" => {
                let to = self.access()?;
                self.need("=")?;
                let start = self.at;
                let n = self.gathered(&to);
                let want = Ty::of(self.k.bufs[to.buf].dtype, n);
                self.at = start;
                let val = self.expr(Some(&want))?;
                Stmt::Scatter { to, val, cond: self.cond(n)? }
            }
            "alloc" => Stmt::Alloc(self.buffer_ref()?),
            "copy" => self.copy()?,
            "commit" => Stmt::Commit(self.queue_ref()?),
            "wait" => Stmt::Wait(self.queue_ref()?, self.small("a count")?),
            "barrier" => Stmt::Barrier(self.one_of(Level::from_name, "a level")?),
            "fence" => Stmt::Fence(self.one_of(Fence::from_name, "a fence")?),
            "prefetch" => Stmt::Prefetch(self.access()?),
            "assume" => Stmt::Assume(self.expr(Some(&Ty::BOOL))?),
            "bar" => {
                self.need(".")?;
                let what = self.any_word("`init`, `expect`, `arrive` or `wait`")?;
                let bar = self.bar_ref()?;
                let i32_ = Ty::Scalar(DType::I32);
                match what.as_str() {
                    "init" => Stmt::BarInit(bar, self.expr(Some(&i32_))?),
                    "expect" => Stmt::BarExpect(bar, self.expr(Some(&i32_))?),
                    "arrive" => Stmt::BarArrive(bar),
                    "wait" => {
                        self.need("parity")?;
                        Stmt::BarWait(bar, self.expr(Some(&i32_))?)
                    }
                    _ => return pos.err(format!("no statement `bar.{what}`")),
                }
            }
            "mma" => {
                self.need(".")?;
                match self.any_word("`async`, `fence`, `commit` or `wait`")?.as_str() {
                    "fence" => Stmt::MmaFence,
                    "commit" => Stmt::MmaCommit,
                    "wait" => Stmt::MmaWait(self.small("a count")?),
                    "async" => {
                        let atom = self.atom_ref()?;
                        let acc = self.place()?;
                        self.need("+=")?;
                        let a = self.access()?;
                        self.need("*")?;
                        Stmt::MmaAsync { atom, acc, a, b: self.access()? }
                    }
                    w => return pos.err(format!("no statement `mma.{w}`")),
                }
            }
            w if super::super::reserved(w) => return pos.err(format!("`{w}` begins no statement")),
            _ => {
                let place = self.place()?;
                self.need("=")?;
                let ty = self.k.vars[place.var].ty.clone();
                Stmt::Set { place, val: self.rhs(Some(&ty))?.0 }
            }
        }))
    }

    fn declaration(&mut self, word: &str) -> Parsed<()> {
        if self.scopes.len() != 2 {
            return self.fail(format!("`{word}` stands in the body of the kernel, not in a block"));
        }
        let pos = self.pos();
        let name = self.new_name("declaration")?;
        let taken = self.buf_named(&name).is_some() || self.lookup(&name).is_some() || self.bar_named(&name).is_some();
        if taken || self.k.queues.values().any(|q| q.name == name) || self.k.sym(&name).is_some() {
            return pos.err(format!("`{name}` is defined twice"));
        }
        match word {
            "queue" => {
                self.k.queues.push(Queue { name });
            }
            "bar" => {
                let dims: Vec<u32> = if self.eat("[") { self.small_list("]", "a dim")? } else { vec![] };
                self.k.bars.push(Bar { name, dims: SmallVec::from_vec(dims) });
            }
            _ => {
                self.need(":")?;
                let space = match word {
                    "shared" => Space::Shared,
                    "local" => Space::Local,
                    _ => Space::Acc,
                };
                let b = self.buffer(name, space)?;
                self.k.bufs.push(b);
            }
        }
        Ok(())
    }

    fn definition(&mut self, is_let: bool) -> Parsed<Stmt> {
        let pos = self.pos();
        let name = self.new_name("variable")?;
        let mut ty = None;
        let mut arr = Vec::new();
        if self.eat(":") {
            ty = Some(self.ty()?);
            if self.eat("[") {
                arr = self.small_list("]", "an extent")?;
            }
        }
        let mut init = None;
        if is_let || self.is("=") {
            self.need("=")?;
            let (rhs, found) = self.rhs(ty.as_ref())?;
            init = Some(rhs);
            ty = ty.or(found);
        }
        let Some(ty) = ty else { return pos.err(format!("the type of `{name}` cannot be inferred")) };
        let var = self.define(pos, name, ty, &arr, if is_let { VarKind::Let } else { VarKind::Var })?;
        Ok(Stmt::Def { var, init })
    }

    fn for_(&mut self) -> Parsed<Stmt> {
        let pos = self.pos();
        let name = self.new_name("counter")?;
        let noted = if self.eat(":") { Some(self.ty()?) } else { None };
        self.need("in")?;
        if self.eat("{") {
            let values: Vec<i64> = self.small_list("}", "a value")?;
            self.need("unroll")?;
            let ty = noted.unwrap_or(Ty::Scalar(self.k.class.index()));
            let [lo, hi, step] = [0, 0, 1].map(|v| self.constant(v, &ty));
            return self.loop_body(pos, name, ty, lo, hi, step, LoopKind::List(values));
        }
        let lo = self.ast()?;
        self.need("..")?;
        let hi = self.ast()?;
        let step = if self.eat("step") { Some(self.ast()?) } else { None };
        let kind = if self.eat("unroll") { LoopKind::Unroll } else { LoopKind::Seq };
        let ty = noted.unwrap_or(Ty::Scalar(self.k.class.index()));
        let (lo, hi) = (self.elab(&lo, Some(&ty))?, self.elab(&hi, Some(&ty))?);
        let step = match step {
            Some(s) => self.elab(&s, Some(&ty))?,
            None => self.constant(1, &ty),
        };
        self.loop_body(pos, name, ty, lo, hi, step, kind)
    }
    fn constant(&mut self, v: i128, ty: &Ty) -> ExprId {
        use crate::kernel::{Args, Expr, Lit, Op};
        self.push(Expr { op: Op::Lit(Lit::Int(v)), args: Args::new(), ty: ty.clone() })
    }
    #[allow(clippy::too_many_arguments)]
    fn loop_body(&mut self, pos: Pos, name: String, ty: Ty, lo: ExprId, hi: ExprId, step: ExprId, kind: LoopKind) -> Parsed<Stmt> {
        self.scopes.push(HashMap::new());
        let vk = if kind == LoopKind::Seq { VarKind::Loop } else { VarKind::Unrolled };
        let var = self.define(pos, name, ty, &[], vk)?;
        let body = self.braced()?;
        self.scopes.pop();
        Ok(Stmt::For { var, lo, hi, step, kind, body })
    }

    fn each(&mut self) -> Parsed<Stmt> {
        self.need("(")?;
        let pos = self.pos();
        let name = self.new_name("register")?;
        self.need(":")?;
        let ty = self.ty()?;
        let mut coords = Vec::new();
        for _ in 0..2 {
            self.need(",")?;
            coords.push((self.pos(), self.new_name("coordinate")?));
        }
        self.need(")")?;
        self.need("of")?;
        let frag = self.place()?;
        self.scopes.push(HashMap::new());
        let val = self.define(pos, name, ty, &[], VarKind::Bound)?;
        let index = Ty::Scalar(self.k.class.index());
        let mut ids = [val; 2];
        for (id, (pos, n)) in ids.iter_mut().zip(coords) {
            *id = self.define(pos, n, index.clone(), &[], VarKind::Bound)?;
        }
        let body = self.braced()?;
        self.scopes.pop();
        Ok(Stmt::Each { frag, val, coords: ids, body })
    }

    fn store(&mut self) -> Parsed<Stmt> {
        let to = self.access()?;
        self.need("=")?;
        if let Some(v) = self.word().and_then(|w| self.lookup(w))
            && let Ty::Frag(_, o) = self.k.vars[v].ty
        {
            let val = self.place()?;
            let order = self.order(o)?;
            return Ok(Stmt::FragStore { to, val, order, via: self.via()? });
        }
        let n = to.elems();
        let want = Ty::of(self.k.bufs[to.buf].dtype, n);
        let val = self.expr(Some(&want))?;
        Ok(Stmt::Store { to, val, cond: self.cond(n)? })
    }
    fn copy(&mut self) -> Parsed<Stmt> {
        self.need(".")?;
        let pos = self.pos();
        match self.any_word("`async` or `bulk`")?.as_str() {
            "async" => {
                let q = self.queue_ref()?;
                let dst = self.access()?;
                self.need("<-")?;
                let mut src = self.access()?;
                // The source has the extents of the destination; they are written once where both have one rank.
                if src.elems() == 1 && src.len.len() == dst.len.len() {
                    src.len = dst.len.clone();
                }
                let cond = self.cond(src.elems())?;
                let d = self.k.bufs[src.buf].dtype;
                Ok(Stmt::CopyAsync { q, dst, src, cond, other: self.other(d)? })
            }
            "bulk" => {
                let dst = self.access()?;
                self.need("<-")?;
                let src = self.access()?;
                self.need("signal")?;
                Ok(Stmt::CopyBulk { dst, src, bar: self.bar_ref()? })
            }
            w => pos.err(format!("no statement `copy.{w}`")),
        }
    }

    fn one_of<T>(&mut self, f: impl FnOnce(&str) -> Option<T>, what: &str) -> Parsed<T> {
        let pos = self.pos();
        let w = self.any_word(what)?;
        f(&w).map_or_else(|| pos.err(format!("`{w}` is not {what}")), Ok)
    }
    fn buffer_ref(&mut self) -> Parsed<crate::kernel::BufId> {
        let pos = self.pos();
        let n = self.any_word("a buffer")?;
        self.buf_named(&n).map_or_else(|| pos.err(format!("no buffer `{n}`")), Ok)
    }
    fn bar_ref(&mut self) -> Parsed<BarRef> {
        let pos = self.pos();
        let n = self.any_word("a signal")?;
        let Some(bar) = self.bar_named(&n) else { return pos.err(format!("no signal `{n}`")) };
        let mut idx = SmallVec::new();
        if self.eat("[") {
            while !self.eat("]") {
                if !idx.is_empty() {
                    self.need(",")?;
                }
                idx.push(self.expr(None)?);
            }
        }
        Ok(BarRef { bar, idx })
    }
    /// `A[i, j:16]`
    fn access(&mut self) -> Parsed<Access> {
        let buf = self.buffer_ref()?;
        let mut a = Access { buf, idx: SmallVec::new(), len: SmallVec::new() };
        self.need("[")?;
        while !self.eat("]") {
            if !a.idx.is_empty() {
                self.need(",")?;
            }
            a.idx.push(self.expr(None)?);
            let pos = self.pos();
            let n: u32 = if self.eat(":") { self.small("a length")? } else { 1 };
            if n == 0 || n > 1 << 16 || u64::from(a.elems()) * u64::from(n) > 1 << 24 {
                return pos.err("a length is 1 to 65536");
            }
            a.len.push(n);
        }
        Ok(a)
    }
    fn place(&mut self) -> Parsed<Place> {
        let pos = self.pos();
        let n = self.any_word("a variable")?;
        let Some(var) = self.lookup(&n) else { return pos.err(format!("no variable `{n}`")) };
        let mut p = Place { var, idx: SmallVec::new(), len: SmallVec::new() };
        if !self.eat("[") {
            return Ok(p);
        }
        let mut slice = false;
        while !self.eat("]") {
            if !p.idx.is_empty() {
                self.need(",")?;
            }
            p.idx.push(self.expr(None)?);
            if self.eat(":") {
                slice = true;
                p.len.push(self.small("a length")?);
            } else {
                p.len.push(1);
            }
        }
        if !slice {
            p.len.clear();
        }
        Ok(p)
    }
    fn order(&mut self, o: Operand) -> Parsed<[u8; 2]> {
        if !self.eat("as") {
            return Ok([0, 1]);
        }
        let names = match o {
            Operand::A => ["m", "k"],
            Operand::B => ["k", "n"],
            Operand::C => ["m", "n"],
        };
        self.need("(")?;
        let mut out = [0u8; 2];
        for (i, slot) in out.iter_mut().enumerate() {
            if i > 0 {
                self.need(",")?;
            }
            let pos = self.pos();
            let w = self.any_word("a coordinate")?;
            match names.iter().position(|n| *n == w) {
                Some(p) => *slot = p as u8,
                None => return pos.err(format!("operand {} has coordinates {} and {}", o.name(), names[0], names[1])),
            }
        }
        self.need(")")?;
        Ok(out)
    }
    fn via(&mut self) -> Parsed<Via> {
        self.need("via")?;
        let pos = self.pos();
        let mut w = self.any_word("a way")?;
        if self.eat(".") {
            w = format!("{w}.{}", self.any_word("a way")?);
        }
        Via::from_name(&w).map_or_else(|| pos.err(format!("no way `{w}`")), Ok)
    }
    fn cond(&mut self, n: u32) -> Parsed<Cond> {
        if self.eat("when") {
            return Ok(Cond::When(self.expr(Some(&Ty::BOOL))?));
        }
        if self.eat("mask") {
            return Ok(Cond::Mask(self.expr(Some(&Ty::of(DType::Bool, n)))?));
        }
        if self.eat("valid") {
            self.need("[")?;
            let mut v = SmallVec::new();
            while !self.eat("]") {
                if !v.is_empty() {
                    self.need(",")?;
                }
                v.push(self.expr(None)?);
            }
            return Ok(Cond::Valid(v));
        }
        Ok(Cond::Always)
    }
    fn other(&mut self, d: DType) -> Parsed<Option<ExprId>> {
        if !self.is("else") {
            return Ok(None);
        }
        self.need("else")?;
        if self.eat("undef") {
            return Ok(None);
        }
        self.expr(Some(&Ty::Scalar(d))).map(Some)
    }
    fn gathered(&self, a: &Access) -> u32 {
        a.idx.iter().filter_map(|i| self.k.exprs[*i].ty.lanes()).max().unwrap_or(1).into()
    }
    /// `i<16, j<512:` and the body.
    fn over(&mut self, want: Option<&Ty>) -> Parsed<(Vec<VarId>, Vec<u32>, ExprId)> {
        self.scopes.push(HashMap::new());
        let (mut vars, mut dims) = (Vec::new(), Vec::new());
        let index = Ty::Scalar(self.k.class.index());
        while !self.eat(":") {
            if !vars.is_empty() {
                self.need(",")?;
            }
            let pos = self.pos();
            let n = self.new_name("index")?;
            vars.push(self.define(pos, n, index.clone(), &[], VarKind::Bound)?);
            self.need("<")?;
            dims.push(self.small("an extent")?);
        }
        let elem = want.and_then(Ty::elem).map(Ty::Scalar);
        let body = self.expr(elem.as_ref())?;
        self.scopes.pop();
        Ok((vars, dims, body))
    }

    /// A right side, and its type where it has one without `want`.
    fn rhs(&mut self, want: Option<&Ty>) -> Parsed<(Rhs, Option<Ty>)> {
        let Some(word) = self.word().map(str::to_owned) else { return self.pure(want) };
        let next_dot = self.is_at(1, ".");
        let next_paren = self.is_at(1, "(");
        match word.as_str() {
            "load" => {
                self.at += 1;
                let from = self.access()?;
                if let Some(Ty::Frag(_, o)) = want {
                    let order = self.order(*o)?;
                    return Ok((Rhs::FragLoad { from, order, via: self.via()? }, want.cloned()));
                }
                let d = self.k.bufs[from.buf].dtype;
                let n = from.elems();
                let cond = self.cond(n)?;
                let other = self.other(d)?;
                Ok((Rhs::Load { from, cond, other }, Some(Ty::of(d, n))))
            }
            "gather" => {
                self.at += 1;
                let from = self.access()?;
                let d = self.k.bufs[from.buf].dtype;
                let n = self.gathered(&from);
                let cond = self.cond(n)?;
                let other = self.other(d)?;
                Ok((Rhs::Gather { from, cond, other }, Some(Ty::of(d, n))))
            }
            "mma" => {
                self.at += 1;
                let atom = self.atom_ref()?;
                self.need("(")?;
                let a = self.place()?;
                self.need(",")?;
                let b = self.place()?;
                self.need(",")?;
                let c = self.place()?;
                self.need(")")?;
                let ty = self.k.vars[c.var].ty.clone();
                Ok((Rhs::Mma { atom, a, b, c }, Some(ty)))
            }
            "shuffle" | "vote" | "atomic" if next_dot => {
                let pos = self.pos();
                self.at += 2;
                let full = format!("{word}.{}", self.any_word("a kind")?);
                if let Some(kind) = ShuffleKind::from_name(&full) {
                    self.need("(")?;
                    let v = self.expr(want)?;
                    self.need(",")?;
                    let by = self.expr(Some(&Ty::Scalar(DType::I32)))?;
                    self.need(")")?;
                    self.need("width")?;
                    let width = self.small("a width")?;
                    let ty = self.k.exprs[v].ty.clone();
                    return Ok((Rhs::Shuffle { kind, v, by, width }, Some(ty)));
                }
                if let Some(kind) = VoteKind::from_name(&full) {
                    self.need("(")?;
                    let v = self.expr(Some(&Ty::BOOL))?;
                    self.need(")")?;
                    let ty = if kind == VoteKind::Ballot { None } else { Some(Ty::BOOL) };
                    return Ok((Rhs::Vote(kind, v), ty));
                }
                if let Some(op) = AtomicOp::from_name(&full) {
                    self.need("(")?;
                    let at = self.access()?;
                    self.need(",")?;
                    let ty = Ty::Scalar(self.k.bufs[at.buf].dtype);
                    let v = self.expr(Some(&ty))?;
                    self.need(")")?;
                    let order = self.one_of(Order::from_name, "a memory order")?;
                    let cond = self.cond(1)?;
                    return Ok((Rhs::Atomic { op, at, v, order, cond }, Some(ty)));
                }
                pos.err(format!("no operation `{full}`"))
            }
            "guard" => {
                self.at += 1;
                let v = self.ast()?;
                let v = self.elab(&v, want)?;
                let ty = self.k.exprs[v].ty.clone();
                self.need("in")?;
                let lo = self.expr(Some(&ty))?;
                self.need("..")?;
                let hi = self.expr(Some(&ty))?;
                self.need("code")?;
                let code = self.one_of(Code::from_name, "a code")?;
                self.need("at")?;
                let at = self.expr(None)?;
                Ok((Rhs::Guard { v, lo, hi, code, at }, Some(ty)))
            }
            "fill" if next_paren => {
                self.at += 1;
                self.need("(")?;
                let elem = match want {
                    Some(Ty::Frag(a, o)) => Some(Ty::Scalar(self.module.atoms[*a].dtype(*o))),
                    t => t.and_then(Ty::elem).map(Ty::Scalar),
                };
                let e = self.expr(elem.as_ref())?;
                self.need(")")?;
                Ok((Rhs::Fill(e), None))
            }
            "map" => {
                self.at += 1;
                let (vars, dims, body) = self.over(want)?;
                Ok((Rhs::Map { vars: SmallVec::from_vec(vars), dims: SmallVec::from_vec(dims), body }, None))
            }
            "reduce" | "scan" => {
                self.at += 1;
                let op = self.one_of(RedOp::from_name, "a reduction")?;
                let (vars, dims, body) = self.over(want)?;
                let rhs = if word == "reduce" {
                    Rhs::Reduce { op, vars: SmallVec::from_vec(vars), dims: SmallVec::from_vec(dims), body }
                } else {
                    Rhs::Scan { op, vars: SmallVec::from_vec(vars), dims: SmallVec::from_vec(dims), body }
                };
                Ok((rhs, None))
            }
            "move" | "transpose" => {
                self.at += 1;
                let p = self.place()?;
                Ok((if word == "move" { Rhs::Move(p) } else { Rhs::Transpose(p) }, None))
            }
            _ => self.pure(want),
        }
    }
    fn pure(&mut self, want: Option<&Ty>) -> Parsed<(Rhs, Option<Ty>)> {
        let e = self.expr(want)?;
        let ty = self.k.exprs[e].ty.clone();
        Ok((Rhs::Expr(e), Some(ty)))
    }
}
