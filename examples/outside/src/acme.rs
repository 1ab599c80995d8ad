// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A chip that nobody sells: names of CUDA, 16 KiB of memory a group, groups of at most 512 lanes, no doubles.

use portwright_targets::DType;
use portwright_targets::cfamily::{API, BUILD, Build, CHIP, Chip, Dialect, LANES, limits};
use portwright_targets::shuffles_with_mask;
use portwright_targets::target::{Roof, TargetSpec};

const COMPILER: Build = Build {
    compiler: "acmecc",
    variables: &["ACME_HOME"],
    folder: "/opt/acme",
    known: "acmecc 1.0",
    least: Some(1),
    compile: "{compiler} --arch={arch} {flags}",
    link: "{compiler} --arch={arch} -shared -o {out} {in}",
    remedy: "its vendor would have it",
    ..BUILD
};

static DIALECT: Dialect = Dialect {
    name: "cuda",
    headers: &["cuda_runtime.h"],
    shuffles: shuffles_with_mask!("0xffffffffu"),
    api: API,
    build: COMPILER,
    ..LANES
};

/// The chip.
pub static A1: Chip = Chip {
    spec: TargetSpec {
        id: "acme-a1",
        vendor: "Acme",
        about: "Acme A1, as C++",
        cpus: &["a1"],
        sources: &["invented: an example of docs/ADDING_A_TARGET.md"],
        maintainer: "nobody",
        roof: Roof { bandwidth: Some(100e9), peaks: &[(DType::F32, 1e12)], launch: Some(5e-6) },
    },
    dialect: &DIALECT,
    forms: &limits(32, 512, [16 << 10, 16 << 10]),
    floats: &[DType::F32],
    // Lanes, lanes that exchange, lanes of a group, its memory in all and without asking, lanes without bounds, order of a warp, macros.
    emulated: Some("cuda a1 32 32 512 16384 16384 512 0 __ACME__=1"),
    ..CHIP
};
