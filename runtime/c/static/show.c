/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Tensors for people, to the letter as `portwright run` shows them. */
#include "program.h"

void pw_print(int fd, const char *text) {
  size_t n = 0;
  while (text[n]) n++;
  while (n) {
    long done = write(fd, text, n);
    if (done <= 0 && *__errno_location() != 4 /* interrupted */) return;
    if (done > 0) text += done, n -= (size_t)done;
  }
}

void pw_put_bytes_of(pw_text *t, const uint8_t *from, uint64_t bytes) {
  char one[2] = {0, 0};
  for (uint64_t i = 0; i < bytes; i++) {
    one[0] = from[i] < 32 || from[i] == 127 ? '?' : (char)from[i];
    pw_put(t, one);
  }
}

void pw_put_shape(pw_text *t, const int64_t *dims, int32_t rank) {
  pw_put(t, "[");
  for (int32_t i = 0; i < rank; i++) pw_put(t, i ? ", " : ""), pw_put_int(t, dims[i]);
  pw_put(t, "]");
}

void pw_put_errno(pw_text *t, int number) { pw_put(t, strerror(number)); }

/* ---- numbers ---- */

static uint64_t bits_of(double x) {
  uint64_t b;
  memcpy(&b, &x, sizeof b);
  return b;
}

static double from_bits(uint64_t b) {
  double x;
  memcpy(&x, &b, sizeof x);
  return x;
}

static int is_nan(double x) { return x != x; }
static int is_infinite(double x) { return (bits_of(x) << 1) == 0xffe0000000000000u; }

/* 2^e, for -1022 <= e <= 1023. */
static double power(int32_t e) { return from_bits((uint64_t)(e + 1023) << 52); }

/* A float of fewer bits than a double's: `nan` says which codes are no numbers. */
enum { NAN_IEEE, NAN_ALL_ONES, NAN_NEGATIVE_ZERO, NAN_NONE };
static double small_float(uint64_t v, int32_t exponent_bits, int32_t mantissa_bits, int32_t bias, int nan) {
  int32_t all = (1 << exponent_bits) - 1, e = (int32_t)(v >> mantissa_bits) & all;
  uint64_t ones = (1ull << mantissa_bits) - 1, m = v & ones, sign = v >> (exponent_bits + mantissa_bits) & 1;
  double x;
  if (nan == NAN_IEEE && e == all) x = from_bits(0x7ff0000000000000u | (m ? 1ull << 51 : 0));
  else if ((nan == NAN_ALL_ONES && e == all && m == ones) || (nan == NAN_NEGATIVE_ZERO && sign && !e && !m)) return from_bits(0x7ff8ull << 48);
  else x = (double)(e ? m | 1ull << mantissa_bits : m) * power((e ? e : 1) - bias - mantissa_bits);
  return sign ? -x : x;
}

static uint64_t little(const uint8_t *p, uint32_t bytes) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
  return v;
}

/* Element i of a tensor; of a complex one the real part as its bits. */
static double element(const pw_named *a, uint64_t i) {
  uint32_t bits = pw_dtype_bits(a->dtype);
  const uint8_t *data = a->data;
  uint64_t v = bits < 8    ? data[i / (8 / bits)] >> bits * (i % (8 / bits)) & ((1u << bits) - 1)
               : bits > 64 ? 0
                           : little(data + i * (bits / 8), bits / 8);
  switch (a->dtype) {
    case PW_F64: return from_bits(v);
    case PW_F32: {
      uint32_t b = (uint32_t)v;
      float x;
      memcpy(&x, &b, sizeof x);
      return (double)x;
    }
    case PW_F16: return small_float(v, 5, 10, 15, NAN_IEEE);
    case PW_BF16: {
      uint32_t b = (uint32_t)v << 16;
      float x;
      memcpy(&x, &b, sizeof x);
      return (double)x;
    }
    case PW_F8E4M3FN: return small_float(v, 4, 3, 7, NAN_ALL_ONES);
    case PW_F8E4M3FNUZ: return small_float(v, 4, 3, 8, NAN_NEGATIVE_ZERO);
    case PW_F8E5M2: return small_float(v, 5, 2, 15, NAN_IEEE);
    case PW_F8E5M2FNUZ: return small_float(v, 5, 2, 16, NAN_NEGATIVE_ZERO);
    case PW_F8E8M0: return v == 255 ? from_bits(0x7ff8ull << 48) : power((int32_t)v - 127);
    case PW_F6E2M3: return small_float(v & 63, 2, 3, 1, NAN_NONE);
    case PW_F6E3M2: return small_float(v & 63, 3, 2, 3, NAN_NONE);
    case PW_F4E2M1: return small_float(v, 2, 1, 1, NAN_NONE);
    case PW_I8: return (double)(int8_t)v;
    case PW_I16: return (double)(int16_t)v;
    case PW_I32: return (double)(int32_t)v;
    case PW_I64: return (double)(int64_t)v;
    case PW_I4: return (double)((int32_t)(v ^ 8) - 8);
    case PW_I2: return (double)((int32_t)(v ^ 2) - 2);
    default: return (double)v;
  }
}

