// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `expand-math`: transcendental functions of f32 and f64 become calls of functions made of what every machine has
//! (`math.kir`), so that results are the same everywhere. `emulate-fma` does so for fused multiply-add where it is missing.
//!
//! Before: `exp(x)`; after: `exp_f32(x)`.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{BinOp, Expr, Module, Op, UnOp, parse_module};

use super::KernelCaps;
use super::rewrite::{any, import, rebuild};

/// The functions of `math.kir`.
pub(super) fn library() -> &'static Module {
    static LIBRARY: OnceLock<Module> = OnceLock::new();
    LIBRARY.get_or_init(|| parse_module(include_str!("math.kir")).expect("math.kir is a module"))
}

/// Name of the function that computes a node, if it is none that machines have.
fn function(e: &Expr) -> Option<String> {
    let d = e.ty.elem().filter(|d| matches!(d, DType::F32 | DType::F64))?;
    let name = match &e.op {
        Op::Un(UnOp::Neg | UnOp::Not | UnOp::Abs | UnOp::Sqrt | UnOp::Rsqrt | UnOp::Rcp) => return None,
        Op::Un(UnOp::Floor | UnOp::Ceil | UnOp::Rint | UnOp::Trunc) => return None,
        Op::Un(u) => u.name(),
        Op::Bin(b @ (BinOp::Pow | BinOp::Atan2 | BinOp::TRem)) => b.name(),
        _ => return None,
    };
    Some(format!("{name}_{d}"))
}

fn replace(module: &mut Module, name: &dyn Fn(&Expr) -> Option<String>) -> bool {
    let mut wanted = BTreeSet::new();
    for arena in module.fns.values().map(|d| &d.exprs).chain(module.kernels.values().map(|k| &k.exprs)) {
        wanted.extend(arena.values().filter_map(name));
    }
    if wanted.is_empty() {
        return false;
    }
    let ids = import(module, library(), &wanted);
    rebuild(module, &mut |arena, mut e| {
        if let Some(f) = name(&e).and_then(|n| ids.get(&n)) {
            e.op = Op::Call(*f);
        }
        arena.push(e)
    });
    true
}

/// The rule `expand-math`.
pub(super) fn run(module: &mut Module, _: &KernelCaps) -> bool {
    replace(module, &function)
}

/// The rule `emulate-fma`.
pub(super) fn fma(module: &mut Module, caps: &KernelCaps) -> bool {
    let is = |e: &Expr| match (&e.op, e.ty.elem()) {
        (Op::Fma, Some(d @ (DType::F32 | DType::F64))) => Some(format!("fma_{d}")),
        _ => None,
    };
    !caps.fma && any(module, &|_, e| is(e).is_some()) && replace(module, &is)
}
