// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The plan as text, one statement a line; kernels by name.

use std::fmt::{self, Write as _};

use super::{BufferId, HostPlan, Launch, OriginId, Pred, Stmt, Storage};
use crate::entity::EntityId;
use crate::graph::types::TensorType;
use crate::sym::SymExpr;
use crate::text::{print_name, print_text};

impl fmt::Display for Pred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pred::Eq(a, b) => write!(f, "{a} == {b}"),
            Pred::Le(a, b) => write!(f, "{a} <= {b}"),
            Pred::Divides(d, a) => write!(f, "{d} divides {a}"),
        }
    }
}

/// Prints a plan; `kernel` gives the names of kernels by position.
pub fn print(plan: &HostPlan, kernel: &dyn Fn(usize) -> String) -> String {
    let mut p = Printer { plan, kernel, out: String::new() };
    p.header();
    p.block(&plan.body, 0);
    p.out
}

struct Printer<'a> {
    plan: &'a HostPlan,
    kernel: &'a dyn Fn(usize) -> String,
    out: String,
}

/// Comma-separated.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

/// A path in a comment; one that a comment cannot hold as it is stands in quotes.
fn path(p: &str) -> String {
    let plain = !p.is_empty() && p.trim() == p && !p.contains([',', '"', '\\']) && !p.chars().any(char::is_control);
    if plain { p.to_owned() } else { print_text(p) }
}

fn buffer(b: BufferId) -> String {
    format!("%{}", b.index())
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{:1$}{text}", "", depth * 2);
    }
    fn at(&self, o: OriginId) -> String {
        self.plan.origins.get(o).map_or_else(String::new, |o| {
            if o.paths.is_empty() { String::new() } else { format!("  // {}", list(o.paths.iter().map(|p| path(p)))) }
        })
    }
    fn header(&mut self) {
        let plan = self.plan;
        self.line(0, &format!("plan {}", print_text(&plan.name)));
        for s in &plan.symbols {
            let div = if s.div > 1 { format!(" div {}", s.div) } else { String::new() };
            self.line(0, &format!("symbol {} in {}..{}{div}", print_name(&s.name), s.lo, s.hi));
        }
        for (what, ports) in [("input", &plan.inputs), ("output", &plan.outputs)] {
            for p in ports {
                let alias = p.alias_of.map_or_else(String::new, |i| format!(" alias {i}"));
                let ty = p.ty();
                self.line(0, &format!("{what} {}: {ty}{alias}", print_text(&p.name)));
            }
        }
        for t in plan.texts.iter() {
            self.line(0, &format!("text {}", print_text(t)));
        }
        for w in &plan.weights {
            let ty = TensorType::fixed(w.dtype, &w.dims);
            self.line(0, &format!("weight {}: {ty} at {} bytes {}", print_text(&w.name), w.offset, w.bytes));
        }
        for (id, b) in plan.buffers.iter() {
            let storage = match &b.storage {
                Storage::Input(i) => format!("input {i}"),
                Storage::Output(i) => format!("output {i}"),
                Storage::Weight { weight } => format!("weight {weight}"),
                Storage::Arena { epoch, offset } => format!("arena {epoch} at {offset}"),
            };
            let ty = TensorType::new(b.dtype, b.dims.clone());
            self.line(0, &format!("buffer {} {}: {ty} = {storage}", buffer(id), print_text(&b.name)));
        }
    }
    fn launch(&self, l: &Launch) -> String {
        let mut s = format!("launch {} grid({})", print_name(&(self.kernel)(l.kernel.index())), list(&l.grid));
        let _ = write!(s, " ({})", list(l.buffers.iter().map(|&b| buffer(b))));
        if !l.scalars.is_empty() {
            let _ = write!(s, " scalars({})", list(&l.scalars));
        }
        if !l.scratch_bytes.is(0) {
            let _ = write!(s, " scratch {}", l.scratch_bytes);
        }
        let _ = write!(s, " cost {}{}", l.group_cost_ns, self.at(l.origin));
        s
    }
    fn block(&mut self, body: &[Stmt], depth: usize) {
        for s in body {
            self.stmt(s, depth);
        }
    }
    fn stmt(&mut self, s: &Stmt, depth: usize) {
        let exprs = |v: &[SymExpr]| list(v);
        let text = match s {
            Stmt::Bind { symbol, input, axis } => format!("bind {} = dim {axis} of input {input}", print_name(symbol)),
            Stmt::Let { symbol, expr } => format!("let {} = {expr}", print_name(symbol)),
            Stmt::Room { output, past, needed, room, front } => {
                format!("room {}, {} = output {output} past {past} needed {needed}", print_name(room), print_name(front))
            }
            Stmt::Read { symbol, buffer: b, index } => format!("read {} = {}[{index}]", print_name(symbol), buffer(*b)),
            Stmt::Check { pred, fault, origin } => format!("check {pred} else {}{}", fault.name(), self.at(*origin)),
            Stmt::Epoch { epoch, bytes } => format!("epoch {epoch} bytes {bytes}"),
            Stmt::Output { output, dims } => format!("output {output} [{}]", exprs(dims)),
            Stmt::Launch(l) => self.launch(l),
            Stmt::Choose { cases } => {
                self.line(depth, "choose {");
                for (preds, l) in cases {
                    let when = if preds.is_empty() { "else".into() } else { format!("when {}", list(preds)) };
                    let text = format!("{when}: {}", self.launch(l));
                    self.line(depth + 1, &text);
                }
                "}".into()
            }
            Stmt::WriteDims { buffer: b, values } => format!("dims {} = [{}]", buffer(*b), exprs(values)),
            Stmt::Host(h) => {
                let mut s = format!("host {} ({})", h.op.name(), list(h.operands.iter().map(|&b| buffer(b))));
                let _ = write!(s, " takes({}) gives({})", list(&h.takes), list(&h.gives));
                if !h.params.is_empty() {
                    let _ = write!(s, " params({})", list(&h.params));
                }
                if !h.symbols.is_empty() {
                    let _ = write!(s, " binds({})", list(h.symbols.iter().map(|n| print_name(n))));
                }
                s + &self.at(h.origin)
            }
            Stmt::Held { buffer: b, result } => format!("held {} = {result}", buffer(*b)),
            Stmt::Copy { to, from } => format!("copy {} = {}", buffer(*to), buffer(*from)),
            Stmt::If { pred, then, els } => {
                self.line(depth, &format!("if {pred} {{"));
                self.block(then, depth + 1);
                self.line(depth, "} else {");
                self.block(els, depth + 1);
                "}".into()
            }
            Stmt::Loop { counter, trips, trip, cond, body, origin } => {
                let cond = cond.map_or_else(String::new, |c| format!(" while {}", buffer(c)));
                let head = format!("loop {} < {trip}{cond} trips {} {{{}", print_name(counter), print_name(trips), self.at(*origin));
                self.line(depth, &head);
                self.block(body, depth + 1);
                "}".into()
            }
        };
        self.line(depth, &text);
    }
}
