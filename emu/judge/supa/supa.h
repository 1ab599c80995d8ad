// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "core/lanes.h"
#define JUDGE_PREFIX su
#define JUDGE_OWN_COPIES
#include "core/api.h"
JUDGE_ERROR(ErrorMemoryAllocation, memory);
extern "C" {
suError_t suMallocDevice(void **, size_t);
// The stream stands before the direction.
suError_t suMemcpyAsync(void *, const void *, size_t, suStream_t, suMemcpyKind);
}
template <class... P, class... A>
suError_t suLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 group, size_t shared, suStream_t stream, A... args) {
  kernel<<<grid, group, shared, stream>>>(static_cast<P>(args)...);
  return suSuccess;
}
JUDGE_SHUFFLES_WITH_MASK(int)
