// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules against the interpreter's own functions, which round the f64 value once.

use std::fmt::Write;

use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::kernel::interp::{Args, Memory, RunOptions, run};
use portwright_ir::kernel::{KernelId, Limits, Module, parse_module, verify};
use portwright_ir::numerics::{decode_f64, encode_f64};

use super::*;

const CAPS: KernelCaps = KernelCaps { masked_bits: &[], fma: true, f16_convert: false };

/// A kernel that stores `expr` of `x` (and `y`) for `n` elements.
fn kernel(expr: &str, from: DType, to: DType, n: usize, two: bool) -> Module {
    let mut t = String::from("kernel k class cpu\n");
    let _ = writeln!(t, "  param x: ro {from}[{n}]");
    if two {
        let _ = writeln!(t, "  param y: ro {from}[{n}]");
    }
    let _ = writeln!(t, "  param z: wo {to}[{n}]\n  launch grid(1)\n{{\n  for i in 0..{n} {{\n    let a: {from} = load x[i]");
    if two {
        let _ = writeln!(t, "    let b: {from} = load y[i]");
    }
    let _ = writeln!(t, "    store z[i] = {expr}\n  }}\n}}");
    parse_module(&t).unwrap_or_else(|e| panic!("{e:?}\n{t}"))
}

fn bytes(d: DType, v: &[u64]) -> Vec<u8> {
    let size = d.bytes().unwrap() as usize;
    v.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec()).collect()
}

fn execute(m: &Module, inputs: &[Vec<u8>], to: DType, n: usize) -> Vec<u64> {
    let size = to.bytes().unwrap() as usize;
    let mut out = vec![0u8; n * size];
    let mut memory: Vec<Memory<'_>> = inputs.iter().map(|b| Memory::Ro(b)).collect();
    memory.push(Memory::Rw(&mut out));
    let args = Args { bufs: (0..memory.len()).map(|i| (i, 0)).collect(), ..Args::default() };
    run(m, KernelId::new(0), &mut memory, &args, &RunOptions::default()).unwrap_or_else(|f| panic!("{f}"));
    drop(memory);
    out.chunks_exact(size).map(|c| c.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b))).collect()
}

fn ulp(d: DType, a: u64, b: u64) -> u64 {
    let (x, y) = (decode_f64(d, a), decode_f64(d, b));
    if x.is_nan() || y.is_nan() {
        return if x.is_nan() && y.is_nan() { 0 } else { u64::MAX };
    }
    let sign = 1u64 << (d.bits() - 1);
    let order = |v: u64| if v & sign != 0 { -((v & !sign) as i128) } else { v as i128 };
    if a != b && x == 0.0 && y == 0.0 { u64::MAX } else { (order(a) - order(b)).unsigned_abs() as u64 }
}

