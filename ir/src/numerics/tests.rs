// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules of `docs/NUMERICS.md`, row by row, and exhaustive checks of the small formats.

use std::collections::BTreeSet;

use super::*;
use crate::graph::Graph;
use crate::graph::interp;
use crate::graph::op::{ArgOp, BinaryOp, Op, ReduceOp, ScatterOp, UnaryOp};
use crate::graph::types::{Origin, Scalar, TensorType};

use DType::*;

fn scalar_dtypes() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|d| !d.is_handle() && *d != DType::C128)
}

// ---- rows of the document ----

fn to(d: DType, v: f64) -> u64 {
    encode_f64(d, v, false)
}
fn sat(d: DType, v: f64) -> f64 {
    decode_f64(d, encode_f64(d, v, true))
}
/// The value that a number becomes in a dtype.
fn as_(d: DType, v: f64) -> f64 {
    decode_f64(d, to(d, v))
}
fn un(op: UnaryOp, d: DType, x: f64) -> f64 {
    decode_f64(d, unary(op, d, to(d, x)))
}
fn bin(op: BinaryOp, d: DType, a: f64, b: f64) -> f64 {
    decode_f64(d, binary(op, d, to(d, a), to(d, b)))
}
fn compared(op: BinaryOp, a: f64, b: f64) -> bool {
    binary(op, F32, to(F32, a), to(F32, b)) == 1
}
fn int(op: BinaryOp, d: DType, a: i128, b: i128) -> i128 {
    int_from_bits(d, binary(op, d, int_to_bits(d, a), int_to_bits(d, b)))
}
fn conv(from: DType, v: i128, into: DType) -> i128 {
    int_from_bits(into, cast(int_to_bits(from, v), from, into, false))
}
fn tensor(d: DType, dims: &[usize], v: &[f64]) -> interp::Tensor {
    interp::Tensor::from_f64(d, dims.to_vec(), v)
}
/// Results of one op on inputs.
fn node(op: Op, x: &[interp::Tensor]) -> Result<Vec<f64>, interp::RunError> {
    let mut g = Graph::new("main");
    let ty = |t: &interp::Tensor| TensorType::fixed(t.dtype, &t.dims.iter().map(|&d| d as i64).collect::<Vec<_>>());
    let v: Vec<_> = x.iter().map(|t| g.add_input("x", ty(t))).collect();
    let n = g.add(op, &v, Origin::path("main/node")).unwrap_or_else(|f| panic!("{}", f.message));
    g.add_output("y", g.result(n));
    Ok(interp::run(&g, x, &interp::Options::default())?[0].to_f64())
}
fn reduce(op: ReduceOp, d: DType, v: &[f64]) -> f64 {
    node(Op::Reduce { op, axes: vec![0], keep: false }, &[tensor(d, &[v.len()], v)]).unwrap()[0]
}
fn contract(d: DType, acc: DType, out: DType, a: &[f64], b: &[f64]) -> f64 {
    let op = Op::Contract { spec: "k,k->".into(), acc, out };
    node(op, &[tensor(d, &[a.len()], a), tensor(d, &[b.len()], b)]).unwrap()[0]
}

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// One check for each row, by id.
const ROWS: &[(&str, fn())] = &[
    ("format.f16", || {
        assert_eq!((as_(F16, 65504.0), as_(F16, 65520.0), as_(F16, 5.0e-8)), (65504.0, INF, 5.960464477539063e-8));
        assert_eq!(decode_f64(BF16, 0x3f80), 1.0);
        assert_eq!(to(BF16, 1.0 + 1.0 / 256.0), 0x3f80);
    }),
    ("format.f8", || {
        assert_eq!((as_(F8E4M3FN, 1e9).is_nan(), sat(F8E4M3FN, 1e9), decode_f64(F8E4M3FN, 0x7e)), (true, 448.0, 448.0));
        assert_eq!((to(F8E4M3FNUZ, -0.0), to(F8E5M2FNUZ, NAN), decode_f64(F8E5M2, 0x7c)), (0, 0x80, INF));
    }),
    ("format.f8e8m0", || {
        assert_eq!((decode_f64(F8E8M0, 0), decode_f64(F8E8M0, 127), decode_f64(F8E8M0, 254)), (2f64.powi(-127), 1.0, 2f64.powi(127)));
        assert!(decode_f64(F8E8M0, 255).is_nan());
    }),
    ("format.small", || assert_eq!((as_(F6E2M3, 1e3), as_(F6E3M2, -1e3), as_(F4E2M1, INF)), (7.5, -28.0, 6.0))),
    ("format.packed", || {
        let mut b = vec![0u8; 2];
        (0..3).for_each(|i| set(&mut b, I4, i, [1, 0xf, 2][i]));
        assert_eq!(b, [0xf1, 0x02]);
        assert_eq!(pack(vec![1, 2, 3, 0, 1], U2), [0b00_11_10_01, 1]);
    }),
    ("format.bool", || assert_eq!(cast(to(F32, 0.25), F32, Bool, false), 1)),
    ("cast.float", || {
        // Rounding to f32 first would make a tie of it, and then an even code.
        assert_eq!(to(F16, 1.0 + 2f64.powi(-11) + 2f64.powi(-40)), to(F16, 1.0) + 1);
        assert_eq!(as_(F32, 1e-45), f64::from(f32::from_bits(1)));
    }),
    ("cast.overflow", || {
        assert_eq!((as_(F8E5M2, 1e9), as_(F8E5M2FNUZ, -1e9).is_nan(), as_(F4E2M1, -1e9)), (INF, true, -6.0));
        assert_eq!((as_(F8E4M3FN, 464.0), as_(F8E4M3FN, 464.1).is_nan()), (448.0, true));
    }),
    ("cast.saturate", || {
        assert_eq!((sat(F8E5M2, -INF), sat(F8E4M3FNUZ, 1e3)), (-57344.0, 240.0));
        assert_eq!(decode_f64(F16, cast(to(F32, 1e9), F32, F16, true)), INF);
    }),
    ("cast.nan", || assert_eq!((to(F16, -NAN), to(F4E2M1, NAN), to(F8E4M3FN, -NAN), to(F6E2M3, NAN)), (0xfe00, 8, 0xff, 0x20))),
    ("cast.scale", || {
        assert_eq!((as_(F8E8M0, 3.0), as_(F8E8M0, 2.9), as_(F8E8M0, 1e-45)), (4.0, 2.0, 2f64.powi(-127)));
        assert_eq!((to(F8E8M0, 0.0), encode_f64(F8E8M0, -1.0, true), encode_f64(F8E8M0, INF, true)), (255, 0, 254));
    }),
    ("cast.float-int", || {
        let i = |v, d| int_from_bits(d, cast(to(F64, v), F64, d, false));
        assert_eq!((i(-1.9, I8), i(300.0, I8), i(-5.0, U8), i(NAN, I32), i(1e30, I64)), (-1, 127, 0, 0, i64::MAX.into()));
        assert_eq!((i(1e30, U64), i(-INF, I4), i(7.9, U2)), (u64::MAX.into(), -8, 3));
    }),
    ("cast.int-int", || assert_eq!((conv(I16, 200, I8), conv(I8, -1, U32), conv(U8, 255, I4)), (-56, u32::MAX.into(), -1))),
    ("cast.int-float", || {
        let v = (1i64 << 62) + (1 << 54) + 1; // just above a tie of bf16, which f64 cannot see
        assert_eq!(cast(v as u64, I64, BF16, false), to(BF16, 2f64.powi(62)) + 1);
        assert_eq!(decode_f64(F16, cast(65519, I32, F16, false)), 65504.0);
        assert_eq!(decode_f64(F16, cast(65520, I32, F16, false)), INF);
        assert_eq!(f32::from_bits(cast(u64::MAX, U64, F32, false) as u32), 18446744073709551615u64 as f32);
    }),
    ("cast.bool", || {
        assert_eq!((cast(to(F16, NAN), F16, Bool, false), cast(to(F16, -0.0), F16, Bool, false)), (1, 0));
        assert_eq!((conv(Bool, 1, I64), decode_f64(F8E4M3FN, cast(1, Bool, F8E4M3FN, false))), (1, 1.0));
    }),
    ("cast.same", || assert_eq!(cast(0x7fc0_1234, F32, F32, false), 0x7fc0_1234)),
    ("float.own", || {
        let (a, b) = (1.0 + f64::from(f32::EPSILON), 1.0 - f64::from(f32::EPSILON));
        assert_eq!(bin(BinaryOp::Sub, F32, bin(BinaryOp::Mul, F32, a, b), 1.0), 0.0);
        assert_ne!(bin(BinaryOp::Sub, F64, bin(BinaryOp::Mul, F64, a, b), 1.0), 0.0);
    }),
    ("float.narrow", || {
        assert_eq!((bin(BinaryOp::Add, F16, 2048.0, 1.0), bin(BinaryOp::Mul, BF16, 1.0078125, 1.0078125)), (2048.0, 1.015625))
    }),
    ("float.subnormal", || assert_eq!(bin(BinaryOp::Mul, F32, 1e-30, 1e-10), f64::from(1e-30f32 * 1e-10f32))),
    ("float.zero", || {
        assert!(bin(BinaryOp::Add, F32, -0.0, -0.0).is_sign_negative() && un(UnaryOp::Ceil, F32, -0.5).is_sign_negative());
        assert!(un(UnaryOp::Sign, F16, -0.0).is_sign_negative() && compared(BinaryOp::Eq, -0.0, 0.0));
    }),
    ("float.round", || assert_eq!([0.5, 1.5, 2.5, -0.5].map(|v| un(UnaryOp::Round, F32, v)), [0.0, 2.0, 2.0, -0.0])),
    ("float.minmax", || {
        assert!(bin(BinaryOp::Min, F32, NAN, 1.0).is_nan() && bin(BinaryOp::Max, F16, 1.0, NAN).is_nan());
        assert!(bin(BinaryOp::Min, F32, 0.0, -0.0).is_sign_negative() && bin(BinaryOp::Max, F32, -0.0, 0.0).is_sign_positive());
    }),
    ("float.compare", || {
        let ops = [BinaryOp::Eq, BinaryOp::Lt, BinaryOp::Le, BinaryOp::Gt, BinaryOp::Ge, BinaryOp::Ne];
        assert_eq!(ops.map(|o| compared(o, NAN, NAN)), [false, false, false, false, false, true]);
    }),
    ("float.mod", || {
        assert_eq!((bin(BinaryOp::Mod, F32, -7.0, 3.0), bin(BinaryOp::Rem, F32, -7.0, 3.0)), (2.0, -1.0));
        assert_eq!((bin(BinaryOp::Mod, F32, 7.0, -3.0), bin(BinaryOp::Mod, F32, 1e30, 7.0)), (-2.0, f64::from(1e30f32) % 7.0));
        assert!(bin(BinaryOp::Mod, F32, 1.0, 0.0).is_nan());
    }),
    ("float.div", || assert!(bin(BinaryOp::Div, F32, -1.0, 0.0) == -INF && bin(BinaryOp::Div, F16, 0.0, 0.0).is_nan())),
    ("float.sigmoid", || {
        let s = |v| (un(UnaryOp::Sigmoid, F32, v), un(UnaryOp::Softplus, F32, v));
        assert_eq!((s(1000.0), s(-1000.0)), ((1.0, 1000.0), (0.0, 0.0)));
        assert!((un(UnaryOp::Softplus, F32, NAN)).is_nan() && un(UnaryOp::Softplus, F32, INF) == INF);
    }),
    ("float.function", || {
        assert_eq!(un(UnaryOp::Exp, F32, 1.0), f64::from(std::f32::consts::E));
        assert_eq!(un(UnaryOp::Erf, F32, 0.5), f64::from(0.520_499_9_f32));
        assert_eq!(bin(BinaryOp::Pow, F32, 2.0, 0.5), f64::from(std::f32::consts::SQRT_2));
    }),
    ("int.wrap", || {
        assert_eq!((int(BinaryOp::Add, I8, 127, 1), int(BinaryOp::Mul, U16, 300, 300), int(BinaryOp::Sub, U4, 0, 1)), (-128, 24464, 15));
        assert_eq!(int_from_bits(I8, unary(UnaryOp::Abs, I8, 0x80)), -128);
        assert_eq!(int(BinaryOp::Mul, U64, u64::MAX.into(), u64::MAX.into()), 1);
    }),
    ("int.div", || {
        assert_eq!((int(BinaryOp::Div, I32, -7, 2), int(BinaryOp::Div, I32, 5, 0)), (-3, 0));
        assert_eq!(int(BinaryOp::Div, I64, i64::MIN.into(), -1), i64::MIN.into());
    }),
    ("int.mod", || {
        assert_eq!((int(BinaryOp::Mod, I32, -7, 3), int(BinaryOp::Rem, I32, -7, 3), int(BinaryOp::Mod, I32, 7, -3)), (2, -1, -2));
        assert_eq!((int(BinaryOp::Mod, I32, 7, 0), int(BinaryOp::Rem, I8, -128, -1), int(BinaryOp::Mod, U8, 7, 4)), (0, 0, 3));
    }),
    ("int.pow", || {
        let p = |a, b| int(BinaryOp::Pow, I32, a, b);
        assert_eq!((p(3, 4), p(2, -1), p(-1, -3), p(0, -1), p(0, 0), p(2, 31)), (81, 0, -1, 0, 1, i32::MIN.into()));
    }),
    ("int.shift", || {
        let s = |op, d, a, b| int(op, d, a, b);
        assert_eq!((s(BinaryOp::Shl, U8, 3, 7), s(BinaryOp::Shl, U8, 3, 8), s(BinaryOp::Shr, I8, -128, 3)), (128, 0, -16));
        assert_eq!((s(BinaryOp::Shr, I8, -1, 100), s(BinaryOp::Shr, U8, 255, 8), s(BinaryOp::Shl, I32, 1, -1)), (-1, 0, 0));
    }),
    ("bool.logic", || {
        assert_eq!((unary(UnaryOp::Not, Bool, 1), unary(UnaryOp::Not, U8, 1), binary(BinaryOp::Xor, Bool, 1, 1)), (0, 0xfe, 0));
    }),
    ("reduce.float", || {
        assert_eq!((reduce(ReduceOp::Sum, F32, &[1e8, 1.0, -1e8]), reduce(ReduceOp::Mean, F16, &[65504.0, 65504.0])), (1.0, 65504.0))
    }),
    ("reduce.int", || {
        assert_eq!((reduce(ReduceOp::Sum, I8, &[100.0, 100.0]), reduce(ReduceOp::Mean, I8, &[100.0, 101.0])), (-56.0, 100.0));
        let half = 2f64.powi(62);
        assert_eq!((reduce(ReduceOp::Mean, I64, &[half, half]), reduce(ReduceOp::Mean, U64, &[half, half])), (-half, half));
    }),
    ("reduce.empty", || {
        let e = |op, d| reduce(op, d, &[]);
        assert_eq!((e(ReduceOp::Sum, F32), e(ReduceOp::Prod, I8), e(ReduceOp::Mean, I8), e(ReduceOp::Max, F32)), (0.0, 1.0, 0.0, -INF));
        assert_eq!(
            (e(ReduceOp::Max, F8E4M3FN), e(ReduceOp::Min, U8), e(ReduceOp::Any, Bool), e(ReduceOp::All, Bool)),
            (-448.0, 255.0, 0.0, 1.0)
        );
        assert!(e(ReduceOp::Mean, F32).is_nan());
    }),
    ("reduce.nan", || assert!(reduce(ReduceOp::Max, F32, &[1.0, NAN, 2.0]).is_nan() && reduce(ReduceOp::Min, F16, &[NAN, -1.0]).is_nan())),
    ("arg.nan", || {
        let a = |op, last, v: &[f64]| node(Op::ArgReduce { op, axis: 0, keep: false, last }, &[tensor(F32, &[v.len()], v)]).unwrap()[0];
        assert_eq!((a(ArgOp::Max, false, &[1.0, NAN, 3.0]), a(ArgOp::Min, false, &[1.0, NAN, -3.0])), (1.0, 1.0));
        assert_eq!((a(ArgOp::Max, false, &[2.0, 2.0]), a(ArgOp::Max, true, &[2.0, 2.0])), (0.0, 1.0));
    }),
    ("scan.float", || {
        let op = Op::Scan { op: ReduceOp::Sum, axis: 0, exclusive: false, reverse: false };
        assert_eq!(node(op, &[tensor(F32, &[3], &[1e8, 1.0, -1e8])]).unwrap()[2], 1.0);
    }),
    ("top_k.order", || {
        let op = Op::TopK { axis: 0, k: 4.into(), largest: true };
        let v = node(op, &[tensor(F32, &[4], &[1.0, INF, NAN, -1.0])]).unwrap();
        assert!(v[0].is_nan() && v[1..] == [INF, 1.0, -1.0]);
    }),
    ("contract.float", || {
        assert_eq!(contract(F32, F32, F32, &[1e8, 1.0, -1e8], &[1.0; 3]), 1.0);
        assert_eq!(contract(F16, F32, F16, &[300.0, -300.0, 1.0], &[300.0, 300.0, 1.0]), 1.0);
        assert_eq!(contract(F16, F16, F32, &[2049.0, 1.0], &[1.0, 1.0]), 2048.0);
    }),
    ("contract.int", || {
        assert_eq!((contract(U8, I32, I32, &[255.0; 4], &[255.0; 4]), contract(I8, I32, I32, &[-128.0], &[-128.0])), (260100.0, 16384.0))
    }),
    ("contract.blocks", || {
        let (x, s) = (tensor(F32, &[1, 3], &[1.0, 2.0, 4.0]), tensor(F32, &[1, 2], &[0.5, 8.0]));
        let q = tensor(U8, &[1, 3], &[9.0, 7.0, 10.0]);
        let op = Op::ContractBlocks { block: 2, narrow: true, zero: 8, groups: false };
        assert_eq!(node(op.clone(), &[x.clone(), q.clone(), s.clone()]).unwrap(), [(0.5 - 2.0 * 0.5) + 4.0 * 16.0]);
        assert_eq!(node(op, &[x, q, s, tensor(F32, &[1, 2], &[9.0, 9.5])]).unwrap(), [-2.0 + 4.0 * 4.0]);
    }),
    ("contract.scaled", || {
        let (a, b) = (tensor(F8E4M3FN, &[1, 4], &[1.0, 2.0, -3.0, 448.0]), tensor(F8E4M3FN, &[1, 4], &[4.0, 0.5, 2.0, 0.25]));
        let (sa, sb) = (tensor(F32, &[1, 2], &[2.0, 0.5]), tensor(F32, &[1, 2], &[10.0, 1.0]));
        let r = node(Op::ContractScaled { block: 2, out: F32, narrow: true }, &[a, b, sa, sb]);
        assert_eq!(r.unwrap(), [(4.0 + 1.0) * 20.0 + (-6.0 + 112.0) * 0.5]);
    }),
    ("conv.acc", || {
        let op = Op::Conv { strides: vec![1], dilations: vec![1], pads: vec![0.into(); 2], groups: 1 };
        let r = node(op.clone(), &[tensor(F16, &[1, 3, 1], &[300.0, -300.0, 1.0]), tensor(F16, &[1, 3, 1], &[300.0, 300.0, 1.0])]);
        assert_eq!(r.unwrap(), [1.0]);
        assert_eq!(node(op, &[tensor(I8, &[1, 1, 1], &[100.0]), tensor(I8, &[1, 1, 1], &[3.0])]).unwrap(), [44.0]);
    }),
    ("conv.winograd", || {
        use crate::graph::winograd::{KERNEL, SPAN, TILE, both, filter, input, output};
        let f32s = |x: f64| f64::from(x as f32);
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32s(f64::from(seed >> 8) / f64::from(1 << 23) - 1.0)
        };
        let (mut sums, mut want) = ([[0.0; SPAN]; SPAN], [[0.0; TILE]; TILE]);
        for _ in 0..256 {
            let d: [[f64; SPAN]; SPAN] = std::array::from_fn(|_| std::array::from_fn(|_| random()));
            let g: [[f64; KERNEL]; KERNEL] = std::array::from_fn(|_| std::array::from_fn(|_| random()));
            let (v, m) = (both(&input(), &d, f32s), filter());
            let at = |i: usize, j: usize| (0..9).map(|k| m[i][k / 3] * m[j][k % 3] * g[k / 3][k % 3]).sum::<f64>();
            for (k, s) in sums.iter_mut().flatten().enumerate() {
                *s = f32s(*s + f32s(f32s(at(k / SPAN, k % SPAN)) * v[k / SPAN][k % SPAN]));
            }
            for (k, w) in want.iter_mut().flatten().enumerate() {
                *w += (0..9).map(|t| g[t / 3][t % 3] * d[k / TILE + t / 3][k % TILE + t % 3]).sum::<f64>();
            }
        }
        let got = both(&output(), &sums, f32s);
        let pairs = || got.iter().flatten().zip(want.iter().flatten());
        let (off, all) = (pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>(), pairs().map(|(_, b)| b * b).sum::<f64>());
        assert!((off / all).sqrt() < 3e-6, "{}", (off / all).sqrt());
        sums[0][0] = f64::INFINITY;
        assert!(!both(&output(), &sums, f32s)[0][0].is_finite());
    }),
    ("contract.groups", || {
        let (x, w) = (tensor(F32, &[3, 1], &[1.0, 2.0, 3.0]), tensor(F32, &[3, 1, 1], &[10.0, NAN, 100.0]));
        let op = || Op::ContractGroups { acc: F32, out: F32 };
        let starts = |at: &[f64; 3]| tensor(I64, &[3], at);
        assert_eq!(node(op(), &[x.clone(), w.clone(), starts(&[0.0, 2.0, 2.0])]).unwrap(), [10.0, 20.0, 300.0]);
        // The first group begins at row 0, the last one ends with the rows.
        assert_eq!(node(op(), &[x.clone(), w.clone(), starts(&[7.0, 0.0, 0.0])]).unwrap(), [100.0, 200.0, 300.0]);
        assert!(node(op(), &[x, w, starts(&[0.0, 2.0, 1.0])]).is_err());
    }),
    ("gather.range", || {
        let go = |i| node(Op::Gather { axis: 0 }, &[tensor(F32, &[2], &[5.0, 6.0]), tensor(I64, &[1], &[i])]);
        assert_eq!((go(-2.0).unwrap(), go(1.0).unwrap()), (vec![5.0], vec![6.0]));
        assert_eq!((go(2.0).unwrap_err().path, go(-3.0).unwrap_err().code), ("main/node".to_owned(), crate::diag::Code::RUN_FAILED));
    }),
    ("scatter.order", || {
        let x = [tensor(F32, &[1], &[0.0]), tensor(I64, &[2], &[0.0, 0.0]), tensor(F32, &[2], &[1.0, 2.0])];
        assert_eq!(node(Op::ScatterElements { axis: 0, op: ScatterOp::Set }, &x).unwrap(), [2.0]);
    }),
    ("quantize.round", || {
        let op = Op::Quantize { to: U8, axis: None, block: 1, saturate: true };
        let x = [tensor(F32, &[4], &[0.5, 1.5, 1e9, NAN]), tensor(F32, &[], &[1.0]), tensor(U8, &[], &[10.0])];
        assert_eq!(node(op, &x).unwrap(), [10.0, 12.0, 255.0, 10.0]);
    }),
    ("dequantize.exact", || {
        let op = Op::Dequantize { to: F32, axis: None, block: 1 };
        let x = [tensor(I8, &[2], &[-128.0, 127.0]), tensor(F32, &[], &[0.1]), tensor(I8, &[], &[127.0])];
        assert_eq!(node(op, &x).unwrap(), [f64::from(-255.0 * 0.1f32), 0.0]);
    }),
    ("resize.int", || {
        let linear = |d| Op::Resize {
            dims: vec![d],
            mode: "linear".into(),
            coords: "align_corners".into(),
            nearest: "floor".into(),
            scales: vec![],
            cubic_a: Scalar::f32(-0.75),
            exclude_outside: false,
            antialias: false,
        };
        assert_eq!(node(linear(3.into()), &[tensor(U8, &[2], &[0.0, 5.0])]).unwrap(), [0.0, 2.0, 5.0]);
    }),
    ("composite.f64", || {
        assert_eq!(node(Op::Softmax { axis: 0 }, &[tensor(F32, &[2], &[1000.0, 1000.0])]).unwrap(), [0.5, 0.5]);
        let lost = [Op::Gelu { tanh: false }, Op::Silu {}, Op::HardSwish {}].map(|o| node(o, &[tensor(F32, &[1], &[-INF])]).unwrap()[0]);
        assert!(lost.iter().all(|v| v.is_nan()));
    }),
    ("attention.empty", || {
        let zero = Scalar::f32(0.0);
        let op = Op::Attention { scale: Scalar::f32(1.0), causal: true, has_mask: false, has_offset: true, softcap: zero };
        let one = |v| tensor(F32, &[1, 1, 1, 1], &[v]);
        let go = |offset| node(op.clone(), &[one(1.0), one(1.0), one(INF), tensor(I64, &[], &[offset])]).unwrap();
        assert_eq!((go(-1.0), go(0.0)), (vec![0.0], vec![INF]));
    }),
    ("random.philox", || {
        // Known answers of the authors' test file for philox4x32 with 10 rounds.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(decode_f64(F32, uniform(F32, to(F32, 0.0), to(F32, 1.0), 0, 0)), f64::from((0x6627e8d5u32 >> 8) as f32 / 16777216.0));
    }),
    ("seed.bytes", || {
        let all: Vec<u8> = scalar_dtypes().flat_map(|d| seeded_bytes(1, d, &[3, 5]).unwrap()).collect();
        assert_eq!(fnv(all), SEEDED);
        let f = seeded_bytes(9, F32, &[4096]).unwrap();
        let v: Vec<f64> = (0..4096).map(|i| decode_f64(F32, get(&f, F32, i))).collect();
        let mean = v.iter().sum::<f64>() / 4096.0;
        let deviation = (v.iter().map(|v| v * v).sum::<f64>() / 4096.0).sqrt();
        assert!(mean.abs() < 0.02 && (deviation - 0.289).abs() < 0.02 && v.iter().all(|v| v.abs() <= 1.0));
    }),
    ("text.round-trip", || {
        let p = |d, v| print_scalar(Scalar { dtype: d, bits: to(d, v) });
        assert_eq!((p(F32, 0.1), p(F16, 0.1), p(BF16, 3.0e38), p(F64, 1e-5)), ("0.1".into(), "0.1".into(), "3e38".into(), "1e-5".into()));
        assert_eq!((p(F32, NAN), p(F16, -INF), p(I8, -3.0), p(Bool, 1.0)), ("nan".into(), "-inf".into(), "-3".into(), "true".into()));
    }),
];

