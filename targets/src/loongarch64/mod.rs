// SPDX-License-Identifier: Apache-2.0 OR MIT
//! LoongArch64: LA464 and LA664 cores with the 256-bit vectors LASX, and the 128-bit LSX alone.

use portwright_ir::diag::{Diags, Lowered};
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, MachineClass};
use portwright_runtime::features::Arch;

use crate::mlir::Spelling;
use crate::target::{Machine, Target, TargetSpec, unknown_cpu};

/// The target.
#[derive(Copy, Clone, Debug)]
pub struct LoongArch64;

static SPEC: TargetSpec = TargetSpec {
    id: "loongarch64",
    vendor: "Loongson",
    about: "LoongArch64 with LASX (3A5000, 3C5000, 3A6000)",
    cpus: &["la464", "la664", "loongarch64-lsx"],
    sources: &[
        "Loongson 3A5000/3B5000 User Manual 1.3, 1.2 (64 KiB first-level data cache, 256 KiB second level a core)",
        "LoongArch Reference Manual, volume 2 (LSX, LASX: 32 registers of 128 and 256 bits, no masked memory access)",
    ],
    maintainer: "@portwright",
};

const BASE: &[&str] = &["64bit", "f", "d", "lsx", "ual"];
const LASX: &[&str] = &["64bit", "f", "d", "lsx", "lasx", "ual"];
const LA664: &[&str] = &["64bit", "f", "d", "lsx", "lasx", "ual", "frecipe", "div32", "lam-bh", "lamcas", "ld-seq-sa", "scq"];

impl Target for LoongArch64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        let name = match cpu.unwrap_or(SPEC.cpus[0]) {
            // The machine at hand: what every core with LASX has; the runtime tests it at load.
            "host" => SPEC.cpus[0],
            other => other,
        };
        let (llvm_cpu, features, vec_bytes) = match name {
            "la464" => ("la464", LASX, 32),
            "la664" => ("la664", LA664, 32),
            "loongarch64-lsx" => ("loongarch64", BASE, 16),
            _ => return Err(unknown_cpu("CPU", name, SPEC.cpus.iter().copied(), sink)),
        };
        Ok(Machine {
            target: SPEC.id,
            arch: Arch::Loongarch64,
            triple: "loongarch64-linux-gnu",
            cpu: format!("loongarch64 ({name})"),
            llvm_cpu,
            abi: "lp64d",
            features: features.to_vec(),
            class: MachineClass::Cpu(CpuSpec {
                vec_bytes,
                vec_regs: 32,
                masked_mem: false,
                fma: true,
                l1_bytes: 64 << 10,
                l2_bytes: 256 << 10,
                dots: &[],
                tiles: &[],
            }),
            caps: KernelCaps { masked_bits: &[], fma: true, f16_convert: false },
            spelling: Spelling::default(),
        })
    }
}
