// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elements that share bytes: 4- and 2-bit types, low bits first, packed over the whole buffer as ONNX packs them.
//!
//! An element is read by the byte that holds it. It is written by two atomic operations on that byte, because the neighbor in it
//! may belong to another group.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Access, Cond, ExprId, Ty};

use super::expr::reg_type;
use super::kernel::{Emit, Fault};

/// Where elements lie: bytes from the start of the buffer, and bits from the low end of the byte.
struct Spots {
    /// One or `n` numbers of i64.
    bytes: String,
    /// As many of i8.
    shift: String,
}

impl Emit<'_> {
    fn spots(&mut self, a: &Access, n: u16) -> Result<Spots, Fault> {
        let bits = self.k.bufs[a.buf].dtype.bits();
        let (wide, narrow) = (Ty::of(DType::I64, n.into()), Ty::of(DType::U8, n.into()));
        let (tw, tn) = (reg_type(&wide), reg_type(&narrow));
        let at = self.flat(a, n)?;
        let by = self.int_const(&wide, i128::from((8 / bits).trailing_zeros()));
        let last = self.int_const(&wide, i128::from(8 / bits - 1));
        let bytes = self.c.def(format_args!("arith.shrui {at}, {by} : {tw}"));
        let sub = self.c.def(format_args!("arith.andi {at}, {last} : {tw}"));
        let sub = self.c.def(format_args!("arith.trunci {sub} : {tw} to {tn}"));
        let width = self.int_const(&narrow, bits.into());
        let shift = self.c.def(format_args!("arith.muli {sub}, {width} : {tn}"));
        Ok(Spots { bytes, shift })
    }

    /// Loads elements into bytes of their own, extended by their sign.
    pub(super) fn packed_load(&mut self, from: &Access, n: u16, cond: &Cond, other: Option<ExprId>) -> Result<String, Fault> {
        let d = self.k.bufs[from.buf].dtype;
        let ty = Ty::of(d, n.into());
        let t = reg_type(&ty);
        let other = self.other(other, &ty)?;
        let switch = self.switch(cond, n)?;
        let (from, masked) = (from.clone(), if n == 1 { Cond::Always } else { cond.clone() });
        self.guarded(switch, &ty, other.clone(), |this| {
            let mask = this.mask(&masked, n)?;
            let s = this.spots(&from, n)?;
            let (base, space) = (this.buffer(from.buf)?, this.pointer(from.buf));
            let v = if n == 1 {
                let p = this.c.def(format_args!("llvm.getelementptr {base}[{}] : ({space}, i64) -> {space}, i8", s.bytes));
                this.c.def(format_args!("llvm.load {p} {{alignment = 1 : i64}} : {space} -> i8"))
            } else {
                let ptrs = this.pointers((&base, space), &s.bytes, n, DType::U8);
                this.gather_from((&ptrs, space), mask.clone(), None, &Ty::Vec(DType::U8, n), 1)?
            };
            let v = this.c.def(format_args!("arith.shrui {v}, {} : {t}", s.shift));
            let by = this.int_const(&ty, i128::from(8 - d.bits()));
            let v = this.c.def(format_args!("arith.shli {v}, {by} : {t}"));
            let right = if d.is_signed_int() { "shrsi" } else { "shrui" };
            let v = this.c.def(format_args!("arith.{right} {v}, {by} : {t}"));
            Ok(match (mask, other) {
                (Some(m), Some(o)) => this.choose(&m, &v, &o, &ty),
                _ => v,
            })
        })
    }

    /// Stores elements, one after the other.
    pub(super) fn packed_store(&mut self, to: &Access, n: u16, val: ExprId, cond: &Cond) -> Result<(), Fault> {
        let d = self.k.bufs[to.buf].dtype;
        let ty = Ty::of(d, n.into());
        let t = reg_type(&ty);
        let switch = self.switch(cond, n)?;
        let v = self.expr(val)?;
        let (to, masked) = (to.clone(), if n == 1 { Cond::Always } else { cond.clone() });
        self.effect(switch, |this| {
            let mask = this.mask(&masked, n)?;
            let s = this.spots(&to, n)?;
            let (base, space) = (this.buffer(to.buf)?, this.pointer(to.buf));
            let low = this.int_const(&Ty::of(DType::U8, n.into()), (1 << d.bits()) - 1);
            let ones = this.int_const(&Ty::of(DType::U8, n.into()), 255);
            let v = this.c.def(format_args!("arith.andi {v}, {low} : {t}"));
            let v = this.c.def(format_args!("arith.shli {v}, {} : {t}", s.shift));
            let hole = this.c.def(format_args!("arith.shli {low}, {} : {t}", s.shift));
            let keep = this.c.def(format_args!("arith.xori {hole}, {ones} : {t}"));
            for i in 0..n {
                let part = |this: &mut Self, v: &str, elem: &str| {
                    if n == 1 {
                        return v.to_string();
                    }
                    let at = this.c.i64(i.into());
                    this.c.def(format_args!("llvm.extractelement {v}[{at} : i64] : vector<{n}x{elem}>"))
                };
                let on = mask.as_ref().map(|m| part(this, m, "i1"));
                let (keep, v, at) = (part(this, &keep, "i8"), part(this, &v, "i8"), part(this, &s.bytes, "i64"));
                this.effect(on, |this| {
                    let p = this.c.def(format_args!("llvm.getelementptr {base}[{at}] : ({space}, i64) -> {space}, i8"));
                    this.c.def(format_args!("llvm.atomicrmw _and {p}, {keep} monotonic : {space}, i8"));
                    this.c.def(format_args!("llvm.atomicrmw _or {p}, {v} monotonic : {space}, i8"));
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}
