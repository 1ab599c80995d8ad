/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What kernels of a bundle are written in: vectors, exact arithmetic, reports of guards. C++14 with __device__ and nothing of any vendor. */
#ifndef PW_LANES_H
#define PW_LANES_H

#include <stdint.h>
#include <string.h>

/* Numbers of 64 bits: those of the lanes, or by integers; with PW_NO_DOUBLE there are none. */
#ifdef PW_SOFT_DOUBLE
#include "pw_double.h"
typedef pw_double pw_f64;
#elif !defined(PW_NO_DOUBLE)
typedef double pw_f64;
#endif

#define PW_FN static __device__ inline
#define PW_TEMPLATE_FN __device__ inline

/* ---- vectors ---- */

/* N elements; vectors of a power of two of them, up to 16 bytes, lie in memory on multiples of their size. */
template <class T, int N>
struct alignas((N & (N - 1)) != 0 ? alignof(T) : sizeof(T) * N < 16 ? sizeof(T) * N : 16) pw_vec {
  T v[N];
  PW_TEMPLATE_FN T &operator[](int i) { return v[i]; }
  PW_TEMPLATE_FN const T &operator[](int i) const { return v[i]; }
};

/* Elements of a scalar or vector, and the same shape of other elements. */
template <class X>
struct pw_shape {
  typedef X elem;
  enum { n = 1 };
  template <class T>
  struct of {
    typedef T type;
  };
};
template <class X, int N>
struct pw_shape<pw_vec<X, N>> {
  typedef X elem;
  enum { n = N };
  template <class T>
  struct of {
    typedef pw_vec<T, N> type;
  };
};

template <class T, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_splat(T x) {
  pw_vec<T, N> r;
  for (int i = 0; i < N; i++) r.v[i] = x;
  return r;
}
/* base, base + 1, ... */
template <class T, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_iota(T base) {
  pw_vec<T, N> r;
  for (int i = 0; i < N; i++) r.v[i] = (T)(base + (T)i);
  return r;
}
template <class T, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_insert(pw_vec<T, N> a, int i, T x) {
  a.v[i] = x;
  return a;
}
template <class T, int N, int M>
PW_TEMPLATE_FN pw_vec<T, N + M> pw_concat(pw_vec<T, N> a, pw_vec<T, M> b) {
  pw_vec<T, N + M> r;
  for (int i = 0; i < N; i++) r.v[i] = a.v[i];
  for (int i = 0; i < M; i++) r.v[N + i] = b.v[i];
  return r;
}
template <class T>
PW_TEMPLATE_FN pw_vec<T, 1> pw_one(T x) {
  pw_vec<T, 1> r;
  r.v[0] = x;
  return r;
}
/* Elements of a and then b, by position. */
template <int... I, class T, int N>
PW_TEMPLATE_FN pw_vec<T, sizeof...(I)> pw_pick(pw_vec<T, N> a, pw_vec<T, N> b) {
  return pw_vec<T, sizeof...(I)>{{(I < N ? a.v[I < N ? I : 0] : b.v[I < N ? 0 : I - N])...}};
}
/* The same bits. */
template <class R, class T>
PW_TEMPLATE_FN R pw_bits(T x) {
  static_assert(sizeof(R) == sizeof(T), "the same number of bits");
  R r;
  memcpy(&r, &x, sizeof r);
  return r;
}
/* Element i is base + i < end. */
template <int N, class T>
PW_TEMPLATE_FN pw_vec<bool, N> pw_mask_below(T base, T end) {
  pw_vec<bool, N> r;
  for (int i = 0; i < N; i++) r.v[i] = base < end && (uint64_t)i < (uint64_t)end - (uint64_t)base;
  return r;
}

#define PW_UNARY(NAME, EXPR)                        \
  template <class T, int N>                         \
  PW_TEMPLATE_FN pw_vec<T, N> NAME(pw_vec<T, N> x) { \
    for (int i = 0; i < N; i++) {                   \
      const T a = x.v[i];                           \
      x.v[i] = (T)(EXPR);                           \
    }                                               \
    return x;                                       \
  }
