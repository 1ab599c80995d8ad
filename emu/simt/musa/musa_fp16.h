// SPDX-License-Identifier: Apache-2.0 OR MIT
// There is neither hexp nor h2exp.
#pragma once
#include "musa_runtime.h"
typedef simt::half_t __half, half;
typedef simt::Pair<__half> __half2, half2;
SIMT_HALF_FUNCTIONS(__half, __half2)
SIMT_SMALL_ARITHMETIC(__half, __half2)
SIMT_SMALL_EXTREMES(__half)
