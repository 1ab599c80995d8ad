// SPDX-License-Identifier: Apache-2.0 OR MIT
// What clang's own HIP mode needs to judge device code without an SDK: the language part, positions, mathematics. Declarations alone; nothing runs.
#pragma once
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __align__(n) __attribute__((aligned(n)))
// The spelling of CUDA would be ignored without a word.
#define __launch_bounds__(n) __attribute__((amdgpu_flat_work_group_size(1, n)))
#define JUDGE static __attribute__((device, always_inline)) inline
#define BOTH __attribute__((host, device)) inline
struct dim3 {
  unsigned x, y, z;
  BOTH constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct judge_lane {
  __attribute__((device)) unsigned operator()() const { return __builtin_amdgcn_workitem_id_x(); }
};
#define threadIdx (dim3(__builtin_amdgcn_workitem_id_x(), 0, 0))
#define blockIdx (dim3(__builtin_amdgcn_workgroup_id_x(), __builtin_amdgcn_workgroup_id_y(), __builtin_amdgcn_workgroup_id_z()))
JUDGE void __syncthreads() { __builtin_amdgcn_s_barrier(); }
#define JUDGE_MATH(name) \
  JUDGE float name##f(float x) { return __builtin_##name##f(x); } \
  JUDGE double name(double x) { return __builtin_##name(x); }
JUDGE_MATH(sqrt)
JUDGE_MATH(floor)
JUDGE_MATH(ceil)
JUDGE_MATH(rint)
JUDGE_MATH(trunc)
JUDGE_MATH(fabs)
JUDGE float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
JUDGE double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
JUDGE void *memcpy(void *to, const void *from, unsigned long n) { return __builtin_memcpy(to, from, n); }
JUDGE unsigned long long atomicMin(unsigned long long *p, unsigned long long v) { return __atomic_fetch_min(p, v, __ATOMIC_RELAXED); }
JUDGE unsigned atomicAnd(unsigned *p, unsigned v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }
JUDGE unsigned atomicOr(unsigned *p, unsigned v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
// Exchanges as the chip's own instruction for one word.
#define JUDGE_EXCHANGE(name, from)                                                                       \
  template <class T>                                                                                     \
  JUDGE T name(T v, int by, int width) {                                                                 \
    static_assert(sizeof(T) == 4, "exchanges are of 32 bits");                                           \
    const int lane = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u));                  \
    return __builtin_bit_cast(T, __builtin_amdgcn_ds_bpermute((from) * 4, __builtin_bit_cast(int, v)));  \
  }
struct __half {
  _Float16 v;
};
JUDGE float __half2float(__half h) { return (float)h.v; }
JUDGE __half __float2half_rn(float f) { return {(_Float16)f}; }
JUDGE __half __ushort_as_half(unsigned short b) { return {__builtin_bit_cast(_Float16, b)}; }
JUDGE unsigned short __half_as_ushort(__half h) { return __builtin_bit_cast(unsigned short, h.v); }
typedef _Float16 judge_half4 __attribute__((ext_vector_type(4)));
typedef short judge_short4 __attribute__((ext_vector_type(4)));
typedef float judge_float4 __attribute__((ext_vector_type(4)));
