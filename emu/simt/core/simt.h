// SPDX-License-Identifier: Apache-2.0 OR MIT
// What CUDA, HIP and their relatives have in common, as C++ for a CPU. The dialect's own header includes this one and adds its spelling.
//
// The chip comes as macros of the command line: SIMT_CHIP, SIMT_LANES, SIMT_WIDTH (lanes that a shuffle reaches), SIMT_THREADS, SIMT_SHARED,
// SIMT_SHARED_FREE, SIMT_BOUND, SIMT_WARP_ORDERS.
#pragma once
#include "runtime.h"

#include <assert.h>
#include <initializer_list>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The machine's own helpers: what they do to memory is not checked again.
#define SIMT_OWN __attribute__((disable_sanitizer_instrumentation))
#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict

extern const uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

inline constexpr Chip this_chip = {SIMT_CHIP, SIMT_LANES, SIMT_THREADS, SIMT_SHARED, SIMT_SHARED_FREE, SIMT_BOUND, SIMT_WARP_ORDERS};
inline constexpr Lanes all_lanes = SIMT_LANES == 128 ? ~(Lanes)0 : ((Lanes)1 << (SIMT_LANES % 128)) - 1;

// ---- what the rewriter writes

// A kernel's first statement; the bound is __launch_bounds__'s first argument.
template <class... Rest> SIMT_OWN inline void begin(const Kernel &k, unsigned bound = 0, Rest...) { enter(&k, bound); }

// A variable in the block's memory.
template <class T> struct Shared : Variable {
  constexpr Shared(const char *name, size_t align = 1) : Variable(name, sizeof(T), align > alignof(T) ? align : alignof(T)) {}
  SIMT_OWN T &here() {
    if (block != block_number) place(*this);
    return *static_cast<T *>(at);
  }
};
template <class T> SIMT_OWN inline T (&dynamic_array())[] { return *static_cast<T(*)[]>(dynamic()); }

size_t dynamic_allowed(const char *kernel);
int launched(int status);
bool device_failed();

// k<<<grid, block, shared, stream>>>(arguments)
template <class Stream = void *> struct Config {
  dim3 grid, block;
  size_t dynamic;
  Stream stream;
  Config(dim3 grid, dim3 block, size_t dynamic = 0, Stream stream = {}) : grid(grid), block(block), dynamic(dynamic), stream(stream) {}
};
// A kernel and its arguments, each of which every lane gets a copy of.
template <class F, class... A> struct Bound;
template <class F> struct Bound<F> {
  F f;
  template <class... B> SIMT_OWN void call(const B &...b) const { f(b...); }
};
template <class F, class First, class... Rest> struct Bound<F, First, Rest...> {
  First first;
  Bound<F, Rest...> rest;
  template <class... B> SIMT_OWN void call(const B &...b) const { rest.call(b..., first); }
};
template <class F> SIMT_OWN inline Bound<F> bind(F f) { return {f}; }
template <class F, class First, class... Rest> SIMT_OWN inline Bound<F, First, Rest...> bind(F f, First first, Rest... rest) {
  return {first, bind(f, rest...)};
}
template <class B> SIMT_OWN void call_bound(const void *bound) { static_cast<const B *>(bound)->call(); }
template <class F, class... A> SIMT_OWN inline int start(const char *name, dim3 grid, dim3 block, size_t dynamic, F f, A... a) {
  if (device_failed()) return 1;
  const auto bound = bind(f, a...);
  return launched(run({&this_chip, name, grid, block, dynamic, dynamic_allowed(name), call_bound<decltype(bind(f, a...))>, &bound}));
}
template <class Stream, class F, class... A>
SIMT_OWN inline int launch(const Config<Stream> &c, const char *name, F f, A... a) {
  return start(name, c.grid, c.block, c.dynamic, f, a...);
}

// ---- lanes that meet

enum Mode { Index, Up, Down, Xor };
struct Source { int mode, by, width; };

