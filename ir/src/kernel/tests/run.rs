// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hand-written kernels run right: against plain Rust at ragged sizes, under several orders, lazy and eager.

use std::collections::BTreeMap;

use super::*;
use crate::dtype::DType;
use crate::kernel::interp::{Args, Copies, Fault, Memory, Outcome, RunOptions, run};
use crate::numerics::{cast, decode_f64, encode_f64};

/// A tensor as f64 values of a dtype.
#[derive(Clone, Debug)]
pub(super) struct T {
    pub d: DType,
    pub v: Vec<f64>,
}

impl T {
    /// Small repeatable numbers that are exact in every float dtype of 16 bits and more.
    pub(super) fn seeded(d: DType, n: usize, seed: u64) -> T {
        let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let small = (x >> 20) as i64 % 33 - 16;
            if d.is_float() { small as f64 / 16.0 } else { (small + 16) as f64 }
        };
        T { d, v: std::iter::repeat_with(next).take(n).collect() }
    }
    pub(super) fn of(d: DType, v: Vec<f64>) -> T {
        T { d, v }
    }
    fn bytes(&self) -> Vec<u8> {
        let size = self.d.bytes().unwrap() as usize;
        let bits = |v: &f64| {
            if self.d.is_float() { encode_f64(self.d, *v, false) } else { crate::numerics::int_to_bits(self.d, *v as i128) }
        };
        self.v.iter().flat_map(|v| bits(v).to_le_bytes()[..size].to_vec()).collect()
    }
    fn from_bytes(d: DType, b: &[u8]) -> T {
        let size = d.bytes().unwrap() as usize;
        let one = |c: &[u8]| {
            let mut w = [0; 8];
            w[..size].copy_from_slice(c);
            decode_f64_any(d, u64::from_le_bytes(w))
        };
        T { d, v: b.chunks_exact(size).map(one).collect() }
    }
}

fn decode_f64_any(d: DType, bits: u64) -> f64 {
    if d.is_float() { decode_f64(d, bits) } else { f64::from_bits(cast(bits, d, DType::F64, false)) }
}

/// A kernel with arguments and what its written buffers must hold.
pub(super) struct Job {
    pub case: &'static str,
    pub kernel: &'static str,
    pub syms: Vec<(&'static str, i64)>,
    pub bufs: Vec<T>,
    /// Position of a buffer, its expected values, and the tolerance relative to 1 + |expected|.
    pub expect: Vec<(usize, Vec<f64>, f64)>,
    pub guards: usize,
}

pub(super) fn launch(m: &Module, job: &Job, options: &RunOptions) -> Result<(Vec<T>, Outcome), Box<Fault>> {
    let mut data: Vec<Vec<u8>> = job.bufs.iter().map(T::bytes).collect();
    let mut memory: Vec<Memory<'_>> = data.iter_mut().map(|b| Memory::Rw(b)).collect();
    let args = Args {
        bufs: (0..job.bufs.len()).map(|i| (i, 0)).collect(),
        syms: job.syms.iter().map(|(n, v)| (n.to_string(), *v)).collect::<BTreeMap<_, _>>(),
        scalars: vec![],
    };
    let id = m.kernel_named(job.kernel).unwrap();
    let out = run(m, id, &mut memory, &args, options)?;
    drop(memory);
    Ok((data.iter().zip(&job.bufs).map(|(b, t)| T::from_bytes(t.d, b)).collect(), out))
}

pub(super) fn options() -> Vec<RunOptions> {
    let mut out = Vec::new();
    for seed in [0, 1, 2] {
        for copies in [Copies::Lazy, Copies::Eager] {
            out.push(RunOptions { seed, copies, limit: Some(200_000_000), ..RunOptions::default() });
        }
    }
    out
}

fn check(job: &Job) {
    let m = case(job.case);
    let mut first: Option<Vec<Vec<u64>>> = None;
    for o in options() {
        let (bufs, out) = launch(&m, job, &o).unwrap_or_else(|f| panic!("{} {:?}: {f}", job.kernel, o));
        assert_eq!(out.guards.len(), job.guards, "{}", job.kernel);
        for (i, want, tol) in &job.expect {
            for (e, (got, want)) in bufs[*i].v.iter().zip(want).enumerate() {
                assert!((got - want).abs() <= tol * (1.0 + want.abs()), "{} buffer {i} element {e}: {got}, not {want}", job.kernel);
            }
        }
        let bits: Vec<Vec<u64>> = bufs.iter().map(|t| t.v.iter().map(|v| v.to_bits()).collect()).collect();
        if let Some(f) = &first {
            assert!(*f == bits, "{}: the result depends on the order", job.kernel);
        }
        first = Some(bits);
    }
}

fn gelu(v: f64) -> f64 {
    0.5 * v * (1.0 + libm::erf(v / 2f64.sqrt()))
}
fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}
fn zeros(d: DType, n: usize) -> T {
    T::of(d, vec![0.0; n])
}

