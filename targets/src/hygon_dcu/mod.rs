// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hygon DCUs through HIP: 64 lanes a warp, from gfx928 on with the matrix unit MMAC.

use portwright_ir::dtype::DType;

use crate::cfamily::{API, Api, BUILD, Build, Builtin, CHIP, Chip, Dialect, HALVES, Halves, LANES, Object, chosen, limits, quads};
use crate::target::{Roof, TargetSpec};

const SOURCES: &[&str] = &[
    "HYGON-AI/triton-das, third_party/hcu/backend/compiler.py: lanes, processors, compiler, names of MMAC builtins, code objects",
    "tile-ai/tilelang-hygon, src/tl_templates: operands and fragments of MMAC for f16, which are those of AMD's 16x16x16 products",
    "InfiniTensor/InfiniCore, xmake/hygon.lua and src/infiniop: launch bounds on every kernel, 64 KiB of shared memory, no fp8 header",
    "guessed by analogy with f16, confirmed by no source: operand types of MMAC for bf16 (as AMD's 16x16x16 _1k forms have them)",
    "surveys and users (one each): bandwidth of Z100, K100_AI and BW1000, 192 Tflop/s of K100_AI, 320 reached on BW1000; f32 is not known",
    "not known: MMAC's fragments for i8, about which its two spellings differ (no integer products are listed); compute units",
];

const PRODUCTS: [Builtin; 2] = [
    quads("mmac_f16", DType::F16, "__builtin_amdgcn_mmac_f32_16x16x16f16({a}, {b}, {c})", "pw_half4"),
    quads("mmac_bf16", DType::BF16, "__builtin_amdgcn_mmac_f32_16x16x16bf16({a}, {b}, {c})", "pw_short4"),
];

const HIPCC: Build = Build {
    compiler: "hipcc",
    variables: &["ROCM_PATH", "DTK_ROOT"],
    folder: "/opt/dtk",
    known: "DTK 26.04 (hipcc 25.10 on clang 17)",
    compile: "{compiler} --offload-arch={arch} {flags}",
    link: "{compiler} --offload-arch={arch} -shared -o {out} {in}",
    remedy: "Hygon's DTK has it: https://developer.hpccube.com",
    ..BUILD
};

/// Exchanges without a mask: those with one want 64 bits of it, and faulted for a user of DTK 26.04.
const HIP: Dialect = Dialect {
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
    build: HIPCC,
    ..LANES
};
static MMAC: Dialect = Dialect { products: &PRODUCTS, ..HIP };

/// The chip that LLVM's AMDGPU back end has, which it calls as AMD does.
static OBJECTS: Dialect = Dialect {
    object: Some(Object {
        compile: "{compiler} -x hip --offload-arch={arch} -nogpuinc -nogpulib --cuda-device-only --no-gpu-bundle-output -DPW_DEVICE_ONLY -std=c++17 \
                  -O3 -ffp-contract=off -fno-unroll-loops -fvisibility=hidden -w -Isrc/clang -Isrc -Isrc/runtime {in} -o {out}",
        least: 19,
        files: &[
            ("clang/hip/hip_runtime.h", include_str!("amdgcn.h")),
            ("clang/hip/hip_fp16.h", "// SPDX-License-Identifier: Apache-2.0 OR MIT\n// All of it is in hip_runtime.h.\n"),
            ("pw_module.c", include_str!("module.c")),
        ],
    }),
    ..HIP
};

const fn chip(id: &'static str, about: &'static str, cpus: &'static [&'static str], roof: Roof) -> Chip {
    Chip {
        spec: TargetSpec { id, vendor: "Hygon", about, cpus, sources: SOURCES, roof, ..CHIP.spec },
        dialect: &HIP,
        forms: &const { limits(64, 1024, [64 << 10, 64 << 10]) },
        shuffle: 64,
        registers: 256,
        // The sheets name some 60 compute units for the smallest card and none for the others.
        busy: 60 * 8,
        ..CHIP
    }
}
const fn with_unit(chip: Chip) -> Chip {
    Chip { dialect: &MMAC, fragments: &const { chosen(&PRODUCTS) }, ..chip }
}

const fn roof(bandwidth: f64, peaks: &'static [(DType, f64)]) -> Roof {
    Roof { bandwidth: Some(bandwidth), peaks, launch: None }
}

pub(crate) static GFX906: Chip =
    Chip { dialect: &OBJECTS, ..chip("hygon-gfx906", "Hygon Z100 and Z100L (gfx906), as HIP", &["gfx906"], roof(1e12, &[])) };
pub(crate) static GFX928: Chip =
    with_unit(chip("hygon-gfx928", "Hygon K100_AI (gfx928, MMAC), as HIP", &["gfx928"], roof(896e9, &[(DType::F16, 192e12)])));
pub(crate) static GFX936: Chip =
    with_unit(chip("hygon-gfx936", "Hygon BW1000 (gfx936, MMAC), as HIP", &["gfx936"], roof(1.21e12, &[(DType::BF16, 320e12)])));
