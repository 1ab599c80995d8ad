// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "core/lanes.h"
#define JUDGE_PREFIX hip
#define JUDGE_NO_MEMORY ErrorOutOfMemory
#include "core/api.h"
// Exchanges without a mask.
#define __shfl_xor judge_shfl_xor
#define __shfl_up judge_shfl_up
#define __shfl_down judge_shfl_down
#define __shfl judge_shfl
#define JUDGE_16 __builtin_amdgcn_mmac_f32_16x16x16f16
#define JUDGE_16_BF __builtin_amdgcn_mmac_f32_16x16x16bf16
#include "core/products.h"
