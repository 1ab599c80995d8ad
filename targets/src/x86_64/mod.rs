// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 64-bit x86: levels v2 to v4, named servers, and the machine at hand.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{CpuSpec, DotForm, MachineClass, TileForm};
use portwright_runtime::features::{self, Arch};

use crate::mlir::{DotSpelling, Spelling};
use crate::target::{Machine, Target, TargetSpec, unknown_cpu};

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
};

const V2: &[&str] = &["sse3", "ssse3", "cx16", "sse4.1", "sse4.2", "popcnt", "sahf"];
const V3: &[&str] = &["fma", "movbe", "xsave", "avx", "f16c", "bmi", "avx2", "bmi2", "lzcnt"];
const V4: &[&str] = &["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"];
const ICELAKE: &[&str] =
    &["avx512ifma", "avx512vbmi", "avx512vbmi2", "gfni", "vaes", "vpclmulqdq", "avx512vnni", "avx512bitalg", "avx512vpopcntdq"];
const SAPPHIRE: &[&str] = &["amx-bf16", "avx512fp16", "amx-tile", "amx-int8", "avxvnni", "avx512bf16"];

/// Name, features above v2, bytes of a core's first- and second-level cache.
type Named = (&'static str, &'static [&'static [&'static str]], u32, u32);

const NAMED: &[Named] = &[
    ("x86-64-v2", &[], 32 << 10, 256 << 10),
    ("x86-64-v3", &[V3], 32 << 10, 256 << 10),
    ("haswell", &[V3], 32 << 10, 256 << 10),
    ("x86-64-v4", &[V3, V4], 32 << 10, 1 << 20),
    ("znver4", &[V3, V4, ICELAKE, &["avx512bf16"]], 32 << 10, 1 << 20),
    ("icelake-server", &[V3, V4, ICELAKE], 48 << 10, 1280 << 10),
    ("sapphirerapids", &[V3, V4, ICELAKE, SAPPHIRE], 48 << 10, 2 << 20),
];

/// Features that code generation knows how to use; a bundle asks for no other.
fn useful(name: &str) -> bool {
    [V2, V3, V4, ICELAKE, SAPPHIRE].iter().any(|l| l.contains(&name))
}

const VNNI_512: &[DotSpelling] = &[
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 16, intrinsic: "llvm.x86.avx512.vpdpbusd.512" },
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 8, intrinsic: "llvm.x86.avx512.vpdpbusd.256" },
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 4, intrinsic: "llvm.x86.avx512.vpdpbusd.128" },
];
const VNNI_256: &[DotSpelling] = &[
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 8, intrinsic: "llvm.x86.avx512.vpdpbusd.256" },
    DotSpelling { a: DType::U8, b: DType::I8, lanes: 4, intrinsic: "llvm.x86.avx512.vpdpbusd.128" },
];
const BF16_512: &[DotSpelling] = &[
    VNNI_512[0],
    VNNI_512[1],
    VNNI_512[2],
    DotSpelling { a: DType::BF16, b: DType::BF16, lanes: 16, intrinsic: "llvm.x86.avx512bf16.dpbf16ps.512" },
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
fn machine(cpu: String, has: &dyn Fn(&str) -> bool, l1_bytes: u32, l2_bytes: u32) -> Machine {
    let features: Vec<&'static str> = features::all(Arch::X86_64).map(|(_, n)| n).filter(|n| useful(n) && has(n)).collect();
    let every = |l: &[&str]| l.iter().all(|f| features.contains(f));
    let (v3, v4) = (every(V3), every(V3) && every(V4));
    let on = |f: &str| features.contains(&f);
    let tiles = v4 && every(&["amx-tile", "amx-bf16", "amx-int8"]);
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
        cpu,
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
            l1_bytes,
            l2_bytes,
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
        spelling: Spelling { dots: spelled, tiles: if tiles { AMX } else { &[] } },
        features,
    }
}

impl Target for X86_64 {
    fn spec(&self) -> &TargetSpec {
        &SPEC
    }
    /// `NAME`, or `NAME+feature-feature`.
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        let text = cpu.unwrap_or(SPEC.cpus[0]);
        let minus = || text.match_indices('-').map(|(i, _)| i).find(|i| useful(&text[i + 1..]));
        let cut = text.find('+').or_else(minus).unwrap_or(text.len());
        let (name, changes) = text.split_at(cut);
        let (mut set, l1, l2) = if name == "host" {
            match host::detect() {
                Some(h) => h,
                None => return Err(unknown_cpu("CPU of this machine", name, SPEC.cpus.iter().copied(), sink)),
            }
        } else {
            let Some((_, sets, l1, l2)) = NAMED.iter().find(|n| n.0 == name) else {
                return Err(unknown_cpu("CPU", name, SPEC.cpus.iter().copied(), sink));
            };
            (V2.iter().chain(sets.iter().copied().flatten()).map(|f| f.to_string()).collect(), *l1, *l2)
        };
        let mut rest = changes;
        while let Some(sign) = rest.chars().next() {
            let end = rest[1..].find('+').map_or(rest.len(), |i| i + 1);
            let (one, more) = rest.split_at(end);
            let feature = &one[1..];
            rest = more;
            if !useful(feature) {
                let known = features::all(Arch::X86_64).map(|(_, n)| n).filter(|n| useful(n)).collect::<Vec<_>>();
                return Err(unknown_cpu("feature of x86-64", feature, known.iter().copied(), sink));
            }
            match sign {
                '+' => set.push(feature.to_string()),
                _ => set.retain(|f| f != feature),
            }
        }
        Ok(machine(format!("x86-64 ({text})"), &|f| set.iter().any(|s| s == f), l1, l2))
    }
}
