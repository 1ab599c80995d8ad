// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PTX text to declarations and statements.

use super::PtxError;
use super::ast::{Ast, Decl, Directives, Func, Init, Item, Operand, Stmt};
use super::lex::{Tok, lex};
use super::ty::{Space, Ty};

type R<T> = Result<T, PtxError>;

/// Scopes and vectors nest at most this deep.
const DEPTH: u32 = 64;

struct Parser<'a> {
    toks: Vec<(Tok<'a>, u32)>,
    at: usize,
}

pub(crate) fn parse(text: &str) -> R<Ast<'_>> {
    let mut p = Parser { toks: lex(text)?, at: 0 };
    let mut ast = Ast::default();
    while let Some(tok) = p.peek() {
        p.top(tok, &mut ast)?;
    }
    Ok(ast)
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Tok<'a>> {
        self.toks.get(self.at).map(|t| t.0)
    }

    fn peek2(&self) -> Option<Tok<'a>> {
        self.toks.get(self.at + 1).map(|t| t.0)
    }

    fn line(&self) -> u32 {
        self.toks.get(self.at).or(self.toks.last()).map_or(1, |t| t.1)
    }

    fn err<T>(&self, what: impl Into<String>) -> R<T> {
        Err(PtxError::new(self.line(), what))
    }

    fn next(&mut self) -> R<Tok<'a>> {
        let tok = self.peek();
        self.at += 1;
        tok.ok_or_else(|| PtxError::new(self.line(), "the text ends in the middle"))
    }

    fn is(&self, c: u8) -> bool {
        self.peek() == Some(Tok::Punct(c))
    }

    fn eat(&mut self, c: u8) -> bool {
        let yes = self.is(c);
        self.at += usize::from(yes);
        yes
    }

    fn expect(&mut self, c: u8) -> R<()> {
        if self.eat(c) { Ok(()) } else { self.err(format!("'{}' expected, found {}", c as char, self.found())) }
    }

    fn found(&self) -> String {
        match self.peek() {
            None => "the end".into(),
            Some(Tok::Name(n)) => format!("'{n}'"),
            Some(Tok::Dot(n)) => format!("'.{n}'"),
            Some(Tok::Punct(c)) => format!("'{}'", c as char),
            Some(_) => "a literal".into(),
        }
    }

    fn name(&mut self) -> R<&'a str> {
        match self.peek() {
            Some(Tok::Name(n)) => {
                self.at += 1;
                Ok(n)
            }
            _ => self.err(format!("a name expected, found {}", self.found())),
        }
    }

    fn int(&mut self) -> R<u64> {
        match self.next()? {
            Tok::Int(v) => Ok(v),
            _ => {
                self.at -= 1;
                self.err(format!("an integer expected, found {}", self.found()))
            }
        }
    }

    fn small(&mut self) -> R<u32> {
        let v = self.int()?;
        u32::try_from(v).or_else(|_| self.err(format!("{v} is too large here")))
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.toks.get(self.at).is_some_and(|t| t.1 == line) {
            self.at += 1;
        }
    }

    fn top(&mut self, tok: Tok<'a>, ast: &mut Ast<'a>) -> R<()> {
        match tok {
            Tok::Dot("version") => {
                self.at += 1;
                ast.version = match self.next()? {
                    Tok::F64(v) => {
                        let tenths = (f64::from_bits(v) * 10.0).round() as u64;
                        (tenths / 10, tenths % 10)
                    }
                    Tok::Int(v) => (v, 0),
                    _ => return self.err("a version expected"),
                };
            }
            Tok::Dot("target") => {
                self.at += 1;
                ast.target = self.name()?;
                while self.eat(b',') {
                    self.name()?;
                }
            }
            Tok::Dot("address_size") => {
                self.at += 1;
                if self.int()? != 64 {
                    return self.err("only .address_size 64 is known");
                }
            }
            Tok::Dot("file") => {
                self.at += 1;
                let index = self.int()?;
                if let Tok::Str(name) = self.next()? {
                    ast.files.push((index, name));
                }
                while self.eat(b',') {
                    self.int()?;
                }
            }
            Tok::Dot("section") => {
                while !self.is(b'{') {
                    self.next()?;
                }
                while !self.is(b'}') {
                    self.next()?;
                }
                self.at += 1;
            }
            Tok::Dot("loc") => self.skip_line(),
            Tok::Dot("pragma" | "alias") => {
                while !self.is(b';') {
                    self.next()?;
                }
            }
            Tok::Punct(b';') => self.at += 1,
            Tok::Dot(_) => {
                let mut external = false;
                while let Some(Tok::Dot("visible" | "extern" | "weak" | "common")) = self.peek() {
                    external |= self.peek() == Some(Tok::Dot("extern"));
                    self.at += 1;
                }
                match self.peek() {
                    Some(Tok::Dot("entry")) => ast.funcs.push(self.func(true)?),
                    Some(Tok::Dot("func")) => ast.funcs.push(self.func(false)?),
                    _ => {
                        self.decl(external, &mut ast.vars)?;
                        self.expect(b';')?;
                    }
                }
            }
            _ => return self.err(format!("a directive expected, found {}", self.found())),
        }
        Ok(())
    }

    fn params(&mut self) -> R<Vec<Decl<'a>>> {
        let mut out = Vec::new();
        if self.eat(b'(') && !self.eat(b')') {
            loop {
                // A list of prototypes may name its parameters `_`.
                self.one_decl(false, &mut out)?;
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b')')?;
        }
        Ok(out)
    }

    fn func(&mut self, entry: bool) -> R<Func<'a>> {
        let line = self.line();
        self.at += 1;
        while let Some(Tok::Dot("attribute")) = self.peek() {
            self.attribute()?;
        }
        let returns = if !entry && self.is(b'(') { self.params()? } else { Vec::new() };
        let name = self.name()?;
        let params = self.params()?;
        let mut directives = Directives::default();
        while let Some(Tok::Dot(d)) = self.peek() {
            self.at += 1;
            match d {
                "maxntid" | "reqntid" | "reqnctapercluster" => {
                    let mut v = [1u32; 3];
                    v[0] = self.small()?;
                    for x in &mut v[1..] {
                        if self.eat(b',') {
                            *x = self.small()?;
                        }
                    }
                    match d {
                        "maxntid" => directives.maxntid = Some(v),
                        "reqntid" => directives.reqntid = Some(v),
                        _ => directives.cluster = Some(v),
                    }
                }
                "minnctapersm" | "maxnctapersm" | "maxnreg" | "maxclusterrank" | "abi_preserve" | "abi_preserve_control" => {
                    self.int()?;
                }
                "noreturn" | "explicitcluster" | "blocksareclusters" => {}
                "pragma" => {
                    self.next()?;
                    while self.eat(b',') {
                        self.next()?;
                    }
                    self.eat(b';');
                }
                _ => return self.err(format!("directive .{d} is not known here")),
            }
        }
        let (mut body, mut locs) = (None, Vec::new());
        if self.eat(b'{') {
            body = Some(self.body(&mut locs)?);
        } else {
            self.eat(b';');
        }
        Ok(Func { line, name, entry, returns, params, body, locs, directives })
    }

    fn attribute(&mut self) -> R<()> {
        self.at += 1;
        self.expect(b'(')?;
        while !self.eat(b')') {
            self.next()?;
        }
        Ok(())
    }

    /// One declaration, with all the names that it lists.
    fn decl(&mut self, external: bool, out: &mut Vec<Decl<'a>>) -> R<()> {
        self.one_decl(external, out)?;
        while self.eat(b',') {
            let Some(last) = out.last() else { break };
            let mut next = Decl { range: None, count: None, init: Vec::new(), ..last.clone() };
            self.declarator(&mut next)?;
            out.push(next);
        }
        Ok(())
    }

    fn one_decl(&mut self, external: bool, out: &mut Vec<Decl<'a>>) -> R<()> {
        let line = self.line();
        let (mut space, mut align, mut ty, mut vector, mut register) = (None, 0, None, 1, false);
        loop {
            match self.peek() {
                Some(Tok::Dot("align")) => {
                    self.at += 1;
                    align = self.int()?;
                    if !align.is_power_of_two() || align > 1 << 20 {
                        return self.err(format!("alignment {align} is none"));
                    }
                }
                Some(Tok::Dot("reg")) => {
                    self.at += 1;
                    register = true;
                }
                Some(Tok::Dot("ptr")) => {
                    // What a parameter points to, and how it is aligned, says nothing about the parameter itself.
                    self.at += 1;
                    if let Some(Tok::Dot(s)) = self.peek()
                        && Space::parse(s).is_some()
                    {
                        self.at += 1;
                    }
                    if self.peek() == Some(Tok::Dot("align")) {
                        self.at += 1;
                        self.int()?;
                    }
                }
                Some(Tok::Dot("attribute")) => self.attribute()?,
                Some(Tok::Dot("v2")) => {
                    self.at += 1;
                    vector = 2;
                }
                Some(Tok::Dot("v4")) => {
                    self.at += 1;
                    vector = 4;
                }
                Some(Tok::Dot("v8")) => {
                    self.at += 1;
                    vector = 8;
                }
                Some(Tok::Dot(d)) => {
                    if let Some(s) = Space::parse(d) {
                        space = Some(s);
                    } else if let Some(t) = Ty::parse(d) {
                        ty = Some(t);
                    } else {
                        return self.err(format!("directive .{d} is not known here"));
                    }
                    self.at += 1;
                }
                _ => break,
            }
        }
        let Some(ty) = ty else { return self.err("a declaration without a type") };
        if space.is_none() && !register {
            return self.err("a declaration without a state space");
        }
        let mut decl = Decl { line, space, external, align, ty, vector, name: "", range: None, count: None, init: Vec::new() };
        self.declarator(&mut decl)?;
        out.push(decl);
        Ok(())
    }

    fn declarator(&mut self, decl: &mut Decl<'a>) -> R<()> {
        decl.name = self.name()?;
        if self.eat(b'<') {
            let n = self.int()?;
            if n > 1 << 20 {
                return self.err(format!("{n} registers are too many"));
            }
            decl.range = Some(n);
            self.expect(b'>')?;
        }
        while self.eat(b'[') {
            let n = if self.is(b']') { 0 } else { self.int()? };
            let total = decl.count.unwrap_or(1).checked_mul(n).filter(|n| *n <= 1 << 32);
            decl.count = Some(total.ok_or_else(|| PtxError::new(self.line(), "an array that is too large"))?);
            self.expect(b']')?;
        }
        if self.eat(b'=') {
            self.init(&mut decl.init, 0)?;
            // The size of `a[] = {..}` is that of its initializer.
            if decl.count == Some(0) {
                decl.count = Some(decl.init.len() as u64);
            }
        }
        Ok(())
    }

    fn init(&mut self, out: &mut Vec<Init<'a>>, depth: u32) -> R<()> {
        if depth > DEPTH {
            return self.err("braces nest too deep");
        }
        if self.eat(b'{') {
            while !self.eat(b'}') {
                self.init(out, depth + 1)?;
                if !self.eat(b',') && !self.is(b'}') {
                    return self.err(format!("',' or '}}' expected, found {}", self.found()));
                }
            }
            return Ok(());
        }
        let negative = self.eat(b'-');
        let value = match self.next()? {
            // A byte of an address: 0xFF00(symbol).
            Tok::Int(mask) if self.is(b'(') => {
                self.at += 1;
                let mut inner = Vec::new();
                self.init(&mut inner, depth + 1)?;
                self.expect(b')')?;
                match inner.first() {
                    Some(Init::Symbol(name, offset, _, generic)) => Init::Symbol(name, *offset, mask.trailing_zeros() & 63, *generic),
                    _ => return self.err("a mask of what is no address"),
                }
            }
            Tok::Int(v) => Init::Int(if negative { v.wrapping_neg() } else { v }),
            Tok::F32(v) => Init::F32(if negative { v ^ 1 << 31 } else { v }),
            Tok::F64(v) => Init::F64(if negative { v ^ 1 << 63 } else { v }),
            Tok::Name("generic") if self.is(b'(') => {
                self.at += 1;
                let name = self.name()?;
                self.expect(b')')?;
                Init::Symbol(name, self.offset()?, 0, true)
            }
            Tok::Name(name) => Init::Symbol(name, self.offset()?, 0, false),
            _ => return self.err("an initializer expected"),
        };
        out.push(value);
        Ok(())
    }

    /// `+4`, `-4`, `+-4`, or nothing.
    fn offset(&mut self) -> R<i64> {
        let negative = match (self.eat(b'+'), self.eat(b'-')) {
            (false, false) => return Ok(0),
            (_, negative) => negative,
        };
        let v = self.int()? as i64;
        Ok(if negative { v.wrapping_neg() } else { v })
    }

    fn body(&mut self, locs: &mut Vec<(u32, u32)>) -> R<Vec<Item<'a>>> {
        let mut items = Vec::new();
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(Tok::Punct(b'{')) => {
                    self.at += 1;
                    depth += 1;
                    if depth > DEPTH {
                        return self.err("scopes nest too deep");
                    }
                    items.push(Item::Enter);
                }
                Some(Tok::Punct(b'}')) => {
                    self.at += 1;
                    if depth == 0 {
                        return Ok(items);
                    }
                    depth -= 1;
                    items.push(Item::Leave);
                }
                Some(Tok::Punct(b';')) => self.at += 1,
                Some(Tok::Dot("loc")) => {
                    let line = self.line();
                    self.at += 1;
                    locs.push((self.small()?, self.small()?));
                    while self.toks.get(self.at).is_some_and(|t| t.1 == line) {
                        self.at += 1;
                    }
                }
                Some(Tok::Dot("pragma")) => {
                    while !self.eat(b';') {
                        self.next()?;
                    }
                }
                Some(Tok::Dot("reg" | "shared" | "local" | "param" | "global" | "const")) => {
                    let mut decls = Vec::new();
                    self.decl(false, &mut decls)?;
                    self.expect(b';')?;
                    items.extend(decls.into_iter().map(Item::Decl));
                }
                Some(Tok::Name(name)) if self.peek2() == Some(Tok::Punct(b':')) => {
                    let line = self.line();
                    self.at += 2;
                    match self.peek() {
                        Some(Tok::Dot("branchtargets" | "calltargets")) => {
                            self.at += 1;
                            let mut targets = vec![self.name()?];
                            while self.eat(b',') {
                                targets.push(self.name()?);
                            }
                            self.expect(b';')?;
                            items.push(Item::Targets(name, targets));
                        }
                        Some(Tok::Dot("callprototype")) => {
                            while !self.eat(b';') {
                                self.next()?;
                            }
                        }
                        _ => items.push(Item::Label(name, line)),
                    }
                }
                Some(Tok::Name(_) | Tok::Punct(b'@')) => items.push(Item::Stmt(self.stmt(locs.len() as u32)?)),
                None => return self.err("a body that does not end"),
                Some(_) => return self.err(format!("a statement expected, found {}", self.found())),
            }
        }
    }

    fn stmt(&mut self, loc: u32) -> R<Stmt<'a>> {
        let line = self.line();
        let mut guard = None;
        if self.eat(b'@') {
            let negated = self.eat(b'!');
            guard = Some((self.name()?, negated));
        }
        let name = self.name()?;
        let mut suffixes = Vec::new();
        while let Some(Tok::Dot(s)) = self.peek() {
            suffixes.push(s);
            self.at += 1;
        }
        let mut operands = Vec::new();
        if !self.is(b';') {
            loop {
                operands.push(self.operand(0)?);
                if !self.eat(b',') {
                    break;
                }
            }
        }
        self.expect(b';')?;
        Ok(Stmt { line, loc, guard, name, suffixes, operands })
    }

    fn list(&mut self, end: u8, depth: u32) -> R<Vec<Operand<'a>>> {
        let mut out = Vec::new();
        while !self.eat(end) {
            out.push(self.operand(depth + 1)?);
            if !self.eat(b',') && !self.is(end) {
                return self.err(format!("',' or '{}' expected, found {}", end as char, self.found()));
            }
        }
        Ok(out)
    }

    fn operand(&mut self, depth: u32) -> R<Operand<'a>> {
        if depth > DEPTH {
            return self.err("operands nest too deep");
        }
        match self.next()? {
            Tok::Punct(b'{') => Ok(Operand::Vector(self.list(b'}', depth)?)),
            Tok::Punct(b'(') => Ok(Operand::List(self.list(b')', depth)?)),
            Tok::Punct(b'[') => {
                let base = match self.peek() {
                    Some(Tok::Name(n)) => {
                        self.at += 1;
                        Operand::Name(n, None)
                    }
                    Some(Tok::Int(v)) => {
                        self.at += 1;
                        Operand::Int(v)
                    }
                    _ => return self.err(format!("an address expected, found {}", self.found())),
                };
                let offset = self.offset()?;
                let mut rest = Vec::new();
                while self.eat(b',') {
                    rest.push(self.operand(depth + 1)?);
                }
                self.expect(b']')?;
                Ok(Operand::Addr(Box::new(base), offset, rest))
            }
            Tok::Punct(b'!') => Ok(Operand::Not(self.name()?)),
            Tok::Punct(b'-') => Ok(match self.next()? {
                Tok::Int(v) => Operand::Int(v.wrapping_neg()),
                Tok::F32(v) => Operand::F32(v ^ 1 << 31),
                Tok::F64(v) => Operand::F64(v ^ 1 << 63),
                _ => return self.err("a number expected behind '-'"),
            }),
            Tok::Punct(b'~') => Ok(Operand::Int(!self.int()?)),
            Tok::Int(v) => Ok(Operand::Int(v)),
            Tok::F32(v) => Ok(Operand::F32(v)),
            Tok::F64(v) => Ok(Operand::F64(v)),
            Tok::Name(a) => {
                if self.eat(b'|') {
                    return Ok(Operand::Pair(a, self.name()?));
                }
                if let Some(Tok::Dot(part)) = self.peek() {
                    self.at += 1;
                    return Ok(Operand::Name(a, Some(part)));
                }
                Ok(match self.peek() {
                    Some(Tok::Punct(b'+' | b'-')) => Operand::Offset(a, self.offset()?),
                    _ => Operand::Name(a, None),
                })
            }
            _ => {
                self.at -= 1;
                self.err(format!("an operand expected, found {}", self.found()))
            }
        }
    }
}
