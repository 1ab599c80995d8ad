// SPDX-License-Identifier: Apache-2.0 OR MIT
// SUPA C++ in blocks of one compute unit (__global__): launches are calls, the stream of an asynchronous copy comes before its kind, masks of
// lanes are ignored. There are no doubles on the device.
#pragma once
#include "../core/simt.h"
#define SIMT_PREFIX su
#define SIMT_MALLOC suMallocDevice
#define SIMT_ERROR_MEMORY suErrorMemoryAllocation
#define SIMT_STREAM_BEFORE_KIND 1
#include "../core/api.h"

#define __SUPACC__ 1
static const int warp_size = SIMT_LANES;
#define thread_idx threadIdx
#define block_idx blockIdx
#define block_dim blockDim
#define grid_dim gridDim
#define SIMT_MASK unsigned
#define SIMT_BALLOT unsigned
#define SIMT_WHO simt::Together
namespace simt {
inline Lanes named(unsigned) { return all_lanes; }
inline unsigned votes(Lanes v) { return (unsigned)v; }
}
#include "../core/named.h"

template <class... P, class... A>
SIMT_OWN inline suError_t suLaunchKernel(void (*k)(P...), dim3 grid, dim3 block, size_t shared, suStream_t, A... a) {
  static_assert(sizeof...(P) == sizeof...(A), "a launch has the kernel's arguments");
  return simt::start("?", grid, block, shared, k, (P)a...) ? simt::last_error : suSuccess;
}
