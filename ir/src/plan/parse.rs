// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text to plan: the inverse of [`print`](super::print).

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Buffer, BufferId, Fault, HostCall, HostPlan, KernelRef, Launch, OriginId, PlanSymbol, Port, Pred, Stmt, Storage, StoredWeight,
};
use crate::diag::{Code, Diagnostic};
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::graph::HostOp;
use crate::graph::text::{dtype, tensor_type};
use crate::graph::types::{Dims, Origin};
use crate::sym::SymExpr;
use crate::text::{Cursor, Kind, SyntaxError, Token, parse_expr};

/// Most faults that are reported.
const MAX_FAULTS: usize = 50;

type Read<T> = Result<T, SyntaxError>;

/// Reads a plan; `kernel` gives the position of the kernel of a name. Names of rules in origins are not in the text.
///
/// # Errors
/// `E0303` for each line that is no plan, the first 50 of them; each message begins with `LINE:COLUMN: `.
pub fn parse(text: &str, kernel: &dyn Fn(&str) -> Option<usize>) -> Result<HostPlan, Vec<Diagnostic>> {
    let mut p =
        Parser { c: Cursor::new(text), kernel, plan: HostPlan::default(), origins: HashMap::new(), faults: Vec::new(), later: Vec::new() };
    match p.header() {
        Ok(()) => {
            p.plan.body = p.block(false);
        }
        Err(e) => p.fault(e),
    }
    for (t, b) in std::mem::take(&mut p.later) {
        if p.plan.buffers.get(b).is_none() {
            let e = p.c.error_at(t, format!("there is no buffer %{}", b.index()));
            p.fault(e);
        }
    }
    if p.faults.is_empty() { Ok(p.plan) } else { Err(p.faults) }
}

struct Parser<'a> {
    c: Cursor<'a>,
    kernel: &'a dyn Fn(&str) -> Option<usize>,
    plan: HostPlan,
    origins: HashMap<Vec<Arc<str>>, OriginId>,
    faults: Vec<Diagnostic>,
    /// Buffers that statements name.
    later: Vec<(Token, BufferId)>,
}

