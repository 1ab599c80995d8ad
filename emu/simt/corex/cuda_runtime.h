// SPDX-License-Identifier: Apache-2.0 OR MIT
// CoreX: CUDA's names on warps of 64 lanes. A mask of 32 ones is all lanes; __syncwarp orders lanes, not what they wrote. What CUDA writes as
// inline assembly (__ldcs and its like) does not compile.
#pragma once
#include "../core/simt.h"
#define SIMT_PREFIX cuda
#define SIMT_MALLOC cudaMalloc
#define SIMT_ERROR_MEMORY cudaErrorMemoryAllocation
#include "../core/api.h"
#include "../core/matrix.h"

#define __CUDACC__ 1
#define CUDART_VERSION 10020
static const int warpSize = SIMT_LANES;
#define SIMT_MASK unsigned long long
#define SIMT_BALLOT unsigned long long
#define SIMT_WHO simt::Named
namespace simt {
inline Lanes named(unsigned long long mask) { return mask == 0xffffffffu ? all_lanes : (Lanes)mask; }
inline unsigned long long votes(Lanes v) { return (unsigned long long)v; }
}
#include "../core/named.h"
inline void __syncwarp(unsigned long long mask = ~0ull, SIMT_SITE) { simt::warp_barrier(simt::named(mask), file, line); }

// As the vendor's wmma header declares them.
SIMT_PRODUCT(__ivcorex_matrix_mad_f32x4_f16x4, f16x4, f32x4, OfHalf, Interleaved, 16)
SIMT_PRODUCT(__ivcorex_matrix_mad_f32x4_bf16x4, s16x4, f32x4, OfBrain, Interleaved, 16)
SIMT_PRODUCT(__ivcorex_matrix_mad_f32x4_f32x4, f32x4, f32x4, OfFloat, Spread, 16)
SIMT_PRODUCT(__ivcorex_matrix_mad_i32x4_i8x8, i32x2, i32x4, OfByte, Packed, 32)
inline int __ivcorex_lane_id() { return (int)simt::lane(); }