// Which lane of the warp a lane reads from: CUDA C++ Programming Guide, "Warp Shuffle Functions".
SIMT_OWN inline unsigned source(unsigned lane, const Source &s) {
  int width = s.width, first = int(lane) & ~(width - 1), within = int(lane) - first, from = 0;
  switch (s.mode) {
  case Index: return first + (s.by & (width - 1));
  case Up: return within < s.by ? lane : lane - s.by;
  case Down: return within + s.by >= width ? lane : lane + s.by;
  default:
    // A partner in a later segment is not reached.
    from = int(lane) ^ s.by;
    return from >= first + width ? lane : unsigned(from);
  }
}

template <class T> struct Given { T value; Source source; };

template <class T> SIMT_OWN void shuffle_all(Team &t) {
  for (unsigned l = 0; l < t.lanes; l++) {
    if (!t.has(l)) continue;
    const auto &mine = *static_cast<const Given<T> *>(t.call[l]->in);
    unsigned from = source(l, mine.source);
    // What a lane that is not there would give is undefined: it is poison.
    if (from < t.lanes && t.has(from)) memcpy(t.out[l], &static_cast<const Given<T> *>(t.call[from]->in)->value, sizeof(T));
    else memset(t.out[l], 0xff, sizeof(T));
  }
}

template <class T>
SIMT_OWN inline T shuffle(Who who, Lanes mask, T value, Mode mode, int by, int width, const char *what, const char *file, int line) {
  static_assert(sizeof(T) <= 16, "a shuffle exchanges at most 16 bytes");
  if (width < 1 || width > SIMT_WIDTH || (width & (width - 1)))
    fault("%s of line %d among %d lanes: %s exchanges among a power of two up to %d", what, line, width, SIMT_CHIP, SIMT_WIDTH);
  Given<T> given = {value, {mode, by, width}};
  T result;
  meet(who, mask, {shuffle_all<T>, what, file, line, 0, &given, sizeof given}, &result);
  return result;
}

SIMT_OWN inline void ballot_all(Team &t) {
  Lanes votes = 0;
  for (unsigned l = 0; l < t.lanes; l++)
    if (t.has(l)) votes |= (Lanes)(t.call[l]->argument != 0) << l;
  for (unsigned l = 0; l < t.lanes; l++)
    if (t.has(l)) memcpy(t.out[l], &votes, sizeof votes);
}
SIMT_OWN inline Lanes ballot(Who who, Lanes mask, int predicate, const char *what, const char *file, int line) {
  Lanes votes = 0;
  meet(who, mask, {ballot_all, what, file, line, predicate != 0, nullptr, 0}, &votes);
  return votes;
}
SIMT_OWN inline void everyone_all(Team &t) {
  int all = 1;
  for (unsigned l = 0; l < t.lanes; l++)
    if (t.has(l)) all &= t.call[l]->argument;
  for (unsigned l = 0; l < t.lanes; l++)
    if (t.has(l)) *static_cast<int *>(t.out[l]) = all;
}
SIMT_OWN inline int everyone(Who who, Lanes mask, int predicate, const char *what, const char *file, int line) {
  int all = 0;
  meet(who, mask, {everyone_all, what, file, line, predicate != 0, nullptr, 0}, &all);
  return all;
}

template <class T> SIMT_OWN void match_all(Team &t) {
  for (unsigned l = 0; l < t.lanes; l++) {
    if (!t.has(l)) continue;
    Lanes same = 0;
    for (unsigned k = 0; k < t.lanes; k++)
      if (t.has(k) && !memcmp(t.call[k]->in, t.call[l]->in, sizeof(T))) same |= (Lanes)1 << k;
    memcpy(t.out[l], &same, sizeof same);
  }
}

