// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the text, the verifier and the interpreter over the hand-written kernels of `cases/kernel`.

use super::*;

mod build;
mod faults;
mod mutation;
mod run;
mod text;

pub(crate) const CASES: &[(&str, &str)] = &[
    ("add_gelu", include_str!("../../cases/kernel/add_gelu.kir")),
    ("softmax", include_str!("../../cases/kernel/softmax.kir")),
    ("gemm_cpu", include_str!("../../cases/kernel/gemm_cpu.kir")),
    ("gemm_simt", include_str!("../../cases/kernel/gemm_simt.kir")),
    ("gemm_tile", include_str!("../../cases/kernel/gemm_tile.kir")),
    ("steps", include_str!("../../cases/kernel/steps.kir")),
    ("misc", include_str!("../../cases/kernel/misc.kir")),
];

pub(crate) fn case(name: &str) -> Module {
    let text = CASES.iter().find(|c| c.0 == name).unwrap().1;
    parse_module(text).unwrap_or_else(|e| panic!("{name}.kir:{e}"))
}
