// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text of one function: numbered values, constants at the top, a location on every operation.

use std::collections::HashMap;
use std::fmt::{Display, Write};

/// The growing body of one `llvm.func`.
#[derive(Debug)]
pub(crate) struct Code {
    /// Constants and launch-uniform values; they dominate everything.
    pre: String,
    body: String,
    next: u32,
    depth: usize,
    loc: String,
    consts: HashMap<String, String>,
    in_pre: bool,
}

impl Code {
    /// Begins a function whose operations have that location, an alias such as `#loc3`.
    pub fn new(loc: &str) -> Self {
        Code { pre: String::new(), body: String::new(), next: 0, depth: 1, loc: loc.into(), consts: HashMap::new(), in_pre: false }
    }
    /// A value name that is not in use yet.
    pub fn fresh(&mut self) -> String {
        self.next += 1;
        format!("%{}", self.next - 1)
    }
    /// A value name that begins with a person's name for it.
    pub fn named(&mut self, name: &str) -> String {
        let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let v = self.fresh();
        format!("%{clean}.{}", &v[1..])
    }
    fn line(&mut self, text: impl Display, loc: bool) {
        let (out, depth) = if self.in_pre { (&mut self.pre, 1) } else { (&mut self.body, self.depth) };
        for _ in 0..depth {
            out.push_str("  ");
        }
        // Writing to a string does not fail.
        let _ = if loc { writeln!(out, "{text} loc({})", self.loc) } else { writeln!(out, "{text}") };
    }
    /// Adds an operation without results.
    pub fn op(&mut self, text: impl Display) {
        self.line(text, true);
    }
    /// Adds an operation with one result.
    pub fn def(&mut self, text: impl Display) -> String {
        let v = self.fresh();
        self.line(format_args!("{v} = {text}"), true);
        v
    }
    /// Opens a region: the line ends with `{`.
    pub fn open(&mut self, text: impl Display) {
        self.line(text, false);
        self.depth += 1;
    }
    /// Between two regions of one operation.
    pub fn between(&mut self, text: impl Display) {
        self.depth -= 1;
        self.line(text, false);
        self.depth += 1;
    }
    /// Closes the region of the innermost open operation.
    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("}", true);
    }
    /// Begins a block of the function.
    pub fn label(&mut self, text: impl Display) {
        let _ = writeln!(self.body, "{text}:");
    }
    /// A constant, made once per function: `literal : ty`.
    pub fn constant(&mut self, ty: &str, literal: &str) -> String {
        // A constant of i1 has no type in text: `true` and `false` are of no other.
        let text = if ty == "i1" { format!("arith.constant {literal}") } else { format!("arith.constant {literal} : {ty}") };
        self.shared(&text)
    }
    /// An operation without operands inside the function, made once at its top.
    pub fn shared(&mut self, text: &str) -> String {
        if let Some(v) = self.consts.get(text) {
            return v.clone();
        }
        let v = self.at_top(|c| c.def(text));
        self.consts.insert(text.into(), v.clone());
        v
    }
    /// Whether a value is a constant of this function.
    pub fn is_constant(&self, v: &str) -> bool {
        self.consts.values().any(|c| c == v)
    }
    /// Adds what `f` adds at the top of the function instead of here; its operands must be defined there.
    pub fn at_top<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.in_pre, true);
        let out = f(self);
        self.in_pre = before;
        out
    }
    /// The i64 constant.
    pub fn i64(&mut self, v: i64) -> String {
        self.constant("i64", &v.to_string())
    }
    /// The i32 constant.
    pub fn i32(&mut self, v: i32) -> String {
        self.constant("i32", &v.to_string())
    }
    /// The whole function: `header {`, its text, `}`.
    pub fn finish(self, header: impl Display, out: &mut String) {
        let _ = write!(out, "{header} {{\n{}{}}} loc({})\n", self.pre, self.body, self.loc);
    }
}

/// Text between quotes in MLIR.
pub(crate) fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for b in s.bytes() {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(b));
            }
            0x20..=0x7e => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\{b:02X}");
            }
        }
    }
    out.push('"');
    out
}
