// SPDX-License-Identifier: Apache-2.0 OR MIT
// One text for all dialects: P(Malloc) is the dialect's name, LAUNCH its launch, SHUFFLE_XOR its exchange among `width` lanes.
#pragma once
#if __has_include(<hip/hip_runtime.h>)
#include <hip/hip_runtime.h>
#define P(name) hip##name
#define MALLOC hipMalloc
#define SHUFFLE_XOR(v, by, width) __shfl_xor(v, by, width)
#elif __has_include(<musa_runtime.h>)
#include <musa_runtime.h>
#define P(name) musa##name
#define MALLOC musaMalloc
#elif __has_include(<mcr/mc_runtime.h>)
#include <mcr/mc_runtime.h>
#define P(name) mc##name
#define MALLOC mcMalloc
#define SHUFFLE_XOR(v, by, width) __shfl_xor_sync(0xffffffffffffffffull, v, by, width)
#elif __has_include(<supa.h>)
#include <supa.h>
#define P(name) su##name
#define MALLOC suMallocDevice
#define LAUNCH(kernel, grid, block, shared, ...) suLaunchKernel(kernel, grid, block, shared, nullptr, __VA_ARGS__)
#else
#include <cuda_runtime.h>
#define P(name) cuda##name
#define MALLOC cudaMalloc
#endif
#ifndef SHUFFLE_XOR
#define SHUFFLE_XOR(v, by, width) __shfl_xor_sync(0xffffffffu, v, by, width)
#endif
#ifndef LAUNCH
#define LAUNCH(kernel, grid, block, shared, ...) kernel<<<grid, block, shared>>>(__VA_ARGS__)
#endif

#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// Ends the program with what went wrong.
[[noreturn]] inline void wrong(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  exit(1);
}
inline void must(P(Error_t) e) {
  if (e != P(Success)) wrong("%s", P(GetErrorString)(e));
}
inline void ended() {
  must(P(GetLastError)());
  must(P(DeviceSynchronize)());
}

// Numbers on the host and on the device.
template <class T> struct Numbers {
  size_t n;
  T *host, *device;
  explicit Numbers(size_t n) : n(n), host((T *)calloc(n, sizeof(T))), device(nullptr) { must(MALLOC((void **)&device, n * sizeof(T))); }
  Numbers(const Numbers &) = delete;
  ~Numbers() {
    P(Free)(device);
    free(host);
  }
  T *in() {
    must(P(Memcpy)(device, host, n * sizeof(T), P(MemcpyHostToDevice)));
    return device;
  }
  const T *out() {
    ended();
    must(P(Memcpy)(host, device, n * sizeof(T), P(MemcpyDeviceToHost)));
    return host;
  }
  T &operator[](size_t i) { return host[i]; }
};
// Numbers without a pattern, in -1 .. 1 and the same in every run.
inline float noise(unsigned i) {
  i = (i ^ 61) ^ i >> 16, i *= 9, i ^= i >> 4, i *= 0x27d4eb2du, i ^= i >> 15;
  return (float)(i & 0xffff) / 32768.0f - 1.0f;
}
inline void near(double have, double want, double tolerance, const char *what, long i) {
  if (!(fabs(have - want) <= tolerance * (1 + fabs(want)))) wrong("%s of %ld is %.9g, not %.9g", what, i, have, want);
}
