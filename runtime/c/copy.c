/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Layouts: sizes, density, and copies between a strided and a dense tensor. */
#include "rt.h"

int pw_is_dense(const int64_t *dims, int32_t rank, const int64_t *strides) {
  if (!strides) return 1;
  int64_t expected = 1;
  int dense = 1;
  for (int32_t i = rank - 1; i >= 0; i--) {
    if (dims[i] == 0) return 1; /* no element, no place */
    if (dims[i] != 1 && strides[i] != expected) dense = 0;
    expected = (int64_t)((uint64_t)expected * (uint64_t)dims[i]);
  }
  return dense;
}

int64_t pw_bytes_of(const int64_t *dims, int32_t rank, uint32_t bits) {
  int64_t n = 1, size;
  for (int32_t i = 0; i < rank; i++)
    if (dims[i] == 0) return 0;
  for (int32_t i = 0; i < rank; i++)
    if (__builtin_mul_overflow(n, dims[i], &n)) return -1;
  if (bits < 8) return n / (8 / bits) + (n % (8 / bits) != 0);
  return __builtin_mul_overflow(n, (int64_t)(bits / 8), &size) ? -1 : size;
}

static void copy_bits(uint8_t *to, int64_t i, const uint8_t *from, int64_t j, uint32_t bits) {
  int64_t each = 8 / bits;
  int64_t a = i >= 0 ? i / each : -((-i + each - 1) / each), b = j >= 0 ? j / each : -((-j + each - 1) / each);
  uint32_t mask = (1u << bits) - 1, left = (uint32_t)(i - a * each) * bits, right = (uint32_t)(j - b * each) * bits;
  to[a] = (uint8_t)((to[a] & ~(mask << left)) | (((uint32_t)from[b] >> right & mask) << left));
}

/* A row of elements whose strides are known: the sizes that matter get a loop of their own. */
static void copy_row(uint8_t *to, int64_t a, const uint8_t *from, int64_t b, int64_t n, uint32_t bits) {
#define ROW(type)                                                                                             \
  for (int64_t i = 0; i < n; i++) __builtin_memcpy(to + i * a * (int64_t)sizeof(type), from + i * b * (int64_t)sizeof(type), sizeof(type)); \
  return
  switch (bits) {
    case 8: ROW(uint8_t);
    case 16: ROW(uint16_t);
    case 32: ROW(uint32_t);
    case 64: ROW(uint64_t);
    default:
      for (int64_t i = 0; i < n; i++) __builtin_memcpy(to + i * a * (bits / 8), from + i * b * (bits / 8), bits / 8);
  }
#undef ROW
}

void pw_copy(uint8_t *to, const int64_t *to_strides, const uint8_t *from, const int64_t *from_strides, const int64_t *dims,
             int32_t rank, uint32_t bits) {
  /* Axes without those of one element, neighbours joined where both sides allow it. */
  int64_t size[PW_MAX_RANK], a[PW_MAX_RANK], b[PW_MAX_RANK], at[PW_MAX_RANK];
  int32_t n = 0;
  int64_t dense = 1, i = 0, j = 0;
  for (int32_t axis = rank - 1; axis >= 0; axis--) {
    if (dims[axis] == 0) return;
    int64_t sa = to_strides ? to_strides[axis] : dense, sb = from_strides ? from_strides[axis] : dense;
    dense *= dims[axis];
    if (dims[axis] == 1) continue;
    if (n && sa == a[n - 1] * size[n - 1] && sb == b[n - 1] * size[n - 1]) {
      size[n - 1] *= dims[axis];
      continue;
    }
    size[n] = dims[axis], a[n] = sa, b[n] = sb, at[n] = 0, n++;
  }
  if (n == 0) size[0] = 1, a[0] = b[0] = 1, at[0] = 0, n = 1;
  for (;;) {
    if (bits < 8)
      for (int64_t k = 0; k < size[0]; k++) copy_bits(to, i + k * a[0], from, j + k * b[0], bits);
    else if (a[0] == 1 && b[0] == 1) memcpy(to + i * (bits / 8), from + j * (bits / 8), (size_t)(size[0] * (bits / 8)));
    else copy_row(to + i * (bits / 8), a[0], from + j * (bits / 8), b[0], size[0], bits);
    int32_t axis = 1;
    for (; axis < n; axis++) {
      i += a[axis], j += b[axis];
      if (++at[axis] < size[axis]) break;
      i -= a[axis] * size[axis], j -= b[axis] * size[axis];
      at[axis] = 0;
    }
    if (axis >= n) return;
  }
}
