// SPDX-License-Identifier: Apache-2.0 OR MIT
// Short vectors, with the alignment that vector loads ask for.
#pragma once

#define SIMT_VECTORS(T, name, one, two, four)                                                                  \
  struct name##1 { T x; };                                                                                     \
  struct alignas(two) name##2 { T x, y; };                                                                     \
  struct alignas(one) name##3 { T x, y, z; };                                                                  \
  struct alignas(four) name##4 { T x, y, z, w; };                                                              \
  inline name##1 make_##name##1(T x) { return {x}; }                                                  \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                          \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                  \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

SIMT_VECTORS(signed char, char, 1, 2, 4)
SIMT_VECTORS(unsigned char, uchar, 1, 2, 4)
SIMT_VECTORS(short, short, 2, 4, 8)
SIMT_VECTORS(unsigned short, ushort, 2, 4, 8)
SIMT_VECTORS(int, int, 4, 8, 16)
SIMT_VECTORS(float, float, 4, 8, 16)
SIMT_VECTORS(long long, longlong, 8, 16, 16)
SIMT_VECTORS(unsigned long long, ulonglong, 8, 16, 16)
SIMT_VECTORS(double, double, 8, 16, 16)
struct uint1 { unsigned x; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
