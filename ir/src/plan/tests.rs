// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text of plans, their verifier and their interpreter on plans written by hand.

use super::*;
use crate::diag::Code;
use crate::entity::EntityId;
use crate::graph::interp::Tensor;
use crate::kernel::{Module, parse_module};

/// Every form that a plan has.
const ALL: &str = r#"plan "every \"form\""
symbol N in 1..64
symbol `batch size` in 0..9223372036854775807 div 8
input "x": f32[N,4]
input "trips": i64[]
output "y": f32[N,4]
output "z": f32[K] alias 0
weight "w": f32[4,4] at 0 bytes 64
weight "s": f32[] at 64 bytes 4
buffer %0 "x": f32[N,4] = input 0
buffer %1 "w": f32[4,4] = weight 0
buffer %2 "h": f32[N,4] = arena 0 at 0
buffer %3 "n": i64[1] = arena 0 at 64*ceil(N, 4)
buffer %4 "y": f32[N,4] = output 0
buffer %5 "c": bool[] = arena 1 at 0
bind N = dim 0 of input 0
bind `x.1` = dim 1 of input 0
check `x.1` == 4 else shape  // x
check 1 <= N else range  // symbol N
check 8 divides N*N - 1 else reshape  // "a, b", main/Reshape_1
let K = 2*N
epoch 0 bytes 64*ceil(N, 4) + 64
launch scale grid(1, ceil(N, 8), 1) (%0, %2) scalars(N) scratch 64*N cost 12  // main/Mul_0
choose {
  when N == 8, N <= K: launch scale grid(1, 1, 1) (%0, %2) scalars(N) cost 12
  else: launch scale grid(1, N, 1) (%0, %2) scalars(N) cost 3  // main/Mul_1
}
dims %3 = [N, K]
read T = %3[0]
epoch 1 bytes 64
if N <= 4 {
  copy %2 = %0
} else {
  if T == 1 {
  } else {
    dims %3 = [1]
  }
}
loop i < T while %5 trips L {  // main/Loop_2
  let j = i + 1
}
output 0 [N, 4]
room C, F = output 1 past N needed N + 1
copy %4 = %2
"#;

fn kernels(name: &str) -> Option<usize> {
    ["double", "scale"].iter().position(|k| *k == name)
}

fn names(i: usize) -> String {
    ["double", "scale"].get(i).map_or_else(String::new, |n| (*n).to_owned())
}

#[test]
fn what_is_printed_reads_back() {
    let plan = parse(ALL, &kernels).unwrap_or_else(|d| panic!("{d:#?}"));
    assert_eq!(print(&plan, &names), ALL);
    assert_eq!((plan.symbols.len(), plan.buffers.len(), plan.body.len()), (2, 6, 17));
    let again = parse(&print(&plan, &names), &kernels).expect("it reads back");
    assert_eq!(again, plan);
}

#[test]
fn faults_have_their_place() {
    let cases = [
        ("plane", "1:1: expected `plan`, found `plane`"),
        ("plan \"a\"\nbuffer %1 \"x\": f32[] = input 0", "2:8: buffers count from %0: expected %0"),
        ("plan \"a\"\nlaunch foo grid(1, 1, 1) () cost 1", "2:8: there is no kernel `foo`"),
        ("plan \"a\"\nlaunch scale grid(1, 1) () cost 1", "2:19: a grid has 3 numbers"),
        ("plan \"a\"\ncopy %0 = %7", "2:6: there is no buffer %0"),
        ("plan \"a\"\ncheck N == 1 else luck", "2:19: there is no fault `luck`"),
        ("plan \"a\"\ncheck N else shape", "2:9: expected `==`, `<=` or `divides`, found `else`"),
        ("plan \"a\"\nlet N = 1 2", "2:11: expected the end of the line, found `2`"),
        ("plan \"a\"\nif 1 == 1 {", "2:12: expected `}`, found the end"),
        ("plan \"a\"\nsymbol N in 3..1", "2:8: `N` has the range 3..1 and the divisor 1, which nothing fits"),
    ];
    for (text, message) in cases {
        let d = parse(text, &kernels).expect_err(text);
        assert_eq!(d.first().map(|d| d.message.as_str()), Some(message), "{text}");
    }
}

