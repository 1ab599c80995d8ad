// SPDX-License-Identifier: Apache-2.0 OR MIT
// Functions of device code beside those of <math.h>. Approximate forms are as exact as the CPU's: an emulator shows wrong code, not the
// last bits of a chip.
#pragma once

#define SIMT_BITS(name, To, From) \
  inline To name(From v) { static_assert(sizeof(To) == sizeof(From)); To t; __builtin_memcpy(&t, &v, sizeof t); return t; }
SIMT_BITS(__float_as_int, int, float)
SIMT_BITS(__float_as_uint, unsigned, float)
SIMT_BITS(__int_as_float, float, int)
SIMT_BITS(__uint_as_float, float, unsigned)
SIMT_BITS(__double_as_longlong, long long, double)
SIMT_BITS(__longlong_as_double, double, long long)

inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return (float)pow(10.0, (double)x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
inline float sinpif(float x) { return (float)sin(M_PI * (double)x); }
inline float cospif(float x) { return (float)cos(M_PI * (double)x); }
inline double normcdf(double x) { return 0.5 * erfc(-M_SQRT1_2 * x); }
inline float normcdff(float x) { return (float)(0.5 * erfc(-M_SQRT1_2 * (double)x)); }

// Conversions saturate, and NaN becomes 0 (PTX ISA, cvt).
template <class To> inline To __simt_convert(double v) {
  constexpr bool SIGNED = To(-1) < To(0);
  constexpr To MOST = SIGNED ? To(~(To(1) << (8 * sizeof(To) - 1))) : To(-1);
  // A power of two each, so exact.
  constexpr double HIGH = 2.0 * (double)(MOST / 2 + 1), LOW = SIGNED ? -HIGH : 0.0;
  return v != v ? To(0) : v < LOW ? (SIGNED ? To(~MOST) : To(0)) : v >= HIGH ? MOST : To(v);
}
#define SIMT_CONVERSIONS(from, From, to, To)                                                              \
  inline To __##from##2##to##_rn(From v) { return __simt_convert<To>(rint((double)v)); }                  \
  inline To __##from##2##to##_rz(From v) { return __simt_convert<To>(trunc((double)v)); }                 \
  inline To __##from##2##to##_rd(From v) { return __simt_convert<To>(floor((double)v)); }                 \
  inline To __##from##2##to##_ru(From v) { return __simt_convert<To>(ceil((double)v)); }
SIMT_CONVERSIONS(float, float, int, int)
SIMT_CONVERSIONS(float, float, uint, unsigned)
SIMT_CONVERSIONS(float, float, ll, long long)
SIMT_CONVERSIONS(double, double, int, int)
SIMT_CONVERSIONS(double, double, uint, unsigned)
SIMT_CONVERSIONS(double, double, ll, long long)
inline float __int2float_rn(int v) { return (float)v; }
inline float __uint2float_rn(unsigned v) { return (float)v; }
inline float __ll2float_rn(long long v) { return (float)v; }
inline double __int2double_rn(int v) { return v; }
inline float __double2float_rn(double v) { return (float)v; }

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) { return __builtin_bitreverse32(v); }
inline unsigned long long __brevll(unsigned long long v) { return __builtin_bitreverse64(v); }
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __mul24(int a, int b) { return (int)((unsigned)(a << 8 >> 8) * (unsigned)(b << 8 >> 8)); }
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffff) * (b & 0xffffff); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return (unsigned)(((unsigned long long)high << 32 | low) << (by & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (by & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  unsigned long long both = (unsigned long long)b << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) {
    unsigned s = selector >> 4 * i & 15, byte = (unsigned)(both >> 8 * (s & 7)) & 0xff;
    r |= (s & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
  }
  return r;
}

template <class T> inline T __ldg(const T *p) { return *p; }

#define SIMT_EXTREMES(T) \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
SIMT_EXTREMES(int) SIMT_EXTREMES(unsigned) SIMT_EXTREMES(long) SIMT_EXTREMES(unsigned long)
SIMT_EXTREMES(long long) SIMT_EXTREMES(unsigned long long)
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