#define PW_BINARY(NAME, R, EXPR)                                     \
  template <class T, int N>                                          \
  PW_TEMPLATE_FN pw_vec<R, N> NAME(pw_vec<T, N> x, pw_vec<T, N> y) {  \
    pw_vec<R, N> r;                                                  \
    for (int i = 0; i < N; i++) {                                    \
      const T a = x.v[i], b = y.v[i];                                \
      r.v[i] = (R)(EXPR);                                            \
    }                                                                \
    return r;                                                        \
  }
PW_UNARY(operator-, -a)
PW_UNARY(operator~, ~a)
PW_UNARY(operator!, !a)
PW_BINARY(operator+, T, a + b)
PW_BINARY(operator-, T, a - b)
PW_BINARY(operator*, T, a *b)
PW_BINARY(operator/, T, a / b)
PW_BINARY(operator%, T, a % b)
PW_BINARY(operator&, T, a &b)
PW_BINARY(operator|, T, a | b)
PW_BINARY(operator^, T, a ^ b)
PW_BINARY(operator>>, T, a >> b)
PW_BINARY(operator==, bool, a == b)
PW_BINARY(operator!=, bool, a != b)
PW_BINARY(operator<, bool, a < b)
PW_BINARY(operator<=, bool, a <= b)
PW_BINARY(operator>, bool, a > b)
PW_BINARY(operator>=, bool, a >= b)

template <class T, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_select(pw_vec<bool, N> c, pw_vec<T, N> a, pw_vec<T, N> b) {
  for (int i = 0; i < N; i++) a.v[i] = c.v[i] ? a.v[i] : b.v[i];
  return a;
}

/* ---- integers modulo 2^bits, and with results where machines have none ---- */

template <class T>
struct pw_unsigned {
  typedef T type;
};
template <>
struct pw_unsigned<int8_t> {
  typedef uint32_t type;
};
template <>
struct pw_unsigned<uint8_t> {
  typedef uint32_t type;
};
template <>
struct pw_unsigned<int16_t> {
  typedef uint32_t type;
};
template <>
struct pw_unsigned<uint16_t> {
  typedef uint32_t type;
};
template <>
struct pw_unsigned<int32_t> {
  typedef uint32_t type;
};
template <>
struct pw_unsigned<int64_t> {
  typedef uint64_t type;
};

#define PW_WRAPPING(NAME, OP)                                   \
  template <class T>                                            \
  PW_TEMPLATE_FN T NAME(T x, T y) {                             \
    typedef typename pw_unsigned<T>::type U;                    \
    return (T)((U)x OP(U) y);                                   \
  }                                                             \
  PW_BINARY(NAME, T, NAME(a, b))
PW_WRAPPING(pw_add, +)
PW_WRAPPING(pw_sub, -)
PW_WRAPPING(pw_mul, *)
PW_WRAPPING(pw_shl, <<)

/* Toward zero; the smallest number by -1 is itself, and nothing traps where the divisor is 0. */
template <class T>
PW_TEMPLATE_FN T pw_quotient(T x, T y) {
  typedef typename pw_unsigned<T>::type U;
  if ((T)-1 < (T)0 && y == (T)-1) return (T)((U)0 - (U)x);
  return y == (T)0 ? x : (T)(x / y);
}
template <class T>
PW_TEMPLATE_FN T pw_remainder(T x, T y) {
  return y == (T)0 || ((T)-1 < (T)0 && y == (T)-1) ? (T)0 : (T)(x % y);
}
PW_BINARY(pw_quotient, T, pw_quotient(a, b))
PW_BINARY(pw_remainder, T, pw_remainder(a, b))

/* ---- the smaller and the larger ---- */

#define PW_EXTREME_OF_INT(T)                                        \
  PW_FN T pw_min(T x, T y) { return x < y ? x : y; }                \
  PW_FN T pw_max(T x, T y) { return x > y ? x : y; }                \
  PW_FN T pw_abs(T x) { return (T)-1 < (T)0 && x < (T)0 ? (T)-x : x; }
PW_EXTREME_OF_INT(int8_t)
PW_EXTREME_OF_INT(uint8_t)
PW_EXTREME_OF_INT(int16_t)
PW_EXTREME_OF_INT(uint16_t)
PW_EXTREME_OF_INT(int32_t)
PW_EXTREME_OF_INT(uint32_t)
PW_EXTREME_OF_INT(int64_t)
PW_EXTREME_OF_INT(uint64_t)
PW_FN bool pw_min(bool x, bool y) { return x && y; }
PW_FN bool pw_max(bool x, bool y) { return x || y; }

