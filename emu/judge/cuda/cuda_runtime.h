// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "core/lanes.h"
#define JUDGE_PREFIX cuda
#define JUDGE_NO_MEMORY ErrorMemoryAllocation
#include "core/api.h"
#include "core/dynamic.h"
JUDGE_SHUFFLES_WITH_MASK(unsigned)
