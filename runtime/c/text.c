/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Messages without a C library, and the names of things in them. */
#include "rt.h"

pw_text pw_text_in(char *memory, size_t bytes) {
  pw_text t = {memory, memory + bytes - 1};
  *memory = 0;
  return t;
}

void pw_put(pw_text *t, const char *s) {
  while (s && *s && t->at < t->end) *t->at++ = *s++;
  *t->at = 0;
}

static void put_unsigned(pw_text *t, uint64_t n) {
  char digits[24];
  int i = sizeof digits - 1;
  digits[i] = 0;
  do {
    digits[--i] = (char)('0' + n % 10);
  } while (n /= 10);
  pw_put(t, digits + i);
}

void pw_put_int(pw_text *t, int64_t n) {
  if (n < 0) pw_put(t, "-");
  put_unsigned(t, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
}

void pw_put_bytes(pw_text *t, uint64_t bytes) {
  put_unsigned(t, bytes);
  pw_put(t, " bytes");
}

void pw_put_dims(pw_text *t, const int64_t *dims, int32_t rank) {
  pw_put(t, "[");
  for (int32_t i = 0; i < rank; i++) {
    if (i) pw_put(t, ",");
    pw_put_int(t, dims[i]);
  }
  pw_put(t, "]");
}

static const struct {
  const char *name;
  uint8_t bits;
} dtypes[] = {
    {"none", 0},    {"f32", 32},        {"u8", 8},     {"i8", 8},     {"u16", 16},     {"i16", 16},
    {"i32", 32},    {"i64", 64},        {"str", 0},    {"bool", 8},   {"f16", 16},     {"f64", 64},
    {"u32", 32},    {"u64", 64},        {"c64", 64},   {"c128", 128}, {"bf16", 16},    {"f8e4m3fn", 8},
    {"f8e4m3fnuz", 8}, {"f8e5m2", 8},   {"f8e5m2fnuz", 8}, {"u4", 4}, {"i4", 4},       {"f4e2m1", 4},
    {"f8e8m0", 8},  {"u2", 2},          {"i2", 2},     {"f6e2m3", 8}, {"f6e3m2", 8},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

uint32_t pw_stored_bits(int32_t dtype) { return dtype == PW_STR ? 64 : pw_dtype_bits(dtype); }

uint32_t pw_dtype_bits(int32_t dtype) { return dtype > 0 && dtype < DTYPES ? dtypes[dtype].bits : 0; }

void pw_put_dtype(pw_text *t, int32_t dtype) {
  if (dtype >= 0 && dtype < DTYPES) pw_put(t, dtypes[dtype].name);
  else pw_put(t, "dtype "), pw_put_int(t, dtype);
}

const char *pw_feature_name(uint32_t bit) {
  switch (bit) {
#if defined(__x86_64__)
#define PW_X86(number, name, leaf, sub, reg, bit, state) \
  case number: return name;
#elif defined(__aarch64__)
#define PW_A64(number, name, word, bit) \
  case number: return name;
#elif defined(__riscv)
#define PW_RV(number, name, key, bit, letter) \
  case number: return name;
#elif defined(__loongarch__)
#define PW_LA(number, name, capability, word, bit) \
  case number: return name;
#endif
#include "features.def"
  }
  return "a feature unknown to this runtime";
}
