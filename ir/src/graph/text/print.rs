// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graph to text.

use std::fmt::Write;

use super::PrintOptions;
use super::defaults::{self, Site};
use super::source;
use crate::dtype::DType;
use crate::entity::SecondaryMap;
use crate::graph::attr::Attr;
use crate::graph::{Graph, Node, NodeId, Op, Origin, Quant, Scalar, SymSource, TensorType, ValueId};
use crate::text::{print_name, print_text};

pub(super) fn graph(g: &Graph, options: PrintOptions) -> String {
    let mut p = Printer { out: String::new(), options };
    p.graph(g, "graph", 0);
    p.out
}

pub(super) fn describe(g: &Graph, n: NodeId) -> String {
    let node = g.node(n);
    let results: Vec<String> = node.results.iter().map(|&v| g.ty(v).to_string()).collect();
    let mut out = results.join(", ");
    if !results.is_empty() {
        out.push_str(" = ");
    }
    operation(g, node, &mut out, &|v| match g.as_weight(v).and_then(|w| g.weights().get(w)) {
        Some(w) => format!("weight<{}{}{}>", w.dtype, if w.dims.is_empty() { "" } else { " " }, source::dims(&w.dims)),
        None => g.ty(v).to_string(),
    });
    out
}

struct Printer {
    out: String,
    options: PrintOptions,
}

impl Printer {
    fn line(&mut self, indent: usize) {
        for _ in 0..indent {
            self.out.push_str("  ");
        }
    }

    fn graph(&mut self, g: &Graph, keyword: &str, indent: usize) {
        self.line(indent);
        let _ = write!(self.out, "{keyword} {}", print_text(&g.name));
        let inner = if keyword == "graph" { indent } else { indent + 1 };
        let symbols: Vec<String> = g.symbols().iter().map(symbol).collect();
        if !symbols.is_empty() {
            // A few fit beside the name; many stand one a line.
            let (lead, between) = if symbols.len() <= 3 {
                (" ".to_owned(), ", ".to_owned())
            } else {
                let next = format!("\n{}", "  ".repeat(inner + 1));
                (next.clone(), format!(",{next}"))
            };
            let _ = write!(self.out, " symbols{lead}{}", symbols.join(&between));
        }
        self.out.push('\n');
        for t in g.texts.iter() {
            self.line(inner);
            let _ = writeln!(self.out, "text {}", print_text(t));
        }
        for c in &g.constraints {
            self.line(inner);
            let _ = write!(self.out, "assume {} == {}", c.left, c.right);
            if !c.path.is_empty() {
                let _ = write!(self.out, "  // {}", path(&c.path));
            }
            self.out.push('\n');
        }
        let mut numbers: SecondaryMap<ValueId, Option<u32>> = SecondaryMap::default();
        let mut next = 0u32;
        for &v in g.inputs() {
            numbers[v] = Some(next);
            next += 1;
            self.line(inner);
            let name = g.value(v).name.as_deref().unwrap_or("");
            let _ = writeln!(self.out, "{}: {} = input {}", number(&numbers, v), g.ty(v), print_text(name));
        }
        for n in g.order() {
            let node = g.node(n);
            for &v in &node.results {
                numbers[v] = Some(next);
                next += 1;
            }
            self.node(g, node, &numbers, inner);
        }
        for o in g.outputs() {
            self.line(inner);
            let _ = write!(self.out, "output {} {}", print_text(&o.name), number(&numbers, o.value));
            if let Some(&input) = o.alias_of.and_then(|i| g.inputs().get(i as usize)) {
                let _ = write!(self.out, " alias {}", number(&numbers, input));
            }
            self.out.push('\n');
        }
        if keyword != "graph" {
            self.line(indent);
            self.out.push_str("end\n");
        }
    }

    fn node(&mut self, g: &Graph, node: &Node, numbers: &SecondaryMap<ValueId, Option<u32>>, indent: usize) {
        self.line(indent);
        for (i, &v) in node.results.iter().enumerate() {
            let sep = if i > 0 { ", " } else { "" };
            let _ = write!(self.out, "{sep}{}", number(numbers, v));
            if let (true, Some(name)) = (self.options.names, &g.value(v).name) {
                let _ = write!(self.out, " {}", print_text(name));
            }
            let _ = write!(self.out, ": {}", g.ty(v));
        }
        if !node.results.is_empty() {
            self.out.push_str(" = ");
        }
        operation(g, node, &mut self.out, &|v| number(numbers, v));
        self.origin(&node.origin);
        self.out.push('\n');
        for r in &node.regions {
            self.graph(r, "region", indent + 1);
        }
    }

