// SPDX-License-Identifier: Apache-2.0 OR MIT
// HIP C++ (HIP documentation, "HIP C++ language extensions"): the lanes that run take part; the forms that name lanes want masks of 64 bits.
#pragma once
#include "../../core/simt.h"
#define SIMT_PREFIX hip
#define SIMT_MALLOC hipMalloc
#define SIMT_ERROR_MEMORY hipErrorOutOfMemory
#include "../../core/api.h"
#include "../../core/matrix.h"

#define __HIP_PLATFORM_AMD__ 1
static const int warpSize = SIMT_LANES;
#define HIP_DYNAMIC_SHARED(T, name) extern __shared__ T name[];

#define SIMT_BALLOT unsigned long long
#include "../../core/unnamed.h"
namespace simt {
template <class M> inline Lanes named(M mask) {
  static_assert(sizeof(M) == 8, "the mask must be a 64-bit integer");
  return (Lanes)(unsigned long long)mask;
}
}
#define SIMT_WIDE_SHUFFLE(name, Arg, mode)                                                                                 \
  template <class M, class T> inline T name(M mask, T value, Arg by, int width = SIMT_WIDTH, SIMT_SITE) {                   \
    return simt::shuffle(simt::Named, simt::named(mask), value, simt::mode, (int)by, width, #name, file, line);             \
  }
SIMT_WIDE_SHUFFLE(__shfl_sync, int, Index)
SIMT_WIDE_SHUFFLE(__shfl_up_sync, unsigned, Up)
SIMT_WIDE_SHUFFLE(__shfl_down_sync, unsigned, Down)
SIMT_WIDE_SHUFFLE(__shfl_xor_sync, int, Xor)
SIMT_ATOMIC(atomicAdd, double, old + v)
inline unsigned __lane_id() { return simt::lane(); }

template <class... P, class... A>
inline void hipLaunchKernelGGL(void (*k)(P...), dim3 grid, dim3 block, size_t shared, hipStream_t, A... a) {
  simt::start("?", grid, block, shared, k, (P)a...);
}

#if defined(SIMT_MMAC)
// As the vendor's compiler for Triton declares them; the fragments are those of v_mfma_*_16x16x*.
SIMT_PRODUCT(__builtin_amdgcn_mmac_f32_16x16x16f16, f16x4, f32x4, OfHalf, Quads, 16)
SIMT_PRODUCT(__builtin_amdgcn_mmac_f32_16x16x16bf16, s16x4, f32x4, OfBrain, Quads, 16)
SIMT_PRODUCT(__builtin_amdgcn_mmac_f32_16x16x8f32, f32x2, f32x4, OfFloat, Quads, 8)
SIMT_PRODUCT(__builtin_amdgcn_mmac_f32_16x16x8tf32, f32x2, f32x4, OfTf32, Quads, 8)
SIMT_PRODUCT(__builtin_amdgcn_mmac_i32_16x16x32i8, i32x2, i32x4, OfByte, Quads, 32)
#endif
