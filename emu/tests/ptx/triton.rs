// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels by Triton.

use portwright_emu::ptx::{Launch, Param};

use crate::device::{Device, Rng, close};
use crate::gemm::{coarse, product, to_half, turn};

/// Launches the module's kernel with the threads and shared memory that its first line states; pointers behind ours are scratch that
/// it does not use.
fn run(d: &mut Device, file: &str, grid: [u32; 3], mut params: Vec<Param>) -> portwright_emu::ptx::Counts {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ptx").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let numbers: Vec<u64> = text.lines().next().unwrap().split([' ', ',']).filter_map(|w| w.parse().ok()).collect();
    let (name, kernel) = d.loaded.module().kernels.first_key_value().unwrap();
    let name = name.clone();
    while params.len() < kernel.params.len() {
        params.push(0u64.into());
    }
    let mut launch = Launch::new(grid, [numbers[1] as u32, 1, 1], params);
    launch.shared = numbers[0];
    d.try_run(&name, &launch).unwrap_or_else(|f| panic!("{file}: {f}"))
}

#[test]
fn matmul() {
    let (m, n, k) = (128usize, 128usize, 192usize);
    for (file, bits) in
        [("matmul_sm80", 16), ("matmul_sm90", 16), ("matmul_bf16_sm80", 17), ("matmul_tf32_sm80", 32), ("matmul_fp8_sm90", 8)]
    {
        let mut r = Rng(40);
        let (mut x, mut y) = (coarse(&mut r, m * k), coarse(&mut r, k * n));
        if bits == 8 {
            // Quarters, which e4m3 holds.
            x.iter_mut().chain(&mut y).for_each(|v| *v = (*v * 4.0).trunc() / 4.0);
        }
        let file = format!("triton/{file}.ptx");
        let mut d = Device::new(&file);
        let mut put = |name: &str, v: &[f32]| match bits {
            16 => d.put(name, &v.iter().map(|v| to_half(*v)).collect::<Vec<u16>>()),
            17 => d.put(name, &v.iter().map(|v| (v.to_bits() >> 16) as u16).collect::<Vec<u16>>()),
            32 => d.put(name, v),
            _ => d.put(name, &v.iter().map(|v| e4m3(*v)).collect::<Vec<u8>>()),
        };
        let (a, b) = (put("a", &x), put("b", &y));
        let c = d.zeros::<f32>("c", m * n);
        let sizes = [m, n, k].map(|v| Param::from(v as i32));
        let params = [vec![a.into(), b.into(), c.into()], sizes.to_vec()].concat();
        let counts = run(&mut d, &file, [2, 2, 1], params);
        close(&d.get(c, m * n), &product(&x, &turn(&y, k, n), n, k), 1e-5, 0.0);
        assert_eq!(counts.mma_ops, (m * n * k) as u64, "{file}");
    }
}

/// The code of a multiple of 1/4 between -1 and 1.
fn e4m3(v: f32) -> u8 {
    let code = match (v.abs() * 4.0) as u32 {
        0 => 0,
        1 => 5 << 3,
        2 => 6 << 3,
        3 => 6 << 3 | 4,
        _ => 7 << 3,
    };
    code | u8::from(v < 0.0) << 7
}

#[test]
fn softmax() {
    for (file, n, half) in [("triton/softmax_sm80.ptx", 1000usize, false), ("triton/softmax_sm90.ptx", 2000, true)] {
        let mut r = Rng(41);
        let x = coarse(&mut r, 3 * n);
        let mut d = Device::new(file);
        let a = if half { d.put("x", &x.iter().map(|v| to_half(*v)).collect::<Vec<u16>>()) } else { d.put("x", &x) };
        let b = d.zeros::<f32>("y", 3 * n);
        run(&mut d, file, [3, 1, 1], vec![a.into(), b.into(), (n as i32).into()]);
        let mut want = Vec::new();
        for row in x.chunks(n) {
            let s: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
            want.extend(row.iter().map(|v| f64::from(*v).exp() / s));
        }
        close(&d.get(b, 3 * n), &want, 1e-9, 1e-5);
    }
}

