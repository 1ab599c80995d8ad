// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A file of PTX, decoded: kernels, functions and variables, with shared memory laid out.

use std::collections::{BTreeMap, BTreeSet};

use super::PtxError;
use super::ast::{Decl, Init};
use super::decode::{Globals, Sym, decode, splat};
use super::instr::{Atom, Code, Op, Order};
use super::parse::parse;
use super::ty::Space;

/// A variable of a module or of one of its functions.
#[derive(Clone, Debug)]
pub struct Var {
    /// Name.
    pub name: String,
    /// Global, constant or shared.
    pub space: Space,
    /// Alignment of its address.
    pub align: u64,
    /// Bytes; 0 for dynamic shared memory.
    pub size: u64,
    /// Whether it is dynamic shared memory, which begins behind all static one.
    pub dynamic: bool,
    /// First bytes; the rest is zero.
    pub data: Vec<u8>,
    /// Addresses in its data: offset, bytes, variable, bytes behind it, bits that it is shifted by.
    pub refs: Vec<(usize, usize, Target, i64, u32)>,
    /// Address: in shared memory from the start, in device memory when the module is loaded.
    pub address: u64,
}

/// What an address in a variable's data is the address of.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A variable.
    Var(u32),
    /// A function.
    Func(u32),
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Name.
    pub name: String,
    /// Number of its function.
    pub func: u32,
    /// Offset and bytes of every parameter.
    pub params: Vec<(u32, u32)>,
    /// Bytes of static shared memory.
    pub shared: u64,
    /// Threads of a group that it demands.
    pub reqntid: Option<[u32; 3]>,
    /// Most threads of a group.
    pub maxntid: Option<[u32; 3]>,
    /// Groups of a cluster that it demands.
    pub cluster: Option<[u32; 3]>,
    /// Whether groups can speak to each other through device memory: atomics there, or accesses with an order.
    pub communicates: bool,
}

/// Decoded PTX.
#[derive(Debug, Default)]
pub struct Module {
    /// ISA version of the text.
    pub version: (u64, u64),
    /// Architecture that it was made for.
    pub target: String,
    /// Functions and kernels.
    pub codes: Vec<Code>,
    /// Kernels by name.
    pub kernels: BTreeMap<String, Kernel>,
    /// Variables.
    pub vars: Vec<Var>,
    /// Source files by the number that `.loc` gives.
    pub files: BTreeMap<u64, String>,
}

impl Module {
    /// Parses and decodes PTX of the ISA's versions 6 to 9.
    ///
    /// # Errors
    /// The line and what is wrong there, or what the machine does not execute.
    pub fn parse(text: &str) -> Result<Module, PtxError> {
        let ast = parse(text)?;
        let mut module = Module {
            version: ast.version,
            target: ast.target.to_owned(),
            files: ast.files.iter().map(|(i, n)| (*i, (*n).to_owned())).collect(),
            ..Module::default()
        };
        let mut globals = Globals::new();
        for v in &ast.vars {
            globals.insert(v.name, Sym::Var(module.vars.len() as u32));
            module.vars.push(var(v)?);
        }
        // A function's number is its place among those with a body.
        let mut n = 0;
        for f in &ast.funcs {
            if f.body.is_some() {
                globals.insert(f.name, Sym::Func(n));
                n += 1;
            }
        }
        let mut inits: Vec<Decl<'_>> = ast.vars.clone();
        for f in ast.funcs.iter().filter(|f| f.body.is_some()) {
            let vars = &mut module.vars;
            let code = decode(f, &globals, &mut |d| {
                vars.push(var(d)?);
                inits.push(d.clone());
                Ok(vars.len() as u32 - 1)
            })?;
            if f.entry {
                let kernel = Kernel {
                    name: f.name.to_owned(),
                    func: module.codes.len() as u32,
                    params: code.formals.clone(),
                    shared: 0,
                    reqntid: f.directives.reqntid,
                    maxntid: f.directives.maxntid,
                    cluster: f.directives.cluster,
                    communicates: false,
                };
                module.kernels.insert(kernel.name.clone(), kernel);
            }
            module.codes.push(code);
        }
        for (i, d) in inits.iter().enumerate() {
            init(&mut module.vars[i], d, &globals)?;
        }
        module.layout();
        Ok(module)
    }

