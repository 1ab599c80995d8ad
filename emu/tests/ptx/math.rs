// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arithmetic against this machine's.

use crate::device::{Device, Rng, close};

/// Error function, by its series and continued fraction in f64.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let v = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * sum.abs() && n < 200.0 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let f = (1..60).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (a + f));
        1.0 - (-a * a).exp() / (a + f) / std::f64::consts::PI.sqrt()
    };
    v.copysign(x)
}

#[test]
fn functions() {
    let (n, mut r) = (200usize, Rng(5));
    let x: Vec<f32> = r.list(n).iter().map(|v| v * 5.0).collect();
    let mut d = Device::new("nvcc/math.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<f32>("y", n * 12));
    d.run("functions", 2, 128, vec![a.into(), b.into(), (n as i32).into()]);
    let mut want = Vec::new();
    for v in &x {
        let w = f64::from(*v);
        let (big, huge) = (f64::from(v * 1000.0), f64::from(v * 100_000.0));
        let div = f64::from(v / v.mul_add(*v, 1.0));
        want.extend([w.exp(), erf(w), w.tanh(), big.sin(), huge.cos(), w.abs().powf(1.7f32.into()), w.abs().ln()]);
        want.extend([div, w.abs().sqrt(), 1.0 / w.abs().sqrt(), f64::from(v % 0.3f32), w.cbrt()]);
    }
    close(&d.get(b, n * 12), &want, 2e-7, 4e-7);
}

#[test]
fn doubles() {
    let (n, mut r) = (100usize, Rng(6));
    let x: Vec<f64> = r.list(n).iter().map(|v| f64::from(*v) * 3.1).collect();
    let mut d = Device::new("nvcc/math.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<f64>("y", n * 6));
    d.run("doubles", 1, 128, vec![a.into(), b.into(), (n as i32).into()]);
    for (got, v) in d.get::<f64>(b, n * 6).chunks(6).zip(&x) {
        let want = [v.exp(), (v * 1e4).sin(), 1.0 / v, v.abs().sqrt(), v.abs().ln_1p(), v.mul_add(*v, 1.0)];
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() <= 1e-15 + 1e-14 * w.abs(), "{v}: {g} where {w} is right");
        }
        // These three are exactly rounded.
        assert_eq!([got[2], got[3], got[5]], [want[2], want[3], want[5]]);
    }
}

#[test]
fn directed_roundings() {
    let (n, mut r) = (500usize, Rng(7));
    let x: Vec<f32> = r.list(n).iter().map(|v| v * f32::powi(2.0, (r.0 % 40) as i32 - 20)).collect();
    let mut d = Device::new("nvcc/math.ptx");
    let (a, b) = (d.put("x", &x), d.zeros::<f32>("y", n * 12));
    d.run("roundings", 4, 128, vec![a.into(), b.into(), (n as i32).into()]);
    for (i, got) in d.get::<f32>(b, n * 12).chunks(12).enumerate() {
        let (p, q) = (f64::from(x[i]), f64::from(x[n - 1 - i]));
        // A result is right where it lies on its side of the exact value and its neighbor does not.
        let check = |g: f32, exact: f64, down: bool| {
            let g64 = f64::from(g);
            let next = f64::from(if down { g.next_up() } else { g.next_down() });
            assert!(if down { g64 <= exact && next > exact } else { g64 >= exact && next < exact }, "{p} {q}: {g} for {exact}");
        };
        let toward_zero = |g: f32, exact: f64| check(g, exact, exact > 0.0);
        toward_zero(got[0], p + q);
        check(got[1], p + q, false);
        check(got[2], p + q, true);
        toward_zero(got[3], p * q);
        check(got[4], p * q, false);
        check(got[5], p.mul_add(q, p), true);
        toward_zero(got[6], p / q);
        check(got[7], p / q, false);
        check(got[8], p.abs().sqrt(), true);
        let s = x[i] * 10.0;
        assert_eq!(&got[9..], [s.round_ties_even(), s.floor(), (x[i] * 100.0).ceil()]);
    }
}

/// The half or bfloat16 nearest to a value, by search over all codes.
fn nearest(v: f64, bf16: bool) -> u32 {
    let value = |c: u32| -> f64 {
        if bf16 {
            return f32::from_bits(c << 16).into();
        }
        let (e, m) = (c >> 10 & 31, f64::from(c & 1023));
        if e == 0 { m * 2f64.powi(-24) } else { (1.0 + m / 1024.0) * 2f64.powi(e as i32 - 15) }
    };
    let (mut low, mut high) = (0u32, if bf16 { 0x7f7f } else { 0x7bff });
    while high - low > 1 {
        let mid = (low + high) / 2;
        if value(mid) <= v.abs() { low = mid } else { high = mid }
    }
    let (a, b) = (v.abs() - value(low), value(high) - v.abs());
    let code = if a < b || (a == b && low % 2 == 0) { low } else { high };
    code | u32::from(v.is_sign_negative()) << 15
}

fn half(c: u32) -> f64 {
    let (e, m) = (c >> 10 & 31, f64::from(c & 1023));
    let v = if e == 0 { m * 2f64.powi(-24) } else { (1.0 + m / 1024.0) * 2f64.powi(e as i32 - 15) };
    if c >> 15 == 1 { -v } else { v }
}

