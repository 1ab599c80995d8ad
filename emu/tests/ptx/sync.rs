// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Barriers, atomics and groups that wait for each other.

use crate::device::{Device, Rng, close};

#[test]
fn barriers_that_reduce() {
    for (shift, want) in [(0, 63 * 4 + 2), (95, 64 * 4 + 3), (-150, 0)] {
        let x: Vec<i32> = (0..64).map(|i| i + shift).collect();
        let mut d = Device::new("nvcc/sync.ptx");
        let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 64));
        d.run("counts", 1, 64, vec![a.into(), b.into()]);
        assert_eq!(d.get::<i32>(b, 64), vec![want; 64]);
    }
}

#[test]
fn named_barriers() {
    let x: Vec<i32> = (0..320).collect();
    let mut d = Device::new("nvcc/sync.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 320));
    d.run("handover", 1, 64, vec![a.into(), b.into(), 10i32.into()]);
    let want: Vec<i32> = x.chunks(32).flat_map(|c| c.iter().rev().map(|v| v * 3).collect::<Vec<i32>>()).collect();
    assert_eq!(d.get::<i32>(b, 320), want);
}

#[test]
fn the_last_group_adds() {
    let (n, mut r) = (5000usize, Rng(12));
    let x = r.list(n);
    let mut d = Device::new("nvcc/sync.ptx");
    let (a, p, o) = (d.put("x", &x), d.zeros::<f32>("part", 6), d.zeros::<f32>("out", 1));
    d.run("lastgroup", 6, 128, vec![a.into(), p.into(), o.into(), (n as i32).into()]);
    let want: f64 = x.iter().map(|v| f64::from(*v)).sum();
    close(&d.get(o, 1), &[want], 1e-3, 0.0);
}

#[test]
fn groups_wait_for_each_other() {
    let x: Vec<i32> = (0..20).map(|i| i * i).collect();
    let mut d = Device::new("nvcc/sync.ptx");
    let (c, a, b) = (d.zeros::<u32>("counter", 1), d.put("x", &x), d.zeros::<i32>("y", 40));
    d.run("gridwait", 20, 1, vec![c.into(), a.into(), b.into()]);
    let sum: i32 = x.iter().map(|v| 2 * v).sum();
    assert_eq!(d.get::<i32>(b, 40)[20..], vec![sum; 20]);
}

#[test]
fn histogram() {
    let mut r = Rng(13);
    let x: Vec<u8> = (0..4000).map(|_| (r.bits() >> 56) as u8 & 0x7f).collect();
    let mut d = Device::new("nvcc/sync.ptx");
    let (a, h) = (d.put("x", &x), d.zeros::<u32>("h", 256));
    d.run("histogram", 3, 128, vec![a.into(), h.into(), 4000i32.into()]);
    let mut want = vec![0u32; 256];
    x.iter().for_each(|v| want[*v as usize] += 1);
    assert_eq!(d.get::<u32>(h, 256), want);
}

#[test]
fn atomics() {
    let mut d = Device::new("nvcc/sync.ptx");
    let (a, f) = (d.zeros::<i32>("a", 5), d.zeros::<f32>("f", 2));
    let (h, w) = (d.zeros::<u16>("h", 2), d.zeros::<u64>("w", 1));
    d.run("atomics", 1, 64, vec![a.into(), f.into(), h.into(), w.into()]);
    let xor = (0..64).fold(0, |s, t| s ^ t);
    // 64 steps of a counter that goes from 0 to 20, and of one that goes from 20 to 0 and begins at 0.
    let (mut up, mut down) = (0, 0);
    for _ in 0..64 {
        up = if up >= 20 { 0 } else { up + 1 };
        down = if down == 0 || down > 20 { 20 } else { down - 1 };
    }
    assert_eq!(d.get::<i32>(a, 5), [-5, 189, xor, up, down]);
    assert_eq!(d.get::<f32>(f, 2), [32.0, 63.0]);
    // 64 and 128 as halves.
    assert_eq!(d.get::<u16>(h, 2), [0x5400, 0x5800]);
    assert_eq!(d.get::<u64>(w, 1), [1 << 39]);
}