#[test]
fn layernorm() {
    let (n, mut r) = (500usize, Rng(42));
    let (x, w) = (r.list(4 * n), r.list(n));
    let file = "triton/layernorm_sm80.ptx";
    let mut d = Device::new(file);
    let (a, b, c) = (d.put("x", &x), d.zeros::<f32>("y", 4 * n), d.put("w", &w));
    run(&mut d, file, [4, 1, 1], vec![a.into(), b.into(), c.into(), (n as i32).into(), 1e-5f32.into()]);
    let mut want = Vec::new();
    for row in x.chunks(n) {
        let mean: f64 = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let var: f64 = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64;
        want.extend(row.iter().zip(&w).map(|(v, w)| (f64::from(*v) - mean) / (var + 1e-5).sqrt() * f64::from(*w)));
    }
    close(&d.get(b, 4 * n), &want, 1e-5, 1e-5);
}

#[test]
fn attention() {
    let (n, dim) = (192usize, 64usize);
    for file in ["triton/attention_sm80.ptx", "triton/attention_sm90.ptx"] {
        let mut r = Rng(43);
        let [q, k, v] = [0; 3].map(|_| coarse(&mut r, n * dim));
        let mut d = Device::new(file);
        let [a, b, c] = [&q, &k, &v].map(|x| d.put("qkv", &x.iter().map(|v| to_half(*v)).collect::<Vec<u16>>()));
        let o = d.zeros::<f32>("o", n * dim);
        run(&mut d, file, [3, 1, 1], vec![a.into(), b.into(), c.into(), o.into(), (n as i32).into(), 0.125f32.into()]);
        let scores = product(&q, &k, n, dim);
        let mut want = Vec::new();
        for row in scores.chunks(n) {
            let e: Vec<f64> = row.iter().map(|s| (s * 0.125).exp()).collect();
            let sum: f64 = e.iter().sum();
            want.extend((0..dim).map(|j| (0..n).map(|i| e[i] * f64::from(v[i * dim + j])).sum::<f64>() / sum));
        }
        close(&d.get(o, n * dim), &want, 1e-3, 1e-3);
    }
}

#[test]
fn cumsum() {
    let x: Vec<i32> = (0..1024).map(|i| i * 37 % 101 - 50).collect();
    let file = "triton/cumsum_sm80.ptx";
    let mut d = Device::new(file);
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 1024));
    run(&mut d, file, [2, 1, 1], vec![a.into(), b.into()]);
    let mut want = Vec::new();
    for c in x.chunks(512) {
        let mut s = 0;
        want.extend(c.iter().map(|v| {
            s += v;
            s
        }));
    }
    assert_eq!(d.get::<i32>(b, 1024), want);
}

#[test]
fn sort() {
    let mut r = Rng(44);
    let mut x: Vec<i32> = (0..256).map(|_| r.bits() as i32).collect();
    let file = "triton/sort_sm80.ptx";
    let mut d = Device::new(file);
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 256));
    run(&mut d, file, [1, 1, 1], vec![a.into(), b.into()]);
    x.sort_unstable();
    assert_eq!(d.get::<i32>(b, 256), x);
}

#[test]
fn transpose() {
    let (m, n, mut r) = (64usize, 96usize, Rng(45));
    let x = r.list(m * n);
    let file = "triton/transpose_sm80.ptx";
    let mut d = Device::new(file);
    let (a, b) = (d.put("x", &x), d.zeros::<f32>("y", m * n));
    let counts = run(&mut d, file, [2, 3, 1], vec![a.into(), b.into(), (m as i32).into(), (n as i32).into()]);
    assert_eq!(d.get::<f32>(b, m * n), turn(&x, m, n));
    assert_eq!((counts.load.efficiency(), counts.store.efficiency()), (1.0, 1.0));
}

#[test]
fn histogram() {
    let x: Vec<i32> = (0..1000).map(|i| i * i % 64).collect();
    let file = "triton/histogram_sm90.ptx";
    let mut d = Device::new(file);
    let (a, h) = (d.put("x", &x), d.zeros::<i32>("h", 64));
    run(&mut d, file, [4, 1, 1], vec![a.into(), h.into(), 1000i32.into()]);
    let mut want = vec![0i32; 64];
    x.iter().for_each(|v| want[*v as usize] += 1);
    assert_eq!(d.get::<i32>(h, 64), want);
}
