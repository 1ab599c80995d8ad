// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// Lanes that meet: votes, shuffles in segments, divergence that ends before they meet, asynchronous copies.
// mutate: "__syncwarp(); // meet" -> "" : race
// mutate: "warpSize - 1" -> "warpSize" : race
// mutate: ", 32); // sum" -> ", 64); // sum" : among 64 lanes
// mutate: "if (threadIdx.x < 40) y[threadIdx.x] = v;" -> "if (threadIdx.x < 40) return; __syncthreads();" : has ended
// mutate: "__ballot_sync(0xffffffffu, lane & 1)" -> "(lane < 16 ? __ballot_sync(0xffffffffu, lane & 1) : 0)" : divergence
// mutate: "__ballot_sync(0xffffffffu, lane & 1)" -> "__ballot_sync(0xffffu, lane & 1)" : does not name it
// mutate: "__pipeline_wait_prior(0);" -> "" : copied
// mutate: "__shared__ float part[64];" -> "__shared__ float part[63];" : shared variable part
#include "dialect.h"
#include <cuda_pipeline_primitives.h>
__global__ void lanes(const float *x, float *y, unsigned *votes, float *copied) {
  __shared__ float part[64];
  __shared__ __align__(16) float tile[256];
  const int lane = threadIdx.x % 32;
  float v = x[threadIdx.x];
  part[threadIdx.x] = v;
  __syncwarp(); // meet
  v += part[(threadIdx.x & ~31) | ((lane + 1) & (warpSize - 1))];
  if (lane & 1) v *= 2;
  for (int by = 1; by < 8; by *= 2) v += __shfl_xor_sync(0xffffffffu, v, by, 8);
  v = __shfl_down_sync(0xffffffffu, v, 1, 32); // sum
  votes[threadIdx.x] = __ballot_sync(0xffffffffu, lane & 1) + __popc(__match_any_sync(0xffffffffu, lane / 4));
  if (threadIdx.x < 40) y[threadIdx.x] = v;
  __pipeline_memcpy_async(&tile[4 * threadIdx.x], &x[4 * threadIdx.x], 16, threadIdx.x & 4);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
  copied[threadIdx.x] = tile[255 - threadIdx.x];
}
int main() {
  Numbers<float> x(256), y(40), copied(64);
  Numbers<unsigned> votes(64);
  for (int i = 0; i < 256; i++) x[i] = noise(i);
  LAUNCH(lanes, 1, 64, 0, x.in(), y.device, votes.device, copied.device);
  y.out(), votes.out(), copied.out();
  double v[64], sum[64];
  for (int i = 0; i < 64; i++) v[i] = (x[i] + x[i / 32 * 32 + (i + 1) % 32]) * (1 + i % 2);
  for (int i = 0; i < 64; i++) sum[i] = 0;
  for (int i = 0; i < 64; i++) sum[i / 8 * 8] += v[i];
  for (int i = 0; i < 40; i++) near(y[i], sum[(i % 32 == 31 ? i : i + 1) / 8 * 8], 1e-5, "lanes", i);
  for (int i = 0; i < 64; i++) near(votes[i], 0xaaaaaaaau + 4, 0, "votes", i);
  for (int i = 0; i < 64; i++) {
    const int from = 255 - i;
    // Of every other four copies the last four bytes are zeros.
    near(copied[i], (from / 4 & 4) && from % 4 == 3 ? 0 : x[from], 0, "copied", i);
  }
}
