// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Statements to instructions: names become rows, labels become numbers, suffixes become loops.

use std::collections::HashMap;

use super::PtxError;
use super::alu::{self, Kernel, cmp, k};
use super::ast::{Func, Item, Operand, Stmt};
use super::instr::{Class, Code, Instr, LANES, Op, Reloc, Row, SINK, Special, Width};
use super::matrix::Source;
use super::ty::{Space, Ty};

mod asynch;
mod data;
mod matrix;
mod memory;
mod sync;

type R<T> = Result<T, PtxError>;

/// Frames' `.param` variables have addresses from here on; kernel parameters lie below.
pub const FRAME_PARAMS: u64 = 1 << 20;
/// More rows than this are no program.
const MAX_ROWS: u32 = 1 << 20;

/// What a name means.
#[derive(Clone, Debug)]
pub(crate) enum Sym {
    Reg(u32, Width),
    Pred(u32),
    Vector(Vec<u32>, Width),
    /// Number of a module's variable.
    Var(u32),
    Local(u32),
    /// Address in parameter space, and bytes.
    Param(u64, u32),
    Func(u32),
}

/// Names of a module.
pub(crate) type Globals<'a> = HashMap<&'a str, Sym>;

#[derive(Default)]
struct Scope<'a> {
    parent: usize,
    names: HashMap<&'a str, Sym>,
    labels: HashMap<&'a str, u32>,
    targets: HashMap<&'a str, Vec<&'a str>>,
}

struct Dec<'a, 'g> {
    globals: &'g Globals<'a>,
    /// How often each register stands in the body.
    uses: HashMap<&'a str, u32>,
    scopes: Vec<Scope<'a>>,
    scope: usize,
    code: Code,
    known: HashMap<(u64, bool), u32>,
    fixups: Vec<(usize, usize, &'a str, u32)>,
    tables: Vec<(usize, Vec<&'a str>, u32)>,
    line: u32,
    loc: u32,
    guard: u32,
    kernel: bool,
}

/// A function's instructions. `locals` are variables of the function that the module laid out: numbers of variables in order of appearance.
pub(crate) fn decode<'a>(f: &Func<'a>, globals: &Globals<'a>, locals: &mut dyn FnMut(&super::ast::Decl<'a>) -> R<u32>) -> R<Code> {
    let mut d = Dec {
        globals,
        uses: uses(f),
        scopes: vec![Scope::default()],
        scope: 0,
        code: Code { name: f.name.to_owned(), locs: f.locs.clone(), preds: 2, ..Code::default() },
        known: HashMap::new(),
        fixups: Vec::new(),
        tables: Vec::new(),
        line: f.line,
        loc: 0,
        guard: SINK,
        kernel: f.entry,
    };
    d.formals(f)?;
    let Some(body) = &f.body else { return Err(PtxError::new(f.line, format!("{} has no body", f.name))) };
    for item in body {
        match item {
            Item::Enter => {
                d.scopes.push(Scope { parent: d.scope, ..Scope::default() });
                d.scope = d.scopes.len() - 1;
            }
            Item::Leave => d.scope = d.scopes[d.scope].parent,
            Item::Decl(decl) => d.declare(decl, locals)?,
            Item::Label(name, line) => {
                let at = d.code.instrs.len() as u32;
                if d.scopes[d.scope].labels.insert(name, at).is_some() {
                    return Err(PtxError::new(*line, format!("label {name} stands twice")));
                }
            }
            Item::Targets(name, list) => {
                d.scopes[d.scope].targets.insert(name, list.clone());
            }
            Item::Stmt(s) => d.stmt(s).map_err(|e| PtxError { what: format!("{}: {}", text(s), e.what), ..e })?,
        }
    }
    d.scope = 0;
    d.guard = SINK;
    // A body ends as if by `ret`.
    d.emit(Op::Ret, Class::Branch);
    d.finish()
}

