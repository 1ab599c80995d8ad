// SPDX-License-Identifier: Apache-2.0 OR MIT
// MUSA C++: CUDA's spelling. Masks have 32 bits; where a warp has 128 lanes, they name those of the 32 that the lane is among.
#pragma once
#include "../core/simt.h"
#define SIMT_PREFIX musa
#define SIMT_MALLOC musaMalloc
#define SIMT_ERROR_MEMORY musaErrorMemoryAllocation
#include "../core/api.h"

#define __MUSACC__ 1
static const int warpSize = SIMT_LANES;
#define SIMT_MASK unsigned
#define SIMT_BALLOT unsigned
#define SIMT_WHO simt::Named
namespace simt {
inline Lanes named(unsigned mask) { return (Lanes)mask << lane() / 32 * 32; }
inline unsigned votes(Lanes v) { return (unsigned)(v >> lane() / 32 * 32); }
}
#include "../core/named.h"
#if SIMT_LANES == 32
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) { simt::warp_barrier(simt::named(mask), file, line); }
#endif
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += (int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
  return c;
}
