// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVIDIA GPUs through CUDA C++: kernels for nvcc, where PTX of our own is not wanted.
//!
//! Matrix products have no function in CUDA C++ whose fragments are documented (those of `mma.h` are opaque, the others are assembly): the
//! targets that emit PTX have them.

use portwright_ir::dtype::DType;

use crate::cfamily::{API, ASK_DYNAMIC, Api, Build, Chip, Copies, Dialect, HALVES, Halves, LANES, VendorTools, limits};
use crate::mlir::simt::Forms;
use crate::shuffles_with_mask;
use crate::target::TargetSpec;

static BUILD: Build = Build {
    compiler: "nvcc",
    variables: &["CUDA_HOME", "CUDA_PATH"],
    folder: "/usr/local/cuda",
    bins: &["bin"],
    known: "CUDA toolkit 12.8 and 13.0",
    least: None,
    // Products and sums are not contracted: what is rounded once says so.
    compile: "{compiler} -arch={arch} -std=c++17 -O3 -fmad=false -Xcompiler -fPIC,-fvisibility=hidden -Isrc -Isrc/runtime -c {in} -o {out}",
    link: "{compiler} -arch={arch} -shared -o {out} {in}",
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
    build: BUILD,
    ..LANES
};

/// Compute capability 8.0: 163 KiB of shared memory a group, of which launches ask for what is over 48.
static FORMS: Forms = limits(32, 1024, [48 << 10, 163 << 10]);

pub(crate) static SM80: Chip = Chip {
    spec: TargetSpec {
        id: "nvidia-cuda",
        vendor: "NVIDIA",
        about: "NVIDIA GPUs of compute capability 8.0 and later, as CUDA C++ for nvcc",
        cpus: &["sm_80"],
        sources: &[
            "CUDA C++ Programming Guide, technical specifications per compute capability; asynchronous copies by primitives",
            "NVIDIA A100 data sheet (108 multiprocessors)",
        ],
        maintainer: "@portwright",
    },
    dialect: &CUDA,
    forms: &FORMS,
    shuffle: 32,
    registers: 255,
    busy: 108 * 8,
    fragments: &[],
    floats: &[DType::F32, DType::F64],
    fma: true,
    toolchain: &VendorTools { build: &BUILD, remedy: "NVIDIA's CUDA toolkit has it; the PTX targets need no toolkit" },
};