static int is_float(int32_t dtype) {
  return dtype == PW_F32 || dtype == PW_F64 || dtype == PW_F16 || (dtype >= PW_BF16 && dtype != PW_U4 && dtype != PW_I4 &&
                                                                   dtype != PW_U2 && dtype != PW_I2);
}

/* Digits of m * 2^e, 0 <= e < 1024, exactly. */
static void put_large(pw_text *t, uint64_t m, int32_t e) {
  uint32_t limb[36] = {0}; /* base 2^32, low first */
  char digits[352];
  int32_t at = sizeof digits - 1, top = 36;
  for (int32_t i = 0; i < 64; i++)
    if (m >> i & 1) limb[(e + i) / 32] |= 1u << (e + i) % 32;
  digits[at] = 0;
  do {
    uint64_t rest = 0;
    while (top > 1 && !limb[top - 1]) top--;
    for (int32_t i = top - 1; i >= 0; i--) {
      rest = rest << 32 | limb[i];
      limb[i] = (uint32_t)(rest / 10);
      rest %= 10;
    }
    digits[--at] = (char)('0' + rest);
  } while (top > 1 || limb[0]);
  pw_put(t, digits + at);
}

/* A whole number below 10^15 as such, else six digits behind the point, rounded to even from the exact value. */
static void put_short(pw_text *t, double x) {
  if (is_nan(x)) {
    pw_put(t, "NaN");
    return;
  }
  uint64_t b = bits_of(x), m = b & ((1ull << 52) - 1);
  int32_t e = (int32_t)(b >> 52 & 2047);
  if (b >> 63) pw_put(t, "-");
  if (e == 2047) {
    pw_put(t, "inf");
    return;
  }
  m = e ? m | 1ull << 52 : m;
  e = (e ? e : 1) - 1075; /* |x| = m * 2^e */
  if (e >= 0) {
    put_large(t, m, e);
    pw_put(t, ".000000");
    return;
  }
  uint64_t whole = -e < 64 ? m >> -e : 0, fraction = -e < 64 ? m & ((1ull << -e) - 1) : m;
  if (!fraction && whole < 1000000000000000u) {
    put_large(t, whole, 0);
    return;
  }
  /* fraction / 2^-e, in millionths. Below 2^-74 it is nothing, and the shift stays in 128 bits. */
  unsigned __int128 scaled = (unsigned __int128)fraction * 1000000u;
  uint64_t millionths = 0;
  if (-e < 127) {
    unsigned __int128 rest = scaled & (((unsigned __int128)1 << -e) - 1), half = (unsigned __int128)1 << (-e - 1);
    millionths = (uint64_t)(scaled >> -e);
    if (rest > half || (rest == half && millionths & 1)) millionths++;
  }
  if (millionths == 1000000u) whole++, millionths = 0;
  put_large(t, whole, 0);
  char digits[8] = ".000000";
  for (int i = 6; i > 0; i--, millionths /= 10) digits[i] = (char)('0' + millionths % 10);
  pw_put(t, digits);
}

/* ---- */

enum { PRINTED = 16, WIDTH = 80, LARGEST = 5 };

