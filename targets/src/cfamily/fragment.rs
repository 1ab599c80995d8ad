// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix fragments: vectors of the elements that a lane holds, by the digits of their atoms, and the vendor's builtins that multiply them.

use portwright_ir::kernel::{Access, Atom, Block, Digits, Layout, Operand, Place, Place2, Rhs, Ty, VarId, Via};

use super::Builtin;
use super::dialect::fill;
use super::expr::{Prec, Text, elem};
use super::kernel::{Emit, Fault};
use super::memory::{pointer, sum};

/// Digits without those of one value, which say nothing.
fn proper(digits: &Digits) -> Digits {
    digits.iter().filter(|d| d.extent != 1).copied().collect()
}

/// Whether operands lie as a product of the machine has them.
fn fits(atom: &Atom, own: &Atom) -> bool {
    let alike = |a: &Place2, b: &Place2| match (a, b) {
        (Place2::PerLane { lane: la, reg: ra }, Place2::PerLane { lane: lb, reg: rb }) => {
            proper(la) == proper(lb) && proper(ra) == proper(rb)
        }
        _ => false,
    };
    atom.shape == own.shape
        && atom.dtypes == own.dtypes
        && atom.lanes == own.lanes
        && atom.operands.iter().zip(&own.operands).all(|(a, b)| alike(a, b))
}

/// A sum of a number that is known and one that is not.
fn plus(v: &Text, n: u32) -> Text {
    match (n, v.text.as_str()) {
        (0, _) => v.clone(),
        (_, "0") => Text { text: n.to_string(), prec: Prec::Whole, loose: true },
        _ => Text::of(Prec::Sum, format!("{} + {n}", v.at(Prec::Sum))),
    }
}

impl<'a> Emit<'a> {
    fn held(&self, ty: &Ty) -> Result<(&'a Atom, Operand, u32), Fault> {
        let Ty::Frag(id, operand) = ty else { return Err("no matrix fragment".into()) };
        let atom = self.module.atoms.get(*id).ok_or("a fragment of no atom")?;
        if !matches!(atom.operand(*operand), Place2::PerLane { .. }) {
            return Err(format!("operand {} of `{}` lies in no registers of lanes", operand.name(), atom.name));
        }
        let (regs, bits) = (atom.regs(*operand).unwrap_or(0), atom.dtype(*operand).bits());
        if regs == 0 || !(8..=32).contains(&bits) || !(regs * bits).is_multiple_of(32) {
            return Err(format!("operand {} of `{}` fills no whole registers", operand.name(), atom.name));
        }
        Ok((atom, *operand, regs))
    }
    pub(super) fn fragment_type(&self, ty: &Ty) -> Result<String, Fault> {
        self.held(ty).map(|(atom, o, regs)| format!("pw_vec<{}, {regs}>", elem(atom.dtype(o))))
    }

    /// Row and column of a lane's first element, computed once a kernel.
    fn lane_coords(&mut self, atom: &Atom, o: Operand) -> [Text; 2] {
        let Place2::PerLane { lane, .. } = atom.operand(o) else { return [0, 1].map(|_| Text::whole("0")) };
        let wlane = self.warp_lane();
        let dims = o.dims();
        let mut sums: [Vec<Text>; 2] = [Vec::new(), Vec::new()];
        let mut below = 1u32;
        for d in proper(lane) {
            let extent = u32::from(d.extent).max(1);
            if let Some(axis) = dims.iter().position(|x| *x == usize::from(d.dim)) {
                let mut v = wlane.clone();
                if below > 1 {
                    v = format!("{v} / {below}");
                }
                if below * extent < u32::from(atom.lanes) {
                    v = format!("{v} % {extent}");
                }
                if d.stride > 1 {
                    v = format!("{v} * {}", d.stride);
                }
                sums[axis].push(Text::of(if v == wlane { Prec::Whole } else { Prec::Product }, v));
            }
            below *= extent;
        }
        let [r, c] = sums.map(sum);
        let mut name = |v: Text, what: &str| match v.prec {
            Prec::Whole => v,
            _ => Text::whole(self.once(&format!("{}_{what}", o.name()), "const int", &v.text)),
        };
        [name(r, "row"), name(c, "column")]
    }
    /// Dims of an access that hold the block's first and second long extents.
    fn block_dims(&self, a: &Access) -> Result<[usize; 2], Fault> {
        let long: Vec<usize> = (0..a.len.len()).filter(|d| a.len[*d] > 1).collect();
        <[usize; 2]>::try_from(long).map_err(|_| "a fragment moves to and from a block of two long dims".into())
    }
    /// Address of the element that lies `add` from the corner of a block, of which `n` neighbors are accessed.
    fn address(&mut self, a: &Access, dims: [usize; 2], add: [&Text; 2], n: u32) -> Result<Text, Fault> {
        let mut at = Vec::with_capacity(a.idx.len());
        for (d, i) in a.idx.iter().enumerate() {
            let v = self.expr(*i)?;
            at.push(match dims.iter().position(|x| *x == d) {
                Some(k) => sum(vec![v, add[k].clone()]),
                None => v,
            });
        }
        if let (Some(c), false) = (at.last().cloned(), matches!(self.k.bufs[a.buf].layout, Layout::Plain | Layout::Pad(_))) {
            let row = at.len().checked_sub(2).and_then(|d| at.get(d)).map(|r| r.text.clone());
            let c = self.exchanged(a.buf, row, &c.text, n)?;
            if let Some(last) = at.last_mut() {
                *last = c;
            }
        }
        let mut terms = Vec::with_capacity(at.len());
        for (d, v) in at.into_iter().enumerate() {
            terms.push(self.term(a.buf, d, v, false)?);
        }
        Ok(sum(terms))
    }

