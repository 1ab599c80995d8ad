// SPDX-License-Identifier: Apache-2.0 OR MIT
// Conversions of halves by the names of cuda_fp16.h.
#pragma once
struct __half {
  _Float16 value;
};
JUDGE_FN __half __ushort_as_half(unsigned short bits) { return __half{__builtin_bit_cast(_Float16, bits)}; }
JUDGE_FN unsigned short __half_as_ushort(__half x) { return __builtin_bit_cast(unsigned short, x.value); }
JUDGE_FN float __half2float(__half x) { return (float)x.value; }
JUDGE_FN __half __float2half_rn(float x) { return __half{(_Float16)x}; }
