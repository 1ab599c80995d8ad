// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lanes of a warp do together: shuffles, votes, matches, reductions. The lanes of the member mask must all come to the instruction;
//! the first ones wait there, and if the others never come, that is a fault.

use super::{At, Exec, Flow, R};
use crate::ptx::fault::FaultKind;
use crate::ptx::instr::{LANES, Redux, Shfl, Vote};
use crate::ptx::ty::Ty;
use crate::ptx::warp::State;

impl Exec<'_, '_> {
    /// Lanes of each member mask among the lanes that run; None where some have to wait for others.
    fn members(&mut self, at: At<'_>, row: u32) -> R<Option<u32>> {
        let masks = *self.w.frame(at.frame).regs.get::<u32>(row);
        let mut wanted = 0;
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            if masks[l] >> l & 1 == 0 {
                return self.fault(
                    at,
                    FaultKind::Divergent,
                    1 << l,
                    None,
                    format!("a lane that its member mask {:#010x} does not have", masks[l]),
                );
            }
            wanted |= masks[l];
        }
        // Members that have ended are not waited for.
        let missing = wanted & self.w.alive & !at.m;
        if missing == 0 {
            return Ok(Some(wanted & self.w.alive));
        }
        if at.mask & missing != 0 {
            let what = format!("lanes {:#010x} are members and stand here, and their guard keeps them from it", at.mask & missing);
            return self.fault(at, FaultKind::Divergent, at.mask & missing, None, what);
        }
        if at.m != at.mask {
            // The others go on without these.
            let g = self.w.groups[at.g];
            self.w.groups.push(crate::ptx::warp::Group { pc: g.pc + 1, mask: at.mask & !at.m, ..g });
            self.w.groups[at.g].mask = at.m;
        }
        self.w.groups[at.g].state = State::Converge;
        Ok(None)
    }

    pub(super) fn shfl(&mut self, at: At<'_>, kind: Shfl, mask: u32) -> R<Flow> {
        if self.members(at, mask)?.is_none() {
            return Ok(Flow::Pick);
        }
        let regs = &self.w.frame(at.frame).regs;
        let (a, b, c) = (*regs.get::<u32>(at.i.a), *regs.get::<u32>(at.i.b), *regs.get::<u32>(at.i.c));
        let masks = *regs.get::<u32>(mask);
        let (mut o, mut p) = (a, 0u32);
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            let lane = l as i32;
            let (bv, cv, seg) = ((b[l] & 31) as i32, (c[l] & 31) as i32, (c[l] >> 8 & 31) as i32);
            let top = (lane & seg) | (cv & !seg);
            let low = lane & seg;
            let (j, ok) = match kind {
                Shfl::Up => (lane - bv, lane - bv >= top),
                Shfl::Down => (lane + bv, lane + bv <= top),
                Shfl::Bfly => (lane ^ bv, lane ^ bv <= top),
                Shfl::Idx => {
                    let j = low | (bv & !seg);
                    (j, j <= top)
                }
            };
            if !ok {
                continue;
            }
            p |= 1 << l;
            let j = j as usize & 31;
            if at.m >> j & 1 == 0 || masks[l] >> j & 1 == 0 {
                return self.fault(
                    at,
                    FaultKind::Divergent,
                    1 << l,
                    None,
                    format!("a shuffle that reads lane {j}, which does not take part"),
                );
            }
            o[l] = a[j];
        }
        let regs = &mut self.w.frame(at.frame).regs;
        regs.put::<u32>(at.i.d, &o, at.m);
        regs.set_pred(at.i.imm as u32, p, at.m);
        Ok(Flow::Next)
    }

    pub(super) fn vote(&mut self, at: At<'_>, kind: Vote, wide: bool, negated: bool) -> R<Flow> {
        if self.members(at, at.i.b)?.is_none() {
            return Ok(Flow::Pick);
        }
        let regs = &mut self.w.frame(at.frame).regs;
        let masks = *regs.get::<u32>(at.i.b);
        match kind {
            Vote::MatchAny | Vote::MatchAll => {
                let a = regs.wide(at.i.a, if wide { crate::ptx::instr::Width::W64 } else { crate::ptx::instr::Width::W32 });
                let (mut o, mut p) = ([0; LANES], 0u32);
                for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
                    let members = masks[l] & at.m;
                    let same = (0..LANES).filter(|k| members >> k & 1 != 0 && a[*k] == a[l]).fold(0u32, |s, k| s | 1 << k);
                    let all = same == members;
                    o[l] = if kind == Vote::MatchAny || all { same } else { 0 };
                    p |= u32::from(all) << l;
                }
                regs.put::<u32>(at.i.d, &o, at.m);
                regs.set_pred(at.i.imm as u32, p, at.m);
            }
            Vote::Elect => {
                let leader = masks.map(|m| (m & at.m).trailing_zeros());
                let p = (0..LANES).fold(0u32, |s, l| s | u32::from(leader[l] == l as u32) << l);
                if at.i.d != crate::ptx::instr::SINK {
                    regs.put::<u32>(at.i.d, &leader, at.m);
                }
                regs.set_pred(at.i.imm as u32, p, at.m);
            }
            _ => {
                let yes = regs.preds[at.i.a as usize];
                let yes = if negated { !yes } else { yes } & at.m;
                let ballots = masks.map(|m| m & at.m & yes);
                if kind == Vote::Ballot {
                    regs.put::<u32>(at.i.d, &ballots, at.m);
                } else {
                    let mut p = 0;
                    for l in 0..LANES {
                        let (b, m) = (ballots[l], masks[l] & at.m);
                        let v = match kind {
                            Vote::All => b == m,
                            Vote::Any => b != 0,
                            _ => b == 0 || b == m,
                        };
                        p |= u32::from(v) << l;
                    }
                    regs.set_pred(at.i.d, p, at.m);
                }
            }
        }
        Ok(Flow::Next)
    }

    pub(super) fn redux(&mut self, at: At<'_>, op: Redux, ty: Ty, nan: bool, abs: bool) -> R<Flow> {
        if self.members(at, at.i.b)?.is_none() {
            return Ok(Flow::Pick);
        }
        let regs = &mut self.w.frame(at.frame).regs;
        let (a, masks) = (*regs.get::<u32>(at.i.a), *regs.get::<u32>(at.i.b));
        let float = |x: u32, y: u32, max: bool| {
            let flags = if nan { 4 } else { 0 };
            let (x, y) = (f32::from_bits(x), f32::from_bits(y));
            let (x, y) = if abs { (x.abs(), y.abs()) } else { (x, y) };
            (if max { crate::ptx::alu::float::greatest(flags, x, y) } else { crate::ptx::alu::float::least(flags, x, y) }).to_bits()
        };
        let f = |x: u32, y: u32| match (op, ty) {
            (Redux::Add, _) => x.wrapping_add(y),
            (Redux::Min, Ty::F32) => float(x, y, false),
            (Redux::Max, Ty::F32) => float(x, y, true),
            (Redux::Min, Ty::S32) => (x as i32).min(y as i32) as u32,
            (Redux::Max, Ty::S32) => (x as i32).max(y as i32) as u32,
            (Redux::Min, _) => x.min(y),
            (Redux::Max, _) => x.max(y),
            (Redux::And, _) => x & y,
            (Redux::Or, _) => x | y,
            (Redux::Xor, _) => x ^ y,
        };
        let mut o = [0; LANES];
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            let members = masks[l] & at.m;
            o[l] = (0..LANES).filter(|k| members >> k & 1 != 0).map(|k| a[k]).reduce(f).unwrap_or(0);
        }
        regs.put::<u32>(at.i.d, &o, at.m);
        Ok(Flow::Next)
    }

    pub(super) fn warp_sync(&mut self, at: At<'_>) -> R<Flow> {
        let masks = *self.w.frame(at.frame).regs.get::<u32>(at.i.b);
        let first = masks[at.m.trailing_zeros() as usize & 31];
        let odd =
            (0..LANES).filter(|l| at.m >> l & 1 != 0 && (masks[*l] != first || masks[*l] >> l & 1 == 0)).fold(0u32, |s, l| s | 1 << l);
        if odd != 0 {
            return self.fault(
                at,
                FaultKind::Divergent,
                odd,
                None,
                format!("lanes {odd:#010x} wait for other lanes than those of mask {first:#010x}"),
            );
        }
        if at.m != at.mask {
            let g = self.w.groups[at.g];
            self.w.groups.push(crate::ptx::warp::Group { pc: g.pc + 1, mask: at.mask & !at.m, ..g });
            self.w.groups[at.g].mask = at.m;
        }
        self.w.groups[at.g].state = State::Warp(first);
        self.warp_release();
        Ok(Flow::Pick)
    }

    /// Lets lanes pass `bar.warp.sync` whose members have all come, wherever in the program they wait.
    pub(super) fn warp_release(&mut self) {
        for k in 0..self.w.groups.len() {
            let State::Warp(mask) = self.w.groups[k].state else { continue };
            let come = self.w.groups.iter().filter(|g| g.state == State::Warp(mask)).fold(0, |s, g| s | g.mask);
            if mask & self.w.alive & !come == 0 {
                let threads = self.threads(come);
                if let Some(r) = &mut self.cl.race {
                    r.meet(threads);
                }
                for g in self.w.groups.iter_mut().filter(|g| g.state == State::Warp(mask)) {
                    (g.state, g.pc) = (State::Run, g.pc + 1);
                }
            }
        }
    }
}
