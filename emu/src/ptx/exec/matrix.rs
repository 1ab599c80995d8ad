// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix instructions.

use super::memory::Access;
use super::{At, Exec, Flow, R};
use crate::ptx::alu::cvt::value;
use crate::ptx::fault::FaultKind;
use crate::ptx::fp::{Rnd, bhalf, half, to_half};
use crate::ptx::instr::{FULL, LANES, Regs};
use crate::ptx::matrix::{MatrixLoad, Mma, Pending, Source, Wgmma, a_place, b_place, c_place};
use crate::ptx::race::PRODUCT;
use crate::ptx::ty::{Space, Ty};
use crate::ptx::warp::State;

/// Largest extent of k of one instruction with f32 elements.
const K: usize = 64;

impl Exec<'_, '_> {
    /// Whether the whole warp is here; otherwise these lanes wait for the others.
    pub(super) fn whole(&mut self, at: At<'_>) -> R<bool> {
        if at.m == FULL {
            return Ok(true);
        }
        let missing = !at.m;
        if missing & !self.w.alive != 0 || missing & at.mask != 0 {
            return self.fault(at, FaultKind::Divergent, at.m, None, "an instruction for whole warps that only a part of the lanes runs");
        }
        self.w.groups[at.g].state = State::Converge;
        Ok(false)
    }