/// FNV-1a of the seeded weights of every dtype.
const SEEDED: u64 = 7185482478199796692;

#[test]
fn the_document_and_these_tests_have_the_same_rows() {
    let doc = include_str!("../../../docs/NUMERICS.md");
    let rows = doc.lines().filter_map(|l| l.strip_prefix("| ")).filter_map(|l| l.split(" |").next()).map(str::trim);
    let rows: Vec<&str> = rows.filter(|id| *id != "id" && *id != "---").collect();
    let (doc, tests): (BTreeSet<&str>, BTreeSet<&str>) = (rows.iter().copied().collect(), ROWS.iter().map(|r| r.0).collect());
    assert_eq!(doc.len(), rows.len(), "an id is twice in the document");
    assert_eq!(doc, tests);
}

#[test]
fn every_row_holds() {
    let mut failed = Vec::new();
    for (id, check) in ROWS {
        if std::panic::catch_unwind(check).is_err() {
            failed.push(id);
        }
    }
    assert!(failed.is_empty(), "rows that do not hold: {failed:?}");
}

// ---- whole formats ----

fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// FNV-1a of ml_dtypes 0.6 tables: the f64 of every code (NaN as 0x7ff8..), and the codes (16 bits each) of every f16 and of every
/// 65537th f32 that is not NaN.
const TABLES: &[(DType, u64, u64)] = &[
    (F8E4M3FN, 0x4d4ded90c4f5d9b5, 0x44bd614449812f9d),
    (F8E4M3FNUZ, 0x33a06c4d119992b0, 0xf03dc408f2ed79f5),
    (F8E5M2, 0x61a099e723174195, 0xd49483b8417be45),
    (F8E5M2FNUZ, 0x8d9906cc5ea2650, 0xf4038e4d06519875),
    (F8E8M0, 0x4b7d9d85633d505, 0xae8f6d79dfcadff3),
    (F6E2M3, 0xec0cc051702db885, 0xbe3cec2faada13fd),
    (F6E3M2, 0xa1716230c365c5f5, 0xb803f77336af163d),
    (F4E2M1, 0xb7a536e39150e235, 0x1d127f6801ef7b05),
    (BF16, 0x5e93c8468f9404d5, 0xd33458030fa0ed71),
    (F16, 0xfe87bb782adb2fc5, 0xb5426c7c7c8151d2),
];

