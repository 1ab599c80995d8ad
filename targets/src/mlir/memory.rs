// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory of Kernel IR: addresses, loads, stores, gathers, scatters, tile registers.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Access, AtomicOp, BufId, CmpOp, Cond, ExprId, Fence, Layout, Order, Place, Place2, Rhs, Space, Stmt, Ty, Via};

use super::expr::{elem_type, mem_type, reg_type, shaped};
use super::kernel::{Emit, Fault};

/// How the elements of an access lie.
pub(super) struct Block {
    /// Address of the first element.
    pub ptr: String,
    /// Type of the address.
    pub space: &'static str,
    /// Number of elements.
    pub n: u16,
    /// Their distance in elements, if it is not 1.
    pub stride: Option<String>,
}

impl Emit<'_> {
    pub(super) fn bytes(&self, b: BufId) -> Result<u32, Fault> {
        let buf = &self.k.bufs[b];
        buf.dtype.bytes().ok_or_else(|| format!("`{}` holds {}, which shares bytes", buf.name, buf.dtype))
    }
    /// An index as i64.
    pub(super) fn index(&mut self, e: ExprId) -> Result<String, Fault> {
        let ty = self.k.exprs[e].ty.clone();
        let v = self.expr(e)?;
        self.cast(&v, &ty, &ty.with_elem(DType::I64), false)
    }
    pub(super) fn stride(&mut self, b: BufId, dim: usize) -> Result<String, Fault> {
        let s = self.k.bufs[b].strides.get(dim).cloned().ok_or("an index without a stride")?;
        self.dim(&s)
    }
    /// Offset of the first element in elements; `None` for 0.
    pub(super) fn offset(&mut self, a: &Access) -> Result<Option<String>, Fault> {
        let mut sum: Option<String> = None;
        for (d, i) in a.idx.iter().enumerate() {
            let permuted = d + 1 == a.idx.len() && !matches!(self.k.bufs[a.buf].layout, Layout::Plain | Layout::Pad(_));
            if self.const_int(*i) == Some(0) && !permuted {
                continue;
            }
            let i = self.index(*i)?;
            let i = match permuted {
                true if a.elems() == a.len.last().copied().unwrap_or(1) => {
                    let row = d.checked_sub(1).and_then(|r| a.idx.get(r).copied());
                    let row = row.map(|r| self.index(r)).transpose()?;
                    self.permuted(a.buf, row, &i, a.elems())?
                }
                true => return Err(format!("a block of `{}` in several of its permuted rows", self.k.bufs[a.buf].name)),
                false => i,
            };
            let unit = self.k.bufs[a.buf].strides.get(d).is_some_and(|s| s.is(1));
            let term = if unit {
                i
            } else {
                let s = self.stride(a.buf, d)?;
                self.c.def(format_args!("arith.muli {i}, {s} overflow<nsw> : i64"))
            };
            sum = Some(match sum {
                Some(s) => self.c.def(format_args!("arith.addi {s}, {term} overflow<nsw> : i64")),
                None => term,
            });
        }
        Ok(sum)
    }
    pub(super) fn step(&mut self, b: BufId, offset: Option<String>) -> Result<String, Fault> {
        let base = self.buffer(b)?;
        let Some(o) = offset else { return Ok(base) };
        let t = mem_type(self.k.bufs[b].dtype);
        let p = self.pointer(b);
        Ok(self.c.def(format_args!("llvm.getelementptr {base}[{o}] : ({p}, i64) -> {p}, {t}")))
    }
    /// MLIR's type of addresses of a buffer.
    pub(super) fn pointer(&self, b: BufId) -> &'static str {
        match (&self.lanes, self.k.bufs[b].space) {
            (Some(_), Space::Global) => "!llvm.ptr<1>",
            (Some(_), Space::Shared) => "!llvm.ptr<3>",
            _ => "!llvm.ptr",
        }
    }
    /// Alignment of an access to `n` neighbors: that of the element, or the whole vector's where lanes have the rule that vectors of a
    /// buffer which is aligned for them lie on multiples of their size.
    pub(super) fn alignment(&self, b: BufId, n: u16) -> Result<u32, Fault> {
        let (one, align) = (self.bytes(b)?, self.k.bufs[b].align);
        let whole = one * u32::from(n);
        Ok(if self.lanes.is_some() && whole.is_power_of_two() && whole <= 16 && align >= whole { whole } else { one })
    }
    /// Where column `c` of a row lies among the permuted ones, of an access to `n` neighbors.
    pub(super) fn permuted(&mut self, b: BufId, row: Option<String>, c: &str, n: u32) -> Result<String, Fault> {
        let buf = &self.k.bufs[b];
        let Layout::Xor { unit, shift, mask } = buf.layout else {
            return Err(format!("`{}` has rows that only engines permute", buf.name));
        };
        if self.lanes.is_none() || n == 0 || !unit.is_multiple_of(n) {
            return Err(format!("an access to `{}` across units of its permuted rows", buf.name));
        }
        let row = row.unwrap_or_else(|| self.c.i64(0));
        let [unit, shift, mask] = [i64::from(unit), shift.into(), mask.into()].map(|v| self.c.i64(v));
        let row = self.c.def(format_args!("arith.shrui {row}, {shift} : i64"));
        let row = self.c.def(format_args!("arith.andi {row}, {mask} : i64"));
        let at = self.c.def(format_args!("arith.divui {c}, {unit} : i64"));
        let rest = self.c.def(format_args!("arith.remui {c}, {unit} : i64"));
        let at = self.c.def(format_args!("arith.xori {at}, {row} : i64"));
        let at = self.c.def(format_args!("arith.muli {at}, {unit} overflow<nsw> : i64"));
        Ok(self.c.def(format_args!("arith.addi {at}, {rest} overflow<nsw> : i64")))
    }
    pub(super) fn place_of(&mut self, a: &Access) -> Result<Block, Fault> {
        self.bytes(a.buf)?;
        let offset = self.offset(a)?;
        let (ptr, space) = (self.step(a.buf, offset)?, self.pointer(a.buf));
        let long: Vec<usize> = (0..a.len.len()).filter(|d| a.len[*d] > 1).collect();
        match long.as_slice() {
            [] => Ok(Block { ptr, space, n: 1, stride: None }),
            [d] => {
                let n = u16::try_from(a.len[*d]).map_err(|_| "an access of too many elements")?;
                let unit = self.k.bufs[a.buf].strides.get(*d).is_some_and(|s| s.is(1));
                let stride = if unit { None } else { Some(self.stride(a.buf, *d)?) };
                Ok(Block { ptr, space, n, stride })
            }
            _ => Err(format!("a block of `{}` in two dims at once", self.k.bufs[a.buf].name)),
        }
    }

    /// The mask of a condition on `n` elements: `None` for all.
    pub(super) fn mask(&mut self, cond: &Cond, n: u16) -> Result<Option<String>, Fault> {
        match cond {
            Cond::Always | Cond::When(_) => Ok(None),
            Cond::Mask(e) => self.expr(*e).map(Some),
            Cond::Valid(v) => match v.as_slice() {
                [] => Ok(None),
                [e] => {
                    let ty = self.k.exprs[*e].ty.clone();
                    let (zero, end) = (self.int_const(&ty, 0), self.expr(*e)?);
                    Ok(Some(self.mask_lt(&zero, &end, &ty, &Ty::of(DType::Bool, n.into()))))
                }
                _ => Err("a block that is valid in two dims".into()),
            },
        }
    }
    /// The condition as one truth value, for accesses that happen whole or not at all.
    pub(super) fn switch(&mut self, cond: &Cond, n: u16) -> Result<Option<String>, Fault> {
        match cond {
            Cond::When(e) => self.expr(*e).map(Some),
            Cond::Mask(_) | Cond::Valid(_) if n == 1 => self.mask(cond, 1),
            _ => Ok(None),
        }
    }

    /// What lies in memory as a register: truth values are bytes there.
    pub(super) fn to_reg(&mut self, v: String, ty: &Ty) -> String {
        if ty.elem() != Some(DType::Bool) {
            return v;
        }
        let bytes = ty.with_elem(DType::U8);
        let zero = self.int_const(&bytes, 0);
        self.compare(CmpOp::Ne, &v, &zero, &bytes)
    }
    pub(super) fn to_mem(&mut self, v: String, ty: &Ty) -> String {
        if ty.elem() != Some(DType::Bool) {
            return v;
        }
        self.c.def(format_args!("arith.extui {v} : {} to {}", reg_type(ty), reg_type(&ty.with_elem(DType::U8))))
    }

    /// Runs `f` where the condition holds; elsewhere the value is `other`.
    pub(super) fn guarded(
        &mut self,
        cond: Option<String>,
        ty: &Ty,
        other: Option<String>,
        f: impl FnOnce(&mut Self) -> Result<String, Fault>,
    ) -> Result<String, Fault> {
        let Some(c) = cond else { return f(self) };
        let t = reg_type(ty);
        let v = self.c.fresh();
        self.c.open(format_args!("{v} = scf.if {c} -> ({t}) {{"));
        let x = f(self)?;
        self.c.op(format_args!("scf.yield {x} : {t}"));
        self.c.between("} else {");
        let o = match other {
            Some(o) => o,
            None => self.c.shared(&format!("llvm.mlir.poison : {t}")),
        };
        self.c.op(format_args!("scf.yield {o} : {t}"));
        self.c.close();
        Ok(v)
    }
    pub(super) fn effect(&mut self, cond: Option<String>, f: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        let Some(c) = cond else { return f(self) };
        self.c.open(format_args!("scf.if {c} {{"));
        f(self)?;
        self.c.close();
        Ok(())
    }
    pub(super) fn other(&mut self, other: Option<ExprId>, ty: &Ty) -> Result<Option<String>, Fault> {
        let Some(o) = other else { return Ok(None) };
        let v = self.expr(o)?;
        Ok(Some(if matches!(self.k.exprs[o].ty, Ty::Vec(..)) { v } else { self.splat(&v, ty) }))
    }

    pub(super) fn load(&mut self, from: &Access, cond: &Cond, other: Option<ExprId>) -> Result<String, Fault> {
        let d = self.k.bufs[from.buf].dtype;
        let n = u16::try_from(from.elems()).map_err(|_| "an access of too many elements")?;
        if d.is_packed() {
            return self.packed_load(from, n, cond, other);
        }
        let ty = Ty::of(d, n.into());
        let other = self.other(other, &ty)?;
        let switch = self.switch(cond, n)?;
        let from = from.clone();
        let cond = cond.clone();
        let masked = if n == 1 { Cond::Always } else { cond };
        self.guarded(switch, &ty, other.clone(), |this| {
            let b = this.place_of(&from)?;
            let mask = this.mask(&masked, n)?;
            if let Some(stride) = &b.stride {
                let (ptrs, align) = (this.strided(&b, stride, d), this.bytes(from.buf)?);
                return this.gather_from((&ptrs, b.space), mask, other, &ty, align);
            }
            let align = this.alignment(from.buf, n)?;
            let t = shaped(mem_type(d), &ty);
            let v = match mask {
                None => this.c.def(format_args!("llvm.load {} {{alignment = {align} : i64}} : {} -> {t}", b.ptr, b.space)),
                Some(m) => {
                    let pass = this.pass_through(other, &ty);
                    let mt = reg_type(&ty.with_elem(DType::Bool));
                    this.c.def(format_args!(
                        "llvm.intr.masked.load {}, {m}, {pass} {{alignment = {align} : i32}} : ({}, {mt}, {t}) -> {t}",
                        b.ptr, b.space
                    ))
                }
            };
            Ok(this.to_reg(v, &ty))
        })
    }
    fn pass_through(&mut self, other: Option<String>, ty: &Ty) -> String {
        match other {
            Some(o) => self.to_mem(o, ty),
            None => {
                let t = shaped(mem_type(ty.elem().unwrap_or(DType::I8)), ty);
                self.c.shared(&format!("llvm.mlir.poison : {t}"))
            }
        }
    }
    /// Addresses of the elements of a block whose neighbors are apart.
    fn strided(&mut self, b: &Block, stride: &str, d: DType) -> String {
        let ty = Ty::Vec(DType::I64, b.n);
        let t = reg_type(&ty);
        let steps: Vec<String> = (0..b.n).map(|i| i.to_string()).collect();
        let i = self.c.constant(&t, &format!("dense<[{}]>", steps.join(", ")));
        let s = self.splat(stride, &ty);
        let o = self.c.def(format_args!("arith.muli {i}, {s} overflow<nsw> : {t}"));
        self.pointers((&b.ptr, b.space), &o, b.n, d)
    }
    pub(super) fn pointers(&mut self, (base, space): (&str, &str), offsets: &str, n: u16, d: DType) -> String {
        self.c
            .def(format_args!("llvm.getelementptr {base}[{offsets}] : ({space}, vector<{n}xi64>) -> vector<{n}x{space}>, {}", mem_type(d)))
    }
    fn full_mask(&mut self, mask: Option<String>, n: u16) -> String {
        mask.unwrap_or_else(|| self.int_const(&Ty::Vec(DType::Bool, n), 1))
    }
    pub(super) fn gather_from(
        &mut self,
        (ptrs, space): (&str, &str),
        mask: Option<String>,
        other: Option<String>,
        ty: &Ty,
        align: u32,
    ) -> Result<String, Fault> {
        let n = ty.lanes().unwrap_or(1);
        let t = shaped(mem_type(ty.elem().unwrap_or(DType::I8)), ty);
        let pass = self.pass_through(other, ty);
        let m = self.full_mask(mask, n);
        let v = self.c.def(format_args!(
            "llvm.intr.masked.gather {ptrs}, {m}, {pass} {{alignment = {align} : i32}} : (vector<{n}x{space}>, vector<{n}xi1>, {t}) -> {t}"
        ));
        Ok(self.to_reg(v, ty))
    }
    /// Addresses of a gather or scatter: scalar indices are the same for all elements.
    fn scattered(&mut self, a: &Access) -> Result<(String, u16), Fault> {
        let n = self.lanes_of(a);
        let (same, each) = self.offsets(a, n)?;
        let base = self.step(a.buf, same)?;
        let offsets = each.ok_or("a gather without a vector of indices")?;
        Ok((self.pointers((&base, self.pointer(a.buf)), &offsets, n, self.k.bufs[a.buf].dtype), n))
    }
    /// Number of elements of the index vectors.
    fn lanes_of(&self, a: &Access) -> u16 {
        a.idx.iter().filter_map(|i| self.k.exprs[*i].ty.lanes()).max().unwrap_or(1)
    }
    /// Offset in elements that all indices together give: one for all, and one per element of the index vectors.
    fn offsets(&mut self, a: &Access, n: u16) -> Result<(Option<String>, Option<String>), Fault> {
        let vt = Ty::Vec(DType::I64, n);
        let t = reg_type(&vt);
        let (mut same, mut each): (Option<String>, Option<String>) = (None, None);
        for (d, i) in a.idx.iter().enumerate() {
            let vector = matches!(self.k.exprs[*i].ty, Ty::Vec(..));
            let v = self.index(*i)?;
            let s = self.stride(a.buf, d)?;
            let (s, ty, sum) = if vector { (self.splat(&s, &vt), t.as_str(), &mut each) } else { (s, "i64", &mut same) };
            let term = self.c.def(format_args!("arith.muli {v}, {s} overflow<nsw> : {ty}"));
            *sum = Some(match sum.take() {
                Some(x) => self.c.def(format_args!("arith.addi {x}, {term} overflow<nsw> : {ty}")),
                None => term,
            });
        }
        Ok((same, each))
    }
    /// Positions of all elements in the flat buffer: an i64, or `n` of them.
    pub(super) fn flat(&mut self, a: &Access, n: u16) -> Result<String, Fault> {
        let zero = self.c.i64(0);
        let vt = Ty::of(DType::I64, n.into());
        let t = reg_type(&vt);
        if a.idx.iter().any(|i| matches!(self.k.exprs[*i].ty, Ty::Vec(..))) {
            let (same, each) = self.offsets(a, n)?;
            let same = self.splat(&same.unwrap_or(zero), &vt);
            let each = each.ok_or("a gather without a vector of indices")?;
            return Ok(self.c.def(format_args!("arith.addi {same}, {each} : {t}")));
        }
        let first = self.offset(a)?.unwrap_or(zero);
        if n == 1 {
            return Ok(first);
        }
        let long = a.len.iter().position(|l| *l > 1).ok_or("an access without a length")?;
        let (first, step) = (self.splat(&first, &vt), self.stride(a.buf, long)?);
        let step = self.splat(&step, &vt);
        let steps: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let i = self.c.constant(&t, &format!("dense<[{}]>", steps.join(", ")));
        let i = self.c.def(format_args!("arith.muli {i}, {step} : {t}"));
        Ok(self.c.def(format_args!("arith.addi {first}, {i} : {t}")))
    }
    pub(super) fn gather(&mut self, from: &Access, cond: &Cond, other: Option<ExprId>) -> Result<String, Fault> {
        if from.idx.iter().all(|i| matches!(self.k.exprs[*i].ty, Ty::Scalar(_))) {
            return self.load(from, cond, other);
        }
        let d = self.k.bufs[from.buf].dtype;
        let n = self.lanes_of(from);
        if d.is_packed() {
            return self.packed_load(from, n, cond, other);
        }
        let align = self.bytes(from.buf)?;
        let ty = Ty::Vec(d, n);
        let other = self.other(other, &ty)?;
        let switch = self.switch(cond, n)?;
        let (from, cond) = (from.clone(), cond.clone());
        self.guarded(switch, &ty, other.clone(), |this| {
            let mask = this.mask(&cond, n)?;
            let (ptrs, _) = this.scattered(&from)?;
            this.gather_from((&ptrs, this.pointer(from.buf)), mask, other, &ty, align)
        })
    }

    pub(super) fn store(&mut self, to: &Access, val: ExprId, cond: &Cond) -> Result<(), Fault> {
        let d = self.k.bufs[to.buf].dtype;
        let n = u16::try_from(to.elems()).map_err(|_| "an access of too many elements")?;
        if d.is_packed() {
            return self.packed_store(to, n, val, cond);
        }
        let ty = Ty::of(d, n.into());
        let switch = self.switch(cond, n)?;
        let v = self.expr(val)?;
        let v = self.to_mem(v, &ty);
        let masked = if n == 1 { Cond::Always } else { cond.clone() };
        let to = to.clone();
        self.effect(switch, |this| {
            let b = this.place_of(&to)?;
            let mask = this.mask(&masked, n)?;
            if let Some(stride) = &b.stride {
                let (ptrs, align) = (this.strided(&b, stride, d), this.bytes(to.buf)?);
                return this.scatter_to(&v, (&ptrs, b.space), mask, &ty, align);
            }
            let align = this.alignment(to.buf, n)?;
            let t = shaped(mem_type(d), &ty);
            match mask {
                None => this.c.op(format_args!("llvm.store {v}, {} {{alignment = {align} : i64}} : {t}, {}", b.ptr, b.space)),
                Some(m) => {
                    let mt = reg_type(&ty.with_elem(DType::Bool));
                    let (ptr, space) = (&b.ptr, b.space);
                    this.c
                        .op(format_args!("llvm.intr.masked.store {v}, {ptr}, {m} {{alignment = {align} : i32}} : {t}, {mt} into {space}"));
                }
            }
            Ok(())
        })
    }
    /// Stores a value that is not masked.
    pub(super) fn store_value(&mut self, to: &Access, v: &str, ty: &Ty) -> Result<(), Fault> {
        let v = self.to_mem(v.into(), ty);
        let (b, d) = (self.place_of(to)?, self.k.bufs[to.buf].dtype);
        if let Some(stride) = &b.stride {
            let (ptrs, align) = (self.strided(&b, stride, d), self.bytes(to.buf)?);
            return self.scatter_to(&v, (&ptrs, b.space), None, ty, align);
        }
        let (align, t) = (self.alignment(to.buf, b.n)?, shaped(mem_type(d), ty));
        self.c.op(format_args!("llvm.store {v}, {} {{alignment = {align} : i64}} : {t}, {}", b.ptr, b.space));
        Ok(())
    }
    fn scatter_to(&mut self, v: &str, (ptrs, space): (&str, &str), mask: Option<String>, ty: &Ty, align: u32) -> Result<(), Fault> {
        let n = ty.lanes().unwrap_or(1);
        let t = shaped(mem_type(ty.elem().unwrap_or(DType::I8)), ty);
        let m = self.full_mask(mask, n);
        self.c.op(format_args!(
            "llvm.intr.masked.scatter {v}, {ptrs}, {m} {{alignment = {align} : i32}} : {t}, vector<{n}xi1> into vector<{n}x{space}>"
        ));
        Ok(())
    }
    pub(super) fn scatter(&mut self, to: &Access, val: ExprId, cond: &Cond) -> Result<(), Fault> {
        if to.idx.iter().all(|i| matches!(self.k.exprs[*i].ty, Ty::Scalar(_))) {
            return self.store(to, val, cond);
        }
        if self.k.bufs[to.buf].dtype.is_packed() {
            return self.packed_store(to, self.lanes_of(to), val, cond);
        }
        let align = self.bytes(to.buf)?;
        let ty = self.k.exprs[val].ty.clone();
        let n = ty.lanes().unwrap_or(1);
        let switch = self.switch(cond, n)?;
        let v = self.expr(val)?;
        let v = self.to_mem(v, &ty);
        let (to, cond) = (to.clone(), cond.clone());
        self.effect(switch, |this| {
            let mask = this.mask(&cond, n)?;
            let (ptrs, _) = this.scattered(&to)?;
            this.scatter_to(&v, (&ptrs, this.pointer(to.buf)), mask, &ty, align)
        })
    }

    pub(super) fn atomic(&mut self, rhs: &Rhs) -> Result<String, Fault> {
        let Rhs::Atomic { op, at, v, order, cond } = rhs else { return Err("no atomic".into()) };
        let d = self.k.bufs[at.buf].dtype;
        let ty = Ty::Scalar(d);
        let t = elem_type(d);
        let float = matches!(d, DType::F32 | DType::F64);
        if !(float || d.is_int() && d.bits() >= 8) {
            return Err(format!("an atomic on {d}"));
        }
        let kind = match (op, float, d.is_signed_int()) {
            (AtomicOp::Add, true, _) => "fadd",
            (AtomicOp::Max, true, _) => "fmaximum",
            (AtomicOp::Min, true, _) => "fminimum",
            (AtomicOp::Add, ..) => "add",
            (AtomicOp::Max, _, true) => "max",
            (AtomicOp::Min, _, true) => "min",
            (AtomicOp::Max, ..) => "umax",
            (AtomicOp::Min, ..) => "umin",
            (AtomicOp::And, false, _) => "_and",
            (AtomicOp::Or, false, _) => "_or",
            (AtomicOp::Xor, false, _) => "_xor",
            (AtomicOp::Xchg, ..) => "xchg",
            _ => return Err(format!("`{}` on {d}", op.name())),
        };
        let order = if *order == Order::Relaxed { "monotonic" } else { "acq_rel" };
        let switch = self.switch(cond, 1)?;
        let v = self.expr(*v)?;
        let at = at.clone();
        self.guarded(switch, &ty, None, |this| {
            let b = this.place_of(&at)?;
            // Lanes of one group, or of one device, see each other's; threads of a process all.
            let scope = match b.space {
                "!llvm.ptr<1>" => "syncscope(\"device\") ",
                "!llvm.ptr<3>" => "syncscope(\"block\") ",
                _ => "",
            };
            Ok(this.c.def(format_args!("llvm.atomicrmw {kind} {}, {v} {scope}{order} : {}, {t}", b.ptr, b.space)))
        })
    }

    /// Address, rows, row bytes and bytes between rows of a tile register's block.
    fn tile_block(&mut self, a: &Access, rows: u8, row_bytes: u16) -> Result<[String; 4], Fault> {
        let bytes = self.bytes(a.buf)?;
        let long: Vec<usize> = (0..a.len.len()).filter(|d| a.len[*d] > 1).collect();
        let [r, c] = long.as_slice() else { return Err("a tile register takes a block of two dims".into()) };
        if a.len[*r] != u32::from(rows) || a.len[*c] * bytes != u32::from(row_bytes) {
            return Err("a block that does not fill its tile register".into());
        }
        if !self.k.bufs[a.buf].strides.get(*c).is_some_and(|s| s.is(1)) {
            return Err("rows of a tile register must be contiguous".into());
        }
        let s = self.stride(a.buf, *r)?;
        let size = self.c.i64(bytes.into());
        let s = self.c.def(format_args!("arith.muli {s}, {size} : i64"));
        let offset = self.offset(a)?;
        let ptr = self.step(a.buf, offset)?;
        Ok([self.c.constant("i16", &rows.to_string()), self.c.constant("i16", &row_bytes.to_string()), ptr, s])
    }
    fn tile_shape(&self, ty: &Ty) -> Result<(u8, u16), Fault> {
        let Ty::Frag(atom, o) = ty else { return Err("no matrix fragment".into()) };
        match self.module.atoms.get(*atom).map(|a| a.operand(*o)) {
            Some(Place2::TileReg { rows, row_bytes, .. }) => Ok((*rows, *row_bytes)),
            _ => Err("a fragment that is no tile register".into()),
        }
    }
    pub(super) fn tile_zero(&mut self, ty: &Ty) -> Result<String, Fault> {
        let (rows, bytes) = self.tile_shape(ty)?;
        let (r, b) = (self.c.constant("i16", &rows.to_string()), self.c.constant("i16", &bytes.to_string()));
        Ok(self.c.def(format_args!("llvm.call_intrinsic \"llvm.x86.tilezero.internal\"({r}, {b}) : (i16, i16) -> !llvm.x86_amx")))
    }
    pub(super) fn tile_load(&mut self, from: &Access, via: Via, ty: &Ty) -> Result<String, Fault> {
        let (rows, bytes) = self.tile_shape(ty)?;
        if via != Via::Tile {
            return Err(format!("a tile register is not loaded via {}", via.name()));
        }
        let [r, b, p, s] = self.tile_block(from, rows, bytes)?;
        Ok(self.c.def(format_args!(
            "llvm.call_intrinsic \"llvm.x86.tileloadd64.internal\"({r}, {b}, {p}, {s}) : (i16, i16, !llvm.ptr, i64) -> !llvm.x86_amx"
        )))
    }
    pub(super) fn tile_store(&mut self, to: &Access, val: &Place, via: Via) -> Result<(), Fault> {
        let ty = self.k.vars[val.var].ty.clone();
        let (rows, bytes) = self.tile_shape(&ty)?;
        if via != Via::Tile {
            return Err(format!("a tile register is not stored via {}", via.name()));
        }
        let v = self.place(val)?;
        let [r, b, p, s] = self.tile_block(to, rows, bytes)?;
        self.c.op(format_args!(
            "llvm.call_intrinsic \"llvm.x86.tilestored64.internal\"({r}, {b}, {p}, {s}, {v}) : (i16, i16, !llvm.ptr, i64, !llvm.x86_amx) -> ()"
        ));
        Ok(())
    }
    pub(super) fn mma(&mut self, rhs: &Rhs) -> Result<String, Fault> {
        let Rhs::Mma { atom, a, b, c } = rhs else { return Err("no product".into()) };
        let def = self.module.atoms.get(*atom).ok_or("a product by no atom")?;
        let name = self.spelling.tiles.iter().find(|t| t.0 == def.dtypes).map(|t| t.1);
        let name = name.ok_or_else(|| format!("no instruction of this machine computes `{}`", def.name))?;
        let bytes = def.dtypes[0].bytes().unwrap_or(1);
        let (m, n, k) = (u32::from(def.shape[0]), u32::from(def.shape[1]) * 4, u32::from(def.shape[2]) * bytes);
        let [m, n, k] = [m, n, k].map(|v| self.c.constant("i16", &v.to_string()));
        let (a, b, c) = (self.place(a)?, self.place(b)?, self.place(c)?);
        let x = "!llvm.x86_amx";
        Ok(self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({m}, {n}, {k}, {c}, {a}, {b}) : (i16, i16, i16, {x}, {x}, {x}) -> {x}")))
    }
    pub(super) fn prefetch(&mut self, a: &Access) -> Result<(), Fault> {
        let offset = self.offset(a)?;
        let (p, space) = (self.step(a.buf, offset)?, self.pointer(a.buf));
        self.c.op(format_args!("\"llvm.intr.prefetch\"({p}) <{{cache = 1 : i32, hint = 3 : i32, rw = 0 : i32}}> : ({space}) -> ()"));
        Ok(())
    }
    /// Whether a statement has nothing to do on a machine whose groups have one lane and no engines.
    pub(super) fn is_silent(s: &Stmt) -> bool {
        matches!(s, Stmt::Barrier(_) | Stmt::Alloc(_) | Stmt::Assume(_) | Stmt::Fence(Fence::Init | Fence::Proxy))
    }
}
