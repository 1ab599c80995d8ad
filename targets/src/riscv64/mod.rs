// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 64-bit RISC-V with the vector extension, for registers of at least so many bits, and without it.

use portwright_ir::diag::{Diags, Lowered};
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, MachineClass};
use portwright_runtime::features::Arch;

use crate::cpu::{Named, Names};
use crate::mlir::Spelling;
use crate::target::{Machine, Target, TargetSpec};

/// The target.
#[derive(Copy, Clone, Debug)]
pub struct Riscv64;

static SPEC: TargetSpec = TargetSpec {
    id: "riscv64",
    vendor: "RISC-V International",
    about: "64-bit RISC-V with vectors of at least 128 bits",
    cpus: &["rv64gcv", "rv64gcv-zvl256b", "spacemit-x60", "rv64gc"],
    sources: &[
        "RISC-V Unprivileged ISA 20240411, 30 (V: 32 registers of at least 128 bits, masked memory access)",
        "SpacemiT Key Stone K1 datasheet (X60: RVA22, registers of 256 bits, 32 KiB first-level data cache, 512 KiB second level of four cores)",
    ],
    maintainer: "@portwright",
    // Cores and clocks differ from machine to machine of the kind.
    roof: crate::target::Roof::UNKNOWN,
};

const BASE: &[&str] = &["m", "a", "f", "d", "c"];
const VECTORS: &[&str] = &["v", "zvl256b", "zvl512b"];
const MORE: &[&str] = &["zba", "zbb", "zbs", "zfh", "zfhmin", "zvfh", "zvfhmin", "zfa", "zicond"];
const RVA22: &[&str] = &["zba", "zbb", "zbs", "zfhmin"];

/// Caches of no core in particular: the smallest that cores with vectors have.
const fn named(name: &'static str, features: &'static [&'static [&'static str]], l2: u32) -> Named {
    Named { name, llvm: "generic-rv64", features, caches: [32 << 10, l2 << 10] }
}

const NAMED: &[Named] = &[
    named("rv64gcv", &[BASE, &["v"]], 256),
    named("rv64gcv-zvl256b", &[BASE, &["v", "zvl256b"]], 256),
    named("spacemit-x60", &[BASE, RVA22, &["v", "zvl256b", "zvfh", "zvfhmin", "zfh", "zicond"]], 512),
    named("rv64gc", &[BASE], 256),
];

impl Target for Riscv64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        // The machine at hand: what every one has; the runtime tests it at load.
        let host = || Some((BASE.iter().map(|f| f.to_string()).collect(), NAMED[0].caches));
        let useful = |f: &str| VECTORS.contains(&f) || MORE.contains(&f);
        let asked = Names { spec: &SPEC, arch: Arch::Riscv64, named: NAMED, host: &host, useful: &useful }.resolve(cpu, sink)?;
        let vector = asked.has("v");
        let vec_bytes = match (asked.has("zvl512b"), asked.has("zvl256b")) {
            _ if !vector => 1,
            (true, _) => 64,
            (_, true) => 32,
            _ => 16,
        };
        Ok(Machine {
            target: SPEC.id,
            arch: Arch::Riscv64,
            triple: "riscv64-linux-gnu",
            cpu: format!("riscv64 ({})", asked.text),
            llvm_cpu: asked.llvm,
            abi: "lp64d",
            class: MachineClass::Cpu(CpuSpec {
                vec_bytes,
                vec_regs: 32,
                masked_mem: vector,
                fma: true,
                l1_bytes: asked.caches[0],
                l2_bytes: asked.caches[1],
                dots: &[],
                tiles: &[],
            }),
            features: asked.features,
            device: None,
            caps: KernelCaps { masked_bits: if vector { &[8, 16, 32, 64] } else { &[] }, fma: true, f16_convert: false },
            spelling: Spelling::default(),
        })
    }
}
