// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 64-bit x86: levels v2 to v4, named servers, and the machine at hand.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, DotForm, MachineClass, TileForm};
use portwright_runtime::features::Arch;

use crate::cpu::{Asked, Named, Names};
use crate::mlir::{DotCode, DotSpelling, Spelling};
use crate::target::{Machine, Target, TargetSpec};

mod host;

/// The target.
#[derive(Copy, Clone, Debug)]
pub struct X86_64;

static SPEC: TargetSpec = TargetSpec {
    id: "x86-64",
    vendor: "Intel, AMD, Hygon, Zhaoxin",
    about: "64-bit x86, from x86-64-v2 to AVX-512 and AMX",
    cpus: &["x86-64-v3", "x86-64-v2", "x86-64-v4", "haswell", "znver4", "icelake-server", "sapphirerapids", "host"],
    sources: &[
        "x86-64 psABI 1.0, table 3.1 (levels)",
        "Intel 64 and IA-32 Architectures Optimization Reference Manual, 2.4 and 2.6 (caches of Ice Lake and Golden Cove)",
        "AMD Software Optimization Guide for Zen 4, 2.6 (caches)",
    ],
    maintainer: "@portwright",
    // Cores and clocks differ from machine to machine of the kind.
    roof: crate::target::Roof::UNKNOWN,
};

const V2: &[&str] = &["sse3", "ssse3", "cx16", "sse4.1", "sse4.2", "popcnt", "sahf"];
const V3: &[&str] = &["fma", "movbe", "xsave", "avx", "f16c", "bmi", "avx2", "bmi2", "lzcnt"];
const V4: &[&str] = &["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"];
const ICELAKE: &[&str] =
    &["avx512ifma", "avx512vbmi", "avx512vbmi2", "gfni", "vaes", "vpclmulqdq", "avx512vnni", "avx512bitalg", "avx512vpopcntdq"];
const SAPPHIRE: &[&str] = &["amx-bf16", "avx512fp16", "amx-tile", "amx-int8", "avxvnni", "avx512bf16"];

const fn named(name: &'static str, features: &'static [&'static [&'static str]], l1: u32, l2: u32) -> Named {
    Named { name, llvm: "", features, caches: [l1 << 10, l2 << 10] }
}

const NAMED: &[Named] = &[
    named("x86-64-v2", &[V2], 32, 256),
    named("x86-64-v3", &[V2, V3], 32, 256),
    named("haswell", &[V2, V3], 32, 256),
    named("x86-64-v4", &[V2, V3, V4], 32, 1024),
    named("znver4", &[V2, V3, V4, ICELAKE, &["avx512bf16"]], 32, 1024),
    named("icelake-server", &[V2, V3, V4, ICELAKE], 48, 1280),
    named("sapphirerapids", &[V2, V3, V4, ICELAKE, SAPPHIRE], 48, 2048),
];

/// Features that code generation knows how to use; a bundle asks for no other.
fn useful(name: &str) -> bool {
    [V2, V3, V4, ICELAKE, SAPPHIRE].iter().any(|l| l.contains(&name))
}

const VNNI_512: &[DotSpelling] = &[
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 16, code: DotCode::One("llvm.x86.avx512.vpdpbusd.512") },
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 8, code: DotCode::One("llvm.x86.avx512.vpdpbusd.256") },
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 4, code: DotCode::One("llvm.x86.avx512.vpdpbusd.128") },
];
const VNNI_256: &[DotSpelling] = &[
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 8, code: DotCode::One("llvm.x86.avx512.vpdpbusd.256") },
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 4, code: DotCode::One("llvm.x86.avx512.vpdpbusd.128") },
];
const BF16_512: &[DotSpelling] = &[
    VNNI_512[0],
    VNNI_512[1],
    VNNI_512[2],
    DotSpelling { a: DType::BF16, b: DType::BF16, lanes: 16, code: DotCode::One("llvm.x86.avx512bf16.dpbf16ps.512") },
];
const BYTE_DOT: DotForm = DotForm { a: DType::U8, b: DType::I8, acc: DType::I32, depth: 4 };
const HALF_DOT: DotForm = DotForm { a: DType::BF16, b: DType::BF16, acc: DType::F32, depth: 2 };
const DOTS: &[DotForm] = &[BYTE_DOT];
const BF16_DOTS: &[DotForm] = &[BYTE_DOT, HALF_DOT];
const AMX: &[([DType; 3], &str)] = &[
    ([DType::BF16, DType::BF16, DType::F32], "llvm.x86.tdpbf16ps.internal"),
    ([DType::I8, DType::I8, DType::I32], "llvm.x86.tdpbssd.internal"),
    ([DType::I8, DType::U8, DType::I32], "llvm.x86.tdpbsud.internal"),
    ([DType::U8, DType::I8, DType::I32], "llvm.x86.tdpbusd.internal"),
    ([DType::U8, DType::U8, DType::I32], "llvm.x86.tdpbuud.internal"),
];
// Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS, TDPBSSD, TDPBSUD, TDPBUSD, TDPBUUD.
const TILE_BF16: TileForm = TileForm { operand: DType::BF16, acc: DType::F32, shape: [16, 16, 32], registers: 8 };
const TILE_I8: TileForm = TileForm { operand: DType::I8, acc: DType::I32, shape: [16, 16, 64], registers: 8 };
const TILES: &[TileForm] = &[TILE_BF16, TILE_I8];

/// The machine of a set of features.
fn machine(asked: Asked) -> Machine {
    let (v3, v4) = (asked.every(V3), asked.every(V3) && asked.every(V4));
    let on = |f: &str| asked.has(f);
    let tiles = v4 && asked.every(&["amx-tile", "amx-bf16", "amx-int8"]);
    let (dots, spelled): (&'static [DotForm], &'static [DotSpelling]) = match (v4 && on("avx512vnni"), v3 && on("avxvnni")) {
        // Cores with a matrix unit form dot products of bf16 at half the rate of multiply-adds of f32; the unit has them all.
        (true, _) if on("avx512bf16") && !tiles => (BF16_DOTS, BF16_512),
        (true, _) => (DOTS, VNNI_512),
        (_, true) => (DOTS, VNNI_256),
        _ => (&[], &[]),
    };
    Machine {
        target: SPEC.id,
        arch: Arch::X86_64,
        triple: "x86_64-linux-gnu",
        cpu: format!("x86-64 ({})", asked.text),
        llvm_cpu: match (v4, v3) {
            (true, _) => "x86-64-v4",
            (_, true) => "x86-64-v3",
            _ => "x86-64-v2",
        },
        abi: "",
        class: MachineClass::Cpu(CpuSpec {
            vec_bytes: if v4 {
                64
            } else if v3 {
                32
            } else {
                16
            },
            vec_regs: if v4 { 32 } else { 16 },
            masked_mem: v3,
            fma: on("fma"),
            l1_bytes: asked.caches[0],
            l2_bytes: asked.caches[1],
            dots,
            tiles: if tiles { TILES } else { &[] },
        }),
        caps: KernelCaps {
            masked_bits: if v4 {
                &[8, 16, 32, 64]
            } else if v3 {
                &[32, 64]
            } else {
                &[]
            },
            fma: on("fma"),
            f16_convert: on("f16c"),
        },
        spelling: Spelling { dots: spelled, tiles: if tiles { AMX } else { &[] }, ..Spelling::default() },
        features: asked.features,
        device: None,
    }
}

impl Target for X86_64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        let names = Names { spec: &SPEC, arch: Arch::X86_64, named: NAMED, host: &host::detect, useful: &useful };
        names.resolve(cpu, sink).map(machine)
    }
}
