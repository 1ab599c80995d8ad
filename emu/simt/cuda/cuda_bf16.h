// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "cuda_runtime.h"
typedef simt::bf16_t __nv_bfloat16, nv_bfloat16;
typedef simt::Pair<__nv_bfloat16> __nv_bfloat162, nv_bfloat162;
SIMT_BRAIN_FUNCTIONS(__nv_bfloat16, __nv_bfloat162)
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
SIMT_SMALL_ARITHMETIC(__nv_bfloat16, __nv_bfloat162)
SIMT_SMALL_EXTREMES(__nv_bfloat16)
SIMT_SMALL_EXPONENTIALS(__nv_bfloat16)
SIMT_SMALL_EXTREMES_NAN(__nv_bfloat16)
SIMT_SMALL_WAVES(__nv_bfloat16)
SIMT_ATOMIC(atomicAdd, __nv_bfloat16, old + v)
