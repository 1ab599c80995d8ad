// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVIDIA GPUs through CUDA C++: kernels for nvcc, where PTX of our own is not wanted.
//!
//! Matrix products have no function in CUDA C++ whose fragments are documented (those of `mma.h` are opaque, the others are assembly): the
//! targets that emit PTX have them.

use portwright_ir::dtype::DType;

use crate::cfamily::{API, ASK_DYNAMIC, Api, BUILD, Build, CHIP, Chip, Copies, Dialect, HALVES, Halves, LANES, limits};
use crate::shuffles_with_mask;
use crate::target::{Roof, TargetSpec};

const NVCC: Build = Build {
    compiler: "nvcc",
    variables: &["CUDA_HOME", "CUDA_PATH"],
    folder: "/usr/local/cuda",
    known: "CUDA toolkit 12.8, 13.0 and 13.5",
    // The first that knows the capability.
    least: Some(11),
    flags: "-std=c++17 -O3 -fmad=false -Xcompiler -fPIC,-fvisibility=hidden -Isrc -Isrc/runtime -c {in} -o {out}",
    compile: "{compiler} -arch={arch} {flags}",
    link: "{compiler} -arch={arch} -shared -o {out} {in}",
    remedy: "NVIDIA's CUDA toolkit has it; the PTX targets need no toolkit",
    ..BUILD
};

static CUDA: Dialect = Dialect {
    name: "cuda",
    suffix: "cu",
    headers: &["cuda_runtime.h"],
    shuffles: shuffles_with_mask!("0xffffffffu"),
    // CUDA C++ Programming Guide, warp synchronization: lanes that take part see each other's writes.
    warp_barrier: Some("__syncwarp()"),
    halves: Some(Halves { headers: &["cuda_fp16.h"], ..HALVES }),
    copies: Some(Copies {
        headers: &["cuda_pipeline_primitives.h"],
        start: "__pipeline_memcpy_async({to}, {from}, {bytes}, {zeros})",
        commit: "__pipeline_commit()",
        wait: "__pipeline_wait_prior({groups})",
    }),
    api: Api { dynamic: Some(ASK_DYNAMIC), ..API },
    build: NVCC,
    ..LANES
};

pub(crate) static SM80: Chip = Chip {
    spec: TargetSpec {
        id: "nvidia-cuda",
        vendor: "NVIDIA",
        about: "NVIDIA GPUs of compute capability 8.0 and later, as CUDA C++ for nvcc",
        cpus: &["sm_80"],
        sources: &[
            "CUDA C++ Programming Guide, technical specifications per compute capability; asynchronous copies by primitives",
            "NVIDIA A100 80 GB data sheet (108 multiprocessors, bandwidth, peaks of lanes)",
        ],
        roof: Roof { bandwidth: Some(2.039e12), peaks: &[(DType::F32, 19.5e12), (DType::F64, 9.7e12)], ..Roof::UNKNOWN },
        ..CHIP.spec
    },
    dialect: &CUDA,
    // Compute capability 8.0: 163 KiB of shared memory a group, of which launches ask for what is over 48.
    forms: &limits(32, 1024, [48 << 10, 163 << 10]),
    busy: 108 * 8,
    ..CHIP
};