/// How often each name stands in the statements of a function.
fn uses<'a>(f: &Func<'a>) -> HashMap<&'a str, u32> {
    fn count<'a>(o: &Operand<'a>, n: &mut HashMap<&'a str, u32>) {
        let mut one = |name| *n.entry(name).or_default() += 1;
        match o {
            Operand::Name(name, _) | Operand::Offset(name, _) | Operand::Not(name) => one(name),
            Operand::Pair(a, b) => [a, b].into_iter().for_each(|name| one(name)),
            Operand::Int(_) | Operand::F32(_) | Operand::F64(_) => {}
            Operand::Vector(list) | Operand::List(list) => list.iter().for_each(|o| count(o, n)),
            Operand::Addr(base, _, rest) => {
                count(base, n);
                rest.iter().for_each(|o| count(o, n));
            }
        }
    }
    let mut n = HashMap::new();
    for item in f.body.iter().flatten() {
        if let Item::Stmt(s) = item {
            s.guard.into_iter().for_each(|(name, _)| *n.entry(name).or_default() += 1);
            s.operands.iter().for_each(|o| count(o, &mut n));
        }
    }
    n
}

/// A statement's instruction, for messages.
fn text(s: &Stmt<'_>) -> String {
    let mut t = s.name.to_owned();
    for x in &s.suffixes {
        t.push('.');
        t.push_str(x);
    }
    t
}

