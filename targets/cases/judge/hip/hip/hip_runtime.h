// SPDX-License-Identifier: Apache-2.0 OR MIT
// HIP for the judge: MMAC's products are those of MFMA on gfx90a, of the same shape and fragments.
#pragma once
#include "../../lanes.h"
JUDGE_EXCHANGE(__shfl_xor, lane ^ by)
JUDGE_EXCHANGE(__shfl_up, (lane & (width - 1)) < by ? lane : lane - by)
JUDGE_EXCHANGE(__shfl_down, (lane & (width - 1)) + by >= width ? lane : lane + by)
JUDGE_EXCHANGE(__shfl, (lane & ~(width - 1)) | (by & (width - 1)))
#define __builtin_amdgcn_mmac_f32_16x16x16f16(a, b, c) __builtin_amdgcn_mfma_f32_16x16x16f16(a, b, c, 0, 0, 0)
#define __builtin_amdgcn_mmac_f32_16x16x16bf16(a, b, c) __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, 0, 0, 0)

enum hipError_t { hipSuccess, hipErrorOutOfMemory = 2 };
enum hipMemcpyKind { hipMemcpyHostToDevice = 1, hipMemcpyDeviceToHost, hipMemcpyDeviceToDevice };
typedef struct judge_stream *hipStream_t;
extern "C" {
const char *hipGetErrorString(hipError_t);
hipError_t hipGetLastError();
hipError_t hipGetDeviceCount(int *);
hipError_t hipSetDevice(int);
hipError_t hipMemGetInfo(unsigned long *, unsigned long *);
hipError_t hipMalloc(void **, unsigned long);
hipError_t hipFree(void *);
hipError_t hipStreamCreate(hipStream_t *);
hipError_t hipStreamDestroy(hipStream_t);
hipError_t hipStreamSynchronize(hipStream_t);
hipError_t hipMemcpyAsync(void *, const void *, unsigned long, hipMemcpyKind, hipStream_t);
hipError_t hipLaunchKernel(const void *, dim3, dim3, void **, unsigned long, hipStream_t);
int __hipPushCallConfiguration(dim3, dim3, unsigned long = 0, hipStream_t = 0);
int __hipPopCallConfiguration(dim3 *, dim3 *, unsigned long *, hipStream_t *);
}
