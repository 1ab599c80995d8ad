// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 64-bit RISC-V with the vector extension at its smallest register width, and without it.

use portwright_ir::diag::{Diags, Lowered};
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, MachineClass};
use portwright_runtime::features::Arch;

use crate::mlir::Spelling;
use crate::target::{Machine, Target, TargetSpec, unknown_cpu};

/// The target.
#[derive(Copy, Clone, Debug)]
pub struct Riscv64;

static SPEC: TargetSpec = TargetSpec {
    id: "riscv64",
    vendor: "RISC-V International",
    about: "64-bit RISC-V with vectors of at least 128 bits",
    cpus: &["rv64gcv", "rv64gc"],
    sources: &["RISC-V Unprivileged ISA 20240411, 30 (V: 32 registers of at least 128 bits, masked memory access)"],
    maintainer: "@portwright",
};

impl Target for Riscv64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        let name = match cpu.unwrap_or(SPEC.cpus[0]) {
            // The machine at hand: what every one has; the runtime tests it at load.
            "host" => "rv64gc",
            other => other,
        };
        let vector = match name {
            "rv64gcv" => true,
            "rv64gc" => false,
            _ => return Err(unknown_cpu("CPU", name, SPEC.cpus.iter().copied(), sink)),
        };
        Ok(Machine {
            target: SPEC.id,
            arch: Arch::Riscv64,
            triple: "riscv64-linux-gnu",
            cpu: format!("riscv64 ({name})"),
            llvm_cpu: "generic-rv64",
            abi: "lp64d",
            features: if vector { vec!["m", "a", "f", "d", "c", "v"] } else { vec!["m", "a", "f", "d", "c"] },
            class: MachineClass::Cpu(CpuSpec {
                vec_bytes: if vector { 16 } else { 8 },
                vec_regs: 32,
                masked_mem: vector,
                fma: true,
                // Of no core in particular: the smallest that cores with vectors have.
                l1_bytes: 32 << 10,
                l2_bytes: 256 << 10,
                dots: &[],
                tiles: &[],
            }),
            caps: KernelCaps { masked_bits: if vector { &[8, 16, 32, 64] } else { &[] }, fma: true, f16_convert: false },
            spelling: Spelling::default(),
        })
    }
}
