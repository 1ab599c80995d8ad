// SPDX-License-Identifier: Apache-2.0 OR MIT
// There is no __float2bfloat16_rn.
#pragma once
#include "hip_runtime.h"
typedef simt::bf16_t __hip_bfloat16;
typedef simt::Pair<__hip_bfloat16> __hip_bfloat162;
SIMT_BRAIN_FUNCTIONS(__hip_bfloat16, __hip_bfloat162)
SIMT_SMALL_ARITHMETIC(__hip_bfloat16, __hip_bfloat162)