#[test]
fn changed_texts_never_panic_and_read_back_if_they_read() {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let words: Vec<&str> = ALL.split_inclusive([' ', '\n', ',', '(', ')']).collect();
    let odd = ["{", "}", "%99999999999", "\"", "`", "-", "9223372036854775807", "*", "// a", "floor(", "\u{e9}", "if 1 == 1 {\n", "\n"];
    let mut read = 0;
    for _ in 0..4000 {
        let mut w: Vec<&str> = words.clone();
        for _ in 0..1 + next(3) {
            let at = next(w.len());
            match next(4) {
                0 => drop(w.remove(at)),
                1 => w.insert(at, odd[next(odd.len())]),
                2 => w[at] = words[next(words.len())],
                _ => w.truncate(w.len() - next(4).min(w.len() - 1)),
            }
        }
        let text = w.concat();
        if let Ok(p) = parse(&text, &kernels) {
            read += 1;
            let printed = print(&p, &names);
            let again = parse(&printed, &kernels).unwrap_or_else(|d| panic!("{d:#?}\n{printed}"));
            assert_eq!(print(&again, &names), printed);
            let _ = verify(&p, &Module::new());
        }
    }
    assert!(read > 100, "{read} of 4000 texts are plans");
    let deep = format!("plan \"a\"\n{}", "if 1 == 1 {\n".repeat(100_000));
    assert!(parse(&deep, &kernels).is_err());
}

/// `y = 2 * x` over `N` elements.
fn module() -> Module {
    let text = "kernel double class cpu\n  sym N: 0..1024\n  param x: ro f32[N]\n  param y: wo f32[N]\n  launch grid(N, 1, 1)\n{\n  let a: f32 = load x[gx]\n  store y[gx] = a + a\n}\n";
    parse_module(text).unwrap_or_else(|e| panic!("{e}"))
}

const DOUBLES: &str = r#"plan "doubles"
symbol N in 0..64
input "x": f32[N]
output "y": f32[N]
buffer %0 "x": f32[N] = input 0
buffer %1 "a": f32[N] = arena 0 at 0
buffer %2 "b": f32[N] = arena 0 at 64*ceil(N, 16)
buffer %3 "y": f32[N] = output 0
bind N = dim 0 of input 0
check N <= 64 else range  // main/Check
epoch 0 bytes 128*ceil(N, 16)
launch double grid(N, 1, 1) (%0, %1) scalars(N) cost 1
launch double grid(N, 1, 1) (%1, %2) scalars(N) cost 1
output 0 [N]
launch double grid(N, 1, 1) (%2, %3) scalars(N) cost 1
"#;

fn doubles(from: &str, to: &str) -> HostPlan {
    assert!(DOUBLES.contains(from), "{from}");
    parse(&DOUBLES.replace(from, to), &|n| module().kernel_named(n).map(EntityId::index)).unwrap_or_else(|d| panic!("{d:#?}"))
}

#[test]
fn a_plan_runs() {
    let (m, plan) = (module(), doubles("cost 1", "cost 1"));
    assert_eq!(verify(&plan, &m), []);
    let run = |x: &[f32]| interp::run(&m, &plan, &[Tensor::from_f32(vec![x.len()], x)], &|_| None, &interp::Options::default());
    assert_eq!(run(&[1.0, -2.0, 0.5]).map(|o| o[0].to_f32()), Ok(vec![8.0, -16.0, 4.0]));
    assert_eq!(run(&[]).map(|o| o[0].dims.clone()), Ok(vec![0]));
    let e = run(&[0.0; 65]).expect_err("65 is out of range");
    assert_eq!((e.fault, e.path.as_str(), e.message.as_str()), (Some(Fault::Range), "main/Check", "`N <= 64` does not hold: 65 and 64"));
}

/// Texts of numbers joined with themselves, and the element of a list, whose dims a run finds.
const WORDS: &str = r#"plan "words"
symbol N in 0..64
symbol P in 0..64
symbol M in 0..64
input "x": i64[N]
input "at": i64[]
output "parts": i64[N]
output "last": i64[M]
buffer %0 "x": i64[N] = input 0
buffer %1 "at": i64[] = input 1
buffer %2 "t": i64[N] = arena 0 at 0
buffer %3 "tt": i64[N] = arena 0 at 512
buffer %4 "l": i64[] = arena 0 at 1024
buffer %5 "parts": i64[N] = output 0
buffer %6 "last": i64[M] = output 1
buffer %7 "m": i64[N,P] = arena 1 at 0
bind N = dim 0 of input 0
check N <= 64 else range
epoch 0 bytes 1088
host string_of (%0) takes(i64) gives(str)
held %2 = 0
host string_concat (%2, %2) takes(str, str) gives(str)
held %3 = 0
host string_split (%3, %2) takes(str, str) gives(str, i64) params(-1) binds(P)  // main/split
check P <= 64 else range
epoch 1 bytes 64*ceil(N*P, 8)
held %7 = 0
output 0 [N]
held %5 = 1
host list_split (%0) takes(i64) gives(list) params(0, 1)
held %4 = 0
host list_at (%4, %1) takes(list, i64) gives(i64) binds(M)  // main/at
check M <= 64 else range
output 1 [M]
held %6 = 0
"#;

