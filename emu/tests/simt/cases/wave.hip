// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: hip: corex: maca:
// A sum over warps of 64 lanes, of which the last one counts nothing.
// mutate: "WAVE = 64" -> "WAVE = 32" : sum
// mutate: "by = WAVE / 2" -> "by = 16" : sum
// mutate: "SHUFFLE_XOR(v, by, WAVE)" -> "SHUFFLE_XOR(v, by, 128)" : among 128 lanes
// mutate: "if (threadIdx.x >= 192) v = 0;" -> "if (threadIdx.x >= 240) return;" : divergence
// mutate: "SHUFFLE_XOR(v, by, WAVE)" -> "__shfl_xor_sync(0xffffffffu, v, by, WAVE)" : the mask must be a 64-bit integer
// mutate: "__syncthreads();" -> "__syncwarp();" : undeclared
#include "dialect.h"
constexpr int WAVE = 64;
__global__ void __launch_bounds__(256) sum(const float *x, float *y) {
  __shared__ float part[256 / 64];
  float v = x[threadIdx.x];
  if (threadIdx.x >= 192) v = 0;
  for (int by = WAVE / 2; by; by /= 2) v += SHUFFLE_XOR(v, by, WAVE);
  if (threadIdx.x % 64 == 0) part[threadIdx.x / 64] = v;
  __syncthreads();
  if (threadIdx.x == 0) y[0] = part[0] + part[1] + part[2] + part[3];
}
int main() {
  Numbers<float> x(256), y(1);
  double want = 0;
  for (int i = 0; i < 256; i++) x[i] = noise(i), want += i < 192 ? x[i] : 0;
  LAUNCH(sum, 1, 256, 0, x.in(), y.device);
  y.out();
  near(y[0], want, 1e-5, "sum", 0);
}