    pub(super) fn fragment_load(&mut self, to: &str, from: &Access, order: [u8; 2], via: Via, ty: &Ty) -> Result<(), Fault> {
        if via != Via::Lane {
            return Err(format!("a fragment is not loaded via {}", via.name()));
        }
        let (atom, o, regs) = self.held(ty)?;
        let d = atom.dtype(o);
        if self.k.bufs[from.buf].dtype != d {
            return Err("a fragment of elements of another type".into());
        }
        let (dims, order) = (self.block_dims(from)?, order.map(|o| usize::from(o.min(1))));
        let lane = self.lane_coords(atom, o);
        let name = self.buffer(from.buf)?;
        let n = self.neighbors(from, dims, order, atom, o)?;
        for r in (0..regs).step_by(n as usize) {
            let c = atom.coord(o, 0, r);
            let at = [plus(&lane[0], c[0]), plus(&lane[1], c[1])];
            let at = self.address(from, dims, [&at[order[0]], &at[order[1]]], n)?;
            match n {
                1 => self.line(format!("{to}[{r}] = {name}[{}];", at.text)),
                _ if n == regs => self.line(format!("{to} = pw_load<{n}>({});", pointer(&name, &at))),
                _ => self.line(format!("*(pw_vec<{}, {n}> *)(void *)&{to}[{r}] = pw_load<{n}>({});", elem(d), pointer(&name, &at))),
            }
        }
        Ok(())
    }
    /// How many elements of a lane are neighbors in memory that one access takes: those of the first digit of the register, where it runs
    /// along memory and every step of the other dims is a multiple of it.
    fn neighbors(&self, a: &Access, dims: [usize; 2], order: [usize; 2], atom: &Atom, o: Operand) -> Result<u32, Fault> {
        let Place2::PerLane { reg, lane } = atom.operand(o) else { return Ok(1) };
        let Some(first) = proper(reg).first().copied().filter(|d| d.stride == 1) else { return Ok(1) };
        let n = u32::from(first.extent);
        let axis = o.dims().iter().position(|x| *x == usize::from(first.dim));
        let Some(dim) = axis.and_then(|x| order.iter().position(|o| *o == x)).map(|k| dims[k]) else { return Ok(1) };
        let buf = &self.k.bufs[a.buf];
        let unit = match buf.layout {
            Layout::Plain | Layout::Pad(_) => true,
            Layout::Xor { unit, .. } => unit.is_multiple_of(n),
            Layout::Hw(_) => false,
        };
        let apart = |d: usize| buf.strides.get(d).and_then(|s| s.as_const()).is_some_and(|s| s % i64::from(n) == 0);
        let rows = (0..a.idx.len()).all(|d| d == dim || apart(d));
        // Lanes and registers move along memory by whole groups of neighbors, and so do blocks.
        let whole = |ds: &Digits| ds.iter().all(|d| d.dim != first.dim || u32::from(d.stride).is_multiple_of(n));
        let steps = whole(lane) && whole(&proper(reg).into_iter().skip(1).collect());
        let begins = a.len.get(dim).is_some_and(|l| l.is_multiple_of(n));
        let along = buf.strides.get(dim).is_some_and(|s| s.is(1)) && dim + 1 == a.idx.len();
        let fits = u16::try_from(n).is_ok_and(|n| self.aligned(a.buf, n).unwrap_or(false));
        Ok(if along && unit && rows && steps && begins && fits { n } else { 1 })
    }

