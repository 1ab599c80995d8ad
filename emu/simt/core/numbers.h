// SPDX-License-Identifier: Apache-2.0 OR MIT
// Numbers of 16 and 8 bits, by bits: rounding does not depend on what the compiler or the CPU has.
#pragma once

namespace simt {

inline uint32_t bits_of(float f) { uint32_t u; __builtin_memcpy(&u, &f, 4); return u; }
inline float float_of(uint32_t u) { float f; __builtin_memcpy(&f, &u, 4); return f; }

// IEEE binary16: `_Float16` of the compiler, whose conversions round to nearest even.
struct Half {
  typedef uint16_t Bits;
  static Bits pack(float f) { _Float16 h = (_Float16)f; Bits b; __builtin_memcpy(&b, &h, 2); return b; }
  static Bits pack(double f) { _Float16 h = (_Float16)f; Bits b; __builtin_memcpy(&b, &h, 2); return b; }
  static float unpack(Bits b) { _Float16 h; __builtin_memcpy(&h, &b, 2); return (float)h; }
};

// bfloat16; `Even` says whether conversions round to nearest even, or cut.
template <bool Even> struct Brain {
  typedef uint16_t Bits;
  static Bits pack(float f) {
    uint32_t u = bits_of(f);
    if (f != f) return Bits(u >> 16 | 0x40);
    return Bits((u + (Even ? 0x7fff + (u >> 16 & 1) : 0)) >> 16);
  }
  static Bits pack(double d) {
    // To float toward an odd last bit, so that rounding twice is as rounding once.
    float f = (float)d;
    if (Even && (double)f != d && f == f && !isinf(f)) {
      uint32_t u = bits_of(f);
      if (fabs((double)f) > fabs(d)) u--;
      f = float_of(u | 1);
    }
    return pack(f);
  }
  static float unpack(Bits b) { return float_of((uint32_t)b << 16); }
};

// Floats of 8 bits (OCP 8-bit floating point specification): `E` bits of exponent, the rest of mantissa. e4m3 has no infinities and one
// NaN a sign. What is too large becomes the largest number (saturates).
template <int E, bool Infinities> struct Tiny {
  typedef uint8_t Bits;
  static constexpr int M = 7 - E, BIAS = (1 << (E - 1)) - 1;
  static constexpr Bits NANS = Infinities ? Bits((((1 << E) - 1) << M) | (1 << (M - 1))) : 0x7f;
  static constexpr Bits LARGEST = Infinities ? Bits((((1 << E) - 1) << M) - 1) : 0x7e;
  static float unpack(Bits b) {
    int sign = b >> 7, e = b >> M & ((1 << E) - 1), m = b & ((1 << M) - 1);
    float v;
    if (!Infinities && (b & 0x7f) == 0x7f) v = NAN;
    else if (Infinities && e == (1 << E) - 1) v = m ? NAN : INFINITY;
    else if (e == 0) v = ldexpf((float)m, 1 - BIAS - M);
    else v = ldexpf((float)(m | 1 << M), e - BIAS - M);
    return sign ? -v : v;
  }
  static Bits pack(double f) {
    Bits sign = signbit(f) ? 0x80 : 0;
    double a = fabs(f);
    if (a != a) return Bits(sign | NANS);
    if (a > unpack(LARGEST)) return Bits(sign | LARGEST);
    int e;
    frexp(a, &e);
    // The last place of a number of this size; rint rounds to nearest even.
    int place = (e - 1 < 1 - BIAS ? 1 - BIAS : e - 1) - M;
    double n = rint(ldexp(a, -place));
    if (n == 0) return sign;
    a = ldexp(n, place);
    if (a > unpack(LARGEST)) return Bits(sign | LARGEST);
    frexp(a, &e);
    if (e - 1 < 1 - BIAS) return Bits(sign | (Bits)ldexp(a, BIAS - 1 + M));
    return Bits(sign | (e - 1 + BIAS) << M | ((Bits)ldexp(a, M - (e - 1)) & ((1 << M) - 1)));
  }
  static Bits pack(float f) { return pack((double)f); }
};

// A number as the vendors' headers have it: it is computed with in float and rounded after each operation.
template <class Form> struct Number {
  typename Form::Bits bits;
  Number() = default;
  Number(float f) : bits(Form::pack(f)) {}
  Number(double f) : bits(Form::pack(f)) {}
  Number(int v) : bits(Form::pack((double)v)) {}
  Number(unsigned v) : bits(Form::pack((double)v)) {}
  Number(long long v) : bits(Form::pack((double)v)) {}
  Number(unsigned long long v) : bits(Form::pack((double)v)) {}
  operator float() const { return Form::unpack(bits); }
  static Number of(typename Form::Bits b) { Number n; n.bits = b; return n; }
  Number &operator+=(Number o) { return *this = *this + o; }
  Number &operator-=(Number o) { return *this = *this - o; }
  Number &operator*=(Number o) { return *this = *this * o; }
  Number &operator/=(Number o) { return *this = *this / o; }
  friend Number operator+(Number a, Number b) { return Number((float)a + (float)b); }
  friend Number operator-(Number a, Number b) { return Number((float)a - (float)b); }
  friend Number operator*(Number a, Number b) { return Number((float)a * (float)b); }
  friend Number operator/(Number a, Number b) { return Number((float)a / (float)b); }
  friend Number operator-(Number a) { return of(a.bits ^ typename Form::Bits(1u << (8 * sizeof a.bits - 1))); }
  friend bool operator==(Number a, Number b) { return (float)a == (float)b; }
  friend bool operator!=(Number a, Number b) { return (float)a != (float)b; }
  friend bool operator<(Number a, Number b) { return (float)a < (float)b; }
  friend bool operator>(Number a, Number b) { return (float)a > (float)b; }
  friend bool operator<=(Number a, Number b) { return (float)a <= (float)b; }
  friend bool operator>=(Number a, Number b) { return (float)a >= (float)b; }
};
template <class N> struct alignas(2 * sizeof(N)) Pair {
  N x, y;
  Pair() = default;
  Pair(N x, N y) : x(x), y(y) {}
};
typedef Number<Half> half_t;
typedef Number<Brain<true>> bf16_t;
typedef Number<Brain<false>> bf16_cut_t; // of storage conversions that cut
typedef Number<Tiny<4, false>> e4m3_t;
typedef Number<Tiny<5, true>> e5m2_t;
}