    pub(super) fn fragment(&mut self, at: At<'_>, load: MatrixLoad) -> R<Flow> {
        if !self.whole(at)? {
            return Ok(Flow::Pick);
        }
        let n = load.n as usize;
        let lanes = At { m: if n == 4 { FULL } else { (1 << (8 * n)) - 1 }, ..at };
        let addr = self.addresses(at, at.i.a, load.base, at.i.imm);
        let space = if load.generic { Space::Generic } else { Space::Shared };
        // Which lane gets or gives an element is told apart below.
        let p = self.resolve(lanes, space, &addr, 16, Access::Sync)?;
        if self.cl.race.is_some() {
            for i in 0..n {
                self.elements(at, &load, &addr[8 * i..8 * i + 8])?;
            }
        }
        let pool = &at.code.pool[at.i.d as usize..at.i.d as usize + n];
        let regs = &mut self.w.frame(at.frame).regs;
        for (i, row) in pool.iter().enumerate() {
            let mut m = [[0u16; 8]; 8];
            if !load.store {
                for (r, line) in m.iter_mut().enumerate() {
                    // SAFETY: `resolve` gave pointers to 16 bytes for the lanes that hold addresses of rows.
                    *line = unsafe { p[8 * i + r].cast::<[u16; 8]>().read_unaligned() };
                }
                let d = regs.get_mut::<u32>(*row);
                for (l, v) in d.iter_mut().enumerate() {
                    let (g, q) = (l / 4, l % 4 * 2);
                    let (x, y) = if load.trans { (m[q][g], m[q + 1][g]) } else { (m[g][q], m[g][q + 1]) };
                    *v = u32::from(x) | u32::from(y) << 16;
                }
            } else {
                for (l, v) in regs.get::<u32>(*row).iter().enumerate() {
                    let (g, q) = (l / 4, l % 4 * 2);
                    let (x, y) = (*v as u16, (*v >> 16) as u16);
                    if load.trans {
                        (m[q][g], m[q + 1][g]) = (x, y);
                    } else {
                        (m[g][q], m[g][q + 1]) = (x, y);
                    }
                }
                for (r, line) in m.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { p[8 * i + r].cast::<[u16; 8]>().write_unaligned(*line) };
                }
            }
        }
        Ok(Flow::Next)
    }

    /// Checks the accesses of lanes to one matrix whose rows lie at these addresses.
    fn elements(&mut self, at: At<'_>, load: &MatrixLoad, rows: &[u64]) -> R<()> {
        let strip = |a: u64| if load.generic { crate::ptx::ty::window(a).1 } else { a };
        let access = if load.store { Access::Store } else { Access::Load };
        if !load.trans {
            let a = std::array::from_fn(|l| strip(rows[l / 4]) + (l % 4 * 4) as u64);
            return self.check(at, &a, FULL, 4, access);
        }
        for e in 0..2 {
            let a = std::array::from_fn(|l| strip(rows[l % 4 * 2 + e]) + (l / 4 * 2) as u64);
            self.check(at, &a, FULL, 2, access)?;
        }
        Ok(())
    }

    pub(super) fn mma(&mut self, at: At<'_>, x: &Mma) -> R<Flow> {
        if !self.whole(at)? {
            return Ok(Flow::Pick);
        }
        self.cl.counts.mma_ops += (x.m * x.n * x.k) as u64;
        let total: usize = x.counts.iter().sum();
        let pool = &at.code.pool[x.pool as usize..x.pool as usize + total];
        let (d, rest) = pool.split_at(x.counts[0]);
        let (a, rest) = rest.split_at(x.counts[1]);
        let (b, c) = rest.split_at(x.counts[2]);
        let regs = &mut self.w.frame(at.frame).regs;
        if x.a == Ty::F64 {
            double(regs, x, a, b, c, d);
        } else if x.d == Ty::S32 {
            integer(regs, x, a, b, c, d);
        } else {
            float(regs, x, a, b, c, d);
        }
        Ok(Flow::Next)
    }

    pub(super) fn wgmma(&mut self, at: At<'_>, n: u32, x: &Wgmma) -> R<Flow> {
        if !self.whole(at)? {
            return Ok(Flow::Pick);
        }
        if !self.w.asynch.fenced {
            return self.fault(at, FaultKind::Premature, at.m, None, "a wgmma whose registers were written since the last wgmma.fence");
        }
        self.cl.counts.mma_ops += (16 * x.n * x.k) as u64;
        let f = self.w.frame(at.frame);
        let uniform = |row: u32| {
            let v = f.regs.get::<u64>(row);
            v.iter().all(|d| *d == v[0]).then_some(v[0])
        };
        let b = uniform(x.desc);
        let a = match x.source {
            Source::Shared(row) => uniform(row),
            Source::Regs(_) => Some(0),
        };
        let func = f.func;
        let p = f.regs.preds[x.scale.0 as usize];
        let (Some(a), Some(b)) = (a, b) else {
            return self.fault(at, FaultKind::Divergent, at.m, None, "lanes with different descriptors");
        };
        let keep = (p & 1 == 1) != x.scale.1;
        if self.cl.race.is_some() {
            if matches!(x.source, Source::Shared(_)) {
                let row0 = self.w.id as usize % 4 * 16;
                self.operand(at, a, x.a.bytes(), row0..row0 + 16, x.k, x.trans[0])?;
            }
            self.operand(at, b, x.b.bytes(), 0..x.n, x.k, x.trans[1])?;
        }
        self.w.asynch.products.push(Pending { func, frame: at.frame, product: n, descs: [a, b], keep });
        Ok(Flow::Next)
    }

    pub(super) fn wgmma_commit(&mut self, at: At<'_>) {
        self.commit(PRODUCT, at.m & 1);
        let batch = std::mem::take(&mut self.w.asynch.products);
        self.w.asynch.batches.push(batch);
    }

    /// Products run as late as they may: when they are waited for.
    pub(super) fn wgmma_wait(&mut self, at: At<'_>, left: u32) -> R<Flow> {
        if !self.whole(at)? {
            return Ok(Flow::Pick);
        }
        self.waited(PRODUCT, 1, left);
        let done = self.w.asynch.batches.len().saturating_sub(left as usize);
        let batches: Vec<Vec<Pending>> = self.w.asynch.batches.drain(..done).collect();
        for p in batches.into_iter().flatten() {
            self.product(at, p)?;
        }
        Ok(Flow::Next)
    }

    /// Computes a product that has been waited for.
    fn product(&mut self, at: At<'_>, p: Pending) -> R<()> {
        let code = &self.run.module.codes[p.func as usize];
        let Some(x) = code.wgmmas.get(p.product as usize) else { return Ok(()) };
        let bytes = x.a.bytes();
        let size = self.run.shared as usize;
        let base = self.cl.shared(self.cta);
        let mut missing = None;
        let mut read = |desc: u64, mn: usize, k: usize, trans: bool| -> u32 {
            let o = place(desc, bytes, mn, k, trans);
            if o + bytes > size {
                missing = Some(o as u64);
                return 0;
            }
            // SAFETY: the bytes lie inside the group's shared memory.
            unsafe { super::memory::read(base.wrapping_add(o), bytes as u8, false) as u32 }
        };
        let row0 = self.w.id as usize % 4 * 16;
        let mut a = vec![[0u32; K]; 16];
        let Some(frame) = self.w.frames.get_mut(p.frame as usize).and_then(Option::as_mut) else { return Ok(()) };
        let regs = &mut frame.regs;
        match x.source {
            Source::Shared(_) => {
                for (r, line) in a.iter_mut().enumerate() {
                    for (k, v) in line.iter_mut().enumerate().take(x.k) {
                        *v = read(p.descs[0], row0 + r, k, x.trans[0]);
                    }
                }
            }
            Source::Regs(first) => {
                let per = 4 / bytes.min(4);
                for (r, line) in a.iter_mut().enumerate() {
                    for (k, v) in line.iter_mut().enumerate().take(x.k) {
                        let (reg, lane, e) = a_place(16, per, r, k);
                        let row = code.pool[first as usize + reg];
                        let bits = 8 * bytes as u32;
                        *v = regs.get::<u32>(row)[lane] >> (bits * e as u32) & (u32::MAX >> (32 - bits));
                    }
                }
            }
        }
        let d = &code.pool[x.pool as usize..x.pool as usize + x.count];
        let number = |t: Ty, v: u32| -> f32 {
            match t {
                Ty::F16 => half(v),
                Ty::BF16 => bhalf(v),
                Ty::TF32 => f32::from_bits(v & 0xffff_e000),
                t => value(t, v.into()) as f32,
            }
        };
        let whole = |t: Ty, v: u32| if t == Ty::S8 { i32::from(v as i8) } else { i32::from(v as u8) };
        let sign = |n: bool| if n { -1.0f32 } else { 1.0 };
        let af: Vec<[f32; K]> =
            if x.d == Ty::S32 { Vec::new() } else { a.iter().map(|l| l.map(|v| number(x.a, v) * sign(x.negate[0]))).collect() };
        for col in 0..x.n {
            let mut b = [0u32; K];
            for (k, v) in b.iter_mut().enumerate().take(x.k) {
                *v = read(p.descs[1], col, k, x.trans[1]);
            }
            let bf = if x.d == Ty::S32 { [0.0; K] } else { b.map(|v| number(x.b, v) * sign(x.negate[1])) };
            for r in 0..16 {
                let (reg, lane) = c_place(r, col);
                let reg = col / 8 * 4 + reg;
                match x.d {
                    Ty::S32 => {
                        let dot: i64 = (0..x.k).map(|k| i64::from(whole(x.a, a[r][k]) * whole(x.b, b[k]))).sum();
                        let v = &mut regs.get_mut::<i32>(d[reg])[lane];
                        let sum = dot + if p.keep { i64::from(*v) } else { 0 };
                        *v = if x.sat { sum.clamp(i32::MIN.into(), i32::MAX.into()) as i32 } else { sum as i32 };
                    }
                    Ty::F16 => {
                        let dot: f32 = (0..x.k).fold(0.0, |s, k| s + af[r][k] * bf[k]);
                        let (reg, shift) = (reg / 2, reg % 2 * 16);
                        let v = &mut regs.get_mut::<u32>(d[reg])[lane];
                        let old = if p.keep { half(*v >> shift & 0xffff) } else { 0.0 };
                        *v = *v & !(0xffff << shift) | to_half(old + dot) << shift;
                    }
                    _ => {
                        let dot: f32 = (0..x.k).fold(0.0, |s, k| s + af[r][k] * bf[k]);
                        let v = &mut regs.get_mut::<f32>(d[reg])[lane];
                        *v = dot + if p.keep { *v } else { 0.0 };
                    }
                }
            }
        }
        if let Some(o) = missing {
            return self.fault(
                at,
                FaultKind::OutOfBounds,
                FULL,
                Some(o),
                format!("a matrix descriptor beyond shared memory of {size} bytes"),
            );
        }
        Ok(())
    }
}

