/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Numbers of 64 bits on lanes that have none: IEEE 754 binary64 by integers, to the nearest even, with subnormals. A NaN is the quiet one. */
#ifndef PW_DOUBLE_H
#define PW_DOUBLE_H

#include <stdint.h>
#include <string.h>

#define PW_DOUBLE_FN static __device__ inline

/* What is neither 0 nor infinite nor NaN: (-1)^negative * m / 2^63 * 2^e, where the highest bit of m is set. */
struct pw_double_parts {
  bool negative;
  int e;
  uint64_t m;
};
/* hi * 2^64 + lo */
struct pw_double_wide {
  uint64_t hi, lo;
};

PW_DOUBLE_FN int pw_double_zeros(uint64_t x) {
  int n = 0;
  for (int by = 32; by > 0; by /= 2)
    if (x >> (64 - by) == 0) x <<= by, n += by;
  return n;
}
PW_DOUBLE_FN bool pw_double_is_nan(uint64_t x) { return x << 1 > (uint64_t)0xffe << 52; }
PW_DOUBLE_FN bool pw_double_is_inf(uint64_t x) { return x << 1 == (uint64_t)0xffe << 52; }
PW_DOUBLE_FN bool pw_double_is_zero(uint64_t x) { return x << 1 == 0; }
PW_DOUBLE_FN uint64_t pw_double_nan() { return (uint64_t)0x7ff8 << 48; }
PW_DOUBLE_FN uint64_t pw_double_inf(bool negative) { return (uint64_t)(negative ? 0xfff : 0x7ff) << 52; }
PW_DOUBLE_FN uint64_t pw_double_zero(bool negative) { return (uint64_t)negative << 63; }

PW_DOUBLE_FN pw_double_parts pw_double_take(uint64_t x) {
  const int e = (int)(x >> 52 & 0x7ff);
  const uint64_t f = x << 11;
  if (e != 0) return pw_double_parts{x >> 63 != 0, e - 1023, f | (uint64_t)1 << 63};
  const int n = pw_double_zeros(f);
  return pw_double_parts{x >> 63 != 0, -1022 - n, f << n};
}
/* x >> n, where the lowest bit of the result remembers whether anything was lost. */
PW_DOUBLE_FN uint64_t pw_double_shift(uint64_t x, int n) { return n == 0 ? x : n > 63 ? x != 0 : x >> n | (x << (64 - n) != 0); }
/* Rounds to `bits` bits of mantissa and exponents from `low` to `high`: the bits of a float behind its sign, `bits` - 1 of them stored. */
PW_DOUBLE_FN uint64_t pw_double_round(int e, uint64_t m, int bits, int low, int high) {
  int biased = e - low + 1;
  if (e < low) m = pw_double_shift(m, low - e), biased = 0;
  const int drop = 64 - bits;
  const uint64_t half = (uint64_t)1 << (drop - 1), rest = m & ((half << 1) - 1);
  uint64_t kept = m >> drop;
  if (rest > half || (rest == half && (kept & 1))) kept++;
  /* A carry out of the mantissa goes into the exponent, which is what it means. */
  const uint64_t out = (biased > 0 ? (uint64_t)(biased - 1) << (bits - 1) : 0) + kept;
  const uint64_t most = (uint64_t)(high - low + 2) << (bits - 1);
  return e > high || out > most ? most : out;
}
PW_DOUBLE_FN uint64_t pw_double_give(pw_double_parts p) {
  return (uint64_t)p.negative << 63 | pw_double_round(p.e, p.m, 53, -1022, 1023);
}

