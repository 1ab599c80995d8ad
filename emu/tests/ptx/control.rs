// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Branches, calls and local memory.

use portwright_emu::ptx::{FaultKind, Launch};

use crate::device::Device;

fn map(kernel: &str, x: &[i32], n: usize) -> Vec<i32> {
    let mut d = Device::new("nvcc/control.ptx");
    let (a, b) = (d.put("x", x), d.zeros::<i32>("y", n));
    d.run(kernel, 1, 64, vec![a.into(), b.into()]);
    d.get(b, n)
}

#[test]
fn recursion() {
    let mut d = Device::new("nvcc/control.ptx");
    let y = d.zeros::<i32>("y", 64);
    d.run("recursion", 1, 64, vec![y.into()]);
    let fib = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
    assert_eq!(d.get::<i32>(y, 64), (0..64).map(|i| fib[i % 12]).collect::<Vec<i32>>());
}

#[test]
fn function_pointers() {
    let x: Vec<i32> = (0..64).collect();
    let want: Vec<i32> = x.iter().map(|v| if v & 1 == 0 { 2 * v } else { v * v } + [1, 10, 100, 1000][(v & 3) as usize] + 5).collect();
    assert_eq!(map("pointers", &x, 64), want);
}

#[test]
fn local_arrays() {
    let x: Vec<i32> = (0..512).map(|i| i * 7919 % 1009).collect();
    let want: Vec<i32> = x
        .chunks(8)
        .flat_map(|c| {
            let mut c = c.to_vec();
            c.sort_unstable();
            c
        })
        .collect();
    assert_eq!(map("sorts", &x, 512), want);
}

#[test]
fn switch() {
    let x: Vec<i32> = (0..64).map(|i| i % 9).collect();
    let f = |v: i32| match v {
        0 => 11,
        1 => 7,
        2 => (2 * 12345i32).count_ones() as i32,
        3 => 3 ^ 0x55,
        4 => -4,
        5 => 125,
        6 => 64,
        _ => 99,
    };
    assert_eq!(map("cases", &x, 64), x.iter().map(|v| f(*v)).collect::<Vec<i32>>());
}

#[test]
fn every_lane_another_way() {
    let x: Vec<i32> = (1..65).collect();
    let steps = |v: &i32| {
        let (mut v, mut n) = (i64::from(*v), 0);
        while v != 1 {
            v = if v % 2 == 1 { 3 * v + 1 } else { v / 2 };
            n += 1;
        }
        n
    };
    assert_eq!(map("collatz", &x, 64), x.iter().map(steps).collect::<Vec<i32>>());
}

#[test]
fn lanes_that_fight_for_a_lock() {
    let mut d = Device::new("nvcc/control.ptx");
    let (m, c) = (d.zeros::<i32>("mutex", 1), d.zeros::<i32>("count", 1));
    d.run("lock", 2, 64, vec![m.into(), c.into()]);
    assert_eq!(d.get::<i32>(c, 1), [128]);
}

#[test]
fn printing() {
    let mut d = Device::new("nvcc/control.ptx");
    let counts = d.run("prints", 1, 32, vec![42i32.into()]);
    assert_eq!(counts.printed, "42 of us:  1.50 ff -7\n");
}

#[test]
fn assertions() {
    let mut d = Device::new("nvcc/control.ptx");
    d.run("asserts", 1, 64, vec![64i32.into()]);
    let launch = Launch::new([1, 1, 1], [64, 1, 1], vec![50i32.into()]);
    let fault = d.try_run("asserts", &launch).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Assertion);
    assert_eq!(fault.at.unwrap().thread, 50);
}