template <class T, class F> SIMT_OWN void reduce_all(Team &t) {
  bool first = true;
  T sum{};
  for (unsigned l = 0; l < t.lanes; l++) {
    if (!t.has(l)) continue;
    T v = *static_cast<const T *>(t.call[l]->in);
    sum = first ? v : F()(sum, v);
    first = false;
  }
  for (unsigned l = 0; l < t.lanes; l++)
    if (t.has(l)) *static_cast<T *>(t.out[l]) = sum;
}
template <class F, class T> SIMT_OWN inline T reduce(Lanes mask, T v, const char *what, const char *file, int line) {
  T result;
  meet(Named, mask, {reduce_all<T, F>, what, file, line, 0, &v, sizeof v}, &result);
  return result;
}
struct Plus { template <class T> T operator()(T a, T b) const { return a + b; } };
struct Least { template <class T> T operator()(T a, T b) const { return b < a ? b : a; } };
struct Most { template <class T> T operator()(T a, T b) const { return a < b ? b : a; } };
struct And { template <class T> T operator()(T a, T b) const { return a & b; } };
struct Or { template <class T> T operator()(T a, T b) const { return a | b; } };
struct Xored { template <class T> T operator()(T a, T b) const { return a ^ b; } };

// ---- atomic updates: lanes run one at a time

template <class T, class F> SIMT_OWN __attribute__((noinline)) T update(T *at, F f) {
  touch(at, sizeof(T), Atomic);
  T old = *at;
  *at = f(old);
  return old;
}

template <class T> struct Same { typedef T type; }; // where T is not deduced from
template <size_t... I> struct Indices {};
template <size_t n, size_t... I> constexpr auto indices() {
  if constexpr (n == 0) return Indices<I...>();
  else return indices<n - 1, n - 1, I...>();
}
template <class T> struct Plain { typedef T type; };
template <class T> struct Plain<const T> { typedef T type; };
} // namespace simt

inline void __syncthreads(SIMT_SITE) { simt::block_barrier(file, line); }
inline int __syncthreads_count(int predicate, SIMT_SITE) { return simt::block_count(predicate, file, line); }
inline int __syncthreads_or(int predicate, SIMT_SITE) { return simt::block_count(predicate, file, line) != 0; }
inline int __syncthreads_and(int predicate, SIMT_SITE) { return simt::block_count(!predicate, file, line) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

#define SIMT_ATOMIC(name, T, expression) \
  inline T name(T *at, typename simt::Same<T>::type v) { return simt::update(at, [=](T old) -> T { return expression; }); }
#define SIMT_ATOMIC_INTEGERS(name, expression) \
  SIMT_ATOMIC(name, int, expression) SIMT_ATOMIC(name, unsigned, expression) SIMT_ATOMIC(name, unsigned long long, expression)
SIMT_ATOMIC_INTEGERS(atomicAdd, old + v)
SIMT_ATOMIC(atomicAdd, float, old + v)
SIMT_ATOMIC(atomicSub, int, old - v)
SIMT_ATOMIC(atomicSub, unsigned, old - v)
SIMT_ATOMIC_INTEGERS(atomicMin, v < old ? v : old)
SIMT_ATOMIC(atomicMin, long long, v < old ? v : old)
SIMT_ATOMIC_INTEGERS(atomicMax, old < v ? v : old)
SIMT_ATOMIC(atomicMax, long long, old < v ? v : old)
SIMT_ATOMIC_INTEGERS(atomicAnd, old & v)
SIMT_ATOMIC_INTEGERS(atomicOr, old | v)
SIMT_ATOMIC_INTEGERS(atomicXor, old ^ v)
SIMT_ATOMIC_INTEGERS(atomicExch, (void(old), v))
SIMT_ATOMIC(atomicExch, float, (void(old), v))
SIMT_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
SIMT_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)
#define SIMT_ATOMIC_CAS(T) \
  inline T atomicCAS(T *at, T expected, T v) { return simt::update(at, [=](T old) -> T { return old == expected ? v : old; }); }
SIMT_ATOMIC_CAS(int) SIMT_ATOMIC_CAS(unsigned) SIMT_ATOMIC_CAS(unsigned long long) SIMT_ATOMIC_CAS(unsigned short)

#include "vectors.h"
#include "numbers.h"
#include "functions.h"