impl<'a> Dec<'a, '_> {
    fn err<T>(&self, what: impl Into<String>) -> R<T> {
        Err(PtxError::new(self.line, what))
    }

    fn formals(&mut self, f: &Func<'a>) -> R<()> {
        let mut at = 0u64;
        for (decls, result) in [(&f.params, false), (&f.returns, true)] {
            for p in decls {
                if p.space.is_none() {
                    return Err(PtxError::new(p.line, "parameters in registers are not known here"));
                }
                at = at.next_multiple_of(p.alignment().max(1));
                let size = p.size();
                if at + size > FRAME_PARAMS {
                    return Err(PtxError::new(p.line, "parameters of more than a MiB"));
                }
                let base = if self.kernel { 0 } else { FRAME_PARAMS };
                self.scopes[0].names.insert(p.name, Sym::Param(base + at, size as u32));
                let place = (at as u32, size as u32);
                if result {
                    self.code.returns.push(place)
                } else {
                    self.code.formals.push(place)
                }
                at += size;
            }
        }
        self.code.params = if self.kernel { 0 } else { at as u32 };
        Ok(())
    }

    fn rows(&mut self, width: Width) -> R<u32> {
        let row = self.code.rows;
        self.code.rows += width.rows();
        if self.code.rows > MAX_ROWS {
            return self.err("too many registers");
        }
        Ok(row)
    }

    fn new_pred(&mut self) -> u32 {
        self.code.preds += 1;
        self.code.preds - 1
    }

    fn declare(&mut self, decl: &super::ast::Decl<'a>, locals: &mut dyn FnMut(&super::ast::Decl<'a>) -> R<u32>) -> R<()> {
        self.line = decl.line;
        let sym = match decl.space {
            None => {
                let width = Width::of(decl.ty);
                if decl.range.is_some() {
                    // `%r<4>` declares %r0 to %r3; names are looked up by base and number.
                    let n = decl.range.unwrap_or(0) as u32;
                    let first = if width == Width::Pred {
                        let first = self.code.preds;
                        self.code.preds += n;
                        first
                    } else {
                        let first = self.code.rows;
                        self.code.rows += n * width.rows();
                        if self.code.rows > MAX_ROWS {
                            return self.err("too many registers");
                        }
                        first
                    };
                    self.scopes[self.scope].names.insert(decl.name, Sym::Vector(vec![first, n], width));
                    return Ok(());
                }
                match (width, decl.vector) {
                    (Width::Pred, 1) => Sym::Pred(self.new_pred()),
                    (Width::Pred, _) => return self.err("a vector of predicates"),
                    (_, 1) => Sym::Reg(self.rows(width)?, width),
                    (_, n) => {
                        let mut list = vec![SINK];
                        for _ in 0..n {
                            list.push(self.rows(width)?);
                        }
                        Sym::Vector(list, width)
                    }
                }
            }
            Some(Space::Local) => {
                let at = u64::from(self.code.local).next_multiple_of(decl.alignment().max(1));
                let end = at + decl.size();
                if end > 1 << 22 {
                    return self.err("more than 4 MiB of local memory");
                }
                self.code.local = end as u32;
                Sym::Local(at as u32)
            }
            Some(Space::Param) => {
                let at = u64::from(self.code.params).next_multiple_of(decl.alignment().max(1));
                let end = at + decl.size();
                if end > FRAME_PARAMS {
                    return self.err("more than a MiB of parameters");
                }
                self.code.params = end as u32;
                Sym::Param(FRAME_PARAMS + at, decl.size() as u32)
            }
            Some(_) => Sym::Var(locals(decl)?),
        };
        self.scopes[self.scope].names.insert(decl.name, sym);
        Ok(())
    }

    fn lookup(&self, name: &str) -> Option<Sym> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let mut at = self.scope;
        loop {
            let names = &self.scopes[at].names;
            if let Some(s) = names.get(name) {
                return Some(s.clone());
            }
            // A name ends in the number of its register; a base may end in digits itself.
            for cut in (name.len() - digits..name.len()).rev() {
                let number = &name[cut..];
                if number.len() > 1 && number.starts_with('0') {
                    continue;
                }
                if let Some(Sym::Vector(v, width)) = names.get(&name[..cut])
                    && let [first, n] = v[..]
                    && first != SINK
                    && let Ok(i) = number.parse::<u32>()
                    && i < n
                {
                    return Some(if *width == Width::Pred { Sym::Pred(first + i) } else { Sym::Reg(first + i * width.rows(), *width) });
                }
            }
            if at == 0 {
                return self.globals.get(name).cloned();
            }
            at = self.scopes[at].parent;
        }
    }

    fn emit(&mut self, op: Op, class: Class) -> &mut Instr {
        let i =
            Instr { op, guard: self.guard, d: SINK, a: 0, b: 0, c: 0, e: 0, imm: 0, line: self.line, loc: self.loc, class, touches: false };
        self.code.instrs.push(i);
        let last = self.code.instrs.len() - 1;
        &mut self.code.instrs[last]
    }

    /// An instruction that no guard stops, for the operands of one that a guard may stop.
    fn helper(&mut self, op: Op) -> &mut Instr {
        let guard = std::mem::replace(&mut self.guard, SINK);
        self.emit(op, Class::Move);
        self.guard = guard;
        let last = self.code.instrs.len() - 1;
        &mut self.code.instrs[last]
    }

    fn constant(&mut self, v: u64, width: Width) -> R<u32> {
        let wide = width == Width::W64;
        let v = if wide { v } else { v & 0xffff_ffff };
        if let Some(row) = self.known.get(&(v, wide)) {
            return Ok(*row);
        }
        let row = self.fresh_constant(v, width)?;
        self.known.insert((v, wide), row);
        Ok(row)
    }

    fn fresh_constant(&mut self, v: u64, width: Width) -> R<u32> {
        let row = self.rows(width)?;
        for (i, r) in splat(v, width == Width::W64).into_iter().enumerate() {
            self.code.consts.push((row + i as u32, r));
        }
        Ok(row)
    }

    fn address_of(&mut self, var: u32, offset: i64, width: Width) -> R<u32> {
        let at = self.code.consts.len() as u32;
        let row = self.fresh_constant(0, width)?;
        self.code.relocs.push(Reloc { at, var, offset, wide: width == Width::W64 });
        Ok(row)
    }

    /// A register to read, of that width; numbers as that type.
    fn src(&mut self, o: &Operand<'a>, width: Width, ty: Ty) -> R<u32> {
        match o {
            Operand::Int(v) => match ty {
                Ty::F32 | Ty::F64 if *v != 0 => self.err("an integer where a floating-point number belongs"),
                _ => self.constant(*v, width),
            },
            Operand::F32(v) => match ty {
                Ty::F64 => self.constant(f64::from(f32::from_bits(*v)).to_bits(), width),
                _ => self.constant(u64::from(*v), width),
            },
            Operand::F64(v) => match ty {
                Ty::F32 => self.constant(u64::from((f64::from_bits(*v) as f32).to_bits()), width),
                _ => self.constant(*v, width),
            },
            Operand::Offset(name, offset) => self.named(name, *offset, width),
            Operand::Name("WARP_SZ", None) => self.constant(LANES as u64, width),
            Operand::Name(name, None) => match self.lookup(name) {
                Some(Sym::Reg(row, w)) if w == width => Ok(row),
                Some(Sym::Reg(_, w)) => self.err(format!("{name} has {} bits where {} belong", bits(w), bits(width))),
                Some(Sym::Pred(_)) => self.err(format!("{name} is a predicate")),
                Some(_) => self.named(name, 0, width),
                None => self.special(name, "", width),
            },
            Operand::Name(name, Some(part)) => match self.lookup(name) {
                Some(Sym::Vector(list, w)) if list.first() == Some(&SINK) => {
                    let at = ["x", "y", "z", "w"].iter().position(|p| p == part).or(["r", "g", "b", "a"].iter().position(|p| p == part));
                    match at.and_then(|i| list.get(i + 1)) {
                        Some(row) if w == width => Ok(*row),
                        _ => self.err(format!("{name}.{part} is no element here")),
                    }
                }
                _ => self.special(name, part, width),
            },
            _ => self.err("an operand of another kind expected"),
        }
    }

    /// The address of a variable, parameter or function.
    fn named(&mut self, name: &str, offset: i64, width: Width) -> R<u32> {
        match self.lookup(name) {
            Some(Sym::Var(var)) => self.address_of(var, offset, width),
            Some(Sym::Param(at, _)) => self.constant(at.wrapping_add(offset as u64), width),
            Some(Sym::Func(f)) => {
                self.code.uses.push(f);
                self.constant(super::ty::FUNC_WINDOW + u64::from(f), width)
            }
            Some(Sym::Local(at)) => {
                let row = self.rows(width)?;
                let wide = width == Width::W64;
                let i = self.helper(Op::Special(Special::Local(at.wrapping_add(offset as u32))));
                (i.d, i.imm) = (row, u64::from(wide));
                Ok(row)
            }
            _ => self.err(format!("{name} is not known")),
        }
    }

    fn special(&mut self, name: &str, part: &str, width: Width) -> R<u32> {
        let Some((which, w)) = special(name, part) else {
            let dot = if part.is_empty() { "" } else { "." };
            return self.err(format!("{name}{dot}{part} is not known"));
        };
        // Some are declared as 64 bits and are read by moves of 32, and the other way.
        let _ = w;
        let row = self.rows(width)?;
        let i = self.helper(Op::Special(which));
        (i.d, i.imm) = (row, u64::from(width == Width::W64));
        Ok(row)
    }

    /// A register to write, of that width; a new one for `_`.
    fn dst(&mut self, o: &Operand<'a>, width: Width) -> R<u32> {
        match o {
            Operand::Name("_", None) => self.rows(width),
            Operand::Name(name, None) => match self.lookup(name) {
                Some(Sym::Reg(row, w)) if w == width => Ok(row),
                Some(Sym::Reg(_, w)) => self.err(format!("{name} has {} bits where {} belong", bits(w), bits(width))),
                _ => self.err(format!("{name} is no register to write here")),
            },
            Operand::Name(name, Some(_)) if matches!(self.lookup(name), Some(Sym::Vector(..))) => self.src(o, width, Ty::B64),
            _ => self.err("a register expected"),
        }
    }

    /// A register of any width, to read or write.
    fn any(&mut self, o: &Operand<'a>) -> R<(u32, Width)> {
        match o {
            Operand::Name(name, None) => match self.lookup(name) {
                Some(Sym::Reg(row, w)) => Ok((row, w)),
                _ => self.err(format!("{name} is no register")),
            },
            Operand::Name(name, Some(_)) => match self.lookup(name) {
                Some(Sym::Vector(_, w)) => Ok((self.src(o, w, Ty::B64)?, w)),
                _ => self.err(format!("{name} is no register")),
            },
            _ => self.err("a register expected"),
        }
    }

    /// A predicate to write; [`SINK`] for `_`.
    fn dst_pred(&mut self, name: &str) -> R<u32> {
        match self.lookup(name) {
            _ if name == "_" => Ok(SINK),
            Some(Sym::Pred(p)) => Ok(p),
            _ => self.err(format!("{name} is no predicate")),
        }
    }

    /// A predicate to read, and whether it is negated.
    fn pred(&mut self, o: &Operand<'a>) -> R<(u32, bool)> {
        match o {
            Operand::Int(v) => Ok((u32::from(*v != 0), false)),
            Operand::Name(name, None) => Ok((self.read_pred(name)?, false)),
            Operand::Not(name) => Ok((self.read_pred(name)?, true)),
            _ => self.err("a predicate expected"),
        }
    }

    fn read_pred(&mut self, name: &str) -> R<u32> {
        match self.lookup(name) {
            Some(Sym::Pred(p)) => Ok(p),
            _ => self.err(format!("{name} is no predicate")),
        }
    }

    /// Base register, its width, offset, and what follows in the brackets.
    fn addr<'o>(&mut self, o: &'o Operand<'a>) -> R<(u32, Width, i64, &'o [Operand<'a>])> {
        let Operand::Addr(base, offset, rest) = o else { return self.err("an address in brackets expected") };
        let (row, width, offset) = match &**base {
            Operand::Int(v) => (self.constant(*v, Width::W64)?, Width::W64, *offset),
            Operand::Name(name, part) => match self.lookup(name) {
                Some(Sym::Reg(row, w)) if w != Width::W128 => (row, w, *offset),
                Some(Sym::Vector(_, w)) if part.is_some() => (self.src(base, w, Ty::B64)?, w, *offset),
                Some(_) => (self.named(name, 0, Width::W64)?, Width::W64, *offset),
                None => return self.err(format!("{name} is not known")),
            },
            _ => return self.err("an address expected"),
        };
        Ok((row, width, offset, rest))
    }

    fn pool(&mut self, list: &[u32]) -> u32 {
        let at = self.code.pool.len() as u32;
        self.code.pool.extend_from_slice(list);
        at
    }

    /// Fails unless there are so many operands.
    fn count(&self, s: &Stmt<'a>, range: std::ops::RangeInclusive<usize>) -> R<()> {
        let n = s.operands.len();
        if range.contains(&n) { Ok(()) } else { self.err(format!("{n} operands")) }
    }

    fn alu(&mut self, s: &Stmt<'a>, kernel: Kernel) -> R<()> {
        let extra = usize::from(kernel.last);
        let n = kernel.s.len() + 1 + extra;
        self.count(s, n..=n)?;
        let mut src = [0u32; 4];
        for (i, w) in kernel.s.iter().enumerate() {
            src[i] = if *w == Width::Pred {
                let (p, negated) = self.pred(&s.operands[i + 1])?;
                if negated {
                    return self.err("a negated predicate does not belong here");
                }
                p
            } else {
                self.src(&s.operands[i + 1], *w, kernel.ty)?
            };
        }
        let mut imm = kernel.imm;
        if kernel.last {
            let Some(Operand::Int(v)) = s.operands.last() else { return self.err("the last operand must be a number") };
            imm = *v;
        }
        let d = match (kernel.d, &s.operands[0]) {
            (Width::Pred, Operand::Name(name, None)) => {
                imm |= u64::from(u32::MAX);
                self.dst_pred(name)?
            }
            (Width::Pred, _) => return self.err("a predicate expected"),
            (w, o) => self.dst(o, w)?,
        };
        let i = self.emit(Op::Alu(kernel.f), kernel.class);
        (i.d, i.a, i.b, i.c, i.e, i.imm) = (d, src[0], src[1], src[2], src[3], imm);
        i.touches = kernel.d != Width::Pred;
        Ok(())
    }

    fn stmt(&mut self, s: &Stmt<'a>) -> R<()> {
        (self.line, self.loc) = (s.line, s.loc);
        self.guard = match s.guard {
            None => SINK,
            Some((name, negated)) => self.read_pred(name)? * 2 + u32::from(negated),
        };
        let sfx = &s.suffixes[..];
        let ty = sfx.iter().rev().find_map(|t| Ty::parse(t));
        match s.name {
            "bra" => {
                self.count(s, 1..=1)?;
                let Operand::Name(label, None) = s.operands[0] else { return self.err("a label expected") };
                let at = self.code.instrs.len();
                self.fixups.push((at, self.scope, label, s.line));
                self.emit(Op::Bra(0), Class::Branch);
            }
            "brx" => {
                self.count(s, 2..=2)?;
                let row = self.src(&s.operands[0], Width::W32, Ty::U32)?;
                let Operand::Name(name, None) = s.operands[1] else { return self.err("a list of targets expected") };
                let mut at = self.scope;
                let list = loop {
                    if let Some(l) = self.scopes[at].targets.get(name) {
                        break l.clone();
                    }
                    if at == 0 {
                        return self.err(format!("{name} is not known"));
                    }
                    at = self.scopes[at].parent;
                };
                self.tables.push((self.scope, list, s.line));
                let table = self.tables.len() as u32 - 1;
                self.emit(Op::BrxIdx(table), Class::Branch).a = row;
            }
            "ret" => {
                self.emit(Op::Ret, Class::Branch);
            }
            "exit" => {
                self.emit(Op::Exit, Class::Branch);
            }
            "trap" => {
                self.emit(Op::Trap, Class::Branch);
            }
            "brkpt" | "pmevent" | "nanosleep" | "griddepcontrol" | "prefetch" | "prefetchu" | "applypriority" | "discard"
            | "setmaxnreg" | "createpolicy" => {
                // Hints, and waits that end at once.
                if s.name == "createpolicy" {
                    self.count(s, 1..=4)?;
                    let d = self.dst(&s.operands[0], Width::W64)?;
                    let zero = self.constant(0, Width::W64)?;
                    let i = self.emit(Op::Alu(k!(u64; u64; |a: u64| a).f), Class::Move);
                    (i.d, i.a) = (d, zero);
                } else {
                    self.emit(Op::Nop, Class::Other);
                }
            }
            "call" => self.call(s)?,
            "mov" => self.mov(s, ty)?,
            "setp" => self.setp(s, ty)?,
            "set" => self.set(s)?,
            "selp" => {
                let Some(kernel) = ty.and_then(|t| cmp::selp(Width::of(t)).map(|k| k.ty(t))) else {
                    return self.err("no such instruction");
                };
                self.alu(s, kernel)?;
            }
            "slct" => {
                let t: Vec<Ty> = sfx.iter().filter_map(|t| Ty::parse(t)).collect();
                let kernel = match t[..] {
                    [d, c] => cmp::slct(d, c),
                    _ => None,
                };
                let Some(kernel) = kernel else { return self.err("no such instruction") };
                self.alu(s, kernel)?;
            }
            "cvt" if sfx.contains(&"pack") => {
                let t: Vec<Ty> = sfx.iter().filter_map(|t| Ty::parse(t)).collect();
                let kernel = match t[..] {
                    [d, from] | [d, from, _] => alu::cvt::pack(d, from, s.operands.len() == 4),
                    _ => None,
                };
                let Some(kernel) = kernel else { return self.err("no such instruction") };
                self.alu(s, kernel)?;
            }
            "cvt" => {
                let Some(kernel) = alu::find(s.name, sfx) else { return self.err("no such conversion") };
                self.cvt(s, kernel)?;
            }
            "min" | "max" if s.operands.len() == 4 => {
                // Three operands: the first two, then the third.
                let Some(kernel) = alu::find(s.name, sfx) else { return self.err("no such instruction") };
                let mut first = s.clone();
                first.operands.truncate(3);
                self.alu(&first, kernel)?;
                let mut second = s.clone();
                second.operands.remove(1);
                second.operands[1] = s.operands[0].clone();
                second.operands.swap(1, 2);
                self.alu(&second, kernel)?;
            }
            _ => {
                if self.memory(s)? || self.sync(s)? || self.matrix(s)? || self.asynch(s)? {
                    return Ok(());
                }
                match alu::find(s.name, sfx) {
                    Some(kernel) => self.alu(s, kernel)?,
                    None => return self.err("no such instruction here"),
                }
            }
        }
        Ok(())
    }

    fn label(&self, mut scope: usize, name: &str, line: u32) -> R<u32> {
        loop {
            if let Some(at) = self.scopes[scope].labels.get(name) {
                return Ok(*at);
            }
            if scope == 0 {
                return Err(PtxError::new(line, format!("label {name} is not known")));
            }
            scope = self.scopes[scope].parent;
        }
    }

    fn finish(mut self) -> R<Code> {
        for (at, scope, name, line) in std::mem::take(&mut self.fixups) {
            self.code.instrs[at].op = Op::Bra(self.label(scope, name, line)?);
        }
        // Results go into registers of 32 bits; what writes one makes a fence necessary.
        let code = &self.code;
        let mut rows: std::collections::HashSet<u32> = std::collections::HashSet::new();
        for x in &code.wgmmas {
            rows.extend(&code.pool[x.pool as usize..x.pool as usize + x.count]);
            if let Source::Regs(at) = x.source {
                rows.extend(&code.pool[at as usize..at as usize + 4]);
            }
        }
        self.code.instrs.iter_mut().for_each(|i| i.touches &= rows.contains(&i.d));
        for (scope, list, line) in std::mem::take(&mut self.tables) {
            let table = list.iter().map(|n| self.label(scope, n, line)).collect::<R<Vec<u32>>>()?;
            self.code.tables.push(table);
        }
        Ok(self.code)
    }
}

