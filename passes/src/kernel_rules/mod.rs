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

use portwright_ir::kernel::Module;

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

/// Runs every rule.
pub fn legalize(module: &mut Module, caps: &KernelCaps) {
    for r in RULES {
        (r.run)(module, caps);
    }
}
