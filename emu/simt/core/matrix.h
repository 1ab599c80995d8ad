// SPDX-License-Identifier: Apache-2.0 OR MIT
// Products of fragments: a warp's lanes hold small matrices, each lane some elements of each.
#pragma once

namespace simt {

struct Place { int row, column; };

// Where element `i` of the `count` that lane `l` holds lies, in A (rows x depth), B (depth x columns) and C (rows x columns). One table for
// all dialects; its vectors are in the tests.
enum Layout {
  Quads,      // 64 lanes, 16x16: depth runs over registers (AMD's instruction calculator: v_mfma_*_16x16x*)
  Interleaved, // 64 lanes, 16x16, numbers of 16 bits: rows of A in pairs, 8 apart; depth runs over lanes
  Spread,     // 64 lanes, 16x16, numbers of 32 bits: rows of A four apart; depth runs over lanes
  Packed,     // 64 lanes, 16x16, bytes: four rows of A in a register; depth runs over lanes and registers
};
constexpr Place place_a(Layout layout, int l, int i, int count) {
  int g = l / 16, c = l % 16;
  switch (layout) {
  case Quads: return {c, count * g + i};
  case Interleaved: return {2 * g + i % 2 + 8 * (i / 2), c};
  case Spread: return {g + 4 * i, c};
  default: return {4 * g + i % 4, c + 16 * (i / 4)};
  }
}
constexpr Place place_b(Layout layout, int l, int i, int count) {
  int g = l / 16, c = l % 16;
  switch (layout) {
  case Quads: return {count * g + i, c};
  case Interleaved: return {2 * g + i % 2 + 8 * (i / 2), c};
  case Spread: return {g + 4 * i, c};
  default: return {4 * g + i % 4 + 16 * (i / 4), c};
  }
}
constexpr Place place_c(Layout layout, int l, int i, int) {
  int g = l / 16, c = l % 16;
  return layout == Quads ? Place{4 * g + i, c} : Place{g + 4 * i, c};
}

// How the bits of operands are read.
struct OfHalf { typedef _Float16 Bits; typedef float Sum; static float value(Bits b) { return (float)b; } };
struct OfBrain { typedef uint16_t Bits; typedef float Sum; static float value(Bits b) { return float_of((uint32_t)b << 16); } };
struct OfFloat { typedef float Bits; typedef float Sum; static float value(Bits b) { return b; } };
// 10 bits of mantissa are multiplied.
struct OfTf32 { typedef float Bits; typedef float Sum; static float value(Bits b) { return float_of(bits_of(b) & ~0x1fffu); } };
struct OfDouble { typedef double Bits; typedef double Sum; static double value(Bits b) { return b; } };
struct OfByte { typedef int8_t Bits; typedef int32_t Sum; static int32_t value(Bits b) { return b; } };

template <class Of, Layout layout, int rows, int columns, int depth> SIMT_OWN void product_all(Team &t) {
  typedef typename Of::Sum Sum;
  constexpr int lanes = 64, in_a = rows * depth / lanes, in_b = depth * columns / lanes, in_c = rows * columns / lanes;
  static_assert(SIMT_LANES >= lanes || SIMT_LANES == 32);
  Sum a[rows][depth], b[depth][columns];
  for (int l = 0; l < lanes; l++) {
    if (!t.has((unsigned)l)) {
      unsigned other = 0;
      while (!t.has(other)) other++;
      return t.refuse(other, "%s of line %d needs all %d lanes, and lane %d is not there", t.call[other]->what, t.call[other]->line, lanes, l);
    }
    typename Of::Bits from[in_a + in_b];
    memcpy(from, t.call[l]->in, sizeof from);
    for (int i = 0; i < in_a; i++) {
      Place p = place_a(layout, l, i, in_a);
      a[p.row][p.column] = Of::value(from[i]);
    }
    for (int i = 0; i < in_b; i++) {
      Place p = place_b(layout, l, i, in_b);
      b[p.row][p.column] = Of::value(from[in_a + i]);
    }
  }
  for (int l = 0; l < lanes; l++) {
    Sum c[in_c];
    memcpy(c, (const char *)t.call[l]->in + (in_a + in_b) * sizeof(typename Of::Bits), sizeof c);
    for (int i = 0; i < in_c; i++) {
      Place p = place_c(layout, l, i, in_c);
      if constexpr (__is_same(Sum, int32_t)) {
        uint32_t sum = (uint32_t)c[i];
        for (int k = 0; k < depth; k++) sum += (uint32_t)(a[p.row][k] * b[k][p.column]);
        c[i] = (int32_t)sum;
      } else {
        for (int k = 0; k < depth; k++) c[i] += a[p.row][k] * b[k][p.column];
      }
    }
    memcpy(t.out[l], c, sizeof c);
  }
}

// C + A x B of a warp's fragments; A and B are vectors of the bits that `Of` reads.
template <class Of, Layout layout, int rows, int columns, int depth, class A, class C>
SIMT_OWN inline C product(A a, A b, C c, const char *what, const char *file, int line) {
  constexpr int lanes = 64;
  static_assert(sizeof(A) == rows * depth / lanes * sizeof(typename Of::Bits) && rows == columns);
  static_assert(sizeof(C) == rows * columns / lanes * sizeof(typename Of::Sum));
  struct { A a, b; char c[sizeof(C)]; } given = {a, b, {}};
  memcpy(given.c, &c, sizeof c);
  static_assert(sizeof given <= 64);
  C result;
  meet(Together, all_lanes, {product_all<Of, layout, rows, columns, depth>, what, file, line, 0, &given, 2 * sizeof(A) + sizeof(C)}, &result);
  return result;
}

typedef _Float16 f16x4 __attribute__((ext_vector_type(4)));
typedef short s16x4 __attribute__((ext_vector_type(4)));
typedef float f32x4 __attribute__((ext_vector_type(4)));
typedef float f32x2 __attribute__((ext_vector_type(2)));
typedef int i32x2 __attribute__((ext_vector_type(2)));
typedef int i32x4 __attribute__((ext_vector_type(4)));
typedef double f64x4 __attribute__((ext_vector_type(4)));
}

#define SIMT_PRODUCT(name, A, C, Of, layout, depth)                                                              \
  inline simt::C name(simt::A a, simt::A b, simt::C c, SIMT_SITE) {                                              \
    return simt::product<simt::Of, simt::layout, 16, 16, depth>(a, b, c, #name, file, line);                     \
  }