fn bits(w: Width) -> u32 {
    match w {
        Width::Pred => 1,
        Width::W32 => 32,
        Width::W64 => 64,
        Width::W128 => 128,
    }
}

/// The rows of a number in all lanes.
pub fn splat(v: u64, wide: bool) -> Vec<Row> {
    if !wide {
        return vec![Row([v as u32; LANES])];
    }
    let half = Row(std::array::from_fn(|l| if l % 2 == 0 { v as u32 } else { (v >> 32) as u32 }));
    vec![half, half]
}

fn special(name: &str, part: &str) -> Option<(Special, Width)> {
    use Special::*;
    let dim = match part {
        "x" => 0,
        "y" => 1,
        "z" => 2,
        _ => 3,
    };
    if dim < 3 {
        return Some((
            match name {
                "%tid" => Tid(dim),
                "%ntid" => Ntid(dim),
                "%ctaid" => Ctaid(dim),
                "%nctaid" => Nctaid(dim),
                "%clusterid" => ClusterId(dim),
                "%nclusterid" => NclusterId(dim),
                "%cluster_ctaid" => ClusterCtaid(dim),
                "%cluster_nctaid" => ClusterNctaid(dim),
                _ => return None,
            },
            Width::W32,
        ));
    }
    if !part.is_empty() {
        return None;
    }
    let narrow = match name {
        "%laneid" => Laneid,
        "%warpid" => Warpid,
        "%nwarpid" => Nwarpid,
        "%lanemask_eq" => LaneEq,
        "%lanemask_le" => LaneLe,
        "%lanemask_lt" => LaneLt,
        "%lanemask_ge" => LaneGe,
        "%lanemask_gt" => LaneGt,
        "%clock" => Clock,
        "%clock_hi" => ClockHi,
        "%smid" => Smid,
        "%nsmid" => Nsmid,
        "%cluster_ctarank" => ClusterCtarank,
        "%cluster_nctarank" => ClusterNctarank,
        "%is_explicit_cluster" => IsExplicitCluster,
        "%dynamic_smem_size" => DynamicSmem,
        "%total_smem_size" | "%aggr_smem_size" => TotalSmem,
        "%globaltimer_lo" | "%globaltimer_hi" | "%reserved_smem_offset_begin" | "%reserved_smem_offset_end" | "%current_graph_exec" => Zero,
        "%clock64" => return Some((Clock64, Width::W64)),
        "%globaltimer" => return Some((Globaltimer, Width::W64)),
        "%gridid" => return Some((Gridid, Width::W64)),
        _ => return None,
    };
    Some((narrow, Width::W32))
}