// The functions of a vendor's header of halves; `half` and `half2` are its names of the types.
#define SIMT_HALF_FUNCTIONS(half, half2)                                                                                              \
  inline half __float2half(float f) { return half(f); }                                                                               \
  inline half __float2half_rn(float f) { return half(f); }                                                                            \
  inline float __half2float(half h) { return (float)h; }                                                                              \
  inline half __int2half_rn(int v) { return half(v); }                                                                                \
  inline int __half2int_rn(half h) { return (int)rintf((float)h); }                                                                   \
  inline int __half2int_rz(half h) { return (int)(float)h; }                                                                          \
  inline half __ushort_as_half(unsigned short b) { return half::of(b); }                                                              \
  inline half __short_as_half(short b) { return half::of((unsigned short)b); }                                                        \
  inline unsigned short __half_as_ushort(half h) { return h.bits; }                                                                   \
  inline short __half_as_short(half h) { return (short)h.bits; }                                                                      \
  inline half2 __floats2half2_rn(float a, float b) { return {half(a), half(b)}; }                                                     \
  inline half2 __float2half2_rn(float a) { return {half(a), half(a)}; }                                                               \
  inline float2 __half22float2(half2 v) { return {(float)v.x, (float)v.y}; }                                                          \
  inline half2 __float22half2_rn(float2 v) { return {half(v.x), half(v.y)}; }                                                         \
  inline float __low2float(half2 v) { return (float)v.x; }                                                                            \
  inline float __high2float(half2 v) { return (float)v.y; }                                                                           \
  inline half __low2half(half2 v) { return v.x; }                                                                                     \
  inline half __high2half(half2 v) { return v.y; }
