// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Named rules on Kernel IR that make a kernel legal for a machine: what the machine lacks becomes operations that it has.
//!
//! Emitters are printers; a rule is the only place where something is emulated. Each rule keeps the meaning, which the
//! interpreter of Kernel IR checks.
//!
//! Vectors wider than a register need no rule on CPUs: LLVM splits them into whole registers, operation by operation, which a rule could
//! only repeat. What it does to masks of memory is another matter (a branch for every element), so there is a rule for them.

mod expand;
mod floats;
mod masks;
mod rewrite;
#[cfg(test)]
mod tests;

use portwright_ir::kernel::{Expr, Module, Op};

/// What a machine does with single instructions, as far as rules ask.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelCaps {
    /// Widths in bits of the elements that masked loads and stores take.
    pub masked_bits: &'static [u32],
    /// Whether fused multiply-add is one instruction for f32 and f64.
    pub fma: bool,
    /// Whether conversions between f16 and f32 are instructions.
    pub f16_convert: bool,
}

/// A rule: name and what it does to a module.
#[derive(Copy, Clone)]
pub struct KernelRule {
    /// Verb and object, in kebab case.
    pub name: &'static str,
    /// Rewrites the module; returns whether it changed.
    pub run: fn(&mut Module, &KernelCaps) -> bool,
}

impl std::fmt::Debug for KernelRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every rule, in the order in which they run.
pub const RULES: &[KernelRule] = &[
    KernelRule { name: "emulate-small-floats", run: floats::run },
    KernelRule { name: "expand-math", run: expand::run },
    KernelRule { name: "emulate-fma", run: expand::fma },
    KernelRule { name: "no-masked-memory", run: masks::run },
];

/// What a rule did because the machine lacks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// Name of the rule.
    pub rule: &'static str,
    /// Kernels that it changed.
    pub kernels: usize,
    /// Operations that stand in their text more than before, those of called functions included at each call.
    pub operations: usize,
    /// Nodes of each launch of them, as kernels have them, in order.
    pub nodes: Vec<String>,
}

impl Emulation {
    /// Of what each kernel of a module takes more, in order; `None` where that is nothing.
    pub fn of(rule: &'static str, module: &Module, more: impl IntoIterator<Item = usize>) -> Option<Emulation> {
        let mut all = Emulation { rule, kernels: 0, operations: 0, nodes: Vec::new() };
        for (k, n) in module.kernels.values().zip(more).filter(|(_, n)| *n > 0) {
            all.kernels += 1;
            all.operations += n;
            all.nodes.extend(k.origin.iter().cloned());
        }
        (all.kernels > 0).then_some(all)
    }
}

/// What rules do to a module for a machine that lacks what its kernels are written with. What all machines lack alike (`expand-math`) is no
/// emulation, and memory without masks is another form of the same loop.
pub fn emulations(mut module: Module, caps: &KernelCaps) -> Vec<Emulation> {
    let mut out = Vec::new();
    for r in RULES {
        let before = sizes(&module);
        if !(r.run)(&mut module, caps) || !r.name.starts_with("emulate-") {
            continue;
        }
        let more = sizes(&module).into_iter().zip(before).map(|(after, before)| after.saturating_sub(before));
        out.extend(Emulation::of(r.name, &module, more));
    }
    out
}

/// Operations in the text of each kernel.
fn sizes(module: &Module) -> Vec<usize> {
    fn of(exprs: &rewrite::Arena, module: &Module, depth: u32) -> usize {
        let one = |e: &Expr| match &e.op {
            // Functions call functions before them: the depth is that of a library.
            Op::Call(f) if depth < 8 => module.fns.get(*f).map_or(1, |d| of(&d.exprs, module, depth + 1)),
            _ => 1,
        };
        exprs.values().map(one).sum()
    }
    module.kernels.values().map(|k| of(&k.exprs, module, 0)).collect()
}

/// Runs every rule.
pub fn legalize(module: &mut Module, caps: &KernelCaps) {
    for r in RULES {
        (r.run)(module, caps);
    }
}
