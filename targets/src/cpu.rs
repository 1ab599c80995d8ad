// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CPUs by name, with features added and taken away: what `--cpu` says, for every folder of a CPU.

use portwright_ir::diag::{Diags, Lowered, Reported};
use portwright_runtime::features::{self, Arch};

use crate::target::{TargetSpec, unknown_cpu};

/// A CPU that `--cpu` names.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Named {
    pub name: &'static str,
    /// LLVM's name of the CPU that is nearest from below.
    pub llvm: &'static str,
    /// Features, by groups that CPUs share.
    pub features: &'static [&'static [&'static str]],
    /// Bytes of a core's first- and second-level data cache.
    pub caches: [u32; 2],
}

/// What was asked for: a CPU and its features.
#[derive(Debug)]
pub(crate) struct Asked {
    /// As it was written.
    pub text: String,
    pub llvm: &'static str,
    /// In order of the runtime's table.
    pub features: Vec<&'static str>,
    pub caches: [u32; 2],
}

impl Asked {
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }
    pub fn every(&self, wanted: &[&str]) -> bool {
        wanted.iter().all(|f| self.has(f))
    }
}

/// Where names of CPUs and features are looked up.
pub(crate) struct Names<'n> {
    pub spec: &'n TargetSpec,
    pub arch: Arch,
    pub named: &'n [Named],
    /// Features, caches of the CPU `host`; LLVM's name is that of the first CPU.
    pub host: &'n dyn Fn() -> Option<(Vec<String>, [u32; 2])>,
    /// Features that may be added and taken away: what code generation can use and can do without.
    pub useful: &'n dyn Fn(&str) -> bool,
}

impl Names<'_> {
    fn features(&self) -> impl Iterator<Item = &'static str> + Clone {
        let names: Vec<&'static str> = features::all(self.arch).map(|(_, n)| n).filter(|n| (self.useful)(n)).collect();
        names.into_iter()
    }

    fn unknown(&self, name: &str, sink: &mut Diags) -> Reported {
        unknown_cpu("CPU", name, self.spec.cpus.iter().copied(), sink)
    }

    /// Reads `NAME`, or `NAME+feature-feature`; `None` is the target's first CPU.
    ///
    /// # Errors
    /// `E0005` for a name or a feature that does not exist.
    pub fn resolve(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Asked> {
        let text = cpu.unwrap_or(self.spec.cpus[0]);
        let changes = |name: &str| text.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with(['+', '-']));
        // Names hold `-` too: the longest one that fits.
        let name = self.named.iter().map(|n| n.name).chain(["host"]).filter(|n| changes(n).is_some()).max_by_key(|n| n.len());
        let Some((name, mut rest)) = name.and_then(|n| Some((n, changes(n)?))) else {
            return Err(self.unknown(text.split('+').next().unwrap_or(text), sink));
        };
        let (mut set, llvm, caches): (Vec<String>, _, _) = match self.named.iter().find(|n| n.name == name) {
            Some(n) => (n.features.iter().copied().flatten().map(|f| f.to_string()).collect(), n.llvm, n.caches),
            None => match ((self.host)(), self.named.first()) {
                (Some((set, caches)), Some(first)) => (set, first.llvm, caches),
                _ => return Err(self.unknown(name, sink)),
            },
        };
        while let Some(sign) = rest.chars().next() {
            // Names of features hold `-` too: the longest one that a sign or the end follows.
            let ends = rest[1..].match_indices(['+', '-']).map(|(i, _)| i + 1).chain([rest.len()]);
            let known = ends.filter(|&i| (self.useful)(&rest[1..i])).max();
            let Some(end) = known else {
                let one = &rest[1..rest[1..].find('+').map_or(rest.len(), |i| i + 1)];
                return Err(unknown_cpu(&format!("feature of {}", self.spec.id), one, self.features(), sink));
            };
            let (one, more) = rest.split_at(end);
            match sign {
                '+' => set.push(one[1..].to_string()),
                _ => set.retain(|f| *f != one[1..]),
            }
            rest = more;
        }
        let features = features::all(self.arch).map(|(_, n)| n).filter(|f| set.iter().any(|s| s == f)).collect();
        Ok(Asked { text: text.to_string(), llvm, features, caches })
    }
}
