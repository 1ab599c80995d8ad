// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs without their run-time checks, to measure what the checks cost. Nothing else may use it: such a program reads outside of
//! its memory where data is wrong.

use portwright_ir::kernel::{Module, Rhs, Stmt as KernelStmt};
use portwright_ir::plan::Stmt;

use super::Program;

/// Takes every guard of the kernels and every check of the plan away.
pub fn without_checks(p: &mut Program) {
    kernels(&mut p.module);
    block(&mut p.plan.body);
}

fn kernels(module: &mut Module) {
    for k in module.kernels.values_mut() {
        for s in k.stmts.values_mut() {
            if let KernelStmt::Def { init: Some(r), .. } | KernelStmt::Set { val: r, .. } = s
                && let Rhs::Guard { v, .. } = r
            {
                *r = Rhs::Expr(*v);
            }
        }
    }
}

fn block(body: &mut Vec<Stmt>) {
    body.retain(|s| !matches!(s, Stmt::Check { .. }));
    for s in body {
        match s {
            Stmt::If { then, els, .. } => {
                block(then);
                block(els);
            }
            Stmt::Loop { body, .. } => block(body),
            _ => {}
        }
    }
}
