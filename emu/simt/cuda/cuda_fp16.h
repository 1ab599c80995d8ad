// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "cuda_runtime.h"
typedef simt::half_t __half, half;
typedef simt::Pair<__half> __half2, half2;
SIMT_HALF_FUNCTIONS(__half, __half2)
SIMT_SMALL_ARITHMETIC(__half, __half2)
SIMT_SMALL_EXTREMES(__half)
SIMT_SMALL_EXPONENTIALS(__half)
SIMT_SMALL_EXTREMES_NAN(__half)
SIMT_SMALL_WAVES(__half)
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __half2 __half2half2(__half a) { return {a, a}; }
SIMT_ATOMIC(atomicAdd, __half, old + v)