    fn origin(&mut self, o: &Origin) {
        let rules = self.options.rules && !o.rules.is_empty();
        if o.paths.is_empty() && !rules {
            return;
        }
        let paths: Vec<String> = o.paths.iter().map(|p| path(p)).collect();
        let _ = write!(self.out, "  // {}", paths.join(", "));
        if rules {
            let _ = write!(self.out, "{}[{}]", if paths.is_empty() { "" } else { " " }, o.rules.join(", "));
        }
    }
}

/// Op, operands and attributes.
fn operation(g: &Graph, node: &Node, out: &mut String, operand: &dyn Fn(ValueId) -> String) {
    match &node.op {
        Op::Weight { weight } => match g.weights().get(*weight) {
            Some(w) => out.push_str(&source::weight(w)),
            None => out.push_str("weight<?>"),
        },
        Op::Const { value } => out.push_str(&source::constant(value)),
        op => {
            out.push_str(op.mnemonic());
            if !op.is_source() {
                let operands: Vec<String> = node.operands.iter().map(|&v| operand(v)).collect();
                let _ = write!(out, "({})", operands.join(", "));
            }
            let types: Vec<&TensorType> = node.operands.iter().map(|&v| g.ty(v)).collect();
            let site = Site { operands: &types, result: node.results.first().map(|&v| g.ty(v)) };
            attrs(op, &site, out);
        }
    }
}

fn attrs(op: &Op, site: &Site<'_>, out: &mut String) {
    let dtype = defaults::scalar_dtype(op.mnemonic(), site);
    let mut first = true;
    for (name, a) in op.attrs() {
        let usual = if a == Attr::Absent { Some(Attr::Absent) } else { defaults::attr(op.mnemonic(), name, site) };
        if usual.as_ref() == Some(&a) {
            continue;
        }
        out.push_str(if first { " {" } else { ", " });
        first = false;
        let _ = write!(out, "{name}=");
        attr(&a, dtype, out);
    }
    if !first {
        out.push('}');
    }
}

fn attr(a: &Attr, dtype: DType, out: &mut String) {
    let _ = match a {
        Attr::Int(v) => write!(out, "{v}"),
        Attr::Bool(v) => write!(out, "{v}"),
        Attr::Name(n) => write!(out, "{n}"),
        Attr::Text(t) => write!(out, "{}", print_text(t)),
        Attr::Expr(e) => write!(out, "{e}"),
        Attr::Scalar(s) => write!(out, "{}", scalar(*s, dtype)),
        Attr::List(l) => {
            out.push('[');
            for (i, a) in l.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                attr(a, dtype, out);
            }
            out.push(']');
            Ok(())
        }
        Attr::Literal(l) => write!(out, "{}", source::constant(l)),
        Attr::Weight(w) => write!(out, "{w:?}"),
        Attr::Quant(q) => write!(out, "{}", quant(q)),
        Attr::ListType(l) => write!(out, "{l}"),
        Attr::Absent => write!(out, "none"),
    };
}

/// A number, with its dtype where that is not `usual`.
fn scalar(s: Scalar, usual: DType) -> String {
    if s.dtype == usual { s.to_string() } else { format!("{} {s}", s.dtype) }
}

fn quant(q: &Quant) -> String {
    // The suffix of a quantized type says it all.
    let t = TensorType { quant: Some(Box::new(q.clone())), ..TensorType::new(DType::U8, Vec::new()) };
    t.to_string().trim_start_matches("u8[]").to_owned()
}

fn symbol(s: &crate::graph::Symbol) -> String {
    let mut out = format!("{} in {}..", print_name(&s.name), s.lo);
    if s.hi != i64::MAX {
        let _ = write!(out, "{}", s.hi);
    }
    if s.div != 1 {
        let _ = write!(out, " div {}", s.div);
    }
    out.push_str(match s.source {
        SymSource::Input => "",
        SymSource::Bind => " bind",
        SymSource::Result => " result",
    });
    out
}

fn number(numbers: &SecondaryMap<ValueId, Option<u32>>, v: ValueId) -> String {
    numbers[v].map_or_else(|| "%?".to_owned(), |n| format!("%{n}"))
}

/// A path in a comment; one that a comment cannot hold as it is stands in quotes.
fn path(p: &str) -> String {
    let plain = !p.is_empty() && p.trim() == p && !p.contains([',', '"', '[', '\\']) && !p.chars().any(char::is_control);
    if plain { p.to_owned() } else { print_text(p) }
}
