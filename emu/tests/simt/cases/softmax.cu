// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: all
// Rows of a softmax: a block a row, its warps through shuffles, warps through shared memory.
// mutate: "__syncthreads(); // one" -> "" : race
// mutate: "__syncthreads(); // two" -> "" : race
// mutate: "i += blockDim.x) sum" -> "i += 1) sum" : softmax
// mutate: "y[row * n + i] =" -> "y[row * n + i + n] =" : out of bounds
// mutate: "part[warp] = sum" -> "part[0] = sum" : race
// mutate: "LANES / 2" -> "LANES / 4" : softmax
#include "dialect.h"
#define LANES SIMT_WIDTH

// kernel softmax
// node: /attention/Softmax
__global__ void __launch_bounds__(128) softmax(const float *__restrict__ x, float *__restrict__ y, int n) {
  __shared__ float part[128 / LANES];
  const long row = blockIdx.x;
  const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
  float most = -INFINITY;
  for (int i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, x[row * n + i]);
  for (int by = LANES / 2; by; by /= 2) most = fmaxf(most, SHUFFLE_XOR(most, by, LANES));
  if (lane == 0) part[warp] = most;
  __syncthreads(); // one
  for (int w = 0; w < 128 / LANES; w++) most = fmaxf(most, part[w]);
  __syncthreads(); // two
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(x[row * n + i] - most);
  for (int by = LANES / 2; by; by /= 2) sum += SHUFFLE_XOR(sum, by, LANES);
  if (lane == 0) part[warp] = sum;
  __syncthreads();
  sum = 0;
  for (int w = 0; w < 128 / LANES; w++) sum += part[w];
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[row * n + i] = expf(x[row * n + i] - most) / sum;
}

int main() {
  const int rows = 5, n = 301;
  Numbers<float> x(rows * n), y(rows * n);
  for (int i = 0; i < rows * n; i++) x[i] = 9 * noise(i);
  LAUNCH(softmax, dim3(rows), dim3(128), 0, x.in(), y.device, n);
  y.out();
  for (int r = 0; r < rows; r++) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)x[r * n + i]);
    for (int i = 0; i < n; i++) near(y[r * n + i], exp((double)x[r * n + i]) / sum, 1e-6, "softmax", r * n + i);
  }
}
