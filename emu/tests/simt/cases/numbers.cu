// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// Small numbers: every code stands for itself, and what lies between two of them goes to the nearer, or to the even one.
#include "dialect.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

// Codes from 0 up are numbers in order, up to `last`.
template <class N, class Bits> void ordered(const char *name, Bits last) {
  for (unsigned b = 0; b < last; b++) {
    const N low = N::of((Bits)b), high = N::of((Bits)(b + 1));
    const double x = (float)low, y = (float)high;
    if (!(x < y)) wrong("%s: code %u is %g and the next one %g", name, b, x, y);
    if (N((float)low).bits != b || N(-(float)low).bits != (b | (Bits)(1u << (8 * sizeof(Bits) - 1)))) wrong("%s: code %u", name, b);
    const unsigned even = b % 2 ? b + 1 : b;
    if (N((x + y) / 2).bits != even) wrong("%s: between codes %u and %u", name, b, b + 1);
    if (N((x + y) / 2 * (1 - 1e-9)).bits != b && b) wrong("%s: below the middle of codes %u and %u", name, b, b + 1);
    if (N((x + y) / 2 * (1 + 1e-9)).bits != b + 1) wrong("%s: above the middle of codes %u and %u", name, b, b + 1);
  }
  if (!((float)N((double)NAN) != (float)N((double)NAN))) wrong("%s: NaN", name);
}

__global__ void pairs(__half2 *x) {
  const __half2 v = x[threadIdx.x];
  x[threadIdx.x] = __hfma2(v, __floats2half2_rn(2, 3), __floats2half2_rn(1, 1));
}

int main() {
  ordered<__half, uint16_t>("half", 0x7bff);
  ordered<__nv_bfloat16, uint16_t>("bfloat16", 0x7f7f);
  ordered<__nv_fp8_e4m3, uint8_t>("e4m3", 0x7e);
  ordered<__nv_fp8_e5m2, uint8_t>("e5m2", 0x7b);
  // IEEE 754 half precision; OCP 8-bit floating point specification, table 2.
  near((float)__half::of(0x3c00), 1, 0, "half", 0x3c00);
  near((float)__half::of(0x0001), ldexp(1, -24), 0, "half", 1);
  near((float)__half::of(0x7bff), 65504, 0, "half", 0x7bff);
  near((float)__nv_fp8_e4m3::of(0x7e), 448, 0, "e4m3", 0x7e);
  near((float)__nv_fp8_e4m3::of(0x01), ldexp(1, -9), 0, "e4m3", 1);
  near((float)__nv_fp8_e5m2::of(0x7b), 57344, 0, "e5m2", 0x7b);
  near((float)__nv_fp8_e5m2::of(0x01), ldexp(1, -16), 0, "e5m2", 1);
  if (__nv_fp8_e4m3(1e9f).bits != 0x7e || __nv_fp8_e5m2(-1e9f).bits != 0xfb) wrong("fp8 does not saturate");
  if (!isinf((float)__half(65520.0f)) || __half(65519.0f).bits != 0x7bff) wrong("half does not overflow");
  if (__float2bfloat16(simt::float_of(0x3f818000)).bits != 0x3f82) wrong("bfloat16 does not round to even");
  Numbers<__half2> x(32);
  for (int i = 0; i < 32; i++) x[i] = __floats2half2_rn((float)i, (float)-i);
  pairs<<<1, 32>>>(x.in());
  x.out();
  for (int i = 0; i < 32; i++) near(__low2float(x[i]), 2 * i + 1, 0, "low", i), near(__high2float(x[i]), 1 - 3 * i, 0, "high", i);
}