const F: DType = DType::F32;
const B: DType = DType::BF16;
const H: DType = DType::F16;

fn add_gelu(kernel: &'static str, m: usize, n: usize) -> Job {
    let (x, y) = (T::seeded(F, m * n, 1), T::seeded(F, m * n, 2));
    let want = x.v.iter().zip(&y.v).map(|(a, b)| gelu(a + b)).collect();
    Job {
        case: "add_gelu",
        kernel,
        syms: vec![("M", m as i64), ("N", n as i64)],
        bufs: vec![x, y, zeros(F, m * n)],
        expect: vec![(2, want, 1e-6)],
        guards: 0,
    }
}
fn shift_add(steps: usize, n: usize) -> Job {
    let g = T::seeded(F, steps * n, 4);
    let mut want = g.v.clone();
    for i in n..steps * n {
        want[i] += want[(i / n - 1) * n + (n - 1 - i % n)] * 0.5;
    }
    Job {
        case: "steps",
        kernel: "shift_add",
        syms: vec![("S", steps as i64), ("H", n as i64)],
        bufs: vec![g, zeros(F, steps * n)],
        expect: vec![(1, want, 1e-6)],
        guards: 0,
    }
}
#[test]
fn steps_follow_each_other() {
    check(&shift_add(1, 5));
    check(&shift_add(6, 7));
}
pub(super) fn softmax_job(kernel: &'static str, r: usize, n: usize) -> Job {
    softmax(kernel, F, r, n)
}
fn softmax(kernel: &'static str, d: DType, r: usize, n: usize) -> Job {
    let x = T::seeded(d, r * n, 3);
    let mut want = Vec::new();
    for row in x.v.chunks(n) {
        let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let s: f64 = row.iter().map(|v| (v - m).exp()).sum();
        want.extend(row.iter().map(|v| (v - m).exp() / s));
    }
    Job {
        case: "softmax",
        kernel,
        syms: vec![("R", r as i64), ("D", n as i64)],
        bufs: vec![x, zeros(d, r * n)],
        expect: vec![(1, want, if d == H { 1e-3 } else { 1e-6 })],
        guards: 0,
    }
}

/// `[K, N]` as `[ceil(N / 32), K, 32]` for f32.
fn pack_f32(b: &T, k: usize, n: usize) -> T {
    let nb = n.div_ceil(32);
    let mut out = vec![0.0; nb * k * 32];
    for i in 0..k {
        for j in 0..n {
            out[(j / 32 * k + i) * 32 + j % 32] = b.v[i * n + j];
        }
    }
    T::of(b.d, out)
}
/// `[K, N]` as `[ceil(N / 32), ceil(K / 32), 2, 16, 32]`, pairs of k side by side.
fn pack_amx(b: &T, k: usize, n: usize) -> T {
    let (nb, kb) = (n.div_ceil(32), k.div_ceil(32));
    let mut out = vec![0.0; nb * kb * 1024];
    for i in 0..k {
        for j in 0..n {
            let tile = (j / 32 * kb + i / 32) * 2 + j % 32 / 16;
            out[(tile * 16 + i % 32 / 2) * 32 + j % 16 * 2 + i % 2] = b.v[i * n + j];
        }
    }
    T::of(b.d, out)
}
fn transpose(b: &T, k: usize, n: usize) -> T {
    T::of(b.d, (0..n * k).map(|i| b.v[i % k * n + i / k]).collect())
}

