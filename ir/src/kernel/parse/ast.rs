// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Expressions as written, before they have types.

use super::lex::Tok;
use super::{Parsed, Parser, Pos};
use crate::dtype::DType;
use crate::kernel::Ty;
use crate::sym::SymExpr;

#[derive(Clone, Debug)]
pub(super) struct Ast {
    pub pos: Pos,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A number, with its sign if it is directly before it.
    Num(String),
    Name(String),
    Quoted(String),
    Index(String, Vec<Ast>),
    /// Name, type in angle brackets, operands, list in braces.
    Call(String, Option<DType>, Vec<Ast>, Option<Vec<u16>>),
    /// A type written around.
    Typed(Ty, Box<Ast>),
    Prefix(char, Box<Ast>),
    Infix(&'static str, Box<Ast>, Box<Ast>),
}

/// Binding strength of a binary operator.
fn strength(op: &str) -> Option<u8> {
    Some(match op {
        "|" => 1,
        "^" => 2,
        "&" => 3,
        "==" | "!=" | "<" | "<=" | ">" | ">=" => 4,
        "<<" | ">>" => 5,
        "+" | "-" | "+%" | "-%" => 6,
        "*" | "/" | "%" | "*%" => 7,
        _ => return None,
    })
}

impl Parser {
    pub(super) fn ast(&mut self) -> Parsed<Ast> {
        self.deeper(|p| p.binary(1))
    }
    fn binary(&mut self, min: u8) -> Parsed<Ast> {
        let mut left = self.prefix()?;
        let mut length = 0u32;
        while let Some(Tok::Punct(op)) = self.peek(0) {
            let op: &'static str = op;
            let Some(s) = strength(op) else { break };
            if s < min {
                break;
            }
            length += 1;
            if length > 256 {
                return self.fail("an expression of more than 256 operators");
            }
            let pos = self.pos();
            self.at += 1;
            let right = self.deeper(|p| p.binary(s + 1))?;
            left = Ast { pos, node: Node::Infix(op, Box::new(left), Box::new(right)) };
        }
        Ok(left)
    }
    fn prefix(&mut self) -> Parsed<Ast> {
        let pos = self.pos();
        if self.eat("-") {
            match self.peek(0) {
                Some(Tok::Num(n)) => {
                    let n = format!("-{n}");
                    self.at += 1;
                    return Ok(Ast { pos, node: Node::Num(n) });
                }
                Some(Tok::Word(w)) if w == "inf" => {
                    self.at += 1;
                    return Ok(Ast { pos, node: Node::Num("-inf".into()) });
                }
                _ => {}
            }
            let a = self.deeper(Self::prefix)?;
            return Ok(Ast { pos, node: Node::Prefix('-', Box::new(a)) });
        }
        if self.eat("!") {
            let a = self.deeper(Self::prefix)?;
            return Ok(Ast { pos, node: Node::Prefix('!', Box::new(a)) });
        }
        if self.eat("(") {
            let a = self.ast()?;
            self.need(")")?;
            return Ok(a);
        }
        self.primary(pos)
    }
    fn primary(&mut self, pos: Pos) -> Parsed<Ast> {
        let at = |node| Ok(Ast { pos, node });
        let word = match self.peek(0).cloned() {
            Some(Tok::Num(n)) => {
                self.at += 1;
                return at(Node::Num(n));
            }
            Some(Tok::Quoted(q)) => {
                self.at += 1;
                return at(Node::Quoted(q));
            }
            Some(Tok::Word(w)) => w,
            _ => return self.fail("expected an expression"),
        };
        self.at += 1;
        if word == "inf" || word == "nan" {
            return at(Node::Num(word));
        }
        if let Some(t) = Self::type_word(&word) {
            self.need("(")?;
            let a = self.ast()?;
            self.need(")")?;
            return at(Node::Typed(t, Box::new(a)));
        }
        let mut word = word;
        if self.is(".") && matches!(word.as_str(), "grid" | "mask") {
            self.at += 1;
            word = format!("{word}.{}", self.any_word("a name")?);
        }
        let generic = if matches!(word.as_str(), "cast" | "cast_sat" | "bitcast") {
            self.need("<")?;
            let d = self.dtype()?;
            self.need(">")?;
            Some(d)
        } else {
            None
        };
        if self.eat("(") {
            let mut args = Vec::new();
            let mut list = None;
            while !self.eat(")") {
                if !args.is_empty() || list.is_some() {
                    self.need(",")?;
                }
                if self.eat("{") {
                    list = Some(self.small_list("}", "a position")?);
                } else {
                    args.push(self.ast()?);
                }
            }
            return at(Node::Call(word, generic, args, list));
        }
        if self.eat("[") {
            let mut args = Vec::new();
            while !self.eat("]") {
                if !args.is_empty() {
                    self.need(",")?;
                }
                args.push(self.ast()?);
            }
            return at(Node::Index(word, args));
        }
        at(Node::Name(word))
    }

    /// The symbolic expression that an expression spells.
    pub(super) fn to_sym(&self, a: &Ast) -> Parsed<SymExpr> {
        let both = |x: &Ast, y: &Ast| Ok((self.to_sym(x)?, self.to_sym(y)?));
        Ok(match &a.node {
            Node::Num(n) => match n.parse::<i64>() {
                Ok(v) => v.into(),
                Err(_) => return a.pos.err(format!("{n} is no integer of 64 bits")),
            },
            Node::Name(n) | Node::Quoted(n) if self.k.sym(n).is_some() => SymExpr::sym(n.as_str()),
            Node::Name(n) | Node::Quoted(n) => return a.pos.err(format!("no symbol `{n}`")),
            Node::Prefix('-', x) => SymExpr::from(0) - self.to_sym(x)?,
            Node::Infix(op, x, y) => {
                let (x, y) = both(x, y)?;
                match *op {
                    "+" => x + y,
                    "-" => x - y,
                    "*" => x * y,
                    "/" => x.div(&y),
                    "%" => x.modulo(&y),
                    _ => return a.pos.err(format!("`{op}` is no operation of symbolic expressions")),
                }
            }
            Node::Call(f, None, args, None) if args.len() == 2 => {
                let (x, y) = both(&args[0], &args[1])?;
                match f.as_str() {
                    "floor" => x.div(&y),
                    "ceil" => x.ceil_div(&y),
                    "mod" => x.modulo(&y),
                    "min" => x.minimum(&y),
                    "max" => x.maximum(&y),
                    _ => return a.pos.err(format!("`{f}` is no operation of symbolic expressions")),
                }
            }
            _ => return a.pos.err("this is no symbolic expression"),
        })
    }
}