// Arithmetic by name, of halves and of bfloat16.
#define SIMT_SMALL_ARITHMETIC(N, N2)                                                                                                  \
  inline N __hadd(N a, N b) { return a + b; }                                                                                         \
  inline N __hsub(N a, N b) { return a - b; }                                                                                         \
  inline N __hmul(N a, N b) { return a * b; }                                                                                         \
  inline N __hdiv(N a, N b) { return a / b; }                                                                                         \
  inline N __hneg(N a) { return -a; }                                                                                                 \
  inline N __hfma(N a, N b, N c) { return N((double)(float)a * (float)b + (float)c); }                                                \
  inline bool __hgt(N a, N b) { return a > b; }                                                                                       \
  inline bool __hlt(N a, N b) { return a < b; }                                                                                       \
  inline bool __hge(N a, N b) { return a >= b; }                                                                                      \
  inline bool __hle(N a, N b) { return a <= b; }                                                                                      \
  inline bool __heq(N a, N b) { return a == b; }                                                                                      \
  inline bool __hisnan(N a) { return (float)a != (float)a; }                                                                          \
  inline N2 __hadd2(N2 a, N2 b) { return {a.x + b.x, a.y + b.y}; }                                                                    \
  inline N2 __hsub2(N2 a, N2 b) { return {a.x - b.x, a.y - b.y}; }                                                                    \
  inline N2 __hmul2(N2 a, N2 b) { return {a.x * b.x, a.y * b.y}; }                                                                    \
  inline N2 __hfma2(N2 a, N2 b, N2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }                                      \
  inline N hsqrt(N a) { return N(sqrtf((float)a)); }                                                                                  \
  inline N hrcp(N a) { return N(1.0f / (float)a); }                                                                                   \
  inline N hrsqrt(N a) { return N(1.0 / sqrt((double)(float)a)); }
// What some vendors leave out.
#define SIMT_SMALL_EXTREMES(N) \
  inline N __hmax(N a, N b) { return (float)a != (float)a || (float)a < (float)b ? b : a; } \
  inline N __hmin(N a, N b) { return (float)a != (float)a || (float)b < (float)a ? b : a; }
#define SIMT_SMALL_EXTREMES_NAN(N) \
  inline N __hmax_nan(N a, N b) { return (float)a != (float)a ? a : (float)b != (float)b ? b : a < b ? b : a; } \
  inline N __hmin_nan(N a, N b) { return (float)a != (float)a ? a : (float)b != (float)b ? b : b < a ? b : a; } \
  inline N __habs(N a) { return N(fabsf((float)a)); }
#define SIMT_SMALL_WAVES(N) \
  inline N hsin(N a) { return N(sin((double)(float)a)); } \
  inline N hcos(N a) { return N(cos((double)(float)a)); }
#define SIMT_SMALL_EXPONENTIALS(N) \
  inline N hexp(N a) { return N(exp((double)(float)a)); } \
  inline N hlog(N a) { return N(log((double)(float)a)); }
#define SIMT_BRAIN_FUNCTIONS(brain, brain2)                                                                                           \
  inline brain __float2bfloat16(float f) { return brain(f); }                                                                         \
  inline float __bfloat162float(brain h) { return (float)h; }                                                                         \
  inline brain __ushort_as_bfloat16(unsigned short b) { return brain::of(b); }                                                        \
  inline unsigned short __bfloat16_as_ushort(brain h) { return h.bits; }                                                              \
  inline brain2 __floats2bfloat162_rn(float a, float b) { return {brain(a), brain(b)}; }                                              \
  inline float2 __bfloat1622float2(brain2 v) { return {(float)v.x, (float)v.y}; }                                                     \
  inline brain2 __float22bfloat162_rn(float2 v) { return {brain(v.x), brain(v.y)}; }
