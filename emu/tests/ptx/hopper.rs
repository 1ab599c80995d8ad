// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What came with sm_90: tensors in bulk, mbarriers, wgmma, clusters.

use portwright_emu::ptx::{Launch, Param, Swizzle, TensorMap};

use crate::device::{Device, Rng, close};
use crate::gemm::{coarse, product};

fn map(address: u64, element: u8, dims: [u32; 2], tile: [u16; 2], swizzle: Swizzle) -> Param {
    let map = TensorMap {
        address,
        element,
        rank: 2,
        dims: [dims[0], dims[1], 1, 1, 1],
        strides: [u64::from(dims[0]) * u64::from(element), 0, 0, 0],
        tile: [tile[0], tile[1], 1, 1, 1],
        steps: [1; 5],
        swizzle,
        nan: false,
    };
    Param(map.encode().to_vec())
}

#[test]
fn wgmma_from_swizzled_tensors() {
    // 100 rows of A: the box of the second row of groups hangs over the end.
    let (m, n, k, mut r) = (128usize, 128usize, 320usize, Rng(30));
    let (mut x, y) = (coarse(&mut r, m * k), coarse(&mut r, n * k));
    let cut = |v: &[f32]| v.iter().map(|v| (v.to_bits() >> 16) as u16).collect::<Vec<u16>>();
    let mut d = Device::new("nvcc/hopper.ptx");
    let (a, b, c) = (d.put("a", &cut(&x[..100 * k])), d.put("b", &cut(&y)), d.zeros::<f32>("c", m * n));
    let (ma, mb) = (map(a, 2, [k as u32, 100], [64, 64], Swizzle::B128), map(b, 2, [k as u32, n as u32], [64, 64], Swizzle::B128));
    let mut launch = Launch::new([2, 2, 1], [160, 1, 1], vec![ma, mb, c.into(), (n as i32).into(), (k as i32).into()]);
    launch.shared = 4 * 64 * 64 * 2;
    let counts = d.try_run("tma", &launch).unwrap_or_else(|f| panic!("{f}"));
    x[100 * k..].fill(0.0);
    close(&d.get(c, m * n), &product(&x, &y, n, k), 1e-5, 0.0);
    assert_eq!(counts.mma_ops, (m * n * k) as u64);
}

#[test]
fn clusters_read_each_other() {
    let x: Vec<i32> = (0..256).collect();
    let mut d = Device::new("nvcc/hopper.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 8));
    d.run("cluster", 8, 32, vec![a.into(), b.into()]);
    let want: Vec<i32> = x.chunks(32).map(|c| c.iter().sum()).collect();
    assert_eq!(d.get::<i32>(b, 8), want);
}

#[test]
fn bulk_copies() {
    let x: Vec<i32> = (0..768).collect();
    let sums: Vec<i32> = (0..1024).map(|i| i * 3).collect();
    let mut d = Device::new("nvcc/hopper.ptx");
    let (a, b, s) = (d.put("x", &x), d.zeros::<i32>("y", 768), d.put("sum", &sums));
    // The map's elements are f32 by size; zeros and small integers as bits add as subnormals do, exactly.
    let m = map(s, 4, [32, 32], [16, 16], Swizzle::None);
    d.run("bulk", 3, 64, vec![a.into(), b.into(), m]);
    assert_eq!(d.get::<i32>(b, 768), x.iter().map(|v| v * 2).collect::<Vec<i32>>());
    let mut want = sums;
    for (i, v) in x.iter().enumerate() {
        let (row, col) = (i % 256 / 16, i % 16);
        want[row * 32 + col] += 2 * v;
    }
    assert_eq!(d.get::<i32>(s, 1024), want);
}

#[test]
fn matrix_stores() {
    let x: Vec<u32> = (0..128).map(|i| i * 2 | (i * 2 + 1) << 16).collect();
    let mut d = Device::new("nvcc/hopper.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<u32>("y", 128));
    d.run("stores", 1, 32, vec![a.into(), b.into()]);
    // Row g of matrix i takes the registers of lanes 4g..4g+3: with a matrix's rows one after the other, nothing moves.
    assert_eq!(d.get::<u32>(b, 128), x);
}
