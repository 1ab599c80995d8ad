// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "mcr/mc_runtime.h"
typedef simt::bf16_t maca_bfloat16, __maca_bfloat16;
typedef simt::Pair<maca_bfloat16> maca_bfloat162;
SIMT_BRAIN_FUNCTIONS(maca_bfloat16, maca_bfloat162)
SIMT_SMALL_ARITHMETIC(maca_bfloat16, maca_bfloat162)
