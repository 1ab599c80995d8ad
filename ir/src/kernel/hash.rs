// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Structural identity of kernels: what they do, without their name and origin.

use sha2::{Digest, Sha256};

use super::{Kernel, Module, print};

impl Kernel {
    /// Hash of what the kernel does: equal for two kernels that differ in name, origin and arena order only.
    pub fn structural_hash(&self, m: &Module) -> [u8; 32] {
        let bare = Kernel { name: "_".into(), origin: Vec::new(), ..self.clone() };
        let mut h = Sha256::new();
        h.update(print::print_kernel(m, &bare).text);
        let mut used: Vec<_> = self.exprs.values().filter_map(|e| if let super::Op::Call(f) = e.op { Some(f) } else { None }).collect();
        used.sort();
        used.dedup();
        // A function reaches only functions before it, so following calls downwards ends.
        while let Some(f) = used.pop().and_then(|f| m.fns.get(f)) {
            h.update(print::print_fn(m, f));
            used.extend(f.exprs.values().filter_map(|e| if let super::Op::Call(g) = e.op { Some(g) } else { None }));
        }
        let frags = self.vars.values().filter_map(|v| if let super::Ty::Frag(a, _) = &v.ty { Some(*a) } else { None });
        let products = self.stmts.values().filter_map(|s| match s {
            super::Stmt::Set { val: super::Rhs::Mma { atom, .. }, .. } | super::Stmt::MmaAsync { atom, .. } => Some(*atom),
            _ => None,
        });
        let used: std::collections::BTreeSet<_> = frags.chain(products).collect();
        for a in used.into_iter().filter_map(|a| m.atoms.get(a)) {
            h.update(format!("{a:?}"));
        }
        h.finalize().into()
    }
}