#[test]
fn narrow_floats_are_those_of_ml_dtypes() {
    let sources: Vec<f64> = (0..=u16::MAX)
        .map(|b| half::f16::from_bits(b).to_f64())
        .chain((0..=u32::from(u16::MAX)).map(|b| f32::from_bits(b * 65537).into()))
        .filter(|v| !v.is_nan())
        .collect();
    for &(d, decoded, encoded) in TABLES {
        let codes = if matches!(d, F6E2M3 | F6E3M2) { 64 } else { 1u64 << d.bits() };
        let value = |b| Some(decode_f64(d, b)).filter(|v| !v.is_nan()).map_or(0x7ff8_0000_0000_0000, f64::to_bits);
        assert_eq!(fnv((0..codes).flat_map(|b| value(b).to_le_bytes())), decoded, "decoding {d}");
        // Just above the smallest scale ml_dtypes takes what is nearer to it to the next one.
        let odd = |v: f64| d == F8E8M0 && v > 2f64.powi(-127) && v < 1.5 * 2f64.powi(-127);
        let sources = sources.iter().filter(|v| !odd(**v));
        assert_eq!(fnv(sources.flat_map(|&v| (to(d, v) as u16).to_le_bytes())), encoded, "encoding {d}");
    }
}

#[test]
fn f16_agrees_with_half_for_every_code() {
    for b in 0..=u16::MAX {
        let (want, got) = (half::f16::from_bits(b).to_f64(), decode_f64(DType::F16, b.into()));
        assert!(want == got || want.is_nan() && got.is_nan());
        if !want.is_nan() {
            assert_eq!(encode_f64(DType::F16, want, false), u64::from(b));
        }
        // Halfway to the next code and a hair to both sides.
        let next = half::f16::from_bits(b.wrapping_add(1)).to_f64();
        if want.is_finite() && next.is_finite() && b & 0x7fff != 0x7fff {
            // (`half::f16::from_f64` drops the low bits of its operand near zero: f32 has none to drop.)
            let mid = ((want + next) / 2.0) as f32;
            for v in [mid, mid.next_up(), mid.next_down()] {
                assert_eq!(encode_f64(DType::F16, v.into(), false), u64::from(half::f16::from_f32(v).to_bits()), "{v}");
            }
        }
    }
}

