// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Iluvatar CoreX GPUs: CUDA's names over 64 lanes a warp, native code only, fragments of their own.

use portwright_ir::dtype::DType;
use portwright_passes::spec::Fragment;

use crate::cfamily::{API, ASK_DYNAMIC, Api, Build, Builtin, Chip, Dialect, HALVES, Halves, LANES, VendorTools, fragment, k, limits, m, n};
use crate::mlir::simt::{Forms, Held};
use crate::shuffles_with_mask;
use crate::target::TargetSpec;

/// With g = lane / 16 and c = lane % 16: a is at row 2 g + j % 2 + 8 (j / 2) and k = c, b at k = 2 g + j % 2 + 8 (j / 2) and column c, the
/// accumulator at row g + 4 j and column c.
const OPERANDS: [Held; 3] = [
    Held { lane: &[k(1, 16), m(2, 4)], reg: &[m(1, 2), m(8, 2)] },
    Held { lane: &[n(1, 16), k(2, 4)], reg: &[k(1, 2), k(8, 2)] },
    Held { lane: &[n(1, 16), m(1, 4)], reg: &[m(4, 4)] },
];
/// Of bytes: a at row 4 g + v0 and k = c + 16 v1, b at k = 4 g + v0 + 16 v1 and column c.
const BYTES: [Held; 3] = [
    Held { lane: &[k(1, 16), m(4, 4)], reg: &[m(1, 4), k(16, 2)] },
    Held { lane: &[n(1, 16), k(4, 4)], reg: &[k(1, 4), k(16, 2)] },
    OPERANDS[2],
];
const fn mad(name: &'static str, dtype: DType) -> Fragment {
    fragment(name, ([16, 16, 16], 64), [dtype, dtype, DType::F32], OPERANDS)
}

const PRODUCT: [Fragment; 3] = [
    mad("mad_f16", DType::F16),
    mad("mad_bf16", DType::BF16),
    fragment("mad_i8", ([16, 16, 32], 64), [DType::I8, DType::I8, DType::I32], BYTES),
];
static FRAGMENTS: [Fragment; 3] = PRODUCT;

static PRODUCTS: [Builtin; 3] = [
    Builtin {
        fragment: PRODUCT[0],
        call: "__ivcorex_matrix_mad_f32x4_f16x4({a}, {b}, {c})",
        operands: ["pw_half4", "pw_half4", "pw_float4"],
    },
    Builtin {
        fragment: PRODUCT[1],
        call: "__ivcorex_matrix_mad_f32x4_bf16x4({a}, {b}, {c})",
        operands: ["pw_short4", "pw_short4", "pw_float4"],
    },
    Builtin { fragment: PRODUCT[2], call: "__ivcorex_matrix_mad_i32x4_i8x8({a}, {b}, {c})", operands: ["pw_char8", "pw_char8", "pw_int4"] },
];

static BUILD: Build = Build {
    // The SDK's nvcc is a script that prints a banner, returns 0 and compiles nothing.
    compiler: "clang++",
    variables: &["COREX_HOME", "CUDA_PATH"],
    folder: "/usr/local/corex",
    bins: &["bin"],
    known: "CoreX 4.4 and 4.5 (clang 18)",
    least: None,
    // Products and sums are not contracted: what is rounded once says so.
    compile: "{compiler} -x ivcore --cuda-gpu-arch={arch} -std=c++17 -O3 -ffp-contract=off -fPIC -fvisibility=hidden -Wno-pass-failed \
              -Isrc -Isrc/runtime -c {in} -o {out}",
    link: "{compiler} -shared -o {out} {in} -L\"$sdk/lib64\" -lcudart",
};

static COREX: Dialect = Dialect {
    name: "corex",
    suffix: "cu",
    headers: &["cuda_runtime.h"],
    // The widest mask that the headers take; all 64 lanes took part in what users measured.
    shuffles: shuffles_with_mask!("0xffffffffu"),
    // `__syncwarp` orders lanes and shows no writes to shared memory: there is no barrier of a warp.
    warp_barrier: None,
    halves: Some(Halves { headers: &["cuda_fp16.h"], ..HALVES }),
    types: &[
        ("pw_half4", "_Float16 {name} __attribute__((ext_vector_type(4)))"),
        ("pw_short4", "short {name} __attribute__((ext_vector_type(4)))"),
        ("pw_float4", "float {name} __attribute__((ext_vector_type(4)))"),
        ("pw_char8", "signed char {name} __attribute__((ext_vector_type(8)))"),
        ("pw_int4", "int {name} __attribute__((ext_vector_type(4)))"),
    ],
    products: &PRODUCTS,
    api: Api { dynamic: Some(ASK_DYNAMIC), ..API },
    build: BUILD,
    ..LANES
};

static FORMS: Forms = limits(64, 4096, [48 << 10, 128 << 10]);

pub(crate) static IVCORE11: Chip = Chip {
    spec: TargetSpec {
        id: "iluvatar-ivcore11",
        vendor: "Iluvatar CoreX",
        about: "Iluvatar BI-V150 and MR-V100 (ivcore11), as C++ for CoreX",
        cpus: &["ivcore11"],
        sources: &[
            "Deep-Spark/FlyDSL 2026-06, device table and MmaAtom.cpp: 64 lanes, 128 KiB of shared memory, 4096 lanes a group, fragments",
            "the vendor's wmma header (as quoted) and 92 checks on an MR-V100: builtins, fragments of f16, bf16 and bytes",
            "field notes on CoreX 3.2 and 4.4: exchanges with masks of 32 bits reach 64 lanes, nvcc compiles nothing",
            "guessed: C++ types of operands of bf16 and bytes, 48 KiB of shared memory without asking; MR-V100 has 16 compute units",
        ],
        maintainer: "@portwright",
    },
    dialect: &COREX,
    forms: &FORMS,
    shuffle: 64,
    registers: 255,
    busy: 16 * 8,
    fragments: &FRAGMENTS,
    floats: &[DType::F32, DType::F64],
    fma: true,
    toolchain: &VendorTools { build: &BUILD, remedy: "Iluvatar's CoreX SDK has it: https://support.iluvatar.com" },
};
