// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which kernels run, and what their code must contain.

use super::{assembly, check};

fn case(path: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
fn elementwise() -> String {
    case("cases/elementwise.kir")
}
fn shared(name: &str) -> String {
    case(&format!("../ir/cases/kernel/{name}.kir"))
}

#[test]
fn elementwise_equals_the_interpreter() {
    for k in ["floats", "integers", "conversions", "control"] {
        check(&elementwise(), k, &[&[("N", 1)], &[("N", 16)], &[("N", 1003)]], 0);
    }
}

#[test]
fn kernels_of_every_kind_run_at_ragged_sizes() {
    let two: &[&[(&str, i64)]] = &[&[("M", 1), ("N", 1)], &[("M", 9), ("N", 37)], &[("M", 40), ("N", 160)]];
    check(&shared("add_gelu"), "add_gelu_cpu", two, 4);
    check(&shared("softmax"), "softmax_cpu", &[&[("R", 1), ("D", 1)], &[("R", 7), ("D", 45)], &[("R", 33), ("D", 128)]], 4);
    check(&shared("gemm_cpu"), "gemm_f32", &[&[("M", 1), ("N", 1), ("K", 1)], &[("M", 130), ("N", 77), ("K", 40)]], 8);
    check(&shared("gemm_cpu"), "gemm_dot", &[&[("M", 1), ("N", 1), ("K", 1)], &[("M", 13), ("N", 77), ("K", 41)]], 0);
    check(&shared("misc"), "nbits_gemv", &[&[("N", 1), ("K", 1)], &[("N", 67), ("K", 100)]], 0);
}

#[test]
fn matrix_tiles_become_tile_instructions() {
    let text = assembly(&shared("gemm_cpu"), "gemm_amx", "x86-64", Some("sapphirerapids"));
    assert_eq!(text.matches("tdpbf16ps").count() % 4, 0, "{text}");
    assert!(text.contains("tileloadd") && text.contains("tilestored") && text.contains("ldtilecfg"), "{text}");
}

#[test]
fn vectors_of_the_machine_are_used() {
    let text = assembly(&elementwise(), "floats", "loongarch64", None);
    assert!(text.contains("xvfmadd.s"), "{text}");
    let text = assembly(&elementwise(), "floats", "x86-64", None);
    assert!(text.contains("vfmadd") && text.contains("%ymm") && !text.contains("%zmm"), "{text}");
    let text = assembly(&shared("gemm_cpu"), "gemm_f32", "x86-64", Some("x86-64-v4"));
    // One multiply-add a register of the 14 x 2 block, none spilled in the innermost loop.
    assert!(text.matches("vfmadd231ps").count() >= 28, "{text}");
}
