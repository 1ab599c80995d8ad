// SPDX-License-Identifier: Apache-2.0 OR MIT
// What device code is written in, for clang's own modes of CUDA and HIP with no SDK at hand: `JUDGE_API(name)` puts the prefix of a vendor's
// runtime before its names. The text is typed, compiled and allotted registers; nothing of it runs here.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang force_cuda_host_device begin
#include <string.h>
#pragma clang force_cuda_host_device end

#define __host__ __attribute__((host))
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __align__(n) __attribute__((aligned(n)))
#ifdef __HIP__
// The attribute of CUDA says nothing to this back end.
#define __launch_bounds__(n) __attribute__((amdgpu_flat_work_group_size(1, n)))
#else
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#endif
#define JUDGE_FN static __device__ inline __attribute__((always_inline))

struct dim3 {
  unsigned x, y, z;
  constexpr __host__ __device__ dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// ---- positions ----
#ifdef __HIP__
#define JUDGE_ID(what, d) __builtin_amdgcn_##what##_id_##d()
#define JUDGE_THREAD(d) JUDGE_ID(workitem, d)
#define JUDGE_BLOCK(d) JUDGE_ID(workgroup, d)
#else
#define JUDGE_THREAD(d) __nvvm_read_ptx_sreg_tid_##d()
#define JUDGE_BLOCK(d) __nvvm_read_ptx_sreg_ctaid_##d()
#endif
#define JUDGE_PLACE(name, at)                                       \
  struct name {                                                     \
    __declspec(property(get = get_x)) unsigned x;                   \
    __declspec(property(get = get_y)) unsigned y;                   \
    __declspec(property(get = get_z)) unsigned z;                   \
    JUDGE_FN unsigned get_x() { return (unsigned)at(x); }           \
    JUDGE_FN unsigned get_y() { return (unsigned)at(y); }           \
    JUDGE_FN unsigned get_z() { return (unsigned)at(z); }           \
  };
JUDGE_PLACE(judge_thread, JUDGE_THREAD)
JUDGE_PLACE(judge_block, JUDGE_BLOCK)
extern const __device__ judge_thread threadIdx;
extern const __device__ judge_block blockIdx;

// ---- meetings and exchanges ----
#ifdef __HIP__
JUDGE_FN void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
JUDGE_FN int judge_lane() { return (int)__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u)); }
template <class T>
JUDGE_FN T judge_from(T v, int lane) {
  static_assert(sizeof(T) == 4, "values of 32 bits");
  return __builtin_bit_cast(T, __builtin_amdgcn_ds_bpermute(lane * 4, __builtin_bit_cast(int, v)));
}
// A lane outside of the segment is the lane itself.
template <class T>
JUDGE_FN T judge_shfl_xor(T v, int by, int width) {
  const int self = judge_lane(), at = self ^ by;
  return judge_from(v, at >= ((self + width) & ~(width - 1)) ? self : at);
}
template <class T>
JUDGE_FN T judge_shfl_up(T v, unsigned by, int width) {
  const int self = judge_lane(), at = self - (int)by;
  return judge_from(v, at < (self & ~(width - 1)) ? self : at);
}
template <class T>
JUDGE_FN T judge_shfl_down(T v, unsigned by, int width) {
  const int self = judge_lane();
  return judge_from(v, (self & (width - 1)) + (int)by >= width ? self : self + (int)by);
}
template <class T>
JUDGE_FN T judge_shfl(T v, int lane, int width) {
  return judge_from(v, (lane & (width - 1)) + (judge_lane() & ~(width - 1)));
}
#else
// (`__syncthreads` is a builtin here.)
JUDGE_FN void __syncwarp(unsigned mask = 0xffffffffu) { __nvvm_bar_warp_sync(mask); }
#define JUDGE_EXCHANGE(name, how, low)                                                                                      \
  template <class T>                                                                                                        \
  JUDGE_FN T name(T v, int by, int width) {                                                                                 \
    static_assert(sizeof(T) == 4, "values of 32 bits");                                                                     \
    return __builtin_bit_cast(T, __nvvm_shfl_sync_##how##_i32(~0u, __builtin_bit_cast(int, v), by, ((32 - width) << 8) | low)); \
  }
JUDGE_EXCHANGE(judge_shfl_xor, bfly, 31)
JUDGE_EXCHANGE(judge_shfl_up, up, 0)
JUDGE_EXCHANGE(judge_shfl_down, down, 31)
JUDGE_EXCHANGE(judge_shfl, idx, 31)
#endif
// With a mask of that type and no other: an integer of another width finds a deleted function.
#define JUDGE_MASKED(name, plain, MASK)                                                     \
  template <class T>                                                                        \
  JUDGE_FN T name(MASK, T v, int by, int width) {                                           \
    return plain(v, by, width);                                                             \
  }                                                                                         \
  template <class M, class T>                                                               \
  __device__ T name(M, T, int, int) = delete
#define JUDGE_SHUFFLES_WITH_MASK(MASK)                 \
  JUDGE_MASKED(__shfl_xor_sync, judge_shfl_xor, MASK); \
  JUDGE_MASKED(__shfl_up_sync, judge_shfl_up, MASK);   \
  JUDGE_MASKED(__shfl_down_sync, judge_shfl_down, MASK); \
  JUDGE_MASKED(__shfl_sync, judge_shfl, MASK);

// ---- atomics ----
#ifdef __HIP__
#define JUDGE_ATOMIC(name, T, op) \
  JUDGE_FN T name(T *p, T v) { return __hip_atomic_fetch_##op(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }
#else
#define JUDGE_ATOMIC(name, T, op) \
  JUDGE_FN T name(T *p, T v) { return __atomic_fetch_##op(p, v, __ATOMIC_RELAXED); }
#endif
JUDGE_ATOMIC(atomicMin, unsigned long long, min)
JUDGE_ATOMIC(atomicAnd, unsigned, and)
JUDGE_ATOMIC(atomicOr, unsigned, or)

// ---- functions that every chip of the family has as instructions, or that its compiler expands ----
#define JUDGE_MATH(name)                                              \
  JUDGE_FN float name##f(float x) { return __builtin_##name##f(x); }  \
  JUDGE_FN double name(double x) { return __builtin_##name(x); }
JUDGE_MATH(sqrt)
JUDGE_MATH(floor)
JUDGE_MATH(ceil)
JUDGE_MATH(rint)
JUDGE_MATH(trunc)
JUDGE_MATH(fabs)
JUDGE_FN float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
JUDGE_FN double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