/// Where an element of a matrix lies in shared memory, by its descriptor.
pub(super) fn place(desc: u64, bytes: usize, mn: usize, k: usize, trans: bool) -> usize {
    let field = |shift: u32| ((desc >> shift & 0x3fff) << 4) as usize;
    let (start, lead, stride) = (field(0), field(16), field(32));
    // 128, 64 and 32 bytes are swizzled; 16 are not.
    let s = [0, 3, 2, 1][(desc >> 62) as usize];
    let (wide, t) = (1usize << s, 16 / bytes);
    let o = match (trans, s) {
        (false, 0) => mn % 8 * 16 + mn / 8 * stride + k / t * lead + k % t * bytes,
        (false, _) => mn % 8 * wide * 16 + mn / 8 * stride + k / t * 16 + k % t * bytes,
        (true, 0) => mn % t * bytes + mn / t * stride + k % 8 * 16 + k / 8 * lead,
        (true, _) => mn % t * bytes + mn / t % wide * 16 + mn / (t * wide) * lead + k % 8 * wide * 16 + k / 8 * stride,
    };
    let a = start + o;
    a ^ (a >> 7 & (wide - 1)) << 4
}

/// Elements of a fragment's register as f32.
fn elements(t: Ty, v: u32) -> [f32; 4] {
    match t {
        Ty::F16 => [half(v & 0xffff), half(v >> 16), 0.0, 0.0],
        Ty::BF16 => [bhalf(v), f32::from_bits(v & 0xffff_0000), 0.0, 0.0],
        Ty::TF32 => [f32::from_bits(v & 0xffff_e000), 0.0, 0.0, 0.0],
        t => [0, 8, 16, 24].map(|s| value(t, u64::from(v >> s & 0xff)) as f32),
    }
}

