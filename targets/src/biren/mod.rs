// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Biren BR10X GPUs through SUPA C++ in its plain mode (G-mode): launches and copies of their own form, no doubles, no half functions.
//!
//! The matrix unit is reachable by kernels of its own kind alone (T-mode), so products are formed lane by lane.

use portwright_ir::dtype::DType;

use crate::cfamily::{API, Api, BUILD, Build, CHIP, Chip, Dialect, LANES, limits};
use crate::shuffles_with_mask;
use crate::target::TargetSpec;

const BRCC: Build = Build {
    compiler: "brcc",
    variables: &["BIREN_HOME"],
    folder: "/usr/local/birensupa/sdk/latest",
    bins: &["brcc/bin"],
    known: "BIRENSUPA SDK 1.10 and 1.11 (clang 16)",
    flags: "-std=c++17 -O2 -ffp-contract=off -fPIC -Isrc -Isrc/runtime -c {in} -o {out}",
    compile: "{compiler} -x supa --supa-gpu-arch={arch} --supa-path=\"$sdk/supa\" -I\"$sdk/supa/include\" {flags}",
    link: "{compiler} --supa-link -shared --supa-path=\"$sdk/supa\" {in} -o {out} -L\"$sdk/supa/lib\" -lsupa-runtime",
    remedy: "Biren's BIRENSUPA SDK has it: https://www.birentech.com",
    ..BUILD
};

static SUPA: Dialect = Dialect {
    name: "supa",
    suffix: "su",
    headers: &["supa.h"],
    // The mask is reserved: the vendor's samples pass 0.
    shuffles: shuffles_with_mask!("0"),
    // Its conversions of storage are not to the nearest, and halves are no type of plain kernels: rules do both on integers.
    halves: None,
    api: Api {
        prefix: "su",
        take: "$MallocDevice({to}, {bytes})",
        // The stream stands before the direction.
        copy: "$MemcpyAsync({to}, {from}, {bytes}, {stream}, {kind})",
        launch: "$LaunchKernel({kernel}, {grid}, {group}, {shared}, {stream}, {args})",
        ..API
    },
    build: BRCC,
    ..LANES
};

pub(crate) static BR100: Chip = Chip {
    spec: TargetSpec {
        id: "biren-br100",
        vendor: "Biren",
        about: "Biren BR106 and BR166 (br100), as SUPA C++",
        cpus: &["br100"],
        sources: &[
            "BIREN SUPA programming guide and brcc manual 1.1 to 1.8: warps of 32 lanes, plain and tensor kernels, launches, copies, no doubles",
            "device query of a 106B: 1024 lanes a group, 32 KiB of shared memory, 64 processors",
            "tests on SDK 1.10: conversion of f32 to bf16 storage is not to the nearest even",
            "kvcache-ai/Mooncake, SUPA shim: suMemcpyAsync(to, from, bytes, stream, kind); registers of a lane are not known",
        ],
        ..CHIP.spec
    },
    dialect: &SUPA,
    // 32 KiB of shared memory a compute unit, on which a group runs whole.
    forms: &limits(32, 1024, [32 << 10, 32 << 10]),
    busy: 64 * 4,
    floats: &[DType::F32],
    ..CHIP
};
