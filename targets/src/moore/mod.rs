// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moore Threads GPUs through MUSA C++: 128 lanes a warp up to mp_22, 32 from mp_31 on.

use portwright_ir::dtype::DType;

use crate::cfamily::{API, ASK_DYNAMIC, Api, BUILD, Build, CHIP, Chip, Dialect, HALVES, Halves, LANES, limits};
use crate::mlir::simt::Forms;
use crate::shuffles_with_mask;
use crate::target::{Roof, TargetSpec};

const SOURCES: &[&str] = &[
    "MooreThreads/torch_musa, utils.muh and tilelang_musa, common.h: lanes of warps (128 on mp_21 and mp_22, 32 on mp_31), exchanges",
    "ggml-org/llama.cpp, ggml-musa and vendors/musa.h: processors, exchanges among 32 of 128 lanes, bf16 from mp_22 on",
    "InfiniTensor/InfiniCore, xmake/moore.lua: command lines",
    "Moore Threads, install guide 5.2.0: 192 KiB of shared memory on S5000, 56 multiprocessors",
    "press of the S4000 (bandwidth, peak of f32) and the vendor's guide of the S5000 (bandwidth); f32 of the S5000 is not published",
    "XLA's MUSA fork: 28 KiB of shared memory on S80; S4000's is not known, so that of S80 stands for mp_22",
    "not known: lanes' parts of fragments of the matrix unit (mp_22's layouts are codes; mp_31's are unverified): no products are listed",
];

const MCC: Build = Build {
    compiler: "mcc",
    variables: &["MUSA_HOME", "MUSA_PATH", "MUSA_ROOT", "MUSA_INSTALL_PATH"],
    folder: "/usr/local/musa",
    known: "MUSA SDK 4.3 and 5.2",
    compile: "{compiler} -x musa --cuda-gpu-arch={arch} {flags}",
    link: "{compiler} -shared -o {out} {in} -L\"$sdk/lib\" -lmusart -lmusa",
    remedy: "the MUSA SDK has it: https://developer.mthreads.com",
    ..BUILD
};

static MUSA: Dialect = Dialect {
    name: "musa",
    suffix: "mu",
    headers: &["musa_runtime.h"],
    // Masks stay literals of 32 bits, whatever the warp.
    shuffles: shuffles_with_mask!("0xffffffffu"),
    halves: Some(Halves { headers: &["musa_fp16.h"], ..HALVES }),
    api: Api { prefix: "musa", dynamic: Some(ASK_DYNAMIC), ..API },
    build: MCC,
    ..LANES
};

static MP22_FORMS: Forms = limits(128, 1024, [28 << 10, 28 << 10]);
static MP31_FORMS: Forms = limits(32, 1024, [48 << 10, 192 << 10]);

const fn chip(
    id: &'static str,
    about: &'static str,
    cpus: &'static [&'static str],
    (forms, processors): (&'static Forms, u32),
    roof: Roof,
) -> Chip {
    Chip {
        spec: TargetSpec { id, vendor: "Moore Threads", about, cpus, sources: SOURCES, roof, ..CHIP.spec },
        dialect: &MUSA,
        forms,
        // Exchanges reach 32 lanes, also in warps of 128.
        shuffle: 32,
        busy: processors * 8,
        ..CHIP
    }
}

const S4000: Roof = Roof { bandwidth: Some(768e9), peaks: &[(DType::F32, 25e12)], ..Roof::UNKNOWN };
const S5000: Roof = Roof { bandwidth: Some(1.6e12), ..Roof::UNKNOWN };

pub(crate) static MP22: Chip =
    chip("moore-mp22", "Moore Threads MTT S4000 and S90 (mp_22), as MUSA C++", &["mp_22"], (&MP22_FORMS, 32), S4000);
pub(crate) static MP31: Chip = chip("moore-mp31", "Moore Threads MTT S5000 (mp_31), as MUSA C++", &["mp_31"], (&MP31_FORMS, 56), S5000);
