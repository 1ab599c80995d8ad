// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MetaX GPUs through MACA C++: 64 lanes a warp, masks of 64 bits, matrix products by builtins.

use portwright_ir::dtype::DType;
use portwright_passes::spec::Fragment;

use crate::cfamily::{API, Api, Bounds, Build, Builtin, Chip, Dialect, HALVES, Halves, LANES, VendorTools, fragment, k, limits, m, n};
use crate::mlir::simt::{Forms, Held};
use crate::shuffles_with_mask;
use crate::target::TargetSpec;

/// Row of a, column of b: lane % 16; k: 4 * (lane / 16) + i. Accumulator: row 4 * (lane / 16) + i, column lane % 16.
const OPERANDS: [Held; 3] = [
    Held { lane: &[m(1, 16), k(4, 4)], reg: &[k(1, 4)] },
    Held { lane: &[n(1, 16), k(4, 4)], reg: &[k(1, 4)] },
    Held { lane: &[n(1, 16), m(4, 4)], reg: &[m(1, 4)] },
];
/// Of the same product with its factors exchanged: lanes hold neighboring columns of the accumulator.
const TURNED: [Held; 3] = [OPERANDS[0], OPERANDS[1], Held { lane: &[m(1, 16), n(4, 4)], reg: &[n(1, 4)] }];

const fn mma(name: &'static str, dtype: DType, operands: [Held; 3]) -> Fragment {
    fragment(name, ([16, 16, 16], 64), [dtype, dtype, DType::F32], operands)
}

/// What schedules choose among: turned, so that a lane stores neighbors.
static FRAGMENTS: [Fragment; 2] = [mma("mma_f16", DType::F16, TURNED), mma("mma_bf16", DType::BF16, TURNED)];

static PRODUCTS: [Builtin; 2] = [
    Builtin {
        fragment: mma("mma_f16", DType::F16, OPERANDS),
        call: "__builtin_mxc_mma_16x16x16f16({a}, {b}, {c})",
        operands: ["pw_half4", "pw_half4", "pw_float4"],
    },
    Builtin {
        fragment: mma("mma_bf16", DType::BF16, OPERANDS),
        call: "__builtin_mxc_mma_16x16x16bf16({a}, {b}, {c})",
        operands: ["pw_short4", "pw_short4", "pw_float4"],
    },
];

static BUILD: Build = Build {
    compiler: "mxcc",
    variables: &["MACA_PATH"],
    folder: "/opt/maca",
    bins: &["mxgpu_llvm/bin"],
    known: "MACA 3.5 and 3.7",
    least: None,
    // Products and sums are not contracted: what is rounded once says so.
    compile: "{compiler} -x maca --offload-arch={arch} --maca-path=\"$sdk\" -std=c++17 -O3 -ffp-contract=off -fPIC -fvisibility=hidden \
              -I\"$sdk/include\" -Isrc -Isrc/runtime -c {in} -o {out}",
    link: "{compiler} --maca-path=\"$sdk\" -shared -o {out} {in} -L\"$sdk/lib\" -lmcruntime",
};

static MACA: Dialect = Dialect {
    name: "maca",
    suffix: "maca",
    headers: &["mcr/mc_runtime.h"],
    // Kernels without bounds are compiled for 512 lanes, and again at a launch of more.
    bounds: Bounds::Always,
    shuffles: shuffles_with_mask!("0xffffffffffffffffull"),
    halves: Some(Halves { headers: &["maca_fp16.h"], ..HALVES }),
    types: &[
        ("pw_half4", "_Float16 {name} __attribute__((ext_vector_type(4)))"),
        ("pw_short4", "short {name} __attribute__((ext_vector_type(4)))"),
        ("pw_float4", "float {name} __attribute__((ext_vector_type(4)))"),
    ],
    products: &PRODUCTS,
    api: Api { prefix: "mc", ..API },
    build: BUILD,
    ..LANES
};

static FORMS: Forms = limits(64, 1024, [64 << 10, 64 << 10]);

pub(crate) static XCORE1000: Chip = Chip {
    spec: TargetSpec {
        id: "metax-xcore1000",
        vendor: "MetaX",
        about: "MetaX C500 and its family (xcore1000), as MACA C++",
        cpus: &["xcore1000"],
        sources: &[
            "MetaX-MACA/mcTVM, target_kind.cc: 64 lanes, 64 KiB of shared memory, 1024 lanes a group, module launches by packed arguments",
            "MetaX-MACA/mcoplib and mcTlass: names of matrix builtins and where lanes hold f16 (CuTe atoms)",
            "MetaX runtime guide 4.3 (as quoted): kernels without launch bounds are compiled for 512 lanes",
            "guessed by analogy: C++ types of the builtins' operands (four halves, four shorts), registers of a lane; compute units are not known",
        ],
        maintainer: "@portwright",
    },
    dialect: &MACA,
    forms: &FORMS,
    shuffle: 64,
    registers: 256,
    busy: 64 * 8,
    fragments: &FRAGMENTS,
    floats: &[DType::F32, DType::F64],
    fma: true,
    toolchain: &VendorTools { build: &BUILD, remedy: "MetaX's MACA SDK has it: https://developer.metax-tech.com" },
};