/* A line whose height follows the values. */
static void put_curve(pw_text *t, const pw_named *a, uint64_t n, double lo, double hi) {
  static const char step[8][4] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  uint64_t width = n < WIDTH ? n : WIDTH;
  for (uint64_t i = 0; i < width; i++) {
    uint64_t from = i * n / width, to = (i + 1) * n / width;
    double all = -0.0, level = 0;
    if (to <= from) to = from + 1;
    for (uint64_t k = from; k < to; k++) all += element(a, k);
    if (hi > lo) level = (all / (double)(to - from) - lo) / (hi - lo) * 7.0;
    int whole = level >= 7 ? 7 : level > 0 ? (int)level : 0;
    pw_put(t, step[whole < 7 && level - whole >= 0.5 ? whole + 1 : whole]);
  }
}

/* The places of the largest elements, the first of equal ones first; how many. */
static uint32_t find_largest(const pw_named *a, uint64_t n, uint64_t place[LARGEST]) {
  uint32_t count = 0;
  for (uint64_t i = 0; i < n; i++) {
    double x = element(a, i);
    /* Zeros are ordered by their signs. */
    int64_t key = (int64_t)bits_of(x), other;
    key ^= (int64_t)((uint64_t)(key >> 63) >> 1);
    uint32_t at = count;
    for (; at > 0; at--) {
      other = (int64_t)bits_of(element(a, place[at - 1]));
      other ^= (int64_t)((uint64_t)(other >> 63) >> 1);
      if (other >= key) break;
      if (at < LARGEST) place[at] = place[at - 1];
    }
    if (at < LARGEST) place[at] = i, count += count < LARGEST;
  }
  return count;
}

void pw_show(const pw_named *a) {
  static char line[8192];
  pw_text t = pw_text_in(line, sizeof line);
  uint64_t n = (uint64_t)pw_bytes_of(a->dims, a->rank, 8), nan = 0, infinite = 0, finite = 0;
  double lo = from_bits(0x7ffull << 52), hi = -lo, all = -0.0;
  for (uint64_t i = 0; i < n; i++) {
    double x = element(a, i);
    if (is_nan(x)) nan++;
    else if (is_infinite(x)) infinite++;
    else {
      finite++, all += x;
      if (x < lo) lo = x;
      if (x > hi) hi = x;
    }
  }
  pw_put_bytes_of(&t, (const uint8_t *)a->name, __builtin_strlen(a->name));
  pw_put(&t, ": "), pw_put_dtype(&t, a->dtype), pw_put_shape(&t, a->dims, a->rank);
  if (n > 1 && finite) {
    pw_put(&t, "  min "), put_short(&t, lo), pw_put(&t, " max "), put_short(&t, hi);
    pw_put(&t, " mean "), put_short(&t, all / (double)finite);
  }
  if (nan + infinite) {
    pw_put(&t, "  ("), pw_put_int(&t, (int64_t)nan), pw_put(&t, " NaN, "), pw_put_int(&t, (int64_t)infinite), pw_put(&t, " infinite)");
  }
  pw_put(&t, "\n");
  int32_t axes = 0;
  for (int32_t i = 0; i < a->rank; i++) axes += a->dims[i] > 1;
  if (n <= PRINTED) {
    pw_put(&t, "  [");
    for (uint64_t i = 0; i < n; i++) pw_put(&t, i ? ", " : ""), put_short(&t, element(a, i));
    pw_put(&t, "]\n");
  } else if (axes == 1 && nan + infinite == 0) {
    pw_put(&t, "  "), put_curve(&t, a, n, lo, hi), pw_put(&t, "\n");
  }
  int64_t last = a->rank ? a->dims[a->rank - 1] : 0;
  if (is_float(a->dtype) && last > 1 && n == (uint64_t)last && nan == 0) {
    uint64_t place[LARGEST];
    uint32_t count = find_largest(a, n, place);
    pw_put(&t, "  largest: ");
    for (uint32_t i = 0; i < count; i++) {
      pw_put(&t, i ? ", " : ""), pw_put_int(&t, (int64_t)place[i]), pw_put(&t, " (");
      put_short(&t, element(a, place[i])), pw_put(&t, ")");
    }
    pw_put(&t, "\n");
  }
  pw_print(1, line);
}