fn float(regs: &mut Regs, x: &Mma, a: &[u32], b: &[u32], c: &[u32], d: &[u32]) {
    let per = 32 / x.a.bits() as usize;
    let mut am = [[0f32; K]; 16];
    let mut bm = [[0f32; 8]; K];
    for (r, row) in a.iter().enumerate() {
        let v = regs.get::<u32>(*row);
        let (half, chunk) = (r % 2, r / 2);
        for l in 0..LANES {
            let e = elements(x.a, v[l]);
            am[half * 8 + l / 4][chunk * 4 * per + l % 4 * per..][..per].copy_from_slice(&e[..per]);
        }
    }
    for (r, row) in b.iter().enumerate() {
        let v = regs.get::<u32>(*row);
        for l in 0..LANES {
            let e = elements(x.b, v[l]);
            for (i, e) in e.iter().enumerate().take(per) {
                bm[r * 4 * per + l % 4 * per + i][l / 4] = *e;
            }
        }
    }
    for row in 0..16 {
        let mut s = [0f32; 8];
        for k in 0..x.k {
            let v = am[row][k];
            for n in 0..8 {
                s[n] += v * bm[k][n];
            }
        }
        for (col, dot) in s.iter().enumerate() {
            let (e, lane) = c_place(row, col);
            let old =
                if x.c == Ty::F16 { half(regs.get::<u32>(c[e / 2])[lane] >> (e % 2 * 16) & 0xffff) } else { regs.get::<f32>(c[e])[lane] };
            am[row][col] = old + dot;
        }
    }
    // Results may lie in the registers of the accumulator, so all of it has been read.
    for row in 0..16 {
        for col in 0..8 {
            let (e, lane) = c_place(row, col);
            let v = am[row][col];
            if x.d == Ty::F16 {
                let o = &mut regs.get_mut::<u32>(d[e / 2])[lane];
                let shift = e % 2 * 16;
                *o = *o & !(0xffff << shift) | to_half(v) << shift;
            } else {
                regs.get_mut::<f32>(d[e])[lane] = super::super::alu::float::canon(v);
            }
        }
    }
}

fn integer(regs: &mut Regs, x: &Mma, a: &[u32], b: &[u32], c: &[u32], d: &[u32]) {
    let bits = x.a.bits() as usize;
    let per = 32 / bits;
    let get = |regs: &Regs, rows: &[u32], (r, lane, e): (usize, usize, usize), t: Ty| -> i32 {
        let v = regs.get::<u32>(rows[r])[lane] >> (e * bits);
        let up = 32 - bits as u32;
        if t.signed() { (v << up) as i32 >> up } else { (v << up >> up) as i32 }
    };
    let mut out = vec![0i32; x.m * 8];
    for row in 0..x.m {
        for col in 0..8 {
            let mut s = 0i64;
            if x.a == Ty::B1 {
                for k in (0..x.k).step_by(32) {
                    let (ra, la, _) = a_place(x.m, 32, row, k);
                    let (rb, lb, _) = b_place(32, k, col);
                    let (va, vb) = (regs.get::<u32>(a[ra])[la], regs.get::<u32>(b[rb])[lb]);
                    s += i64::from((if x.and { va & vb } else { va ^ vb }).count_ones());
                }
            } else {
                for k in 0..x.k {
                    s += i64::from(get(regs, a, a_place(x.m, per, row, k), x.a)) * i64::from(get(regs, b, b_place(per, k, col), x.b));
                }
            }
            let (e, lane) = c_place(row, col);
            let s = s + i64::from(regs.get::<i32>(c[e])[lane]);
            out[row * 8 + col] = if x.sat { s.clamp(i32::MIN.into(), i32::MAX.into()) as i32 } else { s as i32 };
        }
    }
    for (i, v) in out.iter().enumerate() {
        let (e, lane) = c_place(i / 8, i % 8);
        regs.get_mut::<i32>(d[e])[lane] = *v;
    }
}

fn double(regs: &mut Regs, x: &Mma, a: &[u32], b: &[u32], c: &[u32], d: &[u32]) {
    let mut out = vec![0f64; x.m * 8];
    for row in 0..x.m {
        for col in 0..8 {
            let (e, lane) = c_place(row, col);
            let mut s = regs.get::<f64>(c[e])[lane];
            for k in 0..x.k {
                let (ra, la, _) = a_place(x.m, 1, row, k);
                let (rb, lb, _) = b_place(1, k, col);
                s = crate::ptx::fp::fma64(regs.get::<f64>(a[ra])[la], regs.get::<f64>(b[rb])[lb], s, Rnd::Near);
            }
            out[row * 8 + col] = s;
        }
    }
    for (i, v) in out.iter().enumerate() {
        let (e, lane) = c_place(i / 8, i % 8);
        regs.get_mut::<f64>(d[e])[lane] = *v;
    }
}
