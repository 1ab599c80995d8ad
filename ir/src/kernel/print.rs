// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text of kernels: one statement a line, types written where a name is defined.

use std::fmt::Write as _;

use super::{
    Access, Atom, BarRef, Block, Buffer, Cond, Digits, ElemFn, Expr, ExprId, FnId, Home, Kernel, Layout, Module, Param, Place, Place2,
    Space, StmtId, Ty, Var, VarId,
};
use crate::dtype::DType;
use crate::entity::{EntityId, PrimaryMap};
use crate::sym::{Atom as SymAtom, SymExpr, View};

mod expr;
mod stmt;

/// Words that are no names.
const WORDS: &[&str] = &[
    "kernel",
    "class",
    "fn",
    "atom",
    "origin",
    "sym",
    "param",
    "launch",
    "grid",
    "group",
    "warp",
    "shared",
    "local",
    "acc",
    "queue",
    "bar",
    "let",
    "var",
    "for",
    "in",
    "step",
    "unroll",
    "if",
    "else",
    "role",
    "warps",
    "regs",
    "each",
    "of",
    "store",
    "load",
    "gather",
    "scatter",
    "mask",
    "when",
    "valid",
    "undef",
    "copy",
    "commit",
    "wait",
    "barrier",
    "fence",
    "mma",
    "alloc",
    "prefetch",
    "assume",
    "ret",
    "select",
    "clamp",
    "fma",
    "cast",
    "bitcast",
    "splat",
    "iota",
    "extract",
    "insert",
    "concat",
    "shufflev",
    "dot4",
    "dot2",
    "dim",
    "shuffle",
    "vote",
    "atomic",
    "guard",
    "fill",
    "map",
    "reduce",
    "scan",
    "move",
    "transpose",
    "true",
    "false",
    "inf",
    "nan",
    "gx",
    "gy",
    "gz",
    "lane",
    "wlane",
    "tile",
    "frag",
    "div",
    "as",
    "via",
    "at",
    "code",
    "width",
    "signal",
    "parity",
    "floor",
    "mod",
    "ceil",
    "cast_sat",
    "status",
    "tmap",
    "ro",
    "wo",
    "rw",
    "lanes",
    "align",
    "strides",
    "alias",
    "pad",
    "xor",
    "hw",
    "box",
    "desc",
    "relaxed",
    "acq_rel",
    "swap",
];

/// Whether a word cannot be the name of a variable, buffer or function: a keyword, a type or a built-in function.
pub fn reserved(word: &str) -> bool {
    let vec_type = || {
        let (head, n) = word.rsplit_once('x').or_else(|| word.split_at_checked(4).filter(|s| s.0 == "mask"))?;
        n.parse::<u32>().ok()?;
        Some(head == "mask" || DType::from_name(head).is_some())
    };
    WORDS.contains(&word)
        || DType::from_name(word).is_some()
        || super::UnOp::from_name(word).is_some()
        || super::BinOp::from_name(word).is_some()
        || super::HOp::from_name(word).is_some()
        || vec_type().unwrap_or(false)
}

/// A legal name made of any text.
pub fn legal_name(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    if reserved(&out) {
        out.push('_');
    }
    out
}

/// Whether a text needs no quotes as a name.
pub(super) fn plain_name(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !reserved(s)
}

fn name(s: &str) -> String {
    if plain_name(s) { s.into() } else { quote(s, '`') }
}

fn quote(s: &str, q: char) -> String {
    let mut out = String::from(q);
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            c if c == q => {
                out.push('\\');
                out.push(q);
            }
            c => out.push(c),
        }
    }
    out.push(q);
    out
}

/// Text of a kernel, and where each statement stands in it.
#[derive(Clone, Debug)]
pub struct Printed {
    /// The text.
    pub text: String,
    /// Line of each statement, from 1; 0 for a statement that is in no block.
    pub lines: Lines,
}

/// Line of each statement.
pub type Lines = Vec<u32>;

impl Printed {
    /// Line of a statement, from 1; 0 for one that is in no block.
    pub fn line_of(&self, s: StmtId) -> u32 {
        self.lines.get(s.index()).copied().unwrap_or(0)
    }
    /// The text of one statement's first line.
    pub fn line(&self, s: StmtId) -> &str {
        let n = self.line_of(s);
        if n == 0 { "" } else { self.text.lines().nth(n as usize - 1).unwrap_or("").trim() }
    }
}

/// Prints atoms, functions and kernels of a module.
pub fn print_module(m: &Module) -> String {
    let mut out = String::new();
    for a in m.atoms.values() {
        out.push_str(&print_atom(a));
    }
    for f in m.fns.values() {
        out.push_str(&print_fn(m, f));
    }
    for (i, k) in m.kernels.values().enumerate() {
        if i > 0 || !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&print_kernel(m, k).text);
    }
    out
}

