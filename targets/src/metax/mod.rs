// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MetaX GPUs through MACA C++: 64 lanes a warp, masks of 64 bits, matrix products by builtins.

use portwright_ir::dtype::DType;

use crate::cfamily::{API, Api, BUILD, Bounds, Build, Builtin, CHIP, Chip, Dialect, HALVES, Halves, LANES, chosen, limits, quads};
use crate::shuffles_with_mask;
use crate::target::TargetSpec;

const PRODUCTS: [Builtin; 2] = [
    quads("mma_f16", DType::F16, "__builtin_mxc_mma_16x16x16f16({a}, {b}, {c})", "pw_half4"),
    quads("mma_bf16", DType::BF16, "__builtin_mxc_mma_16x16x16bf16({a}, {b}, {c})", "pw_short4"),
];

const MXCC: Build = Build {
    compiler: "mxcc",
    variables: &["MACA_PATH"],
    folder: "/opt/maca",
    bins: &["mxgpu_llvm/bin"],
    known: "MACA 3.5 and 3.7",
    compile: "{compiler} -x maca --offload-arch={arch} --maca-path=\"$sdk\" -I\"$sdk/include\" {flags}",
    link: "{compiler} --maca-path=\"$sdk\" -shared -o {out} {in} -L\"$sdk/lib\" -lmcruntime",
    remedy: "MetaX's MACA SDK has it: https://developer.metax-tech.com",
    ..BUILD
};

static MACA: Dialect = Dialect {
    name: "maca",
    suffix: "maca",
    headers: &["mcr/mc_runtime.h"],
    // Kernels without bounds are compiled for 512 lanes, and again at a launch of more.
    bounds: Bounds::Always,
    shuffles: shuffles_with_mask!("0xffffffffffffffffull"),
    halves: Some(Halves { headers: &["maca_fp16.h"], ..HALVES }),
    products: &PRODUCTS,
    api: Api { prefix: "mc", ..API },
    build: MXCC,
    ..LANES
};

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
        ..CHIP.spec
    },
    dialect: &MACA,
    forms: &limits(64, 1024, [64 << 10, 64 << 10]),
    shuffle: 64,
    registers: 256,
    busy: 64 * 8,
    fragments: &const { chosen(&PRODUCTS) },
    ..CHIP
};