#[test]
fn every_code_of_narrow_floats_round_trips() {
    for d in scalar_dtypes().filter(|d| d.is_float() && d.bits() <= 16) {
        for b in 0..1u64 << d.bits() {
            let v = decode_f64(d, b);
            let back = encode_f64(d, v, false);
            let unused = matches!(d, DType::F6E2M3 | DType::F6E3M2) && b > 0x3f;
            assert!(back == b || v.is_nan() && is_nan(d, back) || unused, "{d} {b:#x} {v} {back:#x}");
        }
    }
}

#[test]
fn casts_of_slices_are_casts_of_elements() {
    for from in scalar_dtypes() {
        let bytes = seeded_bytes(5, from, &[300]).unwrap();
        for into in scalar_dtypes() {
            let all = cast_slice(&bytes, 300, from, into, true).unwrap();
            for i in 0..300 {
                assert_eq!(get(&all, into, i), cast(get(&bytes, from, i), from, into, true), "{from} to {into}, element {i}");
            }
        }
    }
}

#[test]
fn printed_scalars_read_back() {
    for d in scalar_dtypes() {
        let all: Vec<u64> = if d.bits() <= 16 && d != DType::Bool {
            (0..1u64 << d.bits()).filter(|b| !matches!(d, DType::F6E2M3 | DType::F6E3M2) || *b < 64).collect()
        } else {
            let some = (0..4096u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3 & mask(d));
            some.map(|b| if d == DType::Bool { b & 1 } else { b }).collect()
        };
        for bits in all {
            let s = Scalar { dtype: d, bits };
            let t = print_scalar(s);
            assert_eq!(parse_scalar(d, &t), Some(s), "{d} {t}");
        }
    }
}

/// No function of one element panics, whatever its bits are.
#[test]
fn arithmetic_is_total() {
    let some = |d: DType| {
        (0..24u64).map(move |i| match i {
            0 => 0,
            1 => mask(d),
            2 => mask(d) / 2 + 1,
            3 => mask(d) / 2,
            i => i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(d),
        })
    };
    for d in DType::ALL.iter().copied().filter(|d| !d.is_handle()) {
        for a in some(d) {
            for op in UnaryOp::ALL {
                assert_eq!(unary(*op, d, a) & !mask(if op.is_predicate() { Bool } else { d }), 0, "{} {d} {a:#x}", op.name());
            }
            for (op, b) in BinaryOp::ALL.iter().flat_map(|op| some(d).map(move |b| (op, b))) {
                assert_eq!(binary(*op, d, a, b) & !mask(if op.is_compare() { Bool } else { d }), 0, "{} {d}", op.name());
            }
        }
    }
}
