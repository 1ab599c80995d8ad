// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text to graph.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::defaults::{self, Site};
use super::{source, values};
use crate::diag::{Code, Diagnostic};
use crate::graph::attr::Attr;
use crate::graph::op::WeightId;
use crate::graph::verify::{Facts, types_agree};
use crate::graph::{Constraint, Graph, Op, Origin, SymSource, Symbol, TensorType, ValueId};
use crate::sym::SymName;
use crate::text::{Cursor, Kind, SyntaxError, Token, parse_expr};
use crate::weight::Weight;

/// Most faults that are reported.
const MAX_FAULTS: usize = 50;

pub(super) fn graph(text: &str) -> Result<Graph, Vec<Diagnostic>> {
    let mut p = Parser { c: Cursor::new(text), faults: Vec::new(), scopes: Vec::new(), stop: false };
    let mut g = Graph::default();
    p.skip_comments();
    if p.c.eat("graph")
        && let Err(e) = p.header(&mut g)
    {
        p.syntax(e);
        p.c.skip_line(p.c.previous().line);
    }
    p.body(&mut g, false);
    if p.faults.is_empty() { Ok(g) } else { Err(p.faults) }
}

/// A fault of the text, or of what it says.
enum Fault {
    Syntax(SyntaxError),
    Meaning(Code, SyntaxError),
    /// Already reported: something that this needs is faulty.
    Follows,
}

impl From<SyntaxError> for Fault {
    fn from(e: SyntaxError) -> Self {
        Fault::Syntax(e)
    }
}

/// What a number stands for; `None` if its definition was faulty.
type Numbers<'a> = HashMap<&'a str, Option<ValueId>>;

struct Parser<'a> {
    c: Cursor<'a>,
    faults: Vec<Diagnostic>,
    /// Symbols of the graph and the regions that are open.
    scopes: Vec<BTreeSet<SymName>>,
    stop: bool,
}

/// State of one graph or region while it is read.
struct Body<'g, 'a> {
    graph: &'g mut Graph,
    numbers: Numbers<'a>,
    weights: HashMap<Arc<str>, WeightId>,
    is_region: bool,
    failed: bool,
}

/// One value on the left of `=`.
struct Declared<'a> {
    number: &'a str,
    name: Option<String>,
    ty: TensorType,
}

impl<'a> Parser<'a> {
    fn syntax(&mut self, e: SyntaxError) {
        self.fault(Fault::Syntax(e), "");
    }
    fn fault(&mut self, f: Fault, path: &str) {
        let (code, e) = match f {
            Fault::Syntax(e) => (Code::GRAPH_TEXT, e),
            Fault::Meaning(code, e) => (code, e),
            Fault::Follows => return,
        };
        let d = Diagnostic::error(code, e.to_string());
        self.faults.push(if path.is_empty() { d } else { d.at(path) });
        if self.faults.len() >= MAX_FAULTS {
            self.stop = true;
        }
    }
    fn skip_comments(&mut self) {
        while self.c.peek().kind == Kind::Comment {
            self.c.bump();
        }
    }

    /// Name and symbols, behind the keyword.
    fn header(&mut self, g: &mut Graph) -> Result<(), SyntaxError> {
        if self.c.peek().kind == Kind::Text {
            g.name = self.c.quoted_text("a name")?;
        }
        if !self.c.eat("symbols") {
            return Ok(());
        }
        loop {
            let at = self.c.peek();
            let name = self.c.name("the name of a symbol")?;
            self.c.expect("in")?;
            let lo: i64 = self.c.int("the smallest value")?;
            self.c.expect("..")?;
            let has_end = self.c.at("-") || self.c.peek().kind == Kind::Number;
            let hi: i64 = if has_end { self.c.int("the largest value")? } else { i64::MAX };
            let div: i64 = if self.c.eat("div") { self.c.int("a divisor")? } else { 1 };
            let source = if self.c.eat("bind") {
                SymSource::Bind
            } else if self.c.eat("result") {
                SymSource::Result
            } else {
                SymSource::Input
            };
            if lo > hi || div < 1 {
                return Err(self.c.error_at(at, format!("`{name}` has the range {lo}..{hi} and the divisor {div}, which nothing fits")));
            }
            if g.symbol(&name).is_some() {
                return Err(self.c.error_at(at, format!("symbol `{name}` is declared twice")));
            }
            g.add_symbol(Symbol { name: name.into(), lo, hi, div, source });
            if !self.c.eat(",") {
                return Ok(());
            }
        }
    }