/* NaN if either is, and -0 below +0: the two orders of a comparison differ in the zero that they give. The num forms give the other
   operand where one is NaN. */
#define PW_EXTREME_OF_FLOAT(T, U, NAN_BITS, FABS)                                   \
  PW_FN T pw_abs(T x) { return FABS(x); }                                           \
  PW_FN T pw_min(T x, T y) {                                                        \
    if (x != x || y != y) return pw_bits<T, U>(NAN_BITS);                           \
    return pw_bits<T, U>(pw_bits<U, T>(x < y ? x : y) | pw_bits<U, T>(y < x ? y : x)); \
  }                                                                                 \
  PW_FN T pw_max(T x, T y) {                                                        \
    if (x != x || y != y) return pw_bits<T, U>(NAN_BITS);                           \
    return pw_bits<T, U>(pw_bits<U, T>(x > y ? x : y) & pw_bits<U, T>(y > x ? y : x)); \
  }                                                                                 \
  PW_FN T pw_min_num(T x, T y) { return y != y ? x : x < y ? x : y; }               \
  PW_FN T pw_max_num(T x, T y) { return y != y ? x : x > y ? x : y; }
PW_EXTREME_OF_FLOAT(float, uint32_t, 0x7fc00000u, fabsf)
#ifndef PW_NO_DOUBLE
PW_EXTREME_OF_FLOAT(pw_f64, uint64_t, 0x7ff8000000000000ull, fabs)
#endif
PW_BINARY(pw_min, T, pw_min(a, b))
PW_BINARY(pw_max, T, pw_max(a, b))
PW_BINARY(pw_min_num, T, pw_min_num(a, b))
PW_BINARY(pw_max_num, T, pw_max_num(a, b))
PW_UNARY(pw_abs, pw_abs(a))

/* ---- functions of mathematics that machines have ---- */

#define PW_MATH1(NAME, F32, F64)            \
  PW_FN float NAME(float x) { return F32; } \
  PW_MATH1_DOUBLE(NAME, F64)                \
  PW_UNARY(NAME, NAME(a))
#ifdef PW_NO_DOUBLE
#define PW_MATH1_DOUBLE(NAME, F64)
#else
#define PW_MATH1_DOUBLE(NAME, F64) \
  PW_FN pw_f64 NAME(pw_f64 x) { return F64; }
#endif
PW_MATH1(pw_sqrt, sqrtf(x), sqrt(x))
PW_MATH1(pw_floor, floorf(x), floor(x))
PW_MATH1(pw_ceil, ceilf(x), ceil(x))
PW_MATH1(pw_rint, rintf(x), rint(x))
PW_MATH1(pw_trunc, truncf(x), trunc(x))

PW_FN float pw_fma(float x, float y, float z) { return fmaf(x, y, z); }
#ifndef PW_NO_DOUBLE
PW_FN pw_f64 pw_fma(pw_f64 x, pw_f64 y, pw_f64 z) { return fma(x, y, z); }
#endif
template <class T, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_fma(pw_vec<T, N> x, pw_vec<T, N> y, pw_vec<T, N> z) {
  for (int i = 0; i < N; i++) x.v[i] = pw_fma(x.v[i], y.v[i], z.v[i]);
  return x;
}

/* ---- conversions ---- */

/* Between integers modulo 2^bits, from integers to floats, between floats. */
template <class R, class T>
PW_TEMPLATE_FN R pw_cast(T x) {
  return (R)x;
}
template <class R, class T, int N>
PW_TEMPLATE_FN pw_vec<R, N> pw_cast(pw_vec<T, N> x) {
  pw_vec<R, N> r;
  for (int i = 0; i < N; i++) r.v[i] = (R)x.v[i];
  return r;
}
/* Numbers that are not 0. */
template <class T>
PW_TEMPLATE_FN bool pw_truth(T x) {
  return x != (T)0;
}
template <class T, int N>
PW_TEMPLATE_FN pw_vec<bool, N> pw_truth(pw_vec<T, N> x) {
  pw_vec<bool, N> r;
  for (int i = 0; i < N; i++) r.v[i] = x.v[i] != (T)0;
  return r;
}
/* Toward zero; beyond low and high the nearest of them, and 0 for NaN. `below` and `above` are floats: of every number at or under the
   first the result is low, at or over the second it is high. */