pub(super) fn gemm(case: &'static str, kernel: &'static str, m: usize, n: usize, k: usize) -> Job {
    let d = if kernel == "gemm_f32" { F } else { B };
    let (a, b, bias) = (T::seeded(d, m * k, 4), T::seeded(d, k * n, 5), T::seeded(F, n, 6));
    let mut want = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|l| a.v[i * k + l] * b.v[l * n + j]).sum();
            want[i * n + j] = silu(sum + bias.v[j]);
        }
    }
    let b = match kernel {
        "gemm_f32" => pack_f32(&b, k, n),
        "gemm_amx" => pack_amx(&b, k, n),
        "gemm_mmac" | "gemm_wgmma" | "gemm_wgmma_staged" => transpose(&b, k, n),
        _ => b,
    };
    Job {
        case,
        kernel,
        syms: vec![("M", m as i64), ("N", n as i64), ("K", k as i64)],
        bufs: vec![a, b, bias, zeros(d, m * n)],
        expect: vec![(3, want, if d == B { 4e-3 } else { 1e-5 })],
        guards: 0,
    }
}

pub(super) fn attention(b: usize, s: usize, lens: &[i64]) -> Job {
    let q = T::seeded(H, b * 32 * 128, 7);
    let (kn, vn) = (T::seeded(H, b * 8 * 128, 8), T::seeded(H, b * 8 * 128, 9));
    let (kc, vc) = (T::seeded(H, b * 8 * s * 128, 10), T::seeded(H, b * 8 * s * 128, 11));
    let len = T::of(DType::I32, lens.iter().map(|v| *v as f64).collect());
    let mut want = vec![0.0; b * 32 * 128];
    let (mut kw, mut vw) = (kc.v.clone(), vc.v.clone());
    for i in 0..b {
        let n = lens[i].clamp(0, s as i64 - 1) as usize;
        for h in 0..32 {
            let g = h / 4;
            let at = |c: &[f64], new: &[f64], p: usize, e: usize| {
                if p < n { c[((i * 8 + g) * s + p) * 128 + e] } else { new[(i * 8 + g) * 128 + e] }
            };
            let score = |p: usize| {
                let dot: f64 = (0..128).map(|e| q.v[(i * 32 + h) * 128 + e] * at(&kc.v, &kn.v, p, e)).sum();
                dot * 0.088_388_346
            };
            let scores: Vec<f64> = (0..=n).map(score).collect();
            let m = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|v| (v - m).exp()).sum();
            for e in 0..128 {
                let v: f64 = (0..=n).map(|p| (scores[p] - m).exp() * at(&vc.v, &vn.v, p, e)).sum();
                want[(i * 32 + h) * 128 + e] = v / sum;
            }
        }
        for g in 0..8 {
            for e in 0..128 {
                kw[((i * 8 + g) * s + n) * 128 + e] = kn.v[(i * 8 + g) * 128 + e];
                vw[((i * 8 + g) * s + n) * 128 + e] = vn.v[(i * 8 + g) * 128 + e];
            }
        }
    }
    let bad = lens.iter().filter(|l| **l < 0 || **l >= s as i64).count();
    Job {
        case: "misc",
        kernel: "attn_decode",
        syms: vec![("B", b as i64), ("S", s as i64)],
        bufs: vec![q, kn, vn, kc, vc, len, zeros(H, b * 32 * 128)],
        expect: vec![(6, want, 2e-3), (3, kw, 0.0), (4, vw, 0.0)],
        guards: bad * 32 * 256,
    }
}
pub(super) fn cumsum(r: usize, d: usize) -> Job {
    let x = T::seeded(F, r * d, 12);
    let mut want = Vec::new();
    for row in x.v.chunks(d) {
        let mut s = 0.0;
        want.extend(row.iter().map(|v| {
            s += v;
            s
        }));
    }
    Job {
        case: "misc",
        kernel: "cumsum",
        syms: vec![("R", r as i64), ("D", d as i64)],
        bufs: vec![x, zeros(F, r * d)],
        expect: vec![(1, want, 1e-5)],
        guards: 0,
    }
}
fn gather_rows(v: usize, idx: &[i64]) -> Job {
    let tab = T::seeded(F, v * 64, 13);
    let mut want = Vec::new();
    let mut guards = 0;
    for i in idx {
        let j = if *i < 0 { i + v as i64 } else { *i };
        guards += usize::from(j < 0 || j >= v as i64);
        let j = j.clamp(0, v as i64 - 1) as usize;
        want.extend_from_slice(&tab.v[j * 64..(j + 1) * 64]);
    }
    Job {
        case: "misc",
        kernel: "gather_rows",
        syms: vec![("V", v as i64), ("I", idx.len() as i64)],
        bufs: vec![tab, T::of(DType::I64, idx.iter().map(|v| *v as f64).collect()), zeros(F, idx.len() * 64)],
        expect: vec![(2, want, 0.0)],
        guards,
    }
}
fn gather_cpu(r: usize, d: usize, n: usize) -> Job {
    let x = T::seeded(F, r * d, 14);
    let idx: Vec<i64> = (0..n as i64).map(|i| i * 7 % (d as i64 + 2) - 1).collect();
    let mut want = Vec::new();
    for i in 0..r {
        want.extend(idx.iter().map(|j| if *j >= 0 && *j < d as i64 { x.v[i * d + *j as usize] } else { 0.0 }));
    }
    Job {
        case: "misc",
        kernel: "gather_cpu",
        syms: vec![("R", r as i64), ("D", d as i64), ("I", n as i64)],
        bufs: vec![x, T::of(DType::I64, idx.iter().map(|v| *v as f64).collect()), zeros(F, r * n)],
        expect: vec![(2, want, 0.0)],
        guards: 0,
    }
}
fn nbits(n: usize, k: usize) -> Job {
    let kb = k.div_ceil(32);
    let (x, sc) = (T::seeded(F, k, 15), T::seeded(F, n * kb, 16));
    let w = T::of(DType::U8, (0..n * kb * 16).map(|i| ((i * 37 + 11) % 256) as f64).collect());
    let mut want = vec![0.0; n];
    for (i, o) in want.iter_mut().enumerate() {
        for l in 0..k {
            let byte = w.v[(i * kb + l / 32) * 16 + l % 32 / 2] as i64;
            let q = if l % 2 == 0 { byte & 15 } else { byte >> 4 };
            *o += (q - 8) as f64 * sc.v[i * kb + l / 32] * x.v[l];
        }
    }
    Job {
        case: "misc",
        kernel: "nbits_gemv",
        syms: vec![("N", n as i64), ("K", k as i64)],
        bufs: vec![x, w, sc, zeros(F, n)],
        expect: vec![(3, want, 1e-5)],
        guards: 0,
    }
}