PW_DOUBLE_FN pw_double_wide pw_double_product(uint64_t x, uint64_t y) {
  const uint64_t x0 = (uint32_t)x, x1 = x >> 32, y0 = (uint32_t)y, y1 = y >> 32;
  const uint64_t low = x0 * y0, middle = x1 * y0 + (low >> 32), other = x0 * y1 + (uint32_t)middle;
  return pw_double_wide{x1 * y1 + (middle >> 32) + (other >> 32), other << 32 | (uint32_t)low};
}
PW_DOUBLE_FN pw_double_wide pw_double_wide_shift(pw_double_wide x, int n) {
  if (n == 0) return x;
  if (n < 64) return pw_double_wide{x.hi >> n, (x.hi << (64 - n) | x.lo >> n) | (x.lo << (64 - n) != 0)};
  return pw_double_wide{0, n == 64 ? x.hi | (x.lo != 0) : pw_double_shift(x.hi, n - 64) | (x.lo != 0)};
}
/* The sum of two numbers of parts, each with 128 bits of which the highest is set. */
PW_DOUBLE_FN uint64_t pw_double_total(bool xn, int xe, pw_double_wide x, bool yn, int ye, pw_double_wide y) {
  if (ye > xe || (ye == xe && (y.hi > x.hi || (y.hi == x.hi && y.lo > x.lo)))) {
    const bool n = xn;
    const int e = xe;
    const pw_double_wide w = x;
    xn = yn, xe = ye, x = y, yn = n, ye = e, y = w;
  }
  y = pw_double_wide_shift(y, xe - ye > 200 ? 200 : xe - ye);
  if (xn == yn) {
    const uint64_t lo = x.lo + y.lo, carry = lo < x.lo, hi = x.hi + y.hi + carry;
    if (hi < x.hi || (hi == x.hi && (y.hi | carry) != 0)) {
      const pw_double_wide w = pw_double_wide_shift(pw_double_wide{hi, lo}, 1);
      x.hi = w.hi | (uint64_t)1 << 63, x.lo = w.lo, xe++;
    } else {
      x.hi = hi, x.lo = lo;
    }
  } else {
    const uint64_t lo = x.lo - y.lo;
    x.hi = x.hi - y.hi - (x.lo < y.lo), x.lo = lo;
    if ((x.hi | x.lo) == 0) return 0;
    int n = 0;
    if (x.hi == 0) x.hi = x.lo, x.lo = 0, n = 64;
    const int more = pw_double_zeros(x.hi);
    if (more != 0) x.hi = x.hi << more | x.lo >> (64 - more), x.lo <<= more;
    xe -= n + more;
  }
  return pw_double_give(pw_double_parts{xn, xe, x.hi | (x.lo != 0)});
}
/* x * y + z, rounded once. */
PW_DOUBLE_FN uint64_t pw_double_fused(uint64_t x, uint64_t y, uint64_t z) {
  const bool negative = (x ^ y) >> 63 != 0, nz = z >> 63 != 0;
  if (pw_double_is_nan(x) || pw_double_is_nan(y) || pw_double_is_nan(z)) return pw_double_nan();
  if (pw_double_is_inf(x) || pw_double_is_inf(y)) {
    if (pw_double_is_zero(x) || pw_double_is_zero(y) || (pw_double_is_inf(z) && nz != negative)) return pw_double_nan();
    return pw_double_inf(negative);
  }
  if (pw_double_is_inf(z)) return z;
  if (pw_double_is_zero(x) || pw_double_is_zero(y)) return pw_double_is_zero(z) ? pw_double_zero(negative && nz) : z;
  const pw_double_parts a = pw_double_take(x), b = pw_double_take(y);
  pw_double_wide p = pw_double_product(a.m, b.m);
  int e = a.e + b.e + 1;
  if (p.hi >> 63 == 0) p.hi = p.hi << 1 | p.lo >> 63, p.lo <<= 1, e--;
  if (pw_double_is_zero(z)) return pw_double_give(pw_double_parts{negative, e, p.hi | (p.lo != 0)});
  const pw_double_parts c = pw_double_take(z);
  return pw_double_total(negative, e, p, c.negative, c.e, pw_double_wide{c.m, 0});
}
PW_DOUBLE_FN uint64_t pw_double_sum(uint64_t x, uint64_t y) {
  if (pw_double_is_nan(x) || pw_double_is_nan(y)) return pw_double_nan();
  if (pw_double_is_inf(x)) return pw_double_is_inf(y) && x != y ? pw_double_nan() : x;
  if (pw_double_is_inf(y)) return y;
  if (pw_double_is_zero(x)) return pw_double_is_zero(y) ? x & y : y;
  if (pw_double_is_zero(y)) return x;
  const pw_double_parts a = pw_double_take(x), b = pw_double_take(y);
  return pw_double_total(a.negative, a.e, pw_double_wide{a.m, 0}, b.negative, b.e, pw_double_wide{b.m, 0});
}
PW_DOUBLE_FN uint64_t pw_double_times(uint64_t x, uint64_t y) {
  return pw_double_fused(x, y, pw_double_zero((x ^ y) >> 63 != 0));
}
PW_DOUBLE_FN uint64_t pw_double_quotient(uint64_t x, uint64_t y) {
  const bool negative = (x ^ y) >> 63 != 0;
  if (pw_double_is_nan(x) || pw_double_is_nan(y)) return pw_double_nan();
  if (pw_double_is_inf(x)) return pw_double_is_inf(y) ? pw_double_nan() : pw_double_inf(negative);
  if (pw_double_is_zero(y)) return pw_double_is_zero(x) ? pw_double_nan() : pw_double_inf(negative);
  if (pw_double_is_inf(y) || pw_double_is_zero(x)) return pw_double_zero(negative);
  const pw_double_parts a = pw_double_take(x), b = pw_double_take(y);
  int e = a.e - b.e;
  uint64_t rest = a.m, q = 1;
  bool carry = false;
  if (a.m < b.m) e--, carry = true, rest <<= 1;
  rest -= b.m;
  for (int i = 0; i < 63; i++) {
    carry = rest >> 63 != 0;
    rest <<= 1;
    q <<= 1;
    if (carry || rest >= b.m) rest -= b.m, q |= 1;
  }
  return pw_double_give(pw_double_parts{negative, e, q | (rest != 0)});
}
PW_DOUBLE_FN uint64_t pw_double_root(uint64_t x) {
  if (pw_double_is_nan(x)) return pw_double_nan();
  if (pw_double_is_zero(x)) return x;
  if (x >> 63 != 0) return pw_double_nan();
  if (pw_double_is_inf(x)) return x;
  const pw_double_parts a = pw_double_take(x);
  /* Two bits before the point; one bit of the root for each two. */
  uint64_t left = (a.e & 1) != 0 ? a.m : a.m >> 1, rest = 0, root = 0;
  for (int i = 0; i < 55; i++) {
    rest = rest << 2 | left >> 62, left <<= 2, root <<= 1;
    const uint64_t next = root << 1 | 1;
    if (rest >= next) rest -= next, root |= 1;
  }
  return pw_double_give(pw_double_parts{false, (a.e - (a.e & 1)) / 2, root << 9 | ((rest | left) != 0)});
}
/* To a whole number: toward zero, and then away from it if `up` says so of the half and the rest. */
enum pw_double_way { PW_TOWARD_ZERO, PW_DOWN, PW_UP, PW_TO_EVEN };
PW_DOUBLE_FN uint64_t pw_double_whole(uint64_t x, pw_double_way way) {
  const int e = (int)(x >> 52 & 0x7ff) - 1023;
  const bool negative = x >> 63 != 0;
  if (pw_double_is_nan(x)) return pw_double_nan();
  if (e >= 52 || pw_double_is_zero(x)) return x;
  const uint64_t sign = x & (uint64_t)1 << 63, one = (uint64_t)1023 << 52;
  if (e < 0) {
    const bool more = way == PW_DOWN ? negative : way == PW_UP ? !negative : way == PW_TO_EVEN && x << 1 > (uint64_t)0x7fc << 52;
    return sign | (more ? one : 0);
  }
  const uint64_t unit = (uint64_t)1 << (52 - e), rest = x & (unit - 1), cut = x - rest;
  const bool odd = (cut & unit) != 0 || e == 0;
  const bool more = rest != 0 && (way == PW_DOWN ? negative : way == PW_UP ? !negative : way == PW_TO_EVEN &&
                                  (rest > unit >> 1 || (rest == unit >> 1 && odd)));
  return more ? cut + unit : cut;
}
PW_DOUBLE_FN uint64_t pw_double_of_whole(uint64_t magnitude, bool negative) {
  if (magnitude == 0) return 0;
  const int n = pw_double_zeros(magnitude);
  return pw_double_give(pw_double_parts{negative, 63 - n, magnitude << n});
}
/* Toward zero; what leaves 64 bits is any number. */
PW_DOUBLE_FN uint64_t pw_double_magnitude(uint64_t x) {
  const int e = (int)(x >> 52 & 0x7ff) - 1023;
  if (e < 0 || e > 63) return 0;
  return ((x << 11) | (uint64_t)1 << 63) >> (63 - e);
}
PW_DOUBLE_FN uint64_t pw_double_of_float(float value) {
  uint32_t x;
  memcpy(&x, &value, sizeof x);
  const bool negative = x >> 31 != 0;
  if (x << 1 > (uint32_t)0xff << 24) return pw_double_nan();
  if (x << 1 == (uint32_t)0xff << 24) return pw_double_inf(negative);
  if (x << 1 == 0) return pw_double_zero(negative);
  const int e = (int)(x >> 23 & 0xff);
  const uint64_t f = (uint64_t)(x & 0x7fffff) << 40;
  if (e != 0) return pw_double_give(pw_double_parts{negative, e - 127, f | (uint64_t)1 << 63});
  const int n = pw_double_zeros(f);
  return pw_double_give(pw_double_parts{negative, -126 - n, f << n});
}
PW_DOUBLE_FN float pw_double_to_float(uint64_t x) {
  const uint32_t sign = (uint32_t)(x >> 63) << 31;
  uint32_t out;
  if (pw_double_is_nan(x)) out = (uint32_t)0x7fc0 << 16;
  else if (pw_double_is_inf(x)) out = sign | (uint32_t)0x7f80 << 16;
  else if (pw_double_is_zero(x)) out = sign;
  else {
    const pw_double_parts p = pw_double_take(x);
    out = sign | (uint32_t)pw_double_round(p.e, p.m, 24, -126, 127);
  }
  float value;
  memcpy(&value, &out, sizeof value);
  return value;
}