template <class R, class T>
PW_TEMPLATE_FN R pw_to_int(T x, T below, T above, R low, R high) {
  if (x != x) return (R)0;
  return x <= below ? low : x >= above ? high : (R)x;
}
template <class R, class T, int N>
PW_TEMPLATE_FN pw_vec<R, N> pw_to_int(pw_vec<T, N> x, T below, T above, R low, R high) {
  pw_vec<R, N> r;
  for (int i = 0; i < N; i++) r.v[i] = pw_to_int<R>(x.v[i], below, above, low, high);
  return r;
}
/* The low BITS bits as a number of its own. */
template <int BITS, class T>
PW_TEMPLATE_FN T pw_low(T x) {
  return (T)((T)(x << (8 - BITS)) >> (8 - BITS));
}
template <int BITS, class T, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_low(pw_vec<T, N> x) {
  for (int i = 0; i < N; i++) x.v[i] = pw_low<BITS>(x.v[i]);
  return x;
}
PW_FN float pw_of_bf16(uint16_t bits) { return pw_bits<float, uint32_t>((uint32_t)bits << 16); }
template <int N>
PW_TEMPLATE_FN pw_vec<float, N> pw_of_bf16(pw_vec<uint16_t, N> x) {
  pw_vec<float, N> r;
  for (int i = 0; i < N; i++) r.v[i] = pw_of_bf16(x.v[i]);
  return r;
}

/* ---- reductions of a vector: element i meets i + n / 2 ---- */

#define PW_REDUCTION(NAME, EXPR)                  \
  template <class T, int N>                       \
  PW_TEMPLATE_FN T NAME(pw_vec<T, N> x) {         \
    for (int n = N / 2; n > 0; n /= 2)            \
      for (int i = 0; i < n; i++) {               \
        const T a = x.v[i], b = x.v[i + n];       \
        x.v[i] = (T)(EXPR);                       \
      }                                           \
    return x.v[0];                                \
  }
PW_REDUCTION(pw_hsum, a + b)
PW_REDUCTION(pw_hprod, a *b)
PW_REDUCTION(pw_hmax, pw_max(a, b))
PW_REDUCTION(pw_hmin, pw_min(a, b))
PW_REDUCTION(pw_hand, a &b)
PW_REDUCTION(pw_hor, a | b)

/* Four products of bytes to each sum, modulo 2^32. */
template <class A, class B>
PW_TEMPLATE_FN int32_t pw_dot4(int32_t c, pw_vec<A, 4> a, pw_vec<B, 4> b) {
  uint32_t s = (uint32_t)c;
  for (int i = 0; i < 4; i++) s += (uint32_t)((int32_t)a.v[i] * (int32_t)b.v[i]);
  return (int32_t)s;
}
template <class A, class B, int N>
PW_TEMPLATE_FN pw_vec<int32_t, N> pw_dot4(pw_vec<int32_t, N> c, pw_vec<A, 4 * N> a, pw_vec<B, 4 * N> b) {
  for (int i = 0; i < 4 * N; i++) c.v[i / 4] = (int32_t)((uint32_t)c.v[i / 4] + (uint32_t)((int32_t)a.v[i] * (int32_t)b.v[i]));
  return c;
}

/* ---- memory ---- */