    fn body(&mut self, graph: &mut Graph, is_region: bool) {
        self.scopes.push(graph.symbols().iter().map(|s| s.name.clone()).collect());
        let mut b = Body { graph, numbers: HashMap::new(), weights: HashMap::new(), is_region, failed: false };
        while !self.stop {
            self.skip_comments();
            if self.c.is_at_end() {
                if is_region {
                    self.c.begin_statement();
                    let e = self.c.expected("`end`");
                    self.syntax(e);
                    self.stop = true;
                }
                break;
            }
            if is_region && self.c.eat("end") {
                break;
            }
            let start = self.c.peek();
            self.c.begin_statement();
            let result = self.statement(&mut b);
            // A statement takes its whole last line.
            let result = result.and_then(|()| {
                let t = self.c.peek();
                if !self.c.is_at_end() && t.kind != Kind::Comment && t.line == self.c.previous().line {
                    return Err(self.c.expected("the end of the line").into());
                }
                Ok(())
            });
            b.failed = false;
            if let Err(f) = result {
                b.failed = true;
                self.fault(f, "");
                self.recover(&mut b, start);
            }
        }
        self.scopes.pop();
    }

    /// Steps behind a faulty statement; what it defines is known to be faulty.
    fn recover(&mut self, b: &mut Body<'_, 'a>, start: Token) {
        let reached = self.c.peek();
        let last_line = if reached.kind == Kind::End { reached.line } else { self.c.previous().line.max(start.line) };
        let on_next_line = reached.line > last_line && reached.start > start.start;
        for t in self.c.tokens_from(start.start).iter().take_while(|t| t.line == start.line && self.c.text(**t) != "=") {
            if t.kind == Kind::Value {
                b.numbers.entry(self.c.text(*t)).or_insert(None);
            }
        }
        if !on_next_line {
            self.c.skip_line(last_line);
        }
    }

    fn statement(&mut self, b: &mut Body<'_, 'a>) -> Result<(), Fault> {
        let t = self.c.peek();
        match (t.kind, self.c.text(t)) {
            (Kind::Ident, "output") => self.output(b),
            (Kind::Ident, "assume") => self.assume(b),
            (Kind::Ident, "text") => {
                self.c.bump();
                let text = self.c.quoted_text("a text")?;
                let number = b.graph.texts.len() as i64;
                if b.graph.texts.intern(&text) == number {
                    Ok(())
                } else {
                    Err(self.c.error_at(t, "this text is in the table already").into())
                }
            }
            (Kind::Ident, "region") => {
                // Of a node that is faulty itself, or of none.
                let orphan = !b.failed;
                let known = self.faults.len();
                self.region()?;
                self.faults.truncate(known);
                if orphan { Err(self.c.error_at(t, "a region without a node before it").into()) } else { Err(Fault::Follows) }
            }
            (Kind::Value, _) | (Kind::Ident, _) => self.definition(b),
            _ => Err(self.c.expected("a statement").into()),
        }
    }

    fn output(&mut self, b: &mut Body<'_, 'a>) -> Result<(), Fault> {
        self.c.bump();
        let name = self.c.quoted_text("the name of the output")?;
        let value = self.value(b)?;
        let mut alias_of = None;
        if self.c.eat("alias") {
            let at = self.c.peek();
            let input = self.value(b)?;
            let position = b.graph.inputs.iter().position(|&v| v == input);
            alias_of = Some(position.ok_or_else(|| self.c.error_at(at, format!("{} is no input", self.c.text(at))))? as u32);
        }
        b.graph.add_output(name, value);
        b.graph.set_alias(b.graph.outputs.len() - 1, alias_of);
        Ok(())
    }

    fn assume(&mut self, b: &mut Body<'_, 'a>) -> Result<(), Fault> {
        let at = self.c.bump();
        let left = parse_expr(&mut self.c)?;
        self.c.expect("==")?;
        let right = parse_expr(&mut self.c)?;
        let mut names = BTreeSet::new();
        left.collect_symbols(&mut names);
        right.collect_symbols(&mut names);
        self.declared(b, &names, at, false)?;
        let path = self.origin()?.first().into();
        b.graph.constraints.push(Constraint { left, right, path });
        Ok(())
    }

    /// A value that was defined before.
    fn value(&mut self, b: &Body<'_, 'a>) -> Result<ValueId, Fault> {
        let t = self.c.peek();
        if t.kind != Kind::Value {
            return Err(self.c.expected("a value as `%0`").into());
        }
        self.c.bump();
        match b.numbers.get(self.c.text(t)) {
            Some(Some(v)) => Ok(*v),
            Some(None) => Err(Fault::Follows),
            None => {
                let where_ = if b.is_region { " in this region" } else { "" };
                Err(self.c.error_at(t, format!("{} is not defined before its use{where_}", self.c.text(t))).into())
            }
        }
    }