/// Prints one elementwise function.
pub fn print_fn(m: &Module, f: &ElemFn) -> String {
    fn_text(&m.fns, f)
}

/// Whether two functions are the same program.
pub(super) fn same_fn(fns: &PrimaryMap<FnId, ElemFn>, a: &ElemFn, b: &ElemFn) -> bool {
    fn_text(fns, a) == fn_text(fns, b)
}

fn fn_text(fns: &PrimaryMap<FnId, ElemFn>, f: &ElemFn) -> String {
    let cx = Cx { fns, atoms: None, vars: &f.vars, exprs: &f.exprs, index: DType::I64 };
    let params: Vec<String> = f.params.iter().map(|p| format!("{}: {}", cx.var_name(*p), cx.ty(&f.vars[*p].ty))).collect();
    let mut out = format!("fn {}({}) -> {} {{\n", f.name, params.join(", "), f.ret);
    for (v, e) in &f.lets {
        let ty = &f.vars[*v].ty;
        let _ = writeln!(out, "  let {}: {} = {}", cx.var_name(*v), cx.ty(ty), cx.top(*e, Some(ty)));
    }
    let _ = writeln!(out, "  ret {}\n}}", cx.top(f.result, Some(&Ty::Scalar(f.ret))));
    out
}

fn digits(ds: &Digits) -> String {
    let names = ["m", "n", "k"];
    let one = |d: &super::Digit| format!("{}.{}:{}", names[usize::from(d.dim).min(2)], d.stride, d.extent);
    ds.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn print_atom(a: &Atom) -> String {
    let [m, n, k] = a.shape;
    let [da, db, dc] = a.dtypes;
    let mut out = format!("atom {} m{m} n{n} k{k} {da} {db} {dc} lanes {}", a.name, a.lanes);
    for (o, p) in ["a", "b", "c"].iter().zip(&a.operands) {
        let p = match p {
            Place2::PerLane { lane, reg } => format!("lane[{}] reg[{}]", digits(lane), digits(reg)),
            Place2::Desc { swizzle } => format!("desc({})", swizzle.name()),
            Place2::TileReg { rows, row_bytes, pack } => format!("rows({rows}, {row_bytes}, {pack})"),
            Place2::Tile => "tile".into(),
        };
        let _ = write!(out, "\n  {o} {p}");
    }
    out.push('\n');
    out
}

/// Prints one kernel.
pub fn print_kernel(m: &Module, k: &Kernel) -> Printed {
    let cx = Cx { fns: &m.fns, atoms: Some(m), vars: &k.vars, exprs: &k.exprs, index: k.class.index() };
    let mut p = KernelPrinter { cx, k, m, out: String::new(), line: 1, lines: vec![0; k.stmts.len()], depth: 1 };
    p.header();
    p.block(&k.body);
    p.depth = 0;
    p.put("}");
    Printed { text: p.out, lines: p.lines }
}

struct KernelPrinter<'a> {
    cx: Cx<'a>,
    k: &'a Kernel,
    m: &'a Module,
    out: String,
    line: u32,
    lines: Lines,
    depth: usize,
}

impl KernelPrinter<'_> {
    fn put(&mut self, s: &str) {
        self.out.push_str(&"  ".repeat(self.depth));
        self.out.push_str(s);
        self.out.push('\n');
        self.line += 1;
    }

    fn header(&mut self) {
        let k = self.k;
        self.depth = 0;
        self.put(&format!("kernel {} class {}", k.name, k.class));
        self.depth = 1;
        for o in &k.origin {
            self.put(&format!("origin {}", quote(o, '"')));
        }
        for s in &k.syms {
            let div = if s.div == 1 { String::new() } else { format!(" div {}", s.div) };
            self.put(&format!("sym {}: {}..{}{div}", name(&s.name), s.lo, s.hi));
        }
        for p in &k.params {
            let text = match p {
                Param::Buf(b) => {
                    let b = &k.bufs[*b];
                    format!("{}: {} {}", b.name, b.mode.name(), buffer(k, b))
                }
                Param::Scalar(v) => format!("{}: {}", self.cx.var_name(*v), self.cx.ty(&k.vars[*v].ty)),
                Param::TensorMap { buf, box_, swizzle } => {
                    let b = &k.bufs[*buf];
                    let dims: Vec<String> = box_.iter().map(u32::to_string).collect();
                    format!("{}: tmap {} box[{}] {}", b.name, buffer(k, b), dims.join(", "), swizzle.name())
                }
                Param::Status(n) => format!("{n}: status"),
            };
            self.put(&format!("param {text}"));
        }
        let [x, y, z] = k.launch.grid.each_ref().map(sym_text);
        let group = match (k.launch.group, k.launch.warp) {
            (1, 1) => String::new(),
            (g, w) => format!(" group({g}) warp {w}"),
        };
        let steps = if k.launch.steps { " steps" } else { "" };
        self.put(&format!("launch grid({x}, {y}, {z}){group}{steps}"));
        self.depth = 0;
        self.put("{");
        self.depth = 1;
        for b in k.bufs.values().filter(|b| b.space != Space::Global) {
            self.put(&format!("{} {}: {}", b.space.name(), b.name, buffer(k, b)));
        }
        for q in k.queues.values() {
            self.put(&format!("queue {}", q.name));
        }
        for b in k.bars.values() {
            let dims: Vec<String> = b.dims.iter().map(u32::to_string).collect();
            let dims = if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) };
            self.put(&format!("bar {}{dims}", b.name));
        }
    }
}

