// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::collections::{BTreeMap, BTreeSet};

use super::{BufId, CASES, Limits, Module, Sym, case, parse_module, print_kernel, print_module, verify};
use crate::kernel::interp::{Args, Memory, RunOptions, run};

#[test]
fn cases_round_trip() {
    for (name, _) in CASES {
        let m = case(name);
        let text = print_module(&m);
        let again = parse_module(&text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
        assert_eq!(print_module(&again), text, "{name}");
        for ((_, a), (_, b)) in m.kernels.iter().zip(again.kernels.iter()) {
            assert_eq!(a.structural_hash(&m), b.structural_hash(&again));
        }
    }
}

/// Small deterministic generator (xorshift), so that a failure is repeatable.
struct Rng(u64);
impl Rng {
    fn next(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

/// Verifies every kernel, and runs those that pass on a small problem; faults are fine, panics are not.
fn verify_and_run(m: &Module, known: &BTreeSet<String>) {
    for (id, k) in m.kernels.iter() {
        // What the damage did not reach runs in other tests.
        if known.contains(&print_kernel(m, k).text) || verify(m, id, &Limits::default()).is_err() {
            continue;
        }
        let value = |s: &Sym| (s.lo.max(9) + s.div - 1) / s.div * s.div;
        let syms: BTreeMap<String, i64> = k.syms.iter().map(|s| (s.name.clone(), value(s).min(s.hi))).collect();
        let size = |b: BufId| k.bufs[b].span_bytes().eval(&|n| syms.get(n).copied()).unwrap_or(0).clamp(0, 1 << 20) as usize;
        let mut data: Vec<Vec<u8>> = k.abi_bufs().map(|b| vec![0; size(b)]).collect();
        let mut memory: Vec<Memory<'_>> = data.iter_mut().map(|d| Memory::Rw(d)).collect();
        let args = Args { bufs: (0..memory.len()).map(|i| (i, 0)).collect(), scalars: k.abi_scalars().map(|_| 0).collect(), syms };
        let options = RunOptions { limit: Some(20_000), ..RunOptions::default() };
        let _ = run(m, id, &mut memory, &args, &options);
    }
}

#[test]
fn mutated_text_never_panics() {
    let mut r = Rng(0x9E37_79B9_7F4A_7C15);
    for (name, text) in CASES {
        let whole = case(name);
        let known = whole.kernels.values().map(|k| print_kernel(&whole, k).text).collect();
        let words: Vec<&str> = text.split_inclusive([' ', '\n', '(', '[', ',']).collect();
        for _ in 0..100 {
            let mut w = words.clone();
            for _ in 0..1 + r.next(3) {
                let (i, j) = (r.next(w.len()), r.next(w.len()));
                if w.is_empty() {
                    break;
                }
                match r.next(4) {
                    0 => {
                        w.remove(i);
                    }
                    1 => w.swap(i, j),
                    2 => w[i] = w[j],
                    _ => w.truncate(i.max(1)),
                }
            }
            if let Ok(m) = parse_module(&w.concat()) {
                let text = print_module(&m);
                let again = parse_module(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
                assert_eq!(print_module(&again), text);
                verify_and_run(&m, &known);
            }
        }
    }
    let deep = format!("fn f(v: f32) -> f32 {{ ret {}v{} }}", "(".repeat(5000), ")".repeat(5000));
    assert!(parse_module(&deep).unwrap_err().message.contains("deep"));
}

#[test]
fn examples_of_the_document_are_kernels() {
    let doc = include_str!("../../../../docs/KERNEL_IR.md");
    let mut count = 0;
    for part in doc.split("```kir\n").skip(1) {
        let text = part.split("```").next().unwrap();
        let m = parse_module(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(print_module(&m).trim(), text.trim());
        for k in m.kernels.keys() {
            verify(&m, k, &Limits::default()).unwrap();
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn errors_have_positions() {
    let at = |text: &str| parse_module(text).map(|_| ()).map_err(|e| (e.line, e.column, e.message)).unwrap_err();
    let (line, column, message) = at("kernel k class cpu\n  param x: ro f32[N]\n{}");
    assert_eq!((line, column, message.as_str()), (2, 19, "no symbol `N`"));
    let (line, _, message) = at("kernel k class cpu {\n  let a: f32 = 1.0\n  let b: f64 = a\n  let c = a + missing\n}");
    assert_eq!((line, message.as_str()), (4, "no variable or symbol `missing`"));
    assert_eq!(at("fn f(v: f32) -> f32 {").2, "expected `ret`, not the end of the text");
    assert_eq!(at("kernel k class cpu { let x: i32 = 3000000000 }").2, "3000000000: it does not fit i32");
    assert_eq!(at("kernel k class cpu { let x: f32x4 = 1.0 }").2, "a number is no f32x4; use splat");
}
