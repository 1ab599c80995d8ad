// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "core/lanes.h"
#define JUDGE_PREFIX mc
#define JUDGE_NO_MEMORY ErrorMemoryAllocation
#include "core/api.h"
// Masks of 64 bits: one of 32 does not compile.
JUDGE_SHUFFLES_WITH_MASK(unsigned long long)
#define JUDGE_16 __builtin_mxc_mma_16x16x16f16
#define JUDGE_16_BF __builtin_mxc_mma_16x16x16bf16
#include "core/products.h"
