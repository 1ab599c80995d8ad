// SPDX-License-Identifier: Apache-2.0 OR MIT
// There is no __hmin, __hmax, and no atomicAdd of halves.
#pragma once
#include "cuda_runtime.h"
typedef simt::half_t __half, half;
typedef simt::Pair<__half> __half2, half2;
SIMT_HALF_FUNCTIONS(__half, __half2)
SIMT_SMALL_ARITHMETIC(__half, __half2)
SIMT_SMALL_EXPONENTIALS(__half)
