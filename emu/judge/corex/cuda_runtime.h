// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "core/lanes.h"
#define JUDGE_PREFIX cuda
#define JUDGE_NO_MEMORY ErrorMemoryAllocation
#include "core/api.h"
#include "core/dynamic.h"
JUDGE_SHUFFLES_WITH_MASK(unsigned)
// Products whose fragments no other chip has: types alone.
typedef _Float16 judge_half4 __attribute__((ext_vector_type(4)));
typedef short judge_short4 __attribute__((ext_vector_type(4)));
typedef float judge_float4 __attribute__((ext_vector_type(4)));
typedef signed char judge_char8 __attribute__((ext_vector_type(8)));
typedef int judge_int4 __attribute__((ext_vector_type(4)));
extern "C" {
__device__ judge_float4 __ivcorex_matrix_mad_f32x4_f16x4(judge_half4, judge_half4, judge_float4);
__device__ judge_float4 __ivcorex_matrix_mad_f32x4_bf16x4(judge_short4, judge_short4, judge_float4);
__device__ judge_int4 __ivcorex_matrix_mad_i32x4_i8x8(judge_char8, judge_char8, judge_int4);
}
