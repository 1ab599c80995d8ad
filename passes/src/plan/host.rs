// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Host operations as statements of the plan.

use std::collections::HashMap;

use portwright_ir::graph::{Graph, Node, Op, ValueId};
use portwright_ir::plan::Fault;
use portwright_ir::plan::{BufferId, HostCall, Pred, Stmt};
use portwright_ir::sym::SymExpr;

use super::{Builder, Env};

impl Builder<'_> {
    /// The operation, the symbols that it finds, and its results in memory of their size.
    pub(super) fn host_node(&mut self, g: &Graph, node: &Node, env: &mut Env, direct: &HashMap<ValueId, u32>, body: &mut Vec<Stmt>) {
        let Op::Host { op, params, takes, gives, symbols, .. } = &node.op else { return };
        let operands: Vec<BufferId> = node.operands.iter().filter_map(|v| env.get(v).copied()).collect();
        if operands.len() != node.operands.len() {
            return;
        }
        let origin = self.origin(&node.origin);
        operands.iter().for_each(|&b| self.touch(b));
        let call = HostCall {
            op: *op,
            params: params.clone(),
            operands,
            takes: takes.clone(),
            gives: gives.clone(),
            symbols: symbols.clone(),
            origin,
        };
        self.push(body, Stmt::Host(call));
        for name in symbols {
            self.bound.insert(name.clone());
            let Some(s) = self.plan.symbols.iter().find(|p| p.name == *name).cloned() else { continue };
            if s.hi < i64::MAX {
                let pred = Pred::Le(SymExpr::sym(s.name), s.hi.into());
                self.push(body, Stmt::Check { pred, fault: Fault::Range, origin });
            }
        }
        self.check_constraints(body);
        for (i, &v) in node.results.iter().enumerate() {
            let b = self.result(g, v, &node.origin, direct, body);
            self.touch(b);
            self.push(body, Stmt::Held { buffer: b, result: i as u32 });
            env.insert(v, b);
        }
    }
}
