// SPDX-License-Identifier: Apache-2.0 OR MIT
//! LoongArch64: LA464 and LA664 cores with the 256-bit vectors LASX, and the 128-bit LSX alone.

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
pub struct LoongArch64;

static SPEC: TargetSpec = TargetSpec {
    id: "loongarch64",
    vendor: "Loongson",
    about: "LoongArch64 with LASX (3A5000, 3C5000, 3A6000)",
    cpus: &["la464", "la664", "loongarch64-lsx", "loongarch64"],
    sources: &[
        "Loongson 3A5000/3B5000 User Manual 1.3, 1.2 (64 KiB first-level data cache, 256 KiB second level a core)",
        "LoongArch Reference Manual, volume 2 (LSX, LASX: 32 registers of 128 and 256 bits, no masked memory access; XVMULWEV, XVMULWOD, XVHADDW)",
    ],
    maintainer: "@portwright",
    // Cores and clocks differ from machine to machine of the kind.
    roof: crate::target::Roof::UNKNOWN,
};

const BASE: &[&str] = &["64bit", "f", "d", "ual"];
const LSX: &[&str] = &["lsx"];
const LASX: &[&str] = &["lsx", "lasx"];
const LA664: &[&str] = &["frecipe", "div32", "lam-bh", "lamcas", "ld-seq-sa", "scq"];

/// LLVM's name is that of no core: its cores bring their features along, so that none could be taken away.
const fn named(name: &'static str, features: &'static [&'static [&'static str]]) -> Named {
    Named { name, llvm: "generic-la64", features, caches: [64 << 10, 256 << 10] }
}

const NAMED: &[Named] = &[
    named("la464", &[BASE, LASX]),
    named("la664", &[BASE, LASX, LA664]),
    named("loongarch64-lsx", &[BASE, LSX]),
    named("loongarch64", &[BASE]),
];

const fn form(a: DType, b: DType) -> DotForm {
    DotForm { a, b, acc: DType::I32, depth: 4 }
}

const DOTS: &[DotForm] = &[form(DType::U8, DType::I8), form(DType::I8, DType::I8), form(DType::U8, DType::U8)];

/// Products of even and of odd bytes in 16 bits, none of which can wrap; neighbors of those are added in 32 bits.
macro_rules! dot {
    ($a:ident, $b:ident, $lanes:literal, $set:literal, $kind:literal, $sum:literal) => {
        DotSpelling {
            a: DType::$a,
            b: DType::$b,
            lanes: $lanes,
            code: DotCode::EvenOdd {
                even: concat!("llvm.loongarch.", $set, "mulwev.h.", $kind),
                odd: concat!("llvm.loongarch.", $set, "mulwod.h.", $kind),
                across: concat!("llvm.loongarch.", $set, "haddw.", $sum),
            },
        }
    };
}

const LASX_DOTS: &[DotSpelling] = &[
    dot!(U8, I8, 8, "lasx.xv", "bu.b", "w.h"),
    dot!(I8, I8, 8, "lasx.xv", "b", "w.h"),
    dot!(U8, U8, 8, "lasx.xv", "bu", "wu.hu"),
    dot!(U8, I8, 4, "lsx.v", "bu.b", "w.h"),
    dot!(I8, I8, 4, "lsx.v", "b", "w.h"),
    dot!(U8, U8, 4, "lsx.v", "bu", "wu.hu"),
];

impl Target for LoongArch64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        // The machine at hand: what every core with LASX has; the runtime tests it at load.
        let host = || Some(([BASE, LASX].concat().iter().map(|f| f.to_string()).collect(), NAMED[0].caches));
        let useful = |f: &str| LASX.contains(&f) || LA664.contains(&f);
        let asked = Names { spec: &SPEC, arch: Arch::Loongarch64, named: NAMED, host: &host, useful: &useful }.resolve(cpu, sink)?;
        let (vec_bytes, dots) = match (asked.every(LASX), asked.every(LSX)) {
            (true, _) => (32, LASX_DOTS),
            (_, true) => (16, &LASX_DOTS[3..]),
            _ => (1, &[][..]),
        };
        Ok(Machine {
            target: SPEC.id,
            arch: Arch::Loongarch64,
            triple: "loongarch64-linux-gnu",
            cpu: format!("loongarch64 ({})", asked.text),
            llvm_cpu: asked.llvm,
            abi: "lp64d",
            class: MachineClass::Cpu(CpuSpec {
                vec_bytes,
                vec_regs: 32,
                masked_mem: false,
                fma: true,
                l1_bytes: asked.caches[0],
                l2_bytes: asked.caches[1],
                dots: if dots.is_empty() { &[] } else { DOTS },
                tiles: &[],
            }),
            features: asked.features,
            device: None,
            caps: KernelCaps { masked_bits: &[], fma: true, f16_convert: false },
            spelling: Spelling { dots, ..Spelling::default() },
        })
    }
}