struct pw_double {
  uint64_t bits;
  pw_double() = default;
  __device__ pw_double(float x) : bits(pw_double_of_float(x)) {}
  __device__ pw_double(int32_t x) : bits(pw_double_of_whole(x < 0 ? 0 - (uint64_t)(int64_t)x : (uint64_t)x, x < 0)) {}
  __device__ pw_double(uint32_t x) : bits(pw_double_of_whole(x, false)) {}
  __device__ pw_double(int64_t x) : bits(pw_double_of_whole(x < 0 ? 0 - (uint64_t)x : (uint64_t)x, x < 0)) {}
  __device__ pw_double(uint64_t x) : bits(pw_double_of_whole(x, false)) {}
  static __device__ inline pw_double of(uint64_t bits) {
    pw_double r;
    r.bits = bits;
    return r;
  }
  __device__ explicit operator float() const { return pw_double_to_float(bits); }
  __device__ explicit operator uint64_t() const { return pw_double_magnitude(bits); }
  __device__ explicit operator int64_t() const {
    const uint64_t n = pw_double_magnitude(bits);
    return (int64_t)(bits >> 63 != 0 ? 0 - n : n);
  }
  __device__ explicit operator uint32_t() const { return (uint32_t)(uint64_t)*this; }
  __device__ explicit operator uint16_t() const { return (uint16_t)(uint64_t)*this; }
  __device__ explicit operator uint8_t() const { return (uint8_t)(uint64_t)*this; }
  __device__ explicit operator int32_t() const { return (int32_t)(int64_t)*this; }
  __device__ explicit operator int16_t() const { return (int16_t)(int64_t)*this; }
  __device__ explicit operator int8_t() const { return (int8_t)(int64_t)*this; }
};
PW_DOUBLE_FN pw_double operator-(pw_double x) { return pw_double::of(x.bits ^ (uint64_t)1 << 63); }
PW_DOUBLE_FN pw_double operator+(pw_double x, pw_double y) { return pw_double::of(pw_double_sum(x.bits, y.bits)); }
PW_DOUBLE_FN pw_double operator-(pw_double x, pw_double y) { return x + -y; }
PW_DOUBLE_FN pw_double operator*(pw_double x, pw_double y) { return pw_double::of(pw_double_times(x.bits, y.bits)); }
PW_DOUBLE_FN pw_double operator/(pw_double x, pw_double y) { return pw_double::of(pw_double_quotient(x.bits, y.bits)); }
PW_DOUBLE_FN bool operator==(pw_double x, pw_double y) {
  return !pw_double_is_nan(x.bits) && !pw_double_is_nan(y.bits) && (x.bits == y.bits || ((x.bits | y.bits) << 1) == 0);
}
PW_DOUBLE_FN bool operator!=(pw_double x, pw_double y) { return !(x == y); }
PW_DOUBLE_FN bool operator<(pw_double x, pw_double y) {
  if (pw_double_is_nan(x.bits) || pw_double_is_nan(y.bits) || ((x.bits | y.bits) << 1) == 0) return false;
  const bool nx = x.bits >> 63 != 0, ny = y.bits >> 63 != 0;
  return nx != ny ? nx : nx ? y.bits < x.bits : x.bits < y.bits;
}
PW_DOUBLE_FN bool operator>(pw_double x, pw_double y) { return y < x; }
PW_DOUBLE_FN bool operator<=(pw_double x, pw_double y) { return x < y || x == y; }
PW_DOUBLE_FN bool operator>=(pw_double x, pw_double y) { return y <= x; }
PW_DOUBLE_FN pw_double fabs(pw_double x) { return pw_double::of(x.bits << 1 >> 1); }
PW_DOUBLE_FN pw_double sqrt(pw_double x) { return pw_double::of(pw_double_root(x.bits)); }
PW_DOUBLE_FN pw_double floor(pw_double x) { return pw_double::of(pw_double_whole(x.bits, PW_DOWN)); }
PW_DOUBLE_FN pw_double ceil(pw_double x) { return pw_double::of(pw_double_whole(x.bits, PW_UP)); }
PW_DOUBLE_FN pw_double rint(pw_double x) { return pw_double::of(pw_double_whole(x.bits, PW_TO_EVEN)); }
PW_DOUBLE_FN pw_double trunc(pw_double x) { return pw_double::of(pw_double_whole(x.bits, PW_TOWARD_ZERO)); }
PW_DOUBLE_FN pw_double fma(pw_double x, pw_double y, pw_double z) { return pw_double::of(pw_double_fused(x.bits, y.bits, z.bits)); }

#endif
