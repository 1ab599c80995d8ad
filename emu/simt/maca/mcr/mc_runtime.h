// SPDX-License-Identifier: Apache-2.0 OR MIT
// MACA C++: CUDA's spelling, with masks of 64 bits. A mask of fewer is half a warp, and does not compile here.
#pragma once
#include "../../core/simt.h"
#define SIMT_PREFIX mc
#define SIMT_MALLOC mcMalloc
#define SIMT_ERROR_MEMORY mcErrorMemoryAllocation
#include "../../core/api.h"
#include "../../core/matrix.h"

#define __MACACC__ 1
static const int warpSize = SIMT_LANES;
namespace simt {
struct WideMask {
  unsigned long long lanes;
  WideMask(unsigned long long lanes) : lanes(lanes) {}
  WideMask(unsigned long lanes) : lanes(lanes) {}
  WideMask(long lanes) : lanes((unsigned long long)lanes) {}
  WideMask(long long lanes) : lanes((unsigned long long)lanes) {}
  WideMask(unsigned) = delete;
  WideMask(int) = delete;
};
inline Lanes named(WideMask mask) { return mask.lanes; }
inline unsigned long long votes(Lanes v) { return (unsigned long long)v; }
}
#define SIMT_MASK simt::WideMask
#define SIMT_BALLOT unsigned long long
#define SIMT_WHO simt::Named
#include "../../core/named.h"
inline unsigned __lane_id() { return simt::lane(); }
SIMT_ATOMIC(atomicAdd, double, old + v)

// As the vendor's template library declares them; the fragments are those of v_mfma_*_16x16x*.
SIMT_PRODUCT(__builtin_mxc_mma_16x16x16f16, f16x4, f32x4, OfHalf, Quads, 16)
SIMT_PRODUCT(__builtin_mxc_mma_16x16x16bf16, s16x4, f32x4, OfBrain, Quads, 16)
SIMT_PRODUCT(__builtin_mxc_mma_16x16x8tf32, f32x2, f32x4, OfTf32, Quads, 8)
inline simt::i32x4 __builtin_mxc_mma_16x16x16i8(int a, int b, simt::i32x4 c, SIMT_SITE) {
  return simt::product<simt::OfByte, simt::Quads, 16, 16, 16>(a, b, c, "__builtin_mxc_mma_16x16x16i8", file, line);
}
