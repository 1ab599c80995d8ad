// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which kernels run, and what their code must contain.

use portwright_ir::kernel::print_module;
use portwright_passes::pipeline;
use portwright_passes::spec::Math;

use super::{assembly, check};

fn case(path: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
fn elementwise() -> String {
    case("cases/elementwise.kir")
}
pub(super) fn shared(name: &str) -> String {
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
    // Machines round sums of two products in ways of their own; where large ones cancel, many last places differ.
    check(&shared("gemm_cpu"), "gemm_dot2", &[&[("M", 1), ("N", 1), ("K", 1)], &[("M", 13), ("N", 77), ("K", 41)]], 1 << 16);
    check(&shared("gemm_cpu"), "gemm_dot", &[&[("M", 1), ("N", 1), ("K", 1)], &[("M", 13), ("N", 77), ("K", 41)]], 0);
    check(&shared("misc"), "nbits_gemv", &[&[("N", 1), ("K", 1)], &[("N", 67), ("K", 100)]], 0);
}

#[test]
fn matrix_tiles_become_tile_instructions() {
    let text = assembly(&shared("gemm_cpu"), "gemm_amx", "x86-64", Some("sapphirerapids"));
    assert_eq!(text.matches("tdpbf16ps").count() % 4, 0, "{text}");
    assert!(text.contains("tileloadd") && text.contains("tilestored") && text.contains("ldtilecfg"), "{text}");
}

const BYTES: &str = "graph \"bytes\"
%0: u8[75,130] = input \"a\"
%1: i8[130,70] = weight<i8 130x70 \"w\" seed:1>
%2: i32[75,130] = cast(%0)
%3: i32[130,70] = cast(%1)
%4: i32[75,70] = contract(%2, %3) {spec=\"mk,kn->mn\"}
output \"y\" %4
";
const HALVES: &str = "graph \"halves\"
%0: bf16[3,11,100] = input \"a\"
%1: bf16[100,96] = weight<bf16 100x96 \"w\" seed:1>
%2: f32[3,11,96] = contract(%0, %1) {spec=\"bmk,kn->bmn\", acc=f32, out=f32}
output \"y\" %2
";

const FLOATS: &str = "graph \"floats\"
%0: f32[45,100] = input \"a\"
%1: f32[100,70] = weight<f32 100x70 \"w\" seed:1>
%2: f32[45,70] = contract(%0, %1) {spec=\"mk,kn->mn\"}
output \"y\" %2
";

/// The machine code of a CPU with a matrix unit, whose tile instructions run in software where this one has none.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn matrix_tiles_equal_the_interpreter() {
    let mut machine = super::host();
    let has = |f: &str| machine.features.contains(&f);
    if !(has("avx512vl") && has("avx512bw") && has("avx512dq") && has("avx512bf16")) {
        eprintln!("skipped: this CPU has no AVX-512 with bf16");
        return;
    }
    if !has("amx-tile") {
        let mut sink = portwright_ir::diag::Diags::new();
        let wide = crate::target::machine("x86-64", Some("sapphirerapids-avx512fp16"), &mut sink).unwrap_or_else(|_| panic!());
        // Code may use the unit; loading does not ask for it.
        machine = crate::target::Machine { llvm_cpu: "sapphirerapids", features: machine.features.clone(), ..wide };
        super::tile_unit::install();
    }
    let sizes: &[&[(&str, i64)]] =
        &[&[("M", 1), ("N", 1), ("K", 1)], &[("M", 33), ("N", 40), ("K", 70)], &[("M", 64), ("N", 600), ("K", 64)]];
    super::check_on(&machine, &shared("gemm_cpu"), "gemm_amx", sizes, 1 << 16, false);
    super::check_on(&machine, &shared("gemm_cpu"), "gemm_amx_bytes", sizes, 0, false);
    // The same of kernels that the schedule wrote.
    for (graph, ulps) in [(BYTES, 0), (HALVES, 1 << 10), (FLOATS, 1 << 10)] {
        let Ok(parsed) = portwright_ir::graph::text::parse(graph) else { panic!("{graph}") };
        let mut sink = portwright_ir::diag::Diags::new();
        let class = machine.class.clone();
        let done = pipeline::compile(parsed, &class, &class, Math::F32, None, &mut sink).unwrap_or_else(|_| panic!("{:?}", sink.all()));
        let text = print_module(&done.main.module);
        let kernel = done.main.module.kernels.values().find(|k| k.name.starts_with("contract")).map(|k| k.name.clone());
        assert!(text.contains("= mma tile_"), "{text}");
        let kernel = kernel.unwrap_or_default();
        super::check_on(&machine, &text, &kernel, &[&[]], ulps, false);
        if graph == FLOATS {
            // Six products of two by two tiles a step, which load seven times two; some loads more copy a tile of zeros, once.
            let code = assembly(&text, &kernel, "x86-64", Some("sapphirerapids"));
            let (products, loads) = (code.matches("tdpbf16ps").count(), code.matches("tileloadd").count());
            assert!(products % 24 == 0 && loads < products / 24 * 14 + 4, "{products} products, {loads} loads\n{code}");
        }
    }
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
