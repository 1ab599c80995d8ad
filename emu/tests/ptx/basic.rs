// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maps and reductions.

use crate::device::{Device, Rng, close};

#[test]
fn vector_add() {
    let (n, mut r) = (1000usize, Rng(1));
    let (x, y) = (r.list(n), r.list(n));
    let mut d = Device::new("nvcc/basic.ptx");
    let (a, b, c) = (d.put("a", &x), d.put("b", &y), d.zeros::<f32>("c", n));
    let counts = d.run("vadd", 8, 128, vec![a.into(), b.into(), c.into(), (n as i32).into()]);
    let want: Vec<f32> = x.iter().zip(&y).map(|(a, b)| a + b).collect();
    assert_eq!(d.get::<f32>(c, n), want);
    // 1000 elements of 4 bytes, read twice and written once; the last warp of the last group has 8 of them.
    assert_eq!((counts.load.bytes, counts.load.unique, counts.load.sectors), (8000, 8000, 250));
    assert_eq!((counts.store.bytes, counts.store.unique, counts.store.sectors), (4000, 4000, 125));
}

#[test]
fn reduction() {
    let (n, mut r) = (10_000usize, Rng(2));
    let x = r.list(n);
    let mut d = Device::new("nvcc/basic.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<f32>("out", 4));
    let counts = d.run("reduce", 4, 256, vec![a.into(), b.into(), (n as i32).into()]);
    let mut want = vec![0f64; 4];
    for (i, v) in x.iter().enumerate() {
        want[i / 256 % 4] += f64::from(*v);
    }
    close(&d.get(b, 4), &want, 1e-4, 1e-5);
    assert_eq!(counts.barriers, 4 * 9);
}