#[test]
fn host_operations_run_in_the_tables_of_the_run() {
    let plan = parse(WORDS, &|_| None).unwrap_or_else(|d| panic!("{d:#?}"));
    let module = Module::default();
    let run = |x: &[i64], at: i64, max_bytes: u64| {
        let inputs = [Tensor::from_i64(vec![x.len()], x), Tensor::from_i64(vec![], &[at])];
        interp::run(&module, &plan, &inputs, &|_| None, &interp::Options { max_bytes, ..Default::default() })
    };
    // `77` and `-3-3` between `7`, the first of the delimiters.
    let out = run(&[7, -3], -1, 1 << 20).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((out[0].to_i64(), out[1].to_i64(), &out[1].dims), (vec![3, 1], vec![-3], &vec![1]));
    let e = run(&[7, -3], 2, 1 << 20).expect_err("there are two elements");
    assert_eq!((e.code, e.path.as_str(), e.message.as_str()), (Code::RUN_FAILED, "main/at", "position 2 in a list of 2 elements"));
    let long: Vec<i64> = (1 << 40..).take(64).collect();
    assert_eq!(run(&long, 0, 1100).map_err(|e| e.code), Err(Code::OVER_MEMORY));
}

#[test]
fn the_verifier_sees_what_is_wrong() {
    let cases = [
        (
            "scalars(N) cost 1\nlaunch double grid(N, 1, 1) (%1, %2)",
            "cost 1\nlaunch double grid(N, 1, 1) (%1, %2)",
            "0 scalars for the 1 of kernel `double`",
        ),
        ("(%0, %1)", "(%0)", "1 buffers for the 2 of kernel `double`"),
        ("(%0, %1)", "(%1, %0)", "buffer %0 `x` is an input or a weight and is written"),
        ("output 0 [N]\n", "", "buffer %3 `y` is used before output 0 is declared"),
        ("epoch 0 bytes 128*ceil(N, 16)\n", "", "buffer %1 `a` is used before epoch 0 is opened"),
        ("bind N = dim 0 of input 0\n", "", "symbol `N` of `N` is not bound here"),
        ("check N <= 64", "let N = 3\ncheck N <= 64", "symbol `N` is bound twice"),
        ("of input 0\n", "of input 1\n", "there is no dim 0 of input 1"),
        ("\"b\": f32[N]", "\"b\": i32[N]", "`y` of kernel `double` is f32, buffer %2 is i32"),
        ("at 64*ceil(N, 16)", "at 0", "a launch of `double` writes %2 over its own %1"),
        ("at 64*ceil(N, 16)", "at 32", "buffer %2 lies at byte 32, which is no multiple of 64"),
        ("128*ceil(N, 16)", "64", "buffer %2 `b` lies in bytes 64..68 of an arena of 64"),
        ("(%0, %1)", "(%0, %2)", "%1 `a` is read, of which nobody wrote byte 0"),
        ("grid(N, 1, 1) (%0", "grid(N + 1, 1, 1) (%0", "the grid of `double` is [2, 1, 1], the kernel says Some([1, 1, 1])"),
        ("(%2, %3)", "(%1, %3)", ""),
        (
            "launch double grid(N, 1, 1) (%1, %2) scalars(N) cost 1",
            "choose {\nwhen N == 1: launch double grid(N, 1, 1) (%1, %2) scalars(N) cost 1\n}",
            "the last case of a choice, and only it, has no condition",
        ),
    ];
    let m = module();
    for (from, to, message) in cases {
        let found = verify(&doubles(from, to), &m);
        let texts: Vec<&str> = found.iter().map(|d| d.message.strip_prefix("plan: ").unwrap_or(&d.message)).collect();
        match message {
            "" => assert_eq!(texts, [""; 0], "{to}"),
            m => assert!(texts.contains(&m), "{to}: {texts:#?}"),
        }
    }
    // Bytes of a value that is still needed are given to another one.
    let reused = doubles("(%1, %2)", "(%0, %2)").clone();
    let text = print(&reused, &|_| "double".into()).replace("(%2, %3)", "(%1, %3)").replace("at 64*ceil(N, 16)", "at 0");
    let reused = parse(&text, &|_| Some(0)).unwrap_or_else(|d| panic!("{d:#?}"));
    let found = verify(&reused, &m);
    assert!(found.iter().any(|d| d.message == "plan: %1 `a` is read, whose bytes %2 `b` was written over"), "{found:#?}");
}
