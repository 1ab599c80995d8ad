// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the text of kernels. Every error has a line and a column; no text makes the parser panic.

use std::collections::HashMap;
use std::fmt;

use smallvec::SmallVec;

use super::{
    Atom, AtomId, BarId, BufId, Buffer, Class, Digit, Digits, ElemFn, Expr, ExprId, FnId, Home, Kernel, Layout, Mode, Module, Operand,
    Param, Place2, QueueId, Space, Swizzle, Sym, Ty, Var, VarId, VarKind,
};
use crate::dtype::DType;
use crate::entity::PrimaryMap;
use crate::sym::SymExpr;

mod ast;
mod elab;
mod lex;
mod stmt;

use ast::Ast;
use lex::{Tok, Token};

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// A sentence.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

pub(super) type Parsed<T> = Result<T, ParseError>;

/// Position of a token: line and column, from 1.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pos(pub u32, pub u32);

impl Pos {
    fn err<T>(self, message: impl Into<String>) -> Parsed<T> {
        Err(ParseError { line: self.0, column: self.1, message: message.into() })
    }
}

/// Blocks, parentheses and calls may nest that deep.
const MAX_DEPTH: u32 = 96;

/// Reads atoms, functions and kernels.
///
/// # Errors
/// The first thing that is no Kernel IR, with its position.
pub fn parse_module(text: &str) -> Result<Module, ParseError> {
    let mut p = Parser {
        toks: lex::lex(text)?,
        at: 0,
        depth: 0,
        elab_depth: 0,
        module: Module::new(),
        k: Kernel::new("", Class::Cpu),
        scopes: vec![HashMap::new()],
        in_fn: false,
    };
    while !p.done() {
        match p.word() {
            Some("atom") => p.atom()?,
            Some("fn") => p.function()?,
            Some("kernel") => p.kernel()?,
            _ => return p.fail("expected `kernel`, `fn` or `atom`"),
        }
    }
    Ok(p.module)
}

struct Parser {
    toks: Vec<Token>,
    at: usize,
    depth: u32,
    elab_depth: u32,
    module: Module,
    /// The kernel that is read; a function uses its variables and expressions.
    k: Kernel,
    scopes: Vec<HashMap<String, VarId>>,
    in_fn: bool,
}

