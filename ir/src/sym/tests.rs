// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Normal forms, bounds and what is the same number.

use super::*;

fn s(n: &str) -> SymExpr {
    SymExpr::sym(n)
}

#[test]
fn quotient_and_remainder_make_the_whole() {
    let x = SymExpr::sym("x");
    let (q, r) = (x.div(&4.into()), x.modulo(&4.into()));
    assert_eq!(q.clone() * 4 + r.clone(), x);
    assert_eq!(r.clone() * 3 + q.clone() * 12 + 5, x.clone() * 3 + 5);
    assert_ne!(q * 3 + r, x);
}
#[test]
fn equal_polynomials_are_equal_values() {
    assert_eq!((s("N") + 1) * (s("N") + 1), s("N") * s("N") + s("N") * 2 + 1);
    assert_eq!(s("N") * 4 - s("N") * 4, 0.into());
    assert_eq!((s("N") * 6 + 12).div(&6.into()), s("N") + 2);
    assert_eq!((s("N") * s("M") * 3).div(&s("M")), s("N") * 3);
    assert_eq!((s("N") * 8).modulo(&4.into()), 0.into());
}

#[test]
fn equal_quotients_are_equal_values() {
    let same = [
        ((s("N") - 1).div(&2.into()) + 1, s("N").ceil_div(&2.into()), "ceil(N, 2)"),
        ((s("N") * 4 + 9).div(&8.into()), (s("N") * 2 + 4).div(&4.into()), "floor(N, 2) + 1"),
        ((s("N").div(&3.into()) + 5).div(&4.into()), (s("N") + 15).div(&12.into()), "floor(N + 3, 12) + 1"),
        (s("N").ceil_div(&2.into()).ceil_div(&2.into()), (s("N") + 3).div(&4.into()), "ceil(N, 4)"),
        ((s("N") * 7 + s("M") - 3).modulo(&7.into()), (s("M") + 4).modulo(&7.into()), "mod(M + 4, 7)"),
    ];
    for (a, b, text) in same {
        assert_eq!((a.to_string(), b.to_string()), (text.to_owned(), text.to_owned()));
    }
    // The value does not change on the way to normal form.
    let at = |n: i64, m: i64| move |name: &str| Some(if name == "N" { n } else { m });
    let mut x = 1u64;
    let mut next = |k: i64| {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 33) as i64 % k
    };
    for _ in 0..3000 {
        let (d1, d2) = (next(12) + 1, next(6) + 1);
        let e = s("N") * (next(9) - 4) + s("M") * (next(9) - 4) + (next(40) - 20);
        let inner = match next(3) {
            0 => e.div(&d1.into()),
            1 => e.ceil_div(&d1.into()),
            _ => e.modulo(&d1.into()),
        };
        let c = next(40) - 20;
        let outer = inner.clone() * (next(3) + 1) + c;
        for f in [at(next(100) - 50, next(100) - 50), at(0, 1)] {
            let v = e.eval(&f).unwrap();
            let (low, high) = (e.div(&d1.into()).eval(&f), e.ceil_div(&d1.into()).eval(&f));
            assert_eq!((low, high), (Some(v.div_euclid(d1)), Some(-(-v).div_euclid(d1))));
            assert_eq!(e.modulo(&d1.into()).eval(&f), Some(v.rem_euclid(d1)));
            let w = outer.eval(&f).unwrap();
            assert_eq!(outer.div(&d2.into()).eval(&f), Some(w.div_euclid(d2)), "floor({outer}, {d2})");
            assert_eq!(outer.ceil_div(&d2.into()).eval(&f), Some(-(-w).div_euclid(d2)), "ceil({outer}, {d2})");
        }
        // Normal form is stable.
        let q = outer.div(&d2.into());
        assert_eq!(q.substitute(&|_| None), q);
    }
}

#[test]
fn prints_as_people_write() {
    assert_eq!((s("N") - 1).to_string(), "N - 1");
    assert_eq!((SymExpr::from(3) - s("N") * 2).to_string(), "-2*N + 3");
    assert_eq!(s("N").ceil_div(&32.into()).to_string(), "ceil(N, 32)");
}