#[test]
fn elementwise() {
    for (m, n) in [(1, 1), (9, 35), (16, 64)] {
        check(&add_gelu("add_gelu_cpu", m, n));
        check(&add_gelu("add_gelu_tile", m, n));
        check(&add_gelu("add_gelu_simt", m, n.div_ceil(4) * 4));
    }
}
#[test]
fn softmax_of_every_class() {
    for (r, d) in [(1, 1), (5, 300), (3, 520)] {
        check(&softmax("softmax_cpu", F, r, d));
        check(&softmax("softmax_tile", H, r, d));
        for k in ["softmax_w32", "softmax_w64", "softmax_w128"] {
            check(&softmax(k, F, r, d));
        }
    }
}
fn gemm_dot(m: usize, n: usize, k: usize) -> Job {
    let a = T::of(DType::U8, (0..m * k).map(|i| (i * 97 % 256) as f64).collect());
    let b: Vec<f64> = (0..k * n).map(|i| (i * 61 % 256) as f64 - 128.0).collect();
    let mut want = vec![0.0; m * n];
    for (i, w) in want.iter_mut().enumerate() {
        *w = (0..k).map(|l| a.v[i / n * k + l] * b[l * n + i % n]).sum();
    }
    let groups = k.div_ceil(4);
    let mut packed = vec![0.0; n.div_ceil(32) * groups * 128];
    for (i, x) in b.iter().enumerate() {
        let (l, j) = (i / n, i % n);
        packed[(j / 32 * groups + l / 4) * 128 + j % 32 * 4 + l % 4] = *x;
    }
    Job {
        case: "gemm_cpu",
        kernel: "gemm_dot",
        syms: vec![("M", m as i64), ("N", n as i64), ("K", k as i64)],
        bufs: vec![a, T::of(DType::I8, packed), T::of(DType::I32, vec![0.0; m * n])],
        expect: vec![(2, want, 0.0)],
        guards: 0,
    }
}
fn gemm_dot2(m: usize, n: usize, k: usize) -> Job {
    let (a, b) = (T::seeded(DType::BF16, m * k, 3), T::seeded(DType::BF16, k * n, 4));
    let want: Vec<f64> = (0..m * n).map(|i| (0..k).map(|l| a.v[i / n * k + l] * b.v[l * n + i % n]).sum()).collect();
    let groups = k.div_ceil(2);
    let mut packed = vec![0.0; n.div_ceil(32) * groups * 64];
    for (i, x) in b.v.iter().enumerate() {
        let (l, j) = (i / n, i % n);
        packed[(j / 32 * groups + l / 2) * 64 + j % 32 * 2 + l % 2] = *x;
    }
    Job {
        case: "gemm_cpu",
        kernel: "gemm_dot2",
        syms: vec![("M", m as i64), ("N", n as i64), ("K", k as i64)],
        bufs: vec![a, T::of(DType::BF16, packed), T::of(DType::F32, vec![0.0; m * n])],
        expect: vec![(2, want, 1e-6)],
        guards: 0,
    }
}
#[test]
fn gemm_on_the_cpu() {
    for (m, n, k) in [(1, 1, 1), (33, 40, 70), (64, 64, 64)] {
        check(&gemm("gemm_cpu", "gemm_f32", m, n, k));
        check(&gemm("gemm_cpu", "gemm_amx", m, n, k));
        check(&gemm_dot(m, n, k));
        check(&gemm_dot2(m, n, k));
    }
}
#[test]
fn gemm_with_queues() {
    check(&gemm("gemm_simt", "gemm_mma", 130, 72, 136));
    check(&gemm("gemm_simt", "gemm_mma", 1, 8, 8));
}
#[test]
fn gemm_with_staged_registers() {
    check(&gemm("gemm_simt", "gemm_mmac", 130, 72, 72));
}
#[test]
fn gemm_with_signals() {
    check(&gemm("gemm_simt", "gemm_wgmma", 70, 75, 328));
    check(&gemm("gemm_simt", "gemm_wgmma_staged", 70, 75, 136));
}
#[test]
fn gemm_on_cores() {
    check(&gemm("gemm_tile", "gemm_cube", 70, 75, 130));
    check(&gemm("gemm_tile", "gemm_agents", 70, 75, 270));
    check(&gemm("gemm_tile", "gemm_agents", 1, 1, 1));
}
#[test]
fn attention_and_the_rest() {
    check(&attention(2, 40, &[35, 0]));
    check(&attention(1, 20, &[20]));
    check(&cumsum(2, 700));
    check(&gather_rows(10, &[0, -1, 9, 12, 3]));
    check(&gather_cpu(3, 11, 21));
    check(&nbits(70, 45));
}
