// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix products of nvcc's kernels.

use portwright_emu::ptx::{Class, Launch};

use crate::device::{Device, Rng, close};

/// A half by its code, for values that a half has.
pub fn to_half(v: f32) -> u16 {
    let b = v.to_bits();
    if v == 0.0 {
        return (b >> 16) as u16;
    }
    ((b >> 16 & 0x8000) | ((b & 0x7fff_ffff) - 0x3800_0000) >> 13) as u16
}

/// Multiples of 1/32 in [-1, 1), which all formats hold.
pub fn coarse(r: &mut Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| ((r.bits() >> 58) as f32 - 32.0) / 32.0).collect()
}

/// C = A B^T with A of m by k and B of n by k.
pub fn product(a: &[f32], b: &[f32], n: usize, k: usize) -> Vec<f64> {
    a.chunks(k)
        .flat_map(|x| {
            (0..n).map(|j| x.iter().zip(&b[j * k..(j + 1) * k]).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum()).collect::<Vec<f64>>()
        })
        .collect()
}

pub fn turn(b: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|j| (0..rows).map(move |i| b[i * cols + j])).collect()
}

#[test]
fn tiled() {
    let (n, mut r) = (64usize, Rng(20));
    let (x, y) = (r.list(n * n), r.list(n * n));
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &x), d.put("b", &y), d.zeros::<f32>("c", n * n));
    let launch = Launch::new([4, 4, 1], [16, 16, 1], vec![a.into(), b.into(), c.into(), (n as i32).into()]);
    let counts = d.try_run("tiled", &launch).unwrap_or_else(|f| panic!("{f}"));
    close(&d.get(c, n * n), &product(&x, &turn(&y, n, n), n, n), 1e-5, 1e-5);
    assert_eq!(counts.barriers, 16 * 8);
    assert_eq!(counts.load.unique, 2 * 64 * 64 * 4);
}

#[test]
fn pipelined() {
    let (m, n, k, mut r) = (128usize, 192usize, 160usize, Rng(21));
    let (x, y) = (coarse(&mut r, m * k), coarse(&mut r, n * k));
    let half = |v: &[f32]| v.iter().map(|v| to_half(*v)).collect::<Vec<u16>>();
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &half(&x)), d.put("b", &half(&y)), d.zeros::<f32>("c", m * n));
    let params = vec![a.into(), b.into(), c.into(), (n as i32).into(), (k as i32).into()];
    let counts = d.try_run("pipelined", &Launch::new([3, 2, 1], [128, 1, 1], params)).unwrap_or_else(|f| panic!("{f}"));
    close(&d.get(c, m * n), &product(&x, &y, n, k), 1e-6, 0.0);
    assert_eq!(counts.mma_ops, (m * n * k) as u64);
    assert_eq!(counts.of(Class::Mma), (m * n * k / (16 * 8 * 16)) as u64);
    // The swizzle leaves no conflict, neither for copies in nor for matrices out.
    assert_eq!(counts.bank_conflicts, 0);
}

#[test]
fn double_fragment() {
    let mut r = Rng(22);
    let x: Vec<f64> = r.list(8 * 16).iter().map(|v| f64::from(*v)).collect();
    let y: Vec<f64> = r.list(16 * 8).iter().map(|v| f64::from(*v)).collect();
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &x), d.put("b", &y), d.zeros::<f64>("c", 64));
    d.run("doubles", 1, 32, vec![a.into(), b.into(), c.into()]);
    for (i, got) in d.get::<f64>(c, 64).iter().enumerate() {
        let want: f64 = (0..16).map(|k| x[i / 8 * 16 + k] * y[k * 8 + i % 8]).sum();
        assert!((got - want).abs() < 1e-14);
    }
}