#[test]
fn rounds_as_floor_and_ceiling() {
    for a in -9..10i64 {
        for b in 1..5i64 {
            let (x, y) = (SymExpr::from(a), SymExpr::from(b));
            assert_eq!(x.div(&y), ((a as f64 / b as f64).floor() as i64).into());
            assert_eq!(x.ceil_div(&y), ((a as f64 / b as f64).ceil() as i64).into());
            let f = |n: &str| Some(if n == "A" { a } else { b });
            assert_eq!(s("A").ceil_div(&s("B")).eval(&f), Some((a as f64 / b as f64).ceil() as i64));
        }
    }
}

#[test]
fn bounds_saturate() {
    let range = |n: &str| (n != "U").then_some((1, 64));
    assert_eq!((s("N") * 2 - s("M")).bounds(&range), (-62, 127));
    assert_eq!((s("U") * s("U") - (3 << 61)).bounds(&range).1, i64::MAX);
    assert_eq!(s("U").modulo(&s("N")).bounds(&range), (0, 63));
}

#[test]
fn expressions_stay_small() {
    let mut deep = s("N");
    let mut wide = s("N");
    for i in 0..2000 {
        deep = (deep + 1).div(&2.into());
        wide = wide * (s(&format!("a{i}")) + 1);
    }
    assert!(deep.is_overflowed() && wide.is_overflowed());
    // Doubling by sharing is large when written out.
    let shared = (0..30).fold(s("N"), |e, _| e.modulo(&7.into()).maximum(&(e.clone() * 3)));
    assert!(shared.is_overflowed());
    assert!(SymExpr::overflowed().minimum(&s("N")).is_overflowed() && s("N").div(&SymExpr::overflowed()).is_overflowed());
}

#[test]
fn overflow_is_a_value_not_a_wrap() {
    let big = SymExpr::from(1i64 << 62);
    assert!((big.clone() * big).is_overflowed());
    assert_eq!((s("N") * s("N")).eval(&|_| Some(1 << 40)), None);
}

#[test]
fn proofs_by_cases_are_right_and_find_what_slices_need() {
    let (n, k) = (s("N"), s("K"));
    let range = |_: &str| Some((0, 64));
    let proven = |e: &SymExpr| e.never_negative(&range);
    let zero = SymExpr::from(0);
    // The end of `x[K::3]`, of `x[:K:-2]`, of a first part.
    let start = k.minimum(&n).maximum(&zero);
    let len = (n.clone() - start.clone()).ceil_div(&3.into()).maximum(&zero);
    assert!(proven(&(n.clone() - (start + (len - 1) * 3 + 1))));
    assert!(proven(&(n.clone() - n.clone().div(&2.into()) * 2)) && proven(&(n.clone().ceil_div(&4.into()) * 4 - n.clone())));
    // Four equal parts of fewer elements: the last one is less than nothing.
    assert!(!proven(&(n.clone() - n.clone().ceil_div(&4.into()) * 3)));
    // Whatever is proven holds.
    let mut r = 1u64;
    let mut next = |below: u64| {
        r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (r >> 33) % below
    };
    let mut held = 0;
    for _ in 0..4000 {
        let mut e = n.clone();
        for _ in 0..1 + next(6) {
            let c = SymExpr::from(next(7) as i64 - 3);
            let other = if next(2) == 0 { k.clone() * c.clone() } else { n.clone() * c.clone() };
            e = match next(6) {
                0 => e + other,
                1 => other - e,
                2 => e.minimum(&(other + c)),
                3 => e.maximum(&(other + c)),
                4 => e.div(&(1 + next(4) as i64).into()),
                _ => e.ceil_div(&(1 + next(4) as i64).into()) + c,
            };
        }
        if proven(&e) {
            held += 1;
            for (a, b) in [(0, 0), (1, 0), (0, 1), (3, 64), (64, 3), (7, 5), (64, 64), (13, 2)] {
                let v = e.eval(&|name| Some(if name == "N" { a } else { b })).unwrap();
                assert!(v >= 0, "{e} is {v} for N = {a}, K = {b}");
            }
        }
    }
    assert!(held > 400, "{held}");
}
