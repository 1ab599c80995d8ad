// SPDX-License-Identifier: Apache-2.0 OR MIT
// CUDA C++ (CUDA C++ Programming Guide): masks of 32 bits name the lanes that take part.
#pragma once
#include "../core/simt.h"
#define SIMT_PREFIX cuda
#define SIMT_MALLOC cudaMalloc
#define SIMT_ERROR_MEMORY cudaErrorMemoryAllocation
#include "../core/api.h"

#define __CUDACC__ 1
#define __CUDACC_VER_MAJOR__ 12
#define __CUDACC_VER_MINOR__ 8
#define __grid_constant__
#define __managed__
#define __cluster_dims__(...)
#define __maxnreg__(...)
#define CUDART_VERSION 12080
static const int warpSize = SIMT_LANES;

#define SIMT_MASK unsigned
#define SIMT_BALLOT unsigned
#define SIMT_WHO simt::Named
namespace simt {
inline Lanes named(unsigned mask) { return mask; }
inline unsigned votes(Lanes v) { return (unsigned)v; }
}
#include "../core/named.h"
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) { simt::warp_barrier(mask, file, line); }
inline unsigned __activemask() { return (unsigned)simt::lanes_alive(); }
template <class T> inline unsigned __match_any_sync(unsigned mask, T value, SIMT_SITE) {
  simt::Lanes same = 0;
  simt::meet(simt::Named, mask, {simt::match_all<T>, "__match_any_sync", file, line, 0, &value, sizeof value}, &same);
  return (unsigned)same;
}
#define SIMT_REDUCE(name, F)                                                                                                              \
  inline unsigned name(unsigned mask, unsigned v, SIMT_SITE) { return simt::reduce<simt::F>(mask, v, #name, file, line); } \
  inline int name(unsigned mask, int v, SIMT_SITE) { return simt::reduce<simt::F>(mask, v, #name, file, line); }
SIMT_REDUCE(__reduce_add_sync, Plus)
SIMT_REDUCE(__reduce_min_sync, Least)
SIMT_REDUCE(__reduce_max_sync, Most)
inline unsigned __reduce_and_sync(unsigned mask, unsigned v, SIMT_SITE) { return simt::reduce<simt::And>(mask, v, "__reduce_and_sync", file, line); }
inline unsigned __reduce_or_sync(unsigned mask, unsigned v, SIMT_SITE) { return simt::reduce<simt::Or>(mask, v, "__reduce_or_sync", file, line); }
inline unsigned __reduce_xor_sync(unsigned mask, unsigned v, SIMT_SITE) { return simt::reduce<simt::Xored>(mask, v, "__reduce_xor_sync", file, line); }

inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += (int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; i++) c += (uint8_t)(a >> 8 * i) * (uint8_t)(b >> 8 * i);
  return c;
}
// Four numbers of 8 bits at once.
#define SIMT_BYTES(name, Byte, expression)                                       \
  inline unsigned name(unsigned a, unsigned b) {                                 \
    unsigned r = 0;                                                              \
    for (int i = 0; i < 32; i += 8) {                                            \
      const int x = (Byte)(a >> i), y = (Byte)(b >> i);                          \
      r |= ((unsigned)(expression) & 0xff) << i;                                 \
    }                                                                            \
    return r;                                                                    \
  }
SIMT_BYTES(__vadd4, uint8_t, x + y)
SIMT_BYTES(__vsub4, uint8_t, x - y)
SIMT_BYTES(__vaddss4, int8_t, x + y > 127 ? 127 : x + y < -128 ? -128 : x + y)
SIMT_BYTES(__vsubss4, int8_t, x - y > 127 ? 127 : x - y < -128 ? -128 : x - y)
SIMT_BYTES(__vcmpeq4, uint8_t, x == y ? 0xff : 0)
SIMT_BYTES(__vcmpne4, uint8_t, x != y ? 0xff : 0)
SIMT_BYTES(__vmaxs4, int8_t, x < y ? y : x)
SIMT_BYTES(__vmins4, int8_t, y < x ? y : x)
SIMT_ATOMIC(atomicAdd, double, old + v)
template <class T> inline T __ldcg(const T *p) { return *p; }
template <class T> inline T __ldcs(const T *p) { return *p; }
template <class T> inline T __ldca(const T *p) { return *p; }
template <class T> inline void __stcs(T *p, T v) { *p = v; }
template <class T> inline void __stcg(T *p, T v) { *p = v; }
template <class T> inline void __stwb(T *p, T v) { *p = v; }
inline long long clock64() { return 0; }
inline void __trap() { simt::fault("it called __trap"); }
template <class... P>
inline cudaError_t cudaLaunchKernel(void (*k)(P...), dim3 grid, dim3 block, void **arguments, size_t shared = 0, cudaStream_t = nullptr) {
  auto call = [=]<size_t... I>(simt::Indices<I...>) {
    return simt::start("?", grid, block, shared, k, *(typename simt::Plain<P>::type *)arguments[I]...);
  };
  return call(simt::indices<sizeof...(P)>()) ? simt::last_error : cudaSuccess;
}
