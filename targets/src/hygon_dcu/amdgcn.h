// SPDX-License-Identifier: Apache-2.0 OR MIT
// What kernels are written in, for clang's AMDGPU back end with no SDK: `build.sh --code-object`. Warps of 64 lanes.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang force_cuda_host_device begin
#include <string.h>
#pragma clang force_cuda_host_device end

#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __align__(n) __attribute__((aligned(n)))
// CUDA's attribute says nothing to this back end.
#define __launch_bounds__(n) __attribute__((amdgpu_flat_work_group_size(1, n)))
#define PW_GPU static __device__ inline __attribute__((always_inline))

#define PW_AXIS(axis, id)                     \
  __declspec(property(get = of_##axis)) unsigned axis; \
  PW_GPU unsigned of_##axis() { return __builtin_amdgcn_##id##_id_##axis(); }
struct pw_lane_of_group {
  PW_AXIS(x, workitem)
};
struct pw_group_of_grid {
  PW_AXIS(x, workgroup)
  PW_AXIS(y, workgroup)
  PW_AXIS(z, workgroup)
};
extern const __device__ pw_lane_of_group threadIdx;
extern const __device__ pw_group_of_grid blockIdx;

PW_GPU void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
PW_GPU int pw_self() { return (int)__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u)); }
// A lane's value; where `in` does not hold, one's own.
template <class T>
PW_GPU T pw_from(T v, bool in, int lane) {
  static_assert(sizeof(T) == 4, "values of 32 bits");
  return __builtin_bit_cast(T, __builtin_amdgcn_ds_bpermute((in ? lane : pw_self()) * 4, __builtin_bit_cast(int, v)));
}
template <class T>
PW_GPU T __shfl_xor(T v, int by, int width) {
  return pw_from(v, (pw_self() ^ by) / width == pw_self() / width, pw_self() ^ by);
}
template <class T>
PW_GPU T __shfl_up(T v, int by, int width) {
  return pw_from(v, pw_self() % width >= by, pw_self() - by);
}
template <class T>
PW_GPU T __shfl_down(T v, int by, int width) {
  return pw_from(v, pw_self() % width + by < width, pw_self() + by);
}
template <class T>
PW_GPU T __shfl(T v, int lane, int width) {
  return pw_from(v, true, pw_self() / width * width + lane % width);
}

#define PW_ATOMIC(name, T, op) \
  PW_GPU T name(T *p, T v) { return __hip_atomic_fetch_##op(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }
PW_ATOMIC(atomicMin, unsigned long long, min) PW_ATOMIC(atomicAnd, unsigned, and) PW_ATOMIC(atomicOr, unsigned, or)

#define PW_MATH(name)                                             \
  PW_GPU float name##f(float x) { return __builtin_##name##f(x); } \
  PW_GPU double name(double x) { return __builtin_##name(x); }
PW_MATH(sqrt) PW_MATH(floor) PW_MATH(ceil) PW_MATH(rint) PW_MATH(trunc) PW_MATH(fabs)
PW_GPU float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
PW_GPU double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }

struct __half {
  _Float16 value;
};
PW_GPU __half __ushort_as_half(uint16_t bits) { return __half{__builtin_bit_cast(_Float16, bits)}; }
PW_GPU uint16_t __half_as_ushort(__half x) { return __builtin_bit_cast(uint16_t, x.value); }
PW_GPU float __half2float(__half x) { return (float)x.value; }
PW_GPU __half __float2half_rn(float x) { return __half{(_Float16)x}; }