    /// All functions that a kernel may run.
    fn reach(&self, from: u32) -> BTreeSet<u32> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(f) = open.pop() {
            if seen.insert(f) {
                open.extend(&self.codes[f as usize].uses);
            }
        }
        seen
    }

    /// Gives shared variables their addresses: one each, the same for every kernel that uses it, and dynamic memory behind the rest.
    fn layout(&mut self) {
        let reach: Vec<(String, BTreeSet<u32>)> = self.kernels.values().map(|k| (k.name.clone(), self.reach(k.func))).collect();
        let mut top: Vec<u64> = vec![0; reach.len()];
        for dynamic in [false, true] {
            for v in 0..self.vars.len() {
                if self.vars[v].space != Space::Shared || self.vars[v].dynamic != dynamic {
                    continue;
                }
                let users: Vec<usize> = (0..reach.len())
                    .filter(|k| reach[*k].1.iter().any(|f| self.codes[*f as usize].relocs.iter().any(|r| r.var as usize == v)))
                    .collect();
                let at = users.iter().map(|k| top[*k]).max().unwrap_or(0).next_multiple_of(self.vars[v].align.max(1));
                self.vars[v].address = at;
                for k in users {
                    top[k] = if dynamic { top[k].max(at) } else { at + self.vars[v].size };
                }
            }
        }
        for (k, (name, funcs)) in reach.iter().enumerate() {
            let communicates = funcs.iter().any(|f| communicates(&self.codes[*f as usize]));
            if let Some(kernel) = self.kernels.get_mut(name) {
                kernel.shared = top[k];
                kernel.communicates = communicates;
            }
        }
        self.patch(Space::Shared);
    }

    /// Writes the addresses of variables in a space into the constants that are them.
    pub(crate) fn patch(&mut self, space: Space) {
        for code in &mut self.codes {
            for r in &code.relocs {
                let v = &self.vars[r.var as usize];
                if (v.space == Space::Shared) == (space == Space::Shared) {
                    for (i, row) in splat(v.address.wrapping_add(r.offset as u64), r.wide).into_iter().enumerate() {
                        code.consts[r.at as usize + i].1 = row;
                    }
                }
            }
        }
    }
}

fn communicates(code: &Code) -> bool {
    let outside = |s: Space| matches!(s, Space::Global | Space::Generic);
    code.instrs.iter().any(|i| match i.op {
        Op::Ld(m) | Op::St(m) => outside(m.space) && m.order != Order::Weak,
        Op::Atom(_) => code.atoms.iter().any(|Atom { mem, .. }| outside(mem.space)),
        _ => false,
    })
}

fn var(d: &Decl<'_>) -> Result<Var, PtxError> {
    let space = match d.space {
        Some(s @ (Space::Global | Space::Const | Space::Shared)) => s,
        _ => return Err(PtxError::new(d.line, format!("{} lies in no memory", d.name))),
    };
    // `.extern .shared x[]` is what a launch adds; any other extern has no definition here.
    let dynamic = space == Space::Shared && d.external;
    if d.external && !dynamic {
        return Err(PtxError::new(d.line, format!("{} is defined in another module", d.name)));
    }
    let size = d.size();
    if size > 1 << 32 {
        return Err(PtxError::new(d.line, format!("{} has more than 4 GiB", d.name)));
    }
    let size = if dynamic { 0 } else { size };
    Ok(Var { name: d.name.to_owned(), space, align: d.alignment(), size, dynamic, data: Vec::new(), refs: Vec::new(), address: 0 })
}

fn init(v: &mut Var, d: &Decl<'_>, globals: &Globals<'_>) -> Result<(), PtxError> {
    let bytes = d.ty.bytes();
    if (d.init.len() * bytes) as u64 > v.size {
        return Err(PtxError::new(d.line, format!("{} has more values than elements", d.name)));
    }
    for x in &d.init {
        let value = match *x {
            Init::Int(n) => n,
            Init::F32(n) if bytes == 8 => f64::from(f32::from_bits(n)).to_bits(),
            Init::F32(n) => n.into(),
            Init::F64(n) if bytes == 4 => (f64::from_bits(n) as f32).to_bits().into(),
            Init::F64(n) => n,
            Init::Symbol(name, offset, shift, _) => {
                let target = match globals.get(name) {
                    Some(Sym::Var(i)) => Target::Var(*i),
                    Some(Sym::Func(i)) => Target::Func(*i),
                    _ => return Err(PtxError::new(d.line, format!("{name} is not known"))),
                };
                v.refs.push((v.data.len(), bytes.min(8), target, offset, shift));
                0
            }
        };
        v.data.extend(value.to_le_bytes().iter().copied().chain(std::iter::repeat(0)).take(bytes));
    }
    Ok(())
}