fn buffer(k: &Kernel, b: &Buffer) -> String {
    let list = |v: &[SymExpr]| v.iter().map(sym_text).collect::<Vec<_>>().join(", ");
    let mut out = format!("{}[{}]", b.dtype, list(&b.dims));
    if !b.is_row_major() {
        let _ = write!(out, " strides [{}]", list(&b.strides));
    }
    if b.align != b.dtype.bytes().unwrap_or(1).min(16) {
        let _ = write!(out, " align {}", b.align);
    }
    match b.layout {
        Layout::Plain => {}
        Layout::Pad(p) => {
            let _ = write!(out, " pad {p}");
        }
        Layout::Xor { unit, shift, mask } => {
            let _ = write!(out, " xor(unit {unit}, shift {shift}, mask {mask})");
        }
        Layout::Hw(s) => {
            let _ = write!(out, " hw({})", s.name());
        }
    }
    if let Some((base, at)) = b.alias {
        let base = k.bufs.get(base).map_or("?", |b| b.name.as_str());
        let _ = write!(out, " alias {base} at {at}");
    }
    out
}

/// Text of a symbolic expression; names that are no plain names are quoted.
pub(super) fn sym_text(e: &SymExpr) -> String {
    let two = |f: &str, a: &SymExpr, b: &SymExpr| format!("{f}({}, {})", sym_text(a), sym_text(b));
    let atom = |a: &SymAtom| match a {
        SymAtom::Sym(s) => name(s),
        SymAtom::Div(a, b) => two("floor", a, b),
        SymAtom::Ceil(a, b) => two("ceil", a, b),
        SymAtom::Mod(a, b) => two("mod", a, b),
        SymAtom::Min(a, b) => two("min", a, b),
        SymAtom::Max(a, b) => two("max", a, b),
    };
    let (terms, constant) = match e.view() {
        View::Const(v) => return v.to_string(),
        View::Overflow => return "overflow".into(),
        View::Sum(t, c) => (t, c),
    };
    let mut out = String::new();
    for (c, atoms) in terms.iter().filter(|t| t.0 > 0).chain(terms.iter().filter(|t| t.0 < 0)) {
        out.push_str(match (out.is_empty(), *c < 0) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        });
        let mut factors: Vec<String> = atoms.iter().map(atom).collect();
        if c.unsigned_abs() != 1 {
            factors.insert(0, c.unsigned_abs().to_string());
        }
        out.push_str(&factors.join("*"));
    }
    match constant {
        0 => {}
        c if c > 0 => {
            let _ = write!(out, " + {c}");
        }
        c => {
            let _ = write!(out, " - {}", c.unsigned_abs());
        }
    }
    out
}

/// What expressions are printed in: a kernel or a function.
#[derive(Copy, Clone)]
struct Cx<'a> {
    fns: &'a PrimaryMap<FnId, ElemFn>,
    atoms: Option<&'a Module>,
    vars: &'a PrimaryMap<VarId, Var>,
    exprs: &'a PrimaryMap<ExprId, Expr>,
    index: DType,
}

impl Cx<'_> {
    fn var_name(&self, v: VarId) -> &str {
        self.vars.get(v).map_or("?", |v| v.name.as_str())
    }
    fn ty(&self, t: &Ty) -> String {
        match t {
            Ty::Frag(a, o) => {
                let name = self.atoms.and_then(|m| m.atoms.get(*a)).map_or("?", |a| a.name.as_str());
                format!("frag<{name}.{}>", o.name())
            }
            other => other.show(),
        }
    }
}

impl Home {
    /// The home of that name.
    pub fn from_name(s: &str) -> Option<Home> {
        Home::ALL.into_iter().find(|h| h.name() == s)
    }
}
