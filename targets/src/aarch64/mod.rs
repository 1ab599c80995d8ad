// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 64-bit Arm: NEON, and SVE where its registers are longer.
//!
//! Code for SVE is made for one length of registers, which a bundle requires: weights are packed in panels as wide as the vectors of the
//! machine when a model is compiled, so that code for any length would still run at the length that was chosen then. Where SVE's
//! registers have 128 bits, as in Neoverse N2 and V2, kernels use NEON, which has the same dot products at the same rate.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, DotForm, MachineClass};
use portwright_runtime::features::Arch;

use crate::cpu::{Named, Names};
use crate::mlir::{DotCode, DotSpelling, Spelling};
use crate::target::{Machine, Target, TargetSpec};

/// The target.
#[derive(Copy, Clone, Debug)]
pub struct Aarch64;

static SPEC: TargetSpec = TargetSpec {
    id: "aarch64",
    vendor: "Arm, Ampere, AWS, Huawei, Phytium",
    about: "64-bit Arm with NEON or SVE (Kunpeng, Graviton, Altra, Phytium)",
    cpus: &["armv8-a", "armv8.2-a", "kunpeng-920", "neoverse-n1", "neoverse-v1", "neoverse-n2", "neoverse-v2", "a64fx"],
    sources: &[
        "Arm Architecture Reference Manual for A-profile, C7 (32 registers of 128 bits, no masked access in NEON)",
        "Arm Architecture Reference Manual Supplement, The Scalable Vector Extension (32 registers, predicated access; RDVL)",
        "Arm Neoverse V1 and V2 Technical Reference Manuals, A1.2 (64 KiB first-level data cache, 1 MiB second level; SVE of 256 and of 128 bits)",
        "Fujitsu A64FX Microarchitecture Manual 1.8, 10 (64 KiB first-level data cache, 8 MiB second level of 12 cores; SVE of 512 bits)",
        "Arm Neoverse N1 Technical Reference Manual r4p1, A1.2 (64 KiB first-level data cache, 512 KiB to 1 MiB second level)",
    ],
    maintainer: "@portwright",
    // Cores and clocks differ from machine to machine of the kind.
    roof: crate::target::Roof::UNKNOWN,
};

const BASE: &[&str] = &["fp-armv8", "neon"];
const V82: &[&str] = &["crc", "lse", "fullfp16", "rdm", "rcpc", "dotprod"];
const V84: &[&str] = &["jsconv", "complxnum", "i8mm", "bf16"];
const SVE: &[&str] = &["sve", "sve2", "vl256", "vl512"];

const fn named(name: &'static str, features: &'static [&'static [&'static str]], l2: u32) -> Named {
    Named { name, llvm: "generic", features, caches: [64 << 10, l2 << 10] }
}

const NAMED: &[Named] = &[
    named("armv8-a", &[BASE], 512),
    named("armv8.2-a", &[BASE, V82], 512),
    named("kunpeng-920", &[BASE, V82, &["jsconv", "complxnum", "fp16fml"]], 512),
    named("neoverse-n1", &[BASE, V82], 1024),
    named("neoverse-v1", &[BASE, V82, V84, &["sve", "vl256"]], 1024),
    named("neoverse-n2", &[BASE, V82, V84, &["sve", "sve2"]], 1024),
    named("neoverse-v2", &[BASE, V82, V84, &["sve", "sve2"]], 1024),
    named("a64fx", &[BASE, &["crc", "lse", "fullfp16", "rdm", "complxnum", "sve", "vl512"]], 640),
];

const fn form(a: DType, b: DType) -> DotForm {
    DotForm { a, b, acc: DType::I32, depth: 4 }
}

/// Every form; a machine has the first two of them with the dot product, all with the matrix and bf16 extensions.
const FORMS: &[DotForm] = &[
    form(DType::I8, DType::I8),
    form(DType::U8, DType::U8),
    form(DType::U8, DType::I8),
    DotForm { a: DType::BF16, b: DType::BF16, acc: DType::F32, depth: 2 },
];

/// Their instructions, in the same order.
macro_rules! dots {
    ($lanes:literal, $code:path, $sdot:literal, $udot:literal, $usdot:literal, $bfdot:literal) => {
        &[
            DotSpelling { a: DType::I8, b: DType::I8, lanes: $lanes, code: $code($sdot) },
            DotSpelling { a: DType::U8, b: DType::U8, lanes: $lanes, code: $code($udot) },
            DotSpelling { a: DType::U8, b: DType::I8, lanes: $lanes, code: $code($usdot) },
            DotSpelling { a: DType::BF16, b: DType::BF16, lanes: $lanes, code: $code($bfdot) },
        ]
    };
}
macro_rules! sve {
    ($lanes:literal) => {
        dots!(
            $lanes,
            DotCode::Scalable,
            "llvm.aarch64.sve.sdot.nxv4i32",
            "llvm.aarch64.sve.udot.nxv4i32",
            "llvm.aarch64.sve.usdot.nxv4i32",
            "llvm.aarch64.sve.bfdot"
        )
    };
}
const NEON: &[DotSpelling] = dots!(
    4,
    DotCode::One,
    "llvm.aarch64.neon.sdot.v4i32.v16i8",
    "llvm.aarch64.neon.udot.v4i32.v16i8",
    "llvm.aarch64.neon.usdot.v4i32.v16i8",
    "llvm.aarch64.neon.bfdot.v4f32.v8bf16"
);

impl Target for Aarch64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        // The machine at hand: what every one has; the runtime tests it at load.
        let host = || Some((BASE.iter().map(|f| f.to_string()).collect(), NAMED[0].caches));
        let useful = |f: &str| !BASE.contains(&f) && [V82, V84, SVE, &["fp16fml"]].iter().any(|l| l.contains(&f));
        let asked = Names { spec: &SPEC, arch: Arch::Aarch64, named: NAMED, host: &host, useful: &useful }.resolve(cpu, sink)?;
        let on = |f: &str| asked.has(f);
        // The dot products of bytes are in SVE itself.
        let (vec_bytes, vscale, code, first): (_, _, &'static [DotSpelling], _) = match (on("sve"), on("vl256"), on("vl512")) {
            (true, _, true) => (64, Some(4), sve!(16), true),
            (true, true, _) => (32, Some(2), sve!(8), true),
            _ => (16, None, NEON, on("dotprod")),
        };
        let forms = match (first, on("i8mm"), on("bf16")) {
            (true, true, true) => 4,
            (true, true, false) => 3,
            (true, ..) => 2,
            _ => 0,
        };
        Ok(Machine {
            target: SPEC.id,
            arch: Arch::Aarch64,
            triple: "aarch64-linux-gnu",
            cpu: format!("aarch64 ({})", asked.text),
            llvm_cpu: asked.llvm,
            abi: "",
            class: MachineClass::Cpu(CpuSpec {
                vec_bytes,
                vec_regs: 32,
                masked_mem: vscale.is_some(),
                fma: true,
                l1_bytes: asked.caches[0],
                l2_bytes: asked.caches[1],
                dots: &FORMS[..forms],
                tiles: &[],
            }),
            features: asked.features,
            device: None,
            caps: KernelCaps { masked_bits: if vscale.is_some() { &[8, 16, 32, 64] } else { &[] }, fma: true, f16_convert: true },
            spelling: Spelling { dots: &code[..forms], vscale, ..Spelling::default() },
        })
    }
}