    /// Checks that symbols are declared; those of an input of the whole graph are declared by it.
    fn declared(&mut self, b: &mut Body<'_, 'a>, names: &BTreeSet<SymName>, at: Token, by_input: bool) -> Result<(), Fault> {
        for s in names {
            if self.scopes.iter().any(|scope| scope.contains(s)) {
                continue;
            }
            if by_input && !b.is_region {
                b.graph.add_symbol(Symbol { name: s.clone(), lo: 0, hi: i64::MAX, div: 1, source: SymSource::Input });
                if let Some(scope) = self.scopes.last_mut() {
                    scope.insert(s.clone());
                }
                continue;
            }
            let m = format!("symbol `{s}` is not declared, expected it behind `symbols`");
            return Err(Fault::Meaning(Code::UNKNOWN_SYMBOL, self.c.error_at(at, m)));
        }
        Ok(())
    }

    /// Results, `=`, and what makes them.
    fn definition(&mut self, b: &mut Body<'_, 'a>) -> Result<(), Fault> {
        let start = self.c.peek();
        let mut results: Vec<Declared<'a>> = Vec::new();
        if start.kind == Kind::Value {
            loop {
                let t = self.c.peek();
                if t.kind != Kind::Value {
                    return Err(self.c.expected("a value as `%0`").into());
                }
                self.c.bump();
                let number = self.c.text(t);
                if b.numbers.contains_key(number) || results.iter().any(|r| r.number == number) {
                    return Err(self.c.error_at(t, format!("{number} is defined twice")).into());
                }
                let name = if self.c.peek().kind == Kind::Text { Some(self.c.quoted_text("a name")?) } else { None };
                self.c.expect(":")?;
                let ty = values::tensor_type(&mut self.c)?;
                results.push(Declared { number, name, ty });
                if !self.c.eat(",") {
                    break;
                }
            }
            self.c.expect("=")?;
        }
        let at = self.c.peek();
        let word = self.c.ident("an op")?;
        let mut names = BTreeSet::new();
        results.iter().flat_map(|r| &r.ty.dims).for_each(|d| d.collect_symbols(&mut names));
        self.declared(b, &names, start, word == "input")?;
        if word == "input" {
            return self.input(b, results, at);
        }
        let (op, operands) = self.operation(b, word, at, &results)?;
        let origin = self.origin()?;
        self.skip_comments();
        let mut regions = Vec::new();
        while self.c.at("region") {
            match self.region()? {
                Some(r) => regions.push(r),
                None => return Err(Fault::Follows),
            }
            self.skip_comments();
        }
        let path = origin.first().to_owned();
        let made = self.insert(b, op, &operands, regions, origin, results, at);
        if let Err(f) = made {
            // The path is known: say it.
            self.fault(f, &path);
            return Err(Fault::Follows);
        }
        Ok(())
    }

    fn input(&mut self, b: &mut Body<'_, 'a>, results: Vec<Declared<'a>>, at: Token) -> Result<(), Fault> {
        let name = self.c.quoted_text("the name of the input")?;
        let mut results = results.into_iter();
        let (Some(r), None) = (results.next(), results.next()) else {
            return Err(self.c.error_at(at, "an input is one value").into());
        };
        let v = b.graph.add_input(name, r.ty);
        b.numbers.insert(r.number, Some(v));
        Ok(())
    }