/* Whole vectors, on multiples of their size. */
template <int N, class T>
PW_TEMPLATE_FN pw_vec<T, N> pw_load(const T *p) {
  return *(const pw_vec<T, N> *)(const void *)p;
}
template <class T, int N>
PW_TEMPLATE_FN void pw_store(T *p, pw_vec<T, N> x) {
  *(pw_vec<T, N> *)(void *)p = x;
}
/* Elements that are apart, or lie anywhere. */
template <int N, class T>
PW_TEMPLATE_FN pw_vec<T, N> pw_load_each(const T *p, int64_t stride) {
  pw_vec<T, N> r;
  for (int i = 0; i < N; i++) r.v[i] = p[i * stride];
  return r;
}
template <class T, int N>
PW_TEMPLATE_FN void pw_store_each(T *p, int64_t stride, pw_vec<T, N> x) {
  for (int i = 0; i < N; i++) p[i * stride] = x.v[i];
}
template <class T, int N, class I>
PW_TEMPLATE_FN pw_vec<T, N> pw_gather(const T *p, pw_vec<I, N> at) {
  pw_vec<T, N> r;
  for (int i = 0; i < N; i++) r.v[i] = p[at.v[i]];
  return r;
}
template <class T, int N, class I>
PW_TEMPLATE_FN void pw_scatter(T *p, pw_vec<I, N> at, pw_vec<T, N> x) {
  for (int i = 0; i < N; i++) p[at.v[i]] = x.v[i];
}
/* Elements of BITS bits, low bits first. A byte may hold neighbors that another lane writes, so stores are of words, and atomic. */
template <class T, int BITS>
PW_TEMPLATE_FN T pw_load_packed(const uint8_t *p, int64_t at) {
  return pw_low<BITS>((T)(p[at / (8 / BITS)] >> (int)(at % (8 / BITS)) * BITS));
}
template <class T, int BITS, int N>
PW_TEMPLATE_FN pw_vec<T, N> pw_load_packed(const uint8_t *p, int64_t at, int64_t stride) {
  pw_vec<T, N> r;
  for (int i = 0; i < N; i++) r.v[i] = pw_load_packed<T, BITS>(p, at + i * stride);
  return r;
}
template <int BITS, class T>
PW_TEMPLATE_FN void pw_store_packed(void *p, int64_t at, T x) {
  const uintptr_t byte = (uintptr_t)p + (uintptr_t)(at / (8 / BITS));
  const int shift = (int)(byte % 4) * 8 + (int)(at % (8 / BITS)) * BITS;
  const unsigned ones = ((1u << BITS) - 1u) << shift;
  unsigned *word = (unsigned *)(byte - byte % 4);
  atomicAnd(word, ~ones);
  atomicOr(word, ((unsigned)x << shift) & ones);
}
template <int BITS, class T, int N>
PW_TEMPLATE_FN void pw_store_packed(void *p, int64_t at, int64_t stride, pw_vec<T, N> x) {
  for (int i = 0; i < N; i++) pw_store_packed<BITS>(p, at + i * stride, x.v[i]);
}
/* Column c of a row whose units of UNIT elements are exchanged by its number. */
template <int UNIT, int SHIFT, int MASK>
PW_TEMPLATE_FN int64_t pw_exchanged(int64_t row, int64_t c) {
  return ((c / UNIT) ^ ((row >> SHIFT) & MASK)) * UNIT + c % UNIT;
}

/* ---- sizes: division as of whole numbers, also of negative ones; y > 0 ---- */

PW_FN int64_t pw_floor_div(int64_t x, int64_t y) { return x / y - (x % y < 0); }
PW_FN int64_t pw_ceil_div(int64_t x, int64_t y) { return x / y + (x % y > 0); }
PW_FN int64_t pw_mod(int64_t x, int64_t y) { return x % y < 0 ? x % y + y : x % y; }

/* ---- guards ---- */

/* The first launch that fails keeps the words; of its lanes, the one with the smallest position: its position stands in the upper 40 bits
   of three words, whose lower 24 bits are parts of the value and the code, so that minima of words need no lock. */
static __device__ __attribute__((noinline)) void pw_report(unsigned long long *status, unsigned long long launch, int code, int64_t at, int64_t value) {
  if (atomicMin(&status[0], launch) < launch) return;
  const unsigned long long most = 0xffffffffffull, v = (unsigned long long)value;
  const unsigned long long key = ((unsigned long long)at < most ? (unsigned long long)at : most) << 24;
  atomicMin(&status[1], key | (v & 0xffffff));
  atomicMin(&status[2], key | ((v >> 24) & 0xffffff));
  atomicMin(&status[3], key | ((v >> 48) & 0xffff) | ((unsigned long long)code << 16));
}
/* x, held to low..high (high excluded); what was outside is reported. */
template <class T>
PW_TEMPLATE_FN T pw_guarded(T x, T low, T high, int code, int64_t at, unsigned long long *status, unsigned long long launch) {
  if (x >= low && x < high) return x;
  pw_report(status, launch, code, at, (int64_t)x);
  const T last = (T)(high - (T)1);
  const T below = x < last ? x : last;
  return below > low ? below : low;
}

#endif