impl Parser<'_> {
    fn fault(&mut self, e: SyntaxError) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Diagnostic::error(Code::PLAN_TEXT, e.to_string()));
        }
    }
    fn skip_comments(&mut self) {
        while self.c.peek().kind == Kind::Comment {
            self.c.bump();
        }
    }
    fn line_end(&mut self) -> Read<()> {
        let t = self.c.peek();
        if self.c.is_at_end() || t.line > self.c.previous().line || t.kind == Kind::Comment {
            return Ok(());
        }
        Err(self.c.expected("the end of the line"))
    }

    fn header(&mut self) -> Read<()> {
        self.skip_comments();
        self.c.expect("plan")?;
        self.plan.name = self.c.quoted_text("the name of the model")?;
        loop {
            self.line_end()?;
            self.skip_comments();
            self.c.begin_statement();
            let t = self.c.peek();
            let word = if t.kind == Kind::Ident { self.c.text(t) } else { "" };
            match word {
                "symbol" => self.symbol()?,
                "input" => {
                    let p = self.port(false)?;
                    self.plan.inputs.push(p);
                }
                "output" if self.c.peek_at(1).kind == Kind::Text => {
                    let p = self.port(true)?;
                    self.plan.outputs.push(p);
                }
                "text" => {
                    self.c.bump();
                    let text = self.c.quoted_text("a text")?;
                    self.plan.texts.intern(&text);
                }
                "weight" => self.weight()?,
                "buffer" => self.buffer_line()?,
                _ => return Ok(()),
            }
        }
    }
    fn symbol(&mut self) -> Read<()> {
        self.c.bump();
        let at = self.c.peek();
        let name = self.c.name("the name of a symbol")?;
        self.c.expect("in")?;
        let lo = self.c.int("the smallest value")?;
        self.c.expect("..")?;
        let hi = self.c.int("the largest value")?;
        let div = if self.c.eat("div") { self.c.int("a divisor")? } else { 1 };
        if div < 1 || lo > hi {
            return Err(self.c.error_at(at, format!("`{name}` has the range {lo}..{hi} and the divisor {div}, which nothing fits")));
        }
        self.plan.symbols.push(PlanSymbol { name: name.into(), lo, hi, div });
        Ok(())
    }
    fn typ(&mut self) -> Read<(DType, Dims)> {
        let t = self.c.peek();
        let Some(dtype) = DType::from_name(self.c.text(t)).filter(|_| t.kind == Kind::Ident) else {
            return Err(self.c.expected("a dtype"));
        };
        self.c.bump();
        self.c.expect("[")?;
        Ok((dtype, self.c.list("]", parse_expr)?))
    }
    fn port(&mut self, output: bool) -> Read<Port> {
        self.c.bump();
        let name = self.c.quoted_text("a name")?.into();
        self.c.expect(":")?;
        let ty = tensor_type(&mut self.c)?;
        let alias_of = if output && self.c.eat("alias") { Some(self.c.int("the position of an input")?) } else { None };
        Ok(Port { name, dtype: ty.dtype, dims: ty.dims, alias_of, list: ty.list.map(|l| *l) })
    }
    fn weight(&mut self) -> Read<()> {
        self.c.bump();
        let name = self.c.quoted_text("a name")?.into();
        self.c.expect(":")?;
        let at = self.c.peek();
        let (dtype, dims) = self.typ()?;
        let dims: Option<Vec<i64>> = dims.iter().map(|d| d.as_const().filter(|d| *d >= 0)).collect();
        let Some(dims) = dims else { return Err(self.c.error_at(at, "dims of a weight are numbers, 0 or more")) };
        self.c.expect("at")?;
        let offset = self.c.int("the first byte")?;
        self.c.expect("bytes")?;
        let bytes = self.c.int("a number of bytes")?;
        self.plan.weights.push(StoredWeight { name, dtype, dims, offset, bytes });
        Ok(())
    }
    fn buffer_line(&mut self) -> Read<()> {
        self.c.bump();
        let at = self.c.peek();
        let id = self.value()?;
        if id != self.plan.buffers.next_id() {
            let e = format!("buffers count from %0: expected %{}", self.plan.buffers.len());
            return Err(self.c.error_at(at, e));
        }
        let name = self.c.quoted_text("a name")?.into();
        self.c.expect(":")?;
        let (dtype, dims) = self.typ()?;
        self.c.expect("=")?;
        let t = self.c.peek();
        let storage = match self.c.ident("where it lies")? {
            "input" => Storage::Input(self.c.int("the position of an input")?),
            "output" => Storage::Output(self.c.int("the position of an output")?),
            "weight" => Storage::Weight { weight: self.c.int("the position of a weight")? },
            "arena" => {
                let epoch = self.c.int("the number of an epoch")?;
                self.c.expect("at")?;
                Storage::Arena { epoch, offset: parse_expr(&mut self.c)? }
            }
            other => return Err(self.c.error_at(t, format!("expected `input`, `output`, `weight` or `arena`, found `{other}`"))),
        };
        self.plan.buffers.push(Buffer { name, dtype, dims, storage });
        Ok(())
    }

    /// A buffer's number.
    fn value(&mut self) -> Read<BufferId> {
        let t = self.c.peek();
        let n = self.c.text(t).strip_prefix('%').and_then(|n| n.parse::<u32>().ok());
        match n {
            Some(n) if t.kind == Kind::Value => {
                self.c.bump();
                Ok(BufferId::new(n as usize))
            }
            _ => Err(self.c.expected("a buffer, as `%0`")),
        }
    }
    /// A buffer that must be there in the end.
    fn buffer(&mut self) -> Read<BufferId> {
        let t = self.c.peek();
        let b = self.value()?;
        self.later.push((t, b));
        Ok(b)
    }
    fn expr(&mut self) -> Read<SymExpr> {
        parse_expr(&mut self.c)
    }
    fn pred(&mut self) -> Read<Pred> {
        let at = self.c.peek();
        let a = self.expr()?;
        if self.c.eat("divides") {
            let Some(d) = a.as_const().filter(|d| *d > 0) else {
                return Err(self.c.error_at(at, "what divides is a number, 1 or more"));
            };
            return Ok(Pred::Divides(d, self.expr()?));
        }
        if self.c.eat("==") {
            return Ok(Pred::Eq(a, self.expr()?));
        }
        if self.c.at("<") && self.c.at_nth(1, "=") {
            self.c.bump();
            self.c.bump();
            return Ok(Pred::Le(a, self.expr()?));
        }
        Err(self.c.expected("`==`, `<=` or `divides`"))
    }
    /// Paths in the comment behind a statement.
    fn origin(&mut self) -> Read<OriginId> {
        let mut paths: Vec<Arc<str>> = Vec::new();
        let t = self.c.peek();
        if t.kind == Kind::Comment && t.line == self.c.previous().line {
            self.c.bump();
            let mut rest = self.c.text(t).trim_start_matches('/').trim();
            while !rest.is_empty() {
                let end = if rest.starts_with('"') {
                    let mut inner = Cursor::new(rest);
                    let end = inner.peek().end;
                    let path = inner.quoted_text("a path").map_err(|_| self.c.error_at(t, "a quoted path in this comment is malformed"))?;
                    paths.push(path.into());
                    end
                } else {
                    let end = rest.find(',').unwrap_or(rest.len());
                    paths.push(rest.get(..end).unwrap_or("").trim().into());
                    end
                };
                let behind = rest.get(end..).unwrap_or("").trim_start();
                rest = behind.strip_prefix(',').unwrap_or(behind).trim_start();
            }
        }
        if let Some(&id) = self.origins.get(&paths) {
            return Ok(id);
        }
        let id = self.plan.origins.push(Origin { paths: paths.clone(), rules: Vec::new() });
        self.origins.insert(paths, id);
        Ok(id)
    }

    /// Statements up to the end of the text, or, in braces, up to `}`, which is stepped over.
    fn block(&mut self, braces: bool) -> Vec<Stmt> {
        let mut out = Vec::new();
        if !self.c.enter() {
            let e = self.c.expected("less nesting");
            self.fault(e);
            while !self.c.is_at_end() {
                self.c.bump();
            }
            return out;
        }
        while self.faults.len() < MAX_FAULTS {
            self.skip_comments();
            if self.c.is_at_end() {
                if braces {
                    let e = self.c.expected("`}`");
                    self.fault(e);
                }
                break;
            }
            if braces && self.c.eat("}") {
                break;
            }
            let line = self.c.peek().line;
            self.c.begin_statement();
            match self.stmt().and_then(|s| self.line_end().map(|()| s)) {
                Ok(s) => out.push(s),
                Err(e) => {
                    self.fault(e);
                    self.c.skip_line(self.c.previous().line.max(line));
                }
            }
        }
        self.c.leave();
        out
    }
    fn stmt(&mut self) -> Read<Stmt> {
        let t = self.c.peek();
        let word = if t.kind == Kind::Ident { self.c.text(t) } else { "" };
        const WORDS: &[&str] =
            &["bind", "let", "read", "room", "check", "epoch", "output", "launch", "choose", "dims", "copy", "if", "loop", "host", "held"];
        if WORDS.contains(&word) {
            self.c.bump();
        }
        Ok(match word {
            "bind" => {
                let symbol = self.c.name("the name of a symbol")?.into();
                self.c.expect("=")?;
                self.c.expect("dim")?;
                let axis = self.c.int("an axis")?;
                self.c.expect("of")?;
                self.c.expect("input")?;
                Stmt::Bind { symbol, axis, input: self.c.int("the position of an input")? }
            }
            "let" => {
                let symbol = self.c.name("the name of a symbol")?.into();
                self.c.expect("=")?;
                Stmt::Let { symbol, expr: self.expr()? }
            }
            "read" => {
                let symbol = self.c.name("the name of a symbol")?.into();
                self.c.expect("=")?;
                let buffer = self.buffer()?;
                self.c.expect("[")?;
                let index = self.expr()?;
                self.c.expect("]")?;
                Stmt::Read { symbol, buffer, index }
            }
            "room" => {
                let room = self.c.name("the name of a symbol")?.into();
                self.c.expect(",")?;
                let front = self.c.name("the name of a symbol")?.into();
                self.c.expect("=")?;
                self.c.expect("output")?;
                let output = self.c.int("the position of an output")?;
                self.c.expect("past")?;
                let past = self.expr()?;
                self.c.expect("needed")?;
                Stmt::Room { output, past, needed: self.expr()?, room, front }
            }
            "check" => {
                let pred = self.pred()?;
                self.c.expect("else")?;
                let at = self.c.peek();
                let name = self.c.ident("a fault")?;
                let Some(fault) = Fault::from_name(name) else {
                    return Err(self.c.error_at(at, format!("there is no fault `{name}`")));
                };
                Stmt::Check { pred, fault, origin: self.origin()? }
            }
            "epoch" => {
                let epoch = self.c.int("the number of an epoch")?;
                self.c.expect("bytes")?;
                Stmt::Epoch { epoch, bytes: self.expr()? }
            }
            "output" => {
                let output = self.c.int("the position of an output")?;
                self.c.expect("[")?;
                Stmt::Output { output, dims: self.c.list("]", parse_expr)? }
            }
            "launch" => Stmt::Launch(self.launch()?),
            "choose" => Stmt::Choose { cases: self.cases()? },
            "dims" => {
                let buffer = self.buffer()?;
                self.c.expect("=")?;
                self.c.expect("[")?;
                Stmt::WriteDims { buffer, values: self.c.list("]", parse_expr)? }
            }
            "host" => self.host()?,
            "held" => {
                let buffer = self.buffer()?;
                self.c.expect("=")?;
                Stmt::Held { buffer, result: self.c.int("the number of a result")? }
            }
            "copy" => {
                let to = self.buffer()?;
                self.c.expect("=")?;
                Stmt::Copy { to, from: self.buffer()? }
            }
            "if" => {
                let pred = self.pred()?;
                self.c.expect("{")?;
                let then = self.block(true);
                self.c.expect("else")?;
                self.c.expect("{")?;
                Stmt::If { pred, then, els: self.block(true) }
            }
            "loop" => {
                let counter = self.c.name("the name of a symbol")?.into();
                self.c.expect("<")?;
                let trip = self.expr()?;
                let cond = if self.c.eat("while") { Some(self.buffer()?) } else { None };
                self.c.expect("trips")?;
                let trips = self.c.name("the name of a symbol")?.into();
                self.c.expect("{")?;
                let origin = self.origin()?;
                Stmt::Loop { counter, trips, trip, cond, body: self.block(true), origin }
            }
            _ => return Err(self.c.expected("a statement")),
        })
    }
    /// A host operation, behind its keyword.
    fn host(&mut self) -> Read<Stmt> {
        let at = self.c.peek();
        let name = self.c.ident("a host operation")?;
        let Some(op) = HostOp::from_name(name) else {
            return Err(self.c.error_at(at, format!("there is no host operation `{name}`")));
        };
        self.c.expect("(")?;
        let mut operands = Vec::new();
        while !self.c.eat(")") {
            if !operands.is_empty() {
                self.c.expect(",")?;
            }
            operands.push(self.buffer()?);
        }
        let mut dtypes = |word: &str| -> Read<Vec<DType>> {
            self.c.expect(word)?;
            self.c.expect("(")?;
            self.c.list(")", dtype)
        };
        let (takes, gives) = (dtypes("takes")?, dtypes("gives")?);
        let (mut params, mut symbols) = (Vec::new(), Vec::new());
        if self.c.eat("params") {
            self.c.expect("(")?;
            params = self.c.list(")", |c| c.int("an integer"))?;
        }
        if self.c.eat("binds") {
            self.c.expect("(")?;
            symbols = self.c.list(")", |c| c.name("the name of a symbol").map(Into::into))?;
        }
        Ok(Stmt::Host(HostCall { op, params, operands, takes, gives, symbols, origin: self.origin()? }))
    }
    fn cases(&mut self) -> Read<Vec<(Vec<Pred>, Launch)>> {
        self.c.expect("{")?;
        let mut cases = Vec::new();
        loop {
            self.skip_comments();
            if self.c.eat("}") {
                return Ok(cases);
            }
            self.c.begin_statement();
            let mut preds = Vec::new();
            if !self.c.eat("else") {
                self.c.expect("when")?;
                preds.push(self.pred()?);
                while self.c.eat(",") {
                    preds.push(self.pred()?);
                }
            }
            self.c.expect(":")?;
            self.c.expect("launch")?;
            cases.push((preds, self.launch()?));
            self.line_end()?;
        }
    }
    /// A launch, behind its keyword.
    fn launch(&mut self) -> Read<Launch> {
        let at = self.c.peek();
        let name = self.c.name("the name of a kernel")?;
        let Some(kernel) = (self.kernel)(&name).filter(|k| u32::try_from(*k).is_ok()) else {
            return Err(self.c.error_at(at, format!("there is no kernel `{name}`")));
        };
        self.c.expect("grid")?;
        self.c.expect("(")?;
        let at = self.c.peek();
        let grid = self.c.list(")", parse_expr)?;
        let Ok(grid) = <[SymExpr; 3]>::try_from(grid) else { return Err(self.c.error_at(at, "a grid has 3 numbers")) };
        self.c.expect("(")?;
        let mut buffers = Vec::new();
        while !self.c.eat(")") {
            if !buffers.is_empty() {
                self.c.expect(",")?;
            }
            buffers.push(self.buffer()?);
        }
        let mut scalars = Vec::new();
        if self.c.eat("scalars") {
            self.c.expect("(")?;
            scalars = self.c.list(")", parse_expr)?;
        }
        let scratch_bytes = if self.c.eat("scratch") { self.expr()? } else { 0.into() };
        self.c.expect("cost")?;
        let group_cost_ns = self.c.int("nanoseconds")?;
        let origin = self.origin()?;
        Ok(Launch { kernel: KernelRef::new(kernel), grid, buffers, scalars, scratch_bytes, group_cost_ns, origin })
    }
}