    /// Op with attributes, and its operands.
    fn operation(&mut self, b: &mut Body<'_, 'a>, word: &str, at: Token, results: &[Declared<'a>]) -> Result<(Op, Vec<ValueId>), Fault> {
        match word {
            "weight" => {
                let w = source::parse_weight(&mut self.c)?;
                return Ok((self.weight(b, w, at)?, Vec::new()));
            }
            "const" => {
                let from_result = results.first().map(|r| r.ty.clone());
                return Ok((self.constant(from_result)?, Vec::new()));
            }
            _ => {}
        }
        let mut operands = Vec::new();
        if self.c.eat("(") {
            while !self.c.eat(")") {
                if !operands.is_empty() && !self.c.eat(",") {
                    return Err(self.c.expected("`,` or `)`").into());
                }
                operands.push(self.operand(b)?);
            }
        }
        let types: Vec<TensorType> = operands.iter().map(|&v| b.graph.ty(v).clone()).collect();
        let types: Vec<&TensorType> = types.iter().collect();
        let site = Site { operands: &types, result: results.first().map(|r| &r.ty) };
        let op = self.attributes(word, at, &site)?;
        let mut names = BTreeSet::new();
        crate::graph::collect_attr_symbols(&op, &mut names);
        self.declared(b, &names, at, false)?;
        Ok((op, operands))
    }

    fn operand(&mut self, b: &mut Body<'_, 'a>) -> Result<ValueId, Fault> {
        let t = self.c.peek();
        if t.kind != Kind::Ident {
            return self.value(b);
        }
        let op = match self.c.text(t) {
            "weight" => {
                self.c.bump();
                let w = source::parse_weight(&mut self.c)?;
                self.weight(b, w, t)?
            }
            "const" => {
                self.c.bump();
                self.constant(None)?
            }
            _ => {
                let dtype = values::dtype(&mut self.c).map_err(|_| self.c.expected("an operand"))?;
                Op::Const { value: crate::graph::Literal::scalar(values::scalar(&mut self.c, dtype)?) }
            }
        };
        let n = b.graph.add(op, &[], Origin::default()).map_err(|f| Fault::Meaning(f.code, self.c.error_at(t, f.message)))?;
        Ok(b.graph.result(n))
    }

    /// A constant, whose type stands before its elements unless the result has it.
    fn constant(&mut self, from_result: Option<TensorType>) -> Result<Op, Fault> {
        let t = self.c.peek();
        let written = t.kind == Kind::Ident && self.c.at_nth(1, "[");
        let ty = match from_result {
            Some(ty) if !written => ty,
            _ => values::tensor_type(&mut self.c)?,
        };
        Ok(Op::Const { value: source::parse_constant(&mut self.c, &ty)? })
    }

    /// The weight of that name, which is added unless it is there.
    fn weight(&mut self, b: &mut Body<'_, 'a>, w: Weight, at: Token) -> Result<Op, Fault> {
        let mut w = w;
        if w.name.is_empty() {
            let mut n = b.graph.weights().len();
            while b.weights.contains_key(format!("w{n}").as_str()) {
                n += 1;
            }
            w.name = format!("w{n}").into();
        }
        if let Some(&id) = b.weights.get(&w.name) {
            if !source::same_weight(b.graph.weight(id), &w) {
                let m = format!("weight {:?} is written in two ways, expected one", w.name);
                return Err(Fault::Meaning(Code::DUPLICATE_NAME, self.c.error_at(at, m)));
            }
            return Ok(Op::Weight { weight: id });
        }
        let name = w.name.clone();
        let weight = b.graph.add_weight(w);
        b.weights.insert(name, weight);
        Ok(Op::Weight { weight })
    }

    /// `{name=value, ..}` and the op that they make; what is left out has its usual value.
    fn attributes(&mut self, word: &str, at: Token, site: &Site<'_>) -> Result<Op, Fault> {
        let dtype = defaults::scalar_dtype(word, site);
        let mut given: Vec<(&'a str, Token, Attr)> = Vec::new();
        if self.c.eat("{") {
            given = self.c.list("}", |c| {
                let t = c.peek();
                let name = c.ident("the name of an attribute")?;
                c.expect("=")?;
                Ok((name, t, values::attr(c, dtype)?))
            })?;
        }
        for (i, (name, t, _)) in given.iter().enumerate() {
            if given[..i].iter().any(|(n, _, _)| n == name) {
                return Err(self.c.error_at(*t, format!("attribute `{name}` is given twice")).into());
            }
        }
        let mut table: HashMap<&str, Attr> = given.iter().map(|(n, _, a)| (*n, a.clone())).collect();
        let mut settled: BTreeSet<&'static str> = BTreeSet::new();
        let asked: RefCell<BTreeSet<String>> = RefCell::new(BTreeSet::new());
        let op = loop {
            let lookup = |name: &str| {
                asked.borrow_mut().insert(name.to_owned());
                table.get(name).cloned()
            };
            let missing = match Op::from_attrs(word, &lookup) {
                Ok(Some(op)) => break op,
                Ok(None) => {
                    let meant = nearest(word, Op::mnemonics()).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
                    return Err(self.c.error_at(at, format!("unknown op `{word}`{meant}")).into());
                }
                Err(name) => name,
            };
            // Integers may stand for numbers of any dtype, and what is not given has its usual value.
            let next = match table.get(missing) {
                Some(a) => values::as_scalars(a, dtype),
                None => defaults::attr(word, missing, site),
            };
            match next.filter(|_| settled.insert(missing)) {
                Some(a) => table.insert(missing, a),
                None => {
                    let given = given.iter().find(|(n, _, _)| *n == missing);
                    let e = match given {
                        Some((_, t, _)) => {
                            self.c.error_at(*t, format!("attribute `{missing}` of `{word}` is of the wrong kind or out of range"))
                        }
                        None => self.c.error_at(at, format!("attribute `{missing}` of `{word}` is missing")),
                    };
                    return Err(e.into());
                }
            };
        };
        if let Some((name, t, _)) = given.iter().find(|(n, _, _)| !asked.borrow().contains(*n)) {
            return Err(self.c.error_at(*t, format!("`{word}` has no attribute `{name}`")).into());
        }
        Ok(op)
    }

    /// Paths in the comment behind a statement.
    fn origin(&mut self) -> Result<Origin, SyntaxError> {
        let mut o = Origin::default();
        let t = self.c.peek();
        if t.kind != Kind::Comment || t.line != self.c.previous().line {
            return Ok(o);
        }
        self.c.bump();
        let mut rest = self.c.text(t).trim_start_matches("//").trim();
        while !rest.is_empty() && !rest.starts_with('[') {
            let (path, behind) = if rest.starts_with('"') {
                let mut inner = Cursor::new(rest);
                let end = inner.peek().end;
                let path = inner.quoted_text("a path").map_err(|_| self.c.error_at(t, "a quoted path in this comment is malformed"))?;
                (path, &rest[end..])
            } else {
                let end = rest.find([',', '[']).unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            };
            o.paths.push(path.into());
            let behind = behind.trim_start();
            rest = behind.strip_prefix(',').unwrap_or(behind).trim_start();
        }
        Ok(o)
    }

    /// `region "name" ..` up to `end`; `None` if there are faults in it.
    fn region(&mut self) -> Result<Option<Graph>, Fault> {
        let known = self.faults.len();
        let at = self.c.peek();
        self.c.bump();
        let mut g = Graph::default();
        if let Err(e) = self.header(&mut g) {
            self.syntax(e);
            self.c.skip_line(at.line);
        }
        if !self.c.enter() {
            // Nothing behind this makes sense any more.
            self.stop = true;
            return Err(self.c.error_at(at, format!("nested deeper than {} levels", crate::text::lexer::MAX_DEPTH)).into());
        }
        self.body(&mut g, true);
        self.c.leave();
        Ok((self.faults.len() == known).then_some(g))
    }

    #[allow(clippy::too_many_arguments)]
    fn insert(
        &mut self,
        b: &mut Body<'_, 'a>,
        op: Op,
        operands: &[ValueId],
        regions: Vec<Graph>,
        origin: Origin,
        results: Vec<Declared<'a>>,
        at: Token,
    ) -> Result<(), Fault> {
        let word = op.mnemonic();
        let made = b.graph.add_with_regions(op, operands, regions, origin);
        let n = made.map_err(|f| Fault::Meaning(f.code, self.c.error_at(at, f.message)))?;
        let found = b.graph.node(n).results.clone();
        if found.len() != results.len() {
            let m = format!("`{word}` has {} results here, found {} before `=`", found.len(), results.len());
            return Err(Fault::Meaning(Code::BAD_ARITY, self.c.error_at(at, m)));
        }
        let mut facts = None;
        for (v, r) in found.into_iter().zip(results) {
            let inferred = b.graph.ty(v);
            if *inferred != r.ty {
                let facts = facts.get_or_insert_with(|| Facts::new(b.graph));
                if !types_agree(facts, inferred, &r.ty) {
                    let m = format!("{} is declared as {}, but `{word}` gives {inferred}", r.number, r.ty);
                    let code = if inferred.dtype == r.ty.dtype { Code::SHAPE_MISMATCH } else { Code::DTYPE_MISMATCH };
                    return Err(Fault::Meaning(code, self.c.error_at(at, m)));
                }
                b.graph.values[v].ty = r.ty;
            }
            if let Some(name) = r.name {
                b.graph.set_name(v, name);
            }
            b.numbers.insert(r.number, Some(v));
        }
        Ok(())
    }
}

/// The candidate that is at most two edits away, the nearest and then the first of them.
fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    candidates.map(|c| (edits(word, c), c)).filter(|&(d, c)| d <= 2 && 2 * d <= c.len()).min_by_key(|&(d, _)| d).map(|(_, c)| c)
}

/// Characters to insert, delete or replace to make one word the other.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate().take(64) {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let best = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
