// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the parser makes of PTX text: declarations and statements, with names not yet looked up.

use super::ty::{Space, Ty};

/// An operand of a statement.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Operand<'a> {
    /// A register, special register (`%tid.x`), label, variable, or `_`.
    Name(&'a str, Option<&'a str>),
    /// A symbol and bytes behind it.
    Offset(&'a str, i64),
    Int(u64),
    F32(u32),
    F64(u64),
    /// A predicate that is negated.
    Not(&'a str),
    /// Two destinations, `d|p`.
    Pair(&'a str, &'a str),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
    /// `[base+offset, rest..]`
    Addr(Box<Operand<'a>>, i64, Vec<Operand<'a>>),
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
}

/// An instruction as it stands in the text.
#[derive(Clone, Debug)]
pub(crate) struct Stmt<'a> {
    pub line: u32,
    /// Index of its `.loc` in [`Func::locs`], plus one.
    pub loc: u32,
    /// Guard, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub name: &'a str,
    /// Suffixes without their dots.
    pub suffixes: Vec<&'a str>,
    pub operands: Vec<Operand<'a>>,
}

/// A value of an initializer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Init<'a> {
    Int(u64),
    F32(u32),
    F64(u64),
    /// Address of a symbol plus bytes, shifted right by bits and cut to the element; `true` for its generic address.
    Symbol(&'a str, i64, u32, bool),
}

/// A register, parameter or variable.
#[derive(Clone, Debug)]
pub(crate) struct Decl<'a> {
    pub line: u32,
    /// None for a register.
    pub space: Option<Space>,
    pub external: bool,
    pub align: u64,
    pub ty: Ty,
    /// Elements of a vector, 1 where it is none.
    pub vector: usize,
    pub name: &'a str,
    /// Number of registers that `name<n>` declares.
    pub range: Option<u64>,
    /// Elements of an array; None where it is none, 0 where its size is open.
    pub count: Option<u64>,
    pub init: Vec<Init<'a>>,
}

impl Decl<'_> {
    /// Bytes of the variable.
    pub fn size(&self) -> u64 {
        (self.ty.bytes() * self.vector) as u64 * self.count.unwrap_or(1)
    }

    /// Alignment of the variable: as declared, or of its type.
    pub fn alignment(&self) -> u64 {
        self.align.max((self.ty.bytes() * self.vector) as u64)
    }
}

/// What a body consists of.
#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    Enter,
    Leave,
    Decl(Decl<'a>),
    Label(&'a str, u32),
    Stmt(Stmt<'a>),
    /// `name: .branchtargets a, b;`
    Targets(&'a str, Vec<&'a str>),
}

/// A kernel or a device function.
#[derive(Clone, Debug)]
pub(crate) struct Func<'a> {
    pub line: u32,
    pub name: &'a str,
    pub entry: bool,
    pub returns: Vec<Decl<'a>>,
    pub params: Vec<Decl<'a>>,
    /// None for a declaration only.
    pub body: Option<Vec<Item<'a>>>,
    /// File and line of every `.loc`.
    pub locs: Vec<(u32, u32)>,
    pub directives: Directives,
}

/// Directives of a kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Directives {
    pub maxntid: Option<[u32; 3]>,
    pub reqntid: Option<[u32; 3]>,
    pub cluster: Option<[u32; 3]>,
}

/// A file of PTX.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ast<'a> {
    pub version: (u64, u64),
    pub target: &'a str,
    pub files: Vec<(u64, &'a str)>,
    pub vars: Vec<Decl<'a>>,
    pub funcs: Vec<Func<'a>>,
}
