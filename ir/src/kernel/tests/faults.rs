// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One faulty kernel per rule of the verifier and per check of the interpreter.

use super::*;
use crate::kernel::interp::{Args, FaultKind, Memory, RunOptions, run};

/// A header with usual parameters, and a body.
fn kernel(class: &str, launch: &str, body: &str) -> String {
    format!(
        "atom P m16 n8 k16 bf16 bf16 f32 lanes 32\n  a lane[k.2:4 m.1:8] reg[k.1:2 m.8:2 k.8:2]\n  b lane[k.2:4 n.1:8] reg[k.1:2 k.8:2]\n  \
         c lane[n.2:4 m.1:8] reg[n.1:2 m.8:2]\n\
         kernel k class {class} sym N: 1..1000 param x: ro f32[N] param y: wo f32[N] param i: ro i32[N] param z: rw f32[N] param err: status \
         launch {launch} {{\n{body}\n}}"
    )
}

#[test]
fn the_verifier_reports_each_rule() {
    let simt = "grid(1) group(64) warp 32";
    let cases: &[(&str, &str, &str, &str)] = &[
        ("simt", "grid(1) group(64) warp 32 steps", "", "in steps"),
        ("cpu", "grid(1)", "let a: f32 = load y[0]", "`y` is wo, this reads it"),
        ("cpu", "grid(1)", "store x[0] = 0.0", "`x` is ro, this writes it"),
        ("cpu", "grid(1)", "var a: f32\nstore y[0] = a", "read before it is assigned"),
        ("cpu", "grid(1)", "var a: f32\nif N > 3 { a = 1.0 }\nstore y[0] = a", "read before it is assigned"),
        ("cpu", "grid(1)", "var a: f32[2] = 0.0\nfor j in 0..N { a[j] = 1.0 }", "not constant after unrolling"),
        ("cpu", "grid(1)", "var a: f32[2] = 0.0\nstore y[0] = a[2]", "index 2 of `a`"),
        ("cpu", "grid(1)", "for j in 0..N unroll { store y[j] = 0.0 }", "bounds of an unrolled loop"),
        ("cpu", "grid(1)", "for j in 0..100 unroll { for l in 0..100 unroll { store y[j] = 0.0 } }", "statements after unrolling"),
        ("cpu", "grid(1)", "let a: f32 = load x[2000]", "at most 1000"),
        ("cpu", "grid(1)", "let a: f32x4 = load x[0:4] valid [N, N] else 0.0", "2 extents for 1 dims"),
        ("cpu", "grid(1)", "let a: f64 = load x[0]", "as f64"),
        ("cpu", "grid(1)", "queue q\nshared s: f32[4]\ncopy.async q s[0] <- x[0]\ncommit q\nwait q 0", "on cpu"),
        ("cpu", "grid(1) group(2) warp 1", "barrier group", "a group on cpu has one lane"),
        ("simt", simt, "if lane < 3 { barrier group }", "not uniform in the group"),
        ("simt", simt, "if lane < 3 { let t: f32 = shuffle.xor(1.0, 1) width 32 }", "not uniform in the warp"),
        ("simt", simt, "let a: f32 = load x[lane]\nif a > 0.0 { barrier group }", "not uniform in the group"),
        ("simt", simt, "var u: i32 = 0\nif wlane == 0 { u = 1 }\nif u == 1 { barrier group }", "not uniform in the group"),
        ("simt", simt, "for j in 0..lane { barrier group }", "not uniform in the group"),
        ("simt", simt, "let t: f32 = shuffle.xor(1.0, 1) width 64", "64 lanes of warps of 32"),
        ("simt", simt, "shared s: f32[100000]", "bytes of shared memory"),
        ("simt", simt, "shared s: f32[N]", "not constant"),
        ("simt", simt, "queue q\nshared s: f32[64]\ncopy.async q s[lane] <- x[lane]\nwait q 0", "never committed"),
        ("simt", simt, "queue q\nshared s: f32[64]\ncopy.async q s[lane] <- x[lane]\ncommit q", "nobody waits"),
        ("simt", simt, "role a warps 0..1 { store y[0] = 0.0 }\nrole b warps 0..2 { store y[1] = 0.0 }", "two roles"),
        ("simt", simt, "role a warps 0..1 { store y[0] = 0.0 }\nbarrier group", "roles end the body"),
        ("simt", simt, "role a warps 0..1 { barrier group }", "inside a role"),
        ("simt", simt, "var f: frag<P.a> = fill(0.0)\nvar c: frag<P.c> = fill(0.0)\nc = mma P(f, f, c)", "operand b of `P`"),
        ("simt", simt, "shared s: f32[16, 16]\nlet f: frag<P.a> = load s[0:16, 0:16] as (m, k) via lane", "elements of f32"),
        ("simt", simt, "shared s: bf16[16, 16]\nlet f: frag<P.a> = load s[0:16, 0:16] as (m, k) via tile", "via tile"),
        ("simt", simt, "shared s: bf16[16, 16]\nlet f: frag<P.a> = load s[lane:16, 0:16] as (m, k) via lane", "differs in the warp"),
        ("simt", simt, "let t: tile f32[4]@Vec = fill(0.0)", "a tile on simt"),
        ("tile_core", "grid(1)", "let t: tile f32[4]@Vec = fill(0.0)\nlet u: tile f32[5]@Vec = map j<5: t[j, j]", "has 1 dims"),
        ("tile_core", "grid(1)", "let t: tile f32[1024, 1024]@Vec = fill(0.0)", "bytes of tiles"),
    ];
    let mut wrong = Vec::new();
    for (class, launch, body, message) in cases {
        let text = kernel(class, launch, body);
        let m = match parse_module(&text) {
            Ok(m) => m,
            Err(e) => {
                wrong.push(format!("{e}\n{text}"));
                continue;
            }
        };
        let faults = verify(&m, m.kernel_named("k").unwrap(), &Limits::default()).err().unwrap_or_default();
        if !faults.iter().any(|f| f.message.contains(message)) {
            wrong.push(format!("{body}: {message}: {faults:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_faults_are_collected() {
    let text = kernel("cpu", "grid(1)", "store x[0] = 0.0\nlet a: f32 = load y[0]\nstore y[2000] = a");
    let m = parse_module(&text).unwrap();
    let faults = verify(&m, m.kernel_named("k").unwrap(), &Limits::default()).unwrap_err();
    assert_eq!(faults.len(), 3);
    assert!(faults[0].line > 0 && faults[0].text == "store x[0] = 0.0", "{}", faults[0]);
}

#[test]
fn a_table_that_is_no_bijection_is_reported() {
    let mut m = parse_module(&kernel("simt", "grid(1) group(32) warp 32", "let f: frag<P.c> = fill(0.0)")).unwrap();
    let k = m.kernel_named("k").unwrap();
    assert!(verify(&m, k, &Limits::default()).is_ok());
    let p = m.atom_named("P").unwrap();
    if let Place2::PerLane { reg, .. } = &mut m.atoms[p].operands[2] {
        reg[1].stride = 4;
    }
    let faults = verify(&m, k, &Limits::default()).unwrap_err();
    assert!(faults[0].message.contains("no bijection"), "{}", faults[0]);
}

#[test]
fn the_interpreter_reports_each_check() {
    let group = "grid(1) group(64) warp 32";
    let cases: &[(&str, &str, &str, FaultKind)] = &[
        ("cpu", "grid(1)", "store y[N] = 0.0", FaultKind::Bounds),
        ("cpu", "grid(1)", "let a: f32x4 = load x[N - 3:4]\nstore y[0:4] = a", FaultKind::Bounds),
        ("cpu", "grid(1)", "let a: f32x4 = load x[0:4] mask mask.lt(0, 2)\nstore y[0:4] = a", FaultKind::Poison),
        ("cpu", "grid(1)", "let a: f32x4 = load x[0:4] mask mask.lt(0, 2)\nstore y[0] = hsum(a)", FaultKind::Poison),
        ("cpu", "grid(1)", "local s: f32[4]\nlet a: f32 = load s[0]\nstore y[0] = a", FaultKind::Uninitialized),
        (
            "cpu",
            "grid(1)",
            "local s: f32[4]\nlocal t: f32[4] alias s at 0\nstore s[0] = 1.0\nalloc t\nlet a: f32 = load t[0]\nstore y[0] = a",
            FaultKind::Uninitialized,
        ),
        ("cpu", "grid(1)", "let a: i32 = load i[0]\nlet b: i32 = a + 2147483647", FaultKind::Wrap),
        ("cpu", "grid(1)", "let a: i32 = load i[0]\nlet b: i32 = (0 - a) / 2", FaultKind::Domain),
        ("cpu", "grid(1)", "let a: i32 = load i[0]\nlet b: i32 = a << (a + 31)", FaultKind::Domain),
        ("cpu", "grid(1)", "assume N < 3", FaultKind::Assumption),
        ("cpu", "grid(2)", "store y[0] = 0.0", FaultKind::Race),
        ("cpu", "grid(2)", "if gx == 0 { store z[0] = 0.0 } else { let a: f32 = load z[0] }", FaultKind::Race),
        ("cpu", "grid(2, 1, 3) steps", "store y[gz] = 0.0", FaultKind::Race),
        ("cpu", "grid(2, 1, 3) steps", "if gx == 0 { store z[gz] = 0.0 } else { let a: f32 = load z[gz] }", FaultKind::Race),
        ("simt", group, "store y[0] = 0.0", FaultKind::Race),
        ("simt", group, "shared s: f32[64]\nstore s[lane] = 0.0\nlet a: f32 = load s[63 - lane]", FaultKind::Race),
        ("simt", group, "bar b\nif lane == 0 { bar.init b 1 }\nbarrier group\nbar.wait b parity 0", FaultKind::Deadlock),
        (
            "simt",
            group,
            "bar b\nif lane == 0 { bar.init b 1 }\nbarrier group\nif lane < 3 { bar.arrive b }\nbar.wait b parity 0",
            FaultKind::Signal,
        ),
        (
            "simt",
            group,
            "queue q\nshared s: f32[64] align 16\nif lane < 4 { copy.async q s[lane*4 + 1:4] <- x[lane*4:4] }\ncommit q\nwait q 0",
            FaultKind::Alignment,
        ),
    ];
    let mut wrong = Vec::new();
    for (class, launch, body, kind) in cases {
        let text = kernel(class, launch, body);
        let m = parse_module(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let mut data = vec![vec![0u8; 400]; 4];
        data[2] = 1i32.to_le_bytes().repeat(100);
        let mut memory: Vec<Memory<'_>> = data.iter_mut().map(|d| Memory::Rw(d)).collect();
        let args = Args { bufs: (0..4).map(|b| (b, 0)).collect(), syms: [("N".to_string(), 100)].into(), scalars: vec![] };
        let got = run(&m, m.kernel_named("k").unwrap(), &mut memory, &args, &RunOptions::default());
        match got {
            Err(f) if f.kind == *kind && f.line > 0 => {}
            other => wrong.push(format!("{body}: {kind:?}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