#[test]
fn byte_fragment() {
    let mut r = Rng(23);
    let x: Vec<u8> = (0..512).map(|_| r.bits() as u8).collect();
    let y: Vec<u8> = (0..256).map(|_| r.bits() as u8).collect();
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &x), d.put("b", &y), d.zeros::<i32>("c", 128));
    d.run("bytes", 1, 32, vec![a.into(), b.into(), c.into()]);
    let want: Vec<i32> = (0..128)
        .map(|i| {
            let (row, col) = (i / 8, i % 8);
            let dot: i32 = (0..32).map(|k| i32::from(x[row * 32 + k] as i8) * i32::from(y[col * 32 + k])).sum();
            dot + 1 + (row / 8 * 2 + col % 2) as i32
        })
        .collect();
    assert_eq!(d.get::<i32>(c, 128), want);
}

#[test]
fn bfloat_fragment() {
    let mut r = Rng(24);
    let (x, y) = (coarse(&mut r, 256), coarse(&mut r, 128));
    let cut = |v: &[f32]| v.iter().map(|v| (v.to_bits() >> 16) as u16).collect::<Vec<u16>>();
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &cut(&x)), d.put("b", &cut(&y)), d.zeros::<f32>("c", 128));
    d.run("brains", 1, 32, vec![a.into(), b.into(), c.into()]);
    close(&d.get(c, 128), &product(&x, &y, 8, 16), 1e-6, 0.0);
}

#[test]
fn tf32_fragment() {
    let mut r = Rng(25);
    let (x, y) = (r.list(128), r.list(64));
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &x), d.put("b", &y), d.zeros::<f32>("c", 128));
    d.run("tf32", 1, 32, vec![a.into(), b.into(), c.into()]);
    // To 10 bits, ties away from zero.
    let cut = |v: &[f32]| v.iter().map(|v| f32::from_bits((v.to_bits() + 0x1000) & !0x1fff)).collect::<Vec<f32>>();
    close(&d.get(c, 128), &product(&cut(&x), &cut(&y), 8, 8), 1e-6, 1e-6);
}

#[test]
fn fp8_fragment() {
    let mut r = Rng(26);
    // Codes of powers of two and their halves: e4m3 has its exponent in bits 3.., e5m2 in bits 2...
    let small = |r: &mut Rng| (r.bits() >> 61) as u8;
    let x: Vec<u8> = (0..512).map(|_| (4 + small(&mut r) % 4) << 3 | small(&mut r) << 5 >> 5 | (small(&mut r) & 1) << 7).collect();
    let y: Vec<u8> = (0..256).map(|_| (13 + small(&mut r) % 3) << 2 | small(&mut r) >> 1 & 3).collect();
    let value = |c: &u8, m: u32, bias: i32| {
        let v = (1.0 + f32::from(c & ((1 << m) - 1)) / (1 << m) as f32) * 2f32.powi(i32::from((c & 127) >> m) - bias);
        if c >> 7 == 1 { -v } else { v }
    };
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b, c) = (d.put("a", &x), d.put("b", &y), d.zeros::<f32>("c", 128));
    d.run("eights", 1, 32, vec![a.into(), b.into(), c.into()]);
    let (p, q): (Vec<f32>, Vec<f32>) = (x.iter().map(|c| value(c, 3, 7)).collect(), y.iter().map(|c| value(c, 2, 15)).collect());
    close(&d.get(c, 128), &product(&p, &q, 8, 32), 1e-5, 1e-6);
}

#[test]
fn transposing_load() {
    let x: Vec<u16> = (0..256).collect();
    let mut d = Device::new("nvcc/gemm.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<u16>("y", 256));
    d.run("transposed", 1, 32, vec![a.into(), b.into()]);
    // Register i of lane l holds elements (2q, g) and (2q+1, g) of matrix i.
    let want: Vec<u16> = (0..256u16)
        .map(|n| {
            let (i, l, e) = (n / 64, n / 2 % 32, n % 2);
            i * 64 + (l % 4 * 2 + e) * 8 + l / 4
        })
        .collect();
    assert_eq!(d.get::<u16>(b, 256), want);
}
