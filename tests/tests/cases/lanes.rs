// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What vectors save: instructions that kernels execute under qemu against those of the same machine with one lane, and the inner loops
//! that do it, reviewed.

use libtest_mimic::Trial;

use crate::core;
use crate::snap::Kept;

/// Target, CPU, and how many times fewer instructions its vectors of f32 and its dot products of bytes must take.
const MACHINES: [(&str, &str, f64, f64); 4] = [
    ("loongarch64", "la464", 5.0, 8.0),
    ("riscv64", "rv64gcv-zvl256b", 4.0, 8.0),
    ("aarch64", "armv8.2-a", 3.0, 8.0),
    ("aarch64", "neoverse-v1", 5.0, 16.0),
];

/// The case whose products are of bytes.
const BYTES: &str = "dot_i8";

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>, kept: &mut Kept) {
    let cases = core::cases_in("lanes");
    for case in &cases {
        for (_, cpu, ..) in MACHINES {
            kept.text("lanes", &format!("{}.{cpu}", case.name));
        }
    }
    #[cfg(feature = "mlir")]
    code::trials(out, &cases);
    #[cfg(not(feature = "mlir"))]
    {
        let _ = (out, BYTES);
        crate::skip::not_listed(cases.len() * MACHINES.len(), "code of other machines (this build has no `mlir`)");
    }
}

#[cfg(feature = "mlir")]
mod code {
    use std::collections::HashMap;

    use libtest_mimic::Trial;
    use portwright_targets::codegen::{Form, Workers};
    use portwright_targets::compile as codegen;

    use super::{BYTES, MACHINES};
    use crate::core::{Case, show};
    use crate::native;
    use crate::skip::{self, always};
    use crate::snap;

    pub fn trials(out: &mut Vec<Trial>, cases: &[Case]) {
        for case in cases {
            for (target, cpu, floats, bytes) in MACHINES {
                let name = format!("lanes/{}::{cpu}", case.name);
                let c = case.clone();
                out.push(always(format!("{name}::inner_loop"), move || inner_loop_is(&c, target, cpu)));
                let (c, least) = (case.clone(), if case.name == BYTES { bytes } else { floats });
                #[cfg(feature = "emu")]
                out.push(skip::trial(format!("{name}::saves"), move || native::saves(&c, target, cpu, least)));
                #[cfg(not(feature = "emu"))]
                let _ = (c, least);
            }
        }
    }

    /// The inner loop that multiplies most is as it was reviewed.
    fn inner_loop_is(case: &Case, target: &str, cpu: &str) -> Result<(), String> {
        let mut cx = native::cx();
        let o = native::options(target, Some(cpu))?;
        let c = portwright_cli::compile::lower(case.graph()?, &o, None, &mut cx).map_err(|_| show(cx.diags.all()))?;
        let settings = codegen::Options { workers: Workers::InProcess, ..Default::default() };
        let asm = codegen::text(&c.main.module, &c.main.plan, &o.machine, &settings, Some(Form::Assembly), &mut cx.diags);
        let asm = asm.map_err(|_| show(cx.diags.all()))?;
        let found = inner_loop(&asm).ok_or("no loop in the assembly")?;
        snap::text("lanes", &format!("{}.{cpu}", case.name), &case.input()?, &found)
    }

    /// The innermost loop of kernels in an assembly text that multiplies most; labels begin anew in each of its modules.
    fn inner_loop(asm: &str) -> Option<String> {
        let loops = asm.split("\t.file\t").filter(|m| m.contains("\npwk_")).flat_map(inner_loops);
        // The first of equals: loops of ragged edges come after.
        let (_, best) =
            loops.enumerate().max_by_key(|(i, l)| (l.iter().filter(|l| multiplies(l)).count(), l.len(), std::cmp::Reverse(*i)))?;
        Some(best.join("\n"))
    }

    fn multiplies(line: &str) -> bool {
        let mnemonic = line.trim_start().split_whitespace().next().unwrap_or_default();
        ["mul", "mla", "madd", "mac", "dot"].iter().any(|m| mnemonic.contains(m))
    }

    /// Loops from a label to a jump back to it, without another such in between.
    fn inner_loops(module: &str) -> Vec<Vec<&str>> {
        let lines: Vec<&str> = module.lines().collect();
        let label = |line: &str| line.strip_suffix(':').filter(|l| l.starts_with(".LBB")).map(str::to_owned);
        let places: HashMap<String, usize> = lines.iter().enumerate().filter_map(|(i, l)| Some((label(l)?, i))).collect();
        let target = |line: &str| line.split([' ', '\t', ',']).find_map(|word| places.get(word).copied());
        let jumps = lines.iter().enumerate().filter(|(_, l)| l.starts_with('\t'));
        let loops: Vec<(usize, usize)> = jumps.filter_map(|(i, l)| target(l).filter(|t| *t < i).map(|t| (t, i))).collect();
        let inner = |a: &&(usize, usize)| !loops.iter().any(|b| b != *a && a.0 <= b.0 && b.1 <= a.1);
        let text = |a: &(usize, usize)| lines[a.0..=a.1].iter().filter(|l| !l.starts_with("\t.")).copied().collect();
        loops.iter().filter(inner).map(text).collect()
    }
}