impl Parser {
    fn done(&self) -> bool {
        self.at >= self.toks.len()
    }
    fn pos(&self) -> Pos {
        let last = || self.toks.last().map_or(Pos(1, 1), |t| Pos(t.pos.0, t.pos.1 + 1));
        self.toks.get(self.at).map_or_else(last, |t| t.pos)
    }
    fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let seen = match self.toks.get(self.at).map(|t| &t.tok) {
            Some(t) => format!(", not {}", t.show()),
            None => ", not the end of the text".into(),
        };
        self.pos().err(message.into() + &seen)
    }
    fn peek(&self, ahead: usize) -> Option<&Tok> {
        self.toks.get(self.at + ahead).map(|t| &t.tok)
    }
    /// The word at the cursor.
    fn word(&self) -> Option<&str> {
        match self.peek(0) {
            Some(Tok::Word(w)) => Some(w),
            _ => None,
        }
    }
    fn is(&self, p: &str) -> bool {
        self.is_at(0, p)
    }
    fn is_at(&self, ahead: usize, p: &str) -> bool {
        match self.peek(ahead) {
            Some(Tok::Punct(q)) => *q == p,
            Some(Tok::Word(w)) => w == p,
            _ => false,
        }
    }
    fn eat(&mut self, p: &str) -> bool {
        let hit = self.is(p);
        self.at += usize::from(hit);
        hit
    }
    fn need(&mut self, p: &str) -> Parsed<()> {
        if self.eat(p) { Ok(()) } else { self.fail(format!("expected `{p}`")) }
    }
    /// A name that is defined here.
    fn new_name(&mut self, what: &str) -> Parsed<String> {
        match self.peek(0) {
            Some(Tok::Word(w)) if !super::reserved(w) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            Some(Tok::Word(w)) => {
                let m = format!("`{w}` is a reserved word, no name of a {what}");
                self.pos().err(m)
            }
            _ => self.fail(format!("expected the name of a {what}")),
        }
    }
    fn any_word(&mut self, what: &str) -> Parsed<String> {
        match self.peek(0) {
            Some(Tok::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            _ => self.fail(format!("expected {what}")),
        }
    }
    fn sym_name(&mut self) -> Parsed<String> {
        if let Some(Tok::Quoted(q)) = self.peek(0) {
            let q = q.clone();
            self.at += 1;
            return Ok(q);
        }
        self.new_name("symbol")
    }
    /// An integer constant: `7`, `-7`, `2^30`, `2^31-1`.
    fn int(&mut self) -> Parsed<i64> {
        let pos = self.pos();
        let neg = self.eat("-");
        let mut v = self.digits()?;
        if self.eat("^") {
            let e = self.digits()?;
            let pow = u32::try_from(e).ok().and_then(|e| v.checked_pow(e));
            v = match pow {
                Some(v) => v,
                None => return pos.err("a number that leaves 64 bits"),
            };
            if self.is("-") && matches!(self.peek(1), Some(Tok::Num(_))) {
                self.at += 1;
                v -= self.digits()?.min(v);
            }
        }
        Ok(if neg { -v } else { v })
    }
    fn digits(&mut self) -> Parsed<i64> {
        match self.peek(0) {
            Some(Tok::Num(n)) => match n.parse() {
                Ok(v) => {
                    self.at += 1;
                    Ok(v)
                }
                Err(_) => self.fail("expected an integer of 64 bits"),
            },
            _ => self.fail("expected an integer"),
        }
    }
    fn small<T: TryFrom<i64>>(&mut self, what: &str) -> Parsed<T> {
        let pos = self.pos();
        let v = self.int()?;
        T::try_from(v).or_else(|_| pos.err(format!("{v} is out of range for {what}")))
    }
    fn small_list<T: TryFrom<i64>>(&mut self, close: &str, what: &str) -> Parsed<Vec<T>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            if !out.is_empty() {
                self.need(",")?;
            }
            out.push(self.small(what)?);
        }
        Ok(out)
    }
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.depth += 1;
        let r = f(self);
        self.depth -= 1;
        r
    }

    fn dtype(&mut self) -> Parsed<DType> {
        match self.word().and_then(DType::from_name) {
            Some(d) if !matches!(d, DType::Str | DType::List | DType::C64 | DType::C128) => {
                self.at += 1;
                Ok(d)
            }
            _ => self.fail("expected an element type"),
        }
    }
    /// The scalar, vector or mask type that a word spells.
    fn type_word(w: &str) -> Option<Ty> {
        if let Some(d) = DType::from_name(w) {
            return (!matches!(d, DType::Str | DType::List | DType::C64 | DType::C128)).then_some(Ty::Scalar(d));
        }
        if let Some(n) = w.strip_prefix("mask") {
            return n.parse().ok().filter(|n| *n > 0).map(Ty::mask);
        }
        let (d, n) = w.rsplit_once('x')?;
        let d = DType::from_name(d).filter(|d| !matches!(d, DType::Str | DType::List | DType::C64 | DType::C128))?;
        n.parse().ok().filter(|n: &u16| *n > 0).map(|n| Ty::Vec(d, n))
    }
    fn ty(&mut self) -> Parsed<Ty> {
        if self.eat("frag") {
            self.need("<")?;
            let atom = self.atom_ref()?;
            self.need(".")?;
            let o = match self.any_word("an operand")?.as_str() {
                "a" => Operand::A,
                "b" => Operand::B,
                "c" => Operand::C,
                _ => return self.fail("expected operand a, b or c before this"),
            };
            self.need(">")?;
            return Ok(Ty::Frag(atom, o));
        }
        if self.eat("tile") {
            let dtype = self.dtype()?;
            self.need("[")?;
            let dims: Vec<u32> = self.small_list("]", "a dim")?;
            self.need("@")?;
            let pos = self.pos();
            let Some(home) = Home::from_name(&self.any_word("a home")?) else { return pos.err("no home of that name") };
            return Ok(Ty::Tile { dtype, dims: SmallVec::from_vec(dims), home });
        }
        match self.word().and_then(Self::type_word) {
            Some(t) => {
                self.at += 1;
                Ok(t)
            }
            None => self.fail("expected a type"),
        }
    }
    fn atom_ref(&mut self) -> Parsed<AtomId> {
        let pos = self.pos();
        let n = self.any_word("an atom")?;
        self.module.atom_named(&n).map_or_else(|| pos.err(format!("no atom `{n}`")), Ok)
    }

    fn atom(&mut self) -> Parsed<()> {
        self.need("atom")?;
        let pos = self.pos();
        let name = self.any_word("a name")?;
        if self.module.atom_named(&name).is_some() {
            return pos.err(format!("atom `{name}` is defined twice"));
        }
        if self.eat("swap") {
            let of = self.atom_ref()?;
            let a = self.module.atoms[of].swapped(name);
            self.module.atoms.push(a);
            return Ok(());
        }
        let mut shape = [0u16; 3];
        for (s, letter) in shape.iter_mut().zip(["m", "n", "k"]) {
            let pos = self.pos();
            let w = self.any_word("an extent")?;
            match w.strip_prefix(letter).and_then(|n| n.parse().ok()) {
                Some(v) => *s = v,
                None => return pos.err(format!("expected `{letter}` and a number")),
            }
        }
        let dtypes = [self.dtype()?, self.dtype()?, self.dtype()?];
        self.need("lanes")?;
        let lanes = self.small("lanes")?;
        let mut operands = Vec::new();
        for o in ["a", "b", "c"] {
            self.need(o)?;
            operands.push(self.operand()?);
        }
        let Ok(operands) = <[Place2; 3]>::try_from(operands) else { return self.fail("expected three operands") };
        self.module.atoms.push(Atom { name, shape, dtypes, lanes, operands });
        Ok(())
    }
    fn operand(&mut self) -> Parsed<Place2> {
        match self.any_word("an operand")?.as_str() {
            "tile" => Ok(Place2::Tile),
            "desc" => {
                self.need("(")?;
                let swizzle = self.swizzle()?;
                self.need(")")?;
                Ok(Place2::Desc { swizzle })
            }
            "rows" => {
                self.need("(")?;
                let rows = self.small("rows")?;
                self.need(",")?;
                let row_bytes = self.small("bytes of a row")?;
                self.need(",")?;
                let pack = self.small("a pack")?;
                self.need(")")?;
                Ok(Place2::TileReg { rows, row_bytes, pack })
            }
            "lane" => {
                let lane = self.digit_list()?;
                self.need("reg")?;
                Ok(Place2::PerLane { lane, reg: self.digit_list()? })
            }
            _ => self.fail("expected `lane`, `desc`, `rows` or `tile` before this"),
        }
    }
    fn digit_list(&mut self) -> Parsed<Digits> {
        self.need("[")?;
        let mut out = Digits::new();
        while !self.eat("]") {
            let dim = match self.any_word("a coordinate")?.as_str() {
                "m" => 0,
                "n" => 1,
                "k" => 2,
                _ => return self.fail("expected coordinate m, n or k before this"),
            };
            self.need(".")?;
            let stride = self.small("a stride")?;
            self.need(":")?;
            out.push(Digit { dim, stride, extent: self.small("an extent")? });
        }
        Ok(out)
    }
    fn swizzle(&mut self) -> Parsed<Swizzle> {
        let pos = self.pos();
        let w = self.any_word("a swizzle")?;
        Swizzle::from_name(&w).map_or_else(|| pos.err(format!("no swizzle `{w}`")), Ok)
    }

    fn function(&mut self) -> Parsed<()> {
        self.need("fn")?;
        let pos = self.pos();
        let name = self.new_name("function")?;
        if self.module.fn_named(&name).is_some() {
            return pos.err(format!("function `{name}` is defined twice"));
        }
        self.k = Kernel::new("", Class::Cpu);
        self.scopes = vec![HashMap::new()];
        self.in_fn = true;
        self.need("(")?;
        let mut params = Vec::new();
        while !self.eat(")") {
            if !params.is_empty() {
                self.need(",")?;
            }
            let pos = self.pos();
            let n = self.new_name("parameter")?;
            self.need(":")?;
            let ty = Ty::Scalar(self.dtype()?);
            params.push(self.define(pos, n, ty, &[], VarKind::Param)?);
        }
        self.need("->")?;
        let ret = self.dtype()?;
        self.need("{")?;
        let mut lets = Vec::new();
        while self.eat("let") {
            let pos = self.pos();
            let n = self.new_name("temporary")?;
            let ty = if self.eat(":") { Some(self.ty()?) } else { None };
            self.need("=")?;
            let e = self.expr(ty.as_ref())?;
            let ty = self.k.exprs[e].ty.clone();
            lets.push((self.define(pos, n, ty, &[], VarKind::Let)?, e));
        }
        self.need("ret")?;
        let result = self.expr(Some(&Ty::Scalar(ret)))?;
        self.need("}")?;
        self.in_fn = false;
        let k = std::mem::replace(&mut self.k, Kernel::new("", Class::Cpu));
        self.module.fns.push(ElemFn { name, params, ret, vars: k.vars, exprs: k.exprs, lets, result });
        Ok(())
    }

    /// Enters a variable into the open scope.
    fn define(&mut self, pos: Pos, name: String, ty: Ty, arr: &[u32], kind: VarKind) -> Parsed<VarId> {
        if self.scopes.iter().any(|s| s.contains_key(&name)) || self.buf_named(&name).is_some() || self.k.sym(&name).is_some() {
            return pos.err(format!("`{name}` is in scope already"));
        }
        let id = self.k.vars.push(Var { name: name.clone(), ty, arr: SmallVec::from_slice(arr), kind });
        if let Some(s) = self.scopes.last_mut() {
            s.insert(name, id);
        }
        Ok(id)
    }
    fn lookup(&self, name: &str) -> Option<VarId> {
        self.scopes.iter().rev().find_map(|s| s.get(name).copied())
    }
    fn buf_named(&self, name: &str) -> Option<BufId> {
        self.k.bufs.iter().find(|(_, b)| b.name == name).map(|(id, _)| id)
    }
    fn queue_ref(&mut self) -> Parsed<QueueId> {
        let pos = self.pos();
        let n = self.any_word("a queue")?;
        let found = self.k.queues.iter().find(|(_, q)| q.name == n).map(|(id, _)| id);
        found.map_or_else(|| pos.err(format!("no queue `{n}`")), Ok)
    }
    fn bar_named(&self, n: &str) -> Option<BarId> {
        self.k.bars.iter().find(|(_, b)| b.name == n).map(|(id, _)| id)
    }

    fn kernel(&mut self) -> Parsed<()> {
        self.need("kernel")?;
        let pos = self.pos();
        let name = self.any_word("a name")?;
        if self.module.kernel_named(&name).is_some() {
            return pos.err(format!("kernel `{name}` is defined twice"));
        }
        self.need("class")?;
        let class = match self.any_word("a class")?.as_str() {
            "cpu" => Class::Cpu,
            "simt" => Class::Simt,
            "tile_core" => Class::TileCore,
            _ => return self.fail("expected class cpu, simt or tile_core before this"),
        };
        self.k = Kernel::new(name, class);
        self.scopes = vec![HashMap::new()];
        while !self.eat("{") {
            match self.word() {
                Some("origin") => {
                    self.at += 1;
                    let Some(Tok::Str(s)) = self.peek(0).cloned() else { return self.fail("expected a path in quotes") };
                    self.at += 1;
                    self.k.origin.push(s);
                }
                Some("sym") => self.syms()?,
                Some("param") => self.param()?,
                Some("launch") => self.launch()?,
                _ => return self.fail("expected `sym`, `param`, `launch`, `origin` or `{`"),
            }
        }
        self.k.body = self.block()?;
        let k = std::mem::replace(&mut self.k, Kernel::new("", Class::Cpu));
        self.module.kernels.push(k);
        Ok(())
    }
    /// `sym M, N: 1..2^20 div 4`
    fn syms(&mut self) -> Parsed<()> {
        self.need("sym")?;
        loop {
            let mut names = vec![(self.pos(), self.sym_name()?)];
            while self.eat(",") {
                names.push((self.pos(), self.sym_name()?));
            }
            self.need(":")?;
            let lo = self.int()?;
            self.need("..")?;
            let hi = self.int()?;
            let div = if self.eat("div") { self.int()? } else { 1 };
            for (pos, name) in names {
                if self.k.sym(&name).is_some() {
                    return pos.err(format!("symbol `{name}` is defined twice"));
                }
                self.k.syms.push(Sym { name, lo, hi, div });
            }
            if !self.eat(",") {
                return Ok(());
            }
        }
    }
    /// `param x, y: ro f32[M, N] align 16`
    fn param(&mut self) -> Parsed<()> {
        self.need("param")?;
        let mut names = vec![(self.pos(), self.new_name("parameter")?)];
        while self.eat(",") {
            names.push((self.pos(), self.new_name("parameter")?));
        }
        self.need(":")?;
        let start = self.at;
        for (pos, name) in names {
            self.at = start;
            if self.buf_named(&name).is_some() || self.lookup(&name).is_some() || self.k.sym(&name).is_some() {
                return pos.err(format!("`{name}` is defined twice"));
            }
            let mode = match self.word() {
                Some("status") => {
                    self.at += 1;
                    self.k.params.push(Param::Status(name));
                    continue;
                }
                Some("ro") => Some(Mode::Ro),
                Some("wo") => Some(Mode::Wo),
                Some("rw") => Some(Mode::Rw),
                Some("tmap") => None,
                _ => {
                    let ty = Ty::Scalar(self.dtype()?);
                    let v = self.define(pos, name, ty, &[], VarKind::Param)?;
                    self.k.params.push(Param::Scalar(v));
                    continue;
                }
            };
            self.at += 1;
            let mut b = self.buffer(name, Space::Global)?;
            b.mode = mode.unwrap_or(Mode::Rw);
            let buf = self.k.bufs.push(b);
            if mode.is_some() {
                self.k.params.push(Param::Buf(buf));
                continue;
            }
            self.need("box")?;
            self.need("[")?;
            let box_: Vec<u32> = self.small_list("]", "an extent")?;
            let swizzle = self.swizzle()?;
            self.k.params.push(Param::TensorMap { buf, box_: SmallVec::from_vec(box_), swizzle });
        }
        Ok(())
    }
    fn launch(&mut self) -> Parsed<()> {
        self.need("launch")?;
        self.need("grid")?;
        self.need("(")?;
        for i in 0..3 {
            if i > 0 && !self.eat(",") {
                break;
            }
            self.k.launch.grid[i] = self.sym_expr()?;
        }
        self.need(")")?;
        if self.eat("group") {
            self.need("(")?;
            self.k.launch.group = self.small("lanes")?;
            self.need(")")?;
            self.k.launch.warp = self.k.launch.group;
        }
        if self.eat("warp") {
            self.k.launch.warp = self.small("lanes")?;
        }
        self.k.launch.steps = self.eat("steps");
        Ok(())
    }
    fn sym_expr(&mut self) -> Parsed<SymExpr> {
        let a = self.ast()?;
        self.to_sym(&a)
    }
    fn sym_list(&mut self) -> Parsed<Vec<SymExpr>> {
        self.need("[")?;
        let mut out = Vec::new();
        while !self.eat("]") {
            if !out.is_empty() {
                self.need(",")?;
            }
            out.push(self.sym_expr()?);
        }
        Ok(out)
    }
    /// `f32[M, N] strides [..] align 16 pad 8`
    fn buffer(&mut self, name: String, space: Space) -> Parsed<Buffer> {
        let dtype = self.dtype()?;
        let dims = self.sym_list()?;
        let mut b = Buffer {
            name,
            dtype,
            strides: Vec::new(),
            dims,
            space,
            mode: Mode::Rw,
            align: dtype.bytes().unwrap_or(1).min(16),
            layout: Layout::Plain,
            alias: None,
        };
        let mut strides = None;
        loop {
            if self.eat("strides") {
                strides = Some(self.sym_list()?);
            } else if self.eat("align") {
                b.align = self.small("an alignment")?;
            } else if self.eat("pad") {
                b.layout = Layout::Pad(self.small("a padding")?);
            } else if self.eat("xor") {
                self.need("(")?;
                self.need("unit")?;
                let unit = self.small("a unit")?;
                self.need(",")?;
                self.need("shift")?;
                let shift = self.small("a shift")?;
                self.need(",")?;
                self.need("mask")?;
                b.layout = Layout::Xor { unit, shift, mask: self.small("a mask")? };
                self.need(")")?;
            } else if self.eat("hw") {
                self.need("(")?;
                b.layout = Layout::Hw(self.swizzle()?);
                self.need(")")?;
            } else if self.eat("alias") {
                let pos = self.pos();
                let n = self.any_word("a buffer")?;
                let Some(base) = self.buf_named(&n) else { return pos.err(format!("no buffer `{n}`")) };
                self.need("at")?;
                b.alias = Some((base, self.small("a byte")?));
            } else {
                break;
            }
        }
        b.strides = strides.unwrap_or_else(|| Buffer::row_major(&b.dims, b.layout));
        Ok(b)
    }

    /// An expression where the context asks for `want`.
    fn expr(&mut self, want: Option<&Ty>) -> Parsed<ExprId> {
        let a: Ast = self.ast()?;
        self.elab(&a, want)
    }
    fn push(&mut self, e: Expr) -> ExprId {
        self.k.exprs.push(e)
    }
    fn fns(&self) -> &PrimaryMap<FnId, ElemFn> {
        &self.module.fns
    }
}
