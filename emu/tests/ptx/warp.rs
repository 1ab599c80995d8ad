// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lanes of a warp do together.

use crate::device::{Device, Rng, close};

#[test]
fn softmax() {
    let (rows, n, mut r) = (7usize, 1000usize, Rng(3));
    let x: Vec<f32> = r.list(rows * n).iter().map(|v| v * 4.0).collect();
    let mut d = Device::new("nvcc/warp.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<f32>("y", rows * n));
    d.run("softmax", rows as u32, 128, vec![a.into(), b.into(), (n as i32).into()]);
    let mut want = Vec::new();
    for row in x.chunks(n) {
        let s: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
        want.extend(row.iter().map(|v| f64::from(*v).exp() / s));
    }
    close(&d.get(b, rows * n), &want, 1e-9, 1e-5);
}

#[test]
fn scan() {
    let x: Vec<i32> = (0..96).map(|i| i * 7 % 13 - 4).collect();
    let mut d = Device::new("nvcc/warp.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 96));
    d.run("scan", 3, 32, vec![a.into(), b.into()]);
    let want: Vec<i32> = x
        .chunks(32)
        .flat_map(|c| {
            c.iter().scan(0, |s, v| {
                *s += v;
                Some(*s)
            })
        })
        .collect();
    assert_eq!(d.get::<i32>(b, 96), want);
}

#[test]
fn compact() {
    let mut r = Rng(4);
    let x: Vec<i32> = (0..1000).map(|_| (r.f() * 100.0) as i32).collect();
    let mut d = Device::new("nvcc/warp.ptx");
    let (a, b, c) = (d.put("x", &x), d.zeros::<i32>("y", 1000), d.zeros::<i32>("count", 1));
    d.run("compact", 8, 128, vec![a.into(), b.into(), c.into(), 1000i32.into()]);
    let mut want: Vec<i32> = x.into_iter().filter(|v| *v > 0).collect();
    assert_eq!(d.get::<i32>(c, 1), [want.len() as i32]);
    let mut got = d.get::<i32>(b, want.len());
    got.sort_unstable();
    want.sort_unstable();
    assert_eq!(got, want);
}

#[test]
fn match_lanes() {
    let keys: Vec<i32> = (0..64).map(|i| if i < 32 { i * i % 5 } else { 3 }).collect();
    let mut d = Device::new("nvcc/warp.ptx");
    let (a, b) = (d.put("keys", &keys), d.zeros::<i32>("sums", 8));
    d.run("groups", 1, 64, vec![a.into(), b.into()]);
    let mut want = vec![0i32; 8];
    keys.iter().for_each(|k| want[*k as usize] += 1);
    want[3] += 1000;
    assert_eq!(d.get::<i32>(b, 8), want);
}

#[test]
fn redux() {
    let x: Vec<i32> = (0..32i32).map(|i| i.wrapping_mul(1_103_515_245).wrapping_add(12345) ^ (i << 20)).collect();
    let mut d = Device::new("nvcc/warp.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 192));
    d.run("reduxes", 1, 32, vec![a.into(), b.into()]);
    let f = |g: fn(i32, i32) -> i32| x.iter().copied().reduce(g).unwrap();
    let want = [f(i32::wrapping_add), f(i32::min), f(i32::max), f(|a, b| a & b), f(|a, b| a | b), f(|a, b| a ^ b)];
    assert_eq!(d.get::<i32>(b, 192), want.repeat(32));
}

#[test]
fn halves_of_a_warp() {
    let x: Vec<i32> = (0..32).map(|i| i * 5 % 17).collect();
    let mut d = Device::new("nvcc/warp.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 32));
    d.run("halves", 1, 32, vec![a.into(), b.into()]);
    let (sum, max) = (x[..16].iter().sum::<i32>(), *x[16..].iter().max().unwrap());
    assert_eq!(d.get::<i32>(b, 32), [vec![sum; 16], vec![max; 16]].concat());
}