#[test]
fn halves() {
    let (n, mut r) = (64usize, Rng(8));
    let x: Vec<u16> = r.list(2 * n).iter().map(|v| nearest(f64::from(*v) * 8.0, false) as u16).collect();
    let y: Vec<u16> = r.list(2 * n).iter().map(|v| nearest(f64::from(*v), false) as u16).collect();
    let mut d = Device::new("nvcc/math.ptx");
    let (a, b, c) = (d.put("x", &x), d.put("y", &y), d.zeros::<u16>("z", n * 12));
    d.run("halves", 1, 64, vec![a.into(), b.into(), c.into(), (n as i32).into()]);
    for (i, got) in d.get::<u16>(c, n * 12).chunks(12).enumerate() {
        for e in 0..2 {
            let (p, q) = (half(x[2 * i + e].into()), half(y[2 * i + e].into()));
            let want = [p + q, p * q, p.mul_add(q, p), p.max(q)].map(|v| nearest(v, false));
            let have = [0, 1, 2, 3].map(|k| u32::from(got[2 * k + e]));
            assert_eq!(have, want, "{p} {q}");
            assert!((half(got[8 + e].into()) - p / q).abs() <= (p / q).abs() / 1024.0, "{p} / {q}");
            assert_eq!(got[10 + e], if p > q { 0x3c00 } else { 0 });
        }
    }
}

#[test]
fn bfloats() {
    let (n, mut r) = (128usize, Rng(9));
    let x = r.list(n);
    let mut d = Device::new("nvcc/math.ptx");
    let (a, b, c) = (d.put("x", &x), d.zeros::<u16>("y", n), d.zeros::<f32>("z", n));
    d.run("brains", 1, 128, vec![a.into(), b.into(), c.into(), (n as i32).into()]);
    let value = |c: u32| f64::from(f32::from_bits(c << 16));
    let (y, z) = (d.get::<u16>(b, n), d.get::<f32>(c, n));
    for i in 0..n {
        let (p, q) = (value(nearest(x[i].into(), true)), value(nearest(x[n - 1 - i].into(), true)));
        assert_eq!(u32::from(y[i]), nearest(p.mul_add(q, p), true));
        assert_eq!(f64::from(z[i]), f64::from((value(nearest(p * q, true)) + p.min(q)) as f32));
    }
}

#[test]
fn eights() {
    let (n, mut r) = (200usize, Rng(10));
    let mut x = r.list(n);
    x[0] = 1.0;
    x[1] = 0.0;
    x[2] = 1e-6;
    let mut d = Device::new("nvcc/math.ptx");
    let (a, b, c) = (d.put("x", &x), d.zeros::<u8>("y", 2 * n), d.zeros::<f32>("z", 2 * n));
    d.run("eights", 2, 128, vec![a.into(), b.into(), c.into(), (n as i32).into()]);
    let value = |c: u8, m: u32, bias: i32| {
        let (e, f) = (i32::from(c & 127) >> m, f64::from(c & ((1 << m) - 1)) / f64::from(1 << m));
        let v = if e == 0 { f * 2f64.powi(1 - bias) } else { (1.0 + f) * 2f64.powi(e - bias) };
        if c >> 7 == 1 { -v } else { v }
    };
    let (y, z) = (d.get::<u8>(b, 2 * n), d.get::<f32>(c, 2 * n));
    for i in 0..n {
        let v = f64::from(x[i] * 500.0);
        for (k, (m, bias, top)) in [(3u32, 7i32, 0x7eu8), (2, 15, 0x7b)].into_iter().enumerate() {
            let got = y[2 * i + k];
            assert_eq!(f64::from(z[2 * i + k]), value(got, m, bias));
            // No other finite code is nearer, and ties have an even code.
            let error = (value(got, m, bias) - v).abs();
            for other in (0..=top).chain(128..=128 + top) {
                let e = (value(other, m, bias) - v).abs();
                assert!(
                    e > error || (e == error && (other == got || got % 2 == 0 || value(other, m, bias) == value(got, m, bias))),
                    "{v}: {got:#x}"
                );
            }
        }
    }
}

#[test]
fn integers() {
    let (n, mut r) = (128usize, Rng(11));
    let x: Vec<u32> =
        (0..n).map(|i| if i < 8 { [0, 1, u32::MAX, 1 << 31, 7, 31, 32, 33][i] } else { r.bits() as u32 >> (i % 20) }).collect();
    let mut d = Device::new("nvcc/math.ptx");
    let (p, q) = (d.put("x", &x), d.zeros::<u64>("y", n * 16));
    d.run("integers", 1, 128, vec![p.into(), q.into(), (n as i32).into()]);
    for (i, got) in d.get::<u64>(q, n * 16).chunks(16).enumerate() {
        let (a, b) = (x[i], x[n - 1 - i]);
        let (w, v) = (u64::from(a) << 32 | u64::from(b), u64::from(b) << 32 | u64::from(a));
        let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
        let perm = u32::from_le_bytes([2, 5, 1, 6].map(|k| bytes[k]));
        let dot: i32 = 7 + (0..4).map(|k| i32::from(a.to_le_bytes()[k] as i8) * i32::from(b.to_le_bytes()[k] as i8)).sum::<i32>();
        let wide = u128::from(w) * u128::from(v);
        let (s, t) = (a as i32, (b | 1) as i32);
        let want = [
            a.count_ones().into(),
            a.leading_zeros().into(),
            a.reverse_bits().into(),
            (v << (b & 31) >> 32) & 0xffff_ffff,
            perm.into(),
            u64::from(dot as u32),
            (wide >> 64) as u64,
            wide as u64,
            w / (v | 1),
            w % (v | 1),
            u64::from(s.wrapping_div(t) as u32),
            u64::from(s.wrapping_rem(t) as u32),
            u64::from(a.abs_diff(b).wrapping_add(3)),
            ((wide + u128::from(v)) >> 64) as u64,
            ((w as i64) >> (b & 63)) as u64,
            u64::from((a & b) | (!a & (b >> 3)) ^ (a << 5)),
        ];
        assert_eq!(got, want, "{a:#x} {b:#x}");
    }
}
