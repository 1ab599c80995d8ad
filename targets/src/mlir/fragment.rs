// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix fragments in registers of lanes, products of them, and copies that pass no register.
//!
//! A fragment is a vector: of 32-bit words for a and b, whose elements lie side by side in a word, and of elements for c. Where an element
//! is follows from the atom's digits alone; the machine's table ([`super::simt::Product`]) says which digits its instruction has.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{
    Access, Atom, Block, BufId, Cond, Digits, ExprId, Layout, Lit, Op, Operand, Place, Place2, Rhs, Space, Ty, VarId, Via,
};

use super::expr::{elem_type, reg_type};
use super::kernel::{Emit, Fault};
use super::simt::Product;

/// Elements of an operand as one lane holds them.
struct Held<'a> {
    atom: &'a Atom,
    operand: Operand,
    lane: &'a Digits,
    reg: &'a Digits,
    /// Elements of a lane.
    regs: u32,
    /// Elements of a 32-bit word.
    packed: u32,
}

/// Digits without those of one value, which say nothing.
fn proper(digits: &Digits) -> Digits {
    digits.iter().filter(|d| d.extent != 1).copied().collect()
}

/// Whether operands lie as a product of the machine has them.
fn fits(atom: &Atom, p: &Product, warp: u32) -> bool {
    let alike = |a: &Place2, b: &Place2| match (a, b) {
        (Place2::PerLane { lane: la, reg: ra }, Place2::PerLane { lane: lb, reg: rb }) => {
            proper(la) == proper(lb) && proper(ra) == proper(rb)
        }
        _ => false,
    };
    let own = p.held.map(|h| h.place());
    atom.shape == p.shape
        && atom.dtypes == p.dtypes
        && u32::from(atom.lanes) == warp
        && atom.operands.iter().zip(&own).all(|(a, b)| alike(a, b))
}

