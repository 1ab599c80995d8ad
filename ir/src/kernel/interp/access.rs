// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads and stores: bounds of each dim, masks, extents of valid elements, alignment, and the walk over rows.

use smallvec::SmallVec;

use super::code::{Block, CONST, CondAt, MemOp};
use super::machine::{Machine, Stream};
use super::{FaultKind, Run, Stop, alu};
use crate::entity::EntityId;

impl Machine<'_, '_> {
    /// Flat element of the block's corner, after checking the whole block except where `valid` cuts it.
    pub(super) fn corner(&self, b: &Block, lane: usize, cut: Option<&[i64]>) -> Run<usize> {
        let i = b.buf.index();
        let shape = &self.p.bufs[i];
        let mut at = 0i64;
        for (d, ix) in b.idx.iter().enumerate() {
            let v = self.ix(*ix, lane);
            let n = cut.map_or(i64::from(b.len[d]), |c| c[d]);
            let dim = shape.dims[d];
            if n > 0 && (v < 0 || v.checked_add(n).is_none_or(|end| end > dim)) {
                return Err(self.outside(i, d, v, n, dim, lane));
            }
            at = at.wrapping_add(v.wrapping_mul(shape.strides[d]));
        }
        Ok(at as usize)
    }
    #[cold]
    fn outside(&self, buf: usize, d: usize, v: i64, n: i64, dim: i64, lane: usize) -> Stop {
        let name = self.k.bufs.values().nth(buf).map_or("?", |b| b.name.as_str());
        Stop::new(FaultKind::Bounds, format!("elements {v}..{} of dim {d} of `{name}`, which has {dim}", v.saturating_add(n)))
            .at_lane(lane as u32)
    }
    /// Extents of a block where `valid` cuts it.
    pub(super) fn cut(&self, b: &Block, c: &CondAt, lane: usize) -> Option<SmallVec<[i64; 4]>> {
        let CondAt::Valid(v) = c else { return None };
        let mut it = v.iter();
        let cut = |n: &u32| match it.next() {
            Some(x) if *n > 1 => self.ix(*x, lane).clamp(0, i64::from(*n)),
            _ => i64::from(*n),
        };
        let mut long = b.len.iter();
        let mut cut = cut;
        let mut out: SmallVec<[i64; 4]> = SmallVec::new();
        for n in long.by_ref() {
            out.push(if *n > 1 { cut(n) } else { 1 });
        }
        // A block with nothing valid touches nothing.
        if out.contains(&0) {
            out.fill(0);
        }
        Some(out)
    }

    pub(super) fn load(&mut self, s: &Stream, op: &MemOp) -> Run<()> {
        let buf = op.at.buf.index();
        let (counted, mut touches) = (self.counts(op.at.buf), Vec::new());
        for l in s.lanes.clone() {
            if !s.on(l) {
                continue;
            }
            if let (Some(o), false) = (op.other, matches!(op.cond, CondAt::Always)) {
                let v = self.at(o, l);
                for e in 0..op.n {
                    self.put(op.val + e, l, v);
                }
            } else if !self.poison.is_empty() {
                let undefined = !matches!(op.cond, CondAt::Always);
                for e in 0..op.n {
                    self.set_poison(op.val + e, l, undefined);
                }
            }
            if let CondAt::When(c) = op.cond
                && self.at(c, l) & 1 == 0
            {
                continue;
            }
            let who = self.who(s, l);
            let lane = l as u32;
            let loaded = |m: &mut Self, e: u32, n: usize| {
                if m.poison.is_empty() {
                    return;
                }
                for i in e..e + n as u32 {
                    m.set_poison(op.val + i, l, false);
                }
            };
            self.runs(op, l, &mut |m, e, at, n| {
                m.mem.touch(buf, lane, at, n, false, &who)?;
                if counted {
                    touches.push((l, at, n));
                }
                let start = (op.val + e) as usize * m.lanes + l;
                let lanes = m.lanes;
                m.mem.get(buf, lane, at, &mut m.regs[start..], lanes, n)?;
                loaded(m, e, n);
                Ok(())
            })
            .map_err(|x| x.at_lane(lane))?;
        }
        self.count_trips_of(op.at.buf, &touches);
        Ok(())
    }
    fn count_trips_of(&mut self, buf: crate::kernel::BufId, touches: &[super::banks::Touch]) {
        if !touches.is_empty() {
            self.count_trips(buf, touches);
        }
    }
    pub(super) fn store(&mut self, s: &Stream, op: &MemOp) -> Run<()> {
        let buf = op.at.buf.index();
        let (counted, mut touches) = (self.counts(op.at.buf), Vec::new());
        for l in s.lanes.clone() {
            if !s.on(l) {
                continue;
            }
            if let CondAt::When(c) = op.cond
                && self.at(c, l) & 1 == 0
            {
                continue;
            }
            let who = self.who(s, l);
            let lane = l as u32;
            self.runs(op, l, &mut |m, e, at, n| {
                if counted {
                    touches.push((l, at, n));
                }
                if !m.poison.is_empty() && (e..e + n as u32).any(|i| m.poisoned(op.val + i, l)) {
                    return Err(Stop::new(FaultKind::Poison, "an undefined element reaches a store"));
                }
                m.mem.touch(buf, lane, at, n, true, &who)?;
                let lanes = m.lanes;
                let (src, s) = if op.val & CONST != 0 { (&m.p.consts, op.val & !CONST) } else { (&m.regs, op.val) };
                let start = (s + e) as usize * lanes + l;
                m.mem.put(buf, lane, at, &src[start..], lanes, n);
                Ok(())
            })
            .map_err(|x| x.at_lane(lane))?;
        }
        self.count_trips_of(op.at.buf, &touches);
        Ok(())
    }

