// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: hip:gfx936 maca: corex:
// Products of fragments: matrices laid out by the published places, against plain products, and vectors of those places.
// mutate: "4 * (lane / 16) + i; // depth" -> "4 * (lane / 16) + 3 - i % 2; // depth" : product
// mutate: "if (true)" -> "if (lane < 32)" : needs all 64 lanes
#include "dialect.h"

#if __has_include(<hip/hip_runtime.h>)
#define HALVES(a, b, c) __builtin_amdgcn_mmac_f32_16x16x16f16(a, b, c)
#define BYTES(a, b, c) __builtin_amdgcn_mmac_i32_16x16x32i8(a, b, c)
#elif __has_include(<mcr/mc_runtime.h>)
#define HALVES(a, b, c) __builtin_mxc_mma_16x16x16f16(a, b, c)
#else
#define HALVES(a, b, c) __ivcorex_matrix_mad_f32x4_f16x4(a, b, c)
#define BYTES(a, b, c) __ivcorex_matrix_mad_i32x4_i8x8(a, b, c)
#define SPREAD 1
#endif
typedef _Float16 h4 __attribute__((ext_vector_type(4)));
typedef float f4 __attribute__((ext_vector_type(4)));
typedef int i2 __attribute__((ext_vector_type(2)));
typedef int i4 __attribute__((ext_vector_type(4)));

// Row of A (column of B) and depth of element i of a lane, of halves; row of the result.
__device__ void place(int lane, int i, int &row, int &depth) {
#ifdef SPREAD
  row = lane % 16, depth = 0;
#else
  row = lane % 16, depth = 4 * (lane / 16) + i; // depth
#endif
}
__global__ void __launch_bounds__(64) halves(const float *a, const float *b, float *c) {
  const int lane = threadIdx.x;
  h4 x, y;
  f4 z;
  for (int i = 0; i < 4; i++) {
#ifdef SPREAD
    const int many = 2 * (lane / 16) + i % 2 + 8 * (i / 2), one = lane % 16;
    x[i] = (_Float16)a[many * 16 + one], y[i] = (_Float16)b[many * 16 + one];
    z[i] = c[(lane / 16 + 4 * i) * 16 + lane % 16];
#else
    int row, depth;
    place(lane, i, row, depth);
    x[i] = (_Float16)a[row * 16 + depth], y[i] = (_Float16)b[(4 * (lane / 16) + i) * 16 + row];
    z[i] = c[(4 * (lane / 16) + i) * 16 + lane % 16];
#endif
  }
  if (true) z = HALVES(x, y, z);
  for (int i = 0; i < 4; i++) {
#ifdef SPREAD
    c[(lane / 16 + 4 * i) * 16 + lane % 16] = z[i];
#else
    c[(4 * (lane / 16) + i) * 16 + lane % 16] = z[i];
#endif
  }
}
#ifdef BYTES
__global__ void __launch_bounds__(64) bytes(const signed char *a, const signed char *b, int *c) {
  const int lane = threadIdx.x, g = lane / 16, o = lane % 16;
  signed char x[8], y[8];
  i2 p, q;
  i4 z = 0;
  for (int i = 0; i < 8; i++) {
#ifdef SPREAD
    x[i] = a[(4 * g + i % 4) * 32 + o + 16 * (i / 4)], y[i] = b[(4 * g + i % 4 + 16 * (i / 4)) * 16 + o];
#else
    x[i] = a[o * 32 + 8 * g + i], y[i] = b[(8 * g + i) * 16 + o];
#endif
  }
  memcpy(&p, x, 8), memcpy(&q, y, 8);
  z = BYTES(p, q, z);
#ifdef SPREAD
  for (int i = 0; i < 4; i++) c[(g + 4 * i) * 16 + o] = z[i];
#else
  for (int i = 0; i < 4; i++) c[(4 * g + i) * 16 + o] = z[i];
#endif
}
#endif

// Where the sheets of the vendors and AMD's instruction calculator say that elements lie: layout, operand, lane, element, count, row, column.
constexpr int PLACES[][7] = {
    {simt::Quads, 'a', 0, 0, 4, 0, 0},        {simt::Quads, 'a', 17, 2, 4, 1, 6},       {simt::Quads, 'a', 63, 3, 4, 15, 15},
    {simt::Quads, 'b', 17, 2, 4, 6, 1},       {simt::Quads, 'c', 0, 3, 4, 3, 0},        {simt::Quads, 'c', 37, 1, 4, 9, 5},
    {simt::Quads, 'a', 20, 5, 8, 4, 13},      {simt::Interleaved, 'a', 0, 2, 4, 8, 0},  {simt::Interleaved, 'a', 35, 3, 4, 13, 3},
    {simt::Interleaved, 'b', 35, 3, 4, 13, 3}, {simt::Interleaved, 'c', 35, 3, 4, 14, 3}, {simt::Spread, 'a', 20, 2, 4, 9, 4},
    {simt::Packed, 'a', 20, 6, 8, 6, 20},     {simt::Packed, 'b', 20, 6, 8, 22, 4},     {simt::Packed, 'c', 20, 3, 4, 13, 4},
};

int main() {
  for (const int(&p)[7] : PLACES) {
    const simt::Layout l = (simt::Layout)p[0];
    simt::Place at = p[1] == 'a' ? place_a(l, p[2], p[3], p[4]) : p[1] == 'b' ? place_b(l, p[2], p[3], p[4]) : place_c(l, p[2], p[3], p[4]);
    if (at.row != p[5] || at.column != p[6]) wrong("layout %d, %c, lane %d, element %d", p[0], p[1], p[2], p[3]);
  }
  Numbers<float> a(256), b(256), c(256);
  double want[256];
  for (int i = 0; i < 256; i++) a[i] = (int)(8 * noise(i)), b[i] = (int)(8 * noise(i + 400)), want[i] = c[i] = (float)i;
  for (int i = 0; i < 256; i++)
    for (int k = 0; k < 16; k++) want[i] += a[i / 16 * 16 + k] * b[k * 16 + i % 16];
  halves<<<1, 64>>>(a.in(), b.in(), c.in());
  c.out();
  for (int i = 0; i < 256; i++) near(c[i], want[i], 0, "product", i);
#ifdef BYTES
  Numbers<signed char> p(512), q(512);
  Numbers<int> r(256);
  for (int i = 0; i < 512; i++) p[i] = (signed char)(127 * noise(i)), q[i] = (signed char)(127 * noise(i + 900));
  bytes<<<1, 64>>>(p.in(), q.in(), r.device);
  r.out();
  for (int i = 0; i < 256; i++) {
    int sum = 0;
    for (int k = 0; k < 32; k++) sum += p[i / 16 * 32 + k] * q[k * 16 + i % 16];
    near(r[i], sum, 0, "product of bytes", i);
  }
#endif
}