impl<'a> Emit<'a> {
    fn held(&self, ty: &Ty) -> Result<Held<'a>, Fault> {
        let Ty::Frag(id, operand) = ty else { return Err("no matrix fragment".into()) };
        let atom = self.module.atoms.get(*id).ok_or("a fragment of no atom")?;
        let Place2::PerLane { lane, reg } = atom.operand(*operand) else {
            return Err(format!("operand {} of `{}` lies in no registers of lanes", operand.name(), atom.name));
        };
        let (regs, bits) = (atom.regs(*operand).unwrap_or(0), atom.dtype(*operand).bits());
        let packed = if *operand == Operand::C { 1 } else { 32 / bits.clamp(8, 32) };
        if regs == 0 || !regs.is_multiple_of(packed) || (*operand == Operand::C && bits != 32) || bits < 8 || bits > 32 {
            return Err(format!("operand {} of `{}` fills no whole registers", operand.name(), atom.name));
        }
        Ok(Held { atom, operand: *operand, lane, reg, regs, packed })
    }
    /// Number and MLIR's type of the registers of a fragment.
    fn registers(&self, ty: &Ty) -> Result<(u32, &'static str), Fault> {
        let h = self.held(ty)?;
        let elem = if h.operand == Operand::C { elem_type(h.atom.dtype(h.operand)) } else { "i32" };
        Ok((h.regs / h.packed, elem))
    }
    pub(super) fn fragment_type(&self, ty: &Ty) -> Result<String, Fault> {
        self.registers(ty).map(|(n, e)| format!("vector<{n}x{e}>"))
    }

    /// Row and column of a lane's first element.
    fn lane_coords(&mut self, h: &Held<'_>) -> [String; 2] {
        let wlane = self.lanes.as_ref().map(|l| l.position(portwright_ir::kernel::Id::WarpLane).to_string()).unwrap_or_default();
        let [r, c] = h.operand.dims();
        self.digits(h.lane, &wlane, [r, c])
    }
    /// Coordinates that a number means, by its digits.
    fn digits(&mut self, digits: &Digits, number: &str, dims: [usize; 2]) -> [String; 2] {
        let mut sums: [Option<String>; 2] = [None, None];
        let mut below = 1i64;
        for d in digits {
            let extent = i64::from(d.extent).max(1);
            let Some(axis) = dims.iter().position(|x| *x == usize::from(d.dim)) else {
                below *= extent;
                continue;
            };
            let (b, e, s) = (self.c.i64(below), self.c.i64(extent), self.c.i64(d.stride.into()));
            let v = self.c.def(format_args!("arith.divui {number}, {b} : i64"));
            let v = self.c.def(format_args!("arith.remui {v}, {e} : i64"));
            let v = self.c.def(format_args!("arith.muli {v}, {s} : i64"));
            sums[axis] = Some(match sums[axis].take() {
                Some(x) => self.c.def(format_args!("arith.addi {x}, {v} : i64")),
                None => v,
            });
            below *= extent;
        }
        sums.map(|s| s.unwrap_or_else(|| self.c.i64(0)))
    }
    fn plus(&mut self, v: &str, n: u32) -> String {
        if n == 0 {
            return v.into();
        }
        let n = self.c.i64(n.into());
        self.c.def(format_args!("arith.addi {v}, {n} overflow<nsw> : i64"))
    }

    /// Dims of an access that hold the block's first and second long extents.
    fn block_dims(&self, a: &Access) -> Result<[usize; 2], Fault> {
        let long: Vec<usize> = (0..a.len.len()).filter(|d| a.len[*d] > 1).collect();
        <[usize; 2]>::try_from(long).map_err(|_| "a fragment moves to and from a block of two long dims".into())
    }
    /// Address of the element that lies `add` from the corner of a block, of which `n` neighbors are accessed.
    fn address(&mut self, a: &Access, dims: [usize; 2], add: [&str; 2], n: u32) -> Result<String, Fault> {
        let mut at = Vec::with_capacity(a.idx.len());
        for (d, i) in a.idx.iter().enumerate() {
            let v = self.index(*i)?;
            at.push(match dims.iter().position(|x| *x == d) {
                Some(k) => self.c.def(format_args!("arith.addi {v}, {} overflow<nsw> : i64", add[k])),
                None => v,
            });
        }
        if let (Some(c), false) = (at.last().cloned(), matches!(self.k.bufs[a.buf].layout, Layout::Plain | Layout::Pad(_))) {
            let row = at.len().checked_sub(2).and_then(|d| at.get(d).cloned());
            let c = self.permuted(a.buf, row, &c, n)?;
            if let Some(last) = at.last_mut() {
                *last = c;
            }
        }
        let mut sum: Option<String> = None;
        for (d, v) in at.into_iter().enumerate() {
            let s = self.stride(a.buf, d)?;
            let term = self.c.def(format_args!("arith.muli {v}, {s} overflow<nsw> : i64"));
            sum = Some(match sum {
                Some(x) => self.c.def(format_args!("arith.addi {x}, {term} overflow<nsw> : i64")),
                None => term,
            });
        }
        self.step(a.buf, sum)
    }

    /// Sets a register of a fragment.
    fn put(&mut self, v: &str, i: u32, x: &str, t: &str) -> String {
        let at = self.c.i64(i.into());
        self.c.def(format_args!("llvm.insertelement {x}, {v}[{at} : i64] : {t}"))
    }
    fn pick(&mut self, v: &str, i: u32, t: &str) -> String {
        let at = self.c.i64(i.into());
        self.c.def(format_args!("llvm.extractelement {v}[{at} : i64] : {t}"))
    }

    pub(super) fn fragment_load(&mut self, from: &Access, order: [u8; 2], via: Via, ty: &Ty) -> Result<String, Fault> {
        if !matches!(via, Via::Lane | Via::Ldmatrix | Via::LdmatrixTrans) {
            return Err(format!("a fragment is not loaded via {}", via.name()));
        }
        let h = self.held(ty)?;
        if self.k.bufs[from.buf].dtype != h.atom.dtype(h.operand) {
            return Err("a fragment of elements of another type".into());
        }
        let dims = self.block_dims(from)?;
        if via != Via::Lane && self.whole_matrices(from, dims, order, &h, via == Via::LdmatrixTrans) {
            return self.matrices(from, dims, order, &h, via == Via::LdmatrixTrans);
        }
        let order = order.map(|o| usize::from(o.min(1)));
        let lane = self.lane_coords(&h);
        let (t, words) = (self.fragment_type(ty)?, h.regs / h.packed);
        let (buf, d) = (from.buf, h.atom.dtype(h.operand));
        let space = self.pointer(buf);
        // Elements of one word that are neighbors in memory are one load.
        let inner = h.reg.first().filter(|g| g.stride == 1 && u32::from(g.extent) >= h.packed);
        let along = inner.and_then(|g| h.operand.dims().iter().position(|x| *x == usize::from(g.dim)));
        let side_by_side = along
            .and_then(|axis| order.iter().position(|o| *o == axis))
            .is_some_and(|k| self.k.bufs[buf].strides.get(dims[k]).is_some_and(|s| s.is(1)) && self.in_unit(buf, h.packed));
        let mut out = self.c.shared(&format!("llvm.mlir.poison : {t}"));
        for w in 0..words {
            let (each, step) = if side_by_side || h.packed == 1 { (1, h.packed) } else { (h.packed, 1) };
            let mut parts = Vec::new();
            for e in 0..each {
                let c = h.atom.coord(h.operand, 0, w * h.packed + e);
                let at = [self.plus(&lane[0], c[0]), self.plus(&lane[1], c[1])];
                let p = self.address(from, dims, [&at[order[0]], &at[order[1]]], step)?;
                let align = self.bytes(buf)?;
                let whole = if h.packed == 1 {
                    elem_type(d).to_string()
                } else if side_by_side {
                    "i32".into()
                } else {
                    reg_type(&Ty::Scalar(d))
                };
                let align = if side_by_side && self.k.bufs[buf].align >= 4 { 4 } else { align };
                parts.push((self.c.def(format_args!("llvm.load {p} {{alignment = {align} : i64}} : {space} -> {whole}")), whole));
            }
            let mut word: Option<String> = None;
            for (e, (v, from)) in parts.into_iter().enumerate() {
                let v = match (h.operand, from.as_str()) {
                    (Operand::C, _) | (_, "i32") => v,
                    (_, "f32") => self.c.def(format_args!("llvm.bitcast {v} : f32 to i32")),
                    _ => self.c.def(format_args!("arith.extui {v} : {from} to i32")),
                };
                let by = self.c.i32(e as i32 * d.bits() as i32);
                word = Some(match word {
                    None => v,
                    Some(x) => {
                        let v = self.c.def(format_args!("arith.shli {v}, {by} : i32"));
                        self.c.def(format_args!("arith.ori {x}, {v} : i32"))
                    }
                });
            }
            out = self.put(&out, w, &word.ok_or("a fragment without elements")?, &t);
        }
        Ok(out)
    }
    /// Whether `n` neighbors never lie across units of permuted rows.
    fn in_unit(&self, b: BufId, n: u32) -> bool {
        match self.k.bufs[b].layout {
            Layout::Plain | Layout::Pad(_) => true,
            Layout::Xor { unit, .. } => n > 0 && unit.is_multiple_of(n),
            Layout::Hw(_) => false,
        }
    }

    /// Whether a fragment is made of whole 8 x 8 matrices of 16-bit cells (of rows of 16 bytes) in the group's memory.
    fn whole_matrices(&self, from: &Access, dims: [usize; 2], order: [u8; 2], h: &Held<'_>, turned: bool) -> bool {
        let buf = &self.k.bufs[from.buf];
        let Ok(bytes) = self.bytes(from.buf) else { return false };
        let [row, col] = order.map(|o| h.operand.dims()[usize::from(o.min(1))] as u8);
        let cells = 16 / bytes;
        // A lane holds neighbors along a row, or, of turned matrices, the 16-bit cells of neighboring rows.
        let (along, across) = if turned { (row, col) } else { (col, row) };
        let lane: Vec<(u8, u32, u32)> = proper(h.lane).iter().map(|d| (d.dim, d.stride.into(), d.extent.into())).collect();
        let packed = h.packed;
        let wanted = if packed == 1 { vec![(along, 1, 4), (across, 1, 8)] } else { vec![(along, packed, 4), (across, 1, 8)] };
        let reg = proper(h.reg);
        let first = reg.first().is_some_and(|d| d.dim == along && d.stride == 1 && u32::from(d.extent) == packed);
        let rest = if packed == 1 { &reg[..] } else { reg.get(1..).unwrap_or_default() };
        let steps = rest.iter().all(|d| {
            let unit = if d.dim == col { cells } else { 8 };
            u32::from(d.stride).is_multiple_of(unit) && d.extent.is_power_of_two()
        });
        let aligned = buf.align >= 16
            && buf.strides.iter().enumerate().all(|(d, s)| d == dims[1] || s.as_const().is_some_and(|s| (s * i64::from(bytes)) % 16 == 0));
        self.lanes.as_ref().is_some_and(|l| l.forms().matrix_loads)
            && buf.space == Space::Shared
            && buf.strides.get(dims[1]).is_some_and(|s| s.is(1))
            && dims[1] + 1 == from.idx.len()
            && (!turned || bytes == 2)
            && lane == wanted
            && (packed == 1 || first)
            && steps
            && aligned
            && self.in_unit(from.buf, cells)
    }
    fn matrices(&mut self, from: &Access, dims: [usize; 2], order: [u8; 2], h: &Held<'_>, turned: bool) -> Result<String, Fault> {
        let bytes = self.bytes(from.buf)?;
        let words = h.regs / h.packed;
        let t = format!("vector<{words}xi32>");
        let reg = proper(h.reg);
        let rest: Digits = if h.packed == 1 { reg } else { reg.into_iter().skip(1).collect() };
        let dims_of = order.map(|o| h.operand.dims()[usize::from(o.min(1))]);
        let wlane = self.lanes.as_ref().map(|l| l.position(portwright_ir::kernel::Id::WarpLane).to_string()).unwrap_or_default();
        let (three, seven) = (self.c.i64(3), self.c.i64(7));
        let line = self.c.def(format_args!("arith.andi {wlane}, {seven} : i64"));
        let block = self.c.def(format_args!("arith.shrui {wlane}, {three} : i64"));
        let mut out = self.c.shared(&format!("llvm.mlir.poison : {t}"));
        let mut at = 0;
        while at < words {
            let n = [4, 2, 1].into_iter().find(|n| at + n <= words).unwrap_or(1);
            // Each lane names a row: of matrix lane / 8 the row lane % 8. Those beyond the last matrix repeat.
            let mask = self.c.i64(i64::from(n) - 1);
            let number = self.c.def(format_args!("arith.andi {block}, {mask} : i64"));
            let number = self.plus(&number, at);
            let [r, c] = self.digits(&rest, &number, dims_of);
            let r = self.c.def(format_args!("arith.addi {r}, {line} : i64"));
            let p = self.address(from, dims, [&r, &c], 16 / bytes)?;
            let kind = if turned { ".trans" } else { "" };
            let result = if n == 1 { "i32".to_string() } else { format!("!llvm.struct<({})>", vec!["i32"; n as usize].join(", ")) };
            let v = self.computed(&format!("ldmatrix.sync.aligned.m8n8.x{n}{kind}.b16"), &[&p], "!llvm.ptr<3>", &result);
            for i in 0..n {
                let x = if n == 1 { v.clone() } else { self.c.def(format_args!("llvm.extractvalue {v}[{i}] : {result}")) };
                out = self.put(&out, at + i, &x, &t);
            }
            at += n;
        }
        if h.operand == Operand::C {
            let to = format!("vector<{words}x{}>", elem_type(h.atom.dtype(h.operand)));
            return Ok(if to == t { out } else { self.c.def(format_args!("llvm.bitcast {out} : {t} to {to}")) });
        }
        Ok(out)
    }

    pub(super) fn fragment_store(&mut self, to: &Access, val: &Place, order: [u8; 2], via: Via) -> Result<(), Fault> {
        if via != Via::Lane {
            return Err(format!("a fragment is not stored via {}", via.name()));
        }
        let ty = self.k.vars[val.var].ty.clone();
        let h = self.held(&ty)?;
        let d = h.atom.dtype(h.operand);
        if h.packed != 1 || self.k.bufs[to.buf].dtype != d {
            return Err("only accumulators are stored, as what they are".into());
        }
        let (v, t, dims) = (self.place(val)?, self.fragment_type(&ty)?, self.block_dims(to)?);
        let order = order.map(|o| usize::from(o.min(1)));
        let (lane, space, bytes) = (self.lane_coords(&h), self.pointer(to.buf), self.bytes(to.buf)?);
        for r in 0..h.regs {
            let c = h.atom.coord(h.operand, 0, r);
            let at = [self.plus(&lane[0], c[0]), self.plus(&lane[1], c[1])];
            let p = self.address(to, dims, [&at[order[0]], &at[order[1]]], 1)?;
            let x = self.pick(&v, r, &t);
            self.c.op(format_args!("llvm.store {x}, {p} {{alignment = {bytes} : i64}} : {}, {space}", elem_type(d)));
        }
        Ok(())
    }

    pub(super) fn fragment_fill(&mut self, e: ExprId, ty: &Ty) -> Result<String, Fault> {
        let h = self.held(ty)?;
        let (n, elem) = self.registers(ty)?;
        let zero = matches!(self.k.exprs[e].op, Op::Lit(Lit::Int(0))) || self.k.exprs[e].op == Op::Lit(Lit::float(0.0));
        let t = format!("vector<{n}x{elem}>");
        if zero {
            let text = if elem == "f32" { "dense<0.0>" } else { "dense<0>" };
            return Ok(self.c.constant(&t, text));
        }
        if h.packed != 1 {
            return Err("operands of a product begin with zeros".into());
        }
        let v = self.expr(e)?;
        Ok(self.c.def(format_args!("vector.broadcast {v} : {elem} to {t}")))
    }

    /// A fragment as the vector of what a lane holds, or the other way round: the same bits.
    pub(super) fn fragment_move(&mut self, from: &Place, ty: &Ty) -> Result<String, Fault> {
        let own = self.k.vars[from.var].ty.clone();
        let spelled = |e: &Self, t: &Ty| match t {
            Ty::Frag(..) => e.fragment_type(t),
            Ty::Scalar(_) | Ty::Vec(..) => Ok(reg_type(t)),
            _ => Err("a move of what lies in no registers of lanes".into()),
        };
        let (v, from, to) = (self.place(from)?, spelled(self, &own)?, spelled(self, ty)?);
        Ok(if from == to { v } else { self.c.def(format_args!("llvm.bitcast {v} : {from} to {to}")) })
    }

    /// The body for every register of an accumulator, or every vector of its neighbors.
    pub(super) fn each(&mut self, frag: &Place, val: VarId, coords: [VarId; 2], body: &Block) -> Result<(), Fault> {
        let ty = self.k.vars[frag.var].ty.clone();
        let h = self.held(&ty)?;
        let n = u32::from(self.k.vars[val].ty.lanes().unwrap_or(1)).max(1);
        if h.packed != 1 || !h.regs.is_multiple_of(n) {
            return Err("`each` over a fragment whose registers are no elements".into());
        }
        let (v, t) = (self.place(frag)?, self.fragment_type(&ty)?);
        let lane = self.lane_coords(&h);
        for g in 0..h.regs / n {
            let x = if n == 1 { self.pick(&v, g, &t) } else { self.shuffle(&v, &v, (g * n..(g + 1) * n).map(|i| i as i32), &t) };
            self.regs.insert(val, vec![Some(x)]);
            let c = h.atom.coord(h.operand, 0, g * n);
            for axis in 0..2 {
                let at = self.plus(&lane[axis], c[axis]);
                let to = self.k.vars[coords[axis]].ty.clone();
                let at = self.cast(&at, &Ty::Scalar(DType::I64), &to, false)?;
                self.regs.insert(coords[axis], vec![Some(at)]);
            }
            self.block(body)?;
        }
        Ok(())
    }

    pub(super) fn product(&mut self, r: &Rhs) -> Result<String, Fault> {
        let Rhs::Mma { atom, a, b, c } = r else { return Err("no product".into()) };
        let def = self.module.atoms.get(*atom).ok_or("a product by no atom")?;
        let forms = self.forms()?;
        let turned = def.swapped(def.name.clone());
        let straight = forms.products.iter().find(|p| fits(def, p, forms.warp));
        // The transposed product is the same instruction with its factors exchanged.
        let p = straight.or_else(|| forms.products.iter().find(|p| fits(&turned, p, forms.warp)));
        let p = p.ok_or_else(|| format!("no instruction of this machine computes `{}`", def.name))?;
        let (a, b) = if straight.is_some() { (a, b) } else { (b, a) };
        let (mut args, mut types) = (Vec::new(), Vec::new());
        for place in [a, b, c] {
            let ty = self.k.vars[place.var].ty.clone();
            let (n, elem) = self.registers(&ty)?;
            let (v, t) = (self.place(place)?, format!("vector<{n}x{elem}>"));
            let operand = !matches!(ty, Ty::Frag(_, Operand::C));
            for i in 0..n {
                let x = self.pick(&v, i, &t);
                let (x, xt) = if operand && p.operand != elem {
                    (self.c.def(format_args!("llvm.bitcast {x} : {elem} to {}", p.operand)), p.operand)
                } else {
                    (x, elem)
                };
                args.push(x);
                types.push(xt);
            }
        }
        let ty = self.k.vars[c.var].ty.clone();
        let (n, elem) = self.registers(&ty)?;
        let result = format!("!llvm.struct<({})>", vec![elem; n as usize].join(", "));
        let v =
            self.c.def(format_args!("llvm.call_intrinsic \"{}\"({}) : ({}) -> {result}", p.intrinsic, args.join(", "), types.join(", ")));
        let t = format!("vector<{n}x{elem}>");
        let mut out = self.c.shared(&format!("llvm.mlir.poison : {t}"));
        for i in 0..n {
            let x = self.c.def(format_args!("llvm.extractvalue {v}[{i}] : {result}"));
            out = self.put(&out, i, &x, &t);
        }
        Ok(out)
    }

    /// A copy from global memory to the group's that passes no register; one that has no such form lands at once.
    pub(super) fn copy_async(&mut self, dst: &Access, src: &Access, cond: &Cond, other: Option<ExprId>) -> Result<(), Fault> {
        let n = u16::try_from(dst.elems()).map_err(|_| "a copy of too many elements")?;
        let zero = other.is_none_or(|o| {
            let op = &self.k.exprs[o].op;
            matches!(op, Op::Lit(Lit::Int(0))) || *op == Op::Lit(Lit::float(0.0))
        });
        let bytes = self.bytes(dst.buf).map_or(0, |b| b * u32::from(n));
        let whole = matches!(bytes, 4 | 8 | 16) && self.alignment(dst.buf, n)? == bytes && self.alignment(src.buf, n)? == bytes;
        let plain = self.k.bufs[src.buf].space == Space::Global && self.k.bufs[dst.buf].space == Space::Shared;
        if !(self.forms()?.async_copies && zero && whole && plain) || matches!(cond, Cond::Mask(_)) {
            let v = self.load(src, cond, other)?;
            let ty = Ty::of(self.k.bufs[dst.buf].dtype, n.into());
            return self.store_value(dst, &v, &ty);
        }
        let (to, from) = (self.place_of(dst)?, self.place_of(src)?);
        if to.stride.is_some() || from.stride.is_some() {
            return Err("an asynchronous copy of elements that are apart".into());
        }
        let size = match cond {
            Cond::Always | Cond::Mask(_) => None,
            Cond::When(e) => {
                let (on, all, none) = (self.expr(*e)?, self.c.i32(bytes as i32), self.c.i32(0));
                Some(self.c.def(format_args!("arith.select {on}, {all}, {none} : i32")))
            }
            Cond::Valid(v) => match v.as_slice() {
                [] => None,
                [e] => {
                    let ty = self.k.exprs[*e].ty.clone();
                    let v = self.expr(*e)?;
                    let t = reg_type(&ty);
                    let (low, high) = (self.int_const(&ty, 0), self.int_const(&ty, n.into()));
                    let v = self.c.def(format_args!("arith.maxsi {v}, {low} : {t}"));
                    let v = self.c.def(format_args!("arith.minsi {v}, {high} : {t}"));
                    let v = self.cast(&v, &ty, &Ty::Scalar(DType::I32), false)?;
                    let one = self.c.i32((bytes / u32::from(n).max(1)) as i32);
                    Some(self.c.def(format_args!("arith.muli {v}, {one} : i32")))
                }
                _ => return Err("a copy that is valid in two dims".into()),
            },
        };
        // Whole lines pass by the first-level cache.
        let cache = if bytes == 16 { "cg" } else { "ca" };
        match size {
            None => self.intrinsic(&format!("cp.async.{cache}.shared.global.{bytes}"), &[&to.ptr, &from.ptr], "!llvm.ptr<3>, !llvm.ptr<1>"),
            Some(s) => {
                let name = format!("cp.async.{cache}.shared.global.{bytes}.s");
                self.intrinsic(&name, &[&to.ptr, &from.ptr, &s], "!llvm.ptr<3>, !llvm.ptr<1>, i32");
            }
        }
        Ok(())
    }
}
