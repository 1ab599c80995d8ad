// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory of Kernel IR: places of elements, loads, stores, atomics, copies that pass no register.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Access, AtomicOp, BufId, Cond, ExprId, Layout, Lit, Op, Order, Rhs, Space, Ty};

use super::dialect::fill;
use super::expr::{Prec, Text, elem, exact};
use super::kernel::{Emit, Fault};

/// How the elements of an access lie.
struct Block {
    /// Offset of the first element from the buffer's, in elements.
    at: Text,
    /// Their distance in elements, if it is not 1.
    stride: Option<String>,
}

impl Emit<'_> {
    fn bytes(&self, b: BufId) -> Result<u32, Fault> {
        let buf = &self.k.bufs[b];
        buf.dtype.bytes().ok_or_else(|| format!("`{}` holds {}, which shares bytes", buf.name, buf.dtype))
    }
    pub(super) fn buffer(&self, b: BufId) -> Result<String, Fault> {
        self.bufs.get(&b).cloned().ok_or_else(|| format!("`{}` has no place", self.k.bufs[b].name))
    }
    fn stride(&mut self, b: BufId, dim: usize) -> Result<Text, Fault> {
        let s = self.k.bufs[b].strides.get(dim).cloned().ok_or("an index without a stride")?;
        self.dim(&s)
    }
    /// An index times the stride of its dim. Products need 64 bits in memory of the device, not in that of a group.
    pub(super) fn term(&mut self, b: BufId, dim: usize, i: Text, wide: bool) -> Result<Text, Fault> {
        let s = self.stride(b, dim)?;
        if s.text == "1" {
            return Ok(i);
        }
        if s.text == "0" || i.text == "0" {
            return Ok(Text { text: "0".into(), prec: Prec::Whole, loose: true });
        }
        let constant = s.loose;
        let i = if constant && !wide && self.k.bufs[b].space == Space::Global && !i.loose {
            format!("(int64_t){}", i.at(Prec::Unary))
        } else {
            i.at(Prec::Product)
        };
        Ok(Text { text: format!("{i} * {}", s.at(Prec::Unary)), prec: Prec::Product, loose: false })
    }
    fn wide(&self, e: ExprId) -> bool {
        self.k.exprs[e].ty.elem().is_some_and(|d| d.bits() == 64)
    }
    /// Offset of the first element.
    pub(super) fn offset(&mut self, a: &Access) -> Result<Text, Fault> {
        let mut terms: Vec<Text> = Vec::new();
        for (d, i) in a.idx.iter().enumerate() {
            let wide = self.wide(*i);
            let exchanged = d + 1 == a.idx.len() && !matches!(self.k.bufs[a.buf].layout, Layout::Plain | Layout::Pad(_));
            let mut v = self.expr(*i)?;
            if exchanged {
                if a.elems() != a.len.last().copied().unwrap_or(1) {
                    return Err(format!("a block of `{}` in several of its permuted rows", self.k.bufs[a.buf].name));
                }
                let row = d.checked_sub(1).and_then(|r| a.idx.get(r).copied());
                let row = row.map(|r| self.expr(r)).transpose()?;
                v = self.exchanged(a.buf, row.map(|r| r.text), &v.text, a.elems())?;
            }
            terms.push(self.term(a.buf, d, v, wide)?);
        }
        Ok(sum(terms))
    }
    /// Where column `c` of a row lies among the exchanged ones, of an access to `n` neighbors.
    pub(super) fn exchanged(&mut self, b: BufId, row: Option<String>, c: &str, n: u32) -> Result<Text, Fault> {
        let buf = &self.k.bufs[b];
        let Layout::Xor { unit, shift, mask } = buf.layout else {
            return Err(format!("`{}` has rows that only engines permute", buf.name));
        };
        if n == 0 || !unit.is_multiple_of(n) {
            return Err(format!("an access to `{}` across units of its permuted rows", buf.name));
        }
        let row = row.unwrap_or_else(|| "0".into());
        Ok(Text::whole(format!("pw_exchanged<{unit}, {shift}, {mask}>({row}, {c})")))
    }
    fn block_of(&mut self, a: &Access) -> Result<Block, Fault> {
        let at = self.offset(a)?;
        let long: Vec<usize> = (0..a.len.len()).filter(|d| a.len[*d] > 1).collect();
        match long.as_slice() {
            [] => Ok(Block { at, stride: None }),
            [d] => {
                let unit = self.k.bufs[a.buf].strides.get(*d).is_some_and(|s| s.is(1));
                let stride = if unit { None } else { Some(self.stride(a.buf, *d)?.text) };
                Ok(Block { at, stride })
            }
            _ => Err(format!("a block of `{}` in two dims at once", self.k.bufs[a.buf].name)),
        }
    }
    /// Whether `n` neighbors of a buffer lie on multiples of their size: by the rule of lanes, where the buffer is aligned for them.
    pub(super) fn aligned(&self, b: BufId, n: u16) -> Result<bool, Fault> {
        let whole = self.bytes(b)? * u32::from(n);
        Ok(whole.is_power_of_two() && whole <= 16 && self.k.bufs[b].align >= whole)
    }

    /// The condition of accesses that happen whole or not at all.
    fn switch(&mut self, cond: &Cond, n: u16) -> Result<Option<Text>, Fault> {
        match cond {
            Cond::Always => Ok(None),
            Cond::When(e) => self.expr(*e).map(Some),
            Cond::Mask(e) if n == 1 => self.expr(*e).map(Some),
            Cond::Valid(v) if v.is_empty() => Ok(None),
            Cond::Valid(v) if n == 1 => {
                let e = self.expr(v[0])?;
                Ok(Some(Text::of(Prec::Order, format!("0 < {}", e.at(Prec::Shift)))))
            }
            _ => Err("an access of some elements of a vector has no form on this machine".into()),
        }
    }
    /// A value where the condition holds, and `other` elsewhere.
    fn guarded(&mut self, cond: &Cond, n: u16, ty: &Ty, other: Option<ExprId>, value: Text) -> Result<Text, Fault> {
        let Some(c) = self.switch(cond, n)? else { return Ok(value) };
        let t = super::expr::register(ty);
        let other = match other {
            Some(o) => {
                let (v, vector) = (self.arg(o)?, matches!(self.k.exprs[o].ty, Ty::Vec(..)));
                match ty {
                    Ty::Vec(d, n) if !vector => format!("pw_splat<{}, {n}>({v})", elem(*d)),
                    _ => v,
                }
            }
            None if matches!(ty, Ty::Vec(..)) => format!("{t}()"),
            None => format!("({t})0"),
        };
        Ok(Text::of(Prec::Choice, format!("{} ? {} : {other}", c.at(Prec::Or), value.at(Prec::Or))))
    }

    pub(super) fn load(&mut self, from: &Access, cond: &Cond, other: Option<ExprId>) -> Result<Text, Fault> {
        let d = self.k.bufs[from.buf].dtype;
        let n = u16::try_from(from.elems()).map_err(|_| "an access of too many elements")?;
        let ty = Ty::of(d, n.into());
        let name = self.buffer(from.buf)?;
        let b = self.block_of(from)?;
        let value = if d.is_packed() {
            let (bits, t) = (d.bits(), elem(d));
            match n {
                1 => Text::whole(format!("pw_load_packed<{t}, {bits}>({name}, {})", b.at.text)),
                _ => Text::whole(format!(
                    "pw_load_packed<{t}, {bits}, {n}>({name}, {}, {})",
                    b.at.text,
                    b.stride.unwrap_or_else(|| "1".into())
                )),
            }
        } else {
            let v = match (n, &b.stride) {
                (1, _) => Text::whole(format!("{name}[{}]", b.at.text)),
                (_, Some(s)) => Text::whole(format!("pw_load_each<{n}>({}, {s})", pointer(&name, &b.at))),
                (_, None) if self.aligned(from.buf, n)? => Text::whole(format!("pw_load<{n}>({})", pointer(&name, &b.at))),
                _ => Text::whole(format!("pw_load_each<{n}>({}, 1)", pointer(&name, &b.at))),
            };
            to_register(v, d, n)
        };
        self.guarded(cond, n, &ty, other, value)
    }
    /// Positions of a gather or a scatter in the flat buffer; scalar indices are the same for all elements.
    fn scattered(&mut self, a: &Access) -> Result<(String, u16), Fault> {
        let n = a.idx.iter().filter_map(|i| self.k.exprs[*i].ty.lanes()).max().unwrap_or(1);
        let mut terms = Vec::with_capacity(a.idx.len());
        for (d, i) in a.idx.iter().enumerate() {
            let v = self.arg(*i)?;
            let s = exact(&self.stride(a.buf, d)?, &Ty::Scalar(DType::I64));
            let v = match &self.k.exprs[*i].ty {
                Ty::Vec(DType::I64, _) => v,
                Ty::Vec(..) => format!("pw_cast<int64_t>({v})"),
                _ => format!("pw_splat<int64_t, {n}>({v})"),
            };
            terms.push(if s == "(int64_t)1" { v } else { format!("{v} * pw_splat<int64_t, {n}>({s})") });
        }
        Ok((terms.join(" + "), n))
    }
    pub(super) fn gather(&mut self, from: &Access, cond: &Cond, other: Option<ExprId>) -> Result<Text, Fault> {
        if from.idx.iter().all(|i| matches!(self.k.exprs[*i].ty, Ty::Scalar(_))) {
            return self.load(from, cond, other);
        }
        let d = self.k.bufs[from.buf].dtype;
        self.bytes(from.buf)?;
        let (name, (at, n)) = (self.buffer(from.buf)?, self.scattered(from)?);
        let v = to_register(Text::whole(format!("pw_gather({name}, {at})")), d, n);
        self.guarded(cond, n, &Ty::Vec(d, n), other, v)
    }

    pub(super) fn store(&mut self, to: &Access, val: ExprId, cond: &Cond) -> Result<(), Fault> {
        let n = u16::try_from(to.elems()).map_err(|_| "an access of too many elements")?;
        let on = self.switch(cond, n)?;
        let v = self.arg(val)?;
        let text = self.stored(to, n, v)?;
        self.line(on.map_or_else(|| text.clone(), |c| format!("if ({}) {text}", c.text)));
        Ok(())
    }
    /// The statement that stores a value.
    fn stored(&mut self, to: &Access, n: u16, v: String) -> Result<String, Fault> {
        let d = self.k.bufs[to.buf].dtype;
        let (name, b) = (self.buffer(to.buf)?, self.block_of(to)?);
        if d.is_packed() {
            let bits = d.bits();
            return Ok(match n {
                1 => format!("pw_store_packed<{bits}>({name}, {}, {v});", b.at.text),
                _ => format!("pw_store_packed<{bits}>({name}, {}, {}, {v});", b.at.text, b.stride.unwrap_or_else(|| "1".into())),
            });
        }
        let v = if d == DType::Bool && n > 1 { format!("pw_cast<uint8_t>({v})") } else { v };
        Ok(match (n, &b.stride) {
            (1, _) => format!("{name}[{}] = {v};", b.at.text),
            (_, Some(s)) => format!("pw_store_each({}, {s}, {v});", pointer(&name, &b.at)),
            (_, None) if self.aligned(to.buf, n)? => format!("pw_store({}, {v});", pointer(&name, &b.at)),
            _ => format!("pw_store_each({}, 1, {v});", pointer(&name, &b.at)),
        })
    }
    pub(super) fn scatter(&mut self, to: &Access, val: ExprId, cond: &Cond) -> Result<(), Fault> {
        if to.idx.iter().all(|i| matches!(self.k.exprs[*i].ty, Ty::Scalar(_))) {
            return self.store(to, val, cond);
        }
        let d = self.k.bufs[to.buf].dtype;
        self.bytes(to.buf)?;
        let v = self.arg(val)?;
        let (name, (at, n)) = (self.buffer(to.buf)?, self.scattered(to)?);
        let on = self.switch(cond, n)?;
        let v = if d == DType::Bool { format!("pw_cast<uint8_t>({v})") } else { v };
        let text = format!("pw_scatter({name}, {at}, {v});");
        self.line(on.map_or_else(|| text.clone(), |c| format!("if ({}) {text}", c.text)));
        Ok(())
    }

    pub(super) fn atomic(&mut self, rhs: &Rhs) -> Result<String, Fault> {
        let Rhs::Atomic { op, at, v, order, cond } = rhs else { return Err("no atomic".into()) };
        let d = self.k.bufs[at.buf].dtype;
        if *order != Order::Relaxed {
            return Err("an atomic that orders other accesses has no form on this machine".into());
        }
        // What every header of the family has; the rest would be a loop that no schedule writes.
        let call = match (op, d) {
            (AtomicOp::Add, DType::I32 | DType::U32 | DType::F32) => "atomicAdd",
            (AtomicOp::Max, DType::I32 | DType::U32) => "atomicMax",
            (AtomicOp::Min, DType::I32 | DType::U32) => "atomicMin",
            (AtomicOp::And, DType::I32 | DType::U32) => "atomicAnd",
            (AtomicOp::Or, DType::I32 | DType::U32) => "atomicOr",
            (AtomicOp::Xor, DType::I32 | DType::U32) => "atomicXor",
            (AtomicOp::Xchg, DType::I32 | DType::U32 | DType::F32) => "atomicExch",
            _ => return Err(format!("`{}` on {d}", op.name())),
        };
        let v = self.arg(*v)?;
        let (name, b) = (self.buffer(at.buf)?, self.block_of(at)?);
        let value = Text::whole(format!("{call}(&{name}[{}], {v})", b.at.text));
        Ok(self.guarded(cond, 1, &Ty::Scalar(d), None, value)?.text)
    }

    /// A copy from global memory to the group's that passes no register; one that has no such form lands at once.
    pub(super) fn copy_async(&mut self, dst: &Access, src: &Access, cond: &Cond, other: Option<ExprId>) -> Result<(), Fault> {
        let n = u16::try_from(dst.elems()).map_err(|_| "a copy of too many elements")?;
        let zero = other.is_none_or(|o| {
            let op = &self.k.exprs[o].op;
            matches!(op, Op::Lit(Lit::Int(0))) || *op == Op::Lit(Lit::float(0.0))
        });
        let bytes = self.bytes(dst.buf).map_or(0, |b| b * u32::from(n));
        let whole = matches!(bytes, 4 | 8 | 16) && self.aligned(dst.buf, n)? && self.aligned(src.buf, n)?;
        let between = self.k.bufs[src.buf].space == Space::Global && self.k.bufs[dst.buf].space == Space::Shared;
        let plain = matches!(cond, Cond::Always | Cond::When(_));
        let Some(copies) = self.dialect.copies.filter(|_| zero && whole && between && plain) else {
            let v = self.load(src, cond, other)?.text;
            let text = self.stored(dst, n, v)?;
            self.line(text);
            return Ok(());
        };
        self.shared.copies = true;
        let (to, from) = (self.block_of(dst)?, self.block_of(src)?);
        if to.stride.is_some() || from.stride.is_some() {
            return Err("an asynchronous copy of elements that are apart".into());
        }
        let zeros = match self.switch(cond, n)? {
            Some(c) => format!("{} ? 0 : {bytes}", c.at(Prec::Or)),
            None => "0".into(),
        };
        let (to, from) = (pointer(&self.buffer(dst.buf)?, &to.at), pointer(&self.buffer(src.buf)?, &from.at));
        let text = fill(copies.start, &[("to", &to), ("from", &from), ("bytes", &bytes.to_string()), ("zeros", &zeros)]);
        self.line(format!("{text};"));
        Ok(())
    }
}

/// What lies in memory as a register: truth values are bytes there.
fn to_register(v: Text, d: DType, n: u16) -> Text {
    match (d, n) {
        (DType::Bool, 1) => Text::of(Prec::Equal, format!("{} != 0", v.text)),
        (DType::Bool, _) => Text::whole(format!("pw_truth({})", v.text)),
        _ => v,
    }
}

/// The address of an element.
pub(super) fn pointer(name: &str, at: &Text) -> String {
    if at.text == "0" { name.into() } else { format!("{name} + {}", at.at(Prec::Product)) }
}

/// A sum of terms, 0 if there are none.
pub(super) fn sum(terms: Vec<Text>) -> Text {
    let mut kept: Vec<Text> = terms.into_iter().filter(|t| t.text != "0").collect();
    match kept.len() {
        0 => Text { text: "0".into(), prec: Prec::Whole, loose: true },
        1 => kept.remove(0),
        _ => {
            let text = kept.iter().enumerate().map(|(i, t)| t.at(if i == 0 { Prec::Sum } else { Prec::Product })).collect::<Vec<_>>();
            Text::of(Prec::Sum, text.join(" + "))
        }
    }
}
