// SPDX-License-Identifier: Apache-2.0 OR MIT
// 16x16x16 products over 64 lanes under a vendor's names (JUDGE_16 of halves, JUDGE_16_BF of bf16), by gfx90a's, which hold their operands so:
// row of a and column of b in lane % 16, k = 4 * (lane / 16) + i; accumulator in row 4 * (lane / 16) + i, column lane % 16.
#pragma once
typedef _Float16 judge_half4 __attribute__((ext_vector_type(4)));
typedef short judge_short4 __attribute__((ext_vector_type(4)));
typedef float judge_float4 __attribute__((ext_vector_type(4)));
#ifdef __gfx90a__
JUDGE_FN judge_float4 JUDGE_16(judge_half4 a, judge_half4 b, judge_float4 c) { return __builtin_amdgcn_mfma_f32_16x16x16f16(a, b, c, 0, 0, 0); }
JUDGE_FN judge_float4 JUDGE_16_BF(judge_short4 a, judge_short4 b, judge_float4 c) {
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, 0, 0, 0);
}
#elif !defined(__HIP_DEVICE_COMPILE__)
// The host's part of the text only names them.
__device__ judge_float4 JUDGE_16(judge_half4, judge_half4, judge_float4);
__device__ judge_float4 JUDGE_16_BF(judge_short4, judge_short4, judge_float4);
#endif