    /// Calls `f` with (element of the value, element of the buffer, count) for every run of neighbors that is on.
    fn runs(&mut self, op: &MemOp, l: usize, f: &mut dyn FnMut(&mut Self, u32, usize, usize) -> Run<()>) -> Run<()> {
        let i = op.at.buf.index();
        let shape = &self.p.bufs[i];
        if op.indexed {
            for e in 0..op.n {
                if let CondAt::Mask(c) = op.cond
                    && self.at(c + e, l) & 1 == 0
                {
                    continue;
                }
                let mut at = 0i64;
                for (d, ix) in op.at.idx.iter().enumerate() {
                    let v = alu::as_i64(self.at(ix.slot + e, l), ix.wide);
                    if v < 0 || v >= shape.dims[d] {
                        return Err(self.outside(i, d, v, 1, shape.dims[d], l));
                    }
                    at += v * shape.strides[d];
                }
                f(self, e, at as usize, 1)?;
            }
            return Ok(());
        }
        if let CondAt::Mask(c) = op.cond {
            // A mask belongs to one dim; its elements that are off may lie outside.
            let d = op.at.len.iter().position(|n| *n > 1).unwrap_or(op.at.len.len().saturating_sub(1));
            let mut e = 0;
            while e < op.n {
                if self.at(c + e, l) & 1 == 0 {
                    e += 1;
                    continue;
                }
                let first = e;
                while e < op.n && self.at(c + e, l) & 1 != 0 {
                    e += 1;
                }
                let mut at = 0i64;
                for (k, ix) in op.at.idx.iter().enumerate() {
                    let v = self.ix(*ix, l).wrapping_add(if k == d { i64::from(first) } else { 0 });
                    let n = if k == d { i64::from(e - first) } else { 1 };
                    if v < 0 || v.checked_add(n).is_none_or(|end| end > shape.dims[k]) {
                        return Err(self.outside(i, k, v, n, shape.dims[k], l));
                    }
                    at = at.wrapping_add(v.wrapping_mul(shape.strides[k]));
                }
                let step = shape.strides.get(d).copied().unwrap_or(1);
                if step == 1 {
                    f(self, first, at as usize, (e - first) as usize)?;
                } else {
                    for j in first..e {
                        f(self, j, (at + i64::from(j - first) * step) as usize, 1)?;
                    }
                }
            }
            return Ok(());
        }
        let cut = self.cut(&op.at, &op.cond, l);
        let at = self.corner(&op.at, l, cut.as_deref())?;
        self.check_alignment(&op.at, at, l)?;
        if op.n == 1 {
            return if cut.is_some_and(|c| c.contains(&0)) { Ok(()) } else { f(self, 0, at, 1) };
        }
        self.rows(&op.at, at, cut.as_deref(), &mut |m, e, at, n| f(m, e, at, n))
    }
    /// Calls `f` for every row of a block along its last dim.
    pub(super) fn rows(
        &mut self,
        b: &Block,
        at: usize,
        cut: Option<&[i64]>,
        f: &mut dyn FnMut(&mut Self, u32, usize, usize) -> Run<()>,
    ) -> Run<()> {
        let shape = &self.p.bufs[b.buf.index()];
        let rank = b.len.len();
        let Some(last) = rank.checked_sub(1) else { return f(self, 0, at, 1) };
        let n_last = cut.map_or(i64::from(b.len[last]), |c| c[last]) as usize;
        let outer: u32 = b.len[..last].iter().product();
        for o in 0..outer {
            let (mut rest, mut row, mut inside) = (o, at as i64, n_last > 0);
            for d in (0..last).rev() {
                let v = rest % b.len[d];
                rest /= b.len[d];
                inside &= cut.is_none_or(|c| i64::from(v) < c[d]);
                row += i64::from(v) * shape.strides[d];
            }
            if !inside {
                continue;
            }
            let e = o * b.len[last];
            if shape.strides[last] == 1 {
                f(self, e, row as usize, n_last)?;
            } else {
                for j in 0..n_last {
                    f(self, e + j as u32, (row + j as i64 * shape.strides[last]) as usize, 1)?;
                }
            }
        }
        Ok(())
    }
    /// On simt a vector of a buffer that is aligned for it begins at a multiple of its size.
    fn check_alignment(&self, b: &Block, at: usize, l: usize) -> Run<()> {
        let Some(buf) = self.k.bufs.get(b.buf) else { return Ok(()) };
        let n: u32 = b.len.iter().product();
        let (Some(size), true) = (buf.dtype.bytes(), self.k.class == crate::kernel::Class::Simt && n > 1) else { return Ok(()) };
        let bytes = size * n;
        if bytes.is_power_of_two() && bytes <= 16 && buf.align >= bytes && !(at * size as usize).is_multiple_of(bytes as usize) {
            let m = format!("{bytes} bytes from byte {} of `{}`", at * size as usize, buf.name);
            return Err(Stop::new(FaultKind::Alignment, m).at_lane(l as u32));
        }
        Ok(())
    }
}