/// Numbers of every magnitude and sign, special ones first.
fn samples(d: DType, n: usize) -> Vec<u64> {
    let special =
        [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 88.72, 89.5, -87.4, -103.9, -104.5, 1e-45, 1e-39];
    let more = [
        709.7,
        710.1,
        -708.5,
        -745.2,
        std::f64::consts::FRAC_PI_4,
        std::f64::consts::FRAC_PI_2,
        std::f64::consts::PI,
        1e10,
        1e22,
        3.3e38,
        -0.99999994,
        1.0000001,
        0.41421,
        1e-300,
    ];
    let mut out: Vec<u64> = special.iter().chain(&more).map(|v| encode_f64(d, *v, false)).collect();
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    while out.len() < n {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        // Half over all bit patterns, half over the range in which functions do most of their work.
        let v = if x & 1 == 0 { x >> 3 } else { encode_f64(d, ((x >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 40.0, false) };
        out.push(v & if d.bits() == 64 { u64::MAX } else { (1 << d.bits()) - 1 });
    }
    out
}

fn check(expr: &str, from: DType, to: DType, two: bool, n: usize, limit: u64, caps: &KernelCaps) {
    let plain = kernel(expr, from, to, n, two);
    let mut legal = plain.clone();
    assert!(RULES.iter().fold(false, |c, r| (r.run)(&mut legal, caps) | c), "{expr}: no rule fired");
    assert!(!RULES.iter().fold(false, |c, r| (r.run)(&mut legal, caps) | c), "{expr}: the rules do not come to an end");
    let x = samples(from, n);
    let mut inputs = vec![bytes(from, &x)];
    let mut y = x.clone();
    if two {
        y.rotate_right(7);
        y[..40].copy_from_slice(&x[..40]);
        inputs.push(bytes(from, &y));
    }
    let (want, got) = (execute(&plain, &inputs, to, n), execute(&legal, &inputs, to, n));
    let mut worst = (0, 0);
    for i in 0..n {
        worst = worst.max((ulp(to, want[i], got[i]), i));
    }
    let i = worst.1;
    let show = |d: DType, v: u64| format!("{:e} ({v:#x})", decode_f64(d, v));
    assert!(
        worst.0 <= limit,
        "{expr} of {from}: {} ulp at {} {}: {}, not {}",
        worst.0,
        show(from, x[i]),
        if two { show(from, y[i]) } else { String::new() },
        show(to, got[i]),
        show(to, want[i])
    );
}

#[test]
fn functions_of_f32_are_within_two_ulp() {
    for f in ["exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"] {
        check(&format!("{f}(a)"), DType::F32, DType::F32, false, 8_000, 2, &CAPS);
    }
    for f in ["asinh", "acosh", "atanh", "erf"] {
        check(&format!("{f}(a)"), DType::F32, DType::F32, false, 8_000, 2, &CAPS);
    }
    for f in ["pow", "atan2", "trem"] {
        check(&format!("{f}(a, b)"), DType::F32, DType::F32, true, 8_000, 2, &CAPS);
    }
}

#[test]
fn functions_of_f64_are_within_a_few_ulp() {
    for (f, limit) in [("exp", 2), ("exp2", 2), ("expm1", 4), ("log", 3), ("log2", 3), ("log1p", 4), ("asin", 3), ("acos", 3), ("atan", 3)]
    {
        check(&format!("{f}(a)"), DType::F64, DType::F64, false, 6_000, limit, &CAPS);
    }
    for (f, limit) in [("sinh", 5), ("cosh", 5), ("tanh", 5), ("asinh", 5), ("acosh", 5), ("atanh", 5), ("erf", 3)] {
        check(&format!("{f}(a)"), DType::F64, DType::F64, false, 6_000, limit, &CAPS);
    }
    check("atan2(a, b)", DType::F64, DType::F64, true, 20_000, 4, &CAPS);
}

#[test]
fn small_floats_are_those_of_the_interpreter() {
    let small = [
        DType::F16,
        DType::BF16,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F6E2M3,
        DType::F6E3M2,
    ];
    for d in small {
        for op in ["cast", "cast_sat"] {
            check(&format!("{op}<{d}>(a)"), DType::F32, d, false, 6_000, 0, &CAPS);
            check(&format!("{op}<{d}>(a)"), DType::F64, d, false, 6_000, 0, &CAPS);
        }
        let n = 1usize << d.bits();
        if d != DType::BF16 {
            check("cast<f32>(a)", d, DType::F32, false, n, 0, &CAPS);
        }
    }
    for d in [DType::F16, DType::BF16, DType::F8E5M2] {
        check("a + b", d, d, true, 6_000, 0, &CAPS);
        check("max(a, b) * a", d, d, true, 6_000, 0, &CAPS);
        check("fma(a, b, a)", d, d, true, 6_000, 0, &CAPS);
        check("sqrt(a)", d, d, false, 6_000, 0, &CAPS);
    }
}

#[test]
fn fused_multiply_add_without_the_instruction() {
    let caps = KernelCaps { fma: false, ..CAPS };
    check("fma(a, b, a)", DType::F32, DType::F32, true, 20_000, 0, &caps);
}

/// Runs a kernel of two inputs and one output at some sizes before and after the rules; returns the text after them.
fn masked(text: &str, d: DType, sizes: &[usize]) -> String {
    let plain = parse_module(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let mut legal = plain.clone();
    assert!(RULES.iter().fold(false, |c, r| (r.run)(&mut legal, &CAPS) | c), "no rule fired:\n{text}");
    assert!(!RULES.iter().fold(false, |c, r| (r.run)(&mut legal, &CAPS) | c), "the rules do not come to an end:\n{text}");
    let shown = portwright_ir::kernel::print_module(&legal);
    for (m, t) in [(&plain, text), (&legal, shown.as_str())] {
        verify(m, KernelId::new(0), &Limits::default()).unwrap_or_else(|e| panic!("{e:?}\n{t}"));
    }
    let size = d.bytes().unwrap() as usize;
    for &n in sizes {
        let run = |m: &Module| {
            let x: Vec<u8> = (0..n * size).map(|i| if d == DType::Bool { (i % 3 == 0).into() } else { (i * 7 % 61) as u8 }).collect();
            let mut out = vec![0u8; n * size];
            let mut memory = vec![Memory::Ro(&x), Memory::Rw(&mut out)];
            let args = Args { bufs: vec![(0, 0), (1, 0)], syms: [("n".to_string(), n as i64)].into(), ..Args::default() };
            run(m, KernelId::new(0), &mut memory, &args, &RunOptions::default()).unwrap_or_else(|f| panic!("at {n}: {f}\n{shown}"));
            drop(memory);
            out
        };
        assert_eq!(run(&plain), run(&legal), "at {n}:\n{shown}");
    }
    shown
}

#[test]
fn ends_of_rows_go_in_pieces_where_memory_has_no_masks() {
    for (d, w) in [("f32", 4), ("f32", 8), ("i8", 16), ("i64", 2), ("f64", 4), ("bool", 8)] {
        let dtype = DType::ALL.iter().copied().find(|t| t.name() == d).unwrap();
        let zero = if dtype.is_float() {
            "0.0"
        } else if dtype == DType::Bool {
            "false"
        } else {
            "0"
        };
        let text = format!(
            "kernel k class cpu\n sym n: 1..1000\n param x: ro {d}[n]\n param z: wo {d}[n]\n launch grid(1)\n{{\n  for c in 0..n step {w} {{\n\
             let in_: mask{w} = mask.lt(c, n)\n let a: {ty} = load x[c:{w}] mask in_ else {zero}\n store z[c:{w}] = a mask in_\n }}\n}}",
            ty = if dtype == DType::Bool { format!("mask{w}") } else { format!("{d}x{w}") },
        );
        let shown = masked(&text, dtype, &[1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 31, 47]);
        assert_eq!(shown.contains(" mask in_"), dtype == DType::Bool, "{shown}");
    }
}

#[test]
fn masks_known_in_advance_leave_no_branch() {
    for have in 0..=8 {
        let text = format!(
            "kernel k class cpu\n sym n: 1..1000\n param x: ro f32[n]\n param z: wo f32[n]\n launch grid(1)\n{{\n let in_: mask8 = mask.lt({}, 8)\n\
             let a: f32x8 = load x[0:8] mask in_ else 2.0\n store z[0:8] = a + splat(1.0)\n store z[8:8] = a valid [{have}]\n}}",
            8 - have
        );
        let shown = masked(&text, DType::F32, &[16, 19]);
        assert!(!shown.contains("if ") && !shown.contains(" when "), "{shown}");
    }
}

#[test]
fn masks_of_no_order_are_tested_first() {
    let text = "kernel k class cpu\n sym n: 8..1000\n param x: ro f32[n]\n param z: wo f32[n]\n launch grid(1)\n{\n\
        for c in 0..n step 8 {\n let where_: i64x8 = iota(c - 3)\n let in_: mask8 = where_ >= splat(0) & where_ < splat(n - 1)\n\
        var a: f32x8[2] = splat(0.0)\n a[1] = load x[c - 3:8] mask in_ else 1.0\n\
        let far: mask8 = where_ < splat(n - 5)\n let b: f32x8 = gather x[where_ + splat(5)] mask far & in_ else 4.0\n\
        store z[c:8] = a[1] + b mask mask.lt(c, n)\n scatter z[where_] = b mask in_\n}\n}";
    let shown = masked(text, DType::F32, &[8, 9, 12, 16, 23, 40]);
    assert_eq!(shown.matches("hand(").count(), 3, "{shown}");
}