    pub(super) fn fragment_store(&mut self, to: &Access, val: &Place, order: [u8; 2], via: Via) -> Result<(), Fault> {
        if via != Via::Lane {
            return Err(format!("a fragment is not stored via {}", via.name()));
        }
        let ty = self.k.vars[val.var].ty.clone();
        let (atom, o, regs) = self.held(&ty)?;
        if self.k.bufs[to.buf].dtype != atom.dtype(o) {
            return Err("a fragment is stored as what it is".into());
        }
        let (v, dims, order) = (self.place(val)?, self.block_dims(to)?, order.map(|o| usize::from(o.min(1))));
        let (lane, name) = (self.lane_coords(atom, o), self.buffer(to.buf)?);
        for r in 0..regs {
            let c = atom.coord(o, 0, r);
            let at = [plus(&lane[0], c[0]), plus(&lane[1], c[1])];
            let at = self.address(to, dims, [&at[order[0]], &at[order[1]]], 1)?;
            self.line(format!("{name}[{}] = {v}[{r}];", at.text));
        }
        Ok(())
    }

    pub(super) fn fragment_fill(&mut self, value: &str, ty: &Ty) -> Result<String, Fault> {
        let (atom, o, regs) = self.held(ty)?;
        Ok(format!("pw_splat<{}, {regs}>({value})", elem(atom.dtype(o))))
    }

    /// The body for every register of an accumulator, or every vector of its neighbors.
    pub(super) fn each(&mut self, frag: &Place, val: VarId, coords: [VarId; 2], body: &Block) -> Result<(), Fault> {
        let (atom, o, regs) = self.held(&self.k.vars[frag.var].ty)?;
        let n = u32::from(self.k.vars[val].ty.lanes().unwrap_or(1)).max(1);
        if !regs.is_multiple_of(n) {
            return Err("`each` over a fragment whose registers are no elements".into());
        }
        let (v, lane) = (self.place(frag)?, self.lane_coords(atom, o));
        let d = atom.dtype(o);
        for g in (0..regs).step_by(n as usize) {
            self.open("{");
            let name = self.names.name(&self.k.vars[val].name);
            if n == 1 {
                self.line(format!("const {} {name} = {v}[{g}];", elem(d)));
            } else {
                let list: Vec<String> = (g..g + n).map(|i| i.to_string()).collect();
                self.line(format!("const pw_vec<{}, {n}> {name} = pw_pick<{}>({v}, {v});", elem(d), list.join(", ")));
            }
            self.vars.insert(val, name);
            let c = atom.coord(o, 0, g);
            for axis in 0..2 {
                let var = &self.k.vars[coords[axis]];
                let name = self.names.name(&var.name);
                let t = super::expr::register(&var.ty);
                self.line(format!("const {t} {name} = {};", plus(&lane[axis], c[axis]).text));
                self.vars.insert(coords[axis], name);
            }
            self.block(body)?;
            self.close();
        }
        Ok(())
    }

    pub(super) fn product(&mut self, r: &Rhs) -> Result<String, Fault> {
        let Rhs::Mma { atom, a, b, c } = r else { return Err("no product".into()) };
        let def = self.module.atoms.get(*atom).ok_or("a product by no atom")?;
        let turned = def.swapped(def.name.clone());
        let table = self.dialect.products;
        let straight = table.iter().position(|p| fits(def, &p.fragment.atom()));
        // The transposed product is the same instruction with its factors exchanged.
        let at = straight.or_else(|| table.iter().position(|p| fits(&turned, &p.fragment.atom())));
        let at = at.ok_or_else(|| format!("no instruction of this machine computes `{}`", def.name))?;
        let (a, b) = if straight.is_some() { (a, b) } else { (b, a) };
        self.shared.products.insert(at);
        let (a, b, c) = (self.place(a)?, self.place(b)?, self.place(c)?);
        Ok(format!("{}({a}, {b}, {c})", table[at].name()))
    }
}

impl Builtin {
    /// Name of the function of a file that calls it.
    fn name(&self) -> String {
        format!("pw_{}", self.fragment.name)
    }
    /// The function that calls it with vectors of elements.
    pub(super) fn function(&self) -> String {
        let atom = self.fragment.atom();
        let [a, b, c] =
            [Operand::A, Operand::B, Operand::C].map(|o| format!("pw_vec<{}, {}>", elem(atom.dtype(o)), atom.regs(o).unwrap_or(0)));
        let words = ["a", "b", "c"];
        let args: Vec<String> = words.iter().zip(self.operands).map(|(w, t)| format!("pw_bits<{t}>({w})")).collect();
        let args: Vec<(&str, &str)> = words.iter().copied().zip(args.iter().map(String::as_str)).collect();
        let call = fill(self.call, &args);
        format!("PW_FN {c} {}({a} a, {b} b, {c} c) {{ return pw_bits<{c}>({call}); }}\n", self.name())
    }
}
