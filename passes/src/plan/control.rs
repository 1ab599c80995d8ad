// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Branches and loops as statements of the plan.

use portwright_ir::diag::{Code, Diagnostic};
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::graph::{Graph, Node, Op, TensorType, ValueId};
use portwright_ir::plan::{BufferId, Pred, Stmt};
use portwright_ir::sym::{SymExpr, SymName, product};

use super::{Builder, Env};

impl Builder<'_> {
    fn fresh(&mut self, hint: &str) -> SymName {
        self.next_name += 1;
        format!("{hint}.{}", self.next_name).into()
    }
    /// Plans a region; symbols and arenas that it opens are its own.
    fn region(&mut self, g: &Graph, inputs: &[BufferId], body: &mut Vec<Stmt>) -> Vec<BufferId> {
        let (bound, open) = (self.bound.clone(), self.open);
        let outputs = vec![None; g.outputs().len()];
        // What the region takes as given is tested in it.
        let outer = std::mem::replace(&mut self.pending, g.constraints.clone());
        self.check_constraints(body);
        let out = self.block(g, inputs, &outputs, body);
        self.pending = outer;
        (self.bound, self.open) = (bound, open);
        out
    }
    /// Memory for the results of a node whose dims must be known before it runs.
    fn results(&mut self, g: &Graph, node: &Node, values: &[ValueId], body: &mut Vec<Stmt>) -> Option<Vec<BufferId>> {
        let mut out = Vec::new();
        for &v in values {
            let ty = g.ty(v).clone();
            let mut needs = std::collections::BTreeSet::new();
            ty.dims.iter().for_each(|d| d.collect_symbols(&mut needs));
            if let Some(s) = needs.iter().find(|s| !self.bound.contains(*s)) {
                let m = format!("a result of `{}` has a dim `{s}` that is known only after it ran", node.op.mnemonic());
                self.diags.report(Diagnostic::error(Code::NOT_SUPPORTED, m).at(node.origin.first()));
                return None;
            }
            let name = g.value(v).name.clone().unwrap_or_else(|| node.origin.first().into());
            out.push(self.arena(body, name, &ty));
        }
        Some(out)
    }
    fn copy(&mut self, body: &mut Vec<Stmt>, to: BufferId, from: BufferId) {
        self.touch(to);
        self.touch(from);
        self.push(body, Stmt::Copy { to, from });
    }

    pub(super) fn if_node(&mut self, g: &Graph, node: &Node, env: &mut Env, body: &mut Vec<Stmt>) {
        let operands: Vec<BufferId> = node.operands.iter().filter_map(|v| env.get(v).copied()).collect();
        let (Some((&cond, captures)), [then_region, else_region]) = (operands.split_first(), node.regions.as_slice()) else { return };
        let Some(results) = self.results(g, node, &node.results, body) else { return };
        let symbol = self.fresh("cond");
        self.touch(cond);
        self.push(body, Stmt::Read { symbol: symbol.clone(), buffer: cond, index: 0.into() });
        self.bound.insert(symbol.clone());
        // Results and captures live across both branches.
        operands.iter().chain(&results).for_each(|&b| self.touch(b));
        let branch = |b: &mut Self, region: &Graph| {
            let mut list = Vec::new();
            let out = b.region(region, captures, &mut list);
            for (&to, from) in results.iter().zip(out) {
                b.copy(&mut list, to, from);
            }
            list
        };
        let then = branch(self, then_region);
        let els = branch(self, else_region);
        operands.iter().chain(&results).for_each(|&b| self.touch(b));
        self.push(body, Stmt::If { pred: Pred::Eq(SymExpr::sym(symbol), 1.into()), then, els });
        env.extend(node.results.iter().copied().zip(results));
    }

    pub(super) fn loop_node(&mut self, g: &Graph, node: &Node, env: &mut Env, body: &mut Vec<Stmt>) {
        let Op::Loop { carried, trips } = &node.op else { return };
        let carried = *carried as usize;
        let operands: Vec<BufferId> = node.operands.iter().filter_map(|v| env.get(v).copied()).collect();
        let ([trip, cond, rest @ ..], [region]) = (operands.as_slice(), node.regions.as_slice()) else { return };
        if rest.len() < carried || node.results.len() < carried {
            return;
        }
        let (initial, captures) = rest.split_at(carried);
        let (carried_values, scanned_values) = node.results.split_at(carried);
        let limit = self.fresh("trip");
        self.touch(*trip);
        self.push(body, Stmt::Read { symbol: limit.clone(), buffer: *trip, index: 0.into() });
        self.bound.insert(limit.clone());
        let Some(state) = self.results(g, node, carried_values, body) else { return };
        // Room for every iteration that the limit allows; what is used of it is known after the loop.
        let stacked: Vec<(BufferId, TensorType)> = scanned_values
            .iter()
            .map(|&v| {
                let mut ty = g.ty(v).clone();
                if let Some(first) = ty.dims.first_mut() {
                    *first = SymExpr::sym(limit.clone()).maximum(&0.into());
                }
                let name = g.value(v).name.clone().unwrap_or_else(|| node.origin.first().into());
                (self.arena(body, name, &ty), ty)
            })
            .collect();
        let scalar = |dtype| TensorType::new(dtype, Vec::new());
        let goes_on = self.arena(body, "loop.cond".into(), &scalar(DType::Bool));
        let iteration = self.arena(body, "loop.iteration".into(), &scalar(DType::I64));
        self.copy(body, goes_on, *cond);
        for (&to, &from) in state.iter().zip(initial) {
            self.copy(body, to, from);
        }
        let start = self.position;
        let counter = self.fresh("i");
        let mut list = Vec::new();
        self.bound.insert(counter.clone());
        self.touch(iteration);
        self.push(&mut list, Stmt::WriteDims { buffer: iteration, values: vec![SymExpr::sym(counter.clone())] });
        let inputs: Vec<BufferId> = [iteration, goes_on].into_iter().chain(state.iter().copied()).chain(captures.iter().copied()).collect();
        let out = self.region(region, &inputs, &mut list);
        let Some((&next_cond, out)) = out.split_first() else { return };
        let (next, scanned) = out.split_at(carried.min(out.len()));
        for ((stack, ty), &from) in stacked.iter().zip(scanned) {
            let bytes = self.plan.buffers[from].bytes();
            let one = TensorType::new(ty.dtype, ty.dims[1..].to_vec());
            debug_assert_eq!(product(&one.dims), product(&self.plan.buffers[from].dims));
            let slice = self.view(*stack, SymExpr::sym(counter.clone()) * bytes, &one);
            self.copy(&mut list, slice, from);
        }
        // A next state that is another state's memory must be read before any is written.
        let next: Vec<BufferId> = next
            .iter()
            .enumerate()
            .map(|(i, &from)| {
                let base = self.base(from).0;
                if state.iter().enumerate().any(|(j, &s)| j != i && self.base(s).0 == base) {
                    let ty = TensorType::new(self.plan.buffers[from].dtype, self.plan.buffers[from].dims.clone());
                    let hold = self.arena(&mut list, "loop.next".into(), &ty);
                    self.copy(&mut list, hold, from);
                    return hold;
                }
                from
            })
            .collect();
        for (&to, &from) in state.iter().zip(&next) {
            if self.base(to).0 != self.base(from).0 {
                self.copy(&mut list, to, from);
            }
        }
        if self.base(goes_on).0 != self.base(next_cond).0 {
            self.copy(&mut list, goes_on, next_cond);
        }
        self.bound.remove(&counter);
        // What came from before the loop is needed until its last iteration.
        let end = self.position;
        for u in self.uses.iter_mut().flatten() {
            if u.0 <= start && u.1 > start {
                u.1 = end + 1;
            }
        }
        for &b in state.iter().chain([&goes_on, &iteration]).chain(stacked.iter().map(|(b, _)| b)) {
            if let Some(u) = &mut self.uses[b.index()] {
                u.1 = u.1.max(end + 1);
            }
        }
        let origin = self.origin(&node.origin);
        let trip = SymExpr::sym(limit);
        self.push(body, Stmt::Loop { counter, trips: trips.clone(), trip, cond: Some(goes_on), body: list, origin });
        self.bound.insert(trips.clone());
        self.check_constraints(body);
        env.extend(carried_values.iter().copied().zip(state));
        for (&v, (stack, _)) in scanned_values.iter().zip(&stacked) {
            let view = self.view(*stack, 0.into(), &g.ty(v).clone());
            env.insert(v, view);
        }
    }
}
