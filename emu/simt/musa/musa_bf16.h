// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "musa_runtime.h"
typedef simt::bf16_t __mt_bfloat16;
typedef simt::Pair<__mt_bfloat16> __mt_bfloat162;
SIMT_BRAIN_FUNCTIONS(__mt_bfloat16, __mt_bfloat162)
inline __mt_bfloat16 __float2bfloat16_rn(float f) { return f; }
SIMT_SMALL_ARITHMETIC(__mt_bfloat16, __mt_bfloat162)
