// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Barriers of groups and clusters.

use super::{At, Exec, Flow, R};
use crate::ptx::cluster::Bar;
use crate::ptx::fault::FaultKind;
use crate::ptx::instr::{BarKind, LANES, SINK};
use crate::ptx::warp::{State, Warp};

impl Exec<'_, '_> {
    /// A number that all lanes have to agree on.
    fn uniform(&mut self, at: At<'_>, row: u32, what: &str) -> R<u32> {
        let v = *self.w.frame(at.frame).regs.get::<u32>(row);
        let first = v[at.m.trailing_zeros() as usize & 31];
        if (0..LANES).any(|l| at.m >> l & 1 != 0 && v[l] != first) {
            return self.fault(at, FaultKind::Divergent, at.m, None, format!("lanes with different {what}"));
        }
        Ok(first)
    }

    pub(super) fn bar(&mut self, at: At<'_>, kind: BarKind, aligned: bool) -> R<Flow> {
        if aligned && at.m != self.w.alive {
            // All lanes of the warp have to come to this very instruction.
            if at.m != at.mask {
                return self.fault(at, FaultKind::Divergent, at.m, None, "only a part of the lanes runs a barrier for whole warps");
            }
            self.w.groups[at.g].state = State::Converge;
            return Ok(Flow::Pick);
        }
        let id = self.uniform(at, at.i.a, "barriers")?;
        let want = if at.i.b == SINK { 0 } else { self.uniform(at, at.i.b, "numbers of threads")? };
        if id > 15 || want % 32 != 0 {
            return self.fault(at, FaultKind::Operand, at.m, None, format!("barrier {id} for {want} threads"));
        }
        let mut yes = 0;
        if at.i.c != SINK {
            let p = self.w.frame(at.frame).regs.preds[at.i.c as usize];
            yes = (at.m & if at.i.imm == 1 { !p } else { p }).count_ones();
        }
        // A warp with fewer lanes than 32 counts for 32 where a number is given.
        let come = if want != 0 && at.m == self.w.alive { LANES as u32 } else { at.m.count_ones() };
        let waits = kind != BarKind::Arrive;
        let threads = self.threads(at.m);
        let cta = self.cta;
        if let Some(r) = &mut self.cl.race {
            r.arrive_bar(cta, id as u8, threads);
        }
        let bar = &mut self.cta().bars[id as usize];
        if bar.come > 0 && bar.want != want {
            let old = bar.want;
            return self.fault(
                at,
                FaultKind::Operand,
                at.m,
                None,
                format!("barrier {id} for {want} threads, and others came to it for {old}"),
            );
        }
        bar.want = want;
        bar.come += come;
        bar.yes += yes;
        bar.waits |= waits;
        if waits {
            bar.kind = Some(kind);
        }
        if want != 0 && bar.come > want {
            let come = bar.come;
            return self.fault(at, FaultKind::Operand, at.m, None, format!("{come} threads at barrier {id}, which is for {want}"));
        }
        if waits {
            if at.m != at.mask {
                let rest = at.mask & !at.m;
                let g = self.w.groups[at.g];
                self.w.groups.push(crate::ptx::warp::Group { pc: g.pc + 1, mask: rest, ..g });
                self.w.groups[at.g].mask = at.m;
            }
            self.w.groups[at.g].state = State::Bar(id as u8);
        }
        self.release(id as usize);
        Ok(if waits { Flow::Pick } else { Flow::Next })
    }

    /// Lets threads pass a barrier to which all have come.
    pub(super) fn release(&mut self, id: usize) {
        let alive = self.cta().alive;
        let bar = self.cta().bars[id];
        let want = if bar.want == 0 { alive } else { bar.want };
        if bar.come == 0 || bar.come < want {
            return;
        }
        self.cta().bars[id] = Bar::default();
        self.cl.counts.barriers += 1;
        let waiting = self.waiting(State::Bar(id as u8));
        let cta = self.cta;
        if let Some(r) = &mut self.cl.race {
            r.pass_bar(cta, id as u8, waiting.into_iter());
        }
        let codes = &self.run.module.codes;
        let pass = |w: &mut Warp| {
            for k in 0..w.groups.len() {
                let g = w.groups[k];
                if g.state != State::Bar(id as u8) {
                    continue;
                }
                (w.groups[k].state, w.groups[k].pc) = (State::Run, g.pc + 1);
                let f = w.frame(g.frame);
                let Some(i) = codes[f.func as usize].instrs.get(g.pc as usize) else { continue };
                match bar.kind {
                    Some(BarKind::Popc) => f.regs.put::<u32>(i.d, &[bar.yes; LANES], g.mask),
                    Some(BarKind::And) => f.regs.set_pred(i.d, if bar.yes >= want { u32::MAX } else { 0 }, g.mask),
                    Some(BarKind::Or) => f.regs.set_pred(i.d, if bar.yes > 0 { u32::MAX } else { 0 }, g.mask),
                    _ => {}
                }
            }
        };
        pass(self.w);
        self.cta().warps.iter_mut().flatten().for_each(|w| pass(w));
    }

    fn cluster_alive(&self) -> u32 {
        self.cl.ctas.iter().map(|c| c.alive).sum()
    }

    pub(super) fn cluster_arrive(&mut self, at: At<'_>) -> R<()> {
        self.cl.come += at.m.count_ones();
        if self.cl.come > self.cluster_alive() {
            return self.fault(at, FaultKind::Operand, at.m, None, "a second arrival at the barrier of the cluster without a wait between");
        }
        self.w.arrived |= at.m;
        let threads = self.threads(at.m);
        if let Some(r) = &mut self.cl.race {
            r.arrive_bar(usize::MAX, 0, threads);
        }
        self.cluster_release();
        Ok(())
    }

    pub(super) fn cluster_wait(&mut self, at: At<'_>) -> R<Flow> {
        if self.w.passed & at.m == at.m {
            self.w.passed &= !at.m;
            return Ok(Flow::Next);
        }
        if self.w.arrived & at.m != at.m {
            return self.fault(
                at,
                FaultKind::Operand,
                at.m & !self.w.arrived,
                None,
                "a wait at the barrier of the cluster without an arrival",
            );
        }
        if at.m != at.mask {
            return self.fault(at, FaultKind::Divergent, at.m, None, "only a part of the lanes waits for the cluster");
        }
        self.w.groups[at.g].state = State::Cluster;
        Ok(Flow::Pick)
    }

    /// Lets threads pass the barrier of the cluster once all have come.
    pub(super) fn cluster_release(&mut self) {
        if self.cl.come == 0 || self.cl.come < self.cluster_alive() {
            return;
        }
        self.cl.come = 0;
        self.cl.phase += 1;
        let all = self.everyone();
        if let Some(r) = &mut self.cl.race {
            r.pass_bar(usize::MAX, 0, all.into_iter());
        }
        let pass = |w: &mut Warp| {
            w.passed |= std::mem::take(&mut w.arrived);
            w.groups.iter_mut().filter(|g| g.state == State::Cluster).for_each(|g| g.state = State::Run);
        };
        pass(self.w);
        self.cl.ctas.iter_mut().flat_map(|c| c.warps.iter_mut().flatten()).for_each(|w| pass(w));
    }
}
