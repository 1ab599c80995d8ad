// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 64-bit Arm with NEON.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, DotForm, MachineClass};
use portwright_runtime::features::Arch;

use crate::mlir::{DotSpelling, Spelling};
use crate::target::{Machine, Target, TargetSpec, unknown_cpu};

/// The target.
#[derive(Copy, Clone, Debug)]
pub struct Aarch64;

static SPEC: TargetSpec = TargetSpec {
    id: "aarch64",
    vendor: "Arm, Ampere, AWS, Huawei, Phytium",
    about: "64-bit Arm with NEON (Kunpeng, Graviton, Altra)",
    cpus: &["armv8-a", "armv8.2-a", "neoverse-n1", "neoverse-v1"],
    sources: &[
        "Arm Architecture Reference Manual for A-profile, C7 (32 registers of 128 bits, no masked access in NEON)",
        "Arm Neoverse N1 Technical Reference Manual r4p1, A1.2 (64 KiB first-level data cache, 512 KiB to 1 MiB second level)",
    ],
    maintainer: "@portwright",
};

const BASE: &[&str] = &["fp-armv8", "neon"];
const V82: &[&str] = &["fp-armv8", "neon", "crc", "lse", "fullfp16", "rdm", "rcpc", "dotprod"];
const V1: &[&str] = &["fp-armv8", "neon", "crc", "lse", "fullfp16", "rdm", "jsconv", "complxnum", "rcpc", "dotprod", "i8mm", "bf16"];

const DOT_FORMS: &[DotForm] =
    &[DotForm { a: DType::I8, b: DType::I8, acc: DType::I32, depth: 4 }, DotForm { a: DType::U8, b: DType::U8, acc: DType::I32, depth: 4 }];
const MIXED_FORMS: &[DotForm] = &[
    DOT_FORMS[0],
    DOT_FORMS[1],
    DotForm { a: DType::U8, b: DType::I8, acc: DType::I32, depth: 4 },
    DotForm { a: DType::BF16, b: DType::BF16, acc: DType::F32, depth: 2 },
];
const DOTS: &[DotSpelling] = &[
    DotSpelling { a: DType::I8, b: DType::I8, lanes: 4, intrinsic: "llvm.aarch64.neon.sdot.v4i32.v16i8" },
    DotSpelling { a: DType::U8, b: DType::U8, lanes: 4, intrinsic: "llvm.aarch64.neon.udot.v4i32.v16i8" },
];
const MIXED: &[DotSpelling] = &[
    DOTS[0],
    DOTS[1],
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 4, intrinsic: "llvm.aarch64.neon.usdot.v4i32.v16i8" },
    DotSpelling { a: DType::BF16, b: DType::BF16, lanes: 4, intrinsic: "llvm.aarch64.neon.bfdot.v4f32.v8bf16" },
];

impl Target for Aarch64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        let name = match cpu.unwrap_or(SPEC.cpus[0]) {
            // The machine at hand: what every one has; the runtime tests it at load.
            "host" => SPEC.cpus[0],
            other => other,
        };
        let (features, forms, dots, l2) = match name {
            "armv8-a" => (BASE, &[][..], &[][..], 512 << 10),
            "armv8.2-a" => (V82, DOT_FORMS, DOTS, 512 << 10),
            "neoverse-n1" => (V82, DOT_FORMS, DOTS, 1 << 20),
            "neoverse-v1" => (V1, MIXED_FORMS, MIXED, 1 << 20),
            _ => return Err(unknown_cpu("CPU", name, SPEC.cpus.iter().copied(), sink)),
        };
        Ok(Machine {
            target: SPEC.id,
            arch: Arch::Aarch64,
            triple: "aarch64-linux-gnu",
            cpu: format!("aarch64 ({name})"),
            llvm_cpu: "generic",
            abi: "",
            features: features.to_vec(),
            class: MachineClass::Cpu(CpuSpec {
                vec_bytes: 16,
                vec_regs: 32,
                masked_mem: false,
                fma: true,
                l1_bytes: 64 << 10,
                l2_bytes: l2,
                dots: forms,
                tiles: &[],
            }),
            caps: KernelCaps { masked_bits: &[], fma: true, f16_convert: true },
            spelling: Spelling { dots, tiles: &[] },
        })
    }
}
