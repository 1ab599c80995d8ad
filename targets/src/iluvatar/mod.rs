// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Iluvatar CoreX GPUs: CUDA's names over 64 lanes a warp, native code only, fragments of their own.

use portwright_ir::dtype::DType;
use portwright_passes::spec::Fragment;

use crate::cfamily::{
    API, ASK_DYNAMIC, Api, BUILD, Build, Builtin, CHIP, Chip, Dialect, HALVES, Halves, LANES, chosen, fragment, k, limits, m, n,
};
use crate::mlir::simt::Held;
use crate::shuffles_with_mask;
use crate::target::{Roof, TargetSpec};

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
const fn mad(fragment: Fragment, call: &'static str, operands: [&'static str; 3]) -> Builtin {
    Builtin { fragment, call, operands, chosen: fragment }
}
const fn halves(name: &'static str, dtype: DType) -> Fragment {
    fragment(name, ([16, 16, 16], 64), [dtype, dtype, DType::F32], OPERANDS)
}
const INTEGERS: Fragment = fragment("mad_i8", ([16, 16, 32], 64), [DType::I8, DType::I8, DType::I32], BYTES);

const PRODUCTS: [Builtin; 3] = [
    mad(halves("mad_f16", DType::F16), "__ivcorex_matrix_mad_f32x4_f16x4({a}, {b}, {c})", ["pw_half4", "pw_half4", "pw_float4"]),
    mad(halves("mad_bf16", DType::BF16), "__ivcorex_matrix_mad_f32x4_bf16x4({a}, {b}, {c})", ["pw_short4", "pw_short4", "pw_float4"]),
    mad(INTEGERS, "__ivcorex_matrix_mad_i32x4_i8x8({a}, {b}, {c})", ["pw_char8", "pw_char8", "pw_int4"]),
];

const CLANG: Build = Build {
    // The SDK's nvcc is a script that prints a banner, returns 0 and compiles nothing.
    compiler: "clang++",
    variables: &["COREX_HOME", "CUDA_PATH"],
    folder: "/usr/local/corex",
    known: "CoreX 4.4 and 4.5 (clang 18)",
    compile: "{compiler} -x ivcore --cuda-gpu-arch={arch} -Wno-pass-failed {flags}",
    link: "{compiler} -shared -o {out} {in} -L\"$sdk/lib64\" -lcudart",
    remedy: "Iluvatar's CoreX SDK has it: https://support.iluvatar.com",
    ..BUILD
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
    products: &PRODUCTS,
    api: Api { dynamic: Some(ASK_DYNAMIC), ..API },
    build: CLANG,
    ..LANES
};

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
            "an analyst's table of the BI-V150 (peaks); 896 GB/s is the lower of two claims",
        ],
        roof: Roof {
            bandwidth: Some(896e9),
            peaks: &[(DType::F32, 37e12), (DType::F16, 192e12), (DType::BF16, 192e12), (DType::I8, 384e12)],
            ..Roof::UNKNOWN
        },
        ..CHIP.spec
    },
    dialect: &COREX,
    forms: &limits(64, 4096, [48 << 10, 128 << 10]),
    shuffle: 64,
    busy: 16 * 8,
    fragments: &const { chosen(&PRODUCTS) },
    ..CHIP
};
