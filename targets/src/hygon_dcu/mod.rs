// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hygon DCUs through HIP: 64 lanes a warp, from gfx928 on with the matrix unit MMAC.

use portwright_ir::dtype::DType;
use portwright_passes::spec::Fragment;

use crate::cfamily::{API, Api, Build, Builtin, Chip, Dialect, HALVES, Halves, LANES, VendorTools, fragment, k, limits, m, n};
use crate::mlir::simt::{Forms, Held};
use crate::target::TargetSpec;

const SOURCES: &[&str] = &[
    "HYGON-AI/triton-das, third_party/hcu/backend/compiler.py: lanes, processors, compiler, names of MMAC builtins, code objects",
    "tile-ai/tilelang-hygon, src/tl_templates: operands and fragments of MMAC for f16, which are those of AMD's 16x16x16 products",
    "InfiniTensor/InfiniCore, xmake/hygon.lua and src/infiniop: launch bounds on every kernel, 64 KiB of shared memory, no fp8 header",
    "guessed by analogy with f16, confirmed by no source: operand types of MMAC for bf16 (as AMD's 16x16x16 _1k forms have them)",
    "not known: MMAC's fragments for i8, about which its two spellings differ (no integer products are listed); compute units",
];

/// Row of a, column of b: lane % 16; k: 4 * (lane / 16) + i. Accumulator: row 4 * (lane / 16) + i, column lane % 16.
const OPERANDS: [Held; 3] = [
    Held { lane: &[m(1, 16), k(4, 4)], reg: &[k(1, 4)] },
    Held { lane: &[n(1, 16), k(4, 4)], reg: &[k(1, 4)] },
    Held { lane: &[n(1, 16), m(4, 4)], reg: &[m(1, 4)] },
];
/// Of the same product with its factors exchanged: lanes hold neighboring columns of the accumulator.
const TURNED: [Held; 3] = [OPERANDS[0], OPERANDS[1], Held { lane: &[m(1, 16), n(4, 4)], reg: &[n(1, 4)] }];

const fn mmac(name: &'static str, dtype: DType, operands: [Held; 3]) -> Fragment {
    fragment(name, ([16, 16, 16], 64), [dtype, dtype, DType::F32], operands)
}

/// What schedules choose among: turned, so that a lane stores neighbors.
static FRAGMENTS: [Fragment; 2] = [mmac("mmac_f16", DType::F16, TURNED), mmac("mmac_bf16", DType::BF16, TURNED)];

static PRODUCTS: [Builtin; 2] = [
    Builtin {
        fragment: mmac("mmac_f16", DType::F16, OPERANDS),
        call: "__builtin_amdgcn_mmac_f32_16x16x16f16({a}, {b}, {c})",
        operands: ["pw_half4", "pw_half4", "pw_float4"],
    },
    Builtin {
        fragment: mmac("mmac_bf16", DType::BF16, OPERANDS),
        call: "__builtin_amdgcn_mmac_f32_16x16x16bf16({a}, {b}, {c})",
        operands: ["pw_short4", "pw_short4", "pw_float4"],
    },
];

static BUILD: Build = Build {
    compiler: "hipcc",
    variables: &["ROCM_PATH", "DTK_ROOT"],
    folder: "/opt/dtk",
    bins: &["bin"],
    known: "DTK 26.04 (hipcc 25.10 on clang 17)",
    least: None,
    // Products and sums are not contracted: what is rounded once says so.
    compile: "{compiler} --offload-arch={arch} -std=c++17 -O3 -ffp-contract=off -fPIC -fvisibility=hidden -Isrc -Isrc/runtime -c {in} -o {out}",
    link: "{compiler} --offload-arch={arch} -shared -o {out} {in}",
};

/// Exchanges without a mask: those with one want 64 bits of it, and faulted for a user of DTK 26.04.
static HIP: Dialect = Dialect {
    name: "hip",
    suffix: "hip",
    headers: &["hip/hip_runtime.h"],
    shuffles: [
        Some("__shfl_xor({value}, {by}, {width})"),
        Some("__shfl_up({value}, {by}, {width})"),
        Some("__shfl_down({value}, {by}, {width})"),
        Some("__shfl({value}, {by}, {width})"),
    ],
    halves: Some(Halves { headers: &["hip/hip_fp16.h"], ..HALVES }),
    api: Api { prefix: "hip", no_memory: "$ErrorOutOfMemory", ..API },
    build: BUILD,
    ..LANES
};
static MMAC: Dialect = Dialect {
    types: &[
        ("pw_half4", "_Float16 {name} __attribute__((ext_vector_type(4)))"),
        ("pw_short4", "short {name} __attribute__((ext_vector_type(4)))"),
        ("pw_float4", "float {name} __attribute__((ext_vector_type(4)))"),
    ],
    products: &PRODUCTS,
    ..HIP
};

static FORMS: Forms = limits(64, 1024, [64 << 10, 64 << 10]);
static TOOLS: VendorTools = VendorTools { build: &BUILD, remedy: "Hygon's DTK has it: https://developer.hpccube.com" };

const fn chip(id: &'static str, about: &'static str, cpus: &'static [&'static str]) -> Chip {
    Chip {
        spec: TargetSpec { id, vendor: "Hygon", about, cpus, sources: SOURCES, maintainer: "@portwright" },
        dialect: &HIP,
        forms: &FORMS,
        shuffle: 64,
        registers: 256,
        // The sheets name some 60 compute units for the smallest card and none for the others.
        busy: 60 * 8,
        fragments: &[],
        floats: &[DType::F32, DType::F64],
        fma: true,
        toolchain: &TOOLS,
    }
}
const fn with_unit(chip: Chip) -> Chip {
    Chip { dialect: &MMAC, fragments: &FRAGMENTS, ..chip }
}

pub(crate) static GFX906: Chip = chip("hygon-gfx906", "Hygon Z100 and Z100L (gfx906), as HIP", &["gfx906"]);
pub(crate) static GFX928: Chip = with_unit(chip("hygon-gfx928", "Hygon K100_AI (gfx928, MMAC), as HIP", &["gfx928"]));
pub(crate) static GFX936: Chip = with_unit(chip("hygon-gfx936", "Hygon BW1000 (gfx936, MMAC), as HIP", &["gfx936"]));
